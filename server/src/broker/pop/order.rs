//! Ordered popping of one queue by one group: the batch that is being consumed blocks what follows.
//!
//! Nothing goes to a retry topic. The group's offset stays at the first message that is not acknowledged, and
//! a batch whose time is up is handed out again from there. In memory only: after a restart the same messages
//! are handed out at once, and acknowledgements of the batch from before count for nothing.

#[derive(Debug)]
pub struct OrderRecord {
    pop_time: i64,
    attempt: String,
    messages: Vec<Held>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    offset: i64,
    visible_ms: i64,
    /// Times handed out before.
    count: u32,
    is_acked: bool,
}

/// What an acknowledgement came to.
#[derive(Debug, PartialEq, Eq)]
pub enum OrderAck {
    /// The group goes on here.
    Next(i64),
    /// Of an earlier batch.
    Ignored,
    /// No message of the batch.
    Unknown,
}

impl OrderRecord {
    /// The batch after `before`, if there was one. Returns how often messages were handed out already.
    pub fn new(
        before: Option<&Self>,
        pop_time: i64,
        invisible_ms: i64,
        attempt: &str,
        offsets: &[i64],
    ) -> (Self, Vec<(i64, u32)>) {
        let is_same_attempt = before.is_some_and(|before| before.is_attempt(attempt));
        let count = |offset: i64| {
            let known = before.and_then(|before| before.messages.iter().find(|held| held.offset == offset));
            known.map_or(0, |held| if is_same_attempt { held.count } else { held.count + 1 })
        };
        let visible_ms = pop_time.saturating_add(invisible_ms);
        let messages: Vec<Held> = offsets
            .iter()
            .map(|&offset| Held { offset, visible_ms, count: count(offset), is_acked: false })
            .collect();
        let counts = messages.iter().filter(|held| held.count > 0).map(|held| (held.offset, held.count));
        let counts = counts.collect();
        (Self { pop_time, attempt: attempt.to_owned(), messages }, counts)
    }

    /// Whether a pop has to wait; the attempt that has the batch may ask for it again.
    pub fn blocks(&self, attempt: &str, now_ms: i64) -> bool {
        !self.is_attempt(attempt) && self.blocked_until(now_ms).is_some()
    }

    /// Until when something of the batch is not visible, if it is not all over.
    pub fn blocked_until(&self, now_ms: i64) -> Option<i64> {
        let open = self.messages.iter().filter(|held| !held.is_acked && held.visible_ms > now_ms);
        open.map(|held| held.visible_ms).max()
    }

    pub fn ack(&mut self, offset: i64, pop_time: i64) -> OrderAck {
        if pop_time != self.pop_time {
            return OrderAck::Ignored;
        }
        let Some(held) = self.messages.iter_mut().find(|held| held.offset == offset) else {
            return OrderAck::Unknown;
        };
        held.is_acked = true;
        let first_open = self.messages.iter().find(|held| !held.is_acked).map(|held| held.offset);
        OrderAck::Next(first_open.or_else(|| self.messages.last().map(|last| last.offset + 1)).unwrap_or(0))
    }

    pub fn hide_until(&mut self, offset: i64, pop_time: i64, visible_ms: i64) {
        if pop_time == self.pop_time
            && let Some(held) = self.messages.iter_mut().find(|held| held.offset == offset)
        {
            held.visible_ms = visible_ms;
        }
    }

    fn is_attempt(&self, attempt: &str) -> bool {
        !attempt.is_empty() && self.attempt == attempt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first() -> OrderRecord {
        OrderRecord::new(None, 1_000, 500, "a", &[3, 5, 6]).0
    }

    #[test]
    fn a_batch_blocks_until_it_is_acknowledged_or_its_time_is_up() {
        let mut record = first();
        assert!(record.blocks("b", 1_499) && record.blocks("", 1_499));
        assert!(!record.blocks("a", 1_499), "the same attempt may ask again");
        assert!(!record.blocks("b", 1_500));
        assert_eq!(record.ack(5, 1_000), OrderAck::Next(3));
        assert_eq!(record.ack(3, 1_000), OrderAck::Next(6));
        record.hide_until(6, 1_000, 9_000);
        assert_eq!(record.blocked_until(1_500), Some(9_000));
        assert_eq!(record.ack(6, 1_000), OrderAck::Next(7));
        assert!(!record.blocks("b", 1_001));
    }

    #[test]
    fn acknowledgements_of_other_batches_change_nothing() {
        let mut record = first();
        assert_eq!(record.ack(3, 999), OrderAck::Ignored);
        assert_eq!(record.ack(4, 1_000), OrderAck::Unknown);
        record.hide_until(3, 999, 9_000);
        assert_eq!(record.blocked_until(0), Some(1_500));
    }

    #[test]
    fn messages_that_come_again_are_counted_but_not_for_the_same_attempt() {
        let (again, counts) = OrderRecord::new(Some(&first()), 2_000, 500, "b", &[5, 6, 7]);
        assert_eq!(counts, [(5, 1), (6, 1)]);
        let (_, counts) = OrderRecord::new(Some(&again), 3_000, 500, "b", &[5, 6, 7]);
        assert_eq!(counts, [(5, 1), (6, 1)], "its answer was lost");
        let (_, counts) = OrderRecord::new(Some(&again), 3_000, 500, "", &[5, 7]);
        assert_eq!(counts, [(5, 2), (7, 1)]);
    }
}
