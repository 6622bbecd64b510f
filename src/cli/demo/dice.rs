//! Dice that fall the same way for the same seed.

use std::{hash::BuildHasher, time::Duration};

use foldhash::fast::FixedState;

pub(super) struct Dice {
    state: FixedState,
    thrown: u64,
}

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: FixedState::with_seed(seed), thrown: 0 }
    }

    /// A number below `bound`, which is at least 1.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.thrown += 1;
        self.state.hash_one(self.thrown) % bound.max(1)
    }

    /// A time from `from` to `to`.
    pub(super) fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let spread_ms = to.saturating_sub(from).as_millis() as u64;
        from + Duration::from_millis(self.below(spread_ms + 1))
    }
}
