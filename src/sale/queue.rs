//! One waiting room: what the commands of its log make of it.
//!
//! Owns places, who holds them, who is here, the serving number, passes and the books. Never decides outside of
//! [`Queue::apply`], never reads a clock: time is the latest that a command brought, so it never goes back, and whatever
//! is due by then happens before the command. Invariants: a number is given once; what stands in the line is above
//! `serving`; `departures` only grows; admitted = holding a pass + inside + expired + completed + abandoned.
//! Talks to its driver by [`Effect`]s, to shards by [`crate::line::LineUpdate`].
//!
//! Before the opening `places` is in the order of joining and nobody knows a number; the opening sorts it once, and from
//! then on a place's number is its index and 1.

mod admission;
mod effect;
mod opening;
mod presence;
mod reading;
mod repeated;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

pub use effect::{Effect, Refusal};
pub use reading::{Mark, Pauses, Seat, Stats};

use crate::{
    limits::{PLACES_PER_HOLDER_MAX, RETURNS_PER_HOLDER_MAX},
    sale::{
        command::{Command, Terms},
        holders::Holders,
        inlet::{Bucket, Inlet},
        pace::History,
        place::{Ending, Person, Place, State},
        standing::Standing,
    },
};

/// How far a queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Joining makes no order.
    Before,
    Open,
    SoldOut,
    Closed,
}

/// A waiting room.
#[derive(Debug, PartialEq)]
pub struct Queue {
    event_id: Arc<str>,
    terms: Terms,
    /// The time of its first command, wall ms; `0`: there was none.
    began_ms: u64,
    /// The latest time that a command brought, wall ms.
    at_ms: u64,
    phase: Phase,
    /// There is an order: places have numbers. A queue may be closed without one.
    opened: bool,
    /// By an operator; `None`: it is not.
    paused: Option<Arc<str>>,
    /// Why what sells takes nobody; `None`: it does.
    target_down: Option<Arc<str>>,
    holders: Holders,
    /// By the id of the name.
    people: Vec<Person>,
    /// By number - 1.
    places: Vec<Place>,
    /// Names of instances by bit; `None`: the bit is free.
    instances: Vec<Option<Box<str>>>,
    /// The line: places above `serving` that wait and have not departed. Empty before the opening.
    line: Standing,
    /// Places that count for nobody, whose holders came back after departing, and are here, or away for less than the grace.
    /// They go first, by number.
    late: BTreeSet<u32>,
    /// Places that left the line by departing or leaving, in the order in which they did.
    departures: Vec<u32>,
    /// The numbers that the opening gave, in the order of joining; 0: left before. Empty before it.
    draw: Arc<[u32]>,
    /// How often the line became another.
    moves: u64,
    /// Keys of calls that let people in: how many, and when, wall ms; those that are too old go with the next.
    keys: VecDeque<(Box<str>, u32, u64)>,
    /// When it was sold out or closed, the latest of them; `0`: never.
    over_at_ms: u64,
    serving: u32,
    /// When `serving` rose; `0`: never.
    moved_at_ms: u64,
    /// What ends by itself, and when: exactly the places whose `due_ms` is not 0.
    due: BTreeSet<(u64, u32)>,
    /// Until when the pass of somebody inside can be checked, wall ms, by number.
    used: BTreeMap<u32, u64>,
    bucket: Bucket,
    history: History,
    books: Books,
}

/// Places by state, and what became of those admitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Books {
    waiting: u32,
    departed: u32,
    holding: u32,
    inside: u32,
    left: u32,
    expired: u32,
    completed: u32,
    abandoned: u32,
    /// Everybody who ever got a pass.
    admitted: u32,
}

