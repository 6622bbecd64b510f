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
        told.iter().find_map(|output| match output {
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
    let lost = |output: &Output| matches!(output, Output::Operated { result: Err(Denied::Lost), .. });
    assert!(told.iter().any(lost), "{told:?}");
}
