//! The queues of one shard and the offsets they go on counting from, as they were at one place of its log.
//!
//! ```text
//!  0       8          12        16         24           32       40      44      48      52
//!  magic   | checksum | version | store id | generation | sequence | epoch | shard | clean | count |
//!  56       64           72        76           80
//!  length  | at segment | at offset | number high | per queue: number | queue id | next i64 | min i64 |
//!                                                              topic length u16 | topic
//! ```
//! Two files take turns; the checksum covers the whole of one, so a torn write leaves the other in force.
//! Declarations, deletions and records below `at` are in here; recovery takes the rest from the log.
//! It is durable before any segment that it speaks for is deleted: an idle queue whose messages have all
//! expired goes on counting where it stood.

use std::path::{Path, PathBuf};

use crate::env::{Env, File, OpenMode};
use crate::error::Error;
use crate::limits::{BLOCK_BYTES, PIECE_BYTES};
use crate::offset::{LogPosition, QueueName, QueueNumber};
use crate::whole_file;

const MAGIC: [u8; 8] = *b"rmqQMAP\0";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 80;
const ROW_BYTES: usize = 26;

/// `at` of a shard that has no log yet.
const NOWHERE: u64 = u64::MAX;

pub(crate) const REMEDY: &str = "remove both files of this shard to build them again from the log; \
    queues whose messages have all expired then count from 0 again";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueueMap {
    pub store_id: u64,
    /// The start that wrote the first map of its kind; only the superblock's generation counts.
    pub generation: u32,
    pub sequence: u64,
    /// The start that wrote this one.
    pub epoch: u32,
    pub shard: u32,
    /// Written by a clean stop: nothing follows `at` if no later start followed.
    pub clean: bool,
    /// Everything before this is in here.
    pub at: Option<LogPosition>,
    /// Queue numbers below this may have been given.
    pub number_high: u32,
    pub queues: Vec<MapRow>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MapRow {
    pub number: QueueNumber,
    pub name: QueueName,
    pub next: i64,
    /// For those who look at the file; recovery finds it in the segments that are there.
    pub min: i64,
}

/// What the two files of a shard hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Map(QueueMap),
    /// Neither file exists.
    Absent,
    /// There are files, none of them valid and of this generation.
    Damaged,
}

impl QueueMap {
    pub fn encode(&self) -> Vec<u8> {
        let len: usize =
            HEADER_BYTES + self.queues.iter().map(|row| ROW_BYTES + row.name.topic.len()).sum::<usize>();
        let mut out = Vec::with_capacity(len.next_multiple_of(BLOCK_BYTES));
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.store_id.to_le_bytes());
        out.extend_from_slice(&u64::from(self.generation).to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.shard.to_le_bytes());
        out.extend_from_slice(&u32::from(self.clean).to_le_bytes());
        out.extend_from_slice(&(self.queues.len() as u32).to_le_bytes());
        out.extend_from_slice(&(len as u64).to_le_bytes());
        out.extend_from_slice(&self.at.map_or(NOWHERE, |at| at.segment).to_le_bytes());
        out.extend_from_slice(&self.at.map_or(0, |at| at.offset).to_le_bytes());
        out.extend_from_slice(&self.number_high.to_le_bytes());
        debug_assert_eq!(out.len(), HEADER_BYTES);
        for row in &self.queues {
            out.extend_from_slice(&row.number.0.to_le_bytes());
            out.extend_from_slice(&row.name.queue.to_le_bytes());
            out.extend_from_slice(&row.next.to_le_bytes());
            out.extend_from_slice(&row.min.to_le_bytes());
            out.extend_from_slice(&(row.name.topic.len() as u16).to_le_bytes());
            out.extend_from_slice(row.name.topic.as_bytes());
        }
        let checksum = crc32fast::hash(&out[12..]);
        out[8..12].copy_from_slice(&checksum.to_le_bytes());
        out.resize(len.next_multiple_of(BLOCK_BYTES), 0);
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..HEADER_BYTES)?;
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        let len = usize::try_from(long(56)).ok()?;
        if header[..8] != MAGIC || word(12) != VERSION || len < HEADER_BYTES {
            return None;
        }
        let body = bytes.get(12..len)?;
        if crc32fast::hash(body) != word(8) {
            return None;
        }
        let mut rest = &bytes[HEADER_BYTES..len];
        let mut queues = Vec::new();
        for _ in 0..word(52) {
            let (row, behind) = rest.split_at_checked(ROW_BYTES)?;
            let (topic, behind) =
                behind.split_at_checked(usize::from(u16::from_le_bytes([row[24], row[25]])))?;
            rest = behind;
            let number = u32::from_le_bytes(row[..4].try_into().expect("four bytes"));
            let queue = u32::from_le_bytes(row[4..8].try_into().expect("four bytes"));
            queues.push(MapRow {
                number: QueueNumber(number),
                name: QueueName { topic: String::from_utf8(topic.to_vec()).ok()?, queue },
                next: i64::from_le_bytes(row[8..16].try_into().expect("eight bytes")),
                min: i64::from_le_bytes(row[16..24].try_into().expect("eight bytes")),
            });
        }
        Some(Self {
            store_id: long(16),
            generation: u32::try_from(long(24)).ok()?,
            sequence: long(32),
            epoch: word(40),
            shard: word(44),
            clean: word(48) & 1 == 1,
            at: (long(64) != NOWHERE).then(|| LogPosition { segment: long(64), offset: word(72) }),
            number_high: word(76),
            queues,
        })
    }
}

