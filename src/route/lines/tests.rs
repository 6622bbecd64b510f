//! A log on a store in memory, read and written by one instance or two.

mod floods;
mod lost;
mod outages;
mod presence;
mod refusals;

use std::{sync::Arc, time::Duration};

use super::{
    Lines,
    io::{Denied, Input, Output, Target},
};
use crate::{
    clock::Now,
    event::Event,
    ids::{ConnId, ShardId},
    line::{LineDenial, LineRequest, LineState, Ticket},
    sale::{
        command::{Command, Terms},
        inlet::Inlet,
        queue::Refusal,
    },
    stream::{
        history::{Bounds, History},
        store::{Answer, Ask, Failure, Page},
    },
};

const START: Now = Now { mono_ns: 1_000_000_000, wall_ms: 1_700_000_000_000 };

fn history() -> History {
    history_of(7)
}

fn history_of(seed: u64) -> History {
    let day = Duration::from_secs(24 * 3600);
    let bounds =
        Bounds { count_max: 2, age_max: day, ledger_age_max: day, bytes_max: 1 << 20, streams_max: 10 };
    History::new(bounds, seed)
}

fn open(inlet: Inlet) -> Command {
    Command::Open(Box::new(Terms {
        opens_at_ms: 0,
        seed: [7; 32],
        salts: [0; 32],
        made: false,
        opens_in_ms: 0,
        kept: Vec::new(),
        inlet,
        claim_ms: 60_000,
        grace_ms: 120_000,
        stay_ms: 0,
        places_max: 1_000,
    }))
}

struct Instance {
    lines: Lines,
    now: Now,
    token: u64,
    /// Whether the store answers.
    up: bool,
    /// It does what it is asked, and its answers are lost.
    loses: bool,
    /// What it says else.
    failure: Failure,
    /// Instances that are heard of.
    others: Vec<u64>,
    /// Questions to the store.
    asked: usize,
    /// What the next ticks say of it.
    target: Target,
}

impl Instance {
    fn new(seed: u64) -> Self {
        Self {
            lines: Lines::new(seed, Duration::from_secs(10)),
            now: START,
            token: 0,
            up: true,
            loses: false,
            failure: Failure::Unavailable,
            others: vec![1, 2],
            asked: 0,
            target: Target::Unknown,
        }
    }

    /// A turn: everything that came of it but questions.
    fn turn(&mut self, history: &mut History, input: Input) -> Vec<Output> {
        let (mut told, mut out) = (Vec::new(), Vec::new());
        self.lines.handle(self.now, input, &mut out);
        self.lines.flush(self.now, &mut out);
        while !out.is_empty() {
            for output in std::mem::take(&mut out) {
                match output {
                    Output::Ask { ticket, ask } => {
                        self.asked += 1;
                        let answer = self.up.then(|| history.answer(self.now, ask));
                        let answer = answer.filter(|_| !self.loses);
                        let answer = answer.unwrap_or(Answer::Failed(self.failure));
                        self.lines.handle(self.now, Input::Answered { ticket, answer }, &mut out);
                    }
                    other => told.push(other),
                }
            }
            self.lines.flush(self.now, &mut out);
        }
        told
    }

    fn operate(&mut self, history: &mut History, command: Option<Command>) -> Vec<Output> {
        self.operate_on(history, None, command)
    }

    fn operate_on(
        &mut self,
        history: &mut History,
        run: Option<u64>,
        command: Option<Command>,
    ) -> Vec<Output> {
        self.token += 1;
        self.turn(history, Input::Operate { token: self.token, event_id: "e".into(), run, command })
    }

    fn join(&mut self, history: &mut History, user: &str, slot: u32) -> Vec<Output> {
        self.turn(
            history,
            Input::Join { holder: format!("u:{user}").into(), place_token: None, asked: asked(slot) },
        )
    }

    fn pass(&mut self, history: &mut History, time: Duration, leads: bool) -> Vec<Output> {
        self.now = self.now.after(time);
        self.turn(history, Input::Tick { leads, others: Some(self.others.clone()), target: self.target })
    }
}

