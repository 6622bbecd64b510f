//! What becomes of an event before it is sent: repeated, stale, or to be stored first.
//!
//! Owns which streams are kept, the versions of Latest values, and the answers to calls with a key whose events are not
//! stored: those that are stored have theirs in the store. Judging changes nothing: an event that turns out to have no
//! room leaves no trace.

use std::sync::Arc;

use crate::{
    clock::Now,
    config::settings::Streams,
    event::{Address, Class, Event, LatestKey, Receipt, Target},
    limits::{VERSION_AGE_MAX, VERSIONS_MAX},
    stream::{
        expiring::Expiring,
        fnv::fnv1a,
        idempotency::{Earlier, Idempotency},
        names,
        store::{Append, Memory},
    },
    wire::room::glob_matches,
};

/// The sequencer of one instance.
#[derive(Debug)]
pub struct Sequencer {
    /// Answers to calls with a key whose events are not stored.
    calls: Idempotency<Receipt>,
    /// Highest version that a caller gave, by target and key.
    versions: Expiring<(Target, LatestKey), u64>,
    /// `ROOM_STREAMS`.
    kept_rooms: Vec<String>,
}

/// What is to become of an event.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the largest is the usual one: a box would cost an allocation each"
)]
pub enum Verdict {
    /// It is stored first.
    Store(Append),
    /// It may be sent, and is for [`Sequencer::commit`] then.
    Send(Accepted),
    /// It was accepted before: this was the answer.
    Repeated(Receipt),
    /// A newer version was accepted before.
    Stale,
    /// Its idempotency key was used for another body.
    KeyReused,
}

/// Under which scope and key the answer to an accepted event is remembered.
#[derive(Debug)]
pub struct Accepted(Option<Call>);

#[derive(Debug)]
struct Call {
    scope: Arc<str>,
    key: Arc<str>,
    body: u64,
}

impl Sequencer {
    /// Nothing accepted yet.
    pub fn new(settings: &Streams) -> Self {
        Self {
            calls: Idempotency::default(),
            versions: Expiring::new(VERSION_AGE_MAX, VERSIONS_MAX),
            kept_rooms: settings.rooms.clone(),
        }
    }

    /// Judges an event whose target is resolved. A Critical one that no stream keeps becomes Ordered (03 §4a).
    pub fn judge(&self, now: Now, event: &mut Event, key: Option<Arc<str>>) -> Verdict {
        if self.stores(event)
            && let Some(stream) = names::stream_of(&event.target)
        {
            let memory = key.map(|key| Memory::Key { key, body: body_of(event) });
            return Verdict::Store(Append {
                stream,
                event: event.clone(),
                memory,
                known: None,
                proviso: None,
            });
        }
        if event.class == Class::Critical {
            event.class = Class::Ordered;
        }
        if self.is_stale(now, event) {
            return Verdict::Stale;
        }
        // Latest relies on versions; what may be dropped may be repeated.
        let key = key.filter(|_| event.class == Class::Ordered);
        let Some((scope, key)) = key.and_then(|key| Some((names::stream_of(&event.target)?, key))) else {
            return Verdict::Send(Accepted(None));
        };
        let body = body_of(event);
        match self.calls.look(now, &scope, &key, body) {
            Earlier::Nothing => Verdict::Send(Accepted(Some(Call { scope, key, body }))),
            Earlier::Same(receipt) => Verdict::Repeated(receipt),
            Earlier::Other => Verdict::KeyReused,
        }
    }

    /// Remembers what was accepted and is sent.
    pub fn commit(&mut self, now: Now, event: &Event, accepted: Accepted, receipt: &Receipt) {
        self.note_version(now, event);
        if let Accepted(Some(Call { scope, key, body })) = accepted {
            self.calls.remember(now, scope, key, body, receipt.clone());
        }
    }

    /// Remembers the version of a Latest value, if its caller gave one.
    pub fn note_version(&mut self, now: Now, event: &Event) {
        if let (Class::Latest(key), Some(version)) = (&event.class, event.version) {
            // What makes room is the version not updated for longest: nothing else has to know.
            let _oldest = self.versions.put(now, (event.target.clone(), *key), version);
        }
    }

    /// The highest version that a caller gave for the same Latest value.
    pub fn newest_version(&self, now: Now, event: &Event) -> Option<u64> {
        let Class::Latest(key) = event.class else { return None };
        self.versions.fresh(now, &(event.target.clone(), key)).copied()
    }

    /// Whether an event whose target is resolved is stored before it is sent.
    pub fn stores(&self, event: &Event) -> bool {
        event.class == Class::Critical
            && match &event.target {
                Target::User(_) => true,
                Target::Room(room) => self.keeps(room),
                Target::Connection(_) | Target::Everyone => false,
            }
    }

    /// The stream of a room; `None`: the room is not kept.
    pub fn room_stream(&self, room: &str) -> Option<Arc<str>> {
        self.keeps(room).then(|| format!("room:{room}").into())
    }

    /// The stream of an address; `None`: it is not kept.
    pub fn stream_of(&self, address: &Address) -> Option<Arc<str>> {
        match address {
            Address::User(user) => Some(format!("user:{user}").into()),
            Address::Room(room) => self.room_stream(room),
        }
    }

    /// Whether there is a stream of that name.
    pub fn is_kept(&self, stream: &str) -> bool {
        match stream.split_once(':') {
            Some(("user", _)) => true,
            Some(("room", room)) => self.keeps(room),
            _ => false,
        }
    }

    /// Lets go of what is too old.
    pub fn expire(&mut self, now: Now) {
        self.calls.expire(now);
        self.versions.expire(now, |_, _| ());
    }

    /// Idempotency keys remembered, but for those of the store.
    pub fn key_count(&self) -> usize {
        self.calls.len()
    }

    /// Versions remembered.
    pub fn version_count(&self) -> usize {
        self.versions.len()
    }

    fn keeps(&self, room: &str) -> bool {
        self.kept_rooms.iter().any(|glob| glob_matches(glob, room))
    }

    /// Whether a version at least as new was accepted for the same value. Only callers' versions are compared.
    fn is_stale(&self, now: Now, event: &Event) -> bool {
        let newest = event.version.and_then(|_| self.newest_version(now, event));
        newest.is_some_and(|newest| Some(newest) >= event.version)
    }
}

/// Another build must come to the same; callers are trusted with their own keys.
fn body_of(event: &Event) -> u64 {
    fnv1a(&[event.kind.as_bytes(), &event.payload])
}
