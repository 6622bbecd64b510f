//! The scripts of a stream: an [`Ask`] as a command, what it answers as an [`Answer`].
//!
//! Owns names and arguments, which each script's own header describes. Never trusts an answer: what it does not
//! understand is a failure, logged.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{Cmd, Script, Value, cmd};

use crate::{
    clock::Now,
    event::{Class, Event, LatestKey, Position},
    limits::{
        EMPTY_STREAM_AGE_MAX, LATEST_AGE_MAX, LATEST_KEYS_PER_ADDRESS_MAX, OFFSET_MAX, QUEUE_LOG_AGE_MAX,
        STREAM_WRITERS_MAX,
    },
    log::sampled::Sampled,
    store::Bounds,
    stream::{
        envelope::{decode, encode},
        names::{self, Name, Part},
        store::{Answer, Append, Ask, Failure, Head, Mark, Memory, Page, Proviso},
    },
};

macro_rules! script {
    ($file:literal) => {
        Text::new(concat!(include_str!("stream.lua"), include_str!($file)))
    };
}

/// What every command is made with.
#[derive(Debug)]
pub(super) struct Scripts {
    append: Text,
    head: Text,
    look: Text,
    read: Text,
    acknowledge: Text,
    forget: Text,
    remember: Text,
    prefix: String,
    bounds: Bounds,
    cluster: bool,
    seed: u64,
    /// Names given to epochs.
    names: AtomicU64,
    odd: Sampled,
    unreadable: Sampled,
}

/// A script and what Redis calls it.
#[derive(Debug)]
struct Text {
    code: &'static str,
    sha1: String,
}

impl Text {
    fn new(code: &'static str) -> Self {
        Self { code, sha1: Script::new(code).get_hash().to_owned() }
    }
}

/// How a script is named in a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// `EVALSHA`: Redis has it.
    Name,
    /// `EVAL`: Redis may not have it, and keeps it from then on.
    Text,
}

impl By {
    fn command(self, script: &Text) -> Cmd {
        let (name, text) = match self {
            Self::Name => ("EVALSHA", &*script.sha1),
            Self::Text => ("EVAL", script.code),
        };
        let mut command = cmd(name);
        command.arg(text);
        command
    }
}

impl Scripts {
    pub(super) fn new(prefix: String, bounds: Bounds, cluster: bool, seed: u64) -> Self {
        Self {
            append: script!("append.lua"),
            head: script!("head.lua"),
            look: script!("look.lua"),
            read: script!("read.lua"),
            acknowledge: script!("acknowledge.lua"),
            forget: script!("forget.lua"),
            remember: Text::new(include_str!("remember.lua")),
            prefix,
            bounds,
            cluster,
            seed,
            names: AtomicU64::new(0),
            odd: Sampled::every(SAMPLE_INTERVAL),
            unreadable: Sampled::every(SAMPLE_INTERVAL),
        }
    }

    /// The command that asks Redis.
    pub(super) fn command(&self, by: By, ask: &Ask) -> Cmd {
        match ask {
            Ask::Append(append) => self.append(by, append),
            Ask::Head { stream, known } => {
                let mut command = self.call(by, &self.head, stream, None);
                self.opening(&mut command, stream, known.as_ref());
                command.arg(self.empty_age_ms(stream));
                command
            }
            Ask::Look { stream } => self.call(by, &self.look, stream, None),
            Ask::Read { stream, epoch, after, count_max } => {
                let mut command = self.call(by, &self.read, stream, None);
                command.arg(&**epoch).arg(*after).arg(*count_max).arg(self.empty_age_ms(stream));
                if names::is_log(stream) {
                    command.arg(milliseconds(QUEUE_LOG_AGE_MAX));
                }
                command
            }
            Ask::Forget { stream, epoch } => {
                let mut command = self.call(by, &self.forget, stream, None);
                command.arg(&**epoch);
                command
            }
            Ask::Remember { stream, values } => self.remember(by, stream, values),
            Ask::Recall { stream } => {
                let mut command = cmd("HGETALL");
                command.arg(self.name(stream, Part::Latest));
                command
            }
            Ask::Acknowledge { stream, epoch, offset } => {
                let mut command = self.call(by, &self.acknowledge, stream, None);
                command.arg(&**epoch).arg(*offset);
                self.bound(&mut command, stream);
                command
            }
        }
    }

