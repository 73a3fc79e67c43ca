//! `rmq-bench report`: results as one HTML page that needs nothing else, to look at and to pass on.

mod plot;

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;

use crate::compare::decimal;
use crate::error::Error;
use crate::page::plot::{Axis, COLORS, Line, svg};
use crate::report::{Latency, write_file};
use crate::saved_run::SavedRun;

const STYLE: &str = include_str!("page/style.css");

#[derive(Args, Clone, Debug)]
pub struct ReportArgs {
    /// The page to write
    #[arg(value_name = "OUT.html")]
    pub page: PathBuf,
    /// Results, at most eight, that `--json` wrote
    #[arg(value_name = "A.json", required = true)]
    pub results: Vec<PathBuf>,
}

pub fn exec(args: &ReportArgs) -> Result<bool, Error> {
    // Page and results trade places easily on a command line; a result must not be written over.
    if args.page.extension().is_some_and(|extension| extension == "json") {
        return Err(Error::Usage(format!("{} is the page to write; name it *.html", args.page.display())));
    }
    if args.results.len() > COLORS.len() {
        return Err(Error::Usage(format!("at most {} results can be told apart", COLORS.len())));
    }
    let runs = args.results.iter().map(|path| SavedRun::read(path)).collect::<Result<Vec<_>, _>>()?;
    write_file(&args.page, &page(&runs))?;
    Ok(true)
}

fn page(runs: &[SavedRun]) -> String {
    let names: Vec<&str> = runs.iter().map(SavedRun::name).collect();
    let title = escape(&names.join(" and "));
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title} - rmq-bench</title>\n\
         <style>\n{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    );
    results(&mut html, runs);
    plots(&mut html, runs);
    settings(&mut html, runs);
    html.push_str("</body></html>");
    html
}

fn results(html: &mut String, runs: &[SavedRun]) {
    html.push_str("<div class=\"wide\"><table><thead><tr><th></th>");
    for index in 0..runs.len() {
        let _ = write!(html, "<th>{}</th>", named(runs, index));
    }
    html.push_str("</tr></thead><tbody>\n");
    let latency = |run: &SavedRun, of: fn(&Latency) -> f64| {
        run.latency_us.as_ref().map_or(String::from("-"), |latency| plot::duration(of(latency)))
    };
    let cpu = |us: Option<f64>| us.map_or(String::from("-"), |us| format!("{us:.2} us"));
    row(html, runs, "messages per second", |run| decimal(run.messages_per_second));
    row(html, runs, "MB per second", |run| decimal(run.megabytes_per_second));
    row(html, runs, "latency 50 %", |run| latency(run, |latency| latency.p50));
    row(html, runs, "latency 90 %", |run| latency(run, |latency| latency.p90));
    row(html, runs, "latency 99 %", |run| latency(run, |latency| latency.p99));
    row(html, runs, "latency 99.9 %", |run| latency(run, |latency| latency.p999));
    row(html, runs, "latency, highest", |run| latency(run, |latency| latency.max));
    if runs.iter().any(|run| run.answer_latency_us.is_some()) {
        let answer = |run: &SavedRun, of: fn(&Latency) -> f64| {
            run.answer_latency_us.as_ref().map_or(String::from("-"), |latency| plot::duration(of(latency)))
        };
        row(html, runs, "send answered, 50 %", |run| answer(run, |latency| latency.p50));
        row(html, runs, "send answered, 99 %", |run| answer(run, |latency| latency.p99));
    }
    row(html, runs, "server CPU per message", |run| cpu(run.cpu.server_us_per_message));
    row(html, runs, "client CPU per message", |run| cpu(Some(run.cpu.client_us_per_message)));
    row(html, runs, "messages", |run| decimal(run.messages as f64));
    row(html, runs, "measured for", |run| format!("{:.1} s", run.seconds));
    row(html, runs, "failures", SavedRun::failures);
    row(html, runs, "measurement", |run| format!("{} (rmq-bench {})", run.command, run.tool_version));
    row(html, runs, "server", SavedRun::server);
    row(html, runs, "broker, queues", |run| {
        format!("{} at {}, {}", run.server.broker, run.server.address, run.server.queues)
    });
    row(html, runs, "started, UTC", |run| utc(run.started_at_ms / 1000));
    html.push_str("</tbody></table></div>\n");
}

fn row(html: &mut String, runs: &[SavedRun], name: &str, value: impl Fn(&SavedRun) -> String) {
    let _ = write!(html, "<tr><td>{name}</td>");
    for run in runs {
        let _ = write!(html, "<td>{}</td>", escape(&value(run)));
    }
    html.push_str("</tr>\n");
}

