//! What a store knows about itself: two slots of one block, written in turn.
//!
//! ```text
//!  0       8          12        16         24         32      36       40        48            56
//!  magic   | checksum | version | sequence | store id | epoch | shards | segment | number high | generation |
//!  60         64                    72
//!  reserved | queue table version | zeros to 4096
//! ```
//! A write goes to the slot that does not hold the newest valid one, so a torn write leaves the store as it
//! was. Facts that later files depend on are written twice, so that one damaged slot is outlived. Everything here is durable before anything on disk depends on it: an epoch before the first frame
//! that carries it, a number before the file that is named by it, a generation after the maps that it names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::env::{Env, File, OpenMode};
use crate::error::Error;
use crate::limits::{BLOCK_BYTES, NUMBER_RUN};

const MAGIC: [u8; 8] = *b"rmqSUPR\0";
const VERSION: u32 = 1;
const COVERED_BYTES: usize = 512;

pub(crate) const REMEDY: &str = "restore the file from a backup of this store";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub sequence: u64,
    pub store_id: u64,
    /// Of the newest start. One more at each.
    pub epoch: u32,
    pub shards: u32,
    pub segment_size: u64,
    /// Segment numbers below this may be in use; the others certainly are not.
    pub number_high: u64,
    /// The start whose queue maps are in force (`queue_map`).
    pub generation: u32,
    /// Of the server's table of queue owners.
    pub queue_table_version: u64,
}

impl Superblock {
    fn encode(&self, block: &mut [u8]) {
        block.fill(0);
        block[..8].copy_from_slice(&MAGIC);
        block[12..16].copy_from_slice(&VERSION.to_le_bytes());
        block[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        block[24..32].copy_from_slice(&self.store_id.to_le_bytes());
        block[32..36].copy_from_slice(&self.epoch.to_le_bytes());
        block[36..40].copy_from_slice(&self.shards.to_le_bytes());
        block[40..48].copy_from_slice(&self.segment_size.to_le_bytes());
        block[48..56].copy_from_slice(&self.number_high.to_le_bytes());
        block[56..60].copy_from_slice(&self.generation.to_le_bytes());
        block[64..72].copy_from_slice(&self.queue_table_version.to_le_bytes());
        let checksum = crc32fast::hash(&block[12..COVERED_BYTES]);
        block[8..12].copy_from_slice(&checksum.to_le_bytes());
    }

    /// `Ok(None)` for a slot that was never written or is torn.
    fn decode(block: &[u8]) -> Result<Option<Self>, u32> {
        if block.len() < COVERED_BYTES || block[..8] != MAGIC {
            return Ok(None);
        }
        let word = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().expect("eight bytes"));
        if word(8) != crc32fast::hash(&block[12..COVERED_BYTES]) {
            return Ok(None);
        }
        if word(12) != VERSION {
            return Err(word(12));
        }
        Ok(Some(Self {
            sequence: long(16),
            store_id: long(24),
            epoch: word(32),
            shards: word(36),
            segment_size: long(40),
            number_high: long(48),
            generation: word(56),
            queue_table_version: long(64),
        }))
    }
}

pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join("superblock")
}

/// The newest valid slot; `None` if there is none.
pub(crate) async fn read<E: Env>(env: &E, dir: &Path) -> Result<Option<Superblock>, Error> {
    let path = path(dir);
    let file = match env.open(&path, OpenMode::READ).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("open", &path))?,
    };
    let bytes = file.read_at(0, 2 * BLOCK_BYTES).await.map_err(Error::io("read", &path))?;
    file.close().await.map_err(Error::io("close", &path))?;
    let mut newest: Option<Superblock> = None;
    for block in bytes.chunks(BLOCK_BYTES) {
        let slot = Superblock::decode(block).map_err(|found| Error::NewerVersion {
            path: path.clone(),
            found,
            known: VERSION,
        })?;
        newest = [newest, slot].into_iter().flatten().max_by_key(|slot| slot.sequence);
    }
    Ok(newest)
}

/// Writes into both slots, one after the other: whichever is damaged later, the other knows the same.
pub(crate) async fn write_twice<E: Env>(
    env: &E,
    dir: &Path,
    superblock: &mut Superblock,
) -> Result<(), Error> {
    for _ in 0..2 {
        superblock.sequence += 1;
        write(env, dir, superblock).await?;
    }
    Ok(())
}

