//! The sweep: tells those who wait where they stand, in order, so many a turn.
//!
//! Owns the pace (03 §10): near the head every change, far from it less often, what is final at once. An advance costs one
//! pass over those who wait, beside the departed in the same order; what differs from receiver to receiver are the
//! digits in a frame, and frames are used again once they were sent.

use std::{ops::Bound, rc::Rc, time::Duration};

use super::{
    Lines,
    line::{Bulletin, FRONT, Line, Mark, Pass, Shown},
    replica::Standing,
};
use crate::{
    clock::Now,
    event::LatestKey,
    hub::{
        Hub, Turn,
        connections::Connections,
        deadlines::{Span, Tick},
        delivery::Receivers,
        frame::Frame,
    },
    limits::{POSITION_NEAR, POSITION_PACE_MAX, SWEEP_LOOKS_MAX, SWEEP_SENDS_MAX},
};

/// How often somebody is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paces {
    interval: Span,
    far: Span,
    /// Between the beginnings of two passes.
    pub(super) pause: Span,
}

impl Paces {
    pub(super) fn new(interval: Duration) -> Self {
        let Span(ticks) = Span::of(interval);
        let far = Span::of(POSITION_PACE_MAX);
        Self { interval: Span(ticks.min(far.0)), far, pause: Span((ticks / 4).max(1)) }
    }

    /// Between two looks of somebody with so many in front.
    fn of(self, ahead: u32) -> Span {
        Span((self.interval.0.saturating_mul((ahead / POSITION_NEAR).max(1))).min(self.far.0))
    }

    /// When somebody may be told again. Whoever waits longer than one interval does so a little less, each by as much as
    /// the slot says, lest all who were told at once be due at once.
    fn due(self, shown: Shown, pace: Span, slot: u32) -> Tick {
        let scattered = slot.wrapping_mul(0x9E37_79B9) >> 8;
        let Span(longer) = Span((pace.0 - self.interval.0) / 2);
        // One more, since the tick of the last time was under way then: never before a whole interval.
        shown.at.plus(Span(pace.0 - scattered % (longer + 1))).plus(Span(1))
    }
}

/// Frames that are written, sent, and written again.
#[derive(Debug, Default)]
pub(super) struct Sheets {
    frames: Vec<Rc<Frame>>,
    next: usize,
    /// Frames that had to be made.
    pub(super) made: u64,
}

impl Sheets {
    /// A frame that nobody else has, with what `write` puts into it.
    fn write(&mut self, key: LatestKey, now: Now, write: impl FnOnce(&mut Vec<u8>)) -> Option<&Rc<Frame>> {
        if self.next == self.frames.len() {
            self.frames.push(Rc::new(Frame::position()));
            self.made += 1;
        }
        let sheet = &mut self.frames[self.next];
        if Rc::get_mut(sheet).is_none() {
            // Somebody is slow and has it still.
            *sheet = Rc::new(Frame::position());
            self.made += 1;
        }
        Rc::get_mut(sheet)?.rewrite(key, now.mono_ns, write);
        self.next += 1;
        Some(sheet)
    }
}

/// One turn's part of the work.
struct Work<'a> {
    now: Now,
    tick: Tick,
    paces: Paces,
    connections: &'a mut Connections,
    receivers: Receivers<'a>,
    sheets: &'a mut Sheets,
    sends_left: usize,
    looks_left: usize,
}

impl Work<'_> {
    fn is_spent(&self) -> bool {
        self.sends_left == 0 || self.looks_left == 0
    }

    fn offer(&mut self, slot: u32, kind: &str, frame: &Rc<Frame>) {
        self.sends_left -= 1;
        let record = self.connections.at_mut(slot);
        if let Some(record) = record.filter(|record| !record.has_muted(kind)) {
            self.receivers.offer(record, frame);
        }
    }
}

impl Hub {
    /// Tells so many of those who wait, if it is time for any.
    pub(in crate::hub) fn sweep(&mut self, turn: &mut Turn<'_>) {
        if self.lines.next_due > turn.tick {
            return;
        }
        let Lines { lines, sheets, first, paces, .. } = &mut self.lines;
        sheets.next = 0;
        let mut work = Work {
            now: turn.now,
            tick: turn.tick,
            paces: *paces,
            connections: &mut self.connections,
            receivers: Receivers {
                bounds: self.bounds,
                cells: &self.cells,
                dirty: &mut self.dirty,
                overflowed: &mut self.overflowed,
            },
            sheets,
            sends_left: SWEEP_SENDS_MAX,
            looks_left: SWEEP_LOOKS_MAX,
        };
        let count = lines.len();
        for index in (0..count).map(|step| (*first + step) % count) {
            let Some(line) = &mut lines[index] else { continue };
            if line.due <= work.tick {
                line.sweep(&mut work);
            }
            if work.is_spent() {
                // Everybody else before this one comes again.
                *first = (index + 1) % count;
                break;
            }
        }
        self.close_overflowed(turn);
        self.lines.forget_over();
        self.lines.find_due();
    }
}

