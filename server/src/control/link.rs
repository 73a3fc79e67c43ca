//! The seam between the shards and the control thread: what each asks of the other, and nothing else.
//!
//! Shards speak through `ControlLink` (any thread, never blocks, bounded by the credits of each connection);
//! the control thread speaks through `ShardLinks`. Values that cross are owned or immutable, so neither side
//! ever waits for a lock of the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rmq_engine::KeyRecords;
use tokio::sync::{mpsc, oneshot};

use super::limits::{REQUEST_BYTES_WAITING_MAX, REQUESTS_WAITING_MAX};
pub use super::traffic::Count;
use crate::broker::message::Message;
use crate::settings::Settings;

pub use crate::broker::timer::counts::PendingCount;
pub use rmq_protocol::body::{ConsumeType, MessageModel, SubscriptionGroupConfig, TopicConfig};

/// A future that stays on the thread that made it.
pub type LocalFuture<T> = std::pin::Pin<Box<dyn Future<Output = T>>>;

/// One socket of one shard. A slot is used again after a close; the generation tells its lives apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId {
    pub shard: u16,
    pub slot: u32,
    pub generation: u32,
}

/// What shards tell the control thread.
pub enum ToControl {
    /// One whole remoting frame. Control answers through `ShardLinks::send` unless the request is one-way.
    Request {
        connection: ConnectionId,
        peer: SocketAddr,
        vip: bool,
        frame: Vec<u8>,
    },
    /// A client's answer to a request of the broker, one whole frame.
    ClientAnswer {
        connection: ConnectionId,
        frame: Vec<u8>,
    },
    ConnectionClosed {
        connection: ConnectionId,
    },
    /// The outcome comes after every shard has confirmed the topic and the topic file is durable.
    CreateTopic {
        request: TopicRequest,
        reply: Reply<TopicOutcome>,
    },
    /// A pull or send-back of a group without configuration. `true`: it exists now, in every shard.
    EnsureGroup {
        group: String,
        reply: Reply<bool>,
    },
    /// The whole offset table of the queues one shard owns; replaces what that shard sent before.
    Offsets {
        shard: usize,
        table: Vec<ConsumerOffsetRow>,
    },
    /// Progress of the delay levels owned by one shard; other levels keep what they had.
    DelayOffsets {
        rows: Vec<(i32, i64)>,
    },
    /// Each for one client of its producer group. The reply comes when all are on their way.
    CheckTransactions {
        checks: Vec<TransactionCheck>,
        reply: Reply<()>,
    },
    /// Unregister from the name servers, write every state file, stop.
    Shutdown {
        done: oneshot::Sender<()>,
    },
}

/// CHECK_TRANSACTION_STATE for any producer of a group.
pub struct TransactionCheck {
    pub group: String,
    pub frame: Vec<u8>,
}

/// Runs on the control thread, so it only posts to a shard's inbox.
pub type Reply<T> = Box<dyn FnOnce(T) + Send>;

/// The way from a shard to the control thread.
#[derive(Clone)]
pub struct ControlLink {
    sender: mpsc::UnboundedSender<ToControl>,
    /// Requests of clients in the inbox. What shards send of their own is bounded by their connections.
    requests: Arc<AtomicUsize>,
    request_bytes: Arc<AtomicUsize>,
}

/// The control thread's end of every `ControlLink`.
pub struct ControlInbox {
    receiver: mpsc::UnboundedReceiver<ToControl>,
    requests: Arc<AtomicUsize>,
    request_bytes: Arc<AtomicUsize>,
}

