//! How many clients of each shard are to be sent away by now. Pure.

use std::time::Duration;

use crate::{
    clock::Now,
    limits::{DRAIN_RATE_MIN, DRAIN_RETURN_TIME},
};

/// A drain under way: each shard sends its clients away evenly over the same time, so that all of them together keep
/// the rate, and the last of each shard leave together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct Pace {
    begun_ns: u64,
    /// From the first client to the last, nanoseconds.
    span_ns: u64,
    /// By shard.
    shares: Vec<Share>,
    /// Nobody waits for its turn any more.
    hurried: bool,
}

/// One shard's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    /// Connections when the drain began.
    connections: u32,
    /// Those sent away so far; `0 <= sent <= connections`.
    sent: u32,
    /// Everybody was told to go, and whoever comes later.
    over: bool,
}

/// Some clients of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) struct Due {
    /// `None`: everybody, and whoever comes later.
    pub(in crate::control) count: Option<u32>,
    /// Each is told to return within so many milliseconds.
    pub(in crate::control) return_ms: u32,
}

impl Pace {
    /// Sends so many connections of each shard away, `rate` a second in all, and within the time in any case; 0: as few
    /// a second as the time allows.
    pub(super) fn new(now: Now, rate: u32, time: Duration, connections: &[u32]) -> Self {
        let total: u64 = connections.iter().map(|count| u64::from(*count)).sum();
        let rate = if rate == 0 { DRAIN_RATE_MIN } else { rate };
        let asked = Duration::from_nanos(total.saturating_mul(1_000_000_000) / u64::from(rate));
        let share = |count: &u32| Share { connections: *count, sent: 0, over: false };
        Self {
            begun_ns: now.mono_ns,
            span_ns: asked.min(time).as_nanos() as u64,
            shares: connections.iter().map(share).collect(),
            hurried: false,
        }
    }

    /// From the first client to the last.
    pub(in crate::control) fn span(&self) -> Duration {
        Duration::from_nanos(self.span_ns)
    }

    /// From now on everybody is due at once. They return when they would have been sent away, so that whoever takes them
    /// in is met at the same rate.
    pub(super) fn hurry(&mut self) {
        self.hurried = true;
    }

    /// Whether nobody waits for its turn.
    pub(super) fn is_hurried(&self) -> bool {
        self.hurried
    }

    /// What is due of a shard since it was asked last.
    pub(super) fn take_due(&mut self, now: Now, shard: usize) -> Option<Due> {
        let share = self.shares.get_mut(shard).filter(|share| !share.over)?;
        let elapsed_ns = now.mono_ns.saturating_sub(self.begun_ns);
        let left = Duration::from_nanos(self.span_ns.saturating_sub(elapsed_ns));
        if self.hurried || left.is_zero() {
            share.over = true;
            let within = (left + DRAIN_RETURN_TIME).as_millis();
            return Some(Due { count: None, return_ms: u32::try_from(within).unwrap_or(u32::MAX) });
        }
        let turns = u128::from(share.connections) * u128::from(elapsed_ns) / u128::from(self.span_ns);
        // The first one's turn is at once.
        let due = (turns as u32 + 1).min(share.connections);
        let count = due - share.sent;
        share.sent = due;
        (count > 0).then_some(Due { count: Some(count), return_ms: DRAIN_RETURN_TIME.as_millis() as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Now = Now { mono_ns: 1_000, wall_ms: 0 };

    fn at_ms(ms: u64) -> Now {
        START.after(Duration::from_millis(ms))
    }

    fn pace(rate: u32, seconds: u64, connections: &[u32]) -> Pace {
        Pace::new(START, rate, Duration::from_secs(seconds), connections)
    }

    fn sent(pace: &mut Pace, ms: u64, shard: usize) -> u32 {
        pace.take_due(at_ms(ms), shard).map_or(0, |due| due.count.expect("not everybody yet"))
    }

    #[test]
    fn shards_keep_the_rate_together_whatever_each_holds() {
        let mut pace = pace(100, 60, &[900, 90, 10, 0]);
        let mut in_all = 0;
        for ms in (0..10_000).step_by(10) {
            in_all += (0..4).map(|shard| sent(&mut pace, ms, shard)).sum::<u32>();
            let fair = ms / 10;
            assert!(
                (fair..=fair + 4).contains(&u64::from(in_all)),
                "{in_all} after {ms} ms, {fair} is the rate"
            );
        }
        assert_eq!(in_all, 1_000, "all of them, the last before the time is over");
        for shard in 0..4 {
            let rest = Due { count: None, return_ms: 1_000 };
            assert_eq!(pace.take_due(at_ms(10_000), shard), Some(rest), "whoever came since");
            assert_eq!(pace.take_due(at_ms(11_000), shard), None, "once");
        }
    }

    #[test]
    fn looks_that_come_late_make_up_for_it() {
        let mut pace = pace(100, 60, &[1_000]);
        assert_eq!([0, 5_000, 5_000, 5_009, 5_010].map(|ms| sent(&mut pace, ms, 0)), [1, 500, 0, 0, 1]);
    }

    #[test]
    fn the_time_is_kept_and_used_where_there_are_many() {
        let table = [
            // rate, connections, seconds that it takes of 25
            (0, 100, 1),
            (0, 1_000, 10),
            (0, 1_000_000, 25),
            (10, 100, 10),
            (10, 100_000, 25),
            (1_000, 20_000, 20),
            (5, 0, 0),
        ];
        for (rate, connections, seconds) in table {
            let pace = pace(rate, 25, &[connections]);
            assert_eq!(pace.span(), Duration::from_secs(seconds), "{connections} at {rate}");
        }
    }

    #[test]
    fn the_hurried_return_when_their_turn_would_have_been() {
        let mut pace = pace(10, 60, &[400, 0]);
        assert_eq!(sent(&mut pace, 10_000, 0), 101);
        pace.hurry();
        assert_eq!(pace.take_due(at_ms(10_000), 0), Some(Due { count: None, return_ms: 31_000 }));
        assert_eq!(pace.take_due(at_ms(10_000), 0), None);
    }

    #[test]
    fn without_time_or_clients_everybody_goes_at_once() {
        for mut pace in [pace(0, 0, &[5]), pace(0, 25, &[0])] {
            assert_eq!(pace.take_due(START, 0), Some(Due { count: None, return_ms: 1_000 }));
        }
    }
}
