//! One shard: a log, the queues in it, and the tasks that keep them.
//!
//! Everything here belongs to one thread. Calls that are not `async` change state at once and await nothing;
//! the shard's own tasks alone touch files, so a caller may vanish at any point.
//!
//! What is promised: a record whose position is at or below `acknowledged()` is found again after the process
//! dies, and with [`FlushMode::Sync`](crate::FlushMode) after a power cut as well. It becomes visible to
//! readers when it is acknowledged, never before. With a [`MemoryTail`](crate::MemoryTail) that is before it is
//! written: `acknowledged()` runs ahead of `written()` then.

mod append;
mod cold_read;
mod disk;
mod flusher;
mod key_keeper;
mod key_query;
mod keys;
mod memory;
mod preparer;
mod read;
mod retention;
mod sealer;
mod stop;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

pub use append::{Appended, RecordPlan, Stamp};
pub use key_query::{KeyQuery, KeyRecord, KeyRecords};
pub use read::{CachedRead, Read};

use self::disk::Disk;
use self::keys::KeyIndex;
use crate::env::{Class, Env, LockGuard};
use crate::error::Error;
use crate::log::{Log, Pending};
use crate::memory_record;
use crate::notify::{Changes, Notify};
use crate::offset::{LogPosition, PhysicalOffset, QueueName, QueueNumber, QueueOffset};
use crate::options::{FlushMode, StoreOptions};
use crate::queue::Queue;
use crate::queue_table::QueueTable;
use crate::ring::{Ring, RingHeader};
use crate::schema::Schema;
use crate::segment;
use crate::segment_file::SegmentFile;
use crate::store::{Sealed, ShardSeed};
use crate::superblock::Shared;
use crate::tail::Tail;
use crate::watermarks::Watermarks;

/// Told after each group, or with a memory tail once per pass in which something was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Everything up to here is acknowledged and visible.
    Acknowledged(LogPosition),
    /// A write failed; nothing more will ever be acknowledged.
    Stopped,
}

type OnProgress = Rc<dyn Fn(Progress)>;
type OnVisible = Rc<dyn Fn(QueueNumber, QueueOffset, i64)>;

pub struct Shard<E: Env> {
    env: E,
    index: usize,
    epoch: u32,
    store_id: u64,
    options: StoreOptions,
    schema: Arc<dyn Schema>,
    shared: Arc<Shared>,
    /// Keeps the store's directory locked until the last shard is shut down.
    lock: RefCell<Option<LockGuard>>,
    state: Cell<State>,
    marks: Watermarks,
    log: RefCell<Log<E>>,
    queues: RefCell<QueueTable>,
    /// Deleted queues with the place of their deletion, until a queue map knows of it.
    buried: RefCell<Vec<(LogPosition, Queue)>>,
    disk: Disk<E>,
    /// Of a store that has an index of keys.
    keys: Option<KeyIndex>,
    /// Of a store that acknowledges from memory.
    ring: RefCell<Option<Ring<E::Memory>>>,
    next_queue: Cell<u32>,
    counters: Counters,
    on_progress: RefCell<Option<OnProgress>>,
    on_visible: RefCell<Option<OnVisible>>,
    completed: RefCell<Vec<Pending>>,
    work: Notify,
    /// For whoever copies into the ring: there are bytes, or there is room again.
    keep: Notify,
    prepare: Notify,
    /// The preparer is asked again when the log's end passes this.
    prepare_at: Cell<u32>,
    unsynced: Notify,
    seal: Notify,
    /// Written segments that wait for their index file.
    sealing: RefCell<VecDeque<Rc<SegmentFile<E>>>>,
    /// Indexed segments whose entries are still in memory as well.
    indexed: RefCell<VecDeque<u64>>,
    /// Segments that retention may delete, oldest first.
    sealed: RefCell<VecDeque<Sealed>>,
    map_sequence: Cell<u64>,
    /// A segment is being deleted.
    deleting: Cell<bool>,
    /// How many deletions of the whole store were noticed here.
    deleted_seen: Cell<usize>,
    tasks: Tasks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// Appends are refused, what was appended is still brought to disk.
    Stopping,
    /// A write failed. Only reads go on.
    Poisoned,
}

