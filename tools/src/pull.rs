//! Pulls queues from an offset on as a consumer does: each queue has one pull under way, and all queues of a connection
//! have theirs at the same time; or, strictly, each connection has only one.
//!
//! What is done with a record is the visitor's business; when a queue is done is the plan's.

mod throttle;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rmq_protocol::record::{RecordRef, records};
use rmq_protocol::{Codec, Frame, FrameWriter, RequestCode, ResponseCode};

use crate::clock::monotonic_ns;
use crate::connection::Connection;
use crate::error::Error;
use crate::phases::Phases;
use crate::poller::Poller;
use crate::pull::throttle::Throttle;
use crate::tally::{Failure, Live, Tally};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const HOUSEKEEPING_NS: u64 = 50_000_000;
/// A refused pull is asked again after this long.
const RETRY_NS: u64 = 100_000_000;
/// A broker may hold a pull for as long as we allow it; an answer this much later is lost.
const GRACE_NS: u64 = 10_000_000_000;
/// Answers that bring no message.
const NOTHING_NEW: i32 = ResponseCode::PULL_NOT_FOUND.0;
const MATCHED_NOTHING: i32 = ResponseCode::PULL_RETRY_IMMEDIATELY.0;

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
    /// Of tags, or in SQL92.
    pub subscription: String,
    pub is_sql: bool,
    /// One pull at a time on each connection, whatever the number of its queues.
    pub strict: bool,
    /// Messages per second, of all connections here.
    pub rate: Option<f64>,
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
    /// A pull that brought something has taken this long.
    fn pulled(&mut self, _latency_ns: u64, _tally: &mut Tally) {}
    /// Whether enough has been seen.
    fn enough(&self) -> bool;
}

struct Puller {
    range: PullRange,
    connection: usize,
    /// When the pull that is under way was sent.
    asked_ns: Option<u64>,
    retry_ns: u64,
    /// Where the queue ended when the broker last said so.
    max: Option<i64>,
    /// Waits until the rate allows it to ask.
    held: bool,
}

impl Puller {
    fn is_done(&self) -> bool {
        self.range.end.is_some_and(|end| self.range.next >= end)
    }

    fn may_ask(&self, now: u64) -> bool {
        self.asked_ns.is_none() && !self.held && now >= self.retry_ns && !self.is_done()
    }
}

/// What is known of a connection besides its socket.
#[derive(Clone, Default)]
struct Lane {
    /// Its queues.
    pullers: Vec<usize>,
    /// Whose turn it is next, when there is only one at a time.
    cursor: usize,
    stuck: bool,
}

