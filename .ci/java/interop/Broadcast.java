package interop;

import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;

/** Broadcasting: every member of the group gets every message sent after its start. */
final class Broadcast {
    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("Broadcast");
            DefaultMQProducer producer = session.producer("broadcast");
            // Creates the topic.
            producer.send(Session.message(topic, "TagA", "before the start"));
            session.awaitRoute(producer, topic);
            Set<String> one = member(session, topic, "broadcast-1");
            Set<String> two = member(session, topic, "broadcast-2");
            // Members begin at the end of each queue, which they look up after their start.
            session.await(60_000, () -> {
                producer.send(Session.message(topic, "probe", "probe"));
                Thread.sleep(200);
                return one.contains("probe") && two.contains("probe");
            });
            Thread.sleep(3000);
            for (int i = 0; i < 100; i++) {
                producer.send(Session.message(topic, "TagA", "k" + i));
            }
            session.await(60_000, () -> later(one) == 100 && later(two) == 100);
            session.checkEquals("the first member gets all", 100L, later(one));
            session.checkEquals("the second member gets all", 100L, later(two));
        });
    }

    private static long later(Set<String> keys) {
        return keys.stream().filter(key -> key.startsWith("k")).count();
    }

    private static Set<String> member(Session session, String topic, String instance) throws Exception {
        Set<String> keys = ConcurrentHashMap.newKeySet();
        DefaultMQPushConsumer consumer = session.pushConsumer("broadcast", instance);
        Session.broadcast(consumer);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> keys.add(message.getKeys()));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        return keys;
    }
}
