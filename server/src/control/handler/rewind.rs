//! Where a group goes on: INVOKE_BROKER_TO_RESET_OFFSET (222) and CLONE_GROUP_OFFSET (314).
//!
//! By default the broker itself sends the group back: the offset is committed, commits of clients are ignored, and
//! the next pull of the queue is answered with the new place, whether anybody is online or not. Brokers of 4.x told
//! the clients instead (220); `useServerSideResetOffset=false` does so still.

use std::collections::BTreeSet;
use std::rc::Rc;

use rmq_protocol::body::{MessageQueue, ResetOffsetTable};
use rmq_protocol::header::Codec;
use rmq_protocol::headers::{CloneGroupOffsetHeader, ResetOffsetHeader};
use rmq_protocol::language::{Language, version};
use rmq_protocol::request_code::RequestCode;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::writer::FrameWriter;

use super::Request;
use super::stats::{group_offsets, queue_ranges};
use crate::control::answer::{Answer, Outcome, Refusal};
use crate::control::link::{ConsumerOffsetRow, ShardAnswer, ShardQuery};
use crate::control::state::State;
use crate::ownership::Ownership;

/// INVOKE_BROKER_TO_RESET_OFFSET (222).
pub async fn reset(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let header = ResetOffsetHeader::decode(&request.header.fields)?;
    let (topic, group) = (header.topic.cow().into_owned(), header.group.cow().into_owned());
    tracing::info!(
        peer = %request.peer, topic, group, queue = header.queue_id, offset = header.offset,
        timestamp = header.timestamp, force = header.force, "reset of consumer offsets"
    );
    if !state.settings.server_side_reset {
        let is_c = request.header.language == Language::CPP;
        return tell_clients(state, &topic, &group, header.timestamp, header.force, is_c).await;
    }
    let read_queues = state.topics.borrow().find(&topic).map(|config| config.read_queue_nums);
    let Some(read_queues) = read_queues else {
        return Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, format!("Topic {topic} does not exist")));
    };
    if state.groups.borrow().find(&group).is_none() {
        let remark = format!("Group {group} does not exist");
        return Err(Refusal::new(ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
    }
    let targets = match header.queue_id.filter(|queue| *queue >= 0) {
        Some(queue) => vec![(queue, one_target(state, &topic, queue, &header).await?)],
        None => search(state, &topic, 0..read_queues, header.timestamp).await?,
    };
    if targets.is_empty() {
        return Err(Refusal::system_error("No queues to reset."));
    }
    assign(state, &group, &topic, &targets).await?;
    Ok(Answer::body(table(state, &topic, targets).encode()))
}

async fn one_target(
    state: &State,
    topic: &str,
    queue: i32,
    header: &ResetOffsetHeader<'_>,
) -> Result<i64, Refusal> {
    let Some(offset) = header.offset.filter(|offset| *offset != -1) else {
        let found = search(state, topic, queue..queue + 1, header.timestamp).await?;
        return Ok(found.first().map_or(0, |(_, offset)| *offset));
    };
    let (min, max) =
        queue_ranges(state, topic).await.get(&queue).map_or((0, 0), |(_, range)| (range.min, range.max));
    if offset < min || offset > max + 1 {
        let remark = format!("Target offset {offset} not in consume queue range [{min}-{max}]");
        return Err(Refusal::system_error(remark));
    }
    Ok(offset)
}

/// The first message at or after a time in each queue; a negative time asks for the end.
async fn search(
    state: &State,
    topic: &str,
    queues: std::ops::Range<i32>,
    timestamp: i64,
) -> Result<Vec<(i32, i64)>, Refusal> {
    let ownership = Ownership::new(state.links.shards());
    let asked: Vec<_> = queues
        .map(|queue| {
            let query = ShardQuery::SearchOffset { topic: topic.to_owned(), queue, timestamp };
            (queue, state.links.query(ownership.owner(topic, queue), query))
        })
        .collect();
    let mut found = Vec::with_capacity(asked.len());
    for (queue, answer) in asked {
        match answer.await {
            ShardAnswer::Offset(offset) => found.push((queue, offset)),
            ShardAnswer::Failed(remark) => return Err(Refusal::system_error(remark)),
            _ => {}
        }
    }
    Ok(found)
}

/// Known to the shards and on disk when it returns: a reset that was answered must not be lost with the process.
async fn assign(state: &State, group: &str, topic: &str, targets: &[(i32, i64)]) -> Result<(), Refusal> {
    let ownership = Ownership::new(state.links.shards());
    let mut asked = Vec::new();
    for &(queue, offset) in targets {
        let (group, topic) = (group.to_owned(), topic.to_owned());
        let owner = ownership.owner(&topic, queue);
        let row = ConsumerOffsetRow { group: group.clone(), topic: topic.clone(), queue, offset };
        let query = ShardQuery::ResetOffset { group, topic, queue, offset };
        asked.push((owner, row, state.links.query(owner, query)));
    }
    for (owner, row, answer) in asked {
        if let ShardAnswer::Failed(remark) = answer.await {
            return Err(Refusal::system_error(remark));
        }
        state.offsets.borrow_mut().put(owner, row, state.now_ms());
    }
    state.save_consumer_offsets().await.map_err(Refusal::system_error)
}

fn table(state: &State, topic: &str, targets: Vec<(i32, i64)>) -> ResetOffsetTable {
    let queue = |queue_id| MessageQueue {
        broker_name: state.settings.broker.clone(),
        queue_id,
        topic: topic.to_owned(),
    };
    let rows = targets.into_iter().map(|(id, offset)| (queue(id), offset));
    ResetOffsetTable { offset_table: rows.collect() }
}

/// The way of 4.x: every client of the group is told where to go on (RESET_CONSUMER_CLIENT_OFFSET, 220).
async fn tell_clients(
    state: &State,
    topic: &str,
    group: &str,
    timestamp: i64,
    force: bool,
    is_c: bool,
) -> Outcome {
    let write_queues = state.topics.borrow().find(topic).map(|config| config.write_queue_nums);
    let Some(write_queues) = write_queues else {
        let remark = format!("[reset-offset] reset offset failed, no topic in this broker. topic={topic}");
        return Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, remark));
    };
    let offsets = group_offsets(state, group).await;
    let mut targets = search(state, topic, 0..write_queues, timestamp).await?;
    for (queue, target) in &mut targets {
        let committed = offsets.get(&(topic.to_owned(), *queue)).and_then(|offset| offset.committed);
        let Some(committed) = committed.filter(|offset| *offset != -1) else {
            return Err(Refusal::system_error(format!("THe consumer group <{group}> not exist")));
        };
        if !force {
            *target = committed.min(*target);
        }
    }
    let table = table(state, topic, targets);
    let content = if is_c { table.encode_list() } else { table.encode() };
    let clients = state.clients.borrow();
    let Some(members) = clients.consumer_group(group) else {
        return Err(Refusal::new(
            ResponseCode::CONSUMER_NOT_ONLINE,
            format!(
                "Consumer not online, so can not reset offset, Group: {group} Topic: {topic} Timestamp: {timestamp}"
            ),
        ));
    };
    if let Some(old) = members.clients.values().find(|client| client.version < version::V3_0_7_SNAPSHOT) {
        let name = version::name(old.version);
        return Err(Refusal::system_error(format!(
            "the client does not support this feature. version={name}"
        )));
    }
    // The table is final: clients are not to choose again, whatever the tool asked for.
    let mut frame = Vec::new();
    let code = RequestCode::RESET_CONSUMER_CLIENT_OFFSET;
    FrameWriter::request(&mut frame, Codec::Json, code, 0, true)
        .field("topic", topic)
        .field("group", group)
        .field_int("timestamp", timestamp)
        .field_int("queueId", -1)
        .field_bool("isForce", false)
        .body(&content);
    for connection in members.clients.keys() {
        state.links.send(*connection, frame.clone());
    }
    Ok(Answer::body(table.encode()))
}

