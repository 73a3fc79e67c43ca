//! What brokers, clients and tools ask a name server: 100-105, 205, 216, 217, 219, 224, 322, 327, 901, 904.

use crate::headers::header;
use crate::text::Text;

header! {
    /// PUT_KV_CONFIG (100).
    pub struct PutKvHeader<'a> {
        namespace: Option<Text<'a>> = "namespace",
        key: Option<Text<'a>> = "key",
        value: Option<Text<'a>> = "value",
    }
}

header! {
    /// GET_KV_CONFIG (101) and DELETE_KV_CONFIG (102).
    pub struct KvHeader<'a> {
        namespace: Text<'a> = "namespace",
        key: Text<'a> = "key",
    }
}

header! {
    /// Answer to 101.
    pub struct GetKvResponseHeader<'a> {
        value: Option<Text<'a>> = "value",
    }
}

header! {
    /// REGISTER_BROKER (103).
    pub struct RegisterBrokerHeader<'a> {
        broker_name: Text<'a> = "brokerName",
        /// `ip:port`
        broker_address: Text<'a> = "brokerAddr",
        cluster_name: Text<'a> = "clusterName",
        /// `ip:port`
        ha_server_address: Option<Text<'a>> = "haServerAddr",
        /// 0 is the master.
        broker_id: i64 = "brokerId",
        heartbeat_timeout_ms: Option<i64> = "heartbeatTimeoutMillis",
        /// Absent from brokers before 5.0.
        enable_acting_master: Option<bool> = "enableActingMaster",
        compressed: bool = "compressed",
        /// CRC-32 of the body, sign bit cleared; 0 or absent: do not check.
        body_crc32: Option<i32> = "bodyCrc32",
        zone: Option<Text<'a>> = "__ZONE_NAME",
    }
}

header! {
    pub struct RegisterBrokerResponseHeader<'a> {
        ha_server_address: Option<Text<'a>> = "haServerAddr",
        master_address: Option<Text<'a>> = "masterAddr",
    }
}

header! {
    /// UNREGISTER_BROKER (104).
    pub struct UnregisterBrokerHeader<'a> {
        broker_name: Text<'a> = "brokerName",
        broker_address: Text<'a> = "brokerAddr",
        cluster_name: Text<'a> = "clusterName",
        broker_id: i64 = "brokerId",
    }
}

header! {
    /// GET_ROUTEINFO_BY_TOPIC (105).
    pub struct GetRouteHeader<'a> {
        topic: Text<'a> = "topic",
        /// Wants quoted keys whatever its version.
        standard_json_only: bool = "acceptStandardJsonOnly",
        zone_mode: bool = "__ZONE_MODE",
        zone: Option<Text<'a>> = "__ZONE_NAME",
    }
}

header! {
    /// WIPE_WRITE_PERM_OF_BROKER (205) and ADD_WRITE_PERM_OF_BROKER (327).
    pub struct BrokerNameHeader<'a> {
        broker_name: Text<'a> = "brokerName",
    }
}

header! {
    pub struct WipeWritePermResponseHeader {
        topics: i32 = "wipeTopicCount",
    }
}

header! {
    pub struct AddWritePermResponseHeader {
        topics: i32 = "addTopicCount",
    }
}

header! {
    /// DELETE_TOPIC_IN_NAMESRV (216) and, without a cluster, REGISTER_TOPIC_IN_NAMESRV (217).
    pub struct NamesrvTopicHeader<'a> {
        topic: Text<'a> = "topic",
        cluster_name: Option<Text<'a>> = "clusterName",
    }
}

header! {
    /// GET_KVLIST_BY_NAMESPACE (219).
    pub struct NamespaceHeader<'a> {
        namespace: Text<'a> = "namespace",
    }
}

header! {
    /// GET_TOPICS_BY_CLUSTER (224).
    pub struct ClusterHeader<'a> {
        cluster: Text<'a> = "cluster",
    }
}

header! {
    /// QUERY_DATA_VERSION (322).
    pub struct QueryDataVersionHeader<'a> {
        broker_name: Text<'a> = "brokerName",
        broker_address: Text<'a> = "brokerAddr",
        cluster_name: Text<'a> = "clusterName",
        broker_id: i64 = "brokerId",
    }
}

header! {
    pub struct QueryDataVersionResponseHeader {
        changed: bool = "changed",
    }
}

header! {
    /// GET_BROKER_MEMBER_GROUP (901).
    pub struct BrokerMemberGroupHeader<'a> {
        cluster_name: Text<'a> = "clusterName",
        broker_name: Text<'a> = "brokerName",
    }
}

header! {
    /// BROKER_HEARTBEAT (904).
    pub struct BrokerHeartbeatHeader<'a> {
        cluster_name: Text<'a> = "clusterName",
        broker_address: Text<'a> = "brokerAddr",
        broker_name: Text<'a> = "brokerName",
        broker_id: Option<i64> = "brokerId",
        epoch: Option<i32> = "epoch",
        max_offset: Option<i64> = "maxOffset",
        confirm_offset: Option<i64> = "confirmOffset",
        heartbeat_timeout_ms: Option<i64> = "heartbeatTimeoutMills",
        election_priority: Option<i32> = "electionPriority",
    }
}

header! {
    /// NOTIFY_MIN_BROKER_ID_CHANGE (905), from the name server to a broker.
    pub struct MinBrokerIdHeader<'a> {
        min_broker_id: Option<i64> = "minBrokerId",
        broker_name: Option<Text<'a>> = "brokerName",
        min_broker_address: Option<Text<'a>> = "minBrokerAddr",
        offline_broker_address: Option<Text<'a>> = "offlineBrokerAddr",
        ha_broker_address: Option<Text<'a>> = "haBrokerAddr",
    }
}
