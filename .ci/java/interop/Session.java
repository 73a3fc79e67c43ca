package interop;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * One scenario against one name server: its clients, its checks, its exit code.
 *
 * <p>Only API that rocketmq-client 4.9 and 5.x share is used, so the same sources compile against both.
 */
final class Session {
    interface Story {
        void tell(Session session) throws Exception;
    }

    final String namesrv;
    /** Set apart runs of the same scenario by different client versions on one server. */
    final String label;

    private final List<AutoCloseable> open = new ArrayList<>();
    private int failed;

    private Session(String namesrv, String label) {
        this.namesrv = namesrv;
        this.label = label;
    }

    /** Arguments: name server address, label. Exits 0 when every check passed. */
    static void run(String[] args, Story story) {
        Session session = new Session(args[0], args[1]);
        try {
            story.tell(session);
        } catch (Throwable unexpected) {
            unexpected.printStackTrace();
            session.check("runs to its end", false, unexpected.toString());
        }
        for (AutoCloseable client : session.open) {
            try {
                client.close();
            } catch (Exception ignored) {
                // The verdict is in; a client that cannot say goodbye does not change it.
            }
        }
        System.out.flush();
        // Not every client thread is a daemon.
        Runtime.getRuntime().halt(session.failed == 0 ? 0 : 1);
    }

    void check(String what, boolean passed, Object found) {
        if (!passed) {
            failed++;
        }
        System.out.println(passed ? "PASS " + what : "FAIL " + what + ": " + found);
    }

    void checkEquals(String what, Object expected, Object found) {
        check(what, expected.equals(found), "expected " + expected + ", found " + found);
    }

    /** Waits until the condition holds, as clients learn of things in their own time. */
    boolean await(long timeoutMs, Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + timeoutMs * 1_000_000;
        while (!condition.call()) {
            if (System.nanoTime() > deadline) {
                return false;
            }
            Thread.sleep(20);
        }
        return true;
    }

    /** The broker tells the name server of a topic that a send created; a consumer started before that waits 30 s. */
    List<MessageQueue> awaitRoute(DefaultMQProducer producer, String topic) throws Exception {
        List<MessageQueue> queues = new ArrayList<>();
        await(10_000, () -> {
            try {
                queues.addAll(producer.fetchPublishMessageQueues(topic));
            } catch (MQClientException notYet) {
                return false;
            }
            return !queues.isEmpty();
        });
        check("route of the new topic is known", queues.size() == 4, queues);
        return queues;
    }

    String topic(String name) {
        return name + "_" + label;
    }

    String group(String name) {
        return "G_" + name + "_" + label;
    }

    DefaultMQProducer producer(String name) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(group(name) + "_producer");
        producer.setNamesrvAddr(namesrv);
        producer.setInstanceName(name);
        producer.setHeartbeatBrokerInterval(1000);
        producer.start();
        open.add(producer::shutdown);
        return producer;
    }

    TransactionMQProducer transactionProducer(String name, TransactionListener listener) throws Exception {
        TransactionMQProducer producer = new TransactionMQProducer(group(name) + "_producer");
        producer.setNamesrvAddr(namesrv);
        producer.setInstanceName(name);
        producer.setTransactionListener(listener);
        producer.start();
        open.add(producer::shutdown);
        return producer;
    }

    /** A push consumer still to be subscribed and started; closed with the session. */
    DefaultMQPushConsumer pushConsumer(String name, String instance) {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group(name));
        consumer.setNamesrvAddr(namesrv);
        consumer.setInstanceName(instance);
        // The client learns by heartbeats what the broker can do, which it waits 30 s for by itself.
        consumer.setHeartbeatBrokerInterval(1000);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        open.add(consumer::shutdown);
        return consumer;
    }

    DefaultMQPullConsumer pullConsumer(String name) throws Exception {
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(group(name));
        consumer.setNamesrvAddr(namesrv);
        consumer.setInstanceName(name + "_pull");
        consumer.setHeartbeatBrokerInterval(1000);
        consumer.start();
        open.add(consumer::shutdown);
        return consumer;
    }

    DefaultLitePullConsumer litePullConsumer(String name, String instance) {
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(group(name));
        consumer.setNamesrvAddr(namesrv);
        consumer.setInstanceName(instance);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setPollTimeoutMillis(500);
        consumer.setHeartbeatBrokerInterval(1000);
        open.add(consumer::shutdown);
        return consumer;
    }

    /** The enum moved between packages from 4.x to 5.x; its setter's parameter knows where it is. */
    @SuppressWarnings({"unchecked", "rawtypes"})
    static void broadcast(DefaultMQPushConsumer consumer) throws Exception {
        for (java.lang.reflect.Method method : consumer.getClass().getMethods()) {
            if (method.getName().equals("setMessageModel")) {
                method.invoke(consumer, Enum.valueOf((Class) method.getParameterTypes()[0], "BROADCASTING"));
            }
        }
    }

    /** Closed with the session, as what the other methods give is. */
    <T extends AutoCloseable> T closing(T client) {
        open.add(client);
        return client;
    }

    private static final BufferedReader ANSWERS = new BufferedReader(new InputStreamReader(System.in));

    /** Lets the suite run one command of the admin tool, which has a class path of its own. Gives its output. */
    static synchronized String admin(String... words) throws IOException {
        System.out.println("ADMIN " + String.join("\t", words));
        System.out.flush();
        StringBuilder output = new StringBuilder();
        for (int lines = Integer.parseInt(ANSWERS.readLine()); lines > 0; lines--) {
            output.append(ANSWERS.readLine()).append('\n');
        }
        return output.toString();
    }

    static Message message(String topic, String tag, String key) {
        return new Message(topic, tag, key, ("body of " + key).getBytes());
    }

    static boolean intact(MessageExt message) {
        return new String(message.getBody()).equals("body of " + message.getKeys());
    }
}
