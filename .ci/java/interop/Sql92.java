package interop;

import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.function.IntPredicate;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;

/** SQL92 filters of every kind of consumer, in retries too, and what becomes of a bad expression. */
final class Sql92 {
    private static final int COUNT = 40;
    /** Message i has a = i, price = i / 4 as a decimal, and a colour unless i is a multiple of five. */
    private static final String[] COLOURS = {"red", "green", "dark blue"};
    private static final Map<String, IntPredicate> EXPRESSIONS = Map.of(
        "a >= 10 AND a < 20", i -> i >= 10 && i < 20,
        "a BETWEEN 5 AND 7 OR price > 9.5", i -> i >= 5 && i <= 7 || i / 4.0 > 9.5,
        "colour IN ('red', 'green') AND a <> 3", i -> i % 5 != 0 && i % 3 != 2 && i != 3,
        "colour IS NULL", i -> i % 5 == 0,
        "colour IS NOT NULL AND NOT (a > 4)", i -> i % 5 != 0 && i <= 4,
        "TAGS = 'even' AND a > 30", i -> i % 2 == 0 && i > 30,
        "colour CONTAINS 'blue'", i -> i % 5 != 0 && i % 3 == 2,
        "colour STARTSWITH 'gr' OR colour ENDSWITH 'ed'", i -> i % 5 != 0 && i % 3 != 2);

    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("Sql92");
            DefaultMQProducer producer = session.producer("sql92");
            producer.send(Session.message(topic, "first", "creates-the-topic"));
            List<MessageQueue> queues = session.awaitRoute(producer, topic);
            // Members of a broadcast begin at the end of the queues, so they start before the messages are sent.
            Set<String> one = broadcast(session, topic, "sql92-1");
            Set<String> two = broadcast(session, topic, "sql92-2");
            session.await(60_000, () -> {
                producer.send(numbered(topic, 1, "probe"));
                Thread.sleep(200);
                return one.contains("probe") && two.contains("probe");
            });
            Thread.sleep(1000);
            for (int i = 0; i < COUNT; i++) {
                producer.send(numbered(topic, i, "k" + i), queues.get(i % queues.size()));
            }

