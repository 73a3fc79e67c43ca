//! What the data path needs of the broker's configuration, resolved at start and at each change.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::broker::pop::settings::PopSettings;
use crate::config::BrokerConfig;

pub const PERM_READ: i32 = 4;
pub const PERM_WRITE: i32 = 2;

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub broker_name: String,
    pub cluster_name: String,
    /// Advertised address: it stands in every record and offset message id.
    pub store_host: SocketAddr,
    pub broker_permission: i32,
    pub region: String,
    pub trace_on: bool,
    pub message_size_max: usize,
    /// Sends are refused before this wall-clock time; 0: never.
    pub accept_sends_from_ms: i64,
    pub sync_flush_timeout_ms: u64,
    /// How long a send may wait before the shard reads it; `None`: for ever.
    pub send_wait_max_ms: Option<u64>,
    pub idle_connection_ms: u64,
    pub offset_persist_interval_ms: u64,
    pub long_polling: bool,
    pub short_polling_ms: u64,
    pub lite_pull: bool,
    /// Whether SQL92 subscriptions are served.
    pub property_filter: bool,
    pub read: ReadSettings,
    /// Due time after the store time, by level - 1.
    pub delay_levels: Vec<Duration>,
    pub timer: TimerSettings,
    pub retention: RetentionSettings,
    pub query: QuerySettings,
    pub light_queues: LightQueueSettings,
    pub pop: PopSettings,
    pub transactions: TransactionSettings,
    /// Pending resets of consumer offsets count; otherwise clients are told of resets.
    pub server_side_reset: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TransactionSettings {
    /// Half messages are refused.
    pub reject: bool,
    /// Age at which the producer of a half message is first asked.
    pub timeout_ms: i64,
    pub check_interval: Duration,
    /// A half message that was asked about so often is set aside.
    pub check_max: i32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LightQueueSettings {
    /// Light queues exist when they are named.
    pub is_on: bool,
    /// Messages go into them.
    pub dispatches: bool,
    pub queues_max: usize,
}

/// Queries by key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuerySettings {
    /// Whether there is an index of keys.
    pub index: bool,
    pub messages_max: usize,
    /// What a client that looks for a unique key gets, whatever it asks for.
    pub unique_messages_max: i32,
}

