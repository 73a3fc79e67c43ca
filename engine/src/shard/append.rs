//! Appending: a frame into memory, its entries into the index, a note for the flusher. No lock, no await,
//! and for a record no allocation beyond a chunk now and then.

use super::{Shard, State};
use crate::entry::Entry;
use crate::env::Env;
use crate::error::AppendError;
use crate::frame::{self, Kind, MARK_BYTES, PREAMBLE_BYTES, SEAL_BYTES};
use crate::limits::{RECORDS_PER_FRAME_MAX, TOPIC_BYTES_MAX};
use crate::log::{Log, Pending};
use crate::offset::{LogPosition, PhysicalOffset, QueueName, QueueNumber, QueueOffset};
use crate::queue::Queue;

/// Longer than it takes to append what was reserved.
const ROOM_MS: i64 = 60_000;

/// A record to come: the engine makes room, the caller's closure fills it.
#[derive(Clone, Copy, Debug)]
pub struct RecordPlan {
    pub len: u32,
    pub filter_code: i64,
}

/// What only the engine can know about a record, to be written into it.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    pub queue_offset: QueueOffset,
    pub physical_offset: PhysicalOffset,
    pub store_timestamp_ms: i64,
}

/// Where records went. They are acknowledged once the shard's `acknowledged()` reaches `end`.
#[derive(Clone, Copy, Debug)]
pub struct Appended {
    pub first_queue_offset: QueueOffset,
    pub first_physical_offset: PhysicalOffset,
    pub end: LogPosition,
    pub store_timestamp_ms: i64,
}

impl<E: Env> Shard<E> {
    /// Appends records with consecutive offsets as one frame: after a crash all of them are there or none.
    /// `write` fills exactly the bytes it is given, in order; it must not call the shard.
    pub fn append(
        &self,
        queue: QueueNumber,
        records: &[RecordPlan],
        mut write: impl FnMut(usize, &mut [u8], &Stamp),
    ) -> Result<Appended, AppendError> {
        self.check_running()?;
        let mut queues = self.queues.borrow_mut();
        let target = queues.queue_mut(queue).ok_or(AppendError::NoSuchQueue)?;
        if records.is_empty() || records.len() > RECORDS_PER_FRAME_MAX {
            return Err(AppendError::TooLarge);
        }
        let bytes: u64 = records.iter().map(|record| u64::from(record.len)).sum();
        let payload = bytes as usize + (records.len() - 1) * MARK_BYTES;

        let log = &mut *self.log.borrow_mut();
        let now_ms = self.env.wall_ms().max(log.last_ms);
        let at = self.make_room(log, payload, now_ms)?;
        self.close_full_keys(at, log.last_ms);
        log.last_ms = now_ms;

        let base_ms = log.active().base_ms;
        let physical_base = at.segment as i64 * self.options.segment_size_bytes as i64;
        let first_position = at.offset + PREAMBLE_BYTES as u32;
        let first_offset = target.next;
        log.write_frame(payload, Kind::RECORDS, records.len() as u16, queue.0, |out| {
            let mut filled = 0;
            for (index, record) in records.iter().enumerate() {
                if index > 0 {
                    let mark = (PREAMBLE_BYTES + filled + MARK_BYTES) as u32;
                    out[filled..filled + MARK_BYTES].copy_from_slice(&mark.to_le_bytes());
                    filled += MARK_BYTES;
                }
                let position = first_position + filled as u32;
                let stamp = Stamp {
                    queue_offset: QueueOffset(target.next),
                    physical_offset: PhysicalOffset(physical_base + i64::from(position)),
                    store_timestamp_ms: now_ms,
                };
                let len = record.len as usize;
                write(index, &mut out[filled..filled + len], &stamp);
                filled += len;
                let time = (now_ms - base_ms).max(0) as u32;
                target.push(at.segment, base_ms, Entry::new(position, record.len, record.filter_code, time));
            }
        });
        let end = log.position();
        log.pending.push_back(Pending {
            end,
            queue,
            count: records.len() as u16,
            first: first_offset,
            filter_code: records[0].filter_code,
        });
        self.counters.records.set(self.counters.records.get() + records.len() as u64);
        self.note_appended(log, at, end);
        Ok(Appended {
            first_queue_offset: QueueOffset(first_offset),
            first_physical_offset: PhysicalOffset(physical_base + i64::from(first_position)),
            end,
            store_timestamp_ms: now_ms,
        })
    }

    /// Makes room for frames of one record each, so that appending exactly these right after cannot fail, and that
    /// they follow each other within one segment: after a crash a prefix of them is there.
    pub fn reserve(&self, records: &[u32]) -> Result<(), AppendError> {
        self.check_running()?;
        let bytes: usize = records.iter().map(|&len| frame::frame_len(len as usize)).sum();
        let unwritten = self.counters.bytes_appended.get() - self.counters.bytes_written.get();
        if unwritten + bytes as u64 > self.options.unflushed_bytes_max {
            return Err(AppendError::Busy);
        }
        let log = &mut *self.log.borrow_mut();
        let now_ms = self.env.wall_ms().max(log.last_ms);
        // The next append sees this time or a later one; a segment that ends its range of time by then would roll.
        self.make_room(log, bytes, now_ms + ROOM_MS).map(|_| ())
    }

