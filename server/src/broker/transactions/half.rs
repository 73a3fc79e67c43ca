//! A half message: a producer's message that waits in the half topic, its own place in two properties.
//!
//! It may be stored again while it waits (a renewed copy), so that the check can go on behind it; each copy says
//! where the first lies, which is what the transaction is known by.

use rmq_protocol::properties::{Properties, name, push_property};
use rmq_protocol::record::RecordRef;
use rmq_protocol::sys_flag;
use rmq_protocol::tag::tags_code;

use crate::broker::message::{Message, remove_property};
use crate::broker::store::Draft;

/// A half message as it lies in the log.
#[derive(Clone, Copy)]
pub struct Half<'a> {
    pub record: RecordRef<'a>,
}

impl<'a> Half<'a> {
    /// Offset of the first copy in the half queue.
    pub fn origin(&self) -> i64 {
        self.number(name::TRANSACTION_PREPARED_QUEUE_OFFSET)
            .filter(|origin| (0..self.record.queue_offset()).contains(origin))
            .unwrap_or(self.record.queue_offset())
    }

    pub fn real_topic(&self) -> Option<&'a str> {
        self.record.properties().find(name::REAL_TOPIC)
    }

    pub fn real_queue(&self) -> Option<i32> {
        self.record.properties().find(name::REAL_QUEUE_ID)?.parse().ok()
    }

    pub fn producer_group(&self) -> Option<&'a str> {
        self.record.properties().find(name::PRODUCER_GROUP)
    }

    pub fn unique_key(&self) -> Option<&'a str> {
        self.record.properties().find(name::UNIQ_KEY)
    }

    /// How long its producer is left alone, as the message itself asks.
    pub fn immunity_ms(&self, default_ms: i64) -> Option<i64> {
        let text = self.record.properties().find(name::CHECK_IMMUNITY_TIME)?;
        Some(match text.parse::<i64>() {
            Ok(-1) | Err(_) => default_ms,
            Ok(seconds) => seconds.saturating_mul(1_000),
        })
    }

    pub fn check_times(&self) -> Option<i32> {
        let text = self.record.properties().find(name::TRANSACTION_CHECK_TIMES)?;
        Some(text.parse().unwrap_or(-1))
    }

    /// The message as consumers of its topic get it. The properties of its wait stay, as in Java.
    pub fn committed(&self) -> Draft<'a> {
        let record = &self.record;
        Draft {
            flag: record.flag(),
            sys_flag: sys_flag::with_transaction(record.sys_flag(), sys_flag::TRANSACTION_COMMIT),
            born_timestamp: record.born_timestamp(),
            born_host: record.born_host(),
            reconsume_times: record.reconsume_times(),
            prepared_transaction_offset: record.physical_offset(),
            properties: record.properties().0,
            filter_code: tags_code(record.properties().find(name::TAGS)),
            body: record.body(),
        }
    }

    /// The same half message, to be stored once more. `checked`: its producer is asked.
    pub fn renewed(&self, checked: bool) -> Message {
        let mut message = Message::of_record(&self.record);
        message.set_property(name::TRANSACTION_PREPARED_QUEUE_OFFSET, &self.origin().to_string());
        if checked {
            let times = self.check_times().map_or(1, |times| times.saturating_add(1));
            message.set_property(name::TRANSACTION_CHECK_TIMES, &times.to_string());
        }
        message
    }

    fn number(&self, key: &str) -> Option<i64> {
        self.record.properties().find(key)?.parse().ok()
    }
}

/// What a renewal may add to the properties: two names, two numbers and the signs between them.
pub const RENEWAL_BYTES: usize = 96;

const _: () = assert!(
    name::TRANSACTION_PREPARED_QUEUE_OFFSET.len() + name::TRANSACTION_CHECK_TIMES.len() + 2 * 20 + 4
        <= RENEWAL_BYTES
);

