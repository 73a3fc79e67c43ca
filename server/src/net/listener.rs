//! Listening sockets: one per port, accepted on the control thread and handed to the shard with the fewest
//! connections. Not SO_REUSEPORT: its hashing is uneven for few connections and two brokers could share a port.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

/// As Java's netty server.
const BACKLOG: i32 = 1024;

/// Why a port could not be opened, in an operator's words.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "{what} port {address} is taken: stop the process that listens there (`ss -ltnp 'sport = :{port}'` names it), or set {key}"
    )]
    Taken { what: &'static str, address: SocketAddr, port: u16, key: &'static str },
    #[error("cannot listen on {what} address {address}: {source}; check {key} and the host's addresses")]
    Other { what: &'static str, address: SocketAddr, key: &'static str, source: io::Error },
}

/// A port that is ours and does not answer yet: clients fail over at once instead of waiting for recovery.
pub struct Port {
    socket: Socket,
    address: SocketAddr,
    what: &'static str,
    key: &'static str,
}

impl Port {
    /// Takes the port. `what` and `key` name it in errors.
    pub fn take(ip: IpAddr, port: u16, what: &'static str, key: &'static str) -> Result<Self, ListenError> {
        let address = SocketAddr::new(ip, port);
        let socket = bind(address).map_err(|source| failed(source, address, what, key))?;
        Ok(Self { socket, address, what, key })
    }

    /// From now on connections are accepted.
    pub fn listen(self) -> Result<std::net::TcpListener, ListenError> {
        let Self { socket, address, what, key } = self;
        socket.listen(BACKLOG).map_err(|source| failed(source, address, what, key))?;
        Ok(socket.into())
    }
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn failed(source: io::Error, address: SocketAddr, what: &'static str, key: &'static str) -> ListenError {
    match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken { what, address, port: address.port(), key },
        _ => ListenError::Other { what, address, key, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_remedy() {
        let ip = IpAddr::from([127, 0, 0, 1]);
        let first = Port::take(ip, 0, "broker", "listenPort").and_then(Port::listen).expect("any port");
        let port = first.local_addr().expect("bound").port();
        let second = Port::take(ip, port, "broker", "listenPort").and_then(Port::listen);
        let error = second.expect_err("taken").to_string();
        assert!(error.contains(&port.to_string()) && error.contains("listenPort"), "{error}");
    }
}
