//! What the control thread asks a shard about the queues it owns.

use std::rc::Rc;

use rmq_engine::QueueOffset;

use super::query;
use crate::broker::delay_levels;
use crate::broker::group_commit::Completion;
use crate::control::link::{QueueRange, ShardAnswer, ShardQuery, ShardStats};
use crate::shard::Shard;

pub async fn answer(shard: &Rc<Shard>, query: ShardQuery) -> ShardAnswer {
    match query {
        ShardQuery::QueueRanges { topic } => ShardAnswer::QueueRanges(queue_ranges(shard, &topic).await),
        ShardQuery::GroupOffsets { group } => ShardAnswer::Offsets(shard.offsets.borrow().offsets_of(&group)),
        ShardQuery::AllOffsets => {
            let offsets = shard.offsets.borrow();
            let groups = offsets.group_names();
            ShardAnswer::Offsets(groups.iter().flat_map(|group| offsets.offsets_of(group)).collect())
        }
        ShardQuery::GroupsOfTopic { topic } => ShardAnswer::Groups(shard.offsets.borrow().groups_of(&topic)),
        ShardQuery::ResetOffset { group, topic, queue, offset } => {
            shard.offsets.borrow_mut().reset(&group, &topic, queue, offset);
            ShardAnswer::Done
        }
        ShardQuery::CloneOffsets { from, to, topic } => {
            shard.offsets.borrow_mut().clone_group(&from, &to, topic.as_deref());
            ShardAnswer::Done
        }
        ShardQuery::DeleteTopic { topic } => delete_topic(shard, &topic).await,
        ShardQuery::DeleteGroup { group, clean_offset } => {
            if clean_offset {
                shard.offsets.borrow_mut().forget_group(&group);
            }
            ShardAnswer::Done
        }
        ShardQuery::RecordTimestamp { topic, queue, offset } => {
            let Some(number) = shard.engine.find_queue(&topic, queue as u32) else {
                return ShardAnswer::Timestamp(None);
            };
            match Rc::clone(&shard.engine).store_timestamp(number, QueueOffset(offset)).await {
                Ok(timestamp) => ShardAnswer::Timestamp(timestamp),
                Err(error) => ShardAnswer::Failed(error.to_string()),
            }
        }
        ShardQuery::ByKey(lookup) => query::look_up(shard, lookup).await,
        ShardQuery::HandOver => {
            shard.hand_over_offsets();
            ShardAnswer::Done
        }
        ShardQuery::DelayOffsets => ShardAnswer::DelayOffsets(delay_levels::progress(shard)),
        ShardQuery::Stats => ShardAnswer::Stats(Box::new(stats(shard))),
    }
}

async fn queue_ranges(shard: &Rc<Shard>, name: &str) -> Vec<QueueRange> {
    let Some(topic) = shard.metadata.topic(name) else { return Vec::new() };
    let queues = {
        let config = topic.config();
        config.write_queue_nums.max(config.read_queue_nums)
    };
    let mut ranges = Vec::new();
    for id in 0..queues {
        if shard.ownership.owner(name, id) != shard.index {
            continue;
        }
        let mut range = QueueRange { queue: id, min: 0, max: 0, last_update_ms: 0, appended: 0 };
        let queue = shard.queue(&topic, id);
        if let Some(number) = queue.number() {
            range.min = shard.engine.min_offset(number).0;
            range.max = shard.engine.max_offset(number).0;
            range.appended = (shard.engine.next_offset(number).0 - queue.first_next).max(0) as u64;
            if range.max > range.min {
                let last = QueueOffset(range.max - 1);
                let found = Rc::clone(&shard.engine).store_timestamp(number, last).await;
                range.last_update_ms = found.ok().flatten().unwrap_or(0);
            }
        }
        ranges.push(range);
    }
    ranges
}

/// The deletion is durable when it is answered; a topic of the same name then begins at offset 0.
async fn delete_topic(shard: &Rc<Shard>, topic: &str) -> ShardAnswer {
    shard.offsets.borrow_mut().forget_topic(topic);
    let mut end = None;
    for (number, name) in shard.engine.queues() {
        if name.topic == topic {
            match shard.engine.delete_queue(number) {
                Ok(()) => end = Some(shard.engine.appended()),
                Err(error) => return ShardAnswer::Failed(error.to_string()),
            }
        }
    }
    shard.forget_queues(topic);
    match end {
        None => ShardAnswer::Done,
        Some(end) => match shard.acknowledged(end).await {
            Completion::Acknowledged => ShardAnswer::Done,
            Completion::Failed => ShardAnswer::Failed("the deletion did not reach the disk".to_owned()),
        },
    }
}

fn stats(shard: &Rc<Shard>) -> ShardStats {
    let engine = shard.engine.stats();
    let counters = &shard.counters;
    ShardStats {
        messages_put: counters.messages_put.get(),
        bytes_put: counters.bytes_put.get(),
        messages_got: counters.messages_got.get(),
        bytes_got: counters.bytes_got.get(),
        pulls_found: counters.pulls_found.get(),
        pulls_missed: counters.pulls_missed.get(),
        put_failed: counters.put_failed.get(),
        put_ms_max: counters.put_ms_max.get(),
        put_bytes_max: counters.put_bytes_max.get(),
        log_min_offset: engine.min_physical_offset.0,
        log_max_offset: engine.max_physical_offset.0,
        earliest_message_ms: engine.oldest_segment_ms,
        unflushed_bytes: engine.unflushed_bytes,
        queues: engine.queues as u64,
        connections: shard.answers.connections() as u64,
        suspended_pulls: shard.long_polls.len() as u64,
        disk_ratio: shard.disk_ratio.get(),
    }
}
