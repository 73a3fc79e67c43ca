//! Finding a log again: queue maps say where the queues stood at one place, index files what sealed segments
//! hold, and the frames behind that place tell the rest.

use std::collections::BTreeMap;
use std::path::Path;

use super::LogEnd;
use super::replay::LeftMemory;
use super::scan::{End, Scan};
use super::walk::Walked;
use crate::entry::{Entries, Entry};
use crate::env::{Env, File, OpenMode};
use crate::error::Error;
use crate::frame::{self, Kind, Label, Seed};
use crate::index_file::{self, Directory, IndexHeader, IndexWriter, Listed};
use crate::limits::{BLOCK_BYTES, FIRST_FRAME};
use crate::offset::{LogPosition, QueueNumber};
use crate::options::StoreOptions;
use crate::queue::{Queue, Run, Span};
use crate::queue_map::QueueMap;
use crate::schema::Schema;
use crate::segment::{self, SegmentHeader};
use crate::superblock::Superblock;

/// All queues of the store while it is being opened.
pub(super) type Queues = BTreeMap<QueueNumber, Queue>;

pub(super) struct Recovery<'a, E: Env> {
    pub env: &'a E,
    pub options: &'a StoreOptions,
    pub schema: &'a dyn Schema,
    /// As the last start left it.
    pub superblock: Superblock,
    pub memory: LeftMemory,
    pub queues: Queues,
    /// No queue number at or above this was seen.
    pub number_high: u32,
    pub last_ms: i64,
    /// The queue maps are gone: everything is taken from the log again.
    pub is_rebuild: bool,
}

/// A log after recovery.
#[derive(Default)]
pub(super) struct RecoveredLog {
    pub sealed: Vec<Sealed>,
    pub active: Option<LogEnd>,
    pub spare: Option<SegmentHeader>,
    /// Behind everything there is.
    pub end: Option<LogPosition>,
}

/// A sealed segment with its index file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sealed {
    pub number: u64,
    /// Newest store time in it.
    pub last_ms: i64,
}

/// Entries found in one segment, by queue.
pub(super) type Runs = BTreeMap<QueueNumber, Run>;

pub(super) const REMEDY: &str = "restore the segment from a backup, or start with a new store directory";

