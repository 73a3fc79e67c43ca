//! Body of BATCH_ACK_MESSAGE (200151).

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BatchAckBody {
    pub acks: Vec<BatchAck>,
    pub broker_name: String,
}

/// Acknowledges messages of one pop of one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BatchAck {
    #[serde(rename = "b", alias = "bitSet")]
    pub bits: AckBits,
    #[serde(rename = "c", alias = "consumerGroup")]
    pub consumer_group: String,
    #[serde(rename = "it", alias = "invisibleTime")]
    pub invisible_time_ms: i64,
    #[serde(rename = "pt", alias = "popTime")]
    pub pop_time: i64,
    #[serde(rename = "q", alias = "queueId")]
    pub queue_id: i32,
    /// `0`, or which retry topic the messages came from.
    #[serde(rename = "r", alias = "retry")]
    pub retry: String,
    #[serde(rename = "rq", alias = "reviveQueueId")]
    pub revive_queue_id: i32,
    #[serde(rename = "so", alias = "startOffset")]
    pub start_offset: i64,
    /// The normal topic.
    #[serde(rename = "t", alias = "topic")]
    pub topic: String,
}

/// Which offsets, counted from the start offset, are acknowledged: bit 0 of byte 0 is the first. Base64 on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AckBits(pub Vec<u8>);

impl AckBits {
    /// The positions that are set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        self.0.iter().enumerate().flat_map(|(at, byte)| {
            (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| at as i64 * 8 + bit)
        })
    }

    pub fn set(&mut self, position: usize) {
        if self.0.len() <= position / 8 {
            self.0.resize(position / 8 + 1, 0);
        }
        self.0[position / 8] |= 1 << (position % 8);
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            if at <= chunk.len() {
                text.push(ALPHABET[(word >> (18 - 6 * at) & 63) as usize] as char);
            } else {
                text.push('=');
            }
        }
    }
    text
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for chunk in digits.chunks(4) {
        let mut word = 0u32;
        for digit in chunk {
            word = word << 6 | ALPHABET.iter().position(|letter| letter == digit)? as u32;
        }
        if chunk.len() == 1 {
            return None;
        }
        word <<= 6 * (4 - chunk.len());
        bytes.extend_from_slice(&word.to_be_bytes()[1..chunk.len()]);
    }
    Some(bytes)
}

impl Serialize for AckBits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_base64(&self.0))
    }
}

impl<'de> Deserialize<'de> for AckBits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Base64;
        impl Visitor<'_> for Base64 {
            type Value = AckBits;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("base64")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<AckBits, E> {
                from_base64(text).map(AckBits).ok_or_else(|| E::custom("the bit set is not base64"))
            }
        }
        deserializer.deserialize_str(Base64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{java_json, lenient_json};

    #[test]
    fn both_sets_of_names_are_read() {
        let short = concat!(
            r#"{"brokerName":"broker-a","acks":[{"c":"group","t":"topic","r":"0","so":100,"q":2,"rq":3,"#,
            r#""pt":1700000000000,"it":60000,"b":"CQI="}]}"#
        );
        let body: BatchAckBody = lenient_json::from_slice(short.as_bytes()).unwrap();
        let ack = &body.acks[0];
        assert_eq!(ack.bits.iter().collect::<Vec<_>>(), [0, 3, 9]);
        assert_eq!((ack.start_offset, ack.queue_id, ack.revive_queue_id), (100, 2, 3));
        assert_eq!((&ack.consumer_group[..], &ack.topic[..], &ack.retry[..]), ("group", "topic", "0"));
        let long = r#"{"acks":[{"consumerGroup":"group","topic":"topic","retry":"0","startOffset":100,"queueId":2,
            "reviveQueueId":3,"popTime":1700000000000,"invisibleTime":60000,"bitSet":"CQI="}],"brokerName":"broker-a"}"#;
        assert_eq!(lenient_json::from_slice(long.as_bytes()), Ok(body.clone()));
        assert_eq!(lenient_json::from_slice(&java_json::to_vec(&body)), Ok(body));
    }

    #[test]
    fn base64_is_read_back() {
        for len in 0..9u8 {
            let bytes: Vec<u8> = (0..len).map(|byte| byte.wrapping_mul(77)).collect();
            assert_eq!(from_base64(&to_base64(&bytes)), Some(bytes));
        }
        let mut bits = AckBits::default();
        for position in [0, 3, 9] {
            bits.set(position);
        }
        assert_eq!(to_base64(&bits.0), "CQI=");
        assert_eq!(from_base64("A"), None);
        assert_eq!(from_base64("A*=="), None);
    }
}
