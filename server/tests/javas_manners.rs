//! What a run beside Java's broker has shown of sends and pulls, kept where there is no Java.

mod support;

use rmq_protocol::batch::BatchEntry;
use rmq_protocol::properties::Properties;
use rmq_protocol::request_code::RequestCode;
use rmq_protocol::response_code::ResponseCode;
use support::{Client, Server, TempDir, send_fields};

/// Old and odd clients leave fields out that Java reads and then does not need.
#[test]
fn a_send_needs_no_more_fields_than_javas() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    let without = |topic, letter| -> Vec<(&str, &str)> {
        send_fields(topic, "0", "").into_iter().filter(|(name, _)| *name != letter).collect()
    };
    let mut send = |fields: &[(&str, &str)]| client.call(RequestCode::SEND_MESSAGE_V2, fields, b"x").code;
    assert_eq!(send(&without("Known", "a")), ResponseCode::SUCCESS);
    for letter in ["c", "d"] {
        assert_eq!(send(&without("Known", letter)), ResponseCode::SUCCESS, "{letter}");
        assert_eq!(send(&without("Unknown", letter)), ResponseCode::SYSTEM_ERROR, "nothing to make it from");
    }
    for (at, letter) in [(3, "d"), (9, "j"), (11, "l")] {
        let mut fields = send_fields("Known", "0", "");
        fields[at] = (letter, "");
        assert_eq!(send(&fields), ResponseCode::SYSTEM_ERROR, "an empty {letter} is no number");
    }
}

#[test]
fn a_pull_needs_no_more_fields_than_javas() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    client.send("Known", 0, "TAGS\u{1}A\u{2}", b"x").expect(ResponseCode::SUCCESS);
    let fields = |sys_flag, more: &[(&'static str, &'static str)]| {
        let mut fields = vec![
            ("consumerGroup", "test-group"),
            ("topic", "Known"),
            ("queueId", "0"),
            ("queueOffset", "0"),
            ("maxMsgNums", "1"),
            ("sysFlag", sys_flag),
        ];
        fields.extend(more);
        fields
    };
    let mut pull = |sys_flag, more: &[(&'static str, &'static str)]| {
        client.call(RequestCode::PULL_MESSAGE, &fields(sys_flag, more), b"").code
    };
    assert_eq!(pull("4", &[]), ResponseCode::SUCCESS, "no subscription is one for everything");
    assert_eq!(pull("6", &[]), ResponseCode::SUCCESS, "found at once, so the time is not needed");
    assert_eq!(pull("5", &[]), ResponseCode::SYSTEM_ERROR, "a commit needs its offset");
    assert_eq!(pull("0", &[]), ResponseCode::SUBSCRIPTION_NOT_EXIST);
    assert_eq!(pull("4", &[("commitOffset", "")]), ResponseCode::SYSTEM_ERROR);
    assert_eq!(pull("4", &[("subscription", "||")]), ResponseCode::SUBSCRIPTION_PARSE_FAILED);
    assert_eq!(pull("4", &[("subscription", " || ")]), ResponseCode::PULL_RETRY_IMMEDIATELY);
}

#[test]
fn a_refused_pull_says_who_forbids_it() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &["brokerPermission=6"]);
    let mut client = server.connect();
    let topic = [
        ("topic", "Unreadable"),
        ("readQueueNums", "1"),
        ("writeQueueNums", "1"),
        ("perm", "2"),
        ("topicFilterType", "SINGLE_TAG"),
    ];
    client.call(RequestCode::UPDATE_AND_CREATE_TOPIC, &topic, b"").expect(ResponseCode::SUCCESS);
    let by_topic = client.pull("Unreadable", 0, 0, "*", 0).expect(ResponseCode::NO_PERMISSION);
    assert_eq!(by_topic.field("forbiddenType"), "3");
    let group = br#"{"groupName":"test-group","consumeEnable":false}"#;
    client.call(RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], group).expect(ResponseCode::SUCCESS);
    let by_group = client.pull("Unreadable", 0, 0, "*", 0).expect(ResponseCode::NO_PERMISSION);
    assert_eq!(by_group.field("forbiddenType"), "2");
    let write_only = TempDir::new();
    let server = Server::start(write_only.path(), &["brokerPermission=2"]);
    let by_broker = server.connect().pull("Any", 0, 0, "*", 0).expect(ResponseCode::NO_PERMISSION);
    assert_eq!(by_broker.field("forbiddenType"), "1");
}

#[test]
fn what_is_no_property_is_not_stored() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    client.send("Odd", 0, "noise\u{2}k\u{1}\u{2}\u{1}v\u{2}TAGS\u{1}A", b"x").expect(ResponseCode::SUCCESS);
    let pulled = client.pull("Odd", 0, 0, "A", 0).expect(ResponseCode::SUCCESS);
    let stored = String::from_utf8(pulled.records()[0].properties().0.to_vec()).unwrap();
    assert!(stored.starts_with("TAGS\u{1}A\u{2}MSG_REGION\u{1}"), "{stored:?}");
    client.send("Odd", 0, "DELAY\u{1}soon\u{2}", b"x").expect(ResponseCode::SYSTEM_ERROR);
}

