//! `rmq-bench produce`: sends, and says how fast and how long it took.

pub mod frames;
pub mod load;
pub mod pace;
pub mod properties;
pub mod sender;
pub mod transaction;
pub mod window;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rmq_protocol::sys_flag;
use serde::Serialize;

use crate::body::mix;
use crate::cli::{CodecName, OutputArgs, parse_duration, seconds};
use crate::clock::{monotonic_ns, wall_ms};
use crate::error::Error;
use crate::journal::{JournalHead, JournalWriter};
use crate::payload::{PayloadArgs, parse_ratio};
use crate::phases::Phases;
use crate::produce::frames::SendShape;
use crate::produce::load::{Load, LoadSettings, Promise};
use crate::produce::pace::Pace;
use crate::produce::properties::PropertyShape;
use crate::produce::transaction::TransactionShape;
use crate::progress::{self, Watched};
use crate::report::{Measured, Report};
use crate::tally::{Live, Tally};
use crate::target::{Target, TargetArgs, Use};

const EXAMPLES: &str = "\
Examples:
  rmq-bench produce -c 8 -i 32 -d 10s --warmup 2s          closed loop: 8 x 32 in flight
  rmq-bench produce -r 50000 -d 30s                        open loop: from when each was due
  rmq-bench produce -s 128-4096 --compressible 0.5 --keys --tags 5 --property color=red
  rmq-bench produce --batch 32                             batches
  rmq-bench produce --transaction --rollback 0.1           half message and its end, timed apart
  rmq-bench produce --delay-level 3 -m 10000 --journal j   then: verify --journal j --wait 15s
  rmq-bench produce --timer-in 60s -m 1000000              timer messages that are all due together
  rmq-bench produce --server-pid $(pidof rmq-server) --json a.json --csv a.csv --hdr a.hdr

Exit codes: 0 something was stored, 1 nothing was, 2 wrong command line, 3 no run could be made.";

#[derive(Args, Clone, Debug, Serialize)]
#[command(after_help = EXAMPLES)]
pub struct ProduceArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub load: LoadArgs,
    /// Write what became of every send to this file, for `verify`
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Args, Clone, Debug, Serialize)]
pub struct LoadArgs {
    /// Queues: the topic is created with, or changed to, this many
    #[arg(short, long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=16384))]
    pub queues: u32,
    /// Use the topic as it is
    #[arg(long, conflicts_with = "queues")]
    pub no_create: bool,
    /// Connections
    #[arg(short, long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub connections: u32,
    /// Requests in flight on each connection
    #[arg(short, long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub in_flight: u32,
    /// Threads of the generator
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: u32,
    /// Messages per request; more than one sends batches
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch: u32,
    /// Messages per second, whatever the server does (open loop); without it, as fast as answers come
    #[arg(short, long, value_parser = parse_rate, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// How long to send [default: 10s, unless --messages is given]
    #[arg(short, long, value_parser = parse_duration, value_name = "TIME")]
    #[serde(serialize_with = "seconds")]
    pub duration: Option<Duration>,
    /// How many messages to send
    #[arg(short, long, value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: Option<u64>,
    /// Send this long before measuring
    #[arg(long, value_parser = parse_duration, value_name = "TIME", conflicts_with = "messages")]
    #[serde(serialize_with = "seconds")]
    pub warmup: Option<Duration>,
    /// Ask for no answers
    #[arg(long)]
    pub oneway: bool,
    /// Messages come to consumers later: level 1 is 1 s, 2 is 5 s, 3 is 10 s, ... unless the broker says otherwise
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub delay_level: Option<u32>,
    /// Messages come to consumers this long after each was sent, by the timer of 5.x brokers
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "delay_level")]
    #[serde(serialize_with = "seconds")]
    pub timer_delay: Option<Duration>,
    /// All messages come to consumers at the same time: this long after the start
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with_all = ["delay_level", "timer_delay"])]
    #[serde(serialize_with = "seconds")]
    pub timer_in: Option<Duration>,
    /// Each message is a transaction: a half message, then the request that commits it; latency is that of both
    #[arg(long, conflicts_with_all = ["oneway", "delay_level", "timer_delay", "timer_in"])]
    pub transaction: bool,
    /// Share of the transactions that is rolled back instead
    #[arg(long, value_name = "RATIO", default_value_t = 0.0, value_parser = parse_ratio, requires = "transaction")]
    pub rollback: f64,
    /// How headers are written
    #[arg(long, value_enum, default_value_t = CodecName::Json)]
    pub codec: CodecName,
    /// Producer group
    #[arg(long, default_value = "rmq-bench")]
    pub group: String,
    /// Give up on an answer after this long
    #[arg(long, value_parser = parse_duration, default_value = "10s", value_name = "TIME")]
    #[serde(serialize_with = "crate::cli::seconds_of")]
    pub timeout: Duration,
    /// Name of this run in message bodies, hexadecimal [default: drawn from the clock]
    #[arg(long, value_parser = parse_run)]
    pub run: Option<u64>,
    #[command(flatten)]
    #[serde(flatten)]
    pub payload: PayloadArgs,
}

