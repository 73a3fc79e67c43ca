//! Bounds of the timer.

/// Entries of a wheel in memory before they become a file; also about what a checkpoint writes.
pub const SET_ENTRIES_MAX: usize = 32 << 10;
/// Messages that are read and delivered together.
pub const DUE_AT_ONCE: usize = 2_048;
/// Messages of one read, and how far apart they may be.
pub const READ_AT_ONCE: usize = 512;
pub const READ_SPAN: i64 = 4_096;
pub const READ_BYTES_MAX: u32 = 4 << 20;
/// Deliveries appended between two turns of others.
pub const SLICE_DELIVERIES: usize = 32;
/// Appended bytes after which a delivery waits until they are written.
pub const APPENDED_BYTES_MAX: usize = 4 << 20;
/// Entries that are brought into a wheel in one go.
pub const INGEST_AT_ONCE: u32 = 1_024;
/// Recalls in force at a time, on each shard; one more has no effect, and is logged.
pub const RECALLS_MAX: usize = 65_536;
/// Topics whose waiting messages are counted; others wait uncounted.
pub const COUNTED_TOPICS_MAX: usize = 10_000;
/// What delivery adds to a message's properties at most.
pub const ADDED_PROPERTIES_BYTES: usize = 128;

const _: () = assert!(READ_AT_ONCE <= DUE_AT_ONCE && DUE_AT_ONCE <= SET_ENTRIES_MAX);
