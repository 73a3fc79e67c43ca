//! What happens when a broker registers.

use std::collections::BTreeMap;

use rmq_protocol::body::DataVersion;
use serde_json::Value;

use super::{
    BrokerGroup, ConnectionNumber, Live, MASTER_ID, MinIdChange, PERM_WRITE, Queues, RouteTable, Site,
};
use crate::namesrv::limits::{BROKERS_MAX, HEARTBEAT_TIMEOUT_MS, TOPICS_MAX};

/// REGISTER_BROKER, header and body.
#[derive(Clone, Debug)]
pub struct Registration {
    pub cluster: String,
    pub broker: String,
    pub id: i64,
    pub address: String,
    pub ha_address: Option<String>,
    pub zone: Option<String>,
    /// `None` marks a broker older than 5.0.
    pub acting_master: Option<bool>,
    pub timeout_ms: Option<u64>,
    pub topics: TopicSet,
    /// `None`: leave those of the last registration.
    pub filter_servers: Option<Vec<String>>,
}

/// All topics of a broker, or the one that has just changed.
#[derive(Clone, Debug, Default)]
pub struct TopicSet {
    pub version: DataVersion,
    pub topics: BTreeMap<String, Queues>,
    pub mappings: BTreeMap<String, Mapping>,
}

impl TopicSet {
    /// A broker announces the change of one topic by a registration that holds only this.
    fn is_incremental(&self) -> bool {
        self.topics.len() == 1
    }
}

/// The queue mapping of a static topic on the broker it belongs to.
#[derive(Clone, Debug)]
pub struct Mapping {
    pub broker: String,
    pub info: Value,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Registered {
    Accepted {
        /// Nobody was registered under this name and id before.
        first: bool,
        /// For a slave: the live master's address and HA address.
        master: Option<(String, Option<String>)>,
        min_id_change: Option<MinIdChange>,
    },
    /// Another address holds the id with a newer state. The broker is told nothing, as in Java.
    Outdated,
    /// A single changed topic of a broker that has not registered in full.
    Unknown,
    /// A bound of the name server.
    Full,
}

impl RouteTable {
    pub fn register(
        &mut self,
        registration: Registration,
        connection: ConnectionNumber,
        now_ms: u64,
    ) -> Registered {
        let site = Site::new(&registration.cluster, &registration.address);
        if self.is_full_for(&site, &registration) {
            return Registered::Full;
        }
        let state = registration.topics.version.state_version;
        match self.admit(&registration, state) {
            Admission::Outdated => {
                self.live.remove(&site);
                self.forget_if_empty(&registration.broker);
                return Registered::Outdated;
            }
            Admission::Unknown => {
                self.forget_if_empty(&registration.broker);
                return Registered::Unknown;
            }
            Admission::Granted => {}
        }
        let group = self.groups.get_mut(&registration.broker).expect("admission has made the group");
        let min_before = group.min_id();
        let first = group.addresses.insert(registration.id, registration.address.clone()).is_none();
        let min_id = group.min_id().expect("an address was just inserted");
        let is_prime_slave =
            registration.acting_master.is_some() && registration.id != MASTER_ID && registration.id == min_id;
        if registration.id == MASTER_ID || is_prime_slave {
            let read_only = is_prime_slave && group.acting_master;
            self.take_topics(&registration, &site, first, read_only);
        }
        let Registration { broker, id, address, ha_address, timeout_ms, topics, filter_servers, .. } =
            registration;
        let min_id_change = min_before
            .filter(|&min_before| id < min_before)
            .map(|_| self.min_id_change(&broker, None, ha_address.clone()));
        self.live.insert(
            site.clone(),
            Live {
                updated_ms: now_ms,
                timeout_ms: timeout_ms.unwrap_or(HEARTBEAT_TIMEOUT_MS),
                version: topics.version,
                connection,
                ha_address,
            },
        );
        match filter_servers {
            Some(servers) if servers.is_empty() => drop(self.filter_servers.remove(&site)),
            Some(servers) => drop(self.filter_servers.insert(site, servers)),
            None => {}
        }
        let master = if id == MASTER_ID { None } else { self.live_master(&broker) };
        debug_assert!(self.groups[&broker].addresses.values().any(|held| *held == address));
        Registered::Accepted { first, master, min_id_change }
    }

