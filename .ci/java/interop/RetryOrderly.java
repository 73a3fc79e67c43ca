package interop;

import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** An orderly consumer tries a failing message again in its place, then leaves it to the dead letters and goes on. */
final class RetryOrderly {
    private static final int RECONSUME_TIMES_MAX = 2;

    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("RetryOrderly");
            DefaultMQProducer producer = session.producer("retry_orderly");
            producer.send(Session.message(topic, "first", "k-first"));
            MessageQueue queue = session.awaitRoute(producer, topic).get(1);
            for (int i = 0; i < 5; i++) {
                producer.send(Session.message(topic, i == 2 ? "fails" : "good", "k" + i), queue);
            }
            List<String> sequence = new CopyOnWriteArrayList<>();
            DefaultMQPushConsumer consumer = session.pushConsumer("retry_orderly", "retry_orderly");
            consumer.setMaxReconsumeTimes(RECONSUME_TIMES_MAX);
            consumer.setSuspendCurrentQueueTimeMillis(200);
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
                MessageExt message = messages.get(0);
                if (message.getQueueId() == queue.getQueueId()) {
                    sequence.add(message.getKeys() + "/" + message.getReconsumeTimes());
                }
                return message.getTags().equals("fails") ? ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT
                    : ConsumeOrderlyStatus.SUCCESS;
            });
            consumer.start();
            session.await(60_000, () -> sequence.contains("k4/0"));
            sequence.remove("k-first/0");
            session.checkEquals("orderly: a failing message is tried in its place, then passed",
                List.of("k0/0", "k1/0", "k2/0", "k2/1", "k2/2", "k3/0", "k4/0"), List.copyOf(sequence));

            DefaultLitePullConsumer reader = session.litePullConsumer("retry_orderly_dlq", "retry_orderly_dlq");
            reader.start();
            List<MessageExt> dead = new CopyOnWriteArrayList<>();
            boolean[] assigned = {false};
            session.await(60_000, () -> {
                try {
                    if (!assigned[0]) {
                        reader.assign(reader.fetchMessageQueues("%DLQ%" + session.group("retry_orderly")));
                        assigned[0] = true;
                    }
                } catch (MQClientException notCreatedYet) {
                    Thread.sleep(200);
                    return false;
                }
                dead.addAll(reader.poll());
                return !dead.isEmpty();
            });
            session.checkEquals("orderly: one dead letter", 1, dead.size());
            session.checkEquals("orderly: it is the failing message", "k2", dead.get(0).getKeys());
            session.check("orderly: its body is intact", Session.intact(dead.get(0)), dead.get(0));
            session.checkEquals("orderly: it names its topic", topic, dead.get(0).getProperty("RETRY_TOPIC"));
        });
    }
}
