//! Bytes that left memory: blocks of log and index files, through a cache and within a budget of bytes in
//! flight, so that a consumer replaying last week does not get in the way of producers.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use super::Shard;
use crate::block_cache::{BlockCache, BlockKey, Kind};
use crate::entry::Entry;
use crate::env::{Class, Env, File, OpenMode};
use crate::error::Error;
use crate::frame::{MARK_BYTES, PREAMBLE_BYTES, Preamble, Seed};
use crate::index_file;
use crate::limits::{
    BLOCK_BYTES, FIRST_FRAME, FRAME_ALIGN, INDEX_UNIT_BYTES, OPEN_FILES_MAX, READ_AHEAD_BYTES,
    READ_AHEAD_UNITS,
};
use crate::notify::Changes;
use crate::offset::LogPosition;
use crate::segment;

pub(super) struct Disk<E: Env> {
    cache: RefCell<BlockCache>,
    /// Most recently used last.
    files: RefCell<Vec<OpenFile<E>>>,
    in_flight: Cell<usize>,
    /// Units of log files that are being read; whoever wants one of them waits for it.
    loading: RefCell<Vec<Load>>,
    landed: Changes,
}

/// Units `first..end` of a segment's log.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Load {
    segment: u64,
    first: u64,
    end: u64,
}

struct OpenFile<E: Env> {
    kind: Kind,
    segment: u64,
    file: Rc<E::File>,
}

/// The last frame that was checked: the records of a batch are read one after the other.
#[derive(Default)]
pub(super) struct CheckedFrame {
    /// Of a log that another shard may be writing: nothing of it is cached.
    is_foreign: bool,
    segment: u64,
    position: u32,
    bytes: Vec<u8>,
    /// The unit that the last record came from: most readers go on where they were.
    unit: Option<Unit>,
    /// Where the last frame that was checked within `unit` lies in it.
    proven: Range<usize>,
}

/// One unit of a log file in memory.
struct Unit {
    segment: u64,
    block: u64,
    bytes: Rc<Vec<u8>>,
}

impl CheckedFrame {
    pub fn new(is_foreign: bool) -> Self {
        Self { is_foreign, ..Self::default() }
    }

    /// Position, preamble and payload.
    pub fn parts(&self) -> Option<(u32, Preamble, &[u8])> {
        let preamble = Preamble::parse(self.bytes.first_chunk()?)?;
        let payload = self.bytes.get(PREAMBLE_BYTES..PREAMBLE_BYTES + preamble.length as usize)?;
        Some((self.position, preamble, payload))
    }
}

impl<E: Env> Disk<E> {
    pub fn new(cache_bytes: usize) -> Self {
        Self {
            cache: RefCell::new(BlockCache::new(cache_bytes)),
            files: RefCell::default(),
            in_flight: Cell::new(0),
            loading: RefCell::default(),
            landed: Changes::default(),
        }
    }

    fn is_loading(&self, segment: u64, block: u64) -> bool {
        let loads = self.loading.borrow();
        loads.iter().any(|load| load.segment == segment && (load.first..load.end).contains(&block))
    }

    pub fn cached_bytes(&self) -> usize {
        self.cache.borrow().held_bytes()
    }

    /// A segment was deleted.
    pub async fn forget(&self, segment: u64) {
        self.cache.borrow_mut().forget_segment(segment);
        let gone: Vec<_> = {
            let mut files = self.files.borrow_mut();
            let (gone, kept) = files.drain(..).partition(|open| open.segment == segment);
            *files = kept;
            gone
        };
        close_all(gone).await;
    }

    pub async fn close(&self) {
        let files = self.files.take();
        close_all(files).await;
    }
}

async fn close_all<E: Env>(files: Vec<OpenFile<E>>) {
    for open in files {
        // A reader that still has it drops it later; nothing was written through it.
        if let Ok(file) = Rc::try_unwrap(open.file) {
            let _ = file.close().await;
        }
    }
}

