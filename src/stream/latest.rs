//! The last value of each Latest key, by whom it is for.
//!
//! Owns the values and their bounds. Never compares versions: what is put is the newest. Invariants: counts equal what is
//! held; an address holds each key once, the key put last at the end.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::Now,
    event::{Class, Event, LatestKey},
    limits::{
        LATEST_AGE_MAX, LATEST_BYTES_MAX, LATEST_BYTES_PER_ADDRESS_MAX, LATEST_KEYS_PER_ADDRESS_MAX,
        LATEST_VALUES_MAX,
    },
    stream::expiring::Expiring,
};

/// How much is kept.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Values of all addresses.
    pub count_max: usize,
    /// Bytes of them.
    pub bytes_max: usize,
    /// Values of one address.
    pub keys_max: usize,
    /// Bytes of their payloads; the newest stays whatever its size.
    pub address_bytes_max: usize,
    /// Age of a value.
    pub age_max: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            count_max: LATEST_VALUES_MAX,
            bytes_max: LATEST_BYTES_MAX,
            keys_max: LATEST_KEYS_PER_ADDRESS_MAX,
            address_bytes_max: LATEST_BYTES_PER_ADDRESS_MAX,
            age_max: LATEST_AGE_MAX,
        }
    }
}

/// The values. An address is named as its stream is, `user:<id>` or `room:<name>`.
#[derive(Clone, Debug)]
pub struct LatestValues {
    bounds: Bounds,
    held: Expiring<Arc<str>, Vec<Slot>>,
    count: usize,
    bytes: usize,
    evicted: u64,
}

#[derive(Clone, Debug)]
struct Slot {
    key: LatestKey,
    event: Arc<Event>,
    /// Who puts it gives it; see [`LatestValues::serial`].
    serial: u64,
    at_ns: u64,
}

impl Default for LatestValues {
    fn default() -> Self {
        Self::new(Bounds::default())
    }
}

impl LatestValues {
    /// None yet.
    pub fn new(bounds: Bounds) -> Self {
        let held = Expiring::new(bounds.age_max, bounds.count_max);
        Self { bounds, held, count: 0, bytes: 0, evicted: 0 }
    }

    /// Keeps an event as the last of its key; another class is not kept. The address not updated for longest makes room,
    /// or the oldest value of the same address.
    pub fn put(&mut self, now: Now, address: Arc<str>, event: Arc<Event>, serial: u64) {
        let Class::Latest(key) = event.class else { return };
        let cost = bytes_of(&event);
        if cost > self.bounds.bytes_max {
            return;
        }
        self.forget(&address, |slot| slot.key == key);
        while self.count >= self.bounds.count_max || self.bytes + cost > self.bounds.bytes_max {
            let Some((_, slots)) = self.held.pop_oldest() else { break };
            self.evicted += slots.len() as u64;
            self.drop_slots(&slots);
        }
        self.count += 1;
        self.bytes += cost;
        let slot = Slot { key, event, serial, at_ns: now.mono_ns };
        let Some(slots) = self.held.touch(now, &*address) else {
            // There is room: every address holds a value, or its age ends soon.
            let evicted = self.held.put(now, address, vec![slot]);
            return self.drop_slots(&evicted.map(|(_, slots)| slots).unwrap_or_default());
        };
        slots.push(slot);
        let weight = |slots: &[Slot]| slots.iter().map(|slot| slot.event.payload.len()).sum::<usize>();
        let mut gone = Vec::new();
        while slots.len() > self.bounds.keys_max
            || (slots.len() > 1 && weight(slots) > self.bounds.address_bytes_max)
        {
            gone.push(slots.remove(0));
        }
        self.evicted += gone.len() as u64;
        self.drop_slots(&gone);
    }

    /// The values of an address, oldest first.
    pub fn of(&self, now: Now, address: &str) -> Vec<Arc<Event>> {
        let slots = self.held.fresh(now, address).map_or(&[][..], Vec::as_slice);
        let fresh = slots.iter().filter(|slot| !self.is_old(now, slot));
        fresh.map(|slot| slot.event.clone()).collect()
    }

    /// The value of a key.
    pub fn get(&self, now: Now, address: &str, key: LatestKey) -> Option<&Arc<Event>> {
        self.slot(now, address, key).map(|slot| &slot.event)
    }

    /// With which serial the value of a key was put.
    pub fn serial(&self, now: Now, address: &str, key: LatestKey) -> Option<u64> {
        self.slot(now, address, key).map(|slot| slot.serial)
    }

    /// Lets go of what is too old.
    pub fn expire(&mut self, now: Now) {
        let mut gone = Vec::new();
        self.held.expire(now, |_, slots| gone.extend(slots));
        self.drop_slots(&gone);
    }

    /// Values held, some of which may be too old.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of them, with what keeping them costs.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Values that made room for others so far.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Panics when the invariants above do not hold.
    pub fn check_invariants(&self) {
        let slots = || self.held.values().flatten();
        assert_eq!(slots().count(), self.count, "values");
        assert_eq!(slots().map(|slot| bytes_of(&slot.event)).sum::<usize>(), self.bytes, "bytes");
        assert!(self.count <= self.bounds.count_max && self.bytes <= self.bounds.bytes_max, "bounds");
    }

