//! A sweep for the terminal and for spreadsheets.

use std::fmt::Write as _;

use crate::sweep::figures::Figure;
use crate::sweep::result::{SweepResult, Verified};

/// Columns of the terminal's table; the rest is in the files.
const SHOWN: [&str; 10] = [
    "messages_per_second",
    "p50_us",
    "p99_us",
    "p999_us",
    "server_cpu_us",
    "engine_cpu_us",
    "server_rss_mb",
    "groups_per_second",
    "bytes_per_group",
    "failures",
];

/// A line for each cell: medians over the rounds, of the rate also the lowest and the highest.
pub fn text(result: &SweepResult) -> String {
    let figures: Vec<&Figure> =
        result.figures().into_iter().filter(|figure| SHOWN.contains(&figure.key)).collect();
    let mut rows = vec![Vec::new()];
    rows[0].extend(result.axes.iter().map(|(key, _)| key.clone()));
    for figure in &figures {
        rows[0].push(match figure.key {
            key if key.ends_with("_us") && !key.contains("cpu") => format!("{} us", figure.name),
            _ => figure.name.to_owned(),
        });
        if figure.key == "messages_per_second" && result.rounds > 1 {
            rows[0].push(String::from("(low..high)"));
        }
    }
    rows[0].push(String::new());
    for cell in result.cells.iter().filter(|cell| !cell.runs.is_empty()) {
        let mut row: Vec<String> =
            result.axes.iter().map(|(key, _)| cell.value(key).unwrap_or("-").to_owned()).collect();
        for figure in &figures {
            let spread = cell.spread(figure);
            let shown = |of: fn(crate::sweep::figures::Spread) -> f64| {
                spread.map_or(String::from("-"), |spread| figure.text(of(spread)))
            };
            row.push(shown(|spread| spread.median));
            if figure.key == "messages_per_second" && result.rounds > 1 {
                row.push(format!("({}..{})", shown(|spread| spread.low), shown(|spread| spread.high)));
            }
        }
        row.push(String::from(match cell.verdict() {
            Verified::NotAsked => "",
            Verified::Kept => "verified",
            Verified::Failed => "NOT VERIFIED",
        }));
        rows.push(row);
    }
    let mut text = aligned(&rows, result.axes.len());
    let _ = write!(
        text,
        "{}; {}; {}, {}",
        result.machine.text(),
        match result.rounds {
            1 => String::from("one round"),
            rounds => format!("medians of {rounds} rounds"),
        },
        result.file_system,
        quietness(result.others_running())
    );
    if !result.is_complete {
        text.push_str("\nNOT COMPLETE: not every cell was measured in every round");
    }
    text
}

pub fn quietness(others: u64) -> String {
    match others {
        0..=2 => String::from("machine quiet"),
        _ => format!("machine NOT QUIET: up to {others} other tasks ran"),
    }
}

/// The first columns to the left, figures to the right.
fn aligned(rows: &[Vec<String>], left: usize) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, value) in row.iter().enumerate() {
            let width = widths[column];
            let _ = match column < left || column + 1 == row.len() {
                true => write!(line, "{value:<width$}  "),
                false => write!(line, "{value:>width$}  "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A line for every run.
pub fn csv(result: &SweepResult) -> String {
    let figures = result.figures();
    let names = result.axes.iter().map(|(key, _)| key.as_str());
    let mut csv = names
        .chain(["round", "others_running"])
        .chain(figures.iter().map(|figure| figure.key))
        .chain(["verified"])
        .map(field)
        .collect::<Vec<_>>()
        .join(",");
    for cell in &result.cells {
        for run in &cell.runs {
            let mut fields: Vec<String> =
                result.axes.iter().map(|(key, _)| field(cell.value(key).unwrap_or(""))).collect();
            fields.push((run.round + 1).to_string());
            fields.push(run.others_running.to_string());
            for figure in &figures {
                fields.push(run.values.get(figure.key).map_or(String::new(), f64::to_string));
            }
            fields.push(
                run.verify
                    .as_ref()
                    .map_or(String::new(), |verdict| (verdict.clean && verdict.complete).to_string()),
            );
            csv.push('\n');
            csv.push_str(&fields.join(","));
        }
    }
    csv
}

fn field(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [["a", "rate", ""], ["long", "5", "ok"]].map(|row| row.map(String::from).to_vec());
        assert_eq!(aligned(&rows, 1), "a     rate\nlong     5  ok\n");
    }

    #[test]
    fn commas_in_values_are_quoted() {
        assert_eq!(field("0-1,3"), "\"0-1,3\"");
        assert_eq!(field("a\"b,"), "\"a\"\"b,\"");
        assert_eq!(field("SYNC"), "SYNC");
    }
}
