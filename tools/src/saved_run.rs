//! A result that `--json` wrote, read back.
//!
//! Fields that older tools did not write are optional, so that old results can still be put beside new ones.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::error::Error;
use crate::machine::Machine;
use crate::ramp::RateStep;
use crate::report::{CpuReport, Fact, Latency, Percentile, Step};
use crate::tally::Second;
use crate::target::Target;

#[derive(Deserialize)]
pub struct SavedRun {
    pub command: String,
    pub tool_version: String,
    label: Option<String>,
    settings: Value,
    pub server: Target,
    pub started_at_ms: u64,
    pub seconds: f64,
    pub messages: u64,
    pub messages_per_second: f64,
    pub megabytes_per_second: f64,
    pub latency_us: Option<Latency>,
    /// Of a send, where `latency_us` is of the whole way to a consumer.
    #[serde(default)]
    pub answer_latency_us: Option<Latency>,
    #[serde(default)]
    percentiles: Vec<Percentile>,
    /// The parts that each request is made of.
    #[serde(default)]
    pub steps: Vec<Step>,
    #[serde(default)]
    pub facts: Vec<Fact>,
    #[serde(default)]
    pub lag: Option<u64>,
    #[serde(default)]
    pub machine: Option<Machine>,
    /// The rates that a ramp or a search has tried.
    #[serde(default)]
    pub rate_steps: Vec<RateStep>,
    #[serde(default)]
    pub errors: Vec<SavedError>,
    #[serde(default)]
    pub anomalies: Vec<SavedAnomaly>,
    pub cpu: CpuReport,
    #[serde(default)]
    pub per_second: Vec<Second>,
    #[serde(skip)]
    stem: String,
}

#[derive(Deserialize)]
pub struct SavedError {
    pub name: String,
    pub code: Option<i32>,
    pub count: u64,
    #[serde(default)]
    meaning: String,
    #[serde(default)]
    first_remark: String,
}

impl SavedError {
    /// What the first of them said; if it said nothing, what it means.
    pub fn said(&self) -> String {
        if self.first_remark.is_empty() { self.meaning.clone() } else { self.first_remark.clone() }
    }
}

#[derive(Deserialize)]
pub struct SavedAnomaly {
    pub what: String,
    pub count: u64,
}

/// One setting, and its value in each run that has it.
pub struct Setting {
    pub name: String,
    pub values: Vec<Option<String>>,
}

/// These tell one run from another and differ always, so they say nothing about what was measured.
const IDENTITIES: [&str; 2] = ["run", "server_pid"];

impl Setting {
    pub fn differs(&self) -> bool {
        self.values.iter().any(|value| *value != self.values[0])
    }
}

impl SavedRun {
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(|source| Error::File { path: PathBuf::from(path), source })?;
        let mut run: Self = serde_json::from_slice(&bytes)
            .map_err(|source| Error::NotAResult { path: PathBuf::from(path), source })?;
        run.stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(run)
    }

    pub fn name(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.stem)
    }

    pub fn server(&self) -> String {
        format!("{} ({})", self.server.version_description, self.server.version)
    }

    /// The latency curve; of an old result, what its summary has of it.
    pub fn curve(&self) -> Vec<Percentile> {
        match &self.latency_us {
            Some(latency) if self.percentiles.is_empty() => [
                (50.0, latency.p50),
                (90.0, latency.p90),
                (99.0, latency.p99),
                (99.9, latency.p999),
                (100.0, latency.max),
            ]
            .map(|(percentile, us)| Percentile { percentile, us })
            .into(),
            _ => self.percentiles.clone(),
        }
    }

    pub fn failures(&self) -> String {
        let mut lines: Vec<String> = self
            .errors
            .iter()
            .map(|error| {
                let code = error.code.map_or(String::new(), |code| format!(" ({code})"));
                format!("{} {}{code}", error.count, error.name)
            })
            .collect();
        lines.extend(self.anomalies.iter().map(|anomaly| format!("{} {}", anomaly.count, anomaly.what)));
        if lines.is_empty() { String::from("none") } else { lines.join(", ") }
    }

    /// The settings of all these runs, in the order of the command line. What no run has set is left out.
    pub fn settings(runs: &[Self]) -> Vec<Setting> {
        let mut settings: Vec<Setting> = Vec::new();
        for (index, run) in runs.iter().enumerate() {
            flatten("", &run.settings, &mut |name, value| {
                if IDENTITIES.contains(&name) {
                    return;
                }
                let at = settings.iter().position(|setting| setting.name == name).unwrap_or_else(|| {
                    settings.push(Setting { name: name.to_owned(), values: vec![None; runs.len()] });
                    settings.len() - 1
                });
                settings[at].values[index] = Some(value);
            });
        }
        settings
    }
}

/// Groups are an accident of how arguments are shared between subcommands, so only the last name is kept.
fn flatten(name: &str, value: &Value, found: &mut impl FnMut(&str, String)) {
    match value {
        Value::Null => {}
        Value::Object(fields) => fields.iter().for_each(|(name, value)| flatten(name, value, found)),
        Value::Array(items) if items.is_empty() => {}
        Value::String(text) => found(name, text.clone()),
        other => found(name, other.to_string()),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A result with this rate and these settings, whose latencies are around `us`.
    pub fn saved(name: &str, rate: f64, us: f64, settings: Value) -> SavedRun {
        let mut run: SavedRun = serde_json::from_value(serde_json::json!({
            "command": "produce", "tool_version": "0.1.0", "label": name, "settings": settings,
            "server": {"topic": "T", "broker": "b", "address": "127.0.0.1:9", "queues": 8, "version": 499,
                "version_description": "V5_3_3"},
            "started_at_ms": 1_795_170_358_290u64, "seconds": 2.0, "messages": (rate * 2.0) as u64,
            "messages_per_second": rate, "megabytes_per_second": rate / 1e4,
            "latency_us": {"count": 9, "mean": us, "p50": us, "p90": us * 2.0, "p99": us * 4.0, "p999": us * 8.0,
                "max": us * 16.0},
            "cpu": {"client_seconds": 1.0, "client_us_per_message": 1.0, "server_seconds": null,
                "server_us_per_message": null},
        }))
        .unwrap();
        run.per_second = (0..2)
            .map(|at_s| Second {
                at_s,
                messages: rate as u64,
                p50_us: us,
                p99_us: us * 4.0,
                ..Second::default()
            })
            .collect();
        run
    }

    #[test]
    fn settings_of_different_runs_are_laid_side_by_side() {
        let one =
            saved("a", 1.0, 1.0, serde_json::json!({"load": {"connections": 8, "rate": null}, "pids": []}));
        let two = saved("b", 1.0, 1.0, serde_json::json!({"load": {"connections": 8, "rate": 100.0}}));
        let settings = SavedRun::settings(&[one, two]);
        let rows: Vec<_> =
            settings.iter().map(|setting| (setting.name.as_str(), setting.differs())).collect();
        assert_eq!(rows, [("connections", false), ("rate", true)]);
        assert_eq!(settings[1].values, [None, Some(String::from("100.0"))]);
    }

    #[test]
    fn an_old_result_still_has_a_curve() {
        let run = saved("a", 1.0, 10.0, Value::Null);
        assert_eq!(run.curve().len(), 5);
        assert_eq!(run.curve()[2], Percentile { percentile: 99.0, us: 40.0 });
    }
}
