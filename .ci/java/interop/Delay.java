package interop;

import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Delay levels 1 (one second) and 2 (five seconds): not early, not much late, otherwise an ordinary message. */
final class Delay {
    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("Delay");
            DefaultMQProducer producer = session.producer("delay");
            producer.send(Session.message(topic, "now", "now"));
            session.awaitRoute(producer, topic);
            Map<String, MessageExt> arrived = new ConcurrentHashMap<>();
            Map<String, Long> times = new ConcurrentHashMap<>();
            DefaultMQPushConsumer consumer = session.pushConsumer("delay", "delay");
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener((List<MessageExt> messages, ConsumeConcurrentlyContext context) -> {
                messages.forEach(message -> {
                    times.putIfAbsent(message.getKeys(), System.currentTimeMillis());
                    arrived.putIfAbsent(message.getKeys(), message);
                });
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.start();
            session.await(60_000, () -> arrived.containsKey("now"));

            long sent = System.currentTimeMillis();
            for (int level = 1; level <= 2; level++) {
                Message message = Session.message(topic, "later", "level" + level);
                message.setDelayTimeLevel(level);
                SendResult result = producer.send(message);
                session.checkEquals("level " + level + " is accepted", SendStatus.SEND_OK, result.getSendStatus());
            }
            session.await(60_000, () -> arrived.size() == 3);
            between(session, "level 1 arrives after a second", times.get("level1"), sent, 1000, 4000);
            between(session, "level 2 arrives after five seconds", times.get("level2"), sent, 5000, 9000);
            MessageExt later = arrived.get("level1");
            session.check("a delayed message keeps topic, tag and body", later != null
                && later.getTopic().equals(topic) && later.getTags().equals("later") && Session.intact(later), later);
        });
    }

    private static void between(Session session, String what, Long at, long sent, long leastMs, long mostMs) {
        long waitedMs = at == null ? -1 : at - sent;
        // The broker counts from its store time, a client's clock reading may be a few milliseconds off.
        session.check(what, waitedMs >= leastMs - 20 && waitedMs <= mostMs, waitedMs + " ms");
    }
}
