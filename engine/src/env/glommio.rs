//! The real machine: glommio executors over io_uring. The only file of this crate that names glommio.
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

mod memory;

use std::cell::RefCell;
use std::fs;
use std::future::Future;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use glommio::io::{DmaBuffer, DmaFile, OpenOptions};
use glommio::{GlommioError, Latency, Shares, TaskQueueHandle};

pub use memory::GlommioMemory;

use super::{Class, Env, File, LockGuard, OpenMode, Space};
use crate::limits::{BLOCK_BYTES, ZERO_BYTES_MAX};

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
                random: RefCell::new(seed()),
                zeros: RefCell::default(),
            }),
        }
    }

    fn zeros(&self) -> Rc<DmaBuffer> {
        let mut slot = self.inner.zeros.borrow_mut();
        Rc::clone(slot.get_or_insert_with(|| {
            let mut buffer = glommio::allocate_dma_buffer_global(ZERO_BYTES_MAX);
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

/// Different on every thread and start; not for secrets.
fn seed() -> u64 {
    static THREADS: AtomicU64 = AtomicU64::new(1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    let mut bytes = [0; 8];
    if let Ok(mut file) = fs::File::open("/dev/urandom") {
        let _ = file.read(&mut bytes);
    }
    u64::from_le_bytes(bytes) ^ now.rotate_left(20) ^ THREADS.fetch_add(1, Ordering::Relaxed)
}

impl Env for GlommioEnv {
    type File = GlommioFile;
    type Memory = GlommioMemory;

    fn monotonic_us(&self) -> u64 {
        self.inner.started.elapsed().as_micros() as u64
    }

    fn wall_ms(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
    }

    fn random(&self) -> u64 {
        super::split_mix(&mut self.inner.random.borrow_mut())
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
        blocking(move || {
            let mut names = Vec::new();
            for entry in fs::read_dir(dir)? {
                names.extend(entry?.file_name().into_string().ok());
            }
            names.sort();
            Ok(names)
        })
        .await
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
        blocking(move || fs::File::open(dir)?.sync_all()).await
    }

    async fn space(&self, dir: &Path) -> io::Result<Space> {
        let dir = dir.to_owned();
        blocking(move || {
            let found = nix::sys::statvfs::statvfs(&dir)?;
            let unit = found.fragment_size();
            // As `df` counts: what is reserved for root is neither used nor free.
            let used = (found.blocks() - found.blocks_free()) * unit;
            let free = found.blocks_available() * unit;
            Ok(Space { total: used + free, free })
        })
        .await
    }

    fn lock(&self, path: &Path) -> io::Result<Result<LockGuard, String>> {
        let mut file =
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
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

    async fn is_memory_dir(&self, dir: &Path) -> io::Result<bool> {
        let dir = dir.to_owned();
        blocking(move || memory::is_memory_dir(&dir)).await
    }

    async fn create_memory(&self, path: &Path, len: usize) -> io::Result<GlommioMemory> {
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
        if len == ZERO_BYTES_MAX {
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
        Ok(nix::sys::stat::fstat(borrowed(&self.file))?.st_size as u64)
    }

    fn try_lock(&self) -> io::Result<bool> {
        try_flock(self.file.as_raw_fd(), libc::LOCK_EX)
    }

    fn try_lock_shared(&self) -> io::Result<bool> {
        try_flock(self.file.as_raw_fd(), libc::LOCK_SH)
    }

    async fn close(self) -> io::Result<()> {
        self.file.close().await.map_err(plain)
    }
}

fn borrowed(file: &DmaFile) -> std::os::fd::BorrowedFd<'_> {
    // SAFETY: the descriptor is owned by `file`, which outlives the borrow.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(file.as_raw_fd()) }
}

fn try_flock(fd: RawFd, kind: libc::c_int) -> io::Result<bool> {
    // SAFETY: flock takes no pointers; a bad descriptor is answered with an error.
    if unsafe { libc::flock(fd, kind | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        error => Err(error),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::FLUSH_BYTES_MAX;

    fn on_executor<F: Future<Output = ()> + 'static>(work: impl FnOnce(GlommioEnv) -> F + Send + 'static) {
        glommio::LocalExecutorBuilder::new(glommio::Placement::Unbound)
            .io_memory(1 << 20)
            .spawn(move || async move { work(GlommioEnv::new()).await })
            .expect("an executor")
            .join()
            .expect("no panic");
    }

    /// A directory of its own below the system's temporary one, removed at the end.
    struct TestDir(std::path::PathBuf);

    impl TestDir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("rmq-env-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            Self(dir)
        }
    }

    impl Drop for TestDir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Without the probe the first file of a thread, being empty, makes later reads fail with EOPNOTSUPP.
    #[test]
    fn a_thread_whose_first_file_is_a_new_one_can_read_it() {
        let dir = TestDir::new("probe");
        let path = dir.0.join("log");
        for _ in 0..2 {
            let (dir, path) = (dir.0.clone(), path.clone());
            on_executor(move |env| async move {
                env.prepare_dir(&dir).await.unwrap();
                let _ = fs::remove_file(&path);
                let file = env.open(&path, OpenMode { durable: true, ..OpenMode::CREATE }).await.unwrap();
                file.allocate(1 << 20).await.unwrap();
                assert_eq!(
                    file.read_at(0, BLOCK_BYTES).await.unwrap(),
                    [0; BLOCK_BYTES],
                    "unwritten is zeros"
                );
                file.write_at(BLOCK_BYTES as u64, BLOCK_BYTES, |out| out.fill(7)).await.unwrap();
                assert_eq!(file.read_at(BLOCK_BYTES as u64, BLOCK_BYTES).await.unwrap(), [7; BLOCK_BYTES]);
                file.close().await.unwrap();
            });
        }
    }

    #[test]
    fn a_panic_on_the_blocking_pool_is_an_error() {
        on_executor(|_| async {
            let failed = blocking(|| -> io::Result<()> { panic!("on purpose") }).await;
            assert!(failed.is_err());
            assert_eq!(blocking(|| Ok(5)).await.unwrap(), 5, "the pool goes on");
        });
    }

    /// Writes of the largest size, more of them than the registered memory holds, and reads over the end.
    #[test]
    fn large_writes_come_back_and_errors_keep_their_numbers() {
        let dir = TestDir::new("large");
        let path = dir.0.join("log");
        on_executor(move |env| async move {
            env.prepare_dir(&env_dir(&path)).await.unwrap();
            let missing = env.open(&path, OpenMode::READ).await.err().unwrap();
            assert_eq!(missing.kind(), io::ErrorKind::NotFound);
            let file = env.open(&path, OpenMode::CREATE).await.unwrap();
            for n in 0..8u8 {
                let at = u64::from(n) * FLUSH_BYTES_MAX as u64;
                file.write_at(at, FLUSH_BYTES_MAX, |out| out.fill(n)).await.unwrap();
            }
            file.write_zeros_at(0, ZERO_BYTES_MAX).await.unwrap();
            file.sync().await.unwrap();
            assert_eq!(file.size().unwrap(), 8 * FLUSH_BYTES_MAX as u64);
            let bytes = file.read_at(FLUSH_BYTES_MAX as u64, 16 * FLUSH_BYTES_MAX).await.unwrap();
            assert_eq!(bytes.len(), 7 * FLUSH_BYTES_MAX);
            assert!(bytes.iter().enumerate().all(|(n, &byte)| byte as usize == n / FLUSH_BYTES_MAX + 1));
            assert!(file.read_at(0, BLOCK_BYTES).await.unwrap().iter().all(|&byte| byte == 0));
            file.close().await.unwrap();
        });
    }

    fn env_dir(path: &Path) -> std::path::PathBuf {
        path.parent().expect("a file has a directory").to_owned()
    }

    #[test]
    fn locks_hold_between_descriptors_and_end_with_them() {
        let dir = TestDir::new("locks");
        let path = dir.0.join("log");
        on_executor(move |env| async move {
            env.prepare_dir(&env_dir(&path)).await.unwrap();
            let first = env.open(&path, OpenMode::CREATE).await.unwrap();
            let second = env.open(&path, OpenMode::WRITE).await.unwrap();
            assert!(first.try_lock().unwrap() && first.try_lock().unwrap());
            assert!(!second.try_lock().unwrap());
            first.close().await.unwrap();
            assert!(second.try_lock().unwrap());
            let third = env.open(&path, OpenMode::WRITE).await.unwrap();
            assert!(!third.try_lock_shared().unwrap());
            assert!(second.try_lock_shared().unwrap() && third.try_lock_shared().unwrap());
            assert!(!third.try_lock().unwrap(), "not alone while another writes");
            let lock = env_dir(&path).join("lock");
            let guard = env.lock(&lock).unwrap().unwrap();
            let holder = env.lock(&lock).unwrap().err().unwrap();
            assert!(holder.contains(&std::process::id().to_string()), "{holder}");
            drop(guard);
            assert!(env.lock(&lock).unwrap().is_ok());
        });
    }

    #[test]
    fn names_change_as_asked() {
        let dir = TestDir::new("names");
        let dir_path = dir.0.clone();
        on_executor(move |env| async move {
            env.prepare_dir(&dir_path).await.unwrap();
            for name in ["b", "a"] {
                env.open(&dir_path.join(name), OpenMode::CREATE).await.unwrap().close().await.unwrap();
            }
            env.rename(&dir_path.join("b"), &dir_path.join("c")).await.unwrap();
            env.sync_dir(&dir_path).await.unwrap();
            assert_eq!(env.list(&dir_path).await.unwrap(), ["a", "c", "probe"]);
            env.remove(&dir_path.join("a")).await.unwrap();
            assert_eq!(env.remove(&dir_path.join("a")).await.unwrap_err().kind(), io::ErrorKind::NotFound);
            let space = env.space(&dir_path).await.unwrap();
            assert!((0.0..=1.0).contains(&space.used_ratio()) && space.total > 0);
        });
    }
}
