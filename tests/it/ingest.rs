//! Positions and notifications by the thousand: what callers of the three methods are told, and what clients see.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::net::sockopt;
use serde_json::json;
use tokio_stream::{StreamExt, iter};
use tonic::{Code, Status, transport::Endpoint};
use usher::generated::realtime::{
    GetConnectionStatsRequest, NotifyQueuePositionRequest, PositionUpdates, PublishBatchRequest,
    PublishRequest, PublishResponse, PushQueuePositionsResponse, publish_request::Notification,
    publish_response, realtime_service_client::RealtimeServiceClient,
};

use crate::support::{
    grpc::{Backend, to_room, to_user},
    holds_soon,
    http::Stream,
    look_until,
    redis::Redis,
    server::Server,
    ws::{Ask, Client},
};

fn position(user: &str, place: u64, version: u64) -> NotifyQueuePositionRequest {
    NotifyQueuePositionRequest {
        user_id: user.into(),
        event_id: "e-1".into(),
        position: place,
        version,
        ..NotifyQueuePositionRequest::default()
    }
}

fn updates(positions: Vec<NotifyQueuePositionRequest>) -> PositionUpdates {
    PositionUpdates { positions }
}

fn request(sequence: u64, notification: Notification) -> PublishRequest {
    PublishRequest { sequence, notification: Some(notification) }
}

/// The sequence number, and the offset or the code of the refusal.
fn told(response: PublishResponse) -> (u64, Result<u64, Code>) {
    let result = match response.result.expect("every answer has a result") {
        publish_response::Result::Accepted(answer) => Ok(answer.offset),
        publish_response::Result::Refused(refused) => Err(Code::from(refused.code)),
    };
    (response.sequence, result)
}

