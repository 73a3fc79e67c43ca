//! File work that the ring does not offer, on a thread of its own that may use any processor.

use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread;

use crate::reactor::Reactor;

struct Outcome<T> {
    value: Option<io::Result<T>>,
    waker: Option<Waker>,
}

/// Runs `work` on another thread. It goes on when the future is dropped. For rare work: each call starts a thread.
///
/// # Errors
/// Those of `work`; also that no thread could be started, or that `work` panicked.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let processors = Reactor::current().processors;
    let outcome = Arc::new(Mutex::new(Outcome { value: None, waker: None }));
    let theirs = Arc::clone(&outcome);
    thread::Builder::new().name("rmq-file-work".to_owned()).spawn(move || {
        // SAFETY: the set lives through the call. Failure leaves the thread where its parent is pinned.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &processors) };
        let value = catch_unwind(AssertUnwindSafe(work))
            .unwrap_or_else(|_| Err(io::Error::other("file work panicked")));
        let mut outcome = theirs.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.value = Some(value);
        let waker = outcome.waker.take();
        drop(outcome);
        if let Some(waker) = waker {
            waker.wake();
        }
    })?;
    poll_fn(|cx| {
        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                outcome.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    })
    .await
}
