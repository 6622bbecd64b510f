//! Backends: each method, what its caller is told, and what clients see, to the letter.

use serde_json::{Value, json};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use usher::generated::realtime::{
    NotifyBookingResultRequest, NotifyPaymentStatusRequest, NotifyQueuePositionRequest, SendToUserRequest,
    send_to_user_request,
};

use crate::support::{
    grpc::{Backend, to_room, to_user},
    look_until,
    server::Server,
};

fn booking(user: &str) -> NotifyBookingResultRequest {
    NotifyBookingResultRequest {
        user_id: user.into(),
        booking_id: "b-1".into(),
        success: true,
        message: "Booking confirmed".into(),
        booking_reference: "BK12345".into(),
        event_id: "e-1".into(),
        seat_numbers: vec!["A1".into(), "A2".into()],
        total_amount: "100.00".into(),
        currency: "USD".into(),
        idempotency_key: String::new(),
    }
}

fn position(user: &str, position: u64) -> NotifyQueuePositionRequest {
    NotifyQueuePositionRequest {
        user_id: user.into(),
        event_id: "e-1".into(),
        position,
        total: 1_000,
        ..NotifyQueuePositionRequest::default()
    }
}

fn payment(user: &str, status: &str) -> NotifyPaymentStatusRequest {
    NotifyPaymentStatusRequest {
        user_id: user.into(),
        payment_id: "p-1".into(),
        status: status.into(),
        ..NotifyPaymentStatusRequest::default()
    }
}

#[test]
fn a_booking_result_is_confirmed_or_failed() {
    let server = Server::start();
    let mut ann = server.connect_as("ann");
    let backend = Backend::of(&server);
    let answer = backend.notify_booking_result(booking("ann")).expect("accepted");
    assert!(answer.success && !answer.published);
    assert_eq!((answer.delivered_connections, answer.offset, answer.stream.as_str()), (1, 1, "user:ann"));
    let expected = json!({
        "type": "booking:confirmed",
        "payload": {
            "booking_id": "b-1", "message": "Booking confirmed", "booking_reference": "BK12345", "event_id": "e-1",
            "seat_numbers": ["A1", "A2"], "total_amount": "100.00", "currency": "USD",
        },
        "stream": "user:ann", "offset": 1, "epoch": answer.epoch,
    });
    assert_eq!(ann.message(), expected);

    let failed = NotifyBookingResultRequest {
        user_id: "ann".into(),
        booking_id: "b-2".into(),
        message: "Sold out".into(),
        ..NotifyBookingResultRequest::default()
    };
    assert_eq!(backend.notify_booking_result(failed).expect("accepted").offset, 2);
    let message = ann.message();
    assert_eq!(message["type"], "booking:failed");
    assert_eq!(
        message["payload"],
        json!({"booking_id": "b-2", "message": "Sold out"}),
        "fields that are set alone"
    );
}

#[test]
fn a_queue_position_replaces_and_is_not_stored() {
    let server = Server::start();
    let mut ann = server.connect_as("ann");
    let backend = Backend::of(&server);
    let answer = backend.notify_queue_position(position("ann", 7)).expect("accepted");
    assert_eq!((answer.delivered_connections, answer.offset, answer.stream.as_str()), (1, 0, ""));
    let message = ann.message();
    assert_eq!(message["type"], "booking:queue_position");
    assert_eq!((&message["payload"]["position"], &message["payload"]["total"]), (&json!(7), &json!(1_000)));
    assert_eq!(
        (&message["payload"]["event_id"], &message["payload"]["user_id"]),
        (&json!("e-1"), &Value::Null)
    );
    assert_eq!((&message["stream"], &message["offset"]), (&Value::Null, &Value::Null), "{message}");

    backend.notify_queue_position(position("ann", 0)).expect("accepted");
    assert_eq!(ann.expect("booking:queue_position")["position"], 0, "the head of the queue is a position");
}

