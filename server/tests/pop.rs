//! POP as a client sees it: receipts, acknowledgements, what comes back, and what a crash leaves.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rmq_protocol::request_code::RequestCode;
use rmq_protocol::response_code::ResponseCode;
use support::{Answer, Client, Server, TempDir};

/// Several shards on one machine, so that queues of a topic and its retry topic are spread.
const SHARDS: &[&str] = &["rmq.shards=3"];
const GROUP: &str = "poppers";

struct Ask<'a> {
    queue: i32,
    count: i32,
    invisible_ms: u64,
    poll_ms: u64,
    more: &'a [(&'a str, &'a str)],
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Self { queue: -1, count: 32, invisible_ms: 60_000, poll_ms: 0, more: &[] }
    }
}

fn post(client: &mut Client, topic: &str, ask: &Ask<'_>) -> i32 {
    let (queue, count) = (ask.queue.to_string(), ask.count.to_string());
    let (invisible, poll) = (ask.invisible_ms.to_string(), ask.poll_ms.to_string());
    let mut fields = vec![
        ("consumerGroup", GROUP),
        ("topic", topic),
        ("queueId", &queue),
        ("maxMsgNums", &count),
        ("invisibleTime", &invisible),
        ("pollTime", &poll),
        ("bornTime", "0"),
        ("initMode", "0"),
    ];
    fields.extend_from_slice(ask.more);
    client.post(RequestCode::POP_MESSAGE, &fields, b"")
}

fn answer(client: &mut Client, opaque: i32) -> Answer {
    loop {
        let answer = client.next().expect("an answer");
        if answer.is_response && answer.opaque == opaque {
            return answer;
        }
    }
}

fn pop(client: &mut Client, topic: &str, ask: &Ask<'_>) -> Answer {
    let opaque = post(client, topic, ask);
    answer(client, opaque)
}

/// A popped message with what acknowledges it, put together as Java's client does.
#[derive(Clone, Debug)]
struct Got {
    body: String,
    topic: String,
    queue: i32,
    offset: i64,
    receipt: String,
    reconsumed: i32,
    first_pop_time: Option<String>,
}

fn got(answer: &Answer, topic: &str) -> Vec<Got> {
    if answer.code != ResponseCode::SUCCESS {
        assert_eq!(answer.code, ResponseCode::POLLING_TIMEOUT, "{answer:?}");
        return Vec::new();
    }
    let entries = |name: &str| -> BTreeMap<(String, i32), String> {
        let entries = answer.field(name).split(';').map(|entry| {
            let words: Vec<&str> = entry.split(' ').collect();
            ((words[0].to_owned(), words[1].parse().expect("a queue")), words[2].to_owned())
        });
        let all: Vec<_> = entries.collect();
        let count = all.len();
        let map: BTreeMap<_, _> = all.into_iter().collect();
        assert_eq!(map.len(), count, "one entry for each flag and queue");
        map
    };
    let (starts, offsets) = (entries("startOffsetInfo"), entries("msgOffsetInfo"));
    let mut listed: BTreeSet<(String, i32, i64)> = BTreeSet::new();
    for ((flag, queue), list) in &offsets {
        listed
            .extend(list.split(',').map(|offset| (flag.clone(), *queue, offset.parse().expect("an offset"))));
    }
    let messages: Vec<Got> = answer
        .records()
        .iter()
        .map(|record| {
            let receipt = record.properties().find("POP_CK").map(str::to_owned);
            let flag =
                receipt.as_ref().map_or("0", |text| text.split(' ').nth(4).expect("a flag")).to_owned();
            let (queue, offset) = (record.queue_id(), record.queue_offset());
            assert!(listed.remove(&(flag.clone(), queue, offset)), "{flag} {queue} {offset} of {listed:?}");
            let receipt = receipt.unwrap_or_else(|| {
                format!(
                    "{} {} {} {} {flag} broker {queue} {offset}",
                    starts[&(flag.clone(), queue)],
                    answer.field("popTime"),
                    answer.field("invisibleTime"),
                    answer.field("reviveQid")
                )
            });
            assert_eq!(record.topic(), topic, "retried messages are of the topic that was asked for");
            let actual = match flag.as_str() {
                "1" => format!("%RETRY%{GROUP}_{topic}"),
                "2" => format!("%RETRY%{GROUP}+{topic}"),
                _ => topic.to_owned(),
            };
            Got {
                body: String::from_utf8(record.body().to_vec()).expect("text"),
                topic: actual,
                queue,
                offset,
                receipt,
                reconsumed: record.reconsume_times(),
                first_pop_time: record.properties().find("1ST_POP_TIME").map(str::to_owned),
            }
        })
        .collect();
    assert!(listed.is_empty(), "listed and not there: {listed:?}");
    messages
}

