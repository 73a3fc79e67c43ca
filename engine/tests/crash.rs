//! Power cuts and kills at every step that the simulated disk can tell apart.
//!
//! Workers on one or two shards declare queues, append batches, delete queues and expire segments, while the
//! machine stops somewhere. The next life must find, per shard log and per queue: everything acknowledged, in
//! order, a prefix of what was sent, offsets without gaps, bytes as they were written, and each record by its key,
//! whatever became of the key files. Then it goes on, and
//! is stopped again. Stores that acknowledge from memory go through the same; what they replay at a start is
//! stopped as well.
//!
//! `RMQ_SIM_SEED` and `RMQ_SIM_STEP` replay one case; `RMQ_SIM_SEEDS` sets how many seeds are tried.

mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use common::{TestSchema, append, key_of, split};
use rmq_engine::env::sim::{Faults, MEMORY_DIR, Sim, SimDisk, SimEnv};
use rmq_engine::{
    AppendError, CachedRead, Env, FlushMode, KeyQuery, LogPosition, MemoryTail, QueueName, QueueNumber,
    QueueOffset, Read, ReadLimits, RetentionPolicy, Shard, Store, StoreOptions,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    PowerCut,
    Kill,
    /// A kill, and then something takes the memory that outlived it.
    MemoryLost,
    /// Runs to the end, then stops in good order.
    Clean,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    seed: u64,
    flush: FlushMode,
    stop: Stop,
    shards: usize,
    /// Every frame is one sector: what a torn group leaves behind the end fits exactly behind later frames.
    uniform: bool,
    /// Bytes of each shard's memory tail; 0: none.
    memory: u64,
}

impl Case {
    fn new(seed: u64) -> Self {
        let sync = seed.is_multiple_of(2);
        let flush = if sync { FlushMode::Sync } else { FlushMode::Async { interval_ms: 2, bytes: 20_000 } };
        let stop = if (seed / 2).is_multiple_of(3) { Stop::Kill } else { Stop::PowerCut };
        let uniform = seed % 7 > 3;
        Self { seed, flush, stop, shards: 1 + (seed / 6 % 2) as usize, uniform, memory: 0 }
    }

    /// One that acknowledges from memory. The smallest tails are full most of the time.
    fn in_memory(seed: u64) -> Self {
        let stop = match seed % 5 {
            3 => Stop::PowerCut,
            4 => Stop::MemoryLost,
            _ => Stop::Kill,
        };
        let flush = FlushMode::Async { interval_ms: 2, bytes: 20_000 };
        let memory = [1 << 20, 16 << 10, 48 << 10][seed as usize % 3];
        Self { stop, flush, memory, ..Self::new(seed) }
    }

    /// The option comes and goes from life to life; what it left is found all the same.
    fn memory_tail(&self, life: u64) -> Option<MemoryTail> {
        let is_on = self.memory > 0 && (life == 0 || (self.seed + life) % 4 != 3);
        is_on.then(|| MemoryTail { dir: MEMORY_DIR.into(), bytes: self.memory })
    }

    fn options(&self, life: u64) -> StoreOptions {
        StoreOptions {
            segment_size_bytes: 64 << 10,
            // The number of shards changes from life to life, so queues move.
            shards: if self.seed % 5 == 4 { 1 + ((self.seed + life) % 2) as usize } else { self.shards },
            flush: self.flush,
            tail_cache_bytes: 128 << 10,
            read_cache_bytes: 256 << 10,
            zero_ahead_bytes: if self.seed % 4 == 3 { 0 } else { 32 << 10 },
            // Small ones cut groups, and frames, into several writes.
            write_bytes_max: [256 << 10, 16 << 10, 4 << 10][self.seed as usize % 3],
            unflushed_bytes_max: 128 << 10,
            lock_wait_ms: 10,
            memory_tail: self.memory_tail(life),
            // Key files of different sizes, and sometimes no room in memory for the keys that wait for one.
            key_memory_bytes: [64 << 10, 2 << 10, 512][(self.seed / 3) as usize % 3],
            ..StoreOptions::new("/store")
        }
    }
}