fn asked(slot: u32) -> Box<LineRequest> {
    Box::new(LineRequest {
        conn: ConnId::new(ShardId(0), 0, slot),
        request: None,
        event_id: "e".into(),
        user: None,
        place_token: None,
        stands_as: None,
    })
}

fn ticket(told: &[Output]) -> Option<Ticket> {
    told.iter().find_map(|output| match output {
        Output::Seated { seated, .. } => Some(seated.ticket),
        _ => None,
    })
}

fn denial(told: &[Output]) -> Option<LineDenial> {
    told.iter().find_map(|output| match output {
        Output::Denied { denial, .. } => Some(*denial),
        _ => None,
    })
}

fn admitted(told: &[Output]) -> Vec<Arc<str>> {
    let holders = told.iter().filter_map(|output| match output {
        Output::Admitted { admission, .. } => Some(Arc::clone(&admission.holder)),
        _ => None,
    });
    holders.collect()
}

fn serving(told: &[Output]) -> Option<u32> {
    told.iter().find_map(|output| match output {
        Output::Line { update, .. } => Some(update.serving),
        _ => None,
    })
}

#[test]
fn what_is_asked_of_a_queue_that_is_not_there_is_denied_and_nothing_is_written() {
    let (mut one, mut history) = (Instance::new(1), history());
    assert_eq!(denial(&one.join(&mut history, "ann", 1)), Some(LineDenial::Unknown));
    let told = one.operate(&mut history, Some(Command::AdmitNext { count: 1, key: None }));
    assert!(matches!(told[..], [Output::Operated { result: Err(Denied::Refused(Refusal::NoQueue)), .. }]));
    assert_eq!((history.entry_count(), one.lines.rooms.len()), (0, 0));
}

#[test]
fn people_get_places_in_the_order_of_the_log_and_are_admitted() {
    let (mut one, mut history) = (Instance::new(1), history());
    one.operate(&mut history, Some(open(Inlet::Manual)));
    for (slot, user) in (1..).zip(["ann", "bob", "cid"]) {
        assert_eq!(ticket(&one.join(&mut history, user, slot)), Some(Ticket::Place(slot)));
    }
    assert_eq!(ticket(&one.join(&mut history, "bob", 9)), Some(Ticket::Place(2)), "one place for one user");
    let told = one.operate(&mut history, Some(Command::AdmitNext { count: 2, key: None }));
    assert_eq!((admitted(&told), serving(&told)), (vec!["u:ann".into(), "u:bob".into()], Some(2)));
    assert!(told.iter().any(
        |output| matches!(output, Output::Operated { result: Ok(view), .. } if view.stats.admitted == 2)
    ));
    let Some(Output::Seated { admission: Some(_), .. }) = one.join(&mut history, "ann", 5).pop() else {
        panic!("who was admitted is told so again");
    };
}

#[test]
fn an_instance_that_comes_later_has_the_same_queue() {
    let (mut one, mut other, mut history) = (Instance::new(1), Instance::new(2), history());
    one.operate(&mut history, Some(open(Inlet::Manual)));
    for (slot, user) in (1..=200).zip(0..) {
        one.join(&mut history, &format!("{user}"), slot);
    }
    assert_eq!(ticket(&other.join(&mut history, "late", 1)), Some(Ticket::Place(201)), "nothing was trimmed");
    other.operate(&mut history, Some(Command::Advance { to: 3 }));
    let told = one.turn(&mut history, Input::Subscribed { event_id: "e".into() });
    assert_eq!(
        (serving(&told), admitted(&told).len()),
        (Some(3), 0),
        "its writer tells those who are nowhere"
    );
    assert_eq!(one.lines.queues, other.lines.queues);
}

#[test]
fn a_store_that_is_away_loses_no_command_and_doubles_none() {
    let (mut one, mut history) = (Instance::new(1), history());
    one.operate(&mut history, Some(open(Inlet::Manual)));
    one.up = false;
    assert_eq!(one.join(&mut history, "ann", 1).len(), 0);
    one.up = true;
    let told = one.pass(&mut history, Duration::from_millis(100), true);
    assert_eq!(ticket(&told), Some(Ticket::Place(1)));
    assert_eq!(one.lines.queues.get("e").unwrap().stats().total, 1);
}

