//! A store that is away, for however long, and that loses answers.

use std::time::Duration;

use super::{Instance, denial, history, open};
use crate::{
    ids::ShardId,
    limits::{LINE_WAITING_TIME_MAX, STORE_RETRY},
    line::LineDenial,
    route::lines::io::{Input, Output},
    sale::{command::Command, inlet::Inlet, queue::Stats},
    stream::{history::History, store::Failure},
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

#[test]
fn what_was_never_sent_is_given_back_before_its_caller_gives_up() {
    let (mut one, mut history) = (Instance::new(1), history());
    one.operate(&mut history, Some(open(Inlet::Manual)));
    come(&mut one, &mut history, 3);
    one.up = false;
    admit(&mut one, &mut history);
    one.pass(&mut history, MOMENT, false);
    assert_eq!(answers(&admit(&mut one, &mut history)), (0, 0), "behind the one that is under way");
    assert_eq!(denial(&one.join(&mut history, "ann", 9)), None);
    let (shard, event_id, holder) = (ShardId(0), "e".into(), "u:3".into());
    one.turn(&mut history, Input::Waiting { shard, event_id, holder, connections: 0 });
    let mut told = one.pass(&mut history, MOMENT, false);
    told.extend(one.pass(&mut history, LINE_WAITING_TIME_MAX - MOMENT, false));
    assert_eq!((answers(&told), denial(&told)), ((0, 0), None), "there is time");
    let told = one.pass(&mut history, MOMENT, false);
    let retry_after_ms = STORE_RETRY.as_millis() as u32;
    let overloaded = Some(LineDenial::Overloaded { retry_after_ms });
    assert_eq!((answers(&told), denial(&told)), ((0, 1), overloaded));
    one.up = true;
    assert_eq!(answers(&one.pass(&mut history, MOMENT, false)), (1, 0), "the one under way");
    assert_eq!((stats(&one).admitted, stats(&one).total), (1, 3));
    one.pass(&mut history, 2 * MINUTE, true);
    assert_eq!(stats(&one).departed, 1, "who went is gone");
}

#[test]
fn what_is_refused_after_an_answer_was_lost_may_be_stored() {
    let (mut one, mut history) = (Instance::new(1), history());
    one.operate(&mut history, Some(open(Inlet::Manual)));
    come(&mut one, &mut history, 2);
    one.loses = true;
    admit(&mut one, &mut history);
    (one.loses, one.up, one.failure) = (false, false, Failure::Refused);
    assert_eq!(answers(&one.pass(&mut history, MOMENT, false)), (0, 0));
    one.up = true;
    assert_eq!(answers(&one.pass(&mut history, MOMENT, false)), (1, 0));
    assert_eq!(stats(&one).admitted, 1);
}

/// A number in `0..below`, another each time.
fn roll(dice: &mut u64, below: u64) -> u64 {
    *dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*dice >> 33) % below
}

#[test]
fn each_call_is_answered_once_and_done_as_it_was_answered_whatever_the_store_does() {
    for seed in 0..100 {
        let (mut one, mut other, mut history) = (Instance::new(1), Instance::new(2), history());
        one.operate(&mut history, Some(open(Inlet::Manual)));
        come(&mut one, &mut history, 60);
        let (mut dice, mut calls, mut told) = (seed, 0, Vec::new());
        for _ in 0..100 {
            let instance = if roll(&mut dice, 2) == 0 { &mut one } else { &mut other };
            match roll(&mut dice, 4) {
                0 if calls < 40 => {
                    calls += 1;
                    told.extend(admit(instance, &mut history));
                }
                1 => {
                    let weather = roll(&mut dice, 4);
                    (instance.up, instance.loses) = (weather > 1, weather == 2);
                    instance.failure = if weather == 0 { Failure::Refused } else { Failure::Unavailable };
                }
                _ => {
                    let times = [MOMENT, MOMENT, MOMENT, LINE_WAITING_TIME_MAX, 6 * MINUTE];
                    let time = times[roll(&mut dice, times.len() as u64) as usize];
                    told.extend(one.pass(&mut history, time, false));
                    told.extend(other.pass(&mut history, time, false));
                    history.expire(one.now);
                }
            }
        }
        for instance in [&mut one, &mut other] {
            (instance.up, instance.loses) = (true, false);
        }
        for _ in 0..3 {
            told.extend(one.pass(&mut history, 10 * MOMENT, false));
            told.extend(other.pass(&mut history, 10 * MOMENT, false));
        }
        told.extend(
            [one.operate(&mut history, None), other.operate(&mut history, None)].into_iter().flatten(),
        );
        let (done, undone) = answers(&told);
        assert_eq!(done + undone, calls + 2, "seed {seed}: two looks besides");
        assert_eq!(stats(&one).admitted, done - 2, "seed {seed}");
        assert_eq!(one.lines.queues, other.lines.queues, "seed {seed}");
    }
}
