//! The selected rows of a chunk, as a bitmap.

use datafusion::arrow::array::UInt32Array;
use datafusion::arrow::buffer::{BooleanBuffer, Buffer};
use datafusion::error::Result as EngineResult;

use super::budget::consume_budget;
use super::residual::Residual;
use super::select::{RowSelection, ZoneMatch};
use crate::memory::cost::RESIDUAL_GATHER_ROWS;
use crate::memory::storage::{BLOCK_ROWS, CHUNK_ROWS, JobChunk, Node, Tables, locate};

const WORDS: usize = CHUNK_ROWS / 64;
const BLOCK_WORDS: usize = BLOCK_ROWS / 64;

/// The selected rows of a chunk.
#[derive(Debug, Clone)]
pub(in crate::memory) enum ChunkRows {
    /// All rows, with their number.
    All(usize),
    /// The rows whose bit is set.
    Some(Box<[u64; WORDS]>),
}

impl ChunkRows {
    /// The number of rows.
    pub(in crate::memory) fn count(&self) -> usize {
        match self {
            Self::All(len) => *len,
            Self::Some(words) => words.iter().map(|word| word.count_ones() as usize).sum(),
        }
    }

    /// A bit for each of `rows` rows.
    pub(in crate::memory) fn to_buffer(&self, rows: usize) -> BooleanBuffer {
        match self {
            Self::All(_) => BooleanBuffer::new_set(rows),
            Self::Some(words) => BooleanBuffer::new(Buffer::from_slice_ref(words.as_slice()), 0, rows),
        }
    }

    /// The row indices, ascending.
    pub(in crate::memory) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words(0, WORDS)
    }

    /// The row indices of a block, ascending.
    pub(in crate::memory) fn block(&self, block: usize) -> impl Iterator<Item = usize> + '_ {
        self.words(block * BLOCK_WORDS, (block + 1) * BLOCK_WORDS)
    }

    fn words(&self, from: usize, to: usize) -> impl Iterator<Item = usize> + '_ {
        let (range, words) = match self {
            Self::All(len) => (from * 64..(to * 64).min(*len), [].as_slice()),
            Self::Some(words) => (0..0, &words[from..to]),
        };
        range.chain(words.iter().zip(from..).flat_map(|(&word, at)| Bits(word).map(move |bit| at * 64 + bit)))
    }

    /// The row indices as a vector.
    pub(super) fn places(&self) -> Vec<u16> {
        self.iter().map(|at| at as u16).collect()
    }
}

/// The set bits of a word.
struct Bits(u64);

impl Iterator for Bits {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(bit)
    }
}

impl RowSelection {
    /// The selected rows of a chunk.
    pub(in crate::memory) fn chunk(&self, tables: &Tables, chunk: usize) -> EngineResult<ChunkRows> {
        let node = Node::chunk(chunk);
        let mut rows = if self.zone_match(tables, node) == ZoneMatch::None {
            ChunkRows::Some(Box::new([0; WORDS]))
        } else if self.is_narrowed() {
            let mut words = Box::new([0; WORDS]);
            self.visit(tables, node.rows(), |row| {
                let (_, at) = locate(row);
                words[at / 64] |= 1 << (at % 64);
            });
            ChunkRows::Some(words)
        } else {
            ChunkRows::All(tables.jobs.chunks()[chunk].len())
        };
        if let Some(residual) = self.residual(tables, node) {
            apply(residual, &tables.jobs.chunks()[chunk], &mut rows)?;
        }
        Ok(rows)
    }

    /// The number of selected rows of a node.
    pub(super) async fn count(&self, tables: &Tables, node: Node) -> EngineResult<usize> {
        let range = node.rows();
        let range = range.start..range.end.min(tables.jobs.len() as u32);
        if !self.has_residual() {
            return Ok(self.count_range(tables, range).await);
        }
        let mut count = 0;
        for chunk in self.chunks_of(tables, node) {
            consume_budget().await;
            count += self.chunk(tables, chunk)?.count();
        }
        Ok(count)
    }

