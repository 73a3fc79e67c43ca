//! A segment's names and its header block.
//!
//! ```text
//!  0       8          12        16         24       32      36      40       48       56       64
//!  magic   | checksum | version | store id | number | shard | epoch | previous | size  | base ms | zeros to 4096
//! ```
//! The checksum covers the rest of the first 512 bytes: one sector, which a power cut writes wholly or not at
//! all, so a header is there or is zeros, and anything else is damage.

use std::path::{Path, PathBuf};

use crate::limits::BLOCK_BYTES;

const MAGIC: [u8; 8] = *b"rmqSEGM\0";
pub(crate) const VERSION: u32 = 1;
const COVERED_BYTES: usize = 512;

/// `previous` of a log's first segment.
const NONE: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub store_id: u64,
    pub number: u64,
    pub shard: u32,
    pub epoch: u32,
    /// The segment that this log was in before.
    pub previous: Option<u64>,
    pub size: u64,
    /// Index entries keep store times relative to this.
    pub base_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// All zeros: the file was being prepared.
    Absent,
    NewerVersion(u32),
    Damaged,
}

impl SegmentHeader {
    pub fn encode(&self, block: &mut [u8]) {
        block.fill(0);
        block[..8].copy_from_slice(&MAGIC);
        block[12..16].copy_from_slice(&VERSION.to_le_bytes());
        block[16..24].copy_from_slice(&self.store_id.to_le_bytes());
        block[24..32].copy_from_slice(&self.number.to_le_bytes());
        block[32..36].copy_from_slice(&self.shard.to_le_bytes());
        block[36..40].copy_from_slice(&self.epoch.to_le_bytes());
        block[40..48].copy_from_slice(&self.previous.unwrap_or(NONE).to_le_bytes());
        block[48..56].copy_from_slice(&self.size.to_le_bytes());
        block[56..64].copy_from_slice(&self.base_ms.to_le_bytes());
        let checksum = crc32fast::hash(&block[12..COVERED_BYTES]);
        block[8..12].copy_from_slice(&checksum.to_le_bytes());
    }

    pub fn decode(block: &[u8]) -> Result<Self, HeaderFault> {
        if block.iter().all(|&byte| byte == 0) {
            return Err(HeaderFault::Absent);
        }
        if block.len() < BLOCK_BYTES || block[..8] != MAGIC {
            return Err(HeaderFault::Damaged);
        }
        let word = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().expect("eight bytes"));
        if word(8) != crc32fast::hash(&block[12..COVERED_BYTES]) {
            return Err(HeaderFault::Damaged);
        }
        if word(12) != VERSION {
            return Err(HeaderFault::NewerVersion(word(12)));
        }
        Ok(Self {
            store_id: long(16),
            number: long(24),
            shard: word(32),
            epoch: word(36),
            previous: Some(long(40)).filter(|&number| number != NONE),
            size: long(48),
            base_ms: long(56) as i64,
        })
    }
}

pub(crate) fn log_dir(dir: &Path) -> PathBuf {
    dir.join("commitlog")
}

pub(crate) fn log_path(dir: &Path, number: u64) -> PathBuf {
    log_dir(dir).join(format!("{number:020}.log"))
}

pub(crate) fn index_path(dir: &Path, number: u64) -> PathBuf {
    log_dir(dir).join(format!("{number:020}.idx"))
}

/// The key file of the stretch of a segment that begins at `from`.
pub(crate) fn key_path(dir: &Path, number: u64, from: u32) -> PathBuf {
    log_dir(dir).join(format!("{number:020}.{from:010}.keys"))
}

/// Segment and start of the stretch in the name of a key file.
pub(crate) fn key_file_in(name: &str) -> Option<(u64, u32)> {
    let (digits, rest) = name.split_once('.')?;
    let (from, extension) = rest.split_once('.')?;
    let is_one = extension == "keys" && digits.len() == 20 && from.len() == 10;
    is_one.then(|| Some((digits.parse().ok()?, from.parse().ok()?)))?
}

/// The number in a file name with this extension (`log`, `idx`).
pub(crate) fn number_in(name: &str, extension: &str) -> Option<u64> {
    let (digits, found) = name.split_once('.')?;
    (found == extension && digits.len() == 20).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back() {
        for previous in [None, Some(7)] {
            let header = SegmentHeader {
                store_id: 0x1122_3344_5566_7788,
                number: 9,
                shard: 2,
                epoch: 5,
                previous,
                size: 1 << 30,
                base_ms: 1_700_000_000_000,
            };
            let mut block = [0xff; BLOCK_BYTES];
            header.encode(&mut block);
            assert_eq!(SegmentHeader::decode(&block), Ok(header));
            block[50] ^= 1;
            assert_eq!(SegmentHeader::decode(&block), Err(HeaderFault::Damaged));
        }
        assert_eq!(SegmentHeader::decode(&[0; BLOCK_BYTES]), Err(HeaderFault::Absent));
    }

    #[test]
    fn names_come_back() {
        assert_eq!(number_in("00000000000000000012.log", "log"), Some(12));
        assert_eq!(number_in("00000000000000000012.idx", "log"), None);
        assert_eq!(number_in("12.log", "log"), None);
        assert_eq!(number_in("00000000000000000012.idx.tmp", "idx"), None);
        let path = key_path(Path::new("x"), 12, 4096);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap();
        assert_eq!(key_file_in(name), Some((12, 4096)));
        assert_eq!(number_in(name, "keys"), None);
        assert_eq!(key_file_in("00000000000000000012.0000004096.keys.tmp"), None);
        assert_eq!(key_file_in("00000000000000000012.4096.keys"), None);
    }
}
