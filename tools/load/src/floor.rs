//! The least that a server can do: accept, then one non-blocking send of ready bytes per receiver, on epoll.
//!
//! Owns its connections and nothing else: no identity, no rooms, no parsing of frames. It is driven through a
//! control port with lines that say what to send, followed by the bytes:
//! `burst FRAMES BYTES each|together`, `to CONNECTION BYTES`, `line SERVING OFFSET DIGITS BYTES`. A connection is named by
//! `?n=` of its request.
//!
//! Several threads are as many floors on one port, as the gateway's shards are: each with its listener (SO_REUSEPORT),
//! its connections, its control port and, so that the limit of open files counts for it alone, its descriptor table.

use std::{
    collections::HashMap,
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
    os::fd::{AsFd, OwnedFd},
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

use rustix::{
    event::epoll::{self, CreateFlags, Event, EventData, EventFlags},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, accept_with, sockopt},
};
use tungstenite::handshake::derive_accept_key;
use usher::net::descriptors;

use crate::{
    options, payload,
    socket::{self, Read},
};

const LISTENER: u64 = u64::MAX;
const CONTROL_LISTENER: u64 = u64::MAX - 1;
const CONTROL: u64 = u64::MAX - 2;
const EVENTS_MAX: usize = 1024;
const BACKLOG: i32 = 4096;
/// Bytes that one control command may carry.
const COMMAND_BYTES_MAX: usize = 16 << 20;

/// Serves until it is killed; says on stdout where.
pub(crate) fn run(options: &options::Floor) -> io::Result<()> {
    // Bound and not listening: it holds the port for the threads.
    let held = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let address = held.local_addr()?;
    let count = usize::from(options.threads);
    let (ready, told) = sync_channel(count);
    let (echo, private) = (options.echo, count > 1);
    let mut threads = Vec::new();
    for number in 0..count {
        let ready = ready.clone();
        let body = move || serve(address, echo, private, &ready);
        threads.push(thread::Builder::new().name(format!("floor-{number}")).spawn(body)?);
    }
    drop(ready);
    let controls: Vec<String> = told.iter().take(count).map(|address| address.to_string()).collect();
    if controls.len() == count {
        let mut out = io::stdout().lock();
        writeln!(out, "ws    ws://{address}/ws")?;
        writeln!(out, "floor {}", controls.join(","))?;
        out.flush()?;
    }
    for thread in threads {
        thread.join().map_err(|_| io::Error::other("a thread of the floor panicked"))??;
    }
    Ok(())
}

/// One thread: says its control address when it listens, then serves.
fn serve(address: SocketAddr, echo: bool, private: bool, ready: &SyncSender<SocketAddr>) -> io::Result<()> {
    if private {
        descriptors::make_private()?;
    }
    let mut floor = Floor::new(address, echo)?;
    ready.send(floor.control_listener.local_addr()?).map_err(io::Error::other)?;
    floor.serve()
}

/// A socket that shares its address with others that ask for it.
fn bound(address: SocketAddr) -> io::Result<TcpListener> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    // Accepted sockets inherit it.
    sockopt::set_tcp_nodelay(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    Ok(socket.into())
}

struct Floor {
    epoll: OwnedFd,
    listener: TcpListener,
    control_listener: TcpListener,
    control: Option<Control>,
    connections: Vec<Option<Peer>>,
    free: Vec<usize>,
    /// Number in the request → slot.
    names: HashMap<u32, usize>,
    scratch: Vec<u8>,
    echo: bool,
}

struct Peer {
    socket: OwnedFd,
    upgraded: bool,
    name: u32,
    /// What the kernel did not take yet.
    unsent: Vec<u8>,
}

struct Control {
    socket: OwnedFd,
    bytes: Vec<u8>,
}

