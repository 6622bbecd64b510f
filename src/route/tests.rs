//! The router as a whole.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::{
    event::{Address, Denial, Form, LatestKey, Receipt, Refusal, RoomDenial, RoomEntry},
    ids::ConnId,
    stream::{
        history::{Bounds, History},
        store::{Answer, Failure},
    },
};

const START: Now = Now { mono_ns: 1_000_000_000, wall_ms: 0 };
const FREE: ShardView = ShardView { free: 9, free_bytes: 100, spare: 4, lagging: false, connections: 5 };
const FULL: ShardView = ShardView { free: 0, free_bytes: 100, spare: 0, lagging: false, connections: 5 };
const LAGGING: ShardView = ShardView { free: 9, free_bytes: 100, spare: 4, lagging: true, connections: 5 };

/// A router, and what the control loop would keep beside it.
struct Bench {
    route: Route,
    store: History,
    /// What the store says instead of doing anything.
    failure: Option<Failure>,
    now: Now,
    shards: Vec<ShardView>,
}

impl Bench {
    /// Three shards with room; at most two connections a user and five members a room; rooms `kept:*` are kept.
    fn new() -> Self {
        let mut settings = Settings::default();
        settings.limits.connections_per_user_max = 2;
        settings.limits.room_members_max = 5;
        settings.streams.rooms = vec!["kept:*".into()];
        Self {
            route: Route::new(&settings, Instances::One),
            store: History::new(Bounds::from(&settings.streams), 7),
            failure: None,
            now: START,
            shards: vec![FREE; 3],
        }
    }

    fn handle(&mut self, input: Input<'_>) -> Vec<Output> {
        let mut out = self.handle_unanswered(input);
        while let Some(place) = out.iter().position(|output| matches!(output, Output::Ask { .. })) {
            let Output::Ask { ticket, ask } = out.remove(place) else { unreachable!() };
            let answer = match self.failure {
                Some(failure) => Answer::Failed(failure),
                None => self.store.answer(self.now, ask),
            };
            let shards = self.shards.clone();
            out.extend(self.handle_unanswered(Input::Answered { ticket, answer, shards: &shards }));
        }
        assert!(!self.route.is_asking());
        out
    }

    /// The store keeps its answers to itself.
    fn handle_unanswered(&mut self, input: Input<'_>) -> Vec<Output> {
        let mut out = Vec::new();
        self.route.handle(self.now, input, &mut out);
        self.route.check_invariants();
        out
    }

    fn member(&mut self, shard: u16, address: Address, count: u32) {
        assert_eq!(self.handle(Input::Members { shard: ShardId(shard), address, count }), []);
    }

    fn admit(&mut self, shard: u16, user: &str, user_connections: u32) -> Output {
        let conn = ConnId::new(ShardId(shard), 0, user_connections);
        let mut out = self.handle(Input::Admit { conn, user: user.into(), user_connections });
        assert_eq!(out.len(), 1);
        out.remove(0)
    }

    fn tick(&mut self) -> Vec<Output> {
        let shards = self.shards.clone();
        self.handle(Input::Tick { shards: &shards })
    }

    fn join(&mut self, shard: u16, room: &str, members: u32) -> Result<RoomEntry, RoomDenial> {
        self.ask_to_join(shard, room, members, true)
    }

    fn ask_to_join(
        &mut self,
        shard: u16,
        room: &str,
        members: u32,
        newcomer: bool,
    ) -> Result<RoomEntry, RoomDenial> {
        let asking = ConnId::new(ShardId(shard), 0, members);
        let join = Input::Join { conn: asking, attempt: 6, room: room.into(), members, newcomer };
        match self.handle(join).remove(0) {
            Output::JoinDecided { conn, attempt: 6, outcome } if conn == asking => outcome,
            other => panic!("{other:?}"),
        }
    }

    fn present(&mut self, shard: u16, user: &str, present: bool) {
        let conn = ConnId::new(ShardId(shard), 0, 1);
        let input = Input::Present { room: "lobby".into(), user: user.into(), present, conn };
        assert_eq!(self.handle(input), []);
    }

    /// What members of the lobby are told, by shard.
    fn announced(&mut self) -> Vec<(u16, String)> {
        let shards = self.shards.clone();
        let out = self.handle(Input::Announce { shards: &shards });
        let told = out.into_iter().map(|output| match output {
            Output::Deliver { shard, event } => {
                assert_eq!((&event.target, &event.class), (&room("lobby"), &Class::Ephemeral));
                let payload = std::str::from_utf8(&event.payload).unwrap();
                (shard.0, format!("{} {payload}", event.kind))
            }
            other => panic!("{other:?}"),
        });
        told.collect()
    }

