//! Every request code, through frames.

use std::collections::BTreeMap;

use rmq_protocol::body::TopicConfig;

use super::*;
use crate::namesrv::test_dir::TestDir;

/// A name server without sockets: requests go in as frames, answers come out as frames.
struct Bench {
    handler: Handler,
    now_ms: u64,
    version: i32,
    _dir: TestDir,
}

struct Got {
    code: ResponseCode,
    remark: String,
    fields: BTreeMap<String, String>,
    body: String,
}

impl Bench {
    fn new(name: &str, settings: &[(&str, &str)]) -> Self {
        let dir = TestDir::new(name);
        let path = |file: &str| dir.path().join(file).to_string_lossy().into_owned();
        let mut overrides = vec![
            ("kvConfigPath".to_owned(), path("kvConfig.json")),
            ("configStorePath".to_owned(), path("namesrv.properties")),
        ];
        overrides.extend(settings.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())));
        let (config, _) = NamesrvConfig::load(None, &overrides).unwrap();
        Self { handler: Handler::new(config).unwrap(), now_ms: 0, version: version::V5_3_3, _dir: dir }
    }

    fn ask(&mut self, code: RequestCode, fields: &[(&str, &str)], body: &[u8]) -> Got {
        self.ask_in(Codec::Json, code, fields, body)
    }

    fn ask_in(&mut self, codec: Codec, code: RequestCode, fields: &[(&str, &str)], body: &[u8]) -> Got {
        let mut request = Vec::new();
        let mut writer = FrameWriter::request(&mut request, codec, code, 7, false).version(self.version);
        for (name, value) in fields {
            writer.put_field(name, value);
        }
        writer.body(body);
        let (frame, _) = Frame::decode(&request).unwrap().unwrap();
        let mut out = Vec::new();
        self.handler.handle(&frame, ConnectionNumber(1), self.now_ms, &mut out);
        let (answer, len) = Frame::decode(&out).unwrap().unwrap();
        assert_eq!((len, answer.header.opaque, answer.header.codec), (out.len(), 7, codec));
        assert!(answer.header.is_response() && answer.header.version == version::V5_3_3);
        let pairs = answer.header.fields.iter();
        Got {
            code: answer.header.response_code(),
            remark: answer.header.remark.map(|text| text.cow().into_owned()).unwrap_or_default(),
            fields: pairs.map(|(key, value)| (key.cow().into_owned(), value.cow().into_owned())).collect(),
            body: String::from_utf8(answer.body.to_vec()).unwrap(),
        }
    }

    fn register(&mut self, broker: &str, id: i64, topics: &[&str]) -> Got {
        let header = header_of(broker, id);
        let fields: Vec<(&str, &str)> = header.iter().map(|(key, value)| (*key, value.as_str())).collect();
        self.ask(RequestCode::REGISTER_BROKER, &fields, &body_of(topics).encode())
    }

    fn route(&mut self, topic: &str) -> Got {
        self.ask(RequestCode::GET_ROUTEINFO_BY_TOPIC, &[("topic", topic)], b"")
    }
}

fn header_of(broker: &str, id: i64) -> Vec<(&'static str, String)> {
    vec![
        ("brokerName", broker.to_owned()),
        ("brokerAddr", format!("{broker}{id}:10911")),
        ("clusterName", "C".to_owned()),
        ("haServerAddr", format!("{broker}{id}:10912")),
        ("brokerId", id.to_string()),
        ("enableActingMaster", "false".to_owned()),
    ]
}

fn body_of(topics: &[&str]) -> RegisterBrokerBody {
    let mut body = RegisterBrokerBody::default();
    body.topics.data_version = DataVersion { counter: 1, state_version: 0, timestamp: 5 };
    for topic in topics {
        body.topics.topic_config_table.insert((*topic).to_owned(), TopicConfig::new(*topic, 4, 6));
    }
    body
}

