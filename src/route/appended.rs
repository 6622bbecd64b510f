//! What this instance appended lately, and whether the store still has it.
//!
//! A store that breaks off may have answered an append whose publication nobody heard, and come back without it: whoever
//! appended is the only one who knows then, and may have nobody who follows the stream. So after each outage it asks
//! where those streams stand, by what it knows: the store parts with the epoch that lost something, and tells who follows.
//! Owns those positions, bounded in number and age. Ages count while the store is reached: an outage makes nobody forget.

use std::{collections::VecDeque, sync::Arc};

use super::{Route, following::Following, questions::Question, turn::Turn};
use crate::{
    clock::Now,
    event::Position,
    limits::{APPENDED_AGE_MAX, APPENDED_MAX, HEADS_MAX},
    stream::{
        expiring::Expiring,
        store::{Answer, Ask, Mark},
    },
};

/// How often the store had been reached when something was asked.
pub(super) type Session = u64;

#[derive(Debug)]
pub(super) struct Appended {
    session: Session,
    /// The newest position of each stream that was appended to in this session.
    lately: Expiring<Arc<str>, Mark>,
    /// Of earlier sessions: to be asked for.
    doubted: VecDeque<(Arc<str>, Mark)>,
    /// Asked for in vain; again each second.
    failed: Vec<(Arc<str>, Mark)>,
    /// Given up for want of room.
    forgotten: u64,
}

impl Appended {
    pub(super) fn new() -> Self {
        Self {
            session: 0,
            lately: Expiring::new(APPENDED_AGE_MAX, APPENDED_MAX),
            doubted: VecDeque::new(),
            failed: Vec::new(),
            forgotten: 0,
        }
    }

    pub(super) fn session(&self) -> Session {
        self.session
    }

    /// The store answered an append that was asked for in that session.
    pub(super) fn note(&mut self, now: Now, answer: &Answer, asked_in: Session) {
        let (position, is_newest) = match answer {
            Answer::Appended(event) => (event.position.as_ref(), true),
            // Somebody else may have appended it, and be gone.
            Answer::Repeated(position) => (Some(position), false),
            _ => (None, false),
        };
        let Some(Position { stream, epoch, offset }) = position else { return };
        let mark = Mark { epoch: epoch.clone(), offset: *offset };
        if asked_in != self.session {
            // The news that the store is back overtook it.
            self.doubt(stream.clone(), mark);
        } else if is_newest || self.lately.peek(stream).is_none() {
            let earlier = self.lately.peek(stream).filter(|earlier| earlier.epoch != mark.epoch).cloned();
            if let Some(earlier) = earlier {
                // The store may have lost it before the stream went on under another name.
                self.doubt(stream.clone(), earlier);
            }
            let evicted = self.lately.put(now, stream.clone(), mark);
            self.forgotten += u64::from(evicted.is_some());
        }
    }

    /// The store is reached again.
    fn up(&mut self) {
        self.session += 1;
        while let Some((stream, mark)) = self.lately.pop_oldest() {
            self.doubt(stream, mark);
        }
    }

    fn doubt(&mut self, stream: Arc<str>, mark: Mark) {
        if self.doubted.len() + self.failed.len() >= APPENDED_MAX {
            self.forgotten += 1;
        } else {
            self.doubted.push_back((stream, mark));
        }
    }

    fn expire(&mut self, now: Now) {
        self.lately.expire(now, |_, _| ());
    }

    pub(super) fn check_invariants(&self) {
        assert!(self.lately.len() <= APPENDED_MAX, "positions of this session");
        assert!(self.doubted.len() + self.failed.len() <= APPENDED_MAX + HEADS_MAX, "positions in doubt");
    }
}

impl Route {
    /// Positions of appends that were forgotten too early, for want of room.
    pub fn appends_forgotten(&self) -> u64 {
        self.following.as_ref().map_or(0, |following| following.appended.forgotten)
    }

    /// The store is reached again, and may have lost what this instance appended.
    pub(super) fn doubt_appended(&mut self, turn: &mut Turn<'_>) {
        let Some(Following { appended, .. }) = &mut self.following else { return };
        appended.up();
        self.ask_heads(turn);
    }

    /// A second passed.
    pub(super) fn look_after_appended(&mut self, turn: &mut Turn<'_>) {
        let Some(Following { appended, up: true, .. }) = &mut self.following else { return };
        appended.expire(turn.now);
        appended.doubted.extend(appended.failed.drain(..));
        self.ask_heads(turn);
    }

    /// Asks for what is in doubt, as much as may be asked for at once.
    pub(super) fn ask_doubted(&mut self, turn: &mut Turn<'_>) {
        let Some(Following { appended, heads, up: true, .. }) = &mut self.following else { return };
        while *heads < HEADS_MAX {
            let Some((stream, mark)) = appended.doubted.pop_front() else { break };
            *heads += 1;
            let ask = Ask::Head { stream: stream.clone(), known: Some(mark.clone()) };
            self.questions.ask(Question::Doubt { stream, mark }, ask, turn.out);
        }
    }

    /// The store looked, or could not.
    pub(super) fn doubt_told(&mut self, turn: &mut Turn<'_>, stream: Arc<str>, mark: Mark, answer: Answer) {
        let Some(following) = &mut self.following else { return };
        following.heads -= 1;
        if let Answer::Head(head) = answer {
            let position = Position { stream, epoch: head.epoch, offset: head.offset };
            self.renamed(turn, &position);
        } else {
            following.appended.failed.push((stream, mark));
        }
        self.ask_heads(turn);
    }

    /// A stream stands there now, under a name that may be another.
    pub(super) fn renamed(&mut self, turn: &mut Turn<'_>, position: &Position) {
        self.follow(turn, &position.stream, |cursor, _| cursor.note(position));
    }
}

#[cfg(test)]
mod tests;
