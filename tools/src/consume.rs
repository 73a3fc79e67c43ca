//! `rmq-bench consume`: pulls all queues, counts, and checks every message on its own.

use std::time::Duration;

use clap::{Args, ValueEnum};
use rmq_protocol::record::RecordRef;
use serde::Serialize;

use crate::body::{BodyError, Stamp};
use crate::cli::{CodecName, OutputArgs, parse_duration, seconds};
use crate::clock::wall_ms;
use crate::error::Error;
use crate::phases::Phases;
use crate::produce::parse_rate;
use crate::progress::{self, Watched};
use crate::pull::{Pull, PullRange, PullSettings, Visitor};
use crate::report::{Measured, Report};
use crate::tally::{Live, Tally};
use crate::target::{Target, TargetArgs, Use};

const EXAMPLES: &str = "\
Examples:
  rmq-bench consume --until-end                            a cold backlog, as fast as it comes
  rmq-bench consume -c 4 --group cold -r 20000 -d 30s      four connections, at a rate
  rmq-bench consume --from latest -d 30s                   long polling; latency from send to here
  rmq-bench consume --until-end --one-at-a-time -b 32      strictly one pull after the other
  rmq-bench consume --tags 'TagA || TagC' --until-end      with a filter
  rmq-bench consume --sql \"color = 'red'\" --until-end     with one of properties

Exit codes: 0 all is well, 1 damaged messages or none at all, 2 wrong command line, 3 no run could be made.";

#[derive(Args, Clone, Debug, Serialize)]
#[command(after_help = EXAMPLES)]
pub struct ConsumeArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub pull: PullArgs,
    /// Where to begin
    #[arg(long, value_enum, default_value_t = From::Earliest)]
    pub from: From,
    /// Stop at what the queues hold when we begin
    #[arg(long, conflicts_with = "from")]
    pub until_end: bool,
    /// How long to consume [default: 10s, unless --messages or --until-end is given, then at most 10m]
    #[arg(short, long, value_parser = parse_duration, value_name = "TIME")]
    #[serde(serialize_with = "seconds")]
    pub duration: Option<Duration>,
    /// How many messages to consume
    #[arg(short, long, value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: Option<u64>,
    /// Messages per second at most; without it, as fast as they come
    #[arg(short, long, value_parser = parse_rate, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// One pull at a time on each connection, whatever the number of its queues; asks for --suspend 0 where queues may be
    /// empty, since one that is held holds up the others
    #[arg(long)]
    pub one_at_a_time: bool,
    /// Count only; leave checksums alone
    #[arg(long)]
    pub no_check: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Args, Clone, Debug, Serialize)]
pub struct PullArgs {
    /// Connections; each queue is pulled by one, and all queues of one are pulled at the same time
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub connections: u32,
    /// Threads of the generator
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: u32,
    /// Messages per pull
    #[arg(short = 'b', long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub max_messages: u32,
    /// How long the broker may hold a pull that finds nothing (long polling); 0: answer at once, ask again 50 ms later
    #[arg(long, visible_alias = "long-poll", value_parser = parse_duration, default_value = "15s", value_name = "TIME")]
    #[serde(serialize_with = "crate::cli::seconds_of")]
    pub suspend: Duration,
    /// Tags to ask for, such as `A || B`
    #[arg(long, default_value = "*")]
    pub tags: String,
    /// SQL92 expression to ask for, such as `price > 10 AND color = 'red'`
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "tags")]
    pub sql: Option<String>,
    /// Consumer group
    #[arg(long, default_value = "rmq-bench")]
    pub group: String,
    /// How headers are written
    #[arg(long, value_enum, default_value_t = CodecName::Json)]
    pub codec: CodecName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// The oldest message of each queue; latency is that of the pulls that bring something
    #[value(alias = "min")]
    Earliest,
    /// What arrives from now on; latency is that from send to here, on one machine
    #[value(alias = "max")]
    Latest,
}

impl PullArgs {
    /// The tags of the expression; empty: all messages.
    fn wanted_tags(&self) -> Vec<String> {
        let tags = self.tags.split("||").map(str::trim).filter(|tag| !tag.is_empty());
        if self.tags.trim() == "*" { Vec::new() } else { tags.map(String::from).collect() }
    }

    pub fn settings(&self, target: &Target) -> PullSettings {
        PullSettings {
            address: target.address,
            topic: target.topic.clone(),
            group: self.group.clone(),
            codec: self.codec.codec(),
            connections: (self.connections as usize).div_ceil(self.threads as usize),
            max_messages: self.max_messages,
            suspend: self.suspend,
            subscription: self.sql.as_ref().unwrap_or(&self.tags).clone(),
            is_sql: self.sql.is_some(),
            strict: false,
            rate: None,
        }
    }
}

