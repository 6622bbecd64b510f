//! The shadow model: what was accepted, in which order, and who has a right to it.

use std::collections::HashMap;

use usher::event::Target;

/// Everything that was accepted.
#[derive(Default)]
pub struct Oracle {
    /// Ids of what must not be lost, by target, in the order of acceptance.
    logs: HashMap<Target, Vec<Entry>>,
    /// Accepted values of each Latest key.
    latest: HashMap<Key, Vec<u64>>,
    /// Rooms that control decides about.
    pub governed: Vec<&'static str>,
    /// Never twice.
    next_id: u64,
}

/// One accepted Critical or Ordered event.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub id: u64,
    /// Its offset, if it was stored.
    pub offset: Option<u64>,
}

/// What a Latest value is about: the target and the event in its payload.
pub type Key = (Target, u64);

impl Oracle {
    /// A number that no message had before; it grows.
    pub fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub fn accepted(&mut self, target: &Target, entry: Entry) {
        self.logs.entry(target.clone()).or_default().push(entry);
    }

    pub fn accepted_latest(&mut self, key: Key, value: u64) {
        self.latest.entry(key).or_default().push(value);
    }

    pub fn log(&self, target: &Target) -> &[Entry] {
        self.logs.get(target).map_or(&[], Vec::as_slice)
    }

    /// Accepted values of a key.
    pub fn values(&self, key: &Key) -> &[u64] {
        self.latest.get(key).map_or(&[], Vec::as_slice)
    }

    /// Keys of that target.
    pub fn keys_of(&self, target: &Target) -> impl Iterator<Item = &Key> {
        self.latest.keys().filter(move |key| key.0 == *target)
    }

    /// Highest offset that the stream of the target has.
    pub fn head(&self, target: &Target) -> u64 {
        self.log(target).iter().rev().find_map(|entry| entry.offset).unwrap_or(0)
    }
}

/// What one connection has a right to from one target.
#[derive(Clone, Debug)]
pub struct Claim {
    pub target: Target,
    /// Place in the log from which everything must come.
    begins: usize,
    /// Whether nothing from before may come: a newcomer to a room may get what was on its way to others.
    exact: bool,
    /// Place from which the next message may come.
    next: usize,
    /// Number of values that each key had when the claim began.
    values_before: HashMap<Key, usize>,
}

impl Claim {
    /// From now on. `exact`: nothing from before may come either.
    pub fn new(oracle: &Oracle, target: Target, exact: bool) -> Self {
        let values_before =
            oracle.keys_of(&target).map(|key| (key.clone(), oracle.values(key).len())).collect();
        let begins = oracle.log(&target).len();
        let next = if exact { begins } else { 0 };
        Self { begins, exact, next, values_before, target }
    }

    /// A message came.
    pub fn take(&mut self, oracle: &Oracle, id: u64) {
        let log = oracle.log(&self.target);
        let place = log.iter().position(|entry| entry.id == id);
        let place = place.unwrap_or_else(|| panic!("{id} was never accepted for {:?}", self.target));
        let due = self.next.max(self.begins);
        let early = !self.exact && (self.next..self.begins).contains(&place);
        let expected = log.get(due).map(|entry| entry.id);
        assert!(place == due || early, "{:?}: {id} came, {expected:?} was due: {log:?}", self.target);
        self.next = place + 1;
    }

    /// Nothing is on the way any more.
    /// `shown`: values from before the claim have come as well.
    pub fn check_complete(&self, oracle: &Oracle, seen: &HashMap<Key, u64>, shown: bool) {
        let accepted = oracle.log(&self.target).len();
        assert_eq!(self.next.max(self.begins), accepted, "{:?}: messages are missing", self.target);
        for key in oracle.keys_of(&self.target) {
            let values = oracle.values(key);
            if shown || values.len() > self.values_before.get(key).copied().unwrap_or(0) {
                assert_eq!(seen.get(key), values.last(), "{key:?}: the newest value is missing");
            }
        }
    }
}
