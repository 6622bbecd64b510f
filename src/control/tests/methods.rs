//! The gRPC methods, through a real client.

use prost_types::{Struct, Value, value::Kind};
use tonic::Code;

use super::*;
use crate::{
    event::{Class, Target},
    generated::realtime::{
        BroadcastEventRequest, DisconnectUserRequest, GetConnectionStatsRequest, NotifyBookingResultRequest,
        NotifyPaymentStatusRequest, NotifyQueuePositionRequest, NotifyResponse, PositionUpdates,
        PublishRequest, SendToUserRequest, broadcast_event_request, publish_request::Notification,
        publish_response, send_to_user_request,
    },
};

fn booking(key: &str, reference: &str) -> NotifyBookingResultRequest {
    NotifyBookingResultRequest {
        user_id: "a".into(),
        booking_id: "b".into(),
        success: true,
        booking_reference: reference.into(),
        idempotency_key: key.into(),
        ..Default::default()
    }
}

fn shown(event: &Event) -> (&str, &str, &Target) {
    (&event.kind, std::str::from_utf8(&event.payload).unwrap(), &event.target)
}

/// A world in which user `a` is on shard 0 and room `event:1` has three members there.
async fn world() -> (World, RealtimeServiceClient<Channel>) {
    let world = World::start(|_| ());
    world.shards[0].admit(0, "a");
    world.shards[0].joined("event:1", 3);
    let client = world.client().await;
    (world, client)
}

#[tokio::test]
async fn a_booking_result_is_stored_and_delivered() {
    let (mut world, mut client) = world().await;
    let response = client.notify_booking_result(booking("", "BK1")).await.unwrap().into_inner();
    let event = world.shards[0].delivered().await;
    let payload = r#"{"booking_id":"b","booking_reference":"BK1"}"#;
    assert_eq!(shown(&event), ("booking:confirmed", payload, &Target::User("a".into())));
    assert_eq!(event.class, Class::Critical);
    let expected = NotifyResponse {
        success: true,
        delivered_connections: 1,
        stream: "user:a".into(),
        offset: 1,
        epoch: event.position.as_ref().unwrap().epoch.as_ref().into(),
        ..Default::default()
    };
    assert_eq!(response, expected);
}

#[tokio::test]
async fn a_position_is_latest_and_its_version_counts() {
    let (mut world, mut client) = world().await;
    let position = |position, version| NotifyQueuePositionRequest {
        user_id: "a".into(),
        event_id: "1".into(),
        position,
        version,
        ..Default::default()
    };
    let response = client.notify_queue_position(position(9, 2)).await.unwrap().into_inner();
    assert_eq!((response.delivered_connections, response.offset), (1, 0));
    let event = world.shards[0].delivered().await;
    let payload = r#"{"event_id":"1","position":9,"version":2}"#;
    assert_eq!(shown(&event), ("booking:queue_position", payload, &Target::User("a".into())));
    assert!(matches!(event.class, Class::Latest(_)));
    let response = client.notify_queue_position(position(10, 1)).await.unwrap().into_inner();
    assert_eq!((response.success, response.delivered_connections), (true, 0));
}

#[tokio::test]
async fn a_payment_status_is_a_type() {
    let (mut world, mut client) = world().await;
    let request = NotifyPaymentStatusRequest {
        user_id: "a".into(),
        payment_id: "p".into(),
        status: "refunded".into(),
        amount: "9.50".into(),
        ..Default::default()
    };
    client.notify_payment_status(request).await.unwrap();
    let event = world.shards[0].delivered().await;
    let payload = r#"{"payment_id":"p","status":"refunded","amount":"9.50"}"#;
    assert_eq!(shown(&event), ("payment:refunded", payload, &Target::User("a".into())));
}