fn mix(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What was sent, as the clients know it.
#[derive(Default)]
struct Model {
    queues: BTreeMap<QueueNumber, Sent>,
    /// Order in which records, deletions and the like went into each shard's log in this life.
    logs: Vec<Vec<Event>>,
}

struct Sent {
    name: QueueName,
    /// Body by offset, from 0.
    bodies: Vec<Vec<u8>>,
    declared: Option<(usize, LogPosition)>,
    deleted: Option<(usize, LogPosition)>,
}

#[derive(Clone, Copy)]
struct Event {
    queue: QueueNumber,
    /// Offset behind the records of the frame.
    next: i64,
    end: LogPosition,
}

type Shards = Rc<RefCell<Vec<Rc<Shard<SimEnv>>>>>;

async fn open(env: SimEnv, options: StoreOptions, shards: Shards) {
    let count = options.shards;
    let owner = move |name: &QueueName| (name.queue as usize + name.topic.len()) % count;
    let seeds = Store::open(&env, options, Arc::new(TestSchema), &owner).await.expect("the store opens");
    for seed in seeds {
        let shard = Shard::start(env.clone(), seed).await.expect("the shard starts");
        shards.borrow_mut().push(shard);
    }
}

/// One client of one shard.
async fn work(
    env: SimEnv,
    case: Case,
    life: u64,
    index: usize,
    worker: u64,
    shard: Rc<Shard<SimEnv>>,
    model: Rc<RefCell<Model>>,
) {
    let rounds = if case.uniform { 90 } else { 30 };
    let count = case.options(life).shards as u32;
    for round in 0..rounds {
        let dice = mix(case.seed ^ life << 40, worker << 20 | (index as u64) << 16 | round);
        let name = QueueName { topic: "t".repeat(1 + (dice % 3) as usize), queue: (dice >> 8) as u32 % 4 };
        // A queue of this shard.
        let shift = (index as u32 + 10 * count - (name.queue + name.topic.len() as u32) % count) % count;
        let name = QueueName { queue: name.queue + shift, ..name };
        let known = shard.find_queue(&name.topic, name.queue);
        let queue = match shard.declare_queue(&name.topic, name.queue) {
            Ok(queue) => queue,
            Err(_) => {
                env.sleep_us(300).await;
                continue;
            }
        };
        if known.is_none() {
            let declared = Some((index, shard.appended()));
            let sent = Sent { name: name.clone(), bodies: Vec::new(), declared, deleted: None };
            assert!(model.borrow_mut().queues.insert(queue, sent).is_none(), "a number was given twice");
        }
        if dice >> 16 & 31 == 0 {
            if shard.delete_queue(queue).is_ok() {
                model.borrow_mut().queues.get_mut(&queue).unwrap().deleted = Some((index, shard.appended()));
            }
            continue;
        }
        if dice >> 21 & 31 == 0 {
            let policy = RetentionPolicy { age_ms: Some(-1_000_000), segments_max: 1, ..Default::default() };
            shard.delete_expired(&policy, env.wall_ms()).await.expect("expires");
        }
        let batch = if case.uniform { 1 } else { 1 + (dice >> 26) % 3 };
        let body = |n: u64| {
            let dice = mix(dice, n);
            let len = match dice % 16 {
                _ if case.uniform => 512 - 24 - common::HEAD as u64,
                0 => 9_000 + dice / 16 % 9_000,
                _ => 1 + dice / 16 % 1500,
            };
            (0..len / 8 + 1)
                .flat_map(|at| mix(dice, at).to_le_bytes())
                .take(len as usize)
                .collect::<Vec<u8>>()
        };
        let bodies: Vec<Vec<u8>> = (0..batch).map(body).collect();
        match append(&shard, queue, &bodies) {
            Ok(appended) => {
                let next = {
                    let mut model = model.borrow_mut();
                    let sent = model.queues.get_mut(&queue).expect("declared");
                    assert_eq!(
                        appended.first_queue_offset.0,
                        sent.bodies.len() as i64,
                        "offsets without gaps"
                    );
                    sent.bodies.extend(bodies);
                    let next = sent.bodies.len() as i64;
                    model.logs[index].push(Event { queue, next, end: appended.end });
                    next
                };
                if case.uniform {
                    // Groups of several frames, and not all of them full.
                    env.sleep_us(dice >> 32 & 127).await;
                } else if dice >> 30 & 3 != 0 {
                    while shard.acknowledged() < appended.end {
                        assert!(shard.max_offset(queue).0 < next, "visible before it is acknowledged");
                        env.sleep_us(50).await;
                    }
                    if shard.find_queue(&name.topic, name.queue) == Some(queue) {
                        assert!(shard.max_offset(queue).0 >= next, "acknowledged is visible");
                    }
                }
            }
            Err(AppendError::Busy | AppendError::NoSuchQueue) => env.sleep_us(500).await,
            Err(other) => panic!("{other}"),
        }
    }
}

async fn live(env: SimEnv, case: Case, life: u64, shards: Shards, model: Rc<RefCell<Model>>) {
    open(env.clone(), case.options(life), Rc::clone(&shards)).await;
    let started = shards.borrow().clone();
    verify(&env, &started, &model).await;
    const WORKERS: u64 = 4;
    let running = Rc::new(RefCell::new(0));
    model.borrow_mut().logs = vec![Vec::new(); case.options(life).shards];
    for (index, shard) in started.iter().enumerate() {
        for worker in 0..WORKERS {
            *running.borrow_mut() += 1;
            let (task_env, running) = (env.clone(), Rc::clone(&running));
            let task = work(task_env, case, life, index, worker, Rc::clone(shard), Rc::clone(&model));
            env.spawn(rmq_engine::Class::Foreground, async move {
                task.await;
                *running.borrow_mut() -= 1;
            });
        }
    }
    while *running.borrow() > 0 {
        env.sleep_us(100).await;
    }
    if life % 2 == 1 || case.stop == Stop::Clean {
        for shard in started {
            shard.shutdown().await.expect("stops in good order");
        }
    }
}

/// Reads everything back and compares it with the model, which has been cut to what is there: what one life
/// has found, every later one finds.
async fn verify(env: &SimEnv, shards: &[Rc<Shard<SimEnv>>], model: &Rc<RefCell<Model>>) {
    let limits = ReadLimits { messages_max: 7, cold_messages_max: 5, ..ReadLimits::default() };
    let found: usize = shards.iter().map(|shard| shard.queues().len()).sum();
    assert_eq!(found, model.borrow().queues.len(), "queues");
    for (index, shard) in shards.iter().enumerate() {
        for (number, name) in shard.queues() {
            let (bodies, sent_name) = {
                let model = model.borrow();
                let sent = model.queues.get(&number).unwrap_or_else(|| panic!("{name} was never declared"));
                (sent.bodies.clone(), sent.name.clone())
            };
            assert_eq!(name, sent_name);
            assert_eq!(shard.find_queue(&name.topic, name.queue), Some(number));
            let (min, max) = (shard.min_offset(number).0, shard.max_offset(number).0);
            assert_eq!(max, shard.next_offset(number).0, "shard {index} {name}");
            assert!(
                min <= max && max == bodies.len() as i64,
                "shard {index} {name}: {max} of {}",
                bodies.len()
            );
            let mut at = min;
            while at < max {
                let mut bytes = Vec::new();
                let cached = shard.read_cached(number, QueueOffset(at), &limits, |_| true, &mut bytes);
                let read = match cached {
                    CachedRead::Done(read) => read,
                    CachedRead::Cold => {
                        let answer = Rc::clone(shard).read(number, QueueOffset(at), limits, |_| true).await;
                        let (read, found) = answer.expect("reads");
                        bytes = found;
                        read
                    }
                };
                match read {
                    Read::Found { next, .. } => {
                        for (n, (offset, body)) in split(&bytes).into_iter().enumerate() {
                            assert_eq!(offset, at + n as i64, "{name}");
                            assert_eq!(body, bodies[offset as usize], "{name} at {offset}");
                            if offset % 23 == 5 {
                                assert!(
                                    is_found_by_key(env, shards, &body).await,
                                    "{name} at {offset} by its key"
                                );
                            }
                        }
                        at = next.0;
                    }
                    // Queues that moved may have lost segments of one log before those of the other.
                    Read::Removed { next } if next.0 > at => at = next.0,
                    other => panic!("{name} at {at} of {min}..{max}: {other:?}"),
                }
            }
        }
    }
}

/// Some shard has it in its log, once its keys are known: those that no file covers are read from the log first.
async fn is_found_by_key(env: &SimEnv, shards: &[Rc<Shard<SimEnv>>], body: &[u8]) -> bool {
    let query =
        KeyQuery { hash: key_of(body), begin_ms: 0, end_ms: i64::MAX, records_max: 100, bytes_max: 1 << 20 };
    for shard in shards {
        loop {
            let wanted = body.to_vec();
            let is_it = move |record: &[u8]| record[common::HEAD..] == wanted;
            let found = Rc::clone(shard).query_key(query, is_it).await.expect("a query by key");
            if !found.records.is_empty() {
                return true;
            }
            if found.unknown_bytes == 0 {
                break;
            }
            env.sleep_us(1000).await;
        }
    }
    false
}

/// Compares what must have survived with what did, and cuts the model to the latter.
fn settle(case: Case, before: &[Rc<Shard<SimEnv>>], after: &[Rc<Shard<SimEnv>>], model: &mut Model) {
    let kept = |index: usize, end: LogPosition| {
        let shard = &before[index];
        end <= match case.stop {
            Stop::PowerCut => shard.durable(),
            Stop::MemoryLost => shard.written(),
            Stop::Kill | Stop::Clean => shard.acknowledged(),
        }
    };
    let live: BTreeMap<QueueNumber, i64> = after
        .iter()
        .flat_map(|shard| shard.queues().into_iter().map(|(number, _)| (number, shard.max_offset(number).0)))
        .collect();
    for (number, sent) in &model.queues {
        let is_live = live.contains_key(number);
        match (sent.declared, sent.deleted) {
            (_, Some((index, at))) if kept(index, at) => assert!(!is_live, "{} came back", sent.name),
            (_, Some(_)) => {}
            (Some((index, at)), None) if !kept(index, at) => {}
            _ => assert!(is_live, "{} is lost", sent.name),
        }
    }
    for (index, log) in model.logs.iter().enumerate() {
        let mut lost = None;
        for event in log {
            // A queue whose deletion was on its way has nothing to compare.
            if model.queues[&event.queue].deleted.is_some() {
                continue;
            }
            let found = live.get(&event.queue).is_some_and(|&max| max >= event.next);
            assert!(
                found || !kept(index, event.end),
                "acknowledged {} of queue {:?} is lost",
                event.end,
                event.queue
            );
            if !found {
                lost.get_or_insert(event.end);
            } else if let Some(lost) = lost {
                panic!("shard {index}: {} is there, {lost} before it is not", event.end);
            }
        }
    }
    model.queues.retain(|number, _| live.contains_key(number));
    for (number, sent) in &mut model.queues {
        sent.bodies.truncate(live[number] as usize);
        sent.deleted = None;
        sent.declared = None;
    }
    model.logs.clear();
}

/// Runs lives one after the other, each stopped where the case says; returns the steps of the first.
fn run(case: Case, stop_at: Option<u64>) -> u64 {
    const LIVES: u64 = 3;
    let disk = SimDisk::new();
    let model = Rc::new(RefCell::new(Model::default()));
    let mut first_steps = 0;
    for life in 0..LIVES {
        // Later lives stop anywhere, also while they recover.
        let stop_at = match (life, stop_at) {
            (0, stop_at) => stop_at,
            (_, None) => None,
            (_, Some(step)) => Some(mix(case.seed ^ step, life) % 700),
        };
        let sim = Sim::new(mix(case.seed, life), &disk, Faults { stop_at, fail: None });
        let before = Shards::default();
        sim.run(live(sim.env(), case, life, Rc::clone(&before), Rc::clone(&model)));
        if life == 0 {
            first_steps = sim.steps();
        }
        drop(sim);
        let seed = mix(case.seed, 1000 + life);
        // Some power cuts come while a start after a kill is at work.
        if case.stop != Stop::PowerCut || seed.is_multiple_of(3) {
            disk.kill(seed);
            stop_while_opening(case, life, &disk);
        }
        match case.stop {
            Stop::PowerCut => disk.power_cut(seed),
            Stop::MemoryLost => {
                disk.memory_paths().iter().for_each(|path| disk.put_memory(path, None));
            }
            Stop::Kill | Stop::Clean => {}
        }
        let before = before.take();
        let ran = before.len() == case.options(life).shards;
        let after = Shards::default();
        let sim = Sim::new(mix(case.seed, 2000 + life), &disk, Faults::default());
        // Opens with the next life's number of shards, and looks without changing anything.
        sim.run(open(sim.env(), case.options(life + 1), Rc::clone(&after))).expect("opens without a fault");
        if ran && !model.borrow().logs.is_empty() {
            settle(case, &before, &after.borrow(), &mut model.borrow_mut());
        }
        drop(before);
        let (shards, looked) = (after.borrow().clone(), Rc::clone(&model));
        let env = sim.env();
        sim.run(async move { verify(&env, &shards, &looked).await }).expect("reads without a fault");
        let after = after.take();
        if life == 1 {
            sim.run(async move {
                for shard in after {
                    shard.shutdown().await.expect("stops in good order");
                }
            });
        }
        drop(sim);
        // What was looked at is durable, whatever had made it so.
        match life {
            1 => disk.kill(seed),
            _ => disk.power_cut(seed),
        }
    }
    first_steps
}

/// Up to two starts that do not come far, so that what they do is done again.
fn stop_while_opening(case: Case, life: u64, disk: &SimDisk) {
    for n in 0..mix(case.seed, 3000 + life) % 3 {
        let seed = mix(case.seed ^ life << 40, 4000 + n);
        let sim = Sim::new(seed, disk, Faults { stop_at: Some(seed % 160), fail: None });
        let shards = Shards::default();
        sim.run(open(sim.env(), case.options(life + 1), Rc::clone(&shards)));
        drop(shards);
        drop(sim);
        disk.kill(seed);
    }
}

fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Names the case whose panic is on its way out.
struct Replay(Case, Option<u64>, &'static str);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(case, step, test) = self;
            let step = step.map_or(String::new(), |step| format!("RMQ_SIM_STEP={step} "));
            eprintln!("{case:?}");
            eprintln!(
                "replay: RMQ_SIM_SEED={} {step}cargo test -p rmq-engine --test crash {test}",
                case.seed
            );
        }
    }
}

