//! What one thread counts, and how all threads' counts become one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

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

    /// Short and distinct, for columns and keys.
    pub fn label(self) -> String {
        match self {
            Self::Code(code) => format!("{} {code}", self.name()),
            _ => self.name().to_owned(),
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
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Second {
    pub at_s: u64,
    pub messages: u64,
    /// Absent in results of older tools.
    #[serde(default)]
    pub failures: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    #[serde(default)]
    pub p999_us: f64,
    pub max_us: f64,
    /// How many messages consumers were behind the ends of their queues when the second was over, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// The failures, by response code or what else it was.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub errors: BTreeMap<String, u64>,
}

impl Second {
    fn merge(&mut self, other: &Self) {
        let messages = (self.messages + other.messages).max(1) as f64;
        self.p50_us = (self.p50_us * self.messages as f64 + other.p50_us * other.messages as f64) / messages;
        self.p99_us = self.p99_us.max(other.p99_us);
        self.p999_us = self.p999_us.max(other.p999_us);
        self.max_us = self.max_us.max(other.max_us);
        self.lag = sum(self.lag, other.lag);
        for (label, count) in &other.errors {
            *self.errors.entry(label.clone()).or_default() += count;
        }
        self.messages += other.messages;
        self.failures += other.failures;
    }
}

fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    if one.is_none() { other } else { one.map(|one| one + other.unwrap_or(0)) }
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
    /// Latencies of the parts that a request is made of, where it has several.
    pub steps: BTreeMap<&'static str, Histogram<u64>>,
    pub seconds: Vec<Second>,
    /// How many messages consumers are behind the ends of their queues, once it is known.
    pub lag: Option<u64>,
    /// Requests that wait for their answer.
    pub in_flight: u64,
    /// Messages and failures of the seconds that are over.
    seen: (u64, BTreeMap<Failure, u64>),
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are in order and 3 is allowed")
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            latency: histogram(),
            recent: histogram(),
            messages: 0,
            requests: 0,
            bytes: 0,
            last_ns: 0,
            failures: BTreeMap::new(),
            anomalies: BTreeMap::new(),
            steps: BTreeMap::new(),
            seconds: Vec::new(),
            lag: None,
            in_flight: 0,
            seen: (0, BTreeMap::new()),
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

    /// One part of a request, such as a connect, has taken this long.
    pub fn step(&mut self, name: &'static str, latency_ns: u64) {
        self.steps.entry(name).or_insert_with(histogram).saturating_record(latency_ns);
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
        let (p50_ns, p99_ns, p999_ns, max_ns) = (at(0.5), at(0.99), at(0.999), self.recent.max());
        live.p50_ns.store(p50_ns, Ordering::Relaxed);
        live.p99_ns.store(p99_ns, Ordering::Relaxed);
        live.p999_ns.store(p999_ns, Ordering::Relaxed);
        live.max_ns.store(max_ns, Ordering::Relaxed);
        let mut errors = BTreeMap::new();
        for (failure, counted) in &self.failures {
            let seen = self.seen.1.insert(*failure, counted.count).unwrap_or(0);
            if counted.count > seen {
                errors.insert(failure.label(), counted.count - seen);
            }
        }
        self.seconds.push(Second {
            at_s: self.seconds.len() as u64,
            messages: self.messages - self.seen.0,
            failures: errors.values().sum(),
            p50_us: p50_ns as f64 / 1e3,
            p99_us: p99_ns as f64 / 1e3,
            p999_us: p999_ns as f64 / 1e3,
            max_us: max_ns as f64 / 1e3,
            lag: self.lag,
            errors,
        });
        self.seen.0 = self.messages;
        self.fold();
        self.show(live);
    }

    pub fn show(&self, live: &Live) {
        live.messages.store(self.messages, Ordering::Relaxed);
        live.in_flight.store(self.in_flight, Ordering::Relaxed);
        live.lag.store(self.lag.unwrap_or(LAG_UNKNOWN), Ordering::Relaxed);
        let mut failures = live.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.clear();
        failures.extend(self.failures.iter().map(|(&failure, counted)| (failure, counted.count)));
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
        self.lag = sum(self.lag, other.lag);
        self.merge_failures(&other);
        for (name, latency) in &other.steps {
            let all = self.steps.entry(name).or_insert_with(histogram);
            all.add(latency).expect("both have the same bounds");
        }
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

const LAG_UNKNOWN: u64 = u64::MAX;

/// What a thread shows while it runs.
pub struct Live {
    pub messages: AtomicU64,
    pub in_flight: AtomicU64,
    lag: AtomicU64,
    failures: Mutex<Vec<(Failure, u64)>>,
    pub p50_ns: AtomicU64,
    pub p99_ns: AtomicU64,
    pub p999_ns: AtomicU64,
    pub max_ns: AtomicU64,
}

impl Default for Live {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            messages: zero(),
            in_flight: zero(),
            lag: AtomicU64::new(LAG_UNKNOWN),
            failures: Mutex::default(),
            p50_ns: zero(),
            p99_ns: zero(),
            p999_ns: zero(),
            max_ns: zero(),
        }
    }
}

impl Live {
    pub fn lag(&self) -> Option<u64> {
        Some(self.lag.load(Ordering::Relaxed)).filter(|lag| *lag != LAG_UNKNOWN)
    }

    /// Failures of all these, by what they were.
    pub fn failures(all: &[&Self]) -> BTreeMap<Failure, u64> {
        let mut sums = BTreeMap::new();
        for live in all {
            for &(failure, count) in live.failures.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                *sums.entry(failure).or_default() += count;
            }
        }
        sums
    }
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
        two.lag = Some(7);
        two.step("connect", 5000);
        two.done(5, 50, 900_000, 2);
        two.second_over(&live);
        one.merge(two);
        let counts: Vec<_> =
            one.seconds.iter().map(|second| (second.at_s, second.messages, second.failures)).collect();
        assert_eq!(counts, [(0, 4, 1), (1, 5, 0)]);
        assert!((one.seconds[0].p50_us - 200.0).abs() < 1.0, "{:?}", one.seconds[0]);
        assert!((one.seconds[0].p99_us - 500.0).abs() < 1.0, "{:?}", one.seconds[0]);
        assert_eq!(one.latency.len(), 3);
        assert_eq!(one.seconds[0].errors, BTreeMap::from([(String::from("TIMEOUT"), 1)]));
        assert!(one.seconds[1].errors.is_empty());
        assert_eq!((one.seconds[0].lag, one.seconds[1].lag, one.lag), (None, Some(7), Some(7)));
        assert_eq!(one.steps["connect"].len(), 1);
        let shown = Live::failures(&[&live, &live]);
        assert_eq!(shown, BTreeMap::from([(Failure::Timeout, 2)]));
    }
}
