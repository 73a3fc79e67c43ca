//! Which brokers live where and which queues of which topics they hold. Pure: the clock is passed in.
//!
//! Invariants:
//! - a broker group has at least one address, each of them is live, and a cluster names the group;
//! - a topic has at least one broker.
//!
//! Not here: bytes (`handler`), sockets (`server`), the key-value settings (`kv_config`).

mod registration;
mod removal;

use std::collections::{BTreeMap, BTreeSet};

pub use registration::{Mapping, Registered, Registration, TopicSet};
pub use removal::Removed;
use rmq_protocol::body::DataVersion;
use serde_json::Value;

use super::limits::TOPICS_MAX;

pub const MASTER_ID: i64 = 0;
pub const PERM_READ: i32 = 4;
pub const PERM_WRITE: i32 = 2;

/// A connection of the name server, never given twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionNumber(pub u64);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Let the smallest slave stand in for a missing master where its group allows that.
    pub support_acting_master: bool,
    /// Drop a broker's topics that its full registration no longer lists.
    pub delete_topic_with_broker_registration: bool,
}

/// The queues one broker holds of one topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Queues {
    pub read_queue_nums: i32,
    pub write_queue_nums: i32,
    pub perm: i32,
    pub topic_sys_flag: i32,
}

/// The brokers that share a name: one master and its slaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerGroup {
    pub cluster: String,
    /// Never empty.
    pub addresses: BTreeMap<i64, String>,
    pub zone: Option<String>,
    pub acting_master: bool,
}

impl BrokerGroup {
    fn min_id(&self) -> Option<i64> {
        self.addresses.keys().next().copied()
    }
}

/// Everything a client needs to find the queues of a topic.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Route {
    pub queues: Vec<(String, Queues)>,
    pub brokers: Vec<(String, BrokerGroup)>,
    pub filter_servers: BTreeMap<String, Vec<String>>,
    /// Static topics: broker name -> its mapping, passed through.
    pub mappings: BTreeMap<String, Value>,
}

/// A group's smallest id changed; its members want to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MinIdChange {
    pub broker: String,
    pub min_id: i64,
    pub min_address: String,
    pub offline_address: Option<String>,
    pub ha_address: Option<String>,
    pub recipients: Vec<String>,
}

#[derive(Debug)]
struct Live {
    updated_ms: u64,
    timeout_ms: u64,
    version: DataVersion,
    connection: ConnectionNumber,
    ha_address: Option<String>,
}

/// Where a broker listens, within its cluster.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Site {
    cluster: String,
    address: String,
}

impl Site {
    fn new(cluster: &str, address: &str) -> Self {
        Self { cluster: cluster.to_owned(), address: address.to_owned() }
    }
}

#[derive(Debug)]
pub struct RouteTable {
    rules: Rules,
    /// Topic -> broker name -> its queues.
    topics: BTreeMap<String, BTreeMap<String, Queues>>,
    groups: BTreeMap<String, BrokerGroup>,
    clusters: BTreeMap<String, BTreeSet<String>>,
    live: BTreeMap<Site, Live>,
    filter_servers: BTreeMap<Site, Vec<String>>,
    /// Topic -> broker name -> mapping.
    mappings: BTreeMap<String, BTreeMap<String, Value>>,
}

