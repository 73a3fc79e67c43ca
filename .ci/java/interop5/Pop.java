package interop;

import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;

/** A push consumer that the broker assigns queues to and that takes its messages by POP: delivery, retry, sharing. */
final class Pop {
    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("Pop");
            String group = session.group("pop");
            DefaultMQProducer producer = session.producer("pop");
            producer.send(Session.message(topic, "good", "first"));
            session.awaitRoute(producer, topic);
            String told = Session.admin("updateSubGroup", "-c", "DefaultCluster", "-g", group)
                + Session.admin("setConsumeMode", "-c", "DefaultCluster", "-t", topic, "-g", group, "-m", "POP", "-q",
                    "4");
            session.check("the group is set to POP", told.contains("success"), told.replace("\n", " / "));

            Member one = new Member(session, topic, "pop-1");
            session.await(60_000, () -> one.keys().contains("first"));
            session.check("POP: the consumer pops, it does not pull", one.popped, one.deliveries);
            for (int i = 0; i < 100; i++) {
                producer.send(Session.message(topic, i == 7 ? "fails" : "good", "k" + i));
            }
            session.await(60_000, () -> one.keys().size() == 101 && one.times("k7") == 2);
            session.checkEquals("POP: every message arrives", 101, one.keys().size());
            session.checkEquals("POP: a failed message comes again", 2, one.times("k7"));
            session.checkEquals("POP: redelivery counts", 1, one.deliveries.get("k7").get(1).getReconsumeTimes());
            session.check("POP: what is acknowledged does not come again", one.deliveries.entrySet().stream()
                .allMatch(each -> each.getValue().size() == (each.getKey().equals("k7") ? 2 : 1)), one.counts());

            // The mode shares a queue between members: both get messages, whoever is assigned what.
            Member two = new Member(session, topic, "pop-2");
            int[] round = {0};
            session.await(60_000, () -> {
                for (int i = 0; i < 8; i++) {
                    producer.send(Session.message(topic, "good", "shared" + round[0]++));
                }
                Thread.sleep(300);
                return two.keys().size() > 5;
            });
            session.check("POP: a second member takes part", two.keys().size() > 5, two.keys().size());
            session.await(30_000, () -> shared(one, two) == round[0]);
            session.checkEquals("POP: nothing is lost when it joins", round[0], shared(one, two));
            one.consumer.shutdown();
            producer.send(Session.message(topic, "good", "late"));
            session.await(60_000, () -> two.keys().contains("late"));
            session.check("POP: the other goes on alone", two.keys().contains("late"), two.keys());
        });
    }

    private static int shared(Member one, Member two) {
        Set<String> keys = ConcurrentHashMap.newKeySet();
        keys.addAll(one.keys());
        keys.addAll(two.keys());
        return (int) keys.stream().filter(key -> key.startsWith("shared")).count();
    }

    private static final class Member {
        final Map<String, List<MessageExt>> deliveries = new ConcurrentHashMap<>();
        final DefaultMQPushConsumer consumer;
        volatile boolean popped;

        Member(Session session, String topic, String instance) throws Exception {
            consumer = session.pushConsumer("pop", instance);
            consumer.setClientRebalance(false);
            consumer.setPopInvisibleTime(10_000);
            consumer.setPollNameServerInterval(1000);
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                for (MessageExt message : messages) {
                    deliveries.computeIfAbsent(message.getKeys(), key -> new CopyOnWriteArrayList<>()).add(message);
                    popped |= message.getProperty("POP_CK") != null;
                    if (message.getTags().equals("fails") && message.getReconsumeTimes() == 0) {
                        return ConsumeConcurrentlyStatus.RECONSUME_LATER;
                    }
                }
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.start();
        }

        Set<String> keys() {
            return deliveries.keySet();
        }

        int times(String key) {
            return deliveries.getOrDefault(key, List.of()).size();
        }

        Map<String, Integer> counts() {
            Map<String, Integer> counts = new java.util.TreeMap<>();
            deliveries.forEach((key, messages) -> {
                if (messages.size() > 1) {
                    counts.put(key, messages.size());
                }
            });
            return counts;
        }
    }
}
