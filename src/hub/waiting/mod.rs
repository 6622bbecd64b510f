//! Waiting rooms, the shard's side (03 §10): who waits here and what they are told.
//!
//! Owns a copy of each queue's state and the connections that wait in it. Never gives a place, lets anybody in, or moves a
//! queue: control does, and its news are the same for every shard ([`crate::line::LineUpdate`]). Invariants: what a
//! connection is told of its place never gets worse; how many connections a holder has here is state that control
//! learns ([`super::Report::Waiting`]), so that no message can be lost that would cost somebody the place.
//!
//! Reading order: `replica` (with `departed`), `line`, `sweep`, `seats`.

mod departed;
mod line;
mod replica;
mod seats;
mod sweep;

use std::{collections::HashMap, hash::BuildHasher, sync::Arc};

use foldhash::fast::FixedState;

use self::{
    line::{Line, Mark, Shown},
    sweep::{Paces, Sheets},
};
use super::{Hub, Turn, deadlines::Tick, groups::Seat, io::Report, pages::Pages};
use crate::{
    config::settings::Settings,
    event::LatestKey,
    line::{LineState, LineUpdate},
};

/// The queues that this shard knows of, and who waits in them.
#[derive(Debug)]
pub(super) struct Lines {
    lines: Vec<Option<Box<Line>>>,
    by_event: HashMap<Arc<str>, u32, FixedState>,
    /// By slot: where the connection waits; absent: nowhere.
    stands: Pages<Vec<Stand>>,
    /// Of all connections.
    stands_count: usize,
    /// Whether control may have something to learn.
    reports_pending: bool,
    /// When the sweep is due.
    next_due: Tick,
    /// Index of the line that the sweep comes to first.
    first: usize,
    sheets: Sheets,
    paces: Paces,
    seed: u64,
}

/// A connection in a queue.
#[derive(Clone, Copy, Debug)]
struct Stand {
    /// Index into `Lines::lines`.
    line: u32,
    mark: Mark,
    /// Among the connections of the holder.
    seat: Seat,
}

impl Lines {
    pub(super) fn new(settings: &Settings, seed: u64) -> Self {
        Self {
            lines: Vec::new(),
            by_event: HashMap::with_hasher(FixedState::with_seed(seed)),
            stands: Pages::new(),
            stands_count: 0,
            reports_pending: false,
            next_due: Tick::NEVER,
            first: 0,
            sheets: Sheets::default(),
            paces: Paces::new(settings.client.queue_update_interval),
            seed,
        }
    }

    /// When the sweep is due; never: nobody has to be told anything.
    pub(super) const fn next_due(&self) -> Tick {
        self.next_due
    }

    /// Connections in queues, each as often as it waits.
    pub(super) const fn waiting(&self) -> usize {
        self.stands_count
    }

    /// Whether control may have something to learn.
    pub(super) const fn has_changes(&self) -> bool {
        self.reports_pending
    }

    /// Reports what control does not know, until `report` does not take one.
    pub(super) fn take_changes(&mut self, report: &mut dyn FnMut(Report) -> bool) {
        if !self.reports_pending {
            return;
        }
        for line in self.lines.iter_mut().flatten() {
            let event_id = &line.replica.event_id;
            if line.lost && !report(Report::LineLost { event_id: Arc::clone(event_id) }) {
                return;
            }
            line.lost = false;
            let all = line.places.take_changes(&mut |holder, connections| {
                let (event_id, holder) = (Arc::clone(event_id), Arc::clone(holder));
                report(Report::Waiting { event_id, holder, connections })
            });
            if !all {
                return;
            }
        }
        self.reports_pending = false;
    }

    fn find(&self, event_id: &str) -> Option<u32> {
        self.by_event.get(event_id).copied()
    }

    fn line(&mut self, index: u32) -> Option<&mut Line> {
        self.lines.get_mut(index as usize)?.as_deref_mut()
    }

    /// The queue's index; begins one of which nothing is known.
    fn find_or_begin(&mut self, event_id: &Arc<str>) -> u32 {
        if let Some(index) = self.find(event_id) {
            return index;
        }
        let hasher = self.by_event.hasher();
        // Keys of other types come from another hash: they do not meet but by chance.
        let keys =
            ["booking:queue_position", "queue"].map(|kind| LatestKey(hasher.hash_one((kind, event_id))));
        let line = Some(Box::new(Line::new(Arc::clone(event_id), self.seed, keys)));
        let index = self.lines.iter().position(Option::is_none).unwrap_or(self.lines.len());
        match self.lines.get_mut(index) {
            Some(free) => *free = line,
            None => self.lines.push(line),
        }
        self.by_event.insert(Arc::clone(event_id), index as u32);
        index as u32
    }

    /// The connection's stand in the queue.
    fn stand_mut(&mut self, slot: u32, line: u32) -> Option<&mut Stand> {
        self.stands.get_mut(slot)?.iter_mut().find(|stand| stand.line == line)
    }

    /// Whose place the connection stands in.
    fn holder(&self, slot: u32, event_id: &str) -> Option<&Arc<str>> {
        let index = self.find(event_id)?;
        let stand = self.stands.get(slot)?.iter().find(|stand| stand.line == index)?;
        self.lines.get(index as usize)?.as_ref()?.places.name(stand.seat.group)
    }

