//! Who is announced, and when.

use super::*;

const GRACE: Duration = Duration::from_secs(10);

fn at(seconds: u64) -> Now {
    Now { mono_ns: seconds * 1_000_000_000, wall_ms: 0 }
}

fn presence() -> Presence {
    Presence::new(GRACE)
}

fn conn(shard: u16) -> ConnId {
    ConnId::new(ShardId(shard), 0, 1)
}

fn lobby() -> Arc<str> {
    "lobby".into()
}

fn ann() -> Arc<str> {
    "ann".into()
}

fn set(presence: &mut Presence, second: u64, shard: u16, present: bool) -> bool {
    let changed = presence.set(at(second), &lobby(), &ann(), present, conn(shard));
    presence.check_invariants();
    changed
}

fn hear(presence: &mut Presence, second: u64, from: InstanceId, present: bool) {
    presence.hear(at(second), from, &lobby(), &ann(), present);
    presence.check_invariants();
}

/// What is announced, and whom it is not told.
fn due(presence: &mut Presence) -> Vec<(Change, Option<ConnId>)> {
    let mut list = Vec::new();
    presence.take_due(|announcement| {
        assert_eq!((announcement.room, announcement.user), (&lobby(), &ann()));
        list.push((announcement.change, announcement.conn));
        true
    });
    presence.check_invariants();
    list
}

fn changes(presence: &mut Presence) -> Vec<Change> {
    due(presence).into_iter().map(|(change, _)| change).collect()
}

/// The clock as it stands then.
fn clock(presence: &mut Presence, second: u64, connected: bool) -> Vec<Change> {
    presence.clock(at(second), |_| connected);
    presence.check_invariants();
    changes(presence)
}

const COMES: [Change; 2] = [Change::Joined, Change::Online];

#[test]
fn a_user_on_several_shards_comes_once_and_goes_once() {
    let mut presence = presence();
    assert!(set(&mut presence, 0, 0, true));
    assert_eq!(due(&mut presence), COMES.map(|change| (change, Some(conn(0)))));
    assert!(!set(&mut presence, 0, 1, true) && !set(&mut presence, 0, 1, true));
    assert!(!set(&mut presence, 0, 0, false));
    assert_eq!(due(&mut presence), []);
    assert!(set(&mut presence, 0, 1, false));
    assert_eq!(due(&mut presence), [(Change::Left, Some(conn(1)))]);
    presence.clock(at(10), |_| false);
    assert_eq!(due(&mut presence), [(Change::Offline, None)]);
    assert_eq!((presence.rooms.len(), presence.users.len(), presence.iter().count()), (0, 0, 0));
}

#[test]
fn a_user_on_two_instances_who_leaves_one_has_not_left() {
    let mut presence = presence();
    set(&mut presence, 0, 0, true);
    hear(&mut presence, 0, 7, true);
    assert_eq!(changes(&mut presence), COMES);
    set(&mut presence, 0, 0, false);
    assert_eq!(changes(&mut presence), []);
    hear(&mut presence, 0, 7, false);
    assert_eq!(due(&mut presence), [(Change::Left, None)]);
}

#[test]
fn who_comes_back_within_the_grace_was_never_offline() {
    let mut presence = presence();
    set(&mut presence, 0, 0, true);
    changes(&mut presence);
    set(&mut presence, 1, 0, false);
    assert_eq!(changes(&mut presence), [Change::Left]);
    assert_eq!(clock(&mut presence, 10, false), []);
    set(&mut presence, 10, 1, true);
    assert_eq!(changes(&mut presence), [Change::Joined]);
    assert_eq!(clock(&mut presence, 11, false), []);
    set(&mut presence, 12, 1, false);
    assert_eq!(changes(&mut presence), [Change::Left]);
    assert_eq!(clock(&mut presence, 21, false), []);
    assert_eq!(clock(&mut presence, 22, false), [Change::Offline]);
}

