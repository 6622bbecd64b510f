//! Joins that control decides.

use super::*;
use crate::{
    event::RoomDenial,
    limits::{JOIN_TIME_MAX, ROOMS_PER_CONNECTION_MAX},
};

const LEAVE: &str = r#"{"type":"room:leave","id":"l","payload":{"room":"sale:1"}}"#;
const JOIN: &str = r#"{"type":"room:join","id":"j2","payload":{"room":"sale:1"}}"#;

/// Rooms `sale:*` are kept.
fn kept_rooms() -> Scene {
    Scene::with(|settings| settings.streams.rooms = vec!["sale:*".into()])
}

fn entry(offset: u64) -> RoomEntry {
    let position = Position { stream: "room:sale:1".into(), epoch: "e".into(), offset };
    RoomEntry { members: 12, position: Some(position) }
}

/// What control was asked, without the attempt.
fn asked(scene: &mut Scene) -> Vec<(String, u32, bool)> {
    let asked = scene.take().into_iter().filter_map(|output| match output {
        Output::Join { room, members, newcomer, .. } => Some((room.to_string(), members, newcomer)),
        _ => None,
    });
    asked.collect()
}

#[test]
fn control_decides_about_rooms_with_a_limit_a_stream_or_presence() {
    let mut scene = Scene::with(|settings| {
        settings.streams.rooms = vec!["sale:*".into()];
        settings.client.rooms_presence = vec!["team:*".into()];
    });
    let conn = scene.anonymous(0);
    for (room, governed) in [("sale:1", true), ("team:1", true), ("event:1", false)] {
        scene.say(conn, &format!(r#"{{"type":"room:join","payload":{{"room":"{room}"}}}}"#));
        let expected = if governed { vec![(room.to_owned(), 1, true)] } else { vec![] };
        assert_eq!(asked(&mut scene), expected);
        assert_eq!(scene.read(conn).len(), usize::from(!governed), "{room}");
    }
    let mut scene = Scene::with(|settings| settings.limits.room_members_max = 9);
    let conn = scene.anonymous(0);
    scene.ask_to_join(conn, "event:1");
}

#[test]
fn a_member_gets_what_follows_the_position_that_it_was_told() {
    let mut scene = kept_rooms();
    let (member, conn) = (scene.anonymous(0), scene.anonymous(1));
    scene.join(member, "sale:1");
    let attempt = scene.ask_to_join(conn, "sale:1");
    scene.deliver(&event(room("sale:1"), "1"));
    scene.let_in(conn, attempt, entry(7));
    scene.deliver(&event(room("sale:1"), "2"));
    let frames = scene.read(conn);
    assert_one(&frames[..1], &["room:joined", r#""members":12"#, r#""epoch":"e","offset":7"#, r#""id":"j""#]);
    assert_one(&frames[1..], &[r#""payload":2"#]);
    assert_eq!(scene.read(member).len(), 2);
}

#[test]
fn control_is_told_of_everybody_who_waits() {
    let mut scene = kept_rooms();
    let conns: Vec<ConnId> = (0..3).map(|slot| scene.anonymous(slot)).collect();
    let attempts: Vec<u32> = conns
        .iter()
        .zip(1..)
        .map(|(conn, count)| {
            scene.say(*conn, JOIN);
            match scene.take()[..] {
                [Output::Join { attempt, members, newcomer: true, .. }] if members == count => attempt,
                ref other => panic!("{other:?}"),
            }
        })
        .collect();
    assert_eq!(scene.members(), [], "the requests said it");
    scene.let_in(conns[0], attempts[0], entry(0));
    assert_eq!(scene.members(), [], "as control counted");
    let full = Err(RoomDenial::Full);
    scene.handle(Input::JoinDecided { conn: conns[1], attempt: attempts[1], outcome: full });
    assert_one(&scene.read(conns[1]), &["room_full", r#""ref":"room:join""#, r#""id":"j2""#]);
    scene.handle(Input::Gone { conn: conns[2] });
    assert_eq!(scene.members(), [(r#"Room("sale:1")"#.into(), 1)]);
    scene.let_in(conns[2], attempts[2], entry(0));
    assert_eq!((scene.members(), scene.hub.room_members("sale:1")), (vec![], 1), "too late");
}

#[test]
fn a_second_join_while_the_first_waits_is_refused() {
    let mut scene = kept_rooms();
    let conn = scene.anonymous(0);
    let attempt = scene.ask_to_join(conn, "sale:1");
    assert_one(&scene.ask(conn, JOIN), &["busy", r#""id":"j2""#]);
    assert_eq!(scene.take(), []);
    scene.let_in(conn, attempt, entry(0));
    assert_one(&scene.read(conn), &["room:joined", r#""id":"j""#]);
}

#[test]
fn a_member_that_joins_again_learns_where_the_stream_stands() {
    let mut scene = kept_rooms();
    let conn = scene.anonymous(0);
    scene.join(conn, "sale:1");
    scene.say(conn, JOIN);
    let [Output::Join { attempt, members: 1, newcomer: false, .. }] = scene.take()[..] else { panic!() };
    scene.deliver(&event(room("sale:1"), "1"));
    scene.let_in(conn, attempt, entry(8));
    let frames = scene.read(conn);
    assert!(frames[0].contains(r#""payload":1"#), "a member all the time: {frames:?}");
    assert_one(&frames[1..], &["room:joined", r#""offset":8"#]);
    assert_eq!(scene.hub.room_members("sale:1"), 1);
    scene.say(conn, JOIN);
    let frames = scene.ask(conn, LEAVE);
    assert!(frames[0].contains(r#""code":"left""#) && frames[1].contains("room:left"), "{frames:?}");
    assert_eq!((scene.hub.room_members("sale:1"), scene.cells.rooms.get()), (0, 0));
}

#[test]
fn leaving_while_the_join_waits_ends_it() {
    let mut scene = kept_rooms();
    let conn = scene.anonymous(0);
    let first = scene.ask_to_join(conn, "sale:1");
    let frames = scene.ask(conn, LEAVE);
    assert_one(&frames[..1], &["system:error", r#""code":"left""#, r#""id":"j""#]);
    assert_one(&frames[1..], &["room:left", r#""id":"l""#]);
    assert_one(&scene.ask(conn, LEAVE), &["not_in_room"]);
    let second = scene.ask_to_join(conn, "sale:1");
    scene.let_in(conn, first, entry(3));
    assert_eq!(scene.read(conn), [""; 0], "the answer to an attempt that was given up");
    scene.let_in(conn, second, entry(5));
    assert_one(&scene.read(conn), &[r#""offset":5"#]);
}

#[test]
fn a_join_that_control_does_not_answer_is_refused_in_time() {
    let mut scene = kept_rooms();
    let conn = scene.anonymous(0);
    let attempt = scene.ask_to_join(conn, "sale:1");
    scene.pass(JOIN_TIME_MAX);
    assert_eq!(scene.read(conn), [""; 0]);
    scene.pass(Duration::from_millis(200));
    assert_one(&scene.read(conn), &["overloaded", "retry_after_ms", r#""id":"j""#]);
    assert_eq!(scene.cells.joins_unanswered.get(), 1);
    assert_eq!(scene.members(), [(r#"Room("sale:1")"#.into(), 0)], "whatever control decided");
    scene.let_in(conn, attempt, entry(3));
    assert_eq!((scene.read(conn), scene.hub.room_members("sale:1")), (vec![], 0));
}

#[test]
fn a_join_that_could_not_be_asked_is_refused_at_once() {
    let mut scene = kept_rooms();
    let conn = scene.anonymous(0);
    let attempt = scene.ask_to_join(conn, "sale:1");
    let outcome = Err(RoomDenial::Overloaded { retry_after_ms: 1_000 });
    scene.handle(Input::JoinDecided { conn, attempt, outcome });
    assert_one(&scene.read(conn), &["overloaded", r#""retry_after_ms":1000"#]);
    assert_eq!(scene.members(), [(r#"Room("sale:1")"#.into(), 0)], "control need not have heard of it");
}

#[test]
fn who_closes_or_is_sent_away_waits_for_no_room() {
    let ends: [fn(&mut Scene, ConnId); 3] = [
        |scene, _| scene.handle(Input::SendAway { count: None, return_ms: 10 }),
        |scene, conn| scene.handle(Input::PeerClose { conn, code: None }),
        |scene, conn| scene.handle(Input::Gone { conn }),
    ];
    for end in ends {
        let mut scene = kept_rooms();
        let conn = scene.anonymous(0);
        let attempt = scene.ask_to_join(conn, "sale:1");
        end(&mut scene, conn);
        assert_eq!(scene.members(), [(r#"Room("sale:1")"#.into(), 0)]);
        scene.let_in(conn, attempt, entry(3));
        assert_eq!((scene.hub.room_members("sale:1"), scene.members()), (0, vec![]));
    }
}

#[test]
fn a_logout_gives_up_the_joins_that_need_the_token() {
    let mut scene = Scene::with(|settings| settings.limits.room_members_max = 9);
    let conn = scene.granted(0, "ann", &["private:a"]);
    let private = scene.ask_to_join(conn, "private:a");
    let public = scene.ask_to_join(conn, "event:1");
    let frames = scene.ask(conn, r#"{"type":"auth:logout"}"#);
    assert!(frames[0].contains("forbidden") && frames[0].contains(r#""id":"j""#), "{frames:?}");
    scene.let_in(conn, private, entry(0));
    assert_eq!(scene.hub.room_members("private:a"), 0);
    scene.let_in(conn, public, RoomEntry { members: 3, position: None });
    assert_one(&scene.read(conn), &["room:joined", "event:1", r#""members":3}"#]);
}

#[test]
fn who_waits_for_a_room_may_not_speak_there() {
    let mut scene = kept_rooms();
    let conn = scene.anonymous(0);
    scene.ask_to_join(conn, "sale:1");
    let say = r#"{"type":"room:message","payload":{"room":"sale:1","data":1}}"#;
    assert_one(&scene.ask(conn, say), &["not_in_room"]);
}

#[test]
fn rooms_that_one_waits_for_count_among_ones_rooms() {
    let mut scene = Scene::with(|settings| {
        settings.streams.rooms = vec!["sale:*".into()];
        settings.limits.messages_max = 0;
    });
    let conn = scene.anonymous(0);
    for n in 1..=ROOMS_PER_CONNECTION_MAX {
        scene.ask_to_join(conn, &format!("sale:0{n}"));
    }
    assert_one(&scene.ask(conn, JOIN), &["too_many_rooms"]);
}