fn ack(client: &mut Client, message: &Got) -> Answer {
    let (queue, offset) = (message.queue.to_string(), message.offset.to_string());
    let fields = [
        ("consumerGroup", GROUP),
        ("topic", message.topic.as_str()),
        ("queueId", &queue),
        ("extraInfo", &message.receipt),
        ("offset", &offset),
    ];
    client.call(RequestCode::ACK_MESSAGE, &fields, b"")
}

fn change(client: &mut Client, message: &Got, invisible_ms: u64) -> Answer {
    let (queue, offset) = (message.queue.to_string(), message.offset.to_string());
    let invisible = invisible_ms.to_string();
    let fields = [
        ("consumerGroup", GROUP),
        ("topic", message.topic.as_str()),
        ("queueId", &queue),
        ("extraInfo", &message.receipt),
        ("offset", &offset),
        ("invisibleTime", &invisible),
    ];
    client.call(RequestCode::CHANGE_MESSAGE_INVISIBLETIME, &fields, b"")
}

fn send(client: &mut Client, topic: &str, queue: i32, body: &str) {
    client.send(topic, queue, "", body.as_bytes()).expect(ResponseCode::SUCCESS);
}

fn bodies(messages: &[Got]) -> BTreeSet<String> {
    messages.iter().map(|message| message.body.clone()).collect()
}

/// Pops until `count` different messages came or ten seconds are over.
fn pop_until(client: &mut Client, topic: &str, ask: &Ask<'_>, count: usize) -> Vec<Got> {
    let end = Instant::now() + Duration::from_secs(10);
    let mut all = Vec::new();
    while bodies(&all).len() < count && Instant::now() < end {
        let answer = pop(client, topic, ask);
        all.extend(got(&answer, topic));
    }
    all
}

fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis()
}

#[test]
fn all_queues_of_all_shards_are_popped_and_each_message_once() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), SHARDS);
    let mut client = server.connect();
    for at in 0..40 {
        send(&mut client, "Popped", at % 4, &at.to_string());
    }
    let mut all = Vec::new();
    for _ in 0..10 {
        let answer = pop(&mut client, "Popped", &Ask { count: 9, ..Ask::default() });
        let some = got(&answer, "Popped");
        assert!(some.len() <= 9);
        all.extend(some);
    }
    assert_eq!((all.len(), bodies(&all).len()), (40, 40));
    let nothing = pop(&mut client, "Popped", &Ask::default());
    assert_eq!((nothing.code, nothing.number("restNum")), (ResponseCode::POLLING_TIMEOUT, 0));
    for message in &all {
        ack(&mut client, message).expect(ResponseCode::SUCCESS);
    }
}

