//! The simulated disk: what reads see, what a power cut would leave, and the difference.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Weak};

use super::super::{LockGuard, Space, split_mix};

const SECTOR: usize = 512;
/// Sectors that a killed process's write may stop between.
const PAGE_SECTORS: usize = 8;

pub(super) type Inode = usize;
pub(super) type WriteId = u64;

/// A disk that outlives the machines using it. Clones are the same disk.
#[derive(Clone, Default)]
pub struct SimDisk {
    state: Rc<RefCell<State>>,
}

#[derive(Default)]
struct State {
    files: Vec<Bytes>,
    names: BTreeMap<PathBuf, Inode>,
    durable_names: BTreeMap<PathBuf, Inode>,
    /// Changes of names that no directory sync has covered, oldest first.
    changes: Vec<(u64, NameChange)>,
    changes_made: u64,
    versions_made: u64,
    writes_begun: WriteId,
    in_flight: BTreeMap<WriteId, Write>,
    /// How many share the lock; `ALONE` for one that shares with nobody.
    locked_files: BTreeMap<Inode, usize>,
    locks: BTreeMap<PathBuf, Weak<()>>,
    capacity: Option<u64>,
    memories: BTreeMap<PathBuf, MemoryFile>,
}

/// A file of memory; no power cut leaves anything of it.
#[derive(Default)]
struct MemoryFile {
    bytes: Vec<u8>,
    /// Of the process that has it.
    locked: bool,
}

#[derive(Default)]
struct Bytes {
    now: Vec<u8>,
    durable: Vec<u8>,
    durable_len: usize,
    /// Per sector, what it held since it was last durable, oldest first.
    dirty: BTreeMap<usize, Vec<(u64, [u8; SECTOR])>>,
}

struct Write {
    inode: Inode,
    at: usize,
    bytes: Vec<u8>,
}

#[derive(Clone)]
enum NameChange {
    Created(PathBuf, Inode),
    Removed(PathBuf),
    Renamed(PathBuf, PathBuf),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, Inode>) {
        match self {
            Self::Created(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Removed(path) => {
                names.remove(path);
            }
            Self::Renamed(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }

    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Created(path, _) | Self::Removed(path) | Self::Renamed(_, path) => path.parent(),
        }
    }
}

impl Bytes {
    fn put(&mut self, at: usize, sector: &[u8], version: u64, durable: bool) {
        let end = at + sector.len();
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        self.now[at..end].copy_from_slice(sector);
        if durable {
            self.durable[at..end].copy_from_slice(sector);
            self.durable_len = self.durable_len.max(end);
            self.dirty.remove(&(at / SECTOR));
        } else {
            let copy = sector.try_into().expect("writes are whole sectors");
            self.dirty.entry(at / SECTOR).or_default().push((version, copy));
        }
    }

    /// Makes durable what was written up to a version.
    fn sync(&mut self, covered: u64) {
        let durable = &mut self.durable;
        self.dirty.retain(|sector, versions| {
            let old = versions.iter().take_while(|(version, _)| *version <= covered).count();
            if let Some((_, bytes)) = versions.drain(..old).next_back() {
                durable[sector * SECTOR..][..SECTOR].copy_from_slice(&bytes);
            }
            !versions.is_empty()
        });
        self.durable_len = self.now.len();
    }

    /// Each sector keeps any of the versions it had since it was last durable.
    fn cut_power(&mut self, random: &mut u64) {
        for (sector, versions) in std::mem::take(&mut self.dirty) {
            let kept = split_mix(random) as usize % (versions.len() + 1);
            if let Some((_, bytes)) = kept.checked_sub(1).map(|n| versions[n]) {
                self.durable[sector * SECTOR..][..SECTOR].copy_from_slice(&bytes);
            }
        }
        let len = if split_mix(random).is_multiple_of(2) { self.now.len() } else { self.durable_len };
        self.durable.resize(len.max(self.durable.len()), 0);
        self.durable.truncate(len);
        self.now = self.durable.clone();
        self.durable_len = len;
    }
}

