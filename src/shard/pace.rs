//! How long the turns of a shard take: what becomes ready while one runs waits for its end.
//!
//! Owns the two newest windows of the longest turn. Never reads a clock. Invariant: a long turn shows in
//! `loop_lag_us` for one window at least and two at most, so that a scrape each second misses none.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::Now,
    metrics::{Histogram, ShardCells},
};

const WINDOW: Duration = Duration::from_secs(1);

/// Which of the shard's two tasks had the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// The driver.
    Deliveries,
    Handshakes,
}

/// The longest turns lately.
#[derive(Debug)]
pub(super) struct Pace {
    cells: Arc<ShardCells>,
    /// Monotonic nanoseconds; 0 before the first turn.
    window_end: u64,
    /// Microseconds, of both tasks.
    longest_now: u64,
    longest_before: u64,
}

impl Pace {
    pub(super) const fn new(cells: Arc<ShardCells>) -> Self {
        Self { cells, window_end: 0, longest_now: 0, longest_before: 0 }
    }

    /// Notes a turn that is over: it began at `began`, and it is `end_ns` by the monotonic clock.
    pub(super) fn turn_ended(&mut self, task: Task, began: Now, end_ns: u64) {
        let us = end_ns.saturating_sub(began.mono_ns) / 1_000;
        self.turns(task).record(us, 1);
        if end_ns >= self.window_end {
            // After a window without any turn nothing of before counts.
            let is_next = end_ns < self.window_end.saturating_add(WINDOW.as_nanos() as u64);
            self.longest_before = if is_next { self.longest_now } else { 0 };
            self.longest_now = 0;
            self.window_end = end_ns.saturating_add(WINDOW.as_nanos() as u64);
        }
        self.longest_now = self.longest_now.max(us);
        self.cells.loop_lag_us.set(self.longest_now.max(self.longest_before));
    }

    fn turns(&self, task: Task) -> &Histogram {
        match task {
            Task::Deliveries => &self.cells.delivery_turns,
            Task::Handshakes => &self.cells.handshake_turns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at_ms(ms: u64) -> Now {
        Now { mono_ns: ms * MS, wall_ms: 0 }
    }

    #[test]
    fn the_longest_turn_of_either_task_shows_until_its_window_and_the_next_are_over() {
        let cells = Arc::new(ShardCells::default());
        let mut pace = Pace::new(cells.clone());
        let mut lag_after = |task, began_ms, took_ms| {
            pace.turn_ended(task, at_ms(began_ms), (began_ms + took_ms) * MS);
            cells.loop_lag_us.get()
        };
        assert_eq!(lag_after(Task::Deliveries, 5_000, 3), 3_000);
        assert_eq!(lag_after(Task::Handshakes, 5_003, 40), 40_000);
        assert_eq!(lag_after(Task::Deliveries, 5_990, 1), 40_000);
        assert_eq!(lag_after(Task::Deliveries, 6_010, 2), 40_000);
        assert_eq!(lag_after(Task::Deliveries, 7_020, 1), 2_000);
        assert_eq!(lag_after(Task::Deliveries, 7_030, 0), 2_000);
        assert_eq!(lag_after(Task::Deliveries, 60_000, 1), 1_000);
    }

    #[test]
    fn each_task_has_a_histogram_of_its_own() {
        let cells = Arc::new(ShardCells::default());
        let mut pace = Pace::new(cells.clone());
        pace.turn_ended(Task::Deliveries, at_ms(1), 2 * MS);
        pace.turn_ended(Task::Deliveries, at_ms(2), 3 * MS);
        pace.turn_ended(Task::Handshakes, at_ms(3), 7 * MS);
        let sums = [&cells.delivery_turns, &cells.handshake_turns].map(|turns| turns.sum_us.get());
        assert_eq!(sums, [2_000, 4_000]);
    }
}
