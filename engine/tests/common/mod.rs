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

    fn keys(&self, record: &[u8], visit: &mut dyn FnMut(u32)) {
        visit(key_of(&record[HEAD..]));
    }
}

/// The one key of a record with this body: a hash of its first bytes.
pub fn key_of(body: &[u8]) -> u32 {
    let start = body.iter().take(8).fold(body.len().min(8) as u64, |word, &byte| word << 8 | u64::from(byte));
    (start.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
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
    let mut places = Vec::new();
    let appended = shard.append(queue, &plans, |n, out, stamp| {
        places.push(stamp.physical_offset);
        out[..4].copy_from_slice(&plans[n].len.to_le_bytes());
        out[4..12].copy_from_slice(&stamp.queue_offset.0.to_le_bytes());
        out[12..20].copy_from_slice(&stamp.store_timestamp_ms.to_le_bytes());
        out[20..28].copy_from_slice(&plans[n].filter_code.to_le_bytes());
        out[28..].copy_from_slice(&bodies[n]);
    })?;
    for (place, body) in places.into_iter().zip(bodies) {
        shard.note_key(&appended, place, key_of(body));
    }
    Ok(appended)
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

/// A store on a simulated disk, one life at a time.
#[allow(dead_code, reason = "not every test needs a simulated store")]
pub mod sim {
    use std::cell::RefCell;
    use std::path::{Path, PathBuf};
    use std::rc::Rc;
    use std::sync::Arc;

    use rmq_engine::env::sim::{Faults, Sim, SimDisk, SimEnv};
    use rmq_engine::{AppendError, Env, Error, FlushMode, QueueNumber, Shard, Store, StoreOptions};

    pub const SEGMENT_BYTES: u64 = 64 << 10;

    pub fn options(flush: FlushMode) -> StoreOptions {
        StoreOptions {
            segment_size_bytes: SEGMENT_BYTES,
            flush,
            tail_cache_bytes: 32 << 10,
            read_cache_bytes: 512 << 10,
            zero_ahead_bytes: 32 << 10,
            lock_wait_ms: 10,
            ..StoreOptions::new("/store")
        }
    }

    pub fn path(name: &str) -> PathBuf {
        Path::new("/store").join(name)
    }

    pub fn segment(number: u64, extension: &str) -> PathBuf {
        path(&format!("commitlog/{number:020}.{extension}"))
    }

    pub async fn open(env: &SimEnv, options: StoreOptions) -> Result<Rc<Shard<SimEnv>>, Error> {
        let mut seeds = Store::open(env, options, Arc::new(super::TestSchema), &|_| 0).await?;
        Shard::start(env.clone(), seeds.remove(0)).await
    }

    /// Runs one life on this disk and then kills it: only what `work` shut down ends in good order.
    pub fn life<T, F>(disk: &SimDisk, seed: u64, faults: Faults, work: impl FnOnce(SimEnv) -> F) -> Option<T>
    where
        T: 'static,
        F: Future<Output = T> + 'static,
    {
        let sim = Sim::new(seed, disk, faults);
        let result = sim.run(work(sim.env()));
        drop(sim);
        disk.kill(seed);
        result
    }

    /// Appends until it is taken, and waits for the acknowledgement.
    pub async fn send(
        env: &SimEnv,
        shard: &Shard<SimEnv>,
        queue: QueueNumber,
        bodies: &[Vec<u8>],
    ) -> Result<rmq_engine::Appended, AppendError> {
        loop {
            match super::append(shard, queue, bodies) {
                Err(AppendError::Busy) => env.sleep_us(200).await,
                Err(other) => return Err(other),
                Ok(appended) => {
                    let stopped = Rc::new(RefCell::new(false));
                    let told = Rc::clone(&stopped);
                    shard.on_progress(Rc::new(move |progress| {
                        *told.borrow_mut() |= progress == rmq_engine::Progress::Stopped;
                    }));
                    while shard.acknowledged() < appended.end {
                        if *stopped.borrow() || shard.stats().stopped {
                            return Err(AppendError::Poisoned);
                        }
                        env.sleep_us(50).await;
                    }
                    return Ok(appended);
                }
            }
        }
    }
}
