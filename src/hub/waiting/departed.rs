//! The places of a queue that do not count any more for those behind.
//!
//! Owns one bit per place and a count in front of each block of bits. Invariant: it only grows, and so does every count
//! it gives.

use crate::{limits::LINE_PLACES_MAX, line::Places};

/// A set of places that only grows. A million places take 125 KB, whoever of them departed.
#[derive(Debug, Default)]
pub(super) struct Departed {
    /// Bit `place % 64` of word `place / 64`.
    words: Vec<u64>,
    /// Places before each block of [`BLOCK_WORDS`], with the end of the last one.
    before: Vec<u32>,
}

const BLOCK_WORDS: usize = 64;
/// So many places further on a count is looked up rather than counted.
const STRIDE_MAX: u32 = 64 * BLOCK_WORDS as u32;

impl Departed {
    /// Adds places; whether any was new. What is no place is ignored.
    pub(super) fn insert(&mut self, places: &Places) -> bool {
        let mut first_word = usize::MAX;
        places.for_each_run(|first, last| {
            let (first, last) = (first.max(1), last.min(LINE_PLACES_MAX));
            if first <= last {
                first_word = first_word.min(self.insert_run(first, last));
            }
        });
        if first_word == usize::MAX {
            return false;
        }
        self.count_from(first_word / BLOCK_WORDS);
        true
    }

    /// How many of the places up to this one are in the set.
    pub(super) fn through(&self, place: u32) -> u32 {
        let block = place as usize / 64 / BLOCK_WORDS;
        match self.before.get(block) {
            Some(before) => before + self.count((block * BLOCK_WORDS * 64) as u32, place),
            None => self.before.last().copied().unwrap_or_default(),
        }
    }

    /// Counts for places that ascend.
    pub(super) fn walk(&self) -> Walk<'_> {
        Walk { departed: self, at: 0, count: 0 }
    }

    /// The first word that changed; `usize::MAX`: none.
    fn insert_run(&mut self, first: u32, last: u32) -> usize {
        let (from, to) = (first as usize / 64, last as usize / 64);
        if self.words.len() <= to {
            self.words.resize(to + 1, 0);
        }
        let mut changed = usize::MAX;
        for (index, word) in self.words.iter_mut().enumerate().take(to + 1).skip(from) {
            let before = *word;
            *word |= mask(index, first, last);
            if *word != before {
                changed = changed.min(index);
            }
        }
        changed
    }

    fn count_from(&mut self, block: usize) {
        if self.before.is_empty() {
            self.before.push(0);
        }
        // A block that was not there yet has nothing in front of it that changed since.
        let block = block.min(self.before.len() - 1);
        self.before.truncate(block + 1);
        let mut count = self.before[block];
        for words in self.words[block * BLOCK_WORDS..].chunks(BLOCK_WORDS) {
            count += words.iter().map(|word| word.count_ones()).sum::<u32>();
            self.before.push(count);
        }
    }

    /// Of the places from `first` to `last`.
    #[inline]
    fn count(&self, first: u32, last: u32) -> u32 {
        let (from, to) = (first as usize / 64, last as usize / 64);
        let words = self.words.get(from..self.words.len().min(to + 1)).unwrap_or_default();
        let masked = words
            .iter()
            .enumerate()
            .map(|(index, word)| (word & mask(from + index, first, last)).count_ones());
        masked.sum()
    }
}

/// The bits of a word that stand for places from `first` to `last`; the word holds one of them.
#[inline]
fn mask(word: usize, first: u32, last: u32) -> u64 {
    let mut mask = u64::MAX;
    if word == first as usize / 64 {
        mask &= u64::MAX << (first % 64);
    }
    if word == last as usize / 64 {
        mask &= u64::MAX >> (63 - last % 64);
    }
    mask
}

/// See [`Departed::walk`].
#[derive(Debug)]
pub(super) struct Walk<'a> {
    departed: &'a Departed,
    at: u32,
    /// Places up to `at`.
    count: u32,
}

impl Walk<'_> {
    /// As [`Departed::through`], for a place that is not before the last one asked for.
    #[inline]
    pub(super) fn through(&mut self, place: u32) -> u32 {
        if place > self.at {
            if place - self.at > STRIDE_MAX {
                self.count = self.departed.through(place);
            } else {
                self.count += self.departed.count(self.at + 1, place);
            }
            self.at = place;
        }
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::tests::Random;

    #[test]
    fn counts_are_those_of_a_plain_set() {
        for seed in 0..40 {
            let mut random = Random(seed);
            let range = [200, 5_000, 60_000][seed as usize % 3];
            let (mut departed, mut model) = (Departed::default(), vec![false; 2 * range as usize]);
            for _ in 0..60 {
                let first = 1 + random.below(range) as u32;
                let length = if random.below(9) == 0 { range } else { 3 };
                let last = first + random.below(length) as u32;
                let run = &mut model[first as usize..=last as usize];
                let is_new = run.contains(&false);
                run.fill(true);
                assert_eq!(departed.insert(&Places::Runs([(first, last)].into())), is_new, "seed {seed}");
                let mut walk = departed.walk();
                let (mut at, mut count) = (0, 0);
                for _ in 0..20 {
                    let before = at;
                    at += random.below(range / 5) as u32;
                    let passed = model.iter().skip(before as usize + 1).take((at - before) as usize);
                    count += passed.filter(|is_in| **is_in).count() as u32;
                    assert_eq!(
                        (departed.through(at), walk.through(at)),
                        (count, count),
                        "seed {seed} at {at}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_no_place_is_not_in_it() {
        let mut departed = Departed::default();
        let none = [(0, 0), (9, 8), (u32::MAX, u32::MAX), (LINE_PLACES_MAX + 1, u32::MAX)];
        assert!(!departed.insert(&Places::Runs(none.into())));
        assert!(departed.words.is_empty());
        assert!(departed.insert(&Places::Runs([(0, 2)].into())));
        assert_eq!((departed.through(0), departed.through(1), departed.through(u32::MAX)), (0, 1, 2));
    }
}
