//! How many messages wait, by the topic they are for: what GET_TIMER_METRICS tells.
//!
//! Statistics only: kept with the timer's checkpoint, so a crash makes them wrong by what came after it.

use std::collections::BTreeMap;

use super::limits::COUNTED_TOPICS_MAX;

#[derive(Default)]
pub struct Counts {
    topics: BTreeMap<String, PendingCount>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PendingCount {
    pub pending: i64,
    /// When it last changed.
    pub changed_ms: i64,
}

impl Counts {
    pub fn add(&mut self, topic: &str, by: i64, now_ms: i64) {
        if let Some(count) = self.topics.get_mut(topic) {
            *count = PendingCount { pending: count.pending + by, changed_ms: now_ms };
        } else if self.topics.len() < COUNTED_TOPICS_MAX {
            self.topics.insert(topic.to_owned(), PendingCount { pending: by, changed_ms: now_ms });
        }
    }

    pub fn rows(&self) -> Vec<(String, PendingCount)> {
        self.topics.iter().map(|(topic, count)| (topic.clone(), *count)).collect()
    }

    pub fn to_notes(&self) -> Vec<u8> {
        let line = |(topic, count): (&String, &PendingCount)| {
            format!("{topic} {} {}\n", count.pending, count.changed_ms)
        };
        self.topics.iter().map(line).collect::<String>().into_bytes()
    }

    /// Adds what `to_notes` wrote; what is no such line is left out.
    pub fn add_notes(&mut self, notes: &[u8]) {
        for line in String::from_utf8_lossy(notes).lines() {
            let mut words = line.split(' ');
            let (Some(topic), Some(pending), Some(changed_ms)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            if let (Ok(pending), Ok(changed_ms)) = (pending.parse(), changed_ms.parse()) {
                self.add(topic, pending, changed_ms);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_bring_the_counts_back() {
        let mut counts = Counts::default();
        counts.add("A", 1, 5);
        counts.add("A", 1, 6);
        counts.add("B", -1, 7);
        let mut again = Counts::default();
        again.add_notes(&counts.to_notes());
        again.add_notes(b"noise\nX y z\n");
        assert_eq!(again.rows(), counts.rows());
        assert_eq!(again.rows()[0], ("A".to_owned(), PendingCount { pending: 2, changed_ms: 6 }));
    }
}
