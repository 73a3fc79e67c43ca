package interop;

import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;

/** A concurrent push consumer: delivery, tag filter, new messages at once, and going on where it stopped. */
final class Push {
    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("Push");
            DefaultMQProducer producer = session.producer("push");
            send(producer, topic, 0, 300);
            session.awaitRoute(producer, topic);

            Seen all = new Seen();
            DefaultMQPushConsumer consumer = session.pushConsumer("push", "push-1");
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener(all.listener());
            consumer.start();
            session.await(60_000, () -> all.keys.size() == 300);
            session.checkEquals("messages sent before the start arrive", 300, all.keys.size());

            Seen tagged = new Seen();
            DefaultMQPushConsumer filtering = session.pushConsumer("push_tags", "push-2");
            filtering.subscribe(topic, "TagB || TagC");
            filtering.registerMessageListener(tagged.listener());
            filtering.start();
            session.await(60_000, () -> tagged.keys.size() == 200);
            session.check("tag filter passes its tags only", tagged.keys.size() == 200
                && tagged.tags.equals(Set.of("TagB", "TagC")), tagged);

            // The consumer's pulls are parked at the broker now; a new message must wake them.
            Thread.sleep(1500);
            long sent = System.nanoTime();
            producer.send(Session.message(topic, "TagA", "late"));
            session.await(10_000, () -> all.keys.contains("late"));
            long latencyMs = (System.nanoTime() - sent) / 1_000_000;
            session.check("a parked pull is woken by a message", latencyMs < 1000, latencyMs + " ms");

            consumer.shutdown();
            Seen resumed = new Seen();
            DefaultMQPushConsumer successor = session.pushConsumer("push", "push-3");
            successor.subscribe(topic, "*");
            successor.registerMessageListener(resumed.listener());
            send(producer, topic, 1000, 30);
            successor.start();
            session.await(60_000, () -> resumed.keys.size() >= 30);
            Thread.sleep(500);
            session.check("a successor starts at the committed offset", resumed.keys.size() == 30, resumed);
            session.check("no message is delivered twice", all.deliveries.get() == 301
                && tagged.deliveries.get() == 220 && resumed.deliveries.get() == 30,
                all + ", " + tagged + ", " + resumed);
            session.check("bodies are intact", all.intact && tagged.intact && resumed.intact, "a body differs");
        });
    }

    private static void send(DefaultMQProducer producer, String topic, int from, int count) throws Exception {
        String[] tags = {"TagA", "TagB", "TagC"};
        for (int i = from; i < from + count; i++) {
            producer.send(Session.message(topic, tags[i % 3], "k" + i));
        }
    }

    private static final class Seen {
        final Set<String> keys = ConcurrentHashMap.newKeySet();
        final Set<String> tags = ConcurrentHashMap.newKeySet();
        final AtomicInteger deliveries = new AtomicInteger();
        volatile boolean intact = true;

        MessageListenerConcurrently listener() {
            return (messages, context) -> {
                messages.forEach(message -> {
                    intact &= Session.intact(message);
                    deliveries.incrementAndGet();
                    tags.add(message.getTags());
                    keys.add(message.getKeys());
                });
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            };
        }

        @Override
        public String toString() {
            return keys.size() + " keys in " + deliveries + " deliveries of " + tags;
        }
    }
}
