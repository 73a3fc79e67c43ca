//! Rates out of the shards' counters: how many per second over the last 10, 60 and 600 seconds.

use std::collections::VecDeque;

use super::link::{ShardAnswer, ShardStats};

/// Seconds between two samples.
pub const SAMPLE_SECONDS: usize = 1;
const SAMPLES_MAX: usize = 600 / SAMPLE_SECONDS + 1;

#[derive(Clone, Copy, Default)]
struct Sample {
    at_ms: i64,
    counts: [u64; 5],
}

/// What is counted per second.
#[derive(Clone, Copy)]
pub enum Rate {
    Put = 0,
    /// Pulls that found something.
    GetFound = 1,
    GetMiss = 2,
    GetTotal = 3,
    /// Messages handed out.
    Transferred = 4,
}

#[derive(Default)]
pub struct Rates {
    samples: VecDeque<Sample>,
    day: Option<i64>,
    mornings: Mornings,
}

/// Totals at the last two midnights, of which tools compute "today" and "yesterday".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mornings {
    pub put_yesterday: u64,
    pub put_today: u64,
    pub got_yesterday: u64,
    pub got_today: u64,
}

impl Rates {
    /// `day` changes at local midnight.
    pub fn sample(&mut self, stats: &ShardStats, now_ms: i64, day: i64) {
        if self.day.is_some_and(|known| known != day) {
            self.mornings = Mornings {
                put_yesterday: self.mornings.put_today,
                put_today: stats.messages_put,
                got_yesterday: self.mornings.got_today,
                got_today: stats.messages_got,
            };
        }
        self.day = Some(day);
        let pulls = stats.pulls_found + stats.pulls_missed;
        let counts = [stats.messages_put, stats.pulls_found, stats.pulls_missed, pulls, stats.messages_got];
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { at_ms: now_ms, counts });
    }

    pub fn mornings(&self) -> Mornings {
        self.mornings
    }

    /// Three numbers as tools split them; zero until there are two samples.
    pub fn text(&self, rate: Rate) -> String {
        let over = |seconds: usize| self.per_second(rate, seconds);
        format!("{} {} {}", java_double(over(10)), java_double(over(60)), java_double(over(600)))
    }

    fn per_second(&self, rate: Rate, seconds: usize) -> f64 {
        let Some(newest) = self.samples.back() else { return 0.0 };
        let back = (seconds / SAMPLE_SECONDS).min(self.samples.len() - 1);
        let oldest = self.samples[self.samples.len() - 1 - back];
        let elapsed_ms = newest.at_ms - oldest.at_ms;
        if elapsed_ms <= 0 {
            return 0.0;
        }
        let count = newest.counts[rate as usize].saturating_sub(oldest.counts[rate as usize]);
        count as f64 * 1000.0 / elapsed_ms as f64
    }
}

/// Java's text of a double has a fraction always.
pub fn java_double(value: f64) -> String {
    format!("{value:?}")
}

/// Sums over the shards; what is a bound or a time is the extreme over them.
pub fn sum(answers: Vec<ShardAnswer>) -> ShardStats {
    let mut total = ShardStats { log_min_offset: i64::MAX, ..ShardStats::default() };
    for answer in answers {
        let ShardAnswer::Stats(stats) = answer else { continue };
        total.messages_put += stats.messages_put;
        total.bytes_put += stats.bytes_put;
        total.messages_got += stats.messages_got;
        total.bytes_got += stats.bytes_got;
        total.pulls_found += stats.pulls_found;
        total.pulls_missed += stats.pulls_missed;
        total.put_failed += stats.put_failed;
        total.put_ms_max = total.put_ms_max.max(stats.put_ms_max);
        total.put_bytes_max = total.put_bytes_max.max(stats.put_bytes_max);
        total.log_min_offset = total.log_min_offset.min(stats.log_min_offset);
        total.log_max_offset = total.log_max_offset.max(stats.log_max_offset);
        total.earliest_message_ms =
            [total.earliest_message_ms, stats.earliest_message_ms].into_iter().flatten().min();
        total.unflushed_bytes += stats.unflushed_bytes;
        total.queues += stats.queues;
        total.connections += stats.connections;
        total.suspended_pulls += stats.suspended_pulls;
        total.disk_ratio = total.disk_ratio.max(stats.disk_ratio);
    }
    if total.log_min_offset == i64::MAX {
        total.log_min_offset = 0;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(count: u64) -> ShardStats {
        ShardStats { messages_put: count, ..ShardStats::default() }
    }

    #[test]
    fn rates_look_back_as_far_as_there_are_samples() {
        let mut rates = Rates::default();
        assert_eq!(rates.text(Rate::Put), "0.0 0.0 0.0");
        rates.sample(&put(0), 0, 1);
        assert_eq!(rates.text(Rate::Put), "0.0 0.0 0.0");
        for second in 1..=20 {
            rates.sample(&put(second * 5), second as i64 * 1000, 1);
        }
        rates.sample(&put(200), 21_000, 1);
        assert_eq!(rates.text(Rate::Put), "14.5 9.523809523809524 9.523809523809524");
        assert_eq!(rates.text(Rate::GetMiss), "0.0 0.0 0.0");
    }

    #[test]
    fn samples_are_bounded() {
        let mut rates = Rates::default();
        for second in 0..2000 {
            rates.sample(&put(second), second as i64 * 1000, 1);
        }
        assert_eq!(rates.samples.len(), SAMPLES_MAX);
        assert_eq!(rates.text(Rate::Put), "1.0 1.0 1.0");
    }

    #[test]
    fn mornings_move_at_midnight() {
        let mut rates = Rates::default();
        rates.sample(&put(3), 0, 1);
        assert_eq!(rates.mornings(), Mornings::default());
        rates.sample(&put(10), 1, 2);
        rates.sample(&put(25), 2, 3);
        assert_eq!((rates.mornings().put_yesterday, rates.mornings().put_today), (10, 25));
    }

    #[test]
    fn shards_add_up() {
        let one = ShardStats {
            messages_put: 1,
            log_min_offset: 5,
            log_max_offset: 9,
            earliest_message_ms: Some(7),
            ..ShardStats::default()
        };
        let two =
            ShardStats { messages_put: 2, log_min_offset: 3, log_max_offset: 4, ..ShardStats::default() };
        let total = sum(vec![ShardAnswer::Stats(Box::new(one)), ShardAnswer::Stats(Box::new(two))]);
        assert_eq!((total.messages_put, total.log_min_offset, total.log_max_offset), (3, 3, 9));
        assert_eq!(total.earliest_message_ms, Some(7));
        assert_eq!(sum(Vec::new()), ShardStats::default());
    }
}