impl SimDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// Allocations beyond this many bytes fail with ENOSPC.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.borrow_mut().capacity = bytes;
    }

    /// The machine lost its power: what was not durable is there or not, sector by sector.
    pub fn power_cut(&self, mut seed: u64) {
        self.finish_in_flight(&mut seed, 1);
        let state = &mut *self.state.borrow_mut();
        for file in &mut state.files {
            file.cut_power(&mut seed);
        }
        let kept = split_mix(&mut seed) as usize % (state.changes.len() + 1);
        for (_, change) in state.changes.drain(..).take(kept) {
            change.apply(&mut state.durable_names);
        }
        state.names = state.durable_names.clone();
        state.locked_files.clear();
        state.locks.clear();
        state.memories.clear();
    }

    /// The process died, the machine did not: the disk keeps what was written.
    pub fn kill(&self, mut seed: u64) {
        self.finish_in_flight(&mut seed, PAGE_SECTORS);
        let state = &mut *self.state.borrow_mut();
        state.locked_files.clear();
        state.locks.clear();
        for file in state.memories.values_mut() {
            file.locked = false;
        }
    }

    /// Files of memory.
    pub fn memory_paths(&self) -> Vec<PathBuf> {
        self.state.borrow().memories.keys().cloned().collect()
    }

    /// Changes a file of memory as an operator or another process would; `None` removes it.
    pub fn put_memory(&self, path: &Path, bytes: Option<Vec<u8>>) {
        let memories = &mut self.state.borrow_mut().memories;
        match bytes {
            Some(bytes) => memories.entry(path.to_owned()).or_default().bytes = bytes,
            None => drop(memories.remove(path)),
        }
    }

    pub fn memory(&self, path: &Path) -> Option<Vec<u8>> {
        Some(self.state.borrow().memories.get(path)?.bytes.clone())
    }

    /// Takes or leaves the lock of a file of memory, as another process would.
    pub fn lock_memory(&self, path: &Path, locked: bool) {
        if let Some(file) = self.state.borrow_mut().memories.get_mut(path) {
            file.locked = locked;
        }
    }

    /// Flips one bit of what is on disk, durably.
    pub fn damage(&self, path: &Path, at: usize, bit: u8) {
        let state = &mut *self.state.borrow_mut();
        let file = &mut state.files[state.names[path]];
        file.now[at] ^= 1 << bit;
        file.durable[at] ^= 1 << bit;
    }

    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state.borrow();
        Some(state.files[*state.names.get(path)?].now.clone())
    }

    /// Removes a file as an operator would.
    pub fn unlink(&self, path: &Path) {
        let state = &mut *self.state.borrow_mut();
        state.names.remove(path);
        state.durable_names.remove(path);
        state
            .changes
            .retain(|(_, change)| !matches!(change, NameChange::Created(created, _) if created == path));
    }

    pub fn paths(&self) -> Vec<PathBuf> {
        self.state.borrow().names.keys().cloned().collect()
    }

    /// Writes in flight end anyhow: each run of `unit` sectors is written or not.
    fn finish_in_flight(&self, seed: &mut u64, unit: usize) {
        let writes = std::mem::take(&mut self.state.borrow_mut().in_flight);
        for write in writes.into_values() {
            self.tear(&write, seed, unit);
        }
    }

    fn tear(&self, write: &Write, seed: &mut u64, unit: usize) {
        let state = &mut *self.state.borrow_mut();
        let mode = split_mix(seed) % 4;
        for (n, sectors) in write.bytes.chunks(unit * SECTOR).enumerate() {
            // Nothing, everything, or a mix of old and new.
            let is_written = mode == 1 || (mode > 1 && split_mix(seed).is_multiple_of(2));
            if !is_written {
                continue;
            }
            for (m, sector) in sectors.chunks(SECTOR).enumerate() {
                state.versions_made += 1;
                let at = write.at + (n * unit + m) * SECTOR;
                state.files[write.inode].put(at, sector, state.versions_made, false);
            }
        }
    }

    pub(super) fn open(&self, path: &Path, create: bool) -> io::Result<Inode> {
        let state = &mut *self.state.borrow_mut();
        if let Some(&inode) = state.names.get(path) {
            return Ok(inode);
        }
        if !create {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        }
        state.files.push(Bytes::default());
        let inode = state.files.len() - 1;
        state.change(NameChange::Created(path.to_owned(), inode));
        Ok(inode)
    }

    pub fn list(&self, dir: &Path) -> Vec<String> {
        let state = self.state.borrow();
        let below = state.names.keys().filter(|path| path.parent() == Some(dir));
        below.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect()
    }

    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        let state = &mut *self.state.borrow_mut();
        if !state.names.contains_key(path) {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        }
        state.change(NameChange::Removed(path.to_owned()));
        Ok(())
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let state = &mut *self.state.borrow_mut();
        if !state.names.contains_key(from) {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        }
        state.change(NameChange::Renamed(from.to_owned(), to.to_owned()));
        Ok(())
    }

    pub(super) fn name_changes(&self) -> u64 {
        self.state.borrow().changes_made
    }

    pub(super) fn sync_dir(&self, dir: &Path, covered: u64) {
        let state = &mut *self.state.borrow_mut();
        let durable_names = &mut state.durable_names;
        state.changes.retain(|(number, change)| {
            let is_covered = *number <= covered && change.dir() == Some(dir);
            if is_covered {
                change.apply(durable_names);
            }
            !is_covered
        });
    }

    pub(super) fn begin_write(&self, inode: Inode, at: u64, bytes: Vec<u8>) -> WriteId {
        let state = &mut *self.state.borrow_mut();
        let overlaps = |other: &Write| {
            other.inode == inode
                && (at as usize) < other.at + other.bytes.len()
                && other.at < at as usize + bytes.len()
        };
        assert!(!state.in_flight.values().any(overlaps), "two writes in flight touch one block");
        state.writes_begun += 1;
        state.in_flight.insert(state.writes_begun, Write { inode, at: at as usize, bytes });
        state.writes_begun
    }

    pub(super) fn end_write(&self, write: WriteId, durable: bool) {
        let state = &mut *self.state.borrow_mut();
        let Some(write) = state.in_flight.remove(&write) else { return };
        for (n, sector) in write.bytes.chunks(SECTOR).enumerate() {
            state.versions_made += 1;
            state.files[write.inode].put(write.at + n * SECTOR, sector, state.versions_made, durable);
        }
    }

    /// A write that failed: any of its sectors may have changed.
    pub(super) fn tear_write(&self, write: WriteId, mut seed: u64) {
        let write = self.state.borrow_mut().in_flight.remove(&write);
        if let Some(write) = write {
            self.tear(&write, &mut seed, 1);
        }
    }

    pub(super) fn read(&self, inode: Inode, at: u64, len: usize) -> Vec<u8> {
        let state = self.state.borrow();
        let bytes = &state.files[inode].now;
        let from = bytes.len().min(at as usize);
        bytes[from..bytes.len().min(from + len)].to_vec()
    }

    pub(super) fn versions(&self) -> u64 {
        self.state.borrow().versions_made
    }

    pub(super) fn sync(&self, inode: Inode, covered: u64) {
        self.state.borrow_mut().files[inode].sync(covered);
    }

    pub(super) fn allocate(&self, inode: Inode, len: u64) -> io::Result<()> {
        let used = self.used();
        let state = &mut *self.state.borrow_mut();
        let file = &mut state.files[inode];
        let more = len.saturating_sub(file.now.len() as u64);
        if state.capacity.is_some_and(|capacity| used + more > capacity) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let len = file.now.len().max(len as usize);
        file.now.resize(len, 0);
        file.durable.resize(len, 0);
        Ok(())
    }

    pub(super) fn size(&self, inode: Inode) -> u64 {
        self.state.borrow().files[inode].now.len() as u64
    }

    fn used(&self) -> u64 {
        let state = self.state.borrow();
        state.names.values().map(|&inode| state.files[inode].now.len() as u64).sum()
    }

    pub(super) fn space(&self) -> Space {
        let total = self.state.borrow().capacity.unwrap_or(1 << 40);
        Space { total, free: total.saturating_sub(self.used()) }
    }

    pub(super) fn lock(&self, path: &Path) -> Result<LockGuard, String> {
        let locks = &mut self.state.borrow_mut().locks;
        if locks.get(path).is_some_and(|guard| guard.strong_count() > 0) {
            return Err("another simulated process".into());
        }
        let guard = Arc::new(());
        locks.insert(path.to_owned(), Arc::downgrade(&guard));
        Ok(guard)
    }

    pub(super) fn create_memory(&self, path: &Path, len: usize) -> io::Result<()> {
        let file = self.unlocked_memory(path, true)?;
        self.state.borrow_mut().memories.insert(file, MemoryFile { bytes: vec![0; len], locked: true });
        Ok(())
    }

    pub(super) fn read_memory(&self, path: &Path) -> io::Result<Vec<u8>> {
        let path = self.unlocked_memory(path, false)?;
        Ok(self.state.borrow().memories[&path].bytes.clone())
    }

    pub(super) fn remove_memory(&self, path: &Path) -> io::Result<()> {
        let path = self.unlocked_memory(path, false)?;
        self.state.borrow_mut().memories.remove(&path);
        Ok(())
    }

    fn unlocked_memory(&self, path: &Path, may_be_new: bool) -> io::Result<PathBuf> {
        match self.state.borrow().memories.get(path) {
            None if !may_be_new => Err(io::Error::from_raw_os_error(libc::ENOENT)),
            Some(file) if file.locked => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(path.to_owned()),
        }
    }

    pub(super) fn write_memory(&self, path: &Path, at: usize, bytes: &[u8]) {
        // A file whose name is gone is memory all the same, but nobody finds it again.
        if let Some(file) = self.state.borrow_mut().memories.get_mut(path) {
            file.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }

    pub(super) fn try_lock_file(&self, inode: Inode) -> bool {
        let files = &mut self.state.borrow_mut().locked_files;
        let is_free = !files.contains_key(&inode);
        if is_free {
            files.insert(inode, ALONE);
        }
        is_free
    }

    pub(super) fn try_share_file(&self, inode: Inode) -> bool {
        let files = &mut self.state.borrow_mut().locked_files;
        let holders = files.entry(inode).or_default();
        if *holders == ALONE {
            return false;
        }
        *holders += 1;
        true
    }

    pub(super) fn unlock_file(&self, inode: Inode) {
        let files = &mut self.state.borrow_mut().locked_files;
        match files.get_mut(&inode) {
            Some(holders) if *holders != ALONE && *holders > 1 => *holders -= 1,
            _ => {
                files.remove(&inode);
            }
        }
    }
}

