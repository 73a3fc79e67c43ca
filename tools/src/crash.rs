//! `rmq-bench crash`: kills a server in the middle of a load, starts it again, and verifies everything that was
//! acknowledged so far; round after round on the same data.

pub mod server;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::body::mix;
use crate::cli::{OutputArgs, parse_duration};
use crate::clock::{monotonic_ns, wall_ms};
use crate::consume::PullArgs;
use crate::crash::server::{Server, ServerCommand};
use crate::error::Error;
use crate::journal::JournalWriter;
use crate::phases::{self, Phases};
use crate::produce::{self, LoadArgs};
use crate::report::write_file;
use crate::target::{Target, TargetArgs, Use};
use crate::verify::inspector::{Inspector, Order};
use crate::verify::ledger::Ledger;
use crate::verify::{Verdict, inspect};

#[derive(Args, Clone, Debug, Serialize)]
pub struct CrashArgs {
    /// Starts the server in the foreground; {dir}, {port} and {nsport} are filled in
    #[arg(long, value_name = "COMMAND")]
    pub server_cmd: String,
    /// Working directory, new or empty: data/, journals and server.log
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Broker port [default: a free one]
    #[arg(long)]
    pub port: Option<u16>,
    /// Name server port [default: a free one]
    #[arg(long)]
    pub nsport: Option<u16>,
    /// Rounds of load, kill, restart and verification
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rounds: u32,
    /// Shortest load before the kill
    #[arg(long, value_parser = parse_duration, default_value = "300ms", value_name = "TIME")]
    #[serde(serialize_with = "crate::cli::seconds_of")]
    pub load_min: Duration,
    /// Longest load before the kill
    #[arg(long, value_parser = parse_duration, default_value = "2s", value_name = "TIME")]
    #[serde(serialize_with = "crate::cli::seconds_of")]
    pub load_max: Duration,
    /// The server must serve again within this time
    #[arg(long, value_parser = parse_duration, default_value = "60s", value_name = "TIME")]
    #[serde(serialize_with = "crate::cli::seconds_of")]
    pub start_limit: Duration,
    /// Each verification must end within this time
    #[arg(long, value_parser = parse_duration, default_value = "5m", value_name = "TIME")]
    #[serde(serialize_with = "crate::cli::seconds_of")]
    pub verify_limit: Duration,
    /// Read everything again every so many rounds and in the last one; between, only what is new
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub recheck_every: u32,
    /// Which order to insist on
    #[arg(long, value_enum, default_value_t = Order::Answered)]
    pub order: Order,
    /// Topic
    #[arg(short, long, default_value = "rmq-crash")]
    pub topic: String,
    #[command(flatten)]
    pub load: LoadArgs,
    /// Write the rounds as JSON to this file
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Round {
    round: u32,
    load_seconds: f64,
    acknowledged: u64,
    unanswered: u64,
    ready_seconds: f64,
    verdict: Verdict,
}

/// Runs the subcommand. `Ok(false)`: something acknowledged was lost, or the data was damaged otherwise.
pub fn exec(mut args: CrashArgs) -> Result<bool, Error> {
    args.check()?;
    // Chooses the lengths of the loads, too. Bodies are drawn anew in each round, so that old ones are noticed.
    let seed = args.load.payload.seed.take().unwrap_or_else(|| mix(wall_ms()));
    println!("crash: {} rounds, --seed {seed}", args.rounds);
    let command = ServerCommand::new(&args.server_cmd, &args.dir, args.port, args.nsport)?;
    let mut run = Run { args: &args, command, seed, journals: Vec::new() };
    let mut rounds = Vec::new();
    let clean = run.rounds(&mut rounds);
    if let Some(path) = &args.json {
        write_file(path, &serde_json::to_string_pretty(&rounds).expect("rounds are plain data"))?;
    }
    clean
}

impl CrashArgs {
    fn check(&mut self) -> Result<(), Error> {
        if self.load.duration.is_some() || self.load.messages.is_some() || self.load.warmup.is_some() {
            return Err(Error::Usage(String::from(
                "a crash load ends with the kill: use --load-min and --load-max, not --duration, --messages or --warmup",
            )));
        }
        if self.load.is_delayed() || self.load.transaction {
            return Err(Error::Usage(String::from(
                "crash compares with what is there at once: delays and --transaction are for produce and verify",
            )));
        }
        if self.load_min > self.load_max {
            return Err(Error::Usage(String::from("--load-min is longer than --load-max")));
        }
        self.load.check()?;
        let failed = |source| Error::File { path: self.dir.clone(), source };
        std::fs::create_dir_all(self.dir.join("data")).map_err(failed)?;
        let old = std::fs::read_dir(&self.dir).map_err(failed)?.count() > 1
            || std::fs::read_dir(self.dir.join("data")).map_err(failed)?.count() > 0;
        if old {
            return Err(Error::Usage(format!(
                "{} is not empty; what is in it cannot be told from what this run loses",
                self.dir.display()
            )));
        }
        self.dir = std::fs::canonicalize(&self.dir).map_err(failed)?;
        Ok(())
    }

    fn journal(&self, round: u32) -> PathBuf {
        self.dir.join(format!("round-{round:04}.journal"))
    }

    fn verifier(&self) -> PullArgs {
        PullArgs {
            connections: self.load.connections.min(8),
            threads: 1,
            max_messages: 32,
            suspend: Duration::ZERO,
            tags: String::from("*"),
            sql: None,
            group: String::from("rmq-crash"),
            codec: self.load.codec,
        }
    }
}

struct Run<'a> {
    args: &'a CrashArgs,
    command: ServerCommand,
    seed: u64,
    journals: Vec<PathBuf>,
}

