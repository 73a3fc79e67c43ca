//! GET_BROKER_RUNTIME_INFO (28): a table of texts. Tools index it without looking, so every key of Java's broker
//! is there, also where the answer is a constant here.

use std::collections::BTreeMap;
use std::rc::Rc;

use rmq_protocol::body::KvTable;
use rmq_protocol::language::version;

use super::{stats, timer};
use crate::control::answer::{Answer, Outcome};
use crate::control::link::{ShardAnswer, ShardQuery};
use crate::control::names;
use crate::control::rates::{self, Rate, java_double};
use crate::control::state::State;

/// Histogram of put times, which this broker does not keep.
const NO_DISTRIBUTION: &str = "[<=0ms]:0 [0~10ms]:0 [10~50ms]:0 [50~100ms]:0 [100~200ms]:0 [200~500ms]:0 \
                               [500ms~1s]:0 [1~2s]:0 [2~3s]:0 [3~4s]:0 [4~5s]:0 [5~10s]:0 [10s~]:0 ";

/// Queues between threads, which this broker does not have: name, key of the capacity, Java's default.
const POOLS: [(&str, &str, &str); 5] = [
    ("send", "sendThreadPoolQueueCapacity", "10000"),
    ("pull", "pullThreadPoolQueueCapacity", "100000"),
    ("litePull", "litePullThreadPoolQueueCapacity", "100000"),
    ("query", "queryThreadPoolQueueCapacity", "20000"),
    ("ack", "ackThreadPoolQueueCapacity", "100000"),
];

pub async fn info(state: &Rc<State>) -> Outcome {
    // Fresh numbers, so that a tool that asks right after a send sees it.
    let now = rates::sum(state.query_all(ShardQuery::Stats).await);
    let now_ms = state.now_ms();
    let delays = delay_progress(state).await;
    let timer = timer::texts(state).await;

    let mut table: BTreeMap<String, String> = BTreeMap::new();
    let mut put = |key: &str, value: String| {
        table.insert(key.to_owned(), value);
    };
    put("brokerVersionDesc", version::name(version::V5_3_3));
    put("brokerVersion", version::V5_3_3.to_string());
    put("bootTimestamp", state.started_ms.to_string());
    put("runtime", duration_text(now_ms - state.started_ms));
    put("brokerActive", true.to_string());
    put("startAcceptSendRequestTimeStamp", state.settings.start_accept_send_ms.to_string());

    put("putMessageTimesTotal", now.messages_put.max(1).to_string());
    put("putMessageFailedTimes", now.put_failed.to_string());
    put("putMessageSizeTotal", now.bytes_put.to_string());
    put("putMessageAverageSize", java_double(now.bytes_put as f64 / now.messages_put.max(1) as f64));
    put("putMessageEntireTimeMax", now.put_ms_max.to_string());
    put("putMessageDistributeTime", NO_DISTRIBUTION.to_owned());
    put("putLatency99", "0.00".to_owned());
    put("putLatency999", "0.00".to_owned());
    put("getMessageEntireTimeMax", "0".to_owned());
    put("dispatchMaxBuffer", "0".to_owned());
    {
        let rates = state.rates.borrow();
        put("putTps", rates.text(Rate::Put));
        put("getFoundTps", rates.text(Rate::GetFound));
        put("getMissTps", rates.text(Rate::GetMiss));
        put("getTotalTps", rates.text(Rate::GetTotal));
        put("getTransferredTps", rates.text(Rate::Transferred));
        // Tools of 4.x know it with one r.
        put("getTransferedTps", rates.text(Rate::Transferred));
        let mornings = rates.mornings();
        put("msgPutTotalYesterdayMorning", mornings.put_yesterday.to_string());
        put("msgPutTotalTodayMorning", mornings.put_today.to_string());
        put("msgGetTotalYesterdayMorning", mornings.got_yesterday.to_string());
        put("msgGetTotalTodayMorning", mornings.got_today.to_string());
    }
    put("msgPutTotalTodayNow", now.messages_put.to_string());
    put("msgGetTotalTodayNow", now.messages_got.to_string());

    put("commitLogMinOffset", now.log_min_offset.to_string());
    put("commitLogMaxOffset", now.log_max_offset.to_string());
    put("commitLogDiskRatio", java_double(now.disk_ratio));
    put(&format!("commitLogDiskRatio_{}", state.settings.log_dir.display()), java_double(now.disk_ratio));
    put("consumeQueueDiskRatio", java_double(now.disk_ratio));
    put("commitLogDirCapacity", capacity_text(&state.settings.log_dir));
    put("earliestMessageTimeStamp", now.earliest_message_ms.unwrap_or(-1).to_string());
    put("dispatchBehindBytes", "0".to_owned());
    put("pageCacheLockTimeMills", "0".to_owned());
    put("remainTransientStoreBufferNumbs", i32::MAX.to_string());
    put("remainHowManyDataToFlush", size_text(now.unflushed_bytes));
    for (level, progress) in delays {
        put(&format!("scheduleMessageOffset_{level}"), progress);
    }
    for (key, text) in timer {
        put(key, text);
    }
    for (pool, capacity_key, default) in POOLS {
        put(&format!("{pool}ThreadPoolQueueSize"), "0".to_owned());
        put(&format!("{pool}ThreadPoolQueueCapacity"), setting(state, capacity_key, default));
        put(&format!("{pool}ThreadPoolQueueHeadWaitTimeMills"), "0".to_owned());
    }
    put("EndTransactionQueueSize", "0".to_owned());
    put("EndTransactionThreadPoolQueueCapacity", setting(state, "endTransactionPoolQueueCapacity", "100000"));
    Ok(Answer::json(&KvTable { table }))
}

