//! One logical connection of a load: its socket while there is one, and what waits for an answer.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::connection::Connection;
use crate::journal::{Entry, JournalFeed, Outcome};
use crate::poller::Poller;
use crate::produce::window::Window;

const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// A failed connect is tried again after this long, so that a dead server costs little.
const RETRY_NS: u64 = 200_000_000;

pub struct Sender {
    /// Every socket gets a new number: nothing says how the server orders what two sockets carried.
    pub number: u32,
    /// What is added for the next socket, so that numbers stay distinct over all senders.
    stride: u32,
    pub connection: Option<Connection>,
    pub window: Window,
    /// The socket is full: nothing more is written before it has room.
    pub stuck: bool,
    retry_ns: u64,
    limit: usize,
}

impl Sender {
    pub fn new(number: u32, stride: u32, limit: usize) -> Self {
        Self {
            number,
            stride,
            connection: None,
            window: Window::new(limit),
            stuck: false,
            retry_ns: 0,
            limit,
        }
    }

    pub fn queue(&self, request: u64, queues: usize) -> usize {
        queue_of(self.number, request, queues)
    }

    pub fn wants_connection(&self, now_ns: u64) -> bool {
        self.connection.is_none() && now_ns >= self.retry_ns
    }

    pub fn connect(
        &mut self,
        address: SocketAddr,
        poller: &Poller,
        token: usize,
        now_ns: u64,
    ) -> io::Result<()> {
        self.retry_ns = now_ns + RETRY_NS;
        let connection = Connection::open(address, CONNECT_TIMEOUT)?;
        poller.add(&connection, token)?;
        self.connection = Some(connection);
        Ok(())
    }

    /// Closes the books of a socket that is gone, and makes ready for another one. Returns how many sends it
    /// leaves without an answer.
    pub fn close(&mut self, journal: &mut Option<JournalFeed>, queues: usize, now_ns: u64) -> u64 {
        let mut unanswered = 0;
        let number = self.number;
        let requests = self.window.next();
        self.window.expire(u64::MAX, |request, waiting| {
            unanswered += 1;
            if let Some(journal) = journal {
                journal.record(&Entry {
                    connection: number,
                    queue: queue_of(number, request, queues) as u32,
                    request,
                    checksum: waiting.checksum,
                    outcome: Outcome::Unanswered,
                });
            }
        });
        if let Some(journal) = journal {
            let outcome = Outcome::Closed;
            journal.record(&Entry { connection: number, queue: 0, request: requests, checksum: 0, outcome });
        }
        self.connection = None;
        self.stuck = false;
        self.window = Window::new(self.limit);
        self.number += self.stride;
        self.retry_ns = now_ns + RETRY_NS;
        unanswered
    }
}

/// Connections start at different queues, so that few messages meet in one.
pub fn queue_of(number: u32, request: u64, queues: usize) -> usize {
    ((request + u64::from(number)) % queues as u64) as usize
}
