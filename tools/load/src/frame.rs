//! The client's side of the WebSocket protocol, as little of it as a load generator needs.
//!
//! Frames are masked with the key zero, so that masking costs nothing here and as much as ever in the server.

use crate::payload::position;

/// Op codes (RFC 6455 §5.2).
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// The sample nonce of RFC 6455 §1.3, the same for every connection, so that its answer is a constant.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer that proves that the server understood [`KEY`].
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The request that opens a connection.
pub(crate) fn request(host: &str, target: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

/// What the answer to [`request`] is so far.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Not whole yet.
    Partial,
    /// Switched; the head ended after so many bytes.
    Switched(usize),
    /// Refused with this status, 0 where there was none or the accept key was wrong.
    Refused(u16),
}

/// Reads the answer to [`request`].
pub(crate) fn answer(bytes: &[u8]) -> Answer {
    let Some(end) = position(bytes, b"\r\n\r\n") else { return Answer::Partial };
    let head = &bytes[..end];
    let status =
        head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(0);
    match status {
        101 if position(head, ACCEPT).is_some() => Answer::Switched(end + 4),
        101 => Answer::Refused(0),
        other => Answer::Refused(other),
    }
}

/// One frame at the head of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Low four bits of the first byte.
    pub(crate) op: u8,
    /// Whether it is one unfragmented message without reserved bits.
    pub(crate) plain: bool,
    /// Where the payload begins.
    pub(crate) start: usize,
    /// Where it ends, and the next frame begins.
    pub(crate) end: usize,
}

/// The frame that the bytes begin with; `None`: its header is not whole.
///
/// A masked frame is taken as one with the key zero: the floor echoes what it was sent.
pub(crate) fn parse(bytes: &[u8]) -> Option<Frame> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (header, length) = match second & 0x7F {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize),
        short => (2, usize::from(short)),
    };
    let start = header + if second & MASKED == 0 { 0 } else { 4 };
    Some(Frame { op: first & 0x0F, plain: first & 0xF0 == FINAL, start, end: start.saturating_add(length) })
}

/// Appends a frame as a client sends it.
pub(crate) fn encode_client(op: u8, payload: &[u8], out: &mut Vec<u8>) {
    header(op, MASKED, payload.len(), out);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

/// Appends a frame as a server sends it.
pub(crate) fn encode_server(op: u8, payload: &[u8], out: &mut Vec<u8>) {
    header(op, 0, payload.len(), out);
    out.extend_from_slice(payload);
}

fn header(op: u8, mask: u8, length: usize, out: &mut Vec<u8>) {
    out.push(FINAL | op);
    match length {
        0..=125 => out.push(mask | length as u8),
        126..=0xFFFF => {
            out.push(mask | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(mask | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_come_back() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'a'; length];
            let (mut client, mut server) = (Vec::new(), Vec::new());
            encode_client(TEXT, &payload, &mut client);
            encode_server(TEXT, &payload, &mut server);
            for bytes in [client, server] {
                let frame = parse(&bytes).unwrap_or_else(|| panic!("{length} bytes"));
                assert_eq!((frame.op, frame.plain, frame.end), (TEXT, true, bytes.len()));
                assert_eq!(&bytes[frame.start..frame.end], &payload[..]);
            }
        }
    }

    #[test]
    fn half_a_header_is_no_frame() {
        for bytes in [&[][..], &[0x81], &[0x81, 126, 0], &[0x81, 127, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(parse(bytes), None);
        }
    }

    #[test]
    fn only_the_right_accept_key_switches() {
        let good =
            b"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        assert_eq!(answer(good), Answer::Switched(good.len()));
        assert_eq!(answer(&good[..40]), Answer::Partial);
        assert_eq!(answer(b"HTTP/1.1 101 x\r\nSec-WebSocket-Accept: no\r\n\r\n"), Answer::Refused(0));
        assert_eq!(answer(b"HTTP/1.1 429 Too Many Requests\r\n\r\n"), Answer::Refused(429));
    }
}
