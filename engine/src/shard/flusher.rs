//! Group commit without a timer: one write in flight, and what arrives meanwhile is the next group.
//!
//! The last block of a group is mostly part-filled; the next group writes it again with more in it. The bytes
//! that both have are the same, so a torn rewrite cannot harm what was acknowledged.

use std::rc::Rc;

use super::{Progress, Shard, State};
use crate::env::{Env, File};
use crate::error::Error;
use crate::limits::BLOCK_BYTES;
use crate::offset::{LogPosition, QueueOffset};
use crate::options::FlushMode;
use crate::segment_file::SegmentFile;

const BLOCK: u32 = BLOCK_BYTES as u32;

impl<E: Env> Shard<E> {
    /// The flusher: the only task that writes frames.
    pub(super) async fn flush_groups(self: Rc<Self>) {
        loop {
            while self.marks.written() == self.marks.appended() {
                if !self.is_running() {
                    return;
                }
                self.work.notified().await;
            }
            // Every connection that is ready in this pass still joins the group, unless it is full already.
            if self.waiting_bytes() < self.options.write_bytes_max as u64 {
                self.env.yield_now().await;
            }
            self.linger().await;
            if self.state.get() == State::Poisoned {
                return;
            }
            if let Err(error) = self.flush_group().await {
                self.poison(&error);
                return;
            }
        }
    }

    /// Appended and not yet written.
    fn waiting_bytes(&self) -> u64 {
        self.counters.bytes_appended.get() - self.counters.bytes_written.get()
    }

    async fn flush_group(&self) -> Result<(), Error> {
        let (file, target) = {
            let log = self.log.borrow();
            let file = Rc::clone(log.files.front().expect("a log has a segment"));
            let target = file.sealed_end.get().unwrap_or(log.end);
            (file, target)
        };
        let from = self.marks.written().offset;
        if from == target {
            return self.leave_segment(&file).await;
        }
        let start = from - from % BLOCK;
        let end = target.min(start + self.options.write_bytes_max as u32);
        let padded = end.next_multiple_of(BLOCK);
        file.reach(padded).await;
        file.log
            .write_at(u64::from(start), (padded - start) as usize, |out| {
                let (bytes, padding) = out.split_at_mut((end - start) as usize);
                self.log.borrow().tail.copy(file.number, start, bytes);
                padding.fill(0);
            })
            .await
            .map_err(Error::io("write", &file.path))?;
        if self.state.get() == State::Poisoned {
            return Err(Error::Poisoned);
        }
        let written = LogPosition { segment: file.number, offset: end };
        self.complete(written, u64::from(end - from), end == target);
        Ok(())
    }

    /// Moves the marks and acknowledges what is not yet.
    fn complete(&self, written: LogPosition, bytes: u64, is_frame_end: bool) {
        let counters = &self.counters;
        counters.bytes_written.set(counters.bytes_written.get() + bytes);
        counters.groups.set(counters.groups.get() + 1);
        self.marks.advance_written(written);
        if self.options.flush == FlushMode::Sync {
            self.marks.advance_durable(written);
        } else {
            counters.bytes_unsynced.set(counters.bytes_unsynced.get() + bytes);
            self.unsynced.notify();
        }
        let floor = LogPosition { offset: written.offset - written.offset % BLOCK, ..written };
        let needed = self.release_memory(written, is_frame_end).map_or(floor, |kept| kept.min(floor));
        let from_disk = self.acknowledge(written);
        if self.options.memory_tail.is_some() {
            counters.memory_waits.set(counters.memory_waits.get() + from_disk);
        }
        self.log.borrow_mut().tail.trim(needed);
        if self.droppable_segment().is_some() {
            self.seal.notify();
        }
    }

