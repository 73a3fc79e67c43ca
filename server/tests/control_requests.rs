//! The control thread as shards and clients see it.

mod control_fixture;

use std::sync::Arc;

use control_fixture::{TestBroker, TestDir, connection, heartbeat, on_control_thread, send_to};
use rmq_protocol::header::Codec;
use rmq_protocol::request_code::RequestCode;
use rmq_server::control::link::{
    ConsumerOffsetRow, GroupOffset, MetadataChange, QueueRange, ShardAnswer, ShardQuery, ShardStats,
    ToControl, TopicOutcome, TopicRequest,
};

fn topic_change(change: &MetadataChange, topic: &str) -> bool {
    matches!(change, MetadataChange::Topic { name, config: Some(_) } if name == topic)
}

/// An auto-created topic is in its file before a shard hears of it, and in every shard before the send goes on.
#[test]
fn a_new_topic_is_durable_then_published_then_answered() {
    on_control_thread(async {
        let dir = TestDir::new("new-topic");
        let broker = TestBroker::start(dir.path(), &[]);
        let path = dir.path().join("config/topics.json");
        *broker.shards.on_publish.borrow_mut() = Some(Box::new(move |change| {
            if let MetadataChange::Topic { name, .. } = change {
                let file = std::fs::read_to_string(&path).unwrap();
                assert!(file.contains(&format!("\"{name}\"")), "{name} is published before it is durable");
            }
        }));
        let (first, second) =
            tokio::join!(broker.create_topic(send_to("T")), broker.create_topic(send_to("U")));
        let TopicOutcome::Exists(config) = first else { panic!("{first:?}") };
        assert_eq!((config.topic_name.as_str(), config.write_queue_nums, config.perm), ("T", 4, 6));
        assert!(matches!(second, TopicOutcome::Exists(_)));
        assert!(broker.shards.published.borrow().iter().any(|change| topic_change(change, "T")));

        let refused = TopicRequest::Send {
            topic: "V".to_owned(),
            default_topic: "nowhere".to_owned(),
            queues: 4,
            unit: false,
        };
        assert_eq!(broker.create_topic(refused).await, TopicOutcome::Refused);
        broker.stop().await;

        let (again, initial) = TestBroker::try_start(dir.path(), &[]).unwrap();
        assert!(initial.metadata.iter().any(|change| topic_change(change, "T")));
        again.stop().await;
    });
}

/// The disk refuses: nobody may see the topic, and it comes into being once the disk is well again.
#[test]
fn a_topic_that_cannot_be_saved_does_not_exist() {
    on_control_thread(async {
        let dir = TestDir::new("no-disk");
        let broker = TestBroker::start(dir.path(), &[]);
        let config = dir.path().join("config");
        std::fs::rename(&config, dir.path().join("aside")).unwrap();
        std::fs::write(&config, "in the way").unwrap();
        let outcome = broker.create_topic(send_to("T")).await;
        assert!(matches!(&outcome, TopicOutcome::Failed(remark) if remark.contains("config")), "{outcome:?}");
        assert!(broker.shards.published.borrow().is_empty());
        let reply = broker.ask(1, RequestCode::GET_TOPIC_CONFIG, &[("topic", "T")], "").await;
        assert_eq!(reply.code, 17);

        std::fs::remove_file(&config).unwrap();
        std::fs::rename(dir.path().join("aside"), &config).unwrap();
        assert!(matches!(broker.create_topic(send_to("T")).await, TopicOutcome::Exists(_)));
        assert!(dir.read("config/topics.json").contains("\"T\""));
        broker.stop().await;
    });
}

