//! What a timeline begins with again: its runs, how far each was taken, and the entries in memory.
//!
//! ```text
//!  0       8          12        16         24       32            40         48         56
//!  magic   | checksum | version | sequence | length | next offset | taken to | next run | runs u32 | entries u32 |
//!  64            72
//!  notes u32, 0  | per run: number | entries | taken | per entry: key | offset | notes
//! ```
//! Two files take turns; the checksum covers the whole of one, so a torn write leaves the other in force.

use std::path::{Path, PathBuf};

use super::TimelineEntry;
use crate::env::{Env, File, OpenMode};
use crate::error::Error;
use crate::limits::BLOCK_BYTES;
use crate::whole_file;

const MAGIC: [u8; 8] = *b"rmqTLIN\0";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 72;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub sequence: u64,
    pub next_offset: i64,
    pub taken_to: i64,
    pub next_run: u64,
    pub runs: Vec<Listed>,
    pub entries: Vec<TimelineEntry>,
    /// The owner's.
    pub notes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub number: u64,
    pub entries: u64,
    pub taken: u64,
}

pub(super) enum Found {
    Absent,
    /// There are files, none of them valid.
    Damaged,
    Newest(Checkpoint),
}

impl Checkpoint {
    pub fn encode(&self) -> Vec<u8> {
        let len = HEADER_BYTES + self.runs.len() * 24 + self.entries.len() * 16 + self.notes.len();
        let mut out = Vec::with_capacity(len.next_multiple_of(BLOCK_BYTES));
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&(len as u64).to_le_bytes());
        out.extend_from_slice(&self.next_offset.to_le_bytes());
        out.extend_from_slice(&self.taken_to.to_le_bytes());
        out.extend_from_slice(&self.next_run.to_le_bytes());
        for count in [self.runs.len(), self.entries.len(), self.notes.len(), 0] {
            out.extend_from_slice(&(count as u32).to_le_bytes());
        }
        debug_assert_eq!(out.len(), HEADER_BYTES);
        for run in &self.runs {
            for word in [run.number, run.entries, run.taken] {
                out.extend_from_slice(&word.to_le_bytes());
            }
        }
        for entry in &self.entries {
            out.extend_from_slice(&entry.key.to_le_bytes());
            out.extend_from_slice(&entry.offset.to_le_bytes());
        }
        out.extend_from_slice(&self.notes);
        let checksum = crc32fast::hash(&out[12..]);
        out[8..12].copy_from_slice(&checksum.to_le_bytes());
        out.resize(len.next_multiple_of(BLOCK_BYTES), 0);
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..HEADER_BYTES)?;
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        let len = usize::try_from(long(24)).ok()?;
        if header[..8] != MAGIC || word(12) != VERSION || len < HEADER_BYTES {
            return None;
        }
        if crc32fast::hash(bytes.get(12..len)?) != word(8) {
            return None;
        }
        let (runs, entries) = (word(56) as usize, word(60) as usize);
        let (runs, rest) = bytes[HEADER_BYTES..len].split_at_checked(runs * 24)?;
        let (entries, notes) = rest.split_at_checked(entries * 16)?;
        let long_of =
            |bytes: &[u8], at: usize| i64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let run = |bytes: &[u8]| Listed {
            number: long_of(bytes, 0) as u64,
            entries: long_of(bytes, 8) as u64,
            taken: long_of(bytes, 16) as u64,
        };
        let entry = |bytes: &[u8]| TimelineEntry { key: long_of(bytes, 0), offset: long_of(bytes, 8) };
        Some(Self {
            sequence: long(16),
            next_offset: long(32) as i64,
            taken_to: long(40) as i64,
            next_run: long(48),
            runs: runs.chunks_exact(24).map(run).collect(),
            entries: entries.chunks_exact(16).map(entry).collect(),
            notes: notes.get(..word(64) as usize)?.to_vec(),
        })
    }

    /// No entry with a smaller key is wanted still, but for those that came late and are among `entries`.
    pub fn wanted_from(&self) -> i64 {
        self.entries.iter().map(|entry| entry.key).fold(self.taken_to, i64::min)
    }
}

fn path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("checkpoint.{}", sequence % 2))
}

pub(super) async fn read<E: Env>(env: &E, dir: &Path) -> Result<Found, Error> {
    let mut found = Found::Absent;
    for slot in 0..2 {
        let Some(bytes) = whole_file::read_durably(env, &path(dir, slot)).await? else { continue };
        found = match (found, Checkpoint::decode(&bytes)) {
            (Found::Newest(old), Some(new)) if old.sequence > new.sequence => Found::Newest(old),
            (_, Some(new)) => Found::Newest(new),
            (Found::Absent, None) => Found::Damaged,
            (found, None) => found,
        };
    }
    Ok(found)
}

/// Durable when it returns.
pub(super) async fn write<E: Env>(env: &E, dir: &Path, sequence: u64, bytes: Vec<u8>) -> Result<(), Error> {
    let path = path(dir, sequence);
    let file = env.open(&path, OpenMode::CREATE).await.map_err(Error::io("create", &path))?;
    let write = file.write_at(0, bytes.len(), |out| out.copy_from_slice(&bytes));
    write.await.map_err(Error::io("write", &path))?;
    file.sync().await.map_err(Error::io("sync", &path))?;
    file.close().await.map_err(Error::io("close", &path))?;
    // The first two checkpoints make their names.
    if sequence < 2 {
        env.sync_dir(dir).await.map_err(Error::io("sync", dir))?;
    }
    Ok(())
}
