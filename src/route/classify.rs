//! What a type of event means: its target in full, its class, the key of a Latest value (03 §4a).

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    event::{Class, LatestKey, QUEUE_POSITION, Target},
    stream::{fnv::fnv1a, names},
};

/// The room `user:<id>` is that user; every other target is itself.
pub fn resolve(target: Target) -> Target {
    if let Target::Room(room) = &target
        && let Some(user) = room.strip_prefix("user:")
        && !user.is_empty()
    {
        return Target::User(user.into());
    }
    target
}

/// The class of a type where the caller named none. The target is resolved, the payload valid JSON.
pub fn class_of(kind: &str, target: &Target, payload: &[u8]) -> Class {
    match kind {
        QUEUE_POSITION | "ticket:availability" | "availability-update" => {
            Class::Latest(latest_key(kind, target, payload))
        }
        "queue:admitted" => Class::Critical,
        "room:typing" | "room:user_joined" | "room:user_left" | "user:typing" | "user:presence"
        | "user:online" | "user:offline" | "user:status_change" => Class::Ephemeral,
        _ if kind.starts_with("booking:") || kind.starts_with("payment:") => Class::Critical,
        _ if kind.starts_with("notification:") && matches!(target, Target::User(_)) => Class::Critical,
        _ => Class::Ordered,
    }
}

/// What a Latest value is about: its type with the event, or the event and category, that its payload names, else
/// with its target.
pub fn latest_key(kind: &str, target: &Target, payload: &[u8]) -> LatestKey {
    let about: About<'_> = serde_json::from_slice(payload).unwrap_or_default();
    match (about.event, about.category) {
        (Some(event), Some(category)) => {
            LatestKey(fnv1a(&[kind.as_bytes(), event.get().as_bytes(), category.get().as_bytes()]))
        }
        (Some(event), None) => event_key(kind, event.get().as_bytes()),
        // No JSON value begins as such a name does.
        (None, _) => {
            let name = names::stream_of(target);
            LatestKey(fnv1a(&[kind.as_bytes(), name.as_deref().unwrap_or_default().as_bytes()]))
        }
    }
}

/// As [`latest_key`] for a payload that names no category, where its event is at hand as the JSON that stands in it.
///
/// Keys travel between instances and are kept in Redis: every build must come to the same.
pub fn event_key(kind: &str, event_json: &[u8]) -> LatestKey {
    LatestKey(fnv1a(&[kind.as_bytes(), event_json]))
}

#[derive(Default, Deserialize)]
struct About<'a> {
    #[serde(borrow, rename = "event_id", alias = "eventId")]
    event: Option<&'a RawValue>,
    #[serde(borrow, rename = "category_id", alias = "categoryId")]
    category: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> Target {
        Target::User("a".into())
    }

    fn room() -> Target {
        Target::Room("event:1".into())
    }

    #[test]
    fn types_have_the_class_of_the_table() {
        let table = [
            ("booking:confirmed", user(), Class::Critical),
            ("payment:refunded", user(), Class::Critical),
            ("notification:new", user(), Class::Critical),
            ("notification:new", room(), Class::Ordered),
            ("queue:admitted", user(), Class::Critical),
            ("room:typing", room(), Class::Ephemeral),
            ("user:status_change", room(), Class::Ephemeral),
            ("ticket:sold", room(), Class::Ordered),
            ("system:announcement", Target::Everyone, Class::Ordered),
            ("made:up", user(), Class::Ordered),
        ];
        for (kind, target, expected) in table {
            assert_eq!(class_of(kind, &target, b"{}"), expected, "{kind}");
        }
        for kind in ["booking:queue_position", "ticket:availability", "availability-update"] {
            assert!(matches!(class_of(kind, &room(), b"{}"), Class::Latest(_)), "{kind}");
        }
    }

    #[test]
    fn a_latest_value_is_about_its_event_and_category() {
        let key = |payload: &str| latest_key("ticket:availability", &room(), payload.as_bytes());
        let vip = key(r#"{"event_id":"1","category_id":"vip","left":3}"#);
        assert_eq!(vip, key(r#"{"left":2,"eventId":"1","categoryId":"vip"}"#));
        assert_ne!(vip, key(r#"{"event_id":"1","category_id":"standing"}"#));
        assert_ne!(vip, key(r#"{"event_id":"2","category_id":"vip"}"#));
        assert_ne!(vip, key(r#"{"event_id":"1"}"#));
        assert_eq!(key("[]"), key(r#"{"left":1}"#));
    }

    /// Instances of different builds share keys: these never change.
    #[test]
    fn a_key_is_the_same_in_every_build() {
        let key =
            |target: Target, payload: &str| latest_key("ticket:availability", &target, payload.as_bytes());
        let whole = key(room(), r#"{"event_id":"1","category_id":"vip"}"#);
        assert_eq!(whole, LatestKey(0x5b54_c231_86bc_26ea));
        assert_eq!(key(room(), r#"{"event_id":1}"#), LatestKey(0x6208_4cbe_98bf_d8a6));
        assert_eq!(key(user(), "{}"), LatestKey(0x73f0_91b2_19d8_ddad));
        assert_ne!(key(user(), "{}"), key(room(), "{}"));
    }

    #[test]
    fn the_room_of_a_user_is_the_user() {
        assert_eq!(resolve(Target::Room("user:a".into())), user());
        assert_eq!(resolve(Target::Room("user:".into())), Target::Room("user:".into()));
        assert_eq!(resolve(room()), room());
    }
}
