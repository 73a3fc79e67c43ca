//! Heartbeats, and who is connected.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use rmq_protocol::body::{
    self, CheckClientBody, Connection, ConsumerConnection, ConsumerData, ConsumerList, ProducerConnection,
    ProducerInfo, ProducerTable, SubscriptionData,
};
use rmq_protocol::headers::{ConsumerGroupHeader, ProducerGroupHeader, UnregisterClientHeader};
use rmq_protocol::language::Language;
use rmq_protocol::response_code::ResponseCode;

use super::Request;
use crate::broker::sql92::{Expression, SyntaxError};
use crate::control::answer::{Answer, Outcome, Refusal};
use crate::control::changes::RetryTopic;
use crate::control::clients::{Client, ConsumerWish, TooMany};
use crate::control::link::{ConnectionId, MetadataChange};
use crate::control::state::State;
use crate::control::{heartbeat, push};

impl From<TooMany> for Refusal {
    fn from(TooMany(what): TooMany) -> Self {
        Self::new(ResponseCode::SYSTEM_BUSY, format!("[REJECTREQUEST]system busy, too many {what}"))
    }
}

/// HEART_BEAT (34). When it is answered, the group's retry topic exists and every shard knows what the group
/// subscribes to, so the pull that follows finds both.
pub async fn heartbeat(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let heartbeat = heartbeat::parse(request.body).map_err(Refusal::system_error)?;
    if heartbeat.client_id.is_empty() {
        return Err(Refusal::system_error("the heartbeat has no clientID"));
    }
    let client = Client {
        id: heartbeat.client_id,
        language: request.header.language.0,
        version: request.header.version,
        peer: request.peer,
        seen_ms: state.now_ms(),
    };
    let no_group = || Refusal::system_error("the heartbeat names a member without its groupName");
    let producer_groups: Vec<String> = heartbeat
        .producer_data_set
        .into_iter()
        .map(|producer| producer.group_name)
        .collect::<Option<_>>()
        .ok_or_else(no_group)?;
    if heartbeat.consumer_data_set.iter().any(|consumer| consumer.group_name.is_none()) {
        return Err(no_group());
    }
    for group in producer_groups.iter().filter(|group| !group.is_empty()) {
        state.clients.borrow_mut().join_producer(request.connection, &client, group)?;
    }
    let fingerprint = heartbeat.heartbeat_fingerprint;
    let mut wants_subscriptions = fingerprint == 0;
    for consumer in heartbeat.consumer_data_set {
        let unit = consumer.unit_mode;
        let wish = wish(consumer, fingerprint, fingerprint != 0 && heartbeat.without_sub);
        let group = wish.group.clone();
        if group.is_empty() || !state.need_group(&group, Some(RetryTopic { unit })).await {
            continue;
        }
        // Nobody would ever take the membership of a connection away that was closed meanwhile.
        if state.serving.has_closed(request.connection) {
            break;
        }
        let joined = state.clients.borrow_mut().join_consumer(request.connection, &client, wish)?;
        wants_subscriptions |= joined.wants_subscriptions;
        if joined.view_changed {
            let subscriptions = state.clients.borrow().subscriptions(&group).map(Arc::new);
            let change = MetadataChange::Subscriptions { group: group.clone(), subscriptions };
            state.links.publish(Arc::from([change])).await;
        }
        if joined.membership_changed {
            push::notify_members(state, &group);
        }
    }
    Ok(Answer::empty().field("IS_SUPPORT_HEART_BEAT_V2", true).field("IS_SUB_CHANGE", wants_subscriptions))
}

fn wish(consumer: ConsumerData, fingerprint: i32, without_subscriptions: bool) -> ConsumerWish {
    let mut subscriptions = consumer.subscription_data_set;
    subscriptions.retain(|data| !data.topic.is_empty());
    ConsumerWish {
        group: consumer.group_name.unwrap_or_default(),
        consume_type: consumer.consume_type,
        message_model: consumer.message_model,
        consume_from_where: consumer.consume_from_where,
        subscriptions: (!without_subscriptions).then_some(subscriptions),
        fingerprint,
    }
}

