//! Finding records by key: newest first, from memory and key files, each proven by the record itself.
//!
//! A hash only says where to look. Whether the record there has the key, the caller's closure decides; so neither
//! collisions nor anything that is wrong in a key file shows. Runs in the class of reads, a page at a time.

use std::rc::Rc;

use super::Shard;
use super::keys::{Gap, KeyIndex};
use crate::env::Env;
use crate::error::Error;
use crate::key_buffer::{KeyEntry, Stretch, TO_SEGMENT_END, hash_of, position_of, positions_between};
use crate::key_file::{self, KeyHeader, bucket_of, directory_place, entry_place};
use crate::limits::KEY_CANDIDATES_MAX;
use crate::offset::{LogPosition, PhysicalOffset};

#[derive(Clone, Copy, Debug)]
pub struct KeyQuery {
    pub hash: u32,
    /// Store times, both included.
    pub begin_ms: i64,
    pub end_ms: i64,
    /// The newest so many; at least one, whatever its size, and then not more bytes than this.
    pub records_max: usize,
    pub bytes_max: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    pub store_timestamp_ms: i64,
    pub physical_offset: PhysicalOffset,
    pub bytes: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRecords {
    /// Oldest first.
    pub records: Vec<KeyRecord>,
    /// How far the index reaches: store time and end of the newest acknowledged byte.
    pub last_ms: i64,
    pub last_offset: PhysicalOffset,
    /// Bytes of the log whose keys are not known yet: records there are missing in the answer.
    pub unknown_bytes: u64,
}

/// A stretch to look in.
struct Source {
    segment: u64,
    last_ms: i64,
    place: Place,
}

enum Place {
    /// Chunks of a buffer, and the positions that count.
    Memory {
        chunks: Vec<Rc<Vec<KeyEntry>>>,
        between: (u32, u32),
    },
    File(Rc<KeyHeader>),
}

/// Whether to go on in this stretch.
#[derive(PartialEq)]
enum Further {
    Yes,
    No,
}

struct Search<F> {
    query: KeyQuery,
    accepts: F,
    found: Vec<KeyRecord>,
    bytes: usize,
    candidates: usize,
}

impl<E: Env> Shard<E> {
    /// The newest records with a key that hashes so and that `accepts` takes. Without an index of keys: none.
    pub async fn query_key(
        self: Rc<Self>,
        query: KeyQuery,
        accepts: impl FnMut(&[u8]) -> bool + 'static,
    ) -> Result<KeyRecords, Error> {
        let shard = Rc::clone(&self);
        self.in_reads(async move {
            let Some(keys) = &shard.keys else { return Ok(KeyRecords::default()) };
            keys.loaded.wait_for(|| keys.is_loaded.get()).await;
            shard.search_keys(keys, query, accepts).await
        })
        .await
    }

    async fn search_keys(
        self: &Rc<Self>,
        keys: &KeyIndex,
        query: KeyQuery,
        accepts: impl FnMut(&[u8]) -> bool,
    ) -> Result<KeyRecords, Error> {
        let mut search = Search { query, accepts, found: Vec::new(), bytes: 0, candidates: 0 };
        let sources = self.key_sources(keys, &query);
        // At the same moment: what is mended from here on is in neither.
        let mut unknown_bytes = keys.gaps.borrow().iter().map(|gap| self.gap_bytes(gap)).sum();
        for source in sources {
            if search.is_complete_above(source.last_ms) || search.candidates > KEY_CANDIDATES_MAX {
                break;
            }
            match source.place {
                Place::Memory { chunks, between } => {
                    self.search_memory(source.segment, &chunks, between, &mut search).await?;
                }
                Place::File(part) => {
                    if !self.search_file(&part, &mut search).await? {
                        let Stretch { segment, from, to, .. } = part.stretch;
                        unknown_bytes += self.gap_bytes(&Gap { segment, from, to });
                        self.drop_part(keys, &part);
                    }
                }
            }
        }
        let last_ms = self.log.borrow().last_ms;
        let last_offset = self.physical(self.acknowledged());
        search.found.reverse();
        Ok(KeyRecords { records: search.found, last_ms, last_offset, unknown_bytes })
    }

