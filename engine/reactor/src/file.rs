//! A file for direct I/O.
//!
//! Operations complete even when whoever asked is gone: memory is kept until the kernel is done with it, and a write
//! that was asked for happens.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use io_uring::{opcode, types};

use crate::BLOCK_BYTES;
use crate::buffer::AlignedBuffer;
use crate::op::{Held, Once};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenMode {
    pub write: bool,
    pub create: bool,
    /// A completed write is durable.
    pub durable: bool,
}

pub struct DirectFile {
    fd: OwnedFd,
}

impl DirectFile {
    /// # Errors
    /// The operating system's, with its number. `InvalidInput` also where the file system knows no direct I/O.
    pub async fn open(path: &Path, mode: OpenMode) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let mut flags = libc::O_CLOEXEC | libc::O_DIRECT;
        flags |= if mode.write { libc::O_RDWR } else { libc::O_RDONLY };
        if mode.create {
            flags |= libc::O_CREAT;
        }
        if mode.durable {
            flags |= libc::O_DSYNC;
        }
        let open = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr()).flags(flags).mode(0o644);
        // The string's memory does not move with it.
        let (opened, _) = Once::submit(open.build(), Held::Path { _path: path }).await;
        // SAFETY: the kernel just made this descriptor for us.
        let fd = unsafe { OwnedFd::from_raw_fd(opened?.cast_signed()) };
        Ok(Self { fd })
    }

    fn target(&self) -> types::Fd {
        types::Fd(self.fd.as_raw_fd())
    }

    /// Writes the whole buffer at `at` and gives it back.
    pub async fn write_at(&self, mut buffer: AlignedBuffer, at: u64) -> io::Result<AlignedBuffer> {
        let mut done = 0;
        while done < buffer.len() {
            let rest = buffer.len() - done;
            // SAFETY: `done` lies within the buffer.
            let from = unsafe { buffer.as_mut_ptr().add(done) };
            let write = opcode::Write::new(self.target(), from, rest as u32).offset(at + done as u64);
            let (wrote, held) = Once::submit(write.build(), Held::Buffer(buffer)).await;
            let Held::Buffer(back) = held else { unreachable!("what was handed in comes back") };
            buffer = back;
            done = advanced(done, wrote?)?;
        }
        Ok(buffer)
    }

    /// Writes the first `len` bytes, whole blocks, of a buffer at `at`; others may use it at the same time.
    pub async fn write_shared_at(&self, buffer: &Rc<AlignedBuffer>, len: usize, at: u64) -> io::Result<()> {
        let mut done = 0;
        while done < len {
            let rest = buffer[done..len].len();
            let from = buffer[done..].as_ptr();
            let write = opcode::Write::new(self.target(), from, rest as u32).offset(at + done as u64);
            let (wrote, _) = Once::submit(write.build(), Held::Shared { _buffer: Rc::clone(buffer) }).await;
            done = advanced(done, wrote?)?;
        }
        Ok(())
    }

    /// Reads up to `len` bytes, whole blocks, from `at`. Less only at the end of the file.
    pub async fn read_at(&self, at: u64, len: usize) -> io::Result<(AlignedBuffer, usize)> {
        let mut buffer = AlignedBuffer::new(len);
        let mut done = 0;
        loop {
            let rest = buffer.len() - done;
            // SAFETY: `done` lies within the buffer.
            let into = unsafe { buffer.as_mut_ptr().add(done) };
            let read = opcode::Read::new(self.target(), into, rest as u32).offset(at + done as u64);
            let (read, held) = Once::submit(read.build(), Held::Buffer(buffer)).await;
            let Held::Buffer(back) = held else { unreachable!("what was handed in comes back") };
            buffer = back;
            let read = match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read? as usize,
            };
            done += read;
            // A piece of a block is the end of the file; a short read elsewhere is gone on with.
            if done == buffer.len() || read == 0 || !done.is_multiple_of(BLOCK_BYTES) {
                return Ok((buffer, done.min(len)));
            }
        }
    }

    /// Makes completed writes, and the file's length, durable.
    pub async fn sync(&self) -> io::Result<()> {
        let sync = opcode::Fsync::new(self.target()).flags(types::FsyncFlags::DATASYNC);
        Once::submit(sync.build(), Held::Nothing).await.0.map(drop)
    }

    /// Reserves room for `len` bytes and makes the file that long.
    pub async fn allocate(&self, len: u64) -> io::Result<()> {
        Once::submit(opcode::Fallocate::new(self.target(), len).build(), Held::Nothing).await.0.map(drop)
    }

    pub async fn close(self) -> io::Result<()> {
        let fd = types::Fd(self.fd.into_raw_fd());
        Once::submit(opcode::Close::new(fd).build(), Held::Nothing).await.0.map(drop)
    }
}

/// Where a write goes on: a direct one cannot start within a block.
fn advanced(done: usize, wrote: u32) -> io::Result<usize> {
    let whole = wrote as usize - wrote as usize % BLOCK_BYTES;
    if whole == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(done + whole)
}

impl AsRawFd for DirectFile {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
