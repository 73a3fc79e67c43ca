//! Transactions: a committed message is seen once, a rolled back one never, and who says nothing is asked.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rmq_engine::env::uring::UringEnv;
use rmq_engine::{RecordPlan, Shard, Store, StoreOptions};
use rmq_protocol::message_id::MessageId;
use rmq_protocol::properties::PropertiesSource;
use rmq_protocol::record::{self, RecordFields, RecordRef};
use rmq_protocol::request_code::RequestCode;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::tag::tags_code;
use rmq_protocol::text::Text;
use rmq_server::broker::store::MessageSchema;
use support::{Answer, Client, Server, TempDir, send_fields};

const TOPIC: &str = "Paid";
const HALF: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
const OP: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
const ASIDE: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
const COMMIT: &str = "8";
const ROLLBACK: &str = "12";
/// Producers are asked at once.
const EAGER: &[&str] = &["transactionTimeOut=100", "transactionCheckInterval=200"];

/// A half message where the broker says that it is.
#[derive(Clone, Debug)]
struct Place {
    key: String,
    half: String,
    physical: String,
}

impl Place {
    fn of(key: &str, sent: &Answer) -> Self {
        let id = MessageId::parse(sent.field("msgId")).expect("an offset id");
        assert_eq!(sent.field("transactionId"), key);
        Self {
            key: key.to_owned(),
            half: sent.field("queueOffset").to_owned(),
            physical: id.physical_offset.to_string(),
        }
    }

    /// What a check asks about.
    fn asked(check: &Answer) -> Self {
        assert_eq!((check.code.0, check.is_response), (RequestCode::CHECK_TRANSACTION_STATE.0, false));
        assert_eq!(check.field("topic"), HALF);
        Self {
            key: check.field("transactionId").to_owned(),
            half: check.field("tranStateTableOffset").to_owned(),
            physical: check.field("commitLogOffset").to_owned(),
        }
    }
}

fn half_properties(key: &str, more: &str) -> String {
    format!("TRAN_MSG\u{1}true\u{2}PGROUP\u{1}payers\u{2}UNIQ_KEY\u{1}{key}\u{2}{more}")
}

fn send_half(client: &mut Client, queue: i32, key: &str, more: &str) -> Place {
    let queue = queue.to_string();
    let properties = half_properties(key, more);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let born = now.to_string();
    let mut fields = send_fields(TOPIC, &queue, &properties);
    for (name, value) in &mut fields {
        match *name {
            "f" => *value = "4",
            "g" => *value = &born,
            _ => {}
        }
    }
    let sent = client.call(RequestCode::SEND_MESSAGE_V2, &fields, key.as_bytes());
    assert_eq!(sent.field("queueId"), queue);
    Place::of(key, &sent.expect(ResponseCode::SUCCESS))
}

fn end_fields<'a>(place: &'a Place, outcome: &'a str, group: &'a str) -> [(&'a str, &'a str); 7] {
    [
        ("producerGroup", group),
        ("tranStateTableOffset", &place.half),
        ("commitLogOffset", &place.physical),
        ("commitOrRollback", outcome),
        ("fromTransactionCheck", "false"),
        ("msgId", &place.key),
        ("transactionId", &place.key),
    ]
}

fn end(client: &mut Client, place: &Place, outcome: &str) -> Answer {
    client.call(RequestCode::END_TRANSACTION, &end_fields(place, outcome, "payers"), b"")
}

fn bodies(client: &mut Client, topic: &str, queue: i32) -> Vec<String> {
    let found = client.drain(topic, queue);
    found.into_iter().map(|(_, body)| String::from_utf8(body).expect("text")).collect()
}

/// Heartbeat of a producer of the group.
fn produce(client: &mut Client) {
    let body = br#"{"clientID":"p@1","producerDataSet":[{"groupName":"payers"}],"consumerDataSet":[]}"#;
    client.call(RequestCode::HEART_BEAT, &[], body).expect(ResponseCode::SUCCESS);
}

fn next_check(client: &mut Client) -> Answer {
    let check = client.next().expect("a check");
    assert!(!check.is_response);
    check
}

