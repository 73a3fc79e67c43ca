//! `rmq-bench pop`: pops messages of any queue and acknowledges each, as a consumer with assignment by the broker does.
//!
//! A connection has one pop under way; with the next one travel the acknowledgements of what the last one brought.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use clap::Args;
use rmq_protocol::record::records;
use rmq_protocol::{Codec, Frame, FrameWriter, RequestCode, ResponseCode};
use serde::Serialize;

use crate::cli::{OutputArgs, parse_duration};
use crate::clock::{monotonic_ns, wall_ms};
use crate::cpu;
use crate::error::Error;
use crate::phases::Phases;
use crate::report::{Fact, Measured, Report};
use crate::tally::{Failure, Tally};
use crate::target::{Target, TargetArgs, Use};

/// A broker may hold a pop for as long as we allow it; an answer this much later is lost.
const GRACE: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  rmq-bench pop -c 4 -d 20s                  a backlog, popped and acknowledged by four consumers
  rmq-bench pop -c 4 -d 20s --batch-ack      the same, with one acknowledgement for each pop

Exit codes: 0 all is well, 1 something failed or nothing came, 2 wrong command line, 3 no run could be made.";

#[derive(Args, Clone, Debug, Serialize)]
#[command(after_help = EXAMPLES)]
pub struct PopArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Connections, each of a thread
    #[arg(short, long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub connections: u32,
    /// Messages per pop
    #[arg(short = 'b', long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub max_messages: u32,
    /// Time after which what is not acknowledged comes back
    #[arg(long, value_parser = parse_duration, default_value = "60s", value_name = "TIME")]
    #[serde(serialize_with = "crate::cli::seconds_of")]
    pub invisible: Duration,
    /// How long the broker may hold a pop that finds nothing
    #[arg(long, value_parser = parse_duration, default_value = "1s", value_name = "TIME")]
    #[serde(serialize_with = "crate::cli::seconds_of")]
    pub poll: Duration,
    /// Acknowledge what one pop brought with one request
    #[arg(long)]
    pub batch_ack: bool,
    /// How long to consume
    #[arg(short, long, value_parser = parse_duration, default_value = "10s", value_name = "TIME")]
    #[serde(serialize_with = "crate::cli::seconds_of")]
    pub duration: Duration,
    /// Consumer group
    #[arg(long, default_value = "rmq-bench-pop")]
    pub group: String,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Runs the subcommand. `Ok(false)`: something failed, or nothing came at all.
pub fn exec(args: PopArgs) -> Result<bool, Error> {
    let target = args.target.locate(Use::Pull)?;
    let cpu_before = cpu::used(&args.output.server_pid)?;
    let started_at_ms = wall_ms();
    let phases = Phases::starting_now(Duration::ZERO, Some(args.duration));
    let (mut tally, mut acked, mut again) = (Tally::default(), 0, 0);
    std::thread::scope(|scope| {
        let poppers: Vec<_> = (0..args.connections)
            .map(|_| scope.spawn(|| Popper::open(&args, &target)?.run(&phases)))
            .collect();
        for popper in poppers {
            let done = popper.join().expect("a thread that pops does not panic")?;
            tally.merge(done.tally);
            acked += done.acked;
            again += done.again;
        }
        Ok::<_, Error>(())
    })?;
    let cpu = cpu::used(&args.output.server_pid)?.since(cpu_before);
    let measured = Measured { started_at_ms, seconds: phases.measured_seconds(tally.last_ns), cpu };
    let passed = tally.failures() == 0 && tally.messages > 0;
    let output = args.output.clone();
    let mut report = Report::new("pop", &output, args, target, &tally, measured);
    report.facts = vec![
        Fact::new("messages acknowledged", acked as f64, ""),
        Fact::new("messages that came again", again as f64, ""),
    ];
    report.publish(&output)?;
    Ok(passed)
}

struct Popper<'a> {
    args: &'a PopArgs,
    target: &'a Target,
    socket: TcpStream,
    received: Vec<u8>,
    output: Vec<u8>,
    opaque: i32,
    tally: Tally,
    acked: u64,
    again: u64,
}

