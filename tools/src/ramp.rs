//! `rmq-bench ramp` and `rmq-bench find-rate`: the same load at one fixed rate after another, to see where latency
//! leaves the ground, or which rate is the highest that holds a promise.
//!
//! Every step is an open loop of its own, with new connections and its own warm-up, so a step that overloads the
//! broker leaves nothing behind in the generator. What it leaves in the broker is for the next warm-up to drain.

mod search;

use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::cli::{OutputArgs, parse_duration};
use crate::clock::wall_ms;
use crate::compare::decimal;
use crate::error::Error;
use crate::phases::{self, Phases};
use crate::produce::{self, LoadArgs, Produced};
use crate::ramp::search::Search;
use crate::report::{Latency, Measured, Report};
use crate::target::{Target, TargetArgs};

const STEP_TIME: Duration = Duration::from_secs(5);
const STEP_WARMUP: Duration = Duration::from_millis(500);
/// A broker that keeps up answers at least this share of what was asked of it within the step.
const KEPT_SHARE_MIN: f64 = 0.99;
const STEPS_MAX: usize = 1000;

const RAMP_EXAMPLES: &str = "\
Each step is an open loop of --duration [default here: 5s] after --warmup [default here: 500ms].

Examples:
  rmq-bench ramp --rates 50000:400000:50000 -d 3s --json ramp.json
  rmq-bench ramp --rates 1000:512000:x2 --stop             doubling, until it does not keep up";

#[derive(Args, Clone, Debug, Serialize)]
#[command(after_help = RAMP_EXAMPLES)]
pub struct RampArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Messages per second of the steps: up by STEP each time, or by a factor, such as 1000:100000:x2
    #[arg(long, value_name = "FROM:TO:STEP", value_parser = parse_rates)]
    pub rates: Rates,
    /// End behind the first step that does not keep up
    #[arg(long)]
    pub stop: bool,
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

const FIND_RATE_EXAMPLES: &str = "\
A rate holds when it is kept up with, nothing fails, and p99 is below. Each step is an open loop
of --duration [default here: 5s] after --warmup [default here: 500ms]; the first goes as fast as
it can, to know the ceiling.

Examples:
  rmq-bench find-rate --p99 3ms -d 3s
  rmq-bench find-rate --p99 10ms -s 1024 --precision 0.1 --retries 2 --json found.json";

#[derive(Args, Clone, Debug, Serialize)]
#[command(after_help = FIND_RATE_EXAMPLES)]
pub struct FindRateArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// 99 % of the latencies must stay below this
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    #[serde(serialize_with = "crate::cli::seconds_of")]
    pub p99: Duration,
    /// Stop when the answer is known this exactly, as a share of it
    #[arg(long, value_name = "RATIO", default_value_t = 0.03, value_parser = parse_precision)]
    pub precision: f64,
    /// A rate that fails gets so many more chances: one hiccup of the machine is no answer
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(0..=10))]
    pub retries: u32,
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Rates(Vec<f64>);

/// What came of one rate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RateStep {
    /// Messages per second that were due; `None`: as fast as answers came.
    pub rate: Option<f64>,
    pub messages_per_second: f64,
    pub latency_us: Option<Latency>,
    pub failures: u64,
    pub keeps_up: bool,
    /// Whether it holds what was asked for; `None` where nothing was.
    pub holds: Option<bool>,
    pub client_us_per_message: f64,
    pub server_us_per_message: Option<f64>,
}

/// Runs the subcommand. `Ok(false)`: not even the lowest rate was kept up with.
pub fn exec_ramp(mut args: RampArgs) -> Result<bool, Error> {
    prepare(&mut args.load)?;
    let target = args.load.prepare(&args.target)?;
    let mut runner = Runner::new(&args.load, &target, &args.output, None);
    for rate in args.rates.0.clone() {
        let step = runner.step(Some(rate))?;
        if phases::is_interrupted() || args.stop && !step.keeps_up {
            break;
        }
    }
    let best = runner.best(|step| step.keeps_up);
    let passed = best.is_some();
    println_beside(
        &args.output,
        &match best.map(|best| &runner.steps[best]) {
            Some(step) => format!("highest rate kept up with: {}", step.described()),
            None => String::from("no rate was kept up with"),
        },
    );
    let (steps, output) = (runner.into_report(best), args.output.clone());
    steps.publish("ramp", args, target, &output)?;
    Ok(passed)
}

