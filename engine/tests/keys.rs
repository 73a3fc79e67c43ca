//! Records are found by key: newest first, from memory and from key files, after crashes and damage. What no file
//! covers is read from the log again, and a query says how much that still is.

mod common;

use std::rc::Rc;

use common::sim::{SEGMENT_BYTES, life, open, options, path, segment, send};
use common::{HEAD, key_of};
use rmq_engine::env::sim::{Faults, SimDisk, SimEnv};
use rmq_engine::{Env, FlushMode, KeyQuery, KeyRecords, RetentionPolicy, Shard, StoreOptions};

const MESSAGES: u32 = 600;
const ASYNC: FlushMode = FlushMode::Async { interval_ms: 5, bytes: 1 << 20 };

fn small_parts() -> StoreOptions {
    StoreOptions { key_memory_bytes: 4 << 10, ..options(ASYNC) }
}

/// Every third message has the same key, the others one of their own.
fn body(n: u32) -> Vec<u8> {
    let key = if n.is_multiple_of(3) { u64::MAX } else { u64::from(n) };
    [&key.to_le_bytes()[..], &n.to_le_bytes().repeat(100)].concat()
}

fn number(body: &[u8]) -> u32 {
    u32::from_le_bytes(body[8..12].try_into().unwrap())
}

/// Everything with the key of this message's body, within these times.
fn query(n: u32, begin_ms: i64, end_ms: i64, records_max: usize) -> KeyQuery {
    KeyQuery { hash: key_of(&body(n)), begin_ms, end_ms, records_max, bytes_max: 1 << 20 }
}

async fn ask(shard: &Rc<Shard<SimEnv>>, n: u32, query: KeyQuery) -> KeyRecords {
    let wanted = body(n)[..8].to_vec();
    let is_it = move |record: &[u8]| record[HEAD..HEAD + 8] == wanted;
    Rc::clone(shard).query_key(query, is_it).await.expect("a query by key")
}

/// The numbers of the messages with the key of message `n`.
async fn numbers(shard: &Rc<Shard<SimEnv>>, n: u32, query: KeyQuery) -> Vec<u32> {
    ask(shard, n, query).await.records.iter().map(|record| number(&record.bytes[HEAD..])).collect()
}

async fn fill(env: &SimEnv, shard: &Rc<Shard<SimEnv>>, numbers: std::ops::Range<u32>) {
    let queue = shard.declare_queue("topic", 0).unwrap();
    for n in numbers {
        send(env, shard, queue, &[body(n)]).await.unwrap();
    }
}

async fn all_known(env: &SimEnv, shard: &Rc<Shard<SimEnv>>) {
    for _ in 0..10_000 {
        if ask(shard, 1, query(1, 0, i64::MAX, 1)).await.unknown_bytes == 0 {
            return;
        }
        env.sleep_us(1000).await;
    }
    panic!("the log is never read to its end");
}

async fn assert_all_found(shard: &Rc<Shard<SimEnv>>, from: u32, to: u32) {
    for n in (from..to).filter(|n| n % 3 != 0) {
        assert_eq!(numbers(shard, n, query(n, 0, i64::MAX, 10)).await, [n]);
    }
    let shared: Vec<u32> = (from..to).filter(|n| n % 3 == 0).collect();
    assert_eq!(numbers(shard, 0, query(0, 0, i64::MAX, 1000)).await, shared);
}

fn key_files(disk: &SimDisk) -> Vec<std::path::PathBuf> {
    let names = disk.list(&path("commitlog"));
    names.iter().filter(|name| name.ends_with(".keys")).map(|name| path("commitlog").join(name)).collect()
}

