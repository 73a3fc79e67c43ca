//! Messages are found by key, across shards, restarts and kills, and never by another key of the same hash.

mod support;

use std::time::{Duration, Instant};

use rmq_protocol::request_code::RequestCode;
use rmq_protocol::response_code::ResponseCode;
use support::{Answer, Client, Server, TempDir, send_fields};

const SHARDS: &[&str] = &["rmq.shards=3"];

fn query_between(client: &mut Client, topic: &str, key: &str, max: &str, begin: i64, end: i64) -> Answer {
    let (begin, end) = (begin.to_string(), end.to_string());
    let fields = [
        ("topic", topic),
        ("key", key),
        ("maxNum", max),
        ("beginTimestamp", &*begin),
        ("endTimestamp", &*end),
    ];
    client.call(RequestCode::QUERY_MESSAGE, &fields, b"")
}

fn query(client: &mut Client, topic: &str, key: &str) -> Answer {
    query_between(client, topic, key, "64", 0, i64::MAX)
}

/// Bodies of what a query found, in its order.
fn bodies(answer: &Answer) -> Vec<String> {
    answer.records().iter().map(|record| String::from_utf8(record.body().to_vec()).unwrap()).collect()
}

fn keyed(keys: &str, unique: &str) -> String {
    format!("KEYS\u{1}{keys}\u{2}UNIQ_KEY\u{1}{unique}\u{2}")
}

fn send(client: &mut Client, topic: &str, queue: i32, properties: &str, body: &str) -> Answer {
    client.send(topic, queue, properties, body.as_bytes()).expect(ResponseCode::SUCCESS)
}

