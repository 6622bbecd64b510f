//! How fast a line moves, and so how long a wait may be.
//!
//! Owns the admissions of the last five minutes in slots of ten seconds, and whole-number arithmetic over them, so that
//! every instance says the same. What it says is an estimate with a margin, or nothing.

use crate::line::LinePace;

const SLOT_MS: u64 = 10_000;
const SLOTS: usize = 30;
/// The last minute, judged apart from all five.
const RECENT_SLOTS: u64 = 6;
/// Fewer admissions than this say nothing.
const ADMISSIONS_MIN: u64 = 3;
const HOUR_MS: u64 = 3_600_000;

/// With a margin of a fifth on both sides of what was measured.
fn around(rates: [u64; 2], slow_min: u64) -> LinePace {
    let fast = rates[0].max(rates[1]).saturating_mul(5) / 4;
    let slow = (rates[0].min(rates[1]).saturating_mul(4) / 5).max(slow_min);
    let people = |rate: u64| u32::try_from(rate.max(1)).unwrap_or(u32::MAX);
    LinePace { low: people(slow), high: people(fast) }
}

/// Of an inlet of which nothing was measured yet.
pub(super) fn pace_of_rate(per_minute: u32) -> LinePace {
    around([u64::from(per_minute) * 60; 2], 0)
}

/// Admissions from the line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    slots: [u32; SLOTS],
    /// Number of the newest slot: time / [`SLOT_MS`].
    newest: u64,
    /// Since when people are let in, wall ms.
    since_ms: u64,
}

impl History {
    /// Forgets everything: the line moves anew.
    pub(super) fn start(&mut self, at_ms: u64) {
        *self = Self { slots: [0; SLOTS], newest: at_ms / SLOT_MS, since_ms: at_ms };
    }

    pub(super) fn record(&mut self, at_ms: u64) {
        let slot = at_ms / SLOT_MS;
        let passed = slot.saturating_sub(self.newest);
        for step in 1..=passed.min(SLOTS as u64) {
            self.slots[(self.newest + step) as usize % SLOTS] = 0;
        }
        // More slots than there are: all are empty, and which one is next does not matter.
        self.newest = self.newest.max(slot);
        let index = (slot % SLOTS as u64) as usize;
        self.slots[index] = self.slots[index].saturating_add(1);
    }

    /// Whether people were let in for long enough to say how fast.
    pub(super) fn is_grown(&self, at_ms: u64) -> bool {
        at_ms.saturating_sub(self.since_ms) >= SLOT_MS
    }

    /// `None`: too few to say.
    pub(super) fn pace(&self, at_ms: u64) -> Option<LinePace> {
        let (count, all) = self.rate(at_ms, SLOTS as u64);
        let (_, recent) = self.rate(at_ms, RECENT_SLOTS);
        (count >= ADMISSIONS_MIN).then(|| around([all, recent], all / 2))
    }

    /// Admissions of the last so many slots, and what that makes an hour.
    fn rate(&self, at_ms: u64, slots: u64) -> (u64, u64) {
        let slot = at_ms / SLOT_MS;
        let first = (slot + 1).saturating_sub(slots);
        let from_ms = (first * SLOT_MS).max(self.since_ms);
        let count = (first..=slot.min(self.newest))
            .filter(|slot| slot + SLOTS as u64 > self.newest)
            .map(|slot| u64::from(self.slots[(slot % SLOTS as u64) as usize]))
            .sum();
        // A burst in the first moments is not a rate.
        let passed_ms = at_ms.saturating_sub(from_ms).max(SLOT_MS);
        (count, count * HOUR_MS / passed_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_line_is_told_with_a_margin() {
        let mut history = History::default();
        history.start(1_000_000);
        for at_ms in (1_000_000..1_300_000).step_by(1_000) {
            history.record(at_ms);
        }
        let pace = history.pace(1_300_000).expect("300 were admitted");
        let (low, high) = pace.wait_seconds(100);
        assert!((75..=90).contains(&low) && (115..=135).contains(&high), "{low} to {high} s for 100 s");
        assert!(pace.wait_seconds(1).0 >= 1);
        assert_eq!(pace_of_rate(60).wait_seconds(100), (80, 125));
    }

    #[test]
    fn nothing_is_said_before_enough_were_admitted_and_long_after() {
        let mut history = History::default();
        history.start(5_000);
        history.record(5_000);
        history.record(6_000);
        assert_eq!(history.pace(7_000), None);
        history.record(7_000);
        assert!(history.pace(7_000).is_some() && history.pace(250_000).is_some());
        assert_eq!(history.pace(400_000), None);
        history.record(9_000_000);
        assert_eq!(history.pace(9_000_000), None, "what is long ago does not come back");
        history.record(10);
        assert_eq!(history.pace(u64::MAX / 2), None);
    }

    #[test]
    fn a_line_that_slows_down_has_a_wide_range() {
        let mut history = History::default();
        history.start(0);
        (0..240_000).step_by(500).for_each(|at_ms| history.record(at_ms));
        let pace = history.pace(301_000).expect("480 were admitted");
        assert!(pace.high > 2 * pace.low, "{pace:?}");
    }
}
