//! SQL92 subscriptions: what is not wanted does not leave the broker.

mod support;

use std::time::{Duration, Instant};

use rmq_protocol::request_code::RequestCode;
use rmq_protocol::response_code::ResponseCode;
use support::{Answer, Client, Server, TempDir};

const ENABLED: &[&str] = &["enablePropertyFilter=true"];

fn post(client: &mut Client, from: i64, sys_flag: &str, expression: &str, hold_ms: u64) -> i32 {
    let (from, hold_ms) = (from.to_string(), hold_ms.to_string());
    let fields = [
        ("consumerGroup", "test-group"),
        ("topic", "Cities"),
        ("queueId", "0"),
        ("queueOffset", &from),
        ("maxMsgNums", "32"),
        ("sysFlag", sys_flag),
        ("commitOffset", "0"),
        ("suspendTimeoutMillis", &hold_ms),
        ("subscription", expression),
        ("subVersion", "0"),
        ("expressionType", "SQL92"),
    ];
    client.post(RequestCode::PULL_MESSAGE, &fields, b"")
}

fn answer(client: &mut Client, opaque: i32) -> Answer {
    loop {
        let answer = client.next().expect("an answer");
        if answer.is_response && answer.opaque == opaque {
            return answer;
        }
    }
}

fn pull(client: &mut Client, from: i64, expression: &str) -> Answer {
    let opaque = post(client, from, "4", expression, 0);
    answer(client, opaque)
}

fn offsets(answer: &Answer) -> Vec<i64> {
    answer.records().iter().map(|record| record.queue_offset()).collect()
}

fn send(client: &mut Client, population: i64, body: &[u8]) {
    client
        .send("Cities", 0, &format!("population\u{1}{population}\u{2}"), body)
        .expect(ResponseCode::SUCCESS);
}

/// Heartbeat of one consumer of `test-group`.
fn subscribe(client: &mut Client, expression: &str, version: i64) {
    let body = format!(
        r#"{{"clientID":"c@1","producerDataSet":[],"consumerDataSet":[{{"groupName":"test-group",
        "consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","consumeFromWhere":
        "CONSUME_FROM_LAST_OFFSET","unitMode":false,"subscriptionDataSet":[{{"classFilterMode":false,
        "topic":"Cities","subString":"{expression}","tagsSet":[],"codeSet":[],"subVersion":{version},
        "expressionType":"SQL92"}}]}}]}}"#
    );
    assert_eq!(client.call(RequestCode::HEART_BEAT, &[], body.as_bytes()).code, ResponseCode::SUCCESS);
}

#[test]
fn a_pull_gets_what_its_expression_wants_and_goes_on_behind_the_rest() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), ENABLED);
    let mut client = server.connect();
    for population in 0..20 {
        send(&mut client, population, b"x");
    }
    let some = pull(&mut client, 0, "population >= 5 AND population NOT BETWEEN 7 AND 18");
    assert_eq!(offsets(&some), [5, 6, 19]);
    assert_eq!((some.code, some.number("nextBeginOffset")), (ResponseCode::SUCCESS, 20));
    let none = pull(&mut client, 3, "population = 'x' OR mayor IS NOT NULL");
    assert_eq!((none.code, none.number("nextBeginOffset")), (ResponseCode::PULL_RETRY_IMMEDIATELY, 20));
    assert!(none.body.is_empty());
    // What the broker adds to the properties can be asked for too.
    assert_eq!(offsets(&pull(&mut client, 18, "UNIQ_KEY IS NOT NULL AND TRACE_ON = TRUE")), [18, 19]);
    assert_eq!(pull(&mut client, 20, "TRUE").code, ResponseCode::PULL_NOT_FOUND);
}