#[test]
fn an_older_version_of_a_position_is_never_shown_after_a_newer_one() {
    let server = Server::start();
    let mut ann = server.connect_as("ann");
    let backend = Backend::of(&server);
    for (version, place) in [(5, 50), (4, 60), (6, 40)] {
        let request = NotifyQueuePositionRequest { version, ..position("ann", place) };
        backend.notify_queue_position(request).expect("accepted");
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&json!(40)) {
        seen.push(ann.expect("booking:queue_position")["position"].clone());
    }
    assert!(!seen.contains(&json!(60)), "{seen:?}");
}

#[test]
fn a_payment_has_four_states() {
    let server = Server::start();
    let mut ann = server.connect_as("ann");
    let backend = Backend::of(&server);
    for (offset, status) in (1..).zip(["processing", "success", "failed", "refunded"]) {
        let request = NotifyPaymentStatusRequest {
            booking_id: "b-1".into(),
            amount: "9.99".into(),
            currency: "EUR".into(),
            message: "m".into(),
            ..payment("ann", status)
        };
        assert_eq!(backend.notify_payment_status(request).expect("accepted").offset, offset);
        let message = ann.message();
        assert_eq!(message["type"], format!("payment:{status}"));
        let payload = &message["payload"];
        assert_eq!(
            (&payload["payment_id"], &payload["amount"]),
            (&json!("p-1"), &json!("9.99")),
            "{payload}"
        );
        assert_eq!((&payload["user_id"], &payload["idempotency_key"]), (&Value::Null, &Value::Null));
    }
}

