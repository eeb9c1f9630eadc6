//! Pages ordered by queue, job set or state, by their posting lists.

use std::cmp::Reverse;
use std::iter::Peekable;
use std::sync::Arc;

use datafusion::error::Result as EngineResult;

use super::budget::consume_budget;
use super::search::Search;
use super::text_index::text_order;
use crate::memory::cost::{GATHER_MAX_CANDIDATES, LIST_PROBES};
use crate::memory::storage::{Dictionary, JobChunk, PostingList, locate};
use crate::model::JobState;
use crate::query::Direction;

impl Search<'_> {
    pub(super) async fn by_text(
        &self,
        direction: Direction,
        dictionary: &Dictionary,
        code: impl Fn(&JobChunk, usize) -> u32 + Send + Sync,
    ) -> EngineResult<Vec<u32>> {
        let candidates = self.selected.upper_bound(self.tables);
        if candidates <= GATHER_MAX_CANDIDATES {
            // For few rows, sorting their values is cheaper than sorting the dictionary.
            return self.gathered_by(direction, |chunk, at| dictionary.text(code(chunk, at))).await;
        }
        let order = text_order(dictionary).await;
        if self.gathers(candidates, self.page.end()) {
            let ranks = order.ranks();
            return self.gathered_by(direction, |chunk, at| ranks[code(chunk, at) as usize]).await;
        }
        let lists = |&code: &u32| dictionary.rows(code);
        match direction {
            Direction::Ascending => self.through_lists(order.codes.iter().map(lists)).await,
            Direction::Descending => self.through_lists(order.codes.iter().rev().map(lists)).await,
        }
    }

    pub(super) async fn by_state(&self, direction: Direction) -> EngineResult<Vec<u32>> {
        let mut states = JobState::ALL;
        states.sort_unstable_by_key(|state| state.ordinal());
        if direction == Direction::Descending {
            states.reverse();
        }
        self.through_lists(
            states.into_iter().map(|state| PostingList::Many(Arc::clone(self.tables.indexes.states.rows(state)))),
        )
        .await
    }

    async fn gathered_by<K: Copy + Ord + Send>(
        &self,
        direction: Direction,
        key: impl Fn(&JobChunk, usize) -> K + Send + Sync,
    ) -> EngineResult<Vec<u32>> {
        let (all, end) = (self.all(), self.page.end());
        Ok(self.page.of(match direction {
            Direction::Ascending => self.gathered(&all, key, end).await?,
            Direction::Descending => self.gathered(&all, |chunk, at| Reverse(key(chunk, at)), end).await?,
        }))
    }

    /// Reads the selected rows of the lists, one list after another, until the limit is reached.
    async fn through_lists(&self, lists: impl Iterator<Item = PostingList> + Send) -> EngineResult<Vec<u32>> {
        let end = self.page.end();
        let known = self.tables.jobs.len() as u32;
        // With sufficient capacity, `extend` does not compute the length of a bitmap, which is not stored.
        let mut found = Vec::with_capacity(end.min(LIST_PROBES));
        for list in lists {
            if found.len() >= end {
                break;
            }
            let (mut examined, mut last) = (0, 0);
            let rows = list.iter().take_while(|&row| row < known).take(LIST_PROBES).inspect(|&row| {
                examined += 1;
                last = row;
            });
            let admitted = rows.filter(|&row| self.selected.contains_row(self.tables, row));
            self.take_passing(&mut admitted.peekable(), end, &mut found).await?;
            if examined < LIST_PROBES || found.len() >= end {
                continue;
            }
            // The first rows of the list did not reach the limit, so the remaining rows are intersected.
            let mut rest = match self.selected.intersect(self.tables).await {
                Some(selected) => list.to_bitmap() & selected.as_ref(),
                None => list.to_bitmap(),
            };
            rest.remove_range(..=last);
            rest.remove_range(known..);
            self.take_passing(&mut rest.into_iter().peekable(), end, &mut found).await?;
        }
        Ok(self.page.of(found))
    }

    /// Reads rows that pass the residual predicate, chunk by chunk, until `found` has `end` of them.
    async fn take_passing(
        &self,
        rows: &mut Peekable<impl Iterator<Item = u32> + Send>,
        end: usize,
        found: &mut Vec<u32>,
    ) -> EngineResult<()> {
        if !self.selected.has_residual() {
            found.extend(rows.take(end - found.len()));
            return Ok(());
        }
        while let Some(&first) = rows.peek()
            && found.len() < end
        {
            consume_budget().await;
            let chunk = locate(first).0;
            let of_chunk = std::iter::from_fn(|| rows.next_if(|&row| locate(row).0 == chunk)).collect();
            found.extend(self.selected.passing(self.tables, of_chunk)?);
        }
        Ok(())
    }
}
