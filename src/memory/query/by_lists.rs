//! Pages ordered by queue, job set or state, by the rows of each value.

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;

use super::budget::consume_budget;
use super::search::Search;
use super::text_index::text_order;
use crate::memory::cost::{GATHER_MAX_CANDIDATES, LIST_PROBES};
use crate::memory::storage::{Dictionary, JobChunk, PostingList, by_window, locate};
use crate::query::Direction;

/// The number of rows of a list that are read in one call.
const ROWS_PER_READ: usize = 128;
/// The number of rows that are read in one call if a residual predicate is evaluated on them.
const RESIDUAL_ROWS_PER_READ: usize = 1024;

impl Search<'_> {
    pub(super) async fn by_text(
        &self,
        direction: Direction,
        dictionary: &Dictionary,
        codes: impl Fn(&JobChunk) -> &[u32] + Send,
    ) -> Vec<u32> {
        let candidates = self.selected.upper_bound(self.tables);
        if candidates <= GATHER_MAX_CANDIDATES {
            // For few rows, sorting their values is cheaper than sorting the dictionary.
            return self.gathered_by(direction, codes, |code| dictionary.text(code)).await;
        }
        let order = text_order(self.tables, dictionary).await;
        if self.gathers(candidates, self.page.end()) {
            let mut ranks = vec![0_u32; order.len()];
            (0..).zip(order.iter()).for_each(|(rank, &code)| ranks[code as usize] = rank);
            return self.gathered_by(direction, codes, |code| ranks[code as usize]).await;
        }
        let lists = |&code: &u32| dictionary.rows(code);
        match direction {
            Direction::Ascending => self.through_lists(order.iter().map(lists)).await,
            Direction::Descending => self.through_lists(order.iter().rev().map(lists)).await,
        }
    }

    pub(super) async fn by_state(&self, direction: Direction) -> Vec<u32> {
        if self.selected.upper_bound(self.tables) <= GATHER_MAX_CANDIDATES {
            return self.gathered_by(direction, |chunk| &chunk.cells.state, |ordinal| ordinal).await;
        }
        let states = &self.tables.indexes.states;
        let rows = |ordinal: u32| Some(PostingList::Many(Arc::new(states.rows(ordinal)?.clone())));
        match direction {
            Direction::Ascending => self.through_lists((0..states.codes()).filter_map(rows)).await,
            Direction::Descending => self.through_lists((0..states.codes()).rev().filter_map(rows)).await,
        }
    }

    async fn gathered_by<V: Copy + Send, K: Copy + Ord + Send>(
        &self,
        direction: Direction,
        column: impl Fn(&JobChunk) -> &[V] + Send,
        key: impl Fn(V) -> K + Send,
    ) -> Vec<u32> {
        let (all, end) = (self.all(), self.page.end());
        self.page.of(match direction {
            Direction::Ascending => self.gathered(&all, column, key, end).await,
            Direction::Descending => self.gathered(&all, column, move |value| Reverse(key(value)), end).await,
        })
    }

    /// Reads the selected rows of the lists, one list after another, until the limit is reached.
    async fn through_lists(&self, lists: impl Iterator<Item = PostingList> + Send) -> Vec<u32> {
        let (end, known) = (self.page.end(), self.tables.jobs.len() as u32);
        let mut found = Vec::with_capacity(end.min(LIST_PROBES));
        let rows_per_read = if self.selected.has_residual() { RESIDUAL_ROWS_PER_READ } else { ROWS_PER_READ };
        let mut buffer = vec![0; rows_per_read];
        let mut since_yield = 0;
        for list in lists {
            let (mut next, mut examined) = (0, 0);
            while found.len() < end {
                if examined >= LIST_PROBES {
                    self.intersected(&list, next..known, &mut found).await;
                    break;
                }
                let rows = list.read(next, &mut buffer);
                let rows = &rows[..rows.partition_point(|&row| row < known)];
                let Some(&last) = rows.last() else { break };
                let is_end = rows.len() < rows_per_read;
                (next, examined, since_yield) = (last + 1, examined + rows.len(), since_yield + rows.len());
                if since_yield >= LIST_PROBES {
                    consume_budget().await;
                    since_yield = 0;
                }
                let admitted = rows.iter().copied().filter(|&row| self.selected.contains_row(self.tables, row));
                self.take_passing(admitted, &mut found).await;
                if is_end {
                    break;
                }
            }
            if found.len() >= end {
                break;
            }
        }
        self.page.of(found)
    }

    /// Reads the selected rows of a range of a list by the intersection of bitmaps, until the limit is reached.
    async fn intersected(&self, list: &PostingList, rows: Range<u32>, found: &mut Vec<u32>) {
        for part in by_window(rows) {
            if found.len() >= self.page.end() {
                break;
            }
            consume_budget().await;
            let mut rows = self.selected.indexed_in(self.tables, part);
            list.restrict(&mut rows);
            self.take_passing(rows.iter(), found).await;
        }
    }

    /// Adds the rows that pass the residual predicate, chunk by chunk, until the limit is reached.
    async fn take_passing(&self, rows: impl Iterator<Item = u32> + Send, found: &mut Vec<u32>) {
        if !self.selected.has_residual() {
            found.extend(rows.take(self.page.end() - found.len()));
            return;
        }
        let rows: Vec<u32> = rows.collect();
        for of_chunk in rows.chunk_by(|&a, &b| locate(a).0 == locate(b).0) {
            if found.len() >= self.page.end() {
                break;
            }
            consume_budget().await;
            found.extend(self.selected.passing(self.tables, of_chunk.to_vec()));
        }
    }
}
