//! `rmq-bench idle`: opens many connections, leaves them alone, and says what they cost the server.

use std::io::{self, IsTerminal, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use clap::Args;
use rmq_protocol::Frame;
use serde::Serialize;

use crate::cli::{CodecName, OutputArgs, parse_duration};
use crate::clock::{monotonic_ns, wall_ms};
use crate::cpu;
use crate::dial::{Dialer, raise_descriptor_limit};
use crate::error::Error;
use crate::heartbeat;
use crate::phases::{self, Phases};
use crate::poller::Poller;
use crate::report::{Fact, Measured, Report};
use crate::resident::resident_bytes;
use crate::tally::{Failure, Live, Tally};
use crate::target::{TargetArgs, Use};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const SECOND_NS: u64 = 1_000_000_000;
const WAIT_NS: u64 = SECOND_NS / 20;
/// The server's memory is read this long after the last connection, when what it does about it is done.
const SETTLE: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
Examples:
  rmq-bench idle -c 10000 -d 30s --server-pid $(pidof rmq-server)
  rmq-bench idle -c 10000 -d 2m --heartbeat 30s            beside it, another rmq-bench is the load";

#[derive(Args, Clone, Debug, Serialize)]
#[command(after_help = EXAMPLES)]
pub struct IdleArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Connections
    #[arg(short, long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,
    /// How long to keep them
    #[arg(short, long, value_parser = parse_duration, default_value = "10s", value_name = "TIME")]
    #[serde(serialize_with = "crate::cli::seconds_of")]
    pub duration: Duration,
    /// Heartbeats on each: never, once, or every so often, such as 30s
    #[arg(long, value_parser = parse_heartbeat, default_value = "never", value_name = "never|once|TIME")]
    pub heartbeat: Heartbeat,
    /// Producer group that heartbeats name
    #[arg(long, default_value = "rmq-bench")]
    pub group: String,
    /// How headers are written
    #[arg(long, value_enum, default_value_t = CodecName::Json)]
    pub codec: CodecName,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Heartbeat {
    Never,
    Once,
    Every(#[serde(serialize_with = "crate::cli::seconds_of")] Duration),
}

fn parse_heartbeat(text: &str) -> Result<Heartbeat, String> {
    match text {
        "never" => Ok(Heartbeat::Never),
        "once" => Ok(Heartbeat::Once),
        time => match parse_duration(time) {
            Ok(every) if every >= Duration::from_millis(100) => Ok(Heartbeat::Every(every)),
            _ => Err(String::from("must be never, once, or a time from 100ms on")),
        },
    }
}

/// Runs the subcommand. `Ok(false)`: connections could not be made, or did not stay.
pub fn exec(args: IdleArgs) -> Result<bool, Error> {
    raise_descriptor_limit(u64::from(args.connections))?;
    let target = args.target.find_broker(Use::Send)?;
    let servers = &args.output.server_pid;
    let before = resident_bytes(servers)?;
    let started_at_ms = wall_ms();
    let mut crowd = Crowd::new(&args)?;
    crowd.open(Dialer::new(target.address));
    let opened = crowd.opened;
    crowd.serve(&Phases::starting_now(Duration::ZERO, Some(SETTLE)))?;
    let with_them = resident_bytes(servers)?;
    // What is counted from here on is the idle time.
    let phases = Phases::starting_now(Duration::ZERO, Some(args.duration));
    let cpu_before = cpu::used(servers)?;
    let while_opening = std::mem::take(&mut crowd.tally.messages);
    crowd.serve(&phases)?;
    let cpu = cpu::used(servers).or_else(|_| cpu::used(&[]))?.since(cpu_before);
    let at_end = resident_bytes(servers).unwrap_or(None);

    let mut tally = crowd.tally;
    tally.fold();
    let seconds = phases.measured_seconds(monotonic_ns());
    let mut facts = vec![
        Fact::new("connections asked for", f64::from(args.connections), ""),
        Fact::new("connections opened", opened as f64, ""),
        Fact::new("connections open at the end", crowd.open as f64, ""),
    ];
    if args.heartbeat != Heartbeat::Never {
        let answered = while_opening + tally.messages;
        facts.push(Fact::new("heartbeats answered, with those at the start", answered as f64, ""));
    }
    if let (Some(before), Some(with_them), Some(at_end)) = (before, with_them, at_end) {
        let per_connection = (with_them as f64 - before as f64) / opened.max(1) as f64;
        facts.push(Fact::new("server memory before", before as f64 / 1e6, "MB"));
        facts.push(Fact::new("server memory with them", with_them as f64 / 1e6, "MB"));
        facts.push(Fact::new("server memory at the end", at_end as f64 / 1e6, "MB"));
        facts.push(Fact::new("server memory per connection", per_connection, "bytes"));
    }
    if let Some(server) = cpu.server {
        facts.push(Fact::new("server CPU while idle", server * 100.0 / seconds.max(1e-9), "% of a core"));
    }
    let passed = opened == u64::from(args.connections) && crowd.open == opened;
    let output = args.output.clone();
    let measured = Measured { started_at_ms, seconds, cpu };
    let mut report = Report::new("idle", &output, args, target, &tally, measured);
    report.counted = "heartbeats";
    report.facts = facts;
    report.publish(&output)?;
    Ok(passed)
}

struct Crowd<'a> {
    args: &'a IdleArgs,
    poller: Poller,
    members: Vec<Option<Member>>,
    /// How many were made, and how many of them are open still.
    opened: u64,
    open: u64,
    tally: Tally,
    live: Live,
    /// The next one to send a heartbeat, and when.
    next: usize,
    next_ns: u64,
}

struct Member {
    stream: TcpStream,
    /// When the heartbeat was sent that has no answer yet.
    asked_ns: Option<u64>,
}

impl<'a> Crowd<'a> {
    fn new(args: &'a IdleArgs) -> Result<Self, Error> {
        let count = args.connections as usize;
        Ok(Self {
            args,
            poller: Poller::new(count).map_err(|source| Error::System { what: "epoll", source })?,
            members: Vec::with_capacity(count),
            opened: 0,
            open: 0,
            tally: Tally::default(),
            live: Live::default(),
            next: 0,
            next_ns: u64::MAX,
        })
    }

    fn open(&mut self, mut dialer: Dialer) {
        let mut shown_ns = monotonic_ns();
        for token in 0..self.args.connections as usize {
            if phases::is_interrupted() {
                break;
            }
            let begun = monotonic_ns();
            let connected = dialer.connect(CONNECT_TIMEOUT).and_then(|stream| {
                self.poller.add(&stream, token)?;
                Ok(stream)
            });
            match connected {
                Ok(stream) => {
                    self.tally.step("connect", monotonic_ns() - begun);
                    self.members.push(Some(Member { stream, asked_ns: None }));
                    self.opened += 1;
                    self.open += 1;
                    if self.args.heartbeat != Heartbeat::Never {
                        self.beat(token);
                    }
                }
                Err(error) => {
                    self.tally.failed(Failure::Unconnected, || error.to_string());
                    self.members.push(None);
                }
            }
            let now = monotonic_ns();
            if now >= shown_ns + SECOND_NS {
                shown_ns = now;
                self.show("opening");
            }
        }
        if let Heartbeat::Every(every) = self.args.heartbeat {
            self.next_ns = monotonic_ns() + every.as_nanos() as u64;
        }
    }

    /// Until the end: notices who leaves, sends heartbeats when they are due.
    fn serve(&mut self, phases: &Phases) -> Result<(), Error> {
        let mut second_ns = phases.measure_ns + SECOND_NS;
        loop {
            let now = monotonic_ns();
            if now >= second_ns && second_ns <= phases.end_ns {
                second_ns += SECOND_NS;
                self.tally.second_over(&self.live);
                self.show("idle");
            }
            if phases.is_over(now) {
                return Ok(());
            }
            self.beat_due(now);
            let wait_ns =
                self.next_ns.saturating_sub(now).min(phases.end_ns.saturating_sub(now)).min(WAIT_NS);
            let ready =
                self.poller.wait(wait_ns).map_err(|source| Error::System { what: "epoll_pwait2", source })?;
            for index in 0..ready {
                let token = self.poller.ready(index).token;
                if let Err(error) = self.receive(token) {
                    self.tally.failed(Failure::ConnectionLost, || error.to_string());
                    self.members[token] = None;
                    self.open -= 1;
                }
            }
        }
    }

    /// Heartbeats are spread evenly, as those of clients are that started at different times.
    fn beat_due(&mut self, now: u64) {
        let Heartbeat::Every(every) = self.args.heartbeat else { return };
        let interval_ns = (every.as_nanos() as u64 / self.members.len().max(1) as u64).max(1);
        while self.next_ns <= now {
            self.beat(self.next);
            self.next = (self.next + 1) % self.members.len().max(1);
            self.next_ns += interval_ns;
        }
    }

    fn beat(&mut self, token: usize) {
        let Some(Some(member)) = self.members.get_mut(token) else { return };
        let mut frame = Vec::new();
        heartbeat::write(self.args.codec.codec(), &self.args.group, token as u64, token as i32, &mut frame);
        match member.stream.write(&frame) {
            Ok(written) if written == frame.len() => member.asked_ns = Some(monotonic_ns()),
            // A peer that takes not even this reads nothing at all; its end shows itself to the next read.
            _ => self.tally.anomaly("heartbeats that the connection did not take"),
        }
    }

    fn receive(&mut self, token: usize) -> io::Result<()> {
        let Some(Some(member)) = self.members.get_mut(token) else { return Ok(()) };
        // Answers to heartbeats are small and come one at a time.
        let mut buffer = [0; 4096];
        let count = match member.stream.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut rest = &buffer[..count];
        while let Ok(Some((frame, length))) = Frame::decode(rest) {
            rest = &rest[length..];
            if !frame.header.is_response() {
                self.tally.anomaly("requests of the server, not answered");
                continue;
            }
            let now = monotonic_ns();
            match member.asked_ns.take() {
                _ if frame.header.code != 0 => {
                    self.tally.failed(Failure::Code(frame.header.code), || {
                        frame.header.remark.map_or(String::new(), |remark| remark.cow().into_owned())
                    });
                }
                Some(asked_ns) => self.tally.done(1, 0, now - asked_ns, now),
                None => self.tally.anomaly("answers that nobody waited for any more"),
            }
        }
        Ok(())
    }

    fn show(&self, doing: &str) {
        if self.args.output.progress || io::stderr().is_terminal() {
            let lost = self.members.len() as u64 - self.open;
            let memory = match resident_bytes(&self.args.output.server_pid) {
                Ok(Some(bytes)) => format!("   server memory {:.1} MB", bytes as f64 / 1e6),
                _ => String::new(),
            };
            let _ = writeln!(io::stderr(), "{doing}: {} open, {lost} lost{memory}", self.open);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_are_words_or_times() {
        assert_eq!(parse_heartbeat("never"), Ok(Heartbeat::Never));
        assert_eq!(parse_heartbeat("once"), Ok(Heartbeat::Once));
        assert_eq!(parse_heartbeat("30s"), Ok(Heartbeat::Every(Duration::from_secs(30))));
        for wrong in ["", "twice", "0s", "1ms"] {
            assert!(parse_heartbeat(wrong).is_err(), "{wrong}");
        }
    }
}
