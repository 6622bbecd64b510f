use std::collections::HashSet;

use super::*;
use crate::{
    event::{Receipt, Refusal},
    handler::Reply,
    hub::CustomMessage,
    limits::{BAD_MESSAGES_MAX, RATE_VIOLATIONS_MAX},
};

#[test]
fn a_ping_comes_back_with_its_payload() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    let pong = r#"{"type":"system:pong","payload":{"t": 1},"id":7}"#;
    assert_eq!(scene.ask(conn, r#"{"type":"system:ping","id":7,"payload":{"t": 1}}"#), [pong]);
    scene.handle(Input::Ping { conn, payload: b"old" });
    scene.handle(Input::Ping { conn, payload: b"new" });
    assert_eq!(scene.read(conn), ["pong old", "pong new"]);
}

#[test]
fn a_pong_that_stands_for_others_answers_the_latest_ping() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    scene.read(conn);
    for n in 0..40 {
        scene.handle(Input::Ping { conn, payload: format!("{n}").as_bytes() });
    }
    let frames = scene.read(conn);
    assert_eq!((frames.len(), frames.first().unwrap().as_str()), (16, "pong 0"));
    assert_eq!(frames.last().unwrap(), "pong 39");
}

#[test]
fn a_pong_waits_for_what_is_queued_and_not_for_a_reply_that_is_still_to_come() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    scene.join(conn, "a");
    scene.read(conn);
    scene.say(conn, r#"{"type":"system:ping"}"#);
    let publish = r#"{"type":"room:message","id":1,"payload":{"room":"a","data":1}}"#;
    scene.say(conn, publish);
    scene.handle(Input::Ping { conn, payload: b"now" });
    let (request, outcome) = (Some("1".into()), Ok(Receipt::default()));
    scene.handle(Input::Published { conn, request, outcome });
    let frames = scene.read(conn);
    assert_eq!(frames.len(), 3, "{frames:?}");
    assert!(frames[0].contains("system:pong") && frames[1] == "pong now" && frames[2].contains("system:ok"));
}

#[test]
fn what_is_not_understood_is_answered_and_the_tenth_closes() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    let bad =
        ["{", "[]", r#"{"type":7}"#, r#"{"type":"room:join","id":1}"#, r#"{"type":"nobody:knows","id":2}"#];
    let codes = ["invalid_json", "invalid_json", "invalid_message", "invalid_payload", "unknown_type"];
    for (text, code) in bad.iter().zip(codes) {
        assert_one(&scene.ask(conn, text), &["system:error", code]);
    }
    for _ in codes.len()..usize::from(BAD_MESSAGES_MAX) - 1 {
        assert_one(&scene.ask(conn, "?"), &["invalid_json"]);
    }
    let frames = scene.ask(conn, "?");
    assert!(frames[0].contains("invalid_json") && frames[1].starts_with("close 4400"), "{frames:?}");
    assert_eq!(scene.cells.bad_messages.get(), u64::from(BAD_MESSAGES_MAX));
}

