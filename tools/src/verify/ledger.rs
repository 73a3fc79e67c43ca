//! What journals say was sent, arranged so that queues can be held against it offset by offset.

use std::path::Path;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::body::Filler;
use crate::error::Error;
use crate::journal::{JournalReader, Outcome};

#[derive(Default)]
pub struct Ledger {
    pub runs: Vec<Run>,
    run_index: FxHashMap<u64, usize>,
    queues: FxHashMap<u32, Vec<Expected>>,
    pub acknowledged: u64,
    pub unanswered: u64,
    pub refused: u64,
}

pub struct Run {
    pub batch: u64,
    pub filler: Filler,
    pub connections: FxHashMap<u32, Attempts>,
    pub refused_requests: FxHashSet<(u32, u64)>,
    /// Checksums of messages that are owed wherever they turn up; each leaves when it is found.
    pub promised: FxHashMap<(u32, u64), u32>,
    pub rolled_back: FxHashSet<(u32, u64)>,
}

/// What is known of one connection's sends.
#[derive(Default)]
pub struct Attempts {
    /// How many messages it sent in all, once it is known.
    pub total: Option<u64>,
    /// Which of them have been found.
    found: Vec<u64>,
}

/// An acknowledged request: `batch` messages from `offset` on.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    pub offset: i64,
    pub request: u64,
    pub run: u32,
    pub connection: u32,
    pub checksum: u32,
}

impl Ledger {
    /// Adds a journal. Its acknowledgements must lie behind those that were already compared.
    pub fn add(&mut self, path: &Path) -> Result<(), Error> {
        let mut journal = JournalReader::open(path)?;
        let head = journal.head().clone();
        let run = *self.run_index.entry(head.run).or_insert(self.runs.len());
        if run < self.runs.len() {
            return Err(Error::Usage(format!("{}: this run is in another journal already", path.display())));
        }
        let batch = u64::from(head.batch);
        let mut book = Run {
            batch,
            filler: Filler::new(head.body),
            connections: FxHashMap::default(),
            refused_requests: FxHashSet::default(),
            promised: FxHashMap::default(),
            rolled_back: FxHashSet::default(),
        };
        while let Some(entry) = journal.next_entry()? {
            match entry.outcome {
                Outcome::Acknowledged { offset } => {
                    self.acknowledged += batch;
                    self.queues.entry(entry.queue).or_default().push(Expected {
                        offset,
                        request: entry.request,
                        run: run as u32,
                        connection: entry.connection,
                        checksum: entry.checksum,
                    });
                }
                Outcome::Refused { .. } => {
                    self.refused += batch;
                    book.refused_requests.insert((entry.connection, entry.request));
                }
                Outcome::Promised => {
                    self.acknowledged += batch;
                    book.promised.insert((entry.connection, entry.request), entry.checksum);
                }
                Outcome::RolledBack => {
                    book.rolled_back.insert((entry.connection, entry.request));
                }
                Outcome::Unanswered => self.unanswered += batch,
                Outcome::Closed => {
                    book.connections.entry(entry.connection).or_default().total = Some(entry.request * batch);
                }
            }
        }
        self.runs.push(book);
        Ok(())
    }

    /// How many messages are still owed that no offset was told for.
    pub fn promised(&self) -> usize {
        self.runs.iter().map(|run| run.promised.len()).sum()
    }

    pub fn run_of(&self, id: u64) -> Option<usize> {
        self.run_index.get(&id).copied()
    }

    pub fn queues(&self) -> impl Iterator<Item = u32> + '_ {
        self.queues.keys().copied()
    }

    /// Takes what is expected of a queue and has not been taken yet, in offset order.
    pub fn take_expected(&mut self, queue: u32) -> Vec<Expected> {
        let mut expected = self.queues.remove(&queue).unwrap_or_default();
        expected.sort_unstable_by_key(|expected| expected.offset);
        expected
    }
}

impl Attempts {
    /// Marks one message as found; `false` if it had been found before.
    pub fn mark(&mut self, sequence: u64) -> bool {
        let (word, bit) = ((sequence / 64) as usize, 1u64 << (sequence % 64));
        if word >= self.found.len() {
            self.found.resize(word + 1, 0);
        }
        let new = self.found[word] & bit == 0;
        self.found[word] |= bit;
        new
    }
}
