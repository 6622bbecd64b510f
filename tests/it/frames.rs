//! WebSocket frames over the wire (catalogue B). The unit tests of `wire::frame` go through every chop.

use serde_json::json;

use crate::support::{
    frame::{self, BINARY, CLOSE, PING, PONG, TEXT},
    server::Server,
    ws::{Ask, Client, Heard},
};

/// The bytes, and the code that closes the connection.
fn check(rows: &[(&str, Vec<u8>, u16)]) {
    let server = Server::start();
    for (what, bytes, code) in rows {
        let mut client = server.connect();
        client.bytes(bytes);
        assert_eq!(client.expect_close().0, *code, "{what}");
    }
    server.connect().close();
}

/// B1, B13
#[test]
fn reserved_bits_and_op_codes_break_the_protocol() {
    let bits = [0xC1, 0xA1, 0x91, 0xC9, 0xC0].map(|first| ("a reserved bit", frame::part(first, b"a"), 1002));
    let ops =
        [3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map(|op| ("a reserved op code", frame::masked(op, b"a"), 1002));
    check(&[bits.to_vec(), ops.to_vec()].concat());
}

/// B2, B12
#[test]
fn frames_are_masked_and_their_lengths_shortest() {
    let long = |bytes: &[u8]| [bytes, &[0; 4], &[b'a'; 5]].concat();
    check(&[
        ("unmasked", vec![0x81, 0x02, b'h', b'i'], 1002),
        ("5 in two bytes", long(&[0x81, 0x80 | 126, 0, 5]), 1002),
        ("5 in eight bytes", long(&[0x81, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0, 5]), 1002),
    ]);
}

/// B3, B4
#[test]
fn lengths_are_judged_before_anything_is_kept() {
    check(&[
        ("the top bit", frame::header(0x81, 1 << 63), 1002),
        ("2^63 - 1", frame::header(0x81, (1 << 63) - 1), 1009),
        ("16 MiB announced, one byte sent", [frame::header(0x81, 16 << 20), vec![b'a']].concat(), 1009),
        ("one more than allowed", frame::header(0x81, 65_537), 1009),
        (
            "one more than allowed, in two parts",
            [frame::part(TEXT, &[b'a'; 65_000]), frame::header(0x80, 537)].concat(),
            1009,
        ),
    ]);
}

/// B5
#[test]
fn control_frames_are_short_and_whole() {
    check(&[
        ("a ping of 126 bytes", frame::masked(PING, &[b'a'; 126]), 1002),
        ("a ping in parts", frame::part(PING, b"a"), 1002),
        ("a close in parts", frame::part(CLOSE, b""), 1002),
    ]);
}

/// B6
#[test]
fn a_flood_of_pings_grows_no_queue() {
    let server = Server::start();
    let mut client = server.connect();
    let flood: Vec<u8> = (0..20_000_u32).flat_map(|n| frame::masked(PING, &n.to_be_bytes())).collect();
    client.bytes(&flood);
    let mut pongs = 0;
    loop {
        match client.hear() {
            Heard::Pong(payload) if payload == 19_999_u32.to_be_bytes() => break,
            Heard::Pong(_) => pongs += 1,
            Heard::Close(code, _) => {
                assert_eq!(code, 4429);
                break;
            }
            Heard::End => break,
            Heard::Text(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(pongs < 20_000);
}

/// B7, B8
#[test]
fn fragments_come_in_order_and_not_for_ever() {
    let parts = |payload: &[u8]| {
        let rest: Vec<u8> = (0..64).flat_map(|_| frame::part(0, payload)).collect();
        [frame::part(TEXT, payload), rest].concat()
    };
    check(&[
        ("a continuation of nothing", frame::masked(0, b"a"), 1002),
        ("a text inside a message", [frame::part(TEXT, b"a"), frame::masked(TEXT, b"b")].concat(), 1002),
        ("65 parts of one byte", parts(b"a"), 1008),
        ("65 empty parts", parts(b""), 1008),
    ]);
}

/// B9
#[test]
fn bad_text_is_refused_before_its_message_ends() {
    check(&[
        ("alone", frame::masked(TEXT, b"\xff"), 1007),
        (
            "in the second of three parts",
            [frame::part(TEXT, b"\xce"), frame::part(0, b"\xce")].concat(),
            1007,
        ),
        ("within an unfinished frame", [frame::header(0x81, 100), mask(b"ok\xed\xa0\x80")].concat(), 1007),
        ("cut off at the end", frame::masked(TEXT, b"\xce\xba\xe1"), 1007),
    ]);
}

/// The bytes as the mask of [`frame::header`] leaves them.
fn mask(bytes: &[u8]) -> Vec<u8> {
    frame::masked(TEXT, bytes)[6..].to_vec()
}

/// B10
#[test]
fn close_frames_carry_a_code_that_may_be_sent() {
    let server = Server::start();
    let answer = |payload: &[u8]| {
        let mut client = server.connect();
        client.bytes(&frame::masked(CLOSE, payload));
        client.expect_close().0
    };
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        assert_eq!(answer(&code.to_be_bytes()), 1002, "{code}");
    }
    for code in [1000_u16, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        assert_eq!(answer(&code.to_be_bytes()), code);
    }
    assert_eq!(answer(b"\x03"), 1002, "half a code");
    assert_eq!(answer(b"\x03\xe8\xff\xff"), 1007, "a reason that is no text");
    assert!([1000, 1005].contains(&answer(b"")), "an empty close");
}

/// B11
#[test]
fn nothing_counts_after_a_close_and_silence_ends_it() {
    let server = Server::start();
    let mut client = server.connect();
    client.bytes(&[frame::close(1000, b""), frame::masked(TEXT, br#"{"type":"system:ping"}"#)].concat());
    assert_eq!(client.hear(), Heard::Close(1000, String::new()));
    assert_eq!(client.hear(), Heard::End);

    let mut silent = server.connect();
    silent.bytes(&frame::masked(3, b""));
    assert_eq!(silent.expect_close().0, 1002);
    assert_eq!(silent.hear(), Heard::End, "the gateway waits five seconds for our close, not for ever");
}

/// B14
#[test]
fn binary_is_not_understood_where_text_is_spoken() {
    check(&[("a binary frame", frame::masked(BINARY, b"{}"), 1003)]);
}

#[test]
fn messages_arrive_however_they_are_cut() {
    let server = Server::start();
    let mut client = server.connect();
    let text = json!({"type": "system:ping", "payload": "π in the sky"}).to_string();
    let whole = frame::masked(TEXT, text.as_bytes());
    client.stream.put(&[whole.as_slice(); 3].concat());
    for byte in &whole {
        client.bytes(&[*byte]);
    }
    let (first, last) = text.as_bytes().split_at(40);
    let between = frame::masked(PING, b"between");
    client.bytes(&[frame::part(TEXT, first), between, frame::part(0, b""), frame::masked(0, last)].concat());
    let mut pongs = 0;
    let mut answers = 0;
    while answers < 5 || pongs < 1 {
        match client.hear() {
            Heard::Text(text) => {
                assert!(text.contains("π in the sky"), "{text}");
                answers += 1;
            }
            Heard::Pong(payload) => {
                assert_eq!(payload, b"between");
                pongs += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    client.bytes(&frame::masked(PONG, b"unasked"));
    client.expect_silence();
}

#[test]
fn a_message_of_exactly_the_limit_is_taken() {
    let server = Server::start();
    let mut client = server.connect();
    let envelope = r#"{"type":"system:ping","payload":""}"#;
    let text = envelope.replace(r#""}"#, &format!("{}\"}}", "a".repeat(65_536 - 35)));
    assert_eq!(text.len(), 65_536);
    client.text(&text);
    assert_eq!(client.expect("system:pong").as_str().map(str::len), Some(65_536 - 35));
}

#[test]
fn raw_connections_may_send_anything_within_the_limits() {
    let server = Server::start();
    let mut client: Client = server.ask(&Ask::to("/ws/raw"));
    client.text("not json");
    client.bytes(&frame::masked(BINARY, &[0; 100]));
    client.bytes(&frame::masked(PING, b"still here"));
    assert_eq!(client.hear(), Heard::Pong(b"still here".to_vec()));
}

/// B8: time, not only number.
#[test]
fn a_message_that_is_not_finished_in_ten_seconds_closes() {
    let server = Server::start();
    let (mut dripping, mut quick) = (server.connect(), server.connect());
    dripping.bytes(&frame::part(TEXT, b"{"));
    assert_eq!(dripping.expect_close().0, 1008);
    quick.expect_silence();
}
