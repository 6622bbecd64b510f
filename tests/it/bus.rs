//! Redis (catalogue H): foreign channels, outages, TLS, passwords.

use std::{
    io::{Read, Write},
    net::TcpListener,
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    redis::{self, Options, Redis},
    server::{Server, command, text},
    ws::{Ask, Client},
};

/// A gateway on that Redis, connected to it.
fn gateway(redis: &Redis, environment: &[(&str, &str)]) -> Server {
    gateway_at(&redis.url(), environment)
}

fn gateway_at(url: &str, environment: &[(&str, &str)]) -> Server {
    let server = apart(url, environment);
    until(&server, "connected", 200);
    server
}

/// A gateway with that Redis, connected or not.
fn apart(url: &str, environment: &[(&str, &str)]) -> Server {
    let mut all = vec![("REDIS_URL", url), ("STORE", "embedded")];
    all.extend(environment);
    Server::with(&all)
}

/// Asks until `/ready` says so.
fn until(server: &Server, redis: &str, status: u16) {
    let ready = || {
        let answer = server.get("/ready");
        answer.json()["redis"] == redis && answer.status == status
    };
    assert!((0..20_000).any(|_| ready()), "{}", server.get("/ready").text());
}

/// Waits until the log says so.
fn says(server: &Server, words: &str) {
    // Lines are written by a thread of their own.
    let said = || server.get("/health").status == 200 && server.log().contains(words);
    assert!((0..20_000).any(|_| said()), "{words}: {}", server.log());
}

/// A connection of the user that speaks the raw dialect.
fn raw(server: &Server, user: &str) -> Client {
    server.ask(&Ask::to(&format!("/ws/raw?token={}", server.token(user))))
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("the test wrote JSON")
}

