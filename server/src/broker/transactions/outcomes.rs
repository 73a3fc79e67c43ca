//! What became of the transactions of one half queue: two bits each, by the offset of the first half message.
//!
//! Memory holds `base..`, in chunks that exist once one of their transactions has ended, so that ten million open
//! ones cost next to nothing. What is below `base` has ended, and how is forgotten.
//! Not here: making an outcome durable (`op`), or knowing how far down anything is open (`progress`).

use std::collections::VecDeque;

use crate::limits::{HALF_WINDOW_CHUNKS_MAX, OUTCOME_CHUNKS_REMEMBERED};

/// Transactions of one chunk.
pub const CHUNK: i64 = 32_768;
const PER_WORD: usize = 32;
const WORDS: usize = CHUNK as usize / PER_WORD;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Committed = 1,
    RolledBack = 2,
    /// Nobody answered the checks: it lies in TRANS_CHECK_MAX_TIME_TOPIC, and its producer may still end it.
    SetAside = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Open,
    Ended(Outcome),
    /// It ended so long ago that nobody knows how.
    Forgotten,
}

#[derive(Default)]
pub struct Outcomes {
    /// Of the first chunk, a multiple of `CHUNK`.
    base: i64,
    chunks: VecDeque<Option<Box<Chunk>>>,
}

struct Chunk {
    words: [u64; WORDS],
    /// Before this place in the op queue there is nothing about these transactions.
    first_op: i64,
}

impl Outcomes {
    pub fn base(&self) -> i64 {
        self.base
    }

    pub fn fate(&self, half: i64) -> Fate {
        if half < self.base {
            return Fate::Forgotten;
        }
        match self.bits(half) {
            1 => Fate::Ended(Outcome::Committed),
            2 => Fate::Ended(Outcome::RolledBack),
            3 => Fate::Ended(Outcome::SetAside),
            _ => Fate::Open,
        }
    }

    /// `None` opens the transaction again. `op` is where the op queue says so.
    pub fn record(&mut self, half: i64, outcome: Option<Outcome>, op: i64) {
        let Some(index) = self.chunk_index(half).filter(|&index| index < HALF_WINDOW_CHUNKS_MAX) else {
            return;
        };
        if self.chunks.len() <= index {
            self.chunks.resize_with(index + 1, || None);
        }
        let chunk =
            self.chunks[index].get_or_insert_with(|| Box::new(Chunk { words: [0; WORDS], first_op: op }));
        chunk.first_op = chunk.first_op.min(op);
        let (word, shift) = place(half);
        let bits = outcome.map_or(0, |outcome| outcome as u64);
        chunk.words[word] = chunk.words[word] & !(3 << shift) | bits << shift;
    }

    /// True when no further half message can be told apart: the oldest open one is too far behind.
    pub fn is_full(&self, next: i64) -> bool {
        next - self.base >= HALF_WINDOW_CHUNKS_MAX as i64 * CHUNK
    }

    /// The first offset from `from` on, before `end`, that has not ended; `end` if there is none.
    pub fn next_open(&self, from: i64, end: i64) -> i64 {
        let mut at = from.max(self.base.min(end));
        while at < end && self.bits(at) != 0 {
            at += 1;
        }
        at
    }

    /// How many offsets from `from` on have not ended, `most` at most.
    pub fn open_run(&self, from: i64, most: u32) -> u32 {
        (0..most).find(|step| self.bits(from + i64::from(*step)) != 0).unwrap_or(most)
    }

    /// Everything below has ended. True when something was forgotten for it.
    pub fn forget_below(&mut self, oldest_open: i64) -> bool {
        let before = self.base;
        while self.base + CHUNK <= oldest_open && self.chunks.len() > OUTCOME_CHUNKS_REMEMBERED {
            self.chunks.pop_front();
            self.base += CHUNK;
        }
        self.base != before
    }

    /// What an earlier life had forgotten. A multiple of `CHUNK`, or it is ignored.
    pub fn start_at(&mut self, base: i64) {
        while self.base < base && base % CHUNK == 0 {
            match self.chunks.is_empty() {
                true => self.base = base,
                false => {
                    self.chunks.pop_front();
                    self.base += CHUNK;
                }
            }
        }
    }

