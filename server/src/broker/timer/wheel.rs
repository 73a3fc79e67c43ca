//! One wheel: the queue in which messages wait, and the timeline that says which is due next.
//!
//! Its task brings what arrived in the queue into the timeline, takes from the timeline what is due, and sleeps until
//! the next. The index of the queue tells when a message is due, so nothing is read before its time. Another task
//! writes a checkpoint every `timerFlushIntervalMs`; after a crash, what was delivered since the last one may come
//! again.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use rmq_engine::env::uring::UringEnv;
use rmq_engine::{
    CachedRead, Error, QueueNumber, QueueOffset, Read, ReadLimits, Timeline, TimelineEntry, TimelineStart,
};

use super::due::{self, DueCode};
use super::limits::{DUE_AT_ONCE, INGEST_AT_ONCE, SET_ENTRIES_MAX};
use super::recalled::Recalled;
use super::{Timer, delivery};
use crate::broker::metadata::Queue;
use crate::broker::{store, topic_name};
use crate::control::link::TimerStats;
use crate::net::executor::{self, Notify};
use crate::shard::Shard;

/// A clock that is set must not make anybody wait for longer.
const SLEEP_MS_MAX: i64 = 1_000;
/// Pause after an error of the disk.
const RETRY: Duration = Duration::from_secs(1);
const FULL_PAUSE: Duration = Duration::from_millis(2);

pub struct Wheel {
    pub queue: Rc<Queue>,
    pub timeline: Rc<Timeline<UringEnv>>,
    pub recalled: RefCell<Recalled>,
    pub arrivals: Rc<Notify>,
    /// Entries that a lost timeline had delivered: smaller keys, at offsets below the second.
    delivered_before: Cell<(i64, i64)>,
    /// Everything that was in the queue at the start is in the timeline.
    is_caught_up: Cell<bool>,
    pub enqueued: Cell<u64>,
    pub dequeued: Cell<u64>,
    rates: Cell<Rates>,
}

#[derive(Clone, Copy, Default)]
struct Rates {
    enqueued_per_s: f64,
    dequeued_per_s: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ingested {
    Everything,
    More,
    /// The timeline has to write first.
    Full,
}

/// Runs until the shard is drained.
pub async fn run(shard: &Rc<Shard>, queue: i32) {
    let wheel = loop {
        match Wheel::open(shard, queue).await {
            Ok(wheel) => break Rc::new(wheel),
            Err(error) => {
                tracing::error!(shard = shard.index, queue, %error, "the timer cannot open its index; trying again");
                executor::sleep(RETRY).await;
                if shard.is_draining() {
                    return;
                }
            }
        }
    };
    shard.timer.wheels.borrow_mut().push(Rc::clone(&wheel));
    *wheel.queue.arrivals.borrow_mut() = Some(Rc::clone(&wheel.arrivals));
    executor::spawn_reader(Rc::clone(&wheel).checkpoint_regularly(Rc::clone(shard)));
    while !shard.is_draining() {
        if let Err(error) = wheel.turn(shard).await {
            tracing::error!(shard = shard.index, queue, %error, "the timer's index cannot be read");
            match error {
                Error::Corrupt { .. } => wheel.begin_again(shard),
                _ => executor::sleep(RETRY).await,
            }
        }
    }
}

impl Wheel {
    async fn open(shard: &Rc<Shard>, queue: i32) -> Result<Self, Error> {
        let dir = shard.settings.timer.dir.join(queue.to_string());
        let (timeline, start) = Timeline::open(UringEnv::new(), &dir, SET_ENTRIES_MAX).await?;
        let topic = shard.metadata.topic(topic_name::TIMER).expect("its start waits for the topic");
        let wheel = Self {
            queue: shard.queue(&topic, queue),
            timeline,
            recalled: RefCell::default(),
            arrivals: Notify::new(),
            delivered_before: Cell::new((i64::MIN, 0)),
            is_caught_up: Cell::new(false),
            enqueued: Cell::new(0),
            dequeued: Cell::new(0),
            rates: Cell::default(),
        };
        let end = wheel.queue.number().map_or(0, |number| shard.engine.next_offset(number).0);
        match start {
            TimelineStart::New => {}
            TimelineStart::Resumed { next_offset, notes } => {
                shard.timer.counts.borrow_mut().add_notes(&notes);
                if next_offset > end {
                    // The log lost its tail in a power cut; those offsets are given to other messages now.
                    wheel.begin_again(shard);
                }
            }
            TimelineStart::Lost { from_key } => {
                if from_key > i64::MIN {
                    tracing::warn!(
                        shard = shard.index,
                        queue,
                        "the timer's index is damaged; making it again"
                    );
                }
                wheel.delivered_before.set((from_key, end));
            }
        }
        Ok(wheel)
    }

    /// Makes the index again from the queue.
    fn begin_again(&self, shard: &Shard) {
        tracing::warn!(
            shard = shard.index,
            queue = self.queue.id,
            "the timer makes its index again from the log; messages may be delivered twice"
        );
        let end = self.queue.number().map_or(0, |number| shard.engine.next_offset(number).0);
        self.delivered_before.set((self.timeline.reset(), end));
        self.is_caught_up.set(false);
    }

