//! The broker as a client sees it, through the wire.

mod support;

use std::io::Write;
use std::time::{Duration, Instant};

use rmq_protocol::header::Codec;
use rmq_protocol::request_code::RequestCode;
use rmq_protocol::response_code::ResponseCode;
use support::{Client, Server, TempDir, send_fields};

#[test]
fn a_message_comes_back_as_it_was_sent_with_what_the_broker_adds() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    let sent =
        client.send("Plain", 1, "TAGS\u{1}A\u{2}KEYS\u{1}k1\u{2}", b"hello").expect(ResponseCode::SUCCESS);
    assert_eq!((sent.number("queueId"), sent.number("queueOffset")), (1, 0));
    assert_eq!((sent.field("MSG_REGION"), sent.field("TRACE_ON")), ("DefaultRegion", "true"));

    let pulled = client.pull("Plain", 1, 0, "*", 0).expect(ResponseCode::SUCCESS);
    assert_eq!(pulled.number("nextBeginOffset"), 1);
    assert_eq!((pulled.number("minOffset"), pulled.number("maxOffset")), (0, 1));
    let records = pulled.records();
    let record = &records[0];
    assert_eq!((record.topic(), record.queue_id(), record.body()), ("Plain", 1, &b"hello"[..]));
    assert!(record.body_is_intact());
    assert_eq!(record.born_host().port(), client.socket.local_addr().expect("bound").port());
    assert_eq!(record.store_host().port(), server.broker_port);
    let properties = record.properties();
    assert_eq!(properties.find("TAGS"), Some("A"));
    assert_eq!(properties.find("CLUSTER"), Some("DefaultCluster"));
    assert_eq!(properties.find("UNIQ_KEY"), Some(sent.field("transactionId")));

    let id = sent.field("msgId");
    let offset = i64::from_str_radix(&id[16..], 16).expect("hex").to_string();
    let viewed = client
        .call(RequestCode::VIEW_MESSAGE_BY_ID, &[("offset", &offset)], b"")
        .expect(ResponseCode::SUCCESS);
    assert_eq!(viewed.body, pulled.body);
    let beside = (offset.parse::<i64>().expect("number") + 4).to_string();
    client
        .call(RequestCode::VIEW_MESSAGE_BY_ID, &[("offset", &beside)], b"")
        .expect(ResponseCode::SYSTEM_ERROR);
}

#[test]
fn binary_requests_get_binary_answers() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    client.codec = Codec::Binary;
    let sent = client.send("Binary", 0, "", b"x").expect(ResponseCode::SUCCESS);
    assert_eq!(sent.codec, Codec::Binary);
    assert_eq!(client.pull("Binary", 0, 0, "*", 0).expect(ResponseCode::SUCCESS).codec, Codec::Binary);
}

#[test]
fn a_batch_is_stored_message_by_message() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &["flushDiskType=SYNC_FLUSH"]);
    let mut client = server.connect();
    client.send("Batch", 0, "", b"creates the topic").expect(ResponseCode::SUCCESS);
    let mut body = Vec::new();
    for n in 0..5u8 {
        let entry = rmq_protocol::batch::BatchEntry {
            flag: i32::from(n),
            body: &[n; 10],
            properties: rmq_protocol::properties::Properties(b"TAGS\x01A\x02"),
        };
        entry.push_to(&mut body);
    }
    let mut fields = send_fields("Batch", "0", "");
    fields[12] = ("m", "true");
    let sent = client.call(RequestCode::SEND_BATCH_MESSAGE, &fields, &body).expect(ResponseCode::SUCCESS);
    assert_eq!(sent.number("queueOffset"), 1);
    assert_eq!(sent.field("msgId").split(',').count(), 5);
    let pulled = client.pull("Batch", 0, 1, "A", 0).expect(ResponseCode::SUCCESS);
    let flags: Vec<i32> = pulled.records().iter().map(|record| record.flag()).collect();
    assert_eq!(flags, [0, 1, 2, 3, 4]);
    let mut delayed = fields;
    delayed[8] = ("i", "DELAY\u{1}1\u{2}");
    client.call(RequestCode::SEND_BATCH_MESSAGE, &delayed, &body).expect(ResponseCode::MESSAGE_ILLEGAL);
    body.truncate(body.len() - 1);
    client.call(RequestCode::SEND_BATCH_MESSAGE, &fields, &body).expect(ResponseCode::MESSAGE_ILLEGAL);
}

