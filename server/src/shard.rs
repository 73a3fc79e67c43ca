//! One shard: a pinned executor that owns connections, whole queues and their log.
//!
//! Everything here is plain single-threaded state. The tasks of a shard are: one per connection, the inbox,
//! the deadlines, a delay level each, and the check of transactions; the engine has its own flusher and background tasks.
//! Not here: what a request means (`handler`), what the broker decides (`broker`).

mod upkeep;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rmq_engine::env::uring::UringEnv;
use rmq_engine::{LogPosition, Progress as LogProgress, QueueNumber, QueueOffset, ReadLimits};
use rmq_protocol::frame::Frame;
use rmq_protocol::message_id::MESSAGE_ID_LEN_MAX;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::unique_id::UniqueIds;
use rustc_hash::FxHashMap;

use crate::answers::{Answers, ReplyTo};
use crate::broker::consumer_offsets::ConsumerOffsets;
use crate::broker::filter::{self, Filter, ParsedExpressions};
use crate::broker::group_commit::{Completion, GroupCommit};
use crate::broker::light_queue::Turns;
use crate::broker::long_poll::{HeldPull, LongPolls};
use crate::broker::message::StoreOutcome;
use crate::broker::metadata::{Metadata, Queue, Topic};
use crate::broker::pop::{self, Pop, watches};
use crate::broker::refusal::Refusal;
use crate::broker::transactions::{self, Transactions};
use crate::broker::{delay_levels, retention, store, timer};
use crate::control::link::{ControlLink, MetadataChange, ToControl};
use crate::forwarding::Forwarding;
use crate::handler;
use crate::handler::queries;
use crate::limits;
use crate::live::Live;
use crate::mesh::{Inbox, MeshMessage, StoreTicket};
use crate::net::connection::{self, Connection, End, FrameSink, Progress};
use crate::net::executor::{self, Notify, Oneshot};
use crate::ownership::Ownership;
use crate::settings::Settings;

pub type Engine = rmq_engine::Shard<UringEnv>;