/// After a start without a clean stop the log is read again; a query says how much of it still is unknown.
fn await_known(client: &mut Client) {
    let began = Instant::now();
    while query(client, "Nothing", "nothing").remark.contains("not in the index") {
        assert!(began.elapsed() < Duration::from_secs(20), "the log is never read to its end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn messages_are_found_by_each_of_their_keys_in_every_queue() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), SHARDS);
    let mut client = server.connect();
    for n in 0..20 {
        send(
            &mut client,
            "Orders",
            n % 4,
            &keyed(&format!("order-{n} all"), &format!("U{n}")),
            &format!("body {n}"),
        );
    }
    send(&mut client, "Others", 0, &keyed("order-3 all", "U3"), "another topic");

    for n in 0..20 {
        for key in [format!("order-{n}"), format!("U{n}")] {
            let answer = query(&mut client, "Orders", &key).expect(ResponseCode::SUCCESS);
            assert_eq!(bodies(&answer), [format!("body {n}")], "{key}");
            assert!(
                answer.number("indexLastUpdateTimestamp") > 0
                    && answer.number("indexLastUpdatePhyoffset") > 0
            );
            assert_eq!(answer.remark, "");
        }
    }
    let all = query(&mut client, "Orders", "all").expect(ResponseCode::SUCCESS);
    assert_eq!(all.records().len(), 20);
    let times: Vec<i64> = all.records().iter().map(|record| record.store_timestamp()).collect();
    assert!(times.is_sorted(), "oldest first");
    assert_eq!(query_between(&mut client, "Orders", "all", "7", 0, i64::MAX).records().len(), 7);

    for (topic, key) in [("Orders", "order"), ("Orders", ""), ("Orders", "order-3 all"), ("No-such", "all")] {
        let answer = query(&mut client, topic, key).expect(ResponseCode::QUERY_NOT_FOUND);
        assert_eq!(answer.remark, "can not find message, maybe time range not correct");
        assert_eq!(
            (answer.number("indexLastUpdateTimestamp"), answer.number("indexLastUpdatePhyoffset")),
            (0, 0)
        );
    }
}

#[test]
fn a_query_asks_for_a_time_and_a_number() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), SHARDS);
    let mut client = server.connect();
    let mut times = Vec::new();
    for n in 0..100 {
        // One queue, so one shard: the order within a millisecond is that of its log.
        send(&mut client, "Timed", 0, &keyed("k", &format!("U{n}")), &format!("{n}"));
        if n % 10 == 9 {
            std::thread::sleep(Duration::from_millis(5));
            let found = query_between(&mut client, "Timed", &format!("U{n}"), "1", 0, i64::MAX);
            times.push(found.records()[0].store_timestamp());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    assert_eq!(query(&mut client, "Timed", "k").records().len(), 64, "never more than that");
    let newest = bodies(&query_between(&mut client, "Timed", "k", "3", 0, i64::MAX));
    assert_eq!(newest, ["97", "98", "99"]);
    let middle = bodies(&query_between(&mut client, "Timed", "k", "64", times[3] + 1, times[5]));
    assert_eq!(middle, (40..60).map(|n| n.to_string()).collect::<Vec<_>>());
    query_between(&mut client, "Timed", "k", "64", times[9] + 60_000, i64::MAX)
        .expect(ResponseCode::QUERY_NOT_FOUND);
    query_between(&mut client, "Timed", "k", "0", 0, i64::MAX).expect(ResponseCode::QUERY_NOT_FOUND);
    query_between(&mut client, "Timed", "k", "-1", 0, i64::MAX).expect(ResponseCode::SYSTEM_ERROR);

    // Who looks for a unique key gets 32, whatever he asks for.
    let fields = [
        ("topic", "Timed"),
        ("key", "k"),
        ("maxNum", "5"),
        ("beginTimestamp", "0"),
        ("endTimestamp", "9223372036854775807"),
        ("_UNIQUE_KEY_QUERY", "true"),
    ];
    let unique = client.call(RequestCode::QUERY_MESSAGE, &fields, b"").expect(ResponseCode::SUCCESS);
    assert_eq!(unique.records().len(), 32);
    for missing in 0..5 {
        let mut some = fields[..5].to_vec();
        some.remove(missing);
        client.call(RequestCode::QUERY_MESSAGE, &some, b"").expect(ResponseCode::SYSTEM_ERROR);
    }
}

#[test]
fn messages_of_a_batch_and_without_any_key_are_found() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), SHARDS);
    let mut client = server.connect();
    let mut batch = Vec::new();
    for n in 0..5u32 {
        let properties = keyed(&format!("b{n} batch"), &format!("B{n}"));
        let body = format!("batched {n}");
        let size = 4 * 5 + body.len() + 2 + properties.len();
        for word in [size as u32, 0, 0, 0, body.len() as u32] {
            batch.extend_from_slice(&word.to_be_bytes());
        }
        batch.extend_from_slice(body.as_bytes());
        batch.extend_from_slice(&(properties.len() as u16).to_be_bytes());
        batch.extend_from_slice(properties.as_bytes());
    }
    let mut fields = send_fields("Batched", "1", "");
    fields[12] = ("m", "true");
    client.call(RequestCode::SEND_BATCH_MESSAGE, &fields, &batch).expect(ResponseCode::SUCCESS);
    assert_eq!(query(&mut client, "Batched", "batch").records().len(), 5);
    for n in 0..5 {
        assert_eq!(bodies(&query(&mut client, "Batched", &format!("B{n}"))), [format!("batched {n}")]);
    }

    // The broker gives a unique key to a message that comes without.
    let sent = send(&mut client, "Plain", 0, "", "no keys");
    let unique = sent.field("transactionId").to_owned();
    assert_eq!(bodies(&query(&mut client, "Plain", &unique)), ["no keys"]);
}

#[test]
fn keys_outlive_kills_and_stops() {
    for is_killed in [true, false] {
        let dir = TempDir::new();
        let mut server = Server::start(dir.path(), SHARDS);
        for round in 0..3 {
            let mut client = server.connect();
            for n in 0..30 {
                let keys = keyed(&format!("r{round}n{n} all"), &format!("U{round}x{n}"));
                send(&mut client, "Kept", n % 4, &keys, &format!("{round} {n}"));
            }
            server = if is_killed { server.kill_and_restart() } else { server.stop_and_restart() };
            let mut client = server.connect();
            await_known(&mut client);
            for old in 0..=round {
                for n in 0..30 {
                    let found = query(&mut client, "Kept", &format!("U{old}x{n}"));
                    assert_eq!(bodies(&found), [format!("{old} {n}")]);
                }
            }
        }
    }
}

#[test]
fn without_an_index_nothing_is_found_and_it_can_be_turned_on() {
    let dir = TempDir::new();
    let mut server = Server::start(dir.path(), &["messageIndexEnable=false"]);
    let mut client = server.connect();
    send(&mut client, "Later", 0, &keyed("k", "U"), "indexed later");
    query(&mut client, "Later", "k").expect(ResponseCode::QUERY_NOT_FOUND);
    server.stop();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    await_known(&mut client);
    assert_eq!(bodies(&query(&mut client, "Later", "k")), ["indexed later"]);
}
