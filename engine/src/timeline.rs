//! An index on disk of what is wanted when: entries of a key and an offset, taken in the order of their keys.
//!
//! The newest entries are in a sorted set in memory. A full set becomes a run: a file of sorted entries that never
//! changes. Runs are read from their front, a window at a time, and many small ones are merged into a large one,
//! so memory depends on the number of runs and not on the number of entries.
//!
//! What survives is the newest checkpoint: the runs, how far each was taken, and the entries of the set. Its owner
//! keeps the source of the entries (a queue) and inserts again what came behind `next_offset`. Whoever takes an
//! entry says when it is `done`; until then each checkpoint counts it as not taken.
//!
//! One task takes, one checkpoints. Not here: what a key means.

mod checkpoint;
mod merge;
mod run;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use self::checkpoint::{Checkpoint, Listed};
use self::run::{Run, Source};
use crate::env::{Class, Env};
use crate::error::Error;
use crate::limits::TIMELINE_MEMORY_RUNS_MAX;
use crate::notify::{Changes, Notify};

const RETRY_US: u64 = 200_000;

/// The order of the fields is the order in which entries are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimelineEntry {
    pub key: i64,
    pub offset: i64,
}

/// What opening found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimelineStart {
    New,
    /// Entries of offsets below `next_offset` are in it.
    Resumed {
        next_offset: i64,
        notes: Vec<u8>,
    },
    /// It was damaged and is empty now. Entries with keys below `from_key` had been taken.
    Lost {
        from_key: i64,
    },
}

pub struct Timeline<E: Env> {
    env: E,
    dir: PathBuf,
    /// Entries of a full set.
    set_max: usize,
    state: RefCell<State<E>>,
    changed: Cell<bool>,
    closing: Cell<bool>,
    /// For the task that writes runs, and the one that merges them.
    to_write: Notify,
    to_merge: Notify,
    written: Changes,
    tasks: Cell<usize>,
    ended: Changes,
}

struct State<E: Env> {
    /// The newest entries.
    set: BTreeSet<TimelineEntry>,
    /// Taken and not yet done.
    taken: BTreeSet<TimelineEntry>,
    runs: Vec<Run<E>>,
    /// Number of the next run's file.
    next_run: u64,
    sequence: u64,
    /// Everything below was inserted.
    next_offset: i64,
    /// Largest key that was taken.
    taken_to: i64,
    /// Files that no later checkpoint names.
    unnamed: Vec<u64>,
    /// Runs with smaller numbers were forgotten by a reset.
    forgotten_below: u64,
}

impl<E: Env> State<E> {
    fn new() -> Self {
        Self {
            set: BTreeSet::new(),
            taken: BTreeSet::new(),
            runs: Vec::new(),
            next_run: 0,
            sequence: 0,
            next_offset: 0,
            taken_to: i64::MIN,
            unnamed: Vec::new(),
            forgotten_below: 0,
        }
    }

    fn memory_runs(&self) -> usize {
        self.runs.iter().filter(|run| run.is_in_memory()).count()
    }

    fn new_number(&mut self) -> u64 {
        self.next_run += 1;
        self.next_run - 1
    }

    /// Where the smallest entry is. `Err`: a run has to be read first.
    fn smallest(&self) -> Result<Option<(TimelineEntry, Option<usize>)>, usize> {
        let mut smallest = self.set.first().map(|&entry| (entry, None));
        for (index, run) in self.runs.iter().enumerate() {
            let entry = run.front().ok_or(index)?;
            if smallest.is_none_or(|(least, _)| entry < least) {
                smallest = Some((entry, Some(index)));
            }
        }
        Ok(smallest)
    }

    fn take(&mut self, entry: TimelineEntry, from: Option<usize>) {
        match from {
            None => {
                self.set.remove(&entry);
            }
            Some(index) => {
                let run = &mut self.runs[index];
                run.advance();
                if run.is_used_up() {
                    let run = self.runs.swap_remove(index);
                    // A file that is being written is listed when it is there.
                    if !run.is_in_memory() {
                        self.unnamed.push(run.number);
                    }
                }
            }
        }
        self.taken.insert(entry);
        self.taken_to = self.taken_to.max(entry.key);
    }

    /// Entries with smaller keys are done.
    fn wanted_from(&self) -> i64 {
        self.taken.first().map_or(self.taken_to, |entry| entry.key.min(self.taken_to))
    }
}

