//! What consumers, tools and searches see, from memory and from disk.

mod common;

use std::rc::Rc;

use common::sim::{life, open, options, send};
use common::split;
use rmq_engine::env::sim::{Faults, SimDisk, SimEnv};
use rmq_engine::{
    Boundary, CachedRead, Env, FlushMode, PhysicalOffset, QueueNumber, QueueOffset, Read, ReadLimits,
    RetentionPolicy, Shard,
};

/// Body of message n: its number, repeated; the first byte is the filter code.
fn body(n: u32) -> Vec<u8> {
    let mut body = n.to_le_bytes().repeat(200);
    body[0] = (n % 4) as u8;
    body
}

struct Filled {
    shard: Rc<Shard<SimEnv>>,
    queue: QueueNumber,
    /// Physical offsets and store times of the messages.
    sent: Vec<(PhysicalOffset, i64)>,
}

/// A queue with `count` messages: several segments, most of them out of memory. Batches of three now and then.
async fn fill(env: &SimEnv, count: u32) -> Filled {
    let shard = open(env, options(FlushMode::Sync)).await.unwrap();
    let queue = shard.declare_queue("topic", 1).unwrap();
    let mut sent = Vec::new();
    let mut n = 0;
    while n < count {
        let batch = if n % 10 == 0 { 3.min(count - n) } else { 1 };
        let bodies: Vec<Vec<u8>> = (n..n + batch).map(body).collect();
        let appended = send(env, &shard, queue, &bodies).await.unwrap();
        for k in 0..batch {
            // Records of a batch are four bytes apart.
            let step = (common::HEAD + 800 + 4) as i64 * i64::from(k);
            let at = PhysicalOffset(appended.first_physical_offset.0 + step);
            sent.push((at, appended.store_timestamp_ms));
        }
        n += batch;
        env.sleep_us(3_000).await;
    }
    Filled { shard, queue, sent }
}

fn on_sim<F: Future<Output = ()> + 'static>(work: impl FnOnce(SimEnv) -> F) {
    life(&SimDisk::new(), 7, Faults::default(), work).expect("runs to its end");
}

#[test]
fn outcomes_are_told_apart() {
    on_sim(async |env: SimEnv| {
        let Filled { shard, queue, .. } = fill(&env, 300).await;
        let limits = ReadLimits::default();
        let mut out = Vec::new();
        let mut cached = |at| shard.read_cached(queue, QueueOffset(at), &limits, |_| true, &mut out);
        assert_eq!(cached(300), CachedRead::Done(Read::AtEnd));
        assert_eq!(cached(301), CachedRead::Done(Read::TooLarge { max: QueueOffset(300) }));
        assert_eq!(cached(-1), CachedRead::Done(Read::TooSmall { min: QueueOffset(0) }));
        assert_eq!(cached(0), CachedRead::Cold);
        assert!(matches!(cached(299), CachedRead::Done(Read::Found { messages: 1, .. })));
        let none = shard.read_cached(QueueNumber(99), QueueOffset(0), &limits, |_| true, &mut out);
        assert_eq!(none, CachedRead::Done(Read::NoSuchQueue));

        while shard.stats().segments > 3 {
            let policy = RetentionPolicy { age_ms: Some(-1_000_000), segments_max: 2, ..Default::default() };
            assert!(shard.delete_expired(&policy, env.wall_ms()).await.unwrap() > 0);
        }
        let min = shard.min_offset(queue);
        assert!(min > QueueOffset(0) && min < QueueOffset(300));
        let (read, _) = Rc::clone(&shard).read(queue, QueueOffset(0), limits, |_| true).await.unwrap();
        assert_eq!(read, Read::TooSmall { min });
        let (read, bytes) = Rc::clone(&shard).read(queue, min, limits, |_| true).await.unwrap();
        assert!(matches!(read, Read::Found { .. }));
        assert_eq!(split(&bytes)[0], (min.0, body(min.0 as u32)));
    });
}