#[test]
fn what_is_not_acknowledged_comes_back_within_a_second_of_its_time() {
    for v2 in ["false", "true"] {
        let dir = TempDir::new();
        let setting = format!("enableRetryTopicV2={v2}");
        let server = Server::start(dir.path(), &["rmq.shards=3", &setting]);
        let mut client = server.connect();
        for at in 0..6 {
            send(&mut client, "Retried", at % 4, &at.to_string());
        }
        let began = now_ms();
        let ask = Ask { invisible_ms: 1_500, ..Ask::default() };
        let first = pop_until(&mut client, "Retried", &ask, 6);
        assert_eq!(first.len(), 6);
        for message in first.iter().filter(|message| message.body != "2" && message.body != "5") {
            ack(&mut client, message).expect(ResponseCode::SUCCESS);
        }
        // The waiting pop is woken by the retry topic.
        let mut again = Vec::new();
        while again.len() < 2 {
            let answer = pop(&mut client, "Retried", &Ask { poll_ms: 5_000, ..ask });
            again.extend(got(&answer, "Retried"));
        }
        let took = now_ms() - began;
        assert!((1_500..2_600).contains(&took), "{took} ms");
        assert_eq!(bodies(&again), BTreeSet::from(["2".to_owned(), "5".to_owned()]));
        for message in &again {
            assert_eq!(message.reconsumed, 1);
            let expected = if v2 == "true" { "%RETRY%poppers+Retried" } else { "%RETRY%poppers_Retried" };
            assert_eq!(message.topic, expected);
        }
        let first_pop = again[0].first_pop_time.clone().expect("the time of the first pop");
        ack(&mut client, &again[1]).expect(ResponseCode::SUCCESS);
        let third = pop_until(&mut client, "Retried", &Ask { poll_ms: 4_000, ..ask }, 1);
        assert_eq!((third[0].reconsumed, third[0].body.as_str()), (2, again[0].body.as_str()));
        assert_eq!(third[0].first_pop_time, Some(first_pop));
        ack(&mut client, &third[0]).expect(ResponseCode::SUCCESS);
        std::thread::sleep(Duration::from_millis(2_000));
        assert_eq!(got(&pop(&mut client, "Retried", &ask), "Retried").len(), 0);
    }
}

#[test]
fn a_pop_waits_for_a_message_of_any_shard() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), SHARDS);
    let mut client = server.connect();
    for queue in 0..4 {
        send(&mut client, "Waited", queue, "before");
    }
    assert_eq!(pop_until(&mut client, "Waited", &Ask::default(), 1).len(), 4);
    for queue in 0..4 {
        let mut waiting = server.connect();
        for asked in [-1, queue] {
            let ask = Ask { queue: asked, poll_ms: 20_000, ..Ask::default() };
            let opaque = post(&mut waiting, "Waited", &ask);
            let held = ("queueId", asked.to_string());
            let fields = [("consumerGroup", GROUP), ("topic", "Waited"), (held.0, &held.1)];
            let end = Instant::now() + Duration::from_secs(5);
            while client.call(RequestCode::POLLING_INFO, &fields, b"").number("pollingNum") == 0 {
                assert!(Instant::now() < end, "the pop is held");
            }
            let began = Instant::now();
            send(&mut client, "Waited", queue, "now");
            let found = answer(&mut waiting, opaque);
            assert_eq!(got(&found, "Waited").len(), 1);
            assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        }
    }
    let began = Instant::now();
    let nothing = pop(&mut client, "Waited", &Ask { poll_ms: 500, ..Ask::default() });
    assert_eq!(nothing.code, ResponseCode::POLLING_TIMEOUT);
    assert!((300..1_500).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}

#[test]
fn a_changed_invisible_time_counts_and_the_old_receipt_does_not() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), SHARDS);
    let mut client = server.connect();
    send(&mut client, "Changed", 1, "later");
    send(&mut client, "Changed", 1, "sooner");
    let ask = Ask { queue: 1, invisible_ms: 1_000, ..Ask::default() };
    let first = got(&pop(&mut client, "Changed", &ask), "Changed");
    assert_eq!(first.len(), 2);
    let longer = change(&mut client, &first[0], 60_000).expect(ResponseCode::SUCCESS);
    assert_eq!(longer.number("invisibleTime"), 60_000);
    let back = pop_until(&mut client, "Changed", &Ask { poll_ms: 3_000, ..ask }, 1);
    assert_eq!(bodies(&back), BTreeSet::from(["sooner".to_owned()]));
    ack(&mut client, &back[0]).expect(ResponseCode::SUCCESS);
    let mut held = first[0].clone();
    held.receipt = format!(
        "{} {} 60000 {} 0 broker 1 {}",
        held.offset,
        longer.field("popTime"),
        longer.field("reviveQid"),
        held.offset
    );
    // At once: the second receipt is of a checkpoint of its own.
    change(&mut client, &held, 0).expect(ResponseCode::SUCCESS);
    let back = pop_until(&mut client, "Changed", &Ask { poll_ms: 3_000, ..ask }, 1);
    assert_eq!(bodies(&back), BTreeSet::from(["later".to_owned()]));
    for wrong in ["", "x", "1 2 3"] {
        let strange = Got { receipt: wrong.to_owned(), ..held.clone() };
        change(&mut client, &strange, 1).expect(ResponseCode::SYSTEM_ERROR);
        ack(&mut client, &strange).expect(ResponseCode::SYSTEM_ERROR);
    }
    ack(&mut client, &Got { offset: 99, ..held.clone() }).expect(ResponseCode::NO_MESSAGE);
    ack(&mut client, &Got { queue: 9, ..held }).expect(ResponseCode::MESSAGE_ILLEGAL);
}

