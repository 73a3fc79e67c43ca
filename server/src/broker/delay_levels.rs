//! Delayed messages: a durable ladder of levels, one queue of the schedule topic each.
//!
//! A message with property DELAY waits in queue `level - 1` of SCHEDULE_TOPIC_XXXX and is stored again in its
//! own topic when it is due. All messages of a level have the same delay, so a level's queue is in due order
//! and one task per level is enough: it sleeps until the first is due or the first arrives. How far a level
//! has come is persisted every `flushDelayOffsetInterval`; after a crash what came later is delivered twice.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use rmq_engine::{CachedRead, QueueOffset, Read, ReadLimits};
use rmq_protocol::record;
use rmq_protocol::response_code::ResponseCode;
use rustc_hash::FxHashMap;

use super::message::{Message, StoreOutcome};
use super::metadata::Queue;
use super::{store, topic_name};
use crate::net::executor::{self, Notify};
use crate::shard::Shard;

/// Messages of a level delivered side by side.
const DELIVERIES_AT_ONCE: u32 = 256;
const BATCH_BYTES: u32 = 1 << 20;
/// Pause after a delivery that was refused (disk full, topic gone with its broker).
const RETRY_MS: u64 = 1_000;

/// Where the levels of this shard stand.
pub struct DelayLevels {
    progress: RefCell<FxHashMap<i32, i64>>,
    changed: RefCell<FxHashMap<i32, i64>>,
    /// Levels that are delivering just now.
    delivering: Cell<usize>,
    started: Cell<bool>,
}

impl DelayLevels {
    pub fn new(offsets: Vec<(i32, i64)>) -> Self {
        Self {
            progress: RefCell::new(offsets.into_iter().collect()),
            changed: RefCell::default(),
            delivering: Cell::new(0),
            started: Cell::new(false),
        }
    }

    /// Levels that have moved since the last call.
    pub fn take_changed(&self) -> Vec<(i32, i64)> {
        let mut rows: Vec<_> = self.changed.borrow_mut().drain().collect();
        rows.sort_unstable();
        rows
    }

    pub fn is_delivering(&self) -> bool {
        self.delivering.get() > 0
    }

    fn advance(&self, level: i32, offset: i64) {
        self.progress.borrow_mut().insert(level, offset);
        self.changed.borrow_mut().insert(level, offset);
    }
}

/// Sends a message with a delay level to the schedule topic; its own place goes into two properties.
pub fn divert(shard: &Shard, message: &mut Message) {
    let levels = shard.settings.delay_levels.len() as i32;
    let level = message.property("DELAY").and_then(|level| level.trim().parse::<i32>().ok()).unwrap_or(0);
    if level <= 0 || levels == 0 || message.topic == topic_name::SCHEDULE {
        return;
    }
    let level = level.min(levels);
    let (topic, queue) = (message.topic.clone(), message.queue.to_string());
    message.set_property("REAL_TOPIC", &topic);
    message.set_property("REAL_QID", &queue);
    message.set_property("DELAY", &level.to_string());
    for time in ["TIMER_DELIVER_MS", "TIMER_DELAY_SEC", "TIMER_DELAY_MS"] {
        message.remove_property(time);
    }
    message.topic = topic_name::SCHEDULE.to_owned();
    message.queue = level - 1;
}

/// Starts the levels whose queues this shard owns, once the schedule topic is known.
pub fn start_owned(shard: &Rc<Shard>) {
    if shard.metadata.topic(topic_name::SCHEDULE).is_none() || shard.delay.started.replace(true) {
        return;
    }
    for (index, &delay) in shard.settings.delay_levels.iter().enumerate() {
        if shard.ownership.owner(topic_name::SCHEDULE, index as i32) == shard.index {
            executor::spawn(deliver_level(Rc::clone(shard), index as i32, delay));
        }
    }
}

/// Level and offset of its next record, for the levels of this shard that ever held one.
pub fn progress(shard: &Shard) -> Vec<(i32, i64)> {
    let Some(topic) = shard.metadata.topic(topic_name::SCHEDULE) else { return Vec::new() };
    let reached = shard.delay.progress.borrow();
    let queues = topic.known_queues().into_iter().filter(|queue| queue.number().is_some());
    queues.map(|queue| queue.id + 1).map(|level| (level, reached.get(&level).copied().unwrap_or(0))).collect()
}

async fn deliver_level(shard: Rc<Shard>, index: i32, delay: Duration) {
    let Some(topic) = shard.metadata.topic(topic_name::SCHEDULE) else { return };
    let queue = shard.queue(&topic, index);
    let arrivals = Notify::new();
    *queue.arrivals.borrow_mut() = Some(Rc::clone(&arrivals));
    let level = index + 1;
    let mut next = shard.delay.progress.borrow().get(&level).copied().unwrap_or(0);
    while !shard.is_draining() {
        let (records, after) = read_level(&shard, &queue, next).await;
        if records.is_empty() {
            if after != next {
                next = after;
                continue;
            }
            arrivals.notified().await;
            continue;
        }
        next = deliver_due(&shard, level, &records, next, delay).await;
    }
}

