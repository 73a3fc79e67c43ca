//! What the name server answers: one table of request codes, between frames and calls.

use std::collections::BTreeSet;

use rmq_protocol::body::{
    BrokerMemberGroup, BrokerMemberGroupBody, ClusterInfo, DataVersion, KvTable, QueueData,
    RegisterBrokerBody, TopicList, TopicRouteData, from_slice, register_body_crc32, to_vec,
};
use rmq_protocol::headers::{
    BrokerHeartbeatHeader, BrokerMemberGroupHeader, BrokerNameHeader, ClusterHeader, GetRouteHeader,
    KvHeader, MinBrokerIdHeader, NamespaceHeader, NamesrvTopicHeader, PutKvHeader, QueryDataVersionHeader,
    RegisterBrokerHeader, UnregisterBrokerHeader,
};
use rmq_protocol::{Codec, Frame, FrameWriter, HeaderError, RequestCode, ResponseCode, Text, version};

use super::bodies::{broker_data, keep_zone, registration, route_data};
use super::kv_config::{KvConfig, KvError, ORDER_TOPIC_CONFIG};
use super::route_table::{ConnectionNumber, MinIdChange, Queues, Registered, Removed, RouteTable, Rules};
use crate::config::{NamesrvConfig, parse_properties};
use crate::control::state_file::{StateFile, StateFileError};

pub struct Handler {
    config: NamesrvConfig,
    table: RouteTable,
    kv: KvConfig,
}

/// What a request sets off besides its answer.
#[derive(Default)]
pub struct Effects {
    pub min_id_change: Option<MinIdChange>,
}

/// Where a request comes from, and when.
#[derive(Clone, Copy)]
struct Arrival {
    connection: ConnectionNumber,
    now_ms: u64,
}

/// A successful answer; names and values are few.
#[derive(Default)]
struct Reply {
    fields: Vec<(&'static str, String)>,
    body: Vec<u8>,
    effects: Effects,
}

impl Reply {
    fn field(mut self, name: &'static str, value: impl ToString) -> Self {
        self.fields.push((name, value.to_string()));
        self
    }

    fn body(body: Vec<u8>) -> Self {
        Self { body, ..Self::default() }
    }
}

struct Refusal {
    code: ResponseCode,
    remark: String,
}

impl Refusal {
    fn new(code: ResponseCode, remark: impl Into<String>) -> Self {
        Self { code, remark: remark.into() }
    }

    /// SYSTEM_ERROR, which the remark explains.
    fn because(remark: impl ToString) -> Self {
        Self::new(ResponseCode::SYSTEM_ERROR, remark.to_string())
    }
}

impl From<HeaderError> for Refusal {
    fn from(error: HeaderError) -> Self {
        Self::because(error)
    }
}

type Answer = Result<Reply, Refusal>;

impl Handler {
    pub fn new(config: NamesrvConfig) -> Result<Self, StateFileError> {
        Ok(Self {
            table: RouteTable::new(rules(&config)),
            kv: KvConfig::open(&config.kv_config_path)?,
            config,
        })
    }

    /// Appends the answer to `out`, unless the peer does not want one.
    pub fn handle(
        &mut self,
        frame: &Frame<'_>,
        connection: ConnectionNumber,
        now_ms: u64,
        out: &mut Vec<u8>,
    ) -> Effects {
        // A broker may answer what it was told; there is nothing to learn from that.
        if frame.header.is_response() {
            return Effects::default();
        }
        let answer = self.answer(frame, Arrival { connection, now_ms });
        let (codec, opaque) = (frame.header.codec, frame.header.opaque);
        match answer {
            Err(_) if frame.header.is_oneway() => Effects::default(),
            Err(Refusal { code, remark }) => {
                FrameWriter::response(out, codec, code, opaque).remark(&remark).finish();
                Effects::default()
            }
            Ok(reply) => {
                if !frame.header.is_oneway() {
                    let mut writer = FrameWriter::response(out, codec, ResponseCode::SUCCESS, opaque);
                    for (name, value) in &reply.fields {
                        writer.put_field(name, value);
                    }
                    writer.body(&reply.body);
                }
                reply.effects
            }
        }
    }

