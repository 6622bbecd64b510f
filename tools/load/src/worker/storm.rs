//! Connect-and-vanish storms: who leaves how, and when a round is over.

use std::io;

use super::{Worker, connection::State, pipe::report};
use crate::{
    clock,
    order::{Report, Round},
    socket,
};

/// A round that takes longer is a failure.
const ROUND_NS_MAX: u64 = 60_000_000_000;

/// How one connection leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// With a close frame, and waits for the answer.
    Politely,
    /// Closes the socket without a word (FIN).
    Silently,
    /// Breaks the connection (RST).
    Abruptly,
    /// Closes the socket right behind the request, before any answer.
    Early,
}

impl Leave {
    /// A third of the connections leaves without a close frame, one way or another.
    pub(crate) fn of(index: u32) -> Self {
        match (index % 3, index / 3 % 3) {
            (0, 0) => Self::Silently,
            (0, 1) => Self::Abruptly,
            (0, _) => Self::Early,
            _ => Self::Politely,
        }
    }
}

/// The storms of one worker.
#[derive(Debug)]
pub(crate) struct Storm {
    rounds_max: u32,
    /// The round under way.
    pub(crate) round: Round,
    /// Whether everybody is connected and now leaves.
    pub(crate) leaving: bool,
    started_ns: u64,
}

impl Storm {
    /// The first round of `rounds_max >= 1` begins.
    pub(crate) fn new(rounds_max: u32, now_ns: u64) -> Self {
        Self {
            rounds_max,
            round: Round { number: 1, ..Round::default() },
            leaving: false,
            started_ns: now_ns,
        }
    }

    /// Milliseconds since the round began.
    pub(crate) fn elapsed_ms(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.started_ns) / 1_000_000
    }

    /// Whether the round takes too long.
    pub(crate) fn is_overdue(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.started_ns) > ROUND_NS_MAX
    }

    /// The next round, if there is one more.
    pub(crate) fn next(&self, now_ns: u64) -> Option<Self> {
        (self.round.number < self.rounds_max).then(|| Self {
            rounds_max: self.rounds_max,
            round: Round { number: self.round.number + 1, ..Round::default() },
            leaving: false,
            started_ns: now_ns,
        })
    }
}

impl Worker {
    /// Begins the first of so many rounds.
    pub(super) fn start_storms(&mut self, rounds: u32) {
        self.storm = Some(Storm::new(rounds, clock::mono_ns()));
        self.start_round();
    }

    fn start_round(&mut self) {
        self.next = 0;
        self.ended = 0;
        self.started_ns = clock::mono_ns();
    }

    /// Moves a storm on: everybody is in → everybody leaves → the next round.
    pub(super) fn storm(&mut self) -> io::Result<()> {
        let Some(storm) = &mut self.storm else { return Ok(()) };
        let now_ns = clock::mono_ns();
        let count = self.desk.plan.count;
        if storm.is_overdue(now_ns) {
            return Err(io::Error::other(format!("a storm did not end: {}", self.states())));
        }
        if !storm.leaving && self.next == count && self.handshaking == 0 {
            storm.leaving = true;
            storm.round.connect_ms = storm.elapsed_ms(now_ns);
            self.vanish();
        }
        let Some(storm) = &mut self.storm else { return Ok(()) };
        if storm.leaving && self.ended == count {
            storm.round.total_ms = storm.elapsed_ms(now_ns);
            report(&Report::Round(storm.round))?;
            self.storm = storm.next(now_ns);
            if self.storm.is_some() {
                self.start_round();
            }
        }
        Ok(())
    }

    fn vanish(&mut self) {
        for slot in 0..self.desk.plan.count {
            let connection = &mut self.connections[slot as usize];
            if connection.state != State::Ready {
                continue;
            }
            let leave = Leave::of(slot);
            if leave == Leave::Politely {
                if let Err(end) = connection.say_goodbye() {
                    self.end(slot, State::Ready, end);
                }
                continue;
            }
            if let Some(socket) = connection.socket.as_ref().filter(|_| leave == Leave::Abruptly) {
                // A socket that cannot linger is one that is gone already.
                socket::reset_on_close(socket).ok();
            }
            self.drop_connection(slot, State::Ready);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_leaves_without_a_close() {
        let count = |how| (0..9_000).filter(|index| Leave::of(*index) == how).count();
        assert_eq!(
            [Leave::Politely, Leave::Silently, Leave::Abruptly, Leave::Early].map(count),
            [6_000, 1_000, 1_000, 1_000]
        );
    }

    #[test]
    fn rounds_end_after_the_last() {
        let first = Storm::new(2, 0);
        let second = first.next(5).map(|storm| storm.round.number);
        assert_eq!(second, Some(2));
        assert!(first.next(5).and_then(|storm| storm.next(9)).is_none());
    }
}
