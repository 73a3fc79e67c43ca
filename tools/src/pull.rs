//! Pulls queues from an offset on, each on one connection with one pull at a time, as a consumer does.
//!
//! What is done with a record is the visitor's business; when a queue is done is the plan's.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rmq_protocol::record::{RecordRef, records};
use rmq_protocol::{Codec, Frame, FrameWriter, RequestCode};

use crate::clock::monotonic_ns;
use crate::connection::Connection;
use crate::error::Error;
use crate::phases::Phases;
use crate::poller::Poller;
use crate::tally::{Failure, Live, Tally};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const HOUSEKEEPING_NS: u64 = 50_000_000;
/// A refused pull is asked again after this long.
const RETRY_NS: u64 = 100_000_000;
/// A broker may hold a pull for as long as we allow it; an answer this much later is lost.
const GRACE_NS: u64 = 10_000_000_000;

#[derive(Clone, Debug)]
pub struct PullSettings {
    pub address: SocketAddr,
    pub topic: String,
    pub group: String,
    pub codec: Codec,
    pub connections: usize,
    pub max_messages: u32,
    /// How long the broker may hold a pull that finds nothing.
    pub suspend: Duration,
    /// Tag expression.
    pub subscription: String,
}

/// One queue to pull, from `next` up to `end` (exclusive), or without an end.
#[derive(Clone, Copy, Debug)]
pub struct PullRange {
    pub queue: u32,
    pub next: i64,
    pub end: Option<i64>,
}

pub trait Visitor {
    /// One record of a queue, in the order of the answer.
    fn record(&mut self, queue: u32, record: &RecordRef<'_>, now_ns: u64, tally: &mut Tally);
    /// The broker says that nothing is stored from `asked` up to `next`.
    fn moved(&mut self, queue: u32, asked: i64, next: i64, tally: &mut Tally);
    /// Whether enough has been seen.
    fn enough(&self) -> bool;
}

struct Puller {
    range: PullRange,
    connection: usize,
    /// When the pull that is under way was sent.
    asked_ns: Option<u64>,
    retry_ns: u64,
}

impl Puller {
    fn is_done(&self) -> bool {
        self.range.end.is_some_and(|end| self.range.next >= end)
    }
}

pub struct Pull<'a, V> {
    settings: PullSettings,
    pullers: Vec<Puller>,
    connections: Vec<Option<Connection>>,
    stuck: Vec<bool>,
    poller: Poller,
    pub visitor: V,
    pub tally: Tally,
    phases: &'a Phases,
    measuring: bool,
    live: &'a Live,
}

impl<'a, V: Visitor> Pull<'a, V> {
    pub fn new(
        settings: PullSettings,
        ranges: &[PullRange],
        visitor: V,
        phases: &'a Phases,
        live: &'a Live,
    ) -> Result<Self, Error> {
        let count = settings.connections.min(ranges.len()).max(1);
        let pullers = ranges
            .iter()
            .enumerate()
            .map(|(index, &range)| Puller { range, connection: index % count, asked_ns: None, retry_ns: 0 })
            .collect();
        let mut pull = Self {
            poller: Poller::new(count).map_err(|source| Error::System { what: "epoll", source })?,
            settings,
            pullers,
            connections: (0..count).map(|_| None).collect(),
            stuck: vec![false; count],
            visitor,
            tally: Tally::default(),
            phases,
            measuring: false,
            live,
        };
        for token in 0..count {
            let address = pull.settings.address;
            pull.connect(token).map_err(|source| Error::Unreachable {
                peer: "the broker",
                address: address.to_string(),
                source,
            })?;
        }
        Ok(pull)
    }