/// Totals since the start; differences are what is waiting.
#[derive(Default)]
struct Counters {
    records: Cell<u64>,
    bytes_appended: Cell<u64>,
    bytes_written: Cell<u64>,
    groups: Cell<u64>,
    syncs: Cell<u64>,
    /// Frames that waited for the disk though there is a memory tail.
    memory_waits: Cell<u64>,
    bytes_unsynced: Cell<u64>,
    cold_reads: Cell<u64>,
    last_error: RefCell<Option<String>>,
}

/// The shard's own tasks that still run.
#[derive(Default)]
struct Tasks {
    running: Cell<usize>,
    ended: Changes,
}

/// What a console or a metric shows of one shard.
#[derive(Clone, Debug, Default)]
pub struct ShardStats {
    pub records: u64,
    pub bytes_appended: u64,
    pub bytes_written: u64,
    pub groups: u64,
    pub syncs: u64,
    pub cold_reads: u64,
    pub unflushed_bytes: u64,
    /// Bytes in the memory tail: acknowledged and not yet written.
    pub memory_tail_bytes: usize,
    /// Acknowledgements that waited for the disk because the memory tail had no room.
    pub memory_tail_waits: u64,
    pub tail_cache_bytes: usize,
    pub read_cache_bytes: usize,
    /// Sealed segments and the one being written.
    pub segments: usize,
    pub min_physical_offset: PhysicalOffset,
    /// Behind the newest acknowledged byte.
    pub max_physical_offset: PhysicalOffset,
    /// Newest store time in the oldest segment that is complete.
    pub oldest_segment_ms: Option<i64>,
    pub queues: usize,
    pub disk_full: bool,
    pub stopped: bool,
    pub last_error: Option<String>,
}