pub(crate) fn dir(dir: &Path) -> PathBuf {
    dir.join("queues")
}

pub(crate) fn path(store: &Path, shard: u32, sequence: u64) -> PathBuf {
    dir(store).join(format!("{shard:04}.{}", sequence % 2))
}

/// The newest valid map of this generation.
pub(crate) async fn read<E: Env>(
    env: &E,
    store: &Path,
    shard: u32,
    store_id: u64,
    generation: u32,
) -> Result<Found, Error> {
    let mut found = Found::Absent;
    for slot in 0..2 {
        let Some(bytes) = whole_file::read_durably(env, &path(store, shard, slot)).await? else { continue };
        let map = QueueMap::decode(&bytes)
            .filter(|map| map.store_id == store_id && map.shard == shard && map.generation == generation);
        found = match (found, map) {
            (Found::Map(old), Some(new)) if old.sequence > new.sequence => Found::Map(old),
            (_, Some(new)) => Found::Map(new),
            (Found::Absent, None) => Found::Damaged,
            (other, None) => other,
        };
    }
    Ok(found)
}

/// Writes the map into the file that its sequence names and waits until it is durable.
pub(crate) async fn write<E: Env>(env: &E, store: &Path, map: &QueueMap) -> Result<(), Error> {
    let path = path(store, map.shard, map.sequence);
    let file = env.open(&path, OpenMode::CREATE).await.map_err(Error::io("open", &path))?;
    let bytes = map.encode();
    let written = async {
        for (n, piece) in bytes.chunks(PIECE_BYTES).enumerate() {
            let at = (n * PIECE_BYTES) as u64;
            file.write_at(at, piece.len(), |out| out.copy_from_slice(piece)).await?;
        }
        file.sync().await
    }
    .await;
    file.close().await.map_err(Error::io("close", &path))?;
    written.map_err(Error::io("write", &path))?;
    let dir = dir(store);
    env.sync_dir(&dir).await.map_err(Error::io("sync", &dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_come_back_and_every_truncation_is_noticed() {
        let map = QueueMap {
            store_id: 1,
            generation: 2,
            sequence: 3,
            epoch: 4,
            shard: 5,
            clean: true,
            at: Some(LogPosition { segment: 6, offset: 7 }),
            number_high: 8,
            queues: (0..50)
                .map(|n| MapRow {
                    number: QueueNumber(n),
                    name: QueueName { topic: "%RETRY%group".repeat(n as usize % 3), queue: n },
                    next: i64::from(n) * 10,
                    min: i64::from(n),
                })
                .collect(),
        };
        let bytes = map.encode();
        assert_eq!(QueueMap::decode(&bytes).as_ref(), Some(&map));
        let len = HEADER_BYTES + map.queues.iter().map(|row| ROW_BYTES + row.name.topic.len()).sum::<usize>();
        for cut in 0..len {
            assert_eq!(QueueMap::decode(&bytes[..cut]), None, "cut at {cut}");
        }
        for n in 0..len {
            let mut bad = bytes.clone();
            bad[n] ^= 4;
            assert_eq!(QueueMap::decode(&bad), None, "byte {n}");
        }
        let empty = QueueMap { at: None, queues: Vec::new(), clean: false, ..map };
        assert_eq!(QueueMap::decode(&empty.encode()), Some(empty));
    }
}
