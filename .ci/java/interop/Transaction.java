package interop;

import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.client.producer.TransactionSendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Committed messages come, rolled back ones do not, and the broker asks about those of which nothing is known. */
final class Transaction {
    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("Transaction");
            Map<String, List<MessageExt>> asked = new ConcurrentHashMap<>();
            TransactionMQProducer producer = session.transactionProducer("transaction", new TransactionListener() {
                @Override
                public LocalTransactionState executeLocalTransaction(Message message, Object state) {
                    return (LocalTransactionState) state;
                }

                @Override
                public LocalTransactionState checkLocalTransaction(MessageExt message) {
                    List<MessageExt> times = asked.computeIfAbsent(message.getKeys(), key -> new CopyOnWriteArrayList<>());
                    times.add(message);
                    switch (message.getTags()) {
                        case "asked-commit":
                            return LocalTransactionState.COMMIT_MESSAGE;
                        case "asked-rollback":
                            return LocalTransactionState.ROLLBACK_MESSAGE;
                        default:
                            return times.size() < 2 ? LocalTransactionState.UNKNOW : LocalTransactionState.COMMIT_MESSAGE;
                    }
                }
            });
            producer.send(Session.message(topic, "plain", "plain"));
            session.awaitRoute(producer, topic);

            Map<String, List<MessageExt>> received = new ConcurrentHashMap<>();
            DefaultMQPushConsumer consumer = session.pushConsumer("transaction", "transaction_consumer");
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener((List<MessageExt> messages, ConsumeConcurrentlyContext context) -> {
                messages.forEach(message ->
                    received.computeIfAbsent(message.getKeys(), key -> new CopyOnWriteArrayList<>()).add(message));
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.start();
            session.await(60_000, () -> received.containsKey("plain"));

            send(session, producer, topic, "commit", LocalTransactionState.COMMIT_MESSAGE);
            send(session, producer, topic, "rollback", LocalTransactionState.ROLLBACK_MESSAGE);
            for (String tag : List.of("asked-commit", "asked-rollback", "asked-twice")) {
                send(session, producer, topic, tag, LocalTransactionState.UNKNOW);
            }
            session.await(20_000, () -> received.containsKey("commit"));
            session.check("a committed message comes at once", received.containsKey("commit"), received.keySet());
            // Checks begin after transactionTimeOut, 6 s, and are transactionCheckInterval, 30 s, apart.
            session.await(150_000, () -> received.containsKey("asked-commit") && received.containsKey("asked-twice")
                && asked.containsKey("asked-rollback"));
            session.check("the broker asks about what is unknown", asked.containsKey("asked-rollback"), asked.keySet());
            session.check("what is committed when asked comes", received.containsKey("asked-commit"), received.keySet());
            session.check("an unknown answer is asked again", received.containsKey("asked-twice"), received.keySet());
            Thread.sleep(2000);
            for (String tag : List.of("commit", "asked-commit", "asked-twice")) {
                session.checkEquals(tag + " comes once", 1, received.getOrDefault(tag, List.of()).size());
            }
            session.check("what is rolled back never comes",
                !received.containsKey("rollback") && !received.containsKey("asked-rollback"), received.keySet());
            MessageExt question = asked.get("asked-commit").get(0);
            session.check("the question shows topic, body and id", question.getTopic().equals(topic)
                && Session.intact(question) && question.getMsgId() != null, question);
            MessageExt committed = received.get("commit").get(0);
            session.check("body and transaction id are intact",
                Session.intact(committed) && committed.getTransactionId() != null, committed);
        });
    }

    private static void send(Session session, TransactionMQProducer producer, String topic, String tag,
        LocalTransactionState state) throws Exception {
        TransactionSendResult result = producer.sendMessageInTransaction(Session.message(topic, tag, tag), state);
        session.check("half message " + tag + " is stored",
            result.getSendStatus() == SendStatus.SEND_OK && result.getLocalTransactionState() == state, result);
    }
}