impl Run<'_> {
    fn rounds(&mut self, rounds: &mut Vec<Round>) -> Result<bool, Error> {
        let mut server = self.command.start()?;
        let (mut target, first_ready) = self.ready(&mut server, true)?;
        println!(
            "first start: ready after {:.2} s, {}",
            first_ready.as_secs_f64(),
            target.version_description
        );
        let mut inspector = None;
        for round in 1..=self.args.rounds {
            let (load, acknowledged, unanswered) = self.load_and_kill(round, server, &target)?;
            server = self.command.start()?;
            let ready;
            (target, ready) = self.ready(&mut server, false)?;
            let full = round % self.args.recheck_every == 0 || round == self.args.rounds;
            let (inspected, verdict) = inspect(
                self.inspector(inspector.take().filter(|_| !full))?,
                &target,
                &self.args.verifier(),
                self.args.verify_limit,
            )?;
            inspector = Some(inspected);
            let kept = verdict.clean && verdict.complete;
            println!(
                "round {round}/{}: load {:.2} s, {acknowledged} acknowledged, {unanswered} unanswered; ready again after \
                 {:.2} s; {} of {} in place, {} missing, {} damaged, {} twice, {} out of order: {}",
                self.args.rounds,
                load.as_secs_f64(),
                ready.as_secs_f64(),
                verdict.findings.verified,
                verdict.acknowledged,
                verdict.missing,
                verdict.findings.damaged,
                verdict.findings.duplicated,
                verdict.findings.reordered,
                if kept { "ok" } else { "FAILED" }
            );
            if !kept {
                println!("{}", verdict.text());
            }
            rounds.push(Round {
                round,
                load_seconds: load.as_secs_f64(),
                acknowledged,
                unanswered,
                ready_seconds: ready.as_secs_f64(),
                verdict,
            });
            if !kept {
                // The data stays as it is, for whoever looks for the reason.
                server.kill()?;
                return Ok(false);
            }
            if phases::is_interrupted() {
                break;
            }
        }
        if !server.stop(Duration::from_secs(30))? {
            println!("the server did not end within 30 s of SIGTERM and was killed");
            return Ok(false);
        }
        Ok(true)
    }

    /// Waits until the topic can be used: made on the first start, still known on every other.
    fn ready(&self, server: &mut Server, create: bool) -> Result<(Target, Duration), Error> {
        let started = Instant::now();
        let target = TargetArgs {
            namesrv: format!("127.0.0.1:{}", self.command.namesrv_port),
            topic: self.args.topic.clone(),
            broker: None,
            broker_address: None,
        };
        loop {
            server.check()?;
            let found = if create { target.create(self.args.load.queues) } else { target.locate(Use::Pull) };
            // A registered broker that does not serve yet refuses, and is asked again.
            let usable = found.and_then(|found| {
                let mut control = found.control()?;
                found.offsets(&mut control, 0)?;
                Ok(found)
            });
            match usable {
                Ok(found) if found.queues == self.args.load.queues => return Ok((found, started.elapsed())),
                Ok(found) if started.elapsed() > self.args.start_limit => {
                    return Err(Error::TooLate(format!(
                        "after the restart {} has {} queues, not {}",
                        found.topic, found.queues, self.args.load.queues
                    )));
                }
                Err(error) if started.elapsed() > self.args.start_limit => {
                    return Err(Error::TooLate(format!(
                        "the server does not serve {} s after its start: {error}; {}",
                        self.args.start_limit.as_secs(),
                        server.log_tail()
                    )));
                }
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn load_and_kill(
        &mut self,
        round: u32,
        mut server: Server,
        target: &Target,
    ) -> Result<(Duration, u64, u64), Error> {
        let load = LoadArgs { run: Some(mix(self.seed ^ u64::from(round))), ..self.args.load.clone() };
        let path = self.args.journal(round);
        let journal = JournalWriter::create(&path, &load.journal_head(&target.topic))?;
        self.journals.push(path);
        let spread = (self.args.load_max - self.args.load_min).as_nanos() as u64;
        let length =
            self.args.load_min + Duration::from_nanos(mix(self.seed + u64::from(round)) % (spread + 1));
        let phases = Phases::starting_now(Duration::ZERO, Some(length + Duration::from_secs(60)));
        let output = OutputArgs::default();
        server.check()?;
        let produced = std::thread::scope(|scope| {
            let running = scope.spawn(|| produce::run(&load, target, Some(journal), &phases, &output));
            let end_ns = phases.start_ns + length.as_nanos() as u64;
            while monotonic_ns() < end_ns && !running.is_finished() {
                std::thread::sleep(Duration::from_nanos(
                    end_ns.saturating_sub(monotonic_ns()).min(10_000_000),
                ));
            }
            let killed = server.kill();
            phases.stop();
            let produced = running.join().expect("the load does not panic");
            killed.and(produced)
        })?;
        let tally = &produced.tally;
        let unanswered = tally.failures.values().map(|failure| failure.count).sum();
        Ok((length, tally.messages, unanswered))
    }

    fn inspector(&self, kept: Option<Inspector>) -> Result<Inspector, Error> {
        let newest: &Path = self.journals.last().expect("a round has been made");
        if let Some(mut inspector) = kept {
            inspector.ledger().add(newest)?;
            return Ok(inspector);
        }
        let mut ledger = Ledger::default();
        for journal in &self.journals {
            ledger.add(journal)?;
        }
        Ok(Inspector::new(&self.args.topic, self.args.order, ledger))
    }
}
