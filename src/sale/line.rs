//! A line as those see it who compute positions: shards, and instances that come later.
//!
//! Owns the difference between two moments of a line, and a replica that differences keep up to date. Never holds who
//! stands in it. A replica asks for the line since what it has, and since 0 for all of it; to apply a difference twice,
//! or one that begins earlier, does no harm.

use std::sync::Arc;

use crate::sale::{pace::Pace, standing::Standing};

/// What changed since a mark, and how the line is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Of the queue.
    pub event_id: Arc<str>,
    /// Departures that whoever applies this must know already; `0`: it needs to know nothing.
    pub since: u32,
    /// Departures that it knows then; `since <= until`. What to ask for next time.
    pub until: u32,
    /// Places behind `serving` that departed or were left in between: they count for nobody any more.
    pub departed: Places,
    /// The highest number that was served; may be higher than `total`.
    pub serving: u32,
    /// Numbers given; `0` before the opening.
    pub total: u32,
    /// Who stands in the line, or in the pre-queue.
    pub waiting: u32,
    /// When `serving` rose for the last time, wall ms; `0`: never.
    pub moved_at_ms: u64,
    /// `None`: not known, or it does not move.
    pub pace: Option<Pace>,
    /// What the line does.
    pub state: LineState,
}

/// What a line does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineState {
    /// It has no order yet.
    Before {
        /// Wall ms.
        opens_at_ms: u64,
    },
    /// It moves.
    Open,
    /// Nobody is let in by itself.
    Paused {
        /// For people.
        reason: Arc<str>,
    },
    /// There is nothing left to wait for.
    SoldOut,
    /// The sale is over.
    Closed,
}

/// A set of place numbers, as runs or as bits, whichever is shorter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Places {
    /// First and last of each run, ascending.
    Runs(Box<[(u32, u32)]>),
    /// Bit `n % 64` of word `n / 64` is the number `first + n`.
    Bits {
        /// The number of the first bit.
        first: u32,
        /// The bits.
        words: Box<[u64]>,
    },
}

impl Places {
    /// The set of these numbers, each once, in any order.
    pub fn new(mut numbers: Vec<u32>) -> Self {
        numbers.sort_unstable();
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for number in &numbers {
            match runs.last_mut() {
                Some(run) if run.1 + 1 == *number => run.1 = *number,
                _ => runs.push((*number, *number)),
            }
        }
        let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else {
            return Self::Runs([].into());
        };
        let word_count = ((last - first) / u64::BITS) as usize + 1;
        if runs.len() <= word_count {
            return Self::Runs(runs.into());
        }
        let mut words = vec![0; word_count];
        for number in &numbers {
            let bit = number - first;
            words[(bit / u64::BITS) as usize] |= 1 << (bit % u64::BITS);
        }
        Self::Bits { first: *first, words: words.into() }
    }

    /// Each number, ascending.
    pub fn for_each(&self, mut visit: impl FnMut(u32)) {
        match self {
            Self::Runs(runs) => runs.iter().for_each(|(first, last)| (*first..=*last).for_each(&mut visit)),
            Self::Bits { first, words } => {
                for (index, word) in words.iter().enumerate() {
                    let mut left = *word;
                    while left != 0 {
                        visit(first + index as u32 * u64::BITS + left.trailing_zeros());
                        left &= left - 1;
                    }
                }
            }
        }
    }

    /// Bytes that it takes beside itself.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Runs(runs) => size_of_val(&**runs),
            Self::Bits { words, .. } => size_of_val(&**words),
        }
    }
}

/// A line elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replica {
    standing: Standing,
    serving: u32,
    known: u32,
}

/// A difference does not join what the replica knows: ask for the line since [`Replica::known`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the difference begins after what is known")]
pub struct Gap;

impl Replica {
    /// Takes in a difference. Late ones change nothing; after a gap nothing is changed.
    pub fn apply(&mut self, line: &Line) -> Result<(), Gap> {
        if line.since > self.known {
            return Err(Gap);
        }
        while self.standing.total() < line.total {
            self.standing.push(true);
        }
        line.departed.for_each(|number| {
            self.standing.clear(number);
        });
        self.known = self.known.max(line.until);
        self.serving = self.serving.max(line.serving);
        while let Some(number) = self.standing.first().filter(|number| *number <= self.serving) {
            self.standing.clear(number);
        }
        Ok(())
    }

    /// How many stand before a place. One that came after the last difference stands behind all between.
    pub fn ahead(&self, number: u32) -> u32 {
        let last = self.standing.total().max(self.serving);
        self.standing.before(number) + number.saturating_sub(last.saturating_add(1))
    }

    /// The highest number that was served.
    pub fn serving(&self) -> u32 {
        self.serving
    }

    /// Departures that it knows: what to ask for the line since.
    pub fn known(&self) -> u32 {
        self.known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(places: &Places) -> Vec<u32> {
        let mut listed = Vec::new();
        places.for_each(|number| listed.push(number));
        listed
    }

    #[test]
    fn a_set_takes_the_shorter_form() {
        assert_eq!(Places::new(vec![3, 1, 2, 900]), Places::Runs([(1, 3), (900, 900)].into()));
        assert_eq!(Places::new(Vec::new()).heap_bytes(), 0);
        let every_third: Vec<u32> = (5..100_000).step_by(3).collect();
        let places = Places::new(every_third.clone());
        assert!(places.heap_bytes() <= 100_000 / 8 + 8, "{} B", places.heap_bytes());
        assert_eq!(listed(&places), every_third);
        assert_eq!(listed(&Places::new(vec![7, 8, 1_000])), [7, 8, 1_000]);
    }

    fn line(since: u32, until: u32, departed: &[u32]) -> Line {
        Line {
            event_id: "e".into(),
            since,
            until,
            departed: Places::new(departed.to_vec()),
            serving: 2,
            total: 10,
            waiting: 8,
            moved_at_ms: 0,
            pace: None,
            state: LineState::Open,
        }
    }

    #[test]
    fn a_replica_refuses_what_begins_after_what_it_knows_and_takes_the_rest_in_any_order() {
        let mut replica = Replica::default();
        assert_eq!(replica.apply(&line(1, 2, &[5])), Err(Gap));
        assert_eq!((replica.ahead(4), replica.known()), (3, 0));
        replica.apply(&line(0, 2, &[4, 5])).unwrap();
        assert_eq!((replica.ahead(4), replica.ahead(10), replica.known(), replica.serving()), (1, 5, 2, 2));
        replica.apply(&Line { serving: 1, total: 3, ..line(0, 1, &[4]) }).unwrap();
        assert_eq!((replica.ahead(10), replica.known(), replica.serving()), (5, 2, 2), "an older one");
        assert_eq!(replica.ahead(13), 6 + 2, "two came after it");
    }
}
