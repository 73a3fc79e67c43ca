//! The topics of this broker: their configuration, the rules of creation, and the text of topics.json.
//!
//! Pure state: the clock comes in as a number, and making a change durable and known to the shards is the
//! work of `changes`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::limits::{QUEUES_PER_TOPIC_MAX, TOPICS_MAX};
use super::link::TopicRequest;
use super::names;
use super::settings::ControlSettings;
use super::state_json;
use rmq_protocol::body::{DataVersion, SubscriptionGroupConfig, TopicConfig, TopicConfigTable};

pub const PERM_INHERIT: i32 = 1;
pub const PERM_WRITE: i32 = 2;
pub const PERM_READ: i32 = 4;
const PERM_READ_WRITE: i32 = PERM_READ | PERM_WRITE;

const SYS_FLAG_UNIT: i32 = 1;
const SYS_FLAG_UNIT_SUBSCRIPTION: i32 = 2;

pub struct TopicTable {
    topics: BTreeMap<String, Arc<TopicConfig>>,
    version: DataVersion,
}

/// What the rules say to a wish for a topic.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    Known(Arc<TopicConfig>),
    Create(TopicConfig),
    /// TOPIC_NOT_EXIST.
    Refuse,
}

impl TopicTable {
    pub fn new() -> Self {
        Self { topics: BTreeMap::new(), version: DataVersion::default() }
    }

    pub fn parse(content: &[u8]) -> Result<Self, String> {
        let file: TopicConfigTable = state_json::parse(content)?;
        let topics = file
            .topic_config_table
            .into_iter()
            .map(|(name, mut config)| {
                config.topic_name.clone_from(&name);
                (name, Arc::new(config))
            })
            .collect();
        Ok(Self { topics, version: file.data_version })
    }

    /// The text of topics.json.
    pub fn to_file(&self) -> Vec<u8> {
        state_json::topics_file(&self.topics, self.version)
    }

    pub fn version(&self) -> DataVersion {
        self.version
    }

    /// Makes name servers and slaves look again, though no topic changed.
    pub fn touch(&mut self, now_ms: i64) {
        self.version = self.version.next(now_ms);
    }

    pub fn len(&self) -> usize {
        self.topics.len()
    }

    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub fn find(&self, topic: &str) -> Option<&Arc<TopicConfig>> {
        self.topics.get(topic)
    }

