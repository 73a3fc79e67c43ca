//! The engine's door with glommio behind it: what the engine ran on before it had a reactor of its own, kept to
//! measure one against the other.
//!
//! What glommio 0.9.0 needs from us, and where it gets it:
//! - The first direct file that a thread opens on a device decides by one read whether reads are polled; on
//!   an empty file it decides wrong and later reads fail. `prepare_dir` opens a written, synced probe first.
//! - It may underestimate alignment; `limits::BLOCK_BYTES` is used throughout and `alignment()` nowhere.
//! - A write future that is dropped before submission is a write that silently never happens; only detached
//!   tasks write.
//! - A panic in its blocking pool hangs whoever awaits it; [`blocking`] catches it.
//! - Writes may be short; `write_at` goes on where they stopped.
//! - Files that are dropped are closed late, so there is an explicit `close`.

use std::cell::RefCell;
use std::fs;
use std::future::Future;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use glommio::io::{DmaBuffer, DmaFile, OpenOptions};
use glommio::{GlommioError, Latency, Shares, TaskQueueHandle};
use rmq_engine::env::memory::{self, MappedMemory};
use rmq_engine::env::{Class, Env, File, LockGuard, OpenMode, Space, machine, split_mix};
use rmq_engine::limits::{BLOCK_BYTES, ZERO_PIECE_BYTES};

const READS_SHARES: usize = 500;
const BACKGROUND_SHARES: usize = 100;

#[derive(Clone)]
pub struct GlommioEnv {
    inner: Rc<Inner>,
}

struct Inner {
    started: Instant,
    foreground: TaskQueueHandle,
    reads: TaskQueueHandle,
    background: TaskQueueHandle,
    random: RefCell<u64>,
    zeros: RefCell<Option<Rc<DmaBuffer>>>,
}

impl GlommioEnv {
    /// Must run on the executor that it is for. Foreground tasks join the task queue that is current now, so
    /// that the flusher's one yield lets every ready connection of that queue append first.
    pub fn new() -> Self {
        let executor = glommio::executor();
        let queue =
            |shares, name| executor.create_task_queue(Shares::Static(shares), Latency::NotImportant, name);
        Self {
            inner: Rc::new(Inner {
                started: Instant::now(),
                foreground: executor.current_task_queue(),
                reads: queue(READS_SHARES, "reads"),
                background: queue(BACKGROUND_SHARES, "background"),
                random: RefCell::new(machine::seed()),
                zeros: RefCell::default(),
            }),
        }
    }

    fn zeros(&self) -> Rc<DmaBuffer> {
        let mut slot = self.inner.zeros.borrow_mut();
        Rc::clone(slot.get_or_insert_with(|| {
            let mut buffer = glommio::allocate_dma_buffer_global(ZERO_PIECE_BYTES);
            buffer.as_bytes_mut().fill(0);
            Rc::new(buffer)
        }))
    }
}

impl Default for GlommioEnv {
    fn default() -> Self {
        Self::new()
    }
}

impl Env for GlommioEnv {
    type File = GlommioFile;
    type Memory = MappedMemory;

    fn monotonic_us(&self) -> u64 {
        self.inner.started.elapsed().as_micros() as u64
    }

    fn wall_ms(&self) -> i64 {
        machine::wall_ms()
    }

    fn random(&self) -> u64 {
        split_mix(&mut self.inner.random.borrow_mut())
    }

    fn spawn(&self, class: Class, task: impl Future<Output = ()> + 'static) {
        let queue = match class {
            Class::Foreground => self.inner.foreground,
            Class::Reads => self.inner.reads,
            Class::Background => self.inner.background,
        };
        glommio::spawn_local_into(task, queue).expect("the queues of an Env live as long as it").detach();
    }

    async fn yield_now(&self) {
        glommio::executor().yield_now().await;
    }

    async fn sleep_us(&self, us: u64) {
        glommio::timer::sleep(Duration::from_micros(us)).await;
    }

