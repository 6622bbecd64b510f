//! The limits table, row by row. Message size, fragments and heads stand in `frames` and `handshake`.

use std::{collections::BTreeSet, net::SocketAddr};

use rustix::{net::sockopt, process::Signal};
use serde_json::{Value, json};

use crate::support::{
    frame,
    grpc::{Backend, to_room},
    http::{Answer, Stream},
    server::Server,
    ws::{Ask, Client, Heard},
};

/// That the answer is a refusal with a time to come back.
fn refused(answer: Result<Client, Answer>, status: u16) {
    let answer = answer.err().expect("a refusal");
    assert_eq!(answer.status, status, "{answer:?}");
    let retry_after = answer.header("Retry-After").and_then(|value| value.parse::<u32>().ok());
    assert!(retry_after.is_some_and(|seconds| seconds >= 1), "{answer:?}");
}

#[test]
fn a_user_has_so_many_connections() {
    let server = Server::with(&[("RATE_LIMIT_MAX_CONNECTIONS", "2"), ("SHARDS", "2")]);
    let token = server.token("ann");
    let ask = Ask::to("/ws").bearer(&token);
    let first = server.ask(&ask).greeted();
    let _second = server.ask(&ask).greeted();
    refused(server.try_ask(&ask), 429);
    server.connect_as("bob").close();
    server.connect().close();
    first.close();
    assert!((0..2_000).any(|_| server.try_ask(&ask).is_ok()), "a place that became free can be taken");
}

#[test]
fn a_login_counts_as_a_connection_of_the_user() {
    let server = Server::with(&[("RATE_LIMIT_MAX_CONNECTIONS", "1")]);
    let _ann = server.connect_as("ann");
    let mut second = server.connect();
    second.send("auth:login", &json!({"token": server.token("ann")}));
    assert_eq!(second.expect_close().0, 4429);
}

#[test]
fn a_full_gateway_says_when_to_return() {
    let server = Server::with(&[("WS_MAX_CONNECTIONS", "2")]);
    let first = server.connect();
    let _second = server.connect_as("ann");
    refused(server.try_ask(&Ask::to("/ws")), 503);
    assert_eq!(server.get("/health").status, 200, "a health check is no connection");
    first.close();
    assert!((0..2_000).any(|_| server.try_ask(&Ask::to("/ws")).is_ok()));
}

/// How those fare who come while the gateway stands still, each with its first bytes sent.
fn storm(server: &Server, address: SocketAddr, first: &[u8]) -> Vec<Vec<u8>> {
    server.signal(Signal::STOP);
    let come = |_| {
        let mut stream = Stream::plain(address);
        stream.put(first);
        stream
    };
    let newcomers: Vec<Stream> = (0..300).map(come).collect();
    server.signal(Signal::CONT);
    let answers = newcomers.into_iter().map(|mut stream| {
        let mut answer = Vec::new();
        while stream.fill(&mut answer) {}
        answer
    });
    answers.collect()
}