/// Adds to a producer's properties what brings the message back to its own place.
pub fn add_place(properties: &mut Vec<u8>, topic: &str, queue: i32) {
    let unique_key = Properties(properties).find(name::UNIQ_KEY).map(str::to_owned);
    // A message that a client passes on may have been part of another transaction.
    let history = [name::TRANSACTION_PREPARED_QUEUE_OFFSET, name::TRANSACTION_CHECK_TIMES];
    let place = [name::TRANSACTION_ID, name::REAL_TOPIC, name::REAL_QUEUE_ID];
    for key in history.into_iter().chain(place) {
        remove_property(properties, key);
    }
    if let Some(unique_key) = unique_key {
        push_property(properties, name::TRANSACTION_ID, &unique_key);
    }
    push_property(properties, name::REAL_TOPIC, topic);
    push_property(properties, name::REAL_QUEUE_ID, &queue.to_string());
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use rmq_protocol::properties::PropertiesSource;
    use rmq_protocol::record::{self, RecordFields};
    use rmq_protocol::text::Text;

    use super::*;

    fn stored(properties: &str, queue_offset: i64) -> Vec<u8> {
        let host = SocketAddr::from(([127, 0, 0, 1], 1));
        let fields = RecordFields {
            queue_id: 0,
            flag: 5,
            sys_flag: sys_flag::COMPRESSED,
            born_timestamp: 10,
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: b"body",
            topic: "RMQ_SYS_TRANS_HALF_TOPIC",
            properties: PropertiesSource::client(Text::plain(properties.as_bytes())),
        };
        let mut bytes = vec![0; fields.encoded_len()];
        fields.encode_into(&mut bytes);
        record::stamp(&mut bytes, queue_offset, 4_096, 20);
        bytes
    }

    #[test]
    fn a_half_message_knows_its_place() {
        let mut properties =
            b"TRAN_MSG\x01true\x02REAL_TOPIC\x01mine\x02UNIQ_KEY\x01K\x02TAGS\x01red\x02".to_vec();
        add_place(&mut properties, "T", 3);
        let bytes = stored(std::str::from_utf8(&properties).unwrap(), 7);
        let half = Half { record: RecordRef::parse(&bytes).unwrap() };
        assert_eq!((half.real_topic(), half.real_queue(), half.origin()), (Some("T"), Some(3), 7));
        assert_eq!(half.record.properties().find(name::TRANSACTION_ID), Some("K"));
        let committed = half.committed();
        assert_eq!(committed.sys_flag, sys_flag::TRANSACTION_COMMIT | sys_flag::COMPRESSED);
        assert_eq!((committed.prepared_transaction_offset, committed.body), (4_096, &b"body"[..]));
        assert_eq!(committed.filter_code, tags_code(Some("red")));
    }

    #[test]
    fn copies_remember_the_first_and_count_their_checks() {
        let bytes = stored("PGROUP\x01g\x02", 7);
        let first = Half { record: RecordRef::parse(&bytes).unwrap() };
        let waiting = first.renewed(false);
        assert_eq!(waiting.property(name::TRANSACTION_PREPARED_QUEUE_OFFSET), Some("7"));
        assert_eq!(waiting.property(name::TRANSACTION_CHECK_TIMES), None);
        let text = String::from_utf8(first.renewed(true).properties).unwrap();
        let bytes = stored(&text, 20);
        let second = Half { record: RecordRef::parse(&bytes).unwrap() };
        assert_eq!((second.origin(), second.check_times()), (7, Some(1)));
        assert_eq!(second.renewed(true).property(name::TRANSACTION_CHECK_TIMES), Some("2"));
    }

    #[test]
    fn an_origin_that_cannot_be_is_ignored() {
        for text in ["9", "7", "-1", "x"] {
            let bytes = stored(&format!("TRAN_PREPARED_QUEUE_OFFSET\x01{text}\x02"), 7);
            assert_eq!(Half { record: RecordRef::parse(&bytes).unwrap() }.origin(), 7, "{text}");
        }
    }

    #[test]
    fn immunity_is_what_the_message_asks_for() {
        for (text, ms) in [("30", 30_000), ("-1", 6_000), ("soon", 6_000), ("0", 0)] {
            let bytes = stored(&format!("CHECK_IMMUNITY_TIME_IN_SECONDS\x01{text}\x02"), 0);
            assert_eq!(Half { record: RecordRef::parse(&bytes).unwrap() }.immunity_ms(6_000), Some(ms));
        }
        let bytes = stored("", 0);
        assert_eq!(Half { record: RecordRef::parse(&bytes).unwrap() }.immunity_ms(6_000), None);
    }
}
