//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rmq_protocol::Codec;
use serde::Serialize;

use crate::churn::ChurnArgs;
use crate::compare::CompareArgs;
use crate::consume::ConsumeArgs;
use crate::crash::CrashArgs;
use crate::end_to_end::EndToEndArgs;
use crate::idle::IdleArgs;
use crate::page::ReportArgs;
use crate::pop::PopArgs;
use crate::produce::ProduceArgs;
use crate::ramp::{FindRateArgs, RampArgs};
use crate::sweep::SweepArgs;
use crate::verify::VerifyArgs;

const TOUR: &str = "\
A first look, with a name server at 127.0.0.1:9876 (else -n HOST:PORT):
  rmq-bench produce -c 8 -i 32 -d 10s                 how much goes through
  rmq-bench produce -r 50000 -d 10s --json a.json     how long it takes at a rate that is fixed
  rmq-bench find-rate --p99 3ms                       the highest rate that holds a promise
  rmq-bench end-to-end -r 50000                       from when a send was due until a consumer has it
  rmq-bench consume --until-end                       all of it back
  rmq-bench report page.html a.json b.json            results beside each other, with plots

`rmq-bench COMMAND --help` has examples of each.";

/// Loads and checks any broker that speaks RocketMQ's remoting protocol.
#[derive(Parser, Debug)]
#[command(
    name = "rmq-bench",
    version,
    max_term_width = 110,
    args_override_self = true,
    subcommand_required = true,
    after_help = TOUR
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Send messages and measure
    Produce(Box<ProduceArgs>),
    /// Send at one fixed rate after another
    Ramp(Box<RampArgs>),
    /// Search the highest rate that holds a latency
    FindRate(Box<FindRateArgs>),
    /// Pull all queues, count and check
    Consume(Box<ConsumeArgs>),
    /// Pop messages of any queue and acknowledge each
    Pop(Box<PopArgs>),
    /// Send at a fixed rate, receive by long polling, measure from due to received
    EndToEnd(Box<EndToEndArgs>),
    /// Open many connections, leave them alone, and see what they cost
    Idle(Box<IdleArgs>),
    /// Connect, ask once, disconnect; over and over
    Churn(Box<ChurnArgs>),
    /// Prove that what was acknowledged is there
    Verify(Box<VerifyArgs>),
    /// Kill a server under load, restart it, verify; again and again
    Crash(Box<CrashArgs>),
    /// Measure every combination of settings in a TOML file, each on a server of its own
    Sweep(SweepArgs),
    /// Put results that `--json` wrote on one HTML page, with plots
    Report(ReportArgs),
    /// Print two results side by side, and their ratios
    Compare(CompareArgs),
}

#[derive(Args, Clone, Debug, Default, Serialize)]
pub struct OutputArgs {
    /// Print a line a second when standard error is no terminal; on a terminal there is a live view anyway
    #[arg(help_heading = "Output", long)]
    #[serde(skip)]
    pub progress: bool,
    /// Write the result as JSON to this file; `-` is standard output
    #[arg(help_heading = "Output", long, value_name = "FILE|-")]
    #[serde(skip)]
    pub json: Option<PathBuf>,
    /// Write one line per second, and one of the whole, as CSV to this file
    #[arg(help_heading = "Output", long, value_name = "FILE")]
    #[serde(skip)]
    pub csv: Option<PathBuf>,
    /// Write all latencies as an HdrHistogram log to this file
    #[arg(help_heading = "Output", long, value_name = "FILE")]
    #[serde(skip)]
    pub hdr: Option<PathBuf>,
    /// Process id of the server, to report its processor time; may be repeated
    #[arg(help_heading = "Output", long, value_name = "PID")]
    pub server_pid: Vec<u32>,
    /// A name for this run in its report
    #[arg(help_heading = "Output", long)]
    #[serde(skip)]
    pub label: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CodecName {
    Json,
    Binary,
}

impl CodecName {
    pub fn codec(self) -> Codec {
        match self {
            Self::Json => Codec::Json,
            Self::Binary => Codec::Binary,
        }
    }
}

/// `500ms`, `10s`, `2m`, or plain seconds; at most a day, so that every run is bounded.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        unit => return Err(format!("{unit:?} is no unit of time; use ms, s, m or h")),
    };
    match digits.parse::<f64>().map(|number| number * factor) {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(String::from("must be a time such as 500ms, 10s or 2m, and at most 24h")),
    }
}

/// Durations in settings are seconds.
pub fn seconds<S: serde::Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.serialize_some(&duration.as_secs_f64()),
        None => serializer.serialize_none(),
    }
}

pub fn seconds_of<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_bounds() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "s", "-1s", "10 s", "5d", "25h", "nan"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
