package interop;

import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.Executors;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.client.producer.TransactionSendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * Half messages: committed and rolled back at once, and of unknown outcome, for which the broker asks any producer of
 * the group. Expects a broker that begins to ask after a few seconds.
 */
final class Transactions {
    private static final Map<String, List<String>> CHECKS = new ConcurrentHashMap<>();

    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("Transaction");
            DefaultMQProducer plain = session.producer("transaction_plain");
            plain.send(Session.message(topic, "first", "plain"));
            session.awaitRoute(plain, topic);
            Map<String, List<MessageExt>> arrived = new ConcurrentHashMap<>();
            DefaultMQPushConsumer consumer = session.pushConsumer("transaction", "transaction");
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                messages.forEach(message -> arrived
                    .computeIfAbsent(message.getKeys(), key -> new CopyOnWriteArrayList<>()).add(message));
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.start();

            TransactionMQProducer one = producer(session, "one");
            send(session, one, topic, "commit");
            send(session, one, topic, "rollback");
            send(session, one, topic, "unknown-commit");
            send(session, one, topic, "unknown-rollback");
            send(session, one, topic, "unknown-twice");
            session.await(20_000, () -> arrived.containsKey("commit") && arrived.containsKey("plain"));
            session.checkEquals("a committed message arrives", 1, count(arrived, "commit"));
            session.checkEquals("nothing else is visible yet", Set.of("commit", "plain"), Set.copyOf(arrived.keySet()));

            session.await(60_000, () -> count(arrived, "unknown-commit") > 0 && count(arrived, "unknown-twice") > 0
                && CHECKS.containsKey("unknown-rollback"));
            session.checkEquals("checked back, then committed", 1, count(arrived, "unknown-commit"));
            session.checkEquals("checked back twice, then committed", 1, count(arrived, "unknown-twice"));
            session.check("an unknown outcome is asked for again", checks("unknown-twice").size() >= 2, CHECKS);

            // Its producer goes; the group's other one is asked.
            TransactionMQProducer two = producer(session, "two");
            send(session, two, topic, "orphan");
            two.shutdown();
            session.await(60_000, () -> count(arrived, "orphan") > 0);
            session.checkEquals("checked back at another producer of the group", List.of("one"),
                checks("orphan").stream().distinct().toList());
            session.checkEquals("its message arrives", 1, count(arrived, "orphan"));

            session.check("what was rolled back stays away", !arrived.containsKey("rollback")
                && !arrived.containsKey("unknown-rollback"), arrived.keySet());
            session.check("what was decided at once is not asked for", checks("commit").isEmpty()
                && checks("rollback").isEmpty(), CHECKS);
            MessageExt committed = arrived.get("commit").get(0);
            session.check("a committed message keeps topic, tag, body and property", committed.getTopic().equals(topic)
                && committed.getTags().equals("TagT") && Session.intact(committed)
                && "value".equals(committed.getUserProperty("user")), committed);
            session.checkEquals("each arrives once", new TreeSet<>(Set.of("plain", "commit", "unknown-commit",
                "unknown-twice", "orphan")), once(arrived));
        });
    }

    private static TransactionMQProducer producer(Session session, String name) throws Exception {
        TransactionMQProducer producer = new TransactionMQProducer(session.group("transaction") + "_producer");
        producer.setNamesrvAddr(session.namesrv);
        producer.setInstanceName("transaction_" + name);
        producer.setExecutorService(Executors.newFixedThreadPool(2));
        // The broker knows its producers from their heartbeats.
        producer.setHeartbeatBrokerInterval(1000);
        producer.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message message, Object arg) {
                switch (message.getKeys()) {
                    case "commit":
                        return LocalTransactionState.COMMIT_MESSAGE;
                    case "rollback":
                        return LocalTransactionState.ROLLBACK_MESSAGE;
                    default:
                        return LocalTransactionState.UNKNOW;
                }
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt message) {
                List<String> asked = CHECKS.computeIfAbsent(message.getKeys(), key -> new CopyOnWriteArrayList<>());
                asked.add(name);
                if (message.getKeys().endsWith("rollback")) {
                    return LocalTransactionState.ROLLBACK_MESSAGE;
                }
                boolean undecided = message.getKeys().equals("unknown-twice") && asked.size() == 1;
                return undecided ? LocalTransactionState.UNKNOW : LocalTransactionState.COMMIT_MESSAGE;
            }
        });
        producer.start();
        session.closing((AutoCloseable) producer::shutdown);
        return producer;
    }

    private static void send(Session session, TransactionMQProducer producer, String topic, String key)
        throws Exception {
        Message message = Session.message(topic, "TagT", key);
        message.putUserProperty("user", "value");
        TransactionSendResult result = producer.sendMessageInTransaction(message, null);
        session.check("the half message of " + key + " is accepted", result.getSendStatus() == SendStatus.SEND_OK
            && result.getTransactionId() != null, result);
    }

    private static List<String> checks(String key) {
        return CHECKS.getOrDefault(key, List.of());
    }

    private static int count(Map<String, List<MessageExt>> arrived, String key) {
        return arrived.getOrDefault(key, List.of()).size();
    }

    private static Set<String> once(Map<String, List<MessageExt>> arrived) {
        Set<String> keys = new TreeSet<>();
        arrived.forEach((key, messages) -> keys.add(messages.size() == 1 ? key : key + " x" + messages.size()));
        return keys;
    }
}