    fn publish(&mut self, event: Event, key: Option<&str>) -> (Vec<u16>, Result<Receipt, Refusal>) {
        let shards = self.shards.clone();
        let idempotency_key = key.map(Arc::from);
        let mut out = self.handle(Input::Publish { token: 3, event, idempotency_key, shards: &shards });
        let Some(Output::Answer { token: 3, result }) = out.pop() else { panic!("no answer in {out:?}") };
        let delivered = out.into_iter().map(|output| match output {
            Output::Deliver { shard, event } => {
                let position = result.as_ref().unwrap().position.as_ref();
                assert_eq!(event.position.as_ref(), position);
                shard.0
            }
            other => panic!("{other:?}"),
        });
        (delivered.collect(), result)
    }

    fn send(&mut self, target: Target, class: Class) -> (Vec<u16>, Receipt) {
        let (shards, result) = self.publish(event(target, class), None);
        (shards, result.unwrap())
    }
}

pub(super) fn event(target: Target, class: Class) -> Event {
    Event {
        target,
        kind: "test".into(),
        payload: Bytes::from_static(b"{}"),
        form: Form::Payload,
        class,
        version: None,
        position: None,
        except: None,
        accepted_at_ns: 0,
    }
}

fn user(name: &str) -> Target {
    Target::User(name.into())
}

fn room(name: &str) -> Target {
    Target::Room(name.into())
}

fn in_room(name: &str) -> Address {
    Address::Room(name.into())
}

#[test]
fn an_event_goes_to_the_shards_that_hold_its_target() {
    let mut bench = Bench::new();
    bench.member(0, in_room("r"), 4);
    bench.member(2, in_room("r"), 3);
    bench.admit(1, "a", 2);
    let conn = ConnId::new(ShardId(2), 1, 1);
    let stranger = ConnId::new(ShardId(9), 1, 1);
    let table: [(Target, &[u16], u32); 7] = [
        (room("r"), &[0, 2], 7),
        (room("empty"), &[], 0),
        (user("a"), &[1], 2),
        (room("user:a"), &[1], 2),
        (Target::Connection(conn), &[2], 1),
        (Target::Connection(stranger), &[], 0),
        (Target::Everyone, &[0, 1, 2], 15),
    ];
    for (target, shards, count) in table {
        let (delivered, receipt) = bench.send(target.clone(), Class::Ordered);
        assert_eq!((&*delivered, receipt.delivered_connections), (shards, count), "{target:?}");
    }
}

#[test]
fn a_shard_that_lags_behind_gets_everything() {
    let mut bench = Bench::new();
    bench.member(0, in_room("r"), 4);
    bench.shards[1] = LAGGING;
    assert_eq!(bench.send(room("r"), Class::Ordered).0, [0, 1]);
    assert_eq!(bench.send(user("nobody"), Class::Ordered).0, [1]);
}

/// E9
#[test]
fn a_full_mailbox_refuses_before_anything_is_stored() {
    let bytes = event(user("a"), Class::Critical).payload.len();
    for full in [FULL, ShardView { free_bytes: bytes - 1, ..FREE }] {
        let mut bench = Bench::new();
        bench.admit(0, "a", 1);
        bench.admit(1, "a", 1);
        bench.shards[1] = full;
        let refused = bench.publish(event(user("a"), Class::Critical), Some("k"));
        assert_eq!(refused, (vec![], Err(Refusal::Overloaded { retry_after_ms: 100 })), "{full:?}");
        bench.shards[1] = ShardView { free: 1, free_bytes: bytes, ..FREE };
        let (shards, receipt) = bench.publish(event(user("a"), Class::Critical), Some("k"));
        assert_eq!((shards, receipt.unwrap().position.unwrap().offset), (vec![0, 1], 1));
        assert_eq!(bench.route.counts().overloaded, 1);
    }
}

#[test]
fn a_full_mailbox_of_a_shard_without_the_target_does_not_matter() {
    let mut bench = Bench::new();
    bench.admit(0, "a", 1);
    bench.shards[1] = FULL;
    assert_eq!(bench.send(user("a"), Class::Critical).0, [0]);
}