impl<E: Env> Shard<E> {
    async fn file(&self, kind: Kind, segment: u64) -> Result<Rc<E::File>, Error> {
        if let Some(file) = self.open_file(kind, segment) {
            return Ok(file);
        }
        let dir = &self.options.dir;
        let path = match kind {
            Kind::Log => segment::log_path(dir, segment),
            Kind::Index => segment::index_path(dir, segment),
            Kind::Keys { from } => segment::key_path(dir, segment, from),
        };
        let file = Rc::new(self.env.open(&path, OpenMode::READ).await.map_err(Error::io("open", &path))?);
        let surplus = {
            let mut files = self.disk.files.borrow_mut();
            files.push(OpenFile { kind, segment, file: Rc::clone(&file) });
            if files.len() > OPEN_FILES_MAX { vec![files.remove(0)] } else { Vec::new() }
        };
        close_all(surplus).await;
        Ok(file)
    }

    fn open_file(&self, kind: Kind, segment: u64) -> Option<Rc<E::File>> {
        let mut files = self.disk.files.borrow_mut();
        let at = files.iter().rposition(|open| open.kind == kind && open.segment == segment)?;
        let open = files.remove(at);
        let file = Rc::clone(&open.file);
        files.push(open);
        Some(file)
    }

    /// Reads within the budget of bytes in flight. A read larger than the budget goes alone.
    async fn within_budget<T>(&self, len: usize, read: impl Future<Output = T>) -> T {
        let disk = &self.disk;
        let max = self.options.cold_bytes_in_flight_max;
        disk.landed.wait_for(|| disk.in_flight.get() == 0 || disk.in_flight.get() + len <= max).await;
        disk.in_flight.set(disk.in_flight.get() + len);
        let result = read.await;
        disk.in_flight.set(disk.in_flight.get() - len);
        disk.landed.announce();
        result
    }

    async fn read_bytes(&self, kind: Kind, segment: u64, at: u64, len: usize) -> Result<Vec<u8>, Error> {
        let read = async {
            let file = self.file(kind, segment).await?;
            let path = segment::log_path(&self.options.dir, segment);
            file.read_at(at, len).await.map_err(Error::io("read", &path))
        };
        self.within_budget(len, read).await
    }

    /// One cached block of a key file. Such files are many and each is looked at rarely, so none is kept open.
    pub(super) async fn key_block(&self, segment: u64, from: u32, block: u64) -> Result<Rc<Vec<u8>>, Error> {
        let key = BlockKey { kind: Kind::Keys { from }, segment, block };
        if let Some(bytes) = self.disk.cache.borrow().find(key) {
            return Ok(bytes);
        }
        let path = segment::key_path(&self.options.dir, segment, from);
        let read = async {
            let file = self.env.open(&path, OpenMode::READ).await.map_err(Error::io("open", &path))?;
            let bytes = file.read_at(block * BLOCK_BYTES as u64, BLOCK_BYTES).await;
            file.close().await.map_err(Error::io("close", &path))?;
            bytes.map_err(Error::io("read", &path))
        };
        let bytes = Rc::new(self.within_budget(BLOCK_BYTES, read).await?);
        self.disk.cache.borrow_mut().insert(key, Rc::clone(&bytes));
        Ok(bytes)
    }

    /// A damaged file is made again: what was read of it counts no more.
    pub(super) fn forget_blocks(&self, segment: u64) {
        self.disk.cache.borrow_mut().forget_segment(segment);
    }

    /// One cached unit of an index file, which never changes.
    async fn index_unit(&self, segment: u64, block: u64) -> Result<Rc<Vec<u8>>, Error> {
        let key = BlockKey { kind: Kind::Index, segment, block };
        if let Some(bytes) = self.disk.cache.borrow().find(key) {
            return Ok(bytes);
        }
        let bytes =
            self.read_bytes(Kind::Index, segment, block * INDEX_UNIT_BYTES as u64, INDEX_UNIT_BYTES).await?;
        let bytes = Rc::new(bytes);
        self.disk.cache.borrow_mut().insert(key, Rc::clone(&bytes));
        Ok(bytes)
    }

