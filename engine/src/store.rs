//! Opening a store: one directory, one process, as many shards as the machine has cores.
//!
//! The order of what becomes durable is what makes a crash at any point harmless: first the new epoch, then
//! what it writes (a SEAL where queues change their shard, index files, queue maps of a new generation), and
//! last the superblock that puts this generation in force.

mod chain;
mod recover;
mod replay;
mod scan;
mod walk;

use std::path::Path;
use std::sync::Arc;

use recover::{Queues, RecoveredLog, Recovery};
pub(crate) use recover::{Sealed, span_of};
use replay::LeftMemory;
pub(crate) use scan::{Frame, Scan};
pub(crate) use walk::records;

use crate::env::{Env, LockGuard};
use crate::error::Error;
use crate::limits::NUMBER_RUN;
use crate::memory_record;
use crate::offset::QueueName;
use crate::options::{MemoryTail, StoreOptions};
use crate::queue::Queue;
use crate::queue_map::{self, Found, MapRow, QueueMap};
use crate::schema::Schema;
use crate::segment::{self, SegmentHeader};
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
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) active: Option<LogEnd>,
    pub(crate) spare: Option<SegmentHeader>,
    /// The segment before the one that a start without `active` creates.
    pub(crate) previous: Option<u64>,
    pub(crate) last_ms: i64,
    /// Of the queue map that is in force.
    pub(crate) map_sequence: u64,
}

/// Where a log goes on.
pub(crate) struct LogEnd {
    pub number: u64,
    pub base_ms: i64,
    pub end: u32,
    /// The bytes of the last, part-filled block: it will be written again.
    pub head: Vec<u8>,
    /// Newest store time in the segment.
    pub last_ms: i64,
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
        mut options: StoreOptions,
        schema: Arc<dyn Schema>,
        owner: &dyn Fn(&QueueName) -> usize,
    ) -> Result<Vec<ShardSeed>, Error> {
        options.check()?;
        if let Some(tail) = &options.memory_tail {
            check_memory_dir(env, tail).await?;
        }
        let dir = options.dir.clone();
        let lock = prepare_dirs(env, &dir, options.lock_wait_ms).await?;

        let old = match superblock::read(env, &dir).await? {
            Some(found) => found,
            None => new_superblock(env, &options).await?,
        };
        if old.segment_size != options.segment_size_bytes {
            tracing::warn!(
                wanted = options.segment_size_bytes,
                actual = old.segment_size,
                "the store was created with another segment size, which stays"
            );
            options.segment_size_bytes = old.segment_size;
        }
        let memory = LeftMemory::find(env, &dir, &old).await?;
        let chains = chain::read_chains(env, &dir, &old).await?;
        if old.generation == 0 && !chains.is_empty() {
            // Shards start only after a generation is in force.
            let path = superblock::path(&dir);
            return Err(Error::corrupt(&path, 0, "older than the segments", superblock::REMEDY));
        }
        let mut superblock = old;
        superblock.epoch += 1;
        superblock.number_high += NUMBER_RUN;
        superblock::write_twice(env, &dir, &mut superblock).await?;
        env.sync_dir(&dir).await.map_err(Error::io("sync", &dir))?;

        let mut recovery = Recovery {
            env,
            options: &options,
            schema: &*schema,
            superblock: old,
            memory,
            queues: Queues::new(),
            number_high: 0,
            last_ms: 0,
            is_rebuild: false,
        };
        let maps = read_maps(&mut recovery).await?;
        if recovery.is_rebuild {
            for chain in chains.values() {
                recovery.take_names(chain).await?;
            }
        }
        let shards = options.shards;
        let mut logs: Vec<(u32, RecoveredLog)> = Vec::new();
        for (&shard, chain) in &chains {
            let map = maps.get(shard as usize).and_then(Option::as_ref);
            let map = map.filter(|_| !recovery.is_rebuild);
            let covered = shard >= old.shards && !recovery.is_rebuild;
            logs.push((shard, recovery.recover_log(chain, map, covered).await?));
        }
        for (shard, log) in &mut logs {
            if is_left(*shard, log, &recovery.queues, shards, owner)
                && let Some(header) = active_header(&chains[shard], log)
            {
                recovery.seal_active(&header, log, superblock.epoch).await?;
            }
        }

        let Recovery { memory, queues, number_high, last_ms, .. } = recovery;
        let shared_queues = divide(queues, shards, owner);
        let shared = Arc::new(Shared::new(&dir, superblock, old.number_high));
        if old.shards as usize == shards {
            for (shard, log) in &logs {
                let spare = log.spare.iter().map(|header| header.number);
                let own = log.sealed.iter().map(|sealed| sealed.number).chain(spare);
                own.chain(log.active.iter().map(|active| active.number))
                    .for_each(|number| shared.remember_writer(number, *shard as usize));
            }
        }
        let mut seeds = Vec::new();
        for (index, queues) in shared_queues.into_iter().enumerate() {
            let sealed_here = |shard: u32| shard as usize % shards == index;
            let sealed =
                logs.iter().filter(|(shard, _)| sealed_here(*shard)).flat_map(|(_, log)| &log.sealed);
            let mut sealed: Vec<Sealed> = sealed.copied().collect();
            sealed.sort_by_key(|sealed| sealed.number);
            let own = logs.iter_mut().find(|(shard, _)| *shard as usize == index).map(|(_, log)| log);
            let RecoveredLog { active, spare, end, .. } = own.map(std::mem::take).unwrap_or_default();
            let old_sequence = maps.get(index).and_then(Option::as_ref).map_or(0, |map| map.sequence);
            let map = QueueMap {
                store_id: superblock.store_id,
                generation: superblock.epoch,
                sequence: old_sequence + 1,
                epoch: superblock.epoch,
                shard: index as u32,
                clean: false,
                at: end,
                number_high,
                queues: queues.iter().map(row).collect(),
            };
            queue_map::write(env, &dir, &map).await?;
            seeds.push(ShardSeed {
                index,
                epoch: superblock.epoch,
                store_id: superblock.store_id,
                options: options.clone(),
                schema: Arc::clone(&schema),
                shared: Arc::clone(&shared),
                lock: Arc::clone(&lock),
                queues,
                next_queue: number_high.next_multiple_of(shards as u32) + index as u32,
                sealed,
                active,
                spare,
                previous: end.map(|end| end.segment),
                last_ms,
                map_sequence: map.sequence,
            });
        }
        shared
            .update(env, |superblock| {
                superblock.shards = shards as u32;
                superblock.generation = superblock.epoch;
            })
            .await?;
        // What was in it is durable, and this generation's: nobody will look for it again.
        memory.remove(env, &dir).await?;
        Ok(seeds)
    }
}

