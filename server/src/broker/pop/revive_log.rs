//! The revive log: checkpoints and acknowledgements of one shard in its own queue of the revive topic.
//!
//! Order is what makes it safe. A checkpoint is appended before its messages are answered, and the answer waits
//! for the log; the group's offset follows only then. Acknowledgements are appended together, a moment after they
//! were answered. Records in front of the oldest open checkpoint are not needed any more: how far that is, is
//! kept as the offset of the group CID_RMQ_SYS_REVIVE_GROUP, and a start reads from there.

use std::rc::Rc;

use rmq_engine::{LogPosition, QueueNumber, QueueOffset, Read, ReadLimits};
use rmq_protocol::properties::{name, push_property};
use rmq_protocol::record::{self, RecordRef};
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::tag::tags_code;

use super::checkpoint::{self, Checkpoint, Entry};
use crate::broker::group_commit::Completion;
use crate::broker::refusal::Refusal;
use crate::broker::store::{self, Draft};
use crate::control::limits::QUEUES_PER_TOPIC_MAX;
use crate::limits::{POP_ACKS_UNRECORDED_MAX, POP_REPLAY_RECORDS_MAX};
use crate::ownership::Ownership;
use crate::shard::Shard;

/// Whose offset in the revive topic says where a replay begins; Java's name.
pub const REVIVE_GROUP: &str = "CID_RMQ_SYS_REVIVE_GROUP";
/// Checkpoints written again at a time, and acknowledgements in one record.
const MOVES_AT_ONCE: usize = 256;
const ACKS_PER_RECORD: usize = POP_ACKS_UNRECORDED_MAX;

/// The shard's own queue of the revive topic.
pub fn own_queue(ownership: Ownership, topic: &str, index: usize) -> i32 {
    let mine = (0..QUEUES_PER_TOPIC_MAX).find(|&queue| ownership.owner(topic, queue) == index);
    mine.expect("every shard owns some queue of every topic")
}

fn append(shard: &Shard, tag: &str, body: &[u8]) -> Result<(i64, LogPosition), Refusal> {
    let name = &shard.pop.revive_topic;
    let topic = shard.metadata.topic(name).ok_or_else(|| {
        Refusal::new(ResponseCode::SYSTEM_ERROR, format!("the topic[{name}] of checkpoints is missing"))
    })?;
    let queue = shard.queue(&topic, shard.pop.revive_queue);
    let mut properties = Vec::with_capacity(16);
    push_property(&mut properties, name::TAGS, tag);
    let draft = Draft {
        flag: 0,
        sys_flag: 0,
        born_timestamp: store::wall_clock_ms(),
        born_host: shard.settings.store_host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        properties: &properties,
        filter_code: tags_code(Some(tag)),
        body,
    };
    let stored = store::append(shard, &topic, &queue, &draft)?;
    Ok((stored.queue_offset, stored.end))
}

/// Opens a checkpoint. It counts once the log has acknowledged the position. `advances`: the group goes on
/// behind it.
pub fn open(shard: &Shard, checkpoint: Checkpoint, advances: bool) -> Result<LogPosition, Refusal> {
    let mut body = shard.pop.scratch.take();
    body.clear();
    checkpoint.encode(advances, &mut body);
    let appended = append(shard, "ck", &body);
    *shard.pop.scratch.borrow_mut() = body;
    let (place, end) = appended?;
    let mut checkpoints = shard.pop.checkpoints.borrow_mut();
    if checkpoints.is_empty() {
        shard.pop.work.notify();
    }
    checkpoints.insert(place, checkpoint);
    Ok(end)
}

/// Writes what was acknowledged since the last time.
pub fn record_acks(shard: &Shard) {
    let changed = shard.pop.checkpoints.borrow_mut().take_changed();
    let mut entries = changed.iter().peekable();
    let mut body = Vec::new();
    while entries.peek().is_some() {
        body.clear();
        for (&place, &acked) in entries.by_ref().take(ACKS_PER_RECORD) {
            checkpoint::push_acks(&mut body, place, acked);
        }
        if let Err(refusal) = append(shard, "ack", &body) {
            tracing::debug!(remark = %refusal.remark, "acknowledgements of pops are not written yet");
            // Some may have been; to write them twice is no harm.
            return shard.pop.checkpoints.borrow_mut().not_written(changed);
        }
    }
}

/// Somebody is about to set the group's offset: checkpoints from before shall not raise it again at the next start.
pub fn rewound(shard: &Shard, group: &str, topic: &str, queue: i32, offset: i64) {
    let Some(known) = shard.pop.queues.known(group, topic, queue) else { return };
    if !known.has_unsettled() && shard.offsets.borrow().committed(group, topic, queue) == Some(offset) {
        return;
    }
    known.rewound();
    let mut body = Vec::new();
    checkpoint::encode_rewind(&mut body, group, topic, queue, offset);
    if let Err(refusal) = append(shard, "rewind", &body) {
        tracing::warn!(group, topic, remark = %refusal.remark, "the new offset may not outlive a crash");
    }
}

/// Moves the beginning of the next replay forward, by what was known to be on disk one call ago.
pub fn advance(shard: &Shard) {
    let topic = &shard.pop.revive_topic;
    let Some(number) = shard.engine.find_queue(topic, shard.pop.revive_queue as u32) else { return };
    if let Some((place, end)) = shard.pop.replay_from.get()
        && shard.engine.acknowledged() >= end
    {
        shard.offsets.borrow_mut().commit(REVIVE_GROUP, topic, shard.pop.revive_queue, place);
    }
    let next = shard.engine.next_offset(number).0;
    let first = move_oldest(shard, next).unwrap_or(next);
    shard.pop.replay_from.set(Some((first, shard.engine.appended())));
}