#[test]
fn a_batch_acknowledges_messages_of_all_shards() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), SHARDS);
    let mut client = server.connect();
    for at in 0..24 {
        send(&mut client, "Batched", at % 4, &at.to_string());
    }
    let ask = Ask { invisible_ms: 1_000, ..Ask::default() };
    let all = pop_until(&mut client, "Batched", &ask, 24);
    assert_eq!(all.len(), 24);
    let mut acks = Vec::new();
    for message in all.iter().filter(|message| message.body != "7") {
        let words: Vec<&str> = message.receipt.split(' ').collect();
        let bit = message.offset - words[0].parse::<i64>().expect("a start");
        let bits = ["AQ==", "Ag==", "BA==", "CA==", "EA==", "IA=="][bit as usize];
        acks.push(format!(
            r#"{{"c":"{GROUP}","t":"Batched","r":"0","so":{},"q":{},"rq":{},"pt":{},"it":{},"b":"{bits}"}}"#,
            words[0], message.queue, words[3], words[1], words[2]
        ));
    }
    let body = format!(r#"{{"brokerName":"b","acks":[{}]}}"#, acks.join(","));
    client.call(RequestCode::BATCH_ACK_MESSAGE, &[], body.as_bytes()).expect(ResponseCode::SUCCESS);
    std::thread::sleep(Duration::from_millis(2_000));
    let back = pop_until(&mut client, "Batched", &Ask { poll_ms: 1_000, ..ask }, 1);
    assert_eq!(bodies(&back), BTreeSet::from(["7".to_owned()]));
    assert_eq!(got(&pop(&mut client, "Batched", &Ask::default()), "Batched").len(), 0);
    for empty in ["", r#"{"acks":[]}"#, "{}"] {
        client.call(RequestCode::BATCH_ACK_MESSAGE, &[], empty.as_bytes()).expect(ResponseCode::NO_MESSAGE);
    }
}

/// The answer of a pop has left; then the process is killed. What was acknowledged a moment before need not be.
#[test]
fn a_kill_loses_nothing_that_was_popped() {
    let dir = TempDir::new();
    let mut server = Server::start(dir.path(), SHARDS);
    let mut client = server.connect();
    for at in 0..60 {
        send(&mut client, "Killed", at % 4, &at.to_string());
    }
    let ask = Ask { count: 7, invisible_ms: 3_000, ..Ask::default() };
    let mut acked = BTreeSet::new();
    for round in 0..3 {
        let popped = got(&pop(&mut client, "Killed", &ask), "Killed");
        assert!(!popped.is_empty());
        for message in popped.iter().take(4) {
            ack(&mut client, message).expect(ResponseCode::SUCCESS);
            acked.insert(message.body.clone());
        }
        if round == 1 {
            // Time for the acknowledgements to be written, not for the offsets.
            std::thread::sleep(Duration::from_millis(700));
        }
        drop(client);
        server = if round == 2 { server.stop_and_restart() } else { server.kill_and_restart() };
        client = server.connect();
    }
    let end = Instant::now() + Duration::from_secs(30);
    let mut seen = acked.clone();
    let mut again = 0;
    while Instant::now() < end {
        let some =
            got(&pop(&mut client, "Killed", &Ask { poll_ms: 4_000, invisible_ms: 60_000, ..ask }), "Killed");
        if some.is_empty() {
            break;
        }
        for message in &some {
            again += usize::from(acked.contains(&message.body));
            seen.insert(message.body.clone());
            ack(&mut client, message).expect(ResponseCode::SUCCESS);
        }
    }
    assert_eq!(
        seen.len(),
        60,
        "lost: {:?}",
        (0..60).filter(|at| !seen.contains(&at.to_string())).collect::<Vec<_>>()
    );
    assert!(again <= 4, "{again} came though they were acknowledged and written");
}

