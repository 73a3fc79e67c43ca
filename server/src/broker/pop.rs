//! POP: the broker hands out messages of any queue, and takes them back when they are not acknowledged in time.
//!
//! The state of a queue lives with the queue's owner. A pop of one queue is served there, one of all queues by
//! the shard of its connection, which asks the owners in turn (`round`). What is handed out is written down as a
//! checkpoint before the answer leaves (`revive_log`); what is not acknowledged when its time is up is stored again in
//! the group's retry topic (`revive`). Ordered pops block their queue instead (`order`).
//!
//! Must hold: a message that the group's durable offset has passed is acknowledged, in an open checkpoint, or in
//! the retry topic.

pub mod checkpoint;
pub mod checkpoints;
pub mod names;
pub mod order;
pub mod queue;
pub mod receipt;
pub mod request;
pub mod revive;
pub mod revive_log;
pub mod round;
pub mod settings;
pub mod visit;
pub mod waiters;
pub mod watches;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use rmq_engine::LogPosition;
use rustc_hash::FxHashMap;

use self::checkpoints::Checkpoints;
use self::queue::{PopQueue, PopQueues};
use self::request::{Acks, PopAnswer, PopAsk};
use self::waiters::{WaitKey, Waiters};
use self::watches::Watches;
use crate::control::names as control_names;
use crate::limits::{POP_ACKS_UNRECORDED_MAX, POP_CHECKPOINTS_MAX};
use crate::mesh::MeshMessage;
use crate::net::executor::{Notify, Oneshot};
use crate::ownership::Ownership;
use crate::settings::Settings;
use crate::shard::Shard;

/// What one shard keeps of popping.
pub struct Pop {
    pub revive_topic: String,
    /// The shard's own queue of that topic.
    pub revive_queue: i32,
    pub queues: PopQueues,
    pub checkpoints: RefCell<Checkpoints>,
    pub waiters: Waiters,
    pub watches: Watches,
    /// Wakes the task that revives: there is a checkpoint, or room for another attempt.
    pub work: Rc<Notify>,
    /// Where the next replay begins, once the log has acknowledged the position.
    pub replay_from: Cell<Option<(i64, LogPosition)>>,
    /// The revive log could not be read at the start.
    pub is_broken: Cell<bool>,
    pub scratch: RefCell<Vec<u8>>,
    started: Cell<bool>,
    reviving: Cell<usize>,
    unsettled: RefCell<VecDeque<Unsettled>>,
    arrived: RefCell<Vec<Arc<WaitKey>>>,
    asked: RefCell<FxHashMap<u64, Rc<Oneshot<PopAnswer>>>>,
    next_ticket: Cell<u64>,
    next_revive_queue: Cell<i32>,
    /// When ordered queues become free, by the clock.
    order_ends: RefCell<std::collections::BTreeMap<(i64, u64), Rc<PopQueue>>>,
}

/// The group goes on at `next` when the log has acknowledged its checkpoint.
struct Unsettled {
    end: LogPosition,
    queue: Rc<PopQueue>,
    rewinds: u32,
    next: i64,
}

impl Pop {
    pub fn new(settings: &Settings, ownership: Ownership, index: usize) -> Self {
        let revive_topic = control_names::revive_topic(&settings.cluster_name);
        Self {
            revive_queue: revive_log::own_queue(ownership, &revive_topic, index),
            revive_topic,
            queues: PopQueues::default(),
            checkpoints: RefCell::default(),
            waiters: Waiters::default(),
            watches: Watches::default(),
            work: Notify::new(),
            replay_from: Cell::new(None),
            is_broken: Cell::new(false),
            scratch: RefCell::default(),
            started: Cell::new(false),
            reviving: Cell::new(0),
            unsettled: RefCell::default(),
            arrived: RefCell::default(),
            asked: RefCell::default(),
            next_ticket: Cell::new(0),
            next_revive_queue: Cell::new(0),
            order_ends: RefCell::default(),
        }
    }

    /// No more can be handed out until something is acknowledged or due.
    pub fn is_full(&self) -> bool {
        self.checkpoints.borrow().len() >= POP_CHECKPOINTS_MAX
    }

    pub fn next_revive_queue(&self, queues: i32) -> i32 {
        let queue = self.next_revive_queue.get();
        self.next_revive_queue.set((queue + 1) % queues);
        queue % queues
    }

    /// A waiting request of this shard shall look again.
    pub fn arrived_here(&self, key: Arc<WaitKey>) {
        self.arrived.borrow_mut().push(key);
    }

    pub fn take_arrived(&self) -> Vec<Arc<WaitKey>> {
        std::mem::take(&mut *self.arrived.borrow_mut())
    }

    pub fn has_arrived(&self) -> bool {
        !self.arrived.borrow().is_empty()
    }

