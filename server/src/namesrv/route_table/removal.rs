//! How brokers leave: by their own word, with their connection, or in silence.

use super::{ConnectionNumber, MASTER_ID, MinIdChange, PERM_WRITE, RouteTable, Site};

/// A broker that is gone, for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Removed {
    pub cluster: String,
    pub broker: String,
    pub address: String,
    pub min_id_change: Option<MinIdChange>,
}

impl RouteTable {
    /// UNREGISTER_BROKER: drops the address, and the whole group with its topics if it was the last one.
    pub fn unregister(&mut self, cluster: &str, broker: &str, address: &str) -> Option<Removed> {
        let site = Site::new(cluster, address);
        self.live.remove(&site);
        self.filter_servers.remove(&site);
        let group = self.groups.get_mut(broker)?;
        let min_before = group.min_id();
        let members_before = group.addresses.len();
        group.addresses.retain(|_, held| held != address);
        let left = group.addresses.len() < members_before;
        let min_changed = group.min_id() != min_before && !group.addresses.is_empty();
        if left && group.acting_master && !group.addresses.contains_key(&MASTER_ID) {
            self.take_write_permission(broker);
        }
        let min_id_change = min_changed.then(|| self.min_id_change(broker, Some(address.to_owned()), None));
        self.forget_if_empty(broker);
        left.then(|| Removed {
            cluster: cluster.to_owned(),
            broker: broker.to_owned(),
            address: address.to_owned(),
            min_id_change,
        })
    }

    /// Removes at once the brokers whose last registration came over a connection that is gone.
    pub fn connection_closed(&mut self, connection: ConnectionNumber) -> Vec<Removed> {
        let gone = self.live.iter().filter(|(_, live)| live.connection == connection);
        let gone: Vec<Site> = gone.map(|(site, _)| site.clone()).collect();
        self.remove_sites(&gone)
    }

    /// Removes the brokers that have been silent for longer than they announced, and names their connections.
    pub fn expire(&mut self, now_ms: u64) -> (Vec<Removed>, Vec<ConnectionNumber>) {
        let silent: Vec<(Site, ConnectionNumber)> = self
            .live
            .iter()
            .filter(|(_, live)| now_ms.saturating_sub(live.updated_ms) > live.timeout_ms)
            .map(|(site, live)| (site.clone(), live.connection))
            .collect();
        let (sites, connections): (Vec<Site>, Vec<ConnectionNumber>) = silent.into_iter().unzip();
        (self.remove_sites(&sites), connections)
    }

    fn remove_sites(&mut self, sites: &[Site]) -> Vec<Removed> {
        let mut removed = Vec::new();
        for site in sites {
            let holder = self
                .groups
                .iter()
                .find(|(_, group)| group.addresses.values().any(|held| *held == site.address));
            match holder.map(|(broker, _)| broker.clone()) {
                Some(broker) => removed.extend(self.unregister(&site.cluster, &broker, &site.address)),
                // Another address has taken the id since.
                None => {
                    self.live.remove(site);
                    self.filter_servers.remove(site);
                }
            }
        }
        removed
    }

    /// Without its master, the topics of a group that lets a slave stand in can only be read.
    fn take_write_permission(&mut self, broker: &str) {
        for queues in self.topics.values_mut().filter_map(|queues| queues.get_mut(broker)) {
            queues.perm &= !PERM_WRITE;
        }
    }

