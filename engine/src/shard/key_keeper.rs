//! Keeps the key files: finds those of earlier starts, writes what waits, and reads the log where keys are unknown.
//!
//! A key file is written only when the log is durable as far as it reaches, so a power cut cannot leave one that
//! speaks of other records than the log. Works in small slices, as `sealer` does.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use super::Shard;
use super::keys::{Gap, KeyIndex};
use crate::env::{Env, File, OpenMode};
use crate::error::Error;
use crate::frame::{Kind, PREAMBLE_BYTES, Seed};
use crate::key_buffer::{KeyBuffer, Sample, Stretch, TO_SEGMENT_END, hash_of};
use crate::key_file::{self, KeyHeader, KeyWriter, bucket_of, buckets_for};
use crate::limits::{FIRST_FRAME, KEY_REBUILD_BYTES};
use crate::offset::LogPosition;
use crate::segment;
use crate::store::{Scan, records};

const RETRY_US: u64 = 1_000_000;
/// Until the log is durable as far as a buffer reaches.
const DURABLE_POLL_US: u64 = 20_000;
/// Entries between two looks at the clock.
const STRIDE: usize = 4096;

impl<E: Env> Shard<E> {
    pub(super) async fn keep_keys(self: Rc<Self>) {
        let Some(keys) = &self.keys else { return };
        // The same trouble is said once.
        let mut said = String::new();
        let mut outcome = self.load_keys(keys).await;
        keys.is_loaded.set(true);
        keys.loaded.announce();
        while self.is_running() {
            if let Err(error) = &outcome {
                self.remember(error);
                if error.to_string() != said {
                    said = error.to_string();
                    tracing::warn!(shard = self.index, %error, "the key index is behind");
                }
                self.env.sleep_us(RETRY_US).await;
            }
            let due = self.due_keys(keys);
            outcome = match &due {
                Some(group) => self.write_keys(keys, group).await,
                None => match self.newest_gap(keys) {
                    Some(gap) => self.mend_gap(keys, gap).await,
                    None => {
                        self.await_work(keys).await;
                        Ok(())
                    }
                },
            };
        }
    }

    async fn await_work(&self, keys: &KeyIndex) {
        let active = self.log.borrow().active().number;
        let is_left = |segment: u64| segment != active;
        let waits = keys.waiting.borrow().iter().any(|buffer| is_left(buffer.stretch.segment))
            || entries(&keys.waiting.borrow()) >= keys.part_entries
            || !keys.gaps.borrow().is_empty();
        if waits {
            // Nobody says when the log has become durable.
            self.env.sleep_us(DURABLE_POLL_US).await;
        } else {
            keys.work.notified().await;
        }
    }

    /// Finds the key files of earlier starts; what they leave is a gap.
    async fn load_keys(&self, keys: &KeyIndex) -> Result<(), Error> {
        let dir = segment::log_dir(&self.options.dir);
        let mut files: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        let names = self.env.list(&dir).await;
        for (segment, from) in names.iter().flatten().filter_map(|name| segment::key_file_in(name)) {
            files.entry(segment).or_default().push(from);
        }
        let sealed = keys.found_sealed.iter().map(|&segment| (segment, TO_SEGMENT_END));
        let active = (keys.found_end.segment, keys.found_end.offset);
        let mut outcome = names.map(|_| ()).map_err(Error::io("list", &dir));
        for (segment, end) in sealed.chain([active]) {
            if !self.has_segment(segment) {
                continue;
            }
            let mut at = FIRST_FRAME;
            // Names are sorted, and so are the places they tell.
            for from in files.remove(&segment).unwrap_or_default() {
                match self.load_part(segment, from, at, end).await {
                    Ok(Some(part)) => {
                        let Stretch { from, to, .. } = part.stretch;
                        if at < from {
                            keys.add_gap(Gap { segment, from: at, to: from });
                        }
                        at = to;
                        keys.parts.borrow_mut().push(Rc::new(part));
                    }
                    Ok(None) => {}
                    Err(error) => outcome = Err(error),
                }
            }
            if at < end {
                keys.add_gap(Gap { segment, from: at, to: end });
            }
        }
        outcome
    }

