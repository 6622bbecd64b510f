//! The graceful stop, step by step. Pure.

mod pace;

use std::time::Duration;

use self::pace::{Due, Pace};
use crate::{clock::Now, config::settings::Shutdown, limits::CLOSE_TIME_MAX};

/// Where the gateway is between its start and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody asked to stop.
    Serving,
    /// Not ready any more; everything is served until load balancers had time to notice.
    Leaving {
        /// When clients begin to be sent away, monotonic nanoseconds.
        drain_at_ns: u64,
        /// When it ends whatever happens, monotonic nanoseconds.
        end_at_ns: u64,
        /// Asked twice: everybody goes at once.
        hurried: bool,
    },
    /// Nobody is let in any more; clients are sent away.
    Draining {
        /// Whose turn it is.
        pace: Pace,
        /// When the loop ends whatever happens, monotonic nanoseconds.
        over_at_ns: u64,
        /// When everything must have ended, monotonic nanoseconds.
        end_at_ns: u64,
    },
    /// The loop may end.
    Over {
        /// When everything must have ended, monotonic nanoseconds.
        end_at_ns: u64,
    },
}

/// Something that shards are to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// To all of them: nobody new, and whoever is left then is cut off.
    Drain { within: Duration },
    /// To one.
    SendAway { shard: usize, due: Due },
}

/// What the phases need to know of a shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShardState {
    /// Open.
    pub(super) connections: u32,
    /// It said that nobody is left.
    pub(super) drained: bool,
}

impl Phase {
    /// Somebody asks to stop: at first in good order, then at once, then without looking back.
    pub(super) fn ask(&mut self, now: Now, settings: &Shutdown, out: &mut Vec<Order>) {
        match self {
            Self::Serving => {
                *self = Self::Leaving {
                    drain_at_ns: now.after(settings.drain_delay.min(settings.timeout)).mono_ns,
                    end_at_ns: now.after(settings.timeout).mono_ns,
                    hurried: false,
                };
            }
            Self::Leaving { drain_at_ns, hurried, .. } => {
                (*drain_at_ns, *hurried) = (now.mono_ns, true);
            }
            Self::Draining { pace, .. } if !pace.is_hurried() => pace.hurry(),
            Self::Draining { over_at_ns, end_at_ns, .. } => {
                out.push(Order::Drain { within: Duration::ZERO });
                *over_at_ns = now.after(Times::of(*end_at_ns, now).last).mono_ns;
            }
            Self::Over { .. } => {}
        }
    }

    /// Another process serves in this one's place: there is nothing to wait for.
    pub(super) fn taken_over(&mut self, now: Now, settings: &Shutdown) {
        if *self == Self::Serving {
            self.ask(now, settings, &mut Vec::new());
        }
        if let Self::Leaving { drain_at_ns, .. } = self {
            *drain_at_ns = now.mono_ns;
        }
    }

    /// Whether clients are sent away by now.
    pub(super) fn drains(&self) -> bool {
        matches!(self, Self::Draining { .. } | Self::Over { .. })
    }

    /// Time passed, or a shard said something.
    pub(super) fn step(
        &mut self,
        now: Now,
        settings: &Shutdown,
        shards: &[ShardState],
        out: &mut Vec<Order>,
    ) {
        if let Self::Leaving { drain_at_ns, end_at_ns, hurried } = *self
            && now.mono_ns >= drain_at_ns
        {
            let times = Times::of(end_at_ns, now);
            let connections: Vec<u32> = shards.iter().map(|shard| shard.connections).collect();
            let mut pace = Pace::new(now, settings.rate, times.pace, &connections);
            if hurried {
                pace.hurry();
            }
            out.push(Order::Drain { within: times.cut });
            let over_at_ns = now.after(times.cut + times.last).mono_ns;
            *self = Self::Draining { pace, over_at_ns, end_at_ns };
        }
        if let Self::Draining { pace, over_at_ns, end_at_ns } = self {
            out.extend(
                (0..shards.len())
                    .filter_map(|shard| pace.take_due(now, shard).map(|due| Order::SendAway { shard, due })),
            );
            if shards.iter().all(|shard| shard.drained) || now.mono_ns >= *over_at_ns {
                *self = Self::Over { end_at_ns: *end_at_ns };
            }
        }
    }
}

/// How the time that is left is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    /// First client → last client sent away.
    pace: Duration,
    /// Until whoever did not answer its close is cut off.
    cut: Duration,
    /// From there until the control loop ends, at the latest; as long again is left to end callers' calls.
    last: Duration,
}