#[test]
fn critical_is_stored_for_users_and_kept_rooms_alone() {
    let mut bench = Bench::new();
    let table = [
        (user("a"), Class::Critical, Some(("user:a", 1))),
        (room("user:a"), Class::Critical, Some(("user:a", 2))),
        (room("kept:1"), Class::Critical, Some(("room:kept:1", 1))),
        (room("other"), Class::Critical, None),
        (Target::Everyone, Class::Critical, None),
        (user("a"), Class::Ordered, None),
        (room("kept:1"), Class::Ephemeral, None),
    ];
    for (target, class, expected) in table {
        let receipt = bench.send(target.clone(), class).1;
        let place = receipt.position.as_ref().map(|position| (&*position.stream, position.offset));
        assert_eq!(place, expected, "{target:?}");
    }
    assert_eq!(bench.route.counts().accepted, [3, 3, 0, 1]);
}

#[test]
fn a_repeated_call_gets_the_first_answer_and_sends_nothing() {
    let mut bench = Bench::new();
    bench.admit(0, "a", 1);
    for (class, key) in [(Class::Critical, "k1"), (Class::Ordered, "k2")] {
        let first = bench.publish(event(user("a"), class.clone()), Some(key));
        bench.admit(1, "a", 1);
        let again = bench.publish(event(user("a"), class), Some(key));
        assert_eq!((again.0, again.1.unwrap().position), (vec![], first.1.unwrap().position));
    }
    let other = Event { payload: Bytes::from_static(b"[]"), ..event(user("a"), Class::Critical) };
    assert_eq!(bench.publish(other.clone(), Some("k1")), (vec![], Err(Refusal::KeyReused)));
    assert!(bench.publish(other, Some("k3")).1.is_ok());
    bench.now = START.after(Duration::from_secs(300));
    assert_eq!(bench.publish(event(user("a"), Class::Critical), Some("k1")).0, [0, 1]);
    let counts = bench.route.counts();
    assert_eq!((counts.repeated, counts.key_reused), (2, 1));
}

#[test]
fn keys_mean_nothing_for_what_is_replaced_or_dropped() {
    let mut bench = Bench::new();
    bench.member(0, in_room("r"), 1);
    for class in [Class::Latest(LatestKey(1)), Class::Ephemeral] {
        for _ in 0..2 {
            assert_eq!(bench.publish(event(room("r"), class.clone()), Some("k")).0, [0]);
        }
    }
}

#[test]
fn a_lower_version_never_follows_a_higher_one() {
    let mut bench = Bench::new();
    bench.admit(0, "a", 1);
    bench.admit(1, "b", 1);
    let mut send = |target: &str, key: u64, version: Option<u64>| {
        let position = Event { version, ..event(user(target), Class::Latest(LatestKey(key))) };
        let (shards, result) = bench.publish(position, None);
        assert_eq!(result.unwrap().delivered_connections, shards.len() as u32);
        !shards.is_empty()
    };
    assert!(send("a", 1, Some(5)));
    assert!(!send("a", 1, Some(4)));
    assert!(!send("a", 1, Some(5)));
    assert!(send("a", 1, None), "without a version the newest arrival wins");
    assert!(!send("a", 1, Some(5)), "and raises nothing");
    assert!(send("a", 1, Some(6)));
    assert!(send("a", 2, Some(1)), "another key");
    assert!(send("b", 1, Some(1)), "another user");
    assert_eq!(bench.route.counts().stale, 3);
}

#[test]
fn a_version_refused_for_want_of_room_may_come_again() {
    let mut bench = Bench::new();
    bench.admit(0, "a", 1);
    let position = Event { version: Some(5), ..event(user("a"), Class::Latest(LatestKey(1))) };
    bench.shards[0] = FULL;
    assert!(bench.publish(position.clone(), None).1.is_err());
    bench.shards[0] = FREE;
    assert_eq!(bench.publish(position, None).0, [0]);
}

