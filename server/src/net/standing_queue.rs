//! Whether a connection's requests wait too long before the shard reads them.
//!
//! When the processor is what is short, requests wait in the kernel's socket buffers, where no clock looks at
//! them. What can be seen is how much waits after a read, and when the reader has come through it. A burst
//! empties soon; a queue that stands for longer than a send may wait (`waitTimeMillsInSendQueue`) is more load
//! than the shard takes. Sends are refused then until the queue is empty, since a refusal costs a
//! fraction of a send. The idea is that of CoDel (RFC 8289): watch the wait, not the length.

/// A queue that the reader comes through in a shorter part of the limit is throughput, not overload.
const SHORT_PART: u64 = 4;
/// How many limits it may take to empty the queue by refusing. Where that does not empty it, refusing is no remedy,
/// and sends go through for as long, so that most of what the shard can take is taken under any load.
const REFUSING_LIMITS: u64 = 8;

pub struct StandingQueue {
    /// `None`: sends wait for as long as it takes.
    limit_ms: Option<u64>,
    /// Bytes read so far.
    received: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The last read left nothing behind.
    Empty,
    Standing {
        since_ms: u64,
        mark: Mark,
    },
    Refusing {
        waited_ms: u64,
        until_ms: u64,
    },
    /// Taking what comes, since refusing did not empty the queue.
    Taking {
        until_ms: u64,
    },
}

/// The end of what waited at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    position: u64,
    at_ms: u64,
}

impl StandingQueue {
    pub fn new(limit_ms: Option<u64>) -> Self {
        Self { limit_ms, received: 0, state: State::Empty }
    }

    /// A read took all there was, or the connection was not read for another reason than load.
    pub fn emptied(&mut self) {
        self.state = State::Empty;
    }

    /// A read of `bytes` left more behind; `unread` says how much.
    pub fn left(&mut self, bytes: usize, now_ms: u64, unread: impl FnOnce() -> usize) {
        let Some(limit_ms) = self.limit_ms else { return };
        self.received += bytes as u64;
        self.state = match self.state {
            State::Empty => State::Standing { since_ms: now_ms, mark: self.mark(unread(), now_ms) },
            State::Standing { since_ms, mark } => {
                let stood_ms = now_ms.saturating_sub(since_ms);
                let read_past = self.received >= mark.position;
                if read_past && now_ms.saturating_sub(mark.at_ms) < limit_ms / SHORT_PART {
                    State::Standing { since_ms: now_ms, mark: self.mark(unread(), now_ms) }
                } else if stood_ms > limit_ms {
                    State::Refusing { waited_ms: stood_ms, until_ms: now_ms + REFUSING_LIMITS * limit_ms }
                } else if read_past {
                    State::Standing { since_ms, mark: self.mark(unread(), now_ms) }
                } else {
                    return;
                }
            }
            State::Refusing { until_ms, .. } | State::Taking { until_ms } if now_ms < until_ms => return,
            State::Refusing { .. } => State::Taking { until_ms: now_ms + REFUSING_LIMITS * limit_ms },
            State::Taking { .. } => State::Empty,
        };
    }

    /// How long sends have waited, when it is too long.
    pub fn overdue_ms(&self) -> Option<u64> {
        match self.state {
            State::Refusing { waited_ms, .. } => Some(waited_ms),
            State::Empty | State::Standing { .. } | State::Taking { .. } => None,
        }
    }

    fn mark(&self, unread: usize, at_ms: u64) -> Mark {
        Mark { position: self.received + unread as u64, at_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: usize = 128 << 10;

    /// Reads at `bytes_per_ms` from a queue that always holds `unread`; when the first refusal came.
    fn first_refusal_ms(unread: usize, bytes_per_ms: usize) -> Option<u64> {
        let mut queue = StandingQueue::new(Some(30));
        (0..1_000).map(|read| (read * READ / bytes_per_ms) as u64).find(|&now_ms| {
            queue.left(READ, now_ms, || unread);
            queue.overdue_ms().is_some()
        })
    }

    #[test]
    fn a_queue_that_stands_is_refused_after_the_limit() {
        let at_ms = first_refusal_ms(2 << 20, 100 << 10).unwrap();
        assert!((31..=33).contains(&at_ms), "{at_ms}");
    }

    #[test]
    fn a_queue_that_is_passed_quickly_is_throughput() {
        assert_eq!(first_refusal_ms(1 << 20, 500 << 10), None);
    }

    #[test]
    fn a_burst_is_taken() {
        let mut queue = StandingQueue::new(Some(30));
        for now_ms in 0..30 {
            queue.left(READ, now_ms, || 4 << 20);
            assert_eq!(queue.overdue_ms(), None);
        }
        queue.emptied();
        queue.left(READ, 40, || 4 << 20);
        assert_eq!(queue.overdue_ms(), None);
    }

    #[test]
    fn refusing_ends_when_the_queue_is_empty_and_gives_up_when_that_does_not_come() {
        let refusing = || {
            let mut queue = StandingQueue::new(Some(30));
            for now_ms in 0..=31 {
                queue.left(READ, now_ms, || 8 << 20);
            }
            assert_eq!(queue.overdue_ms(), Some(31));
            queue
        };
        let mut emptied = refusing();
        emptied.emptied();
        assert_eq!(emptied.overdue_ms(), None);

        let mut flooded = refusing();
        let refused = (32..1_000).filter(|&now_ms| {
            flooded.left(READ, now_ms, || 8 << 20);
            flooded.overdue_ms().is_some()
        });
        let refused: Vec<u64> = refused.collect();
        assert!(refused.contains(&32) && refused.contains(&270));
        assert!(!refused.contains(&271) && !refused.contains(&510));
        assert!((400..600).contains(&refused.len()), "{}", refused.len());
    }

    #[test]
    fn without_a_limit_nothing_is_refused() {
        let mut queue = StandingQueue::new(None);
        for now_ms in 0..10_000 {
            queue.left(READ, now_ms, || 8 << 20);
        }
        assert_eq!(queue.overdue_ms(), None);
    }
}