impl Times {
    fn of(end_at_ns: u64, now: Now) -> Self {
        let left = Duration::from_nanos(end_at_ns.saturating_sub(now.mono_ns));
        let closing = CLOSE_TIME_MAX.min(left / 4);
        let last = closing / 5;
        Self { pace: left - closing, cut: left - 2 * last, last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Now = Now { mono_ns: 1_000, wall_ms: 0 };
    const SETTINGS: Shutdown = Shutdown {
        timeout: Duration::from_secs(30),
        drain_delay: Duration::from_secs(3),
        rate: 10,
        take_over: false,
    };
    const BUSY: ShardState = ShardState { connections: 100, drained: false };
    const EMPTY: ShardState = ShardState { connections: 0, drained: true };

    fn seconds(n: u64) -> Now {
        START.after(Duration::from_secs(n))
    }

    fn step(phase: &mut Phase, second: u64, shards: &[ShardState]) -> Vec<Order> {
        let mut orders = Vec::new();
        phase.step(seconds(second), &SETTINGS, shards, &mut orders);
        orders
    }

    fn ask(phase: &mut Phase, second: u64) -> Vec<Order> {
        let mut orders = Vec::new();
        phase.ask(seconds(second), &SETTINGS, &mut orders);
        orders
    }

    fn away(shard: usize, count: Option<u32>, return_ms: u32) -> Order {
        Order::SendAway { shard, due: Due { count, return_ms } }
    }

    fn draining() -> Phase {
        let mut phase = Phase::Serving;
        ask(&mut phase, 0);
        assert_eq!(step(&mut phase, 3, &[BUSY]).len(), 2);
        phase
    }

    #[test]
    fn after_the_delay_listeners_close_and_clients_follow_at_the_pace() {
        let mut phase = Phase::Serving;
        assert_eq!(step(&mut phase, 0, &[BUSY, BUSY]), []);
        assert_eq!(ask(&mut phase, 0), []);
        assert_eq!(step(&mut phase, 2, &[BUSY, BUSY]), []);
        // 27 s are left: 25 to the cut, 22 of them for the pace, which needs 20.
        let begin = Order::Drain { within: Duration::from_secs(25) };
        assert_eq!(
            step(&mut phase, 3, &[BUSY, BUSY]),
            [begin, away(0, Some(1), 1_000), away(1, Some(1), 1_000)]
        );
        assert_eq!(step(&mut phase, 8, &[BUSY, BUSY]), [away(0, Some(25), 1_000), away(1, Some(25), 1_000)]);
        assert_eq!(step(&mut phase, 8, &[BUSY, BUSY]), []);
        assert_eq!(step(&mut phase, 23, &[BUSY, BUSY]), [away(0, None, 1_000), away(1, None, 1_000)]);
        assert_eq!(step(&mut phase, 24, &[BUSY, BUSY]), []);
    }

    #[test]
    fn it_ends_when_all_are_gone_or_the_time_is_over() {
        for (second, shards, over) in [
            (4, [EMPTY, EMPTY], true),
            (4, [EMPTY, BUSY], false),
            (28, [BUSY, BUSY], false),
            (29, [BUSY, BUSY], true),
        ] {
            let mut phase = draining();
            step(&mut phase, second, &shards);
            assert_eq!(matches!(phase, Phase::Over { .. }), over, "after {second} s");
        }
    }

    #[test]
    fn who_asks_twice_hurries_everybody_and_who_asks_again_cuts_them_off() {
        let mut phase = draining();
        assert_eq!(ask(&mut phase, 4), []);
        assert_eq!(step(&mut phase, 4, &[BUSY]), [away(0, None, 10_000)], "9 s of the pace were left");
        assert_eq!(ask(&mut phase, 5), [Order::Drain { within: Duration::ZERO }]);
        assert_eq!(step(&mut phase, 6, &[BUSY]), []);
        assert!(matches!(phase, Phase::Over { .. }), "a second later, whatever shards say");
    }

    #[test]
    fn who_asks_twice_in_the_delay_does_not_wait_for_it() {
        let mut phase = Phase::Serving;
        ask(&mut phase, 0);
        ask(&mut phase, 1);
        assert_eq!(step(&mut phase, 1, &[BUSY])[1..], [away(0, None, 11_000)]);
    }

    #[test]
    fn who_is_taken_over_waits_for_nobody_and_keeps_the_pace() {
        for asked in [false, true] {
            let mut phase = Phase::Serving;
            if asked {
                ask(&mut phase, 0);
            }
            phase.taken_over(seconds(0), &SETTINGS);
            assert_eq!(step(&mut phase, 0, &[BUSY])[1..], [away(0, Some(1), 1_000)]);
        }
    }

    #[test]
    fn a_delay_as_long_as_the_time_out_still_lets_clients_go() {
        let mut phase = Phase::Serving;
        phase.ask(START, &Shutdown { drain_delay: Duration::from_secs(99), ..SETTINGS }, &mut Vec::new());
        let orders = [Order::Drain { within: Duration::ZERO }, away(0, None, 1_000)];
        assert_eq!(step(&mut phase, 30, &[BUSY]), orders);
        assert!(matches!(phase, Phase::Over { .. }));
    }
}
