//! What a killed start had acknowledged from memory: its frames go behind the log's end on disk, and from there on
//! they are found like all others.
//!
//! Safe to repeat: the files of memory stay until a new generation is in force, and a replay writes what it wrote
//! before. A power cut in between takes the memory with it and leaves a log that ends at some whole frame.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::recover::Recovery;
use crate::env::{Env, File};
use crate::error::Error;
use crate::limits::{BLOCK_BYTES, FLUSH_BYTES_MAX};
use crate::memory_record::{self, MemoryRecord};
use crate::offset::LogPosition;
use crate::ring::LeftRing;
use crate::segment::SegmentHeader;
use crate::superblock::Superblock;

/// The memory tails that earlier starts left.
#[derive(Default)]
pub(super) struct LeftMemory {
    records: Vec<MemoryRecord>,
    /// By shard, of the last start that served.
    tails: BTreeMap<u32, Tail>,
}

enum Tail {
    Found(LeftRing),
    /// There was one: a reboot took it, or it is not what was left.
    Lost(PathBuf),
}

impl LeftMemory {
    pub async fn find<E: Env>(env: &E, dir: &Path, superblock: &Superblock) -> Result<Self, Error> {
        let records = memory_record::read_all(env, dir, superblock.store_id).await?;
        let mut tails = BTreeMap::new();
        for record in &records {
            // Later starts have served since: what was in it was replayed.
            if record.ring.epoch == superblock.generation {
                tails.insert(record.ring.shard, find_tail(env, record).await?);
            }
        }
        Ok(Self { records, tails })
    }

    /// Removes the files and then what tells of them.
    pub async fn remove<E: Env>(self, env: &E, dir: &Path) -> Result<(), Error> {
        for record in &self.records {
            if let Ok(Tail::Found(_)) = find_tail(env, record).await
                && let Err(error) = env.remove_memory(&record.path).await
            {
                tracing::warn!(path = %record.path.display(), %error, "cannot remove an old memory tail");
            }
            memory_record::remove(env, dir, record.ring.shard).await?;
        }
        Ok(())
    }
}

/// A file that is not what the record says is somebody else's: it is neither trusted nor touched.
async fn find_tail<E: Env>(env: &E, record: &MemoryRecord) -> Result<Tail, Error> {
    let path = &record.path;
    match env.read_memory(path).await {
        Ok(file) => Ok(match LeftRing::parse(file).filter(|ring| ring.header == record.ring) {
            Some(ring) => Tail::Found(ring),
            None => Tail::Lost(path.clone()),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Tail::Lost(path.clone())),
        Err(error) => Err(Error::memory(path, error)),
    }
}

impl<E: Env> Recovery<'_, E> {
    /// Writes the frames that a memory tail has behind `end` of a segment; false if it has none.
    pub(super) async fn replay(
        &self,
        header: &SegmentHeader,
        file: &E::File,
        path: &Path,
        end: u32,
    ) -> Result<bool, Error> {
        let ring = match self.memory.tails.get(&header.shard) {
            Some(Tail::Found(ring)) => ring,
            Some(Tail::Lost(tail)) => {
                tracing::warn!(
                    shard = header.shard,
                    path = %tail.display(),
                    "the broker did not stop in good order and its memory tail is gone, as after a reboot: \
                     messages acknowledged in the last moments may be lost"
                );
                return Ok(false);
            }
            None => return Ok(false),
        };
        let at = LogPosition { segment: header.number, offset: end };
        let frames = ring.frames_from(at, header.size);
        if frames.is_empty() {
            return Ok(false);
        }
        let start = end - end % BLOCK_BYTES as u32;
        let mut bytes = file.read_at(u64::from(start), BLOCK_BYTES).await.map_err(Error::io("read", path))?;
        bytes.truncate((end - start) as usize);
        bytes.extend_from_slice(&frames);
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        for (n, piece) in bytes.chunks(FLUSH_BYTES_MAX).enumerate() {
            let at = u64::from(start) + (n * FLUSH_BYTES_MAX) as u64;
            file.write_at(at, piece.len(), |out| out.copy_from_slice(piece))
                .await
                .map_err(Error::io("write", path))?;
        }
        tracing::info!(
            shard = header.shard,
            segment = header.number,
            position = end,
            bytes = frames.len(),
            "brought to disk what was acknowledged from memory"
        );
        Ok(true)
    }
}
