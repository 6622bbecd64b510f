//! The catalogue of bad frames, and good ones cut at every byte.

mod deflated;

use super::*;
use crate::limits::FRAGMENTS_MAX;

const LIMITS: FrameLimits = FrameLimits { message_bytes_max: 64 * 1024, fragments_max: FRAGMENTS_MAX };
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

const FIN: u8 = 0x80;
const CONTINUE: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// What a test wants of [`Incoming`], owned.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Got {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

impl From<Incoming<'_>> for Got {
    fn from(incoming: Incoming<'_>) -> Self {
        match incoming {
            Incoming::Text(text) => Self::Text(text.to_owned()),
            Incoming::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Incoming::Ping(payload) => Self::Ping(payload.to_vec()),
            Incoming::Pong => Self::Pong,
            Incoming::Close(code) => Self::Close(code),
        }
    }
}

fn text(text: &str) -> Got {
    Got::Text(text.to_owned())
}

/// The header of a masked frame that declares `length`.
fn header(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(0x80 | length as u8),
        126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes
}

/// A masked frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len() as u64);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn close_frame(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// Decodes the pieces one after another; stops at the first error.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Got>, Result<(), Close>) {
    let mut decoder = Decoder::default();
    let mut got = Vec::new();
    for piece in pieces {
        let result = decoder.decode(&LIMITS, &mut piece.to_vec(), &mut |incoming| got.push(incoming.into()));
        if result.is_err() {
            return (got, result);
        }
    }
    (got, Ok(()))
}

/// Every way of cutting the bytes must come to the same.
fn decode_however_cut(bytes: &[u8]) -> (Vec<Got>, Result<(), Close>) {
    let whole = decode([bytes]);
    assert_eq!(decode(bytes.chunks(1)), whole, "single bytes of {bytes:x?}");
    for at in 0..=bytes.len() {
        let (first, second) = bytes.split_at(at);
        assert_eq!(decode([first, second]), whole, "cut at {at} of {bytes:x?}");
    }
    whole
}

fn refused(bytes: &[u8]) -> Close {
    let (got, result) = decode_however_cut(bytes);
    assert_eq!(got, []);
    result.unwrap_err()
}

/// Messages and control frames of every kind and length class, with what they come to.
fn recording() -> (Vec<u8>, Vec<Got>) {
    let long = "€uro ".repeat(3_000);
    let frames = [
        frame(FIN | TEXT, b"hello"),
        frame(FIN | PING, b"p"),
        frame(FIN | TEXT, b""),
        frame(FIN | BINARY, &[0xFF; 126]),
        frame(TEXT, &"😀".as_bytes()[..3]),
        frame(FIN | PONG, b"ignored"),
        frame(CONTINUE, &"😀".as_bytes()[3..]),
        frame(CONTINUE, b""),
        frame(FIN | PING, &[7; 125]),
        frame(FIN | CONTINUE, "é".as_bytes()),
        frame(FIN | TEXT, long.as_bytes()),
        frame(BINARY, b""),
        frame(FIN | CONTINUE, b""),
        frame(FIN | PING, b""),
        frame(BINARY, &[1; 40]),
        frame(FIN | CONTINUE, &[2; 300]),
        close_frame(1000, "bye é".as_bytes()),
        frame(FIN | TEXT, b"after the close"),
    ];
    let got = vec![
        text("hello"),
        Got::Ping(b"p".to_vec()),
        text(""),
        Got::Binary(vec![0xFF; 126]),
        Got::Pong,
        Got::Ping(vec![7; 125]),
        text("😀é"),
        text(&long),
        Got::Binary(vec![]),
        Got::Ping(vec![]),
        Got::Binary([vec![1; 40], vec![2; 300]].concat()),
        Got::Close(Some(1000)),
    ];
    (frames.concat(), got)
}