#[tokio::test]
async fn a_broadcast_reaches_a_room_and_a_message_a_user() {
    let (mut world, mut client) = world().await;
    let left = Value { kind: Some(Kind::NumberValue(12.0)) };
    let fields = Struct { fields: [("left".to_string(), left)].into() };
    let request = BroadcastEventRequest {
        room: "event:1".into(),
        event_type: "ticket:sold".into(),
        body: Some(broadcast_event_request::Body::Payload(fields)),
        ..Default::default()
    };
    let response = client.broadcast_event(request).await.unwrap().into_inner();
    assert_eq!((response.delivered_connections, response.stream), (3, String::new()));
    let event = world.shards[0].delivered().await;
    assert_eq!(shown(&event), ("ticket:sold", r#"{"left":12}"#, &Target::Room("event:1".into())));

    let request = SendToUserRequest {
        user_id: "a".into(),
        event_type: "notification:new".into(),
        body: Some(send_to_user_request::Body::PayloadJson(b"{ \"n\": 1.0 }".to_vec())),
        ..Default::default()
    };
    let response = client.send_to_user(request).await.unwrap().into_inner();
    assert_eq!((response.stream.as_str(), response.offset), ("user:a", 1));
    let event = world.shards[0].delivered().await;
    assert_eq!(shown(&event), ("notification:new", "{ \"n\": 1.0 }", &Target::User("a".into())));
}

#[tokio::test]
async fn a_repeated_key_gets_the_first_answer_and_another_body_an_error() {
    let (_world, mut client) = world().await;
    let first = client.notify_booking_result(booking("k", "BK1")).await.unwrap().into_inner();
    let again = client.notify_booking_result(booking("k", "BK1")).await.unwrap().into_inner();
    assert_eq!((first.offset, again), (1, first));
    let other = client.notify_booking_result(booking("k", "BK2")).await.unwrap_err();
    assert_eq!(other.code(), Code::AlreadyExists);
}

#[tokio::test]
async fn what_is_wrong_is_named_and_counted() {
    let (world, mut client) = world().await;
    let request = BroadcastEventRequest { event_type: "t".into(), ..Default::default() };
    let refused = client.broadcast_event(request).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "`room` is required"));
    let not_json = SendToUserRequest {
        user_id: "a".into(),
        event_type: "t".into(),
        body: Some(send_to_user_request::Body::PayloadJson(b"{]".to_vec())),
        ..Default::default()
    };
    let refused = client.send_to_user(not_json).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().starts_with("`payload_json` must be JSON"), "{}", refused.message());
    let methods = &world.status.control.methods;
    let counted = [3, 4].map(|method: usize| methods[method].by_code[Code::InvalidArgument as usize].get());
    assert_eq!(counted, [1, 1]);
}