    fn append(&self, by: By, append: &Append) -> Cmd {
        let Append { stream, event, memory, known, proviso } = append;
        let key = match memory {
            Some(Memory::Key { key, .. }) => Some(Part::Key(key)),
            Some(Memory::Number { .. }) | None => None,
        };
        let mut command = self.call(by, &self.append, stream, key);
        self.opening(&mut command, stream, known.as_ref());
        self.bound(&mut command, stream);
        command.arg(encode(event));
        match memory {
            None => &mut command,
            Some(Memory::Key { body, .. }) => {
                command.arg(format!("{body:016x}")).arg(milliseconds(self.bounds.key_age_max))
            }
            Some(Memory::Number { writer, number }) => {
                command.arg("by").arg(&**writer).arg(*number).arg(STREAM_WRITERS_MAX)
            }
        };
        match proviso {
            None => &mut command,
            Some(Proviso::Follows) => command.arg("follows"),
            Some(Proviso::Before(time_ms)) => command.arg("before").arg(*time_ms),
            Some(Proviso::Fewer { than, since_ms }) => command.arg("fewer").arg(*since_ms).arg(*than),
        };
        command
    }

    fn remember(&self, by: By, stream: &str, values: &[Arc<Event>]) -> Cmd {
        let mut command = by.command(&self.remember);
        command.arg(1).arg(self.name(stream, Part::Latest));
        command.arg(milliseconds(LATEST_AGE_MAX)).arg(LATEST_KEYS_PER_ADDRESS_MAX);
        for event in values {
            let Class::Latest(LatestKey(key)) = event.class else { continue };
            let version = event.version.map_or_else(|| "-".into(), |version| format!("{version:020}"));
            command.arg(format!("{key:016x}")).arg(version).arg(encode(event));
        }
        command
    }

    /// What all commands about a stream begin with.
    fn call(&self, by: By, script: &Text, stream: &str, key: Option<Part<'_>>) -> Cmd {
        let mut command = by.command(script);
        command.arg(2 + usize::from(key.is_some()));
        for part in [Part::Meta, Part::Log].into_iter().chain(key) {
            command.arg(self.name(stream, part));
        }
        command.arg(self.epoch_name()).arg(self.head_age_ms(stream));
        command
    }

    fn head_age_ms(&self, stream: &str) -> u64 {
        milliseconds(if names::is_log(stream) { QUEUE_LOG_AGE_MAX } else { self.bounds.head_age_max })
    }

    /// Anybody may join rooms and queues of made-up names.
    fn empty_age_ms(&self, stream: &str) -> u64 {
        let is_cheap = names::is_room(stream) || names::is_log(stream);
        if is_cheap { milliseconds(EMPTY_STREAM_AGE_MAX) } else { self.head_age_ms(stream) }
    }

    fn name(&self, stream: &str, part: Part<'_>) -> String {
        Name { prefix: &self.prefix, stream, part }.to_string()
    }

    /// What the caller saw of the stream, and how those who follow it are told.
    fn opening(&self, command: &mut Cmd, stream: &str, known: Option<&Mark>) {
        match known {
            Some(known) => command.arg(&*known.epoch).arg(known.offset),
            None => command.arg("").arg(0),
        };
        command.arg(if self.cluster { "SPUBLISH" } else { "PUBLISH" });
        command.arg(self.name(stream, Part::Live)).arg(stream);
    }

    fn bound(&self, command: &mut Cmd, stream: &str) {
        let bounds = &self.bounds;
        if names::is_log(stream) {
            // Nothing of it goes, but all of it when nobody used it for long; its bytes are bounded by who writes.
            command.arg(OFFSET_MAX).arg(OFFSET_MAX).arg(OFFSET_MAX).arg(OFFSET_MAX);
            return;
        }
        // Only users acknowledge for all of their connections.
        let unacknowledged = if stream.starts_with("user:") { bounds.ledger_age_max } else { bounds.age_max };
        command.arg(bounds.count_max).arg(bounds.bytes_max);
        command.arg(milliseconds(bounds.age_max)).arg(milliseconds(unacknowledged));
    }