pub struct Pull<'a, V> {
    settings: PullSettings,
    pullers: Vec<Puller>,
    connections: Vec<Option<Connection>>,
    lanes: Vec<Lane>,
    throttle: Option<Throttle>,
    /// Those that wait until the rate allows them to ask, in the order they came.
    held: VecDeque<usize>,
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
        let mut lanes = vec![Lane::default(); count];
        let mut pullers = Vec::with_capacity(ranges.len());
        for (index, &range) in ranges.iter().enumerate() {
            let connection = index % count;
            lanes[connection].pullers.push(index);
            pullers.push(Puller { range, connection, asked_ns: None, retry_ns: 0, max: None, held: false });
        }
        let throttle = settings
            .rate
            .map(|rate| Throttle::new(rate, settings.max_messages, phases.start_ns.max(monotonic_ns())));
        let mut pull = Self {
            poller: Poller::new(count).map_err(|source| Error::System { what: "epoll", source })?,
            settings,
            pullers,
            connections: (0..count).map(|_| None).collect(),
            lanes,
            throttle,
            held: VecDeque::new(),
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
                self.look();
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
            self.release(now);
            let ready = self
                .poller
                .wait(self.wait_ns())
                .map_err(|source| Error::System { what: "epoll_pwait2", source })?;
            for index in 0..ready {
                let event = self.poller.ready(index);
                let served = self.serve(event.token, event.readable);
                self.note_loss(event.token, served);
            }
        }
        self.tally.fold();
        self.look();
        self.tally.show(self.live);
        let ranges = self.pullers.iter().map(|puller| puller.range).collect();
        Ok((self.visitor, self.tally, ranges))
    }

    fn wait_ns(&self) -> u64 {
        match &self.throttle {
            Some(throttle) if !self.held.is_empty() => throttle.wait_ns().min(HOUSEKEEPING_NS),
            _ => HOUSEKEEPING_NS,
        }
    }

    /// Sends the pulls that had to wait for their turn in the rate.
    fn release(&mut self, now: u64) {
        while let Some(&index) = self.held.front()
            && self.throttle.as_mut().is_none_or(|throttle| throttle.take(now))
        {
            self.held.pop_front();
            let puller = &mut self.pullers[index];
            puller.held = false;
            let token = puller.connection;
            // A connection that was lost meanwhile asks for all its queues when it is back.
            let Some(connection) = &mut self.connections[token] else {
                if let Some(throttle) = &mut self.throttle {
                    throttle.brought(0);
                }
                continue;
            };
            puller.asked_ns = Some(now);
            write_pull(&self.settings, index, &puller.range, connection.output());
            let flushed = self.flush(token);
            self.note_loss(token, flushed);
        }
    }

    /// What is under way, and how far behind the ends of the queues we are.
    fn look(&mut self) {
        let known =
            self.pullers.iter().filter_map(|puller| Some((puller.max? - puller.range.next).max(0) as u64));
        self.tally.lag = known.reduce(|sum, lag| sum + lag);
        self.tally.in_flight = self.pullers.iter().filter(|puller| puller.asked_ns.is_some()).count() as u64;
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
        self.lanes[token].stuck = false;
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
        self.look();
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
            let asks_on = self.answered(index, &frame, now)?;
            if self.visitor.enough() {
                continue;
            }
            if self.settings.strict {
                self.ask_next(token, now, connection.output());
            } else if asks_on && !self.pullers[index].is_done() {
                self.ask(index, now, connection.output());
            }
        }
        Ok(open)
    }

    /// Takes an answer; `true`: ask on at once.
    fn answered(&mut self, index: usize, frame: &Frame<'_>, now: u64) -> io::Result<bool> {
        let puller = &mut self.pullers[index];
        let asked_ns = puller.asked_ns.take().unwrap_or(now);
        let range = &mut puller.range;
        let number = |name| frame.header.fields.find(name).and_then(|text| text.parse_i64().ok());
        let next = number("nextBeginOffset");
        puller.max = number("maxOffset").or(puller.max);
        let mut count = 0;
        let asks_on = match (frame.header.code, next) {
            (0, Some(next)) => {
                for record in records(frame.body) {
                    let record = record.map_err(|error| {
                        io::Error::new(io::ErrorKind::InvalidData, format!("a record of the answer: {error}"))
                    })?;
                    count += 1;
                    self.visitor.record(range.queue, &record, now, &mut self.tally);
                }
                self.tally.count(count, frame.body.len() as u64, now);
                self.visitor.pulled(now - asked_ns.min(now), &mut self.tally);
                range.next = next;
                true
            }
            (19..=21, Some(next)) => {
                if next != range.next {
                    self.visitor.moved(range.queue, range.next, next, &mut self.tally);
                }
                range.next = next;
                // A queue with an end should have something to give; a broker that says otherwise is asked again,
                // but not in a tight loop.
                if range.end.is_some() && frame.header.code != MATCHED_NOTHING {
                    self.tally.anomaly("pulls before the end of a queue that found nothing");
                    puller.retry_ns = now + RETRY_NS;
                }
                // Without long polling, this is what a consumer pauses for.
                if range.end.is_none() && self.settings.suspend.is_zero() && frame.header.code == NOTHING_NEW
                {
                    puller.retry_ns = now + HOUSEKEEPING_NS;
                }
                puller.retry_ns <= now
            }
            (code, _) => {
                puller.retry_ns = now + RETRY_NS;
                self.tally.failed(Failure::Code(code), || {
                    frame.header.remark.map_or(String::new(), |remark| remark.cow().into_owned())
                });
                false
            }
        };
        if let Some(throttle) = &mut self.throttle {
            throttle.brought(count);
        }
        Ok(asks_on)
    }

    /// Asks for more of a queue, at once or when the rate allows it.
    fn ask(&mut self, index: usize, now: u64, out: &mut Vec<u8>) {
        let puller = &mut self.pullers[index];
        let allowed = match &mut self.throttle {
            // Whoever came first goes first.
            Some(throttle) => self.held.is_empty() && throttle.take(now),
            None => true,
        };
        if allowed {
            puller.asked_ns = Some(now);
            write_pull(&self.settings, index, &puller.range, out);
        } else {
            puller.held = true;
            self.held.push_back(index);
        }
    }

    /// Strictly one at a time: the next queue of this connection that has a turn.
    fn ask_next(&mut self, token: usize, now: u64, out: &mut Vec<u8>) {
        let lane = &mut self.lanes[token];
        let count = lane.pullers.len();
        let next = (0..count)
            .map(|step| (lane.cursor + step) % count)
            .find(|&at| self.pullers[lane.pullers[at]].may_ask(now));
        if let Some(at) = next {
            lane.cursor = (at + 1) % count;
            let index = lane.pullers[at];
            self.ask(index, now, out);
        }
    }

    /// Sends the pulls of a connection that are not under way, and gives up those that never came back.
    fn ask_all(&mut self, token: usize, now: u64) -> io::Result<()> {
        let patience_ns = self.settings.suspend.as_nanos() as u64 + GRACE_NS;
        let Some(mut connection) = self.connections[token].take() else { return Ok(()) };
        let mut late = false;
        let mut busy = false;
        for at in 0..self.lanes[token].pullers.len() {
            let index = self.lanes[token].pullers[at];
            let puller = &self.pullers[index];
            late |= puller.asked_ns.is_some_and(|asked_ns| now > asked_ns + patience_ns);
            busy |= puller.asked_ns.is_some() || puller.held;
            if !self.settings.strict && puller.may_ask(now) {
                self.ask(index, now, connection.output());
            }
        }
        if self.settings.strict && !busy {
            self.ask_next(token, now, connection.output());
        }
        self.connections[token] = Some(connection);
        if late {
            self.tally.failed(Failure::Timeout, String::new);
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.flush(token)
    }

    fn flush(&mut self, token: usize) -> io::Result<()> {
        let Some(connection) = &mut self.connections[token] else { return Ok(()) };
        let stuck = !connection.flush()?;
        if stuck != self.lanes[token].stuck {
            self.poller.watch_output(&*connection, token, stuck)?;
            self.lanes[token].stuck = stuck;
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
        for &index in &self.lanes[token].pullers {
            let puller = &mut self.pullers[index];
            // What was charged for the lost pull comes back with it.
            if puller.asked_ns.take().is_some()
                && let Some(throttle) = &mut self.throttle
            {
                throttle.brought(0);
            }
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
        .field("expressionType", if settings.is_sql { "SQL92" } else { "TAG" })
        .finish();
}