    /// In the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Arc<TopicConfig>)> {
        self.topics.iter()
    }

    /// Adds what a broker of these settings always has. `true` when something was added.
    ///
    /// A broker that starts on an older store keeps what an operator changed, except the schedule topic, which
    /// must have a queue for each level, and the half topics, which must have one for each shard.
    pub fn add_system_topics(&mut self, settings: &ControlSettings, shards: usize, now_ms: i64) -> bool {
        let before = self.version;
        let sized = [names::SCHEDULE_TOPIC, names::HALF_TOPIC, names::HALF_OP_TOPIC];
        for config in system_topics(settings, shards as i32) {
            let keep = self.topics.get(&config.topic_name).is_some_and(|known| {
                !sized.contains(&config.topic_name.as_str())
                    || (known.read_queue_nums >= config.read_queue_nums
                        && known.write_queue_nums >= config.write_queue_nums)
            });
            if !keep {
                self.put(config, now_ms);
            }
        }
        self.version != before
    }

    /// The rules of automatic creation. `group` finds the configuration of a consumer group.
    pub fn decide<'g>(
        &self,
        request: &TopicRequest,
        auto_create: bool,
        group: impl FnOnce(&str) -> Option<&'g Arc<SubscriptionGroupConfig>>,
    ) -> Decision {
        let name = match request {
            TopicRequest::Send { topic, .. } | TopicRequest::System { topic, .. } => topic.clone(),
            TopicRequest::Retry { group, .. } => names::retry_topic(group),
            TopicRequest::DeadLetter { group } => names::dead_letter_topic(group),
        };
        if let Some(known) = self.topics.get(&name) {
            return Decision::Known(known.clone());
        }
        let is_legal = match request {
            TopicRequest::Send { .. } => names::topic_name_problem(&name).is_none(),
            _ => names::is_legal_for_broker(&name),
        };
        if !is_legal || self.topics.len() >= TOPICS_MAX {
            return Decision::Refuse;
        }
        match request {
            TopicRequest::Send { default_topic, queues, unit, .. } => {
                self.decide_send(name, default_topic, *queues, *unit, auto_create)
            }
            TopicRequest::Retry { group: group_name, unit } => match group(group_name) {
                Some(config) if config.retry_queue_nums > 0 => Decision::Create(TopicConfig {
                    topic_sys_flag: if *unit { SYS_FLAG_UNIT_SUBSCRIPTION } else { 0 },
                    ..TopicConfig::new(
                        name,
                        config.retry_queue_nums.min(QUEUES_PER_TOPIC_MAX),
                        PERM_READ_WRITE,
                    )
                }),
                _ => Decision::Refuse,
            },
            TopicRequest::DeadLetter { .. } => Decision::Create(TopicConfig::new(name, 1, PERM_READ_WRITE)),
            TopicRequest::System { queues, .. } => {
                let queues = i32::try_from(*queues).unwrap_or(QUEUES_PER_TOPIC_MAX);
                Decision::Create(TopicConfig::new(name, queues.min(QUEUES_PER_TOPIC_MAX), PERM_READ_WRITE))
            }
        }
    }

    fn decide_send(
        &self,
        name: String,
        default_topic: &str,
        queues: i32,
        unit: bool,
        auto_create: bool,
    ) -> Decision {
        let is_retry = name.starts_with(names::RETRY_PREFIX);
        // With automatic creation off, TBW102 may still be in the file of an earlier life.
        let inherits = |config: &&Arc<TopicConfig>| {
            config.perm & PERM_INHERIT != 0 && (auto_create || default_topic != names::DEFAULT_TOPIC)
        };
        match self.topics.get(default_topic).filter(inherits) {
            Some(template) => {
                let queues = queues.min(template.write_queue_nums).max(0);
                Decision::Create(TopicConfig {
                    topic_filter_type: template.topic_filter_type.clone(),
                    topic_sys_flag: unit_flag(unit, is_retry),
                    ..TopicConfig::new(name, queues, template.perm & !PERM_INHERIT)
                })
            }
            None if is_retry => Decision::Create(TopicConfig {
                topic_sys_flag: unit_flag(unit, is_retry),
                ..TopicConfig::new(name, 1, PERM_READ_WRITE)
            }),
            None => Decision::Refuse,
        }
    }

    /// Returns what stood there before, which undoes the change when given to `restore`.
    pub fn put(&mut self, config: TopicConfig, now_ms: i64) -> Option<Arc<TopicConfig>> {
        self.version = self.version.next(now_ms);
        self.topics.insert(config.topic_name.clone(), Arc::new(config))
    }

    pub fn remove(&mut self, topic: &str, now_ms: i64) -> Option<Arc<TopicConfig>> {
        let removed = self.topics.remove(topic)?;
        self.version = self.version.next(now_ms);
        Some(removed)
    }

    /// Takes back a change that could not be made durable. The version still grows: it may have been seen.
    pub fn restore(&mut self, topic: String, before: Option<Arc<TopicConfig>>, now_ms: i64) {
        self.version = self.version.next(now_ms);
        match before {
            Some(config) => self.topics.insert(topic, config),
            None => self.topics.remove(&topic),
        };
    }
}

impl Default for TopicTable {
    fn default() -> Self {
        Self::new()
    }
}

fn unit_flag(unit: bool, is_retry: bool) -> i32 {
    match (unit, is_retry) {
        (false, _) => 0,
        (true, false) => SYS_FLAG_UNIT,
        (true, true) => SYS_FLAG_UNIT_SUBSCRIPTION,
    }
}

