//! A sweep as one HTML page: a heat table for each figure, a plot along each axis, percentile curves side by side.

use std::fmt::Write as _;

use crate::page::plot::{Axis, Line, SERIES_MAX, duration, svg};
use crate::page::{CLOSING, escape, legend, opening, utc};
use crate::sweep::figures::{Figure, Unit};
use crate::sweep::result::{CellResult, SweepResult, Verified};
use crate::sweep::table::quietness;

const HALF: (u32, u32) = (520, 300);
/// Curves need room, but not more of them than a reader can compare.
const CURVES_MAX: usize = 24;

pub fn page(result: &SweepResult) -> String {
    let mut html = opening(&result.title);
    facts(&mut html, result);
    let layout = Layout::new(result);
    html.push_str("<h2>At a glance</h2>\n");
    let rounds = match result.rounds {
        1 => String::from("One round."),
        rounds => format!("Medians of {rounds} rounds; below them the lowest and the highest."),
    };
    let _ = writeln!(html, "<p>{rounds} The deeper the colour, the better.</p>");
    html.push_str("<div class=\"heats\">\n");
    for figure in main_figures(result) {
        heat_table(&mut html, result, &layout, figure);
    }
    html.push_str("</div>\n");
    let mut is_first = true;
    for (key, values) in result.axes.iter().rev() {
        if values.len() > 1 {
            along(&mut html, result, is_first, key, values);
            is_first = false;
        }
    }
    curves(&mut html, &layout);
    all_figures(&mut html, result);
    let _ = write!(
        html,
        "<h2>The scenario</h2>\n<p>{}, as it was run.</p>\n<pre>{}</pre>\n",
        escape(&result.file),
        escape(result.scenario.trim())
    );
    html.push_str(CLOSING);
    html
}

fn main_figures(result: &SweepResult) -> impl Iterator<Item = &'static Figure> {
    result.figures().into_iter().filter(|figure| figure.is_main)
}

fn facts(html: &mut String, result: &SweepResult) {
    if !result.about.is_empty() {
        let _ = writeln!(html, "<p>{}</p>", escape(&result.about));
    }
    let verified = match result.cells.iter().map(CellResult::verdict).fold(Verified::NotAsked, worse) {
        Verified::NotAsked => None,
        Verified::Kept => Some("everything acknowledged was read back and found intact"),
        Verified::Failed => Some("NOT everything acknowledged was found intact"),
    };
    let single =
        result.axes.iter().filter(|(_, values)| values.len() == 1).map(|(key, values)| (key, &values[0]));
    let fixed: Vec<String> = single
        .chain(result.fixed.iter().map(|(key, value)| (key, value)))
        .map(|(key, value)| format!("{key} = {value}"))
        .collect();
    let subject = match &result.server {
        Some(server) => server.clone(),
        None => String::from("the engine alone, without network"),
    };
    let rows = [
        ("measured", Some(subject)),
        ("on", Some(result.machine.text())),
        ("disk", Some(result.file_system.clone())),
        ("noise", Some(quietness(result.others_running()))),
        ("fixed", (!fixed.is_empty()).then(|| fixed.join(", "))),
        (
            "each run",
            Some(format!(
                "{} s after {} s of warm-up, on an empty store",
                result.duration_s, result.warmup_s
            )),
        ),
        ("verified", verified.map(String::from)),
        (
            "complete",
            (!result.is_complete).then(|| String::from("NO: it was ended before every cell had its rounds")),
        ),
        (
            "when",
            Some(format!(
                "{} UTC, {:.0} s in all; rmq-bench {}",
                utc(result.started_at_ms / 1000),
                result.seconds,
                env!("CARGO_PKG_VERSION")
            )),
        ),
    ];
    html.push_str("<table><tbody>\n");
    for (name, text) in rows {
        if let Some(text) = text {
            let class = if text.contains("NOT") || text.starts_with("NO:") {
                " class=\"text bad\""
            } else {
                " class=\"text\""
            };
            let _ = writeln!(html, "<tr><td>{name}</td><td{class}>{}</td></tr>", escape(&text));
        }
    }
    html.push_str("</tbody></table>\n");
}

