//! Messages that are not to be delivered, for as long as their tick lasts.

use std::collections::VecDeque;

use rmq_engine::TimelineEntry;
use rustc_hash::FxHashMap;

use super::limits::RECALLS_MAX;

/// One tick's worth of recalls. The entry of a recall stays in the timeline's care until its tick is over: after a
/// crash it is read again.
#[derive(Default)]
pub struct Recalled {
    /// How many recalls name the message.
    keys: FxHashMap<String, u32>,
    /// In the order of their ends.
    pending: VecDeque<Pending>,
}

struct Pending {
    until_ms: i64,
    key: String,
    entry: TimelineEntry,
}

impl Recalled {
    /// False at the bound: the recall has no effect.
    pub fn add(&mut self, key: String, until_ms: i64, entry: TimelineEntry) -> bool {
        if self.pending.len() >= RECALLS_MAX {
            return false;
        }
        *self.keys.entry(key.clone()).or_default() += 1;
        self.pending.push_back(Pending { until_ms, key, entry });
        true
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn contains(&self, topic: &str, unique_key: &str) -> bool {
        !self.is_empty() && self.keys.contains_key(&recall_key(topic, unique_key))
    }

    /// Forgets recalls whose tick ended before `ms`; their entries are returned.
    pub fn expire(&mut self, ms: i64) -> Vec<TimelineEntry> {
        let mut over = Vec::new();
        while let Some(first) = self.pending.pop_front_if(|first| first.until_ms < ms) {
            if let Some(count) = self.keys.get_mut(&first.key) {
                *count -= 1;
                if *count == 0 {
                    self.keys.remove(&first.key);
                }
            }
            over.push(first.entry);
        }
        over
    }
}

/// How TIMER_DEL_UNIQKEY names a message.
pub fn recall_key(topic: &str, unique_key: &str) -> String {
    format!("{topic}+{unique_key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recall_holds_until_its_tick_is_over() {
        let entry = |offset| TimelineEntry { key: 1, offset };
        let mut recalled = Recalled::default();
        assert!(recalled.add(recall_key("T", "K"), 2_000, entry(1)));
        assert!(recalled.add(recall_key("T", "K"), 3_000, entry(2)));
        assert!(recalled.contains("T", "K") && !recalled.contains("T", "L") && !recalled.contains("U", "K"));
        assert_eq!(recalled.expire(2_000), []);
        assert_eq!(recalled.expire(2_001), [entry(1)]);
        assert!(recalled.contains("T", "K"), "the second still holds");
        assert_eq!(recalled.expire(9_000), [entry(2)]);
        assert!(recalled.is_empty() && !recalled.contains("T", "K"));
    }
}