#[test]
fn refusals_are_javas() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &["maxMessageSize=4096"]);
    let mut client = server.connect();
    client.send("Known", 0, "", b"x").expect(ResponseCode::SUCCESS);
    client.send("Known", 9, "", b"x").expect(ResponseCode::INVALID_PARAMETER);
    client.send("not legal!", 0, "", b"x").expect(ResponseCode::INVALID_PARAMETER);
    client.send("SCHEDULE_TOPIC_XXXX", 0, "", b"x").expect(ResponseCode::NO_PERMISSION);
    client.send("Known", 0, "", &[0; 4097]).expect(ResponseCode::MESSAGE_ILLEGAL);
    let long = format!("K\u{1}{}\u{2}", "v".repeat(32_700));
    client.send("Known", 0, &long, b"x").expect(ResponseCode::MESSAGE_ILLEGAL);
    client.send("Known", 0, "TIMER_DELAY_SEC\u{1}999999\u{2}", b"x").expect(ResponseCode::MESSAGE_ILLEGAL);
    let answer = client.call(RequestCode(54_321), &[], b"").expect(ResponseCode::REQUEST_CODE_NOT_SUPPORTED);
    assert_eq!(answer.remark, " request type 54321 not supported");
    let mut fields = send_fields("Unknown", "0", "");
    fields[2] = ("c", "NoSuchDefault");
    client.call(RequestCode::SEND_MESSAGE_V2, &fields, b"x").expect(ResponseCode::TOPIC_NOT_EXIST);
    client.pull("Unknown", 0, 0, "*", 0).expect(ResponseCode::TOPIC_NOT_EXIST);
    client.pull("Known", 17, 0, "*", 0).expect(ResponseCode::INVALID_PARAMETER);
    client.call(RequestCode::PULL_MESSAGE, &[("topic", "Known")], b"").expect(ResponseCode::SYSTEM_ERROR);
    assert_eq!(client.drain("Known", 0).len(), 1, "nothing refused was stored");
}

#[test]
fn garbage_closes_its_connection_and_disturbs_nobody() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut other = server.connect();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64], &[0, 0, 0, 8, 9, 0, 0, 4, 1, 2, 3, 4]] {
        let mut client = server.connect();
        client.socket.write_all(garbage).expect("sent");
        assert!(client.next().is_none(), "closed");
    }
    other.send("Undisturbed", 0, "", b"x").expect(ResponseCode::SUCCESS);
}

#[test]
fn tags_filter_and_long_polls_wake_only_for_their_own() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut producer = server.connect();
    producer.send("Tags", 0, "TAGS\u{1}A\u{2}", b"a").expect(ResponseCode::SUCCESS);
    let mut consumer = server.connect();
    let none = consumer.pull("Tags", 0, 0, "B", 0).expect(ResponseCode::PULL_RETRY_IMMEDIATELY);
    assert_eq!(none.number("nextBeginOffset"), 1);

    let began = Instant::now();
    consumer.post_pull("Tags", 0, 1, "B", 20_000);
    std::thread::sleep(Duration::from_millis(200));
    producer.send("Tags", 0, "TAGS\u{1}A\u{2}", b"not for B").expect(ResponseCode::SUCCESS);
    producer.send("Tags", 0, "TAGS\u{1}B\u{2}", b"for B").expect(ResponseCode::SUCCESS);
    let woken = consumer.next().expect("an answer").expect(ResponseCode::SUCCESS);
    assert_eq!(woken.records()[0].body(), b"for B");
    assert!(began.elapsed() < Duration::from_secs(10), "woken by the message, not by the time-out");

    let began = Instant::now();
    consumer.pull("Tags", 0, 3, "*", 600).expect(ResponseCode::PULL_NOT_FOUND);
    assert!(began.elapsed() >= Duration::from_millis(600));
}

