//! The key index of a shard: which records have a key, by hash.
//!
//! What is appended goes into one open buffer. A buffer that is full, or whose segment was sealed, waits until it is
//! durable in the log and written to a key file (`key_keeper`). What no buffer and no file covers is a gap, and is
//! read from the log again: after a crash, after damage, and when files cannot be written as fast as keys come.
//! So the index holds nothing up and nothing depends on it. Queries are in `key_query`.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;

use super::{Appended, Shard};
use crate::env::Env;
use crate::key_buffer::{KeyBuffer, TO_SEGMENT_END};
use crate::key_file::KeyHeader;
use crate::limits::{FIRST_FRAME, KEY_WAITING_PARTS};
use crate::notify::{Changes, Notify};
use crate::offset::{LogPosition, PhysicalOffset};
use crate::segment;

/// A stretch of a segment whose keys are unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Gap {
    pub segment: u64,
    pub from: u32,
    pub to: u32,
}

pub(super) struct KeyIndex {
    /// Entries of one key file, about.
    pub part_entries: usize,
    /// What this start found: sealed segments, and where the log went on.
    pub found_sealed: Vec<u64>,
    pub found_end: LogPosition,
    /// What is being appended.
    pub open: RefCell<KeyBuffer>,
    /// Closed buffers without a file, by segment and position.
    pub waiting: RefCell<Vec<Rc<KeyBuffer>>>,
    /// Headers of the key files.
    pub parts: RefCell<Vec<Rc<KeyHeader>>>,
    /// Ordered; the newest is mended first.
    pub gaps: RefCell<Vec<Gap>>,
    /// The key files of earlier starts are known.
    pub is_loaded: Cell<bool>,
    pub loaded: Changes,
    pub work: Notify,
}

impl KeyIndex {
    /// `None` without memory for it: the store keeps no keys.
    pub fn new(memory_bytes: usize, found_sealed: Vec<u64>, found_end: LogPosition) -> Option<Self> {
        let part_entries = memory_bytes / size_of::<u64>() / (KEY_WAITING_PARTS + 1);
        let LogPosition { segment, offset } = found_end;
        (part_entries > 0).then(|| Self {
            part_entries,
            found_sealed,
            found_end,
            open: RefCell::new(KeyBuffer::new(segment, offset, part_entries, 0)),
            waiting: RefCell::default(),
            parts: RefCell::default(),
            gaps: RefCell::default(),
            is_loaded: Cell::new(false),
            loaded: Changes::default(),
            work: Notify::default(),
        })
    }

    /// Whether the next frame's keys go into a new buffer.
    pub fn is_full(&self) -> bool {
        self.open.borrow().full_len() >= self.part_entries
    }

    /// Ends the open buffer at `to`; the next begins at `next`.
    #[cold]
    pub fn close(&self, to: u32, next: LogPosition, last_ms: i64) {
        let fresh = KeyBuffer::new(next.segment, next.offset, self.part_entries, last_ms);
        let mut closed = self.open.replace(fresh);
        closed.close(to, last_ms);
        if closed.stretch.from == to {
            return;
        }
        let held: usize = self.waiting.borrow().iter().map(|buffer| buffer.len()).sum();
        if held + closed.len() > self.part_entries * (KEY_WAITING_PARTS + 1) {
            // The disk does not keep up. The log has it all, and is read again when there is time.
            let stretch = closed.stretch;
            self.add_gap(Gap { segment: stretch.segment, from: stretch.from, to });
        } else {
            self.add_waiting(closed);
        }
        self.work.notify();
    }

    pub fn add_waiting(&self, buffer: KeyBuffer) {
        let place = |buffer: &KeyBuffer| (buffer.stretch.segment, buffer.stretch.from);
        let mut waiting = self.waiting.borrow_mut();
        let at = waiting.partition_point(|other| place(other) < place(&buffer));
        waiting.insert(at, Rc::new(buffer));
    }

    pub fn add_gap(&self, gap: Gap) {
        let mut gaps = self.gaps.borrow_mut();
        let at = gaps.partition_point(|other| *other < gap);
        match at.checked_sub(1).and_then(|before| gaps.get_mut(before)) {
            Some(before) if before.segment == gap.segment && before.to == gap.from => before.to = gap.to,
            _ => gaps.insert(at, gap),
        }
    }

