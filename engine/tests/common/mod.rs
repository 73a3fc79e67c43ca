//! A record layout for tests: length u32, queue offset i64, store time i64, filter code i64, body.

use rmq_engine::{
    AppendError, Appended, Env, QueueNumber, QueueOffset, RecordMeta, RecordPlan, Schema, Shard,
};

pub struct TestSchema;

pub const HEAD: usize = 28;

impl Schema for TestSchema {
    fn describe(&self, record: &[u8]) -> Option<RecordMeta> {
        let long = |at: usize| record.get(at..at + 8).map(|b| i64::from_le_bytes(b.try_into().unwrap()));
        Some(RecordMeta {
            len: u32::from_le_bytes(record.get(..4)?.try_into().ok()?),
            queue_offset: QueueOffset(long(4)?),
            store_timestamp_ms: long(12)?,
            filter_code: long(20)?,
        })
    }
}

/// Appends bodies as one batch. The filter code is the body's first byte.
pub fn append<E: Env>(
    shard: &Shard<E>,
    queue: QueueNumber,
    bodies: &[Vec<u8>],
) -> Result<Appended, AppendError> {
    let plan = |body: &Vec<u8>| RecordPlan {
        len: (HEAD + body.len()) as u32,
        filter_code: body.first().map_or(0, |&byte| i64::from(byte)),
    };
    let plans: Vec<RecordPlan> = bodies.iter().map(plan).collect();
    shard.append(queue, &plans, |n, out, stamp| {
        out[..4].copy_from_slice(&plans[n].len.to_le_bytes());
        out[4..12].copy_from_slice(&stamp.queue_offset.0.to_le_bytes());
        out[12..20].copy_from_slice(&stamp.store_timestamp_ms.to_le_bytes());
        out[20..28].copy_from_slice(&plans[n].filter_code.to_le_bytes());
        out[28..].copy_from_slice(&bodies[n]);
    })
}

#[allow(dead_code, reason = "not every test reads records back")]
/// Offsets and bodies of records that follow each other.
pub fn split(mut bytes: &[u8]) -> Vec<(i64, Vec<u8>)> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let meta = TestSchema.describe(bytes).expect("whole records");
        let (record, rest) = bytes.split_at(meta.len as usize);
        records.push((meta.queue_offset.0, record[HEAD..].to_vec()));
        bytes = rest;
    }
    records
}