impl Line {
    fn sweep(&mut self, work: &mut Work<'_>) {
        self.due = Tick::NEVER;
        let all = self.tell_state(work)
            && (!self.replica.shows_positions() || (self.tell_served(work) && self.pass(work)));
        if !all {
            self.due = work.tick;
        }
    }

    /// Goes on with the bulletin; whether everybody got it.
    fn tell_state(&mut self, work: &mut Work<'_>) -> bool {
        let Some(bulletin) = &mut self.bulletin else { return true };
        let Bulletin { kind, frame, from } = bulletin;
        for (key, _) in self.waiting.range(*from..) {
            if work.is_spent() {
                *from = *key;
                return false;
            }
            work.offer(key.1, kind, frame);
        }
        self.bulletin = None;
        true
    }

    /// Tells those whose turn it is, all the same and whatever the pace; whether it told all.
    fn tell_served(&mut self, work: &mut Work<'_>) -> bool {
        let (from, end) = self.served();
        if self.waiting.range(from..end).next().is_none() {
            self.served_from = end;
            return true;
        }
        let standing = Standing { position: 0, ahead: 0 };
        let frame = work.sheets.write(self.key, work.now, |bytes| self.replica.write(standing, bytes));
        let Some(frame) = frame.map(Rc::clone) else { return true };
        for (key, shown) in self.waiting.range_mut(from..end) {
            if work.is_spent() {
                self.served_from = *key;
                return false;
            }
            work.looks_left -= 1;
            work.offer(key.1, POSITION, &frame);
            *shown = Shown { at: work.tick, version: self.replica.version };
        }
        self.served_from = end;
        true
    }

    /// Goes on with the pass, or begins one; whether it came to its end.
    fn pass(&mut self, work: &mut Work<'_>) -> bool {
        let replica = &self.replica;
        let begin = Pass { from: FRONT, version: replica.version, earliest: Tick::NEVER };
        if self.pass.is_none() {
            self.passed_at = work.tick;
        }
        let mut pass = self.pass.take().unwrap_or(begin);
        let from = pass.from.max((Mark::after(replica.serving), 0));
        let bounds = (Bound::Included(from), Bound::Excluded((Mark::FIRST_EARLY, 0)));
        let mut walk = replica.walk();
        // The frame of the place before, for one that has several connections.
        let mut last: Option<(u32, Rc<Frame>)> = None;
        for (key, shown) in self.waiting.range_mut(bounds) {
            let (Some(place), slot) = (key.0.place(), key.1) else { break };
            if work.is_spent() {
                pass.from = *key;
                self.pass = Some(pass);
                return false;
            }
            work.looks_left -= 1;
            if shown.version == replica.version {
                continue;
            }
            let standing = replica.standing(place, &mut walk);
            if let Some(due) = work.paces.wait(*shown, replica.moved, standing, slot)
                && due > work.tick
            {
                pass.earliest = pass.earliest.min(due);
                continue;
            }
            if last.as_ref().is_none_or(|(before, _)| *before != place) {
                let frame = work.sheets.write(self.key, work.now, |bytes| replica.write(standing, bytes));
                last = frame.map(|frame| (place, Rc::clone(frame)));
            }
            if let Some((_, frame)) = &last {
                work.offer(slot, POSITION, frame);
                *shown = Shown { at: work.tick, version: replica.version };
            }
        }
        let again = if pass.version == replica.version { pass.earliest } else { work.tick };
        if again != Tick::NEVER {
            self.due = again.max(self.passed_at.plus(work.paces.pause)).max(work.tick.plus(Span(1)));
        }
        true
    }
}

impl Paces {
    /// When somebody is due to be told what is new; `None`: at once, since nothing was told before.
    #[inline]
    fn wait(self, shown: Shown, moved: u32, standing: Standing, slot: u32) -> Option<Tick> {
        let pace = match shown.version {
            0 => return None,
            version if version < moved => self.of(standing.ahead),
            _ => self.far,
        };
        Some(self.due(shown, pace, slot))
    }
}

pub(super) const POSITION: &str = "booking:queue_position";