    async fn prepare_dir(&self, dir: &Path) -> io::Result<()> {
        let probe = dir.join("probe");
        let path = probe.clone();
        blocking(move || {
            fs::create_dir_all(path.parent().expect("a file has a directory"))?;
            write_probe(&path)
        })
        .await?;
        // Opening it on this thread is the point; the answer glommio remembers now is a right one.
        self.open(&probe, OpenMode::READ).await?.close().await
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<GlommioFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(mode.write).create(mode.create);
        if mode.durable {
            options.custom_flags(libc::O_DSYNC);
        }
        let file = options.dma_open(path).await.map_err(plain)?;
        Ok(GlommioFile { file, env: self.clone() })
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let dir = dir.to_owned();
        blocking(move || machine::list(&dir)).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || fs::remove_file(path)).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        blocking(move || fs::rename(from, to)).await
    }

    async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = dir.to_owned();
        blocking(move || machine::sync_dir(&dir)).await
    }

    async fn space(&self, dir: &Path) -> io::Result<Space> {
        let dir = dir.to_owned();
        blocking(move || machine::space(&dir)).await
    }

    fn lock(&self, path: &Path) -> io::Result<Result<LockGuard, String>> {
        machine::lock(path)
    }

    async fn is_memory_dir(&self, dir: &Path) -> io::Result<bool> {
        let dir = dir.to_owned();
        blocking(move || memory::is_memory_dir(&dir)).await
    }

    async fn create_memory(&self, path: &Path, len: usize) -> io::Result<MappedMemory> {
        let path = path.to_owned();
        blocking(move || memory::create(&path, len)).await
    }

    async fn read_memory(&self, path: &Path) -> io::Result<Vec<u8>> {
        let path = path.to_owned();
        blocking(move || memory::read(&path)).await
    }

    async fn remove_memory(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || memory::remove(&path)).await
    }
}

/// One block that is not empty, not sparse and on the device, as the probing read needs it.
fn write_probe(path: &Path) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| found.len() == BLOCK_BYTES as u64) {
        return Ok(());
    }
    // Several shards may do this at once: each writes its own file, the last rename wins.
    static WRITERS: AtomicU64 = AtomicU64::new(0);
    let own = path.with_extension(format!("{}", WRITERS.fetch_add(1, Ordering::Relaxed)));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&own)?;
    file.write_all(&[0x70; BLOCK_BYTES])?;
    file.sync_all()?;
    fs::rename(&own, path)
}

pub struct GlommioFile {
    file: DmaFile,
    env: GlommioEnv,
}

impl File for GlommioFile {
    async fn write_at(&self, at: u64, len: usize, fill: impl FnOnce(&mut [u8])) -> io::Result<()> {
        let mut buffer = self.file.alloc_dma_buffer(len);
        fill(buffer.as_bytes_mut());
        let buffer = Rc::new(buffer);
        let mut done = self.file.write_rc_at(Rc::clone(&buffer), at).await.map_err(plain)?;
        while done < len {
            // Go on from the last whole block; a direct write cannot start in the middle of one.
            let from = done - done % BLOCK_BYTES;
            if done == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            let mut rest = self.file.alloc_dma_buffer(len - from);
            rest.as_bytes_mut().copy_from_slice(&buffer.as_bytes()[from..]);
            let more = self.file.write_at(rest, at + from as u64).await.map_err(plain)?;
            if from + more <= done {
                return Err(io::ErrorKind::WriteZero.into());
            }
            done = from + more;
        }
        Ok(())
    }

    async fn write_zeros_at(&self, at: u64, len: usize) -> io::Result<()> {
        if len == ZERO_PIECE_BYTES {
            let zeros = self.env.zeros();
            if self.file.write_rc_at(zeros, at).await.map_err(plain)? == len {
                return Ok(());
            }
        }
        self.write_at(at, len, |bytes| bytes.fill(0)).await
    }

    async fn read_at(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = self.file.read_at_aligned(at, len).await.map_err(plain)?.to_vec();
        // A short read in the middle of a file is rare, and an empty one is its end.
        while bytes.len() < len && bytes.len().is_multiple_of(BLOCK_BYTES) {
            let more =
                self.file.read_at_aligned(at + bytes.len() as u64, len - bytes.len()).await.map_err(plain)?;
            if more.is_empty() {
                break;
            }
            bytes.extend_from_slice(&more);
        }
        Ok(bytes)
    }

    async fn sync(&self) -> io::Result<()> {
        self.file.fdatasync().await.map_err(plain)
    }

    async fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.pre_allocate(len, false).await.map_err(plain)
    }

    fn size(&self) -> io::Result<u64> {
        // glommio's own goes by path, which may name another file by now.
        machine::file_size(self.file.as_raw_fd())
    }

    fn try_lock(&self) -> io::Result<bool> {
        machine::try_flock(self.file.as_raw_fd(), libc::LOCK_EX)
    }

    fn try_lock_shared(&self) -> io::Result<bool> {
        machine::try_flock(self.file.as_raw_fd(), libc::LOCK_SH)
    }

    async fn close(self) -> io::Result<()> {
        self.file.close().await.map_err(plain)
    }
}

/// Runs on glommio's blocking pool. A panic there would hang us for ever, so it comes back as an error.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    glommio::executor()
        .spawn_blocking(move || {
            catch_unwind(AssertUnwindSafe(work))
                .unwrap_or_else(|_| Err(io::Error::other("blocking work panicked")))
        })
        .await
}

/// The operating system's own error, so that its number can be looked at.
fn plain(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => source,
        other => io::Error::other(other.to_string()),
    }
}
