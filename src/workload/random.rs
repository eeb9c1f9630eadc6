//! Seeded random numbers, stable across versions.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// One stream of random numbers of a seed.
///
/// Numbers are reduced to ranges here rather than by the `rand` crate, whose algorithms may change
/// between versions.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    /// Creates stream `stream` of a seed.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream(stream);
        Self(generator)
    }

    /// A uniform random number.
    pub(super) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A uniform number below `bound`; 0 if `bound` is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A number below `bound`, skewed to small ones.
    pub(super) fn skewed(&mut self, bound: u64) -> u64 {
        let bound = self.below(bound) + 1;
        self.below(bound)
    }

    /// Returns true with a probability of `chance` / 1000.
    pub(super) fn per_mille(&mut self, chance: u64) -> bool {
        self.below(1000) < chance
    }

    /// A uniformly drawn entry of a table.
    pub(super) fn pick<T: Copy>(&mut self, table: &[T]) -> T {
        table[self.below(table.len() as u64) as usize]
    }

    /// An entry of a table, drawn by weight.
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
