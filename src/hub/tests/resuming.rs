//! Who may resume what, and what ends it.

use super::{
    resume::{ANN, PING, UNACKNOWLEDGED, begin, end, page, place, resumed, resync, stored},
    *,
};
use crate::{
    event::{ReplayEnd, ReplayPage, Resume, RoomDenial},
    hub::ReplayAsk,
    limits::REPLAY_TIME_MAX,
};

#[test]
fn a_room_that_is_resumed_is_come_into() {
    let mut scene = Scene::kept();
    let conn = scene.anonymous(0);
    let stream = "room:sale:1";
    scene.resume(conn, &[(stream, 4)]);
    let [Output::Join { attempt, newcomer: true, .. }] = scene.take()[..] else { panic!() };
    assert_eq!(scene.asks(), [], "once it has its seat");
    scene.live(stream, 5);
    let position = Some(place(stream, 5));
    scene.let_in(conn, attempt, RoomEntry { members: 1, position });
    scene.live(stream, 6);
    assert_eq!(
        scene.asks(),
        [ReplayAsk::Begin { conn, user: None, resume: Resume::Streams(vec![place(stream, 4)]) }]
    );
    scene.page(conn, page(stream, 5..=5, end(4, 5)));
    assert_eq!(scene.seen(conn), ["5", &resumed(stream, true, 4, 5), "6"], "no `room:joined`");
    assert_eq!(scene.hub.room_members("sale:1"), 1);
}