#[test]
fn a_first_heartbeat_makes_group_and_retry_topic_and_tells_the_shards() {
    on_control_thread(async {
        let dir = TestDir::new("heartbeat");
        let broker = TestBroker::start(dir.path(), &[]);
        let reply = broker.consumer(1, "g", "T").await;
        assert_eq!(reply.code, 0);
        assert_eq!(reply.fields["IS_SUPPORT_HEART_BEAT_V2"], "true");
        assert_eq!(reply.fields["IS_SUB_CHANGE"], "true");
        {
            let published = broker.shards.published.borrow();
            let position = |wanted: &dyn Fn(&MetadataChange) -> bool| {
                published.iter().position(wanted).expect("a change that must be published")
            };
            let group =
                position(&|change| matches!(change, MetadataChange::Group { name, .. } if name == "g"));
            let retry = position(&|change| topic_change(change, "%RETRY%g"));
            let view = position(&|change| {
                matches!(change, MetadataChange::Subscriptions { group, subscriptions: Some(view) }
                    if group == "g" && view.topics.contains_key("T"))
            });
            assert!(group < retry && retry < view);
        }
        assert!(dir.read("config/subscriptionGroup.json").contains("\"g\""));

        let ids = broker.ask(1, RequestCode::GET_CONSUMER_LIST_BY_GROUP, &[("consumerGroup", "g")], "").await;
        assert_eq!(ids.body, r#"{"consumerIdList":["client-1"]}"#);
        let nobody =
            broker.ask(1, RequestCode::GET_CONSUMER_LIST_BY_GROUP, &[("consumerGroup", "x")], "").await;
        assert_eq!((nobody.code, nobody.remark.as_str()), (1, "no consumer for this group, x"));
        broker.stop().await;
    });
}

#[test]
fn members_rebalance_when_one_comes_and_when_its_connection_closes() {
    on_control_thread(async {
        let dir = TestDir::new("rebalance");
        let broker = TestBroker::start(dir.path(), &[]);
        broker.consumer(1, "g", "T").await;
        broker.consumer(2, "g", "T").await;
        assert_eq!(broker.shards.notified("g"), [(1, 2), (2, 1)].into());
        broker.consumer(2, "g", "T").await;
        assert_eq!(broker.shards.notified("g"), [(1, 2), (2, 1)].into(), "nothing changed");
        broker.close(2);
        broker.shards.until("a notification", |shards| (shards.notified("g")[&1] == 3).then_some(())).await;

        broker.consumer(3, "b", "T").await;
        let broadcast = heartbeat(4, "broadcast", "T", "BROADCASTING", 1);
        broker.ask(4, RequestCode::HEART_BEAT, &[], &broadcast).await;
        assert!(broker.shards.notified("broadcast").is_empty());

        let fields = [("clientID", "client-1"), ("producerGroup", ""), ("consumerGroup", "g")];
        assert_eq!(broker.ask(1, RequestCode::UNREGISTER_CLIENT, &fields, "").await.code, 0);
        let gone =
            broker.ask(3, RequestCode::GET_CONSUMER_CONNECTION_LIST, &[("consumerGroup", "g")], "").await;
        assert_eq!((gone.code, gone.remark.as_str()), (206, "the consumer group[g] not online"));
        assert!(broker.shards.published.borrow().iter().any(|change| {
            matches!(change, MetadataChange::Subscriptions { group, subscriptions: None } if group == "g")
        }));
        broker.stop().await;
    });
}

/// The connection closes while its heartbeat waits for the disk; the membership would stay for two minutes.
#[test]
fn a_heartbeat_of_a_closed_connection_leaves_nobody_behind() {
    on_control_thread(async {
        let dir = TestDir::new("closed-heartbeat");
        let broker = TestBroker::start(dir.path(), &[]);
        let body = heartbeat(1, "g", "T", "CLUSTERING", 1);
        broker.tell_one_way(1, RequestCode::HEART_BEAT, &[], &body);
        broker.close(1);
        broker
            .shards
            .until("the group", |shards| {
                shards.published.borrow().iter().any(|change| topic_change(change, "%RETRY%g")).then_some(())
            })
            .await;
        // The heartbeat goes on before this request does.
        broker.ask(2, RequestCode::GET_ALL_SUBSCRIPTIONGROUP_CONFIG, &[], "").await;
        let ids = broker.ask(2, RequestCode::GET_CONSUMER_LIST_BY_GROUP, &[("consumerGroup", "g")], "").await;
        assert_eq!(ids.code, 1);
        assert!(broker.shards.nothing_sent_to(connection(1)), "a one-way request is never answered");
        broker.stop().await;
    });
}

#[test]
fn tools_create_alter_and_delete_topics() {
    on_control_thread(async {
        let dir = TestDir::new("topic-tools");
        let broker = TestBroker::start(dir.path(), &[]);
        let update = |queues: &'static str, attributes: &'static str| {
            [
                ("topic", "T"),
                ("defaultTopic", "TBW102"),
                ("readQueueNums", queues),
                ("writeQueueNums", queues),
                ("perm", "6"),
                ("topicFilterType", "SINGLE_TAG"),
                ("topicSysFlag", "0"),
                ("order", "false"),
                ("attributes", attributes),
            ]
        };
        let code = RequestCode::UPDATE_AND_CREATE_TOPIC;
        assert_eq!(broker.ask(1, code, &update("8", "+message.type=FIFO"), "").await.code, 0);
        let one = broker.ask(1, RequestCode::GET_TOPIC_CONFIG, &[("topic", "T")], "").await;
        assert_eq!(
            one.body,
            r#"{"attributes":{"message.type":"FIFO"},"order":false,"perm":6,"readQueueNums":8,"topicFilterType":"SINGLE_TAG","topicName":"T","topicSysFlag":0,"writeQueueNums":8}"#
        );
        let published = || broker.shards.published.borrow().len();
        let before = published();
        assert_eq!(broker.ask(1, code, &update("8", ""), "").await.code, 0);
        assert_eq!(published(), before, "the same configuration changes nothing");
        assert_eq!(broker.ask(1, code, &update("9", ""), "").await.code, 0);
        assert_eq!(published(), before + 1);
        assert_eq!(broker.ask(1, code, &update("1000000", ""), "").await.code, 29);
        assert_eq!(broker.ask(1, code, &update("8", "+colour=red"), "").await.code, 1);

        let mut system = update("8", "");
        system[0].1 = "TBW102";
        let reply = broker.ask(1, code, &system, "").await;
        assert_eq!(
            (reply.code, reply.remark.as_str()),
            (29, "The topic[TBW102] is conflict with system topic.")
        );
        system[0].1 = "a b";
        assert_eq!(broker.ask(1, code, &system, "").await.code, 29);

        let list = r#"{"topicConfigList":[{"topicName":"L","readQueueNums":2,"writeQueueNums":2,"perm":6}]}"#;
        assert_eq!(broker.ask(1, RequestCode::UPDATE_AND_CREATE_TOPIC_LIST, &[], list).await.code, 0);
        let all = broker.ask(1, RequestCode::GET_ALL_TOPIC_CONFIG, &[], "").await;
        assert!(all.body.contains(r#""L":{"attributes":{}"#), "{}", all.body);
        assert_eq!(all.fields["totalTopicNum"], "15");

        assert_eq!(broker.ask(1, RequestCode::DELETE_TOPIC_IN_BROKER, &[("topic", "T")], "").await.code, 0);
        let delete = ShardQuery::DeleteTopic { topic: "T".to_owned() };
        let asked = broker.shards.queries.borrow().iter().filter(|(_, query)| *query == delete).count();
        assert_eq!(asked, 2, "every shard drops its queues");
        let one = broker.ask(1, RequestCode::GET_TOPIC_CONFIG, &[("topic", "T")], "").await;
        assert_eq!((one.code, one.remark.as_str()), (17, "No topic in this broker. topic: T"));
        let system = broker.ask(1, RequestCode::DELETE_TOPIC_IN_BROKER, &[("topic", "broker-a")], "").await;
        assert_eq!(system.code, 29);
        broker.stop().await;
    });
}

#[test]
fn tools_create_and_delete_groups() {
    on_control_thread(async {
        let dir = TestDir::new("group-tools");
        let broker = TestBroker::start(dir.path(), &[("autoCreateSubscriptionGroup", "false")]);
        assert_eq!(broker.consumer(1, "unknown", "T").await.code, 0, "a heartbeat never fails for that");
        let code = RequestCode::GET_SUBSCRIPTIONGROUP_CONFIG;
        assert_eq!(broker.ask(1, code, &[("group", "unknown")], "").await.code, 26);
        let create = RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP;
        let config = r#"{"groupName":"g","retryQueueNums":3,"groupRetryPolicy":{"type":"EXPONENTIAL","exponentialRetryPolicy":{"initial":5000,"max":7200000,"multiplier":2}}}"#;
        assert_eq!(broker.ask(1, create, &[], config).await.code, 0);
        let known = broker.ask(1, code, &[("group", "g")], "").await;
        assert!(known.body.contains(r#""multiplier":2"#) && known.body.contains(r#""retryMaxTimes":16"#));
        assert_eq!(broker.ask(1, create, &[], r#"{"groupName":"a b"}"#).await.code, 29);
        assert_eq!(broker.ask(1, create, &[], "").await.code, 1);

        let fields = [("groupName", "g"), ("cleanOffset", "true")];
        assert_eq!(broker.ask(1, RequestCode::DELETE_SUBSCRIPTIONGROUP, &fields, "").await.code, 0);
        let query = ShardQuery::DeleteGroup { group: "g".to_owned(), clean_offset: true };
        assert!(broker.shards.queries.borrow().contains(&(1, query)));
        assert_eq!(broker.ask(1, code, &[("group", "g")], "").await.code, 26);
        broker.stop().await;
    });
}

#[test]
fn order_locks_are_known_to_the_shards_while_they_are_held() {
    on_control_thread(async {
        let dir = TestDir::new("locks");
        let broker = TestBroker::start(dir.path(), &[]);
        let body = |client: &str| {
            format!(
                r#"{{"clientId":"{client}","consumerGroup":"g","mqSet":[{{"brokerName":"broker-a","queueId":0,"topic":"T"}}],"onlyThisBroker":false}}"#
            )
        };
        let locked = broker.ask(1, RequestCode::LOCK_BATCH_MQ, &[], &body("a")).await;
        assert_eq!(locked.body, r#"{"lockOKMQSet":[{"brokerName":"broker-a","queueId":0,"topic":"T"}]}"#);
        let other = broker.ask(2, RequestCode::LOCK_BATCH_MQ, &[], &body("b")).await;
        assert_eq!((other.code, other.body.as_str()), (0, r#"{"lockOKMQSet":[]}"#));
        broker.tell_one_way(1, RequestCode::UNLOCK_BATCH_MQ, &[], &body("a"));
        let locked = broker.ask(2, RequestCode::LOCK_BATCH_MQ, &[], &body("b")).await;
        assert!(locked.body.contains("queueId"));
        let held: Vec<bool> = broker
            .shards
            .published
            .borrow()
            .iter()
            .filter_map(|change| match change {
                MetadataChange::OrderLock { held, .. } => Some(*held),
                _ => None,
            })
            .collect();
        assert_eq!(held, [true, false, true]);
        broker.stop().await;
    });
}

#[test]
fn offsets_are_merged_over_the_shards_and_survive() {
    on_control_thread(async {
        let dir = TestDir::new("offsets");
        let row = |queue: i32, offset: i64| ConsumerOffsetRow {
            group: "g".to_owned(),
            topic: "T".to_owned(),
            queue,
            offset,
        };
        let broker = TestBroker::start(dir.path(), &[]);
        broker.link.tell(ToControl::Offsets { shard: 0, table: vec![row(0, 7)] });
        broker.link.tell(ToControl::Offsets { shard: 1, table: vec![row(1, 9)] });
        broker.link.tell(ToControl::DelayOffsets { rows: vec![(3, 4)] });
        broker.stop().await;

        let (again, initial) = TestBroker::try_start(dir.path(), &[]).unwrap();
        let mut rows = initial.offsets;
        rows.sort_by_key(|row| row.queue);
        assert_eq!(rows, [row(0, 7), row(1, 9)]);
        assert_eq!(initial.delay_offsets, [(3, 4)]);
        let delays = again.ask(1, RequestCode::GET_ALL_DELAY_OFFSET, &[], "").await;
        assert!(delays.body.contains(r#""offsetTable":{3:4}"#), "{}", delays.body);
        let none = again.ask(1, RequestCode::GET_ALL_CONSUMER_OFFSET, &[], "").await;
        assert_eq!(none.code, 0);
        assert!(none.body.contains(r#""groupTopicMap":{},"offsetTable":{}"#), "{}", none.body);
        again.stop().await;
    });
}

#[test]
fn a_damaged_file_stops_the_start_and_names_the_remedy() {
    on_control_thread(async {
        let dir = TestDir::new("damaged");
        std::fs::create_dir_all(dir.path().join("config")).unwrap();
        std::fs::write(dir.path().join("config/topics.json"), "{\"topicConfigTable\":[").unwrap();
        let Err(error) = TestBroker::try_start(dir.path(), &[]) else { panic!("it started") };
        let text = error.to_string();
        assert!(text.contains("topics.json is damaged") && text.contains("move"), "{text}");
    });
}

#[test]
fn statistics_are_put_together_from_all_shards() {
    on_control_thread(async {
        let dir = TestDir::new("stats");
        let broker = TestBroker::start(dir.path(), &[]);
        broker.create_topic(send_to("T")).await;
        let range = |queue: i32, max: i64| QueueRange {
            queue,
            min: 1,
            max,
            last_update_ms: 50,
            appended: max as u64,
        };
        let ranges = ShardQuery::QueueRanges { topic: "T".to_owned() };
        let group = ShardQuery::GroupOffsets { group: "g".to_owned() };
        let offset = GroupOffset {
            group: "g".to_owned(),
            topic: "T".to_owned(),
            queue: 1,
            committed: Some(5),
            pulled: Some(6),
            delivered: 0,
            subscribes: false,
        };
        let record = ShardQuery::RecordTimestamp { topic: "T".to_owned(), queue: 1, offset: 4 };
        broker.shards.answers.borrow_mut().extend([
            (0, ranges.clone(), ShardAnswer::QueueRanges(vec![range(0, 3)])),
            (1, ranges, ShardAnswer::QueueRanges(vec![range(1, 8)])),
            (1, group, ShardAnswer::Offsets(vec![offset])),
            (1, record, ShardAnswer::Timestamp(Some(40))),
            (
                0,
                ShardQuery::Stats,
                ShardAnswer::Stats(Box::new(ShardStats { messages_put: 3, ..ShardStats::default() })),
            ),
        ]);
        let key = |queue: i32| format!(r#"{{"brokerName":"broker-a","queueId":{queue},"topic":"T"}}"#);
        let topic = broker.ask(1, RequestCode::GET_TOPIC_STATS_INFO, &[("topic", "T")], "").await;
        let rows: String = [(0, 50, 3, 1), (1, 50, 8, 1), (2, 0, 0, 0), (3, 0, 0, 0)]
            .map(|(queue, last, max, min)| {
                let row = format!(r#"{{"lastUpdateTimestamp":{last},"maxOffset":{max},"minOffset":{min}}}"#);
                format!("{}:{row}", key(queue))
            })
            .join(",");
        assert_eq!(topic.body, format!(r#"{{"offsetTable":{{{rows}}},"topicPutTps":0.0}}"#));
        let unknown = broker.ask(1, RequestCode::GET_TOPIC_STATS_INFO, &[("topic", "U")], "").await;
        assert_eq!((unknown.code, unknown.remark.as_str()), (17, "topic[U] not exist"));

        let fields = [("consumerGroup", "g")];
        let lag = broker.ask(1, RequestCode::GET_CONSUME_STATS, &fields, "").await;
        let row = r#"{"brokerOffset":8,"consumerOffset":5,"lastTimestamp":40,"pullOffset":6}"#;
        assert!(lag.body.contains(&format!("{}:{row}", key(1))), "{}", lag.body);
        broker.consumer(2, "g", "other").await;
        let left = broker.ask(1, RequestCode::GET_CONSUME_STATS, &fields, "").await;
        assert_eq!(left.body, r#"{"consumeTps":0.0,"offsetTable":{}}"#, "the group left the topic");
        let asked =
            broker.ask(1, RequestCode::GET_CONSUME_STATS, &[("consumerGroup", "g"), ("topicList", "T;")], "");
        assert!(asked.await.body.contains(row));

        let info = broker.ask(1, RequestCode::GET_BROKER_RUNTIME_INFO, &[], "").await;
        for part in [
            r#""brokerVersionDesc":"V5_3_3""#,
            r#""msgPutTotalTodayNow":"3""#,
            r#""getTransferedTps":"0.0 0.0 0.0""#,
            r#""brokerVersion":"479""#,
        ] {
            assert!(info.body.contains(part), "{part} is missing in {}", info.body);
        }
        broker.stop().await;
    });
}

#[test]
fn unknown_codes_are_refused_and_the_codec_is_kept() {
    on_control_thread(async {
        let dir = TestDir::new("codes");
        let broker = TestBroker::start(dir.path(), &[]);
        let reply = broker.ask(1, RequestCode(9999), &[], "").await;
        assert_eq!((reply.code, reply.remark.as_str()), (3, " request type 9999 not supported"));
        let code = RequestCode::GET_BROKER_CONFIG;
        let binary = broker.ask_in(Codec::Binary, 1, code, &[], "").await;
        assert_eq!(binary.codec, Codec::Binary);
        assert!(binary.body.contains("brokerName=broker-a\n"));
        assert!(binary.fields["version"].starts_with(r#"{"counter":0,"stateVersion":0,"timestamp":1"#));
        let missing = broker.ask(1, RequestCode::GET_CONSUMER_LIST_BY_GROUP, &[], "").await;
        assert_eq!(missing.code, 1);
        let garbage = broker.ask(1, RequestCode::HEART_BEAT, &[], "{\"clientID\"").await;
        assert_eq!(garbage.code, 1);
        let sql = r#"{"clientId":"c","group":"g","subscriptionData":{"topic":"T","expressionType":"SQL92"}}"#;
        assert_eq!(broker.ask(1, RequestCode::CHECK_CLIENT_CONFIG, &[], sql).await.code, 1);
        assert_eq!(broker.ask(1, RequestCode::CHECK_CLIENT_CONFIG, &[], "").await.code, 0);
        broker.stop().await;
    });
}

#[test]
fn a_group_needed_by_a_pull_is_created_for_all_shards() {
    on_control_thread(async {
        let dir = TestDir::new("ensure");
        let broker = TestBroker::start(dir.path(), &[]);
        for (group, expected) in [("g", true), ("a+b", false)] {
            let (reply, exists) = tokio::sync::oneshot::channel();
            let reply = Box::new(move |outcome| {
                let _ = reply.send(outcome);
            });
            broker.link.tell(ToControl::EnsureGroup { group: group.to_owned(), reply });
            assert_eq!(exists.await.unwrap(), expected, "{group}");
        }
        let retry = TopicRequest::Retry { group: "g".to_owned(), unit: false };
        let outcome = broker.create_topic(retry).await;
        assert!(matches!(outcome, TopicOutcome::Exists(config) if config.topic_name == "%RETRY%g"));
        let expected: Arc<str> = "g".into();
        assert!(broker.shards.published.borrow().iter().any(|change| {
            matches!(change, MetadataChange::Group { name, config: Some(_) } if **name == *expected)
        }));
        broker.stop().await;
    });
}
