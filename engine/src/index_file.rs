//! The index of one segment: which queues have entries in it, and the entries, packed by queue.
//!
//! ```text
//!  block 0   header
//!  blocks    directory: per queue  number | count | first slot | queue id | first offset | first ms | last ms |
//!                                  topic length u16 | topic
//!  blocks    entry pages: checksum u32 | 204 entries of 20 bytes | zeros
//! ```
//! A slot is block number * 204 + place in the page, so a queue's entries are found without the header.
//! The file is written beside its final name, synced and renamed: it is there as a whole or not at all. What
//! is damaged later is noticed by checksums, and made again from the log.

use std::path::{Path, PathBuf};

use crate::entry::{ENTRY_BYTES, Entry};
use crate::env::{Env, File, OpenMode};
use crate::error::Error;
use crate::limits::{BLOCK_BYTES, PIECE_BYTES};
use crate::offset::{QueueName, QueueNumber};
use crate::queue::Span;
use crate::whole_file;

const MAGIC: [u8; 8] = *b"rmqINDX\0";
const VERSION: u32 = 1;
const COVERED_BYTES: usize = 512;
const LISTED_BYTES: usize = 42;

/// Entries of one page.
pub(crate) const PAGE_ENTRIES: usize = (BLOCK_BYTES - 4) / ENTRY_BYTES;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexHeader {
    pub store_id: u64,
    pub segment: u64,
    /// Where the segment's frames end.
    pub end: u32,
    /// The start that wrote this.
    pub epoch: u32,
    /// Of an active segment at a clean stop; void as soon as the epoch is no longer the newest.
    pub snapshot: bool,
    pub base_ms: i64,
    /// Newest store time in the segment.
    pub last_ms: i64,
}

/// One queue of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub number: QueueNumber,
    pub name: QueueName,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directory {
    pub header: IndexHeader,
    pub queues: Vec<Listed>,
}

impl Directory {
    fn directory_bytes(&self) -> usize {
        self.queues.iter().map(|queue| LISTED_BYTES + queue.name.topic.len()).sum()
    }

    /// Gives each queue its first slot. Pages start behind the directory.
    pub fn assign_slots(&mut self) {
        let blocks = 1 + self.directory_bytes().div_ceil(BLOCK_BYTES);
        let mut slot = (blocks * PAGE_ENTRIES) as u32;
        for queue in &mut self.queues {
            queue.span.entries_at = slot;
            slot += queue.span.count;
        }
    }

    fn encode(&self) -> Vec<u8> {
        let directory = self.directory_bytes();
        let mut out = vec![0; BLOCK_BYTES + directory.next_multiple_of(BLOCK_BYTES)];
        let mut at = BLOCK_BYTES;
        for queue in &self.queues {
            let span = &queue.span;
            let row = &mut out[at..at + LISTED_BYTES + queue.name.topic.len()];
            row[..4].copy_from_slice(&queue.number.0.to_le_bytes());
            row[4..8].copy_from_slice(&span.count.to_le_bytes());
            row[8..12].copy_from_slice(&span.entries_at.to_le_bytes());
            row[12..16].copy_from_slice(&queue.name.queue.to_le_bytes());
            row[16..24].copy_from_slice(&span.first.to_le_bytes());
            row[24..32].copy_from_slice(&span.first_ms.to_le_bytes());
            row[32..40].copy_from_slice(&span.last_ms.to_le_bytes());
            row[40..42].copy_from_slice(&(queue.name.topic.len() as u16).to_le_bytes());
            row[42..].copy_from_slice(queue.name.topic.as_bytes());
            at += row.len();
        }
        let directory_checksum = crc32fast::hash(&out[BLOCK_BYTES..at]);
        let (block, _) = out.split_at_mut(BLOCK_BYTES);
        let header = &self.header;
        block[..8].copy_from_slice(&MAGIC);
        block[12..16].copy_from_slice(&VERSION.to_le_bytes());
        block[16..24].copy_from_slice(&header.store_id.to_le_bytes());
        block[24..32].copy_from_slice(&header.segment.to_le_bytes());
        block[32..36].copy_from_slice(&header.end.to_le_bytes());
        block[36..40].copy_from_slice(&header.epoch.to_le_bytes());
        block[40..44].copy_from_slice(&u32::from(header.snapshot).to_le_bytes());
        block[44..48].copy_from_slice(&(self.queues.len() as u32).to_le_bytes());
        block[48..56].copy_from_slice(&header.base_ms.to_le_bytes());
        block[56..64].copy_from_slice(&header.last_ms.to_le_bytes());
        block[64..72].copy_from_slice(&(directory as u64).to_le_bytes());
        block[72..76].copy_from_slice(&directory_checksum.to_le_bytes());
        let checksum = crc32fast::hash(&block[12..COVERED_BYTES]);
        block[8..12].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    fn decode_header(block: &[u8]) -> Option<(IndexHeader, usize, usize, u32)> {
        if block.len() < BLOCK_BYTES || block[..8] != MAGIC {
            return None;
        }
        let word = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().expect("eight bytes"));
        if word(8) != crc32fast::hash(&block[12..COVERED_BYTES]) || word(12) != VERSION {
            return None;
        }
        let header = IndexHeader {
            store_id: long(16),
            segment: long(24),
            end: word(32),
            epoch: word(36),
            snapshot: word(40) & 1 == 1,
            base_ms: long(48) as i64,
            last_ms: long(56) as i64,
        };
        Some((header, word(44) as usize, usize::try_from(long(64)).ok()?, word(72)))
    }

