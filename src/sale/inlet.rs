//! How people are let in by themselves.
//!
//! Owns the bucket of a rate, in whole numbers: 60 000 parts are one person, so that `n` a minute fill `n` parts a
//! millisecond. People who do not arrive (a pass that expires, or is given back) are owed another; a rate counts who
//! arrives. At most three seconds of a rate, or one person, are saved up.

use serde::{Deserialize, Serialize};

use crate::limits::{INLET_PER_MINUTE_MAX, PLACES_MAX};

/// The rule of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inlet {
    /// Nobody but by `Advance` and `AdmitNext`.
    Manual,
    /// So many a minute, `1..=INLET_PER_MINUTE_MAX`.
    PerMinute(u32),
    /// As long as fewer than so many have a pass or are inside, `1..=PLACES_MAX`.
    Inside(u32),
}

impl Inlet {
    /// Whether its number is in range.
    pub fn is_valid(self) -> bool {
        match self {
            Self::Manual => true,
            Self::PerMinute(count) => (1..=INLET_PER_MINUTE_MAX).contains(&count),
            Self::Inside(count) => (1..=PLACES_MAX).contains(&count),
        }
    }
}

const PERSON: u64 = 60_000;
/// What may be saved up for whoever ticks late, ms: a lease changes hands within it.
const SAVED_MS_MAX: u64 = 3_000;

/// What a rate has saved up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    /// Parts of people.
    saved: u64,
    /// Until when it was filled, wall ms.
    filled_ms: u64,
    /// People who did not arrive.
    owed: u32,
}

impl Bucket {
    /// From now on; the first may come at once.
    pub(super) fn open(&mut self, at_ms: u64) {
        *self = Self { saved: PERSON, filled_ms: at_ms, owed: 0 };
    }

    /// Nothing is saved for the time until now.
    pub(super) fn skip(&mut self, at_ms: u64) {
        self.filled_ms = self.filled_ms.max(at_ms);
    }

    pub(super) fn fill(&mut self, at_ms: u64, per_minute: u32) {
        let per_minute = u64::from(per_minute);
        let passed_ms = at_ms.saturating_sub(self.filled_ms).min(PERSON);
        self.saved = (self.saved + passed_ms * per_minute).min(PERSON.max(per_minute * SAVED_MS_MAX));
        self.filled_ms = self.filled_ms.max(at_ms);
    }

    pub(super) fn take(&mut self) -> bool {
        if let Some(owed) = self.owed.checked_sub(1) {
            self.owed = owed;
            return true;
        }
        let Some(saved) = self.saved.checked_sub(PERSON) else { return false };
        self.saved = saved;
        true
    }

    /// Somebody who was let in does not arrive.
    pub(super) fn owe(&mut self) {
        self.owed = self.owed.saturating_add(1);
    }

    /// Nobody waits: what is owed is owed to nobody.
    pub(super) fn forgive(&mut self) {
        self.owed = 0;
    }

    /// When the next person fits, wall ms.
    pub(super) fn next_ms(&self, per_minute: u32) -> u64 {
        let missing = if self.owed > 0 { 0 } else { PERSON.saturating_sub(self.saved) };
        self.filled_ms.saturating_add(missing.div_ceil(u64::from(per_minute.max(1))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bucket: &mut Bucket) -> usize {
        (0..1_000_000).take_while(|_| bucket.take()).count()
    }

    #[test]
    fn a_rate_is_kept_to_the_person_however_often_it_is_filled() {
        for step_ms in [1, 7, 250, 1_000, 3_000] {
            let mut bucket = Bucket::default();
            bucket.open(0);
            let mut people = 0;
            for at_ms in (0..=600_000).step_by(step_ms) {
                bucket.fill(at_ms as u64, 100);
                people += taken(&mut bucket);
            }
            assert_eq!(
                people,
                1_000 + usize::from(600_000 % step_ms < step_ms && 600_000 % step_ms == 0),
                "{step_ms} ms"
            );
        }
    }

    #[test]
    fn little_is_saved_and_the_next_is_due_when_it_fits() {
        let mut bucket = Bucket::default();
        bucket.open(1_000);
        assert_eq!((taken(&mut bucket), bucket.next_ms(100)), (1, 1_600));
        bucket.fill(1_599, 100);
        assert!(!bucket.take());
        bucket.fill(1_600, 100);
        assert!(bucket.take());
        bucket.fill(9_000_000, 100);
        assert_eq!(taken(&mut bucket), 5, "three seconds");
        bucket.fill(u64::MAX, 1);
        assert_eq!(taken(&mut bucket), 1, "or one person");
        bucket.fill(0, 100);
        assert_eq!((taken(&mut bucket), bucket.filled_ms), (0, u64::MAX));
    }

    #[test]
    fn who_does_not_arrive_is_owed_until_nobody_waits() {
        let mut bucket = Bucket::default();
        bucket.owe();
        bucket.owe();
        assert_eq!((bucket.next_ms(1), bucket.take()), (0, true));
        bucket.forgive();
        assert!(!bucket.take());
    }
}
