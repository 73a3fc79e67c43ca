//! Disks that fail, fill up and rot: refused, reported, mended from what is there, never guessed.

mod common;

use std::rc::Rc;

use common::sim::{life, open, options, path, segment, send};
use common::split;
use rmq_engine::env::sim::{Faults, SimDisk, SimEnv};
use rmq_engine::{
    AppendError, CachedRead, Env, Error, FlushMode, QueueOffset, Read, ReadLimits, RetentionPolicy, Shard,
};

const ASYNC: FlushMode = FlushMode::Async { interval_ms: 5, bytes: 1 << 20 };
const MESSAGES: u32 = 150;

fn body(n: u32) -> Vec<u8> {
    n.to_le_bytes().repeat(300)
}

/// A store of several segments, cleanly closed.
fn filled() -> SimDisk {
    let disk = SimDisk::new();
    life(&disk, 1, Faults::default(), async |env: SimEnv| {
        let shard = open(&env, options(FlushMode::Sync)).await.unwrap();
        let queue = shard.declare_queue("topic", 0).unwrap();
        for n in 0..MESSAGES {
            send(&env, &shard, queue, &[body(n)]).await.unwrap();
        }
        shard.shutdown().await.unwrap();
    })
    .unwrap();
    disk
}

/// Opens and reads everything; the number of messages found.
fn reopen(disk: &SimDisk) -> Result<i64, Error> {
    life(disk, 2, Faults::default(), async |env: SimEnv| {
        let shard = open(&env, options(FlushMode::Sync)).await?;
        let count = read_all(&shard).await?;
        Ok(count)
    })
    .unwrap()
}

async fn read_all(shard: &Rc<Shard<SimEnv>>) -> Result<i64, Error> {
    let Some(queue) = shard.find_queue("topic", 0) else { return Ok(0) };
    let mut at = shard.min_offset(queue);
    while at < shard.max_offset(queue) {
        let (read, bytes) = Rc::clone(shard).read(queue, at, ReadLimits::default(), |_| true).await?;
        for (offset, found) in split(&bytes) {
            assert_eq!(found, body(offset as u32));
        }
        let Read::Found { next, .. } = read else { panic!("{read:?} at {at}") };
        at = next;
    }
    Ok(at.0)
}