    /// One step: new entries, then what is due, or else a pause until something may be.
    async fn turn(&self, shard: &Rc<Shard>) -> Result<(), Error> {
        let ingested = self.ingest(shard).await?;
        let now_ms = store::wall_clock_ms();
        let due = self.timeline.take(DueCode::last_of(now_ms).0, DUE_AT_ONCE).await?;
        if !due.is_empty() {
            delivery::deliver(shard, self, due).await;
            return Ok(());
        }
        let first = self.timeline.first_key().map(|key| DueCode(key).due_ms());
        let over = self.recalled.borrow_mut().expire(first.unwrap_or(now_ms).min(now_ms));
        if !over.is_empty() {
            self.timeline.done(&over);
        }
        match (ingested, first) {
            (Ingested::More, _) => executor::yield_now().await,
            (Ingested::Full, _) => executor::sleep(FULL_PAUSE).await,
            (Ingested::Everything, None) if self.recalled.borrow().is_empty() => {
                self.arrivals.notified().await;
            }
            (Ingested::Everything, first) => {
                let wait_ms = first.map_or(SLEEP_MS_MAX, |first| (first - now_ms).clamp(0, SLEEP_MS_MAX));
                self.arrivals.notified_within(Duration::from_millis(wait_ms as u64)).await;
            }
        }
        Ok(())
    }

    /// Brings a piece of the queue's index into the timeline.
    async fn ingest(&self, shard: &Rc<Shard>) -> Result<Ingested, Error> {
        let Some(number) = self.queue.number() else {
            self.is_caught_up.set(true);
            return Ok(Ingested::Everything);
        };
        let from = self.timeline.next_offset();
        let end = shard.engine.max_offset(number).0;
        if from >= end {
            self.is_caught_up.set(true);
            return Ok(Ingested::Everything);
        }
        if self.timeline.is_full() {
            return Ok(Ingested::Full);
        }
        let now_ms = store::wall_clock_ms();
        let stored_ms = if self.is_caught_up.get() {
            now_ms
        } else {
            let stored_ms = Rc::clone(&shard.engine).store_timestamp(number, QueueOffset(from)).await?;
            stored_ms.unwrap_or(now_ms)
        };
        let (read, codes) = read_codes(shard, number, from).await?;
        let next = match read {
            Read::NoneMatched { .. } | Read::Found { .. } | Read::AtEnd | Read::NoSuchQueue => {
                from + codes.len() as i64
            }
            Read::TooSmall { min: next } | Read::Removed { next } => {
                if from > 0 {
                    let gone = next.0 - from;
                    tracing::error!(
                        shard = shard.index,
                        gone,
                        "retention has removed waiting timer messages"
                    );
                }
                next.0
            }
            Read::TooLarge { .. } => {
                self.begin_again(shard);
                return Ok(Ingested::More);
            }
        };
        let settings = &shard.settings.timer;
        let (key_min, below) = self.delivered_before.get();
        let entries =
            codes.into_iter().zip(from..).filter(|&(code, offset)| code >= key_min || offset >= below);
        let entries = entries.map(|(code, offset)| {
            let wake = due::wake(settings, DueCode(code), stored_ms);
            TimelineEntry { key: wake.0, offset }
        });
        self.timeline.insert(entries, next);
        self.enqueued.set(self.enqueued.get() + (next - from) as u64);
        Ok(if next < end { Ingested::More } else { Ingested::Everything })
    }

    /// Everything due before has been delivered.
    pub fn read_ms(&self) -> i64 {
        if !self.is_caught_up.get() {
            return 0;
        }
        let now_ms = store::wall_clock_ms();
        self.timeline.first_key().map_or(now_ms, |key| DueCode(key).due_ms().clamp(0, now_ms))
    }

    pub fn add_to(&self, shard: &Shard, stats: &mut TimerStats) {
        let end = self.queue.number().map_or(0, |number| shard.engine.max_offset(number).0);
        let next = self.timeline.next_offset();
        let rates = self.rates.get();
        stats.read_ms = stats.read_ms.min(self.read_ms());
        stats.next_offset += next;
        stats.offset_behind += (end - next).max(0);
        stats.pending += self.timeline.len();
        stats.enqueued_per_s += rates.enqueued_per_s;
        stats.dequeued_per_s += rates.dequeued_per_s;
    }

    async fn checkpoint_regularly(self: Rc<Self>, shard: Rc<Shard>) {
        let interval = Duration::from_millis(shard.settings.timer.flush_interval_ms);
        let seconds = interval.as_secs_f64();
        let mut last = (0, 0);
        while !shard.is_draining() {
            executor::sleep(interval).await;
            let now = (self.enqueued.get(), self.dequeued.get());
            self.rates.set(Rates {
                enqueued_per_s: (now.0 - last.0) as f64 / seconds,
                dequeued_per_s: (now.1 - last.1) as f64 / seconds,
            });
            last = now;
            let notes = shard.timer.notes(&self);
            if let Err(error) = self.timeline.checkpoint(&notes).await {
                tracing::error!(shard = shard.index, %error, "the timer's progress is not saved");
            }
        }
    }

    pub async fn close(&self, timer: &Timer) {
        if let Err(error) = self.timeline.close(&timer.notes(self)).await {
            tracing::error!(%error, "the timer's progress is not saved; some messages will come twice");
        }
    }
}

/// The codes of messages from an offset on, which the queue's index has: no message is read.
async fn read_codes(shard: &Rc<Shard>, number: QueueNumber, from: i64) -> Result<(Read, Vec<i64>), Error> {
    let limits = ReadLimits { messages_max: 1, scan_max: INGEST_AT_ONCE, ..ReadLimits::default() };
    let mut codes = Vec::with_capacity(64);
    let look = |code| {
        codes.push(code);
        false
    };
    let from = QueueOffset(from);
    if let CachedRead::Done(read) = shard.engine.read_cached(number, from, &limits, look, &mut Vec::new()) {
        return Ok((read, codes));
    }
    let shared = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&shared);
    let look = move |code| {
        seen.borrow_mut().push(code);
        false
    };
    let (read, _) = Rc::clone(&shard.engine).read(number, from, limits, look).await?;
    Ok((read, shared.take()))
}
