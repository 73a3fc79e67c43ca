package interop;

import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;

/** Clients that trace: what they did with a message is in the trace topic, and the admin tool finds it by the id. */
final class Trace {
    private static final String TRACE_TOPIC = "RMQ_SYS_TRACE_TOPIC";

    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("Trace");
            DefaultMQProducer producer = new DefaultMQProducer(session.group("trace") + "_producer", true, null);
            producer.setNamesrvAddr(session.namesrv);
            producer.setInstanceName("trace_producer");
            producer.start();
            session.closing((AutoCloseable) producer::shutdown);
            SendResult sent = producer.send(Session.message(topic, "TagA", "traced"));
            session.awaitRoute(producer, topic);

            Map<String, String> arrived = new ConcurrentHashMap<>();
            DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(session.group("trace"), true, null);
            consumer.setNamesrvAddr(session.namesrv);
            consumer.setInstanceName("trace_consumer");
            consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
            session.closing((AutoCloseable) consumer::shutdown);
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                messages.forEach(message -> arrived.put(message.getKeys(), message.getMsgId()));
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.start();
            session.await(60_000, () -> arrived.containsKey("traced"));

            List<String> traces = new CopyOnWriteArrayList<>();
            DefaultLitePullConsumer reader = session.litePullConsumer("trace_reader", "trace_reader");
            reader.start();
            reader.assign(reader.fetchMessageQueues(TRACE_TOPIC));
            session.await(60_000, () -> {
                for (MessageExt message : reader.poll()) {
                    if (message.getKeys() != null && message.getKeys().contains(sent.getMsgId())) {
                        traces.add(new String(message.getBody()));
                    }
                }
                String all = String.join("", traces);
                return all.contains("Pub") && all.contains("SubBefore") && all.contains("SubAfter");
            });
            String all = String.join("", traces);
            session.check("the trace of the send is stored", all.contains("Pub") && all.contains(topic), traces);
            session.check("the trace of the consumption is stored", all.contains("SubBefore")
                && all.contains("SubAfter") && all.contains(session.group("trace")), traces);

            String[] told = {""};
            session.await(40_000, () -> {
                told[0] = Session.admin("queryMsgTraceById", "-i", sent.getMsgId());
                return told[0].contains("Pub") && told[0].contains("Sub");
            });
            session.check("queryMsgTraceById tells of send and consumption", told[0].contains("Pub")
                && told[0].contains("Sub") && told[0].contains("success"), told[0].replace("\n", " / "));
        });
    }
}
