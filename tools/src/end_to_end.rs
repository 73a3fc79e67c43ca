//! `rmq-bench end-to-end`: sends at a fixed rate, receives by long polling, and says how long it took from when a
//! send was due until a consumer had the message.
//!
//! What counts is decided by when a message was due, not by when it came: a message that is late still belongs to
//! the second that asked for it, and the run waits for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use rmq_protocol::record::RecordRef;
use serde::Serialize;

use crate::body::{BodyError, Stamp};
use crate::cli::{OutputArgs, parse_duration, seconds_of};
use crate::clock::wall_ms;
use crate::error::Error;
use crate::phases::{self, Phases};
use crate::produce::{self, LoadArgs, Produced};
use crate::pull::{Pull, PullRange, PullSettings, Visitor};
use crate::report::{Latency, Measured, Report};
use crate::tally::{Live, Tally};
use crate::target::{Target, TargetArgs};

/// Consumers are connected and wait by then, so that the first messages find them as the others do.
const LEAD: Duration = Duration::from_millis(300);
/// What was stored and has not come this long after the last send is missing.
const DRAIN: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  rmq-bench end-to-end -r 50000 -d 30s
  rmq-bench end-to-end -r 1000 -c 1 -q 1 --pull-connections 1 --json e2e.json";

#[derive(Args, Clone, Debug, Serialize)]
#[command(after_help = EXAMPLES)]
pub struct EndToEndArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub load: LoadArgs,
    /// Connections of the consumer; each queue is pulled by one
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub pull_connections: u32,
    /// Messages per pull
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub pull_messages: u32,
    /// How long the broker may hold a pull that finds nothing
    #[arg(long, value_parser = parse_duration, default_value = "15s", value_name = "TIME")]
    #[serde(serialize_with = "seconds_of")]
    pub suspend: Duration,
    /// Consumer group
    #[arg(long, default_value = "rmq-bench")]
    pub consumer_group: String,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Runs the subcommand. `Ok(false)`: something that was stored did not come, came damaged, or nothing came.