fn worse(one: Verified, other: Verified) -> Verified {
    match (one, other) {
        (Verified::Failed, _) | (_, Verified::Failed) => Verified::Failed,
        (Verified::Kept, _) | (_, Verified::Kept) => Verified::Kept,
        _ => Verified::NotAsked,
    }
}

/// The last axis across, every combination of the others down.
struct Layout<'a> {
    columns: Vec<String>,
    column_key: String,
    row_keys: Vec<String>,
    rows: Vec<(Vec<String>, Vec<Option<&'a CellResult>>)>,
}

impl<'a> Layout<'a> {
    fn new(result: &'a SweepResult) -> Self {
        let varied: Vec<&(String, Vec<String>)> = varied(result).collect();
        let Some((&(column_key, columns), others)) = varied.split_last() else {
            let rows = vec![(Vec::new(), result.cells.iter().map(Some).collect())];
            return Self {
                columns: vec![String::new()],
                column_key: String::new(),
                row_keys: Vec::new(),
                rows,
            };
        };
        let row_keys: Vec<String> = others.iter().map(|(key, _)| key.clone()).collect();
        let mut rows: Vec<(Vec<String>, Vec<Option<&CellResult>>)> = Vec::new();
        for cell in &result.cells {
            let place = place_without(result, cell, column_key);
            let at = rows.iter().position(|(other, _)| *other == place).unwrap_or_else(|| {
                rows.push((place, vec![None; columns.len()]));
                rows.len() - 1
            });
            let column =
                cell.value(column_key).and_then(|value| columns.iter().position(|other| other == value));
            if let Some(column) = column {
                rows[at].1[column] = Some(cell);
            }
        }
        Self { columns: columns.clone(), column_key: column_key.clone(), row_keys, rows }
    }
}

/// An axis of which `--only` has left one value needs no room in tables and legends.
fn varied(result: &SweepResult) -> impl Iterator<Item = &(String, Vec<String>)> {
    result.axes.iter().filter(|(_, values)| values.len() > 1)
}

/// Where a cell is on all axes but one.
fn place_without(result: &SweepResult, cell: &CellResult, key: &str) -> Vec<String> {
    let others = varied(result).filter(|(of, _)| of != key);
    others.map(|(of, _)| cell.value(of).unwrap_or("-").to_owned()).collect()
}

