//! Requests of the broker to its clients, and the answers that come back.
//!
//! Invariant: a call is listed from its frame's departure until its answer, its time-out or the end of its
//! connection, whichever is first; an answer that nobody waits for is dropped.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use rmq_protocol::frame::Frame;
use rmq_protocol::header::Codec;
use rmq_protocol::request_code::RequestCode;
use rmq_protocol::writer::FrameWriter;
use tokio::sync::oneshot;

use super::limits::{CALL_BYTES_WAITING_MAX, CALLS_WAITING_MAX};
use super::link::ConnectionId;
use super::state::State;

#[derive(Default)]
pub struct ClientCalls {
    next_opaque: Cell<i32>,
    waiting: RefCell<BTreeMap<i32, Waiting>>,
    /// Of the requests that wait: they may lie in buffers of connections whose clients do not read.
    bytes: Cell<usize>,
}

struct Waiting {
    connection: ConnectionId,
    answer: oneshot::Sender<Vec<u8>>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("no answer within {0} ms")]
    TimedOut(u128),
    #[error("the client's connection was closed")]
    Closed,
    #[error("too many requests of the broker wait for clients")]
    TooMany,
}

impl ClientCalls {
    /// An answer of a client; of another connection than was asked it is nobody's.
    pub fn answered(&self, connection: ConnectionId, frame: Vec<u8>) {
        let Ok(Some((decoded, _))) = Frame::decode(&frame) else { return };
        let opaque = decoded.header.opaque;
        let mut waiting = self.waiting.borrow_mut();
        if waiting.get(&opaque).is_some_and(|call| call.connection == connection)
            && let Some(call) = waiting.remove(&opaque)
        {
            let _ = call.answer.send(frame);
        }
    }

    /// Nobody will answer on this connection any more.
    pub fn close(&self, connection: ConnectionId) {
        self.waiting.borrow_mut().retain(|_, call| call.connection != connection);
    }
}

/// Asks a client and waits for its answer, a whole frame. JSON, whatever the client speaks: every client reads it.
pub async fn call(
    state: &State,
    client: ConnectionId,
    limit: Duration,
    code: RequestCode,
    write: impl FnOnce(FrameWriter<'_>),
) -> Result<Vec<u8>, CallError> {
    let calls = &state.calls;
    let opaque = calls.next_opaque.get();
    calls.next_opaque.set(opaque.wrapping_add(1));
    let mut frame = Vec::new();
    write(FrameWriter::request(&mut frame, Codec::Json, code, opaque, false));
    let (answer, answered) = oneshot::channel();
    if calls.waiting.borrow().len() >= CALLS_WAITING_MAX
        || calls.bytes.get() + frame.len() > CALL_BYTES_WAITING_MAX
    {
        return Err(CallError::TooMany);
    }
    calls.waiting.borrow_mut().insert(opaque, Waiting { connection: client, answer });
    let _call = Listed { calls, opaque, bytes: frame.len() };
    calls.bytes.set(calls.bytes.get() + frame.len());
    state.links.send(client, frame);
    match tokio::time::timeout(limit, answered).await {
        Ok(Ok(frame)) => Ok(frame),
        Ok(Err(_)) => Err(CallError::Closed),
        Err(_) => Err(CallError::TimedOut(limit.as_millis())),
    }
}

/// Takes the call off the list however its wait ends.
struct Listed<'c> {
    calls: &'c ClientCalls,
    opaque: i32,
    bytes: usize,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.calls.waiting.borrow_mut().remove(&self.opaque);
        self.calls.bytes.set(self.calls.bytes.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use rmq_protocol::response_code::ResponseCode;

    use super::*;

    fn connection(slot: u32) -> ConnectionId {
        ConnectionId { shard: 0, slot, generation: 0 }
    }

    fn wait(calls: &ClientCalls, opaque: i32, connection: ConnectionId) -> oneshot::Receiver<Vec<u8>> {
        let (answer, answered) = oneshot::channel();
        calls.waiting.borrow_mut().insert(opaque, Waiting { connection, answer });
        answered
    }

    fn answer(opaque: i32) -> Vec<u8> {
        let mut frame = Vec::new();
        FrameWriter::response(&mut frame, Codec::Json, ResponseCode::SUCCESS, opaque).finish();
        frame
    }

    #[test]
    fn only_the_client_that_was_asked_answers_and_only_once() {
        let calls = ClientCalls::default();
        let mut answered = wait(&calls, 7, connection(1));
        calls.answered(connection(2), answer(7));
        calls.answered(connection(1), answer(8));
        calls.answered(connection(1), b"garbage".to_vec());
        assert!(answered.try_recv().is_err());
        calls.answered(connection(1), answer(7));
        calls.answered(connection(1), answer(7));
        assert_eq!(answered.try_recv(), Ok(answer(7)));
    }

    #[test]
    fn a_closed_connection_ends_its_calls() {
        let calls = ClientCalls::default();
        let mut first = wait(&calls, 1, connection(1));
        let mut second = wait(&calls, 2, connection(2));
        calls.close(connection(1));
        assert_eq!(first.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(second.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    }
}
