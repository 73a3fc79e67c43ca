//! A connected socket of this thread.
//!
//! The ring tells when it becomes readable, again and again with one request; data itself goes by plain `recv` and
//! `send`, which take the caller's memory, so that an idle connection owns no buffer.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use io_uring::{opcode, types};

use crate::op::IGNORED;
use crate::reactor::Reactor;

const READABLE: u32 = (libc::POLLIN | libc::POLLRDHUP) as u32;
const WRITABLE: u32 = libc::POLLOUT as u32;

/// What the kernel said about one direction of a socket.
#[derive(Default)]
pub(crate) struct Readiness {
    /// The kernel will tell of the next change.
    watched: Cell<bool>,
    ready: Cell<bool>,
    /// The peer is done: read until the end is seen.
    ended: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Readiness {
    pub(crate) fn completed(&self, result: i32, more: bool) {
        if !more {
            self.watched.set(false);
        }
        self.ready.set(true);
        // An error shows itself to the next call on the socket.
        if result < 0 || result & i32::from(libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) != 0 {
            self.ended.set(true);
        }
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn wait(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &*waker {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
    }
}

pub struct Socket {
    fd: OwnedFd,
    reactor: Rc<Reactor>,
    reading: Rc<Readiness>,
    reading_key: Cell<u64>,
    writing: Rc<Readiness>,
    writing_key: Cell<u64>,
}

impl Socket {
    /// Takes over an open, connected stream socket.
    pub fn new(fd: OwnedFd) -> Self {
        let reading = Readiness { ready: Cell::new(true), ..Readiness::default() };
        Self {
            fd,
            reactor: Reactor::current(),
            reading: Rc::new(reading),
            reading_key: Cell::new(IGNORED),
            writing: Rc::default(),
            writing_key: Cell::new(IGNORED),
        }
    }

    /// Reads what there is, at least a byte. 0: the peer is done.
    pub fn poll_read(&self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            if !self.reading.ready.get() {
                self.reading.wait(cx);
                if !self.reading.watched.get() {
                    self.reading_key.set(self.watch(&self.reading, READABLE, true));
                }
                return Poll::Pending;
            }
            // SAFETY: the slice is ours to write, of this length, during the call.
            let read = unsafe {
                libc::recv(self.fd.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT)
            };
            if let Ok(read) = usize::try_from(read) {
                // All of what there was: what comes next is announced. The end is announced only once.
                if read < into.len() && self.reading.watched.get() && !self.reading.ended.get() {
                    self.reading.ready.set(false);
                }
                return Poll::Ready(Ok(read));
            }
            match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => {
                    self.reading.ready.set(false);
                    self.reading.ended.set(false);
                }
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Bytes that arrived and have not been read.
    pub fn unread(&self) -> io::Result<usize> {
        let mut unread: libc::c_int = 0;
        // SAFETY: the kernel writes one int.
        if unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::FIONREAD, &raw mut unread) } == 0 {
            return Ok(usize::try_from(unread).unwrap_or(0));
        }
        Err(io::Error::last_os_error())
    }

    /// Writes as much as the kernel takes, at least a byte.
    pub fn poll_write(&self, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            // SAFETY: the slice is readable, of this length, during the call.
            let sent = unsafe {
                libc::send(
                    self.fd.as_raw_fd(),
                    from.as_ptr().cast(),
                    from.len(),
                    libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                )
            };
            if let Ok(sent) = usize::try_from(sent) {
                return Poll::Ready(Ok(sent));
            }
            match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => {
                    self.writing.wait(cx);
                    if !self.writing.watched.get() {
                        self.writing_key.set(self.watch(&self.writing, WRITABLE, false));
                    }
                    return Poll::Pending;
                }
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Poll::Ready(Err(error)),
            }
        }
    }

    /// The peer sees the end now, not when the kernel's last look at this socket is cancelled.
    pub fn shutdown(&self) -> io::Result<()> {
        // SAFETY: no memory is passed.
        if unsafe { libc::shutdown(self.fd.as_raw_fd(), libc::SHUT_RDWR) } == 0 {
            return Ok(());
        }
        Err(io::Error::last_os_error())
    }

    fn watch(&self, readiness: &Rc<Readiness>, events: u32, again: bool) -> u64 {
        readiness.watched.set(true);
        let key = self.reactor.ops.add_readiness(Rc::clone(readiness));
        let poll = opcode::PollAdd::new(types::Fd(self.fd.as_raw_fd()), events).multi(again);
        // SAFETY: the entry points to no memory. Dropping the socket cancels it.
        unsafe { self.reactor.kernel.push(poll.build().user_data(key)) };
        key
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        for (readiness, key) in [(&self.reading, &self.reading_key), (&self.writing, &self.writing_key)] {
            readiness.waker.take();
            if readiness.watched.get() {
                let cancel = opcode::PollRemove::new(key.get()).build().user_data(IGNORED);
                // SAFETY: the entry points to no memory.
                unsafe { self.reactor.kernel.push(cancel) };
            }
        }
    }
}
