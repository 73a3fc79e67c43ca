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
}

impl Failure {
    pub fn name(self) -> &'static str {
        match self {
            Self::Code(code) => meaning::name(code),
            Self::Timeout => "TIMEOUT",
            Self::ConnectionLost => "CONNECTION_LOST",
            Self::Unconnected => "UNCONNECTED",
            Self::NotAnAnswer => "NOT_AN_ANSWER",
        }
    }

    pub fn meaning(self) -> &'static str {
        match self {
            Self::Code(code) => meaning::meaning(code),
            Self::Timeout => "no answer in time",
            Self::ConnectionLost => "the connection ended before the answer",
            Self::Unconnected => "no connection could be made",
            Self::NotAnAnswer => "what came back was no answer of this protocol",
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct FailureCount {
    pub count: u64,
    /// The first remark stands for all.
    pub remark: String,
}

/// One second of the run.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Second {
    pub at_s: u64,
    pub messages: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
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

    /// Folds the running second into the whole and shows it to the progress line.
    pub fn second_over(&mut self, live: &Live) {
        live.p50_ns.store(self.recent.value_at_quantile(0.5), Ordering::Relaxed);
        live.p99_ns.store(self.recent.value_at_quantile(0.99), Ordering::Relaxed);
        live.max_ns.store(self.recent.max(), Ordering::Relaxed);
        self.fold();
        self.show(live);
    }

    pub fn show(&self, live: &Live) {
        live.messages.store(self.messages, Ordering::Relaxed);
        live.failures.store(self.failures.values().map(|failure| failure.count).sum(), Ordering::Relaxed);
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
        for (failure, counted) in other.failures {
            let sum = self
                .failures
                .entry(failure)
                .or_insert_with(|| FailureCount { count: 0, remark: counted.remark.clone() });
            sum.count += counted.count;
        }
        for (what, count) in other.anomalies {
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
