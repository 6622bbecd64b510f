//! Waiting rooms whose log is lost while people wait.

use std::thread;

use serde_json::{Value, json};
use tonic::Code;
use usher::generated::realtime::{AdvanceQueueRequest, GetQueueRequest, OpenQueueRequest};

use crate::{
    queues::{Pair, advance, join, look, open_with, pair, until},
    support::{
        grpc::Backend,
        holds_soon,
        proxy::{Link, Proxy},
        redis::Redis,
        server::Server,
        ws::Client,
    },
};

/// The payload of the answer to a join, whatever comes before: streams of users are lost too, and they are told.
fn answer_to_join(client: &mut Client) -> Value {
    client.send("queue:join", &json!({"event_id": "e1"}));
    loop {
        let message = client.message();
        if message["type"] == "queue:joined" || message["type"] == "system:error" {
            return message["payload"].clone();
        }
    }
}

/// Two instances with ann and bob in the queue, one each; Redis loses everything; nobody hears anything but that it is over.
fn lose_everything(lose: impl FnOnce(&mut Pair)) {
    let mut pair = pair(&[]);
    open_with(&pair.backends[0], OpenQueueRequest::default());
    let mut clients = [pair.servers[0].connect_as("ann"), pair.servers[1].connect_as("bob")];
    clients.iter_mut().for_each(|client| drop(join(client)));
    assert_eq!(look(&pair.backends[1]).waiting, 2);
    lose(&mut pair);

    // Whoever wants something of it is told, an operator and who waits.
    let [one, other] = &pair.backends;
    let code = |backend: &Backend, call: fn(&Backend) -> tonic::Status| call(backend).code();
    let moves = |backend: &Backend| {
        let request = AdvanceQueueRequest { event_id: "e1".into(), to: 1, run: 0 };
        backend.advance_queue(request).expect_err("nobody knows the places")
    };
    let looks = |backend: &Backend| {
        let request = GetQueueRequest { event_id: "e1".into() };
        backend.get_queue(request).map_or_else(|status| status, |_| tonic::Status::ok("it has a queue"))
    };
    // Redis may be on its way back.
    assert!(holds_soon(|| code(one, moves) == Code::DataLoss), "{:?}", moves(one));
    assert!(holds_soon(|| code(other, looks) == Code::DataLoss), "{:?}", looks(other));
    for client in &mut clients {
        let closed = until(client, "queue:closed");
        assert!(closed["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{closed}");
        assert_eq!(answer_to_join(client)["code"], "queue_lost");
    }
    let lost = |server: &Server| server.metric("usher_queues_lost");
    assert!(holds_soon(|| pair.servers.iter().all(|server| lost(server) == 1.0)), "both know");
    assert!(pair.servers[0].metric("usher_queue_refused_total{reason=\"lost\"}") >= 2.0);

    // An operator opens it anew, on one instance; it is empty, and the same on both.
    let anew = open_with(one, OpenQueueRequest::default());
    assert_eq!((&*anew.state, anew.total, anew.admitted), ("open", 0, 0));
    assert!(holds_soon(|| lost(&pair.servers[1]) == 0.0), "on the other instance too");
    let [ann, bob] = &mut clients;
    assert_eq!(
        (answer_to_join(bob)["place"].as_u64(), answer_to_join(ann)["place"].as_u64()),
        (Some(1), Some(2))
    );
    assert_eq!(advance(other, 1).admitted, 1);
    // Of his stream he may only be told that it was lost (system:resync). The queue knows his pass.
    bob.send("queue:join", &json!({"event_id": "e1"}));
    assert_eq!(until(bob, "queue:admitted")["place"], 1);
    assert_eq!((look(one), lost(&pair.servers[0]), lost(&pair.servers[1])), (look(other), 0.0, 0.0));
}

#[test]
fn a_queue_in_a_redis_that_is_flushed_ends_for_everybody_and_begins_anew() {
    lose_everything(|pair| assert_eq!(pair.redis.cli(&["FLUSHALL"]), "OK"));
}

#[test]
fn a_queue_in_a_redis_that_starts_again_empty_ends_for_everybody_and_begins_anew() {
    lose_everything(|pair| {
        pair.redis.kill();
        pair.redis.restart();
    });
}

#[test]
fn a_queue_in_a_redis_that_starts_again_without_its_end_ends_for_everybody_and_begins_anew() {
    lose_everything(|pair| {
        assert_eq!(pair.redis.cli(&["SAVE"]), "OK");
        let mut cid = pair.servers[0].connect_as("cid");
        join(&mut cid);
        assert!(pair.backends.iter().all(|backend| look(backend).waiting == 3), "both know her place");
        pair.redis.kill();
        pair.redis.restart();
    });
}

#[test]
fn a_call_that_was_held_up_on_its_way_to_redis_is_not_done_to_the_next_queue_of_the_event() {
    let redis = Redis::start();
    let proxy = Proxy::before(redis.port);
    // Several of them fit into the time after which a connection that is silent is given up.
    let far = Server::with(&[
        ("REDIS_URL", &format!("redis://{}", proxy.address)),
        ("REDIS_COMMAND_TIMEOUT", "250ms"),
    ]);
    let near = Server::with(&[("REDIS_URL", &redis.url())]);
    let know = |server: &Server| server.metric("usher_instances") == 2.0;
    assert!(holds_soon(|| know(&far) && know(&near)), "both know each other");
    let backend = Backend::of(&near);
    open_with(&backend, OpenQueueRequest::default());
    let mut ann = near.connect_as("ann");
    join(&mut ann);
    assert_eq!(look(&Backend::of(&far)).waiting, 1);

    proxy.set(Link::Held);
    let address = far.grpc;
    let held = thread::spawn(move || {
        let request = AdvanceQueueRequest { event_id: "e1".into(), to: 1, run: 0 };
        Backend::at(address).advance_queue(request)
    });
    // It is under way, again and again.
    assert!(holds_soon(|| far.metric("usher_store_failures_total{reason=\"timed_out\"}") >= 3.0));
    // The queue is over and forgotten, and the event has another.
    assert_eq!(redis.cli(&["DEL", "usher:{queue:e1}:meta", "usher:{queue:e1}:log"]), "2");
    let gone = || backend.get_queue(GetQueueRequest { event_id: "e1".into() }).is_err();
    assert!(holds_soon(gone), "its log is");
    let request = OpenQueueRequest { event_id: "e1".into(), ..OpenQueueRequest::default() };
    let anew = || backend.open_queue(request.clone()).is_ok_and(|queue| queue.total == 0);
    assert!(holds_soon(anew), "Redis may be slow, but not for ever");
    until(&mut ann, "queue:closed");
    assert_eq!(answer_to_join(&mut ann)["place"], 1);

    proxy.set(Link::Open);
    let refused = held.join().expect("a call").expect_err("it was meant for another queue");
    assert_eq!(refused.code(), Code::Aborted, "{refused}");
    assert!(refused.message().contains("another"), "{refused}");
    let queue = look(&backend);
    assert_eq!((queue.waiting, queue.admitted), (1, 0));
    assert!(holds_soon(|| far.metric("usher_queue_refused_total{reason=\"another\"}") == 1.0));
    let elsewhere = Backend::of(&far);
    let follows =
        || elsewhere.get_queue(GetQueueRequest { event_id: "e1".into() }).is_ok_and(|it| it == queue);
    assert!(holds_soon(follows), "the other instance follows it too");
}

#[test]
fn who_asks_for_queues_that_are_not_there_leaves_nothing_in_redis() {
    let redis = Redis::start();
    let server = Server::with(&[("REDIS_URL", &redis.url())]);
    let backend = Backend::of(&server);
    let keys = || redis.cli(&["KEYS", "usher:{queue:*"]);
    let mut ann = server.connect_as("ann");
    assert!(holds_soon(|| answer_to_join(&mut ann)["code"] == "no_queue"), "the store is connected");
    let refused = backend.get_queue(GetQueueRequest { event_id: "e1".into() });
    assert_eq!(refused.expect_err("there is none").code(), Code::NotFound);
    assert_eq!(keys(), "");
    open_with(&backend, OpenQueueRequest::default());
    assert_eq!(answer_to_join(&mut ann)["place"], 1);
    assert_ne!(keys(), "");
}
