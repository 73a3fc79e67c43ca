//! A message's properties: `key \x01 value \x02`, repeated; the last \x02 may be missing.

use crate::byte_search::find_either;
use crate::text::Text;

pub const NAME_VALUE_SEPARATOR: u8 = 0x01;
pub const PROPERTY_SEPARATOR: u8 = 0x02;

/// Longest properties of a record: their length is a signed 16-bit number.
pub const PROPERTIES_LEN_MAX: usize = i16::MAX as usize;

/// Names that brokers and clients agree on.
pub mod name {
    pub const KEYS: &str = "KEYS";
    pub const TAGS: &str = "TAGS";
    pub const WAIT: &str = "WAIT";
    pub const DELAY: &str = "DELAY";
    pub const RETRY_TOPIC: &str = "RETRY_TOPIC";
    pub const REAL_TOPIC: &str = "REAL_TOPIC";
    pub const REAL_QUEUE_ID: &str = "REAL_QID";
    pub const TRANSACTION_PREPARED: &str = "TRAN_MSG";
    pub const PRODUCER_GROUP: &str = "PGROUP";
    pub const MIN_OFFSET: &str = "MIN_OFFSET";
    pub const MAX_OFFSET: &str = "MAX_OFFSET";
    pub const ORIGIN_MESSAGE_ID: &str = "ORIGIN_MESSAGE_ID";
    pub const RECONSUME_TIME: &str = "RECONSUME_TIME";
    pub const MAX_RECONSUME_TIMES: &str = "MAX_RECONSUME_TIMES";
    pub const MSG_REGION: &str = "MSG_REGION";
    pub const TRACE_ON: &str = "TRACE_ON";
    pub const CLUSTER: &str = "CLUSTER";
    pub const UNIQ_KEY: &str = "UNIQ_KEY";
    pub const INNER_NUM: &str = "INNER_NUM";
    pub const INNER_BASE: &str = "INNER_BASE";
    pub const INNER_MULTI_DISPATCH: &str = "INNER_MULTI_DISPATCH";
    pub const INNER_MULTI_QUEUE_OFFSET: &str = "INNER_MULTI_QUEUE_OFFSET";
    pub const INSTANCE_ID: &str = "INSTANCE_ID";
    pub const CHECK_IMMUNITY_TIME: &str = "CHECK_IMMUNITY_TIME_IN_SECONDS";
    pub const TRANSACTION_PREPARED_QUEUE_OFFSET: &str = "TRAN_PREPARED_QUEUE_OFFSET";
    pub const TRANSACTION_CHECK_TIMES: &str = "TRANSACTION_CHECK_TIMES";
    pub const TRANSACTION_ID: &str = "__transactionId__";
    pub const CORRELATION_ID: &str = "CORRELATION_ID";
    pub const REPLY_TO_CLIENT: &str = "REPLY_TO_CLIENT";
    pub const TTL: &str = "TTL";
    pub const MSG_TYPE: &str = "MSG_TYPE";
    pub const PUSH_REPLY_TIME: &str = "PUSH_REPLY_TIME";
    pub const POP_CK: &str = "POP_CK";
    pub const FIRST_POP_TIME: &str = "1ST_POP_TIME";
    pub const SHARDING_KEY: &str = "__SHARDINGKEY";
    pub const TIMER_DELAY_SEC: &str = "TIMER_DELAY_SEC";
    pub const TIMER_DELAY_MS: &str = "TIMER_DELAY_MS";
    pub const TIMER_DELIVER_MS: &str = "TIMER_DELIVER_MS";
    pub const TIMER_OUT_MS: &str = "TIMER_OUT_MS";
    pub const TIMER_ENQUEUE_MS: &str = "TIMER_ENQUEUE_MS";
    pub const TIMER_DEQUEUE_MS: &str = "TIMER_DEQUEUE_MS";
    pub const TIMER_ROLL_TIMES: &str = "TIMER_ROLL_TIMES";
    pub const TIMER_DEL_UNIQKEY: &str = "TIMER_DEL_UNIQKEY";
    pub const DLQ_ORIGIN_TOPIC: &str = "DLQ_ORIGIN_TOPIC";
    pub const DLQ_ORIGIN_MESSAGE_ID: &str = "DLQ_ORIGIN_MESSAGE_ID";
}

