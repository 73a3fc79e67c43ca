//! A stored message: what the log keeps, and what pulls hand out as it is.
//!
//! ```text
//!  0 total length i32 | 4 magic | 8 body crc | 12 queue id | 16 flag | 20 queue offset i64 | 28 physical offset i64
//! 36 sys flag | 40 born timestamp i64 | 48 born host | store timestamp i64 | store host | reconsume times
//!    prepared transaction offset i64 | len i32, body | len u8 (V2: u16), topic | len i16, properties
//! ```
//! A host is an address of 4 bytes (16 if its sys flag bit is set) and a port of 4. Everything is big-endian.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::properties::{PROPERTIES_LEN_MAX, Properties, PropertiesSource};
use crate::sys_flag;

/// The topic's length takes one byte.
pub const MAGIC_V1: u32 = 0xDAA3_20A7;
/// The topic's length takes two bytes; written for topics longer than 127 bytes only, since old clients know V1.
pub const MAGIC_V2: u32 = 0xDAA3_20AB;
/// Filler at the end of a Java log file.
pub const MAGIC_BLANK: u32 = 0xCBD4_3194;

const TOPIC_LEN_V1_MAX: usize = 127;
const QUEUE_OFFSET_AT: usize = 20;
const PHYSICAL_OFFSET_AT: usize = 28;
const SYS_FLAG_AT: usize = 36;
const BORN_HOST_AT: usize = 48;

/// The bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("record is cut off")]
    Truncated,
    #[error("malformed record: {0}")]
    Malformed(&'static str),
}

/// A checked record, borrowing its bytes.
#[derive(Clone, Copy)]
pub struct RecordRef<'a> {
    /// Exactly the record.
    bytes: &'a [u8],
    born_host: SocketAddr,
    store_host: SocketAddr,
    store_timestamp_at: usize,
    after_store_host: usize,
    body: (usize, usize),
    topic: &'a str,
    properties: Properties<'a>,
}

impl<'a> RecordRef<'a> {
    /// Parses the record at the start of `buf`; every length in it must agree with its total.
    pub fn parse(buf: &'a [u8]) -> Result<Self, RecordError> {
        let mut cursor = Cursor { bytes: buf, at: 0 };
        let total = usize::try_from(cursor.i32()?).map_err(|_| RecordError::Malformed("negative length"))?;
        let magic = cursor.i32()? as u32;
        if magic != MAGIC_V1 && magic != MAGIC_V2 {
            return Err(RecordError::Malformed("unknown magic"));
        }
        let bytes = buf.get(..total).ok_or(RecordError::Truncated)?;
        // From here on, running out of bytes means that the total is wrong.
        Self::parse_exact(bytes, magic).map_err(|error| match error {
            RecordError::Truncated => RecordError::Malformed("total length is too small"),
            other => other,
        })
    }

    fn parse_exact(bytes: &'a [u8], magic: u32) -> Result<Self, RecordError> {
        let mut cursor = Cursor { bytes, at: SYS_FLAG_AT };
        let sys_flag = cursor.i32()?;
        cursor.at = BORN_HOST_AT;
        let born_host = cursor.host(sys_flag & sys_flag::BORN_HOST_V6 != 0)?;
        let store_timestamp_at = cursor.at;
        cursor.take(8)?;
        let store_host = cursor.host(sys_flag & sys_flag::STORE_HOST_V6 != 0)?;
        let after_store_host = cursor.at;
        cursor.take(12)?;
        let body_len =
            usize::try_from(cursor.i32()?).map_err(|_| RecordError::Malformed("negative body length"))?;
        let body_at = cursor.at;
        cursor.take(body_len)?;
        let topic_len = if magic == MAGIC_V1 {
            usize::from(cursor.array::<1>()?[0])
        } else {
            usize::from(u16::from_be_bytes(cursor.array()?))
        };
        let topic = std::str::from_utf8(cursor.take(topic_len)?);
        let topic = topic.map_err(|_| RecordError::Malformed("topic is not UTF-8"))?;
        let properties_len = usize::try_from(i16::from_be_bytes(cursor.array()?));
        let properties_len =
            properties_len.map_err(|_| RecordError::Malformed("negative properties length"))?;
        let properties = Properties(cursor.take(properties_len)?);
        if cursor.at != bytes.len() {
            return Err(RecordError::Malformed("total length is too large"));
        }
        let body = (body_at, body_len);
        Ok(Self {
            bytes,
            born_host,
            store_host,
            store_timestamp_at,
            after_store_host,
            body,
            topic,
            properties,
        })
    }

    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn total_len(&self) -> usize {
        self.bytes.len()
    }

