use super::*;
use crate::hub::pacing::Pacing;

const INTERVAL: Duration = Duration::from_secs(1);
/// An interval, and the ticks that it may be late by.
const OVER: Duration = Duration::from_millis(1_200);

/// A position of an event for a user.
fn position(user: &str, about: u64, place: u64) -> Event {
    Event {
        kind: "booking:queue_position".into(),
        class: Class::Latest(LatestKey(about)),
        ..event(Target::User(user.into()), &place.to_string())
    }
}

fn versioned(version: u64) -> Event {
    Event { version: Some(version), ..position("ann", 1, version) }
}

fn paced() -> Scene {
    Scene::with(|settings| {
        settings.client.queue_update_interval = INTERVAL;
        settings.keep_alive.ping_interval = Duration::from_secs(3_600);
        settings.keep_alive.pong_timeout = Duration::from_secs(7_200);
    })
}

#[test]
fn the_first_position_goes_at_once_and_the_newest_at_the_end_of_the_interval() {
    let mut scene = paced();
    let conn = scene.user(0, "ann");
    scene.deliver(&position("ann", 1, 9));
    assert_one(&scene.read(conn), &["\"payload\":9"]);
    for place in (2..9).rev() {
        scene.deliver(&position("ann", 1, place));
    }
    assert!(scene.read(conn).is_empty());
    scene.pass(INTERVAL - Duration::from_millis(1));
    assert!(scene.read(conn).is_empty(), "not before the interval is over");
    scene.pass(OVER - INTERVAL);
    assert_one(&scene.read(conn), &["\"payload\":2"]);
    assert_eq!(scene.cells.conflated.get(), 6);
}

#[test]
fn a_steady_flow_is_one_position_an_interval() {
    let mut scene = paced();
    let conn = scene.user(0, "ann");
    let mut seen = Vec::new();
    for place in 0..100 {
        scene.deliver(&position("ann", 1, place));
        seen.extend(scene.read(conn));
        scene.pass(Duration::from_millis(100));
        seen.extend(scene.read(conn));
    }
    scene.pass(OVER);
    seen.extend(scene.read(conn));
    assert!((9..=11).contains(&seen.len()), "{seen:?}");
    assert!(seen.last().unwrap().contains("\"payload\":99"), "the last one is never lost: {seen:?}");
}

#[test]
fn who_had_none_for_an_interval_gets_the_next_at_once() {
    let mut scene = paced();
    let conn = scene.user(0, "ann");
    for place in [3, 2] {
        scene.deliver(&position("ann", 1, place));
        assert_one(&scene.read(conn), &[&format!("\"payload\":{place}")]);
        scene.pass(OVER);
    }
}

#[test]
fn every_event_and_every_connection_has_an_interval_of_its_own() {
    let mut scene = paced();
    let (one, two, other) = (scene.user(0, "ann"), scene.user(1, "ann"), scene.user(2, "bob"));
    scene.deliver(&position("ann", 1, 5));
    scene.deliver(&position("ann", 2, 6));
    scene.deliver(&position("bob", 1, 7));
    assert_eq!([one, two, other].map(|conn| scene.read(conn).len()), [2, 2, 1]);
    let late = scene.user(3, "ann");
    scene.deliver(&position("ann", 1, 4));
    assert_eq!([one, two, late].map(|conn| scene.read(conn).len()), [0, 0, 1]);
    scene.pass(OVER);
    assert_eq!([one, two, late].map(|conn| scene.read(conn).len()), [1, 1, 0]);
}

#[test]
fn the_newest_version_wins_whatever_comes_last() {
    let mut scene = paced();
    let conn = scene.user(0, "ann");
    for version in [1, 5, 3, 4] {
        scene.deliver(&versioned(version));
    }
    scene.read(conn);
    scene.pass(OVER);
    assert_one(&scene.read(conn), &["\"payload\":5"]);
}

#[test]
fn without_an_interval_every_position_goes_at_once() {
    let mut scene = Scene::with(|settings| settings.client.queue_update_interval = Duration::ZERO);
    let conn = scene.user(0, "ann");
    for place in [3, 2, 1] {
        scene.deliver(&position("ann", 1, place));
        assert_one(&scene.read(conn), &[&format!("\"payload\":{place}")]);
    }
}

