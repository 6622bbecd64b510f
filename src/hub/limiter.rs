//! How often a connection may do what it should not.

use super::deadlines::{Span, Tick};

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
    /// Whether there never was a violation.
    pub(super) fn is_unused(&self) -> bool {
        self.at.iter().all(|at| *at == Tick(0))
    }

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

    #[test]
    fn the_tenth_strike_within_the_window_is_out() {
        let mut strikes = Strikes::<9>::default();
        let window = Span(100);
        assert!((0..9).all(|n| !strikes.strike(Tick(1_000 + n), window)));
        assert!(strikes.strike(Tick(1_099), window));
        assert!(!strikes.strike(Tick(1_101), window), "the first two are out of the window");
    }
}
