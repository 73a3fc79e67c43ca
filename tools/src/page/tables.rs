//! The tables of a page: figures, errors, settings, a column for each run.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{escape, named, plot, utc};
use crate::compare::decimal;
use crate::report::Latency;
use crate::saved_run::SavedRun;

pub fn results(html: &mut String, runs: &[SavedRun]) {
    open(html, runs, " class=\"figures\"");
    let latency = |run: &SavedRun, of: fn(&Latency) -> f64| {
        run.latency_us.as_ref().map_or(String::from("-"), |latency| plot::duration(of(latency)))
    };
    let cpu = |us: Option<f64>| us.map_or(String::from("-"), |us| format!("{us:.2} us"));
    row(html, runs, " class=\"key\"", "messages per second", |run| decimal(run.messages_per_second));
    row(html, runs, "", "MB per second", |run| decimal(run.megabytes_per_second));
    row(html, runs, "", "latency 50 %", |run| latency(run, |latency| latency.p50));
    row(html, runs, "", "latency 90 %", |run| latency(run, |latency| latency.p90));
    row(html, runs, " class=\"key\"", "latency 99 %", |run| latency(run, |latency| latency.p99));
    row(html, runs, "", "latency 99.9 %", |run| latency(run, |latency| latency.p999));
    row(html, runs, "", "latency, highest", |run| latency(run, |latency| latency.max));
    if runs.iter().any(|run| run.answer_latency_us.is_some()) {
        let answer = |run: &SavedRun, of: fn(&Latency) -> f64| {
            run.answer_latency_us.as_ref().map_or(String::from("-"), |latency| plot::duration(of(latency)))
        };
        row(html, runs, "", "send answered, 50 %", |run| answer(run, |latency| latency.p50));
        row(html, runs, "", "send answered, 99 %", |run| answer(run, |latency| latency.p99));
    }
    steps(html, runs);
    row(html, runs, "", "server CPU per message", |run| cpu(run.cpu.server_us_per_message));
    row(html, runs, "", "client CPU per message", |run| cpu(Some(run.cpu.client_us_per_message)));
    facts(html, runs);
    if runs.iter().any(|run| run.lag.is_some()) {
        row(html, runs, "", "consumers behind in the end", |run| {
            run.lag.map_or(String::from("-"), |lag| decimal(lag as f64))
        });
    }
    row(html, runs, "", "messages", |run| decimal(run.messages as f64));
    row(html, runs, "", "measured for", |run| format!("{:.1} s", run.seconds));
    row(html, runs, "", "failures", SavedRun::failures);
    html.push_str("</tbody><tbody>\n");
    row(html, runs, "", "measurement", |run| format!("{} (rmq-bench {})", run.command, run.tool_version));
    row(html, runs, "", "server", SavedRun::server);
    row(html, runs, "", "broker, queues", |run| {
        format!("{} at {}, {}", run.server.broker, run.server.address, run.server.queues)
    });
    if runs.iter().any(|run| run.machine.is_some()) {
        row(html, runs, "", "generator's machine", |run| {
            run.machine.as_ref().map_or(String::from("-"), crate::machine::Machine::text)
        });
    }
    row(html, runs, "", "started, UTC", |run| utc(run.started_at_ms / 1000));
    close(html);
}

/// What each request is made of, where it has several parts.
fn steps(html: &mut String, runs: &[SavedRun]) {
    for name in in_order(runs, |run| run.steps.iter().map(|step| step.name.as_str())) {
        for (share, of) in
            [("50 %", (|latency| latency.p50) as fn(&Latency) -> f64), ("99 %", |latency| latency.p99)]
        {
            row(html, runs, "", &format!("{name}, {share}"), |run| {
                let step = run.steps.iter().find(|step| step.name == name);
                step.map_or(String::from("-"), |step| plot::duration(of(&step.latency_us)))
            });
        }
    }
}

