//! The ways into a shard from other threads: a bounded-by-credit inbox and the messages that travel through it.
//!
//! A message is pushed without a lock and wakes the shard's one inbox task. What may be in flight is bounded
//! by those who send: a shard forwards a read batch only with a credit in hand (`limits::MESH_CREDITS`), an
//! answer travels on the credit of its request, and the control thread answers what it was asked.
//! Not here: what a message does to the shard (`shard`), or which shard owns a queue (`ownership`).

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use crossbeam_queue::SegQueue;
use tokio::sync::oneshot;

use crate::broker::message::{Message, StoreOutcome};
use crate::broker::pop::request::{PopAnswer, PopAsk};
use crate::broker::pop::waiters::WaitKey;
use crate::control::link::{ConnectionId, MetadataChange, ShardAnswer, ShardQuery, TopicOutcome};

/// Request frames of one connection that belong to queues of the receiving shard, as they were read.
pub struct Forwarded {
    pub connection: ConnectionId,
    pub peer: SocketAddr,
    pub vip: bool,
    /// Whole frames, one behind the other.
    pub frames: Vec<u8>,
}

/// Answers for connections of the receiving shard.
pub struct Answers {
    pub connection: ConnectionId,
    /// Whole frames, one behind the other.
    pub frames: Vec<u8>,
    pub count: u32,
}

/// Names the broker-internal store that waits for its outcome in the asking shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StoreTicket(pub u64);

/// What the control thread decided for a stalled connection.
#[derive(Debug)]
pub enum Verdict {
    Topic { name: String, outcome: TopicOutcome },
    Group { name: String, exists: bool },
}

pub enum MeshMessage {
    Accepted {
        socket: OwnedFd,
        peer: SocketAddr,
        vip: bool,
    },
    Forward {
        from: usize,
        batch: Vec<Forwarded>,
    },
    Answer {
        batch: Vec<Answers>,
    },
    /// The receiver has worked off a `Forward` batch of this shard; the credit is free again.
    CreditReturned {
        from: usize,
    },
    Store {
        from: usize,
        ticket: StoreTicket,
        message: Box<Message>,
    },
    Stored {
        ticket: StoreTicket,
        outcome: StoreOutcome,
    },
    /// A pop goes on at the receiving shard, or something else about popping.
    PopAsk {
        from: usize,
        ticket: u64,
        ask: PopAsk,
    },
    PopAnswer {
        ticket: u64,
        answer: PopAnswer,
    },
    /// Tell, once, as soon as the receiver's queues have something for the key.
    PopWatch {
        from: usize,
        key: Arc<WaitKey>,
    },
    PopArrived {
        key: Arc<WaitKey>,
    },
    FromControl {
        connection: ConnectionId,
        frame: Vec<u8>,
    },
    /// CHECK_TRANSACTION_STATE, for a producer that keeps up.
    Check {
        connection: ConnectionId,
        frame: Vec<u8>,
    },
    CloseConnection {
        connection: ConnectionId,
    },
    Publish {
        changes: Arc<[MetadataChange]>,
        confirm: oneshot::Sender<()>,
    },
    Query {
        query: ShardQuery,
        answer: oneshot::Sender<ShardAnswer>,
    },
    /// A stalled connection of this shard may go on: what it waited for was decided by the control thread.
    Resume {
        connection: ConnectionId,
        verdict: Verdict,
    },
    /// Stop taking requests; answer what was accepted.
    Drain {
        done: oneshot::Sender<()>,
    },
    /// Flush, write the snapshot index, end the executor.
    Stop,
}

/// One shard's inbox. Any thread pushes; only the shard's inbox task takes.
pub struct Inbox {
    messages: SegQueue<MeshMessage>,
    waker: AtomicWaker,
    /// Counts turns of the inbox task; the supervisor sees from it that the executor lives.
    turns: AtomicU64,
    /// Connections handed to this shard and not yet ended.
    connections: AtomicUsize,
}

impl Inbox {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            messages: SegQueue::new(),
            waker: AtomicWaker::new(),
            turns: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
        })
    }

    pub fn push(&self, message: MeshMessage) {
        self.messages.push(message);
        self.waker.wake();
    }

    /// Asks for a turn of the inbox task, which counts it.
    pub fn nudge(&self) {
        self.waker.wake();
    }

    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Hands a connection to the shard.
    pub fn accepted(&self, socket: OwnedFd, peer: SocketAddr, vip: bool) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.push(MeshMessage::Accepted { socket, peer, vip });
    }

    pub fn connection_ended(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub fn try_take(&self) -> Option<MeshMessage> {
        self.messages.pop()
    }

    /// Ready when there is something to take. A nudge makes it return `Pending` once more.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.turns.fetch_add(1, Ordering::Relaxed);
        self.waker.register(cx.waker());
        if self.messages.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }
}
