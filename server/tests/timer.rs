//! Timer messages: at their time, not before, none lost, and taken back when asked.

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rmq_protocol::properties::Properties;
use rmq_protocol::recall_handle::RecallHandle;
use rmq_protocol::request_code::RequestCode;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::text::Text;
use support::{Answer, Client, Server, TempDir, send_fields};

const RECALLS: &[&str] = &["recallMessageEnable=true"];

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

fn pairs(list: &[(&str, String)]) -> String {
    list.iter().map(|(key, value)| format!("{key}\u{1}{value}\u{2}")).collect()
}

fn send_at(client: &mut Client, queue: i32, due_ms: i64, body: &[u8]) -> Answer {
    let properties = pairs(&[("TIMER_DELIVER_MS", due_ms.to_string())]);
    client.send("Timers", queue, &properties, body).expect(ResponseCode::SUCCESS)
}

/// What one queue got: body, store time, properties.
#[derive(Debug)]
struct Got {
    body: Vec<u8>,
    stored_ms: i64,
    properties: BTreeMap<String, String>,
}

/// Pulls a queue until it has `count` messages, or `limit` is over.
fn wait_for(client: &mut Client, queue: i32, count: usize, limit: Duration) -> Vec<Got> {
    let began = Instant::now();
    let mut got = Vec::new();
    let mut from = 0;
    while got.len() < count && began.elapsed() < limit {
        let answer = client.pull("Timers", queue, from, "*", 200);
        if answer.code == ResponseCode::SUCCESS {
            got.extend(answer.records().iter().map(|record| {
                Got {
                    body: record.body().to_vec(),
                    stored_ms: record.store_timestamp(),
                    properties: Properties(record.properties().0)
                        .iter()
                        .map(|(key, value)| {
                            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                            (text(key), text(value))
                        })
                        .collect(),
                }
            }));
        }
        from = answer.number("nextBeginOffset");
    }
    got
}

fn some_time(client: &mut Client, queue: i32, limit: Duration) -> Vec<Got> {
    wait_for(client, queue, usize::MAX, limit)
}

fn recall(client: &mut Client, handle: &str) -> Answer {
    let fields = [("producerGroup", "test-producer"), ("topic", "Timers"), ("recallHandle", handle)];
    client.call(RequestCode::RECALL_MESSAGE, &fields, b"")
}

#[test]
fn a_message_comes_at_its_time_and_not_before() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    let due_ms = now_ms() + 1_200;
    let sent = client.send(
        "Timers",
        0,
        &pairs(&[("TIMER_DELIVER_MS", due_ms.to_string()), ("UNIQ_KEY", "K1".to_owned())]),
        b"later",
    );
    assert_eq!((sent.code, sent.field("queueId")), (ResponseCode::SUCCESS, "0"));
    let out_ms = (due_ms - 1) / 1_000 * 1_000;
    let handle = RecallHandle::decode(Text::new(sent.field("recallHandle"))).expect("a handle");
    assert_eq!(
        (handle.topic.as_str(), handle.deliver_ms.as_str(), handle.unique_key.as_str()),
        ("Timers", (out_ms + 1).to_string().as_str(), "K1")
    );
    let got = wait_for(&mut client, 0, 1, Duration::from_secs(5));
    let late_ms = got[0].stored_ms - due_ms;
    assert!((0..200).contains(&late_ms), "delivered {late_ms} ms after its time");
    let property = |key: &str| got[0].properties.get(key).map(String::as_str);
    assert_eq!(property("TIMER_OUT_MS"), Some(out_ms.to_string().as_str()));
    assert_eq!(property("TIMER_DELIVER_MS"), Some(due_ms.to_string().as_str()));
    assert_eq!((property("REAL_TOPIC"), property("REAL_QID")), (Some("Timers"), Some("0")));
    assert_eq!(property("UNIQ_KEY"), Some("K1"), "clients recognise duplicates by it");
    assert!(property("TIMER_ENQUEUE_MS").is_some() && property("TIMER_DEQUEUE_MS").is_some());
    assert_eq!(got[0].body, b"later");
    assert_eq!(some_time(&mut client, 0, Duration::from_millis(300)).len(), 1, "once");
}

