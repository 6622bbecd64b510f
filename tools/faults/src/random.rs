//! Dice that fall the same way for the same seed.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

/// A sequence of numbers.
#[derive(Debug)]
pub(crate) struct Random {
    state: FixedState,
    drawn: u64,
}

impl Random {
    /// The sequence of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: FixedState::with_seed(seed), drawn: 0 }
    }

    /// A number below `bound`, which is at least 1.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.drawn += 1;
        (self.state.hash_one(self.drawn) % u64::from(bound.max(1))) as u32
    }
}