/// Seed 002: what is published for a user reaches all tabs of that user, and nobody else.
fn notification_story(server: &Server, redis: &Redis) {
    let (mut tab, mut other_tab) = (raw(server, "user123"), raw(server, "user123"));
    let mut page = server.connect_as("user123");
    let (mut stranger, mut raw_stranger) = (server.connect_as("user456"), raw(server, "user456"));

    let object = r#"{"title": "Your order",  "amount":12.50, "id":18446744073709551616}"#;
    redis.publish("user_noti:user123", object);
    assert_eq!((tab.next_text(), other_tab.next_text()), (object.to_owned(), object.to_owned()));
    let text = page.next_text();
    let wrapped = format!(r#"{{"type":"notification:new","payload":{object}"#);
    assert!(text.starts_with(&wrapped), "{text}");
    assert!(
        text.contains(r#","stream":"user:user123","epoch":""#) && text.ends_with(r#""offset":1}"#),
        "{text}"
    );

    let typed = r#"{"type":"order:paid","payload":{"id":7}}"#;
    redis.publish("user_noti:user123", typed);
    assert_eq!((tab.next_text(), page.next_text()), (typed.to_owned(), typed.to_owned()));

    stranger.expect_silence();
    redis.publish("user_noti:user456", "{}");
    assert_eq!(raw_stranger.next_text(), "{}");
}

#[test]
fn a_notification_reaches_all_tabs_of_its_user() {
    let redis = Redis::start();
    notification_story(&gateway(&redis, &[]), &redis);
}

#[test]
fn a_redis_with_tls_and_a_password_serves_as_well() {
    let options = Options { tls: true, password: Some("open-sesame-5d2a"), ..Options::default() };
    let redis = Redis::with(&options);
    let ca = redis.ca();
    let server = gateway(&redis, &[("REDIS_TLS_CA", text(&ca))]);
    notification_story(&server, &redis);
    assert!(!server.log().contains("open-sesame"), "{}", server.log());
}

#[test]
fn a_cluster_serves_as_well_whichever_node_is_published_on() {
    let nodes = redis::cluster();
    let urls = nodes.each_ref().map(Redis::url).join(",");
    for node in &nodes {
        notification_story(&gateway_at(&urls, &[]), node);
    }
}

#[test]
fn a_redis_is_named_by_its_parts_as_well() {
    let redis = Redis::with(&Options { lines: &["user alice on >wonder ~* &* +@all"], ..Options::default() });
    let port = redis.port.to_string();
    let parts = [
        ("REDIS_HOST", "localhost"),
        ("REDIS_PORT", &*port),
        ("REDIS_USERNAME", "alice"),
        ("REDIS_PASSWORD", "wonder"),
        ("REDIS_DATABASE", "3"),
        ("STORE", "embedded"),
    ];
    let server = Server::with(&parts);
    until(&server, "connected", 200);
    notification_story(&server, &redis);
}

#[test]
fn an_authority_that_did_not_sign_is_not_believed() {
    let redis = Redis::with(&Options { tls: true, ..Options::default() });
    let other = Redis::with(&Options { tls: true, ..Options::default() });
    let server = apart(&redis.url(), &[("REDIS_TLS_CA", text(&other.ca()))]);
    until(&server, "disconnected", 503);
    says(&server, "invalid peer certificate");
}

#[test]
fn every_channel_of_the_booking_services_reaches_whom_it_names() {
    let redis = Redis::start();
    let server = gateway(&redis, &[]);
    let (mut alice, mut anybody) = (server.connect_as("alice"), server.connect());
    anybody.join("event:7");
    anybody.join("lobby");
    let owner = [
        ("booking:confirmed", r#"{"userId":"alice","seat":4}"#, "booking:confirmed"),
        ("payment:refunded", r#"{"user_id":"alice"}"#, "payment:refunded"),
        ("ticket:reserved", r#"{"userId":"alice","eventId":"7"}"#, "ticket:reserved"),
        ("user:alice:invited", r#"{"by":"bob"}"#, "user:invited"),
    ];
    for (channel, payload, kind) in owner {
        redis.publish(channel, payload);
        assert_eq!(alice.expect(kind), parsed(payload), "{channel}");
    }
    let room = [
        ("ticket:sold", r#"{"eventId":7}"#, "ticket:sold"),
        ("event:7:released", r#"{"seat":4}"#, "ticket:released"),
        ("room:lobby:closed", r#"{"at":1}"#, "room:closed"),
    ];
    for (channel, payload, kind) in room {
        redis.publish(channel, payload);
        assert_eq!(anybody.expect(kind), parsed(payload), "{channel}");
    }
    redis.publish("event:7:x", r#"{"type":"seat:gone","payload":[1]}"#);
    assert_eq!(anybody.expect("seat:gone"), json!([1]));
    for (channel, payload) in [("system:maintenance", r#"{"at":1}"#), ("ticket:available", "[2]")] {
        redis.publish(channel, payload);
        assert_eq!(alice.expect(channel), parsed(payload));
        assert_eq!(anybody.expect(channel), parsed(payload));
    }
    alice.expect_silence();
    anybody.expect_silence();
    assert_eq!(server.metric(r#"usher_redis_heard_total{channel="event:*"}"#), 2.0);
}

#[test]
fn a_revoked_user_is_sent_away() {
    let redis = Redis::start();
    let server = gateway(&redis, &[]);
    let (mut alice, mut bob) = (server.connect_as("alice"), server.connect_as("bob"));
    redis.publish("system:revoke", r#"{"userId":"alice"}"#);
    assert_eq!(alice.expect_end(), 4401);
    bob.expect_silence();
}

#[test]
fn malformed_messages_are_counted_and_harm_nobody() {
    let redis = Redis::start();
    let server = gateway(&redis, &[]);
    let mut alice = server.connect_as("alice");
    let rows = [
        ("user_noti:alice", "{]", "json"),
        ("user_noti:alice", r#"{"a":1,"a":2}"#, "json"),
        ("user_noti:alice", "[]", "not_an_object"),
        ("user_noti:alice", r#"{"type":""}"#, "type"),
        ("user_noti:", "{}", "user"),
        ("booking:confirmed", r#"{"seat":4}"#, "user"),
        ("event:two words:sold", "{}", "room"),
        ("user:what", "{}", "channel"),
    ];
    for (channel, payload, _) in rows {
        redis.publish(channel, payload);
    }
    let large = "return redis.call('PUBLISH', KEYS[1], string.rep(' ', 262145))";
    redis.cli(&["EVAL", large, "1", "user_noti:alice"]);
    redis.publish("user_noti:alice", r#"{"type":"mark"}"#);
    assert_eq!(alice.message()["type"], "mark");
    for (reason, count) in [("json", 2.0), ("type", 1.0), ("user", 2.0), ("room", 1.0), ("too_large", 1.0)] {
        let series = format!("usher_redis_malformed_total{{reason=\"{reason}\"}}");
        assert_eq!(server.metric(&series), count, "{reason}");
    }
    assert_eq!(server.metric("usher_redis_reconnects_total"), 0.0);
}

#[test]
fn a_message_without_end_ends_the_connection_and_not_the_gateway() {
    let redis = Redis::start();
    let server = gateway(&redis, &[]);
    let mut alice = server.connect_as("alice");
    let huge = "return redis.call('PUBLISH', KEYS[1], string.rep(' ', 8 * 1024 * 1024))";
    redis.cli(&["EVAL", huge, "1", "user_noti:alice"]);
    assert!((0..20_000).any(|_| server.metric("usher_redis_reconnects_total") == 1.0), "{}", server.log());
    until(&server, "connected", 200);
    redis.publish("user_noti:alice", r#"{"type":"mark"}"#);
    assert_eq!(alice.message()["type"], "mark");
}

#[test]
fn a_redis_that_comes_back_is_heard_again_and_clients_stay() {
    let mut redis = Redis::start();
    let server = gateway(&redis, &[]);
    let mut alice = server.connect_as("alice");
    redis.kill();
    until(&server, "disconnected", 503);
    assert_eq!(server.get("/ready").json()["reason"], "Redis cannot be reached");
    assert_eq!((server.get("/health").status, server.metric("usher_redis_up")), (200, 0.0));
    alice.expect_silence();
    redis.restart();
    until(&server, "connected", 200);
    redis.publish("user_noti:alice", r#"{"type":"mark"}"#);
    assert_eq!(alice.message()["type"], "mark");
    assert_eq!(server.metric("usher_redis_reconnects_total"), 1.0);
}

#[test]
fn a_cut_subscription_is_made_again_once() {
    let redis = Redis::start();
    let server = gateway(&redis, &[]);
    let mut alice = server.connect_as("alice");
    assert_eq!(redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]), "1");
    assert!((0..20_000).any(|_| server.metric("usher_redis_reconnects_total") == 1.0), "{}", server.log());
    until(&server, "connected", 200);
    assert_eq!(redis.publish("user_noti:alice", r#"{"type":"mark"}"#), 1, "subscribed once");
    assert_eq!(alice.message()["type"], "mark");
    alice.expect_silence();
    assert_eq!(redis.cli(&["PUBSUB", "NUMPAT"]), "8");
}

#[test]
fn a_redis_that_stands_still_delays_nobody_and_has_us_back_when_it_goes_on() {
    let redis = Redis::start();
    let server = gateway(&redis, &[]);
    let (mut alice, mut bob) = (server.connect_as("alice"), server.connect_as("bob"));
    alice.join("event:1");
    bob.join("event:1");
    redis.freeze();
    alice.send("room:message", &json!({"room": "event:1", "data": 1}));
    assert_eq!(bob.expect("room:message")["data"], 1);
    assert_eq!(alice.expect("room:message")["data"], 1);
    until(&server, "disconnected", 503);
    server.connect_as("carol").join("event:1");
    alice.send("room:message", &json!({"room": "event:1", "data": 2}));
    assert_eq!(bob.expect("room:message")["data"], 2);
    redis.thaw();
    until(&server, "connected", 200);
    redis.publish("user_noti:bob", r#"{"type":"mark"}"#);
    assert_eq!(bob.message()["type"], "mark");
}

#[test]
fn a_stop_does_not_wait_for_redis() {
    let redis = Redis::start();
    let mut server = gateway(&redis, &[]);
    redis.freeze();
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    redis.thaw();
}

#[test]
fn a_redis_that_is_absent_at_the_start_is_found_later() {
    let mut redis = Redis::start();
    redis.kill();
    let server = apart(&redis.url(), &[]);
    until(&server, "disconnected", 503);
    server.connect_as("alice").expect_silence();
    says(&server, "Redis cannot be reached");
    redis.restart();
    until(&server, "connected", 200);
    notification_story(&server, &redis);
}

#[test]
fn an_instance_may_stay_in_service_without_redis() {
    let mut redis = Redis::start();
    redis.kill();
    let server = apart(&redis.url(), &[("READY_REQUIRES_REDIS", "false")]);
    until(&server, "disconnected", 200);
}

#[test]
fn a_wrong_password_is_told_and_tried_again() {
    let redis = Redis::with(&Options { password: Some("open-sesame-5d2a"), ..Options::default() });
    let url = format!("redis://:not-this-one-77@127.0.0.1:{}", redis.port);
    let server = apart(&url, &[]);
    until(&server, "disconnected", 503);
    assert!((0..20_000).any(|_| server.metric("usher_redis_connect_failures_total") >= 2.0));
    says(&server, "WRONGPASS");
    assert!(!server.log().contains("not-this-one"), "{}", server.log());
    redis.cli(&["CONFIG", "SET", "requirepass", "not-this-one-77"]);
    until(&server, "connected", 200);
}

#[test]
fn check_tells_whether_redis_can_be_used() {
    let mut redis = Redis::with(&Options { password: Some("open-sesame-5d2a"), ..Options::default() });
    let check = |url: &str| {
        let output = command().arg("check").env("REDIS_URL", url).output().expect("the binary was built");
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("text")
    };
    let line =
        |text: &str| text.lines().find(|line| line.starts_with("  redis ")).unwrap_or_default().to_owned();
    let report = check(&redis.url());
    assert!(line(&report).contains("ok") && line(&report).contains("version "), "{report}");
    assert!(!report.contains("open-sesame"), "{report}");
    let report = check(&format!("redis://127.0.0.1:{}", redis.port));
    assert!(line(&report).contains("short") && line(&report).contains("NOAUTH"), "{report}");
    redis.kill();
    let report = check(&redis.url());
    assert!(line(&report).contains("refused") && report.contains("mend: start it"), "{report}");
}

#[test]
fn what_is_no_redis_is_left_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("a bound socket").port();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let garbage = b"HTTP/1.1 400 Bad Request\r\n\r\n$536870912\r\n\x00\xff*9999999\r\n";
            let _ = socket.read(&mut [0; 512]); // Whoever hangs up meanwhile is what the test wants.
            let _ = socket.write_all(garbage); // As above.
        }
    });
    let server = apart(&format!("redis://127.0.0.1:{port}"), &[]);
    assert!(
        (0..20_000).any(|_| server.metric("usher_redis_connect_failures_total") >= 2.0),
        "{}",
        server.log()
    );
    until(&server, "disconnected", 503);
    server.connect_as("alice").expect_silence();
}
