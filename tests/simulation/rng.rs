//! Dice that fall the same way for the same seed.

/// xorshift64*
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// `0 <= n < bound`
    pub fn below(&mut self, bound: usize) -> usize {
        ((self.next() >> 33) as usize) % bound.max(1)
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    /// One of the entries, each as likely as its weight says.
    pub fn weighted<T: Copy>(&mut self, table: &[(usize, T)]) -> T {
        let mut left = self.below(table.iter().map(|(weight, _)| weight).sum());
        for (weight, entry) in table {
            match left.checked_sub(*weight) {
                None => return *entry,
                Some(rest) => left = rest,
            }
        }
        unreachable!("a number below the sum falls into an entry")
    }
}