    fn gap_bytes(&self, gap: &Gap) -> u64 {
        let size = self.options.segment_size_bytes;
        let to = if gap.to == TO_SEGMENT_END { size } else { u64::from(gap.to) };
        to.saturating_sub(u64::from(gap.from))
    }

    /// Every stretch with records of these times, newest first.
    fn key_sources(&self, keys: &KeyIndex, query: &KeyQuery) -> Vec<Source> {
        let mut sources = Vec::new();
        let mut add_memory = |buffer: &crate::key_buffer::KeyBuffer, last_ms| {
            let between = positions_between(&buffer.samples, query.begin_ms, query.end_ms);
            let place = Place::Memory { chunks: buffer.chunks(), between };
            sources.push(Source { segment: buffer.stretch.segment, last_ms, place });
        };
        add_memory(&keys.open.borrow(), i64::MAX);
        let waiting = keys.waiting.borrow();
        waiting.iter().for_each(|buffer| add_memory(buffer, buffer.stretch.last_ms));
        let is_in_time = |part: &&Rc<KeyHeader>| {
            part.stretch.first_ms <= query.end_ms && part.stretch.last_ms >= query.begin_ms
        };
        let parts = keys.parts.borrow();
        sources.extend(parts.iter().filter(is_in_time).map(|part| Source {
            segment: part.stretch.segment,
            last_ms: part.stretch.last_ms,
            place: Place::File(Rc::clone(part)),
        }));
        sources.sort_by_key(|source| std::cmp::Reverse((source.last_ms, source.segment)));
        sources
    }

    async fn search_memory<F: FnMut(&[u8]) -> bool>(
        self: &Rc<Self>,
        segment: u64,
        chunks: &[Rc<Vec<KeyEntry>>],
        (from, to): (u32, u32),
        search: &mut Search<F>,
    ) -> Result<(), Error> {
        let hash = search.query.hash;
        let mut slice = self.env.monotonic_us();
        for chunk in chunks.iter().rev() {
            let is_wanted =
                |entry: KeyEntry| hash_of(entry) == hash && (from..to).contains(&position_of(entry));
            let mut before = chunk.len();
            while let Some(at) = chunk[..before].iter().rposition(|&entry| is_wanted(entry)) {
                let at_record = LogPosition { segment, offset: position_of(chunk[at]) };
                if self.look_at(at_record, search).await? == Further::No {
                    return Ok(());
                }
                before = at;
            }
            self.breathe(&mut slice).await;
        }
        Ok(())
    }

    /// False if the file is damaged.
    async fn search_file<F: FnMut(&[u8]) -> bool>(
        self: &Rc<Self>,
        part: &KeyHeader,
        search: &mut Search<F>,
    ) -> Result<bool, Error> {
        let query = search.query;
        let bucket = bucket_of(query.hash, part.buckets);
        let (block, word) = directory_place(bucket);
        let Some(page) = self.key_page(part, block).await? else { return Ok(false) };
        let (begin, mut end) = (key_file::word_in(&page, word), key_file::word_in(&page, word + 1));
        if begin > end || end > part.entries as usize {
            return Ok(false);
        }
        let (from, to) = positions_between(&part.samples, query.begin_ms, query.end_ms);
        // Positions ascend within a bucket. One with very many entries is that of a key that every message has.
        if end - begin > 2 * key_file::PAGE_ENTRIES && to != u32::MAX {
            let (mut low, mut high) = (begin, end);
            while low < high {
                let middle = low + (high - low) / 2;
                let Some(entry) = self.key_entry(part, middle).await? else { return Ok(false) };
                if position_of(entry) < to { low = middle + 1 } else { high = middle }
            }
            end = low;
        }
        while begin < end {
            let (block, last) = entry_place(end - 1, part.buckets);
            let Some(page) = self.key_page(part, block).await? else { return Ok(false) };
            let first = last - last.min(end - 1 - begin);
            for place in (first..=last).rev() {
                let entry = key_file::entry_in(&page, place);
                let offset = position_of(entry);
                if offset < from {
                    return Ok(true);
                }
                if hash_of(entry) == query.hash && offset < to {
                    let at = LogPosition { segment: part.stretch.segment, offset };
                    if self.look_at(at, search).await? == Further::No {
                        return Ok(true);
                    }
                }
            }
            end -= last - first + 1;
        }
        Ok(true)
    }

