package interop;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Every way a producer sends, and what the broker refuses. The topic appears with its first message. */
final class Send {
    private static final int RESPONSE_MESSAGE_ILLEGAL = 13;

    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("Send");
            DefaultMQProducer producer = session.producer("send");

            SendResult first = producer.send(Session.message(topic, "TagA", "sync-0"));
            session.checkEquals("sync send creates the topic", SendStatus.SEND_OK, first.getSendStatus());
            session.check("first message has offset 0", first.getQueueOffset() == 0, first);
            session.check("offset message id is given", first.getOffsetMsgId() != null, first);

            MessageQueue queue = session.awaitRoute(producer, topic).get(0);
            long start = sendTo(producer, topic, queue, "fixed-0").getQueueOffset();
            List<Long> offsets = new ArrayList<>();
            for (int i = 1; i <= 10; i++) {
                offsets.add(sendTo(producer, topic, queue, "fixed-" + i).getQueueOffset() - start);
            }
            session.checkEquals("offsets of one queue are consecutive",
                List.of(1L, 2L, 3L, 4L, 5L, 6L, 7L, 8L, 9L, 10L), offsets);

            async(session, producer, topic);
            oneway(session, producer, queue);
            batch(session, producer, queue);
            properties(session, producer, topic);
            refusals(session, producer, topic);
        });
    }

    private static SendResult sendTo(DefaultMQProducer producer, String topic, MessageQueue queue, String key)
        throws Exception {
        return producer.send(Session.message(topic, "TagA", key), queue);
    }

    private static void async(Session session, DefaultMQProducer producer, String topic) throws Exception {
        int count = 200;
        CountDownLatch answers = new CountDownLatch(count);
        ConcurrentLinkedQueue<Object> wrong = new ConcurrentLinkedQueue<>();
        for (int i = 0; i < count; i++) {
            producer.send(Session.message(topic, "TagA", "async-" + i), new SendCallback() {
                @Override
                public void onSuccess(SendResult result) {
                    if (result.getSendStatus() != SendStatus.SEND_OK) {
                        wrong.add(result);
                    }
                    answers.countDown();
                }

                @Override
                public void onException(Throwable error) {
                    wrong.add(error);
                    answers.countDown();
                }
            });
        }
        boolean answered = answers.await(20, TimeUnit.SECONDS);
        session.check("200 async sends succeed", answered && wrong.isEmpty(), answers.getCount() + " open, " + wrong);
    }

    private static void oneway(Session session, DefaultMQProducer producer, MessageQueue queue) throws Exception {
        long before = producer.maxOffset(queue);
        for (int i = 0; i < 20; i++) {
            producer.sendOneway(Session.message(queue.getTopic(), "TagA", "oneway-" + i), queue);
        }
        session.await(10_000, () -> producer.maxOffset(queue) == before + 20);
        session.checkEquals("20 oneway sends are stored", before + 20, producer.maxOffset(queue));
    }

    private static void batch(Session session, DefaultMQProducer producer, MessageQueue queue) throws Exception {
        long before = producer.maxOffset(queue);
        List<Message> messages = new ArrayList<>();
        for (int i = 0; i < 30; i++) {
            messages.add(Session.message(queue.getTopic(), "TagA", "batch-" + i));
        }
        SendResult result = producer.send(messages, queue);
        session.checkEquals("batch is accepted", SendStatus.SEND_OK, result.getSendStatus());
        session.checkEquals("batch has an id per message", 30, result.getMsgId().split(",").length);
        session.await(10_000, () -> producer.maxOffset(queue) == before + 30);
        session.checkEquals("batch of 30 takes 30 offsets", before + 30, producer.maxOffset(queue));
    }

    private static void properties(Session session, DefaultMQProducer producer, String topic) throws Exception {
        byte[] text = new byte[20_000];
        Arrays.fill(text, (byte) 'x');
        Message message = new Message(topic, "标签", "键 with blank", text);
        message.putUserProperty("user", "值 \"quoted\" \\ {}");
        SendResult result = producer.send(message);
        DefaultMQPullConsumer reader = session.pullConsumer("send");
        MessageExt stored = reader.viewMessage(topic, result.getOffsetMsgId());
        session.check("a compressed body comes back whole", Arrays.equals(text, stored.getBody()),
            stored.getBody().length + " bytes");
        session.checkEquals("tag survives", "标签", stored.getTags());
        session.checkEquals("keys survive", "键 with blank", stored.getKeys());
        session.checkEquals("user property survives", "值 \"quoted\" \\ {}", stored.getUserProperty("user"));
        session.checkEquals("unique id survives", result.getMsgId(), stored.getMsgId());
        session.checkEquals("queue offset survives", result.getQueueOffset(), stored.getQueueOffset());
    }

    private static void refusals(Session session, DefaultMQProducer producer, String topic) throws Exception {
        producer.setMaxMessageSize(16 << 20);
        byte[] noise = new byte[5 << 20];
        new Random(7).nextBytes(noise);
        int code = 0;
        try {
            producer.send(new Message(topic, noise), 10_000);
        } catch (MQBrokerException refused) {
            code = refused.getResponseCode();
        }
        session.checkEquals("a 5 MiB body is refused as illegal", RESPONSE_MESSAGE_ILLEGAL, code);
        SendResult after = producer.send(Session.message(topic, "TagA", "after"));
        session.checkEquals("the connection is usable after a refusal", SendStatus.SEND_OK, after.getSendStatus());
    }
}
