//! Blocks read from sealed files, within a budget of bytes.
//!
//! A block that was used since the last sweep gets a second chance; scanning readers pass through without
//! driving out what is asked for again and again.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use rustc_hash::FxHashMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Log,
    Index,
    /// Of the stretch that begins there.
    Keys {
        from: u32,
    },
}

/// A file's block, in units that the reader of its kind chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BlockKey {
    pub kind: Kind,
    pub segment: u64,
    pub block: u64,
}

pub(crate) struct BlockCache {
    slots: FxHashMap<BlockKey, Slot>,
    sweep: VecDeque<BlockKey>,
    budget: usize,
    held: usize,
}

struct Slot {
    bytes: Rc<Vec<u8>>,
    used: Cell<bool>,
}

impl BlockCache {
    pub fn new(budget: usize) -> Self {
        Self { slots: FxHashMap::default(), sweep: VecDeque::new(), budget, held: 0 }
    }

    pub fn held_bytes(&self) -> usize {
        self.held
    }

    pub fn find(&self, key: BlockKey) -> Option<Rc<Vec<u8>>> {
        let slot = self.slots.get(&key)?;
        slot.used.set(true);
        Some(Rc::clone(&slot.bytes))
    }

    pub fn contains(&self, key: BlockKey) -> bool {
        self.slots.contains_key(&key)
    }

    pub fn insert(&mut self, key: BlockKey, bytes: Rc<Vec<u8>>) {
        self.held += bytes.len();
        match self.slots.insert(key, Slot { bytes, used: Cell::new(false) }) {
            Some(old) => self.held -= old.bytes.len(),
            None => self.sweep.push_back(key),
        }
        while self.held > self.budget {
            let Some(oldest) = self.sweep.pop_front() else { break };
            match self.slots.get(&oldest) {
                Some(slot) if slot.used.replace(false) => self.sweep.push_back(oldest),
                Some(_) => self.forget(oldest),
                None => {}
            }
        }
    }

    /// A segment was deleted.
    pub fn forget_segment(&mut self, segment: u64) {
        let gone: Vec<BlockKey> = self.slots.keys().filter(|key| key.segment == segment).copied().collect();
        for key in gone {
            self.forget(key);
        }
        self.sweep.retain(|key| key.segment != segment);
    }

    fn forget(&mut self, key: BlockKey) {
        if let Some(slot) = self.slots.remove(&key) {
            self.held -= slot.bytes.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(block: u64) -> BlockKey {
        BlockKey { kind: Kind::Log, segment: block / 100, block }
    }

    #[test]
    fn used_blocks_stay_and_the_budget_holds() {
        let mut cache = BlockCache::new(1000);
        for n in 0..1000 {
            cache.insert(key(n), Rc::new(vec![n as u8; 100]));
            assert!(cache.held_bytes() <= 1000);
            assert!(n == 0 || cache.find(key(0)).is_some(), "block 0 is used all the time");
        }
        assert!(cache.find(key(500)).is_none());
        cache.forget_segment(0);
        assert!(cache.find(key(0)).is_none());
        assert_eq!(cache.slots.len(), cache.sweep.len());
    }
}