fn plots(html: &mut String, runs: &[SavedRun]) {
    let lines = |points: fn(&SavedRun) -> Vec<(f64, f64)>| -> Vec<Line> {
        runs.iter()
            .zip(COLORS)
            .map(|(run, color)| Line { color, points: points(run) })
            .filter(|line| !line.points.is_empty())
            .collect()
    };
    let curves = lines(|run| {
        let end = resolution(run);
        run.curve().iter().map(|point| (point.percentile.min(end), point.us)).collect()
    });
    if !curves.is_empty() {
        let legend = legend(runs);
        let _ = write!(
            html,
            "<h2>Latency by percentile</h2>\n<p>So many percent of all answers came within this time. Lower is better; \
             a line ends at its slowest answer.</p>\n{legend}\n"
        );
        let x = Axis::percentiles(runs.iter().map(resolution).fold(99.0, f64::max));
        html.push_str(&svg((1040, 420), &x, &Axis::latency(values(&curves)), &curves));
    }
    let rates = lines(|run| {
        run.per_second.iter().map(|second| (second.at_s as f64 + 0.5, second.messages as f64)).collect()
    });
    let tails = lines(|run| {
        let timed = run.per_second.iter().filter(|second| second.max_us > 0.0 || second.p99_us > 0.0);
        timed.map(|second| (second.at_s as f64 + 0.5, second.p99_us)).collect()
    });
    if rates.is_empty() {
        return;
    }
    let last = runs.iter().map(|run| run.per_second.len()).max().unwrap_or(1) as f64;
    html.push_str("<h2>Over time</h2>\n");
    html.push_str(&legend(runs));
    html.push_str("<div class=\"pair\">\n<div><p>Messages in each second</p>");
    let highest = values(&rates).fold(1.0, f64::max);
    html.push_str(&svg((520, 300), &Axis::seconds(last), &Axis::counts(highest), &rates));
    html.push_str("</div>\n");
    if !tails.is_empty() {
        html.push_str("<div><p>99 % latency of each second</p>");
        html.push_str(&svg((520, 300), &Axis::seconds(last), &Axis::latency(values(&tails)), &tails));
        html.push_str("</div>\n");
    }
    html.push_str("</div>\n");
}

/// The highest percentile that this many answers say anything about: beyond it there is only the slowest one.
fn resolution(run: &SavedRun) -> f64 {
    run.latency_us.as_ref().map_or(99.0, |latency| 100.0 - 100.0 / latency.count.max(1) as f64)
}

fn values(lines: &[Line]) -> impl Iterator<Item = f64> + Clone {
    lines.iter().flat_map(|line| line.points.iter().map(|point| point.1))
}

fn legend(runs: &[SavedRun]) -> String {
    let mut html = String::from("<div class=\"legend\">");
    for index in 0..runs.len() {
        let _ = write!(html, "<span class=\"run\">{}</span>", named(runs, index));
    }
    html.push_str("</div>\n");
    html
}

fn named(runs: &[SavedRun], index: usize) -> String {
    let (color, name) = (COLORS[index], escape(runs[index].name()));
    format!(
        "<span class=\"swatch\" style=\"background:#{:02x}{:02x}{:02x}\"></span>{name}",
        color.0, color.1, color.2
    )
}

fn settings(html: &mut String, runs: &[SavedRun]) {
    html.push_str("<h2>Settings</h2>\n<div class=\"wide\"><table><thead><tr><th></th>");
    for index in 0..runs.len() {
        let _ = write!(html, "<th>{}</th>", named(runs, index));
    }
    html.push_str("</tr></thead><tbody>\n");
    for setting in SavedRun::settings(runs) {
        let class = if setting.differs() { " class=\"differs\"" } else { "" };
        let _ = write!(html, "<tr{class}><td>{}</td>", escape(&setting.name.replace('_', " ")));
        for value in &setting.values {
            let _ = write!(html, "<td>{}</td>", escape(value.as_deref().unwrap_or("-")));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// `2026-11-20 14:11:35`
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (mut year, mut day) = (1970, days);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let year_days = |year| if leap(year) { 366 } else { 365 };
    while day >= year_days(year) {
        day -= year_days(year);
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02} {:02}:{:02}:{:02}", day + 1, rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::saved_run::tests::saved;

    #[test]
    fn a_page_names_its_runs_and_needs_nothing_else() {
        let runs = [
            saved("Java <5.3>", 100_000.0, 400.0, serde_json::json!({"connections": 8, "body_size": 128})),
            saved("ours", 500_000.0, 100.0, serde_json::json!({"connections": 8, "body_size": 256})),
        ];
        let html = page(&runs);
        assert!(html.contains("Java &lt;5.3&gt;") && !html.contains("Java <5.3>"));
        assert_eq!(html.matches("<svg").count(), 3);
        assert_eq!(html.matches("</svg>").count(), 3);
        assert!(html.contains("<tr class=\"differs\"><td>body size</td><td>128</td><td>256</td></tr>"));
        assert!(html.contains("V5_3_3 (499)") && html.contains("500 000"));
        for outside in ["<script", "<link", "src=", "url(", "href="] {
            assert!(!html.contains(outside), "{outside}");
        }
    }

    #[test]
    fn a_run_without_latencies_or_seconds_has_a_page() {
        let mut run = saved("a", 10.0, 1.0, serde_json::json!({}));
        (run.latency_us, run.per_second) = (None, Vec::new());
        let html = page(&[run]);
        assert!(!html.contains("<svg") && html.ends_with("</body></html>"));
    }

    #[test]
    fn times_are_dates() {
        assert_eq!(utc(0), "1970-01-01 00:00:00");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(utc(1_767_225_599), "2025-12-31 23:59:59");
    }
}