impl Queue {
    /// A queue that opens by its terms, which are valid ([`Terms::is_valid`]).
    pub fn new(event_id: Arc<str>, terms: Terms) -> Self {
        Self {
            event_id,
            terms,
            began_ms: 0,
            at_ms: 0,
            phase: Phase::Before,
            opened: false,
            paused: None,
            target_down: None,
            holders: Holders::default(),
            people: Vec::new(),
            places: Vec::new(),
            instances: Vec::new(),
            line: Standing::default(),
            late: BTreeSet::new(),
            departures: Vec::new(),
            draw: [].into(),
            moves: 0,
            keys: VecDeque::new(),
            over_at_ms: 0,
            serving: 0,
            moved_at_ms: 0,
            due: BTreeSet::new(),
            used: BTreeMap::new(),
            bucket: Bucket::default(),
            history: History::default(),
            books: Books::default(),
        }
    }

    /// Applies the next command of the log. `at_ms` is its writer's clock; earlier than the queue's it changes nothing.
    pub fn apply(&mut self, at_ms: u64, command: &Command, out: &mut Vec<Effect>) {
        let first = out.len();
        let before = (self.serving, self.departures.len(), self.phase);
        if self.began_ms == 0 {
            self.began_ms = at_ms;
        }
        self.at_ms = self.at_ms.max(at_ms);
        self.fall_due(out);
        self.obey(command, out);
        self.let_in(out);
        let has_moved = before != (self.serving, self.departures.len(), self.phase);
        if has_moved && out.last() != Some(&Effect::Moved) {
            out.push(Effect::Moved);
        }
        self.moves += u64::from(out[first..].contains(&Effect::Moved));
    }

    fn obey(&mut self, command: &Command, out: &mut Vec<Effect>) {
        match command {
            Command::Open(terms) => self.settle(terms, out),
            Command::Tick => {}
            Command::Join { holder, instance } => self.join(holder, instance, out),
            Command::Leave { holder } => self.leave(holder, out),
            Command::Here { holder, instance } => self.here(holder, instance, out),
            Command::Away { holder, instance } => self.away(holder, instance),
            Command::InstanceGone { instance } => self.instance_gone(instance),
            Command::Advance { to } => self.advance(*to, out),
            Command::AdmitNext { count, key } => self.admit_once(*count, key.as_deref(), out),
            Command::Claim { holder, place } => self.claim(holder, *place, out),
            Command::Complete { holder, place } => self.finish(holder, *place, Ending::Completed, out),
            Command::Abandon { holder, place } => self.finish(holder, *place, Ending::Abandoned, out),
            Command::Pause { reason } => self.pause(reason, out),
            Command::Resume => self.change_pause(|queue| queue.paused = None, out),
            Command::TargetDown { reason } if !self.is_over() => {
                self.change_pause(|queue| queue.target_down = Some((**reason).into()), out);
            }
            Command::TargetDown { .. } => {}
            Command::TargetUp => self.change_pause(|queue| queue.target_down = None, out),
            Command::SellOut => self.close(Phase::SoldOut, out),
            Command::Reopen => self.reopen(out),
            Command::Close => self.close(Phase::Closed, out),
        }
    }

    /// Everything that the time brought about, in its order.
    fn fall_due(&mut self, out: &mut Vec<Effect>) {
        loop {
            let due = self.due.first().copied().filter(|(due_ms, _)| *due_ms <= self.at_ms);
            let opens = self.phase == Phase::Before && self.terms.opens_at_ms <= self.at_ms;
            match due {
                Some((due_ms, number)) if !opens || due_ms < self.terms.opens_at_ms => {
                    self.end_state(number, out)
                }
                _ if opens => self.open(out),
                _ => break,
            }
        }
    }

    /// The state of a place ends by itself.
    fn end_state(&mut self, number: u32, out: &mut Vec<Effect>) {
        match self.state(number) {
            // Once more, where it was back.
            State::Waiting | State::Departed => self.depart(number),
            State::Admitted => self.end(number, Ending::Expired, out),
            State::Inside => self.end(number, Ending::Abandoned, out),
            State::Gone(_) => self.set_due(number, 0),
        }
    }

