//! Which shard owns a MessageQueue. Every shard and the control thread compute the same answer.

use rmq_protocol::tag::java_hash;

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
        (java_hash(topic).wrapping_add(queue) as u32 as usize) % self.shards
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
}
