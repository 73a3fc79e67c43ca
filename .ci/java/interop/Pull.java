package interop;

import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** The pull consumer and the queries around a queue's offsets. */
final class Pull {
    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("Pull");
            DefaultMQProducer producer = session.producer("pull");
            SendResult first = producer.send(Session.message(topic, "TagA", "k0"));
            MessageQueue queue = first.getMessageQueue();
            for (int i = 1; i < 50; i++) {
                producer.send(Session.message(topic, i % 2 == 0 ? "TagA" : "TagB", "k" + i), queue);
            }
            Thread.sleep(50);
            long middleTime = System.currentTimeMillis();
            Thread.sleep(50);
            for (int i = 50; i < 100; i++) {
                producer.send(Session.message(topic, i % 2 == 0 ? "TagA" : "TagB", "k" + i), queue);
            }

            DefaultMQPullConsumer consumer = session.pullConsumer("pull");
            session.check("subscription queues are found",
                consumer.fetchSubscribeMessageQueues(topic).contains(queue), queue);
            session.checkEquals("every message is pulled in order", 100, pullAll(session, consumer, queue, "*"));
            session.checkEquals("a tag expression halves them", 50, pullAll(session, consumer, queue, "TagA"));

            session.checkEquals("min offset", 0L, consumer.minOffset(queue));
            session.checkEquals("max offset", 100L, consumer.maxOffset(queue));
            session.checkEquals("search by time finds the first after it", 50L,
                consumer.searchOffset(queue, middleTime));
            session.checkEquals("search before everything", 0L, consumer.searchOffset(queue, 1));
            long earliest = consumer.earliestMsgStoreTime(queue);
            session.check("earliest store time", Math.abs(System.currentTimeMillis() - earliest) < 120_000, earliest);

            PullResult end = consumer.pull(queue, "*", 100, 32);
            session.checkEquals("pull at the end finds nothing new", PullStatus.NO_NEW_MSG, end.getPullStatus());
            PullResult beyond = consumer.pull(queue, "*", 5000, 32);
            session.check("pull beyond the end is corrected", beyond.getPullStatus() == PullStatus.OFFSET_ILLEGAL
                && beyond.getNextBeginOffset() == 100, beyond);
            PullResult other = consumer.pull(queue, "NoSuchTag", 0, 32);
            session.check("no tag matches", other.getPullStatus() == PullStatus.NO_MATCHED_MSG
                && other.getNextBeginOffset() > 0, other);

            // A young queue is read from its beginning, so the broker says 0 although nothing was committed.
            session.checkEquals("a new group begins at 0", 0L, consumer.fetchConsumeOffset(queue, true));
            consumer.updateConsumeOffset(queue, 42);
            consumer.getOffsetStore().persistAll(Set.of(queue));
            session.await(5000, () -> consumer.fetchConsumeOffset(queue, true) == 42);
            session.checkEquals("a committed offset is read back", 42L, consumer.fetchConsumeOffset(queue, true));

            CompletableFuture<PullResult> parked = CompletableFuture.supplyAsync(() -> {
                try {
                    return consumer.pullBlockIfNotFound(queue, "*", 100, 32);
                } catch (Exception failed) {
                    throw new RuntimeException(failed);
                }
            });
            Thread.sleep(1000);
            boolean waited = !parked.isDone();
            long sent = System.nanoTime();
            producer.send(Session.message(topic, "TagA", "woken"), queue);
            PullResult woken = parked.get(15, java.util.concurrent.TimeUnit.SECONDS);
            long wakeMs = (System.nanoTime() - sent) / 1_000_000;
            session.check("a blocking pull waits, then answers at once",
                waited && wakeMs < 1000 && woken.getPullStatus() == PullStatus.FOUND, waited + " " + wakeMs + " ms");

            MessageExt viewed = consumer.viewMessage(topic, first.getOffsetMsgId());
            session.checkEquals("view by id shows the key", "k0", viewed.getKeys());
            session.checkEquals("view by id shows the unique id", first.getMsgId(), viewed.getMsgId());
            session.check("view by id shows the body", Session.intact(viewed), viewed);
        });
    }

    private static int pullAll(Session session, DefaultMQPullConsumer consumer, MessageQueue queue, String tags)
        throws Exception {
        Set<String> keys = new HashSet<>();
        long offset = 0;
        long last = -1;
        for (int round = 0; round < 200 && offset < 100; round++) {
            PullResult result = consumer.pull(queue, tags, offset, 32);
            List<MessageExt> found = result.getMsgFoundList();
            if (result.getPullStatus() == PullStatus.FOUND) {
                for (MessageExt message : found) {
                    if (message.getQueueOffset() <= last || !Session.intact(message)) {
                        session.check("pulled message is intact and in order", false, message);
                    }
                    last = message.getQueueOffset();
                    keys.add(message.getKeys());
                }
            }
            offset = result.getNextBeginOffset();
        }
        return keys.size();
    }
}
