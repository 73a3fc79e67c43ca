//! Where the running start keeps the memory tail of a shard: `memory/SSSS` in the store's directory, so that the
//! next start finds it whatever its own options say.
//!
//! ```text
//!  0       8          12        16         24      28      32      40       44
//!  magic   | checksum | version | store id | epoch | shard | bytes | length | path | zeros to a multiple of 4096
//! ```
//! Written under a temporary name, synced and renamed before anything is acknowledged from memory. It counts while
//! its epoch is the superblock's generation: the start that made the tail is the last that served. The next start
//! replays the tail, makes that durable, puts its own generation in force, and removes both files only then.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::env::{Env, File, OpenMode};
use crate::error::Error;
use crate::limits::{BLOCK_BYTES, MEMORY_PATH_BYTES_MAX};
use crate::ring::RingHeader;

const MAGIC: [u8; 8] = *b"rmqMEMO\0";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 44;
const READ_BYTES: usize = (HEADER_BYTES + MEMORY_PATH_BYTES_MAX).next_multiple_of(BLOCK_BYTES);

const REMEDY: &str =
    "remove the file; messages acknowledged in the last moments before a kill may be missing then";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemoryRecord {
    /// As it stands in the file as well.
    pub ring: RingHeader,
    pub path: PathBuf,
}

impl MemoryRecord {
    fn encode(&self) -> Vec<u8> {
        let path = self.path.as_os_str().as_bytes();
        let len = HEADER_BYTES + path.len();
        let mut out = vec![0; len.next_multiple_of(BLOCK_BYTES)];
        out[..8].copy_from_slice(&MAGIC);
        out[12..16].copy_from_slice(&VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&self.ring.store_id.to_le_bytes());
        out[24..28].copy_from_slice(&self.ring.epoch.to_le_bytes());
        out[28..32].copy_from_slice(&self.ring.shard.to_le_bytes());
        out[32..40].copy_from_slice(&self.ring.bytes.to_le_bytes());
        out[40..44].copy_from_slice(&(path.len() as u32).to_le_bytes());
        out[HEADER_BYTES..len].copy_from_slice(path);
        let checksum = crc32fast::hash(&out[12..len]);
        out[8..12].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        let len = HEADER_BYTES.checked_add(word(40) as usize)?;
        if header[..8] != MAGIC || word(12) != VERSION || crc32fast::hash(bytes.get(12..len)?) != word(8) {
            return None;
        }
        let ring = RingHeader { store_id: long(16), epoch: word(24), shard: word(28), bytes: long(32) };
        Some(Self { ring, path: OsStr::from_bytes(&bytes[HEADER_BYTES..len]).into() })
    }
}

pub(crate) fn dir(store: &Path) -> PathBuf {
    store.join("memory")
}

fn path(store: &Path, shard: u32) -> PathBuf {
    dir(store).join(format!("{shard:04}"))
}

/// All records of a store, also such as no longer count.
pub(crate) async fn read_all<E: Env>(
    env: &E,
    store: &Path,
    store_id: u64,
) -> Result<Vec<MemoryRecord>, Error> {
    let dir = dir(store);
    let mut records = Vec::new();
    for name in env.list(&dir).await.map_err(Error::io("list", &dir))? {
        let Some(shard) = (name.len() == 4).then(|| name.parse::<u32>().ok()).flatten() else { continue };
        let path = dir.join(&name);
        let file = env.open(&path, OpenMode::READ).await.map_err(Error::io("open", &path))?;
        let bytes = file.read_at(0, READ_BYTES).await.map_err(Error::io("read", &path))?;
        file.close().await.map_err(Error::io("close", &path))?;
        let record = MemoryRecord::decode(&bytes)
            .filter(|record| record.ring.store_id == store_id && record.ring.shard == shard);
        let damaged = || Error::corrupt(&path, 0, "it does not tell where the memory tail is", REMEDY);
        records.push(record.ok_or_else(damaged)?);
    }
    Ok(records)
}

/// Takes the place of the shard's record, durably.
pub(crate) async fn write<E: Env>(env: &E, store: &Path, record: &MemoryRecord) -> Result<(), Error> {
    let (dir, path) = (dir(store), path(store, record.ring.shard));
    let draft = path.with_extension("tmp");
    let file = env.open(&draft, OpenMode::CREATE).await.map_err(Error::io("create", &draft))?;
    let bytes = record.encode();
    let written = async {
        file.write_at(0, bytes.len(), |out| out.copy_from_slice(&bytes)).await?;
        file.sync().await
    }
    .await;
    file.close().await.map_err(Error::io("close", &draft))?;
    written.map_err(Error::io("write", &draft))?;
    env.rename(&draft, &path).await.map_err(Error::io("rename", &draft))?;
    env.sync_dir(&dir).await.map_err(Error::io("sync", &dir))
}

pub(crate) async fn remove<E: Env>(env: &E, store: &Path, shard: u32) -> Result<(), Error> {
    let (dir, path) = (dir(store), path(store, shard));
    env.remove(&path).await.map_err(Error::io("remove", &path))?;
    env.sync_dir(&dir).await.map_err(Error::io("sync", &dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_every_damaged_byte_is_noticed() {
        let ring = RingHeader { store_id: 1, epoch: 2, shard: 3, bytes: 4 << 20 };
        for path in ["/dev/shm/rmq", &format!("/{}", "long/".repeat(800))] {
            let record = MemoryRecord { ring, path: path.into() };
            let bytes = record.encode();
            assert_eq!(MemoryRecord::decode(&bytes).as_ref(), Some(&record));
            for n in 0..HEADER_BYTES + path.len() {
                let mut bad = bytes.clone();
                bad[n] ^= 4;
                assert_eq!(MemoryRecord::decode(&bad), None, "byte {n}");
                assert_eq!(MemoryRecord::decode(&bytes[..n]), None, "cut at {n}");
            }
        }
    }
}
