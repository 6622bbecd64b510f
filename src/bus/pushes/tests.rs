use redis::Value;
use tokio::time::timeout;

use super::*;
use crate::{bus::Foreign, limits::HEARD_MAX};

struct Wire {
    pushes: Pushes,
    heard: queue::Receiver<Heard>,
    ended: mpsc::Receiver<Subject>,
    status: Arc<Status>,
}

impl Wire {
    fn new() -> Self {
        let status = Arc::new(Status::new(1, Now { mono_ns: 0, wall_ms: 0 }));
        let (to, heard) = queue::bounded(HEARD_MAX, 1 << 20);
        let (pushes, ended) = Pushes::new(to, status.clone(), "usher:".into());
        Self { pushes, heard, ended, status }
    }

    fn push(&self, kind: PushKind, words: &[&str]) {
        let data = words.iter().map(|word| Value::BulkString(word.as_bytes().to_vec())).collect();
        assert!(self.pushes.send(PushInfo { kind, data }).is_ok());
    }

    /// Whether the session was given up.
    async fn is_lost(&self) -> bool {
        timeout(Duration::ZERO, self.pushes.lost()).await.is_ok()
    }
}

fn alice() -> Subject {
    Subject::Address(crate::event::Address::User("alice".into()))
}

#[tokio::test]
async fn each_push_is_heard_as_what_it_is() {
    let mut wire = Wire::new();
    wire.push(PushKind::Subscribe, &["usher:{user:alice}:live", "1"]);
    wire.push(PushKind::Subscribe, &["usher:{everyone}:live", "2"]);
    wire.push(PushKind::Message, &["usher:{user:alice}:live", "E one"]);
    wire.push(PushKind::SMessage, &["usher:{user:alice}:live", "E two"]);
    wire.push(PushKind::PMessage, &["user_noti:*", "user_noti:alice", "{}"]);
    wire.push(PushKind::PMessage, &["system:*", "system:revoke", r#"{"userId":"alice"}"#]);
    assert_eq!(wire.heard.try_recv(), Some(Heard::Subscribed(alice())));
    assert_eq!(wire.heard.try_recv(), Some(Heard::Shared("E one".into())));
    assert_eq!(wire.heard.try_recv(), Some(Heard::Shared("E two".into())));
    assert!(matches!(wire.heard.try_recv(), Some(Heard::Foreign(Foreign::Event(_)))));
    assert_eq!(wire.heard.try_recv(), Some(Heard::Foreign(Foreign::Revoke("alice".into()))));
    assert_eq!(wire.heard.try_recv(), None);
    let cells = &wire.status.control.redis;
    assert_eq!((cells.shared_heard.get(), cells.heard[0].get(), cells.heard[7].get()), (2, 1, 1));
    assert!(!wire.is_lost().await);
}

#[tokio::test]
async fn malformed_messages_are_counted_by_reason_and_end_nothing() {
    let mut wire = Wire::new();
    wire.push(PushKind::PMessage, &["user_noti:*", "user_noti:alice", "{]"]);
    wire.push(PushKind::PMessage, &["booking:*", "booking:confirmed", "{}"]);
    wire.push(PushKind::PMessage, &["user:*", "user:what", "{}"]);
    wire.push(PushKind::PMessage, &[]);
    let malformed = |reason: Malformed| wire.status.control.redis.malformed[reason.index()].get();
    assert_eq!(
        (malformed(Malformed::Json), malformed(Malformed::User), malformed(Malformed::Channel)),
        (1, 1, 2)
    );
    assert_eq!(wire.heard.try_recv(), None);
    assert!(!wire.is_lost().await);
}

#[tokio::test]
async fn foreign_messages_leave_room_to_our_own_and_are_counted_when_lost() {
    let wire = Wire::new();
    let fit = HEARD_MAX - HEARD_RESERVE;
    for _ in 0..fit + 3 {
        wire.push(PushKind::PMessage, &["user_noti:*", "user_noti:alice", "{}"]);
    }
    assert_eq!(wire.status.control.redis.dropped.get(), 3);
    for _ in 0..HEARD_RESERVE {
        wire.push(PushKind::Message, &["usher:{user:alice}:live", ""]);
    }
    assert!(!wire.is_lost().await);
    wire.push(PushKind::Message, &["usher:{user:alice}:live", ""]);
    assert!(wire.is_lost().await, "what instances share is never lost unnoticed");
    assert_eq!(wire.status.control.redis.overflows.get(), 1);
}

#[tokio::test]
async fn bytes_bound_what_waits_as_well() {
    let wire = Wire::new();
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(200 << 10));
    for _ in 0..10 {
        wire.push(PushKind::PMessage, &["user_noti:*", "user_noti:alice", &large]);
    }
    assert_eq!(wire.status.control.redis.dropped.get(), 4, "six of 200 KiB are more than 1 MiB");
}

#[tokio::test]
async fn the_end_of_a_connection_or_of_a_subscription_is_told() {
    let mut wire = Wire::new();
    wire.push(PushKind::SUnsubscribe, &["usher:{user:alice}:live", "0"]);
    assert_eq!(wire.ended.try_recv(), Ok(alice()));
    assert!(!wire.is_lost().await);
    wire.push(PushKind::Disconnection, &[]);
    assert!(wire.is_lost().await);
}

#[test]
fn each_push_begins_the_count_of_bytes_anew() {
    let wire = Wire::new();
    wire.pushes.unread().store(9, Ordering::Relaxed);
    wire.push(PushKind::PMessage, &["user:*", "user:what", "{}"]);
    assert_eq!(wire.pushes.unread().load(Ordering::Relaxed), 0);
}
