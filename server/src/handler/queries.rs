//! What the control thread asks a shard about the queues it owns.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use rmq_engine::{Boundary, QueueOffset, Read, ReadLimits};
use rmq_protocol::message_id::{MESSAGE_ID_LEN_MAX, MessageId};
use rmq_protocol::properties::name;
use rmq_protocol::record::RecordRef;
use rmq_protocol::tag::tags_code;

use super::{offsets, query};
use crate::broker::group_commit::Completion;
use crate::broker::message::StoreOutcome;
use crate::broker::pop::{self, revive_log};
use crate::broker::{delay_levels, retention, store, timer};
use crate::control::limits::QUEUE_ENTRIES_MAX;
use crate::control::link::{Count, QueueEntry, QueueRange, ShardAnswer, ShardQuery, ShardStats, TrafficRow};
use crate::net::executor;
use crate::shard::Shard;

/// Of the records that an index is read from.
const ENTRY_BYTES_AT_ONCE: u32 = 8 << 20;

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
            revive_log::rewound(shard, &group, &topic, queue, offset);
            shard.offsets.borrow_mut().reset(&group, &topic, queue, offset);
            // A pull that waits for new messages learns of it now, not when its time is up.
            shard.pull_waiting_again(&topic, queue);
            ShardAnswer::Done
        }
        ShardQuery::CloneOffsets { from, to, topic } => {
            let mut offsets = shard.offsets.borrow_mut();
            offsets.clone_group(&from, &to, topic.as_deref());
            let mut rows = offsets.offsets_of(&to);
            rows.retain(|row| topic.as_deref().is_none_or(|topic| topic == row.topic));
            ShardAnswer::Offsets(rows)
        }
        ShardQuery::DeleteTopic { topic } => delete_topic(shard, &topic).await,
        ShardQuery::DeleteGroup { group, clean_offset } => {
            pop::forget(shard, |name, _| name == group);
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
        ShardQuery::RecordAt { physical_offset } => match store::record_at(shard, physical_offset).await {
            Ok(record) => ShardAnswer::Record(record),
            Err(refusal) => ShardAnswer::Failed(refusal.remark.into_owned()),
        },
        ShardQuery::SearchOffset { topic, queue, timestamp } => {
            search_offset(shard, &topic, queue, timestamp).await
        }
        ShardQuery::QueueEntries { topic, queue, from, count } => {
            queue_entries(shard, &topic, queue, from, count).await
        }
        ShardQuery::Traffic => ShardAnswer::Traffic(traffic(shard).await),
        ShardQuery::StrayTopics => {
            let names = shard.engine.queues().into_iter().map(|(_, name)| name.topic);
            let strays: BTreeSet<String> = names
                .filter(|topic| shard.metadata.topic(topic).is_none())
                .map(|topic| topic.to_string())
                .collect();
            ShardAnswer::Groups(strays.into_iter().collect())
        }
        ShardQuery::DeleteExpired => match retention::delete_expired(shard).await {
            Ok(_) => ShardAnswer::Done,
            Err(error) => ShardAnswer::Failed(error.to_string()),
        },
        ShardQuery::GroupsBehind { bytes } => ShardAnswer::Groups(groups_behind(shard, bytes).await),
        ShardQuery::Store { message } => match store::store(shard, *message).await {
            StoreOutcome::Stored { queue_offset, physical_offset } => {
                let mut text = [0; MESSAGE_ID_LEN_MAX];
                let id = MessageId::new(shard.settings.store_host, physical_offset).write(&mut text);
                ShardAnswer::Stored { message_id: id.to_owned(), queue_offset }
            }
            StoreOutcome::Refused { remark, .. } => ShardAnswer::Failed(remark),
        },
        ShardQuery::ByKey(lookup) => query::look_up(shard, lookup).await,
        ShardQuery::HandOver => {
            shard.hand_over_offsets();
            ShardAnswer::Done
        }
        ShardQuery::DelayOffsets => ShardAnswer::DelayOffsets(delay_levels::progress(shard)),
        ShardQuery::Timer => ShardAnswer::Timer(Box::new(timer::stats(shard))),
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

/// Read as a consumer would read them, since the index on disk belongs to the records.
async fn queue_entries(shard: &Rc<Shard>, topic: &str, queue: i32, from: i64, count: usize) -> ShardAnswer {
    let Some(number) = offsets::number(shard, topic, queue) else { return ShardAnswer::Done };
    let (min, max) = (shard.engine.min_offset(number).0, shard.engine.max_offset(number).0);
    if !(min..max).contains(&from) {
        return ShardAnswer::QueueEntries { min, max, entries: None };
    }
    let mut entries = Vec::new();
    let mut at = QueueOffset(from);
    while entries.len() < count.min(QUEUE_ENTRIES_MAX) {
        let left = (count.min(QUEUE_ENTRIES_MAX) - entries.len()) as u32;
        let limits = ReadLimits {
            messages_max: left,
            bytes_max: ENTRY_BYTES_AT_ONCE,
            scan_max: left,
            cold_messages_max: left,
            cold_bytes_max: ENTRY_BYTES_AT_ONCE,
        };
        let records = match Rc::clone(&shard.engine).read(number, at, limits, |_| true).await {
            Ok((Read::Found { next, .. }, records)) => {
                at = next;
                records
            }
            Ok(_) => break,
            Err(error) => return ShardAnswer::Failed(error.to_string()),
        };
        let mut rest = &records[..];
        while let Ok(record) = RecordRef::parse(rest) {
            let len = record.total_len();
            let tags_code = tags_code(record.properties().find(name::TAGS));
            entries.push(QueueEntry { physical_offset: record.physical_offset(), len, tags_code });
            rest = &rest[len..];
        }
    }
    ShardAnswer::QueueEntries { min, max, entries: Some(entries) }
}

/// In small pieces, as the offset table is copied: sends must not wait for it.
async fn traffic(shard: &Rc<Shard>) -> Vec<TrafficRow> {
    const ROWS_PER_TURN: usize = 500;
    let counters = &shard.counters;
    let total = |messages: u64, bytes: u64, calls: u64| Count { messages, bytes, calls };
    let (put, got) = (counters.messages_put.get(), counters.messages_got.get());
    let mut rows = vec![
        TrafficRow { topic: String::new(), group: None, count: total(put, counters.bytes_put.get(), put) },
        TrafficRow {
            topic: String::new(),
            group: Some(String::new()),
            count: total(got, counters.bytes_got.get(), counters.pulls_found.get()),
        },
    ];
    let mut turn = 0;
    for topic in shard.metadata.topics() {
        let mut count = Count::default();
        for queue in topic.known_queues() {
            if let Some(number) = queue.number() {
                let next = shard.engine.next_offset(number).0;
                count.messages += (next - queue.first_next).max(0) as u64;
                count.bytes += queue.put_bytes.get();
            }
            turn += 1;
        }
        count.calls = count.messages;
        if count.messages > 0 {
            rows.push(TrafficRow { topic: topic.name.clone(), group: None, count });
        }
        if turn >= ROWS_PER_TURN {
            turn = 0;
            executor::sleep(Duration::ZERO).await;
        }
    }
    let groups = shard.offsets.borrow().group_names();
    for group in groups {
        let of_group = shard.offsets.borrow().traffic_of(&group);
        turn += of_group.len() + 1;
        rows.extend(of_group);
        if turn >= ROWS_PER_TURN {
            turn = 0;
            executor::sleep(Duration::ZERO).await;
        }
    }
    rows
}

/// Groups whose next message of some queue lies further back in this shard's log than `bytes`. Only those that have
/// pulled since the start: who does not read is not slow.
async fn groups_behind(shard: &Rc<Shard>, bytes: i64) -> Vec<String> {
    let groups = shard.offsets.borrow().group_names();
    let mut behind = Vec::new();
    for group in groups {
        let rows = shard.offsets.borrow().offsets_of(&group);
        for row in rows {
            let Some(pulled) = row.pulled else { continue };
            let Some(number) = offsets::number(shard, &row.topic, row.queue) else { continue };
            if pulled >= shard.engine.max_offset(number).0 {
                continue;
            }
            let at = pulled.max(shard.engine.min_offset(number).0);
            let one = ReadLimits {
                messages_max: 1,
                bytes_max: 1,
                scan_max: 1,
                cold_messages_max: 1,
                cold_bytes_max: 1,
            };
            let read = Rc::clone(&shard.engine).read(number, QueueOffset(at), one, |_| true).await;
            if let Ok((Read::Found { .. }, record)) = read
                && let Ok(record) = RecordRef::parse(&record)
                && shard.engine.physical_bounds().1.0 - record.physical_offset() > bytes
            {
                behind.push(group);
                break;
            }
        }
    }
    behind
}

async fn search_offset(shard: &Rc<Shard>, topic: &str, queue: i32, timestamp: i64) -> ShardAnswer {
    let Some(number) = offsets::number(shard, topic, queue) else { return ShardAnswer::Offset(0) };
    if timestamp < 0 {
        return ShardAnswer::Offset(shard.engine.max_offset(number).0);
    }
    match Rc::clone(&shard.engine).search_offset(number, timestamp, Boundary::Lower).await {
        Ok(offset) => ShardAnswer::Offset(offset.0),
        Err(error) => ShardAnswer::Failed(error.to_string()),
    }
}

/// The deletion is durable when it is answered; a topic of the same name then begins at offset 0.
async fn delete_topic(shard: &Rc<Shard>, topic: &str) -> ShardAnswer {
    shard.offsets.borrow_mut().forget_topic(topic);
    pop::forget(shard, |_, name| name == topic);
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
        transactions_committed: counters.transactions_committed.get(),
        transactions_rolled_back: counters.transactions_rolled_back.get(),
        transactions_checked: counters.transactions_checked.get(),
        transactions_set_aside: counters.transactions_set_aside.get(),
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