impl<E: Env> Shard<E> {
    /// Takes over what `Store::open` found, on the shard's own executor, and starts its tasks.
    pub async fn start(env: E, seed: ShardSeed) -> Result<Rc<Self>, Error> {
        let ShardSeed { index, epoch, store_id, options, schema, shared, lock, .. } = seed;
        let dir = segment::log_dir(&options.dir);
        env.prepare_dir(&dir).await.map_err(Error::io("open", &dir))?;
        if options.memory_tail.is_some() {
            let dir = memory_record::dir(&options.dir);
            env.prepare_dir(&dir).await.map_err(Error::io("open", &dir))?;
        }

        let mut tail = Tail::new(options.tail_cache_bytes);
        let (active, end) = match seed.active {
            Some(found) => {
                let at = LogPosition { segment: found.number, offset: found.end - found.head.len() as u32 };
                tail.extend(at, found.head.len()).copy_from_slice(&found.head);
                let file =
                    preparer::open_segment(&env, &options, store_id, found.number, found.base_ms).await?;
                file.start_at(found.end);
                (file, found.end)
            }
            None => {
                let number = shared.take_number(&env, index).await?;
                let base_ms = env.wall_ms().max(seed.last_ms);
                let header =
                    preparer::header(&options, store_id, index, epoch, number, seed.previous, base_ms);
                (preparer::prepare_segment(&env, &options, &header).await?, crate::limits::FIRST_FRAME)
            }
        };
        let start = LogPosition { segment: active.number, offset: end };
        let mut log = Log::new(tail, Rc::new(active), end, options.segment_size_bytes, epoch);
        log.last_ms = seed.last_ms;
        if let Some(spare) = seed.spare {
            let file = preparer::open_segment(&env, &options, store_id, spare.number, spare.base_ms).await?;
            log.spare = Some(Rc::new(file));
        }
        let disk = Disk::new(options.read_cache_bytes);
        let found_sealed = seed.sealed.iter().map(|sealed| sealed.number).collect();
        let keys = KeyIndex::new(options.key_memory_bytes, found_sealed, start);
        let ring = match &options.memory_tail {
            Some(tail) => {
                let header = RingHeader { store_id, epoch, shard: index as u32, bytes: tail.bytes };
                Some(memory::create_ring(&env, &options.dir, tail, header, start).await?)
            }
            None => None,
        };

        let mut queues = QueueTable::default();
        for queue in seed.queues {
            queues.insert(queue);
        }
        let shard = Rc::new(Self {
            env,
            index,
            epoch,
            store_id,
            options,
            schema,
            shared,
            lock: RefCell::new(Some(lock)),
            state: Cell::new(State::Running),
            marks: Watermarks::new(start),
            log: RefCell::new(log),
            queues: RefCell::new(queues),
            buried: RefCell::default(),
            disk,
            keys,
            ring: RefCell::new(ring),
            next_queue: Cell::new(seed.next_queue),
            counters: Counters::default(),
            on_progress: RefCell::default(),
            on_visible: RefCell::default(),
            completed: RefCell::default(),
            work: Notify::default(),
            keep: Notify::default(),
            prepare: Notify::default(),
            prepare_at: Cell::new(0),
            unsynced: Notify::default(),
            seal: Notify::default(),
            sealing: RefCell::default(),
            indexed: RefCell::default(),
            sealed: RefCell::new(seed.sealed.into()),
            map_sequence: Cell::new(seed.map_sequence),
            deleting: Cell::new(false),
            deleted_seen: Cell::new(0),
            tasks: Tasks::default(),
        });
        shard.spawn(Class::Foreground, Rc::clone(&shard).flush_groups());
        if shard.options.memory_tail.is_some() {
            shard.spawn(Class::Foreground, Rc::clone(&shard).acknowledge_from_memory());
        }
        shard.spawn(Class::Background, Rc::clone(&shard).prepare_ahead());
        shard.start_sealer();
        if shard.keys.is_some() {
            shard.spawn(Class::Background, Rc::clone(&shard).keep_keys());
        }
        if let FlushMode::Async { interval_ms, bytes } = shard.options.flush {
            shard.spawn(Class::Background, Rc::clone(&shard).sync_regularly(interval_ms, bytes));
        }
        Ok(shard)
    }

    /// A task of the shard's own; `shutdown` waits for it.
    fn spawn(self: &Rc<Self>, class: Class, task: impl Future<Output = ()> + 'static) {
        let shard = Rc::clone(self);
        self.tasks.running.set(self.tasks.running.get() + 1);
        self.env.spawn(class, async move {
            task.await;
            shard.tasks.running.set(shard.tasks.running.get() - 1);
            shard.tasks.ended.announce();
        });
    }

    pub fn find_queue(&self, topic: &str, queue: u32) -> Option<QueueNumber> {
        self.queues.borrow().find(topic, queue)
    }

    pub fn queues(&self) -> Vec<(QueueNumber, QueueName)> {
        self.queues.borrow().iter().map(|queue| (queue.number, queue.name.clone())).collect()
    }

    /// Behind the newest frame in memory.
    pub fn appended(&self) -> LogPosition {
        self.marks.appended()
    }

    pub fn written(&self) -> LogPosition {
        self.marks.written()
    }

    pub fn durable(&self) -> LogPosition {
        self.marks.durable()
    }

    pub fn acknowledged(&self) -> LogPosition {
        self.marks.acknowledged()
    }

    /// The oldest offset that can be read; equal to `max_offset` when there is none. 0 for unknown queues.
    pub fn min_offset(&self, queue: QueueNumber) -> QueueOffset {
        QueueOffset(self.queues.borrow().queue(queue).map_or(0, |queue| queue.min()))
    }

