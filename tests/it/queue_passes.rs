//! Passes of people who are connected nowhere when they are let in.

use rustix::process::Signal;
use serde_json::json;
use tonic::Code;
use usher::generated::realtime::{
    AdmitNextRequest, AdvanceQueueRequest, GetHistoryRequest, HolderRequest, OpenQueueRequest,
    get_history_request::Target,
};

use crate::{
    queues::{Pair, advance, join, look, open_with, pair, until},
    support::{grpc::Backend, holds_soon, redis::Redis, server::Server},
};

/// Events of that type in the user's stream.
fn told(backend: &Backend, user: &str) -> usize {
    let request =
        GetHistoryRequest { target: Some(Target::UserId(user.into())), ..GetHistoryRequest::default() };
    let history = backend.get_history(request).expect("a history");
    history.entries.iter().filter(|entry| entry.event_type == "queue:admitted").count()
}

/// Ann and bob have places, and are connected nowhere.
fn nobody_is_connected(pair: &Pair) {
    open_with(&pair.backends[0], OpenQueueRequest::default());
    let mut clients = [pair.servers[0].connect_as("ann"), pair.servers[1].connect_as("bob")];
    clients.iter_mut().for_each(|client| drop(join(client)));
    drop(clients);
    let waits = |server: &Server| server.metric("usher_queue_waiting") > 0.0;
    assert!(holds_soon(|| !pair.servers.iter().any(waits)), "they are gone");
}

/// Bob's stream takes nothing.
fn bar(redis: &Redis) -> [&'static str; 2] {
    let stream = ["usher:{user:bob}:meta", "usher:{user:bob}:log"];
    for key in stream {
        redis.cli(&["DEL", key]);
        assert_eq!(redis.cli(&["SET", key, "in the way"]), "OK");
    }
    stream
}

/// It does again, and is empty.
fn clear(redis: &Redis, way: [&str; 2]) {
    way.iter().for_each(|key| drop(redis.cli(&["DEL", key])));
}

#[test]
fn a_pass_of_who_is_connected_nowhere_is_told_once_by_whoever_wrote_the_entry() {
    let pair = pair(&[]);
    nobody_is_connected(&pair);
    let [one, other] = &pair.backends;
    let request = AdmitNextRequest { event_id: "e1".into(), count: 2, ..AdmitNextRequest::default() };
    assert_eq!(other.admit_next(request).expect("it lets in").admitted, 2);
    assert_eq!(look(one).admitted, 2, "applied there too");
    for user in ["ann", "bob"] {
        assert!(holds_soon(|| told(one, user) == 1), "{user}");
    }
    // Whoever connects again has it from the stream, and again at the join, which is told to the connection alone.
    let mut ann = pair.servers[0].connect_as("ann");
    let resume = json!({"since": "unacknowledged"});
    ann.send("system:resume", &resume);
    let first = until(&mut ann, "queue:admitted");
    ann.send("queue:join", &json!({"event_id": "e1"}));
    assert_eq!(until(&mut ann, "queue:admitted"), first);
    assert_eq!((told(one, "ann"), told(other, "bob")), (1, 1));
}

#[test]
fn a_pass_whose_instance_died_before_it_was_told_is_found_at_the_next_join() {
    let mut pair = pair(&[]);
    nobody_is_connected(&pair);
    // The entry will be stored, and what is told of it will not: bob's stream takes nothing.
    let way = bar(&pair.redis);
    let [_, other] = &pair.backends;
    assert_eq!(advance(other, 2).admitted, 2);
    let failed = |server: &Server| server.metric("usher_stream_appends_total{result=\"failed\"}") > 0.0;
    assert!(holds_soon(|| failed(&pair.servers[1])), "it could not tell him");
    pair.servers[1].signal(Signal::KILL);
    pair.servers[1].wait();
    clear(&pair.redis, way);

    let one = &pair.backends[0];
    assert_eq!((look(one).admitted, told(one, "bob")), (2, 0));
    let mut bob = pair.servers[0].connect_as("bob");
    bob.send("queue:join", &json!({"event_id": "e1"}));
    let found = until(&mut bob, "queue:admitted");
    assert_eq!((&found["place"], found["pass"].as_str().is_some()), (&json!(2), true));
}

