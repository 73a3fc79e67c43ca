//! The open checkpoints of one shard: by their place in the revive log, by the time they are due.
//!
//! Pure state. An acknowledgement sets a bit here and is noted as changed; the notes go to the log together
//! (`revive_log`). A crash before that loses the acknowledgement, and its message comes once more.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::checkpoint::Checkpoint;
use super::queue::PopQueue;

#[derive(Default)]
pub struct Checkpoints {
    /// By place in the revive log, so that the first is where a replay must begin.
    open: BTreeMap<i64, Checkpoint>,
    due: BTreeSet<(i64, i64)>,
    /// Places whose bits changed since they were last written.
    changed: BTreeMap<i64, u32>,
}

impl Checkpoints {
    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// A second one with the same start and pop time replaces the first: receipts cannot tell them apart.
    pub fn insert(&mut self, place: i64, checkpoint: Checkpoint) {
        let queue = &checkpoint.queue;
        let key = (checkpoint.start, checkpoint.pop_time);
        let replaced = queue.open.borrow_mut().insert(key, place);
        queue.in_flight.set(queue.in_flight.get() + open_count(&checkpoint));
        self.due.insert((checkpoint.due_ms, place));
        self.open.insert(place, checkpoint);
        if let Some(before) = replaced.filter(|&before| before != place) {
            self.close(before);
        }
    }

    pub fn get(&self, place: i64) -> Option<&Checkpoint> {
        self.open.get(&place)
    }

    /// False: there is no such message any more, which is no fault.
    pub fn ack(&mut self, queue: &PopQueue, start: i64, pop_time: i64, offset: i64) -> bool {
        let Some(place) = queue.open.borrow().get(&(start, pop_time)).copied() else { return false };
        let bit = self.open.get(&place).and_then(|checkpoint| checkpoint.bit(offset));
        bit.is_some_and(|bit| self.ack_bit(place, bit))
    }

    pub fn ack_bit(&mut self, place: i64, bit: u32) -> bool {
        let Some(checkpoint) = self.open.get_mut(&place) else { return false };
        if checkpoint.acked >> bit & 1 == 1 {
            return false;
        }
        checkpoint.acked |= 1 << bit;
        checkpoint.queue.in_flight.set(checkpoint.queue.in_flight.get().saturating_sub(1));
        self.changed.insert(place, checkpoint.acked);
        if checkpoint.is_done() {
            self.remove(place);
        }
        true
    }

    /// As if all of it were acknowledged.
    pub fn close(&mut self, place: i64) {
        if let Some(checkpoint) = self.remove(place) {
            self.changed.insert(place, u32::MAX);
            let queue = &checkpoint.queue;
            queue.in_flight.set(queue.in_flight.get().saturating_sub(open_count(&checkpoint)));
        }
    }

    pub fn close_all_of(&mut self, queue: &PopQueue) {
        let places: Vec<i64> = queue.open.borrow().values().copied().collect();
        for place in places {
            self.close(place);
        }
    }

    fn remove(&mut self, place: i64) -> Option<Checkpoint> {
        let checkpoint = self.open.remove(&place)?;
        self.due.remove(&(checkpoint.due_ms, place));
        let mut open = checkpoint.queue.open.borrow_mut();
        let key = (checkpoint.start, checkpoint.pop_time);
        if open.get(&key) == Some(&place) {
            open.remove(&key);
        }
        drop(open);
        Some(checkpoint)
    }

    /// The next checkpoint whose time is up. It stays open, and is due no more until `postpone`.
    pub fn take_due(&mut self, now_ms: i64) -> Option<i64> {
        let &(due_ms, place) = self.due.first()?;
        if due_ms > now_ms {
            return None;
        }
        self.due.pop_first();
        Some(place)
    }

    pub fn postpone(&mut self, place: i64, due_ms: i64) {
        if let Some(checkpoint) = self.open.get_mut(&place) {
            checkpoint.due_ms = due_ms;
            checkpoint.attempts = checkpoint.attempts.saturating_add(1);
            self.due.insert((due_ms, place));
        }
    }

    /// The oldest that is not being revived, to be written again at the log's end.
    pub fn oldest(&self) -> Option<(i64, Checkpoint)> {
        let (&place, checkpoint) = self.open.first_key_value()?;
        let is_waiting = self.due.contains(&(checkpoint.due_ms, place));
        is_waiting.then(|| (place, checkpoint.clone()))
    }

    /// The same checkpoint stands at another place of the log now.
    pub fn moved(&mut self, from: i64, to: i64) {
        self.changed.remove(&from);
        if let Some(checkpoint) = self.remove(from) {
            let key = (checkpoint.start, checkpoint.pop_time);
            checkpoint.queue.open.borrow_mut().insert(key, to);
            self.due.insert((checkpoint.due_ms, to));
            self.open.insert(to, checkpoint);
        }
    }

