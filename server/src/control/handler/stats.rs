//! How far queues and groups are: what tools compute lag from. The shards know; here it is put together.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use rmq_protocol::body::{
    AllConsumerOffsets, ConsumeOffset, ConsumeStats, DelayOffsetTable, GroupList, MessageQueue, TopicList,
    TopicOffset, TopicStats,
};
use rmq_protocol::headers::{ConsumeStatsHeader, GroupHeader, GroupTopicHeader, TopicHeader};
use rmq_protocol::response_code::ResponseCode;
use serde_json::json;

use super::Request;
use crate::control::answer::{Answer, Outcome, Refusal};
use crate::control::link::{GroupOffset, QueueRange, ShardAnswer, ShardQuery};
use crate::control::offsets;
use crate::control::state::State;
use crate::control::traffic::Window;

/// GET_TOPIC_STATS_INFO (202).
pub async fn topic(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let topic = TopicHeader::decode(&request.header.fields)?.topic.cow().into_owned();
    let queues = {
        let topics = state.topics.borrow();
        match topics.find(&topic) {
            Some(config) => config.read_queue_nums.max(config.write_queue_nums),
            None => {
                let remark = format!("topic[{topic}] not exist");
                return Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, remark));
            }
        }
    };
    let ranges = queue_ranges(state, &topic).await;
    let mut table = TopicStats::default();
    for queue in 0..queues {
        let (min, max, last) = ranges
            .get(&queue)
            .map_or((0, 0, 0), |(_, range)| (range.min.max(0), range.max.max(0), range.last_update_ms));
        let value = TopicOffset { last_update_timestamp: last, max_offset: max, min_offset: min };
        table.offset_table.insert(message_queue(state, &topic, queue), value);
    }
    let span = state.traffic.borrow().span(&topic, None, Window::Minute);
    table.topic_put_tps = span.map_or(0.0, |span| span.per_second(span.count.messages));
    Ok(Answer::body(table.encode()))
}

/// GET_CONSUME_STATS (208). Without topics it covers every topic the group has offsets on; while the group is
/// online, topics that it left are left out.
pub async fn consumption(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let header = ConsumeStatsHeader::decode(&request.header.fields)?;
    let group = header.consumer_group.cow().into_owned();
    let listed: Vec<String> = header
        .topic_list
        .map(|list| list.cow().split(';').filter(|topic| !topic.is_empty()).map(str::to_owned).collect())
        .unwrap_or_default();
    let one = header.topic.map(|topic| topic.cow().into_owned()).filter(|topic| !topic.trim().is_empty());

    let offsets = group_offsets(state, &group).await;
    let topics: BTreeSet<String> = match (listed.is_empty(), one) {
        (false, _) => listed.iter().cloned().collect(),
        (true, Some(topic)) => BTreeSet::from([topic]),
        (true, None) => {
            let committed = offsets.iter().filter(|(_, offset)| offset.committed.is_some());
            committed.map(|((topic, _), _)| topic.clone()).collect()
        }
    };
    let mut table = ConsumeStats::default();
    for topic in topics {
        let Some(queues) = state.topics.borrow().find(&topic).map(|config| config.read_queue_nums) else {
            continue;
        };
        // Who brings a subscription with each pull does not announce it by heartbeats.
        let pulls = (0..queues)
            .any(|queue| offsets.get(&(topic.clone(), queue)).is_some_and(|offset| offset.subscribes));
        if listed.is_empty() && !pulls && has_left(state, &group, &topic) {
            continue;
        }
        consumed_queues(state, &topic, queues, &offsets, &mut table).await;
        let span = state.traffic.borrow().span(&topic, Some(&group), Window::Minute);
        table.consume_tps += span.map_or(0.0, |span| span.per_second(span.count.messages));
    }
    Ok(Answer::body(table.encode()))
}

/// How far a group is on each queue of a topic.
pub async fn consumed_queues(
    state: &State,
    topic: &str,
    queues: i32,
    offsets: &BTreeMap<(String, i32), GroupOffset>,
    table: &mut ConsumeStats,
) {
    let ranges = queue_ranges(state, topic).await;
    // All questions go out before the first answer is awaited.
    let asked: Vec<_> = (0..queues)
        .map(|queue| {
            let offset = offsets.get(&(topic.to_owned(), queue));
            let committed = offset.and_then(|offset| offset.committed).unwrap_or(0).max(0);
            let last = ranges.get(&queue).filter(|_| committed > 0).map(|(shard, _)| {
                let query =
                    ShardQuery::RecordTimestamp { topic: topic.to_owned(), queue, offset: committed - 1 };
                state.links.query(*shard, query)
            });
            let pulled = offset.and_then(|offset| offset.pulled).unwrap_or(0).max(committed);
            (queue, committed, pulled, last)
        })
        .collect();
    for (queue, committed, pulled, last) in asked {
        let last = match last {
            Some(answer) => match answer.await {
                ShardAnswer::Timestamp(Some(store_ms)) => store_ms.max(0),
                _ => 0,
            },
            None => 0,
        };
        let end = ranges.get(&queue).map_or(0, |(_, range)| range.max.max(0));
        let value = ConsumeOffset {
            broker_offset: end,
            consumer_offset: committed,
            last_timestamp: last,
            pull_offset: pulled,
        };
        table.offset_table.insert(message_queue(state, topic, queue), value);
    }
}

