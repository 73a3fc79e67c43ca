//! What a sweep has found: every run of every cell, and of each cell the medians with their spread.

use std::collections::BTreeMap;
use std::path::Path;

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::clock::wall_ms;
use crate::machine::{Machine, file_system};
use crate::report::{ErrorLine, Percentile, errors, percentiles};
use crate::sweep::broker::BrokerRun;
use crate::sweep::engine::EngineRun;
use crate::sweep::figures::{self, FIGURES, Figure, Spread, Values};
use crate::sweep::matrix::Cell;
use crate::sweep::scenario::Scenario;
use crate::tally::Tally;
use crate::verify::Verdict;

pub struct SweepResult {
    pub title: String,
    pub about: String,
    pub file: String,
    pub scenario: String,
    pub is_engine: bool,
    /// What the server says of itself, and what it claims to be towards clients.
    pub server: Option<String>,
    pub machine: Machine,
    pub file_system: String,
    pub started_at_ms: u64,
    pub seconds: f64,
    pub rounds: u32,
    pub warmup_s: f64,
    pub duration_s: f64,
    pub is_complete: bool,
    pub axes: Vec<(String, Vec<String>)>,
    pub fixed: Vec<(String, String)>,
    pub cells: Vec<CellResult>,
}

pub struct CellResult {
    pub cell: Cell,
    pub runs: Vec<Run>,
    latency: Histogram<u64>,
}

#[derive(Serialize)]
pub struct Run {
    pub round: u32,
    /// Others that could run when it began.
    pub others_running: u64,
    #[serde(flatten)]
    pub values: Values,
    pub errors: Vec<ErrorLine>,
    pub anomalies: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verdict>,
}

/// A run that is just over.
pub struct Measurement {
    values: Values,
    latency: Histogram<u64>,
    errors: Vec<ErrorLine>,
    anomalies: BTreeMap<&'static str, u64>,
    verdict: Option<Verdict>,
    server: Option<String>,
}

impl Measurement {
    pub fn of_broker(run: BrokerRun) -> Self {
        Self {
            values: figures::of_broker(&run),
            errors: errors(&run.tally),
            anomalies: run.tally.anomalies.clone(),
            server: Some(format!("{} ({})", run.target.version_description, run.target.version)),
            verdict: run.verdict,
            latency: run.tally.latency,
        }
    }

    pub fn of_engine(run: &EngineRun) -> Self {
        Self {
            values: figures::of_engine(run),
            errors: Vec::new(),
            anomalies: BTreeMap::new(),
            server: None,
            verdict: None,
            latency: run.latency.clone(),
        }
    }

    /// One line for whoever watches.
    pub fn text(&self) -> String {
        let mut parts = Vec::new();
        for figure in FIGURES.iter().filter(|figure| figure.is_main) {
            if let Some(value) = self.values.get(figure.key) {
                parts.push(match figure.key {
                    "messages_per_second" => format!("{value:.0}/s"),
                    _ => format!("{} {}", figure.name, figure.text(*value)),
                });
            }
        }
        parts.extend(self.errors.iter().map(|error| format!("{} {}", error.count, error.name)));
        parts.extend(self.anomalies.iter().map(|(what, count)| format!("{count} {what}")));
        if let Some(verdict) = &self.verdict {
            parts.push(match is_kept(verdict) {
                true => format!("{} verified", verdict.acknowledged),
                false => format!("NOT VERIFIED\n{}", verdict.text()),
            });
        }
        parts.join(", ")
    }
}

fn is_kept(verdict: &Verdict) -> bool {
    verdict.clean && verdict.complete
}

impl SweepResult {
    pub fn new(scenario: &Scenario, cells: &[Cell], server: Option<&str>, data: &Path) -> Self {
        let chosen = |key: &str, value: &String| {
            cells.iter().any(|cell| cell.place.iter().any(|(of, is)| of == key && is == value))
        };
        let cases = scenario.cases.iter().map(|case| case.name.clone()).collect::<Vec<_>>();
        let case_axis = (!cases.is_empty()).then(|| (String::from("case"), cases));
        let axes = scenario.axes().map(|axis| (axis.key.clone(), axis.values.clone()));
        let mut axes: Vec<(String, Vec<String>)> = case_axis.into_iter().chain(axes).collect();
        // Values that only a case has are on the axis as well; those that --only leaves out are not.
        for (key, values) in &mut axes {
            let placed = cells.iter().flat_map(|cell| &cell.place).filter(|(of, _)| of == key);
            for (_, value) in placed {
                if !values.contains(value) {
                    values.push(value.clone());
                }
            }
            values.retain(|value| chosen(key, value));
        }
        let fixed = scenario.settings.iter().filter(|setting| !setting.is_axis);
        Self {
            title: scenario.title.clone(),
            about: scenario.about.clone(),
            file: scenario.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            scenario: scenario.text.clone(),
            is_engine: scenario.is_engine,
            server: server.map(String::from),
            machine: Machine::here(),
            file_system: file_system(data),
            started_at_ms: wall_ms(),
            seconds: 0.0,
            rounds: scenario.rounds,
            warmup_s: scenario.warmup.as_secs_f64(),
            duration_s: scenario.duration.as_secs_f64(),
            is_complete: false,
            axes,
            fixed: fixed.map(|setting| (setting.key.clone(), setting.values[0].clone())).collect(),
            cells: cells
                .iter()
                .map(|cell| CellResult {
                    cell: cell.clone(),
                    runs: Vec::new(),
                    latency: Tally::default().latency,
                })
                .collect(),
        }
    }

