//! One TLS connection, without a socket: records in, plaintext out, and the other way round.
//!
//! Owns the session's secrets, the input of an unfinished record and the ciphertext that waits to be sent. Invariants:
//! both buffers are freed when empty, so an idle session owns none; unfinished input stays within
//! `TLS_PENDING_BYTES_MAX`; after an error nothing more is decrypted. Talks to `shard`, which moves the bytes.

use std::{io::IoSlice, sync::Arc};

use rustls::{
    HandshakeKind, ServerConfig,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic},
};

use crate::limits::{TLS_PENDING_BYTES_MAX, TLS_RECORD_PLAIN_MAX};

/// The server's side of one TLS connection.
pub struct TlsSession {
    conn: UnbufferedServerConnection,
    /// The start of a record or handshake message that is not whole; `len <= TLS_PENDING_BYTES_MAX`.
    ///
    /// rustls decrypts in place and keeps offsets into it: whenever it is asked for anything, it has to see this.
    pending: Vec<u8>,
    /// Ciphertext; the first `sent` bytes are gone already. `sent < len`, or both are 0.
    outgoing: Vec<u8>,
    sent: usize,
    /// Whether close_notify came; what follows it means nothing (RFC 8446 §6.1).
    peer_closed: bool,
    /// Whether an error ended the session.
    failed: bool,
}

/// What came of [`TlsSession::receive`] beside plaintext.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The handshake ended in this call.
    pub handshake_done: bool,
    /// The peer sent close_notify, now or before: there is no more to come.
    pub peer_closed: bool,
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SessionError {
    /// The peer broke the protocol, has no version or suite in common, or sent an alert.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// A record or handshake message longer than `TLS_PENDING_BYTES_MAX`.
    #[error("TLS message is too long")]
    TooLong,
    /// Data for a peer before its handshake ended, or after either side closed.
    #[error("TLS session takes no data")]
    NotOpen,
    /// So many records that the key must not be used for more (TLS 1.2; RFC 8446 §5.5 for why).
    #[error("TLS keys are used up")]
    KeyExhausted,
}

