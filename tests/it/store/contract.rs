//! What every stream store does, wherever it keeps its streams. Each fact is a function over a [`Subject`]; `mod.rs`
//! makes a test of it for each store.

use std::{sync::Arc, time::Duration};

use usher::{
    event::{Class, Event, Form, LatestKey, Position, Target},
    limits::{LATEST_KEYS_PER_ADDRESS_MAX, STREAM_WRITERS_MAX},
    stream::store::{Answer, Append, Ask, Failure, Head, Mark, Memory, Page, Proviso},
};

/// A store under test, empty at first.
pub trait Subject {
    /// Entries of one stream that it keeps.
    const COUNT_MAX: usize = 3;
    /// Bytes of entries that it keeps.
    const BYTES_MAX: usize = 4_096;
    /// Age of an entry.
    const AGE_MAX: Duration = Duration::from_secs(600);
    /// Age of an entry that nobody acknowledged.
    const LEDGER_AGE_MAX: Duration = Duration::from_secs(12 * 3_600);

    fn ask(&mut self, ask: Ask) -> Answer;
    /// Lets time pass for all that is kept.
    fn pass(&mut self, time: Duration);
    /// Puts aside what it has.
    fn keep(&mut self);
    /// Starts it again with what it put aside last, with nothing where it put nothing aside.
    fn restart(&mut self);
}

pub const ALICE: &str = "user:alice";
pub const ROOM: &str = "room:event:1";
/// A time that no clock shows, ms.
const NEVER_MS: u64 = 1 << 50;
/// Longer than entries that nobody acknowledged are kept, shorter than a head.
const IDLE: Duration = Duration::from_secs(13 * 3_600);
/// Longer than a head outlives its last use.
const FORGOTTEN: Duration = Duration::from_secs(49 * 3_600);

pub fn event(stream: &str, payload: &str) -> Event {
    let target = match stream.split_once(':') {
        Some(("user", user)) => Target::User(user.into()),
        Some(("room", room)) => Target::Room(room.into()),
        _ => panic!("{stream} is no stream"),
    };
    Event {
        target,
        kind: "booking:confirmed".into(),
        payload: format!("\"{payload}\"").into(),
        form: Form::Payload,
        class: Class::Critical,
        version: None,
        position: None,
        except: None,
        accepted_at_ns: 0,
    }
}

pub fn mark(epoch: &str, offset: u64) -> Option<Mark> {
    Some(Mark { epoch: epoch.into(), offset })
}

pub fn append(stream: &str, payload: &str) -> Append {
    Append { stream: stream.into(), event: event(stream, payload), memory: None, known: None, proviso: None }
}

pub fn with_key(stream: &str, payload: &str, key: &str, body: u64) -> Append {
    Append { memory: Some(Memory::Key { key: key.into(), body }), ..append(stream, payload) }
}

pub fn numbered<S: Subject>(store: &mut S, writer: &str, number: u64) -> Answer {
    let memory = Some(Memory::Number { writer: writer.into(), number });
    store.ask(Ask::Append(Append { memory, ..append(ALICE, "a") }))
}

pub fn position(answer: Answer) -> Position {
    match answer {
        Answer::Appended(event) => event.position.clone().expect("what is stored has a position"),
        other => panic!("not appended: {other:?}"),
    }
}

pub fn stored<S: Subject>(store: &mut S, stream: &str, payload: &str) -> Position {
    position(store.ask(Ask::Append(append(stream, payload))))
}

pub fn head<S: Subject>(store: &mut S, stream: &str, known: Option<Mark>) -> Head {
    match store.ask(Ask::Head { stream: stream.into(), known }) {
        Answer::Head(head) => head,
        other => panic!("no head: {other:?}"),
    }
}

pub fn read<S: Subject>(store: &mut S, at: (&str, &str, u64), count_max: usize) -> Page {
    let (stream, epoch, after) = at;
    match store.ask(Ask::Read { stream: stream.into(), epoch: epoch.into(), after, count_max }) {
        Answer::Page(page) => page,
        other => panic!("no page: {other:?}"),
    }
}

