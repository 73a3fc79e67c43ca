//! `rmq-bench churn`: connect, one request, its answer, disconnect; over and over.
//!
//! A place is one connection at a time. Closed loop: each place begins anew when it is done. Open loop: a connection is
//! due at a fixed rate and takes the next place that is free, and its latency counts from when it was due.

mod place;

use std::io;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rmq_protocol::Frame;
use serde::Serialize;

use crate::body::mix;
use crate::churn::place::{Place, Stage};
use crate::cli::{CodecName, OutputArgs, parse_duration, seconds};
use crate::clock::{monotonic_ns, wall_ms};
use crate::dial::{Dialer, raise_descriptor_limit};
use crate::error::Error;
use crate::heartbeat;
use crate::meaning;
use crate::payload::PayloadArgs;
use crate::phases::Phases;
use crate::poller::Poller;
use crate::produce::frames::{Frames, Send, SendShape};
use crate::produce::pace::Pace;
use crate::produce::properties::PropertyShape;
use crate::produce::{parse_rate, window::Window};
use crate::progress::{self, Watched};
use crate::report::{Measured, Report};
use crate::tally::{Failure, Live, Tally};
use crate::target::{Target, TargetArgs, Use};

const WAIT_NS: u64 = 50_000_000;
/// After a connection that failed at once a place rests this long, or a dead server would be asked in a tight loop.
const REST_NS: u64 = 10_000_000;

#[derive(Args, Clone, Debug, Serialize)]
pub struct ChurnArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Connections at the same time
    #[arg(short, long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: u32,
    /// Connections per second, whatever the server does (open loop); without it, as fast as they come to an end
    #[arg(short, long, value_parser = parse_rate, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// How long
    #[arg(short, long, value_parser = parse_duration, default_value = "10s", value_name = "TIME")]
    #[serde(serialize_with = "crate::cli::seconds_of")]
    pub duration: Duration,
    /// Do this so long before measuring
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    #[serde(serialize_with = "seconds")]
    pub warmup: Option<Duration>,
    /// What each connection asks for
    #[arg(long, value_enum, default_value_t = Request::Heartbeat)]
    pub request: Request,
    /// Queues of the topic that is sent to
    #[arg(short, long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=16384))]
    pub queues: u32,
    /// Producer group
    #[arg(long, default_value = "rmq-bench")]
    pub group: String,
    /// How headers are written
    #[arg(long, value_enum, default_value_t = CodecName::Json)]
    pub codec: CodecName,
    /// Give up on a connection or its answer after this long
    #[arg(long, value_parser = parse_duration, default_value = "5s", value_name = "TIME")]
    #[serde(serialize_with = "crate::cli::seconds_of")]
    pub timeout: Duration,
    #[command(flatten)]
    #[serde(flatten)]
    pub payload: PayloadArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// A producer's heartbeat
    Heartbeat,
    /// One message
    Send,
}

/// Runs the subcommand. `Ok(false)`: no connection was answered.
pub fn exec(args: ChurnArgs) -> Result<bool, Error> {
    args.payload.check()?;
    raise_descriptor_limit(u64::from(args.connections))?;
    let target = match args.request {
        Request::Heartbeat => args.target.find_broker(Use::Send)?,
        Request::Send => args.target.create(args.queues)?,
    };
    let started_at_ms = wall_ms();
    let phases = Phases::starting_now(args.warmup.unwrap_or_default(), Some(args.duration));
    let lives = [Live::default()];
    let (tally, watch) = std::thread::scope(|scope| {
        let running = scope.spawn(|| Churn::new(&args, &target, &phases, &lives[0])?.run());
        let watched = Watched { counted: "connections", ..Watched::only(&lives, None) };
        let watch = progress::watch(&phases, &watched, &args.output, || running.is_finished());
        if watch.is_err() {
            phases.stop();
        }
        let tally = running.join().expect("the churn thread does not panic")?;
        Ok::<_, Error>((tally, watch?))
    })?;
    let measured = Measured {
        started_at_ms,
        seconds: phases.measured_seconds(tally.last_ns),
        cpu: watch.at_end.since(watch.at_measure),
    };
    let output = args.output.clone();
    let mut report = Report::new("churn", &output, args, target, &tally, measured);
    report.counted = "connections";
    report.publish(&output)?;
    Ok(tally.messages > 0)
}

