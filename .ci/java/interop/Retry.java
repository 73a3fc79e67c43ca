package interop;

import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;

/** A message whose consumption fails comes again through %RETRY%, and ends in %DLQ% when it never succeeds. */
final class Retry {
    private static final int RECONSUME_TIMES_MAX = 2;

    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("Retry");
            DefaultMQProducer producer = session.producer("retry");
            producer.send(Session.message(topic, "once", "fails-once"));
            producer.send(Session.message(topic, "default", "fails-once-default-delay"));
            producer.send(Session.message(topic, "always", "fails-always"));
            producer.send(Session.message(topic, "never", "succeeds"));
            session.awaitRoute(producer, topic);

            Map<String, List<MessageExt>> deliveries = new ConcurrentHashMap<>();
            Map<String, List<Long>> times = new ConcurrentHashMap<>();
            DefaultMQPushConsumer consumer = session.pushConsumer("retry", "retry");
            consumer.setMaxReconsumeTimes(RECONSUME_TIMES_MAX);
            // The retry topic appears with the first heartbeat; by default its route is looked for after 30 s only.
            consumer.setPollNameServerInterval(1000);
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener((List<MessageExt> messages,
                org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext context) -> {
                MessageExt message = messages.get(0);
                times.computeIfAbsent(message.getKeys(), key -> new CopyOnWriteArrayList<>())
                    .add(System.currentTimeMillis());
                deliveries.computeIfAbsent(message.getKeys(), key -> new CopyOnWriteArrayList<>()).add(message);
                boolean fails = message.getTags().equals("always")
                    || !message.getTags().equals("never") && message.getReconsumeTimes() == 0;
                if (!message.getTags().equals("default")) {
                    context.setDelayLevelWhenNextConsume(1);
                }
                return fails ? ConsumeConcurrentlyStatus.RECONSUME_LATER : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.start();

            session.await(60_000, () -> count(deliveries, "fails-always") == 3 && count(deliveries, "fails-once") == 2);
            session.checkEquals("a failed message comes once more", 2, count(deliveries, "fails-once"));
            session.checkEquals("a good message comes once", 1, count(deliveries, "succeeds"));
            session.checkEquals("a hopeless message comes 1 + max times", 3, count(deliveries, "fails-always"));
            MessageExt original = deliveries.get("fails-once").get(0);
            MessageExt again = deliveries.get("fails-once").get(1);
            session.checkEquals("redelivery counts", 1, again.getReconsumeTimes());
            session.checkEquals("redelivery shows the original topic", topic, again.getTopic());
            session.checkEquals("redelivery keeps the id", original.getMsgId(), again.getMsgId());
            session.check("redelivery keeps body and tag", Session.intact(again)
                && again.getTags().equals("once"), again);
            long waitedMs = times.get("fails-once").get(1) - times.get("fails-once").get(0);
            session.check("delay level 1 waits a second", waitedMs >= 900 && waitedMs < 40_000, waitedMs + " ms");

            deadLetters(session, topic, original);

            session.await(60_000, () -> count(deliveries, "fails-once-default-delay") == 2);
            List<Long> seen = times.get("fails-once-default-delay");
            long defaultMs = seen.size() < 2 ? -1 : seen.get(1) - seen.get(0);
            session.check("the first default delay is ten seconds", defaultMs >= 9_900 && defaultMs < 40_000,
                defaultMs + " ms");
            session.checkEquals("a hopeless message stays in the dead letters", 3, count(deliveries, "fails-always"));
        });
    }

    private static void deadLetters(Session session, String topic, MessageExt other) throws Exception {
        DefaultLitePullConsumer reader = session.litePullConsumer("retry_dlq", "retry_dlq");
        reader.setAutoCommit(false);
        reader.start();
        String deadTopic = "%DLQ%" + session.group("retry");
        List<MessageExt> dead = new CopyOnWriteArrayList<>();
        boolean[] assigned = {false};
        session.await(60_000, () -> {
            try {
                if (!assigned[0]) {
                    reader.assign(reader.fetchMessageQueues(deadTopic));
                    assigned[0] = true;
                }
            } catch (org.apache.rocketmq.client.exception.MQClientException notCreatedYet) {
                Thread.sleep(200);
                return false;
            }
            dead.addAll(reader.poll());
            return !dead.isEmpty();
        });
        session.checkEquals("one dead letter is stored", 1, dead.size());
        MessageExt letter = dead.get(0);
        session.checkEquals("it is the hopeless message", "fails-always", letter.getKeys());
        session.checkEquals("it names its topic", topic, letter.getProperty("RETRY_TOPIC"));
        session.check("its body is intact", Session.intact(letter), letter);
    }

    private static int count(Map<String, List<MessageExt>> deliveries, String key) {
        return deliveries.getOrDefault(key, List.of()).size();
    }
}
