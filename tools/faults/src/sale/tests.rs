//! Whether the judge finds what is wrong: diaries in which nothing is, and one thing more.

use usher::generated::realtime::QueueResponse;

use super::{
    course::{self, Fate, Stay, Terms},
    diary::{Deed, Diary, Seen},
    judge,
};
use crate::verdict::Verdict;

const TERMS: Terms = Terms {
    claim_ms: 10_000,
    grace_ms: 5_000,
    opened_at_ms: 100_000,
    paused_at_ms: 200_000,
    end_ms: 220_000,
    per_minute: 60,
    crowd: 0,
    drawn: 10,
    outage_ms: (150_000, 152_000),
};

fn diary(seen: Vec<(u64, Seen)>) -> Diary {
    Diary { seen, settled: true, ..Diary::default() }
}

fn position(position: u32, serving: u32) -> Seen {
    Seen::Position { position, ahead: position.saturating_sub(1), serving }
}

fn admitted(place: u32, at_ms: u64) -> (u64, Seen) {
    (at_ms, Seen::Admitted { place, pass: format!("pass-{place}-{at_ms}"), until_ms: at_ms + TERMS.claim_ms })
}

/// In the pre-queue, and told its place when it opens.
fn early(place: u32) -> Vec<(u64, Seen)> {
    vec![(90_000, Seen::Asks), (90_001, Seen::Joined(None)), (101_000, Seen::Joined(Some(place)))]
}

fn and(mut seen: Vec<(u64, Seen)>, more: impl IntoIterator<Item = (u64, Seen)>) -> Diary {
    seen.extend(more);
    diary(seen)
}

fn read(diaries: &[Diary]) -> (Vec<Stay>, Verdict) {
    let mut verdict = Verdict::default();
    let people = diaries.iter().enumerate();
    let stays =
        people.flat_map(|(person, diary)| course::read(person, diary, &TERMS, &mut verdict)).collect();
    (stays, verdict)
}

fn fates(diary: Diary) -> (Vec<Fate>, Vec<&'static str>) {
    let (stays, verdict) = read(&[diary]);
    (stays.iter().map(|stay| stay.fate).collect(), verdict.kinds())
}

fn wrong_order(diaries: &[Diary]) -> Vec<&'static str> {
    let (stays, mut verdict) = read(diaries);
    judge::check_order(&stays, &TERMS, &mut verdict);
    verdict.kinds()
}

#[test]
fn a_place_that_is_kept_is_one_stay_whatever_the_connection_does() {
    let seen = [
        (102_000, position(3, 0)),
        (103_000, Seen::Away),
        (120_000, Seen::Asks),
        (120_001, Seen::Joined(Some(3))),
        (120_002, position(1, 2)),
        admitted(3, 121_000),
        (121_500, Seen::Booking(Deed::Claimed)),
        (122_000, Seen::Booking(Deed::Completed)),
    ];
    assert_eq!(fates(and(early(3), seen)), (vec![Fate::Completed], vec![]));
}

#[test]
fn a_place_that_changes_or_gets_worse_is_found() {
    let other = [(103_000, Seen::Away), (104_000, Seen::Joined(Some(11)))];
    assert_eq!(fates(and(early(3), other)).1, ["a place was lost"]);
    let worse = [(102_000, position(2, 0)), (103_000, position(3, 0))];
    assert_eq!(fates(and(early(3), worse)).1, ["a position got worse"]);
    let back = [(102_000, position(1, 2)), (103_000, position(1, 1))];
    assert_eq!(fates(and(early(3), back)).1, ["the serving number fell"]);
    let beyond = [(102_000, position(3, 1))];
    assert_eq!(fates(and(early(3), beyond)).1, ["a position contradicts itself"]);
    assert_eq!(fates(and(early(3), [(102_000, Seen::Left)])).1, ["thrown out"]);
    let twice = [admitted(3, 110_000), admitted(3, 111_000)];
    assert_eq!(fates(and(early(3), twice)).1, ["admitted twice"]);
}

#[test]
fn a_new_place_needs_an_end_of_the_old_one_that_the_holder_could_miss() {
    // Away for longer than a pass is good.
    let missed = [(103_000, Seen::Away), (114_000, Seen::Joined(Some(11)))];
    assert_eq!(fates(and(early(3), missed)), (vec![Fate::ExpiredUnseen, Fate::Waiting], vec![]));
    let expired = [admitted(3, 110_000), (120_000, Seen::Left), (121_000, Seen::Joined(Some(11)))];
    assert_eq!(fates(and(early(3), expired)), (vec![Fate::Expired, Fate::Waiting], vec![]));
    let left = [(102_000, Seen::Leaves), (102_001, Seen::Left), (103_000, Seen::Joined(Some(11)))];
    assert_eq!(fates(and(early(3), left)), (vec![Fate::Left, Fate::Waiting], vec![]));
    let gave_up = diary(vec![
        (90_000, Seen::Asks),
        (90_001, Seen::Joined(None)),
        (91_000, Seen::Leaves),
        (91_001, Seen::Left),
    ]);
    assert_eq!(fates(gave_up), (vec![Fate::LeftEarly], vec![]));
}

