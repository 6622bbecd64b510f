//! WebSocket frames as a client writes them, right ones and wrong ones (RFC 6455, 5.2), compressed too (RFC 7692).

use miniz_oxide::{
    deflate::core::{CompressorOxide, TDEFLFlush, compress_to_output, create_comp_flags_from_zip_params},
    inflate::decompress_to_vec,
};

pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A masked final frame.
pub fn masked(op: u8, payload: &[u8]) -> Vec<u8> {
    part(0x80 | op, payload)
}

/// A masked frame with the first byte as given: FIN, RSV1–3, op code.
pub fn part(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len() as u64);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The header alone of a masked frame, in the shortest length encoding.
pub fn header(first: u8, length: u64) -> Vec<u8> {
    let mut frame = vec![first];
    match length {
        0..=125 => frame.push(0x80 | length as u8),
        126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame
}

/// A close frame.
pub fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    masked(CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// A masked final frame with a compressed message.
pub fn deflated(op: u8, message: &[u8]) -> Vec<u8> {
    part(0xC0 | op, &deflate(message))
}

/// The payload of a compressed message.
pub fn deflate(message: &[u8]) -> Vec<u8> {
    let mut compressor = CompressorOxide::new(create_comp_flags_from_zip_params(9, -15, 0));
    let mut bytes = Vec::new();
    compress_to_output(&mut compressor, message, TDEFLFlush::Sync, |piece| {
        bytes.extend_from_slice(piece);
        true
    });
    assert!(bytes.ends_with(&TAIL));
    bytes.truncate(bytes.len() - TAIL.len());
    bytes
}

/// The message of a compressed payload. The library wants to see an end, so it gets an empty last block.
pub fn inflate(payload: &[u8]) -> Vec<u8> {
    let ended = [payload, &TAIL, &[0x01, 0x00, 0x00, 0xFF, 0xFF]].concat();
    decompress_to_vec(&ended).unwrap_or_else(|error| panic!("{error}: {payload:02x?}"))
}

/// What is left out at the end of a compressed message (RFC 7692, 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
