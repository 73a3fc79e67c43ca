//! What the data path needs of the broker's configuration, resolved once at start.

use std::net::SocketAddr;
use std::time::Duration;

pub const PERM_READ: i32 = 4;
pub const PERM_WRITE: i32 = 2;

#[derive(Clone, Debug)]
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
    pub idle_connection_ms: u64,
    pub offset_persist_interval_ms: u64,
    pub long_polling: bool,
    pub short_polling_ms: u64,
    pub lite_pull: bool,
    pub read: ReadSettings,
    /// Due time after the store time, by level - 1.
    pub delay_levels: Vec<Duration>,
    pub retention: RetentionSettings,
    pub reject_transactions: bool,
}

/// Most bytes and messages of one pull, from memory and from disk.
#[derive(Clone, Copy, Debug)]
pub struct ReadSettings {
    pub hot_bytes_max: u32,
    pub hot_messages_max: u32,
    pub cold_bytes_max: u32,
    pub cold_messages_max: u32,
    /// Distance from the log's end that counts as in memory when a new group asks where to begin.
    pub memory_bytes: i64,
}

#[derive(Clone, Debug)]
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
