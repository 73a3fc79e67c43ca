//! What the host must offer before anything is touched: io_uring, locked memory, descriptors, direct I/O.
//! Each failure says what to change.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const OPEN_FILES_WISHED: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    #[error(
        "io_uring is not available ({source}): rmq needs Linux 5.13 or newer with io_uring allowed. In a container run it with \
         `--security-opt seccomp=unconfined` or a seccomp profile that allows io_uring_setup, io_uring_enter and \
         io_uring_register; on a host check `sysctl kernel.io_uring_disabled` (0 allows it)"
    )]
    NoIoUring { source: io::Error },
    #[error(
        "the locked-memory limit is {limit} bytes and {shards} shards need {needed}: raise it (`ulimit -l 65536`, LimitMEMLOCK= in \
         systemd, `--ulimit memlock=67108864` in Docker), or set fewer rmq.shards"
    )]
    Memlock { limit: u64, needed: u64, shards: usize },
    #[error("cannot create the data directory {}: {source}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("the data directory {} is not writable: {source}; give this user write permission or choose another", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error(
        "the file system of {} does not support direct I/O (O_DIRECT): {source}; put the data directory on ext4 or XFS",
        path.display()
    )]
    NoDirectIo { path: PathBuf, source: io::Error },
    #[error(
        "{} holds the store of a Java broker, which rmq does not read: choose another storePathRootDir, or move \
         that store away",
        path.display()
    )]
    JavaStore { path: PathBuf },
}

/// Checks the host and raises the soft limits to what the hard limits allow.
pub fn check(data_dir: &Path, shards: usize) -> Result<(), PreflightError> {
    raise_limit(Resource::RLIMIT_NOFILE, OPEN_FILES_WISHED);
    raise_limit(Resource::RLIMIT_MEMLOCK, u64::MAX);
    io_uring().map_err(|source| PreflightError::NoIoUring { source })?;
    memlock(shards)?;
    std::fs::create_dir_all(data_dir)
        .map_err(|source| PreflightError::Create { path: data_dir.to_owned(), source })?;
    writable_and_direct(data_dir)?;
    no_java_store(data_dir)
}

fn raise_limit(resource: Resource, wished: u64) {
    if let Ok((soft, hard)) = getrlimit(resource)
        && soft < wished.min(hard)
    {
        let _ = setrlimit(resource, wished.min(hard), hard);
    }
}

fn io_uring() -> io::Result<()> {
    let mut params = [0u8; 120];
    // SAFETY: `params` is as large as the kernel's `io_uring_params` (120 bytes) and lives through the call.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 2, params.as_mut_ptr()) };
    if ring < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above returned this descriptor, and nobody else has it.
    drop(unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(ring as i32) });
    Ok(())
}

/// Each shard has a ring, and so has the thread that opens the store before them.
fn memlock(shards: usize) -> Result<(), PreflightError> {
    let needed = (shards as u64 + 1) * rmq_reactor::LOCKED_BYTES;
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((limit, _)) if limit < needed && !nix::unistd::Uid::effective().is_root() => {
            Err(PreflightError::Memlock { limit, needed, shards })
        }
        _ => Ok(()),
    }
}

fn writable_and_direct(dir: &Path) -> Result<(), PreflightError> {
    let path = dir.join(".preflight");
    let unwritable = |source| PreflightError::Unwritable { path: dir.to_owned(), source };
    let mut file = File::create(&path).map_err(unwritable)?;
    file.write_all(&[0; 4096]).map_err(unwritable)?;
    drop(file);
    let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path);
    let _ = std::fs::remove_file(&path);
    direct.map(drop).map_err(|source| PreflightError::NoDirectIo { path: dir.to_owned(), source })
}

/// Java names a commit-log file by its offset in twenty digits, without a suffix.
fn no_java_store(dir: &Path) -> Result<(), PreflightError> {
    let Ok(entries) = std::fs::read_dir(dir.join("commitlog")) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.len() == 20 && name.iter().all(u8::is_ascii_digit) {
            return Err(PreflightError::JavaStore { path: dir.to_owned() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_java_store_is_recognised_and_left_alone() {
        let dir = std::env::temp_dir().join(format!("rmq-preflight-{}", std::process::id()));
        let log = dir.join("commitlog");
        std::fs::create_dir_all(&log).expect("temporary directory");
        std::fs::write(log.join("00000000000000000001.log"), b"ours").expect("write");
        assert!(no_java_store(&dir).is_ok());
        std::fs::write(log.join("00000000000000000000"), b"Java's").expect("write");
        let error = no_java_store(&dir).expect_err("Java's").to_string();
        std::fs::remove_dir_all(&dir).expect("clean up");
        assert!(error.contains("storePathRootDir"), "{error}");
    }

    #[test]
    fn an_unwritable_directory_is_named() {
        let error = check(Path::new("/proc/rmq"), 1).expect_err("/proc takes no directories").to_string();
        assert!(error.contains("/proc/rmq"), "{error}");
    }
}
