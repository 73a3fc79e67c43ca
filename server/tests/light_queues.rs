//! Light queues (LMQ): one message in several queues, none of which is configured.

mod support;

use rmq_protocol::properties::name;
use rmq_protocol::request_code::RequestCode;
use rmq_protocol::response_code::ResponseCode;
use support::{Answer, Client, Server, TempDir};

const ON: &[&str] = &["enableLmq=true", "enableMultiDispatch=true", "rmq.shards=3"];

fn send(client: &mut Client, names: &str, body: &str) -> Answer {
    let properties = format!("INNER_MULTI_DISPATCH\u{1}{names}\u{2}UNIQ_KEY\u{1}U{body}\u{2}TAGS\u{1}t\u{2}");
    client.send("Parent", 1, &properties, body.as_bytes())
}

fn bodies(client: &mut Client, topic: &str, queue: i32) -> Vec<(i64, String)> {
    let text = |(offset, body): (i64, Vec<u8>)| (offset, String::from_utf8(body).unwrap());
    client.drain(topic, queue).into_iter().map(text).collect()
}

fn offset(client: &mut Client, code: RequestCode, topic: &str) -> i64 {
    client
        .call(code, &[("topic", topic), ("queueId", "0")], b"")
        .expect(ResponseCode::SUCCESS)
        .number("offset")
}

fn property(answer: &Answer, record: usize, name: &str) -> String {
    answer.records()[record].properties().find(name).unwrap_or_default().to_owned()
}

#[test]
fn a_message_is_in_its_topic_and_in_each_light_queue() {
    let dir = TempDir::new();
    let mut server = Server::start(dir.path(), ON);
    let mut client = server.connect();
    send(&mut client, "%LMQ%a,%LMQ%b", "0").expect(ResponseCode::SUCCESS);
    send(&mut client, "%LMQ%b", "1").expect(ResponseCode::SUCCESS);
    let third =
        send(&mut client, "%LMQ%b,nonsense,%LMQ%a,%LMQ%x/y,%LMQ%c", "2").expect(ResponseCode::SUCCESS);
    assert_eq!(third.number("queueOffset"), 2, "the answer is about the topic's queue");
    for restarted in [false, true] {
        if restarted {
            server = server.kill_and_restart();
            client = server.connect();
        }
        let text =
            |all: &[(i64, &str)]| all.iter().map(|(n, body)| (*n, (*body).to_owned())).collect::<Vec<_>>();
        assert_eq!(bodies(&mut client, "Parent", 1), text(&[(0, "0"), (1, "1"), (2, "2")]));
        assert_eq!(bodies(&mut client, "%LMQ%a", 0), text(&[(0, "0"), (1, "2")]));
        assert_eq!(bodies(&mut client, "%LMQ%b", 0), text(&[(0, "0"), (1, "1"), (2, "2")]));
        assert_eq!(bodies(&mut client, "%LMQ%c", 0), text(&[(0, "2")]));
        assert_eq!(bodies(&mut client, "%LMQ%x/y", 0), []);
        assert_eq!(offset(&mut client, RequestCode::GET_MAX_OFFSET, "%LMQ%b"), 3);
        assert_eq!(offset(&mut client, RequestCode::GET_MIN_OFFSET, "%LMQ%b"), 0);
    }

    let parent = client.pull("Parent", 1, 2, "*", 0).expect(ResponseCode::SUCCESS);
    assert_eq!(property(&parent, 0, name::INNER_MULTI_DISPATCH), "%LMQ%b,nonsense,%LMQ%a,%LMQ%x/y,%LMQ%c");
    assert_eq!(property(&parent, 0, name::INNER_MULTI_QUEUE_OFFSET), "2,,1,,0");
    let copy = client.pull("%LMQ%a", 0, 1, "t", 0).expect(ResponseCode::SUCCESS);
    assert_eq!(property(&copy, 0, name::INNER_MULTI_DISPATCH), "%LMQ%a");
    assert_eq!(property(&copy, 0, name::INNER_MULTI_QUEUE_OFFSET), "1");
    assert_eq!(property(&copy, 0, name::UNIQ_KEY), "U2");
    assert_eq!((copy.records()[0].topic(), copy.records()[0].queue_id()), ("Parent", 1));
    client.pull("%LMQ%a", 0, 0, "other", 0).expect(ResponseCode::PULL_RETRY_IMMEDIATELY);

    // A query by key finds the message once, also after the log was read again.
    let fields = [
        ("topic", "Parent"),
        ("key", "U2"),
        ("maxNum", "9"),
        ("beginTimestamp", "0"),
        ("endTimestamp", "9999999999999"),
    ];
    assert_eq!(client.call(RequestCode::QUERY_MESSAGE, &fields, b"").records().len(), 1);
}