pub struct Shard {
    pub index: usize,
    pub settings: Live<Settings>,
    pub ownership: Ownership,
    pub engine: Rc<Engine>,
    pub metadata: Metadata,
    pub answers: Answers,
    pub group_commit: RefCell<GroupCommit>,
    pub long_polls: LongPolls,
    pub offsets: RefCell<ConsumerOffsets>,
    pub forwarding: Forwarding,
    pub control: ControlLink,
    pub counters: Counters,
    pub scratch: Scratch,
    pub cold_reads: Cell<usize>,
    /// Queries by key under way for clients of this shard.
    pub key_lookups: Cell<usize>,
    pub light_turns: Turns,
    /// Used share of the log's file system, as last looked at.
    pub disk_ratio: Cell<f64>,
    /// A copy of the offset table is being made, or was overtaken: see `upkeep`.
    offsets_copy: Cell<OffsetsCopy>,
    pub delay: delay_levels::DelayLevels,
    pub transactions: Transactions,
    pub timer: timer::Timer,
    inbox: Arc<Inbox>,
    /// By the engine's number.
    queues: RefCell<Vec<Option<Rc<Queue>>>>,
    arrived: RefCell<Vec<Arrival>>,
    /// What SQL92 subscriptions of this shard's pulls say.
    pub expressions: ParsedExpressions,
    pub pop: Pop,
    stores: RefCell<FxHashMap<StoreTicket, Rc<Oneshot<StoreOutcome>>>>,
    next_ticket: Cell<u64>,
    read_buffer: Rc<RefCell<Box<[u8]>>>,
    started: Instant,
    now_ms: Cell<u64>,
    draining: Cell<bool>,
    random: Cell<u64>,
    unique_ids: UniqueIds,
    unique_count: Cell<u16>,
    stopped: Rc<Notify>,
    /// Readers left answers to be sent.
    answered: Rc<Notify>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum OffsetsCopy {
    None,
    UnderWay,
    /// The whole table was handed over meanwhile; the copy is older.
    Overtaken,
}

/// Counted since the start, read by the control thread.
#[derive(Default)]
pub struct Counters {
    pub messages_put: Cell<u64>,
    pub bytes_put: Cell<u64>,
    pub put_failed: Cell<u64>,
    /// Of these, refused because they had waited too long.
    pub put_overdue: Cell<u64>,
    pub put_bytes_max: Cell<u64>,
    pub put_ms_max: Cell<u64>,
    pub messages_got: Cell<u64>,
    pub bytes_got: Cell<u64>,
    pub pulls_found: Cell<u64>,
    pub pulls_missed: Cell<u64>,
    pub transactions_committed: Cell<u64>,
    pub transactions_rolled_back: Cell<u64>,
    /// Producers were asked.
    pub transactions_checked: Cell<u64>,
    pub transactions_set_aside: Cell<u64>,
}

/// Adds to a counter.
pub fn count(counter: &Cell<u64>, by: u64) {
    counter.set(counter.get() + by);
}

/// Buffers that a request uses within one call; taken and put back, so that no borrow crosses a call.
#[derive(Default)]
pub struct Scratch {
    pub properties: RefCell<Vec<u8>>,
    pub records: RefCell<Vec<u8>>,
    pub remark: RefCell<String>,
}

/// What a shard is made of at start.
pub struct ShardParts {
    pub index: usize,
    pub settings: Settings,
    pub ownership: Ownership,
    pub engine: Rc<Engine>,
    pub offsets: ConsumerOffsets,
    pub delay_offsets: Vec<(i32, i64)>,
    pub inboxes: Vec<Arc<Inbox>>,
    pub control: ControlLink,
}

impl Shard {
    /// Starts every task of the shard; `run` then waits for its end.
    pub fn start(parts: ShardParts) -> Rc<Self> {
        let inbox = Arc::clone(&parts.inboxes[parts.index]);
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
        let mark = (seed as u32) ^ parts.index as u32;
        let pop = Pop::new(&parts.settings, parts.ownership, parts.index);
        let unique_ids = UniqueIds::new(parts.settings.store_host.ip(), std::process::id() as u16, mark);
        let metadata = Metadata::new(&parts.settings.light_queues, parts.inboxes.len());
        let shard = Rc::new(Self {
            index: parts.index,
            settings: Live::new(Box::leak(Box::new(parts.settings))),
            ownership: parts.ownership,
            engine: parts.engine,
            metadata,
            answers: Answers::new(parts.index, parts.inboxes.clone()),
            group_commit: RefCell::default(),
            long_polls: LongPolls::default(),
            offsets: RefCell::new(parts.offsets),
            forwarding: Forwarding::new(parts.index, parts.inboxes),
            control: parts.control,
            counters: Counters::default(),
            scratch: Scratch::default(),
            cold_reads: Cell::new(0),
            key_lookups: Cell::new(0),
            light_turns: Turns::default(),
            disk_ratio: Cell::new(0.0),
            offsets_copy: Cell::new(OffsetsCopy::None),
            delay: delay_levels::DelayLevels::new(parts.delay_offsets),
            transactions: Transactions::new(parts.ownership, parts.index),
            timer: timer::Timer::default(),
            inbox,
            queues: RefCell::default(),
            arrived: RefCell::default(),
            expressions: ParsedExpressions::default(),
            pop,
            stores: RefCell::default(),
            next_ticket: Cell::new(0),
            read_buffer: Rc::new(RefCell::new(vec![0; limits::SCRATCH_BYTES].into_boxed_slice())),
            started: Instant::now(),
            now_ms: Cell::new(0),
            draining: Cell::new(false),
            random: Cell::new(seed | 1),
            unique_ids,
            unique_count: Cell::new(0),
            stopped: Notify::new(),
            answered: Notify::new(),
        });
        shard.watch_log();
        executor::spawn(Rc::clone(&shard).take_messages());
        executor::spawn_reader(Rc::clone(&shard).flush_answers());
        executor::spawn(Rc::clone(&shard).watch_deadlines());
        executor::spawn(Rc::clone(&shard).persist_offsets());
        executor::spawn(retention::run(Rc::clone(&shard)));
        executor::spawn(transactions::check_regularly(Rc::clone(&shard)));
        shard
    }

    /// Returns when the shard was told to stop and everything is on disk.
    pub async fn run(self: Rc<Self>) {
        self.stopped.notified().await;
    }

    /// Milliseconds since the shard started; advances once per batch, which is exact enough for time-outs.
    pub fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    fn tick(&self) -> u64 {
        let now = self.started.elapsed().as_millis() as u64;
        self.now_ms.set(now);
        now
    }

    /// A small pseudo-random number, for choosing a queue.
    pub fn random(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        x
    }

