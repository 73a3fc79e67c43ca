//! Timers: who is to be woken when.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::reactor::Reactor;

#[derive(Default)]
pub(crate) struct Timers {
    /// By deadline; the number tells timers of one instant apart.
    waiting: RefCell<BTreeMap<(Instant, u64), Waker>>,
    count: Cell<u64>,
}

impl Timers {
    /// How long until the next timer is due. `None`: there is none.
    pub(crate) fn next_in(&self) -> Option<Duration> {
        let waiting = self.waiting.borrow();
        let ((due, _), _) = waiting.first_key_value()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// Wakes everybody who is due.
    pub(crate) fn fire(&self) {
        if self.waiting.borrow().is_empty() {
            return;
        }
        let now = Instant::now();
        loop {
            let due = {
                let mut waiting = self.waiting.borrow_mut();
                match waiting.first_entry() {
                    Some(first) if first.key().0 <= now => first.remove(),
                    _ => return,
                }
            };
            due.wake();
        }
    }

    pub(crate) fn clear(&self) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        drop(waiting);
    }
}

/// Waits at least this long.
pub fn sleep(duration: Duration) -> impl Future<Output = ()> {
    Sleep { due: Instant::now() + duration, number: None }
}

struct Sleep {
    due: Instant,
    /// Set while the timer is listed.
    number: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let reactor = Reactor::current();
        let timers = &reactor.timers;
        if let Some(number) = self.number {
            let mut waiting = timers.waiting.borrow_mut();
            let Some(waker) = waiting.get_mut(&(self.due, number)) else {
                self.number = None;
                return Poll::Ready(());
            };
            if !waker.will_wake(cx.waker()) {
                *waker = cx.waker().clone();
            }
            return Poll::Pending;
        }
        if self.due <= Instant::now() {
            return Poll::Ready(());
        }
        let number = timers.count.get();
        timers.count.set(number + 1);
        timers.waiting.borrow_mut().insert((self.due, number), cx.waker().clone());
        self.number = Some(number);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number
            && let Some(reactor) = Reactor::try_current()
        {
            let waker = reactor.timers.waiting.borrow_mut().remove(&(self.due, number));
            drop(waker);
        }
    }
}