/// UNREGISTER_CLIENT (35). Old clients name both groups and leave one empty.
pub async fn unregister(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let header = UnregisterClientHeader::decode(&request.header.fields)?;
    if let Some(group) = header.producer_group.filter(|group| !group.is_empty()) {
        state.clients.borrow_mut().leave_producer(request.connection, &group.cow());
    }
    if let Some(group) = header.consumer_group.filter(|group| !group.is_empty()) {
        let change = state.clients.borrow_mut().leave_consumer(request.connection, &group.cow());
        state.spread(change).await;
    }
    Ok(Answer::empty())
}

/// GET_CONSUMER_LIST_BY_GROUP (38). Nobody is an error: clients that get an empty list fail at allocating.
pub fn consumer_ids(state: &State, request: &Request<'_>) -> Outcome {
    let group = ConsumerGroupHeader::decode(&request.header.fields)?.consumer_group;
    let clients = state.clients.borrow();
    let Some(members) = clients.consumer_group(&group.cow()) else {
        return Err(Refusal::system_error(format!("no consumer for this group, {}", group.cow())));
    };
    let ids: BTreeSet<&String> = members.clients.values().map(|client| &client.id).collect();
    Ok(Answer::json(&ConsumerList { consumer_id_list: ids.into_iter().cloned().collect() }))
}

/// CHECK_CLIENT_CONFIG (46).
pub fn check_config(state: &State, request: &Request<'_>) -> Outcome {
    if request.body.is_empty() {
        return Ok(Answer::empty());
    }
    let body: CheckClientBody = body::from_slice(request.body)?;
    let SubscriptionData { expression_type: kind, sub_string: expression, .. } = body.subscription_data;
    if kind == "TAG" || kind.is_empty() {
        return Ok(Answer::empty());
    }
    if state.settings.property_filter && kind == "SQL92" {
        let unparsed = |error: SyntaxError| {
            Refusal::new(ResponseCode::SUBSCRIPTION_PARSE_FAILED, format!("Invalid MessageSelector. {error}"))
        };
        return Expression::parse(&expression).map(|_| Answer::empty()).map_err(unparsed);
    }
    Err(Refusal::system_error(format!("The broker does not support consumer to filter message by {kind}")))
}

/// GET_CONSUMER_CONNECTION_LIST (203).
pub fn consumer_connections(state: &State, request: &Request<'_>) -> Outcome {
    let group = ConsumerGroupHeader::decode(&request.header.fields)?.consumer_group;
    let clients = state.clients.borrow();
    let Some(members) = clients.consumer_group(&group.cow()) else {
        return Err(Refusal::new(
            ResponseCode::CONSUMER_NOT_ONLINE,
            format!("the consumer group[{}] not online", group.cow()),
        ));
    };
    Ok(Answer::json(&ConsumerConnection {
        connection_set: connections(&members.clients),
        consume_from_where: members.consume_from_where,
        consume_type: members.consume_type,
        message_model: members.message_model,
        subscription_table: members.subscriptions.clone(),
    }))
}

/// GET_PRODUCER_CONNECTION_LIST (204).
pub fn producer_connections(state: &State, request: &Request<'_>) -> Outcome {
    let group = ProducerGroupHeader::decode(&request.header.fields)?.producer_group;
    let clients = state.clients.borrow();
    let Some(members) = clients.producer_group(&group.cow()) else {
        return Err(Refusal::system_error(format!("the producer group[{}] not exist", group.cow())));
    };
    Ok(Answer::json(&ProducerConnection { connection_set: connections(members) }))
}

/// GET_ALL_PRODUCER_INFO (328).
pub fn all_producers(state: &State) -> Outcome {
    let clients = state.clients.borrow();
    let groups = clients.producer_groups().map(|(group, members)| {
        let list = members.values().map(|client| ProducerInfo {
            client_id: client.id.clone(),
            language: language(client),
            last_update_timestamp: client.seen_ms,
            remote_ip: format!("/{}", client.peer),
            version: client.version,
        });
        (group.clone(), list.collect())
    });
    Ok(Answer::json(&ProducerTable { data: groups.collect() }))
}

fn connections(clients: &BTreeMap<ConnectionId, Client>) -> Vec<Connection> {
    let connection = |client: &Client| Connection {
        client_addr: client.peer.to_string(),
        client_id: client.id.clone(),
        language: language(client),
        version: client.version,
    };
    clients.values().map(connection).collect()
}

fn language(client: &Client) -> String {
    Language(client.language).name().unwrap_or("OTHER").to_owned()
}