#[test]
fn frames_cut_anywhere_give_the_same_messages() {
    let (bytes, expected) = recording();
    for at in 0..=bytes.len() {
        let (first, second) = bytes.split_at(at);
        assert_eq!(decode([first, second]), (expected.clone(), Ok(())), "cut at {at}");
    }
    assert_eq!(decode(bytes.chunks(1)), (expected, Ok(())));
}

#[test]
fn frames_cut_at_random_give_the_same_messages() {
    let (bytes, expected) = recording();
    for seed in 0..500_u64 {
        // Knuth's multiplier; the top bits of each step choose the next length.
        let mut state = seed;
        let largest = [3, 30, 300, 3_000][(seed % 4) as usize];
        let mut pieces = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (piece, after) = rest.split_at(((state >> 33) as usize % largest + 1).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        assert_eq!(decode(pieces), (expected.clone(), Ok(())), "seed {seed}");
    }
}

#[test]
fn an_idle_decoder_is_one_null_pointer() {
    assert_eq!(size_of::<Decoder>(), size_of::<usize>());
    let (bytes, _) = recording();
    let mut decoder = Decoder::default();
    let mut idle_before_close = false;
    for byte in bytes {
        let mut closed = false;
        let on = &mut |incoming: Incoming<'_>| closed = matches!(incoming, Incoming::Close(_));
        decoder.decode(&LIMITS, &mut [byte], on).unwrap();
        if closed {
            break;
        }
        idle_before_close |= decoder.is_idle();
    }
    assert!(idle_before_close);
    assert!(!decoder.is_idle(), "what comes after a close frame must be ignored");
}

#[test]
fn headers_that_break_the_rules_are_refused() {
    let unmasked = [FIN | TEXT, 1, b'a'];
    let table = [
        (frame(FIN | 0x40 | TEXT, b"a"), "reserved bits must be zero"),
        (frame(FIN | 0x20 | TEXT, b"a"), "reserved bits must be zero"),
        (frame(FIN | 0x10 | PING, b"a"), "reserved bits must be zero"),
        (unmasked.to_vec(), "client frames must be masked"),
        (frame(FIN | PING, &[0; 126]), "control frames have at most 125 bytes"),
        (frame(FIN | CLOSE, &[0; 126]), "control frames have at most 125 bytes"),
        (frame(PING, b"a"), "control frames must not be fragmented"),
        (frame(CLOSE, b""), "control frames must not be fragmented"),
        (frame(FIN | CONTINUE, b"a"), "nothing to continue"),
        (frame(CONTINUE, b"a"), "nothing to continue"),
        ([frame(TEXT, b"a"), frame(FIN | TEXT, b"b")].concat(), "a message must end before the next begins"),
        ([frame(BINARY, b""), frame(BINARY, b"")].concat(), "a message must end before the next begins"),
        (header(FIN | BINARY, 1 << 63), "the top bit of a 64-bit length must be zero"),
        (header(FIN | BINARY, u64::MAX), "the top bit of a 64-bit length must be zero"),
    ];
    for (bytes, reason) in table {
        assert_eq!(refused(&bytes), Close::Protocol(reason), "{bytes:x?}");
    }
}

#[test]
fn reserved_op_codes_are_refused() {
    for op in (0x3..=0x7).chain(0xB..=0xF) {
        for first in [FIN | op, op] {
            assert_eq!(refused(&frame(first, b"")), Close::Protocol("reserved op code"));
        }
    }
}

#[test]
fn a_length_in_more_bytes_than_needed_is_refused() {
    let wide = |length: u64| [&[FIN | BINARY, 0xFF][..], &length.to_be_bytes(), &MASK].concat();
    let table = [
        [&[FIN | BINARY, 0xFE][..], &0_u16.to_be_bytes(), &MASK].concat(),
        [&[FIN | BINARY, 0xFE][..], &125_u16.to_be_bytes(), &MASK].concat(),
        wide(0),
        wide(125),
        wide(0xFFFF),
    ];
    for bytes in table {
        assert_eq!(refused(&bytes), Close::Protocol("a length must be encoded in the fewest bytes"));
    }
}

#[test]
fn a_message_over_the_limit_is_refused_by_its_header_alone() {
    let limit = LIMITS.message_bytes_max as u64;
    let half = vec![b'a'; LIMITS.message_bytes_max / 2];
    for bytes in [
        header(FIN | TEXT, limit + 1),
        header(BINARY, 16 * 1024 * 1024),
        header(FIN | BINARY, (1 << 63) - 1),
        [frame(TEXT, &half), frame(CONTINUE, &half), header(FIN | CONTINUE, 1)].concat(),
        [frame(TEXT, &half), header(CONTINUE, limit / 2 + 1)].concat(),
    ] {
        assert_eq!(decode([bytes.as_slice()]), (vec![], Err(Close::TooBig)), "{:x?}", &bytes[..2]);
    }
    let (got, result) = decode([frame(FIN | TEXT, &vec![b'a'; limit as usize]).as_slice()]);
    assert_eq!((got.len(), result), (1, Ok(())));
}

#[test]
fn a_message_of_too_many_fragments_is_refused() {
    for payload in [&b""[..], b"x"] {
        let begin = frame(BINARY, payload);
        let next = frame(CONTINUE, payload);
        let last = frame(FIN | CONTINUE, payload);
        let allowed = FRAGMENTS_MAX as usize - 2;
        let whole = [begin.clone(), next.repeat(allowed), last.clone()].concat();
        let expected = vec![Got::Binary(payload.repeat(allowed + 2))];
        assert_eq!(decode([whole.as_slice()]), (expected, Ok(())));
        let longer = [begin, next.repeat(allowed + 1), last].concat();
        assert_eq!(decode([longer.as_slice()]), (vec![], Err(Close::TooManyFragments)));
    }
}

#[test]
fn bad_text_is_refused_before_the_frame_is_whole() {
    // Autobahn 6.4.3 and 6.4.4: U+110000 in the middle of one frame that never ends.
    let good = "κόσμε".as_bytes();
    let payload = [good, &[0xF4, 0x90, 0x80, 0x80], b"edited"].concat();
    let bytes = frame(FIN | TEXT, &payload);
    let header_bytes = bytes.len() - payload.len();
    for at in 0..good.len() + 2 {
        let (first, second) = bytes[..header_bytes + good.len() + 2].split_at(header_bytes + at);
        assert_eq!(decode([first, second]), (vec![], Err(Close::InvalidText)), "cut at {at}");
    }
    let untouched = &bytes[..header_bytes + good.len() + 1];
    assert_eq!(decode([untouched]), (vec![], Ok(())), "0xF4 alone may begin a character");
}

#[test]
fn bad_text_is_refused_in_its_fragment() {
    let table = [
        [frame(TEXT, b"ok"), frame(CONTINUE, &[0xFF])].concat(),
        [frame(TEXT, &[0xE2, 0x82]), frame(CONTINUE, b"a")].concat(),
        [frame(TEXT, &[0xE2, 0x82]), frame(FIN | CONTINUE, b"")].concat(),
        frame(FIN | TEXT, &[0xE2, 0x82]),
        frame(FIN | TEXT, &[0xED, 0xA0, 0x80]),
    ];
    for bytes in table {
        assert_eq!(refused(&bytes), Close::InvalidText, "{bytes:x?}");
    }
}

#[test]
fn close_frames_with_a_valid_code_are_heard() {
    let valid =
        [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
    for code in valid {
        let expected = (vec![Got::Close(Some(code))], Ok(()));
        assert_eq!(decode_however_cut(&close_frame(code, b"")), expected);
        assert_eq!(decode_however_cut(&close_frame(code, &[b'r'; 123])), expected);
    }
    assert_eq!(decode_however_cut(&frame(FIN | CLOSE, b"")), (vec![Got::Close(None)], Ok(())));
    let within_message = [frame(TEXT, b"begun"), close_frame(1001, b"")].concat();
    assert_eq!(decode_however_cut(&within_message), (vec![Got::Close(Some(1001))], Ok(())));
}

#[test]
fn bad_close_frames_are_refused() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        assert_eq!(refused(&close_frame(code, b"")), Close::Protocol("invalid close code"), "{code}");
    }
    assert_eq!(refused(&frame(FIN | CLOSE, &[3])), Close::Protocol("close frame of one byte"));
    assert_eq!(refused(&close_frame(1000, &[0xCE, 0xBA, 0xE1])), Close::InvalidText);
}