impl ControlLink {
    pub fn new() -> (Self, ControlInbox) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let requests = Arc::new(AtomicUsize::new(0));
        let request_bytes = Arc::new(AtomicUsize::new(0));
        let inbox = ControlInbox {
            receiver,
            requests: Arc::clone(&requests),
            request_bytes: Arc::clone(&request_bytes),
        };
        (Self { sender, requests, request_bytes }, inbox)
    }

    /// After shutdown there is nobody to listen; whoever asked is being drained by then.
    pub fn tell(&self, message: ToControl) {
        if let ToControl::Request { frame, .. } | ToControl::ClientAnswer { frame, .. } = &message {
            self.requests.fetch_add(1, Ordering::Relaxed);
            self.request_bytes.fetch_add(frame.len(), Ordering::Relaxed);
        }
        let _ = self.sender.send(message);
    }

    /// The control thread is so far behind that a further request is refused.
    pub fn is_full(&self) -> bool {
        self.requests.load(Ordering::Relaxed) >= REQUESTS_WAITING_MAX
            || self.request_bytes.load(Ordering::Relaxed) >= REQUEST_BYTES_WAITING_MAX
    }
}

impl ControlInbox {
    /// The next message, or `None` when every link is gone.
    pub async fn recv(&mut self) -> Option<ToControl> {
        self.receiver.recv().await.inspect(|message| self.took(message))
    }

    /// A message that is there already.
    pub fn try_recv(&mut self) -> Option<ToControl> {
        self.receiver.try_recv().ok().inspect(|message| self.took(message))
    }

    fn took(&self, message: &ToControl) {
        if let ToControl::Request { frame, .. } | ToControl::ClientAnswer { frame, .. } = message {
            self.requests.fetch_sub(1, Ordering::Relaxed);
            self.request_bytes.fetch_sub(frame.len(), Ordering::Relaxed);
        }
    }
}

/// Why a shard needs a topic that it does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicRequest {
    /// A producer sent to it: the rules of the default topic decide.
    Send { topic: String, default_topic: String, queues: i32, unit: bool },
    /// `%RETRY%group`, with the group's number of retry queues.
    Retry { group: String, unit: bool },
    /// `%DLQ%group`, one queue.
    DeadLetter { group: String },
    /// The broker itself writes to it.
    System { topic: String, queues: u32 },
}

#[derive(Clone, Debug, PartialEq)]
pub enum TopicOutcome {
    /// Created now or known already; every shard has it.
    Exists(Arc<TopicConfig>),
    /// The rules do not allow it: TOPIC_NOT_EXIST.
    Refused,
    /// It could not be made durable: SYSTEM_ERROR with this remark.
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerOffsetRow {
    pub group: String,
    pub topic: String,
    pub queue: i32,
    pub offset: i64,
}

/// What the control thread asks of the shards.
pub trait ShardLinks: 'static {
    fn shards(&self) -> usize;
    /// Dropped in silence when the connection is gone.
    fn send(&self, to: ConnectionId, frame: Vec<u8>);
    /// As `send`; dropped as well when the client is far behind with reading.
    fn check(&self, producer: ConnectionId, frame: Vec<u8>);
    fn close(&self, connection: ConnectionId);
    /// Resolves when every shard has applied all changes. Calls are applied in the order they were made.
    fn publish(&self, changes: Arc<[MetadataChange]>) -> LocalFuture<()>;
    fn query(&self, shard: usize, query: ShardQuery) -> LocalFuture<ShardAnswer>;
}

/// A piece of configuration as every shard shall see it from now on; `None` removes it.
#[derive(Clone, Debug, PartialEq)]
pub enum MetadataChange {
    Topic {
        name: String,
        config: Option<Arc<TopicConfig>>,
    },
    Group {
        name: String,
        config: Option<Arc<SubscriptionGroupConfig>>,
    },
    Subscriptions {
        group: String,
        subscriptions: Option<Arc<GroupSubscriptions>>,
    },
    /// The settings of the data path; each shard keeps its own `store_host`.
    Settings(Arc<Settings>),
    /// Topics that the group may not read; none of them lifts what was said before.
    Unreadable {
        group: String,
        topics: BTreeSet<String>,
    },
    /// Whether some client of the group holds an unexpired order lock: retry sends then go to the DLQ.
    OrderLock {
        group: String,
        held: bool,
    },
}

