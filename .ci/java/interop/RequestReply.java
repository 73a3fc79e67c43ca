package interop;

import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.RequestTimeoutException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.RequestCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Calls over messages: each request gets its own reply, one that nobody serves times out, and a reply may be late. */
final class RequestReply {
    private static final int REQUESTS = 200;

    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("RequestReply");
            DefaultMQProducer requester = session.producer("requester");
            DefaultMQProducer replier = session.producer("replier");
            requester.send(Session.message(topic, "ignored", "first"));
            session.awaitRoute(requester, topic);

            AtomicReference<MessageExt> last = new AtomicReference<>();
            AtomicInteger refused = new AtomicInteger();
            DefaultMQPushConsumer server = session.pushConsumer("server", "server");
            server.subscribe(topic, "call || late");
            server.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                for (MessageExt message : messages) {
                    last.set(message);
                    if (!"late".equals(message.getTags())) {
                        reply(replier, message, refused);
                    }
                }
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            server.start();
            Message warm = requester.request(Session.message(topic, "call", "warm"), 30_000);
            session.checkEquals("a request gets its reply", "reply to warm", new String(warm.getBody()));

            ExecutorService threads = Executors.newFixedThreadPool(8);
            AtomicInteger right = new AtomicInteger();
            CountDownLatch done = new CountDownLatch(REQUESTS);
            long began = System.nanoTime();
            for (int i = 0; i < REQUESTS; i++) {
                String key = "k" + i;
                threads.execute(() -> {
                    try {
                        Message answer = requester.request(Session.message(topic, "call", key), 10_000);
                        right.addAndGet(("reply to " + key).equals(new String(answer.getBody())) ? 1 : 0);
                    } catch (Exception lost) {
                        lost.printStackTrace();
                    }
                    done.countDown();
                });
            }
            done.await(60, TimeUnit.SECONDS);
            long tookMs = (System.nanoTime() - began) / 1_000_000;
            session.check(REQUESTS + " requests get their own replies", right.get() == REQUESTS, right);
            System.out.println(REQUESTS + " requests took " + tookMs + " ms");

            AtomicReference<String> async = new AtomicReference<>();
            requester.request(Session.message(topic, "call", "async"), new RequestCallback() {
                @Override
                public void onSuccess(Message message) {
                    async.set(new String(message.getBody()));
                }

                @Override
                public void onException(Throwable fault) {
                    async.set(fault.toString());
                }
            }, 10_000);
            session.await(10_000, () -> async.get() != null);
            session.checkEquals("a callback gets the reply", "reply to async", async.get());
            session.checkEquals("no reply was refused", 0, refused.get());

            boolean timedOut = false;
            try {
                requester.request(Session.message(topic, "late", "nobody"), 1_500);
            } catch (RequestTimeoutException expected) {
                timedOut = true;
            }
            session.check("a request that nobody answers times out", timedOut, "it was answered");

            // The requester goes away before its reply comes.
            session.await(10_000, () -> "nobody".equals(last.get().getKeys()));
            requester.shutdown();
            reply(replier, last.get(), refused);
            session.checkEquals("a reply to a client that is gone is refused", 1, refused.get());
            threads.shutdown();
        });
    }

    private static void reply(DefaultMQProducer replier, MessageExt request, AtomicInteger refused) {
        try {
            Message reply = MessageUtil.createReplyMessage(request, ("reply to " + request.getKeys()).getBytes());
            SendResult result = replier.send(reply, 3_000);
            List.of(result.getMsgId());
        } catch (Exception fault) {
            System.out.println("refused: " + fault.getMessage());
            refused.incrementAndGet();
        }
    }
}