/// Runs the subcommand. `Ok(false)`: no rate holds the promise.
pub fn exec_find_rate(mut args: FindRateArgs) -> Result<bool, Error> {
    prepare(&mut args.load)?;
    let target = args.load.prepare(&args.target)?;
    let mut runner = Runner::new(&args.load, &target, &args.output, Some(args.p99));
    // As fast as it goes is the ceiling: no open loop gets beyond it.
    let ceiling = runner.step(None)?.messages_per_second;
    let mut search = Search::new(ceiling, args.precision);
    while !phases::is_interrupted()
        && let Some(rate) = search.next()
    {
        let mut holds = false;
        for _ in 0..=args.retries {
            holds = runner.step(Some(rate))?.holds == Some(true);
            if holds || phases::is_interrupted() {
                break;
            }
        }
        search.tried(rate, holds);
    }
    let best = runner.best(|step| step.rate.is_some() && step.holds == Some(true));
    let passed = best.is_some();
    let goal_ms = args.p99.as_secs_f64() * 1e3;
    println_beside(
        &args.output,
        &match best.map(|best| &runner.steps[best]) {
            Some(step) => format!("highest rate with p99 <= {goal_ms} ms: {}", step.described()),
            None => format!("no rate was found with p99 <= {goal_ms} ms"),
        },
    );
    let (steps, output) = (runner.into_report(best), args.output.clone());
    steps.publish("find-rate", args, target, &output)?;
    Ok(passed)
}

fn prepare(load: &mut LoadArgs) -> Result<(), Error> {
    if load.rate.is_some() || load.messages.is_some() {
        return Err(Error::Usage(String::from(
            "each step has a rate and a time of its own: --rate and --messages are for produce",
        )));
    }
    if load.oneway {
        return Err(Error::Usage(String::from(
            "without answers nobody knows whether a rate is kept up with",
        )));
    }
    load.duration.get_or_insert(STEP_TIME);
    load.warmup.get_or_insert(STEP_WARMUP);
    load.settle();
    load.check()
}

/// Standard output belongs to the result when that was asked for as JSON.
fn println_beside(output: &OutputArgs, line: &str) {
    if output.json.as_deref().is_some_and(|path| path.as_os_str() == "-") {
        eprintln!("{line}");
    } else {
        println!("{line}");
    }
}

struct Runner<'a> {
    load: &'a LoadArgs,
    target: &'a Target,
    output: &'a OutputArgs,
    p99: Option<Duration>,
    steps: Vec<RateStep>,
    /// What the report needs of each step besides.
    runs: Vec<(Produced, Measured)>,
}

struct Finished {
    steps: Vec<RateStep>,
    run: (Produced, Measured),
}

impl<'a> Runner<'a> {
    fn new(load: &'a LoadArgs, target: &'a Target, output: &'a OutputArgs, p99: Option<Duration>) -> Self {
        Self { load, target, output, p99, steps: Vec::new(), runs: Vec::new() }
    }

    fn step(&mut self, rate: Option<f64>) -> Result<&RateStep, Error> {
        let load = LoadArgs { rate, ..self.load.clone() };
        let started_at_ms = wall_ms();
        let phases = Phases::starting_now(load.warmup.unwrap_or_default(), load.duration);
        let produced = produce::run(&load, self.target, None, &phases, self.output)?;
        let measured = Measured {
            started_at_ms,
            seconds: phases.measured_seconds(produced.tally.last_ns),
            cpu: produced.watch.at_end.since(produced.watch.at_measure),
        };
        if self.steps.is_empty() {
            println_beside(self.output, &RateStep::heading(self.p99.is_some()));
        }
        let step = RateStep::new(rate, &produced, &measured, self.p99);
        println_beside(self.output, &step.row());
        self.steps.push(step);
        self.runs.push((produced, measured));
        Ok(self.steps.last().expect("it was just pushed"))
    }

    /// The fastest step that passes.
    fn best(&self, passes: impl Fn(&RateStep) -> bool) -> Option<usize> {
        let rate = |index: &usize| self.steps[*index].rate.unwrap_or(f64::MAX);
        (0..self.steps.len())
            .filter(|index| passes(&self.steps[*index]))
            .max_by(|one, other| rate(one).total_cmp(&rate(other)))
    }

    /// The figures of the whole are those of the best step; where none passed, of the first.
    fn into_report(mut self, best: Option<usize>) -> Finished {
        Finished { run: self.runs.swap_remove(best.unwrap_or(0)), steps: self.steps }
    }
}

impl Finished {
    fn publish<S: Serialize>(
        self,
        command: &'static str,
        settings: S,
        target: Target,
        output: &OutputArgs,
    ) -> Result<(), Error> {
        let (produced, measured) = self.run;
        let mut report = Report::new(command, output, settings, target, &produced.tally, measured);
        report.rate_steps = self.steps;
        report.publish(output)
    }
}