/// After a restart everything is on disk only.
#[test]
fn a_cold_read_filters_too_and_looks_at_a_bounded_number() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), ENABLED);
    let mut client = server.connect();
    for population in 0..1_000 {
        send(&mut client, population, &[0; 100]);
    }
    drop(client);
    let server = server.stop_and_restart();
    let mut client = server.connect();
    let few = pull(&mut client, 0, "population IN ('3', '300', '700')");
    assert_eq!((offsets(&few), few.number("nextBeginOffset")), (vec![3, 300, 700], 800));
    let none = pull(&mut client, 0, "population = 900");
    assert_eq!((none.code, none.number("nextBeginOffset")), (ResponseCode::PULL_RETRY_IMMEDIATELY, 800));
    assert_eq!(offsets(&pull(&mut client, 800, "population = 900")), [900]);
}

#[test]
fn a_held_pull_waits_for_a_message_that_it_wants() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), ENABLED);
    let mut client = server.connect();
    send(&mut client, 0, b"x");
    let mut waiting = server.connect();
    let began = Instant::now();
    let opaque = post(&mut waiting, 1, "6", "population > 100", 20_000);
    // Requests of one connection for one queue are handled in turn: now the first is held.
    assert_eq!(offsets(&pull(&mut waiting, 0, "TRUE")), [0]);
    send(&mut client, 1, b"x");
    send(&mut client, 2, b"x");
    waiting.socket.set_read_timeout(Some(Duration::from_millis(300))).expect("time-out");
    let mut byte = [0];
    let silent = waiting.socket.peek(&mut byte).expect_err("nothing wanted has come");
    assert!(matches!(silent.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut));
    waiting.socket.set_read_timeout(Some(Duration::from_secs(30))).expect("time-out");
    send(&mut client, 101, b"big");
    let found = answer(&mut waiting, opaque);
    assert_eq!((offsets(&found), found.number("nextBeginOffset")), (vec![3], 4));
    assert!(began.elapsed() < Duration::from_secs(4), "woken, not timed out: {:?}", began.elapsed());
}

#[test]
fn a_subscription_of_a_heartbeat_filters() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), ENABLED);
    let mut client = server.connect();
    for population in [1, 10, 100] {
        send(&mut client, population, b"x");
    }
    let pull = |client: &mut Client| {
        let opaque = post(client, 0, "0", "", 0);
        answer(client, opaque)
    };
    subscribe(&mut client, "population > 5", 1);
    assert_eq!(offsets(&pull(&mut client)), [1, 2]);
    subscribe(&mut client, "population < 5", 2);
    assert_eq!(offsets(&pull(&mut client)), [0]);
    subscribe(&mut client, "population >", 3);
    let refused = pull(&mut client);
    assert_eq!(refused.code, ResponseCode::FILTER_DATA_NOT_EXIST);
    assert!(refused.remark.contains("Your expression may be wrong"), "{}", refused.remark);
}

#[test]
fn a_bad_expression_is_refused_with_its_place() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), ENABLED);
    let mut client = server.connect();
    send(&mut client, 0, b"x");
    let refused = pull(&mut client, 0, "population BETWEEN 1");
    assert_eq!(refused.code, ResponseCode::SUBSCRIPTION_PARSE_FAILED);
    assert!(refused.remark.contains("AND is missing at character 21"), "{}", refused.remark);
    let mut check = |expression: &str| {
        let body = format!(
            r#"{{"clientId":"c","group":"g","subscriptionData":{{"topic":"Cities","expressionType":"SQL92",
            "subString":"{expression}"}}}}"#
        );
        client.call(RequestCode::CHECK_CLIENT_CONFIG, &[], body.as_bytes()).code
    };
    assert_eq!(check("population > 1"), ResponseCode::SUCCESS);
    assert_eq!(check("population > "), ResponseCode::SUBSCRIPTION_PARSE_FAILED);
}

#[test]
fn a_broker_that_is_not_set_to_it_refuses() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    send(&mut client, 0, b"x");
    let refused = pull(&mut client, 0, "population >= 0");
    assert_eq!(refused.code, ResponseCode::SYSTEM_ERROR);
    assert_eq!(refused.remark, "The broker does not support consumer to filter message by SQL92");
}
