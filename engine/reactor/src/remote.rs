//! Wakes from other threads.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

use async_task::Runnable;
use crossbeam_queue::SegQueue;

use crate::tasks::Class;

/// What other threads see of a reactor: its tasks that they woke, and whether it sleeps.
pub(crate) struct Remote {
    woken: SegQueue<(Class, Runnable)>,
    /// Set before the thread looks a last time and goes to sleep in the kernel.
    parked: AtomicBool,
    /// Written to end that sleep.
    event: OwnedFd,
}

impl Remote {
    pub(crate) fn new() -> std::io::Result<Self> {
        // SAFETY: no pointers; the result is checked.
        let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if event < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: the call above returned this descriptor, and nobody else has it.
        let event = unsafe { OwnedFd::from_raw_fd(event) };
        Ok(Self { woken: SegQueue::new(), parked: AtomicBool::new(false), event })
    }

    pub(crate) fn event_fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// From another thread: the task is to run on the reactor's.
    pub(crate) fn push(&self, class: Class, task: Runnable) {
        self.woken.push((class, task));
        // Pairs with the fence in `park`: either the sleeper sees the task, or we see that it sleeps.
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::Relaxed) {
            let one = 1u64;
            // SAFETY: eight bytes of a live local. The counter cannot overflow, one wake of a sleeper adds one.
            unsafe { libc::write(self.event.as_raw_fd(), std::ptr::from_ref(&one).cast(), 8) };
        }
    }

    pub(crate) fn take(&self) -> Option<(Class, Runnable)> {
        self.woken.pop()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.woken.is_empty()
    }

    /// Announces sleep. False: there is something to do, do not sleep.
    pub(crate) fn park(&self) -> bool {
        self.parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.woken.is_empty() {
            return true;
        }
        self.unpark();
        false
    }

    pub(crate) fn unpark(&self) {
        self.parked.store(false, Ordering::Relaxed);
    }
}
