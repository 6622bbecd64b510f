//! The end of a shard: the listeners go first, clients at the pace of control, and nobody who stays silent holds it up.
//!
//! Newcomers who were accepted are let in and sent away in their turn. Who says nothing for
//! [`DRAIN_CLOSE_TIME_MAX`](crate::limits::DRAIN_CLOSE_TIME_MAX) is ended; who began to speak has as long again, and is
//! looked at once more, so that a request that has come is answered. Connections that were sent away have that time to
//! answer our close once the kernel has all that they will get: it delivers that without us. Who still has something to
//! take keeps the usual time. The drain's own deadline is above all.

use std::time::Duration;

use super::{connections::Phase, state::Shard};
use crate::{clock::Now, ids::ConnId, mesh::ToControl, net::http::Answer};

impl Shard {
    /// Whether a drain was asked for.
    pub(super) fn is_draining(&self) -> bool {
        self.drain_deadline.is_some()
    }

    /// Nobody is left after a drain, and control knows.
    pub(super) fn is_finished(&self) -> bool {
        self.drained_told
    }

    /// From now on nobody new is accepted, once the accept queues are empty; asked again: the shorter time holds.
    pub(super) fn drain(&mut self, now: Now, within: Duration) {
        let deadline = now.after(within).mono_ns;
        if let Some(before) = self.drain_deadline {
            self.drain_deadline = Some(before.min(deadline));
            return;
        }
        self.drain_deadline = Some(deadline);
        self.listeners.drain();
        for conn in self.connections.ids() {
            let Some(connection) = self.connections.get_mut(conn) else { continue };
            // Clients leave when they are sent away.
            if !matches!(connection.phase, Phase::Admission(_) | Phase::Open) {
                self.parting_expiries.start(now.mono_ns, conn);
            }
        }
    }

    /// Ends a handshake whose request has not come, or in part.
    pub(super) fn end_handshake(&mut self, now: Now, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        match &connection.phase {
            Phase::Handshake(newcomer) if newcomer.head.is_empty() => self.remove(now, conn),
            Phase::Handshake(_) => {
                self.answer(now, conn, &Answer::retry(503, "the gateway is shutting down", 1));
            }
            Phase::Admission(_) | Phase::Open | Phase::Finishing | Phase::Lingering => {}
        }
    }

    /// Ends the connections that had their time to answer.
    pub(super) fn expire_parting(&mut self, now: Now) {
        for conn in self.parting_expiries.take_due(now.mono_ns) {
            let Some(connection) = self.connections.get_mut(conn) else { continue };
            match &mut connection.phase {
                // It stands in line, or more of its bytes are on their way.
                Phase::Handshake(newcomer)
                    if newcomer.lane.is_some() && (newcomer.held || !newcomer.warned) =>
                {
                    newcomer.warned = true;
                    self.parting_expiries.start(now.mono_ns, conn);
                }
                Phase::Handshake(_) => self.lanes.look_last(conn),
                Phase::Open | Phase::Lingering if !connection.blocked => {
                    // Sends what TLS has to say at the end, where nothing was finished yet.
                    self.finish(now, conn);
                    self.remove_finished(now, conn);
                }
                Phase::Admission(_) | Phase::Open | Phase::Finishing | Phase::Lingering => {}
            }
        }
    }

    /// Ends a drain: whoever is still here when its time is over is cut off.
    pub(super) fn finish_drain(&mut self, now: Now) {
        let Some(deadline) = self.drain_deadline else { return };
        if now.mono_ns >= deadline {
            for conn in self.connections.ids() {
                self.remove(now, conn);
            }
            self.settle(now);
        }
        if self.connections.len() == 0 && self.listeners.are_closed() && !self.drained_told {
            self.report();
            self.drained_told = self.control.try_send(ToControl::Drained).is_ok();
        }
    }
}
