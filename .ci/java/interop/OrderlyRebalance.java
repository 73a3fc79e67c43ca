package interop;

import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * While messages flow, a second orderly consumer joins and leaves again. In each queue no message comes before the one
 * ahead of it, whoever consumes; what was consumed and not yet committed may come twice.
 */
final class OrderlyRebalance {
    /** Of each queue the number of messages seen in order so far. */
    private static final Map<Integer, Integer> NEXT = new ConcurrentHashMap<>();
    private static final Set<Integer> BUSY = ConcurrentHashMap.newKeySet();
    private static final Set<String> WRONG = ConcurrentHashMap.newKeySet();

    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("OrderlyRebalance");
            DefaultMQProducer producer = session.producer("orderly_rebalance");
            MessageQueue any = producer.send(Session.message(topic, "first", "first")).getMessageQueue();
            int queues = session.awaitRoute(producer, topic).size();
            int[] sent = new int[queues];
            AtomicBoolean stop = new AtomicBoolean();
            Thread sender = new Thread(() -> {
                while (!stop.get()) {
                    try {
                        for (int id = 0; id < queues; id++) {
                            producer.send(Session.message(topic, "step", String.valueOf(sent[id])),
                                new MessageQueue(topic, any.getBrokerName(), id));
                            sent[id]++;
                        }
                        Thread.sleep(10);
                    } catch (Exception failed) {
                        WRONG.add("send: " + failed);
                    }
                }
            });
            sender.start();
            AtomicInteger first = new AtomicInteger();
            AtomicInteger second = new AtomicInteger();
            consumer(session, topic, "one", first).start();
            session.await(30_000, () -> NEXT.size() == queues);
            DefaultMQPushConsumer guest = consumer(session, topic, "two", second);
            guest.start();
            boolean joined = session.await(50_000, () -> second.get() > 100);
            session.check("ordered rebalance: a second consumer takes part", joined, second + " messages");
            guest.shutdown();
            int then = first.get();
            Thread.sleep(1000);
            stop.set(true);
            sender.join();
            session.await(60_000, () -> {
                for (int id = 0; id < queues; id++) {
                    if (NEXT.getOrDefault(id, 0) < sent[id]) {
                        return false;
                    }
                }
                return true;
            });
            for (int id = 0; id < queues; id++) {
                session.checkEquals("ordered rebalance: nothing of queue " + id + " is lost", sent[id],
                    NEXT.getOrDefault(id, 0));
            }
            session.check("ordered rebalance: the first goes on alone", first.get() > then, first + " after " + then);
            session.check("ordered rebalance: nothing out of order, one at a time", WRONG.isEmpty(), WRONG);
        });
    }

    private static DefaultMQPushConsumer consumer(Session session, String topic, String instance, AtomicInteger seen)
        throws Exception {
        DefaultMQPushConsumer consumer = session.pushConsumer("orderly_rebalance", "orderly_rebalance-" + instance);
        consumer.subscribe(topic, "step");
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            for (MessageExt message : messages) {
                int id = message.getQueueId();
                if (!BUSY.add(id)) {
                    WRONG.add("two at a time in queue " + id);
                }
                int step = Integer.parseInt(message.getKeys());
                int next = NEXT.getOrDefault(id, 0);
                if (step > next) {
                    WRONG.add("queue " + id + ": " + step + " before " + next);
                }
                NEXT.put(id, Math.max(next, step + 1));
                seen.incrementAndGet();
                BUSY.remove(id);
            }
            return ConsumeOrderlyStatus.SUCCESS;
        });
        return consumer;
    }
}
