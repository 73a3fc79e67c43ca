package interop;

import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;

/**
 * Push consumers whose queues the broker assigns and whose messages it hands out: clients from 5.0 on only.
 * The groups `pop` and `pop_ordered` have been set to POP for the topic before.
 */
final class PopRedelivery {
    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("PopRedelivery");
            DefaultMQProducer producer = session.producer("pop");
            for (int i = 0; i < 600; i++) {
                producer.send(Session.message(topic, "TagA", "k" + i));
            }
            session.awaitRoute(producer, topic);

            Set<String> seen = ConcurrentHashMap.newKeySet();
            Set<String> refused = ConcurrentHashMap.newKeySet();
            Set<String> back = ConcurrentHashMap.newKeySet();
            Set<String> wrong = ConcurrentHashMap.newKeySet();
            AtomicInteger deliveries = new AtomicInteger();
            for (int client = 0; client < 2; client++) {
                DefaultMQPushConsumer consumer = popping(session, "pop", "pop-" + client);
                consumer.subscribe(topic, "*");
                consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                    for (var message : messages) {
                        deliveries.incrementAndGet();
                        if (message.getProperty("POP_CK") == null || !message.getTopic().equals(topic)
                            || !Session.intact(message)) {
                            wrong.add(message.toString());
                        }
                        if (message.getReconsumeTimes() == 0 && message.getKeys().endsWith("00")) {
                            refused.add(message.getKeys());
                            return ConsumeConcurrentlyStatus.RECONSUME_LATER;
                        }
                        if (message.getReconsumeTimes() > 0) {
                            back.add(message.getKeys());
                        }
                        seen.add(message.getKeys());
                    }
                    return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
                });
                consumer.start();
            }
            session.await(30_000, () -> seen.size() >= 590);
            long began = System.nanoTime();
            session.await(40_000, () -> seen.size() == 600);
            long waitedMs = (System.nanoTime() - began) / 1_000_000;
            session.checkEquals("every message is popped", 600, seen.size());
            // The client asks for ten seconds after the first failure.
            session.check("what was not consumed comes back", !refused.isEmpty() && back.containsAll(refused)
                && waitedMs < 13_000, back + " of " + refused + " after " + waitedMs + " ms");
            session.check("receipts, topics and bodies are right", wrong.isEmpty(), wrong);
            session.check("nothing else is delivered twice", deliveries.get() == 600 + refused.size(), deliveries);

            Thread.sleep(1500);
            long sent = System.nanoTime();
            producer.send(Session.message(topic, "TagA", "late"));
            session.await(10_000, () -> seen.contains("late"));
            long latencyMs = (System.nanoTime() - sent) / 1_000_000;
            session.check("a parked pop is woken by a message", latencyMs < 1000, latencyMs + " ms");

            Map<Integer, List<Long>> ordered = new ConcurrentHashMap<>();
            DefaultMQPushConsumer inOrder = popping(session, "pop_ordered", "pop-ordered");
            inOrder.subscribe(topic, "*");
            inOrder.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
                messages.forEach(message -> ordered
                    .computeIfAbsent(message.getQueueId(), queue -> new CopyOnWriteArrayList<>())
                    .add(message.getQueueOffset()));
                return ConsumeOrderlyStatus.SUCCESS;
            });
            inOrder.start();
            session.await(60_000, () -> ordered.values().stream().mapToInt(List::size).sum() >= 601);
            boolean inTurn = ordered.values().stream()
                .allMatch(offsets -> offsets.stream().sorted().distinct().toList().equals(offsets));
            int count = ordered.values().stream().mapToInt(List::size).sum();
            session.check("an ordered pop keeps the order of each queue", inTurn && count == 601, count + " " + inTurn);
        });
    }

    /** Clients of 4.x have no such switch, and these sources compile against them as well. */
    private static DefaultMQPushConsumer popping(Session session, String group, String instance) throws Exception {
        DefaultMQPushConsumer consumer = session.pushConsumer(group, instance);
        consumer.getClass().getMethod("setClientRebalance", boolean.class).invoke(consumer, false);
        return consumer;
    }
}
