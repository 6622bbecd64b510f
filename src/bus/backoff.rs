//! How long to wait between two tries: exponential, with full jitter, for ever.

use std::time::Duration;

use crate::limits::{REDIS_RETRY_MAX, REDIS_RETRY_MIN};

/// Pauses between tries. After a try each is anything from nothing to a bound that doubles up to
/// [`REDIS_RETRY_MAX`], so that instances do not come back together.
#[derive(Debug)]
pub(super) struct Backoff {
    failures: u32,
    state: u64,
}

impl Backoff {
    /// Instances need seeds of their own.
    pub(super) fn new(seed: u64) -> Self {
        Self { failures: 0, state: seed }
    }

    /// The last try was a success.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Another try failed: how long after its beginning the next one may begin.
    pub(super) fn next(&mut self) -> Duration {
        let bound = REDIS_RETRY_MIN.saturating_mul(1 << self.failures.min(16)).min(REDIS_RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(self.random() % (bound.as_millis() as u64 + 1))
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_spread_below_a_bound_that_doubles_up_to_the_largest() {
        for failures in 0..40 {
            let bound = (REDIS_RETRY_MIN * 2_u32.pow(failures.min(10))).min(REDIS_RETRY_MAX);
            let pauses: Vec<Duration> =
                (0..200).map(|seed| Backoff { failures, state: seed }.next()).collect();
            assert!(pauses.iter().all(|pause| *pause <= bound), "{failures}");
            assert!(pauses.iter().any(|pause| *pause < bound / 4), "{failures}");
            assert!(pauses.iter().any(|pause| *pause > bound / 4 * 3), "{failures}");
        }
    }

    #[test]
    fn a_success_begins_anew() {
        let mut backoff = Backoff { failures: 30, state: 1 };
        backoff.reset();
        assert!(backoff.next() <= REDIS_RETRY_MIN);
    }
}
