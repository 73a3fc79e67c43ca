//! What a shard does about transactions before it serves: remember how they ended, and finish the one commit that a
//! crash may have cut in two.

use std::rc::Rc;
use std::time::Duration;

use rmq_engine::{Error, QueueNumber};
use rmq_protocol::properties::Properties;
use rmq_protocol::record::{self, RecordRef};

use super::half::Half;
use super::op::Op;
use super::outcomes::{Outcome, Outcomes};
use super::progress::Progress;
use super::reading::read_on;
use super::{CHECK_GROUP, HalfQueue};
use crate::broker::key_index::{self, Keys};
use crate::broker::store::{self, Place};
use crate::control::names::{HALF_OP_TOPIC, HALF_TOPIC};
use crate::net::executor;
use crate::shard::Shard;

const RECORDS_AT_ONCE: u32 = 4_096;
/// Pause after an append that was refused: the log has no room yet.
const RETRY_MS: u64 = 100;

/// Returns when every half queue of this shard is as the last life left it. Nothing may be appended before.
pub async fn recover(shard: &Rc<Shard>) -> Result<(), Error> {
    let names = shard.engine.queues().into_iter();
    let half_queues: Vec<_> = names.filter(|(_, name)| name.topic == HALF_TOPIC).collect();
    for (number, name) in half_queues {
        let queue = shard.transactions.queue(name.queue as i32);
        let Some(op) = shard.engine.find_queue(HALF_OP_TOPIC, name.queue) else { continue };
        if let Some(half_at) = read_ops(shard, &queue, op).await? {
            finish(shard, half_at).await?;
        }
        let oldest = queue.outcomes.borrow().base();
        let end = shard.engine.max_offset(number).0;
        *queue.progress.borrow_mut() = Progress::recovered(oldest, end);
    }
    Ok(())
}

/// Replays the op records. Returns the half message of the last when it commits and nothing follows it in the log.
async fn read_ops(shard: &Rc<Shard>, queue: &HalfQueue, op: QueueNumber) -> Result<Option<i64>, Error> {
    let mut outcomes = Outcomes::default();
    let committed = shard.offsets.borrow().committed(CHECK_GROUP, HALF_OP_TOPIC, queue.id);
    let mut next = committed.unwrap_or(0);
    let mut cut = None;
    loop {
        let (records, after) = read_on(&shard.engine, op, next, RECORDS_AT_ONCE).await?;
        if after == next {
            break;
        }
        next = after;
        for record in record::records(&records).map_while(Result::ok) {
            let said = Op::of_record(&record);
            cut = None;
            match said {
                Some(Op::End { half, outcome }) => {
                    outcomes.record(half, outcome, record.queue_offset());
                    let is_last = || shard.engine.is_newest(at(&record), record.total_len() as u32);
                    if outcome == Some(Outcome::Committed) && is_last() {
                        cut = Some(record.prepared_transaction_offset());
                    }
                }
                Some(Op::Low { below }) => outcomes.start_at(below),
                None => tracing::warn!(offset = record.queue_offset(), "not an op record of this broker"),
            }
        }
    }
    queue.outcomes.replace(outcomes);
    Ok(cut)
}

fn at(record: &RecordRef<'_>) -> rmq_engine::PhysicalOffset {
    rmq_engine::PhysicalOffset(record.physical_offset())
}

/// Appends the message that a crash has kept from following its op record.
async fn finish(shard: &Rc<Shard>, half_at: i64) -> Result<(), Error> {
    let place = rmq_engine::PhysicalOffset(half_at);
    let Some(bytes) = Rc::clone(&shard.engine).record_at(place).await? else { return Ok(()) };
    let Ok(record) = RecordRef::parse(&bytes) else { return Ok(()) };
    let half = Half { record };
    let (Some(topic), Some(id)) = (half.real_topic(), half.real_queue()) else { return Ok(()) };
    // With another number of shards the message was relayed, and the op record came last.
    if shard.ownership.owner(topic, id) != shard.index {
        return Ok(());
    }
    let message = half.committed();
    let place = Place::named(topic, id);
    let fields = store::fields(shard, &place, &message);
    let keys = Keys::of(Properties(message.properties));
    let plan =
        [rmq_engine::RecordPlan { len: fields.encoded_len() as u32, filter_code: message.filter_code }];
    loop {
        let appended = shard.engine.declare_queue(topic, id as u32).and_then(|number| {
            shard.engine.append(number, &plan, |_, out, stamp| {
                fields.encode_into(out);
                record::stamp(out, stamp.queue_offset.0, stamp.physical_offset.0, stamp.store_timestamp_ms);
            })
        });
        match appended {
            Ok(appended) => {
                let record = appended.first_physical_offset;
                key_index::note(shard, place.key_seed, &keys, message.sys_flag, &appended, record);
                tracing::info!(topic, queue = id, "a commit that a crash had cut in two is complete");
                return Ok(());
            }
            Err(error) => {
                tracing::warn!(topic, %error, "a commit that a crash had cut in two waits for room in the log");
                executor::sleep(Duration::from_millis(RETRY_MS)).await;
            }
        }
    }
}