fn system_topics(settings: &ControlSettings, shards: i32) -> Vec<TopicConfig> {
    let all = PERM_READ_WRITE | PERM_INHERIT;
    let shared = |enabled: bool| if enabled { all } else { PERM_INHERIT };
    let plain = |name: &str, queues: i32| TopicConfig::new(name, queues, PERM_READ_WRITE);
    let mut topics = vec![
        plain(names::SELF_TEST_TOPIC, 1),
        plain(names::BENCHMARK_TOPIC, 1024),
        TopicConfig::new(settings.cluster.as_str(), 16, shared(settings.cluster_topic)),
        TopicConfig::new(settings.broker.as_str(), 1, shared(settings.broker_topic)),
        plain(names::OFFSET_MOVED_TOPIC, 1),
        plain(names::SCHEDULE_TOPIC, settings.delay_levels),
        plain(&names::reply_topic(&settings.cluster), 1),
        plain(&names::revive_topic(&settings.cluster), settings.revive_queues),
        TopicConfig::new(names::member_topic(&settings.broker), 1, PERM_INHERIT),
        plain(names::HALF_TOPIC, shards),
        plain(names::HALF_OP_TOPIC, shards),
    ];
    if settings.auto_create_topic {
        topics.push(TopicConfig::new(names::DEFAULT_TOPIC, settings.default_topic_queues, all));
    }
    if let Some(trace_topic) = &settings.trace_topic {
        topics.push(plain(trace_topic, 1));
    }
    if settings.timer {
        topics.push(plain(names::TIMER_TOPIC, 1));
    }
    topics
}