    /// An entry by its slot in a sealed segment's index.
    pub(super) async fn entry_at(&self, segment: u64, slot: u32) -> Result<Entry, Error> {
        let (page, place) = index_file::page_of(slot);
        let at = page * BLOCK_BYTES as u64;
        let unit = self.index_unit(segment, at / INDEX_UNIT_BYTES as u64).await?;
        let from = (at % INDEX_UNIT_BYTES as u64) as usize;
        unit.get(from..from + BLOCK_BYTES)
            .and_then(|bytes| index_file::entry_in(bytes, page, place))
            .ok_or_else(|| {
                let path = segment::index_path(&self.options.dir, segment);
                let remedy = "remove the file and restart: it is made again from the log";
                Error::corrupt(&path, at, "an index page is damaged", remedy)
            })
    }

    /// How far a segment may be cached: what is written below this never changes.
    fn settled(&self, segment: u64) -> u64 {
        let written = self.marks.written();
        let is_own = self.log.borrow().files.iter().any(|file| file.number == segment);
        match is_own {
            true if segment == written.segment => {
                u64::from(written.offset - written.offset % BLOCK_BYTES as u32)
            }
            true => 0,
            // All of it, also when its last unit is shorter than the others.
            false => self.options.segment_size_bytes.next_multiple_of(READ_AHEAD_BYTES as u64),
        }
    }

    /// One unit of a log file. A reader that comes from the unit before finds the next ones read ahead.
    async fn log_unit(
        self: &Rc<Self>,
        segment: u64,
        block: u64,
        is_foreign: bool,
    ) -> Result<Rc<Vec<u8>>, Error> {
        const UNIT: u64 = READ_AHEAD_BYTES as u64;
        let settled = if is_foreign { 0 } else { self.settled(segment) };
        if (block + 1) * UNIT > settled {
            // It may change yet: nobody else gets these bytes.
            let at = block * UNIT;
            let len = UNIT.min(self.options.segment_size_bytes - at) as usize;
            return self.read_bytes(Kind::Log, segment, at, len).await.map(Rc::new);
        }
        let key = |block| BlockKey { kind: Kind::Log, segment, block };
        loop {
            let (found, is_sequential) = {
                let cache = self.disk.cache.borrow();
                (cache.find(key(block)), block > 0 && cache.contains(key(block - 1)))
            };
            if is_sequential && found.is_some() {
                self.read_ahead(segment, block, settled);
            }
            if let Some(bytes) = found {
                return Ok(bytes);
            }
            if self.disk.is_loading(segment, block) {
                self.disk.landed.wait_for(|| !self.disk.is_loading(segment, block)).await;
                continue;
            }
            let units = if is_sequential { READ_AHEAD_UNITS } else { 1 };
            let load = Load { segment, first: block, end: (block + units).min(settled / UNIT) };
            return self.load(load).await;
        }
    }

    /// Has the units behind those that were read ahead last read while the reader works on these.
    fn read_ahead(self: &Rc<Self>, segment: u64, block: u64, settled: u64) {
        let first = (block / READ_AHEAD_UNITS + 1) * READ_AHEAD_UNITS;
        let end = (first + READ_AHEAD_UNITS).min(settled / READ_AHEAD_BYTES as u64);
        let disk = &self.disk;
        let bytes = READ_AHEAD_BYTES * READ_AHEAD_UNITS as usize;
        if first >= end
            || disk.in_flight.get() + bytes > self.options.cold_bytes_in_flight_max
            || disk.is_loading(segment, first)
            || disk.cache.borrow().contains(BlockKey { kind: Kind::Log, segment, block: first })
        {
            return;
        }
        let load = Load { segment, first, end };
        disk.loading.borrow_mut().push(load);
        let shard = Rc::clone(self);
        self.env.spawn(Class::Reads, async move {
            // Whoever comes to these units tries again and then hears of the error.
            let _ = shard.load_listed(load).await;
        });
    }

    /// Reads units into the cache and returns the first one.
    async fn load(&self, load: Load) -> Result<Rc<Vec<u8>>, Error> {
        self.disk.loading.borrow_mut().push(load);
        self.load_listed(load).await
    }

