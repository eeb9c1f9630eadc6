//! The selected rows of a chunk, as bits.

use datafusion::arrow::array::BooleanBufferBuilder;
use datafusion::arrow::buffer::BooleanBuffer;

use super::budget::consume_budget;
use super::residual::Residual;
use super::select::{RowSelection, ZoneMatch};
use crate::memory::cost::RESIDUAL_GATHER_ROWS;
use crate::memory::storage::{JobChunk, Node, Tables, locate};

impl RowSelection {
    /// The selected rows of a chunk: a bit per row.
    pub(in crate::memory) fn chunk(&self, tables: &Tables, chunk: usize) -> BooleanBuffer {
        let (node, len) = (Node::chunk(chunk), tables.jobs.chunks()[chunk].len());
        let rows = if self.zone_match(tables, node) == ZoneMatch::Nothing {
            BooleanBuffer::new_unset(len)
        } else if self.is_narrowed() {
            let mut rows = unset(len);
            self.visit(tables, node.rows(), |row| rows.set_bit(locate(row).1, true));
            rows.finish()
        } else {
            BooleanBuffer::new_set(len)
        };
        match self.residual(tables, node) {
            Some(residual) => passing(residual, &tables.jobs.chunks()[chunk], rows),
            None => rows,
        }
    }

    /// The number of selected rows of a node.
    pub(super) async fn count(&self, tables: &Tables, node: Node) -> usize {
        let range = node.rows();
        let range = range.start..range.end.min(tables.jobs.len() as u32);
        if !self.has_residual() {
            return self.count_range(tables, range).await;
        }
        let mut count = 0;
        for chunk in self.chunks_of(tables, node) {
            consume_budget().await;
            count += self.chunk(tables, chunk).count_set_bits();
        }
        count
    }

    /// The chunks of a node that can contain a selected row.
    pub(super) fn chunks_of(&self, tables: &Tables, node: Node) -> impl Iterator<Item = usize> {
        let range = node.rows();
        let end = range.end.min(tables.jobs.len() as u32);
        let chunks = locate(range.start).0..locate(end.saturating_sub(1)).0 + 1;
        chunks.filter(|&chunk| self.may_contain(tables, Node::chunk(chunk)))
    }

    /// The rows of an ascending list that pass the residual predicate.
    pub(in crate::memory) fn passing(&self, tables: &Tables, rows: Vec<u32>) -> Vec<u32> {
        if !self.has_residual() {
            return rows;
        }
        let mut passing = Vec::with_capacity(rows.len());
        for part in rows.chunk_by(|&a, &b| locate(a).0 == locate(b).0) {
            let Some(residual) = self.residual(tables, Node::chunk(locate(part[0]).0)) else {
                passing.extend(part);
                continue;
            };
            let blocks = part.chunk_by(|&a, &b| Node::block_of(a) == Node::block_of(b));
            let blocks: Vec<_> = blocks.map(|rows| (rows, self.block_match(tables, Node::block_of(rows[0])))).collect();
            let undecided = blocks.iter().filter(|(_, matched)| *matched == ZoneMatch::Partial);
            let indices: Vec<u32> =
                undecided.flat_map(|(rows, _)| rows.iter()).map(|&row| locate(row).1 as u32).collect();
            let passes = residual.gather(&tables.jobs.chunks()[locate(part[0]).0], &indices);
            let mut passes = passes.iter();
            for (rows, matched) in blocks {
                match matched {
                    ZoneMatch::Nothing => {}
                    ZoneMatch::Full => passing.extend(rows),
                    ZoneMatch::Partial => passing.extend(rows.iter().filter(|_| passes.next() == Some(true))),
                }
            }
        }
        passing
    }
}

/// The rows of a chunk that pass.
fn passing(residual: &Residual, chunk: &JobChunk, rows: BooleanBuffer) -> BooleanBuffer {
    let count = rows.count_set_bits();
    if count == 0 {
        return rows;
    }
    if count == rows.len() || count >= RESIDUAL_GATHER_ROWS {
        return &rows & &residual.whole(chunk);
    }
    let indices: Vec<u32> = rows.set_indices().map(|at| at as u32).collect();
    let passes = residual.gather(chunk, &indices);
    bits(rows.len(), passes.set_indices().map(|at| indices[at] as usize))
}

/// `len` bits, of which those at some indices are set.
pub(super) fn bits(len: usize, set: impl Iterator<Item = usize>) -> BooleanBuffer {
    let mut bits = unset(len);
    set.for_each(|at| bits.set_bit(at, true));
    bits.finish()
}

fn unset(len: usize) -> BooleanBufferBuilder {
    let mut bits = BooleanBufferBuilder::new(len);
    bits.append_n(len, false);
    bits
}
