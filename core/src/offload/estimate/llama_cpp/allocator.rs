//! Memory of a batch on one device: blocks that are taken and given back in the order of the operations.
//!
//! Owns the rule by which ggml gives out addresses: the smallest block that is free and large enough, at its beginning; else
//! behind everything that was ever taken. How far that reaches is the size of the compute buffer.

/// What one device gives out.
#[derive(Debug)]
pub(super) struct Allocator {
    alignment: u64,
    /// Free blocks, beginning and bytes, in their order; what is behind the last one is not among them.
    free: Vec<(u64, u64)>,
    /// Where everything behind is free.
    end: u64,
    /// How far it ever reached.
    peak: u64,
}

impl Allocator {
    /// Returns one that has given out nothing. Sizes are rounded up to the alignment.
    pub(super) fn new(alignment: u64) -> Self {
        Self { alignment: alignment.max(1), free: Vec::new(), end: 0, peak: 0 }
    }

    /// Takes a block, and returns where it begins.
    pub(super) fn take(&mut self, bytes: u64) -> u64 {
        let bytes = self.rounded(bytes);
        // Of blocks of the same size the last one is taken.
        let fitting = self.free.iter().enumerate().filter(|(_, block)| block.1 >= bytes);
        let best = fitting
            .min_by_key(|(index, block)| (block.1, usize::MAX.saturating_sub(*index)))
            .map(|(index, _)| index);
        let Some(index) = best else {
            let at = self.end;
            self.end = at.saturating_add(bytes);
            self.peak = self.peak.max(self.end);
            return at;
        };
        let Some(block) = self.free.get_mut(index) else { return self.end };
        let at = block.0;
        block.0 = block.0.saturating_add(bytes);
        block.1 = block.1.saturating_sub(bytes);
        if block.1 == 0 {
            self.free.remove(index);
        }
        at
    }

    /// Gives a block back.
    pub(super) fn give(&mut self, at: u64, bytes: u64) {
        let bytes = self.rounded(bytes);
        if bytes == 0 {
            return;
        }
        let index = self.free.partition_point(|block| block.0 < at);
        self.free.insert(index, (at, bytes));
        self.merge(index.saturating_add(1));
        self.merge(index);
        if let Some(&(begin, length)) = self.free.last()
            && begin.saturating_add(length) == self.end
        {
            self.end = begin;
            self.free.pop();
        }
    }

    /// How far it ever reached, in bytes.
    pub(super) fn peak(&self) -> u64 {
        self.peak
    }

    fn rounded(&self, bytes: u64) -> u64 {
        bytes.checked_next_multiple_of(self.alignment).unwrap_or(u64::MAX)
    }

    /// Makes one of a block and the one before, if they touch.
    fn merge(&mut self, index: usize) {
        let Some(before) = index.checked_sub(1) else { return };
        let (Some(&left), Some(&right)) = (self.free.get(before), self.free.get(index)) else { return };
        if left.0.saturating_add(left.1) != right.0 {
            return;
        }
        if let Some(block) = self.free.get_mut(before) {
            block.1 = block.1.saturating_add(right.1);
        }
        self.free.remove(index);
    }
}

#[cfg(test)]
mod tests {
    use super::Allocator;

    #[test]
    fn the_smallest_block_that_is_large_enough_is_taken_again() {
        let mut memory = Allocator::new(10);
        let (large, _keep, small, _end) = (memory.take(100), memory.take(1), memory.take(35), memory.take(1));
        assert_eq!((large, small), (0, 110));
        memory.give(large, 100);
        memory.give(small, 35);
        assert_eq!(memory.take(40), 110, "40 fit what 35 took, rounded");
        assert_eq!(memory.take(40), 0);
        assert_eq!(memory.take(70), 160, "only 60 are left in front");
        assert_eq!(memory.peak(), 230);
    }

    #[test]
    fn what_is_given_back_at_the_end_is_free_without_bound() {
        let mut memory = Allocator::new(1);
        let first = memory.take(10);
        let second = memory.take(20);
        memory.give(first, 10);
        memory.give(second, 20);
        assert_eq!(memory.take(25), 0);
        assert_eq!(memory.peak(), 30);
    }
}