/// Whether a tool may not create, alter or delete the topic.
pub fn is_system_topic(topic: &str, settings: &ControlSettings) -> bool {
    topic.starts_with(names::SYSTEM_TOPIC_PREFIX)
        || names::SYSTEM_TOPICS.contains(&topic)
        || topic == settings.cluster
        || topic == settings.broker
        || topic == names::reply_topic(&settings.cluster)
        || settings.trace_topic.as_deref() == Some(topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> ControlSettings {
        ControlSettings::for_test("unused".into())
    }

    fn table() -> TopicTable {
        let mut table = TopicTable::new();
        assert!(table.add_system_topics(&settings(), 1, 1));
        table
    }

    fn send(topic: &str, default_topic: &str, queues: i32) -> TopicRequest {
        TopicRequest::Send {
            topic: topic.to_owned(),
            default_topic: default_topic.to_owned(),
            queues,
            unit: false,
        }
    }

    fn decide(table: &TopicTable, request: &TopicRequest) -> Decision {
        table.decide(request, true, |_| None)
    }

    fn created(decision: Decision) -> TopicConfig {
        match decision {
            Decision::Create(config) => config,
            other => panic!("not created: {other:?}"),
        }
    }

    #[test]
    fn a_fresh_broker_has_the_system_topics_of_java() {
        let table = table();
        let shape: Vec<_> = table
            .iter()
            .map(|(name, config)| (name.as_str(), config.write_queue_nums, config.perm))
            .collect();
        assert_eq!(
            shape,
            [
                ("BenchmarkTest", 1024, 6),
                ("DefaultCluster", 16, 7),
                ("DefaultCluster_REPLY_TOPIC", 1, 6),
                ("OFFSET_MOVED_EVENT", 1, 6),
                ("RMQ_SYS_TRANS_HALF_TOPIC", 1, 6),
                ("RMQ_SYS_TRANS_OP_HALF_TOPIC", 1, 6),
                ("SCHEDULE_TOPIC_XXXX", 18, 6),
                ("SELF_TEST_TOPIC", 1, 6),
                ("TBW102", 8, 7),
                ("broker-a", 1, 7),
                ("rmq_sys_REVIVE_LOG_DefaultCluster", 8, 6),
                ("rmq_sys_SYNC_BROKER_MEMBER_broker-a", 1, 1),
                ("rmq_sys_wheel_timer", 1, 6),
            ]
        );
        let mut again = TopicTable::parse(&table.to_file()).unwrap();
        assert!(!again.add_system_topics(&settings(), 1, 2), "nothing is missing in the second life");
        assert_eq!(again.version(), table.version());
    }

    #[test]
    fn a_send_creates_from_the_default_topic() {
        let table = table();
        let config = created(decide(&table, &send("T", "TBW102", 4)));
        assert_eq!(config, TopicConfig::new("T", 4, 6));
        assert_eq!(created(decide(&table, &send("T", "TBW102", 100))).write_queue_nums, 8);
        assert_eq!(created(decide(&table, &send("T", "TBW102", -3))).read_queue_nums, 0);
        assert_eq!(created(decide(&table, &send("T", "DefaultCluster", 100))).read_queue_nums, 16);
        assert_eq!(decide(&table, &send("T", "BenchmarkTest", 4)), Decision::Refuse, "no INHERIT");
        assert_eq!(decide(&table, &send("T", "nowhere", 4)), Decision::Refuse);
        assert_eq!(decide(&table, &send("T T", "TBW102", 4)), Decision::Refuse);
        assert!(matches!(decide(&table, &send("BenchmarkTest", "nowhere", 4)), Decision::Known(_)));
    }

    /// TBW102 stays in topics.json when the operator switches automatic creation off.
    #[test]
    fn the_default_topic_gives_nothing_when_automatic_creation_is_off() {
        let table = table();
        let off = |request: &TopicRequest| table.decide(request, false, |_| None);
        assert_eq!(off(&send("T", "TBW102", 4)), Decision::Refuse);
        assert!(matches!(off(&send("T", "DefaultCluster", 4)), Decision::Create(_)));
        let retry = created(off(&send("%RETRY%g", "TBW102", 4)));
        assert_eq!((retry.write_queue_nums, retry.perm), (1, 6));
    }

    #[test]
    fn retry_topics_follow_their_group() {
        let table = table();
        let group =
            Arc::new(SubscriptionGroupConfig { retry_queue_nums: 3, ..SubscriptionGroupConfig::new("g") });
        let request = TopicRequest::Retry { group: "g".to_owned(), unit: true };
        let config = created(table.decide(&request, true, |name| (name == "g").then_some(&group)));
        assert_eq!(config.topic_name, "%RETRY%g");
        assert_eq!((config.read_queue_nums, config.perm, config.topic_sys_flag), (3, 6, 2));
        assert_eq!(table.decide(&request, true, |_| None), Decision::Refuse);
        let dead = TopicRequest::DeadLetter { group: "g".to_owned() };
        assert_eq!(created(decide(&table, &dead)), TopicConfig::new("%DLQ%g", 1, 6));
    }

    #[test]
    fn every_change_moves_the_version() {
        let mut table = TopicTable::new();
        table.put(TopicConfig::new("T", 1, 6), 10);
        assert_eq!(table.version(), DataVersion { counter: 1, state_version: 0, timestamp: 10 });
        assert!(table.remove("unknown", 11).is_none());
        assert_eq!(table.version().counter, 1);
        let before = table.remove("T", 12);
        assert_eq!(table.version().counter, 2);
        table.restore("T".to_owned(), before, 13);
        assert!(table.find("T").is_some());
        assert_eq!(table.version().counter, 3);
    }

    #[test]
    fn system_topics_are_the_brokers_own() {
        let settings = settings();
        for topic in
            ["TBW102", "rmq_sys_anything", "DefaultCluster", "broker-a", "DefaultCluster_REPLY_TOPIC"]
        {
            assert!(is_system_topic(topic, &settings), "{topic}");
        }
        assert!(!is_system_topic("%RETRY%g", &settings));
    }
}
