//! Our own settings, `rmq.*` in the broker's file.

use std::path::PathBuf;

use super::settings::typed;
use super::value::Cpus;

typed! {
    #[derive(Clone, Debug)]
    pub struct OwnConfig {
        /// Shard threads; 0 stands for one for each processor we may use but one.
        shards: u32 = "rmq.shards",
        /// Processors to pin the shards to, such as `0-3,6`; empty: all we may use.
        cpus: Cpus = "rmq.cpus",
        /// How long an idle shard spins before it parks.
        spin_us: u64 = "rmq.spinMicros",
        /// Newest bytes of the log kept in memory, per shard.
        tail_cache_bytes: u64 = "rmq.tailCacheBytes",
        /// Older bytes read from disk and kept in memory, per shard.
        read_cache_bytes: u64 = "rmq.readCacheBytes",
        /// How far ahead of the writer segments are filled with zeros.
        zero_ahead_bytes: u64 = "rmq.zeroAheadBytes",
        connections_max: u32 = "rmq.connectionsMax",
        /// Accepted but not yet durable bytes above which sends are refused, per shard.
        send_backlog_bytes: u64 = "rmq.sendBacklogBytes",
        /// Directory on tmpfs: with ASYNC_FLUSH, sends are acknowledged from memory that outlives the process. Empty:
        /// off.
        memory_tail: Option<PathBuf> = "rmq.memoryTail",
        /// Of that memory, per shard; with more to write, sends wait for the disk again.
        memory_tail_bytes: u64 = "rmq.memoryTailBytes",
        ..
    }
}
