use super::*;
use crate::metrics::REDIS_MALFORMED;

const NOW: Now = Now { mono_ns: 7, wall_ms: 9 };

/// What a message becomes: target, type, form.
fn event(channel: &str, payload: &str) -> (Target, String, Form) {
    match read(NOW, channel, payload.as_bytes()) {
        Ok(Foreign::Event(event)) => {
            assert_eq!((&event.payload[..], event.accepted_at_ns), (payload.as_bytes(), 7));
            (event.target, event.kind.to_string(), event.form)
        }
        other => panic!("{channel} {payload}: {other:?}"),
    }
}

fn to_user(id: &str) -> Target {
    Target::User(id.into())
}

fn to_room(name: &str) -> Target {
    Target::Room(name.into())
}

#[test]
fn each_channel_has_its_receivers_and_type() {
    use Form::{Message, Object, Payload};
    let table = [
        ("user_noti:user123", r#"{"title":"Hi"}"#, to_user("user123"), "notification:new", Object),
        ("user_noti:a:b", r#"{"type":"order:paid"}"#, to_user("a:b"), "order:paid", Message),
        ("user_noti:a", r#"{"type":5}"#, to_user("a"), "notification:new", Object),
        ("booking:confirmed", r#"{"userId":"u1","seat":4}"#, to_user("u1"), "booking:confirmed", Payload),
        ("booking:updated", r#"{"user_id":42}"#, to_user("42"), "booking:updated", Payload),
        ("payment:failed", r#"{"user_id":"u1","type":"x"}"#, to_user("u1"), "payment:failed", Payload),
        ("ticket:sold", r#"{"userId":"u1","eventId":"e"}"#, to_user("u1"), "ticket:sold", Payload),
        ("ticket:sold", r#"{"eventId":7}"#, to_room("event:7"), "ticket:sold", Payload),
        ("ticket:released", r#"{"event_id":"e"}"#, to_room("event:e"), "ticket:released", Payload),
        ("ticket:available", "[1]", Target::Everyone, "ticket:available", Payload),
        ("user:u1:invited", r#"{"by":"u2"}"#, to_user("u1"), "user:invited", Payload),
        ("user:a:b:invited", "1", to_user("a:b"), "user:invited", Payload),
        ("user:u1:online", "{}", to_user("u1"), "user:online", Payload),
        ("user:u1:any", r#"{"type":"notification:new"}"#, to_user("u1"), "notification:new", Message),
        ("event:1:sold", r#"{"seat":4}"#, to_room("event:1"), "ticket:sold", Payload),
        ("event:1:2:sold", "{}", to_room("event:1:2"), "ticket:sold", Payload),
        ("event:1:sold", r#"{"type":"seat:sold"}"#, to_room("event:1"), "seat:sold", Message),
        ("room:lobby:closed", "{}", to_room("lobby"), "room:closed", Payload),
        ("room:event:1:closed", "{}", to_room("event:1"), "room:closed", Payload),
        ("system:maintenance", r#"{"at":1}"#, Target::Everyone, "system:maintenance", Payload),
        ("system:a:b", "null", Target::Everyone, "system:a:b", Payload),
    ];
    for (channel, payload, target, kind, form) in table {
        assert_eq!(event(channel, payload), (target, kind.to_owned(), form), "{channel} {payload}");
        assert!(pattern_of(channel).is_some(), "{channel}");
    }
}

#[test]
fn a_position_has_the_version_that_its_body_names() {
    let version = |channel: &str, payload: &str| match read(NOW, channel, payload.as_bytes()) {
        Ok(Foreign::Event(event)) => event.version,
        other => panic!("{channel} {payload}: {other:?}"),
    };
    let body = |version: &str| format!(r#"{{"userId":"u1","eventId":"e","position":4,"version":{version}}}"#);
    for (text, expected) in [
        ("7", Some(7)),
        ("18446744073709551615", Some(u64::MAX)),
        // None, as in a call, and whatever else is no version.
        ("0", None),
        ("-1", None),
        ("1.5", None),
        ("18446744073709551616", None),
        (r#""7""#, None),
        ("null", None),
        ("{}", None),
    ] {
        assert_eq!(version("booking:queue_position", &body(text)), expected, "{text}");
    }
    assert_eq!(version("booking:queue_position", r#"{"userId":"u1"}"#), None);
    assert_eq!(version("booking:updated", &body("7")), None, "a version of something else");
    let typed = r#"{"type":"booking:queue_position","event_id":"e","version":7}"#;
    assert_eq!(version("user_noti:u1", typed), Some(7));
}

#[test]
fn presence_and_revocation_are_about_the_user_in_the_body() {
    for channel in ["user:online", "user:offline", "user:status_change"] {
        match read(NOW, channel, br#"{"userId":"u1"}"#) {
            Ok(Foreign::Presence(event)) => {
                assert_eq!((event.target, &*event.kind), (to_user("u1"), channel));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(read(NOW, "system:revoke", br#"{"userId":"u1"}"#), Ok(Foreign::Revoke("u1".into())));
}

#[test]
fn what_cannot_be_understood_is_refused_with_its_reason() {
    let long_kind = format!(r#"{{"type":"{}"}}"#, "k".repeat(KIND_BYTES_MAX + 1));
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(EVENT_BYTES_MAX));
    let table = [
        ("nonsense", "{}", Malformed::Channel),
        ("user:unheard_of", "{}", Malformed::Channel),
        ("event:1", "{}", Malformed::Channel),
        ("room:1", "{}", Malformed::Channel),
        ("order:paid", "{}", Malformed::Channel),
        ("user_noti:a", &*large, Malformed::TooLarge),
        ("user_noti:a", "", Malformed::Json),
        ("user_noti:a", "{]", Malformed::Json),
        ("user_noti:a", r#"{"a":1,"a":2}"#, Malformed::Json),
        ("user_noti:a", "[1]", Malformed::NotAnObject),
        ("user_noti:a", &*long_kind, Malformed::Type),
        ("user_noti:a", r#"{"type":""}"#, Malformed::Type),
        ("user_noti:", "{}", Malformed::User),
        ("user_noti:a\nb", "{}", Malformed::User),
        ("booking:confirmed", "{}", Malformed::User),
        ("booking:confirmed", r#"{"userId":""}"#, Malformed::User),
        ("payment:failed", "[]", Malformed::User),
        ("ticket:sold", r#"{"userId":{},"eventId":1}"#, Malformed::User),
        ("ticket:sold", r#"{"eventId":"two words"}"#, Malformed::Room),
        ("user:online", "{}", Malformed::User),
        ("user::x", "{}", Malformed::User),
        ("event:two words:sold", "{}", Malformed::Room),
        ("room::x", "{}", Malformed::Room),
        ("system:revoke", "{}", Malformed::User),
    ];
    for (channel, payload, reason) in table {
        assert_eq!(read(NOW, channel, payload.as_bytes()), Err(reason), "{channel}");
    }
    assert_eq!(read(NOW, "user_noti:a", b"\"\xff\""), Err(Malformed::Json));
    for (index, reason) in
        [Malformed::Channel, Malformed::Room].into_iter().zip([0, REDIS_MALFORMED.len() - 1])
    {
        assert_eq!(index.index(), reason);
    }
}

#[test]
fn a_channel_of_our_own_names_its_address_and_its_hash_tag() {
    let rows = [
        (Some(Address::User("alice".into()).into()), "usher:{user:alice}:live"),
        (Some(Address::User("a}:b".into()).into()), "usher:{user:a}:b}:live"),
        (Some(Address::Room("event:1".into()).into()), "usher:{room:event:1}:live"),
        (Some(Subject::Queue("e:1".into())), "usher:{queue:e:1}:live"),
        (None, "usher:{everyone}:live"),
    ];
    for (address, channel) in rows {
        assert_eq!(live("usher:", address.as_ref()), channel);
        assert_eq!(subject_of("usher:", channel), Some(address));
    }
    for other in
        ["usher:{user:a}:log", "other:{user:a}:live", "usher:{user:}:live", "usher:{x}:live", "user:a:live"]
    {
        assert_eq!(subject_of("usher:", other), None, "{other}");
    }
}
