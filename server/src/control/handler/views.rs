//! Rarer views of consumption and storage: QUERY_CONSUME_TIME_SPAN (303), QUERY_CORRECTION_OFFSET (308),
//! VIEW_BROKER_STATS_DATA (315), GET_BROKER_CONSUME_STATS (317), QUERY_CONSUME_QUEUE (321).

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use rmq_protocol::body::{BrokerConsumeStats, ConsumeStats, to_vec};
use rmq_protocol::headers::{
    BrokerConsumeStatsHeader, BrokerStatsHeader, CorrectionOffsetHeader, GroupTopicHeader,
    QueryConsumeQueueHeader,
};
use rmq_protocol::response_code::ResponseCode;
use serde_json::{Value, json};

use super::Request;
use super::stats::{consumed_queues, group_offsets, has_left, message_queue, queue_ranges};
use crate::control::answer::{Answer, Outcome, Refusal};
use crate::control::link::{GroupOffset, ShardAnswer, ShardQuery};
use crate::control::local_time;
use crate::control::state::State;
use crate::control::traffic::{Span, Window};
use crate::ownership::Ownership;

/// QUERY_CONSUME_TIME_SPAN (303): from when the messages of each queue are, and from when the group's last one.
pub async fn time_span(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let header = GroupTopicHeader::decode(&request.header.fields)?;
    let (group, topic) = (header.group.cow().into_owned(), header.topic.cow().into_owned());
    let Some(queues) = state.topics.borrow().find(&topic).map(|config| config.write_queue_nums) else {
        return Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, format!("topic[{topic}] not exist")));
    };
    let ranges = queue_ranges(state, &topic).await;
    let offsets = group_offsets(state, &group).await;
    let mut spans = Vec::new();
    for queue in 0..queues {
        let (min, max) = ranges.get(&queue).map_or((0, 0), |(_, range)| (range.min, range.max));
        let committed = offsets.get(&(topic.clone(), queue)).and_then(|offset| offset.committed);
        let committed = committed.unwrap_or(-1);
        let stored = |offset| stored_ms(state, &topic, queue, offset);
        let first_ms = stored(min).await;
        let consumed_ms = if committed > 0 { stored(committed - 1).await } else { first_ms };
        let behind_ms = if committed < max { state.now_ms() - stored(committed).await } else { 0 };
        let last_ms = stored(max - 1).await;
        spans.push(json!({
            "consumeTimeStamp": consumed_ms,
            "consumeTimeStampStr": local_time::text(consumed_ms),
            "delayTime": behind_ms,
            "maxTimeStamp": last_ms,
            "maxTimeStampStr": local_time::text(last_ms),
            "messageQueue": message_queue(state, &topic, queue),
            "minTimeStamp": first_ms,
            "minTimeStampStr": local_time::text(first_ms),
        }));
    }
    Ok(Answer::json(&json!({ "consumeTimeSpanSet": spans })))
}

/// -1 when there is no such message.
async fn stored_ms(state: &State, topic: &str, queue: i32, offset: i64) -> i64 {
    if offset < 0 {
        return -1;
    }
    let owner = Ownership::new(state.links.shards()).owner(topic, queue);
    let query = ShardQuery::RecordTimestamp { topic: topic.to_owned(), queue, offset };
    match state.links.query(owner, query).await {
        ShardAnswer::Timestamp(Some(stored_ms)) => stored_ms,
        _ => -1,
    }
}

/// QUERY_CORRECTION_OFFSET (308): of each queue the smallest offset that any group has committed, or the largest
/// number where the compared group is behind all others.
pub async fn correction_offset(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let header = CorrectionOffsetHeader::decode(&request.header.fields)?;
    let topic = header.topic.cow().into_owned();
    let left_out = header.filter_groups.map(|text| text.cow().into_owned()).unwrap_or_default();
    let compared = header.compare_group.cow().into_owned();
    let ranges = queue_ranges(state, &topic).await;
    let mut groups = BTreeSet::new();
    for answer in state.query_all(ShardQuery::GroupsOfTopic { topic: topic.clone() }).await {
        if let ShardAnswer::Groups(names) = answer {
            groups.extend(names);
        }
    }
    let mut smallest: BTreeMap<i32, i64> = BTreeMap::new();
    let mut of_compared: BTreeMap<i32, i64> = BTreeMap::new();
    for group in groups {
        let is_left_out = left_out.split(',').any(|name| name == group);
        for ((of, queue), offset) in group_offsets(state, &group).await {
            let Some(committed) = offset.committed.filter(|_| of == topic) else { continue };
            if group == compared {
                of_compared.insert(queue, committed);
            }
            let min = ranges.get(&queue).map_or(0, |(_, range)| range.min);
            if !is_left_out && committed >= min {
                let least = smallest.entry(queue).or_insert(committed);
                *least = committed.min(*least);
            }
        }
    }
    for (queue, committed) in of_compared {
        if let Some(least) = smallest.get_mut(&queue).filter(|least| **least > committed) {
            *least = i64::MAX;
        }
    }
    let table = String::from_utf8_lossy(&to_vec(&smallest)).into_owned();
    Ok(Answer::body(format!("{{\"correctionOffsets\":{table}}}").into_bytes()))
}

