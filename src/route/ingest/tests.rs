use std::sync::Arc;

use super::*;
use crate::{
    event::{Class, Target},
    route::tests::event,
};

const MS: u64 = 1_000_000;
/// Redis's clock at monotonic time 0, ms.
const REDIS: u64 = 1_000_000;

fn at(ms: u64) -> Now {
    Now { mono_ns: ms * MS, wall_ms: 0 }
}

fn to(user: &str, payload: &str) -> Append {
    let event =
        Event { payload: payload.to_owned().into(), ..event(Target::User(user.into()), Class::Critical) };
    Append { stream: Arc::from(format!("user:{user}")), event, memory: None, known: None, proviso: None }
}

/// Held since a time, asked for at another; heard since the beginning.
fn held(since_ms: u64, asked_ms: u64) -> Lease {
    Lease {
        until_ns: (asked_ms + 2_500) * MS,
        held_since_ns: since_ms * MS,
        asked_ns: asked_ms * MS,
        redis_ms: REDIS + asked_ms,
        ..Lease::default()
    }
}

/// Another's, which has heard since a time.
fn of_another(since_ms: u64, asked_ms: u64) -> Lease {
    let other_since_ns = Some(since_ms * MS);
    Lease { until_ns: 0, other_since_ns, ..held(0, asked_ms) }
}

/// What is asked for now: number, payload, proviso.
fn asked(ingest: &mut Ingest, now: Now) -> Vec<(u64, String, Proviso)> {
    let mut all = Vec::new();
    ingest.ask_due(now, |number, append| {
        let payload = String::from_utf8_lossy(&append.event.payload).into_owned();
        all.push((number, payload, append.proviso.expect("all have one")));
        true
    });
    ingest.check_invariants();
    all
}

fn fewer(than: u32, since_ms: u64) -> Proviso {
    Proviso::Fewer { than, since_ms: REDIS + since_ms - FOREIGN_OVERLAP.as_millis() as u64 }
}

#[test]
fn the_holder_asks_at_once_and_its_question_is_void_when_the_lease_is_over() {
    let mut ingest = Ingest::default();
    ingest.learn(at(9_000), held(1_000, 9_000));
    let (number, append) = ingest.hear(at(9_500), to("a", "1")).expect("at once");
    assert_eq!((number, append.proviso), (0, Some(Proviso::Before(REDIS + 12_000))));
    ingest.answered(number, Some(Outcome::Appended));
    assert_eq!(ingest.hear(at(11_500), to("a", "2")), None, "its belief is over");
    assert_eq!(asked(&mut ingest, at(11_500)), []);
    assert_eq!(ingest.counts(), IngestCounts::default());
}

#[test]
fn who_takes_over_looks_for_all_that_was_heard_in_order() {
    let mut ingest = Ingest::default();
    ingest.learn(at(3_000), of_another(1, 3_000));
    for (ms, user) in [(3_100, "a"), (3_200, "b"), (3_300, "a")] {
        assert_eq!(ingest.hear(at(ms), to(user, &ms.to_string())), None);
    }
    assert_eq!(asked(&mut ingest, at(4_000)), [], "they are another's business");
    ingest.learn(at(6_000), held(6_000, 6_000));
    let expected = [(0, 3_100), (1, 3_200), (2, 3_300)];
    let expected = expected.map(|(number, ms)| (number, ms.to_string(), fewer(1, ms)));
    assert_eq!(asked(&mut ingest, at(6_000)), expected);
    ingest.answered(0, Some(Outcome::Found));
    ingest.answered(1, Some(Outcome::Appended));
    ingest.answered(2, Some(Outcome::Appended));
    assert_eq!(asked(&mut ingest, at(6_001)), []);
    assert_eq!((ingest.counts().found, ingest.counts().rescued), (1, 2));
}

#[test]
fn equal_ones_are_counted_from_the_first_that_is_kept() {
    let mut ingest = Ingest::default();
    for (ms, user, payload) in [(3_100, "a", "x"), (3_200, "a", "y"), (3_300, "b", "x"), (3_400, "a", "x")] {
        ingest.hear(at(ms), to(user, payload));
    }
    ingest.learn(at(6_000), held(6_000, 6_000));
    let provisos: Vec<_> = asked(&mut ingest, at(6_000)).into_iter().map(|(.., proviso)| proviso).collect();
    assert_eq!(provisos, [fewer(1, 3_100), fewer(1, 3_200), fewer(1, 3_300), fewer(2, 3_100)]);
}

