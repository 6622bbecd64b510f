//! Which users are in which rooms under `ROOM_PRESENCE` by a connection of this hub, and what control knows of it.
//!
//! Owns one entry for each room and user with such a connection, or of which control must still hear that there is
//! none. Never announces: control does, since it alone sees all shards. Invariant: what control was not told waits in
//! `changed`, once.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use foldhash::fast::FixedState;

use super::{Hub, groups::GroupKey, io::Report};
use crate::{ids::ConnId, wire::room::glob_matches};

/// A room and a user.
type Pair = (Arc<str>, Arc<str>);

/// The users in rooms.
#[derive(Debug)]
pub(super) struct Presence {
    pairs: HashMap<Pair, Present, FixedState>,
    changed: VecDeque<Pair>,
}

#[derive(Debug)]
struct Present {
    /// Connections of the user in the room.
    connections: u32,
    /// The one that came or went last.
    conn: ConnId,
    /// What control was told last.
    told: bool,
    /// Whether it is in `changed`.
    waiting: bool,
}

impl Presence {
    pub(super) fn new(seed: u64) -> Self {
        Self { pairs: HashMap::with_hasher(FixedState::with_seed(seed)), changed: VecDeque::new() }
    }

    fn come(&mut self, pair: Pair, conn: ConnId) {
        let begin = Present { connections: 0, conn, told: false, waiting: false };
        let present = self.pairs.entry(pair.clone()).or_insert(begin);
        present.connections += 1;
        if present.connections == 1 {
            Self::note(&mut self.changed, present, pair, conn);
        }
    }

    fn go(&mut self, pair: Pair, conn: ConnId) {
        let Some(present) = self.pairs.get_mut(&pair) else { return };
        present.connections -= 1;
        if present.connections == 0 {
            Self::note(&mut self.changed, present, pair, conn);
        }
    }

    fn note(changed: &mut VecDeque<Pair>, present: &mut Present, pair: Pair, conn: ConnId) {
        present.conn = conn;
        if !std::mem::replace(&mut present.waiting, true) {
            changed.push_back(pair);
        }
    }

    /// Whether control has something to learn.
    pub(super) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Reports what differs from what control was told, until `report` does not take one.
    pub(super) fn take_changes(&mut self, report: &mut dyn FnMut(Report) -> bool) {
        while let Some(pair) = self.changed.front() {
            if let Some(entry) = self.pairs.get_mut(pair) {
                let ((room, user), present, conn) = (pair.clone(), entry.connections > 0, entry.conn);
                if present != entry.told && !report(Report::Present { room, user, present, conn }) {
                    return;
                }
                entry.told = present;
                entry.waiting = false;
                if !present {
                    self.pairs.remove(pair);
                }
            }
            self.changed.pop_front();
        }
    }

    /// Panics where the state contradicts itself, or differs from `connections` by room and user.
    #[cfg(debug_assertions)]
    pub(super) fn check_invariants(&self, mut connections: HashMap<Pair, u32>) {
        let mut waiting = 0;
        for (pair, present) in &self.pairs {
            assert_eq!(connections.remove(pair).unwrap_or(0), present.connections, "connections of {pair:?}");
            let known = present.told == (present.connections > 0);
            assert!(present.waiting || known && present.told, "control does not know {pair:?}");
            waiting += usize::from(present.waiting);
        }
        assert_eq!((connections.len(), self.changed.len()), (0, waiting), "{connections:?}");
    }
}

impl Hub {
    /// An admitted connection came into a room, or one in a room was admitted.
    pub(super) fn user_comes(&mut self, conn: ConnId, room: GroupKey) {
        if let Some(pair) = self.presence_of(conn, room) {
            self.presence.come(pair, conn);
        }
    }

    /// An admitted connection leaves a room, or is not its user's any more. Called while it still is.
    pub(super) fn user_goes(&mut self, conn: ConnId, room: GroupKey) {
        if let Some(pair) = self.presence_of(conn, room) {
            self.presence.go(pair, conn);
        }
    }

    /// The room and the connection's user, if members of the room learn of each other.
    pub(super) fn presence_of(&self, conn: ConnId, room: GroupKey) -> Option<Pair> {
        if self.settings.client.rooms_presence.is_empty() {
            return None;
        }
        let user = self.connections.get(conn).filter(|record| record.is_admitted())?.user?;
        let room = self.rooms.name(room).filter(|room| self.has_presence(room))?;
        Some((Arc::clone(room), Arc::clone(self.users.name(user.group)?)))
    }

    /// Whether the room is under `ROOM_PRESENCE`.
    pub(super) fn has_presence(&self, room: &str) -> bool {
        self.settings.client.rooms_presence.iter().any(|glob| glob_matches(glob, room))
    }
}
