//! Compressed messages (RFC 7692): where they may stand, however they are cut, and what becomes of bad ones.

use super::*;
use crate::wire::deflate::{Deflater, Inflater};

const RSV1: u8 = 0x40;
/// "Hello" (RFC 7692 §7.2.3.1).
const HELLO: [u8; 7] = [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];

/// As [`decode`], with permessage-deflate.
fn inflated<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Got>, Result<(), Close>) {
    let (mut decoder, mut inflater) = (Decoder::default(), Inflater::new());
    let mut got = Vec::new();
    for piece in pieces {
        let mut on = |incoming: Incoming<'_>| {
            got.push(incoming.into());
            true
        };
        let result = decoder.decode_deflated(&LIMITS, &mut inflater, &mut piece.to_vec(), &mut on);
        if result.is_err() {
            return (got, result);
        }
    }
    (got, Ok(()))
}

/// As [`decode_however_cut`], with permessage-deflate.
fn inflated_however_cut(bytes: &[u8]) -> (Vec<Got>, Result<(), Close>) {
    let whole = inflated([bytes]);
    assert_eq!(inflated(bytes.chunks(1)), whole, "single bytes of {bytes:x?}");
    for at in 0..=bytes.len() {
        let (first, second) = bytes.split_at(at);
        assert_eq!(inflated([first, second]), whole, "cut at {at} of {bytes:x?}");
    }
    whole
}

fn deflate(message: &[u8]) -> Vec<u8> {
    Deflater::new().deflate(message, <[u8]>::to_vec).unwrap()
}

/// The next of a sequence that looks like chance, below `bound`.
fn chance(state: &mut u64, bound: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize % bound
}

#[test]
fn compressed_and_plain_messages_come_side_by_side() {
    let (first, second) = HELLO.split_at(3);
    let long = "€uro ".repeat(3_000);
    let bytes = [
        frame(FIN | RSV1 | TEXT, &HELLO),
        frame(FIN | TEXT, b"plain"),
        frame(RSV1 | TEXT, first),
        frame(FIN | PING, b"p"),
        frame(CONTINUE, b""),
        frame(FIN | CONTINUE, second),
        frame(FIN | RSV1 | BINARY, &HELLO),
        // An empty message, as RFC 7692 §7.2.3.6 has it, as nothing at all, and in fragments.
        frame(FIN | RSV1 | TEXT, &[0x00]),
        frame(FIN | RSV1 | BINARY, b""),
        [frame(RSV1 | TEXT, b""), frame(FIN | CONTINUE, &[0x00])].concat(),
        frame(FIN | RSV1 | TEXT, &deflate(long.as_bytes())),
        close_frame(1000, b""),
    ];
    let got = vec![
        text("Hello"),
        text("plain"),
        Got::Ping(b"p".to_vec()),
        text("Hello"),
        Got::Binary(b"Hello".to_vec()),
        text(""),
        Got::Binary(vec![]),
        text(""),
        text(&long),
        Got::Close(Some(1000)),
    ];
    assert_eq!(inflated_however_cut(&bytes.concat()), (got, Ok(())));
}

#[test]
fn any_message_in_any_fragments_and_reads_comes_whole() {
    for seed in 0..300 {
        let mut state = seed;
        let length = chance(&mut state, [10, 300, 20_000][seed as usize % 3]);
        let message: Vec<u8> = (0..length).map(|_| b'a' + chance(&mut state, 20) as u8).collect();
        let compressed = Deflater::new().deflate(&message, <[u8]>::to_vec);
        let (rsv1, payload) = match &compressed {
            Some(compressed) => (RSV1, compressed.as_slice()),
            None => (0, message.as_slice()),
        };
        let mut bytes = Vec::new();
        let mut first = rsv1 | TEXT;
        let mut rest = payload;
        for _ in 0..chance(&mut state, 10) {
            let (piece, after) = rest.split_at(chance(&mut state, rest.len() + 1));
            bytes.extend(frame(first, piece));
            (first, rest) = (CONTINUE, after);
        }
        bytes.extend(frame(FIN | first, rest));
        let expected = (vec![Got::Text(String::from_utf8(message).unwrap())], Ok(()));
        let read = 1 + chance(&mut state, bytes.len());
        assert_eq!(inflated(bytes.chunks(read)), expected, "seed {seed}");
    }
}

#[test]
fn the_bit_stands_only_on_the_first_frame_of_a_message_and_only_where_it_was_agreed_on() {
    let reserved = (vec![], Err(Close::Protocol("reserved bits must be zero")));
    for bytes in [
        frame(FIN | RSV1 | PING, b""),
        frame(FIN | RSV1 | PONG, b"a"),
        frame(FIN | RSV1 | CLOSE, b""),
        frame(FIN | RSV1 | CONTINUE, b""),
        [frame(RSV1 | TEXT, &HELLO[..3]), frame(FIN | RSV1 | CONTINUE, &HELLO[3..])].concat(),
        [frame(TEXT, b"a"), frame(FIN | RSV1 | CONTINUE, b"b")].concat(),
        frame(FIN | RSV1 | 0x20 | TEXT, &HELLO),
        frame(FIN | 0x10 | TEXT, b"a"),
    ] {
        assert_eq!(inflated_however_cut(&bytes), reserved, "{bytes:x?}");
    }
    assert_eq!(decode_however_cut(&frame(FIN | RSV1 | TEXT, &HELLO)), reserved);
}