#[test]
fn a_room_that_refuses_is_not_resumed() {
    let mut scene = Scene::kept();
    let conn = scene.anonymous(0);
    scene.resume(conn, &[("room:sale:1", 4)]);
    let [Output::Join { attempt, .. }] = scene.take()[..] else { panic!() };
    scene.handle(Input::JoinDecided { conn, attempt, outcome: Err(RoomDenial::Full) });
    assert_one(&scene.read(conn), &["room_full", r#""ref":"system:resume""#, r#""id":"r""#, "room:sale:1: "]);
    assert_eq!((scene.asks(), scene.has_rare(conn)), (vec![], false));
}

#[test]
fn streams_of_others_are_refused_one_by_one() {
    let mut scene = Scene::kept();
    let conn = scene.waiting(0, "ann");
    for (stream, code) in [
        ("user:bob", "not_allowed"),
        ("user:annabel", "not_allowed"),
        ("room:private:x", "not_allowed"),
        ("room:event:1", "not_kept"),
    ] {
        scene.resume(conn, &[(stream, 1)]);
        assert_one(&scene.read(conn), &[code, stream, r#""ref":"system:resume""#, r#""id":"r""#]);
    }
    let stranger = scene.anonymous(1);
    assert_one(&scene.ask(stranger, UNACKNOWLEDGED), &["not_allowed"]);
    scene.resume(stranger, &[(ANN, 1)]);
    assert_one(&scene.read(stranger), &["not_allowed"]);
    scene.resume(conn, &[("user:bob", 1), (ANN, 7)]);
    assert_one(&scene.read(conn), &["not_allowed"]);
    assert_eq!(scene.asks(), [begin(conn, "ann", place(ANN, 7))], "the others are resumed");
    scene.resume(conn, &[(ANN, 7)]);
    assert_one(&scene.read(conn), &["busy"]);
    assert_eq!(scene.cells.resumes[2].get(), 7);
}

#[test]
fn what_was_not_acknowledged_is_replayed_from_where_control_knows() {
    let mut scene = Scene::new();
    let conn = scene.waiting(0, "ann");
    scene.say(conn, UNACKNOWLEDGED);
    let unacknowledged = Resume::Unacknowledged;
    assert_eq!(scene.asks(), [ReplayAsk::Begin { conn, user: Some("ann".into()), resume: unacknowledged }]);
    scene.page(conn, page(ANN, 3..=6, None));
    assert_eq!(scene.seen(conn), ["3", "4", "5", "6"]);
    assert_eq!(scene.asks(), [ReplayAsk::More { conn, after: place(ANN, 6) }]);
    scene.page(conn, page(ANN, 7..=7, end(6, 7)));
    let frames = scene.seen(conn);
    assert_eq!(frames[0], "7");
    assert!(frames[1].contains(r#""recovered":true,"from":2,"to":7"#), "{frames:?}");
}

#[test]
fn a_resume_waits_until_it_is_known_whose_the_connection_is() {
    let mut scene = Scene::new();
    let conn = id(0);
    scene.handle(Input::Open { conn, dialect: Dialect::Ticketing, identity: None, resume_waits: true });
    scene.read(conn);
    scene.say(conn, r#"{"type":"auth:login","id":"1","payload":{"token":"t"}}"#);
    scene.resume(conn, &[(ANN, 6)]);
    scene.resume(conn, &[(ANN, 6)]);
    assert_one(&scene.read(conn), &["busy"]);
    scene.verified(conn, Purpose::Login, Ok(identity("ann", &[])));
    assert_eq!((scene.read(conn).len(), scene.asks()), (0, vec![]));
    scene.admit(conn);
    assert_one(&scene.read(conn), &["auth:ok"]);
    assert_eq!(scene.asks(), [begin(conn, "ann", place(ANN, 6))]);
    scene.live(ANN, 8);
    scene.page(conn, page(ANN, 7..=7, end(6, 7)));
    assert_eq!(scene.seen(conn), ["7", &resumed(ANN, true, 6, 7), "8"]);
}

#[test]
fn a_resume_behind_a_login_that_failed_is_nobodys() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    scene.say(conn, r#"{"type":"auth:login","payload":{"token":"t"}}"#);
    scene.resume(conn, &[(ANN, 6)]);
    let result = Err(Rejection::TooManyFailures { retry_after_ms: 1 });
    scene.handle(Input::Verified { conn, purpose: Purpose::Login, request: None, result });
    let frames = scene.read(conn);
    assert!(frames[0].contains("rate_limited") && frames[1].contains("not_allowed"), "{frames:?}");
    assert!(!scene.has_rare(conn));
}

#[test]
fn logging_out_and_leaving_end_a_replay() {
    let mut scene = Scene::kept();
    let conn = scene.waiting(0, "ann");
    scene.join(conn, "sale:1");
    scene.resume(conn, &[(ANN, 4), ("room:sale:1", 3)]);
    scene.asks();
    let frames = scene.ask(conn, r#"{"type":"room:leave","payload":{"room":"sale:1"}}"#);
    assert!(frames[0].contains(r#""code":"left""#) && frames[1].contains("room:left"), "{frames:?}");
    let frames = scene.ask(conn, r#"{"type":"auth:logout"}"#);
    assert!(frames[0].contains(r#""code":"left""#) && frames[1].contains("auth:ok"), "{frames:?}");
    scene.page(conn, page(ANN, 5..=8, end(4, 8)));
    assert_eq!((scene.seen(conn), scene.asks()), (vec![], vec![]));
    assert!(!scene.has_rare(conn));
}

#[test]
fn who_cannot_ask_control_is_told_and_may_try_again() {
    let mut scene = Scene::new();
    let conn = scene.waiting(0, "ann");
    scene.resume(conn, &[(ANN, 6)]);
    assert_eq!(scene.ask_in_vain(), 1);
    assert_one(&scene.read(conn), &["overloaded", "retry_after_ms", r#""id":"r""#]);
    scene.live(ANN, 8);
    assert_eq!((scene.seen(conn), scene.asks()), (vec![], vec![]), "held a while longer");
    scene.resume(conn, &[(ANN, 6)]);
    scene.asks();
    scene.page(conn, page(ANN, 7..=7, None));
    scene.seen(conn);
    assert_eq!(
        (scene.ask_in_vain(), scene.ask_in_vain()),
        (1, 1),
        "what was begun is asked until it is heard"
    );
    assert_eq!(scene.asks(), [ReplayAsk::More { conn, after: place(ANN, 7) }]);
    assert_eq!(scene.seen(conn), [""; 0]);
}

#[test]
fn a_resume_that_is_not_answered_may_be_asked_again() {
    let mut scene = Scene::new();
    let late = REPLAY_TIME_MAX + Duration::from_millis(200);
    let conn = scene.waiting(0, "ann");
    scene.resume(conn, &[(ANN, 4)]);
    scene.asks();
    scene.pass(late);
    assert_one(&scene.read(conn), &["overloaded"]);
    scene.page(conn, page(ANN, 5..=6, None));
    assert_eq!(scene.seen(conn), [""; 0], "too late");
    scene.resume(conn, &[(ANN, 4)]);
    assert_eq!(scene.asks(), [begin(conn, "ann", place(ANN, 4))]);
    assert_eq!(scene.cells.replays_unanswered.get(), 1);
}

#[test]
fn a_resync_reaches_all_who_have_the_stream() {
    let mut scene = Scene::kept();
    let (plain, replaying) = (scene.user(0, "ann"), scene.waiting(1, "ann"));
    let (asking, held) = (scene.waiting(2, "ann"), scene.waiting(6, "ann"));
    let (raw, other) = (scene.raw(3), scene.user(4, "bob"));
    let pending = scene.pending(5, identity("ann", &[]));
    for conn in [replaying, asking] {
        scene.resume(conn, &[(ANN, 4)]);
        scene.asks();
    }
    scene.page(replaying, page(ANN, 5..=5, None));
    assert_eq!(scene.seen(replaying), ["5"]);
    scene.asks();
    for conn in [replaying, asking, held] {
        scene.live(ANN, 8);
        assert_eq!(scene.seen(conn), [""; 0]);
    }
    scene.seen(plain);
    let position = Position { epoch: "f".into(), ..place(ANN, 2) };
    scene.handle(Input::Resync { position, lost: true });
    let expected = [resync(ANN, "f", 2)];
    assert_eq!(scene.seen(plain), expected);
    for conn in [replaying, asking, held] {
        assert_eq!(scene.seen(conn), [""; 0], "a page tells them");
    }
    assert_eq!((scene.seen(raw), scene.seen(other), scene.seen(pending)), (vec![], vec![], vec![]));
    let live = Event { position: Some(Position { epoch: "f".into(), ..place(ANN, 3) }), ..stored(ANN, 3) };
    scene.deliver(&live);
    scene.say(held, PING);
    scene.read(held);
    let lost = |from| {
        let end = Some(ReplayEnd { recovered: false, from, to: 2 });
        Box::new(ReplayPage { epoch: "f".into(), ..*page(ANN, 0..0, end) })
    };
    for (conn, from) in [(replaying, 5), (asking, 4)] {
        scene.page(conn, lost(from));
        let frames = scene.seen(conn);
        assert!(frames[0].contains(r#""recovered":false,"from":4,"to":2,"epoch":"f""#), "{frames:?}");
        assert_eq!(frames[1..], ["3"]);
    }
    assert_eq!(scene.asks(), [ReplayAsk::More { conn: held, after: place(ANN, 7) }]);
    scene.page(held, lost(7));
    assert_eq!(scene.seen(held), [resync(ANN, "f", 2), "3".into()], "what came before the resync is void");
}

#[test]
fn acknowledgements_are_for_ones_own_streams() {
    let mut scene = Scene::kept();
    let conn = scene.user(0, "ann");
    scene.join(conn, "sale:1");
    let ack = |stream: &str, more: &str| {
        format!(r#"{{"type":"system:ack","id":"a","payload":{{"stream":"{stream}","offset":5{more}}}}}"#)
    };
    for (stream, more, epoch) in [(ANN, "", ""), (ANN, r#","epoch":"e""#, "e"), ("room:sale:1", "", "")] {
        scene.say(conn, &ack(stream, more));
        let (stream, epoch) = (stream.into(), epoch.into());
        assert_eq!(scene.take(), [Output::Acknowledge { stream, epoch, offset: 5 }]);
        assert_eq!(scene.seen(conn), [""; 0]);
    }
    for stream in ["user:bob", "room:sale:2", "room:event:1"] {
        assert_one(
            &scene.ask(conn, &ack(stream, "")),
            &["not_allowed", r#""ref":"system:ack""#, r#""id":"a""#],
        );
        assert_eq!(scene.take(), []);
    }
}