#[test]
fn routes_in_both_key_styles_and_both_codecs() {
    let mut bench = Bench::new("routes", &[]);
    assert_eq!(bench.register("a", 0, &["T", "U"]).code, ResponseCode::SUCCESS);
    let quoted = concat!(
        r#"{"brokerDatas":[{"brokerAddrs":{"0":"a0:10911"},"brokerName":"a","cluster":"C","#,
        r#""enableActingMaster":false}],"filterServerTable":{},"queueDatas":[{"brokerName":"a","perm":6,"#,
        r#""readQueueNums":4,"topicSysFlag":0,"writeQueueNums":4}]}"#
    );
    assert_eq!(bench.route("T").body, quoted);
    let fields = [("topic", "T")];
    assert_eq!(bench.ask_in(Codec::Binary, RequestCode::GET_ROUTEINFO_BY_TOPIC, &fields, b"").body, quoted);
    bench.version = version::V4_9_4 - 1;
    let unquoted = quoted.replace("{\"0\":", "{0:");
    assert_eq!(bench.route("T").body, unquoted);
    let fields = [("topic", "T"), ("acceptStandardJsonOnly", "true")];
    assert_eq!(bench.ask(RequestCode::GET_ROUTEINFO_BY_TOPIC, &fields, b"").body, quoted);
    let miss = bench.route("V");
    assert_eq!(miss.code, ResponseCode::TOPIC_NOT_EXIST);
    assert!(miss.remark.contains("No topic route info in name server for the topic: V"));
}

