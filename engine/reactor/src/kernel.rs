//! The ring itself: what is asked of the kernel, and what it has completed.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, squeue};

/// `IORING_ENTER_GETEVENTS` and `IORING_ENTER_EXT_ARG` of the kernel's interface.
const GETEVENTS: u32 = 1;
const EXT_ARG: u32 = 1 << 3;

const SUBMISSIONS: u32 = 1024;
/// Many sockets may become ready between two turns; beyond this the kernel keeps a list of its own.
const COMPLETIONS: u32 = 8192;

pub(crate) struct Kernel {
    ring: RefCell<IoUring>,
}

/// What is taken from the completion queue at once, so that nobody is woken while the ring is borrowed.
const TAKEN_AT_ONCE: usize = 128;

#[derive(Clone, Copy, Default)]
pub(crate) struct Completion {
    pub(crate) key: u64,
    pub(crate) result: i32,
    pub(crate) more: bool,
}

impl Kernel {
    /// Must run on the thread that will use it. Newer kernels get what spares them interrupts; 5.13 suffices.
    pub(crate) fn new() -> io::Result<Self> {
        let build = |deferred: bool, cooperative: bool| {
            let mut builder = IoUring::builder();
            builder.setup_cqsize(COMPLETIONS).setup_submit_all();
            if deferred {
                builder.setup_single_issuer().setup_defer_taskrun();
            }
            if cooperative {
                builder.setup_coop_taskrun();
            }
            if deferred || cooperative {
                builder.setup_taskrun_flag();
            }
            builder.build(SUBMISSIONS)
        };
        let invalid = |error: &io::Error| error.raw_os_error() == Some(libc::EINVAL);
        let ring = match build(true, false) {
            Err(error) if invalid(&error) => match build(false, true) {
                Err(error) if invalid(&error) => {
                    let mut plain = IoUring::builder();
                    plain.setup_cqsize(COMPLETIONS);
                    plain.build(SUBMISSIONS)?
                }
                ring => ring?,
            },
            ring => ring?,
        };
        Ok(Self { ring: RefCell::new(ring) })
    }

    /// Queues an entry for the end of this turn.
    ///
    /// # Safety
    /// What the entry points to must stay where it is until its completion.
    pub(crate) unsafe fn push(&self, entry: squeue::Entry) {
        let mut ring = self.ring.borrow_mut();
        loop {
            // SAFETY: as promised by our caller.
            if unsafe { ring.submission().push(&entry) }.is_ok() {
                return;
            }
            // Full: hand over what is there. The kernel takes all of it, or runs out of memory for a moment.
            if let Err(error) = ring.submit()
                && !matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN | libc::EINTR))
            {
                panic!("io_uring does not take operations: {error}");
            }
        }
    }

    /// Whether a call of `turn` would do anything.
    pub(crate) fn has_work(&self) -> bool {
        let mut ring = self.ring.borrow_mut();
        let submission = ring.submission();
        !submission.is_empty() || submission.taskrun() || submission.cq_overflow() || {
            drop(submission);
            !ring.completion().is_empty()
        }
    }

    /// Submits what was queued and takes what is complete, without waiting.
    pub(crate) fn turn(&self) {
        self.enter(0, None);
    }

    /// As `turn`, but waits for a completion, at most this long.
    pub(crate) fn wait(&self, longest: Option<Duration>) {
        self.enter(1, longest);
    }

    fn enter(&self, completions: u32, longest: Option<Duration>) {
        let mut ring = self.ring.borrow_mut();
        let queued = ring.submission().len() as u32;
        let time;
        let mut arguments = SubmitArgs::new();
        if let Some(longest) = longest {
            time = Timespec::from(longest);
            arguments = arguments.timespec(&time);
        }
        // SAFETY: the arguments live through the call; the entries' memory was promised at `push`.
        let entered =
            unsafe { ring.submitter().enter(queued, completions, GETEVENTS | EXT_ARG, Some(&arguments)) };
        if let Err(error) = entered {
            match error.raw_os_error() {
                // Time is up, a signal came, or the kernel wants its completions taken first.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                _ => panic!("io_uring_enter failed: {error}"),
            }
        }
    }

    /// Hands completions to `each`. It may queue entries and wake tasks.
    pub(crate) fn completions(&self, mut each: impl FnMut(Completion)) {
        let mut taken = [Completion::default(); TAKEN_AT_ONCE];
        loop {
            let mut count = 0;
            for entry in self.ring.borrow_mut().completion().take(TAKEN_AT_ONCE) {
                taken[count] = Completion {
                    key: entry.user_data(),
                    result: entry.result(),
                    more: cqueue::more(entry.flags()),
                };
                count += 1;
            }
            taken[..count].iter().for_each(|&completion| each(completion));
            if count < TAKEN_AT_ONCE {
                return;
            }
        }
    }
}
