// The Go client: sends in each of its ways and consumes with a push consumer. Arguments: name server, topic.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/apache/rocketmq-client-go/v2/rlog"
)

const (
	count = 20
	limit = 60 * time.Second
)

var failed bool

func check(what string, passed bool, found any) {
	if passed {
		fmt.Println("PASS " + what)
		return
	}
	failed = true
	fmt.Printf("FAIL %s: %v\n", what, found)
}

func must(what string, err error) {
	if err != nil {
		check(what, false, err)
		os.Exit(1)
	}
}

func main() {
	rlog.SetLogLevel("error")
	namesrv := primitive.NewPassthroughResolver([]string{os.Args[1]})
	topic := os.Args[2]
	feature := "exchange"
	if len(os.Args) > 3 {
		feature = os.Args[3]
	}
	switch feature {
	case "exchange":
		consume(namesrv, topic, produce(namesrv, topic))
		var open sync.WaitGroup
		for _, each := range []func(primitive.NsResolver, string){
			tags, sql92, delay, deadLetters, orderly, broadcast, namespace,
		} {
			open.Add(1)
			go func(tell func(primitive.NsResolver, string)) {
				defer open.Done()
				tell(namesrv, topic)
			}(each)
		}
		open.Wait()
	case "languages":
		languages(namesrv, topic)
	case "transactions":
		transactions(namesrv, topic)
	}
	if failed {
		os.Exit(1)
	}
}

func message(topic, key, tag string) *primitive.Message {
	return primitive.NewMessage(topic, []byte("body of "+key)).WithKeys([]string{key}).WithTag(tag)
}

func produce(namesrv primitive.NsResolver, topic string) int {
	sender, err := rocketmq.NewProducer(producer.WithNsResolver(namesrv), producer.WithGroupName("G_go_producer"))
	must("producer is made", err)
	must("producer starts", sender.Start())
	defer sender.Shutdown()

	ctx := context.Background()
	acknowledged := 0
	for i := 0; i < count; i++ {
		result, err := sender.SendSync(ctx, message(topic, fmt.Sprintf("k%d", i), "TagA"))
		if err != nil || result.Status != primitive.SendOK {
			check("sync send", false, fmt.Sprint(result, err))
			continue
		}
		acknowledged++
	}
	check("every sync send is acknowledged", acknowledged == count, acknowledged)

	batch := []*primitive.Message{message(topic, "batch0", "TagB"), message(topic, "batch1", "TagB")}
	result, err := sender.SendSync(ctx, batch...)
	check("a batch is acknowledged", err == nil && result.Status == primitive.SendOK, fmt.Sprint(result, err))

	answer := make(chan error, 1)
	err = sender.SendAsync(ctx, func(_ context.Context, _ *primitive.SendResult, err error) { answer <- err },
		message(topic, "async", "TagC"))
	must("async send begins", err)
	select {
	case err = <-answer:
	case <-time.After(limit):
		err = errors.New("no answer")
	}
	check("an async send is acknowledged", err == nil, err)
	must("oneway send", sender.SendOneWay(ctx, message(topic, "oneway", "TagD")))
	time.Sleep(500 * time.Millisecond)
	return count + 4
}

func consume(namesrv primitive.NsResolver, topic string, expected int) {
	receiver, err := rocketmq.NewPushConsumer(consumer.WithNsResolver(namesrv), consumer.WithGroupName("G_go"),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
	must("consumer is made", err)
	var lock sync.Mutex
	seen := map[string]string{}
	var again []string
	err = receiver.Subscribe(topic, consumer.MessageSelector{},
		func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			lock.Lock()
			defer lock.Unlock()
			for _, each := range messages {
				if each.GetKeys() == "k3" && each.ReconsumeTimes == 0 {
					return consumer.ConsumeRetryLater, nil
				}
				if each.ReconsumeTimes > 0 {
					again = append(again, each.GetKeys())
				}
				seen[each.GetKeys()] = string(each.Body)
			}
			return consumer.ConsumeSuccess, nil
		})
	must("subscription", err)
	must("consumer starts", receiver.Start())
	defer receiver.Shutdown()

	deadline := time.Now().Add(limit)
	for time.Now().Before(deadline) {
		lock.Lock()
		complete := len(seen) == expected
		lock.Unlock()
		if complete {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	lock.Lock()
	defer lock.Unlock()
	check("every message is consumed", len(seen) == expected, len(seen))
	check("a failed message comes again", strings.Join(again, ",") == "k3", again)
	intact := true
	for key, body := range seen {
		intact = intact && body == "body of "+key
	}
	check("bodies are intact", intact, seen)
}