/// Waits until the queue holds `count` messages.
fn await_messages(client: &mut Client, topic: &str, count: usize) -> Vec<String> {
    let began = Instant::now();
    loop {
        // The topic of what was set aside comes into being with the first.
        let exists = client.pull(topic, 0, 0, "*", 0).code != ResponseCode::TOPIC_NOT_EXIST;
        let found = if exists { bodies(client, topic, 0) } else { Vec::new() };
        if found.len() >= count || began.elapsed() > Duration::from_secs(20) {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_committed_message_is_seen_once_and_a_rolled_back_one_never() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    client.send(TOPIC, 0, "", b"plain").expect(ResponseCode::SUCCESS);
    let paid = send_half(&mut client, 0, "paid", "TAGS\u{1}red\u{2}");
    let failed = send_half(&mut client, 0, "failed", "");
    assert_eq!(bodies(&mut client, TOPIC, 0), ["plain"]);
    assert_eq!(bodies(&mut client, HALF, 0), ["paid", "failed"]);

    end(&mut client, &paid, COMMIT).expect(ResponseCode::SUCCESS);
    end(&mut client, &failed, ROLLBACK).expect(ResponseCode::SUCCESS);
    assert_eq!(bodies(&mut client, TOPIC, 0), ["plain", "paid"]);
    let pulled = client.pull(TOPIC, 0, 1, "red", 0);
    let record = pulled.records()[0];
    assert_eq!((record.sys_flag() & 0xC, record.queue_id(), record.topic()), (8, 0, TOPIC));
    assert_eq!(record.prepared_transaction_offset().to_string(), paid.physical);
    let properties = record.properties();
    for (key, value) in [("REAL_TOPIC", TOPIC), ("REAL_QID", "0"), ("TRAN_MSG", "true"), ("PGROUP", "payers")]
    {
        assert_eq!(properties.find(key), Some(value));
    }
    assert_eq!(properties.find("__transactionId__"), Some("paid"));

    // Once more, and the other way round.
    let began = Instant::now();
    end(&mut client, &paid, COMMIT).expect(ResponseCode::SUCCESS);
    end(&mut client, &failed, ROLLBACK).expect(ResponseCode::SUCCESS);
    assert!(began.elapsed() < Duration::from_secs(2), "what is on disk already waits for nothing");
    assert!(
        end(&mut client, &paid, ROLLBACK).expect(ResponseCode::SYSTEM_ERROR).remark.contains("committed")
    );
    assert!(
        end(&mut client, &failed, COMMIT).expect(ResponseCode::SYSTEM_ERROR).remark.contains("rolled back")
    );
    assert_eq!(bodies(&mut client, TOPIC, 0), ["plain", "paid"]);
    assert_eq!(bodies(&mut client, OP, 0), ["0,", "1,"]);
}

#[test]
fn an_end_that_does_not_fit_its_half_message_is_refused() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    let plain = client.send(TOPIC, 0, "", b"plain").expect(ResponseCode::SUCCESS);
    let plain = Place::of(plain.field("transactionId"), &plain);
    let place = send_half(&mut client, 0, "a", "");
    let other = send_half(&mut client, 0, "b", "");
    let remark = |client: &mut Client, place: &Place, group: &str| {
        let answer = client.call(RequestCode::END_TRANSACTION, &end_fields(place, COMMIT, group), b"");
        answer.expect(ResponseCode::SYSTEM_ERROR).remark
    };
    assert_eq!(remark(&mut client, &place, "thieves"), "The producer group wrong");
    let mixed = Place { physical: other.physical.clone(), ..place.clone() };
    assert_eq!(remark(&mut client, &mixed, "payers"), "The transaction state table offset wrong");
    for physical in ["999999999999", "-1", "1", &plain.physical] {
        let nowhere = Place { physical: physical.to_owned(), ..place.clone() };
        assert_eq!(remark(&mut client, &nowhere, "payers"), "Find prepared transaction message failed");
    }
    assert_eq!(bodies(&mut client, TOPIC, 0), ["plain"]);

    // Who does not know yet is not answered.
    client.post(RequestCode::END_TRANSACTION, &end_fields(&place, "0", "payers"), b"");
    for outcome in ["4", "99"] {
        end(&mut client, &place, outcome).expect(ResponseCode::SYSTEM_ERROR);
    }
    end(&mut client, &place, COMMIT).expect(ResponseCode::SUCCESS);
    assert_eq!(bodies(&mut client, TOPIC, 0), ["plain", "a"]);
}

#[test]
fn a_broker_that_wants_no_transactions_says_so() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &["rejectTransactionMessage=true"]);
    let refused = server.connect().send(TOPIC, 0, &half_properties("a", ""), b"a");
    assert_eq!(refused.code, ResponseCode::NO_PERMISSION);
    assert_eq!(refused.remark, "the broker[127.0.0.1] sending transaction message is forbidden");
}