const _: () = {
    // Seeds travel from the executor that opened the store to those of the shards.
    const fn is_send<T: Send>() {}
    is_send::<ShardSeed>();
};

/// Before anything is touched: a file on a disk would be no memory, and cost what the tail is to save.
async fn check_memory_dir<E: Env>(env: &E, tail: &MemoryTail) -> Result<(), Error> {
    match env.is_memory_dir(&tail.dir).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::memory(&tail.dir, std::io::Error::other("the directory is not on tmpfs"))),
        Err(error) => Err(Error::memory(&tail.dir, error)),
    }
}

/// Creates what is missing of the directories and locks the store.
async fn prepare_dirs<E: Env>(env: &E, dir: &Path, lock_wait_ms: u64) -> Result<LockGuard, Error> {
    env.prepare_dir(dir).await.map_err(Error::io("create", dir))?;
    let lock = lock_dir(env, &dir.join("lock"), lock_wait_ms).await?;
    for below in [segment::log_dir(dir), queue_map::dir(dir), memory_record::dir(dir)] {
        env.prepare_dir(&below).await.map_err(Error::io("create", &below))?;
    }
    env.sync_dir(dir).await.map_err(Error::io("sync", dir))?;
    Ok(lock)
}

/// A store that is new. One that merely lost its superblock must not be taken for it.
async fn new_superblock<E: Env>(env: &E, options: &StoreOptions) -> Result<Superblock, Error> {
    let log_dir = segment::log_dir(&options.dir);
    let names = env.list(&log_dir).await.map_err(Error::io("list", &log_dir))?;
    if names.iter().any(|name| segment::number_in(name, "log").is_some()) {
        let path = superblock::path(&options.dir);
        return Err(Error::corrupt(
            &path,
            0,
            "no valid superblock, but there are segments",
            superblock::REMEDY,
        ));
    }
    Ok(Superblock {
        sequence: 0,
        store_id: env.random(),
        epoch: 0,
        shards: 0,
        segment_size: options.segment_size_bytes,
        number_high: 0,
        generation: 0,
        queue_table_version: 0,
    })
}

/// The maps in force, one per shard of the last start, put into the table of queues.
async fn read_maps<E: Env>(recovery: &mut Recovery<'_, E>) -> Result<Vec<Option<QueueMap>>, Error> {
    let Superblock { store_id, shards, generation, .. } = recovery.superblock;
    let dir = recovery.dir().to_owned();
    let mut maps = Vec::new();
    for shard in 0..shards {
        match queue_map::read(recovery.env, &dir, shard, store_id, generation).await? {
            Found::Map(map) => {
                recovery.take_map(&map);
                maps.push(Some(map));
            }
            Found::Absent => {
                let path = queue_map::path(&dir, shard, 0);
                tracing::warn!(path = %path.display(), "no queue map: reading the whole log again");
                recovery.is_rebuild = true;
                maps.push(None);
            }
            Found::Damaged => {
                let path = queue_map::path(&dir, shard, 0);
                return Err(Error::corrupt(&path, 0, "both queue maps are damaged", queue_map::REMEDY));
            }
        }
    }
    Ok(maps)
}

/// Whether a log's active segment must be sealed: its shard is gone, or a queue with records in it moves.
fn is_left(
    shard: u32,
    log: &RecoveredLog,
    queues: &Queues,
    shards: usize,
    owner: &dyn Fn(&QueueName) -> usize,
) -> bool {
    let Some(active) = &log.active else { return false };
    let mut here = queues.values().filter(|queue| queue.run_in(active.number).is_some());
    if shard as usize >= shards {
        return active.end > crate::limits::FIRST_FRAME;
    }
    here.any(|queue| owner(&queue.name) % shards != shard as usize)
}

fn active_header(chain: &[SegmentHeader], log: &RecoveredLog) -> Option<SegmentHeader> {
    let active = log.active.as_ref()?.number;
    chain.iter().find(|header| header.number == active).copied()
}

/// Gives each shard its queues.
fn divide(queues: Queues, shards: usize, owner: &dyn Fn(&QueueName) -> usize) -> Vec<Vec<Queue>> {
    let mut divided: Vec<Vec<Queue>> = (0..shards).map(|_| Vec::new()).collect();
    for queue in queues.into_values() {
        divided[owner(&queue.name) % shards].push(queue);
    }
    divided
}

pub(crate) fn row(queue: &Queue) -> MapRow {
    MapRow { number: queue.number, name: queue.name.clone(), next: queue.next, min: queue.min() }
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
