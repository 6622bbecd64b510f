//! Requests for an upgrade (catalogue A). Status 0 stands for "closed without an answer".

use std::time::Duration;

use crate::support::{
    frame,
    http::{Stream, is_closed, read_answer},
    server::Server,
    ws::Ask,
};

const GOOD: [&str; 6] = [
    "GET /ws HTTP/1.1",
    "Host: localhost",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
];

/// The good request with one line replaced; `""` takes it away, an unknown line number appends.
fn with_line(number: usize, line: &str) -> Vec<u8> {
    let mut lines: Vec<&str> = GOOD.to_vec();
    match line {
        "" => drop(lines.remove(number)),
        line if number < lines.len() => lines[number] = line,
        line => lines.push(line),
    }
    (lines.join("\r\n") + "\r\n\r\n").into_bytes()
}

const APPEND: usize = usize::MAX;

/// Each request, and the statuses that are right for it.
fn check(rows: &[(&str, Vec<u8>, &[u16])]) {
    let server = Server::start();
    for (what, request, statuses) in rows {
        let answer = server.raw(request);
        assert!(statuses.contains(&answer.status), "{what}: {answer:?}");
    }
    server.connect().close();
}

#[test]
fn good_requests_are_upgraded() {
    check(&[
        ("as browsers write it", with_line(APPEND, "Cookie: a=b"), &[101]),
        ("with keep-alive beside Upgrade", with_line(3, "Connection: keep-alive, Upgrade"), &[101]),
        ("names in any case", with_line(2, "uPGRADE: WebSocket"), &[101]),
        ("a white space of any length", with_line(1, "Host: \t localhost  "), &[101]),
        ("the path of the dialect", with_line(0, "GET /ws/ticketing HTTP/1.1"), &[101]),
        ("the raw path", with_line(0, "GET /ws/raw HTTP/1.1"), &[101]),
        ("a query", with_line(0, "GET /ws?a=b&c HTTP/1.1"), &[101]),
    ]);
}

/// A1
#[test]
fn only_get_is_allowed() {
    let server = Server::start();
    for method in ["POST", "PUT", "DELETE"] {
        let answer = server.raw(&with_line(0, &format!("{method} /ws HTTP/1.1")));
        assert_eq!((answer.status, answer.header("Allow")), (405, Some("GET")), "{method}");
    }
}

/// A2
#[test]
fn what_is_not_http_1_1_is_refused_once() {
    check(&[
        ("HTTP/1.0", with_line(0, "GET /ws HTTP/1.0"), &[400]),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &[400, 0]),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), &[400, 0]),
        ("garbage", vec![0xff; 300], &[400, 0]),
        ("PROXY v2", b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01".to_vec(), &[400, 0]),
    ]);
}

/// A3
#[test]
fn a_request_without_upgrade_is_told_to_upgrade() {
    check(&[
        ("no Upgrade", with_line(2, ""), &[426]),
        ("another protocol", with_line(2, "Upgrade: h2c"), &[426]),
        ("no Connection", with_line(3, ""), &[426]),
        ("Connection without the token", with_line(3, "Connection: keep-alive"), &[426]),
    ]);
}

/// A4
#[test]
fn another_version_is_told_ours() {
    let server = Server::start();
    for request in [with_line(5, "Sec-WebSocket-Version: 8"), with_line(5, "")] {
        let answer = server.raw(&request);
        assert_eq!((answer.status, answer.header("Sec-WebSocket-Version")), (426, Some("13")));
    }
}

/// A5
#[test]
fn the_key_is_one_of_16_bytes() {
    check(&[
        ("absent", with_line(4, ""), &[400]),
        ("too short", with_line(4, "Sec-WebSocket-Key: c2hvcnQ="), &[400]),
        ("not base64", with_line(4, "Sec-WebSocket-Key: !!hlIHNhbXBsZSBub25jZQ=="), &[400]),
        ("twice", with_line(APPEND, GOOD[4]), &[400]),
    ]);
}