#[test]
fn a_half_message_cannot_be_delayed_and_an_old_retry_is_none() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    client
        .send(TOPIC, 0, &half_properties("a", "DELAY\u{1}1\u{2}"), b"a")
        .expect(ResponseCode::MESSAGE_ILLEGAL);
    let properties = half_properties("b", "DELAY\u{1}1\u{2}");
    let mut fields = send_fields(TOPIC, "0", &properties);
    fields[9].1 = "1";
    client.call(RequestCode::SEND_MESSAGE_V2, &fields, b"b").expect(ResponseCode::SUCCESS);
    assert_eq!(await_messages(&mut client, TOPIC, 1), ["b"]);
}

#[test]
fn a_producer_is_asked_and_its_answer_counts_once() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), EAGER);
    let mut client = server.connect();
    let mut producer = server.connect();
    produce(&mut producer);
    let first = send_half(&mut client, 2, "slow", "TAGS\u{1}red\u{2}");
    let check = next_check(&mut producer);
    let copy = Place::asked(&check);
    assert_eq!((copy.key.as_str(), copy.half != first.half), ("slow", true));
    let record = check.records()[0];
    assert_eq!((record.topic(), record.queue_id(), record.body()), (TOPIC, 2, &b"slow"[..]));
    assert_eq!(record.queue_offset().to_string(), copy.half);
    assert_eq!(record.physical_offset().to_string(), copy.physical);
    let id = MessageId::parse(check.field("offsetMsgId")).expect("an offset id");
    assert_eq!(id.physical_offset.to_string(), copy.physical);
    assert_eq!(record.properties().find("TRANSACTION_CHECK_TIMES"), Some("1"));

    // No answer: asked again, about a further copy.
    let check = next_check(&mut producer);
    assert_eq!(check.records()[0].properties().find("TRANSACTION_CHECK_TIMES"), Some("2"));
    let again = Place::asked(&check);
    assert_ne!(again.half, copy.half);

    // The producer ends it by its first place, and by both copies.
    for place in [&first, &copy, &again] {
        end(&mut client, place, COMMIT).expect(ResponseCode::SUCCESS);
    }
    assert_eq!(bodies(&mut client, TOPIC, 2), ["slow"]);
    // Nobody is asked about it any more: the next question is about another.
    send_half(&mut client, 2, "other", "");
    let deadline = Instant::now() + Duration::from_secs(10);
    while Place::asked(&next_check(&mut producer)).key != "other" {
        assert!(Instant::now() < deadline, "the checks of an ended transaction go on");
    }
    for _ in 0..3 {
        assert_eq!(Place::asked(&next_check(&mut producer)).key, "other");
    }
}

#[test]
fn a_message_may_ask_for_more_time() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), EAGER);
    let mut client = server.connect();
    let mut producer = server.connect();
    produce(&mut producer);
    let began = Instant::now();
    let place = send_half(&mut client, 0, "patient", "CHECK_IMMUNITY_TIME_IN_SECONDS\u{1}2\u{2}");
    send_half(&mut client, 0, "hasty", "");
    assert_eq!(Place::asked(&next_check(&mut producer)).key, "hasty");
    assert!(began.elapsed() < Duration::from_millis(1_500), "one that waits does not hold up the others");
    while Place::asked(&next_check(&mut producer)).key != "patient" {}
    assert!(began.elapsed() >= Duration::from_secs(2));
    // Its time is over, and with it the right to end it unasked.
    end(&mut client, &place, COMMIT).expect(ResponseCode::ILLEGAL_OPERATION);
    let mut fields = end_fields(&place, COMMIT, "payers");
    fields[4].1 = "true";
    client.call(RequestCode::END_TRANSACTION, &fields, b"").expect(ResponseCode::SUCCESS);
    assert_eq!(bodies(&mut client, TOPIC, 0), ["patient"]);
}

