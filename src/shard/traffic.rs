//! Bytes of established connections: reading, writing, ending.

use std::{
    io::{self, IoSlice},
    os::fd::AsFd,
};

use super::{
    connections::{Connection, Phase, write_records},
    state::Shard,
};
use crate::{
    clock::Now,
    hub::{Flushed, Input},
    ids::ConnId,
    limits,
    metrics::ShardCells,
    net::{
        readiness::{Readiness, Ready},
        socket::{self, Read},
    },
    wire::{close::Close, frame::Incoming},
};

/// What reading one socket came to.
enum Turn {
    /// Read to the end of what was there.
    Drained,
    /// There is more, but others have their turn first.
    More,
    /// The peer is gone.
    Over,
}

/// What bytes of a connection meant.
enum Received {
    /// Frames, or parts of them.
    Frames,
    /// The peer broke the protocol.
    Violation(Close),
    /// The TLS session is over.
    End,
}

impl Shard {
    /// Serves the sockets that are ready, and those that had more to say than their last turn allowed.
    pub(super) fn serve(&mut self, now: Now, ready: &[Ready], readiness: &Readiness) {
        for conn in std::mem::take(&mut self.unread) {
            self.readable(now, conn);
        }
        for event in ready {
            if self.listeners.is_one(event.token) {
                self.accept(now, event.token, readiness);
                continue;
            }
            let conn = ConnId::from_u64(event.token);
            if event.writable {
                self.writable(now, conn);
            }
            if event.ended
                && let Some(connection) = self.connections.get_mut(conn)
            {
                connection.ended = true;
            }
            if event.readable {
                self.readable(now, conn);
            }
        }
    }

    /// Whether there is something to read that no event will tell of.
    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    fn writable(&mut self, now: Now, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if connection.blocked {
            connection.blocked = false;
            self.cells.blocked.sub(1);
            self.flush(now, conn);
        }
    }

    fn readable(&mut self, now: Now, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if matches!(connection.phase, Phase::Handshake(_) | Phase::Admission(_)) {
            self.lanes.arrive(conn);
            return;
        }
        match self.read_turn(now, conn) {
            Turn::Drained => {}
            Turn::More => self.unread.push(conn),
            Turn::Over => self.remove(now, conn),
        }
    }

    fn read_turn(&mut self, now: Now, conn: ConnId) -> Turn {
        for _ in 0..limits::READS_PER_TURN_MAX {
            let Some(connection) = self.connections.get_mut(conn) else { return Turn::Drained };
            let ended = connection.ended;
            let size = match socket::read(connection.fd(), &mut self.scratch) {
                Read::Bytes(size) => size,
                Read::Nothing => return Turn::Drained,
                Read::End => {
                    // Who has only finished sending still reads the answers to what came with the end.
                    self.settle(now);
                    self.flush(now, conn);
                    return Turn::Over;
                }
            };
            self.cells.bytes_in.add(size as u64);
            match self.received(now, conn, size) {
                Received::Frames => {}
                Received::Violation(close) => {
                    self.hub.handle(now, Input::Violation { conn, close }, &mut self.outputs);
                    // The peer's frames make no sense any more: there is no close of its own to wait for.
                    self.settle(now);
                    self.finish(now, conn);
                    return Turn::Drained;
                }
                Received::End => return Turn::Over,
            }
            // A short read emptied the socket; a new edge tells when there is more, unless it told already.
            if size < self.scratch.len() && !ended {
                return Turn::Drained;
            }
        }
        Turn::More
    }

