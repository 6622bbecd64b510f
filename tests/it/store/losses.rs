//! The contract of every store where a store comes back with less than it had, or with nothing.

use usher::{
    event::Position,
    stream::store::{Answer, Append, Ask, Failure, Proviso},
};

use super::contract::{
    ALICE, ROOM, Subject, acknowledge, append, head, mark, offsets, position, read, stored, with_key,
};

/// It keeps what it has: that was answered, and somebody may have nothing else.
pub fn a_store_that_is_behind_goes_on_in_an_epoch_that_no_other_joins<S: Subject>(store: &mut S) {
    let first = stored(store, ALICE, "a");
    acknowledge(store, (ALICE, &first.epoch, 1));
    let anew = head(store, ALICE, mark(&first.epoch, 2));
    assert_eq!((anew.offset, anew.acknowledged), (1, 1));
    assert_ne!(anew.epoch, first.epoch);
    for known in [mark(&first.epoch, 2), mark(&first.epoch, 3), mark(&anew.epoch, 1)] {
        assert_eq!(head(store, ALICE, known), anew, "once");
    }
    for offset in [0, 1] {
        assert_eq!(offsets(store, (ALICE, &first.epoch, offset)), None, "after {offset}");
    }
    assert_eq!(offsets(store, (ALICE, &anew.epoch, 0)), Some(vec![1]));

    let ahead = Append { known: mark(&anew.epoch, 2), ..append(ALICE, "b") };
    let again = position(store.ask(Ask::Append(ahead)));
    assert_eq!(again.offset, 2);
    assert!(again.epoch != anew.epoch && again.epoch != first.epoch);
    assert_eq!(offsets(store, (ALICE, &again.epoch, 0)), Some(vec![1, 2]));
    assert_eq!(offsets(store, (ALICE, &anew.epoch, 1)), None);
}

/// One who saw what was lost says so when others have gone on already.
pub fn whoever_went_on_before_a_loss_was_known_is_told<S: Subject>(store: &mut S) {
    let first = stored(store, ALICE, "a");
    store.keep();
    let lost = stored(store, ALICE, "b");
    store.restart();
    let other = position(store.ask(Ask::Append(with_key(ALICE, "x", "k", 1))));
    assert_eq!((other.offset, offsets(store, (ALICE, &first.epoch, 1))), (lost.offset, Some(vec![2])));
    let parted = head(store, ALICE, mark(&lost.epoch, lost.offset));
    assert_eq!(parted.offset, 2, "nothing else is lost");
    for (epoch, offset) in [(&first.epoch, 1), (&first.epoch, 0), (&other.epoch, 2), (&other.epoch, 1)] {
        assert_eq!(offsets(store, (ALICE, epoch, offset)), None, "{epoch}:{offset}");
    }
    assert_eq!(offsets(store, (ALICE, &parted.epoch, 0)), Some(vec![1, 2]));
    let again = store.ask(Ask::Append(with_key(ALICE, "x", "k", 1)));
    assert!(matches!(again, Answer::Repeated(position) if position.offset == 2), "it is still there");
    store.keep();
    store.restart();
    assert_eq!(offsets(store, (ALICE, &parted.epoch, 1)), Some(vec![2]), "a later restart is another matter");
    assert_eq!(offsets(store, (ALICE, &other.epoch, 1)), None);
}

/// What was decided by what is lost would mean something else.
pub fn what_follows_from_lost_entries_is_not_stored<S: Subject>(store: &mut S) {
    let first = stored(store, ALICE, "a");
    store.keep();
    let lost = stored(store, ALICE, "b");
    store.restart();
    let follows =
        |known| Ask::Append(Append { known, proviso: Some(Proviso::Follows), ..append(ALICE, "c") });
    assert_eq!(position(store.ask(follows(mark(&first.epoch, 1)))).offset, 2, "under another name");
    let parted = Answer::Failed(Failure::Parted);
    assert_eq!(store.ask(follows(mark(&lost.epoch, lost.offset))), parted);
    let now = head(store, ALICE, None);
    assert_eq!(offsets(store, (ALICE, &now.epoch, 0)), Some(vec![1, 2]));
}

/// Two restarts from one copy: what was stored between them is lost, with the epoch that began there.
pub fn an_epoch_that_was_lost_parts_with_those_that_it_came_from<S: Subject>(store: &mut S) {
    let first = stored(store, ALICE, "a");
    store.keep();
    store.restart();
    let lost = stored(store, ALICE, "b");
    store.restart();
    let now = head(store, ALICE, None);
    assert!(lost.epoch != first.epoch && now.epoch != first.epoch && now.epoch != lost.epoch);
    assert_eq!(offsets(store, (ALICE, &first.epoch, 1)), Some(vec![]), "nobody said so yet");
    let parted = head(store, ALICE, mark(&lost.epoch, lost.offset));
    assert_ne!(parted.epoch, now.epoch);
    assert_eq!(offsets(store, (ALICE, &first.epoch, 1)), None);
    assert_eq!(offsets(store, (ALICE, &now.epoch, 1)), None);
    assert_eq!(head(store, ALICE, mark(&lost.epoch, lost.offset)), parted, "once");
}

