//! Who is connected, as the log is told of it.

use std::time::Duration;

use super::{Instance, admitted, denial, history, open, ticket};
use crate::{
    ids::ShardId,
    line::{LineDenial, Ticket},
    route::lines::io::Input,
    sale::{command::Command, inlet::Inlet},
    stream::store::Failure,
};

fn waiting(user: &str, connections: u32) -> Input {
    let holder = format!("u:{user}").into();
    Input::Waiting { shard: ShardId(0), event_id: "e".into(), holder, connections }
}

#[test]
fn who_came_and_went_is_written_again_where_the_store_refused_it() {
    let (mut one, mut history) = (Instance::new(1), history());
    one.operate(&mut history, Some(open(Inlet::Manual)));
    one.join(&mut history, "ann", 1);
    one.turn(&mut history, waiting("ann", 1));
    one.failure = Failure::Refused;
    one.up = false;
    one.turn(&mut history, waiting("ann", 0));
    assert_eq!(denial(&one.join(&mut history, "bob", 2)), None, "it waits for the next tick");
    let told = one.pass(&mut history, Duration::from_millis(100), false);
    assert!(matches!(denial(&told), Some(LineDenial::Overloaded { .. })), "{told:?}");
    one.up = true;
    one.pass(&mut history, Duration::from_millis(100), false);
    one.pass(&mut history, Duration::from_secs(120), true);
    let stats = one.lines.queues.get("e").unwrap().stats();
    assert_eq!((stats.total, stats.departed), (1, 1), "she went, and he never came in");
}

#[test]
fn who_was_connected_to_an_instance_that_starts_again_has_place_and_turn_as_soon_as_it_is_back() {
    let (mut before, mut history) = (Instance::new(1), history());
    before.operate(&mut history, Some(open(Inlet::Manual)));
    for (slot, user) in (1..).zip(["ann", "bob"]) {
        before.join(&mut history, user, slot);
        before.turn(&mut history, waiting(user, 1));
    }
    let mut after = Instance::new(3);
    after.others.clear();
    after.now = before.now.after(Duration::from_secs(60));
    assert_eq!(ticket(&after.join(&mut history, "ann", 1)), Some(Ticket::Place(1)));
    after.turn(&mut history, waiting("ann", 1));
    // It misses the one before, then waits for the grace.
    for seconds in [1, 11, 119] {
        after.pass(&mut history, Duration::from_secs(seconds), true);
        assert_eq!(after.lines.queues.get("e").unwrap().stats().departed, 0, "after {seconds} s more");
    }
    after.pass(&mut history, Duration::from_secs(2), true);
    assert_eq!(after.lines.queues.get("e").unwrap().stats().departed, 1);
    let told = after.operate(&mut history, Some(Command::Advance { to: 2 }));
    assert_eq!(admitted(&told), [std::sync::Arc::<str>::from("u:ann")]);
    let told = after.join(&mut history, "bob", 2);
    assert_eq!((ticket(&told), admitted(&told)), (Some(Ticket::Place(2)), vec!["u:bob".into()]));
}