/// Writes into the slot that the sequence names and waits until it is durable.
async fn write<E: Env>(env: &E, dir: &Path, superblock: &Superblock) -> Result<(), Error> {
    let path = path(dir);
    let file = env
        .open(&path, OpenMode { write: true, create: true, durable: false })
        .await
        .map_err(Error::io("open", &path))?;
    let at = (superblock.sequence % 2) * BLOCK_BYTES as u64;
    file.write_at(at, BLOCK_BYTES, |block| superblock.encode(block))
        .await
        .map_err(Error::io("write", &path))?;
    file.sync().await.map_err(Error::io("sync", &path))?;
    file.close().await.map_err(Error::io("close", &path))
}

/// The one thing that all shards of a running store share: the source of segment numbers. Touched at rolls.
pub(crate) struct Shared {
    dir: PathBuf,
    state: Mutex<State>,
    /// Somebody is writing the superblock; the file has one writer at a time.
    writing: AtomicBool,
}

struct State {
    superblock: Superblock,
    next_number: u64,
    /// Segments deleted while the store runs, for shards that read queues out of another shard's log.
    deleted: Vec<u64>,
    /// Whose log a segment belongs to, of those written with this number of shards.
    writers: BTreeMap<u64, usize>,
}

const WRITER_WAIT_US: u64 = 500;

impl Shared {
    /// Numbers from `next_number` on were never given; the superblock on disk is the one given.
    pub fn new(dir: &Path, superblock: Superblock, next_number: u64) -> Self {
        let state =
            Mutex::new(State { superblock, next_number, deleted: Vec::new(), writers: BTreeMap::new() });
        Self { dir: dir.to_owned(), state, writing: AtomicBool::new(false) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics while holding it; were it so, the numbers would still be right.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A segment number for a shard's log that was never given before and never will be again.
    pub async fn take_number<E: Env>(&self, env: &E, shard: usize) -> Result<u64, Error> {
        loop {
            {
                let mut state = self.state();
                if state.next_number < state.superblock.number_high {
                    let number = state.next_number;
                    state.next_number += 1;
                    state.writers.insert(number, shard);
                    return Ok(number);
                }
            }
            self.update(env, |superblock| superblock.number_high += NUMBER_RUN).await?;
        }
    }

    /// Changes the superblock durably. Shards take turns.
    pub async fn update<E: Env>(&self, env: &E, change: impl FnOnce(&mut Superblock)) -> Result<(), Error> {
        while self.writing.swap(true, Ordering::Acquire) {
            env.sleep_us(WRITER_WAIT_US).await;
        }
        let mut superblock = self.state().superblock;
        change(&mut superblock);
        let result = write_twice(env, &self.dir, &mut superblock).await;
        if result.is_ok() {
            self.state().superblock = superblock;
        }
        self.writing.store(false, Ordering::Release);
        result
    }

    pub fn announce_deleted(&self, segment: u64) {
        let mut state = self.state();
        state.deleted.push(segment);
        state.writers.remove(&segment);
    }

    /// A segment of an earlier start belongs to this shard's log.
    pub fn remember_writer(&self, segment: u64, shard: usize) {
        self.state().writers.insert(segment, shard);
    }

    pub fn writer_of(&self, segment: u64) -> Option<usize> {
        self.state().writers.get(&segment).copied()
    }

    /// Segments deleted since the caller's cursor.
    pub fn deleted_since(&self, cursor: &mut usize) -> Vec<u64> {
        let state = self.state();
        let new = state.deleted[*cursor..].to_vec();
        *cursor = state.deleted.len();
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_back_and_torn_ones_do_not() {
        let superblock = Superblock {
            sequence: 3,
            store_id: 42,
            epoch: 7,
            shards: 2,
            segment_size: 1 << 30,
            number_high: 32,
            generation: 6,
            queue_table_version: 1,
        };
        let mut block = [0; BLOCK_BYTES];
        superblock.encode(&mut block);
        assert_eq!(Superblock::decode(&block), Ok(Some(superblock)));
        block[40] ^= 1;
        assert_eq!(Superblock::decode(&block), Ok(None));
        assert_eq!(Superblock::decode(&[0; BLOCK_BYTES]), Ok(None));
    }
}
