//! Messages of clients that negotiated permessage-deflate (RFC 7692), against another implementation of deflate.

use serde_json::{Value, json};
use usher::{
    Handlers, Settings,
    config::settings::Dialect,
    handler::{Body, Message, Replies},
};

use crate::support::{
    frame::{self, BINARY, TEXT},
    grpc::{Backend, to_room},
    http::Stream,
    server::Server,
    ws::{Ask, Client, Heard},
};

const EXTENSIONS: &str = "Sec-WebSocket-Extensions";
const AGREED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

fn server() -> Server {
    Server::with(&[("WS_COMPRESSION", "on"), ("RATE_LIMIT_MAX_MESSAGES", "0")])
}

/// A text that is worth compressing, and no two alike.
fn long(number: usize) -> String {
    format!("{number} {}", "is this seat free? ".repeat(50))
}

#[test]
fn it_is_off_unless_it_is_on_and_offered() {
    let (off, on) = (Server::start(), server());
    assert_eq!(off.ask(&Ask::to("/ws").deflate()).upgrade.header(EXTENSIONS), None);
    assert_eq!(on.ask(&Ask::to("/ws")).upgrade.header(EXTENSIONS), None);
    let mut client = on.ask(&Ask::to("/ws").deflate()).greeted();
    assert_eq!(client.upgrade.header(EXTENSIONS), Some(AGREED));
    assert_eq!(client.request("system:ping", &json!(long(1))).1, json!(long(1)));
    assert_eq!(on.metric("usher_compressed_connections_total"), 1.0);
}

