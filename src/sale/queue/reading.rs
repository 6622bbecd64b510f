//! What can be asked of a queue.

use std::sync::Arc;

use crate::{
    line::{LinePace, LineState, LineUpdate, Places, Ticket},
    sale::{
        command::{Command, Terms},
        fair::Seed,
        inlet::Inlet,
        pace::pace_of_rate,
        place::State,
        queue::{Phase, Queue, Refusal},
    },
};

/// How much of a line somebody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Grows with every move of the line.
    pub sequence: u64,
    /// Places that had left the line by then.
    pub departures: u32,
    /// Whether there was an order by then.
    pub drawn: bool,
    /// Numbers that were given by then.
    pub total: u32,
}

/// Where a holder stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// `None`: before the opening.
    pub number: Option<u32>,
    /// Where its place is on its way.
    pub state: State,
    /// Who stands before it; `0` where there is no line to stand in.
    pub ahead: u32,
    /// When its pass expires, wall ms, whether it was used or not; `None`: it has none, or that is over.
    pub claim_until_ms: Option<u64>,
}

/// How many there are of what. `admitted = holding + inside + expired + completed + abandoned`, and
/// `total = waiting + departed + left + admitted`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Places, in the pre-queue or numbered.
    pub total: u32,
    /// In the line.
    pub waiting: u32,
    /// Away for longer than the grace, or back from there and not admitted yet.
    pub departed: u32,
    /// Gave up their places while waiting.
    pub left: u32,
    /// Ever got a pass.
    pub admitted: u32,
    /// Have a pass that is not used.
    pub holding: u32,
    /// Used their passes.
    pub inside: u32,
    /// Did not use their passes in time.
    pub expired: u32,
    /// Bought.
    pub completed: u32,
    /// Were admitted and gave up.
    pub abandoned: u32,
}

/// Why nobody is let in by itself; each is there while it is a reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pauses {
    /// An operator's.
    pub operator: Option<Arc<str>>,
    /// What sells takes nobody.
    pub target: Option<Arc<str>>,
}

impl Queue {
    /// Of what.
    pub fn event_id(&self) -> &Arc<str> {
        &self.event_id
    }

    /// As they are now. The seed is a secret until the opening.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// When it began, wall ms: names it among the queues that the event has one after the other.
    pub fn began_ms(&self) -> u64 {
        self.began_ms
    }

    /// The latest time that a command brought, wall ms.
    pub fn at_ms(&self) -> u64 {
        self.at_ms
    }

    /// The newest place of a holder, whatever became of it.
    pub fn seat(&self, holder: &str) -> Option<Seat> {
        let number = self.number_of(holder)?;
        let place = &self.places[number as usize - 1];
        let is_in_line = matches!(place.state, State::Waiting | State::Departed) && self.opened;
        Some(Seat {
            number: self.told(number),
            state: place.state,
            ahead: if is_in_line { self.ahead(number) } else { 0 },
            claim_until_ms: match place.state {
                State::Admitted => Some(place.due_ms),
                State::Inside => self.used.get(&number).copied().filter(|until_ms| *until_ms > self.at_ms),
                _ => None,
            },
        })
    }

    /// Who holds a numbered place.
    pub fn holder(&self, number: u32) -> Option<&str> {
        let place = self.places.get((number as usize).checked_sub(1)?)?;
        self.opened.then(|| self.holders.name(place.person))
    }

    /// How many stand before a number in the line.
    pub fn ahead(&self, number: u32) -> u32 {
        self.line.before(number)
    }

    /// The highest number that was served; `0`: none.
    pub fn serving(&self) -> u32 {
        self.serving
    }

    /// What keeps a queue that is not over from going on.
    pub fn pauses(&self) -> Pauses {
        if self.is_over() {
            return Pauses::default();
        }
        Pauses { operator: self.paused.clone(), target: self.target_reason().cloned() }
    }

    /// The books.
    pub fn stats(&self) -> Stats {
        let books = self.books;
        Stats {
            total: self.places.len() as u32,
            waiting: books.waiting,
            departed: books.departed,
            left: books.left,
            admitted: books.admitted,
            holding: books.holding,
            inside: books.inside,
            expired: books.expired,
            completed: books.completed,
            abandoned: books.abandoned,
        }
    }

    /// What there is to know of the line now.
    pub fn mark(&self) -> Mark {
        Mark {
            sequence: self.moves,
            departures: self.departures.len() as u32,
            drawn: self.opened,
            total: self.line.total(),
        }
    }

