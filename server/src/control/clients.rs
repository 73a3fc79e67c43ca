//! Who is connected: producers and consumers by group, and what the consumers of a group subscribe to.
//!
//! Invariant: a connection is listed in a group exactly when the group is listed with the connection, so that
//! a close costs what the connection took part in, not a search through all groups.
//! Not here: telling anybody. Every change answers with what has to be told (`ClientChange`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::limits::{
    CLIENT_ID_LEN_MAX, CLIENTS_PER_GROUP_MAX, GROUPS_PER_CONNECTION_MAX, ONLINE_GROUPS_MAX,
    SUBSCRIPTIONS_PER_GROUP_MAX,
};
use super::link::{ConnectionId, ConsumeType, GroupSubscriptions, MessageModel, Subscription};
use rmq_protocol::body::{ConsumeFromWhere, SubscriptionData};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    pub id: String,
    /// The language byte of its frames.
    pub language: u8,
    pub version: i32,
    pub peer: SocketAddr,
    pub seen_ms: i64,
}

#[derive(Debug)]
pub struct ConsumerGroup {
    pub consume_type: ConsumeType,
    pub message_model: MessageModel,
    /// For tools only: clients themselves choose where they begin.
    pub consume_from_where: ConsumeFromWhere,
    pub clients: BTreeMap<ConnectionId, Client>,
    pub subscriptions: BTreeMap<String, SubscriptionData>,
    /// Fingerprint of the last heartbeat, 0 if that was one of the first form.
    fingerprint: Option<i32>,
}

/// What a consumer says about its group in a heartbeat.
#[derive(Clone, Debug)]
pub struct ConsumerWish {
    pub group: String,
    pub consume_type: ConsumeType,
    pub message_model: MessageModel,
    pub consume_from_where: ConsumeFromWhere,
    /// `None`: the client left them out because the broker knows them.
    pub subscriptions: Option<Vec<SubscriptionData>>,
    /// 0 for a heartbeat of the first form.
    pub fingerprint: i32,
}

