//! `rmq-bench verify`: reads all queues back and proves that nothing acknowledged is missing or damaged and that no
//! single send attempt is stored twice.

pub mod inspector;
pub mod ledger;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::cli::parse_duration;
use crate::consume::PullArgs;
use crate::error::Error;
use crate::phases::{self, Phases};
use crate::pull::{Pull, PullRange};
use crate::report::write_file;
use crate::tally::{Live, Tally};
use crate::target::{Target, TargetArgs, Use};
use crate::verify::inspector::{Findings, Inspector, Order};
use crate::verify::ledger::Ledger;

const EXAMPLES: &str = "\
Examples:
  rmq-bench produce -m 1000000 --journal j && rmq-bench verify --journal j
  rmq-bench verify --journal delayed --wait 30s            what was delayed may still come";

#[derive(Args, Clone, Debug, Serialize)]
#[command(after_help = EXAMPLES)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Journal of a `produce`; give all of the topic's
    #[arg(long, required = true, value_name = "FILE")]
    pub journal: Vec<PathBuf>,
    /// Which order to insist on
    #[arg(long, value_enum, default_value_t = Order::Answered)]
    pub order: Order,
    /// Wait this long for delayed messages that have not come yet
    #[arg(long, value_parser = parse_duration, default_value = "0s", value_name = "TIME")]
    #[serde(serialize_with = "crate::cli::seconds_of")]
    pub wait: Duration,
    /// Give up after this long
    #[arg(long, value_parser = parse_duration, default_value = "10m", value_name = "TIME")]
    #[serde(serialize_with = "crate::cli::seconds_of")]
    pub limit: Duration,
    #[command(flatten)]
    pub pull: PullArgs,
    /// Write the result as JSON to this file; `-` is standard output
    #[arg(long, value_name = "FILE|-")]
    #[serde(skip)]
    pub json: Option<PathBuf>,
}

#[derive(Serialize)]
pub struct Verdict {
    pub clean: bool,
    pub complete: bool,
    pub topic: String,
    pub acknowledged: u64,
    pub missing: u64,
    pub unanswered: u64,
    pub refused: u64,
    pub seconds: f64,
    #[serde(flatten)]
    pub findings: Findings,
}

/// Runs the subcommand. `Ok(false)`: the broker did not keep a promise, or could not be read to the end.
pub fn exec(args: &VerifyArgs) -> Result<bool, Error> {
    let target = args.target.locate(Use::Pull)?;
    let mut ledger = Ledger::default();
    for path in &args.journal {
        ledger.add(path)?;
    }
    let inspector = Inspector::new(&target.topic, args.order, ledger);
    let verdict = inspect_patiently(inspector, &target, args)?;
    let json = serde_json::to_string_pretty(&verdict).expect("a verdict is plain data");
    match &args.json {
        Some(path) if path.as_os_str() == "-" => println!("{json}"),
        Some(path) => {
            println!("{}", verdict.text());
            write_file(path, &json)?;
        }
        None => println!("{}", verdict.text()),
    }
    Ok(verdict.clean && verdict.complete)
}

/// Reads on while there is something that may still come.
fn inspect_patiently(mut inspector: Inspector, target: &Target, args: &VerifyArgs) -> Result<Verdict, Error> {
    const PAUSE: Duration = Duration::from_millis(300);
    let started = Instant::now();
    loop {
        let verdict;
        (inspector, verdict) = inspect(inspector, target, &args.pull, args.limit)?;
        let over = started.elapsed() >= args.wait || phases::is_interrupted();
        if over || inspector.ledger().promised() == 0 {
            return Ok(verdict);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Reads all queues from where the inspector stopped (at first: their beginning) to their present end.
pub fn inspect(
    mut inspector: Inspector,
    target: &Target,
    pull: &PullArgs,
    limit: Duration,
) -> Result<(Inspector, Verdict), Error> {
    let phases = Phases::starting_now(Duration::ZERO, Some(limit));
    let mut control = target.control()?;
    let mut ranges = Vec::new();
    for queue in 0..target.queues {
        let (min, max) = target.offsets(&mut control, queue)?;
        let next = inspector.next_offset(queue).unwrap_or(min);
        inspector.open(queue, next);
        ranges.push(PullRange { queue, next, end: Some(max) });
    }
    let live = Live::default();
    // An end that is known needs no waiting for messages.
    let settings = crate::pull::PullSettings { suspend: Duration::ZERO, ..pull.settings(target) };
    let (mut inspector, tally, reached) = Pull::new(settings, &ranges, inspector, &phases, &live)?.run()?;
    let complete = reached.iter().all(|range| range.end.is_some_and(|end| range.next >= end));
    inspector.finish();
    let seconds = (crate::clock::monotonic_ns() - phases.start_ns) as f64 / 1e9;
    let verdict = Verdict::new(&mut inspector, target, complete, seconds, &tally);
    Ok((inspector, verdict))
}

impl Verdict {
    fn new(inspector: &mut Inspector, target: &Target, complete: bool, seconds: f64, tally: &Tally) -> Self {
        let mut findings = inspector.findings.clone();
        findings.examples.extend_from_slice(inspector.open_ends());
        if !complete {
            findings.examples.extend(tally.failures.iter().map(|(failure, counted)| {
                format!(
                    "{} times {} ({}) {}",
                    counted.count,
                    failure.name(),
                    failure.meaning(),
                    counted.remark
                )
            }));
        }
        Self {
            clean: inspector.is_clean(),
            complete,
            topic: target.topic.clone(),
            acknowledged: inspector.ledger().acknowledged,
            missing: inspector.missing(),
            unanswered: inspector.ledger().unanswered,
            refused: inspector.ledger().refused,
            seconds,
            findings,
        }
    }

    pub fn text(&self) -> String {
        let found = &self.findings;
        let mut text = format!(
            "verify {}: {}\n  acknowledged {}: {} in place, {} missing\n  {} records: {} damaged, {} stored twice, \
             {} out of order, {} gaps in offsets, {} invented\n  unanswered {}, stored {}; refused {}, stored {}; \
             of other runs {}; {:.2} s",
            self.topic,
            match (self.clean, self.complete) {
                (_, false) => "NOT READ TO THE END",
                (true, true) => "all is well",
                (false, true) => "FAILED",
            },
            self.acknowledged,
            found.verified,
            self.missing,
            found.records,
            found.damaged,
            found.duplicated,
            found.reordered,
            found.gaps,
            found.invented,
            self.unanswered,
            found.unanswered_stored,
            self.refused,
            found.refused_stored,
            found.foreign,
            self.seconds
        );
        for example in &found.examples {
            text.push_str("\n  ");
            text.push_str(example);
        }
        text
    }
}
