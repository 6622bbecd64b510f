use super::*;
use crate::event::Denial;

const LOGIN: &str = r#"{"type":"auth:login","id":1,"payload":{"token":"t.t.t"}}"#;
const REFRESH: &str = r#"{"type":"auth:token_refresh","id":1,"payload":{"token":"t.t.t"}}"#;
const LOGOUT: &str = r#"{"type":"auth:logout","id":1}"#;

fn first_message() -> Scene {
    Scene::with(|settings| {
        settings.auth.first_message = true;
        settings.auth.allow_anonymous = false;
    })
}

/// Brings a login as far as control's answer.
fn log_in(scene: &mut Scene, conn: ConnId, user: &str) {
    scene.say(conn, LOGIN);
    let request = Some("1".into());
    let token = "t.t.t".into();
    assert_eq!(scene.take(), [Output::Verify { conn, purpose: Purpose::Login, request, token }]);
    scene.verified(conn, Purpose::Login, Ok(identity(user, &[])));
    assert_eq!(scene.take(), [Output::Admit { conn, user: user.into(), user_connections: 1 }]);
}

#[test]
fn an_anonymous_connection_can_log_in() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    log_in(&mut scene, conn, "ann");
    scene.deliver(&event(Target::User("ann".into()), "1"));
    assert_eq!(scene.read(conn), [""; 0], "not admitted yet");
    scene.admit(conn);
    let expires = format!(r#""expires_at":{}"#, START.wall_ms + 3_600_000);
    assert_one(&scene.read(conn), &["auth:ok", r#""user_id":"ann""#, &expires, r#""id":1"#]);
    scene.deliver(&event(Target::User("ann".into()), "2"));
    assert_one(&scene.read(conn), &["\"payload\":2"]);
    assert_eq!(scene.cells.connections_authenticated.get(), 1);
}

#[test]
fn where_login_must_come_first_nothing_else_is_answered() {
    let mut scene = first_message();
    let conn = scene.anonymous(0);
    assert_eq!(scene.dirty(), [], "no greeting");
    let answer = scene.ask(conn, r#"{"type":"room:join","id":"x","payload":{"room":"a"}}"#);
    assert_one(&answer, &["system:error", "unauthorised", r#""id":"x""#]);
    log_in(&mut scene, conn, "ann");
    scene.admit(conn);
    let frames = scene.read(conn);
    assert!(frames[0].contains("system:connected") && frames[0].contains(r#""user_id":"ann""#), "{frames:?}");
    assert!(frames[1].contains("auth:ok") && frames.len() == 2);
    scene.join(conn, "a");
    scene.pass(Duration::from_secs(20));
    assert!(scene.hub.contains(conn) && scene.take().is_empty());
}

#[test]
fn a_login_that_does_not_come_closes_the_connection() {
    let mut scene = first_message();
    let conn = scene.anonymous(0);
    scene.pass(Duration::from_millis(4_990));
    assert!(!scene.read(conn).concat().contains("close"));
    scene.pass(Duration::from_millis(300));
    assert!(scene.read(conn).concat().contains("close 4401"));
}

#[test]
fn a_bad_token_is_told_and_closes_the_connection() {
    for (purpose, text) in [(Purpose::Login, LOGIN), (Purpose::Refresh, REFRESH)] {
        let mut scene = Scene::new();
        let conn = scene.user(0, "ann");
        scene.say(conn, text);
        scene.verified(conn, purpose, Err("token expired".into()));
        let frames = scene.read(conn);
        assert!(frames[0].contains("unauthorised") && frames[0].contains("token expired"), "{frames:?}");
        assert_eq!(frames[1], "close 4401 token refused");
    }
}

#[test]
fn a_token_that_was_not_looked_at_is_told_and_may_come_again() {
    for (purpose, text) in [(Purpose::Login, LOGIN), (Purpose::Refresh, REFRESH)] {
        let mut scene = Scene::new();
        let conn = scene.user(0, "ann");
        scene.say(conn, text);
        let result = Err(Rejection::TooManyFailures { retry_after_ms: 700 });
        scene.handle(Input::Verified { conn, purpose, request: Some("1".into()), result });
        assert_one(
            &scene.read(conn),
            &["rate_limited", r#""retry_after_ms":700"#, r#""id":1"#, r#""ref":"auth:"#],
        );
        scene.take();
        scene.say(conn, text);
        assert!(matches!(scene.take()[..], [Output::Verify { .. }]), "it is asked again");
    }
}

#[test]
fn a_login_that_control_denies_closes_the_connection() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    log_in(&mut scene, conn, "ann");
    scene.handle(Input::Denied { conn, denial: Denial::TooManyConnections, retry_after_ms: 900 });
    let frames = scene.read(conn);
    assert_one(&frames[..1], &["too_many_connections", r#""retry_after_ms":900"#, r#""id":1"#]);
    assert_eq!(frames[1], "close 4429 rate limited");
    assert_eq!(scene.members(), [(r#"User("ann")"#.into(), 0)], "it does not count while it closes");
    assert_eq!(scene.cells.connections_authenticated.get(), 0);
}

#[test]
fn a_login_that_control_does_not_answer_ends_and_can_be_tried_again() {
    let mut scene = Scene::new();
    let (lost, other) = (scene.anonymous(0), scene.anonymous(1));
    log_in(&mut scene, lost, "ann");
    scene.pass(Duration::from_millis(4_990));
    assert_one(&scene.ask(lost, LOGIN), &["busy"]);
    scene.pass(Duration::from_millis(300));
    let frames = scene.read(lost);
    assert_one(&frames[..1], &["system:error", "overloaded", r#""ref":"auth:login""#, r#""id":1"#]);
    assert_eq!(frames[1], "close 1013 server is at maximum capacity");
    assert_eq!(scene.cells.admission_timeouts.get(), 1);
    assert_eq!(scene.members(), [(r#"User("ann")"#.into(), 0)]);
    scene.admit(lost);
    assert_eq!(scene.read(lost), [""; 0], "too late");

    log_in(&mut scene, other, "ann");
    scene.admit(other);
    assert_one(&scene.read(other), &["auth:ok"]);
    scene.pass(Duration::from_secs(20));
    assert!(scene.hub.contains(other) && scene.read(other).iter().all(|frame| frame == "ping"));
    assert_eq!(scene.cells.admission_timeouts.get(), 1, "an answered one has no deadline");
}

#[test]
fn one_token_is_looked_at_a_time() {
    let mut scene = Scene::new();
    let conn = scene.user(0, "ann");
    scene.say(conn, REFRESH);
    assert_eq!(scene.take().len(), 1);
    for text in [LOGIN, REFRESH, LOGOUT] {
        assert_one(&scene.ask(conn, text), &[r#""code":"busy""#]);
    }
    assert_eq!(scene.take(), []);
    scene.verified(conn, Purpose::Login, Ok(identity("eve", &[])));
    assert_eq!(scene.read(conn), [""; 0], "an answer to another question");
    scene.verified(conn, Purpose::Refresh, Ok(identity("ann", &[])));
    assert_one(&scene.read(conn), &["auth:ok"]);
    scene.say(conn, LOGIN);
    assert_eq!(scene.take().len(), 1, "free again");
}

#[test]
fn a_refresh_is_for_the_same_user_only() {
    let mut scene = Scene::new();
    let conn = scene.user(0, "ann");
    scene.say(conn, REFRESH);
    scene.verified(conn, Purpose::Refresh, Ok(identity("eve", &[])));
    assert_one(&scene.read(conn), &["forbidden", r#""ref":"auth:token_refresh""#]);
    assert_eq!(scene.take().len(), 1);
    let nobody = scene.anonymous(1);
    assert_one(&scene.ask(nobody, REFRESH), &["forbidden"]);
    assert_eq!(scene.take(), [], "there is nothing to verify");
}

#[test]
fn a_login_can_change_the_user() {
    let mut scene = Scene::new();
    let conn = scene.granted(0, "ann", &["private:*"]);
    scene.join(conn, "private:a");
    scene.join(conn, "event:1");
    log_in(&mut scene, conn, "bob");
    assert_eq!(scene.cells.connections_authenticated.get(), 0);
    assert_one(&scene.read(conn), &["room:left", "private:a"]);
    scene.admit(conn);
    assert_one(&scene.read(conn), &["auth:ok", "bob"]);
    let mut members = scene.members();
    members.sort();
    assert_eq!(members, [(r#"Room("event:1")"#.into(), 1), (r#"User("ann")"#.into(), 0)]);
    scene.deliver(&event(Target::User("ann".into()), "1"));
    assert_eq!(scene.read(conn), [""; 0]);
}

#[test]
fn after_logout_the_connection_is_anonymous() {
    let mut scene = Scene::new();
    let conn = scene.granted(0, "ann", &["private:*"]);
    scene.join(conn, "private:a");
    scene.join(conn, "event:1");
    let frames = scene.ask(conn, LOGOUT);
    assert!(frames[0].contains("room:left") && frames[0].contains("private:a"), "{frames:?}");
    assert_one(&frames[1..], &["auth:ok", r#""user_id":null"#, r#""id":1"#]);
    scene.deliver(&event(Target::User("ann".into()), "1"));
    assert_eq!(scene.read(conn), [""; 0]);
    scene.deliver(&event(room("event:1"), "1"));
    assert_eq!(scene.read(conn).len(), 1);
    scene.pass(Duration::from_secs(30));
    scene.show_life(conn);
    assert_eq!((scene.cells.connections.get(), scene.cells.connections_authenticated.get()), (1, 0));
}

#[test]
fn after_logout_the_connection_ends_where_nobody_may_be_anonymous() {
    let mut scene = Scene::with(|settings| settings.auth.allow_anonymous = false);
    let conn = scene.user(0, "ann");
    let frames = scene.ask(conn, LOGOUT);
    assert!(frames[0].contains("auth:ok"));
    assert_eq!(frames[1], "close 4401 logged out");
}

#[test]
fn an_expiring_token_is_announced_and_ends_the_connection() {
    let mut scene = Scene::new();
    let conn = scene.user(0, "ann");
    let life = |scene: &mut Scene, seconds: u64| {
        for _ in 0..seconds / 20 {
            scene.pass(Duration::from_secs(20));
            scene.show_life(conn);
        }
        scene.read(conn).into_iter().filter(|frame| frame != "ping").collect::<Vec<_>>()
    };
    assert_eq!(life(&mut scene, 3_280), [""; 0]);
    let expires = format!(r#""expires_at":{}"#, START.wall_ms + 3_600_000);
    assert_one(&life(&mut scene, 40), &["auth:token_expiring", &expires]);
    assert_eq!(life(&mut scene, 300), [""; 0], "expired, within the grace");
    assert_eq!(life(&mut scene, 20), ["close 4401 token expired"]);
}

#[test]
fn a_refreshed_token_counts_from_then_on() {
    let mut scene = Scene::new();
    let conn = scene.user(0, "ann");
    for step in 0..190 {
        if step == 170 {
            scene.say(conn, REFRESH);
            let expires_at_ms = scene.now.wall_ms + 400_000;
            scene.verified(conn, Purpose::Refresh, Ok(Identity { expires_at_ms, ..identity("ann", &[]) }));
        }
        scene.pass(Duration::from_secs(20));
        scene.show_life(conn);
    }
    let announced = |frame: &&String| frame.contains("token_expiring");
    let frames = scene.read(conn);
    assert_eq!(frames.iter().filter(announced).count(), 2, "one for each token");
    assert!(!frames.concat().contains("close"));
}

#[test]
fn a_token_for_ever_never_expires() {
    let mut scene = Scene::new();
    let conn = scene.pending(0, Identity { expires_at_ms: u64::MAX, ..identity("ann", &[]) });
    scene.admit(conn);
    scene.read(conn);
    for _ in 0..100 {
        scene.pass(Duration::from_secs(50));
        scene.show_life(conn);
    }
    assert!(scene.read(conn).iter().all(|frame| frame == "ping"));
}
