package interop;

import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * A producer and a consumer live through a kill -9 and restart of the server.
 * Prints READY when the server may be killed; a line on standard input says that it is back.
 */
final class Survive {
    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("Survive");
            DefaultMQProducer producer = session.producer("survive");
            producer.setSendMsgTimeout(1000);
            Set<String> acknowledged = ConcurrentHashMap.newKeySet();
            Set<String> received = ConcurrentHashMap.newKeySet();
            acknowledged.add(send(producer, topic, "k0"));
            session.awaitRoute(producer, topic);
            DefaultMQPushConsumer consumer = session.pushConsumer("survive", "survive");
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener((List<MessageExt> messages, ConsumeConcurrentlyContext context) -> {
                messages.forEach(message -> received.add(message.getKeys()));
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.start();
            session.await(60_000, () -> received.contains("k0"));

            AtomicBoolean stop = new AtomicBoolean();
            Thread sender = new Thread(() -> {
                for (int i = 1; !stop.get(); i++) {
                    try {
                        acknowledged.add(send(producer, topic, "k" + i));
                        Thread.sleep(2);
                    } catch (Exception unanswered) {
                        // Not acknowledged, so nothing is promised about it.
                    }
                }
            });
            sender.start();
            Thread.sleep(2000);
            System.out.println("READY");
            System.in.read();
            int before = acknowledged.size();
            session.await(60_000, () -> acknowledged.size() > before + 100);
            session.check("sending goes on after the restart", acknowledged.size() > before + 100,
                before + " then " + acknowledged.size());
            stop.set(true);
            sender.join();
            session.await(60_000, () -> received.containsAll(acknowledged));
            Set<String> missing = new HashSet<>(acknowledged);
            missing.removeAll(received);
            session.check("every acknowledged message arrives", missing.isEmpty(),
                missing.size() + " of " + acknowledged.size() + " are missing: "
                    + missing.stream().limit(5).toList());
        });
    }

    private static String send(DefaultMQProducer producer, String topic, String key) throws Exception {
        SendResult result = producer.send(Session.message(topic, "TagA", key));
        if (result.getSendStatus() != SendStatus.SEND_OK) {
            throw new IllegalStateException(result.toString());
        }
        return key;
    }
}
