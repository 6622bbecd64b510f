use std::{sync::Arc, time::Duration};

use super::super::{Input, Instances, Output, Route, ShardView, Ticket};
use crate::{
    clock::Now,
    config::Settings,
    event::{Address, Class, Event, LatestKey, Target},
    ids::{ConnId, ShardId},
    limits::{HEAD_TIME_MAX, LATEST_ASKS_MAX},
    route::tests::event,
    stream::{
        history::{Bounds, History},
        store::{Answer, Ask, Failure},
    },
};

const FREE: ShardView = ShardView { free: 9, free_bytes: 1_000, spare: 4, lagging: false, connections: 1 };
const SHARDS: [ShardView; 2] = [FREE; 2];

/// One instance; the store is the test's, and answers when it is told to.
struct Instance {
    route: Route,
    now: Now,
    asks: Vec<(Ticket, Ask)>,
}

impl Instance {
    fn new(instances: Instances) -> Self {
        let mut route = Route::new(&Settings::default(), instances);
        let now = Now { mono_ns: 1_000_000_000, wall_ms: 0 };
        route.handle(now, Input::Up, &mut Vec::new());
        Self { route, now, asks: Vec::new() }
    }

    fn several() -> Self {
        Self::new(Instances::Several)
    }

    /// What connections are told, in order: `shard 0: 5` what goes to a shard, `conn 1: 5, 6` to one connection.
    fn handle(&mut self, input: Input<'_>) -> Vec<String> {
        let mut out = Vec::new();
        self.route.handle(self.now, input, &mut out);
        self.route.check_invariants();
        let mut told = Vec::new();
        for output in out {
            match output {
                Output::Ask { ticket, ask } => self.asks.push((ticket, ask)),
                Output::Admitted { conn, .. } => told.push(format!("conn {}: in", conn.slot())),
                Output::JoinDecided { conn, .. } => told.push(format!("conn {}: joined", conn.slot())),
                Output::Latest { conn, values } => {
                    let values: Vec<String> = values.iter().map(|value| text(value)).collect();
                    told.push(format!("conn {}: {}", conn.slot(), values.join(", ")));
                }
                Output::Deliver { shard, event } => told.push(format!("shard {}: {}", shard.0, text(&event))),
                _ => {}
            }
        }
        told
    }

    fn admit(&mut self, slot: u32) -> Vec<String> {
        let conn = ConnId::new(ShardId(0), 0, slot);
        self.handle(Input::Admit { conn, user: "ann".into(), user_connections: 1 })
    }

    fn leave(&mut self) {
        let address = Address::User("ann".into());
        assert_eq!(self.handle(Input::Members { shard: ShardId(0), address, count: 0 }), [""; 0]);
    }

    fn subscribed(&mut self) -> Vec<String> {
        self.handle(Input::Subscribed { address: Address::User("ann".into()) })
    }

    fn publish(&mut self, event: Event) -> Vec<String> {
        self.handle(Input::Publish { token: 1, event, idempotency_key: None, shards: &SHARDS })
    }

    fn hear(&mut self, event: Event) -> Vec<String> {
        self.handle(Input::Heard { event: Arc::new(event), shards: &SHARDS })
    }

    /// The store answers all that it is asked.
    fn answer(&mut self, store: &mut History) -> Vec<String> {
        let now = self.now;
        self.answer_with(|ask| store.answer(now, ask))
    }

    fn answer_with(&mut self, mut say: impl FnMut(Ask) -> Answer) -> Vec<String> {
        let mut told = Vec::new();
        while !self.asks.is_empty() {
            let (ticket, ask) = self.asks.remove(0);
            let answer = say(ask);
            told.extend(self.handle(Input::Answered { ticket, answer, shards: &SHARDS }));
        }
        told
    }

    fn pass(&mut self, time: Duration) -> Vec<String> {
        self.now = self.now.after(time);
        let mut told = self.handle(Input::Clock { shards: &SHARDS });
        told.extend(self.handle(Input::Tick { shards: &SHARDS }));
        told
    }
}

fn text(event: &Event) -> String {
    String::from_utf8(event.payload.to_vec()).unwrap()
}

fn store() -> History {
    History::new(Bounds::from(&Settings::default().streams), 7)
}

fn value(target: Target, key: u64, version: Option<u64>, payload: &str) -> Event {
    Event { payload: payload.to_owned().into(), version, ..event(target, Class::Latest(LatestKey(key))) }
}

