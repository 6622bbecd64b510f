//! What a shard knows of a queue: control's state of it, as far as positions depend on it.
//!
//! Owns the copy. Never decides anything about a queue. Invariant: `serving` and `departed` only grow while the copy
//! exists, whatever comes, so that no position that follows from it gets worse.

use std::sync::Arc;

use super::departed::{Departed, Walk};
use crate::{
    limits::LINE_PLACES_MAX,
    line::{LinePace, LineState, LineUpdate},
    wire::ticketing::PositionTemplate,
};

#[derive(Debug)]
pub(super) struct Replica {
    pub(super) event_id: Arc<str>,
    /// As in [`LineUpdate::epoch`].
    epoch: u64,
    /// Of the last update; `None`: no whole picture came yet.
    sequence: Option<u64>,
    pub(super) serving: u32,
    departed: Departed,
    /// Of the departed, those up to `serving`.
    departed_served: u32,
    /// Of the last update.
    total: u32,
    /// The highest place that somebody has here; news of it may be under way.
    noted: u32,
    pace: Option<LinePace>,
    moved_at_ms: u64,
    pub(super) state: LineState,
    pub(super) draw: Option<Arc<[u32]>>,
    /// Grows with whatever positions show; 0: nothing is known.
    pub(super) version: u32,
    /// The version at which positions changed last, and not only what is shown beside them.
    pub(super) moved: u32,
    template: PositionTemplate,
}

/// What an update came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// It was known.
    Old,
    /// It does not follow what is known: a whole picture is needed.
    Gap,
    /// It is known now.
    New {
        /// The state as it was before.
        before: LineState,
        /// Whether places were drawn.
        drawn: bool,
    },
}

/// The position of one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// 0: let in, or passed over.
    pub(super) position: u32,
    pub(super) ahead: u32,
}

impl Replica {
    /// Of a queue of which nothing is known yet.
    pub(super) fn new(event_id: Arc<str>) -> Self {
        Self {
            event_id,
            epoch: 0,
            sequence: None,
            serving: 0,
            departed: Departed::default(),
            departed_served: 0,
            total: 0,
            noted: 0,
            pace: None,
            moved_at_ms: 0,
            state: LineState::Early { opens_at_ms: None },
            draw: None,
            version: 0,
            moved: 0,
            template: PositionTemplate::default(),
        }
    }

    /// Whether it tells the whole of another queue of the event.
    pub(super) fn is_of_another(&self, update: &LineUpdate) -> bool {
        self.sequence.is_some() && update.after.is_none() && self.epoch != update.epoch
    }

    pub(super) fn apply(&mut self, update: &LineUpdate) -> Applied {
        if self.sequence.is_some() && self.epoch != update.epoch {
            return Applied::Gap;
        }
        match (update.after, self.sequence) {
            // A line may become longer without a move.
            (_, Some(known)) if (update.sequence, update.total) <= (known, self.total) => {
                return Applied::Old;
            }
            (None, _) => {}
            // What it tells beyond what is known is all there is: every value but the departed is absolute.
            (Some(after), Some(known)) if after <= known => {}
            (Some(_), _) => return Applied::Gap,
        }
        (self.epoch, self.sequence) = (update.epoch, Some(update.sequence));
        let departed = self.departed.insert(&update.departed);
        let served = update.serving > self.serving;
        self.serving = self.serving.max(update.serving.min(LINE_PLACES_MAX));
        self.departed_served = self.departed.through(self.serving);
        (self.total, self.pace, self.moved_at_ms) = (update.total, update.pace, update.moved_at_ms);
        let before = std::mem::replace(&mut self.state, update.state.clone());
        let drawn = self.draw.is_none() && update.draw.is_some();
        if drawn {
            self.draw.clone_from(&update.draw);
        }
        self.version += 1;
        if departed || served || drawn || before != self.state {
            self.moved = self.version;
        }
        self.renew_template();
        Applied::New { before, drawn }
    }

    /// Somebody has that place: there are at least so many, though the news of them may be under way.
    pub(super) fn note_place(&mut self, place: u32) {
        if place > self.total.max(self.noted) {
            self.noted = place;
            self.renew_template();
        }
    }

    fn renew_template(&mut self) {
        let total = self.total.max(self.noted);
        self.template = PositionTemplate::new(&self.event_id, self.serving, total, self.moved_at_ms);
    }

    /// Whether people are told positions.
    pub(super) fn shows_positions(&self) -> bool {
        self.version > 0 && matches!(self.state, LineState::Open | LineState::Paused { .. })
    }

    /// Counts the departed for places that ascend.
    pub(super) fn walk(&self) -> Walk<'_> {
        self.departed.walk()
    }

    /// Where the place stands; places are asked for in ascending order.
    #[inline]
    pub(super) fn standing(&self, place: u32, walk: &mut Walk<'_>) -> Standing {
        if place <= self.serving {
            return Standing { position: 0, ahead: 0 };
        }
        let between = place - 1 - self.serving;
        let ahead = between - (walk.through(place - 1) - self.departed_served);
        Standing { position: ahead + 1, ahead }
    }

    /// Writes the message for one place.
    #[inline]
    pub(super) fn write(&self, standing: Standing, frame: &mut Vec<u8>) {
        let Standing { position, ahead } = standing;
        let eta = match self.pace {
            _ if position == 0 => Some((0, 0)),
            Some(pace) if self.state == LineState::Open => Some(pace.wait_seconds(position)),
            _ => None,
        };
        self.template.write(position, ahead, eta, frame);
    }

    /// The place drawn for a number of entry.
    pub(super) fn drawn(&self, entry: u32) -> Option<u32> {
        let place = *self.draw.as_ref()?.get(entry.checked_sub(1)? as usize)?;
        (1..=LINE_PLACES_MAX).contains(&place).then_some(place)
    }
}