    /// A name that no other epoch has: splitmix64 of seed and count, which repeats no number before it had all of them.
    fn epoch_name(&self) -> String {
        let count = self.names.fetch_add(1, Ordering::Relaxed);
        let mut x = self.seed.wrapping_add(count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        format!("{:016x}", x ^ (x >> 31))
    }

    /// Understands what a script answered.
    pub(super) fn understand(&self, now: Now, ask: Ask, value: &Value) -> Said {
        let unpublished =
            matches!((&ask, list(value)), (Ask::Append(_), Some([_, _, _, flag])) if number(flag) == Some(0));
        let answer = match ask {
            Ask::Append(append) => appended(append, value),
            Ask::Head { .. } | Ask::Look { .. } => list(value).and_then(head).map(Answer::Head),
            Ask::Read { stream, after, count_max, .. } => list(value)
                .and_then(|parts| {
                    page(now, parts, (&stream, after), count_max, |bytes| self.read(now, &stream, bytes))
                })
                .map(Answer::Page),
            Ask::Acknowledge { .. } => number(value).map(Answer::Acknowledged),
            Ask::Forget { .. } => matches!(value, Value::Int(_)).then_some(Answer::Forgotten),
            Ask::Remember { .. } => matches!(value, Value::Int(_)).then_some(Answer::Remembered),
            Ask::Recall { stream } => {
                recalled(value, |bytes| self.read(now, &stream, bytes)).map(Answer::Recalled)
            }
        };
        let answer = answer.unwrap_or_else(|| {
            if let Some(kept_back) = self.odd.take(now) {
                let answered: String = format!("{value:?}").chars().take(SHOWN_MAX).collect();
                tracing::error!(answered, kept_back, "a script in Redis answered what it never does");
            }
            Answer::Failed(Failure::Unavailable)
        });
        Said { answer, unpublished }
    }

    /// An event as it was written there; `None`: by whom is not known, or by an instance of another version.
    fn read(&self, now: Now, stream: &str, envelope: &[u8]) -> Option<Event> {
        let event = decode(envelope);
        if let Err(error) = &event
            && let Some(kept_back) = self.unreadable.take(now)
        {
            tracing::warn!(stream, %error, kept_back, "an event in Redis cannot be read");
        }
        event.ok()
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What Redis said, to who asked.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) answer: Answer,
    /// The event is stored, and the others were not told.
    pub(super) unpublished: bool,
}

fn appended(append: Append, value: &Value) -> Option<Answer> {
    let Append { stream, mut event, .. } = append;
    let parts = list(value)?;
    let position = |epoch: &Value, offset: &Value| {
        Some(Position { stream: stream.clone(), epoch: text(epoch)?.into(), offset: number(offset)? })
    };
    match (text(parts.first()?)?, parts) {
        ("appended", [_, epoch, offset, _published]) => {
            event.position = Some(position(epoch, offset)?);
            Some(Answer::Appended(Arc::new(event)))
        }
        ("repeated", [_, epoch, offset]) => position(epoch, offset).map(Answer::Repeated),
        ("reused", [_]) => Some(Answer::KeyReused),
        ("late", [_]) => Some(Answer::Failed(Failure::Refused)),
        ("parted", [_]) => Some(Answer::Failed(Failure::Parted)),
        _ => None,
    }
}

fn head(parts: &[Value]) -> Option<Head> {
    let [epoch, offset, acknowledged, ..] = parts else { return None };
    Some(Head { epoch: text(epoch)?.into(), offset: number(offset)?, acknowledged: number(acknowledged)? })
}

fn page(
    now: Now,
    parts: &[Value],
    (stream, after): (&Arc<str>, u64),
    count_max: usize,
    read: impl Fn(&[u8]) -> Option<Event>,
) -> Option<Page> {
    let head = head(parts)?;
    let rest = number(parts.get(4)?)?;
    let entries = match parts.get(3)? {
        Value::Nil => return Some(Page { head, events: None, rest }),
        entries => list(entries)?,
    };
    // An entry that is missing was trimmed, or evicted by Redis; one that cannot be read is as good as missing.
    let count = head.offset.saturating_sub(after).min(count_max as u64);
    let is_whole = entries.len() as u64 == count;
    let events = entries.iter().enumerate().map(|(index, entry)| {
        let offset = after.saturating_add(1 + index as u64);
        let [id, fields] = list(entry)? else { return None };
        let [_, stored_at_ms, _, envelope] = list(fields)? else { return None };
        let Value::BulkString(envelope) = envelope else { return None };
        if text(id)?.strip_suffix("-0")?.parse() != Ok(offset) {
            return None;
        }
        let mut event = read(envelope)?;
        event.accepted_at_ns = now.mono_ns_at(number(stored_at_ms)?);
        event.position = Some(Position { stream: stream.clone(), epoch: head.epoch.clone(), offset });
        Some(Arc::new(event))
    });
    let events = if is_whole { events.collect() } else { None };
    Some(Page { head, events, rest })
}

/// Values that cannot be read, of an instance of another version, are left out.
fn recalled(value: &Value, read: impl Fn(&[u8]) -> Option<Event>) -> Option<Vec<Arc<Event>>> {
    let values: Vec<&Value> = match value {
        Value::Map(pairs) => pairs.iter().map(|(_, value)| value).collect(),
        Value::Array(values) => values.iter().skip(1).step_by(2).collect(),
        _ => return None,
    };
    let event = |value: &Value| {
        let Value::BulkString(bytes) = value else { return None };
        let envelope = bytes.splitn(3, |byte| *byte == b' ').nth(2)?;
        read(envelope).map(Arc::new)
    };
    Some(values.into_iter().filter_map(event).collect())
}

fn list(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    text(value)?.parse().ok()
}

/// Between two log lines about what Redis holds and nobody understands.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);
/// Of an answer that nobody understands, as much as a log line takes, characters.
const SHOWN_MAX: usize = 200;
