//! Pages ordered by queues, job sets and states, whose rows are listed by an index.

use std::cmp::Reverse;
use std::iter::Peekable;
use std::sync::Arc;

use datafusion::error::Result as EngineResult;

use super::pause::pause;
use super::search::{GATHER_CANDIDATES, Search};
use crate::memory::storage::{Dictionary, JobChunk, PostingList, locate};
use crate::model::JobState;
use crate::query::Direction;

/// So many rows of a list are looked up one by one, before the rest is intersected.
const PROBES: usize = 4096;

impl Search<'_> {
    pub(super) async fn by_text(
        &self,
        direction: Direction,
        dictionary: &Dictionary,
        code: impl Fn(&JobChunk, usize) -> u32 + Send + Sync,
    ) -> EngineResult<Vec<u32>> {
        let candidates = self.selected.at_most(self.tables);
        if candidates <= GATHER_CANDIDATES {
            // The texts of a few rows are sorted sooner than those of a dictionary are ranked.
            return self.gathered_by(direction, |chunk, at| dictionary.text(code(chunk, at))).await;
        }
        let order = dictionary.order();
        if self.gathers(candidates, self.part.end()) {
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
        let (all, end) = (self.all(), self.part.end());
        Ok(self.part.of(match direction {
            Direction::Ascending => self.gathered(&all, key, end).await?,
            Direction::Descending => self.gathered(&all, |chunk, at| Reverse(key(chunk, at)), end).await?,
        }))
    }

    /// Takes the selected rows of lists, one list after another, until the part is full.
    async fn through_lists(&self, lists: impl Iterator<Item = PostingList> + Send) -> EngineResult<Vec<u32>> {
        let end = self.part.end();
        let known = self.tables.jobs.len() as u32;
        // With room for a page it never asks how many rows are still to come, which a bitmap has to count.
        let mut found = Vec::with_capacity(end.min(PROBES));
        for list in lists {
            if found.len() >= end {
                break;
            }
            let (mut looked_at, mut last) = (0, 0);
            let rows = list.iter().take_while(|&row| row < known).take(PROBES).inspect(|&row| {
                looked_at += 1;
                last = row;
            });
            let admitted = rows.filter(|&row| self.selected.admits(self.tables, row));
            self.take_passing(&mut admitted.peekable(), end, &mut found).await?;
            if looked_at < PROBES || found.len() >= end {
                continue;
            }
            // The list is long and its start was not enough: from here on all at once.
            let mut rest = match self.selected.rows(self.tables) {
                Some(selected) => list.to_bitmap() & selected.as_ref(),
                None => list.to_bitmap(),
            };
            rest.remove_range(..=last);
            rest.remove_range(known..);
            self.take_passing(&mut rest.into_iter().peekable(), end, &mut found).await?;
        }
        Ok(self.part.of(found))
    }

    /// Takes rows that pass the residual, chunk by chunk, until there are `end` of them.
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
            pause().await;
            let chunk = locate(first).0;
            let of_chunk = std::iter::from_fn(|| rows.next_if(|&row| locate(row).0 == chunk)).collect();
            found.extend(self.selected.passing(self.tables, of_chunk)?);
        }
        Ok(())
    }
}
