//! A client of one stream, and what it is entitled to.
//!
//! Owns what it got. Each event must be the one that was stored after the one that it got before, whatever epochs are
//! named: so what a store that lost something gives again is not taken for what follows.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use usher::event::Event;

/// A connection of a user.
#[derive(Debug)]
pub struct Conn {
    pub user: &'static str,
    /// What it has; `None`: nothing is known yet.
    pub mark: Option<(Arc<str>, u64)>,
    pub admitted: bool,
    /// What a replay under way brings next.
    pub replay: Option<(Arc<str>, u64)>,
    /// What stands before that, as far as it got it.
    pub replayed: Option<u64>,
    /// What it got, by offset, since it was told where the stream stands.
    pub got: BTreeMap<u64, u64>,
}

impl Conn {
    /// One that nobody admitted yet.
    pub fn new(user: &'static str) -> Self {
        Self { user, mark: None, admitted: false, replay: None, replayed: None, got: BTreeMap::new() }
    }

    /// The next event of its stream.
    pub fn take(&mut self, before: &HashMap<u64, u64>, event: &Event) {
        let offset = event.position.as_ref().expect("it was stored").offset;
        self.follows(before, self.got.get(&(offset - 1)).copied(), event);
        self.got.insert(offset, token(event));
    }

    /// The next event of a replay.
    pub fn take_replayed(&mut self, before: &HashMap<u64, u64>, event: &Event) {
        let had = self.replayed.replace(token(event));
        self.follows(before, had, event);
    }

    fn follows(&self, before: &HashMap<u64, u64>, had: Option<u64>, event: &Event) {
        if let (Some(had), Some(before)) = (had, before.get(&token(event))) {
            assert_eq!(had, *before, "{} had something else before {event:?}", self.user);
        }
    }
}

/// The number that tells it from all others.
pub fn token(event: &Event) -> u64 {
    str::from_utf8(&event.payload).ok().and_then(|text| text.parse().ok()).expect("a number of ours")
}
