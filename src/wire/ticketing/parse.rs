//! What clients send (03 §4): text to [`Request`].
//!
//! Invariant: the whole text is validated before any field of it is looked at, so that two readers of one message never
//! see two values. Names and tokens point into the text.

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::resume;
use crate::{
    limits::{
        EVENT_ID_BYTES_MAX, KIND_BYTES_MAX, MUTED_PATTERNS_MAX, PLACE_TOKEN_BYTES_MAX, PREFERENCES_BYTES_MAX,
        REQUEST_ID_BYTES_MAX, TOKEN_BYTES_MAX,
    },
    wire::{
        command::{BadRequest, Command, Request, RequestId},
        json::{self, Invalid},
        room,
    },
};

/// Understands one text message.
pub fn parse(text: &str) -> Result<Request<'_>, BadRequest> {
    json::validate_object(text).map_err(BadRequest::InvalidJson)?;
    let envelope: Envelope<'_> =
        serde_json::from_str(text).map_err(|_| BadRequest::InvalidJson(Invalid::Syntax))?;
    let id = envelope.id.map(request_id).transpose()?;
    let kind = envelope.kind.and_then(plain_string).ok_or(BadRequest::MissingType)?;
    if !(1..=KIND_BYTES_MAX).contains(&kind.len()) {
        return Err(BadRequest::MissingType);
    }
    match command(kind, envelope.payload) {
        Ok(command) => Ok(Request { id, kind, command }),
        Err(Fault::Room) => Err(BadRequest::InvalidRoom { kind: kind.to_owned(), id }),
        Err(Fault::Payload(problem)) => {
            Err(BadRequest::InvalidPayload { kind: kind.to_owned(), id, problem })
        }
    }
}

/// The outer object; other keys are ignored.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, rename = "type", deserialize_with = "present")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    payload: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
}

/// The fields of all payloads that the gateway acts on; other keys are ignored.
#[derive(Default, Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    room: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    typing: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    status: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    text: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    muted: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    token: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    event_id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    place_token: Option<&'a RawValue>,
}

/// Keeps `null` apart from an absent field.
pub(super) fn present<'de, D: Deserializer<'de>>(json: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(json).map(Some)
}

/// What is wrong with a payload.
pub(super) enum Fault {
    Room,
    Payload(&'static str),
}

pub(super) const NOT_AN_OBJECT: Fault = Fault::Payload("must be an object");

fn command<'a>(kind: &str, payload: Option<&'a RawValue>) -> Result<Command<'a>, Fault> {
    Ok(match kind {
        "system:ping" => Command::Ping(payload.map(RawValue::get)),
        "room:join" => Command::Join(fields(payload)?.room()?),
        "room:leave" => Command::Leave(fields(payload)?.room()?),
        "room:message" => {
            let fields = fields(payload)?;
            let data = fields.data.ok_or(Fault::Payload("`data` is missing"))?.get();
            Command::RoomMessage { room: fields.room()?, data }
        }
        "user:typing" => {
            let fields = fields(payload)?;
            Command::Typing { room: fields.room()?, typing: fields.typing()? }
        }
        "user:presence" => presence(payload)?,
        "user:preferences" => preferences(payload)?,
        "auth:login" => Command::Login(fields(payload)?.token()?),
        "auth:token_refresh" => Command::TokenRefresh(fields(payload)?.token()?),
        "auth:logout" => Command::Logout,
        "system:resume" => Command::Resume(resume::resume(payload)?),
        "system:ack" => resume::acknowledge(payload)?,
        "queue:join" => fields(payload)?.line(false)?,
        "queue:leave" => fields(payload)?.line(true)?,
        "socket:connect" | "socket:disconnect" | "socket:reconnect" => Command::Noted,
        _ => Command::Other(payload.map_or("null", RawValue::get)),
    })
}

fn fields(payload: Option<&RawValue>) -> Result<Fields<'_>, Fault> {
    let Some(payload) = payload else { return Ok(Fields::default()) };
    object(payload)?;
    serde_json::from_str(payload.get()).map_err(|_| NOT_AN_OBJECT)
}

/// The text of an object: serde would take an array for one.
pub(super) fn object(json: &RawValue) -> Result<&str, Fault> {
    if json.get().starts_with('{') { Ok(json.get()) } else { Err(NOT_AN_OBJECT) }
}

