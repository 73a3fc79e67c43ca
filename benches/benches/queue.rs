//! A queue without network: appending to it, reading from it what is in memory, and what is on disk only.
//!
//! `cargo bench -p rmq-benches --bench queue`
//!
//! Every sample has a reactor and a running shard of its own. Only the calls are timed: opening, filling and waiting
//! for acknowledgements stay outside. The time from an append to its acknowledgement, which is the group commit's, is
//! what `append.rs` measures.

use std::cell::Cell;
use std::fs;
use std::hint::black_box;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use rmq_benches::log_record::{BenchSchema, append};
use rmq_benches::message::record_bytes;
use rmq_engine::env::uring::UringEnv;
use rmq_engine::{CachedRead, LogPosition, QueueNumber, QueueOffset, Read, ReadLimits, Store, StoreOptions};

type Shard = rmq_engine::Shard<UringEnv>;

const BODY_BYTES: [usize; 2] = [128, 1024];
/// What one read returns: as many as a Java consumer asks for.
const READ_MESSAGES: u32 = 32;
const LIMITS: ReadLimits = ReadLimits {
    messages_max: READ_MESSAGES,
    bytes_max: 256 << 10,
    scan_max: 16_000,
    cold_messages_max: READ_MESSAGES,
    cold_bytes_max: 256 << 10,
};
const WARM_UP: Duration = Duration::from_millis(1500);
/// Calls in memory for each that criterion asks for: it takes the opening of a store, which is a million times longer,
/// for part of the first ones, and would ask for far too few.
const CALLS: u32 = 256;
/// Appends timed together; then they are waited for.
const BATCH: u64 = 256;
/// The tail cache comes round to its first chunk within this: what follows is appended to memory that is in use.
const TAIL_BYTES: usize = 4 << 20;
const WARM_BYTES: usize = 3 * TAIL_BYTES;
/// Messages that a consumer who keeps up finds in memory.
const CACHED_MESSAGES: u64 = 2048;
/// Large beside the caches that cold reads have, so that nothing is still there when they come by again.
const COLD_BYTES: usize = 64 << 20;
const COLD_CACHE_BYTES: usize = 1 << 20;

fn appends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    // Each record is written to disk as well: no more of them than a median needs.
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    group.warm_up_time(WARM_UP).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(1));
    for body in BODY_BYTES {
        let bytes = record_bytes(body);
        group.bench_function(format!("one record, body {body}"), |bench| {
            bench.iter_custom(|iterations| {
                let dir = Directory::new();
                let options = StoreOptions { tail_cache_bytes: TAIL_BYTES, ..options(&dir) };
                on_shard(options, async move |shard| {
                    let queue = shard.declare_queue("bench", 0).expect("a queue is declared");
                    append_in_batches(&shard, queue, bytes, (WARM_BYTES / bytes) as u64).await;
                    append_in_batches(&shard, queue, bytes, iterations * u64::from(CALLS)).await / CALLS
                })
            });
        });
    }
    group.finish();
}

fn cached_reads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read from memory");
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    group.warm_up_time(WARM_UP).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(u64::from(READ_MESSAGES)));
    for body in BODY_BYTES {
        let bytes = record_bytes(body);
        group.bench_function(format!("32 records, body {body}"), |bench| {
            bench.iter_custom(|iterations| {
                let dir = Directory::new();
                on_shard(options(&dir), async move |shard| {
                    let queue = shard.declare_queue("bench", 0).expect("a queue is declared");
                    append_in_batches(&shard, queue, bytes, CACHED_MESSAGES).await;
                    let mut out = Vec::with_capacity(LIMITS.bytes_max as usize);
                    let mut at = QueueOffset(0);
                    let started = Instant::now();
                    for _ in 0..iterations * u64::from(CALLS) {
                        out.clear();
                        let read = shard.read_cached(queue, at, &LIMITS, |_| true, &mut out);
                        let CachedRead::Done(read) = read else { panic!("not in memory") };
                        at = all_found(read);
                        at.0 %= CACHED_MESSAGES as i64;
                        black_box(&out);
                    }
                    started.elapsed() / CALLS
                })
            });
        });
    }
    group.finish();
}

