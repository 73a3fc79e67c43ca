//! A key file: the keys of a stretch of one segment, grouped by hash, so that a query reads two pages of it.
//!
//! ```text
//!  block 0   header, with the samples (positions and store times) behind it
//!  blocks    directory: checksum u32 | 1023 words: where each bucket begins; the last word of a page again the
//!            first of the next
//!  blocks    entries by bucket: checksum u32 | zeros 4 | 511 entries (hash << 32 | position), in log order within
//!            a bucket
//! ```
//! Bucket of a hash: `hash * buckets >> 32`. Written beside its final name, synced and renamed: it is there as a
//! whole or not at all. It is derived from the log, so whatever is missing or damaged is made again.

use std::path::{Path, PathBuf};

use crate::env::{Env, File, OpenMode};
use crate::error::Error;
use crate::index_file::page_checksum;
use crate::key_buffer::{KeyEntry, Sample, Stretch};
use crate::limits::{BLOCK_BYTES, KEY_BUCKET_ENTRIES, PIECE_BYTES};
use crate::whole_file;

const MAGIC: [u8; 8] = *b"rmqKEYS\0";
const VERSION: u32 = 1;
const SAMPLES_AT: usize = 80;
const SAMPLE_BYTES: usize = 8;
const SAMPLES_MAX: usize = (BLOCK_BYTES - SAMPLES_AT) / SAMPLE_BYTES;

/// Buckets whose beginning and end are on one page of the directory.
const PAGE_BUCKETS: usize = BLOCK_BYTES / 4 - 2;
pub(crate) const PAGE_ENTRIES: usize = (BLOCK_BYTES - 8) / 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyHeader {
    pub store_id: u64,
    pub stretch: Stretch,
    pub entries: u32,
    pub buckets: u32,
    pub samples: Vec<Sample>,
}

/// How many buckets so many entries are put into.
pub(crate) fn buckets_for(entries: usize) -> usize {
    (entries / KEY_BUCKET_ENTRIES).max(1)
}

pub(crate) fn bucket_of(hash: u32, buckets: u32) -> usize {
    ((u64::from(hash) * u64::from(buckets)) >> 32) as usize
}

/// The block of the directory that says where a bucket begins and ends, and its word there.
pub(crate) fn directory_place(bucket: usize) -> (u64, usize) {
    (1 + (bucket / PAGE_BUCKETS) as u64, bucket % PAGE_BUCKETS)
}

/// The block of an entry, and its place there.
pub(crate) fn entry_place(entry: usize, buckets: u32) -> (u64, usize) {
    let before = 1 + (buckets as usize).div_ceil(PAGE_BUCKETS);
    ((before + entry / PAGE_ENTRIES) as u64, entry % PAGE_ENTRIES)
}

impl KeyHeader {
    pub fn encode(&self, block: &mut [u8]) {
        block.fill(0);
        let stretch = &self.stretch;
        block[..8].copy_from_slice(&MAGIC);
        block[12..16].copy_from_slice(&VERSION.to_le_bytes());
        block[16..24].copy_from_slice(&self.store_id.to_le_bytes());
        block[24..32].copy_from_slice(&stretch.segment.to_le_bytes());
        block[32..36].copy_from_slice(&stretch.from.to_le_bytes());
        block[36..40].copy_from_slice(&stretch.to.to_le_bytes());
        block[40..44].copy_from_slice(&self.entries.to_le_bytes());
        block[44..48].copy_from_slice(&self.buckets.to_le_bytes());
        block[48..56].copy_from_slice(&stretch.first_ms.to_le_bytes());
        block[56..64].copy_from_slice(&stretch.last_ms.to_le_bytes());
        // Fewer samples only mean that a search by time begins less exactly.
        let step = self.samples.len().div_ceil(SAMPLES_MAX).max(1);
        let samples: Vec<_> = self.samples.iter().step_by(step).collect();
        block[64..68].copy_from_slice(&(samples.len() as u32).to_le_bytes());
        for (sample, out) in samples.iter().zip(block[SAMPLES_AT..].chunks_exact_mut(SAMPLE_BYTES)) {
            let ms = (sample.ms - stretch.first_ms).clamp(0, i64::from(u32::MAX)) as u32;
            out[..4].copy_from_slice(&sample.position.to_le_bytes());
            out[4..].copy_from_slice(&ms.to_le_bytes());
        }
        let checksum = crc32fast::hash(&block[12..]);
        block[8..12].copy_from_slice(&checksum.to_le_bytes());
    }

    /// `None` for anything that is not a header of this version.
    pub fn decode(block: &[u8]) -> Option<Self> {
        if block.len() != BLOCK_BYTES || block[..8] != MAGIC {
            return None;
        }
        let word = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().expect("eight bytes"));
        if word(8) != crc32fast::hash(&block[12..]) || word(12) != VERSION {
            return None;
        }
        let first_ms = long(48) as i64;
        let samples = block[SAMPLES_AT..].chunks_exact(SAMPLE_BYTES).take(word(64) as usize);
        let sample = |bytes: &[u8]| {
            let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
            Sample { position: word(0), ms: first_ms + i64::from(word(4)) }
        };
        let stretch =
            Stretch { segment: long(24), from: word(32), to: word(36), first_ms, last_ms: long(56) as i64 };
        let samples = samples.map(sample).collect();
        let header = Self { store_id: long(16), stretch, entries: word(40), buckets: word(44), samples };
        (header.buckets > 0 && stretch.from < stretch.to).then_some(header)
    }
}

