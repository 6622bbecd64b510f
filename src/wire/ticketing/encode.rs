//! What clients get (03 §4): notices and events to whole WebSocket text frames.
//!
//! Invariant: a frame is one `Vec` of exactly its size; the payload is copied into it once and never looked at.

use std::{borrow::Cow, sync::Arc};

use super::{Notice, notice_kind};
use crate::{
    config::settings::Dialect,
    event::{Event, Form, Position},
    ids::ConnId,
    wire::{
        command::RequestId,
        frame::{OpCode, encode_header, header_bytes},
        json,
    },
};

/// One whole WebSocket text frame with the notice; `id` is that of the request it answers.
pub fn encode_notice(notice: &Notice<'_>, id: Option<&RequestId>) -> Vec<u8> {
    let payload = notice_payload(notice);
    let (id_key, id) = match id {
        Some(id) => (r#","id":"#, id.as_bytes()),
        None => ("", &[][..]),
    };
    envelope(notice_kind(notice), &payload, [id_key.as_bytes(), id])
}

/// One whole WebSocket text frame with the event, in the given dialect and as its form says.
///
/// The ticketing dialect adds `stream`, `epoch` and `offset` to an event that has a position; the raw one never.
pub fn encode_event(event: &Event, dialect: Dialect) -> Vec<u8> {
    let position = match (dialect, &event.position) {
        (Dialect::Ticketing, Some(position)) => position_fields(position),
        _ => Vec::new(),
    };
    match (event.form, dialect) {
        (Form::Payload, _) | (Form::Object, Dialect::Ticketing) => {
            envelope(&event.kind, &event.payload, [&position, &[]])
        }
        (Form::Object, Dialect::Raw) | (Form::Message, _) => whole(&event.payload, &position),
    }
}

/// A frame with the object itself, and further fields behind its own.
fn whole(object: &[u8], fields: &[u8]) -> Vec<u8> {
    let end = object.iter().rposition(|byte| *byte == b'}').unwrap_or(object.len());
    let (inside, end) = if fields.is_empty() { (object, &[][..]) } else { object.split_at(end) };
    text_frame(&[inside, fields, end])
}

/// The payload of a client's `room:message` as other members get it:
/// `{room, user_id, connection_id, data, sent_at}`.
pub fn room_message_payload(
    room: &str,
    user: Option<&Arc<str>>,
    conn: ConnId,
    data: &str,
    sent_at_ms: u64,
) -> Vec<u8> {
    Object::with_capacity(160 + room.len() + user.map_or(0, |user| user.len()) + data.len())
        .text("room", room)
        .text_or_null("user_id", user.map(|user| &**user))
        .text("connection_id", &conn.to_string())
        .json("data", data)
        .number("sent_at", sent_at_ms)
        .end()
}

/// The payload of `room:user_joined`, `room:user_left` and, with `typing`, of `room:typing`.
pub fn room_user_payload(room: &str, user: &str, typing: Option<bool>) -> Vec<u8> {
    let object = Object::with_capacity(48 + room.len() + user.len()).text("room", room).text("user_id", user);
    match typing {
        Some(typing) => object.json("typing", if typing { "true" } else { "false" }),
        None => object,
    }
    .end()
}

/// The payload of `user:status_change`.
pub fn status_change_payload(user: &str, status: &str, text: Option<&str>) -> Vec<u8> {
    Object::with_capacity(48 + user.len() + status.len() + text.map_or(0, str::len))
        .text("user_id", user)
        .text("status", status)
        .text_if("text", text)
        .end()
}

/// A frame with `{"type":kind,"payload":payload…tail}`.
fn envelope(kind: &str, payload: &[u8], tail: [&[u8]; 2]) -> Vec<u8> {
    let kind = quoted_inner(kind);
    let parts = [br#"{"type":""#, kind.as_bytes(), br#"","payload":"#, payload, tail[0], tail[1], b"}"];
    text_frame(&parts)
}

/// A text frame of all the parts.
fn text_frame(parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.len()).sum();
    let mut frame = Vec::with_capacity(header_bytes(length) + length);
    encode_header(OpCode::Text, length, &mut frame);
    for part in parts {
        frame.extend_from_slice(part);
    }
    frame
}

/// The inside of a JSON string; types hardly ever need an escape.
fn quoted_inner(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let quoted = serde_json::Value::from(text).to_string();
    Cow::Owned(quoted[1..quoted.len() - 1].to_owned())
}

/// `,"stream":…,"epoch":…,"offset":…`
fn position_fields(position: &Position) -> Vec<u8> {
    let mut fields = position_object(Object::with_capacity(96), position).0;
    fields[0] = b',';
    fields
}

fn position_object(object: Object, position: &Position) -> Object {
    object.text("stream", &position.stream).text("epoch", &position.epoch).number("offset", position.offset)
}

fn notice_payload<'a>(notice: &Notice<'a>) -> Cow<'a, [u8]> {
    let object = match *notice {
        Notice::Pong(payload) => return Cow::Borrowed(payload.unwrap_or("null").as_bytes()),
        Notice::Custom { payload, .. } => return Cow::Borrowed(payload.as_bytes()),
        Notice::Ok => return Cow::Borrowed(b"{}"),
        Notice::Connected { conn, user, server_time_ms, ping_interval_ms, streams, preferences } => {
            let object = Object::with_capacity(256)
                .text("connection_id", &conn.to_string())
                .text_or_null("user_id", user)
                .json("authenticated", if user.is_some() { "true" } else { "false" })
                .number("server_time", server_time_ms)
                .number("ping_interval_ms", ping_interval_ms)
                .list("streams", streams, |position| position_object(Object::with_capacity(96), position));
            match preferences {
                Some(preferences) => object.json("preferences", preferences),
                None => object,
            }
        }
        Notice::Error { code, message, reference, retry_after_ms } => Object::with_capacity(128)
            .text("code", code)
            .text("message", message)
            .text_if("ref", reference)
            .number_if("retry_after_ms", retry_after_ms),
        Notice::Draining { reconnect_after_ms } => {
            Object::with_capacity(48).number("reconnect_after_ms", reconnect_after_ms.into())
        }
        Notice::Joined { room, members, position } => Object::with_capacity(128)
            .text("room", room)
            .number("members", members.into())
            .text_if("epoch", position.map(|position| &*position.epoch))
            .number_if("offset", position.map(|position| position.offset)),
        Notice::Left { room } => Object::with_capacity(64).text("room", room),
        Notice::Resumed { position, recovered, from } => Object::with_capacity(160)
            .text("stream", &position.stream)
            .json("recovered", if recovered { "true" } else { "false" })
            .number("from", from)
            .number("to", position.offset)
            .text("epoch", &position.epoch),
        Notice::Resync(position) => position_object(Object::with_capacity(128), position),
        Notice::AuthOk { user, expires_at_ms } => {
            Object::with_capacity(96).text_or_null("user_id", user).number_if("expires_at", expires_at_ms)
        }
        Notice::QueueJoined { event_id, place, place_token, receipt, commitment, opens_at_ms } => {
            let object = Object::with_capacity(256).text("event_id", event_id);
            let object = match place {
                Some(place) => object.number("place", place.into()),
                None => object.json("place", "null"),
            };
            object
                .text_if("place_token", place_token)
                .json("receipt", receipt.unwrap_or("null"))
                .text("commitment", commitment)
                .number_if("opens_at", opens_at_ms)
        }
        Notice::QueueState { kind: _, event_id, reason, opens_at_ms } => Object::with_capacity(96)
            .text("event_id", event_id)
            .text_if("reason", reason)
            .number_if("opens_at", opens_at_ms),
        Notice::TokenExpiring { expires_at_ms } => {
            Object::with_capacity(48).number("expires_at", expires_at_ms)
        }
    };
    Cow::Owned(object.end())
}

