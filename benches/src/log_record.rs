//! The least record that the engine takes: the benches of the engine fill their logs with it.
//!
//! ```text
//! 0 length u32 | 4 queue offset i64 | 12 store time i64 | 20 filler
//! ```

use rmq_engine::{
    AppendError, Env, LogPosition, QueueNumber, QueueOffset, RecordMeta, RecordPlan, Schema, Shard, Stamp,
};

const HEAD_BYTES: usize = 20;

pub struct BenchSchema;

impl Schema for BenchSchema {
    fn describe(&self, record: &[u8]) -> Option<RecordMeta> {
        let long =
            |at: usize| record.get(at..at + 8).map(|b| i64::from_le_bytes(b.try_into().expect("eight")));
        Some(RecordMeta {
            len: u32::from_le_bytes(record.get(..4)?.try_into().ok()?),
            queue_offset: QueueOffset(long(4)?),
            store_timestamp_ms: long(12)?,
            filter_code: 0,
        })
    }
}

/// Appends one record of so many bytes; it is acknowledged once the shard has come to where it ends.
pub fn append<E: Env>(
    shard: &Shard<E>,
    queue: QueueNumber,
    bytes: usize,
) -> Result<LogPosition, AppendError> {
    let plan = RecordPlan { len: bytes as u32, filter_code: 0 };
    let appended = shard.append(queue, &[plan], |_, out: &mut [u8], stamp: &Stamp| {
        out[..4].copy_from_slice(&plan.len.to_le_bytes());
        out[4..12].copy_from_slice(&stamp.queue_offset.0.to_le_bytes());
        out[12..HEAD_BYTES].copy_from_slice(&stamp.store_timestamp_ms.to_le_bytes());
        out[HEAD_BYTES..].fill(7);
    })?;
    Ok(appended.end)
}
