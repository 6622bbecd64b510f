//! From events and notices to outboxes, and from outboxes to sockets.
//!
//! Owns the encoding: once per event and dialect, whatever the number of receivers, and compressed once more for those
//! who take it so. Never writes: `flush` hands the bytes to a function of the shell. Per receiver a delivery is a look-up,
//! the class's rule, one count of references and one entry in the dirty list.

use std::{io, mem, rc::Rc, sync::Arc};

use super::{
    Hub, Turn,
    connections::{Connection, Stage},
    deadlines::Tick,
    frame::Frame,
    outbox::{Bounds, Offered},
    pacing::{Pace, Pacing},
    replay::Verdict,
};
use crate::{
    clock::Now,
    config::settings::Dialect,
    event::{Event, LatestKey, Position, Target},
    ids::ConnId,
    limits::MAILBOX_BATCH_MAX,
    metrics::ShardCells,
    wire::{
        command::RequestId,
        deflate::{Deflater, Window},
        ticketing::Notice,
    },
};

/// What a flush came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Nothing waits any more.
    Drained,
    /// The socket takes no more at the moment.
    Blocked,
    /// The socket is broken; tell [`super::Input::Gone`].
    Failed(io::ErrorKind),
}

impl Hub {
    /// Writes what waits for a connection, with one call of `send` for as many frames as a call takes. `send` is a
    /// non-blocking gather write: bytes taken, or an error; `WouldBlock` where there is no room.
    pub fn flush(
        &mut self,
        now: Now,
        conn: ConnId,
        send: &mut dyn FnMut(&[io::IoSlice<'_>]) -> io::Result<usize>,
    ) -> Flushed {
        self.flush_as(now, conn, None, send)
    }

    /// As [`Hub::flush`], for a connection that negotiated permessage-deflate: always this one and with the same
    /// window then. What was conflated or dropped while it waited was never compressed.
    pub fn flush_deflated(
        &mut self,
        now: Now,
        conn: ConnId,
        window: Window,
        send: &mut dyn FnMut(&[io::IoSlice<'_>]) -> io::Result<usize>,
    ) -> Flushed {
        let flushed = self.flush_as(now, conn, Some(window), send);
        if let Some(deflater) = &self.deflater {
            deflater.tally().show(&self.cells.deflated);
        }
        flushed
    }

    fn flush_as(
        &mut self,
        now: Now,
        conn: ConnId,
        window: Option<Window>,
        send: &mut dyn FnMut(&[io::IoSlice<'_>]) -> io::Result<usize>,
    ) -> Flushed {
        loop {
            let Some(record) = self.connections.get_mut(conn) else { return Flushed::Drained };
            let flushed = Self::write(record, window.zip(self.deflater.as_mut()), &self.cells, now, send);
            // There is room now for what a replay has.
            let queued = record.replays_mut().is_some() && self.pump(conn);
            if !queued || !matches!(flushed, Flushed::Drained) {
                return flushed;
            }
        }
    }

    fn write(
        record: &mut Connection,
        mut compression: Option<(Window, &mut Deflater)>,
        cells: &ShardCells,
        now: Now,
        send: &mut dyn FnMut(&[io::IoSlice<'_>]) -> io::Result<usize>,
    ) -> Flushed {
        let window = compression.as_ref().map(|(window, _)| *window);
        while !record.outbox.is_empty() {
            if let Some((window, deflater)) = &mut compression {
                record.outbox.deflate(*window, deflater);
            }
            match record.outbox.gather(window, &mut *send) {
                Ok(0) => return Flushed::Failed(io::ErrorKind::WriteZero),
                Ok(written) => {
                    record.outbox.advance(window, written, |frame| frame.count_sent(cells, now));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Flushed::Blocked,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Flushed::Failed(error.kind()),
            }
        }
        Flushed::Drained
    }

    /// Sends the last values of whatever the connection came into, those of them that it still is to have. They take no
    /// more than half of its outbox.
    pub(super) fn latest(&mut self, turn: &mut Turn<'_>, conn: ConnId, values: &[Arc<Event>]) {
        for value in values {
            let is_for = match &value.target {
                Target::User(user) => {
                    self.connections.get(conn).is_some_and(Connection::is_admitted)
                        && self.user_name(conn).is_some_and(|own| own == *user)
                }
                Target::Room(room) => self.membership(conn, room).is_some(),
                Target::Connection(_) | Target::Everyone => false,
            };
            let Some(record) = self.connections.get_mut(conn).filter(|_| is_for) else { continue };
            if !record.outbox.is_below_half_with(value.payload.len(), self.bounds) {
                self.cells.latest_unsent.add(1);
                continue;
            }
            // Nothing else is late because somebody came late.
            let event = Arc::new(Event { accepted_at_ns: turn.now.mono_ns, ..Event::clone(value) });
            let receivers = Receivers {
                bounds: self.bounds,
                cells: &self.cells,
                dirty: &mut self.dirty,
                overflowed: &mut self.overflowed,
            };
            FanOut::new(&event, receivers).deliver_to(Some(record));
        }
        self.close_overflowed(turn);
    }

    pub(super) fn deliver(&mut self, turn: &mut Turn<'_>, event: &Arc<Event>) {
        let pace = self.pacing.key_of(event).map(|key| (turn.tick, key));
        self.fan_out(turn, event, (pace, None));
    }

    /// Delivers positions that waited for the end of their interval, each to its connection if that is still there and
    /// the user's. As many as a shard takes from its mailbox in a turn: the others are due in the next.
    pub(super) fn release_paced(&mut self, turn: &mut Turn<'_>) {
        for _ in 0..MAILBOX_BATCH_MAX {
            let Some((conn, event)) = self.pacing.take_due(turn.tick) else { break };
            self.fan_out(turn, &event, (None, Some(conn)));
        }
    }

    fn fan_out(
        &mut self,
        turn: &mut Turn<'_>,
        event: &Arc<Event>,
        (pace, only): (Option<(Tick, LatestKey)>, Option<ConnId>),
    ) {
        let receivers = Receivers {
            bounds: self.bounds,
            cells: &self.cells,
            dirty: &mut self.dirty,
            overflowed: &mut self.overflowed,
        };
        let pace = pace.map(|(tick, key)| (&mut self.pacing, tick, key));
        let mut fan_out = FanOut { pace, only, ..FanOut::new(event, receivers) };
        match &event.target {
            Target::User(user) => {
                let slots = self.users.find(user).map_or(&[][..], |key| self.users.members(key));
                for slot in slots {
                    // What came before an admission is covered by the position that it told.
                    let record = self.connections.at_mut(*slot);
                    fan_out.deliver_to(record.filter(|record| record.is_admitted()));
                }
            }
            Target::Room(room) => {
                let slots = self.rooms.find(room).map_or(&[][..], |key| self.rooms.members(key));
                for slot in slots {
                    fan_out.deliver_to(self.connections.at_mut(*slot));
                }
            }
            Target::Connection(conn) => fan_out.deliver_to(self.connections.get_mut(*conn)),
            Target::Everyone => {
                self.connections.iter_mut().for_each(|record| fan_out.deliver_to(Some(record)))
            }
        }
        self.close_overflowed(turn);
    }

    /// Ends the connections whose outbox could not take what must not be lost.
    pub(super) fn close_overflowed(&mut self, turn: &mut Turn<'_>) {
        if !self.overflowed.is_empty() {
            let mut overflowed = mem::take(&mut self.overflowed);
            for conn in overflowed.drain(..) {
                self.close_too_slow(turn, conn);
            }
            self.overflowed = overflowed;
        }
    }

    /// Sends the gateway's own words; raw connections get none.
    pub(super) fn notice(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        notice: &Notice<'_>,
        request: Option<&RequestId>,
    ) {
        if self.connections.get(conn).is_some_and(|record| record.dialect == Dialect::Ticketing) {
            self.queue(turn, conn, &Rc::new(Frame::notice(notice, request)));
        }
    }

    /// Queues something for one connection alone, Ordered. What was asked before a close may still be answered, in front
    /// of the close frame.
    pub(super) fn queue(&mut self, turn: &mut Turn<'_>, conn: ConnId, frame: &Rc<Frame>) {
        let Some(record) = self.connections.get_mut(conn) else { return };
        let close = match record.stage {
            Stage::Pending => return,
            Stage::Open => None,
            Stage::Closing | Stage::Ended => {
                let Some(close) = record.outbox.take_close() else { return };
                Some(close)
            }
        };
        let offered = record.outbox.offer(frame, self.bounds);
        if let Some(close) = close {
            record.outbox.push_control(&close);
        }
        match offered {
            Offered::Queued { evicted } => {
                self.cells.dropped_ephemeral.add(evicted as u64);
                record.mark_dirty(&mut self.dirty);
            }
            Offered::Conflated | Offered::Dropped => {}
            Offered::TooSlow => self.close_too_slow(turn, conn),
        }
    }
}

/// One event on its way to its receivers.
struct FanOut<'a> {
    encoded: Encoded<'a>,
    /// `None`: it goes at once.
    pace: Option<(&'a mut Pacing, Tick, LatestKey)>,
    /// The one receiver; `None`: all of its target.
    only: Option<ConnId>,
    receivers: Receivers<'a>,
}

/// An event, and its frames as far as somebody needed them.
struct Encoded<'a> {
    event: &'a Arc<Event>,
    ticketing: Option<Rc<Frame>>,
    raw: Option<Rc<Frame>>,
}

impl Encoded<'_> {
    fn frame(&mut self, dialect: Dialect) -> &Rc<Frame> {
        let encoded = match dialect {
            Dialect::Ticketing => &mut self.ticketing,
            Dialect::Raw => &mut self.raw,
        };
        encoded.get_or_insert_with(|| Rc::new(Frame::event(self.event, dialect)))
    }
}

/// What a frame that several get meets on its way into their outboxes.
pub(super) struct Receivers<'a> {
    pub(super) bounds: Bounds,
    pub(super) cells: &'a ShardCells,
    pub(super) dirty: &'a mut Vec<ConnId>,
    pub(super) overflowed: &'a mut Vec<ConnId>,
}

impl Receivers<'_> {
    #[inline]
    pub(super) fn offer(&mut self, record: &mut Connection, frame: &Rc<Frame>) {
        match record.outbox.offer(frame, self.bounds) {
            Offered::Queued { evicted } => {
                if evicted > 0 {
                    self.cells.dropped_ephemeral.add(evicted as u64);
                }
                record.mark_dirty(self.dirty);
            }
            Offered::Conflated => self.cells.conflated.add(1),
            Offered::Dropped => self.cells.dropped_ephemeral.add(1),
            Offered::TooSlow => self.overflowed.push(record.id),
        }
    }
}

impl<'a> FanOut<'a> {
    fn new(event: &'a Arc<Event>, receivers: Receivers<'a>) -> Self {
        let encoded = Encoded { event, ticketing: None, raw: None };
        Self { encoded, pace: None, only: None, receivers }
    }

    #[inline]
    fn deliver_to(&mut self, record: Option<&mut Connection>) {
        let Some(record) = record else { return };
        let event = self.encoded.event;
        let hears = record.stage == Stage::Open && !record.login_required;
        if !hears || self.only.is_some_and(|only| only != record.id) {
            return;
        }
        let wanted = event.except != Some(record.id) && !record.has_muted(&event.kind);
        if let Some(position) = &event.position
            && record.rare.as_ref().is_some_and(|rare| rare.replays.is_some())
            && self.is_withheld(record, position, wanted)
        {
            return;
        }
        if !wanted {
            return;
        }
        if let Some((pacing, tick, key)) = &mut self.pace {
            match pacing.offer(*tick, record.id, *key, event) {
                Pace::Now => {}
                Pace::Unpaced => self.receivers.cells.unpaced.add(1),
                Pace::Held => return,
                Pace::Conflated => return self.receivers.cells.conflated.add(1),
            }
        }
        self.receivers.offer(record, self.encoded.frame(record.dialect));
    }

    /// Whether a replay of the event's stream keeps it back.
    fn is_withheld(&mut self, record: &mut Connection, position: &Position, wanted: bool) -> bool {
        let frame = wanted.then(|| Rc::clone(self.encoded.frame(record.dialect)));
        let Some(replays) = record.rare.as_mut().and_then(|rare| rare.replays.as_mut()) else { return false };
        let verdict = replays.take_live(position, frame, self.receivers.bounds.bytes_max);
        let asks = replays.wants() && !replays.listed;
        if replays.is_empty() {
            record.trim_rare();
        }
        if asks {
            // Behind the flush.
            record.mark_dirty(self.receivers.dirty);
        }
        if let Verdict::Withheld { dropped } = verdict {
            self.receivers.cells.parked_dropped.add(dropped);
        }
        verdict != Verdict::Deliver
    }
}

impl Connection {
    /// Puts it into the dirty list, once.
    #[inline]
    pub(super) fn mark_dirty(&mut self, dirty: &mut Vec<ConnId>) {
        if !mem::replace(&mut self.dirty, true) {
            dirty.push(self.id);
        }
    }
}