impl std::fmt::Debug for TlsSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsSession")
            .field("handshaking", &self.is_handshaking())
            .field("pending", &self.pending.len())
            .field("outgoing", &self.outgoing().len())
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl TlsSession {
    /// A session that waits for the client's hello.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self {
            conn: UnbufferedServerConnection::new(config)?,
            pending: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
            peer_closed: false,
            failed: false,
        })
    }

    /// Takes bytes from the socket; overwrites `input`, appends what it meant to `plain`.
    ///
    /// After an error [`TlsSession::outgoing`] may hold an alert that is worth sending before the socket is closed.
    pub fn receive(&mut self, input: &mut [u8], plain: &mut Vec<u8>) -> Result<Received, SessionError> {
        if self.failed {
            return Err(SessionError::NotOpen);
        }
        let was_handshaking = self.is_handshaking();
        if !self.peer_closed {
            let taken = self.take(input, plain);
            self.failed = taken.is_err();
            if self.failed || self.peer_closed {
                self.pending = Vec::new();
            }
            taken?;
        }
        let handshake_done = was_handshaking && !self.is_handshaking();
        Ok(Received { handshake_done, peer_closed: self.peer_closed })
    }

    /// Keeps bytes from the socket for the next [`TlsSession::receive`], unread; `n <= TLS_PENDING_BYTES_MAX` in all.
    pub fn hold(&mut self, input: &[u8]) {
        debug_assert!(self.pending.len() + input.len() <= TLS_PENDING_BYTES_MAX);
        self.pending.extend_from_slice(input);
    }

    /// What came and means nothing yet.
    pub fn held(&self) -> &[u8] {
        &self.pending
    }

    /// Encrypts the parts, one after the other, as few records. Returns the plaintext's length. After an error the
    /// session is over.
    pub fn encrypt(&mut self, parts: &[IoSlice<'_>]) -> Result<usize, SessionError> {
        if self.failed {
            return Err(SessionError::NotOpen);
        }
        let total = parts.iter().map(|part| part.len()).sum();
        if let [part] = parts {
            self.encrypt_slice(part)?;
            return Ok(total);
        }
        // A record of its own for each small part would cost 22 bytes and a call each.
        let mut record = Vec::with_capacity(total.min(TLS_RECORD_PLAIN_MAX));
        for part in parts {
            let mut rest: &[u8] = part;
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(TLS_RECORD_PLAIN_MAX - record.len()));
                record.extend_from_slice(now);
                rest = later;
                if record.len() == TLS_RECORD_PLAIN_MAX {
                    self.encrypt_slice(&record)?;
                    record.clear();
                }
            }
        }
        self.encrypt_slice(&record)?;
        Ok(total)
    }

    /// Ciphertext that waits to be sent.
    pub fn outgoing(&self) -> &[u8] {
        &self.outgoing[self.sent..]
    }

    /// The first `n` bytes of [`TlsSession::outgoing`] are with the kernel; `n <= outgoing().len()`.
    pub fn sent(&mut self, n: usize) {
        debug_assert!(n <= self.outgoing().len());
        self.sent += n;
        if self.sent >= self.outgoing.len() {
            self.outgoing = Vec::new();
            self.sent = 0;
        }
    }

    /// Whether ciphertext waits to be sent.
    pub fn wants_write(&self) -> bool {
        !self.outgoing().is_empty()
    }

    /// Tells the peer that nothing more will come (RFC 8446 §6.1). Without effect while handshaking, or after an error.
    pub fn close_notify(&mut self) {
        if self.failed || self.is_handshaking() {
            return;
        }
        let result =
            with_traffic(&mut self.conn, &mut self.pending, &mut self.outgoing, |mut traffic, outgoing| {
                append(outgoing, ALERT_BYTES_MAX, |space| traffic.queue_close_notify(space))
            });
        self.failed |= is_fatal(&result);
    }

    /// Whether the handshake is still under way.
    pub fn is_handshaking(&self) -> bool {
        self.conn.is_handshaking()
    }

    /// How the handshake goes: with a ticket of before or without; `None`: that is not decided yet.
    pub fn is_resumed(&self) -> Option<bool> {
        match self.conn.handshake_kind()? {
            HandshakeKind::Resumed => Some(true),
            // Asked for another key share; the second hello may still be of a ticket.
            HandshakeKind::FullWithHelloRetryRequest if self.is_handshaking() => None,
            _ => Some(false),
        }
    }

    /// Moves `input` through rustls: in place as long as nothing is pending, else by way of `pending`.
    fn take(&mut self, mut input: &mut [u8], plain: &mut Vec<u8>) -> Result<(), SessionError> {
        while !self.pending.is_empty() {
            let space = TLS_PENDING_BYTES_MAX - self.pending.len();
            if space == 0 {
                return Err(SessionError::TooLong);
            }
            let (now, later) = input.split_at_mut(space.min(input.len()));
            self.pending.extend_from_slice(now);
            input = later;
            let processed = process(&mut self.conn, &mut self.pending, &mut self.outgoing, plain)?;
            self.pending.drain(..processed.consumed);
            self.peer_closed = processed.peer_closed;
            if input.is_empty() || self.peer_closed {
                break;
            }
        }
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
        if input.is_empty() || self.peer_closed {
            return Ok(());
        }
        let processed = process(&mut self.conn, input, &mut self.outgoing, plain)?;
        self.peer_closed = processed.peer_closed;
        let rest = &input[processed.consumed..];
        if rest.len() > TLS_PENDING_BYTES_MAX {
            return Err(SessionError::TooLong);
        }
        self.pending.extend_from_slice(rest);
        Ok(())
    }

    fn encrypt_slice(&mut self, plain: &[u8]) -> Result<(), SessionError> {
        if plain.is_empty() {
            return Ok(());
        }
        if self.sent > self.outgoing.len() / 2 {
            self.outgoing.drain(..self.sent);
            self.sent = 0;
        }
        let records = plain.len().div_ceil(TLS_RECORD_PLAIN_MAX);
        let estimate = plain.len() + records * RECORD_OVERHEAD_MAX;
        let result =
            with_traffic(&mut self.conn, &mut self.pending, &mut self.outgoing, |mut traffic, outgoing| {
                append(outgoing, estimate, |space| traffic.encrypt(plain, space))
            });
        self.failed |= is_fatal(&result);
        result
    }
}