/// A13
#[test]
fn an_offer_that_is_not_understood_is_declined_and_the_client_let_in() {
    let server = server();
    for offer in [
        "permessage-deflate; =;;x=\"",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; tomorrow",
        "x-webkit-deflate-frame",
    ] {
        let mut client = server.ask(&Ask::to("/ws").header(&format!("{EXTENSIONS}: {offer}"))).greeted();
        assert_eq!(client.upgrade.header(EXTENSIONS), None, "{offer}");
        assert_eq!(client.request("system:ping", &json!(long(1))).1, json!(long(1)));
        assert_eq!(client.inflated, 0, "{offer}");
        // B13: the bit means nothing that was agreed on.
        client.bytes(&frame::deflated(TEXT, br#"{"type":"system:ping"}"#));
        assert_eq!(client.expect_close().0, 1002, "{offer}");
    }
}

#[test]
fn both_ways_plain_and_compressed_whole_and_in_parts() {
    let server = server();
    let mut client = server.ask(&Ask::to("/ws").deflate()).greeted();
    let ping = json!({"type": "system:ping", "payload": long(7)}).to_string();
    let compressed = frame::deflate(ping.as_bytes());
    let (first, last) = compressed.split_at(20);
    client.text(&ping);
    client.bytes(&frame::deflated(TEXT, ping.as_bytes()));
    client.bytes(&frame::part(0x40 | TEXT, first));
    client.bytes(&[frame::part(0, b""), frame::masked(0, last)].concat());
    for byte in frame::deflated(TEXT, ping.as_bytes()) {
        client.bytes(&[byte]);
    }
    client.bytes(&frame::deflated(TEXT, br#"{"type":"system:ping","payload":"short"}"#));
    let greeted = client.inflated;
    for _ in 0..4 {
        assert_eq!(client.expect("system:pong"), json!(long(7)));
    }
    assert_eq!(client.inflated - greeted, 4);
    assert_eq!(client.expect("system:pong"), "short");
    assert_eq!(client.inflated - greeted, 4, "a short answer is not worth it");
    assert_eq!(server.metric(r#"usher_compressed_messages_total{direction="in"}"#), 4.0);
    client.close();
}

#[test]
fn a_broadcast_is_compressed_once_per_core_and_the_same_for_everybody() {
    let server = server();
    let mut clients: Vec<Client> = (0..8)
        .map(|n| {
            let ask = Ask::to("/ws");
            let mut client = server.ask(&if n % 2 == 0 { ask.deflate() } else { ask }).greeted();
            client.join("event:1");
            client
        })
        .collect();
    let series = r#"usher_compressed_messages_total{direction="out"}"#;
    let (before, inflated) = (server.metric(series), clients[0].inflated);
    let payload = json!({"text": long(3)});
    let backend = Backend::of(&server);
    backend.broadcast_event(to_room("event:1", "ticket:sold", &payload.to_string())).expect("accepted");
    for client in &mut clients {
        assert_eq!(client.expect("ticket:sold"), payload);
    }
    assert_eq!(server.metric(series) - before, 1.0);
    assert_eq!((clients[0].inflated - inflated, clients[1].inflated), (1, 0));
}

#[test]
fn bad_data_closes_with_the_code_that_fits() {
    let server = server();
    let hello = frame::deflate(b"Hello");
    for (what, bytes, code) in [
        ("a ping", frame::part(0xC9, b""), 1002),
        (
            "a continuation",
            [frame::part(0x40 | TEXT, &hello[..2]), frame::part(0xC0, &hello[2..])].concat(),
            1002,
        ),
        ("another bit beside it", frame::part(0xE1, &hello), 1002),
        ("no deflate data", frame::part(0xC0 | TEXT, &[0xFF; 40]), 1007),
        ("cut off", frame::part(0xC0 | TEXT, &hello[..hello.len() - 2]), 1007),
        ("no text", frame::deflated(TEXT, &[0xFF; 40]), 1007),
        ("binary", frame::deflated(BINARY, &[0; 40]), 1003),
        ("one byte over", frame::deflated(TEXT, &[b'a'; 65_537]), 1009),
        ("a header alone", frame::header(0xC1, 1 << 20), 1009),
    ] {
        let mut client = server.ask(&Ask::to("/ws").deflate()).greeted();
        client.bytes(&bytes);
        assert_eq!(client.expect_close().0, code, "{what}");
    }
    server.connect().close();
}

/// B13
#[test]
fn bombs_are_refused_and_take_no_memory() {
    let server = server();
    let peak_kb = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    let mut warm = server.ask(&Ask::to("/ws").deflate()).greeted();
    warm.request("system:ping", &json!(long(1)));
    let before = peak_kb();
    let bomb = frame::deflated(BINARY, &vec![0; 64 << 20]);
    assert!(bomb.len() < 70_000, "{}", bomb.len());
    for _ in 0..10 {
        let mut client = server.ask(&Ask::to("/ws").deflate()).greeted();
        client.bytes(&bomb);
        assert_eq!(client.expect_close().0, 1009);
    }
    let grown = peak_kb() - before;
    assert!(grown < 16 << 10, "{grown} kB for bombs of 64 MiB");
    assert_eq!(server.metric(r#"usher_compression_in_vain_total{direction="in"}"#), 10.0);
}

#[test]
fn a_flood_of_small_bombs_costs_no_more_than_the_rate_allows() {
    let server = Server::with(&[("WS_COMPRESSION", "on"), ("RATE_LIMIT_MAX_MESSAGES", "10")]);
    let mut client = server.ask(&Ask::to("/ws").deflate()).greeted();
    // Accepted in silence, so that nothing piles up on the way back.
    let message = json!({"type": "socket:connect", "payload": " ".repeat(60_000)}).to_string();
    client.bytes(&frame::deflated(TEXT, message.as_bytes()).repeat(500));
    assert_eq!(client.expect_close().0, 4429);
    let inflated = server.metric(r#"usher_compressed_messages_total{direction="in"}"#);
    // Ten, five more that end it, and one for each read after that.
    assert!((15.0..40.0).contains(&inflated), "{inflated}");
}

#[test]
fn a_slow_client_gets_every_compressed_message_whole() {
    let server = server();
    let stream = Stream::plain(server.ws);
    rustix::net::sockopt::set_socket_recv_buffer_size(stream.socket(), 4_096).expect("a socket option");
    let ask = Ask::to("/ws").deflate();
    let mut slow = Client::open(stream, &ask).unwrap_or_else(|answer| panic!("{answer:?}")).greeted();
    slow.join("event:1");
    let backend = Backend::of(&server);
    let digits: String =
        (0..20_000_u64).map(|n| (n.wrapping_mul(0x9E37_79B9) >> 13 & 0xFF).to_string()).collect();
    for n in 0..25 {
        let payload = json!({"n": n, "digits": digits[n * 100..n * 100 + 9_000]}).to_string();
        backend.broadcast_event(to_room("event:1", "ticket:sold", &payload)).expect("accepted");
    }
    for n in 0..25 {
        let payload = slow.expect("ticket:sold");
        assert_eq!(payload, json!({"n": n, "digits": digits[n * 100..n * 100 + 9_000]}));
    }
    assert!(slow.inflated >= 25, "{}", slow.inflated);
}

#[test]
fn a_small_window_is_honoured_and_what_exceeds_it_goes_plain() {
    let mut settings = Settings::default();
    settings.listen.host = [127, 0, 0, 1].into();
    settings.listen.http_port = 0;
    settings.listen.grpc.set_port(0);
    settings.listen.admin = None;
    settings.client.dialect = Dialect::Raw;
    settings.client.compression = true;
    let echo = |message: Message<'_>, replies: &mut Replies| match message.body {
        Body::Text(text) => replies.text(text),
        Body::Binary(bytes) => replies.binary(bytes),
        Body::Typed { .. } => {}
    };
    let running = usher::start(settings, Handlers::new().on_raw(echo)).expect("starts");
    let ask = Ask::to("/ws").header(&format!("{EXTENSIONS}: permessage-deflate; server_max_window_bits=9"));
    let stream = Stream::plain(running.addresses.ws);
    let mut client = Client::open(stream, &ask).unwrap_or_else(|_| panic!("an upgrade"));
    let agreed = format!("{AGREED}; server_max_window_bits=9");
    assert_eq!(client.upgrade.header(EXTENSIONS), Some(agreed.as_str()));
    for (length, inflated) in [(512, 1), (513, 1), (200, 2), (127, 2), (0, 2)] {
        client.bytes(&frame::deflated(BINARY, &vec![7; length]));
        assert_eq!(client.hear(), Heard::Binary(vec![7; length]));
        assert_eq!(client.inflated, inflated, "{length}");
    }
    client.bytes(&frame::deflated(TEXT, "π".repeat(100).as_bytes()));
    assert_eq!(client.hear(), Heard::Text("π".repeat(100)));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(running.gateway.shutdown());
    assert_eq!(client.expect_close().0, 1001);
    drop(client);
    running.wait().expect("a clean end");
}

#[test]
fn those_who_did_not_negotiate_are_served_beside() {
    let server = server();
    let mut compressing = server.ask(&Ask::to("/ws").deflate()).greeted();
    let mut plain = server.connect();
    for client in [&mut compressing, &mut plain] {
        client.join("event:1");
    }
    compressing.send("room:message", &json!({"room": "event:1", "data": long(5)}));
    assert_eq!(plain.expect("room:message")["data"], json!(long(5)));
    assert_eq!(plain.inflated, 0);
    let message: Value = compressing.expect("room:message");
    assert_eq!(message["data"], json!(long(5)));
}