#[test]
fn times_are_seconds_milliseconds_or_a_clock_and_the_past_is_now() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    let began_ms = now_ms();
    let mut send = |queue: i32, properties: &[(&str, &str)]| {
        let list: Vec<_> = properties.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        client.send("Timers", queue, &pairs(&list), b"x").expect(ResponseCode::SUCCESS)
    };
    for past in [("TIMER_DELIVER_MS", "1000"), ("TIMER_DELAY_SEC", "0"), ("TIMER_DELAY_MS", "-7")] {
        let sent = send(0, &[past]);
        assert!(!sent.fields.contains_key("recallHandle"), "{sent:?}");
    }
    send(0, &[("TIMER_OUT_MS", "9999999999999"), ("TIMER_DELAY_SEC", "60")]);
    send(1, &[("TIMER_DELAY_SEC", "1"), ("TIMER_DELAY_MS", "60000")]);
    send(2, &[("TIMER_DELAY_MS", "300"), ("TIMER_DELIVER_MS", "1")]);
    send(3, &[("DELAY", "1"), ("TIMER_DELAY_SEC", "60")]);
    assert_eq!(wait_for(&mut client, 0, 4, Duration::from_secs(2)).len(), 4, "at once");
    let quick = wait_for(&mut client, 2, 1, Duration::from_secs(3));
    assert!((300..800).contains(&(quick[0].stored_ms - began_ms)), "{quick:?}");
    let second = wait_for(&mut client, 1, 1, Duration::from_secs(3));
    assert!((1_000..1_500).contains(&(second[0].stored_ms - began_ms)), "{second:?}");
    let level = wait_for(&mut client, 3, 1, Duration::from_secs(4));
    assert_eq!(level.len(), 1, "the level counts");
    assert!(!level[0].properties.contains_key("TIMER_DELAY_SEC"), "as Java stores it: {level:?}");
}

#[test]
fn what_java_refuses_is_refused() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &["timerMaxDelaySec=100"]);
    let mut client = server.connect();
    for (key, value) in [
        ("TIMER_DELAY_SEC", "101"),
        ("TIMER_DELAY_SEC", "abc"),
        ("TIMER_DELIVER_MS", ""),
        ("TIMER_DELAY_MS", "1.5"),
    ] {
        let answer = client.send("Timers", 0, &pairs(&[(key, value.to_owned())]), b"x");
        let expected = if value.is_empty() { ResponseCode::SUCCESS } else { ResponseCode::MESSAGE_ILLEGAL };
        assert_eq!(answer.code, expected, "{key}={value}: {answer:?}");
    }
    let fields = pairs(&[("TIMER_DEL_UNIQKEY", "Timers+K".to_owned()), ("TIMER_DELIVER_MS", "1".to_owned())]);
    let refused = client.send("Timers", 0, &fields, b"x").expect(ResponseCode::MESSAGE_ILLEGAL);
    assert!(refused.remark.contains("max delay 100000ms"), "{}", refused.remark);
    let mut fields = send_fields("Timers", "0", "TIMER_DELAY_SEC\u{1}1\u{2}");
    fields[12] = ("m", "true");
    let batch = client.call(RequestCode::SEND_BATCH_MESSAGE, &fields, &[0, 0, 0, 40]);
    batch.expect(ResponseCode::MESSAGE_ILLEGAL);
    client.send("rmq_sys_wheel_timer", 0, "", b"x").expect(ResponseCode::NO_PERMISSION);
    drop(client);
    drop(server);
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &["timerWheelEnable=false"]);
    let mut client = server.connect();
    let refused = client.send("Timers", 0, "TIMER_DELAY_SEC\u{1}1\u{2}", b"x");
    assert_eq!(refused.code, ResponseCode::SYSTEM_ERROR);
    assert_eq!(refused.remark, "accurate timer message is not enabled, timerWheelEnable is false");
    client.call(RequestCode::GET_TIMER_METRICS, &[], b"").expect(ResponseCode::SYSTEM_ERROR);
}

/// Due times in no order, over ticks and shards: each message once and not early.
#[test]
fn many_messages_of_many_times_come_once_each() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &["rmq.shards=2", "rmq.cpus=0"]);
    let mut client = server.connect();
    send_at(&mut client, 0, 0, b"first");
    let began_ms = now_ms();
    let mut opaques = Vec::new();
    let count: i64 = 1_500;
    for number in 0..count {
        let due_ms = began_ms + 1_500 + number * 7_919 % 2_000;
        let (queue, properties) = ((number % 4).to_string(), format!("TIMER_DELIVER_MS\u{1}{due_ms}\u{2}"));
        let fields = send_fields("Timers", &queue, &properties);
        opaques.push(client.post(RequestCode::SEND_MESSAGE_V2, &fields, due_ms.to_string().as_bytes()));
    }
    for _ in opaques {
        let answer = client.next().expect("an answer");
        assert_eq!(answer.code, ResponseCode::SUCCESS, "{answer:?}");
    }
    let mut late_ms = Vec::new();
    for queue in 0..4 {
        let expected = (count / 4) as usize + usize::from(queue == 0);
        for got in wait_for(&mut client, queue, expected, Duration::from_secs(20)) {
            if let Ok(due_ms) = String::from_utf8(got.body).expect("digits").parse::<i64>() {
                late_ms.push(got.stored_ms - due_ms);
            }
        }
    }
    assert_eq!(late_ms.len() as i64, count);
    assert!(late_ms.iter().all(|&late_ms| late_ms >= 0), "none before its time");
    late_ms.sort_unstable();
    let median = late_ms[late_ms.len() / 2];
    assert!(median < 100, "half of them within {median} ms");
}

