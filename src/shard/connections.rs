//! The sockets of one shard, by slot, and how far each has come.
//!
//! Owns descriptors, TLS sessions, partial frames and bytes of HTTP that wait to be written. Never knows users
//! or rooms: the hub's record has the same [`ConnId`].

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use super::lanes::Lane;
use crate::{
    ids::{ConnId, ShardId},
    limits::EXPIRIES_PER_TURN_MAX,
    net::{socket, tls_session::TlsSession},
    wire::{deflate::Window, frame::Decoder},
};

/// One socket.
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    /// `None`: plain text.
    pub(super) tls: Option<Box<TlsSession>>,
    pub(super) phase: Phase,
    pub(super) decoder: Decoder,
    /// That permessage-deflate was negotiated, and the client's window; set with the answer to the upgrade.
    pub(super) deflate: Option<Window>,
    /// Messages that came in parts so far, wrapping: tells the one that is unfinished from those before it.
    pub(super) partial_messages: u32,
    /// Bytes of HTTP that go before any frame; `None`: all written.
    pub(super) unsent: Option<Box<Held>>,
    /// The kernel took no more; writing goes on when the socket is writable again.
    pub(super) blocked: bool,
    /// The peer has sent its last: what is read is read to the end, since nothing tells of it again.
    pub(super) ended: bool,
}

/// Bytes of HTTP that wait; boxed where it stands, so that a connection without any pays for a pointer alone.
#[derive(Debug, Default)]
pub(super) struct Held(pub(super) Vec<u8>);

impl Held {
    /// What is left when the first `sent` bytes are gone.
    fn after(mut self: Box<Self>, sent: usize) -> Option<Box<Self>> {
        self.0.drain(..sent);
        (!self.0.is_empty()).then_some(self)
    }
}

/// The frames behind what waits.
fn behind<'a>(unsent: &'a Option<Box<Held>>, frames: &'a [IoSlice<'a>]) -> Vec<IoSlice<'a>> {
    let before = unsent.iter().map(|unsent| IoSlice::new(&unsent.0));
    before.chain(frames.iter().map(|frame| IoSlice::new(frame))).collect()
}

/// What a handshake is made of beside TLS.
#[derive(Debug, Default)]
pub(super) struct Newcomer {
    /// The request head so far.
    pub(super) head: Vec<u8>,
    /// `None`: its first bytes have not come, or do not tell yet.
    pub(super) lane: Option<Lane>,
    /// Bytes that came and that no step has looked at: of the head, or in the TLS session.
    pub(super) held: bool,
    /// The shard drains, and it had its time once.
    pub(super) warned: bool,
}

/// How far a connection has come; it only moves forward.
#[derive(Debug)]
pub(super) enum Phase {
    /// TLS and the request head are coming in.
    Handshake(Box<Newcomer>),
    /// The request is in order and control decides; the 101 that will be the answer.
    Admission(Box<Held>),
    /// A WebSocket.
    Open,
    /// What is queued is the last; then the socket is finished.
    Finishing,
    /// We are done; reads until the peer is, so that it gets what was sent.
    Lingering,
}