    /// Where a new life has to begin to read the op queue, if there is anything to read.
    pub fn first_op(&self) -> Option<i64> {
        self.chunks.iter().flatten().map(|chunk| chunk.first_op).min()
    }

    fn bits(&self, half: i64) -> u64 {
        let chunk = self.chunk_index(half).and_then(|index| self.chunks.get(index)?.as_ref());
        let (word, shift) = place(half);
        chunk.map_or(0, |chunk| chunk.words[word] >> shift & 3)
    }

    fn chunk_index(&self, half: i64) -> Option<usize> {
        usize::try_from(half.checked_sub(self.base)?).ok().map(|distance| distance / CHUNK as usize)
    }
}

fn place(half: i64) -> (usize, usize) {
    let within = half.rem_euclid(CHUNK) as usize;
    (within / PER_WORD, within % PER_WORD * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_transaction_has_its_own_outcome() {
        let mut outcomes = Outcomes::default();
        outcomes.record(0, Some(Outcome::Committed), 7);
        outcomes.record(31, Some(Outcome::RolledBack), 8);
        outcomes.record(32, Some(Outcome::SetAside), 9);
        outcomes.record(3 * CHUNK, Some(Outcome::Committed), 5);
        assert_eq!(outcomes.fate(0), Fate::Ended(Outcome::Committed));
        assert_eq!(outcomes.fate(1), Fate::Open);
        assert_eq!(outcomes.fate(31), Fate::Ended(Outcome::RolledBack));
        assert_eq!(outcomes.fate(32), Fate::Ended(Outcome::SetAside));
        assert_eq!(outcomes.fate(3 * CHUNK), Fate::Ended(Outcome::Committed));
        assert_eq!(outcomes.first_op(), Some(5));
        outcomes.record(32, None, 10);
        assert_eq!(outcomes.fate(32), Fate::Open);
        assert_eq!(outcomes.fate(-1), Fate::Forgotten);
    }

    #[test]
    fn open_ones_are_found_between_ended_ones() {
        let mut outcomes = Outcomes::default();
        for half in (0..100).filter(|half| *half != 40 && *half != 41) {
            outcomes.record(half, Some(Outcome::Committed), half);
        }
        assert_eq!(outcomes.next_open(0, 100), 40);
        assert_eq!(outcomes.open_run(40, 256), 2);
        assert_eq!(outcomes.next_open(42, 100), 100);
        assert_eq!(outcomes.open_run(100, 256), 256);
    }

    #[test]
    fn what_ended_long_ago_is_forgotten_and_takes_no_memory() {
        let mut outcomes = Outcomes::default();
        let chunks = OUTCOME_CHUNKS_REMEMBERED as i64 + 3;
        for chunk in 0..chunks {
            outcomes.record(chunk * CHUNK, Some(Outcome::Committed), chunk);
        }
        assert!(!outcomes.forget_below(CHUNK - 1), "the oldest chunk still has an open one");
        assert!(outcomes.forget_below(chunks * CHUNK));
        assert_eq!(outcomes.base(), 3 * CHUNK);
        assert_eq!(outcomes.fate(0), Fate::Forgotten);
        assert_eq!(outcomes.fate(3 * CHUNK), Fate::Ended(Outcome::Committed));
        assert_eq!(outcomes.first_op(), Some(3));
        assert!(!outcomes.is_full(3 * CHUNK + 1));
        assert!(outcomes.is_full(3 * CHUNK + HALF_WINDOW_CHUNKS_MAX as i64 * CHUNK));

        let mut again = Outcomes::default();
        again.record(2 * CHUNK, Some(Outcome::Committed), 2);
        again.start_at(3 * CHUNK);
        again.start_at(2 * CHUNK);
        assert_eq!((again.base(), again.first_op()), (3 * CHUNK, None));
    }

    #[test]
    fn an_absurd_offset_takes_no_memory() {
        let mut outcomes = Outcomes::default();
        outcomes.record(i64::MAX, Some(Outcome::Committed), 0);
        outcomes.record(-1, Some(Outcome::Committed), 0);
        assert!(outcomes.chunks.is_empty());
        assert_eq!(outcomes.fate(i64::MAX), Fate::Open);
    }
}
