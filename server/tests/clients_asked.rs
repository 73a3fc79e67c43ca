//! What the broker asks of its clients: request-reply, requests of tools that a client answers, and resets.

mod support;

use std::time::{Duration, Instant};

use rmq_protocol::frame::Frame;
use rmq_protocol::header::Codec;
use rmq_protocol::request_code::RequestCode;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::writer::FrameWriter;
use std::io::Write;
use support::{Answer, Client, Server, TempDir, send_fields};

const REPLY_TOPIC: &str = "DefaultCluster_REPLY_TOPIC";

fn beat(client: &mut Client, id: &str, consumer_of: Option<(&str, &str)>) {
    let consumers = consumer_of.map_or(String::new(), |(group, topic)| {
        format!(
            r#"{{"groupName":"{group}","consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING",
            "consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET","unitMode":false,"subscriptionDataSet":[
            {{"topic":"{topic}","subString":"*","subVersion":1,"expressionType":"TAG"}}]}}"#
        )
    });
    let body = format!(
        r#"{{"clientID":"{id}","producerDataSet":[{{"groupName":"makers"}}],"consumerDataSet":[{consumers}]}}"#
    );
    client.call(RequestCode::HEART_BEAT, &[], body.as_bytes()).expect(ResponseCode::SUCCESS);
}

/// The next request of the broker with this code.
fn asked(client: &mut Client, code: RequestCode) -> Answer {
    loop {
        let frame = client.next().expect("a request of the broker");
        if !frame.is_response && frame.code.0 == code.0 {
            return frame;
        }
    }
}

fn answer(client: &mut Client, opaque: i32, body: &[u8]) {
    let mut frame = Vec::new();
    FrameWriter::response(&mut frame, Codec::Json, ResponseCode::SUCCESS, opaque).body(body);
    client.socket.write_all(&frame).expect("the broker reads");
}

fn answered(client: &mut Client, opaque: i32) -> Answer {
    loop {
        let answer = client.next().expect("an answer");
        if answer.is_response && answer.opaque == opaque {
            return answer;
        }
    }
}

fn post_reply(client: &mut Client, requester: &str) -> i32 {
    let properties = format!("CORRELATION_ID\u{1}c\u{2}REPLY_TO_CLIENT\u{1}{requester}\u{2}");
    client.post(RequestCode::SEND_REPLY_MESSAGE_V2, &send_fields(REPLY_TOPIC, "0", &properties), b"reply")
}

#[test]
fn a_reply_reaches_the_client_that_asked_and_is_stored() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let (mut requester, mut replier) = (server.connect(), server.connect());
    beat(&mut requester, "r@1", None);
    let opaque = post_reply(&mut replier, "r@1");
    let pushed = asked(&mut requester, RequestCode::PUSH_REPLY_MESSAGE_TO_CLIENT);
    assert_eq!(pushed.body, b"reply");
    assert!(pushed.field("properties").contains("CORRELATION_ID\u{1}c\u{2}"), "{pushed:?}");
    assert!(pushed.field("properties").contains("PUSH_REPLY_TIME\u{1}"), "{pushed:?}");
    answer(&mut requester, pushed.opaque, b"");
    let sent = answered(&mut replier, opaque).expect(ResponseCode::SUCCESS);
    assert_eq!((sent.number("queueOffset"), sent.field("msgId").len()), (0, 32));
    assert_eq!(replier.drain(REPLY_TOPIC, 0), [(0, b"reply".to_vec())]);
}

#[test]
fn a_requester_that_goes_away_or_never_was_costs_no_waiting_and_the_reply_is_kept() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let (mut requester, mut replier) = (server.connect(), server.connect());
    let opaque = post_reply(&mut replier, "nobody");
    let refused = answered(&mut replier, opaque).expect(ResponseCode::SYSTEM_ERROR);
    assert!(refused.remark.contains("channel of <nobody> not found"), "{refused:?}");
    assert_eq!(refused.number("queueOffset"), 0, "it is stored all the same");

    beat(&mut requester, "r@1", None);
    let opaque = post_reply(&mut replier, "r@1");
    asked(&mut requester, RequestCode::PUSH_REPLY_MESSAGE_TO_CLIENT);
    let began = Instant::now();
    drop(requester);
    answered(&mut replier, opaque).expect(ResponseCode::SYSTEM_ERROR);
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "the push ends with its connection, not after ten seconds"
    );
    assert_eq!(replier.drain(REPLY_TOPIC, 0).len(), 2);
}

