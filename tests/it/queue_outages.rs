//! Waiting rooms whose Redis does not answer for a while.

use std::thread;

use serde_json::json;
use tonic::Code;
use usher::generated::realtime::{AdmitNextRequest, OpenQueueRequest};

use crate::{
    queues::{join, look, until},
    support::{
        grpc::Backend,
        holds_soon,
        proxy::{Link, Proxy},
        redis::Redis,
        server::Server,
    },
};

#[test]
fn a_call_under_way_is_done_once_and_what_waits_behind_it_is_given_back_undone() {
    let redis = Redis::start();
    let proxy = Proxy::before(redis.port);
    let server = Server::with(&[("REDIS_URL", &format!("redis://{}", proxy.address))]);
    let backend = Backend::of(&server);
    let request = OpenQueueRequest { event_id: "e1".into(), ..Default::default() };
    assert!(holds_soon(|| backend.open_queue(request.clone()).is_ok()), "it may not be connected yet");
    let mut clients = ["ann", "bob", "cid"].map(|user| server.connect_as(user));
    clients.iter_mut().for_each(|client| drop(join(client)));
    assert_eq!(look(&backend).waiting, 3);

    proxy.set(Link::Held);
    let address = server.grpc;
    let admit = move || {
        let request = AdmitNextRequest { event_id: "e1".into(), count: 1, ..Default::default() };
        Backend::at(address).admit_next(request)
    };
    let first = thread::spawn(admit);
    // It is under way, and each try will arrive.
    assert!(holds_soon(|| server.metric("usher_store_failures_total{reason=\"timed_out\"}") >= 1.0));
    let mut late = server.connect_as("dan");
    late.send("queue:join", &json!({"event_id": "e1"}));
    let second = admit().expect_err("it is given back");
    assert_eq!(second.code(), Code::ResourceExhausted, "{second}");
    assert_eq!(until(&mut late, "system:error")["code"], "overloaded");

    proxy.set(Link::Open);
    assert_eq!(first.join().expect("a call").expect("it was under way").admitted, 1);
    let queue = look(&backend);
    assert_eq!((queue.admitted, queue.total), (1, 3));
    assert_eq!(redis.cli(&["KEYS", "usher:{queue:e1}:*"]).lines().count(), 2, "no key of any entry");
}