/// What the control port asks.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    /// To everybody; in one send each, or one per frame.
    Burst { frames: usize, together: bool },
    /// To one.
    To(u32),
    /// To everybody, with a number of its own at that place: what is left of its own number and 1.
    Line { serving: u32, digits: Range<usize> },
}

impl Floor {
    fn new(address: SocketAddr, echo: bool) -> io::Result<Self> {
        let floor = Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            listener: bound(address)?,
            control_listener: bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?,
            control: None,
            connections: Vec::new(),
            free: Vec::new(),
            names: HashMap::new(),
            scratch: vec![0; 64 * 1024],
            echo,
        };
        for (listener, token) in [(&floor.listener, LISTENER), (&floor.control_listener, CONTROL_LISTENER)] {
            rustix::net::listen(listener, BACKLOG)?;
            epoll::add(&floor.epoll, listener, EventData::new_u64(token), EventFlags::IN)?;
        }
        Ok(floor)
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_MAX);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    CONTROL_LISTENER => self.accept_control()?,
                    CONTROL => self.controlled()?,
                    slot => self.peer_event(slot as usize, event.flags),
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Some(socket) = accept(&self.listener)? {
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            epoll::add(&self.epoll, &socket, EventData::new_u64(slot as u64), EventFlags::IN)?;
            self.connections[slot] = Some(Peer { socket, upgraded: false, name: 0, unsent: Vec::new() });
        }
        Ok(())
    }

    fn accept_control(&mut self) -> io::Result<()> {
        while let Some(socket) = accept(&self.control_listener)? {
            epoll::add(&self.epoll, &socket, EventData::new_u64(CONTROL), EventFlags::IN)?;
            self.control = Some(Control { socket, bytes: Vec::new() });
        }
        Ok(())
    }

    fn controlled(&mut self) -> io::Result<()> {
        let Some(mut control) = self.control.take() else { return Ok(()) };
        match socket::read(&control.socket, &mut self.scratch) {
            Read::Bytes(count) => control.bytes.extend_from_slice(&self.scratch[..count]),
            Read::Nothing => {}
            Read::End | Read::Reset => return Ok(()),
        }
        while let Some((command, start, end)) = parse(&control.bytes)? {
            self.obey(&command, &control.bytes[start..end]);
            control.bytes.drain(..end);
        }
        self.control = Some(control);
        Ok(())
    }

    fn obey(&mut self, command: &Command, bytes: &[u8]) {
        match command {
            Command::To(name) => {
                if let Some(slot) = self.names.get(name) {
                    self.send(*slot, bytes);
                }
            }
            Command::Line { serving, digits } => self.send_line(*serving, digits, bytes),
            Command::Burst { together: true, .. } => self.send_all(bytes),
            Command::Burst { frames, .. } => {
                let frame_bytes = bytes.len().div_ceil((*frames).max(1)).max(1);
                bytes.chunks(frame_bytes).for_each(|frame| self.send_all(frame));
            }
        }
    }

    fn send_all(&mut self, bytes: &[u8]) {
        for slot in 0..self.connections.len() {
            self.send(slot, bytes);
        }
    }

    fn send_line(&mut self, serving: u32, digits: &Range<usize>, template: &[u8]) {
        let mut frame = template.to_vec();
        for slot in 0..self.connections.len() {
            let Some(peer) = &self.connections[slot] else { continue };
            let Some(place) = frame.get_mut(digits.clone()) else { return };
            write_number((peer.name + 1).saturating_sub(serving), place);
            self.send(slot, &frame);
        }
    }

    #[inline]
    fn send(&mut self, slot: usize, bytes: &[u8]) {
        let Some(peer) = self.connections[slot].as_mut().filter(|peer| peer.upgraded) else { return };
        if !peer.unsent.is_empty() {
            peer.unsent.extend_from_slice(bytes);
            return;
        }
        match socket::write(&peer.socket, bytes) {
            Ok(taken) if taken == bytes.len() => {}
            Ok(taken) => {
                peer.unsent.extend_from_slice(&bytes[taken..]);
                self.watch(slot, EventFlags::IN | EventFlags::OUT);
            }
            Err(_) => self.close(slot),
        }
    }

    fn watch(&mut self, slot: usize, flags: EventFlags) {
        let Some(peer) = &self.connections[slot] else { return };
        if epoll::modify(&self.epoll, &peer.socket, EventData::new_u64(slot as u64), flags).is_err() {
            self.close(slot);
        }
    }

    fn peer_event(&mut self, slot: usize, flags: EventFlags) {
        if flags.contains(EventFlags::OUT) {
            self.send_rest(slot);
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            self.readable(slot);
        }
    }

    fn send_rest(&mut self, slot: usize) {
        let Some(peer) = &mut self.connections[slot] else { return };
        match socket::write(&peer.socket, &peer.unsent) {
            Ok(taken) => {
                peer.unsent.drain(..taken);
                if peer.unsent.is_empty() {
                    self.watch(slot, EventFlags::IN);
                }
            }
            Err(_) => self.close(slot),
        }
    }

    fn readable(&mut self, slot: usize) {
        let Some(peer) = &mut self.connections[slot] else { return };
        let count = match socket::read(&peer.socket, &mut self.scratch) {
            Read::Bytes(count) => count,
            Read::Nothing => return,
            Read::End | Read::Reset => return self.close(slot),
        };
        let bytes = &self.scratch[..count];
        if !peer.upgraded {
            return match upgrade(bytes) {
                Some((name, answer)) => {
                    (peer.upgraded, peer.name) = (true, name);
                    self.names.insert(name, slot);
                    self.send(slot, answer.as_bytes());
                }
                None => self.close(slot),
            };
        }
        let goodbye = bytes[0] & 0x0F == crate::frame::CLOSE;
        if self.echo {
            let echoed = self.scratch[..count].to_vec();
            self.send(slot, &echoed);
        }
        if goodbye {
            self.close(slot);
        }
    }

    fn close(&mut self, slot: usize) {
        if let Some(peer) = self.connections[slot].take() {
            self.free.push(slot);
            if self.names.get(&peer.name) == Some(&slot) {
                self.names.remove(&peer.name);
            }
        }
    }
}

