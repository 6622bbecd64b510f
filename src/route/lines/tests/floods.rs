//! People who ask the same again and again, and how little of it is written.

use std::time::Duration;

use super::{Instance, asked, denial, history, open, ticket};
use crate::{
    ids::ShardId,
    limits::{PLACES_PER_HOLDER_MAX, QUEUE_LOG_BYTES_MAX, QUEUE_LOG_RESERVE},
    line::{LineDenial, Ticket},
    route::lines::io::{Denied, Input, Output},
    sale::{command::Command, inlet::Inlet},
    stream::history::History,
};

fn waiting(connections: u32) -> Input {
    Input::Waiting { shard: ShardId(0), event_id: "e".into(), holder: "u:ann".into(), connections }
}

fn leave() -> Input {
    Input::Leave { holder: "u:ann".into(), asked: asked(1) }
}

fn has_left(told: &[Output]) -> bool {
    told.iter().any(|output| matches!(output, Output::PlaceNews { news, .. } if news.asked.is_some()))
}

/// Waiting in a queue of its own.
fn waiter() -> (Instance, History) {
    let (mut one, mut history) = (Instance::new(1), history());
    one.operate(&mut history, Some(open(Inlet::Manual)));
    assert_eq!(ticket(&one.join(&mut history, "ann", 1)), Some(Ticket::Place(1)));
    one.turn(&mut history, waiting(1));
    (one, history)
}

#[test]
fn joins_of_who_is_here_are_answered_and_not_written() {
    let (mut one, mut history) = waiter();
    let entries = history.entry_count();
    for slot in 2..100 {
        assert_eq!(ticket(&one.join(&mut history, "ann", slot)), Some(Ticket::Place(1)));
    }
    assert_eq!(history.entry_count(), entries);
    one.operate(&mut history, Some(Command::AdmitNext { count: 1, key: None }));
    let told = one.join(&mut history, "ann", 1);
    assert!(matches!(told[..], [Output::Seated { admission: Some(_), .. }]), "the pass is told: {told:?}");
    one.operate(&mut history, Some(Command::Close));
    let entries = history.entry_count();
    for user in ["bob", "cid"] {
        assert_eq!(denial(&one.join(&mut history, user, 1)), Some(LineDenial::Over));
    }
    assert_eq!(history.entry_count(), entries);
}

#[test]
fn leaves_and_joins_beyond_what_a_holder_may_are_not_written() {
    let (mut one, mut history) = waiter();
    for _ in 0..PLACES_PER_HOLDER_MAX {
        assert!(has_left(&one.turn(&mut history, leave())));
        one.join(&mut history, "ann", 1);
    }
    let entries = history.entry_count();
    for _ in 0..10 {
        assert!(has_left(&one.turn(&mut history, leave())), "it is so");
        assert_eq!(denial(&one.join(&mut history, "ann", 1)), Some(LineDenial::TooManyPlaces));
    }
    let nobody = Input::Leave { holder: "u:bob".into(), asked: asked(2) };
    assert_eq!(denial(&one.turn(&mut history, nobody)), Some(LineDenial::NotIn));
    assert_eq!(history.entry_count(), entries);
}

#[test]
fn what_a_client_asks_is_done_in_the_order_in_which_it_asked() {
    let (mut one, mut history) = waiter();
    one.up = false;
    assert!(!has_left(&one.turn(&mut history, leave())), "it is under way");
    assert_eq!(ticket(&one.join(&mut history, "ann", 1)), None, "it may not have its place any more");
    one.up = true;
    let told = one.pass(&mut history, Duration::from_millis(100), false);
    assert!(has_left(&told) && ticket(&told) == Some(Ticket::Place(2)), "{told:?}");
    one.turn(&mut history, leave());
    one.up = false;
    one.join(&mut history, "ann", 1);
    one.turn(&mut history, leave());
    one.up = true;
    let told = one.pass(&mut history, Duration::from_millis(100), false);
    assert!(has_left(&told) && one.lines.queues.get("e").unwrap().stats().waiting == 0, "{told:?}");
}

#[test]
fn who_comes_and_goes_again_and_again_writes_little_and_is_away_in_the_end() {
    let (mut one, mut history) = waiter();
    let before = history.entry_count();
    for _ in 0..100 {
        one.turn(&mut history, waiting(0));
        one.pass(&mut history, Duration::from_secs(1), false);
        assert_eq!(ticket(&one.join(&mut history, "ann", 1)), Some(Ticket::Place(1)));
        one.turn(&mut history, waiting(1));
    }
    assert!(history.entry_count() < before + 20, "{}", history.entry_count() - before);
    one.turn(&mut history, waiting(0));
    one.pass(&mut history, Duration::from_secs(11), true);
    one.pass(&mut history, Duration::from_secs(121), true);
    assert_eq!(one.lines.queues.get("e").unwrap().stats().departed, 1);
    assert!(one.lines.rooms["e"].present.is_empty(), "and nothing is left of her");
}

#[test]
fn a_log_that_people_filled_takes_what_operators_and_time_have_to_say() {
    let (mut one, mut history) = waiter();
    let room = one.lines.rooms.get_mut("e").expect("the queue");
    let offset = room.log.at.as_ref().expect("it is read").offset;
    drop(room.log.applied(offset, QUEUE_LOG_BYTES_MAX - QUEUE_LOG_RESERVE));
    let denied = denial(&one.join(&mut history, "bob", 2));
    assert!(matches!(denied, Some(LineDenial::Overloaded { .. })), "{denied:?}");
    assert_eq!(ticket(&one.join(&mut history, "ann", 1)), Some(Ticket::Place(1)), "who is there is answered");
    for command in [
        Command::Pause { reason: "full".into() },
        Command::AdmitNext { count: 1, key: None },
        Command::Claim { holder: "u:ann".into(), place: None },
        Command::Close,
    ] {
        let told = one.operate(&mut history, Some(command));
        let done = told.iter().any(|output| matches!(output, Output::Operated { result: Ok(_), .. }));
        assert!(done, "{told:?}");
    }
    let room = one.lines.rooms.get_mut("e").expect("the queue");
    drop(room.log.applied(offset + 4, QUEUE_LOG_RESERVE));
    let told = one.operate(&mut history, Some(Command::Resume));
    assert!(matches!(told[..], [Output::Operated { result: Err(Denied::Unwritable), .. }]), "{told:?}");
}
