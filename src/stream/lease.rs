//! What an instance knows of the lease `usher:ingest`: who appends Critical events of foreign channels.
//!
//! Owns the belief, and the two clocks that it stands on: this machine's monotonic one, in nanoseconds, and that of Redis,
//! in milliseconds since 1970. Never believes longer than Redis does. Made by [`crate::store::lease`], used by `route`.

use std::time::Duration;

use crate::limits::{FOREIGN_OVERLAP, LEASE_TIME};

/// The last that was heard of the lease. Times are monotonic nanoseconds where nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Until when this instance holds it; 0: it does not.
    pub until_ns: u64,
    /// Since when it has held it without a break; means nothing while it does not.
    pub held_since_ns: u64,
    /// Since when it has heard foreign channels without a break.
    pub heard_since_ns: u64,
    /// When the claim was sent that was answered last; 0: none was.
    pub asked_ns: u64,
    /// What Redis's clock showed then, ms.
    pub redis_ms: u64,
    /// Another instance holds it, and has heard foreign channels since then without a break; 0: for long.
    pub other_since_ns: Option<u64>,
}

impl Lease {
    /// Whether this instance appends what is heard now.
    pub fn holds(&self, now_ns: u64) -> bool {
        now_ns < self.until_ns
    }

    /// From when on nobody else can have appended what this instance heard while it holds the lease: others may not have
    /// known yet, or been the only ones to hear it.
    pub fn alone_from_ns(&self) -> u64 {
        self.held_since_ns.max(self.heard_since_ns).saturating_add(nanoseconds(FOREIGN_OVERLAP))
    }

    /// Whether another instance holds the lease and heard by itself what was heard here at that time.
    pub fn is_others(&self, heard_ns: u64) -> bool {
        let covered_from = |since: u64| match since {
            0 => 0,
            since => since.saturating_add(nanoseconds(FOREIGN_OVERLAP)),
        };
        self.other_since_ns.is_some_and(|since| heard_ns >= covered_from(since))
    }

    /// What Redis's clock showed at that time, ms; up to the time of a question and its answer later.
    pub fn redis_ms_at(&self, at_ns: u64) -> u64 {
        let later = at_ns.saturating_sub(self.asked_ns) / NS_PER_MS;
        let earlier = self.asked_ns.saturating_sub(at_ns) / NS_PER_MS;
        (self.redis_ms + later).saturating_sub(earlier)
    }

    /// When Redis gives the lease to another at the soonest, by its own clock, ms.
    pub fn ends_ms(&self) -> u64 {
        self.redis_ms + LEASE_TIME.as_millis() as u64
    }
}

const NS_PER_MS: u64 = 1_000_000;

fn nanoseconds(time: Duration) -> u64 {
    time.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn a_time_here_is_a_time_of_redis() {
        let lease = Lease { asked_ns: 10 * S, redis_ms: 50_000, ..Lease::default() };
        assert_eq!([8 * S, 10 * S, 11 * S].map(|at| lease.redis_ms_at(at)), [48_000, 50_000, 51_000]);
        assert_eq!(lease.ends_ms(), 53_000);
    }

    #[test]
    fn what_another_heard_too_is_its_business_but_not_what_came_before() {
        let lease = |since| Lease { other_since_ns: since, ..Lease::default() };
        assert!(!lease(None).is_others(20 * S));
        assert!(lease(Some(0)).is_others(1));
        let overlap = nanoseconds(FOREIGN_OVERLAP);
        assert!(lease(Some(10 * S)).is_others(10 * S + overlap));
        assert!(!lease(Some(10 * S)).is_others(10 * S + overlap - 1));
    }
}
