//! The least and greatest values of blocks of rows, by which an ordered page skips what it
//! need not read.

use std::sync::Arc;

/// Rows in a block: few enough that reading one costs little, enough that all bounds fit in cache.
pub(crate) const BLOCK_ROWS: usize = 256;

/// The least and the greatest value of some rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Zone<K> {
    pub(crate) min: K,
    pub(crate) max: K,
}

impl<K: Copy + Ord> Zone<K> {
    fn of(value: K) -> Self {
        Self { min: value, max: value }
    }

    fn over(zones: impl Iterator<Item = Self>) -> Option<Self> {
        zones.reduce(|a, b| Self { min: a.min.min(b.min), max: a.max.max(b.max) })
    }
}

/// The zones of a chunk's blocks, exact at all times.
#[derive(Debug, Clone)]
pub(crate) struct Zones<K> {
    blocks: Arc<Vec<Zone<K>>>,
    whole: Option<Zone<K>>,
}

impl<K> Default for Zones<K> {
    fn default() -> Self {
        Self { blocks: Arc::default(), whole: None }
    }
}

impl<K: Copy + Ord> Zones<K> {
    /// The zone of all rows; none without rows.
    pub(crate) fn whole(&self) -> Option<Zone<K>> {
        self.whole
    }

    pub(crate) fn blocks(&self) -> &[Zone<K>] {
        &self.blocks
    }

    /// Takes in that the rows of the chunk from `first` on are new.
    pub(crate) fn append(&mut self, values: &[K], first: usize) {
        let blocks = Arc::make_mut(&mut self.blocks);
        for block in first / BLOCK_ROWS..values.len().div_ceil(BLOCK_ROWS) {
            let rows = block * BLOCK_ROWS..values.len().min((block + 1) * BLOCK_ROWS);
            if let Some(zone) = Zone::over(values[rows].iter().map(|&value| Zone::of(value))) {
                if block < blocks.len() { blocks[block] = zone } else { blocks.push(zone) }
            }
        }
        self.whole = Zone::over(blocks.iter().copied());
    }

    /// Takes in that the value at `at`, which was `old`, has become `values[at]`.
    pub(crate) fn update(&mut self, values: &[K], at: usize, old: K) {
        let block = at / BLOCK_ROWS;
        let (before, new) = (self.blocks[block], values[at]);
        let zone = if old == before.min || old == before.max {
            let rows = block * BLOCK_ROWS..values.len().min((block + 1) * BLOCK_ROWS);
            Zone::over(values[rows].iter().map(|&value| Zone::of(value))).unwrap_or(before)
        } else {
            Zone { min: before.min.min(new), max: before.max.max(new) }
        };
        if zone != before {
            let blocks = Arc::make_mut(&mut self.blocks);
            blocks[block] = zone;
            self.whole = Zone::over(blocks.iter().copied());
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<Zone<K>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_stay_exact_under_appends_and_updates() {
        let mut values: Vec<i64> = Vec::new();
        let mut zones = Zones::default();
        for part in 0..7 {
            let first = values.len();
            values.extend((0..150).map(|at| (at * 7919 + part * 31) % 1000));
            zones.append(&values, first);
        }
        for (at, new) in [(0, -5), (300, 2000), (300, 10), (0, 500), (1049, 77)] {
            let old = std::mem::replace(&mut values[at], new);
            zones.update(&values, at, old);
        }
        for (block, rows) in values.chunks(BLOCK_ROWS).enumerate() {
            assert_eq!(zones.blocks()[block].min, *rows.iter().min().unwrap());
            assert_eq!(zones.blocks()[block].max, *rows.iter().max().unwrap());
        }
        assert_eq!(zones.whole().unwrap().max, *values.iter().max().unwrap());
    }
}
