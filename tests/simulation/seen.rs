//! What happened to the instances.

/// What happened; the test wants all of it to have happened.
#[derive(Debug, Default)]
pub struct Seen {
    pub delivered: u64,
    pub resyncs: u64,
    pub filled: u64,
    pub failed: u64,
    pub nameless: u64,
    pub heard: u64,
    pub replayed: u64,
    pub renewed: u64,
    pub rolled_back: u64,
    pub restarted: u64,
    pub parted: u64,
    /// What buyers read, were told to have whole, or not, and were refused.
    pub bought: u64,
    pub recovered: u64,
    pub gaps_told: u64,
    pub refused: u64,
}

impl Seen {
    pub fn add(&mut self, other: &Self) {
        for (sum, one) in self.fields().into_iter().zip(Self { ..*other }.fields()) {
            *sum += *one;
        }
    }

    pub fn check_that_everything_happened(&mut self) {
        assert!(self.fields().iter().all(|count| **count > 0), "something never happened");
    }

    fn fields(&mut self) -> [&mut u64; 15] {
        let Self { delivered, resyncs, filled, failed, nameless, heard, replayed, .. } = self;
        let Self { renewed, rolled_back, restarted, parted, bought, recovered, gaps_told, refused, .. } =
            self;
        [
            delivered,
            resyncs,
            filled,
            failed,
            nameless,
            heard,
            replayed,
            renewed,
            rolled_back,
            restarted,
            parted,
            bought,
            recovered,
            gaps_told,
            refused,
        ]
    }
}