#[test]
fn a_pass_that_the_store_does_not_take_is_told_when_it_does() {
    let pair = pair(&[]);
    nobody_is_connected(&pair);
    let way = bar(&pair.redis);
    let [one, other] = &pair.backends;
    let (server, passes) =
        (&pair.servers[1], |result| format!("usher_queue_passes_total{{result=\"{result}\"}}"));
    assert_eq!(advance(other, 2).admitted, 2);
    assert!(holds_soon(|| server.metric(&passes("failed")) >= 2.0), "it tries, and again");
    assert!(holds_soon(|| told(one, "ann") == 1), "and keeps nobody else from the pass");
    assert_eq!(server.metric("usher_queue_passes_untold"), 1.0);
    clear(&pair.redis, way);
    assert!(holds_soon(|| told(one, "bob") == 1));
    assert!(holds_soon(|| server.metric("usher_queue_passes_untold") == 0.0));
    assert_eq!(server.metric(&passes("stored")), 2.0);
}

#[test]
fn a_pass_of_who_gave_the_place_up_before_it_was_told_is_not_told() {
    let pair = pair(&[]);
    nobody_is_connected(&pair);
    let way = bar(&pair.redis);
    let [one, other] = &pair.backends;
    assert_eq!(advance(other, 2).admitted, 2);
    let server = &pair.servers[1];
    assert!(holds_soon(|| server.metric("usher_queue_passes_untold") == 1.0));
    let bob = HolderRequest { event_id: "e1".into(), holder: "bob".into(), ..HolderRequest::default() };
    assert_eq!(one.abandon(bob).expect("he had a pass").abandoned, 1);
    assert!(holds_soon(|| server.metric("usher_queue_passes_total{result=\"over\"}") == 1.0));
    clear(&pair.redis, way);
    assert_eq!((server.metric("usher_queue_passes_untold"), told(one, "bob")), (0.0, 0));
}

#[test]
fn a_pass_of_a_queue_that_was_opened_anew_is_told_too() {
    let pair = pair(&[]);
    let [one, other] = &pair.backends;
    open_with(one, OpenQueueRequest::default());
    let mut bob = pair.servers[0].connect_as("bob");
    join(&mut bob);
    assert_eq!(advance(other, 1).admitted, 1);
    let first = until(&mut bob, "queue:admitted");
    // Its log is lost, and with it the place.
    pair.redis.cli(&["DEL", "usher:{queue:e1}:meta", "usher:{queue:e1}:log"]);
    let moves = || other.advance_queue(AdvanceQueueRequest { event_id: "e1".into(), to: 2, run: 0 });
    assert!(holds_soon(|| moves().is_err()), "nobody knows the places");
    let lost = |server: &Server| server.metric("usher_queues_lost") == 1.0;
    assert!(holds_soon(|| pair.servers.iter().all(lost)), "both know");
    until(&mut bob, "queue:closed");
    open_with(one, OpenQueueRequest::default());
    assert_eq!(join(&mut bob)["place"], 1);
    assert_eq!(advance(one, 1).admitted, 1);
    let anew = until(&mut bob, "queue:admitted");
    assert_eq!((&anew["place"], told(one, "bob")), (&first["place"], 2));
    assert_ne!(anew["pass"], first["pass"]);
}

#[test]
fn a_call_repeated_late_leaves_the_next_place_of_its_user_alone() {
    let pair = pair(&[]);
    let [one, other] = &pair.backends;
    open_with(one, OpenQueueRequest::default());
    let mut ann = pair.servers[0].connect_as("ann");
    join(&mut ann);
    advance(one, 1);
    let bought =
        HolderRequest { event_id: "e1".into(), holder: "ann".into(), place: 1, ..HolderRequest::default() };
    assert_eq!(one.complete(bought.clone()).expect("she had a pass").completed, 1);
    ann.send("queue:join", &json!({"event_id": "e1"}));
    assert_eq!(until(&mut ann, "queue:joined")["place"], 2);
    advance(one, 2);
    assert_eq!(look(other).holding, 1);
    let queue = other.complete(bought.clone()).expect("it was done");
    assert_eq!((queue.completed, queue.holding), (1, 1));
    let refused = other.claim(HolderRequest { place: 9, ..bought }).expect_err("there is no such place");
    assert_eq!(refused.code(), Code::NotFound);
}