fn cold_reads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read from disk");
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    group.warm_up_time(WARM_UP).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(u64::from(READ_MESSAGES)));
    for body in BODY_BYTES {
        let bytes = record_bytes(body);
        let messages = (COLD_BYTES / bytes) as i64 / i64::from(READ_MESSAGES) * i64::from(READ_MESSAGES);
        let dir = Directory::new();
        on_shard(options(&dir), async move |shard| {
            let queue = shard.declare_queue("bench", 0).expect("a queue is declared");
            append_in_batches(&shard, queue, bytes, messages as u64).await
        });
        // A consumer that catches up asks for the next ones; consumers at many places ask here and there.
        let far = messages / 5 * 2 / i64::from(READ_MESSAGES) * i64::from(READ_MESSAGES);
        for (name, step) in [("next", i64::from(READ_MESSAGES)), ("anywhere", far)] {
            group.bench_function(format!("{name} 32 records, body {body}"), |bench| {
                bench.iter_custom(|iterations| {
                    let cache = COLD_CACHE_BYTES;
                    // Opened anew, a store has nothing in memory.
                    let options =
                        StoreOptions { tail_cache_bytes: cache, read_cache_bytes: cache, ..options(&dir) };
                    on_shard(options, async move |shard| {
                        let queue = shard.find_queue("bench", 0).expect("the queue was declared");
                        let mut at = 0;
                        let started = Instant::now();
                        for _ in 0..iterations {
                            let read = Rc::clone(&shard).read(queue, QueueOffset(at), LIMITS, |_| true).await;
                            let (read, records) = read.expect("the disk reads");
                            all_found(read);
                            black_box(records);
                            at = (at + step) % messages;
                        }
                        started.elapsed()
                    })
                });
            });
        }
    }
    group.finish();
}

/// Runs `work` with a shard on a reactor of its own and returns what it returns.
fn on_shard(options: StoreOptions, work: impl AsyncFnOnce(Rc<Shard>) -> Duration + 'static) -> Duration {
    let spent = Rc::new(Cell::new(Duration::ZERO));
    let answer = Rc::clone(&spent);
    rmq_reactor::run(&rmq_reactor::Options::default(), || async move {
        let env = UringEnv::new();
        let opened = Store::open(&env, options, Arc::new(BenchSchema), &|_| 0).await;
        let seed = opened.expect("the store opens").remove(0);
        let shard = Shard::start(env, seed).await.expect("the shard starts");
        answer.set(work(Rc::clone(&shard)).await);
        shard.shutdown().await.expect("an orderly end");
    })
    .expect("the kernel gives a ring");
    spent.get()
}

/// The time that the calls took, without the waiting between batches.
async fn append_in_batches(shard: &Shard, queue: QueueNumber, bytes: usize, messages: u64) -> Duration {
    let mut spent = Duration::ZERO;
    let mut left = messages;
    while left > 0 {
        let batch = left.min(BATCH);
        let mut end = shard.appended();
        let started = Instant::now();
        for _ in 0..batch {
            end = append(shard, queue, bytes).expect("a sample fits into a segment");
        }
        spent += started.elapsed();
        left -= batch;
        acknowledged(shard, end).await;
    }
    spent
}

async fn acknowledged(shard: &Shard, end: LogPosition) {
    while shard.acknowledged() < end {
        rmq_reactor::yield_now().await;
    }
}

/// Where the next read begins.
fn all_found(read: Read) -> QueueOffset {
    match read {
        Read::Found { messages: READ_MESSAGES, next } => next,
        other => panic!("not {READ_MESSAGES} records: {other:?}"),
    }
}

/// Without zeros ahead of the writer: every sample would have its new store write them first.
fn options(dir: &Directory) -> StoreOptions {
    StoreOptions { zero_ahead_bytes: 0, ..StoreOptions::new(&dir.0) }
}

/// One store's, removed behind it.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let dir =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("queue-bench-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("the directory can be made");
        Self(dir)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

criterion_group!(benches, appends, cached_reads, cold_reads);
criterion_main!(benches);