impl RateStep {
    fn new(rate: Option<f64>, produced: &Produced, measured: &Measured, p99: Option<Duration>) -> Self {
        let tally = &produced.tally;
        let per_message = |seconds: f64| seconds * 1e6 / tally.messages.max(1) as f64;
        let messages_per_second = tally.messages as f64 / measured.seconds.max(1e-9);
        let latency_us = Latency::of(&tally.latency);
        let keeps_up = tally.messages > 0
            && tally.failures() == 0
            && rate.is_none_or(|rate| messages_per_second >= rate * KEPT_SHARE_MIN);
        let below = |goal: Duration| {
            latency_us.as_ref().is_some_and(|latency| latency.p99 <= goal.as_secs_f64() * 1e6)
        };
        Self {
            rate,
            messages_per_second,
            failures: tally.failures(),
            keeps_up,
            holds: p99.map(|goal| keeps_up && below(goal)),
            client_us_per_message: per_message(measured.cpu.client),
            server_us_per_message: measured.cpu.server.map(per_message),
            latency_us,
        }
    }

    fn heading(goal: bool) -> String {
        format!(
            "{:>12} {:>12} {:>9} {:>9} {:>9} {:>9} {:>9}  {}",
            "rate/s",
            "messages/s",
            "p50 us",
            "p99 us",
            "p999 us",
            "max us",
            "errors",
            if goal { "holds" } else { "keeps up" }
        )
    }

    fn row(&self) -> String {
        let [p50, p99, p999, max] = match &self.latency_us {
            Some(latency) => [latency.p50, latency.p99, latency.p999, latency.max].map(decimal),
            None => ["-"; 4].map(String::from),
        };
        format!(
            "{:>12} {:>12} {p50:>9} {p99:>9} {p999:>9} {max:>9} {:>9}  {}",
            self.rate.map_or(String::from("no limit"), decimal),
            decimal(self.messages_per_second),
            self.failures,
            if self.holds.unwrap_or(self.keeps_up) { "yes" } else { "no" }
        )
    }

    fn described(&self) -> String {
        let p99_ms = self.latency_us.as_ref().map_or(0.0, |latency| latency.p99 / 1e3);
        format!("{} messages/s (p99 {p99_ms:.2} ms)", decimal(self.rate.unwrap_or(self.messages_per_second)))
    }
}

fn parse_rates(text: &str) -> Result<Rates, String> {
    let wrong = || String::from("must be FROM:TO:STEP, such as 10000:100000:10000 or 1000:64000:x2");
    let [from, to, step] = text.split(':').collect::<Vec<_>>()[..] else { return Err(wrong()) };
    let number =
        |text: &str| text.parse::<f64>().ok().filter(|rate| (1e-3..=1e8).contains(rate)).ok_or_else(wrong);
    let (from, to) = (number(from)?, number(to)?);
    let next: Box<dyn Fn(f64) -> f64> = match step.strip_prefix('x') {
        Some(factor) => {
            let factor = number(factor)?;
            if factor <= 1.0 {
                return Err(String::from("the factor must be above 1"));
            }
            Box::new(move |rate| rate * factor)
        }
        None => {
            let step = number(step)?;
            Box::new(move |rate| rate + step)
        }
    };
    // A little more than the end, so that it is not lost to rounding.
    let rates: Vec<f64> = std::iter::successors(Some(from), |rate| Some(next(*rate)))
        .take_while(|rate| *rate <= to * 1.000_001)
        .take(STEPS_MAX + 1)
        .collect();
    match rates.len() {
        0 => Err(String::from("FROM is above TO")),
        1..=STEPS_MAX => Ok(Rates(rates)),
        _ => Err(format!("makes more than {STEPS_MAX} steps")),
    }
}

fn parse_precision(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if (0.001..=0.5).contains(&ratio) => Ok(ratio),
        _ => Err(String::from("must be a number from 0.001 to 0.5")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_go_up_by_steps_or_factors() {
        let rates = |text| parse_rates(text).map(|rates| rates.0);
        assert_eq!(rates("10:30:10"), Ok(vec![10.0, 20.0, 30.0]));
        assert_eq!(rates("10:35:10"), Ok(vec![10.0, 20.0, 30.0]));
        assert_eq!(rates("1000:8000:x2"), Ok(vec![1000.0, 2000.0, 4000.0, 8000.0]));
        assert_eq!(rates("5:5:1"), Ok(vec![5.0]));
        for wrong in ["", "1:2", "1:2:0", "2:1:1", "1:2:x1", "1:2:3:4", "a:2:1", "1:100000:1", "-1:2:1"] {
            assert!(parse_rates(wrong).is_err(), "{wrong}");
        }
    }
}