    fn decode_queues(bytes: &[u8], count: usize, segment: u64, base_ms: i64) -> Option<Vec<Listed>> {
        let mut rest = bytes;
        let mut queues = Vec::with_capacity(count.min(bytes.len() / LISTED_BYTES));
        for _ in 0..count {
            let (row, behind) = rest.split_at_checked(LISTED_BYTES)?;
            let word = |at: usize| u32::from_le_bytes(row[at..at + 4].try_into().expect("four bytes"));
            let long = |at: usize| i64::from_le_bytes(row[at..at + 8].try_into().expect("eight bytes"));
            let (topic, behind) =
                behind.split_at_checked(usize::from(u16::from_le_bytes([row[40], row[41]])))?;
            rest = behind;
            queues.push(Listed {
                number: QueueNumber(word(0)),
                name: QueueName { topic: String::from_utf8(topic.to_vec()).ok()?, queue: word(12) },
                span: Span {
                    segment,
                    count: word(4),
                    entries_at: word(8),
                    first: long(16),
                    base_ms,
                    first_ms: long(24),
                    last_ms: long(32),
                },
            });
        }
        rest.is_empty().then_some(queues)
    }
}

/// Reads header and directory. `None` for a file that is missing or damaged: the log can replace it.
pub(crate) async fn read_directory<E: Env>(
    env: &E,
    path: &Path,
    store_id: u64,
    segment: u64,
) -> Result<Option<Directory>, Error> {
    let file = match env.open(path, OpenMode::READ).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("open", path))?,
    };
    let found = async {
        let block = file.read_at(0, BLOCK_BYTES).await?;
        let Some((header, count, len, checksum)) = Directory::decode_header(&block) else { return Ok(None) };
        if header.store_id != store_id
            || header.segment != segment
            || len as u64 > file.size()?.saturating_sub(BLOCK_BYTES as u64)
        {
            return Ok(None);
        }
        let mut bytes = file.read_at(BLOCK_BYTES as u64, len.next_multiple_of(BLOCK_BYTES)).await?;
        bytes.truncate(len);
        if bytes.len() != len || crc32fast::hash(&bytes) != checksum {
            return Ok(None);
        }
        Ok(Directory::decode_queues(&bytes, count, segment, header.base_ms)
            .map(|queues| Directory { header, queues }))
    }
    .await
    .map_err(Error::io("read", path))?;
    file.close().await.map_err(Error::io("close", path))?;
    Ok(found)
}

/// Writes an index file: the directory at once, then entries in the directory's order.
pub(crate) struct IndexWriter<E: Env> {
    env: E,
    path: PathBuf,
    temporary: PathBuf,
    file: E::File,
    /// Whole pages that wait to be written, then the one being filled.
    pages: Vec<u8>,
    in_page: usize,
    at: u64,
}

impl<E: Env> IndexWriter<E> {
    /// `directory` has its slots assigned.
    pub async fn create(env: &E, path: &Path, directory: &Directory) -> Result<Self, Error> {
        let temporary = path.with_extension("idx.tmp");
        let file = env.open(&temporary, OpenMode::CREATE).await.map_err(Error::io("create", &temporary))?;
        let mut writer = Self {
            env: env.clone(),
            path: path.to_owned(),
            temporary,
            file,
            pages: directory.encode(),
            in_page: PAGE_ENTRIES,
            at: 0,
        };
        writer.write_out(true).await?;
        Ok(writer)
    }

    /// Adds the next entry, in memory.
    pub fn push(&mut self, entry: &Entry) {
        if self.in_page == PAGE_ENTRIES {
            self.close_page();
            self.pages.resize(self.pages.len() + BLOCK_BYTES, 0);
            self.in_page = 0;
        }
        let page = self.pages.len() - BLOCK_BYTES;
        let from = page + 4 + self.in_page * ENTRY_BYTES;
        entry.encode(&mut self.pages[from..from + ENTRY_BYTES]);
        self.in_page += 1;
    }