/// A JSON object that is being written: its text without the last brace.
struct Object(Vec<u8>);

impl Object {
    fn with_capacity(bytes: usize) -> Self {
        let mut text = Vec::with_capacity(bytes);
        text.push(b'{');
        Self(text)
    }

    /// Begins a field; names are literals that need no escape.
    fn key(&mut self, name: &'static str) -> &mut Vec<u8> {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
        &mut self.0
    }

    fn text(mut self, name: &'static str, value: &str) -> Self {
        json::write_string(value, self.key(name));
        self
    }

    fn text_if(self, name: &'static str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    fn text_or_null(self, name: &'static str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self.json(name, "null"),
        }
    }

    fn number(self, name: &'static str, value: u64) -> Self {
        self.json(name, &value.to_string())
    }

    fn number_if(self, name: &'static str, value: Option<u64>) -> Self {
        match value {
            Some(value) => self.number(name, value),
            None => self,
        }
    }

    /// A value that is JSON text already.
    fn json(mut self, name: &'static str, value: &str) -> Self {
        self.key(name).extend_from_slice(value.as_bytes());
        self
    }

    fn list<T>(mut self, name: &'static str, items: &[T], object: impl Fn(&T) -> Self) -> Self {
        let text = self.key(name);
        text.push(b'[');
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                text.push(b',');
            }
            text.extend_from_slice(&object(item).end());
        }
        text.push(b']');
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}