impl RouteTable {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            topics: BTreeMap::new(),
            groups: BTreeMap::new(),
            clusters: BTreeMap::new(),
            live: BTreeMap::new(),
            filter_servers: BTreeMap::new(),
            mappings: BTreeMap::new(),
        }
    }

    /// `None`: no broker that is registered has the topic.
    pub fn route(&self, topic: &str) -> Option<Route> {
        let queues = self.topics.get(topic)?;
        let mut brokers: Vec<(String, BrokerGroup)> = queues
            .keys()
            .filter_map(|name| self.groups.get(name).map(|group| (name.clone(), group.clone())))
            .collect();
        if brokers.is_empty() {
            return None;
        }
        let filter_servers = brokers
            .iter()
            .flat_map(|(_, group)| group.addresses.values().map(|address| Site::new(&group.cluster, address)))
            .filter_map(|site| self.filter_servers.get(&site).map(|servers| (site.address, servers.clone())))
            .collect();
        if self.rules.support_acting_master && !topic.starts_with(SYNC_MEMBER_TOPIC_PREFIX) {
            for (name, group) in &mut brokers {
                let writable = queues.get(name).is_some_and(|queues| queues.perm & PERM_WRITE != 0);
                if !writable {
                    stand_in_for_master(group);
                }
            }
        }
        Some(Route {
            queues: queues.iter().map(|(name, queues)| (name.clone(), queues.clone())).collect(),
            brokers,
            filter_servers,
            mappings: self.mappings.get(topic).cloned().unwrap_or_default(),
        })
    }

    /// The rules may change while the server runs; what is stored already stays.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    pub fn groups(&self) -> &BTreeMap<String, BrokerGroup> {
        &self.groups
    }

    pub fn clusters(&self) -> &BTreeMap<String, BTreeSet<String>> {
        &self.clusters
    }

    pub fn topic_names(&self) -> impl Iterator<Item = &str> {
        self.topics.keys().map(String::as_str)
    }

    pub fn topics_of_cluster<'t>(&'t self, cluster: &str) -> impl Iterator<Item = &'t str> {
        let brokers = self.clusters.get(cluster);
        self.topics
            .iter()
            .filter(move |(_, queues)| {
                brokers.is_some_and(|names| queues.keys().any(|name| names.contains(name)))
            })
            .map(|(topic, _)| topic.as_str())
    }

    /// Topics whose flags (those of their first broker) are as asked: `set` set and `clear` clear.
    pub fn topics_with_flags(&self, set: i32, clear: i32) -> impl Iterator<Item = &str> {
        self.topics
            .iter()
            .filter(move |(_, queues)| {
                queues.values().next().is_some_and(|first| {
                    first.topic_sys_flag & set == set && first.topic_sys_flag & clear == 0
                })
            })
            .map(|(topic, _)| topic.as_str())
    }

    /// A sign of life: BROKER_HEARTBEAT, or QUERY_DATA_VERSION, which wants to know what is stored.
    pub fn refresh(&mut self, cluster: &str, address: &str, now_ms: u64) -> Option<DataVersion> {
        let live = self.live.get_mut(&Site::new(cluster, address))?;
        live.updated_ms = now_ms;
        Some(live.version)
    }

    /// Replaces the queues of a topic on brokers that are registered; others are ignored. False: no room.
    pub fn set_topic(&mut self, topic: &str, queues: impl IntoIterator<Item = (String, Queues)>) -> bool {
        let known: BTreeMap<String, Queues> =
            queues.into_iter().filter(|(name, _)| self.groups.contains_key(name)).collect();
        if known.is_empty() {
            return true;
        }
        if !self.topics.contains_key(topic) && self.topics.len() >= TOPICS_MAX {
            return false;
        }
        self.topics.entry(topic.to_owned()).or_default().extend(known);
        true
    }

    /// Forgets a topic, everywhere or on the brokers of one cluster.
    pub fn delete_topic(&mut self, topic: &str, cluster: Option<&str>) {
        let Some(cluster) = cluster else {
            self.topics.remove(topic);
            return;
        };
        let Some(names) = self.clusters.get(cluster) else { return };
        if let Some(queues) = self.topics.get_mut(topic) {
            queues.retain(|name, _| !names.contains(name));
            if queues.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    /// Takes the right to write from all topics of a broker, or gives both rights. Returns how many it has.
    pub fn set_writable(&mut self, broker: &str, writable: bool) -> i32 {
        let mut touched = 0;
        for queues in self.topics.values_mut().filter_map(|queues| queues.get_mut(broker)) {
            queues.perm = if writable { PERM_READ | PERM_WRITE } else { queues.perm & !PERM_WRITE };
            touched += 1;
        }
        touched
    }
}

/// Through topics with this prefix, brokers of an old name server learn of their group; they want the bare truth.
const SYNC_MEMBER_TOPIC_PREFIX: &str = "rmq_sys_SYNC_BROKER_MEMBER_";

/// A group without master shows its smallest slave under the master's id.
fn stand_in_for_master(group: &mut BrokerGroup) {
    if !group.acting_master || group.addresses.contains_key(&MASTER_ID) {
        return;
    }
    if let Some((_, address)) = group.addresses.pop_first() {
        group.addresses.insert(MASTER_ID, address);
    }
}

#[cfg(test)]
mod tests {
    use super::registration::tests::{master, queues, slave, table, topic_set};
    use super::*;

    const C1: ConnectionNumber = ConnectionNumber(1);

    #[test]
    fn a_route_names_every_member_of_its_groups() {
        let mut table = table();
        table.register(master("a").with(topic_set(1, &["T", "Other"])), C1, 0);
        table.register(slave("a", 1), C1, 0);
        table.register(master("b").with(topic_set(1, &["T", "U"])), C1, 0);
        let route = table.route("T").unwrap();
        assert_eq!(route.queues.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(route.brokers[0].1.addresses.len(), 2);
        assert_eq!(table.route("U").unwrap().brokers.len(), 1);
        assert_eq!(table.route("V"), None);
    }

    #[test]
    fn topic_lists_by_cluster_and_by_flag() {
        let mut table = table();
        let mut set = topic_set(1, &["T", "Unit", "UnitSub"]);
        set.topics.get_mut("Unit").unwrap().topic_sys_flag = 1;
        set.topics.get_mut("UnitSub").unwrap().topic_sys_flag = 2;
        table.register(master("a").with(set), C1, 0);
        let mut other = master("b").with(topic_set(1, &["X", "Y"]));
        other.cluster = "Other".into();
        table.register(other, C1, 0);
        assert_eq!(table.topics_of_cluster("Other").collect::<Vec<_>>(), ["X", "Y"]);
        assert_eq!(table.topics_of_cluster("None").count(), 0);
        assert_eq!(table.topics_with_flags(1, 0).collect::<Vec<_>>(), ["Unit"]);
        assert_eq!(table.topics_with_flags(2, 0).collect::<Vec<_>>(), ["UnitSub"]);
        assert_eq!(table.topics_with_flags(2, 1).collect::<Vec<_>>(), ["UnitSub"]);
        assert_eq!(table.topic_names().count(), 5);
    }

    #[test]
    fn write_permission_is_wiped_and_given_back_until_the_next_changed_registration() {
        let mut table = table();
        table.register(master("a").with(topic_set(1, &["T", "U"])), C1, 0);
        assert_eq!(table.set_writable("a", false), 2);
        assert_eq!(table.route("T").unwrap().queues[0].1.perm, PERM_READ);
        table.register(master("a").with(topic_set(1, &["T", "U"])), C1, 0);
        assert_eq!(table.route("T").unwrap().queues[0].1.perm, PERM_READ, "same version, nothing rewritten");
        assert_eq!(table.set_writable("a", true), 2);
        assert_eq!(table.route("T").unwrap().queues[0].1.perm, 6);
        table.set_writable("a", false);
        table.register(master("a").with(topic_set(2, &["T", "U"])), C1, 0);
        assert_eq!(table.route("T").unwrap().queues[0].1.perm, 6);
        assert_eq!(table.set_writable("nobody", false), 0);
    }

    #[test]
    fn topics_are_deleted_everywhere_or_in_one_cluster() {
        let mut table = table();
        table.register(master("a").with(topic_set(1, &["T", "U"])), C1, 0);
        let mut other = master("b").with(topic_set(1, &["T", "U"]));
        other.cluster = "Other".into();
        table.register(other, C1, 0);
        table.delete_topic("T", Some("Other"));
        assert_eq!(table.route("T").unwrap().queues.len(), 1);
        table.delete_topic("U", None);
        assert_eq!(table.route("U"), None);
        table.delete_topic("T", Some("C"));
        assert_eq!(table.topic_names().count(), 0, "a topic without brokers is gone");
    }

    #[test]
    fn a_topic_can_be_set_for_known_brokers_only() {
        let mut table = table();
        table.register(master("a").with(topic_set(1, &["T", "U"])), C1, 0);
        table.set_topic("New", [("a".to_owned(), queues(3)), ("ghost".to_owned(), queues(3))]);
        assert_eq!(table.route("New").unwrap().queues, [("a".to_owned(), queues(3))]);
        table.set_topic("None", [("ghost".to_owned(), queues(3))]);
        assert_eq!(table.route("None"), None);
    }

    #[test]
    fn an_acting_master_appears_under_id_0_only_while_the_queues_cannot_be_written() {
        let mut table = RouteTable::new(Rules {
            support_acting_master: true,
            delete_topic_with_broker_registration: false,
        });
        let mut prime = slave("a", 2).with(topic_set(1, &["T", "rmq_sys_SYNC_BROKER_MEMBER_a"]));
        prime.acting_master = Some(true);
        table.register(prime, C1, 0);
        let route = table.route("T").unwrap();
        assert_eq!(route.brokers[0].1.addresses.keys().collect::<Vec<_>>(), [&0]);
        assert_eq!(
            table.route("rmq_sys_SYNC_BROKER_MEMBER_a").unwrap().brokers[0].1.addresses.keys().next(),
            Some(&2)
        );
        table.set_writable("a", true);
        assert_eq!(table.route("T").unwrap().brokers[0].1.addresses.keys().next(), Some(&2));
    }
}
