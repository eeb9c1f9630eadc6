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

use datafusion::error::Result as EngineResult;
use roaring::RoaringBitmap;

use super::rows::ChunkRows;
use super::select::Selected;
use crate::memory::storage::{BLOCK_ROWS, Dictionary, JobChunk, Tables, Zone, Zones, first_row, locate};
use crate::model::JobState;
use crate::query::{Direction, JobOrder, JobOrderKey};

/// With at most so many candidates, gathering their keys beats any search.
const GATHER_CANDIDATES: u64 = 512;

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
        let count = selected.chunk_count(tables, chunk)?;
        if count <= skip {
            skip -= count;
            continue;
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
        let candidates = self.selected.candidates(self.tables);
        if self.gathers(candidates, self.part.end()) && candidates <= GATHER_CANDIDATES {
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
            let mut offer = |place: usize| offer(&mut best, limit, (key(chunk, place), first_row(at) + place as u32));
            match (&tested[at], &self.selected.rows) {
                (Some(rows), _) => rows.block(block).for_each(&mut offer),
                (None, Some(rows)) => {
                    let first = first_row(at) + (block * BLOCK_ROWS) as u32;
                    rows.range(first..first + BLOCK_ROWS as u32).for_each(|row| offer(locate(row).1));
                }
                (None, None) => {
                    (block * BLOCK_ROWS..chunk.len().min((block + 1) * BLOCK_ROWS)).for_each(&mut offer);
                }
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
        match &self.selected.rows {
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
        if self.gathers(self.selected.candidates(self.tables), self.part.end()) {
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
        let lists = |&code: &u32| dictionary.rows(code).to_bitmap();
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
        self.through_lists(states.into_iter().map(|state| self.tables.states.rows(state).as_ref().clone()))
    }

    /// Takes the selected rows of lists, one list after another, until the part is full.
    fn through_lists(&self, lists: impl Iterator<Item = RoaringBitmap>) -> EngineResult<Vec<u32>> {
        let end = self.part.end();
        let mut found = Vec::new();
        for mut list in lists {
            match &self.selected.rows {
                Some(rows) => list &= rows,
                None => {
                    list.remove_range(self.tables.jobs.len() as u32..);
                }
            }
            let mut rows = list.into_iter().peekable();
            while found.len() < end && rows.peek().is_some() {
                let part = next_part(&mut rows, end - found.len(), self.selected.residual.is_some());
                found.extend(self.selected.passing(self.tables, part)?);
            }
            if found.len() >= end {
                break;
            }
        }
        Ok(self.part.of(found))
    }
}

/// The next rows of a list: those of one chunk if they must be tested yet, else as many as are wanted.
fn next_part(rows: &mut Peekable<roaring::bitmap::IntoIter>, wanted: usize, tested: bool) -> Vec<u32> {
    if !tested {
        return rows.take(wanted).collect();
    }
    let Some(chunk) = rows.peek().map(|&row| locate(row).0) else { return Vec::new() };
    std::iter::from_fn(|| rows.next_if(|&row| locate(row).0 == chunk)).collect()
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
