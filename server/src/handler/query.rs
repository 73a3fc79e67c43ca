//! QUERY_MESSAGE (12): messages by key, newest first, out of the logs of all shards.

use std::rc::Rc;

use rmq_engine::{KeyQuery, KeyRecord, KeyRecords};
use rmq_protocol::frame::Frame;
use rmq_protocol::headers::QueryMessageHeader;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::writer::FrameWriter;
use tokio::sync::oneshot;

use super::{Handled, Origin, text, write_refusal};
use crate::answers::ReplyTo;
use crate::broker::key_index::{self, KeySeed};
use crate::broker::refusal::Refusal;
use crate::control::link::{KeyLookup, ShardAnswer, ShardQuery};
use crate::limits::{KEY_LOOKUP_BYTES_MAX, KEY_LOOKUPS_MAX};
use crate::mesh::MeshMessage;
use crate::net::executor;
use crate::shard::Shard;

/// Handled on the shard of the connection, which asks all of them: a topic's queues are everywhere.
pub fn query(shard: &Rc<Shard>, origin: &Origin<'_>, frame: &Frame<'_>) -> Result<Handled, Refusal> {
    let header = QueryMessageHeader::decode(&frame.header.fields)?;
    let settings = &shard.settings.query;
    // Java compares the text.
    let flag = frame.header.fields.find("_UNIQUE_KEY_QUERY");
    let is_unique = flag.is_some_and(|flag| text(flag) == "true");
    let asked = if is_unique { settings.unique_messages_max } else { header.messages_max };
    let Ok(asked) = usize::try_from(asked) else {
        return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, format!("maxNum {asked} is below 0")));
    };
    let lookup = KeyLookup {
        topic: text(header.topic).into_owned(),
        key: text(header.key).into_owned(),
        begin_ms: header.begin_timestamp,
        end_ms: header.end_timestamp,
        messages_max: asked.min(settings.messages_max),
    };
    if shard.key_lookups.get() >= KEY_LOOKUPS_MAX {
        return Err(Refusal::new(
            ResponseCode::SYSTEM_BUSY,
            "[REJECTREQUEST]system busy, start flow control for a while: too many queries are under way",
        ));
    }
    let to = ReplyTo::of(origin.connection, &frame.header);
    shard.answers.defer(&to);
    shard.key_lookups.set(shard.key_lookups.get() + 1);
    let shard = Rc::clone(shard);
    executor::spawn(async move {
        let outcome = ask_all(&shard, lookup).await;
        shard.key_lookups.set(shard.key_lookups.get() - 1);
        shard.answers.later(&to, |out| match &outcome {
            Ok(found) => write_found(out, &to, found),
            Err(refusal) => write_refusal(out, &to, refusal),
        });
        shard.answers.flush(shard.now_ms());
    });
    Ok(Handled::Done)
}

async fn ask_all(shard: &Shard, lookup: KeyLookup) -> Result<KeyRecords, Refusal> {
    let asked: Vec<_> = (0..shard.ownership.shards())
        .map(|index| {
            let (answer, answered) = oneshot::channel();
            let query = ShardQuery::ByKey(lookup.clone());
            shard.forwarding.send(index, MeshMessage::Query { query, answer });
            answered
        })
        .collect();
    let failed = |remark: String| Refusal::new(ResponseCode::SYSTEM_ERROR, remark);
    let mut all = Vec::new();
    for answered in asked {
        match answered.await {
            Ok(ShardAnswer::ByKey(found)) => all.push(*found),
            Ok(ShardAnswer::Failed(remark)) => return Err(failed(remark)),
            _ => return Err(failed("a shard is shutting down".to_owned())),
        }
    }
    Ok(merge(all, lookup.messages_max))
}

/// The newest of what the shards found, oldest first.
fn merge(answers: Vec<KeyRecords>, messages_max: usize) -> KeyRecords {
    let mut merged = KeyRecords::default();
    for answer in answers {
        if (answer.last_ms, answer.last_offset) > (merged.last_ms, merged.last_offset) {
            (merged.last_ms, merged.last_offset) = (answer.last_ms, answer.last_offset);
        }
        merged.unknown_bytes += answer.unknown_bytes;
        merged.records.extend(answer.records);
    }
    merged.records.sort_by_key(|record| (record.store_timestamp_ms, record.physical_offset));
    let mut bytes = 0;
    let fits = |record: &&KeyRecord| {
        bytes += record.bytes.len();
        bytes <= KEY_LOOKUP_BYTES_MAX
    };
    let kept = merged.records.iter().rev().take(messages_max).take_while(fits).count();
    // One at least: a shard may find a message that is larger than all the rest may be.
    let kept = kept.max(merged.records.len().min(messages_max).min(1));
    merged.records.drain(..merged.records.len() - kept);
    merged
}

