package main

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

// Each part has a topic of its own next to the first one: TOPIC-tags and so on.

func newProducer(namesrv primitive.NsResolver, name string, options ...producer.Option) rocketmq.Producer {
	sender, err := rocketmq.NewProducer(append([]producer.Option{producer.WithNsResolver(namesrv),
		producer.WithGroupName("G_go_" + name + "_producer"), producer.WithInstanceName(name + "-producer")}, options...)...)
	must(name+": producer is made", err)
	must(name+": producer starts", sender.Start())
	return sender
}

func send(sender rocketmq.Producer, messages ...*primitive.Message) {
	_, err := sender.SendSync(context.Background(), messages...)
	must("a send is acknowledged", err)
}

// seen collects deliveries by key.
type seen struct {
	sync.Mutex
	messages []*primitive.MessageExt
	times    []time.Time
}

func (s *seen) add(message *primitive.MessageExt) {
	s.Lock()
	defer s.Unlock()
	s.messages = append(s.messages, message)
	s.times = append(s.times, time.Now())
}

func (s *seen) keys() string {
	s.Lock()
	defer s.Unlock()
	var keys []string
	for _, each := range s.messages {
		keys = append(keys, each.GetKeys())
	}
	sort.Strings(keys)
	return strings.Join(keys, " ")
}

func (s *seen) await(count int) {
	deadline := time.Now().Add(limit)
	for time.Now().Before(deadline) {
		s.Lock()
		complete := len(s.messages) >= count
		s.Unlock()
		if complete {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	// Time for what should not come.
	time.Sleep(300 * time.Millisecond)
}

// receive starts a consumer of a group with the given name.
func receive(namesrv primitive.NsResolver, name, topic string, selector consumer.MessageSelector,
	options ...consumer.Option) (*seen, rocketmq.PushConsumer) {
	found := &seen{}
	receiver := subscribe(namesrv, name, topic, selector,
		func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			for _, each := range messages {
				found.add(each)
			}
			return consumer.ConsumeSuccess, nil
		}, options...)
	return found, receiver
}

func subscribe(namesrv primitive.NsResolver, name, topic string, selector consumer.MessageSelector,
	listener func(context.Context, ...*primitive.MessageExt) (consumer.ConsumeResult, error),
	options ...consumer.Option) rocketmq.PushConsumer {
	receiver, err := rocketmq.NewPushConsumer(append([]consumer.Option{consumer.WithNsResolver(namesrv),
		consumer.WithGroupName("G_go_" + name), consumer.WithInstance(name),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset)}, options...)...)
	must(name+": consumer is made", err)
	must(name+": subscription", receiver.Subscribe(topic, selector, listener))
	must(name+": consumer starts", receiver.Start())
	return receiver
}

func tags(namesrv primitive.NsResolver, topic string) {
	topic += "-tags"
	sender := newProducer(namesrv, "tags")
	defer sender.Shutdown()
	for i := 0; i < 6; i++ {
		tag := "Aa"
		if i%2 == 1 {
			tag = "BB"
		}
		send(sender, message(topic, fmt.Sprintf("k%d", i), tag))
	}
	found, receiver := receive(namesrv, "tags", topic, consumer.MessageSelector{Type: consumer.TAG, Expression: "BB"})
	defer receiver.Shutdown()
	found.await(3)
	check("tags of one hash: the subscribed one only", found.keys() == "k1 k3 k5", found.keys())
}

func sql92(namesrv primitive.NsResolver, topic string) {
	topic += "-sql92"
	sender := newProducer(namesrv, "sql92")
	defer sender.Shutdown()
	for i := 0; i < 8; i++ {
		each := message(topic, fmt.Sprintf("k%d", i), "TagA")
		each.WithProperty("a", fmt.Sprint(i))
		if i%2 == 0 {
			each.WithProperty("colour", "red")
		}
		send(sender, each)
	}
	found, receiver := receive(namesrv, "sql92", topic,
		consumer.MessageSelector{Type: consumer.SQL92, Expression: "a BETWEEN 2 AND 6 AND colour = 'red'"})
	defer receiver.Shutdown()
	found.await(3)
	check("SQL92: what matches, and nothing else", found.keys() == "k2 k4 k6", found.keys())
}

func delay(namesrv primitive.NsResolver, topic string) {
	topic += "-delay"
	sender := newProducer(namesrv, "delay")
	defer sender.Shutdown()
	found, receiver := receive(namesrv, "delay", topic, consumer.MessageSelector{})
	defer receiver.Shutdown()
	began := time.Now()
	send(sender, message(topic, "later", "TagA").WithDelayTimeLevel(2))
	found.await(1)
	found.Lock()
	defer found.Unlock()
	waited := time.Duration(0)
	if len(found.times) == 1 {
		waited = found.times[0].Sub(began)
	}
	check("delay level 2 waits five seconds", waited >= 4980*time.Millisecond && waited < 9*time.Second, waited)
}

