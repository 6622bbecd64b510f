//! What operators ask: what is stored for whom, how far it got, and who is there.

use serde_json::json;
use tonic::Code;
use usher::{
    clock::Now,
    generated::realtime::{
        GetDeliveryStateRequest, GetDeliveryStateResponse, GetHistoryRequest, GetHistoryResponse,
        PresenceRequest, PresenceResponse, get_history_request, presence_request,
    },
};

use crate::support::{
    grpc::{Backend, to_room, to_user},
    redis::Redis,
    server::Server,
    ws::Client,
};

/// A gateway that keeps rooms `sale:*`, and three entries of a stream; its streams are in that Redis, or in memory.
fn gateway(redis: Option<&Redis>) -> Server {
    let url = redis.map(Redis::url).unwrap_or_default();
    let server = Server::with(&[("REDIS_URL", &url), ("ROOM_STREAMS", "sale:*"), ("STREAM_MAX_COUNT", "3")]);
    until("ready", || server.get("/ready").status == 200);
    server
}

/// Asks until it is so.
fn until(what: &str, is_so: impl Fn() -> bool) {
    assert!((0..20_000).any(|_| is_so()), "{what}");
}

fn history_of(user: &str) -> GetHistoryRequest {
    let target = Some(get_history_request::Target::UserId(user.into()));
    GetHistoryRequest { target, ..GetHistoryRequest::default() }
}

fn history_of_room(room: &str) -> GetHistoryRequest {
    let target = Some(get_history_request::Target::Room(room.into()));
    GetHistoryRequest { target, ..GetHistoryRequest::default() }
}

fn state(backend: &Backend, user: &str) -> GetDeliveryStateResponse {
    let request = GetDeliveryStateRequest { user_id: user.into() };
    backend.get_delivery_state(request).expect("an answer")
}

fn presence(backend: &Backend, target: presence_request::Target) -> PresenceResponse {
    backend.presence(PresenceRequest { target: Some(target) }).expect("an answer")
}

/// Sends so many bookings, which the client hears.
fn book(backend: &Backend, client: &mut Client, user: &str, numbers: std::ops::RangeInclusive<u32>) {
    for number in numbers {
        backend.send_to_user(to_user(user, "booking:confirmed", &number.to_string())).expect("accepted");
        assert_eq!(client.message()["payload"], number);
    }
}

fn offsets(history: &GetHistoryResponse) -> Vec<u64> {
    history.entries.iter().map(|entry| entry.offset).collect()
}

fn delivery_story(server: &Server) {
    let backend = Backend::of(server);
    let (mut ann, mut bob) = (server.connect_as("ann"), server.connect_as("bob"));
    book(&backend, &mut ann, "ann", 1..=2);
    book(&backend, &mut bob, "bob", 1..=2);
    let epoch = state(&backend, "ann").epoch;
    ann.send("system:ack", &json!({"stream": "user:ann", "epoch": epoch, "offset": 2}));
    ann.send("system:ping", &json!(1));
    ann.expect("system:pong");

    let of_ann = state(&backend, "ann");
    let expected = GetDeliveryStateResponse {
        stream: "user:ann".into(),
        epoch,
        head_offset: 2,
        acknowledged_offset: 2,
        connections: 1,
        delivered_offset: Some(2),
        ..GetDeliveryStateResponse::default()
    };
    assert_eq!(of_ann, expected);
    let of_bob = state(&backend, "bob");
    assert_eq!((of_bob.delivered_offset, of_bob.acknowledged_offset, of_bob.unacknowledged), (Some(2), 0, 2));
    let oldest = of_bob.oldest_unacknowledged.expect("the first");
    let shown = (oldest.offset, oldest.event_type.as_str(), oldest.payload_json.as_slice());
    assert_eq!(shown, (1, "booking:confirmed", b"1".as_slice()));
    let now_ms = Now::read().wall_ms;
    assert!((now_ms - 600_000..=now_ms).contains(&oldest.accepted_at_ms), "{oldest:?}");
    assert!(!oldest.acknowledged);
    let acknowledged = |user| {
        let history = backend.get_history(history_of(user)).expect("an answer");
        history.entries.iter().map(|entry| entry.acknowledged).collect::<Vec<_>>()
    };
    assert_eq!((acknowledged("ann"), acknowledged("bob")), (vec![true; 2], vec![false; 2]));

    bob.close();
    until("bob is gone", || state(&backend, "bob").connections == 0);
    backend.send_to_user(to_user("bob", "booking:failed", "3")).expect("accepted");
    let of_bob = state(&backend, "bob");
    assert_eq!((of_bob.delivered_offset, of_bob.head_offset, of_bob.unacknowledged), (None, 3, 3));
    let stranger = state(&backend, "nobody");
    assert_eq!((stranger.head_offset, stranger.oldest_unacknowledged, stranger.connections), (0, None, 0));
}

