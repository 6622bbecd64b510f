//! What an operator asks: health, readiness, statistics, metrics by their exact names.

use serde_json::json;

use crate::support::{
    grpc::{Backend, to_user},
    holds_soon,
    server::Server,
};

#[test]
fn health_counts_clients_and_rooms_on_both_ports() {
    let server = Server::start();
    let mut ann = server.connect_as("ann");
    ann.join("event:1");
    let counted = |answer: &serde_json::Value| answer["clients"] == 1 && answer["rooms"].as_u64() >= Some(1);
    assert!(
        holds_soon(|| counted(&server.get("/health").json()) && counted(&server.admin("/health").json()))
    );
    let health = server.get("/health");
    assert_eq!(health.header("Content-Type"), Some("application/json"));
    let body = health.json();
    assert_eq!((&body["status"], &body["redis"]), (&json!("healthy"), &json!("disabled")));
    assert!(body["uptime_seconds"].is_u64(), "{body}");
}

#[test]
fn readiness_says_what_is_kept_where() {
    let server = Server::start();
    for answer in [server.get("/ready"), server.admin("/ready")] {
        assert_eq!(answer.status, 200);
        let text = answer.text();
        assert!(text.contains("memory only"), "{text}");
    }
}

#[test]
fn statistics_have_the_shape_of_the_lock_service() {
    let server = Server::with(&[("SHARDS", "2")]);
    let _ann = server.connect_as("ann");
    let settled = holds_soon(|| server.stats()["connectedUsers"] == 1);
    assert!(settled, "{}", server.stats());
    let stats = server.get("/stats").json();
    assert_eq!(stats["service"], "realtime-service");
    assert!(stats["ticketLocks"]["locksByStatus"]["active"].is_u64(), "{stats}");
    assert_eq!(stats["connectionsPerCore"].as_array().map(Vec::len), Some(2));
}

#[test]
fn metrics_have_the_names_that_dashboards_know() {
    let server = Server::start();
    let mut ann = server.connect_as("ann");
    ann.join("event:1");
    let backend = Backend::of(&server);
    backend.send_to_user(to_user("ann", "booking:created", "{}")).expect("accepted");
    ann.expect("booking:created");
    ann.text("nonsense");
    ann.expect_error();
    let text = server.admin("/metrics").text();
    let names = [
        ("realtime_websocket_connections_total", "gauge"),
        ("realtime_websocket_connections_authenticated", "gauge"),
        ("realtime_websocket_connections_per_room", "gauge"),
        ("realtime_messages_sent_total", "counter"),
        ("realtime_messages_received_total", "counter"),
        ("realtime_notifications_delivered_total", "counter"),
        ("realtime_grpc_requests_total", "counter"),
        ("realtime_grpc_request_duration_seconds", "histogram"),
        ("realtime_errors_total", "counter"),
        ("websocket_clients_total", ""),
        ("websocket_rooms_total", ""),
        ("websocket_messages_per_second", ""),
        ("websocket_errors_total", ""),
        ("usher_log_lines_dropped_total", "counter"),
    ];
    for (name, kind) in names {
        assert!(
            text.lines().any(|line| line.starts_with(&format!("# TYPE {name} {kind}"))),
            "{name}\n{text}"
        );
        let has_value = |line: &str| {
            line.starts_with(name) && line.rsplit(' ').next().is_some_and(|v| v.parse::<f64>().is_ok())
        };
        assert!(text.lines().any(has_value), "{name} has no value\n{text}");
    }
    assert_eq!(server.metric("realtime_websocket_connections_total"), 1.0);
    assert!(holds_soon(|| server.metric(r#"realtime_messages_sent_total{type="booking:created"}"#) == 1.0));
    assert_eq!(server.metric(r#"realtime_messages_received_total{type="room:join"}"#), 1.0);
    for (index, line) in text.lines().enumerate() {
        assert!(
            line.starts_with('#') || line.split(' ').count() == 2 || line.contains('"'),
            "{index}: {line}"
        );
    }
}

#[test]
fn each_core_tells_how_long_its_turns_take() {
    let server = Server::start();
    server.connect_as("ann").join("event:1");
    for task in ["deliveries", "handshakes"] {
        let turns = format!(r#"usher_loop_turn_seconds_count{{core="0",task="{task}"}}"#);
        assert!(holds_soon(|| server.metric(&turns) > 0.0), "{task}");
    }
    // The greeting of a newcomer is a turn that nobody does within a microsecond.
    assert!(server.metric(r#"usher_loop_lag_microseconds{core="0"}"#) > 0.0);
}

#[test]
fn clients_cannot_multiply_time_series() {
    let server = Server::with(&[("RATE_LIMIT_MAX_MESSAGES", "0")]);
    let mut ann = server.connect_as("ann");
    let backend = Backend::of(&server);
    let lines = || server.admin("/metrics").text().lines().count();
    ann.join("event:first");
    backend.send_to_user(to_user("ann", "a:type", "{}")).expect("accepted");
    ann.expect("a:type");
    let before = lines();
    for n in 0..8 {
        ann.send(&format!("evil:type{n}"), &json!({}));
        ann.expect_error();
        backend.send_to_user(to_user("ann", &format!("b:type{n}"), "{}")).expect("accepted");
        ann.expect(&format!("b:type{n}"));
    }
    assert!(lines() <= before + 4, "{} lines, {before} before", lines());
}

#[test]
fn metrics_are_on_the_client_port_only_where_asked() {
    assert_eq!(Server::start().get("/metrics").status, 404);
    let server = Server::with(&[("METRICS_ON_CLIENT_PORT", "true")]);
    let answer = server.get("/metrics");
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("realtime_websocket_connections_total"));
}

#[test]
fn unknown_pages_are_not_found() {
    let server = Server::start();
    assert_eq!(server.admin("/nothing").status, 404);
    assert_eq!(server.get("/nothing").status, 404);
}