impl<E: Env> Recovery<'_, E> {
    pub fn dir(&self) -> &Path {
        &self.options.dir
    }

    /// Puts a map's queues into the table.
    pub fn take_map(&mut self, map: &QueueMap) {
        self.number_high = self.number_high.max(map.number_high);
        for row in &map.queues {
            self.queues.insert(row.number, Queue::new(row.number, row.name.clone(), row.next));
        }
    }

    /// Without maps, the names of queues whose declarations retention may have taken are in the directories.
    pub async fn take_names(&mut self, chain: &[SegmentHeader]) -> Result<(), Error> {
        for header in chain {
            let path = segment::index_path(self.dir(), header.number);
            let found = index_file::read_directory(self.env, &path, header.store_id, header.number).await?;
            for Listed { number, name, .. } in found.map_or(Vec::new(), |directory| directory.queues) {
                self.number_high = self.number_high.max(number.0 + 1);
                self.queues.entry(number).or_insert_with(|| Queue::new(number, name, 0));
            }
        }
        Ok(())
    }

    /// Recovers one log. `map` is the shard's own; everything before its place is in `queues` already.
    /// A log without a map is covered as a whole if `covered`, and not at all otherwise.
    pub async fn recover_log(
        &mut self,
        chain: &[SegmentHeader],
        map: Option<&QueueMap>,
        covered: bool,
    ) -> Result<RecoveredLog, Error> {
        let mut log = RecoveredLog::default();
        let place = match map {
            Some(map) => map.at.unwrap_or_default(),
            None if covered => LogPosition { segment: u64::MAX, offset: 0 },
            None => LogPosition::default(),
        };
        for (n, header) in chain.iter().enumerate() {
            let successors = chain.len() - n - 1;
            let is_covered = LogPosition { segment: header.number + 1, offset: 0 } <= place;
            if successors > 0 && is_covered && self.take_index(header, &mut log).await? {
                continue;
            }
            if successors <= 1
                && let Some(map) = map
                && self.take_clean_stop(header, map, &mut log).await?
            {
                log.spare = chain.get(n + 1).copied();
                break;
            }
            let walked = self.walk(header, place).await?;
            match walked.how {
                End::Sealed => self.seal(header, walked, &mut log).await?,
                // What follows was prepared, or begun in memory, while this one was written.
                End::Open if self.are_empty(&chain[n + 1..]).await? => {
                    log.spare = chain.get(n + 1).copied();
                    self.remove_empty(chain.get(n + 2..).unwrap_or_default()).await?;
                    self.go_on(header, walked, &mut log).await?;
                    break;
                }
                End::Open => {
                    let path = segment::log_path(self.dir(), header.number);
                    let what = format!("a frame is damaged; segment {} follows", chain[n + 1].number);
                    return Err(Error::corrupt(&path, u64::from(walked.end), what, REMEDY));
                }
            }
        }
        Ok(log)
    }

    /// A sealed segment whose declarations are known: its directory tells where the entries are.
    async fn take_index(&mut self, header: &SegmentHeader, log: &mut RecoveredLog) -> Result<bool, Error> {
        let path = segment::index_path(self.dir(), header.number);
        let found = index_file::read_directory(self.env, &path, header.store_id, header.number).await?;
        let Some(directory) = found.filter(|directory| !directory.header.snapshot) else { return Ok(false) };
        for listed in &directory.queues {
            self.number_high = self.number_high.max(listed.number.0 + 1);
            // Queues that are not in any map were deleted.
            if let Some(queue) = self.queues.get_mut(&listed.number) {
                queue.add_span(listed.span);
            }
        }
        let IndexHeader { end, last_ms, .. } = directory.header;
        self.last_ms = self.last_ms.max(last_ms);
        log.sealed.push(Sealed { number: header.number, last_ms });
        log.end = Some(LogPosition { segment: header.number, offset: end });
        Ok(true)
    }

    /// After a clean stop of the newest start nothing follows the map, and a snapshot has the entries.
    async fn take_clean_stop(
        &mut self,
        header: &SegmentHeader,
        map: &QueueMap,
        log: &mut RecoveredLog,
    ) -> Result<bool, Error> {
        let Some(at) = map.at else { return Ok(false) };
        if !map.clean || map.epoch != self.superblock.epoch || at.segment != header.number {
            return Ok(false);
        }
        let mut last_ms = header.base_ms;
        if at.offset > FIRST_FRAME {
            let path = segment::index_path(self.dir(), header.number);
            let found = index_file::read_directory(self.env, &path, header.store_id, header.number).await?;
            let Some(directory) = found else { return Ok(false) };
            let IndexHeader { end, epoch, snapshot, .. } = directory.header;
            if !snapshot || end != at.offset || epoch != map.epoch {
                return Ok(false);
            }
            let Some(runs) = self.read_runs(&path, &directory).await? else { return Ok(false) };
            last_ms = directory.header.last_ms;
            self.add_runs(runs);
        }
        self.last_ms = self.last_ms.max(last_ms);
        log.active = Some(self.log_end(header, at.offset, last_ms).await?);
        log.end = Some(at);
        Ok(true)
    }

    /// All entries of a snapshot.
    async fn read_runs(&self, path: &Path, directory: &Directory) -> Result<Option<Runs>, Error> {
        const READ_BYTES: usize = 64 * BLOCK_BYTES;
        let file = self.env.open(path, OpenMode::READ).await.map_err(Error::io("open", path))?;
        let mut runs = Runs::new();
        let mut pages = Vec::new();
        let mut pages_at = 0;
        let mut whole = true;
        'queues: for listed in &directory.queues {
            let mut entries = Entries::default();
            for slot in listed.span.entries_at..listed.span.entries_at + listed.span.count {
                let (block, place) = index_file::page_of(slot);
                let at = block * BLOCK_BYTES as u64;
                if at < pages_at || at >= pages_at + pages.len() as u64 {
                    pages = file.read_at(at, READ_BYTES).await.map_err(Error::io("read", path))?;
                    pages_at = at;
                }
                let from = (at - pages_at) as usize;
                let page = pages.get(from..from + BLOCK_BYTES).unwrap_or_default();
                let Some(entry) = index_file::entry_in(page, block, place) else {
                    whole = false;
                    break 'queues;
                };
                entries.push(entry);
            }
            let base_ms = directory.header.base_ms;
            let run = Run { segment: listed.span.segment, base_ms, first: listed.span.first, entries };
            runs.insert(listed.number, run);
        }
        file.close().await.map_err(Error::io("close", path))?;
        Ok(whole.then_some(runs))
    }

    async fn are_empty(&self, chain: &[SegmentHeader]) -> Result<bool, Error> {
        for header in chain {
            if !self.is_empty(header).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Newest first, so that the chain stays whole at every moment.
    async fn remove_empty(&self, chain: &[SegmentHeader]) -> Result<(), Error> {
        let dir = segment::log_dir(self.dir());
        for header in chain.iter().rev() {
            let path = segment::log_path(self.dir(), header.number);
            self.env.remove(&path).await.map_err(Error::io("remove", &path))?;
            self.env.sync_dir(&dir).await.map_err(Error::io("sync", &dir))?;
        }
        Ok(())
    }

    async fn is_empty(&self, header: &SegmentHeader) -> Result<bool, Error> {
        let path = segment::log_path(self.dir(), header.number);
        let file = self.open_locked(&path).await?;
        let seed = Seed::new(header.store_id, header.number);
        let mut scan = Scan::<E>::new(&file, &path, seed, header.size, self.superblock.epoch);
        let is_empty = scan.next().await?.is_err() && scan.position() == FIRST_FRAME;
        file.close().await.map_err(Error::io("close", &path))?;
        Ok(is_empty)
    }

    /// Opens a segment that a killed process may still have requests for, and waits for those.
    pub(super) async fn open_locked(&self, path: &Path) -> Result<E::File, Error> {
        const STEP_US: u64 = 20_000;
        let file = self.env.open(path, OpenMode::WRITE).await.map_err(Error::io("open", path))?;
        let deadline = self.env.monotonic_us() + self.options.lock_wait_ms * 1000;
        while !file.try_lock().map_err(Error::io("lock", path))? {
            if self.env.monotonic_us() >= deadline {
                let holder = "a killed process whose writes the kernel has not finished".into();
                return Err(Error::Locked { path: path.to_owned(), holder });
            }
            self.env.sleep_us(STEP_US).await;
        }
        Ok(file)
    }

    /// A sealed segment without a usable index gets one.
    async fn seal(
        &mut self,
        header: &SegmentHeader,
        walked: Walked,
        log: &mut RecoveredLog,
    ) -> Result<(), Error> {
        let Walked { runs, end, last_ms, .. } = walked;
        self.write_index(header, &runs, end, last_ms).await?;
        log.sealed.push(Sealed { number: header.number, last_ms });
        log.end = Some(LogPosition { segment: header.number, offset: end });
        Ok(())
    }

    async fn write_index(
        &mut self,
        header: &SegmentHeader,
        runs: &Runs,
        end: u32,
        last_ms: i64,
    ) -> Result<(), Error> {
        let listed = runs.iter().filter_map(|(number, run)| {
            let queue = self.queues.get(number)?;
            Some(Listed { number: *number, name: queue.name.clone(), span: span_of(run) })
        });
        let mut directory = Directory {
            header: IndexHeader {
                store_id: header.store_id,
                segment: header.number,
                end,
                epoch: self.superblock.epoch,
                snapshot: false,
                base_ms: header.base_ms,
                last_ms,
            },
            queues: listed.collect(),
        };
        directory.assign_slots();
        let path = segment::index_path(self.dir(), header.number);
        let mut writer = IndexWriter::create(self.env, &path, &directory).await?;
        for listed in &directory.queues {
            for entry in runs[&listed.number].entries.iter() {
                writer.push(entry);
                writer.write_full_pages().await?;
            }
        }
        writer.finish().await?;
        for listed in directory.queues {
            if let Some(queue) = self.queues.get_mut(&listed.number) {
                queue.add_span(listed.span);
            }
        }
        Ok(())
    }

    /// The last segment: appends go on behind its last good frame.
    async fn go_on(
        &mut self,
        header: &SegmentHeader,
        walked: Walked,
        log: &mut RecoveredLog,
    ) -> Result<(), Error> {
        log.active = Some(self.log_end(header, walked.end, walked.last_ms).await?);
        log.end = Some(LogPosition { segment: header.number, offset: walked.end });
        self.add_runs(walked.runs);
        Ok(())
    }

    fn add_runs(&mut self, runs: Runs) {
        for (number, run) in runs {
            if let Some(queue) = self.queues.get_mut(&number) {
                queue.runs.push_back(run);
            }
        }
    }

    async fn log_end(&self, header: &SegmentHeader, end: u32, last_ms: i64) -> Result<LogEnd, Error> {
        let path = segment::log_path(self.dir(), header.number);
        let head_len = end as usize % BLOCK_BYTES;
        let mut head = Vec::new();
        if head_len > 0 {
            let file = self.env.open(&path, OpenMode::READ).await.map_err(Error::io("open", &path))?;
            let at = u64::from(end) - head_len as u64;
            head = file.read_at(at, BLOCK_BYTES).await.map_err(Error::io("read", &path))?;
            file.close().await.map_err(Error::io("close", &path))?;
            head.truncate(head_len);
        }
        Ok(LogEnd { number: header.number, base_ms: header.base_ms, end, head, last_ms })
    }

    /// Ends a log's active segment: its queues go to other shards, and a sealed segment belongs to nobody.
    /// The new epoch is durable by now.
    pub async fn seal_active(
        &mut self,
        header: &SegmentHeader,
        log: &mut RecoveredLog,
        epoch: u32,
    ) -> Result<(), Error> {
        let Some(active) = log.active.take() else { return Ok(()) };
        let path = segment::log_path(self.dir(), active.number);
        let seal_len = frame::frame_len(0);
        let from = active.end as usize - active.head.len();
        let len = (active.head.len() + seal_len).next_multiple_of(BLOCK_BYTES);
        let file = self.open_locked(&path).await?;
        let written = async {
            file.write_at(from as u64, len, |out| {
                out.fill(0);
                let (head, rest) = out.split_at_mut(active.head.len());
                head.copy_from_slice(&active.head);
                let seed = Seed::new(header.store_id, header.number);
                let label = Label { kind: Kind::SEAL, count: 0, queue: 0, epoch };
                frame::finish(&mut rest[..seal_len], 0, label, seed, active.end);
            })
            .await?;
            file.sync().await
        }
        .await;
        file.close().await.map_err(Error::io("close", &path))?;
        written.map_err(Error::io("write", &path))?;
        let mut runs = Runs::new();
        for (number, queue) in &mut self.queues {
            if let Some(at) = queue.runs.iter().position(|run| run.segment == active.number) {
                runs.extend(queue.runs.remove(at).map(|run| (*number, run)));
            }
        }
        let end = active.end + seal_len as u32;
        let walked =
            Walked { runs, end, how: End::Sealed, last_ms: active.last_ms, ..Walked::new(header, path) };
        self.seal(header, walked, log).await?;
        if let Some(spare) = log.spare.take() {
            log.active = Some(self.log_end(&spare, FIRST_FRAME, spare.base_ms).await?);
        }
        Ok(())
    }
}

pub(crate) fn span_of(run: &Run) -> Span {
    let time = |entry: Option<&Entry>| run.base_ms + entry.map_or(0, |entry| i64::from(entry.time));
    Span {
        segment: run.segment,
        first: run.first,
        count: run.entries.len() as u32,
        entries_at: 0,
        base_ms: run.base_ms,
        first_ms: time(run.entries.first()),
        last_ms: time(run.entries.last()),
    }
}
