//! Every bound and every fixed size of the engine, and how they must agree.

/// Unit of direct I/O. The device may allow less; 4 KiB works on all of them.
pub const BLOCK_BYTES: usize = 4096;

/// Frames start at multiples of this.
pub const FRAME_ALIGN: usize = 16;

/// Frames of a segment start behind its header block.
pub const FIRST_FRAME: u32 = BLOCK_BYTES as u32;

/// A payload that no Java configuration can exceed (`maxMessageSize` is a few MiB everywhere).
pub const FRAME_PAYLOAD_MAX: usize = 64 << 20;

/// Records of one frame (a client's batch).
pub const RECORDS_PER_FRAME_MAX: usize = u16::MAX as usize;

pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;

/// Positions in a segment are 32 bits, with room to add a frame's length without overflow.
pub const SEGMENT_BYTES_MAX: u64 = 2 << 30;

pub const SHARDS_MAX: usize = 256;

/// One write of the flusher, unless a store asks for another size. More messages in one write cost less each, up to
/// the size at which the disk, not the request, sets the time.
pub const FLUSH_BYTES_MAX: usize = 4 << 20;

/// What a store may ask for instead.
pub const WRITE_BYTES_MAX: usize = 16 << 20;

/// One piece of an index or a queue map, written by tasks that must not hold up the others.
pub const PIECE_BYTES: usize = 256 << 10;

/// One write of zeros ahead of the flusher, when it is close behind.
pub const ZERO_BYTES_MAX: usize = 1 << 20;

/// The same when there is time: the flusher's own writes wait for it on the disk.
pub const ZERO_PIECE_BYTES: usize = 256 << 10;

/// A chunk of the tail cache: large enough that a chunk change is rare, small enough to drop in steps.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;
pub const CHUNK_BYTES_MIN: usize = 16 << 10;

/// Segment numbers are reserved in the superblock in runs of this many.
pub const NUMBER_RUN: u64 = 16;

/// Longest topic name that a declaration may carry (RocketMQ's own limit is 127, with prefixes 255).
pub const TOPIC_BYTES_MAX: usize = 1024;

/// Smallest unit of a cold read: neighbours of a wanted record are wanted next.
pub const READ_AHEAD_BYTES: usize = 128 << 10;

/// Such units are read together when a reader walks through the log.
pub const READ_AHEAD_UNITS: u64 = 4;

/// Unit of index reads: a few pages, since the next entries are mostly wanted as well.
pub const INDEX_UNIT_BYTES: usize = 4 * BLOCK_BYTES;

/// Entries of one bucket of a key file, on average: with half a page of them, a query mostly reads one.
pub const KEY_BUCKET_ENTRIES: usize = 256;

/// Keys are kept in chunks, so that a query has those of a buffer that is being filled.
pub const KEY_CHUNK_ENTRIES_MAX: usize = 32 << 10;

/// Buffers of keys that may wait for their files, of the memory for keys; one more is filled meanwhile.
pub const KEY_WAITING_PARTS: usize = 3;

/// Keys of a shorter stretch get no file at an orderly stop: the next start reads that much log in no time.
pub const KEY_REBUILD_BYTES: u32 = 8 << 20;

/// Records that one query by key looks at; most of them are not what was asked for only if somebody wants it so.
pub const KEY_CANDIDATES_MAX: usize = 4096;

/// Sealed files that one shard keeps open for reading.
pub const OPEN_FILES_MAX: usize = 64;

/// Chunks kept for reuse: fresh memory costs a page fault per 4 KiB.
pub const FREE_CHUNKS_MAX: usize = 8;

/// The least that cold reads may have in flight: one read-ahead, else every one of them would go alone.
pub const COLD_BYTES_MIN: usize = READ_AHEAD_BYTES * READ_AHEAD_UNITS as usize;

/// The memory tail of one shard: a few groups at least, and at most what a start may read into memory.
pub const MEMORY_TAIL_BYTES_MIN: u64 = 16 << 10;
pub const MEMORY_TAIL_BYTES_MAX: u64 = 256 << 20;

