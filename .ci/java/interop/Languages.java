package interop;

import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Sends one compressed body and reads those of the clients in other languages, which do the same. */
final class Languages {
    private static final List<String> CLIENTS = List.of("ali-ons", "cpp-wheel", "go-client", "java-5.3.3",
        "rust-client");

    public static void main(String[] args) {
        Session.run(args, session -> {
            DefaultMQProducer producer = session.producer("languages");
            producer.send(new Message("languages", "big", "java-5.3.3", text("java-5.3.3").getBytes()));
            Map<String, MessageExt> arrived = new ConcurrentHashMap<>();
            DefaultMQPushConsumer consumer = session.pushConsumer("languages", "languages");
            consumer.subscribe("languages", "*");
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                messages.forEach(message -> arrived.put(message.getKeys(), message));
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.start();
            session.await(80_000, () -> arrived.size() == CLIENTS.size());
            Map<String, String> wrong = new TreeMap<>();
            for (String client : CLIENTS) {
                MessageExt message = arrived.get(client);
                if (message == null || !new String(message.getBody()).equals(text(client))) {
                    wrong.put(client, message == null ? "nothing came" : "another body");
                } else if (message.getStoreSize() > 5000) {
                    wrong.put(client, "stored in " + message.getStoreSize() + " bytes");
                }
            }
            session.check("compressed: java-5.3.3 reads the bodies of all clients", wrong.isEmpty(), wrong);
        });
    }

    private static String text(String client) {
        return ("compressible " + client + " ").repeat(2000);
    }
}