/// What the heartbeats of a group's consumers say; a pull without its own subscription is judged by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSubscriptions {
    pub consume_type: ConsumeType,
    pub message_model: MessageModel,
    pub topics: BTreeMap<String, Subscription>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// `TAG` or `SQL92`.
    pub expression_type: String,
    pub expression: String,
    /// Java hashes of the tags; empty for everything.
    pub codes: Vec<i32>,
    pub version: i64,
}

/// A question to one shard about what it owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardQuery {
    /// Every queue of the topic that this shard owns: answered with `QueueRanges`.
    QueueRanges {
        topic: String,
    },
    /// Offsets of the group in this shard's queues: answered with `Offsets`.
    GroupOffsets {
        group: String,
    },
    /// The same for every group.
    AllOffsets,
    /// Groups with an offset for the topic in this shard's queues: answered with `Groups`.
    GroupsOfTopic {
        topic: String,
    },
    /// Done when the next pull of the queue will be sent to `offset`. Only to the queue's owner.
    ResetOffset {
        group: String,
        topic: String,
        queue: i32,
        offset: i64,
    },
    /// Copies the offsets of one group to another, for one topic or all: answered with the `Offsets` of the other.
    CloneOffsets {
        from: String,
        to: String,
        topic: Option<String>,
    },
    /// Queues and offsets of the topic go; its configuration has been withdrawn before.
    DeleteTopic {
        topic: String,
    },
    DeleteGroup {
        group: String,
        clean_offset: bool,
    },
    /// Store time of one record: answered with `Timestamp`. Only to the queue's owner.
    RecordTimestamp {
        topic: String,
        queue: i32,
        offset: i64,
    },
    /// The record that begins at a place in the log of any shard: answered with `Record`.
    RecordAt {
        physical_offset: i64,
    },
    /// The first message stored at or after a time, the queue's end for a negative one: answered with `Offset`.
    /// Only to the queue's owner.
    SearchOffset {
        topic: String,
        queue: i32,
        timestamp: i64,
    },
    /// Entries of a queue's index, `control::limits::QUEUE_ENTRIES_MAX` at most: answered with `QueueEntries`, or
    /// `Done` when there is no such queue. Only to the queue's owner.
    QueueEntries {
        topic: String,
        queue: i32,
        from: i64,
        count: usize,
    },
    /// What went through each topic and to each group since the start: answered with `Traffic`.
    Traffic,
    /// Topics with queues but without configuration: answered with `Groups`.
    StrayTopics,
    /// Done when segments older than the reserved time are deleted.
    DeleteExpired,
    /// Groups that read further behind the log's end than this: answered with `Groups`.
    GroupsBehind {
        bytes: i64,
    },
    /// Stores a message in a queue of this shard: answered with `Stored` when it is acknowledged.
    Store {
        message: Box<Message>,
    },
    /// Done when the shard has put into the inbox what it has not reported yet: `Offsets`, `DelayOffsets`.
    HandOver,
    /// Messages with a key: answered with `ByKey`.
    ByKey(KeyLookup),
    /// Progress of the delay levels that the shard owns and that ever held a record: answered with `DelayOffsets`.
    DelayOffsets,
    /// State of the shard's timer: answered with `Timer`.
    Timer,
    Stats,
}

