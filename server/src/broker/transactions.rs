//! Transactions: half messages that wait for their producers' decision, and the decisions.
//!
//! A half message waits in a queue of RMQ_SYS_TRANS_HALF_TOPIC of the shard that owns its real queue, so that its
//! end is local: the op record and the committed message are appended to one log, one behind the other. What is
//! open lies in the log; memory keeps two bits for each transaction (`outcomes`).
//!
//! Invariants: a transaction is known by the offset of its first half message; who ends it a second time changes
//! nothing; a committed message is in its topic exactly once, whatever moment the process is killed at.
//! Read `half` for the message, `end` for the decision, `check` for asking producers, `recovery` for the start.

mod check;
mod end;
pub mod half;
mod op;
pub mod outcomes;
mod progress;
mod reading;
mod recovery;
mod resume;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use rmq_protocol::properties::PROPERTIES_LEN_MAX;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::sys_flag;

use self::op::Op;
use self::outcomes::{Outcome, Outcomes};
use self::progress::Progress;
use super::metadata::{Queue, Topic};
use super::refusal::Refusal;
use super::store::{self, Draft, Seen, Stored};
use crate::control::names::{HALF_OP_TOPIC, HALF_TOPIC};
use crate::ownership::Ownership;
use crate::shard::Shard;

pub use check::run as check_regularly;
pub use end::{End, Ending, end_by_place, end_cached, not_found, relay};
pub use recovery::recover;
pub use resume::resume;

/// Whose consumer offsets say how far the half and op queues have been checked.
const CHECK_GROUP: &str = "CID_RMQ_SYS_TRANS";

/// The half queues of one shard: its own, and those it took over from an earlier number of shards.
pub struct Transactions {
    own: i32,
    queues: RefCell<BTreeMap<i32, Rc<HalfQueue>>>,
    /// Ends that wait for a read.
    pub cold_ends: Cell<usize>,
}

/// A half queue and its op queue.
pub struct HalfQueue {
    pub id: i32,
    pub outcomes: RefCell<Outcomes>,
    progress: RefCell<Progress>,
    places: OnceCell<Places>,
}

/// Where a half queue and its op queue are; known once the topics are.
struct Places {
    half_topic: Rc<Topic>,
    half: Rc<Queue>,
    op_topic: Rc<Topic>,
    op: Rc<Queue>,
}

impl Transactions {
    pub fn new(ownership: Ownership, shard: usize) -> Self {
        Self { own: ownership.half_queue(shard), queues: RefCell::default(), cold_ends: Cell::new(0) }
    }

    /// The half queue of this id; this shard owns it.
    pub fn queue(&self, id: i32) -> Rc<HalfQueue> {
        let mut queues = self.queues.borrow_mut();
        Rc::clone(queues.entry(id).or_insert_with(|| {
            Rc::new(HalfQueue {
                id,
                outcomes: RefCell::default(),
                progress: RefCell::default(),
                places: OnceCell::new(),
            })
        }))
    }

    fn own(&self) -> Rc<HalfQueue> {
        self.queue(self.own)
    }

    pub fn queues(&self) -> Vec<Rc<HalfQueue>> {
        self.queues.borrow().values().cloned().collect()
    }
}

impl HalfQueue {
    fn places(&self, shard: &Shard) -> Result<&Places, Refusal> {
        if let Some(places) = self.places.get() {
            return Ok(places);
        }
        let topic = |name: &'static str| {
            let missing = || Refusal::new(ResponseCode::TOPIC_NOT_EXIST, format!("topic[{name}] not exist"));
            shard.metadata.topic(name).ok_or_else(missing)
        };
        let (half_topic, op_topic) = (topic(HALF_TOPIC)?, topic(HALF_OP_TOPIC)?);
        let (half, op) = (shard.queue(&half_topic, self.id), shard.queue(&op_topic, self.id));
        Ok(self.places.get_or_init(|| Places { half_topic, half, op_topic, op }))
    }

    /// Appends an outcome and remembers it. `half_at`: physical offset of the half message, or `op::DONE`.
    fn append_op(
        &self,
        shard: &Shard,
        half: i64,
        outcome: Option<Outcome>,
        half_at: i64,
    ) -> Result<Stored, Refusal> {
        let places = self.places(shard)?;
        let text = Op::End { half, outcome }.text();
        let op = text.draft(half_at, shard.settings.store_host);
        let stored = store::append(shard, &places.op_topic, &places.op, &op)?;
        self.outcomes.borrow_mut().record(half, outcome, stored.queue_offset);
        Ok(stored)
    }
}

/// Stores a producer's half message. `draft` is the message as an ordinary send would store it in `queue`.
pub fn prepare(
    shard: &Shard,
    topic: &Topic,
    queue: &Queue,
    draft: &Draft<'_>,
    seen: &Seen,
) -> Result<Stored, Refusal> {
    if shard.settings.transactions.reject {
        return Err(Refusal::new(
            ResponseCode::NO_PERMISSION,
            format!(
                "the broker[{}] sending transaction message is forbidden",
                shard.settings.store_host.ip().to_canonical()
            ),
        ));
    }
    // Java loses such a message; clients take the delay out before they send.
    if seen.is_timer() || seen.delay_level()? > 0 {
        return Err(Refusal::new(
            ResponseCode::MESSAGE_ILLEGAL,
            "the message is illegal: a half message cannot be delayed",
        ));
    }
    let half_queue = shard.transactions.own();
    let places = half_queue.places(shard)?;
    let next = places.half.number().map_or(0, |number| shard.engine.next_offset(number).0);
    if half_queue.outcomes.borrow().is_full(next) {
        return Err(Refusal::new(
            ResponseCode::SYSTEM_BUSY,
            "[REJECTREQUEST]system busy, start flow control for a while: too many transactions are open",
        ));
    }
    let mut properties = Vec::with_capacity(draft.properties.len() + topic.name.len() + 96);
    properties.extend_from_slice(draft.properties);
    half::add_place(&mut properties, &topic.name, queue.id);
    let half = Draft {
        sys_flag: sys_flag::with_transaction(draft.sys_flag, sys_flag::TRANSACTION_NONE),
        properties: &properties,
        ..*draft
    };
    store::check_size(&shard.settings, &half, 0)?;
    // Else no check could ever get past it.
    if properties.len() + half::RENEWAL_BYTES > PROPERTIES_LEN_MAX {
        return Err(store::too_large(&shard.settings));
    }
    store::append(shard, &places.half_topic, &places.half, &half)
}
