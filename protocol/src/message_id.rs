//! Offset message ids: upper-case hex of where a message is stored.
//!
//! ```text
//! | address: 4 or 16 bytes | port: i32 | physical offset: i64 |      32 or 56 hex digits
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Hex digits of an id with an IPv6 address.
pub const MESSAGE_ID_LEN_MAX: usize = 56;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageId {
    pub store_host: SocketAddr,
    pub physical_offset: i64,
}

impl MessageId {
    pub fn new(store_host: SocketAddr, physical_offset: i64) -> Self {
        Self { store_host, physical_offset }
    }

    /// Writes the id into `out` and returns it.
    pub fn write<'o>(&self, out: &'o mut [u8; MESSAGE_ID_LEN_MAX]) -> &'o str {
        let mut hex = Hex { out, len: 0 };
        match self.store_host.ip().to_canonical() {
            IpAddr::V4(address) => hex.push(&address.octets()),
            IpAddr::V6(address) => hex.push(&address.octets()),
        }
        hex.push(&u32::from(self.store_host.port()).to_be_bytes());
        hex.push(&self.physical_offset.to_be_bytes());
        hex.finish()
    }

    /// Reads an id; `None` when the text is something else, for example a client's unique id.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, rest): (IpAddr, _) = match text.len() {
            32 => (Ipv4Addr::from(unhex::<4>(&text.as_bytes()[..8])?).into(), &text.as_bytes()[8..]),
            56 => (Ipv6Addr::from(unhex::<16>(&text.as_bytes()[..32])?).into(), &text.as_bytes()[32..]),
            _ => return None,
        };
        let port = u16::try_from(u32::from_be_bytes(unhex(&rest[..8])?)).ok()?;
        let physical_offset = i64::from_be_bytes(unhex(&rest[8..])?);
        Some(Self { store_host: SocketAddr::new(address, port), physical_offset })
    }
}

/// Upper-case hex digits going into a buffer.
pub(crate) struct Hex<'o> {
    out: &'o mut [u8; MESSAGE_ID_LEN_MAX],
    len: usize,
}

impl<'o> Hex<'o> {
    pub(crate) fn new(out: &'o mut [u8; MESSAGE_ID_LEN_MAX]) -> Self {
        Self { out, len: 0 }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        for byte in bytes {
            self.out[self.len] = DIGITS[usize::from(byte >> 4)];
            self.out[self.len + 1] = DIGITS[usize::from(byte & 15)];
            self.len += 2;
        }
    }

    pub(crate) fn finish(self) -> &'o str {
        std::str::from_utf8(&self.out[..self.len]).expect("hex digits are ASCII")
    }
}

fn unhex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = (pair[0] as char).to_digit(16)?;
        let low = (pair[1] as char).to_digit(16)?;
        *byte = (high << 4 | low) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_and_read_back() {
        for (host, offset, expected) in [
            ("10.0.0.1:10911", 0, "0A00000100002A9F0000000000000000"),
            ("[::ffff:10.0.0.1]:10911", 272, "0A00000100002A9F0000000000000110"),
            ("[fd00::2]:80", i64::MAX, "FD000000000000000000000000000002000000507FFFFFFFFFFFFFFF"),
        ] {
            let id = MessageId::new(host.parse().unwrap(), offset);
            let mut out = [0; MESSAGE_ID_LEN_MAX];
            assert_eq!(id.write(&mut out), expected);
            let read = MessageId::parse(expected).unwrap();
            assert_eq!(read.physical_offset, offset);
            assert_eq!(read.store_host.ip(), id.store_host.ip().to_canonical());
            assert_eq!(MessageId::parse(&expected.to_lowercase()), Some(read));
        }
    }

    #[test]
    fn other_texts_are_no_ids() {
        let x = "X".repeat(32);
        let port_too_large = "0A000001FFFFFFFF0000000000000000";
        let not_ascii = "é".repeat(16);
        for text in ["", "0A", &x, port_too_large, &not_ascii] {
            assert_eq!(MessageId::parse(text), None, "{text}");
        }
    }
}
