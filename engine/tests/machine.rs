//! The engine on a real ring and a real file system.

mod common;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use rmq_engine::env::uring::UringEnv;
use rmq_engine::{
    CachedRead, FlushMode, MemoryTail, Progress, QueueOffset, Read, ReadLimits, Shard, Store, StoreOptions,
};

struct TestDir(PathBuf);

impl TestDir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("rmq-engine-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        Self(dir)
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn on_executor<F: Future<Output = ()> + 'static>(work: impl FnOnce() -> F) {
    rmq_reactor::run(&rmq_reactor::Options::default(), work).expect("a ring");
}

async fn open(options: StoreOptions) -> Rc<Shard<UringEnv>> {
    let env = UringEnv::new();
    let mut seeds = Store::open(&env, options, Arc::new(common::TestSchema), &|_| 0).await.unwrap();
    Shard::start(env, seeds.remove(0)).await.unwrap()
}

fn append(shard: &Shard<UringEnv>, topic: &str, body: &[u8]) -> rmq_engine::Appended {
    let queue = shard.declare_queue(topic, 0).unwrap();
    common::append(shard, queue, &[body.to_vec()]).unwrap()
}

/// Waits until the shard acknowledged a position.
async fn acknowledged(shard: &Shard<UringEnv>, end: rmq_engine::LogPosition) {
    while shard.acknowledged() < end {
        rmq_reactor::sleep(std::time::Duration::from_micros(100)).await;
    }
}

fn both_modes() -> [FlushMode; 2] {
    [FlushMode::Sync, FlushMode::Async { interval_ms: 50, bytes: 1 << 20 }]
}

/// Where one record ends a segment, two that belong together go to the next.
#[test]
fn what_was_reserved_is_appended_in_one_segment() {
    let dir = TestDir::new("reserve");
    let path = dir.0.clone();
    on_executor(move || async move {
        let size = 64 << 10;
        let options = StoreOptions { segment_size_bytes: size, ..StoreOptions::new(&path) };
        let shard = open(options).await;
        let body = vec![7; 3_000];
        let len = (common::HEAD + body.len()) as u32;
        append(&shard, "a", &body);
        append(&shard, "b", &body);
        assert!(shard.reserve(&[len; 40]).is_err(), "more than a segment holds");
        let mut segments = std::collections::BTreeSet::new();
        for _ in 0..60 {
            while shard.reserve(&[len, len]).is_err() {
                rmq_reactor::sleep(std::time::Duration::from_millis(1)).await;
            }
            let first = append(&shard, "a", &body);
            let second = append(&shard, "b", &body);
            assert_eq!(first.end.segment, second.end.segment);
            assert!(!shard.is_newest(first.first_physical_offset, len));
            assert!(shard.is_newest(second.first_physical_offset, len));
            assert_eq!(shard.shard_of(first.first_physical_offset), Some(0));
            segments.insert(first.end.segment);
        }
        assert!(segments.len() > 3, "segments were filled");
        assert_eq!(shard.shard_of(rmq_engine::PhysicalOffset(1 << 40)), None);
        assert_eq!(shard.shard_of(rmq_engine::PhysicalOffset(-1)), None);
        shard.shutdown().await.unwrap();
    });
}

#[test]
fn what_is_acknowledged_can_be_read() {
    for (n, flush) in both_modes().into_iter().enumerate() {
        let dir = TestDir::new(&format!("read-{n}"));
        let options = StoreOptions { segment_size_bytes: 8 << 20, flush, ..StoreOptions::new(&dir.0) };
        on_executor(move || async move {
            let shard = open(options).await;
            let heard = Rc::new(RefCell::new(Vec::new()));
            let log = Rc::clone(&heard);
            shard.on_progress(Rc::new(move |progress| log.borrow_mut().push(progress)));
            let mut end = None;
            for n in 0..1000u32 {
                end = Some(append(&shard, "topic", &n.to_le_bytes()).end);
            }
            let queue = shard.find_queue("topic", 0).unwrap();
            assert_eq!(
                shard.max_offset(queue),
                QueueOffset(0),
                "nothing is visible before it is acknowledged"
            );
            acknowledged(&shard, end.unwrap()).await;
            assert_eq!(heard.borrow().last(), Some(&Progress::Acknowledged(end.unwrap())));
            let limits = ReadLimits { messages_max: 2000, bytes_max: 1 << 20, ..ReadLimits::default() };
            let mut out = Vec::new();
            let read = shard.read_cached(queue, QueueOffset(10), &limits, |_| true, &mut out);
            assert_eq!(read, CachedRead::Done(Read::Found { messages: 990, next: QueueOffset(1000) }));
            for (n, record) in out.chunks(32).enumerate() {
                assert_eq!(record[28..], (n as u32 + 10).to_le_bytes());
            }
            shard.shutdown().await.unwrap();
        });
    }
}