#[test]
fn offsets_outside_the_queue_are_corrected() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    client.send("Offsets", 0, "", b"x").expect(ResponseCode::SUCCESS);
    let moved = client.pull("Offsets", 0, 50, "*", 0).expect(ResponseCode::PULL_OFFSET_MOVED);
    assert_eq!((moved.number("nextBeginOffset"), moved.remark.as_str()), (1, "OFFSET_OVERFLOW_BADLY"));
    client.pull("Offsets", 2, 0, "*", 0).expect(ResponseCode::PULL_NOT_FOUND);
    client.pull("Offsets", 2, 3, "*", 0).expect(ResponseCode::PULL_OFFSET_MOVED);

    let queue = [("topic", "Offsets"), ("queueId", "0")];
    let max = client.call(RequestCode::GET_MAX_OFFSET, &queue, b"").expect(ResponseCode::SUCCESS);
    assert_eq!(max.number("offset"), 1);
    let group = [("consumerGroup", "fresh"), ("topic", "Offsets"), ("queueId", "0")];
    let young = client.call(RequestCode::QUERY_CONSUMER_OFFSET, &group, b"").expect(ResponseCode::SUCCESS);
    assert_eq!(young.number("offset"), 0, "a new group begins a young queue at its first message");
    let empty = [("consumerGroup", "fresh"), ("topic", "Offsets"), ("queueId", "2")];
    client.call(RequestCode::QUERY_CONSUMER_OFFSET, &empty, b"").expect(ResponseCode::QUERY_NOT_FOUND);
    let early = [("topic", "Offsets"), ("queueId", "0"), ("timestamp", "0")];
    let found =
        client.call(RequestCode::SEARCH_OFFSET_BY_TIMESTAMP, &early, b"").expect(ResponseCode::SUCCESS);
    assert_eq!(found.number("offset"), 0);
}

#[test]
fn messages_topics_and_offsets_survive_kill_9_and_an_orderly_stop() {
    let dir = TempDir::new();
    let settings = ["flushDiskType=SYNC_FLUSH", "rmq.shards=2", "flushConsumerOffsetInterval=200"];
    let mut server = Server::start(dir.path(), &settings);
    let mut expected = Vec::new();
    for round in 0..4 {
        let mut client = server.connect();
        for n in 0..50i64 {
            let body = format!("{round}-{n}").into_bytes();
            let sent = client.send("Durable", (n % 4) as i32, "", &body).expect(ResponseCode::SUCCESS);
            expected.push((n % 4, sent.number("queueOffset"), body));
        }
        client.pull("Durable", 0, 0, "*", 0).expect(ResponseCode::SUCCESS);
        let commit =
            [("consumerGroup", "test-group"), ("topic", "Durable"), ("queueId", "3"), ("commitOffset", "7")];
        client.call(RequestCode::UPDATE_CONSUMER_OFFSET, &commit, b"").expect(ResponseCode::SUCCESS);
        std::thread::sleep(Duration::from_millis(700));
        server = if round % 2 == 0 { server.kill_and_restart() } else { server.stop_and_restart() };

        let mut client = server.connect();
        for queue in 0..4 {
            let found = client.drain("Durable", queue);
            let sent: Vec<(i64, Vec<u8>)> = expected
                .iter()
                .filter(|(id, ..)| *id == i64::from(queue))
                .map(|(_, offset, body)| (*offset, body.clone()))
                .collect();
            assert_eq!(found, sent, "queue {queue} after round {round}");
        }
        let query = [("consumerGroup", "test-group"), ("topic", "Durable"), ("queueId", "3")];
        let offset =
            client.call(RequestCode::QUERY_CONSUMER_OFFSET, &query, b"").expect(ResponseCode::SUCCESS);
        assert_eq!(offset.number("offset"), 7);
    }
    assert!(server.stop() < Duration::from_secs(5));
}

#[test]
fn two_shards_answer_every_request_of_a_pipeline_in_queue_order() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &["rmq.shards=2"]);
    let mut client = server.connect();
    client.send("Pipeline", 0, "", b"first").expect(ResponseCode::SUCCESS);
    let mut asked = std::collections::BTreeMap::new();
    for n in 0..1_000i64 {
        let queue = (n % 4).to_string();
        let opaque =
            client.post(RequestCode::SEND_MESSAGE_V2, &send_fields("Pipeline", &queue, ""), &n.to_be_bytes());
        asked.insert(opaque, n);
    }
    for _ in 0..1_000 {
        let answer = client.next().expect("an answer").expect(ResponseCode::SUCCESS);
        asked.remove(&answer.opaque).expect("answered once");
    }
    assert!(asked.is_empty());
    for queue in 0..4 {
        let bodies: Vec<Vec<u8>> =
            client.drain("Pipeline", queue).into_iter().map(|(_, body)| body).collect();
        let numbers: Vec<i64> =
            bodies.iter().filter_map(|body| body.first_chunk()).map(|b| i64::from_be_bytes(*b)).collect();
        assert!(numbers.is_sorted(), "queue {queue} keeps the order of its connection");
    }
}

