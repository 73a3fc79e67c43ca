//! `rmq-bench compare`: two results side by side, and their ratios.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;

use crate::error::Error;
use crate::report::Latency;
use crate::saved_run::SavedRun;

#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// The result to compare with
    #[arg(value_name = "A.json")]
    pub base: PathBuf,
    /// The result to compare
    #[arg(value_name = "B.json")]
    pub other: PathBuf,
}

pub fn exec(args: &CompareArgs) -> Result<bool, Error> {
    let runs = [SavedRun::read(&args.base)?, SavedRun::read(&args.other)?];
    print!("{}", table(&runs));
    Ok(true)
}

fn table(runs: &[SavedRun; 2]) -> String {
    let mut text = String::new();
    let names = [format!("A: {}", runs[0].name()), format!("B: {}", runs[1].name())];
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(14);
    let _ = writeln!(text, "{:<24}{:>width$}  {:>width$}{:>9}", "", names[0], names[1], "B/A");
    let all = figures(runs).into_iter().map(|(name, values)| (name.to_owned(), values));
    for (name, [a, b]) in all.chain(rates(runs)) {
        let shown = |figure: Option<f64>| figure.map_or(String::from("-"), decimal);
        let ratio = match (a, b) {
            (Some(a), Some(b)) if a != 0.0 => format!("{:.2}", b / a),
            _ => String::from("-"),
        };
        let _ = writeln!(text, "{name:<24}{:>width$}  {:>width$}{ratio:>9}", shown(a), shown(b));
    }
    let [failures, servers] = [SavedRun::failures, SavedRun::server].map(|of| runs.each_ref().map(of));
    let _ = writeln!(text, "\nfailures   A: {}\n           B: {}", failures[0], failures[1]);
    let _ = writeln!(text, "server     A: {}\n           B: {}", servers[0], servers[1]);
    let commands = runs.each_ref().map(|run| run.command.as_str());
    if commands[0] != commands[1] {
        let _ = writeln!(text, "these are different measurements: {} and {}", commands[0], commands[1]);
    }
    for setting in SavedRun::settings(runs).iter().filter(|setting| setting.differs()) {
        let value = |index: usize| setting.values[index].as_deref().unwrap_or("-");
        let _ = writeln!(text, "setting    {}: {} against {}", setting.name, value(0), value(1));
    }
    text
}

fn figures(runs: &[SavedRun; 2]) -> Vec<(&'static str, [Option<f64>; 2])> {
    let of = |figure: fn(&SavedRun) -> Option<f64>| runs.each_ref().map(figure);
    let latency =
        |figure: fn(&Latency) -> f64| runs.each_ref().map(|run| run.latency_us.as_ref().map(figure));
    vec![
        ("messages/s", of(|run| Some(run.messages_per_second))),
        ("MB/s", of(|run| Some(run.megabytes_per_second))),
        ("latency p50 us", latency(|latency| latency.p50)),
        ("latency p90 us", latency(|latency| latency.p90)),
        ("latency p99 us", latency(|latency| latency.p99)),
        ("latency p999 us", latency(|latency| latency.p999)),
        ("latency max us", latency(|latency| latency.max)),
        ("latency mean us", latency(|latency| latency.mean)),
        ("client CPU us/message", of(|run| Some(run.cpu.client_us_per_message))),
        ("server CPU us/message", of(|run| run.cpu.server_us_per_message)),
    ]
}

/// Ramps that tried the same rates, rate by rate.
fn rates(runs: &[SavedRun; 2]) -> impl Iterator<Item = (String, [Option<f64>; 2])> {
    let [a, b] = runs.each_ref().map(|run| &run.rate_steps);
    a.iter().filter_map(move |step| {
        let rate = step.rate?;
        let other = b.iter().find(|other| other.rate == Some(rate))?;
        let p99 = [step, other].map(|step| step.latency_us.as_ref().map(|latency| latency.p99));
        Some((format!("p99 us at {}/s", decimal(rate)), p99))
    })
}

/// Three figures that matter, no more: a measurement has none beyond them.
pub fn decimal(number: f64) -> String {
    match number.abs() {
        0.0..10.0 => format!("{number:.2}"),
        10.0..100.0 => format!("{number:.1}"),
        _ => grouped(number),
    }
}

fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::from(if number < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::saved_run::tests::saved;

    #[test]
    fn ratios_are_of_the_second_to_the_first() {
        let runs = [
            saved("java", 100_000.0, 400.0, serde_json::json!({"connections": 8, "run": 1})),
            saved("ours", 500_000.0, 100.0, serde_json::json!({"connections": 4, "run": 2})),
        ];
        let text = table(&runs);
        let line = |start: &str| {
            let line = text.lines().find(|line| line.starts_with(start)).unwrap();
            line.split("  ").map(str::trim).filter(|word| !word.is_empty()).collect::<Vec<_>>()
        };
        assert_eq!(line("messages/s"), ["messages/s", "100 000", "500 000", "5.00"]);
        assert_eq!(line("latency p99"), ["latency p99 us", "1 600", "400", "0.25"]);
        assert_eq!(line("server CPU"), ["server CPU us/message", "-", "-", "-"]);
        assert!(text.contains("connections: 8 against 4") && !text.contains("run:"), "{text}");
    }
}