/// CLONE_GROUP_OFFSET (314). Without a topic it is about every topic that the group has consumed.
pub async fn clone_offsets(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let header = CloneGroupOffsetHeader::decode(&request.header.fields)?;
    let (from, to) = (header.source_group.cow().into_owned(), header.target_group.cow().into_owned());
    let one = header.topic.map(|topic| topic.cow().into_owned()).filter(|topic| !topic.trim().is_empty());
    let topics: BTreeSet<String> = match one {
        Some(topic) => BTreeSet::from([topic]),
        None => {
            let consumed = group_offsets(state, &from).await;
            let committed = consumed.into_iter().filter(|(_, offset)| offset.committed.is_some());
            committed.map(|((topic, _), _)| topic).collect()
        }
    };
    for topic in topics {
        let is_left = !header.offline && super::stats::has_left(state, &from, &topic);
        if is_left || state.topics.borrow().find(&topic).is_none() {
            tracing::warn!(topic, group = from, "its offsets are not cloned: no such topic or subscription");
            continue;
        }
        let query = ShardQuery::CloneOffsets { from: from.clone(), to: to.clone(), topic: Some(topic) };
        for (shard, answer) in state.query_all(query).await.into_iter().enumerate() {
            match answer {
                ShardAnswer::Offsets(rows) => {
                    let mut offsets = state.offsets.borrow_mut();
                    for row in rows.into_iter().filter_map(|offset| offset.into_row()) {
                        offsets.put(shard, row, state.now_ms());
                    }
                }
                ShardAnswer::Failed(remark) => return Err(Refusal::system_error(remark)),
                _ => {}
            }
        }
    }
    state.save_consumer_offsets().await.map_err(Refusal::system_error)?;
    Ok(Answer::empty())
}
