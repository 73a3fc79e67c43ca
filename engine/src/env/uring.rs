//! The real machine: a reactor of our own over io_uring. The only file of this crate that names it.

use std::cell::RefCell;
use std::fs;
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rmq_reactor::{AlignedBuffer, DirectFile, blocking};

use super::memory::{self, MappedMemory};
use super::{Class, Env, File, LockGuard, OpenMode, Space, machine};
use crate::limits::ZERO_BYTES_MAX;

#[derive(Clone)]
pub struct UringEnv {
    inner: Rc<Inner>,
}

struct Inner {
    started: Instant,
    random: RefCell<u64>,
    zeros: RefCell<Option<Rc<AlignedBuffer>>>,
}

impl UringEnv {
    /// For use on a thread with a reactor.
    pub fn new() -> Self {
        let random = RefCell::new(machine::seed());
        Self { inner: Rc::new(Inner { started: Instant::now(), random, zeros: RefCell::default() }) }
    }

    fn zeros(&self) -> Rc<AlignedBuffer> {
        let mut slot = self.inner.zeros.borrow_mut();
        Rc::clone(slot.get_or_insert_with(|| {
            let mut buffer = AlignedBuffer::new(ZERO_BYTES_MAX);
            buffer.fill(0);
            Rc::new(buffer)
        }))
    }
}

impl Default for UringEnv {
    fn default() -> Self {
        Self::new()
    }
}

impl Env for UringEnv {
    type File = UringFile;
    type Memory = MappedMemory;

    fn monotonic_us(&self) -> u64 {
        self.inner.started.elapsed().as_micros() as u64
    }

    fn wall_ms(&self) -> i64 {
        machine::wall_ms()
    }

    fn random(&self) -> u64 {
        super::split_mix(&mut self.inner.random.borrow_mut())
    }

    fn spawn(&self, class: Class, task: impl Future<Output = ()> + 'static) {
        let class = match class {
            Class::Foreground => rmq_reactor::Class::Foreground,
            Class::Reads => rmq_reactor::Class::Reads,
            Class::Background => rmq_reactor::Class::Background,
        };
        rmq_reactor::spawn(class, task);
    }

    async fn yield_now(&self) {
        rmq_reactor::yield_now().await;
    }

    async fn sleep_us(&self, us: u64) {
        rmq_reactor::sleep(Duration::from_micros(us)).await;
    }

    async fn prepare_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = dir.to_owned();
        blocking(move || fs::create_dir_all(dir)).await
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<UringFile> {
        let OpenMode { write, create, durable } = mode;
        let file = DirectFile::open(path, rmq_reactor::OpenMode { write, create, durable }).await?;
        Ok(UringFile { file, env: self.clone() })
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

pub struct UringFile {
    file: DirectFile,
    env: UringEnv,
}

impl File for UringFile {
    async fn write_at(&self, at: u64, len: usize, fill: impl FnOnce(&mut [u8])) -> io::Result<()> {
        let mut buffer = AlignedBuffer::new(len);
        fill(&mut buffer);
        self.file.write_at(buffer, at).await.map(drop)
    }

    async fn write_zeros_at(&self, at: u64, len: usize) -> io::Result<()> {
        let zeros = self.env.zeros();
        self.file.write_shared_at(&zeros, len, at).await
    }

    async fn read_at(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let (buffer, found) = self.file.read_at(at, len).await?;
        Ok(buffer[..found].to_vec())
    }

    async fn sync(&self) -> io::Result<()> {
        self.file.sync().await
    }

    async fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len).await
    }

    fn size(&self) -> io::Result<u64> {
        machine::file_size(self.file.as_raw_fd())
    }

    fn try_lock(&self) -> io::Result<bool> {
        machine::try_flock(self.file.as_raw_fd(), libc::LOCK_EX)
    }

    fn try_lock_shared(&self) -> io::Result<bool> {
        machine::try_flock(self.file.as_raw_fd(), libc::LOCK_SH)
    }

    async fn close(self) -> io::Result<()> {
        self.file.close().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{BLOCK_BYTES, FLUSH_BYTES_MAX};

    fn on_executor<F: Future<Output = ()> + 'static>(work: impl FnOnce(UringEnv) -> F) {
        rmq_reactor::run(&rmq_reactor::Options::default(), || work(UringEnv::new())).expect("a ring");
    }

    /// A directory of its own below the system's temporary one, removed at the end.
    struct TestDir(std::path::PathBuf);

    impl TestDir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("rmq-uring-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            Self(dir)
        }
    }

    impl Drop for TestDir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_new_file_reads_as_zeros_and_as_what_was_written() {
        let dir = TestDir::new("new");
        let path = dir.0.join("log");
        let dir_path = dir.0.clone();
        on_executor(move |env| async move {
            env.prepare_dir(&dir_path).await.unwrap();
            let file = env.open(&path, OpenMode { durable: true, ..OpenMode::CREATE }).await.unwrap();
            file.allocate(1 << 20).await.unwrap();
            assert_eq!(file.read_at(0, BLOCK_BYTES).await.unwrap(), [0; BLOCK_BYTES]);
            file.write_at(BLOCK_BYTES as u64, BLOCK_BYTES, |out| out.fill(7)).await.unwrap();
            assert_eq!(file.read_at(BLOCK_BYTES as u64, BLOCK_BYTES).await.unwrap(), [7; BLOCK_BYTES]);
            file.close().await.unwrap();
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
            assert_eq!(env.list(&dir_path).await.unwrap(), ["a", "c"]);
            env.remove(&dir_path.join("a")).await.unwrap();
            assert_eq!(env.remove(&dir_path.join("a")).await.unwrap_err().kind(), io::ErrorKind::NotFound);
            let space = env.space(&dir_path).await.unwrap();
            assert!((0.0..=1.0).contains(&space.used_ratio()) && space.total > 0);
        });
    }
}
