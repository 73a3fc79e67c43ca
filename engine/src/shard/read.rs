//! Reading what is in memory: the tail cache serves the consumers that keep up.

use super::Shard;
use crate::env::Env;
use crate::offset::{QueueNumber, QueueOffset};
use crate::options::ReadLimits;

/// What a read found. `next` is where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    Found {
        messages: u32,
        next: QueueOffset,
    },
    /// Entries were looked at, none passed the filter.
    NoneMatched {
        next: QueueOffset,
    },
    /// Exactly behind the newest message.
    AtEnd,
    TooSmall {
        min: QueueOffset,
    },
    TooLarge {
        max: QueueOffset,
    },
    /// Retention took the messages there, just now or between two segments.
    Removed {
        next: QueueOffset,
    },
    NoSuchQueue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CachedRead {
    Done(Read),
    /// The index or the bytes are on disk: call `read`.
    Cold,
}

impl<E: Env> Shard<E> {
    /// Reads from memory only, appending whole records to `out`. The first matching record is returned even
    /// if it alone exceeds `bytes_max`. `filter` must not call the shard.
    pub fn read_cached(
        &self,
        queue: QueueNumber,
        from: QueueOffset,
        limits: &ReadLimits,
        filter: impl FnMut(i64) -> bool,
        out: &mut Vec<u8>,
    ) -> CachedRead {
        self.scan_cached(queue, from, limits, filter, |_| true, out)
    }

    /// The same for a reader that chooses by what is in a record.
    pub fn read_cached_where(
        &self,
        queue: QueueNumber,
        from: QueueOffset,
        limits: &ReadLimits,
        accepts: impl FnMut(&[u8]) -> bool,
        out: &mut Vec<u8>,
    ) -> CachedRead {
        self.scan_cached(queue, from, limits, |_| true, accepts, out)
    }

    fn scan_cached(
        &self,
        queue: QueueNumber,
        from: QueueOffset,
        limits: &ReadLimits,
        mut filter: impl FnMut(i64) -> bool,
        mut accepts: impl FnMut(&[u8]) -> bool,
        out: &mut Vec<u8>,
    ) -> CachedRead {
        let queues = self.queues.borrow();
        let Some(queue) = queues.queue(queue) else { return CachedRead::Done(Read::NoSuchQueue) };
        if let Some(read) = outside(from.0, queue.min(), queue.visible) {
            return CachedRead::Done(read);
        }
        let log = self.log.borrow();
        let mut at = from.0;
        let last = queue.visible.min(from.0.saturating_add(i64::from(limits.scan_max.max(1))));
        let mut messages = 0;
        let mut bytes = 0u64;
        'runs: while at < last && messages < limits.messages_max {
            let Some((_, run)) = queue.run_of(at) else { break };
            let stop = last.min(run.end());
            while at < stop && messages < limits.messages_max {
                let entry = run.entries.at((at - run.first) as usize).expect("an offset of this run");
                if filter(entry.filter_code()) {
                    let more = bytes + u64::from(entry.len);
                    if messages > 0 && more > u64::from(limits.bytes_max) {
                        break 'runs;
                    }
                    let Some(record) = log.tail.slice(run.segment, entry.position, entry.len) else {
                        break 'runs;
                    };
                    if accepts(record) {
                        out.extend_from_slice(record);
                        bytes = more;
                        messages += 1;
                    }
                }
                at += 1;
            }
        }
        let next = QueueOffset(at);
        if messages > 0 {
            CachedRead::Done(Read::Found { messages, next })
        } else if at == last {
            CachedRead::Done(Read::NoneMatched { next })
        } else {
            CachedRead::Cold
        }
    }
}

/// The answer to an offset that no entry can be at.
pub(super) fn outside(from: i64, min: i64, visible: i64) -> Option<Read> {
    if from == visible {
        Some(Read::AtEnd)
    } else if from > visible {
        Some(Read::TooLarge { max: QueueOffset(visible) })
    } else if from < min {
        Some(Read::TooSmall { min: QueueOffset(min) })
    } else {
        None
    }
}
