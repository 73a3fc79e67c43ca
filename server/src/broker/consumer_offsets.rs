//! The consumer offsets of the queues one shard owns: how far each group has consumed.

use rustc_hash::FxHashMap;

use crate::control::limits::QUEUES_PER_TOPIC_MAX;
use crate::control::link::{ConsumerOffsetRow, Count, GroupOffset, TrafficRow};
use crate::limits;

/// Nothing committed, pulled or to be reset. Not -1: a client may commit that, and Java then shows it.
const NONE: i64 = i64::MIN;

/// One group on one queue.
#[derive(Clone, Copy)]
struct Progress {
    committed: i64,
    /// Where the last pull ended, for monitoring.
    pulled: i64,
    /// Where the next pull shall be sent; commits are ignored until then.
    reset: i64,
    /// Messages handed out since the start.
    delivered: u64,
    delivered_bytes: u64,
    /// Answered pulls since the start; wraps, for it is only averaged.
    pulls: u32,
    /// The last pull brought its own subscription instead of relying on a heartbeat's.
    subscribes: bool,
}

const UNKNOWN: Progress = Progress {
    committed: NONE,
    pulled: NONE,
    reset: NONE,
    delivered: 0,
    delivered_bytes: 0,
    pulls: 0,
    subscribes: false,
};

/// How an answered pull ended.
pub struct Pulled {
    pub next: i64,
    pub messages: u64,
    pub bytes: u64,
    pub subscribes: bool,
}

#[derive(Default)]
pub struct ConsumerOffsets {
    /// group -> topic -> by queue id.
    groups: FxHashMap<String, FxHashMap<String, Vec<Progress>>>,
    rows: usize,
    dirty: bool,
}

/// What a commit came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Commit {
    Done,
    /// A reset is pending; the value was dropped.
    ResetPending,
    /// The table holds `limits::CONSUMER_OFFSETS_MAX` rows.
    TableFull,
}

impl ConsumerOffsets {
    /// Where the group goes on; an offset below zero is none.
    pub fn committed(&self, group: &str, topic: &str, queue: i32) -> Option<i64> {
        let committed = self.progress(group, topic, queue)?.committed;
        (committed >= 0).then_some(committed)
    }

    pub fn commit(&mut self, group: &str, topic: &str, queue: i32, offset: i64) -> Commit {
        let Some(progress) = self.progress_mut(group, topic, queue) else { return Commit::TableFull };
        if progress.reset != NONE {
            return Commit::ResetPending;
        }
        if progress.committed != offset {
            progress.committed = offset;
            self.dirty = true;
        }
        Commit::Done
    }

    /// Remembers where an answered pull ended.
    pub fn pulled(&mut self, group: &str, topic: &str, queue: i32, pulled: Pulled) {
        if let Some(progress) = self.progress_mut(group, topic, queue) {
            progress.pulled = pulled.next;
            progress.delivered += pulled.messages;
            progress.delivered_bytes += pulled.bytes;
            progress.pulls = progress.pulls.wrapping_add(u32::from(pulled.messages > 0));
            progress.subscribes = pulled.subscribes;
        }
    }

    /// Sends the group's next pull of the queue to `offset`, which is also committed.
    pub fn reset(&mut self, group: &str, topic: &str, queue: i32, offset: i64) {
        if let Some(progress) = self.progress_mut(group, topic, queue) {
            progress.reset = offset;
            progress.committed = offset;
            self.dirty = true;
        }
    }

    /// The pending reset of a queue, once.
    pub fn take_reset(&mut self, group: &str, topic: &str, queue: i32) -> Option<i64> {
        if self.progress(group, topic, queue)?.reset == NONE {
            return None;
        }
        let progress = self.progress_mut(group, topic, queue)?;
        Some(std::mem::replace(&mut progress.reset, NONE))
    }

    /// Copies what `from` has committed to `to`, for one topic or for all.
    pub fn clone_group(&mut self, from: &str, to: &str, topic: Option<&str>) {
        for row in self.rows_of(from) {
            if topic.is_none_or(|topic| topic == row.topic) {
                self.commit(to, &row.topic, row.queue, row.offset);
            }
        }
    }

    /// Forgets the offsets of a deleted topic for every group.
    pub fn forget_topic(&mut self, topic: &str) {
        for topics in self.groups.values_mut() {
            if let Some(queues) = topics.remove(topic) {
                self.rows -= queues.len();
                self.dirty = true;
            }
        }
    }

    pub fn forget_group(&mut self, group: &str) {
        if let Some(topics) = self.groups.remove(group) {
            self.rows -= topics.values().map(Vec::len).sum::<usize>();
            self.dirty = true;
        }
    }

    /// Groups with something committed on the topic.
    pub fn groups_of(&self, topic: &str) -> Vec<String> {
        let consumes = |queues: &Vec<Progress>| queues.iter().any(|progress| progress.committed != NONE);
        let groups = self.groups.iter().filter(|(_, topics)| topics.get(topic).is_some_and(consumes));
        groups.map(|(group, _)| group.clone()).collect()
    }

    pub fn group_names(&self) -> Vec<String> {
        self.groups.keys().cloned().collect()
    }

    /// Every committed offset.
    pub fn rows(&self) -> Vec<ConsumerOffsetRow> {
        self.groups.keys().flat_map(|group| self.rows_of(group)).collect()
    }

