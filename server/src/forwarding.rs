//! What this shard sends to the others: per read batch one message to each, as long as it has credits.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::control::link::ConnectionId;
use crate::handler::Origin;
use crate::limits;
use crate::mesh::{Forwarded, Inbox, MeshMessage};
use crate::net::executor;
use crate::shard::Shard;

const CREDIT_WAIT: Duration = Duration::from_millis(1);

pub struct Forwarding {
    shard: usize,
    peers: Vec<Peer>,
}

struct Peer {
    inbox: Arc<Inbox>,
    credits: Cell<u32>,
    batch: RefCell<Vec<Forwarded>>,
    /// Connections that stopped reading for want of a credit.
    waiting: RefCell<Vec<ConnectionId>>,
}

impl Forwarding {
    pub fn new(shard: usize, inboxes: Vec<Arc<Inbox>>) -> Self {
        let peers = inboxes
            .into_iter()
            .map(|inbox| Peer {
                inbox,
                credits: Cell::new(limits::MESH_CREDITS),
                batch: RefCell::default(),
                waiting: RefCell::default(),
            })
            .collect();
        Self { shard, peers }
    }

    /// Adds a request frame to the batch for `to`. False without a credit: the connection waits for one.
    pub fn add(
        &self,
        to: usize,
        connection: ConnectionId,
        peer: SocketAddr,
        vip: bool,
        frame: &[u8],
    ) -> bool {
        debug_assert_ne!(to, self.shard, "a shard forwards nothing to itself");
        let target = &self.peers[to];
        let mut batch = target.batch.borrow_mut();
        if batch.is_empty() && target.credits.get() == 0 {
            target.waiting.borrow_mut().push(connection);
            return false;
        }
        match batch.last_mut() {
            Some(last) if last.connection == connection => last.frames.extend_from_slice(frame),
            _ => batch.push(Forwarded { connection, peer, vip, frames: frame.to_vec() }),
        }
        true
    }

    /// Sends every batch; each takes one credit.
    pub fn flush(&self) {
        for peer in &self.peers {
            if peer.batch.borrow().is_empty() {
                continue;
            }
            let batch = peer.batch.take();
            peer.credits.set(peer.credits.get() - 1);
            peer.inbox.push(MeshMessage::Forward { from: self.shard, batch });
        }
    }

    /// Returns the connections that may read again.
    pub fn credit_returned(&self, from: usize) -> Vec<ConnectionId> {
        let peer = &self.peers[from];
        peer.credits.set(peer.credits.get() + 1);
        peer.waiting.take()
    }

    /// Sends a message that needs no credit: its sender bounds it.
    pub fn send(&self, to: usize, message: MeshMessage) {
        self.peers[to].inbox.push(message);
    }
}

/// A request that must be read further before it is known whose it is; already counted as deferred.
pub struct Lasting {
    connection: ConnectionId,
    peer: SocketAddr,
    vip: bool,
    frame: Vec<u8>,
}

impl Lasting {
    pub fn of(origin: &Origin<'_>) -> Self {
        let Origin { connection, peer, vip, raw, .. } = *origin;
        Self { connection, peer, vip, frame: raw.to_vec() }
    }

    /// Waits for a credit; the other shard then answers.
    pub async fn forward(self, shard: &Shard, to: usize) {
        let forwarding = &shard.forwarding;
        while !forwarding.add(to, self.connection, self.peer, self.vip, &self.frame) {
            executor::sleep(CREDIT_WAIT).await;
        }
        forwarding.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(slot: u32) -> ConnectionId {
        ConnectionId { shard: 0, slot, generation: 1 }
    }

    #[test]
    fn without_a_credit_the_connection_waits_and_is_named_when_one_returns() {
        let inboxes = vec![Inbox::new(), Inbox::new()];
        let forwarding = Forwarding::new(0, inboxes.clone());
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        for _ in 0..limits::MESH_CREDITS {
            assert!(forwarding.add(1, id(1), peer, false, b"frame"));
            forwarding.flush();
        }
        assert!(!forwarding.add(1, id(2), peer, false, b"frame"));
        assert_eq!(inboxes[1].len(), limits::MESH_CREDITS as usize);
        assert_eq!(forwarding.credit_returned(1), [id(2)]);
        assert!(forwarding.add(1, id(2), peer, false, b"frame"));
    }

    #[test]
    fn frames_of_one_read_batch_travel_together() {
        let inboxes = vec![Inbox::new(), Inbox::new()];
        let forwarding = Forwarding::new(0, inboxes.clone());
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        forwarding.add(1, id(1), peer, false, b"one");
        forwarding.add(1, id(1), peer, false, b"two");
        forwarding.add(1, id(2), peer, false, b"three");
        forwarding.flush();
        let Some(MeshMessage::Forward { batch, .. }) = inboxes[1].try_take() else { panic!("one message") };
        assert_eq!(batch.len(), 2);
        assert_eq!(batch[0].frames, b"onetwo");
    }
}