#[test]
fn what_nobody_answers_is_set_aside_and_can_be_resumed() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[EAGER, &["transactionCheckMax=2"]].concat());
    let mut client = server.connect();
    let lost = send_half(&mut client, 0, "lost", "");
    let late = send_half(&mut client, 0, "late", "");
    assert_eq!(await_messages(&mut client, ASIDE, 2), ["lost", "late"]);
    // Its producer may still come.
    end(&mut client, &late, COMMIT).expect(ResponseCode::SUCCESS);
    assert_eq!(bodies(&mut client, TOPIC, 0), ["late"]);

    let answer = client.pull(ASIDE, 0, 0, "*", 0);
    let ids: Vec<String> = answer.records().iter().map(offset_id).collect();
    let resume = |client: &mut Client, id: &str| {
        client.call(RequestCode::RESUME_CHECK_HALF_MESSAGE, &[("topic", ASIDE), ("msgId", id)], b"")
    };
    assert!(resume(&mut client, &ids[1]).expect(ResponseCode::SYSTEM_ERROR).remark.contains("committed"));
    let mut producer = server.connect();
    produce(&mut producer);
    resume(&mut client, &ids[0]).expect(ResponseCode::SUCCESS);
    resume(&mut client, &ids[0]).expect(ResponseCode::SYSTEM_ERROR);
    let asked = Place::asked(&next_check(&mut producer));
    assert_eq!(asked.key, "lost");
    end(&mut client, &lost, COMMIT).expect(ResponseCode::SUCCESS);
    end(&mut client, &asked, COMMIT).expect(ResponseCode::SUCCESS);
    assert_eq!(bodies(&mut client, TOPIC, 0), ["late", "lost"]);
    for id in ["x", "7F00000100002A9F00000000000003E8"] {
        resume(&mut client, id).expect(ResponseCode::SYSTEM_ERROR);
    }
}

fn offset_id(record: &RecordRef<'_>) -> String {
    let mut text = [0; 56];
    MessageId::new(record.store_host(), record.physical_offset()).write(&mut text).to_owned()
}

#[test]
fn outcomes_and_open_transactions_survive_a_kill() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), EAGER);
    let mut client = server.connect();
    let places: Vec<Place> = (0..30).map(|n| send_half(&mut client, 0, &format!("m{n}"), "")).collect();
    for (n, place) in places.iter().enumerate().take(20) {
        let outcome = if n % 2 == 0 { COMMIT } else { ROLLBACK };
        end(&mut client, place, outcome).expect(ResponseCode::SUCCESS);
    }
    // Until every open one has been stored again.
    while client.drain(HALF, 0).len() < 50 {
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(client);
    let server = server.kill_and_restart();
    let mut client = server.connect();
    let committed: Vec<String> = (0..20).step_by(2).map(|n| format!("m{n}")).collect();
    assert_eq!(bodies(&mut client, TOPIC, 0), committed);
    // Whoever has not heard the answer says it again.
    for (n, place) in places.iter().enumerate().take(20) {
        let outcome = if n % 2 == 0 { COMMIT } else { ROLLBACK };
        end(&mut client, place, outcome).expect(ResponseCode::SUCCESS);
    }
    assert_eq!(bodies(&mut client, TOPIC, 0), committed);
    let mut producer = server.connect();
    produce(&mut producer);
    let mut asked = std::collections::BTreeSet::new();
    while asked.len() < 10 {
        let place = Place::asked(&next_check(&mut producer));
        asked.insert(place.key.clone());
        end(&mut client, &place, COMMIT).expect(ResponseCode::SUCCESS);
    }
    assert!((20..30).all(|n| asked.contains(&format!("m{n}"))), "{asked:?}");
    let mut found = bodies(&mut client, TOPIC, 0);
    found.sort_unstable();
    found.dedup();
    assert_eq!((found.len(), client.drain(TOPIC, 0).len()), (20, 20));
}

#[test]
fn every_shard_ends_its_own_transactions() {
    let dir = TempDir::new();
    let server = Server::start(
        dir.path(),
        &["rmq.shards=3", "transactionTimeOut=100", "transactionCheckInterval=200"],
    );
    let mut client = server.connect();
    let places: Vec<Place> =
        (0..4).map(|queue| send_half(&mut client, queue, &format!("q{queue}"), "")).collect();
    for place in &places {
        end(&mut client, place, COMMIT).expect(ResponseCode::SUCCESS);
        end(&mut client, place, COMMIT).expect(ResponseCode::SUCCESS);
    }
    for queue in 0..4 {
        assert_eq!(bodies(&mut client, TOPIC, queue), [format!("q{queue}")]);
    }
    let open: Vec<Place> =
        (0..4).map(|queue| send_half(&mut client, queue, &format!("o{queue}"), "")).collect();
    drop(client);
    // What is read from disk, of whichever shard.
    let server = server.kill_and_restart();
    let mut client = server.connect();
    for place in places.iter().chain(&open) {
        end(&mut client, place, COMMIT).expect(ResponseCode::SUCCESS);
    }
    for queue in 0..4 {
        assert_eq!(bodies(&mut client, TOPIC, queue), [format!("q{queue}"), format!("o{queue}")]);
    }
    let nowhere = Place { physical: "999999999999".to_owned(), ..open[0].clone() };
    end(&mut client, &nowhere, COMMIT).expect(ResponseCode::SYSTEM_ERROR);
    let mut producer = server.connect();
    produce(&mut producer);
    for queue in 0..4 {
        send_half(&mut client, queue, &format!("c{queue}"), "");
    }
    let mut asked = std::collections::BTreeSet::new();
    while asked.len() < 4 {
        let place = Place::asked(&next_check(&mut producer));
        end(&mut client, &place, ROLLBACK).expect(ResponseCode::SUCCESS);
        asked.insert(place.key);
    }
}

