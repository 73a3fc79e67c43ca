//! Op records: how a transaction ended, durable, in the op queue beside its half queue.
//!
//! Tag `d`, body `offset,`, as in Java; the outcome is a property of ours, and a record that commits names the half
//! message's physical offset, so that a start can store the message that a crash has kept from following it.
//! Tag `l` says below which offset everything has ended.

use std::net::SocketAddr;

use rmq_protocol::properties::name;
use rmq_protocol::record::RecordRef;
use rmq_protocol::tag::tags_code;

use super::outcomes::Outcome;
use crate::broker::store::{self, Draft};

const OUTCOME: &str = "OUTCOME";

/// In place of a half message's physical offset: no message has to follow this record. No record lies there.
pub const DONE: i64 = 0;

/// What an op record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `None`: the transaction was opened again.
    End {
        half: i64,
        outcome: Option<Outcome>,
    },
    Low {
        below: i64,
    },
}

/// The parts of an op record that a draft borrows.
pub struct OpText {
    properties: &'static [u8],
    body: String,
    tag: &'static str,
}

impl Op {
    pub fn of_record(record: &RecordRef<'_>) -> Option<Self> {
        let half: i64 = std::str::from_utf8(record.body()).ok()?.strip_suffix(',')?.parse().ok()?;
        match record.properties().find(name::TAGS)? {
            "l" => Some(Self::Low { below: half }),
            "d" => {
                let outcome = match record.properties().find(OUTCOME)? {
                    "commit" => Some(Outcome::Committed),
                    "rollback" => Some(Outcome::RolledBack),
                    "aside" => Some(Outcome::SetAside),
                    "open" => None,
                    _ => return None,
                };
                Some(Self::End { half, outcome })
            }
            _ => None,
        }
    }

    pub fn text(self) -> OpText {
        let (properties, half, tag): (&[u8], _, _) = match self {
            Self::Low { below } => (b"TAGS\x01l\x02", below, "l"),
            Self::End { half, outcome } => {
                let properties: &[u8] = match outcome {
                    Some(Outcome::Committed) => b"TAGS\x01d\x02OUTCOME\x01commit\x02",
                    Some(Outcome::RolledBack) => b"TAGS\x01d\x02OUTCOME\x01rollback\x02",
                    Some(Outcome::SetAside) => b"TAGS\x01d\x02OUTCOME\x01aside\x02",
                    None => b"TAGS\x01d\x02OUTCOME\x01open\x02",
                };
                (properties, half, "d")
            }
        };
        OpText { properties, body: format!("{half},"), tag }
    }
}

impl OpText {
    /// `half_at`: physical offset of the half message, or `DONE`.
    pub fn draft(&self, half_at: i64, host: SocketAddr) -> Draft<'_> {
        Draft {
            flag: 0,
            sys_flag: 0,
            born_timestamp: store::wall_clock_ms(),
            born_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: half_at,
            properties: self.properties,
            filter_code: tags_code(Some(self.tag)),
            body: self.body.as_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rmq_protocol::properties::PropertiesSource;
    use rmq_protocol::record::RecordFields;
    use rmq_protocol::text::Text;

    use super::*;

    fn stored(properties: &[u8], body: &[u8]) -> Vec<u8> {
        let host = SocketAddr::from(([127, 0, 0, 1], 1));
        let fields = RecordFields {
            queue_id: 0,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 0,
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body,
            topic: "RMQ_SYS_TRANS_OP_HALF_TOPIC",
            properties: PropertiesSource::client(Text::plain(properties)),
        };
        let mut bytes = vec![0; fields.encoded_len()];
        fields.encode_into(&mut bytes);
        bytes
    }

    #[test]
    fn every_op_comes_back() {
        let outcomes = [None, Some(Outcome::Committed), Some(Outcome::RolledBack), Some(Outcome::SetAside)];
        let ends = outcomes.map(|outcome| Op::End { half: 12, outcome });
        for op in ends.into_iter().chain([Op::Low { below: 65_536 }]) {
            let text = op.text();
            let bytes = stored(text.properties, text.body.as_bytes());
            assert_eq!(Op::of_record(&RecordRef::parse(&bytes).unwrap()), Some(op));
        }
    }

    #[test]
    fn what_is_no_op_is_none() {
        for (properties, body) in [
            (&b"TAGS\x01d\x02"[..], &b"1,"[..]),
            (b"TAGS\x01l\x02", b"1"),
            (b"", b"1,"),
            (b"TAGS\x01x\x02", b"1,"),
        ] {
            let bytes = stored(properties, body);
            assert_eq!(Op::of_record(&RecordRef::parse(&bytes).unwrap()), None);
        }
    }
}
