//! The rows of a page of an order, found without reading more than they need.
//!
//! Three ways, by what the order is by:
//!
//! - ids and times: blocks of rows are taken by their zones, the best bound first, and the
//!   search ends when no bound left can beat the rows that are found;
//! - queues, job sets and states: their rows are listed by an index, so the lists are gone
//!   through in order until there are enough rows;
//! - anything, when few rows are selected or most are wanted: their keys are gathered and sorted.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::iter::Peekable;
use std::ops::Range;
use std::sync::Arc;

use datafusion::error::Result as EngineResult;

use super::rows::ChunkRows;
use super::select::Selected;
use crate::memory::storage::{BLOCK_ROWS, Dictionary, JobChunk, PostingList, Tables, Zone, Zones, first_row, locate};
use crate::model::JobState;
use crate::query::{Direction, JobOrder, JobOrderKey};

/// With at most so many candidates, gathering their keys beats any search.
const GATHER_CANDIDATES: u64 = 512;

/// So many rows of a list are looked up one by one, before the rest is intersected.
const PROBES: usize = 4096;
/// After so many blocks a search has not ended early, and the sets are intersected after all.
const INTERSECT_AFTER: usize = 128;

/// Which rows of an ordered list: from `skip` on, `take` of them (all, without a number).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::memory) struct Part {
    pub(in crate::memory) skip: usize,
    pub(in crate::memory) take: Option<usize>,
}

impl Part {
    /// How many rows from the start of the list hold the part.
    fn end(self) -> usize {
        self.take.map_or(usize::MAX, |take| self.skip.saturating_add(take))
    }

    /// Cuts the part out of a list that holds it.
    fn of(self, mut rows: Vec<u32>) -> Vec<u32> {
        rows.truncate(self.end());
        rows.drain(..self.skip.min(rows.len()));
        rows
    }
}

/// A part of the selected rows in an order.
pub(in crate::memory) fn ordered_rows(
    tables: &Tables,
    selected: &Selected,
    order: Option<JobOrder>,
    part: Part,
) -> EngineResult<Vec<u32>> {
    let Some(JobOrder { key, direction }) = order else { return in_row_order(tables, selected, part) };
    let search = Search { tables, selected, part };
    match key {
        JobOrderKey::JobId => search.by_zones(direction, |chunk| &chunk.id_zones, |chunk, at| chunk.ids.get(at)),
        JobOrderKey::Submitted => {
            search.by_zones(direction, |chunk| &chunk.submitted_zones, |chunk, at| chunk.submitted.get(at))
        }
        JobOrderKey::LastTransitionTime => search.by_zones(
            direction,
            |chunk| &chunk.last_transition_seconds_zones,
            |chunk, at| chunk.last_transition_seconds.get(at),
        ),
        JobOrderKey::State => search.by_state(direction),
        JobOrderKey::Queue => search.by_text(direction, &tables.queues, |chunk, at| chunk.queue.get(at)),
        JobOrderKey::JobSet => search.by_text(direction, &tables.job_sets, |chunk, at| chunk.job_set.get(at)),
    }
}

fn in_row_order(tables: &Tables, selected: &Selected, part: Part) -> EngineResult<Vec<u32>> {
    let mut skip = part.skip;
    let mut rows = Vec::new();
    let wanted = part.take.unwrap_or(usize::MAX);
    for chunk in 0..tables.jobs.chunks().len() {
        if rows.len() >= wanted {
            break;
        }
        if skip > 0 {
            let count = selected.chunk_count(tables, chunk)?;
            if count <= skip {
                skip -= count;
                continue;
            }
        }
        let of_chunk = selected.chunk(tables, chunk)?;
        rows.extend(of_chunk.iter().skip(skip).take(wanted - rows.len()).map(|at| first_row(chunk) + at as u32));
        skip = 0;
    }
    Ok(rows)
}

struct Search<'a> {
    tables: &'a Tables,
    selected: &'a Selected,
    part: Part,
}

