//! Acknowledging from memory: what was appended is copied into the shard's ring, once per pass of the executor,
//! and acknowledged without a look at the write in flight.
//!
//! If the ring has no room, the rest waits for the disk as it does without a ring; each completed write gives room
//! back, and what is not written then goes on being acknowledged from memory. So acknowledgements come in log
//! order, whichever of the two was faster.

use std::rc::Rc;

use super::{Shard, State};
use crate::env::Env;
use crate::error::Error;
use crate::frame::{PREAMBLE_BYTES, Preamble};
use crate::limits::{MEMORY_COPY_BYTES_MAX, MEMORY_LINGER_BYTES, MEMORY_LINGER_US};
use crate::memory_record::{self, MemoryRecord};
use crate::offset::LogPosition;
use crate::options::MemoryTail;
use crate::ring::{self, Ring, RingHeader};

/// What a pass made of the bytes that were appended.
#[derive(PartialEq, Eq)]
enum Kept {
    All,
    /// There is more than one pass may copy.
    Part,
    /// The ring has no room for the rest until a write completes.
    UntilFull,
}

/// A ring for the log that goes on at `start`, and its record. Durable when this returns, so that a start after a
/// power cut knows that something may be missing.
pub(super) async fn create_ring<E: Env>(
    env: &E,
    store: &std::path::Path,
    tail: &MemoryTail,
    header: RingHeader,
    start: LogPosition,
) -> Result<Ring<E::Memory>, Error> {
    let path = ring::path(&tail.dir, header.store_id, header.shard);
    let ring = Ring::create(env, &path, &header, start).await?;
    // The ring first: a record stands for a ring that is whole.
    memory_record::write(env, store, &MemoryRecord { ring: header, path }).await?;
    Ok(ring)
}

impl<E: Env> Shard<E> {
    pub(super) async fn acknowledge_from_memory(self: Rc<Self>) {
        loop {
            while self.marks.acknowledged() >= self.marks.appended() {
                if !self.is_running() {
                    return;
                }
                self.keep.notified().await;
            }
            // Every connection that is ready in this pass is answered together.
            self.env.yield_now().await;
            // After a failed write nothing is acknowledged, though the ring could keep it: it would never be written.
            if self.state.get() == State::Poisoned {
                return;
            }
            if self.keep_appended() == Kept::UntilFull {
                self.keep.notified().await;
            }
        }
    }

    /// Copies what was appended into the ring and acknowledges it.
    fn keep_appended(&self) -> Kept {
        let (kept, end) = {
            let mut ring = self.ring.borrow_mut();
            let Some(ring) = ring.as_mut() else { return Kept::All };
            let log = self.log.borrow();
            let mut budget = MEMORY_COPY_BYTES_MAX;
            let kept = loop {
                let at = ring.end();
                let place = log.files.iter().position(|file| file.number == at.segment);
                let place = place.expect("what is not written is in a segment of the log");
                let end = log.files[place].sealed_end.get().unwrap_or(log.end);
                if at.offset < end {
                    let bytes = log.tail.piece(at.segment, at.offset);
                    let len = bytes.len().min((end - at.offset) as usize).min(ring.room()).min(budget);
                    if len == 0 {
                        break if budget == 0 { Kept::Part } else { Kept::UntilFull };
                    }
                    ring.push(&bytes[..len]);
                    budget -= len;
                } else {
                    let Some(next) = log.files.get(place + 1) else { break Kept::All };
                    if !ring.enter(next.number) {
                        break Kept::UntilFull;
                    }
                }
            };
            (kept, ring.end())
        };
        self.marks.advance_kept(end);
        self.acknowledge(end);
        kept
    }

    /// Before a write that nobody waits for, since all it would bring is acknowledged: a submission per message would
    /// stand in the way of the next message. Short naps, because many bytes or a filling ring end it.
    pub(super) async fn linger(&self) {
        const NAP_US: u64 = MEMORY_LINGER_US / 4;
        for _ in 0..MEMORY_LINGER_US / NAP_US {
            let has_room = self.ring.borrow().as_ref().is_some_and(|ring| ring.held_bytes() <= ring.room());
            let waiting = self.counters.bytes_appended.get() - self.counters.bytes_written.get();
            if !has_room || waiting >= MEMORY_LINGER_BYTES || !self.is_running() {
                return;
            }
            self.env.sleep_us(NAP_US).await;
        }
    }

    /// After a write up to `written`: gives its room in the ring back, whole frames only, since a scan of the disk
    /// would not get past the start of one that is cut. Says from where on the tail cache is still needed.
    pub(super) fn release_memory(&self, written: LogPosition, is_frame_end: bool) -> Option<LogPosition> {
        let mut ring = self.ring.borrow_mut();
        let ring = ring.as_mut()?;
        let mut floor = written;
        if !is_frame_end {
            floor = ring.floor();
            let log = self.log.borrow();
            loop {
                let next = LogPosition { offset: floor.offset + log.frame_len_at(floor), ..floor };
                if next > written {
                    break;
                }
                floor = next;
            }
        }
        ring.release(floor);
        self.marks.advance_kept(ring.end());
        if self.marks.acknowledged() < self.marks.appended() {
            self.keep.notify();
        }
        Some(floor)
    }

    /// Everything is on disk: the next start has nothing to look for.
    pub(super) async fn remove_ring(&self) -> Result<(), Error> {
        let Some(ring) = self.ring.take() else { return Ok(()) };
        if let Err(error) = ring.remove() {
            tracing::warn!(shard = self.index, %error, "cannot remove the memory tail");
        }
        memory_record::remove(&self.env, &self.options.dir, self.index as u32).await
    }

    /// Bytes in the ring.
    pub(super) fn kept_bytes(&self) -> usize {
        self.ring.borrow().as_ref().map_or(0, Ring::held_bytes)
    }
}

impl<E: Env> crate::log::Log<E> {
    /// Of a frame that is in memory.
    fn frame_len_at(&self, at: LogPosition) -> u32 {
        let bytes = self.tail.slice(at.segment, at.offset, PREAMBLE_BYTES as u32);
        let preamble = bytes.and_then(|bytes| Preamble::parse(bytes.first_chunk()?));
        preamble.expect("frames that are not written are in memory").frame_len() as u32
    }
}
