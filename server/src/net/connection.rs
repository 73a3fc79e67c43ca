//! One client connection of a shard: bytes in, whole frames to the handler, answers out in one write.
//!
//! A connection has one task. It reads into the shard's scratch buffer (an idle connection owns no buffer),
//! hands every whole frame on, and keeps only an incomplete frame. Answers are collected in `out` and sent
//! directly when a batch is done; the task sees the socket's write side only when the kernel's buffer is full.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use nix::sys::socket::{MsgFlags, send};
use rmq_reactor::Socket;

use crate::control::link::ConnectionId;
use crate::limits;
use crate::mesh::Verdict;
use crate::net::standing_queue::StandingQueue;

/// What the handler made of a batch of bytes.
pub enum Progress {
    /// This many bytes were whole frames and are dealt with; the rest is the start of a frame.
    Consumed(usize),
    /// Like `Consumed`, but the next frame has to wait for something (`Connection::resume` ends the wait).
    Stalled(usize),
    /// The bytes are no frame: close, for this reason.
    Garbage(String),
}

/// What a connection asks of its shard.
pub trait FrameSink: 'static {
    /// Handles every whole frame in `bytes`. Called with no borrow of the connection held.
    fn frames(&self, connection: &Rc<Connection>, bytes: &[u8]) -> Progress;
    /// The read batch is done: send what was answered and what must go to other shards.
    fn batch_done(&self);
}

