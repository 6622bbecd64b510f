//! Who stands in the line: one bit per place, and sums over them.
//!
//! Owns bits and sums. A bit is set when its place comes and cleared for ever when the place no longer counts, so what
//! stands before a place never grows. The sums are a Fenwick tree over words of 64 places (P. Fenwick, "A new data
//! structure for cumulative frequency tables", 1994): 1.5 bits a place, everything in O(log places).

const WORD: u32 = u64::BITS;

/// The places of a line by number, from 1 without a gap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Bit `(number - 1) % 64` of word `(number - 1) / 64`.
    words: Vec<u64>,
    /// Entry `i - 1` is the sum of the words `i - lowbit(i) .. i`.
    sums: Vec<u32>,
    total: u32,
    count: u32,
}

impl Standing {
    /// Numbers given so far.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// How many of them stand.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Gives the next number.
    pub fn push(&mut self, stands: bool) {
        let bit = self.total % WORD;
        if bit == 0 {
            let index = self.words.len() + 1;
            self.sums.push(self.sum(index - 1) - self.sum(index - low_bit(index)));
            self.words.push(0);
        }
        self.total += 1;
        if stands {
            let word = self.words.len() - 1;
            self.words[word] |= 1 << bit;
            self.count += 1;
            self.add(word, 1);
        }
    }

    /// Whether the place stands. A number that was not given does not.
    pub fn stands(&self, number: u32) -> bool {
        self.locate(number).is_some_and(|(word, bit)| self.words[word] & bit != 0)
    }

    /// The place stands no more. Says whether it did.
    pub fn clear(&mut self, number: u32) -> bool {
        let Some((word, bit)) = self.locate(number).filter(|(word, bit)| self.words[*word] & bit != 0) else {
            return false;
        };
        self.words[word] &= !bit;
        self.count -= 1;
        self.add(word, u32::MAX);
        true
    }

    /// How many stand before a number, which may be one that was not given yet.
    pub fn before(&self, number: u32) -> u32 {
        let Some((word, bit)) = self.locate(number) else { return if number == 0 { 0 } else { self.count } };
        self.sum(word) + (self.words[word] & (bit - 1)).count_ones()
    }

    /// The lowest number that stands.
    pub fn first(&self) -> Option<u32> {
        if self.count == 0 {
            return None;
        }
        // The longest run of words from the left that sums to nothing.
        let mut word = 0;
        let mut step = self.sums.len().next_power_of_two();
        while step > 0 {
            if self.sums.get(word + step - 1) == Some(&0) {
                word += step;
            }
            step /= 2;
        }
        let bits = self.words.get(word)?;
        Some(word as u32 * WORD + bits.trailing_zeros() + 1)
    }

    fn locate(&self, number: u32) -> Option<(usize, u64)> {
        let index = number.checked_sub(1).filter(|index| *index < self.total)?;
        Some(((index / WORD) as usize, 1 << (index % WORD)))
    }

    /// Of the first so many words.
    fn sum(&self, mut index: usize) -> u32 {
        let mut sum = 0;
        while index > 0 {
            sum += self.sums[index - 1];
            index -= low_bit(index);
        }
        sum
    }

    /// Adds to a word, modulo 2^32.
    fn add(&mut self, word: usize, change: u32) {
        let mut index = word + 1;
        while let Some(sum) = self.sums.get_mut(index - 1) {
            *sum = sum.wrapping_add(change);
            index += low_bit(index);
        }
    }
}

fn low_bit(index: usize) -> usize {
    index & index.wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_the_first_are_those_of_a_plain_list() {
        for count in [1_u32, 63, 64, 65, 127, 128, 129, 300] {
            let mut standing = Standing::default();
            let mut plain = Vec::new();
            let mut dice = u64::from(count);
            for _ in 0..count {
                standing.push(dice % 5 != 0);
                plain.push(dice % 5 != 0);
                dice =
                    dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) >> 1;
            }
            for round in 0..=count {
                for number in 0..count + 2 {
                    let before =
                        plain.iter().take((number as usize).saturating_sub(1)).filter(|stands| **stands);
                    assert_eq!(standing.before(number), before.count() as u32, "before {number} of {count}");
                }
                let first = plain.iter().position(|stands| *stands).map(|index| index as u32 + 1);
                assert_eq!(standing.first(), first);
                let cleared = if round % 2 == 0 { first.unwrap_or(1) } else { (round * 7) % count + 1 };
                assert_eq!(standing.clear(cleared), plain[cleared as usize - 1]);
                plain[cleared as usize - 1] = false;
                assert!(!standing.stands(cleared) && !standing.clear(cleared));
            }
        }
    }

    #[test]
    fn a_number_that_was_not_given_stands_nowhere() {
        let mut standing = Standing::default();
        assert_eq!((standing.first(), standing.before(0), standing.before(9)), (None, 0, 0));
        standing.push(true);
        assert_eq!(
            (standing.stands(0), standing.stands(2), standing.clear(0), standing.clear(2)),
            Default::default()
        );
        assert_eq!((standing.before(1), standing.before(2), standing.before(u32::MAX)), (0, 1, 1));
    }
}
