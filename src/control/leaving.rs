//! The graceful stop, step by step. Pure.

use std::time::Duration;

use crate::{clock::Now, config::settings::Shutdown, limits::CLOSE_TIME_MAX};

/// Where the gateway is between its start and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody asked to stop.
    Serving,
    /// Not ready any more; clients stay until load balancers had time to notice.
    Leaving {
        /// When clients are sent away, monotonic nanoseconds.
        drain_at_ns: u64,
        /// When it ends whatever happens, monotonic nanoseconds.
        end_at_ns: u64,
    },
    /// Shards send their clients away.
    Draining {
        /// When it ends whatever happens, monotonic nanoseconds.
        end_at_ns: u64,
    },
    /// The loop may end.
    Over,
}

impl Phase {
    /// Somebody asks to stop; whoever asks again does not want to wait.
    pub(super) fn ask(&mut self, now: Now, settings: &Shutdown) {
        *self = match self {
            Self::Serving => Self::Leaving {
                drain_at_ns: now.after(settings.drain_delay.min(settings.timeout)).mono_ns,
                end_at_ns: now.after(settings.timeout).mono_ns,
            },
            Self::Leaving { .. } | Self::Draining { .. } | Self::Over => Self::Over,
        };
    }

    /// Time passed. Returns how long shards may take, once, when they are to send their clients away; the time for
    /// the last close handshakes is taken off.
    pub(super) fn step(&mut self, now: Now, all_drained: bool) -> Option<Duration> {
        match *self {
            Self::Leaving { drain_at_ns, end_at_ns } if now.mono_ns >= drain_at_ns => {
                *self = Self::Draining { end_at_ns };
                let left = Duration::from_nanos(end_at_ns.saturating_sub(now.mono_ns));
                Some(left - CLOSE_TIME_MAX.min(left / 4))
            }
            Self::Draining { end_at_ns } if all_drained || now.mono_ns >= end_at_ns => {
                *self = Self::Over;
                None
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Now = Now { mono_ns: 1_000, wall_ms: 0 };
    const SETTINGS: Shutdown =
        Shutdown { timeout: Duration::from_secs(30), drain_delay: Duration::from_secs(3) };

    fn seconds(n: u64) -> Now {
        START.after(Duration::from_secs(n))
    }

    #[test]
    fn clients_are_sent_away_once_after_the_delay() {
        let mut phase = Phase::Serving;
        assert_eq!(phase.step(START, false), None);
        phase.ask(START, &SETTINGS);
        assert_eq!(phase.step(seconds(2), false), None);
        assert_eq!(phase.step(seconds(3), false), Some(Duration::from_secs(22)));
        assert_eq!(phase.step(seconds(3), false), None);
    }

    #[test]
    fn it_ends_when_all_are_gone_or_the_time_is_over() {
        for (second, all_drained, over) in [(4, true, true), (29, false, false), (30, false, true)] {
            let mut phase = Phase::Draining { end_at_ns: seconds(30).mono_ns };
            phase.step(seconds(second), all_drained);
            assert_eq!(phase == Phase::Over, over, "after {second} s");
        }
    }

    #[test]
    fn who_asks_twice_does_not_wait() {
        let mut phase = Phase::Serving;
        phase.ask(START, &SETTINGS);
        phase.ask(START, &SETTINGS);
        assert_eq!(phase, Phase::Over);
    }

    #[test]
    fn a_delay_beyond_the_time_out_still_lets_clients_go() {
        let mut phase = Phase::Serving;
        phase.ask(START, &Shutdown { drain_delay: Duration::from_secs(99), ..SETTINGS });
        assert_eq!(phase.step(seconds(30), false), Some(Duration::ZERO));
    }
}
