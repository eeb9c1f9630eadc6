//! The selected rows of a chunk, as bits.

use datafusion::arrow::array::{BooleanBufferBuilder, UInt32Array};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::error::Result as EngineResult;

use super::budget::consume_budget;
use super::residual::Residual;
use super::select::{RowSelection, ZoneMatch};
use crate::memory::cost::RESIDUAL_GATHER_ROWS;
use crate::memory::storage::{JobChunk, Node, Tables, locate};

impl RowSelection {
    /// The selected rows of a chunk: a bit per row.
    pub(in crate::memory) fn chunk(&self, tables: &Tables, chunk: usize) -> EngineResult<BooleanBuffer> {
        let (node, len) = (Node::chunk(chunk), tables.jobs.chunks()[chunk].len());
        let rows = if self.zone_match(tables, node) == ZoneMatch::None {
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
            None => Ok(rows),
        }
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
            count += self.chunk(tables, chunk)?.count_set_bits();
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

/// The rows of a chunk that pass.
fn passing(residual: &Residual, chunk: &JobChunk, rows: BooleanBuffer) -> EngineResult<BooleanBuffer> {
    let count = rows.count_set_bits();
    if count == 0 {
        return Ok(rows);
    }
    if count == rows.len() || count >= RESIDUAL_GATHER_ROWS {
        return Ok(&rows & residual.whole(chunk)?.values());
    }
    let places = UInt32Array::from_iter_values(rows.set_indices().map(|at| at as u32));
    let mut passing = unset(rows.len());
    for (&at, _) in
        places.values().iter().zip(&residual.gather(chunk, &places)?).filter(|(_, passes)| *passes == Some(true))
    {
        passing.set_bit(at as usize, true);
    }
    Ok(passing.finish())
}

fn unset(len: usize) -> BooleanBufferBuilder {
    let mut bits = BooleanBufferBuilder::new(len);
    bits.append_n(len, false);
    bits
}