    /// Takes `size` bytes of the scratch buffer.
    fn received(&mut self, now: Now, conn: ConnId, size: usize) -> Received {
        let Self { connections, hub, scratch, plain, outputs, frame_limits, message_expiries, .. } = self;
        let Some(connection) = connections.get_mut(conn) else { return Received::Frames };
        let Connection { tls, phase, decoder, deflate, socket, partial_messages, .. } = connection;
        let (data, over) = match tls {
            None => (&mut scratch[..size], false),
            Some(tls) => {
                plain.clear();
                let Ok(received) = tls.receive(&mut scratch[..size], plain) else {
                    // The alert, if any; nobody waits for the rest.
                    write_records(tls, socket.as_fd()).ok();
                    return Received::End;
                };
                if tls.wants_write() && write_records(tls, socket.as_fd()).is_err() {
                    return Received::End;
                }
                (plain.as_mut_slice(), received.peer_closed)
            }
        };
        if matches!(phase, Phase::Open) {
            let was_idle = decoder.is_idle();
            let mut messages = 0;
            let mut take = |incoming: Incoming<'_>| {
                messages += u32::from(matches!(incoming, Incoming::Text(_) | Incoming::Binary(_)));
                hub.handle(now, input(conn, incoming), outputs);
                hub.is_open(conn)
            };
            let decoded = match self.inflater.as_mut().filter(|_| deflate.is_some()) {
                Some(inflater) => {
                    let decoded = decoder.decode_deflated(frame_limits, inflater, data, &mut take);
                    inflater.tally().show(&self.cells.inflated);
                    decoded
                }
                None => decoder.decode(frame_limits, data, &mut |incoming| {
                    take(incoming);
                }),
            };
            if let Err(close) = decoded {
                return Received::Violation(close);
            }
            // Whatever was unfinished before is done with if any message was finished.
            if !decoder.is_idle() && (was_idle || messages > 0) {
                *partial_messages = partial_messages.wrapping_add(1);
                message_expiries.start(now.mono_ns, (conn, *partial_messages));
            }
        }
        if over { Received::End } else { Received::Frames }
    }

    /// Writes what the connection has, once; ends it where that was the last.
    pub(super) fn flush(&mut self, now: Now, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if connection.blocked {
            return;
        }
        let in_handshake = matches!(connection.phase, Phase::Handshake(_) | Phase::Admission(_));
        // Frames take along what waits before them, so they come first.
        let flushed = if in_handshake {
            Flushed::Drained
        } else {
            let Self { hub, cells, scratch, .. } = self;
            let deflate = connection.deflate;
            flush_hub(connection, cells, scratch, |send| match deflate {
                None => hub.flush(now, conn, send),
                Some(window) => hub.flush_deflated(now, conn, window, send),
            })
        };
        let written = match flushed {
            Flushed::Drained => match connection.write_pending() {
                Ok(true) => Flushed::Drained,
                Ok(false) => Flushed::Blocked,
                Err(error) => Flushed::Failed(error.kind()),
            },
            other => other,
        };
        match written {
            Flushed::Drained if matches!(connection.phase, Phase::Finishing) => {
                if let Some(tls) = &mut connection.tls {
                    tls.close_notify();
                    write_records(tls, connection.socket.as_fd()).ok();
                }
                socket::finish(connection.fd());
                connection.phase = Phase::Lingering;
            }
            Flushed::Drained => {}
            Flushed::Blocked => {
                connection.blocked = true;
                self.cells.blocked.add(1);
            }
            Flushed::Failed(_) => self.remove(now, conn),
        }
    }

    /// Ends a connection whose message of that number is still unfinished.
    fn expire_message(&mut self, now: Now, conn: ConnId, number: u32) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        let unfinished = connection.partial_messages == number && !connection.decoder.is_idle();
        if unfinished && matches!(connection.phase, Phase::Open) {
            let close = Close::Unfinished;
            self.hub.handle(now, Input::Violation { conn, close }, &mut self.outputs);
        }
    }

    /// Nothing more will be queued: send what there is, then finish the socket.
    pub(super) fn finish(&mut self, now: Now, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if matches!(connection.phase, Phase::Finishing | Phase::Lingering) {
            return;
        }
        connection.phase = Phase::Finishing;
        self.closing_expiries.start(now.mono_ns, conn);
        if self.is_draining() {
            self.parting_expiries.start(now.mono_ns, conn);
        }
        self.flush(now, conn);
    }

    /// The socket is gone, or given up.
    pub(super) fn remove(&mut self, now: Now, conn: ConnId) {
        let Some(connection) = self.connections.remove(conn) else { return };
        if connection.blocked {
            self.cells.blocked.sub(1);
        }
        self.hub.handle(now, Input::Gone { conn }, &mut self.outputs);
    }

    /// Lets go of a connection that is only waited for to close.
    pub(super) fn remove_finished(&mut self, now: Now, conn: ConnId) {
        if self
            .connections
            .get_mut(conn)
            .is_some_and(|connection| matches!(connection.phase, Phase::Lingering))
        {
            self.remove(now, conn);
        }
    }

    /// Acts on deadlines that have passed; those that are left make the next one ([`Shard::next_deadline`]) due at once.
    pub(super) fn expire(&mut self, now: Now, readiness: &Readiness) {
        self.expire_handshakes(now);
        for (conn, number) in self.message_expiries.take_due(now.mono_ns) {
            self.expire_message(now, conn, number);
        }
        for conn in self.closing_expiries.take_due(now.mono_ns) {
            self.remove(now, conn);
        }
        self.expire_parting(now);
        if self.hub.next_deadline().is_some_and(|due| due <= now.mono_ns) {
            self.hub.handle(now, Input::Tick, &mut self.outputs);
        }
        self.listeners.resume(now, readiness);
        self.close_listeners(now, readiness);
    }
}

/// What a frame is to the hub.
fn input(conn: ConnId, incoming: Incoming<'_>) -> Input<'_> {
    match incoming {
        Incoming::Text(text) => Input::Text { conn, text },
        Incoming::Binary(bytes) => Input::Binary { conn, bytes },
        Incoming::Ping(payload) => Input::Ping { conn, payload },
        Incoming::Pong => Input::Pong { conn },
        Incoming::Close(code) => Input::PeerClose { conn, code },
    }
}

/// Has the hub write its frames.
fn flush_hub(
    connection: &mut Connection,
    cells: &ShardCells,
    scratch: &mut [u8],
    mut flush: impl FnMut(&mut dyn FnMut(&[IoSlice<'_>]) -> io::Result<usize>) -> Flushed,
) -> Flushed {
    flush(&mut |frames| {
        let (taken, out) = connection.send(frames, scratch)?;
        cells.bytes_out.add(out as u64);
        Ok(taken)
    })
}
