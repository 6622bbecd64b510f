//! Logs that are lost, wholly or their ends.

use std::{sync::Arc, time::Duration};

use super::{Instance, admitted, denial, history, history_of, newest, open, serving, ticket};
use crate::{
    line::{LineDenial, LineState, Ticket},
    route::lines::io::{Denied, Input, Output},
    sale::{command::Command, inlet::Inlet},
};

#[test]
fn a_queue_whose_log_was_lost_ends_and_can_be_opened_anew() {
    let (mut one, mut old) = (Instance::new(1), history());
    one.operate(&mut old, Some(open(Inlet::Manual)));
    one.join(&mut old, "ann", 1);
    let line = |told: &[Output]| {
        told.iter().rev().find_map(|output| match output {
            Output::Line { update, .. } => Some(Arc::clone(update)),
            _ => None,
        })
    };
    let mut history = history_of(8);
    let told = one.pass(&mut history, Duration::from_secs(10), true);
    let lost = line(&told).expect("the shards are told");
    assert_eq!((lost.after, &lost.state), (None, &LineState::Lost));
    assert_eq!(denial(&one.join(&mut history, "bob", 2)), Some(LineDenial::Lost));
    for command in [None, Some(Command::Advance { to: 1 })] {
        let told = one.operate(&mut history, command);
        assert!(matches!(told[..], [Output::Operated { result: Err(Denied::Lost), .. }]), "{told:?}");
    }
    assert_eq!((history.entry_count(), one.lines.lost_count()), (0, 1));
    let told = one.operate(&mut history, Some(open(Inlet::Manual)));
    let new = line(&told).expect("the shards are told");
    assert!(new.epoch > lost.epoch && new.state == LineState::Open, "{new:?}");
    assert_eq!(ticket(&one.join(&mut history, "bob", 2)), Some(Ticket::Place(1)));
}

#[test]
fn a_queue_that_is_opened_anew_is_so_on_every_instance_and_none_of_its_places_comes_back() {
    let (mut one, mut other, mut history) = (Instance::new(1), Instance::new(2), history());
    one.operate(&mut history, Some(open(Inlet::Manual)));
    one.join(&mut history, "ann", 1);
    one.join(&mut history, "bob", 2);
    other.operate(&mut history, None);
    one.operate(&mut history, Some(Command::Advance { to: 1 }));
    let published = newest(&mut history, one.now);

    // The log lost its end: of what is left nothing holds.
    let mut shorter = history_of(7);
    let mut source = Instance::new(3);
    source.operate(&mut shorter, Some(open(Inlet::Manual)));
    source.join(&mut shorter, "ann", 1);
    one.pass(&mut shorter, Duration::from_secs(10), true);
    one.pass(&mut shorter, Duration::from_secs(10), true);
    assert_eq!(
        (denial(&one.join(&mut shorter, "cid", 3)), one.lines.lost_count()),
        (Some(LineDenial::Lost), 1)
    );
    let told = one.operate(&mut shorter, Some(open(Inlet::Manual)));
    assert!(
        told.iter()
            .any(|it| matches!(it, Output::Operated { result: Ok(view), .. } if view.stats.total == 0))
    );
    assert_eq!(ticket(&one.join(&mut shorter, "cid", 3)), Some(Ticket::Place(1)));

    // The other hears of it, by an entry or by a look.
    let told = other.turn(&mut shorter, Input::Stored(published));
    assert_eq!(serving(&told), Some(1));
    let entry = newest(&mut shorter, one.now);
    other.turn(&mut shorter, Input::Stored(entry));
    assert_eq!((&one.lines.queues, other.lines.lost_count()), (&other.lines.queues, 0));
    let told = other.operate(&mut shorter, Some(Command::AdmitNext { count: 1, key: None }));
    assert_eq!(admitted(&told).first().map(|holder| &**holder), Some("u:cid"));
}

