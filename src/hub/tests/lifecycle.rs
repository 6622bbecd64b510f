use super::*;
use crate::{event::Denial, handler::Reply, wire::close::Close};

#[test]
fn an_anonymous_connection_is_upgraded_and_greeted_at_once() {
    let mut scene = Scene::new();
    let conn = id(5);
    scene.handle(Input::Open { conn, dialect: Dialect::Ticketing, identity: None, resume_waits: false });
    assert_eq!(scene.take(), [Output::Upgrade { conn }]);
    assert_eq!(scene.dirty(), [conn]);
    let wanted = ["system:connected", &conn.to_string(), r#""user_id":null"#, r#""ping_interval_ms":30000"#];
    assert_one(&scene.read(conn), &wanted);
    assert_eq!((scene.cells.connections.get(), scene.cells.connections_authenticated.get()), (1, 0));
}

#[test]
fn a_user_is_upgraded_when_control_admits_it() {
    let mut scene = Scene::new();
    let conn = id(5);
    let identity = identity("ann", &[]);
    scene.handle(Input::Open {
        conn,
        dialect: Dialect::Ticketing,
        identity: Some(identity),
        resume_waits: false,
    });
    assert_eq!(scene.take(), [Output::Admit { conn, user: "ann".into(), user_connections: 1 }]);
    assert_eq!((scene.read(conn).len(), scene.cells.connections.get()), (0, 0));
    scene.admit(conn);
    assert_eq!(scene.take(), [Output::Upgrade { conn }]);
    let wanted = [r#""user_id":"ann""#, r#""stream":"user:ann""#, r#""offset":7"#, r#""authenticated":true"#];
    assert_one(&scene.read(conn), &wanted);
    assert_eq!((scene.cells.connections.get(), scene.cells.connections_authenticated.get()), (1, 1));
    assert_eq!(scene.cells.users.get(), 1);
}

#[test]
fn raw_connections_are_told_nothing_but_events() {
    let mut scene = Scene::new();
    let conn = scene.raw(0);
    assert_eq!(scene.read(conn), [""; 0]);
    scene.deliver(&event(Target::Everyone, r#"{"a":1}"#));
    assert_one(&scene.read(conn), &[r#""payload":{"a":1}"#]);
}

#[test]
fn a_denied_user_is_rejected_and_forgotten() {
    for (denial, status) in [(Denial::TooManyConnections, 429), (Denial::Overloaded, 503)] {
        let mut scene = Scene::new();
        let conn = scene.pending(0, identity("ann", &[]));
        scene.handle(Input::Denied { conn, denial, retry_after_ms: 1_500 });
        assert_eq!(scene.take(), [Output::Reject { conn, status, retry_after_s: 2 }]);
        assert!(!scene.hub.contains(conn) && scene.hub.is_empty());
        assert_eq!(scene.members(), [(r#"User("ann")"#.into(), 0)], "control was told of one");
        assert_eq!(scene.cells.users.get(), 0);
    }
}

#[test]
fn a_user_who_was_let_in_beyond_the_limit_is_closed_later() {
    let mut scene = Scene::new();
    let (open, waiting) = (scene.user(0, "ann"), scene.pending(1, identity("ann", &[])));
    for conn in [open, waiting] {
        scene.handle(Input::Denied { conn, denial: Denial::LimitPassed, retry_after_ms: 5_000 });
    }
    assert_eq!(scene.take(), [Output::Reject { conn: waiting, status: 429, retry_after_s: 5 }]);
    assert_eq!(scene.read(open), ["close 4429 rate limited"]);
}

#[test]
fn control_hears_of_connections_and_members_once() {
    let mut scene = Scene::new();
    let first = scene.user(0, "ann");
    assert_eq!(scene.members(), [], "the admission said so");
    let second = scene.pending(1, identity("ann", &[]));
    scene.admit(second);
    scene.take();
    scene.join(first, "event:1");
    scene.handle(Input::Gone { conn: second });
    let changes = [(r#"User("ann")"#.into(), 1), (r#"Room("event:1")"#.into(), 1)];
    assert!(scene.hub.reports_pending());
    assert_eq!(scene.members(), changes);
    assert!(!scene.hub.reports_pending());
    scene.handle(Input::Gone { conn: first });
    assert_eq!(scene.members(), [(r#"User("ann")"#.into(), 0), (r#"Room("event:1")"#.into(), 0)]);
    assert_eq!((scene.cells.users.get(), scene.cells.rooms.get(), scene.hub.len()), (0, 0, 0));
}

#[test]
fn what_control_cannot_take_yet_is_reported_again() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    scene.join(conn, "a");
    scene.join(conn, "b");
    scene.hub.take_reports(&mut |_| false);
    assert_eq!(scene.members(), [(r#"Room("a")"#.into(), 1), (r#"Room("b")"#.into(), 1)]);
}

#[test]
fn a_peers_close_is_answered_with_its_code_and_shut_down() {
    for (code, answer) in [(Some(1001), "close 1001 "), (Some(4242), "close 4242 "), (None, "close 1000 ")] {
        let mut scene = Scene::new();
        let conn = scene.anonymous(0);
        scene.say(conn, r#"{"type":"system:ping"}"#);
        scene.handle(Input::PeerClose { conn, code });
        assert_eq!(scene.take(), [Output::Shutdown { conn }]);
        let frames = scene.read(conn);
        assert!(frames[0].contains("system:pong"), "what waited goes first");
        assert_eq!(frames[1], answer);
        assert_eq!(scene.cells.closed.iter().map(|cell| cell.get()).sum::<u64>(), 0);
    }
}

#[test]
fn our_close_waits_for_the_peers() {
    let mut scene = Scene::new();
    let conn = scene.user(0, "ann");
    scene.handle(Input::Disconnect { user: "ann".into() });
    assert_eq!(scene.take(), []);
    assert_eq!(scene.read(conn), ["close 4401 revoked"]);
    assert_eq!(scene.cells.closed[10].get(), 1);
    assert_eq!(scene.ask(conn, r#"{"type":"system:ping"}"#), [""; 0], "data after close is ignored");
    scene.handle(Input::PeerClose { conn, code: Some(4401) });
    assert_eq!(scene.take(), [Output::Shutdown { conn }]);
    assert_eq!(scene.read(conn), [""; 0]);
    scene.pass(Duration::from_secs(60));
    assert_eq!(scene.take(), [], "once");
}

#[test]
fn a_peer_that_does_not_answer_a_close_is_shut_down_in_time() {
    let mut scene = Scene::new();
    let conn = scene.user(0, "ann");
    scene.handle(Input::Disconnect { user: "ann".into() });
    scene.pass(Duration::from_millis(4_900));
    assert_eq!(scene.take(), []);
    scene.pass(Duration::from_millis(300));
    assert_eq!(scene.take(), [Output::Shutdown { conn }]);
}

#[test]
fn who_breaks_the_protocol_is_told_and_shut_down_at_once() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    scene.handle(Input::Violation { conn, close: Close::TooBig });
    assert_eq!(scene.take(), [Output::Shutdown { conn }]);
    assert_eq!(scene.read(conn), ["close 1009 message too big"]);
    assert_eq!(scene.cells.closed[6].get(), 1);
    scene.handle(Input::Violation { conn, close: Close::TooBig });
    assert_eq!((scene.take(), scene.read(conn)), (vec![], vec![]));
}

#[test]
fn what_was_asked_before_a_close_is_answered_before_it() {
    let ends =
        [(|conn| Input::PeerClose { conn, code: Some(1000) }) as fn(ConnId) -> Input<'static>, |conn| {
            Input::Violation { conn, close: Close::Protocol("bad") }
        }];
    for end in ends {
        let mut scene = Scene::with_custom(CustomTypes { raw: true, ..CustomTypes::default() }, |_| {});
        let conn = scene.raw(0);
        scene.say(conn, "echo");
        scene.handle(end(conn));
        let outputs = scene.take();
        assert!(matches!(outputs[..], [Output::Custom { .. }, Output::Shutdown { .. }]), "{outputs:?}");
        scene.handle(Input::Reply { conn, request: None, reply: Reply::Text("echo".into()) });
        let frames = scene.read(conn);
        assert!(frames.len() == 2 && frames[0] == "echo" && frames[1].starts_with("close"), "{frames:?}");
        scene.handle(Input::Reply { conn, request: None, reply: Reply::Text("late".into()) });
        assert_eq!(scene.read(conn), [""; 0]);
    }
}

#[test]
fn a_disconnected_user_loses_the_connections_admitted_so_far() {
    let mut scene = Scene::new();
    let (one, two) = (scene.user(0, "ann"), scene.user(1, "ann"));
    let other = scene.user(3, "bob");
    let waiting = scene.pending(2, identity("ann", &[]));
    scene.handle(Input::Disconnect { user: "ann".into() });
    for conn in [one, two] {
        assert_eq!(scene.read(conn), ["close 4401 revoked"]);
    }
    assert_eq!((scene.take(), scene.read(other)), (vec![], vec![]));
    scene.admit(waiting);
    assert_one(&scene.read(waiting), &["system:connected"]);
    scene.handle(Input::Disconnect { user: "nobody".into() });
}

#[test]
fn inputs_for_a_connection_that_is_gone_do_nothing() {
    let mut scene = Scene::new();
    let conn = scene.user(0, "ann");
    scene.handle(Input::Gone { conn });
    let next = ConnId::new(ShardId(3), 1, 0);
    scene.handle(Input::Open {
        conn: next,
        dialect: Dialect::Ticketing,
        identity: None,
        resume_waits: false,
    });
    scene.take();
    scene.read(next);
    scene.dirty();
    scene.say(conn, r#"{"type":"system:ping"}"#);
    scene.handle(Input::Ping { conn, payload: b"x" });
    scene.handle(Input::Violation { conn, close: Close::TooBig });
    scene.handle(Input::PeerClose { conn, code: None });
    scene.admit(conn);
    scene.verified(conn, Purpose::Login, Ok(identity("ann", &[])));
    scene.handle(Input::Gone { conn });
    scene.deliver(&event(Target::Connection(conn), "1"));
    assert_eq!((scene.take(), scene.dirty()), (vec![], vec![]));
    assert_eq!((scene.read(next), scene.hub.len()), (vec![], 1));
}

#[test]
fn a_slot_is_used_again_without_a_trace_of_before() {
    let mut scene = Scene::new();
    for generation in 0..3 {
        let conn = ConnId::new(ShardId(3), generation, 0);
        scene.handle(Input::Open {
            conn,
            dialect: Dialect::Ticketing,
            identity: Some(identity("ann", &[])),
            resume_waits: false,
        });
        scene.admit(conn);
        scene.join(conn, "event:1");
        scene.handle(Input::Ping { conn, payload: b"x" });
    }
    assert_eq!((scene.hub.len(), scene.cells.connections.get()), (1, 1));
}
