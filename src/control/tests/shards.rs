//! What shards say and are told.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::*;
use crate::{
    control::gateway::{Publication, PublishError, Stats},
    event::{Class, Denial, Form, Refusal, Target},
    limits::{EVENT_BYTES_MAX, TO_SHARD_BYTES_MAX},
};

fn text(event: &Event) -> &str {
    std::str::from_utf8(&event.payload).unwrap()
}

#[tokio::test]
async fn who_was_told_of_a_join_gets_the_next_broadcast() {
    let mut world = World::start(|_| ());
    for n in 1..=100 {
        world.shards[1].joined("event:1", n);
        let receipt = world.gateway.broadcast("event:1", "ticket:sold", "{}").await.unwrap();
        assert_eq!(receipt.delivered_connections, n);
        assert_eq!(&*world.shards[1].delivered().await.kind, "ticket:sold");
    }
    assert!(world.shards[0].is_silent());
}

#[tokio::test]
async fn a_mailbox_takes_so_many_bytes_of_payloads() {
    let mut world = World::with_mailboxes(1_024, |_| ());
    world.shards[1].joined("event:1", 1);
    let payload = Bytes::from(format!("\"{}\"", "x".repeat(EVENT_BYTES_MAX - 2)));
    let send = |world: &World| {
        let gateway = world.gateway.clone();
        let payload = payload.clone();
        async move { gateway.broadcast("event:1", "ticket:sold", payload).await }
    };
    for _ in 0..TO_SHARD_BYTES_MAX / EVENT_BYTES_MAX {
        send(&world).await.unwrap();
    }
    let refused = send(&world).await.unwrap_err();
    assert!(matches!(refused, PublishError::Refused(Refusal::Overloaded { .. })), "{refused}");
    world.shards[1].delivered().await;
    send(&world).await.unwrap();
}

