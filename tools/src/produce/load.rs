//! One load thread: its connections, driven by one poller. In its stride it makes two system calls per connection
//! and wake-up, however many answers and sends they carry, and allocates nothing.

use std::io;
use std::net::SocketAddr;

use crate::answer::SendAnswer;
use crate::clock::{monotonic_ns, wall_ms};
use crate::error::Error;
use crate::journal::{Entry, JournalFeed, Outcome};
use crate::meaning;
use crate::phases::Phases;
use crate::poller::Poller;
use crate::produce::frames::{Frames, Send, SendShape, Written};
use crate::produce::pace::Pace;
use crate::produce::sender::{Sender, queue_of};
use crate::produce::transaction::{Half, TransactionShape, Transactions};
use crate::produce::window::{Waiting, Window};
use crate::tally::{Failure, Live, Tally};

const HOUSEKEEPING_NS: u64 = 100_000_000;
/// A oneway load fills the socket up to here; answered loads are bounded by their window.
const ONEWAY_OUTPUT_BYTES: usize = 256 * 1024;

pub struct LoadSettings {
    pub address: SocketAddr,
    pub shape: SendShape,
    pub run: u64,
    pub queues: usize,
    /// The numbers of this thread's connections, and how many there are in all threads.
    pub numbers: Vec<u32>,
    pub connections: u32,
    pub in_flight: usize,
    pub pace: Option<Pace>,
    /// How many requests this thread makes at most.
    pub budget: u64,
    pub timeout_ns: u64,
    pub promise: Promise,
}

/// What an acknowledgement means.
pub enum Promise {
    /// The message is at the offset that it names.
    Stored,
    /// The message comes to its queue later, at an offset that nobody tells.
    Delayed,
    /// A transaction has begun, and is to be ended.
    Half(TransactionShape),
}

const HALF_STEP: &str = "half message";
const COMMIT_STEP: &str = "commit";
const ROLLBACK_STEP: &str = "rollback";
/// From when it was due until the refusal came.
const REFUSED_STEP: &str = "refused";

pub struct Load<'a> {
    settings: LoadSettings,
    frames: Frames,
    poller: Poller,
    senders: Vec<Sender>,
    books: Books<'a>,
    phases: &'a Phases,
    cursor: usize,
    sending: bool,
    measuring: bool,
}

/// What answers change besides their own connection.
struct Books<'a> {
    tally: Tally,
    journal: Option<JournalFeed>,
    live: &'a Live,
    batch: u64,
    queues: usize,
    /// Whether answers still count: not after the end of the measured time.
    counting: bool,
    delayed: bool,
    transactions: Option<Transactions>,
}

impl<'a> Load<'a> {
    pub fn new(
        settings: LoadSettings,
        journal: Option<JournalFeed>,
        phases: &'a Phases,
        live: &'a Live,
    ) -> Result<Self, Error> {
        let poller =
            Poller::new(settings.numbers.len()).map_err(|source| Error::System { what: "epoll", source })?;
        // Open loops wait for tens of microseconds; the default slack alone is 50.
        nix::sys::prctl::set_timerslack(1)
            .map_err(|error| Error::System { what: "timer slack", source: error.into() })?;
        let frames = Frames::new(&settings.shape, settings.queues, settings.run);
        let senders = settings
            .numbers
            .iter()
            .map(|&number| Sender::new(number, settings.connections, settings.in_flight))
            .collect();
        let books = Books {
            tally: Tally::default(),
            journal,
            live,
            batch: settings.shape.batch as u64,
            queues: settings.queues,
            counting: true,
            delayed: matches!(settings.promise, Promise::Delayed),
            transactions: match &settings.promise {
                Promise::Half(shape) => Some(Transactions::new(shape.clone())),
                _ => None,
            },
        };
        Ok(Self {
            settings,
            frames,
            poller,
            senders,
            books,
            phases,
            cursor: 0,
            sending: true,
            measuring: false,
        })
    }

