//! Waiting within one thread: a flag with one waiter, and a list of waiters.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Wakes one task. A notification that nobody waits for yet is kept.
#[derive(Default)]
pub(crate) struct Notify {
    set: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Notify {
    pub fn notify(&self) {
        // A second notification before the task ran needs no second wake-up: this is called per append.
        if !self.set.replace(true)
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }

    pub async fn notified(&self) {
        poll_fn(|cx| {
            if self.set.take() {
                return Poll::Ready(());
            }
            self.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// Wakes every task that waits for a change; each then looks for itself.
#[derive(Default)]
pub(crate) struct Changes {
    version: Cell<u64>,
    wakers: RefCell<Vec<Waker>>,
}

impl Changes {
    pub fn announce(&self) {
        self.version.set(self.version.get() + 1);
        for waker in self.wakers.take() {
            waker.wake();
        }
    }

    /// Waits until `ready` holds; it is asked now and after each announcement.
    pub async fn wait_for(&self, mut ready: impl FnMut() -> bool) {
        while !ready() {
            let seen = self.version.get();
            poll_fn(|cx| {
                if self.version.get() != seen {
                    return Poll::Ready(());
                }
                self.wakers.borrow_mut().push(cx.waker().clone());
                Poll::Pending
            })
            .await;
        }
    }
}
