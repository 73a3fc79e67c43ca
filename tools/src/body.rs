//! A message body that proves what it is: whoever finds it can tell which send made it and whether a byte of it
//! has changed.
//!
//! ```text
//! 0      magic "rmqB"
//! 4      CRC-32 of everything behind it
//! 8      run            which invocation of the generator
//! 16     connection     which of its connections (a reconnected one counts anew)
//! 20     overtaken      how many sends, counted back from this one, were still unanswered when it was made
//! 24     sequence       which message of that connection
//! 32     sent at        monotonic nanoseconds: when it was due
//! 40     filler         chosen by run, connection and sequence
//! ```
//! All numbers are big-endian, as everywhere in the protocol.

const MAGIC: u32 = u32::from_be_bytes(*b"rmqB");
pub const HEADER_BYTES: usize = 40;
const POOL_BYTES: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub run: u64,
    pub connection: u32,
    pub overtaken: u32,
    pub sequence: u64,
    pub sent_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("not a body of this tool")]
    Foreign,
    #[error("the checksum does not match")]
    Checksum,
    #[error("the filler is not that of its sequence number")]
    Filler,
}

impl Stamp {
    /// The stamp of a body whose checksum holds, and that checksum.
    pub fn read(body: &[u8]) -> Result<(Self, u32), BodyError> {
        let Some(header) = body.first_chunk::<HEADER_BYTES>() else { return Err(BodyError::Foreign) };
        let word = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_be_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        if word(0) != MAGIC {
            return Err(BodyError::Foreign);
        }
        let checksum = word(4);
        if crc32fast::hash(&body[8..]) != checksum {
            return Err(BodyError::Checksum);
        }
        let stamp = Self {
            run: long(8),
            connection: word(16),
            overtaken: word(20),
            sequence: long(24),
            sent_ns: long(32),
        };
        Ok((stamp, checksum))
    }

    /// All sends of this connection below the floor had been answered when this one was made.
    pub fn floor(&self) -> u64 {
        self.sequence.saturating_sub(u64::from(self.overtaken))
    }
}

/// Bytes that bodies are cut from, so that making one is a copy.
pub struct Filler {
    pool: Vec<u8>,
    body_size: usize,
}

impl Filler {
    pub fn new(body_size: usize) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15;
        let mut pool = Vec::with_capacity(POOL_BYTES + body_size + 8);
        while pool.len() < POOL_BYTES + body_size {
            state = mix(state);
            pool.extend_from_slice(&state.to_be_bytes());
        }
        Self { pool, body_size }
    }

    pub fn body_size(&self) -> usize {
        self.body_size
    }

    /// Appends one body and returns its checksum.
    pub fn write(&self, stamp: &Stamp, out: &mut Vec<u8>) -> u32 {
        let from = out.len();
        let mut header = [0; HEADER_BYTES];
        header[0..4].copy_from_slice(&MAGIC.to_be_bytes());
        header[8..16].copy_from_slice(&stamp.run.to_be_bytes());
        header[16..20].copy_from_slice(&stamp.connection.to_be_bytes());
        header[20..24].copy_from_slice(&stamp.overtaken.to_be_bytes());
        header[24..32].copy_from_slice(&stamp.sequence.to_be_bytes());
        header[32..40].copy_from_slice(&stamp.sent_ns.to_be_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(self.slice(stamp));
        let checksum = crc32fast::hash(&out[from + 8..]);
        out[from + 4..from + 8].copy_from_slice(&checksum.to_be_bytes());
        checksum
    }

    /// Checks what the checksum cannot: that the filler is the one this sequence number was given.
    pub fn check(&self, stamp: &Stamp, body: &[u8]) -> Result<(), BodyError> {
        if body.len() == self.body_size && &body[HEADER_BYTES..] == self.slice(stamp) {
            Ok(())
        } else {
            Err(BodyError::Filler)
        }
    }

    fn slice(&self, stamp: &Stamp) -> &[u8] {
        let at = mix(stamp.run ^ (u64::from(stamp.connection) << 40) ^ stamp.sequence) as usize % POOL_BYTES;
        &self.pool[at..at + self.body_size - HEADER_BYTES]
    }
}

/// One step of a well-mixing generator (the finalizer of splitmix64).
pub fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { run: 7, connection: 3, overtaken: 2, sequence: 99, sent_ns: 12 };

    #[test]
    fn a_body_tells_its_stamp() {
        let filler = Filler::new(128);
        let mut body = Vec::new();
        let checksum = filler.write(&STAMP, &mut body);
        assert_eq!(body.len(), 128);
        assert_eq!(Stamp::read(&body), Ok((STAMP, checksum)));
        assert_eq!(filler.check(&STAMP, &body), Ok(()));
        assert_eq!(STAMP.floor(), 97);
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let filler = Filler::new(64);
        let mut body = Vec::new();
        filler.write(&STAMP, &mut body);
        for at in 0..body.len() {
            let mut damaged = body.clone();
            damaged[at] ^= 1;
            assert!(Stamp::read(&damaged).is_err(), "byte {at}");
        }
        assert_eq!(Stamp::read(&body[..HEADER_BYTES - 1]), Err(BodyError::Foreign));
    }

    #[test]
    fn a_body_under_another_number_is_noticed() {
        let filler = Filler::new(64);
        let mut body = Vec::new();
        filler.write(&STAMP, &mut body);
        assert_eq!(filler.check(&Stamp { sequence: 100, ..STAMP }, &body), Err(BodyError::Filler));
        assert_eq!(filler.check(&STAMP, &body[..60]), Err(BodyError::Filler));
    }

    #[test]
    fn the_smallest_body_is_all_header() {
        let filler = Filler::new(HEADER_BYTES);
        let mut body = Vec::new();
        filler.write(&STAMP, &mut body);
        assert_eq!(body.len(), HEADER_BYTES);
        assert!(Stamp::read(&body).is_ok());
    }
}