/// Another number of shards gives queues, and checkpoints, other owners.
#[test]
fn checkpoints_survive_another_number_of_shards() {
    let dir = TempDir::new();
    let mut server = Server::start(dir.path(), &["rmq.shards=3"]);
    let mut client = server.connect();
    for at in 0..16 {
        send(&mut client, "Moved", at % 4, &at.to_string());
    }
    let ask = Ask { invisible_ms: 2_000, ..Ask::default() };
    assert_eq!(pop_until(&mut client, "Moved", &ask, 16).len(), 16);
    drop(client);
    server.stop();
    let server = Server::start(dir.path(), &["rmq.shards=2"]);
    let mut client = server.connect();
    let back = pop_until(&mut client, "Moved", &Ask { poll_ms: 4_000, invisible_ms: 60_000, ..ask }, 16);
    assert_eq!((back.len(), bodies(&back).len()), (16, 16));
    assert!(back.iter().all(|message| message.reconsumed == 1));
}

#[test]
fn filters_and_refusals() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), SHARDS);
    let mut client = server.connect();
    for at in 0..8 {
        let tag = if at % 2 == 0 { "even" } else { "odd" };
        let properties = format!("TAGS\u{1}{tag}\u{2}at\u{1}{at}\u{2}");
        client.send("Chosen", at % 4, &properties, b"x").expect(ResponseCode::SUCCESS);
    }
    let by = |kind, text| [("expType", kind), ("exp", text)];
    let bad = pop(&mut client, "Chosen", &Ask { more: &by("SQL92", "at >"), ..Ask::default() });
    assert_eq!(bad.code, ResponseCode::SUBSCRIPTION_PARSE_FAILED);
    let some = pop(&mut client, "Chosen", &Ask { more: &by("SQL92", "at = 3"), queue: 3, ..Ask::default() });
    assert_eq!(got(&some, "Chosen").len(), 1);
    let odd = pop(&mut client, "Chosen", &Ask { more: &by("TAG", "odd"), ..Ask::default() });
    assert_eq!(got(&odd, "Chosen").len(), 3 - 1, "1 and 5; the queue of 3 and 7 was scanned to its end");
    let after = pop(&mut client, "Chosen", &Ask::default());
    assert_eq!((after.code, after.number("restNum")), (ResponseCode::POLLING_TIMEOUT, 0));
    let refused = |client: &mut Client, topic: &str, ask: &Ask<'_>| pop(client, topic, ask).code;
    assert_eq!(refused(&mut client, "Nowhere", &Ask::default()), ResponseCode::TOPIC_NOT_EXIST);
    let many = Ask { count: 33, ..Ask::default() };
    assert_eq!(refused(&mut client, "Chosen", &many), ResponseCode::INVALID_PARAMETER);
    let beyond = Ask { queue: 4, ..Ask::default() };
    assert_eq!(refused(&mut client, "Chosen", &beyond), ResponseCode::INVALID_PARAMETER);
    let none = Ask { count: 0, poll_ms: 10_000, ..Ask::default() };
    assert_eq!(refused(&mut client, "Chosen", &none), ResponseCode::POLLING_TIMEOUT);
}