/// Properties as they are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a>(pub &'a [u8]);

impl<'a> Properties<'a> {
    /// The value of `key`; of several the last, as in Java. `None` also when the value is not UTF-8.
    pub fn find(&self, key: &str) -> Option<&'a str> {
        std::str::from_utf8(self.find_bytes(key)?).ok()
    }

    pub fn find_bytes(&self, key: &str) -> Option<&'a [u8]> {
        let mut found = None;
        for (name, value) in self.iter() {
            if name == key.as_bytes() {
                found = Some(value);
            }
        }
        found
    }

    /// Key and value of each property. Pairs with an empty key or value do not exist, as in Java.
    pub fn iter(&self) -> Iter<'a> {
        Iter { rest: self.0 }
    }

    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl<'a> IntoIterator for Properties<'a> {
    type Item = (&'a [u8], &'a [u8]);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

pub struct Iter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let first = find_either(self.rest, 0, NAME_VALUE_SEPARATOR, PROPERTY_SEPARATOR)
                .unwrap_or(self.rest.len());
            if self.rest.get(first) != Some(&NAME_VALUE_SEPARATOR) {
                // No value at all.
                self.rest = self.rest.get(first + 1..).unwrap_or_default();
                continue;
            }
            let key = &self.rest[..first];
            let tail = &self.rest[first + 1..];
            let end = find_either(tail, 0, PROPERTY_SEPARATOR, PROPERTY_SEPARATOR).unwrap_or(tail.len());
            self.rest = tail.get(end + 1..).unwrap_or_default();
            if !key.is_empty() && end > 0 {
                return Some((key, &tail[..end]));
            }
        }
        None
    }
}

/// Appends one property.
pub fn push_property(out: &mut Vec<u8>, key: &str, value: &str) {
    out.reserve(key.len() + value.len() + 2);
    out.extend_from_slice(key.as_bytes());
    out.push(NAME_VALUE_SEPARATOR);
    out.extend_from_slice(value.as_bytes());
    out.push(PROPERTY_SEPARATOR);
}

/// Properties of a record to be written: the client's text without some, and with others added.
///
/// The client's text is not parsed and put together again; what is not dropped is stored as it was sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct PropertiesSource<'a> {
    pub client: Text<'a>,
    /// Keys that must not be stored. Rare: with any, an escaped client text is copied twice.
    pub dropped: &'a [&'a str],
    /// Appended, so that they win over the client's own.
    pub additions: &'a [(&'a str, &'a str)],
}

impl<'a> PropertiesSource<'a> {
    pub fn client(client: Text<'a>) -> Self {
        Self { client, dropped: &[], additions: &[] }
    }

    pub fn encoded_len(&self) -> usize {
        let mut count = 0;
        self.for_each_piece(|piece| count += piece.len());
        count
    }

