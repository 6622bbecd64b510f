//! What holds whatever happens, in random order: against the model, over replicas, from step to step.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    OPENS_MS,
    dice::Rng,
    model::{Model, News},
};
use crate::{
    line::LineUpdate,
    sale::{
        command::{Command, Entry, Terms},
        inlet::Inlet,
        place::{Ending, State},
        queue::{Effect, Mark, Queue, Stats},
        queues::Queues,
    },
};

const HOLDERS: usize = 24;
const SEEDS: u64 = 250;
const STEPS: usize = 300;

fn holder(dice: &mut Rng) -> Box<str> {
    format!("u:{}", dice.below(HOLDERS)).into()
}

fn instance(dice: &mut Rng) -> Box<str> {
    (*dice.pick(&["a", "b", "c"])).into()
}

fn inlet(dice: &mut Rng) -> Inlet {
    let count = dice.below(100) as u32 + 1;
    *dice.pick(&[Inlet::Manual, Inlet::PerMinute(count), Inlet::Inside(count % 7 + 1)])
}

fn terms(dice: &mut Rng) -> Terms {
    Terms {
        salts: [0; 32],
        made: false,
        opens_in_ms: 0,
        kept: Vec::new(),
        opens_at_ms: OPENS_MS + dice.below(20_000) as u64,
        seed: [dice.below(3) as u8; 32],
        inlet: inlet(dice),
        claim_ms: 1 + dice.below(20_000) as u64,
        grace_ms: 1 + dice.below(20_000) as u64,
        stay_ms: (dice.below(3) * 10_000) as u64,
        places_max: *dice.pick(&[10, 60, 1_000]),
    }
}

/// Most calls name none.
fn place(dice: &mut Rng) -> Option<u32> {
    (dice.below(4) == 0).then(|| 1 + dice.below(20) as u32)
}

fn command(dice: &mut Rng, terms: &Terms) -> Command {
    match dice.below(100) {
        0..30 => Command::Join { holder: holder(dice), instance: instance(dice) },
        30..35 => Command::Leave { holder: holder(dice) },
        35..47 => Command::Here { holder: holder(dice), instance: instance(dice) },
        47..62 => Command::Away { holder: holder(dice), instance: instance(dice) },
        62..64 => Command::InstanceGone { instance: instance(dice) },
        64..67 => Command::Advance { to: dice.below(40) as u32 },
        67..71 => Command::AdmitNext { count: dice.below(4) as u32, key: None },
        71..79 => Command::Claim { holder: holder(dice), place: place(dice) },
        79..83 => Command::Complete { holder: holder(dice), place: place(dice) },
        83..86 => Command::Abandon { holder: holder(dice), place: place(dice) },
        86..88 => Command::Pause { reason: "busy".into() },
        88..92 => Command::Resume,
        92 => {
            let inlet = inlet(dice);
            Command::Open(Box::new(Terms { inlet, ..terms.clone() }))
        }
        95 => Command::TargetDown { reason: "full".into() },
        96..98 => Command::TargetUp,
        93 if dice.below(40) == 0 => Command::SellOut,
        94 if dice.below(40) == 0 => Command::Close,
        94 if dice.below(4) == 0 => Command::Reopen,
        _ => Command::Tick,
    }
}

/// Clocks of writers: forward, mostly, and sometimes behind each other.
fn time(dice: &mut Rng, at_ms: u64) -> u64 {
    match dice.below(12) {
        0 => at_ms.saturating_sub(dice.below(5_000) as u64),
        1 => at_ms + dice.below(15_000) as u64,
        2..6 => at_ms,
        _ => at_ms + dice.below(1_000) as u64,
    }
}

/// A history: its terms, and commands with the clocks of their writers.
fn history(seed: u64) -> (Terms, Vec<(u64, Command)>) {
    let mut dice = Rng::new(seed);
    let terms = terms(&mut dice);
    let mut at_ms = OPENS_MS - 10_000;
    let commands = (0..STEPS).map(|_| {
        at_ms = time(&mut dice, at_ms);
        (at_ms, command(&mut dice, &terms))
    });
    let commands = commands.collect();
    (terms, commands)
}

