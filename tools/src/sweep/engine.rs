//! One cell without server and network: the engine in this process, on pinned executors, under a closed loop of
//! waiters. What a broker can do at best on this disk, and what of that each setting costs.

mod drive;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use rmq_engine::env::uring::UringEnv;
use rmq_engine::{FlushMode, MemoryTail, QueueName, ShardSeed, Store, StoreOptions};

use self::drive::{HEAD_BYTES, Shape, StampSchema, drive};
use crate::clock::monotonic_ns;
use crate::cpu;
use crate::error::Error;
use crate::phases::Phases;
use crate::sweep::closest;
use crate::tally::Tally;

/// When an append counts as acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledge {
    /// When the store says so: SYNC after a durable write, ASYNC after a write, with a memory tail before it.
    Store,
    /// When the disk has been flushed, which ASYNC does now and then.
    Durable,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineCase {
    is_sync: bool,
    flush_interval_ms: u64,
    flush_bytes: u64,
    acknowledge: Acknowledge,
    /// Appends that wait at a time: how deep groups can get.
    waiters: usize,
    record_bytes: u32,
    /// Records of one append.
    batch: usize,
    queues: u32,
    shards: usize,
    segment_bytes: u64,
    zero_ahead_bytes: u64,
    write_bytes_max: usize,
    tail_cache_bytes: usize,
    unflushed_bytes_max: u64,
    /// On tmpfs: ASYNC acknowledges from there.
    memory_tail: Option<PathBuf>,
    memory_tail_bytes: u64,
    spin_us: u64,
}

const KEYS: [&str; 17] = [
    "flush",
    "flush_interval_ms",
    "flush_bytes",
    "acknowledge",
    "waiters",
    "record_bytes",
    "batch",
    "queues",
    "shards",
    "segment_bytes",
    "zero_ahead_bytes",
    "write_bytes_max",
    "tail_cache_bytes",
    "unflushed_bytes_max",
    "memory_tail",
    "memory_tail_bytes",
    "spin_us",
];

impl Default for EngineCase {
    fn default() -> Self {
        let options = StoreOptions::new("");
        Self {
            is_sync: true,
            // As the broker has it for ASYNC_FLUSH.
            flush_interval_ms: 500,
            flush_bytes: 64 << 20,
            acknowledge: Acknowledge::Store,
            waiters: 64,
            record_bytes: 1024,
            batch: 1,
            queues: 8,
            shards: 1,
            segment_bytes: options.segment_size_bytes,
            zero_ahead_bytes: options.zero_ahead_bytes,
            write_bytes_max: options.write_bytes_max,
            tail_cache_bytes: options.tail_cache_bytes,
            unflushed_bytes_max: options.unflushed_bytes_max,
            memory_tail: None,
            // As the broker has it.
            memory_tail_bytes: 16 << 20,
            spin_us: 0,
        }
    }
}