    /// The committed offsets of one group.
    pub fn rows_of(&self, group: &str) -> Vec<ConsumerOffsetRow> {
        self.offsets_of(group).into_iter().filter_map(GroupOffset::into_row).collect()
    }

    /// What one group has done on each queue it ever touched here.
    pub fn offsets_of(&self, group: &str) -> Vec<GroupOffset> {
        let mut rows = Vec::new();
        for (topic, queues) in self.groups.get(group).into_iter().flatten() {
            for (queue, progress) in queues.iter().enumerate() {
                if progress.committed == NONE && progress.pulled == NONE {
                    continue;
                }
                rows.push(GroupOffset {
                    group: group.to_owned(),
                    topic: topic.clone(),
                    queue: queue as i32,
                    committed: (progress.committed != NONE).then_some(progress.committed),
                    pulled: (progress.pulled != NONE).then_some(progress.pulled),
                    delivered: progress.delivered,
                    subscribes: progress.subscribes,
                });
            }
        }
        rows
    }

    /// What one group got of each topic since the start.
    pub fn traffic_of(&self, group: &str) -> Vec<TrafficRow> {
        let topics = self.groups.get(group).into_iter().flatten();
        let rows = topics.map(|(topic, queues)| TrafficRow {
            topic: topic.clone(),
            group: Some(group.to_owned()),
            count: Count {
                messages: queues.iter().map(|queue| queue.delivered).sum(),
                bytes: queues.iter().map(|queue| queue.delivered_bytes).sum(),
                calls: queues.iter().map(|queue| u64::from(queue.pulls)).sum(),
            },
        });
        rows.filter(|row| row.count.messages > 0).collect()
    }

    /// True once after each change: the table should be persisted.
    pub fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    fn progress(&self, group: &str, topic: &str, queue: i32) -> Option<Progress> {
        self.groups.get(group)?.get(topic)?.get(usize::try_from(queue).ok()?).copied()
    }

    /// The row, made when it is missing; `None` when the table is full or the queue id is negative.
    fn progress_mut(&mut self, group: &str, topic: &str, queue: i32) -> Option<&mut Progress> {
        let queue = usize::try_from(queue).ok().filter(|&queue| queue < QUEUES_PER_TOPIC_MAX as usize)?;
        if self.progress(group, topic, queue as i32).is_none() {
            if self.rows + queue >= limits::CONSUMER_OFFSETS_MAX {
                return None;
            }
            let queues =
                self.groups.entry(group.to_owned()).or_default().entry(topic.to_owned()).or_default();
            self.rows += queue + 1 - queues.len();
            queues.resize(queue + 1, UNKNOWN);
        }
        self.groups.get_mut(group)?.get_mut(topic)?.get_mut(queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_what_was_last_committed_also_when_smaller() {
        let mut offsets = ConsumerOffsets::default();
        assert_eq!(offsets.committed("g", "t", 0), None);
        offsets.commit("g", "t", 2, 7);
        assert_eq!(offsets.commit("g", "t", 2, 3), Commit::Done);
        assert_eq!(offsets.committed("g", "t", 2), Some(3));
        assert_eq!(offsets.committed("g", "t", 1), None, "a queue between has none");
        assert!(offsets.take_dirty());
        assert!(!offsets.take_dirty());
    }

    /// Clients that know no offset yet commit -1 with their pulls.
    #[test]
    fn an_offset_below_zero_is_kept_and_is_no_place_to_go_on() {
        let mut offsets = ConsumerOffsets::default();
        offsets.commit("g", "t", 0, 7);
        offsets.commit("g", "t", 0, -1);
        assert_eq!(offsets.committed("g", "t", 0), None);
        assert_eq!(offsets.rows()[0].offset, -1);
        let pulled = Pulled { next: 4, messages: 1, bytes: 9, subscribes: true };
        offsets.pulled("g", "only pulled", 0, pulled);
        assert_eq!(offsets.rows().len(), 1);
    }

    #[test]
    fn a_deleted_topic_takes_its_offsets_along() {
        let mut offsets = ConsumerOffsets::default();
        offsets.commit("g", "a", 0, 1);
        offsets.commit("g", "b", 0, 2);
        offsets.forget_topic("a");
        assert_eq!(offsets.committed("g", "a", 0), None);
        assert_eq!(offsets.rows().len(), 1);
        assert_eq!(offsets.rows, 1);
    }

    #[test]
    fn an_absurd_queue_id_is_refused_not_allocated() {
        let mut offsets = ConsumerOffsets::default();
        assert_eq!(offsets.commit("g", "t", i32::MAX, 1), Commit::TableFull);
    }

    #[test]
    fn a_reset_drops_commits_until_the_next_pull_has_seen_it() {
        let mut offsets = ConsumerOffsets::default();
        offsets.commit("g", "t", 0, 50);
        offsets.reset("g", "t", 0, 10);
        assert_eq!(offsets.commit("g", "t", 0, 60), Commit::ResetPending);
        assert_eq!(offsets.take_reset("g", "t", 0), Some(10));
        assert_eq!(offsets.take_reset("g", "t", 0), None);
        assert_eq!(offsets.committed("g", "t", 0), Some(10));
    }
}
