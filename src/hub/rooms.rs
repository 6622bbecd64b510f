//! Rooms: who may be in one, coming and going (03 §4).

use std::sync::Arc;

use super::{
    Hub, Output, Turn,
    groups::{GroupKey, Seat},
    joining::Why,
    problem::Problem,
    requests::Asked,
};
use crate::{
    ids::ConnId,
    limits::ROOMS_PER_CONNECTION_MAX,
    wire::{
        room::{RoomKind, classify, glob_matches},
        ticketing::Notice,
    },
};

impl Hub {
    pub(super) fn join(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>, room: &Arc<str>) {
        let joined = match classify(room) {
            None => Err(Problem::INVALID_ROOM),
            Some(RoomKind::User(id)) => self.join_own(asked.conn, id),
            Some(RoomKind::Public | RoomKind::Private) if self.is_governed(room) => {
                match self.ask_to_join(turn, asked, room, Why::Join) {
                    Ok(()) => return,
                    Err(problem) => Err(problem),
                }
            }
            Some(RoomKind::Public | RoomKind::Private) => self.enter(asked.conn, room),
        };
        match joined {
            Ok(members) => {
                let notice = Notice::Joined { room, members, position: None };
                self.notice(turn, asked.conn, &notice, asked.id.as_ref());
                if self.membership(asked.conn, room).is_some() {
                    let (conn, room) = (asked.conn, Arc::clone(room));
                    turn.out.push(Output::Entered { conn, room });
                }
            }
            Err(problem) => self.refuse(turn, asked, problem),
        }
    }

    pub(super) fn leave(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>, room: &str) {
        let joining = self.joining(asked.conn, room);
        let gave_up = joining.is_some_and(|key| self.give_up_join(turn, asked.conn, key, Problem::LEFT));
        let member = self.membership(asked.conn, room);
        if let Some(key) = member {
            self.end_replays(turn, asked.conn, Some(key), Problem::LEFT);
            self.leave_room(asked.conn, key);
        }
        if gave_up || member.is_some() {
            self.notice(turn, asked.conn, &Notice::Left { room }, asked.id.as_ref());
        } else {
            self.refuse(turn, asked, Problem::NOT_IN_ROOM);
        }
    }

    /// The room, if the connection is in it.
    pub(super) fn membership(&self, conn: ConnId, room: &str) -> Option<GroupKey> {
        let key = self.rooms.find(room)?;
        self.connections.get(conn)?.rooms.contains(key).then_some(key)
    }

    /// After the claims changed: leaves the rooms that the new ones do not open, and waits for none of them.
    pub(super) fn leave_forbidden_rooms(&mut self, turn: &mut Turn<'_>, conn: ConnId) {
        let Some(record) = self.connections.get(conn) else { return };
        let is_forbidden = |key: &GroupKey| {
            let name = self.rooms.name(*key);
            name.is_some_and(|name| self.is_protected(name) && !record.is_granted(name))
        };
        let joining = record.joining().iter().map(|joining| joining.room).filter(is_forbidden);
        let joining: Vec<GroupKey> = joining.collect();
        let rooms: Vec<GroupKey> = record.rooms.iter().map(|seat| seat.group).filter(is_forbidden).collect();
        for key in joining {
            self.give_up_join(turn, conn, key, Problem::FORBIDDEN);
        }
        for key in rooms {
            let Some(name) = self.rooms.name(key).cloned() else { continue };
            self.end_replays(turn, conn, Some(key), Problem::FORBIDDEN);
            self.leave_room(conn, key);
            self.notice(turn, conn, &Notice::Left { room: &name }, None);
        }
    }

    /// What a connection that is no member must fulfil wherever the join is decided.
    pub(super) fn check_join(&self, conn: ConnId, room: &str) -> Result<(), Problem> {
        let Some(record) = self.connections.get(conn) else { return Err(Problem::INTERNAL) };
        if self.is_protected(room) && !record.is_granted(room) {
            return Err(Problem::FORBIDDEN);
        }
        if record.rooms.len() + record.joining().len() >= ROOMS_PER_CONNECTION_MAX {
            return Err(Problem::TOO_MANY_ROOMS);
        }
        Ok(())
    }

    /// Takes a connection out of a room's members.
    pub(super) fn vacate_room(&mut self, seat: Seat) {
        if let Some(moved) = self.rooms.leave(seat).and_then(|slot| self.connections.at_mut(slot)) {
            moved.rooms.moved(seat);
        }
    }

    /// The room of the user's own connections, who are in it without joining: the index of users is it.
    fn join_own(&self, conn: ConnId, id: &str) -> Result<u32, Problem> {
        let seat = self.connections.get(conn).and_then(|record| record.user);
        match seat {
            Some(seat) if self.users.name(seat.group).is_some_and(|user| **user == *id) => {
                Ok(self.users.total(seat.group))
            }
            _ => Err(Problem::FORBIDDEN),
        }
    }

    /// Makes the connection a member, once; the room's members.
    fn enter(&mut self, conn: ConnId, room: &Arc<str>) -> Result<u32, Problem> {
        if let Some(key) = self.membership(conn, room) {
            return Ok(self.rooms.total(key));
        }
        self.check_join(conn, room)?;
        let seat = self.rooms.join(room, conn.slot() as u32);
        if let Some(record) = self.connections.get_mut(conn) {
            record.rooms.insert(seat);
        }
        self.user_comes(conn, seat.group);
        Ok(self.rooms.total(seat.group))
    }

    fn leave_room(&mut self, conn: ConnId, room: GroupKey) {
        let Some(record) = self.connections.get_mut(conn) else { return };
        let Some(seat) = record.rooms.remove(room) else { return };
        if let Some(rare) = &mut record.rare {
            rare.typing.retain(|(typing, _)| *typing != room);
        }
        self.user_goes(conn, room);
        self.vacate_room(seat);
    }

    /// Whether the room needs the claim `rooms`.
    pub(super) fn is_protected(&self, room: &str) -> bool {
        let globs = &self.settings.client.rooms_protected;
        classify(room) == Some(RoomKind::Private) || globs.iter().any(|glob| glob_matches(glob, room))
    }
}