    fn answer(&mut self, frame: &Frame<'_>, arrival: Arrival) -> Answer {
        let fields = &frame.header.fields;
        match frame.header.request_code() {
            RequestCode::PUT_KV_CONFIG => self.put_kv(&PutKvHeader::decode(fields)?),
            RequestCode::GET_KV_CONFIG => self.kv_value(&KvHeader::decode(fields)?),
            RequestCode::DELETE_KV_CONFIG => self.delete_kv(&KvHeader::decode(fields)?),
            RequestCode::GET_KVLIST_BY_NAMESPACE => self.kv_namespace(&NamespaceHeader::decode(fields)?),
            RequestCode::REGISTER_BROKER => {
                self.register(&RegisterBrokerHeader::decode(fields)?, frame, arrival)
            }
            RequestCode::UNREGISTER_BROKER => self.unregister(&UnregisterBrokerHeader::decode(fields)?),
            RequestCode::QUERY_DATA_VERSION => {
                self.data_version(&QueryDataVersionHeader::decode(fields)?, frame.body, arrival)
            }
            RequestCode::BROKER_HEARTBEAT => self.heartbeat(&BrokerHeartbeatHeader::decode(fields)?, arrival),
            RequestCode::GET_ROUTEINFO_BY_TOPIC => {
                self.route(&GetRouteHeader::decode(fields)?, frame.header.version, arrival)
            }
            RequestCode::GET_BROKER_CLUSTER_INFO => Ok(self.cluster_info()),
            RequestCode::GET_BROKER_MEMBER_GROUP => {
                Ok(self.members(&BrokerMemberGroupHeader::decode(fields)?))
            }
            RequestCode::WIPE_WRITE_PERM_OF_BROKER => {
                let broker = BrokerNameHeader::decode(fields)?.broker_name.cow();
                Ok(Reply::default().field("wipeTopicCount", self.table.set_writable(&broker, false)))
            }
            RequestCode::ADD_WRITE_PERM_OF_BROKER => {
                let broker = BrokerNameHeader::decode(fields)?.broker_name.cow();
                Ok(Reply::default().field("addTopicCount", self.table.set_writable(&broker, true)))
            }
            RequestCode::REGISTER_TOPIC_IN_NAMESRV => {
                self.set_topic(&NamesrvTopicHeader::decode(fields)?, frame.body)
            }
            RequestCode::DELETE_TOPIC_IN_NAMESRV => {
                let header = NamesrvTopicHeader::decode(fields)?;
                let cluster = header.cluster_name.filter(|name| !name.is_empty()).map(|name| name.cow());
                self.table.delete_topic(&header.topic.cow(), cluster.as_deref());
                Ok(Reply::default())
            }
            RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER => {
                topic_list(self.config.enable_all_topic_list, self.table.topic_names())
            }
            RequestCode::GET_TOPICS_BY_CLUSTER => {
                let cluster = ClusterHeader::decode(fields)?.cluster.cow();
                topic_list(self.config.enable_topic_list, self.table.topics_of_cluster(&cluster))
            }
            RequestCode::GET_UNIT_TOPIC_LIST => {
                topic_list(self.config.enable_topic_list, self.table.topics_with_flags(UNIT, 0))
            }
            RequestCode::GET_HAS_UNIT_SUB_TOPIC_LIST => {
                topic_list(self.config.enable_topic_list, self.table.topics_with_flags(UNIT_SUB, 0))
            }
            RequestCode::GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST => {
                topic_list(self.config.enable_topic_list, self.table.topics_with_flags(UNIT_SUB, UNIT))
            }
            RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_NS => Ok(self.system_topics()),
            RequestCode::UPDATE_NAMESRV_CONFIG => self.update_config(frame.body),
            RequestCode::GET_NAMESRV_CONFIG => Ok(Reply::body(self.config.dump().into_bytes())),
            unknown => {
                let remark = format!(" request type {} not supported", unknown.0);
                Err(Refusal::new(ResponseCode::REQUEST_CODE_NOT_SUPPORTED, remark))
            }
        }
    }

