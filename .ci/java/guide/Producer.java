import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
public class Producer {
public static void main(String[] args) throws Exception {
// 实例化生产者
DefaultMQProducer producer = new DefaultMQProducer("ProducerGroup");
// 指定NameServer地址
producer.setNamesrvAddr("NameServerAddress:Port");
// 启动生产者
producer.start();
// 发送消息
Message msg = new Message("TopicTest",
"TagA",
"Hello RocketMQ".getBytes());
// 发送消息并返回发送结果
producer.send(msg);
// 关闭生产者
producer.shutdown();
}
}
