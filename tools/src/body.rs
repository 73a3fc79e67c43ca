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
//! 40     filler         chosen by seed, connection and sequence, and so is its length
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

/// What bodies look like: enough to make any of them again from its stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyShape {
    pub size_min: u32,
    pub size_max: u32,
    /// How much of the filler is one repeated byte, in thousandths.
    pub compressible_permille: u32,
    /// Chooses sizes and filler; by itself it is the run.
    pub seed: u64,
}

impl BodyShape {
    #[cfg(test)]
    pub fn fixed(size: u32) -> Self {
        Self { size_min: size, size_max: size, compressible_permille: 0, seed: 7 }
    }
}

/// Bytes that bodies are cut from, so that making one is a copy.
pub struct Filler {
    pool: Vec<u8>,
    shape: BodyShape,
}

impl Filler {
    pub fn new(shape: BodyShape) -> Self {
        // Short, so that every body has its share of each kind.
        const STRETCH_BYTES: usize = 64;
        let bytes = POOL_BYTES + shape.size_max as usize;
        let mut state = 0x9e37_79b9_7f4a_7c15;
        let mut pool = Vec::with_capacity(bytes + 8);
        while pool.len() < bytes {
            state = mix(state);
            pool.extend_from_slice(&state.to_be_bytes());
        }
        let alike = STRETCH_BYTES * shape.compressible_permille.min(1000) as usize / 1000;
        for stretch in pool.chunks_mut(STRETCH_BYTES) {
            let alike = alike.min(stretch.len());
            stretch[..alike].fill(b'x');
        }
        Self { pool, shape }
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
        if body.get(HEADER_BYTES..) == Some(self.slice(stamp)) { Ok(()) } else { Err(BodyError::Filler) }
    }

    fn slice(&self, stamp: &Stamp) -> &[u8] {
        let drawn = draw(self.shape.seed, stamp.connection, stamp.sequence);
        let BodyShape { size_min, size_max, .. } = self.shape;
        let size = if size_min == size_max {
            size_min
        } else {
            size_min + (drawn >> 32) as u32 % (size_max - size_min + 1)
        };
        let at = drawn as usize % POOL_BYTES;
        &self.pool[at..at + size as usize - HEADER_BYTES]
    }
}

/// The number that all choices about one message are made from.
pub fn draw(seed: u64, connection: u32, sequence: u64) -> u64 {
    mix(seed ^ (u64::from(connection) << 40) ^ sequence)
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
        let filler = Filler::new(BodyShape::fixed(128));
        let mut body = Vec::new();
        let checksum = filler.write(&STAMP, &mut body);
        assert_eq!(body.len(), 128);
        assert_eq!(Stamp::read(&body), Ok((STAMP, checksum)));
        assert_eq!(filler.check(&STAMP, &body), Ok(()));
        assert_eq!(STAMP.floor(), 97);
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let filler = Filler::new(BodyShape::fixed(64));
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
        let filler = Filler::new(BodyShape::fixed(64));
        let mut body = Vec::new();
        filler.write(&STAMP, &mut body);
        assert_eq!(filler.check(&Stamp { sequence: 100, ..STAMP }, &body), Err(BodyError::Filler));
        assert_eq!(filler.check(&STAMP, &body[..60]), Err(BodyError::Filler));
    }

    #[test]
    fn the_smallest_body_is_all_header() {
        let filler = Filler::new(BodyShape::fixed(HEADER_BYTES as u32));
        let mut body = Vec::new();
        filler.write(&STAMP, &mut body);
        assert_eq!(body.len(), HEADER_BYTES);
        assert!(Stamp::read(&body).is_ok());
    }

    #[test]
    fn sizes_fill_their_range_and_the_same_seed_draws_them_again() {
        let shape = BodyShape { size_min: 100, size_max: 103, ..BodyShape::fixed(0) };
        let (one, two) = (Filler::new(shape), Filler::new(shape));
        let mut counts = [0; 4];
        for sequence in 0..4000 {
            let stamp = Stamp { sequence, ..STAMP };
            let mut body = Vec::new();
            one.write(&stamp, &mut body);
            assert_eq!(two.check(&stamp, &body), Ok(()));
            counts[body.len() - 100] += 1;
        }
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_ratio_says_how_much_is_alike() {
        for (permille, low, high) in [(0, 0.0, 0.02), (500, 0.48, 0.53), (1000, 1.0, 1.0)] {
            let filler = Filler::new(BodyShape { compressible_permille: permille, ..BodyShape::fixed(4096) });
            let mut body = Vec::new();
            filler.write(&STAMP, &mut body);
            let alike = body[HEADER_BYTES..].iter().filter(|byte| **byte == b'x').count();
            let share = alike as f64 / (body.len() - HEADER_BYTES) as f64;
            assert!((low..=high).contains(&share), "{permille}: {share}");
        }
    }
}
