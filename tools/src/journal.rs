//! What a producer was told, on disk: one entry per attempt, so that `verify` can hold the broker to it.
//!
//! ```text
//! head   magic "rmqjrnl2" · run u64 · seed u64 · body size from u32 · to u32 · compressible, in thousandths u32
//!        batch u32 · topic length u32 · topic
//! entry  kind u8 · connection u24 · queue u32 · request u64 · offset i64 · code i32 · checksum u32    (32 bytes)
//! ```
//! Big-endian. An entry covers all messages of one request: message sequences `request * batch ..+ batch`, queue
//! offsets `offset ..+ batch`; its checksum is the exclusive or of theirs. The file belongs to the generator, which
//! outlives the broker, so the page cache is durable enough; a torn last entry is dropped.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use rmq_protocol::FRAME_SIZE_MAX;

use crate::body::{BodyShape, HEADER_BYTES};

const MAGIC: &[u8; 8] = b"rmqjrnl2";
pub const ENTRY_BYTES: usize = 32;
const BATCH_BYTES: usize = 4096 * ENTRY_BYTES;
const HEAD_BYTES: usize = 44;
const TOPIC_BYTES_MAX: usize = 32 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalHead {
    pub run: u64,
    pub body: BodyShape,
    pub batch: u32,
    pub topic: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored, as the broker says, at `offset`.
    Acknowledged { offset: i64 },
    /// Refused with this response code.
    Refused { code: i32 },
    /// Sent, and no answer came: it may be there or not, but not twice.
    Unanswered,
    /// Taken, and to be stored where nobody knows yet: a delayed message, or a transaction that was committed.
    Promised,
    /// A transaction that was rolled back: it must never be seen.
    RolledBack,
    /// The connection made `request` requests in all; nothing beyond can exist.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub connection: u32,
    pub queue: u32,
    pub request: u64,
    pub checksum: u32,
    pub outcome: Outcome,
}

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is not a journal of this tool: {what}")]
    Foreign { path: PathBuf, what: &'static str },
}

impl Entry {
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (kind, offset, code) = match self.outcome {
            Outcome::Acknowledged { offset } => (1, offset, 0),
            Outcome::Refused { code } => (2, -1, code),
            Outcome::Unanswered => (3, -1, 0),
            Outcome::Closed => (4, -1, 0),
            Outcome::Promised => (5, -1, 0),
            Outcome::RolledBack => (6, -1, 0),
        };
        let mut bytes = [0; ENTRY_BYTES];
        bytes[0..4].copy_from_slice(&(kind << 24 | self.connection & 0xff_ffff).to_be_bytes());
        bytes[4..8].copy_from_slice(&self.queue.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.request.to_be_bytes());
        bytes[16..24].copy_from_slice(&offset.to_be_bytes());
        bytes[24..28].copy_from_slice(&i32::to_be_bytes(code));
        bytes[28..32].copy_from_slice(&self.checksum.to_be_bytes());
        out.extend_from_slice(&bytes);
    }

    fn decode(bytes: &[u8; ENTRY_BYTES]) -> Option<Self> {
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let outcome = match bytes[0] {
            1 => Outcome::Acknowledged { offset: long(16) as i64 },
            2 => Outcome::Refused { code: word(24) as i32 },
            3 => Outcome::Unanswered,
            4 => Outcome::Closed,
            5 => Outcome::Promised,
            6 => Outcome::RolledBack,
            _ => return None,
        };
        Some(Self {
            connection: word(0) & 0xff_ffff,
            queue: word(4),
            request: long(8),
            checksum: word(28),
            outcome,
        })
    }
}

/// Takes entries from one load thread, hands them to the writing thread a few thousand at a time.
pub struct JournalFeed {
    buffer: Vec<u8>,
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
}

impl JournalFeed {
    pub fn record(&mut self, entry: &Entry) {
        entry.encode(&mut self.buffer);
        if self.buffer.len() >= BATCH_BYTES {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        let empty = self.empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(BATCH_BYTES + ENTRY_BYTES));
        // The writer ends early only after a failed write, which `finish` reports.
        let _ = self.full.send(std::mem::replace(&mut self.buffer, empty));
    }
}

impl Drop for JournalFeed {
    fn drop(&mut self) {
        if !self.buffer.is_empty() {
            self.hand_over();
        }
    }
}

pub struct JournalWriter {
    path: PathBuf,
    full: SyncSender<Vec<u8>>,
    feeds: Sender<Sender<Vec<u8>>>,
    thread: JoinHandle<io::Result<()>>,
}

impl JournalWriter {
    pub fn create(path: &Path, head: &JournalHead) -> Result<Self, JournalError> {
        let failed = |source| JournalError::Io { path: path.to_owned(), source };
        let mut file = File::create(path).map_err(failed)?;
        file.write_all(&encode_head(head)).map_err(failed)?;
        // Bounded: when the disk cannot follow, the load waits instead of filling the memory.
        let (full, full_buffers) = sync_channel::<Vec<u8>>(64);
        let (feeds, new_feeds) = channel();
        let thread = std::thread::spawn(move || write_all(file, full_buffers, new_feeds));
        Ok(Self { path: path.to_owned(), full, feeds, thread })
    }

    pub fn feed(&self) -> JournalFeed {
        let (used, empty) = channel();
        let _ = self.feeds.send(used);
        JournalFeed { buffer: Vec::with_capacity(BATCH_BYTES + ENTRY_BYTES), full: self.full.clone(), empty }
    }

    /// Waits until everything is in the file; call it after all feeds are dropped.
    pub fn finish(self) -> Result<(), JournalError> {
        drop(self.full);
        let written = self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the writer panicked")));
        written.map_err(|source| JournalError::Io { path: self.path, source })
    }
}