    /// The line, for whoever was told of it up to a mark of this queue; `None`: all of it.
    pub fn line(&self, since: Option<Mark>) -> LineUpdate {
        let first = since.map_or(0, |mark| mark.departures as usize);
        let departed = self.departures.get(first..).unwrap_or_default();
        let still_matter = departed.iter().copied().filter(|number| *number > self.serving);
        let drawn = self.opened && since.is_none_or(|mark| !mark.drawn);
        LineUpdate {
            event_id: Arc::clone(&self.event_id),
            epoch: 0,
            after: since.map(|mark| mark.sequence),
            sequence: self.moves,
            departed: Places::new(still_matter.collect()),
            serving: self.serving,
            total: if self.opened { self.line.total() } else { self.books.waiting },
            pace: self.pace(),
            moved_at_ms: self.moved_at_ms,
            state: self.line_state(),
            draw: drawn.then(|| Arc::clone(&self.draw)),
        }
    }

    /// Where the newest place of a holder is; `None`: it has none that is in the queue.
    pub fn ticket(&self, holder: &str) -> Option<Ticket> {
        let number = self.number_of(holder).filter(|number| self.state(*number).is_live())?;
        Some(if self.opened { Ticket::Place(number) } else { Ticket::Entry(number) })
    }

    /// Whether there were people to draw places for at the opening, or why there is no draw, nor will be before it opens.
    pub fn draw(&self) -> Result<(), Refusal> {
        match self.phase {
            _ if self.draw.iter().any(|place| *place != 0) => Ok(()),
            Phase::Before => Err(Refusal::NotOpen),
            Phase::Open | Phase::SoldOut | Phase::Closed => Err(Refusal::NotDrawn),
        }
    }

    /// Who was in the pre-queue when it opened, by place from 1.
    pub fn drawn(&self) -> Vec<Arc<str>> {
        let count = self.draw.iter().filter(|place| **place != 0).count() as u32;
        (1..=count).map(|number| self.holder_of(number)).collect()
    }

    /// What may be known of the seed: after the opening.
    pub fn revealed(&self) -> Option<Seed> {
        self.opened.then_some(self.terms.seed)
    }

    /// When it opens, wall ms; `None`: it has, or is over.
    pub fn opens_at_ms(&self) -> Option<u64> {
        (self.phase == Phase::Before).then_some(self.terms.opens_at_ms)
    }

    /// Instances that people are connected to.
    pub fn instances(&self) -> impl Iterator<Item = &str> {
        self.instances.iter().flatten().map(|name| &**name)
    }

    /// Since when it is sold out or closed, wall ms; `None`: it is neither.
    pub fn over_ms(&self) -> Option<u64> {
        self.is_over().then_some(self.over_at_ms)
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// When a [`Command::Tick`] will change something, wall ms; `None`: nothing is due.
    pub fn next_due_ms(&self) -> Option<u64> {
        let opening = self.opens_at_ms();
        let ending = self.due.first().map(|(due_ms, _)| *due_ms);
        let lets_in = self.phase == Phase::Open && self.pause_reason().is_none();
        let person = self.next_person().filter(|_| lets_in);
        let inlet = match self.terms.inlet {
            Inlet::PerMinute(count) => person.map(|_| self.bucket.next_ms(count)),
            Inlet::Manual | Inlet::Inside(_) => None,
        };
        [opening, ending, inlet].into_iter().flatten().min()
    }

    /// What the log is to be told of what sells, which takes nobody for a reason, or takes people; `None`: it is told.
    pub fn target_news(&self, down: Option<&str>) -> Option<Command> {
        match down {
            _ if self.is_over() || self.target_down.as_deref() == down => None,
            Some(reason) => Some(Command::TargetDown { reason: reason.into() }),
            None => Some(Command::TargetUp),
        }
    }

    pub(super) fn number_of(&self, holder: &str) -> Option<u32> {
        self.holders.find(holder).and_then(|id| self.place_of(id))
    }

    /// A number, once there is an order.
    pub(super) fn told(&self, number: u32) -> Option<u32> {
        self.opened.then_some(number)
    }

    fn pace(&self) -> Option<LinePace> {
        if self.phase != Phase::Open || self.pause_reason().is_some() {
            return None;
        }
        let inlet = match self.terms.inlet {
            Inlet::PerMinute(count) => Some(pace_of_rate(count)),
            Inlet::Manual | Inlet::Inside(_) => None,
        };
        // What was measured in the first moments is too slow, and a known rate says more.
        let known = inlet.filter(|_| !self.history.is_grown(self.at_ms));
        known.or_else(|| self.history.pace(self.at_ms)).or(inlet)
    }

    fn line_state(&self) -> LineState {
        let opens_at_ms = (self.phase == Phase::Before).then_some(self.terms.opens_at_ms);
        match (self.phase, self.pause_reason()) {
            (Phase::SoldOut, _) => LineState::SoldOut,
            (Phase::Closed, _) => LineState::Closed,
            (_, Some(reason)) => LineState::Paused { reason: Arc::clone(reason), opens_at_ms },
            (Phase::Before, None) => LineState::Early { opens_at_ms },
            (Phase::Open, None) => LineState::Open,
        }
    }
}
