//! Chance that can be had again: a seed gives the same choices every time.

/// A source of choices (`SplitMix64`, Steele et al. 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Returns the source of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Returns a number from 0 up to `bound`, without it; 0 where the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias is below 2^-50 for the small bounds of tests.
        self.bits().checked_rem(bound).unwrap_or(0)
    }

    /// Returns whether an event of this chance, in percent, happens.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// Returns the items in a random order.
    pub fn shuffled<T: Copy>(&mut self, items: &[T]) -> Vec<T> {
        let mut left = items.to_vec();
        let mut order = Vec::new();
        while !left.is_empty() {
            let index = self.below(left.len() as u64);
            order.push(left.swap_remove(usize::try_from(index).unwrap_or_default()));
        }
        order
    }
}
