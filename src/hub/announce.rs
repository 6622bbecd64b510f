//! What members of a small room say of themselves: typing, presence (03 §4a). Their coming and going is announced by
//! control, see `presence`.
//!
//! Owns the conditions. Everything goes to the others by way of control, Ephemeral.

use std::{borrow::Cow, sync::Arc};

use serde::Deserialize;

use super::{Hub, Output, Turn, deadlines::Tick, groups::GroupKey, problem::Problem, requests::Asked};
use crate::{
    event::{Class, Event, Form, Target},
    ids::ConnId,
    limits::ANNOUNCED_ROOM_MEMBERS_MAX,
    wire::ticketing::{room_user_payload, status_change_payload},
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
        self.announce_typing(turn, conn, (user.group, key), typing);
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
            self.announce_typing(turn, conn, (user.group, room), false);
        }
    }

    /// `user:presence`.
    pub(super) fn presence(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>, payload: &str) {
        let Ok(presence) = serde_json::from_str::<Presence<'_>>(payload) else {
            return self.refuse(turn, asked, Problem::INVALID_PRESENCE);
        };
        let Some(record) = self.connections.get(asked.conn) else { return };
        let Some(user) = record.user.and_then(|seat| self.users.name(seat.group)) else { return };
        let payload = status_change_payload(user, &presence.status, presence.text.as_deref());
        let rooms = record.rooms.iter().map(|seat| seat.group).filter(|room| self.is_announced(*room));
        for room in rooms {
            self.publish_to(turn, asked.conn, room, ("user:status_change", payload.clone()));
        }
    }

    fn announce_typing(
        &self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        (user, room): (GroupKey, GroupKey),
        typing: bool,
    ) {
        if !self.is_announced(room) {
            return;
        }
        let (Some(name), Some(user)) = (self.rooms.name(room), self.users.name(user)) else { return };
        let payload = room_user_payload(name, user, Some(typing));
        self.publish_to(turn, conn, room, ("room:typing", payload));
    }

    fn publish_to(&self, turn: &mut Turn<'_>, conn: ConnId, room: GroupKey, message: (&str, Vec<u8>)) {
        let Some(name) = self.rooms.name(room) else { return };
        let (kind, payload) = message;
        let event = Event {
            target: Target::Room(Arc::clone(name)),
            kind: kind.into(),
            payload: payload.into(),
            form: Form::Payload,
            class: Class::Ephemeral,
            version: None,
            position: None,
            except: Some(conn),
            accepted_at_ns: turn.now.mono_ns,
        };
        turn.out.push(Output::Publish { conn, request: None, event });
    }

    fn is_announced(&self, room: GroupKey) -> bool {
        self.rooms.total(room) as usize <= ANNOUNCED_ROOM_MEMBERS_MAX
            && self.rooms.name(room).is_some_and(|name| self.has_presence(name))
    }
}