#[test]
fn an_operator_sees_what_came_to_a_user_and_what_was_acknowledged() {
    delivery_story(&gateway(None));
}

#[test]
fn an_operator_sees_what_came_to_a_user_and_what_was_acknowledged_with_redis() {
    let redis = Redis::start();
    delivery_story(&gateway(Some(&redis)));
    let names = redis.cli(&["KEYS", "usher:*nobody*"]);
    assert_eq!(names, "", "who is asked for and unknown leaves nothing there");
}

fn history_story(server: &Server) {
    let backend = Backend::of(server);
    let mut ann = server.connect_as("ann");
    book(&backend, &mut ann, "ann", 1..=5);
    // Three are kept.
    let newest = backend.get_history(history_of("ann")).expect("an answer");
    assert_eq!((offsets(&newest), newest.joins, newest.head_offset), (vec![3, 4, 5], true, 5));
    assert_eq!(newest.entries[2].payload_json, b"5");
    let ask = |after_offset, epoch: &str, limit| {
        let request = GetHistoryRequest {
            after_offset: Some(after_offset),
            epoch: epoch.into(),
            limit,
            ..history_of("ann")
        };
        let history = backend.get_history(request).expect("an answer");
        (offsets(&history), history.joins)
    };
    assert_eq!(ask(3, "", 0), (vec![4, 5], true));
    assert_eq!(ask(2, &newest.epoch, 2), (vec![3, 4], true));
    assert_eq!(ask(5, "", 0), (vec![], true));
    assert_eq!(ask(1, "", 0), (vec![], false), "what follows 1 is gone");
    assert_eq!(ask(6, "", 0), (vec![], false), "6 never was");
    assert_eq!(ask(3, "another", 0), (vec![], false));
    let last = backend.get_history(GetHistoryRequest { limit: 1, ..history_of("ann") }).expect("an answer");
    assert_eq!((offsets(&last), last.joins), (vec![5], true));

    backend.broadcast_event(to_room("sale:1", "booking:confirmed", "{}")).expect("accepted");
    let room = backend.get_history(history_of_room("sale:1")).expect("an answer");
    assert_eq!((room.stream.as_str(), offsets(&room)), ("room:sale:1", vec![1]));
    // The room of a user is the user.
    let same = backend.get_history(history_of_room("user:ann")).expect("an answer");
    assert_eq!((same.stream.as_str(), offsets(&same)), ("user:ann", offsets(&newest)));
}

#[test]
fn history_gives_what_is_kept() {
    history_story(&gateway(None));
}

#[test]
fn history_gives_what_is_kept_in_redis() {
    history_story(&gateway(Some(&Redis::start())));
}

#[test]
fn an_inquiry_that_makes_no_sense_names_the_field() {
    let server = gateway(None);
    let backend = Backend::of(&server);
    let histories = [
        (GetHistoryRequest::default(), "user_id"),
        (history_of(""), "user_id"),
        (history_of_room("two words"), "room"),
        (history_of_room("event:1"), "ROOM_STREAMS"),
        (GetHistoryRequest { limit: 65, ..history_of("a") }, "limit"),
        (GetHistoryRequest { epoch: "e".repeat(65), ..history_of("a") }, "epoch"),
        (GetHistoryRequest { after_offset: Some(1 << 53), ..history_of("a") }, "after_offset"),
    ];
    for (request, field) in histories {
        let refused = backend.get_history(request).expect_err(field);
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(field), "{refused}");
    }
    let states = backend.get_delivery_state(GetDeliveryStateRequest::default());
    assert_eq!(states.expect_err("no user").code(), Code::InvalidArgument);
    let presence = backend.presence(PresenceRequest::default());
    assert_eq!(presence.expect_err("nobody").code(), Code::InvalidArgument);
}