#[test]
fn a_kill_loses_none_and_a_stop_repeats_none() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &["timerFlushIntervalMs=100"]);
    let mut client = server.connect();
    let began_ms = now_ms();
    for number in 0..300i64 {
        let due_ms = began_ms + if number % 3 == 0 { 50 + number } else { 3_000 + number };
        send_at(&mut client, 0, due_ms, number.to_string().as_bytes());
    }
    assert_eq!(wait_for(&mut client, 0, 100, Duration::from_secs(3)).len(), 100);
    std::thread::sleep(Duration::from_millis(500));
    drop(client);
    let server = server.kill_and_restart();
    let mut client = server.connect();
    let got = some_time(&mut client, 0, Duration::from_millis(4_500));
    let mut times: BTreeMap<i64, usize> = BTreeMap::new();
    for got in &got {
        let number: i64 = String::from_utf8_lossy(&got.body).parse().expect("a number");
        *times.entry(number).or_default() += 1;
        let due_ms: i64 = got.properties["TIMER_DELIVER_MS"].parse().expect("a time");
        assert!(got.stored_ms >= due_ms);
    }
    assert_eq!(times.len(), 300, "all of them");
    assert_eq!(got.len(), 300, "the checkpoint was there before the kill");
    for number in 300..320i64 {
        send_at(&mut client, 0, now_ms() + 1_500, number.to_string().as_bytes());
    }
    drop(client);
    let server = server.stop_and_restart();
    let mut client = server.connect();
    assert_eq!(some_time(&mut client, 0, Duration::from_secs(3)).len(), 320);
}

/// Killed while it delivers: duplicates are allowed, losses are not.
#[test]
fn a_kill_in_the_middle_loses_none() {
    let dir = TempDir::new();
    let mut server = Server::start(dir.path(), &["timerFlushIntervalMs=20"]);
    let mut client = server.connect();
    let began_ms = now_ms();
    for number in 0..600i64 {
        send_at(&mut client, 0, began_ms + 600 + number * 3, number.to_string().as_bytes());
    }
    drop(client);
    for _ in 0..4 {
        let pause_ms = began_ms + 600 - now_ms();
        std::thread::sleep(Duration::from_millis(pause_ms.max(150) as u64));
        server = server.kill_and_restart();
    }
    let mut client = server.connect();
    let got = some_time(&mut client, 0, Duration::from_secs(4));
    let mut numbers: Vec<_> = got.iter().map(|got| got.body.clone()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 600);
}

#[test]
fn a_lost_index_is_made_again() {
    let dir = TempDir::new();
    let mut server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    for number in 0..50i64 {
        send_at(&mut client, 0, now_ms() + 2_500, number.to_string().as_bytes());
    }
    drop(client);
    server.stop();
    std::fs::remove_dir_all(dir.path().join("timer")).expect("an index");
    let server = server.stopped_again();
    let mut client = server.connect();
    assert_eq!(some_time(&mut client, 0, Duration::from_secs(4)).len(), 50);
}

#[test]
fn a_recalled_message_does_not_come_on_any_shard() {
    let dir = TempDir::new();
    let settings = [RECALLS, &["rmq.shards=2", "rmq.cpus=0", "timerFlushIntervalMs=50"]].concat();
    let server = Server::start(dir.path(), &settings);
    let mut client = server.connect();
    let due_ms = now_ms() + 3_000;
    let mut handles = Vec::new();
    for queue in 0..4 {
        for body in ["gone", "stays"] {
            let sent = send_at(&mut client, queue, due_ms, body.as_bytes());
            if body == "gone" {
                handles.push((sent.field("recallHandle").to_owned(), sent.field("transactionId").to_owned()));
            }
        }
    }
    for (handle, key) in &handles {
        let answer = recall(&mut client, handle).expect(ResponseCode::SUCCESS);
        assert_eq!((answer.field("msgId"), answer.field("MSG_REGION")), (key.as_str(), "DefaultRegion"));
    }
    drop(client);
    let server = server.kill_and_restart();
    let mut client = server.connect();
    std::thread::sleep(Duration::from_millis((due_ms + 200 - now_ms()).max(0) as u64));
    for queue in 0..4 {
        let got = some_time(&mut client, queue, Duration::from_millis(400));
        let bodies: Vec<_> = got.iter().map(|got| got.body.as_slice()).collect();
        assert_eq!(bodies, [b"stays"], "queue {queue}");
    }
}