#[test]
fn a_broadcast_reaches_a_room_byte_for_byte() {
    let server = Server::with(&[("SHARDS", "2")]);
    let mut members: Vec<_> = (0..6).map(|_| server.connect()).collect();
    members.iter_mut().for_each(|member| drop(member.join("event:1")));
    let backend = Backend::of(&server);
    let json = r#"{"category_id":"c",  "available":1e2, "näme":"\u00e9"}"#;
    let answer = backend.broadcast_event(to_room("event:1", "ticket:availability", json)).expect("accepted");
    assert_eq!((answer.delivered_connections, answer.success), (6, true));
    for member in &mut members {
        let text = member.next_text();
        assert!(text.contains(json) && text.contains(r#""type":"ticket:availability""#), "{text}");
    }
    let answer = backend.broadcast_event(to_room("event:nobody", "ticket:sold", "{}")).expect("accepted");
    assert_eq!(answer.delivered_connections, 0);
}

#[test]
fn a_user_gets_it_on_every_connection() {
    let server = Server::with(&[("SHARDS", "2")]);
    let mut tabs: Vec<_> = (0..4).map(|_| server.connect_as("ann")).collect();
    let mut bob = server.connect_as("bob");
    let mut raw = server.ask(&crate::support::ws::Ask::to("/ws/raw").bearer(&server.token("ann")));
    let backend = Backend::of(&server);
    let mut fields = prost_types::Struct::default();
    let value = prost_types::value::Kind::StringValue("hello".into());
    fields.fields.insert("text".into(), prost_types::Value { kind: Some(value) });
    let request = SendToUserRequest {
        user_id: "ann".into(),
        event_type: "notification:new".into(),
        body: Some(send_to_user_request::Body::Payload(fields)),
        ..SendToUserRequest::default()
    };
    let answer = backend.send_to_user(request).expect("accepted");
    assert_eq!((answer.delivered_connections, answer.offset), (5, 1));
    for tab in &mut tabs {
        assert_eq!(tab.expect("notification:new"), json!({"text": "hello"}));
    }
    let bare = json!({"type": "notification:new", "payload": {"text": "hello"}});
    assert_eq!(raw.message(), bare, "a raw connection gets no position");
    bob.expect_silence();
    let answer = backend.send_to_user(to_user("nobody", "notification:new", "{}")).expect("accepted");
    assert_eq!((answer.delivered_connections, answer.offset), (0, 1), "stored for a user who is not here");
}

#[test]
fn critical_messages_keep_one_order_per_user() {
    let server = Server::start();
    let mut ann = server.connect_as("ann");
    let backend = Backend::of(&server);
    for n in 1..=100 {
        backend.send_to_user(to_user("ann", "booking:updated", &format!("{{\"n\":{n}}}"))).expect("accepted");
    }
    for n in 1..=100 {
        let message = ann.message();
        assert_eq!((&message["offset"], &message["payload"]["n"]), (&json!(n), &json!(n)));
    }
}

#[test]
fn statistics_count_connections_users_and_rooms() {
    let server = Server::with(&[("SHARDS", "2")]);
    let mut clients =
        [server.connect_as("ann"), server.connect_as("ann"), server.connect_as("bob"), server.connect()];
    clients.iter_mut().take(3).for_each(|client| drop(client.join("event:1")));
    let backend = Backend::of(&server);
    let settled = look_until(|| {
        let stats = backend.stats().expect("statistics");
        (stats.rooms.get("event:1") == Some(&3)).then_some(stats)
    });
    let stats = settled.expect("three members");
    assert_eq!((stats.total_connections, stats.authenticated_connections, stats.unique_users), (4, 3, 2));
    assert_eq!((stats.connections_per_core.len(), stats.connections_per_core.iter().sum::<u32>()), (2, 4));
}

/// D7
#[test]
fn a_disconnected_user_is_closed_everywhere() {
    let server = Server::with(&[("SHARDS", "2")]);
    let mut tabs: Vec<_> = (0..4).map(|_| server.connect_as("eve")).collect();
    let mut ann = server.connect_as("ann");
    let backend = Backend::of(&server);
    assert_eq!(backend.disconnect_user("eve").expect("accepted"), 4);
    for tab in &mut tabs {
        assert_eq!(tab.expect_close().0, 4401);
    }
    ann.expect_silence();
    assert_eq!(backend.disconnect_user("nobody").expect("accepted"), 0);
}

#[test]
fn a_repeated_key_gets_the_first_answer_and_another_body_is_refused() {
    let server = Server::start();
    let mut ann = server.connect_as("ann");
    let backend = Backend::of(&server);
    let keyed = |message: &str| NotifyBookingResultRequest {
        idempotency_key: "k-1".into(),
        message: message.into(),
        ..booking("ann")
    };
    let first = backend.notify_booking_result(keyed("one")).expect("accepted");
    assert_eq!(backend.notify_booking_result(keyed("one")).expect("the first answer"), first);
    let refused = backend.notify_booking_result(keyed("two")).expect_err("another body");
    assert_eq!(refused.code(), Code::AlreadyExists);
    ann.expect("booking:confirmed");
    ann.expect_silence();
    let other = NotifyBookingResultRequest { user_id: "bob".into(), ..keyed("two") };
    assert_eq!(backend.notify_booking_result(other).expect("another stream").offset, 1);
}

#[test]
fn what_is_missing_is_named() {
    let server = Server::start();
    let backend = Backend::of(&server);
    let deep = "[".repeat(40) + &"]".repeat(40);
    let refusals = [
        ("user_id", backend.notify_booking_result(booking("")).map(drop)),
        (
            "booking_id",
            backend
                .notify_booking_result(NotifyBookingResultRequest {
                    booking_id: String::new(),
                    ..booking("ann")
                })
                .map(drop),
        ),
        ("user_id", backend.notify_queue_position(position("", 1)).map(drop)),
        (
            "event_id",
            backend
                .notify_queue_position(NotifyQueuePositionRequest {
                    event_id: String::new(),
                    ..position("ann", 1)
                })
                .map(drop),
        ),
        ("user_id", backend.notify_payment_status(payment("", "success")).map(drop)),
        (
            "payment_id",
            backend
                .notify_payment_status(NotifyPaymentStatusRequest {
                    payment_id: String::new(),
                    ..payment("ann", "success")
                })
                .map(drop),
        ),
        ("status", backend.notify_payment_status(payment("ann", "")).map(drop)),
        ("status", backend.notify_payment_status(payment("ann", "lost")).map(drop)),
        ("room", backend.broadcast_event(to_room("", "ticket:sold", "{}")).map(drop)),
        ("room", backend.broadcast_event(to_room("no spaces", "ticket:sold", "{}")).map(drop)),
        ("event_type", backend.broadcast_event(to_room("event:1", "", "{}")).map(drop)),
        ("payload_json", backend.broadcast_event(to_room("event:1", "ticket:sold", "{")).map(drop)),
        ("payload_json", backend.broadcast_event(to_room("event:1", "ticket:sold", &deep)).map(drop)),
        ("payload_json", backend.send_to_user(to_user("ann", "ticket:sold", r#"{"a":1,"a":2}"#)).map(drop)),
        ("user_id", backend.send_to_user(to_user("", "ticket:sold", "{}")).map(drop)),
        ("user_id", backend.send_to_user(to_user(&"u".repeat(300), "ticket:sold", "{}")).map(drop)),
        ("event_type", backend.send_to_user(to_user("ann", &"t".repeat(200), "{}")).map(drop)),
        ("user_id", backend.disconnect_user("").map(drop)),
    ];
    for (field, refusal) in refusals {
        let status = refusal.expect_err(field);
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status}");
        assert!(status.message().contains(field), "{field}: {status}");
    }
}

/// G4
#[test]
fn callers_show_the_token_where_one_is_configured() {
    let token = "canary-token-of-the-callers";
    let server = Server::with(&[("GRPC_AUTH_TOKEN", token)]);
    server.remember(token.to_owned());
    let denied = |backend: Backend| backend.stats().expect_err("no way in").code();
    assert_eq!(denied(Backend::of(&server)), Code::Unauthenticated);
    assert_eq!(denied(Backend::of(&server).bearer("wrong")), Code::Unauthenticated);
    assert_eq!(denied(Backend::of(&server).bearer(&format!("{token}x"))), Code::Unauthenticated);
    assert_eq!(Backend::of(&server).bearer(token).stats().map(|stats| stats.total_connections).ok(), Some(0));
}

/// G5
#[test]
fn health_is_the_standard_service() {
    let server = Server::start();
    let backend = Backend::of(&server);
    let check = |service: &str| {
        let mut client = HealthClient::new(backend.channel.clone());
        let request = HealthCheckRequest { service: service.into() };
        backend.wait(client.check(request)).map(|answer| answer.into_inner().status())
    };
    // Told by the control loop, which looks at the shards ten times a second.
    assert!((0..10_000).any(|_| check("").expect("known") == ServingStatus::Serving));
    assert_eq!(check("realtime.RealtimeService").expect("known"), ServingStatus::Serving);
    assert_eq!(check("nobody").expect_err("unknown").code(), Code::NotFound);
}

#[test]
fn reflection_speaks_both_versions() {
    let server = Server::start();
    let backend = Backend::of(&server);
    let both = [listed_v1(&backend), listed_v1alpha(&backend)];
    for services in both {
        for service in ["realtime.RealtimeService", "grpc.health.v1.Health"] {
            assert!(services.iter().any(|known| known == service), "{services:?}");
        }
    }
}

/// The services that one version of reflection lists.
macro_rules! listed {
    ($name:ident, $version:ident) => {
        fn $name(backend: &Backend) -> Vec<String> {
            use tonic_reflection::pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
            };
            let request = ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::ListServices(String::new())),
            };
            let mut client = ServerReflectionClient::new(backend.channel.clone());
            let answer = backend.wait(async {
                let mut answers =
                    client.server_reflection_info(tokio_stream::once(request)).await?.into_inner();
                answers.message().await
            });
            match answer.expect("an answer").and_then(|answer| answer.message_response) {
                Some(MessageResponse::ListServicesResponse(list)) => {
                    list.service.into_iter().map(|service| service.name).collect()
                }
                other => panic!("{other:?}"),
            }
        }
    };
}

listed!(listed_v1, v1);
listed!(listed_v1alpha, v1alpha);