/// An online group that does not subscribe to the topic any more.
pub fn has_left(state: &State, group: &str, topic: &str) -> bool {
    let clients = state.clients.borrow();
    clients.consumer_group(group).is_some_and(|members| {
        !members.subscriptions.is_empty() && !members.subscriptions.contains_key(topic)
    })
}

/// QUERY_TOPIC_CONSUME_BY_WHO (300): online subscribers, and groups that have offsets on the topic.
pub async fn groups_of_topic(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let topic = TopicHeader::decode(&request.header.fields)?.topic.cow().into_owned();
    let mut groups: BTreeSet<String> = {
        let clients = state.clients.borrow();
        let subscribers =
            clients.consumer_groups().filter(|(_, members)| members.subscriptions.contains_key(&topic));
        subscribers.map(|(group, _)| group.clone()).collect()
    };
    for answer in state.query_all(ShardQuery::GroupsOfTopic { topic }).await {
        if let ShardAnswer::Groups(names) = answer {
            groups.extend(names);
        }
    }
    Ok(Answer::json(&GroupList { group_list: groups.into_iter().collect() }))
}

/// QUERY_TOPICS_BY_CONSUMER (343).
pub async fn topics_of_group(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let group = GroupHeader::decode(&request.header.fields)?.group.cow().into_owned();
    let offsets = group_offsets(state, &group).await;
    let committed = offsets.into_iter().filter(|(_, offset)| offset.committed.is_some());
    let topics: BTreeSet<String> = committed.map(|((topic, _), _)| topic).collect();
    Ok(Answer::json(&TopicList {
        broker_addr: Some(state.settings.address.clone()),
        topic_list: topics.into_iter().collect(),
    }))
}

/// QUERY_SUBSCRIPTION_BY_CONSUMER (345).
pub fn subscription(state: &State, request: &Request<'_>) -> Outcome {
    let header = GroupTopicHeader::decode(&request.header.fields)?;
    let (group, topic) = (header.group.cow(), header.topic.cow());
    let clients = state.clients.borrow();
    let data = clients.consumer_group(&group).and_then(|members| members.subscriptions.get(&*topic));
    let body = match data {
        Some(data) => json!({ "group": group, "subscriptionData": data, "topic": topic }),
        None => json!({ "group": group, "topic": topic }),
    };
    Ok(Answer::json(&body))
}

/// GET_ALL_CONSUMER_OFFSET (43).
pub async fn all_offsets(state: &Rc<State>) -> Outcome {
    let mut rows = Vec::new();
    for answer in state.query_all(ShardQuery::AllOffsets).await {
        if let ShardAnswer::Offsets(offsets) = answer {
            rows.extend(offsets.into_iter().filter_map(GroupOffset::into_row));
        }
    }
    let offset_table = offsets::to_table(rows);
    Ok(Answer::json(&AllConsumerOffsets {
        data_version: state.offsets.borrow().version(),
        group_topic_map: offsets::topics_by_group(&offset_table),
        offset_table: &offset_table,
    }))
}

/// GET_ALL_DELAY_OFFSET (45).
pub async fn delay_offsets(state: &Rc<State>) -> Outcome {
    Ok(Answer::json(&present_delay_offsets(state).await))
}

/// Shards report the delay levels every now and then; whoever looks wants to see them as they are.
pub async fn present_delay_offsets(state: &Rc<State>) -> DelayOffsetTable {
    let mut rows = Vec::new();
    for answer in state.query_all(ShardQuery::DelayOffsets).await {
        if let ShardAnswer::DelayOffsets(levels) = answer {
            rows.extend(levels);
        }
    }
    state.delays.borrow().with(rows, state.now_ms())
}

pub fn message_queue(state: &State, topic: &str, queue: i32) -> MessageQueue {
    MessageQueue { broker_name: state.settings.broker.clone(), queue_id: queue, topic: topic.to_owned() }
}

/// By queue, with the shard that owns it.
pub async fn queue_ranges(state: &State, topic: &str) -> BTreeMap<i32, (usize, QueueRange)> {
    let answers = state.query_all(ShardQuery::QueueRanges { topic: topic.to_owned() }).await;
    let mut ranges = BTreeMap::new();
    for (shard, answer) in answers.into_iter().enumerate() {
        if let ShardAnswer::QueueRanges(list) = answer {
            ranges.extend(list.into_iter().map(|range| (range.queue, (shard, range))));
        }
    }
    ranges
}

/// By topic and queue.
pub async fn group_offsets(state: &State, group: &str) -> BTreeMap<(String, i32), GroupOffset> {
    let answers = state.query_all(ShardQuery::GroupOffsets { group: group.to_owned() }).await;
    let mut offsets = BTreeMap::new();
    for answer in answers {
        if let ShardAnswer::Offsets(list) = answer {
            offsets.extend(list.into_iter().map(|row| ((row.topic.clone(), row.queue), row)));
        }
    }
    offsets
}
