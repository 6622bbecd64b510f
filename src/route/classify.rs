//! What a type of event means: its target in full, its class, the key of a Latest value (03 §4a).

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::{Class, LatestKey, Target};

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
        "booking:queue_position" | "ticket:availability" | "availability-update" => {
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
    // Keys never leave the process: any hash that all its threads share will do.
    let mut hasher = DefaultHasher::new();
    kind.hash(&mut hasher);
    match (about.event, about.category) {
        (Some(event), Some(category)) => (event.get(), category.get()).hash(&mut hasher),
        (Some(event), None) => event.get().hash(&mut hasher),
        (None, _) => target.hash(&mut hasher),
    }
    LatestKey(hasher.finish())
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

    #[test]
    fn the_room_of_a_user_is_the_user() {
        assert_eq!(resolve(Target::Room("user:a".into())), user());
        assert_eq!(resolve(Target::Room("user:".into())), Target::Room("user:".into()));
        assert_eq!(resolve(room()), room());
    }
}
