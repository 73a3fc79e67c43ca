//! Who may consume which queue in order: locks of clients on MessageQueues, in memory only.
//!
//! A lock is granted when it is free, the caller's own, or not refreshed for a minute. Clients refresh every
//! 20 s and trust a lock for 30 s, so after a restart of the broker no two clients hold one.

use std::collections::BTreeMap;

use rmq_protocol::body::MessageQueue;

use super::limits::{LOCKED_GROUPS_MAX, LOCKS_PER_GROUP_MAX};

pub const LOCK_LIFE_MS: i64 = 60_000;

struct Lock {
    client: String,
    refreshed_ms: i64,
}

impl Lock {
    fn is_expired(&self, now_ms: i64) -> bool {
        now_ms - self.refreshed_ms > LOCK_LIFE_MS
    }
}

#[derive(Default)]
pub struct OrderLocks {
    groups: BTreeMap<String, BTreeMap<MessageQueue, Lock>>,
}

impl OrderLocks {
    /// Returns the queues that the client holds now, out of those it asked for.
    pub fn lock(
        &mut self,
        group: &str,
        client: &str,
        queues: impl IntoIterator<Item = MessageQueue>,
        now_ms: i64,
    ) -> Vec<MessageQueue> {
        if !self.groups.contains_key(group) && self.groups.len() >= LOCKED_GROUPS_MAX {
            return Vec::new();
        }
        let locks = self.groups.entry(group.to_owned()).or_default();
        let mut held = Vec::new();
        for queue in queues {
            let free = match locks.get(&queue) {
                Some(lock) => lock.client == client || lock.is_expired(now_ms),
                None => locks.len() < LOCKS_PER_GROUP_MAX,
            };
            if free {
                held.push(queue.clone());
                locks.insert(queue, Lock { client: client.to_owned(), refreshed_ms: now_ms });
            }
        }
        if locks.is_empty() {
            self.groups.remove(group);
        }
        held
    }

    /// Somebody else's lock stays.
    pub fn unlock(&mut self, group: &str, client: &str, queues: impl IntoIterator<Item = MessageQueue>) {
        let Some(locks) = self.groups.get_mut(group) else { return };
        for queue in queues {
            if locks.get(&queue).is_some_and(|lock| lock.client == client) {
                locks.remove(&queue);
            }
        }
        if locks.is_empty() {
            self.groups.remove(group);
        }
    }

    pub fn is_held(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    /// Forgets expired locks; returns the groups that hold none any more.
    pub fn expire(&mut self, now_ms: i64) -> Vec<String> {
        let mut free = Vec::new();
        self.groups.retain(|group, locks| {
            locks.retain(|_, lock| !lock.is_expired(now_ms));
            if locks.is_empty() {
                free.push(group.clone());
            }
            !locks.is_empty()
        });
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(number: i32) -> MessageQueue {
        MessageQueue { topic: "T".to_owned(), broker_name: "b".to_owned(), queue_id: number }
    }

    #[test]
    fn a_queue_has_one_owner_until_the_lock_expires() {
        let mut locks = OrderLocks::default();
        assert_eq!(locks.lock("g", "c1", [queue(0), queue(1)], 0), [queue(0), queue(1)]);
        assert_eq!(locks.lock("g", "c2", [queue(1), queue(2)], 1), [queue(2)]);
        assert_eq!(locks.lock("other", "c2", [queue(1)], 1), [queue(1)], "groups do not share locks");
        assert_eq!(locks.lock("g", "c1", [queue(0)], 60_000), [queue(0)], "own locks are refreshed");
        assert_eq!(locks.lock("g", "c2", [queue(0), queue(1)], 60_000), []);
        assert_eq!(locks.lock("g", "c2", [queue(0), queue(1)], 60_001), [queue(1)]);
    }

    #[test]
    fn only_the_owner_unlocks() {
        let mut locks = OrderLocks::default();
        locks.lock("g", "c1", [queue(0)], 0);
        locks.unlock("g", "c2", [queue(0)]);
        assert!(locks.is_held("g"));
        locks.unlock("g", "c1", [queue(0), queue(7)]);
        assert!(!locks.is_held("g"));
        locks.unlock("unknown", "c1", [queue(0)]);
    }

    #[test]
    fn expiry_names_the_groups_that_became_free() {
        let mut locks = OrderLocks::default();
        locks.lock("a", "c", [queue(0)], 0);
        locks.lock("b", "c", [queue(0)], 10);
        assert_eq!(locks.expire(60_000), Vec::<String>::new());
        assert_eq!(locks.expire(60_001), ["a"]);
        assert!(!locks.is_held("a") && locks.is_held("b"));
        assert_eq!(locks.lock("empty", "c", [], 0), []);
        assert!(!locks.is_held("empty"), "an empty request leaves nothing behind");
    }
}