/// Opened with two shards after three, half messages and their queues have other owners.
#[test]
fn another_number_of_shards_ends_what_is_open() {
    let dir = TempDir::new();
    let mut server = Server::start(dir.path(), &["rmq.shards=3"]);
    let mut client = server.connect();
    let places: Vec<Place> = (0..6).map(|n| send_half(&mut client, n % 4, &format!("m{n}"), "")).collect();
    end(&mut client, &places[0], COMMIT).expect(ResponseCode::SUCCESS);
    drop(client);
    server.stop();
    let server = Server::start(dir.path(), &["rmq.shards=2"]);
    let mut client = server.connect();
    for place in &places {
        end(&mut client, place, COMMIT).expect(ResponseCode::SUCCESS);
        end(&mut client, place, COMMIT).expect(ResponseCode::SUCCESS);
    }
    let mut found: Vec<String> = (0..4).flat_map(|queue| bodies(&mut client, TOPIC, queue)).collect();
    found.sort_unstable();
    assert_eq!(found, ["m0", "m1", "m2", "m3", "m4", "m5"]);
}

/// The op record reached the disk and the message did not: the next start stores it, once.
#[test]
fn a_commit_that_a_crash_cut_in_two_is_finished() {
    let dir = TempDir::new();
    let settings = ["rmq.shards=1"];
    let mut server = Server::start(dir.path(), &settings);
    let mut client = server.connect();
    client.send(TOPIC, 0, "", b"plain").expect(ResponseCode::SUCCESS);
    let done = send_half(&mut client, 0, "done", "");
    end(&mut client, &done, COMMIT).expect(ResponseCode::SUCCESS);
    let cut = send_half(&mut client, 0, "cut", "TAGS\u{1}red\u{2}");
    drop(client);
    server.stop();
    append_op(dir.path(), &cut);
    for _ in 0..2 {
        let mut server = Server::start(dir.path(), &settings);
        let mut client = server.connect();
        assert_eq!(bodies(&mut client, TOPIC, 0), ["plain", "done", "cut"]);
        let record = client.pull(TOPIC, 0, 2, "red", 0);
        assert_eq!(record.records()[0].prepared_transaction_offset().to_string(), cut.physical);
        end(&mut client, &cut, COMMIT).expect(ResponseCode::SUCCESS);
        assert_eq!(bodies(&mut client, TOPIC, 0).len(), 3);
        drop(client);
        server.stop();
    }
}

fn append_op(dir: &Path, place: &Place) {
    let (half, at): (String, i64) = (format!("{},", place.half), place.physical.parse().unwrap());
    let store = [dir.join("store"), dir.join("data/store"), dir.to_owned()];
    let store = store.iter().find(|store| store.join("superblock").exists()).expect("a store").clone();
    rmq_reactor::run(&rmq_reactor::Options::default(), || async move {
        let options = StoreOptions { shards: 1, segment_size_bytes: 16 << 20, ..StoreOptions::new(&store) };
        let env = UringEnv::new();
        let mut seeds = Store::open(&env, options, Arc::new(MessageSchema), &|_| 0).await.unwrap();
        let shard = Shard::start(env, seeds.remove(0)).await.unwrap();
        let queue = shard.find_queue(OP, 0).expect("an op queue");
        let host = "127.0.0.1:1".parse().unwrap();
        let fields = RecordFields {
            queue_id: 0,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 0,
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: at,
            body: half.as_bytes(),
            topic: OP,
            properties: PropertiesSource::client(Text::plain(b"TAGS\x01d\x02OUTCOME\x01commit\x02")),
        };
        let plan = [RecordPlan { len: fields.encoded_len() as u32, filter_code: tags_code(Some("d")) }];
        shard
            .append(queue, &plan, |_, out, stamp| {
                fields.encode_into(out);
                record::stamp(out, stamp.queue_offset.0, stamp.physical_offset.0, stamp.store_timestamp_ms);
            })
            .unwrap();
        shard.shutdown().await.unwrap();
    })
    .expect("a ring");
}