    pub fn magic(&self) -> u32 {
        self.i32_at(4) as u32
    }

    pub fn body_crc(&self) -> u32 {
        self.i32_at(8) as u32
    }

    pub fn queue_id(&self) -> i32 {
        self.i32_at(12)
    }

    pub fn flag(&self) -> i32 {
        self.i32_at(16)
    }

    pub fn queue_offset(&self) -> i64 {
        self.i64_at(QUEUE_OFFSET_AT)
    }

    pub fn physical_offset(&self) -> i64 {
        self.i64_at(PHYSICAL_OFFSET_AT)
    }

    pub fn sys_flag(&self) -> i32 {
        self.i32_at(SYS_FLAG_AT)
    }

    pub fn born_timestamp(&self) -> i64 {
        self.i64_at(40)
    }

    pub fn born_host(&self) -> SocketAddr {
        self.born_host
    }

    pub fn store_timestamp(&self) -> i64 {
        self.i64_at(self.store_timestamp_at)
    }

    pub fn store_host(&self) -> SocketAddr {
        self.store_host
    }

    pub fn reconsume_times(&self) -> i32 {
        self.i32_at(self.after_store_host)
    }

    pub fn prepared_transaction_offset(&self) -> i64 {
        self.i64_at(self.after_store_host + 4)
    }

    pub fn body(&self) -> &'a [u8] {
        &self.bytes[self.body.0..][..self.body.1]
    }

    pub fn topic(&self) -> &'a str {
        self.topic
    }

    pub fn properties(&self) -> Properties<'a> {
        self.properties
    }

    /// Whether the body is the one that the checksum was taken of.
    pub fn body_is_intact(&self) -> bool {
        body_crc(self.body()) == self.body_crc()
    }

    /// The values to write the message anew, for example under another topic.
    pub fn fields(&self) -> RecordFields<'a> {
        RecordFields {
            queue_id: self.queue_id(),
            flag: self.flag(),
            sys_flag: self.sys_flag(),
            born_timestamp: self.born_timestamp(),
            born_host: self.born_host,
            store_host: self.store_host,
            reconsume_times: self.reconsume_times(),
            prepared_transaction_offset: self.prepared_transaction_offset(),
            body: self.body(),
            topic: self.topic,
            properties: PropertiesSource::client(crate::Text::plain(self.properties.0)),
        }
    }

    fn i32_at(&self, at: usize) -> i32 {
        i32::from_be_bytes(*self.bytes[at..].first_chunk().expect("parse has checked the length"))
    }

    fn i64_at(&self, at: usize) -> i64 {
        i64::from_be_bytes(*self.bytes[at..].first_chunk().expect("parse has checked the length"))
    }
}

impl std::fmt::Debug for RecordRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordRef")
            .field("topic", &self.topic)
            .field("queue_id", &self.queue_id())
            .field("queue_offset", &self.queue_offset())
            .field("physical_offset", &self.physical_offset())
            .field("total_len", &self.total_len())
            .finish_non_exhaustive()
    }
}

/// Everything in a record but its stamps: queue offset, physical offset and store timestamp.
#[derive(Clone, Copy, Debug)]
pub struct RecordFields<'a> {
    pub queue_id: i32,
    pub flag: i32,
    /// The host bits are set from the hosts, whatever stands here.
    pub sys_flag: i32,
    pub born_timestamp: i64,
    pub born_host: SocketAddr,
    pub store_host: SocketAddr,
    pub reconsume_times: i32,
    pub prepared_transaction_offset: i64,
    pub body: &'a [u8],
    pub topic: &'a str,
    pub properties: PropertiesSource<'a>,
}