#[test]
fn limits_and_filters_hold_in_memory_and_on_disk() {
    on_sim(async |env: SimEnv| {
        let Filled { shard, queue, .. } = fill(&env, 200).await;
        let limits = ReadLimits {
            messages_max: 6,
            bytes_max: 5_000,
            scan_max: 50,
            cold_messages_max: 4,
            cold_bytes_max: 2_500,
        };
        // On disk: 828 bytes each, three fit into the bytes of a cold read.
        let (read, bytes) = Rc::clone(&shard).read(queue, QueueOffset(5), limits, |_| true).await.unwrap();
        assert_eq!(read, Read::Found { messages: 3, next: QueueOffset(8) });
        assert_eq!(split(&bytes).len(), 3);
        // In memory six would be allowed and five fit.
        let mut out = Vec::new();
        let read = shard.read_cached(queue, QueueOffset(190), &limits, |_| true, &mut out);
        assert_eq!(read, CachedRead::Done(Read::Found { messages: 6, next: QueueOffset(196) }));
        // One matches in four; what is looked at is bounded.
        let (read, bytes) =
            Rc::clone(&shard).read(queue, QueueOffset(1), limits, |code| code == 2).await.unwrap();
        assert!(matches!(read, Read::Found { messages: 3, .. }), "{read:?}");
        assert_eq!(split(&bytes).iter().map(|(n, _)| n % 4).collect::<Vec<_>>(), [2, 2, 2]);
        let (read, bytes) = Rc::clone(&shard).read(queue, QueueOffset(1), limits, |_| false).await.unwrap();
        assert_eq!((read, bytes.len()), (Read::NoneMatched { next: QueueOffset(51) }, 0));
        // The same when the reader chooses by the record's bytes; those not chosen count for no bound but this one.
        let is_wanted = |record: &[u8]| split(record)[0].0 % 4 == 2;
        let (read, bytes) =
            Rc::clone(&shard).read_where(queue, QueueOffset(1), limits, is_wanted).await.unwrap();
        assert!(matches!(read, Read::Found { messages: 3, .. }), "{read:?}");
        assert_eq!(split(&bytes).iter().map(|(n, _)| *n).collect::<Vec<_>>(), [2, 6, 10]);
        let (read, bytes) =
            Rc::clone(&shard).read_where(queue, QueueOffset(1), limits, |_| false).await.unwrap();
        assert_eq!((read, bytes.len()), (Read::NoneMatched { next: QueueOffset(51) }, 0));
        out.clear();
        let read = shard.read_cached_where(queue, QueueOffset(190), &limits, is_wanted, &mut out);
        assert!(matches!(read, CachedRead::Done(Read::Found { messages: 3, .. })), "{read:?}");
        assert_eq!(split(&out).iter().map(|(n, _)| *n).collect::<Vec<_>>(), [190, 194, 198]);
        // One message comes even if it is too large for the bounds.
        let tiny = ReadLimits { bytes_max: 1, cold_bytes_max: 1, ..limits };
        let (read, _) = Rc::clone(&shard).read(queue, QueueOffset(0), tiny, |_| true).await.unwrap();
        assert_eq!(read, Read::Found { messages: 1, next: QueueOffset(1) });
    });
}

#[test]
fn every_record_is_found_by_its_physical_offset_and_nothing_else_is() {
    on_sim(async |env: SimEnv| {
        let Filled { shard, sent, .. } = fill(&env, 150).await;
        for (n, &(at, _)) in sent.iter().enumerate() {
            let record =
                Rc::clone(&shard).record_at(at).await.unwrap().unwrap_or_else(|| panic!("message {n}"));
            assert_eq!(split(&record), [(n as i64, body(n as u32))]);
            for wrong in [1, 4, 16, 828, -4, -24] {
                let at = PhysicalOffset(at.0 + wrong);
                if !sent.iter().any(|(known, _)| *known == at) {
                    assert_eq!(Rc::clone(&shard).record_at(at).await.unwrap(), None, "{n} {wrong}");
                }
            }
        }
        for wrong in [-1, 0, 4096, i64::MAX, 1 << 40] {
            assert_eq!(Rc::clone(&shard).record_at(PhysicalOffset(wrong)).await.unwrap(), None);
        }
    });
}

#[test]
fn messages_are_found_by_time() {
    on_sim(async |env: SimEnv| {
        let Filled { shard, queue, sent } = fill(&env, 200).await;
        let times: Vec<i64> = sent.iter().map(|(_, ms)| *ms).collect();
        let (first, last) = (times[0], times[199]);
        let probes =
            (first - 2..last + 3).step_by(17).chain(times.iter().step_by(9).copied()).chain([0, i64::MAX]);
        for ms in probes {
            let lower = times.iter().position(|&at| at >= ms).unwrap_or(200) as i64;
            let upper = times.iter().rposition(|&at| at <= ms).unwrap_or(0) as i64;
            let search = |boundary| Rc::clone(&shard).search_offset(queue, ms, boundary);
            assert_eq!(search(Boundary::Lower).await.unwrap(), QueueOffset(lower), "{ms}");
            assert_eq!(search(Boundary::Upper).await.unwrap(), QueueOffset(upper), "{ms}");
        }
        for (n, &ms) in times.iter().enumerate().step_by(7) {
            let found = Rc::clone(&shard).store_timestamp(queue, QueueOffset(n as i64)).await.unwrap();
            assert_eq!(found, Some(ms));
        }
        assert_eq!(Rc::clone(&shard).store_timestamp(queue, QueueOffset(200)).await.unwrap(), None);
    });
}

/// A consumer at the end hears of each message once, with its code, when it can be read.
#[test]
fn visible_messages_are_announced() {
    on_sim(async |env: SimEnv| {
        let shard = open(&env, options(FlushMode::Sync)).await.unwrap();
        let queue = shard.declare_queue("topic", 0).unwrap();
        let heard = Rc::new(std::cell::RefCell::new(Vec::new()));
        let (log, reader) = (Rc::clone(&heard), Rc::downgrade(&shard));
        shard.on_visible(Rc::new(move |number, max, code| {
            let shard = reader.upgrade().unwrap();
            assert!(shard.max_offset(number) >= max);
            log.borrow_mut().push((max.0, code));
        }));
        for n in 0..6 {
            send(&env, &shard, queue, &[body(2 * n), body(2 * n + 1)]).await.unwrap();
        }
        let expected: Vec<(i64, i64)> = (0..12).map(|n| (n + 1, n % 4)).collect();
        assert_eq!(*heard.borrow(), expected);
    });
}
