package interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Orderly consumption: the queue locks are granted, and each key's messages arrive in the order of sending. */
final class Orderly {
    private static final int ORDERS = 8;
    private static final int STEPS = 25;

    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("Orderly");
            DefaultMQProducer producer = session.producer("orderly");
            for (int step = 0; step < STEPS; step++) {
                for (int order = 0; order < ORDERS; order++) {
                    Message message = Session.message(topic, "order" + order, order + ":" + step);
                    producer.send(message, (queues, msg, arg) -> queues.get((Integer) arg % queues.size()), order);
                }
            }
            session.awaitRoute(producer, topic);

            Map<String, List<Integer>> steps = new ConcurrentHashMap<>();
            AtomicInteger consumed = new AtomicInteger();
            AtomicBoolean suspended = new AtomicBoolean();
            AtomicInteger overlaps = new AtomicInteger();
            Map<Integer, Boolean> busy = new ConcurrentHashMap<>();
            DefaultMQPushConsumer consumer = session.pushConsumer("orderly", "orderly");
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener((List<MessageExt> messages, ConsumeOrderlyContext context) -> {
                MessageExt message = messages.get(0);
                if (busy.put(message.getQueueId(), true) != null) {
                    overlaps.incrementAndGet();
                }
                try {
                    if (message.getKeys().equals("3:5") && suspended.compareAndSet(false, true)) {
                        return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
                    }
                    steps.computeIfAbsent(message.getTags(), tag -> new CopyOnWriteArrayList<>())
                        .add(Integer.parseInt(message.getKeys().split(":")[1]));
                    consumed.incrementAndGet();
                    return ConsumeOrderlyStatus.SUCCESS;
                } finally {
                    busy.remove(message.getQueueId());
                }
            });
            consumer.start();
            session.await(60_000, () -> consumed.get() >= ORDERS * STEPS);
            session.checkEquals("every message arrives once", ORDERS * STEPS, consumed.get());
            session.check("a suspended message comes again", suspended.get(), "3:5 was never seen");
            session.checkEquals("one message of a queue at a time", 0, overlaps.get());

            List<Integer> sequence = new ArrayList<>();
            for (int step = 0; step < STEPS; step++) {
                sequence.add(step);
            }
            Map<String, List<Integer>> expected = new TreeMap<>();
            for (int order = 0; order < ORDERS; order++) {
                expected.put("order" + order, sequence);
            }
            session.checkEquals("each order's steps arrive in order", expected, new TreeMap<>(steps));
        });
    }
}