pub fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (1e-3..=1e8).contains(&rate) => Ok(rate),
        _ => Err(String::from("must be a number from 0.001 to 100000000")),
    }
}

fn parse_run(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16).map_err(|_| String::from("must be up to 16 hexadecimal digits"))
}

/// Runs the subcommand. `Ok(false)`: nothing at all was stored.
pub fn exec(mut args: ProduceArgs) -> Result<bool, Error> {
    args.load.settle();
    args.load.check()?;
    let target = args.load.prepare(&args.target)?;
    let journal = match &args.journal {
        Some(path) => Some(JournalWriter::create(path, &args.load.journal_head(&target.topic))?),
        None => None,
    };
    let started_at_ms = wall_ms();
    let phases = Phases::starting_now(args.load.warmup.unwrap_or_default(), args.load.duration);
    let produced = run(&args.load, &target, journal, &phases, &args.output)?;
    let measured = Measured {
        started_at_ms,
        seconds: phases.measured_seconds(produced.tally.last_ns),
        cpu: produced.watch.at_end.since(produced.watch.at_measure),
    };
    let output = args.output.clone();
    Report::new("produce", &output, args, target, &produced.tally, measured).publish(&output)?;
    Ok(produced.tally.messages > 0)
}

pub struct Produced {
    pub tally: Tally,
    pub watch: progress::Watch,
}

/// Sends through all phases and waits for the answers.
pub fn run(
    args: &LoadArgs,
    target: &Target,
    journal: Option<JournalWriter>,
    phases: &Phases,
    output: &OutputArgs,
) -> Result<Produced, Error> {
    run_beside(args, target, journal, phases, output, &[])
}

/// The same, shown together with those that receive what is sent.
pub fn run_beside(
    args: &LoadArgs,
    target: &Target,
    journal: Option<JournalWriter>,
    phases: &Phases,
    output: &OutputArgs,
    receivers: &[Live],
) -> Result<Produced, Error> {
    let threads = args.threads.min(args.connections) as usize;
    let lives: Vec<Live> = (0..threads).map(|_| Live::default()).collect();
    let produced = std::thread::scope(|scope| {
        let mut handles = Vec::new();
        for (thread, live) in lives.iter().enumerate() {
            let settings = args.thread_settings(target, thread, threads, phases);
            let feed = journal.as_ref().map(JournalWriter::feed);
            handles.push(scope.spawn(move || Load::new(settings, feed, phases, live)?.run()));
        }
        let watched = match receivers {
            [] => Watched::only(&lives, args.messages),
            _ => Watched { senders: &lives, ..Watched::only(receivers, None) },
        };
        let watch =
            progress::watch(phases, &watched, output, || handles.iter().all(|handle| handle.is_finished()));
        if watch.is_err() {
            phases.stop();
        }
        let mut tally = Tally::default();
        for handle in handles {
            tally.merge(handle.join().expect("a load thread does not panic")?);
        }
        Ok::<_, Error>(Produced { tally, watch: watch? })
    })?;
    journal.map_or(Ok(()), JournalWriter::finish)?;
    Ok(produced)
}

impl LoadArgs {
    /// Fills in what the command line left open.
    pub fn settle(&mut self) {
        if self.duration.is_none() && self.messages.is_none() {
            self.duration = Some(Duration::from_secs(10));
        }
        self.run.get_or_insert_with(|| mix(wall_ms() ^ monotonic_ns().rotate_left(32)));
    }

