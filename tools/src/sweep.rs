//! `rmq-bench sweep`: a matrix of settings from a TOML file, each combination started, loaded, verified and
//! reported. The storage-tuning experiment as one command.

mod broker;
mod engine;
mod figures;
mod load;
mod matrix;
mod page;
mod result;
mod scenario;
mod table;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use crate::cli::parse_duration;
use crate::clock::wall_ms;
use crate::error::Error;
use crate::machine::others_running;
use crate::phases;
use crate::report::write_file;
use crate::sweep::broker::Starter;
use crate::sweep::engine::EngineCase;
use crate::sweep::matrix::{Cell, cells, order};
use crate::sweep::result::{Measurement, SweepResult};
use crate::sweep::scenario::{ROUNDS_MAX, Scenario, Section};

#[derive(Args, Clone, Debug)]
pub struct SweepArgs {
    /// What to vary and what to measure; perf/scenarios has examples
    #[arg(value_name = "FILE.toml")]
    pub scenario: PathBuf,
    /// New directory for result.json, result.csv and index.html [default: sweep-FILE-TIME]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Where servers keep their data while a cell runs, which chooses the disk [default: in the --out directory]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Our server [default: rmq-server beside this program, else in the PATH]
    #[arg(long, value_name = "PATH")]
    pub server_bin: Option<PathBuf>,
    /// Rounds, in place of what the file says
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROUNDS_MAX)))]
    pub rounds: Option<u32>,
    /// Only cells whose name matches, such as '*SYNC*,body_size=128'
    #[arg(long, value_name = "GLOB")]
    pub only: Option<String>,
    /// Print the names of the cells, and measure nothing
    #[arg(long)]
    pub list: bool,
    /// Refuse what would take longer, and end after the running cell when this time is over
    #[arg(long, value_parser = parse_duration, default_value = "1h", value_name = "TIME")]
    pub limit: Duration,
}

/// Runs the subcommand. `Ok(false)`: something acknowledged was not there, or not all cells were measured.
pub fn exec(args: &SweepArgs) -> Result<bool, Error> {
    let mut scenario = Scenario::read(&args.scenario)?;
    scenario.rounds = args.rounds.unwrap_or(scenario.rounds);
    let cells = cells(&scenario, args.only.as_deref())?;
    if args.list {
        cells.iter().for_each(|cell| say(&cell.name));
        return Ok(true);
    }
    let bench = Bench::new(args, &scenario, &cells)?;
    let estimate = estimate(&scenario, cells.len());
    say(&format!(
        "{}: {} cells x {} rounds, {:.1} s each after {:.1} s of warm-up; about {}",
        scenario.title,
        cells.len(),
        scenario.rounds,
        scenario.duration.as_secs_f64(),
        scenario.warmup.as_secs_f64(),
        spoken(estimate)
    ));
    if estimate > args.limit {
        return Err(Error::Usage(format!(
            "that is more than --limit {}; shorten lists, rounds or duration, measure a part with --only, or raise it",
            spoken(args.limit)
        )));
    }
    let out = args.out.clone().unwrap_or_else(|| default_out(&args.scenario));
    let data = prepare_dirs(&out, args.data.as_deref())?;
    let mut result = SweepResult::new(&scenario, &cells, bench.version(), &data);
    let measured =
        measure(&bench, &scenario, &cells, Place { out: &out, data: &data }, args.limit, &mut result);
    // The data of every cell is gone; the directory itself may be the user's.
    let _ = fs::remove_dir(&data);
    if result.is_empty() {
        measured?;
        return Ok(false);
    }
    result.finish(measured.is_ok());
    write_file(&out.join("result.json"), &result.json())?;
    write_file(&out.join("result.csv"), &table::csv(&result))?;
    write_file(&out.join("index.html"), &page::page(&result))?;
    say(&format!("\n{}\n{}", table::text(&result), out.join("index.html").display()));
    measured?;
    Ok(result.is_clean())
}

/// What a cell is measured with.
enum Bench {
    Broker(Starter),
    Engine(Vec<EngineCase>),
}

impl Bench {
    /// Everything that can be wrong with a cell is found here.
    fn new(args: &SweepArgs, scenario: &Scenario, cells: &[Cell]) -> Result<Self, Error> {
        if scenario.is_engine {
            let case = |cell: &Cell| {
                EngineCase::new(cell.of(Section::Engine)).map_err(|problem| {
                    Error::Usage(format!("{}: {}: {problem}", scenario.path.display(), cell.name))
                })
            };
            return cells.iter().map(case).collect::<Result<_, _>>().map(Self::Engine);
        }
        let starter = Starter::find(scenario, args.server_bin.as_deref())?;
        starter.check(scenario, cells)?;
        Ok(Self::Broker(starter))
    }

    fn version(&self) -> Option<&str> {
        match self {
            Self::Broker(starter) => starter.version(),
            Self::Engine(_) => None,
        }
    }

    fn run(
        &self,
        scenario: &Scenario,
        (index, cell): (usize, &Cell),
        dir: &Path,
        kept_log: &Path,
    ) -> Result<Measurement, Error> {
        match self {
            Self::Broker(starter) => starter.run(scenario, cell, dir, kept_log).map(Measurement::of_broker),
            Self::Engine(cases) => {
                let failed = |source| Error::File { path: dir.to_owned(), source };
                fs::create_dir_all(dir).map_err(failed)?;
                let run = engine::run(&cases[index], dir, scenario.warmup, scenario.duration);
                fs::remove_dir_all(dir).map_err(failed)?;
                run.map(|run| Measurement::of_engine(&run))
            }
        }
    }
}