fn assert_corrupt(result: Result<i64, Error>, file: &str) {
    match result {
        Err(error @ Error::Corrupt { .. }) => assert!(error.to_string().contains(file), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_clean_store_is_whole() {
    assert_eq!(reopen(&filled()).unwrap(), i64::from(MESSAGES));
}

#[test]
fn one_damaged_superblock_slot_is_outlived_and_two_are_reported() {
    let disk = filled();
    for slot in 0..2 {
        disk.damage(&path("superblock"), slot * 4096 + 40, 3);
        assert_eq!(reopen(&disk).unwrap(), i64::from(MESSAGES));
    }
    for slot in 0..2 {
        disk.damage(&path("superblock"), slot * 4096 + 33, 0);
    }
    assert_corrupt(reopen(&disk), "superblock");
}

#[test]
fn a_damaged_segment_header_is_reported() {
    let disk = filled();
    disk.damage(&segment(1, "log"), 30, 1);
    assert_corrupt(reopen(&disk), "00000000000000000001.log");
}

#[test]
fn a_missing_segment_is_noticed() {
    let disk = filled();
    disk.unlink(&segment(1, "log"));
    assert_corrupt(reopen(&disk), "00000000000000000001.log");
}

#[test]
fn a_damaged_or_missing_index_is_made_again() {
    for at in [0, 20, 300, 4096 + 3] {
        let disk = filled();
        disk.damage(&segment(1, "idx"), at, 2);
        assert_eq!(reopen(&disk).unwrap(), i64::from(MESSAGES), "byte {at}");
    }
    let disk = filled();
    disk.unlink(&segment(1, "idx"));
    assert_eq!(reopen(&disk).unwrap(), i64::from(MESSAGES));
    assert!(disk.bytes(&segment(1, "idx")).is_some());
}

/// An index page is only read when somebody asks for its entries.
#[test]
fn a_damaged_index_page_is_reported_and_can_be_mended() {
    let disk = filled();
    let last = disk.bytes(&segment(0, "idx")).unwrap().len() - 4000;
    disk.damage(&segment(0, "idx"), last, 2);
    assert_corrupt(reopen(&disk), "00000000000000000000.idx");
    disk.unlink(&segment(0, "idx"));
    assert_eq!(reopen(&disk).unwrap(), i64::from(MESSAGES));
}

#[test]
fn damaged_queue_maps_are_reported_and_can_be_made_again() {
    let disk = filled();
    for slot in 0..2 {
        disk.damage(&path(&format!("queues/0000.{slot}")), 30, 0);
    }
    assert_corrupt(reopen(&disk), "queues/0000");
    for slot in 0..2 {
        disk.unlink(&path(&format!("queues/0000.{slot}")));
    }
    assert_eq!(reopen(&disk).unwrap(), i64::from(MESSAGES));
}

#[test]
fn a_damaged_record_on_disk_is_never_handed_out() {
    let disk = filled();
    disk.damage(&segment(0, "log"), 20_000, 5);
    assert_corrupt(reopen(&disk), "00000000000000000000.log");
    // The index told where it is; a walk through the log would find it as well.
    disk.unlink(&segment(0, "idx"));
    assert_corrupt(reopen(&disk), "00000000000000000000.log");
}

#[test]
fn a_damaged_snapshot_costs_a_walk_and_nothing_else() {
    let disk = filled();
    let active = (0..16).rev().find(|&n| disk.bytes(&segment(n, "idx")).is_some()).unwrap();
    disk.damage(&segment(active, "idx"), 4096 + 2, 1);
    assert_eq!(reopen(&disk).unwrap(), i64::from(MESSAGES));
}

/// Each request that writes or syncs fails once. Either it was in the background and nothing is lost, or the
/// log stops and says so; after a restart everything acknowledged is there.
#[test]
fn a_failed_request_stops_the_log_and_loses_nothing_acknowledged() {
    let mut stops = 0;
    for flush in [FlushMode::Sync, ASYNC] {
        for step in 0..600 {
            let disk = SimDisk::new();
            let faults = Faults { fail: Some((step, libc::EIO)), ..Faults::default() };
            let outcome = life(&disk, 3 + step, faults, async move |env: SimEnv| {
                let Ok(shard) = open(&env, options(flush)).await else { return (0, false) };
                let mut acknowledged = 0;
                for n in 0..60 {
                    let Ok(queue) = shard.declare_queue("topic", 0) else { break };
                    if send(&env, &shard, queue, &[body(n)]).await.is_err() {
                        assert_eq!(
                            common::append(&shard, queue, &[body(n)]).unwrap_err(),
                            AppendError::Poisoned
                        );
                        assert!(shard.stats().last_error.is_some());
                        // What is in memory is still read.
                        let mut out = Vec::new();
                        let limits = ReadLimits::default();
                        let read = shard.read_cached(queue, QueueOffset(0), &limits, |_| true, &mut out);
                        assert!(!matches!(read, CachedRead::Done(Read::NoSuchQueue)));
                        break;
                    }
                    acknowledged += 1;
                }
                let stopped = shard.stats().stopped;
                // Also what a shutdown writes may fail, without harm to the log.
                assert!(shard.shutdown().await.is_err() || !stopped, "step {step}");
                (acknowledged, stopped)
            });
            let (acknowledged, stopped) = outcome.expect("never hangs");
            stops += u32::from(stopped);
            let found = reopen(&disk).unwrap_or_else(|error| panic!("step {step} {flush:?}: {error}"));
            assert!(found >= acknowledged, "step {step} {flush:?}: {found} of {acknowledged}");
        }
    }
    assert!(stops > 20, "some of the requests were the flusher's: {stops}");
}

/// A full disk refuses appends, goes on serving reads, and takes appends again when there is space.
#[test]
fn a_full_disk_refuses_and_recovers() {
    let disk = SimDisk::new();
    disk.set_capacity(Some(6 * common::sim::SEGMENT_BYTES));
    let full = disk.clone();
    life(&disk, 5, Faults::default(), async move |env: SimEnv| {
        let shard = open(&env, options(FlushMode::Sync)).await.unwrap();
        let queue = shard.declare_queue("topic", 0).unwrap();
        let mut sent = 0;
        let refusal = loop {
            match send(&env, &shard, queue, &[body(sent)]).await {
                Ok(_) => sent += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(refusal, AppendError::DiskFull);
        assert!(shard.stats().disk_full && !shard.stats().stopped);
        assert_eq!(read_all(&shard).await.unwrap(), i64::from(sent));

        let policy = RetentionPolicy { disk_ratio_max: Some(0.5), segments_max: 10, ..Default::default() };
        assert!(shard.delete_expired(&policy, env.wall_ms()).await.unwrap() > 0);
        while shard.stats().disk_full {
            env.sleep_us(10_000).await;
        }
        send(&env, &shard, queue, &[body(sent)]).await.unwrap();
        assert!(shard.min_offset(queue) > QueueOffset(0));
        assert_eq!(read_all(&shard).await.unwrap(), i64::from(sent) + 1);
        let _ = full;
    })
    .unwrap();
    let found = reopen(&disk).unwrap();
    assert!(found > 0);
}

/// A queue whose messages have all expired goes on counting where it stood, also after a restart.
#[test]
fn an_idle_queue_keeps_its_place() {
    let disk = SimDisk::new();
    life(&disk, 6, Faults::default(), async |env: SimEnv| {
        let shard = open(&env, options(FlushMode::Sync)).await.unwrap();
        let idle = shard.declare_queue("idle", 0).unwrap();
        for n in 0..7 {
            send(&env, &shard, idle, &[body(n)]).await.unwrap();
        }
        let busy = shard.declare_queue("topic", 0).unwrap();
        for n in 0..MESSAGES {
            send(&env, &shard, busy, &[body(n)]).await.unwrap();
        }
        let policy = RetentionPolicy { age_ms: Some(-1_000_000), segments_max: 2, ..Default::default() };
        while shard.delete_expired(&policy, env.wall_ms()).await.unwrap() > 0 {}
        assert_eq!((shard.min_offset(idle), shard.max_offset(idle)), (QueueOffset(7), QueueOffset(7)));
    })
    .unwrap();
    life(&disk, 8, Faults::default(), async |env: SimEnv| {
        let shard = open(&env, options(FlushMode::Sync)).await.unwrap();
        let idle = shard.find_queue("idle", 0).unwrap();
        assert_eq!((shard.min_offset(idle), shard.max_offset(idle)), (QueueOffset(7), QueueOffset(7)));
        assert_eq!(send(&env, &shard, idle, &[body(7)]).await.unwrap().first_queue_offset, QueueOffset(7));
        // A deleted queue starts again.
        shard.delete_queue(idle).unwrap();
        let again = shard.declare_queue("idle", 0).unwrap();
        assert_ne!(again, idle);
        assert_eq!(send(&env, &shard, again, &[body(0)]).await.unwrap().first_queue_offset, QueueOffset(0));
    })
    .unwrap();
}

#[test]
fn two_processes_do_not_share_a_store() {
    let disk = filled();
    life(&disk, 9, Faults::default(), async |env: SimEnv| {
        let first = open(&env, options(FlushMode::Sync)).await.unwrap();
        let second = open(&env, options(FlushMode::Sync)).await;
        assert!(matches!(second, Err(Error::Locked { .. })));
        first.shutdown().await.unwrap();
        open(&env, options(FlushMode::Sync)).await.unwrap();
    })
    .unwrap();
}