/// The header of a batch says what all of its messages have in common.
#[test]
fn each_message_of_a_batch_has_the_properties_of_all() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    client.send("Batch", 0, "", b"creates the topic").expect(ResponseCode::SUCCESS);
    let mut body = Vec::new();
    for properties in [&b"TAGS\x01A"[..], b""] {
        BatchEntry { flag: 0, body: b"x", properties: Properties(properties) }.push_to(&mut body);
    }
    let mut fields = send_fields("Batch", "0", "own\u{1}header\u{2}");
    fields[12] = ("m", "true");
    client.call(RequestCode::SEND_BATCH_MESSAGE, &fields, &body).expect(ResponseCode::SUCCESS);
    let pulled = client.pull("Batch", 0, 1, "*", 0).expect(ResponseCode::SUCCESS);
    for (record, tag) in pulled.records().iter().zip([Some("A"), None]) {
        let properties = record.properties();
        let found = ["TAGS", "own", "MSG_REGION", "TRACE_ON", "CLUSTER"].map(|key| properties.find(key));
        assert_eq!(found, [tag, Some("header"), Some("DefaultRegion"), Some("true"), Some("DefaultCluster")]);
    }
    assert_eq!(client.pull("Batch", 0, 1, "A", 0).expect(ResponseCode::SUCCESS).records().len(), 1);
    fields[5] = ("f", "4");
    client.call(RequestCode::SEND_BATCH_MESSAGE, &fields, &body).expect(ResponseCode::MESSAGE_ILLEGAL);
    fields[5] = ("f", "0");
    fields[8] = ("i", "DELAY\u{1}soon\u{2}");
    client.call(RequestCode::SEND_BATCH_MESSAGE, &fields, &body).expect(ResponseCode::SYSTEM_ERROR);
}

fn queues(client: &mut Client, topic: &str) -> String {
    let answer = client.call(RequestCode::GET_TOPIC_CONFIG, &[("topic", topic)], b"");
    let body = String::from_utf8(answer.expect(ResponseCode::SUCCESS).body).unwrap();
    let from = body.find("\"writeQueueNums\":").expect("a topic configuration");
    body[from..].trim_end_matches('}').to_owned()
}

#[test]
fn dead_letters_carry_what_java_leaves_in_them() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &["rmq.shards=2"]);
    let mut client = server.connect();
    let mut fields = send_fields("%RETRY%test-group", "0", "");
    fields[9] = ("j", "17");
    client.call(RequestCode::SEND_MESSAGE_V2, &fields, b"too often").expect(ResponseCode::SUCCESS);
    assert_eq!(queues(&mut client, "%RETRY%test-group"), "\"writeQueueNums\":4", "as any topic a send makes");

    let sent = client.send("Plain", 0, "", b"unwanted").expect(ResponseCode::SUCCESS);
    let offset = i64::from_str_radix(&sent.field("msgId")[16..], 16).expect("hex").to_string();
    let back =
        [("offset", offset.as_str()), ("group", "test-group"), ("delayLevel", "-1"), ("unitMode", "true")];
    client.call(RequestCode::CONSUMER_SEND_MSG_BACK, &back, b"").expect(ResponseCode::SUCCESS);
    let dead = client.pull("%DLQ%test-group", 0, 0, "*", 0).expect(ResponseCode::SUCCESS);
    let found: Vec<_> = dead
        .records()
        .iter()
        .map(|record| ["DELAY", "WAIT"].map(|key| record.properties().find(key).map(str::to_owned)))
        .collect();
    let text = |value: &str| Some(value.to_owned());
    assert_eq!(found, [[text("-1"), None], [text("0"), text("false")]]);
}

#[test]
fn a_pull_may_commit_that_nothing_is_known() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &["rmq.shards=2"]);
    let mut client = server.connect();
    client.send("Known", 0, "", b"x").expect(ResponseCode::SUCCESS);
    let pull = [
        ("consumerGroup", "test-group"),
        ("topic", "Known"),
        ("queueId", "0"),
        ("queueOffset", "0"),
        ("maxMsgNums", "1"),
        ("sysFlag", "5"),
        ("commitOffset", "-1"),
    ];
    client.call(RequestCode::PULL_MESSAGE, &pull, b"").expect(ResponseCode::SUCCESS);
    let all = client.call(RequestCode::GET_ALL_CONSUMER_OFFSET, &[], b"").expect(ResponseCode::SUCCESS);
    let text = String::from_utf8(all.body).unwrap();
    let wanted = r#""groupTopicMap":{"test-group":["Known"]},"offsetTable":{"Known@test-group":{0:-1}}"#;
    assert!(text.contains(wanted), "{text}");
    let query = [("consumerGroup", "test-group"), ("topic", "Known"), ("queueId", "0")];
    let begins = client.call(RequestCode::QUERY_CONSUMER_OFFSET, &query, b"").expect(ResponseCode::SUCCESS);
    assert_eq!(begins.number("offset"), 0, "as a group that has committed nothing");
}

#[test]
fn delay_levels_are_told_as_they_are() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &["rmq.shards=2", "messageDelayLevel=1s 1h"]);
    let mut client = server.connect();
    client.send("Later", 0, "", b"makes the topic").expect(ResponseCode::SUCCESS);
    for level in ["1", "2"] {
        let properties = format!("DELAY\u{1}{level}\u{2}");
        client.send("Later", 0, &properties, b"later").expect(ResponseCode::SUCCESS);
    }
    client.pull("Later", 0, 1, "*", 10_000).expect(ResponseCode::SUCCESS);
    let told = client.call(RequestCode::GET_ALL_DELAY_OFFSET, &[], b"").expect(ResponseCode::SUCCESS);
    let text = String::from_utf8(told.body).unwrap();
    // The first may just be about to count its delivery.
    assert!(text.contains(r#""offsetTable":{1:1,2:0}"#) || text.contains("{1:0,2:0}"), "{text}");
}