    /// Runs to the end, and a little longer for the answers that are still due.
    pub fn run(mut self) -> Result<Tally, Error> {
        let mut housekeeping_ns = 0;
        let mut second_ns = self.phases.measure_ns + 1_000_000_000;
        let mut drain_ns = u64::MAX;
        loop {
            let now = monotonic_ns();
            if !self.measuring && now >= self.phases.measure_ns {
                // What was sent before and answered later belongs to the warm-up only in its start; it counts.
                self.books.tally = Tally::default();
                self.measuring = true;
            }
            if now >= housekeeping_ns {
                housekeeping_ns = now + HOUSEKEEPING_NS;
                self.keep_house(now);
            }
            // Seconds behind the end hold late answers only; those count in the whole.
            if now >= second_ns && second_ns <= self.phases.end_ns {
                second_ns += 1_000_000_000;
                self.books.tally.second_over(self.books.live);
            }
            if self.sending && (self.phases.is_over(now) || self.settings.budget == 0) {
                self.send_last(now.min(self.phases.end_ns));
                self.sending = false;
                self.books.counting = !self.phases.is_over(now);
                drain_ns = now + self.settings.timeout_ns;
            }
            if !self.sending {
                let waiting: usize = self.senders.iter().map(|sender| sender.window.waiting()).sum();
                let unwritten = self.senders.iter().filter_map(|sender| sender.connection.as_ref());
                if waiting + unwritten.map(|connection| connection.pending()).sum::<usize>() == 0
                    || now >= drain_ns
                {
                    break;
                }
                if self.phases.is_over(now) {
                    self.books.counting = false;
                }
            } else if self.settings.pace.is_some() {
                self.send_due(now);
            }
            let ready = self
                .poller
                .wait(self.wait_ns(monotonic_ns()))
                .map_err(|source| Error::System { what: "epoll_pwait2", source })?;
            for index in 0..ready {
                let event = self.poller.ready(index);
                let served = self.serve(event.token, event.readable, event.writable);
                self.note_loss(event.token, served);
            }
        }
        self.close_books();
        self.books.tally.fold();
        Ok(self.books.tally)
    }

    fn wait_ns(&self, now: u64) -> u64 {
        match &self.settings.pace {
            Some(pace) if self.sending && self.has_room() => pace.wait_ns(now).min(HOUSEKEEPING_NS),
            _ => HOUSEKEEPING_NS,
        }
    }

    fn has_room(&self) -> bool {
        self.senders.iter().any(|sender| can_send(sender, self.settings.shape.oneway))
    }

    fn serve(&mut self, token: usize, readable: bool, writable: bool) -> io::Result<()> {
        if readable && !self.receive(token)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if writable {
            self.flush(token)?;
        }
        if self.sending && self.settings.pace.is_none() {
            self.fill(token, monotonic_ns())?;
        }
        Ok(())
    }