#[test]
fn recalls_are_refused_as_java_refuses_them() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), RECALLS);
    let mut client = server.connect();
    let sent = send_at(&mut client, 0, now_ms() + 60_000, b"x");
    let handle = RecallHandle::decode(Text::new(sent.field("recallHandle"))).expect("a handle");
    let illegal = [
        RecallHandle { topic: "Others".into(), ..handle.clone() },
        RecallHandle { broker_name: "nobody".into(), ..handle.clone() },
        RecallHandle { deliver_ms: "soon".into(), ..handle.clone() },
        RecallHandle { deliver_ms: "1000".into(), ..handle.clone() },
        RecallHandle { deliver_ms: (now_ms() + 999_000_000).to_string(), ..handle.clone() },
    ];
    for handle in illegal {
        let answer = recall(&mut client, &handle.encode());
        assert_eq!(answer.code, ResponseCode::ILLEGAL_OPERATION, "{handle:?}");
    }
    recall(&mut client, "no handle").expect(ResponseCode::ILLEGAL_OPERATION);
    let handle = handle.encode();
    let unknown = [("topic", "Unknown"), ("recallHandle", handle.as_str())];
    client.call(RequestCode::RECALL_MESSAGE, &unknown, b"").expect(ResponseCode::TOPIC_NOT_EXIST);
    client
        .call(RequestCode::RECALL_MESSAGE, &[("topic", "Timers")], b"")
        .expect(ResponseCode::ILLEGAL_OPERATION);
    client
        .call(RequestCode::RECALL_MESSAGE, &[("recallHandle", &handle)], b"")
        .expect(ResponseCode::SYSTEM_ERROR);
    recall(&mut client, &handle).expect(ResponseCode::SUCCESS);
    drop(client);
    drop(server);
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    recall(&mut client, &handle).expect(ResponseCode::NO_PERMISSION);
}

/// Far messages are stored again, so that the log's old end may go.
#[test]
fn a_far_message_is_rolled() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &["timerRollWindowSlot=1"]);
    let mut client = server.connect();
    let due_ms = now_ms() + 3_600;
    send_at(&mut client, 0, due_ms, b"far");
    let got = wait_for(&mut client, 0, 1, Duration::from_secs(7));
    assert!((0..200).contains(&(got[0].stored_ms - due_ms)), "{got:?}");
    let times: i32 = got[0].properties["TIMER_ROLL_TIMES"].parse().expect("a number");
    assert!(times >= 2, "{times}");
}

#[test]
fn tools_see_what_waits() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &["timerFlushIntervalMs=50"]);
    let mut client = server.connect();
    for _ in 0..3 {
        send_at(&mut client, 0, now_ms() + 60_000, b"x");
    }
    std::thread::sleep(Duration::from_millis(300));
    let runtime = |client: &mut Client| {
        let answer =
            client.call(RequestCode::GET_BROKER_RUNTIME_INFO, &[], b"").expect(ResponseCode::SUCCESS);
        String::from_utf8(answer.body).expect("text")
    };
    let text = runtime(&mut client);
    assert!(
        text.contains(r#""timerCongestNum":"3""#) && text.contains(r#""timerOffsetBehind":"0""#),
        "{text}"
    );
    let metrics = client.call(RequestCode::GET_TIMER_METRICS, &[], b"").expect(ResponseCode::SUCCESS);
    let text = String::from_utf8(metrics.body).expect("text");
    assert!(text.contains(r#""Timers":{"count":3,"#), "{text}");
    let checkpoint = client.call(RequestCode::GET_TIMER_CHECK_POINT, &[], b"").expect(ResponseCode::SUCCESS);
    assert_eq!(checkpoint.body.len(), 56);
    let word = |at: usize| i64::from_be_bytes(checkpoint.body[at..at + 8].try_into().expect("eight"));
    assert!((word(0) - now_ms()).abs() < 5_000);
    assert_eq!(word(16), 3);
    drop(client);
    let server = server.kill_and_restart();
    let mut client = server.connect();
    std::thread::sleep(Duration::from_millis(300));
    let text = runtime(&mut client);
    assert!(text.contains(r#""timerCongestNum":"3""#), "{text}");
    let metrics = client.call(RequestCode::GET_TIMER_METRICS, &[], b"").expect(ResponseCode::SUCCESS);
    assert!(String::from_utf8(metrics.body).expect("text").contains(r#""Timers":{"count":3,"#));
}
