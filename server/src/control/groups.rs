//! The consumer groups of this broker: their configuration, automatic creation, the text of
//! subscriptionGroup.json.
//!
//! Pure state like `topics`. Whether a group has clients online is the business of `clients`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::limits::{FORBIDDEN_TOPICS_MAX, GROUPS_MAX};
use super::names;
use super::state_json::{self, Forbidden};
use rmq_protocol::body::{DataVersion, SubscriptionGroupConfig, SubscriptionGroupTable};

/// Java's bit for reading.
const FORBIDDEN_READ: i32 = 1 << 2;

pub struct GroupTable {
    groups: BTreeMap<String, Arc<SubscriptionGroupConfig>>,
    /// What groups may not do on single topics.
    forbidden: Forbidden,
    version: DataVersion,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    Known,
    Create(Box<SubscriptionGroupConfig>),
    /// SUBSCRIPTION_GROUP_NOT_EXIST.
    Refuse,
}

impl GroupTable {
    pub fn new() -> Self {
        Self { groups: BTreeMap::new(), forbidden: Forbidden::new(), version: DataVersion::default() }
    }

    pub fn parse(content: &[u8]) -> Result<Self, String> {
        let file: SubscriptionGroupTable = state_json::parse(content)?;
        let groups = file
            .subscription_group_table
            .into_iter()
            .map(|(name, mut config)| {
                config.group_name.clone_from(&name);
                (name, Arc::new(config))
            })
            .collect();
        Ok(Self { groups, forbidden: file.forbidden_table, version: file.data_version })
    }

    /// The text of subscriptionGroup.json.
    pub fn to_file(&self) -> Vec<u8> {
        state_json::groups_file(&self.groups, &self.forbidden, self.version)
    }

    pub fn version(&self) -> DataVersion {
        self.version
    }

    pub fn forbidden(&self) -> &Forbidden {
        &self.forbidden
    }

    pub fn may_read(&self, group: &str, topic: &str) -> bool {
        let bits = self.forbidden.get(group).and_then(|topics| topics.get(topic));
        bits.is_none_or(|bits| bits & FORBIDDEN_READ == 0)
    }

    /// The topics that a group may not read.
    pub fn unreadable(&self, group: &str) -> BTreeSet<String> {
        let topics = self.forbidden.get(group).into_iter().flatten();
        topics.filter(|(_, bits)| *bits & FORBIDDEN_READ != 0).map(|(topic, _)| topic.clone()).collect()
    }

    /// Returns what stood there before; refused when the table is full.
    pub fn forbid(
        &mut self,
        group: &str,
        topic: &str,
        readable: bool,
        now_ms: i64,
    ) -> Result<BTreeMap<String, i32>, &'static str> {
        let before = self.forbidden.get(group).cloned().unwrap_or_default();
        let mut topics = before.clone();
        let bits = topics.remove(topic).unwrap_or(0);
        let bits = if readable { bits & !FORBIDDEN_READ } else { bits | FORBIDDEN_READ };
        if bits != 0 {
            topics.insert(topic.to_owned(), bits);
        }
        let is_longer = topics.len() > before.len();
        if is_longer && (self.forbidden.len() >= GROUPS_MAX || topics.len() > FORBIDDEN_TOPICS_MAX) {
            return Err("too many topics are forbidden to groups");
        }
        self.restore_forbidden(group, topics, now_ms);
        Ok(before)
    }

    pub fn restore_forbidden(&mut self, group: &str, topics: BTreeMap<String, i32>, now_ms: i64) {
        self.version = self.version.next(now_ms);
        if topics.is_empty() {
            self.forbidden.remove(group);
        } else {
            self.forbidden.insert(group.to_owned(), topics);
        }
    }

    pub fn len(&self) -> usize {
        self.groups.len()
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub fn find(&self, group: &str) -> Option<&Arc<SubscriptionGroupConfig>> {
        self.groups.get(group)
    }

    /// In the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Arc<SubscriptionGroupConfig>)> {
        self.groups.iter()
    }

    /// Java keeps the built-in groups out of the version, so a fresh broker's stays at zero; so here.
    pub fn add_built_in(&mut self) {
        for name in names::BUILT_IN_GROUPS {
            self.groups
                .entry(name.to_owned())
                .or_insert_with(|| Arc::new(SubscriptionGroupConfig::new(name)));
        }
    }

    pub fn decide(&self, group: &str, auto_create: bool) -> Decision {
        if self.groups.contains_key(group) {
            Decision::Known
        } else if (auto_create || group.starts_with(names::SYSTEM_GROUP_PREFIX))
            && names::group_name_problem(group).is_none()
            && self.groups.len() < GROUPS_MAX
        {
            Decision::Create(Box::new(SubscriptionGroupConfig::new(group)))
        } else {
            Decision::Refuse
        }
    }

    pub fn put(
        &mut self,
        config: SubscriptionGroupConfig,
        now_ms: i64,
    ) -> Option<Arc<SubscriptionGroupConfig>> {
        self.version = self.version.next(now_ms);
        self.groups.insert(config.group_name.clone(), Arc::new(config))
    }

    pub fn remove(&mut self, group: &str, now_ms: i64) -> Option<Arc<SubscriptionGroupConfig>> {
        let removed = self.groups.remove(group)?;
        self.version = self.version.next(now_ms);
        Some(removed)
    }

    /// Takes back a change that could not be made durable.
    pub fn restore(&mut self, group: String, before: Option<Arc<SubscriptionGroupConfig>>, now_ms: i64) {
        self.version = self.version.next(now_ms);
        match before {
            Some(config) => self.groups.insert(group, config),
            None => self.groups.remove(&group),
        };
    }
}

impl Default for GroupTable {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_groups_are_created_when_the_settings_allow() {
        let table = GroupTable::new();
        assert_eq!(table.decide("g", true), Decision::Create(Box::new(SubscriptionGroupConfig::new("g"))));
        assert_eq!(table.decide("g", false), Decision::Refuse);
        assert_eq!(table.decide("g+h", true), Decision::Refuse);
        assert_eq!(table.decide(&"g".repeat(256), true), Decision::Refuse);
        assert!(matches!(table.decide("CID_RMQ_SYS_X", false), Decision::Create(_)));
    }

    #[test]
    fn a_file_of_an_old_broker_gets_the_defaults_of_what_it_lacks() {
        let table = GroupTable::parse(
            br#"{"dataVersion":{"counter":3,"timestamp":9},"subscriptionGroupTable":{
                "g":{"groupName":"g","retryMaxTimes":5,"retryQueueNums":2,"consumeEnable":false,"extra":[1]}}}"#,
        )
        .unwrap();
        let config = table.find("g").unwrap();
        assert_eq!((config.retry_max_times, config.retry_queue_nums), (5, 2));
        assert!(!config.consume_enable && config.notify_consumer_ids_changed_enable);
        assert_eq!(table.version(), DataVersion { counter: 3, state_version: 0, timestamp: 9 });
        assert_eq!(GroupTable::parse(&table.to_file()).unwrap().find("g").unwrap(), config);
    }

    #[test]
    fn built_in_groups_are_there_and_change_no_version() {
        let mut table = GroupTable::new();
        table.add_built_in();
        assert_eq!(table.len(), names::BUILT_IN_GROUPS.len());
        assert_eq!(table.version(), DataVersion::default());
        assert!(table.find("TOOLS_CONSUMER").is_some());
    }
}
