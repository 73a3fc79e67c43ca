//! One frame of the remoting protocol.
//!
//! ```text
//! | length: i32 | codec: u8, header length: u24 | header | body |
//! ```
//! `length` does not count itself. After a malformed frame there is no way to find the next one.

use crate::header::{Codec, Header};

/// Longest frame, its length word included.
pub const FRAME_SIZE_MAX: usize = 16 * 1024 * 1024;

/// Bytes before the header.
pub(crate) const PREFIX_LEN: usize = 8;

/// The bytes are no frame; the connection has to be closed, an answer is not possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("frame of {0} bytes is longer than {FRAME_SIZE_MAX}")]
    TooLong(u32),
    #[error("frame length {0} leaves no room for a header")]
    TooShort(i32),
    #[error("unknown header codec {0}")]
    UnknownCodec(u8),
    #[error("header of {header} bytes in a frame of {frame}")]
    HeaderLength { header: usize, frame: usize },
    #[error("malformed {codec} header: {what}")]
    Header { codec: Codec, what: &'static str },
}

/// A decoded frame, borrowing from the receive buffer.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub header: Header<'a>,
    pub body: &'a [u8],
}

/// Length of the frame at the start of `buf`, its length word included; `None` when that word is not complete.
pub fn frame_len(buf: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(word) = buf.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(*word);
    if length < 4 {
        return Err(FrameError::TooShort(length));
    }
    let total = length as usize + 4;
    if total > FRAME_SIZE_MAX {
        return Err(FrameError::TooLong(length as u32 + 4));
    }
    Ok(Some(total))
}