pub struct Connection {
    pub id: ConnectionId,
    pub peer: SocketAddr,
    /// Accepted by the fast (VIP) listener.
    pub vip: bool,
    fd: RawFd,
    out: RefCell<Vec<u8>>,
    /// `out` is listed for the next flush.
    dirty: Cell<bool>,
    /// The kernel took less than all of `out`; the task finishes it.
    blocked: Cell<bool>,
    closing: Cell<bool>,
    stalled: Cell<bool>,
    /// What ended the last stall; the frame that stalled looks at it when it is handled again.
    verdict: RefCell<Option<Verdict>>,
    /// Requests forwarded or deferred and not yet answered.
    in_flight: Cell<u32>,
    /// Requests that the control thread has not answered yet.
    with_control: Cell<u32>,
    last_active_ms: Cell<u64>,
    /// How long sends have waited unread, when it is too long: they are refused.
    overdue_ms: Cell<Option<u64>>,
    /// The control thread knows this connection and must hear of its end.
    pub known_to_control: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Connection {
    pub fn new(id: ConnectionId, peer: SocketAddr, vip: bool, fd: RawFd, now_ms: u64) -> Rc<Self> {
        Rc::new(Self {
            id,
            peer,
            vip,
            fd,
            out: RefCell::new(Vec::new()),
            dirty: Cell::new(false),
            blocked: Cell::new(false),
            closing: Cell::new(false),
            stalled: Cell::new(false),
            verdict: RefCell::new(None),
            in_flight: Cell::new(0),
            with_control: Cell::new(0),
            last_active_ms: Cell::new(now_ms),
            overdue_ms: Cell::new(None),
            known_to_control: Cell::new(false),
            waker: RefCell::new(None),
        })
    }

    /// Gives the answer buffer to `write`. True: the caller lists the connection for the next flush.
    pub fn write(&self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        if self.closing.get() {
            return false;
        }
        let mut out = self.out.borrow_mut();
        write(&mut out);
        let too_much = out.len() > limits::ANSWER_BUFFER_BYTES_MAX;
        drop(out);
        if too_much {
            tracing::warn!(peer = %self.peer, "closed: the client does not read its answers");
            self.close();
            return false;
        }
        !self.dirty.replace(true)
    }

    /// Sends what has been written with one system call, as far as the kernel takes it.
    pub fn flush(&self, now_ms: u64) {
        self.dirty.set(false);
        if self.blocked.get() || self.closing.get() {
            return;
        }
        let mut out = self.out.borrow_mut();
        if out.is_empty() {
            return;
        }
        self.last_active_ms.set(now_ms);
        match send(self.fd, &out, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
            Ok(sent) if sent == out.len() => {
                out.clear();
                drop(out);
                if sent >= limits::ANSWER_BUFFER_HIGH_WATER_BYTES {
                    // The task stopped reading for these bytes, and waits for nothing else.
                    self.wake();
                }
                return;
            }
            Ok(sent) => {
                out.drain(..sent);
            }
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
            Err(_) => {
                drop(out);
                self.close();
                return;
            }
        }
        self.blocked.set(true);
        drop(out);
        self.wake();
    }

    /// Gives back the memory of an answer buffer that is not in use.
    pub fn shrink(&self) {
        let mut out = self.out.borrow_mut();
        if out.is_empty() {
            out.shrink_to(limits::IDLE_ANSWER_BUFFER_BYTES);
        }
    }

    /// Ends the connection at the next turn of its task.
    pub fn close(&self) {
        self.closing.set(true);
        self.wake();
    }

    pub fn is_closing(&self) -> bool {
        self.closing.get()
    }

    pub fn stall(&self) {
        self.verdict.borrow_mut().take();
        self.stalled.set(true);
    }

    pub fn resume(&self) {
        if self.stalled.replace(false) {
            self.wake();
        }
    }

    pub fn decided(&self, verdict: Verdict) {
        *self.verdict.borrow_mut() = Some(verdict);
        self.resume();
    }

    pub fn take_verdict(&self) -> Option<Verdict> {
        self.verdict.borrow_mut().take()
    }

    pub fn begin(&self, requests: u32) {
        self.in_flight.set(self.in_flight.get() + requests);
    }

    pub fn finish(&self, requests: u32) {
        let before = self.in_flight.get();
        let after = before.saturating_sub(requests);
        self.in_flight.set(after);
        if before >= limits::REQUESTS_IN_FLIGHT_MAX && after < limits::REQUESTS_IN_FLIGHT_MAX {
            self.wake();
        }
    }

    pub fn asked_control(&self) {
        self.with_control.set(self.with_control.get() + 1);
    }

    pub fn answered_by_control(&self) {
        let before = self.with_control.get();
        self.with_control.set(before.saturating_sub(1));
        if before == limits::CONTROL_REQUESTS_MAX {
            self.wake();
        }
    }

    pub fn last_active_ms(&self) -> u64 {
        self.last_active_ms.get()
    }

    pub fn overdue_ms(&self) -> Option<u64> {
        self.overdue_ms.get()
    }

    fn may_read(&self) -> bool {
        !self.stalled.get()
            && self.in_flight.get() < limits::REQUESTS_IN_FLIGHT_MAX
            && self.with_control.get() < limits::CONTROL_REQUESTS_MAX
            && self.out.borrow().len() < limits::ANSWER_BUFFER_HIGH_WATER_BYTES
    }

    fn wake(&self) {
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Why a connection ended.
#[derive(Debug)]
pub enum End {
    Peer,
    Us,
    Garbage(String),
    Failed(io::Error),
}

/// Reads the socket until it ends. `scratch` is the shard's one read buffer, borrowed only within a poll; a send may
/// wait unread for `wait_max_ms`.
pub async fn serve(
    socket: OwnedFd,
    connection: Rc<Connection>,
    sink: Rc<dyn FrameSink>,
    scratch: Rc<RefCell<Box<[u8]>>>,
    wait_max_ms: Option<u64>,
    now_ms: impl Fn() -> u64,
) -> End {
    let stream = Socket::new(socket);
    debug_assert_eq!(stream.as_raw_fd(), connection.fd);
    let waiting = StandingQueue::new(wait_max_ms);
    let mut reader =
        Reader { stream, connection, sink, scratch, now_ms, waiting, partial: Vec::new(), ready: false };
    let end = std::future::poll_fn(|cx| reader.poll(cx)).await;
    reader.connection.closing.set(true);
    // The peer sees the end at once, not when the executor next drops a source.
    let _ = reader.stream.shutdown();
    end
}

/// Reads that fill the buffer, per turn of the task; then the other connections, and the disk, have theirs.
const FULL_READS_PER_TURN: usize = 1;

/// What says how long a frame is.
const LENGTH_WORD_BYTES: usize = 4;

struct Reader<C> {
    stream: Socket,
    connection: Rc<Connection>,
    sink: Rc<dyn FrameSink>,
    scratch: Rc<RefCell<Box<[u8]>>>,
    now_ms: C,
    waiting: StandingQueue,
    /// An incomplete frame, or frames that wait for the end of a stall.
    partial: Vec<u8>,
    /// `partial` may hold a whole frame.
    ready: bool,
}

impl<C: Fn() -> u64> Reader<C> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        {
            let mut waker = self.connection.waker.borrow_mut();
            match &*waker {
                Some(known) if known.will_wake(cx.waker()) => {}
                _ => *waker = Some(cx.waker().clone()),
            }
        }
        if self.connection.closing.get() {
            return Poll::Ready(End::Us);
        }
        if self.connection.blocked.get()
            && let Err(error) = self.poll_write(cx)
        {
            return Poll::Ready(End::Failed(error));
        }
        let mut touched = false;
        let mut turn = Poll::Pending;
        let mut full_reads = 0;
        loop {
            if !self.connection.may_read() {
                // It waits for something else than the processor.
                self.waiting.emptied();
                break;
            }
            if self.ready {
                self.ready = false;
                self.touch(&mut touched);
                let bytes = std::mem::take(&mut self.partial);
                if let Some(end) = self.take_frames(bytes) {
                    turn = Poll::Ready(end);
                    break;
                }
                continue;
            }
            if full_reads >= FULL_READS_PER_TURN {
                cx.waker().wake_by_ref();
                break;
            }
            let scratch = Rc::clone(&self.scratch);
            let mut scratch = scratch.borrow_mut();
            match self.stream.poll_read(cx, &mut scratch[..]) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => {
                    turn = Poll::Ready(End::Peer);
                    break;
                }
                Poll::Ready(Err(error)) => {
                    turn = Poll::Ready(End::Failed(error));
                    break;
                }
                Poll::Ready(Ok(read)) => {
                    self.touch(&mut touched);
                    full_reads += usize::from(read == scratch.len());
                    self.watch_queue(read, scratch.len());
                    if let Some(end) = self.take_read(&scratch[..read]) {
                        turn = Poll::Ready(end);
                        break;
                    }
                }
            }
        }
        if touched {
            self.sink.batch_done();
        }
        turn
    }

