//! Time, read in one place.
//!
//! Everything else takes a [`Now`] as a parameter, so that rules can be tested, and the whole gateway
//! simulated, with a time of the test's own.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds of the monotonic clock; comparable between threads of one machine, never steps.
    pub mono_ns: u64,
    /// Milliseconds since the Unix epoch; may step. Only for what people and tokens see.
    pub wall_ms: u64,
}

impl Now {
    /// Reads the clocks.
    pub fn read() -> Self {
        Self { mono_ns: mono_ns(), wall_ms: nanoseconds(ClockId::Realtime) / 1_000_000 }
    }

    /// Milliseconds of the monotonic clock.
    pub fn mono_ms(self) -> u64 {
        self.mono_ns / 1_000_000
    }

    /// What the monotonic clock showed at a time of the past that another machine wrote down, as far as wall clocks agree; the
    /// present where that lies ahead. Before this machine started the clock runs below 0, and wraps: see [`Now::since_ns`].
    pub fn mono_ns_at(self, wall_ms: u64) -> u64 {
        let age_ns = self.wall_ms.saturating_sub(wall_ms).saturating_mul(1_000_000);
        self.mono_ns.wrapping_sub(age_ns)
    }

    /// Nanoseconds since a reading of the monotonic clock; 0 where that is later.
    pub fn since_ns(self, mono_ns: u64) -> u64 {
        self.mono_ns.wrapping_sub(mono_ns).cast_signed().max(0).cast_unsigned()
    }

    /// Both clocks moved forward together, as a simulation does.
    pub fn after(self, step: Duration) -> Self {
        Self {
            mono_ns: self.mono_ns + step.as_nanos() as u64,
            wall_ms: self.wall_ms + step.as_millis() as u64,
        }
    }
}

/// Reads the monotonic clock alone, nanoseconds: half the price, where only a span of time is wanted.
pub fn mono_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
