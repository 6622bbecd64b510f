//! Rooms (catalogue E1, E2 and the rules of names): who is in, who hears what, who may not.

use serde_json::{Value, json};

use crate::support::{
    grpc::{Backend, to_room},
    holds_soon,
    keys::{in_seconds, token},
    server::Server,
    ws::{Ask, Client},
};

fn say(client: &mut Client, room: &str, data: &Value) {
    client.send("room:message", &json!({"room": room, "data": data}));
}

/// A user whose token lists rooms.
fn allowed(server: &Server, user: &str, rooms: &[&str]) -> Client {
    let claims = json!({"sub": user, "exp": in_seconds(3600), "rooms": rooms});
    server.ask(&Ask::to("/ws").bearer(&server.remember(token(&claims)))).greeted()
}

fn error_of(client: &mut Client, kind: &str, payload: &Value) -> String {
    let (kind, error) = client.request(kind, payload);
    assert_eq!(kind, "system:error", "{error}");
    error["code"].as_str().expect("an error has a code").to_owned()
}

#[test]
fn a_message_reaches_every_member_and_nobody_else() {
    let server = Server::with(&[("SHARDS", "2")]);
    let mut ann = server.connect_as("ann");
    let mut members: Vec<Client> = (0..8).map(|n| server.connect_as(&format!("user{n}"))).collect();
    let mut stranger = server.connect();
    ann.join("event:1");
    members.iter_mut().for_each(|member| drop(member.join("event:1")));
    stranger.join("event:2");
    say(&mut ann, "event:1", &json!({"text": "hello"}));
    for member in members.iter_mut().chain([&mut ann]) {
        let payload = member.expect("room:message");
        assert_eq!((&payload["room"], &payload["user_id"]), (&json!("event:1"), &json!("ann")), "{payload}");
        assert_eq!(payload["data"], json!({"text": "hello"}));
        assert!(payload["connection_id"].is_string() && payload["sent_at"].is_u64(), "{payload}");
    }
    stranger.expect_silence();
    let cores = server.stats()["connectionsPerCore"].as_array().map_or(0, Vec::len);
    assert_eq!(cores, 2);
}