#[test]
fn who_is_there_is_not_passed_over() {
    let first = |at_ms| and(early(1), [admitted(1, at_ms)]);
    let second = |at_ms| and(early(2), [admitted(2, at_ms)]);
    assert_eq!(wrong_order(&[first(110_000), second(111_000)]), [""; 0]);
    assert_eq!(wrong_order(&[first(111_000), second(110_000)]), ["passed over"]);
    // A short absence is none; a long one leads beside the line.
    let away = |for_ms: u64| {
        let back = 105_000 + for_ms;
        let seen = [(105_000, Seen::Away), (back, Seen::Joined(Some(1))), admitted(1, back + 1_000)];
        and(early(1), seen)
    };
    assert_eq!(wrong_order(&[away(3_000), second(106_000)]), ["passed over"]);
    assert_eq!(wrong_order(&[away(8_000), second(106_000)]), [""; 0]);
}

#[test]
fn a_pass_that_came_by_chance_long_after_an_outage_is_found() {
    let wrong = |seen: Vec<(u64, Seen)>| {
        let (stays, mut verdict) = read(&[and(early(1), seen)]);
        judge::check_told(&stays, &TERMS, &mut verdict);
        verdict.kinds()
    };
    let told = |at_ms| {
        let until_ms = 150_500 + TERMS.claim_ms;
        (at_ms, Seen::Admitted { place: 1, pass: "pass".into(), until_ms })
    };
    assert_eq!(wrong(vec![told(155_000)]), [""; 0]);
    assert_eq!(wrong(vec![told(157_000)]), ["a pass came late"]);
    // Who was away could not be told.
    let away = vec![(154_000, Seen::Away), (156_999, Seen::Joined(Some(1))), told(157_000)];
    assert_eq!(wrong(away), [""; 0]);
}

#[test]
fn more_people_than_the_inlet_lets_in_are_found() {
    let inside = |place: u32| {
        let joined = vec![(101_000, Seen::Asks), (101_001, Seen::Joined(Some(place)))];
        and(joined, [admitted(place, 110_000), (111_000, Seen::Booking(Deed::Claimed))])
    };
    let crowd = |count| (1..=count).map(inside).collect::<Vec<_>>();
    assert_eq!(wrong_order(&crowd(102)), [""; 0]);
    assert_eq!(wrong_order(&crowd(103)), ["more than the inlet lets in"]);
    // Nor a crowd of one with it.
    let (stays, mut verdict) = read(&crowd(103));
    judge::check_order(&stays, &Terms { crowd: 1, ..TERMS }, &mut verdict);
    assert_eq!(verdict.kinds(), [""; 0]);
}

#[test]
fn the_books_are_exact() {
    let people = || {
        let used = and(early(1), [admitted(1, 110_000), (111_000, Seen::Booking(Deed::Claimed))]);
        let unused = and(early(2), [admitted(2, 111_000), (121_000, Seen::Left)]);
        [used, unused, and(early(3), [])]
    };
    let books = QueueResponse {
        total: 3,
        waiting: 1,
        admitted: 2,
        inside: 1,
        expired: 1,
        ..QueueResponse::default()
    };
    let wrong = |books: &QueueResponse, unanswered| {
        let (stays, mut verdict) = read(&people());
        judge::check_books(&stays, books, unanswered, &mut verdict);
        judge::check_places(&stays, books, unanswered, &mut verdict);
        verdict.kinds()
    };
    assert_eq!(wrong(&books, 0), [""; 0]);
    assert_eq!(wrong(&QueueResponse { inside: 0, completed: 1, ..books.clone() }, 0), ["the books differ"]);
    assert_eq!(
        wrong(&QueueResponse { expired: 0, ..books.clone() }, 0),
        ["the books differ", "the books do not add up"]
    );
    let more = QueueResponse { total: 4, waiting: 2, ..books };
    assert_eq!(wrong(&more, 0), ["the books differ", "places that nobody has"]);
    assert_eq!(wrong(&more, 1), [""; 0]);
}

#[test]
fn a_place_of_two_and_a_late_arrival_in_front_are_found() {
    let (stays, mut verdict) = read(&[and(early(1), []), and(early(1), [])]);
    let books = QueueResponse { total: 1, ..QueueResponse::default() };
    judge::check_places(&stays, &books, 0, &mut verdict);
    assert_eq!(verdict.kinds(), ["a place of two"]);

    let late =
        |place, asked_ms| diary(vec![(asked_ms, Seen::Asks), (asked_ms + 5, Seen::Joined(Some(place)))]);
    let wrong = |diaries: &[Diary]| {
        let (stays, mut verdict) = read(diaries);
        judge::check_arrivals(&stays, &TERMS, &mut verdict);
        verdict.kinds()
    };
    assert_eq!(wrong(&[late(11, 110_000), late(12, 110_010)]), [""; 0]);
    assert_eq!(wrong(&[late(12, 110_000), late(11, 110_010)]), ["first come, not first served"]);
    assert_eq!(wrong(&[late(9, 110_000)]), ["a late arrival in the pre-queue"]);
}