impl EngineCase {
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "flush" => self.is_sync = one_of(value, [("SYNC", true), ("ASYNC", false)])?,
            "acknowledge" => {
                let points = [("store", Acknowledge::Store), ("durable", Acknowledge::Durable)];
                self.acknowledge = one_of(value, points)?;
            }
            "flush_interval_ms" => self.flush_interval_ms = number(value, 1, 60_000)?,
            "flush_bytes" => self.flush_bytes = number(value, 4096, 1 << 40)?,
            "waiters" => self.waiters = number(value, 1, 1 << 20)? as usize,
            "record_bytes" => self.record_bytes = number(value, HEAD_BYTES as u64, 4 << 20)? as u32,
            "batch" => self.batch = number(value, 1, 4096)? as usize,
            "queues" => self.queues = number(value, 1, 100_000)? as u32,
            "shards" => self.shards = number(value, 1, 64)? as usize,
            "segment_bytes" => self.segment_bytes = number(value, 0, 1 << 40)?,
            "zero_ahead_bytes" => self.zero_ahead_bytes = number(value, 0, 1 << 40)?,
            "write_bytes_max" => self.write_bytes_max = number(value, 0, 1 << 40)? as usize,
            "tail_cache_bytes" => self.tail_cache_bytes = number(value, 0, 1 << 40)? as usize,
            "unflushed_bytes_max" => self.unflushed_bytes_max = number(value, 4096, 1 << 40)?,
            "memory_tail" => self.memory_tail = memory_dir(value)?,
            "memory_tail_bytes" => self.memory_tail_bytes = number(value, 0, 1 << 40)?,
            "spin_us" => self.spin_us = number(value, 0, 1_000_000)?,
            _ => return Err(closest(key, &KEYS)),
        }
        // The engine's own bounds, in its own words.
        self.options(Path::new("")).check().map_err(|error| error.to_string())
    }

    pub fn new<'a>(settings: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, String> {
        let mut case = Self::default();
        for (key, value) in settings {
            case.set(key, value).map_err(|problem| format!("{key}: {problem}"))?;
        }
        if case.is_sync && case.memory_tail.is_some() {
            return Err(String::from(
                "memory_tail: SYNC promises more than memory can keep; set flush to ASYNC",
            ));
        }
        if case.waiters < case.shards {
            return Err(format!("waiters: {} cannot keep {} shards busy", case.waiters, case.shards));
        }
        if (case.queues as usize) < case.shards {
            return Err(format!("queues: {} are too few for {} shards", case.queues, case.shards));
        }
        Ok(case)
    }

    fn options(&self, dir: &Path) -> StoreOptions {
        StoreOptions {
            segment_size_bytes: self.segment_bytes,
            shards: self.shards,
            flush: if self.is_sync {
                FlushMode::Sync
            } else {
                FlushMode::Async { interval_ms: self.flush_interval_ms, bytes: self.flush_bytes }
            },
            tail_cache_bytes: self.tail_cache_bytes,
            zero_ahead_bytes: self.zero_ahead_bytes,
            write_bytes_max: self.write_bytes_max,
            unflushed_bytes_max: self.unflushed_bytes_max,
            // Refused as a whole, not while one key after the other is read.
            memory_tail: self
                .memory_tail
                .clone()
                .filter(|_| !self.is_sync)
                .map(|dir| MemoryTail { dir, bytes: self.memory_tail_bytes }),
            ..StoreOptions::new(dir)
        }
    }

    fn shape(&self) -> Shape {
        Shape {
            record_bytes: self.record_bytes,
            batch: self.batch,
            waiters: self.waiters / self.shards,
            // The store tells of its own acknowledgements; a flush by the clock has to be looked for.
            looks_for_flush: !self.is_sync && self.acknowledge == Acknowledge::Durable,
        }
    }
}

/// What was measured, all shards together.
pub struct EngineRun {
    pub records: u64,
    pub bytes: u64,
    pub seconds: f64,
    pub latency: Histogram<u64>,
    pub groups: u64,
    pub group_bytes: u64,
    pub cpu_seconds: f64,
}

/// What one shard measured.
struct ShardRun {
    records: u64,
    latency: Histogram<u64>,
    groups: u64,
    group_bytes: u64,
}

/// How long the engine may take beyond the measured time: opening, segment preparation, an orderly end.
const SLACK: Duration = Duration::from_secs(60);

pub fn run(case: &EngineCase, dir: &Path, warmup: Duration, duration: Duration) -> Result<EngineRun, Error> {
    let cpus = allowed_cpus();
    let deadline_ns = monotonic_ns() + (warmup + duration + SLACK).as_nanos() as u64;
    let seeds = open(case, dir, cpus[0], deadline_ns)?;
    let (sender, results) = channel();
    // All shards have started and declared their queues before the first one is loaded.
    let phases = Arc::new(Phases::starting_in(Duration::from_millis(200), warmup, Some(duration)));
    for (seed, &cpu) in seeds.into_iter().zip(cpus.iter().cycle()) {
        let (case, phases, sender) = (case.clone(), Arc::clone(&phases), sender.clone());
        on_executor(cpu, case.spin_us, move || async move {
            let queues = (0..case.queues).filter(|queue| *queue as usize % case.shards == seed.index());
            let queues: Vec<u32> = queues.collect();
            let _ = sender.send(drive(seed, &case.shape(), &queues, &phases).await);
        })?;
    }
    drop(sender);

    // Of the whole process: the kernel's threads that write for the rings are part of the price.
    sleep_until(phases.measure_ns);
    let before = cpu::used(&[])?.client;
    while !phases.is_over(monotonic_ns()) {
        sleep_until(phases.end_ns.min(monotonic_ns() + 50_000_000));
    }
    let seconds = monotonic_ns().min(phases.end_ns).saturating_sub(phases.measure_ns) as f64 / 1e9;
    let cpu_seconds = cpu::used(&[])?.client - before;

    let mut run = EngineRun {
        records: 0,
        bytes: 0,
        seconds,
        latency: Tally::default().latency,
        groups: 0,
        group_bytes: 0,
        cpu_seconds,
    };
    for _ in 0..case.shards {
        let shard: ShardRun = received(&results, deadline_ns)??;
        run.records += shard.records;
        run.groups += shard.groups;
        run.group_bytes += shard.group_bytes;
        run.latency.add(&shard.latency).expect("both have the same bounds");
    }
    run.bytes = run.records * u64::from(case.record_bytes);
    Ok(run)
}

