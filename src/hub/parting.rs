//! Sending clients away while the gateway drains: some at a time, at the pace that control sets.
//!
//! Owns how far it came. Never knows the pace: each order says how many. Who waits for control is no client yet; once
//! everybody was sent away, it is let in, greeted and sent away after the others.

use super::{Hub, Output, Turn, connections::Stage};
use crate::{
    ids::ConnId,
    wire::{close::Close, ticketing::Notice},
};

/// How far the sending away came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parting {
    /// The slot that is looked at next.
    next_slot: u32,
    /// Everybody was sent away: within how many milliseconds those who still come are to return.
    late_return_ms: Option<u32>,
}

impl Hub {
    /// Sends so many clients away, or everybody.
    pub(super) fn send_away(&mut self, turn: &mut Turn<'_>, count: Option<u32>, return_ms: u32) {
        if count.is_none() {
            self.parting.late_return_ms = Some(return_ms);
        }
        let slots = self.connections.slots() as u32;
        let mut left = count.unwrap_or(u32::MAX);
        for _ in 0..slots {
            if left == 0 {
                return;
            }
            let slot = self.parting.next_slot % slots;
            self.parting.next_slot = (slot + 1) % slots;
            let Some(record) = self.connections.at(slot) else { continue };
            match (record.id, record.stage) {
                (conn, Stage::Open) => {
                    self.send_one_away(turn, conn, return_ms);
                    left -= 1;
                }
                // It was closed before, and has no longer than the others either.
                (conn, Stage::Closing) if count.is_none() => turn.out.push(Output::SentAway { conn }),
                (_, Stage::Pending | Stage::Closing | Stage::Ended) => {}
            }
        }
    }

    /// Sends a connection away that was let in after everybody had been told to go.
    pub(super) fn send_late_away(&mut self, turn: &mut Turn<'_>, conn: ConnId) {
        if let Some(return_ms) = self.parting.late_return_ms {
            self.send_one_away(turn, conn, return_ms);
        }
    }

    fn send_one_away(&mut self, turn: &mut Turn<'_>, conn: ConnId, return_ms: u32) {
        let reconnect_after_ms = 1 + self.spread(conn, return_ms);
        self.notice(turn, conn, &Notice::Draining { reconnect_after_ms }, None);
        self.close(turn, conn, Close::GoingAway { reconnect_after_ms });
        turn.out.push(Output::SentAway { conn });
    }
}