/// Offsets of what follows an offset, if it joins it.
pub fn offsets<S: Subject>(store: &mut S, at: (&str, &str, u64)) -> Option<Vec<u64>> {
    let offset = |event: &Arc<Event>| event.position.as_ref().expect("it is stored").offset;
    read(store, at, 64).events.map(|events| events.iter().map(offset).collect())
}

pub fn acknowledge<S: Subject>(store: &mut S, at: (&str, &str, u64)) -> u64 {
    let (stream, epoch, offset) = at;
    match store.ask(Ask::Acknowledge { stream: stream.into(), epoch: epoch.into(), offset }) {
        Answer::Acknowledged(offset) => offset,
        other => panic!("not acknowledged: {other:?}"),
    }
}

// --- offsets and epochs ---

pub fn offsets_of_a_stream_start_at_one_and_grow_by_one<S: Subject>(store: &mut S) {
    let first = stored(store, ALICE, "a");
    assert_eq!((&*first.stream, first.offset), (ALICE, 1));
    for offset in 2..=5 {
        assert_eq!(stored(store, ALICE, "a"), Position { offset, ..first.clone() });
    }
    assert_eq!(stored(store, ROOM, "a").offset, 1, "each stream counts for itself");
}

pub fn a_stream_has_its_epoch_before_its_first_entry<S: Subject>(store: &mut S) {
    let before = head(store, ALICE, None);
    assert_eq!((before.offset, before.acknowledged), (0, 0));
    assert_eq!(head(store, ALICE, None), before);
    let first = stored(store, ALICE, "a");
    assert_eq!((first.epoch.clone(), first.offset), (before.epoch, 1));
    assert_eq!(head(store, ALICE, None), Head { epoch: first.epoch, offset: 1, acknowledged: 0 });
}

pub fn any_name_is_the_name_of_a_stream<S: Subject>(store: &mut S) {
    for stream in ["user:a}b{c", "user:{}", "user:a b\"c'", "room:é:☃", "user:a", "user:%7d\\"] {
        let first = stored(store, stream, "a");
        assert_eq!((&*first.stream, first.offset), (stream, 1));
        assert_eq!(offsets(store, (stream, &first.epoch, 0)), Some(vec![1]), "{stream}");
    }
}

// --- idempotency ---

pub fn a_repeated_key_gets_the_first_position<S: Subject>(store: &mut S) {
    let first = position(store.ask(Ask::Append(with_key(ALICE, "a", "k", 7))));
    stored(store, ALICE, "b");
    let again = store.ask(Ask::Append(with_key(ALICE, "a", "k", 7)));
    assert_eq!(again, Answer::Repeated(first.clone()));
    assert_eq!(head(store, ALICE, None).offset, 2, "a repeat stores nothing");
    let other = store.ask(Ask::Append(with_key(ALICE, "b", "k", 8)));
    assert_eq!(other, Answer::KeyReused);
    assert_eq!(position(store.ask(Ask::Append(with_key(ALICE, "a", "l", 7)))).offset, 3, "another key");
    let elsewhere = position(store.ask(Ask::Append(with_key(ROOM, "a", "k", 8))));
    assert_eq!((&*elsewhere.stream, elsewhere.offset), (ROOM, 1), "another stream");
}

fn unless(payload: &str, than: u32, since_ms: u64) -> Ask {
    Ask::Append(Append { proviso: Some(Proviso::Fewer { than, since_ms }), ..append(ALICE, payload) })
}

pub fn what_others_may_have_stored_is_looked_for<S: Subject>(store: &mut S) {
    let first = position(store.ask(unless("a", 1, 0)));
    assert_eq!(store.ask(unless("a", 1, 0)), Answer::Repeated(first));
    let second = position(store.ask(unless("a", 2, 0)));
    let third = position(store.ask(unless("b", 1, 0)));
    assert_eq!((second.offset, third.offset), (2, 3));
    assert_eq!(store.ask(unless("a", 2, 0)), Answer::Repeated(Position { offset: 1, ..third.clone() }));
    assert_eq!(store.ask(unless("a", 1, 0)), Answer::Repeated(Position { offset: 2, ..third }));
    assert_eq!(position(store.ask(unless("a", 1, NEVER_MS))).offset, 4, "those are older");
}

