//! Durable queues over direct I/O: one log per shard, an index over it, and the way back after a crash.
//!
//! Knows bytes, positions and queues. Not here: networks, RocketMQ's codes and record layout (the server
//! gives a [`Schema`]), or a clock and a disk of its own (they come through [`Env`]).
//!
//! `FORMAT.md` beside this crate draws every file.

pub mod env;
pub mod limits;

mod block_cache;
mod entry;
mod error;
mod frame;
mod index_file;
mod key_buffer;
mod key_file;
mod log;
mod memory_record;
mod notify;
mod offset;
mod options;
mod queue;
mod queue_map;
mod queue_table;
mod ring;
mod schema;
mod segment;
mod segment_file;
mod shard;
mod store;
mod superblock;
mod tail;
mod timeline;
mod watermarks;
mod whole_file;

pub use env::{Class, Env, File, Memory, OpenMode};
pub use error::{AppendError, Error};
pub use offset::{LogPosition, PhysicalOffset, QueueName, QueueNumber, QueueOffset};
pub use options::{Boundary, FlushMode, MemoryTail, ReadLimits, RetentionPolicy, StoreOptions};
pub use schema::{RecordMeta, Schema};
pub use shard::{
    Appended, CachedRead, KeyQuery, KeyRecord, KeyRecords, Progress, Read, RecordPlan, Shard, ShardStats,
    Stamp,
};
pub use store::{ShardSeed, Store};
pub use timeline::{Timeline, TimelineEntry, TimelineStart};
