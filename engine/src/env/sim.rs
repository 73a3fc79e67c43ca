//! A whole machine as a function of a seed: the order of tasks, the time things take, what the disk forgets.
//!
//! The fault model, which is what the engine is proven against:
//! - Tasks that are ready run in any order. Disk requests take any time and complete in any order.
//! - Between submission and completion of a write, its 512-byte sectors reach the disk in any order.
//! - A completed write is in the disk's cache and visible to reads. A power cut keeps any mix of the versions
//!   that a sector had since it was last made durable, each sector for itself.
//! - A sync makes durable what was completed before it was submitted; a write through a durable descriptor
//!   makes durable its own sectors and nothing else.
//! - Names (creation, rename, removal) survive a power cut as a prefix of what happened, at least up to what
//!   a directory sync covered.
//! - A killed process loses its memory only; each of its writes in flight may still happen, wholly or partly.
//! - Any chosen request may fail; a failed write may have changed any of its sectors.
//! - Files below [`MEMORY_DIR`] are memory: writes to them happen at once and in order, a killed process leaves a
//!   part of the one it was at, a power cut leaves no file at all.
//!
//! A machine is stopped *at* a step: each request counts one step when it is submitted and one when it is
//! completed, each write to memory counts one, so a run can be cut at every point that the disk or the memory can
//! tell apart.

mod disk;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

pub use disk::SimDisk;
use disk::{Inode, WriteId};

use super::{Class, Env, File, LockGuard, Memory, OpenMode, Space, split_mix};
use crate::limits::BLOCK_BYTES;

/// What is below it is not on the disk.
pub const MEMORY_DIR: &str = "/shm";

/// What a task is unwound with that was stopped in the middle of a write to memory.
struct Stopped;

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The machine stops at this step.
    pub stop_at: Option<u64>,
    /// The request submitted at this step, if it writes or syncs, fails with this error number.
    pub fail: Option<(u64, i32)>,
}

/// One life of the simulated machine: a process, on a disk that outlives it.
pub struct Sim {
    world: Rc<World>,
}

struct World {
    disk: SimDisk,
    random: Cell<u64>,
    now_us: Cell<u64>,
    wall_start_ms: i64,
    steps: Cell<u64>,
    faults: Faults,
    stopped: Cell<bool>,
    tasks: RefCell<Vec<Option<Task>>>,
    ready: Ready,
    timers: RefCell<BTreeMap<(u64, u64), Waker>>,
    timers_set: Cell<u64>,
}

type Task = Pin<Box<dyn Future<Output = ()>>>;
type Ready = Arc<Mutex<Vec<usize>>>;

struct TaskWaker {
    id: usize,
    ready: Ready,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if !ready.contains(&self.id) {
            ready.push(self.id);
        }
    }
}

impl Sim {
    pub fn new(seed: u64, disk: &SimDisk, faults: Faults) -> Self {
        let mut random = seed;
        // Clocks of different lives disagree by some seconds, in both directions.
        let skew_ms = (split_mix(&mut random) % 10_000) as i64;
        Self {
            world: Rc::new(World {
                disk: disk.clone(),
                random: Cell::new(random),
                now_us: Cell::new(0),
                wall_start_ms: 1_700_000_000_000 + skew_ms,
                steps: Cell::new(0),
                faults,
                stopped: Cell::new(false),
                tasks: RefCell::default(),
                ready: Ready::default(),
                timers: RefCell::default(),
                timers_set: Cell::new(0),
            }),
        }
    }

    pub fn env(&self) -> SimEnv {
        SimEnv { world: Rc::clone(&self.world) }
    }

    /// Steps so far: how many points there are to stop at.
    pub fn steps(&self) -> u64 {
        self.world.steps.get()
    }

    /// Runs until the future is done; `None` if the machine stopped before.
    pub fn run<T: 'static>(&self, main: impl Future<Output = T> + 'static) -> Option<T> {
        let world = &self.world;
        let result = Rc::new(RefCell::new(None));
        let slot = Rc::clone(&result);
        world.spawn(Box::pin(async move {
            let value = main.await;
            slot.replace(Some(value));
        }));
        while result.borrow().is_none() && !world.stopped.get() {
            match world.pick_ready() {
                Some(id) => world.poll(id),
                None => world.pass_time(),
            }
        }
        result.take()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        // Tasks hold the world that holds them.
        let tasks = self.world.tasks.take();
        drop(tasks);
        self.world.timers.take();
    }
}