    /// The chunks of a node that can contain a selected row.
    pub(super) fn chunks_of(&self, tables: &Tables, node: Node) -> impl Iterator<Item = usize> {
        let range = node.rows();
        let end = range.end.min(tables.jobs.len() as u32);
        let chunks = locate(range.start).0..locate(end.saturating_sub(1)).0 + 1;
        chunks.filter(|&chunk| self.may_contain(tables, Node::chunk(chunk)))
    }

    /// The rows of an ascending list that pass the residual predicate.
    pub(in crate::memory) fn passing(&self, tables: &Tables, rows: Vec<u32>) -> EngineResult<Vec<u32>> {
        if !self.has_residual() {
            return Ok(rows);
        }
        let mut passing = Vec::with_capacity(rows.len());
        for part in rows.chunk_by(|&a, &b| locate(a).0 == locate(b).0) {
            let Some(residual) = self.residual(tables, Node::chunk(locate(part[0]).0)) else {
                passing.extend(part);
                continue;
            };
            let blocks = part.chunk_by(|&a, &b| Node::block_of(a) == Node::block_of(b));
            let blocks: Vec<_> = blocks.map(|rows| (rows, self.block_match(tables, Node::block_of(rows[0])))).collect();
            let undecided = blocks.iter().filter(|(_, matched)| *matched == ZoneMatch::Some);
            let places = undecided.flat_map(|(rows, _)| rows.iter()).map(|&row| locate(row).1 as u32);
            let places = UInt32Array::from_iter_values(places);
            let mut passes = Vec::new();
            if !places.values().is_empty() {
                let chunk = &tables.jobs.chunks()[locate(part[0]).0];
                passes.extend(residual.gather(chunk, &places)?.iter().map(|passes| passes == Some(true)));
            }
            let mut passes = passes.into_iter();
            for (rows, matched) in blocks {
                match matched {
                    ZoneMatch::None => {}
                    ZoneMatch::All => passing.extend(rows),
                    ZoneMatch::Some => passing.extend(rows.iter().filter(|_| passes.next() == Some(true))),
                }
            }
        }
        Ok(passing)
    }
}

/// Clears the rows of a chunk that do not pass.
fn apply(residual: &Residual, chunk: &JobChunk, rows: &mut ChunkRows) -> EngineResult<()> {
    let mut words = Box::new([0u64; WORDS]);
    match rows {
        ChunkRows::Some(_) if rows.count() == 0 => return Ok(()),
        ChunkRows::Some(_) if rows.count() < RESIDUAL_GATHER_ROWS => {
            let places = rows.places();
            let passes = residual.gather(chunk, &places.iter().map(|&place| Some(u32::from(place))).collect())?;
            for (place, _) in places.iter().zip(passes.iter()).filter(|(_, passes)| *passes == Some(true)) {
                words[usize::from(*place) / 64] |= 1 << (place % 64);
            }
        }
        _ => {
            for at in residual.whole(chunk)?.values().set_indices() {
                words[at / 64] |= 1 << (at % 64);
            }
            if let ChunkRows::Some(selected) = rows {
                words.iter_mut().zip(selected.iter()).for_each(|(word, &selected)| *word &= selected);
            }
        }
    }
    *rows = ChunkRows::Some(words);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_and_ranges_have_the_same_indices() {
        let mut words = Box::new([0; WORDS]);
        for at in 0..700usize {
            words[at / 64] |= 1 << (at % 64);
        }
        let (all, some) = (ChunkRows::All(700), ChunkRows::Some(words));
        assert!(all.iter().eq(some.iter()));
        let last = 700 / BLOCK_ROWS;
        assert!(all.block(last).eq(some.block(last)));
        assert_eq!(all.block(last).collect::<Vec<_>>(), (last * BLOCK_ROWS..700).collect::<Vec<_>>());
        assert_eq!((all.count(), some.count()), (700, 700));
    }
}
