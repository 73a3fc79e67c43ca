//! What a run comes to, as numbers with names: the columns of table, CSV and page.

use std::collections::BTreeMap;

use crate::sweep::broker::BrokerRun;
use crate::sweep::engine::EngineRun;

/// How a figure is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    PerSecond,
    Micros,
    Bytes,
    Plain,
}

pub struct Figure {
    pub key: &'static str,
    pub name: &'static str,
    pub unit: Unit,
    pub is_better_higher: bool,
    /// Has a heat table of its own on the page.
    pub is_main: bool,
}

const fn figure(key: &'static str, name: &'static str, unit: Unit) -> Figure {
    Figure { key, name, unit, is_better_higher: false, is_main: false }
}

const fn main(figure: Figure) -> Figure {
    Figure { is_main: true, ..figure }
}

const fn higher(figure: Figure) -> Figure {
    Figure { is_better_higher: true, ..figure }
}

pub const FIGURES: [Figure; 15] = [
    main(higher(figure("messages_per_second", "messages/s", Unit::PerSecond))),
    higher(figure("megabytes_per_second", "MB/s", Unit::Plain)),
    main(figure("p50_us", "p50", Unit::Micros)),
    figure("p90_us", "p90", Unit::Micros),
    main(figure("p99_us", "p99", Unit::Micros)),
    main(figure("p999_us", "p999", Unit::Micros)),
    figure("max_us", "max", Unit::Micros),
    main(figure("server_cpu_us", "server CPU us/message", Unit::Plain)),
    main(figure("engine_cpu_us", "CPU us/message", Unit::Plain)),
    figure("client_cpu_us", "client CPU us/message", Unit::Plain),
    figure("server_rss_mb", "server RSS MB", Unit::Plain),
    higher(figure("groups_per_second", "groups/s", Unit::PerSecond)),
    higher(figure("messages_per_group", "messages/group", Unit::Plain)),
    higher(figure("bytes_per_group", "bytes/group", Unit::Bytes)),
    figure("failures", "failures", Unit::Plain),
];

/// Values by the keys of `FIGURES`; what a run cannot know is absent.
pub type Values = BTreeMap<&'static str, f64>;

pub fn of_broker(run: &BrokerRun) -> Values {
    let tally = &run.tally;
    let seconds = run.seconds.max(1e-9);
    let mut values = latencies(&tally.latency);
    let messages = tally.messages.max(1) as f64;
    values.insert("messages_per_second", tally.messages as f64 / seconds);
    values.insert("megabytes_per_second", tally.bytes as f64 / 1e6 / seconds);
    values.insert("client_cpu_us", run.cpu.client * 1e6 / messages);
    values.extend(run.cpu.server.map(|used| ("server_cpu_us", used * 1e6 / messages)));
    values.extend(run.rss_mb.map(|mb| ("server_rss_mb", mb)));
    values.insert("failures", tally.failures() as f64);
    values
}

pub fn of_engine(run: &EngineRun) -> Values {
    let seconds = run.seconds.max(1e-9);
    let mut values = latencies(&run.latency);
    let (records, groups) = (run.records.max(1) as f64, run.groups.max(1) as f64);
    values.insert("messages_per_second", run.records as f64 / seconds);
    values.insert("megabytes_per_second", run.bytes as f64 / 1e6 / seconds);
    values.insert("engine_cpu_us", run.cpu_seconds * 1e6 / records);
    values.insert("groups_per_second", run.groups as f64 / seconds);
    values.insert("messages_per_group", run.records as f64 / groups);
    values.insert("bytes_per_group", run.group_bytes as f64 / groups);
    values
}

fn latencies(histogram: &hdrhistogram::Histogram<u64>) -> Values {
    if histogram.is_empty() {
        return Values::new();
    }
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    Values::from([
        ("p50_us", at(0.5)),
        ("p90_us", at(0.9)),
        ("p99_us", at(0.99)),
        ("p999_us", at(0.999)),
        ("max_us", histogram.max() as f64 / 1e3),
    ])
}

/// Of several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Self { median, low, high })
    }
}

impl Figure {
    pub fn spread<'a>(&self, runs: impl Iterator<Item = &'a Values>) -> Option<Spread> {
        Spread::of(runs.filter_map(|values| values.get(self.key)).copied())
    }

    pub fn text(&self, value: f64) -> String {
        match self.unit {
            Unit::Micros | Unit::PerSecond | Unit::Bytes => format!("{value:.0}"),
            Unit::Plain if value.fract() == 0.0 || value >= 100.0 => format!("{value:.0}"),
            Unit::Plain => format!("{value:.2}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0]), Some(Spread { median: 3.0, low: 3.0, high: 3.0 }));
        assert_eq!(spread(&[9.0, 1.0, 2.0]), Some(Spread { median: 2.0, low: 1.0, high: 9.0 }));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 9.0]), Some(Spread { median: 3.0, low: 1.0, high: 9.0 }));
    }

    #[test]
    fn every_value_of_a_run_has_a_column() {
        let run = EngineRun {
            records: 10,
            bytes: 1000,
            seconds: 2.0,
            latency: crate::tally::Tally::default().latency,
            groups: 5,
            group_bytes: 100,
            cpu_seconds: 1.0,
        };
        let values = of_engine(&run);
        assert!(values.keys().all(|key| FIGURES.iter().any(|figure| figure.key == *key)), "{values:?}");
        assert_eq!((values["messages_per_second"], values["messages_per_group"]), (5.0, 2.0));
        assert!(!values.contains_key("p50_us"));
    }
}
