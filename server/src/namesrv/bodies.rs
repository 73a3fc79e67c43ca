//! Between the bodies of the wire and the values of the route table.

use std::collections::BTreeMap;

use rmq_protocol::body::{BrokerData, QueueData, RegisterBrokerBody, TopicRouteData};
use rmq_protocol::headers::RegisterBrokerHeader;
use rmq_protocol::{HeaderError, Text};
use serde_json::Value;

use super::route_table::{BrokerGroup, MASTER_ID, Mapping, Queues, Registration, Route, TopicSet};

pub fn registration(
    header: &RegisterBrokerHeader<'_>,
    body: RegisterBrokerBody,
) -> Result<Registration, HeaderError> {
    let filled = |name: &'static str, text: Text<'_>| match text.is_empty() {
        true => Err(HeaderError::Missing { field: name }),
        false => Ok(text.cow().into_owned()),
    };
    let optional =
        |text: Option<Text<'_>>| text.filter(|text| !text.is_empty()).map(|text| text.cow().into_owned());
    let topics = body.topics.topic_config_table.into_iter().map(|(name, topic)| {
        let queues = Queues {
            read_queue_nums: topic.read_queue_nums,
            write_queue_nums: topic.write_queue_nums,
            perm: topic.perm,
            topic_sys_flag: topic.topic_sys_flag,
        };
        (name, queues)
    });
    let broker = filled("brokerName", header.broker_name)?;
    let mappings = body.topics.topic_queue_mapping_info_map.into_iter().map(|(topic, info)| {
        let named = info.get("bname").and_then(Value::as_str);
        (topic, Mapping { broker: named.unwrap_or(&broker).to_owned(), info })
    });
    Ok(Registration {
        cluster: filled("clusterName", header.cluster_name)?,
        id: header.broker_id,
        address: filled("brokerAddr", header.broker_address)?,
        ha_address: optional(header.ha_server_address),
        zone: optional(header.zone),
        acting_master: header.enable_acting_master,
        timeout_ms: header.heartbeat_timeout_ms.and_then(|ms| u64::try_from(ms).ok()).filter(|&ms| ms > 0),
        topics: TopicSet {
            version: body.topics.data_version,
            topics: topics.collect(),
            mappings: mappings.collect(),
        },
        filter_servers: Some(body.filter_server_list),
        broker,
    })
}

pub fn broker_data(name: &str, group: BrokerGroup) -> BrokerData {
    BrokerData {
        broker_addrs: group.addresses,
        broker_name: name.to_owned(),
        cluster: group.cluster,
        enable_acting_master: group.acting_master,
        zone_name: group.zone,
    }
}

pub fn route_data(route: Route, order: Option<&str>) -> TopicRouteData {
    let queue_data = |(broker_name, queues): (String, Queues)| QueueData {
        broker_name,
        perm: queues.perm,
        read_queue_nums: queues.read_queue_nums,
        topic_sys_flag: queues.topic_sys_flag,
        write_queue_nums: queues.write_queue_nums,
    };
    TopicRouteData {
        broker_datas: route.brokers.into_iter().map(|(name, group)| broker_data(&name, group)).collect(),
        filter_server_table: route.filter_servers,
        order_topic_conf: order.map(str::to_owned),
        queue_datas: route.queues.into_iter().map(queue_data).collect(),
        topic_queue_mapping_by_broker: (!route.mappings.is_empty())
            .then(|| Value::Object(route.mappings.into_iter().collect())),
    }
}

/// Leaves the brokers of a zone, and those without a master wherever they are: they cannot serve alone.
pub fn keep_zone(route: &mut Route, zone: &str) {
    let (kept, dropped): (Vec<_>, Vec<_>) =
        std::mem::take(&mut route.brokers).into_iter().partition(|(_, group)| {
            let same = group.zone.as_deref().is_some_and(|theirs| theirs.eq_ignore_ascii_case(zone));
            same || !group.addresses.contains_key(&MASTER_ID)
        });
    route.brokers = kept;
    let dropped: BTreeMap<String, BrokerGroup> = dropped.into_iter().collect();
    route.queues.retain(|(name, _)| !dropped.contains_key(name));
    for address in dropped.values().flat_map(|group| group.addresses.values()) {
        route.filter_servers.remove(address);
    }
}