#[test]
fn a_few_bad_messages_a_minute_are_forgiven() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    for _ in 0..40 {
        scene.pass(Duration::from_secs(7));
        assert!(scene.ask(conn, "?").concat().contains("invalid_json"));
    }
    assert!(scene.ask(conn, r#"{"type":"system:ping"}"#).concat().contains("pong"));
}

#[test]
fn what_a_raw_client_sends_counts_too_and_is_refused_without_a_word() {
    let mut scene = Scene::with(|settings| settings.limits.messages_max = 2);
    let conn = scene.raw(0);
    for _ in 1..2 + RATE_VIOLATIONS_MAX {
        assert!(scene.ask(conn, "hello").is_empty());
    }
    assert_one(&scene.ask(conn, "hello"), &["close 4429"]);
    assert_eq!(scene.cells.rate_limited.get(), u64::from(RATE_VIOLATIONS_MAX));
}

#[test]
fn messages_beyond_the_rate_are_refused_and_the_fifth_closes() {
    let mut scene = Scene::with(|settings| settings.limits.messages_max = 10);
    let conn = scene.anonymous(0);
    for _ in 0..5 {
        scene.handle(Input::Ping { conn, payload: b"" });
        scene.say(conn, r#"{"type":"system:ping"}"#);
    }
    scene.read(conn);
    let refused = scene.ask(conn, r#"{"type":"system:ping","id":3}"#);
    assert_one(
        &refused,
        &["rate_limited", r#""retry_after_ms":6000"#, r#""id":3"#, r#""ref":"system:ping""#],
    );
    scene.pass(Duration::from_secs(6));
    assert!(scene.ask(conn, r#"{"type":"system:ping"}"#).concat().contains("pong"), "refilled by one");
    for _ in 2..RATE_VIOLATIONS_MAX {
        assert_one(&scene.ask(conn, "not even JSON"), &["rate_limited"]);
    }
    scene.handle(Input::Ping { conn, payload: b"" });
    let frames = scene.read(conn);
    assert!(frames[0].contains("rate_limited") && frames[1].starts_with("close 4429"), "{frames:?}");
    assert_eq!(scene.cells.rate_limited.get(), 5);
}

#[test]
fn a_receipt_tells_what_control_said() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    let table = [
        (Ok(Receipt::default()), "system:ok"),
        (Err(Refusal::Overloaded { retry_after_ms: 50 }), r#""retry_after_ms":50"#),
        (Err(Refusal::Draining), r#""code":"draining""#),
    ];
    for (outcome, part) in table {
        scene.handle(Input::Published { conn, request: Some("9".into()), outcome });
        assert_one(&scene.read(conn), &[part, r#""id":9"#]);
    }
}

#[test]
fn muted_types_are_not_sent() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    let preferences = r#"{"type":"user:preferences","id":1,"payload":{"muted":["ticket:*"],"colour":"red"}}"#;
    assert_one(&scene.ask(conn, preferences), &["system:ok", r#""id":1"#]);
    scene.deliver(&event(Target::Everyone, "1"));
    assert_eq!(scene.read(conn), [""; 0]);
    scene.deliver(&Event { kind: "system:announcement".into(), ..event(Target::Everyone, "1") });
    assert_eq!(scene.read(conn).len(), 1);
    scene.ask(conn, r#"{"type":"user:preferences","payload":{}}"#);
    scene.deliver(&event(Target::Everyone, "1"));
    assert_eq!(scene.read(conn).len(), 1);
}

#[test]
fn what_needs_no_answer_gets_none() {
    let mut scene = Scene::new();
    let conn = scene.user(0, "ann");
    scene.join(conn, "a");
    let texts = [
        r#"{"type":"socket:connect"}"#,
        r#"{"type":"socket:disconnect","id":1}"#,
        r#"{"type":"user:presence","payload":{"status":"away"}}"#,
        r#"{"type":"user:typing","payload":{"room":"a","typing":true}}"#,
    ];
    for text in texts {
        assert_eq!((scene.ask(conn, text), scene.take()), (vec![], vec![]), "{text}");
    }
}

fn custom() -> Scene {
    let kinds = HashSet::from(["poll:vote".into()]);
    Scene::with_custom(CustomTypes { kinds, raw: true }, |_| {})
}

#[test]
fn registered_types_go_to_their_handler() {
    let mut scene = custom();
    let conn = scene.user(0, "ann");
    scene.say(conn, r#"{"type":"poll:vote","id":1,"payload":[1]}"#);
    let message = CustomMessage::Typed { kind: "poll:vote".into(), payload: "[1]".into() };
    let (user, request) = (Some("ann".into()), Some("1".into()));
    assert_eq!(scene.take(), [Output::Custom { conn, user, request, message }]);
    let replies = [
        (
            Reply::Typed { kind: "poll:ok".into(), payload: "2".into() },
            r#"{"type":"poll:ok","payload":2,"id":1}"#,
        ),
        (Reply::Typed { kind: "poll:ok".into(), payload: "}".into() }, r#""code":"internal""#),
        (Reply::Error { code: "late".into(), message: "closed".into() }, r#""code":"late""#),
        (Reply::Text("as it is".into()), "as it is"),
        (Reply::Binary(vec![1, 2]), "binary [1, 2]"),
    ];
    for (reply, part) in replies {
        scene.handle(Input::Reply { conn, request: Some("1".into()), reply });
        assert_one(&scene.read(conn), &[part]);
    }
}

#[test]
fn raw_messages_go_to_a_handler_if_there_is_one() {
    let mut scene = custom();
    let conn = scene.raw(0);
    scene.say(conn, "anything");
    scene.handle(Input::Binary { conn, bytes: &[1] });
    let custom = |message| Output::Custom { conn, user: None, request: None, message };
    let expected =
        [custom(CustomMessage::Text("anything".into())), custom(CustomMessage::Binary([1].into()))];
    assert_eq!(scene.take(), expected);
    let reply = Reply::Typed { kind: "x".into(), payload: "[2]".into() };
    scene.handle(Input::Reply { conn, request: None, reply });
    assert_eq!(scene.read(conn), ["[2]"]);
    let mut scene = Scene::new();
    let conn = scene.raw(0);
    scene.say(conn, "{");
    scene.handle(Input::Binary { conn, bytes: &[1] });
    assert_eq!((scene.take(), scene.read(conn)), (vec![], vec![]));
}

#[test]
fn a_binary_message_is_no_ticketing() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    scene.handle(Input::Binary { conn, bytes: &[1] });
    assert!(scene.read(conn)[0].starts_with("close 1003"));
}

#[test]
fn messages_are_counted_by_type() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    scene.ask(conn, r#"{"type":"system:ping"}"#);
    scene.ask(conn, "?");
    let received = |kind| scene.cells.received.0[crate::metrics::kind_index(kind)].get();
    let sent = |kind| scene.cells.sent.0[crate::metrics::kind_index(kind)].get();
    assert_eq!((received("system:ping"), received("other")), (1, 1));
    assert_eq!((sent("system:connected"), sent("system:pong"), sent("system:error")), (1, 1, 1));
}