    fn settle(&mut self, terms: &Terms, out: &mut Vec<Effect>) {
        if self.is_over() {
            return out.push(Effect::operator_refused(self.over()));
        }
        if terms.seed != self.terms.seed && !terms.made {
            return out.push(Effect::operator_refused(Refusal::SeedIsSettled));
        }
        if !terms.is_valid() {
            return out.push(Effect::operator_refused(Refusal::Terms));
        }
        self.fill_bucket();
        let Terms { opens_at_ms, opens_in_ms, .. } = self.terms;
        self.terms = self.terms.changed(terms, self.at_ms);
        if self.phase == Phase::Before {
            self.fall_due(out);
        } else {
            (self.terms.opens_at_ms, self.terms.opens_in_ms) = (opens_at_ms, opens_in_ms);
        }
        out.push(Effect::Moved);
    }

    fn pause(&mut self, reason: &str, out: &mut Vec<Effect>) {
        if self.is_over() {
            return out.push(Effect::operator_refused(self.over()));
        }
        self.change_pause(|queue| queue.paused = Some(reason.into()), out);
    }

    /// Changes why nobody is let in by itself, and tells it where that makes a difference.
    fn change_pause(&mut self, change: impl FnOnce(&mut Self), out: &mut Vec<Effect>) {
        self.fill_bucket();
        let before = self.pause_reason().cloned();
        change(self);
        match self.pause_reason().cloned() {
            after if after == before => return,
            Some(reason) => out.push(Effect::Paused { reason }),
            None => {
                self.history.start(self.at_ms);
                out.push(Effect::Resumed);
            }
        }
        out.push(Effect::Moved);
    }

    /// Why nobody is let in by itself; an operator's word goes before, and people whom operators let in wait for no target.
    fn pause_reason(&self) -> Option<&Arc<str>> {
        self.paused.as_ref().or_else(|| self.target_reason())
    }

    fn target_reason(&self) -> Option<&Arc<str>> {
        let waits = self.phase == Phase::Open && self.terms.inlet != Inlet::Manual;
        self.target_down.as_ref().filter(|_| waits)
    }

    /// Closing what is sold out is a step further.
    fn close(&mut self, phase: Phase, out: &mut Vec<Effect>) {
        if self.phase == Phase::Closed || self.phase == phase {
            return;
        }
        self.phase = phase;
        self.over_at_ms = self.at_ms;
        out.push(if phase == Phase::SoldOut { Effect::SoldOut } else { Effect::Closed });
    }

    /// The line goes on as it stands, without those who would have been let in meanwhile. Nothing leads back from closed.
    fn reopen(&mut self, out: &mut Vec<Effect>) {
        match self.phase {
            Phase::Before | Phase::Open => {}
            Phase::Closed => out.push(Effect::operator_refused(Refusal::Closed)),
            Phase::SoldOut => {
                self.fill_bucket();
                self.history.start(self.at_ms);
                self.phase = if self.opened { Phase::Open } else { Phase::Before };
                self.fall_due(out);
            }
        }
    }

    fn join(&mut self, holder: &str, instance: &str, out: &mut Vec<Effect>) {
        if let Err(refusal) = self.try_join(holder, instance, out) {
            out.push(Effect::Refused { holder: Some(holder.into()), refusal });
        }
    }

    fn try_join(&mut self, holder: &str, instance: &str, out: &mut Vec<Effect>) -> Result<(), Refusal> {
        let bit = self.bit_of(instance)?;
        let known = self.holders.find(holder);
        let live = known.and_then(|id| self.place_of(id)).filter(|number| self.state(*number).is_live());
        if let (Some(id), Some(number)) = (known, live) {
            self.arrive(id, bit);
            out.push(Effect::Placed { holder: holder.into(), number: self.told(number), again: true });
            return Ok(());
        }
        if self.is_over() {
            return Err(self.over());
        }
        let (id, number) = match known {
            // Leaving the pre-queue and coming back is nothing: the order does not depend on when one came.
            Some(id) if self.phase == Phase::Before => {
                let person = &mut self.people[id as usize];
                if person.returns >= RETURNS_PER_HOLDER_MAX {
                    return Err(Refusal::TooManyPlaces);
                }
                person.returns += 1;
                let number = person.number;
                self.set_state(number, State::Waiting);
                (id, number)
            }
            _ => self.add_place(holder, known)?,
        };
        self.arrive(id, bit);
        out.push(Effect::Placed { holder: holder.into(), number: self.told(number), again: false });
        Ok(())
    }

