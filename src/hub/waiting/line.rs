//! One queue on one shard: the copy of its state, who waits here, and how far they were told.
//!
//! Owns the order of those who wait. Never writes to anybody: `sweep` does. Invariant: whoever waits here is in
//! `waiting` once, and in the group of the place's holder.

use std::{collections::BTreeMap, rc::Rc, sync::Arc};

use super::replica::{Applied, Replica};
use crate::{
    event::LatestKey,
    hub::{
        deadlines::{Span, Tick},
        frame::Frame,
        groups::Groups,
    },
    limits::LINE_PLACES_MAX,
    line::{LineState, LineUpdate, Ticket},
    wire::ticketing::Notice,
};

/// Where somebody stands, in the order of the sweep: places, then numbers of entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark(u32);

const EARLY: u32 = 1 << 31;
const _: () = assert!(LINE_PLACES_MAX < EARLY);

impl Mark {
    /// The first of those who have no place yet.
    pub(super) const FIRST_EARLY: Self = Self(EARLY);

    /// `None`: it is out of range.
    pub(super) fn new(ticket: Ticket) -> Option<Self> {
        let (number, flag) = match ticket {
            Ticket::Place(place) => (place, 0),
            Ticket::Entry(entry) => (entry, EARLY),
        };
        (1..=LINE_PLACES_MAX).contains(&number).then_some(Self(number | flag))
    }

    /// The one behind everybody with that place.
    pub(super) const fn after(place: u32) -> Self {
        Self(place + 1)
    }

    /// `None`: it has none yet.
    pub(super) fn place(self) -> Option<u32> {
        (self < Self::FIRST_EARLY).then_some(self.0)
    }
}

/// A connection that waits: where, and its slot.
pub(super) type Key = (Mark, u32);

/// What a connection was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) at: Tick,
    /// [`Replica::version`]; 0: nothing.
    pub(super) version: u32,
}

impl Shown {
    pub(super) const NOTHING: Self = Self { at: Tick(0), version: 0 };
}

/// Something for everybody who waits, at once.
#[derive(Debug)]
pub(super) struct Bulletin {
    /// The type of the message.
    pub(super) kind: &'static str,
    pub(super) frame: Rc<Frame>,
    /// Who is next.
    pub(super) from: Key,
}

/// A pass over those who wait, under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    /// Who is next.
    pub(super) from: Key,
    /// [`Replica::version`] when it began: whoever it passed knows no later one.
    pub(super) version: u32,
    /// When the first of those who were passed over is due; never: nobody was.
    pub(super) earliest: Tick,
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) replica: Replica,
    pub(super) waiting: BTreeMap<Key, Shown>,
    /// Connections by holder, and what control knows of them.
    pub(super) places: Groups,
    /// Whether control must be asked for a whole picture.
    pub(super) lost: bool,
    pub(super) bulletin: Option<Bulletin>,
    /// Everybody before it who is served was told.
    pub(super) served_from: Key,
    pub(super) pass: Option<Pass>,
    /// When the last pass began.
    pub(super) passed_at: Tick,
    /// When the sweep must come here next.
    pub(super) due: Tick,
    /// Of positions.
    pub(super) key: LatestKey,
    /// Of what a bulletin says.
    pub(super) state_key: LatestKey,
}

/// What people are told of a queue whose places nobody knows any more.
const LOST: &str = "the queue was lost";

/// In front of everybody.
pub(super) const FRONT: Key = (Mark(0), 0);

impl Line {
    pub(super) fn new(event_id: Arc<str>, seed: u64, keys: [LatestKey; 2]) -> Self {
        Self {
            replica: Replica::new(event_id),
            waiting: BTreeMap::new(),
            places: Groups::new(seed),
            lost: false,
            bulletin: None,
            served_from: FRONT,
            pass: None,
            passed_at: Tick(0),
            due: Tick::NEVER,
            key: keys[0],
            state_key: keys[1],
        }
    }

    /// Takes news; `pause` is the least time between the beginnings of two passes. The result says whether places were
    /// drawn, so that [`Line::take_drawn`] has something to give.
    pub(super) fn apply(&mut self, update: &LineUpdate, now: Tick, pause: Span) -> bool {
        let known = self.replica.version > 0;
        match self.replica.apply(update) {
            Applied::Old => false,
            Applied::Gap => {
                self.lost = true;
                false
            }
            Applied::New { before, drawn } => {
                if update.after.is_none() {
                    self.lost = false;
                }
                if before != self.replica.state || !known {
                    self.announce(&before, now);
                }
                if !self.waiting.is_empty() {
                    self.hurry(now, pause);
                }
                drawn
            }
        }
    }

