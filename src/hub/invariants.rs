//! What must hold between two calls of `handle`, checked in debug builds.

use std::collections::{HashMap, HashSet};

use super::{Hub, connections::Stage, replay};
use crate::ids::ConnId;

/// A hub whose table has this many slots or fewer, taken or not, is checked after every call.
const SMALL_TABLE: usize = 256;
/// A larger one after every so many.
const CALLS_BETWEEN: u64 = 4_096;

impl Hub {
    pub(super) fn check_now_and_then(&mut self) {
        self.handled += 1;
        if self.connections.slots() <= SMALL_TABLE || self.handled.is_multiple_of(CALLS_BETWEEN) {
            self.check_invariants();
        }
    }

    /// Panics where the state contradicts itself.
    pub(super) fn check_invariants(&self) {
        let (mut open, mut admitted, mut of_users, mut in_rooms, mut joining) = (0, 0, 0, 0, 0);
        let mut present = HashMap::new();
        let dirty: HashSet<ConnId> = self.dirty.iter().copied().collect();
        for record in self.connections.iter() {
            let slot = record.id.slot() as u32;
            open += u64::from(record.stage != Stage::Pending);
            admitted += u64::from(record.is_admitted());
            if let Some(seat) = record.user {
                of_users += 1;
                let members = self.users.members(seat.group);
                assert_eq!(
                    members.get(seat.position as usize),
                    Some(&slot),
                    "{:?} is not its user's",
                    record.id
                );
            }
            for seat in record.rooms.iter() {
                in_rooms += 1;
                let members = self.rooms.members(seat.group);
                assert_eq!(
                    members.get(seat.position as usize),
                    Some(&slot),
                    "{:?} is not in its room",
                    record.id
                );
            }
            for waiting in record.joining() {
                joining += usize::from(!record.rooms.contains(waiting.room));
            }
            for replay in record.rare.iter().flat_map(|rare| &rare.replays).flat_map(|replays| &replays.list)
            {
                replay.check_invariants();
                let joining = record.joining().iter().any(|joining| Some(joining.room) == replay.room);
                let theirs = match replay.room {
                    Some(_) if replay.stage == replay::Stage::Joining => joining,
                    Some(room) => record.rooms.contains(room),
                    None => record.is_admitted(),
                };
                assert!(theirs, "{:?} replays {}", record.id, replay.stream);
            }
            for pair in record.rooms.iter().filter_map(|seat| self.presence_of(record.id, seat.group)) {
                *present.entry(pair).or_default() += 1;
            }
            let must_wake = matches!(record.stage, Stage::Open | Stage::Closing);
            assert_eq!(self.deadlines.contains(slot), must_wake, "{:?} {:?}", record.id, record.stage);
            assert!(record.dirty == dirty.contains(&record.id), "{:?} is dirty or is not", record.id);
            record.outbox.check_invariants(self.bounds);
        }
        assert_eq!(self.users.check_invariants(), (of_users, 0), "a seat of a user is nobody's");
        assert_eq!(self.rooms.check_invariants(), (in_rooms, joining), "a seat in a room is nobody's");
        self.presence.check_invariants(present);
        self.pacing.check_invariants();
        let is_open = |slot| self.connections.at(slot).is_some_and(|record| record.stage == Stage::Open);
        self.lines.check_invariants(is_open);
        assert_eq!(self.cells.connections.get(), open);
        assert_eq!(self.cells.connections_authenticated.get(), admitted);
        assert!(self.overflowed.is_empty() && self.due.is_empty());
    }
}
