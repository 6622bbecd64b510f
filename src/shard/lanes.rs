//! Whose handshake goes on next: those who come back go before those who are new.
//!
//! Owns the order alone. A claim to come back can be made up, so it buys turns and never all of them: invariant: where
//! both wait, one turn of [`TURNS`] is a new one's. A connection may stand in line more than once, or no longer exist;
//! whoever takes it out looks.

use std::collections::VecDeque;

use crate::{ids::ConnId, metrics::LANES};

/// Turns in a round; where both lanes wait, the last of them goes to who is new.
const TURNS: u8 = 5;

/// What a newcomer claims to be; the order is that of [`LANES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Was here before: has a TLS ticket, or asks for what it missed.
    Returning,
    New,
}

/// Sockets whose handshake can go on.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// Have something to read, and were not assigned yet.
    arrivals: VecDeque<ConnId>,
    lanes: [VecDeque<ConnId>; LANES.len()],
    /// Turns of this round that are over; `0 <= turn < TURNS`.
    turn: u8,
    /// Looked at for the last time, since the shard drains.
    parting: VecDeque<ConnId>,
}

/// Who is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) conn: ConnId,
    /// There is no other look at it.
    pub(super) last_look: bool,
}

impl Lanes {
    /// Somebody has something to read.
    pub(super) fn arrive(&mut self, conn: ConnId) {
        self.arrivals.push_back(conn);
    }

    /// Who is to be assigned next.
    pub(super) fn next_arrival(&mut self) -> Option<ConnId> {
        self.arrivals.pop_front()
    }

    /// Stands in line from now on.
    pub(super) fn assign(&mut self, lane: Lane, conn: ConnId) {
        self.lanes[lane as usize].push_back(conn);
    }

    /// Is looked at once more, before everybody else.
    pub(super) fn look_last(&mut self, conn: ConnId) {
        self.parting.push_back(conn);
    }

    /// Whose turn it is.
    pub(super) fn next(&mut self) -> Option<Next> {
        if let Some(conn) = self.parting.pop_front() {
            return Some(Next { conn, last_look: true });
        }
        let [returning, new] = &mut self.lanes;
        let lane = match (returning.is_empty(), new.is_empty()) {
            (true, _) => new,
            (false, true) => returning,
            (false, false) => {
                self.turn = (self.turn + 1) % TURNS;
                if self.turn == 0 { new } else { returning }
            }
        };
        lane.pop_front().map(|conn| Next { conn, last_look: false })
    }

    /// How many stand in each lane.
    pub(super) fn waiting(&self) -> [usize; LANES.len()] {
        self.lanes.each_ref().map(VecDeque::len)
    }

    /// Whether nobody waits for anything.
    pub(super) fn is_empty(&self) -> bool {
        self.arrivals.is_empty() && self.parting.is_empty() && self.waiting() == [0; LANES.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;

    fn conn(slot: u32) -> ConnId {
        ConnId::new(ShardId(0), 0, slot)
    }

    /// Slots from 100 on are new, those below return.
    fn order(lanes: &mut Lanes, turns: usize) -> Vec<usize> {
        (0..turns).filter_map(|_| lanes.next()).map(|next| next.conn.slot()).collect()
    }

    #[test]
    fn where_both_wait_four_turns_of_five_are_of_those_who_return() {
        let mut lanes = Lanes::default();
        for slot in 0..20 {
            lanes.assign(Lane::New, conn(100 + slot));
        }
        for slot in 0..8 {
            lanes.assign(Lane::Returning, conn(slot));
        }
        assert_eq!(lanes.waiting(), [8, 20]);
        assert_eq!(order(&mut lanes, 12), [0, 1, 2, 3, 100, 4, 5, 6, 7, 101, 102, 103]);
    }

    #[test]
    fn turns_that_nobody_contests_do_not_count() {
        let mut lanes = Lanes::default();
        for round in 0..7 {
            lanes.assign(Lane::New, conn(100 + round));
            assert_eq!(order(&mut lanes, 1), [100 + round as usize]);
        }
        lanes.assign(Lane::New, conn(100));
        lanes.assign(Lane::Returning, conn(1));
        assert_eq!(order(&mut lanes, 9), [1, 100]);
        assert!(lanes.is_empty());
    }

    #[test]
    fn last_looks_come_first_and_arrivals_only_when_assigned() {
        let mut lanes = Lanes::default();
        lanes.arrive(conn(3));
        lanes.assign(Lane::Returning, conn(2));
        lanes.look_last(conn(1));
        assert_eq!(lanes.next(), Some(Next { conn: conn(1), last_look: true }));
        assert_eq!(lanes.next(), Some(Next { conn: conn(2), last_look: false }));
        assert_eq!(lanes.next(), None);
        assert!(!lanes.is_empty());
        assert_eq!(lanes.next_arrival(), Some(conn(3)));
        assert!(lanes.is_empty());
    }
}