    /// One behind the newest visible message.
    pub fn max_offset(&self, queue: QueueNumber) -> QueueOffset {
        QueueOffset(self.queues.borrow().queue(queue).map_or(0, |queue| queue.visible))
    }

    /// What the next append to this queue will get.
    pub fn next_offset(&self, queue: QueueNumber) -> QueueOffset {
        QueueOffset(self.queues.borrow().queue(queue).map_or(0, |queue| queue.next))
    }

    /// Calls `told` after each acknowledgement, when its records are visible already. It may call the shard.
    pub fn on_progress(&self, told: Rc<dyn Fn(Progress)>) {
        self.on_progress.replace(Some(told));
    }

    /// Calls `told` with (queue, new max offset, filter code) for each record that becomes visible.
    /// It may call the shard.
    pub fn on_visible(&self, told: Rc<dyn Fn(QueueNumber, QueueOffset, i64)>) {
        self.on_visible.replace(Some(told));
    }

    /// Where the shard's log begins and where its acknowledged part ends.
    pub fn physical_bounds(&self) -> (PhysicalOffset, PhysicalOffset) {
        let end = self.acknowledged();
        let sealed = self.sealed.borrow().front().map(|sealed| sealed.number);
        let sealing = || self.sealing.borrow().front().map(|file| file.number);
        let written = || self.log.borrow().files.front().map(|file| file.number);
        let oldest = sealed.or_else(sealing).or_else(written).unwrap_or(end.segment);
        (self.physical(LogPosition { segment: oldest, offset: 0 }), self.physical(end))
    }

    pub fn stats(&self) -> ShardStats {
        let log = self.log.borrow();
        let sealed = self.sealed.borrow();
        let (min_physical_offset, max_physical_offset) = self.physical_bounds();
        let counters = &self.counters;
        ShardStats {
            records: counters.records.get(),
            bytes_appended: counters.bytes_appended.get(),
            bytes_written: counters.bytes_written.get(),
            groups: counters.groups.get(),
            syncs: counters.syncs.get(),
            cold_reads: counters.cold_reads.get(),
            unflushed_bytes: counters.bytes_appended.get() - counters.bytes_written.get(),
            memory_tail_bytes: self.kept_bytes(),
            memory_tail_waits: counters.memory_waits.get(),
            tail_cache_bytes: log.tail.held_bytes(),
            read_cache_bytes: self.disk.cached_bytes(),
            segments: sealed.len() + log.files.len(),
            min_physical_offset,
            max_physical_offset,
            oldest_segment_ms: sealed.front().map(|sealed| sealed.last_ms),
            queues: self.queues.borrow().iter().count(),
            disk_full: log.disk_full,
            stopped: self.state.get() == State::Poisoned,
            last_error: counters.last_error.borrow().clone(),
        }
    }

    fn physical(&self, at: LogPosition) -> PhysicalOffset {
        PhysicalOffset(at.segment as i64 * self.options.segment_size_bytes as i64 + i64::from(at.offset))
    }

    /// Nothing after a failed write or flush is acknowledged: what the disk holds is known only after a restart.
    fn poison(&self, error: &Error) {
        if self.state.replace(State::Poisoned) == State::Poisoned {
            return;
        }
        tracing::error!(shard = self.index, %error, "the log stopped; restart to recover from disk");
        self.remember(error);
        self.wake_tasks();
        let told = self.on_progress.borrow().clone();
        if let Some(told) = told {
            told(Progress::Stopped);
        }
    }

    fn remember(&self, error: &Error) {
        self.counters.last_error.replace(Some(error.to_string()));
    }

    fn wake_tasks(&self) {
        for task in [&self.work, &self.keep, &self.prepare, &self.unsynced, &self.seal] {
            task.notify();
        }
        if let Some(keys) = &self.keys {
            keys.work.notify();
        }
    }

    fn is_running(&self) -> bool {
        self.state.get() == State::Running
    }
}
