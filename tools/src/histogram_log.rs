//! All latencies of a run as an HdrHistogram log (version 2), which other tools plot, merge and compare without
//! losing what a few percentiles leave out.
//!
//! One interval, in nanoseconds: the seconds are in the other outputs, and encoding a histogram while the load
//! runs would be felt in it.

use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

/// Logs say the highest value in milliseconds by convention.
const NS_PER_MS: f64 = 1e6;

pub fn text(latency_ns: &Histogram<u64>, started_at_ms: u64, seconds: f64) -> String {
    let start = UNIX_EPOCH + Duration::from_millis(started_at_ms);
    let (mut log, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    IntervalLogWriterBuilder::new()
        .add_comment("rmq-bench: latencies in nanoseconds")
        .with_start_time(start)
        .with_base_time(start)
        .with_max_value_divisor(NS_PER_MS)
        .begin_log_with(&mut log, &mut serializer)
        .expect("memory takes everything")
        .write_histogram(latency_ns, Duration::ZERO, Duration::from_secs_f64(seconds.max(0.0)), None)
        .expect("a histogram of bounded counts has an encoding");
    String::from_utf8(log).expect("the log is ASCII")
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;

    #[test]
    fn the_log_reads_back() {
        let mut latency = Histogram::<u64>::new_with_bounds(1, 1_000_000_000, 3).unwrap();
        latency.record_n(2_000_000, 7).unwrap();
        let log = text(&latency, 1_795_170_358_290, 4.0);
        let interval = IntervalLogIterator::new(log.as_bytes())
            .find_map(|entry| match entry.unwrap() {
                LogEntry::Interval(interval) => Some(interval),
                _ => None,
            })
            .unwrap();
        assert_eq!(interval.duration(), Duration::from_secs(4));
        assert!((interval.max() - 2.0).abs() < 0.01, "{log}");
        // The encoding's cookie, in base 64.
        assert!(interval.encoded_histogram().starts_with("HISTFAA"), "{log}");
    }
}
