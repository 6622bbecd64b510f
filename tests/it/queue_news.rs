//! What people are told of a queue beside their positions, and how they get out of it.

use serde_json::json;
use tonic::Code;
use usher::{
    clock::Now,
    generated::realtime::{CloseQueueRequest, OpenQueueRequest, PauseQueueRequest},
};

use crate::{
    queues::{advance, join, look, open_with, pair, until},
    support::{grpc::Backend, server::Server},
};

#[test]
fn who_waits_for_the_opening_hears_of_a_pause_its_end_and_another_time() {
    let server = Server::start();
    let backend = Backend::of(&server);
    let opens_at_ms = Now::read().wall_ms + 600_000;
    let early = OpenQueueRequest { opens_at_ms, ..OpenQueueRequest::default() };
    open_with(&backend, early.clone());
    let mut ann = server.connect_as("ann");
    assert_eq!(join(&mut ann)["opens_at"], opens_at_ms);
    let pause = |resume| PauseQueueRequest { event_id: "e1".into(), reason: "a rest".into(), resume, run: 0 };
    backend.pause_queue(pause(false)).expect("it pauses");
    assert_eq!(until(&mut ann, "queue:paused")["opens_at"], opens_at_ms);
    let mut bob = server.connect_as("bob");
    assert_eq!(join(&mut bob)["opens_at"], opens_at_ms);
    assert_eq!(until(&mut bob, "queue:paused")["reason"], "a rest");
    backend.pause_queue(pause(true)).expect("it goes on");
    for client in [&mut ann, &mut bob] {
        assert_eq!(until(client, "queue:resumed")["opens_at"], opens_at_ms);
    }
    open_with(&backend, OpenQueueRequest { opens_at_ms: opens_at_ms + 1, ..early });
    for client in [&mut ann, &mut bob] {
        assert_eq!(until(client, "queue:scheduled")["opens_at"], opens_at_ms + 1);
    }
}

#[test]
fn who_has_no_account_leaves_the_place_that_the_connection_stands_in() {
    let server = Server::start();
    let backend = Backend::of(&server);
    open_with(&backend, OpenQueueRequest::default());
    let mut nobody = server.connect();
    let leave = json!({"event_id": "e1"});
    assert_eq!(nobody.request("queue:leave", &leave).1["code"], "not_in_queue");
    let token = join(&mut nobody)["place_token"].clone();
    nobody.send("queue:leave", &leave);
    assert_eq!(until(&mut nobody, "queue:left")["event_id"], "e1");
    assert_eq!(look(&backend).left, 1);
    assert_eq!(nobody.request("queue:leave", &leave).1["code"], "not_in_queue");
    // With the token from anywhere, and the connection that stands there hears of it.
    let again = json!({"event_id": "e1", "place_token": token});
    assert_eq!(nobody.request("queue:join", &again).1["place"], 2);
    assert_eq!(server.connect().request("queue:leave", &again).0, "queue:left");
    assert_eq!(until(&mut nobody, "queue:left")["event_id"], "e1");
}

#[test]
fn what_was_sold_out_goes_on_when_tickets_come_back() {
    let server = Server::start();
    let backend = Backend::of(&server);
    open_with(&backend, OpenQueueRequest::default());
    let mut ann = server.connect_as("ann");
    join(&mut ann);
    let close = CloseQueueRequest { event_id: "e1".into(), sold_out: true, ..Default::default() };
    assert_eq!(backend.close_queue(close).expect("it ends").state, "sold_out");
    until(&mut ann, "queue:sold_out");
    let reopen = CloseQueueRequest { event_id: "e1".into(), reopen: true, ..Default::default() };
    assert_eq!(backend.close_queue(reopen.clone()).expect("it goes on").state, "open");
    until(&mut ann, "queue:resumed");
    assert_eq!(advance(&backend, 1).admitted, 1);
    assert_eq!(until(&mut ann, "queue:admitted")["place"], 1);
    let both = CloseQueueRequest { sold_out: true, ..reopen };
    assert_eq!(backend.close_queue(both).expect_err("which?").code(), Code::InvalidArgument);
}

#[test]
fn an_operator_is_warned_of_a_queue_that_ends_with_the_process() {
    let server = Server::start();
    let opened = open_with(&Backend::of(&server), OpenQueueRequest::default());
    assert!(opened.warning.contains("STORE=embedded"), "{opened:?}");
    let pair = pair(&[]);
    assert_eq!(open_with(&pair.backends[0], OpenQueueRequest::default()).warning, "");
}
