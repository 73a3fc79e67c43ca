//! The plots of a page, each with a line for every run.

use std::fmt::Write as _;

use super::plot::{Axis, Line, svg};
use super::{escape, legend, plot};
use crate::compare::decimal;
use crate::ramp::RateStep;
use crate::report::Latency;
use crate::saved_run::SavedRun;

const WIDE: (u32, u32) = (880, 400);
const HALF: (u32, u32) = (520, 300);

pub fn percentiles(html: &mut String, runs: &[SavedRun]) {
    let curves = lines(runs, |run| {
        let end = resolution(run);
        run.curve().iter().map(|point| (point.percentile.min(end), point.us)).collect()
    });
    if curves.is_empty() {
        return;
    }
    html.push_str(
        "<h2>Latency by percentile</h2>\n<p>So many percent of all answers came within this time. Lower is better; \
         a line ends at its slowest answer.</p>\n",
    );
    html.push_str(&legend(runs.iter().map(SavedRun::name)));
    let x = Axis::percentiles(runs.iter().map(resolution).fold(99.0, f64::max));
    html.push_str(&svg(WIDE, "Latency by percentile", &x, &Axis::latency(heights(&curves)), &curves));
}

/// What a ramp or a search has tried: what each rate did to latency, and how much of it was answered.
pub fn rate_steps(html: &mut String, runs: &[SavedRun]) {
    if runs.iter().all(|run| run.rate_steps.is_empty()) {
        return;
    }
    let by_rate = |of: fn(&RateStep) -> Option<f64>| {
        lines(runs, |run| {
            let mut points: Vec<(f64, f64)> = run
                .rate_steps
                .iter()
                .filter_map(|step| Some((step.rate.unwrap_or(step.messages_per_second), of(step)?)))
                .collect();
            points.sort_by(|one, other| one.0.total_cmp(&other.0));
            points
        })
    };
    let p99 = by_rate(|step| step.latency_us.as_ref().map(|latency| latency.p99));
    let p999 = by_rate(|step| step.latency_us.as_ref().map(|latency| latency.p999));
    let answered = by_rate(|step| Some(step.messages_per_second));
    let highest =
        p99.iter().chain(&answered).flat_map(|line| &line.points).map(|point| point.0).fold(1.0, f64::max);
    html.push_str(
        "<h2>Latency by rate</h2>\n<p>Each point is one rate that was kept for a while, with latency counted from when \
         a send was due. Where the line turns up, the server has reached its limit.</p>\n",
    );
    html.push_str(&legend(runs.iter().map(SavedRun::name)));
    html.push_str("<div class=\"pair\">\n");
    for (title, lines) in [("99 % latency", &p99), ("99.9 % latency", &p999)] {
        let _ = write!(html, "<div><p>{title}</p>");
        let x = Axis::numbers("messages per second asked for", highest);
        html.push_str(&svg(HALF, title, &x, &Axis::latency(heights(lines)), lines));
        html.push_str("</div>\n");
    }
    html.push_str("<div><p>Messages per second answered</p>");
    let x = Axis::numbers("messages per second asked for", highest);
    let most = heights(&answered).fold(1.0, f64::max);
    html.push_str(&svg(HALF, "Answered", &x, &Axis::numbers("", most), &answered));
    html.push_str("</div>\n</div>\n");
    for run in runs.iter().filter(|run| !run.rate_steps.is_empty()) {
        step_table(html, run);
    }
}

fn step_table(html: &mut String, run: &SavedRun) {
    let _ = writeln!(
        html,
        "<details><summary>The rates of {}</summary>\n<div class=\"wide\"><table><thead><tr><th>asked for</th>\
         <th>answered</th><th>50 %</th><th>99 %</th><th>99.9 %</th><th>failures</th><th></th></tr></thead><tbody>",
        escape(run.name())
    );
    for step in &run.rate_steps {
        let at = |of: fn(&Latency) -> f64| {
            step.latency_us.as_ref().map_or(String::from("-"), |latency| plot::duration(of(latency)))
        };
        let verdict = match (step.keeps_up, step.holds) {
            (false, _) => "falls behind",
            (true, Some(false)) => "too slow",
            (true, Some(true)) => "holds",
            (true, None) => "",
        };
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"text\">{verdict}</td></tr>",
            step.rate.map_or(String::from("all it takes"), decimal),
            decimal(step.messages_per_second),
            at(|latency| latency.p50),
            at(|latency| latency.p99),
            at(|latency| latency.p999),
            step.failures
        );
    }
    html.push_str("</tbody></table></div></details>\n");
}

pub fn over_time(html: &mut String, runs: &[SavedRun]) {
    let seconds = |of: fn(&crate::tally::Second) -> Option<f64>| {
        lines(runs, |run| {
            let known =
                run.per_second.iter().filter_map(|second| Some((second.at_s as f64 + 0.5, of(second)?)));
            known.collect()
        })
    };
    let rates = seconds(|second| Some(second.messages as f64));
    if rates.is_empty() {
        return;
    }
    let last = runs.iter().map(|run| run.per_second.len()).max().unwrap_or(1) as f64;
    html.push_str("<h2>Over time</h2>\n");
    html.push_str(&legend(runs.iter().map(SavedRun::name)));
    html.push_str("<div class=\"pair\">\n");
    let mut one = |title: &str, y: Axis, lines: &[Line]| {
        let _ = write!(html, "<div><p>{title}</p>");
        html.push_str(&svg(HALF, title, &Axis::seconds(last), &y, lines));
        html.push_str("</div>\n");
    };
    let counts = |lines: &[Line]| Axis::numbers("", heights(lines).fold(1.0, f64::max));
    one("Messages in each second", counts(&rates), &rates);
    let tails = seconds(|second| (second.p99_us > 0.0).then_some(second.p99_us));
    if !tails.is_empty() {
        one("99 % latency of each second", Axis::latency(heights(&tails)), &tails);
    }
    // These two only where there is something to see.
    let failures = seconds(|second| Some(second.failures as f64));
    if heights(&failures).any(|count| count > 0.0) {
        one("Failures in each second", counts(&failures), &failures);
    }
    let lags = seconds(|second| second.lag.map(|lag| lag as f64));
    if heights(&lags).any(|count| count > 0.0) {
        one("Messages that consumers are behind", counts(&lags), &lags);
    }
    html.push_str("</div>\n");
}

fn lines(runs: &[SavedRun], points: impl Fn(&SavedRun) -> Vec<(f64, f64)>) -> Vec<Line> {
    runs.iter()
        .enumerate()
        .map(|(series, run)| Line { series, name: run.name().to_owned(), points: points(run) })
        .filter(|line| !line.points.is_empty())
        .collect()
}

/// The highest percentile that this many answers say anything about: beyond it there is only the slowest one.
fn resolution(run: &SavedRun) -> f64 {
    run.latency_us.as_ref().map_or(99.0, |latency| 100.0 - 100.0 / latency.count.max(1) as f64)
}

fn heights(lines: &[Line]) -> impl Iterator<Item = f64> + Clone {
    lines.iter().flat_map(|line| line.points.iter().map(|point| point.1))
}