/// A6
#[test]
fn heads_are_parsed_strictly() {
    check(&[
        ("no Host", with_line(1, ""), &[400]),
        ("Host twice", with_line(APPEND, "Host: other"), &[400]),
        ("LF alone", (GOOD.join("\n") + "\n\n").into_bytes(), &[400]),
        ("a bare CR", with_line(APPEND, "X: a\rb"), &[400]),
        ("a folded line", with_line(APPEND, "X: a\r\n b"), &[400]),
        ("NUL", with_line(APPEND, "X: a\0b"), &[400]),
        ("a space before the colon", with_line(APPEND, "X : a"), &[400]),
    ]);
}

/// A7
#[test]
fn heads_have_a_bound() {
    let many: String = (0..130).map(|n| format!("X-{n}: a\r\n")).collect();
    check(&[
        ("a header of 64 KiB", with_line(APPEND, &format!("X: {}", "a".repeat(65_536))), &[431]),
        ("130 headers", with_line(APPEND, many.trim_end()), &[431]),
        ("a target of 64 KiB", with_line(0, &format!("GET /ws?{} HTTP/1.1", "a".repeat(65_536))), &[414]),
    ]);
}

/// A8
#[test]
fn a_handshake_has_five_seconds_in_all() {
    let server = Server::start();
    let mut silent = Stream::plain(server.ws);
    let mut dripping = Stream::plain(server.ws);
    dripping.socket().set_read_timeout(Some(Duration::from_millis(500))).expect("a socket option");
    let mut waits = 0;
    for byte in with_line(APPEND, "X: y").iter().cycle() {
        if !dripping.put(&[*byte]) {
            break;
        }
        let mut chunk = [0; 1];
        // The read is the pace: it waits half a second, or ends when the gateway does.
        match std::io::Read::read(&mut dripping, &mut chunk) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => waits += 1,
            _ => break,
        }
        assert!(waits <= 20, "a byte each half second must not keep a handshake alive");
    }
    let answer = read_answer(&mut silent, &mut Vec::new());
    assert!([408, 0].contains(&answer.status), "{answer:?}");
    server.connect().close();
}