fn ann(version: Option<u64>, payload: &str) -> Event {
    value(Target::User("ann".into()), 1, version, payload)
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn who_is_admitted_gets_the_last_value_of_each_key_behind_the_admission() {
    let (mut here, mut store) = (Instance::new(Instances::One), store());
    here.admit(1);
    assert_eq!(here.answer(&mut store), ["conn 1: in"]);
    for (key, payload) in [(1, "5"), (2, "9"), (1, "4")] {
        here.publish(value(Target::User("ann".into()), key, None, payload));
    }
    here.publish(value(Target::User("bob".into()), 1, None, "7"));
    here.admit(2);
    assert_eq!(here.answer(&mut store), ["conn 2: in", "conn 2: 9, 4"]);
    assert_eq!(here.route.counts().latest_shown, 2);
}

#[test]
fn who_joins_gets_the_last_values_of_the_room() {
    let mut here = Instance::new(Instances::One);
    let (conn, room): (_, Arc<str>) = (ConnId::new(ShardId(1), 0, 3), "event:1".into());
    assert_eq!(here.handle(Input::Entered { conn, room: room.clone() }), [""; 0]);
    here.publish(value(Target::Room(room.clone()), 1, None, "12 left"));
    assert_eq!(here.handle(Input::Entered { conn, room: room.clone() }), ["conn 3: 12 left"]);
    let governed = Input::Join { conn, attempt: 1, room, members: 1, newcomer: true };
    assert_eq!(here.handle(governed), ["conn 3: joined", "conn 3: 12 left"]);
}

#[test]
fn a_value_that_was_refused_or_stale_is_never_shown() {
    let (mut here, mut store) = (Instance::new(Instances::One), store());
    here.publish(ann(Some(5), "5"));
    here.publish(ann(Some(4), "4"));
    here.admit(1);
    here.answer(&mut store);
    let full = [ShardView { free: 0, ..FREE }; 2];
    let event = ann(Some(6), "6");
    here.handle(Input::Publish { token: 1, event, idempotency_key: None, shards: &full });
    here.admit(2);
    assert_eq!(here.answer(&mut store), ["conn 2: in", "conn 2: 5"]);
}

#[test]
fn an_instance_that_never_heard_of_a_value_reads_it() {
    let (mut here, mut there, mut store) = (Instance::several(), Instance::several(), store());
    here.publish(ann(Some(5), "5"));
    here.pass(SECOND);
    here.answer(&mut store);
    assert_eq!(there.admit(1), [""; 0]);
    there.subscribed();
    assert_eq!(there.answer(&mut store), ["shard 0: 5", "conn 1: in", "conn 1: 5"]);
    assert_eq!(there.admit(2), ["conn 2: in", "conn 2: 5"], "it is kept here now");
}

#[test]
fn the_store_is_told_once_a_second_and_only_by_who_sent_the_value() {
    let (mut here, mut there) = (Instance::several(), Instance::several());
    for payload in ["5", "4", "3"] {
        here.publish(ann(None, payload));
        there.hear(ann(None, payload));
    }
    assert_eq!((here.asks.len(), there.asks.len()), (0, 0), "no delivery asks the store");
    here.pass(SECOND);
    there.pass(SECOND);
    let [(_, Ask::Remember { values, .. })] = &here.asks[..] else { panic!("{:?}", here.asks) };
    assert_eq!(
        (values.iter().map(|value| text(value)).collect::<String>(), there.asks.len()),
        ("3".into(), 0)
    );
    here.answer_with(|_| Answer::Failed(Failure::Unavailable));
    here.pass(SECOND);
    assert_eq!(here.asks.len(), 1, "what it did not take is told again");
    here.answer_with(|_| Answer::Remembered);
    here.pass(SECOND);
    assert_eq!(here.asks.len(), 0);
}

#[test]
fn what_is_read_never_replaces_what_is_newer() {
    let stored = |payload: &str, version| Answer::Recalled(vec![Arc::new(ann(version, payload))]);
    // What was kept here before, what is heard after everything is heard, what the store has, what is shown.
    let table = [
        ((None, ""), (None, ""), (None, "s"), "s"),
        ((None, "a"), (None, ""), (None, "s"), "s"),
        ((None, "a"), (None, "b"), (None, "s"), "b"),
        ((Some(5), "a"), (None, ""), (Some(4), "s"), "a"),
        ((Some(5), "a"), (None, ""), (Some(6), "s"), "s"),
        ((Some(5), "a"), (Some(7), "b"), (Some(6), "s"), "b"),
        ((Some(5), "a"), (Some(6), "b"), (Some(7), "s"), "s"),
        ((None, ""), (Some(6), "b"), (Some(5), "s"), "b"),
        ((None, ""), (None, "b"), (Some(5), "s"), "b"),
    ];
    for (before, heard, (version, payload), shown) in table {
        let mut here = Instance::several();
        for (version, payload) in [before] {
            if !payload.is_empty() {
                here.hear(ann(version, payload));
            }
        }
        here.admit(1);
        here.subscribed();
        if !heard.1.is_empty() {
            here.hear(ann(heard.0, heard.1));
        }
        let told = here.answer_with(|ask| match ask {
            Ask::Recall { .. } => stored(payload, version),
            _ => Answer::Failed(Failure::Refused),
        });
        let shown = [format!("shard 0: {shown}"), "conn 1: in".to_owned(), format!("conn 1: {shown}")];
        assert_eq!(told, shown, "{before:?} {heard:?} {version:?}");
    }
}

#[test]
fn a_delayed_older_version_of_another_instance_is_not_kept() {
    let (mut here, mut store) = (Instance::several(), store());
    here.admit(1);
    here.subscribed();
    here.answer(&mut store);
    assert_eq!(here.hear(ann(Some(6), "6")), ["shard 0: 6"]);
    assert_eq!(here.hear(ann(Some(5), "5")), [""; 0]);
    assert_eq!(here.admit(2), ["conn 2: in", "conn 2: 6"]);
}

#[test]
fn nobody_is_shown_an_old_value_while_a_newer_one_is_read() {
    let (mut here, mut there, mut store) = (Instance::several(), Instance::several(), store());
    here.admit(1);
    here.subscribed();
    here.answer(&mut store);
    here.publish(ann(None, "old"));
    here.pass(SECOND);
    here.answer(&mut store);
    here.leave();
    there.publish(ann(None, "new"));
    there.pass(SECOND);
    there.answer(&mut store);
    // Its entry does not wait for ever for what is not heard yet.
    here.admit(2);
    assert_eq!(here.pass(HEAD_TIME_MAX), ["conn 2: in"]);
    here.subscribed();
    assert_eq!(here.answer(&mut store), ["shard 0: new"]);
}

#[test]
fn without_a_store_what_is_kept_here_is_shown() {
    let mut here = Instance::several();
    here.publish(ann(None, "5"));
    here.admit(1);
    here.subscribed();
    let told = here.answer_with(|_| Answer::Failed(Failure::Refused));
    assert_eq!(told, ["shard 0: 5", "conn 1: in", "conn 1: 5"]);
    here.leave();
    here.admit(2);
    assert_eq!(here.handle(Input::Down), ["conn 2: in"]);
    assert_eq!(here.pass(Duration::from_millis(100)), ["shard 0: 5"]);
    assert_eq!(here.admit(3), ["conn 3: in", "conn 3: 5"]);
    here.publish(ann(None, "4"));
    assert_eq!(here.admit(4), ["conn 4: in", "conn 4: 4"], "and goes on");
}

#[test]
fn who_waits_for_a_store_that_does_not_answer_waits_until_it_is_asked_again() {
    let (mut here, mut store) = (Instance::several(), store());
    here.admit(1);
    here.subscribed();
    assert_eq!(here.answer_with(|_| Answer::Failed(Failure::Unavailable)), Vec::<String>::new());
    assert_eq!(here.pass(SECOND), Vec::<String>::new());
    assert_eq!(here.answer(&mut store), ["conn 1: in"]);
}

#[test]
fn what_was_not_stored_yet_at_the_first_time_is_read_once_more() {
    let (mut here, mut there, mut store) = (Instance::several(), Instance::several(), store());
    there.publish(ann(None, "5"));
    here.admit(1);
    here.subscribed();
    assert_eq!(here.answer(&mut store), ["conn 1: in"]);
    there.pass(SECOND);
    there.answer(&mut store);
    here.pass(Duration::from_secs(3));
    assert_eq!(here.answer(&mut store), ["shard 0: 5"]);
    here.pass(Duration::from_secs(30));
    assert_eq!(here.asks.len(), 0, "twice is enough");
}

#[test]
fn more_addresses_than_may_be_asked_about_wait_for_their_turn() {
    let (mut here, mut store) = (Instance::several(), store());
    for n in 0..LATEST_ASKS_MAX + 10 {
        let address = Address::Room(n.to_string().into());
        here.handle(Input::Members { shard: ShardId(0), address: address.clone(), count: 1 });
        here.handle(Input::Subscribed { address });
    }
    let recalls =
        |here: &Instance| here.asks.iter().filter(|(_, ask)| matches!(ask, Ask::Recall { .. })).count();
    assert_eq!(recalls(&here), LATEST_ASKS_MAX);
    here.answer(&mut store);
    for n in 0..LATEST_ASKS_MAX + 10 {
        here.publish(value(Target::Room(format!("r{n}").into()), 1, None, "1"));
    }
    here.pass(SECOND);
    assert_eq!(here.asks.len(), LATEST_ASKS_MAX);
    here.answer(&mut store);
    here.pass(SECOND);
    assert_eq!(here.asks.len(), 10);
}
