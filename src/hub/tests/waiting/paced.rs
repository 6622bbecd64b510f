//! How often people in a queue are told: by distance, by turns, and without new memory.

use super::*;
use crate::limits::{POSITION_NEAR, SWEEP_SENDS_MAX};

/// So many who wait, at places from 1 on, all of them told where they stand.
fn crowd(count: u32) -> Scene {
    let mut scene = Scene::in_line();
    scene.tell(&whole(1, 0, &[]));
    for slot in 0..count {
        scene.waiter(slot, slot + 1);
    }
    scene.dirty();
    scene
}

/// Who was told a position, having read it.
fn told(scene: &mut Scene) -> Vec<ConnId> {
    let dirty = scene.dirty();
    dirty.into_iter().filter(|conn| scene.read(*conn).concat().contains("queue_position")).collect()
}

#[test]
fn an_advance_is_told_some_at_a_time() {
    let mut scene = crowd(1_000);
    scene.pass(Duration::from_secs(2));
    scene.dirty();
    scene.handle(Input::Line(&news(2, 1, &[])));
    let mut turns = 0;
    while scene.hub.next_deadline().is_some_and(|due| due <= scene.now.mono_ns) {
        scene.handle(Input::Tick);
        let count = told(&mut scene).len();
        assert!(count <= SWEEP_SENDS_MAX, "{count} in one turn");
        turns += 1;
    }
    assert!(turns >= 1_000 / SWEEP_SENDS_MAX, "{turns} turns");
}

#[test]
fn the_newest_news_win_while_a_sweep_is_under_way() {
    let mut scene = crowd(600);
    scene.pass(Duration::from_secs(2));
    scene.dirty();
    scene.handle(Input::Line(&news(2, 1, &[])));
    scene.handle(Input::Tick);
    scene.tell(&news(3, 2, &[]));
    let last = id(599);
    assert_eq!(position(&scene.read(last)), (598, 597), "not yet told when the second came");
    scene.pass(Duration::from_secs(2));
    let first: Vec<String> = scene.read(id(10)).into_iter().filter(|frame| frame != "ping").collect();
    assert_eq!(position(&first), (9, 8));
}

#[test]
fn people_near_the_head_see_every_change_and_those_far_away_some() {
    let mut scene = crowd(0);
    let near = scene.waiter(1, POSITION_NEAR / 2);
    let far = scene.waiter(2, POSITION_NEAR * 100);
    let (mut of_near, mut of_far) = (0, 0);
    for sequence in 2..42 {
        scene.tell(&news(sequence, sequence as u32, &[]));
        // Longer than the interval and the pause between two passes.
        scene.pass(Duration::from_millis(1_400));
        let told = told(&mut scene);
        of_near += u32::from(told.contains(&near));
        of_far += u32::from(told.contains(&far));
    }
    assert_eq!(of_near, 40);
    assert!((5..=14).contains(&of_far), "56 s, every 4 to 10: {of_far}");
}

#[test]
fn who_comes_near_is_told_at_the_pace_of_the_near() {
    let mut scene = crowd(0);
    let conn = scene.waiter(1, POSITION_NEAR * 50);
    scene.pass(Duration::from_millis(1_200));
    scene.tell(&news(2, POSITION_NEAR * 50 - 3, &[]));
    assert_eq!(position(&scene.read(conn)), (3, 2));
}

#[test]
fn a_sweep_uses_the_frames_of_the_one_before() {
    let mut scene = crowd(1_000);
    let mut sequence = 1;
    let mut advance = |scene: &mut Scene| {
        sequence += 1;
        scene.pass(Duration::from_secs(2));
        scene.handle(Input::Line(&news(sequence, sequence as u32, &[])));
        while scene.hub.next_deadline().is_some_and(|due| due <= scene.now.mono_ns) {
            scene.handle(Input::Tick);
            told(scene);
        }
    };
    advance(&mut scene);
    let made = scene.hub.frames_made();
    assert!(made >= SWEEP_SENDS_MAX as u64);
    for _ in 0..10 {
        advance(&mut scene);
    }
    assert_eq!(scene.hub.frames_made(), made);
}

#[test]
fn connections_of_one_place_are_all_told() {
    let mut scene = crowd(0);
    let tabs: Vec<ConnId> = (0..5).map(|slot| scene.waiter(slot, 9)).collect();
    scene.pass(Duration::from_secs(2));
    scene.tell(&news(2, 4, &[]));
    for conn in tabs {
        assert_eq!(position(&scene.read(conn)), (5, 4));
    }
}

#[test]
fn who_waits_sees_how_many_there_are_while_nothing_moves() {
    let mut scene = crowd(0);
    let far = scene.waiter(1, POSITION_NEAR * 100);
    let totals = |scene: &mut Scene| -> Vec<u64> {
        scene.pass(Duration::from_secs(9));
        let told = scene.read(far).into_iter().filter(|frame| frame.contains("queue_position"));
        told.filter_map(|frame| number(&frame, "total")).collect()
    };
    assert_eq!(totals(&mut scene), [0; 0]);
    let longer = LineUpdate { after: Some(1), total: 1_000_007, ..news(1, 0, &[]) };
    scene.tell(&longer);
    assert_eq!(totals(&mut scene), [1_000_007]);
    scene.tell(&longer);
    assert_eq!(totals(&mut scene), [0; 0], "that is known");
    // Somebody here has a place of which no news came yet: nobody else is told by that.
    scene.waiter(2, 1_000_009);
    scene.tell(&LineUpdate { total: 1_000_008, ..longer });
    assert_eq!(totals(&mut scene), [1_000_009], "no more than are known of");
}
