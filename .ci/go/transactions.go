package main

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

// outcomes decides by the key: at once, or when the broker asks.
type outcomes struct {
	sync.Mutex
	asked []string
}

func (o *outcomes) ExecuteLocalTransaction(half *primitive.Message) primitive.LocalTransactionState {
	return decide(half.GetKeys())
}

func (o *outcomes) CheckLocalTransaction(half *primitive.MessageExt) primitive.LocalTransactionState {
	o.Lock()
	o.asked = append(o.asked, half.GetKeys())
	o.Unlock()
	return decide(strings.TrimPrefix(half.GetKeys(), "unknown-"))
}

func decide(key string) primitive.LocalTransactionState {
	switch key {
	case "commit":
		return primitive.CommitMessageState
	case "rollback":
		return primitive.RollbackMessageState
	}
	return primitive.UnknowState
}

func transactions(namesrv primitive.NsResolver, topic string) {
	decisions := &outcomes{}
	sender, err := rocketmq.NewTransactionProducer(decisions, producer.WithNsResolver(namesrv),
		producer.WithGroupName("G_go_transactions_producer"))
	must("transaction producer is made", err)
	must("transaction producer starts", sender.Start())
	defer sender.Shutdown()
	found, receiver := receive(namesrv, "transactions", topic, consumer.MessageSelector{})
	defer receiver.Shutdown()
	for _, key := range []string{"commit", "rollback", "unknown-commit", "unknown-rollback"} {
		result, err := sender.SendMessageInTransaction(context.Background(), message(topic, key, "TagT"))
		check("the half message of "+key+" is accepted", err == nil && result.Status == primitive.SendOK, err)
	}
	found.await(1)
	check("a committed message arrives", strings.Contains(found.keys(), "commit"), found.keys())
	found.await(2)
	time.Sleep(3 * time.Second)
	check("checked back, then committed; nothing that was rolled back", found.keys() == "commit unknown-commit",
		found.keys())
	decisions.Lock()
	defer decisions.Unlock()
	asked := strings.Join(decisions.asked, " ")
	check("the broker asks for unknown outcomes only", strings.Contains(asked, "unknown-rollback") &&
		!strings.HasPrefix(asked, "commit") && !strings.Contains(asked, " commit"), asked)
}