/// Whoever knows a later epoch than a store that came back empty asks for one later still: what was stored meanwhile stays.
pub fn what_was_stored_after_an_empty_restart_stays<S: Subject>(store: &mut S) {
    let first = stored(store, ALICE, "a");
    let later = head(store, ALICE, mark(&first.epoch, 2));
    let known =
        position(store.ask(Ask::Append(Append { known: mark(&later.epoch, 1), ..append(ALICE, "b") })));
    store.restart();
    assert_eq!(stored(store, ALICE, "x").offset, 1);
    let anew = head(store, ALICE, mark(&known.epoch, known.offset));
    assert!(anew.offset == 1 && anew.epoch != known.epoch);
    assert_eq!(offsets(store, (ALICE, &anew.epoch, 0)), Some(vec![1]));
    assert_eq!(offsets(store, (ALICE, &known.epoch, known.offset)), None);
}

pub fn who_is_behind_the_store_changes_nothing<S: Subject>(store: &mut S) {
    let first = stored(store, ALICE, "a");
    for known in [None, mark(&first.epoch, 0), mark(&first.epoch, 1), mark("another", 9)] {
        assert_eq!(head(store, ALICE, known).epoch, first.epoch);
    }
    let same = Append { known: mark(&first.epoch, 1), ..append(ALICE, "b") };
    assert_eq!(position(store.ask(Ask::Append(same))), Position { offset: 2, ..first });
}

pub fn an_empty_restart_begins_a_new_epoch<S: Subject>(store: &mut S) {
    let first = position(store.ask(Ask::Append(with_key(ALICE, "a", "k", 1))));
    stored(store, ROOM, "a");
    store.restart();
    let anew = head(store, ALICE, mark(&first.epoch, 1));
    assert_eq!(anew.offset, 0);
    assert_ne!(anew.epoch, first.epoch);
    assert_eq!(offsets(store, (ALICE, &first.epoch, 1)), None);
    let again = position(store.ask(Ask::Append(with_key(ALICE, "a", "k", 1))));
    assert_eq!((again.epoch, again.offset), (anew.epoch, 1), "what was stored is lost, and so is its key");
    assert_eq!(stored(store, ROOM, "a").offset, 1);
}

/// Whether anything was lost, a store cannot know: it goes on from what it has, and only whoever has more is told.
pub fn a_stream_goes_on_after_a_restart_that_lost_nothing<S: Subject>(store: &mut S) {
    let first = position(store.ask(Ask::Append(with_key(ALICE, "a", "k", 1))));
    let second = stored(store, ALICE, "b");
    store.keep();
    for restarts in 1..=3 {
        store.restart();
        assert_eq!(offsets(store, (ALICE, &first.epoch, 0)), Some(vec![1, 2]), "{restarts} restarts");
        assert_eq!(offsets(store, (ALICE, &first.epoch, 2)), Some(vec![]));
        assert_eq!(offsets(store, (ALICE, &first.epoch, 3)), None);
        let now = head(store, ALICE, mark(&second.epoch, 2));
        assert_eq!(now.offset, 2, "who has everything is not told of a loss");
        assert_eq!(offsets(store, (ALICE, &now.epoch, 1)), Some(vec![2]));
        let again = store.ask(Ask::Append(with_key(ALICE, "a", "k", 1)));
        assert_eq!(again, Answer::Repeated(Position { offset: 1, epoch: now.epoch, ..first.clone() }));
        store.keep();
    }
    assert_eq!(acknowledge(store, (ALICE, &first.epoch, 9)), 2);
    let third = stored(store, ALICE, "c");
    assert_eq!(third.offset, 3);
    let page = read(store, (ALICE, &first.epoch, 1), 64).events.expect("they join");
    let places: Vec<Position> = page.iter().filter_map(|event| event.position.clone()).collect();
    assert_eq!(places, [2, 3].map(|offset| Position { offset, ..third.clone() }), "under one name");
}

/// The offsets of what was lost are given again: whoever has the lost ones must not take the others for what follows.
pub fn what_took_the_place_of_lost_entries_does_not_follow_them<S: Subject>(store: &mut S) {
    let first = stored(store, ALICE, "a");
    stored(store, ROOM, "a");
    store.keep();
    for lost in ["b", "c"] {
        stored(store, ALICE, lost);
    }
    store.restart();
    let mut last = first.clone();
    for other in ["x", "y", "z"] {
        last = stored(store, ALICE, other);
    }
    assert_eq!(last.offset, 4, "nobody who knew more had been asked");
    assert_eq!(offsets(store, (ALICE, &first.epoch, 1)), Some(vec![2, 3, 4]));
    for lost in [2, 3] {
        assert_eq!(offsets(store, (ALICE, &first.epoch, lost)), None, "after {lost}");
    }
    assert_eq!(acknowledge(store, (ALICE, &first.epoch, 3)), 1, "of the lost ones nothing counts");
    assert_eq!(stored(store, ROOM, "b").offset, 2);
}

/// Of what is older somebody may have seen all, of what is newer nobody anything.
pub fn who_comes_by_an_epoch_that_parted_gets_what_came_since_then<S: Subject>(store: &mut S) {
    let first = stored(store, ALICE, "a");
    stored(store, ALICE, "b");
    head(store, ALICE, mark(&first.epoch, 3));
    stored(store, ALICE, "c");
    for seen in [1, 3] {
        let page = read(store, (ALICE, &first.epoch, seen), 64);
        assert_eq!((page.events, page.rest), (None, 2), "after {seen}");
    }
}