    pub fn add(&mut self, cell: usize, round: u32, others_running: u64, measured: Measurement) {
        let Measurement { values, latency, errors, anomalies, verdict, server } = measured;
        if let Some(claimed) = server {
            let own = self.server.get_or_insert_with(String::new);
            if !own.contains(&claimed) {
                *own = format!("{own}{}{claimed}", if own.is_empty() { "" } else { ", for clients " });
            }
        }
        let cell = &mut self.cells[cell];
        cell.latency.add(&latency).expect("all have the same bounds");
        cell.runs.push(Run { round, others_running, values, errors, anomalies, verify: verdict });
    }

    pub fn finish(&mut self, is_complete: bool) {
        self.is_complete = is_complete;
        self.seconds = wall_ms().saturating_sub(self.started_at_ms) as f64 / 1e3;
    }

    pub fn is_empty(&self) -> bool {
        self.cells.iter().all(|cell| cell.runs.is_empty())
    }

    /// Everything measured, and everything acknowledged found again.
    pub fn is_clean(&self) -> bool {
        self.is_complete && self.cells.iter().all(|cell| cell.verdict() != Verified::Failed)
    }

    /// Figures that any cell has, in the order of the table.
    pub fn figures(&self) -> Vec<&'static Figure> {
        FIGURES
            .iter()
            .filter(|figure| {
                let values = || self.cells.iter().flat_map(|cell| &cell.runs).map(|run| &run.values);
                // A column of zeros says nothing.
                let is_zero = values().all(|values| values.get(figure.key).is_none_or(|value| *value == 0.0));
                let is_told = figure.key != "failures" || !is_zero;
                is_told && values().any(|values| values.contains_key(figure.key))
            })
            .collect()
    }

    /// The most that ran beside any run when it began.
    pub fn others_running(&self) -> u64 {
        let runs = self.cells.iter().flat_map(|cell| &cell.runs);
        runs.map(|run| run.others_running).max().unwrap_or(0)
    }

    pub fn json(&self) -> String {
        let cells: Vec<Value> = self.cells.iter().map(CellResult::json).collect();
        let text = |(key, value): &(String, String)| (key.clone(), Value::from(value.as_str()));
        let axes: Vec<Value> =
            self.axes.iter().map(|(key, values)| json!({"key": key, "values": values})).collect();
        let result = json!({
            "command": "sweep",
            "tool_version": env!("CARGO_PKG_VERSION"),
            "title": self.title,
            "about": self.about,
            "file": self.file,
            "scenario": self.scenario,
            "subject": if self.is_engine { "engine" } else { "broker" },
            "server": self.server,
            "machine": self.machine,
            "file_system": self.file_system,
            "started_at_ms": self.started_at_ms,
            "seconds": self.seconds,
            "rounds": self.rounds,
            "warmup_s": self.warmup_s,
            "duration_s": self.duration_s,
            "complete": self.is_complete,
            "axes": axes,
            "fixed": self.fixed.iter().map(text).collect::<Map<_, _>>(),
            "cells": cells,
        });
        serde_json::to_string_pretty(&result).expect("a result is plain data")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    NotAsked,
    Kept,
    Failed,
}

impl CellResult {
    pub fn spread(&self, figure: &Figure) -> Option<Spread> {
        figure.spread(self.runs.iter().map(|run| &run.values))
    }

    pub fn verdict(&self) -> Verified {
        let mut verdicts = self.runs.iter().filter_map(|run| run.verify.as_ref()).peekable();
        if verdicts.peek().is_none() {
            return Verified::NotAsked;
        }
        if verdicts.all(is_kept) { Verified::Kept } else { Verified::Failed }
    }

    /// Of all rounds together.
    pub fn curve(&self) -> Vec<Percentile> {
        percentiles(&self.latency)
    }

    pub fn latencies(&self) -> u64 {
        self.latency.len()
    }

    pub fn value(&self, key: &str) -> Option<&str> {
        self.cell.place.iter().find(|(of, _)| of == key).map(|(_, value)| value.as_str())
    }

    fn json(&self) -> Value {
        let place: Map<String, Value> =
            self.cell.place.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
        let mut settings = Map::new();
        for (section, key, value) in &self.cell.settings {
            let group = settings.entry(section.name()).or_insert_with(|| json!({}));
            group[key] = Value::from(value.as_str());
        }
        let mut figures = Map::new();
        for figure in &FIGURES {
            if let Some(Spread { median, low, high }) = self.spread(figure) {
                figures.insert(figure.key.into(), json!({"median": median, "low": low, "high": high}));
            }
        }
        json!({
            "name": self.cell.name,
            "place": place,
            "settings": settings,
            "figures": figures,
            "runs": self.runs,
            "percentiles": self.curve(),
        })
    }
}
