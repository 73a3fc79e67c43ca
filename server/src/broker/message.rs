//! A message in the broker's own hands: what retry, delay and other internal writes store.

use std::net::SocketAddr;

use rmq_protocol::properties::{NAME_VALUE_SEPARATOR, PROPERTY_SEPARATOR, Properties, push_property};
use rmq_protocol::record::RecordRef;
use rmq_protocol::response_code::ResponseCode;

/// Everything of a message but its place; owned, so that it can cross shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub queue: i32,
    pub flag: i32,
    pub sys_flag: i32,
    pub born_timestamp: i64,
    pub born_host: SocketAddr,
    pub reconsume_times: i32,
    pub prepared_transaction_offset: i64,
    /// `key \u{1} value \u{2}` repeated, each pair closed.
    pub properties: Vec<u8>,
    pub body: Vec<u8>,
}

/// How storing a broker-internal message ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOutcome {
    Stored { queue_offset: i64, physical_offset: i64 },
    Refused { code: ResponseCode, remark: String },
}

impl Message {
    pub fn of_record(record: &RecordRef<'_>) -> Self {
        let mut properties = Vec::with_capacity(record.properties().0.len() + 128);
        for (key, value) in record.properties().iter() {
            push_pair(&mut properties, key, value);
        }
        Self {
            topic: record.topic().to_owned(),
            queue: record.queue_id(),
            flag: record.flag(),
            sys_flag: record.sys_flag(),
            born_timestamp: record.born_timestamp(),
            born_host: record.born_host(),
            reconsume_times: record.reconsume_times(),
            prepared_transaction_offset: record.prepared_transaction_offset(),
            properties,
            body: record.body().to_vec(),
        }
    }

    pub fn property(&self, key: &str) -> Option<&str> {
        Properties(&self.properties).find(key)
    }

    /// Replaces every occurrence of `key`.
    pub fn set_property(&mut self, key: &str, value: &str) {
        self.remove_property(key);
        push_property(&mut self.properties, key, value);
    }

    pub fn remove_property(&mut self, key: &str) {
        remove_property(&mut self.properties, key);
    }
}

/// Removes every occurrence of `key`.
pub fn remove_property(properties: &mut Vec<u8>, key: &str) {
    if Properties(properties).find(key).is_none() {
        return;
    }
    let mut kept = Vec::with_capacity(properties.len());
    for (name, value) in Properties(properties).iter().filter(|(name, _)| *name != key.as_bytes()) {
        push_pair(&mut kept, name, value);
    }
    *properties = kept;
}

fn push_pair(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.extend_from_slice(key);
    out.push(NAME_VALUE_SEPARATOR);
    out.extend_from_slice(value);
    out.push(PROPERTY_SEPARATOR);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(properties: &str) -> Message {
        Message {
            topic: "T".into(),
            queue: 0,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 0,
            born_host: SocketAddr::from(([127, 0, 0, 1], 1)),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            properties: properties.as_bytes().to_vec(),
            body: Vec::new(),
        }
    }

    #[test]
    fn a_property_is_replaced_wherever_it_stood() {
        let mut message = message("A\u{1}1\u{2}DELAY\u{1}3\u{2}B\u{1}2");
        message.set_property("DELAY", "5");
        assert_eq!(message.properties, b"A\x011\x02B\x012\x02DELAY\x015\x02");
        message.remove_property("A");
        assert_eq!(message.property("A"), None);
        assert_eq!(message.property("B"), Some("2"));
    }
}