/// Whether nothing can follow. That a session takes no data at the moment is only its caller's mistake.
fn is_fatal(result: &Result<(), SessionError>) -> bool {
    !matches!(result, Ok(()) | Err(SessionError::NotOpen))
}

/// What [`process`] did.
struct Processed {
    /// Bytes at the front of the input that are done with.
    consumed: usize,
    peer_closed: bool,
}

/// Runs rustls over `input` until it wants more.
fn process(
    conn: &mut UnbufferedServerConnection,
    input: &mut [u8],
    outgoing: &mut Vec<u8>,
    plain: &mut Vec<u8>,
) -> Result<Processed, SessionError> {
    let mut consumed = 0;
    let mut peer_closed = false;
    loop {
        let UnbufferedStatus { mut discard, state } = conn.process_tls_records(&mut input[consumed..]);
        let mut settled = false;
        let result = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    plain.extend_from_slice(record.payload);
                }
                Ok(())
            }
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, outgoing),
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Ok(())
            }
            Ok(ConnectionState::PeerClosed) => {
                peer_closed = true;
                Ok(())
            }
            // Early data is never offered, so `ReadEarlyData` does not come.
            Ok(_) => {
                settled = true;
                Ok(())
            }
            Err(error) => Err(SessionError::Tls(error)),
        };
        consumed += discard;
        if let Err(error) = result {
            queue_alerts(conn, &mut input[consumed..], outgoing);
            return Err(error);
        }
        if settled {
            return Ok(Processed { consumed, peer_closed });
        }
    }
}

/// After an error: what rustls has to say to the peer. Asks no further than that, since it would look at the same input
/// again.
fn queue_alerts(conn: &mut UnbufferedServerConnection, input: &mut [u8], outgoing: &mut Vec<u8>) {
    while conn.wants_write() {
        let Ok(ConnectionState::EncodeTlsData(data)) = conn.process_tls_records(input).state else { return };
        if encode(data, outgoing).is_err() {
            return;
        }
    }
}

/// Hands `act` the open connection, after whatever rustls wants sent first.
fn with_traffic(
    conn: &mut UnbufferedServerConnection,
    pending: &mut [u8],
    outgoing: &mut Vec<u8>,
    act: impl FnOnce(WriteTraffic<'_, ServerConnectionData>, &mut Vec<u8>) -> Result<(), SessionError>,
) -> Result<(), SessionError> {
    loop {
        match conn.process_tls_records(pending).state? {
            ConnectionState::WriteTraffic(traffic) => return act(traffic, outgoing),
            ConnectionState::EncodeTlsData(data) => encode(data, outgoing)?,
            ConnectionState::TransmitTlsData(data) => data.done(),
            _ => return Err(SessionError::NotOpen),
        }
    }
}

fn encode(
    mut data: EncodeTlsData<'_, ServerConnectionData>,
    outgoing: &mut Vec<u8>,
) -> Result<(), SessionError> {
    let start = outgoing.len();
    let encoded = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(short)) => {
            outgoing.resize(start + short.required_size, 0);
            data.encode(&mut outgoing[start..])
        }
        result => result,
    };
    encoded.map(drop).map_err(|_| SessionError::NotOpen)
}

/// Appends what `write` makes of a space of `estimate` bytes, or of as many as it then asks for.
fn append(
    outgoing: &mut Vec<u8>,
    estimate: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), SessionError> {
    let start = outgoing.len();
    outgoing.resize(start + estimate, 0);
    let written = match write(&mut outgoing[start..]) {
        Err(EncryptError::InsufficientSize(short)) => {
            outgoing.resize(start + short.required_size, 0);
            write(&mut outgoing[start..])
        }
        result => result,
    };
    outgoing.truncate(start + *written.as_ref().unwrap_or(&0));
    written.map(drop).map_err(|_| SessionError::KeyExhausted)
}

/// Header, explicit nonce and tag of TLS 1.2, or header, content type and tag of TLS 1.3.
const RECORD_OVERHEAD_MAX: usize = 5 + 8 + 16;

/// An alert is two bytes.
const ALERT_BYTES_MAX: usize = 2 + RECORD_OVERHEAD_MAX;

#[cfg(test)]
mod tests;