struct Place<'a> {
    out: &'a Path,
    data: &'a Path,
}

fn measure(
    bench: &Bench,
    scenario: &Scenario,
    cells: &[Cell],
    place: Place<'_>,
    limit: Duration,
    result: &mut SweepResult,
) -> Result<(), Error> {
    let started = Instant::now();
    let (total, mut count) = (cells.len() * scenario.rounds as usize, 0);
    for round in 0..scenario.rounds {
        for index in order(cells.len(), round, scenario.rounds) {
            if started.elapsed() > limit {
                return Err(Error::TooLate(format!("--limit is over after {count} of {total} runs")));
            }
            count += 1;
            let cell = &cells[index];
            let dir = place.data.join(format!("cell-{}-{count}", std::process::id()));
            let kept_log = place.out.join(format!("failed-{count}.log"));
            let others = others_running();
            let run = bench.run(scenario, (index, cell), &dir, &kept_log);
            // What ended early was not measured as long as the others.
            if phases::is_interrupted() {
                return Err(Error::TooLate(format!("interrupted after {} of {total} runs", count - 1)));
            }
            let run = run.map_err(|error| {
                let log = if kept_log.exists() {
                    format!("\nits output is in {}", kept_log.display())
                } else {
                    String::new()
                };
                Error::TooLate(format!("{}: {error}{log}", cell.name))
            })?;
            say(&format!("{count:>4}/{total} {}: {}", cell.name, run.text()));
            result.add(index, round, others, run);
        }
    }
    Ok(())
}

/// A new or empty directory for the results, and one for the data.
fn prepare_dirs(out: &Path, data: Option<&Path>) -> Result<PathBuf, Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { path, source }
    };
    fs::create_dir_all(out).map_err(failed(out))?;
    if fs::read_dir(out).map_err(failed(out))?.next().is_some() {
        return Err(Error::Usage(format!("{} is not empty; name a new directory with --out", out.display())));
    }
    let data = data.map_or_else(|| out.join("data"), Path::to_owned);
    fs::create_dir_all(&data).map_err(failed(&data))?;
    let data = fs::canonicalize(&data).map_err(failed(&data))?;
    // It stands between these in the command that starts a server.
    if data.to_string_lossy().contains('\'') {
        return Err(Error::Usage(format!("{}: a quote in this path is not possible", data.display())));
    }
    Ok(data)
}

/// To whoever reads along. One who has gone (`| head`) must not end a measurement.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn default_out(scenario: &Path) -> PathBuf {
    let stem = scenario.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let time = crate::page::utc(wall_ms() / 1000).replace(':', "").replace(' ', "-");
    PathBuf::from(format!("sweep-{stem}-{time}"))
}

/// Start and stop take a moment, and reading back takes about as long as sending.
fn estimate(scenario: &Scenario, cells: usize) -> Duration {
    let load = scenario.warmup + scenario.duration;
    let rest = match (scenario.is_engine, scenario.verify) {
        (true, _) => Duration::from_millis(700),
        (false, true) => Duration::from_secs(1) + load.mul_f64(0.8),
        (false, false) => Duration::from_secs(1),
    };
    (load + rest).saturating_mul(u32::try_from(cells).unwrap_or(u32::MAX).saturating_mul(scenario.rounds))
}

fn spoken(time: Duration) -> String {
    match time.as_secs() {
        ..120 => format!("{} s", time.as_secs()),
        seconds => format!("{:.0} min", seconds as f64 / 60.0),
    }
}

/// What to say of a name that nobody knows.
fn closest(name: &str, known: &[&str]) -> String {
    let near = known.iter().map(|other| (distance(name, other), other)).min();
    match near {
        Some((steps, other)) if steps <= 2.max(name.len() / 3) => format!("unknown; did you mean {other}?"),
        _ => format!("unknown; known are {}", known.join(", ")),
    }
}

/// How many letters must be changed, added or taken away.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut before = row[0];
        row[0] = index + 1;
        for at in 0..other.len() {
            let changed = before + usize::from(other[at] != letter);
            before = row[at + 1];
            row[at + 1] = changed.min(before + 1).min(row[at] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::scenario::tests::parsed;

    #[test]
    fn the_time_is_known_before() {
        let broker = parsed("rounds = 2\nwarmup = '1s'\nduration = '4s'\n[load]\nbatch = 1").unwrap();
        assert_eq!(estimate(&broker, 3), Duration::from_secs(60));
        let engine = parsed("rounds = 1\nwarmup = '300ms'\nduration = '1s'\n[engine]\nwaiters = 1").unwrap();
        assert_eq!(estimate(&engine, 10), Duration::from_secs(20));
        assert_eq!(
            (spoken(Duration::from_secs(119)), spoken(Duration::from_secs(7200))),
            ("119 s".into(), "120 min".into())
        );
    }

    #[test]
    fn a_slip_of_the_finger_is_understood() {
        assert_eq!(distance("waiters", "waitrs"), 1);
        assert_eq!(closest("waitrs", &["batch", "waiters"]), "unknown; did you mean waiters?");
        assert_eq!(closest("colour", &["batch", "waiters"]), "unknown; known are batch, waiters");
    }
}