#[test]
fn a_zone_leaves_its_own_brokers_in_the_old_key_style() {
    let mut bench = Bench::new("zone", &[]);
    for (broker, zone) in [("a", "z1"), ("b", "z2")] {
        let mut header = header_of(broker, 0);
        header.push(("__ZONE_NAME", zone.to_owned()));
        let fields: Vec<(&str, &str)> = header.iter().map(|(key, value)| (*key, value.as_str())).collect();
        bench.ask(RequestCode::REGISTER_BROKER, &fields, &body_of(&["T", "U"]).encode());
    }
    let fields = [("topic", "T"), ("__ZONE_MODE", "true"), ("__ZONE_NAME", "Z2")];
    let body = bench.ask(RequestCode::GET_ROUTEINFO_BY_TOPIC, &fields, b"").body;
    assert!(body.contains(r#"{0:"b0:10911"}"#) && body.contains(r#""zoneName":"z2""#), "{body}");
    assert!(!body.contains("a0:10911") && !body.contains(r#""brokerName":"a""#), "{body}");
    let all = bench.route("T").body;
    assert!(all.contains("a0:10911") && all.contains("b0:10911"));
}

#[test]
fn registrations_plain_compressed_damaged_and_premature() {
    let mut bench = Bench::new("registrations", &[]);
    assert_eq!(bench.register("a", 0, &["T"]).remark, "register broker failed");
    let body = body_of(&["T", "U"]).encode_compressed(version::V5_3_3);
    let mut header = header_of("a", 0);
    header.push(("compressed", "true".to_owned()));
    header.push(("bodyCrc32", register_body_crc32(&body).to_string()));
    let fields: Vec<(&str, &str)> = header.iter().map(|(key, value)| (*key, value.as_str())).collect();
    assert_eq!(bench.ask(RequestCode::REGISTER_BROKER, &fields, &body).code, ResponseCode::SUCCESS);
    assert_eq!(bench.route("U").code, ResponseCode::SUCCESS);
    let damaged = bench.ask(RequestCode::REGISTER_BROKER, &fields, &body[1..]);
    assert_eq!((damaged.code, damaged.remark.as_str()), (ResponseCode::SYSTEM_ERROR, "crc32 not match"));
    header.pop();
    let fields: Vec<(&str, &str)> = header.iter().map(|(key, value)| (*key, value.as_str())).collect();
    assert_eq!(bench.ask(RequestCode::REGISTER_BROKER, &fields, b"xx").code, ResponseCode::SYSTEM_ERROR);
    assert_eq!(bench.ask(RequestCode::REGISTER_BROKER, &[], b"").code, ResponseCode::SYSTEM_ERROR);
}

#[test]
fn a_slave_learns_its_master_and_everybody_the_ordered_topics() {
    let mut bench = Bench::new("answers", &[("orderMessageEnable", "true")]);
    let first = bench.register("a", 0, &["T", "U"]);
    assert!(first.fields.is_empty() && first.body.is_empty());
    let put = [("namespace", ORDER_TOPIC_CONFIG), ("key", "T"), ("value", "a:4")];
    assert_eq!(bench.ask(RequestCode::PUT_KV_CONFIG, &put, b"").code, ResponseCode::SUCCESS);
    let answer = bench.register("a", 1, &[]);
    assert_eq!(
        (answer.fields["masterAddr"].as_str(), answer.fields["haServerAddr"].as_str()),
        ("a0:10911", "a0:10912")
    );
    assert_eq!(answer.body, r#"{"table":{"T":"a:4"}}"#);
    assert!(bench.route("T").body.contains(r#""orderTopicConf":"a:4""#));
    assert!(!bench.route("U").body.contains("orderTopicConf"));
}

#[test]
fn key_value_settings() {
    let mut bench = Bench::new("kv", &[]);
    let key = [("namespace", "n"), ("key", "k")];
    let missing = bench.ask(RequestCode::GET_KV_CONFIG, &key, b"");
    assert_eq!(missing.code, ResponseCode::QUERY_NOT_FOUND);
    assert_eq!(missing.remark, "No config item, Namespace: n Key: k");
    bench.ask(RequestCode::PUT_KV_CONFIG, &[("namespace", "n"), ("key", "k"), ("value", "v")], b"");
    assert_eq!(bench.ask(RequestCode::GET_KV_CONFIG, &key, b"").fields["value"], "v");
    assert_eq!(bench.ask(RequestCode::GET_KVLIST_BY_NAMESPACE, &key, b"").body, r#"{"table":{"k":"v"}}"#);
    bench.ask(RequestCode::DELETE_KV_CONFIG, &key, b"");
    assert_eq!(bench.ask(RequestCode::GET_KV_CONFIG, &key, b"").code, ResponseCode::QUERY_NOT_FOUND);
    let nameless = bench.ask(RequestCode::PUT_KV_CONFIG, &[("namespace", "n")], b"");
    assert_eq!(nameless.code, ResponseCode::SYSTEM_ERROR);
}

#[test]
fn data_versions_and_heartbeats_keep_a_broker_alive() {
    let mut bench = Bench::new("life", &[]);
    let who = [("brokerName", "a"), ("brokerAddr", "a0:10911"), ("clusterName", "C"), ("brokerId", "0")];
    let same = br#"{"counter":1,"stateVersion":0,"timestamp":5}"#;
    let unknown = bench.ask(RequestCode::QUERY_DATA_VERSION, &who, same);
    assert_eq!((unknown.fields["changed"].as_str(), unknown.body.as_str()), ("true", ""));
    bench.register("a", 0, &["T", "U"]);
    bench.now_ms = 100_000;
    let known = bench.ask(RequestCode::QUERY_DATA_VERSION, &who, same);
    assert_eq!((known.fields["changed"].as_str(), known.body.as_bytes()), ("false", &same[..]));
    assert!(bench.handler.expire(200_000).1.is_empty());
    bench.now_ms = 210_000;
    assert_eq!(bench.ask(RequestCode::BROKER_HEARTBEAT, &who, b"").code, ResponseCode::SUCCESS);
    assert!(bench.handler.expire(330_000).1.is_empty());
    assert_eq!(bench.handler.expire(330_001).1, [ConnectionNumber(1)]);
    assert_eq!(bench.route("T").code, ResponseCode::TOPIC_NOT_EXIST);
}

#[test]
fn clusters_members_and_lists() {
    let mut bench = Bench::new("lists", &[]);
    bench.register("a", 0, &["T", "U"]);
    bench.register("a", 1, &[]);
    assert_eq!(
        bench.ask(RequestCode::GET_BROKER_CLUSTER_INFO, &[], b"").body,
        concat!(
            r#"{"brokerAddrTable":{"a":{"brokerAddrs":{0:"a0:10911",1:"a1:10911"},"brokerName":"a","#,
            r#""cluster":"C","enableActingMaster":false}},"clusterAddrTable":{"C":["a"]}}"#
        )
    );
    let group = [("clusterName", "C"), ("brokerName", "a")];
    assert_eq!(
        bench.ask(RequestCode::GET_BROKER_MEMBER_GROUP, &group, b"").body,
        r#"{"brokerMemberGroup":{"brokerAddrs":{0:"a0:10911",1:"a1:10911"},"brokerName":"a","cluster":"C"}}"#
    );
    let nobody =
        bench.ask(RequestCode::GET_BROKER_MEMBER_GROUP, &[("clusterName", "C"), ("brokerName", "x")], b"");
    assert!(nobody.body.contains(r#""brokerAddrs":{}"#));
    let all = bench.ask(RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER, &[], b"");
    assert_eq!(all.body, r#"{"topicList":["T","U"]}"#);
    assert_eq!(bench.ask(RequestCode::GET_TOPICS_BY_CLUSTER, &[("cluster", "C")], b"").body, all.body);
    let system = bench.ask(RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_NS, &[], b"");
    assert_eq!(system.body, r#"{"brokerAddr":"a0:10911","topicList":["C","a"]}"#);
    let unit = bench.ask(RequestCode::GET_UNIT_TOPIC_LIST, &[], b"");
    assert_eq!(unit.body, r#"{"topicList":[]}"#);

    let mut closed =
        Bench::new("lists-off", &[("enableAllTopicList", "false"), ("enableTopicList", "false")]);
    for code in [RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER, RequestCode::GET_HAS_UNIT_SUB_TOPIC_LIST] {
        let refused = closed.ask(code, &[], b"");
        assert_eq!((refused.code, refused.remark.as_str()), (ResponseCode::SYSTEM_ERROR, "disable"));
    }
}

#[test]
fn permissions_topics_and_good_byes() {
    let mut bench = Bench::new("changes", &[]);
    bench.register("a", 0, &["T", "U"]);
    let broker = [("brokerName", "a")];
    assert_eq!(bench.ask(RequestCode::WIPE_WRITE_PERM_OF_BROKER, &broker, b"").fields["wipeTopicCount"], "2");
    assert!(bench.route("T").body.contains(r#""perm":4"#));
    assert_eq!(bench.ask(RequestCode::ADD_WRITE_PERM_OF_BROKER, &broker, b"").fields["addTopicCount"], "2");
    let queues = br#"{"queueDatas":[{"brokerName":"a","readQueueNums":2,"writeQueueNums":2,"perm":6}]}"#;
    bench.ask(RequestCode::REGISTER_TOPIC_IN_NAMESRV, &[("topic", "New")], queues);
    assert!(bench.route("New").body.contains(r#""readQueueNums":2"#));
    bench.ask(RequestCode::DELETE_TOPIC_IN_NAMESRV, &[("topic", "New")], b"");
    assert_eq!(bench.route("New").code, ResponseCode::TOPIC_NOT_EXIST);
    let who = [("brokerName", "a"), ("brokerAddr", "a0:10911"), ("clusterName", "C"), ("brokerId", "0")];
    assert_eq!(bench.ask(RequestCode::UNREGISTER_BROKER, &who, b"").code, ResponseCode::SUCCESS);
    assert_eq!(bench.route("T").code, ResponseCode::TOPIC_NOT_EXIST);
}

#[test]
fn settings_change_at_run_time_and_the_black_list_holds() {
    let mut bench = Bench::new("settings", &[]);
    let update = RequestCode::UPDATE_NAMESRV_CONFIG;
    assert_eq!(bench.ask(update, &[], b"enableTopicList=false\n").code, ResponseCode::SUCCESS);
    assert_eq!(bench.ask(RequestCode::GET_UNIT_TOPIC_LIST, &[], b"").remark, "disable");
    assert!(bench.ask(RequestCode::GET_NAMESRV_CONFIG, &[], b"").body.contains("enableTopicList=false\n"));
    let saved = std::fs::read_to_string(&bench.handler.config.config_store_path).unwrap();
    assert!(saved.contains("enableTopicList=false\n"));
    let refused = bench.ask(update, &[], b"enableTopicList=true\nkvConfigPath=/x");
    assert_eq!(
        (refused.code, refused.remark.as_str()),
        (ResponseCode::NO_PERMISSION, "Can not update config in black list.")
    );
    assert_eq!(bench.ask(RequestCode::GET_UNIT_TOPIC_LIST, &[], b"").remark, "disable");
    assert_eq!(bench.ask(update, &[], b"a=\\u1").remark, "string2Properties error");
    assert_eq!(bench.ask(update, &[], b"listenPort=x").code, ResponseCode::SYSTEM_ERROR);
    assert_eq!(bench.ask(update, &[], b"").code, ResponseCode::SUCCESS);
}

#[test]
fn a_warming_name_server_gives_no_routes() {
    let mut bench = Bench::new("warm-up", &[("needWaitForService", "true"), ("waitSecondsForService", "2")]);
    bench.register("a", 0, &["T", "U"]);
    bench.now_ms = 1_999;
    assert_eq!(bench.route("T").remark, "name server not ready");
    bench.now_ms = 2_000;
    assert_eq!(bench.route("T").code, ResponseCode::SUCCESS);
}

#[test]
fn unknown_codes_are_named_and_one_way_requests_stay_unanswered() {
    let mut bench = Bench::new("unknown", &[]);
    let got = bench.ask(RequestCode(9999), &[], b"");
    assert_eq!(got.code, ResponseCode::REQUEST_CODE_NOT_SUPPORTED);
    assert_eq!(got.remark, " request type 9999 not supported");
    let mut request = Vec::new();
    FrameWriter::request(&mut request, Codec::Json, RequestCode(9999), 1, true).finish();
    FrameWriter::response(&mut request, Codec::Json, ResponseCode::SUCCESS, 1).finish();
    let mut out = Vec::new();
    let mut rest = &request[..];
    while let Some((frame, len)) = Frame::decode(rest).unwrap() {
        bench.handler.handle(&frame, ConnectionNumber(1), 0, &mut out);
        rest = &rest[len..];
    }
    assert!(rest.is_empty() && out.is_empty());
}

#[test]
fn members_are_told_of_a_new_smallest_id_only_if_that_is_wanted() {
    for wanted in [false, true] {
        let text = wanted.to_string();
        let mut bench = Bench::new(&format!("min-id-{wanted}"), &[("notifyMinBrokerIdChanged", &text)]);
        bench.register("a", 0, &["T", "U"]);
        bench.register("a", 1, &[]);
        let mut other = Vec::new();
        FrameWriter::request(&mut other, Codec::Json, RequestCode::UNREGISTER_BROKER, 1, false)
            .field("brokerName", "a")
            .field("brokerAddr", "a0:10911")
            .field("clusterName", "C")
            .field("brokerId", "0")
            .finish();
        let (frame, _) = Frame::decode(&other).unwrap().unwrap();
        let effects = bench.handler.handle(&frame, ConnectionNumber(2), 0, &mut Vec::new());
        assert_eq!(effects.min_id_change.is_some(), wanted);
        let Some(change) = effects.min_id_change else { continue };
        assert_eq!(change.recipients, ["a1:10911"]);
        let bytes = min_id_change_frame(&change);
        let (told, _) = Frame::decode(&bytes).unwrap().unwrap();
        assert!(told.header.is_oneway());
        assert_eq!(told.header.request_code(), RequestCode::NOTIFY_MIN_BROKER_ID_CHANGE);
        let header = MinBrokerIdHeader::decode(&told.header.fields).unwrap();
        assert_eq!(header.min_broker_id, Some(1));
        assert_eq!(header.offline_broker_address.unwrap().cow(), "a0:10911");
    }
}