/// What one pop brought of one queue.
struct Taken {
    start: i64,
    queue: i32,
    offsets: Vec<i64>,
}

impl<'a> Popper<'a> {
    fn open(args: &'a PopArgs, target: &'a Target) -> Result<Self, Error> {
        let unreachable =
            |source| Error::Unreachable { peer: "the broker", address: target.address.to_string(), source };
        let socket = TcpStream::connect(target.address).map_err(unreachable)?;
        socket.set_nodelay(true).map_err(unreachable)?;
        socket.set_read_timeout(Some(args.poll + GRACE)).map_err(unreachable)?;
        Ok(Self {
            args,
            target,
            socket,
            received: Vec::new(),
            output: Vec::new(),
            opaque: 0,
            tally: Tally::default(),
            acked: 0,
            again: 0,
        })
    }

    fn run(mut self, phases: &Phases) -> Result<Self, Error> {
        let mut owed = 0;
        while !phases.is_over(monotonic_ns()) {
            let opaque = self.ask();
            match self.exchange(opaque, owed) {
                Ok(acks) => owed = acks,
                Err(error) => {
                    let failure = match error.kind() {
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure::Timeout,
                        io::ErrorKind::InvalidData => Failure::NotAnAnswer,
                        _ => Failure::ConnectionLost,
                    };
                    self.tally.failed(failure, || error.to_string());
                    break;
                }
            }
        }
        // What the last pop brought is acknowledged as well.
        let _ = self.socket.write_all(&self.output);
        self.tally.fold();
        Ok(self)
    }

    fn ask(&mut self) -> i32 {
        self.opaque += 1;
        let args = self.args;
        FrameWriter::request(&mut self.output, Codec::Json, RequestCode::POP_MESSAGE, self.opaque, false)
            .field("consumerGroup", &args.group)
            .field("topic", &self.target.topic)
            .field("queueId", "-1")
            .field_int("maxMsgNums", i64::from(args.max_messages))
            .field_int("invisibleTime", args.invisible.as_millis() as i64)
            .field_int("pollTime", args.poll.as_millis() as i64)
            .field_int("bornTime", wall_ms() as i64)
            .field("initMode", "0")
            .field("expType", "TAG")
            .field("exp", "*")
            .finish();
        self.opaque
    }