#[test]
fn a_delayed_message_comes_later_and_a_failed_one_comes_back() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &["rmq.shards=2", "messageDelayLevel=1s 2s"]);
    let mut client = server.connect();
    client.send("Later", 0, "", b"now").expect(ResponseCode::SUCCESS);
    let began = Instant::now();
    client.send("Later", 0, "DELAY\u{1}1\u{2}TAGS\u{1}T\u{2}", b"later").expect(ResponseCode::SUCCESS);
    let late = client.pull("Later", 0, 1, "T", 10_000).expect(ResponseCode::SUCCESS);
    assert!(began.elapsed() >= Duration::from_millis(950), "{:?}", began.elapsed());
    assert_eq!(late.records()[0].body(), b"later");
    assert_eq!(late.records()[0].properties().find("REAL_TOPIC"), Some("Later"));

    let failed = client.pull("Later", 0, 0, "*", 0).expect(ResponseCode::SUCCESS);
    let offset = failed.records()[0].physical_offset().to_string();
    let back = [
        ("offset", offset.as_str()),
        ("group", "test-group"),
        ("delayLevel", "1"),
        ("maxReconsumeTimes", "3"),
    ];
    client.call(RequestCode::CONSUMER_SEND_MSG_BACK, &back, b"").expect(ResponseCode::SUCCESS);
    let again = client.pull("%RETRY%test-group", 0, 0, "*", 10_000).expect(ResponseCode::SUCCESS);
    let records = again.records();
    assert_eq!((records[0].body(), records[0].reconsume_times()), (&b"now"[..], 1));
    assert_eq!(records[0].properties().find("RETRY_TOPIC"), Some("Later"));

    let dead = [("offset", offset.as_str()), ("group", "test-group"), ("delayLevel", "-1")];
    client.call(RequestCode::CONSUMER_SEND_MSG_BACK, &dead, b"").expect(ResponseCode::SUCCESS);
    let buried = client.pull("%DLQ%test-group", 0, 0, "*", 0).expect(ResponseCode::SUCCESS);
    assert_eq!(buried.records()[0].body(), b"now");
    let nowhere = [("offset", "999999"), ("group", "test-group"), ("delayLevel", "1")];
    client.call(RequestCode::CONSUMER_SEND_MSG_BACK, &nowhere, b"").expect(ResponseCode::SYSTEM_ERROR);
}

#[test]
fn a_deleted_topic_begins_anew() {
    let dir = TempDir::new();
    let mut server = Server::start(dir.path(), &["rmq.shards=2"]);
    let mut client = server.connect();
    for queue in 0..4 {
        client.send("Again", queue, "", b"old").expect(ResponseCode::SUCCESS);
    }
    client
        .call(RequestCode::DELETE_TOPIC_IN_BROKER, &[("topic", "Again")], b"")
        .expect(ResponseCode::SUCCESS);
    client.pull("Again", 0, 0, "*", 0).expect(ResponseCode::TOPIC_NOT_EXIST);
    let sent = client.send("Again", 0, "", b"new").expect(ResponseCode::SUCCESS);
    assert_eq!(sent.number("queueOffset"), 0);
    server = server.kill_and_restart();
    let mut client = server.connect();
    assert_eq!(client.drain("Again", 0), [(0, b"new".to_vec())]);
    assert_eq!(client.drain("Again", 1), []);
}

#[test]
fn a_oneway_send_is_stored_and_not_answered() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    client.send("Oneway", 0, "", b"first").expect(ResponseCode::SUCCESS);
    let mut frame = Vec::new();
    let mut writer = rmq_protocol::writer::FrameWriter::request(
        &mut frame,
        Codec::Json,
        RequestCode::SEND_MESSAGE_V2,
        77,
        true,
    );
    for (name, value) in send_fields("Oneway", "0", "") {
        writer = writer.field(name, value);
    }
    writer.body(b"second");
    client.socket.write_all(&frame).expect("sent");
    let pulled = client.pull("Oneway", 0, 1, "*", 5_000).expect(ResponseCode::SUCCESS);
    assert_eq!(pulled.records()[0].body(), b"second");
}

#[test]
fn the_fast_port_serves_sends_and_no_pulls() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut fast = Client::connect(server.broker_port - 2);
    fast.send("Fast", 0, "", b"x").expect(ResponseCode::SUCCESS);
    fast.pull("Fast", 0, 0, "*", 0).expect(ResponseCode::REQUEST_CODE_NOT_SUPPORTED);
}

#[test]
fn a_large_message_crosses_read_batches() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    let body: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    client.send("Large", 0, "", &body).expect(ResponseCode::SUCCESS);
    let pulled = client.pull("Large", 0, 0, "*", 0).expect(ResponseCode::SUCCESS);
    assert_eq!(pulled.records()[0].body(), body);
}
