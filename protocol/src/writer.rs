//! Encodes frames straight into a send buffer that may already hold others.

use crate::byte_search::special_bytes;
use crate::decimal::Decimal;
use crate::frame::PREFIX_LEN;
use crate::header::{Codec, FLAG_ONEWAY, FLAG_RESPONSE};
use crate::language::{Language, version};
use crate::request_code::RequestCode;
use crate::response_code::ResponseCode;
use crate::text::Text;

/// One frame in the making. It is complete once [`finish`](Self::finish) or one of the `body` calls returns;
/// a writer that is dropped before takes its bytes back.
///
/// Names of fields are those of headers, letters and the like: they are not escaped. In chains the calls that take `self` read best; in loops those with `put` in their names.
#[must_use = "a frame needs its finish or body call"]
pub struct FrameWriter<'v> {
    out: &'v mut Vec<u8>,
    start: usize,
    /// Where a remark belongs.
    remark_at: usize,
    fields: FieldsState,
    codec: Codec,
    language: Language,
    version: i32,
    opaque: i32,
    flag: i32,
    finished: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum FieldsState {
    None,
    /// Position of the binary length word of the ext section; JSON does not need it.
    Open(usize),
}

impl<'v> FrameWriter<'v> {
    pub fn response(out: &'v mut Vec<u8>, codec: Codec, code: ResponseCode, opaque: i32) -> Self {
        Self::begin(out, codec, code.0, opaque, FLAG_RESPONSE)
    }

    pub fn request(out: &'v mut Vec<u8>, codec: Codec, code: RequestCode, opaque: i32, oneway: bool) -> Self {
        Self::begin(out, codec, code.0, opaque, if oneway { FLAG_ONEWAY } else { 0 })
    }

    fn begin(out: &'v mut Vec<u8>, codec: Codec, code: i32, opaque: i32, flag: i32) -> Self {
        let start = out.len();
        // One growth for a typical header instead of several.
        out.reserve(512);
        match codec {
            Codec::Json => {
                out.extend_from_slice(b"\0\0\0\0\0\0\0\0{\"code\":");
                out.extend_from_slice(Decimal::new(i64::from(code)).as_bytes());
            }
            Codec::Binary => {
                out.extend_from_slice(&[0; PREFIX_LEN]);
                out.extend_from_slice(&(code as i16).to_be_bytes());
                // The rest of the fixed part is filled in at the end.
                out.extend_from_slice(&[0; 15]);
            }
        }
        let remark_at = out.len();
        Self {
            out,
            start,
            remark_at,
            fields: FieldsState::None,
            codec,
            language: Language::JAVA,
            version: version::V5_3_3,
            opaque,
            flag,
            finished: false,
        }
    }

    pub fn language(mut self, language: Language) -> Self {
        self.language = language;
        self
    }

    pub fn version(mut self, version: i32) -> Self {
        self.version = version;
        self
    }

