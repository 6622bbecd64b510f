//! Who brings bad tokens: refused by address before another signature is looked at.
//!
//! Owns a table of a fixed number of buckets, one per network that failed lately. Good tokens take nothing out. A
//! network that is not in the table may try; where there is no place for one more, it takes the place of whoever
//! failed least, so that a flood from many addresses forgets none that failed much. Which networks compete for a
//! place depends on a seed.

use std::{hash::BuildHasher, time::Duration};

use foldhash::fast::FixedState;

use crate::{
    ids::Network,
    limits::AUTH_FAILURE_NETWORKS_MAX,
    rate::{Bucket, Rate},
};

/// Failures of the networks that failed lately.
#[derive(Debug)]
pub struct Failures {
    rate: Rate,
    hasher: FixedState,
    /// Sets of `WAYS`; a network has a place in one of them.
    table: Box<[Entry]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    network: Network,
    /// Full: the place is free.
    bucket: Bucket,
}

/// Places that one network may take.
const WAYS: usize = 8;
const SETS: usize = AUTH_FAILURE_NETWORKS_MAX / WAYS;
const _: () = assert!(SETS.is_power_of_two() && SETS * WAYS == AUTH_FAILURE_NETWORKS_MAX);

impl Failures {
    /// Lets a network fail `count` times, refilled over `window`; `None` where `count` is 0: no limit.
    pub fn new(count: u32, window: Duration, seed: u64) -> Option<Self> {
        let table = vec![Entry::default(); AUTH_FAILURE_NETWORKS_MAX].into_boxed_slice();
        Rate::new(count, window).map(|rate| Self { rate, hasher: FixedState::with_seed(seed), table })
    }

    /// Whether the network may try a token; else in how many nanoseconds.
    pub fn check(&self, network: Network, mono_ns: u64) -> Result<(), u64> {
        let set = &self.table[self.set(network)];
        let entry = set.iter().find(|entry| entry.network == network);
        entry.map_or(Ok(()), |entry| entry.bucket.look(self.rate, mono_ns))
    }

    /// Counts a token that was refused.
    pub fn count(&mut self, network: Network, mono_ns: u64) {
        let rate = self.rate;
        let range = self.set(network);
        let set = &mut self.table[range];
        let known = set.iter().position(|entry| entry.network == network);
        let least = (0..WAYS).min_by_key(|way| set[*way].bucket.full_at_ns());
        let Some(entry) = known.or(least).and_then(|way| set.get_mut(way)) else { return };
        if entry.network != network {
            *entry = Entry { network, bucket: Bucket::default() };
        }
        // An empty bucket has nothing more to lose: what was checked before it was emptied is not held against anybody.
        entry.bucket.take(rate, mono_ns).ok();
    }

    fn set(&self, network: Network) -> std::ops::Range<usize> {
        let set = self.hasher.hash_one(network) as usize % SETS;
        set * WAYS..(set + 1) * WAYS
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cmp::Reverse,
        collections::BinaryHeap,
        net::{IpAddr, Ipv4Addr},
    };

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const NOW: u64 = 1_000 * SECOND;

    fn network(n: u32) -> Network {
        IpAddr::from(Ipv4Addr::from_bits(n)).into()
    }

    fn failures(count: u32, window_s: u64) -> Failures {
        Failures::new(count, Duration::from_secs(window_s), 42).unwrap()
    }

    #[test]
    fn a_network_that_fails_too_often_is_refused_until_the_refill() {
        let mut failures = failures(3, 60);
        let (bad, other) = (network(1), network(2));
        for _ in 0..3 {
            assert_eq!(failures.check(bad, NOW), Ok(()));
            failures.count(bad, NOW);
        }
        assert_eq!(failures.check(bad, NOW), Err(20 * SECOND));
        assert_eq!(failures.check(other, NOW), Ok(()));
        assert_eq!(failures.check(bad, NOW + 20 * SECOND), Ok(()));
        failures.count(bad, NOW + 20 * SECOND);
        assert_eq!(failures.check(bad, NOW + 21 * SECOND), Err(19 * SECOND));
        assert_eq!(failures.check(bad, NOW + 80 * SECOND), Ok(()));
    }

    #[test]
    fn asking_costs_nothing() {
        let failures = failures(1, 60);
        assert!((0..1_000).all(|_| failures.check(network(1), NOW).is_ok()));
    }

    #[test]
    fn a_flood_from_a_million_addresses_is_bounded_and_hides_nobody() {
        let mut failures = failures(100, 60);
        let bad = network(u32::MAX);
        (0..100).for_each(|_| failures.count(bad, NOW));
        let places = failures.table.len();
        for n in 0..1_000_000 {
            assert_eq!(failures.check(network(n), NOW), Ok(()), "nobody pays for another's failures");
            failures.count(network(n), NOW);
        }
        assert_eq!(failures.table.len(), places);
        assert!(failures.check(bad, NOW).is_err(), "who failed much is not forgotten");
        assert_eq!(size_of_val(&*failures.table), 64 * 1024);
    }

    #[test]
    fn a_place_is_free_again_after_the_window() {
        let mut failures = failures(2, 60);
        (0..100_000).for_each(|n| failures.count(network(n), NOW));
        let later = NOW + 61 * SECOND;
        let late = network(200_000);
        (0..2).for_each(|_| failures.count(late, later));
        assert!(failures.check(late, later).is_err());
        assert!((0..100_000).all(|n| failures.check(network(n), later).is_ok()));
    }

    /// 20 000 clients behind one address connect to one shard within ten seconds, one in `of` with an expired token that
    /// it tries again each second for half a minute before it gets another. Returns how many with a good token wait after
    /// these thirty seconds, and after sixty.
    fn good_clients_that_wait(of: u64) -> [usize; 2] {
        let limits = crate::config::Settings::default().limits;
        let mut failures = Failures::new(limits.auth_failures_max, limits.auth_failures_window, 42).unwrap();
        let crowd = network(1);
        // When who tries next, milliseconds.
        let mut waiting: BinaryHeap<_> = (0..20_000).map(|client| Reverse((client / 2, client))).collect();
        let mut connect_until = |end_ms| {
            while let Some(Reverse((due_ms, client))) = waiting.pop() {
                if due_ms >= end_ms {
                    waiting.push(Reverse((due_ms, client)));
                    break;
                }
                let at = NOW + due_ms * 1_000_000;
                match failures.check(crowd, at) {
                    Ok(()) if client % of == 0 && due_ms < 30_000 => failures.count(crowd, at),
                    Ok(()) => continue,
                    Err(wait_ns) => assert!(wait_ns <= SECOND, "nobody is sent away for long"),
                }
                waiting.push(Reverse((due_ms + 1_000, client)));
            }
            waiting.iter().filter(|Reverse((_, client))| client % of > 0).count()
        };
        [connect_until(30_000), connect_until(60_000)]
    }

    #[test]
    fn a_crowd_behind_one_address_does_not_suffer_from_some_expired_tokens() {
        assert_eq!(good_clients_that_wait(50), [0, 0]);
    }

    #[test]
    fn a_crowd_behind_one_address_gets_in_although_many_tokens_expired() {
        let [while_they_try, afterwards] = good_clients_that_wait(10);
        assert!(while_they_try < 1_000, "{while_they_try}");
        assert_eq!(afterwards, 0);
    }

    #[test]
    fn no_count_means_no_limit() {
        assert!(Failures::new(0, Duration::from_secs(60), 42).is_none());
    }
}
