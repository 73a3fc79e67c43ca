package interop;

import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;

/** Sends ten messages and consumes them, so that there is something for the admin tool to look at. */
final class Exchange {
    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("Exchange");
            DefaultMQProducer producer = session.producer("exchange");
            for (int i = 0; i < 10; i++) {
                producer.send(Session.message(topic, "TagA", "k" + i));
            }
            session.awaitRoute(producer, topic);
            Set<String> keys = ConcurrentHashMap.newKeySet();
            DefaultMQPushConsumer consumer = session.pushConsumer("exchange", "exchange");
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener((List<MessageExt> messages, ConsumeConcurrentlyContext context) -> {
                messages.forEach(message -> keys.add(message.getKeys()));
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.start();
            session.await(60_000, () -> keys.size() == 10);
            session.checkEquals("ten messages go round", 10, keys.size());
        });
    }
}