/// Most bytes and messages of one pull, from memory and from disk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReadSettings {
    pub hot_bytes_max: u32,
    pub hot_messages_max: u32,
    pub cold_bytes_max: u32,
    pub cold_messages_max: u32,
    /// Distance from the log's end that counts as in memory when a new group asks where to begin.
    pub memory_bytes: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TimerSettings {
    pub enabled: bool,
    /// Longest time ahead.
    pub delay_ms_max: i64,
    /// Length of a tick, by which times are named.
    pub precision_ms: i64,
    /// A message that waits for longer is stored again, so that its segment may expire.
    pub roll_window_ms: i64,
    pub flush_interval_ms: u64,
    /// Where the indexes lie.
    pub dir: PathBuf,
    /// Whether producers may take messages back.
    pub recall: bool,
    pub recall_when_not_writable: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RetentionSettings {
    pub keep: Duration,
    /// Hours of the day at which expired segments go.
    pub delete_hours: Vec<u8>,
    /// Used share of the disk above which expired segments go at any hour.
    pub disk_ratio_max: f64,
    /// Used share of the disk above which the oldest segments go even before they expire.
    pub disk_ratio_force: f64,
    pub force: bool,
}

impl Settings {
    /// Resolves the configuration; `store_host` is the advertised address.
    pub fn new(config: &BrokerConfig, store_host: SocketAddr) -> Self {
        Self {
            broker_name: config.broker_name.clone(),
            cluster_name: config.cluster_name.clone(),
            store_host,
            broker_permission: config.broker_permission,
            region: config.region_id.clone(),
            trace_on: config.trace_on,
            message_size_max: config.max_message_bytes as usize,
            accept_sends_from_ms: config.start_accept_send_request_ms,
            sync_flush_timeout_ms: config.sync_flush_timeout_ms,
            send_wait_max_ms: config.fast_failure_enable.then_some(config.wait_in_send_queue_ms),
            idle_connection_ms: u64::from(config.idle_max_seconds) * 1_000,
            offset_persist_interval_ms: config.flush_consumer_offset_interval_ms,
            long_polling: config.long_polling_enable,
            short_polling_ms: config.short_polling_time_ms,
            lite_pull: config.lite_pull_message_enable,
            property_filter: config.enable_property_filter,
            read: ReadSettings {
                hot_bytes_max: config.max_transfer_bytes_in_memory,
                hot_messages_max: config.max_transfer_count_in_memory,
                cold_bytes_max: config.max_transfer_bytes_in_disk,
                cold_messages_max: config.max_transfer_count_in_disk,
                memory_bytes: memory_bytes() / 100 * 40,
            },
            delay_levels: config
                .delay_levels
                .0
                .iter()
                .map(|&delay_ms| Duration::from_millis(delay_ms.max(0) as u64))
                .collect(),
            timer: TimerSettings::new(config),
            retention: RetentionSettings {
                keep: Duration::from_secs(u64::from(config.file_reserved_hours) * 3_600),
                delete_hours: config.delete_when.0.clone(),
                disk_ratio_max: f64::from(config.disk_max_used_percent) / 100.0,
                disk_ratio_force: f64::from(config.disk_clean_forcibly_percent) / 100.0,
                force: config.clean_file_forcibly_enable,
            },
            transactions: TransactionSettings {
                reject: config.reject_transaction_message,
                timeout_ms: config.transaction_timeout_ms,
                check_interval: Duration::from_millis(config.transaction_check_interval_ms.max(1)),
                check_max: config.transaction_check_max,
            },
            server_side_reset: config.use_server_side_reset_offset,
            pop: PopSettings::new(config),
            light_queues: LightQueueSettings {
                is_on: config.enable_lmq,
                dispatches: config.enable_lmq && config.enable_multi_dispatch,
                queues_max: config.lmq_max as usize,
            },
            query: QuerySettings {
                index: config.message_index_enable,
                messages_max: config.query_messages_max as usize,
                unique_messages_max: config.unique_query_messages_max,
            },
        }
    }
}

impl TimerSettings {
    fn new(config: &BrokerConfig) -> Self {
        let precision_ms = i64::from(config.timer_precision_ms.max(1));
        let keep_ms = i64::from(config.file_reserved_hours) * 3_600_000;
        let wished_ms = i64::from(config.timer_roll_window_slots).saturating_mul(precision_ms);
        Self {
            enabled: config.timer_wheel_enable,
            delay_ms_max: i64::from(config.timer_max_delay_seconds) * 1_000,
            precision_ms,
            // A segment lives for this long after its last message; waiting in it must end well before.
            roll_window_ms: wished_ms.min((keep_ms / 3 * 2).max(60_000)).max(ROLL_WINDOW_MS_MIN),
            flush_interval_ms: u64::from(config.timer_flush_interval_ms.max(1)),
            dir: config.store_root.join("timer"),
            recall: config.recall_message_enable,
            recall_when_not_writable: config.allow_recall_when_broker_not_writeable,
        }
    }
}

#[cfg(test)]
impl TimerSettings {
    pub fn for_test() -> Self {
        Self {
            enabled: true,
            delay_ms_max: 0,
            precision_ms: 1,
            roll_window_ms: 1,
            flush_interval_ms: 1,
            dir: PathBuf::new(),
            recall: true,
            recall_when_not_writable: true,
        }
    }
}

/// Storing the same messages again and again would fill the disk.
const ROLL_WINDOW_MS_MIN: i64 = 1_000;

/// The host's memory. Java counts a record as in memory within 40 % of it from the log's end.
fn memory_bytes() -> i64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = info
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse::<i64>().ok());
    kilobytes.unwrap_or(8 << 20) * 1024
}
