//! Timer messages: delivered at a time of their own choice, up to `timerMaxDelaySec` ahead.
//!
//! A message with TIMER_DELAY_SEC, TIMER_DELAY_MS or TIMER_DELIVER_MS waits in the system topic rmq_sys_wheel_timer,
//! an ordinary durable queue of which each shard has one of its own: the body is stored once, and acknowledged like
//! any other. A wheel indexes such a queue by due time (`wheel`), and stores each message in its own topic when its
//! time has come (`delivery`). A crash brings some back that had been delivered, and loses none.
//!
//! Unlike Java's, which rounds down to `timerPrecisionMs`, this timer delivers at the millisecond that was asked
//! for. What names a tick (TIMER_OUT_MS, recall handles) is rounded as in Java.

pub mod counts;
mod delivery;
mod due;
mod limits;
mod recalled;
mod wheel;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use rmq_protocol::properties::{Properties, push_property};
use rmq_protocol::recall_handle::RecallHandle;
use rmq_protocol::response_code::ResponseCode;

use self::counts::Counts;
use self::due::{Due, DueCode};
pub use self::recalled::recall_key;
use self::wheel::Wheel;
use super::message::{Message, StoreOutcome};
use super::refusal::Refusal;
use super::store::{self, Draft, Stored};
use super::topic_name;
use crate::control::link::TimerStats;
use crate::handler::StateGuard;
use crate::net::executor;
use crate::ownership::Ownership;
use crate::shard::Shard;

/// The timer of one shard.
#[derive(Default)]
pub struct Timer {
    wheels: RefCell<Vec<Rc<Wheel>>>,
    counts: RefCell<Counts>,
    started: Cell<bool>,
    /// Wheels whose tasks run.
    running: Cell<usize>,
}

/// What became of a client's message that asks for a time.
pub enum Accepted {
    /// Its time has come: it is an ordinary message.
    DueNow,
    Waits {
        stored: Stored,
        out_ms: i64,
    },
    /// It takes another one back, on whichever shard that waits.
    Recall(Message),
}

/// Lets a message wait in this shard's queue of the timer's topic.
pub fn accept(shard: &Shard, topic: &str, queue: i32, draft: &Draft<'_>) -> Result<Accepted, Refusal> {
    let now_ms = store::wall_clock_ms();
    let Due::Later { code, out_ms } = due::due(&shard.settings.timer, Properties(draft.properties), now_ms)?
    else {
        return Ok(Accepted::DueNow);
    };
    let mut properties = Vec::with_capacity(draft.properties.len() + topic.len() + 64);
    properties.extend_from_slice(draft.properties);
    add_place(&mut properties, topic, queue, out_ms);
    let waiting =
        Draft { properties: &properties, filter_code: code.0, prepared_transaction_offset: code.0, ..*draft };
    store::check_size(&shard.settings, &waiting, limits::ADDED_PROPERTIES_BYTES)?;
    let home = home_queue(shard.ownership, shard.index);
    if code.is_recall() {
        return Ok(Accepted::Recall(waiting.to_message(topic_name::TIMER, home)));
    }
    let wheel_topic = shard.metadata.topic(topic_name::TIMER).ok_or_else(no_topic)?;
    let wheel_queue = shard.queue(&wheel_topic, home);
    let stored = {
        let _state = StateGuard::enter();
        store::append(shard, &wheel_topic, &wheel_queue, &waiting)?
    };
    shard.timer.counts.borrow_mut().add(topic, 1, now_ms);
    Ok(Accepted::Waits { stored, out_ms })
}

/// The same for a message in the broker's own hands: it is sent to the shard that will deliver it.
pub fn divert(shard: &Shard, message: &mut Message) -> Result<(), Refusal> {
    let properties = Properties(&message.properties);
    let asks = ["TIMER_DELAY_SEC", "TIMER_DELAY_MS", "TIMER_DELIVER_MS"]
        .iter()
        .any(|key| properties.find_bytes(key).is_some());
    if !asks
        || properties.find_bytes("TIMER_OUT_MS").is_some()
        || [topic_name::TIMER, topic_name::SCHEDULE].contains(&message.topic.as_str())
    {
        return Ok(());
    }
    let Due::Later { code, out_ms } = due::due(&shard.settings.timer, properties, store::wall_clock_ms())?
    else {
        return Ok(());
    };
    add_place(&mut message.properties, &message.topic, message.queue, out_ms);
    let owner = shard.ownership.owner(&message.topic, message.queue);
    message.topic = topic_name::TIMER.to_owned();
    message.queue = home_queue(shard.ownership, owner);
    message.prepared_transaction_offset = code.0;
    Ok(())
}

fn add_place(properties: &mut Vec<u8>, topic: &str, queue: i32, out_ms: i64) {
    push_property(properties, "TIMER_OUT_MS", &out_ms.to_string());
    push_property(properties, "REAL_TOPIC", topic);
    push_property(properties, "REAL_QID", &queue.to_string());
}

/// What the engine's index is to know of a message of this topic, in place of the hash of its tag.
pub fn index_code(topic: &str, prepared_transaction_offset: i64) -> Option<i64> {
    (topic == topic_name::TIMER).then_some(prepared_transaction_offset)
}

