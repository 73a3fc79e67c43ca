//! Every bound of the name server. It believes whoever connects, so each table has an end.

use rmq_protocol::frame::FRAME_SIZE_MAX;

/// Broker addresses that may be registered at once; one more is refused.
pub const BROKERS_MAX: usize = 10_000;
/// Topics in the route table; a registration that brings more is refused.
pub const TOPICS_MAX: usize = 1_000_000;
/// Key-value entries over all namespaces.
pub const KV_ENTRIES_MAX: usize = 100_000;
/// Open connections; further ones wait to be accepted.
pub const CONNECTIONS_MAX: usize = 50_000;
/// Bytes read at a time.
pub const READ_BYTES: usize = 4 * 1024;
/// How long a peer may take to accept its answers.
pub const WRITE_SECONDS_MAX: u64 = 30;
/// How long a member may take to accept NOTIFY_MIN_BROKER_ID_CHANGE.
pub const NOTIFY_MS_MAX: u64 = 3_000;
/// Expiry of a broker that announces no timeout of its own.
pub const HEARTBEAT_TIMEOUT_MS: u64 = 120_000;

/// Pipelined answers are written at the latest when they are this long.
pub const ANSWERS_BYTES_MAX: usize = 1 << 20;

const _: () = assert!(READ_BYTES < ANSWERS_BYTES_MAX && ANSWERS_BYTES_MAX < FRAME_SIZE_MAX);