    /// The group goes on at `next`: at once when nothing is on its way, else behind that.
    fn handed_out(&self, shard: &Shard, queue: &Rc<PopQueue>, next: i64, end: LogPosition) {
        if shard.engine.acknowledged() >= end && !queue.has_unsettled() {
            shard.offsets.borrow_mut().commit(&queue.group, &queue.topic, queue.id, next);
            return;
        }
        queue.handed_out(next);
        let rewinds = queue.rewinds.get();
        self.unsettled.borrow_mut().push_back(Unsettled { end, queue: Rc::clone(queue), rewinds, next });
    }

    /// The log has acknowledged everything up to here: offsets follow the checkpoints that are safe now.
    pub fn log_acknowledged(&self, shard: &Shard, position: LogPosition) {
        let mut unsettled = self.unsettled.borrow_mut();
        while let Some(first) = unsettled.front()
            && first.end <= position
            && let Some(Unsettled { queue, rewinds, next, .. }) = unsettled.pop_front()
        {
            queue.settled(next);
            if queue.rewinds.get() == rewinds {
                shard.offsets.borrow_mut().commit(&queue.group, &queue.topic, queue.id, next);
            }
        }
    }

    /// Asks another shard.
    async fn ask(&self, shard: &Shard, to: usize, ask: PopAsk) -> PopAnswer {
        let ticket = self.next_ticket.get();
        self.next_ticket.set(ticket + 1);
        let answer = Oneshot::new();
        self.asked.borrow_mut().insert(ticket, Rc::clone(&answer));
        shard.forwarding.send(to, MeshMessage::PopAsk { from: shard.index, ticket, ask });
        answer.take().await
    }

    pub fn answered(&self, ticket: u64, answer: PopAnswer) {
        if let Some(asked) = self.asked.borrow_mut().remove(&ticket) {
            asked.set(answer);
        }
    }
}

/// Begins once the topics are known: finds what was popped before, then revives. Others wait for `done`.
pub fn start(shard: &Rc<Shard>, done: tokio::sync::oneshot::Sender<()>) {
    if shard.pop.started.replace(true) {
        let _ = done.send(());
        return;
    }
    let shard = Rc::clone(shard);
    crate::net::executor::spawn(async move {
        revive_log::replay(&shard).await;
        let _ = done.send(());
        revive::run(shard).await;
    });
}

/// Acknowledges messages of this shard's queues. The error is a remark.
pub fn acknowledge(shard: &Shard, acks: &Acks) -> Result<(), String> {
    let Some(queue) = shard.pop.queues.known(&acks.group, &acks.topic, acks.queue) else { return Ok(()) };
    let mut outcome = Ok(());
    for &offset in &acks.offsets {
        if acks.is_ordered {
            outcome = outcome.and(visit::ack_ordered(shard, &queue, offset, acks.pop_time));
        } else {
            shard.pop.checkpoints.borrow_mut().ack(&queue, acks.start, acks.pop_time, offset);
        }
    }
    if shard.pop.checkpoints.borrow().changed_len() >= POP_ACKS_UNRECORDED_MAX {
        revive_log::record_acks(shard);
    }
    outcome
}

/// Acknowledges messages wherever their queues live; answers when all are noted.
pub async fn acknowledge_all(shard: &Rc<Shard>, all: Vec<Acks>) -> Result<(), String> {
    let mut by_owner: Vec<Vec<Acks>> = (0..shard.ownership.shards()).map(|_| Vec::new()).collect();
    for acks in all {
        by_owner[shard.ownership.owner(&acks.topic, acks.queue)].push(acks);
    }
    let mut outcome = Ok(());
    for (owner, acks) in by_owner.into_iter().enumerate() {
        if owner == shard.index {
            for acks in &acks {
                outcome = outcome.and(acknowledge(shard, acks));
            }
        } else if !acks.is_empty()
            && let PopAnswer::Acks(Some(remark)) = shard.pop.ask(shard, owner, PopAsk::Acks(acks)).await
        {
            outcome = Err(remark);
        }
    }
    outcome
}

/// A topic or group is gone: what was popped of it does not come back.
pub fn forget(shard: &Shard, is_gone: impl Fn(&str, &str) -> bool) {
    for queue in shard.pop.queues.forget(is_gone) {
        queue.rewound();
        shard.pop.checkpoints.borrow_mut().close_all_of(&queue);
    }
}

/// How many pops wait at this shard.
pub fn held(shard: &Shard, topic: &str, group: &str, queue: i32) -> usize {
    let key = |is_ordered| {
        let (topic, group) = (topic.to_owned(), group.to_owned());
        WaitKey { topic, group, queue, is_ordered, only_looks: false }
    };
    shard.pop.waiters.held(&key(false)) + shard.pop.waiters.held(&key(true))
}

pub async fn held_everywhere(shard: &Rc<Shard>, topic: &str, group: &str, queue: i32) -> usize {
    let mut sum = held(shard, topic, group, queue);
    for other in (0..shard.ownership.shards()).filter(|&other| other != shard.index) {
        let ask = PopAsk::Held { topic: topic.to_owned(), group: group.to_owned(), queue };
        if let PopAnswer::Held(held) = shard.pop.ask(shard, other, ask).await {
            sum += held;
        }
    }
    sum
}