struct Churn<'a> {
    args: &'a ChurnArgs,
    dialer: Dialer,
    poller: Poller,
    places: Vec<Place>,
    free: Vec<usize>,
    frames: Frames,
    queues: usize,
    pace: Option<Pace>,
    made: u64,
    phases: &'a Phases,
    tally: Tally,
    live: &'a Live,
    measuring: bool,
    /// Nothing new begins; what is under way is waited for.
    ending: bool,
    request: Vec<u8>,
}

impl<'a> Churn<'a> {
    fn new(args: &'a ChurnArgs, target: &Target, phases: &'a Phases, live: &'a Live) -> Result<Self, Error> {
        nix::sys::prctl::set_timerslack(1)
            .map_err(|error| Error::System { what: "timer slack", source: error.into() })?;
        let count = args.connections as usize;
        let run = mix(wall_ms());
        let body = args.payload.body_shape(run);
        let shape = SendShape {
            topic: target.topic.clone(),
            group: args.group.clone(),
            codec: args.codec.codec(),
            properties: PropertyShape {
                unique_key: !args.payload.no_unique_key,
                keys: args.payload.keys,
                tags: args.payload.tags,
                seed: body.seed,
                fixed: args.payload.fixed_properties(),
            },
            body,
            batch: 1,
            oneway: false,
            sys_flag: 0,
        };
        let queues = target.queues.max(1) as usize;
        Ok(Self {
            dialer: Dialer::new(target.address),
            poller: Poller::new(count).map_err(|source| Error::System { what: "epoll", source })?,
            places: (0..count).map(|_| Place::default()).collect(),
            free: (0..count).rev().collect(),
            frames: Frames::new(&shape, if args.request == Request::Send { queues } else { 1 }, run),
            queues,
            pace: args.rate.map(|rate| Pace::new(rate, phases.start_ns, 0, 1)),
            made: 0,
            phases,
            tally: Tally::default(),
            live,
            measuring: false,
            ending: false,
            args,
            request: Vec::new(),
        })
    }

    fn run(mut self) -> Result<Tally, Error> {
        let mut second_ns = self.phases.measure_ns + 1_000_000_000;
        let mut housekeeping_ns = 0;
        loop {
            let now = monotonic_ns();
            if !self.measuring && now >= self.phases.measure_ns {
                self.tally = Tally::default();
                self.measuring = true;
            }
            if now >= second_ns && second_ns <= self.phases.end_ns {
                second_ns += 1_000_000_000;
                self.tally.second_over(self.live);
            }
            if now >= housekeeping_ns {
                housekeeping_ns = now + WAIT_NS;
                self.keep_house(now);
            }
            if !self.ending && self.phases.is_over(now) {
                self.ending = true;
                self.count_overdue(now.min(self.phases.end_ns));
            }
            if !self.ending {
                self.begin_due(now);
            } else if self.free.len() == self.places.len() {
                break;
            }
            let wait_ns = match &self.pace {
                _ if self.ending => WAIT_NS,
                Some(pace) if !self.free.is_empty() => pace.wait_ns(monotonic_ns()).min(WAIT_NS),
                None if !self.free.is_empty() => REST_NS,
                _ => WAIT_NS,
            };
            let ready =
                self.poller.wait(wait_ns).map_err(|source| Error::System { what: "epoll_pwait2", source })?;
            for index in 0..ready {
                let token = self.poller.ready(index).token;
                self.advance(token);
            }
        }
        self.show();
        self.tally.fold();
        Ok(self.tally)
    }

    /// What was due and found no place until the end must not be missing from the record.
    fn count_overdue(&mut self, end_ns: u64) {
        if self.free.is_empty() {
            let overdue = self.pace.as_ref().map_or(0, |pace| pace.overdue(end_ns));
            for _ in 0..overdue {
                self.tally.failed(Failure::NotSent, String::new);
            }
        }
    }

    fn show(&mut self) {
        self.tally.in_flight = (self.places.len() - self.free.len()) as u64;
        self.tally.show(self.live);
    }

