//! Making one large run of several small ones, so that their number stays small.
//!
//! Entries are taken from the runs while they are merged. They are taken in the order of their keys from all runs
//! together, so what was taken meanwhile is the beginning of the new run, and its count tells how much.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use super::run::{PIECE_ENTRIES, Run, RunWriter, Unread};
use super::{RETRY_US, Timeline, TimelineEntry};
use crate::env::Env;
use crate::error::Error;
use crate::limits::TIMELINE_MERGED_RUNS;
use crate::timeline::checkpoint::Listed;

/// Entries between two pauses.
const SLICE_ENTRIES: usize = 1_024;

struct Cursor<E: Env> {
    unread: Unread<E>,
    window: std::vec::IntoIter<TimelineEntry>,
}

impl<E: Env> Timeline<E> {
    pub(super) async fn merge_runs(self: Rc<Self>) {
        while !self.closing.get() {
            let Some(chosen) = self.choose() else {
                self.to_merge.notified().await;
                continue;
            };
            match self.merge(chosen).await {
                Ok(()) => {}
                // The reader meets the same damage, and begins again.
                Err(error @ Error::Corrupt { .. }) => {
                    tracing::warn!(%error, "runs of timer entries cannot be merged");
                    self.to_merge.notified().await;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot merge runs of timer entries; trying again");
                    self.env.sleep_us(RETRY_US).await;
                }
            }
        }
    }

    /// The oldest runs of a size of which there are too many.
    fn choose(&self) -> Option<Vec<Unread<E>>> {
        let state = self.state.borrow();
        let mut runs: Vec<&Run<E>> = state.runs.iter().filter(|run| !run.is_in_memory()).collect();
        let class = |run: &Run<E>| size_class(run.left(), self.set_max);
        runs.sort_unstable_by_key(|run| (class(run), run.number));
        let crowd =
            runs.chunk_by(|a, b| class(a) == class(b)).find(|runs| runs.len() >= TIMELINE_MERGED_RUNS)?;
        Some(crowd[..TIMELINE_MERGED_RUNS].iter().map(|run| run.unread()).collect())
    }

    async fn merge(&self, chosen: Vec<Unread<E>>) -> Result<(), Error> {
        let sources: Vec<Listed> = chosen
            .iter()
            .map(|unread| Listed { number: unread.number, entries: unread.entries, taken: unread.position })
            .collect();
        let number = self.state.borrow_mut().new_number();
        let merged = self.write_merged(number, chosen).await;
        let (file, entries) = match merged {
            Ok(merged) => merged,
            Err(error) => {
                self.state.borrow_mut().unnamed.push(number);
                return Err(error);
            }
        };
        let state = &mut *self.state.borrow_mut();
        let mut taken = 0;
        for source in &sources {
            let now = state.runs.iter().position(|run| run.number == source.number);
            match now {
                Some(index) => {
                    taken += state.runs[index].listed().taken - source.taken;
                    state.runs.swap_remove(index);
                    state.unnamed.push(source.number);
                }
                // Used up while it was merged; its file is listed for removal.
                None => taken += source.entries - source.taken,
            }
        }
        if number < state.forgotten_below || taken >= entries {
            state.unnamed.push(number);
        } else {
            state.runs.push(Run::in_file(&Listed { number, entries, taken }, Rc::new(file)));
        }
        self.changed.set(true);
        Ok(())
    }

    async fn write_merged(&self, number: u64, chosen: Vec<Unread<E>>) -> Result<(E::File, u64), Error> {
        let mut writer = RunWriter::create(&self.env, &self.dir, number).await?;
        let mut cursors = Vec::with_capacity(chosen.len());
        let mut fronts = BinaryHeap::with_capacity(chosen.len());
        for mut unread in chosen {
            let mut window = read(&mut unread, &self.dir).await?;
            if let Some(front) = window.next() {
                fronts.push(Reverse((front, cursors.len())));
            }
            cursors.push(Cursor { unread, window });
        }
        let mut piece = Vec::with_capacity(PIECE_ENTRIES);
        let mut entries = 0;
        while let Some(Reverse((entry, index))) = fronts.pop() {
            piece.push(entry);
            entries += 1;
            let cursor: &mut Cursor<E> = &mut cursors[index];
            let mut next = cursor.window.next();
            if next.is_none() {
                cursor.window = read(&mut cursor.unread, &self.dir).await?;
                next = cursor.window.next();
            }
            if let Some(next) = next {
                fronts.push(Reverse((next, index)));
            }
            if piece.len() == PIECE_ENTRIES {
                writer.push(&piece).await?;
                piece.clear();
            } else if piece.len() % SLICE_ENTRIES == 0 {
                self.env.yield_now().await;
            }
        }
        if !piece.is_empty() {
            writer.push(&piece).await?;
        }
        Ok((writer.finish(&self.env, &self.dir).await?, entries))
    }
}

async fn read<E: Env>(
    unread: &mut Unread<E>,
    dir: &std::path::Path,
) -> Result<std::vec::IntoIter<TimelineEntry>, Error> {
    let window = unread.read(dir).await?;
    unread.position += window.len() as u64;
    Ok(window.into_iter())
}

/// Runs of one class differ in size by less than the number that is merged.
fn size_class(entries: u64, set_max: usize) -> u32 {
    let sets = (entries / set_max as u64).max(1);
    sets.ilog(TIMELINE_MERGED_RUNS as u64)
}
