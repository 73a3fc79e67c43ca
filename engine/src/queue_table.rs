//! The queues of one shard, by number and by name.
//!
//! Numbers are dense enough for an array: each start gives them out consecutively, every shard its own
//! residue, so looking one up costs no hash on the way of a message.

use rustc_hash::FxHashMap;

use crate::offset::QueueNumber;
use crate::queue::Queue;

#[derive(Default)]
pub(crate) struct QueueTable {
    /// Place in `queues` by number; `NOWHERE` for numbers of other shards and of deleted queues.
    places: Vec<u32>,
    queues: Vec<Option<Queue>>,
    free: Vec<u32>,
    by_name: FxHashMap<Box<str>, Vec<(u32, QueueNumber)>>,
}

const NOWHERE: u32 = u32::MAX;

impl QueueTable {
    pub fn insert(&mut self, queue: Queue) {
        let number = queue.number;
        let ids = self.by_name.entry(queue.name.topic.as_str().into()).or_default();
        ids.push((queue.name.queue, number));
        ids.sort_unstable();
        let place = match self.free.pop() {
            Some(place) => {
                self.queues[place as usize] = Some(queue);
                place
            }
            None => {
                self.queues.push(Some(queue));
                self.queues.len() as u32 - 1
            }
        };
        let index = number.0 as usize;
        if self.places.len() <= index {
            self.places.resize(index + 1, NOWHERE);
        }
        self.places[index] = place;
    }

    pub fn remove(&mut self, number: QueueNumber) -> Option<Queue> {
        let place = std::mem::replace(self.places.get_mut(number.0 as usize)?, NOWHERE);
        let queue = self.queues.get_mut(place as usize)?.take()?;
        self.free.push(place);
        if let Some(ids) = self.by_name.get_mut(queue.name.topic.as_str()) {
            ids.retain(|(_, other)| *other != number);
            if ids.is_empty() {
                self.by_name.remove(queue.name.topic.as_str());
            }
        }
        Some(queue)
    }

    pub fn find(&self, topic: &str, id: u32) -> Option<QueueNumber> {
        let ids = self.by_name.get(topic)?;
        let at = ids.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(ids[at].1)
    }

    pub fn queue(&self, number: QueueNumber) -> Option<&Queue> {
        let place = *self.places.get(number.0 as usize)?;
        self.queues.get(place as usize)?.as_ref()
    }

    pub fn queue_mut(&mut self, number: QueueNumber) -> Option<&mut Queue> {
        let place = *self.places.get(number.0 as usize)?;
        self.queues.get_mut(place as usize)?.as_mut()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Queue> {
        self.queues.iter().flatten()
    }

    /// Numbers of all live queues, ascending: a list to walk with awaits in between.
    pub fn numbers(&self) -> Vec<QueueNumber> {
        let mut numbers: Vec<_> = self.iter().map(|queue| queue.number).collect();
        numbers.sort_unstable();
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offset::QueueName;

    #[test]
    fn a_deleted_queue_is_gone_and_its_place_reused() {
        let mut table = QueueTable::default();
        let name = |queue| QueueName { topic: "t".into(), queue };
        for n in 0..4 {
            table.insert(Queue::new(QueueNumber(10 + 2 * n), name(n), 0));
        }
        assert_eq!(table.find("t", 2), Some(QueueNumber(14)));
        assert!(table.remove(QueueNumber(14)).is_some());
        assert!(table.remove(QueueNumber(14)).is_none());
        assert_eq!(table.find("t", 2), None);
        table.insert(Queue::new(QueueNumber(99), name(2), 0));
        assert_eq!(table.queues.len(), 4);
        assert_eq!(table.queue(QueueNumber(99)).unwrap().name, name(2));
        assert!(table.queue(QueueNumber(14)).is_none());
        assert!(table.queue(QueueNumber(1_000_000)).is_none());
    }
}
