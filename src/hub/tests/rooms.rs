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
    scene.handle(Input::RoomCount { room: "a".into(), members: 40 });
    scene.handle(Input::RoomCount { room: "nobody is here".into(), members: 40 });
    assert_one(&scene.ask(two, &join("a")), &[r#""members":40"#]);
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
fn rooms_of_a_connection_and_members_of_a_room_are_bounded() {
    let mut scene = Scene::with(|settings| {
        settings.limits.room_members_max = 2;
        settings.limits.messages_max = 0;
    });
    let conn = scene.anonymous(0);
    for index in 0..ROOMS_PER_CONNECTION_MAX {
        scene.join(conn, &format!("room-{index}"));
    }
    assert_one(&scene.ask(conn, &join("one-more")), &["too_many_rooms"]);
    scene.join(conn, "room-5");
    let (two, three) = (scene.anonymous(1), scene.anonymous(2));
    scene.join(two, "room-0");
    assert_one(&scene.ask(three, &join("room-0")), &["room_full"]);
    scene.handle(Input::RoomCount { room: "room-1".into(), members: 2 });
    assert_one(&scene.ask(three, &join("room-1")), &["room_full"]);
    scene.handle(Input::Gone { conn });
    scene.join(three, "room-0");
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

#[test]
fn a_users_coming_and_going_is_announced_where_configured() {
    let mut scene = presence_rooms();
    let (one, two, nobody) = (scene.user(0, "ann"), scene.user(1, "ann"), scene.anonymous(2));
    for conn in [one, two, nobody] {
        scene.join(conn, "team:a");
        scene.join(conn, "event:1");
    }
    assert_eq!(published(&mut scene), [r#"room:user_joined {"room":"team:a","user_id":"ann"}"#], "once");
    scene.handle(Input::Gone { conn: one });
    assert_eq!(published(&mut scene), [""; 0], "still here on another connection");
    scene.say(two, &leave("team:a"));
    assert_eq!(published(&mut scene), [r#"room:user_left {"room":"team:a","user_id":"ann"}"#]);
    scene.join(two, "team:a");
    scene.take();
    scene.handle(Input::Gone { conn: two });
    assert_eq!(published(&mut scene), [r#"room:user_left {"room":"team:a","user_id":"ann"}"#]);
}

#[test]
fn large_rooms_announce_nothing() {
    let mut scene = presence_rooms();
    let (conn, other) = (scene.user(0, "ann"), scene.anonymous(1));
    scene.join(other, "team:a");
    scene.handle(Input::RoomCount { room: "team:a".into(), members: 201 });
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