#[test]
fn who_left_the_room_and_is_connected_is_not_offline() {
    let mut presence = presence();
    set(&mut presence, 0, 0, true);
    changes(&mut presence);
    set(&mut presence, 0, 0, false);
    changes(&mut presence);
    assert_eq!(clock(&mut presence, 10, true), []);
    assert!(presence.rooms.is_empty());
}

#[test]
fn more_than_may_come_back_do_not_get_the_whole_time() {
    let mut presence = presence();
    let user = |n: usize| Arc::<str>::from(n.to_string());
    for present in [true, false] {
        for n in 0..=GRACES_MAX {
            presence.set(at(0), &lobby(), &user(n), present, conn(0));
        }
        while presence.is_due() {
            presence.take_due(|_| true);
        }
    }
    presence.clock(at(1), |_| false);
    let mut offline = Vec::new();
    presence.take_due(|announcement| {
        offline.push(announcement.user.clone());
        true
    });
    assert_eq!((offline, presence.graces.len()), (vec![user(0)], GRACES_MAX));
}

#[test]
fn who_was_there_before_is_not_announced_and_who_is_missing_has_left() {
    let mut presence = presence();
    presence.hear_all(at(0), 7, &lobby(), &[ann()]);
    assert_eq!(changes(&mut presence), []);
    assert_eq!(presence.rooms_of("ann"), [lobby()]);
    presence.hear_all(at(1), 7, &lobby(), &[]);
    assert_eq!(changes(&mut presence), [Change::Left]);
    assert!(presence.rooms_of("ann").is_empty());
    assert_eq!(clock(&mut presence, 11, false), [Change::Offline]);
}

#[test]
fn an_instance_that_is_gone_takes_its_users_along() {
    let mut presence = presence();
    [7, 8].iter().for_each(|from| hear(&mut presence, 0, *from, true));
    assert_eq!(changes(&mut presence), COMES);
    presence.forget_instance(at(1), 7);
    assert_eq!(changes(&mut presence), []);
    presence.forget_instance(at(1), 8);
    assert_eq!(changes(&mut presence), [Change::Left]);
}

#[test]
fn a_room_without_members_here_remembers_nobody() {
    let mut presence = presence();
    set(&mut presence, 0, 0, true);
    hear(&mut presence, 0, 7, true);
    presence.hear(at(0), 7, &lobby(), &"bob".into(), true);
    presence.forget_room(&lobby());
    presence.check_invariants();
    assert_eq!(presence.iter().collect::<Vec<_>>(), [("lobby", "ann")], "a shard still says so");
    set(&mut presence, 0, 0, false);
    presence.forget_room(&lobby());
    presence.check_invariants();
    assert!(presence.rooms.is_empty() && !presence.is_due());
}

#[test]
fn what_was_undone_before_it_was_told_is_not_told() {
    let mut presence = presence();
    set(&mut presence, 0, 0, true);
    set(&mut presence, 0, 0, false);
    assert_eq!(due(&mut presence), []);
    assert!(!presence.is_due() && presence.rooms.is_empty());
    set(&mut presence, 0, 0, true);
    due(&mut presence);
    set(&mut presence, 0, 0, false);
    set(&mut presence, 0, 1, true);
    assert_eq!(due(&mut presence), [], "moved to another shard");
}

#[test]
fn what_is_not_taken_stays_due() {
    let mut presence = presence();
    set(&mut presence, 0, 0, true);
    presence.take_due(|_| false);
    presence.check_invariants();
    let mut room_for = 1;
    presence.take_due(|_| std::mem::replace(&mut room_for, 0) == 1);
    assert_eq!(due(&mut presence), [(Change::Online, Some(conn(0)))]);
    set(&mut presence, 0, 0, false);
    presence.take_due(|_| false);
    assert_eq!(due(&mut presence), [(Change::Left, Some(conn(0)))]);
}

#[test]
fn a_shard_that_repeats_that_nobody_is_there_leaves_nothing() {
    let mut presence = presence();
    set(&mut presence, 0, 0, false);
    assert!(presence.rooms.is_empty() && !presence.is_due());
}