/// Plays every history; `check` sees the queue after each step, with the step's effects.
fn play<T>(
    mut begin: impl FnMut(&Terms) -> T,
    mut check: impl FnMut(&mut T, &Queue, &(u64, Command), &[Effect]),
) {
    for seed in 0..SEEDS {
        let (terms, commands) = history(seed);
        let mut queue = Queue::new("e".into(), terms.clone());
        let mut watch = begin(&terms);
        let mut out = Vec::new();
        for step in &commands {
            // Which history it was stands in the panic's output.
            queue.apply(step.0, &step.1, &mut out);
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                check(&mut watch, &queue, step, &out);
            }));
            assert!(checked.is_ok(), "seed {seed}, {step:?}, {out:?}");
            out.clear();
        }
    }
}

fn names() -> impl Iterator<Item = String> {
    (0..HOLDERS).map(|index| format!("u:{index}"))
}

#[test]
fn the_queue_is_what_the_plain_model_is() {
    play(
        |terms| Model::new(terms.clone()),
        |model, queue, (at_ms, command), effects| {
            let expected = model.apply(*at_ms, command);
            let news = effects.iter().filter_map(|effect| match effect {
                Effect::Admitted { holder, number, claim_until_ms } => {
                    Some(News::Admitted(holder.to_string(), *number, *claim_until_ms))
                }
                Effect::Ended { holder, number, ending } => {
                    Some(News::Ended(holder.to_string(), *number, *ending))
                }
                _ => None,
            });
            assert_eq!(news.collect::<Vec<_>>(), expected);
            assert_eq!(queue.serving(), model.serving);
            assert_eq!(queue.stats(), books_of(model));
            for name in names() {
                let seat = queue.seat(&name).filter(|seat| seat.number.is_some() || seat.state.is_live());
                let place =
                    model.place(&name).filter(|index| model.opened || model.places[*index].state.is_live());
                assert_eq!(
                    seat.map(|seat| seat.state),
                    place.map(|index| model.places[index].state),
                    "{name}"
                );
                let (Some(seat), Some(index)) = (seat, place) else { continue };
                assert_eq!(seat.number, model.opened.then_some(index as u32 + 1), "{name}");
                if model.opened && matches!(seat.state, State::Waiting | State::Departed) {
                    assert_eq!(seat.ahead, model.ahead(index), "ahead of {name}");
                }
            }
        },
    );
}

fn books_of(model: &Model) -> Stats {
    Stats {
        total: model.places.len() as u32,
        waiting: model.count(State::Waiting),
        departed: model.count(State::Departed),
        left: model.count(State::Gone(Ending::Left)),
        admitted: model.admitted,
        holding: model.count(State::Admitted),
        inside: model.count(State::Inside),
        expired: model.count(State::Gone(Ending::Expired)),
        completed: model.count(State::Gone(Ending::Completed)),
        abandoned: model.count(State::Gone(Ending::Abandoned)),
    }
}

#[test]
fn what_is_said_to_change_nothing_changes_nothing_and_is_answered_alike() {
    let skipped = std::cell::Cell::new(0);
    play(
        |terms| Queue::new("e".into(), terms.clone()),
        |other, queue, (at_ms, command), effects| {
            let is_due = other.next_due_ms().is_some_and(|due_ms| due_ms <= other.at_ms().max(*at_ms));
            let answer = match command {
                Command::Join { holder, instance } => other.repeated_join(holder, instance),
                Command::Leave { holder } => other.repeated_leave(holder),
                _ => None,
            };
            let answer = answer.filter(|_| !is_due);
            other.apply(*at_ms, if answer.is_some() { &Command::Tick } else { command }, &mut Vec::new());
            if let Some(answer) = answer {
                skipped.set(skipped.get() + 1);
                let refusal = effects.iter().find_map(|effect| match effect {
                    Effect::Refused { refusal, .. } => Some(*refusal),
                    _ => None,
                });
                assert_eq!(answer.err(), refusal);
            }
            assert_eq!((other.line(None), other.stats()), (queue.line(None), queue.stats()));
            assert_eq!(other.next_due_ms(), queue.next_due_ms());
            names().for_each(|name| assert_eq!(other.seat(&name), queue.seat(&name)));
        },
    );
    assert!(skipped.get() > SEEDS * STEPS as u64 / 20, "{}", skipped.get());
}

#[test]
fn the_books_are_exact_at_every_step() {
    play(
        |_| (0, 0),
        |(admitted, at_ms), queue, (now_ms, _), effects| {
            let stats = queue.stats();
            let after = stats.holding + stats.inside + stats.expired + stats.completed + stats.abandoned;
            assert_eq!(stats.admitted, after);
            assert_eq!(stats.total, stats.waiting + stats.departed + stats.left + stats.admitted);
            *admitted += super::admitted(effects).len() as u32;
            assert_eq!(stats.admitted, *admitted, "as many as were told");
            assert!(queue.at_ms() >= *at_ms && queue.at_ms() >= *now_ms, "time never goes back");
            *at_ms = queue.at_ms();
        },
    );
}