func deadLetters(namesrv primitive.NsResolver, topic string) {
	topic += "-dead"
	sender := newProducer(namesrv, "dead")
	defer sender.Shutdown()
	send(sender, message(topic, "hopeless", "TagA"))
	tries := &seen{}
	receiver := subscribe(namesrv, "dead", topic, consumer.MessageSelector{},
		func(ctx context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			concurrently, _ := primitive.GetConcurrentlyCtx(ctx)
			concurrently.DelayLevelWhenNextConsume = 1
			tries.add(messages[0])
			return consumer.ConsumeRetryLater, nil
		}, consumer.WithMaxReconsumeTimes(1))
	defer receiver.Shutdown()
	tries.await(2)
	time.Sleep(time.Second)
	check("a hopeless message comes twice", tries.keys() == "hopeless hopeless", tries.keys())
	letters, reader := receive(namesrv, "dead_reader", "%DLQ%G_go_dead", consumer.MessageSelector{})
	defer reader.Shutdown()
	letters.await(1)
	check("a hopeless message is a dead letter", letters.keys() == "hopeless", letters.keys())
}

func orderly(namesrv primitive.NsResolver, topic string) {
	topic += "-orderly"
	sender := newProducer(namesrv, "orderly", producer.WithQueueSelector(producer.NewHashQueueSelector()))
	defer sender.Shutdown()
	for step := 0; step < 10; step++ {
		for order := 0; order < 4; order++ {
			each := message(topic, fmt.Sprintf("%d:%d", order, step), "TagA")
			send(sender, each.WithShardingKey(fmt.Sprintf("order%d", order)))
		}
	}
	found, receiver := receive(namesrv, "orderly", topic, consumer.MessageSelector{}, consumer.WithConsumerOrder(true))
	defer receiver.Shutdown()
	found.await(40)
	found.Lock()
	defer found.Unlock()
	next := map[string]int{}
	inOrder := len(found.messages) == 40
	for _, each := range found.messages {
		order, step, _ := strings.Cut(each.GetKeys(), ":")
		inOrder = inOrder && step == fmt.Sprint(next[order])
		next[order]++
	}
	check("orderly: each order's steps in their order", inOrder, next)
}

func broadcast(namesrv primitive.NsResolver, topic string) {
	topic += "-broadcast"
	sender := newProducer(namesrv, "broadcast")
	defer sender.Shutdown()
	model := consumer.WithConsumerModel(consumer.BroadCasting)
	one, first := receive(namesrv, "broadcast", topic, consumer.MessageSelector{}, model, consumer.WithInstance("go-1"))
	defer first.Shutdown()
	two, second := receive(namesrv, "broadcast", topic, consumer.MessageSelector{}, model, consumer.WithInstance("go-2"))
	defer second.Shutdown()
	for i := 0; i < 5; i++ {
		send(sender, message(topic, fmt.Sprintf("k%d", i), "TagA"))
	}
	one.await(5)
	two.await(5)
	check("broadcast: each member gets all", one.keys() == "k0 k1 k2 k3 k4" && two.keys() == one.keys(),
		one.keys()+" and "+two.keys())
}

func namespace(namesrv primitive.NsResolver, topic string) {
	topic += "-space"
	sender := newProducer(namesrv, "space", producer.WithNamespace("go-one"))
	defer sender.Shutdown()
	outside := newProducer(namesrv, "outside")
	defer outside.Shutdown()
	send(outside, message(topic, "outside", "TagA"))
	send(sender, message(topic, "inside", "TagA"))
	found, receiver := receive(namesrv, "space", topic, consumer.MessageSelector{}, consumer.WithNamespace("go-one"))
	defer receiver.Shutdown()
	found.await(1)
	check("namespace: its messages and no others", found.keys() == "inside", found.keys())
}

// languages sends one compressed message and reads those of the other clients.
func languages(namesrv primitive.NsResolver, topic string) {
	text := func(client string) string { return strings.Repeat("compressible "+client+" ", 2000) }
	sender := newProducer(namesrv, "languages")
	defer sender.Shutdown()
	send(sender, primitive.NewMessage(topic, []byte(text("go-client"))).WithKeys([]string{"go-client"}).WithTag("big"))
	clients := []string{"ali-ons", "cpp-wheel", "go-client", "java-5.3.3", "rust-client"}
	found, receiver := receive(namesrv, "languages", topic, consumer.MessageSelector{})
	defer receiver.Shutdown()
	found.await(len(clients))
	whole := found.keys() == strings.Join(clients, " ")
	found.Lock()
	defer found.Unlock()
	for _, each := range found.messages {
		whole = whole && string(each.Body) == text(each.GetKeys())
	}
	check("compressed: go-client reads the bodies of all clients", whole, len(found.messages))
}