    /// The connection is gone, and with it the brokers that registered over it.
    pub fn connection_closed(&mut self, connection: ConnectionNumber) -> Vec<MinIdChange> {
        let removed = self.table.connection_closed(connection);
        self.announce(removed, "its connection was closed")
    }

    /// Removes brokers that have been silent too long; their connections are to be closed.
    pub fn expire(&mut self, now_ms: u64) -> (Vec<MinIdChange>, Vec<ConnectionNumber>) {
        let (removed, connections) = self.table.expire(now_ms);
        (self.announce(removed, "it was silent for too long"), connections)
    }

    fn announce(&self, removed: Vec<Removed>, why: &str) -> Vec<MinIdChange> {
        for Removed { cluster, broker, address, .. } in &removed {
            tracing::info!("name server: removed broker {broker} of {cluster} at {address}: {why}");
        }
        let changes = removed.into_iter().filter_map(|removed| removed.min_id_change);
        changes.filter(|_| self.config.notify_min_broker_id_changed).collect()
    }

    fn register(&mut self, header: &RegisterBrokerHeader<'_>, frame: &Frame<'_>, arrival: Arrival) -> Answer {
        let checksum = header.body_crc32.filter(|&checksum| checksum != 0);
        if checksum.is_some_and(|checksum| checksum != register_body_crc32(frame.body)) {
            return Err(Refusal::because("crc32 not match"));
        }
        let body = RegisterBrokerBody::decode(frame.body, header.compressed, frame.header.version)
            .map_err(Refusal::because)?;
        let registration = registration(header, body)?;
        let (broker, address) = (registration.broker.clone(), registration.address.clone());
        let mut reply = Reply::default();
        match self.table.register(registration, arrival.connection, arrival.now_ms) {
            Registered::Accepted { first, master, min_id_change } => {
                if first {
                    tracing::info!("name server: registered broker {broker} at {address}");
                }
                if let Some((master, ha_address)) = master {
                    reply.fields.extend(ha_address.map(|ha_address| ("haServerAddr", ha_address)));
                    reply.fields.push(("masterAddr", master));
                }
                reply.effects.min_id_change =
                    min_id_change.filter(|_| self.config.notify_min_broker_id_changed);
            }
            Registered::Outdated => {
                tracing::warn!(
                    "name server: broker {broker} at {address} has an older state than the one registered"
                );
            }
            Registered::Unknown => return Err(Refusal::because("register broker failed")),
            Registered::Full => return Err(Refusal::because("the name server is full")),
        }
        if self.config.return_order_topic_config_to_broker
            && let Some(table) = self.kv.namespace(ORDER_TOPIC_CONFIG)
        {
            reply.body = to_vec(&KvTable { table: table.clone() });
        }
        Ok(reply)
    }

    fn unregister(&mut self, header: &UnregisterBrokerHeader<'_>) -> Answer {
        let (cluster, broker) = (header.cluster_name.cow(), header.broker_name.cow());
        let removed = self.table.unregister(&cluster, &broker, &header.broker_address.cow());
        let changes = self.announce(removed.into_iter().collect(), "it said good-bye");
        let effects = Effects { min_id_change: changes.into_iter().next() };
        Ok(Reply { effects, ..Reply::default() })
    }

    fn data_version(&mut self, header: &QueryDataVersionHeader<'_>, body: &[u8], arrival: Arrival) -> Answer {
        let asked: DataVersion = from_slice(body).map_err(Refusal::because)?;
        let stored =
            self.table.refresh(&header.cluster_name.cow(), &header.broker_address.cow(), arrival.now_ms);
        let reply = Reply::default().field("changed", stored != Some(asked));
        Ok(match stored {
            Some(stored) => Reply { body: to_vec(&stored), ..reply },
            None => reply,
        })
    }

