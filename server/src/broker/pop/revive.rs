//! What was not acknowledged in time comes back, through the retry topic of its group and topic.
//!
//! One task per shard looks ten times a second at the checkpoints that are due. It also writes down what was
//! acknowledged and moves the beginning of the next replay. The copy is stored before its checkpoint ends, so a
//! crash in between brings the message twice, never not at all.

use std::rc::Rc;
use std::time::Duration;

use rmq_engine::{CachedRead, QueueOffset, Read, ReadLimits};
use rmq_protocol::properties::name;
use rmq_protocol::record::RecordRef;

use super::names::retry_of;
use super::queue::PopQueue;
use super::request::{PopAnswer, PopAsk};
use super::{revive_log, watches};
use crate::broker::message::{Message, StoreOutcome};
use crate::broker::{retry, store};
use crate::control::link::TopicRequest;
use crate::net::executor;
use crate::shard::Shard;

const TICK: Duration = Duration::from_millis(100);
/// Ticks between two writes of acknowledgements and of how far a replay may skip.
const TICKS_PER_RECORD: u32 = 2;
const TICKS_PER_ADVANCE: u32 = 10;
/// Checkpoints revived side by side.
const REVIVING_MAX: usize = 128;
/// Waits between attempts at one checkpoint, in seconds, as Java's.
const BACKOFF_S: [i64; 17] =
    [10, 20, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1_200, 1_800, 3_600, 7_200];

pub async fn run(shard: Rc<Shard>) {
    let pop = &shard.pop;
    let mut ticks = 0u32;
    while !pop.is_broken.get() {
        let is_idle = pop.checkpoints.borrow().is_empty()
            && pop.checkpoints.borrow().changed_len() == 0
            && pop.order_ends.borrow().is_empty();
        if is_idle {
            // Once more, so that a replay need not read what is all acknowledged.
            revive_log::advance(&shard);
            executor::sleep(TICK).await;
            revive_log::advance(&shard);
            pop.work.notified().await;
        }
        executor::sleep(TICK).await;
        if shard.is_draining() {
            return;
        }
        ticks = ticks.wrapping_add(1);
        revive_due(&shard);
        end_orders(&shard);
        if ticks.is_multiple_of(TICKS_PER_RECORD) {
            revive_log::record_acks(&shard);
        }
        if ticks.is_multiple_of(TICKS_PER_ADVANCE) {
            revive_log::advance(&shard);
        }
        shard.wake_popping();
    }
}

fn revive_due(shard: &Rc<Shard>) {
    let pop = &shard.pop;
    let now_ms = store::wall_clock_ms();
    while pop.reviving.get() < REVIVING_MAX {
        let Some(place) = pop.checkpoints.borrow_mut().take_due(now_ms) else { return };
        pop.reviving.set(pop.reviving.get() + 1);
        let shard = Rc::clone(shard);
        executor::spawn(async move {
            revive(&shard, place).await;
            let pop = &shard.pop;
            pop.reviving.set(pop.reviving.get() - 1);
            // A backlog goes on as soon as there is room.
            revive_due(&shard);
        });
    }
}

async fn revive(shard: &Rc<Shard>, place: i64) {
    let Some((queue, pop_time, open, attempts)) =
        shard.pop.checkpoints.borrow().get(place).map(|checkpoint| {
            (Rc::clone(&checkpoint.queue), checkpoint.pop_time, checkpoint.open(), checkpoint.attempts)
        })
    else {
        return;
    };
    if shard.metadata.topic(&queue.topic).is_none() || shard.metadata.group(&queue.group).is_none() {
        return shard.pop.checkpoints.borrow_mut().close(place);
    }
    let mut failed = None;
    for (bit, offset) in open {
        let is_open = |place| {
            let checkpoints = shard.pop.checkpoints.borrow();
            checkpoints.get(place).is_some_and(|checkpoint| checkpoint.acked >> bit & 1 == 0)
        };
        if !is_open(place) {
            continue;
        }
        match come_back(shard, &queue, offset, pop_time).await {
            Ok(()) => {
                shard.pop.checkpoints.borrow_mut().ack_bit(place, bit);
            }
            Err(remark) => failed = Some(remark),
        }
    }
    let Some(remark) = failed else { return };
    tracing::warn!(
        topic = &*queue.topic,
        group = &*queue.group,
        remark,
        "a message cannot come back yet; trying again"
    );
    let wait_s = BACKOFF_S[usize::from(attempts).min(BACKOFF_S.len() - 1)];
    shard.pop.checkpoints.borrow_mut().postpone(place, store::wall_clock_ms() + wait_s * 1_000);
}

