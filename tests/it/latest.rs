//! Last values for who comes in, and keys of calls, with one gateway and with two on one Redis.

use serde_json::{Value, json};
use tonic::Code;
use usher::generated::realtime::{
    BroadcastEventRequest, NotifyQueuePositionRequest, NotifyResponse, SendToUserRequest,
};

use crate::support::{
    grpc::{Backend, to_room, to_user},
    redis::Redis,
    server::Server,
    ws::Client,
};

/// A gateway that keeps its streams in that Redis and has reached it.
fn instance(redis: &Redis) -> Server {
    let url = redis.url();
    let server = Server::with(&[("REDIS_URL", &*url), ("STORE", "redis"), ("ROOM_STREAMS", "sale:*")]);
    until(|| server.get("/ready").json()["redis"] == "connected");
    server
}

fn until(holds: impl Fn() -> bool) {
    assert!((0..20_000).any(|_| holds()), "it never comes about");
}

fn position(user: &str, position: u64, version: u64) -> NotifyQueuePositionRequest {
    NotifyQueuePositionRequest {
        user_id: user.into(),
        event_id: "1".into(),
        position,
        version,
        ..NotifyQueuePositionRequest::default()
    }
}

/// Joins, and gives what stands behind the answer.
fn first_in(client: &mut Client, room: &str, kind: &str) -> Value {
    client.join(room);
    client.expect(kind)
}

/// One shard or several, the story is the same.
fn story(server: &Server) {
    let backend = Backend::of(server);
    backend.notify_queue_position(position("ann", 7, 2)).expect("accepted");
    backend.notify_queue_position(position("ann", 9, 1)).expect("accepted");
    let mut ann = server.connect_as("ann");
    assert_eq!(ann.expect("booking:queue_position")["position"], 7);

    for room in ["event:1", "sale:1"] {
        for (category, left) in [("vip", 3), ("vip", 2), ("standing", 500)] {
            let payload = json!({"event_id": "1", "category_id": category, "left": left}).to_string();
            backend.broadcast_event(to_room(room, "ticket:availability", &payload)).expect("accepted");
        }
        backend.broadcast_event(to_room(room, "ticket:sold", "{}")).expect("accepted");
        let mut client = server.connect();
        assert_eq!(first_in(&mut client, room, "ticket:availability")["left"], 2, "{room}");
        assert_eq!(client.expect("ticket:availability")["left"], 500, "{room}");
        client.expect_silence();
        let payload = json!({"event_id": "1", "category_id": "vip", "left": 1}).to_string();
        backend.broadcast_event(to_room(room, "ticket:availability", &payload)).expect("accepted");
        assert_eq!(client.expect("ticket:availability")["left"], 1, "{room}");
    }
    ann.expect_silence();
    // A gauge is written down ten times a second.
    until(|| server.metric("usher_latest_values") >= 5.0);
}

#[test]
fn who_comes_in_gets_the_last_values() {
    story(&Server::with(&[("ROOM_STREAMS", "sale:*"), ("SHARDS", "2")]));
}

#[test]
fn who_comes_in_gets_the_last_values_with_a_store_in_redis() {
    let redis = Redis::start();
    story(&instance(&redis));
}

#[test]
fn who_comes_back_to_another_instance_gets_the_last_values() {
    let redis = Redis::start();
    let here = instance(&redis);
    let backend = Backend::of(&here);
    backend.notify_queue_position(position("ann", 7, 2)).expect("accepted");
    let payload = r#"{"event_id":"1","left":3}"#;
    backend.broadcast_event(to_room("event:1", "ticket:availability", payload)).expect("accepted");
    for address in ["user:ann", "room:event:1"] {
        until(|| redis.cli(&["HLEN", &format!("usher:{{{address}}}:latest")]) == "1");
    }

    let there = instance(&redis);
    let mut ann = there.connect_as("ann");
    // Redis may take longer than an admission waits for it.
    ann.ignored = &["system:resync"];
    assert_eq!(ann.expect("booking:queue_position")["position"], 7);
    assert_eq!(first_in(&mut ann, "event:1", "ticket:availability")["left"], 3);
    // An older version, whichever instance takes it.
    for server in [&there, &here] {
        Backend::of(server).notify_queue_position(position("ann", 9, 1)).expect("accepted");
    }
    ann.expect_silence();
    drop(here);
    let mut again = there.connect_as("ann");
    assert_eq!(again.expect("booking:queue_position")["position"], 7);
}

#[test]
fn last_values_go_on_while_redis_is_away() {
    let mut redis = Redis::start();
    let server = instance(&redis);
    redis.kill();
    until(|| server.get("/ready").json()["redis"] == "disconnected");
    let backend = Backend::of(&server);
    backend.notify_queue_position(position("ann", 7, 2)).expect("accepted");
    let mut ann = server.connect_as("ann");
    assert_eq!(ann.expect("booking:queue_position")["position"], 7);
    redis.restart();
    until(|| redis.cli(&["HLEN", "usher:{user:ann}:latest"]) == "1");
}

fn booked(key: &str, json: &str) -> SendToUserRequest {
    SendToUserRequest { idempotency_key: key.into(), ..to_user("ann", "booking:confirmed", json) }
}

fn sold(key: &str, json: &str) -> BroadcastEventRequest {
    BroadcastEventRequest { idempotency_key: key.into(), ..to_room("sale:1", "booking:created", json) }
}

fn place(answer: &NotifyResponse) -> (&str, u64, &str) {
    (&answer.stream, answer.offset, &answer.epoch)
}

#[test]
fn a_key_means_the_same_call_on_every_instance() {
    let redis = Redis::start();
    let servers = [instance(&redis), instance(&redis)];
    let [here, there] = servers.each_ref().map(Backend::of);
    let mut ann = servers[1].connect_as("ann");
    ann.join("sale:1");

    let first = here.send_to_user(booked("k", "1")).expect("accepted");
    assert_eq!((&*first.stream, first.offset), ("user:ann", 1));
    assert_eq!(place(&there.send_to_user(booked("k", "1")).expect("repeated")), place(&first));
    let other = there.send_to_user(booked("k", "2")).expect_err("another body");
    assert_eq!(other.code(), Code::AlreadyExists);
    assert_eq!(there.send_to_user(booked("k2", "2")).expect("accepted").offset, 2);

    let first = here.broadcast_event(sold("k", "1")).expect("accepted");
    assert_eq!((&*first.stream, first.offset), ("room:sale:1", 1));
    assert_eq!(place(&there.broadcast_event(sold("k", "1")).expect("repeated")), place(&first));
    let other = there.broadcast_event(sold("k", "2")).expect_err("another body");
    assert_eq!(other.code(), Code::AlreadyExists);

    // Nothing came twice.
    let heard: Vec<Value> = (0..3).map(|_| ann.message()).collect();
    let offsets = |stream: &str| -> Vec<u64> {
        heard
            .iter()
            .filter(|message| message["stream"] == stream)
            .filter_map(|message| message["offset"].as_u64())
            .collect()
    };
    assert_eq!((offsets("user:ann"), offsets("room:sale:1")), (vec![1, 2], vec![1]), "{heard:?}");
    ann.expect_silence();
}
