//! Random numbers that a seed decides for good.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// One of the many sequences of random numbers that a seed holds.
///
/// Numbers are cut to size here and not by the `rand` crate, whose ways of doing so may change
/// from version to version.
pub(super) struct Random(ChaCha8Rng);

impl Random {
    /// Sequence `stream` of `seed`.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream(stream);
        Self(generator)
    }

    /// Any number.
    pub(super) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`, all alike; 0 if there is none.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A number below `bound`, small ones far more often than great ones.
    pub(super) fn skewed(&mut self, bound: u64) -> u64 {
        let bound = self.below(bound) + 1;
        self.below(bound)
    }

    /// True `chance` times of 1000.
    pub(super) fn per_mille(&mut self, chance: u64) -> bool {
        self.below(1000) < chance
    }

    /// One of a table's entries, all alike.
    pub(super) fn pick<T: Copy>(&mut self, table: &[T]) -> T {
        table[self.below(table.len() as u64) as usize]
    }

    /// One of a table's entries, each as often as its weight says.
    pub(super) fn pick_weighted<T: Copy>(&mut self, table: &[(T, u64)]) -> T {
        let mut point = self.below(table.iter().map(|(_, weight)| weight).sum());
        for &(entry, weight) in table {
            if point < weight {
                return entry;
            }
            point -= weight;
        }
        table[table.len() - 1].0
    }
}