impl RecordFields<'_> {
    pub fn encoded_len(&self) -> usize {
        self.fixed_len() + self.body.len() + self.topic.len() + self.properties.encoded_len()
    }

    /// Encodes into `out`, which is exactly [`encoded_len`](Self::encoded_len) long; the stamps are zero.
    ///
    /// # Panics
    /// When `out` has another length, or a part is longer than its length field can say: senders are answered
    /// MESSAGE_ILLEGAL before it comes to that.
    pub fn encode_into(&self, out: &mut [u8]) {
        let (born, store) = (self.born_host.ip().to_canonical(), self.store_host.ip().to_canonical());
        let mut sys_flag = self.sys_flag & !(sys_flag::BORN_HOST_V6 | sys_flag::STORE_HOST_V6);
        if born.is_ipv6() {
            sys_flag |= sys_flag::BORN_HOST_V6;
        }
        if store.is_ipv6() {
            sys_flag |= sys_flag::STORE_HOST_V6;
        }
        let total = out.len();
        let mut writer = Writer { out, at: 0 };
        writer.put(&i32::try_from(total).expect("a record is shorter than 2 GiB").to_be_bytes());
        let v2 = self.topic.len() > TOPIC_LEN_V1_MAX;
        writer.put(&if v2 { MAGIC_V2 } else { MAGIC_V1 }.to_be_bytes());
        writer.put(&body_crc(self.body).to_be_bytes());
        writer.put(&self.queue_id.to_be_bytes());
        writer.put(&self.flag.to_be_bytes());
        writer.put(&[0; 16]);
        writer.put(&sys_flag.to_be_bytes());
        writer.put(&self.born_timestamp.to_be_bytes());
        writer.put_host(born, self.born_host.port());
        writer.put(&[0; 8]);
        writer.put_host(store, self.store_host.port());
        writer.put(&self.reconsume_times.to_be_bytes());
        writer.put(&self.prepared_transaction_offset.to_be_bytes());
        writer.put(&(self.body.len() as u32).to_be_bytes());
        writer.put(self.body);
        if v2 {
            writer
                .put(&u16::try_from(self.topic.len()).expect("a topic is shorter than 64 KiB").to_be_bytes());
        } else {
            writer.put(&[self.topic.len() as u8]);
        }
        writer.put(self.topic.as_bytes());
        // The properties go first and tell their length afterwards: one pass over the client's text.
        let (len_word, properties) = writer.out[writer.at..].split_at_mut(2);
        let properties_len = self.properties.encode_into(properties);
        assert!(properties_len <= PROPERTIES_LEN_MAX, "properties of {properties_len} bytes");
        assert_eq!(properties_len, properties.len(), "the buffer has the record's length");
        len_word.copy_from_slice(&(properties_len as u16).to_be_bytes());
    }

    fn fixed_len(&self) -> usize {
        let host = |host: SocketAddr| if host.ip().to_canonical().is_ipv6() { 20 } else { 8 };
        let topic_len_word = if self.topic.len() > TOPIC_LEN_V1_MAX { 2 } else { 1 };
        BORN_HOST_AT + host(self.born_host) + 8 + host(self.store_host) + 4 + 8 + 4 + topic_len_word + 2
    }
}

/// Writes the stamps into an encoded record, when its place in the log is known.
pub fn stamp(record: &mut [u8], queue_offset: i64, physical_offset: i64, store_timestamp: i64) {
    record[QUEUE_OFFSET_AT..QUEUE_OFFSET_AT + 8].copy_from_slice(&queue_offset.to_be_bytes());
    record[PHYSICAL_OFFSET_AT..PHYSICAL_OFFSET_AT + 8].copy_from_slice(&physical_offset.to_be_bytes());
    // The bit is in the lowest byte of the sys flag.
    let born_v6 = i32::from(record[SYS_FLAG_AT + 3]) & sys_flag::BORN_HOST_V6 != 0;
    let store_timestamp_at = BORN_HOST_AT + if born_v6 { 20 } else { 8 };
    record[store_timestamp_at..store_timestamp_at + 8].copy_from_slice(&store_timestamp.to_be_bytes());
}

/// Walks concatenated records, as in the body of a pull's answer; ends after the first error.
pub fn records(buf: &[u8]) -> Records<'_> {
    Records { rest: buf }
}

#[derive(Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordRef<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = RecordRef::parse(self.rest);
        self.rest = match &record {
            Ok(record) => &self.rest[record.total_len()..],
            Err(_) => &[],
        };
        Some(record)
    }
}

/// CRC-32 of a body; RocketMQ keeps it non-negative.
pub fn body_crc(body: &[u8]) -> u32 {
    crc32fast::hash(body) & 0x7FFF_FFFF
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], RecordError> {
        let taken =
            self.bytes.get(self.at..).and_then(|rest| rest.get(..len)).ok_or(RecordError::Truncated)?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let taken = self.take(N)?;
        Ok(*taken.first_chunk().expect("exactly N bytes were taken"))
    }

    fn i32(&mut self) -> Result<i32, RecordError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn host(&mut self, v6: bool) -> Result<SocketAddr, RecordError> {
        let address = if v6 {
            IpAddr::V6(Ipv6Addr::from(self.array::<16>()?))
        } else {
            IpAddr::V4(Ipv4Addr::from(self.array::<4>()?))
        };
        let port = u16::try_from(self.i32()?).map_err(|_| RecordError::Malformed("port"))?;
        Ok(SocketAddr::new(address, port))
    }
}