#[test]
fn a_message_with_an_id_gets_a_receipt() {
    let server = Server::start();
    let mut ann = server.connect_as("ann");
    ann.join("event:1");
    ann.text(r#"{"type":"room:message","id":5,"payload":{"room":"event:1","data":1}}"#);
    let (first, second) = (ann.message(), ann.message());
    let receipt = [&first, &second].into_iter().find(|message| message["type"] == "system:ok");
    assert_eq!(receipt.map(|receipt| &receipt["id"]), Some(&json!(5)), "{first} {second}");
}

#[test]
fn messages_of_one_sender_keep_their_order() {
    let server = Server::with(&[("SHARDS", "2"), ("RATE_LIMIT_MAX_MESSAGES", "0")]);
    let (mut ann, mut bob) = (server.connect_as("ann"), server.connect_as("bob"));
    ann.join("event:1");
    bob.join("event:1");
    (0..200).for_each(|n| say(&mut ann, "event:1", &json!(n)));
    for n in 0..200 {
        assert_eq!(bob.expect("room:message")["data"], n);
        assert_eq!(ann.expect("room:message")["data"], n);
    }
}

#[test]
fn joining_twice_is_one_membership() {
    let server = Server::start();
    let (mut ann, mut bob) = (server.connect_as("ann"), server.connect_as("bob"));
    ann.join("event:1");
    assert_eq!(ann.join("event:1")["members"], 1);
    bob.join("event:1");
    say(&mut bob, "event:1", &json!(1));
    ann.expect("room:message");
    ann.expect_silence();
    ann.leave("event:1");
    say(&mut bob, "event:1", &json!(2));
    bob.expect("room:message");
    bob.expect("room:message");
    ann.expect_silence();
}

/// E2
#[test]
fn only_members_may_speak() {
    let server = Server::start();
    let (mut ann, mut eve) = (server.connect_as("ann"), server.connect_as("eve"));
    ann.join("event:1");
    let code = error_of(&mut eve, "room:message", &json!({"room": "event:1", "data": 1}));
    assert_eq!(code, "not_in_room");
    assert_eq!(error_of(&mut eve, "room:message", &json!({"room": "user:ann", "data": 1})), "not_in_room");
    ann.expect_silence();
}

#[test]
fn leaving_a_room_that_one_is_not_in_is_answered() {
    let server = Server::start();
    let mut ann = server.connect();
    let (kind, payload) = ann.request("room:leave", &json!({"room": "event:1"}));
    assert!(kind == "room:left" || payload["code"] == "not_in_room", "{kind} {payload}");
}

/// E1
#[test]
fn names_are_checked() {
    let server = Server::start();
    let mut ann = server.connect_as("ann");
    let good = ["a", "event:1", "A.b-c_d:0", &"r".repeat(128)];
    for name in good {
        ann.join(name);
    }
    let bad = ["", "a b", "é", "a/b", "a*", "a\nb", &"r".repeat(129), &"r".repeat(60_000)];
    for name in bad {
        let mut client = server.connect();
        assert_eq!(error_of(&mut client, "room:join", &json!({"room": name})), "invalid_room", "{name:.20}");
    }
}

/// E1
#[test]
fn coming_and_going_leaves_nothing_behind() {
    let server = Server::with(&[("RATE_LIMIT_MAX_MESSAGES", "0")]);
    let mut ann = server.connect_as("ann");
    for n in 0..500 {
        let room = format!("event:{}", n % 100);
        ann.join(&room);
        ann.leave(&room);
    }
    let backend = Backend::of(&server);
    let rooms = || backend.stats().expect("statistics").rooms;
    assert!(holds_soon(|| !rooms().keys().any(|room| room.starts_with("event:"))), "{:?}", rooms());
}

#[test]
fn the_room_of_a_user_is_joined_by_itself_and_closed_to_others() {
    let server = Server::start();
    let (mut ann, mut eve) = (server.connect_as("ann"), server.connect_as("eve"));
    assert_eq!(error_of(&mut eve, "room:join", &json!({"room": "user:ann"})), "forbidden");
    let mut stranger = server.connect();
    assert_eq!(error_of(&mut stranger, "room:join", &json!({"room": "user:ann"})), "forbidden");
    Backend::of(&server).broadcast_event(to_room("user:ann", "ticket:sold", "{}")).expect("accepted");
    ann.expect("ticket:sold");
    eve.expect_silence();
}

#[test]
fn protected_rooms_need_the_claim() {
    let server = Server::with(&[("ROOM_PROTECTED", "vip:*,staff")]);
    let mut guest = server.connect_as("guest");
    for room in ["private:club", "vip:1", "staff"] {
        assert_eq!(error_of(&mut guest, "room:join", &json!({"room": room})), "forbidden", "{room}");
    }
    let mut member = allowed(&server, "ann", &["private:club*", "vip:?"]);
    for room in ["private:club", "private:club-2", "vip:1"] {
        member.join(room);
    }
    for room in ["private:other", "vip:10", "staff"] {
        assert_eq!(error_of(&mut member, "room:join", &json!({"room": room})), "forbidden", "{room}");
    }
}

/// The next announcement of that type about that user; people hear of themselves too.
fn told(client: &mut Client, kind: &str, user: &str) -> Value {
    loop {
        let mut message = client.message();
        if message["type"] == kind && message["payload"]["user_id"] == user {
            return message["payload"].take();
        }
        let type_of = message["type"].as_str().unwrap_or_default();
        assert!(["room:user_joined", "room:typing", "user:online"].contains(&type_of), "{message}");
    }
}

#[test]
fn comings_and_goings_are_told_where_configured() {
    let server = Server::with(&[("ROOM_PRESENCE", "lobby:*")]);
    let mut ann = server.connect_as("ann");
    ann.join("lobby:1");
    let mut bob = server.connect_as("bob");
    bob.ignored = &["room:user_joined", "room:user_left", "room:typing", "user:online"];
    bob.join("lobby:1");
    assert_eq!(told(&mut ann, "room:user_joined", "bob")["room"], "lobby:1");
    bob.send("user:typing", &json!({"room": "lobby:1", "typing": true}));
    assert_eq!(told(&mut ann, "room:typing", "bob")["typing"], true);
    bob.leave("lobby:1");
    assert_eq!(told(&mut ann, "room:user_left", "bob")["room"], "lobby:1");

    ann.ignored = bob.ignored;
    bob.join("event:1");
    ann.join("event:1");
    ann.ignored = &[];
    bob.ignored = &[];
    bob.send("user:typing", &json!({"room": "event:1", "typing": true}));
    bob.expect_silence();
    ann.expect_silence();
}

#[test]
fn typing_ends_by_itself() {
    let server = Server::with(&[("ROOM_PRESENCE", "lobby:*"), ("ROOM_TYPING_TIMEOUT", "500ms")]);
    let (mut ann, mut bob) = (server.connect_as("ann"), server.connect_as("bob"));
    ann.join("lobby:1");
    bob.join("lobby:1");
    bob.send("user:typing", &json!({"room": "lobby:1", "typing": true}));
    assert_eq!(told(&mut ann, "room:typing", "bob")["typing"], true);
    assert_eq!(told(&mut ann, "room:typing", "bob")["typing"], false);
}

/// E4, without the wait for keep-alive
#[test]
fn who_vanishes_leaves_once() {
    let server = Server::with(&[("ROOM_PRESENCE", "lobby:*")]);
    let (mut ann, mut bob) = (server.connect_as("ann"), server.connect_as("bob"));
    ann.join("lobby:1");
    bob.join("lobby:1");
    drop(bob);
    told(&mut ann, "room:user_left", "bob");
    ann.expect_silence();
}

#[test]
fn presence_is_told_in_rooms_that_announce() {
    let server = Server::with(&[("ROOM_PRESENCE", "lobby:*")]);
    let (mut ann, mut bob) = (server.connect_as("ann"), server.connect_as("bob"));
    ann.join("lobby:1");
    bob.join("lobby:1");
    bob.send("user:presence", &json!({"status": "away", "text": "tea"}));
    let change = told(&mut ann, "user:status_change", "bob");
    assert_eq!((&change["status"], &change["text"]), (&json!("away"), &json!("tea")), "{change}");
}

#[test]
fn kept_rooms_number_their_messages() {
    let server = Server::with(&[("ROOM_STREAMS", "sale:*")]);
    let mut ann = server.connect_as("ann");
    let joined = ann.join("sale:1");
    assert_eq!((&joined["offset"], joined["epoch"].is_string()), (&json!(0), true), "{joined}");
    let backend = Backend::of(&server);
    for offset in 1..=3_u64 {
        let answer = backend.broadcast_event(to_room("sale:1", "booking:created", "{}")).expect("accepted");
        assert_eq!((answer.offset, answer.stream.as_str()), (offset, "room:sale:1"));
        let message = ann.message();
        assert_eq!(
            (&message["offset"], &message["stream"]),
            (&json!(offset), &json!("room:sale:1")),
            "{message}"
        );
        assert_eq!(message["epoch"], answer.epoch);
    }
    let answer = backend.broadcast_event(to_room("event:1", "booking:created", "{}")).expect("accepted");
    assert_eq!((answer.offset, answer.stream.as_str()), (0, ""), "a room that is not kept");
    let joined = ann.join("event:1");
    assert!(joined["epoch"].is_null() && joined["offset"].is_null(), "{joined}");
}

/// A connection of the user on that shard, whichever the kernel chooses first.
fn on_shard(server: &Server, user: &str, shard: u16) -> Client {
    let prefix = format!("{shard:04x}");
    let is_there = |client: &Client| {
        client.connected["connection_id"].as_str().is_some_and(|id| id.starts_with(&prefix))
    };
    let tries = (0..200).map(|_| server.connect_as(user));
    tries.into_iter().find(is_there).expect("the kernel spreads connections")
}

fn two_shards(name: &str, value: &str) -> Server {
    let server = [("SHARDS", "2"), ("RATE_LIMIT_MAX_CONNECTIONS", "0"), ("RATE_LIMIT_MAX_MESSAGES", "0")];
    Server::with(&[&server[..], &[(name, value)]].concat())
}

#[test]
fn who_joins_a_kept_room_gets_exactly_what_follows_the_position_it_was_told() {
    let server = two_shards("ROOM_STREAMS", "sale:*");
    let backend = Backend::of(&server);
    let mut offset = 0;
    for n in 0..40 {
        let mut client = on_shard(&server, &format!("user{n}"), n % 2);
        client.send("room:join", &json!({"room": "sale:1"}));
        // Before, while or after the join is decided.
        let during = backend.broadcast_event(to_room("sale:1", "booking:created", "{}")).expect("accepted");
        let joined = client.expect("room:joined");
        let after = backend.broadcast_event(to_room("sale:1", "booking:created", "{}")).expect("accepted");
        assert_eq!((during.offset, after.offset), (offset + 1, offset + 2));
        assert_eq!((&joined["epoch"], &joined["members"]), (&json!(after.epoch), &json!(1)), "{joined}");
        let told = joined["offset"].as_u64().expect("an offset");
        for expected in told + 1..=after.offset {
            assert_eq!(client.message()["offset"], expected);
        }
        client.expect_silence();
        client.leave("sale:1");
        offset = after.offset;
    }
}

#[test]
fn members_of_a_kept_room_are_counted_over_all_shards() {
    let server = two_shards("ROOM_STREAMS", "sale:*");
    let (mut ann, mut bob) = (on_shard(&server, "ann", 0), on_shard(&server, "bob", 1));
    assert_eq!(ann.join("sale:1")["members"], 1);
    assert_eq!(bob.join("sale:1")["members"], 2);
    assert_eq!(ann.join("sale:1")["members"], 2, "who asks again");
}

#[test]
fn a_user_with_tabs_on_two_shards_comes_once_and_goes_once() {
    let server = two_shards("ROOM_PRESENCE", "lobby:*");
    let mut bob = on_shard(&server, "bob", 0);
    bob.join("lobby:1");
    bob.ignored = &["user:online"];
    let (mut one, mut two) = (on_shard(&server, "ann", 0), on_shard(&server, "ann", 1));
    one.ignored = &["room:message", "user:online"];
    two.ignored = &["room:message", "user:online"];
    one.join("lobby:1");
    assert_eq!(bob.expect("room:user_joined")["user_id"], "ann");
    two.join("lobby:1");
    say(&mut two, "lobby:1", &json!("both are here"));
    bob.expect("room:message");
    one.leave("lobby:1");
    say(&mut two, "lobby:1", &json!("one is left"));
    bob.expect("room:message");
    drop(two);
    assert_eq!(bob.expect("room:user_left"), json!({"room": "lobby:1", "user_id": "ann"}));
    say(&mut bob, "lobby:1", &json!("nobody is left"));
    bob.expect("room:message");
    one.join("lobby:1");
    assert_eq!(bob.expect("room:user_joined")["user_id"], "ann");
}

#[test]
fn a_room_has_no_more_members_than_allowed_over_all_shards() {
    let server = two_shards("MAX_ROOM_MEMBERS", "2");
    let (mut ann, mut bob) = (on_shard(&server, "ann", 0), on_shard(&server, "bob", 1));
    let mut late = [on_shard(&server, "eve", 0), on_shard(&server, "eve", 1)];
    ann.join("event:1");
    bob.join("event:1");
    for client in &mut late {
        assert_eq!(error_of(client, "room:join", &json!({"room": "event:1"})), "room_full");
    }
    assert_eq!(bob.join("event:1")["members"], 2, "a member may ask again");
    bob.leave("event:1");
    // Two mailboxes have no common order: the place is free when control has heard of it.
    let mut join = || late[0].request("room:join", &json!({"room": "event:1"})).0;
    assert!(holds_soon(|| join() == "room:joined"));
    assert_eq!(error_of(&mut late[1], "room:join", &json!({"room": "event:1"})), "room_full");
}

#[test]
fn muted_types_are_not_sent_to_who_muted_them() {
    let server = Server::start();
    let (mut ann, mut bob) = (server.connect_as("ann"), server.connect_as("bob"));
    ann.join("event:1");
    bob.join("event:1");
    let preferences = json!({"muted": ["ticket:*"], "colour": "blue"});
    assert_eq!(ann.request("user:preferences", &preferences).0, "system:ok");
    let backend = Backend::of(&server);
    backend.broadcast_event(to_room("event:1", "ticket:sold", "{}")).expect("accepted");
    backend.broadcast_event(to_room("event:1", "system:announcement", "{}")).expect("accepted");
    ann.expect("system:announcement");
    bob.expect("ticket:sold");
    bob.expect("system:announcement");
    let long = json!({"notes": "n".repeat(5_000)});
    assert_eq!(ann.request("user:preferences", &long).0, "system:error");
}