impl Search<'_> {
    fn chunks(&self) -> Range<usize> {
        0..self.tables.jobs.chunks().len()
    }

    /// Whether gathering all keys costs less than a search for so many rows.
    fn gathers(&self, candidates: u64, wanted: usize) -> bool {
        candidates <= GATHER_CANDIDATES || wanted as u64 >= candidates / 2
    }

    fn by_zones<K: Copy + Ord>(
        &self,
        direction: Direction,
        zones: impl Fn(&JobChunk) -> &Zones<K>,
        key: impl Fn(&JobChunk, usize) -> K,
    ) -> EngineResult<Vec<u32>> {
        match direction {
            Direction::Ascending => self.by_bounds(zones, |zone| (zone.min, zone.max), key),
            Direction::Descending => self.by_bounds(
                zones,
                |zone| (Reverse(zone.max), Reverse(zone.min)),
                |chunk, at| Reverse(key(chunk, at)),
            ),
        }
    }

    /// By a key whose zones have a least and a greatest bound.
    fn by_bounds<Z: Copy + Ord, K: Copy + Ord>(
        &self,
        zones: impl Fn(&JobChunk) -> &Zones<Z>,
        bounds: impl Fn(Zone<Z>) -> (K, K),
        key: impl Fn(&JobChunk, usize) -> K,
    ) -> EngineResult<Vec<u32>> {
        let candidates = self.selected.at_most(self.tables);
        if candidates <= GATHER_CANDIDATES {
            return Ok(self.part.of(self.gathered(self.chunks(), &key, self.part.end())?));
        }
        let (chunks, part) = self.narrowed(&zones, &bounds)?;
        let left = chunks.iter().map(|&chunk| self.tables.jobs.chunks()[chunk].len() as u64).sum();
        let rows = if self.gathers(candidates.min(left), part.end()) {
            self.gathered(chunks.into_iter(), &key, part.end())?
        } else {
            self.best_first(&chunks, zones, |zone| bounds(zone).0, &key, part.end())?
        };
        Ok(part.of(rows))
    }

    /// The chunks that can hold a row of the part, and the part of their rows that it is.
    ///
    /// Where all keys of some chunks come before all of the others, these rows are the first of
    /// the list, whatever their order; so a deep skip need only count them.
    fn narrowed<Z: Copy + Ord, K: Copy + Ord>(
        &self,
        zones: impl Fn(&JobChunk) -> &Zones<Z>,
        bounds: impl Fn(Zone<Z>) -> (K, K),
    ) -> EngineResult<(Vec<usize>, Part)> {
        let chunks = self.tables.jobs.chunks();
        let bounded = |at: usize| Some((bounds(zones(&chunks[at]).whole()?), at));
        let mut open: Vec<((K, K), usize)> =
            self.chunks().filter(|&at| self.selected.may_hold(&chunks[at])).filter_map(bounded).collect();
        if self.part.skip < chunks.first().map_or(0, |chunk| chunk.len()) {
            return Ok((open.into_iter().map(|(_, at)| at).collect(), self.part));
        }
        open.sort_unstable();
        let (mut counted, mut greatest) = (0, None);
        // The last place before which all keys are less than all after, and the rows before it.
        let mut passed = (0, 0);
        let mut end = open.len();
        for (place, &((least, most), at)) in open.iter().enumerate() {
            if greatest.is_none_or(|greatest| greatest < least) {
                if counted <= self.part.skip {
                    passed = (place, counted);
                }
                if counted >= self.part.end() {
                    end = place;
                    break;
                }
            }
            counted += self.selected.chunk_count(self.tables, at)?;
            greatest = greatest.max(Some(most));
        }
        let part = Part { skip: self.part.skip - passed.1, take: self.part.take };
        Ok((open[passed.0..end].iter().map(|&(_, at)| at).collect(), part))
    }

    /// Takes zones by their bounds, the least first, until none left can hold a better row.
    fn best_first<Z: Copy + Ord, K: Copy + Ord>(
        &self,
        chunks: &[usize],
        zones: impl Fn(&JobChunk) -> &Zones<Z>,
        bound: impl Fn(Zone<Z>) -> K,
        key: impl Fn(&JobChunk, usize) -> K,
        limit: usize,
    ) -> EngineResult<Vec<u32>> {
        let all = self.tables.jobs.chunks();
        let mut open: BinaryHeap<Reverse<(K, usize, Option<usize>)>> =
            chunks.iter().filter_map(|&at| Some(Reverse((bound(zones(&all[at]).whole()?), at, None)))).collect();
        // A residual is tested for all selected rows of a chunk at once; without one, blocks are
        // looked up as they come.
        let mut tested: Vec<Option<ChunkRows>> = vec![None; all.len()];
        let mut best = BinaryHeap::new();
        let mut visited = 0;
        while let Some(Reverse((least, at, block))) = open.pop() {
            if best.len() >= limit && best.peek().is_none_or(|&(worst, _)| least >= worst) {
                break;
            }
            let chunk = &all[at];
            let Some(block) = block else {
                if self.selected.residual.is_some() {
                    tested[at] = Some(self.selected.chunk(self.tables, at)?);
                }
                let blocks = zones(chunk).blocks().iter().enumerate();
                open.extend(blocks.map(|(block, &zone)| Reverse((bound(zone), at, Some(block)))));
                continue;
            };
            visited += 1;
            if visited == INTERSECT_AFTER
                && self.selected.rows(self.tables).is_some_and(|rows| rows.len() <= GATHER_CANDIDATES)
            {
                return self.gathered(chunks.iter().copied(), key, limit);
            }
            let first = block * BLOCK_ROWS;
            let mut offer = |place: usize| offer(&mut best, limit, (key(chunk, place), first_row(at) + place as u32));
            match &tested[at] {
                Some(rows) => rows.block(block).for_each(&mut offer),
                None if self.selected.is_narrowed() => {
                    let first = first_row(at) + first as u32;
                    let rows = self.selected.range(self.tables, first..first + BLOCK_ROWS as u32);
                    rows.for_each(|row| offer(locate(row).1));
                }
                None => (first..chunk.len().min(first + BLOCK_ROWS)).for_each(&mut offer),
            }
        }
        Ok(best.into_sorted_vec().into_iter().map(|(_, row)| row).collect())
    }

    /// Gathers the keys of the selected rows of chunks and sorts the first `limit`.
    fn gathered<K: Copy + Ord>(
        &self,
        chunks: impl Iterator<Item = usize>,
        key: impl Fn(&JobChunk, usize) -> K,
        limit: usize,
    ) -> EngineResult<Vec<u32>> {
        let mut keyed: Vec<(K, u32)> = Vec::new();
        let mut add = |row: u32| {
            let (chunk, at) = self.tables.jobs.locate(row);
            keyed.push((key(chunk, at), row));
        };
        match self.selected.rows(self.tables) {
            Some(rows) if rows.len() <= GATHER_CANDIDATES => {
                self.selected.passing(self.tables, rows.iter().collect())?.into_iter().for_each(&mut add);
            }
            _ => {
                for chunk in chunks {
                    let rows = self.selected.chunk(self.tables, chunk)?;
                    rows.iter().for_each(|at| add(first_row(chunk) + at as u32));
                }
            }
        }
        if limit < keyed.len() {
            keyed.select_nth_unstable(limit);
            keyed.truncate(limit);
        }
        keyed.sort_unstable();
        Ok(keyed.into_iter().map(|(_, row)| row).collect())
    }

    fn by_text(
        &self,
        direction: Direction,
        dictionary: &Dictionary,
        code: impl Fn(&JobChunk, usize) -> u32,
    ) -> EngineResult<Vec<u32>> {
        let order = dictionary.order();
        if self.gathers(self.selected.at_most(self.tables), self.part.end()) {
            let ranks = order.ranks();
            let rank = |chunk: &JobChunk, at| ranks[code(chunk, at) as usize];
            let rows = match direction {
                Direction::Ascending => self.gathered(self.chunks(), rank, self.part.end())?,
                Direction::Descending => {
                    self.gathered(self.chunks(), |chunk, at| Reverse(rank(chunk, at)), self.part.end())?
                }
            };
            return Ok(self.part.of(rows));
        }
        let lists = |&code: &u32| dictionary.rows(code);
        match direction {
            Direction::Ascending => self.through_lists(order.codes.iter().map(lists)),
            Direction::Descending => self.through_lists(order.codes.iter().rev().map(lists)),
        }
    }

    fn by_state(&self, direction: Direction) -> EngineResult<Vec<u32>> {
        let mut states = JobState::ALL;
        states.sort_unstable_by_key(|state| state.ordinal());
        if direction == Direction::Descending {
            states.reverse();
        }
        self.through_lists(
            states.into_iter().map(|state| PostingList::Many(Arc::clone(self.tables.states.rows(state)))),
        )
    }

    /// Takes the selected rows of lists, one list after another, until the part is full.
    fn through_lists(&self, lists: impl Iterator<Item = PostingList>) -> EngineResult<Vec<u32>> {
        let end = self.part.end();
        let mut found = Vec::new();
        for list in lists {
            if found.len() >= end {
                break;
            }
            let known = self.tables.jobs.len() as u32;
            let mut rows = list.iter().take_while(|&row| row < known);
            let probed: Vec<u32> = rows.by_ref().take(PROBES).collect();
            let admitted = probed.iter().copied().filter(|&row| self.selected.admits(self.tables, row));
            self.take_passing(&mut admitted.peekable(), end, &mut found)?;
            if found.len() >= end {
                break;
            }
            let (PROBES, Some(&last)) = (probed.len(), probed.last()) else { continue };
            // The list is long and its start was not enough: from here on all at once.
            let mut rest = match self.selected.rows(self.tables) {
                Some(selected) => list.to_bitmap() & selected.as_ref(),
                None => list.to_bitmap(),
            };
            rest.remove_range(..=last);
            rest.remove_range(known..);
            self.take_passing(&mut rest.into_iter().peekable(), end, &mut found)?;
        }
        Ok(self.part.of(found))
    }

    /// Takes rows that pass the residual, chunk by chunk, until there are `end` of them.
    fn take_passing(
        &self,
        rows: &mut Peekable<impl Iterator<Item = u32>>,
        end: usize,
        found: &mut Vec<u32>,
    ) -> EngineResult<()> {
        while let Some(&first) = rows.peek()
            && found.len() < end
        {
            if self.selected.residual.is_none() {
                found.extend(rows.by_ref().take(end - found.len()));
                continue;
            }
            let chunk = locate(first).0;
            let of_chunk = std::iter::from_fn(|| rows.next_if(|&row| locate(row).0 == chunk)).collect();
            found.extend(self.selected.passing(self.tables, of_chunk)?);
        }
        Ok(())
    }
}

/// Keeps the least `limit` entries.
fn offer<K: Copy + Ord>(best: &mut BinaryHeap<(K, u32)>, limit: usize, entry: (K, u32)) {
    if best.len() < limit {
        best.push(entry);
    } else if let Some(mut worst) = best.peek_mut()
        && entry.0 < worst.0
    {
        *worst = entry;
    }
}
