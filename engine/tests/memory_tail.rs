//! Acknowledging from memory: what it promises beside the crash tests' sweeps, and what it refuses.

mod common;

use std::path::PathBuf;
use std::rc::Rc;

use common::sim::{life, open, options, path, send};
use common::{append, split};
use rmq_engine::env::sim::{Faults, MEMORY_DIR, SimDisk, SimEnv};
use rmq_engine::{
    AppendError, Env, Error, FlushMode, MemoryTail, QueueOffset, Read, ReadLimits, Shard, StoreOptions,
};

const ASYNC: FlushMode = FlushMode::Async { interval_ms: 5, bytes: 1 << 20 };
const SMALLEST: u64 = 16 << 10;

fn body(n: u32) -> Vec<u8> {
    n.to_le_bytes().repeat(100)
}

fn in_memory(bytes: u64) -> StoreOptions {
    StoreOptions { memory_tail: Some(MemoryTail { dir: MEMORY_DIR.into(), bytes }), ..options(ASYNC) }
}

fn record() -> PathBuf {
    path("memory/0000")
}

/// Lets every task run that does not wait for the disk.
async fn settle(env: &SimEnv) {
    for _ in 0..200 {
        env.yield_now().await;
    }
}

/// Appends and waits for no disk; returns how many are acknowledged all the same.
async fn append_from_memory(env: &SimEnv, shard: &Shard<SimEnv>, count: u32) -> i64 {
    let queue = shard.declare_queue("topic", 0).unwrap();
    for n in 0..count {
        append(shard, queue, &[body(n)]).unwrap();
    }
    settle(env).await;
    shard.max_offset(queue).0
}

async fn read_all(shard: &Rc<Shard<SimEnv>>) -> i64 {
    let Some(queue) = shard.find_queue("topic", 0) else { return 0 };
    let mut at = shard.min_offset(queue);
    while at < shard.max_offset(queue) {
        let read = Rc::clone(shard).read(queue, at, ReadLimits::default(), |_| true).await;
        let (read, bytes) = read.expect("reads");
        for (offset, found) in split(&bytes) {
            assert_eq!(found, body(offset as u32));
        }
        let Read::Found { next, .. } = read else { panic!("{read:?} at {at}") };
        at = next;
    }
    at.0
}

/// Opens, reads everything, and is killed.
fn found_by(disk: &SimDisk, options: StoreOptions) -> Result<i64, Error> {
    let work = async |env: SimEnv| Ok(read_all(&open(&env, options).await?).await);
    life(disk, 99, Faults::default(), work).unwrap()
}

/// A store that was killed with messages that are only in memory; and how many there are.
fn killed(seed: u64) -> (SimDisk, i64) {
    let disk = SimDisk::new();
    let acknowledged = life(&disk, seed, Faults::default(), async |env: SimEnv| {
        let shard = open(&env, in_memory(1 << 20)).await.unwrap();
        let acknowledged = append_from_memory(&env, &shard, 80).await;
        assert_eq!(shard.written(), shard.durable(), "no write has completed");
        assert!(shard.stats().memory_tail_bytes > 0);
        acknowledged
    });
    (disk, acknowledged.unwrap())
}

#[test]
fn what_is_in_memory_is_acknowledged_readable_and_survives_a_kill() {
    let disk = SimDisk::new();
    life(&disk, 1, Faults::default(), async |env: SimEnv| {
        let shard = open(&env, in_memory(1 << 20)).await.unwrap();
        let queue = shard.declare_queue("topic", 0).unwrap();
        let first = append(&shard, queue, &[body(0), body(1)]).unwrap();
        assert_eq!(shard.max_offset(queue), QueueOffset(0), "not before it is in the ring");
        settle(&env).await;
        assert!(shard.acknowledged() >= first.end && shard.written() < first.end);
        let unseen = append(&shard, queue, &[body(2)]).unwrap();
        let at = first.first_physical_offset;
        let found = Rc::clone(&shard).record_at(at).await.unwrap().expect("acknowledged");
        assert_eq!(split(&found), [(0, body(0))]);
        while shard.acknowledged() < unseen.end {
            env.sleep_us(10).await;
        }
        assert_eq!(read_all(&shard).await, 3);
    })
    .unwrap();
    let (disk, acknowledged) = killed(2);
    assert_eq!(acknowledged, 80);
    assert_eq!(found_by(&disk, in_memory(SMALLEST)).unwrap(), 80);
    assert_eq!(found_by(&disk, in_memory(SMALLEST)).unwrap(), 80, "and again");
}