#[test]
fn presence_counts_connections_of_a_user_and_members_of_a_room() {
    let server = gateway(None);
    let backend = Backend::of(&server);
    let (mut tab, _other_tab) = (server.connect_as("ann"), server.connect_as("ann"));
    tab.join("event:1");
    let user = |id: &str| presence(&backend, presence_request::Target::UserId(id.into()));
    let room = |name: &str| presence(&backend, presence_request::Target::Room(name.into()));
    let online = |connections| PresenceResponse { online: true, connections, connections_elsewhere: 0 };
    assert_eq!((user("ann"), room("event:1")), (online(2), online(1)));
    assert_eq!((user("bob"), room("event:2")), Default::default());
}

/// Whoever can make a script answer oddly must not be able to flood the log.
#[test]
fn what_no_script_answers_is_logged_once_in_a_while() {
    let mut redis = Redis::start();
    let server = gateway(Some(&redis));
    let backend = Backend::of(&server);
    backend.send_to_user(to_user("ann", "booking:confirmed", "1")).expect("accepted");
    let not_text = "return redis.call('HSET', KEYS[1], 'epoch', '\\255')";
    redis.cli(&["EVAL", not_text, "1", "usher:{user:ann}:meta"]);
    for _ in 0..5 {
        assert_eq!(backend.get_history(history_of("ann")).expect_err("odd").code(), Code::Unavailable);
    }
    redis.kill();
    until("what was logged is written", || server.log().contains("Redis is disconnected"));
    let lines = server.log().matches("a script in Redis answered what it never does").count();
    assert_eq!(lines, 1, "{}", server.log());
}

#[test]
fn presence_is_known_of_who_is_on_another_instance_alone() {
    let redis = Redis::start();
    let (here, there) = (gateway(Some(&redis)), gateway(Some(&redis)));
    let (mut ann, _tab) = (there.connect_as("ann"), there.connect_as("ann"));
    ann.join("event:1");
    until("the other listens", || redis.cli(&["PUBSUB", "NUMSUB", "usher:{user:ann}:live"]).ends_with('1'));
    until("in the room too", || redis.cli(&["PUBSUB", "NUMSUB", "usher:{room:event:1}:live"]).ends_with('1'));
    let backend = Backend::of(&here);
    let user = |id: &str| presence(&backend, presence_request::Target::UserId(id.into()));
    let room = |name: &str| presence(&backend, presence_request::Target::Room(name.into()));
    let online =
        |elsewhere| PresenceResponse { online: true, connections: 0, connections_elsewhere: elsewhere };
    assert_eq!((user("ann"), room("event:1")), (online(2), online(1)));
    assert_eq!((user("bob"), room("event:2")), Default::default());
    let alone = || redis.cli(&["PUBSUB", "NUMSUB", "usher:{user:ann}:live"]).ends_with('1');
    until("who only asked listens no more", alone);
}

#[test]
fn without_redis_history_is_unavailable_and_presence_is_not() {
    let mut redis = Redis::start();
    let server = gateway(Some(&redis));
    let backend = Backend::of(&server);
    let _ann = server.connect_as("ann");
    redis.kill();
    let away = backend.get_history(history_of("ann")).expect_err("there is no store");
    assert_eq!(away.code(), Code::Unavailable, "{away}");
    let away = backend.get_delivery_state(GetDeliveryStateRequest { user_id: "ann".into() });
    assert_eq!(away.expect_err("there is no store").code(), Code::Unavailable);
    assert!(presence(&backend, presence_request::Target::UserId("ann".into())).online);
}