    fn slot(&self, now: Now, address: &str, key: LatestKey) -> Option<&Slot> {
        let slots = self.held.fresh(now, address)?;
        slots.iter().find(|slot| slot.key == key && !self.is_old(now, slot))
    }

    fn is_old(&self, now: Now, slot: &Slot) -> bool {
        let age_max_ns = u64::try_from(self.bounds.age_max.as_nanos()).unwrap_or(u64::MAX);
        slot.at_ns.saturating_add(age_max_ns) <= now.mono_ns
    }

    fn forget(&mut self, address: &str, is_it: impl Fn(&Slot) -> bool) {
        let Some(slots) = self.held.peek_mut(address) else { return };
        let gone: Vec<Slot> = slots.extract_if(.., |slot| is_it(slot)).collect();
        self.drop_slots(&gone);
    }

    fn drop_slots(&mut self, slots: &[Slot]) {
        self.count -= slots.len();
        self.bytes -= slots.iter().map(|slot| bytes_of(&slot.event)).sum::<usize>();
    }
}

/// What a value costs: its payload, itself and its place. Names are shared with what else knows the address.
fn bytes_of(event: &Event) -> usize {
    event.payload.len() + event.kind.len() + size_of::<Event>() + size_of::<Slot>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Form, Target};

    fn at(seconds: u64) -> Now {
        Now { mono_ns: seconds * 1_000_000_000, wall_ms: 0 }
    }

    fn value(key: u64, payload: &str) -> Arc<Event> {
        Arc::new(Event {
            target: Target::User("a".into()),
            kind: "booking:queue_position".into(),
            payload: payload.to_owned().into(),
            form: Form::Payload,
            class: Class::Latest(LatestKey(key)),
            version: None,
            position: None,
            except: None,
            accepted_at_ns: 0,
        })
    }

    fn of(count_max: usize) -> LatestValues {
        let bytes_max = 100 * bytes_of(&value(1, "1"));
        let age_max = Duration::from_secs(10);
        LatestValues::new(Bounds { count_max, bytes_max, keys_max: 3, address_bytes_max: 100, age_max })
    }

    fn put(values: &mut LatestValues, now: Now, address: &str, (key, payload): (u64, &str)) {
        values.put(now, address.into(), value(key, payload), 0);
        values.check_invariants();
    }

    fn held(values: &LatestValues, now: Now, address: &str) -> Vec<String> {
        let text = |event: Arc<Event>| String::from_utf8(event.payload.to_vec()).unwrap();
        values.of(now, address).into_iter().map(text).collect()
    }

    #[test]
    fn the_last_value_of_each_key_is_kept() {
        let mut values = of(9);
        for (key, payload) in [(1, "a"), (2, "b"), (1, "c")] {
            put(&mut values, at(0), "user:a", (key, payload));
        }
        put(&mut values, at(0), "room:r", (1, "d"));
        assert_eq!(held(&values, at(0), "user:a"), ["b", "c"]);
        assert_eq!(held(&values, at(0), "room:r"), ["d"]);
        assert_eq!(held(&values, at(0), "room:s"), [""; 0]);
        assert_eq!((values.len(), values.evicted()), (3, 0));
    }

    #[test]
    fn a_value_goes_at_its_age_whatever_is_put_beside_it() {
        let mut values = of(9);
        put(&mut values, at(0), "user:a", (1, "old"));
        put(&mut values, at(6), "user:a", (2, "new"));
        assert_eq!(held(&values, at(9), "user:a"), ["old", "new"]);
        assert_eq!(held(&values, at(10), "user:a"), ["new"]);
        values.expire(at(30));
        values.expire(at(30));
        values.check_invariants();
        assert!(values.is_empty());
    }

    #[test]
    fn the_address_not_updated_for_longest_makes_room() {
        let mut values = of(3);
        put(&mut values, at(0), "user:a", (1, "a"));
        put(&mut values, at(1), "user:b", (1, "b"));
        put(&mut values, at(2), "user:a", (2, "a2"));
        put(&mut values, at(3), "user:c", (1, "c"));
        assert_eq!(held(&values, at(3), "user:b"), [""; 0]);
        assert_eq!((held(&values, at(3), "user:a").len(), held(&values, at(3), "user:c").len()), (2, 1));
        assert_eq!(values.evicted(), 1);
    }

    #[test]
    fn bytes_and_keys_of_one_address_are_bounded() {
        let mut values = of(1_000);
        for key in 0..5 {
            put(&mut values, at(0), "user:a", (key, &key.to_string()));
        }
        assert_eq!(held(&values, at(0), "user:a"), ["2", "3", "4"]);
        assert_eq!(values.evicted(), 2);
        put(&mut values, at(0), "user:a", (6, &"6".repeat(99)));
        assert_eq!(held(&values, at(0), "user:a").len(), 2, "as many bytes as one address may have");
        for n in 0..500 {
            put(&mut values, at(1), &format!("user:{n}"), (1, "xxxx"));
        }
        assert!(values.len() < 100 && values.len() > 90, "{}", values.len());
        let huge = "x".repeat(values.bounds.bytes_max);
        let before = values.len();
        put(&mut values, at(2), "user:huge", (1, &huge));
        assert_eq!((held(&values, at(2), "user:huge"), values.len()), (vec![], before));
    }
}
