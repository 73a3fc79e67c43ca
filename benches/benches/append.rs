//! The engine alone: appends that wait for their acknowledgement, as many at a time as clients would have in flight.
//!
//! `cargo bench -p rmq-benches --bench append [-- DIR]`: DIR (default: a directory under target) says which disk.
//! Not criterion, whose loops know nothing of waiting: each case runs for a fixed time and prints its rate, the
//! latency from append to acknowledgement, and how much CPU a message took. Once on our own reactor, once on glommio.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures_lite::future::poll_fn;
use glommio::{LocalExecutorBuilder, Placement};
use hdrhistogram::Histogram;
use rmq_benches::glommio::GlommioEnv;
use rmq_benches::log_record::{BenchSchema, append};
use rmq_engine::env::uring::UringEnv;
use rmq_engine::{Env, FlushMode, LogPosition, Progress, QueueNumber, Shard, Store, StoreOptions};

const RUN: Duration = Duration::from_secs(2);
const QUEUES: u32 = 8;

#[derive(Clone, Copy, Debug)]
enum Runtime {
    Ours,
    Glommio,
}

#[derive(Clone, Copy)]
struct Case {
    runtime: Runtime,
    flush: FlushMode,
    waiters: usize,
    record_bytes: usize,
}

fn main() {
    let chosen = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let base = PathBuf::from(chosen.as_deref().unwrap_or(env!("CARGO_TARGET_TMPDIR")));
    println!(
        "{:>7} {:>5} {:>7} {:>6} {:>12} {:>8} {:>8} {:>8} {:>10}",
        "runtime", "flush", "waiters", "bytes", "messages/s", "p50 us", "p99 us", "p999 us", "cpu us/msg"
    );
    for flush in [FlushMode::Sync, FlushMode::Async { interval_ms: 500, bytes: 16 << 20 }] {
        for (waiters, record_bytes) in [(1, 256), (64, 1152), (256, 256), (256, 1152)] {
            for runtime in [Runtime::Ours, Runtime::Glommio] {
                run(&base, Case { runtime, flush, waiters, record_bytes });
            }
        }
    }
}

fn run(base: &Path, case: Case) {
    let dir = base.join(format!("append-bench-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("the directory can be made");
    let data = dir.clone();
    match case.runtime {
        Runtime::Ours => rmq_reactor::run(&rmq_reactor::Options::default(), || async move {
            measure(UringEnv::new(), &data, case).await;
        })
        .expect("the kernel gives a ring"),
        Runtime::Glommio => LocalExecutorBuilder::new(Placement::Unbound)
            .io_memory(1 << 20)
            .spawn(move || async move { measure(GlommioEnv::new(), &data, case).await })
            .expect("an executor starts")
            .join()
            .expect("the bench does not panic"),
    }
    let _ = std::fs::remove_dir_all(&dir);
}

async fn measure<E: Env>(env: E, dir: &Path, case: Case) {
    let options = StoreOptions { flush: case.flush, ..StoreOptions::new(dir) };
    let mut seeds = Store::open(&env, options, Arc::new(BenchSchema), &|_| 0).await.expect("the store opens");
    let shard = Shard::start(env, seeds.remove(0)).await.expect("the shard starts");
    let queues: Vec<QueueNumber> =
        (0..QUEUES).map(|queue| shard.declare_queue("bench", queue).expect("a queue is declared")).collect();

    let acknowledged = Rc::new(Cell::new(None::<Progress>));
    let waker = Rc::new(RefCell::new(None::<Waker>));
    let (progress, wake) = (Rc::clone(&acknowledged), Rc::clone(&waker));
    shard.on_progress(Rc::new(move |now| {
        progress.set(Some(now));
        if let Some(waker) = wake.borrow_mut().take() {
            waker.wake();
        }
    }));

    // The first part of each run only warms up: files are zero-filled ahead, caches fill.
    let mut waiting: VecDeque<(LogPosition, Instant)> = VecDeque::new();
    let mut latency = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).expect("bounds in order");
    let (mut turn, mut messages) = (0, 0u64);
    let started = Instant::now();
    let (mut measured, mut cpu_before) = (started, 0.0);
    let warm = RUN / 3;
    while started.elapsed() < RUN + warm {
        if measured == started && started.elapsed() >= warm {
            (measured, cpu_before, messages) = (Instant::now(), cpu_seconds(), 0);
            latency.reset();
        }
        while waiting.len() < case.waiters {
            match append(&shard, queues[turn % queues.len()], case.record_bytes) {
                Ok(end) => waiting.push_back((end, Instant::now())),
                // Segments are being prepared; what waits already makes room.
                Err(_) if !waiting.is_empty() => break,
                Err(error) => panic!("append: {error}"),
            }
            turn += 1;
        }
        let end = poll_fn(|context| match acknowledged.take() {
            Some(progress) => Poll::Ready(progress),
            None => {
                *waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await;
        let Progress::Acknowledged(end) = end else { panic!("the log stopped") };
        let now = Instant::now();
        while let Some((_, appended)) = waiting.pop_front_if(|(position, _)| *position <= end) {
            latency.saturating_record((now - appended).as_nanos() as u64);
            messages += 1;
        }
    }
    let seconds = measured.elapsed().as_secs_f64();
    let at = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
    let flush = if matches!(case.flush, FlushMode::Sync) { "SYNC" } else { "ASYNC" };
    println!(
        "{:>7} {flush:>5} {:>7} {:>6} {:>12.0} {:>8.0} {:>8.0} {:>8.0} {:>10.2}",
        format!("{:?}", case.runtime).to_lowercase(),
        case.waiters,
        case.record_bytes,
        messages as f64 / seconds,
        at(0.5),
        at(0.99),
        at(0.999),
        (cpu_seconds() - cpu_before) * 1e6 / messages.max(1) as f64
    );
    shard.shutdown().await.expect("an orderly end");
}

/// Processor time of the whole process: the flusher's system calls belong to the price.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux has it");
    let ticks: u64 = stat[stat.rfind(')').expect("a command") + 1..]
        .split_ascii_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().expect("a number"))
        .sum();
    // 100 ticks a second on every Linux that we know.
    ticks as f64 / 100.0
}
