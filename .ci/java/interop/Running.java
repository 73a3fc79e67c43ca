package interop;

import java.util.List;
import java.util.Set;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;

/** What an operator does to a group while it runs: looks inside, gives it one message by hand, sets it back. */
final class Running {
    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("Running");
            String group = session.group("running");
            DefaultMQProducer producer = session.producer("running");
            SendResult first = producer.send(Session.message(topic, "TagA", "old0"));
            session.awaitRoute(producer, topic);
            for (int i = 1; i < 8; i++) {
                producer.send(Session.message(topic, "TagA", "old" + i));
            }
            Thread.sleep(200);
            long middle = System.currentTimeMillis();
            Thread.sleep(200);
            for (int i = 0; i < 8; i++) {
                producer.send(Session.message(topic, "TagA", "young" + i));
            }
            List<String> arrived = new CopyOnWriteArrayList<>();
            DefaultMQPushConsumer consumer = session.pushConsumer("running", "running");
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                messages.forEach(message -> arrived.add(message.getKeys()));
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.start();
            session.await(60_000, () -> arrived.size() >= 16);
            session.checkEquals("everything is consumed", 16, arrived.size());

            String listed = Session.admin("consumerStatus", "-g", group);
            String client = consumer.buildMQClientId();
            session.check("the running clients are listed", listed.contains(client), line(listed));
            String status = Session.admin("consumerStatus", "-g", group, "-i", client);
            session.check("running info tells of subscription, queues and rates", status.contains(topic)
                && status.contains("#Consumer Subscription#") && status.contains("#Consumer Offset#")
                && status.contains("#Consumer RT&TPS#"), line(status));
            String stacks = Session.admin("consumerStatus", "-g", group, "-i", client, "-s");
            session.check("running info brings stacks along", stacks.contains("java.lang.Thread")
                || stacks.contains("TID:"), line(stacks));

            String pushed = Session.admin("queryMsgById", "-t", topic, "-i", first.getOffsetMsgId(), "-g", group,
                "-d", client);
            session.await(20_000, () -> arrived.size() >= 17);
            session.check("one message is consumed by hand", arrived.size() == 17 && arrived.get(16).equals("old0")
                && pushed.contains("CR_SUCCESS"), line(pushed) + arrived);

            arrived.clear();
            String told = Session.admin("resetOffsetByTime", "-g", group, "-t", topic, "-s", String.valueOf(middle),
                "-f", "true");
            session.check("the tool names each queue that is set back", told.split("broker-a", -1).length > 4,
                line(told));
            session.await(60_000, () -> Set.copyOf(arrived).size() >= 8);
            Thread.sleep(1000);
            session.check("a running group is set back to a time", Set.copyOf(arrived).size() == 8
                && arrived.stream().allMatch(key -> key.startsWith("young")), arrived);
        });
    }

    private static String line(String output) {
        return output.replace("\n", " / ");
    }
}
