//! What tools and slaves ask about the timer: GET_TIMER_CHECK_POINT (60), GET_TIMER_METRICS (61), and its part of
//! GET_BROKER_RUNTIME_INFO (28).

use std::collections::BTreeMap;
use std::rc::Rc;

use rmq_protocol::body::DataVersion;
use serde_json::json;

use crate::control::answer::{Answer, Outcome, Refusal};
use crate::control::link::{PendingCount, ShardAnswer, ShardQuery, TimerStats};
use crate::control::state::State;

/// Seven numbers, as in Java's file of the same name. There is no log of the wheel's here, hence its 0.
pub async fn checkpoint(state: &Rc<State>) -> Outcome {
    let stats = stats(state).await;
    let version = version(state, &stats);
    let words = [
        stats.read_ms,
        0,
        stats.next_offset,
        stats.next_offset,
        version.state_version,
        version.timestamp,
        version.counter,
    ];
    Ok(Answer::body(words.iter().flat_map(|word| word.to_be_bytes()).collect()))
}

/// Waiting messages by topic.
pub async fn metrics(state: &Rc<State>) -> Outcome {
    if !state.settings.timer {
        return Err(Refusal::system_error("The timer message store is null"));
    }
    let stats = stats(state).await;
    let version = version(state, &stats);
    let counts: BTreeMap<String, serde_json::Value> = stats
        .counts
        .into_iter()
        .map(|(topic, count)| (topic, json!({"count": count.pending, "timeStamp": count.changed_ms})))
        .collect();
    Ok(Answer::json(&json!({"dataVersion": version, "timingCount": counts})))
}

/// The timer's keys of the runtime table.
pub async fn texts(state: &Rc<State>) -> [(&'static str, String); 5] {
    let stats = stats(state).await;
    let behind_ms = if stats.pending == 0 { 0 } else { state.now_ms() - stats.read_ms };
    // Java's numbers are floats, whose text has a fraction always.
    let rate = |per_second: f64| format!("{:?}", per_second as f32);
    [
        ("timerReadBehind", (behind_ms / 1_000).max(0).to_string()),
        ("timerOffsetBehind", stats.offset_behind.to_string()),
        ("timerCongestNum", stats.pending.to_string()),
        ("timerEnqueueTps", rate(stats.enqueued_per_s)),
        ("timerDequeueTps", rate(stats.dequeued_per_s)),
    ]
}

/// Over all shards.
async fn stats(state: &Rc<State>) -> TimerStats {
    let mut total = TimerStats { read_ms: state.now_ms(), ..TimerStats::default() };
    let mut counts: BTreeMap<String, PendingCount> = BTreeMap::new();
    for answer in state.query_all(ShardQuery::Timer).await {
        let ShardAnswer::Timer(stats) = answer else { continue };
        total.read_ms = total.read_ms.min(stats.read_ms);
        total.next_offset += stats.next_offset;
        total.offset_behind += stats.offset_behind;
        total.pending += stats.pending;
        total.enqueued_per_s += stats.enqueued_per_s;
        total.dequeued_per_s += stats.dequeued_per_s;
        for (topic, count) in stats.counts {
            let sum = counts.entry(topic).or_default();
            sum.pending += count.pending;
            sum.changed_ms = sum.changed_ms.max(count.changed_ms);
        }
    }
    total.counts = counts.into_iter().collect();
    total
}

/// Changes with every message that the timer takes up.
fn version(state: &State, stats: &TimerStats) -> DataVersion {
    let newest = stats.counts.iter().map(|(_, count)| count.changed_ms).max();
    DataVersion {
        counter: stats.next_offset,
        timestamp: newest.unwrap_or(state.started_ms),
        ..DataVersion::default()
    }
}