fn facts(html: &mut String, runs: &[SavedRun]) {
    for name in in_order(runs, |run| run.facts.iter().map(|fact| fact.name.as_str())) {
        row(html, runs, "", name, |run| {
            let fact = run.facts.iter().find(|fact| fact.name == name);
            fact.map_or(String::from("-"), |fact| {
                format!("{} {}", decimal(fact.value), fact.unit).trim().to_owned()
            })
        });
    }
}

/// Names that any run has, each once, in the order of the first run that has it.
fn in_order<'a, I: Iterator<Item = &'a str>>(
    runs: &'a [SavedRun],
    names: impl Fn(&'a SavedRun) -> I,
) -> Vec<&'a str> {
    let mut seen: Vec<&str> = Vec::new();
    for name in runs.iter().flat_map(names) {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

/// What went wrong, by response code or what else it was; nothing when nothing did.
pub fn errors(html: &mut String, runs: &[SavedRun]) {
    let mut rows: BTreeMap<String, (String, Vec<u64>)> = BTreeMap::new();
    for (index, run) in runs.iter().enumerate() {
        let errors = run.errors.iter().map(|error| {
            let code = error.code.map_or(String::new(), |code| format!(" ({code})"));
            (format!("{}{code}", error.name), error.said(), error.count)
        });
        let anomalies =
            run.anomalies.iter().map(|anomaly| (anomaly.what.clone(), String::new(), anomaly.count));
        for (name, said, count) in errors.chain(anomalies) {
            let row = rows.entry(name).or_insert_with(|| (String::new(), vec![0; runs.len()]));
            row.1[index] += count;
            if row.0.is_empty() {
                row.0 = said;
            }
        }
    }
    if rows.is_empty() {
        return;
    }
    html.push_str("<h2>Errors</h2>\n<div class=\"wide\"><table><thead><tr><th></th>");
    for (index, run) in runs.iter().enumerate() {
        let _ = write!(html, "<th>{}</th>", named(index, run.name()));
    }
    html.push_str("<th class=\"text\">first of them</th></tr></thead><tbody>\n");
    for (name, (said, counts)) in rows {
        let _ = write!(html, "<tr><td>{}</td>", escape(&name));
        for count in counts {
            let class = if count > 0 { " class=\"bad\"" } else { "" };
            let _ = write!(html, "<td{class}>{}</td>", grouped(count));
        }
        let _ = writeln!(html, "<td class=\"text\">{}</td></tr>", escape(&said));
    }
    close(html);
}

pub fn settings(html: &mut String, runs: &[SavedRun]) {
    html.push_str("<h2>Settings</h2>\n");
    if runs.len() > 1 {
        html.push_str("<p>What differs between the runs is marked.</p>\n");
    }
    open(html, runs, "");
    for setting in SavedRun::settings(runs) {
        let class = if setting.differs() { " class=\"differs\"" } else { "" };
        let _ = write!(html, "<tr{class}><td>{}</td>", escape(&setting.name.replace('_', " ")));
        for value in &setting.values {
            let _ = write!(html, "<td>{}</td>", escape(value.as_deref().unwrap_or("-")));
        }
        html.push_str("</tr>\n");
    }
    close(html);
}

fn open(html: &mut String, runs: &[SavedRun], body: &str) {
    html.push_str("<div class=\"wide\"><table><thead><tr><th></th>");
    for (index, run) in runs.iter().enumerate() {
        let _ = write!(html, "<th>{}</th>", named(index, run.name()));
    }
    let _ = writeln!(html, "</tr></thead><tbody{body}>");
}

fn row(html: &mut String, runs: &[SavedRun], class: &str, name: &str, value: impl Fn(&SavedRun) -> String) {
    let _ = write!(html, "<tr{class}><td>{}</td>", escape(name));
    for run in runs {
        let _ = write!(html, "<td>{}</td>", escape(&value(run)));
    }
    html.push_str("</tr>\n");
}

fn close(html: &mut String) {
    html.push_str("</tbody></table></div>\n");
}

fn grouped(count: u64) -> String {
    if count < 100 { count.to_string() } else { decimal(count as f64) }
}
