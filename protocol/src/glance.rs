//! What a request is and who asked, read without its fields: enough to decline it.

use crate::frame::{PREFIX_LEN, frame_len};
use crate::header::{Codec, FLAG_ONEWAY, FLAG_RESPONSE};
use crate::json_scan::Scanner;
use crate::request_code::RequestCode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    pub codec: Codec,
    /// As in [`Header::code`](crate::header::Header::code).
    pub code: i32,
    pub opaque: i32,
    pub flag: i32,
    /// Of the whole frame.
    pub len: usize,
}

impl Glance {
    /// Looks at the frame at the start of `buf`. `None`: it is incomplete, no frame, or its header is not written as
    /// the Java client writes it; [`Frame::decode`](crate::frame::Frame::decode) knows.
    pub fn at(buf: &[u8]) -> Option<Self> {
        let len = frame_len(buf).ok()??;
        let frame = buf.get(..len)?;
        let [_, _, _, _, codec, high, middle, low] = *frame.first_chunk::<PREFIX_LEN>()?;
        let header_len = u32::from_be_bytes([0, high, middle, low]) as usize;
        let header = frame.get(PREFIX_LEN..PREFIX_LEN + header_len)?;
        match codec {
            0 => Self::json(header, len),
            1 => Self::binary(header, len),
            _ => None,
        }
    }

    pub fn is_response(&self) -> bool {
        self.flag & FLAG_RESPONSE != 0
    }

    pub fn is_oneway(&self) -> bool {
        self.flag & FLAG_ONEWAY != 0
    }

    pub fn request_code(&self) -> RequestCode {
        RequestCode(self.code)
    }

    fn json(header: &[u8], len: usize) -> Option<Self> {
        let mut scanner = Scanner::new(header);
        scanner.enter_object().ok()?;
        if !scanner.accept(b"\"code\":") {
            return None;
        }
        let code = scanner.accept_i32()?;
        if !scanner.accept(b",\"extFields\":{") {
            return None;
        }
        // Behind the fields there are no braces but the last. A brace within a value leads to no such members, since
        // the quotes behind it would be escaped; nor does one of an inner object, which has another behind it.
        let fields_end = header[..header.len() - 1].iter().rposition(|&byte| byte == b'}')?;
        let mut rest = Scanner::new(&header[fields_end + 1..]);
        if !rest.accept(b",\"flag\":") {
            return None;
        }
        let flag = rest.accept_i32()?;
        if !rest.accept(b",\"language\":\"JAVA\",\"opaque\":") {
            return None;
        }
        let opaque = rest.accept_i32()?;
        if !rest.accept(b",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":") {
            return None;
        }
        rest.accept_i32()?;
        (rest.accept(b"}") && rest.at_end()).then_some(Self { codec: Codec::Json, code, opaque, flag, len })
    }

    fn binary(header: &[u8], len: usize) -> Option<Self> {
        let [c0, c1, _, _, _, o0, o1, o2, o3, f0, f1, f2, f3] = *header.first_chunk::<13>()?;
        Some(Self {
            codec: Codec::Binary,
            code: i32::from(i16::from_be_bytes([c0, c1])),
            opaque: i32::from_be_bytes([o0, o1, o2, o3]),
            flag: i32::from_be_bytes([f0, f1, f2, f3]),
            len,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;
    use crate::writer::FrameWriter;

    fn json(header: &str) -> Vec<u8> {
        let mut frame = (4 + header.len() as u32 + 4).to_be_bytes().to_vec();
        frame.extend((header.len() as u32).to_be_bytes());
        frame.extend(header.as_bytes());
        frame.extend(b"body");
        frame
    }

    #[test]
    fn sees_what_the_decoder_sees() {
        for codec in [Codec::Json, Codec::Binary] {
            for (opaque, oneway) in [(0, false), (-7, true), (i32::MAX, false)] {
                let mut bytes = Vec::new();
                FrameWriter::request(&mut bytes, codec, RequestCode::SEND_MESSAGE_V2, opaque, oneway)
                    .field("i", "a}\"b,\"flag\":1")
                    .body(b"}\"}");
                let len = bytes.len();
                bytes.extend(b"next");
                let glance = Glance::at(&bytes).unwrap();
                let (frame, _) = Frame::decode(&bytes).unwrap().unwrap();
                assert_eq!(glance.request_code(), frame.header.request_code());
                assert_eq!((glance.opaque, glance.codec), (frame.header.opaque, frame.header.codec));
                assert_eq!(glance.is_oneway(), frame.header.is_oneway());
                assert!(!glance.is_response());
                assert_eq!(glance.len, len);
                for end in 0..len {
                    assert_eq!(Glance::at(&bytes[..end]), None, "{end}");
                }
            }
        }
    }

    #[test]
    fn leaves_what_is_written_otherwise_to_the_decoder() {
        let tail = ",\"flag\":0,\"language\":\"JAVA\",\"opaque\":1,\"serializeTypeCurrentRPC\":\"JSON\",\"version\":1}";
        assert!(Glance::at(&json(&format!("{{\"code\":310,\"extFields\":{{}}{tail}"))).is_some());
        for header in [
            String::new(),
            "{".to_owned(),
            "}".to_owned(),
            format!("{{\"code\":310{tail}"),
            format!("{{\"code\":310,\"extFields\":{{\"a\":{{}}{tail}}}"),
            format!("{{\"code\":310,\"extFields\":{{}}{tail} "),
            "{\"code\":310,\"language\":\"GO\",\"opaque\":1,\"flag\":0,\"extFields\":{}}".to_owned(),
        ] {
            assert_eq!(Glance::at(&json(&header)), None, "{header}");
        }
    }
}
