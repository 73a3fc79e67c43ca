//! Sockets of the name server: one task per connection, all on one thread.
//!
//! A frame is answered before the next one of its connection is read, so a peer that does not read its
//! answers holds up nobody else. Not here: what an answer says (`handler`).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rmq_protocol::{Frame, FrameError};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::handler::{Effects, Handler, min_id_change_frame};
use super::limits::{ANSWERS_BYTES_MAX, CONNECTIONS_MAX, NOTIFY_MS_MAX, READ_BYTES, WRITE_SECONDS_MAX};
use super::route_table::{ConnectionNumber, MinIdChange};
use crate::config::NamesrvConfig;
use crate::control::state_file::StateFileError;

/// Why a name server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("bindAddress={address} is no IP address")]
    BadAddress { address: String },
    #[error("port {port} is taken by another process; stop it, or choose another listenPort", port = address.port())]
    PortTaken { address: SocketAddr },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    State(#[from] StateFileError),
}

/// Opens the port that the configuration names. Call it within a tokio runtime.
pub fn bind(config: &NamesrvConfig) -> Result<TcpListener, StartError> {
    let bad = || StartError::BadAddress { address: config.bind_address.clone() };
    let ip = config.bind_address.parse().map_err(|_| bad())?;
    let address = SocketAddr::new(ip, config.listen_port);
    listen(address, config.backlog).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::PortTaken { address },
        _ => StartError::Listen { address, source },
    })
}

fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the connections of the process before.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

pub struct NameServer {
    shared: Rc<Shared>,
}

struct Shared {
    handler: RefCell<Handler>,
    sessions: RefCell<BTreeMap<ConnectionNumber, Rc<Notify>>>,
    started: Instant,
    next_number: Cell<u64>,
    idle_max: Duration,
    scan_interval: Duration,
}

impl NameServer {
    pub fn new(config: NamesrvConfig) -> Result<Self, StartError> {
        let idle_max = match config.idle_max_seconds {
            // Off, as in Java; a century is as good.
            0 => Duration::from_secs(100 * 365 * 86_400),
            seconds => Duration::from_secs(u64::from(seconds)),
        };
        let scan_interval = Duration::from_millis(config.scan_not_active_broker_interval_ms);
        Ok(Self {
            shared: Rc::new(Shared {
                handler: RefCell::new(Handler::new(config)?),
                sessions: RefCell::default(),
                started: Instant::now(),
                next_number: Cell::new(1),
                idle_max,
                scan_interval,
            }),
        })
    }

    /// Serves until `shutdown` is ready. Needs a tokio `LocalSet` around it.
    pub async fn run(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let shared = self.shared;
        let mut scan = interval(shared.scan_interval);
        scan.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(shutdown);
        loop {
            let has_room = shared.sessions.borrow().len() < CONNECTIONS_MAX;
            tokio::select! {
                () = &mut shutdown => break,
                _ = scan.tick() => shared.expire_brokers(),
                accepted = listener.accept(), if has_room => match accepted {
                    Ok((stream, peer)) => shared.open(stream, peer),
                    Err(error) => {
                        tracing::warn!("name server: accept failed: {error}");
                        // Out of descriptors, most likely: do not spin until one is free.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        for close in shared.sessions.borrow().values() {
            close.notify_one();
        }
        while !shared.sessions.borrow().is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

impl Shared {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn open(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        let number = ConnectionNumber(self.next_number.get());
        self.next_number.set(number.0 + 1);
        let close = Rc::new(Notify::new());
        self.sessions.borrow_mut().insert(number, Rc::clone(&close));
        let shared = Rc::clone(self);
        spawn_local(async move {
            let ended = tokio::select! {
                ended = shared.serve(stream, number) => ended,
                () = close.notified() => Ended::Closed,
            };
            match ended {
                Ended::Closed => tracing::debug!("name server: {peer} closed"),
                Ended::Failed(error) => tracing::debug!("name server: {peer}: {error}"),
                Ended::Idle => tracing::info!("name server: closed {peer}, which was silent for too long"),
                Ended::Garbage(error) => tracing::warn!("name server: closed {peer}, which sent {error}"),
                Ended::Slow => tracing::warn!("name server: closed {peer}, which does not read its answers"),
            }
            shared.sessions.borrow_mut().remove(&number);
            let changes = shared.handler.borrow_mut().connection_closed(number);
            changes.into_iter().for_each(notify);
        });
    }

    async fn serve(&self, mut stream: TcpStream, number: ConnectionNumber) -> Ended {
        if let Err(error) = stream.set_nodelay(true) {
            return Ended::Failed(error);
        }
        let mut received = Vec::with_capacity(READ_BYTES);
        let mut answers = Vec::new();
        loop {
            received.reserve(READ_BYTES);
            match timeout(self.idle_max, stream.read_buf(&mut received)).await {
                Err(_) => return Ended::Idle,
                Ok(Err(error)) => return Ended::Failed(error),
                Ok(Ok(0)) => return Ended::Closed,
                Ok(Ok(_)) => {}
            }
            let mut consumed = 0;
            let garbage = loop {
                match Frame::decode(&received[consumed..]) {
                    Ok(None) => break None,
                    Ok(Some((frame, len))) => {
                        let effects =
                            self.handler.borrow_mut().handle(&frame, number, self.now_ms(), &mut answers);
                        let Effects { min_id_change } = effects;
                        min_id_change.into_iter().for_each(notify);
                        consumed += len;
                    }
                    Err(error) => break Some(error),
                }
                if answers.len() >= ANSWERS_BYTES_MAX
                    && let Err(ended) = write(&mut stream, &mut answers).await
                {
                    return ended;
                }
            };
            received.drain(..consumed);
            received.shrink_to(READ_BYTES.max(received.len()));
            if let Err(ended) = write(&mut stream, &mut answers).await {
                return ended;
            }
            if let Some(error) = garbage {
                return Ended::Garbage(error);
            }
        }
    }

    fn expire_brokers(&self) {
        let (changes, connections) = self.handler.borrow_mut().expire(self.now_ms());
        changes.into_iter().for_each(notify);
        let sessions = self.sessions.borrow();
        for close in connections.iter().filter_map(|number| sessions.get(number)) {
            close.notify_one();
        }
    }
}

enum Ended {
    Closed,
    Failed(io::Error),
    Idle,
    Garbage(FrameError),
    Slow,
}

async fn write(stream: &mut TcpStream, answers: &mut Vec<u8>) -> Result<(), Ended> {
    if answers.is_empty() {
        return Ok(());
    }
    let written = timeout(Duration::from_secs(WRITE_SECONDS_MAX), stream.write_all(answers)).await;
    answers.clear();
    answers.shrink_to(READ_BYTES);
    match written {
        Err(_) => Err(Ended::Slow),
        Ok(Err(error)) => Err(Ended::Failed(error)),
        Ok(Ok(())) => Ok(()),
    }
}

/// Tells the members of a group where its smallest id is now. They listen as brokers do: on their own address.
fn notify(change: MinIdChange) {
    let frame: Rc<[u8]> = min_id_change_frame(&change).into();
    for address in change.recipients {
        let frame = Rc::clone(&frame);
        spawn_local(async move {
            let sent = timeout(Duration::from_millis(NOTIFY_MS_MAX), async {
                let mut stream = TcpStream::connect(&address).await?;
                stream.write_all(&frame).await?;
                stream.shutdown().await
            });
            if !matches!(sent.await, Ok(Ok(()))) {
                tracing::warn!("name server: {address} could not be told of its group's new smallest id");
            }
        });
    }
}
