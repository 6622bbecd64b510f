use std::collections::BTreeMap;

use super::*;

#[test]
fn pings_come_at_their_interval_in_phases_of_their_own() {
    let mut scene = Scene::new();
    let conns: Vec<ConnId> = (0..300).map(|slot| scene.anonymous(slot)).collect();
    let mut seconds: BTreeMap<u64, u32> = BTreeMap::new();
    for second in 0..120 {
        scene.pass(Duration::from_secs(1));
        for conn in &conns {
            let pings = scene.read(*conn).len() as u32;
            *seconds.entry(second % 30).or_default() += pings;
            scene.show_life(*conn);
        }
    }
    assert!((1_190..=1_200).contains(&seconds.values().sum::<u32>()), "{seconds:?}");
    assert!(seconds.values().all(|pings| (4..=100).contains(pings)), "spread: {seconds:?}");
}

#[test]
fn silence_ends_a_connection_and_any_frame_breaks_it() {
    let mut scene = Scene::new();
    let (silent, alive) = (scene.anonymous(0), scene.anonymous(1));
    scene.pass(Duration::from_secs(40));
    scene.handle(Input::Ping { conn: alive, payload: b"" });
    scene.pass(Duration::from_millis(19_900));
    assert_eq!(scene.take(), []);
    scene.pass(Duration::from_millis(400));
    assert_eq!(scene.take(), [Output::Shutdown { conn: silent }], "at once");
    assert!(scene.read(silent).concat().contains("close 4408"));
    scene.pass(Duration::from_secs(39));
    assert_eq!(scene.take(), []);
    scene.pass(Duration::from_secs(1));
    assert_eq!(scene.take(), [Output::Shutdown { conn: alive }]);
}

#[test]
fn a_hub_that_was_away_blames_nobody() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    scene.now = scene.now.after(Duration::from_secs(300));
    scene.handle(Input::Tick);
    assert_eq!(scene.take(), []);
    assert_eq!(scene.read(conn), ["ping"], "one, not ten");
    scene.pass(Duration::from_secs(59));
    assert_eq!(scene.take(), []);
    scene.pass(Duration::from_secs(2));
    assert_eq!(scene.take(), [Output::Shutdown { conn }]);
}

#[test]
fn a_ping_does_not_queue_behind_a_ping() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    for _ in 0..10 {
        scene.pass(Duration::from_secs(30));
        scene.show_life(conn);
    }
    assert_eq!(scene.read(conn), ["ping"]);
}

#[test]
fn an_idle_hub_is_woken_a_few_times_per_interval_only() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    let mut wakes = 0;
    let end = scene.now.after(Duration::from_secs(300)).mono_ns;
    while let Some(due) = scene.hub.next_deadline().filter(|due| *due <= end) {
        scene.now = scene.now.after(Duration::from_nanos(due - scene.now.mono_ns));
        scene.handle(Input::Tick);
        scene.show_life(conn);
        wakes += 1;
    }
    assert!((10..=11).contains(&wakes), "{wakes}");
    scene.handle(Input::Gone { conn });
    assert_eq!(scene.hub.next_deadline(), None);
}

#[test]
fn a_token_about_to_expire_is_announced_at_once() {
    let mut scene = Scene::new();
    let soon = Identity { expires_at_ms: START.wall_ms + 10_000, ..identity("ann", &[]) };
    let conn = scene.pending(0, soon);
    scene.admit(conn);
    scene.read(conn);
    scene.pass(Duration::from_millis(200));
    assert_one(&scene.read(conn), &["auth:token_expiring"]);
    scene.pass(Duration::from_secs(34));
    assert!(!scene.read(conn).concat().contains("close"));
    scene.pass(Duration::from_secs(1));
    assert_eq!(scene.read(conn), ["close 4401 token expired"]);
}