#[test]
fn a_user_has_no_more_connections_than_allowed_on_all_shards() {
    let mut bench = Bench::new();
    assert!(matches!(bench.admit(0, "a", 1), Output::Admitted { .. }));
    assert!(matches!(bench.admit(1, "a", 1), Output::Admitted { .. }));
    let denied = bench.admit(2, "a", 1);
    let expected = Denial::TooManyConnections;
    assert!(matches!(denied, Output::Denied { denial, retry_after_ms: 5_000, .. } if denial == expected));
    assert_eq!(bench.route.directory().user_connections("a"), 2);
    assert!(matches!(bench.admit(1, "a", 2), Output::Denied { .. }));
    bench.member(0, Address::User("a".into()), 0);
    assert!(matches!(bench.admit(2, "a", 1), Output::Admitted { .. }));
    let counts = bench.route.counts();
    assert_eq!((counts.admitted, counts.denied), (3, 2));
}

#[test]
fn who_is_admitted_learns_where_the_stream_ends() {
    let mut bench = Bench::new();
    let heads = [0, 1].map(|expected| {
        let Output::Admitted { position, .. } = bench.admit(0, "a", 1) else { panic!("denied") };
        let position = position.unwrap();
        assert_eq!((&*position.stream, position.offset), ("user:a", expected));
        bench.send(user("a"), Class::Critical);
        position.epoch
    });
    assert_eq!(heads[0], heads[1]);
}

#[test]
fn a_user_is_disconnected_where_he_is_or_may_be() {
    let mut bench = Bench::new();
    bench.admit(0, "a", 2);
    bench.shards[2] = LAGGING;
    let shards = bench.shards.clone();
    let out = bench.handle(Input::Disconnect { token: 8, user: "a".into(), shards: &shards });
    let disconnect = |shard| Output::Disconnect { shard: ShardId(shard), user: "a".into() };
    let expected = [disconnect(0), disconnect(2), Output::Disconnected { token: 8, connections: 2 }];
    assert_eq!(out, expected);
}

#[test]
fn a_tick_tells_room_counts_once_and_to_whom_there_is_room() {
    let mut bench = Bench::new();
    bench.member(0, in_room("r"), 1);
    bench.member(1, in_room("r"), 2);
    let count = |shard, others| Output::RoomCount { shard: ShardId(shard), room: "r".into(), others };
    bench.shards[0] = FULL;
    assert_eq!(bench.tick(), [count(1, 1)]);
    bench.shards[0] = FREE;
    assert_eq!(bench.tick(), [count(0, 2)]);
    assert_eq!(bench.tick(), []);
}

#[test]
fn a_room_has_no_more_members_than_allowed_on_all_shards() {
    let mut bench = Bench::new();
    let entry = |members| Ok(RoomEntry { members, position: None });
    assert_eq!(bench.join(0, "r", 1), entry(1));
    assert_eq!(bench.join(1, "r", 3), entry(4), "two others wait for their answers there");
    assert_eq!(bench.join(2, "r", 1), entry(5));
    assert_eq!(bench.join(0, "r", 2), Err(RoomDenial::Full));
    assert_eq!(bench.route.directory().room("r").unwrap().total(), 5, "who was refused does not count");
    assert_eq!(bench.ask_to_join(1, "r", 4, false), entry(5), "members may ask again while others wait");
    bench.member(1, in_room("r"), 2);
    assert_eq!(bench.join(0, "r", 2), entry(5));
    let counts = bench.route.counts();
    assert_eq!((counts.joined, counts.rooms_full), (5, 1));
}

#[test]
fn who_joins_a_kept_room_learns_where_its_stream_ends() {
    let mut bench = Bench::new();
    assert_eq!(bench.join(0, "r", 1).unwrap().position, None);
    for offset in 0..3 {
        let position = bench.join(0, "kept:1", 1).unwrap().position.unwrap();
        assert_eq!((&*position.stream, position.offset), ("room:kept:1", offset));
        let (shards, receipt) = bench.send(room("kept:1"), Class::Critical);
        let sent = receipt.position.unwrap();
        assert_eq!((shards, sent.offset, sent.epoch), (vec![0], offset + 1, position.epoch));
    }
}