/// `delivered,end` of each level that ever held a record.
async fn delay_progress(state: &Rc<State>) -> Vec<(i32, String)> {
    let levels = stats::present_delay_offsets(state).await.offset_table;
    let query = ShardQuery::QueueRanges { topic: names::SCHEDULE_TOPIC.to_owned() };
    let mut ends = BTreeMap::new();
    for answer in state.query_all(query).await {
        if let ShardAnswer::QueueRanges(ranges) = answer {
            ends.extend(ranges.into_iter().map(|range| (range.queue, range.max)));
        }
    }
    let progress = |(level, delivered): (i32, i64)| {
        (level, format!("{delivered},{}", ends.get(&(level - 1)).copied().unwrap_or(0)))
    };
    levels.into_iter().map(progress).collect()
}

fn setting(state: &State, key: &str, default: &str) -> String {
    state.config.borrow().find(key).unwrap_or(default).to_owned()
}

fn duration_text(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    let (hours, minutes) = (minutes / 60, minutes % 60);
    let (days, hours) = (hours / 24, hours % 24);
    format!("[ {days} days, {hours} hours, {minutes} minutes, {seconds} seconds ]")
}

fn size_text(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

fn capacity_text(directory: &std::path::Path) -> String {
    // The directory may not exist yet; its nearest ancestor lies on the same file system.
    let known = directory.ancestors().find_map(|path| nix::sys::statvfs::statvfs(path).ok());
    let (total, free) = known.map_or((0, 0), |stat| {
        (stat.blocks() * stat.fragment_size(), stat.blocks_free() * stat.fragment_size())
    });
    format!("Total : {}, Free : {}.", size_text(total), size_text(free))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_read_as_javas() {
        assert_eq!(duration_text(90_061_999), "[ 1 days, 1 hours, 1 minutes, 1 seconds ]");
        assert_eq!(duration_text(-5), "[ 0 days, 0 hours, 0 minutes, 0 seconds ]");
        assert_eq!(size_text(1023), "1023 B");
        assert_eq!(size_text(1536), "1.5 KiB");
        assert_eq!(size_text(5 << 40), "5.0 TiB");
        assert!(capacity_text(std::path::Path::new("/nowhere/at/all")).starts_with("Total : "));
    }
}