#[test]
fn the_newest_come_first_and_only_those_of_the_time() {
    for memory in [4 << 10, 32 << 20] {
        let disk = SimDisk::new();
        life(&disk, 1, Faults::default(), async move |env: SimEnv| {
            let options = StoreOptions { key_memory_bytes: memory, ..options(ASYNC) };
            let shard = open(&env, options).await.unwrap();
            fill(&env, &shard, 0..MESSAGES).await;
            all_known(&env, &shard).await;
            assert_all_found(&shard, 0, MESSAGES).await;
            assert_eq!(numbers(&shard, 0, query(0, 0, i64::MAX, 4)).await, [588, 591, 594, 597]);
            assert_eq!(numbers(&shard, 0, query(0, 0, i64::MAX, 0)).await, [0; 0]);

            let all = ask(&shard, 0, query(0, 0, i64::MAX, 1000)).await;
            let times: Vec<i64> = all.records.iter().map(|record| record.store_timestamp_ms).collect();
            assert!(times.is_sorted() && times[0] < *times.last().unwrap());
            assert_eq!(all.last_ms, *times.last().unwrap().max(&all.last_ms));
            for (begin, end) in
                [(0, times[10]), (times[10], times[50]), (times[150], i64::MAX), (times[7], times[7])]
            {
                let within = times.iter().filter(|ms| (begin..=end).contains(ms)).count();
                let found = ask(&shard, 0, query(0, begin, end, 1000)).await.records;
                assert_eq!(found.len(), within, "{begin}..={end}");
                assert!(found.iter().all(|record| (begin..=end).contains(&record.store_timestamp_ms)));
            }
            // One record at least, whatever its size, and no more than fit.
            let one = KeyQuery { bytes_max: 1, ..query(0, 0, i64::MAX, 100) };
            assert_eq!(numbers(&shard, 0, one).await, [597]);
            let three = KeyQuery { bytes_max: 3 * (HEAD + 408) + 1, ..query(0, 0, i64::MAX, 100) };
            assert_eq!(numbers(&shard, 0, three).await, [591, 594, 597]);
        })
        .unwrap();
    }
}

/// A hash says where to look; the record says whether it is the one.
#[test]
fn what_only_hashes_alike_is_not_found() {
    let disk = SimDisk::new();
    life(&disk, 2, Faults::default(), async |env: SimEnv| {
        let shard = open(&env, small_parts()).await.unwrap();
        fill(&env, &shard, 0..100).await;
        let found = Rc::clone(&shard).query_key(query(0, 0, i64::MAX, 10), |_| false).await.unwrap();
        assert_eq!(found.records, []);
        assert_eq!(numbers(&shard, 1, query(2, 0, i64::MAX, 10)).await, [0; 0]);
    })
    .unwrap();
}

#[test]
fn a_killed_store_finds_everything_again() {
    for (seed, is_cut) in [(3, false), (4, true), (5, false)] {
        let disk = SimDisk::new();
        life(&disk, seed, Faults::default(), async |env: SimEnv| {
            let shard = open(&env, small_parts()).await.unwrap();
            fill(&env, &shard, 0..MESSAGES).await;
            // Until the disk has it all, also for a power cut.
            env.sleep_us(50_000).await;
        })
        .unwrap();
        if is_cut {
            disk.power_cut(seed);
        }
        assert!(key_files(&disk).len() > 3);
        life(&disk, seed + 10, Faults::default(), async |env: SimEnv| {
            let shard = open(&env, small_parts()).await.unwrap();
            fill(&env, &shard, MESSAGES..MESSAGES + 100).await;
            all_known(&env, &shard).await;
            assert_all_found(&shard, 0, MESSAGES + 100).await;
        })
        .unwrap();
    }
}

#[test]
fn a_damaged_or_missing_key_file_is_made_again() {
    for harm in [Some(0), Some(40), Some(4096 + 9), Some(2 * 4096 + 100), None] {
        let disk = SimDisk::new();
        life(&disk, 6, Faults::default(), async |env: SimEnv| {
            let shard = open(&env, small_parts()).await.unwrap();
            fill(&env, &shard, 0..MESSAGES).await;
            shard.shutdown().await.unwrap();
        })
        .unwrap();
        let files = key_files(&disk);
        assert!(files.len() > 3, "{files:?}");
        for file in &files[..3] {
            match harm {
                Some(at) => disk.damage(file, at, 2),
                None => disk.unlink(file),
            }
        }
        life(&disk, 7, Faults::default(), async |env: SimEnv| {
            let shard = open(&env, small_parts()).await.unwrap();
            // Damage within is noticed by the one who looks there.
            for n in (0..MESSAGES).step_by(7) {
                ask(&shard, n, query(n, 0, i64::MAX, 1000)).await;
            }
            all_known(&env, &shard).await;
            assert_all_found(&shard, 0, MESSAGES).await;
            env.sleep_us(100_000).await;
        })
        .unwrap();
        // What is made again may be divided differently.
        assert!(key_files(&disk).len() > 3 && disk.bytes(&files[0]).is_some(), "they are there again");
    }
}