    async fn load_listed(&self, load: Load) -> Result<Rc<Vec<u8>>, Error> {
        let Load { segment, first, end } = load;
        let at = first * READ_AHEAD_BYTES as u64;
        let len = (end * READ_AHEAD_BYTES as u64).min(self.options.segment_size_bytes) - at;
        let read = self.read_bytes(Kind::Log, segment, at, len as usize).await;
        let mut wanted = None;
        if let Ok(bytes) = &read {
            let mut cache = self.disk.cache.borrow_mut();
            for (block, unit) in (first..end).zip(bytes.chunks(READ_AHEAD_BYTES)) {
                let unit = Rc::new(unit.to_vec());
                cache.insert(BlockKey { kind: Kind::Log, segment, block }, Rc::clone(&unit));
                wanted.get_or_insert(unit);
            }
        }
        self.disk.loading.borrow_mut().retain(|other| *other != load);
        self.disk.landed.announce();
        read.map(|_| wanted.unwrap_or_default())
    }

    /// Appends a record that lies, with its frame, in the unit that the reader is in. False: it does not.
    pub(super) fn copy_from_unit(
        &self,
        at: LogPosition,
        len: u32,
        frame: &mut CheckedFrame,
        out: &mut Vec<u8>,
    ) -> bool {
        let CheckedFrame { unit: Some(unit), proven, .. } = frame else { return false };
        let base = unit.block * READ_AHEAD_BYTES as u64;
        let Some(record) = u64::from(at.offset).checked_sub(base).map(|record| record as usize) else {
            return false;
        };
        if unit.segment != at.segment || record < MARK_BYTES {
            return false;
        }
        let bytes = &unit.bytes[..];
        if !proven.contains(&record) {
            let found = || {
                let mark = bytes.get(record - MARK_BYTES..record)?.first_chunk()?;
                let start = record.checked_sub(u32::from_le_bytes(*mark) as usize)?;
                let position = base as u32 + start as u32;
                let preamble = Preamble::parse(bytes.get(start..)?.first_chunk()?)?;
                let room = self.options.segment_size_bytes - u64::from(position);
                if !position.is_multiple_of(FRAME_ALIGN as u32) || !preamble.is_plausible(room as usize) {
                    return None;
                }
                let end = start + preamble.frame_len();
                let seed = Seed::new(self.store_id, at.segment);
                preamble.verify(bytes.get(start..end)?, seed, position).then_some(start..end)
            };
            match found() {
                Some(range) if range.contains(&record) => *proven = range,
                _ => return false,
            }
        }
        match bytes[..proven.end].get(record..record + len as usize) {
            Some(bytes) => {
                out.extend_from_slice(bytes);
                true
            }
            None => false,
        }
    }

    /// Makes the unit that a position is in the one that the reader is in.
    async fn enter_unit(
        self: &Rc<Self>,
        segment: u64,
        block: u64,
        frame: &mut CheckedFrame,
    ) -> Result<Rc<Vec<u8>>, Error> {
        if let Some(unit) = frame.unit.as_ref().filter(|unit| (unit.segment, unit.block) == (segment, block))
        {
            return Ok(Rc::clone(&unit.bytes));
        }
        let is_settled = !frame.is_foreign && (block + 1) * READ_AHEAD_BYTES as u64 <= self.settled(segment);
        let bytes = self.log_unit(segment, block, frame.is_foreign).await?;
        if is_settled {
            frame.unit = Some(Unit { segment, block, bytes: Rc::clone(&bytes) });
            frame.proven = 0..0;
        }
        Ok(bytes)
    }

    /// Copies a range of a log file; false if the file ends before.
    async fn copy_range(
        self: &Rc<Self>,
        segment: u64,
        from: u32,
        len: usize,
        frame: &mut CheckedFrame,
    ) -> Result<bool, Error> {
        frame.bytes.clear();
        let mut at = from as usize;
        let end = at + len;
        while at < end {
            let unit = self.enter_unit(segment, (at / READ_AHEAD_BYTES) as u64, frame).await?;
            let start = at % READ_AHEAD_BYTES;
            let stop = READ_AHEAD_BYTES.min(start + (end - at));
            let Some(bytes) = unit.get(start..stop) else { return Ok(false) };
            frame.bytes.extend_from_slice(bytes);
            at += bytes.len();
        }
        Ok(true)
    }

