//! A new process takes the place of one that serves (catalogue L4, R10).

use std::{
    net::SocketAddr,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::process::Signal;

use crate::support::{
    frame,
    grpc::{Backend, to_user},
    http::Stream,
    server::{Server, command},
    ws::{Ask, Client},
};
use crate::tls::anyone;

/// The command of a gateway at the ports of another one.
fn beside(server: &Server) -> Command {
    let mut command = command();
    let wss = server.wss.expect("a wss listener");
    for (name, address) in [
        ("HTTP_PORT", server.ws),
        ("HTTPS_PORT", wss),
        ("GRPC_PORT", server.grpc),
        ("METRICS_PORT", server.admin),
    ] {
        command.env(name, address.port().to_string());
    }
    command.env("TLS_SELF_SIGNED", "true").env("SHARDS", "2");
    command
}

fn first() -> Server {
    Server::with(&[("TLS_SELF_SIGNED", "true"), ("HTTPS_PORT", "0"), ("SHARDS", "2")])
}

fn successor(server: &Server) -> Server {
    let mut command = beside(server);
    command.env("TAKE_OVER", "true");
    Server::run(command).unwrap_or_else(|(status, log)| panic!("{status}\n{log}"))
}

/// Connects over and over until told to stop; how often it was let in. Whoever is sent away later was let in.
fn connect_on(open: impl Fn() -> Stream, stop: &AtomicBool) -> usize {
    let mut let_in = 0;
    let mut inside = std::collections::VecDeque::new();
    while !stop.load(Ordering::Relaxed) {
        let client = Client::open(open(), &Ask::to("/ws"));
        let client =
            client.unwrap_or_else(|answer| panic!("not let in: {} {}", answer.status, answer.text()));
        inside.push_back(client.greeted());
        let_in += 1;
        if inside.len() > 10 {
            inside.pop_front();
        }
    }
    let_in
}

/// Stays connected: comes back whenever it is sent away, unless everything is over; how often it was.
fn stay(address: SocketAddr, over: &AtomicBool) -> usize {
    let mut sent_away = 0;
    loop {
        let client = Client::open(Stream::plain(address), &Ask::to("/ws"));
        let mut client = client.unwrap_or_else(|answer| panic!("not let in: {}", answer.status)).greeted();
        client.expect("system:draining");
        let (code, reason) = client.expect_close();
        assert!(code == 1001 && reason.contains("reconnect_after_ms"), "{code} {reason}");
        client.bytes(&frame::close(1001, b""));
        sent_away += 1;
        if over.load(Ordering::Relaxed) {
            return sent_away;
        }
    }
}

/// L4, in short: three times in a row.
#[test]
fn a_new_process_takes_over_and_nobody_who_connects_is_refused() {
    let mut server = first();
    let (ws, wss) = (server.ws, server.wss.expect("a wss listener"));
    let backend = Backend::of(&server);
    let (stop, over) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let plain = scope.spawn(|| connect_on(|| Stream::plain(ws), &stop));
        let secret = scope.spawn(|| connect_on(|| Stream::tls(wss, anyone()), &stop));
        let stayed: Vec<_> = (0..5).map(|_| scope.spawn(|| stay(ws, &over))).collect();
        for round in 0..3 {
            let next = successor(&server);
            assert_eq!(server.wait().code(), Some(0), "{}", server.log());
            server = next;
            assert_eq!(server.admin("/ready").status, 200);
            // The caller's connection is told to go; a call that meets that end is repeated, as callers do.
            let call = || backend.send_to_user(to_user("ann", "booking:updated", "1"));
            call().or_else(|_| call()).unwrap_or_else(|status| panic!("round {round}: {status:?}"));
            assert_eq!(backend.stats().expect("counts").connections_per_core.len(), 2);
        }
        stop.store(true, Ordering::Relaxed);
        assert!(plain.join().expect("nobody was refused") > 10);
        assert!(secret.join().expect("nobody was refused") > 3);
        over.store(true, Ordering::Relaxed);
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
        for stayed in stayed {
            assert!(stayed.join().expect("nobody was refused") >= 4, "once in each round, and at the end");
        }
    });
}

/// L5
#[test]
fn a_second_gateway_at_the_same_ports_is_refused_unless_it_takes_over() {
    let server = first();
    let Err((status, log)) = Server::run(beside(&server)) else { panic!("two gateways at one port") };
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("--take-over") && log.contains(&server.ws.to_string()), "{log}");
    server.connect().expect_silence();
}

#[test]
fn a_successor_that_fails_to_start_changes_nothing() {
    let server = first();
    let mut client = server.connect();
    let mut command = beside(&server);
    command.env("TAKE_OVER", "true").env("JWT_PUBLIC_KEY_FILE", "/nonexistent/key.pem");
    assert!(Server::run(command).is_err());
    client.expect_silence();
    assert_eq!(server.admin("/ready").status, 200);
    server.connect().expect_silence();
}

#[test]
fn whoever_takes_over_where_nobody_serves_just_starts() {
    let mut server = first();
    let mut command = beside(&server);
    command.env("TAKE_OVER", "true");
    server.signal(Signal::TERM);
    server.wait();
    let next = Server::run(command).unwrap_or_else(|(status, log)| panic!("{status}\n{log}"));
    next.connect().expect_silence();
}

#[test]
fn a_port_of_somebody_else_is_not_taken_over() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = other.local_addr().expect("a bound port");
    let mut command = command();
    command.env("TAKE_OVER", "true").env("HTTP_PORT", address.port().to_string());
    let Err((status, log)) = Server::run(command) else { panic!("two listeners at one port") };
    assert!(status.code() == Some(1) && log.contains(&address.to_string()), "{log}");
}
