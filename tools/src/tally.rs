//! What one thread counts, and how all threads' counts become one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use hdrhistogram::Histogram;

use crate::meaning;

const LATENCY_NS_MAX: u64 = 120_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    Code(i32),
    Timeout,
    ConnectionLost,
    Unconnected,
    NotAnAnswer,
    /// An open loop only: the send was due, and the run ended before there was room for it.
    NotSent,
}

impl Failure {
    pub fn name(self) -> &'static str {
        match self {
            Self::Code(code) => meaning::name(code),
            Self::Timeout => "TIMEOUT",
            Self::ConnectionLost => "CONNECTION_LOST",
            Self::Unconnected => "UNCONNECTED",
            Self::NotAnAnswer => "NOT_AN_ANSWER",
            Self::NotSent => "NOT_SENT",
        }
    }

    pub fn meaning(self) -> &'static str {
        match self {
            Self::Code(code) => meaning::meaning(code),
            Self::Timeout => "no answer in time",
            Self::ConnectionLost => "the connection ended before the answer",
            Self::Unconnected => "no connection could be made",
            Self::NotAnAnswer => "what came back was no answer of this protocol",
            Self::NotSent => "was due, but earlier sends took all the room until the end",
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct FailureCount {
    pub count: u64,
    /// The first remark stands for all.
    pub remark: String,
}

/// One whole second of the measured time. Of several threads, the median is their mean weighted by messages, and
/// the tail is that of the slowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Second {
    pub at_s: u64,
    pub messages: u64,
    /// Absent in results of older tools.
    #[serde(default)]
    pub failures: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
}

impl Second {
    fn merge(&mut self, other: &Self) {
        let messages = (self.messages + other.messages).max(1) as f64;
        self.p50_us = (self.p50_us * self.messages as f64 + other.p50_us * other.messages as f64) / messages;
        self.p99_us = self.p99_us.max(other.p99_us);
        self.max_us = self.max_us.max(other.max_us);
        self.messages += other.messages;
        self.failures += other.failures;
    }
}

pub struct Tally {
    pub latency: Histogram<u64>,
    /// Latencies of the second that runs; recording into one histogram only is half the work.
    recent: Histogram<u64>,
    pub messages: u64,
    pub requests: u64,
    pub bytes: u64,
    pub last_ns: u64,
    pub failures: BTreeMap<Failure, FailureCount>,
    pub anomalies: BTreeMap<&'static str, u64>,
    pub seconds: Vec<Second>,
    /// Messages and failures of the seconds that are over.
    seen: (u64, u64),
}

impl Default for Tally {
    fn default() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)
                .expect("the bounds are in order and 3 is allowed")
        };
        Self {
            latency: histogram(),
            recent: histogram(),
            messages: 0,
            requests: 0,
            bytes: 0,
            last_ns: 0,
            failures: BTreeMap::new(),
            anomalies: BTreeMap::new(),
            seconds: Vec::new(),
            seen: (0, 0),
        }
    }
}

impl Tally {
    pub fn done(&mut self, messages: u64, bytes: u64, latency_ns: u64, now_ns: u64) {
        self.count(messages, bytes, now_ns);
        self.recent.saturating_record(latency_ns);
    }

    /// Counts what has no latency of its own.
    pub fn count(&mut self, messages: u64, bytes: u64, now_ns: u64) {
        self.requests += 1;
        self.messages += messages;
        self.bytes += bytes;
        self.last_ns = now_ns;
    }

    pub fn latency(&mut self, latency_ns: u64) {
        self.recent.saturating_record(latency_ns);
    }

    pub fn failed(&mut self, failure: Failure, remark: impl FnOnce() -> String) {
        self.failures.entry(failure).or_insert_with(|| FailureCount { count: 0, remark: remark() }).count +=
            1;
    }

    pub fn anomaly(&mut self, what: &'static str) {
        *self.anomalies.entry(what).or_default() += 1;
    }

    /// Keeps the running second, folds it into the whole and shows it to the progress line.
    pub fn second_over(&mut self, live: &Live) {
        let at = |quantile| self.recent.value_at_quantile(quantile);
        let (p50_ns, p99_ns, max_ns) = (at(0.5), at(0.99), self.recent.max());
        live.p50_ns.store(p50_ns, Ordering::Relaxed);
        live.p99_ns.store(p99_ns, Ordering::Relaxed);
        live.max_ns.store(max_ns, Ordering::Relaxed);
        let now = (self.messages, self.failures());
        self.seconds.push(Second {
            at_s: self.seconds.len() as u64,
            messages: now.0 - self.seen.0,
            failures: now.1 - self.seen.1,
            p50_us: p50_ns as f64 / 1e3,
            p99_us: p99_ns as f64 / 1e3,
            max_us: max_ns as f64 / 1e3,
        });
        self.seen = now;
        self.fold();
        self.show(live);
    }

    pub fn show(&self, live: &Live) {
        live.messages.store(self.messages, Ordering::Relaxed);
        live.failures.store(self.failures(), Ordering::Relaxed);
    }

    pub fn failures(&self) -> u64 {
        self.failures.values().map(|failure| failure.count).sum()
    }

    pub fn fold(&mut self) {
        self.latency.add(&self.recent).expect("both have the same bounds");
        self.recent.reset();
    }

    pub fn merge(&mut self, mut other: Self) {
        other.fold();
        self.latency.add(&other.latency).expect("both have the same bounds");
        self.messages += other.messages;
        self.requests += other.requests;
        self.bytes += other.bytes;
        self.last_ns = self.last_ns.max(other.last_ns);
        self.merge_failures(&other);
        // A thread that used up its messages early has fewer seconds than the others.
        let common = self.seconds.len().min(other.seconds.len());
        for (second, more) in self.seconds.iter_mut().zip(&other.seconds) {
            second.merge(more);
        }
        self.seconds.extend_from_slice(&other.seconds[common..]);
    }

    /// Takes over what went wrong, and nothing else.
    pub fn merge_failures(&mut self, other: &Self) {
        for (&failure, counted) in &other.failures {
            let sum = self
                .failures
                .entry(failure)
                .or_insert_with(|| FailureCount { count: 0, remark: counted.remark.clone() });
            sum.count += counted.count;
        }
        for (&what, &count) in &other.anomalies {
            *self.anomalies.entry(what).or_default() += count;
        }
    }
}

/// What a thread shows while it runs.
#[derive(Default)]
pub struct Live {
    pub messages: AtomicU64,
    pub failures: AtomicU64,
    pub p50_ns: AtomicU64,
    pub p99_ns: AtomicU64,
    pub max_ns: AtomicU64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_of_threads_become_one_series() {
        let live = Live::default();
        let (mut one, mut two) = (Tally::default(), Tally::default());
        one.done(3, 30, 100_000, 1);
        one.second_over(&live);
        two.done(1, 10, 500_000, 1);
        two.failed(Failure::Timeout, String::new);
        two.second_over(&live);
        two.done(5, 50, 900_000, 2);
        two.second_over(&live);
        one.merge(two);
        let counts: Vec<_> =
            one.seconds.iter().map(|second| (second.at_s, second.messages, second.failures)).collect();
        assert_eq!(counts, [(0, 4, 1), (1, 5, 0)]);
        assert!((one.seconds[0].p50_us - 200.0).abs() < 1.0, "{:?}", one.seconds[0]);
        assert!((one.seconds[0].p99_us - 500.0).abs() < 1.0, "{:?}", one.seconds[0]);
        assert_eq!(one.latency.len(), 3);
    }
}