    /// Where the oldest open checkpoint stands.
    pub fn first_place(&self) -> Option<i64> {
        self.open.first_key_value().map(|(&place, _)| place)
    }

    pub fn changed_len(&self) -> usize {
        self.changed.len()
    }

    pub fn take_changed(&mut self) -> BTreeMap<i64, u32> {
        std::mem::take(&mut self.changed)
    }

    /// What was taken could not be written; what changed meanwhile is newer.
    pub fn not_written(&mut self, taken: BTreeMap<i64, u32>) {
        for (place, acked) in taken {
            self.changed.entry(place).or_insert(acked);
        }
    }

    /// Applies an acknowledgement record of the log. Nothing has to be written of it again.
    pub fn replay_acks(&mut self, place: i64, acked: u32) {
        let Some(checkpoint) = self.open.get_mut(&place) else { return };
        let before = open_count(checkpoint);
        checkpoint.acked |= acked & (u32::MAX >> (32 - checkpoint.distances.len()));
        let queue = Rc::clone(&checkpoint.queue);
        queue.in_flight.set(queue.in_flight.get().saturating_sub(before - open_count(checkpoint)));
        if checkpoint.is_done() {
            self.remove(place);
        }
    }
}

fn open_count(checkpoint: &Checkpoint) -> u32 {
    checkpoint.distances.len() as u32 - checkpoint.acked.count_ones()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(queue: &Rc<PopQueue>, start: i64, pop_time: i64, count: i64) -> Checkpoint {
        Checkpoint::new(Rc::clone(queue), start, pop_time, 1_000, start..start + count)
    }

    #[test]
    fn a_checkpoint_ends_with_its_last_acknowledgement() {
        let (mut table, queue) = (Checkpoints::default(), PopQueue::new("g", "T", 0));
        table.insert(7, checkpoint(&queue, 10, 100, 2));
        assert!(table.ack(&queue, 10, 100, 11));
        assert!(!table.ack(&queue, 10, 100, 11), "twice is once");
        assert!(!table.ack(&queue, 10, 99, 10) && !table.ack(&queue, 10, 100, 12));
        assert_eq!((table.len(), queue.in_flight.get()), (1, 1));
        assert!(table.ack(&queue, 10, 100, 10));
        assert_eq!((table.len(), queue.in_flight.get(), table.first_place()), (0, 0, None));
        assert_eq!(table.take_changed(), BTreeMap::from([(7, 3)]));
        assert_eq!(table.take_due(i64::MAX), None);
        assert!(queue.open.borrow().is_empty());
    }

    #[test]
    fn what_is_due_comes_in_order_and_once() {
        let (mut table, queue) = (Checkpoints::default(), PopQueue::new("g", "T", 0));
        table.insert(1, checkpoint(&queue, 10, 300, 1));
        table.insert(2, checkpoint(&queue, 20, 100, 1));
        assert_eq!(table.take_due(1_099), None);
        assert_eq!(table.take_due(1_300), Some(2));
        assert_eq!(table.take_due(1_300), Some(1));
        assert_eq!(table.take_due(i64::MAX), None);
        assert!(table.oldest().is_none(), "it is being revived");
        table.postpone(1, 5_000);
        assert_eq!(table.get(1).map(|checkpoint| checkpoint.attempts), Some(1));
        assert_eq!(table.take_due(5_000), Some(1));
    }

    /// A client that changes the invisible time of a message twice within a millisecond.
    #[test]
    fn of_two_checkpoints_with_one_name_the_later_counts() {
        let (mut table, queue) = (Checkpoints::default(), PopQueue::new("g", "T", 0));
        table.insert(1, checkpoint(&queue, 10, 100, 1));
        table.insert(2, checkpoint(&queue, 10, 100, 1));
        assert_eq!((table.len(), queue.in_flight.get()), (1, 1));
        assert!(table.ack(&queue, 10, 100, 10));
        assert!(table.is_empty());
    }

    #[test]
    fn a_replay_ends_where_the_process_did() {
        let (mut table, queue) = (Checkpoints::default(), PopQueue::new("g", "T", 0));
        table.insert(1, checkpoint(&queue, 0, 100, 32));
        table.insert(2, checkpoint(&queue, 32, 101, 3));
        table.replay_acks(1, u32::MAX);
        table.replay_acks(2, 0b010);
        table.replay_acks(9, 1);
        assert_eq!((table.len(), queue.in_flight.get(), table.changed_len()), (1, 2, 0));
        table.moved(2, 40);
        assert_eq!(table.first_place(), Some(40));
        assert!(table.ack(&queue, 32, 101, 32) && table.ack(&queue, 32, 101, 34));
        assert!(table.is_empty());
        table.insert(41, checkpoint(&queue, 50, 102, 2));
        table.close_all_of(&queue);
        assert_eq!((table.len(), queue.in_flight.get()), (0, 0));
    }
}