/// The newest messages of a topic with a key, stored between two times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLookup {
    pub topic: String,
    pub key: String,
    pub begin_ms: i64,
    pub end_ms: i64,
    pub messages_max: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ShardAnswer {
    Done,
    QueueRanges(Vec<QueueRange>),
    Offsets(Vec<GroupOffset>),
    /// Names: groups, but for `StrayTopics`.
    Groups(Vec<String>),
    /// Level and offset of its next record.
    DelayOffsets(Vec<(i32, i64)>),
    ByKey(Box<KeyRecords>),
    /// `None`: no such record.
    Timestamp(Option<i64>),
    Stats(Box<ShardStats>),
    Timer(Box<TimerStats>),
    Record(Option<Vec<u8>>),
    Offset(i64),
    QueueEntries {
        min: i64,
        max: i64,
        /// `None`: the first one asked for does not exist.
        entries: Option<Vec<QueueEntry>>,
    },
    Traffic(Vec<TrafficRow>),
    Stored {
        /// As clients know it.
        message_id: String,
        queue_offset: i64,
    },
    /// The shard could not do it; the text is the remark of the answer.
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueEntry {
    pub physical_offset: i64,
    pub len: usize,
    pub tags_code: i64,
}

/// What one shard counted. Without a topic it is about all of them, with an empty group about all groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficRow {
    pub topic: String,
    /// Who got it; `None` for what was put.
    pub group: Option<String>,
    pub count: Count,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRange {
    pub queue: i32,
    pub min: i64,
    /// Offset of the next record.
    pub max: i64,
    /// Store time of the newest record, 0 when there is none.
    pub last_update_ms: i64,
    /// Records appended since the start.
    pub appended: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffset {
    pub group: String,
    pub topic: String,
    pub queue: i32,
    pub committed: Option<i64>,
    /// Where the group's last pull ended, if it pulled since the start.
    pub pulled: Option<i64>,
    /// Records handed out to the group since the start.
    pub delivered: u64,
    /// The last pull brought its own subscription, so that no heartbeat has to name the topic.
    pub subscribes: bool,
}

impl GroupOffset {
    /// `None` for a group that has pulled and committed nothing.
    pub fn into_row(self) -> Option<ConsumerOffsetRow> {
        let offset = self.committed?;
        Some(ConsumerOffsetRow { group: self.group, topic: self.topic, queue: self.queue, offset })
    }
}

/// Counters run from the start of the process and never go back: control makes rates of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShardStats {
    pub messages_put: u64,
    pub bytes_put: u64,
    pub messages_got: u64,
    pub bytes_got: u64,
    /// Pulls that found something, and pulls that did not.
    pub pulls_found: u64,
    pub pulls_missed: u64,
    pub transactions_committed: u64,
    pub transactions_rolled_back: u64,
    /// Questions to producers, and transactions that were set aside after too many.
    pub transactions_checked: u64,
    pub transactions_set_aside: u64,
    pub put_failed: u64,
    /// Longest time of a put so far.
    pub put_ms_max: u64,
    pub put_bytes_max: u64,
    pub log_min_offset: i64,
    pub log_max_offset: i64,
    /// Store time of the oldest record, if there is one.
    pub earliest_message_ms: Option<i64>,
    /// Bytes appended that are not yet on disk.
    pub unflushed_bytes: u64,
    pub queues: u64,
    pub connections: u64,
    pub suspended_pulls: u64,
    /// Used share of the file system that holds the log, 0.0 to 1.0.
    pub disk_ratio: f64,
}

/// What a shard's timer is at; counters run from the start of the process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimerStats {
    /// Everything due before has been delivered.
    pub read_ms: i64,
    /// Messages that the timer has taken up, ever.
    pub next_offset: i64,
    /// Messages stored and not yet taken up.
    pub offset_behind: i64,
    pub pending: u64,
    pub enqueued_per_s: f64,
    pub dequeued_per_s: f64,
    /// Waiting messages by topic.
    pub counts: Vec<(String, PendingCount)>,
}

impl fmt::Debug for ToControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request { connection, frame, .. } => {
                write!(f, "Request({connection:?}, {} bytes)", frame.len())
            }
            Self::ClientAnswer { connection, frame } => {
                write!(f, "ClientAnswer({connection:?}, {} bytes)", frame.len())
            }
            Self::ConnectionClosed { connection } => write!(f, "ConnectionClosed({connection:?})"),
            Self::CreateTopic { request, .. } => write!(f, "CreateTopic({request:?})"),
            Self::EnsureGroup { group, .. } => write!(f, "EnsureGroup({group})"),
            Self::Offsets { shard, table } => write!(f, "Offsets(shard {shard}, {} rows)", table.len()),
            Self::DelayOffsets { rows } => write!(f, "DelayOffsets({rows:?})"),
            Self::CheckTransactions { checks, .. } => write!(f, "CheckTransactions({})", checks.len()),
            Self::Shutdown { .. } => f.write_str("Shutdown"),
        }
    }
}
