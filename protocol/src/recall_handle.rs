//! The handle with which a producer takes back a timer message: `v1 topic broker milliseconds key` in URL-safe Base64.

use crate::text::Text;

const VERSION: &str = "v1";
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecallHandle {
    pub topic: String,
    pub broker_name: String,
    /// As it was written; who reads it decides what is a time.
    pub deliver_ms: String,
    /// The message's UNIQ_KEY.
    pub unique_key: String,
}

impl RecallHandle {
    pub fn encode(&self) -> String {
        let Self { topic, broker_name, deliver_ms, unique_key } = self;
        to_base64(format!("{VERSION} {topic} {broker_name} {deliver_ms} {unique_key}").as_bytes())
    }

    /// `None`: no handle of this version.
    pub fn decode(handle: Text<'_>) -> Option<Self> {
        let text = String::from_utf8_lossy(&from_base64(handle.cow().as_bytes())?).into_owned();
        let mut parts = text.trim_end_matches(' ').split(' ');
        if parts.next() != Some(VERSION) {
            return None;
        }
        let mut next = || parts.next().map(str::to_owned);
        Some(Self { topic: next()?, broker_name: next()?, deliver_ms: next()?, unique_key: next()? })
    }
}

fn to_base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - group.len()));
        for index in 0..4 {
            let digit = (word >> (18 - 6 * index)) as usize & 63;
            out.push(if index <= group.len() { char::from(ALPHABET[digit]) } else { '=' });
        }
    }
    out
}

/// The padding may be missing, as for Java.
fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let digits = match text {
        [digits @ .., b'=', b'='] if text.len().is_multiple_of(4) => digits,
        [digits @ .., b'='] if text.len().is_multiple_of(4) => digits,
        digits => digits,
    };
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        let mut word = 0;
        for &digit in group {
            word = word << 6 | ALPHABET.iter().position(|&known| known == digit)? as u32;
        }
        word <<= 6 * (4 - group.len());
        let bytes = match group.len() {
            1 => return None,
            len => len - 1,
        };
        out.extend_from_slice(&word.to_be_bytes()[1..=bytes]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle() -> RecallHandle {
        RecallHandle {
            topic: "Timers".into(),
            broker_name: "broker-a".into(),
            deliver_ms: "1795171713001".into(),
            unique_key: "7F000001".into(),
        }
    }

    #[test]
    fn the_text_is_that_of_java() {
        let text = handle().encode();
        assert_eq!(text, "djEgVGltZXJzIGJyb2tlci1hIDE3OTUxNzE3MTMwMDEgN0YwMDAwMDE=");
        assert_eq!(RecallHandle::decode(Text::new(&text)), Some(handle()));
        assert_eq!(RecallHandle::decode(Text::new(text.trim_end_matches('='))), Some(handle()));
    }

    #[test]
    fn what_is_no_handle_is_none() {
        for text in
            ["", "a", "===", "not base64!", "djEgYQ==", "djIgYSBiIGMgZA==", "djEgVGltZXJzIGJyb2tlci1h="]
        {
            assert_eq!(RecallHandle::decode(Text::new(text)), None, "{text}");
        }
        assert!(RecallHandle::decode(Text::new(&to_base64(b"v1 t b 1 k more"))).is_some());
        assert!(RecallHandle::decode(Text::new(&to_base64(b"v1 t b 1 "))).is_none());
    }

    #[test]
    fn every_length_comes_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        for len in 0..bytes.len() {
            assert_eq!(from_base64(to_base64(&bytes[..len]).as_bytes()).as_deref(), Some(&bytes[..len]));
        }
    }
}
