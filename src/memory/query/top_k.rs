//! The first rows of an order, found without reading more than they need.
//!
//! Three ways, by what the order is by:
//!
//! - ids and times: zones of blocks are taken best bound first, and the search ends when no
//!   bound left can beat the rows that are found;
//! - queues, job sets and states: their rows are listed by an index, so the lists are gone
//!   through in order until there are enough rows;
//! - anything, when few rows are selected or most are wanted: their keys are gathered and sorted.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use datafusion::error::Result as EngineResult;
use roaring::RoaringBitmap;

use super::rows::ChunkRows;
use super::select::Selected;
use crate::memory::storage::{Dictionary, JobChunk, Tables, Zone, Zones, first_row, locate};
use crate::model::JobState;
use crate::query::{Direction, JobOrder, JobOrderKey};
use crate::time::Timestamp;

/// With at most so many candidates, gathering their keys beats any search.
const GATHER_CANDIDATES: u64 = 4096;

/// The first `limit` selected rows (all, without a limit) in an order.
pub(in crate::memory) fn first_rows(
    tables: &Tables,
    selected: &Selected,
    order: Option<JobOrder>,
    limit: Option<usize>,
) -> EngineResult<Vec<u32>> {
    let candidates = selected.candidates(tables);
    let limit = limit.unwrap_or(usize::MAX);
    let Some(JobOrder { key, direction }) = order else { return in_row_order(tables, selected, limit) };
    let gather = candidates <= GATHER_CANDIDATES || limit as u64 >= candidates / 2;
    let search = Search { tables, selected, limit, gather };
    match (key, direction) {
        (JobOrderKey::JobId, _) => {
            search.by(direction, |chunk| &chunk.id_zones, |chunk, at| chunk.ids.get(at), |id| id)
        }
        (JobOrderKey::Submitted, _) => {
            search.by(direction, |chunk| &chunk.submitted_zones, |chunk, at| chunk.submitted.get(at), |time| time)
        }
        (JobOrderKey::LastTransitionTime, _) => search.by(
            direction,
            |chunk| &chunk.last_transition_zones,
            |chunk, at| floor_seconds(chunk.last_transition.get(at)),
            floor_seconds,
        ),
        (JobOrderKey::State, _) => search.by_state(direction),
        (JobOrderKey::Queue, _) => search.by_text(direction, &tables.queues, |chunk, at| chunk.queue.get(at)),
        (JobOrderKey::JobSet, _) => search.by_text(direction, &tables.job_sets, |chunk, at| chunk.job_set.get(at)),
    }
}

fn floor_seconds(micros: i64) -> i64 {
    Timestamp::from_micros(micros).floor_seconds()
}

fn in_row_order(tables: &Tables, selected: &Selected, limit: usize) -> EngineResult<Vec<u32>> {
    let mut rows = Vec::new();
    for chunk in 0..tables.jobs.chunks().len() {
        if rows.len() >= limit {
            break;
        }
        let wanted = limit - rows.len();
        rows.extend(selected.chunk(tables, chunk)?.iter().take(wanted).map(|at| first_row(chunk) + at as u32));
    }
    Ok(rows)
}

struct Search<'a> {
    tables: &'a Tables,
    selected: &'a Selected,
    limit: usize,
    gather: bool,
}

