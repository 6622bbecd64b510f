//! Every Redis channel that the gateway knows, in one table: those of other services (03 §8), and its own.
//!
//! Pure: bytes in, events out. Never trusts what it reads: user ids and rooms obey the rules that gRPC callers obey,
//! payloads are JSON that was looked at whole. What clients get of a payload is said by [`Form`].

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use serde::Deserialize;

use crate::{
    clock::Now,
    event::{Address, Class, Event, Form, QUEUE_POSITION, Target},
    identity::is_user_id,
    limits::{EVENT_BYTES_MAX, KIND_BYTES_MAX},
    metrics::REDIS_PATTERNS,
    stream::names::{Name, Part, Subject},
    wire,
};

/// What a message of another service asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Foreign {
    /// Send this. Its class is left at [`Class::Ordered`]: whoever routes it knows the classes of types.
    Event(Event),
    /// Tell the rooms under `ROOM_PRESENCE` that the user is in; the event's target is the user.
    Presence(Event),
    /// End the user's connections (`system:revoke`).
    Revoke(Arc<str>),
}

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The channel is none of the table.
    #[error("channel not known")]
    Channel,
    /// Larger than [`EVENT_BYTES_MAX`].
    #[error("payload larger than 256 KiB")]
    TooLarge,
    /// Not JSON, or not JSON that the gateway passes on.
    #[error("payload is not acceptable JSON")]
    Json,
    /// JSON, but no object where one is needed.
    #[error("payload is not a JSON object")]
    NotAnObject,
    /// The type is empty or longer than [`KIND_BYTES_MAX`].
    #[error("type is not 1 to 128 bytes")]
    Type,
    /// No user id where one is needed, or none that can be one.
    #[error("user id is missing or not acceptable")]
    User,
    /// No room that can be one.
    #[error("room is not acceptable")]
    Room,
}

impl Malformed {
    /// Position in [`crate::metrics::REDIS_MALFORMED`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Which of [`REDIS_PATTERNS`] the channel of another service comes by: its position. They are what `PSUBSCRIBE` takes;
/// `user:*` brings `user:online` as well as `user:<id>:<event>`.
pub fn pattern_of(channel: &str) -> Option<usize> {
    REDIS_PATTERNS.iter().position(|pattern| channel.starts_with(&pattern[..pattern.len() - 1]))
}

/// Reads a message of another service.
///
/// # Errors
/// It is refused, and why.
pub fn read(now: Now, channel: &str, payload: &[u8]) -> Result<Foreign, Malformed> {
    let (service, rest) = channel.split_once(':').ok_or(Malformed::Channel)?;
    if payload.len() > EVENT_BYTES_MAX {
        return Err(Malformed::TooLarge);
    }
    let body = Body::read(payload)?;
    let event = |target, kind: &str, form| {
        if !(1..=KIND_BYTES_MAX).contains(&kind.len()) {
            return Err(Malformed::Type);
        }
        Ok(Event {
            target,
            kind: kind.into(),
            payload: Bytes::copy_from_slice(payload),
            form,
            class: Class::Ordered,
            version: body.version().filter(|_| kind == QUEUE_POSITION),
            position: None,
            except: None,
            accepted_at_ns: now.mono_ns,
        })
    };
    // With a type of its own a body is the whole message.
    let typed = |target, kind: &str| match body.kind.as_deref() {
        Some(own) => event(target, own, Form::Message),
        None => event(target, kind, Form::Payload),
    };
    let named = || body.user().and_then(|user| user.ok_or(Malformed::User));
    Ok(Foreign::Event(match (service, rest.rsplit_once(':')) {
        ("user_noti", _) => {
            let to = Target::User(user(rest)?);
            body.object()?;
            match body.kind.as_deref() {
                Some(own) => event(to, own, Form::Message)?,
                None => event(to, "notification:new", Form::Object)?,
            }
        }
        ("booking" | "payment", _) => event(Target::User(named()?), channel, Form::Payload)?,
        ("ticket", _) => {
            let to = match (body.user()?, body.event()) {
                (Some(user), _) => Target::User(user),
                (None, Some(event)) => Target::Room(room(&format!("event:{event}"))?),
                (None, None) => Target::Everyone,
            };
            event(to, channel, Form::Payload)?
        }
        ("user", None) if matches!(rest, "online" | "offline" | "status_change") => {
            return Ok(Foreign::Presence(event(Target::User(named()?), channel, Form::Payload)?));
        }
        ("user", Some((id, action))) => typed(Target::User(user(id)?), &format!("user:{action}"))?,
        ("event", Some((id, action))) => {
            typed(Target::Room(room(&format!("event:{id}"))?), &format!("ticket:{action}"))?
        }
        ("room", Some((id, action))) => typed(Target::Room(room(id)?), &format!("room:{action}"))?,
        ("system", _) if rest == "revoke" => return Ok(Foreign::Revoke(named()?)),
        ("system", _) => event(Target::Everyone, channel, Form::Payload)?,
        _ => return Err(Malformed::Channel),
    }))
}

fn user(text: &str) -> Result<Arc<str>, Malformed> {
    if is_user_id(text) { Ok(text.into()) } else { Err(Malformed::User) }
}

fn room(text: &str) -> Result<Arc<str>, Malformed> {
    if wire::room::classify(text).is_some() { Ok(text.into()) } else { Err(Malformed::Room) }
}

/// What a payload says of itself. Of anything but an object everything is absent.
struct Body<'a> {
    is_object: bool,
    kind: Option<Cow<'a, str>>,
    named: Named<'a>,
}