fn write_all(
    mut file: File,
    full: Receiver<Vec<u8>>,
    new_feeds: Receiver<Sender<Vec<u8>>>,
) -> io::Result<()> {
    let mut feeds = Vec::new();
    for (turn, mut buffer) in full.into_iter().enumerate() {
        file.write_all(&buffer)?;
        buffer.clear();
        feeds.extend(new_feeds.try_iter());
        // Empty buffers go round: it matters only that somebody uses them again.
        if let Some(feed) = feeds.get(turn % feeds.len().max(1)) {
            let _ = feed.send(buffer);
        }
    }
    Ok(())
}

fn encode_head(head: &JournalHead) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&head.run.to_be_bytes());
    bytes.extend_from_slice(&head.body.seed.to_be_bytes());
    bytes.extend_from_slice(&head.body.size_min.to_be_bytes());
    bytes.extend_from_slice(&head.body.size_max.to_be_bytes());
    bytes.extend_from_slice(&head.body.compressible_permille.to_be_bytes());
    bytes.extend_from_slice(&head.batch.to_be_bytes());
    bytes.extend_from_slice(&(head.topic.len() as u32).to_be_bytes());
    bytes.extend_from_slice(head.topic.as_bytes());
    bytes
}

pub struct JournalReader {
    path: PathBuf,
    head: JournalHead,
    input: BufReader<File>,
}

impl JournalReader {
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let failed = |source| JournalError::Io { path: path.to_owned(), source };
        let foreign = |what| JournalError::Foreign { path: path.to_owned(), what };
        let mut input = BufReader::with_capacity(1 << 20, File::open(path).map_err(failed)?);
        let mut fixed = [0; HEAD_BYTES];
        input.read_exact(&mut fixed).map_err(|_| foreign("it is too short"))?;
        if &fixed[0..8] != MAGIC {
            return Err(foreign("its first bytes are not rmqjrnl2"));
        }
        let word = |at: usize| u32::from_be_bytes(fixed[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_be_bytes(fixed[at..at + 8].try_into().expect("eight bytes"));
        let body = BodyShape {
            seed: long(16),
            size_min: word(24),
            size_max: word(28),
            compressible_permille: word(32),
        };
        let topic_bytes = word(40) as usize;
        let sizes = HEADER_BYTES as u32..=FRAME_SIZE_MAX as u32;
        let sound = sizes.contains(&body.size_min) && sizes.contains(&body.size_max);
        if topic_bytes > TOPIC_BYTES_MAX || word(36) == 0 || !sound || body.size_min > body.size_max {
            return Err(foreign("its head is damaged"));
        }
        let mut topic = vec![0; topic_bytes];
        input.read_exact(&mut topic).map_err(|_| foreign("it ends within its head"))?;
        let head = JournalHead {
            run: long(8),
            body,
            batch: word(36),
            topic: String::from_utf8(topic).map_err(|_| foreign("its topic is not text"))?,
        };
        Ok(Self { path: path.to_owned(), head, input })
    }

    pub fn head(&self) -> &JournalHead {
        &self.head
    }

    /// The next entry; `None` at the end, where a torn entry counts as not written.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, JournalError> {
        let mut bytes = [0; ENTRY_BYTES];
        match self.input.read_exact(&mut bytes) {
            Ok(()) => Entry::decode(&bytes).map(Some).ok_or_else(|| JournalError::Foreign {
                path: self.path.clone(),
                what: "an entry of unknown kind",
            }),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(source) => Err(JournalError::Io { path: self.path.clone(), source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> JournalHead {
        JournalHead { run: 42, body: BodyShape::fixed(128), batch: 1, topic: "T".into() }
    }

    fn file(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("rmq-bench-journal-{}-{name}", std::process::id()))
    }

    #[test]
    fn what_is_recorded_is_read_back() {
        let path = file("round");
        let writer = JournalWriter::create(&path, &head()).unwrap();
        let outcomes = [
            Outcome::Acknowledged { offset: 1 << 40 },
            Outcome::Refused { code: -3 },
            Outcome::Unanswered,
            Outcome::Closed,
            Outcome::Promised,
            Outcome::RolledBack,
        ];
        let entries: Vec<Entry> = (0..10_000u64)
            .map(|request| Entry {
                connection: 77,
                queue: 5,
                request,
                checksum: !0,
                outcome: outcomes[request as usize % outcomes.len()],
            })
            .collect();
        let mut feed = writer.feed();
        entries.iter().for_each(|entry| feed.record(entry));
        drop(feed);
        writer.finish().unwrap();

        let mut reader = JournalReader::open(&path).unwrap();
        assert_eq!(reader.head(), &head());
        let mut read = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            read.push(entry);
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read, entries);
    }

    #[test]
    fn a_torn_last_entry_counts_as_not_written() {
        let path = file("torn");
        let mut bytes = encode_head(&head());
        let entry = Entry {
            connection: 1,
            queue: 0,
            request: 9,
            checksum: 3,
            outcome: Outcome::Acknowledged { offset: 4 },
        };
        entry.encode(&mut bytes);
        entry.encode(&mut bytes);
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let mut reader = JournalReader::open(&path).unwrap();
        assert_eq!(reader.next_entry().unwrap(), Some(entry));
        assert_eq!(reader.next_entry().unwrap(), None);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn another_file_is_refused_by_name() {
        let path = file("foreign");
        std::fs::write(&path, [7; 64]).unwrap();
        let error = JournalReader::open(&path).err().unwrap().to_string();
        std::fs::remove_file(&path).unwrap();
        assert!(error.contains("not a journal"), "{error}");
    }
}
