//! Clocks: the monotonic one is comparable between the processes of one machine.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the monotonic clock.
pub(crate) fn mono_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Milliseconds since the Unix epoch, for tokens.
pub(crate) fn wall_seconds() -> u64 {
    clock_gettime(ClockId::Realtime).tv_sec as u64
}

/// CPU time of this thread so far, nanoseconds.
pub(crate) fn thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