#[test]
fn an_answer_that_was_lost_is_found_in_the_log() {
    let (mut one, mut history) = (Instance::new(1), history());
    one.operate(&mut history, Some(open(Inlet::Manual)));
    let mut out = Vec::new();
    let join = Input::Join { holder: "u:ann".into(), place_token: None, asked: asked(1) };
    one.lines.handle(one.now, join, &mut out);
    one.lines.flush(one.now, &mut out);
    let Some(Output::Ask { ticket: lost, ask: ask @ Ask::Append(_) }) = out.pop() else {
        panic!("nothing is written")
    };
    history.answer(one.now, ask);
    one.turn(&mut history, Input::Answered { ticket: lost, answer: Answer::Failed(Failure::Unavailable) });
    let told = one.pass(&mut history, Duration::from_millis(100), true);
    assert_eq!(ticket(&told), Some(Ticket::Place(1)));
    assert_eq!(history.entry_count(), 2);
}

#[test]
fn the_inlet_runs_by_the_ticks_of_one_instance_and_of_another_when_it_is_late() {
    let (mut one, mut other, mut history) = (Instance::new(1), Instance::new(2), history());
    one.operate(&mut history, Some(open(Inlet::PerMinute(60))));
    (1..=9).for_each(|slot| drop(one.join(&mut history, &slot.to_string(), slot)));
    other.operate(&mut history, None);
    let before = history.entry_count();
    one.pass(&mut history, Duration::from_millis(1_100), false);
    assert_eq!(history.entry_count(), before, "somebody else moves it");
    let told = one.pass(&mut history, Duration::ZERO, true);
    assert_eq!(admitted(&told).len(), 1);
    let told = other.pass(&mut history, Duration::from_secs(4), false);
    assert!(!admitted(&told).is_empty(), "nobody does");
}

#[test]
fn who_comes_and_goes_is_written_once_and_a_seat_that_nobody_takes_is_given_up() {
    let (mut one, mut history) = (Instance::new(1), history());
    one.operate(&mut history, Some(open(Inlet::Manual)));
    one.join(&mut history, "ann", 1);
    one.join(&mut history, "bob", 2);
    let entries = history.entry_count();
    let waiting = |connections| Input::Waiting {
        shard: ShardId(0),
        event_id: "e".into(),
        holder: "u:ann".into(),
        connections,
    };
    one.turn(&mut history, waiting(1));
    one.turn(&mut history, waiting(2));
    assert_eq!(history.entry_count(), entries, "the join says it");
    one.turn(&mut history, waiting(0));
    assert_eq!(history.entry_count(), entries + 1);
    one.turn(&mut history, waiting(1));
    one.pass(&mut history, Duration::from_secs(11), false);
    one.pass(&mut history, Duration::from_secs(121), true);
    let stats = one.lines.queues.get("e").unwrap().stats();
    assert_eq!((stats.waiting, stats.departed), (1, 1), "bob never came into it");
}

#[test]
fn shards_are_told_differences_that_join() {
    let (mut one, mut history) = (Instance::new(1), history());
    let told = one.operate(&mut history, Some(open(Inlet::Manual)));
    let of = |told: &[Output]| {
        told.iter().find_map(|output| match output {
            Output::Line { shard, update } => Some((*shard, Arc::clone(update))),
            _ => None,
        })
    };
    let (_, first) = of(&told).expect("news");
    assert_eq!((first.after, &first.state), (None, &LineState::Open));
    one.join(&mut history, "ann", 1);
    let (shard, second) = of(&one.operate(&mut history, Some(Command::Advance { to: 1 }))).expect("news");
    assert_eq!((shard, second.after, second.serving), (None, Some(first.sequence), 1));
    let lost = one.turn(&mut history, Input::Lost { shard: ShardId(3), event_id: "e".into() });
    let (shard, whole) = of(&lost).expect("news");
    assert_eq!((shard, whole.after, whole.sequence), (Some(ShardId(3)), None, second.sequence));
}