/// The measure is the handshake of another gateway, whose five seconds began before.
#[test]
fn the_time_outs_of_http_can_be_shorter() {
    let other = Server::start();
    let mut measure = Stream::plain(other.ws);
    let server = Server::with(&[("HTTP_READ_TIMEOUT", "200ms"), ("HTTP_WRITE_TIMEOUT", "200ms")]);
    assert!(is_closed(&mut Stream::plain(server.ws)), "a silent handshake ends");
    let mut answered = Stream::plain(server.ws);
    answered.put(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(read_answer(&mut answered, &mut Vec::new()).status, 200);
    while server.metric(r#"usher_handshakes_under_way{core="0"}"#) > 0.0 {}
    measure.socket().set_nonblocking(true).expect("a socket option");
    let unfinished = std::io::Read::read(&mut measure, &mut [0]).err().map(|error| error.kind());
    assert_eq!(unfinished, Some(std::io::ErrorKind::WouldBlock), "it took five seconds or more");
}

/// A9
#[test]
fn a_get_has_no_body() {
    check(&[
        ("Content-Length", with_line(APPEND, "Content-Length: 5"), &[400]),
        ("chunked", with_line(APPEND, "Transfer-Encoding: chunked"), &[400]),
    ]);
}

/// A10
#[test]
fn origins_match_exactly() {
    let server = Server::with(&[("WS_ALLOWED_ORIGINS", "https://good.example, https://shop.example:8443")]);
    let status = |origin: &str| server.status_of(&Ask::to("/ws").header(&format!("Origin: {origin}")));
    for good in ["https://good.example", "https://shop.example:8443"] {
        assert_eq!(status(good), 101, "{good}");
    }
    let evil = [
        "https://evil.example",
        "null",
        "https://good.example.evil",
        "http://good.example",
        "https://good.example:444",
        "https://shop.example",
        "https://good.example/",
        "",
    ];
    for evil in evil {
        assert_eq!(status(evil), 403, "{evil:?}");
    }
    assert_eq!(server.status_of(&Ask::to("/ws")), 101, "without Origin it is no browser");
}

/// A10
#[test]
fn any_origin_passes_where_none_is_configured() {
    let server = Server::start();
    assert_eq!(server.status_of(&Ask::to("/ws").header("Origin: https://evil.example")), 101);
}

/// A11
#[test]
fn frames_before_the_answer_are_not_taken() {
    let early =
        [with_line(APPEND, "X: y"), frame::masked(frame::TEXT, br#"{"type":"system:ping"}"#)].concat();
    check(&[("a frame behind the head", early, &[400, 0])]);
}

/// A12
#[test]
fn unknown_targets_are_not_found() {
    let to = |target: &str| with_line(0, &format!("GET {target} HTTP/1.1"));
    check(&[
        ("unknown", to("/nothing"), &[404]),
        ("below a known one", to("/ws/nothing"), &[404]),
        ("dots", to("/ws/../../etc/passwd"), &[404, 400]),
        ("an encoded NUL", to("/ws%00"), &[404, 400]),
        ("absolute form", to("http://localhost/etc"), &[404, 400]),
        ("an asterisk", to("*"), &[404, 400]),
        ("no slash", to("ws"), &[404, 400]),
    ]);
}

/// A13
#[test]
fn offers_are_read_in_bounds_and_unknown_ones_declined() {
    let server = Server::start();
    let client =
        server.ask(&Ask::to("/ws").header(&format!("Sec-WebSocket-Protocol: {}x", "x, ".repeat(1_000))));
    assert_eq!(client.upgrade.header("Sec-WebSocket-Protocol"), None);
    let spaces = with_line(APPEND, &format!("Sec-WebSocket-Protocol:{}a", " ".repeat(10_240)));
    assert_eq!(server.raw(&spaces).status, 431);
    for offer in ["permessage-deflate; server_max_window_bits=99", "permessage-deflate; ;;=,", "x-unknown"] {
        let client = server.ask(&Ask::to("/ws").header(&format!("Sec-WebSocket-Extensions: {offer}")));
        assert_eq!(client.upgrade.header("Sec-WebSocket-Extensions"), None, "{offer}");
    }
}

#[test]
fn the_subprotocol_chooses_the_dialect_and_is_echoed() {
    let server = Server::start();
    let client =
        server.ask(&Ask::to("/ws").header("Sec-WebSocket-Protocol: other, usher.ticketing.v1")).greeted();
    assert_eq!(client.upgrade.header("Sec-WebSocket-Protocol"), Some("usher.ticketing.v1"));
    let mut raw = server.ask(&Ask::to("/ws").header("Sec-WebSocket-Protocol: usher.raw.v1"));
    assert_eq!(raw.upgrade.header("Sec-WebSocket-Protocol"), Some("usher.raw.v1"));
    raw.bytes(&frame::masked(frame::PING, b"no greeting comes first"));
    assert_eq!(raw.hear(), crate::support::ws::Heard::Pong(b"no greeting comes first".to_vec()));
}

/// A15
#[test]
fn forwarded_addresses_of_strangers_are_ignored() {
    check(&[("X-Forwarded-For", with_line(APPEND, "X-Forwarded-For: 1.2.3.4, \"'; DROP"), &[101])]);
}

#[test]
fn an_answer_ends_its_connection_or_keeps_it_whole() {
    let server = Server::start();
    let mut stream = Stream::plain(server.ws);
    stream.put(&with_line(2, ""));
    let answer = read_answer(&mut stream, &mut Vec::new());
    assert!(answer.header("Connection").is_some_and(|value| value.contains("close")), "{answer:?}");
    assert!(is_closed(&mut stream));
}