/// VIEW_BROKER_STATS_DATA (315).
pub fn stats_data(state: &State, request: &Request<'_>) -> Outcome {
    let header = BrokerStatsHeader::decode(&request.header.fields)?;
    let (name, key) = (header.name.cow(), header.key.cow());
    let [minute, hour, day] = [Window::Minute, Window::Hour, Window::Day].map(|window| {
        let traffic = state.traffic.borrow();
        let of_group =
            || key.split_once('@').and_then(|(topic, group)| traffic.span(topic, Some(group), window));
        let of_topic = || traffic.span(&key, None, window);
        let of_broker = |group| traffic.span("", group, window).filter(|_| *key == *state.settings.cluster);
        Some(match &*name {
            "TOPIC_PUT_NUMS" => messages(of_topic()?),
            "TOPIC_PUT_SIZE" => bytes(of_topic()?),
            "GROUP_GET_NUMS" => messages(of_group()?),
            "GROUP_GET_SIZE" => bytes(of_group()?),
            "BROKER_PUT_NUMS" => messages(of_broker(None)?),
            "BROKER_GET_NUMS" => messages(of_broker(Some(""))?),
            _ => return None,
        })
    });
    let (Some(minute), Some(hour), Some(day)) = (minute, hour, day) else {
        return Err(Refusal::system_error(format!("The stats <{name}> <{key}> not exist")));
    };
    Ok(Answer::json(&json!({ "statsDay": day, "statsHour": hour, "statsMinute": minute })))
}

fn messages(span: Span) -> Value {
    item(span, span.count.messages)
}

fn bytes(span: Span) -> Value {
    item(span, span.count.bytes)
}

fn item(span: Span, sum: u64) -> Value {
    let average = if span.count.calls > 0 { sum as f64 / span.count.calls as f64 } else { 0.0 };
    json!({ "avgpt": average, "sum": sum, "tps": span.per_second(sum) })
}

/// By topic and queue.
type QueueOffsets = BTreeMap<(String, i32), GroupOffset>;

/// GET_BROKER_CONSUME_STATS (317): all groups on all their topics.
pub async fn broker_consumption(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let header = BrokerConsumeStatsHeader::decode(&request.header.fields)?;
    let mut by_group: BTreeMap<String, BTreeMap<String, QueueOffsets>> = BTreeMap::new();
    for answer in state.query_all(ShardQuery::AllOffsets).await {
        let ShardAnswer::Offsets(rows) = answer else { continue };
        for row in rows {
            let topics = by_group.entry(row.group.clone()).or_default();
            topics.entry(row.topic.clone()).or_default().insert((row.topic.clone(), row.queue), row);
        }
    }
    let groups: Vec<String> = state.groups.borrow().iter().map(|(name, _)| name.clone()).collect();
    let mut stats =
        BrokerConsumeStats { broker_addr: state.settings.address.clone(), ..BrokerConsumeStats::default() };
    for group in groups {
        let mut list = Vec::new();
        for (topic, offsets) in by_group.remove(&group).unwrap_or_default() {
            let config = state.topics.borrow().find(&topic).cloned();
            let Some(config) = config.filter(|config| config.order || !header.order) else { continue };
            let committed_any = offsets.values().any(|offset| offset.committed.is_some());
            if !committed_any || has_left(state, &group, &topic) {
                continue;
            }
            let mut of_topic = ConsumeStats::default();
            consumed_queues(state, &topic, config.write_queue_nums, &offsets, &mut of_topic).await;
            let span = state.traffic.borrow().span(&topic, Some(&group), Window::Minute);
            of_topic.consume_tps = span.map_or(0.0, |span| span.per_second(span.count.messages));
            for offset in of_topic.offset_table.values() {
                stats.total_diff += offset.broker_offset - offset.consumer_offset;
                stats.total_inflight_diff += offset.pull_offset - offset.consumer_offset;
            }
            list.push(of_topic);
        }
        stats.consume_stats_list.push(BTreeMap::from([(group, list)]));
    }
    Ok(Answer::body(stats.encode()))
}

/// QUERY_CONSUME_QUEUE (321): the index of a queue, entry by entry.
pub async fn consume_queue(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let header = QueryConsumeQueueHeader::decode(&request.header.fields)?;
    let (topic, queue) = (header.topic.cow().into_owned(), header.queue_id);
    let owner = Ownership::new(state.links.shards()).owner(&topic, queue);
    let query = ShardQuery::QueueEntries {
        topic: topic.clone(),
        queue,
        from: header.index,
        count: usize::try_from(header.count).unwrap_or(0),
    };
    let (min, max, entries) = match state.links.query(owner, query).await {
        ShardAnswer::QueueEntries { min, max, entries } => (min, max, entries),
        ShardAnswer::Failed(remark) => return Err(Refusal::system_error(remark)),
        _ => return Err(Refusal::system_error(format!("{queue}@{topic} is not exist!"))),
    };
    let Some(entries) = entries else {
        let remark = format!("Index {} of {queue}@{topic} is not exist!", header.index);
        return Ok(Answer { remark: Some(remark), ..Answer::empty() });
    };
    let mut body = json!({
        "maxQueueIndex": max,
        "minQueueIndex": min,
        "queueData": entries
            .iter()
            .map(|entry| json!({
                "eval": false,
                "physicOffset": entry.physical_offset,
                "physicSize": entry.len,
                "tagsCode": entry.tags_code,
            }))
            .collect::<Vec<_>>(),
    });
    if let Some(group) = header.consumer_group {
        let group = group.cow();
        let clients = state.clients.borrow();
        let subscription =
            clients.consumer_group(&group).and_then(|members| members.subscriptions.get(&topic));
        body["filterData"] = match subscription {
            // There are no compiled filters to show.
            Some(_) => json!("null"),
            None => json!(format!("{group}@{topic} is not online!")),
        };
        if let Some(subscription) = subscription {
            body["subscriptionData"] = json!(subscription);
        }
    }
    Ok(Answer::json(&body))
}
