//! Room for one connection of a churn: where it is on its short way.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use rmq_protocol::frame_len;

const CHUNK_BYTES: usize = 4096;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    #[default]
    Free,
    Connecting,
    /// The request is sent, its answer is not there yet.
    Asking,
}

#[derive(Default)]
pub struct Place {
    pub stage: Stage,
    pub stream: Option<TcpStream>,
    /// When it should have begun, when it did, and when its request was sent.
    pub due_ns: u64,
    pub begun_ns: u64,
    pub asked_ns: u64,
    /// Of the message that was sent.
    pub body_bytes: u64,
    /// What has arrived of the answer; its memory is kept for the next.
    pub input: Vec<u8>,
}

impl Place {
    pub fn is_busy(&self) -> bool {
        self.stage != Stage::Free
    }

    pub fn begin(&mut self, stream: TcpStream, due_ns: u64, now: u64) {
        self.stage = Stage::Connecting;
        self.stream = Some(stream);
        (self.due_ns, self.begun_ns) = (due_ns, now);
        self.input.clear();
    }

    /// Says whether the connect that has come to an end was a success.
    pub fn connected(&self) -> io::Result<()> {
        match self.stream()?.take_error()? {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// A fresh socket has room for a whole request, unless it is huge; then the rest is written in place.
    pub fn ask(&mut self, request: &[u8], now: u64) -> io::Result<()> {
        let mut stream = self.stream()?;
        let written = stream.write(request)?;
        if written < request.len() {
            stream.set_nonblocking(false)?;
            let rest = stream.write_all(&request[written..]);
            stream.set_nonblocking(true)?;
            rest?;
        }
        self.stage = Stage::Asking;
        self.asked_ns = now;
        Ok(())
    }

    /// Reads what is there; the length of the answer once all of it is.
    pub fn receive(&mut self) -> io::Result<Option<usize>> {
        let mut chunk = [0; CHUNK_BYTES];
        let mut stream = self.stream()?;
        match stream.read(&mut chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.input.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        let length =
            frame_len(&self.input).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(length.filter(|length| *length <= self.input.len()))
    }

    pub fn clear(&mut self) {
        self.stage = Stage::Free;
        self.stream = None;
    }

    fn stream(&self) -> io::Result<&TcpStream> {
        self.stream.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}