#[test]
fn an_ordered_pop_blocks_its_queue_until_it_is_acknowledged_or_over() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), SHARDS);
    let mut client = server.connect();
    for at in 0..4 {
        send(&mut client, "Ordered", 2, &at.to_string());
    }
    let ordered: &[_] = &[("order", "true"), ("attemptId", "a")];
    let other: &[_] = &[("order", "true"), ("attemptId", "b")];
    let ask = Ask { count: 2, invisible_ms: 1_500, more: ordered, ..Ask::default() };
    let first = pop(&mut client, "Ordered", &ask);
    assert_eq!(first.field("reviveQid"), "999");
    let batch = got(&first, "Ordered");
    assert_eq!(bodies(&batch), BTreeSet::from(["0".to_owned(), "1".to_owned()]));
    assert_eq!(got(&pop(&mut client, "Ordered", &Ask { more: other, ..ask }), "Ordered").len(), 0);
    let same = got(&pop(&mut client, "Ordered", &ask), "Ordered");
    assert_eq!(bodies(&same), bodies(&batch), "the same attempt again");
    ack(&mut client, &same[0]).expect(ResponseCode::SUCCESS);
    // The rest of the batch comes again, and counted, when its time is up; whoever waits is woken.
    let began = Instant::now();
    let waited = pop(&mut client, "Ordered", &Ask { poll_ms: 10_000, more: other, ..ask });
    assert!((500..3_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    let again = got(&waited, "Ordered");
    assert_eq!(again.iter().map(|message| message.body.as_str()).collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(waited.field("orderCountInfo"), "0 qo2%1 1;0 2 0");
    // Acknowledged in full, the next is free at once; a change keeps it hidden.
    for message in &again {
        ack(&mut client, message).expect(ResponseCode::SUCCESS);
    }
    let last = got(&pop(&mut client, "Ordered", &ask), "Ordered");
    assert_eq!(bodies(&last), BTreeSet::from(["3".to_owned()]));
    change(&mut client, &last[0], 60_000).expect(ResponseCode::SUCCESS);
    std::thread::sleep(Duration::from_millis(1_700));
    assert_eq!(got(&pop(&mut client, "Ordered", &Ask { more: other, ..ask }), "Ordered").len(), 0);
    change(&mut client, &last[0], 0).expect(ResponseCode::SUCCESS);
    assert_eq!(got(&pop(&mut client, "Ordered", &Ask { more: other, ..ask }), "Ordered").len(), 1);
}

#[test]
fn peeks_and_notifications_take_nothing() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), SHARDS);
    let mut client = server.connect();
    send(&mut client, "Peeked", 0, "first");
    let look = |client: &mut Client, code, more: &[(&str, &str)]| {
        let mut fields = vec![("consumerGroup", GROUP), ("topic", "Peeked"), ("queueId", "-1")];
        fields.extend_from_slice(more);
        client.call(code, &fields, b"")
    };
    let peeked = look(&mut client, RequestCode::PEEK_MESSAGE, &[("maxMsgNums", "8")]);
    assert_eq!(
        (peeked.code, peeked.records().len(), peeked.number("restNum")),
        (ResponseCode::SUCCESS, 1, 1)
    );
    let now: &[_] = &[("pollTime", "0"), ("bornTime", "0")];
    let later: &[_] = &[("pollTime", "400"), ("bornTime", "0")];
    assert_eq!(look(&mut client, RequestCode::NOTIFICATION, now).field("hasMsg"), "true");
    assert_eq!(got(&pop(&mut client, "Peeked", &Ask::default()), "Peeked").len(), 1);
    assert_eq!(
        look(&mut client, RequestCode::PEEK_MESSAGE, &[("maxMsgNums", "8")]).code,
        ResponseCode::PULL_NOT_FOUND
    );
    assert_eq!(look(&mut client, RequestCode::NOTIFICATION, now).field("hasMsg"), "false");
    assert_eq!(look(&mut client, RequestCode::NOTIFICATION, later).field("hasMsg"), "false");
    let fields = [
        ("consumerGroup", GROUP),
        ("topic", "Peeked"),
        ("queueId", "-1"),
        ("pollTime", "20000"),
        ("bornTime", "0"),
    ];
    let mut waiting = server.connect();
    let opaque = waiting.post(RequestCode::NOTIFICATION, &fields, b"");
    std::thread::sleep(Duration::from_millis(200));
    send(&mut client, "Peeked", 3, "second");
    assert_eq!(answer(&mut waiting, opaque).field("hasMsg"), "true");
}
