//! What comes live of a stream while its connection cannot have it yet.
//!
//! Owns the parked events: the newest ones, encoded once for all who wait for them. Invariants: they follow one another
//! without a hole, end with the newest event unless that alone is too big, and are [`REPLAY_PARKED_MAX`] at most.

use std::{collections::VecDeque, rc::Rc, sync::Arc};

use super::super::frame::Frame;
use crate::{event::Position, limits::REPLAY_PARKED_MAX};

/// What came live, all of one epoch.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) epoch: Arc<str>,
    /// The newest one.
    pub(super) seen: u64,
    pub(super) parked: VecDeque<Parked>,
    /// Of the parked frames.
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) struct Parked {
    pub(super) offset: u64,
    /// `None`: the connection does not want it.
    pub(super) frame: Option<Rc<Frame>>,
}

impl Live {
    /// What follows the position comes.
    pub(super) fn after(position: &Position) -> Self {
        let (epoch, seen) = (Arc::clone(&position.epoch), position.offset);
        Self { epoch, seen, parked: VecDeque::new(), bytes: 0 }
    }

    /// What stands at the position is the first that comes.
    pub(super) fn before(position: &Position) -> Self {
        Self::after(&Position { offset: position.offset.saturating_sub(1), ..position.clone() })
    }

    /// The offset that what is parked follows; the newest one where nothing is.
    pub(super) fn before_parked(&self) -> u64 {
        self.parked.front().map_or(self.seen, |first| first.offset.saturating_sub(1))
    }

    /// Keeps an event; how many made room for it, itself included where it alone is too big.
    pub(super) fn park(&mut self, offset: u64, frame: Option<Rc<Frame>>, room_bytes: usize) -> u64 {
        if offset <= self.seen {
            return 0;
        }
        let follows = offset == self.seen.saturating_add(1);
        self.seen = offset;
        let length = frame.as_ref().map_or(0, |frame| frame.bytes.len());
        let mut dropped = 0;
        let in_the_way = |live: &Self| !follows || !live.fits(length, room_bytes);
        while !self.parked.is_empty() && in_the_way(self) {
            self.drop_oldest();
            dropped += 1;
        }
        if !self.fits(length, room_bytes) {
            return dropped + 1;
        }
        self.bytes += length;
        self.parked.push_back(Parked { offset, frame });
        dropped
    }

    pub(super) fn drop_oldest(&mut self) {
        if let Some(Parked { frame: Some(frame), .. }) = self.parked.pop_front() {
            self.bytes -= frame.bytes.len();
        }
    }

    fn fits(&self, length: usize, room_bytes: usize) -> bool {
        self.parked.len() < REPLAY_PARKED_MAX && self.bytes + length <= room_bytes
    }

    /// Panics where the state contradicts itself.
    #[cfg(debug_assertions)]
    pub(super) fn check_invariants(&self) {
        assert!(self.parked.len() <= REPLAY_PARKED_MAX);
        let frames = self.parked.iter().flat_map(|parked| &parked.frame);
        assert_eq!(self.bytes, frames.map(|frame| frame.bytes.len()).sum::<usize>());
        let newest = self.parked.iter().rev().zip((0..=self.seen).rev());
        assert!(newest.into_iter().all(|(parked, offset)| parked.offset == offset), "a hole: {self:?}");
    }
}