/// A lock that nobody shares.
const ALONE: usize = usize::MAX;

impl State {
    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.changes_made += 1;
        self.changes.push((self.changes_made, change));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn sector(byte: u8) -> Vec<u8> {
        vec![byte; SECTOR]
    }

    #[test]
    fn a_power_cut_keeps_what_is_durable_and_any_mix_of_the_rest() {
        let mut seen = BTreeSet::new();
        for seed in 0..64 {
            let disk = SimDisk::new();
            let path = Path::new("/d/f");
            let inode = disk.open(path, true).unwrap();
            disk.sync_dir(Path::new("/d"), disk.name_changes());
            for (at, byte, durable) in [(0, 1, true), (512, 2, false), (1024, 3, false), (512, 4, false)] {
                let write = disk.begin_write(inode, at, sector(byte));
                disk.end_write(write, durable);
            }
            disk.power_cut(seed);
            let bytes = disk.bytes(path).unwrap();
            assert_eq!(bytes[..SECTOR], sector(1), "durable bytes stay");
            seen.insert((bytes.get(512).copied(), bytes.get(1024).copied()));
        }
        for wanted in [(Some(2), Some(0)), (Some(4), Some(3)), (Some(0), Some(3)), (None, None)] {
            assert!(seen.contains(&wanted), "{wanted:?} can happen: {seen:?}");
        }
    }

    #[test]
    fn a_sync_covers_what_was_written_before_it_began() {
        let disk = SimDisk::new();
        let path = Path::new("/d/f");
        let inode = disk.open(path, true).unwrap();
        disk.sync_dir(Path::new("/d"), disk.name_changes());
        let first = disk.begin_write(inode, 0, sector(1));
        disk.end_write(first, false);
        let covered = disk.versions();
        let second = disk.begin_write(inode, 512, sector(2));
        disk.end_write(second, false);
        disk.sync(inode, covered);
        let mut lost = 0;
        for seed in 0..32 {
            let copy = disk.bytes(path).unwrap();
            assert_eq!(copy[..SECTOR], sector(1));
            let mut file = Bytes { now: copy.clone(), durable: copy, durable_len: 1024, ..Bytes::default() };
            file.durable[512..].fill(0);
            file.dirty.insert(1, vec![(9, [2; SECTOR])]);
            let mut seed = seed;
            file.cut_power(&mut seed);
            lost += usize::from(file.now[512] == 0);
        }
        assert!((1..32).contains(&lost));
    }
}