    fn add_place(&mut self, holder: &str, known: Option<u32>) -> Result<(u32, u32), Refusal> {
        if self.places.len() >= self.terms.places_max as usize {
            return Err(Refusal::Full);
        }
        let number = self.places.len() as u32 + 1;
        let id = match known {
            Some(id) => {
                let person = &mut self.people[id as usize];
                if person.places >= PLACES_PER_HOLDER_MAX {
                    return Err(Refusal::TooManyPlaces);
                }
                person.places += 1;
                person.number = number;
                id
            }
            None => {
                self.people.push(Person { here: 0, number, places: 1, returns: 0 });
                self.holders.add(holder)
            }
        };
        self.places.push(Place { due_ms: 0, person: id, state: State::Waiting });
        self.books.waiting += 1;
        if self.phase == Phase::Open {
            self.line.push(true);
        }
        Ok((id, number))
    }

    fn leave(&mut self, holder: &str, out: &mut Vec<Effect>) {
        let Some(number) = self.number_of(holder) else {
            return out.push(Effect::Refused { holder: Some(holder.into()), refusal: Refusal::NoPlace });
        };
        match self.state(number) {
            State::Waiting | State::Departed => self.end(number, Ending::Left, out),
            State::Admitted | State::Inside => self.end(number, Ending::Abandoned, out),
            State::Gone(ending) => out.push(self.ended(number, ending)),
        }
    }

    /// Nobody is admitted any more.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::SoldOut | Phase::Closed)
    }

    fn over(&self) -> Refusal {
        if self.phase == Phase::SoldOut { Refusal::SoldOut } else { Refusal::Closed }
    }

    /// The newest place of somebody; `None`: left before the opening, and got no number.
    fn place_of(&self, id: u32) -> Option<u32> {
        Some(self.people[id as usize].number).filter(|number| *number != 0)
    }

    fn state(&self, number: u32) -> State {
        self.places[number as usize - 1].state
    }

    /// Changes the state, and the books with it.
    fn set_state(&mut self, number: u32, state: State) {
        let place = &mut self.places[number as usize - 1];
        *self.books.of(place.state) -= 1;
        *self.books.of(state) += 1;
        place.state = state;
    }

    /// `0`: its state does not end by itself.
    fn set_due(&mut self, number: u32, due_ms: u64) {
        let place = &mut self.places[number as usize - 1];
        if place.due_ms != 0 {
            self.due.remove(&(place.due_ms, number));
        }
        place.due_ms = due_ms;
        if due_ms != 0 {
            self.due.insert((due_ms, number));
        }
    }

    fn holder_of(&self, number: u32) -> Arc<str> {
        self.holders.name(self.places[number as usize - 1].person).into()
    }

    fn ended(&self, number: u32, ending: Ending) -> Effect {
        Effect::Ended { holder: self.holder_of(number), number: self.told(number), ending }
    }
}

impl Books {
    fn of(&mut self, state: State) -> &mut u32 {
        match state {
            State::Waiting => &mut self.waiting,
            State::Departed => &mut self.departed,
            State::Admitted => &mut self.holding,
            State::Inside => &mut self.inside,
            State::Gone(Ending::Left) => &mut self.left,
            State::Gone(Ending::Expired) => &mut self.expired,
            State::Gone(Ending::Completed) => &mut self.completed,
            State::Gone(Ending::Abandoned) => &mut self.abandoned,
        }
    }
}