#[test]
fn a_user_on_two_shards_is_announced_once() {
    let mut bench = Bench::new();
    bench.member(0, in_room("lobby"), 2);
    bench.member(1, in_room("lobby"), 1);
    bench.present(0, "ann", true);
    bench.present(1, "ann", true);
    let told = |kind| [0, 1].map(|shard| (shard, format!(r#"{kind} {{"room":"lobby","user_id":"ann"}}"#)));
    assert_eq!(bench.announced(), [told("room:user_joined"), told("user:online")].concat());
    bench.present(0, "ann", false);
    assert_eq!(bench.announced(), []);
    bench.present(1, "ann", false);
    assert_eq!(bench.announced(), told("room:user_left"));
    assert!(!bench.route.has_announcements());
    assert_eq!(bench.route.counts().accepted[Class::Ephemeral.index()], 3);
}

#[test]
fn announcements_wait_for_room_to_spare() {
    let mut bench = Bench::new();
    bench.member(0, in_room("lobby"), 2);
    bench.member(1, in_room("lobby"), 1);
    bench.shards[1].spare = 0;
    bench.present(0, "ann", true);
    assert_eq!(bench.announced(), [], "all or nobody");
    assert!(bench.route.has_announcements());
    bench.shards[1].spare = 1;
    bench.present(0, "bob", true);
    (0..4).for_each(|_| assert_eq!(bench.announced().len(), 2, "one of them fits"));
    assert_eq!(bench.announced(), []);
}

#[test]
fn large_rooms_announce_nothing() {
    let mut bench = Bench::new();
    bench.member(0, in_room("lobby"), ANNOUNCED_ROOM_MEMBERS_MAX as u32 + 1);
    bench.present(0, "ann", true);
    assert_eq!(bench.announced(), []);
    bench.member(0, in_room("lobby"), ANNOUNCED_ROOM_MEMBERS_MAX as u32);
    bench.present(0, "bob", true);
    assert_eq!(bench.announced().len(), 2, "it does not make up for what it kept quiet");
}

#[test]
fn what_is_being_stored_has_room_reserved() {
    let mut bench = Bench::new();
    bench.admit(0, "a", 1);
    bench.shards[0].free = 2;
    let shards = bench.shards.clone();
    let mut begin = |token| {
        let event = event(user("a"), Class::Critical);
        bench
            .handle_unanswered(Input::Publish { token, event, idempotency_key: None, shards: &shards })
            .remove(0)
    };
    let (first, second, third) = (begin(1), begin(2), begin(3));
    assert!(matches!((&first, &second), (Output::Ask { .. }, Output::Ask { .. })));
    assert!(matches!(third, Output::Answer { token: 3, result: Err(Refusal::Overloaded { .. }) }));
    let Output::Ask { ticket, ask } = first else { unreachable!() };
    let answer = bench.store.answer(START, ask);
    let out = bench.handle_unanswered(Input::Answered { ticket, answer, shards: &shards });
    assert!(
        matches!(&out[..], [Output::Deliver { .. }, Output::Answer { token: 1, result: Ok(_) }]),
        "{out:?}"
    );
}

#[test]
fn a_store_that_fails_refuses_the_call() {
    let mut bench = Bench::new();
    let refused = [
        (Failure::Unavailable, Refusal::OutcomeUnknown),
        (Failure::Refused, Refusal::NotStored { retry_after_ms: 1_000 }),
    ];
    for (failure, refusal) in refused {
        bench.failure = Some(failure);
        let refused = bench.publish(event(user("a"), Class::Critical), None);
        assert_eq!(refused, (vec![], Err(refusal)));
    }
    assert_eq!(bench.route.counts().appends_failed, 2);
}

#[test]
fn nobody_waits_for_a_head_longer_than_two_seconds() {
    let mut bench = Bench::new();
    bench.route = Route::new(&Settings::default(), Instances::Several);
    let alive = || Output::Tell { word: Word::Alive };
    assert_eq!(bench.handle_unanswered(Input::Up), [alive()]);
    let conn = ConnId::new(ShardId(0), 0, 1);
    let out = bench.handle_unanswered(Input::Admit { conn, user: "a".into(), user_connections: 1 });
    assert_eq!(out, [Output::Interest { address: Address::User("a".into()), on: true }]);
    let shards = bench.shards.clone();
    bench.now = START.after(Duration::from_millis(1_999));
    assert_eq!(bench.handle_unanswered(Input::Clock { shards: &shards }), []);
    bench.now = START.after(Duration::from_millis(2_000));
    let mut out = bench.handle_unanswered(Input::Clock { shards: &shards });
    assert_eq!(out.remove(0), Output::Admitted { conn, position: None });
    let Output::Ask { ticket, ask } = out.remove(0) else { panic!("the head is asked for all the same") };
    let answer = bench.store.answer(START, ask);
    let out = bench.handle_unanswered(Input::Answered { ticket, answer, shards: &shards });
    assert!(matches!(&out[..], [Output::Resync { position, .. }] if position.offset == 0), "{out:?}");
}