pub fn exec(mut args: EndToEndArgs) -> Result<bool, Error> {
    if args.load.rate.is_none() {
        return Err(Error::Usage(String::from(
            "end-to-end needs --rate: as fast as possible, it would measure how long the queues get",
        )));
    }
    args.load.settle();
    args.load.check()?;
    let target = args.load.prepare(&args.target)?;
    let ranges = ends(&target)?;
    let started_at_ms = wall_ms();
    // The receiver measures first, so that it is ready for whatever is due in the sender's window.
    let receiving = Phases::starting_in(LEAD, args.load.warmup.unwrap_or_default(), None);
    let sending = Phases::starting_in(LEAD, args.load.warmup.unwrap_or_default(), args.load.duration);
    let intake = Intake { seen: AtomicU64::new(0), stored: AtomicU64::new(u64::MAX) };
    let receiver = Receiver {
        intake: &intake,
        run: args.load.run.unwrap_or_default(),
        window_ns: (sending.measure_ns, sending.end_ns),
        messages: 0,
        bytes: 0,
    };
    let live = [Live::default()];
    let (produced, received) = std::thread::scope(|scope| {
        let settings = args.pull_settings(&target);
        let pull = Pull::new(settings, &ranges, receiver, &receiving, &live[0])?;
        let consumer = scope.spawn(move || pull.run());
        let produced = produce::run_beside(&args.load, &target, None, &sending, &args.output, &live)
            .and_then(|produced| Ok((produced, stored_since(&target, &ranges)?)));
        let patience = Instant::now() + DRAIN;
        if let Ok((_, stored)) = &produced {
            intake.stored.store(*stored, Ordering::Relaxed);
            while !consumer.is_finished() && Instant::now() < patience {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        receiving.stop();
        let received = consumer.join().expect("the pull thread does not panic");
        Ok::<_, Error>((produced?.0, received?))
    })?;

    let (receiver, mut tally, _) = received;
    (tally.messages, tally.bytes) = (receiver.messages, receiver.bytes);
    let missing = intake.missing();
    if missing > 0 && !phases::is_interrupted() {
        tally.anomalies.insert("messages stored that did not come", missing);
    }
    report(args, target, produced, tally, &sending, started_at_ms)
}

fn report(
    args: EndToEndArgs,
    target: Target,
    produced: Produced,
    mut tally: Tally,
    sending: &Phases,
    started_at_ms: u64,
) -> Result<bool, Error> {
    let passed = tally.messages > 0 && tally.anomalies.is_empty();
    tally.merge_failures(&produced.tally);
    let end_ns = sending.end_ns.min(produced.tally.last_ns.max(sending.measure_ns));
    let end_ns =
        if args.load.duration.is_some() && !phases::is_interrupted() { sending.end_ns } else { end_ns };
    let seconds = end_ns.saturating_sub(sending.measure_ns) as f64 / 1e9;
    // Later seconds only wait for what is late; that counts in the whole.
    tally.seconds.truncate(seconds as usize);
    let cpu = produced.watch.at_end.since(produced.watch.at_measure);
    let measured = Measured { started_at_ms, seconds, cpu };
    let output = args.output.clone();
    let mut report = Report::new("end-to-end", &output, args, target, &tally, measured);
    report.answer_latency_us = Latency::of(&produced.tally.latency);
    report.publish(&output)?;
    Ok(passed)
}

impl EndToEndArgs {
    fn pull_settings(&self, target: &Target) -> PullSettings {
        PullSettings {
            address: target.address,
            topic: target.topic.clone(),
            group: self.consumer_group.clone(),
            codec: self.load.codec.codec(),
            connections: self.pull_connections as usize,
            max_messages: self.pull_messages,
            suspend: self.suspend,
            subscription: String::from("*"),
            is_sql: false,
            strict: false,
            rate: None,
        }
    }
}

/// Where each queue ends now.
fn ends(target: &Target) -> Result<Vec<PullRange>, Error> {
    let mut control = target.control()?;
    (0..target.queues)
        .map(|queue| {
            let (_, next) = target.offsets(&mut control, queue)?;
            Ok(PullRange { queue, next, end: None })
        })
        .collect()
}

fn stored_since(target: &Target, before: &[PullRange]) -> Result<u64, Error> {
    let now = ends(target)?;
    Ok(now.iter().zip(before).map(|(now, before)| (now.next - before.next).max(0) as u64).sum())
}

/// How far the consumer is, told to the thread that waits for it.
struct Intake {
    /// Records of any kind, since the run began.
    seen: AtomicU64,
    /// How many there are to see; known when all has been sent.
    stored: AtomicU64,
}

impl Intake {
    fn missing(&self) -> u64 {
        match self.stored.load(Ordering::Relaxed) {
            u64::MAX => 0,
            stored => stored.saturating_sub(self.seen.load(Ordering::Relaxed)),
        }
    }

    fn is_complete(&self) -> bool {
        self.stored.load(Ordering::Relaxed) <= self.seen.load(Ordering::Relaxed)
    }
}

struct Receiver<'a> {
    intake: &'a Intake,
    run: u64,
    /// Messages due from here up to there count.
    window_ns: (u64, u64),
    messages: u64,
    bytes: u64,
}

impl Visitor for Receiver<'_> {
    fn record(&mut self, _queue: u32, record: &RecordRef<'_>, now_ns: u64, tally: &mut Tally) {
        self.intake.seen.fetch_add(1, Ordering::Relaxed);
        match Stamp::read(record.body()) {
            Ok((stamp, _)) if stamp.run == self.run => {
                if (self.window_ns.0..self.window_ns.1).contains(&stamp.sent_ns) {
                    self.messages += 1;
                    self.bytes += record.body().len() as u64;
                    tally.latency(now_ns.saturating_sub(stamp.sent_ns));
                }
            }
            Ok(_) | Err(BodyError::Foreign) => tally.anomaly("messages of another producer"),
            Err(_) => tally.anomaly("messages damaged"),
        }
    }

    fn moved(&mut self, _queue: u32, _asked: i64, _next: i64, tally: &mut Tally) {
        tally.anomaly("jumps over offsets that hold nothing");
    }

    fn enough(&self) -> bool {
        self.intake.is_complete()
    }
}
