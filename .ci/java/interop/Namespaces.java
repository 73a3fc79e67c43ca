package interop;

import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;

/** Two namespaces with topics and groups of the same names know nothing of each other, in retries either. */
final class Namespaces {
    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("Namespaces");
            Space one = new Space(session, "ns-one", topic);
            Space two = new Space(session, "ns-two", topic);
            DefaultMQProducer plain = session.producer("namespaces");
            plain.send(Session.message(topic, "TagA", "plain"));
            one.consumer.start();
            two.consumer.start();
            session.await(60_000, () -> one.keys.size() == 10 && two.keys.size() == 10 && !one.again.isEmpty()
                && !two.again.isEmpty());
            for (Space space : List.of(one, two)) {
                session.checkEquals("namespace " + space.name + ": its messages and no others", space.sent, space.keys);
                session.checkEquals("namespace " + space.name + ": topics are shown without it", Set.of(topic),
                    space.topics);
                session.checkEquals("namespace " + space.name + ": a failed message comes again",
                    List.of(space.name + 3), space.again);
            }
            session.check("namespaces: the broker knows the whole name",
                !plain.fetchPublishMessageQueues("ns-one%" + topic).isEmpty(), "no queues");
        });
    }

    private static final class Space {
        final String name;
        final Set<String> sent = new TreeSet<>();
        final Set<String> keys = ConcurrentHashMap.newKeySet();
        final Set<String> topics = ConcurrentHashMap.newKeySet();
        final List<String> again = new CopyOnWriteArrayList<>();
        final DefaultMQPushConsumer consumer;

        Space(Session session, String name, String topic) throws Exception {
            this.name = name;
            DefaultMQProducer producer = new DefaultMQProducer(name, session.group("namespaces") + "_producer");
            producer.setNamesrvAddr(session.namesrv);
            producer.setInstanceName(name);
            producer.start();
            session.closing((AutoCloseable) producer::shutdown);
            for (int i = 0; i < 10; i++) {
                producer.send(Session.message(topic, "TagA", name + i));
                sent.add(name + i);
            }
            session.awaitRoute(producer, topic);
            consumer = new DefaultMQPushConsumer(name, session.group("namespaces"));
            consumer.setNamesrvAddr(session.namesrv);
            consumer.setInstanceName(name + "-consumer");
            consumer.setPollNameServerInterval(1000);
            consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
            session.closing((AutoCloseable) consumer::shutdown);
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                MessageExt message = messages.get(0);
                context.setDelayLevelWhenNextConsume(1);
                if (message.getKeys().equals(name + 3) && message.getReconsumeTimes() == 0) {
                    return ConsumeConcurrentlyStatus.RECONSUME_LATER;
                }
                if (message.getReconsumeTimes() > 0) {
                    again.add(message.getKeys());
                }
                topics.add(message.getTopic());
                keys.add(message.getKeys());
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
        }
    }
}