    pub fn remark(mut self, remark: &str) -> Self {
        self.put_remark(remark);
        self
    }

    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.put_field(name, value);
        self
    }

    pub fn field_int(mut self, name: &str, value: impl Into<i64>) -> Self {
        self.put_int(name, value);
        self
    }

    pub fn field_bool(mut self, name: &str, value: bool) -> Self {
        self.put_bool(name, value);
        self
    }

    pub fn field_text(mut self, name: &str, value: Text<'_>) -> Self {
        self.put_text(name, value);
        self
    }

    /// Sets the remark; it may be set once, before or after the fields.
    pub fn put_remark(&mut self, remark: &str) {
        let end = self.out.len();
        match self.codec {
            Codec::Json => {
                self.out.extend_from_slice(b",\"remark\":\"");
                push_json(self.out, remark.as_bytes());
                self.out.push(b'"');
            }
            Codec::Binary => {
                self.out.extend_from_slice(remark.as_bytes());
                let len_at = self.remark_at - 4;
                self.out[len_at..len_at + 4].copy_from_slice(&(remark.len() as u32).to_be_bytes());
            }
        }
        let len = self.out.len() - end;
        if end > self.remark_at {
            self.out[self.remark_at..].rotate_right(len);
        }
        if let FieldsState::Open(at) = &mut self.fields {
            *at += len;
        }
    }

    pub fn put_field(&mut self, name: &str, value: &str) {
        self.put_bytes(name, value.as_bytes(), NeedsEscapes::Perhaps);
    }

    pub fn put_int(&mut self, name: &str, value: impl Into<i64>) {
        self.put_bytes(name, Decimal::new(value.into()).as_bytes(), NeedsEscapes::No);
    }

    pub fn put_bool(&mut self, name: &str, value: bool) {
        self.put_bytes(name, if value { b"true" } else { b"false" }, NeedsEscapes::No);
    }

    pub fn put_text(&mut self, name: &str, value: Text<'_>) {
        match value.as_plain() {
            Some(raw) => self.put_bytes(name, raw, NeedsEscapes::Perhaps),
            None => self.put_field(name, &value.cow()),
        }
    }

    fn put_bytes(&mut self, name: &str, value: &[u8], escapes: NeedsEscapes) {
        let out = &mut *self.out;
        match self.codec {
            Codec::Json => {
                if self.fields == FieldsState::None {
                    self.fields = FieldsState::Open(0);
                    out.extend_from_slice(b",\"extFields\":{\"");
                } else {
                    out.extend_from_slice(b",\"");
                }
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b"\":\"");
                match escapes {
                    NeedsEscapes::No => out.extend_from_slice(value),
                    NeedsEscapes::Perhaps => push_json(out, value),
                }
                out.push(b'"');
            }
            Codec::Binary => {
                if self.fields == FieldsState::None {
                    self.fields = FieldsState::Open(out.len());
                    out.extend_from_slice(&[0; 4]);
                }
                out.extend_from_slice(&(name.len() as u16).to_be_bytes());
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(&(value.len() as u32).to_be_bytes());
                out.extend_from_slice(value);
            }
        }
    }

    /// Completes a frame without body.
    pub fn finish(self) {
        self.body_with(|_| {});
    }

    pub fn body(self, body: &[u8]) {
        self.body_with(|out| out.extend_from_slice(body));
    }

    /// Completes the frame with the body that `write` appends.
    pub fn body_with(mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let header_end = self.end_header();
        write(self.out);
        let length = (self.out.len() - self.start - 4) as u32;
        let header_len = (header_end - self.start - PREFIX_LEN) as u32;
        let codec = match self.codec {
            Codec::Json => 0,
            Codec::Binary => 1,
        };
        let prefix = &mut self.out[self.start..self.start + PREFIX_LEN];
        prefix[..4].copy_from_slice(&length.to_be_bytes());
        prefix[4..].copy_from_slice(&(codec << 24 | header_len).to_be_bytes());
        self.finished = true;
    }

    fn end_header(&mut self) -> usize {
        let out = &mut *self.out;
        match self.codec {
            Codec::Json => {
                if self.fields != FieldsState::None {
                    out.push(b'}');
                }
                // Nearly every frame that a broker writes ends the same way.
                if self.flag == FLAG_RESPONSE && self.language == Language::JAVA {
                    out.extend_from_slice(b",\"flag\":1,\"language\":\"JAVA\",\"opaque\":");
                } else {
                    out.extend_from_slice(b",\"flag\":");
                    out.extend_from_slice(Decimal::new(i64::from(self.flag)).as_bytes());
                    out.extend_from_slice(b",\"language\":\"");
                    out.extend_from_slice(self.language.name().unwrap_or("OTHER").as_bytes());
                    out.extend_from_slice(b"\",\"opaque\":");
                }
                out.extend_from_slice(Decimal::new(i64::from(self.opaque)).as_bytes());
                out.extend_from_slice(b",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":");
                out.extend_from_slice(Decimal::new(i64::from(self.version)).as_bytes());
                out.push(b'}');
            }
            Codec::Binary => {
                match self.fields {
                    FieldsState::None => out.extend_from_slice(&[0; 4]),
                    FieldsState::Open(at) => {
                        let len = (out.len() - at - 4) as u32;
                        out[at..at + 4].copy_from_slice(&len.to_be_bytes());
                    }
                }
                let fixed = &mut out[self.start + PREFIX_LEN + 2..self.start + PREFIX_LEN + 13];
                fixed[0] = self.language.0;
                fixed[1..3].copy_from_slice(&(self.version as i16).to_be_bytes());
                fixed[3..7].copy_from_slice(&self.opaque.to_be_bytes());
                fixed[7..].copy_from_slice(&self.flag.to_be_bytes());
            }
        }
        self.out.len()
    }
}

impl Drop for FrameWriter<'_> {
    fn drop(&mut self) {
        // Half a frame would spoil the whole connection.
        if !self.finished {
            self.out.truncate(self.start);
        }
    }
}

#[derive(Clone, Copy)]
enum NeedsEscapes {
    No,
    Perhaps,
}