impl Search<'_> {
    /// By a key that has zones, of which `cut` makes the key's own kind.
    fn by<Z: Copy + Ord, K: Copy + Ord>(
        &self,
        direction: Direction,
        zones: impl Fn(&JobChunk) -> &Zones<Z>,
        key: impl Fn(&JobChunk, usize) -> K,
        cut: impl Fn(Z) -> K,
    ) -> EngineResult<Vec<u32>> {
        match direction {
            Direction::Ascending if self.gather => self.gathered(key),
            Direction::Descending if self.gather => self.gathered(|chunk, at| Reverse(key(chunk, at))),
            Direction::Ascending => self.best_first(zones, |zone| cut(zone.min), key),
            Direction::Descending => {
                self.best_first(zones, |zone| Reverse(cut(zone.max)), |chunk, at| Reverse(key(chunk, at)))
            }
        }
    }

    /// Takes zones by their bounds, the least first, until none left can hold a better row.
    fn best_first<Z: Copy + Ord, K: Copy + Ord>(
        &self,
        zones: impl Fn(&JobChunk) -> &Zones<Z>,
        bound: impl Fn(Zone<Z>) -> K,
        key: impl Fn(&JobChunk, usize) -> K,
    ) -> EngineResult<Vec<u32>> {
        let chunks = self.tables.jobs.chunks();
        let whole = |(at, zone): (usize, Option<Zone<Z>>)| Some(Reverse((bound(zone?), at, None)));
        let mut open: BinaryHeap<Reverse<(K, usize, Option<usize>)>> =
            chunks.iter().map(|chunk| zones(chunk).whole()).enumerate().filter_map(whole).collect();
        let mut selected: Vec<Option<ChunkRows>> = vec![None; chunks.len()];
        let mut best: BinaryHeap<(K, u32)> = BinaryHeap::new();
        while let Some(Reverse((least, at, block))) = open.pop() {
            if best.len() >= self.limit && best.peek().is_none_or(|&(worst, _)| least >= worst) {
                break;
            }
            let chunk = &chunks[at];
            match (block, &selected[at]) {
                (Some(block), Some(rows)) => {
                    for place in rows.block(block) {
                        offer(&mut best, self.limit, (key(chunk, place), first_row(at) + place as u32));
                    }
                }
                _ => {
                    let rows = self.selected.chunk(self.tables, at)?;
                    let blocks = zones(chunk).blocks().iter().enumerate();
                    let held = blocks.filter(|&(block, _)| rows.block(block).next().is_some());
                    open.extend(held.map(|(block, &zone)| Reverse((bound(zone), at, Some(block)))));
                    selected[at] = Some(rows);
                }
            }
        }
        Ok(best.into_sorted_vec().into_iter().map(|(_, row)| row).collect())
    }

    /// Gathers the keys of all selected rows and sorts them.
    fn gathered<K: Copy + Ord>(&self, key: impl Fn(&JobChunk, usize) -> K) -> EngineResult<Vec<u32>> {
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
                for chunk in 0..self.tables.jobs.chunks().len() {
                    let rows = self.selected.chunk(self.tables, chunk)?;
                    rows.iter().for_each(|at| add(first_row(chunk) + at as u32));
                }
            }
        }
        if self.limit < keyed.len() {
            keyed.select_nth_unstable(self.limit);
            keyed.truncate(self.limit);
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
        if self.gather {
            let ranks = order.ranks();
            let rank = |chunk: &JobChunk, at| ranks[code(chunk, at) as usize];
            return match direction {
                Direction::Ascending => self.gathered(rank),
                Direction::Descending => self.gathered(|chunk, at| Reverse(rank(chunk, at))),
            };
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

    /// Takes the selected rows of lists, one list after another, until there are enough.
    fn through_lists(&self, lists: impl Iterator<Item = RoaringBitmap>) -> EngineResult<Vec<u32>> {
        let mut found = Vec::new();
        for mut list in lists {
            match &self.selected.rows {
                Some(rows) => list &= rows,
                None => {
                    list.remove_range(self.tables.jobs.len() as u32..);
                }
            }
            let mut rows = list.into_iter().peekable();
            while found.len() < self.limit && rows.peek().is_some() {
                let part = next_part(&mut rows, self.limit - found.len(), self.selected.residual.is_some());
                found.extend(self.selected.passing(self.tables, part)?);
            }
            if found.len() >= self.limit {
                found.truncate(self.limit);
                break;
            }
        }
        Ok(found)
    }
}

/// The next rows of a list: those of one chunk if they must be tested yet, else as many as are wanted.
fn next_part(rows: &mut std::iter::Peekable<roaring::bitmap::IntoIter>, wanted: usize, tested: bool) -> Vec<u32> {
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