#[test]
fn shards_are_told_once_a_second_how_long_a_line_is_that_does_not_move() {
    let (mut one, mut history) = (Instance::new(1), history());
    let lengths = |told: Vec<Output>| -> Vec<(Option<u64>, u64, u32)> {
        let lengths = told.into_iter().filter_map(|output| match output {
            Output::Line { shard: None, update } => Some((update.after, update.sequence, update.total)),
            _ => None,
        });
        lengths.collect()
    };
    let opened = lengths(one.operate(&mut history, Some(open(Inlet::Manual))));
    let [(None, sequence, 0)] = opened[..] else { panic!("{opened:?}") };
    let pass =
        |one: &mut Instance, history: &mut History| lengths(one.pass(history, Duration::from_secs(1), false));
    for total in [2, 4] {
        (total - 1..=total).for_each(|slot| drop(one.join(&mut history, &slot.to_string(), slot)));
        assert_eq!(pass(&mut one, &mut history), [(Some(sequence), sequence, total)]);
        assert_eq!(pass(&mut one, &mut history), [], "nobody came");
    }
}

/// The newest entry of the log, as it is published.
fn newest(history: &mut History, now: Now) -> Arc<Event> {
    let stream: Arc<str> = "queue:e".into();
    let Answer::Head(head) = history.answer(now, Ask::Head { stream: Arc::clone(&stream), known: None })
    else {
        panic!("no head")
    };
    let ask = Ask::Read { stream, epoch: head.epoch, after: head.offset - 1, count_max: 1 };
    let Answer::Page(Page { events: Some(mut events), .. }) = history.answer(now, ask) else {
        panic!("no page")
    };
    events.pop().expect("an entry")
}

#[test]
fn what_another_instance_publishes_is_applied_without_a_question() {
    let (mut one, mut other, mut history) = (Instance::new(1), Instance::new(2), history());
    let told = one.operate(&mut history, Some(open(Inlet::Manual)));
    assert!(
        told.iter().any(|output| matches!(output, Output::Interest { on: true, .. })),
        "it wants to hear"
    );
    (1..=3).for_each(|slot| drop(one.join(&mut history, &slot.to_string(), slot)));
    other.operate(&mut history, None);
    let asked = other.asked;
    one.operate(&mut history, Some(Command::Advance { to: 1 }));
    let entry = newest(&mut history, one.now);
    let told = other.turn(&mut history, Input::Stored(Arc::clone(&entry)));
    assert_eq!((serving(&told), other.asked), (Some(1), asked));
    let again = other.turn(&mut history, Input::Stored(entry));
    assert_eq!((again.len(), other.asked), (0, asked), "an entry that was applied is nothing new");
    // One that was missed is read.
    one.operate(&mut history, Some(Command::Advance { to: 2 }));
    one.operate(&mut history, Some(Command::Advance { to: 3 }));
    let entry = newest(&mut history, one.now);
    let told = other.turn(&mut history, Input::Stored(entry));
    assert_eq!((serving(&told), other.asked), (Some(2), asked + 1));
    assert_eq!(one.lines.queues, other.lines.queues);
}

#[test]
fn a_look_is_as_new_as_what_was_stored_and_writes_nothing() {
    let (mut one, mut other, mut history) = (Instance::new(1), Instance::new(2), history());
    one.operate(&mut history, Some(open(Inlet::Manual)));
    other.operate(&mut history, None);
    one.join(&mut history, "ann", 1);
    let entries = history.entry_count();
    let told = other.operate(&mut history, None);
    assert!(told.iter().any(
        |output| matches!(output, Output::Operated { result: Ok(view), .. } if view.stats.waiting == 1)
    ));
    assert_eq!(history.entry_count(), entries);
    other.up = false;
    let told = other.operate(&mut history, None);
    assert!(matches!(told[..], [Output::Operated { result: Err(Denied::Unwritable), .. }]), "{told:?}");
}

