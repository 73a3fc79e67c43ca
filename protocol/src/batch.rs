//! The body of a batch send: messages of one topic and queue.
//!
//! ```text
//! | size: i32 | magic: i32 | crc: i32 | flag: i32 | len: i32, body | len: i16, properties |      repeated
//! ```
//! Senders leave magic and crc zero and nobody looks at them.

use crate::properties::Properties;

/// Size of an entry without body and properties.
const FIXED_LEN: usize = 22;

/// The body is no batch; the sender has to fix it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed batch: {what} of the entry at {position}")]
pub struct BatchError {
    pub position: usize,
    pub what: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchEntry<'a> {
    pub flag: i32,
    pub body: &'a [u8],
    pub properties: Properties<'a>,
}

impl BatchEntry<'_> {
    pub fn encoded_len(&self) -> usize {
        FIXED_LEN + self.body.len() + self.properties.0.len()
    }

    pub fn push_to(&self, out: &mut Vec<u8>) {
        out.reserve(self.encoded_len());
        out.extend_from_slice(&(self.encoded_len() as u32).to_be_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.flag.to_be_bytes());
        out.extend_from_slice(&(self.body.len() as u32).to_be_bytes());
        out.extend_from_slice(self.body);
        out.extend_from_slice(&(self.properties.0.len() as u16).to_be_bytes());
        out.extend_from_slice(self.properties.0);
    }
}

/// Walks the entries of a batch; ends after the first error.
pub fn entries(body: &[u8]) -> Entries<'_> {
    Entries { body, at: 0 }
}

#[derive(Clone)]
pub struct Entries<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<BatchEntry<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.body.len() {
            return None;
        }
        let position = self.at;
        match parse(&self.body[position..]) {
            Ok((entry, size)) => {
                self.at += size;
                Some(Ok(entry))
            }
            Err(what) => {
                self.at = self.body.len();
                Some(Err(BatchError { position, what }))
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Result<(BatchEntry<'_>, usize), &'static str> {
    let (size, _) = bytes.split_first_chunk::<4>().ok_or("size")?;
    let size = usize::try_from(i32::from_be_bytes(*size)).map_err(|_| "size")?;
    let entry = bytes.get(..size).ok_or("size")?;
    let rest = entry.get(12..).ok_or("size")?;
    let (flag, rest) = rest.split_first_chunk::<4>().ok_or("flag")?;
    let (body_len, rest) = rest.split_first_chunk::<4>().ok_or("body length")?;
    let body_len = usize::try_from(i32::from_be_bytes(*body_len)).map_err(|_| "body length")?;
    let (body, rest) = rest.split_at_checked(body_len).ok_or("body length")?;
    let (properties_len, rest) = rest.split_first_chunk::<2>().ok_or("properties length")?;
    let properties_len =
        usize::try_from(i16::from_be_bytes(*properties_len)).map_err(|_| "properties length")?;
    if rest.len() != properties_len {
        return Err("properties length");
    }
    Ok((BatchEntry { flag: i32::from_be_bytes(*flag), body, properties: Properties(rest) }, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &[u8] = b"\0\0\0\x1f\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02hi\0\x07TAGS\x01A\x02";

    #[test]
    fn entries_are_those_of_the_java_client() {
        let entry = BatchEntry { flag: 0, body: b"hi", properties: Properties(b"TAGS\x01A\x02") };
        let mut out = Vec::new();
        entry.push_to(&mut out);
        assert_eq!(out, ENTRY);
        let other = BatchEntry { flag: -1, body: b"", properties: Properties(b"") };
        other.push_to(&mut out);
        assert_eq!(entries(&out).collect::<Result<Vec<_>, _>>(), Ok(vec![entry, other]));
        assert_eq!(entries(b"").count(), 0);
    }

    #[test]
    fn every_truncation_is_an_error() {
        for len in 1..ENTRY.len() {
            let found: Vec<_> = entries(&ENTRY[..len]).collect();
            assert!(matches!(found[..], [Err(_)]), "{len}");
        }
    }

    #[test]
    fn sizes_must_agree() {
        for (at, value) in [(0, 0xff), (3, 0x1e), (3, 0x20), (3, 0), (19, 3), (16, 0xff), (22, 0xff), (23, 6)]
        {
            let mut bytes = ENTRY.to_vec();
            bytes[at] = value;
            bytes.push(0);
            assert!(entries(&bytes).any(|entry| entry.is_err()), "byte {at} = {value}");
        }
    }
}