    /// Puts a connection in its place. It is in no other place of the queue.
    fn stand(&mut self, index: u32, slot: u32, holder: &Arc<str>, mark: Mark) {
        let Some(line) = self.line(index) else { return };
        let seat = line.places.join(holder, slot);
        line.waiting.insert((mark, slot), Shown::NOTHING);
        let stand = Stand { line: index, mark, seat };
        match self.stands.get_mut(slot) {
            Some(stands) => stands.push(stand),
            None => drop(self.stands.insert(slot, vec![stand])),
        }
        self.stands_count += 1;
        self.reports_pending = true;
    }

    /// Takes a connection out of a queue; whether it was in it.
    fn unstand(&mut self, slot: u32, index: u32) -> bool {
        let Some(stands) = self.stands.get_mut(slot) else { return false };
        let Some(position) = stands.iter().position(|stand| stand.line == index) else { return false };
        let Stand { mark, seat, .. } = stands.swap_remove(position);
        if stands.is_empty() {
            self.stands.remove(slot);
        }
        self.stands_count -= 1;
        self.reports_pending = true;
        let Some(line) = self.line(index) else { return true };
        line.waiting.remove(&(mark, slot));
        if let Some(moved) = line.places.leave(seat)
            && let Some(stand) = self.stand_mut(moved, index)
        {
            stand.seat = seat;
        }
        true
    }

    /// Takes a connection out of all queues.
    fn unstand_all(&mut self, slot: u32) {
        while let Some(index) = self.stands.get(slot).and_then(|stands| stands.last()).map(|stand| stand.line)
        {
            self.unstand(slot, index);
        }
    }

    /// Takes news of a queue.
    fn update(&mut self, update: &LineUpdate, now: Tick) {
        let known = self.find(&update.event_id);
        if known.is_none() && matches!(update.state, LineState::Closed | LineState::Lost) {
            return;
        }
        self.end_other(known, update);
        let index = self.find_or_begin(&update.event_id);
        let pause = self.paces.pause;
        let Some(line) = self.line(index) else { return };
        let drawn = line.apply(update, now, pause);
        let moves = if drawn { line.take_drawn() } else { Vec::new() };
        let (lost, due) = (line.lost, line.due);
        for ((_, slot), (mark, _)) in moves {
            if let Some(stand) = self.stand_mut(slot, index) {
                stand.mark = mark;
            }
        }
        self.reports_pending |= lost;
        self.next_due = self.next_due.min(due);
        self.forget_over();
    }

    /// The event has another queue: of the one before it nothing holds, and nobody waits in it.
    fn end_other(&mut self, known: Option<u32>, update: &LineUpdate) {
        let Some(index) = known else { return };
        let Some(line) = self
            .lines
            .get_mut(index as usize)
            .and_then(|line| line.take_if(|line| line.replica.is_of_another(update)))
        else {
            return;
        };
        self.by_event.remove(&line.replica.event_id);
        for (_, slot) in line.waiting.keys() {
            self.unstand(*slot, index);
        }
    }

    /// Forgets queues that are over and of which everybody was told so.
    fn forget_over(&mut self) {
        for index in 0..self.lines.len() {
            let Some(line) = self.lines[index].take_if(|line| line.is_over()) else { continue };
            self.by_event.remove(&line.replica.event_id);
            for (_, slot) in line.waiting.keys() {
                self.unstand(*slot, index as u32);
            }
        }
    }

    fn find_due(&mut self) {
        self.next_due = self.lines.iter().flatten().map(|line| line.due).min().unwrap_or(Tick::NEVER);
    }

    /// Panics where the state contradicts itself.
    #[cfg(debug_assertions)]
    pub(super) fn check_invariants(&self, is_open: impl Fn(u32) -> bool) {
        let mut stands_count = 0;
        for (index, line) in self.lines.iter().enumerate() {
            let Some(line) = line else { continue };
            assert_eq!(self.by_event.get(&line.replica.event_id), Some(&(index as u32)));
            stands_count += line.waiting.len();
            assert_eq!(
                line.places.check_invariants(),
                (line.waiting.len(), 0),
                "a seat in a queue is nobody's"
            );
            for (mark, slot) in line.waiting.keys() {
                assert!(is_open(*slot), "slot {slot} waits and is not in service");
                let stands = self.stands.get(*slot).map_or(&[][..], Vec::as_slice);
                let stand = stands.iter().find(|stand| stand.line == index as u32);
                assert_eq!(stand.map(|stand| stand.mark), Some(*mark), "slot {slot}");
                let stand = stand
                    .map(|stand| stand.seat)
                    .map(|seat| line.places.members(seat.group).get(seat.position as usize).copied());
                assert_eq!(stand, Some(Some(*slot)));
            }
            assert!(line.due >= self.next_due, "{} is due before the sweep", line.replica.event_id);
        }
        assert_eq!((stands_count, self.stands.iter().map(Vec::len).sum()), (self.stands_count, stands_count));
        assert_eq!(self.by_event.len(), self.lines.iter().flatten().count());
    }
}

impl Hub {
    /// Whether there is such a queue, as far as this shard was told.
    pub fn knows_line(&self, event_id: &str) -> bool {
        self.lines.find(event_id).is_some()
    }

    /// Control: news of a queue.
    pub(super) fn line_update(&mut self, turn: &Turn<'_>, update: &LineUpdate) {
        self.lines.update(update, turn.tick);
    }
}

#[cfg(test)]
impl Hub {
    /// Frames that sweeps had to allocate.
    pub(super) fn frames_made(&self) -> u64 {
        self.lines.sheets.made
    }
}