struct Writer<'o> {
    out: &'o mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn put_host(&mut self, address: IpAddr, port: u16) {
        match address {
            IpAddr::V4(address) => self.put(&address.octets()),
            IpAddr::V6(address) => self.put(&address.octets()),
        }
        self.put(&u32::from(port).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Text;

    fn example() -> RecordFields<'static> {
        RecordFields {
            queue_id: 1,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 1000,
            born_host: "127.0.0.1:5000".parse().unwrap(),
            store_host: "127.0.0.1:10911".parse().unwrap(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: b"hi",
            topic: "T",
            properties: PropertiesSource::client(Text::new("TAGS\x01A\x02")),
        }
    }

    fn encoded(fields: &RecordFields<'_>) -> Vec<u8> {
        let mut out = vec![0xee; fields.encoded_len()];
        fields.encode_into(&mut out);
        stamp(&mut out, 5, 100, 2000);
        out
    }

    /// The specification's example, byte by byte.
    #[test]
    fn the_layout_is_that_of_java() {
        let expected = concat!(
            "00000065daa320a758932aac00000001000000000000000000000005000000000000006400000000",
            "00000000000003e87f0000010000138800000000000007d07f00000100002a9f00000000",
            "0000000000000000000000026869015400075441475301",
            "4102"
        );
        let hex: String = encoded(&example()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let long_topic = "x".repeat(128);
        for topic in ["T", &long_topic[1..], &long_topic] {
            for born in ["127.0.0.1:1", "[::ffff:127.0.0.1]:1", "[fd00::1]:65535"] {
                for store in ["10.0.0.1:10911", "[fd00::2]:10911"] {
                    let mut fields = example();
                    fields.topic = topic;
                    fields.born_host = born.parse().unwrap();
                    fields.store_host = store.parse().unwrap();
                    fields.sys_flag = sys_flag::COMPRESSED | sys_flag::BORN_HOST_V6 | sys_flag::STORE_HOST_V6;
                    fields.prepared_transaction_offset = -7;
                    fields.reconsume_times = 3;
                    let bytes = encoded(&fields);
                    let record = RecordRef::parse(&bytes).unwrap();
                    assert_eq!(record.total_len(), bytes.len());
                    assert_eq!(record.magic(), if topic.len() > 127 { MAGIC_V2 } else { MAGIC_V1 });
                    assert_eq!(record.queue_id(), 1);
                    assert_eq!((record.queue_offset(), record.physical_offset()), (5, 100));
                    assert_eq!((record.born_timestamp(), record.store_timestamp()), (1000, 2000));
                    assert_eq!(record.born_host().ip(), fields.born_host.ip().to_canonical());
                    assert_eq!(record.born_host().port(), fields.born_host.port());
                    assert_eq!(record.store_host(), fields.store_host);
                    assert_eq!(record.reconsume_times(), 3);
                    assert_eq!(record.prepared_transaction_offset(), -7);
                    assert_eq!(record.topic(), topic);
                    assert_eq!(record.body(), b"hi");
                    assert_eq!(record.properties().find("TAGS"), Some("A"));
                    assert!(record.body_is_intact());
                    assert_eq!(record.sys_flag() & 0xf, sys_flag::COMPRESSED);
                    assert_eq!(encoded(&record.fields()), bytes);
                }
            }
        }
    }

    #[test]
    fn every_truncation_and_every_wrong_total_is_an_error() {
        let bytes = encoded(&example());
        for len in 0..bytes.len() {
            assert_eq!(RecordRef::parse(&bytes[..len]).unwrap_err(), RecordError::Truncated, "{len}");
            let mut wrong = bytes.clone();
            wrong[..4].copy_from_slice(&(len as u32).to_be_bytes());
            assert!(matches!(RecordRef::parse(&wrong), Err(RecordError::Malformed(_))), "{len}");
        }
        let mut long = bytes.clone();
        long.push(0);
        long[3] += 1;
        assert!(matches!(RecordRef::parse(&long), Err(RecordError::Malformed(_))));
        let mut port = bytes.clone();
        port[53] = 1;
        assert_eq!(RecordRef::parse(&port).unwrap_err(), RecordError::Malformed("port"));
        let mut blank = bytes;
        blank[4..8].copy_from_slice(&MAGIC_BLANK.to_be_bytes());
        assert_eq!(RecordRef::parse(&blank).unwrap_err(), RecordError::Malformed("unknown magic"));
    }

    #[test]
    fn records_follow_each_other() {
        let mut bytes = encoded(&example());
        bytes.extend(encoded(&example()));
        assert_eq!(records(&bytes).filter(|record| record.is_ok()).count(), 2);
        bytes.truncate(bytes.len() - 1);
        let found: Vec<_> = records(&bytes).collect();
        assert!(matches!(found[..], [Ok(_), Err(RecordError::Truncated)]));
    }
}
