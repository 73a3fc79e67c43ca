//! Ending a transaction: Java's checks, then the op record and, for a commit, the message itself.
//!
//! The op record goes first. Both are appended without a pause and into one segment, so a crash between them leaves an
//! op record that ends the log; the next start then appends the message before anything else (`recovery`).

use std::rc::Rc;

use rmq_engine::{CachedRead, LogPosition, QueueOffset, ReadLimits};
use rmq_protocol::record::RecordRef;
use rmq_protocol::response_code::ResponseCode;

use super::half::Half;
use super::op::{self, Op};
use super::outcomes::{Fate, Outcome};
use super::{HalfQueue, check};
use crate::broker::group_commit::Completion;
use crate::broker::message::{Message, StoreOutcome};
use crate::broker::refusal::Refusal;
use crate::broker::store;
use crate::control::limits::QUEUES_PER_TOPIC_MAX;
use crate::control::names::HALF_TOPIC;
use crate::handler::StateGuard;
use crate::shard::{Shard, count};

/// What a producer asks for with END_TRANSACTION.
pub struct End {
    pub group: String,
    pub half_offset: i64,
    pub physical_offset: i64,
    pub outcome: Outcome,
    pub from_check: bool,
}

/// Where the end of a transaction leads.
pub enum Ending {
    /// Done once the log is acknowledged up to here.
    At(LogPosition),
    /// The message belongs to another shard, since the number of shards has changed: `relay` brings it there.
    Elsewhere(Relay),
}

pub struct Relay {
    queue: Rc<HalfQueue>,
    origin: i64,
    message: Message,
}

/// Ends a transaction whose half message lies in memory where the request says. `None`: look it up by its place.
pub fn end_cached(shard: &Shard, end: &End) -> Option<Result<Ending, Refusal>> {
    let queue = shard.transactions.own();
    let number = queue.places(shard).ok()?.half.number()?;
    let one = ReadLimits { messages_max: 1, scan_max: 1, ..ReadLimits::default() };
    let mut bytes = shard.scratch.records.take();
    bytes.clear();
    let read = shard.engine.read_cached(number, QueueOffset(end.half_offset), &one, |_| true, &mut bytes);
    let ended = match (read, RecordRef::parse(&bytes)) {
        (CachedRead::Done(_), Ok(record)) if record.physical_offset() == end.physical_offset => {
            Some(end_one(shard, &queue, end, Half { record }))
        }
        _ => None,
    };
    *shard.scratch.records.borrow_mut() = bytes;
    ended
}

/// The same for any record. `Err(Some(shard))`: that shard owns its half queue.
pub fn end_by_place(
    shard: &Shard,
    end: &End,
    record: RecordRef<'_>,
) -> Result<Result<Ending, Refusal>, usize> {
    if record.topic() != HALF_TOPIC {
        return Ok(Err(not_found()));
    }
    let owner = shard.ownership.owner(HALF_TOPIC, record.queue_id());
    if owner != shard.index {
        return Err(owner);
    }
    Ok(end_one(shard, &shard.transactions.queue(record.queue_id()), end, Half { record }))
}

pub fn not_found() -> Refusal {
    Refusal::new(ResponseCode::SYSTEM_ERROR, "Find prepared transaction message failed")
}