    /// Makes the records up to a position visible and tells whoever waits for them. Says how many frames of records
    /// that was the news about.
    pub(super) fn acknowledge(&self, to: LogPosition) -> u64 {
        if to <= self.marks.acknowledged() {
            return 0;
        }
        self.marks.advance_acknowledged(to);
        let mut frames = 0;
        let mut completed = self.completed.take();
        {
            let mut log = self.log.borrow_mut();
            let mut queues = self.queues.borrow_mut();
            while let Some(&frame) = log.pending.front().filter(|frame| frame.end <= to) {
                log.pending.pop_front();
                frames += 1;
                // A queue that was deleted meanwhile has nobody to show its records to.
                if let Some(queue) = queues.queue_mut(frame.queue) {
                    queue.publish(u32::from(frame.count));
                    completed.push(frame);
                }
            }
        }
        self.announce_visible(&completed);
        completed.clear();
        self.completed.replace(completed);
        let told = self.on_progress.borrow().clone();
        if let Some(told) = told {
            told(Progress::Acknowledged(to));
        }
        frames
    }

    fn announce_visible(&self, completed: &[crate::log::Pending]) {
        let Some(told) = self.on_visible.borrow().clone() else { return };
        for frame in completed {
            told(frame.queue, QueueOffset(frame.first + 1), frame.filter_code);
            for n in 1..i64::from(frame.count) {
                let offset = frame.first + n;
                let code =
                    self.queues.borrow().queue(frame.queue).and_then(|queue| queue.filter_code(offset));
                told(frame.queue, QueueOffset(offset + 1), code.unwrap_or_default());
            }
        }
    }

    /// A sealed segment is on disk up to its end: go on with the next one.
    async fn leave_segment(&self, file: &Rc<SegmentFile<E>>) -> Result<(), Error> {
        if self.options.flush != FlushMode::Sync {
            // Frames of the next segment must not reach the disk before the last ones of this.
            self.sync_file(file).await?;
        }
        if self.state.get() == State::Poisoned {
            return Err(Error::Poisoned);
        }
        let next = {
            let mut log = self.log.borrow_mut();
            log.files.pop_front();
            self.sealing.borrow_mut().push_back(Rc::clone(file));
            self.seal.notify();
            LogPosition {
                segment: log.files.front().expect("a sealed segment has a successor").number,
                offset: crate::limits::FIRST_FRAME,
            }
        };
        self.marks.advance_written(next);
        self.marks.advance_durable(next);
        self.release_memory(next, true);
        if next > self.marks.acknowledged() {
            self.marks.advance_acknowledged(next);
        }
        Ok(())
    }

    /// Makes everything written to this file until now durable.
    async fn sync_file(&self, file: &SegmentFile<E>) -> Result<(), Error> {
        let target = self.marks.written();
        self.counters.bytes_unsynced.set(0);
        file.log.sync().await.map_err(Error::io("sync", &file.path))?;
        self.counters.syncs.set(self.counters.syncs.get() + 1);
        if target.segment == file.number && target > self.marks.durable() {
            self.marks.advance_durable(target);
        }
        Ok(())
    }

    /// Flushes the disk behind the flusher's back, for stores that acknowledge before.
    pub(super) async fn sync_regularly(self: Rc<Self>, interval_ms: u64, bytes: u64) {
        // Short naps, so that neither many bytes nor a shutdown wait for the whole interval.
        const NAP_US: u64 = 20_000;
        while self.state.get() != State::Poisoned {
            if self.marks.durable() == self.marks.written() {
                if !self.is_running() && self.marks.written() == self.marks.appended() {
                    return;
                }
                self.unsynced.notified().await;
                continue;
            }
            let due = self.env.monotonic_us() + interval_ms * 1000;
            loop {
                let now = self.env.monotonic_us();
                if now >= due || self.counters.bytes_unsynced.get() >= bytes || !self.is_running() {
                    break;
                }
                self.env.sleep_us(NAP_US.min(due - now)).await;
            }
            let file = Rc::clone(self.log.borrow().files.front().expect("a log has a segment"));
            if let Err(error) = self.sync_file(&file).await {
                self.poison(&error);
                return;
            }
            if !self.is_running() {
                // The flusher may have bytes yet; do not spin while it writes them.
                self.env.sleep_us(1000).await;
            }
        }
    }
}
