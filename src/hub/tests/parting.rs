//! Sending clients away.

use super::*;

/// What clients heard that were sent away, and when they are to return.
fn told(frames: &[String]) -> u32 {
    let [draining, close] = frames else { panic!("{frames:?}") };
    let digits: String = draining.chars().filter(char::is_ascii_digit).collect();
    let ms = digits.parse().unwrap();
    assert!(draining.contains("system:draining"), "{frames:?}");
    assert_eq!(*close, format!(r#"close 1001 {{"reconnect_after_ms":{ms}}}"#));
    ms
}

/// Those of the connections that a hub in service still has.
fn left(scene: &Scene, conns: &[ConnId]) -> usize {
    conns.iter().filter(|conn| scene.hub.is_open(**conn)).count()
}

#[test]
fn everybody_is_sent_away_at_times_of_their_own() {
    let mut scene = Scene::new();
    let conns: Vec<ConnId> = (0..40).map(|slot| scene.anonymous(slot)).collect();
    let raw = scene.raw(60);
    scene.handle(Input::SendAway { count: None, return_ms: 2_500 });
    assert_eq!(scene.take().len(), 41);
    let times: std::collections::BTreeSet<u32> =
        conns.into_iter().map(|conn| told(&scene.read(conn))).collect();
    assert!(times.len() > 30 && times.iter().all(|ms| (1..=2_500).contains(ms)), "spread: {times:?}");
    assert!(scene.read(raw)[0].starts_with("close 1001"));
}

#[test]
fn so_many_are_sent_away_as_were_asked_for_and_each_once() {
    let mut scene = Scene::new();
    let conns: Vec<ConnId> = (0..10).map(|slot| scene.anonymous(slot * 100)).collect();
    for (count, open) in [(3, 7), (0, 7), (1, 6), (4, 2)] {
        scene.handle(Input::SendAway { count: Some(count), return_ms: 10 });
        let sent = scene.take();
        assert!(sent.iter().all(|output| matches!(output, Output::SentAway { .. })), "{sent:?}");
        assert_eq!((sent.len() as u32, left(&scene, &conns)), (count, open));
    }
    let late = scene.anonymous(1);
    scene.handle(Input::SendAway { count: Some(99), return_ms: 10 });
    assert_eq!((scene.take().len(), left(&scene, &conns), scene.hub.is_open(late)), (3, 0, false));
}

#[test]
fn who_is_not_sent_away_yet_gets_what_comes_and_who_was_gets_it_before_the_close() {
    let mut scene = Scene::new();
    let (first, second) = (scene.user(0, "ann"), scene.user(1, "ann"));
    let to_ann = |text: &str| event(Target::User("ann".into()), text);
    scene.deliver(&to_ann("1"));
    scene.handle(Input::SendAway { count: Some(1), return_ms: 10 });
    scene.deliver(&to_ann("2"));
    let before = scene.read(first);
    assert_eq!(before.len(), 3, "the event, the word and the close: {before:?}");
    told(&before[1..]);
    assert_eq!(scene.read(second).len(), 2);
}

#[test]
fn who_comes_after_everybody_was_sent_away_is_let_in_and_follows() {
    let mut scene = Scene::new();
    let waiting = scene.pending(50, identity("ann", &[]));
    scene.handle(Input::SendAway { count: None, return_ms: 10 });
    assert_eq!(scene.take(), []);
    scene.admit(waiting);
    let late = id(70);
    scene.handle(Input::Open {
        conn: late,
        dialect: Dialect::Ticketing,
        identity: None,
        resume_waits: false,
    });
    for conn in [waiting, late] {
        let frames = scene.read(conn);
        assert!(frames[0].contains("system:connected"), "{frames:?}");
        told(&frames[1..]);
    }
}

#[test]
fn who_was_closing_before_has_no_longer_than_the_others() {
    let mut scene = Scene::new();
    let closing = scene.user(0, "ann");
    scene.handle(Input::Disconnect { user: "ann".into() });
    scene.handle(Input::SendAway { count: Some(1), return_ms: 10 });
    assert_eq!(scene.take(), []);
    scene.handle(Input::SendAway { count: None, return_ms: 10 });
    assert_eq!(scene.take(), [Output::SentAway { conn: closing }]);
    assert_eq!(scene.read(closing), ["close 4401 revoked"]);
}
