//! What a run found, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::cli::OutputArgs;
use crate::compare::decimal;
use crate::cpu::CpuSeconds;
use crate::error::Error;
use crate::histogram_log;
use crate::machine::Machine;
use crate::ramp::RateStep;
use crate::tally::{Second, Tally};
use crate::target::Target;

#[derive(Serialize)]
pub struct Report<S> {
    pub command: &'static str,
    /// What `messages` are, where they are something else.
    pub counted: &'static str,
    pub tool_version: &'static str,
    pub label: Option<String>,
    pub settings: S,
    pub server: Target,
    /// That the generator runs on.
    pub machine: Machine,
    pub started_at_ms: u64,
    pub seconds: f64,
    pub messages: u64,
    pub requests: u64,
    pub bytes: u64,
    pub messages_per_second: f64,
    pub megabytes_per_second: f64,
    pub latency_us: Option<Latency>,
    /// Where `latency_us` is until a consumer has the message: how long the answer to the send took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_latency_us: Option<Latency>,
    /// How long the parts took that each request is made of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// How many messages consumers were behind in the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// What else was measured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<Fact>,
    /// The rates that were tried, in the order they were.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rate_steps: Vec<RateStep>,
    /// The whole distribution, in steps that grow finer towards the tail.
    pub percentiles: Vec<Percentile>,
    pub errors: Vec<ErrorLine>,
    pub anomalies: Vec<Anomaly>,
    pub cpu: CpuReport,
    pub per_second: Vec<Second>,
    #[serde(skip)]
    latency_ns: Histogram<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    pub count: u64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

#[derive(Serialize, Deserialize)]
pub struct Step {
    pub name: String,
    pub latency_us: Latency,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    pub name: String,
    pub value: f64,
    pub unit: String,
}

impl Fact {
    pub fn new(name: &str, value: f64, unit: &str) -> Self {
        Self { name: name.to_owned(), value, unit: unit.to_owned() }
    }
}

/// So many percent of all latencies were at most this long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentile {
    pub percentile: f64,
    pub us: f64,
}

#[derive(Serialize)]
pub struct ErrorLine {
    pub name: &'static str,
    pub code: Option<i32>,
    pub meaning: &'static str,
    pub count: u64,
    pub first_remark: String,
    /// As in the errors of a second.
    pub label: String,
}

#[derive(Serialize)]
pub struct Anomaly {
    pub what: &'static str,
    pub count: u64,
}

#[derive(Serialize, Deserialize)]
pub struct CpuReport {
    pub client_seconds: f64,
    pub client_us_per_message: f64,
    pub server_seconds: Option<f64>,
    pub server_us_per_message: Option<f64>,
}

/// What a report is made of, apart from the counts.
pub struct Measured {
    pub started_at_ms: u64,
    pub seconds: f64,
    pub cpu: CpuSeconds,
}

impl<S: Serialize> Report<S> {
    pub fn new(
        command: &'static str,
        output: &OutputArgs,
        settings: S,
        server: Target,
        tally: &Tally,
        measured: Measured,
    ) -> Self {
        let seconds = measured.seconds.max(1e-9);
        let per_message = |cpu: f64| cpu * 1e6 / tally.messages.max(1) as f64;
        Self {
            command,
            counted: "messages",
            tool_version: env!("CARGO_PKG_VERSION"),
            label: output.label.clone(),
            settings,
            server,
            machine: Machine::here(),
            started_at_ms: measured.started_at_ms,
            seconds: measured.seconds,
            messages: tally.messages,
            requests: tally.requests,
            bytes: tally.bytes,
            messages_per_second: tally.messages as f64 / seconds,
            megabytes_per_second: tally.bytes as f64 / 1e6 / seconds,
            latency_us: Latency::of(&tally.latency),
            answer_latency_us: None,
            steps: tally.steps.iter().filter_map(|(name, latency)| Step::of(name, latency)).collect(),
            lag: tally.lag,
            facts: Vec::new(),
            rate_steps: Vec::new(),
            percentiles: percentiles(&tally.latency),
            errors: errors(tally),
            anomalies: tally.anomalies.iter().map(|(&what, &count)| Anomaly { what, count }).collect(),
            cpu: CpuReport {
                client_seconds: measured.cpu.client,
                client_us_per_message: per_message(measured.cpu.client),
                server_seconds: measured.cpu.server,
                server_us_per_message: measured.cpu.server.map(per_message),
            },
            per_second: tally.seconds.clone(),
            latency_ns: tally.latency.clone(),
        }
    }

