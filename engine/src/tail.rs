//! The newest bytes of the log, in memory: what waits for the disk, and what consumers read next.
//!
//! Invariant: chunks follow each other in log order without gaps; a frame is never in two chunks and a chunk
//! never in two segments. Bytes that the flusher still needs are never dropped, whatever the budget says.

use std::collections::VecDeque;

use crate::limits::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, FREE_CHUNKS_MAX};
use crate::offset::LogPosition;

pub(crate) struct Tail {
    chunks: VecDeque<Chunk>,
    free: Vec<Vec<u8>>,
    chunk_bytes: usize,
    budget: usize,
    held: usize,
}

struct Chunk {
    segment: u64,
    base: u32,
    len: u32,
    bytes: Vec<u8>,
}

impl Chunk {
    fn end(&self) -> LogPosition {
        LogPosition { segment: self.segment, offset: self.base + self.len }
    }
}

impl Tail {
    pub fn new(budget: usize) -> Self {
        let chunk_bytes = (budget / 8).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        Self { chunks: VecDeque::new(), free: Vec::new(), chunk_bytes, budget, held: 0 }
    }

    pub fn held_bytes(&self) -> usize {
        self.held
    }

    /// Where the oldest byte in memory is.
    pub fn start(&self) -> Option<LogPosition> {
        self.chunks.front().map(|chunk| LogPosition { segment: chunk.segment, offset: chunk.base })
    }

    /// Room for a frame at `at`, which must be where the last one ended or the start of a segment.
    /// The bytes are whatever was there before.
    pub fn extend(&mut self, at: LogPosition, len: usize) -> &mut [u8] {
        let fits = self
            .chunks
            .back()
            .is_some_and(|chunk| chunk.end() == at && chunk.bytes.len() - chunk.len as usize >= len);
        if !fits {
            self.open_chunk(at, len);
        }
        let chunk = self.chunks.back_mut().expect("there is a chunk with room");
        let from = chunk.len as usize;
        chunk.len += len as u32;
        &mut chunk.bytes[from..from + len]
    }

    #[cold]
    fn open_chunk(&mut self, at: LogPosition, len: usize) {
        let bytes = if len > self.chunk_bytes {
            vec![0; len]
        } else {
            self.free.pop().unwrap_or_else(|| vec![0; self.chunk_bytes])
        };
        self.held += bytes.len();
        self.chunks.push_back(Chunk { segment: at.segment, base: at.offset, len: 0, bytes });
    }

    /// The chunk that holds this position.
    fn find(&self, segment: u64, position: u32) -> Option<usize> {
        let last = self.chunks.len().checked_sub(1)?;
        let chunk = &self.chunks[last];
        let index = if chunk.segment == segment && chunk.base <= position {
            last
        } else {
            let after =
                self.chunks.partition_point(|chunk| (chunk.segment, chunk.base) <= (segment, position));
            after.checked_sub(1)?
        };
        let chunk = &self.chunks[index];
        (chunk.segment == segment && position - chunk.base < chunk.len).then_some(index)
    }

    /// Bytes of one frame or record.
    pub fn slice(&self, segment: u64, position: u32, len: u32) -> Option<&[u8]> {
        let chunk = &self.chunks[self.find(segment, position)?];
        let from = (position - chunk.base) as usize;
        chunk.bytes[..chunk.len as usize].get(from..from + len as usize)
    }

    /// The bytes from here to the end of a chunk. They must be in memory.
    pub fn piece(&self, segment: u64, from: u32) -> &[u8] {
        let chunk = &self.chunks[self.find(segment, from).expect("unwritten bytes are in memory")];
        &chunk.bytes[(from - chunk.base) as usize..chunk.len as usize]
    }

    /// Copies a range that may cross chunks. It must be in memory.
    pub fn copy(&self, segment: u64, from: u32, out: &mut [u8]) {
        let mut index = self.find(segment, from).expect("unwritten bytes are in memory");
        let mut done = 0;
        while done < out.len() {
            let chunk = &self.chunks[index];
            assert_eq!(chunk.segment, segment, "a copy stays in its segment");
            let start = (from as usize + done) - chunk.base as usize;
            let len = (chunk.len as usize - start).min(out.len() - done);
            out[done..done + len].copy_from_slice(&chunk.bytes[start..start + len]);
            done += len;
            index += 1;
        }
    }

    /// Drops the oldest chunks until the budget is met, as far as they end at or before `floor`.
    pub fn trim(&mut self, floor: LogPosition) {
        while self.held > self.budget && self.chunks.len() > 1 && self.chunks[0].end() <= floor {
            let chunk = self.chunks.pop_front().expect("there are two");
            self.held -= chunk.bytes.len();
            if chunk.bytes.len() == self.chunk_bytes && self.free.len() < FREE_CHUNKS_MAX {
                self.free.push(chunk.bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(segment: u64, offset: u32) -> LogPosition {
        LogPosition { segment, offset }
    }

    #[test]
    fn bytes_come_back_across_chunks_until_they_are_dropped() {
        let mut tail = Tail::new(4 * CHUNK_BYTES_MIN);
        let frame = 6000;
        let mut position = 4096;
        for n in 0..20u8 {
            tail.extend(at(1, position), frame).fill(n);
            position += frame as u32;
        }
        tail.extend(at(2, 4096), frame).fill(99);
        for n in 0..20u32 {
            let found = tail.slice(1, 4096 + n * frame as u32 + 10, 100).unwrap();
            assert!(found.iter().all(|&byte| u32::from(byte) == n));
        }
        let mut out = vec![0; 20 * frame];
        tail.copy(1, 4096, &mut out);
        assert!(out.iter().enumerate().all(|(i, &byte)| byte as usize == i / frame));

        tail.trim(at(1, 4096));
        assert!(tail.slice(1, 4096, 16).is_some(), "nothing above the floor is dropped");
        tail.trim(at(2, 4096));
        assert!(tail.held_bytes() <= 4 * CHUNK_BYTES_MIN);
        assert!(tail.slice(1, 4096, 16).is_none());
        assert!(tail.slice(2, 4096, 16).is_some());
        assert!(tail.slice(2, 4096 + frame as u32, 1).is_none());
    }

    #[test]
    fn a_frame_larger_than_a_chunk_gets_its_own() {
        let mut tail = Tail::new(0);
        tail.extend(at(1, 4096), 100).fill(1);
        tail.extend(at(1, 4196), 10 * CHUNK_BYTES_MIN).fill(2);
        assert_eq!(tail.slice(1, 4196, 10 * CHUNK_BYTES_MIN as u32).unwrap()[5], 2);
    }
}