/// Stores a copy in the retry topic; a message that is gone from the log does not come back. The error is a
/// remark.
async fn come_back(shard: &Rc<Shard>, queue: &PopQueue, offset: i64, pop_time: i64) -> Result<(), String> {
    let Some(bytes) = record_of(shard, &queue.topic, queue.id, offset).await? else { return Ok(()) };
    let record = RecordRef::parse(&bytes).map_err(|error| error.to_string())?;
    let mut message = Message::of_record(&record);
    message.topic = retry_of(&queue.group, &queue.topic, shard.settings.pop.retry_topic_v2);
    message.queue = 0;
    message.reconsume_times = record.reconsume_times() + 1;
    message.born_host = shard.settings.store_host;
    if record.reconsume_times() == 0 || message.property(name::FIRST_POP_TIME).is_none() {
        message.set_property(name::FIRST_POP_TIME, &pop_time.to_string());
    }
    let request = TopicRequest::System { topic: message.topic.clone(), queues: 1 };
    retry::ensure_topic(shard, request, &message.topic)
        .await
        .map_err(|refusal| refusal.remark.into_owned())?;
    // Not `store::store`: a delay that the message had is over.
    match store::store_now(shard, message).await {
        StoreOutcome::Stored { .. } => Ok(()),
        StoreOutcome::Refused { remark, .. } => Err(remark),
    }
}

/// A record by its queue offset, of any shard's queue. The error is a remark.
async fn record_of(
    shard: &Rc<Shard>,
    topic: &str,
    queue: i32,
    offset: i64,
) -> Result<Option<Vec<u8>>, String> {
    let owner = shard.ownership.owner(topic, queue);
    if owner == shard.index {
        return record_here(shard, topic, queue, offset).await;
    }
    // The queue went to another shard since, because their number changed.
    let ask = PopAsk::Record { topic: topic.to_owned(), queue, offset };
    match shard.pop.ask(shard, owner, ask).await {
        PopAnswer::Record(found) => found,
        _ => Err("another shard did not answer what it was asked".to_owned()),
    }
}

pub async fn record_here(
    shard: &Rc<Shard>,
    topic: &str,
    queue: i32,
    offset: i64,
) -> Result<Option<Vec<u8>>, String> {
    let Some(number) = shard.engine.find_queue(topic, queue as u32) else { return Ok(None) };
    let one = ReadLimits { messages_max: 1, scan_max: 1, cold_messages_max: 1, ..ReadLimits::default() };
    let at = QueueOffset(offset);
    let mut record = Vec::new();
    let read = match shard.engine.read_cached(number, at, &one, |_| true, &mut record) {
        CachedRead::Done(read) => read,
        CachedRead::Cold => match Rc::clone(&shard.engine).read(number, at, one, |_| true).await {
            Ok((read, bytes)) => {
                record = bytes;
                read
            }
            Err(error) => return Err(error.to_string()),
        },
    };
    let is_there = matches!(read, Read::Found { .. })
        && RecordRef::parse(&record).is_ok_and(|record| record.queue_offset() == offset);
    Ok(is_there.then_some(record))
}

/// Tells those who wait for ordered queues whose batch has had its time.
fn end_orders(shard: &Rc<Shard>) {
    let now_ms = store::wall_clock_ms();
    loop {
        let mut ends = shard.pop.order_ends.borrow_mut();
        let Some(entry) = ends.first_entry().filter(|entry| entry.key().0 <= now_ms) else { return };
        let queue = entry.remove();
        drop(ends);
        let is_blocked =
            queue.order.borrow().as_ref().is_some_and(|record| record.blocked_until(now_ms).is_some());
        if !is_blocked {
            watches::freed(shard, &queue.topic, queue.id);
        }
    }
}