    async fn key_entry(&self, part: &KeyHeader, entry: usize) -> Result<Option<KeyEntry>, Error> {
        let (block, place) = entry_place(entry, part.buckets);
        Ok(self.key_page(part, block).await?.map(|page| key_file::entry_in(&page, place)))
    }

    /// `None` if it is damaged or gone.
    async fn key_page(&self, part: &KeyHeader, block: u64) -> Result<Option<Rc<Vec<u8>>>, Error> {
        match self.key_block(part.stretch.segment, part.stretch.from, block).await {
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
            Ok(page) => Ok(key_file::is_intact(&page, block).then_some(page)),
        }
    }

    /// A key file that cannot be used: its stretch is read from the log again.
    fn drop_part(&self, keys: &KeyIndex, part: &Rc<KeyHeader>) {
        let segment = part.stretch.segment;
        let mut is_known = false;
        keys.parts.borrow_mut().retain(|other| {
            let is_it = Rc::ptr_eq(other, part);
            is_known |= is_it;
            !is_it
        });
        if is_known && self.has_segment(segment) {
            tracing::warn!(shard = self.index, segment, "a key file is damaged or gone; it is made again");
            self.forget_blocks(segment);
            keys.add_gap(Gap { segment, from: part.stretch.from, to: part.stretch.to });
            keys.work.notify();
        }
    }

    /// Reads the record that a key may belong to.
    async fn look_at<F: FnMut(&[u8]) -> bool>(
        self: &Rc<Self>,
        at: LogPosition,
        search: &mut Search<F>,
    ) -> Result<Further, Error> {
        search.candidates += 1;
        if search.candidates > KEY_CANDIDATES_MAX {
            return Ok(Further::No);
        }
        let physical_offset = self.physical(at);
        // Two keys of one record may be equal.
        if search.found.iter().any(|found| found.physical_offset == physical_offset) {
            return Ok(Further::Yes);
        }
        let found = match self.find_record(at).await {
            // A record that rotted does not hide the others.
            Err(Error::Corrupt { .. }) => None,
            found => found?,
        };
        let Some(bytes) = found else { return Ok(Further::Yes) };
        let Some(meta) = self.schema.describe(&bytes) else { return Ok(Further::Yes) };
        let store_timestamp_ms = meta.store_timestamp_ms;
        // Store times never go up towards the start of a stretch.
        if store_timestamp_ms < search.query.begin_ms || search.is_complete_above(store_timestamp_ms) {
            return Ok(Further::No);
        }
        if store_timestamp_ms <= search.query.end_ms && (search.accepts)(&bytes) {
            search.add(KeyRecord { store_timestamp_ms, physical_offset, bytes });
        }
        Ok(Further::Yes)
    }
}

impl<F> Search<F> {
    /// Nothing as old as this would be among the newest.
    fn is_complete_above(&self, ms: i64) -> bool {
        self.found.len() >= self.query.records_max
            && self.found.last().is_some_and(|oldest| ms <= oldest.store_timestamp_ms)
            || self.query.records_max == 0
            || self.bytes >= self.query.bytes_max
    }

    /// Keeps the newest, newest first.
    fn add(&mut self, record: KeyRecord) {
        if !self.found.is_empty() && self.bytes + record.bytes.len() > self.query.bytes_max {
            self.bytes = self.query.bytes_max;
            return;
        }
        self.bytes += record.bytes.len();
        let age = |record: &KeyRecord| (record.store_timestamp_ms, record.physical_offset);
        let at = self.found.partition_point(|other| age(other) > age(&record));
        self.found.insert(at, record);
        if self.found.len() > self.query.records_max
            && let Some(oldest) = self.found.pop()
        {
            self.bytes -= oldest.bytes.len();
        }
    }
}
