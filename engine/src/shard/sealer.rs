//! Writing down what a sealed segment's memory index knows: its index file, then the queue map behind it.
//!
//! Works in small slices between which it sleeps, since the executor looks at the network only then.

use std::rc::Rc;

use super::Shard;
use crate::env::{Class, Env};
use crate::error::Error;
use crate::index_file::{Directory, IndexHeader, IndexWriter, Listed};
use crate::limits::FIRST_FRAME;
use crate::offset::{LogPosition, QueueNumber};
use crate::queue::Queue;
use crate::queue_map::{self, MapRow, QueueMap};
use crate::segment;
use crate::segment_file::SegmentFile;
use crate::store::{Sealed, span_of};

const RETRY_US: u64 = 200_000;
/// A slice of background work, and the pause after it.
const SLICE_US: u64 = 150;
const PAUSE_US: u64 = 50;
/// Queues or entries between two looks at the clock.
const STRIDE: usize = 256;

/// What an index is written about.
pub(super) struct Subject {
    pub segment: u64,
    pub base_ms: i64,
    pub end: u32,
    pub last_ms: i64,
    pub snapshot: bool,
}

impl<E: Env> Shard<E> {
    pub(super) async fn seal_segments(self: Rc<Self>) {
        loop {
            let next = self.sealing.borrow().front().cloned();
            let Some(file) = next else {
                self.drop_indexed_runs().await;
                if !self.is_running() {
                    return;
                }
                self.seal.notified().await;
                continue;
            };
            if let Err(error) = self.seal_segment(&file).await {
                if error.is_failed_flush() {
                    return self.poison(&error);
                }
                self.remember(&error);
                tracing::warn!(shard = self.index, %error, "cannot write the index of a sealed segment");
                if !self.is_running() {
                    // The next start makes it from the log.
                    return;
                }
                self.env.sleep_us(RETRY_US).await;
            }
        }
    }

    pub(super) async fn seal_segment(&self, file: &Rc<SegmentFile<E>>) -> Result<(), Error> {
        let end = file.sealed_end.get().expect("a segment to seal has its SEAL frame");
        let last_ms = file.last_ms.get();
        let subject = Subject { segment: file.number, base_ms: file.base_ms, end, last_ms, snapshot: false };
        let directory = self.write_index(&subject).await?;
        let at = self.start_of_successor(file.number);
        self.write_map(at, false).await?;
        for listed in directory.queues {
            if let Some(queue) = self.queues.borrow_mut().queue_mut(listed.number) {
                queue.add_span(listed.span);
            }
        }
        self.sealed.borrow_mut().push_back(Sealed { number: file.number, last_ms });
        self.indexed.borrow_mut().push_back(file.number);
        self.sealing.borrow_mut().pop_front();
        Ok(())
    }

    fn start_of_successor(&self, segment: u64) -> LogPosition {
        let log = self.log.borrow();
        let sealing = self.sealing.borrow();
        let later = sealing.iter().chain(&log.files).map(|file| file.number).filter(|&n| n > segment);
        LogPosition { segment: later.min().expect("a sealed segment has a successor"), offset: FIRST_FRAME }
    }

    /// Writes the index file of one segment from the runs in memory.
    pub(super) async fn write_index(&self, subject: &Subject) -> Result<Directory, Error> {
        let mut directory = Directory {
            header: IndexHeader {
                store_id: self.store_id,
                segment: subject.segment,
                end: subject.end,
                epoch: self.epoch,
                snapshot: subject.snapshot,
                base_ms: subject.base_ms,
                last_ms: subject.last_ms,
            },
            queues: self.list_queues(subject.segment).await,
        };
        directory.assign_slots();
        let path = segment::index_path(&self.options.dir, subject.segment);
        let mut writer = IndexWriter::create(&self.env, &path, &directory).await?;
        let mut slice = self.env.monotonic_us();
        for listed in &directory.queues {
            let mut index = 0;
            while index < listed.span.count as usize {
                let stop = (listed.span.count as usize).min(index + STRIDE);
                self.with_queue(listed.number, |queue| {
                    let run = queue.and_then(|queue| queue.run_in(subject.segment));
                    let run = run.expect("runs stay until their segment is indexed");
                    for entry in (index..stop).filter_map(|at| run.entries.at(at)) {
                        writer.push(entry);
                    }
                });
                index = stop;
                writer.write_full_pages().await?;
                self.breathe(&mut slice).await;
            }
        }
        writer.finish().await?;
        Ok(directory)
    }

