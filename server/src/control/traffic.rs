//! How much goes through each topic and to each group: what VIEW_BROKER_STATS_DATA (315) and the rates in other
//! answers are made of.
//!
//! Shards count from their start; every ten seconds their sums are noted here. A window is what was counted since
//! its oldest note: a minute, an hour or a day back.

use std::collections::{BTreeMap, VecDeque};

use super::limits::TRAFFIC_MAX;
use super::link::{ShardAnswer, TrafficRow};

/// Seconds between two notes.
pub const NOTE_SECONDS: u64 = 10;

/// The notes of each window: every how many, and how many are kept.
const WINDOWS: [(u64, usize); 3] = [(1, 7), (60, 7), (360, 25)];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub messages: u64,
    pub bytes: u64,
    /// Sends or pulls: what an average is taken over.
    pub calls: u64,
}

#[derive(Clone, Copy)]
pub enum Window {
    Minute = 0,
    Hour = 1,
    Day = 2,
}

#[derive(Clone, Copy)]
struct Note {
    at_ms: i64,
    count: Count,
}

/// Oldest first.
#[derive(Default)]
struct Series {
    /// Empty while nothing goes through.
    windows: [VecDeque<Note>; 3],
    /// What had been counted when the windows were empty last.
    before: Count,
}

/// A topic, and a group for what that group got of it.
type Key = (String, Option<String>);

#[derive(Default)]
pub struct Traffic {
    series: BTreeMap<Key, Series>,
    notes: u64,
}

/// What was counted in a window and how long it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub count: Count,
    pub ms: i64,
}

impl Span {
    pub fn per_second(&self, number: u64) -> f64 {
        if self.ms > 0 { number as f64 * 1000.0 / self.ms as f64 } else { 0.0 }
    }
}

impl Traffic {
    /// Takes down what the shards have counted until now.
    pub fn note(&mut self, answers: Vec<ShardAnswer>, now_ms: i64) {
        let mut sums: BTreeMap<Key, Count> = BTreeMap::new();
        for answer in answers {
            let ShardAnswer::Traffic(rows) = answer else { continue };
            for TrafficRow { topic, group, count } in rows {
                let sum = sums.entry((topic, group)).or_default();
                sum.messages += count.messages;
                sum.bytes += count.bytes;
                sum.calls += count.calls;
            }
        }
        self.series.retain(|key, _| sums.contains_key(key));
        for (key, count) in sums {
            let is_known = self.series.contains_key(&key);
            if is_known || (count.messages > 0 && self.series.len() < TRAFFIC_MAX) {
                self.series.entry(key).or_default().note(Note { at_ms: now_ms, count }, self.notes);
            }
        }
        self.notes += 1;
    }

    pub fn span(&self, topic: &str, group: Option<&str>, window: Window) -> Option<Span> {
        let key = (topic.to_owned(), group.map(str::to_owned));
        self.series.get(&key)?.span(window)
    }
}

impl Series {
    fn note(&mut self, note: Note, number: u64) {
        let last = self.windows[0].back().map_or(self.before, |last| last.count);
        if note.count.messages < last.messages {
            // A topic of the same name began anew.
            *self = Self::default();
        }
        if self.windows[0].is_empty() && note.count == self.before {
            return;
        }
        if self.is_idle() {
            *self = Self { before: last, ..Self::default() };
            return self.note(note, number);
        }
        for (notes, (every, kept)) in self.windows.iter_mut().zip(WINDOWS) {
            if notes.is_empty() {
                // Nothing was counted a note ago, or somebody would have noted it.
                let at_ms = note.at_ms - NOTE_SECONDS as i64 * 1000;
                notes.push_back(Note { at_ms, count: self.before });
            }
            if number.is_multiple_of(every) {
                notes.push_back(note);
                if notes.len() > kept {
                    notes.pop_front();
                }
            }
        }
    }

    fn span(&self, window: Window) -> Option<Span> {
        let newest = self.windows[0].back()?;
        let oldest = self.windows[window as usize].front()?;
        let since = |now: u64, then: u64| now.saturating_sub(then);
        Some(Span {
            count: Count {
                messages: since(newest.count.messages, oldest.count.messages),
                bytes: since(newest.count.bytes, oldest.count.bytes),
                calls: since(newest.count.calls, oldest.count.calls),
            },
            ms: newest.at_ms - oldest.at_ms,
        })
    }

    fn is_idle(&self) -> bool {
        self.windows[Window::Day as usize].len() == WINDOWS[Window::Day as usize].1
            && self.span(Window::Day).is_some_and(|span| span.count.messages == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(messages: u64) -> Vec<ShardAnswer> {
        let count = Count { messages, bytes: messages * 10, calls: messages };
        vec![ShardAnswer::Traffic(vec![TrafficRow { topic: "T".to_owned(), group: None, count }])]
    }

    fn messages(traffic: &Traffic, window: Window) -> Option<u64> {
        traffic.span("T", None, window).map(|span| span.count.messages)
    }

    #[test]
    fn windows_slide_and_what_began_inside_them_counts_whole() {
        let mut traffic = Traffic::default();
        traffic.note(row(0), 0);
        assert_eq!(messages(&traffic, Window::Minute), None, "nothing has gone through yet");
        for note in 1..=100 {
            traffic.note(row(note * 6), note as i64 * 10_000);
        }
        assert_eq!(messages(&traffic, Window::Minute), Some(36));
        assert_eq!(messages(&traffic, Window::Hour), Some(600));
        let minute = traffic.span("T", None, Window::Minute).unwrap();
        assert_eq!((minute.ms, minute.per_second(minute.count.messages)), (60_000, 0.6));
        assert_eq!(minute.count.bytes, 360);
    }

    #[test]
    fn shards_add_up_and_a_deleted_topic_is_forgotten() {
        let mut traffic = Traffic::default();
        traffic.note(row(5).into_iter().chain(row(7)).collect(), 10_000);
        assert_eq!(messages(&traffic, Window::Day), Some(12));
        traffic.note(row(3), 20_000);
        assert_eq!(messages(&traffic, Window::Day), Some(3), "a topic of the same name began anew");
        traffic.note(Vec::new(), 30_000);
        assert_eq!(messages(&traffic, Window::Day), None);
    }

    #[test]
    fn after_a_silent_day_nothing_is_told_until_something_comes() {
        let mut traffic = Traffic::default();
        let day = 26 * 360;
        for note in 0..day {
            traffic.note(row(5), note * 10_000);
        }
        assert_eq!(messages(&traffic, Window::Minute), None);
        traffic.note(row(7), day * 10_000);
        assert_eq!(messages(&traffic, Window::Day), Some(2), "not what was counted before the silence");
    }
}