    /// Forgets a group that has no address left: in its cluster and in every topic.
    pub(super) fn forget_if_empty(&mut self, broker: &str) {
        if self.groups.get(broker).is_none_or(|group| !group.addresses.is_empty()) {
            return;
        }
        self.groups.remove(broker);
        self.clusters.retain(|_, brokers| {
            brokers.remove(broker);
            !brokers.is_empty()
        });
        self.topics.retain(|_, brokers| {
            brokers.remove(broker);
            !brokers.is_empty()
        });
        self.mappings.retain(|_, brokers| {
            brokers.remove(broker);
            !brokers.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::registration::tests::{master, slave, table, topic_set};
    use super::super::{PERM_READ, Registered};
    use super::*;

    const C1: ConnectionNumber = ConnectionNumber(1);
    const C2: ConnectionNumber = ConnectionNumber(2);

    #[test]
    fn the_last_address_takes_group_cluster_and_topics_along() {
        let mut table = table();
        table.register(master("a").with(topic_set(1, &["T", "U"])), C1, 0);
        table.register(slave("a", 1), C2, 0);
        table.unregister("C", "a", "a0:10911").unwrap();
        assert_eq!(table.route("T").unwrap().brokers[0].1.addresses.keys().collect::<Vec<_>>(), [&1]);
        table.unregister("C", "a", "a1:10911").unwrap();
        assert!(table.route("T").is_none() && table.groups().is_empty() && table.clusters().is_empty());
        assert_eq!(table.topic_names().count(), 0);
        assert_eq!(table.unregister("C", "a", "a1:10911"), None);
    }

    #[test]
    fn a_stranger_cannot_unregister_an_address_it_does_not_name() {
        let mut table = table();
        table.register(master("a").with(topic_set(1, &["T", "U"])), C1, 0);
        assert_eq!(table.unregister("C", "a", "elsewhere:1"), None);
        assert!(table.route("T").is_some());
    }

    #[test]
    fn a_closed_connection_removes_its_brokers_at_once() {
        let mut table = table();
        table.register(master("a").with(topic_set(1, &["T", "U"])), C1, 0);
        table.register(master("b").with(topic_set(1, &["T", "U"])), C2, 0);
        let removed = table.connection_closed(C1);
        assert_eq!(removed.iter().map(|gone| gone.broker.as_str()).collect::<Vec<_>>(), ["a"]);
        assert_eq!(table.route("T").unwrap().queues.len(), 1);
    }

    #[test]
    fn a_broker_that_has_come_back_on_a_new_connection_survives_the_close_of_the_old() {
        let mut table = table();
        table.register(master("a").with(topic_set(1, &["T", "U"])), C1, 0);
        table.register(master("a").with(topic_set(1, &["T", "U"])), C2, 0);
        assert_eq!(table.connection_closed(C1), []);
        assert!(table.route("T").is_some());
    }

    #[test]
    fn silence_longer_than_announced_removes() {
        let mut table = table();
        let mut quick = master("quick").with(topic_set(1, &["T", "U"]));
        quick.timeout_ms = Some(10_000);
        table.register(quick, C1, 0);
        table.register(master("plain").with(topic_set(1, &["T", "U"])), C2, 0);
        assert_eq!(table.expire(10_000).0, []);
        table.refresh("C", "quick0:10911", 9_000);
        assert_eq!(table.expire(19_000).0, []);
        let (removed, connections) = table.expire(19_001);
        assert_eq!((removed[0].broker.as_str(), connections), ("quick", vec![C1]));
        assert!(table.refresh("C", "plain0:10911", 119_000).is_some());
        assert_eq!(table.expire(239_000).0, []);
        assert_eq!(table.expire(239_001).0.len(), 1);
        assert_eq!(table.refresh("C", "plain0:10911", 0), None);
    }

    #[test]
    fn a_group_that_loses_its_master_becomes_read_only_if_a_slave_may_stand_in() {
        let mut table = table();
        for acting in [true, false] {
            let name = if acting { "acting" } else { "plain" };
            for mut member in [master(name).with(topic_set(1, &["T", "U"])), slave(name, 1)] {
                member.acting_master = Some(acting);
                assert!(matches!(table.register(member, C1, 0), Registered::Accepted { .. }));
            }
            let removed = table.unregister("C", name, &format!("{name}0:10911")).unwrap();
            let change = removed.min_id_change.unwrap();
            assert_eq!((change.min_id, change.recipients), (1, vec![format!("{name}1:10911")]));
            let perm =
                table.route("T").unwrap().queues.iter().find(|(broker, _)| broker == name).unwrap().1.perm;
            assert_eq!(perm, if acting { PERM_READ } else { PERM_READ | PERM_WRITE });
        }
    }
}