    /// An id for a message that came without one.
    pub fn unique_id<'o>(&self, out: &'o mut [u8; MESSAGE_ID_LEN_MAX]) -> &'o str {
        let count = self.unique_count.get();
        self.unique_count.set(count.wrapping_add(1));
        self.unique_ids.write(store::ms_of_month(store::wall_clock_ms()), count, out)
    }

    /// What was in effect stays in memory: somebody may be reading it.
    fn change_settings(&self, settings: &Settings) {
        let settings = Settings { store_host: self.settings.store_host, ..settings.clone() };
        if *self.settings != settings {
            self.settings.replace(Box::leak(Box::new(settings)));
        }
    }

    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// A queue of a topic; its id lies within the topic's configuration.
    pub fn queue(&self, topic: &Topic, id: i32) -> Rc<Queue> {
        if let Some(queue) = topic.known_queue(id) {
            return queue;
        }
        let number = self.engine.find_queue(&topic.name, id as u32);
        let next = number.map_or(0, |number| self.engine.next_offset(number).0);
        let queue = topic.add_queue(id, number, next);
        if let Some(number) = number {
            self.remember(number, &queue);
        }
        queue
    }

    /// The engine's number of a queue, declared at its first message.
    pub fn declared(&self, queue: &Rc<Queue>) -> Result<QueueNumber, Refusal> {
        if let Some(number) = queue.number() {
            return Ok(number);
        }
        let number = self.engine.declare_queue(&queue.topic, queue.id as u32)?;
        queue.declared(number);
        self.remember(number, queue);
        Ok(number)
    }

    /// Forgets the engine's numbers of a deleted topic.
    pub fn forget_queues(&self, topic: &str) {
        for slot in self.queues.borrow_mut().iter_mut() {
            if let Some(queue) = slot.take_if(|queue| &*queue.topic == topic) {
                queue.deleted();
            }
        }
    }

    fn remember(&self, number: QueueNumber, queue: &Rc<Queue>) {
        let mut queues = self.queues.borrow_mut();
        let index = number.0 as usize;
        if queues.len() <= index {
            queues.resize(index + 1, None);
        }
        queues[index] = Some(Rc::clone(queue));
    }

    /// Appended up to `end`: the answer leaves when the log has acknowledged it.
    pub fn answer_when_acknowledged(&self, end: LogPosition, to: ReplyTo, encode: impl FnOnce(&mut Vec<u8>)) {
        self.answers.defer(&to);
        self.group_commit.borrow_mut().wait_client(end, self.now_ms(), to, encode);
    }

    /// Waits until the log has acknowledged everything up to `end`.
    pub async fn acknowledged(&self, end: LogPosition) -> Completion {
        if self.engine.acknowledged() >= end {
            return Completion::Acknowledged;
        }
        let done = self.group_commit.borrow_mut().wait_internal(end, self.now_ms());
        done.take().await
    }

    /// Asks the owner of a queue to store a message; the ticket's outcome arrives through the mesh.
    pub fn store_elsewhere(
        &self,
        shard: usize,
        message: Box<crate::broker::message::Message>,
    ) -> Rc<Oneshot<StoreOutcome>> {
        let ticket = StoreTicket(self.next_ticket.get());
        self.next_ticket.set(ticket.0 + 1);
        let outcome = Oneshot::new();
        self.stores.borrow_mut().insert(ticket, Rc::clone(&outcome));
        self.forwarding.send(shard, MeshMessage::Store { from: self.index, ticket, message });
        outcome
    }

    /// Ends the wait of a connection for a credit.
    fn resume(&self, connection: crate::control::link::ConnectionId) {
        if let Some(connection) = self.answers.find(connection) {
            connection.resume();
        }
    }

    pub fn inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.inbox)
    }

    /// Sends the answers of readers, those of several together.
    pub fn flush_soon(&self) {
        self.answered.notify();
    }

    async fn flush_answers(self: Rc<Self>) {
        loop {
            self.answered.notified().await;
            self.answers.flush(self.now_ms());
        }
    }

    fn watch_log(self: &Rc<Self>) {
        let shard = Rc::downgrade(self);
        self.engine.on_visible(Rc::new(move |number, end: QueueOffset, filter_code| {
            if let Some(shard) = shard.upgrade() {
                shard.became_visible(number, QueueOffset(end.0 - 1), filter_code);
            }
        }));
        let shard = Rc::downgrade(self);
        self.engine.on_progress(Rc::new(move |progress| {
            if let Some(shard) = shard.upgrade() {
                shard.log_progressed(progress);
            }
        }));
    }

    fn became_visible(&self, number: QueueNumber, offset: QueueOffset, filter_code: i64) {
        let queues = self.queues.borrow();
        let Some(Some(queue)) = queues.get(number.0 as usize) else { return };
        if let Some(notify) = &*queue.arrivals.borrow() {
            notify.notify();
        }
        if queue.is_watched.get() {
            watches::arrived(self, queue);
        }
        if !queue.held.is_empty() && queue.held.wants(filter_code) {
            self.arrived.borrow_mut().push(Arrival { queue: Rc::clone(queue), offset, filter_code });
        }
    }

    fn log_progressed(self: &Rc<Self>, progress: LogProgress) {
        let now_ms = self.tick();
        match progress {
            LogProgress::Acknowledged(position) => {
                self.pop.log_acknowledged(self, position);
                let mut waiting = self.group_commit.borrow_mut();
                let longest = &self.counters.put_ms_max;
                longest.set(longest.get().max(waiting.longest_wait_ms(now_ms)));
                waiting.acknowledge(position, |to, frame| {
                    self.answers.later(to, |out| out.extend_from_slice(frame));
                });
            }
            LogProgress::Stopped => {
                self.group_commit.borrow_mut().fail(|to, _, _| {
                    self.answers.later(to, |out| {
                        handler::write_refusal(
                            out,
                            to,
                            &Refusal::new(ResponseCode::SYSTEM_ERROR, LOG_STOPPED),
                        );
                    });
                });
            }
        }
        self.wake_held_pulls();
        self.wake_popping();
        self.answers.flush(now_ms);
    }

    fn wake_held_pulls(self: &Rc<Self>) {
        loop {
            let arrived = std::mem::take(&mut *self.arrived.borrow_mut());
            if arrived.is_empty() {
                return;
            }
            for arrival in arrived {
                let is_wanted = |filter: &Filter| arrival.is_wanted(filter, &self.engine);
                for pull in self.long_polls.take_wanting(&arrival.queue, is_wanted) {
                    self.pull_again(pull);
                }
            }
        }
    }

    /// Handles the held pulls of a queue as if their time were up.
    pub fn pull_waiting_again(self: &Rc<Self>, topic: &str, queue: i32) {
        let queue = self.metadata.topic(topic).and_then(|topic| topic.known_queue(queue));
        for pull in queue.into_iter().flat_map(|queue| self.long_polls.take_all(&queue)) {
            self.pull_again(pull);
        }
        self.answers.flush(self.now_ms());
    }

    /// Lets those look again who wait to pop from queues that have something now.
    pub fn wake_popping(self: &Rc<Self>) {
        while self.pop.has_arrived() {
            for key in self.pop.take_arrived() {
                handler::pop::arrived(self, &key);
            }
        }
    }

    fn pull_again(self: &Rc<Self>, pull: HeldPull) {
        if pull.to.connection.shard as usize == self.index && self.answers.find(pull.to.connection).is_none()
        {
            return;
        }
        handler::pull::again(self, &pull);
    }

    async fn take_messages(self: Rc<Self>) {
        loop {
            std::future::poll_fn(|cx| self.inbox.poll_ready(cx)).await;
            let now_ms = self.tick();
            // Bounded, so that a flood from other shards does not starve this shard's own connections.
            for _ in 0..256 {
                let Some(message) = self.inbox.try_take() else { break };
                self.take_message(message);
            }
            self.wake_popping();
            self.forwarding.flush();
            self.answers.flush(now_ms);
            if !self.inbox.is_empty() {
                executor::yield_now().await;
            }
        }
    }

    fn take_message(self: &Rc<Self>, message: MeshMessage) {
        match message {
            MeshMessage::Accepted { socket, peer, vip } => self.accept(socket, peer, vip),
            MeshMessage::Forward { from, batch } => {
                for forwarded in &batch {
                    handler::forwarded(self, forwarded);
                }
                self.forwarding.send(from, MeshMessage::CreditReturned { from: self.index });
            }
            MeshMessage::Answer { batch } => {
                for answers in batch {
                    self.answers.append(answers.connection, answers.count, |out| {
                        out.extend_from_slice(&answers.frames);
                    });
                }
            }
            MeshMessage::CreditReturned { from } => {
                for connection in self.forwarding.credit_returned(from) {
                    self.resume(connection);
                }
            }
            MeshMessage::Store { from, ticket, message } => {
                let shard = Rc::clone(self);
                executor::spawn(async move {
                    let outcome = store::store_here(&shard, &message).await;
                    shard.forwarding.send(from, MeshMessage::Stored { ticket, outcome });
                });
            }
            MeshMessage::Stored { ticket, outcome } => {
                if let Some(waiting) = self.stores.borrow_mut().remove(&ticket) {
                    waiting.set(outcome);
                }
            }
            MeshMessage::PopAsk { from, ticket, ask } => handler::pop::asked(self, from, ticket, ask),
            MeshMessage::PopAnswer { ticket, answer } => self.pop.answered(ticket, answer),
            MeshMessage::PopWatch { from, key } => watches::watch(self, from, key),
            MeshMessage::PopArrived { key } => self.pop.arrived_here(key),
            MeshMessage::FromControl { connection, frame } => {
                let is_answer =
                    matches!(Frame::decode(&frame), Ok(Some((frame, _))) if frame.header.is_response());
                if let Some(asker) = self.answers.find(connection).filter(|_| is_answer) {
                    asker.answered_by_control();
                }
                self.answers.append(connection, 0, |out| out.extend_from_slice(&frame));
            }
            MeshMessage::Check { connection, frame } => {
                // Who does not read is asked again at the next check; it would be closed for what it has not read.
                if let Some(producer) = self.answers.find(connection).filter(|producer| producer.keeps_up()) {
                    drop(producer);
                    self.answers.append(connection, 0, |out| out.extend_from_slice(&frame));
                }
            }
            MeshMessage::CloseConnection { connection } => {
                if let Some(connection) = self.answers.find(connection) {
                    connection.close();
                }
            }
            MeshMessage::Publish { changes, confirm } => {
                for change in changes.iter() {
                    if let MetadataChange::Settings(settings) = change {
                        self.change_settings(settings);
                    }
                    if let Some(topic) = self.metadata.apply(change) {
                        for queue in topic.known_queues() {
                            for pull in self.long_polls.take_all(&queue) {
                                self.pull_again(pull);
                            }
                        }
                    }
                }
                delay_levels::start_owned(self);
                timer::start_owned(self);
                pop::start(self, confirm);
            }
            MeshMessage::Query { query, answer } => {
                let shard = Rc::clone(self);
                executor::spawn(async move {
                    let _ = answer.send(queries::answer(&shard, query).await);
                });
            }
            MeshMessage::Resume { connection, verdict } => {
                if let Some(connection) = self.answers.find(connection) {
                    connection.decided(verdict);
                }
            }
            MeshMessage::Drain { done } => {
                self.draining.set(true);
                executor::spawn(Rc::clone(self).drain(done));
            }
            MeshMessage::Stop => executor::spawn(Rc::clone(self).stop()),
        }
    }

    fn accept(self: &Rc<Self>, socket: OwnedFd, peer: SocketAddr, vip: bool) {
        if self.draining.get() {
            self.inbox.connection_ended();
            return;
        }
        let now_ms = self.now_ms();
        let fd = socket.as_raw_fd();
        let connection = self.answers.admit(|id| Connection::new(id, peer, vip, fd, now_ms));
        let shard = Rc::clone(self);
        executor::spawn(async move {
            let clock = Rc::clone(&shard);
            let end = connection::serve(
                socket,
                Rc::clone(&connection),
                Rc::new(Frames(Rc::clone(&shard))),
                Rc::clone(&shard.read_buffer),
                shard.settings.send_wait_max_ms,
                move || clock.tick(),
            )
            .await;
            if let End::Garbage(why) = end {
                tracing::warn!(%peer, why, "connection closed: not a RocketMQ frame");
            }
            shard.answers.remove(connection.id);
            shard.inbox.connection_ended();
            if connection.known_to_control.get() {
                shard.control.tell(ToControl::ConnectionClosed { connection: connection.id });
            }
        });
    }
}