    /// Writes the properties to the start of `out`, which is at least [`encoded_len`](Self::encoded_len) long, and
    /// returns how long they are.
    pub fn encode_into(&self, out: &mut [u8]) -> usize {
        let mut at = 0;
        self.for_each_piece(|piece| {
            out[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        });
        at
    }

    fn for_each_piece(&self, mut sink: impl FnMut(&[u8])) {
        let mut last = PROPERTY_SEPARATOR;
        let mut track = |piece: &[u8]| {
            if let Some(&byte) = piece.last() {
                last = byte;
                sink(piece);
            }
        };
        if self.dropped.is_empty() {
            self.client.for_each_run(|run| {
                track(run);
                true
            });
        } else {
            let unescaped;
            let client = match self.client.as_plain() {
                Some(raw) => raw,
                None => {
                    let mut bytes = Vec::with_capacity(self.client.len_unescaped());
                    self.client.push_to(&mut bytes);
                    unescaped = bytes;
                    &unescaped
                }
            };
            for property in client.split_inclusive(|&byte| byte == PROPERTY_SEPARATOR) {
                let key = property.split(|&byte| byte == NAME_VALUE_SEPARATOR).next().unwrap_or_default();
                if !self.dropped.iter().any(|dropped| dropped.as_bytes() == key) {
                    track(property);
                }
            }
        }
        if last != PROPERTY_SEPARATOR && !self.additions.is_empty() {
            sink(&[PROPERTY_SEPARATOR]);
        }
        for (key, value) in self.additions {
            sink(key.as_bytes());
            sink(&[NAME_VALUE_SEPARATOR]);
            sink(value.as_bytes());
            sink(&[PROPERTY_SEPARATOR]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(&str, &str)> {
        let utf8 = |bytes| std::str::from_utf8(bytes).unwrap();
        Properties(text.as_bytes()).iter().map(|(key, value)| (utf8(key), utf8(value))).collect()
    }

    #[test]
    fn the_last_separator_may_be_missing() {
        assert_eq!(pairs("A\x01b\x02C\x01d\x02"), [("A", "b"), ("C", "d")]);
        assert_eq!(pairs("A\x01b\x02C\x01d"), [("A", "b"), ("C", "d")]);
        assert_eq!(pairs("A\x01b\x01c\x02"), [("A", "b\x01c")]);
    }

    #[test]
    fn halves_of_pairs_do_not_exist() {
        assert_eq!(pairs("\x01b\x02C\x01\x02noise\x02\x02\x01\x02E\x01f"), [("E", "f")]);
        assert_eq!(pairs(""), []);
        assert!(Properties(b"\x02").is_empty());
    }

    #[test]
    fn the_last_of_several_wins() {
        let properties = Properties(b"A\x01b\x02A\x01c\x02B\x01\xff\x02");
        assert_eq!(properties.find("A"), Some("c"));
        assert_eq!(properties.find("B"), None);
        assert_eq!(properties.find_bytes("B"), Some(&b"\xff"[..]));
        assert_eq!(properties.find("C"), None);
    }

    #[test]
    fn additions_follow_the_text_that_the_client_sent() {
        let additions = [("R", "s")];
        for (client, dropped, expected) in [
            (Text::new("A\x01b\x02"), &[][..], "A\x01b\x02R\x01s\x02"),
            (Text::new("A\x01b"), &[], "A\x01b\x02R\x01s\x02"),
            (Text::json(br"A\u0001b\u0002", true), &[], "A\x01b\x02R\x01s\x02"),
            (Text::json(br"A\u0001b", true), &[], "A\x01b\x02R\x01s\x02"),
            (Text::json(br"A\u0001b\\u0002", true), &[], "A\x01b\\u0002\x02R\x01s\x02"),
            (Text::new(""), &[], "R\x01s\x02"),
            (Text::new("A\x01b\x02C\x01d"), &["A"], "C\x01d\x02R\x01s\x02"),
            (Text::new("A\x01b\x02C\x01d"), &["C"], "A\x01b\x02R\x01s\x02"),
            (Text::json(br"A\u0001b\u0002C\u0001d\u0002", true), &["A", "C"], "R\x01s\x02"),
        ] {
            let source = PropertiesSource { client, dropped, additions: &additions };
            let mut out = vec![0; source.encoded_len()];
            assert_eq!(source.encode_into(&mut out), out.len());
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        let source = PropertiesSource::client(Text::new("A\x01b"));
        assert_eq!(source.encoded_len(), 3, "without additions the text stays as it is");
    }

    /// Found by a Java client whose property ended in a backslash.
    #[test]
    fn a_backslash_in_unescaped_text_is_stored_as_it_is() {
        let raw = b"path\x01C:\\temp \\u0041\x02";
        let source = PropertiesSource::client(Text::plain(raw));
        let mut out = vec![0; source.encoded_len()];
        source.encode_into(&mut out);
        assert_eq!(out, raw);
    }
}