/// Appends the inside of a JSON string. Bytes that are not UTF-8 are replaced: a reader of JSON would choke.
pub(crate) fn push_json(out: &mut Vec<u8>, text: &[u8]) {
    if is_bare(text) {
        out.extend_from_slice(text);
        return;
    }
    for chunk in text.utf8_chunks() {
        push_json_valid(out, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Whether the text is ASCII that stands for itself.
#[inline]
fn is_bare(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    let special = words.iter().fold(0, |special, word| special | special_bytes(u64::from_le_bytes(*word)));
    special == 0 && rest.iter().all(|&byte| (0x20..0x80).contains(&byte) && byte != b'"' && byte != b'\\')
}

fn push_json_valid(out: &mut Vec<u8>, text: &[u8]) {
    let mut run = 0;
    for (at, &byte) in text.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text[run..at]);
        run = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
    }
    out.extend_from_slice(&text[run..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;

    #[test]
    fn frames_follow_each_other_in_one_buffer() {
        for codec in [Codec::Json, Codec::Binary] {
            let mut out = Vec::new();
            FrameWriter::response(&mut out, codec, ResponseCode::TOPIC_NOT_EXIST, -3)
                .field("msgId", "é\u{1}\"\\\n")
                .field_int("queueId", 7)
                .remark("no \"topic\"\nhere")
                .field_bool("TRACE_ON", true)
                .field_int("offset", i64::MIN)
                .body(b"body");
            FrameWriter::request(&mut out, codec, RequestCode::HEART_BEAT, 9, true)
                .language(Language::RUST)
                .version(5)
                .finish();
            let (first, len) = Frame::decode(&out).unwrap().unwrap();
            assert_eq!(first.header.response_code(), ResponseCode::TOPIC_NOT_EXIST);
            assert!(first.header.is_response());
            assert_eq!(first.header.opaque, -3);
            assert_eq!(first.header.version, version::V5_3_3);
            assert_eq!(first.header.remark.unwrap(), "no \"topic\"\nhere");
            let fields: Vec<_> =
                first.header.fields.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            let expected = [
                ("msgId", "é\u{1}\"\\\n"),
                ("queueId", "7"),
                ("TRACE_ON", "true"),
                ("offset", "-9223372036854775808"),
            ];
            assert_eq!(fields, expected.map(|(k, v)| (k.to_string(), v.to_string())));
            assert_eq!(first.body, b"body");

            let (second, rest) = Frame::decode(&out[len..]).unwrap().unwrap();
            assert_eq!(len + rest, out.len());
            assert_eq!(second.header.request_code(), RequestCode::HEART_BEAT);
            assert_eq!(second.header.language, Language::RUST);
            assert_eq!(second.header.version, 5);
            assert!(second.header.is_oneway() && !second.header.is_response());
            assert!(second.header.fields.is_empty() && second.header.remark.is_none());
        }
    }

    /// The bytes of the specification's own example.
    #[test]
    fn the_json_of_a_request_is_that_of_java() {
        let mut out = Vec::new();
        FrameWriter::request(&mut out, Codec::Json, RequestCode::GET_ROUTEINFO_BY_TOPIC, 0, false)
            .field("topic", "T1")
            .finish();
        let header = r#"{"code":105,"extFields":{"topic":"T1"},"flag":0,"language":"JAVA","opaque":0,"serializeTypeCurrentRPC":"JSON","version":479}"#;
        assert_eq!(out[..8], [0, 0, 0, 0x80, 0, 0, 0, 0x7c]);
        assert_eq!(&out[8..], header.as_bytes());

        out.clear();
        FrameWriter::request(&mut out, Codec::Binary, RequestCode::GET_ROUTEINFO_BY_TOPIC, 0, false)
            .field("topic", "T1")
            .finish();
        let expected = [
            &[
                0, 0, 0, 0x26, 1, 0, 0, 0x22, 0, 0x69, 0, 1, 0xdf, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                0, 13,
            ][..],
            b"\0\x05topic\0\0\0\x02T1",
        ]
        .concat();
        assert_eq!(out, expected);
    }

    #[test]
    fn a_writer_that_is_dropped_leaves_nothing_behind() {
        let mut out = b"before".to_vec();
        drop(FrameWriter::response(&mut out, Codec::Json, ResponseCode::SUCCESS, 1).field("a", "b"));
        assert_eq!(out, b"before");
    }

    #[test]
    fn every_byte_is_escaped_where_it_must_be() {
        for at in 0..20 {
            for value in '\0'..='\u{ff}' {
                let mut text = "x".repeat(20);
                text.replace_range(at..=at, &value.to_string());
                let mut json = vec![b'"'];
                push_json(&mut json, text.as_bytes());
                json.push(b'"');
                assert_eq!(serde_json::from_slice::<String>(&json).unwrap(), text);
            }
        }
    }

    #[test]
    fn values_that_are_not_utf8_still_make_json() {
        let mut out = Vec::new();
        push_json(&mut out, b"a\xff\x01");
        assert_eq!(out, "a\u{fffd}\\u0001".as_bytes());
    }
}