#[test]
fn positions_never_get_worse_and_numbers_stay() {
    play(
        |_| (BTreeMap::<String, (u32, u32)>::new(), BTreeSet::<u32>::new()),
        |(seen, ended), queue, _, effects| {
            ended.extend(effects.iter().filter_map(|effect| match effect {
                Effect::Ended { number, .. } => *number,
                _ => None,
            }));
            for name in names() {
                let Some(seat) = queue.seat(&name) else { continue };
                let Some(number) = seat.number else { continue };
                let before = seen.insert(name.clone(), (number, seat.ahead));
                let Some((old, ahead)) = before else { continue };
                if number == old && matches!(seat.state, State::Waiting | State::Departed) {
                    assert!(seat.ahead <= ahead, "{name} had {ahead} ahead, and has {}", seat.ahead);
                }
                assert!(number == old || ended.contains(&old), "{name} had {old}, and has {number}");
            }
        },
    );
}

#[test]
fn no_place_is_there_twice_and_none_is_lost() {
    play(
        |_| (BTreeMap::<u32, String>::new(), BTreeSet::<u32>::new(), BTreeSet::<String>::new()),
        |(held, admitted, waiting), queue, _, effects| {
            for effect in effects {
                match effect {
                    Effect::Placed { holder, number: None, .. } => {
                        waiting.insert(holder.to_string());
                    }
                    Effect::Placed { holder, number: Some(number), .. } => {
                        waiting.remove(&**holder);
                        let before = held.insert(*number, holder.to_string());
                        assert!(before.is_none_or(|before| before == **holder), "{number} was given twice");
                    }
                    Effect::Ended { holder, number: None, .. } => {
                        waiting.remove(&**holder);
                    }
                    Effect::Admitted { number, .. } => assert!(admitted.insert(*number), "{number} twice"),
                    _ => {}
                }
            }
            let total = queue.stats().total as usize;
            if queue.mark().drawn && total > 0 {
                assert!(waiting.is_empty(), "everybody of the pre-queue got a number");
                assert!(held.keys().copied().eq(1..=total as u32), "all numbers, without a gap");
            }
            assert!(held.iter().all(|(number, name)| queue.holder(*number) == Some(name)));
            for name in names() {
                let numbers: Vec<u32> =
                    held.iter().filter(|(_, holder)| **holder == name).map(|(number, _)| *number).collect();
                if let Some(newest) = numbers.last() {
                    assert_eq!(queue.seat(&name).and_then(|seat| seat.number), Some(*newest), "{name}");
                }
            }
        },
    );
}

#[test]
fn an_inlet_lets_in_no_more_than_it_says() {
    play(
        |terms| (terms.inlet, Vec::<u64>::new(), 0_usize),
        |(inlet, by_rate, owed), queue, (_, command), effects| {
            if *inlet != queue.terms().inlet {
                *inlet = queue.terms().inlet;
                by_rate.clear();
            }
            let is_operator = matches!(command, Command::Advance { .. } | Command::AdmitNext { .. });
            let count = super::admitted(effects).len();
            match *inlet {
                Inlet::Inside(max) if count > 0 && !is_operator => {
                    assert!(queue.stats().holding + queue.stats().inside <= max);
                }
                Inlet::PerMinute(rate) => {
                    // Whoever holds a pass and does not use it is replaced, whoever let it in.
                    let gone = |effect: &&Effect| {
                        matches!(effect, Effect::Ended { ending: Ending::Expired | Ending::Abandoned, .. })
                    };
                    *owed += effects.iter().filter(gone).count();
                    if is_operator {
                        return;
                    }
                    let made_up = count.min(*owed);
                    *owed -= made_up;
                    let now_ms = queue.at_ms();
                    by_rate.extend(std::iter::repeat_n(now_ms, count - made_up));
                    for window_ms in [1_000, 10_000, 60_000] {
                        let recent = by_rate.iter().filter(|at_ms| **at_ms + window_ms > now_ms).count();
                        let saved = (rate as usize * 3).div_ceil(60).max(1);
                        let most = (rate as usize * window_ms as usize).div_ceil(60_000) + saved;
                        assert!(recent <= most, "{recent} in {window_ms} ms at {rate} a minute");
                    }
                }
                Inlet::Manual | Inlet::Inside(_) => {}
            }
        },
    );
}

