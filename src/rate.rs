//! How often something may happen.

use std::time::Duration;

/// A rate: a bucket of so many, refilled over a window.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    window_ns: u64,
    interval_ns: u64,
}

impl Rate {
    /// `None` where `count` is 0: no limit.
    pub fn new(count: u32, window: Duration) -> Option<Self> {
        // A quarter, so that sums with the clock do not overflow.
        let window_ns = window.as_nanos().min(u128::from(u64::MAX / 4)) as u64;
        let interval_ns = window_ns.checked_div(u64::from(count))?;
        Some(Self { window_ns, interval_ns })
    }
}

/// A token bucket in eight bytes: the time at which it would be full again (the generic cell rate algorithm).
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    full_at_ns: u64,
}

impl Bucket {
    /// Takes one out, or says in how many nanoseconds there will be one.
    pub fn take(&mut self, rate: Rate, mono_ns: u64) -> Result<(), u64> {
        self.look(rate, mono_ns)?;
        self.full_at_ns = self.full_at_ns.max(mono_ns) + rate.interval_ns;
        Ok(())
    }

    /// Whether [`Bucket::take`] would take one out.
    pub fn look(&self, rate: Rate, mono_ns: u64) -> Result<(), u64> {
        let full_at_ns = self.full_at_ns.max(mono_ns) + rate.interval_ns;
        let over_ns = full_at_ns.saturating_sub(mono_ns + rate.window_ns);
        if over_ns > 0 { Err(over_ns) } else { Ok(()) }
    }

    /// When it is full again, monotonic nanoseconds; the later, the more was taken out.
    pub fn full_at_ns(&self) -> u64 {
        self.full_at_ns
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
    fn looking_takes_nothing_out() {
        let rate = Rate::new(1, Duration::from_secs(60)).unwrap();
        let mut bucket = Bucket::default();
        assert!((0..10).all(|_| bucket.look(rate, SECOND).is_ok()) && bucket.take(rate, SECOND).is_ok());
        assert_eq!(bucket.look(rate, SECOND), bucket.take(rate, SECOND));
        assert_eq!(bucket.look(rate, 2 * SECOND), Err(59 * SECOND));
    }

    #[test]
    fn a_count_of_0_means_no_limit() {
        assert!(Rate::new(0, Duration::from_secs(60)).is_none());
    }
}
