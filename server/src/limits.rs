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
/// Longest wait for accepted work when the server stops, in milliseconds.
pub const DRAIN_MS: u64 = 3_000;

const _: () = assert!(ANSWER_BUFFER_BYTES_MAX > ANSWER_BUFFER_HIGH_WATER_BYTES + FRAME_SIZE_MAX);
const _: () = assert!(ANSWER_BUFFER_HIGH_WATER_BYTES > SCRATCH_BYTES);
const _: () = assert!(KEY_LOOKUP_BYTES_MAX < FRAME_SIZE_MAX);
const _: () = assert!(HELD_FRAME_BYTES_MAX < SCRATCH_BYTES);
const _: () = assert!(COLD_READS_WAITING_MAX >= REQUESTS_IN_FLIGHT_MAX as usize);