fn accept(listener: &TcpListener) -> io::Result<Option<OwnedFd>> {
    match accept_with(listener.as_fd(), SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// In decimal digits, with blanks before them.
fn write_number(mut number: u32, place: &mut [u8]) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    let zeros = place.iter().take_while(|digit| **digit == b'0').count().min(place.len().saturating_sub(1));
    place[..zeros].fill(b' ');
}

/// The connection's number and the answer to a request that came in one piece; `None`: it is no such request.
fn upgrade(head: &[u8]) -> Option<(u32, String)> {
    let head = std::str::from_utf8(head).ok()?;
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))?;
    let accept = derive_accept_key(key.trim().as_bytes());
    let name = head.split_once("?n=").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok()).unwrap_or(0);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    Some((name, answer))
}

/// The first command if it is whole: what, and where its bytes are.
fn parse(bytes: &[u8]) -> io::Result<Option<(Command, usize, usize)>> {
    let Some(end) = payload::position(bytes, b"\n") else { return Ok(None) };
    let unknown = || io::Error::other("unknown command");
    let line = std::str::from_utf8(&bytes[..end]).map_err(|_| unknown())?;
    let words: Vec<&str> = line.split(' ').collect();
    let number = |word: &str| word.parse::<usize>().map_err(|_| unknown());
    let (command, length) = match words[..] {
        ["burst", frames, length, how @ ("each" | "together")] => {
            (Command::Burst { frames: number(frames)?, together: how == "together" }, number(length)?)
        }
        ["line", serving, at, digits, length] => {
            let (serving, at, length) = (number(serving)? as u32, number(at)?, number(length)?);
            let digits = at..at.saturating_add(number(digits)?);
            (Command::Line { serving, digits }, length)
        }
        ["to", name, length] => (Command::To(number(name)? as u32), number(length)?),
        _ => return Err(unknown()),
    };
    if length > COMMAND_BYTES_MAX {
        return Err(unknown());
    }
    let (start, end) = (end + 1, end + 1 + length);
    Ok((bytes.len() >= end).then_some((command, start, end)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_command_is_taken_when_its_bytes_are_there() {
        assert_eq!(parse(b"burst 2 4 eac").unwrap(), None);
        assert_eq!(parse(b"burst 2 4 each\nabc").unwrap(), None);
        let burst = Command::Burst { frames: 2, together: false };
        assert_eq!(parse(b"burst 2 4 each\nabcdX").unwrap(), Some((burst, 15, 19)));
        assert_eq!(parse(b"to 7 1\na").unwrap(), Some((Command::To(7), 7, 8)));
        let line = Command::Line { serving: 3, digits: 1..5 };
        assert_eq!(parse(b"line 3 1 4 6\nabcdef").unwrap(), Some((line, 13, 19)));
        for bad in [&b"burst 1 1 maybe\n"[..], b"to x 1\n", b"\n", b"to 1 99999999999\n"] {
            assert!(parse(bad).is_err());
        }
    }

    #[test]
    fn a_number_fills_its_place_with_blanks() {
        let mut place = *b"xxxxx";
        for (number, text) in [(0, b"    0"), (1_020, b" 1020"), (99_999, b"99999"), (123_456, b"23456")] {
            write_number(number, &mut place);
            assert_eq!(&place, text);
        }
    }

    #[test]
    fn threads_share_one_port_and_each_takes_connections() {
        let (ready, told) = sync_channel(2);
        let held = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = held.local_addr().unwrap();
        for _ in 0..2 {
            let ready = ready.clone();
            thread::spawn(move || serve(address, false, true, &ready));
        }
        drop(ready);
        let controls: Vec<SocketAddr> = told.iter().take(2).collect();
        assert_eq!(controls.len(), 2, "a thread ended before it listened");
        let connect = |address: &SocketAddr| std::net::TcpStream::connect(address).unwrap();
        let mut clients: Vec<_> = (0..64).map(|_| connect(&address)).collect();
        for client in &mut clients {
            client.write_all(&crate::frame::request("h", "/ws?n=1")).unwrap();
            let mut head = [0; 12];
            client.read_exact(&mut head).unwrap();
            assert_eq!(&head, b"HTTP/1.1 101");
        }
        // Each thread sends a letter of its own: every client has one from the thread that took it.
        let mut controls: Vec<_> = controls.iter().map(connect).collect();
        for (control, byte) in controls.iter_mut().zip([b"A", b"B"]) {
            control.write_all(&[&b"burst 1 1 each\n"[..], byte].concat()).unwrap();
        }
        let mut of = [0, 0];
        for client in &mut clients {
            let mut rest = Vec::new();
            let mut byte = [0];
            while !rest.ends_with(b"\r\n\r\n") {
                client.read_exact(&mut byte).unwrap();
                rest.push(byte[0]);
            }
            client.read_exact(&mut byte).unwrap();
            of[usize::from(byte[0] - b'A')] += 1;
        }
        assert!(of.iter().all(|count| *count > 0) && of.iter().sum::<i32>() == 64, "{of:?}");
    }

    #[test]
    fn the_answer_proves_that_the_key_was_read() {
        let request = crate::frame::request("h", "/ws?n=12");
        let (name, answer) = upgrade(&request).unwrap();
        assert_eq!(name, 12);
        assert_eq!(crate::frame::answer(answer.as_bytes()), crate::frame::Answer::Switched(answer.len()));
        assert!(upgrade(b"GET / HTTP/1.1\r\n\r\n").is_none());
    }
}
