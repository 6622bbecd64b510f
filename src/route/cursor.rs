//! How far one stream was delivered on this instance, where others publish to it too.
//!
//! Owns the order: offset n goes out after n − 1, at or below it nothing does, and what is above waits in a bounded list
//! while the gap is read. Never decides which history runs: where an event is of another epoch, or nothing is known yet,
//! the store is asked, and its answer covers what came before the question.

use std::{collections::BTreeMap, sync::Arc};

use super::entries::Waiter;
use crate::{
    event::{Event, Position},
    limits::PARKED_EVENTS_MAX,
    stream::store::{Head, Mark, Page},
};

#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// The newest event that was delivered; `None`: where the stream stands is not known yet.
    at: Option<Mark>,
    /// Highest offset of the epoch that is known to be stored; `>= at.offset`.
    known: u64,
    /// Of the same epoch, later than the next.
    parked: BTreeMap<u64, Arc<Event>>,
    /// Who comes in as soon as `at` is known.
    pub(super) waiters: Vec<Waiter>,
    /// The store has another epoch, which may go on from here: the next page tells.
    elsewhere: bool,
    /// Somebody came in without a position.
    pub(super) nameless: bool,
    /// The store must say where the stream stands, again if it is being asked.
    pub(super) head_due: bool,
    /// It is being asked, or waits to be.
    pub(super) head_asked: bool,
    /// Something is missing that the store has.
    pub(super) fill_due: bool,
    /// It is being read, or waits to be.
    pub(super) filling: bool,
}

/// What a change brought.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Moved {
    /// Something was not delivered: where the stream stood before `ready`.
    pub(super) resync: Option<Mark>,
    /// The store does not have that any more.
    pub(super) lost: bool,
    /// What is to be delivered, in order.
    pub(super) ready: Vec<Arc<Event>>,
}

impl Cursor {
    pub(super) fn at(&self) -> Option<&Mark> {
        self.at.as_ref()
    }

    /// Nothing was ever stored, as far as this instance saw.
    pub(super) fn is_empty(&self) -> bool {
        self.known == 0 && self.at.is_some()
    }

    /// The newest position that this instance saw.
    pub(super) fn known(&self) -> Option<Mark> {
        let at = self.at.as_ref()?;
        Some(Mark { epoch: at.epoch.clone(), offset: self.known })
    }

    /// A stored event came, from wherever.
    pub(super) fn hear(&mut self, event: Arc<Event>, moved: &mut Moved) {
        let Some(position) = &event.position else { return };
        let offset = position.offset;
        self.note(position);
        let Some(at) = self.at.as_mut().filter(|at| at.epoch == position.epoch && at.offset < offset) else {
            return;
        };
        if offset == at.offset + 1 {
            at.offset = offset;
            moved.ready.push(event);
            self.advance(moved);
        } else if self.parked.len() < PARKED_EVENTS_MAX {
            self.parked.insert(offset, event);
        }
    }

    /// The store has an event there.
    pub(super) fn note(&mut self, position: &Position) {
        match &self.at {
            Some(at) if at.epoch == position.epoch => {
                self.known = self.known.max(position.offset);
                self.look_for_gap();
            }
            Some(_) => self.head_due = true,
            // A question that is still to come will cover it.
            None => self.head_due |= self.head_asked,
        }
    }

    /// The store said where the stream stands.
    pub(super) fn head(&mut self, head: &Head, moved: &mut Moved) {
        self.head_asked = false;
        match &self.at {
            Some(at) if at.epoch == head.epoch => self.known = self.known.max(head.offset),
            Some(_) => self.elsewhere = true,
            None => {
                self.begin_at(head, head.offset, moved);
                // Who comes in now learns it by coming in.
                moved.resync = moved.resync.take().filter(|_| self.nameless);
            }
        }
        self.nameless = false;
        self.advance(moved);
    }

    /// The store gave what follows a place.
    pub(super) fn page(&mut self, (epoch, after): (&str, u64), page: Page, moved: &mut Moved) {
        self.filling = false;
        let Some(at) = self.at.as_mut().filter(|at| *at.epoch == *epoch) else { return };
        if page.head.epoch.is_empty() {
            // The stream is gone. Who asks for its head makes it begin anew.
            (self.head_due, self.fill_due) = (true, false);
            return;
        }
        if page.head.epoch != at.epoch && at.offset != after {
            // Whether what was delivered since is a part of the other epoch, this page does not tell.
            self.elsewhere = true;
            return self.look_for_gap();
        }
        let Page { head, events, rest } = page;
        let went_back = head.epoch == at.epoch && head.offset < self.known;
        let before = at.offset;
        if head.epoch != at.epoch {
            self.elsewhere = false;
        }
        match events {
            Some(events) => {
                if head.epoch != at.epoch {
                    at.epoch = head.epoch.clone();
                    self.known = at.offset;
                    self.parked.clear();
                }
                for event in events {
                    if event.position.as_ref().is_some_and(|position| position.offset == at.offset + 1) {
                        at.offset += 1;
                        moved.ready.push(event);
                    }
                }
                self.known = self.known.max(head.offset);
                self.advance(moved);
            }
            None if went_back => {}
            None => {
                // What is left is read from there. An entry in the middle that cannot be had is passed over with all before it.
                let is_left = head.epoch != at.epoch || at.offset < rest;
                let offset = if is_left { rest.min(head.offset) } else { head.offset };
                moved.lost = true;
                self.begin_at(&head, offset, moved);
                self.advance(moved);
            }
        }
        // What was seen here and is not there: the store has lost it, or says in a moment that it has it.
        let stuck = went_back && self.at.as_ref().is_some_and(|at| at.offset == before);
        self.head_due |= stuck;
        self.look_for_gap();
        self.fill_due &= !stuck;
    }

    /// Goes on behind an offset of the store's history, whatever was not delivered up to there.
    fn begin_at(&mut self, head: &Head, offset: u64, moved: &mut Moved) {
        let mark = Mark { epoch: head.epoch.clone(), offset };
        let goes_on = self.at.as_ref().is_some_and(|at| at.epoch == head.epoch);
        if goes_on {
            self.known = self.known.max(head.offset);
        } else {
            self.known = head.offset;
            self.parked.clear();
        }
        self.at = Some(mark.clone());
        moved.resync = Some(mark);
    }

    /// Delivers what is parked, as far as it follows.
    fn advance(&mut self, moved: &mut Moved) {
        let Some(at) = &mut self.at else { return };
        while let Some(first) = self.parked.first_entry() {
            if *first.key() > at.offset + 1 {
                break;
            }
            if *first.key() == at.offset + 1 {
                at.offset += 1;
                moved.ready.push(first.remove());
            } else {
                first.remove();
            }
        }
        self.known = self.known.max(at.offset);
        self.look_for_gap();
    }

    fn look_for_gap(&mut self) {
        let behind = self.at.as_ref().is_some_and(|at| at.offset < self.known);
        self.fill_due = (behind || self.elsewhere) && !self.filling;
    }

    pub(super) fn check_invariants(&self) {
        assert!(self.parked.len() <= PARKED_EVENTS_MAX, "parked events are bounded");
        if let Some(at) = &self.at {
            assert!(at.offset <= self.known, "what was delivered is known");
            assert!(self.parked.keys().all(|offset| *offset > at.offset + 1), "nothing waits for its turn");
            assert!(self.waiters.is_empty(), "nobody waits for what is known");
        } else {
            assert!(self.parked.is_empty(), "what came before the head is covered by it");
        }
    }
}

#[cfg(test)]
mod tests;
