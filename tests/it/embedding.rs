//! The gateway inside a program: handlers of its own, and the handle on it (03 §9).

use std::sync::{Arc, Barrier};

use serde_json::json;
use usher::{
    Handlers, Settings,
    handler::{Message, Replies},
};

use crate::support::{
    frame,
    http::Stream,
    ws::{Ask, Client},
};

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.listen.host = [127, 0, 0, 1].into();
    settings.listen.http_port = 0;
    settings.listen.grpc.set_port(0);
    settings.listen.admin = None;
    settings
}

#[test]
fn a_gateway_starts_inside_an_async_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let running = runtime.block_on(async {
        let running = usher::start(settings(), Handlers::new()).expect("starts");
        assert_eq!(running.gateway.stats().await.expect("stats").connections, 0);
        running.gateway.shutdown().await;
        running
    });
    running.wait().expect("a clean end");
}

/// L6
#[test]
fn a_handler_that_panics_ends_its_own_connection_alone() {
    let greet = |message: Message<'_>, replies: &mut Replies| {
        replies.send("greeting", json!({"anonymous": message.user.is_none()}).to_string());
    };
    let boom = |_: Message<'_>, _: &mut Replies| panic!("a handler's own fault");
    let running =
        usher::start(settings(), Handlers::new().on("greet", greet).on("boom", boom)).expect("starts");
    let connect = || {
        let stream = Stream::plain(running.addresses.ws);
        Client::open(stream, &Ask::to("/ws")).unwrap_or_else(|_| panic!("an upgrade")).greeted()
    };
    let (mut unlucky, mut other) = (connect(), connect());
    unlucky.send("boom", &json!(null));
    assert_eq!(unlucky.expect_close().0, 1011);
    assert_eq!(other.request("greet", &json!({})), ("greeting".to_owned(), json!({"anonymous": true})));

    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let stats = runtime.block_on(running.gateway.stats()).expect("stats");
    assert!(stats.connections >= 1, "{stats:?}");
    runtime.block_on(running.gateway.shutdown());
    assert_eq!(other.expect_close().0, 1001);
    other.bytes(&frame::close(1001, b""));
    drop((unlucky, other));
    running.wait().expect("a clean end");
}

/// E10. A handler that does not return stands for a core that stalls: the other shard serves, and what waited is delivered
/// once.
#[test]
fn a_stalled_shard_holds_up_nobody_elsewhere_and_repeats_nothing() {
    let stall = Arc::new(Barrier::new(2));
    let stalled = stall.clone();
    let handlers = Handlers::new()
        .on("shard", |message: Message<'_>, replies: &mut Replies| {
            replies.send("shard", message.conn.shard().0.to_string());
        })
        .on("stall", move |_: Message<'_>, replies: &mut Replies| {
            stalled.wait();
            stalled.wait();
            replies.send("awake", "true");
        });
    let mut settings = settings();
    settings.cores.shards = vec![0, 0];
    let running = usher::start(settings, handlers).expect("starts");
    let on_shard = |wanted: u64| loop {
        let stream = Stream::plain(running.addresses.ws);
        let mut client =
            Client::open(stream, &Ask::to("/ws")).unwrap_or_else(|_| panic!("an upgrade")).greeted();
        if client.request("shard", &json!({})).1 == wanted {
            client.join("event:1");
            return client;
        }
    };
    let (mut here, mut there) = (on_shard(0), on_shard(1));
    here.send("stall", &json!({}));
    stall.wait();

    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for number in 0..100 {
        let told = running.gateway.broadcast("event:1", "ticket:sold", number.to_string());
        assert_eq!(runtime.block_on(told).expect("accepted").delivered_connections, 2);
        assert_eq!(there.expect("ticket:sold"), number);
    }
    there.expect_silence();
    stall.wait();
    assert_eq!(here.expect("awake"), true);
    for number in 0..100 {
        assert_eq!(here.expect("ticket:sold"), number);
    }
    here.expect_silence();
    runtime.block_on(running.gateway.shutdown());
    for mut client in [here, there] {
        assert_eq!(client.expect_close().0, 1001);
        client.bytes(&frame::close(1001, b""));
    }
    running.wait().expect("a clean end");
}