/// A store of before there were key files, or one that ran without an index.
#[test]
fn an_index_that_is_turned_on_later_covers_all() {
    let disk = SimDisk::new();
    life(&disk, 8, Faults::default(), async |env: SimEnv| {
        let shard = open(&env, StoreOptions { key_memory_bytes: 0, ..options(ASYNC) }).await.unwrap();
        fill(&env, &shard, 0..MESSAGES).await;
        assert_eq!(ask(&shard, 1, query(1, 0, i64::MAX, 1)).await, KeyRecords::default());
        shard.shutdown().await.unwrap();
    })
    .unwrap();
    assert!(key_files(&disk).is_empty());
    life(&disk, 9, Faults::default(), async |env: SimEnv| {
        let shard = open(&env, small_parts()).await.unwrap();
        let first = ask(&shard, 1, query(1, 0, i64::MAX, 1)).await;
        assert!(first.unknown_bytes > 2 * SEGMENT_BYTES, "{}", first.unknown_bytes);
        all_known(&env, &shard).await;
        assert_all_found(&shard, 0, MESSAGES).await;
    })
    .unwrap();
}

#[test]
fn key_files_go_with_their_segment() {
    let disk = SimDisk::new();
    life(&disk, 10, Faults::default(), async |env: SimEnv| {
        let shard = open(&env, small_parts()).await.unwrap();
        fill(&env, &shard, 0..MESSAGES).await;
        all_known(&env, &shard).await;
        let policy = RetentionPolicy { age_ms: Some(-1_000_000), segments_max: 100, ..Default::default() };
        env.sleep_us(100_000).await;
        assert!(shard.delete_expired(&policy, env.wall_ms()).await.unwrap() > 2);
        let queue = shard.find_queue("topic", 0).unwrap();
        let min = shard.min_offset(queue).0 as u32;
        assert!(min > 0);
        assert_all_found(&shard, min, MESSAGES).await;
        shard.shutdown().await.unwrap();
    })
    .unwrap();
    for file in key_files(&disk) {
        let name = file.file_name().unwrap().to_str().unwrap();
        let number: u64 = name[..20].parse().unwrap();
        assert!(disk.bytes(&segment(number, "log")).is_some(), "{name} without its segment");
    }
}

/// Each request that writes or syncs fails once. Keys are found all the same, at the latest by the next start.
#[test]
fn a_failed_request_costs_time_only() {
    for step in (0..500).step_by(3) {
        let disk = SimDisk::new();
        let faults = Faults { fail: Some((step, libc::EIO)), ..Faults::default() };
        life(&disk, 11 + step, faults, async move |env: SimEnv| {
            let Ok(shard) = open(&env, small_parts()).await else { return };
            let Ok(queue) = shard.declare_queue("topic", 0) else { return };
            for n in 0..150 {
                if send(&env, &shard, queue, &[body(n)]).await.is_err() {
                    return;
                }
            }
            let _ = shard.shutdown().await;
        });
        life(&disk, 12 + step, Faults::default(), async move |env: SimEnv| {
            let shard = open(&env, small_parts()).await.unwrap();
            let Some(queue) = shard.find_queue("topic", 0) else { return };
            all_known(&env, &shard).await;
            let count = shard.max_offset(queue).0 as u32;
            for n in (0..count).filter(|n| n % 3 != 0) {
                assert_eq!(numbers(&shard, n, query(n, 0, i64::MAX, 10)).await, [n], "step {step}");
            }
        })
        .unwrap();
    }
}
