//! WebSocket frames (RFC 6455): what a peer may send, and what the gateway sends.
//!
//! Owns the vocabulary and the encoding; `decoder` reads, `utf8` checks text as it arrives. Never touches a
//! socket and never negotiates an extension: a reserved bit is a violation, but for RSV1 where the caller says that
//! permessage-deflate is in use (RFC 7692), whose data `wire::deflate` knows.

mod decoder;
#[cfg(test)]
mod tests;
mod utf8;

use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode as RawOpCode},
};

pub use self::decoder::Decoder;
use super::{close::Close, deflate::Deflater};

/// What a whole frame or message turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A whole text message, valid UTF-8.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A ping with its payload; at most 125 bytes.
    Ping(&'a [u8]),
    /// A pong.
    Pong,
    /// A close frame with its code; `None`: it was empty. Nothing follows.
    Close(Option<u16>),
}

/// Bounds of what a peer may send.
#[derive(Clone, Copy, Debug)]
pub struct FrameLimits {
    /// Payload of one message, all fragments together.
    pub message_bytes_max: usize,
    /// Fragments of one message.
    pub fragments_max: u32,
}

/// Frame op codes that the gateway sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpCode {
    /// 0x1
    Text,
    /// 0x2
    Binary,
    /// 0x8
    Close,
    /// 0x9
    Ping,
    /// 0xA
    Pong,
}

impl From<OpCode> for RawOpCode {
    fn from(op: OpCode) -> Self {
        match op {
            OpCode::Text => Self::Data(Data::Text),
            OpCode::Binary => Self::Data(Data::Binary),
            OpCode::Close => Self::Control(Control::Close),
            OpCode::Ping => Self::Control(Control::Ping),
            OpCode::Pong => Self::Control(Control::Pong),
        }
    }
}

/// Length of the header of an unmasked frame with a payload of `length` bytes: 2, 4 or 10 bytes (RFC 6455 §5.2).
pub fn header_bytes(length: usize) -> usize {
    match length {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    }
}

/// Appends one unmasked final frame.
pub fn encode(op: OpCode, payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(header_bytes(payload.len()) + payload.len());
    encode_header(op, payload.len(), out);
    out.extend_from_slice(payload);
}

/// Appends the header alone of an unmasked final frame whose payload of `length` bytes follows.
pub fn encode_header(op: OpCode, length: usize, out: &mut Vec<u8>) {
    let header = FrameHeader { opcode: op.into(), ..FrameHeader::default() };
    header.format(length as u64, out).expect("a Vec takes every byte");
}

/// The payload of a whole unmasked frame, as [`encode`] makes it.
pub fn payload(frame: &[u8]) -> &[u8] {
    let header_bytes = match frame.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    };
    frame.get(header_bytes..).unwrap_or_default()
}

/// The same message in a compressed frame. `None`: it would not become smaller, or is a control frame, which is never
/// compressed (RFC 7692 §5).
pub fn deflated(frame: &[u8], deflater: &mut Deflater) -> Option<Vec<u8>> {
    let opcode = match frame.first()? & 0x0F {
        0x1 => OpCode::Text.into(),
        0x2 => OpCode::Binary.into(),
        _ => return None,
    };
    deflater.deflate(payload(frame), |compressed| {
        // "…the Per-Message Compressed bit… indicates whether the message is compressed" (RFC 7692 §6)
        let header = FrameHeader { opcode, rsv1: true, ..FrameHeader::default() };
        let mut bytes = Vec::with_capacity(header_bytes(compressed.len()) + compressed.len());
        header.format(compressed.len() as u64, &mut bytes).expect("a Vec takes every byte");
        bytes.extend_from_slice(compressed);
        bytes
    })
}

/// Appends a close frame with its code and reason (RFC 6455 §5.5.1).
pub fn encode_close(close: Close, out: &mut Vec<u8>) {
    let mut payload = close.code().to_be_bytes().to_vec();
    payload.extend_from_slice(close.reason().as_bytes());
    encode(OpCode::Close, &payload, out);
}

/// Appends the answer to a peer's close frame: its own code, or none where it had none.
pub fn encode_close_reply(code: Option<u16>, out: &mut Vec<u8>) {
    match code {
        Some(code) => encode(OpCode::Close, &code.to_be_bytes(), out),
        None => encode(OpCode::Close, &[], out),
    }
}
