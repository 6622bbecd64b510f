//! What booking services say of who was let in.

use super::{Sale, refusal};
use crate::sale::{
    command::Command,
    inlet::Inlet,
    place::{Ending, State},
    queue::{Effect, Refusal},
};

#[test]
fn whoever_completes_or_abandons_is_counted_once() {
    let mut sale = Sale::opened(Inlet::Manual, 4);
    sale.does(Command::Advance { to: 3 });
    sale.claim("h1");
    let complete = |holder: &str| Command::Complete { holder: holder.into(), place: None };
    let completed = [Effect::Ended { holder: "h1".into(), number: Some(1), ending: Ending::Completed }];
    assert_eq!((&*sale.does(complete("h1")), &*sale.does(complete("h1"))), (&completed[..], &completed[..]));
    sale.does(complete("h2"));
    sale.leave("h3");
    assert_eq!(refusal(&sale.does(complete("h3"))), Some(Refusal::NoPlace));
    assert_eq!(
        refusal(&sale.does(Command::Abandon { holder: "h4".into(), place: None })),
        Some(Refusal::NotAdmitted)
    );
    let stats = sale.queue.stats();
    assert_eq!((stats.completed, stats.abandoned, stats.admitted, stats.waiting), (2, 1, 3, 1));
}

#[test]
fn a_call_that_names_its_place_does_nothing_to_the_next_place_of_its_holder() {
    let mut sale = Sale::opened(Inlet::Manual, 2);
    sale.does(Command::Advance { to: 3 });
    let complete = |place| Command::Complete { holder: "h1".into(), place };
    let abandon = |place| Command::Abandon { holder: "h1".into(), place };
    let claim = |holder: &str, place| Command::Claim { holder: holder.into(), place };
    assert_eq!(refusal(&sale.does(claim("h1", Some(2)))), Some(Refusal::NoPlace), "it is another's");
    assert_eq!(refusal(&sale.does(claim("h1", Some(9)))), Some(Refusal::NoPlace), "there is none");
    assert_eq!(refusal(&sale.does(claim("nobody", Some(1)))), Some(Refusal::NoPlace));
    sale.does(claim("h1", Some(1)));
    assert_eq!(sale.state("h1"), Some(State::Inside));
    sale.does(complete(Some(1)));
    sale.join("h1");
    sale.does(Command::Advance { to: 3 });
    assert_eq!((sale.number("h1"), sale.state("h1")), (Some(3), Some(State::Admitted)));

    assert_eq!(sale.does(complete(Some(1))), [], "it is done, and nobody is told again");
    assert_eq!(refusal(&sale.does(abandon(Some(1)))), Some(Refusal::NoPlace), "bought is not given up");
    assert_eq!(refusal(&sale.does(claim("h1", Some(1)))), Some(Refusal::NoPlace));
    assert_eq!(sale.state("h1"), Some(State::Admitted));
    sale.does(complete(None));
    assert_eq!(sale.queue.stats().completed, 2, "without a place it is the newest");
}
