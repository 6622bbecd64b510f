//! A store that is away, for however long, and that loses answers.

use std::time::Duration;

use super::{Instance, history, open};
use crate::{
    ids::ShardId,
    route::lines::io::{Input, Output},
    sale::{command::Command, inlet::Inlet, queue::Stats},
    stream::history::History,
};

const MOMENT: Duration = Duration::from_millis(100);
const MINUTE: Duration = Duration::from_secs(60);

/// So many people come, and stay.
fn come(one: &mut Instance, history: &mut History, count: u32) {
    for slot in 1..=count {
        one.join(history, &slot.to_string(), slot);
        let (shard, event_id, holder) = (ShardId(0), "e".into(), format!("u:{slot}").into());
        one.turn(history, Input::Waiting { shard, event_id, holder, connections: 1 });
    }
}

fn admit(one: &mut Instance, history: &mut History) -> Vec<Output> {
    one.operate(history, Some(Command::AdmitNext { count: 1, key: None }))
}

fn stats(instance: &Instance) -> Stats {
    instance.lines.queues.get("e").expect("the queue").stats()
}

/// Calls that were answered as done, and those that were answered as not done.
fn answers(told: &[Output]) -> (u32, u32) {
    let count = |is_done: bool| {
        let is_such =
            |it: &&Output| matches!(it, Output::Operated { result, .. } if result.is_ok() == is_done);
        told.iter().filter(is_such).count() as u32
    };
    (count(true), count(false))
}

#[test]
fn an_entry_whose_answer_was_lost_is_written_once_however_long_the_store_is_away() {
    for minutes in [1, 6, 24 * 60] {
        let (mut one, mut other, mut history) = (Instance::new(1), Instance::new(2), history());
        one.operate(&mut history, Some(open(Inlet::Manual)));
        come(&mut one, &mut history, 2);
        one.loses = true;
        assert_eq!(answers(&admit(&mut one, &mut history)), (0, 0));
        (one.loses, one.up) = (false, false);
        let entries = history.entry_count();
        for _ in 0..minutes {
            assert_eq!(answers(&one.pass(&mut history, MINUTE, false)), (0, 0));
        }
        history.expire(one.now);
        one.up = true;
        assert_eq!(answers(&one.pass(&mut history, MOMENT, false)), (1, 0), "after {minutes} min");
        assert_eq!((stats(&one).admitted, history.entry_count()), (1, entries));
        other.operate(&mut history, None);
        assert_eq!(one.lines.queues, other.lines.queues);
    }
}

#[test]
fn an_entry_that_never_arrived_is_written_when_the_store_is_back() {
    let (mut one, mut history) = (Instance::new(1), history());
    one.operate(&mut history, Some(open(Inlet::Manual)));
    come(&mut one, &mut history, 2);
    one.up = false;
    assert_eq!(answers(&admit(&mut one, &mut history)), (0, 0));
    assert_eq!(answers(&one.pass(&mut history, 60 * MINUTE, false)), (0, 0));
    one.up = true;
    assert_eq!(answers(&one.pass(&mut history, MOMENT, false)), (1, 0));
    assert_eq!(stats(&one).admitted, 1);
}

#[test]
fn a_queue_that_an_instance_let_go_of_takes_its_entries_again() {
    let (mut one, mut history) = (Instance::new(1), history());
    for _ in 0..2 {
        assert_eq!(answers(&one.operate(&mut history, Some(open(Inlet::Manual)))), (1, 0));
        one.lines.rooms.clear();
        one.lines.queues.remove("e");
    }
    assert_eq!(history.entry_count(), 2, "whatever it wrote there before");
}
