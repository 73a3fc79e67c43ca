//! What the control thread needs to know of the configuration, with every default already applied.

use std::path::PathBuf;

#[derive(Clone, Debug)]
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
    pub sql_filter: bool,
    pub start_accept_send_ms: i64,
    pub log_dir: PathBuf,
    /// Every configuration key in effect, sorted, as code 26 lists them.
    pub all_keys: Vec<(String, String)>,
}

impl ControlSettings {
    pub fn is_readable(&self) -> bool {
        self.broker_permission & super::topics::PERM_READ != 0
    }

    pub fn is_writable(&self) -> bool {
        self.broker_permission & super::topics::PERM_WRITE != 0
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
            sql_filter: false,
            start_accept_send_ms: 0,
            all_keys: vec![("brokerName".to_owned(), "broker-a".to_owned())],
        }
    }
}
