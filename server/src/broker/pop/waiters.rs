//! Pops and notifications that wait for messages, at the shard that serves them.
//!
//! As with held pulls, a waiter keeps its request frame and is handled again when it is woken; it may then wait
//! once more, within the time its client gave. One message wakes one waiter of each key.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::answers::ReplyTo;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WaitKey {
    pub topic: String,
    pub group: String,
    /// -1: any.
    pub queue: i32,
    pub is_ordered: bool,
    /// A notification, not a pop.
    pub only_looks: bool,
}

pub struct Waiter {
    id: u64,
    deadline_ms: u64,
    /// By the wall clock, as its client counts.
    pub until_ms: i64,
    pub to: ReplyTo,
    pub frame: Box<[u8]>,
}

#[derive(Default)]
pub struct Waiters {
    by_key: RefCell<FxHashMap<Arc<WaitKey>, VecDeque<Waiter>>>,
    by_deadline: RefCell<BTreeMap<(u64, u64), Arc<WaitKey>>>,
    /// Keys that the shards with queues know of.
    watching: RefCell<FxHashSet<Arc<WaitKey>>>,
    next_id: Cell<u64>,
}

impl Waiters {
    pub fn len(&self) -> usize {
        self.by_deadline.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_deadline.borrow().is_empty()
    }

    /// How many wait with this key.
    pub fn held(&self, key: &WaitKey) -> usize {
        self.by_key.borrow().get(key).map_or(0, VecDeque::len)
    }

    pub fn hold(&self, key: &Arc<WaitKey>, to: ReplyTo, frame: &[u8], deadline_ms: u64, until_ms: i64) {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        self.by_deadline.borrow_mut().insert((deadline_ms, id), Arc::clone(key));
        let waiter = Waiter { id, deadline_ms, until_ms, to, frame: frame.into() };
        self.by_key.borrow_mut().entry(Arc::clone(key)).or_default().push_back(waiter);
    }

    /// The one that waits longest.
    pub fn take(&self, key: &WaitKey) -> Option<Waiter> {
        let mut by_key = self.by_key.borrow_mut();
        let waiting = by_key.get_mut(key)?;
        let waiter = waiting.pop_front();
        if waiting.is_empty() {
            by_key.remove(key);
        }
        if let Some(waiter) = &waiter {
            self.by_deadline.borrow_mut().remove(&(waiter.deadline_ms, waiter.id));
        }
        waiter
    }

    pub fn take_expired(&self, now_ms: u64) -> Vec<Waiter> {
        let mut expired = Vec::new();
        while let Some(entry) = self.by_deadline.borrow_mut().first_entry()
            && entry.key().0 <= now_ms
        {
            let ((_, id), key) = entry.remove_entry();
            let mut by_key = self.by_key.borrow_mut();
            let Some(waiting) = by_key.get_mut(&key) else { continue };
            expired
                .extend(waiting.iter().position(|waiter| waiter.id == id).and_then(|at| waiting.remove(at)));
            if waiting.is_empty() {
                by_key.remove(&key);
            }
        }
        expired
    }

    /// True: the shards with queues have to be asked to watch.
    pub fn begin_to_watch(&self, key: &Arc<WaitKey>) -> bool {
        self.watching.borrow_mut().insert(Arc::clone(key))
    }

    /// One of them has told.
    pub fn told(&self, key: &WaitKey) {
        self.watching.borrow_mut().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use rmq_protocol::header::Codec;

    use super::*;
    use crate::control::link::ConnectionId;

    fn to(opaque: i32) -> ReplyTo {
        let connection = ConnectionId { shard: 0, slot: 0, generation: 1 };
        ReplyTo { connection, opaque, codec: Codec::Json, oneway: false }
    }

    fn key(queue: i32) -> Arc<WaitKey> {
        let (topic, group) = ("T".to_owned(), "g".to_owned());
        Arc::new(WaitKey { topic, group, queue, is_ordered: false, only_looks: false })
    }

    #[test]
    fn waiters_are_woken_in_turn_or_by_their_deadline() {
        let waiters = Waiters::default();
        for (opaque, deadline_ms) in [(1, 30), (2, 10), (3, 20)] {
            waiters.hold(&key(-1), to(opaque), b"", deadline_ms, 0);
        }
        waiters.hold(&key(0), to(4), b"", 20, 0);
        assert_eq!((waiters.len(), waiters.held(&key(-1))), (4, 3));
        let woken = |waiter: Option<Waiter>| waiter.map(|waiter| waiter.to.opaque);
        assert_eq!(woken(waiters.take(&key(-1))), Some(1));
        assert!(waiters.take_expired(9).is_empty());
        let expired: Vec<i32> = waiters.take_expired(20).iter().map(|waiter| waiter.to.opaque).collect();
        assert_eq!(expired, [2, 3, 4]);
        assert!(waiters.is_empty() && waiters.take(&key(-1)).is_none());
    }

    #[test]
    fn a_key_is_watched_once_until_it_is_told() {
        let waiters = Waiters::default();
        assert!(waiters.begin_to_watch(&key(1)));
        assert!(!waiters.begin_to_watch(&key(1)));
        waiters.told(&key(1));
        assert!(waiters.begin_to_watch(&key(1)));
    }
}
