//! Files on tmpfs, mapped: a store to them is a store to memory, and it outlives the process.
//!
//! A mapping faults where the file has no page and none can be had. So all of the file is allocated before it is
//! mapped, and touched before it is used; nobody else may shorten it, hence the owner, the mode and the lock.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

use super::Memory;
use crate::limits::{BLOCK_BYTES, MEMORY_TAIL_BYTES_MAX};

/// The lock lives as long as the mapping.
pub struct MappedMemory {
    file: File,
    path: PathBuf,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone; nothing ties it to the thread that made it.
unsafe impl Send for MappedMemory {}

pub fn is_memory_dir(dir: &Path) -> io::Result<bool> {
    let found = nix::sys::statfs::statfs(dir)?;
    Ok(found.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC)
}

pub fn create(path: &Path, len: usize) -> io::Result<MappedMemory> {
    let mut options = OpenOptions::new();
    let file = open_own(options.read(true).write(true).create(true).mode(0o600), path)?;
    // Of whoever had it before nothing stays.
    file.set_len(0)?;
    let mapped = nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::empty(), 0, len as libc::off_t)
        .map_err(io::Error::from)
        .and_then(|()| map(&file, len));
    match mapped {
        Ok(start) => Ok(MappedMemory { file, path: path.to_owned(), start, len }),
        Err(error) => {
            let _ = fs::remove_file(path);
            Err(error)
        }
    }
}

fn map(file: &File, len: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping at an address of the kernel's choice; `file` is open and at least `len` long.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let start = NonNull::new(start.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
    // SAFETY: just mapped, `len` bytes, writable. Every page is faulted in here and not under a message.
    unsafe { start.write_bytes(0, len) };
    Ok(start)
}

pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = open_own(OpenOptions::new().read(true), path)?;
    // One byte more than any of ours: a longer file is no tail, and need not be read to its end to tell.
    let mut bytes = Vec::new();
    file.take(BLOCK_BYTES as u64 + MEMORY_TAIL_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub fn remove(path: &Path) -> io::Result<()> {
    let _locked = open_own(OpenOptions::new().read(true), path)?;
    fs::remove_file(path)
}

/// A plain file of ours that nobody else has: /dev/shm is open to every user of the host.
fn open_own(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.custom_flags(libc::O_NOFOLLOW).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.uid() != nix::unistd::Uid::effective().as_raw() {
        let what = format!("user {} owns it", found.uid());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    match super::machine::try_flock(file.as_raw_fd(), libc::LOCK_EX)? {
        true => Ok(file),
        false => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Memory for MappedMemory {
    fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at <= self.len && bytes.len() <= self.len - at, "outside of the memory");
        // SAFETY: within the mapping, as just checked; `bytes` cannot overlap it, since nobody borrows from it.
        unsafe { self.start.add(at).copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        // What follows, an acknowledgement in the end, must not come before.
        fence(Ordering::Release);
    }

    fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

impl Drop for MappedMemory {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        let _unlocked_with = &self.file;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 1 << 20;

    struct TestFile(PathBuf);

    impl TestFile {
        fn new(name: &str) -> Self {
            Self(Path::new("/dev/shm").join(format!("rmq-test-{}-{name}", std::process::id())))
        }
    }

    impl Drop for TestFile {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn what_is_written_is_in_the_file_and_stays_when_the_mapping_goes() {
        let file = TestFile::new("stays");
        let memory = create(&file.0, LEN).unwrap();
        memory.write(LEN - 5, b"world");
        memory.write(0, b"hello");
        assert_eq!(read(&file.0).unwrap_err().kind(), io::ErrorKind::WouldBlock, "it is locked");
        assert_eq!(remove(&file.0).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(create(&file.0, LEN).err().unwrap().kind(), io::ErrorKind::WouldBlock);
        drop(memory);
        let found = read(&file.0).unwrap();
        assert_eq!((&found[..5], &found[LEN - 5..], found.len()), (&b"hello"[..], &b"world"[..], LEN));

        let again = create(&file.0, LEN / 2).unwrap();
        again.remove().unwrap();
        assert_eq!(read(&file.0).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_new_file_is_zeros_whatever_was_there() {
        let file = TestFile::new("zeros");
        fs::write(&file.0, [7; 9000]).unwrap();
        drop(create(&file.0, 8192).unwrap());
        assert_eq!(read(&file.0).unwrap(), [0; 8192]);
    }

    #[test]
    fn links_and_impossible_sizes_are_refused() {
        let (link, target) = (TestFile::new("link"), TestFile::new("target"));
        fs::write(&target.0, b"precious").unwrap();
        std::os::unix::fs::symlink(&target.0, &link.0).unwrap();
        assert!(create(&link.0, LEN).is_err());
        assert_eq!(fs::read(&target.0).unwrap(), b"precious");
        let huge = TestFile::new("huge");
        let error = create(&huge.0, 1 << 46).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(!huge.0.exists());
    }

    #[test]
    fn only_tmpfs_is_memory() {
        assert!(is_memory_dir(Path::new("/dev/shm")).unwrap());
        assert!(!is_memory_dir(Path::new("/proc")).unwrap());
    }
}
