//! The memory tail of one shard: what is not written yet, in a file that is memory and outlives the process.
//!
//! ```text
//!  0       8          12        16         24      28      32      40      64
//!  magic   | checksum | version | store id | epoch | shard | bytes | zeros | 126 places of 32 bytes
//!  place: segment 8 | base 8 | checksum 4 | zeros 12
//!  4096: the ring; byte `offset` of `segment` is at 4096 + (base + offset) % bytes
//! ```
//! Invariant: the log's bytes `floor..end` are in the ring. `floor` is where a frame begins, at or below what is
//! written: a scan of the disk ends there or behind it, so the next start finds in the ring how the log goes on.
//!
//! Nothing in the file says how far the ring is filled. Frames prove themselves by a checksum that starts from
//! store, segment and position, so what a kill left half-copied, or what a turn before left behind, is the end.
//! A segment's place is in the file before any frame of it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::env::{Env, Memory};
use crate::error::Error;
use crate::frame::{Kind, PREAMBLE_BYTES, Preamble, Seed};
use crate::limits::{
    BLOCK_BYTES, FIRST_FRAME, MEMORY_SEGMENTS_MAX, MEMORY_TAIL_BYTES_MAX, MEMORY_TAIL_BYTES_MIN,
};
use crate::offset::LogPosition;

const MAGIC: [u8; 8] = *b"rmqTAIL\0";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
const PLACE_BYTES: usize = 32;
const PLACE_COVERED: usize = 16;

const _: () = assert!(HEADER_BYTES + MEMORY_SEGMENTS_MAX * PLACE_BYTES <= BLOCK_BYTES);

/// Whose ring a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingHeader {
    pub store_id: u64,
    /// The start that filled it.
    pub epoch: u32,
    pub shard: u32,
    /// Of the ring, without this block.
    pub bytes: u64,
}

impl RingHeader {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[12..16].copy_from_slice(&VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&self.store_id.to_le_bytes());
        out[24..28].copy_from_slice(&self.epoch.to_le_bytes());
        out[28..32].copy_from_slice(&self.shard.to_le_bytes());
        out[32..40].copy_from_slice(&self.bytes.to_le_bytes());
        let checksum = crc32fast::hash(&out[12..]);
        out[8..12].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    fn decode(file: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_BYTES] = file.first_chunk()?;
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        let is_valid =
            header[..8] == MAGIC && word(8) == crc32fast::hash(&header[12..]) && word(12) == VERSION;
        let found = Self { store_id: long(16), epoch: word(24), shard: word(28), bytes: long(32) };
        let fits = (MEMORY_TAIL_BYTES_MIN..=MEMORY_TAIL_BYTES_MAX).contains(&found.bytes)
            && file.len() as u64 == BLOCK_BYTES as u64 + found.bytes;
        (is_valid && fits).then_some(found)
    }
}

/// Where a store keeps the ring of one shard: no two stores share a name.
pub(crate) fn path(dir: &Path, store_id: u64, shard: u32) -> PathBuf {
    dir.join(format!("rmq-{store_id:016x}-{shard:04}.tail"))
}

pub(crate) struct Ring<M: Memory> {
    memory: M,
    capacity: u64,
    /// Segments with bytes in the ring, oldest first, and the place of their offset 0.
    bases: VecDeque<(u64, u64)>,
    /// How many segments were ever given a place.
    entered: usize,
    floor: LogPosition,
    end: LogPosition,
}

impl<M: Memory> Ring<M> {
    /// A new ring for a log that goes on at `start`.
    pub async fn create<E: Env<Memory = M>>(
        env: &E,
        path: &Path,
        header: &RingHeader,
        start: LogPosition,
    ) -> Result<Self, Error> {
        let len = BLOCK_BYTES + header.bytes as usize;
        let memory = env.create_memory(path, len).await.map_err(|error| Error::memory(path, error))?;
        memory.write(0, &header.encode());
        let bases = VecDeque::with_capacity(MEMORY_SEGMENTS_MAX);
        let mut ring = Self { memory, capacity: header.bytes, bases, entered: 0, floor: start, end: start };
        ring.give_place(start.segment, 0);
        Ok(ring)
    }

    /// Everything below is in the ring, or was released.
    pub fn end(&self) -> LogPosition {
        self.end
    }

    pub fn floor(&self) -> LogPosition {
        self.floor
    }

    pub fn held_bytes(&self) -> usize {
        (self.place(self.end) - self.place(self.floor)) as usize
    }

    pub fn room(&self) -> usize {
        self.capacity as usize - self.held_bytes()
    }