pub fn what_comes_too_late_is_not_stored<S: Subject>(store: &mut S) {
    let before = |ms| Ask::Append(Append { proviso: Some(Proviso::Before(ms)), ..append(ALICE, "a") });
    assert_eq!(store.ask(before(0)), Answer::Failed(Failure::Refused));
    assert_eq!(position(store.ask(before(NEVER_MS))).offset, 1);
}

pub fn what_follows_from_a_stream_is_stored_in_no_other<S: Subject>(store: &mut S) {
    let follows =
        |append: Append, known| Ask::Append(Append { known, proviso: Some(Proviso::Follows), ..append });
    let parted = Answer::Failed(Failure::Parted);
    assert_eq!(store.ask(follows(append(ALICE, "a"), mark("1.gone", 3))), parted, "there is nothing");
    let first = position(store.ask(follows(append(ALICE, "a"), None)));
    let at = |offset| mark(&first.epoch, offset);
    assert_eq!(store.ask(follows(append(ALICE, "a"), None)), parted, "there is something");
    assert_eq!(store.ask(follows(append(ALICE, "a"), mark("1.gone", 0))), parted);
    let second = position(store.ask(follows(with_key(ALICE, "b", "k", 7), at(0))));
    assert_eq!(second, Position { offset: 2, ..first.clone() }, "whatever came first");
    assert_eq!(store.ask(follows(with_key(ALICE, "b", "k", 7), at(0))), Answer::Repeated(second));
    store.pass(FORGOTTEN);
    let anew = stored(store, ALICE, "c");
    for known in [at(0), at(2)] {
        assert_eq!(store.ask(follows(with_key(ALICE, "b", "k", 7), known)), parted);
    }
    assert_eq!(offsets(store, (ALICE, &anew.epoch, 0)), Some(vec![1]));
}

pub fn an_entry_with_a_number_is_stored_once_however_late_it_is_repeated<S: Subject>(store: &mut S) {
    let first = position(numbered(store, "one", 1));
    assert_eq!(position(numbered(store, "another", 1)).offset, 2);
    store.pass(IDLE);
    assert_eq!(
        numbered(store, "one", 1),
        Answer::Repeated(first.clone()),
        "with its key it would be stored again"
    );
    assert_eq!(position(numbered(store, "one", 4)).offset, 3, "numbers grow");
    assert_eq!(numbered(store, "one", 4), Answer::Repeated(Position { offset: 3, ..first.clone() }));
    assert_eq!(numbered(store, "one", 1), Answer::Failed(Failure::Refused), "it was held up on its way");
    assert_eq!(numbered(store, "another", 1), Answer::Repeated(Position { offset: 2, ..first.clone() }));
    assert_eq!(head(store, ALICE, None), Head { epoch: first.epoch, offset: 3, acknowledged: 0 });
    store.pass(FORGOTTEN);
    assert_eq!(position(numbered(store, "one", 1)).offset, 1, "in another stream of that name");
}

pub fn an_entry_with_a_number_that_was_lost_is_stored_again<S: Subject>(store: &mut S) {
    numbered(store, "one", 1);
    store.keep();
    numbered(store, "one", 2);
    store.restart();
    assert_eq!(position(numbered(store, "one", 2)).offset, 2);
    assert!(matches!(numbered(store, "one", 2), Answer::Repeated(Position { offset: 2, .. })));
}

pub fn of_too_many_writers_the_one_is_forgotten_that_wrote_longest_ago<S: Subject>(store: &mut S) {
    for writer in 0..STREAM_WRITERS_MAX {
        numbered(store, &writer.to_string(), 1);
    }
    numbered(store, "0", 2);
    numbered(store, "one more", 1);
    let is_known = |answer| !matches!(answer, Answer::Appended(_));
    let known = ["0", "2", "one more", "1"].map(|writer| is_known(numbered(store, writer, 1)));
    assert_eq!(known, [true, true, true, false]);
}

pub fn a_key_is_forgotten_after_five_minutes<S: Subject>(store: &mut S) {
    let first = position(store.ask(Ask::Append(with_key(ALICE, "a", "k", u64::MAX))));
    store.pass(Duration::from_secs(299));
    let again = store.ask(Ask::Append(with_key(ALICE, "a", "k", u64::MAX)));
    assert_eq!(again, Answer::Repeated(first), "a repeat does not make it younger");
    store.pass(Duration::from_secs(1));
    assert_eq!(position(store.ask(Ask::Append(with_key(ALICE, "b", "k", 1)))).offset, 2);
}

