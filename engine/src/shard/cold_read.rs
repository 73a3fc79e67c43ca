//! Reading what may be on disk. Runs in its own class, with lower shares than what producers wait for.

use std::cell::RefCell;
use std::rc::Rc;

use super::Shard;
use super::disk::CheckedFrame;
use super::read::{Read, outside};
use crate::entry::Entry;
use crate::env::{Class, Env};
use crate::error::Error;
use crate::limits::FIRST_FRAME;
use crate::notify::Changes;
use crate::offset::{LogPosition, PhysicalOffset, QueueNumber, QueueOffset};
use crate::options::{Boundary, ReadLimits};
use crate::queue::{Place, Span};
use crate::segment;
use crate::store::{Frame, records};

/// Where to find an entry, looked up without holding on to the queue.
enum Found {
    Memory { segment: u64, base_ms: i64, entry: Entry },
    File(Span),
    Not(Read),
}

impl<E: Env> Shard<E> {
    /// Like `read_cached`, from memory and disk. A consumer that is gone by then wastes only the work.
    pub async fn read(
        self: Rc<Self>,
        queue: QueueNumber,
        from: QueueOffset,
        limits: ReadLimits,
        filter: impl FnMut(i64) -> bool + 'static,
    ) -> Result<(Read, Vec<u8>), Error> {
        self.scan(queue, from, limits, filter, |_| true).await
    }

    /// The same for a reader that chooses by what is in a record.
    pub async fn read_where(
        self: Rc<Self>,
        queue: QueueNumber,
        from: QueueOffset,
        limits: ReadLimits,
        accepts: impl FnMut(&[u8]) -> bool + 'static,
    ) -> Result<(Read, Vec<u8>), Error> {
        self.scan(queue, from, limits, |_| true, accepts).await
    }

    async fn scan(
        self: Rc<Self>,
        queue: QueueNumber,
        from: QueueOffset,
        limits: ReadLimits,
        mut filter: impl FnMut(i64) -> bool + 'static,
        mut accepts: impl FnMut(&[u8]) -> bool + 'static,
    ) -> Result<(Read, Vec<u8>), Error> {
        self.counters.cold_reads.set(self.counters.cold_reads.get() + 1);
        let shard = Rc::clone(&self);
        self.in_reads(async move {
            let mut out = Vec::new();
            let read =
                shard.read_anywhere(queue, from.0, &limits, &mut filter, &mut accepts, &mut out).await?;
            Ok((read, out))
        })
        .await
    }

    /// The record that starts at a physical offset, of any shard's log. `None` if there is none.
    pub async fn record_at(self: Rc<Self>, at: PhysicalOffset) -> Result<Option<Vec<u8>>, Error> {
        let shard = Rc::clone(&self);
        self.in_reads(async move {
            let size = shard.options.segment_size_bytes;
            let Ok(at) = u64::try_from(at.0) else { return Ok(None) };
            shard.find_record(LogPosition { segment: at / size, offset: (at % size) as u32 }).await
        })
        .await
    }

    /// The offset of a message by store time; clamped to what the queue has.
    pub async fn search_offset(
        self: Rc<Self>,
        queue: QueueNumber,
        timestamp_ms: i64,
        boundary: Boundary,
    ) -> Result<QueueOffset, Error> {
        let shard = Rc::clone(&self);
        self.in_reads(async move { shard.search(queue, timestamp_ms, boundary).await.map(QueueOffset) }).await
    }

    /// When the message at an offset was stored; `None` if it is not there.
    pub async fn store_timestamp(
        self: Rc<Self>,
        queue: QueueNumber,
        offset: QueueOffset,
    ) -> Result<Option<i64>, Error> {
        let shard = Rc::clone(&self);
        self.in_reads(async move {
            let visible = shard.max_offset(queue);
            if offset >= visible || offset < shard.min_offset(queue) {
                return Ok(None);
            }
            shard.time_at(queue, offset.0).await
        })
        .await
    }

