//! Where pages and what comes live meet under different names of a stream, or one of them is far behind the other.

use super::{
    resume::{ANN, PING, end, page, place, resumed, resync, stored},
    *,
};
use crate::{
    event::{ReplayEnd, ReplayPage},
    hub::ReplayAsk,
    limits::{REPLAY_ASKS_MAX, REPLAY_TIME_MAX, RESUME_WAIT_MAX},
};

/// A place in the epoch in which `e` goes on.
fn later(offset: u64) -> Position {
    Position { epoch: "f".into(), ..place(ANN, offset) }
}

fn named(position: Position) -> Event {
    Event { position: Some(position.clone()), ..stored(ANN, position.offset) }
}

/// A page of the epoch `f`, behind that place.
fn goes_on(after: &Position, last: u64, end: Option<ReplayEnd>) -> Box<ReplayPage> {
    let events = (after.offset + 1..=last).map(|offset| Arc::new(named(later(offset)))).collect();
    let (stream, follows, epoch) = (ANN.into(), after.epoch.clone(), "f".into());
    Box::new(ReplayPage { stream, follows, epoch, events, end })
}

fn more(conn: ConnId, after: Position) -> [ReplayAsk; 1] {
    [ReplayAsk::More { conn, after }]
}

/// What control delivered stands at 7, and the replay is over at 9: publications are behind.
fn ahead(scene: &mut Scene) -> ConnId {
    let conn = scene.waiting(0, "ann");
    scene.resume(conn, &[(ANN, 7)]);
    scene.asks();
    scene.page(conn, page(ANN, 8..=9, end(7, 9)));
    assert_eq!(scene.seen(conn), ["8", "9", &resumed(ANN, true, 7, 9)]);
    conn
}

#[test]
fn what_was_replayed_does_not_come_again_under_another_name() {
    let mut scene = Scene::new();
    let conn = ahead(&mut scene);
    // Redis started again, and what was published before reached nobody here.
    (8..=10).for_each(|offset| scene.deliver(&named(later(offset))));
    assert_eq!(scene.seen(conn), [""; 0]);
    assert_eq!(scene.asks(), more(conn, place(ANN, 9)), "control knows whether the one goes on in the other");
    scene.page(conn, goes_on(&place(ANN, 9), 10, end(9, 10)));
    assert_eq!(scene.seen(conn), ["10"]);
    scene.deliver(&named(later(11)));
    assert_eq!((scene.seen(conn), scene.asks()), (vec!["11".into()], vec![]));
    assert!(!scene.has_rare(conn));
}

#[test]
fn who_was_replayed_what_the_store_lost_is_told() {
    let mut scene = Scene::new();
    let conn = ahead(&mut scene);
    scene.deliver(&named(later(8)));
    assert_eq!(scene.seen(conn), [""; 0]);
    assert_eq!(scene.asks(), more(conn, place(ANN, 9)));
    let lost = Some(ReplayEnd { recovered: false, from: 9, to: 8 });
    scene.page(conn, goes_on(&place(ANN, 9), 0, lost));
    assert_eq!(scene.seen(conn), [resync(ANN, "f", 8)]);
    scene.deliver(&named(later(9)));
    assert_eq!(scene.seen(conn), ["9"]);
}

#[test]
fn what_comes_late_under_an_earlier_name_is_read_about_once() {
    let mut scene = Scene::new();
    let conn = scene.waiting(0, "ann");
    scene.resume(conn, &[(ANN, 6)]);
    scene.asks();
    scene.live(ANN, 8);
    scene.page(conn, goes_on(&place(ANN, 6), 9, end(6, 9)));
    let frames = scene.seen(conn);
    assert_eq!(frames[..3], ["7", "8", "9"]);
    assert_eq!((frames.len(), scene.asks()), (4, vec![]), "the page had it");
    scene.live(ANN, 9);
    assert_eq!((scene.seen(conn), scene.asks()), (vec![], more(conn, later(9)).into()));
    scene.page(conn, goes_on(&later(9), 9, end(9, 9)));
    assert_eq!((scene.seen(conn), scene.asks()), (vec![], vec![]));
    (8..=10).for_each(|offset| scene.deliver(&named(later(offset))));
    assert_eq!(scene.seen(conn), ["10"]);
    assert!(!scene.has_rare(conn));
}

