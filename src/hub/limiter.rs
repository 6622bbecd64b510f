//! How often a connection may do something.

use std::time::Duration;

use super::deadlines::{Span, Tick};

/// A rate: a bucket of so many messages, refilled over a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    window_ns: u64,
    interval_ns: u64,
}

impl Rate {
    /// `None` where `messages` is 0: no limit.
    pub(super) fn new(messages: u32, window: Duration) -> Option<Self> {
        // A quarter, so that sums with the clock do not overflow.
        let window_ns = window.as_nanos().min(u128::from(u64::MAX / 4)) as u64;
        let interval_ns = window_ns.checked_div(u64::from(messages))?;
        Some(Self { window_ns, interval_ns })
    }
}

/// A token bucket in eight bytes: the time at which it would be full again (the generic cell rate algorithm).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    full_at_ns: u64,
}

impl Bucket {
    /// Takes one message out, or says in how many nanoseconds there will be one.
    pub(super) fn take(&mut self, rate: Rate, mono_ns: u64) -> Result<(), u64> {
        let full_at_ns = self.full_at_ns.max(mono_ns) + rate.interval_ns;
        let over_ns = full_at_ns.saturating_sub(mono_ns + rate.window_ns);
        if over_ns > 0 {
            return Err(over_ns);
        }
        self.full_at_ns = full_at_ns;
        Ok(())
    }
}

/// Remembers the last violations: whether the present one makes `N + 1` within a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strikes<const N: usize> {
    /// A ring; `Tick(0)`: unused, which is before any window.
    at: [Tick; N],
    next: u8,
}

impl<const N: usize> Default for Strikes<N> {
    fn default() -> Self {
        Self { at: [Tick(0); N], next: 0 }
    }
}

impl<const N: usize> Strikes<N> {
    /// Notes a violation; `true` if `N` others lie within the window before it.
    pub(super) fn strike(&mut self, now: Tick, window: Span) -> bool {
        let oldest = std::mem::replace(&mut self.at[usize::from(self.next)], now);
        self.next = (self.next + 1) % N as u8;
        oldest > Tick(0) && oldest.plus(window) > now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_bucket_gives_its_content_at_once_and_then_the_refill() {
        let rate = Rate::new(100, Duration::from_secs(60)).unwrap();
        let mut bucket = Bucket::default();
        let now = 1_000 * SECOND;
        assert!((0..100).all(|_| bucket.take(rate, now).is_ok()));
        assert_eq!(bucket.take(rate, now), Err(600_000_000));
        assert_eq!(bucket.take(rate, now + 400_000_000), Err(200_000_000), "a refusal costs nothing");
        assert!(bucket.take(rate, now + 600_000_000).is_ok());
        assert!(bucket.take(rate, now + 600_000_001).is_err());
        assert!((0..100).all(|_| bucket.take(rate, now + 61 * SECOND).is_ok()));
    }

    #[test]
    fn no_messages_means_no_limit() {
        assert!(Rate::new(0, Duration::from_secs(60)).is_none());
    }

    #[test]
    fn the_tenth_strike_within_the_window_is_out() {
        let mut strikes = Strikes::<9>::default();
        let window = Span(100);
        assert!((0..9).all(|n| !strikes.strike(Tick(1_000 + n), window)));
        assert!(strikes.strike(Tick(1_099), window));
        assert!(!strikes.strike(Tick(1_101), window), "the first two are out of the window");
    }
}
