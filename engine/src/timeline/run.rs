//! A run: sorted entries that never change, and how far they were taken.
//!
//! ```text
//!  block   checksum u32 of the rest | count u32 | run's number u64 | 255 entries: key i64, offset i64
//! ```
//! All blocks but the last are full, so the place of an entry follows from its position. How many there are is in
//! the checkpoint.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::TimelineEntry;
use super::checkpoint::Listed;
use crate::env::{Env, File, OpenMode};
use crate::error::Error;
use crate::limits::{BLOCK_BYTES, PIECE_BYTES, TIMELINE_WINDOW_BYTES};

const HEAD_BYTES: usize = 16;
const ENTRY_BYTES: usize = 16;
pub(super) const BLOCK_ENTRIES: usize = (BLOCK_BYTES - HEAD_BYTES) / ENTRY_BYTES;
/// Entries of one write.
pub(super) const PIECE_ENTRIES: usize = PIECE_BYTES / BLOCK_BYTES * BLOCK_ENTRIES;

const REMEDY: &str = "the timer makes its index again from the log";

pub(super) struct Run<E: Env> {
    pub number: u64,
    pub source: Source<E>,
    entries: u64,
    taken: u64,
    /// Entries from `taken - window_at` on.
    window: Vec<TimelineEntry>,
    window_at: usize,
}

pub(super) enum Source<E: Env> {
    /// Not yet written.
    Memory(Rc<Vec<TimelineEntry>>),
    File(Rc<E::File>),
}

impl<E: Env> Run<E> {
    pub fn in_memory(number: u64, entries: Vec<TimelineEntry>) -> Self {
        let count = entries.len() as u64;
        let source = Source::Memory(Rc::new(entries));
        Self { number, source, entries: count, taken: 0, window: Vec::new(), window_at: 0 }
    }

    pub fn in_file(listed: &Listed, file: Rc<E::File>) -> Self {
        let Listed { number, entries, taken } = *listed;
        Self { number, source: Source::File(file), entries, taken, window: Vec::new(), window_at: 0 }
    }

    pub fn is_in_memory(&self) -> bool {
        matches!(self.source, Source::Memory(_))
    }

    pub fn to_write(&self) -> Option<(u64, Rc<Vec<TimelineEntry>>)> {
        match &self.source {
            Source::Memory(entries) => Some((self.number, Rc::clone(entries))),
            Source::File(_) => None,
        }
    }

    pub fn listed(&self) -> Listed {
        Listed { number: self.number, entries: self.entries, taken: self.taken }
    }

    pub fn left(&self) -> u64 {
        self.entries - self.taken
    }

    pub fn is_used_up(&self) -> bool {
        self.left() == 0
    }

    /// The next entry. `None`: it has to be read.
    pub fn front(&self) -> Option<TimelineEntry> {
        match &self.source {
            Source::Memory(entries) => entries.get(self.taken as usize).copied(),
            Source::File(_) => self.window.get(self.window_at).copied(),
        }
    }

    pub fn advance(&mut self) {
        self.taken += 1;
        if !self.is_in_memory() {
            self.window_at += 1;
        }
    }

    pub fn unread(&self) -> Unread<E> {
        let Source::File(file) = &self.source else { unreachable!("entries in memory need no reading") };
        Unread { number: self.number, file: Rc::clone(file), position: self.taken, entries: self.entries }
    }

    pub fn give_window(&mut self, position: u64, window: Vec<TimelineEntry>) {
        if position == self.taken {
            (self.window, self.window_at) = (window, 0);
        }
    }
}

/// A place in a run's file from which entries are to be read.
pub(super) struct Unread<E: Env> {
    pub number: u64,
    pub file: Rc<E::File>,
    pub position: u64,
    pub entries: u64,
}

impl<E: Env> Unread<E> {
    /// A window of entries from the position on; none only at the end.
    pub async fn read(&self, dir: &Path) -> Result<Vec<TimelineEntry>, Error> {
        if self.position >= self.entries {
            return Ok(Vec::new());
        }
        let path = || path(dir, self.number);
        let block = self.position / BLOCK_ENTRIES as u64;
        let blocks = self.entries.div_ceil(BLOCK_ENTRIES as u64) - block;
        let len = TIMELINE_WINDOW_BYTES.min(blocks as usize * BLOCK_BYTES);
        let at = block * BLOCK_BYTES as u64;
        let bytes = self.file.read_at(at, len).await;
        let bytes = bytes.map_err(|source| Error::Io { op: "read", path: path(), source })?;
        if bytes.len() < len {
            return Err(Error::corrupt(&path(), at, "a run of timer entries is too short", REMEDY));
        }
        let mut window = Vec::with_capacity(len / ENTRY_BYTES);
        for (index, block) in bytes.chunks_exact(BLOCK_BYTES).enumerate() {
            if !decode_block(block, self.number, &mut window) {
                let at = at + (index * BLOCK_BYTES) as u64;
                return Err(Error::corrupt(&path(), at, "a block of timer entries is damaged", REMEDY));
            }
        }
        window.drain(..(self.position % BLOCK_ENTRIES as u64) as usize);
        Ok(window)
    }
}

pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.run"))
}

pub(super) fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(".run")?.parse().ok()
}

/// `None`: it is not there, or not as long as it should be.
pub(super) async fn open<E: Env>(env: &E, dir: &Path, listed: &Listed) -> Result<Option<E::File>, Error> {
    let path = path(dir, listed.number);
    let file = match env.open(&path, OpenMode::READ).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(Error::io("open", &path))?,
    };
    let size = file.size().map_err(Error::io("stat", &path))?;
    let blocks = listed.entries.div_ceil(BLOCK_ENTRIES as u64);
    Ok((size >= blocks * BLOCK_BYTES as u64 && listed.taken < listed.entries).then_some(file))
}

/// Writes a whole run; durable when it returns.
pub(super) async fn write<E: Env>(
    env: &E,
    dir: &Path,
    number: u64,
    entries: &[TimelineEntry],
) -> Result<E::File, Error> {
    let mut writer = RunWriter::create(env, dir, number).await?;
    for piece in entries.chunks(PIECE_ENTRIES) {
        writer.push(piece).await?;
    }
    writer.finish(env, dir).await
}

pub(super) struct RunWriter<E: Env> {
    number: u64,
    path: PathBuf,
    file: E::File,
    at: u64,
}

impl<E: Env> RunWriter<E> {
    pub async fn create(env: &E, dir: &Path, number: u64) -> Result<Self, Error> {
        let path = path(dir, number);
        let file = env.open(&path, OpenMode::CREATE).await.map_err(Error::io("create", &path))?;
        Ok(Self { number, path, file, at: 0 })
    }

    /// `PIECE_ENTRIES` of them; only the last piece may be shorter.
    pub async fn push(&mut self, piece: &[TimelineEntry]) -> Result<(), Error> {
        let len = piece.len().div_ceil(BLOCK_ENTRIES) * BLOCK_BYTES;
        let number = self.number;
        let written = self.file.write_at(self.at, len, |out| {
            for (block, entries) in out.chunks_exact_mut(BLOCK_BYTES).zip(piece.chunks(BLOCK_ENTRIES)) {
                encode_block(block, number, entries);
            }
        });
        written.await.map_err(Error::io("write", &self.path))?;
        self.at += len as u64;
        Ok(())
    }

    pub async fn finish(self, env: &E, dir: &Path) -> Result<E::File, Error> {
        self.file.sync().await.map_err(Error::io("sync", &self.path))?;
        env.sync_dir(dir).await.map_err(Error::io("sync", dir))?;
        Ok(self.file)
    }
}

fn encode_block(block: &mut [u8], number: u64, entries: &[TimelineEntry]) {
    block[4..8].copy_from_slice(&(entries.len() as u32).to_le_bytes());
    block[8..16].copy_from_slice(&number.to_le_bytes());
    let (room, rest) = block[HEAD_BYTES..].split_at_mut(entries.len() * ENTRY_BYTES);
    for (place, entry) in room.chunks_exact_mut(ENTRY_BYTES).zip(entries) {
        place[..8].copy_from_slice(&entry.key.to_le_bytes());
        place[8..].copy_from_slice(&entry.offset.to_le_bytes());
    }
    rest.fill(0);
    let checksum = crc32fast::hash(&block[4..]);
    block[..4].copy_from_slice(&checksum.to_le_bytes());
}

fn decode_block(block: &[u8], number: u64, out: &mut Vec<TimelineEntry>) -> bool {
    let word = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().expect("four bytes"));
    let long = |at: usize| i64::from_le_bytes(block[at..at + 8].try_into().expect("eight bytes"));
    let count = word(4) as usize;
    if word(0) != crc32fast::hash(&block[4..]) || long(8) as u64 != number || count > BLOCK_ENTRIES {
        return false;
    }
    out.extend((0..count).map(|index| {
        let at = HEAD_BYTES + index * ENTRY_BYTES;
        TimelineEntry { key: long(at), offset: long(at + 8) }
    }));
    true
}