    /// Pulls until every queue is at its end, the visitor has enough, or the time is over.
    pub fn run(mut self) -> Result<(V, Tally, Vec<PullRange>), Error> {
        let mut housekeeping_ns = 0;
        let mut second_ns = self.phases.measure_ns + 1_000_000_000;
        loop {
            let now = monotonic_ns();
            self.begin_measuring(now);
            if now >= second_ns && second_ns <= self.phases.end_ns {
                second_ns += 1_000_000_000;
                self.tally.second_over(self.live);
            }
            let done = self.pullers.iter().all(Puller::is_done);
            if done || self.visitor.enough() || self.phases.is_over(now) {
                break;
            }
            if now >= housekeeping_ns {
                housekeeping_ns = now + HOUSEKEEPING_NS;
                self.keep_house(now);
            }
            let ready = self
                .poller
                .wait(HOUSEKEEPING_NS)
                .map_err(|source| Error::System { what: "epoll_pwait2", source })?;
            for index in 0..ready {
                let event = self.poller.ready(index);
                let served = self.serve(event.token, event.readable);
                self.note_loss(event.token, served);
            }
        }
        self.tally.fold();
        self.tally.show(self.live);
        let ranges = self.pullers.iter().map(|puller| puller.range).collect();
        Ok((self.visitor, self.tally, ranges))
    }

    /// Also called before records are counted, so that none of the measured time is thrown away with the warm-up.
    fn begin_measuring(&mut self, now: u64) {
        if !self.measuring && now >= self.phases.measure_ns {
            self.tally = Tally::default();
            self.measuring = true;
        }
    }

    fn connect(&mut self, token: usize) -> io::Result<()> {
        let connection = Connection::open(self.settings.address, CONNECT_TIMEOUT)?;
        self.poller.add(&connection, token)?;
        self.connections[token] = Some(connection);
        self.stuck[token] = false;
        Ok(())
    }

    fn keep_house(&mut self, now: u64) {
        for token in 0..self.connections.len() {
            if self.connections[token].is_none()
                && let Err(error) = self.connect(token)
            {
                self.tally.failed(Failure::Unconnected, || error.to_string());
                continue;
            }
            let asked = self.ask_all(token, now);
            self.note_loss(token, asked);
        }
        self.tally.show(self.live);
    }

    fn serve(&mut self, token: usize, readable: bool) -> io::Result<()> {
        if readable && !self.receive(token)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.flush(token)
    }

    fn receive(&mut self, token: usize) -> io::Result<bool> {
        // Taken out while its frames are read, so that answers and new pulls can both reach it.
        let Some(mut connection) = self.connections[token].take() else { return Ok(true) };
        let received = self.receive_from(&mut connection, token);
        self.connections[token] = Some(connection);
        received
    }

