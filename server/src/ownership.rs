//! Which shard owns a MessageQueue. Every shard and the control thread compute the same answer.

use rmq_protocol::tag::java_hash;

use crate::control::names::{HALF_OP_TOPIC, HALF_TOPIC};

/// Default placement: `(hash(topic) + queue) mod shards`, so that the queues of one topic spread evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    shards: usize,
}

impl Ownership {
    pub fn new(shards: usize) -> Self {
        assert!(shards > 0, "a store has at least one shard");
        Self { shards }
    }

    pub fn shards(self) -> usize {
        self.shards
    }

    pub fn owner(self, topic: &str, queue: i32) -> usize {
        if self.shards == 1 {
            return 0;
        }
        let mut hash = java_hash(topic);
        // What ends a transaction is written where its half message lies.
        if topic.len() == HALF_OP_TOPIC.len() && topic == HALF_OP_TOPIC {
            hash = java_hash(HALF_TOPIC);
        }
        (hash.wrapping_add(queue) as u32 as usize) % self.shards
    }

    /// The queue in which a shard keeps the half messages for its own queues: the first that it owns.
    pub fn half_queue(self, shard: usize) -> i32 {
        let owned = (0..self.shards as i32).find(|&queue| self.owner(HALF_TOPIC, queue) == shard);
        owned.expect("of as many queues as there are shards, each shard owns one")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_queues_go_to_different_shards() {
        let ownership = Ownership::new(3);
        let owners: Vec<usize> = (0..6).map(|queue| ownership.owner("TopicTest", queue)).collect();
        assert_eq!(owners[0..3], owners[3..6]);
        let mut first = owners[0..3].to_vec();
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2]);
    }

    #[test]
    fn every_shard_has_a_half_queue_and_its_op_queue() {
        for shards in 1..9 {
            let ownership = Ownership::new(shards);
            for shard in 0..shards {
                let queue = ownership.half_queue(shard);
                assert!((0..shards as i32).contains(&queue));
                assert_eq!(ownership.owner(HALF_OP_TOPIC, queue), shard);
                assert_eq!(ownership.owner(HALF_TOPIC, queue), shard);
            }
        }
    }
}
