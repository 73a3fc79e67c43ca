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

/// Opens a non-blocking listener. `what` and `key` name it in errors.
pub fn listen(
    ip: IpAddr,
    port: u16,
    what: &'static str,
    key: &'static str,
) -> Result<std::net::TcpListener, ListenError> {
    let address = SocketAddr::new(ip, port);
    open(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken { what, address, port, key },
        _ => ListenError::Other { what, address, key, source },
    })
}

fn open(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_remedy() {
        let ip = IpAddr::from([127, 0, 0, 1]);
        let first = listen(ip, 0, "broker", "listenPort").expect("any port");
        let port = first.local_addr().expect("bound").port();
        let error = listen(ip, port, "broker", "listenPort").expect_err("taken").to_string();
        assert!(error.contains(&port.to_string()) && error.contains("listenPort"), "{error}");
    }
}