    /// Brings the group up to date and decides whether the newcomer may have the id.
    fn admit(&mut self, registration: &Registration, state: i64) -> Admission {
        self.clusters.entry(registration.cluster.clone()).or_default().insert(registration.broker.clone());
        let group = self.groups.entry(registration.broker.clone()).or_insert_with(|| BrokerGroup {
            cluster: registration.cluster.clone(),
            addresses: BTreeMap::new(),
            zone: None,
            acting_master: false,
        });
        group.acting_master = registration.acting_master.unwrap_or(false);
        group.zone = registration.zone.clone();
        // A slave that has become master keeps its address and leaves its old id.
        group.addresses.retain(|&id, address| *address != registration.address || id == registration.id);
        match group.addresses.get(&registration.id) {
            None if registration.topics.is_incremental() => Admission::Unknown,
            Some(holder) if *holder != registration.address => {
                let holder = self.live.get(&Site::new(&registration.cluster, holder));
                if holder.is_some_and(|live| live.version.state_version > state) {
                    Admission::Outdated
                } else {
                    Admission::Granted
                }
            }
            _ => Admission::Granted,
        }
    }

    fn take_topics(&mut self, registration: &Registration, site: &Site, first: bool, read_only: bool) {
        let TopicSet { version, topics, mappings } = &registration.topics;
        let broker = &registration.broker;
        let changed = self.live.get(site).is_none_or(|live| live.version != *version);
        if self.rules.delete_topic_with_broker_registration
            && mappings.is_empty()
            && !registration.topics.is_incremental()
        {
            self.topics.retain(|topic, brokers| {
                if !topics.contains_key(topic) {
                    brokers.remove(broker);
                }
                !brokers.is_empty()
            });
        }
        for (topic, queues) in topics {
            let known = self.topics.get(topic).is_some_and(|brokers| brokers.contains_key(broker));
            if first || changed || !known {
                let mut queues = queues.clone();
                if read_only {
                    queues.perm &= !PERM_WRITE;
                }
                self.topics.entry(topic.clone()).or_default().insert(broker.clone(), queues);
            }
        }
        if first || changed {
            for (topic, mapping) in mappings {
                let of_topic = self.mappings.entry(topic.clone()).or_default();
                of_topic.insert(mapping.broker.clone(), mapping.info.clone());
            }
        }
    }

    fn live_master(&self, broker: &str) -> Option<(String, Option<String>)> {
        let group = self.groups.get(broker)?;
        let address = group.addresses.get(&MASTER_ID)?;
        let live = self.live.get(&Site::new(&group.cluster, address))?;
        Some((address.clone(), live.ha_address.clone()))
    }

    /// A newcomer tells everybody but the new smallest id; a departure tells all who are left.
    pub(super) fn min_id_change(
        &self,
        broker: &str,
        offline_address: Option<String>,
        ha_address: Option<String>,
    ) -> MinIdChange {
        let addresses = &self.groups[broker].addresses;
        let (&min_id, min_address) = addresses.first_key_value().expect("a group is never empty");
        let everybody = offline_address.is_some() || addresses.len() == 1;
        let recipients = addresses
            .iter()
            .filter(|&(&id, _)| everybody || id != min_id)
            .map(|(_, to)| to.clone())
            .collect();
        MinIdChange {
            broker: broker.to_owned(),
            min_id,
            min_address: min_address.clone(),
            offline_address,
            ha_address,
            recipients,
        }
    }

    fn is_full_for(&self, site: &Site, registration: &Registration) -> bool {
        let more_brokers = !self.live.contains_key(site) && self.live.len() >= BROKERS_MAX;
        // Counting those that are new costs a look-up each, so it waits until the bound is near.
        let near = self.topics.len() + registration.topics.topics.len() > TOPICS_MAX;
        let new_topics =
            || registration.topics.topics.keys().filter(|topic| !self.topics.contains_key(*topic)).count();
        more_brokers || near && self.topics.len() + new_topics() > TOPICS_MAX
    }
}

enum Admission {
    Granted,
    Outdated,
    Unknown,
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{PERM_READ, Rules};
    use super::*;

