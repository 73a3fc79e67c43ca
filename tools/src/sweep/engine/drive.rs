//! The load on one shard: so many appends wait at a time, and each that is acknowledged makes room for another.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_lite::future::poll_fn;
use rmq_engine::env::uring::UringEnv;
use rmq_engine::{
    AppendError, LogPosition, Progress, QueueNumber, QueueOffset, RecordMeta, RecordPlan, Schema, Shard,
    ShardSeed, ShardStats, Stamp,
};

use super::ShardRun;
use crate::clock::monotonic_ns;
use crate::error::Error;
use crate::phases::Phases;
use crate::tally::Tally;

/// Length u32, queue offset i64, store time i64: what recovery needs of a record.
pub const HEAD_BYTES: usize = 20;
const TOPIC: &str = "sweep";
/// How often a flush by the clock is looked for, and a refused append tried again.
const LOOK: Duration = Duration::from_micros(250);

pub struct Shape {
    pub record_bytes: u32,
    pub batch: usize,
    pub waiters: usize,
    pub looks_for_flush: bool,
}

pub struct StampSchema;

impl Schema for StampSchema {
    fn describe(&self, record: &[u8]) -> Option<RecordMeta> {
        let long = |at: usize| Some(i64::from_le_bytes(record.get(at..at + 8)?.try_into().ok()?));
        Some(RecordMeta {
            len: u32::from_le_bytes(record.get(..4)?.try_into().ok()?),
            queue_offset: QueueOffset(long(4)?),
            store_timestamp_ms: long(12)?,
            filter_code: 0,
        })
    }
}

/// Set by the shard's tasks, awaited by the load; both run on one thread.
#[derive(Default)]
struct Signal {
    is_set: Cell<bool>,
    has_stopped: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    fn set(&self) {
        self.is_set.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    async fn wait(&self) {
        poll_fn(|context| {
            if self.is_set.replace(false) {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

pub async fn drive(
    seed: ShardSeed,
    shape: &Shape,
    queues: &[u32],
    phases: &Phases,
) -> Result<ShardRun, Error> {
    let shard = Shard::start(UringEnv::new(), seed).await?;
    let signal = Rc::new(Signal::default());
    let told = Rc::clone(&signal);
    shard.on_progress(Rc::new(move |progress| {
        told.has_stopped.set(progress == Progress::Stopped);
        told.set();
    }));
    // Wakes the load when nothing is acknowledged for a while: to look for a flush, for room, for the end.
    let ticks = Rc::clone(&signal);
    let look = if shape.looks_for_flush { LOOK } else { 20 * LOOK };
    rmq_reactor::spawn(rmq_reactor::Class::Foreground, async move {
        loop {
            rmq_reactor::sleep(look).await;
            ticks.set();
        }
    });
    let queues: Result<Vec<QueueNumber>, AppendError> =
        queues.iter().map(|&queue| shard.declare_queue(TOPIC, queue)).collect();
    let measured = match queues {
        Ok(queues) => Load::new(&shard, shape, queues).run(&signal, phases).await,
        Err(error) => Err(refused(error)),
    };
    // What waits is written first, as a broker does at its end; a log that stopped has nothing to write.
    let ended = shard.shutdown().await;
    let measured = measured?;
    ended?;
    Ok(measured)
}

struct Load<'a> {
    shard: &'a Shard<UringEnv>,
    shape: &'a Shape,
    plans: Vec<RecordPlan>,
    queues: Vec<QueueNumber>,
    turn: usize,
    waiting: VecDeque<(LogPosition, u64)>,
}

impl<'a> Load<'a> {
    fn new(shard: &'a Shard<UringEnv>, shape: &'a Shape, queues: Vec<QueueNumber>) -> Self {
        let plans = vec![RecordPlan { len: shape.record_bytes, filter_code: 0 }; shape.batch];
        Self { shard, shape, plans, queues, turn: 0, waiting: VecDeque::new() }
    }

    async fn run(mut self, signal: &Signal, phases: &Phases) -> Result<ShardRun, Error> {
        let mut latency = Tally::default().latency;
        let (mut records, mut before) = (0, None::<ShardStats>);
        loop {
            let now = monotonic_ns();
            if phases.is_over(now) {
                break;
            }
            if signal.has_stopped.get() {
                return Err(Error::Engine(rmq_engine::Error::Poisoned));
            }
            let reached = self.reached();
            // The wake-up in which measuring begins still tells of a group from before.
            let counts = before.is_some();
            if now >= phases.measure_ns && before.is_none() {
                before = Some(self.shard.stats());
            }
            while let Some((_, appended_ns)) = self.waiting.pop_front_if(|(end, _)| *end <= reached) {
                if counts {
                    records += self.shape.batch as u64;
                    latency.saturating_record(now - appended_ns);
                }
            }
            if now >= phases.start_ns {
                self.fill(now)?;
            }
            signal.wait().await;
        }
        let (after, before) = (self.shard.stats(), before.unwrap_or_default());
        Ok(ShardRun {
            records,
            latency,
            groups: after.groups - before.groups,
            group_bytes: after.bytes_written - before.bytes_written,
        })
    }

    fn reached(&self) -> LogPosition {
        if self.shape.looks_for_flush { self.shard.durable() } else { self.shard.acknowledged() }
    }

    fn fill(&mut self, now: u64) -> Result<(), Error> {
        while self.waiting.len() < self.shape.waiters {
            match self.append() {
                Ok(end) => self.waiting.push_back((end, now)),
                // The disk or the next segment is not ready; what is acknowledged, or the next tick, tries again.
                Err(AppendError::Busy) => break,
                Err(error) => return Err(refused(error)),
            }
        }
        Ok(())
    }

    fn append(&mut self) -> Result<LogPosition, AppendError> {
        let len = self.shape.record_bytes;
        let queue = self.queues[self.turn % self.queues.len()];
        let appended = self.shard.append(queue, &self.plans, |_, out: &mut [u8], stamp: &Stamp| {
            out[..4].copy_from_slice(&len.to_le_bytes());
            out[4..12].copy_from_slice(&stamp.queue_offset.0.to_le_bytes());
            out[12..HEAD_BYTES].copy_from_slice(&stamp.store_timestamp_ms.to_le_bytes());
            out[HEAD_BYTES..].fill(7);
        })?;
        self.turn += 1;
        Ok(appended.end)
    }
}

fn refused(error: AppendError) -> Error {
    Error::TooLate(format!("the engine refused an append: {error}"))
}
