//! What a run beside Java's broker has shown of heartbeats, locks and administration.

mod control_fixture;

use control_fixture::{TestBroker, TestDir, on_control_thread, send_to};
use rmq_protocol::request_code::RequestCode;
use rmq_server::control::link::{GroupOffset, ShardAnswer, ShardQuery, TopicOutcome};

#[test]
fn a_member_without_a_group_is_refused() {
    on_control_thread(async {
        let dir = TestDir::new("no-group");
        let broker = TestBroker::start(dir.path(), &[]);
        for set in [r#""consumerDataSet":[{}]"#, r#""producerDataSet":[{"groupName":null}]"#] {
            let body = format!(r#"{{"clientID":"c",{set}}}"#);
            assert_eq!(broker.ask(1, RequestCode::HEART_BEAT, &[], &body).await.code, 1, "{set}");
        }
        let blank = r#"{"clientID":"c","producerDataSet":[{"groupName":""}]}"#;
        assert_eq!(broker.ask(1, RequestCode::HEART_BEAT, &[], blank).await.code, 0);
        broker.stop().await;
    });
}

#[test]
fn locks_need_a_group_and_a_body() {
    on_control_thread(async {
        let dir = TestDir::new("locks");
        let broker = TestBroker::start(dir.path(), &[]);
        let queue = r#"[{"brokerName":"b","queueId":0}]"#;
        let lock = async |body: &str| broker.ask(1, RequestCode::LOCK_BATCH_MQ, &[], body).await;
        assert_eq!(lock("null").await.code, 1);
        assert_eq!(lock(&format!(r#"{{"clientId":"c","mqSet":{queue}}}"#)).await.code, 1);
        assert_eq!(lock("{}").await.body, r#"{"lockOKMQSet":[]}"#, "no queues need no group");
        let held = lock(&format!(r#"{{"consumerGroup":"g","clientId":"c","mqSet":{queue}}}"#)).await;
        assert_eq!(held.body, format!(r#"{{"lockOKMQSet":{queue}}}"#), "no topic came, none goes back");
        for body in ["null", "{}"] {
            assert_eq!(broker.ask(1, RequestCode::UNLOCK_BATCH_MQ, &[], body).await.code, 1, "{body}");
        }
        broker.stop().await;
    });
}

#[test]
fn who_looks_for_a_group_makes_it() {
    on_control_thread(async {
        let dir = TestDir::new("look");
        let broker = TestBroker::start(dir.path(), &[]);
        let look = async |group: &str| {
            broker.ask(1, RequestCode::GET_SUBSCRIPTIONGROUP_CONFIG, &[("group", group)], "").await.code
        };
        assert_eq!(look(&"g".repeat(255)).await, 0);
        assert_eq!(look(&"g".repeat(256)).await, 26);
        assert_eq!(look("not legal").await, 26);
        for built_in in ["DEFAULT_CONSUMER", "SCHEDULE_CONSUMER", "__MONITOR_CONSUMER"] {
            assert_eq!(look(built_in).await, 0);
        }
        assert!(!dir.read("config/topics.json").contains("%RETRY%"), "a group, and no topic");
        broker.stop().await;

        let broker = TestBroker::start(dir.path(), &[("autoCreateSubscriptionGroup", "false")]);
        let nobody =
            broker.ask(1, RequestCode::GET_SUBSCRIPTIONGROUP_CONFIG, &[("group", "nobody")], "").await;
        assert_eq!(nobody.code, 26);
        broker.stop().await;
    });
}

#[test]
fn topics_and_groups_take_what_java_takes() {
    on_control_thread(async {
        let dir = TestDir::new("taken");
        let broker = TestBroker::start(dir.path(), &[]);
        let create = async |topic: &str, filter: Option<&str>| {
            let mut fields =
                vec![("topic", topic), ("readQueueNums", "1"), ("writeQueueNums", "1"), ("perm", "6")];
            fields.extend(filter.map(|filter| ("topicFilterType", filter)));
            broker.ask(1, RequestCode::UPDATE_AND_CREATE_TOPIC, &fields, "").await
        };
        assert_eq!(create("T", None).await.remark, "topicFilterType = [null] value invalid");
        assert_eq!(create("T", Some("NONE")).await.code, 1);
        assert_eq!(create("T", Some("MULTI_TAG")).await.code, 0);
        assert_eq!(create(&format!("%RETRY%{}", "x".repeat(121)), Some("SINGLE_TAG")).await.code, 29);

        let list = async |attributes: &str| {
            let body =
                format!(r#"{{"topicConfigList":[{{"topicName":"Listed","attributes":{attributes}}}]}}"#);
            broker.ask(1, RequestCode::UPDATE_AND_CREATE_TOPIC_LIST, &[], &body).await.code
        };
        assert_eq!(list(r#"{"message.type":"FIFO"}"#).await, 1);
        assert_eq!(list(r#"{"+message.type":"FIFO"}"#).await, 0);
        let config = broker.ask(1, RequestCode::GET_TOPIC_CONFIG, &[("topic", "Listed")], "").await;
        assert!(config.body.contains(r#""attributes":{"message.type":"FIFO"}"#), "{}", config.body);

        let group = async |attributes: &str| {
            let body = format!(r#"{{"groupName":"g","attributes":{attributes}}}"#);
            broker.ask(1, RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], &body).await.code
        };
        assert_eq!(group(r#"{"+colour":"red"}"#).await, 1);
        assert_eq!(group("{}").await, 0);
        assert_eq!(broker.ask(1, RequestCode::DELETE_TOPIC_IN_BROKER, &[], "").await.code, 29);
        broker.stop().await;
    });
}

#[test]
fn system_topics_are_protected_unless_the_operator_says_otherwise() {
    on_control_thread(async {
        let dir = TestDir::new("protected");
        let delete = async |broker: &TestBroker| {
            broker.ask(1, RequestCode::DELETE_TOPIC_IN_BROKER, &[("topic", "BenchmarkTest")], "").await.code
        };
        let broker = TestBroker::start(dir.path(), &[]);
        assert_eq!(delete(&broker).await, 29);
        broker.stop().await;
        let broker = TestBroker::start(dir.path(), &[("validateSystemTopicWhenUpdateTopic", "false")]);
        assert_eq!(delete(&broker).await, 0);
        broker.stop().await;
    });
}

/// A pull consumer brings its subscription with each pull; its heartbeats need not name the topic.
#[test]
fn the_lag_of_a_topic_that_is_only_pulled_is_told() {
    on_control_thread(async {
        let dir = TestDir::new("only-pulled");
        let broker = TestBroker::start(dir.path(), &[]);
        assert!(matches!(broker.create_topic(send_to("Other")).await, TopicOutcome::Exists(_)));
        broker.consumer(1, "g", "T").await;
        let rows = |subscribes| {
            let offset = GroupOffset {
                group: "g".to_owned(),
                topic: "Other".to_owned(),
                queue: 0,
                committed: None,
                pulled: Some(3),
                delivered: 3,
                subscribes,
            };
            (0, ShardQuery::GroupOffsets { group: "g".to_owned() }, ShardAnswer::Offsets(vec![offset]))
        };
        for (subscribes, is_told) in [(false, false), (true, true)] {
            *broker.shards.answers.borrow_mut() = vec![rows(subscribes)];
            let fields = [("consumerGroup", "g"), ("topic", "Other")];
            let stats = broker.ask(1, RequestCode::GET_CONSUME_STATS, &fields, "").await;
            assert_eq!(stats.body.contains(r#""pullOffset":3"#), is_told, "{}", stats.body);
            let every = broker.ask(1, RequestCode::GET_CONSUME_STATS, &fields[..1], "").await;
            assert!(!every.body.contains("Other"), "nothing was committed there: {}", every.body);
        }
        broker.stop().await;
    });
}
