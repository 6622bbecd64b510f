//! What members of a small room learn of each other: coming, going, typing, presence (03 §4a).
//!
//! Owns the conditions and the payloads. Everything goes to the others by way of control, Ephemeral.

use std::{borrow::Cow, sync::Arc};

use serde::Deserialize;

use super::{Hub, Output, Turn, deadlines::Tick, groups::GroupKey, problem::Problem, requests::Asked};
use crate::{
    event::{Class, Event, Target},
    ids::ConnId,
    limits::ANNOUNCED_ROOM_MEMBERS_MAX,
    wire::{json::write_string, room::glob_matches},
};

/// The payload of `user:presence`; whatever else it has is not passed on.
#[derive(Deserialize)]
struct Presence<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
}

impl Hub {
    /// The user came into the room, unless another of its connections here was in it.
    pub(super) fn announce_joined(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        user: GroupKey,
        room: GroupKey,
    ) {
        if !self.is_also_by_another(conn, user, room) {
            self.announce_user(
                turn,
                conn,
                user,
                Announcement { room, kind: "room:user_joined", typing: None },
            );
        }
    }

    /// The user left the room, unless another of its connections here is in it.
    pub(super) fn announce_left(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        user: GroupKey,
        room: GroupKey,
    ) {
        if !self.is_also_by_another(conn, user, room) {
            self.announce_user(turn, conn, user, Announcement { room, kind: "room:user_left", typing: None });
        }
    }

    /// `user:typing`.
    pub(super) fn typing(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>, room: &str, typing: bool) {
        let conn = asked.conn;
        let Some(key) = self.membership(conn, room) else {
            return self.refuse(turn, asked, Problem::NOT_IN_ROOM);
        };
        let is_announced = self.is_announced(key);
        let Some(record) = self.connections.get_mut(conn) else { return };
        let Some(user) = record.user.filter(|_| is_announced) else { return };
        let list = &mut record.rare_mut().typing;
        let known = list.len();
        list.retain(|(other, _)| *other != key);
        if typing {
            list.push((key, turn.tick.plus(self.spans.typing)));
        } else if list.len() == known {
            return;
        }
        let announcement = Announcement { room: key, kind: "room:typing", typing: Some(typing) };
        self.announce_user(turn, conn, user.group, announcement);
        self.reschedule(turn, conn);
    }

    /// Typing that was not repeated in time ends by itself.
    pub(super) fn end_typing(&mut self, turn: &mut Turn<'_>, conn: ConnId) {
        let Some(record) = self.connections.get_mut(conn) else { return };
        let (Some(user), Some(rare)) = (record.user, &mut record.rare) else { return };
        let ended = |until: Tick| until <= turn.tick;
        let rooms: Vec<GroupKey> =
            rare.typing.iter().filter(|(_, until)| ended(*until)).map(|(room, _)| *room).collect();
        rare.typing.retain(|(_, until)| !ended(*until));
        for room in rooms {
            let announcement = Announcement { room, kind: "room:typing", typing: Some(false) };
            self.announce_user(turn, conn, user.group, announcement);
        }
    }

    /// `user:presence`.
    pub(super) fn presence(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>, payload: &str) {
        let Ok(presence) = serde_json::from_str::<Presence<'_>>(payload) else {
            return self.refuse(turn, asked, Problem::INVALID_PRESENCE);
        };
        let Some(record) = self.connections.get(asked.conn) else { return };
        let Some(user) = record.user.and_then(|seat| self.users.name(seat.group)) else { return };
        let mut fields = vec![("user_id", &**user), ("status", &*presence.status)];
        fields.extend(presence.text.as_deref().map(|text| ("text", text)));
        let payload = object(&fields, None);
        let rooms = record.rooms.iter().map(|seat| seat.group).filter(|room| self.is_announced(*room));
        for room in rooms {
            self.publish_to(turn, asked.conn, room, ("user:status_change", payload.clone()));
        }
    }

    fn announce_user(&self, turn: &mut Turn<'_>, conn: ConnId, user: GroupKey, what: Announcement) {
        if !self.is_announced(what.room) {
            return;
        }
        let (Some(room), Some(user)) = (self.rooms.name(what.room), self.users.name(user)) else { return };
        let payload =
            object(&[("room", room), ("user_id", user)], what.typing.map(|typing| ("typing", typing)));
        self.publish_to(turn, conn, what.room, (what.kind, payload));
    }

    fn publish_to(&self, turn: &mut Turn<'_>, conn: ConnId, room: GroupKey, message: (&str, Vec<u8>)) {
        let Some(name) = self.rooms.name(room) else { return };
        let (kind, payload) = message;
        let event = Event {
            target: Target::Room(Arc::clone(name)),
            kind: kind.into(),
            payload: payload.into(),
            class: Class::Ephemeral,
            version: None,
            position: None,
            except: Some(conn),
            accepted_at_ns: turn.now.mono_ns,
        };
        turn.out.push(Output::Publish { conn, request: None, event });
    }

    fn is_announced(&self, room: GroupKey) -> bool {
        let globs = &self.settings.client.rooms_presence;
        !globs.is_empty()
            && self.rooms.total(room) as usize <= ANNOUNCED_ROOM_MEMBERS_MAX
            && self.rooms.name(room).is_some_and(|name| globs.iter().any(|glob| glob_matches(glob, name)))
    }

    fn is_also_by_another(&self, conn: ConnId, user: GroupKey, room: GroupKey) -> bool {
        !self.settings.client.rooms_presence.is_empty()
            && self
                .users
                .members(user)
                .iter()
                .filter_map(|slot| self.connections.at(*slot))
                .any(|record| record.id != conn && record.is_admitted() && record.rooms.contains(room))
    }
}

struct Announcement {
    room: GroupKey,
    kind: &'static str,
    typing: Option<bool>,
}

/// A JSON object of strings, and of one flag after them.
fn object(fields: &[(&str, &str)], flag: Option<(&str, bool)>) -> Vec<u8> {
    let mut out = vec![b'{'];
    for (key, value) in fields {
        write_key(key, &mut out);
        write_string(value, &mut out);
    }
    if let Some((key, value)) = flag {
        write_key(key, &mut out);
        out.extend_from_slice(if value { b"true" } else { b"false" });
    }
    out.push(b'}');
    out
}

fn write_key(key: &str, out: &mut Vec<u8>) {
    if out.len() > 1 {
        out.push(b',');
    }
    write_string(key, out);
    out.push(b':');
}