// --- what is kept ---

pub fn the_oldest_entries_go_when_there_are_too_many<S: Subject>(store: &mut S) {
    let epoch = stored(store, ALICE, "a").epoch;
    for _ in 1..2 + S::COUNT_MAX {
        stored(store, ALICE, "a");
    }
    assert_eq!(offsets(store, (ALICE, &epoch, 2)), Some(vec![3, 4, 5]));
    assert_eq!(offsets(store, (ALICE, &epoch, 1)), None, "the second one is missing");
}

pub fn the_oldest_entries_go_when_they_are_too_large<S: Subject>(store: &mut S) {
    let large = "x".repeat(S::BYTES_MAX * 3 / 8);
    let epoch = stored(store, ALICE, &large).epoch;
    assert_eq!(stored(store, ALICE, &large).offset, 2);
    assert_eq!(offsets(store, (ALICE, &epoch, 0)), Some(vec![1, 2]));
    stored(store, ALICE, &large);
    assert_eq!(offsets(store, (ALICE, &epoch, 1)), Some(vec![2, 3]));
    assert_eq!(offsets(store, (ALICE, &epoch, 0)), None);
}

pub fn entries_of_a_room_go_at_their_age<S: Subject>(store: &mut S) {
    let epoch = stored(store, ROOM, "a").epoch;
    store.pass(S::AGE_MAX / 2);
    stored(store, ROOM, "b");
    store.pass(S::AGE_MAX / 2);
    stored(store, ROOM, "c");
    assert_eq!(offsets(store, (ROOM, &epoch, 1)), Some(vec![2, 3]));
    assert_eq!(offsets(store, (ROOM, &epoch, 0)), None);
}

pub fn what_a_user_did_not_acknowledge_is_kept_for_longer<S: Subject>(store: &mut S) {
    let epoch = stored(store, ALICE, "a").epoch;
    stored(store, ALICE, "b");
    store.pass(S::AGE_MAX);
    stored(store, ALICE, "c");
    assert_eq!(offsets(store, (ALICE, &epoch, 0)), Some(vec![1, 2, 3]));
    assert_eq!(acknowledge(store, (ALICE, &epoch, 1)), 1);
    assert_eq!(offsets(store, (ALICE, &epoch, 1)), Some(vec![2, 3]));
    assert_eq!(offsets(store, (ALICE, &epoch, 0)), None, "the ledger alone kept it");
    store.pass(S::LEDGER_AGE_MAX - S::AGE_MAX);
    stored(store, ALICE, "d");
    assert_eq!(offsets(store, (ALICE, &epoch, 2)), Some(vec![3, 4]));
    assert_eq!(offsets(store, (ALICE, &epoch, 1)), None, "but not for ever");
}

pub fn epoch_and_offset_outlive_the_entries<S: Subject>(store: &mut S) {
    let first = stored(store, ALICE, "a");
    store.pass(IDLE);
    let now = head(store, ALICE, None);
    assert_eq!(now, Head { epoch: first.epoch.clone(), offset: 1, acknowledged: 0 });
    assert_eq!(offsets(store, (ALICE, &first.epoch, 1)), Some(vec![]), "nothing was missed");
    assert_eq!(offsets(store, (ALICE, &first.epoch, 0)), None);
    assert_eq!(stored(store, ALICE, "b"), Position { offset: 2, ..first.clone() });
    assert_eq!(offsets(store, (ALICE, &first.epoch, 1)), Some(vec![2]));
}

pub fn a_stream_that_was_forgotten_has_another_epoch<S: Subject>(store: &mut S) {
    let first = stored(store, ALICE, "a");
    store.pass(FORGOTTEN);
    let anew = stored(store, ALICE, "b");
    assert_eq!(anew.offset, 1);
    assert_ne!(anew.epoch, first.epoch);
    assert_eq!(offsets(store, (ALICE, &first.epoch, 0)), None);
}

// --- reads ---

