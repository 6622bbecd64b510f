//! Requests and replies as 03 §4 writes them.

use std::sync::Arc;

use super::*;
use crate::{
    config::settings::Dialect,
    event::{Class, Event, Form, Target},
    ids::ShardId,
    wire::{
        command::{BadRequest, Command, Request, RequestId},
        json::Invalid,
    },
};

fn command(text: &str) -> Command<'_> {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).command
}

fn code(text: &str) -> &'static str {
    parse(text).expect_err(text).code()
}

/// A message with a payload.
fn message(kind: &str, payload: &str) -> String {
    format!(r#"{{"type":"{kind}","payload":{payload}}}"#)
}

#[test]
fn each_type_becomes_its_command() {
    let room: Arc<str> = "event:1".into();
    let table = [
        (r#"{"type":"system:ping"}"#, Command::Ping(None)),
        (r#"{"type":"system:ping","payload":null}"#, Command::Ping(Some("null"))),
        (r#"{"type":"system:ping","payload": [1.0, -0, 1e2 ] }"#, Command::Ping(Some("[1.0, -0, 1e2 ]"))),
        (r#"{"type":"room:join","payload":{"room":"event:1"}}"#, Command::Join(room.clone())),
        (r#"{"payload":{"x":1,"room":"event\u003a1"},"type":"room:join"}"#, Command::Join(room.clone())),
        (r#"{"type":"room:leave","payload":{"room":"event:1"}}"#, Command::Leave(room.clone())),
        (
            r#"{"type":"room:message","payload":{"room":"event:1","data":{"__proto__":{"a":18446744073709551616}}}}"#,
            Command::RoomMessage { room: room.clone(), data: r#"{"__proto__":{"a":18446744073709551616}}"# },
        ),
        (
            r#"{"type":"room:message","payload":{"room":"event:1","data":null}}"#,
            Command::RoomMessage { room: room.clone(), data: "null" },
        ),
        (
            r#"{"type":"user:typing","payload":{"room":"event:1","typing":true}}"#,
            Command::Typing { room: room.clone(), typing: true },
        ),
        (
            r#"{"type":"user:typing","payload":{"room":"event:1","typing":false}}"#,
            Command::Typing { room, typing: false },
        ),
        (
            r#"{"type":"user:presence","payload":{"status":"away","text":"tea"}}"#,
            Command::Presence(r#"{"status":"away","text":"tea"}"#),
        ),
        (
            r#"{"type":"user:preferences","payload":{"theme":"dark"}}"#,
            Command::Preferences { json: r#"{"theme":"dark"}"#, muted: vec![] },
        ),
        (
            r#"{"type":"user:preferences","payload":{"muted":["room:*","ticket:sold"]}}"#,
            Command::Preferences {
                json: r#"{"muted":["room:*","ticket:sold"]}"#,
                muted: vec!["room:*".to_owned(), "ticket:sold".to_owned()],
            },
        ),
        (r#"{"type":"auth:login","payload":{"token":"a.b-c_.d"}}"#, Command::Login("a.b-c_.d")),
        (r#"{"type":"auth:token_refresh","payload":{"token":"t"}}"#, Command::TokenRefresh("t")),
        (r#"{"type":"auth:logout"}"#, Command::Logout),
        (r#"{"type":"auth:logout","payload":[]}"#, Command::Logout),
        (r#"{"type":"socket:connect"}"#, Command::Noted),
        (r#"{"type":"socket:disconnect","payload":{}}"#, Command::Noted),
        (r#"{"type":"socket:reconnect"}"#, Command::Noted),
        (r#"{"type":"my:own"}"#, Command::Other("null")),
        (r#"{"type":"my:own","payload":"text"}"#, Command::Other(r#""text""#)),
        (" {\n\t\"type\" : \"my:own\" , \"extra\" : {} }\r\n", Command::Other("null")),
    ];
    for (text, expected) in table {
        assert_eq!(command(text), expected, "{text}");
    }
}

#[test]
fn ids_are_kept_as_they_were_written() {
    for id in ["7", "-1.50e3", "18446744073709551616", r#""a""#, r#""\u0041é""#, r#""""#] {
        let text = format!(r#"{{"id":{id},"type":"auth:logout"}}"#);
        let expected = Request { id: Some(id.into()), kind: "auth:logout", command: Command::Logout };
        assert_eq!(parse(&text), Ok(expected));
    }
    assert_eq!(parse(r#"{"type":"auth:logout"}"#).unwrap().id, None);
}

#[test]
fn what_is_no_message_is_named() {
    let long = "x".repeat(129);
    let long_type = format!(r#"{{"type":"{long}"}}"#);
    let long_id = format!(r#"{{"type":"a","id":"{long}"}}"#);
    let table = [
        ("", "invalid_json"),
        ("  ", "invalid_json"),
        ("{\"type\":\"a\"", "invalid_json"),
        ("{\"type\":\"a\"}x", "invalid_json"),
        ("\u{feff}{\"type\":\"a\"}", "invalid_json"),
        (r#"["system:ping"]"#, "invalid_json"),
        (r#""system:ping""#, "invalid_json"),
        (r#"{"type":"a","type":"b"}"#, "invalid_json"),
        (r#"{"type":"a","typ\u0065":"b"}"#, "invalid_json"),
        (r#"{"type":"room:join","payload":{"room":"a","room":"b"}}"#, "invalid_json"),
        (r#"{"type":"a","payload":"\ud800"}"#, "invalid_json"),
        (r#"{"type":"a","payload":1e999}"#, "invalid_json"),
        ("{}", "invalid_message"),
        (r#"{"type":7}"#, "invalid_message"),
        (r#"{"type":null}"#, "invalid_message"),
        (r#"{"type":""}"#, "invalid_message"),
        (r#"{"type":"system\u003aping"}"#, "invalid_message"),
        (&long_type, "invalid_message"),
        (r#"{"type":"a","id":null}"#, "invalid_message"),
        (r#"{"type":"a","id":true}"#, "invalid_message"),
        (r#"{"type":"a","id":{}}"#, "invalid_message"),
        (&long_id, "invalid_message"),
    ];
    for (text, expected) in table {
        assert_eq!(code(text), expected, "{text}");
    }
    let deep = message("a", &("[".repeat(1_000_000) + &"]".repeat(1_000_000)));
    assert_eq!(parse(&deep), Err(BadRequest::InvalidJson(Invalid::TooDeep)));
}

#[test]
fn payloads_outside_their_shape_are_refused() {
    let long_token = format!(r#"{{"token":"{}"}}"#, "a".repeat(8193));
    let large = format!(r#"{{"x":"{}"}}"#, "a".repeat(4096));
    let muted = |count: usize| format!(r#"{{"muted":[{}]}}"#, vec![r#""a""#; count].join(","));
    let table = [
        ("room:join", "null"),
        ("room:join", "{}"),
        ("room:join", "[\"event:1\"]"),
        ("room:join", "\"event:1\""),
        ("room:join", r#"{"room":null}"#),
        ("room:join", r#"{"room":["a"]}"#),
        ("room:leave", r#"{"room":7}"#),
        ("room:message", r#"{"room":"a"}"#),
        ("room:message", r#"{"data":1}"#),
        ("user:typing", r#"{"room":"a"}"#),
        ("user:typing", r#"{"room":"a","typing":1}"#),
        ("user:typing", r#"{"room":"a","typing":"true"}"#),
        ("user:presence", "{}"),
        ("user:presence", r#"{"status":"asleep"}"#),
        ("user:presence", r#"{"status":"busy","text":1}"#),
        ("user:preferences", "[]"),
        ("user:preferences", &large),
        ("user:preferences", &muted(33)),
        ("user:preferences", r#"{"muted":"room:*"}"#),
        ("user:preferences", r#"{"muted":[1]}"#),
        ("user:preferences", r#"{"muted":[""]}"#),
        ("auth:login", "{}"),
        ("auth:login", r#"{"token":""}"#),
        ("auth:login", r#"{"token":"a\u002eb"}"#),
        ("auth:login", r#"{"token":1}"#),
        ("auth:login", &long_token),
        ("auth:token_refresh", r#"{"token":null}"#),
    ];
    for (kind, payload) in table {
        assert_eq!(code(&message(kind, payload)), "invalid_payload", "{kind} {payload}");
    }
    for kind in
        ["room:join", "room:message", "user:typing", "user:presence", "user:preferences", "auth:login"]
    {
        assert_eq!(code(&format!(r#"{{"type":"{kind}"}}"#)), "invalid_payload", "{kind}");
    }
    assert!(parse(&message("user:preferences", &muted(32))).is_ok());
}

#[test]
fn room_names_are_judged_wherever_they_stand() {
    let long = "a".repeat(64 * 1024);
    for name in ["", "a b", "r\u{e4}ume", r"a\u0000", &long] {
        for kind in ["room:join", "room:leave", "room:message", "user:typing"] {
            let payload = format!(r#"{{"room":"{name}","data":1,"typing":true}}"#);
            assert_eq!(code(&message(kind, &payload)), "invalid_room", "{kind}");
        }
    }
}

#[test]
fn an_error_carries_the_id_of_its_request() {
    let id = Some(RequestId::from("7"));
    let bad_room = r#"{"id":7,"type":"room:join","payload":{"room":"a b"}}"#;
    let kind = "room:join".to_owned();
    assert_eq!(parse(bad_room), Err(BadRequest::InvalidRoom { kind: kind.clone(), id: id.clone() }));
    let problem = "`room` must be a string";
    let expected = BadRequest::InvalidPayload { kind, id, problem };
    assert_eq!(parse(r#"{"id":7,"type":"room:join"}"#), Err(expected));
}

/// The text in a frame, which must be one whole text frame of exactly its capacity.
fn text_of(frame: &[u8]) -> &str {
    let (header, text) = frame.split_at(if frame[1] < 126 { 2 } else { 4 });
    let length =
        if header.len() == 2 { header[1].into() } else { u16::from_be_bytes([header[2], header[3]]) };
    assert_eq!((header[0], usize::from(length)), (0x81, text.len()));
    str::from_utf8(text).unwrap()
}

fn conn() -> ConnId {
    ConnId::new(ShardId(1), 2, 3)
}

fn position() -> Position {
    Position { stream: "user:u\"1".into(), epoch: "e1".into(), offset: 9 }
}

#[test]
fn a_greeting_names_the_connection_its_user_and_its_streams() {
    let position = position();
    check_notices(&[
        (
            Notice::Connected {
                conn: conn(),
                user: Some("u\"1"),
                server_time_ms: 5,
                ping_interval_ms: 30_000,
                streams: &[position.clone(), position.clone()],
                preferences: Some(r#"{ "a":1}"#),
            },
            r#"{"type":"system:connected","payload":{"connection_id":"0001000002000003","user_id":"u\"1","authenticated":true,"server_time":5,"ping_interval_ms":30000,"streams":[{"stream":"user:u\"1","epoch":"e1","offset":9},{"stream":"user:u\"1","epoch":"e1","offset":9}],"preferences":{ "a":1}}}"#,
        ),
        (
            Notice::Connected {
                conn: conn(),
                user: None,
                server_time_ms: 0,
                ping_interval_ms: 1,
                streams: &[],
                preferences: None,
            },
            r#"{"type":"system:connected","payload":{"connection_id":"0001000002000003","user_id":null,"authenticated":false,"server_time":0,"ping_interval_ms":1,"streams":[]}}"#,
        ),
    ]);
}

#[test]
fn each_notice_has_its_shape() {
    let position = position();
    check_notices(&[
        (Notice::Pong(Some("[1.0, -0]")), r#"{"type":"system:pong","payload":[1.0, -0]}"#),
        (Notice::Pong(None), r#"{"type":"system:pong","payload":null}"#),
        (Notice::Ok, r#"{"type":"system:ok","payload":{}}"#),
        (
            Notice::Error { code: "c", message: "a \"b\"", reference: None, retry_after_ms: None },
            r#"{"type":"system:error","payload":{"code":"c","message":"a \"b\""}}"#,
        ),
        (
            Notice::Error { code: "c", message: "m", reference: Some("room:join"), retry_after_ms: Some(3) },
            r#"{"type":"system:error","payload":{"code":"c","message":"m","ref":"room:join","retry_after_ms":3}}"#,
        ),
        (
            Notice::Draining { reconnect_after_ms: 7 },
            r#"{"type":"system:draining","payload":{"reconnect_after_ms":7}}"#,
        ),
        (
            Notice::Joined { room: "event:1", members: 2, position: None },
            r#"{"type":"room:joined","payload":{"room":"event:1","members":2}}"#,
        ),
        (
            Notice::Joined { room: "event:1", members: 2, position: Some(&position) },
            r#"{"type":"room:joined","payload":{"room":"event:1","members":2,"epoch":"e1","offset":9}}"#,
        ),
        (Notice::Left { room: "event:1" }, r#"{"type":"room:left","payload":{"room":"event:1"}}"#),
        (
            Notice::Resumed { position: &position, recovered: true, from: 1 },
            r#"{"type":"system:resumed","payload":{"stream":"user:u\"1","recovered":true,"from":1,"to":9,"epoch":"e1"}}"#,
        ),
        (
            Notice::Resync(&position),
            r#"{"type":"system:resync","payload":{"stream":"user:u\"1","epoch":"e1","offset":9}}"#,
        ),
        (
            Notice::AuthOk { user: Some("u"), expires_at_ms: Some(4) },
            r#"{"type":"auth:ok","payload":{"user_id":"u","expires_at":4}}"#,
        ),
        (
            Notice::AuthOk { user: None, expires_at_ms: None },
            r#"{"type":"auth:ok","payload":{"user_id":null}}"#,
        ),
        (
            Notice::TokenExpiring { expires_at_ms: 4 },
            r#"{"type":"auth:token_expiring","payload":{"expires_at":4}}"#,
        ),
        (Notice::Custom { kind: "my\":own", payload: "[]" }, r#"{"type":"my\":own","payload":[]}"#),
    ]);
}

fn check_notices(table: &[(Notice<'_>, &str)]) {
    for (notice, expected) in table {
        let frame = encode_notice(notice, None);
        assert_eq!(text_of(&frame), *expected);
        assert_eq!(frame.capacity(), frame.len());
        let answer = encode_notice(notice, Some(&r#""q1""#.into()));
        let expected = format!(r#"{},"id":"q1"}}"#, expected.strip_suffix('}').unwrap());
        assert_eq!(text_of(&answer), expected);
        let parsed: serde_json::Value = serde_json::from_str(&expected).unwrap();
        assert_eq!(parsed["type"], notice_kind(notice));
    }
}

fn event(kind: &str, payload: &str, position: Option<Position>) -> Event {
    Event {
        target: Target::Everyone,
        kind: kind.into(),
        payload: payload.to_owned().into(),
        form: Form::Payload,
        class: Class::Critical,
        version: None,
        position,
        except: None,
        accepted_at_ns: 0,
    }
}

#[test]
fn an_event_carries_its_payload_byte_for_byte_and_its_place() {
    let payload = r#"{"id":18446744073709551616, "x":1.00}"#;
    let stored = event("booking:confirmed", payload, Some(position()));
    let plain = r#"{"type":"booking:confirmed","payload":{"id":18446744073709551616, "x":1.00}}"#;
    let placed = r#"{"type":"booking:confirmed","payload":{"id":18446744073709551616, "x":1.00},"stream":"user:u\"1","epoch":"e1","offset":9}"#;
    assert_eq!(text_of(&encode_event(&stored, Dialect::Ticketing)), placed);
    assert_eq!(text_of(&encode_event(&stored, Dialect::Raw)), plain);
    let passing = event("booking:confirmed", payload, None);
    assert_eq!(text_of(&encode_event(&passing, Dialect::Ticketing)), plain);
}

#[test]
fn an_object_goes_to_raw_connections_as_it_is() {
    let payload = "{\"title\": \"Hi\" , \"n\":1.00}\n";
    let object = |position| Event { form: Form::Object, ..event("notification:new", payload, position) };
    let typed = format!(r#"{{"type":"notification:new","payload":{payload}"#);
    let placed = format!(r#"{typed},"stream":"user:u\"1","epoch":"e1","offset":9}}"#);
    for position in [None, Some(position())] {
        assert_eq!(text_of(&encode_event(&object(position), Dialect::Raw)), payload);
    }
    assert_eq!(text_of(&encode_event(&object(None), Dialect::Ticketing)), typed + "}");
    assert_eq!(text_of(&encode_event(&object(Some(position())), Dialect::Ticketing)), placed);
}

#[test]
fn a_message_is_sent_as_it_is_with_its_place_behind_its_own_fields() {
    let payload = "{ \"type\":\"order:paid\", \"a\":{} }\n";
    let message = |position| Event { form: Form::Message, ..event("order:paid", payload, position) };
    for position in [None, Some(position())] {
        assert_eq!(text_of(&encode_event(&message(position), Dialect::Raw)), payload);
    }
    assert_eq!(text_of(&encode_event(&message(None), Dialect::Ticketing)), payload);
    let frame = encode_event(&message(Some(position())), Dialect::Ticketing);
    let placed = r#"{ "type":"order:paid", "a":{} ,"stream":"user:u\"1","epoch":"e1","offset":9}"#;
    assert_eq!(text_of(&frame), format!("{placed}\n"));
    assert_eq!(frame.capacity(), frame.len());
}

#[test]
fn a_type_that_needs_escapes_stays_one_string() {
    let frame = encode_event(&event("a\"b\\c\n", "1", None), Dialect::Ticketing);
    assert_eq!(text_of(&frame), r#"{"type":"a\"b\\c\n","payload":1}"#);
}

#[test]
fn an_event_frame_is_exactly_as_large_as_needed() {
    for bytes in [0, 90, 100, 65_490, 65_536] {
        let payload = format!("\"{}\"", "x".repeat(bytes));
        let frame = encode_event(&event("ticket:sold", &payload, None), Dialect::Ticketing);
        assert_eq!(frame.capacity(), frame.len());
        assert!(frame.ends_with(b"x\"}") || bytes == 0);
    }
}

#[test]
fn a_room_message_names_its_sender() {
    let named = room_message_payload("event:1", Some(&Arc::from("u\"1")), conn(), r#"{ "t":1}"#, 12);
    let expected = r#"{"room":"event:1","user_id":"u\"1","connection_id":"0001000002000003","data":{ "t":1},"sent_at":12}"#;
    assert_eq!(str::from_utf8(&named), Ok(expected));
    let anonymous = room_message_payload("event:1", None, conn(), "1", 12);
    let expected =
        r#"{"room":"event:1","user_id":null,"connection_id":"0001000002000003","data":1,"sent_at":12}"#;
    assert_eq!(str::from_utf8(&anonymous), Ok(expected));
}