#[test]
fn nothing_is_read_after_a_close_frame_or_an_error() {
    let mut got = Vec::new();
    let mut decoder = Decoder::default();
    let mut on = |incoming: Incoming<'_>| got.push(Got::from(incoming));
    decoder.decode(&LIMITS, &mut [close_frame(1000, b""), vec![0xFF; 9]].concat(), &mut on).unwrap();
    decoder.decode(&LIMITS, &mut frame(FIN | TEXT, b"late"), &mut on).unwrap();
    assert_eq!(got, [Got::Close(Some(1000))]);

    let mut got = Vec::new();
    let mut decoder = Decoder::default();
    let mut on = |incoming: Incoming<'_>| got.push(Got::from(incoming));
    let bad = [frame(FIN | PING, b"1"), frame(FIN | 0x3, b""), frame(FIN | PING, b"2")].concat();
    decoder.decode(&LIMITS, &mut bad.clone(), &mut on).unwrap_err();
    decoder.decode(&LIMITS, &mut frame(FIN | TEXT, b"late"), &mut on).unwrap();
    assert_eq!(got, [Got::Ping(b"1".to_vec())]);
}

#[test]
fn any_two_bytes_and_any_noise_end_without_a_panic() {
    for first in 0..=u8::MAX {
        for second in 0..=u8::MAX {
            let bytes: Vec<u8> = [first, second].into_iter().chain((0..40).map(|n| n ^ second)).collect();
            let mut decoder = Decoder::default();
            let mut on = |_: Incoming<'_>| {};
            // Only that it returns is of interest.
            decoder.decode(&LIMITS, &mut bytes.clone(), &mut on).ok();
        }
    }
}