pub fn a_page_holds_what_was_stored_in_order<S: Subject>(store: &mut S) {
    let events: Vec<Event> = [Form::Payload, Form::Object, Form::Message]
        .into_iter()
        .zip(["a", "é\\\"", "c"])
        .map(|(form, payload)| Event { form, ..event(ALICE, payload) })
        .collect();
    let positions: Vec<Position> = events
        .iter()
        .map(|event| Append { event: event.clone(), ..append(ALICE, "") })
        .map(|append| position(store.ask(Ask::Append(append))))
        .collect();
    let expected: Vec<Arc<Event>> = events
        .into_iter()
        .zip(&positions)
        .map(|(event, position)| Arc::new(Event { position: Some(position.clone()), ..event }))
        .collect();
    let epoch = &positions[0].epoch;
    let head = Head { epoch: epoch.clone(), offset: 3, acknowledged: 0 };
    // Of Redis it is the time when it was stored.
    let mut timeless = |after, count_max| {
        let mut page = read(store, (ALICE, epoch, after), count_max);
        let events = page.events.iter_mut().flatten();
        events.for_each(|event| Arc::make_mut(event).accepted_at_ns = 0);
        page
    };
    let page = timeless(0, 64);
    assert_eq!(page, Page { head: head.clone(), events: Some(expected.clone()), rest: 0 });
    let page = timeless(1, 1);
    assert_eq!(page, Page { head, events: Some(expected[1..2].to_vec()), rest: 1 });
}

pub fn what_does_not_join_is_not_read<S: Subject>(store: &mut S) {
    let first = stored(store, ALICE, "a");
    let expected = [(0, Some(vec![1])), (1, Some(vec![])), (2, None), (u64::MAX, None)];
    for (after, expected) in expected {
        assert_eq!(offsets(store, (ALICE, &first.epoch, after)), expected, "after {after}");
    }
    for epoch in ["", "another", "1.", &format!("{}x", first.epoch)] {
        let page = read(store, (ALICE, epoch, 0), 64);
        let head = Head { epoch: first.epoch.clone(), offset: 1, acknowledged: 0 };
        assert_eq!(page, Page { head, events: None, rest: 0 }, "{epoch:?}");
    }
    let nothing = read(store, ("user:nobody", "another", 0), 64);
    assert_eq!((nothing.head.offset, nothing.events), (0, None));
}

/// Where what is there begins, of which the reader had nothing.
fn rest<S: Subject>(store: &mut S, at: (&str, &str, u64)) -> u64 {
    read(store, at, 64).rest
}

pub fn a_page_that_does_not_join_tells_where_the_rest_begins<S: Subject>(store: &mut S) {
    let first = stored(store, ALICE, "a");
    for _ in 0..S::COUNT_MAX {
        stored(store, ALICE, "b");
    }
    for (after, expected) in [(0, 1), (1, 1), (3, 3), (4, 4), (5, 4), (u64::MAX, 4)] {
        assert_eq!(rest(store, (ALICE, &first.epoch, after)), expected, "after {after}");
    }
    assert_eq!(rest(store, (ALICE, "another", 3)), 1);
    store.keep();
    stored(store, ALICE, "lost");
    store.restart();
    stored(store, ALICE, "c");
    assert_eq!(rest(store, (ALICE, &first.epoch, 5)), 4, "the fifth is another one now");
    assert_eq!(offsets(store, (ALICE, &first.epoch, 4)), Some(vec![5]));
    store.pass(IDLE);
    assert_eq!(rest(store, (ALICE, &first.epoch, 2)), 5, "nothing is left");
}

/// Of earlier epochs only some are remembered: who has one of before may have seen all.
pub fn who_has_an_epoch_of_long_ago_gets_nothing_twice<S: Subject>(store: &mut S) {
    let first = stored(store, ALICE, "a");
    for restarts in 1..=9 {
        store.keep();
        store.restart();
        head(store, ALICE, None);
        let expected = if restarts < 9 { (Some(vec![]), 1) } else { (None, 1) };
        let at = (ALICE, &*first.epoch, 1);
        assert_eq!((offsets(store, at), rest(store, at)), expected, "{restarts} restarts");
    }
}

// --- acknowledgements ---

