package interop;

import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.RequestCallback;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** A request waits for the reply that its consumer sends; of two requesters of a group each gets its own. */
final class Requests {
    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("RequestReply");
            DefaultMQProducer plain = session.producer("request_reply_plain");
            plain.send(Session.message(topic, "first", "first"));
            session.awaitRoute(plain, topic);
            DefaultMQProducer replier = session.producer("request_reply_replier");
            List<String> wrong = new CopyOnWriteArrayList<>();
            DefaultMQPushConsumer consumer = session.pushConsumer("request_reply", "request_reply");
            consumer.subscribe(topic, "request");
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                for (MessageExt message : messages) {
                    if (message.getKeys().equals("unanswered")) {
                        continue;
                    }
                    try {
                        byte[] text = ("reply to " + new String(message.getBody())).getBytes();
                        Message reply = MessageUtil.createReplyMessage(message, text);
                        replier.send(reply, 3000);
                    } catch (Exception failed) {
                        wrong.add(failed.toString());
                    }
                }
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.start();

            DefaultMQProducer one = session.producer("request_reply_one");
            DefaultMQProducer two = session.producer("request_reply_two");
            // The broker finds a requester by the heartbeat that follows when its producer knows the broker.
            for (DefaultMQProducer requester : List.of(one, two)) {
                requester.send(Session.message(topic, "first", "first"));
            }
            Thread.sleep(2500);
            // The 5.3.3 client lets a caller that waits go as soon as the request is stored; only its callback works.
            if (session.label.startsWith("java-4")) {
                Message reply = one.request(Session.message(topic, "request", "waiting"), 20_000);
                session.checkEquals("a waiting request gets its reply", "reply to body of waiting",
                    new String(reply.getBody()));
            }
            Message reply = ask(one, Session.message(topic, "request", "one"), 20_000).get(25, TimeUnit.SECONDS);
            session.checkEquals("a request gets its reply", "reply to body of one", new String(reply.getBody()));
            session.check("the reply says what it answers", reply.getProperty("CORRELATION_ID") != null
                && "reply".equals(reply.getProperty("MSG_TYPE")), reply);

            Map<String, CompletableFuture<Message>> open = new TreeMap<>();
            for (int i = 0; i < 20; i++) {
                String key = (i % 2 == 0 ? "one-" : "two-") + i;
                open.put(key, ask(i % 2 == 0 ? one : two, Session.message(topic, "request", key), 20_000));
            }
            Map<String, String> replies = new TreeMap<>();
            for (Map.Entry<String, CompletableFuture<Message>> each : open.entrySet()) {
                replies.put(each.getKey(), new String(each.getValue().get(25, TimeUnit.SECONDS).getBody()));
            }
            boolean own = replies.entrySet().stream()
                .allMatch(each -> each.getValue().equals("reply to body of " + each.getKey()));
            session.check("each of 20 requests of two producers gets its own reply", replies.size() == 20 && own, replies);
            session.check("no request or reply fails", wrong.isEmpty(), wrong);

            String outcome = "answered";
            try {
                ask(one, Session.message(topic, "request", "unanswered"), 2000).get(25, TimeUnit.SECONDS);
            } catch (ExecutionException overdue) {
                outcome = overdue.getCause().getClass().getSimpleName();
            }
            session.checkEquals("a request without a reply times out", "RequestTimeoutException", outcome);
        });
    }

    private static CompletableFuture<Message> ask(DefaultMQProducer requester, Message request, long timeoutMs)
        throws Exception {
        CompletableFuture<Message> reply = new CompletableFuture<>();
        requester.request(request, new RequestCallback() {
            @Override
            public void onSuccess(Message answer) {
                // These clients also call it with nothing, when the request is stored.
                if (answer != null) {
                    reply.complete(answer);
                }
            }

            @Override
            public void onException(Throwable error) {
                reply.completeExceptionally(error);
            }
        }, timeoutMs);
        return reply;
    }
}
