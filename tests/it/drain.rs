//! The drain: clients are sent away at a pace, and lose nothing that was accepted before (catalogue L, R10).

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    frame,
    grpc::{Backend, to_user},
    http::{Answer, Stream},
    server::Server,
    ws::{Ask, Client, Heard},
};

/// Waits until the gateway says that it is in this phase.
fn wait_for_phase(server: &Server, phase: &str) -> Answer {
    let mut looks = (0..100_000).map(|_| server.admin("/ready"));
    looks.find(|answer| answer.json()["phase"] == phase).expect("the phase comes")
}

/// The numbers that a client hears until it is sent away, and the time to return that it is told, twice the same.
fn until_sent_away(mut client: Client) -> (Vec<u64>, u64) {
    let mut numbers = Vec::new();
    loop {
        let message = client.message();
        match message["type"].as_str() {
            Some("room:message") => numbers.push(message["payload"]["data"].as_u64().expect("a number")),
            Some("system:draining") => {
                let told = message["payload"]["reconnect_after_ms"].as_u64().expect("a time");
                let reason = json!({"reconnect_after_ms": told}).to_string();
                assert_eq!(client.hear(), Heard::Close(1001, reason), "the close follows at once");
                client.bytes(&frame::close(1001, b""));
                return (numbers, told);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Says numbers in the room until it is sent away; how many of them were accepted.
fn talk(mut talker: Client, mut said: impl FnMut(u64)) -> u64 {
    let mut accepted = 0;
    for number in 0.. {
        let payload = json!({"room": "event:1", "data": number});
        talker.text(&json!({"type": "room:message", "id": number, "payload": payload}).to_string());
        said(number);
        loop {
            match talker.hear() {
                Heard::Text(text) => {
                    let message: Value = serde_json::from_str(&text).expect("messages are JSON");
                    if message["type"] == "system:ok" && message["id"] == number {
                        accepted = number + 1;
                        break;
                    }
                }
                Heard::Close(1001, _) => {
                    talker.bytes(&frame::close(1001, b""));
                    return accepted;
                }
                Heard::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    unreachable!("numbers do not end")
}

/// L1, R10. Clients are sent away in the order in which they came, so that the talker is the last.
#[test]
fn clients_leave_one_after_another_and_each_has_all_that_was_accepted_before() {
    let mut server =
        Server::with(&[("DRAIN_RATE", "20"), ("RATE_LIMIT_MAX_MESSAGES", "0"), ("ROOM_PRESENCE", "")]);
    let join = |mut client: Client| {
        client.join("event:1");
        client
    };
    let members: Vec<Client> = (0..20).map(|_| join(server.connect())).collect();
    let talker = join(server.connect());
    let (accepted, heard) = std::thread::scope(|scope| {
        let members: Vec<_> =
            members.into_iter().map(|member| scope.spawn(|| until_sent_away(member))).collect();
        let accepted = talk(talker, |number| {
            if number == 50 {
                server.signal(Signal::TERM);
            }
        });
        let heard: Vec<_> = members.into_iter().map(|member| member.join().expect("it was told")).collect();
        (accepted, heard)
    });
    assert_eq!(server.wait().code(), Some(0));
    let counts: Vec<usize> = heard.iter().map(|(numbers, _)| numbers.len()).collect();
    for (numbers, told) in &heard {
        assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "no hole, none twice: {numbers:?}");
        assert!((1..=1_000).contains(told), "a time of its own to return: {told}");
    }
    assert!(counts[0] >= 50 && counts.is_sorted(), "who leaves later has heard more: {counts:?}");
    let last = counts[counts.len() - 1];
    assert!(last as u64 <= accepted + 1, "{last} of {accepted}");
    let different = counts.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!(different >= 10, "not all at once: {counts:?}");
}

/// L1. The gateway is asked to stop while it stands still, so that everybody waits at its listener when it goes on.
#[test]
fn who_waits_at_the_listener_when_it_closes_is_let_in_and_sent_away() {
    let mut server = Server::start();
    server.signal(Signal::STOP);
    let mut waiting: Vec<Stream> = (0..400).map(|_| Stream::plain(server.ws)).collect();
    for stream in &mut waiting {
        stream.put(&Ask::to("/ws").bytes());
    }
    server.signal(Signal::TERM);
    server.signal(Signal::CONT);
    for (n, stream) in waiting.into_iter().enumerate() {
        let client = Client::answered(stream).unwrap_or_else(|answer| panic!("{n}: {}", answer.status));
        until_sent_away(client.greeted());
    }
    assert_eq!(server.wait().code(), Some(0));
}

/// L1. Ten clients at two a second take five seconds; whatever is looked at here takes less.
#[test]
fn who_has_not_had_its_turn_is_served_as_before() {
    let mut server = Server::with(&[("DRAIN_RATE", "2"), ("SHARDS", "2")]);
    let mut clients: Vec<Client> = (0..10).map(|_| server.connect()).collect();
    server.signal(Signal::TERM);
    let body = wait_for_phase(&server, "draining").json();
    assert_eq!((&body["status"], &body["reason"]), (&json!("not ready"), &json!("draining")));
    assert_eq!(server.metric(r#"usher_phase{phase="draining"}"#), 1.0);
    // Of each shard one left at once; nobody knows which clients those are.
    let pong = |client: &mut Client| {
        client.send("system:ping", &json!(1));
        client.message()["type"] == "system:pong"
    };
    let served = clients.iter_mut().filter_map(|client| pong(client).then_some(())).count();
    assert!((5..10).contains(&served), "{served} are still served");
    assert!(body["connections"].as_u64().is_some_and(|left| left >= 5), "{body}");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

/// L1
#[test]
fn while_load_balancers_notice_everybody_is_served() {
    let mut server = Server::with(&[("DRAIN_DELAY", "1h"), ("SHUTDOWN_TIMEOUT", "1h")]);
    let mut ann = server.connect_as("ann");
    let backend = Backend::of(&server);
    server.signal(Signal::TERM);
    assert_eq!(wait_for_phase(&server, "leaving").status, 503);
    assert_eq!(server.get("/ready").status, 503, "on the client port too");
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.metric(r#"usher_phase{phase="leaving"}"#), 1.0);
    let answer = backend.send_to_user(to_user("ann", "booking:updated", "1")).expect("accepted");
    assert_eq!((answer.delivered_connections, ann.expect("booking:updated")), (1, json!(1)));
    server.connect().expect_silence();
    ann.expect_silence();
    server.signal(Signal::TERM);
    assert_eq!(ann.expect_end(), 1001);
    assert_eq!(server.wait().code(), Some(0));
}

/// L2
#[test]
fn a_second_signal_sends_everybody_away_at_once_and_spreads_their_return() {
    let mut server = Server::with(&[("DRAIN_RATE", "1"), ("SHUTDOWN_TIMEOUT", "1h")]);
    let clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    server.signal(Signal::TERM);
    wait_for_phase(&server, "draining");
    server.signal(Signal::TERM);
    let told: Vec<u64> = clients.into_iter().map(|client| until_sent_away(client).1).collect();
    assert_eq!(server.wait().code(), Some(0));
    assert!(told.iter().any(|ms| *ms > 1_000), "their turns were up to twenty seconds away: {told:?}");
}

/// L1
#[test]
fn the_time_out_holds_whatever_the_rate() {
    let mut server = Server::with(&[("DRAIN_RATE", "1"), ("SHUTDOWN_TIMEOUT", "2s")]);
    let clients: Vec<Client> = (0..100).map(|_| server.connect()).collect();
    server.signal(Signal::TERM);
    for client in clients {
        until_sent_away(client);
    }
    assert_eq!(server.wait().code(), Some(0));
}