    fn keep_house(&mut self, now: u64) {
        self.frames.born(wall_ms());
        let late_ns = now.saturating_sub(self.args.timeout.as_nanos() as u64);
        for token in 0..self.places.len() {
            if self.places[token].is_busy() && self.places[token].begun_ns < late_ns {
                self.failed(token, Failure::Timeout, String::new);
            }
        }
        self.show();
    }

    fn begin_due(&mut self, now: u64) {
        while let Some(&token) = self.free.last() {
            let due_ns = match &mut self.pace {
                Some(pace) => match pace.due(now) {
                    Some(due_ns) => {
                        pace.taken();
                        due_ns
                    }
                    None => return,
                },
                None => monotonic_ns(),
            };
            self.free.pop();
            let begun = self.dialer.begin().and_then(|stream| {
                self.poller.add(&stream, token)?;
                self.poller.watch_output(&stream, token, true)?;
                Ok(stream)
            });
            match begun {
                Ok(stream) => self.places[token].begin(stream, due_ns, monotonic_ns()),
                Err(error) => {
                    // The next round tries again, after a rest.
                    self.tally.failed(Failure::Unconnected, || error.to_string());
                    self.free.push(token);
                    return;
                }
            }
        }
    }

    fn advance(&mut self, token: usize) {
        let place = &mut self.places[token];
        let outcome = match place.stage {
            Stage::Free => return,
            Stage::Connecting => self.connected(token),
            Stage::Asking => self.answered(token),
        };
        if let Err(error) = outcome {
            let failure = match (self.places[token].stage, error.kind()) {
                (Stage::Connecting, _) => Failure::Unconnected,
                (_, io::ErrorKind::InvalidData) => Failure::NotAnAnswer,
                _ => Failure::ConnectionLost,
            };
            self.failed(token, failure, || error.to_string());
        }
    }

    fn connected(&mut self, token: usize) -> io::Result<()> {
        self.places[token].connected()?;
        let now = monotonic_ns();
        self.tally.step("connect", now - self.places[token].begun_ns);
        self.write_request(token);
        let place = &mut self.places[token];
        place.ask(&self.request, now)?;
        if let Some(stream) = &place.stream {
            self.poller.watch_output(stream, token, false)?;
        }
        Ok(())
    }

    fn write_request(&mut self, token: usize) {
        self.request.clear();
        self.made += 1;
        let opaque = Window::opaque(self.made);
        match self.args.request {
            Request::Heartbeat => heartbeat::write(
                self.args.codec.codec(),
                &self.args.group,
                self.made,
                opaque,
                &mut self.request,
            ),
            Request::Send => {
                let send = Send {
                    queue: (self.made % self.queues as u64) as usize,
                    request: self.made,
                    floor: 0,
                    opaque,
                    connection: token as u32,
                    due_ns: self.places[token].due_ns,
                };
                let written = self.frames.write(&send, &mut self.request);
                self.places[token].body_bytes = u64::from(written.body_bytes);
            }
        }
    }

    fn answered(&mut self, token: usize) -> io::Result<()> {
        let place = &mut self.places[token];
        let Some(length) = place.receive()? else { return Ok(()) };
        let now = monotonic_ns();
        let invalid = |error: rmq_protocol::FrameError| io::Error::new(io::ErrorKind::InvalidData, error);
        let Some((frame, _)) = Frame::decode(&place.input[..length]).map_err(invalid)? else {
            return Ok(());
        };
        let code = frame.header.code;
        if meaning::is_stored(code) {
            self.tally.step("request", now - place.asked_ns);
            let latency_ns = now - place.due_ns.min(now);
            if self.ending {
                // Late ones say how long they took, and belong to no second any more.
                self.tally.latency(latency_ns);
            } else {
                self.tally.done(1, place.body_bytes, latency_ns, now);
            }
        }
        if code != 0 {
            self.tally.failed(Failure::Code(code), || {
                frame.header.remark.map_or(String::new(), |remark| remark.cow().into_owned())
            });
        }
        self.release(token);
        Ok(())
    }

    fn failed(&mut self, token: usize, failure: Failure, remark: impl FnOnce() -> String) {
        self.tally.failed(failure, remark);
        self.release(token);
    }

    /// Closes the connection, which takes it out of the poller, too.
    fn release(&mut self, token: usize) {
        self.places[token].clear();
        self.free.push(token);
    }
}