#[tokio::test]
async fn an_overloaded_gateway_says_when_to_come_back() {
    let mut world = World::with_mailboxes(1, |_| ());
    world.shards[0].joined("r", 1);
    let mut client = world.client().await;
    let request =
        BroadcastEventRequest { room: "r".into(), event_type: "ticket:sold".into(), ..Default::default() };
    client.broadcast_event(request.clone()).await.unwrap();
    let refused = client.broadcast_event(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(refused.metadata().get("grpc-retry-pushback-ms").unwrap(), "100");
    world.shards[0].delivered().await;
    assert!(world.shards[0].is_silent());
}

#[tokio::test]
async fn stats_and_disconnection_speak_of_the_same_people() {
    let (mut world, mut client) = world().await;
    world.status.cells[0].connections.set(3);
    let stats = client.get_connection_stats(GetConnectionStatsRequest {}).await.unwrap().into_inner();
    assert_eq!((stats.total_connections, stats.unique_users), (3, 1));
    assert_eq!((stats.rooms["event:1"], stats.connections_per_core), (3, vec![3, 0]));

    let request = DisconnectUserRequest { user_id: "a".into(), reason: "fraud".into() };
    let response = client.disconnect_user(request).await.unwrap().into_inner();
    assert_eq!(response.disconnected_connections, 1);
    assert!(matches!(world.shards[0].next().await, ToShard::Admitted { .. }));
    match world.shards[0].next().await {
        ToShard::Disconnect { user } => assert_eq!(&*user, "a"),
        other => panic!("{other:?}"),
    }
    let nobody = client.disconnect_user(DisconnectUserRequest::default()).await.unwrap_err();
    assert_eq!(nobody.message(), "`user_id` is required");
}

#[tokio::test]
async fn a_message_beyond_four_mebibytes_is_refused() {
    let (_world, mut client) = world().await;
    let request = SendToUserRequest {
        user_id: "a".into(),
        event_type: "t".into(),
        body: Some(send_to_user_request::Body::PayloadJson(vec![b' '; 5 << 20])),
        ..Default::default()
    };
    assert_eq!(client.send_to_user(request).await.unwrap_err().code(), Code::ResourceExhausted);
}

fn pushed(count: u64) -> PositionUpdates {
    let position = |version| NotifyQueuePositionRequest {
        user_id: "a".into(),
        event_id: "1".into(),
        position: count - version,
        version,
        ..Default::default()
    };
    PositionUpdates { positions: (1..=count).map(position).collect() }
}

#[tokio::test]
async fn pushed_positions_wait_for_room_in_a_mailbox() {
    let mut world = World::with_mailboxes(1, |_| ());
    world.shards[0].admit(0, "a");
    assert!(matches!(world.shards[0].next().await, ToShard::Admitted { .. }));
    let mut client = world.client().await;
    let stream = tokio_stream::iter([pushed(5)]);
    let pushing = tokio::spawn(async move { client.push_queue_positions(stream).await });
    for version in 1..=5 {
        assert_eq!(world.shards[0].delivered().await.version, Some(version));
    }
    let summary = pushing.await.unwrap().unwrap().into_inner();
    assert_eq!((summary.accepted, summary.refused), (5, 0));
}

#[tokio::test]
async fn pushed_positions_that_find_no_room_for_long_are_refused_and_counted() {
    let world = World::with_mailboxes(1, |_| ());
    world.shards[0].admit(0, "a");
    let mut client = world.client().await;
    let summary = client.push_queue_positions(tokio_stream::iter([pushed(5)])).await.unwrap().into_inner();
    assert_eq!((summary.accepted, summary.refused), (0, 5), "the admission fills the mailbox");
    assert_eq!(summary.refused_by_code["RESOURCE_EXHAUSTED"], 5);
    assert!(summary.first_problem.starts_with("overloaded"), "{}", summary.first_problem);
}

/// A shard that takes one message for every third answer.
#[tokio::test]
async fn a_flood_is_answered_in_order_and_what_is_refused_is_not_delivered() {
    const ALL: u64 = 600;
    let mut world = World::with_mailboxes(8, |_| ());
    world.shards[0].joined("r", 1);
    let mut client = world.client().await;
    let request = |n: u64| {
        let body = Some(broadcast_event_request::Body::PayloadJson(n.to_string().into_bytes()));
        // Some are refused at once.
        let room = if n.is_multiple_of(50) { "" } else { "r" };
        let broadcast = BroadcastEventRequest {
            room: room.into(),
            event_type: "ticket:sold".into(),
            body,
            ..Default::default()
        };
        PublishRequest { sequence: n, notification: Some(Notification::Broadcast(broadcast)) }
    };
    let flood = tokio_stream::iter((1..=ALL).map(request));
    let mut answers = client.publish(flood).await.unwrap().into_inner();
    let number = |event: &Event| std::str::from_utf8(&event.payload).unwrap().parse::<u64>().unwrap();
    let (mut accepted, mut delivered, mut overloaded) = (Vec::new(), Vec::new(), 0);
    for n in 1..=ALL {
        let answer = answers.message().await.unwrap().expect("an answer for each");
        assert_eq!(answer.sequence, n);
        match answer.result.unwrap() {
            publish_response::Result::Accepted(_) => accepted.push(n),
            publish_response::Result::Refused(refused) if n.is_multiple_of(50) => {
                assert_eq!((refused.code, refused.retry_after_ms), (Code::InvalidArgument.into(), 0));
            }
            publish_response::Result::Refused(refused) => {
                assert_eq!((refused.code, refused.retry_after_ms), (Code::ResourceExhausted.into(), 100));
                overloaded += 1;
            }
        }
        if n.is_multiple_of(3)
            && let Some(ToShard::Deliver(event)) = world.shards[0].inbox.try_recv()
        {
            delivered.push(number(&event));
        }
    }
    assert!(answers.message().await.unwrap().is_none());
    while let Some(ToShard::Deliver(event)) = world.shards[0].inbox.try_recv() {
        delivered.push(number(&event));
    }
    assert!(accepted.len() >= 8 && overloaded > 0, "{accepted:?}");
    assert_eq!(delivered, accepted, "those that were accepted, in their order, and no others");
}
