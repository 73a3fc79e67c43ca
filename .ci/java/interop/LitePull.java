package interop;

import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** The lite pull consumer, subscribed as a member of a group and with queues assigned by hand. */
final class LitePull {
    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("LitePull");
            DefaultMQProducer producer = session.producer("litepull");
            for (int i = 0; i < 120; i++) {
                producer.send(Session.message(topic, i % 2 == 0 ? "TagA" : "TagB", "k" + i));
            }
            session.awaitRoute(producer, topic);
            subscribed(session, topic);
            assigned(session, topic);
        });
    }

    private static void subscribed(Session session, String topic) throws Exception {
        DefaultLitePullConsumer consumer = session.litePullConsumer("litepull", "litepull-1");
        consumer.setAutoCommit(false);
        consumer.subscribe(topic, "TagA");
        consumer.start();
        Set<String> keys = new HashSet<>();
        session.await(60_000, () -> {
            consumer.poll().forEach(message -> keys.add(message.getKeys()));
            return keys.size() == 60;
        });
        session.checkEquals("a subscription polls its tag", 60, keys.size());
        consumer.commitSync();
        consumer.shutdown();

        DefaultLitePullConsumer successor = session.litePullConsumer("litepull", "litepull-2");
        successor.subscribe(topic, "TagA");
        successor.start();
        List<MessageExt> again = new ArrayList<>();
        session.await(3000, () -> {
            again.addAll(successor.poll());
            return false;
        });
        session.check("committed messages do not come again", again.isEmpty(), again.size() + " came");
    }

    private static void assigned(Session session, String topic) throws Exception {
        DefaultLitePullConsumer consumer = session.litePullConsumer("litepull_assigned", "litepull-3");
        consumer.setAutoCommit(false);
        consumer.start();
        Collection<MessageQueue> queues = consumer.fetchMessageQueues(topic);
        session.checkEquals("queues of the topic", 4, queues.size());
        consumer.assign(queues);
        session.checkEquals("every message of the assigned queues is polled", 120, poll(session, consumer, 120));
        for (MessageQueue queue : queues) {
            consumer.seekToBegin(queue);
        }
        session.checkEquals("seek to the beginning polls them again", 120, poll(session, consumer, 120));
        MessageQueue queue = queues.iterator().next();
        session.checkEquals("a new group begins at 0", 0L, consumer.committed(queue));
        consumer.commitSync();
        session.await(5000, () -> consumer.committed(queue) == 30);
        session.checkEquals("commit is read back", 30L, consumer.committed(queue));
        session.check("offset for a time in the past is 0", consumer.offsetForTimestamp(queue, 1L) == 0,
            consumer.offsetForTimestamp(queue, 1L));
    }

    private static int poll(Session session, DefaultLitePullConsumer consumer, int count) throws Exception {
        Set<String> keys = new HashSet<>();
        session.await(60_000, () -> {
            consumer.poll().forEach(message -> keys.add(message.getKeys()));
            return keys.size() == count;
        });
        return keys.size();
    }
}