/// Counts a message that `divert` sent here.
pub fn count_stored(shard: &Shard, message: &Message) {
    if let Some(topic) = message.property("REAL_TOPIC").filter(|_| !is_recall(message)) {
        shard.timer.counts.borrow_mut().add(topic, 1, store::wall_clock_ms());
    }
}

pub fn is_recall(message: &Message) -> bool {
    message.topic == topic_name::TIMER && DueCode(message.prepared_transaction_offset).is_recall()
}

/// Stores a recall on every shard, since only the one where the message waits knows of it.
pub async fn store_recall(shard: &Rc<Shard>, mut message: Message) -> StoreOutcome {
    let mut first = None;
    for index in 0..shard.ownership.shards() {
        message.queue = home_queue(shard.ownership, index);
        match store::store_now(shard, message.clone()).await {
            stored @ StoreOutcome::Stored { .. } => first = first.or(Some(stored)),
            refused => return refused,
        }
    }
    if let Some(topic) = message.property("REAL_TOPIC") {
        shard.timer.counts.borrow_mut().add(topic, -1, store::wall_clock_ms());
    }
    first.expect("there is a shard")
}

/// The handle with which the producer can take the message back.
pub fn recall_handle(shard: &Shard, topic: &str, out_ms: i64, unique_key: &str) -> Option<String> {
    if topic.starts_with(topic_name::RETRY_PREFIX) {
        return None;
    }
    let handle = RecallHandle {
        topic: topic.to_owned(),
        broker_name: shard.settings.broker_name.clone(),
        deliver_ms: (out_ms + 1).to_string(),
        unique_key: unique_key.to_owned(),
    };
    Some(handle.encode())
}

/// The queue of the timer's topic in which messages of a shard's queues wait.
fn home_queue(ownership: Ownership, shard: usize) -> i32 {
    let queues = 0..ownership.shards() as i32;
    let mut own = queues.filter(|&queue| ownership.owner(topic_name::TIMER, queue) == shard);
    own.next().expect("neighbouring queues go to different shards")
}

fn no_topic() -> Refusal {
    Refusal::new(ResponseCode::TOPIC_NOT_EXIST, format!("topic[{}] not exist", topic_name::TIMER))
}

/// Starts a wheel for each queue of the timer that this shard owns: its own, and those of earlier starts with
/// more shards.
pub fn start_owned(shard: &Rc<Shard>) {
    if !shard.settings.timer.enabled
        || shard.metadata.topic(topic_name::TIMER).is_none()
        || shard.timer.started.replace(true)
    {
        return;
    }
    let mut queues = vec![home_queue(shard.ownership, shard.index)];
    for (_, name) in shard.engine.queues() {
        if name.topic == topic_name::TIMER && !queues.contains(&(name.queue as i32)) {
            queues.push(name.queue as i32);
        }
    }
    for queue in queues {
        let running = &shard.timer.running;
        running.set(running.get() + 1);
        let shard = Rc::clone(shard);
        executor::spawn_reader(async move {
            wheel::run(&shard, queue).await;
            let running = &shard.timer.running;
            running.set(running.get() - 1);
        });
    }
}

impl Timer {
    /// Messages that are due wait for longer than usual. What retention would delete may be among them.
    pub fn is_behind(&self) -> bool {
        let limit_ms = store::wall_clock_ms() - BEHIND_MS;
        let wheels = self.wheels.borrow();
        wheels.len() < self.running.get() || wheels.iter().any(|wheel| wheel.read_ms() < limit_ms)
    }

    /// Ends deliveries and writes down how far they came.
    pub async fn close(&self) {
        let wheels = self.wheels.borrow().clone();
        for _ in 0..CLOSE_LIMIT_MS {
            if self.running.get() == 0 {
                break;
            }
            wheels.iter().for_each(|wheel| wheel.arrivals.notify());
            executor::sleep(Duration::from_millis(1)).await;
        }
        for wheel in wheels {
            wheel.close(self).await;
        }
    }

    /// The notes of a wheel's checkpoint. Counts belong to the shard; its first wheel keeps them.
    fn notes(&self, wheel: &Wheel) -> Vec<u8> {
        let is_first =
            self.wheels.borrow().first().is_some_and(|first| std::ptr::eq(Rc::as_ptr(first), wheel));
        if is_first { self.counts.borrow().to_notes() } else { Vec::new() }
    }
}

/// What tools ask about the timer of this shard.
pub fn stats(shard: &Shard) -> TimerStats {
    let wheels = shard.timer.wheels.borrow();
    let mut stats = TimerStats { read_ms: store::wall_clock_ms(), ..TimerStats::default() };
    for wheel in wheels.iter() {
        wheel.add_to(shard, &mut stats);
    }
    stats.counts = shard.timer.counts.borrow().rows();
    stats
}

const BEHIND_MS: i64 = 10_000;
/// Longest wait of a stop for deliveries that are under way.
const CLOSE_LIMIT_MS: u64 = 2_000;