/// Reads the header of a key file. `None` if it is missing or not one of this segment.
pub(crate) async fn read_header<E: Env>(
    env: &E,
    path: &Path,
    store_id: u64,
    segment: u64,
) -> Result<Option<KeyHeader>, Error> {
    let file = match env.open(path, OpenMode::READ).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("open", path))?,
    };
    let block = file.read_at(0, BLOCK_BYTES).await.map_err(Error::io("read", path));
    file.close().await.map_err(Error::io("close", path))?;
    let header = KeyHeader::decode(&block?);
    Ok(header.filter(|header| header.store_id == store_id && header.stretch.segment == segment))
}

/// Writes a key file: header and directory at once, then the entries, sorted by bucket.
pub(crate) struct KeyWriter<E: Env> {
    env: E,
    path: PathBuf,
    temporary: PathBuf,
    file: E::File,
    /// Pages that wait to be written.
    pages: Vec<u8>,
    at: u64,
}

impl<E: Env> KeyWriter<E> {
    /// `starts`: where each bucket begins, and behind them where the last one ends.
    pub async fn create(env: &E, path: &Path, header: &KeyHeader, starts: &[u32]) -> Result<Self, Error> {
        let temporary = path.with_extension("keys.tmp");
        let file = env.open(&temporary, OpenMode::CREATE).await.map_err(Error::io("create", &temporary))?;
        let mut pages = vec![0; BLOCK_BYTES];
        header.encode(&mut pages);
        let mut writer = Self { env: env.clone(), path: path.to_owned(), temporary, file, pages, at: 0 };
        for first in (0..header.buckets as usize).step_by(PAGE_BUCKETS) {
            let words = &starts[first..(first + PAGE_BUCKETS + 1).min(starts.len())];
            writer.push_page(4, words.iter().flat_map(|word| word.to_le_bytes()));
            writer.write_full().await?;
        }
        Ok(writer)
    }

    /// The entries of one page; all but the last are full.
    pub async fn push_entries(&mut self, entries: &[KeyEntry]) -> Result<(), Error> {
        self.push_page(8, entries.iter().flat_map(|entry| entry.to_le_bytes()));
        self.write_full().await
    }

    fn push_page(&mut self, from: usize, bytes: impl Iterator<Item = u8>) {
        let page = self.pages.len();
        let block = (self.at + page as u64) / BLOCK_BYTES as u64;
        self.pages.resize(page + from, 0);
        self.pages.extend(bytes);
        self.pages.resize(page + BLOCK_BYTES, 0);
        let checksum = page_checksum(&self.pages[page..], block);
        self.pages[page..page + 4].copy_from_slice(&checksum.to_le_bytes());
    }

    async fn write_full(&mut self) -> Result<(), Error> {
        if self.pages.len() >= PIECE_BYTES { self.write_out().await } else { Ok(()) }
    }

    async fn write_out(&mut self) -> Result<(), Error> {
        let pages = &self.pages;
        self.file
            .write_at(self.at, pages.len(), |out| out.copy_from_slice(pages))
            .await
            .map_err(Error::io("write", &self.temporary))?;
        self.at += self.pages.len() as u64;
        self.pages.clear();
        Ok(())
    }

    /// Makes the file durable under its final name.
    pub async fn finish(mut self) -> Result<(), Error> {
        if !self.pages.is_empty() {
            self.write_out().await?;
        }
        whole_file::publish(&self.env, self.file, &self.temporary, &self.path).await
    }
}

/// Whether these bytes are that block of a key file, undamaged.
pub(crate) fn is_intact(page: &[u8], block: u64) -> bool {
    page.len() == BLOCK_BYTES && page_checksum(page, block).to_le_bytes() == page[..4]
}

/// A word of a directory page.
pub(crate) fn word_in(page: &[u8], word: usize) -> usize {
    let at = 4 + 4 * word;
    u32::from_le_bytes(page[at..at + 4].try_into().expect("four bytes")) as usize
}

pub(crate) fn entry_in(page: &[u8], place: usize) -> KeyEntry {
    let at = 8 + 8 * place;
    u64::from_le_bytes(page[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_and_damage_is_noticed() {
        for samples in [0, 1, 33, 5000] {
            let stretch = Stretch { segment: 7, from: 4096, to: 90_000, first_ms: 1000, last_ms: 9000 };
            let samples =
                (0..samples).map(|n| Sample { position: 4096 + n, ms: 1000 + i64::from(n) }).collect();
            let header = KeyHeader { store_id: 5, stretch, entries: 1000, buckets: 3, samples };
            let mut block = vec![0xff; BLOCK_BYTES];
            header.encode(&mut block);
            let found = KeyHeader::decode(&block).unwrap();
            assert_eq!((found.stretch, found.entries, found.buckets), (stretch, 1000, 3));
            assert_eq!(found.samples.len(), header.samples.len().min(500));
            assert!(found.samples.iter().all(|sample| header.samples.contains(sample)));
            for at in [0, 9, 33, 70, 200, 4000] {
                block[at] ^= 4;
                assert_eq!(KeyHeader::decode(&block), None, "byte {at}");
                block[at] ^= 4;
            }
        }
    }

    #[test]
    fn every_hash_has_its_bucket_and_every_bucket_its_words() {
        for buckets in [1u32, 2, 1022, 1023, 4096] {
            assert_eq!(bucket_of(0, buckets), 0);
            assert_eq!(bucket_of(u32::MAX, buckets), buckets as usize - 1);
        }
        assert_eq!(directory_place(1021), (1, 1021));
        assert_eq!(directory_place(1022), (2, 0));
        assert_eq!(entry_place(0, 1022), (2, 0));
        assert_eq!(entry_place(511, 1023), (4, 0));
    }
}
