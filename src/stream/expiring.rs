//! A map whose entries go when they were not used for long, or when there are too many.
//!
//! Owns ages and bounds; its users own the meaning. Invariant: the queue holds each key of the map exactly once.
//! Using an entry moves nothing in the queue: an entry found used when its turn comes is queued again, so that
//! an idle entry leaves memory after one to two times its age.

use std::{
    borrow::Borrow,
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::Duration,
};

use crate::clock::Now;

/// The map.
#[derive(Clone, Debug)]
pub struct Expiring<K, V> {
    held: HashMap<K, Held<V>>,
    /// When the key was queued, never later than its entry was last used.
    queue: VecDeque<(u64, K)>,
    age_max_ns: u64,
    count_max: usize,
}

#[derive(Clone, Debug)]
struct Held<V> {
    used_at_ns: u64,
    value: V,
}

impl<K: Clone + Eq + Hash, V> Expiring<K, V> {
    /// For at most `count_max >= 1` entries, each kept for at least `age_max` after its last use.
    pub fn new(age_max: Duration, count_max: usize) -> Self {
        let age_max_ns = u64::try_from(age_max.as_nanos()).unwrap_or(u64::MAX);
        Self { held: HashMap::new(), queue: VecDeque::new(), age_max_ns, count_max: count_max.max(1) }
    }

    /// Entries in memory.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The value, if it was used less than the age ago. Looking is no use.
    pub fn fresh<Q: Eq + Hash + ?Sized>(&self, now: Now, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let held = self.held.get(key)?;
        (held.used_at_ns.saturating_add(self.age_max_ns) > now.mono_ns).then_some(&held.value)
    }

    /// The value, if it is still in memory, whatever its age. Looking is no use.
    pub fn peek<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.held.get(key).map(|held| &held.value)
    }

    /// The value for a change that is no use.
    pub fn peek_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.held.get_mut(key).map(|held| &mut held.value)
    }

    /// All values for changes that are no use, in no order.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.held.values_mut().map(|held| &mut held.value)
    }

    /// Uses the value, if it is still in memory.
    pub fn touch<Q: Eq + Hash + ?Sized>(&mut self, now: Now, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let held = self.held.get_mut(key)?;
        held.used_at_ns = now.mono_ns;
        Some(&mut held.value)
    }

    /// Puts a value in place of whatever the key had, and gives back the entry that had to go for it, if any.
    pub fn put(&mut self, now: Now, key: K, value: V) -> Option<(K, V)> {
        if let Some(held) = self.held.get_mut(&key) {
            *held = Held { used_at_ns: now.mono_ns, value };
            return None;
        }
        let evicted = if self.held.len() >= self.count_max { self.pop_oldest() } else { None };
        self.queue.push_back((now.mono_ns, key.clone()));
        self.held.insert(key, Held { used_at_ns: now.mono_ns, value });
        evicted
    }

    /// Takes an entry out.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let held = self.held.remove(key)?;
        self.queue.retain(|(_, queued)| queued.borrow() != key);
        Some(held.value)
    }

    /// Removes what is too old; `removed` is told of each.
    pub fn expire(&mut self, now: Now, mut removed: impl FnMut(K, V)) {
        while let Some((queued_at_ns, _)) = self.queue.front() {
            if queued_at_ns.saturating_add(self.age_max_ns) > now.mono_ns {
                break;
            }
            if let Some((key, value)) = self.take_front() {
                removed(key, value);
            }
        }
    }

    /// All values in memory, in no order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.held.values().map(|held| &held.value)
    }

    /// Removes one entry: the first in the queue that was not used since it was queued.
    pub fn pop_oldest(&mut self) -> Option<(K, V)> {
        while !self.queue.is_empty() {
            let evicted = self.take_front();
            if evicted.is_some() {
                return evicted;
            }
        }
        None
    }

    /// Removes the first of the queue; if it was used since it was queued, queues it again instead.
    fn take_front(&mut self) -> Option<(K, V)> {
        let (queued_at_ns, key) = self.queue.pop_front()?;
        let used_at_ns = self.held.get(&key)?.used_at_ns;
        if used_at_ns > queued_at_ns {
            self.queue.push_back((used_at_ns, key));
            return None;
        }
        let held = self.held.remove(&key)?;
        Some((key, held.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { mono_ns: seconds * 1_000_000_000, wall_ms: 0 }
    }

    fn of(count_max: usize) -> Expiring<&'static str, u32> {
        Expiring::new(Duration::from_secs(10), count_max)
    }

    fn expired(map: &mut Expiring<&'static str, u32>, now: Now) -> Vec<&'static str> {
        let mut removed = Vec::new();
        map.expire(now, |key, _| removed.push(key));
        removed
    }

    #[test]
    fn an_entry_goes_when_it_was_not_used_for_its_age() {
        let mut map = of(9);
        map.put(at(0), "a", 1);
        map.put(at(5), "b", 2);
        assert_eq!(expired(&mut map, at(9)), [""; 0]);
        assert_eq!((map.fresh(at(9), "a"), map.fresh(at(10), "a")), (Some(&1), None));
        assert_eq!(expired(&mut map, at(10)), ["a"]);
        assert_eq!(map.len(), 1);
    }

    #[test]
    fn use_keeps_an_entry() {
        let mut map = of(9);
        map.put(at(0), "a", 1);
        map.put(at(0), "b", 2);
        map.touch(at(8), "a");
        assert_eq!(expired(&mut map, at(10)), ["b"]);
        assert_eq!(expired(&mut map, at(17)), [""; 0]);
        assert_eq!(expired(&mut map, at(18)), ["a"]);
    }

    #[test]
    fn the_least_used_entry_makes_room() {
        let mut map = of(2);
        map.put(at(0), "a", 1);
        map.put(at(1), "b", 2);
        map.touch(at(2), "a");
        assert_eq!(map.put(at(3), "c", 3), Some(("b", 2)));
        assert_eq!((map.peek("a"), map.peek("b"), map.peek("c")), (Some(&1), None, Some(&3)));
    }

    #[test]
    fn a_key_put_twice_is_one_entry() {
        let mut map = of(2);
        map.put(at(0), "a", 1);
        map.put(at(5), "a", 2);
        assert_eq!((map.len(), map.queue.len(), map.fresh(at(12), "a")), (1, 1, Some(&2)));
    }
}