    /// The header of a key file that says something new about `at..end`; any other is removed.
    async fn load_part(
        &self,
        segment: u64,
        from: u32,
        at: u32,
        end: u32,
    ) -> Result<Option<KeyHeader>, Error> {
        let path = segment::key_path(&self.options.dir, segment, from);
        let header = key_file::read_header(&self.env, &path, self.store_id, segment).await?;
        let fits = |header: &KeyHeader| header.stretch.from == from && from >= at && header.stretch.to <= end;
        if let Some(header) = header.filter(fits) {
            return Ok(Some(header));
        }
        match self.env.remove(&path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            removed => removed.map(|()| None).map_err(Error::io("remove", &path)),
        }
    }

    /// Buffers that shall be one file now: they follow each other, and are many enough or of a sealed segment.
    fn due_keys(&self, keys: &KeyIndex) -> Option<Vec<Rc<KeyBuffer>>> {
        let active = self.log.borrow().active().number;
        let groups = groups(&keys.waiting.borrow(), keys.part_entries);
        groups.into_iter().find(|group| {
            let last = group[group.len() - 1].stretch;
            (last.segment != active || entries(group) >= keys.part_entries)
                && self.is_durable_to(last.segment, last.to)
        })
    }

    /// The newest gap in what is on disk.
    fn newest_gap(&self, keys: &KeyIndex) -> Option<Gap> {
        keys.gaps.borrow().iter().rev().find(|gap| self.is_durable_to(gap.segment, gap.to)).copied()
    }

    fn is_durable_to(&self, segment: u64, to: u32) -> bool {
        self.marks.durable() >= LogPosition { segment, offset: to }
            || self.sealed.borrow().iter().any(|sealed| sealed.number == segment)
    }

    async fn write_keys(&self, keys: &KeyIndex, group: &[Rc<KeyBuffer>]) -> Result<(), Error> {
        let header = self.write_key_file(group).await?;
        let Stretch { segment, from, .. } = header.stretch;
        keys.waiting.borrow_mut().retain(|buffer| !group.iter().any(|other| Rc::ptr_eq(buffer, other)));
        if self.has_segment(segment) {
            keys.parts.borrow_mut().push(Rc::new(header));
            return Ok(());
        }
        // Retention took the segment meanwhile.
        let path = segment::key_path(&self.options.dir, segment, from);
        self.env.remove(&path).await.map_err(Error::io("remove", &path))
    }

    /// Sorts the entries by bucket and writes them: one pass to count, one to put each in its place.
    async fn write_key_file(&self, group: &[Rc<KeyBuffer>]) -> Result<KeyHeader, Error> {
        let (first, last) = (group[0].stretch, group[group.len() - 1].stretch);
        let times = group.iter().map(|buffer| (buffer.stretch.first_ms, buffer.stretch.last_ms));
        let (first_ms, last_ms) =
            times.fold((first.first_ms, 0), |all, each| (all.0.min(each.0), all.1.max(each.1)));
        let stretch = Stretch { to: last.to, first_ms, last_ms, ..first };
        let entries = entries(group);
        let buckets = buckets_for(entries) as u32;
        let chunks: Vec<_> = group.iter().flat_map(|buffer| buffer.chunks()).collect();
        let mut slice = self.env.monotonic_us();

        let mut starts = vec![0u32; buckets as usize + 1];
        for piece in chunks.iter().flat_map(|chunk| chunk.chunks(STRIDE)) {
            for &entry in piece {
                starts[bucket_of(hash_of(entry), buckets) + 1] += 1;
            }
            self.breathe(&mut slice).await;
        }
        for bucket in 0..buckets as usize {
            starts[bucket + 1] += starts[bucket];
        }
        let mut next = starts.clone();
        let mut sorted = vec![0u64; entries];
        for piece in chunks.iter().flat_map(|chunk| chunk.chunks(STRIDE)) {
            for &entry in piece {
                let place = &mut next[bucket_of(hash_of(entry), buckets)];
                sorted[*place as usize] = entry;
                *place += 1;
            }
            self.breathe(&mut slice).await;
        }

        let samples: Vec<Sample> = group.iter().flat_map(|buffer| buffer.samples.iter().copied()).collect();
        let header =
            KeyHeader { store_id: self.store_id, stretch, entries: entries as u32, buckets, samples };
        let path = segment::key_path(&self.options.dir, stretch.segment, stretch.from);
        let mut writer = KeyWriter::create(&self.env, &path, &header, &starts).await?;
        for page in sorted.chunks(key_file::PAGE_ENTRIES) {
            writer.push_entries(page).await?;
            self.breathe(&mut slice).await;
        }
        writer.finish().await?;
        Ok(header)
    }

