//! What is asked of the shards whose queues are popped, and what they give. Owned, so that it can cross shards.

use std::sync::Arc;

use rmq_engine::LogPosition;

use super::names::Source;
use super::receipt::Popped;

#[derive(Clone, Debug)]
pub struct PopRequest {
    pub group: String,
    /// The normal topic.
    pub topic: String,
    pub purpose: Purpose,
    pub pop_time: i64,
    pub invisible_ms: i64,
    pub revive_queue: i32,
    /// A group without an offset begins at the newest message instead of the oldest.
    pub from_newest: bool,
    pub expression_type: Option<String>,
    pub expression: String,
    /// Ordered: the attempt that may have its messages once more.
    pub order: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Pop,
    /// Messages are shown; nothing changes.
    Peek,
    /// Only how many there are.
    Look,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub source: Source,
    pub queue: i32,
}

/// What was found so far.
#[derive(Debug, Default)]
pub struct Portion {
    pub records: Vec<u8>,
    pub messages: u32,
    pub popped: Vec<Popped>,
    /// Messages behind those, in every queue that was looked at.
    pub rest: i64,
    /// Something could not be read or written down; it is no use to wait for messages.
    pub failed: bool,
    /// The checkpoints of this shard end here; they must be acknowledged before the messages leave.
    pub end: Option<LogPosition>,
}

impl Portion {
    pub fn add(&mut self, other: Self) {
        if self.records.is_empty() {
            self.records = other.records;
        } else {
            self.records.extend_from_slice(&other.records);
        }
        self.messages += other.messages;
        self.popped.extend(other.popped);
        self.rest += other.rest;
        self.failed |= other.failed;
        self.end = self.end.max(other.end);
    }
}

/// Messages of one checkpoint that are acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acks {
    pub group: String,
    pub topic: String,
    pub queue: i32,
    pub start: i64,
    pub pop_time: i64,
    pub is_ordered: bool,
    pub offsets: Vec<i64>,
}

/// One shard's question to another.
#[derive(Debug)]
pub enum PopAsk {
    Visit {
        request: Arc<PopRequest>,
        places: Vec<Place>,
        room: u32,
    },
    Acks(Vec<Acks>),
    /// How many wait, there, for this topic, group and queue.
    Held {
        topic: String,
        group: String,
        queue: i32,
    },
    /// A record of a queue, by its offset.
    Record {
        topic: String,
        queue: i32,
        offset: i64,
    },
}

#[derive(Debug)]
pub enum PopAnswer {
    Portion(Portion),
    /// A remark, when an ordered acknowledgement was of nothing that is consumed.
    Acks(Option<String>),
    Held(usize),
    /// The error is a remark.
    Record(Result<Option<Vec<u8>>, String>),
}