    const C1: ConnectionNumber = ConnectionNumber(1);
    const C2: ConnectionNumber = ConnectionNumber(2);

    impl Registration {
        pub fn with(mut self, topics: TopicSet) -> Self {
            self.topics = topics;
            self
        }

        pub fn at(mut self, address: &str) -> Self {
            self.address = address.into();
            self
        }
    }

    pub fn table() -> RouteTable {
        RouteTable::new(Rules { support_acting_master: false, delete_topic_with_broker_registration: false })
    }

    pub fn queues(count: i32) -> Queues {
        Queues { read_queue_nums: count, write_queue_nums: count, perm: 6, topic_sys_flag: 0 }
    }

    pub fn topic_set(counter: i64, topics: &[&str]) -> TopicSet {
        TopicSet {
            version: DataVersion { counter, ..DataVersion::default() },
            topics: topics.iter().map(|&topic| (topic.to_owned(), queues(4))).collect(),
            mappings: BTreeMap::new(),
        }
    }

    pub fn slave(broker: &str, id: i64) -> Registration {
        Registration {
            cluster: "C".into(),
            broker: broker.into(),
            id,
            address: format!("{broker}{id}:10911"),
            ha_address: Some(format!("{broker}{id}:10912")),
            zone: None,
            acting_master: Some(false),
            timeout_ms: None,
            topics: TopicSet::default(),
            filter_servers: Some(Vec::new()),
        }
    }

    pub fn master(broker: &str) -> Registration {
        slave(broker, MASTER_ID)
    }

    type Accepted = (bool, Option<(String, Option<String>)>, Option<MinIdChange>);