    /// Everything with entries in a segment, also what was deleted lately: after a crash its deletion may
    /// not have happened.
    async fn list_queues(&self, segment: u64) -> Vec<Listed> {
        let mut listed = Vec::new();
        let mut slice = self.env.monotonic_us();
        for numbers in self.all_numbers().chunks(STRIDE) {
            for &number in numbers {
                listed.extend(self.with_queue(number, |queue| {
                    let queue = queue?;
                    let span = span_of(queue.run_in(segment)?);
                    Some(Listed { number, name: queue.name.clone(), span })
                }));
            }
            self.breathe(&mut slice).await;
        }
        listed
    }

    fn all_numbers(&self) -> Vec<QueueNumber> {
        let mut numbers = self.queues.borrow().numbers();
        numbers.extend(self.buried.borrow().iter().map(|(_, queue)| queue.number));
        numbers.sort_unstable();
        numbers
    }

    /// A live queue, or one whose deletion no map knows yet.
    fn with_queue<R>(&self, number: QueueNumber, look: impl FnOnce(Option<&Queue>) -> R) -> R {
        let queues = self.queues.borrow();
        let buried = self.buried.borrow();
        let buried = || buried.iter().map(|(_, queue)| queue).find(|queue| queue.number == number);
        look(queues.queue(number).or_else(buried))
    }

    /// Writes the map of the queues as they stood at `at`: the start of a segment, or the end of the log.
    pub(super) async fn write_map(&self, at: LogPosition, clean: bool) -> Result<(), Error> {
        let mut rows = Vec::new();
        let mut slice = self.env.monotonic_us();
        for numbers in self.all_numbers().chunks(STRIDE) {
            for &number in numbers {
                rows.extend(self.with_queue(number, |queue| self.row_at(queue?, at, clean)));
            }
            self.breathe(&mut slice).await;
        }
        let map = QueueMap {
            store_id: self.store_id,
            generation: self.epoch,
            sequence: self.map_sequence.get() + 1,
            epoch: self.epoch,
            shard: self.index as u32,
            clean,
            at: Some(at),
            number_high: self.next_queue.get(),
            queues: rows,
        };
        queue_map::write(&self.env, &self.options.dir, &map).await?;
        self.map_sequence.set(map.sequence);
        self.buried.borrow_mut().retain(|(deleted, _)| *deleted >= at);
        Ok(())
    }

    fn row_at(&self, queue: &Queue, at: LogPosition, clean: bool) -> Option<MapRow> {
        let buried = self.buried.borrow();
        let deleted = buried.iter().find(|(_, other)| other.number == queue.number).map(|(at, _)| *at);
        if queue.declared >= at || deleted.is_some_and(|deleted| deleted < at) {
            return None;
        }
        let next = if clean { queue.next } else { queue.next_at_start_of(at.segment) };
        Some(MapRow { number: queue.number, name: queue.name.clone(), next, min: queue.min().min(next) })
    }

    /// Entries of an indexed segment stay in memory as long as its bytes do: consumers that keep up read both.
    async fn drop_indexed_runs(&self) {
        let mut slice = self.env.monotonic_us();
        while let Some(segment) = self.droppable_segment() {
            let all = self.queues.borrow().numbers();
            for numbers in all.chunks(STRIDE) {
                for &number in numbers {
                    if let Some(queue) = self.queues.borrow_mut().queue_mut(number) {
                        queue.drop_run(segment);
                    }
                }
                self.breathe(&mut slice).await;
            }
            self.indexed.borrow_mut().pop_front();
        }
    }

    pub(super) fn droppable_segment(&self) -> Option<u64> {
        let oldest = *self.indexed.borrow().front()?;
        let start = self.log.borrow().tail.start()?;
        (start.segment > oldest).then_some(oldest)
    }

    /// Ends a slice of background work when it has lasted long enough.
    pub(super) async fn breathe(&self, slice: &mut u64) {
        if self.env.monotonic_us() - *slice >= SLICE_US {
            self.env.sleep_us(PAUSE_US).await;
            *slice = self.env.monotonic_us();
        }
    }

    pub(super) fn start_sealer(self: &Rc<Self>) {
        self.spawn(Class::Background, Rc::clone(self).seal_segments());
    }
}
