//! Streams in memory.

use bytes::Bytes;

use super::*;
use crate::{
    event::{Class, Form, Target},
    stream::store::Memory,
};

const START: Now = Now { mono_ns: 0, wall_ms: 0 };

fn seconds(n: u64) -> Now {
    START.after(Duration::from_secs(n))
}

fn event(payload: &str) -> Event {
    Event {
        target: Target::User("u".into()),
        kind: "booking:confirmed".into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        form: Form::Payload,
        class: Class::Critical,
        version: None,
        position: None,
        except: None,
        accepted_at_ns: 0,
    }
}

fn bounds() -> Bounds {
    Bounds {
        count_max: 3,
        age_max: Duration::from_secs(600),
        ledger_age_max: Duration::from_secs(3_600),
        bytes_max: 1 << 20,
        streams_max: 2,
    }
}

fn ask_append(stream: &str, payload: &str) -> Append {
    Append { stream: stream.into(), event: event(payload), memory: None, known: None, proviso: None }
}

fn append(history: &mut History, now: Now, stream: &str, payload: &str) -> Position {
    match history.answer(now, Ask::Append(ask_append(stream, payload))) {
        Answer::Appended(event) => event.position.clone().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn page(history: &mut History, stream: &str, epoch: &Arc<str>, offset: u64) -> Page {
    let (stream, epoch) = (stream.into(), epoch.clone());
    match history.answer(START, Ask::Read { stream, epoch, after: offset, count_max: 2 }) {
        Answer::Page(page) => page,
        other => panic!("{other:?}"),
    }
}

fn after(history: &mut History, stream: &str, epoch: &Arc<str>, offset: u64) -> Option<Vec<String>> {
    let text = |event: &Arc<Event>| String::from_utf8(event.payload.to_vec()).unwrap();
    page(history, stream, epoch, offset).events.map(|events| events.iter().map(text).collect())
}

fn acknowledge(history: &mut History, stream: &str, epoch: &Arc<str>, offset: u64) -> u64 {
    let (stream, epoch) = (stream.into(), epoch.clone());
    match history.answer(START, Ask::Acknowledge { stream, epoch, offset }) {
        Answer::Acknowledged(offset) => offset,
        other => panic!("{other:?}"),
    }
}

fn check(history: &History) {
    let records = history.ledger.iter().chain(&history.young);
    let live = records.filter(|record| history.is_kept(&record.position)).count();
    assert_eq!(live, history.entry_count);
}

#[test]
fn offsets_start_at_one_and_grow_by_one_in_each_stream() {
    let mut history = History::new(bounds(), 7);
    assert_eq!(history.head("user:a").offset, 0);
    let offsets: Vec<u64> =
        ["user:a", "user:b", "user:a"].map(|s| append(&mut history, START, s, "1").offset).to_vec();
    assert_eq!(offsets, [1, 1, 2]);
    assert_eq!(history.head("user:a").offset, 2);
    check(&history);
}

#[test]
fn another_start_is_another_epoch() {
    assert_ne!(History::new(bounds(), 1).head("s").epoch, History::new(bounds(), 2).head("s").epoch);
}

#[test]
fn a_position_is_joined_only_without_a_gap() {
    let mut history = History::new(bounds(), 7);
    for payload in ["1", "2", "3", "4", "5"] {
        append(&mut history, START, "s", payload);
    }
    let epoch = history.head("s").epoch;
    let table: [(u64, Option<&[&str]>); 6] =
        [(0, None), (1, None), (2, Some(&["3", "4"])), (4, Some(&["5"])), (5, Some(&[])), (6, None)];
    for (offset, expected) in table {
        let expected = expected.map(|list| list.iter().map(ToString::to_string).collect());
        assert_eq!(after(&mut history, "s", &epoch, offset), expected, "after {offset}");
    }
    assert_eq!(after(&mut history, "s", &"other".into(), 4), None);
    assert_eq!(after(&mut history, "t", &epoch, 0), Some(vec![]), "nothing was there to be missed");
    assert_eq!(after(&mut history, "t", &epoch, 1), None);
    check(&history);
}

#[test]
fn a_head_outlives_its_entries() {
    let mut history = History::new(bounds(), 7);
    let first = append(&mut history, START, "s", "1");
    history.expire(seconds(600));
    assert_eq!((history.entry_count(), history.bytes()), (0, 0));
    let second = append(&mut history, seconds(3_600), "s", "2");
    assert_eq!((second.offset, second.epoch), (2, first.epoch));
    check(&history);
}

#[test]
fn a_stream_that_begins_anew_has_another_epoch() {
    let mut history = History::new(bounds(), 7);
    let first = append(&mut history, START, "s", "1");
    history.expire(seconds(24 * 3_600));
    assert_eq!(history.stream_count(), 0);
    let again = append(&mut history, seconds(24 * 3_600), "s", "2");
    assert_eq!(again.offset, 1);
    assert_ne!(again.epoch, first.epoch);
}

#[test]
fn the_oldest_entries_of_all_streams_make_room_for_bytes() {
    let cost = bytes_of(&event("1"));
    let mut history = History::new(Bounds { bytes_max: 2 * cost, ..bounds() }, 7);
    for stream in ["a", "b", "a"] {
        append(&mut history, START, stream, "1");
    }
    let epoch = history.head("a").epoch;
    assert_eq!((history.entry_count(), history.bytes()), (2, 2 * cost));
    assert_eq!(
        (after(&mut history, "a", &epoch, 0), after(&mut history, "a", &epoch, 1).unwrap().len()),
        (None, 1)
    );
    check(&history);
}

#[test]
fn too_many_streams_give_up_the_idlest_with_its_entries() {
    let mut history = History::new(bounds(), 7);
    for (second, stream) in ["a", "b", "a", "c"].into_iter().enumerate() {
        append(&mut history, seconds(second as u64), stream, "1");
    }
    assert_eq!((history.stream_count(), history.head("a").offset, history.head("b").offset), (2, 2, 0));
    assert_eq!(history.entry_count(), 3);
    check(&history);
}

#[test]
fn records_of_trimmed_entries_do_not_pile_up() {
    let mut history = History::new(bounds(), 7);
    for _ in 0..5_000 {
        append(&mut history, START, "s", "1");
    }
    assert_eq!(history.entry_count(), 3);
    assert!(history.young.len() <= 2 * 3 + RECORDS_SLACK);
    check(&history);
}

#[test]
fn a_bound_of_zero_stores_nothing_and_still_counts() {
    let mut history = History::new(Bounds { count_max: 0, ..bounds() }, 7);
    append(&mut history, START, "s", "1");
    assert_eq!((append(&mut history, START, "s", "2").offset, history.entry_count()), (2, 0));
}

#[test]
fn what_a_user_did_not_acknowledge_is_kept_longer() {
    let mut history = History::new(bounds(), 7);
    let epoch = append(&mut history, START, "user:a", "1").epoch;
    append(&mut history, START, "user:a", "2");
    append(&mut history, START, "room:r", "1");
    assert_eq!(acknowledge(&mut history, "user:a", &epoch, 1), 1);
    history.expire(seconds(600));
    assert_eq!(after(&mut history, "user:a", &epoch, 1), Some(vec!["2".into()]));
    assert_eq!((after(&mut history, "user:a", &epoch, 0), history.entry_count()), (None, 1));
    check(&history);
    assert_eq!(acknowledge(&mut history, "user:a", &epoch, 2), 2);
    assert_eq!(history.entry_count(), 0, "it was there to be acknowledged");
    append(&mut history, seconds(700), "user:a", "3");
    history.expire(seconds(700 + 3_599));
    assert_eq!(history.entry_count(), 1);
    history.expire(seconds(700 + 3_600));
    assert_eq!(history.entry_count(), 0);
    check(&history);
}

#[test]
fn an_acknowledgement_never_falls_and_is_of_its_epoch() {
    let mut history = History::new(bounds(), 7);
    let epoch = append(&mut history, START, "user:a", "1").epoch;
    append(&mut history, START, "user:a", "2");
    let told = [(2, 2), (1, 2), (9, 2)];
    for (offset, expected) in told {
        assert_eq!(acknowledge(&mut history, "user:a", &epoch, offset), expected);
    }
    append(&mut history, START, "user:b", "1");
    assert_eq!(acknowledge(&mut history, "user:b", &"other".into(), 1), 0);
    assert_eq!(acknowledge(&mut history, "user:c", &epoch, 1), 0);
    assert_eq!(history.stream_count(), 2, "asking begins no stream");
    assert_eq!(page(&mut history, "user:a", &epoch, 2).head, Head { epoch, offset: 2, acknowledged: 2 });
}

#[test]
fn unacknowledged_entries_make_room_for_bytes_first() {
    let cost = bytes_of(&event("1"));
    let mut history = History::new(Bounds { bytes_max: 2 * cost, ..bounds() }, 7);
    append(&mut history, START, "user:a", "1");
    append(&mut history, seconds(600), "user:b", "1");
    append(&mut history, seconds(600), "user:b", "2");
    let epoch = history.head("user:a").epoch;
    assert_eq!(after(&mut history, "user:a", &epoch, 0), None);
    assert_eq!((history.entry_count(), history.bytes()), (2, 2 * cost));
    check(&history);
}

#[test]
fn a_key_leads_to_the_first_append() {
    let mut history = History::new(bounds(), 7);
    let mut with_key = |now, stream: &str, body| {
        let memory = Some(Memory::Key { key: "k".into(), body });
        history.answer(now, Ask::Append(Append { memory, ..ask_append(stream, "1") }))
    };
    let Answer::Appended(first) = with_key(START, "s", 1) else { panic!("not stored") };
    assert_eq!(with_key(seconds(299), "s", 1), Answer::Repeated(first.position.clone().unwrap()));
    assert_eq!(with_key(seconds(299), "s", 2), Answer::KeyReused);
    assert!(matches!(with_key(seconds(299), "t", 1), Answer::Appended(_)), "another scope");
    assert!(matches!(with_key(seconds(300), "s", 1), Answer::Appended(_)), "too late");
    assert_eq!(history.head("s").offset, 2);
}

#[test]
fn a_stream_behind_what_an_instance_saw_goes_on_under_another_name() {
    let mut history = History::new(bounds(), 7);
    let first = append(&mut history, START, "s", "1");
    append(&mut history, START, "other", "1");
    let mark = |epoch: &Arc<str>, offset| Some(Mark { epoch: epoch.clone(), offset });
    let mut head = |known| match history.answer(START, Ask::Head { stream: "s".into(), known }) {
        Answer::Head(head) => head,
        other => panic!("{other:?}"),
    };
    for known in [None, mark(&first.epoch, 1), mark(&"other".into(), 9)] {
        assert_eq!(head(known).epoch, first.epoch);
    }
    let renewed = head(mark(&first.epoch, 2));
    assert_ne!(renewed.epoch, first.epoch);
    assert_eq!((renewed.offset, history.entry_count()), (1, 2), "what is there stays");
    assert_eq!(after(&mut history, "s", &first.epoch, 1), None);
    assert_eq!(after(&mut history, "s", &renewed.epoch, 0), Some(vec!["1".into()]));
    assert_eq!(history.head("other").epoch, first.epoch);
    check(&history);
    let known = mark(&renewed.epoch, 4);
    let appended = history.answer(START, Ask::Append(Append { known, ..ask_append("s", "2") }));
    let Answer::Appended(event) = appended else { panic!("{appended:?}") };
    let position = event.position.clone().unwrap();
    assert_eq!(position.offset, 2);
    assert!(position.epoch != renewed.epoch && position.epoch != first.epoch);
    check(&history);
    history.expire(seconds(600));
    assert_eq!((history.entry_count(), history.bytes()), (0, 0), "under whatever name");
}
