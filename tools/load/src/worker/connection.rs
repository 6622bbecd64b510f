//! One simulated client: from the connect to the last frame.
//!
//! Owns its socket and what is left of a partial frame. Never waits. Reads through the worker's one buffer and
//! looks into payloads only for a stamp at a known place.

use std::{
    io::{self, Read as _, Write as _},
    os::fd::OwnedFd,
};

use rustls::{ClientConnection, HandshakeKind};

use super::{desk::Desk, line::Stand, tally::Received};
use crate::{
    clock, frame,
    order::Tls,
    payload::{self, Mark, Stamp, position},
    socket::{self, Read},
};

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// No socket.
    #[default]
    Closed,
    /// TCP, and TLS with the request behind it.
    Connecting,
    /// Waits for the answer to the request.
    Upgrading,
    /// Waits for the greeting or for its room.
    Joining,
    /// Receives.
    Ready,
    /// Sent a close frame.
    Closing,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The server closed without a close frame.
    Eof,
    /// The connection broke.
    Reset,
    /// A close frame with this code, 1005 where it had none.
    Code(u16),
    /// The upgrade was answered with this status.
    Refused(u16),
    /// Bytes that are no TLS, or no frame that a server should send.
    Garbled,
    /// What had to be sent did not fit.
    Full,
}

impl End {
    /// Its name in the result.
    pub(crate) fn label(self) -> String {
        match self {
            Self::Eof => "eof".into(),
            Self::Reset => "reset".into(),
            Self::Code(code) => code.to_string(),
            Self::Refused(status) => format!("http {status}"),
            Self::Garbled => "garbled".into(),
            Self::Full => "full".into(),
        }
    }
}

/// Buffers that all connections of a worker read through.
pub(crate) struct Scratch {
    raw: Vec<u8>,
    plain: Vec<u8>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self { raw: vec![0; 64 * 1024], plain: vec![0; 64 * 1024] }
    }
}

/// One simulated client.
#[derive(Default)]
pub(crate) struct Connection {
    pub(crate) socket: Option<OwnedFd>,
    pub(crate) state: State,
    pub(crate) received: Received,
    pub(crate) stand: Stand,
    /// The beginning of a frame or of the upgrade's answer.
    partial: Vec<u8>,
    tls: Option<Box<ClientConnection>>,
}

impl Connection {
    /// A connect that was begun.
    pub(crate) fn connecting(socket: OwnedFd, stalls: bool) -> Self {
        let received = Received { stalls, ..Received::default() };
        Self { socket: Some(socket), state: State::Connecting, received, ..Self::default() }
    }

    /// Closes the socket; what was received stays known.
    pub(crate) fn close(&mut self) {
        *self = Self { received: self.received, ..Self::default() };
    }

    /// The connect is done: asks for the upgrade, behind the TLS handshake if there is one.
    pub(crate) fn connected(&mut self, request: &[u8], desk: &Desk) -> Result<(), End> {
        if let Some(connector) = &desk.connector {
            self.tls = Some(connector.connect().map_err(|_| End::Garbled)?);
        }
        self.state = State::Upgrading;
        self.send(request)
    }

    /// Counts its TLS handshake, which is over.
    pub(crate) fn count_tls(&self, tls: &mut Tls) {
        match self.tls.as_ref().map(|tls| tls.handshake_kind()) {
            None => {}
            Some(Some(HandshakeKind::Resumed)) => tls.resumed += 1,
            Some(_) => tls.full += 1,
        }
    }

    /// Reads once and acts on it.
    pub(crate) fn readable(&mut self, scratch: &mut Scratch, desk: &mut Desk) -> Result<(), End> {
        let Some(socket) = &self.socket else { return Ok(()) };
        let count = match socket::read(socket, &mut scratch.raw) {
            Read::Bytes(count) => count,
            Read::Nothing => return Ok(()),
            Read::End => return Err(End::Eof),
            Read::Reset => return Err(End::Reset),
        };
        desk.now_ns = clock::mono_ns();
        if self.tls.is_some() {
            self.unseal(&scratch.raw[..count], &mut scratch.plain, desk)
        } else {
            self.take(&scratch.raw[..count], desk)
        }
    }