fn heat_table(html: &mut String, result: &SweepResult, layout: &Layout<'_>, figure: &Figure) {
    let values: Vec<f64> =
        result.cells.iter().filter_map(|cell| cell.spread(figure)).map(|spread| spread.median).collect();
    let (low, high) =
        values.iter().fold((f64::MAX, 0f64), |(low, high), &value| (low.min(value), high.max(value)));
    let _ = write!(
        html,
        "<div class=\"wide\"><h3>{}</h3>\n<table class=\"heat\"><thead><tr>",
        escape(&heading(figure))
    );
    for key in &layout.row_keys {
        let _ = write!(html, "<th class=\"text\">{}</th>", escape(key));
    }
    if layout.row_keys.is_empty() {
        html.push_str("<th></th>");
    }
    for (index, column) in layout.columns.iter().enumerate() {
        let key = if index == 0 { format!("{} ", layout.column_key) } else { String::new() };
        let _ = write!(html, "<th><small>{}</small> {}</th>", escape(&key), escape(column));
    }
    html.push_str("</tr></thead><tbody>\n");
    for (place, cells) in &layout.rows {
        html.push_str("<tr>");
        for value in place {
            let _ = write!(html, "<td class=\"text\">{}</td>", escape(value));
        }
        if place.is_empty() {
            html.push_str("<td class=\"text\"></td>");
        }
        for cell in cells {
            let Some(spread) = cell.and_then(|cell| cell.spread(figure)) else {
                html.push_str("<td>-</td>");
                continue;
            };
            let heat = heat(spread.median, low, high, figure.is_better_higher);
            let _ = write!(
                html,
                "<td style=\"background:rgba(var(--heat),{:.2})\">{}",
                heat,
                said(figure, spread.median)
            );
            if result.rounds > 1 {
                let _ = write!(
                    html,
                    "<small>{}..{}</small>",
                    said(figure, spread.low),
                    said(figure, spread.high)
                );
            }
            html.push_str("</td>");
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
}

fn heading(figure: &Figure) -> String {
    match figure.unit {
        Unit::Micros => format!("Latency {}", figure.name),
        _ if figure.key == "messages_per_second" => String::from("Messages per second"),
        _ => figure.name.to_owned(),
    }
}

/// How good a value is among the others, on a logarithmic scale: factors matter, not differences.
fn heat(value: f64, low: f64, high: f64, is_better_higher: bool) -> f64 {
    /// Text must stay readable on the deepest.
    const DEEPEST: f64 = 0.55;
    // All nearly alike: then no colour is truer than any.
    if low <= 0.0 || high / low < 1.02 {
        return 0.0;
    }
    let share = ((value.max(low) / low).ln() / (high / low).ln()).clamp(0.0, 1.0);
    DEEPEST * if is_better_higher { share } else { 1.0 - share }
}

fn said(figure: &Figure, value: f64) -> String {
    match figure.unit {
        Unit::Micros => duration(value),
        Unit::PerSecond | Unit::Bytes => crate::compare::decimal(value.round()),
        Unit::Plain => figure.text(value),
    }
}

/// Throughput, latencies and CPU along one axis, a line for each combination of the others.
fn along(html: &mut String, result: &SweepResult, is_first: bool, key: &str, values: &[String]) {
    let mut combinations: Vec<Vec<String>> = Vec::new();
    for cell in &result.cells {
        let place = place_without(result, cell, key);
        if !combinations.contains(&place) {
            combinations.push(place);
        }
    }
    // The last axis is what the file is about; the others are folded away.
    let is_open = if is_first { " open" } else { "" };
    let _ = writeln!(html, "<details{is_open}><summary><b>Along {}</b></summary>", escape(key));
    for chunk in combinations.chunks(SERIES_MAX) {
        let names: Vec<String> = chunk
            .iter()
            .map(|place| if place.is_empty() { String::from("all") } else { place.join(", ") })
            .collect();
        if combinations.len() > 1 {
            html.push_str(&legend(names.iter().map(String::as_str)));
        }
        html.push_str("<div class=\"pair\">\n");
        for figure in main_figures(result) {
            let line = |(series, place): (usize, &Vec<String>)| Line {
                series,
                name: names[series].clone(),
                points: result
                    .cells
                    .iter()
                    .filter(|cell| place_without(result, cell, key) == *place)
                    .filter_map(|cell| {
                        let column = values.iter().position(|value| cell.value(key) == Some(value))?;
                        Some((column as f64, cell.spread(figure)?.median))
                    })
                    .collect(),
            };
            let mut lines: Vec<Line> = chunk.iter().enumerate().map(line).collect();
            for line in &mut lines {
                line.points.sort_by(|one, other| one.0.total_cmp(&other.0));
            }
            let heights = lines.iter().flat_map(|line| line.points.iter().map(|point| point.1));
            let y = match figure.unit {
                Unit::Micros => Axis::latency(heights),
                _ => Axis::magnitudes(heights),
            };
            let title = heading(figure);
            let _ = write!(html, "<div><p>{}</p>", escape(&title));
            html.push_str(&svg(HALF, &title, &Axis::categories(key, values), &y, &lines));
            html.push_str("</div>\n");
        }
        html.push_str("</div>\n");
    }
    html.push_str("</details>\n");
}

/// One plot for each row of the heat tables, a line for each of its columns; all on the same axes.
fn curves(html: &mut String, layout: &Layout<'_>) {
    let measured = || {
        layout.rows.iter().flat_map(|(_, cells)| cells.iter().flatten()).filter(|cell| cell.latencies() > 0)
    };
    if measured().next().is_none() {
        return;
    }
    let points: Vec<f64> =
        measured().flat_map(|cell| cell.curve()).map(|point| point.us).filter(|us| *us > 0.0).collect();
    let most = measured().map(|cell| 100.0 - 100.0 / cell.latencies() as f64).fold(99.0, f64::max);
    html.push_str(
        "<h2>Latency by percentile</h2>\n<p>So many percent of all answers came within this time, all rounds together. \
         Lower is better; all plots have the same axes.</p>\n",
    );
    let plots: usize = layout.rows.iter().map(|(_, cells)| cells.len().div_ceil(SERIES_MAX)).sum();
    if plots > CURVES_MAX {
        let _ =
            writeln!(html, "<p>The first {CURVES_MAX} of {plots} plots; all curves are in result.json.</p>");
    }
    html.push_str("<div class=\"pair\">\n");
    let chunks = layout.rows.iter().flat_map(|(place, cells)| {
        let columns = layout.columns.chunks(SERIES_MAX);
        columns.zip(cells.chunks(SERIES_MAX)).map(move |(columns, cells)| (place, columns, cells))
    });
    for (place, columns, cells) in chunks.take(CURVES_MAX) {
        let line = |(series, cell): (usize, &Option<&CellResult>)| {
            let cell = (*cell)?;
            let end = 100.0 - 100.0 / cell.latencies().max(1) as f64;
            let points = cell.curve().iter().map(|point| (point.percentile.min(end), point.us)).collect();
            Some(Line { series, name: columns[series].clone(), points })
        };
        let lines: Vec<Line> = cells.iter().enumerate().filter_map(line).collect();
        let place: Vec<String> =
            layout.row_keys.iter().zip(place).map(|(key, value)| format!("{key} {value}")).collect();
        let title = place.join(", ");
        let _ = write!(html, "<div><p>{}</p>", escape(&title));
        if columns.len() > 1 {
            let names: Vec<String> =
                columns.iter().map(|value| format!("{} {value}", layout.column_key)).collect();
            html.push_str(&legend(names.iter().map(String::as_str)));
        }
        let (x, y) = (Axis::percentiles(most), Axis::latency(points.iter().copied()));
        html.push_str(&svg(HALF, &format!("Latency by percentile: {title}"), &x, &y, &lines));
        html.push_str("</div>\n");
    }
    html.push_str("</div>\n");
}

fn all_figures(html: &mut String, result: &SweepResult) {
    let figures = result.figures();
    html.push_str("<h2>All figures</h2>\n<div class=\"wide\"><table><thead><tr>");
    for (key, _) in &result.axes {
        let _ = write!(html, "<th class=\"text\">{}</th>", escape(key));
    }
    for figure in &figures {
        let unit = if figure.unit == Unit::Micros { " us" } else { "" };
        let _ = write!(html, "<th>{}{unit}</th>", escape(figure.name));
    }
    html.push_str("<th class=\"text\"></th></tr></thead><tbody class=\"figures\">\n");
    for cell in result.cells.iter().filter(|cell| !cell.runs.is_empty()) {
        html.push_str("<tr>");
        for (key, _) in &result.axes {
            let _ = write!(html, "<td class=\"text\">{}</td>", escape(cell.value(key).unwrap_or("-")));
        }
        for figure in &figures {
            let shown = cell.spread(figure).map_or(String::from("-"), |spread| figure.text(spread.median));
            let _ = write!(html, "<td>{shown}</td>");
        }
        let _ = writeln!(html, "<td class=\"text\">{}</td></tr>", remarks(cell));
    }
    html.push_str("</tbody></table></div>\n");
}

/// What the figures do not say: whether it was verified, and which errors there were.
fn remarks(cell: &CellResult) -> String {
    let mut remarks = Vec::new();
    match cell.verdict() {
        Verified::NotAsked => {}
        Verified::Kept => remarks.push(String::from("verified")),
        Verified::Failed => remarks.push(String::from("<span class=\"bad\">NOT VERIFIED</span>")),
    }
    for run in &cell.runs {
        for error in &run.errors {
            let text = format!("{} {} in round {}", error.count, error.name, run.round + 1);
            remarks.push(format!("<span class=\"bad\">{}</span>", escape(&text)));
        }
    }
    remarks.join(", ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::sweep::engine::EngineRun;
    use crate::sweep::matrix::cells;
    use crate::sweep::result::Measurement;
    use crate::sweep::scenario::tests::parsed;

    fn result(text: &str, rounds: u32) -> SweepResult {
        let scenario = parsed(text).unwrap();
        let cells = cells(&scenario, None).unwrap();
        let mut result = SweepResult::new(&scenario, &cells, None, Path::new("/"));
        result.rounds = rounds;
        for round in 0..rounds {
            for index in 0..cells.len() {
                let mut latency = crate::tally::Tally::default().latency;
                let us = 100 * (index as u64 + 1);
                (0..1000).for_each(|n| latency.saturating_record((us + n) * 1000));
                let run = EngineRun {
                    records: 1000 * (index as u64 + 1),
                    bytes: 1,
                    seconds: Duration::from_secs(1).as_secs_f64() + f64::from(round),
                    latency,
                    groups: 10,
                    group_bytes: 4096,
                    cpu_seconds: 0.1,
                };
                result.add(index, round, 0, Measurement::of_engine(&run));
            }
        }
        result.finish(true);
        result
    }

    #[test]
    fn a_page_has_tables_plots_and_nothing_from_outside() {
        let text = "title = 'a <b>'\n[engine]\nflush = ['SYNC', 'ASYNC']\nwaiters = [1, 8, 64]\n";
        let result = result(text, 2);
        let html = page(&result);
        assert!(html.contains("a &lt;b&gt;") && !html.contains("a <b>"));
        // Rate, three latencies, CPU: a heat table for each, and a plot along each of the two axes.
        assert_eq!(html.matches("table class=\"heat\"").count(), 5);
        assert_eq!(html.matches("<svg").count(), 5 * 2 + 2);
        assert!(html.contains("Along waiters") && html.contains("class=\"x title\""));
        assert!(html.contains("4 500<small>3 000..6 000</small>"), "median and spread of the last cell");
        for outside in ["<script", "<link", "src=", "url(", "href="] {
            assert!(!html.contains(outside), "{outside}");
        }
    }

    #[test]
    fn one_cell_and_holes_have_a_page_too() {
        assert!(page(&result("[engine]\nwaiters = 4\n", 1)).contains("<svg"));
        let text = "[engine]\nflush = ['SYNC', 'ASYNC']\nwaiters = [1, 8]\n[[exclude]]\nflush = 'SYNC'\nwaiters = 8\n";
        assert!(page(&result(text, 1)).contains("<td>-</td>"));
    }

    #[test]
    fn colour_follows_the_direction() {
        assert!(heat(100.0, 1.0, 100.0, true) > 0.5 && heat(100.0, 1.0, 100.0, false) < 0.01);
        assert!((heat(10.0, 1.0, 100.0, true) - heat(10.0, 1.0, 100.0, false)).abs() < 0.01);
        assert_eq!(heat(10.0, 10.0, 10.1, true), 0.0);
        assert_eq!(heat(0.0, 0.0, 5.0, true), 0.0);
    }
}
