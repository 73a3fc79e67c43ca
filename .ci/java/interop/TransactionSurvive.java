package interop;

import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * Transactions live through a kill -9 and restart of the server: each has the one outcome that its producer decided.
 * Prints READY when the server may be killed; a line on standard input says that it is back.
 */
final class TransactionSurvive {
    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("TransactionSurvive");
            // The half message was acknowledged: from here on its outcome is promised.
            Set<String> decided = ConcurrentHashMap.newKeySet();
            TransactionMQProducer producer = session.transactionProducer("survive", new TransactionListener() {
                @Override
                public LocalTransactionState executeLocalTransaction(Message message, Object number) {
                    decided.add(message.getKeys());
                    return (Integer) number % 10 == 0 ? LocalTransactionState.UNKNOW : outcome(message.getKeys());
                }

                @Override
                public LocalTransactionState checkLocalTransaction(MessageExt message) {
                    return outcome(message.getKeys());
                }
            });
            producer.setSendMsgTimeout(1000);
            producer.send(Session.message(topic, "TagA", "plain"));
            session.awaitRoute(producer, topic);
            // A consumer may see a message again after the crash, but not a second message.
            Map<String, Set<String>> received = new ConcurrentHashMap<>();
            DefaultMQPushConsumer consumer = session.pushConsumer("survive", "survive_consumer");
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener((List<MessageExt> messages, ConsumeConcurrentlyContext context) -> {
                messages.forEach(message -> received.computeIfAbsent(message.getKeys(), key -> ConcurrentHashMap.newKeySet())
                    .add(message.getQueueId() + "/" + message.getQueueOffset()));
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.start();
            session.await(60_000, () -> received.containsKey("plain"));

            AtomicBoolean stop = new AtomicBoolean();
            Thread sender = new Thread(() -> {
                for (int i = 1; !stop.get(); i++) {
                    try {
                        String key = (i % 3 == 0 ? "rollback" : "commit") + i;
                        producer.sendMessageInTransaction(Session.message(topic, "TagA", key), i);
                    } catch (Exception unanswered) {
                        // Not acknowledged, so nothing is promised about it.
                    }
                }
            });
            sender.start();
            Thread.sleep(2000);
            System.out.println("READY");
            System.in.read();
            int before = decided.size();
            session.await(60_000, () -> decided.size() > before + 100);
            stop.set(true);
            sender.join();
            Set<String> missing = new HashSet<>();
            session.await(100_000, () -> {
                missing.clear();
                decided.stream().filter(key -> key.startsWith("commit") && !received.containsKey(key)).forEach(missing::add);
                return missing.isEmpty();
            });
            session.check("every committed message comes", missing.isEmpty(),
                missing.size() + " of " + decided.size() + " are missing: " + missing.stream().limit(5).toList());
            List<String> wrong = received.keySet().stream().filter(key -> key.startsWith("rollback")).toList();
            session.check("no message that is rolled back comes", wrong.isEmpty(), wrong);
            List<String> twice = received.entrySet().stream().filter(each -> each.getValue().size() > 1)
                .map(each -> each.getKey() + each.getValue()).toList();
            session.check("no message is stored twice", twice.isEmpty(), twice);
        });
    }

    private static LocalTransactionState outcome(String key) {
        return key.startsWith("rollback") ? LocalTransactionState.ROLLBACK_MESSAGE : LocalTransactionState.COMMIT_MESSAGE;
    }
}
