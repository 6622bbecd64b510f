//! When to send the next `system:ping`.

use std::{io, os::fd::OwnedFd};

use rustix::{
    io::Errno,
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};

use crate::order::Pings;

/// The timer does not fire more often; several pings are sent at a time then.
const INTERVAL_NS_MIN: u64 = 50_000;

/// Paces pings: open loop by a timer, or closed loop by answers.
#[derive(Debug)]
pub(crate) struct Pinger {
    pings: Pings,
    started_ns: u64,
    /// Pings sent so far in this run of pings.
    sent: u64,
    /// Fires when a ping may be due; `None` in a closed loop.
    pub(crate) timer: Option<OwnedFd>,
}

impl Pinger {
    /// Begins now.
    pub(crate) fn start(pings: Pings, now_ns: u64) -> io::Result<Self> {
        let timer = match pings {
            Pings::Rate(per_second) => Some(timer((1e9 / per_second.max(0.001)) as u64)?),
            Pings::Window(_) => None,
        };
        Ok(Self { pings, started_ns: now_ns, sent: 0, timer })
    }

    /// The intended time of the next ping if it is due; `under_way` pings wait for their pong.
    pub(crate) fn due(&mut self, now_ns: u64, under_way: u64) -> Option<u64> {
        let intended_ns = match self.pings {
            Pings::Rate(per_second) => self.started_ns + (self.sent as f64 * 1e9 / per_second) as u64,
            Pings::Window(window) if under_way < u64::from(window) => now_ns,
            Pings::Window(_) => return None,
        };
        (intended_ns <= now_ns).then(|| {
            self.sent += 1;
            intended_ns
        })
    }

    /// Forgets that the timer fired.
    pub(crate) fn fired(&self) {
        if let Some(timer) = &self.timer {
            // How often it fired does not matter: what is due is computed from the clock.
            rustix::io::read(timer, &mut [0u8; 8][..]).ok();
        }
    }
}

fn timer(interval_ns: u64) -> Result<OwnedFd, Errno> {
    let interval_ns = interval_ns.max(INTERVAL_NS_MIN);
    let every = Timespec {
        tv_sec: (interval_ns / 1_000_000_000) as i64,
        tv_nsec: (interval_ns % 1_000_000_000) as i64,
    };
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    let times = Itimerspec { it_interval: every, it_value: every };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
    Ok(timer)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    #[test]
    fn an_open_loop_owes_the_pings_that_it_could_not_send_in_time() {
        let mut pinger = Pinger::start(Pings::Rate(1_000.0), 0).unwrap();
        let due: Vec<u64> = std::iter::from_fn(|| pinger.due(3_500_000, 99)).collect();
        assert_eq!(due, [0, 1_000_000, 2_000_000, 3_000_000]);
    }

    #[test]
    fn a_closed_loop_waits_for_answers() {
        let mut pinger = Pinger::start(Pings::Window(2), 0).unwrap();
        assert_eq!((pinger.due(7, 1), pinger.due(7, 2)), (Some(7), None));
    }
}