#[test]
fn who_was_connected_to_an_instance_that_died_is_away_and_who_lives_says_so_again() {
    let (mut one, mut other, mut history) = (Instance::new(1), Instance::new(2), history());
    one.operate(&mut history, Some(open(Inlet::Manual)));
    for (instance, user, slot) in [(&mut one, "ann", 1), (&mut other, "bob", 2)] {
        instance.join(&mut history, user, slot);
        let holder = format!("u:{user}").into();
        let (shard, event_id) = (ShardId(0), "e".into());
        instance.turn(&mut history, Input::Waiting { shard, event_id, holder, connections: 1 });
    }
    one.others.clear();
    let mut pass = |one: &mut Instance, seconds| {
        one.pass(&mut history, Duration::from_secs(seconds), true);
        one.lines.queues.get("e").map(|queue| (queue.instances().count(), queue.stats().departed))
    };
    // It reads the log at the first look, and misses the other from then on.
    pass(&mut one, 10);
    pass(&mut one, 1);
    assert_eq!(pass(&mut one, 9), Some((2, 0)), "it may only be late");
    assert_eq!(pass(&mut one, 2), Some((1, 0)));
    assert_eq!(pass(&mut one, 121), Some((1, 1)), "the grace is over");
    // It was not dead.
    other.now = one.now;
    other.turn(&mut history, Input::Subscribed { event_id: "e".into() });
    one.turn(&mut history, Input::Subscribed { event_id: "e".into() });
    let queue = one.lines.queues.get("e").expect("the queue");
    assert_eq!(queue.instances().count(), 2, "bob is here");
}

#[test]
fn a_queue_that_is_sold_out_or_closed_is_forgotten_with_its_log_a_day_later() {
    for end in [Command::SellOut, Command::Close] {
        let (mut one, mut other, mut history) = (Instance::new(1), Instance::new(2), history());
        one.operate(&mut history, Some(open(Inlet::Manual)));
        one.operate(&mut history, Some(end));
        other.operate(&mut history, None);
        let day = Duration::from_secs(24 * 3_600);
        one.pass(&mut history, day - Duration::from_secs(1), true);
        assert_eq!(denial(&one.join(&mut history, "ann", 1)), Some(LineDenial::Over));
        one.pass(&mut history, Duration::from_secs(1), true);
        assert_eq!((one.lines.rooms.len(), history.entry_count()), (0, 0));
        // Whoever is a little behind finds no log, and needs none.
        other.pass(&mut history, day - Duration::from_secs(1), false);
        assert_eq!((other.lines.rooms.len(), other.lines.lost_count()), (0, 0));
        assert_eq!(denial(&other.join(&mut history, "ann", 1)), Some(LineDenial::Unknown));
        one.operate(&mut history, Some(open(Inlet::Manual)));
        assert_eq!(ticket(&one.join(&mut history, "ann", 1)), Some(Ticket::Place(1)));
    }
}

#[test]
fn the_leader_alone_writes_once_that_what_sells_is_down_or_up_again() {
    let (mut one, mut history) = (Instance::new(1), history());
    one.operate(&mut history, Some(open(Inlet::Inside(1))));
    let second = Duration::from_secs(1);
    let states = |told: Vec<Output>| -> Vec<LineState> {
        let states = told.into_iter().filter_map(|output| match output {
            Output::Line { update, .. } => Some(update.state.clone()),
            _ => None,
        });
        states.collect()
    };
    one.target = Target::Down;
    assert_eq!(states(one.pass(&mut history, second, false)), []);
    one.up = false;
    assert_eq!(states(one.pass(&mut history, second, true)), []);
    one.up = true;
    let told = states(one.pass(&mut history, second, true));
    assert!(matches!(told[..], [LineState::Paused { .. }]), "{told:?}");
    one.join(&mut history, "ann", 1);
    one.pass(&mut history, second, true);
    let entries = history.entry_count();
    for target in [Target::Down, Target::Unknown] {
        one.target = target;
        assert_eq!(states(one.pass(&mut history, second, true)), []);
    }
    assert_eq!(history.entry_count(), entries, "nothing is written twice");
    one.target = Target::Ready;
    let told = one.pass(&mut history, second, true);
    assert_eq!((admitted(&told), states(told).pop()), (vec!["u:ann".into()], Some(LineState::Open)));
}
