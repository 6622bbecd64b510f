use super::*;
use crate::limits::ROOMS_PER_CONNECTION_MAX;

fn join(room: &str) -> String {
    format!(r#"{{"type":"room:join","id":1,"payload":{{"room":"{room}"}}}}"#)
}

fn leave(room: &str) -> String {
    format!(r#"{{"type":"room:leave","id":1,"payload":{{"room":"{room}"}}}}"#)
}

#[test]
fn members_get_what_is_sent_to_their_room() {
    let mut scene = Scene::new();
    let (one, two, three) = (scene.anonymous(0), scene.anonymous(1), scene.anonymous(2));
    scene.join(one, "event:1");
    scene.join(two, "event:1");
    scene.join(three, "event:2");
    scene.dirty();
    scene.deliver(&event(room("event:1"), r#"{"seat":"A1"}"#));
    assert_eq!(scene.dirty(), [one, two]);
    for conn in [one, two] {
        assert_one(&scene.read(conn), &[r#"{"type":"ticket:sold","payload":{"seat":"A1"}}"#]);
    }
    assert_eq!(scene.ask(one, &leave("event:1")).len(), 1);
    scene.deliver(&event(room("event:1"), "1"));
    assert_eq!((scene.read(one).len(), scene.read(two).len()), (0, 1));
}

#[test]
fn joining_twice_is_one_membership() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    for _ in 0..2 {
        assert_one(&scene.ask(conn, &join("a")), &["room:joined", r#""members":1"#, r#""id":1"#]);
    }
    scene.deliver(&event(room("a"), "1"));
    assert_eq!(scene.read(conn).len(), 1);
    assert_one(&scene.ask(conn, &leave("a")), &["room:left", r#""room":"a""#]);
    assert_one(&scene.ask(conn, &leave("a")), &["not_in_room", r#""id":1"#]);
    assert_eq!(scene.members(), [], "nothing remains to tell");
    assert_eq!(scene.cells.rooms.get(), 0);
}

#[test]
fn the_count_of_members_includes_other_shards() {
    let mut scene = Scene::new();
    let (one, two) = (scene.anonymous(0), scene.anonymous(1));
    scene.join(one, "a");
    scene.handle(Input::RoomCount { room: "a".into(), others: 40 });
    scene.handle(Input::RoomCount { room: "nobody is here".into(), others: 40 });
    assert_one(&scene.ask(two, &join("a")), &[r#""members":42"#]);
}

#[test]
fn who_may_join_is_in_the_name_and_the_token() {
    let mut scene = Scene::with(|settings| settings.client.rooms_protected = vec!["vip*".into()]);
    let nobody = scene.anonymous(0);
    let ann = scene.user(1, "ann");
    let granted = scene.granted(2, "bob", &["private:b*", "vip:1"]);
    let table = [
        ("event:1", [true, true, true]),
        ("user:ann", [false, true, false]),
        ("user:bob", [false, false, true]),
        ("private:box", [false, false, true]),
        ("private:a", [false, false, false]),
        ("vip:1", [false, false, true]),
        ("vip:2", [false, false, false]),
    ];
    for (name, allowed) in table {
        for (conn, allowed) in [nobody, ann, granted].into_iter().zip(allowed) {
            let code = if allowed { "room:joined" } else { r#""code":"forbidden""# };
            assert_one(&scene.ask(conn, &join(name)), &[code]);
        }
    }
}

#[test]
fn ones_own_room_needs_no_membership() {
    let mut scene = Scene::new();
    let (one, two) = (scene.user(0, "ann"), scene.user(1, "ann"));
    assert_one(&scene.ask(one, &join("user:ann")), &["room:joined", r#""members":2"#]);
    assert_eq!(scene.cells.rooms.get(), 0);
    scene.deliver(&event(Target::User("ann".into()), "1"));
    assert_eq!((scene.read(one).len(), scene.read(two).len()), (1, 1));
}

#[test]
fn rooms_of_a_connection_are_bounded() {
    let mut scene = Scene::with(|settings| settings.limits.messages_max = 0);
    let conn = scene.anonymous(0);
    for index in 0..ROOMS_PER_CONNECTION_MAX {
        scene.join(conn, &format!("room-{index}"));
    }
    assert_one(&scene.ask(conn, &join("one-more")), &["too_many_rooms"]);
    scene.join(conn, "room-5");
    scene.ask(conn, &leave("room-5"));
    scene.join(conn, "one-more");
}

#[test]
fn a_message_to_a_room_goes_by_way_of_control() {
    let mut scene = Scene::new();
    let conn = scene.user(0, "ann");
    let say = r#"{"type":"room:message","id":"m1","payload":{"room":"a","data":{"text":"hi"}}}"#;
    assert_one(&scene.ask(conn, say), &["not_in_room", r#""id":"m1""#]);
    scene.join(conn, "a");
    scene.say(conn, say);
    let published = scene.take();
    let [Output::Publish { request: Some(request), event, .. }] = &published[..] else {
        panic!("{published:?}")
    };
    assert_eq!((&**request, &event.target, &event.class), ("\"m1\"", &room("a"), &Class::Ordered));
    let payload = String::from_utf8(event.payload.to_vec()).unwrap();
    assert!(
        payload.contains(r#""user_id":"ann""#) && payload.contains(r#""data":{"text":"hi"}"#),
        "{payload}"
    );
    assert_eq!(scene.read(conn), [""; 0], "the receipt comes from control");
    scene.deliver(event);
    assert_one(&scene.read(conn), &["room:message", "hi"]);
}

fn presence_rooms() -> Scene {
    Scene::with(|settings| settings.client.rooms_presence = vec!["team:*".into()])
}

/// Kind and payload of everything published.
fn published(scene: &mut Scene) -> Vec<String> {
    let list = scene.take().into_iter().map(|output| match output {
        Output::Publish { event, request: None, .. } if event.class == Class::Ephemeral => {
            format!("{} {}", event.kind, String::from_utf8(event.payload.to_vec()).unwrap())
        }
        other => panic!("{other:?}"),
    });
    list.collect()
}

/// Whether ann is in which room, and by whose doing, as control would be told.
fn present(scene: &mut Scene) -> Vec<(String, bool, ConnId)> {
    let reports = scene.reports().into_iter().filter_map(|report| match report {
        Report::Present { room, user, present, conn } => {
            assert_eq!(&*user, "ann");
            Some((room.to_string(), present, conn))
        }
        _ => None,
    });
    reports.collect()
}

#[test]
fn control_hears_once_that_a_user_is_where_members_learn_of_each_other() {
    let mut scene = presence_rooms();
    let (one, two, nobody) = (scene.user(0, "ann"), scene.user(1, "ann"), scene.anonymous(2));
    for conn in [one, two, nobody] {
        scene.join(conn, "team:a");
        scene.join(conn, "event:1");
    }
    assert_eq!(present(&mut scene), [("team:a".into(), true, one)], "once");
    scene.handle(Input::Gone { conn: one });
    assert_eq!(present(&mut scene), [], "still here on another connection");
    scene.say(two, &leave("team:a"));
    assert_eq!(present(&mut scene), [("team:a".into(), false, two)]);
    scene.join(two, "team:a");
    scene.say(two, &leave("team:a"));
    assert_eq!(present(&mut scene), [], "came and went before control heard of it");
    scene.join(two, "team:a");
    assert_eq!(present(&mut scene), [("team:a".into(), true, two)]);
    scene.handle(Input::Gone { conn: two });
    assert_eq!(present(&mut scene), [("team:a".into(), false, two)]);
}

#[test]
fn who_is_present_stays_to_be_told_until_control_takes_it() {
    let mut scene = presence_rooms();
    let conn = scene.user(0, "ann");
    scene.join(conn, "team:a");
    let mut refused = 0;
    scene.hub.take_reports(&mut |report| {
        refused += u32::from(matches!(report, Report::Present { .. }));
        !matches!(report, Report::Present { .. })
    });
    assert_eq!((refused, scene.hub.reports_pending()), (1, true));
    assert_eq!(present(&mut scene), [("team:a".into(), true, conn)]);
    assert!(!scene.hub.reports_pending());
}

#[test]
fn a_user_is_present_while_the_connection_is_the_users() {
    let mut scene = presence_rooms();
    let conn = scene.anonymous(0);
    scene.join(conn, "team:a");
    scene.say(conn, r#"{"type":"auth:login","payload":{"token":"t"}}"#);
    scene.verified(conn, Purpose::Login, Ok(identity("ann", &[])));
    scene.join(conn, "team:b");
    assert_eq!(present(&mut scene), [], "not admitted yet");
    scene.admit(conn);
    let both = |present| [("team:a".into(), present, conn), ("team:b".into(), present, conn)];
    assert_eq!(present(&mut scene), both(true));
    scene.say(conn, r#"{"type":"auth:logout"}"#);
    assert_eq!(present(&mut scene), both(false));
}

#[test]
fn large_rooms_announce_nothing() {
    let mut scene = presence_rooms();
    let (conn, other) = (scene.user(0, "ann"), scene.anonymous(1));
    scene.join(other, "team:a");
    scene.handle(Input::RoomCount { room: "team:a".into(), others: 199 });
    scene.join(conn, "team:a");
    scene.say(conn, r#"{"type":"user:presence","payload":{"status":"away"}}"#);
    scene.say(conn, r#"{"type":"user:typing","payload":{"room":"team:a","typing":true}}"#);
    assert_eq!(published(&mut scene), [""; 0]);
}

#[test]
fn typing_ends_by_itself() {
    let mut scene = presence_rooms();
    let conn = scene.user(0, "ann");
    let typing =
        |typing| format!(r#"{{"type":"user:typing","payload":{{"room":"team:a","typing":{typing}}}}}"#);
    let told = |typing| format!(r#"room:typing {{"room":"team:a","user_id":"ann","typing":{typing}}}"#);
    assert_one(&scene.ask(conn, &typing(true)), &["not_in_room"]);
    scene.join(conn, "team:a");
    scene.take();
    scene.say(conn, &typing(false));
    assert_eq!(published(&mut scene), [""; 0], "was not typing");
    scene.say(conn, &typing(true));
    assert_eq!(published(&mut scene), [told(true)]);
    scene.pass(Duration::from_secs(4));
    scene.say(conn, &typing(true));
    assert_eq!(published(&mut scene), [told(true)]);
    scene.pass(Duration::from_secs(4));
    assert_eq!(published(&mut scene), [""; 0], "was repeated");
    scene.pass(Duration::from_secs(2));
    assert_eq!(published(&mut scene), [told(false)]);
    scene.say(conn, &typing(true));
    scene.say(conn, &typing(false));
    assert_eq!(published(&mut scene), [told(true), told(false)]);
    scene.pass(Duration::from_secs(20));
    assert_eq!(published(&mut scene), [""; 0]);
}

#[test]
fn presence_reaches_the_rooms_that_announce_it() {
    let mut scene = presence_rooms();
    let conn = scene.user(0, "ann");
    for name in ["team:a", "event:1", "team:b"] {
        scene.join(conn, name);
    }
    scene.take();
    scene.say(conn, r#"{"type":"user:presence","payload":{"status":"away","text":"tea\"","user_id":"eve"}}"#);
    let told = r#"user:status_change {"user_id":"ann","status":"away","text":"tea\""}"#;
    assert_eq!(published(&mut scene), [told, told]);
    assert_eq!(scene.read(conn), [""; 0]);
}
