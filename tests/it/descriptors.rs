//! Descriptor tables: each shard has its own, for which the limit of open files counts.

use std::net::TcpListener;

use rustix::process::Signal;

use crate::support::{
    frame,
    grpc::{Backend, to_room, to_user},
    http::Stream,
    server::Server,
    ws::{Ask, Client},
};

/// Of the gateway's threads; the clients' side has a table without such a limit.
const FILES_MAX: u64 = 256;

/// The largest table among the threads of each shard: helpers of its executor keep the process's.
fn shard_tables(server: &Server) -> Vec<usize> {
    let tables = server.descriptors();
    tables
        .into_iter()
        .filter(|(thread, _)| thread.starts_with("usher-shard"))
        .map(|(_, count)| count)
        .collect()
}

fn descriptors(server: &Server) -> usize {
    server.descriptors().values().sum()
}

#[test]
fn shards_together_hold_more_connections_than_one_table_and_give_all_back() {
    let mut server = Server::with(&[("SHARDS", "3")]);
    server.limit_files(FILES_MAX);
    server.connect().close();
    let before = descriptors(&server);
    let mut clients: Vec<Client> = (0..450).map(|n| server.connect_as(&format!("user-{n}"))).collect();
    clients.iter_mut().for_each(|client| drop(client.join("event:1")));
    let tables = shard_tables(&server);
    assert!(tables.len() == 3 && tables.iter().sum::<usize>() > clients.len(), "{tables:?}");
    assert!(tables.iter().all(|count| *count <= FILES_MAX as usize), "{tables:?}");

    let backend = Backend::of(&server);
    let answer = backend.broadcast_event(to_room("event:1", "ticket:sold", "1")).expect("accepted");
    assert_eq!(answer.delivered_connections, 450);
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.expect("ticket:sold"), 1);
        backend.send_to_user(to_user(&format!("user-{n}"), "ticket:held", "2")).expect("accepted");
        assert_eq!(client.expect("ticket:held"), 2, "a message for one connection wakes its shard");
    }

    drop((clients, backend));
    let settled = (0..10_000).any(|_| {
        server.admin("/health");
        descriptors(&server) <= before
    });
    assert!(settled, "{:?}, {before} in all before", server.descriptors());
    stop(&mut server);
}

/// K1
#[test]
fn a_full_table_stops_nobody_who_is_inside_and_newcomers_enter_when_there_is_room() {
    let server = Server::with(&[("SHARDS", "2")]);
    let mut first = server.connect();
    server.limit_files(64);
    // As many as no two such tables can hold; nobody waits for an answer, which some do not get.
    let crowd: Vec<Stream> = (0..200)
        .map(|_| {
            let mut stream = Stream::plain(server.ws);
            stream.put(&Ask::to("/ws").bytes());
            stream
        })
        .collect();
    let refused = |server: &Server| server.metric(r#"realtime_errors_total{type="accept"}"#);
    assert!((0..10_000).any(|_| refused(&server) >= 1.0), "no table was full");
    first.expect_silence();
    assert!(server.log().contains("cannot accept connections"));
    drop(crowd);
    // The kernel spreads them over both shards.
    for _ in 0..8 {
        server.connect().close();
    }
    first.close();
}

/// K1
#[test]
fn listeners_of_operators_come_back_after_the_last_descriptor_is_gone() {
    let server = Server::with(&[("LOG_LEVEL", "info")]);
    server.limit_files(FILES_MAX);
    let mut first = server.connect();
    let crowd: Vec<Stream> = (0..2 * FILES_MAX).map(|_| Stream::plain(server.admin)).collect();
    let told = (0..100_000).any(|_| server.log().contains("cannot accept callers"));
    assert!(told, "all of them fitted");
    assert_eq!(server.status_of(&Ask::to("/ws")), 101, "clients have tables of their own");
    first.expect_silence();
    drop(crowd);
    let errors = server.metric(r#"realtime_errors_total{type="accept"}"#);
    assert!(errors >= 1.0, "{errors}");
    assert_eq!(server.log().matches("cannot accept").count(), 1, "{}", server.log());
}

/// Sends everybody away; the process ends and with it all of its tables: its port is free again.
fn stop(server: &mut Server) {
    let mut clients: Vec<Client> = (0..12).map(|_| server.connect()).collect();
    server.signal(Signal::TERM);
    for client in &mut clients {
        assert_eq!(client.expect_close().0, 1001);
        client.bytes(&frame::close(1001, b""));
    }
    assert_eq!(server.wait().code(), Some(0));
    drop(clients);
    TcpListener::bind(server.ws).expect("nobody listens any more");
}
