//! A pinned executor per shard, its tasks and its timers.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use rmq_reactor::Options;
pub use rmq_reactor::{sleep, yield_now};

/// Runs `main` to its end on a new thread that is pinned to `cpu`.
pub fn spawn_pinned<G, F>(
    name: &str,
    cpu: usize,
    spin: Duration,
    main: G,
) -> io::Result<std::thread::JoinHandle<Result<(), String>>>
where
    G: FnOnce() -> F + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    rmq_reactor::spawn_pinned(name, Options { cpu: Some(cpu), spin }, main)
}

/// Runs a task on this shard until it ends.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    rmq_reactor::spawn(rmq_reactor::Class::Foreground, task);
}

/// The same for work that serves reads from disk: producers come first.
pub fn spawn_reader(task: impl Future<Output = ()> + 'static) {
    rmq_reactor::spawn(rmq_reactor::Class::Reads, task);
}

/// A one-thread notification: `notify` wakes the task that waits, now or at its next wait.
#[derive(Default)]
pub struct Notify {
    set: std::cell::Cell<bool>,
    waker: std::cell::RefCell<Option<std::task::Waker>>,
}

impl Notify {
    pub fn new() -> Rc<Self> {
        Rc::new(Self::default())
    }

    pub fn notify(&self) {
        self.set.set(true);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub fn notified(&self) -> impl Future<Output = ()> + '_ {
        std::future::poll_fn(|cx| {
            if self.set.replace(false) {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    /// Waits until notified or until `timeout` has passed, whichever is first.
    pub async fn notified_within(&self, timeout: Duration) {
        let timer = std::pin::pin!(sleep(timeout));
        let notified = std::pin::pin!(self.notified());
        Either { first: notified, second: timer }.await;
    }
}

struct Either<'a, A, B> {
    first: Pin<&'a mut A>,
    second: Pin<&'a mut B>,
}

impl<A: Future<Output = ()>, B: Future<Output = ()>> Future for Either<'_, A, B> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.first.as_mut().poll(cx).is_ready() || self.second.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

/// One value from one task to another of the same shard.
pub struct Oneshot<T> {
    value: std::cell::RefCell<Option<T>>,
    notify: Notify,
}

impl<T> Oneshot<T> {
    pub fn new() -> Rc<Self> {
        Rc::new(Self { value: std::cell::RefCell::new(None), notify: Notify::default() })
    }

    pub fn set(&self, value: T) {
        *self.value.borrow_mut() = Some(value);
        self.notify.notify();
    }

    pub async fn take(&self) -> T {
        loop {
            let value = self.value.borrow_mut().take();
            if let Some(value) = value {
                return value;
            }
            self.notify.notified().await;
        }
    }
}