#[test]
fn replies_are_not_stored_when_that_is_switched_off_while_the_broker_runs() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let (mut requester, mut replier) = (server.connect(), server.connect());
    beat(&mut requester, "r@1", None);
    let change = |client: &mut Client, body: &[u8]| client.call(RequestCode::UPDATE_BROKER_CONFIG, &[], body);
    change(&mut replier, b"storeReplyMessageEnable=false").expect(ResponseCode::SUCCESS);
    let opaque = post_reply(&mut replier, "r@1");
    let pushed = asked(&mut requester, RequestCode::PUSH_REPLY_MESSAGE_TO_CLIENT);
    answer(&mut requester, pushed.opaque, b"");
    assert_eq!(answered(&mut replier, opaque).expect(ResponseCode::SUCCESS).field("msgId"), "0");
    assert_eq!(replier.drain(REPLY_TOPIC, 0), []);
}

#[test]
fn a_tools_question_to_a_consumer_comes_back_with_the_consumers_own_answer() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let (mut consumer, mut tool) = (server.connect(), server.connect());
    tool.send("Asked", 0, "", b"x").expect(ResponseCode::SUCCESS);
    beat(&mut consumer, "c@1", Some(("askers", "Asked")));
    let fields = [("consumerGroup", "askers"), ("clientId", "c@1"), ("jstackEnable", "false")];
    let opaque = tool.post(RequestCode::GET_CONSUMER_RUNNING_INFO, &fields, b"");
    let question = asked(&mut consumer, RequestCode::GET_CONSUMER_RUNNING_INFO);
    assert_eq!((question.field("consumerGroup"), question.field("clientId")), ("askers", "c@1"));
    // Nobody asked for this one.
    answer(&mut consumer, question.opaque + 1, b"wrong");
    answer(&mut consumer, question.opaque, b"{\"properties\":{}}");
    let info = answered(&mut tool, opaque).expect(ResponseCode::SUCCESS);
    assert_eq!(info.body, b"{\"properties\":{}}");
    let offline = [("consumerGroup", "askers"), ("clientId", "none"), ("jstackEnable", "false")];
    let none = tool.call(RequestCode::GET_CONSUMER_RUNNING_INFO, &offline, b"");
    assert_eq!(
        (none.code, none.remark.as_str()),
        (ResponseCode::SYSTEM_ERROR, "The Consumer <askers> <none> not online")
    );
}

/// A client may answer what was never asked, as much as it likes.
#[test]
fn answers_that_nobody_waits_for_harm_nobody() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    beat(&mut client, "c@1", None);
    let mut frames = Vec::new();
    for opaque in -500..500 {
        let mut frame = Vec::new();
        FrameWriter::response(&mut frame, Codec::Json, ResponseCode::SUCCESS, opaque).body(&[b'x'; 1000]);
        assert!(matches!(Frame::decode(&frame), Ok(Some(_))));
        frames.extend(frame);
    }
    for _ in 0..20 {
        client.socket.write_all(&frames).expect("the broker reads");
    }
    client.send("Calm", 0, "", b"x").expect(ResponseCode::SUCCESS);
}

#[test]
fn a_reset_wakes_a_waiting_pull_overrides_late_commits_and_survives_a_kill() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let (mut consumer, mut tool) = (server.connect(), server.connect());
    for _ in 0..5 {
        tool.send("Rewound", 0, "", b"x").expect(ResponseCode::SUCCESS);
    }
    let place = [("consumerGroup", "test-group"), ("topic", "Rewound"), ("queueId", "0")];
    let commit = [place[0], place[1], place[2], ("commitOffset", "5")];
    assert_eq!(consumer.pull("Rewound", 0, 0, "*", 0).records().len(), 5);
    consumer.call(RequestCode::UPDATE_CONSUMER_OFFSET, &commit, b"").expect(ResponseCode::SUCCESS);

    let held = consumer.post_pull("Rewound", 0, 5, "*", 20_000);
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    let reset = [
        ("topic", "Rewound"),
        ("group", "test-group"),
        ("timestamp", "0"),
        ("isForce", "true"),
        ("queueId", "0"),
        ("offset", "2"),
    ];
    let table =
        tool.call(RequestCode::INVOKE_BROKER_TO_RESET_OFFSET, &reset, b"").expect(ResponseCode::SUCCESS);
    assert!(String::from_utf8(table.body).unwrap().ends_with("\"queueId\":0,\"topic\":\"Rewound\"}:2}}"));
    let moved = answered(&mut consumer, held).expect(ResponseCode::PULL_OFFSET_MOVED);
    assert_eq!((moved.number("nextBeginOffset"), moved.remark.as_str()), (2, "OFFSET_RESET"));
    assert!(began.elapsed() < Duration::from_secs(10), "at once, not when the pull's time is up");

    tool.call(RequestCode::INVOKE_BROKER_TO_RESET_OFFSET, &reset, b"").expect(ResponseCode::SUCCESS);
    let late = consumer.call(RequestCode::UPDATE_CONSUMER_OFFSET, &commit, b"");
    assert_eq!(late.remark, "Offset has been previously reset");
    let server = server.kill_and_restart();
    let found = server.connect().call(RequestCode::QUERY_CONSUMER_OFFSET, &place, b"");
    assert_eq!(found.number("offset"), 2);
}