    /// Copies in what follows `end`.
    pub fn push(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.room(), "the ring would bite its tail");
        let at = (self.place(self.end) % self.capacity) as usize;
        let (first, wrapped) = bytes.split_at(bytes.len().min(self.capacity as usize - at));
        self.memory.write(BLOCK_BYTES + at, first);
        if !wrapped.is_empty() {
            self.memory.write(BLOCK_BYTES, wrapped);
        }
        self.end.offset += bytes.len() as u32;
    }

    /// The log goes on in another segment. False while as many are held as the file has places for.
    pub fn enter(&mut self, segment: u64) -> bool {
        if self.bases.len() == MEMORY_SEGMENTS_MAX {
            return false;
        }
        let base = self.place(self.end) - u64::from(FIRST_FRAME);
        self.give_place(segment, base);
        self.end = LogPosition { segment, offset: FIRST_FRAME };
        true
    }

    /// Everything below `to`, where a frame begins, is written.
    pub fn release(&mut self, to: LogPosition) {
        assert!(self.floor <= to, "the ring's floor went back");
        self.floor = to;
        if to > self.end {
            // The disk was faster: the ring is empty and begins again from here.
            self.end = to;
            if self.bases.back().is_none_or(|&(segment, _)| segment != to.segment) {
                self.bases.clear();
                self.give_place(to.segment, 0);
            }
        }
        while self.bases.front().is_some_and(|&(segment, _)| segment < to.segment) {
            self.bases.pop_front();
        }
    }

    /// Removes the file: everything is on disk.
    pub fn remove(self) -> std::io::Result<()> {
        self.memory.remove()
    }

    fn give_place(&mut self, segment: u64, base: u64) {
        let mut place = [0; PLACE_BYTES];
        place[..8].copy_from_slice(&segment.to_le_bytes());
        place[8..16].copy_from_slice(&base.to_le_bytes());
        let checksum = crc32fast::hash(&place[..PLACE_COVERED]);
        place[16..20].copy_from_slice(&checksum.to_le_bytes());
        // The one that is overwritten was given before all that are in `bases`.
        self.memory.write(HEADER_BYTES + self.entered % MEMORY_SEGMENTS_MAX * PLACE_BYTES, &place);
        self.entered += 1;
        self.bases.push_back((segment, base));
    }

    fn place(&self, at: LogPosition) -> u64 {
        let found = self.bases.iter().find(|&&(segment, _)| segment == at.segment);
        let &(_, base) = found.expect("a position in the ring has a segment in it");
        base + u64::from(at.offset)
    }
}

/// A ring as a killed process left it.
pub(crate) struct LeftRing {
    pub header: RingHeader,
    file: Vec<u8>,
}

impl LeftRing {
    /// `None`: whatever the file is, it is no ring.
    pub fn parse(file: Vec<u8>) -> Option<Self> {
        Some(Self { header: RingHeader::decode(&file)?, file })
    }

    /// The frames that follow a position of the log in its segment, as far as they prove themselves.
    pub fn frames_from(&self, at: LogPosition, segment_size: u64) -> Vec<u8> {
        let mut frames = Vec::new();
        let Some(base) = self.base_of(at.segment) else { return frames };
        let seed = Seed::new(self.header.store_id, at.segment);
        let mut position = at.offset;
        let mut preamble_bytes = [0; PREAMBLE_BYTES];
        loop {
            let place = base.wrapping_add(u64::from(position));
            self.copy(place, &mut preamble_bytes);
            let Some(preamble) = Preamble::parse(&preamble_bytes) else { break };
            let room = (segment_size - u64::from(position)).min(self.header.bytes - frames.len() as u64);
            // Whatever is in the ring, this start appended it.
            if preamble.epoch != self.header.epoch || !preamble.is_plausible(room as usize) {
                break;
            }
            let (from, len) = (frames.len(), preamble.frame_len());
            frames.resize(from + len, 0);
            self.copy(place, &mut frames[from..]);
            if !preamble.verify(&frames[from..], seed, position) {
                frames.truncate(from);
                break;
            }
            position += len as u32;
            if preamble.kind == Kind::SEAL {
                break;
            }
        }
        frames
    }

    fn base_of(&self, wanted: u64) -> Option<u64> {
        let places = &self.file[HEADER_BYTES..HEADER_BYTES + MEMORY_SEGMENTS_MAX * PLACE_BYTES];
        places.chunks_exact(PLACE_BYTES).find_map(|place| {
            let long = |at: usize| u64::from_le_bytes(place[at..at + 8].try_into().expect("eight bytes"));
            let checksum = u32::from_le_bytes(place[16..20].try_into().expect("four bytes"));
            let is_valid = checksum == crc32fast::hash(&place[..PLACE_COVERED]);
            (is_valid && long(0) == wanted).then(|| long(8))
        })
    }

    fn copy(&self, place: u64, out: &mut [u8]) {
        let ring = &self.file[BLOCK_BYTES..];
        let at = (place % self.header.bytes) as usize;
        let (first, wrapped) = out.split_at_mut(out.len().min(ring.len() - at));
        first.copy_from_slice(&ring[at..at + first.len()]);
        wrapped.copy_from_slice(&ring[..wrapped.len()]);
    }
}