impl<'a> Fields<'a> {
    fn room(&self) -> Result<Arc<str>, Fault> {
        let name = self.room.and_then(string).ok_or(Fault::Payload("`room` must be a string"))?;
        room::classify(&name).ok_or(Fault::Room)?;
        Ok(name.into())
    }

    fn typing(&self) -> Result<bool, Fault> {
        match self.typing.map(RawValue::get) {
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            _ => Err(Fault::Payload("`typing` must be true or false")),
        }
    }

    /// Tokens are base64url and dots: an escape in one is no token.
    fn token(&self) -> Result<&'a str, Fault> {
        self.token
            .and_then(plain_string)
            .filter(|token| (1..=TOKEN_BYTES_MAX).contains(&token.len()))
            .ok_or(Fault::Payload("`token` must be a string of 1 to 8192 bytes"))
    }
}

impl<'a> Fields<'a> {
    fn line(&self, leave: bool) -> Result<Command<'a>, Fault> {
        let event_id = self
            .event_id
            .and_then(plain_string)
            .filter(|id| id.len() <= EVENT_ID_BYTES_MAX && room::classify(id).is_some())
            .ok_or(Fault::Payload("`event_id` must be a string of 1 to 122 of A-Z a-z 0-9 _ . : -"))?;
        let place_token = match self.place_token.filter(|token| token.get() != "null") {
            Some(token) => Some(place_token(token)?),
            None => None,
        };
        Ok(Command::Line { leave, event_id: event_id.into(), place_token })
    }
}

fn place_token(json: &RawValue) -> Result<&str, Fault> {
    plain_string(json)
        .filter(|token| (1..=PLACE_TOKEN_BYTES_MAX).contains(&token.len()))
        .ok_or(Fault::Payload("`place_token` must be a string of 1 to 1024 bytes"))
}

fn presence(payload: Option<&RawValue>) -> Result<Command<'_>, Fault> {
    let payload = payload.ok_or(NOT_AN_OBJECT)?;
    let fields = fields(Some(payload))?;
    if !matches!(fields.status.and_then(string).as_deref(), Some("online" | "away" | "busy")) {
        return Err(Fault::Payload("`status` must be online, away or busy"));
    }
    if fields.text.is_some_and(|text| !text.get().starts_with('"')) {
        return Err(Fault::Payload("`text` must be a string"));
    }
    Ok(Command::Presence(payload.get()))
}

fn preferences(payload: Option<&RawValue>) -> Result<Command<'_>, Fault> {
    const MUTED: Fault = Fault::Payload("`muted` must be a list of at most 32 strings of 1 to 128 bytes");
    let payload = payload.ok_or(NOT_AN_OBJECT)?;
    let json = object(payload)?;
    if json.len() > PREFERENCES_BYTES_MAX {
        return Err(Fault::Payload("must be at most 4096 bytes"));
    }
    let muted: Vec<String> = match fields(Some(payload))?.muted {
        Some(list) => serde_json::from_str(list.get()).map_err(|_| MUTED)?,
        None => Vec::new(),
    };
    let fits = |pattern: &String| (1..=KIND_BYTES_MAX).contains(&pattern.len());
    if muted.len() > MUTED_PATTERNS_MAX || !muted.iter().all(fits) {
        return Err(MUTED);
    }
    Ok(Command::Preferences { json, muted })
}

fn request_id(json: &RawValue) -> Result<RequestId, BadRequest> {
    let text = json.get();
    let is_string_or_number = text.starts_with(|first: char| matches!(first, '"' | '-' | '0'..='9'));
    if is_string_or_number && text.len() <= REQUEST_ID_BYTES_MAX {
        Ok(text.into())
    } else {
        Err(BadRequest::InvalidId)
    }
}

/// The contents of a JSON string that has no escapes.
fn plain_string(json: &RawValue) -> Option<&str> {
    let text = json.get().strip_prefix('"')?.strip_suffix('"')?;
    if text.contains('\\') { None } else { Some(text) }
}

/// The contents of a JSON string.
pub(super) fn string(json: &RawValue) -> Option<Cow<'_, str>> {
    match plain_string(json) {
        Some(text) => Some(Cow::Borrowed(text)),
        None => serde_json::from_str(json.get()).ok().map(Cow::Owned),
    }
}