/// Runs the subcommand. `Ok(false)`: something was damaged, or nothing came at all.
pub fn exec(args: ConsumeArgs) -> Result<bool, Error> {
    let target = args.target.locate(Use::Pull)?;
    if args.pull.connections > target.queues.max(8) {
        return Err(Error::Usage(format!(
            "--connections {} is more than the {} queues of {}; each queue is pulled by one connection",
            args.pull.connections, target.queues, target.topic
        )));
    }
    let ranges = args.ranges(&target)?;
    let limit = match (args.duration, args.messages, args.until_end) {
        (Some(duration), _, _) => duration,
        (None, None, false) => Duration::from_secs(10),
        _ => Duration::from_secs(600),
    };
    let started_at_ms = wall_ms();
    let phases = Phases::starting_now(Duration::ZERO, Some(limit));
    let threads = (args.pull.threads as usize).min(ranges.len()).max(1);
    let lives: Vec<Live> = (0..threads).map(|_| Live::default()).collect();
    let (tally, watch) = std::thread::scope(|scope| {
        let mut handles = Vec::new();
        for (thread, live) in lives.iter().enumerate() {
            let share: Vec<PullRange> = ranges.iter().copied().skip(thread).step_by(threads).collect();
            let settings = PullSettings {
                strict: args.one_at_a_time,
                rate: args.rate.map(|rate| rate / threads as f64),
                ..args.pull.settings(&target)
            };
            let consumer = Consumer {
                left: args.messages.map_or(u64::MAX, |messages| messages.div_ceil(threads as u64)),
                check: !args.no_check,
                timed: args.from == From::Latest,
                topic: target.topic.clone(),
                tags: args.pull.wanted_tags(),
                is_filtered: args.pull.sql.is_some() || !args.pull.wanted_tags().is_empty(),
            };
            let phases = &phases;
            handles.push(scope.spawn(move || Pull::new(settings, &share, consumer, phases, live)?.run()));
        }
        let backlog = || ranges.iter().map(|range| Some((range.end? - range.next).max(0) as u64)).sum();
        let watched = Watched::only(&lives, args.messages.or_else(backlog));
        let watch = progress::watch(&phases, &watched, &args.output, || {
            handles.iter().all(|handle| handle.is_finished())
        });
        if watch.is_err() {
            phases.stop();
        }
        let mut tally = Tally::default();
        for handle in handles {
            let (_, counted, _) = handle.join().expect("a pull thread does not panic")?;
            tally.merge(counted);
        }
        Ok::<_, Error>((tally, watch?))
    })?;
    // With an end to reach, the time counts until it was reached.
    let measured = Measured {
        started_at_ms,
        seconds: phases.measured_seconds(tally.last_ns),
        cpu: watch.at_end.since(watch.at_measure),
    };
    let damaged = tally.anomalies.contains_key(DAMAGED);
    let nothing =
        tally.messages == 0 && ranges.iter().any(|range| range.end.is_none_or(|end| range.next < end));
    let output = args.output.clone();
    Report::new("consume", &output, args, target, &tally, measured).publish(&output)?;
    Ok(!damaged && !nothing)
}

impl ConsumeArgs {
    fn ranges(&self, target: &Target) -> Result<Vec<PullRange>, Error> {
        let mut control = target.control()?;
        (0..target.queues)
            .map(|queue| {
                let (min, max) = target.offsets(&mut control, queue)?;
                Ok(PullRange {
                    queue,
                    next: if self.from == From::Earliest { min } else { max },
                    end: self.until_end.then_some(max),
                })
            })
            .collect()
    }
}

const DAMAGED: &str = "messages damaged";

struct Consumer {
    left: u64,
    check: bool,
    timed: bool,
    topic: String,
    /// Empty: messages of all tags are wanted.
    tags: Vec<String>,
    is_filtered: bool,
}

impl Visitor for Consumer {
    fn record(&mut self, queue: u32, record: &RecordRef<'_>, now_ns: u64, tally: &mut Tally) {
        self.left = self.left.saturating_sub(1);
        if !self.check && !self.timed {
            return;
        }
        if record.queue_id() != queue as i32 || record.topic() != self.topic {
            tally.anomaly("messages of another queue");
        }
        if !self.tags.is_empty() {
            // Brokers compare hashes, so this is possible; a consumer drops them.
            let tag = record.properties().find("TAGS").unwrap_or_default();
            if !self.tags.iter().any(|wanted| wanted == tag) {
                tally.anomaly("messages of another tag");
            }
        }
        match Stamp::read(record.body()) {
            Ok((stamp, _)) if self.timed => tally.latency(now_ns.saturating_sub(stamp.sent_ns)),
            Ok(_) => {}
            Err(BodyError::Foreign) if record.body_is_intact() => {
                tally.anomaly("messages of another producer")
            }
            Err(_) => tally.anomaly(DAMAGED),
        }
    }

    fn moved(&mut self, _queue: u32, _asked: i64, _next: i64, tally: &mut Tally) {
        // With a filter that is what offsets of other messages look like.
        if !self.is_filtered {
            tally.anomaly("jumps over offsets that hold nothing");
        }
    }

    fn pulled(&mut self, latency_ns: u64, tally: &mut Tally) {
        if self.timed {
            tally.step("pull", latency_ns);
        } else {
            tally.latency(latency_ns);
        }
    }

    fn enough(&self) -> bool {
        self.left == 0
    }
}