/// A power cut or a kill anywhere loses nothing that was promised.
#[test]
fn what_was_promised_survives_a_stop_at_every_step() {
    stop_everywhere("what_was_promised_survives_a_stop_at_every_step", Case::new);
}

/// A kill anywhere loses nothing that was acknowledged from memory, also when what is left is replayed in
/// several attempts. Without the memory, what was written is there, and a prefix in any case.
#[test]
fn what_was_acknowledged_from_memory_survives_a_kill_at_every_step() {
    stop_everywhere("what_was_acknowledged_from_memory_survives_a_kill_at_every_step", Case::in_memory);
}

fn stop_everywhere(test: &'static str, case: fn(u64) -> Case) {
    if let Some(seed) = number_of("RMQ_SIM_SEED") {
        let step = number_of("RMQ_SIM_STEP");
        let _replay = Replay(case(seed), step, test);
        run(case(seed), step);
        return;
    }
    let seeds = number_of("RMQ_SIM_SEEDS").unwrap_or(24);
    for seed in 0..seeds {
        let case = case(seed);
        let steps = {
            let _replay = Replay(case, None, test);
            run(case, None)
        };
        assert!(steps > 30, "a life has many steps: {steps}");
        // Every step of the first seeds, some of each other one.
        let stride = if seed < 2 { 1 } else { 37 };
        for step in (seed % stride..steps).step_by(stride as usize) {
            let _replay = Replay(case, Some(step), test);
            run(case, Some(step));
        }
    }
}

/// A clean stop needs no walk through the log, and loses nothing either.
#[test]
fn a_clean_stop_loses_nothing() {
    for seed in 0..40 {
        let case = if seed % 2 == 0 { Case::new(seed / 2) } else { Case::in_memory(seed / 2) };
        let case = Case { stop: Stop::Clean, ..case };
        let _replay = Replay(case, None, "a_clean_stop_loses_nothing");
        run(case, None);
    }
}