#[tokio::test]
async fn a_user_is_admitted_with_the_head_of_the_stream() {
    let mut world = World::start(|settings| settings.limits.connections_per_user_max = 1);
    world.gateway.send_to_user("a", "booking:created", "{}").await.unwrap();
    let first = world.shards[0].admit(0, "a");
    match world.shards[0].next().await {
        ToShard::Admitted { conn, position: Some(position) } => {
            assert_eq!((conn, &*position.stream, position.offset), (first, "user:a", 1));
        }
        other => panic!("{other:?}"),
    }
    let second = world.shards[1].admit(1, "a");
    match world.shards[1].next().await {
        ToShard::Denied { conn, denial, .. } => {
            assert_eq!((conn, denial), (second, Denial::TooManyConnections));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_message_of_a_client_is_routed_and_answered_where_asked() {
    let mut world = World::start(|_| ());
    world.shards[1].joined("chat", 2);
    let event = Publication::new(Target::Room("chat".into()), "room:message", r#"{"data":1}"#);
    let conn = world.shards[0].admit(0, "a");
    for request in [Some("7".into()), None] {
        let event = Event {
            target: event.target.clone(),
            kind: event.kind.as_ref().into(),
            payload: event.payload.clone(),
            form: Form::Payload,
            class: Class::Ordered,
            version: None,
            position: None,
            except: None,
            accepted_at_ns: 1,
        };
        world.shards[0].say(ToControl::Publish { conn, request, event: Box::new(event) });
        assert_eq!(text(&*world.shards[1].delivered().await), r#"{"data":1}"#);
    }
    assert!(matches!(world.shards[0].next().await, ToShard::Admitted { .. }));
    match world.shards[0].next().await {
        ToShard::Published { request, outcome, .. } => {
            assert_eq!((request.as_deref(), outcome.unwrap().delivered_connections), (Some("7"), 2));
        }
        other => panic!("{other:?}"),
    }
    assert!(world.shards[0].is_silent());
}

#[tokio::test]
async fn a_full_mailbox_refuses_the_call_and_frees_it_later() {
    let mut world = World::with_mailboxes(1, |_| ());
    world.shards[0].joined("r", 1);
    let broadcast = || world.gateway.broadcast("r", "ticket:sold", "{}");
    assert!(broadcast().await.is_ok());
    let refused = broadcast().await.unwrap_err();
    assert!(matches!(refused, PublishError::Refused(Refusal::Overloaded { retry_after_ms: 100 })));
    world.shards[0].delivered().await;
    assert!(world.gateway.broadcast("r", "ticket:sold", "{}").await.is_ok());
}

#[tokio::test]
async fn what_must_arrive_waits_for_room_in_order() {
    let mut world = World::with_mailboxes(1, |_| ());
    world.shards[0].lagging.store(true, Ordering::Release);
    for user in ["a", "b", "c"] {
        world.gateway.disconnect_user(user).await.unwrap();
    }
    let refused = world.gateway.send_to_user("a", "booking:created", "{}").await;
    assert!(refused.is_err(), "a delivery must not overtake what waits");
    for expected in ["a", "b", "c"] {
        match world.shards[0].next().await {
            ToShard::Disconnect { user } => assert_eq!(&*user, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_lagging_shard_gets_what_it_may_hold() {
    let mut world = World::start(|_| ());
    world.shards[1].lagging.store(true, Ordering::Release);
    let receipt = world.gateway.send_to_user("a", "booking:created", "{}").await.unwrap();
    assert_eq!(receipt.delivered_connections, 0);
    assert_eq!(world.shards[1].delivered().await.position, receipt.position);
    assert!(world.shards[0].is_silent());
}

#[tokio::test]
async fn a_certificate_reaches_every_shard() {
    let mut world = World::start(|_| ());
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
    world.gateway.use_certificate(Arc::new(config)).await;
    for shard in &mut world.shards {
        assert!(matches!(shard.next().await, ToShard::Certificate(_)));
    }
}

#[tokio::test]
async fn counts_are_those_of_all_shards() {
    let world = World::start(|_| ());
    for (index, shard) in world.shards.iter().enumerate() {
        shard.joined("r", 2);
        shard.admit(index as u16, "a");
        shard.say(ToControl::UnknownKey);
        world.status.cells[index].connections.set(3);
        world.status.cells[index].connections_authenticated.set(1);
    }
    let expected = Stats {
        queues: Vec::new(),
        connections: 6,
        authenticated: 2,
        users: 1,
        room_count: 1,
        rooms: vec![("r".into(), 4)],
        per_core: vec![3, 3],
    };
    assert_eq!(world.gateway.stats().await.unwrap(), expected);
    assert_eq!(world.status.control.unknown_keys.get(), 2);
}

#[tokio::test]
async fn rooms_on_several_shards_are_told_their_count() {
    let mut world = World::with_mailboxes(8_192, |_| ());
    world.shards[0].joined("r", 2);
    world.shards[1].joined("r", 3);
    for (shard, elsewhere) in world.shards.iter_mut().zip([3, 2]) {
        match shard.next().await {
            ToShard::RoomCount { room, others } => assert_eq!((&*room, others), ("r", elsewhere)),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_join_is_answered_before_what_follows_it() {
    let mut world = World::start(|settings| settings.streams.rooms = vec!["sale:*".into()]);
    world.gateway.broadcast("sale:1", "booking:created", "1").await.unwrap();
    let conn = ConnId::new(ShardId(1), 0, 7);
    let room = "sale:1".into();
    world.shards[1].say(ToControl::Join { conn, attempt: 4, room, members: 1, newcomer: true });
    world.gateway.broadcast("sale:1", "booking:created", "2").await.unwrap();
    match world.shards[1].next().await {
        ToShard::JoinDecided { attempt: 4, outcome: Ok(entry), .. } => {
            assert_eq!((entry.members, entry.position.unwrap().offset), (1, 1));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.shards[1].delivered().await.position.as_ref().unwrap().offset, 2);
}

#[tokio::test]
async fn comings_and_goings_are_announced_in_the_order_that_shards_tell_them() {
    let mut world = World::with_mailboxes(8_192, |_| ());
    world.shards[0].joined("lobby", 1);
    let conn = ConnId::new(ShardId(1), 0, 7);
    for present in [true, false] {
        let (room, user) = ("lobby".into(), "ann".into());
        world.shards[1].say(ToControl::Present { room, user, present, conn });
    }
    for kind in ["room:user_joined", "user:online", "room:user_left"] {
        let event = world.shards[0].delivered().await;
        assert_eq!((&*event.kind, text(&event)), (kind, r#"{"room":"lobby","user_id":"ann"}"#));
        assert_eq!((event.except, &event.class), (Some(conn), &Class::Ephemeral));
    }
}

#[tokio::test]
async fn everyone_is_counted_by_open_connections() {
    let mut world = World::start(|_| ());
    world.status.cells[0].connections.set(4);
    world.status.cells[1].connections.set(5);
    let publication = Publication::new(Target::Everyone, "system:announcement", Bytes::from_static(b"{}"));
    let receipt = world.gateway.publish(publication).await.unwrap();
    assert_eq!(receipt.delivered_connections, 9);
    for shard in &mut world.shards {
        assert_eq!(&*shard.delivered().await.kind, "system:announcement");
    }
}

/// Its client was told "joined" while the mailbox was full: the shard may say so between control's look at the mailbox
/// and the call.
#[tokio::test]
async fn a_shard_that_catches_up_meanwhile_misses_nothing() {
    let mut world = World::with_mailboxes(4_096, |_| ());
    let (to, lagging) = (world.shards[1].to_control.clone(), world.shards[1].lagging.clone());
    let address = |room: String| Address::Room(room.into());
    let (told, full) = std::sync::mpsc::sync_channel(0);
    let (again, round) = std::sync::mpsc::sync_channel(0);
    let shard = std::thread::spawn(move || {
        while let Ok(number) = round.recv() {
            let filler = |n| ToControl::Members { address: address(format!("filler:{n}")), count: number };
            assert!((0..10_000).any(|n| to.try_send(filler(n)).is_err()), "the mailbox is bounded");
            lagging.store(true, Ordering::Release);
            told.send(()).unwrap();
            let mut late = ToControl::Members { address: address(format!("room:{number}")), count: 1 };
            while let Err(back) = to.try_send(late) {
                late = back;
            }
            lagging.store(false, Ordering::Release);
        }
    });
    // As many messages as take control longer to hear than the shard to wake up.
    for number in 1..=50 {
        again.send(number).unwrap();
        full.recv().unwrap();
        world.gateway.broadcast(&format!("room:{number}"), "ticket:sold", "{}").await.unwrap();
        let got = std::iter::from_fn(|| world.shards[1].inbox.try_recv());
        assert!(got.filter(|message| matches!(message, ToShard::Deliver(_))).count() == 1, "round {number}");
        while world.shards[0].inbox.try_recv().is_some() {}
    }
    drop(again);
    shard.join().unwrap();
}

#[tokio::test]
async fn a_client_whose_message_is_refused_learns_of_it_without_an_id_too() {
    let mut world = World::with_mailboxes(1, |_| ());
    world.shards[1].joined("chat", 1);
    let conn = ConnId::new(ShardId(0), 0, 7);
    for class in [Class::Ordered, Class::Ephemeral, Class::Ordered] {
        let event = Event {
            target: Target::Room("chat".into()),
            kind: "room:message".into(),
            payload: Bytes::from_static(b"{}"),
            form: Form::Payload,
            class,
            version: None,
            position: None,
            except: None,
            accepted_at_ns: 1,
        };
        world.shards[0].say(ToControl::Publish { conn, request: None, event: Box::new(event) });
    }
    match world.shards[0].next().await {
        ToShard::Published { request: None, outcome: Err(Refusal::Overloaded { .. }), .. } => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(&*world.shards[1].delivered().await.kind, "room:message");
    assert!(world.shards[0].is_silent() && world.shards[1].is_silent());
}