#[test]
fn what_is_inflated_is_judged_like_what_came_plain() {
    let noise: Vec<u8> = (0..40_u8).map(|n| n.wrapping_mul(77) ^ 0xA5).collect();
    let table = [
        (frame(FIN | RSV1 | TEXT, &deflate(&[0xFF; 200])), Close::InvalidText),
        // Cut within a character.
        (frame(FIN | RSV1 | TEXT, &deflate(&"€".repeat(100).as_bytes()[..299])), Close::InvalidText),
        (frame(FIN | RSV1 | TEXT, &HELLO[..4]), Close::InvalidDeflate),
        (frame(FIN | RSV1 | BINARY, &noise), Close::InvalidDeflate),
        ([frame(RSV1 | BINARY, &HELLO[..4]), frame(FIN | CONTINUE, b"")].concat(), Close::InvalidDeflate),
        (frame(FIN | RSV1 | BINARY, &deflate(&vec![0; LIMITS.message_bytes_max + 1])), Close::TooBig),
    ];
    for (bytes, close) in table {
        assert_eq!(inflated_however_cut(&bytes), (vec![], Err(close)), "{close:?}");
    }
    let largest = vec![b'a'; LIMITS.message_bytes_max];
    let bytes = frame(FIN | RSV1 | BINARY, &deflate(&largest));
    assert_eq!(inflated([bytes.as_slice()]), (vec![Got::Binary(largest)], Ok(())));
}

#[test]
fn compressed_frames_are_refused_by_their_header_alone_when_no_message_could_need_them() {
    let most = Inflater::compressed_bytes_max(LIMITS.message_bytes_max) as u64;
    let half = vec![0; most as usize / 2];
    for bytes in [
        header(FIN | RSV1 | TEXT, most + 1),
        [frame(RSV1 | BINARY, &half), header(CONTINUE, most / 2 + 2)].concat(),
        header(FIN | BINARY, LIMITS.message_bytes_max as u64 + 1),
    ] {
        assert_eq!(inflated([bytes.as_slice()]), (vec![], Err(Close::TooBig)));
    }
    assert_eq!(inflated([header(FIN | RSV1 | TEXT, most).as_slice()]), (vec![], Ok(())));
}

#[test]
fn an_idle_connection_keeps_nothing_of_what_was_compressed() {
    let (mut decoder, mut inflater) = (Decoder::default(), Inflater::new());
    let bytes = [frame(RSV1 | TEXT, &HELLO[..2]), frame(FIN | CONTINUE, &HELLO[2..])].concat();
    for byte in bytes {
        decoder.decode_deflated(&LIMITS, &mut inflater, &mut [byte], &mut |_| true).unwrap();
    }
    assert!(decoder.is_idle());
}

#[test]
fn nothing_is_inflated_for_somebody_who_is_shut_out() {
    let (mut decoder, mut inflater) = (Decoder::default(), Inflater::new());
    let mut flood = [frame(FIN | RSV1 | TEXT, &HELLO).repeat(50), close_frame(1000, b"")].concat();
    let mut got = Vec::new();
    let mut on = |incoming: Incoming<'_>| {
        got.push(Got::from(incoming));
        got.len() < 3
    };
    decoder.decode_deflated(&LIMITS, &mut inflater, &mut flood, &mut on).unwrap();
    assert_eq!(inflater.tally().messages, 3);
    assert_eq!(got[2..], [text("Hello"), Got::Close(Some(1000))], "the rest is still read");
}

#[test]
fn frames_are_compressed_whole_and_never_where_they_must_not_be() {
    let mut deflater = Deflater::new();
    let mut message = Vec::new();
    for (op, payload) in [(OpCode::Text, vec![b'a'; 200]), (OpCode::Binary, vec![7; 70_000])] {
        message.clear();
        encode(op, &payload, &mut message);
        let bytes = deflated(&message, &mut deflater).unwrap();
        assert_eq!((bytes[0], super::payload(&message)), (message[0] | RSV1, payload.as_slice()));
        let mut inflater = Inflater::new();
        let inflated = inflater.inflate(super::payload(&bytes), payload.len(), <[u8]>::to_vec);
        assert_eq!(inflated, Ok(payload));
    }
    for op in [OpCode::Ping, OpCode::Pong, OpCode::Close] {
        message.clear();
        encode(op, &[b'a'; 125], &mut message);
        assert_eq!(deflated(&message, &mut deflater), None);
    }
    assert_eq!(deflated(&[], &mut deflater), None);
}