fn write_found(out: &mut Vec<u8>, to: &ReplyTo, found: &KeyRecords) {
    let is_found = !found.records.is_empty();
    let unknown = (found.unknown_bytes > 0)
        .then(|| format!("{} bytes of the log are not in the index of keys yet", found.unknown_bytes));
    // As in Java, who finds nothing does not hear how far the index is.
    let (last_ms, last_offset) = if is_found { (found.last_ms, found.last_offset.0) } else { (0, 0) };
    let code = if is_found { ResponseCode::SUCCESS } else { ResponseCode::QUERY_NOT_FOUND };
    let mut writer = FrameWriter::response(out, to.codec, code, to.opaque)
        .field_int("indexLastUpdateTimestamp", last_ms)
        .field_int("indexLastUpdatePhyoffset", last_offset);
    match (is_found, unknown) {
        (true, None) => {}
        (true, Some(unknown)) => writer.put_remark(&unknown),
        (false, None) => writer.put_remark(NOT_FOUND),
        (false, Some(unknown)) => writer.put_remark(&format!("{NOT_FOUND}; {unknown}")),
    }
    writer.body_with(|out| found.records.iter().for_each(|record| out.extend_from_slice(&record.bytes)));
}

const NOT_FOUND: &str = "can not find message, maybe time range not correct";

/// What this shard's log has.
pub async fn look_up(shard: &Rc<Shard>, lookup: KeyLookup) -> ShardAnswer {
    let KeyLookup { topic, key, begin_ms, end_ms, messages_max } = lookup;
    let hash = KeySeed::of_topic(&topic).hash(key.as_bytes());
    let query =
        KeyQuery { hash, begin_ms, end_ms, records_max: messages_max, bytes_max: KEY_LOOKUP_BYTES_MAX };
    let accepts = move |record: &[u8]| key_index::is_found_by(record, &topic, key.as_bytes());
    match Rc::clone(&shard.engine).query_key(query, accepts).await {
        Ok(found) => ShardAnswer::ByKey(Box::new(found)),
        Err(error) => ShardAnswer::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use rmq_engine::PhysicalOffset;

    use super::*;

    fn found(times: &[i64], bytes: usize) -> KeyRecords {
        let record = |&ms: &i64| KeyRecord {
            store_timestamp_ms: ms,
            physical_offset: PhysicalOffset(ms * 10),
            bytes: vec![0; bytes],
        };
        let last_ms = *times.last().unwrap_or(&0);
        let records = times.iter().map(record).collect();
        KeyRecords { records, last_ms, last_offset: PhysicalOffset(last_ms * 10), unknown_bytes: 1 }
    }

    fn times(found: &KeyRecords) -> Vec<i64> {
        found.records.iter().map(|record| record.store_timestamp_ms).collect()
    }

    #[test]
    fn the_newest_of_all_shards_are_kept() {
        let all = || vec![found(&[1, 4, 9], 10), found(&[], 10), found(&[2, 3, 8], 10)];
        let merged = merge(all(), 4);
        assert_eq!(times(&merged), [3, 4, 8, 9]);
        assert_eq!((merged.last_ms, merged.last_offset, merged.unknown_bytes), (9, PhysicalOffset(90), 3));
        assert_eq!(times(&merge(all(), 64)), [1, 2, 3, 4, 8, 9]);
        assert_eq!(times(&merge(all(), 0)), [0; 0]);
    }

    #[test]
    fn an_answer_has_a_bound_in_bytes_and_one_message_at_least() {
        let half = KEY_LOOKUP_BYTES_MAX / 2;
        assert_eq!(times(&merge(vec![found(&[1, 4], half), found(&[2, 3], half)], 64)), [3, 4]);
        assert_eq!(times(&merge(vec![found(&[1, 4], 3 * half)], 64)), [4]);
    }
}