pub fn an_acknowledgement_never_falls_and_never_passes_the_end<S: Subject>(store: &mut S) {
    let epoch = stored(store, ALICE, "a").epoch;
    stored(store, ALICE, "b");
    stored(store, ALICE, "c");
    for (offset, expected) in [(0, 0), (2, 2), (1, 2), (0, 2), (u64::MAX, 3), (3, 3)] {
        assert_eq!(acknowledge(store, (ALICE, &epoch, offset)), expected, "{offset}");
        assert_eq!(
            head(store, ALICE, None),
            Head { epoch: epoch.clone(), offset: 3, acknowledged: expected }
        );
    }
    assert_eq!(read(store, (ALICE, &epoch, 3), 1).head.acknowledged, 3);
    stored(store, ALICE, "d");
    assert_eq!(head(store, ALICE, None), Head { epoch, offset: 4, acknowledged: 3 });
}

pub fn an_acknowledgement_of_another_epoch_counts_for_nothing<S: Subject>(store: &mut S) {
    let epoch = stored(store, ALICE, "a").epoch;
    assert_eq!(acknowledge(store, (ALICE, "another", 1)), 0);
    assert_eq!(acknowledge(store, (ALICE, &epoch, 1)), 1);
    assert_eq!(acknowledge(store, (ALICE, "another", 9)), 1);
    assert_eq!(acknowledge(store, ("user:nobody", &epoch, 1)), 0);
}

// --- last values ---

fn value(key: u64, version: Option<u64>, payload: &str) -> Arc<Event> {
    Arc::new(Event { class: Class::Latest(LatestKey(key)), version, ..event(ALICE, payload) })
}

fn remember<S: Subject>(store: &mut S, values: Vec<Arc<Event>>) {
    assert_eq!(store.ask(Ask::Remember { stream: ALICE.into(), values }), Answer::Remembered);
}

/// By key.
fn recalled<S: Subject>(store: &mut S, stream: &str) -> Vec<(u64, String)> {
    let Answer::Recalled(values) = store.ask(Ask::Recall { stream: stream.into() }) else {
        panic!("no values")
    };
    let named = |event: &Arc<Event>| match event.class {
        Class::Latest(LatestKey(key)) => (key, String::from_utf8_lossy(&event.payload).into_owned()),
        _ => panic!("{event:?}"),
    };
    let mut values: Vec<_> = values.iter().map(named).collect();
    values.sort();
    values
}

pub fn the_last_value_of_each_key_is_kept_and_never_an_older_version<S: Subject>(store: &mut S) {
    assert_eq!(recalled(store, ALICE), []);
    // Beyond what a script's numbers tell apart.
    let high = u64::MAX - 1;
    remember(store, vec![value(1, Some(high), "a"), value(u64::MAX, None, "b")]);
    remember(store, vec![value(1, Some(high - 1), "older"), value(u64::MAX, None, "c")]);
    let kept = |a: &str| vec![(1, format!("\"{a}\"")), (u64::MAX, "\"c\"".to_owned())];
    assert_eq!(recalled(store, ALICE), kept("a"));
    remember(store, vec![value(1, Some(high), "again")]);
    assert_eq!(recalled(store, ALICE), kept("a"));
    remember(store, vec![value(1, Some(high + 1), "newer")]);
    assert_eq!(recalled(store, ALICE), kept("newer"));
    remember(store, vec![value(1, None, "nameless")]);
    assert_eq!(recalled(store, ALICE), kept("nameless"), "without a version the newest arrival wins");
    assert_eq!(recalled(store, ROOM), []);
}

pub fn last_values_of_one_address_are_bounded_and_go_at_their_age<S: Subject>(store: &mut S) {
    let count = LATEST_KEYS_PER_ADDRESS_MAX as u64;
    remember(store, (0..count).map(|key| value(key, None, "a")).collect());
    store.pass(Duration::from_secs(1));
    remember(store, vec![value(count, None, "new")]);
    let kept = recalled(store, ALICE);
    assert_eq!((kept.len() as u64, kept.last().map(|(key, _)| *key)), (count, Some(count)));
    store.pass(FORGOTTEN);
    assert_eq!(recalled(store, ALICE), []);
}
