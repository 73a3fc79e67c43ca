//! Keys of a stretch of one segment, in memory: hashes with the positions of their records, in log order.
//!
//! Filled once per message, so adding one costs a store; what sorting there is comes when the stretch is written to
//! a key file. Chunks that are full never change, so a query keeps them while the buffer goes on.

use std::rc::Rc;

use crate::limits::KEY_CHUNK_ENTRIES_MAX;

/// The stretch ends where its segment does.
pub(crate) const TO_SEGMENT_END: u32 = u32::MAX;

/// `hash << 32 | position`.
pub(crate) type KeyEntry = u64;

/// No record behind this position is older than `ms`, none before it newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub position: u32,
    pub ms: i64,
}

/// The stretch `from..to` of a segment, in which these store times lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub segment: u64,
    pub from: u32,
    pub to: u32,
    pub first_ms: i64,
    pub last_ms: i64,
}

pub(crate) struct KeyBuffer {
    pub stretch: Stretch,
    full: Vec<Rc<Vec<KeyEntry>>>,
    last: Vec<KeyEntry>,
    chunk_entries: usize,
    len: usize,
    /// One per chunk: where it begins.
    pub samples: Vec<Sample>,
}

pub(crate) fn entry(hash: u32, position: u32) -> KeyEntry {
    u64::from(hash) << 32 | u64::from(position)
}

pub(crate) fn hash_of(entry: KeyEntry) -> u32 {
    (entry >> 32) as u32
}

pub(crate) fn position_of(entry: KeyEntry) -> u32 {
    entry as u32
}

impl KeyBuffer {
    /// An empty one that begins at `from`; a file of it will hold about `part_entries`.
    pub fn new(segment: u64, from: u32, part_entries: usize, ms: i64) -> Self {
        let chunk_entries = (part_entries / 32).clamp(32, KEY_CHUNK_ENTRIES_MAX);
        let stretch = Stretch { segment, from, to: from, first_ms: ms, last_ms: ms };
        Self { stretch, full: Vec::new(), last: Vec::new(), chunk_entries, len: 0, samples: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.len + self.last.len()
    }

    /// As [`Self::len`], but only of full chunks: cheap to ask before each append.
    pub fn full_len(&self) -> usize {
        self.len
    }

    pub fn push(&mut self, hash: u32, position: u32, ms: i64) {
        if self.last.len() == self.last.capacity() {
            self.open_chunk(position, ms);
        }
        self.last.push(entry(hash, position));
    }

    #[cold]
    fn open_chunk(&mut self, position: u32, ms: i64) {
        let next = Vec::with_capacity(self.chunk_entries);
        let full = std::mem::replace(&mut self.last, next);
        if full.is_empty() {
            self.stretch.first_ms = ms;
        } else {
            self.len += full.len();
            self.full.push(Rc::new(full));
        }
        self.samples.push(Sample { position, ms });
    }

    /// Nothing more will be added: the stretch ends at `to`, and its newest record is not newer than `last_ms`.
    pub fn close(&mut self, to: u32, last_ms: i64) {
        let last = std::mem::take(&mut self.last);
        if !last.is_empty() {
            self.len += last.len();
            self.full.push(Rc::new(last));
        }
        self.stretch.to = to;
        self.stretch.last_ms = last_ms.max(self.stretch.first_ms);
    }

    /// Everything added so far, oldest first; the chunk that is being filled is copied.
    pub fn chunks(&self) -> Vec<Rc<Vec<KeyEntry>>> {
        let mut chunks = self.full.clone();
        if !self.last.is_empty() {
            chunks.push(Rc::new(self.last.clone()));
        }
        chunks
    }
}

/// Positions in which records of these store times can lie.
pub(crate) fn positions_between(samples: &[Sample], begin_ms: i64, end_ms: i64) -> (u32, u32) {
    let before = samples.partition_point(|sample| sample.ms < begin_ms);
    let after = samples.partition_point(|sample| sample.ms <= end_ms);
    let from = before.checked_sub(1).map_or(0, |at| samples[at].position);
    let to = samples.get(after).map_or(u32::MAX, |sample| sample.position);
    (from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_in_order() {
        let mut buffer = KeyBuffer::new(1, 4096, 1024, 0);
        for n in 0..1000u32 {
            buffer.push(n * 7, 4096 + n, i64::from(n));
        }
        assert_eq!(buffer.len(), 1000);
        assert_eq!(buffer.chunks().iter().map(|chunk| chunk.len()).sum::<usize>(), 1000);
        buffer.close(9000, 999);
        let all: Vec<_> = buffer.chunks().iter().flat_map(|chunk| chunk.iter().copied()).collect();
        assert!(
            all.iter()
                .enumerate()
                .all(|(n, &e)| (hash_of(e), position_of(e)) == (n as u32 * 7, 4096 + n as u32))
        );
        assert_eq!(buffer.samples.len(), 32);
        assert_eq!(buffer.stretch, Stretch { segment: 1, from: 4096, to: 9000, first_ms: 0, last_ms: 999 });
    }

    #[test]
    fn samples_bound_positions_by_time() {
        let sample = |position, ms| Sample { position, ms };
        let samples = [sample(10, 100), sample(20, 100), sample(30, 200), sample(40, 300)];
        assert_eq!(positions_between(&samples, 0, i64::MAX), (0, u32::MAX));
        assert_eq!(positions_between(&samples, 100, 200), (0, 40));
        assert_eq!(positions_between(&samples, 101, 199), (20, 30));
        assert_eq!(positions_between(&samples, 301, 400), (40, u32::MAX));
        assert_eq!(positions_between(&samples, 0, 99), (0, 10));
        assert_eq!(positions_between(&[], 0, 99), (0, u32::MAX));
    }
}