/// Writes the oldest checkpoints again when a few of them would make a start read a long way.
fn move_oldest(shard: &Shard, next: i64) -> Option<i64> {
    let mut body = Vec::new();
    for _ in 0..MOVES_AT_ONCE {
        let mut checkpoints = shard.pop.checkpoints.borrow_mut();
        let reach = POP_REPLAY_RECORDS_MAX.max(4 * checkpoints.len() as i64);
        if next - checkpoints.first_place()? <= reach {
            break;
        }
        let Some((place, checkpoint)) = checkpoints.oldest() else { break };
        body.clear();
        checkpoint.encode(false, &mut body);
        match append(shard, "ck", &body) {
            Ok((to, _)) => checkpoints.moved(place, to),
            Err(_) => break,
        }
    }
    shard.pop.checkpoints.borrow().first_place()
}

/// Finds the open checkpoints again. Runs once, before the shard serves anybody.
///
/// Queues of the revive topic that came to this shard because their number of shards changed are moved to its
/// own queue.
pub async fn replay(shard: &Rc<Shard>) {
    let topic = shard.pop.revive_topic.clone();
    let own = shard.pop.revive_queue;
    for (number, name) in shard.engine.queues() {
        let queue = name.queue as i32;
        if name.topic == topic && shard.ownership.owner(&topic, queue) == shard.index && queue != own {
            replay_queue(shard, number, &topic, queue).await;
            if move_all(shard, number).await {
                let end = shard.engine.max_offset(number).0;
                shard.offsets.borrow_mut().commit(REVIVE_GROUP, &topic, queue, end);
            }
        }
    }
    if let Some(number) = shard.engine.find_queue(&topic, own as u32) {
        replay_queue(shard, number, &topic, own).await;
    }
    let open = shard.pop.checkpoints.borrow().len();
    if open > 0 {
        tracing::info!(shard = shard.index, open, "messages that were popped before are waited for");
    }
}

async fn replay_queue(shard: &Rc<Shard>, number: QueueNumber, topic: &str, queue: i32) {
    let committed = shard.offsets.borrow().committed(REVIVE_GROUP, topic, queue).unwrap_or(0);
    let mut next = QueueOffset(committed).max(shard.engine.min_offset(number));
    let limits = ReadLimits {
        messages_max: 4_096,
        bytes_max: 4 << 20,
        scan_max: 4_096,
        cold_messages_max: 4_096,
        cold_bytes_max: 4 << 20,
    };
    loop {
        match Rc::clone(&shard.engine).read(number, next, limits, |_| true).await {
            Ok((Read::Found { next: after, .. }, bytes)) => {
                for record in record::records(&bytes).map_while(Result::ok) {
                    apply(shard, &record);
                }
                next = after;
            }
            Ok((Read::NoneMatched { next: after } | Read::Removed { next: after }, _)) => next = after,
            Ok((Read::TooSmall { min }, _)) => next = min,
            Ok((Read::AtEnd | Read::TooLarge { .. } | Read::NoSuchQueue, _)) => return,
            Err(error) => {
                tracing::error!(%error, "the revive log cannot be read; no pop is served");
                return shard.pop.is_broken.set(true);
            }
        }
    }
}

fn apply(shard: &Shard, record: &RecordRef<'_>) {
    let mut checkpoints = shard.pop.checkpoints.borrow_mut();
    match Entry::decode(record.body()) {
        Some(Entry::Checkpoint {
            advances,
            group,
            topic,
            queue,
            start,
            pop_time,
            invisible_ms,
            distances,
            acked,
            attempts,
        }) => {
            let offsets = distances.iter().map(|&distance| start + i64::from(distance));
            let known = shard.pop.queues.get(group, topic, queue);
            let mut checkpoint = Checkpoint::new(known, start, pop_time, invisible_ms, offsets);
            (checkpoint.acked, checkpoint.attempts) = (acked, attempts);
            let mut offsets = shard.offsets.borrow_mut();
            if advances && offsets.committed(group, topic, queue).is_none_or(|at| at < checkpoint.next()) {
                offsets.commit(group, topic, queue, checkpoint.next());
            }
            checkpoints.insert(record.queue_offset(), checkpoint);
        }
        Some(Entry::Acks(acks)) => {
            acks.into_iter().for_each(|(place, acked)| checkpoints.replay_acks(place, acked));
        }
        Some(Entry::Rewind { group, topic, queue, offset }) => {
            shard.offsets.borrow_mut().commit(group, topic, queue, offset);
        }
        None => tracing::warn!(place = record.queue_offset(), "a strange record in the revive log"),
    }
}

/// Writes every checkpoint into this shard's own queue. True when all are there.
async fn move_all(shard: &Rc<Shard>, from: QueueNumber) -> bool {
    let mut moved = Vec::new();
    let mut end = None;
    loop {
        let mut checkpoints = shard.pop.checkpoints.borrow_mut();
        let Some((place, checkpoint)) = checkpoints.oldest() else { break };
        checkpoints.close(place);
        moved.push(checkpoint);
    }
    shard.pop.checkpoints.borrow_mut().take_changed();
    for checkpoint in moved {
        match open(shard, checkpoint, false) {
            Ok(position) => end = Some(position),
            Err(refusal) => {
                tracing::error!(?from, remark = %refusal.remark, "checkpoints cannot be moved");
                return false;
            }
        }
    }
    match end {
        Some(end) => shard.acknowledged(end).await == Completion::Acknowledged,
        None => true,
    }
}
