//! The wheel of all deadlines of a hub, and the coarse time it turns in.
//!
//! Owns one entry per slot: when that connection must be looked at next. Never knows why; the hub works it out
//! again each time. Invariant: an entry is in the bucket of its tick, linked both ways, so that moving it is O(1).

use std::time::Duration;

use crate::clock::Now;

/// Coarse monotonic time: units of 2^26 ns, about 67 ms; wraps after nine years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(pub(super) u32);

const TICK_SHIFT: u32 = 26;

impl Tick {
    pub(super) const NEVER: Self = Self(u32::MAX);

    /// The tick under way.
    pub(super) const fn of(now: Now) -> Self {
        Self::saturating(now.mono_ns >> TICK_SHIFT)
    }

    /// The first tick that begins at or after this monotonic time.
    pub(super) const fn at(mono_ns: u64) -> Self {
        Self::saturating(mono_ns.div_ceil(1 << TICK_SHIFT))
    }

    const fn saturating(ticks: u64) -> Self {
        if ticks < u32::MAX as u64 { Self(ticks as u32) } else { Self::NEVER }
    }

    /// When it begins, monotonic nanoseconds.
    pub(super) const fn start_ns(self) -> u64 {
        (self.0 as u64) << TICK_SHIFT
    }

    pub(super) const fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    pub(super) const fn minus(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

/// A length of time in ticks, rounded up: a deadline may pass late, never early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) u32);

impl Span {
    pub(super) const fn of(duration: Duration) -> Self {
        let ticks = duration.as_nanos().div_ceil(1 << TICK_SHIFT);
        Self(if ticks < u32::MAX as u128 { ticks as u32 } else { u32::MAX })
    }
}

/// One turn of the wheel is 69 s: longer than the usual time between two looks at a connection.
const BUCKETS: u32 = 1024;
const NOBODY: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Deadlines {
    /// First slot of each bucket, or `NOBODY`.
    heads: Box<[u32]>,
    /// One bit per bucket that is not empty.
    occupied: [u64; BUCKETS as usize / 64],
    /// By slot, in pages, so that growing moves nothing.
    links: Vec<Box<[Link]>>,
    /// Every bucket up to this tick was looked at.
    passed: Tick,
    count: usize,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    next: u32,
    previous: u32,
    /// `NEVER`: not in the wheel.
    due: Tick,
}

const LINKS_PER_PAGE: usize = 1024;
const UNLINKED: Link = Link { next: NOBODY, previous: NOBODY, due: Tick::NEVER };

impl Deadlines {
    pub(super) fn new() -> Self {
        Self {
            heads: vec![NOBODY; BUCKETS as usize].into_boxed_slice(),
            occupied: [0; BUCKETS as usize / 64],
            links: Vec::new(),
            passed: Tick(0),
            count: 0,
        }
    }

    /// Looks at the slot again at `due`, or at the next tick if that has passed; never for [`Tick::NEVER`].
    pub(super) fn set(&mut self, slot: u32, now: Tick, due: Tick) {
        self.clear(slot);
        if due == Tick::NEVER {
            return;
        }
        if self.count == 0 {
            self.passed = now;
        }
        let due = due.max(self.passed.plus(Span(1)));
        while self.links.len() <= slot as usize / LINKS_PER_PAGE {
            self.links.push(vec![UNLINKED; LINKS_PER_PAGE].into_boxed_slice());
        }
        let bucket = due.0 % BUCKETS;
        let next = std::mem::replace(&mut self.heads[bucket as usize], slot);
        if next != NOBODY {
            self.link(next).previous = slot;
        }
        *self.link(slot) = Link { next, previous: NOBODY, due };
        self.occupied[bucket as usize / 64] |= 1 << (bucket % 64);
        self.count += 1;
    }

    /// Forgets the slot.
    pub(super) fn clear(&mut self, slot: u32) {
        if !self.contains(slot) {
            return;
        }
        let Link { next, previous, due } = std::mem::replace(self.link(slot), UNLINKED);
        if next != NOBODY {
            self.link(next).previous = previous;
        }
        if previous != NOBODY {
            self.link(previous).next = next;
        } else {
            let bucket = due.0 % BUCKETS;
            self.heads[bucket as usize] = next;
            if next == NOBODY {
                self.occupied[bucket as usize / 64] &= !(1 << (bucket % 64));
            }
        }
        self.count -= 1;
    }

    /// A tick at or before the earliest deadline.
    pub(super) fn next(&self) -> Option<Tick> {
        let start = self.passed.0.wrapping_add(1) % BUCKETS;
        let (word, bit) = (start as usize / 64, start % 64);
        // The word of the start is looked at twice: its upper bits first, its lower ones after the others.
        (0..=self.occupied.len()).find_map(|step| {
            let index = (word + step) % self.occupied.len();
            let mask = match step {
                0 => u64::MAX << bit,
                _ if step == self.occupied.len() => !(u64::MAX << bit),
                _ => u64::MAX,
            };
            let bits = self.occupied[index] & mask;
            let bucket = index as u32 * 64 + bits.trailing_zeros();
            let distance = bucket.wrapping_sub(start) % BUCKETS;
            (bits != 0).then(|| self.passed.plus(Span(distance + 1)))
        })
    }

    /// Takes out every slot whose deadline has come.
    pub(super) fn take_due(&mut self, now: Tick, into: &mut Vec<u32>) {
        while let Some(tick) = self.next().filter(|tick| *tick <= now) {
            self.take_bucket(tick.0 % BUCKETS, now, into);
            self.passed = tick;
        }
        self.passed = self.passed.max(now);
    }

    fn take_bucket(&mut self, bucket: u32, now: Tick, into: &mut Vec<u32>) {
        let mut slot = self.heads[bucket as usize];
        while slot != NOBODY {
            let Link { next, due, .. } = *self.link(slot);
            // Others in the bucket may be due a turn of the wheel later.
            if due <= now {
                self.clear(slot);
                into.push(slot);
            }
            slot = next;
        }
    }

    /// Whether the slot will be looked at.
    pub(super) fn contains(&self, slot: u32) -> bool {
        let slot = slot as usize;
        let page = self.links.get(slot / LINKS_PER_PAGE);
        page.is_some_and(|page| page[slot % LINKS_PER_PAGE].due != Tick::NEVER)
    }

    /// Of a slot whose page was made.
    fn link(&mut self, slot: u32) -> &mut Link {
        let slot = slot as usize;
        &mut self.links[slot / LINKS_PER_PAGE][slot % LINKS_PER_PAGE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [u32; 0] = [];

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Link>(), 12);
    }

    fn due(wheel: &mut Deadlines, now: u32) -> Vec<u32> {
        let mut slots = Vec::new();
        wheel.take_due(Tick(now), &mut slots);
        slots.sort_unstable();
        slots
    }

    #[test]
    fn a_slot_comes_up_at_its_tick_and_not_before() {
        let mut wheel = Deadlines::new();
        let start = Tick(5_000);
        for (slot, tick) in [(0, 5_010), (1, 5_010), (2, 5_011), (3, 5_010 + BUCKETS), (4, u32::MAX)] {
            wheel.set(slot, start, Tick(tick));
        }
        assert_eq!(wheel.next(), Some(Tick(5_010)));
        assert_eq!(due(&mut wheel, 5_009), NONE);
        assert_eq!(due(&mut wheel, 5_010), [0, 1]);
        assert_eq!(wheel.next(), Some(Tick(5_011)));
        assert_eq!(due(&mut wheel, 5_011), [2]);
        assert_eq!(wheel.next(), Some(Tick(5_010 + BUCKETS)));
        assert_eq!(due(&mut wheel, 5_009 + BUCKETS), NONE);
        assert_eq!(due(&mut wheel, 5_010 + BUCKETS), [3]);
        assert_eq!((wheel.next(), wheel.count), (None, 0));
    }

    #[test]
    fn a_slot_can_be_moved_and_forgotten() {
        let mut wheel = Deadlines::new();
        for slot in 0..3 {
            wheel.set(slot, Tick(0), Tick(10));
        }
        wheel.set(1, Tick(0), Tick(4));
        wheel.clear(2);
        wheel.clear(77);
        assert_eq!(due(&mut wheel, 4), [1]);
        assert_eq!(due(&mut wheel, 100), [0]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn what_is_past_comes_up_at_the_next_tick() {
        let mut wheel = Deadlines::new();
        wheel.set(0, Tick(100), Tick(7));
        assert_eq!(wheel.next(), Some(Tick(101)));
        assert_eq!(due(&mut wheel, 100), NONE);
        assert_eq!(due(&mut wheel, 101), [0]);
    }

    #[test]
    fn a_long_absence_misses_nothing() {
        let mut wheel = Deadlines::new();
        for slot in 0..2_000 {
            wheel.set(slot, Tick(0), Tick(1 + slot));
        }
        assert_eq!(due(&mut wheel, 50_000).len(), 2_000);
        wheel.set(5, Tick(50_000), Tick(50_001));
        assert_eq!(wheel.next(), Some(Tick(50_001)));
    }

    #[test]
    fn every_bucket_is_found_from_every_start() {
        for (start, distance) in [(0, 1), (63, 1), (63, 64), (1_000, 60), (64, BUCKETS - 1), (100, BUCKETS)] {
            let mut wheel = Deadlines::new();
            wheel.set(0, Tick(start), Tick(start + distance));
            assert_eq!(wheel.next(), Some(Tick(start + distance)), "from {start} by {distance}");
        }
    }

    #[test]
    fn times_round_to_late_rather_than_early() {
        let tick = 1 << TICK_SHIFT;
        assert_eq!(Tick::at(tick), Tick(1));
        assert_eq!(Tick::at(tick + 1), Tick(2));
        assert_eq!(Tick::of(Now { mono_ns: tick * 2 - 1, wall_ms: 0 }), Tick(1));
        assert_eq!(Span::of(Duration::from_nanos(1)), Span(1));
        assert_eq!(Tick::at(u64::MAX), Tick::NEVER.min(Tick::at(u64::MAX)));
        assert_eq!(Tick::NEVER.plus(Span(5)), Tick::NEVER);
    }
}
