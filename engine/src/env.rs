//! The door to time, tasks, randomness and the disk.
//!
//! Two implementations: [`uring`] for real, [`sim`] for a whole machine as a function of a seed.
//! Everything belongs to one thread; nothing here is `Send`.

pub mod machine;
pub mod memory;
pub mod sim;
pub mod uring;

use std::any::Any;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Which work a task competes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Somebody waits for an acknowledgement: the flusher, beside the network.
    Foreground,
    /// Reads that go to disk.
    Reads,
    /// Zero-filling, sealing, retention. Such a task works for at most 200 us and then awaits I/O or a timer.
    Background,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct OpenMode {
    pub write: bool,
    pub create: bool,
    /// A completed write is durable.
    pub durable: bool,
}

impl OpenMode {
    pub const READ: Self = Self { write: false, create: false, durable: false };
    pub const WRITE: Self = Self { write: true, create: false, durable: false };
    pub const CREATE: Self = Self { write: true, create: true, durable: false };
}

/// Bytes of the file system that holds a directory.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    pub total: u64,
    /// What an unprivileged process can still use.
    pub free: u64,
}

impl Space {
    pub fn used_ratio(&self) -> f64 {
        if self.total == 0 { 0.0 } else { 1.0 - self.free as f64 / self.total as f64 }
    }
}

/// Kept for as long as the lock shall hold.
pub type LockGuard = Arc<dyn Any + Send + Sync>;

pub trait Env: Clone + 'static {
    type File: File;
    type Memory: Memory;

    fn monotonic_us(&self) -> u64;
    fn wall_ms(&self) -> i64;
    fn random(&self) -> u64;
    fn spawn(&self, class: Class, task: impl Future<Output = ()> + 'static);
    /// Lets every other task that is ready now run once.
    fn yield_now(&self) -> impl Future<Output = ()>;
    fn sleep_us(&self, us: u64) -> impl Future<Output = ()>;

    /// Must come before the first `open` below `dir` on each thread; creates the directory.
    fn prepare_dir(&self, dir: &Path) -> impl Future<Output = io::Result<()>>;
    fn open(&self, path: &Path, mode: OpenMode) -> impl Future<Output = io::Result<Self::File>>;
    /// Names in a directory, sorted.
    fn list(&self, dir: &Path) -> impl Future<Output = io::Result<Vec<String>>>;
    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>>;
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>>;
    /// Makes creations, renames and removals in the directory durable.
    fn sync_dir(&self, dir: &Path) -> impl Future<Output = io::Result<()>>;
    fn space(&self, dir: &Path) -> impl Future<Output = io::Result<Space>>;
    /// An exclusive lock on a (created) file. `Err` carries what the holder wrote about itself.
    fn lock(&self, path: &Path) -> io::Result<Result<LockGuard, String>>;

    /// Whether files in this directory are memory that outlives the process (tmpfs).
    fn is_memory_dir(&self, dir: &Path) -> impl Future<Output = io::Result<bool>>;
    /// A new file of memory, all zeros, locked for as long as it is kept, in place of one that nobody has locked.
    /// All of its memory is there when this returns. `WouldBlock`: another process has it; `PermissionDenied`:
    /// another user's; `StorageFull`: no room.
    fn create_memory(&self, path: &Path, len: usize) -> impl Future<Output = io::Result<Self::Memory>>;
    /// What a file of memory holds that an earlier process left. Errors as those of `create_memory`.
    fn read_memory(&self, path: &Path) -> impl Future<Output = io::Result<Vec<u8>>>;
    /// Removes what an earlier process left. Errors as those of `create_memory`.
    fn remove_memory(&self, path: &Path) -> impl Future<Output = io::Result<()>>;
}

/// Memory that the file system knows by a name. Access neither waits nor fails.
pub trait Memory: 'static {
    /// Copies bytes in; what a killed process was copying is there in part.
    fn write(&self, at: usize, bytes: &[u8]);
    /// Removes the name and gives the memory back.
    fn remove(self) -> io::Result<()>;
}

/// A file for direct I/O: positions and lengths are multiples of [`crate::limits::BLOCK_BYTES`].
pub trait File: 'static {
    /// Writes `len` bytes that `fill` produces. Whole, or an error; never dropped half-way by its caller,
    /// since an abandoned write may vanish silently: only detached tasks write.
    fn write_at(
        &self,
        at: u64,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> impl Future<Output = io::Result<()>>;
    /// `len` is at most [`crate::limits::ZERO_BYTES_MAX`].
    fn write_zeros_at(&self, at: u64, len: usize) -> impl Future<Output = io::Result<()>>;
    /// Shorter than asked for only at the end of the file.
    fn read_at(&self, at: u64, len: usize) -> impl Future<Output = io::Result<Vec<u8>>>;
    /// Makes completed writes, and the file's length, durable.
    fn sync(&self) -> impl Future<Output = io::Result<()>>;
    /// Reserves space for `len` bytes, which read as zeros until written, and makes the file that long.
    fn allocate(&self, len: u64) -> impl Future<Output = io::Result<()>>;
    fn size(&self) -> io::Result<u64>;
    /// Locks the open file itself, against every other lock. Requests of a killed process that the kernel still
    /// works on hold theirs too.
    fn try_lock(&self) -> io::Result<bool>;
    /// The same for one of several that write the file side by side, against those who want it alone.
    fn try_lock_shared(&self) -> io::Result<bool>;
    fn close(self) -> impl Future<Output = io::Result<()>>;
}

/// A small generator for everything that wants to look random (store ids, simulated disks).
pub fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