#[test]
fn whoever_waits_for_an_entry_of_a_log_that_was_lost_is_told() {
    let (mut one, mut old, mut history) = (Instance::new(1), history(), history_of(8));
    one.operate(&mut old, Some(open(Inlet::Manual)));
    one.join(&mut old, "ann", 1);
    let told = one.operate(&mut history, Some(Command::Advance { to: 1 }));
    assert!(told.iter().any(is_refused_as_anothers), "{told:?}");
}

fn is_refused_as_anothers(output: &Output) -> bool {
    matches!(output, Output::Operated { result: Err(Denied::Another), .. })
}

#[test]
fn what_an_operator_decided_about_a_queue_is_not_done_to_the_next_one_of_the_event() {
    let (mut one, mut other, mut history) = (Instance::new(1), Instance::new(2), history());
    one.operate(&mut history, Some(open(Inlet::Manual)));
    one.join(&mut history, "ann", 1);
    other.operate(&mut history, None);
    // The call is under way while the store is away.
    one.up = false;
    assert_eq!(one.operate(&mut history, Some(Command::Advance { to: 1 })).len(), 0);

    other.operate(&mut history, Some(Command::Close));
    other.pass(&mut history, Duration::from_secs(24 * 3_600), true);
    other.operate(&mut history, Some(open(Inlet::Manual)));
    other.join(&mut history, "bob", 2);

    one.up = true;
    let told = one.pass(&mut history, Duration::from_millis(100), false);
    assert!(told.iter().any(is_refused_as_anothers), "{told:?}");
    assert_eq!(&one.lines.queues, &other.lines.queues, "it follows the other queue from then on");
    let stats = one.lines.queues.get("e").expect("the queue").stats();
    assert_eq!((history.entry_count(), stats.waiting, stats.admitted), (2, 1, 0), "nobody is let in");
    let told = one.operate(&mut history, Some(Command::Advance { to: 1 }));
    assert_eq!(admitted(&told).first().map(|holder| &**holder), Some("u:bob"));
}

#[test]
fn whoever_forgets_a_queue_that_is_over_leaves_the_next_one_of_the_event_alone() {
    let (mut one, mut other, mut history) = (Instance::new(1), Instance::new(2), history());
    one.operate(&mut history, Some(open(Inlet::Manual)));
    one.operate(&mut history, Some(Command::Close));
    other.operate(&mut history, None);
    let day = Duration::from_secs(24 * 3_600);
    one.pass(&mut history, day, true);
    one.operate(&mut history, Some(open(Inlet::Manual)));
    // The lease has changed hands.
    other.pass(&mut history, day, true);
    assert_eq!(history.entry_count(), 1);
    assert_eq!(ticket(&other.join(&mut history, "bob", 1)), Some(Ticket::Place(1)));
}

#[test]
fn a_call_that_names_a_queue_is_done_to_no_other_of_the_event() {
    let (mut one, mut history) = (Instance::new(1), history());
    let run = |told: &[Output]| {
        told.iter().find_map(|output| match output {
            Output::Operated { result: Ok(view), .. } => Some(view.run),
            _ => None,
        })
    };
    let first = run(&one.operate(&mut history, Some(open(Inlet::Manual))));
    assert_eq!(run(&one.operate_on(&mut history, first, Some(Command::Close))), first);
    one.pass(&mut history, Duration::from_secs(24 * 3_600), true);
    let told = one.operate_on(&mut history, first, Some(open(Inlet::Manual)));
    assert!(told.iter().any(is_refused_as_anothers) && history.entry_count() == 0, "{told:?}");
    let second = run(&one.operate(&mut history, Some(open(Inlet::Manual))));
    assert_ne!(first, second);
    // Whether the instance knows the queue or has to read it.
    for mut instance in [one, Instance::new(2)] {
        let told = instance.operate_on(&mut history, first, Some(Command::Close));
        assert!(told.iter().any(is_refused_as_anothers), "{told:?}");
        let told = instance.operate_on(&mut history, second, Some(Command::Advance { to: 1 }));
        assert_eq!(run(&told), second);
    }
}