    fn accepted(outcome: Registered) -> Accepted {
        match outcome {
            Registered::Accepted { first, master, min_id_change } => (first, master, min_id_change),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_same_version_refreshes_life_and_leaves_the_queues() {
        let mut table = table();
        assert!(accepted(table.register(master("a").with(topic_set(1, &["T", "U"])), C1, 0)).0);
        let mut again = topic_set(1, &["T", "U"]);
        again.topics.insert("T".into(), queues(16));
        assert!(!accepted(table.register(master("a").with(again.clone()), C1, 5)).0);
        assert_eq!(table.route("T").unwrap().queues[0].1, queues(4));
        again.version.counter = 2;
        table.register(master("a").with(again), C1, 6);
        assert_eq!(table.route("T").unwrap().queues[0].1, queues(16));
    }

    #[test]
    fn a_topic_unknown_so_far_is_taken_even_at_the_same_version() {
        let mut table = table();
        table.register(master("a").with(topic_set(1, &["T", "U"])), C1, 0);
        table.register(master("a").with(topic_set(1, &["T", "U", "V"])), C1, 0);
        assert!(table.route("V").is_some());
    }

    #[test]
    fn one_changed_topic_needs_a_full_registration_before() {
        let mut table = table();
        assert_eq!(table.register(master("a").with(topic_set(1, &["T"])), C1, 0), Registered::Unknown);
        assert!(table.groups().is_empty() && table.clusters().is_empty(), "a refusal leaves no trace");
        table.register(master("a").with(topic_set(1, &["T", "U"])), C1, 0);
        accepted(table.register(master("a").with(topic_set(2, &["V"])), C1, 0));
        assert_eq!(table.topic_names().collect::<Vec<_>>(), ["T", "U", "V"]);
    }

    #[test]
    fn a_slave_that_becomes_master_leaves_its_old_id() {
        let mut table = table();
        table.register(slave("a", 1), C1, 0);
        let promoted = master("a").at("a1:10911");
        accepted(table.register(promoted, C1, 0));
        assert_eq!(table.groups()["a"].addresses, BTreeMap::from([(0, "a1:10911".to_owned())]));
    }

    #[test]
    fn a_newcomer_with_an_older_state_does_not_take_the_id() {
        let mut table = table();
        let mut set = topic_set(5, &["T", "U"]);
        set.version.state_version = 3;
        table.register(master("a").with(set.clone()), C1, 0);
        set.version.state_version = 2;
        let old = master("a").at("old:10911").with(set.clone());
        assert_eq!(table.register(old, C2, 0), Registered::Outdated);
        assert_eq!(table.groups()["a"].addresses[&0], "a0:10911");
        set.version.state_version = 3;
        accepted(table.register(master("a").at("new:10911").with(set), C2, 0));
        assert_eq!(table.groups()["a"].addresses[&0], "new:10911");
    }

    #[test]
    fn only_a_master_or_the_prime_slave_of_a_new_group_brings_topics() {
        let mut table = table();
        table.register(master("a").with(topic_set(1, &["T", "U"])), C1, 0);
        table.register(slave("a", 1).with(topic_set(9, &["T", "U", "Mine"])), C1, 0);
        assert!(table.route("Mine").is_none());
        let mut old = slave("b", 1).with(topic_set(1, &["T", "Old"]));
        old.acting_master = None;
        table.register(old, C1, 0);
        assert!(table.route("Old").is_none(), "a slave older than 5.0 is never prime");
        let mut prime = slave("c", 1).with(topic_set(1, &["T", "Prime"]));
        prime.acting_master = Some(true);
        table.register(prime, C1, 0);
        assert_eq!(table.route("Prime").unwrap().queues[0].1.perm, PERM_READ);
        table.register(slave("d", 1).with(topic_set(1, &["T", "Plain"])), C1, 0);
        assert_eq!(table.route("Plain").unwrap().queues[0].1.perm, 6);
    }

    #[test]
    fn a_slave_learns_its_live_master() {
        let mut table = table();
        assert_eq!(accepted(table.register(slave("a", 1), C1, 0)).1, None);
        table.register(master("a"), C2, 0);
        let learnt = accepted(table.register(slave("a", 1), C1, 0)).1;
        assert_eq!(learnt, Some(("a0:10911".into(), Some("a0:10912".into()))));
    }

    #[test]
    fn missing_topics_are_dropped_only_by_a_full_registration_under_that_rule() {
        let rules = Rules { support_acting_master: false, delete_topic_with_broker_registration: true };
        let mut table = RouteTable::new(rules);
        table.register(master("a").with(topic_set(1, &["T", "U", "V"])), C1, 0);
        table.register(master("a").with(topic_set(2, &["W"])), C1, 0);
        assert_eq!(table.topic_names().count(), 4, "one changed topic is no full list");
        table.register(master("a").with(topic_set(3, &["T", "W"])), C1, 0);
        assert_eq!(table.topic_names().collect::<Vec<_>>(), ["T", "W"]);
    }

    #[test]
    fn a_smaller_id_is_news_for_the_others() {
        let mut table = table();
        assert_eq!(accepted(table.register(slave("a", 2), C1, 0)).2, None);
        assert_eq!(accepted(table.register(slave("a", 3), C1, 0)).2, None);
        let change = accepted(table.register(slave("a", 1), C2, 0)).2.unwrap();
        assert_eq!((change.min_id, change.min_address.as_str()), (1, "a1:10911"));
        assert_eq!(change.recipients, ["a2:10911", "a3:10911"]);
        assert_eq!((change.ha_address.as_deref(), change.offline_address), (Some("a1:10912"), None));
    }

    #[test]
    fn filter_servers_and_static_mappings_follow_their_broker() {
        let mut table = table();
        let mut registration = master("a").with(topic_set(1, &["T", "U"]));
        registration.filter_servers = Some(vec!["f:1".into()]);
        let mapping = Mapping { broker: "a".into(), info: Value::Null };
        registration.topics.mappings.insert("T".into(), mapping);
        table.register(registration.clone(), C1, 0);
        let route = table.route("T").unwrap();
        assert_eq!(route.filter_servers["a0:10911"], ["f:1"]);
        assert_eq!(route.mappings["a"], Value::Null);
        registration.filter_servers = None;
        table.register(registration.clone(), C1, 0);
        assert_eq!(table.route("T").unwrap().filter_servers.len(), 1);
        registration.filter_servers = Some(Vec::new());
        table.register(registration, C1, 0);
        assert!(table.route("T").unwrap().filter_servers.is_empty());
    }
}