    /// Reads the start of a gap from the log, as much as one key file takes.
    async fn mend_gap(&self, keys: &KeyIndex, gap: Gap) -> Result<(), Error> {
        let path = segment::log_path(&self.options.dir, gap.segment);
        let file = match self.env.open(&path, OpenMode::READ).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                keys.shrink_gap(gap, gap.to);
                return Ok(());
            }
            other => other.map_err(Error::io("open", &path))?,
        };
        let seed = Seed::new(self.store_id, gap.segment);
        let mut scan = Scan::<E>::new(&file, &path, seed, self.options.segment_size_bytes, self.epoch);
        scan.start_at(gap.from);
        let mut buffer = KeyBuffer::new(gap.segment, gap.from, keys.part_entries, 0);
        let mut last_ms = 0;
        let mut slice = self.env.monotonic_us();
        let end = loop {
            if scan.position() >= gap.to || buffer.len() >= keys.part_entries {
                break Ok(scan.position().min(gap.to));
            }
            if !self.is_running() {
                break Ok(gap.from);
            }
            match scan.next().await {
                Ok(Ok(frame)) if frame.preamble.kind == Kind::RECORDS => {
                    for (position, meta) in records(&*self.schema, &frame).flatten() {
                        let from = (position - frame.position) as usize - PREAMBLE_BYTES;
                        let record = &frame.payload[from..from + meta.len as usize];
                        last_ms = meta.store_timestamp_ms;
                        self.schema.keys(record, &mut |hash| buffer.push(hash, position, last_ms));
                    }
                }
                Ok(Ok(_)) => {}
                // The segment's end, or damage: behind it nothing can be read anyway.
                Ok(Err(_)) => break Ok(gap.to),
                Err(error) => break Err(error),
            }
            self.breathe(&mut slice).await;
        };
        file.close().await.map_err(Error::io("close", &path))?;
        let end = end?;
        if end > gap.from && self.has_segment(gap.segment) {
            buffer.close(end, last_ms);
            keys.add_waiting(buffer);
        }
        keys.shrink_gap(gap, end);
        Ok(())
    }

    /// At an orderly end: what the next start would take long to read again. Nothing is lost without it.
    pub(super) async fn write_last_keys(&self) {
        let Some(keys) = &self.keys else { return };
        let (end, last_ms) = {
            let log = self.log.borrow();
            (log.position(), log.last_ms)
        };
        keys.close(end.offset, end, last_ms);
        let least = KEY_REBUILD_BYTES.min((self.options.segment_size_bytes / 8) as u32);
        let groups = groups(&keys.waiting.borrow(), keys.part_entries);
        for group in groups {
            let (first, last) = (group[0].stretch, group[group.len() - 1].stretch);
            if last.to - first.from < least {
                continue;
            }
            if let Err(error) = self.write_keys(keys, &group).await {
                self.remember(&error);
                tracing::warn!(shard = self.index, %error, "the next start reads keys from the log");
                return;
            }
        }
    }
}

fn entries(group: &[Rc<KeyBuffer>]) -> usize {
    group.iter().map(|buffer| buffer.len()).sum()
}

/// Buffers that follow each other in one segment, as many as one file shall hold.
fn groups(waiting: &[Rc<KeyBuffer>], part_entries: usize) -> Vec<Vec<Rc<KeyBuffer>>> {
    let mut groups: Vec<Vec<Rc<KeyBuffer>>> = Vec::new();
    for buffer in waiting {
        match groups.last_mut() {
            Some(group)
                if group[group.len() - 1].stretch.segment == buffer.stretch.segment
                    && group[group.len() - 1].stretch.to == buffer.stretch.from
                    && entries(group) < part_entries =>
            {
                group.push(Rc::clone(buffer));
            }
            _ => groups.push(vec![Rc::clone(buffer)]),
        }
    }
    groups
}
