//! Where a replay puts what it has: the outbox of its connection, as far as that has room for it.

use std::rc::Rc;

use super::{
    connections::Connection,
    frame::Frame,
    outbox::{Bounds, Offered},
};
use crate::{event::Event, ids::ConnId, metrics::ShardCells};

/// The outbox that replays go to. They take the lower half of it, so that what comes live has the rest.
pub(super) struct Sink<'a> {
    pub(super) record: &'a mut Connection,
    pub(super) bounds: Bounds,
    pub(super) cells: &'a ShardCells,
    pub(super) dirty: &'a mut Vec<ConnId>,
}

impl Sink<'_> {
    /// Whether a frame of about that size would fit.
    pub(super) fn has_room(&self, length: usize) -> bool {
        self.record.outbox.is_below_half_with(length, self.bounds)
    }

    /// Queues a stored event; `false`: later.
    pub(super) fn replay(&mut self, event: &Event) -> bool {
        if event.except == Some(self.record.id) || self.record.has_muted(&event.kind) {
            return true;
        }
        // Before anything is encoded in vain.
        let queued = self.has_room(event.payload.len())
            && self.offer(&Rc::new(Frame::replayed(event, self.record.dialect)));
        self.cells.replayed.add(u64::from(queued));
        queued
    }

    /// Queues a frame; `false`: later.
    pub(super) fn offer(&mut self, frame: &Rc<Frame>) -> bool {
        if !self.has_room(frame.bytes.len()) {
            return false;
        }
        let offered = self.record.outbox.offer(frame, self.bounds);
        debug_assert_eq!(offered, Offered::Queued { evicted: 0 }, "half an outbox is within the whole");
        self.record.mark_dirty(self.dirty);
        true
    }
}