    /// The part of a gap before `to` is mended.
    pub fn shrink_gap(&self, gap: Gap, to: u32) {
        self.gaps.borrow_mut().retain_mut(|other| {
            if (other.segment, other.from) == (gap.segment, gap.from) {
                other.from = to;
            }
            other.from < other.to
        });
    }
}

impl<E: Env> Shard<E> {
    /// Says that a record that has just been appended has a key. To be called before anything else is appended.
    #[inline]
    pub fn note_key(&self, appended: &Appended, record: PhysicalOffset, hash: u32) {
        if let Some(keys) = &self.keys {
            let base = appended.end.segment as i64 * self.options.segment_size_bytes as i64;
            let position = (record.0 - base) as u32;
            keys.open.borrow_mut().push(hash, position, appended.store_timestamp_ms);
        }
    }

    /// Before a frame is written at `at`.
    pub(super) fn close_full_keys(&self, at: LogPosition, last_ms: i64) {
        if let Some(keys) = &self.keys
            && keys.is_full()
        {
            keys.close(at.offset, at, last_ms);
        }
    }

    /// The log goes on in another segment.
    pub(super) fn roll_keys(&self, segment: u64, last_ms: i64) {
        if let Some(keys) = &self.keys {
            keys.close(TO_SEGMENT_END, LogPosition { segment, offset: FIRST_FRAME }, last_ms);
        }
    }

    /// Whether a segment is there, or was a moment ago.
    pub(super) fn has_segment(&self, segment: u64) -> bool {
        self.sealed.borrow().iter().any(|sealed| sealed.number == segment)
            || self.sealing.borrow().iter().any(|file| file.number == segment)
            || self.log.borrow().files.iter().any(|file| file.number == segment)
    }

    /// A segment is being deleted: returns the paths of its key files.
    pub(super) fn forget_keys(&self, segment: u64) -> Vec<PathBuf> {
        let Some(keys) = &self.keys else { return Vec::new() };
        keys.gaps.borrow_mut().retain(|gap| gap.segment != segment);
        keys.waiting.borrow_mut().retain(|buffer| buffer.stretch.segment != segment);
        let mut paths = Vec::new();
        keys.parts.borrow_mut().retain(|part| {
            let is_of_it = part.stretch.segment == segment;
            if is_of_it {
                paths.push(segment::key_path(&self.options.dir, segment, part.stretch.from));
            }
            !is_of_it
        });
        paths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> KeyIndex {
        KeyIndex::new(4096, Vec::new(), LogPosition { segment: 1, offset: 4096 }).unwrap()
    }

    #[test]
    fn neighbouring_gaps_become_one_and_shrink_from_the_front() {
        let keys = index();
        let gap = |segment, from, to| Gap { segment, from, to };
        for each in [gap(2, 10, 20), gap(1, 5, 9), gap(2, 20, 30), gap(2, 40, TO_SEGMENT_END)] {
            keys.add_gap(each);
        }
        assert_eq!(*keys.gaps.borrow(), [gap(1, 5, 9), gap(2, 10, 30), gap(2, 40, TO_SEGMENT_END)]);
        keys.shrink_gap(gap(2, 10, 20), 20);
        keys.shrink_gap(gap(1, 5, 9), 9);
        assert_eq!(*keys.gaps.borrow(), [gap(2, 20, 30), gap(2, 40, TO_SEGMENT_END)]);
    }

    /// Memory has a bound: what does not fit is a gap, and read from the log when there is time.
    #[test]
    fn what_memory_cannot_hold_becomes_a_gap() {
        let keys = index();
        let mut at = 4096;
        for _ in 0..2000u32 {
            at += 100;
            if keys.is_full() {
                keys.close(at, LogPosition { segment: 1, offset: at }, 7);
            }
            keys.open.borrow_mut().push(at, at, 7);
        }
        let held: usize = keys.waiting.borrow().iter().map(|buffer| buffer.len()).sum();
        assert!(held > 0 && held <= 4096 / 8, "{held}");
        let covered = keys.waiting.borrow().last().unwrap().stretch.to;
        let open = keys.open.borrow().stretch.from;
        assert_eq!(*keys.gaps.borrow(), [Gap { segment: 1, from: covered, to: open }]);
    }

    #[test]
    fn without_memory_there_is_no_index() {
        assert!(KeyIndex::new(0, Vec::new(), LogPosition::default()).is_none());
    }
}
