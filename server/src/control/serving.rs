//! Requests under way, by connection: a handler that waited can tell whether its connection is still there.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::link::ConnectionId;

#[derive(Default)]
pub struct Serving {
    connections: RefCell<BTreeMap<ConnectionId, UnderWay>>,
}

#[derive(Default)]
struct UnderWay {
    requests: usize,
    closed: bool,
}

impl Serving {
    pub fn begin(&self, connection: ConnectionId) -> ServingGuard<'_> {
        self.connections.borrow_mut().entry(connection).or_default().requests += 1;
        ServingGuard { serving: self, connection }
    }

    pub fn close(&self, connection: ConnectionId) {
        if let Some(under_way) = self.connections.borrow_mut().get_mut(&connection) {
            under_way.closed = true;
        }
    }

    /// Meaningful while a request of the connection is under way.
    pub fn has_closed(&self, connection: ConnectionId) -> bool {
        self.connections.borrow().get(&connection).is_some_and(|under_way| under_way.closed)
    }
}

pub struct ServingGuard<'s> {
    serving: &'s Serving,
    connection: ConnectionId,
}

impl Drop for ServingGuard<'_> {
    fn drop(&mut self) {
        let mut connections = self.serving.connections.borrow_mut();
        if let Some(under_way) = connections.get_mut(&self.connection) {
            under_way.requests -= 1;
            if under_way.requests == 0 {
                connections.remove(&self.connection);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_is_seen_by_every_request_under_way_and_then_forgotten() {
        let serving = Serving::default();
        let connection = ConnectionId { shard: 0, slot: 1, generation: 2 };
        serving.close(connection);
        assert!(!serving.has_closed(connection));
        let first = serving.begin(connection);
        let second = serving.begin(connection);
        serving.close(connection);
        drop(first);
        assert!(serving.has_closed(connection));
        drop(second);
        assert!(serving.connections.borrow().is_empty());
    }
}