    /// Gives the last page its checksum.
    fn close_page(&mut self) {
        if let Some(page) = self.pages.len().checked_sub(BLOCK_BYTES) {
            let block = (self.at + page as u64) / BLOCK_BYTES as u64;
            seal_page(&mut self.pages[page..], block);
        }
    }

    /// Writes the pages that are complete, if there are enough of them to be worth a write.
    pub async fn write_full_pages(&mut self) -> Result<(), Error> {
        if self.pages.len() > PIECE_BYTES / 2 { self.write_out(false).await } else { Ok(()) }
    }

    async fn write_out(&mut self, all: bool) -> Result<(), Error> {
        let keep = if all { 0 } else { BLOCK_BYTES };
        let whole = self.pages.len() - keep;
        for piece in self.pages[..whole].chunks(PIECE_BYTES) {
            self.file
                .write_at(self.at, piece.len(), |out| out.copy_from_slice(piece))
                .await
                .map_err(Error::io("write", &self.temporary))?;
            self.at += piece.len() as u64;
        }
        self.pages.drain(..whole);
        Ok(())
    }

    /// Makes the file durable under its final name.
    pub async fn finish(mut self) -> Result<(), Error> {
        self.close_page();
        self.write_out(true).await?;
        whole_file::publish(&self.env, self.file, &self.temporary, &self.path).await
    }
}

/// A page proves that it is this block; a page of another index file would only pass if it were equal.
pub(crate) fn page_checksum(page: &[u8], block: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(block as u32);
    hasher.update(&page[4..]);
    hasher.finalize()
}

fn seal_page(page: &mut [u8], block: u64) {
    let checksum = page_checksum(page, block);
    page[..4].copy_from_slice(&checksum.to_le_bytes());
}

/// Where a slot is: block number and place in the page.
pub(crate) fn page_of(slot: u32) -> (u64, usize) {
    (u64::from(slot) / PAGE_ENTRIES as u64, slot as usize % PAGE_ENTRIES)
}

/// The entry at a place of a page. `None` if the page is damaged.
pub(crate) fn entry_in(page: &[u8], block: u64, place: usize) -> Option<Entry> {
    if page.len() != BLOCK_BYTES || page_checksum(page, block).to_le_bytes() != page[..4] {
        return None;
    }
    Some(Entry::decode(&page[4 + place * ENTRY_BYTES..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(queues: u32) -> Directory {
        let mut directory = Directory {
            header: IndexHeader {
                store_id: 1,
                segment: 2,
                end: 8192,
                epoch: 3,
                snapshot: false,
                base_ms: 4,
                last_ms: 5,
            },
            queues: (0..queues)
                .map(|n| Listed {
                    number: QueueNumber(n),
                    name: QueueName { topic: format!("topic-{n}"), queue: n % 4 },
                    span: Span {
                        segment: 2,
                        first: i64::from(n) * 100,
                        count: n * 50,
                        entries_at: 0,
                        base_ms: 4,
                        first_ms: 6,
                        last_ms: 7,
                    },
                })
                .collect(),
        };
        directory.assign_slots();
        directory
    }

    #[test]
    fn directories_come_back_and_damage_is_noticed() {
        for queues in [0, 1, 300] {
            let directory = directory(queues);
            let bytes = directory.encode();
            let (header, count, len, checksum) = Directory::decode_header(&bytes[..BLOCK_BYTES]).unwrap();
            let rows = &bytes[BLOCK_BYTES..BLOCK_BYTES + len];
            assert_eq!((header, checksum), (directory.header.clone(), crc32fast::hash(rows)));
            assert_eq!(Directory::decode_queues(rows, count, 2, 4), Some(directory.queues.clone()));
            for cut in 0..len.min(500) {
                assert_eq!(Directory::decode_queues(&rows[..cut], count, 2, 4), None);
            }
            let mut bad = bytes.clone();
            bad[33] ^= 1;
            assert!(Directory::decode_header(&bad[..BLOCK_BYTES]).is_none());
        }
    }

    #[test]
    fn pages_prove_their_place() {
        let mut page = vec![0; BLOCK_BYTES];
        let entry = Entry::new(4096, 5, -6, 7);
        entry.encode(&mut page[4 + 3 * ENTRY_BYTES..4 + 4 * ENTRY_BYTES]);
        seal_page(&mut page, 9);
        assert_eq!(entry_in(&page, 9, 3), Some(entry));
        assert_eq!(entry_in(&page, 10, 3), None);
        page[100] ^= 1;
        assert_eq!(entry_in(&page, 9, 3), None);
    }
}