    /// To the file or standard output that was asked for; people's form goes to standard output unless that has
    /// the other.
    pub fn publish(&self, output: &OutputArgs) -> Result<(), Error> {
        if let Some(path) = &output.csv {
            write_file(path, &self.csv())?;
        }
        if let Some(path) = &output.hdr {
            write_file(path, &histogram_log::text(&self.latency_ns, self.started_at_ms, self.seconds))?;
        }
        match output.json.as_deref() {
            Some(path) if path == Path::new("-") => {
                println!("{}", self.json());
                Ok(())
            }
            Some(path) => {
                println!("{}", self.text());
                write_file(path, &self.json())
            }
            None => {
                println!("{}", self.text());
                Ok(())
            }
        }
    }

    fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report is plain data")
    }

    fn csv(&self) -> String {
        if self.rate_steps.is_empty() { self.csv_of_seconds() } else { self.csv_of_rates() }
    }

    fn csv_of_rates(&self) -> String {
        let mut csv =
            String::from("rate,messages_per_second,failures,p50_us,p99_us,p999_us,max_us,keeps_up,holds");
        for step in &self.rate_steps {
            let [p50, p99, p999, max] = Latency::figures(step.latency_us.as_ref());
            let (rate, per_second) =
                (step.rate.map_or(String::new(), |rate| rate.to_string()), step.messages_per_second);
            let holds = step.holds.map_or(String::new(), |holds| holds.to_string());
            let _ = write!(
                csv,
                "\n{rate},{per_second:.1},{},{p50},{p99},{p999},{max},{},{holds}",
                step.failures, step.keeps_up
            );
        }
        csv
    }

    fn csv_of_seconds(&self) -> String {
        let failures: BTreeMap<&str, u64> =
            self.errors.iter().map(|error| (error.label.as_str(), error.count)).collect();
        let lag = |lag: Option<u64>| lag.map_or(String::new(), |lag| lag.to_string());
        let mut csv = String::from("second,messages,failures,p50_us,p99_us,p999_us,max_us,lag");
        for label in failures.keys() {
            let _ = write!(csv, ",{label}");
        }
        for second in &self.per_second {
            let Second { at_s, messages, failures: failed, p50_us, p99_us, p999_us, max_us, .. } = second;
            let _ = write!(
                csv,
                "\n{at_s},{messages},{failed},{p50_us},{p99_us},{p999_us},{max_us},{}",
                lag(second.lag)
            );
            for &label in failures.keys() {
                let _ = write!(csv, ",{}", second.errors.get(label).copied().unwrap_or(0));
            }
        }
        let [p50, p99, p999, max] = Latency::figures(self.latency_us.as_ref());
        let failed: u64 = failures.values().sum();
        let _ = write!(csv, "\ntotal,{},{failed},{p50},{p99},{p999},{max},{}", self.messages, lag(self.lag));
        for count in failures.values() {
            let _ = write!(csv, ",{count}");
        }
        csv
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let counted = self.counted;
        let one = counted.trim_end_matches('s');
        let _ = writeln!(
            text,
            "{} {}: broker {} at {}, {} ({}), {} queues",
            self.command,
            self.server.topic,
            self.server.broker,
            self.server.address,
            self.server.version_description,
            self.server.version,
            self.server.queues
        );
        let _ = writeln!(
            text,
            "  {:.0} {counted}/s   {:.1} MB/s   {} {counted} in {:.2} s",
            self.messages_per_second, self.megabytes_per_second, self.messages, self.seconds
        );
        let latencies = [("latency", &self.latency_us), ("answered", &self.answer_latency_us)];
        for (name, latency) in
            latencies.into_iter().filter_map(|(name, latency)| Some((name, latency.as_ref()?)))
        {
            let _ = writeln!(
                text,
                "  {name} us: p50 {:.0}   p90 {:.0}   p99 {:.0}   p999 {:.0}   max {:.0}   mean {:.0}",
                latency.p50, latency.p90, latency.p99, latency.p999, latency.max, latency.mean
            );
        }
        for Step { name, latency_us: latency } in &self.steps {
            let _ = writeln!(
                text,
                "    {name} us: {} times   p50 {:.0}   p90 {:.0}   p99 {:.0}   p999 {:.0}   max {:.0}",
                latency.count, latency.p50, latency.p90, latency.p99, latency.p999, latency.max
            );
        }
        if let Some(lag) = self.lag {
            let _ = writeln!(text, "  consumers behind by {lag} messages in the end");
        }
        for Fact { name, value, unit } in &self.facts {
            let _ = writeln!(text, "  {}", format!("{name}: {} {unit}", decimal(*value)).trim_end());
        }
        // Without messages, there is nothing to divide by.
        let each = |us: f64| match self.messages {
            0 => String::new(),
            _ => format!(", {us:.2} us/{one}"),
        };
        let CpuReport { client_seconds, client_us_per_message, server_seconds, server_us_per_message } =
            &self.cpu;
        let _ = write!(text, "  cpu: client {client_seconds:.2} s{}", each(*client_us_per_message));
        if let (Some(seconds), Some(us)) = (server_seconds, server_us_per_message) {
            let _ = write!(text, "   server {seconds:.2} s{}", each(*us));
        }
        for error in &self.errors {
            let code = error.code.map_or(String::new(), |code| format!("{code} "));
            let _ = write!(text, "\n  {} times {code}{} ({})", error.count, error.name, error.meaning);
            if !error.first_remark.is_empty() {
                let _ = write!(text, ": {}", error.first_remark);
            }
        }
        for anomaly in &self.anomalies {
            let _ = write!(text, "\n  {} {}", anomaly.count, anomaly.what);
        }
        text
    }
}