    fn receive_from(&mut self, connection: &mut Connection, token: usize) -> io::Result<bool> {
        let open = connection.receive()?;
        let now = monotonic_ns();
        self.begin_measuring(now);
        while let Some(bytes) = connection.next_frame()? {
            let decoded =
                Frame::decode(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let Some((frame, _)) = decoded else { continue };
            if !frame.header.is_response() {
                self.tally.anomaly("requests of the server, not answered");
                continue;
            }
            let index = frame.header.opaque as usize;
            let expected = self
                .pullers
                .get(index)
                .is_some_and(|puller| puller.connection == token && puller.asked_ns.is_some());
            if !expected {
                self.tally.anomaly("answers that nobody waited for any more");
                continue;
            }
            if self.answered(index, &frame, now)? && !self.pullers[index].is_done() && !self.visitor.enough()
            {
                self.pullers[index].asked_ns = Some(now);
                write_pull(&self.settings, index, &self.pullers[index].range, connection.output());
            }
        }
        Ok(open)
    }

    /// Takes an answer; `true`: ask on at once.
    fn answered(&mut self, index: usize, frame: &Frame<'_>, now: u64) -> io::Result<bool> {
        let puller = &mut self.pullers[index];
        puller.asked_ns = None;
        let range = &mut puller.range;
        let next = frame.header.fields.find("nextBeginOffset").and_then(|text| text.parse_i64().ok());
        match (frame.header.code, next) {
            (0, Some(next)) => {
                let mut count = 0;
                for record in records(frame.body) {
                    let record = record.map_err(|error| {
                        io::Error::new(io::ErrorKind::InvalidData, format!("a record of the answer: {error}"))
                    })?;
                    count += 1;
                    self.visitor.record(range.queue, &record, now, &mut self.tally);
                }
                self.tally.count(count, frame.body.len() as u64, now);
                range.next = next;
                Ok(true)
            }
            (19..=21, Some(next)) => {
                if next != range.next {
                    self.visitor.moved(range.queue, range.next, next, &mut self.tally);
                }
                range.next = next;
                // A queue with an end should have something to give; a broker that says otherwise is asked again,
                // but not in a tight loop.
                if range.end.is_some() {
                    self.tally.anomaly("pulls before the end of a queue that found nothing");
                    puller.retry_ns = now + RETRY_NS;
                }
                Ok(range.end.is_none())
            }
            (code, _) => {
                puller.retry_ns = now + RETRY_NS;
                self.tally.failed(Failure::Code(code), || {
                    frame.header.remark.map_or(String::new(), |remark| remark.cow().into_owned())
                });
                Ok(false)
            }
        }
    }

    /// Sends the pulls of a connection that are not under way, and gives up those that never came back.
    fn ask_all(&mut self, token: usize, now: u64) -> io::Result<()> {
        let patience_ns = self.settings.suspend.as_nanos() as u64 + GRACE_NS;
        let Some(connection) = &mut self.connections[token] else { return Ok(()) };
        for (index, puller) in self.pullers.iter_mut().enumerate() {
            if puller.connection != token || puller.is_done() {
                continue;
            }
            match puller.asked_ns {
                Some(asked_ns) if now > asked_ns + patience_ns => {
                    self.tally.failed(Failure::Timeout, String::new);
                    return Err(io::ErrorKind::TimedOut.into());
                }
                None if now >= puller.retry_ns => {
                    puller.asked_ns = Some(now);
                    write_pull(&self.settings, index, &puller.range, connection.output());
                }
                _ => {}
            }
        }
        self.flush(token)
    }

    fn flush(&mut self, token: usize) -> io::Result<()> {
        let Some(connection) = &mut self.connections[token] else { return Ok(()) };
        let stuck = !connection.flush()?;
        if stuck != self.stuck[token] {
            self.poller.watch_output(&*connection, token, stuck)?;
            self.stuck[token] = stuck;
        }
        Ok(())
    }

    fn note_loss(&mut self, token: usize, served: io::Result<()>) {
        let Err(error) = served else { return };
        let failure = match error.kind() {
            io::ErrorKind::InvalidData => Failure::NotAnAnswer,
            _ => Failure::ConnectionLost,
        };
        self.tally.failed(failure, || error.to_string());
        self.connections[token] = None;
        for puller in self.pullers.iter_mut().filter(|puller| puller.connection == token) {
            puller.asked_ns = None;
            puller.retry_ns = monotonic_ns() + RETRY_NS;
        }
    }
}

/// The opaque id is the index of the queue: it has only one pull under way.
fn write_pull(settings: &PullSettings, index: usize, range: &PullRange, out: &mut Vec<u8>) {
    /// Wait for messages, and take the subscription from this request instead of from a heartbeat.
    const SUSPEND: i64 = 2;
    const SUBSCRIPTION: i64 = 4;
    let flags = if settings.suspend.is_zero() { SUBSCRIPTION } else { SUSPEND | SUBSCRIPTION };
    FrameWriter::request(out, settings.codec, RequestCode::PULL_MESSAGE, index as i32, false)
        .field("consumerGroup", &settings.group)
        .field("topic", &settings.topic)
        .field_int("queueId", i64::from(range.queue))
        .field_int("queueOffset", range.next)
        .field_int("maxMsgNums", i64::from(settings.max_messages))
        .field_int("sysFlag", flags)
        .field_int("commitOffset", 0)
        .field_int("suspendTimeoutMillis", settings.suspend.as_millis() as i64)
        .field("subscription", &settings.subscription)
        .field_int("subVersion", 0)
        .field("expressionType", "TAG")
        .finish();
}
