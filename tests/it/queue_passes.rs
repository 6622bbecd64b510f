//! Passes of people who are connected nowhere when they are let in.

use rustix::process::Signal;
use serde_json::json;
use usher::generated::realtime::{
    AdmitNextRequest, GetHistoryRequest, OpenQueueRequest, get_history_request::Target,
};

use crate::{
    queues::{Pair, advance, join, look, open_with, pair, until},
    support::{grpc::Backend, holds_soon, server::Server},
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
    let stream = ["usher:{user:bob}:meta", "usher:{user:bob}:log"];
    for key in stream {
        pair.redis.cli(&["DEL", key]);
        assert_eq!(pair.redis.cli(&["SET", key, "in the way"]), "OK");
    }
    let [_, other] = &pair.backends;
    assert_eq!(advance(other, 2).admitted, 2);
    let failed = |server: &Server| server.metric("usher_stream_appends_total{result=\"failed\"}") > 0.0;
    assert!(holds_soon(|| failed(&pair.servers[1])), "it could not tell him");
    pair.servers[1].signal(Signal::KILL);
    pair.servers[1].wait();
    stream.iter().for_each(|key| drop(pair.redis.cli(&["DEL", key])));

    let one = &pair.backends[0];
    assert_eq!((look(one).admitted, told(one, "bob")), (2, 0));
    let mut bob = pair.servers[0].connect_as("bob");
    bob.send("queue:join", &json!({"event_id": "e1"}));
    let found = until(&mut bob, "queue:admitted");
    assert_eq!((&found["place"], found["pass"].as_str().is_some()), (&json!(2), true));
}
