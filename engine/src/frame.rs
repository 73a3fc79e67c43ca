//! Frames: the unit that the log checks.
//!
//! ```text
//!  0        4        8       12   13   14     16       20      24
//!  checksum | length | epoch  |kind|flag|count | queue  | mark  | payload ... zeros to a multiple of 16
//! ```
//! `length` counts the payload without padding. `checksum` is a CRC-32 over everything behind it, padding
//! included, that starts from a seed of (store, segment, position): the same bytes elsewhere do not pass.
//!
//! A RECORDS payload is the first record, then for each further one a mark and the record. A mark is the
//! distance from the frame's start to the record behind it, so every record is preceded by the way back to
//! what proves it: the last field of the preamble is the first record's mark.

use crc32fast::Hasher;

use crate::limits::{FRAME_ALIGN, FRAME_PAYLOAD_MAX};

pub(crate) const PREAMBLE_BYTES: usize = 24;
pub(crate) const MARK_BYTES: usize = 4;

/// What a sealed segment ends with; every segment keeps room for it.
pub(crate) const SEAL_BYTES: u32 = frame_len(0) as u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind(pub u8);

impl Kind {
    /// Records of one queue with consecutive offsets.
    pub const RECORDS: Self = Self(1);
    /// A queue's number from here on: queue id and topic.
    pub const QUEUE: Self = Self(2);
    /// The queue with this number is no more.
    pub const QUEUE_DELETED: Self = Self(3);
    /// Room that is skipped.
    pub const PAD: Self = Self(4);
    /// Nothing follows in this segment; the log goes on in another one.
    pub const SEAL: Self = Self(5);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Preamble {
    pub checksum: u32,
    pub length: u32,
    pub epoch: u32,
    pub kind: Kind,
    pub count: u16,
    pub queue: u32,
}

/// Bytes of a whole frame with this much payload.
pub(crate) const fn frame_len(payload: usize) -> usize {
    (PREAMBLE_BYTES + payload).next_multiple_of(FRAME_ALIGN)
}

/// Where a segment's checksums start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    pub fn new(store_id: u64, segment: u64) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(&store_id.to_le_bytes());
        hasher.update(&segment.to_le_bytes());
        Self(hasher.finalize())
    }

    /// Distinct for distinct positions of a segment, since the factor is odd.
    fn at(self, position: u32) -> u32 {
        self.0 ^ (position / FRAME_ALIGN as u32).wrapping_mul(0x9e37_79b1)
    }
}

/// What a preamble says beside lengths and checksums.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label {
    pub kind: Kind,
    pub count: u16,
    pub queue: u32,
    pub epoch: u32,
}

/// Completes a frame whose payload is in place: zeros the padding, writes the preamble and the checksum.
pub(crate) fn finish(frame: &mut [u8], payload: usize, label: Label, seed: Seed, position: u32) {
    debug_assert_eq!(frame.len(), frame_len(payload));
    frame[PREAMBLE_BYTES + payload..].fill(0);
    frame[4..8].copy_from_slice(&(payload as u32).to_le_bytes());
    frame[8..12].copy_from_slice(&label.epoch.to_le_bytes());
    frame[12] = label.kind.0;
    frame[13] = 0;
    frame[14..16].copy_from_slice(&label.count.to_le_bytes());
    frame[16..20].copy_from_slice(&label.queue.to_le_bytes());
    frame[20..24].copy_from_slice(&(PREAMBLE_BYTES as u32).to_le_bytes());
    let checksum = checksum(&frame[4..], seed, position);
    frame[..4].copy_from_slice(&checksum.to_le_bytes());
}

fn checksum(behind: &[u8], seed: Seed, position: u32) -> u32 {
    let mut hasher = Hasher::new_with_initial(seed.at(position));
    hasher.update(behind);
    hasher.finalize()
}

impl Preamble {
    /// `None` is the end of the log: zeros, and nothing else.
    pub fn parse(bytes: &[u8; PREAMBLE_BYTES]) -> Option<Self> {
        if bytes.iter().all(|&byte| byte == 0) {
            return None;
        }
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        Some(Self {
            checksum: word(0),
            length: word(4),
            epoch: word(8),
            kind: Kind(bytes[12]),
            count: u16::from_le_bytes([bytes[14], bytes[15]]),
            queue: word(16),
        })
    }

    pub fn frame_len(&self) -> usize {
        frame_len(self.length as usize)
    }

    /// Whether the fields can be those of a frame that fits into `room` bytes. A cheap first look, before
    /// bytes are fetched by the length it claims.
    pub fn is_plausible(&self, room: usize) -> bool {
        self.length as usize <= FRAME_PAYLOAD_MAX
            && self.frame_len() <= room
            && (Kind::RECORDS.0..=Kind::SEAL.0).contains(&self.kind.0)
    }

    pub fn verify(&self, frame: &[u8], seed: Seed, position: u32) -> bool {
        frame.len() == self.frame_len() && checksum(&frame[4..], seed, position) == self.checksum
    }
}

/// Payload of a QUEUE frame.
pub(crate) fn encode_queue(queue: u32, topic: &str, out: &mut [u8]) {
    out[..4].copy_from_slice(&queue.to_le_bytes());
    out[4..].copy_from_slice(topic.as_bytes());
}

pub(crate) fn decode_queue(payload: &[u8]) -> Option<(u32, &str)> {
    let (id, topic) = payload.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*id), std::str::from_utf8(topic).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(payload: &[u8], seed: Seed, position: u32) -> Vec<u8> {
        let mut frame = vec![0xee; frame_len(payload.len())];
        frame[PREAMBLE_BYTES..PREAMBLE_BYTES + payload.len()].copy_from_slice(payload);
        let label = Label { kind: Kind::RECORDS, count: 1, queue: 7, epoch: 3 };
        finish(&mut frame, payload.len(), label, seed, position);
        frame
    }

    fn parse(frame: &[u8]) -> Preamble {
        Preamble::parse(frame[..PREAMBLE_BYTES].try_into().unwrap()).unwrap()
    }

    #[test]
    fn every_damaged_bit_is_noticed() {
        let seed = Seed::new(1, 2);
        let frame = sealed(b"some record", seed, 4096);
        assert!(parse(&frame).verify(&frame, seed, 4096));
        for bit in 0..frame.len() * 8 {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let preamble = parse(&bad);
            assert!(!preamble.is_plausible(bad.len()) || !preamble.verify(&bad, seed, 4096), "bit {bit}");
        }
    }

    /// A stale frame of another segment, store or place must never pass for one of this place.
    #[test]
    fn a_frame_proves_its_place() {
        let seed = Seed::new(1, 2);
        let frame = sealed(b"some record", seed, 4096);
        let preamble = parse(&frame);
        for (other, position) in
            [(seed, 4112), (seed, 8192), (Seed::new(1, 3), 4096), (Seed::new(2, 2), 4096)]
        {
            assert!(!preamble.verify(&frame, other, position));
        }
    }

    #[test]
    fn zeros_end_the_log() {
        assert_eq!(Preamble::parse(&[0; PREAMBLE_BYTES]), None);
    }
}