    fn heartbeat(&mut self, header: &BrokerHeartbeatHeader<'_>, arrival: Arrival) -> Answer {
        self.table.refresh(&header.cluster_name.cow(), &header.broker_address.cow(), arrival.now_ms);
        Ok(Reply::default())
    }

    fn route(&mut self, header: &GetRouteHeader<'_>, client_version: i32, arrival: Arrival) -> Answer {
        let warm_up_ms = u64::from(self.config.wait_seconds_for_service) * 1_000;
        if self.config.need_wait_for_service && arrival.now_ms < warm_up_ms {
            return Err(Refusal::because("name server not ready"));
        }
        let topic = header.topic.cow();
        let Some(mut route) = self.table.route(&topic) else {
            let remark = format!("No topic route info in name server for the topic: {topic}");
            return Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, remark));
        };
        let zone = header.zone.filter(|_| header.zone_mode).map(|zone| zone.cow());
        if let Some(zone) = &zone {
            keep_zone(&mut route, zone);
        }
        let order = self.kv.value(ORDER_TOPIC_CONFIG, &topic).filter(|_| self.config.order_message_enable);
        let data = route_data(route, order);
        let quoted = header.standard_json_only || client_version >= version::V4_9_4;
        // Filtered by zone, Java writes the old form for every client.
        let body = if quoted && zone.is_none() { data.encode_quoted() } else { data.encode_unquoted() };
        Ok(Reply::body(body))
    }

    fn cluster_info(&self) -> Reply {
        let groups = self.table.groups().iter();
        let clusters = self.table.clusters().iter();
        let info = ClusterInfo {
            broker_addr_table: groups
                .map(|(name, group)| (name.clone(), broker_data(name, group.clone())))
                .collect(),
            cluster_addr_table: clusters
                .map(|(cluster, brokers)| (cluster.clone(), brokers.iter().cloned().collect()))
                .collect(),
        };
        Reply::body(to_vec(&info))
    }

    fn members(&self, header: &BrokerMemberGroupHeader<'_>) -> Reply {
        let broker_name = header.broker_name.cow().into_owned();
        let group = self.table.groups().get(&broker_name);
        let broker_member_group = BrokerMemberGroup {
            broker_addrs: group.map(|group| group.addresses.clone()).unwrap_or_default(),
            broker_name,
            cluster: header.cluster_name.cow().into_owned(),
        };
        Reply::body(to_vec(&BrokerMemberGroupBody { broker_member_group }))
    }

    /// Clusters and brokers have topics of their own names; no list of them exists.
    fn system_topics(&self) -> Reply {
        let clusters = self.table.clusters();
        let names: BTreeSet<&String> = clusters.keys().chain(clusters.values().flatten()).collect();
        let any = self.table.groups().values().find_map(|group| group.addresses.values().next());
        let list = TopicList { broker_addr: any.cloned(), topic_list: names.into_iter().cloned().collect() };
        Reply::body(to_vec(&list))
    }

    fn set_topic(&mut self, header: &NamesrvTopicHeader<'_>, body: &[u8]) -> Answer {
        if body.is_empty() {
            return Ok(Reply::default());
        }
        let route: TopicRouteData = from_slice(body).map_err(Refusal::because)?;
        let queues = route.queue_datas.into_iter().map(|queues| {
            let QueueData { broker_name, perm, read_queue_nums, topic_sys_flag, write_queue_nums } = queues;
            (broker_name, Queues { read_queue_nums, write_queue_nums, perm, topic_sys_flag })
        });
        if !self.table.set_topic(&header.topic.cow(), queues) {
            return Err(Refusal::because("the name server is full"));
        }
        Ok(Reply::default())
    }

    fn put_kv(&mut self, header: &PutKvHeader<'_>) -> Answer {
        let (Some(namespace), Some(key)) = (header.namespace, header.key) else {
            return Err(Refusal::because("namespace or key is null"));
        };
        let value = header.value.map(|value| value.cow()).unwrap_or_default();
        saved(self.kv.put(&namespace.cow(), &key.cow(), &value))
    }

    fn delete_kv(&mut self, header: &KvHeader<'_>) -> Answer {
        saved(self.kv.delete(&header.namespace.cow(), &header.key.cow()))
    }

    fn kv_value(&self, header: &KvHeader<'_>) -> Answer {
        let (namespace, key) = (header.namespace.cow(), header.key.cow());
        match self.kv.value(&namespace, &key) {
            Some(value) => Ok(Reply::default().field("value", value)),
            None => Err(Refusal::new(
                ResponseCode::QUERY_NOT_FOUND,
                format!("No config item, Namespace: {namespace} Key: {key}"),
            )),
        }
    }

    fn kv_namespace(&self, header: &NamespaceHeader<'_>) -> Answer {
        let namespace = header.namespace.cow();
        match self.kv.namespace(&namespace) {
            Some(table) => Ok(Reply::body(to_vec(&KvTable { table: table.clone() }))),
            None => Err(Refusal::new(
                ResponseCode::QUERY_NOT_FOUND,
                format!("No config item, Namespace: {namespace}"),
            )),
        }
    }

    /// A change is in effect once it is saved. Java lets wrong values pass in silence; here they are named.
    fn update_config(&mut self, body: &[u8]) -> Answer {
        let properties = parse_properties(body).map_err(|_| Refusal::because("string2Properties error"))?;
        let changes: Vec<(String, String)> =
            properties.into_iter().map(|property| (property.key, property.value)).collect();
        let forbidden = |key: &str| {
            ALWAYS_FORBIDDEN.contains(&key)
                || self.config.config_black_list.split(';').any(|listed| listed.trim() == key)
        };
        if changes.iter().any(|(key, _)| forbidden(key)) {
            return Err(Refusal::new(ResponseCode::NO_PERMISSION, "Can not update config in black list."));
        }
        let changed = self.config.changed(&changes).map_err(Refusal::because)?;
        StateFile::new(&changed.config_store_path)
            .save(changed.dump().as_bytes())
            .map_err(Refusal::because)?;
        self.table.set_rules(rules(&changed));
        self.config = changed;
        Ok(Reply::default())
    }
}

