package interop;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Messages for any time: after seconds, after milliseconds, at an instant; and one that is taken back before. */
final class Timers {
    private static final Map<String, Long> TIMES = new ConcurrentHashMap<>();
    private static final Map<String, MessageExt> ARRIVED = new ConcurrentHashMap<>();
    private static final Map<String, Integer> COUNTS = new ConcurrentHashMap<>();

    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("Timer");
            DefaultMQProducer producer = session.producer("timer");
            producer.send(Session.message(topic, "now", "now"));
            session.awaitRoute(producer, topic);
            DefaultMQPushConsumer consumer = session.pushConsumer("timer", "timer");
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                messages.forEach(message -> {
                    TIMES.putIfAbsent(message.getKeys(), System.currentTimeMillis());
                    ARRIVED.putIfAbsent(message.getKeys(), message);
                    COUNTS.merge(message.getKeys(), 1, Integer::sum);
                });
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.start();
            session.await(60_000, () -> ARRIVED.containsKey("now"));

            long start = System.currentTimeMillis();
            Message millis = Session.message(topic, "later", "millis");
            millis.setDelayTimeMs(2500);
            send(session, producer, millis);
            Message seconds = Session.message(topic, "later", "seconds");
            seconds.setDelayTimeSec(4);
            send(session, producer, seconds);
            Message instant = Session.message(topic, "later", "instant");
            instant.setDeliverTimeMs(start + 6000);
            send(session, producer, instant);
            Message past = Session.message(topic, "later", "past");
            past.setDeliverTimeMs(start - 5000);
            send(session, producer, past);
            Message taken = Session.message(topic, "later", "taken");
            taken.setDelayTimeMs(5000);
            SendResult handle = send(session, producer, taken);
            session.check("a timer message has a recall handle", handle.getRecallHandle() != null, handle);
            String id = producer.recallMessage(topic, handle.getRecallHandle());
            session.check("a message is recalled by its handle", id != null && !id.isEmpty(), id);

            session.await(30_000, () -> ARRIVED.containsKey("instant"));
            between(session, "milliseconds: 2.5 s", "millis", start, 2500, 5000);
            between(session, "seconds: 4 s", "seconds", start, 4000, 6500);
            between(session, "an instant 6 s ahead", "instant", start, 6000, 8500);
            between(session, "an instant in the past comes at once", "past", start, 0, 2500);
            MessageExt later = ARRIVED.get("millis");
            session.check("a timer message keeps topic, tag and body", later != null && later.getTopic().equals(topic)
                && later.getTags().equals("later") && Session.intact(later), later);
            Thread.sleep(1500);
            session.check("what was recalled does not come", !ARRIVED.containsKey("taken"), ARRIVED.keySet());
            session.check("each comes once", COUNTS.values().stream().allMatch(count -> count == 1), COUNTS);

            String refusal = "none";
            Message far = Session.message(topic, "later", "far");
            far.setDelayTimeSec(10 * 24 * 3600);
            try {
                producer.send(far);
            } catch (Exception refused) {
                refusal = refused.toString();
            }
            session.check("a time too far ahead is refused", refusal.contains("CODE: 13"), refusal);
        });
    }

    private static SendResult send(Session session, DefaultMQProducer producer, Message message) throws Exception {
        SendResult result = producer.send(message);
        session.checkEquals("a message for later is accepted: " + message.getKeys(), SendStatus.SEND_OK,
            result.getSendStatus());
        return result;
    }

    private static void between(Session session, String what, String key, long start, long leastMs, long mostMs) {
        long waitedMs = TIMES.getOrDefault(key, 0L) - start;
        session.check(what, waitedMs >= leastMs - 20 && waitedMs <= mostMs, waitedMs + " ms");
    }
}
