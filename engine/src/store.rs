//! Opening a store: one directory, one process, as many shards as the machine has cores.

use std::path::Path;
use std::sync::Arc;

use crate::env::{Env, LockGuard};
use crate::error::Error;
use crate::limits::NUMBER_RUN;
use crate::offset::QueueName;
use crate::options::StoreOptions;
use crate::queue::Queue;
use crate::schema::Schema;
use crate::segment;
use crate::superblock::{self, Shared, Superblock};

/// The way to a store's shards.
pub struct Store;

/// What one shard starts from. May be sent to the executor that will run it.
pub struct ShardSeed {
    pub(crate) index: usize,
    pub(crate) epoch: u32,
    pub(crate) store_id: u64,
    pub(crate) options: StoreOptions,
    pub(crate) schema: Arc<dyn Schema>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) lock: LockGuard,
    pub(crate) queues: Vec<Queue>,
    pub(crate) next_queue: u32,
    pub(crate) active: Option<LogEnd>,
    /// The segment before the one that a start without `active` creates.
    pub(crate) previous: Option<u64>,
    pub(crate) last_ms: i64,
}

/// Where a log goes on.
pub(crate) struct LogEnd {
    pub number: u64,
    pub base_ms: i64,
    pub end: u32,
    /// The bytes of the last, part-filled block: it will be written again.
    pub head: Vec<u8>,
}

impl ShardSeed {
    pub fn index(&self) -> usize {
        self.index
    }
}

impl Store {
    /// Opens or creates the store in `options.dir`. `owner` says which shard a queue belongs to.
    /// Runs once, on any executor; the seeds go to the shards' own.
    pub async fn open<E: Env>(
        env: &E,
        options: StoreOptions,
        schema: Arc<dyn Schema>,
        _owner: &dyn Fn(&QueueName) -> usize,
    ) -> Result<Vec<ShardSeed>, Error> {
        options.check()?;
        let dir = options.dir.clone();
        env.prepare_dir(&dir).await.map_err(Error::io("create", &dir))?;
        let lock = lock_dir(env, &dir.join("lock"), options.lock_wait_ms).await?;
        let log_dir = segment::log_dir(&dir);
        env.prepare_dir(&log_dir).await.map_err(Error::io("create", &log_dir))?;
        env.sync_dir(&dir).await.map_err(Error::io("sync", &dir))?;

        let found = superblock::read(env, &dir).await?;
        let mut superblock = found.unwrap_or_else(|| Superblock {
            sequence: 0,
            store_id: env.random(),
            epoch: 0,
            shards: options.shards as u32,
            segment_size: options.segment_size_bytes,
            number_high: 0,
            generation: 0,
            queue_table_version: 0,
        });
        superblock.sequence += 1;
        superblock.epoch += 1;
        superblock.number_high += NUMBER_RUN;
        superblock::write(env, &dir, &superblock).await?;
        env.sync_dir(&dir).await.map_err(Error::io("sync", &dir))?;

        let shared = Arc::new(Shared::new(&dir, superblock));
        let seeds = (0..options.shards).map(|index| ShardSeed {
            index,
            epoch: superblock.epoch,
            store_id: superblock.store_id,
            options: options.clone(),
            schema: Arc::clone(&schema),
            shared: Arc::clone(&shared),
            lock: Arc::clone(&lock),
            queues: Vec::new(),
            next_queue: index as u32,
            active: None,
            previous: None,
            last_ms: 0,
        });
        Ok(seeds.collect())
    }
}

/// One process per store. A killed one may hold it a little longer than it lives.
async fn lock_dir<E: Env>(env: &E, path: &Path, wait_ms: u64) -> Result<LockGuard, Error> {
    const STEP_US: u64 = 50_000;
    let deadline = env.monotonic_us() + wait_ms * 1000;
    loop {
        match env.lock(path).map_err(Error::io("lock", path))? {
            Ok(guard) => return Ok(guard),
            Err(holder) if env.monotonic_us() >= deadline => {
                return Err(Error::Locked { path: path.to_owned(), holder });
            }
            Err(_) => env.sleep_us(STEP_US).await,
        }
    }
}