    /// The record at a position, out of a frame that proves itself. `None` if no frame does.
    pub(super) async fn checked_record<'f>(
        self: &Rc<Self>,
        at: LogPosition,
        frame: &'f mut CheckedFrame,
    ) -> Result<Option<&'f [u8]>, Error> {
        let LogPosition { segment, offset } = at;
        let is_held = frame.segment == segment
            && frame.position < offset
            && ((offset - frame.position) as usize) < frame.bytes.len();
        if !is_held && !self.check_frame(segment, offset, frame).await? {
            frame.bytes.clear();
            return Ok(None);
        }
        Ok(Some(&frame.bytes[(offset - frame.position) as usize..]))
    }

    /// The same with what is in memory; no position that a client may ask for is taken on trust.
    pub(super) fn check_frame_in_memory(&self, at: LogPosition, frame: &mut CheckedFrame) -> bool {
        let LogPosition { segment, offset } = at;
        let log = self.log.borrow();
        let found = || {
            let mark = log.tail.slice(segment, offset.checked_sub(MARK_BYTES as u32)?, MARK_BYTES as u32)?;
            let back = u32::from_le_bytes(mark.try_into().ok()?);
            let position = offset.checked_sub(back)?;
            if (back as usize) < PREAMBLE_BYTES || !position.is_multiple_of(FRAME_ALIGN as u32) {
                return None;
            }
            let preamble = log.tail.slice(segment, position, PREAMBLE_BYTES as u32)?;
            let preamble = Preamble::parse(preamble.first_chunk()?)?;
            let room = self.options.segment_size_bytes - u64::from(position);
            if !preamble.is_plausible(room as usize) || preamble.frame_len() <= back as usize {
                return None;
            }
            let bytes = log.tail.slice(segment, position, preamble.frame_len() as u32)?;
            if (LogPosition { segment, offset: position + bytes.len() as u32 }) > self.acknowledged() {
                return None;
            }
            preamble.verify(bytes, Seed::new(self.store_id, segment), position).then_some((position, bytes))
        };
        let Some((position, bytes)) = found() else { return false };
        frame.bytes.clear();
        frame.bytes.extend_from_slice(bytes);
        (frame.segment, frame.position) = (segment, position);
        true
    }

    /// Follows the mark before a record back to its frame, and checks that.
    async fn check_frame(
        self: &Rc<Self>,
        segment: u64,
        record: u32,
        frame: &mut CheckedFrame,
    ) -> Result<bool, Error> {
        if record < FIRST_FRAME + PREAMBLE_BYTES as u32
            || u64::from(record) >= self.options.segment_size_bytes
        {
            return Ok(false);
        }
        if !self.copy_range(segment, record - MARK_BYTES as u32, MARK_BYTES, frame).await? {
            return Ok(false);
        }
        let back = u32::from_le_bytes(frame.bytes[..].try_into().expect("a mark has four bytes"));
        let Some(position) = record.checked_sub(back).filter(|&position| position >= FIRST_FRAME) else {
            return Ok(false);
        };
        if (back as usize) < PREAMBLE_BYTES
            || !position.is_multiple_of(FRAME_ALIGN as u32)
            || !self.copy_range(segment, position, PREAMBLE_BYTES, frame).await?
        {
            return Ok(false);
        }
        let Some(preamble) = frame.bytes.first_chunk().and_then(Preamble::parse) else { return Ok(false) };
        let room = self.options.segment_size_bytes - u64::from(position);
        if !preamble.is_plausible(room as usize)
            || preamble.frame_len() <= back as usize
            || !self.copy_range(segment, position, preamble.frame_len(), frame).await?
        {
            return Ok(false);
        }
        (frame.segment, frame.position) = (segment, position);
        Ok(preamble.verify(&frame.bytes, Seed::new(self.store_id, segment), position))
    }
}