    /// Runs a read in the class of reads and waits for what it returns.
    pub(super) async fn in_reads<T: 'static>(&self, work: impl Future<Output = T> + 'static) -> T {
        struct Answer<T> {
            value: RefCell<Option<T>>,
            arrived: Changes,
        }
        let answer = Rc::new(Answer { value: RefCell::new(None), arrived: Changes::default() });
        let sender = Rc::clone(&answer);
        self.env.spawn(Class::Reads, async move {
            let value = work.await;
            sender.value.replace(Some(value));
            sender.arrived.announce();
        });
        answer.arrived.wait_for(|| answer.value.borrow().is_some()).await;
        answer.value.take().expect("it arrived")
    }

    async fn read_anywhere(
        self: &Rc<Self>,
        queue: QueueNumber,
        from: i64,
        limits: &ReadLimits,
        filter: &mut dyn FnMut(i64) -> bool,
        accepts: &mut dyn FnMut(&[u8]) -> bool,
        out: &mut Vec<u8>,
    ) -> Result<Read, Error> {
        let (mut messages_max, mut bytes_max) = (limits.messages_max, limits.bytes_max);
        let scan_end = from.saturating_add(i64::from(limits.scan_max.max(1)));
        let mut frame = CheckedFrame::default();
        let mut at = from;
        let mut messages = 0;
        while at < scan_end && messages < messages_max {
            let found = self.find_entry(queue, at);
            let entry = match found {
                // What was found so far is the answer; the next read begins where this one stops.
                Found::Not(read) if at == from => return Ok(read),
                Found::Not(_) => break,
                Found::Memory { segment, entry, .. } => Ok((segment, entry)),
                Found::File(span) => {
                    let slot = span.entries_at + (at - span.first) as u32;
                    self.entry_at(span.segment, slot).await.map(|entry| (span.segment, entry))
                }
            };
            let (segment, entry) = match entry {
                Ok(entry) => entry,
                Err(error) => return self.gone_or(error, queue, found.segment(), from, at, messages),
            };
            if filter(entry.filter_code()) {
                let start = out.len();
                let bytes = start as u64 + u64::from(entry.len);
                let over = |bytes_max: u32| bytes > u64::from(bytes_max);
                if messages > 0 && over(bytes_max) {
                    break;
                }
                if !self.copy_cached(segment, &entry, out) {
                    // From here on the smaller bounds hold: this one goes to disk.
                    messages_max = messages_max.min(limits.cold_messages_max);
                    bytes_max = bytes_max.min(limits.cold_bytes_max);
                    if messages > 0 && (messages >= messages_max || over(bytes_max)) {
                        break;
                    }
                    let place = LogPosition { segment, offset: entry.position };
                    if !self.copy_from_unit(place, entry.len, &mut frame, out) {
                        match self.checked_record(place, &mut frame).await {
                            Ok(Some(bytes)) if bytes.len() >= entry.len as usize => {
                                out.extend_from_slice(&bytes[..entry.len as usize]);
                            }
                            Ok(_) => return Err(self.damaged(place)),
                            Err(error) => return self.gone_or(error, queue, segment, from, at, messages),
                        }
                    }
                }
                if accepts(&out[start..]) {
                    messages += 1;
                } else {
                    out.truncate(start);
                }
            }
            at += 1;
        }
        let next = QueueOffset(at);
        Ok(if messages > 0 { Read::Found { messages, next } } else { Read::NoneMatched { next } })
    }

    fn find_entry(&self, queue: QueueNumber, at: i64) -> Found {
        let queues = self.queues.borrow();
        let Some(queue) = queues.queue(queue) else { return Found::Not(Read::NoSuchQueue) };
        if let Some(read) = outside(at, queue.min(), queue.visible) {
            return Found::Not(read);
        }
        match queue.find(at) {
            Place::Memory { run, index } => Found::Memory {
                segment: run.segment,
                base_ms: run.base_ms,
                entry: *run.entries.at(index).expect("found in this run"),
            },
            Place::File(span) => Found::File(span),
            Place::Removed { next } => Found::Not(Read::Removed { next: QueueOffset(next) }),
        }
    }

    fn copy_cached(&self, segment: u64, entry: &Entry, out: &mut Vec<u8>) -> bool {
        let log = self.log.borrow();
        let Some(bytes) = log.tail.slice(segment, entry.position, entry.len) else { return false };
        out.extend_from_slice(bytes);
        true
    }

    /// Retention, of this shard or another, may take a segment while it is being read.
    fn gone_or(
        &self,
        error: Error,
        queue: QueueNumber,
        segment: u64,
        from: i64,
        at: i64,
        messages: u32,
    ) -> Result<Read, Error> {
        if !error.is_not_found() {
            return Err(error);
        }
        let mut queues = self.queues.borrow_mut();
        let Some(queue) = queues.queue_mut(queue) else { return Ok(Read::NoSuchQueue) };
        queue.drop_span(segment);
        let next = QueueOffset(at);
        Ok(match messages {
            0 if at == from => Read::Removed { next: QueueOffset(queue.min().max(at)) },
            0 => Read::NoneMatched { next },
            _ => Read::Found { messages, next },
        })
    }

    fn damaged(&self, at: LogPosition) -> Error {
        let path = segment::log_path(&self.options.dir, at.segment);
        let remedy = "consumers can skip this message by setting their offset behind it";
        Error::corrupt(&path, u64::from(at.offset), "a record is damaged on disk", remedy)
    }

    pub(super) async fn find_record(self: &Rc<Self>, at: LogPosition) -> Result<Option<Vec<u8>>, Error> {
        let is_own = self.log.borrow().files.iter().any(|file| file.number == at.segment);
        let is_sealed = self.sealed.borrow().iter().any(|sealed| sealed.number == at.segment);
        if at.offset < FIRST_FRAME || (is_own && at >= self.acknowledged()) {
            return Ok(None);
        }
        let mut frame = CheckedFrame::new(!is_own && !is_sealed);
        // What is acknowledged from memory may not be on disk yet.
        let checked = self.check_frame_in_memory(at, &mut frame)
            || match self.checked_record(at, &mut frame).await {
                Err(error) if error.is_not_found() => return Ok(None),
                other => other?.is_some(),
            };
        let Some((position, preamble, payload)) = frame.parts().filter(|_| checked) else { return Ok(None) };
        let frame = Frame { position, preamble, payload };
        let meta =
            records(&*self.schema, &frame).map_while(|record| record).find(|(start, _)| *start == at.offset);
        Ok(meta.map(|(start, meta)| {
            let from = (start - frame.position) as usize - crate::frame::PREAMBLE_BYTES;
            frame.payload[from..from + meta.len as usize].to_vec()
        }))
    }

    /// Store times never go down along a queue, so a binary search finds the place.
    async fn search(&self, queue: QueueNumber, timestamp_ms: i64, boundary: Boundary) -> Result<i64, Error> {
        let (min, max) = (self.min_offset(queue).0, self.max_offset(queue).0);
        // The first offset that is past the wanted time: at or after it, or strictly after it.
        let is_past = |ms: i64| match boundary {
            Boundary::Lower => ms >= timestamp_ms,
            Boundary::Upper => ms > timestamp_ms,
        };
        let (mut low, mut high) = (min, max);
        while low < high {
            let middle = low + (high - low) / 2;
            // A hole that retention left counts as older than everything.
            match self.time_at(queue, middle).await? {
                Some(ms) if is_past(ms) => high = middle,
                _ => low = middle + 1,
            }
        }
        Ok(match boundary {
            Boundary::Lower => low,
            Boundary::Upper => (low - 1).max(min),
        })
    }

    async fn time_at(&self, queue: QueueNumber, offset: i64) -> Result<Option<i64>, Error> {
        match self.find_entry(queue, offset) {
            Found::Memory { base_ms, entry, .. } => Ok(Some(base_ms + i64::from(entry.time))),
            Found::File(span) if offset == span.first => Ok(Some(span.first_ms)),
            Found::File(span) => {
                match self.entry_at(span.segment, span.entries_at + (offset - span.first) as u32).await {
                    Ok(entry) => Ok(Some(span.base_ms + i64::from(entry.time))),
                    Err(error) if error.is_not_found() => Ok(None),
                    Err(error) => Err(error),
                }
            }
            Found::Not(_) => Ok(None),
        }
    }
}

impl Found {
    fn segment(&self) -> u64 {
        match self {
            Self::Memory { segment, .. } => *segment,
            Self::File(span) => span.segment,
            Self::Not(_) => u64::MAX,
        }
    }
}