#[test]
fn so_many_wait_for_a_handshake_and_the_others_are_told_when_to_return() {
    let server = Server::with(&[
        ("WS_MAX_WAITING_HANDSHAKES", "1"),
        ("SHARDS", "1"),
        ("TLS_SELF_SIGNED", "true"),
        ("HTTPS_PORT", "0"),
    ]);
    let refused = |reason| server.metric(&format!(r#"usher_refused_newcomers_total{{reason="{reason}"}}"#));

    let answers = storm(&server, server.ws, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let told: Vec<String> =
        answers.iter().map(|answer| String::from_utf8_lossy(answer).into_owned()).collect();
    let away: Vec<&String> = told.iter().filter(|answer| answer.starts_with("HTTP/1.1 503")).collect();
    let served = told.iter().filter(|answer| answer.starts_with("HTTP/1.1 200")).count();
    assert_eq!((served + away.len(), away.len() as f64), (300, refused("waiting_ws")));
    assert!(served > 0 && !away.is_empty());
    let after =
        |answer: &String| answer.lines().find_map(|line| line.strip_prefix("Retry-After: ")?.parse().ok());
    let seconds: BTreeSet<u32> = away.into_iter().filter_map(after).collect();
    assert!(seconds.len() > 1 && seconds.iter().all(|seconds| (5..=10).contains(seconds)), "{seconds:?}");

    // Who has its turn gets an alert for this.
    let answers =
        storm(&server, server.wss.expect("a wss listener"), b"\x16\x03\x01\x00\x08\x01\x00\x00\x04aaaa");
    let away = answers.iter().filter(|answer| answer.is_empty()).count();
    assert_eq!(away as f64, refused("waiting_wss"));
    assert!(away > 0 && away < 300);
    server.connect().close();
}

#[test]
fn messages_over_the_rate_are_refused_and_the_fifth_closes() {
    let server = Server::with(&[("RATE_LIMIT_MAX_MESSAGES", "3"), ("RATE_LIMIT_WINDOW_MS", "600000")]);
    let mut client = server.connect();
    for _ in 0..3 {
        client.request("system:ping", &Value::Null);
    }
    for _ in 0..4 {
        client.send("system:ping", &Value::Null);
        let error = client.expect("system:error");
        assert_eq!(error["code"], "rate_limited");
        assert!(error["retry_after_ms"].as_u64().is_some_and(|ms| (1..=600_000).contains(&ms)), "{error}");
    }
    client.send("system:ping", &Value::Null);
    assert_eq!(client.expect_close().0, 4429);
}

#[test]
fn the_rate_refills() {
    let environment =
        [("RATE_LIMIT_MAX_MESSAGES", "2"), ("RATE_LIMIT_WINDOW_MS", "400"), ("WS_PING_INTERVAL", "500ms")];
    let server = Server::with(&environment);
    let mut client = server.connect();
    client.request("system:ping", &Value::Null);
    client.request("system:ping", &Value::Null);
    client.send("system:ping", &Value::Null);
    let error = client.expect("system:error");
    assert!(error["retry_after_ms"].as_u64().is_some_and(|ms| ms <= 200), "{error}");
    // The gateway's own pings are the clock: between two of them the whole bucket refills.
    for _ in 0..2 {
        assert!(matches!(client.hear(), Heard::Ping(_)));
    }
    client.request("system:ping", &Value::Null);
    client.request("system:ping", &Value::Null);
}

#[test]
fn a_connection_is_in_so_many_rooms() {
    let server = Server::with(&[("RATE_LIMIT_MAX_MESSAGES", "0")]);
    let mut client = server.connect();
    for n in 0..128 {
        client.join(&format!("event:{n}"));
    }
    let (kind, error) = client.request("room:join", &json!({"room": "event:128"}));
    assert_eq!((kind.as_str(), &error["code"]), ("system:error", &json!("too_many_rooms")));
    client.leave("event:0");
    client.join("event:128");
}

#[test]
fn a_room_has_so_many_members() {
    let server = Server::with(&[("MAX_ROOM_MEMBERS", "2")]);
    let mut clients = [server.connect(), server.connect(), server.connect()];
    clients[0].join("event:1");
    clients[1].join("event:1");
    let (kind, error) = clients[2].request("room:join", &json!({"room": "event:1"}));
    assert_eq!((kind.as_str(), &error["code"]), ("system:error", &json!("room_full")));
    clients[0].leave("event:1");
    clients[2].join("event:1");
}

#[test]
fn who_never_answers_is_closed_by_keep_alive_and_who_does_lives() {
    let server = Server::with(&[("WS_PING_INTERVAL", "100ms"), ("WS_PONG_TIMEOUT", "1s")]);
    let mut silent = server.connect();
    let mut alive = server.connect();
    let mut pings = 0;
    while pings < 15 {
        match alive.hear() {
            Heard::Ping(payload) => {
                alive.bytes(&frame::masked(frame::PONG, &payload));
                pings += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(silent.expect_close().0, 4408);
    alive.expect_silence();
}

/// A member of `event:1` whose kernel takes little, and who does not read.
fn sluggard(server: &Server) -> Client {
    let stream = Stream::plain(server.ws);
    sockopt::set_socket_recv_buffer_size(stream.socket(), 4_096).expect("a socket option");
    let mut client =
        Client::open(stream, &Ask::to("/ws")).unwrap_or_else(|answer| panic!("{answer:?}")).greeted();
    client.join("event:1");
    client
}

/// E3
#[test]
fn a_slow_client_is_closed_when_what_must_come_does_not_fit() {
    let server = Server::with(&[("OUTBOX_MAX_MESSAGES", "64")]);
    let mut slow = sluggard(&server);
    let mut quick = server.connect();
    quick.join("event:1");
    let backend = Backend::of(&server);
    let large = format!("\"{}\"", "x".repeat(8_000));
    let mut sent = 0;
    while server.metric(r#"usher_closed_total{code="4413"}"#) < 1.0 {
        // Few, for its socket ends without a close frame where it reads on only five seconds later.
        for _ in 0..4 {
            backend.broadcast_event(to_room("event:1", "ticket:sold", &large)).expect("accepted");
            quick.expect("ticket:sold");
        }
        sent += 4;
        assert!(sent < 10_000, "the slow one was never closed");
    }
    quick.expect_silence();
    assert_eq!(slow.expect_close().0, 4413);
}

/// E3
#[test]
fn a_slow_client_that_only_misses_states_lives_and_gets_the_newest() {
    let server = Server::start();
    let mut slow = sluggard(&server);
    let mut quick = server.connect();
    quick.join("event:1");
    let backend = Backend::of(&server);
    let filler = "x".repeat(8_000);
    for n in 0..600 {
        let json = format!(r#"{{"event_id":"1","category_id":"c","available":{n},"filler":"{filler}"}}"#);
        let answer =
            backend.broadcast_event(to_room("event:1", "ticket:availability", &json)).expect("accepted");
        assert_eq!(answer.delivered_connections, 2, "nobody is closed");
    }
    let mut last = -1;
    let mut count = 0;
    while last < 599 {
        let available = slow.expect("ticket:availability")["available"].as_i64().expect("a number");
        assert!(available > last, "{available} after {last}");
        last = available;
        count += 1;
    }
    assert!(count < 600, "states were conflated, {count} came");
}