#[test]
fn only_positions_are_paced() {
    let mut scene = paced();
    let conn = scene.user(0, "ann");
    for payload in ["1", "2"] {
        scene.deliver(&latest(1, payload));
        assert_eq!(scene.read(conn).len(), 1);
    }
}

#[test]
fn a_position_that_waits_is_not_for_who_the_connection_is_next() {
    let mut scene = paced();
    let conn = scene.user(0, "ann");
    scene.deliver(&position("ann", 1, 5));
    scene.deliver(&position("ann", 1, 4));
    scene.read(conn);
    scene.say(conn, r#"{"type":"auth:logout"}"#);
    scene.read(conn);
    scene.pass(OVER);
    assert_eq!(scene.read(conn), [""; 0]);
}

#[test]
fn who_left_takes_what_waited_along() {
    let mut scene = paced();
    let conn = scene.user(0, "ann");
    for place in [5, 4] {
        scene.deliver(&position("ann", 1, place));
    }
    scene.handle(Input::Gone { conn });
    scene.pass(2 * OVER);
    assert_eq!((scene.hub.pacing.next(), scene.dirty()), (None, vec![]));
}

#[test]
fn nothing_is_kept_of_who_gets_no_positions_any_more() {
    let mut scene = paced();
    for slot in 0..300 {
        scene.user(slot, &format!("u{slot}"));
        scene.deliver(&position(&format!("u{slot}"), 1, 1));
        scene.deliver(&position(&format!("u{slot}"), 1, 2));
    }
    assert!(scene.hub.pacing.next().is_some());
    scene.pass(2 * OVER);
    scene.pass(OVER);
    assert_eq!(scene.hub.pacing.next(), None);
    let all = (0..300).all(|slot| scene.read(id(slot)).concat().contains("\"payload\":2"));
    assert!(all, "and all of them got the newest");
}

#[test]
fn a_client_that_does_not_read_gets_the_newest_position_alone() {
    let mut scene = paced();
    let conn = scene.user(0, "ann");
    scene.deliver(&position("ann", 1, 1_000));
    assert_eq!(scene.hub.flush(scene.now, conn, &mut narrow(&mut 5)), Flushed::Blocked);
    for place in (1..300).rev() {
        scene.deliver(&position("ann", 1, place));
        scene.pass(Duration::from_millis(100));
    }
    scene.pass(OVER);
    let mut rest = Vec::new();
    scene.hub.flush(scene.now, conn, &mut |slices| {
        slices.iter().for_each(|slice| rest.extend_from_slice(slice));
        Ok(slices.iter().map(|slice| slice.len()).sum())
    });
    let text = String::from_utf8_lossy(&rest);
    assert_eq!(text.matches("payload").count(), 2, "what was begun, and the newest: {text}");
    assert!(text.ends_with("\"payload\":1}"), "{text}");
}

#[test]
fn positions_beyond_those_that_can_be_paced_go_at_once_and_are_counted() {
    let mut scene = paced();
    scene.hub.pacing = Pacing::new(INTERVAL, 42).with_bound(2);
    let conns = [scene.user(0, "ann"), scene.user(1, "bob"), scene.user(2, "eve")];
    let deliver = |scene: &mut Scene, place| {
        for user in ["ann", "bob", "eve"] {
            scene.deliver(&position(user, 1, place));
        }
        (conns.map(|conn| scene.read(conn).len()), scene.cells.unpaced.get())
    };
    assert_eq!(deliver(&mut scene, 9), ([1, 1, 1], 1));
    assert_eq!(deliver(&mut scene, 8), ([0, 0, 1], 2), "there is no room for the third");
    scene.pass(OVER);
    assert_eq!(conns.map(|conn| scene.read(conn).len()), [1, 1, 0], "the others lose nothing");
    scene.pass(2 * OVER);
    assert_eq!(deliver(&mut scene, 7), ([1, 1, 1], 3));
    scene.pass(OVER);
    scene.handle(Input::Gone { conn: conns[0] });
    scene.pass(OVER);
    scene.deliver(&position("eve", 1, 6));
    scene.deliver(&position("eve", 1, 5));
    assert_eq!((scene.read(conns[2]).len(), scene.cells.unpaced.get()), (1, 3), "now there is");
}