    /// Whether the record of this length at `at` ends the log, in a frame of its own.
    pub fn is_newest(&self, at: PhysicalOffset, len: u32) -> bool {
        let size = self.options.segment_size_bytes;
        let Ok(at) = u64::try_from(at.0) else { return false };
        let frame = (at % size).saturating_sub(PREAMBLE_BYTES as u64);
        let end = frame + frame::frame_len(len as usize) as u64;
        self.appended() == LogPosition { segment: at / size, offset: end as u32 }
    }

    /// Which shard's log holds this place; `None` for logs of an earlier number of shards, or of nobody.
    pub fn shard_of(&self, at: PhysicalOffset) -> Option<usize> {
        let segment = u64::try_from(at.0).ok()? / self.options.segment_size_bytes;
        if self.log.borrow().active().number == segment {
            return Some(self.index);
        }
        self.shared.writer_of(segment)
    }

    /// The number of a queue, new if need be. The declaration is in the log before the queue's first record,
    /// and acknowledged no later than that.
    pub fn declare_queue(&self, topic: &str, queue: u32) -> Result<QueueNumber, AppendError> {
        if let Some(number) = self.find_queue(topic, queue) {
            return Ok(number);
        }
        self.check_running()?;
        if topic.len() > TOPIC_BYTES_MAX {
            return Err(AppendError::TooLarge);
        }
        let number = QueueNumber(self.next_queue.get());
        let fill = |out: &mut [u8]| frame::encode_queue(queue, topic, out);
        let at = self.append_plain(Kind::QUEUE, number, 4 + topic.len(), fill)?;
        // Every shard gives out its own residue, so numbers are unique in the whole store.
        self.next_queue.set(number.0 + self.options.shards as u32);
        let name = QueueName { topic: topic.to_owned(), queue };
        self.queues.borrow_mut().insert(Queue { declared: at, ..Queue::new(number, name, 0) });
        Ok(number)
    }

    /// Forgets a queue and its messages. A later queue of this name starts at 0.
    pub fn delete_queue(&self, queue: QueueNumber) -> Result<(), AppendError> {
        self.check_running()?;
        if self.queues.borrow().queue(queue).is_none() {
            return Err(AppendError::NoSuchQueue);
        }
        let at = self.append_plain(Kind::QUEUE_DELETED, queue, 0, |_| {})?;
        let removed = self.queues.borrow_mut().remove(queue);
        self.buried.borrow_mut().extend(removed.map(|queue| (at, queue)));
        Ok(())
    }

    /// A frame that holds no records.
    fn append_plain(
        &self,
        kind: Kind,
        queue: QueueNumber,
        payload: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<LogPosition, AppendError> {
        let log = &mut *self.log.borrow_mut();
        let now_ms = self.env.wall_ms().max(log.last_ms);
        let at = self.make_room(log, payload, now_ms)?;
        log.write_frame(payload, kind, 0, queue.0, fill);
        self.note_appended(log, at, log.position());
        Ok(at)
    }

    fn check_running(&self) -> Result<(), AppendError> {
        match self.state.get() {
            State::Running => Ok(()),
            State::Stopping => Err(AppendError::ShuttingDown),
            State::Poisoned => Err(AppendError::Poisoned),
        }
    }

    fn make_room(&self, log: &mut Log<E>, payload: usize, now_ms: i64) -> Result<LogPosition, AppendError> {
        let unwritten = self.counters.bytes_appended.get() - self.counters.bytes_written.get();
        if unwritten > self.options.unflushed_bytes_max {
            return Err(AppendError::Busy);
        }
        let before = log.active().number;
        let at = log.make_room(payload, now_ms);
        if log.active().number != before {
            // The flusher has the SEAL frame to write now, whether or not another frame follows.
            self.note_appended_bytes(u64::from(SEAL_BYTES));
            self.marks.advance_appended(log.position());
            self.prepare.notify();
            self.roll_keys(log.active().number, log.last_ms);
        }
        at
    }

    fn note_appended_bytes(&self, bytes: u64) {
        let appended = &self.counters.bytes_appended;
        appended.set(appended.get() + bytes);
    }

    fn note_appended(&self, log: &Log<E>, at: LogPosition, end: LogPosition) {
        self.note_appended_bytes(u64::from(end.offset - at.offset));
        self.marks.advance_appended(end);
        if log.end > self.prepare_at.get() {
            self.prepare.notify();
        }
        self.keep.notify();
        self.work.notify();
    }
}
