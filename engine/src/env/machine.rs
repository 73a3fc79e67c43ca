//! What every real environment does with plain system calls. They block: run them on a thread that may wait.

use std::fs;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{LockGuard, Space};

/// Names in a directory, sorted.
pub fn list(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

pub fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

pub fn space(dir: &Path) -> io::Result<Space> {
    let found = nix::sys::statvfs::statvfs(dir)?;
    let unit = found.fragment_size();
    // As `df` counts: what is reserved for root is neither used nor free.
    let used = (found.blocks() - found.blocks_free()) * unit;
    let free = found.blocks_available() * unit;
    Ok(Space { total: used + free, free })
}

/// An exclusive lock on a (created) file. `Err` carries what the holder wrote about itself.
pub fn lock(path: &Path) -> io::Result<Result<LockGuard, String>> {
    let mut file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    if !try_flock(file.as_raw_fd(), libc::LOCK_EX)? {
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        return Ok(Err(text.trim().to_owned()));
    }
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "process {}", std::process::id())?;
    Ok(Ok(Arc::new(file)))
}

/// A lock on an open file, if nobody is in the way of it.
pub fn try_flock(fd: RawFd, kind: libc::c_int) -> io::Result<bool> {
    // SAFETY: flock takes no pointers; a bad descriptor is answered with an error.
    if unsafe { libc::flock(fd, kind | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        error => Err(error),
    }
}

pub fn file_size(fd: RawFd) -> io::Result<u64> {
    // SAFETY: the caller's file is open for the time of the call.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    Ok(nix::sys::stat::fstat(borrowed)?.st_size as u64)
}

pub fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Different on every thread and start; not for secrets.
pub fn seed() -> u64 {
    static THREADS: AtomicU64 = AtomicU64::new(1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    let mut bytes = [0; 8];
    if let Ok(mut file) = fs::File::open("/dev/urandom") {
        let _ = file.read(&mut bytes);
    }
    u64::from_le_bytes(bytes) ^ now.rotate_left(20) ^ THREADS.fetch_add(1, Ordering::Relaxed)
}
