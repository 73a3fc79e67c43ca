package interop;

import java.io.File;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * Two members of a group share the queues; when one process is killed the other takes over all of them.
 * With a third argument this is the process that will be killed.
 */
final class Rebalance {
    private static final int QUEUES = 4;

    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("Rebalance");
            if (args.length > 2) {
                consume(session, topic, ConcurrentHashMap.newKeySet());
                Thread.sleep(120_000);
                return;
            }
            DefaultMQProducer producer = session.producer("rebalance");
            producer.send(Session.message(topic, "TagA", "first"));
            session.awaitRoute(producer, topic);
            Set<String> keys = ConcurrentHashMap.newKeySet();
            consume(session, topic, keys);
            session.await(60_000, () -> keys.contains("first"));
            session.checkEquals("a lone member has every queue", QUEUES,
                arrivals(session, producer, topic, keys, QUEUES, 45));

            Process other = new ProcessBuilder(System.getProperty("java.home") + "/bin/java",
                "-cp", System.getProperty("java.class.path"), "-Duser.home=" + System.getProperty("user.home"),
                Rebalance.class.getName(), session.namesrv, session.label, "member")
                .redirectOutput(new File("/dev/null")).redirectError(new File("/dev/null")).start();
            try {
                int shared = arrivals(session, producer, topic, keys, QUEUES / 2, 45);
                session.checkEquals("a second member takes half of them", QUEUES / 2, shared);
            } finally {
                other.destroyForcibly().waitFor();
            }
            // The broker tells the survivor at once; it would look by itself after 20 s.
            session.checkEquals("the survivor of a kill takes all over", QUEUES,
                arrivals(session, producer, topic, keys, QUEUES, 15));
        });
    }

    /** Sends one message to each queue until this member receives the expected number of them. */
    private static int arrivals(Session session, DefaultMQProducer producer, String topic, Set<String> keys,
        int expected, int limitS) throws Exception {
        int arrived = -1;
        long deadline = System.nanoTime() + limitS * 1_000_000_000L;
        for (int round = 0; arrived != expected && System.nanoTime() < deadline; round++) {
            String name = expected + "-" + round + "-" + System.nanoTime() + "-";
            for (int queue = 0; queue < QUEUES; queue++) {
                Message message = Session.message(topic, "TagA", name + queue);
                producer.send(message, (queues, msg, arg) -> queues.get((Integer) arg), queue);
            }
            Thread.sleep(500);
            arrived = (int) keys.stream().filter(key -> key.startsWith(name)).count();
        }
        return arrived;
    }

    private static void consume(Session session, String topic, Set<String> keys) throws Exception {
        DefaultMQPushConsumer consumer =
            session.pushConsumer("rebalance", "rebalance-" + ProcessHandle.current().pid());
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((List<MessageExt> messages, ConsumeConcurrentlyContext context) -> {
            messages.forEach(message -> keys.add(message.getKeys()));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
    }
}