#[test]
fn what_did_not_come_live_is_read_and_nobody_is_moved_back() {
    let mut scene = Scene::new();
    let conn = ahead(&mut scene);
    scene.handle(Input::Resync { position: place(ANN, 8), lost: false });
    assert_eq!((scene.seen(conn), scene.asks()), (vec![], vec![]), "it has more than that");
    (9..=10).for_each(|offset| scene.live(ANN, offset));
    assert_eq!(scene.seen(conn), ["10"]);

    let conn = scene.waiting(1, "ann");
    scene.resume(conn, &[(ANN, 7)]);
    scene.asks();
    scene.page(conn, page(ANN, 8..=9, None));
    scene.seen(conn);
    scene.handle(Input::Resync { position: place(ANN, 12), lost: false });
    scene.live(ANN, 13);
    assert_eq!(scene.asks(), more(conn, place(ANN, 9)));
    scene.page(conn, page(ANN, 10..=11, end(9, 11)));
    assert_eq!(
        (scene.seen(conn), scene.asks()),
        (vec!["10".into(), "11".into()], more(conn, place(ANN, 11)).into())
    );
    scene.page(conn, page(ANN, 12..=12, end(11, 12)));
    assert_eq!(scene.seen(conn), ["12", &resumed(ANN, true, 7, 12), "13"]);
}

#[test]
fn what_is_lost_for_good_is_told_where_the_client_stands() {
    let mut scene = Scene::new();
    let conn = ahead(&mut scene);
    scene.handle(Input::Resync { position: place(ANN, 8), lost: true });
    assert_eq!(scene.seen(conn), [resync(ANN, "e", 9)]);
    (9..=10).for_each(|offset| scene.live(ANN, offset));
    assert_eq!(scene.seen(conn), ["10"]);
}

#[test]
fn what_is_held_is_whole_though_the_stream_changed_its_name_or_some_of_it_did_not_come() {
    for missing in [false, true] {
        let mut scene = Scene::new();
        let conn = scene.waiting(0, "ann");
        scene.live(ANN, 8);
        if missing {
            scene.handle(Input::Resync { position: later(9), lost: false });
        } else {
            scene.deliver(&named(later(9)));
        }
        scene.deliver(&named(later(10)));
        scene.say(conn, PING);
        assert_one(&scene.read(conn), &["system:pong"]);
        assert_eq!(scene.asks(), more(conn, place(ANN, 7)));
        scene.page(conn, goes_on(&place(ANN, 7), 9, end(7, 9)));
        assert_eq!(scene.seen(conn), ["8", "9", "10"]);
        assert!(!scene.has_rare(conn));
    }
}

#[test]
fn who_is_held_without_a_position_is_told_one() {
    let mut scene = Scene::new();
    let conn = id(0);
    let identity = Some(identity("ann", &[]));
    scene.handle(Input::Open { conn, dialect: Dialect::Ticketing, identity, resume_waits: true });
    scene.handle(Input::Admitted { conn, position: None });
    scene.take();
    scene.read(conn);
    scene.handle(Input::Resync { position: place(ANN, 7), lost: false });
    scene.say(conn, PING);
    assert_eq!(scene.seen(conn)[0], resync(ANN, "e", 7));
    assert!(!scene.has_rare(conn));
}

#[test]
fn a_page_that_was_begun_is_asked_for_again_before_it_is_given_up() {
    let mut scene = Scene::new();
    let conn = scene.waiting(0, "ann");
    scene.resume(conn, &[(ANN, 4)]);
    scene.asks();
    scene.page(conn, page(ANN, 5..=6, None));
    scene.live(ANN, 8);
    assert_eq!(scene.seen(conn), ["5", "6"]);
    for asked in 1..=REPLAY_ASKS_MAX {
        assert_eq!(scene.asks(), more(conn, place(ANN, 6)), "{asked}");
        scene.pass(REPLAY_TIME_MAX + Duration::from_millis(200));
        scene.say(conn, PING);
    }
    let mut frames = scene.seen(conn);
    frames.retain(|frame| *frame != "ping" && !frame.contains("system:pong"));
    assert_eq!(frames, [resumed(ANN, false, 4, 7), "8".into()]);
    assert_eq!(scene.cells.replays_unanswered.get(), u64::from(REPLAY_ASKS_MAX));
    assert!(!scene.has_rare(conn));
}

#[test]
fn a_resume_that_is_refused_does_not_forget_what_was_replayed() {
    let mut scene = Scene::new();
    let conn = ahead(&mut scene);
    scene.resume(conn, &[(ANN, 9)]);
    assert_eq!(scene.ask_in_vain(), 1);
    assert_one(&scene.read(conn), &["overloaded"]);
    scene.pass(RESUME_WAIT_MAX + Duration::from_millis(200));
    (8..=10).for_each(|offset| scene.live(ANN, offset));
    assert_eq!(scene.seen(conn), ["10"]);
}
