//! Tasks: what is ready to run, and who runs when not everybody can.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use async_task::Runnable;
use slab::Slab;

use crate::reactor::Reactor;

/// Which work a task competes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Somebody waits for an answer: the network, the flusher.
    Foreground,
    /// Reads that go to disk. May take half as much time as the foreground takes.
    Reads,
    /// Upkeep. May take a tenth as much time as the foreground takes.
    Background,
}

impl Class {
    /// Time a class may take for each unit that the foreground took, in thousandths.
    const fn share_per_mille(self) -> u64 {
        match self {
            Self::Foreground => 1000,
            Self::Reads => 500,
            Self::Background => 100,
        }
    }
}

/// A class that had nothing to do saves up at most this much time: what the foreground waits for it at worst, beside
/// the one task that it may be in.
const CREDIT_NS_MAX: i64 = 100_000;

/// After this long a turn ends, so that the disk does not wait for all of the network.
const TURN_MAX: Duration = Duration::from_micros(200);

/// The tasks of one reactor.
pub(crate) struct Tasks {
    foreground: RefCell<VecDeque<Runnable>>,
    /// What is woken now goes to the front.
    first: Cell<bool>,
    reads: Queue,
    background: Queue,
    /// One waker for each task that lives, so that the end of the reactor can end them.
    living: RefCell<Slab<Waker>>,
}

struct Queue {
    class: Class,
    ready: RefCell<VecDeque<Runnable>>,
    /// Time that this class may still take; negative after a long slice.
    credit_ns: Cell<i64>,
}

impl Queue {
    fn new(class: Class) -> Self {
        Self { class, ready: RefCell::default(), credit_ns: Cell::new(CREDIT_NS_MAX) }
    }

    fn earn(&self, foreground_ns: u64) {
        let earned = foreground_ns.saturating_mul(self.class.share_per_mille()) / 1000;
        let credit = self.credit_ns.get().saturating_add(i64::try_from(earned).unwrap_or(i64::MAX));
        self.credit_ns.set(credit.min(CREDIT_NS_MAX));
    }

    /// Runs what is ready now, while the credit lasts; one task at least when nobody else wants to run.
    fn run(&self, idle: bool) {
        let mut left = self.ready.borrow().len();
        let mut free = idle;
        while left > 0 && (self.credit_ns.get() > 0 || free) {
            let Some(task) = self.ready.borrow_mut().pop_front() else { return };
            let began = Instant::now();
            task.run();
            let took = i64::try_from(began.elapsed().as_nanos()).unwrap_or(i64::MAX);
            self.credit_ns.set(self.credit_ns.get().saturating_sub(took).max(-CREDIT_NS_MAX));
            left -= 1;
            free = false;
        }
    }
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self {
            foreground: RefCell::default(),
            first: Cell::new(false),
            reads: Queue::new(Class::Reads),
            background: Queue::new(Class::Background),
            living: RefCell::default(),
        }
    }

    /// Wakes a task that waited for the disk. It goes before those that wait for the network: the disk idles until
    /// it is given the next group, and each group answers many.
    pub(crate) fn wake_first(&self, waker: Waker) {
        self.first.set(true);
        waker.wake();
        self.first.set(false);
    }

    pub(crate) fn push(&self, class: Class, task: Runnable) {
        match class {
            Class::Foreground if self.first.get() => self.foreground.borrow_mut().push_front(task),
            Class::Foreground => self.foreground.borrow_mut().push_back(task),
            Class::Reads => self.reads.ready.borrow_mut().push_back(task),
            Class::Background => self.background.ready.borrow_mut().push_back(task),
        }
    }

    pub(crate) fn any_ready(&self) -> bool {
        !self.foreground.borrow().is_empty()
            || !self.reads.ready.borrow().is_empty()
            || !self.background.ready.borrow().is_empty()
    }

    /// One turn. Tasks that become ready meanwhile, and those that yield, run in a later one.
    pub(crate) fn run_ready(&self) {
        let count = self.foreground.borrow().len();
        let began = Instant::now();
        for _ in 0..count {
            let Some(task) = self.foreground.borrow_mut().pop_front() else { break };
            task.run();
            if count > 1 && began.elapsed() >= TURN_MAX {
                break;
            }
        }
        if !self.reads.ready.borrow().is_empty() || !self.background.ready.borrow().is_empty() {
            let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            for queue in [&self.reads, &self.background] {
                queue.earn(took);
                queue.run(count == 0);
            }
        }
    }

    /// Ends every task that lives, by dropping its future.
    pub(crate) fn end(&self) {
        loop {
            let living: Vec<Waker> = self.living.borrow().iter().map(|(_, waker)| waker.clone()).collect();
            living.into_iter().for_each(Waker::wake);
            if !self.any_ready() {
                return;
            }
            for queue in [&self.foreground, &self.reads.ready, &self.background.ready] {
                // A runnable that is dropped cancels its task; that may make others ready.
                let dropped: Vec<Runnable> = queue.borrow_mut().drain(..).collect();
                drop(dropped);
            }
        }
    }
}

/// A future that is listed as living until it is done.
struct Listed<F> {
    future: F,
    reactor: Rc<Reactor>,
    key: usize,
}

impl<F: Future<Output = ()>> Future for Listed<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: `future` is structurally pinned: it is never moved out, and `Listed` is never unpinned by hand.
        let future = unsafe { self.map_unchecked_mut(|listed| &mut listed.future) };
        future.poll(cx)
    }
}

impl<F> Drop for Listed<F> {
    fn drop(&mut self) {
        let waker = self.reactor.tasks.living.borrow_mut().try_remove(self.key);
        drop(waker);
    }
}

/// Runs a task on this thread's reactor until it ends or the reactor does.
pub fn spawn(class: Class, future: impl Future<Output = ()> + 'static) {
    let reactor = Reactor::current();
    let remote = Arc::clone(&reactor.remote);
    let schedule = move |task: Runnable| {
        if let Some(task) = Reactor::push_if_current(&remote, class, task) {
            remote.push(class, task);
        }
    };
    let key = reactor.tasks.living.borrow_mut().insert(Waker::noop().clone());
    let future = Listed { future, reactor: Rc::clone(&reactor), key };
    let (runnable, task) = async_task::spawn_local(future, schedule);
    reactor.tasks.living.borrow_mut()[key] = runnable.waker();
    task.detach();
    reactor.tasks.push(class, runnable);
}

/// Lets every other task that is ready now run once, and takes what the kernel has completed.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
