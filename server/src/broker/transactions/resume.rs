//! Taking up again a transaction that was set aside.

use std::rc::Rc;

use rmq_engine::QueueOffset;
use rmq_protocol::properties::name;
use rmq_protocol::record::RecordRef;
use rmq_protocol::response_code::ResponseCode;

use super::HalfQueue;
use super::half::Half;
use super::op::{self, Op};
use super::outcomes::{Fate, Outcome};
use super::reading::read_on;
use crate::broker::group_commit::Completion;
use crate::broker::message::Message;
use crate::broker::refusal::Refusal;
use crate::broker::store::{self, Draft};
use crate::handler::StateGuard;
use crate::shard::Shard;

/// Stores the half message again, never checked so far. It stays the same transaction as long as the broker remembers
/// that, so that a producer that ends it by its old place and an answer to a check are one end.
pub async fn resume(shard: &Rc<Shard>, set_aside: &RecordRef<'_>) -> Result<(), Refusal> {
    let queue = shard.transactions.own();
    let places = queue.places(shard)?;
    let mut message = Message::of_record(set_aside);
    message.set_property(name::TRANSACTION_CHECK_TIMES, "0");
    let origin = known_origin(shard, &queue, set_aside).await?;
    if origin.is_none() {
        message.remove_property(name::TRANSACTION_PREPARED_QUEUE_OFFSET);
    }
    let text = origin.map(|half| Op::End { half, outcome: None }.text());
    let copy = Draft::of_message(&message);
    store::check_size(&shard.settings, &copy, 0)?;
    let end = {
        let _state = StateGuard::enter();
        let mut lens = vec![store::record_len(shard, &places.half_topic, &places.half, &copy)];
        let op = text.as_ref().map(|text| text.draft(op::DONE, shard.settings.store_host));
        lens.extend(op.iter().map(|op| store::record_len(shard, &places.op_topic, &places.op, op)));
        shard.declared(&places.half)?;
        shard.declared(&places.op)?;
        shard.engine.reserve(&lens)?;
        let stored = store::append(shard, &places.half_topic, &places.half, &copy)?;
        match (op, origin) {
            (Some(op), Some(origin)) => {
                let op = store::append(shard, &places.op_topic, &places.op, &op)?;
                queue.outcomes.borrow_mut().record(origin, None, op.queue_offset);
                queue.progress.borrow_mut().renewed(origin);
                op.end
            }
            _ => stored.end,
        }
    };
    match shard.acknowledged(end).await {
        Completion::Acknowledged => Ok(()),
        Completion::Failed => Err(Refusal::new(ResponseCode::SYSTEM_ERROR, "the commit log stopped")),
    }
}

/// Where the transaction began, if that is still known. `Err`: it has ended, or is open as it is.
async fn known_origin(
    shard: &Rc<Shard>,
    queue: &HalfQueue,
    set_aside: &RecordRef<'_>,
) -> Result<Option<i64>, Refusal> {
    let number = queue.places(shard)?.half.number();
    let origin = set_aside.properties().find(name::TRANSACTION_PREPARED_QUEUE_OFFSET);
    let (Some(number), Some(origin)) = (number, origin.and_then(|origin| origin.parse::<i64>().ok())) else {
        return Ok(None);
    };
    if !(shard.engine.min_offset(number)..shard.engine.max_offset(number)).contains(&QueueOffset(origin)) {
        return Ok(None);
    }
    let failed = |error: rmq_engine::Error| Refusal::new(ResponseCode::SYSTEM_ERROR, error.to_string());
    let (bytes, _) = read_on(&shard.engine, number, origin, 1).await.map_err(failed)?;
    let Ok(first) = RecordRef::parse(&bytes) else { return Ok(None) };
    let key = |record: &RecordRef<'_>| record.properties().find(name::UNIQ_KEY).map(str::to_owned);
    // With another number of shards the offset may be that of somebody else.
    if (Half { record: first }).origin() != origin || key(&first) != key(set_aside) {
        return Ok(None);
    }
    let is = |what: &'static str| Refusal::new(ResponseCode::SYSTEM_ERROR, what);
    match queue.outcomes.borrow().fate(origin) {
        Fate::Ended(Outcome::SetAside) => Ok(Some(origin)),
        Fate::Ended(Outcome::Committed) => Err(is("the transaction has been committed since")),
        Fate::Ended(Outcome::RolledBack) => Err(is("the transaction has been rolled back since")),
        Fate::Open => Err(is("the transaction is not set aside; its producer is being asked")),
        Fate::Forgotten => Ok(None),
    }
}
