//! Where answers go: into the buffer of a connection of this shard, or onto the way to the shard that has it.
//!
//! Answers are collected while a batch is worked off and leave together: one system call per connection,
//! one mesh message per shard.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use rmq_protocol::header::{Codec, Header};
use rustc_hash::FxHashMap;

use crate::control::link::ConnectionId;
use crate::mesh::{Answers as AnswerBatch, Inbox, MeshMessage};
use crate::net::connection::Connection;

/// Everything an answer needs of its request.
#[derive(Clone, Copy, Debug)]
pub struct ReplyTo {
    pub connection: ConnectionId,
    pub opaque: i32,
    pub codec: Codec,
    pub oneway: bool,
}

impl ReplyTo {
    pub fn of(connection: ConnectionId, header: &Header<'_>) -> Self {
        Self { connection, opaque: header.opaque, codec: header.codec, oneway: header.is_oneway() }
    }
}

/// The connections of one shard and the answers on their way.
pub struct Answers {
    shard: u16,
    inboxes: Vec<Arc<Inbox>>,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    dirty: RefCell<Vec<Rc<Connection>>>,
    remote: RefCell<FxHashMap<ConnectionId, RemoteAnswers>>,
    connections: Cell<usize>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    connection: Option<Rc<Connection>>,
}

#[derive(Default)]
struct RemoteAnswers {
    frames: Vec<u8>,
    count: u32,
}

impl Answers {
    pub fn new(shard: usize, inboxes: Vec<Arc<Inbox>>) -> Self {
        Self {
            shard: shard as u16,
            inboxes,
            slots: RefCell::default(),
            free: RefCell::default(),
            dirty: RefCell::default(),
            remote: RefCell::default(),
            connections: Cell::new(0),
        }
    }

    /// Gives a new connection its id; `make` builds it.
    pub fn admit(&self, make: impl FnOnce(ConnectionId) -> Rc<Connection>) -> Rc<Connection> {
        let mut slots = self.slots.borrow_mut();
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(Slot::default());
            (slots.len() - 1) as u32
        });
        let entry = &mut slots[slot as usize];
        entry.generation = entry.generation.wrapping_add(1);
        let connection = make(ConnectionId { shard: self.shard, slot, generation: entry.generation });
        entry.connection = Some(Rc::clone(&connection));
        self.connections.set(self.connections.get() + 1);
        connection
    }

    pub fn remove(&self, id: ConnectionId) {
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = slots.get_mut(id.slot as usize)
            && slot.generation == id.generation
            && slot.connection.take().is_some()
        {
            self.free.borrow_mut().push(id.slot);
            self.connections.set(self.connections.get() - 1);
        }
    }

    pub fn connections(&self) -> usize {
        self.connections.get()
    }

    pub fn find(&self, id: ConnectionId) -> Option<Rc<Connection>> {
        if id.shard != self.shard {
            return None;
        }
        let slots = self.slots.borrow();
        let slot = slots.get(id.slot as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        slot.connection.clone()
    }

    pub fn each(&self, mut visit: impl FnMut(&Rc<Connection>)) {
        let connections: Vec<Rc<Connection>> =
            self.slots.borrow().iter().filter_map(|slot| slot.connection.clone()).collect();
        connections.iter().for_each(&mut visit);
    }

    /// Counts a request whose answer comes later.
    pub fn defer(&self, to: &ReplyTo) {
        if !to.oneway
            && let Some(connection) = self.find(to.connection)
        {
            connection.begin(1);
        }
    }

    /// Answers at once; `write` appends exactly one frame. Nothing happens for a oneway request.
    pub fn now(&self, to: &ReplyTo, write: impl FnOnce(&mut Vec<u8>)) {
        if !to.oneway {
            self.append(to.connection, 0, write);
        }
    }

    /// Answers a request that was counted by `defer`.
    pub fn later(&self, to: &ReplyTo, write: impl FnOnce(&mut Vec<u8>)) {
        if !to.oneway {
            self.append(to.connection, 1, write);
        }
    }

    /// Hands frames to a connection: answers from another shard (`finished` of them) or from the control thread.
    pub fn append(&self, to: ConnectionId, finished: u32, write: impl FnOnce(&mut Vec<u8>)) {
        if to.shard == self.shard {
            if let Some(connection) = self.find(to) {
                connection.finish(finished);
                if connection.write(write) {
                    self.dirty.borrow_mut().push(connection);
                }
            }
            return;
        }
        // The home shard counted the request when it forwarded it, so every answer finishes one there.
        let mut remote = self.remote.borrow_mut();
        let answers = remote.entry(to).or_default();
        write(&mut answers.frames);
        answers.count += 1;
    }

    /// Sends everything collected since the last flush.
    pub fn flush(&self, now_ms: u64) {
        loop {
            let Some(connection) = self.dirty.borrow_mut().pop() else { break };
            connection.flush(now_ms);
        }
        if self.remote.borrow().is_empty() {
            return;
        }
        let mut batches: Vec<Vec<AnswerBatch>> = self.inboxes.iter().map(|_| Vec::new()).collect();
        for (connection, answers) in self.remote.borrow_mut().drain() {
            batches[connection.shard as usize].push(AnswerBatch {
                connection,
                frames: answers.frames,
                count: answers.count,
            });
        }
        for (inbox, batch) in self.inboxes.iter().zip(batches) {
            if !batch.is_empty() {
                inbox.push(MeshMessage::Answer { batch });
            }
        }
    }
}
