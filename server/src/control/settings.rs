//! What the control thread needs to know of the configuration, with every default already applied.

use std::path::PathBuf;

use rmq_protocol::body::MessageRequestMode;

use super::limits::QUEUES_PER_TOPIC_MAX;
use crate::config::BrokerConfig;

#[derive(Clone, Debug, PartialEq)]
pub struct ControlSettings {
    pub cluster: String,
    pub broker: String,
    pub broker_id: i64,
    /// `ip:port` as clients reach it.
    pub address: String,
    /// `ip:port` of replication.
    pub ha_address: String,
    /// `host:port` each.
    pub name_servers: Vec<String>,
    pub register_period_ms: u64,
    pub register_timeout_ms: u64,
    /// Where the state files lie: `<storePathRootDir>/config`.
    pub config_dir: PathBuf,
    pub auto_create_topic: bool,
    /// Tools may not create, alter or delete the broker's own topics.
    pub protect_system_topics: bool,
    pub auto_create_group: bool,
    pub default_topic_queues: i32,
    pub cluster_topic: bool,
    pub broker_topic: bool,
    /// 4 read, 2 write.
    pub broker_permission: i32,
    /// The trace topic's name, when it is created at start.
    pub trace_topic: Option<String>,
    pub timer: bool,
    pub revive_queues: i32,
    pub delay_levels: i32,
    pub consumer_offsets_flush_ms: u64,
    pub delay_offsets_flush_ms: u64,
    pub client_expiry_ms: i64,
    pub notify_consumers: bool,
    /// Whether SQL92 subscriptions are served.
    pub property_filter: bool,
    pub default_request_mode: MessageRequestMode,
    pub default_pop_shares: i32,
    /// Otherwise every client of a group that asks gets all queues.
    pub server_load_balancer: bool,
    /// How long a topic's route is believed.
    pub route_life_ms: u64,
    /// The retry topics of pops go with their topic.
    pub clear_retry_topics: bool,
    pub start_accept_send_ms: i64,
    pub region: String,
    pub trace_on: bool,
    /// Replies of request-reply are stored as well as pushed.
    pub store_replies: bool,
    /// A reset of offsets is the broker's work; otherwise it tells the clients.
    pub server_side_reset: bool,
    /// Groups further behind than so many bytes may not consume any more.
    pub disable_slow_consumers: bool,
    pub slow_consumer_bytes: i64,
    pub log_dir: PathBuf,
}

impl From<&BrokerConfig> for ControlSettings {
    fn from(config: &BrokerConfig) -> Self {
        let number = |key: &str, default: i32| {
            config.all.get(key).and_then(|value| value.trim().parse().ok()).unwrap_or(default)
        };
        Self {
            cluster: config.cluster_name.clone(),
            broker: config.broker_name.clone(),
            broker_id: config.broker_id,
            address: config.advertised_address(),
            ha_address: config.advertised_ha_address(),
            name_servers: config.name_servers.0.clone(),
            register_period_ms: config.register_name_server_period_ms,
            register_timeout_ms: config.register_broker_timeout_ms,
            config_dir: config.store_root.join("config"),
            auto_create_topic: config.auto_create_topic_enable,
            protect_system_topics: config.validate_system_topic_when_update_topic,
            auto_create_group: config.auto_create_subscription_group,
            default_topic_queues: i32::try_from(config.default_topic_queue_nums)
                .unwrap_or(QUEUES_PER_TOPIC_MAX)
                .min(QUEUES_PER_TOPIC_MAX),
            cluster_topic: config.cluster_topic_enable,
            broker_topic: config.broker_topic_enable,
            broker_permission: config.broker_permission,
            trace_topic: config.trace_topic_enable.then(|| config.msg_trace_topic_name.clone()),
            timer: config.timer_wheel_enable,
            // The topics of features that are not built yet exist all the same: tools list them.
            revive_queues: number("reviveQueueNum", 8).clamp(1, QUEUES_PER_TOPIC_MAX),
            delay_levels: config.delay_levels.0.len() as i32,
            consumer_offsets_flush_ms: config.flush_consumer_offset_interval_ms,
            delay_offsets_flush_ms: config.flush_delay_offset_interval_ms,
            client_expiry_ms: i64::try_from(config.channel_expired_timeout_ms).unwrap_or(i64::MAX),
            notify_consumers: config.notify_consumer_ids_changed_enable,
            property_filter: config.enable_property_filter,
            default_request_mode: match config.default_message_request_mode.as_str() {
                "POP" => MessageRequestMode::Pop,
                _ => MessageRequestMode::Pull,
            },
            default_pop_shares: config.default_pop_share_queue_num,
            server_load_balancer: config.server_load_balancer_enable,
            route_life_ms: config.load_balance_poll_ms,
            clear_retry_topics: config.clear_retry_topics,
            start_accept_send_ms: config.start_accept_send_request_ms,
            region: config.region_id.clone(),
            trace_on: config.trace_on,
            store_replies: config.store_reply_message_enable,
            server_side_reset: config.use_server_side_reset_offset,
            disable_slow_consumers: config.disable_consume_if_consumer_read_slowly,
            slow_consumer_bytes: config.consumer_fallbehind_threshold,
            log_dir: config.commit_log_dir.clone(),
        }
    }
}

#[cfg(test)]
impl ControlSettings {
    /// What Java's broker uses when its file is empty.
    pub fn for_test(config_dir: PathBuf) -> Self {
        Self {
            cluster: "DefaultCluster".to_owned(),
            broker: "broker-a".to_owned(),
            broker_id: 0,
            address: "127.0.0.1:10911".to_owned(),
            ha_address: "127.0.0.1:10912".to_owned(),
            name_servers: Vec::new(),
            register_period_ms: 30_000,
            register_timeout_ms: 24_000,
            log_dir: config_dir.clone(),
            config_dir,
            auto_create_topic: true,
            protect_system_topics: true,
            auto_create_group: true,
            default_topic_queues: 8,
            cluster_topic: true,
            broker_topic: true,
            broker_permission: 6,
            trace_topic: None,
            timer: true,
            revive_queues: 8,
            delay_levels: 18,
            consumer_offsets_flush_ms: 5_000,
            delay_offsets_flush_ms: 10_000,
            client_expiry_ms: 120_000,
            notify_consumers: true,
            property_filter: false,
            default_request_mode: MessageRequestMode::Pull,
            default_pop_shares: -1,
            server_load_balancer: true,
            route_life_ms: 30_000,
            clear_retry_topics: true,
            start_accept_send_ms: 0,
            region: "DefaultRegion".to_owned(),
            trace_on: true,
            store_replies: true,
            server_side_reset: true,
            disable_slow_consumers: false,
            slow_consumer_bytes: 16 << 30,
        }
    }
}