#[test]
fn consumers_of_light_queues_commit_wait_and_need_no_configuration() {
    let dir = TempDir::new();
    let mut server = Server::start(dir.path(), ON);
    let mut client = server.connect();
    let place = [("consumerGroup", "%LMQ%reader"), ("topic", "%LMQ%a"), ("queueId", "0")];
    send(&mut client, "%LMQ%a", "0").expect(ResponseCode::SUCCESS);
    let commit = [place[0], place[1], place[2], ("commitOffset", "1")];
    client.call(RequestCode::UPDATE_CONSUMER_OFFSET, &commit, b"").expect(ResponseCode::SUCCESS);
    server = server.stop_and_restart();
    let mut client = server.connect();
    let found = client.call(RequestCode::QUERY_CONSUMER_OFFSET, &place, b"").expect(ResponseCode::SUCCESS);
    assert_eq!(found.number("offset"), 1);

    // A held pull is answered by the copy.
    let opaque = client.post_pull("%LMQ%a", 0, 1, "*", 10_000);
    let mut producer = server.connect();
    std::thread::sleep(std::time::Duration::from_millis(100));
    send(&mut producer, "%LMQ%a", "1").expect(ResponseCode::SUCCESS);
    let answer = client.next().expect("an answer");
    assert_eq!((answer.opaque, answer.records()[0].body()), (opaque, &b"1"[..]));
}

#[test]
fn light_queues_have_bounds() {
    let dir = TempDir::new();
    let server = Server::start(
        dir.path(),
        &["enableLmq=true", "enableMultiDispatch=true", "maxLmqConsumeQueueNum=3", "rmq.shards=1"],
    );
    let mut client = server.connect();
    send(&mut client, "%LMQ%a,%LMQ%b,%LMQ%c", "0").expect(ResponseCode::SUCCESS);
    let refused = send(&mut client, "%LMQ%a,%LMQ%d", "1").expect(ResponseCode::SYSTEM_ERROR);
    assert!(refused.remark.starts_with("[LMQ_CONSUME_QUEUE_NUM_EXCEEDED]"), "{}", refused.remark);
    send(&mut client, "%LMQ%c", "2").expect(ResponseCode::SUCCESS);
    client.pull("%LMQ%e", 0, 0, "*", 0).expect(ResponseCode::TOPIC_NOT_EXIST);
    let many: Vec<String> = (0..129).map(|n| format!("%LMQ%{n}")).collect();
    send(&mut client, &many.join(","), "3").expect(ResponseCode::MESSAGE_ILLEGAL);
}

/// Many producers at once: a light queue's order is the order of its offsets, and no acknowledged message is missing.
#[test]
fn a_kill_loses_nothing_acknowledged() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), ON);
    let port = server.broker_port;
    let senders: Vec<_> = (0..3)
        .map(|sender| {
            std::thread::spawn(move || {
                let mut client = Client::connect(port);
                for n in 0..100 {
                    send(&mut client, "%LMQ%a,%LMQ%b", &format!("{sender}-{n}"))
                        .expect(ResponseCode::SUCCESS);
                }
            })
        })
        .collect();
    for sender in senders {
        sender.join().unwrap();
    }
    let server = server.kill_and_restart();
    let mut client = server.connect();
    let parent: Vec<String> = bodies(&mut client, "Parent", 1).into_iter().map(|(_, body)| body).collect();
    assert_eq!(parent.len(), 300);
    for light in ["%LMQ%a", "%LMQ%b"] {
        let found: Vec<String> = bodies(&mut client, light, 0).into_iter().map(|(_, body)| body).collect();
        assert_eq!(found, parent, "the same messages in the same order");
    }
}

#[test]
fn without_the_switch_the_property_means_nothing() {
    let dir = TempDir::new();
    for settings in [&[][..], &["enableLmq=true"], &["enableMultiDispatch=true"]] {
        let server = Server::start(dir.path(), settings);
        let mut client = server.connect();
        send(&mut client, "%LMQ%a", "0").expect(ResponseCode::SUCCESS);
        let is_on = settings == ["enableLmq=true"];
        let expected = if is_on { ResponseCode::PULL_NOT_FOUND } else { ResponseCode::TOPIC_NOT_EXIST };
        client.pull("%LMQ%a", 0, 0, "*", 0).expect(expected);
        drop(server);
    }
}