    fn receive(&mut self, token: usize) -> io::Result<bool> {
        let sender = &mut self.senders[token];
        let Some(connection) = &mut sender.connection else { return Ok(true) };
        let open = connection.receive()?;
        let now = monotonic_ns();
        while let Some(frame) = connection.next_frame()? {
            match SendAnswer::read(frame) {
                Ok(Some(answer)) => self.books.settle(sender.number, &mut sender.window, &answer, now),
                Ok(None) => self.books.tally.anomaly("requests of the server, not answered"),
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
        if let Some(transactions) = &mut self.books.transactions {
            transactions.take_requests(connection.output());
            self.flush(token)?;
        }
        Ok(open)
    }

    /// Closed loop: as many sends as there is room for, in one write.
    fn fill(&mut self, token: usize, now: u64) -> io::Result<()> {
        while self.settings.budget > 0 && can_send(&self.senders[token], self.settings.shape.oneway) {
            self.send(token, now);
        }
        self.flush(token)
    }

    /// Open loop: all sends that are due, on the next connections that have room.
    fn send_due(&mut self, now: u64) {
        while self.settings.budget > 0
            && let Some(pace) = &mut self.settings.pace
            && let Some(due) = pace.due(now)
        {
            let count = self.senders.len();
            let free = (0..count)
                .map(|step| (self.cursor + step) % count)
                .find(|&token| can_send(&self.senders[token], self.settings.shape.oneway));
            let Some(token) = free else { break };
            pace.taken();
            self.cursor = (token + 1) % count;
            self.send(token, due);
        }
        for token in 0..self.senders.len() {
            let flushed = self.flush(token);
            self.note_loss(token, flushed);
        }
    }

    /// What an open loop still owes at the end leaves now, or is reported: a server that stalls until the end
    /// must not lose its worst sends from the record.
    fn send_last(&mut self, end_ns: u64) {
        if self.settings.pace.is_none() {
            return;
        }
        self.send_due(end_ns);
        let overdue = self.settings.pace.as_ref().map_or(0, |pace| pace.overdue(end_ns));
        for _ in 0..overdue.min(self.settings.budget) {
            self.books.tally.failed(Failure::NotSent, String::new);
        }
    }

    fn send(&mut self, token: usize, due_ns: u64) {
        let sender = &mut self.senders[token];
        let request = sender.window.next();
        let send = Send {
            queue: sender.queue(request, self.settings.queues),
            request,
            // Without answers nothing is known of the sends before.
            floor: if self.settings.shape.oneway { 0 } else { sender.window.floor() },
            opaque: Window::opaque(request),
            connection: sender.number,
            due_ns,
        };
        let Some(connection) = &mut sender.connection else { return };
        let written = self.frames.write(&send, connection.output());
        self.settings.budget -= 1;
        if self.settings.shape.oneway {
            sender.window.sent_oneway();
            self.books.sent_oneway(&send, written);
        } else {
            let Written { checksum, body_bytes } = written;
            sender.window.sent(Waiting { due_ns, checksum, body_bytes });
        }
    }

    fn flush(&mut self, token: usize) -> io::Result<()> {
        let sender = &mut self.senders[token];
        let Some(connection) = &mut sender.connection else { return Ok(()) };
        if connection.pending() == 0 && !sender.stuck {
            return Ok(());
        }
        let stuck = !connection.flush()?;
        // A oneway load has no answer to wake it, so it keeps asking for room.
        let watch = stuck || (self.settings.shape.oneway && self.sending && self.settings.pace.is_none());
        if watch != sender.stuck {
            self.poller.watch_output(&*connection, token, watch)?;
            sender.stuck = watch;
        }
        Ok(())
    }

    fn note_loss(&mut self, token: usize, served: io::Result<()>) {
        let Err(error) = served else { return };
        let sender = &mut self.senders[token];
        if let Some(transactions) = &mut self.books.transactions {
            transactions.forget(sender.number);
        }
        let unanswered = sender.close(&mut self.books.journal, self.settings.queues, monotonic_ns());
        let failure = match error.kind() {
            io::ErrorKind::InvalidData => Failure::NotAnAnswer,
            _ => Failure::ConnectionLost,
        };
        for _ in 0..unanswered.max(1) {
            self.books.tally.failed(failure, || error.to_string());
        }
    }

    fn keep_house(&mut self, now: u64) {
        self.frames.born(wall_ms());
        let late_ns = now.saturating_sub(self.settings.timeout_ns);
        for token in 0..self.senders.len() {
            self.books.expire(&mut self.senders[token], late_ns);
            if self.sending && self.senders[token].wants_connection(now) {
                let connected = self.senders[token].connect(self.settings.address, &self.poller, token, now);
                if let Err(error) = connected {
                    self.books.tally.failed(Failure::Unconnected, || error.to_string());
                    continue;
                }
            }
            // Starts new connections, and those that had no room until something expired.
            if self.sending && self.settings.pace.is_none() {
                let filled = self.fill(token, monotonic_ns());
                self.note_loss(token, filled);
            }
        }
        self.show();
    }

    fn show(&mut self) {
        self.books.tally.in_flight = self.senders.iter().map(|sender| sender.window.waiting() as u64).sum();
        self.books.tally.show(self.books.live);
    }

    fn close_books(&mut self) {
        for sender in &mut self.senders {
            let unanswered = sender.close(&mut self.books.journal, self.settings.queues, 0);
            for _ in 0..unanswered {
                self.books.tally.failed(Failure::Timeout, String::new);
            }
        }
        self.show();
    }
}

fn can_send(sender: &Sender, oneway: bool) -> bool {
    match &sender.connection {
        None => false,
        Some(connection) if oneway => connection.pending() < ONEWAY_OUTPUT_BYTES,
        // Requests that the socket does not take need not be made yet.
        Some(connection) => sender.window.has_room() && connection.pending() < (1 << 20),
    }
}

impl Books<'_> {
    fn settle(&mut self, number: u32, window: &mut Window, answer: &SendAnswer<'_>, now: u64) {
        if self.transactions.is_some() && self.begun(number, window, answer, now) {
            return;
        }
        let Some((request, waiting)) = window.answered(answer.opaque) else {
            self.tally.anomaly("answers that nobody waited for any more");
            return;
        };
        let half = match &mut self.transactions {
            Some(transactions) => transactions.ended(number, request),
            None => None,
        };
        // A half message that was not followed by an end is none of the messages that count.
        let done = meaning::is_stored(answer.code) && half.is_some() == self.transactions.is_some();
        let latency_ns = now - waiting.due_ns.min(now);
        if done {
            if let Some(half) = half {
                let step = if half.rollback { ROLLBACK_STEP } else { COMMIT_STEP };
                self.tally.step(step, now - half.answered_ns.min(now));
            }
            if self.counting {
                self.tally.done(self.batch, u64::from(waiting.body_bytes), latency_ns, now);
            } else {
                // Late answers say how long they took; leaving them out would flatter the tail.
                self.tally.latency(latency_ns);
            }
        }
        if answer.code != 0 {
            self.tally.failed(Failure::Code(answer.code), || answer.remark());
        }
        if !done && half.is_none() {
            self.tally.step(REFUSED_STEP, latency_ns);
        }
        if self.journal.is_some() {
            let outcome = self.outcome(half, done, answer);
            let expected = queue_of(number, request, self.queues) as u32;
            let Some(journal) = &mut self.journal else { return };
            journal.record(&Entry {
                connection: number,
                queue: answer.queue.unwrap_or(expected),
                request,
                checksum: waiting.checksum,
                outcome,
            });
        }
    }

    fn outcome(&mut self, half: Option<Half>, done: bool, answer: &SendAnswer<'_>) -> Outcome {
        match (half, done, answer.offset) {
            (Some(Half { rollback: true, .. }), true, _) => Outcome::RolledBack,
            (Some(_), true, _) => Outcome::Promised,
            // A half message that could not be ended may still be committed or not.
            (Some(_), false, _) => Outcome::Unanswered,
            (None, true, _) if self.delayed => Outcome::Promised,
            (None, true, Some(offset)) => Outcome::Acknowledged { offset },
            (None, true, None) => {
                self.tally.anomaly("acknowledgements without an offset");
                Outcome::Unanswered
            }
            (None, false, _) if self.transactions.is_some() && answer.code == 0 => Outcome::Unanswered,
            (None, false, _) => Outcome::Refused { code: answer.code },
        }
    }

    /// Takes the answer to a half message; `true`: it is stored, and the request that ends it is on its way.
    fn begun(&mut self, number: u32, window: &Window, answer: &SendAnswer<'_>, now: u64) -> bool {
        let (Some(transactions), Some((request, waiting))) =
            (&mut self.transactions, window.find(answer.opaque))
        else {
            return false;
        };
        if !meaning::is_stored(answer.code) || transactions.is_open(number, request) {
            return false;
        }
        if transactions.end(number, request, answer, now).is_none() {
            self.tally.anomaly("half messages acknowledged without their place");
            return false;
        }
        self.tally.step(HALF_STEP, now - waiting.due_ns.min(now));
        if answer.code != 0 {
            self.tally.failed(Failure::Code(answer.code), || answer.remark());
        }
        true
    }

    fn sent_oneway(&mut self, send: &Send, written: Written) {
        if self.counting {
            self.tally.count(self.batch, u64::from(written.body_bytes), send.due_ns);
        }
        if let Some(journal) = &mut self.journal {
            journal.record(&Entry {
                connection: send.connection,
                queue: send.queue as u32,
                request: send.request,
                checksum: written.checksum,
                outcome: Outcome::Unanswered,
            });
        }
    }

    fn expire(&mut self, sender: &mut Sender, before_ns: u64) {
        let (number, queues) = (sender.number, self.queues);
        let Self { tally, journal, transactions, .. } = self;
        sender.window.expire(before_ns, |request, waiting| {
            if let Some(transactions) = transactions {
                transactions.ended(number, request);
            }
            tally.failed(Failure::Timeout, String::new);
            if let Some(journal) = journal {
                journal.record(&Entry {
                    connection: number,
                    queue: queue_of(number, request, queues) as u32,
                    request,
                    checksum: waiting.checksum,
                    outcome: Outcome::Unanswered,
                });
            }
        });
    }
}
