package interop;

import java.util.List;
import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Messages found by their keys and by their unique ids, through the client and through the admin tool. */
final class Query {
    public static void main(String[] args) {
        Session.run(args, session -> {
            String topic = session.topic("Query");
            DefaultMQProducer producer = session.producer("query");
            long before = System.currentTimeMillis() - 1000;
            SendResult first = producer.send(Session.message(topic, "TagA", "order-1"));
            session.awaitRoute(producer, topic);
            for (int i = 2; i <= 20; i++) {
                producer.send(Session.message(topic, "TagA", "order-" + i));
            }
            Message several = new Message(topic, "TagB", "alpha beta", "body of several".getBytes());
            producer.send(several);
            // Two keys of one hash.
            producer.send(Session.message(topic, "TagC", "keyAa"));
            producer.send(Session.message(topic, "TagC", "keyBB"));
            for (int i = 0; i < 5; i++) {
                producer.send(Session.message(topic, "TagD", "shared"));
            }

            session.await(20_000, () -> find(producer, topic, "shared", 32, before).size() == 5);
            session.checkEquals("by key: one message", List.of("order-7"),
                find(producer, topic, "order-7", 32, before));
            session.checkEquals("by key: all messages of it", 5, find(producer, topic, "shared", 32, before).size());
            session.check("by key: not more than asked for", find(producer, topic, "shared", 3, before).size() <= 3,
                find(producer, topic, "shared", 3, before));
            session.checkEquals("by key: each of a message's keys, the first", List.of("alpha beta"),
                find(producer, topic, "alpha", 32, before));
            session.checkEquals("by key: each of a message's keys, the second", List.of("alpha beta"),
                find(producer, topic, "beta", 32, before));
            session.checkEquals("by key: of one hash, the right one", List.of("keyBB"),
                find(producer, topic, "keyBB", 32, before));
            session.checkEquals("by key: nothing of an unknown key", List.of(),
                find(producer, topic, "nobody", 32, before));
            session.checkEquals("by key: nothing of another time", List.of(),
                find(producer, topic, "order-7", 32, before - 7_200_000, before - 3_600_000));

            MessageExt viewed = producer.viewMessage(topic, first.getMsgId());
            session.check("by unique id: the message", viewed.getKeys().equals("order-1") && Session.intact(viewed)
                && viewed.getMsgId().equals(first.getMsgId()), viewed);

            String byKey = Session.admin("queryMsgByKey", "-t", topic, "-k", "shared");
            session.checkEquals("queryMsgByKey lists all of them", 5L,
                byKey.lines().filter(line -> line.matches("^[0-9A-F]{32,}.*")).count());
            String byUnique = Session.admin("queryMsgByUniqueKey", "-t", topic, "-i", first.getMsgId());
            session.check("queryMsgByUniqueKey shows the message", byUnique.contains("order-1")
                && byUnique.contains(topic), byUnique.replace("\n", " / "));
            String byId = Session.admin("queryMsgById", "-t", topic, "-i", first.getOffsetMsgId());
            session.check("queryMsgById shows the message", byId.contains("order-1"), byId.replace("\n", " / "));
        });
    }

    private static List<String> find(DefaultMQProducer producer, String topic, String key, int most, long begin)
        throws Exception {
        return find(producer, topic, key, most, begin, System.currentTimeMillis() + 60_000);
    }

    private static List<String> find(DefaultMQProducer producer, String topic, String key, int most, long begin,
        long end) throws Exception {
        try {
            QueryResult result = producer.queryMessage(topic, key, most, begin, end);
            return result.getMessageList().stream().map(MessageExt::getKeys).toList();
        } catch (MQClientException nothing) {
            return List.of();
        }
    }
}