/// One right, one without a user, one of nothing, one to a room, one stored again.
fn mixed() -> Vec<PublishRequest> {
    vec![
        request(7, Notification::ToUser(to_user("ann", "booking:created", r#"{"n":1}"#))),
        request(8, Notification::QueuePosition(position("", 1, 0))),
        PublishRequest { sequence: 9, notification: None },
        request(10, Notification::Broadcast(to_room("event:1", "ticket:sold", r#"{"n":2}"#))),
        request(7, Notification::ToUser(to_user("ann", "booking:created", r#"{"n":3}"#))),
    ]
}

const MIXED: [(u64, Result<u64, Code>); 5] =
    [(7, Ok(1)), (8, Err(Code::InvalidArgument)), (9, Err(Code::InvalidArgument)), (10, Ok(0)), (7, Ok(2))];

fn publish(
    backend: &Backend,
    requests: impl tokio_stream::Stream<Item = PublishRequest> + Send + 'static,
) -> Vec<PublishResponse> {
    let mut client = backend.client();
    backend.wait(async move {
        let answers = client.publish(requests).await.expect("a stream").into_inner();
        answers.collect::<Result<Vec<_>, Status>>().await.expect("answers to the end")
    })
}

#[test]
fn positions_reach_their_users_and_every_one_is_accounted_for() {
    let server = Server::start();
    let (mut ann, mut bob) = (server.connect_as("ann"), server.connect_as("bob"));
    let backend = Backend::of(&server);
    let stream = iter([
        updates(vec![position("ann", 7, 2), position("bob", 8, 1), position("eve", 9, 1)]),
        updates(vec![position("ann", 9, 1), position("", 1, 1)]),
        updates(vec![]),
        updates(vec![NotifyQueuePositionRequest { event_id: String::new(), ..position("bob", 1, 3) }]),
    ]);
    let mut client = backend.client();
    let summary = backend.wait(client.push_queue_positions(stream)).expect("accepted").into_inner();
    assert_eq!((summary.accepted, summary.stale, summary.unknown_users, summary.refused), (3, 1, 1, 2));
    assert_eq!(summary.refused_by_code, HashMap::from([("INVALID_ARGUMENT".to_owned(), 2)]));
    assert_eq!(summary.first_problem, "`user_id` is required");
    let expected = json!({"event_id": "e-1", "position": 7, "version": 2});
    assert_eq!(ann.expect("booking:queue_position"), expected);
    assert_eq!(bob.expect("booking:queue_position")["position"], 8);
}

#[test]
fn a_long_stream_of_positions_is_accepted_whole_and_each_user_sees_the_newest_last() {
    const USERS: u64 = 50;
    const ROUNDS: u64 = 400;
    let server = Server::with(&[("QUEUE_UPDATE_INTERVAL", "300ms")]);
    let mut clients: Vec<_> = (0..USERS).map(|user| server.connect_as(&format!("u{user}"))).collect();
    let backend = Backend::of(&server);
    let of_all = |round| (0..USERS).map(move |user| position(&format!("u{user}"), ROUNDS - round, round + 1));
    let mut client = backend.client();
    let stream = iter((0..ROUNDS).map(move |round| updates(of_all(round).collect())));
    let summary = backend.wait(client.push_queue_positions(stream)).expect("accepted").into_inner();
    assert_eq!((summary.accepted, summary.refused), (USERS * ROUNDS, 0), "{}", summary.first_problem);
    for client in &mut clients {
        let mut before = u64::MAX;
        while before != 1 {
            let place = client.expect("booking:queue_position")["position"].as_u64().expect("a place");
            assert!(place < before, "{place} after {before}");
            before = place;
        }
    }
}

/// A client that reads nothing, with a socket that takes little.
fn silent(server: &Server, user: &str) -> Client {
    let stream = Stream::plain(server.ws);
    sockopt::set_socket_recv_buffer_size(stream.socket(), 4_096).expect("a socket option");
    let ask = Ask::to("/ws").bearer(&server.token(user));
    Client::open(stream, &ask).unwrap_or_else(|answer| panic!("{answer:?}")).greeted()
}

#[test]
fn a_client_that_stopped_reading_gets_the_newest_position_after_what_was_on_its_way() {
    const LAST: u64 = 4_000;
    let server = Server::with(&[("QUEUE_UPDATE_INTERVAL", "100ms")]);
    let mut slow = silent(&server, "ann");
    let mut other = server.connect_as("bob");
    let backend = Backend::of(&server);
    // Its socket takes nothing more: messages wait in the gateway.
    let filler = format!("\"{}\"", "x".repeat(8_000));
    while server.metric(r#"usher_blocked_connections{core="0"}"#) == 0.0 {
        let sent = backend.send_to_user(to_user("ann", "chat:note", &filler));
        assert!(sent.is_ok(), "{sent:?}");
    }
    let mut client = backend.client();
    let stream = iter(
        (1..=LAST).map(|place| updates(vec![position("ann", place, place), position("bob", place, place)])),
    );
    let summary = backend.wait(client.push_queue_positions(stream)).expect("accepted").into_inner();
    assert_eq!(summary.accepted, 2 * LAST);
    // Who reads sees the end: so the interval of the one who does not is over as well.
    while other.expect("booking:queue_position")["position"] != LAST {}
    let mut places = Vec::new();
    while places.last() != Some(&json!(LAST)) {
        let message = slow.message();
        if message["type"] == "booking:queue_position" {
            places.push(message["payload"]["position"].clone());
        }
    }
    assert!(places.len() <= 2, "the newest alone, and the one before if it waited still: {places:?}");
}

/// So many queues that the user is in, each with a position of its own.
const QUEUES: u64 = 64;
/// Some hundred bytes, so that sockets are full after some thousand positions.
const QUEUE_NAME_BYTES: usize = 200;

/// A position in every queue, of one version.
fn wave(user: &str, version: u64) -> PositionUpdates {
    let position = |queue| NotifyQueuePositionRequest {
        event_id: format!("{queue:0QUEUE_NAME_BYTES$}"),
        ..position(user, 1_000_000 - version, version)
    };
    updates((0..QUEUES).map(position).collect())
}

fn push(backend: &Backend, waves: Vec<PositionUpdates>) -> PushQueuePositionsResponse {
    let mut client = backend.client();
    backend.wait(client.push_queue_positions(iter(waves))).expect("accepted").into_inner()
}

/// Pushes positions to a client that reads nothing until its socket takes no more; how many waves that took.
fn fill(server: &Server, backend: &Backend, user: &str) -> u64 {
    for version in 1..=FILLED_MAX {
        assert_eq!(push(backend, vec![wave(user, version)]).accepted, QUEUES);
        if server.metric(r#"usher_blocked_connections{core="0"}"#) > 0.0 {
            return version;
        }
    }
    panic!("a socket took {FILLED_MAX} waves");
}

/// Far more than the kernel keeps for a socket.
const FILLED_MAX: u64 = 4_000;

/// The versions that are still to come, by queue, once so many positions are read.
fn beyond(client: &mut Client, read: u64, newest: u64) -> HashMap<String, Vec<u64>> {
    let mut next = || {
        let payload = client.expect("booking:queue_position");
        (payload["event_id"].to_string(), payload["version"].as_u64().expect("a version"))
    };
    for _ in 0..read {
        next();
    }
    let mut rest: HashMap<String, Vec<u64>> = HashMap::new();
    while rest.values().flatten().filter(|version| **version == newest).count() < QUEUES as usize {
        let (queue, version) = next();
        rest.entry(queue).or_default().push(version);
    }
    client.expect_silence();
    rest
}

#[test]
fn a_client_that_reads_nothing_while_its_socket_fills_gets_the_newest_position_alone_after_that() {
    const FURTHER: u64 = 60;
    let server = Server::with(&[("QUEUE_UPDATE_INTERVAL", "0s")]);
    let (mut slow, mut other) = (silent(&server, "ann"), server.connect_as("bob"));
    let backend = Backend::of(&server);
    let filled = fill(&server, &backend, "ann");
    let newest = filled + FURTHER;
    for version in filled + 1..=newest {
        assert_eq!(push(&backend, vec![wave("ann", version)]).accepted, QUEUES);
    }
    // Behind them in the mailbox: when it is here, they were all looked at.
    push(&backend, vec![updates(vec![position("bob", 1, 1)])]);
    other.expect("booking:queue_position");
    let sent = server.metric(r#"realtime_messages_sent_total{type="booking:queue_position"}"#) as u64;
    let in_socket = sent - 1;
    let conflated = server.metric(r#"usher_conflated_total{core="0"}"#) as u64;
    assert!(in_socket <= filled * QUEUES, "its socket takes no more: {in_socket} of {filled} waves");
    // The frame that the kernel took a part of, if there is one, is too late to be replaced.
    let begun = newest * QUEUES - (in_socket + QUEUES + conflated);
    assert!(begun <= 1, "{in_socket} sent, {conflated} conflated of {newest} waves");
    let rest = beyond(&mut slow, in_socket + begun, newest);
    assert_eq!(rest.len() as u64, QUEUES);
    assert!(rest.values().all(|versions| *versions == [newest]), "the newest alone: {rest:?}");
}

#[test]
fn what_a_client_that_reads_nothing_gets_in_the_end_is_decided_by_version_not_by_arrival() {
    let server = Server::with(&[("QUEUE_UPDATE_INTERVAL", "0s")]);
    let mut slow = silent(&server, "ann");
    let backend = Backend::of(&server);
    let filled = fill(&server, &backend, "ann");
    let newest = filled + 100;
    let (mut accepted, mut stale) = (0, 0);
    for late in [50, 40, 100, 99, 60, 1, 100] {
        let summary = push(&backend, vec![wave("ann", filled + late)]);
        (accepted, stale) = (accepted + summary.accepted, stale + summary.stale);
    }
    assert_eq!((accepted, stale), (2 * QUEUES, 5 * QUEUES));
    let mut last = HashMap::new();
    while last.len() < QUEUES as usize || last.values().any(|version| *version != newest) {
        let payload = slow.expect("booking:queue_position");
        let (queue, version) = (payload["event_id"].to_string(), payload["version"].as_u64());
        let version = version.expect("a version");
        let before = last.insert(queue, version);
        assert!(before < Some(version), "{version} after {before:?}");
    }
    slow.expect_silence();
}

#[test]
fn a_stream_of_notifications_is_answered_one_by_one() {
    let server = Server::start();
    let mut ann = server.connect_as("ann");
    ann.join("event:1");
    let backend = Backend::of(&server);
    let answers: Vec<_> = publish(&backend, iter(mixed())).into_iter().map(told).collect();
    assert_eq!(answers, MIXED);
    for n in [1, 2, 3] {
        assert_eq!(ann.message()["payload"]["n"], n, "in the order of the stream");
    }
}

#[test]
fn a_batch_has_a_result_for_each_in_order() {
    let server = Server::start();
    let mut ann = server.connect_as("ann");
    ann.join("event:1");
    let backend = Backend::of(&server);
    let mut client = backend.client();
    let batch = PublishBatchRequest { notifications: mixed() };
    let answer = backend.wait(client.publish_batch(batch)).expect("a batch").into_inner();
    assert_eq!(answer.results.into_iter().map(told).collect::<Vec<_>>(), MIXED);
    for n in [1, 2, 3] {
        assert_eq!(ann.message()["payload"]["n"], n);
    }
    let notifications = vec![PublishRequest::default(); 1_001];
    let refused = backend.wait(client.publish_batch(PublishBatchRequest { notifications })).unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidArgument, "`notifications` must be at most 1000")
    );
}

#[test]
fn ten_thousand_notifications_on_a_stream_are_all_answered_and_keep_their_order() {
    const COUNT: u64 = 10_000;
    let server = Server::with(&[("OUTBOX_MAX_MESSAGES", "20000"), ("OUTBOX_MAX_BYTES", "8388608")]);
    let mut ann = server.connect_as("ann");
    let backend = Backend::of(&server);
    let all = (1..=COUNT)
        .map(|n| request(n, Notification::ToUser(to_user("ann", "booking:created", &n.to_string()))));
    let answers: Vec<_> = publish(&backend, iter(all)).into_iter().map(told).collect();
    let unlike = answers.iter().zip(1..).find(|((sequence, offset), n)| (sequence, offset) != (n, &Ok(*n)));
    assert_eq!(unlike, None);
    assert_eq!(answers.len() as u64, COUNT);
    for n in 1..=COUNT {
        assert_eq!(ann.expect("booking:created"), n);
    }
}

/// The same queue as a call names, so calls and messages are conflated together.
#[test]
fn positions_from_redis_go_the_way_of_those_that_callers_push() {
    const LAST: u64 = 60;
    let redis = Redis::start();
    let url = redis.url();
    let settings = [("REDIS_URL", &*url), ("STORE", "embedded"), ("QUEUE_UPDATE_INTERVAL", "300ms")];
    let server = Server::with(&settings);
    assert!(holds_soon(|| server.get("/ready").json()["redis"] == "connected"));
    let (mut ann, mut bob) = (server.connect_as("ann"), server.connect_as("bob"));
    let publish = |version: u64| {
        let body =
            json!({"userId": "ann", "eventId": "e-1", "position": 1_000 - version, "version": version});
        redis.publish("booking:queue_position", &body.to_string());
    };
    // Every second one comes late.
    for version in (2..=LAST).step_by(2) {
        publish(version);
        publish(version - 1);
    }
    let mut versions = Vec::new();
    while versions.last() != Some(&LAST) {
        versions.push(ann.expect("booking:queue_position")["version"].as_u64().expect("a version"));
    }
    assert!(versions.is_sorted_by(|before, after| before < after && after % 2 == 0), "{versions:?}");
    assert!(server.metric(r#"usher_conflated_total{core="0"}"#) > 0.0, "{versions:?}");
    let by_call = position("ann", 1, LAST - 1);
    let answer = Backend::of(&server).notify_queue_position(by_call).expect("accepted");
    assert_eq!(answer.delivered_connections, 0, "it is stale by what came through Redis: {answer:?}");
    ann.expect_silence();
    assert!(holds_soon(|| server.metric("usher_events_stale_total") == (LAST / 2 + 1) as f64));
    // Without versions the newest arrival wins.
    for position in [9, 12] {
        let body = json!({"userId": "bob", "eventId": "e-1", "position": position});
        redis.publish("booking:queue_position", &body.to_string());
    }
    for position in [9, 12] {
        assert_eq!(bob.expect("booking:queue_position")["position"], position);
    }
}

/// The caller sends as fast as it can and reads no answer: then the gateway reads no further, and goes on where it
/// stopped when answers are read.
#[test]
fn a_caller_that_reads_no_answers_is_heard_no_further() {
    const ALL: u64 = 20_000;
    // What stands between the two, in messages of 1 KiB and answers of some hundred bytes: HTTP/2's windows and the
    // buffers behind them, 2 MiB on the way in and 0.5 MiB on the way out, and 1 024 unanswered ones.
    const UNDER_WAY_MAX: u64 = 10_000;
    const STILL: u32 = 300;
    let server = Server::start();
    let endpoint = Endpoint::from_shared(format!("http://{}", server.grpc)).expect("an address");
    let backend = Backend::connect(&endpoint.clone().initial_stream_window_size(65_535));
    let (user, payload) = ("u".repeat(100), format!("\"{}\"", "x".repeat(1_000)));
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let flood = iter(1..=ALL).map(move |n| {
        counted.store(n, Ordering::Relaxed);
        request(n, Notification::ToUser(to_user(&user, "booking:created", &payload)))
    });
    let mut client = backend.client();
    let mut other =
        backend.wait(RealtimeServiceClient::connect(endpoint)).expect("the gRPC listener accepts");
    let mut answers = backend.wait(client.publish(flood)).expect("a stream").into_inner();
    // Other callers are served meanwhile; each of their calls is a chance for the flood to get on.
    let stopped_at = backend.wait(async {
        let (mut before, mut still) = (0, 0);
        while still < STILL && before < ALL {
            other.get_connection_stats(GetConnectionStatsRequest {}).await.expect("an answer");
            let now = sent.load(Ordering::Relaxed);
            still = if now == before { still + 1 } else { 0 };
            before = now;
        }
        before
    });
    assert!(stopped_at < UNDER_WAY_MAX, "{stopped_at} of {ALL} were taken");
    // Counts are written down ten times a second.
    let accepted = || server.metric(r#"usher_events_accepted_total{class="critical"}"#) as u64;
    let accepted = look_until(|| Some(accepted()).filter(|count| *count > 0)).unwrap_or(0);
    assert!(0 < accepted && accepted < stopped_at, "{accepted} accepted of {stopped_at}");
    let answers = backend.wait(async {
        let mut told_in_order = 0;
        while let Some(answer) = answers.message().await.expect("answers to the end") {
            told_in_order += 1;
            assert_eq!(told(answer), (told_in_order, Ok(told_in_order)));
        }
        told_in_order
    });
    assert_eq!(answers, ALL);
}

#[test]
fn a_caller_without_the_token_pushes_nothing() {
    let server = Server::with(&[("GRPC_AUTH_TOKEN", "sesame")]);
    let backend = Backend::of(&server);
    let mut client = backend.client();
    let pushed = backend.wait(client.push_queue_positions(iter([updates(vec![position("a", 1, 1)])])));
    let published = backend.wait(client.publish(iter(mixed()))).map(drop);
    let batch = PublishBatchRequest { notifications: mixed() };
    let batched = backend.wait(client.publish_batch(batch)).map(drop);
    for refused in [pushed.map(drop), published, batched] {
        assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    }
}