/// The records from `from` on and where to go on after them; skips what retention has removed.
async fn read_level(shard: &Rc<Shard>, queue: &Rc<Queue>, from: i64) -> (Vec<u8>, i64) {
    let Some(number) = queue.number() else { return (Vec::new(), from) };
    let limits = ReadLimits {
        messages_max: DELIVERIES_AT_ONCE,
        bytes_max: BATCH_BYTES,
        scan_max: DELIVERIES_AT_ONCE,
        cold_messages_max: DELIVERIES_AT_ONCE,
        cold_bytes_max: BATCH_BYTES,
    };
    let mut records = Vec::new();
    let at = QueueOffset(from);
    let read = match shard.engine.read_cached(number, at, &limits, |_| true, &mut records) {
        CachedRead::Done(read) => read,
        CachedRead::Cold => match Rc::clone(&shard.engine).read(number, at, limits, |_| true).await {
            Ok((read, bytes)) => {
                records = bytes;
                read
            }
            Err(error) => {
                tracing::error!(%error, "a delay level cannot be read; trying again");
                executor::sleep(Duration::from_millis(RETRY_MS)).await;
                return (Vec::new(), from);
            }
        },
    };
    let after = match read {
        Read::Found { next, .. } | Read::NoneMatched { next } | Read::Removed { next } => next.0,
        Read::TooSmall { min } => min.0,
        Read::TooLarge { max } => max.0,
        Read::AtEnd | Read::NoSuchQueue => from,
    };
    (records, after)
}

/// Delivers records in due order, many side by side; returns the offset of the first not delivered.
async fn deliver_due(shard: &Rc<Shard>, level: i32, records: &[u8], mut next: i64, delay: Duration) -> i64 {
    let mut under_way = Vec::new();
    for record in record::records(records) {
        let Ok(record) = record else { break };
        let due_ms = record.store_timestamp() + delay.as_millis() as i64;
        let wait_ms = due_ms - store::wall_clock_ms();
        if shard.is_draining() {
            break;
        }
        if wait_ms > 0 {
            if !under_way.is_empty() {
                break;
            }
            // A clock that jumps back must not hold a level for longer than its delay.
            executor::sleep(Duration::from_millis(wait_ms as u64).min(delay)).await;
        }
        let message = due_message(Message::of_record(&record));
        let delivery = executor::Oneshot::new();
        let (shard, done) = (Rc::clone(shard), Rc::clone(&delivery));
        let offset = record.queue_offset();
        executor::spawn(async move {
            deliver(&shard, message).await;
            done.set(());
        });
        under_way.push((offset, delivery));
    }
    if under_way.is_empty() {
        return next;
    }
    let delivering = &shard.delay.delivering;
    delivering.set(delivering.get() + 1);
    for (offset, delivery) in under_way {
        delivery.take().await;
        next = offset + 1;
    }
    shard.delay.advance(level, next);
    delivering.set(delivering.get() - 1);
    next
}

/// Tries until the message is stored; a topic that is gone takes its delayed messages along.
async fn deliver(shard: &Rc<Shard>, message: Message) {
    loop {
        match store::store_now(shard, message.clone()).await {
            StoreOutcome::Stored { .. } => return,
            StoreOutcome::Refused { remark, code } => {
                // The other shard may just not know the topic yet; it is gone when this one does not either.
                let is_gone =
                    code == ResponseCode::TOPIC_NOT_EXIST && shard.metadata.topic(&message.topic).is_none();
                if is_gone || code == ResponseCode::MESSAGE_ILLEGAL {
                    tracing::warn!(topic = message.topic, remark, "a delayed message is dropped");
                    return;
                }
                tracing::warn!(topic = message.topic, remark, "a delayed message cannot be delivered yet");
                executor::sleep(Duration::from_millis(RETRY_MS)).await;
            }
        }
    }
}

/// The message as its consumers see it. DELAY stays in its properties, as in Java, and has had its effect.
fn due_message(mut message: Message) -> Message {
    if let Some(topic) = message.property("REAL_TOPIC").map(str::to_owned) {
        message.topic = topic;
    }
    message.queue = message.property("REAL_QID").and_then(|queue| queue.parse().ok()).unwrap_or(0);
    message
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn a_due_message_returns_to_its_topic() {
        let message = Message {
            topic: topic_name::SCHEDULE.into(),
            queue: 2,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 0,
            born_host: SocketAddr::from(([127, 0, 0, 1], 1)),
            reconsume_times: 1,
            prepared_transaction_offset: 0,
            properties: b"DELAY\x013\x02REAL_TOPIC\x01%RETRY%g\x02REAL_QID\x010\x02UNIQ_KEY\x01K\x02"
                .to_vec(),
            body: vec![1],
        };
        let due = due_message(message);
        assert_eq!((due.topic.as_str(), due.queue), ("%RETRY%g", 0));
        assert_eq!(due.property("DELAY"), Some("3"), "its consumer reads the level");
        assert_eq!(due.property("UNIQ_KEY"), Some("K"), "clients recognise duplicates by it");
        assert_eq!(due.property("REAL_TOPIC"), Some("%RETRY%g"));
    }
}
