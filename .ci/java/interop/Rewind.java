package interop;

import java.util.Set;
import java.util.concurrent.ConcurrentSkipListSet;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;

/** A group without members is set back, to a time and then past everything, and goes on there. */
final class Rewind {
    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("Rewind");
            DefaultMQProducer producer = session.producer("rewind");
            send(producer, topic, "old");
            session.awaitRoute(producer, topic);
            Thread.sleep(200);
            long middle = System.currentTimeMillis();
            Thread.sleep(200);
            send(producer, topic, "young");
            session.checkEquals("rewind: everything is consumed first", 16, consume(session, topic, 16).size());

            String told = Session.admin("resetOffsetByTime", "-g", session.group("rewind"), "-t", topic,
                "-s", String.valueOf(middle), "-f", "true");
            session.check("rewind: the tool names each queue", told.split("broker-a", -1).length > 4,
                told.replace("\n", " / "));
            Set<String> again = consume(session, topic, 8);
            session.check("rewind: an offline group sees again what came after the time", again.size() == 8
                && again.stream().allMatch(key -> key.startsWith("young")), again);

            send(producer, topic, "skipped");
            Thread.sleep(1100);
            Session.admin("resetOffsetByTime", "-g", session.group("rewind"), "-t", topic,
                "-s", String.valueOf(System.currentTimeMillis()), "-f", "true");
            send(producer, topic, "new");
            session.check("rewind: an offline group can be set past what it has not seen",
                consume(session, topic, 8).stream().allMatch(key -> key.startsWith("new")), "others came");
        });
    }

    private static void send(DefaultMQProducer producer, String topic, String name) throws Exception {
        for (int i = 0; i < 8; i++) {
            producer.send(Session.message(topic, "TagA", name + i));
        }
    }

    /** What one member gets; it leaves, so that the group has none. */
    private static Set<String> consume(Session session, String topic, int expected) throws Exception {
        Set<String> keys = new ConcurrentSkipListSet<>();
        DefaultMQPushConsumer consumer = session.pushConsumer("rewind", "rewind" + System.nanoTime());
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> keys.add(message.getKeys()));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        session.await(60_000, () -> keys.size() >= expected);
        Thread.sleep(500);
        consumer.shutdown();
        return keys;
    }
}
