use super::*;
use crate::metrics::Cell;

fn ephemeral(payload: &str) -> Event {
    Event { class: Class::Ephemeral, ..event(Target::Everyone, payload) }
}

fn small_outbox() -> Scene {
    Scene::with(|settings| settings.limits.outbox_messages_max = 3)
}

#[test]
fn events_find_their_targets() {
    let mut scene = Scene::new();
    let (ann, bob, nobody) = (scene.user(0, "ann"), scene.user(1, "bob"), scene.anonymous(2));
    let raw = scene.raw(3);
    scene.join(bob, "a");
    let table = [
        (Target::User("ann".into()), vec![ann]),
        (room("a"), vec![bob]),
        (Target::Connection(nobody), vec![nobody]),
        (Target::Everyone, vec![ann, bob, nobody, raw]),
        (Target::User("eve".into()), vec![]),
        (room("b"), vec![]),
    ];
    scene.dirty();
    for (target, receivers) in table {
        scene.deliver(&event(target.clone(), "1"));
        assert_eq!(scene.dirty(), receivers, "{target:?}");
        for conn in receivers {
            assert_one(&scene.read(conn), &["ticket:sold"]);
        }
    }
}

#[test]
fn a_position_is_told_to_those_who_understand_it() {
    let mut scene = Scene::new();
    let (conn, raw) = (scene.user(0, "ann"), scene.raw(1));
    scene.deliver(&Event { position: Some(head(8)), ..event(Target::Everyone, "1") });
    assert_one(&scene.read(conn), &[r#""stream":"user:ann""#, r#""offset":8"#]);
    assert_eq!(scene.read(raw), [r#"{"type":"ticket:sold","payload":1}"#]);
}

#[test]
fn a_connection_is_dirty_once() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    scene.dirty();
    scene.deliver(&event(Target::Everyone, "1"));
    scene.deliver(&event(Target::Everyone, "2"));
    assert_eq!(scene.dirty(), [conn]);
    assert_eq!(scene.dirty(), []);
    scene.deliver(&event(Target::Everyone, "3"));
    assert_eq!(scene.dirty(), [conn], "flushed or not");
    scene.deliver(&event(Target::Everyone, "4"));
    scene.handle(Input::Gone { conn });
    assert_eq!(scene.dirty(), []);
}

#[test]
fn a_blocked_socket_goes_on_where_it_stopped() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    for payload in ["1", "2", "3"] {
        scene.deliver(&event(Target::Everyone, payload));
    }
    let mut all = Vec::new();
    for room in [3, 40, 1, 0, 500] {
        let mut left = room;
        let mut socket = narrow(&mut left);
        let flushed = scene.hub.flush(scene.now, conn, &mut |slices| {
            let offered: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            socket(slices).inspect(|taken| all.extend_from_slice(&offered[..*taken]))
        });
        assert_eq!(flushed, if room < 500 { Flushed::Blocked } else { Flushed::Drained });
    }
    let expected = ["1", "2", "3"].map(|n| format!(r#"{{"type":"ticket:sold","payload":{n}}}"#));
    assert_eq!(frames(&all), expected);
    assert_eq!(scene.cells.delivered[1].get(), 3);
}

#[test]
fn a_broken_socket_is_reported() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    scene.deliver(&event(Target::Everyone, "1"));
    let mut interrupted = true;
    let flushed = scene.hub.flush(scene.now, conn, &mut |_| {
        let kind = if interrupted { io::ErrorKind::Interrupted } else { io::ErrorKind::BrokenPipe };
        interrupted = false;
        Err(kind.into())
    });
    assert_eq!(flushed, Flushed::Failed(io::ErrorKind::BrokenPipe));
    let nothing = scene.hub.flush(scene.now, conn, &mut |_| Ok(0));
    assert_eq!(nothing, Flushed::Failed(io::ErrorKind::WriteZero));
}

#[test]
fn the_latency_ends_with_the_last_byte() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    scene.deliver(&event(Target::Everyone, "1"));
    scene.now = scene.now.after(Duration::from_micros(80));
    assert_eq!(scene.hub.flush(scene.now, conn, &mut narrow(&mut 5)), Flushed::Blocked);
    let sums = |scene: &Scene| scene.cells.latency.each_ref().map(|histogram| histogram.sum_us.get());
    assert_eq!(sums(&scene), [0; 4]);
    scene.now = scene.now.after(Duration::from_micros(40));
    let flushed = scene.hub.flush(scene.now, conn, &mut narrow(&mut 1_000));
    assert_eq!((flushed, sums(&scene)), (Flushed::Drained, [0, 120, 0, 0]), "the event was Ordered");
}

#[test]
fn each_class_has_a_latency_of_its_own() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    for (late_us, class) in [
        (1, Class::Critical),
        (10, Class::Ordered),
        (100, Class::Latest(LatestKey(1))),
        (1_000, Class::Ephemeral),
    ] {
        let mut event = Event { class, ..event(Target::Everyone, "1") };
        event.accepted_at_ns = scene.now.mono_ns - late_us * 1_000;
        scene.deliver(&event);
        scene.read(conn);
    }
    let sums = scene.cells.latency.each_ref().map(|histogram| histogram.sum_us.get());
    assert_eq!(sums, [1, 10, 100, 1_000]);
    assert_eq!(scene.cells.delivered.each_ref().map(Cell::get), [1; 4]);
}

#[test]
fn who_does_not_read_what_must_not_be_lost_is_closed() {
    let mut scene = small_outbox();
    let (slow, other) = (scene.anonymous(0), scene.anonymous(1));
    for payload in ["1", "2", "3"] {
        scene.deliver(&event(Target::Everyone, payload));
        scene.read(other);
    }
    assert_eq!(scene.hub.flush(scene.now, slow, &mut narrow(&mut 5)), Flushed::Blocked);
    scene.deliver(&event(Target::Everyone, "4"));
    assert_one(&scene.read(other), &["\"payload\":4"]);
    scene.deliver(&event(Target::Everyone, "5"));
    let mut rest = Vec::new();
    scene.hub.flush(scene.now, slow, &mut |slices| {
        slices.iter().for_each(|slice| rest.extend_from_slice(slice));
        Ok(slices.iter().map(|slice| slice.len()).sum())
    });
    let text = String::from_utf8_lossy(&rest);
    assert!(
        text.starts_with(r#"ype":"ticket:sold","payload":1"#)
            && text.ends_with("messages arrive faster than they are read"),
        "{text}"
    );
    assert!(!text.contains("payload\":2"), "what waited is dropped: {text}");
    assert_eq!(scene.cells.closed[14].get(), 1);
    assert_eq!(scene.take(), [Output::Shutdown { conn: slow }]);
}

#[test]
fn a_room_of_slow_members_is_closed_in_one_delivery() {
    let mut scene = small_outbox();
    let conns: Vec<ConnId> = (0..5).map(|slot| scene.anonymous(slot)).collect();
    for conn in &conns {
        scene.join(*conn, "a");
    }
    for payload in ["1", "2", "3", "4"] {
        scene.deliver(&event(room("a"), payload));
    }
    assert_eq!(scene.cells.closed[14].get(), 5);
    for conn in conns {
        assert!(scene.read(conn)[0].starts_with("close 4413"));
    }
}

#[test]
fn ephemeral_messages_give_way() {
    let mut scene = small_outbox();
    let conn = scene.anonymous(0);
    for payload in ["1", "2", "3", "4"] {
        scene.deliver(&ephemeral(payload));
    }
    assert_eq!(scene.cells.dropped_ephemeral.get(), 1);
    scene.deliver(&event(Target::Everyone, "5"));
    assert_eq!(scene.cells.dropped_ephemeral.get(), 4);
    assert_one(&scene.read(conn), &["\"payload\":5"]);
}

#[test]
fn a_latest_value_is_shown_once_and_newest() {
    let mut scene = small_outbox();
    let conn = scene.anonymous(0);
    scene.deliver(&latest(1, "1"));
    scene.deliver(&event(Target::Everyone, "2"));
    for payload in 3..500 {
        scene.deliver(&latest(1, &payload.to_string()));
    }
    let frames = scene.read(conn);
    assert!(frames[0].contains("\"payload\":499") && frames[1].contains("\"payload\":2"), "{frames:?}");
    assert_eq!((frames.len(), scene.cells.conflated.get()), (2, 497));
}

#[test]
fn an_older_version_is_not_shown_after_a_newer_one() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    for version in [3, 2, 1] {
        scene.deliver(&Event { version: Some(version), ..latest(1, &version.to_string()) });
    }
    assert_one(&scene.read(conn), &["\"payload\":3"]);
}

#[test]
fn who_is_not_admitted_yet_gets_no_events() {
    let mut scene = Scene::new();
    let conn = scene.pending(0, identity("ann", &[]));
    scene.deliver(&event(Target::User("ann".into()), "1"));
    scene.deliver(&event(Target::Everyone, "2"));
    scene.deliver(&event(Target::Connection(conn), "3"));
    assert_eq!((scene.read(conn), scene.dirty()), (vec![], vec![]));
    scene.admit(conn);
    scene.deliver(&event(Target::User("ann".into()), "4"));
    let frames = scene.read(conn);
    assert!(frames.len() == 2 && frames[1].contains("\"payload\":4"), "{frames:?}");
}

#[test]
fn what_a_connection_did_itself_it_is_not_told() {
    let mut scene = Scene::new();
    let (doer, other) = (scene.anonymous(0), scene.anonymous(1));
    for conn in [doer, other] {
        scene.join(conn, "event:1");
    }
    scene.deliver(&Event { except: Some(doer), ..event(room("event:1"), "1") });
    assert!(scene.read(doer).is_empty());
    assert_one(&scene.read(other), &["1"]);
}