#[test]
fn lengths_are_encoded_in_the_fewest_bytes() {
    let table: [(usize, &[u8]); 6] = [
        (0, &[0x81, 0]),
        (125, &[0x81, 125]),
        (126, &[0x81, 126, 0, 126]),
        (0xFFFF, &[0x81, 126, 0xFF, 0xFF]),
        (0x1_0000, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        (0x100_0001, &[0x81, 127, 0, 0, 0, 0, 1, 0, 0, 1]),
    ];
    for (length, expected) in table {
        let mut out = Vec::new();
        encode_header(OpCode::Text, length, &mut out);
        assert_eq!(out, expected, "{length}");
        assert_eq!(header_bytes(length), expected.len(), "{length}");
    }
}

#[test]
fn frames_are_appended_to_what_is_there() {
    let mut out = b"..".to_vec();
    for op in [OpCode::Text, OpCode::Binary, OpCode::Close, OpCode::Ping, OpCode::Pong] {
        encode(op, b"", &mut out);
    }
    encode(OpCode::Pong, b"ab", &mut out);
    assert_eq!(out, b"..\x81\0\x82\0\x88\0\x89\0\x8A\0\x8A\x02ab");
}

#[test]
fn a_close_frame_has_code_and_reason_or_nothing() {
    let mut out = Vec::new();
    encode_close(Close::Protocol("why"), &mut out);
    encode_close(Close::Normal, &mut out);
    encode_close_reply(Some(1001), &mut out);
    encode_close_reply(None, &mut out);
    assert_eq!(out, b"\x88\x05\x03\xEAwhy\x88\x02\x03\xE8\x88\x02\x03\xE9\x88\0");
}
