//! Edges that went wrong once, each with its story.

mod support;

use std::time::{Duration, Instant};

use rmq_protocol::request_code::RequestCode;
use rmq_protocol::response_code::ResponseCode;
use support::{Server, TempDir, send_fields};

/// Delay adds REAL_TOPIC and REAL_QID. A message whose properties were just legal before was encoded with
/// more than a record can hold, and the broker ended.
#[test]
fn a_delayed_message_with_nearly_full_properties_is_refused() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    client.send("Full", 0, "", b"x").expect(ResponseCode::SUCCESS);
    let mut refused = 0;
    for len in 32_400..32_767 {
        let properties = format!("DELAY\u{1}1\u{2}UNIQ_KEY\u{1}1\u{2}K\u{1}{}\u{2}", "v".repeat(len));
        let answer = client.send("Full", 0, &properties, b"x");
        match answer.code {
            ResponseCode::SUCCESS => assert_eq!(refused, 0, "longer is not more legal"),
            ResponseCode::MESSAGE_ILLEGAL => refused += 1,
            _ => panic!("{answer:?}"),
        }
        if refused > 50 {
            break;
        }
    }
    assert!(refused > 50);
    client.send("Full", 0, "", b"still there").expect(ResponseCode::SUCCESS);
}

/// One commit for queue 4,194,303 filled the table of offsets, in memory and in the file.
#[test]
fn an_absurd_queue_id_in_a_commit_is_refused() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    client.send("Commits", 0, "", b"x").expect(ResponseCode::SUCCESS);
    client.pull("Commits", 0, 0, "*", 0).expect(ResponseCode::SUCCESS);
    for (queue, code) in [
        ("4194303", ResponseCode::INVALID_PARAMETER),
        ("-1", ResponseCode::INVALID_PARAMETER),
        ("0", ResponseCode::SUCCESS),
    ] {
        let commit = [
            ("consumerGroup", "test-group"),
            ("topic", "Commits"),
            ("queueId", queue),
            ("commitOffset", "1"),
        ];
        client.call(RequestCode::UPDATE_CONSUMER_OFFSET, &commit, b"").expect(code);
    }
}

/// A client's own retry send past the limit belongs into the dead-letter topic, which nobody had created.
#[test]
fn a_retry_send_past_the_limit_creates_the_dead_letter_topic() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &["rmq.shards=2"]);
    let mut client = server.connect();
    let mut fields = send_fields("%RETRY%buried", "0", "DELAY\u{1}1\u{2}");
    fields[9] = ("j", "17");
    let sent = client.call(RequestCode::SEND_MESSAGE_V2, &fields, b"done with");
    sent.expect(ResponseCode::SUCCESS);
    let found = client.pull("%DLQ%buried", 0, 0, "*", 5_000).expect(ResponseCode::SUCCESS);
    assert_eq!(found.records()[0].body(), b"done with");
}

/// A group that the broker has never heard of may send back, as its first word.
#[test]
fn a_send_back_creates_its_group() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &["messageDelayLevel=1s"]);
    let mut client = server.connect();
    client.send("Back", 0, "", b"again").expect(ResponseCode::SUCCESS);
    let pulled = client.pull("Back", 0, 0, "*", 0).expect(ResponseCode::SUCCESS);
    let offset = pulled.records()[0].physical_offset().to_string();
    let back = [("offset", offset.as_str()), ("group", "unheard-of"), ("delayLevel", "0")];
    client.call(RequestCode::CONSUMER_SEND_MSG_BACK, &back, b"").expect(ResponseCode::SUCCESS);
    let again = client.pull("%RETRY%unheard-of", 0, 0, "*", 10_000).expect(ResponseCode::SUCCESS);
    assert_eq!(again.records()[0].body(), b"again");
}

/// The retry topic of a group that cannot exist: the send waited for the group, then for the topic, then for the
/// group again, without end.
#[test]
fn a_retry_send_of_an_impossible_group_is_refused() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &["autoCreateSubscriptionGroup=false"]);
    let mut client = server.connect();
    client.send("%RETRY%nobody", 0, "", b"x").expect(ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST);
    client.send("%RETRY%", 0, "", b"x").expect(ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST);
    client.send("Other", 0, "", b"goes on").expect(ResponseCode::SUCCESS);
}

/// Offsets committed just before an orderly stop were forgotten by it.
#[test]
fn an_orderly_stop_forgets_no_commit() {
    let dir = TempDir::new();
    let mut server = Server::start(dir.path(), &["rmq.shards=2", "flushConsumerOffsetInterval=600000"]);
    let mut client = server.connect();
    client.send("Commits", 0, "", b"x").expect(ResponseCode::SUCCESS);
    client.pull("Commits", 0, 0, "*", 0).expect(ResponseCode::SUCCESS);
    for queue in ["0", "1", "2", "3"] {
        let commit = [
            ("consumerGroup", "test-group"),
            ("topic", "Commits"),
            ("queueId", queue),
            ("commitOffset", "9"),
        ];
        client.call(RequestCode::UPDATE_CONSUMER_OFFSET, &commit, b"").expect(ResponseCode::SUCCESS);
    }
    server = server.stop_and_restart();
    let mut client = server.connect();
    for queue in ["0", "1", "2", "3"] {
        let query = [("consumerGroup", "test-group"), ("topic", "Commits"), ("queueId", queue)];
        let found =
            client.call(RequestCode::QUERY_CONSUMER_OFFSET, &query, b"").expect(ResponseCode::SUCCESS);
        assert_eq!(found.number("offset"), 9);
    }
}

/// A consumer that wants only tag B sleeps through any number of As, but not past the end of the queue.
#[test]
fn a_held_pull_is_carried_past_messages_it_does_not_want() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut producer = server.connect();
    producer.send("Past", 0, "TAGS\u{1}A\u{2}", b"a").expect(ResponseCode::SUCCESS);
    let mut consumer = server.connect();
    consumer.pull("Past", 0, 0, "B", 0).expect(ResponseCode::PULL_RETRY_IMMEDIATELY);
    let began = Instant::now();
    consumer.post_pull("Past", 0, 1, "B", 60_000);
    for _ in 0..10 {
        producer.send("Past", 0, "TAGS\u{1}A\u{2}", b"a").expect(ResponseCode::SUCCESS);
    }
    let carried = consumer.next().expect("an answer").expect(ResponseCode::PULL_RETRY_IMMEDIATELY);
    assert_eq!(carried.number("nextBeginOffset"), 11);
    assert!(began.elapsed() < Duration::from_secs(20), "long before the hold ends");
}

/// A frame marked as a response once ran as the request of its code.
#[test]
fn a_response_that_nobody_waits_for_does_nothing() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    let mut frame = Vec::new();
    rmq_protocol::writer::FrameWriter::response(
        &mut frame,
        rmq_protocol::header::Codec::Json,
        ResponseCode(RequestCode::DELETE_TOPIC_IN_BROKER.0),
        1,
    )
    .field("topic", "Kept")
    .finish();
    client.send("Kept", 0, "", b"x").expect(ResponseCode::SUCCESS);
    std::io::Write::write_all(&mut client.socket, &frame).expect("sent");
    client.send("Kept", 0, "", b"y").expect(ResponseCode::SUCCESS);
    assert_eq!(client.drain("Kept", 0).len(), 2);
}
