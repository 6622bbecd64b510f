//! Listening sockets: one per shard on the same port, the kernel spreads connections over them (SO_REUSEPORT).
//!
//! What every connection needs is set here once: accepted sockets inherit it, and accepting stays one call.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
};

use rustix::{io::Errno, net::SocketFlags};
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait in the kernel to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;
/// Unsent bytes that the kernel takes before a socket counts as full. What waits longer waits in the outbox,
/// where it can still be conflated.
const NOTSENT_LOWAT_BYTES: u32 = 16 * 1024;

/// Whether another process may listen at the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// No: SO_REUSEPORT alone would have two gateways share their clients.
    Refused,
    /// One whose place is taken over.
    Expected,
}

/// Holds a port while the shards bind to it, so that port 0 means the same port to all of them.
#[derive(Debug)]
pub struct Reservation {
    _socket: Socket,
    address: SocketAddr,
}

impl Reservation {
    /// Takes the address without listening; fails where somebody listens there who is not expected to.
    pub fn take(address: SocketAddr, company: Company) -> io::Result<Self> {
        company.check(address)?;
        let socket = bound(address)?;
        let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { _socket: socket, address })
    }

    /// The address with its real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A listener for one shard. Non-blocking.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(address)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT_BYTES)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A listener for one thread alone; fails where somebody listens there who is not expected to.
pub fn listen_alone(address: SocketAddr, company: Company) -> io::Result<TcpListener> {
    company.check(address)?;
    listen(address)
}

impl Company {
    fn check(self, address: SocketAddr) -> io::Result<()> {
        if self == Self::Refused && address.port() != 0 {
            let socket =
                Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
        }
        Ok(())
    }
}

fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// What accepting came to.
#[derive(Debug)]
pub enum Accepted {
    /// A connection, non-blocking.
    Socket(OwnedFd),
    /// Nobody waits.
    Nobody,
    /// That one connection came to nothing (ECONNABORTED and its like); the next one may be fine.
    Lost,
    /// The descriptor table is full, or the system is out of descriptors or memory: pause before trying again.
    Exhausted(io::Error),
}

/// Accepts one connection. Never fails: what cannot be helped is a kind of answer.
pub fn accept(listener: &TcpListener) -> Accepted {
    match rustix::net::accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        Ok(socket) => Accepted::Socket(socket),
        Err(Errno::AGAIN) => Accepted::Nobody,
        Err(error) if is_exhausted(&error.into()) => Accepted::Exhausted(error.into()),
        Err(_) => Accepted::Lost,
    }
}

/// Whether the descriptor table is full, or the system is out of descriptors or memory, so that accepting at once would
/// fail again.
pub fn is_exhausted(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// Connections that the kernel lost before anybody accepted them, since the host (its network namespace) started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// An accept queue was full.
    pub overflows: u64,
    /// That, or something else stood in the way.
    pub drops: u64,
}

/// What the kernel counts; of all processes, since it tells no more of a listener without a socket of netlink.
pub fn lost() -> Option<Lost> {
    parse_lost(&std::fs::read_to_string("/proc/net/netstat").ok()?)
}

/// Finds the counters in `/proc/net/netstat`: pairs of lines, names over numbers (proc(5)).
fn parse_lost(text: &str) -> Option<Lost> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let find = |name| {
        let mut pairs = names.split(' ').zip(numbers.split(' '));
        pairs.find(|(found, _)| *found == name)?.1.parse().ok()
    };
    Some(Lost { overflows: find("ListenOverflows")?, drops: find("ListenDrops")? })
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn two_listeners_share_a_reserved_port() {
        let reservation = Reservation::take("127.0.0.1:0".parse().unwrap(), Company::Refused).unwrap();
        let first = listen(reservation.address()).unwrap();
        let second = listen(reservation.address()).unwrap();
        assert_eq!(first.local_addr().unwrap(), second.local_addr().unwrap());
    }

    #[test]
    fn an_address_where_somebody_listens_is_refused() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let refused = Reservation::take(address, Company::Refused).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        let refused = listen_alone(address, Company::Refused).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        Reservation::take(address, Company::Expected).unwrap();
        listen_alone(address, Company::Expected).unwrap();
        drop(listener);
        listen_alone(address, Company::Refused).unwrap();
    }

    #[test]
    fn lost_connections_are_found_by_name() {
        let text = "IpExt: A B\nIpExt: 1 2\nTcpExt: X ListenOverflows ListenDrops Y\nTcpExt: 7 41 42 9\n";
        assert_eq!(parse_lost(text), Some(Lost { overflows: 41, drops: 42 }));
        for broken in [
            "",
            "TcpExt: ListenDrops",
            "TcpExt: ListenOverflows ListenDrops\nTcpExt: 1",
            "TcpExt: A\nTcpExt: 1",
        ] {
            assert_eq!(parse_lost(broken), None, "{broken:?}");
        }
        assert!(lost().is_some(), "this kernel tells");
    }

    #[test]
    fn an_empty_queue_is_nobody_and_a_connection_is_a_socket() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(matches!(accept(&listener), Accepted::Nobody));
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(matches!(accept(&listener), Accepted::Socket(_)));
    }
}
