//! Errors named by what the caller can do about them.

use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong with files. Nothing here is retried by the engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{op} {}: {source}", path.display())]
    Io { op: &'static str, path: PathBuf, source: io::Error },
    /// A file contradicts itself or its neighbours. `remedy` says what an operator can do.
    #[error("{} at byte {position}: {what}; {remedy}", path.display())]
    Corrupt { path: PathBuf, position: u64, what: String, remedy: &'static str },
    /// Another process, or what the kernel still does for a killed one, holds the store.
    #[error("{} is in use by {holder}; stop it first", path.display())]
    Locked { path: PathBuf, holder: String },
    #[error("{0}")]
    BadOptions(String),
    #[error("the store in {} was written by a newer version ({found}, this one reads up to {known})", path.display())]
    NewerVersion { path: PathBuf, found: u32, known: u32 },
    /// The memory tail cannot be kept, or not be read.
    #[error("the memory tail {}: {what}; {remedy}", path.display())]
    MemoryTail { path: PathBuf, what: String, remedy: &'static str },
    #[error("log stopped after an earlier write failed; restart the broker to recover from disk")]
    Poisoned,
}

impl Error {
    /// A device flush failed: what was written before it may be gone, and a later flush would not tell.
    pub(crate) fn is_failed_flush(&self) -> bool {
        matches!(self, Self::Io { op: "sync", source, .. } if source.raw_os_error() != Some(libc::ENOSPC))
    }

    pub(crate) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { op, path, source }
    }

    /// What the kinds of errors of `Env::create_memory` and its like mean.
    pub(crate) fn memory(path: &Path, error: io::Error) -> Self {
        let (what, remedy) = match error.kind() {
            io::ErrorKind::WouldBlock => (
                "another running process has it".to_owned(),
                "stop that process; a copy of a store's directory must not run beside the original",
            ),
            io::ErrorKind::PermissionDenied => (
                format!("it belongs to another user ({error})"),
                "start as that user, or choose another directory",
            ),
            io::ErrorKind::StorageFull => (
                "there is no room for it".to_owned(),
                "enlarge the file system (`mount -o remount,size=`, `--shm-size` in Docker), or make the tail smaller",
            ),
            _ => (
                error.to_string(),
                "choose a directory on tmpfs, such as /dev/shm, or turn the memory tail off",
            ),
        };
        Self::MemoryTail { path: path.to_owned(), what, remedy }
    }

    pub(crate) fn corrupt(path: &Path, position: u64, what: impl Into<String>, remedy: &'static str) -> Self {
        Self::Corrupt { path: path.to_owned(), position, what: what.into(), remedy }
    }

    /// The file is gone: for a reader this means that retention was faster.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Why an append was refused. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("no such queue on this shard")]
    NoSuchQueue,
    #[error("larger than a segment can hold")]
    TooLarge,
    #[error("log stopped after an earlier write failed")]
    Poisoned,
    #[error("no space left for another segment")]
    DiskFull,
    #[error("the shard is shutting down")]
    ShuttingDown,
    #[error("too many bytes wait for the disk")]
    Busy,
}
