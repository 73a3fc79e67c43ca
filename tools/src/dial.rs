//! Connections by the thousand: more descriptors than a shell allows at first, and more ports than one address has.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrStorage, bind, connect, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::error::Error;

/// Each has some 28,000 ports, and a port that was closed rests for a minute.
const LOOPBACK_SOURCES: u8 = 128;
/// Files that are open besides connections.
const DESCRIPTORS_BESIDE: u64 = 64;

/// Opens sockets to one address. Towards loopback they come from many addresses in turn.
pub struct Dialer {
    target: SocketAddr,
    spread: bool,
    dialed: u64,
}

impl Dialer {
    pub fn new(target: SocketAddr) -> Self {
        let spread = matches!(target, SocketAddr::V4(address) if address.ip().is_loopback());
        Self { target, spread, dialed: 0 }
    }

    /// Connects and waits for it, at most this long; the stream does not block from then on.
    pub fn connect(&mut self, timeout: Duration) -> io::Result<TcpStream> {
        let stream = self.socket(SockFlag::empty())?;
        setsockopt(&stream, sockopt::SendTimeout, &TimeVal::milliseconds(timeout.as_millis().max(1) as i64))?;
        match connect(stream.as_raw_fd(), &SockaddrStorage::from(self.target)) {
            // What a connect says that the send timeout ended.
            Err(Errno::EINPROGRESS) => return Err(io::ErrorKind::TimedOut.into()),
            connected => connected?,
        }
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    /// Begins to connect; it is done, or has failed, once the stream can be written to.
    pub fn begin(&mut self) -> io::Result<TcpStream> {
        let stream = self.socket(SockFlag::SOCK_NONBLOCK)?;
        match connect(stream.as_raw_fd(), &SockaddrStorage::from(self.target)) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(stream),
            Err(error) => Err(error.into()),
        }
    }

    fn socket(&mut self, flags: SockFlag) -> io::Result<TcpStream> {
        let family = if self.target.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let socket = socket(family, SockType::Stream, flags | SockFlag::SOCK_CLOEXEC, None)?;
        if self.spread {
            // The port is chosen at connect, when it is known that only the pair of both ends must be free.
            setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
            let last = (self.dialed % u64::from(LOOPBACK_SOURCES)) as u8 + 1;
            let source = SocketAddrV4::new(Ipv4Addr::new(127, 77, 0, last), 0);
            bind(socket.as_raw_fd(), &SockaddrIn::from(source))?;
        }
        self.dialed += 1;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Makes room for so many connections, up to what this user may have.
pub fn raise_descriptor_limit(connections: u64) -> Result<(), Error> {
    let failed = |error: Errno| Error::System { what: "limit of open files", source: error.into() };
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    let wanted = connections + DESCRIPTORS_BESIDE;
    if wanted > hard {
        return Err(Error::Usage(format!(
            "{connections} connections need {wanted} open files, but this user may have {hard} at most (ulimit -Hn)"
        )));
    }
    if wanted > soft {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn loopback_is_dialed_from_many_addresses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut dialer = Dialer::new(listener.local_addr().unwrap());
        let mut sources = Vec::new();
        for _ in 0..3 {
            let stream = dialer.connect(Duration::from_secs(5)).unwrap();
            let (_, peer) = listener.accept().unwrap();
            assert_eq!(stream.local_addr().unwrap(), peer);
            sources.push(peer.ip());
        }
        sources.dedup();
        assert_eq!(sources.len(), 3);
    }

    #[test]
    fn a_refused_connection_says_so() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = Dialer::new(free).connect(Duration::from_secs(5)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn more_than_is_allowed_is_explained() {
        let error = raise_descriptor_limit(u64::MAX / 2).unwrap_err().to_string();
        assert!(error.contains("ulimit -Hn"), "{error}");
        raise_descriptor_limit(1).unwrap();
    }
}