const LOG_STOPPED: &str = "the commit log stopped after a failed write; this message may be lost. See the broker's log and restart it";

/// The shard as its connections see it.
struct Frames(Rc<Shard>);

impl FrameSink for Frames {
    fn frames(&self, connection: &Rc<Connection>, bytes: &[u8]) -> Progress {
        handler::batch(&self.0, connection, bytes)
    }

    fn batch_done(&self) {
        self.0.wake_popping();
        self.0.forwarding.flush();
        self.0.answers.flush(self.0.now_ms());
    }
}

/// A message that became visible in a queue on which pulls wait.
struct Arrival {
    queue: Rc<Queue>,
    offset: QueueOffset,
    filter_code: i64,
}

impl Arrival {
    fn is_wanted(&self, filter: &Filter, engine: &Engine) -> bool {
        let Filter::Sql92(expression) = filter else { return filter.may_match(self.filter_code) };
        // A record that memory has lost already counts as wanted: the pull finds out.
        let mut is_wanted = true;
        if let Some(number) = self.queue.number() {
            let one = ReadLimits { messages_max: 1, scan_max: 1, ..ReadLimits::default() };
            let look = |record: &[u8]| {
                is_wanted = filter::accepts(expression, record);
                false
            };
            engine.read_cached_where(number, self.offset, &one, look, &mut Vec::new());
        }
        is_wanted
    }
}