#[test]
fn at_first_the_new_holder_looks_for_what_it_hears_too() {
    let mut ingest = Ingest::default();
    ingest.learn(at(6_000), held(6_000, 6_000));
    assert_eq!(ingest.hear(at(7_900), to("a", "1")), None);
    assert_eq!(asked(&mut ingest, at(7_950)), [(0, "1".into(), fewer(1, 7_900))]);
    ingest.learn(at(8_000), held(6_000, 8_000));
    assert!(ingest.hear(at(8_000), to("a", "2")).is_some(), "by now it is alone");
}

#[test]
fn what_the_holder_cannot_have_heard_is_stored_by_who_heard_it() {
    let mut ingest = Ingest::default();
    for ms in [3_000, 4_000, 9_000] {
        ingest.hear(at(ms), to("a", &ms.to_string()));
    }
    ingest.learn(at(9_500), of_another(5_000, 9_500));
    let expected = [3_000, 4_000].map(|ms: u64| (ms / 1_000 - 3, ms.to_string(), fewer(1, ms)));
    assert_eq!(asked(&mut ingest, at(9_500)), expected);
}

#[test]
fn what_is_not_known_to_be_stored_is_asked_for_again_and_what_comes_after_waits_for_it() {
    let mut ingest = Ingest::default();
    ingest.learn(at(9_000), held(1_000, 9_000));
    let (number, _) = ingest.hear(at(9_100), to("a", "1")).expect("at once");
    ingest.answered(number, None);
    assert_eq!(ingest.hear(at(9_200), to("a", "2")), None);
    assert_eq!(asked(&mut ingest, at(9_200)), [], "nothing is known but that it failed");
    ingest.learn(at(10_000), held(1_000, 10_000));
    let numbers: Vec<_> = asked(&mut ingest, at(10_000)).into_iter().map(|(number, ..)| number).collect();
    assert_eq!(numbers, [0, 1]);
}

#[test]
fn what_finds_no_room_is_asked_for_later() {
    let mut ingest = Ingest::default();
    ingest.learn(at(9_000), held(1_000, 9_000));
    let (number, _) = ingest.hear(at(9_100), to("a", "1")).expect("at once");
    ingest.postpone(number);
    assert_eq!(ingest.hear(at(9_200), to("a", "2")), None);
    ingest.ask_due(at(9_200), |_, _| false);
    ingest.check_invariants();
    let all = asked(&mut ingest, at(9_300));
    let proviso = Proviso::Before(REDIS + 12_000);
    assert_eq!(all, [(0, "1".into(), proviso), (1, "2".into(), proviso)]);
}

#[test]
fn after_its_time_an_event_goes_and_is_counted_if_nobody_held_the_lease() {
    let mut ingest = Ingest::default();
    ingest.hear(at(1_000), to("a", "1"));
    ingest.learn(at(2_000), of_another(0, 2_000));
    ingest.hear(at(3_000), to("a", "2"));
    ingest.expire(at(8_999));
    assert_eq!(ingest.kept(), (2, 2));
    ingest.expire(at(9_000));
    assert_eq!((ingest.kept(), ingest.counts().lapsed), ((1, 1), 0), "a holder heard it");
    ingest.expire(at(11_000));
    assert_eq!((ingest.kept(), ingest.counts().lapsed), ((0, 0), 1));
    ingest.check_invariants();
}

#[test]
fn an_outage_takes_nothing_of_its_time() {
    let mut ingest = Ingest::default();
    ingest.hear(at(1_000), to("a", "1"));
    ingest.learn(at(61_000), Lease { heard_since_ns: 60_500 * MS, ..held(61_000, 61_000) });
    ingest.expire(at(61_000));
    assert_eq!(asked(&mut ingest, at(61_000)), [(0, "1".into(), fewer(1, 1_000))]);
    ingest.answered(0, Some(Outcome::Appended));
    ingest.expire(at(68_500));
    assert_eq!((ingest.kept(), ingest.counts().lapsed), ((0, 0), 0));
}

#[test]
fn without_room_the_oldest_goes_and_is_counted_unless_it_is_stored() {
    let mut ingest = Ingest::default();
    ingest.learn(at(9_000), held(1_000, 9_000));
    let (number, _) = ingest.hear(at(9_100), to("a", "stored")).expect("at once");
    ingest.answered(number, Some(Outcome::Appended));
    ingest.learn(at(9_200), of_another(0, 9_200));
    for _ in 0..=FOREIGN_KEPT_MAX {
        ingest.hear(at(9_200), to("a", "1"));
    }
    assert_eq!((ingest.kept().0, ingest.counts().overflowed), (FOREIGN_KEPT_MAX, 1));
    ingest.answered(number, None);
    let large = "x".repeat(FOREIGN_BYTES_MAX);
    ingest.hear(at(9_200), to("a", &large));
    assert_eq!(ingest.kept(), (1, FOREIGN_BYTES_MAX));
    ingest.check_invariants();
}