/// Copied into the memory tail at once; after that, others get their turn.
pub const MEMORY_COPY_BYTES_MAX: usize = 256 << 10;

/// How long bytes in the memory tail stay there before they are written, unless there are this many.
pub const MEMORY_LINGER_US: u64 = 1_000;
pub const MEMORY_LINGER_BYTES: u64 = 64 << 10;

/// Segments that a memory tail may span: as many as its header block has places for.
pub const MEMORY_SEGMENTS_MAX: usize = 126;

/// Longest path of a memory tail's file (the kernel's own limit).
pub const MEMORY_PATH_BYTES_MAX: usize = 4096;

/// Runs of a timeline that wait to be written; with so many, nothing more should be inserted.
pub const TIMELINE_MEMORY_RUNS_MAX: usize = 4;

/// Runs of one size that are merged into one: more means less writing, and more windows in memory.
pub const TIMELINE_MERGED_RUNS: usize = 8;

/// What is read of a run at once, and kept in memory.
pub const TIMELINE_WINDOW_BYTES: usize = 16 * BLOCK_BYTES;

const _: () = {
    // A seal and a preamble keep frames aligned; a first record is where its mark says.
    assert!(crate::frame::frame_len(0).is_multiple_of(FRAME_ALIGN));
    assert!(crate::frame::PREAMBLE_BYTES + crate::frame::MARK_BYTES <= BLOCK_BYTES);
    // A queue's declaration fits into the smallest segment, whatever its name.
    assert!(crate::frame::frame_len(4 + TOPIC_BYTES_MAX) < SEGMENT_BYTES_MIN as usize / 2);
    assert!(TOPIC_BYTES_MAX <= u16::MAX as usize);
    // Index pages are whole blocks, and index units whole pages.
    assert!(INDEX_UNIT_BYTES.is_multiple_of(BLOCK_BYTES));
    assert!(crate::index_file::PAGE_ENTRIES * crate::entry::ENTRY_BYTES + 4 <= BLOCK_BYTES);
    // Slots of an index stay within 32 bits: a record takes at least a frame.
    assert!(SEGMENT_BYTES_MAX / (crate::frame::MARK_BYTES as u64) < u32::MAX as u64);
    assert!(BLOCK_BYTES.is_multiple_of(FRAME_ALIGN));
    assert!(TIMELINE_MERGED_RUNS > 1 && TIMELINE_WINDOW_BYTES <= PIECE_BYTES);
    // A bucket mostly lies on one page or two, and the end of a segment is behind every position.
    assert!(KEY_BUCKET_ENTRIES <= crate::key_file::PAGE_ENTRIES);
    assert!(SEGMENT_BYTES_MAX < crate::key_buffer::TO_SEGMENT_END as u64);
    assert!(FLUSH_BYTES_MAX.is_multiple_of(BLOCK_BYTES) && FLUSH_BYTES_MAX <= WRITE_BYTES_MAX);
    assert!(ZERO_BYTES_MAX.is_multiple_of(BLOCK_BYTES));
    assert!(READ_AHEAD_BYTES.is_multiple_of(BLOCK_BYTES));
    assert!(SEGMENT_BYTES_MIN > 4 * BLOCK_BYTES as u64);
    // A position plus the largest frame stays within 32 bits.
    assert!(SEGMENT_BYTES_MAX + (FRAME_PAYLOAD_MAX as u64) < u32::MAX as u64);
    assert!(CHUNK_BYTES_MIN <= CHUNK_BYTES_MAX);
    assert!(TOPIC_BYTES_MAX < SEGMENT_BYTES_MIN as usize);
    // A preamble fits into the smallest ring; places in the largest stay within the address space of a process.
    assert!(MEMORY_TAIL_BYTES_MIN >= BLOCK_BYTES as u64 && MEMORY_TAIL_BYTES_MIN <= MEMORY_TAIL_BYTES_MAX);
    assert!(MEMORY_TAIL_BYTES_MAX <= u32::MAX as u64);
};
