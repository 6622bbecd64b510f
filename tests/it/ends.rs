//! Peers that end right behind their last bytes: the gateway sees both at once and must act on both.

use std::net::Shutdown;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{
    frame,
    http::Stream,
    server::Server,
    ws::{Ask, Client, Heard},
};

/// Has the gateway find everything that `act` does in one look.
fn at_once<T>(server: &Server, act: impl FnOnce() -> T) -> T {
    server.signal(Signal::STOP);
    // A stop is not waited for by whoever asks for it.
    while !is_stopped(server) {}
    let outcome = act();
    server.signal(Signal::CONT);
    outcome
}

fn is_stopped(server: &Server) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs");
    tasks.flatten().all(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|state| state.starts_with('T'))
    })
}

fn finish_sending(stream: &Stream) {
    stream.socket().shutdown(Shutdown::Write).expect("a connected socket");
}

/// E4
#[test]
fn who_vanishes_behind_a_message_is_gone() {
    // A ping would find out too.
    let server = Server::with(&[
        ("ROOM_PRESENCE", "lobby:*"),
        ("WS_PING_INTERVAL", "10m"),
        ("WS_PONG_TIMEOUT", "20m"),
    ]);
    let (mut ann, mut bob) = (server.connect_as("ann"), server.connect_as("bob"));
    ann.ignored = &["user:online"];
    ann.join("lobby:1");
    bob.join("lobby:1");
    assert_eq!(ann.expect("room:user_joined")["user_id"], "bob");
    at_once(&server, || {
        bob.send("socket:disconnect", &json!({}));
        drop(bob);
    });
    assert_eq!(ann.expect("room:user_left")["user_id"], "bob");
}

#[test]
fn who_only_finished_sending_hears_the_answers() {
    let server = Server::start();
    let mut client = server.connect();
    at_once(&server, || {
        client.send("system:ping", &json!("last"));
        client.bytes(&frame::close(1000, b""));
        finish_sending(&client.stream);
    });
    assert_eq!(client.expect("system:pong"), "last");
    assert!(matches!(client.hear(), Heard::Close(1000, _)));
}

/// A8
#[test]
fn handshakes_whose_client_is_gone_do_not_wait_for_their_time_out() {
    let server = Server::start();
    at_once(&server, || Stream::plain(server.ws).put(b"GET /ws HTTP/1.1\r\n"));
    let ended = |result| server.metric(&format!(r#"usher_handshakes_total{{result="{result}"}}"#));
    while ended("gone") + ended("timed_out") == 0.0 {}
    assert_eq!((ended("gone"), ended("timed_out")), (1.0, 0.0));
}

#[test]
fn who_ended_with_the_request_is_no_connection() {
    let server = Server::with(&[("WS_PING_INTERVAL", "10m"), ("WS_PONG_TIMEOUT", "20m")]);
    for ask in [Ask::to("/ws"), Ask::to("/ws").bearer(&server.token("ann"))] {
        let stream = at_once(&server, || {
            let mut stream = Stream::plain(server.ws);
            stream.put(&ask.bytes());
            finish_sending(&stream);
            stream
        });
        let mut client = Client::answered(stream).expect("it could still listen").greeted();
        assert_eq!(client.hear(), Heard::End);
    }
}
