//! Log lines that others could multiply: one in a while, with how many were kept back.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::clock::Now;

/// Says which of many alike events is worth a line.
#[derive(Debug)]
pub(crate) struct Sampled {
    every_ms: u64,
    /// Not before, monotonic milliseconds.
    next_ms: AtomicU64,
    kept_back: AtomicU64,
}

impl Sampled {
    pub(crate) const fn every(interval: Duration) -> Self {
        let every_ms = interval.as_millis() as u64;
        Self { every_ms, next_ms: AtomicU64::new(0), kept_back: AtomicU64::new(0) }
    }

    /// `Some`: write it, and say that so many before it were not written.
    pub(crate) fn take(&self, now: Now) -> Option<u64> {
        if now.mono_ms() < self.next_ms.load(Ordering::Relaxed) {
            self.kept_back.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.next_ms.store(now.mono_ms() + self.every_ms, Ordering::Relaxed);
        Some(self.kept_back.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_an_interval_is_written_and_tells_of_the_others() {
        let sampled = Sampled::every(Duration::from_secs(1));
        let start = Now { mono_ns: 5_000_000_000, wall_ms: 0 };
        let at = |ms| start.after(Duration::from_millis(ms));
        let taken: Vec<_> = [0, 1, 999, 1_000, 1_001, 3_000].map(|ms| sampled.take(at(ms))).into();
        assert_eq!(taken, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