    pub fn is_delayed(&self) -> bool {
        self.delay_level.is_some() || self.timer_delay.is_some() || self.timer_in.is_some()
    }

    /// What single values cannot tell.
    pub fn check(&self) -> Result<(), Error> {
        self.payload.check()?;
        let size = self.shape("").frame_body_size();
        if size > rmq_protocol::FRAME_SIZE_MAX - 64 * 1024 {
            return Err(Error::Usage(format!(
                "--batch {} x --body-size {} makes {size} bytes, more than one frame can carry",
                self.batch, self.payload.body_size
            )));
        }
        if self.batch > 1 && (self.transaction || self.is_delayed()) {
            return Err(Error::Usage(String::from(
                "messages of a batch can neither be delayed nor be transactions: use --batch 1",
            )));
        }
        if self.messages.is_some_and(|messages| messages % u64::from(self.batch) != 0) {
            return Err(Error::Usage(format!("--messages must be a multiple of --batch {}", self.batch)));
        }
        Ok(())
    }

    pub fn prepare(&self, target: &TargetArgs) -> Result<Target, Error> {
        if self.no_create { target.locate(Use::Send) } else { target.create(self.queues) }
    }

    pub fn journal_head(&self, topic: &str) -> JournalHead {
        JournalHead {
            run: self.run.unwrap_or_default(),
            body: self.payload.body_shape(self.run.unwrap_or_default()),
            batch: self.batch,
            topic: topic.to_owned(),
        }
    }

    fn shape(&self, topic: &str) -> SendShape {
        let body = self.payload.body_shape(self.run.unwrap_or_default());
        let mut fixed = self.payload.fixed_properties();
        if let Some(level) = self.delay_level {
            fixed.push_str(&format!("DELAY\u{1}{level}\u{2}"));
        }
        if let Some(delay) = self.timer_delay {
            fixed.push_str(&format!("TIMER_DELAY_MS\u{1}{}\u{2}", delay.as_millis()));
        }
        if let Some(ahead) = self.timer_in {
            let due_ms = wall_ms() + ahead.as_millis() as u64;
            fixed.push_str(&format!("TIMER_DELIVER_MS\u{1}{due_ms}\u{2}"));
        }
        if self.transaction {
            fixed.push_str(&format!("TRAN_MSG\u{1}true\u{2}PGROUP\u{1}{}\u{2}", self.group));
        }
        SendShape {
            topic: topic.to_owned(),
            group: self.group.clone(),
            codec: self.codec.codec(),
            properties: PropertyShape {
                unique_key: !self.payload.no_unique_key,
                keys: self.payload.keys,
                tags: self.payload.tags,
                seed: body.seed,
                fixed,
            },
            body,
            batch: self.batch as usize,
            oneway: self.oneway,
            sys_flag: if self.transaction { sys_flag::TRANSACTION_PREPARED } else { 0 },
        }
    }

    fn promise(&self, target: &Target) -> Promise {
        if self.transaction {
            return Promise::Half(TransactionShape {
                topic: target.topic.clone(),
                group: self.group.clone(),
                codec: self.codec.codec(),
                rollback: self.rollback,
                seed: self.payload.seed.or(self.run).unwrap_or_default(),
            });
        }
        if self.is_delayed() { Promise::Delayed } else { Promise::Stored }
    }

    fn thread_settings(
        &self,
        target: &Target,
        thread: usize,
        threads: usize,
        phases: &Phases,
    ) -> LoadSettings {
        let requests = self.messages.map_or(u64::MAX, |messages| messages / u64::from(self.batch));
        let budget = match requests {
            u64::MAX => u64::MAX,
            _ => requests / threads as u64 + u64::from((thread as u64) < requests % threads as u64),
        };
        LoadSettings {
            address: target.address,
            shape: self.shape(&target.topic),
            run: self.run.unwrap_or_default(),
            queues: target.queues as usize,
            numbers: (0..self.connections).skip(thread).step_by(threads).collect(),
            connections: self.connections,
            in_flight: self.in_flight as usize,
            pace: self
                .rate
                .map(|rate| Pace::new(rate / f64::from(self.batch), phases.start_ns, thread, threads)),
            budget,
            timeout_ns: self.timeout.as_nanos() as u64,
            promise: self.promise(target),
        }
    }
}