/// The keys that are looked at.
#[derive(Default, Deserialize)]
struct Named<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Word<'a>>,
    #[serde(borrow, rename = "userId")]
    user_camel: Option<Word<'a>>,
    #[serde(borrow, rename = "user_id")]
    user: Option<Word<'a>>,
    #[serde(borrow, rename = "eventId")]
    event_camel: Option<Word<'a>>,
    #[serde(borrow, rename = "event_id")]
    event: Option<Word<'a>>,
    #[serde(borrow)]
    version: Option<Word<'a>>,
}

/// Ids are texts or numbers, as services write them; anything else names nobody.
#[derive(Deserialize)]
#[serde(untagged)]
enum Word<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Number(u64),
    Other(serde::de::IgnoredAny),
}

impl Word<'_> {
    fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Number(number) => Some(number.to_string().into()),
            Self::Other(_) => None,
        }
    }
}

impl<'a> Body<'a> {
    fn read(payload: &'a [u8]) -> Result<Self, Malformed> {
        let text = str::from_utf8(payload).map_err(|_| Malformed::Json)?;
        wire::json::validate(text).map_err(|_| Malformed::Json)?;
        let is_object = text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{');
        let mut named: Named<'a> = if is_object {
            serde_json::from_str(text).map_err(|_| Malformed::Json)?
        } else {
            Named::default()
        };
        let kind = match named.kind.take() {
            Some(Word::Text(kind)) => Some(kind),
            _ => None,
        };
        Ok(Self { is_object, kind, named })
    }

    fn object(&self) -> Result<(), Malformed> {
        if self.is_object { Ok(()) } else { Err(Malformed::NotAnObject) }
    }

    /// Who is named, if somebody is. A name that cannot be a user's is refused, not taken for nobody's: what was meant
    /// for one user must not reach everybody.
    fn user(&self) -> Result<Option<Arc<str>>, Malformed> {
        let Some(word) = self.named.user_camel.as_ref().or(self.named.user.as_ref()) else { return Ok(None) };
        word.text().ok_or(Malformed::User).and_then(|text| user(&text)).map(Some)
    }

    /// A whole number above 0, as in a call.
    fn version(&self) -> Option<u64> {
        match self.named.version {
            Some(Word::Number(version)) if version > 0 => Some(version),
            _ => None,
        }
    }

    fn event(&self) -> Option<Cow<'_, str>> {
        self.named.event_camel.as_ref().or(self.named.event.as_ref())?.text()
    }
}

/// The channel of our own on which instances share what is about the subject; `None`: everybody.
///
/// What stands in braces is the hash tag of a cluster, the same as in the keys of its stream.
pub fn live(prefix: &str, subject: Option<&Subject>) -> String {
    let stream = subject.map_or_else(|| "everyone".into(), Subject::stream);
    Name { prefix, stream: &stream, part: Part::Live }.to_string()
}

/// Whose channel of our own that is: the reverse of [`live`]. Outer `None`: no such channel.
pub fn subject_of(prefix: &str, channel: &str) -> Option<Option<Subject>> {
    let tag = channel.strip_prefix(prefix)?.strip_prefix('{')?.strip_suffix("}:live")?;
    match tag.split_once(':') {
        Some(("user", user)) if !user.is_empty() => Some(Some(Address::User(user.into()).into())),
        Some(("room", room)) if !room.is_empty() => Some(Some(Address::Room(room.into()).into())),
        Some(("queue", event_id)) if !event_id.is_empty() => Some(Some(Subject::Queue(event_id.into()))),
        _ if tag == "everyone" => Some(None),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