/// Makes the store, on an executor of its own, as the broker does.
fn open(case: &EngineCase, dir: &Path, cpu: usize, deadline_ns: u64) -> Result<Vec<ShardSeed>, Error> {
    let (sender, opened): (Sender<Result<Vec<ShardSeed>, Error>>, _) = channel();
    let (options, shards) = (case.options(dir), case.shards);
    on_executor(cpu, 0, move || async move {
        let owner = |name: &QueueName| name.queue as usize % shards;
        let seeds = Store::open(&UringEnv::new(), options, Arc::new(StampSchema), &owner).await;
        let _ = sender.send(seeds.map_err(Error::from));
    })?;
    received(&opened, deadline_ns)?
}

fn on_executor<F: Future<Output = ()> + 'static>(
    cpu: usize,
    spin_us: u64,
    main: impl FnOnce() -> F + Send + 'static,
) -> Result<(), Error> {
    let options = rmq_reactor::Options { cpu: Some(cpu), spin: Duration::from_micros(spin_us) };
    let spawned = rmq_reactor::spawn_pinned("rmq-sweep", options, main);
    // Its result comes through a channel, which also tells when it has panicked.
    spawned.map(drop).map_err(|error| Error::Engine(rmq_engine::Error::BadOptions(error.to_string())))
}

fn received<T>(results: &Receiver<T>, deadline_ns: u64) -> Result<T, Error> {
    let left = Duration::from_nanos(deadline_ns.saturating_sub(monotonic_ns()));
    results.recv_timeout(left).map_err(|error| {
        Error::TooLate(String::from(match error {
            RecvTimeoutError::Timeout => "the engine did not come to its end in time",
            RecvTimeoutError::Disconnected => "an executor of the engine ended without a result",
        }))
    })
}

fn sleep_until(at_ns: u64) {
    thread::sleep(Duration::from_nanos(at_ns.saturating_sub(monotonic_ns())));
}

fn allowed_cpus() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_else(|_| CpuSet::new());
    let cpus: Vec<usize> = (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

fn one_of<T: Copy, const N: usize>(value: &str, known: [(&str, T); N]) -> Result<T, String> {
    let found = known.iter().find(|(name, _)| *name == value).map(|(_, meaning)| *meaning);
    found.ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        format!("{value:?} is not one of {}", names.join(", "))
    })
}

/// A directory, or nothing.
fn memory_dir(value: &str) -> Result<Option<PathBuf>, String> {
    match Path::new(value) {
        _ if value.is_empty() => Ok(None),
        dir if dir.is_absolute() && dir.is_dir() => Ok(Some(dir.to_owned())),
        _ => Err(format!(
            "{value:?} is no directory with an absolute path; give one on tmpfs, or an empty text"
        )),
    }
}

/// A whole number, with or without a unit of bytes.
fn number(value: &str, least: u64, most: u64) -> Result<u64, String> {
    let digits = value.trim_end_matches(|char: char| char.is_ascii_alphabetic() || char == ' ');
    let shift = match value[digits.len()..].trim() {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        unit => return Err(format!("{unit:?} is no unit of bytes; use KiB, MiB or GiB, or none")),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    match number {
        Some(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("{value} is not a whole number from {least} to {most}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_known_and_checked() {
        for key in KEYS {
            let error = EngineCase::default().set(key, "x").unwrap_err();
            assert!(!error.starts_with("unknown"), "{key}: {error}");
        }
        let case = EngineCase::new(
            [("flush", "ASYNC"), ("zero_ahead_bytes", "4 MiB"), ("waiters", "9"), ("acknowledge", "durable")]
                .into_iter(),
        )
        .unwrap();
        assert_eq!((case.is_sync, case.zero_ahead_bytes, case.waiters), (false, 4 << 20, 9));
        assert!(case.shape().looks_for_flush);
    }

    #[test]
    fn the_engine_refuses_in_its_own_words() {
        let error = EngineCase::default().set("write_bytes_max", "5000").unwrap_err();
        assert!(error.contains("largest write 5000 must be a multiple of 4096"), "{error}");
        let memory = [("memory_tail", "/dev/shm"), ("flush", "SYNC")];
        assert!(EngineCase::new(memory.into_iter()).unwrap_err().contains("set flush to ASYNC"));
        let small = [("flush", "ASYNC"), ("memory_tail", "/dev/shm"), ("memory_tail_bytes", "1")];
        assert!(EngineCase::new(small.into_iter()).unwrap_err().contains("1 bytes of memory tail"));
        let error = EngineCase::new([("shards", "4"), ("waiters", "2")].into_iter()).unwrap_err();
        assert!(error.contains("4 shards"), "{error}");
        assert!(number("3 KB", 0, 9000).unwrap_err().contains("KiB"));
        assert_eq!(number("3KiB", 0, 9000), Ok(3072));
    }
}