/// What others have to hear after a change.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ClientChange {
    /// The shards' copy of the group's subscriptions is out of date.
    pub subscriptions_of: BTreeSet<String>,
    /// Groups whose members or topics changed: their clients get NOTIFY_CONSUMER_IDS_CHANGED.
    pub membership_of: BTreeSet<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct TooMany(pub &'static str);

#[derive(Default)]
struct Memberships {
    /// As a producer, under which request-reply finds it.
    producer_id: Option<String>,
    producer_of: BTreeSet<String>,
    consumer_of: BTreeSet<String>,
}

#[derive(Default)]
pub struct ClientTable {
    producers: BTreeMap<String, BTreeMap<ConnectionId, Client>>,
    /// The connection that a producer's client id was last seen on.
    producer_ids: BTreeMap<String, ConnectionId>,
    consumers: BTreeMap<String, ConsumerGroup>,
    connections: BTreeMap<ConnectionId, Memberships>,
}

impl ClientTable {
    pub fn consumer_group(&self, group: &str) -> Option<&ConsumerGroup> {
        self.consumers.get(group)
    }

    /// In the order of names.
    pub fn consumer_groups(&self) -> impl Iterator<Item = (&String, &ConsumerGroup)> {
        self.consumers.iter()
    }

    pub fn producer_group(&self, group: &str) -> Option<&BTreeMap<ConnectionId, Client>> {
        self.producers.get(group)
    }

    /// Where the producer with this client id is connected.
    pub fn producer_connection(&self, client_id: &str) -> Option<ConnectionId> {
        self.producer_ids.get(client_id).copied()
    }

    pub fn producer_groups(&self) -> impl Iterator<Item = (&String, &BTreeMap<ConnectionId, Client>)> {
        self.producers.iter()
    }

    /// The shards' view of the group, `None` once its last consumer is gone.
    pub fn subscriptions(&self, group: &str) -> Option<GroupSubscriptions> {
        let group = self.consumers.get(group)?;
        let topics = group.subscriptions.iter().map(|(topic, data)| {
            let subscription = Subscription {
                expression_type: data.expression_type.clone(),
                expression: data.sub_string.clone(),
                codes: data.code_set.clone(),
                version: data.sub_version,
            };
            (topic.clone(), subscription)
        });
        Some(GroupSubscriptions {
            consume_type: group.consume_type,
            message_model: group.message_model,
            topics: topics.collect(),
        })
    }

    pub fn join_producer(
        &mut self,
        connection: ConnectionId,
        client: &Client,
        group: &str,
    ) -> Result<(), TooMany> {
        let is_member = self.producers.get(group).is_some_and(|clients| clients.contains_key(&connection));
        self.admit(connection, client, is_member)?;
        if !self.producers.contains_key(group) && self.producers.len() >= ONLINE_GROUPS_MAX {
            return Err(TooMany("producer groups"));
        }
        let clients = self.producers.entry(group.to_owned()).or_default();
        if !clients.contains_key(&connection) && clients.len() >= CLIENTS_PER_GROUP_MAX {
            return Err(TooMany("clients of one producer group"));
        }
        clients.insert(connection, client.clone());
        let memberships = self.connections.entry(connection).or_default();
        memberships.producer_of.insert(group.to_owned());
        if memberships.producer_id.as_ref() != Some(&client.id) {
            let before = memberships.producer_id.replace(client.id.clone());
            self.forget_producer_id(connection, before);
        }
        self.producer_ids.insert(client.id.clone(), connection);
        Ok(())
    }

    pub fn join_consumer(
        &mut self,
        connection: ConnectionId,
        client: &Client,
        wish: ConsumerWish,
    ) -> Result<Joined, TooMany> {
        let is_member =
            self.consumers.get(&wish.group).is_some_and(|group| group.clients.contains_key(&connection));
        self.admit(connection, client, is_member)?;
        let ConsumerWish { group: name, consume_type, message_model, consume_from_where, .. } = wish;
        if !self.consumers.contains_key(&name) && self.consumers.len() >= ONLINE_GROUPS_MAX {
            return Err(TooMany("consumer groups"));
        }
        if wish.subscriptions.as_ref().is_some_and(|list| list.len() > SUBSCRIPTIONS_PER_GROUP_MAX) {
            return Err(TooMany("subscriptions of one consumer group"));
        }
        let group = self.consumers.entry(name.clone()).or_insert_with(|| ConsumerGroup {
            consume_type,
            message_model,
            consume_from_where,
            clients: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            fingerprint: None,
        });
        if !group.clients.contains_key(&connection) && group.clients.len() >= CLIENTS_PER_GROUP_MAX {
            return Err(TooMany("clients of one consumer group"));
        }
        let view_changed = group.clients.is_empty()
            || (group.consume_type, group.message_model) != (consume_type, message_model);
        group.consume_type = consume_type;
        group.message_model = message_model;
        group.consume_from_where = consume_from_where;
        // A shared connection keeps one client per group: the last that spoke.
        let newcomer = group.clients.insert(connection, client.clone()).is_none();
        let knows_subscriptions = !group.subscriptions.is_empty();
        let subscribed = match wish.subscriptions {
            Some(list) => group.subscribe(list),
            None => Subscribed::default(),
        };
        let known_fingerprint = group.fingerprint.replace(wish.fingerprint);
        let other_fingerprint = known_fingerprint.is_some_and(|known| known != wish.fingerprint);
        let without_any = !knows_subscriptions && group.subscriptions.is_empty();
        self.connections.entry(connection).or_default().consumer_of.insert(name);
        Ok(Joined {
            membership_changed: newcomer || subscribed.topics_changed,
            view_changed: view_changed || subscribed.changed,
            wants_subscriptions: wish.fingerprint == 0 || other_fingerprint || without_any,
        })
    }

    pub fn leave_producer(&mut self, connection: ConnectionId, group: &str) {
        if let Some(clients) = self.producers.get_mut(group) {
            clients.remove(&connection);
            if clients.is_empty() {
                self.producers.remove(group);
            }
        }
        if let Some(memberships) = self.connections.get_mut(&connection) {
            memberships.producer_of.remove(group);
            if memberships.producer_of.is_empty() {
                let id = memberships.producer_id.take();
                self.forget_producer_id(connection, id);
            }
        }
        self.forget_if_idle(connection);
    }

    pub fn leave_consumer(&mut self, connection: ConnectionId, group: &str) -> ClientChange {
        let mut change = ClientChange::default();
        self.remove_consumer(connection, group, &mut change);
        if let Some(memberships) = self.connections.get_mut(&connection) {
            memberships.consumer_of.remove(group);
        }
        self.forget_if_idle(connection);
        change
    }

    /// The connection is gone, and with it every membership.
    pub fn close(&mut self, connection: ConnectionId) -> ClientChange {
        let mut change = ClientChange::default();
        let Some(memberships) = self.connections.remove(&connection) else { return change };
        self.forget_producer_id(connection, memberships.producer_id);
        for group in &memberships.producer_of {
            if let Some(clients) = self.producers.get_mut(group) {
                clients.remove(&connection);
                if clients.is_empty() {
                    self.producers.remove(group);
                }
            }
        }
        for group in &memberships.consumer_of {
            self.remove_consumer(connection, group, &mut change);
        }
        change
    }

    /// Connections with a membership that no heartbeat has refreshed for `expiry_ms`. Their owner closes them.
    pub fn expired(&self, now_ms: i64, expiry_ms: i64) -> Vec<ConnectionId> {
        let is_late = |client: &Client| now_ms - client.seen_ms > expiry_ms;
        let producers = self.producers.values().flatten();
        let consumers = self.consumers.values().flat_map(|group| &group.clients);
        let late: BTreeSet<ConnectionId> = producers
            .chain(consumers)
            .filter(|(_, client)| is_late(client))
            .map(|(connection, _)| *connection)
            .collect();
        late.into_iter().collect()
    }

    fn admit(&self, connection: ConnectionId, client: &Client, is_member: bool) -> Result<(), TooMany> {
        if client.id.len() > CLIENT_ID_LEN_MAX {
            return Err(TooMany("bytes in the client id"));
        }
        let groups = self
            .connections
            .get(&connection)
            .map_or(0, |memberships| memberships.producer_of.len() + memberships.consumer_of.len());
        if !is_member && groups >= GROUPS_PER_CONNECTION_MAX {
            return Err(TooMany("groups of one connection"));
        }
        Ok(())
    }

    fn remove_consumer(&mut self, connection: ConnectionId, name: &str, change: &mut ClientChange) {
        let Some(group) = self.consumers.get_mut(name) else { return };
        if group.clients.remove(&connection).is_none() {
            return;
        }
        if group.clients.is_empty() {
            self.consumers.remove(name);
            change.subscriptions_of.insert(name.to_owned());
        } else {
            change.membership_of.insert(name.to_owned());
        }
    }

    /// Another connection may have taken the id over.
    fn forget_producer_id(&mut self, connection: ConnectionId, id: Option<String>) {
        if let Some(id) = id
            && self.producer_ids.get(&id) == Some(&connection)
        {
            self.producer_ids.remove(&id);
        }
    }

    fn forget_if_idle(&mut self, connection: ConnectionId) {
        if let Some(memberships) = self.connections.get(&connection)
            && memberships.producer_of.is_empty()
            && memberships.consumer_of.is_empty()
        {
            self.connections.remove(&connection);
        }
    }
}

/// What a consumer's heartbeat did.
#[derive(Debug, PartialEq, Eq)]
pub struct Joined {
    pub membership_changed: bool,
    /// The shards' copy of the subscriptions is out of date.
    pub view_changed: bool,
    /// The client shall send its subscriptions in full next time (`IS_SUB_CHANGE`).
    pub wants_subscriptions: bool,
}

#[derive(Default)]
struct Subscribed {
    changed: bool,
    topics_changed: bool,
}

impl ConsumerGroup {
    /// The newer version of a subscription wins; topics that are no longer named go.
    fn subscribe(&mut self, list: Vec<SubscriptionData>) -> Subscribed {
        let mut result = Subscribed::default();
        let named: BTreeSet<String> = list.iter().map(|data| data.topic.clone()).collect();
        for data in list {
            match self.subscriptions.get_mut(&data.topic) {
                None => {
                    self.subscriptions.insert(data.topic.clone(), data);
                    result = Subscribed { changed: true, topics_changed: true };
                }
                Some(known) if data.sub_version > known.sub_version => {
                    *known = data;
                    result.changed = true;
                }
                Some(_) => {}
            }
        }
        self.subscriptions.retain(|topic, _| {
            let stays = named.contains(topic);
            if !stays {
                result = Subscribed { changed: true, topics_changed: true };
            }
            stays
        });
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(slot: u32) -> ConnectionId {
        ConnectionId { shard: 0, slot, generation: 1 }
    }

    fn client(id: &str, seen_ms: i64) -> Client {
        let peer = "127.0.0.1:4000".parse().unwrap();
        Client { id: id.to_owned(), language: 0, version: 479, peer, seen_ms }
    }

    fn subscription(topic: &str, version: i64) -> SubscriptionData {
        SubscriptionData {
            topic: topic.to_owned(),
            sub_string: format!("tags of {version}"),
            sub_version: version,
            ..SubscriptionData::default()
        }
    }

    fn wish(group: &str, subscriptions: &[SubscriptionData]) -> ConsumerWish {
        ConsumerWish {
            group: group.to_owned(),
            consume_type: ConsumeType::ConsumePassively,
            message_model: MessageModel::Clustering,
            consume_from_where: ConsumeFromWhere::ConsumeFromLastOffset,
            subscriptions: Some(subscriptions.to_vec()),
            fingerprint: 0,
        }
    }

    fn quiet() -> Joined {
        Joined { membership_changed: false, view_changed: false, wants_subscriptions: true }
    }

    #[test]
    fn members_hear_of_newcomers_and_topics_but_not_of_versions() {
        let mut table = ClientTable::default();
        let one = subscription("T", 1);
        let first = table
            .join_consumer(connection(1), &client("a", 0), wish("g", std::slice::from_ref(&one)))
            .unwrap();
        assert!(first.membership_changed && first.view_changed);
        let again = table
            .join_consumer(connection(1), &client("a", 1), wish("g", std::slice::from_ref(&one)))
            .unwrap();
        assert_eq!(again, quiet());
        let second = table
            .join_consumer(connection(2), &client("b", 1), wish("g", std::slice::from_ref(&one)))
            .unwrap();
        assert_eq!(second, Joined { membership_changed: true, ..quiet() });

        let newer =
            table.join_consumer(connection(1), &client("a", 2), wish("g", &[subscription("T", 5)])).unwrap();
        assert_eq!(newer, Joined { view_changed: true, ..quiet() });
        let older = table.join_consumer(connection(2), &client("b", 2), wish("g", &[one])).unwrap();
        assert_eq!(older, quiet(), "an older version does not replace a newer one");
        assert_eq!(table.subscriptions("g").unwrap().topics["T"].version, 5);

        let other =
            table.join_consumer(connection(2), &client("b", 3), wish("g", &[subscription("U", 1)])).unwrap();
        assert!(other.membership_changed && other.view_changed);
        let topics = table.subscriptions("g").unwrap().topics;
        assert_eq!(topics.keys().collect::<Vec<_>>(), ["U"]);
    }

    #[test]
    fn a_closed_connection_leaves_every_group() {
        let mut table = ClientTable::default();
        for slot in [1, 2] {
            table.join_consumer(connection(slot), &client("c", 0), wish("shared", &[])).unwrap();
        }
        table.join_consumer(connection(1), &client("c", 0), wish("alone", &[])).unwrap();
        table.join_producer(connection(1), &client("c", 0), "p").unwrap();
        let change = table.close(connection(1));
        assert_eq!(change.membership_of, BTreeSet::from(["shared".to_owned()]));
        assert_eq!(change.subscriptions_of, BTreeSet::from(["alone".to_owned()]));
        assert!(table.consumer_group("alone").is_none() && table.producer_group("p").is_none());
        assert_eq!(table.close(connection(1)), ClientChange::default());
        assert_eq!(table.subscriptions("alone"), None);
        table.leave_consumer(connection(2), "shared");
        assert!(table.connections.is_empty() && table.consumers.is_empty());
    }

    #[test]
    fn leaving_a_group_one_is_not_in_changes_nothing() {
        let mut table = ClientTable::default();
        table.join_consumer(connection(1), &client("c", 0), wish("g", &[])).unwrap();
        assert_eq!(table.leave_consumer(connection(2), "g"), ClientChange::default());
        assert_eq!(table.leave_consumer(connection(1), "other"), ClientChange::default());
        table.leave_producer(connection(1), "g");
        assert_eq!(table.consumer_group("g").unwrap().clients.len(), 1);
    }

    #[test]
    fn silence_expires_a_connection() {
        let mut table = ClientTable::default();
        table.join_consumer(connection(1), &client("a", 0), wish("g", &[])).unwrap();
        table.join_producer(connection(2), &client("b", 50), "p").unwrap();
        assert_eq!(table.expired(120_000, 120_000), []);
        assert_eq!(table.expired(120_001, 120_000), [connection(1)]);
        table.join_consumer(connection(1), &client("a", 120_001), wish("g", &[])).unwrap();
        assert_eq!(table.expired(120_051, 120_000), [connection(2)]);
    }

    /// The client leaves its subscriptions out while the broker says that nothing changed.
    #[test]
    fn fingerprints_spare_the_subscriptions() {
        let mut table = ClientTable::default();
        let full = |fingerprint| ConsumerWish { fingerprint, ..wish("g", &[subscription("T", 1)]) };
        let short = |fingerprint| ConsumerWish { fingerprint, subscriptions: None, ..wish("g", &[]) };
        let mut join = |wish| table.join_consumer(connection(1), &client("a", 0), wish).unwrap();
        assert!(!join(full(7)).wants_subscriptions);
        assert_eq!(join(short(7)), Joined { wants_subscriptions: false, ..quiet() });
        assert!(join(full(8)).wants_subscriptions, "another fingerprint was known");
        assert!(!join(full(8)).wants_subscriptions);
        table.close(connection(1));
        let restarted = table.join_consumer(connection(2), &client("a", 0), short(8)).unwrap();
        assert!(restarted.wants_subscriptions, "a broker without the subscriptions asks for them");
        table.join_consumer(connection(2), &client("a", 0), full(0)).unwrap();
        let second_form = table.join_consumer(connection(2), &client("a", 0), full(8)).unwrap();
        assert!(second_form.wants_subscriptions, "a heartbeat of the first form came in between");
    }

    #[test]
    fn a_producer_is_found_by_the_id_it_gave_last() {
        let mut table = ClientTable::default();
        table.join_producer(connection(1), &client("a", 0), "p").unwrap();
        table.join_producer(connection(1), &client("a", 0), "q").unwrap();
        table.leave_producer(connection(1), "p");
        assert_eq!(table.producer_connection("a"), Some(connection(1)));
        table.join_producer(connection(1), &client("b", 0), "q").unwrap();
        assert_eq!(table.producer_connection("a"), None);
        table.join_producer(connection(2), &client("b", 0), "q").unwrap();
        table.close(connection(1));
        assert_eq!(table.producer_connection("b"), Some(connection(2)), "the newer connection keeps the id");
        table.leave_producer(connection(2), "q");
        assert!(table.producer_connection("b").is_none() && table.producer_ids.is_empty());
    }

    #[test]
    fn the_last_client_id_of_a_connection_counts() {
        let mut table = ClientTable::default();
        table.join_consumer(connection(1), &client("a", 0), wish("g", &[])).unwrap();
        let joined = table.join_consumer(connection(1), &client("b", 0), wish("g", &[])).unwrap();
        assert!(!joined.membership_changed);
        assert_eq!(table.consumer_group("g").unwrap().clients[&connection(1)].id, "b");
        let long = client(&"x".repeat(CLIENT_ID_LEN_MAX + 1), 0);
        assert!(table.join_producer(connection(1), &long, "p").is_err());
    }
}