impl World {
    fn random(&self) -> u64 {
        let mut state = self.random.get();
        let value = split_mix(&mut state);
        self.random.set(state);
        value
    }

    fn below(&self, bound: u64) -> u64 {
        self.random() % bound
    }

    fn spawn(&self, task: Task) {
        let id = {
            let mut tasks = self.tasks.borrow_mut();
            tasks.push(Some(task));
            tasks.len() - 1
        };
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    }

    fn pick_ready(&self) -> Option<usize> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.is_empty() {
            return None;
        }
        let at = self.below(ready.len() as u64) as usize;
        Some(ready.swap_remove(at))
    }

    fn poll(&self, id: usize) {
        let Some(mut task) = self.tasks.borrow_mut()[id].take() else { return };
        let waker = Waker::from(Arc::new(TaskWaker { id, ready: Arc::clone(&self.ready) }));
        let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(&mut Context::from_waker(&waker))));
        match polled {
            Ok(Poll::Pending) => self.tasks.borrow_mut()[id] = Some(task),
            Ok(Poll::Ready(())) => {}
            Err(payload) if payload.is::<Stopped>() => {}
            Err(payload) => resume_unwind(payload),
        }
    }

    fn pass_time(&self) {
        let Some(((at, _), waker)) = self.timers.borrow_mut().pop_first() else {
            panic!("every task waits for another: nothing can ever happen again");
        };
        self.now_us.set(self.now_us.get().max(at));
        waker.wake();
    }

    async fn sleep_us(&self, us: u64) {
        let due = self.now_us.get() + us;
        let number = self.timers_set.get();
        self.timers_set.set(number + 1);
        poll_fn(|cx| {
            if self.now_us.get() >= due && !self.timers.borrow().contains_key(&(due, number)) {
                return Poll::Ready(());
            }
            self.timers.borrow_mut().insert((due, number), cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// One point at which the machine may stop.
    async fn step(&self) -> u64 {
        let step = self.steps.get();
        self.steps.set(step + 1);
        if self.faults.stop_at == Some(step) {
            self.stopped.set(true);
            pending::<()>().await;
        }
        step
    }

    /// Submission of a request that writes or syncs.
    async fn submit(&self) -> io::Result<()> {
        let step = self.step().await;
        match self.faults.fail {
            Some((at, errno)) if at == step => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(()),
        }
    }

    async fn take_time(&self) {
        const REQUEST_US: u64 = 200;
        self.sleep_us(10 + self.below(REQUEST_US)).await;
        self.step().await;
    }
}

#[derive(Clone)]
pub struct SimEnv {
    world: Rc<World>,
}

impl Env for SimEnv {
    type File = SimFile;
    type Memory = SimMemory;

    fn monotonic_us(&self) -> u64 {
        self.world.now_us.get()
    }

    fn wall_ms(&self) -> i64 {
        self.world.wall_start_ms + (self.world.now_us.get() / 1000) as i64
    }

    fn random(&self) -> u64 {
        self.world.random()
    }

    fn spawn(&self, _: Class, task: impl Future<Output = ()> + 'static) {
        self.world.spawn(Box::pin(task));
    }

    async fn yield_now(&self) {
        let mut yielded = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    async fn sleep_us(&self, us: u64) {
        self.world.sleep_us(us).await;
    }

    async fn prepare_dir(&self, _: &Path) -> io::Result<()> {
        // Directories are as many as names mention.
        Ok(())
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<SimFile> {
        self.world.take_time().await;
        let inode = self.world.disk.open(path, mode.create)?;
        Ok(SimFile { world: Rc::clone(&self.world), inode, durable: mode.durable, locked: Cell::new(false) })
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.world.take_time().await;
        Ok(self.world.disk.list(dir))
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.world.submit().await?;
        self.world.take_time().await;
        self.world.disk.remove(path)
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.world.submit().await?;
        self.world.take_time().await;
        self.world.disk.rename(from, to)
    }

    async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.world.submit().await?;
        let covered = self.world.disk.name_changes();
        self.world.take_time().await;
        self.world.disk.sync_dir(dir, covered);
        Ok(())
    }

    async fn space(&self, _: &Path) -> io::Result<Space> {
        self.world.take_time().await;
        Ok(self.world.disk.space())
    }

    fn lock(&self, path: &Path) -> io::Result<Result<LockGuard, String>> {
        Ok(self.world.disk.lock(path))
    }

    async fn is_memory_dir(&self, dir: &Path) -> io::Result<bool> {
        Ok(dir.starts_with(MEMORY_DIR))
    }

    async fn create_memory(&self, path: &Path, len: usize) -> io::Result<SimMemory> {
        self.world.submit().await?;
        self.world.disk.create_memory(path, len)?;
        Ok(SimMemory { world: Rc::clone(&self.world), path: path.to_owned() })
    }

    async fn read_memory(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.world.take_time().await;
        self.world.disk.read_memory(path)
    }

    async fn remove_memory(&self, path: &Path) -> io::Result<()> {
        self.world.submit().await?;
        self.world.disk.remove_memory(path)
    }
}

pub struct SimMemory {
    world: Rc<World>,
    path: PathBuf,
}

impl Memory for SimMemory {
    fn write(&self, at: usize, bytes: &[u8]) {
        let step = self.world.steps.get();
        self.world.steps.set(step + 1);
        if self.world.faults.stop_at == Some(step) {
            self.world.stopped.set(true);
            let done = self.world.below(bytes.len() as u64 + 1) as usize;
            self.world.disk.write_memory(&self.path, at, &bytes[..done]);
            // The process ends between two instructions, and what would follow never happens.
            resume_unwind(Box::new(Stopped));
        }
        self.world.disk.write_memory(&self.path, at, bytes);
    }

    fn remove(self) -> io::Result<()> {
        self.world.disk.put_memory(&self.path, None);
        Ok(())
    }
}

impl Drop for SimMemory {
    fn drop(&mut self) {
        self.world.disk.lock_memory(&self.path, false);
    }
}

pub struct SimFile {
    world: Rc<World>,
    inode: Inode,
    durable: bool,
    locked: Cell<bool>,
}

impl SimFile {
    async fn write(&self, at: u64, bytes: Vec<u8>) -> io::Result<()> {
        assert!(at.is_multiple_of(BLOCK_BYTES as u64) && bytes.len().is_multiple_of(BLOCK_BYTES));
        let disk = &self.world.disk;
        if let Err(error) = self.world.submit().await {
            let write: WriteId = disk.begin_write(self.inode, at, bytes);
            disk.tear_write(write, self.world.random());
            return Err(error);
        }
        let write = disk.begin_write(self.inode, at, bytes);
        self.world.take_time().await;
        disk.end_write(write, self.durable);
        Ok(())
    }
}

impl File for SimFile {
    async fn write_at(&self, at: u64, len: usize, fill: impl FnOnce(&mut [u8])) -> io::Result<()> {
        // What a fresh buffer holds is anything but zeros.
        let mut bytes = vec![0xdb; len];
        fill(&mut bytes);
        self.write(at, bytes).await
    }

    async fn write_zeros_at(&self, at: u64, len: usize) -> io::Result<()> {
        self.write(at, vec![0; len]).await
    }

    async fn read_at(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        assert!(at.is_multiple_of(BLOCK_BYTES as u64) && len.is_multiple_of(BLOCK_BYTES));
        self.world.take_time().await;
        Ok(self.world.disk.read(self.inode, at, len))
    }

    async fn sync(&self) -> io::Result<()> {
        self.world.submit().await?;
        let covered = self.world.disk.versions();
        self.world.take_time().await;
        self.world.disk.sync(self.inode, covered);
        Ok(())
    }

    async fn allocate(&self, len: u64) -> io::Result<()> {
        self.world.submit().await?;
        self.world.take_time().await;
        self.world.disk.allocate(self.inode, len)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.world.disk.size(self.inode))
    }

    fn try_lock(&self) -> io::Result<bool> {
        if !self.locked.get() {
            self.locked.set(self.world.disk.try_lock_file(self.inode));
        }
        Ok(self.locked.get())
    }

    fn try_lock_shared(&self) -> io::Result<bool> {
        if !self.locked.get() {
            self.locked.set(self.world.disk.try_share_file(self.inode));
        }
        Ok(self.locked.get())
    }

    async fn close(self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if self.locked.get() {
            self.world.disk.unlock_file(self.inode);
        }
    }
}