impl<'a> Frame<'a> {
    /// Decodes the frame at the start of `buf`; returns it and its length, or `None` while bytes are missing.
    pub fn decode(buf: &'a [u8]) -> Result<Option<(Frame<'a>, usize)>, FrameError> {
        let Some(total) = frame_len(buf)? else {
            return Ok(None);
        };
        // What can be told from the mark is told early: no waiting for 16 MiB that nobody could read.
        let Some(prefix) = buf.first_chunk::<PREFIX_LEN>() else {
            return Ok(None);
        };
        let [_, _, _, _, codec, high, middle, low] = *prefix;
        let codec = match codec {
            0 => Codec::Json,
            1 => Codec::Binary,
            other => return Err(FrameError::UnknownCodec(other)),
        };
        let header_len = u32::from_be_bytes([0, high, middle, low]) as usize;
        if header_len > total - PREFIX_LEN {
            return Err(FrameError::HeaderLength { header: header_len, frame: total });
        }
        let Some(frame) = buf.get(PREFIX_LEN..total) else {
            return Ok(None);
        };
        let (header, body) = frame.split_at(header_len);
        let header = Header::decode(codec, header).map_err(|what| FrameError::Header { codec, what })?;
        Ok(Some((Frame { header, body }, total)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::Language;
    use crate::request_code::RequestCode;

    fn frame(codec: u8, header: &[u8], body: &[u8]) -> Vec<u8> {
        let mut frame = (4 + header.len() as u32 + body.len() as u32).to_be_bytes().to_vec();
        frame.extend((u32::from(codec) << 24 | header.len() as u32).to_be_bytes());
        frame.extend(header);
        frame.extend(body);
        frame
    }

    const JSON: &str = r#"{"code":105,"extFields":{"topic":"T1"},"flag":0,"language":"JAVA","opaque":-5,"serializeTypeCurrentRPC":"JSON","version":479}"#;

    #[test]
    fn decodes_a_json_frame_and_leaves_the_next() {
        let mut bytes = frame(0, JSON.as_bytes(), b"body");
        let len = bytes.len();
        bytes.extend(b"next");
        let (frame, consumed) = Frame::decode(&bytes).unwrap().unwrap();
        assert_eq!(consumed, len);
        assert_eq!(frame.body, b"body");
        assert_eq!(frame.header.request_code(), RequestCode::GET_ROUTEINFO_BY_TOPIC);
        assert_eq!(frame.header.opaque, -5);
        assert_eq!(frame.header.version, 479);
        assert_eq!(frame.header.language, Language::JAVA);
        assert!(!frame.header.is_response() && !frame.header.is_oneway());
        assert_eq!(frame.header.fields.find("topic").unwrap(), "T1");
        assert!(frame.header.remark.is_none());
    }

    #[test]
    fn decodes_a_binary_frame() {
        let mut header = vec![0, 105, 9, 1, 0xdf, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0, 1, b'r', 0, 0, 0, 13];
        header.extend([0, 5]);
        header.extend(b"topic");
        header.extend([0, 0, 0, 2]);
        header.extend(b"T1");
        let bytes = frame(1, &header, b"");
        let (frame, _) = Frame::decode(&bytes).unwrap().unwrap();
        assert_eq!(frame.header.request_code(), RequestCode::GET_ROUTEINFO_BY_TOPIC);
        assert_eq!(frame.header.language, Language::GO);
        assert_eq!(frame.header.version, 479);
        assert_eq!(frame.header.opaque, 7);
        assert!(frame.header.is_oneway());
        assert_eq!(frame.header.remark.unwrap(), "r");
        assert_eq!(frame.header.fields.find("topic").unwrap(), "T1");
        assert!(frame.body.is_empty());
    }

    #[test]
    fn a_truncated_frame_is_not_an_error() {
        let bytes = frame(0, JSON.as_bytes(), b"body");
        for len in 0..bytes.len() {
            assert!(Frame::decode(&bytes[..len]).unwrap().is_none(), "{len}");
        }
    }

    #[test]
    fn lengths_are_checked_before_the_bytes_arrive() {
        assert_eq!(Frame::decode(&[0, 0, 0, 3]).unwrap_err(), FrameError::TooShort(3));
        assert_eq!(Frame::decode(&[0xff; 4]).unwrap_err(), FrameError::TooShort(-1));
        assert_eq!(Frame::decode(b"GET ").unwrap_err(), FrameError::TooLong(0x47455424));
        assert_eq!(frame_len(&(FRAME_SIZE_MAX as u32 - 4).to_be_bytes()), Ok(Some(FRAME_SIZE_MAX)));
        assert_eq!(
            frame_len(&(FRAME_SIZE_MAX as u32 - 3).to_be_bytes()),
            Err(FrameError::TooLong(FRAME_SIZE_MAX as u32 + 1))
        );
        assert_eq!(Frame::decode(&[0, 0, 0, 9, 2, 0, 0, 0]).unwrap_err(), FrameError::UnknownCodec(2));
        assert_eq!(
            Frame::decode(&[0, 0, 0, 9, 0, 0, 0, 6]).unwrap_err(),
            FrameError::HeaderLength { header: 6, frame: 13 }
        );
    }

    /// Everything that Java's decoder lets through and clients make use of.
    #[test]
    fn json_headers_are_read_leniently() {
        let lenient = concat!(
            " {'Code':\"11\", Ext_Fields:{\"queueId\":3,'unit':true,\"none\":null,\"x\":[1],},",
            "\"FLAG\":null,\"language\":1,\"unknown\":{\"a\":[{}]},\"opaque\":\"2\",\"remark\":null,} \n"
        );
        let bytes = frame(0, lenient.as_bytes(), b"");
        let (frame, _) = Frame::decode(&bytes).unwrap().unwrap();
        assert_eq!(frame.header.code, 11);
        assert_eq!(frame.header.flag, 0);
        assert_eq!(frame.header.opaque, 2);
        assert_eq!(frame.header.version, 0);
        assert_eq!(frame.header.language, Language::CPP);
        assert!(frame.header.remark.is_none());
        let fields: Vec<_> =
            frame.header.fields.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let expected = [("queueId", "3"), ("unit", "true"), ("x", "[1]")];
        assert_eq!(fields, expected.map(|(k, v)| (k.to_string(), v.to_string())));
    }

    #[test]
    fn malformed_headers_are_errors() {
        for bad in
            ["", "null", "{", "{\"code\":\"x\"}", "{\"extFields\":{\"a\"}}", "{\"extFields\":3}", "{} x"]
        {
            let bytes = frame(0, bad.as_bytes(), b"");
            assert!(matches!(Frame::decode(&bytes), Err(FrameError::Header { .. })), "{bad}");
        }
        let short = [0; 20];
        let remark_too_long = [0, 105, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0];
        let ext_negative = [0, 105, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        let pair_too_long = [0, 105, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 9];
        for bad in [&short[..], &remark_too_long, &ext_negative, &pair_too_long] {
            let bytes = frame(1, bad, b"");
            assert!(matches!(Frame::decode(&bytes), Err(FrameError::Header { .. })), "{bad:?}");
        }
    }
}
