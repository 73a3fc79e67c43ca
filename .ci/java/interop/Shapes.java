package interop;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** What consumers see of batches and compressed bodies, and of tags that a hash cannot tell apart. */
final class Shapes {
    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("Shapes");
            DefaultMQProducer producer = session.producer("shapes");
            producer.setCompressMsgBodyOverHowmuch(1024);
            producer.send(Session.message(topic, "first", "first"));
            MessageQueue queue = session.awaitRoute(producer, topic).get(2);

            List<Message> batch = new ArrayList<>();
            for (int i = 0; i < 20; i++) {
                Message message = Session.message(topic, i % 2 == 0 ? "Aa" : "BB", "batch" + i);
                message.putUserProperty("number", String.valueOf(i));
                batch.add(message);
            }
            SendResult result = producer.send(batch, queue);
            long start = result.getQueueOffset();
            String text = "compressible ".repeat(10_000);
            producer.send(new Message(topic, "Aa", "long", text.getBytes()), queue);

            Map<String, MessageExt> all = consume(session, topic, "*", 21);
            all.remove("first");
            session.checkEquals("batch: each of its messages arrives", 20L,
                all.keySet().stream().filter(key -> key.startsWith("batch")).count());
            boolean whole = true;
            for (int i = 0; i < 20; i++) {
                MessageExt message = all.get("batch" + i);
                whole &= message != null && Session.intact(message) && message.getQueueOffset() == start + i
                    && message.getQueueId() == queue.getQueueId()
                    && String.valueOf(i).equals(message.getUserProperty("number"))
                    && message.getTags().equals(i % 2 == 0 ? "Aa" : "BB");
            }
            session.check("batch: each has its own body, tag, property and place", whole, all);
            MessageExt big = all.get("long");
            session.check("compressed: the body comes back whole",
                big != null && text.equals(new String(big.getBody())), big);
            session.check("compressed: it travelled and is stored small",
                big != null && big.getStoreSize() < text.length() / 10, big);

            session.checkEquals("the tags have one hash", "Aa".hashCode(), "BB".hashCode());
            Map<String, Long> one = byTag(consume(session, topic, "Aa", 11));
            session.checkEquals("tags of one hash: a subscription of Aa", Map.of("Aa", 11L), one);
            Map<String, Long> other = byTag(consume(session, topic, "BB", 10));
            session.checkEquals("tags of one hash: a subscription of BB", Map.of("BB", 10L), other);
        });
    }

    private static Map<String, Long> byTag(Map<String, MessageExt> messages) {
        Map<String, Long> counts = new TreeMap<>();
        messages.values().forEach(message -> counts.merge(message.getTags(), 1L, Long::sum));
        return counts;
    }

    /** By key; a message that came twice is there twice, under a key of its own. */
    private static Map<String, MessageExt> consume(Session session, String topic, String tags, int expected)
        throws Exception {
        String name = "shapes_" + (tags.equals("*") ? "all" : tags);
        List<MessageExt> arrived = new CopyOnWriteArrayList<>();
        DefaultMQPushConsumer consumer = session.pushConsumer(name, name);
        consumer.subscribe(topic, tags);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            arrived.addAll(messages);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        session.await(60_000, () -> arrived.size() >= expected);
        Thread.sleep(500);
        Map<String, MessageExt> byKey = new HashMap<>();
        for (MessageExt message : arrived) {
            if (byKey.put(message.getKeys(), message) != null) {
                byKey.put(message.getKeys() + " twice", message);
            }
        }
        return byKey;
    }
}