impl Step {
    fn of(name: &str, latency: &Histogram<u64>) -> Option<Self> {
        Some(Self { name: name.to_owned(), latency_us: Latency::of(latency)? })
    }
}

impl Latency {
    /// Median, 99 %, 99.9 % and the highest.
    pub fn figures(latency: Option<&Self>) -> [f64; 4] {
        latency.map_or([0.0; 4], |latency| [latency.p50, latency.p99, latency.p999, latency.max])
    }

    /// In microseconds, of a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            mean: histogram.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e3,
        })
    }
}

pub fn percentiles(latency: &Histogram<u64>) -> Vec<Percentile> {
    /// Each halving of what is left above gets this many points.
    const POINTS_PER_HALVING: u32 = 5;
    latency
        .iter_quantiles(POINTS_PER_HALVING)
        .map(|point| Percentile {
            percentile: (point.quantile_iterated_to() * 100.0).min(100.0),
            us: point.value_iterated_to() as f64 / 1e3,
        })
        .collect()
}

pub fn errors(tally: &Tally) -> Vec<ErrorLine> {
    tally
        .failures
        .iter()
        .map(|(failure, counted)| ErrorLine {
            name: failure.name(),
            code: match failure {
                crate::tally::Failure::Code(code) => Some(*code),
                _ => None,
            },
            meaning: failure.meaning(),
            count: counted.count,
            first_remark: counted.remark.clone(),
            label: failure.label(),
        })
        .collect()
}

pub fn write_file(path: &Path, text: &str) -> Result<(), Error> {
    let failed = |source| Error::File { path: PathBuf::from(path), source };
    let mut file = File::create(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(failed)
}
