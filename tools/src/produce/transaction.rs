//! The second half of a transaction: once its half message is stored, one more request commits it or rolls it back.
//!
//! A transaction keeps its place in the window from the half message to the answer to its end, under one opaque id.
//! Clients send the end without asking for an answer; here it is asked for, since the answer is what is measured.

use rmq_protocol::message_id::MessageId;
use rmq_protocol::{Codec, FrameWriter, RequestCode};
use rustc_hash::FxHashMap;

use crate::answer::SendAnswer;
use crate::body::mix;

/// Values of `commitOrRollback`.
const COMMIT: i64 = 8;
const ROLLBACK: i64 = 12;

#[derive(Clone, Debug)]
pub struct TransactionShape {
    pub topic: String,
    pub group: String,
    pub codec: Codec,
    /// The share that is rolled back.
    pub rollback: f64,
    /// Chooses which.
    pub seed: u64,
}

/// The transactions of one load thread whose half message is stored.
pub struct Transactions {
    shape: TransactionShape,
    open: FxHashMap<(u32, u64), Half>,
    requests: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Half {
    pub answered_ns: u64,
    pub rollback: bool,
}

impl Transactions {
    pub fn new(shape: TransactionShape) -> Self {
        Self { shape, open: FxHashMap::default(), requests: Vec::new() }
    }

    pub fn is_open(&self, connection: u32, request: u64) -> bool {
        self.open.contains_key(&(connection, request))
    }

    /// Takes the answer that says where the half message is, and writes the request that ends the transaction.
    /// `None`: the answer does not say where.
    pub fn end(&mut self, connection: u32, request: u64, answer: &SendAnswer<'_>, now: u64) -> Option<()> {
        let id = answer.field("msgId")?;
        let place = MessageId::parse(&id)?.physical_offset;
        let unique_key = answer.field("transactionId").unwrap_or(id);
        let rollback = self.rolls_back(connection, request);
        FrameWriter::request(
            &mut self.requests,
            self.shape.codec,
            RequestCode::END_TRANSACTION,
            answer.opaque,
            false,
        )
        .field("topic", &self.shape.topic)
        .field("producerGroup", &self.shape.group)
        .field_int("tranStateTableOffset", answer.offset?)
        .field_int("commitLogOffset", place)
        .field_int("commitOrRollback", if rollback { ROLLBACK } else { COMMIT })
        .field_bool("fromTransactionCheck", false)
        .field("msgId", &unique_key)
        .field("transactionId", &unique_key)
        .finish();
        self.open.insert((connection, request), Half { answered_ns: now, rollback });
        Some(())
    }

    /// Requests that have been written since, for the connection whose answers were read.
    pub fn take_requests(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.requests);
    }

    pub fn ended(&mut self, connection: u32, request: u64) -> Option<Half> {
        self.open.remove(&(connection, request))
    }

    pub fn forget(&mut self, connection: u32) {
        self.open.retain(|(number, _), _| *number != connection);
    }

    fn rolls_back(&self, connection: u32, request: u64) -> bool {
        let drawn = mix(self.shape.seed.rotate_left(17) ^ (u64::from(connection) << 40) ^ request);
        ((drawn >> 11) as f64 / (1u64 << 53) as f64) < self.shape.rollback
    }
}

#[cfg(test)]
mod tests {
    use rmq_protocol::{Frame, ResponseCode};

    use super::*;

    fn transactions(rollback: f64) -> Transactions {
        Transactions::new(TransactionShape {
            topic: String::from("T"),
            group: String::from("G"),
            codec: Codec::Json,
            rollback,
            seed: 9,
        })
    }

    fn answer(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut frame = Vec::new();
        let mut writer = FrameWriter::response(&mut frame, Codec::Json, ResponseCode::SUCCESS, 77);
        for (name, value) in fields {
            writer = writer.field(name, value);
        }
        writer.finish();
        frame
    }

    #[test]
    fn the_end_names_where_the_half_message_is() {
        let mut transactions = transactions(0.0);
        let id = ("msgId", "7F00000100002A9F00000000000003E8");
        let frame = answer(&[id, ("transactionId", "KEY"), ("queueOffset", "12"), ("queueId", "0")]);
        let half = SendAnswer::read(&frame).unwrap().unwrap();
        assert_eq!(transactions.end(3, 5, &half, 1000), Some(()));
        assert!(transactions.is_open(3, 5) && !transactions.is_open(3, 6));
        let mut out = Vec::new();
        transactions.take_requests(&mut out);
        let (end, length) = Frame::decode(&out).unwrap().unwrap();
        assert_eq!((length, end.header.code, end.header.opaque), (out.len(), 37, 77));
        let field = |name| end.header.fields.find(name).unwrap().cow().into_owned();
        assert_eq!(field("tranStateTableOffset"), "12");
        assert_eq!(field("commitLogOffset"), "1000");
        assert_eq!((field("commitOrRollback"), field("msgId")), (String::from("8"), String::from("KEY")));
        assert_eq!(transactions.ended(3, 5), Some(Half { answered_ns: 1000, rollback: false }));
        assert_eq!(transactions.ended(3, 5), None);
    }

    #[test]
    fn an_answer_without_a_place_ends_nothing() {
        let mut transactions = transactions(0.0);
        for fields in [&[("queueOffset", "12")][..], &[("msgId", "xyz"), ("queueOffset", "1")]] {
            let frame = answer(fields);
            let half = SendAnswer::read(&frame).unwrap().unwrap();
            assert_eq!(transactions.end(3, 5, &half, 1000), None);
        }
        let mut out = Vec::new();
        transactions.take_requests(&mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn the_share_that_is_rolled_back_is_the_one_asked_for() {
        for (rollback, low, high) in [(0.0, 0, 0), (0.25, 2300, 2700), (1.0, 10_000, 10_000)] {
            let transactions = transactions(rollback);
            let count = (0..10_000).filter(|request| transactions.rolls_back(1, *request)).count();
            assert!((low..=high).contains(&count), "{rollback}: {count}");
        }
    }
}
