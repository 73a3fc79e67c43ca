//! One queue's index: runs of entries in memory, spans of entries in sealed segments' index files.
//!
//! Invariants: `min <= visible <= next`. Spans come before runs and both are ordered by queue offset;
//! entries below `visible` are acknowledged, the others only appended.
//! A run that has been written to an index file stays beside its span while its bytes are still cached.

use std::collections::VecDeque;

use crate::entry::{Entries, Entry};
use crate::offset::{LogPosition, QueueName, QueueNumber};

/// Entries of one queue in one segment, in memory.
pub(crate) struct Run {
    pub segment: u64,
    pub base_ms: i64,
    pub first: i64,
    pub entries: Entries,
}

/// Entries of one queue in one sealed segment, in its index file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub segment: u64,
    pub first: i64,
    pub count: u32,
    /// Number of the first entry among all of the file.
    pub entries_at: u32,
    /// What the entries' store times are relative to.
    pub base_ms: i64,
    pub first_ms: i64,
    pub last_ms: i64,
}

pub(crate) struct Queue {
    pub number: QueueNumber,
    pub name: QueueName,
    /// Where its declaration is, if this start wrote it.
    pub declared: LogPosition,
    pub spans: VecDeque<Span>,
    pub runs: VecDeque<Run>,
    /// Offset of the next append.
    pub next: i64,
    /// Offset behind the last acknowledged message.
    pub visible: i64,
}

/// Where an entry is.
pub(crate) enum Place<'a> {
    Memory {
        run: &'a Run,
        index: usize,
    },
    File(Span),
    /// Retention took it; this is the next offset that is there.
    Removed {
        next: i64,
    },
}

impl Run {
    pub fn end(&self) -> i64 {
        self.first + self.entries.len() as i64
    }
}

impl Span {
    pub fn end(&self) -> i64 {
        self.first + i64::from(self.count)
    }
}

impl Queue {
    pub fn new(number: QueueNumber, name: QueueName, next: i64) -> Self {
        let declared = LogPosition::default();
        Self { number, name, declared, spans: VecDeque::new(), runs: VecDeque::new(), next, visible: next }
    }

    pub fn min(&self) -> i64 {
        let span = self.spans.front().map(|span| span.first);
        let run = self.runs.front().map(|run| run.first);
        span.or(run).unwrap_or(self.next).min(self.visible)
    }

    /// Adds the entry of the next offset.
    pub fn push(&mut self, segment: u64, base_ms: i64, entry: Entry) {
        match self.runs.back_mut() {
            Some(run) if run.segment == segment => run.entries.push(entry),
            _ => self.open_run(segment, base_ms, entry),
        }
        self.next += 1;
    }

    #[cold]
    fn open_run(&mut self, segment: u64, base_ms: i64, entry: Entry) {
        let mut entries = Entries::default();
        entries.push(entry);
        self.runs.push_back(Run { segment, base_ms, first: self.next, entries });
    }

    /// Makes the oldest appended but unacknowledged records visible.
    pub fn publish(&mut self, count: u32) {
        self.visible += i64::from(count);
        debug_assert!(self.visible <= self.next, "more records acknowledged than appended");
    }

    /// The run that holds an offset. Live consumers ask for the newest one.
    pub fn run_of(&self, offset: i64) -> Option<(usize, &Run)> {
        let index = self.runs.iter().rposition(|run| run.first <= offset)?;
        let run = &self.runs[index];
        (offset < run.end()).then_some((index, run))
    }

    /// The run of one segment.
    pub fn run_in(&self, segment: u64) -> Option<&Run> {
        self.runs.iter().find(|run| run.segment == segment)
    }

    /// The offset of the next record as the queue stood where a segment began.
    pub fn next_at_start_of(&self, segment: u64) -> i64 {
        self.runs.iter().find(|run| run.segment >= segment).map_or(self.next, |run| run.first)
    }

    /// Of an entry that is still in memory.
    pub fn filter_code(&self, offset: i64) -> Option<i64> {
        let (_, run) = self.run_of(offset)?;
        run.entries.at((offset - run.first) as usize).map(Entry::filter_code)
    }

    pub fn find(&self, offset: i64) -> Place<'_> {
        if let Some((_, run)) = self.run_of(offset) {
            return Place::Memory { run, index: (offset - run.first) as usize };
        }
        let after = self.spans.partition_point(|span| span.first <= offset);
        if let Some(span) = after.checked_sub(1).and_then(|index| self.spans.get(index))
            && offset < span.end()
        {
            return Place::File(*span);
        }
        let span = self.spans.get(after).map(|span| span.first);
        let run = self.runs.iter().find(|run| run.first > offset).map(|run| run.first);
        let next = span.into_iter().chain(run).min().unwrap_or(self.next);
        Place::Removed { next: next.min(self.visible) }
    }

    /// Adds the span of a segment that was sealed. Spans of a queue that changed its shard may come from
    /// several logs, so the order is that of the offsets.
    pub fn add_span(&mut self, span: Span) {
        let at = self.spans.partition_point(|other| other.first < span.first);
        self.spans.insert(at, span);
    }

    pub fn drop_span(&mut self, segment: u64) {
        self.spans.retain(|span| span.segment != segment);
    }

    /// Forgets entries in memory of a segment that has an index file.
    pub fn drop_run(&mut self, segment: u64) {
        self.runs.retain(|run| run.segment != segment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Queue {
        Queue::new(QueueNumber(1), QueueName { topic: "t".into(), queue: 0 }, 0)
    }

    fn entry(n: u32) -> Entry {
        Entry::new(n, 1, 0, 0)
    }

    #[test]
    fn offsets_are_found_in_runs_spans_and_holes() {
        let mut queue = queue();
        for n in 0..30 {
            queue.push(u64::from(n / 10), 0, entry(n));
        }
        queue.publish(30);
        for (segment, first) in [(0, 0), (1, 10)] {
            queue.add_span(Span {
                segment,
                first,
                count: 10,
                entries_at: 0,
                base_ms: 0,
                first_ms: 0,
                last_ms: 0,
            });
            queue.drop_run(segment);
        }
        assert_eq!(queue.min(), 0);
        assert!(matches!(queue.find(9), Place::File(Span { segment: 0, .. })));
        assert!(matches!(queue.find(10), Place::File(Span { segment: 1, .. })));
        assert!(matches!(queue.find(25), Place::Memory { index: 5, .. }));
        queue.drop_span(1);
        assert!(matches!(queue.find(12), Place::Removed { next: 20 }));
        queue.drop_span(0);
        assert_eq!(queue.min(), 20);
        queue.drop_run(2);
        assert_eq!((queue.min(), queue.visible), (30, 30));
    }
}
