//! END_TRANSACTION (37).

use std::rc::Rc;

use rmq_engine::PhysicalOffset;
use rmq_protocol::frame::Frame;
use rmq_protocol::headers::EndTransactionHeader;
use rmq_protocol::record::RecordRef;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::sys_flag;
use rmq_protocol::writer::FrameWriter;

use super::{Handled, Origin, text, to_shard, write_refusal};
use crate::answers::ReplyTo;
use crate::broker::group_commit::Completion;
use crate::broker::refusal::Refusal;
use crate::broker::store;
use crate::broker::transactions::outcomes::Outcome;
use crate::broker::transactions::{self, End, Ending};
use crate::forwarding::Lasting;
use crate::limits::COLD_ENDS_WAITING_MAX;
use crate::net::executor;
use crate::shard::Shard;

/// Handled on the shard in whose log the half message lies.
pub fn end(shard: &Rc<Shard>, origin: &Origin<'_>, frame: &Frame<'_>) -> Result<Handled, Refusal> {
    let header = EndTransactionHeader::decode(&frame.header.fields)?;
    let outcome = match header.commit_or_rollback {
        sys_flag::TRANSACTION_COMMIT => Outcome::Committed,
        sys_flag::TRANSACTION_ROLLBACK => Outcome::RolledBack,
        // The producer does not know yet. Java answers nothing, and clients wait for nothing.
        sys_flag::TRANSACTION_NONE => return Ok(Handled::Done),
        _ => return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, "commitOrRollback field wrong")),
    };
    if origin.local.is_some()
        && shard.ownership.shards() > 1
        && let Some(owner) = shard.engine.shard_of(PhysicalOffset(header.commit_log_offset))
        && let Some(handled) = to_shard(shard, origin, &frame.header, owner)
    {
        return Ok(handled);
    }
    if shard.is_draining() {
        return Err(Refusal::new(
            ResponseCode::SERVICE_NOT_AVAILABLE,
            "service not available now: the broker is shutting down",
        ));
    }
    let end = End {
        group: header.producer_group.map(|group| text(group).into_owned()).unwrap_or_default(),
        half_offset: header.half_queue_offset,
        physical_offset: header.commit_log_offset,
        outcome,
        from_check: header.from_check,
    };
    let to = ReplyTo::of(origin.connection, &frame.header);
    match transactions::end_cached(shard, &end) {
        // Ended before, and known to be: no group is on its way that would bring the answer along.
        Some(Ok(Ending::At(position))) if shard.engine.acknowledged() >= position => {
            shard.answers.now(&to, |out| write_ended(out, &to));
            Ok(Handled::Done)
        }
        Some(Ok(Ending::At(position))) => {
            shard.answer_when_acknowledged(position, to, |out| write_ended(out, &to));
            Ok(Handled::Done)
        }
        Some(Err(refusal)) => Err(refusal),
        ending => end_later(shard, origin, to, end, ending.and_then(Result::ok)),
    }
}

fn write_ended(out: &mut Vec<u8>, to: &ReplyTo) {
    FrameWriter::response(out, to.codec, ResponseCode::SUCCESS, to.opaque).finish();
}

/// The half message has to be read, or its message brought elsewhere.
fn end_later(
    shard: &Rc<Shard>,
    origin: &Origin<'_>,
    to: ReplyTo,
    end: End,
    ending: Option<Ending>,
) -> Result<Handled, Refusal> {
    let waiting = shard.transactions.cold_ends.get();
    if waiting >= COLD_ENDS_WAITING_MAX {
        return Err(Refusal::new(
            ResponseCode::SYSTEM_BUSY,
            "[REJECTREQUEST]system busy, start flow control for a while: too many ends of transactions wait",
        ));
    }
    shard.transactions.cold_ends.set(waiting + 1);
    shard.answers.defer(&to);
    let shard = Rc::clone(shard);
    let request = Lasting::of(origin);
    executor::spawn(async move {
        let ended = match ending {
            Some(ending) => settle(&shard, ending).await.map(|()| None),
            None => end_by_place(&shard, &end).await,
        };
        shard.transactions.cold_ends.set(shard.transactions.cold_ends.get() - 1);
        match ended {
            Ok(Some(owner)) => request.forward(&shard, owner).await,
            Ok(None) => shard.answers.later(&to, |out| write_ended(out, &to)),
            Err(refusal) => shard.answers.later(&to, |out| write_refusal(out, &to, &refusal)),
        }
        shard.answers.flush(shard.now_ms());
    });
    Ok(Handled::Done)
}

/// `Some(shard)`: the half queue belongs to that one.
async fn end_by_place(shard: &Rc<Shard>, end: &End) -> Result<Option<usize>, Refusal> {
    let found = store::record_at(shard, end.physical_offset).await?;
    let not_found = transactions::not_found;
    let record = found.as_deref().and_then(|bytes| RecordRef::parse(bytes).ok()).ok_or_else(not_found)?;
    match transactions::end_by_place(shard, end, record) {
        Ok(ending) => settle(shard, ending?).await.map(|()| None),
        Err(owner) => Ok(Some(owner)),
    }
}

async fn settle(shard: &Rc<Shard>, ending: Ending) -> Result<(), Refusal> {
    match ending {
        Ending::Elsewhere(relay) => transactions::relay(shard, relay).await,
        Ending::At(position) => match shard.acknowledged(position).await {
            Completion::Acknowledged => Ok(()),
            Completion::Failed => Err(Refusal::new(ResponseCode::SYSTEM_ERROR, "the commit log stopped")),
        },
    }
}