impl<E: Env> Timeline<E> {
    /// Opens what is in a directory of its own, and starts the tasks that write it. `set_max` is how many entries
    /// lie in memory before they become a run, and how many a checkpoint writes at most, beside those taken.
    pub async fn open(env: E, dir: &Path, set_max: usize) -> Result<(Rc<Self>, TimelineStart), Error> {
        env.prepare_dir(dir).await.map_err(Error::io("open", dir))?;
        let found = checkpoint::read(&env, dir).await?;
        let names = env.list(dir).await.map_err(Error::io("list", dir))?;
        let files: Vec<u64> = names.iter().filter_map(|name| run::number_of(name)).collect();
        let mut state = State::new();
        state.next_run = files.iter().max().map_or(0, |newest| newest + 1);
        let start = match found {
            checkpoint::Found::Absent if files.is_empty() => TimelineStart::New,
            checkpoint::Found::Absent | checkpoint::Found::Damaged => {
                TimelineStart::Lost { from_key: i64::MIN }
            }
            checkpoint::Found::Newest(found) => {
                state.next_run = state.next_run.max(found.next_run);
                state.sequence = found.sequence + 1;
                match open_runs(&env, dir, &found.runs).await? {
                    Some(runs) => {
                        state.runs = runs;
                        state.set = found.entries.into_iter().collect();
                        state.next_offset = found.next_offset;
                        state.taken_to = found.taken_to;
                        TimelineStart::Resumed { next_offset: found.next_offset, notes: found.notes }
                    }
                    None => TimelineStart::Lost { from_key: found.wanted_from() },
                }
            }
        };
        for &number in files.iter().filter(|&&number| state.runs.iter().all(|run| run.number != number)) {
            let path = run::path(dir, number);
            env.remove(&path).await.map_err(Error::io("remove", &path))?;
        }
        let timeline = Rc::new(Self {
            env,
            dir: dir.to_owned(),
            set_max,
            state: RefCell::new(state),
            changed: Cell::new(false),
            closing: Cell::new(false),
            to_write: Notify::default(),
            to_merge: Notify::default(),
            written: Changes::default(),
            tasks: Cell::new(0),
            ended: Changes::default(),
        });
        timeline.spawn(Rc::clone(&timeline).write_runs());
        timeline.spawn(Rc::clone(&timeline).merge_runs());
        Ok((timeline, start))
    }

    fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        let timeline = Rc::clone(self);
        self.tasks.set(self.tasks.get() + 1);
        self.env.spawn(Class::Background, async move {
            task.await;
            timeline.tasks.set(timeline.tasks.get() - 1);
            timeline.ended.announce();
        });
    }

    /// So many entries wait for the disk that no more should be inserted now.
    pub fn is_full(&self) -> bool {
        self.state.borrow().memory_runs() >= TIMELINE_MEMORY_RUNS_MAX
    }

    /// Waits until it is not full.
    pub async fn room(&self) {
        self.written.wait_for(|| !self.is_full()).await;
    }

    /// Adds entries, in the order of their offsets; everything below `next_offset` is in it then.
    pub fn insert(&self, entries: impl Iterator<Item = TimelineEntry>, next_offset: i64) {
        let state = &mut *self.state.borrow_mut();
        state.set.extend(entries);
        state.next_offset = state.next_offset.max(next_offset);
        if state.set.len() >= self.set_max {
            let entries: Vec<TimelineEntry> = std::mem::take(&mut state.set).into_iter().collect();
            let number = state.new_number();
            state.runs.push(Run::in_memory(number, entries));
            self.to_write.notify();
        }
        self.changed.set(true);
    }

    /// The offset behind the last that was inserted.
    pub fn next_offset(&self) -> i64 {
        self.state.borrow().next_offset
    }

    /// Entries not taken.
    pub fn len(&self) -> u64 {
        let state = self.state.borrow();
        state.set.len() as u64 + state.runs.iter().map(Run::left).sum::<u64>()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// No entry has a smaller key than this. `None`: there is none.
    pub fn first_key(&self) -> Option<i64> {
        let state = self.state.borrow();
        match state.smallest() {
            Ok(smallest) => smallest.map(|(entry, _)| entry.key),
            Err(_) => Some(state.taken_to),
        }
    }

    /// Takes the entries with the smallest keys, as far as those are not above `key_max`.
    pub async fn take(&self, key_max: i64, entries_max: usize) -> Result<Vec<TimelineEntry>, Error> {
        let mut out = Vec::new();
        loop {
            let unread = {
                let state = &mut *self.state.borrow_mut();
                loop {
                    if out.len() >= entries_max {
                        return Ok(out);
                    }
                    match state.smallest() {
                        Ok(Some((entry, from))) if entry.key <= key_max => {
                            state.take(entry, from);
                            out.push(entry);
                            self.changed.set(true);
                        }
                        Ok(_) => return Ok(out),
                        Err(index) => break state.runs[index].unread(),
                    }
                }
            };
            let window = unread.read(&self.dir).await;
            // What was taken so far is in `taken`; an error must not hide it from the caller.
            match window {
                Err(_) if !out.is_empty() => return Ok(out),
                window => self.give_window(unread.number, unread.position, window?),
            }
        }
    }

    /// The run may have been merged into another meanwhile.
    fn give_window(&self, number: u64, position: u64, window: Vec<TimelineEntry>) {
        let mut state = self.state.borrow_mut();
        if let Some(run) = state.runs.iter_mut().find(|run| run.number == number) {
            run.give_window(position, window);
        }
    }

    /// These are over: no checkpoint has to keep them.
    pub fn done(&self, entries: &[TimelineEntry]) {
        let mut state = self.state.borrow_mut();
        for entry in entries {
            state.taken.remove(entry);
        }
        self.changed.set(true);
    }

    /// Makes durable what was inserted and done until now. Without a change there is nothing to do.
    pub async fn checkpoint(&self, notes: &[u8]) -> Result<(), Error> {
        if !self.changed.get() {
            return Ok(());
        }
        self.written.wait_for(|| self.state.borrow().memory_runs() == 0).await;
        self.changed.set(false);
        let (sequence, bytes, unnamed) = self.snapshot(notes);
        let written = checkpoint::write(&self.env, &self.dir, sequence, bytes).await;
        if let Err(error) = written {
            self.changed.set(true);
            self.state.borrow_mut().unnamed.extend(unnamed);
            return Err(error);
        }
        for number in unnamed {
            let path = run::path(&self.dir, number);
            // One that is still there is removed by the next start.
            if let Err(error) = self.env.remove(&path).await {
                tracing::warn!(%error, path = %path.display(), "a used run is not removed");
            }
        }
        Ok(())
    }

    fn snapshot(&self, notes: &[u8]) -> (u64, Vec<u8>, Vec<u64>) {
        let state = &mut *self.state.borrow_mut();
        let sequence = state.sequence;
        state.sequence += 1;
        let checkpoint = Checkpoint {
            sequence,
            next_offset: state.next_offset,
            taken_to: state.taken_to,
            next_run: state.next_run,
            runs: state.runs.iter().map(Run::listed).collect(),
            entries: state.taken.iter().chain(&state.set).copied().collect(),
            notes: notes.to_vec(),
        };
        (sequence, checkpoint.encode(), std::mem::take(&mut state.unnamed))
    }

    /// Forgets everything, since its files or its source are not what they were. Returns the key below which
    /// entries were done.
    pub fn reset(&self) -> i64 {
        let state = &mut *self.state.borrow_mut();
        let from_key = state.wanted_from();
        let runs = std::mem::take(&mut state.runs);
        state.unnamed.extend(runs.iter().filter(|run| !run.is_in_memory()).map(|run| run.number));
        state.set.clear();
        state.taken.clear();
        state.next_offset = 0;
        state.forgotten_below = state.next_run;
        self.changed.set(true);
        self.written.announce();
        from_key
    }

    /// Writes a last checkpoint and ends the tasks.
    pub async fn close(&self, notes: &[u8]) -> Result<(), Error> {
        let outcome = self.checkpoint(notes).await;
        self.closing.set(true);
        self.to_write.notify();
        self.to_merge.notify();
        self.ended.wait_for(|| self.tasks.get() == 0).await;
        outcome
    }

    async fn write_runs(self: Rc<Self>) {
        while !self.closing.get() {
            let next = self.state.borrow().runs.iter().find_map(Run::to_write);
            let Some((number, entries)) = next else {
                self.to_write.notified().await;
                continue;
            };
            match run::write(&self.env, &self.dir, number, &entries).await {
                Ok(file) => self.run_written(number, Rc::new(file)),
                Err(error) => {
                    tracing::warn!(%error, "cannot write a run of timer entries; trying again");
                    self.env.sleep_us(RETRY_US).await;
                }
            }
        }
    }

    fn run_written(&self, number: u64, file: Rc<E::File>) {
        {
            let state = &mut *self.state.borrow_mut();
            match state.runs.iter_mut().find(|run| run.number == number) {
                Some(run) => run.source = Source::File(file),
                // Used up or forgotten meanwhile.
                None => state.unnamed.push(number),
            }
            self.changed.set(true);
        }
        self.written.announce();
        self.to_merge.notify();
    }
}

/// `None`: one of them is not as the checkpoint says.
async fn open_runs<E: Env>(env: &E, dir: &Path, listed: &[Listed]) -> Result<Option<Vec<Run<E>>>, Error> {
    let mut runs = Vec::with_capacity(listed.len());
    for listed in listed {
        let Some(file) = run::open(env, dir, listed).await? else { return Ok(None) };
        runs.push(Run::in_file(listed, Rc::new(file)));
    }
    Ok(Some(runs))
}

#[cfg(test)]
mod tests;