const LIFE: &str = "RMQ_ENGINE_TEST_LIFE";
const RECORDS_PER_LIFE: usize = 600;
/// Made by a life that was killed while some of what it had acknowledged was only in memory.
const ONLY_IN_MEMORY: &str = "only-in-memory";

/// Rolls, seals, cold reads, clean stops and a `kill -9`, each life in a process of its own.
#[test]
fn a_store_is_found_again() {
    if let Ok(life) = std::env::var(LIFE) {
        let mut words = life.split(' ');
        let mut word = || words.next().unwrap().to_owned();
        return live(word().into(), word().into(), word().parse().unwrap(), word().parse().unwrap());
    }
    for n in 0..3 {
        let dir = TestDir::new(&format!("again-{n}"));
        let memory = TestDir(Path::new("/dev/shm").join(dir.0.file_name().unwrap()));
        std::fs::create_dir_all(&memory.0).unwrap();
        for life in 0..4 {
            let status = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["a_store_is_found_again", "--exact", "--nocapture"])
                .env(LIFE, format!("{} {} {n} {life}", dir.0.display(), memory.0.display()))
                .stdout(std::process::Stdio::null())
                .status()
                .unwrap();
            let signal = std::os::unix::process::ExitStatusExt::signal(&status);
            assert!(status.success() || (ends_by_kill(life) && signal == Some(libc::SIGKILL)), "{status}");
        }
        assert_eq!(dir.0.join(ONLY_IN_MEMORY).exists(), n == 2, "mode {n}");
    }
}

fn ends_by_kill(life: usize) -> bool {
    life % 2 == 1
}

/// Modes 0 and 1 are those of `both_modes`, 2 acknowledges from memory.
fn live(dir: PathBuf, memory: PathBuf, mode: usize, life: usize) {
    let from_memory = mode == 2;
    let proof = dir.join(ONLY_IN_MEMORY);
    let options = StoreOptions {
        segment_size_bytes: 1 << 20,
        tail_cache_bytes: 512 << 10,
        flush: both_modes()[mode.min(1)],
        memory_tail: from_memory.then_some(MemoryTail { dir: memory, bytes: 4 << 20 }),
        ..StoreOptions::new(dir)
    };
    on_executor(move || async move {
        let shard = open(options).await;
        if let Some(queue) = shard.find_queue("topic", 0) {
            assert_eq!(shard.max_offset(queue).0, (life * RECORDS_PER_LIFE) as i64);
            read_all(&shard).await;
        }
        let mut sent = 0;
        while sent < RECORDS_PER_LIFE {
            let queue = shard.declare_queue("topic", 0).unwrap();
            let number = (life * RECORDS_PER_LIFE + sent) as u32;
            match common::append(&shard, queue, &[number.to_le_bytes().repeat(1000)]) {
                Ok(appended) => {
                    sent += 1;
                    // Needs no disk, so it takes some turns only, unless the ring is full.
                    for _ in 0..if from_memory { 20 } else { 0 } {
                        if shard.acknowledged() >= appended.end {
                            break;
                        }
                        rmq_reactor::yield_now().await;
                    }
                    acknowledged(&shard, appended.end).await;
                }
                Err(rmq_engine::AppendError::Busy) => {
                    rmq_reactor::sleep(std::time::Duration::from_millis(1)).await;
                }
                Err(other) => panic!("{other}"),
            }
        }
        if !from_memory {
            read_all(&shard).await;
        }
        if ends_by_kill(life) {
            if shard.written() < shard.acknowledged() {
                std::fs::write(proof, "").unwrap();
            }
            // SAFETY: a signal to ourselves; there is nothing after it.
            unsafe { libc::raise(libc::SIGKILL) };
        }
        shard.shutdown().await.unwrap();
    });
}

/// Reads a queue from its first message to its last, in memory or not.
async fn read_all(shard: &Rc<Shard<UringEnv>>) {
    let queue = shard.find_queue("topic", 0).unwrap();
    let mut at = QueueOffset(0);
    while at < shard.max_offset(queue) {
        let limits = ReadLimits::default();
        let (read, bytes) = Rc::clone(shard).read(queue, at, limits, |_| true).await.unwrap();
        for (offset, body) in common::split(&bytes) {
            assert_eq!(body[..4], (offset as u32).to_le_bytes());
        }
        let Read::Found { next, .. } = read else { panic!("{read:?} at {at}") };
        at = next;
    }
}