fn end_one(shard: &Shard, queue: &Rc<HalfQueue>, end: &End, half: Half<'_>) -> Result<Ending, Refusal> {
    let wrong = |remark: &'static str| Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark));
    let record = &half.record;
    if !end.from_check && is_too_late(shard, half) {
        return Err(Refusal::new(
            ResponseCode::ILLEGAL_OPERATION,
            "the time that the message keeps for its producer is over; wait for the check",
        ));
    }
    if half.producer_group() != Some(&end.group) {
        return wrong("The producer group wrong");
    }
    if record.queue_offset() != end.half_offset {
        return wrong("The transaction state table offset wrong");
    }
    if record.physical_offset() != end.physical_offset {
        return wrong("The commit log offset wrong");
    }
    let origin = half.origin();
    let fate = queue.outcomes.borrow().fate(origin);
    match fate {
        Fate::Open | Fate::Ended(Outcome::SetAside) => {}
        // The first end may still be on its way to the disk.
        Fate::Ended(outcome) if outcome == end.outcome => return Ok(Ending::At(shard.engine.appended())),
        Fate::Ended(Outcome::Committed) => return wrong("the transaction has been committed before"),
        Fate::Ended(_) => return wrong("the transaction has been rolled back before"),
        Fate::Forgotten => return wrong("the transaction ended long ago; how is no longer known"),
    }
    let ending = match end.outcome {
        Outcome::Committed => commit(shard, queue, half, origin)?,
        outcome => {
            let _state = StateGuard::enter();
            Ending::At(queue.append_op(shard, origin, Some(outcome), record.physical_offset())?.end)
        }
    };
    let counter = match end.outcome {
        Outcome::Committed => &shard.counters.transactions_committed,
        _ => &shard.counters.transactions_rolled_back,
    };
    count(counter, 1);
    Ok(ending)
}

/// Producers that answer a check may do so at any time.
fn is_too_late(shard: &Shard, half: Half<'_>) -> bool {
    let timeout_ms = shard.settings.transactions.timeout_ms;
    let immunity_ms = half.immunity_ms(timeout_ms).map(|immunity_ms| immunity_ms.max(timeout_ms));
    immunity_ms.is_some_and(|immunity_ms| check::age_ms(half) > immunity_ms)
}

fn commit(shard: &Shard, queue: &Rc<HalfQueue>, half: Half<'_>, origin: i64) -> Result<Ending, Refusal> {
    let damaged =
        || Refusal::new(ResponseCode::SYSTEM_ERROR, "the half message does not say where it belongs");
    let (name, id) = (half.real_topic().ok_or_else(damaged)?, half.real_queue().ok_or_else(damaged)?);
    let Some(topic) = shard.metadata.topic(name).filter(|_| (0..QUEUES_PER_TOPIC_MAX).contains(&id)) else {
        return Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, format!("topic[{name}] not exist")));
    };
    let message = half.committed();
    let half_at = half.record.physical_offset();
    let outcome = Some(Outcome::Committed);
    if shard.ownership.owner(name, id) != shard.index {
        // Nobody else may end it while the message is on its way.
        queue.outcomes.borrow_mut().record(origin, outcome, i64::MAX);
        let message = message.to_message(name, id);
        return Ok(Ending::Elsewhere(Relay { queue: Rc::clone(queue), origin, message }));
    }
    let places = queue.places(shard)?;
    let target = shard.queue(&topic, id);
    shard.declared(&target)?;
    shard.declared(&places.op)?;
    let text = Op::End { half: origin, outcome }.text();
    let op = text.draft(half_at, shard.settings.store_host);
    let lens = [
        store::record_len(shard, &places.op_topic, &places.op, &op),
        store::record_len(shard, &topic, &target, &message),
    ];
    let _state = StateGuard::enter();
    shard.engine.reserve(&lens)?;
    let op = store::append(shard, &places.op_topic, &places.op, &op)?;
    let stored = store::append(shard, &topic, &target, &message)
        .expect("room was reserved, and nothing else has been appended since");
    queue.outcomes.borrow_mut().record(origin, outcome, op.queue_offset);
    Ok(Ending::At(stored.end))
}

/// Stores a committed message in another shard, then what ends its transaction here. Two logs know no order: a crash
/// between the two leaves the transaction open, and its message may come twice.
pub async fn relay(shard: &Rc<Shard>, relay: Relay) -> Result<(), Refusal> {
    let Relay { queue, origin, message } = relay;
    if let StoreOutcome::Refused { code, remark } = store::store_now(shard, message).await {
        queue.outcomes.borrow_mut().record(origin, None, i64::MAX);
        return Err(Refusal::new(code, remark));
    }
    let stored = queue.append_op(shard, origin, Some(Outcome::Committed), op::DONE)?;
    match shard.acknowledged(stored.end).await {
        Completion::Acknowledged => Ok(()),
        Completion::Failed => Err(Refusal::new(ResponseCode::SYSTEM_ERROR, "the commit log stopped")),
    }
}