    /// The message that tells the state to who comes, if it needs words beside the answer to the join.
    pub(super) fn state_notice(&self) -> Option<Notice<'_>> {
        self.state_words().map(|words| self.notice(words))
    }

    /// Type of the message and reason.
    fn state_words(&self) -> Option<(&'static str, Option<&str>)> {
        match &self.replica.state {
            LineState::Early { .. } | LineState::Open => None,
            LineState::Paused { reason, .. } => Some(("queue:paused", Some(reason))),
            LineState::SoldOut => Some(("queue:sold_out", None)),
            LineState::Closed => Some(("queue:closed", None)),
            LineState::Lost => Some(("queue:closed", Some(LOST))),
        }
    }

    fn notice<'a>(&'a self, (kind, reason): (&'static str, Option<&'a str>)) -> Notice<'a> {
        let Replica { event_id, state, .. } = &self.replica;
        Notice::QueueState { kind, event_id, reason, opens_at_ms: state.opens_at_ms() }
    }

    /// Takes those out whose entry has a place by now, in the order of their places.
    pub(super) fn take_drawn(&mut self) -> Vec<(Key, Key)> {
        let early: Vec<Key> = self.waiting.range((Mark::FIRST_EARLY, 0)..).map(|(key, _)| *key).collect();
        let place = |mark: Mark| self.replica.drawn(mark.0 & !EARLY).map(Mark);
        let moves = early.iter().filter_map(|(mark, slot)| Some(((*mark, *slot), (place(*mark)?, *slot))));
        let mut moves: Vec<(Key, Key)> = moves.collect();
        moves.sort_unstable_by_key(|(_, new)| *new);
        let mut rest = self.waiting.split_off(&(Mark::FIRST_EARLY, 0));
        for (old, _) in &moves {
            rest.remove(old);
        }
        self.waiting.append(&mut rest);
        self.waiting.extend(moves.iter().map(|(_, new)| (*new, Shown::NOTHING)));
        moves
    }

    /// Where somebody stands, by what was drawn.
    pub(super) fn mark(&self, ticket: Ticket) -> Option<Mark> {
        let mark = Mark::new(ticket)?;
        match ticket {
            Ticket::Entry(entry) => Some(self.replica.drawn(entry).map_or(mark, Mark)),
            Ticket::Place(_) => Some(mark),
        }
    }

    /// Whether nobody needs it any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.replica.state, LineState::Closed | LineState::Lost) && self.bulletin.is_none()
    }

    /// Those who were let in or passed over and were not told yet: from, and up to before.
    pub(super) fn served(&self) -> (Key, Key) {
        let end = (Mark::after(self.replica.serving), 0);
        (self.served_from.min(end), end)
    }

    fn hurry(&mut self, now: Tick, pause: Span) {
        let (served, end) = self.served();
        let at_once = self.bulletin.is_some()
            || (self.replica.shows_positions() && self.waiting.range(served..end).next().is_some());
        if at_once || self.pass.is_some() {
            self.due = now;
        } else if self.replica.shows_positions() {
            self.due = self.due.min(self.passed_at.plus(pause)).max(now);
        }
    }

    /// What becomes of the state is told once to everybody who waits; what was on its way about the one before is not.
    fn announce(&mut self, before: &LineState, now: Tick) {
        let has_stopped = matches!(before, LineState::Paused { .. } | LineState::SoldOut);
        let words = self.state_words().or(match self.replica.state {
            LineState::Early { .. } | LineState::Open if has_stopped => Some(("queue:resumed", None)),
            LineState::Early { opens_at_ms: Some(_) } => Some(("queue:scheduled", None)),
            _ => None,
        });
        self.bulletin = words.filter(|_| !self.waiting.is_empty()).map(|(kind, reason)| {
            let notice = self.notice((kind, reason));
            let frame = Rc::new(Frame::state(&notice, self.state_key, now.start_ns()));
            Bulletin { kind, frame, from: FRONT }
        });
    }
}
