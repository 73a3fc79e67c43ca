package interop;

import java.text.SimpleDateFormat;
import java.util.Date;
import java.util.Set;
import java.util.concurrent.ConcurrentSkipListSet;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;

/**
 * Where a group begins. A clustering group without offsets begins at 0 of a queue whose first message is still there
 * and in memory, whatever it asked for; a broadcasting member has no offsets at the broker, and gets what it asked for.
 */
final class FromWhere {
    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("FromWhere");
            DefaultMQProducer producer = session.producer("from_where");
            send(producer, topic, "old", 8);
            session.awaitRoute(producer, topic);
            // The time a consumer gives has no more than seconds.
            Thread.sleep(2100);
            String middle = new SimpleDateFormat("yyyyMMddHHmmss").format(new Date(System.currentTimeMillis() - 1000));
            send(producer, topic, "young", 8);

            int stored = 16;
            for (ConsumeFromWhere where : new ConsumeFromWhere[] {ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET,
                ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET, ConsumeFromWhere.CONSUME_FROM_TIMESTAMP}) {
                String name = where.name().substring("CONSUME_FROM_".length()).toLowerCase();
                Group group = new Group(session, topic, name, where, middle, false);
                group.expect("from where: a new group of young queues begins at 0 with " + name, stored);
                group.consumer.shutdown();
                send(producer, topic, name, 4);
                Group successor = new Group(session, topic, name, where, middle, false);
                session.await(30_000, () -> successor.keys.size() >= 4);
                Thread.sleep(300);
                session.check("from where: a group with offsets goes on there with " + name,
                    successor.keys.size() == 4 && successor.keys.contains(name + "0"), successor.keys);
                successor.consumer.shutdown();
                stored += 4;
            }
            Group first = new Group(session, topic, "all", ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET, middle, true);
            first.expect("from where: a broadcast from the first offset sees all", 28);
            Group timed = new Group(session, topic, "timed", ConsumeFromWhere.CONSUME_FROM_TIMESTAMP, middle, true);
            timed.expect("from where: a broadcast from a time sees what came later", 20);
            Group last = new Group(session, topic, "last", ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET, middle, true);
            session.await(30_000, () -> {
                producer.send(Session.message(topic, "TagA", "probe"));
                Thread.sleep(200);
                return last.keys.contains("probe");
            });
            session.checkEquals("from where: a broadcast from the last offset sees nothing old", Set.of("probe"),
                last.keys);
            session.check("from where: the time did not let old ones through",
                timed.keys.stream().noneMatch(key -> key.startsWith("old")), timed.keys);
        });
    }

    private static void send(DefaultMQProducer producer, String topic, String name, int count) throws Exception {
        for (int i = 0; i < count; i++) {
            producer.send(Session.message(topic, "TagA", name + i));
        }
    }

    private static final class Group {
        final Set<String> keys = new ConcurrentSkipListSet<>();
        final DefaultMQPushConsumer consumer;
        private final Session session;

        Group(Session session, String topic, String name, ConsumeFromWhere where, String time, boolean broadcast)
            throws Exception {
            this.session = session;
            consumer = session.pushConsumer("from_" + name, "from_" + name + System.nanoTime());
            consumer.setConsumeFromWhere(where);
            consumer.setConsumeTimestamp(time);
            if (broadcast) {
                Session.broadcast(consumer);
            }
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                messages.forEach(message -> keys.add(message.getKeys()));
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.start();
        }

        void expect(String what, int count) throws Exception {
            session.await(30_000, () -> keys.size() >= count);
            Thread.sleep(300);
            session.checkEquals(what, count, keys.size());
        }
    }
}