/// While more is unwritten than the ring holds, acknowledgements come with the writes; then from memory again.
#[test]
fn a_full_ring_waits_for_the_disk_and_goes_on() {
    let disk = SimDisk::new();
    life(&disk, 3, Faults::default(), async |env: SimEnv| {
        let shard = open(&env, in_memory(SMALLEST)).await.unwrap();
        let acknowledged = append_from_memory(&env, &shard, 80).await;
        assert!((10..60).contains(&acknowledged), "as many as fit: {acknowledged}");
        assert!(shard.stats().memory_tail_bytes <= SMALLEST as usize);
        assert!(shard.stats().memory_tail_bytes > SMALLEST as usize - 1000, "and not fewer");
        while shard.acknowledged() < shard.appended() {
            assert!(shard.stats().memory_tail_bytes <= SMALLEST as usize);
            env.sleep_us(20).await;
        }
        while shard.written() < shard.appended() {
            env.sleep_us(20).await;
        }
        let waited = shard.stats().memory_tail_waits;
        assert!(waited > 0);
        assert_eq!(shard.stats().memory_tail_bytes, 0);
        let queue = shard.find_queue("topic", 0).unwrap();
        let last = append(&shard, queue, &[body(80)]).unwrap();
        settle(&env).await;
        assert!(shard.acknowledged() >= last.end && shard.written() < last.end, "from memory again");
        assert_eq!(shard.stats().memory_tail_waits, waited);
        // A frame larger than the ring is acknowledged by its write, and stands in nobody's way.
        let huge = append(&shard, queue, &[vec![1; 20 << 10]]).unwrap();
        let small = append(&shard, queue, &[body(82)]).unwrap();
        settle(&env).await;
        assert!(shard.acknowledged() < huge.end);
        while shard.acknowledged() < small.end {
            env.sleep_us(20).await;
        }
        assert!(shard.stats().memory_tail_waits > waited);
        shard.shutdown().await.unwrap();
    })
    .unwrap();
    assert_eq!(disk.memory_paths(), Vec::<PathBuf>::new());
}

#[test]
fn a_clean_stop_writes_everything_and_leaves_no_memory() {
    let disk = SimDisk::new();
    life(&disk, 4, Faults::default(), async |env: SimEnv| {
        let shard = open(&env, in_memory(SMALLEST)).await.unwrap();
        append_from_memory(&env, &shard, 100).await;
        shard.shutdown().await.unwrap();
    })
    .unwrap();
    assert_eq!(disk.memory_paths(), Vec::<PathBuf>::new());
    assert_eq!(disk.bytes(&record()), None);
    assert_eq!(found_by(&disk, options(ASYNC)).unwrap(), 100);
}

/// The store remembers where the memory is, whatever the next start's options say.
#[test]
fn memory_is_found_when_the_option_is_gone_or_points_elsewhere() {
    let elsewhere = MemoryTail { dir: PathBuf::from(MEMORY_DIR).join("elsewhere"), bytes: 64 << 10 };
    for next in [
        options(ASYNC),
        options(FlushMode::Sync),
        StoreOptions { memory_tail: Some(elsewhere), ..options(ASYNC) },
    ] {
        let (disk, acknowledged) = killed(5);
        let is_on = next.memory_tail.is_some();
        assert_eq!(found_by(&disk, next).unwrap(), acknowledged);
        assert_eq!(disk.memory_paths().len(), usize::from(is_on), "the old one is gone");
        assert_eq!(disk.bytes(&record()).is_some(), is_on);
    }
}

/// What the disk holds is a start's answer when the memory is gone or is not ours.
#[test]
fn memory_that_is_gone_damaged_or_of_another_store_is_not_trusted() {
    let (disk, _) = killed(6);
    let path = disk.memory_paths().remove(0);
    disk.put_memory(&path, None);
    assert!(found_by(&disk, options(ASYNC)).unwrap() < 80);
    assert_eq!(disk.bytes(&record()), None, "said once");

    // Another store's, in a file of this one's name: neither used nor removed.
    let (other, _) = killed(7);
    let foreign = other.memory(&other.memory_paths()[0]).unwrap();
    for bytes in [foreign.clone(), Vec::new(), vec![0; 5000], foreign[..foreign.len() - 1].to_vec()] {
        let (disk, _) = killed(6);
        disk.put_memory(&path, Some(bytes.clone()));
        assert!(found_by(&disk, options(ASYNC)).unwrap() < 80);
        assert_eq!(disk.memory(&path).unwrap(), bytes);
    }

    // A flipped bit is where the log ends; nothing behind it is invented.
    let (disk, acknowledged) = killed(6);
    let mut bytes = disk.memory(&path).unwrap();
    let middle = bytes.iter().rposition(|&byte| byte != 0).unwrap() / 2 + 2048;
    bytes[middle] ^= 1;
    disk.put_memory(&path, Some(bytes));
    let found = found_by(&disk, options(ASYNC)).unwrap();
    assert!((1..acknowledged).contains(&found), "{found}");
}