            pull(session, topic, queues);
            push(session, topic);
            litePull(session, topic);
            session.await(30_000, () -> one.size() > 10 && two.size() > 10);
            Set<String> expected = keys(i -> i < 10);
            expected.add("probe");
            session.checkEquals("SQL92: the first broadcasting member gets what matches", expected, new TreeSet<>(one));
            session.checkEquals("SQL92: the second broadcasting member gets what matches", expected,
                new TreeSet<>(two));
            bad(session, topic);
        });
    }

    private static Message numbered(String topic, int i, String key) {
        Message message = Session.message(topic, i % 2 == 0 ? "even" : "odd", key);
        message.putUserProperty("a", String.valueOf(i));
        message.putUserProperty("price", String.valueOf(i / 4.0));
        if (i % 5 != 0) {
            message.putUserProperty("colour", COLOURS[i % 3]);
        }
        return message;
    }

    private static TreeSet<String> keys(IntPredicate matches) {
        return IntStream.range(0, COUNT).filter(matches).mapToObj(i -> "k" + i)
            .collect(Collectors.toCollection(TreeSet::new));
    }

    private static void pull(Session session, String topic, List<MessageQueue> queues) throws Exception {
        DefaultMQPullConsumer consumer = session.pullConsumer("sql92");
        session.checkEquals("SQL92: a pull is answered", "", refusal(session, consumer, queues.get(0), "a = 1"));
        for (String expression : new TreeSet<>(EXPRESSIONS.keySet())) {
            TreeSet<String> found = new TreeSet<>();
            for (MessageQueue queue : queues) {
                long end = consumer.maxOffset(queue);
                for (long offset = 0; offset < end; ) {
                    PullResult result = consumer.pull(queue, MessageSelector.bySql(expression), offset, 32);
                    if (result.getMsgFoundList() != null) {
                        result.getMsgFoundList().forEach(message -> found.add(message.getKeys()));
                    }
                    offset = result.getNextBeginOffset();
                }
            }
            found.removeIf(key -> !key.startsWith("k"));
            session.checkEquals("SQL92: a pull with " + expression, keys(EXPRESSIONS.get(expression)), found);
        }
    }

    /** One of the messages fails once, so that the retry topic is filtered too. */
    private static void push(Session session, String topic) throws Exception {
        List<String> deliveries = new CopyOnWriteArrayList<>();
        Set<String> again = ConcurrentHashMap.newKeySet();
        DefaultMQPushConsumer consumer = session.pushConsumer("sql92_push", "sql92-push");
        consumer.setPollNameServerInterval(1000);
        consumer.subscribe(topic, MessageSelector.bySql("a BETWEEN 20 AND 29 AND colour IS NOT NULL"));
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            String key = messages.get(0).getKeys();
            deliveries.add(key);
            context.setDelayLevelWhenNextConsume(1);
            if (key.equals("k21") && messages.get(0).getReconsumeTimes() == 0) {
                return ConsumeConcurrentlyStatus.RECONSUME_LATER;
            }
            if (messages.get(0).getReconsumeTimes() > 0) {
                again.add(key);
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        session.await(60_000, () -> !again.isEmpty() && Set.copyOf(deliveries).size() >= 8);
        session.checkEquals("SQL92: a push consumer gets what matches",
            keys(i -> i >= 20 && i <= 29 && i % 5 != 0), new TreeSet<>(deliveries));
        session.checkEquals("SQL92: a failed message passes the filter again", Set.of("k21"), again);
        session.checkEquals("SQL92: each other message comes once", 9, deliveries.size());
    }

    private static void litePull(Session session, String topic) throws Exception {
        DefaultLitePullConsumer consumer = session.litePullConsumer("sql92_lite", "sql92-lite");
        consumer.subscribe(topic, MessageSelector.bySql("a < 8"));
        consumer.start();
        TreeSet<String> found = new TreeSet<>();
        session.await(60_000, () -> {
            consumer.poll().forEach(message -> found.add(message.getKeys()));
            return found.size() >= 9;
        });
        found.remove("probe");
        session.checkEquals("SQL92: a lite pull consumer gets what matches", keys(i -> i < 8), found);
    }

    private static Set<String> broadcast(Session session, String topic, String instance) throws Exception {
        Set<String> keys = new ConcurrentSkipListSet<>();
        DefaultMQPushConsumer consumer = session.pushConsumer("sql92_broadcast", instance);
        Session.broadcast(consumer);
        consumer.subscribe(topic, MessageSelector.bySql("a < 10"));
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> keys.add(message.getKeys()));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        return keys;
    }

    private static void bad(Session session, String topic) throws Exception {
        DefaultMQPushConsumer pushed = session.pushConsumer("sql92_bad_push", "sql92-bad-push");
        pushed.subscribe(topic, MessageSelector.bySql("a >>> 1"));
        pushed.registerMessageListener((MessageListenerConcurrently) (messages, context) ->
            ConsumeConcurrentlyStatus.CONSUME_SUCCESS);
        String refusal = "";
        try {
            pushed.start();
        } catch (MQClientException refused) {
            refusal = refused.toString();
        }
        session.check("SQL92: a consumer with a bad expression does not start", refusal.contains("CODE: 23"), refusal);
    }

    /** What a pull throws. It learns with its second heartbeat what the broker can do, and refuses to ask before. */
    private static String refusal(Session session, DefaultMQPullConsumer consumer, MessageQueue queue,
        String expression) throws Exception {
        consumer.fetchSubscribeMessageQueues(queue.getTopic());
        String[] refusal = {""};
        session.await(40_000, () -> {
            try {
                consumer.pull(queue, MessageSelector.bySql(expression), 0, 1);
                refusal[0] = "";
            } catch (Exception refused) {
                refusal[0] = refused.toString();
            }
            return !refusal[0].contains("does not upgrade");
        });
        return refusal[0];
    }
}
