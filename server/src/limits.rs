//! Every bound of the server's data path in one place, compared where they depend on one another.
//! At a bound the server refuses, stops reading or closes, as said at each.

use rmq_protocol::frame::FRAME_SIZE_MAX;

/// A shard's one read buffer: what a read batch can hold.
pub const SCRATCH_BYTES: usize = 128 * 1024;
/// Growth step of a connection's incomplete frame; the frame itself is bounded by `FRAME_SIZE_MAX`.
pub const PARTIAL_FRAME_RESERVE_BYTES: usize = 1 << 20;
/// Answer buffer an idle connection may keep.
pub const IDLE_ANSWER_BUFFER_BYTES: usize = 16 * 1024;
/// Above this many unsent answer bytes the connection is not read (Java: the high-water mark of its channel).
pub const ANSWER_BUFFER_HIGH_WATER_BYTES: usize = 4 << 20;
/// Above this many unsent answer bytes the connection is closed: its client does not read.
pub const ANSWER_BUFFER_BYTES_MAX: usize = 64 << 20;
/// Above this many unanswered requests the connection is not read.
pub const REQUESTS_IN_FLIGHT_MAX: u32 = 65_536;
/// Above this many requests of one connection at the control thread the connection is not read.
pub const CONTROL_REQUESTS_MAX: u32 = 256;
/// `Forward` batches a shard may have under way to each other shard; without one it stops reading.
pub const MESH_CREDITS: u32 = 256;
/// Pulls one shard holds for long polling; one more is answered at once, as if its time were up.
pub const LONG_POLLS_MAX: usize = 1 << 20;
/// Longest hold of a pull, whatever its client asks for.
pub const HOLD_MS_MAX: u64 = 120_000;
/// A held pull keeps its request; a larger one is answered at once.
pub const HELD_FRAME_BYTES_MAX: usize = 64 * 1024;
/// Pulls that wait for the disk; one more is answered SYSTEM_BUSY. How many bytes they read at a time is
/// bounded by the engine.
pub const COLD_READS_WAITING_MAX: usize = 65_536;
/// Queries by key that one shard has under way for its clients; one more is answered SYSTEM_BUSY.
pub const KEY_LOOKUPS_MAX: usize = 64;
/// Messages of one query by key: the newest that fit. An answer is one frame.
pub const KEY_LOOKUP_BYTES_MAX: usize = 8 << 20;
/// Light queues that one message may go into, each with a copy; a message for more is refused.
pub const LIGHT_QUEUES_PER_MESSAGE_MAX: usize = 128;
/// A longer name is no light queue.
pub const LIGHT_QUEUE_NAME_BYTES_MAX: usize = 255;
/// Rows of consumer offsets a shard keeps; a commit for one more is refused.
pub const CONSUMER_OFFSETS_MAX: usize = 4 << 20;
/// Chunks of outcomes from the oldest open transaction of a half queue to its newest (8 KiB each where something has
/// ended, so 256 MiB at most); one half message more is refused SYSTEM_BUSY.
pub const HALF_WINDOW_CHUNKS_MAX: usize = 32_768;
/// Chunks that are remembered though all in them has ended, for producers that end a transaction once more; an end of an
/// older one is refused. A start reads the op records of that many.
pub const OUTCOME_CHUNKS_REMEMBERED: usize = 16;
/// Half messages checked side by side: what is on its way to producers at a time.
pub const CHECKS_AT_ONCE: u32 = 256;
pub const CHECK_BATCH_BYTES: u32 = 1 << 20;
/// Ends of transactions that wait for the disk; one more is answered SYSTEM_BUSY.
pub const COLD_ENDS_WAITING_MAX: usize = COLD_READS_WAITING_MAX;
/// Checkpoints of pops one shard keeps open; at the bound a pop finds nothing until some are acknowledged or due.
pub const POP_CHECKPOINTS_MAX: usize = 1 << 19;
/// Acknowledged checkpoints that are noted in memory only; at the bound they are written at once.
pub const POP_ACKS_UNRECORDED_MAX: usize = 4_096;
/// Records of the revive log that a start reads; beyond, and beyond four times the open checkpoints, the oldest of
/// these are written again.
pub const POP_REPLAY_RECORDS_MAX: i64 = 262_144;
/// Messages of one pop; whoever asks for more is refused.
pub const POP_MESSAGES_MAX: i32 = 32;
/// Above this many bytes a pop goes on to no further queue.
pub const POP_ANSWER_BYTES: usize = 1 << 20;
/// Group and topic together, so that their retry topic can be made; a longer pair is refused.
pub const POP_NAMES_BYTES_MAX: usize = 255 - "%RETRY%_".len();
/// Acknowledgements of one batch; further ones are as if they had not been sent.
pub const POP_BATCH_ACKS_MAX: usize = 1 << 16;
/// Longest wait for accepted work when the server stops, in milliseconds.
pub const DRAIN_MS: u64 = 3_000;

const _: () = assert!(ANSWER_BUFFER_BYTES_MAX > ANSWER_BUFFER_HIGH_WATER_BYTES + FRAME_SIZE_MAX);
const _: () = assert!(ANSWER_BUFFER_HIGH_WATER_BYTES > SCRATCH_BYTES);
const _: () = assert!(POP_MESSAGES_MAX as usize == crate::broker::pop::checkpoint::MESSAGES_MAX);
const _: () = assert!(POP_ACKS_UNRECORDED_MAX * 12 < 1 << 20);
const _: () = assert!(KEY_LOOKUP_BYTES_MAX < FRAME_SIZE_MAX);
const _: () = assert!(HELD_FRAME_BYTES_MAX < SCRATCH_BYTES);
const _: () = assert!(OUTCOME_CHUNKS_REMEMBERED < HALF_WINDOW_CHUNKS_MAX);
// A batch of checks fits into what a client may leave unread before the next is held back.
const _: () = assert!((CHECK_BATCH_BYTES as usize) < ANSWER_BUFFER_HIGH_WATER_BYTES);
const _: () = assert!(COLD_READS_WAITING_MAX >= REQUESTS_IN_FLIGHT_MAX as usize);
