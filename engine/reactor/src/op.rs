//! Operations that the kernel works on, and who waits for them.

use std::cell::RefCell;
use std::ffi::CString;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use io_uring::squeue;
use slab::Slab;

use crate::buffer::AlignedBuffer;
use crate::reactor::Reactor;
use crate::socket::Readiness;

/// What must stay where it is until the kernel is done with it.
pub(crate) enum Held {
    Nothing,
    Buffer(AlignedBuffer),
    /// Read only, by several operations.
    Shared {
        _buffer: Rc<AlignedBuffer>,
    },
    Path {
        _path: CString,
    },
}

enum Op {
    /// One completion, for one future.
    Once { waker: Option<Waker>, result: Option<i32>, held: Held },
    /// As `Once`, but the future is gone: only what the kernel uses is kept.
    Abandoned { _held: Held },
    /// Completions whenever a socket becomes ready, until one says that it is the last.
    Ready(Rc<Readiness>),
    /// Another thread woke us; the completion itself is the message.
    Woken,
}

/// The table of everything under way. An operation's key is its `user_data`.
#[derive(Default)]
pub(crate) struct Ops {
    ops: RefCell<Slab<Op>>,
}

/// What a completion asks of the reactor.
pub(crate) enum Completed {
    Nothing,
    /// Whoever waits for a file.
    Wake(Waker),
    /// The wakes of other threads must be listened for anew.
    ListenAgain,
}

/// Completions that nobody waits for.
pub(crate) const IGNORED: u64 = u64::MAX;

impl Ops {
    pub(crate) fn add_readiness(&self, readiness: Rc<Readiness>) -> u64 {
        self.ops.borrow_mut().insert(Op::Ready(readiness)) as u64
    }

    pub(crate) fn add_woken(&self) -> u64 {
        self.ops.borrow_mut().insert(Op::Woken) as u64
    }

    fn add_once(&self, held: Held) -> usize {
        self.ops.borrow_mut().insert(Op::Once { waker: None, result: None, held })
    }

    /// Takes a completion and says what is to be done about it.
    pub(crate) fn complete(&self, key: u64, result: i32, more: bool) -> Completed {
        if key == IGNORED {
            return Completed::Nothing;
        }
        let key = key as usize;
        let mut ops = self.ops.borrow_mut();
        match ops.get_mut(key) {
            None => Completed::Nothing,
            Some(Op::Once { waker, result: slot, .. }) => {
                *slot = Some(result);
                waker.take().map_or(Completed::Nothing, Completed::Wake)
            }
            Some(Op::Abandoned { .. }) => {
                let gone = ops.remove(key);
                drop(ops);
                drop(gone);
                Completed::Nothing
            }
            Some(Op::Ready(readiness)) => {
                let readiness = Rc::clone(readiness);
                if !more {
                    ops.remove(key);
                }
                drop(ops);
                readiness.completed(result, more);
                Completed::Nothing
            }
            Some(Op::Woken) if more => Completed::Nothing,
            Some(Op::Woken) => {
                ops.remove(key);
                Completed::ListenAgain
            }
        }
    }

    /// Whether the kernel still works on something that uses our memory.
    pub(crate) fn any_transfers(&self) -> bool {
        self.ops
            .borrow()
            .iter()
            .any(|(_, op)| matches!(op, Op::Once { result: None, .. } | Op::Abandoned { .. }))
    }
}

/// One operation with one completion. Dropped early, it is completed all the same and nobody hears of it.
pub(crate) struct Once {
    reactor: Rc<Reactor>,
    key: Option<usize>,
}

impl Once {
    /// Submits at the end of this turn. `held` is what `entry` points into.
    pub(crate) fn submit(entry: squeue::Entry, held: Held) -> Self {
        let reactor = Reactor::current();
        let key = reactor.ops.add_once(held);
        // SAFETY: whatever the entry points to is in `held`, which the table keeps until the completion.
        unsafe { reactor.kernel.push(entry.user_data(key as u64)) };
        Self { reactor, key: Some(key) }
    }
}

impl Future for Once {
    type Output = (io::Result<u32>, Held);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let key = self.key.expect("not polled again after its end");
        let mut ops = self.reactor.ops.ops.borrow_mut();
        let Op::Once { waker, result, .. } = &mut ops[key] else { unreachable!("the key is ours") };
        if result.is_none() {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let Op::Once { result: Some(result), held, .. } = ops.remove(key) else { unreachable!("seen above") };
        drop(ops);
        self.key = None;
        let result = u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(result.saturating_neg()));
        Poll::Ready((result, held))
    }
}

impl Drop for Once {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut ops = self.reactor.ops.ops.borrow_mut();
        let gone = match std::mem::replace(&mut ops[key], Op::Woken) {
            Op::Once { result: None, held, waker } => {
                ops[key] = Op::Abandoned { _held: held };
                (None, waker)
            }
            done => {
                ops.remove(key);
                (Some(done), None)
            }
        };
        drop(ops);
        drop(gone);
    }
}
