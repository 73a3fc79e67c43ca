//! What a store is opened with.

use std::path::PathBuf;

use crate::error::Error;
use crate::limits;

/// When a record counts as acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushMode {
    /// After a write that is durable when it completes.
    Sync,
    /// After a direct write: survives the process and the kernel, not yet a power cut.
    /// The disk is flushed every `interval_ms`, or after `bytes`, whichever comes first.
    Async { interval_ms: u64, bytes: u64 },
}

/// Acknowledges from memory: appended bytes are kept in a file of memory as well until they are written, and the
/// next start finds them there. A killed process loses nothing acknowledged; a kernel panic or a power cut loses
/// what was not written yet. One such file per shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryTail {
    /// On tmpfs, and the same one after the process was killed.
    pub dir: PathBuf,
    /// While more than this is not written, acknowledgements wait for the disk.
    pub bytes: u64,
}

#[derive(Clone, Debug)]
pub struct StoreOptions {
    pub dir: PathBuf,
    /// Fixed when the store is created; a different wish later is warned about and ignored.
    pub segment_size_bytes: u64,
    pub shards: usize,
    pub flush: FlushMode,
    /// Newest bytes kept in memory, per shard.
    pub tail_cache_bytes: usize,
    /// Blocks read from disk and index blocks kept in memory, per shard.
    pub read_cache_bytes: usize,
    /// Keys of newest records kept in memory until they are in files, per shard. 0: no index of keys.
    pub key_memory_bytes: usize,
    /// How far ahead of the writer a segment is filled with zeros, so that a flush rewrites blocks instead of
    /// allocating them. 0: not at all, segments are only allocated.
    pub zero_ahead_bytes: u64,
    /// Largest single write of the log: a group beyond it takes several, one after the other.
    pub write_bytes_max: usize,
    /// Bytes appended and not yet written; beyond it appends are refused as busy.
    pub unflushed_bytes_max: u64,
    /// Bytes that cold reads of one shard may have in flight; more of them wait.
    pub cold_bytes_in_flight_max: usize,
    /// Only with `FlushMode::Async`.
    pub memory_tail: Option<MemoryTail>,
    /// How long a start waits for a killed predecessor's last requests to leave the kernel.
    pub lock_wait_ms: u64,
}

impl StoreOptions {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_size_bytes: 1 << 30,
            shards: 1,
            flush: FlushMode::Async { interval_ms: 500, bytes: 64 << 20 },
            tail_cache_bytes: 64 << 20,
            read_cache_bytes: 64 << 20,
            key_memory_bytes: 32 << 20,
            zero_ahead_bytes: 64 << 20,
            write_bytes_max: limits::FLUSH_BYTES_MAX,
            unflushed_bytes_max: 64 << 20,
            cold_bytes_in_flight_max: 8 << 20,
            memory_tail: None,
            lock_wait_ms: 5_000,
        }
    }

    /// Opening a store checks them too; a tool may want to know before.
    pub fn check(&self) -> Result<(), Error> {
        let bad = |text: String| Err(Error::BadOptions(text));
        let size = self.segment_size_bytes;
        if !(limits::SEGMENT_BYTES_MIN..=limits::SEGMENT_BYTES_MAX).contains(&size)
            || !size.is_multiple_of(limits::BLOCK_BYTES as u64)
        {
            return bad(format!(
                "segment size {size} must be a multiple of {} between {} and {}",
                limits::BLOCK_BYTES,
                limits::SEGMENT_BYTES_MIN,
                limits::SEGMENT_BYTES_MAX
            ));
        }
        if !(limits::BLOCK_BYTES..=limits::WRITE_BYTES_MAX).contains(&self.write_bytes_max)
            || !self.write_bytes_max.is_multiple_of(limits::BLOCK_BYTES)
        {
            return bad(format!(
                "largest write {} must be a multiple of {} up to {}",
                self.write_bytes_max,
                limits::BLOCK_BYTES,
                limits::WRITE_BYTES_MAX
            ));
        }
        if self.cold_bytes_in_flight_max < limits::COLD_BYTES_MIN {
            return bad(format!(
                "{} bytes of cold reads in flight: must be at least {}",
                self.cold_bytes_in_flight_max,
                limits::COLD_BYTES_MIN
            ));
        }
        if let Some(MemoryTail { dir, bytes }) = &self.memory_tail {
            let bounds = limits::MEMORY_TAIL_BYTES_MIN..=limits::MEMORY_TAIL_BYTES_MAX;
            if self.flush == FlushMode::Sync {
                return bad("a memory tail is for stores that do not flush before they acknowledge".into());
            }
            if !bounds.contains(bytes) {
                return bad(format!(
                    "{bytes} bytes of memory tail: must be between {} and {}",
                    bounds.start(),
                    bounds.end()
                ));
            }
            if !dir.is_absolute() || dir.as_os_str().len() + 64 > limits::MEMORY_PATH_BYTES_MAX {
                return bad(format!(
                    "memory tail in {}: must be an absolute path, and a shorter one",
                    dir.display()
                ));
            }
        }
        if self.shards == 0 || self.shards > limits::SHARDS_MAX {
            return bad(format!("{} shards: must be between 1 and {}", self.shards, limits::SHARDS_MAX));
        }
        Ok(())
    }
}

/// How much one read may return and how far it may look.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    pub messages_max: u32,
    pub bytes_max: u32,
    /// Entries looked at, matching or not.
    pub scan_max: u32,
    /// The same bounds for a read that had to go to disk.
    pub cold_messages_max: u32,
    pub cold_bytes_max: u32,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self {
            messages_max: 32,
            bytes_max: 256 << 10,
            scan_max: 16_000,
            cold_messages_max: 8,
            cold_bytes_max: 64 << 10,
        }
    }
}

/// Which of several records with fitting store times a search returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// The smallest offset whose store time is not before the wanted one.
    Lower,
    /// The largest offset whose store time is not after the wanted one.
    Upper,
}

/// What may be deleted. Only whole sealed segments go, oldest first, never the one being written.
#[derive(Clone, Copy, Debug, Default)]
pub struct RetentionPolicy {
    /// Segments whose newest record is older than this are deleted.
    pub age_ms: Option<i64>,
    /// While the file system is fuller than this (0.0..=1.0), the oldest segments go, expired or not.
    pub disk_ratio_max: Option<f64>,
    /// At most this many segments per call; deleting gigabytes at once stalls the disk.
    pub segments_max: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_write_is_whole_blocks_within_bounds() {
        let with = |write_bytes_max| StoreOptions { write_bytes_max, ..StoreOptions::new("x") }.check();
        for right in [4096, 12 << 10, limits::WRITE_BYTES_MAX] {
            assert!(with(right).is_ok(), "{right}");
        }
        for wrong in [0, 512, 4097, limits::WRITE_BYTES_MAX + limits::BLOCK_BYTES] {
            let error = with(wrong).unwrap_err().to_string();
            assert!(error.contains(&format!("largest write {wrong}")), "{error}");
        }
    }
}
