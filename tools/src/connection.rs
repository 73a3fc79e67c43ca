//! One non-blocking connection: whole frames in, pending bytes out.
//!
//! Invariant: `input[start..end]` is what arrived and was not taken yet. Both buffers keep their memory, so a
//! connection in its stride allocates nothing.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rmq_protocol::frame_len;

const INPUT_BYTES: usize = 64 * 1024;

pub struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    start: usize,
    end: usize,
    output: Vec<u8>,
    written: usize,
}

impl Connection {
    pub fn open(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, input: vec![0; INPUT_BYTES], start: 0, end: 0, output: Vec::new(), written: 0 })
    }

    /// Reads once. `false`: the peer closed the connection.
    pub fn receive(&mut self) -> io::Result<bool> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.end == self.input.len() {
            self.make_room();
        }
        match self.stream.read(&mut self.input[self.end..]) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.end += count;
                Ok(true)
            }
            Err(error) if would_block(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The next whole frame, if it has arrived.
    pub fn next_frame(&mut self) -> io::Result<Option<&[u8]>> {
        let arrived = &self.input[self.start..self.end];
        let length = frame_len(arrived).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        match length {
            Some(length) if length <= arrived.len() => {
                let from = self.start;
                self.start += length;
                Ok(Some(&self.input[from..from + length]))
            }
            _ => Ok(None),
        }
    }

    /// Where requests are written; they leave with [`Self::flush`].
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    pub fn pending(&self) -> usize {
        self.output.len() - self.written
    }

    /// Writes what the socket takes. `false`: some is left, so wait for room.
    pub fn flush(&mut self) -> io::Result<bool> {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if would_block(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(true)
    }

    /// The tail of the buffer is used up by a partial frame: move it to the front, and when that frame alone
    /// fills the buffer, double it. The bound is the protocol's frame limit, which `frame_len` enforces.
    fn make_room(&mut self) {
        if self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end > self.input.len() / 2 {
            self.input.resize(self.input.len() * 2, 0);
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
