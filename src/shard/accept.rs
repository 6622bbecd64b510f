//! Accepting: as many as the core can take, never stopped by an error, never spinning on one.

use std::{io, net::TcpListener, time::Duration};

use super::{
    connections::{Connection, Phase},
    state::Shard,
};
use crate::{
    clock::Now,
    limits,
    net::{
        listener::{self, Accepted},
        readiness::Readiness,
    },
    wire::frame::Decoder,
};

/// How long nobody is accepted after the descriptor table was full or memory short.
const PAUSE: Duration = Duration::from_millis(100);
/// Tokens of listeners count down from here, below that of the bell; no connection has such an id, since no shard has
/// the last number.
const LISTENER_TOKEN_LAST: u64 = u64::MAX - 1;

/// The listeners of one shard.
pub(super) struct Listeners {
    list: Vec<Listening>,
    /// When accepting goes on after a pause, monotonic nanoseconds.
    paused_until: Option<u64>,
    /// A connection could not be served, and the queue was not emptied since; it was logged.
    exhausted: bool,
    draining: bool,
}

struct Listening {
    socket: TcpListener,
    tls: bool,
}

impl Listeners {
    /// Takes the sockets, each with whether it speaks TLS.
    pub(super) fn open(sockets: Vec<(TcpListener, bool)>, readiness: &Readiness) -> io::Result<Self> {
        let list: Vec<Listening> =
            sockets.into_iter().map(|(socket, tls)| Listening { socket, tls }).collect();
        let listeners = Self { list, paused_until: None, exhausted: false, draining: false };
        listeners.watch(readiness)?;
        Ok(listeners)
    }

    /// Whether the token is that of a listener.
    pub(super) fn is_one(&self, token: u64) -> bool {
        token > LISTENER_TOKEN_LAST - 16
    }

    /// From now on: empty the accept queues, then close.
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    pub(super) fn are_closed(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn resume_at(&self) -> Option<u64> {
        // A drained listener has nothing to wait for: look at once.
        if self.draining && !self.list.is_empty() { Some(0) } else { self.paused_until }
    }

    /// Goes on after a pause; closes the listeners of a shard that drains once nobody waits.
    pub(super) fn resume(&mut self, now: Now, readiness: &Readiness) {
        if self.paused_until.is_some_and(|due| due <= now.mono_ns) && self.watch(readiness).is_ok() {
            self.paused_until = None;
        }
    }

    fn pause(&mut self, now: Now, readiness: &Readiness) {
        for listening in &self.list {
            // It may be out of the set already, when two of them run out in one turn.
            readiness.remove(&listening.socket).ok();
        }
        self.paused_until = Some(now.after(PAUSE).mono_ns);
    }

    fn watch(&self, readiness: &Readiness) -> io::Result<()> {
        for (index, listening) in self.list.iter().enumerate() {
            match readiness.add_listener(&listening.socket, LISTENER_TOKEN_LAST - index as u64) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Shard {
    /// Accepts those who wait at one listener, up to a bound.
    pub(super) fn accept(&mut self, now: Now, token: u64, readiness: &Readiness) {
        let index = (LISTENER_TOKEN_LAST - token) as usize;
        for _ in 0..limits::ACCEPTS_PER_TURN_MAX {
            let Some(listening) = self.listeners.list.get(index) else { return };
            let tls = listening.tls;
            match listener::accept(&listening.socket) {
                Accepted::Socket(socket) => self.take_in(now, socket, tls, readiness),
                Accepted::Nobody => {
                    self.listeners.exhausted = false;
                    return;
                }
                Accepted::Lost => self.cells.accept_errors.add(1),
                Accepted::Exhausted(error) => {
                    self.not_accepted("trying again every 100 ms", &error);
                    return self.listeners.pause(now, readiness);
                }
            }
        }
    }

    /// Empties the accept queues of a shard that drains, then closes its listeners.
    pub(super) fn close_listeners(&mut self, now: Now, readiness: &Readiness) {
        if !self.listeners.draining || self.listeners.list.is_empty() {
            return;
        }
        for listening in std::mem::take(&mut self.listeners.list) {
            loop {
                match listener::accept(&listening.socket) {
                    Accepted::Socket(socket) => self.take_in(now, socket, listening.tls, readiness),
                    Accepted::Lost => self.cells.accept_errors.add(1),
                    Accepted::Nobody => break,
                    Accepted::Exhausted(error) => break self.not_accepted("they are reset", &error),
                }
            }
        }
        self.listeners.paused_until = None;
    }

    fn take_in(&mut self, now: Now, socket: std::os::fd::OwnedFd, tls: bool, readiness: &Readiness) {
        self.cells.accepted.add(1);
        let tls = match (tls, &self.tls) {
            (true, Some(config)) => match crate::net::tls_session::TlsSession::new(config.clone()) {
                Ok(session) => Some(Box::new(session)),
                Err(error) => return self.not_accepted("no TLS session", &error),
            },
            _ => None,
        };
        let connection = Connection {
            socket,
            tls,
            phase: Phase::Handshake(Box::default()),
            decoder: Decoder::default(),
            deflate: None,
            partial_messages: 0,
            unsent: None,
            blocked: false,
            ended: false,
        };
        let Ok(conn) = self.connections.insert(connection) else {
            return self.not_accepted("the shard is full", &"every slot is taken");
        };
        self.handshake_expiries.start(now.mono_ns, conn);
        if self.is_draining() {
            self.parting_expiries.start(now.mono_ns, conn);
        }
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if let Err(error) = readiness.add(&connection.socket, conn.as_u64()) {
            self.not_accepted("it cannot be watched", &error);
            self.remove(now, conn);
        }
    }

    /// Counts a connection that cannot be served; logs it once until the accept queue is empty again.
    fn not_accepted(&mut self, what: &str, error: &dyn std::fmt::Display) {
        self.cells.accept_errors.add(1);
        if !std::mem::replace(&mut self.listeners.exhausted, true) {
            tracing::warn!(%error, "cannot accept connections: {what}");
        }
    }
}
