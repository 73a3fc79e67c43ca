package interop;

import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * Timer messages and their recall. Clients before 5.0 have neither, so both are called by name.
 *
 * <p>A broker may round down to a second, as Java's does.
 */
final class Timer {
    private static final long TICK_MS = 1000;
    private static final long LATE_MS = 2000;

    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("Timer");
            DefaultMQProducer producer = session.producer("timer");
            producer.send(Session.message(topic, "now", "now"));
            session.awaitRoute(producer, topic);
            Map<String, MessageExt> arrived = new ConcurrentHashMap<>();
            Map<String, Long> times = new ConcurrentHashMap<>();
            DefaultMQPushConsumer consumer = session.pushConsumer("timer", "timer");
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
            send(producer, timed(topic, "milliseconds", "setDelayTimeMs", 2_500));
            send(producer, timed(topic, "seconds", "setDelayTimeSec", 3));
            send(producer, timed(topic, "clock", "setDeliverTimeMs", sent + 4_200));
            send(producer, timed(topic, "past", "setDeliverTimeMs", sent - 1_000));
            SendResult recalled = send(producer, timed(topic, "recalled", "setDelayTimeSec", 5));
            String handle = (String) SendResult.class.getMethod("getRecallHandle").invoke(recalled);
            session.check("a timer message can be recalled by a handle", handle != null && !handle.isEmpty(), handle);
            Object id = DefaultMQProducer.class.getMethod("recallMessage", String.class, String.class)
                .invoke(producer, topic, handle);
            session.checkEquals("a recall names its message", recalled.getMsgId(), id);
            send(producer, timed(topic, "last", "setDelayTimeSec", 6));

            session.await(30_000, () -> arrived.containsKey("last"));
            between(session, "milliseconds", times, sent, 2_500);
            between(session, "seconds", times, sent, 3_000);
            between(session, "clock", times, sent, 4_200);
            between(session, "past", times, sent, 0);
            between(session, "last", times, sent, 6_000);
            session.check("a recalled message does not arrive", !arrived.containsKey("recalled"), arrived.keySet());
            MessageExt later = arrived.get("clock");
            session.check("a timer message keeps topic, tag and body", later != null
                && later.getTopic().equals(topic) && later.getTags().equals("later") && Session.intact(later), later);
        });
    }

    private static Message timed(String topic, String key, String setter, long value) throws Exception {
        Message message = Session.message(topic, "later", key);
        Message.class.getMethod(setter, long.class).invoke(message, value);
        return message;
    }

    private static SendResult send(DefaultMQProducer producer, Message message) throws Exception {
        return producer.send(message);
    }

    private static void between(Session session, String key, Map<String, Long> times, long sent, long delayMs) {
        Long at = times.get(key);
        long waitedMs = at == null ? -1 : at - sent;
        session.check(key + " arrives in time", waitedMs >= delayMs - TICK_MS && waitedMs <= delayMs + LATE_MS,
            waitedMs + " ms");
        System.out.println(key + " asked for " + delayMs + " ms, waited " + waitedMs + " ms");
    }
}
