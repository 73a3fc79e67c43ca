use std::collections::BTreeMap;

use super::*;
use crate::env::sim::{Faults, Sim, SimDisk, SimEnv};
use crate::env::split_mix;

const SET: usize = 40;

fn dir() -> PathBuf {
    PathBuf::from("/data/timer/0")
}

async fn open(env: &SimEnv) -> (Rc<Timeline<SimEnv>>, TimelineStart) {
    Timeline::open(env.clone(), &dir(), SET).await.expect("a timeline")
}

fn run<F: Future<Output = ()> + 'static>(disk: &SimDisk, seed: u64, work: impl FnOnce(SimEnv) -> F) {
    let sim = Sim::new(seed, disk, Faults::default());
    sim.run(work(sim.env())).expect("nothing stops this machine");
}

fn entry(key: i64, offset: i64) -> TimelineEntry {
    TimelineEntry { key, offset }
}

/// The queue that a timeline indexes: keys by offset.
fn keys(seed: u64, count: i64) -> Vec<i64> {
    let mut random = seed;
    (0..count).map(|_| (split_mix(&mut random) % 500) as i64).collect()
}

async fn insert_all(timeline: &Timeline<SimEnv>, keys: &[i64], from: usize) {
    for (offset, &key) in keys.iter().enumerate().skip(from) {
        timeline.room().await;
        timeline.insert(std::iter::once(entry(key, offset as i64)), offset as i64 + 1);
    }
}

#[test]
fn entries_come_in_the_order_of_their_keys_from_memory_and_many_runs() {
    let disk = SimDisk::new();
    run(&disk, 1, |env| async move {
        let (timeline, start) = open(&env).await;
        assert_eq!((start, timeline.first_key()), (TimelineStart::New, None));
        let keys = keys(7, 3_000);
        insert_all(&timeline, &keys, 0).await;
        timeline.checkpoint(b"").await.unwrap();
        assert_eq!(timeline.len(), 3_000);
        let mut expected: Vec<_> = keys.iter().zip(0..).map(|(&key, offset)| entry(key, offset)).collect();
        expected.sort_unstable();
        assert!(timeline.first_key().is_some_and(|key| key <= expected[0].key));
        let early = timeline.take(99, usize::MAX).await.unwrap();
        assert_eq!(early, expected.iter().copied().filter(|entry| entry.key <= 99).collect::<Vec<_>>());
        assert!(timeline.take(99, usize::MAX).await.unwrap().is_empty());
        timeline.done(&early);
        let late = timeline.take(i64::MAX, usize::MAX).await.unwrap();
        assert_eq!([early, late].concat(), expected);
        assert!(timeline.is_empty());
        assert!(timeline.state.borrow().runs.is_empty(), "used runs are gone");
    });
}

#[test]
fn many_small_runs_become_few_while_entries_are_taken() {
    let disk = SimDisk::new();
    run(&disk, 2, |env| async move {
        let (timeline, _) = open(&env).await;
        let keys = keys(8, 4_000);
        let mut taken = Vec::new();
        for (piece, from) in keys.chunks(100).zip((0..).step_by(100)) {
            timeline.room().await;
            let late = piece.iter().zip(from..).map(|(&key, offset)| entry(1_000 + key, offset));
            timeline.insert(late, from + 100);
            taken.extend(timeline.take(i64::MAX, 60).await.unwrap());
            env.sleep_us(20_000).await;
        }
        assert!(timeline.state.borrow().runs.len() < 3 * crate::limits::TIMELINE_MERGED_RUNS);
        taken.extend(timeline.take(i64::MAX, usize::MAX).await.unwrap());
        taken.sort_unstable();
        let mut expected: Vec<_> = keys.iter().zip(0..).map(|(&key, at)| entry(1_000 + key, at)).collect();
        expected.sort_unstable();
        assert_eq!(taken, expected, "each entry once");
        timeline.done(&taken);
        timeline.close(b"").await.unwrap();
        assert!(env.list(&dir()).await.unwrap().iter().all(|name| name.starts_with("checkpoint")));
    });
}

#[test]
fn a_clean_stop_keeps_what_is_left_and_nothing_else() {
    let disk = SimDisk::new();
    let keys = keys(9, 1_000);
    let source = keys.clone();
    run(&disk, 3, |env| async move {
        let (timeline, _) = open(&env).await;
        insert_all(&timeline, &source, 0).await;
        let done = timeline.take(200, usize::MAX).await.unwrap();
        timeline.done(&done);
        let begun = timeline.take(i64::MAX, 10).await.unwrap();
        assert_eq!(begun.len(), 10);
        timeline.close(b"notes").await.unwrap();
    });
    run(&disk, 4, |env| async move {
        let (timeline, start) = open(&env).await;
        assert_eq!(start, TimelineStart::Resumed { next_offset: 1_000, notes: b"notes".to_vec() });
        let rest = timeline.take(i64::MAX, usize::MAX).await.unwrap();
        assert_eq!(rest.len(), keys.iter().filter(|&&key| key > 200).count(), "begun ones are there again");
        assert!(rest.iter().all(|entry| keys[entry.offset as usize] == entry.key && entry.key > 200));
    });
}