/// A ring that a start has replayed is history, even if its files are still there.
#[test]
fn memory_counts_for_one_start_that_serves() {
    let (disk, _) = killed(8);
    let path = disk.memory_paths().remove(0);
    let old = disk.memory(&path).unwrap();
    let (ring_record, acknowledged) = (disk.bytes(&record()).unwrap(), 80);
    life(&disk, 9, Faults::default(), async move |env: SimEnv| {
        let shard = open(&env, options(ASYNC)).await.unwrap();
        let queue = shard.find_queue("topic", 0).unwrap();
        send(&env, &shard, queue, &[body(80)]).await.unwrap();
        // Back to what the kill left.
        let file = env.open(&record(), rmq_engine::OpenMode::CREATE).await.unwrap();
        use rmq_engine::File as _;
        file.write_at(0, ring_record.len(), |out| out.copy_from_slice(&ring_record)).await.unwrap();
        file.sync().await.unwrap();
    })
    .unwrap();
    disk.put_memory(&path, Some(old));
    assert_eq!(found_by(&disk, options(ASYNC)).unwrap(), acknowledged + 1);
    assert_eq!(disk.memory_paths(), Vec::<PathBuf>::new(), "what was left of it goes");
    assert_eq!(disk.bytes(&record()), None);
}

#[test]
fn memory_that_another_process_has_is_not_taken() {
    let (disk, acknowledged) = killed(10);
    let path = disk.memory_paths().remove(0);
    // A copy of this store runs.
    disk.lock_memory(&path, true);
    let refused = found_by(&disk, options(ASYNC)).unwrap_err().to_string();
    assert!(refused.contains("another running process"), "{refused}");
    let (disk, _) = (killed(10).0, disk);
    assert_eq!(found_by(&disk, options(ASYNC)).unwrap(), acknowledged);
}

#[test]
fn a_damaged_record_is_reported() {
    let (disk, _) = killed(11);
    disk.damage(&record(), 30, 2);
    let refused = found_by(&disk, options(ASYNC)).unwrap_err();
    assert!(matches!(refused, Error::Corrupt { .. }), "{refused}");
    assert!(refused.to_string().contains("memory/0000"), "{refused}");
}

#[test]
fn impossible_options_are_refused_before_anything_is_touched() {
    let tail = |dir: &str, bytes| Some(MemoryTail { dir: dir.into(), bytes });
    for (options, text) in [
        (StoreOptions { memory_tail: tail(MEMORY_DIR, SMALLEST), ..options(FlushMode::Sync) }, "flush"),
        (StoreOptions { memory_tail: tail(MEMORY_DIR, SMALLEST - 1), ..options(ASYNC) }, "between"),
        (StoreOptions { memory_tail: tail("shm", SMALLEST), ..options(ASYNC) }, "absolute"),
        (StoreOptions { memory_tail: tail("/disk", SMALLEST), ..options(ASYNC) }, "tmpfs"),
    ] {
        let disk = SimDisk::new();
        let refused = found_by(&disk, options).unwrap_err().to_string();
        assert!(refused.contains(text), "{refused}");
        assert_eq!(disk.paths(), Vec::<PathBuf>::new());
    }
}

/// Each request that writes or syncs fails once. What was acknowledged from memory before the log stopped is
/// read on, nothing is acknowledged after it, and a restart finds all of it, whatever its options are.
#[test]
fn a_log_that_stops_loses_nothing_acknowledged_from_memory() {
    let mut ahead = 0;
    for step in 0..600 {
        let disk = SimDisk::new();
        let faults = Faults { fail: Some((step, libc::EIO)), ..Faults::default() };
        let outcome = life(&disk, 3 + step, faults, async move |env: SimEnv| {
            let Ok(shard) = open(&env, in_memory(64 << 10)).await else { return (0, false) };
            for n in 0..200u64 {
                let Ok(queue) = shard.declare_queue("topic", 0) else { break };
                match append(&shard, queue, &[body(shard.next_offset(queue).0 as u32)]) {
                    Err(AppendError::Busy) => env.sleep_us(300).await,
                    Err(_) => break,
                    Ok(_) => env.sleep_us(n % 60).await,
                }
            }
            let Some(queue) = shard.find_queue("topic", 0) else { return (0, false) };
            let acknowledged = shard.max_offset(queue).0;
            let is_ahead = shard.stats().stopped && shard.acknowledged() > shard.written();
            assert_eq!(read_all(&shard).await, acknowledged, "step {step}");
            if shard.stats().stopped {
                env.sleep_us(1000).await;
                assert_eq!(shard.max_offset(queue).0, acknowledged, "nothing new");
            }
            let acknowledged = shard.max_offset(queue).0;
            let _ = shard.shutdown().await;
            (acknowledged, is_ahead)
        });
        let (acknowledged, is_ahead) = outcome.expect("never hangs");
        ahead += u32::from(is_ahead);
        let next = if step % 2 == 0 { options(FlushMode::Sync) } else { in_memory(SMALLEST) };
        let found = found_by(&disk, next).unwrap_or_else(|error| panic!("step {step}: {error}"));
        assert!(found >= acknowledged, "step {step}: {found} of {acknowledged}");
    }
    assert!(ahead > 10, "some logs stopped with messages that were only in memory: {ahead}");
}