    /// Sends everything, takes the answer to the pop and those to `owed` acknowledgements; returns how many
    /// acknowledgements travel next.
    fn exchange(&mut self, opaque: i32, mut owed: u32) -> io::Result<u32> {
        let sent_ns = monotonic_ns();
        self.socket.write_all(&self.output)?;
        self.output.clear();
        let mut next = 0;
        let mut popped = false;
        while !popped || owed > 0 {
            let received = std::mem::take(&mut self.received);
            let mut at = 0;
            while let Some((frame, len)) = Frame::decode(&received[at..]).map_err(io::Error::other)? {
                if frame.header.opaque == opaque {
                    next = self.popped(&frame, sent_ns)?;
                    popped = true;
                } else {
                    owed = owed.saturating_sub(1);
                    self.note(&frame);
                }
                at += len;
            }
            self.received = received;
            self.received.drain(..at);
            if popped && owed == 0 {
                break;
            }
            let mut chunk = [0; 65_536];
            match self.socket.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.received.extend_from_slice(&chunk[..read]),
            }
        }
        Ok(next)
    }

    fn note(&mut self, frame: &Frame<'_>) {
        if frame.header.response_code() != ResponseCode::SUCCESS {
            let remark = frame.header.remark.map(|remark| remark.cow().into_owned());
            self.tally.failed(Failure::Code(frame.header.code), || remark.unwrap_or_default());
        }
    }

    fn popped(&mut self, frame: &Frame<'_>, sent_ns: u64) -> io::Result<u32> {
        match frame.header.response_code() {
            ResponseCode::SUCCESS => {}
            ResponseCode::POLLING_TIMEOUT => return Ok(0),
            _ => {
                self.note(frame);
                return Ok(0);
            }
        }
        let now = monotonic_ns();
        let field = |name: &str| {
            let text = frame.header.fields.find(name).map(|text| text.cow().into_owned());
            text.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
        };
        let (pop_time, revive) = (field("popTime")?, field("reviveQid")?);
        let starts = entries(&field("startOffsetInfo")?)?;
        let offsets = entries(&field("msgOffsetInfo")?)?;
        let mut messages = 0;
        let mut bytes = 0;
        for record in records(frame.body) {
            let record = record.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            messages += 1;
            bytes += record.body().len() as u64;
            self.again += u64::from(record.reconsume_times() > 0);
        }
        self.tally.done(messages, bytes, now - sent_ns, now);
        let mut acks = 0;
        for (key, list) in offsets {
            let malformed = || io::Error::from(io::ErrorKind::InvalidData);
            let start = starts.get(&key).and_then(|start| start.parse().ok()).ok_or_else(malformed)?;
            let parsed: Result<Vec<i64>, _> = list.split(',').map(str::parse).collect();
            let taken = Taken { start, queue: key.1, offsets: parsed.map_err(|_| malformed())? };
            acks += self.acknowledge(&key.0, &taken, &pop_time, &revive);
        }
        Ok(acks)
    }

    fn acknowledge(&mut self, flag: &str, taken: &Taken, pop_time: &str, revive: &str) -> u32 {
        let args = self.args;
        let Taken { start, queue, offsets } = taken;
        let invisible = args.invisible.as_millis();
        self.acked += offsets.len() as u64;
        if args.batch_ack {
            let mut bits = rmq_protocol::body::AckBits::default();
            offsets.iter().for_each(|offset| bits.set((offset - start) as usize));
            let body = rmq_protocol::body::BatchAckBody {
                broker_name: self.target.broker.clone(),
                acks: vec![rmq_protocol::body::BatchAck {
                    bits,
                    consumer_group: args.group.clone(),
                    invisible_time_ms: invisible as i64,
                    pop_time: pop_time.parse().unwrap_or_default(),
                    queue_id: *queue,
                    retry: flag.to_owned(),
                    revive_queue_id: revive.parse().unwrap_or_default(),
                    start_offset: *start,
                    topic: self.target.topic.clone(),
                }],
            };
            let opaque = self.next_opaque();
            FrameWriter::request(
                &mut self.output,
                Codec::Json,
                RequestCode::BATCH_ACK_MESSAGE,
                opaque,
                false,
            )
            .body(&rmq_protocol::body::to_vec(&body));
            return 1;
        }
        let topic = match flag {
            "1" => format!("%RETRY%{}_{}", args.group, self.target.topic),
            "2" => format!("%RETRY%{}+{}", args.group, self.target.topic),
            _ => self.target.topic.clone(),
        };
        for offset in offsets {
            let opaque = self.next_opaque();
            let broker = &self.target.broker;
            let receipt = format!("{start} {pop_time} {invisible} {revive} {flag} {broker} {queue} {offset}");
            FrameWriter::request(&mut self.output, Codec::Json, RequestCode::ACK_MESSAGE, opaque, false)
                .field("consumerGroup", &args.group)
                .field("topic", &topic)
                .field_int("queueId", i64::from(*queue))
                .field("extraInfo", &receipt)
                .field_int("offset", *offset)
                .finish();
        }
        offsets.len() as u32
    }

    fn next_opaque(&mut self) -> i32 {
        self.opaque += 1;
        self.opaque
    }
}

/// `flag queue value` joined by `;`.
fn entries(text: &str) -> io::Result<BTreeMap<(String, i32), String>> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let entry = |entry: &str| {
        let mut words = entry.split(' ');
        let (flag, queue, value) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
        Some(((flag.to_owned(), queue), value.to_owned()))
    };
    text.split(';').map(|text| entry(text).ok_or_else(malformed)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infos_are_taken_apart() {
        let read = entries("0 2 100,101;1 0 7").unwrap();
        assert_eq!(read[&("0".to_owned(), 2)], "100,101");
        assert_eq!(read[&("1".to_owned(), 0)], "7");
        for wrong in ["", "0 1", "0 x 1"] {
            assert!(entries(wrong).is_err(), "{wrong:?}");
        }
    }
}
