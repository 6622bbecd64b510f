//! What comes in numbers: bad tokens from one address (D6), slow handshakes (A8), resets (A14).

use std::time::Duration;

use rustix::net::sockopt;
use serde_json::{Value, json};
use usher::{clock::Now, generated::realtime::OpenQueueRequest};

use crate::{
    queues::{look, open_with},
    support::{
        grpc::Backend,
        holds_soon,
        http::{Stream, read_answer},
        keys::hand_made,
        server::Server,
        ws::{Ask, Client},
    },
};

/// A token of the right form that nobody signed.
fn forged() -> String {
    let good = hand_made(r#"{"alg":"HS256"}"#, "{}");
    let (message, _) = good.rsplit_once('.').expect("three parts");
    format!("{message}.{}", "A".repeat(43))
}

fn throttled(server: &Server) -> f64 {
    server.metric(r#"usher_tokens_total{result="throttled"}"#)
}

/// D6
#[test]
fn an_address_that_brings_bad_tokens_is_refused_before_they_are_looked_at() {
    let server = Server::with(&[("RATE_LIMIT_MAX_AUTH_FAILURES", "20"), ("RATE_LIMIT_AUTH_WINDOW", "1h")]);
    let (good, bad) = (server.token("ann"), forged());
    let with = |token: &str| Ask::to("/ws").bearer(token);
    for _ in 0..50 {
        assert_eq!(server.status_of(&with(&good)), 101, "good tokens take nothing out");
    }
    let began = Now::read();
    for _ in 0..20 {
        assert_eq!(server.status_of(&with(&bad)), 401);
    }
    for ask in [with(&bad), with(&good), Ask::to(&format!("/ws?token={good}"))] {
        let answer = server.try_ask(&ask).err().expect("a refusal");
        let wait_s = answer.header("Retry-After").and_then(|value| value.parse::<u64>().ok());
        let passed_s = Now::read().mono_ns.saturating_sub(began.mono_ns).div_ceil(1_000_000_000);
        let wait_s = wait_s.expect("seconds");
        assert_eq!(answer.status, 429, "{answer:?}");
        assert!(wait_s <= 180 && wait_s + passed_s >= 180, "the rest of a twentieth of an hour: {answer:?}");
    }
    assert_eq!(throttled(&server), 3.0);
    assert_eq!(server.metric(r#"usher_tokens_total{result="refused"}"#), 20.0);
    server.connect().close();
    let other = Stream::plain_from([127, 0, 0, 2].into(), server.ws);
    let status = Client::open(other, &with(&good)).map_or_else(|answer| answer.status, |_| 101);
    assert_eq!(status, 101, "another address");
}

/// D6
#[test]
fn an_address_gets_in_again_with_the_refill() {
    let server = Server::with(&[("RATE_LIMIT_MAX_AUTH_FAILURES", "1"), ("RATE_LIMIT_AUTH_WINDOW", "200ms")]);
    let good = Ask::to("/ws").bearer(&server.token("ann"));
    let bad = Ask::to("/ws").bearer(&forged());
    for _ in 0..3 {
        let refused = (0..2_000).any(|_| server.status_of(&bad) == 429);
        assert!(refused, "one failure empties the bucket");
        assert!((0..2_000).any(|_| server.status_of(&good) == 101), "refused for good");
    }
}

/// D6
#[test]
fn bad_logins_after_the_upgrade_count_too() {
    let server = Server::with(&[("RATE_LIMIT_MAX_AUTH_FAILURES", "1"), ("RATE_LIMIT_AUTH_WINDOW", "1h")]);
    let login = |client: &mut Client, token: &str| client.request("auth:login", &json!({"token": token}));
    let mut bad = server.connect();
    assert_eq!(login(&mut bad, &forged()).1["code"], "unauthorised");
    assert_eq!(bad.expect_close().0, 4401);

    let good = server.token("ann");
    let mut late = server.connect();
    let (kind, error) = login(&mut late, &good);
    assert_eq!((kind.as_str(), &error["code"]), ("system:error", &json!("rate_limited")));
    assert!(error["retry_after_ms"].as_u64().is_some_and(|ms| ms > 3_000_000), "{error}");
    assert_eq!(late.request("system:ping", &Value::Null).0, "system:pong", "the connection stays");
    assert_eq!(server.status_of(&Ask::to("/ws").bearer(&good)), 429);
    assert_eq!(throttled(&server), 2.0);
}

/// Sockets that keep a handshake open at once; the test and the gateway have a descriptor for each.
const SLOW: usize = 10_000;

/// A8
#[test]
fn ten_thousand_slow_handshakes_end_in_time_and_hold_nobody_up() {
    let server = Server::with(&[("HTTP_READ_TIMEOUT", "3s")]);
    let mut slow: Vec<Stream> = Vec::with_capacity(SLOW);
    for n in 0..SLOW {
        let mut stream = Stream::plain(server.ws);
        if n % 2 == 0 {
            stream.put(b"GET /ws HTTP/1.1\r\nHost: local");
        }
        slow.push(stream);
        if n % 500 == 0 {
            server.connect().close();
        }
    }
    // A byte each for the dripping ones, and a good handshake now and then, for as long as any of them lasts.
    let under_way = || server.metric(r#"usher_handshakes_under_way{core="0"}"#);
    while under_way() > 0.0 {
        for dripping in slow.iter_mut().step_by(2) {
            dripping.put(b"h");
        }
        server.connect_as("ann").close();
    }
    assert_eq!(server.metric(r#"usher_handshakes_total{result="timed_out"}"#), SLOW as f64);
    for (n, stream) in slow.iter_mut().enumerate() {
        let answer = read_answer(stream, &mut Vec::new());
        let right: &[u16] = if n % 2 == 0 { &[408, 0] } else { &[0] };
        assert!(right.contains(&answer.status), "{n}: {answer:?}");
    }
    server.connect().close();
}

/// Connections that are reset one after the other.
const RESETS: u32 = 100_000;

/// A14
#[test]
fn connections_that_are_reset_leave_nothing_behind() {
    let server = Server::start();
    server.connect().close();
    let before = descriptors(server.pid());
    let embryonic_before = embryonic_resets();
    for n in 0..RESETS {
        let stream = Stream::plain(server.ws);
        sockopt::set_socket_linger(stream.socket(), Some(Duration::ZERO)).expect("a socket option");
        if n % 1_000 == 0 {
            // The accept queue is in order: those before have been accepted, and it cannot fill up.
            assert_eq!(server.get("/health").status, 200);
        }
    }
    server.connect().close();
    let settled = holds_soon(|| {
        server.get("/health");
        descriptors(server.pid()) <= before + 2
    });
    assert!(settled, "{} descriptors, {before} before", descriptors(server.pid()));
    let gone = || server.metric(r#"usher_handshakes_total{result="gone"}"#);
    let errors = || server.metric(r#"realtime_errors_total{type="accept"}"#);
    // The last of them may be among the descriptors that make no difference above. On two cores a reset now and then
    // overtakes the end of its own TCP handshake: that connection never was, and the kernel says so.
    let never_were = || (embryonic_resets() - embryonic_before) as f64;
    let counted = holds_soon(|| {
        let came = gone() + errors();
        came <= f64::from(RESETS) && came + never_were() >= f64::from(RESETS)
    });
    assert!(counted, "{} gone, {} lost while they were accepted", gone(), errors());
}

/// Connections that were reset before the kernel had established them, since the host started (netstat's `EmbryonicRsts`).
fn embryonic_resets() -> u64 {
    let text = std::fs::read_to_string("/proc/net/netstat").expect("Linux counts");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, numbers) = (lines.next().expect("names"), lines.next().expect("numbers"));
    let mut pairs = names.split(' ').zip(numbers.split(' '));
    let found = pairs.find(|(name, _)| *name == "EmbryonicRsts").expect("the kernel counts them");
    found.1.parse().expect("a number")
}

/// Descriptors of all threads: shards have tables of their own.
fn descriptors(pid: u32) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the gateway runs");
    let count =
        |task: std::fs::DirEntry| std::fs::read_dir(task.path().join("fd")).map_or(0, Iterator::count);
    tasks.flatten().map(count).sum()
}

/// Asks for a place without saying who it is.
fn join_as_nobody(client: &mut Client) -> (String, Value) {
    ask_for_place(client, &json!({"event_id": "e1"}))
}

/// The answer to a join, whatever is told of places before it.
fn ask_for_place(client: &mut Client, payload: &Value) -> (String, Value) {
    client.send("queue:join", payload);
    loop {
        let message = client.message();
        let kind = message["type"].as_str().unwrap_or_default();
        if ["queue:joined", "system:error"].contains(&kind) {
            return (kind.to_owned(), message["payload"].clone());
        }
    }
}

#[test]
fn who_joins_again_and_again_has_one_place_and_writes_nothing() {
    let server = Server::start();
    let backend = Backend::of(&server);
    open_with(&backend, OpenQueueRequest::default());
    let (mut nobody, mut ann) = (server.connect(), server.connect_as("ann"));
    let first = join_as_nobody(&mut nobody).1;
    assert_eq!((&first["place"], place(&mut ann)), (&json!(1), json!(2)));
    let before = look(&backend);
    for _ in 0..40 {
        let again = join_as_nobody(&mut nobody).1;
        assert_eq!((&again["place"], &again["place_token"]), (&first["place"], &first["place_token"]));
        assert_eq!(place(&mut ann), json!(2));
    }
    let after = look(&backend);
    assert_eq!((after.waiting, after.total), (before.waiting, 2));
    let entries = || server.metric("usher_queue_entries_total{result=\"written\"}");
    assert!(holds_soon(|| entries() >= 3.0) && entries() == 3.0, "it opened, and two came: {}", entries());
    assert!(holds_soon(|| server.metric("usher_queue_log_bytes{event=\"e1\"}") > 3.0 * 256.0));
}

fn place(client: &mut Client) -> Value {
    join_as_nobody(client).1["place"].clone()
}

#[test]
fn an_address_takes_so_many_places_without_a_user_and_others_as_many() {
    let server =
        Server::with(&[("SHARDS", "1"), ("RATE_LIMIT_MAX_PLACES", "3"), ("RATE_LIMIT_PLACES_WINDOW", "1h")]);
    let backend = Backend::of(&server);
    open_with(&backend, OpenQueueRequest::default());
    assert_eq!(
        place(&mut server.connect_as("bob")),
        json!(1),
        "who has a user; and the shard knows the queue"
    );
    let mut first = server.connect();
    let token = join_as_nobody(&mut first).1["place_token"].clone();
    for expected in 3..=4 {
        assert_eq!(place(&mut server.connect()), json!(expected));
    }
    let (kind, error) = join_as_nobody(&mut server.connect());
    assert_eq!((kind.as_str(), &error["code"]), ("system:error", &json!("rate_limited")), "{error}");
    assert!(error["retry_after_ms"].as_u64().is_some_and(|ms| ms > 1_000_000), "{error}");
    assert_eq!(place(&mut first), json!(2), "who stands there");
    let (kind, joined) =
        ask_for_place(&mut server.connect(), &json!({"event_id": "e1", "place_token": token}));
    assert_eq!((kind.as_str(), &joined["place"]), ("queue:joined", &json!(2)), "who has a token");
    assert_eq!(place(&mut server.connect_as("ann")), json!(5), "who has a user");
    let other = Stream::plain_from([127, 0, 0, 2].into(), server.ws);
    let mut other = Client::open(other, &Ask::to("/ws")).expect("it is let in");
    assert_eq!(place(&mut other), json!(6), "another address");
    let refused = || server.metric("usher_queue_refused_total{reason=\"rate_limited\"}");
    assert!(holds_soon(|| refused() == 1.0), "{}", refused());
}