const ALWAYS_FORBIDDEN: &[&str] = &["configBlackList", "configStorePath", "kvConfigPath", "rocketmqHome"];

/// Bits of a topic's system flag.
const UNIT: i32 = 1;
const UNIT_SUB: i32 = 2;

/// NOTIFY_MIN_BROKER_ID_CHANGE. JSON, which every broker reads.
pub fn min_id_change_frame(change: &MinIdChange) -> Vec<u8> {
    let mut frame = Vec::new();
    let mut writer =
        FrameWriter::request(&mut frame, Codec::Json, RequestCode::NOTIFY_MIN_BROKER_ID_CHANGE, 0, true);
    MinBrokerIdHeader {
        min_broker_id: Some(change.min_id),
        broker_name: Some(Text::from(change.broker.as_str())),
        min_broker_address: Some(Text::from(change.min_address.as_str())),
        offline_broker_address: change.offline_address.as_deref().map(Text::from),
        ha_broker_address: change.ha_address.as_deref().map(Text::from),
    }
    .encode(&mut writer);
    writer.finish();
    frame
}

fn rules(config: &NamesrvConfig) -> Rules {
    Rules {
        support_acting_master: config.support_acting_master,
        delete_topic_with_broker_registration: config.delete_topic_with_broker_registration,
    }
}

fn topic_list<'t>(enabled: bool, topics: impl Iterator<Item = &'t str>) -> Answer {
    if !enabled {
        return Err(Refusal::because("disable"));
    }
    let list = TopicList { broker_addr: None, topic_list: topics.map(str::to_owned).collect() };
    Ok(Reply::body(to_vec(&list)))
}

fn saved(outcome: Result<(), KvError>) -> Answer {
    outcome.map(|()| Reply::default()).map_err(Refusal::because)
}

#[cfg(test)]
mod tests;