    /// The clock of the shard goes on before a batch is handled, since deadlines count from then.
    fn touch(&self, touched: &mut bool) {
        if !std::mem::replace(touched, true) {
            self.connection.last_active_ms.set((self.now_ms)());
        }
    }

    fn watch_queue(&mut self, read: usize, room: usize) {
        if read < room {
            self.waiting.emptied();
        } else {
            let now_ms = self.connection.last_active_ms();
            self.waiting.left(read, now_ms, || self.stream.unread().unwrap_or(0));
        }
        self.connection.overdue_ms.set(self.waiting.overdue_ms());
    }

    fn take_read(&mut self, mut read: &[u8]) -> Option<End> {
        if !self.partial.is_empty() {
            // Only the frame that had begun is put together; the others are handled where they were read.
            let word = LENGTH_WORD_BYTES.saturating_sub(self.partial.len()).min(read.len());
            self.partial.extend_from_slice(&read[..word]);
            let len = match rmq_protocol::frame::frame_len(&self.partial) {
                Ok(Some(len)) => len,
                Ok(None) => return None,
                Err(error) => return Some(End::Garbage(error.to_string())),
            };
            let missing = len.saturating_sub(self.partial.len());
            let (piece, rest) = read[word..].split_at(missing.min(read.len() - word));
            self.partial.reserve_exact(missing.min(limits::PARTIAL_FRAME_RESERVE_BYTES.max(piece.len())));
            self.partial.extend_from_slice(piece);
            if piece.len() < missing {
                return None;
            }
            let bytes = std::mem::take(&mut self.partial);
            if let Some(end) = self.take_frames(bytes) {
                return Some(end);
            }
            if self.ready {
                // It has to wait, and what came behind it as well.
                self.partial.extend_from_slice(rest);
                return None;
            }
            read = rest;
        }
        let progress = self.sink.frames(&self.connection, read);
        self.keep_rest(progress, |consumed| read[consumed..].to_vec())
    }

    fn take_frames(&mut self, mut bytes: Vec<u8>) -> Option<End> {
        let progress = self.sink.frames(&self.connection, &bytes);
        self.keep_rest(progress, |consumed| {
            bytes.drain(..consumed);
            if bytes.is_empty() { Vec::new() } else { bytes }
        })
    }

    fn keep_rest(&mut self, progress: Progress, rest: impl FnOnce(usize) -> Vec<u8>) -> Option<End> {
        match progress {
            Progress::Consumed(consumed) => self.partial = rest(consumed),
            Progress::Stalled(consumed) => {
                self.partial = rest(consumed);
                self.ready = true;
            }
            Progress::Garbage(why) => return Some(End::Garbage(why)),
        }
        None
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut out = self.connection.out.borrow_mut();
        while !out.is_empty() {
            match self.stream.poll_write(cx, &out) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(sent)) => {
                    out.drain(..sent);
                }
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        self.connection.blocked.set(false);
        self.connection.last_active_ms.set((self.now_ms)());
        Ok(())
    }
}