#[test]
fn departures_only_grow() {
    play(
        |_| (0, BTreeSet::new()),
        |(known, departed), queue, _, _| {
            let line = queue.line(None);
            assert!(queue.mark().departures >= *known);
            *known = queue.mark().departures;
            let mut now = BTreeSet::new();
            line.departed.for_each(|number| {
                now.insert(number);
            });
            departed.retain(|number| *number > queue.serving());
            assert!(departed.is_subset(&now), "{departed:?} and now {now:?}");
            *departed = now;
        },
    );
}

#[test]
fn replicas_that_apply_the_same_log_are_equal_whatever_ticks_they_see_twice() {
    for seed in 0..SEEDS {
        let (terms, commands) = history(seed);
        let mut dice = Rng::new(!seed);
        let mut first = Queues::default();
        let mut second = Queues::default();
        let mut out: [Vec<Effect>; 2] = Default::default();
        let mut at_ms = 0;
        let begin = (commands[0].0, Command::Open(Box::new(terms)));
        for (command_at_ms, command) in std::iter::once(&begin).chain(&commands) {
            let entry = Entry::new(*command_at_ms, vec![command.clone()]);
            first.apply("e", &entry, |_, effect| out[0].push(effect));
            let read =
                Entry::decode(&entry.encode().expect("it is within the limits")).expect("it was written");
            second.apply("e", &read, |_, effect| out[1].push(effect));
            assert_eq!(out[0], out[1], "seed {seed}");
            at_ms = at_ms.max(*command_at_ms);
            let late_ms = at_ms - dice.below(30_000) as u64;
            for tick_ms in [at_ms, late_ms] {
                second.apply("e", &Entry::new(tick_ms, vec![Command::Tick]), |_, effect| {
                    panic!("seed {seed}: {effect:?} by a tick that was there before");
                });
            }
            assert!(first == second, "seed {seed}, {command:?}");
            out.iter_mut().for_each(Vec::clear);
        }
    }
}

#[test]
fn nothing_changes_before_it_is_due() {
    play(
        |_| Queues::default(),
        |_, queue, _, _| {
            let due_ms = queue.next_due_ms();
            assert!(due_ms.is_none_or(|due_ms| due_ms > queue.at_ms()), "{due_ms:?} is not later");
        },
    );
    for seed in 0..SEEDS {
        let (terms, commands) = history(seed);
        let mut queue = Queue::new("e".into(), terms);
        let mut out = Vec::new();
        for (at_ms, command) in &commands {
            let before = queue.next_due_ms();
            if let Some(due_ms) = before.filter(|due_ms| due_ms <= at_ms) {
                queue.apply(due_ms - 1, &Command::Tick, &mut out);
                assert!(out.is_empty(), "seed {seed}: {out:?} before {due_ms}");
            }
            queue.apply(*at_ms, command, &mut out);
            out.clear();
        }
    }
}

/// A line elsewhere, as plainly as it can be kept.
#[derive(Default)]
struct Replica {
    known: Option<Mark>,
    serving: u32,
    departed: BTreeSet<u32>,
}

impl Replica {
    fn catch_up(&mut self, queue: &Queue) {
        let LineUpdate { after, serving, departed, draw, .. } = queue.line(self.known);
        assert_eq!(after, self.known.map(|mark| mark.sequence));
        assert_eq!(draw.is_some(), queue.mark().drawn && self.known.is_none_or(|mark| !mark.drawn));
        departed.for_each(|number| self.departed.extend([number]));
        (self.serving, self.known) = (serving, Some(queue.mark()));
    }

    fn ahead(&self, number: u32) -> u32 {
        let between = self.serving + 1..number.max(self.serving + 1);
        (between.clone().count() - self.departed.range(between).count()) as u32
    }
}

#[test]
fn a_replica_of_the_line_knows_every_position_by_differences_and_from_scratch() {
    let mut dice = Rng::new(99);
    play(
        |_| Replica::default(),
        |replica, queue, _, _| {
            if !dice.one_in(3) {
                return;
            }
            let mut fresh = Replica::default();
            fresh.catch_up(queue);
            replica.catch_up(queue);
            let total = if queue.mark().drawn { queue.line(None).total } else { 0 };
            for number in queue.serving() + 1..=total {
                let aheads = (fresh.ahead(number), replica.ahead(number));
                assert_eq!(aheads, (queue.ahead(number), queue.ahead(number)), "of {number}");
            }
        },
    );
}
