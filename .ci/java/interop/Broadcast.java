package interop;

import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;

/** Broadcasting: every member of the group gets every message sent after its start. */
final class Broadcast {
    private static final Map<String, DefaultMQPushConsumer> members = new HashMap<>();

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
            comesBack(session, producer, topic);
        });
    }

    /** Its offsets are in a file of the client's own, under the name of the instance. */
    private static void comesBack(Session session, DefaultMQProducer producer, String topic) throws Exception {
        members.get("broadcast-2").shutdown();
        for (int i = 0; i < 10; i++) {
            producer.send(Session.message(topic, "TagA", "away" + i));
        }
        Set<String> again = member(session, topic, "broadcast-2");
        session.await(60_000, () -> again.size() >= 10);
        Thread.sleep(300);
        session.check("a member that was away goes on where it stopped", again.size() == 10
            && again.stream().allMatch(key -> key.startsWith("away")), again);
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
        members.put(instance, consumer);
        return keys;
    }
}