impl Connection {
    /// Borrows the descriptor.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends frames in one call with what waits before them: the 101, and a TLS session's first records. How many bytes
    /// of the frames were taken, 1 at least, and how many went through the socket or wait for it; `WouldBlock`: none.
    pub(super) fn send(&mut self, frames: &[IoSlice<'_>], scratch: &mut [u8]) -> io::Result<(usize, usize)> {
        let Self { socket, tls, unsent, .. } = self;
        let fd = socket.as_fd();
        let before = unsent.as_ref().map_or(0, |unsent| unsent.0.len());
        match tls {
            None if before == 0 => socket::write_together(fd, frames, scratch).map(|sent| (sent, sent)),
            None => {
                let sent = socket::write_together(fd, &behind(unsent, frames), scratch)?;
                if sent <= before {
                    *unsent = unsent.take().and_then(|unsent| unsent.after(sent));
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                *unsent = None;
                Ok((sent - before, sent))
            }
            Some(tls) => {
                if before == 0 && !write_records(tls, fd)? {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                let taken = match before {
                    0 => tls.encrypt(frames),
                    _ => tls.encrypt(&behind(unsent, frames)),
                };
                let taken = taken.map_err(io::Error::other)?;
                *unsent = None;
                let records = tls.outgoing().len();
                write_records(tls, fd)?;
                Ok((taken - before, records))
            }
        }
    }

    /// Writes TLS records and HTTP bytes that wait. `Ok(true)`: nothing waits any more.
    pub(super) fn write_pending(&mut self) -> io::Result<bool> {
        if let Some(unsent) = self.unsent.take() {
            match &mut self.tls {
                Some(tls) => {
                    tls.encrypt(&[IoSlice::new(&unsent.0)]).map_err(io::Error::other)?;
                }
                None => {
                    let sent = write_all_that_fits(self.socket.as_fd(), &unsent.0)?;
                    self.unsent = unsent.after(sent);
                    if self.unsent.is_some() {
                        return Ok(false);
                    }
                }
            }
        }
        match &mut self.tls {
            Some(tls) => write_records(tls, self.socket.as_fd()),
            None => Ok(true),
        }
    }
}

/// Writes the session's outgoing records. `Ok(true)`: all of them.
pub(super) fn write_records(tls: &mut TlsSession, socket: BorrowedFd<'_>) -> io::Result<bool> {
    if tls.wants_write() {
        let sent = write_all_that_fits(socket, tls.outgoing())?;
        tls.sent(sent);
    }
    Ok(!tls.wants_write())
}

fn write_all_that_fits(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match socket::write(socket, &[IoSlice::new(&bytes[sent..])]) {
            Ok(n) => sent += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

/// All of them, in slots that are used again with the next generation.
pub(super) struct Connections {
    shard: ShardId,
    slots: Vec<Slot>,
    free: Vec<u32>,
}

struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

impl Connections {
    pub(super) fn new(shard: ShardId) -> Self {
        Self { shard, slots: Vec::new(), free: Vec::new() }
    }

    /// Takes a connection in; gives it back when every slot is taken.
    pub(super) fn insert(&mut self, connection: Connection) -> Result<ConnId, Connection> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < ConnId::SLOT_COUNT_MAX as usize => {
                self.slots.push(Slot { generation: 0, connection: None });
                self.slots.len() as u32 - 1
            }
            None => return Err(connection),
        };
        let entry = &mut self.slots[slot as usize];
        entry.connection = Some(connection);
        Ok(ConnId::new(self.shard, entry.generation, slot))
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(conn.slot())?;
        if slot.generation & 0x00ff_ffff != conn.generation() {
            return None;
        }
        slot.connection.as_mut()
    }

    /// Lets it go: its descriptor is closed when the answer is dropped.
    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Connection> {
        self.get_mut(conn)?;
        let slot = &mut self.slots[conn.slot()];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(conn.slot() as u32);
        slot.connection.take()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Every connection there is, for ending them all.
    pub(super) fn ids(&self) -> Vec<ConnId> {
        let taken = self.slots.iter().enumerate().filter(|(_, slot)| slot.connection.is_some());
        taken.map(|(index, slot)| ConnId::new(self.shard, slot.generation, index as u32)).collect()
    }
}

/// Deadlines that are all equally far away: a queue is all they need.
///
/// Of connections, or of something of theirs that `T` tells apart.
pub(super) struct Expiries<T = ConnId> {
    after_ns: u64,
    queue: VecDeque<(u64, T)>,
}

impl<T: Copy> Expiries<T> {
    pub(super) fn new(after: Duration) -> Self {
        Self { after_ns: after.as_nanos() as u64, queue: VecDeque::new() }
    }

    pub(super) fn start(&mut self, now_ns: u64, what: T) {
        self.queue.push_back((now_ns + self.after_ns, what));
    }

    /// Those that are over, a turn's worth. They may have moved on since: look before you act.
    pub(super) fn take_due(&mut self, now_ns: u64) -> Vec<T> {
        let turn = self.queue.iter().take(EXPIRIES_PER_TURN_MAX);
        let due = turn.take_while(|(due, _)| *due <= now_ns).count();
        let over = self.queue.drain(..due).map(|(_, what)| what).collect();
        if due > 0 && self.queue.is_empty() {
            // A storm's worth of room is not kept for the next one.
            self.queue = VecDeque::new();
        }
        over
    }

    pub(super) fn next(&self) -> Option<u64> {
        self.queue.front().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::net::UnixStream};

    use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};

    use super::*;

    fn open(socket: OwnedFd, unsent: &[u8]) -> Connection {
        Connection {
            socket,
            tls: None,
            phase: Phase::Open,
            decoder: Decoder::default(),
            deflate: None,
            partial_messages: 0,
            unsent: Some(Box::new(Held(unsent.to_vec()))),
            blocked: false,
            ended: false,
        }
    }

    #[test]
    fn a_101_and_the_frames_behind_it_are_one_call() {
        // Each call is a message of its own on such a socket.
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::empty(), None).unwrap();
        let mut connection = open(ours, b"101;");
        for (expected, taken) in [("101;frames", 6), ("frames", 6)] {
            let frames = [IoSlice::new(b"fra"), IoSlice::new(b"mes")];
            assert_eq!(connection.send(&frames, &mut [0; 64]).unwrap().0, taken);
            let mut got = [0; 64];
            let (size, _) = recv(&theirs, &mut got, RecvFlags::DONTWAIT).unwrap();
            assert_eq!(&got[..size], expected.as_bytes());
        }
        assert!(connection.write_pending().unwrap());
    }

    #[test]
    fn what_the_kernel_does_not_take_of_a_101_goes_before_the_frames_later() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let head: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
        let mut connection = open(ours.into(), &head);
        let mut got = Vec::new();
        let mut blocked = 0;
        let taken = loop {
            match connection.send(&[IoSlice::new(b"frame")], &mut [0; 64]) {
                Ok((taken, _)) => break taken,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            blocked += 1;
            let mut part = [0; 8_192];
            let size = theirs.read(&mut part).unwrap();
            got.extend_from_slice(&part[..size]);
        };
        drop(connection);
        theirs.read_to_end(&mut got).unwrap();
        assert!(blocked > 0 && got[..head.len()] == head);
        assert_eq!(got[head.len()..], b"frame"[..taken]);
    }

    #[test]
    fn deadlines_that_are_over_take_no_memory() {
        let mut expiries = Expiries::new(Duration::from_nanos(10));
        for what in 0..100 {
            expiries.start(what, what);
        }
        let mut over = Vec::new();
        while !expiries.queue.is_empty() {
            over.extend(expiries.take_due(1_000));
        }
        assert_eq!((over, expiries.next()), ((0..100).collect(), None));
        assert_eq!(expiries.queue.capacity(), 0);
    }

    #[test]
    fn an_idle_socket_is_small() {
        assert!(size_of::<Slot>() <= 64, "{}", size_of::<Slot>());
    }
}
