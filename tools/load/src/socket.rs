//! Sockets from chosen source addresses, and this thread's core.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt},
    thread::CpuSet,
};

/// Ports to connect from: above those of well-known services.
const PORTS: std::ops::RangeInclusive<u16> = 10_000..=60_999;
/// Ports tried before a connect is given up.
const PORT_TRIES_MAX: u32 = 50_000;
/// Receive buffer of a connection that will stop reading: as little as the kernel allows.
const STALLED_BUFFER_BYTES: usize = 2_304;

/// Binds this thread to one core; threads and children inherit it.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// Opens connections from 127.0.0.2 and its neighbours in turn.
///
/// Ports are chosen here: the kernel keeps a port that it chose at `bind` for one connection alone, and the
/// option that defers its choice is not in reach of safe code.
pub(crate) struct Dialler {
    server: SocketAddr,
    source_count: u8,
    /// Next source to use, `0..source_count`.
    source: u8,
    /// Next port per source.
    ports: Vec<u16>,
}

impl Dialler {
    /// Connects to `server`; `seed` spreads the first ports of processes that run at the same time.
    pub(crate) fn new(server: SocketAddr, source_count: u8, seed: u32) -> Self {
        let span = u32::from(PORTS.end() - PORTS.start());
        let first = PORTS.start() + (seed.wrapping_mul(7_919) % span) as u16;
        Self { server, source_count, source: 0, ports: vec![first; usize::from(source_count)] }
    }

    /// Begins one connect; the socket is writable when it is done.
    pub(crate) fn dial(&mut self, will_stall: bool) -> io::Result<OwnedFd> {
        for _ in 0..PORT_TRIES_MAX {
            let socket = open(self.server)?;
            if will_stall {
                sockopt::set_socket_recv_buffer_size(&socket, STALLED_BUFFER_BYTES)?;
            }
            match self.bind_and_connect(&socket) {
                Ok(()) | Err(Errno::INPROGRESS) => return Ok(socket),
                Err(Errno::ADDRINUSE | Errno::ADDRNOTAVAIL) if self.source_count > 0 => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::other("no free port at any source address"))
    }

    fn bind_and_connect(&mut self, socket: &OwnedFd) -> Result<(), Errno> {
        if let Some(port) = self.ports.get_mut(usize::from(self.source)) {
            let address = Ipv4Addr::new(127, 0, 0, 2 + self.source);
            let source = SocketAddrV4::new(address, *port);
            *port = if *port == *PORTS.end() { *PORTS.start() } else { *port + 1 };
            self.source = (self.source + 1) % self.source_count;
            // A port whose last connection is in TIME_WAIT is free for another peer.
            sockopt::set_socket_reuseaddr(socket, true)?;
            rustix::net::bind(socket, &source)?;
        }
        rustix::net::connect(socket, &self.server)
    }
}

fn open(server: SocketAddr) -> io::Result<OwnedFd> {
    let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(socket)
}

/// Makes the next close of the socket a reset.
pub(crate) fn reset_on_close(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_socket_linger(socket, Some(Duration::ZERO))?)
}

/// What a read came to.
pub(crate) enum Read {
    Bytes(usize),
    Nothing,
    End,
    Reset,
}

/// Reads once.
#[inline]
pub(crate) fn read(socket: impl AsFd, buffer: &mut [u8]) -> Read {
    match rustix::net::recv(socket, buffer, RecvFlags::DONTWAIT) {
        Ok((_, 0)) => Read::End,
        Ok((_, bytes)) => Read::Bytes(bytes),
        Err(Errno::AGAIN | Errno::INTR) => Read::Nothing,
        Err(_) => Read::Reset,
    }
}

/// Writes once: how many bytes the kernel took, 0 when it has no room.
#[inline]
pub(crate) fn write(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    match rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(taken) => Ok(taken),
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        Err(error) => Err(error.into()),
    }
}