#[test]
fn damage_is_noticed_and_says_where_to_begin_again() {
    for file in ["checkpoint", "run"] {
        let disk = SimDisk::new();
        let keys = keys(10, 500);
        run(&disk, 5, |env| async move {
            let (timeline, _) = open(&env).await;
            insert_all(&timeline, &keys, 0).await;
            let done = timeline.take(100, usize::MAX).await.unwrap();
            timeline.done(&done);
            timeline.close(b"").await.unwrap();
        });
        for path in disk.paths().iter().filter(|path| path.to_string_lossy().contains(file)) {
            match file {
                "run" => disk.unlink(path),
                _ => disk.damage(path, 20, 3),
            }
        }
        run(&disk, 6, move |env| async move {
            let (timeline, start) = open(&env).await;
            let TimelineStart::Lost { from_key } = start else { panic!("{start:?}") };
            assert!(if file == "run" { (90..=100).contains(&from_key) } else { from_key == i64::MIN });
            assert!(timeline.is_empty());
            timeline.insert(std::iter::once(entry(5, 5)), 6);
            assert_eq!(timeline.take(10, 10).await.unwrap(), [entry(5, 5)]);
        });
    }
}

#[test]
fn a_damaged_block_is_an_error_and_a_reset_begins_again() {
    let disk = SimDisk::new();
    run(&disk, 7, |env| async move {
        let (timeline, _) = open(&env).await;
        insert_all(&timeline, &keys(11, 100), 0).await;
        timeline.close(b"").await.unwrap();
    });
    for path in disk.paths().iter().filter(|path| path.to_string_lossy().ends_with(".run")) {
        disk.damage(path, 100, 1);
    }
    run(&disk, 8, |env| async move {
        let (timeline, _) = open(&env).await;
        let error = timeline.take(i64::MAX, usize::MAX).await.unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        timeline.reset();
        assert!(timeline.is_empty() && timeline.next_offset() == 0);
        timeline.insert(std::iter::once(entry(1, 1)), 2);
        timeline.close(b"").await.unwrap();
        let names = env.list(&dir()).await.unwrap();
        assert!(names.iter().all(|name| name.starts_with("checkpoint")), "{names:?}");
    });
}

/// Whenever the machine stops, what was not done is found again: in the timeline, or behind its next offset.
#[test]
fn nothing_is_lost_wherever_the_machine_stops() {
    for seed in 0..40u64 {
        let keys = keys(seed, 600);
        let steps = {
            let sim = Sim::new(seed, &SimDisk::new(), Faults::default());
            sim.run(life(sim.env(), keys.clone(), Rc::default())).expect("it is not stopped");
            sim.steps()
        };
        let mut random = seed;
        for _ in 0..12 {
            let stop_at = Some(split_mix(&mut random) % steps);
            let disk = SimDisk::new();
            let done = Rc::new(RefCell::new(BTreeMap::new()));
            let sim = Sim::new(seed, &disk, Faults { stop_at, ..Faults::default() });
            let _ = sim.run(life(sim.env(), keys.clone(), Rc::clone(&done)));
            match seed % 2 {
                0 => disk.power_cut(seed),
                _ => disk.kill(seed),
            }
            let keys = keys.clone();
            let mut done = done.take();
            run(&disk, seed + 1, move |env| async move {
                let (timeline, start) = open(&env).await;
                let from = match start {
                    TimelineStart::Resumed { next_offset, .. } => next_offset as usize,
                    // Stopped before its first checkpoint was there.
                    TimelineStart::New | TimelineStart::Lost { from_key: i64::MIN } => 0,
                    TimelineStart::Lost { .. } => panic!("seed {seed}, step {stop_at:?}: damaged"),
                };
                insert_all(&timeline, &keys, from).await;
                for entry in timeline.take(i64::MAX, usize::MAX).await.unwrap() {
                    assert_eq!(keys[entry.offset as usize], entry.key);
                    done.insert(entry.offset, entry.key);
                }
                assert_eq!(done.len(), keys.len(), "seed {seed}, step {stop_at:?}");
            });
        }
    }
}

async fn life(env: SimEnv, keys: Vec<i64>, done: Rc<RefCell<BTreeMap<i64, i64>>>) {
    let (timeline, _) = open(&env).await;
    for (piece, from) in keys.chunks(30).zip((0..).step_by(30)) {
        timeline.room().await;
        timeline.insert(piece.iter().zip(from..).map(|(&key, at)| entry(key, at)), from + 30);
        let taken = timeline.take(250, 20).await.expect("readable");
        done.borrow_mut().extend(taken.iter().map(|entry| (entry.offset, entry.key)));
        timeline.done(&taken);
        if from % 90 == 0 {
            timeline.checkpoint(b"").await.expect("writable");
        }
    }
    timeline.close(b"").await.expect("writable");
}
