//! Positions in a queue: at most one per connection, event and `QUEUE_UPDATE_INTERVAL`.
//!
//! Owns what waits for the end of an interval, the newest value alone. A value goes at once to who has had none for an
//! interval. Never knows a connection beyond its id: whoever takes out what is due looks whether it is still there, and
//! still the same user's. Invariant: `ends` and `held` name the same intervals, each once, earliest end first, since all
//! are equally long; a connection that gets no positions is in neither.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use foldhash::fast::FixedState;

use super::deadlines::{Span, Tick};
use crate::{
    event::{Class, Event, LatestKey, QUEUE_POSITION, Target},
    ids::ConnId,
    limits::PACED_MAX,
};

#[derive(Debug)]
pub(super) struct Pacing {
    /// `None`: every value goes at once.
    interval: Option<Span>,
    /// Intervals under way at once.
    bound: usize,
    /// By interval under way: the newest value that came in it.
    held: HashMap<Paced, Option<Arc<Event>>, FixedState>,
    ends: VecDeque<(Tick, Paced)>,
}

/// One value of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Paced {
    conn: ConnId,
    key: LatestKey,
}

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// It goes out now.
    Now,
    /// It waits for the end of the interval.
    Held,
    /// It waits, in place of an older one; or a newer one waits already.
    Conflated,
    /// It goes out now, and the next one may too: there is no room for its interval.
    Unpaced,
}

impl Pacing {
    pub(super) fn new(interval: Duration, seed: u64) -> Self {
        // One more, since the tick of the last value was under way when it went.
        let interval = (!interval.is_zero()).then(|| Span(Span::of(interval).0.saturating_add(1)));
        let held = HashMap::with_hasher(FixedState::with_seed(seed));
        Self { interval, bound: PACED_MAX, held, ends: VecDeque::new() }
    }

    /// With room for so many intervals.
    #[cfg(test)]
    pub(super) fn with_bound(self, bound: usize) -> Self {
        Self { bound, ..self }
    }

    /// The value's key, if values like it are paced.
    pub(super) fn key_of(&self, event: &Event) -> Option<LatestKey> {
        match (&event.class, &event.target) {
            (Class::Latest(key), Target::User(_)) if *event.kind == *QUEUE_POSITION => {
                self.interval.map(|_| *key)
            }
            _ => None,
        }
    }

    /// Takes a value for a connection. Beyond [`PACED_MAX`] intervals it goes at once: the outbox conflates too.
    pub(super) fn offer(&mut self, now: Tick, conn: ConnId, key: LatestKey, event: &Arc<Event>) -> Pace {
        let Some(interval) = self.interval else { return Pace::Now };
        let paced = Paced { conn, key };
        let room = self.held.len() < self.bound;
        match self.held.entry(paced) {
            Entry::Vacant(_) if !room => Pace::Unpaced,
            Entry::Vacant(entry) => {
                entry.insert(None);
                self.ends.push_back((now.plus(interval), paced));
                Pace::Now
            }
            Entry::Occupied(mut entry) => match entry.get() {
                Some(waiting) if is_older(event, waiting) => Pace::Conflated,
                waiting => {
                    let pace = if waiting.is_some() { Pace::Conflated } else { Pace::Held };
                    entry.insert(Some(Arc::clone(event)));
                    pace
                }
            },
        }
    }

    /// When something is due.
    pub(super) fn next(&self) -> Option<Tick> {
        self.ends.front().map(|(end, _)| *end)
    }

    /// Takes out a value whose interval is over; the next one begins with it. Intervals in which nothing came end.
    pub(super) fn take_due(&mut self, now: Tick) -> Option<(ConnId, Arc<Event>)> {
        let interval = self.interval?;
        while let Some((_, paced)) = self.ends.pop_front_if(|(end, _)| *end <= now) {
            if let Some(event) = self.held.get_mut(&paced).and_then(Option::take) {
                self.ends.push_back((now.plus(interval), paced));
                return Some((paced.conn, event));
            }
            self.held.remove(&paced);
        }
        if self.ends.is_empty() && self.held.capacity() > 0 {
            // After a storm of positions an idle hub is small again.
            self.held.shrink_to_fit();
            self.ends.shrink_to_fit();
        }
        None
    }

    /// Panics where the state contradicts itself.
    #[cfg(debug_assertions)]
    pub(super) fn check_invariants(&self) {
        assert!(self.ends.iter().is_sorted_by_key(|(end, _)| *end), "ends are out of order");
        assert!(self.ends.len() == self.held.len() && self.held.len() <= self.bound);
        assert!(
            self.ends.iter().all(|(_, paced)| self.held.contains_key(paced)),
            "an end without an interval"
        );
    }
}

/// Whether the caller's version says so; without two of them the newest arrival wins.
fn is_older(event: &Event, waiting: &Event) -> bool {
    matches!((event.version, waiting.version), (Some(new), Some(old)) if new < old)
}