    fn unseal(&mut self, mut sealed: &[u8], plain: &mut [u8], desk: &mut Desk) -> Result<(), End> {
        while !sealed.is_empty() {
            let Some(tls) = &mut self.tls else { return Ok(()) };
            tls.read_tls(&mut sealed).map_err(|_| End::Garbled)?;
            tls.process_new_packets().map_err(|_| End::Garbled)?;
            while let Some(tls) = &mut self.tls {
                match tls.reader().read(plain) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => self.take(&plain[..count], desk)?,
                }
            }
        }
        self.flush_tls()
    }

    /// Takes bytes in the order they came, whole frames or not.
    fn take(&mut self, bytes: &[u8], desk: &mut Desk) -> Result<(), End> {
        if self.partial.is_empty() {
            let used = self.parse(bytes, desk)?;
            self.partial.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        let mut whole = std::mem::take(&mut self.partial);
        whole.extend_from_slice(bytes);
        let used = self.parse(&whole, desk)?;
        if used < whole.len() {
            whole.drain(..used);
            self.partial = whole;
        }
        Ok(())
    }

    /// Acts on what is whole; how many bytes that was.
    fn parse(&mut self, bytes: &[u8], desk: &mut Desk) -> Result<usize, End> {
        let mut used = 0;
        if self.state == State::Upgrading {
            match frame::answer(bytes) {
                frame::Answer::Partial => return Ok(0),
                frame::Answer::Refused(status) => return Err(End::Refused(status)),
                frame::Answer::Switched(end) => used = end,
            }
            self.upgraded(desk)?;
        }
        while let Some(frame) = frame::parse(&bytes[used..]) {
            let Some(payload) = bytes[used..].get(frame.start..frame.end) else { break };
            used += frame.end;
            if !frame.plain {
                return Err(End::Garbled);
            }
            self.frame(frame.op, payload, desk)?;
        }
        Ok(used)
    }

    fn upgraded(&mut self, desk: &Desk) -> Result<(), End> {
        self.state = if desk.plan.floor { State::Ready } else { State::Joining };
        match &desk.join {
            Some(join) => self.send(join),
            None => Ok(()),
        }
    }

    #[inline]
    fn frame(&mut self, op: u8, payload: &[u8], desk: &mut Desk) -> Result<(), End> {
        match op {
            frame::TEXT if self.state == State::Joining => {
                self.joining(payload, desk);
                Ok(())
            }
            frame::TEXT => {
                let (stand, now_ns) = (&mut self.stand, desk.now_ns);
                if !desk.line.as_mut().is_some_and(|line| line.message(payload, stand, now_ns)) {
                    desk.tally.message(payload, &mut self.received, now_ns);
                }
                Ok(())
            }
            frame::PING => self.send_frame(frame::PONG, payload),
            frame::PONG => Ok(()),
            frame::CLOSE => {
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                if self.state != State::Closing {
                    // The connection ends here either way.
                    self.send_frame(frame::CLOSE, payload).ok();
                }
                Err(End::Code(code))
            }
            _ => Err(End::Garbled),
        }
    }

    fn joining(&mut self, text: &[u8], desk: &mut Desk) {
        let head = &text[..text.len().min(256)];
        let awaited: &[u8] = if desk.join.is_some() { b"\"room:joined\"" } else { b"\"system:connected\"" };
        if position(head, awaited).is_some() {
            self.state = State::Ready;
        } else {
            desk.tally.message(text, &mut self.received, desk.now_ns);
        }
    }

    /// Sends a `system:ping`.
    pub(crate) fn ping(&mut self, intended_ns: u64, payload_bytes: usize) -> Result<(), End> {
        let stamp = Stamp { sequence: self.received.pings, intended_ns };
        self.received.pings += 1;
        let mut text = br#"{"type":"system:ping","payload":"#.to_vec();
        text.extend_from_slice(&payload::build(Mark::Ping, stamp, payload_bytes));
        text.push(b'}');
        self.send_frame(frame::TEXT, &text)
    }

    /// Says goodbye; the answer is still to come.
    pub(crate) fn say_goodbye(&mut self) -> Result<(), End> {
        self.state = State::Closing;
        self.send_frame(frame::CLOSE, &1000u16.to_be_bytes())
    }

    fn send_frame(&mut self, op: u8, payload: &[u8]) -> Result<(), End> {
        let mut bytes = Vec::with_capacity(payload.len() + 14);
        frame::encode_client(op, payload, &mut bytes);
        self.send(&bytes)
    }

    /// Sends all of the bytes: they are few, and the socket's buffer is empty or the server is stuck.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), End> {
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(bytes).map_err(|_| End::Garbled)?;
            return self.flush_tls();
        }
        let Some(socket) = &self.socket else { return Ok(()) };
        match socket::write(socket, bytes) {
            Ok(taken) if taken == bytes.len() => Ok(()),
            Ok(_) => Err(End::Full),
            Err(_) => Err(End::Reset),
        }
    }

    fn flush_tls(&mut self) -> Result<(), End> {
        let (Some(tls), Some(socket)) = (&mut self.tls, &self.socket) else { return Ok(()) };
        while tls.wants_write() {
            match tls.write_tls(&mut Outlet(socket)) {
                Ok(0) => return Err(End::Full),
                Ok(_) => {}
                Err(_) => return Err(End::Reset),
            }
        }
        Ok(())
    }
}

/// A socket as rustls writes to it.
struct Outlet<'a>(&'a OwnedFd);

impl io::Write for Outlet<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        socket::write(self.0, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
