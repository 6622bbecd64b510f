//! What becomes of an event before it is sent: repeated, stale, stored, numbered.
//!
//! Owns the streams, the idempotency memory and the versions of Latest values. Judging changes nothing: an event
//! that turns out to have no room leaves no trace.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use crate::{
    clock::Now,
    config::settings::Streams,
    event::{Class, Event, LatestKey, Position, Receipt, Target},
    limits::{VERSION_AGE_MAX, VERSIONS_MAX},
    stream::{
        expiring::Expiring,
        history::{Bounds, History},
        idempotency::{Earlier, Idempotency},
    },
    wire::room::glob_matches,
};

/// The sequencer of one instance.
#[derive(Debug)]
pub struct Sequencer {
    history: History,
    idempotency: Idempotency,
    /// Highest version that a caller gave, by target and key.
    versions: Expiring<(Target, LatestKey), u64>,
    /// `ROOM_STREAMS`.
    kept_rooms: Vec<String>,
}

/// What is to become of an event.
#[derive(Debug)]
pub enum Verdict {
    /// It may be sent; the plan is for [`Sequencer::commit`].
    Go(Plan),
    /// It was accepted before: this was the answer.
    Repeated(Receipt),
    /// A newer version was accepted before.
    Stale,
    /// Its idempotency key was used for another body.
    KeyReused,
}

/// What accepting an event will change.
#[derive(Debug)]
pub struct Plan {
    /// The stream that stores it.
    stream: Option<Arc<str>>,
    /// Scope, key and body under which the answer is remembered.
    memory: Option<(Arc<str>, Arc<str>, u64)>,
}

impl Sequencer {
    /// Nothing stored yet. The seed must differ between starts.
    pub fn new(settings: &Streams, seed: u64) -> Self {
        Self {
            history: History::new(Bounds::from(settings), seed),
            idempotency: Idempotency::default(),
            versions: Expiring::new(VERSION_AGE_MAX, VERSIONS_MAX),
            kept_rooms: settings.rooms.clone(),
        }
    }

    /// Judges an event whose target is resolved. A Critical one that no stream keeps becomes Ordered (03 §4a).
    pub fn judge(&self, now: Now, event: &mut Event, key: Option<Arc<str>>) -> Verdict {
        let kept = match (&event.class, &event.target) {
            (Class::Critical, Target::User(_)) => true,
            (Class::Critical, Target::Room(room)) => self.keeps(room),
            _ => false,
        };
        if event.class == Class::Critical && !kept {
            event.class = Class::Ordered;
        }
        if self.is_stale(now, event) {
            return Verdict::Stale;
        }
        let stream = if kept || key.is_some() { stream_of(&event.target) } else { None };
        // Latest relies on versions; what may be dropped may be repeated.
        let honoured = matches!(event.class, Class::Critical | Class::Ordered);
        let memory = match (&stream, key) {
            (Some(scope), Some(key)) if honoured => Some((scope.clone(), key, body_of(event))),
            _ => None,
        };
        if let Some((scope, key, body)) = &memory {
            match self.idempotency.look(now, scope, key, *body) {
                Earlier::Nothing => {}
                Earlier::Same(receipt) => return Verdict::Repeated(receipt),
                Earlier::Other => return Verdict::KeyReused,
            }
        }
        Verdict::Go(Plan { stream: stream.filter(|_| kept), memory })
    }

    /// Stores what the plan says; what comes back is ready to be sent.
    pub fn commit(
        &mut self,
        now: Now,
        event: Event,
        plan: Plan,
        delivered_connections: u32,
    ) -> (Arc<Event>, Receipt) {
        if let (Class::Latest(key), Some(version)) = (&event.class, event.version) {
            // What makes room is the version not updated for longest: nothing else has to know.
            let _oldest = self.versions.put(now, (event.target.clone(), *key), version);
        }
        let event = match &plan.stream {
            Some(stream) => self.history.append(now, stream, event),
            None => Arc::new(event),
        };
        let receipt = Receipt { delivered_connections, published: false, position: event.position.clone() };
        if let Some((scope, key, body)) = plan.memory {
            self.idempotency.remember(now, scope, key, body, receipt.clone());
        }
        (event, receipt)
    }

    /// Head of a user's stream.
    pub fn user_head(&self, user: &str) -> Position {
        self.history.head(&format!("user:{user}"))
    }

    /// Head of a room's stream; `None`: the room is not kept.
    pub fn room_head(&self, room: &str) -> Option<Position> {
        self.keeps(room).then(|| self.history.head(&format!("room:{room}")))
    }

    /// Lets go of what is too old.
    pub fn expire(&mut self, now: Now) {
        self.history.expire(now);
        self.idempotency.expire(now);
        self.versions.expire(now, |_, _| ());
    }

    /// What is stored.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Idempotency keys remembered.
    pub fn key_count(&self) -> usize {
        self.idempotency.len()
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
        let (Class::Latest(key), Some(version)) = (&event.class, event.version) else { return false };
        let newest = self.versions.fresh(now, &(event.target.clone(), *key));
        newest.is_some_and(|newest| *newest >= version)
    }
}

/// The stream of a target, whether it is kept or not; it is the scope of idempotency keys too.
fn stream_of(target: &Target) -> Option<Arc<str>> {
    match target {
        Target::User(user) => Some(format!("user:{user}").into()),
        Target::Room(room) => Some(format!("room:{room}").into()),
        Target::Everyone => Some("everyone".into()),
        Target::Connection(_) => None,
    }
}

fn body_of(event: &Event) -> u64 {
    // Callers are trusted with their own keys: a fixed hash will do.
    let mut hasher = DefaultHasher::new();
    (&event.kind, &event.payload).hash(&mut hasher);
    hasher.finish()
}
