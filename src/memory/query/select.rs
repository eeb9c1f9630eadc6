//! The rows of a selection: bitmaps for the predicates with an index, and a residual predicate for the others.

use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

use datafusion::error::Result as EngineResult;
use roaring::RoaringBitmap;

use super::access_path::{AccessPath, access_path};
use super::budget::consume_budget;
use super::describe::describe;
use super::residual::{Residual, ResidualBuilder};
use crate::memory::cost::GATHER_MAX_CANDIDATES;
use crate::memory::storage::{
    CHUNK_ROWS, Node, RowSet, Tables, Zone, by_window, locate, visit_bitmap, whole_window, window_of,
};
use crate::model::StateSet;
use crate::query::{Comparison, Predicate, Selection, TimeField};
use crate::time::Timestamp;

/// The rows of a selection.
///
/// The intersection of the indexed rows is computed by window, and only for the windows that are read: with ten million
/// jobs the whole intersection would dominate the time of a page, which visits few chunks. A window takes about a
/// microsecond, and many times longer if each row is looked up.
#[derive(Debug)]
pub(in crate::memory) struct RowSelection {
    /// The results of index lookups, the smallest first. A selected row is in all of them.
    sets: Vec<RowSet>,
    /// The states of the selected rows, if there are several.
    states: Option<StateSet>,
    /// The intersection of each window that has been computed.
    windows: OnceLock<Box<[OnceLock<RoaringBitmap>]>>,
    /// The residual predicate.
    residual: Option<Residual>,
    /// The index lookups, for EXPLAIN.
    index: Vec<String>,
    /// The conditions on times, which are also in the residual predicate: zone maps prune nodes by them.
    times: Vec<(TimeField, Comparison, Timestamp)>,
    /// Whether the residual predicate consists of conditions on times.
    only_times: bool,
}

/// Whether none, some or all rows of a zone match a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ZoneMatch {
    Nothing,
    Partial,
    Full,
}

impl ZoneMatch {
    /// Zones in whole seconds cannot decide an equality, because times have microseconds.
    fn of(zone: Zone<i64>, comparison: Comparison, value: i64) -> Self {
        let (none, all) = match comparison {
            Comparison::Equal => (value < zone.min || zone.max < value, false),
            Comparison::Greater | Comparison::GreaterOrEqual => (zone.max < value, value < zone.min),
            Comparison::Less | Comparison::LessOrEqual => (value < zone.min, zone.max < value),
        };
        match (none, all) {
            (true, _) => Self::Nothing,
            (_, true) => Self::Full,
            _ => Self::Partial,
        }
    }
}

impl fmt::Display for RowSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index.as_slice() {
            [] => f.write_str("index=[all rows]")?,
            lookups => write!(f, "index=[{}]", lookups.join(" ∩ "))?,
        }
        self.residual.as_ref().map_or(Ok(()), |residual| write!(f, ", residual=[{}]", residual.description))
    }
}

impl RowSelection {
    /// Chooses the access paths of a selection.
    pub(in crate::memory) async fn new(tables: &Tables, selection: &Selection) -> EngineResult<Self> {
        let mut index = Vec::new();
        let mut sets = Vec::new();
        let mut states = None;
        let mut times = Vec::new();
        let mut only_times = true;
        let mut residual = ResidualBuilder::default();
        if selection.active_job_sets() {
            index.push("active job sets".to_owned());
            sets.push(tables.indexes.active_job_sets.clone());
        }
        for predicate in selection.predicates() {
            match access_path(tables, predicate).await {
                AccessPath::Everything => continue,
                AccessPath::Rows(rows) => sets.push(rows),
                AccessPath::States(of) => states = Some(of),
                AccessPath::Codes(test) => {
                    only_times = false;
                    residual.codes(tables, predicate, test)?;
                    continue;
                }
                AccessPath::Values => {
                    match predicate {
                        Predicate::Time(field, comparison, time) => times.push((*field, *comparison, *time)),
                        _ => only_times = false,
                    }
                    residual.values(predicate)?;
                    continue;
                }
            }
            index.push(describe(predicate));
        }
        sets.sort_by_key(RowSet::len);
        let windows = OnceLock::new();
        Ok(Self { sets, states, windows, residual: residual.build(), index, times, only_times })
    }

    /// Whether a node may contain a selected row, by zone maps and bitmaps.
    pub(super) fn may_contain(&self, tables: &Tables, node: Node) -> bool {
        let indexed = || match node.as_chunk() {
            Some(_) if self.is_narrowed() => self.of_chunk(tables, node).range(node.rows()).next().is_some(),
            _ => self.sets.first().is_none_or(|set| set.intersects(node.rows())),
        };
        self.zone_match(tables, node) != ZoneMatch::Nothing && indexed()
    }

    /// The residual predicate of a node's rows; `None` if zone maps show that all pass.
    pub(super) fn residual(&self, tables: &Tables, node: Node) -> Option<&Residual> {
        self.residual.as_ref().filter(|_| !self.only_times || self.zone_match(tables, node) != ZoneMatch::Full)
    }

    pub(in crate::memory) fn has_residual(&self) -> bool {
        self.residual.is_some()
    }

    /// Whether none, some or all rows of a node match the conditions on times, by zone maps.
    pub(super) fn zone_match(&self, tables: &Tables, node: Node) -> ZoneMatch {
        let zones = &tables.indexes.zones;
        let chunk = node.within_chunk().map(|chunk| &tables.jobs.chunks()[chunk]);
        let of_condition = |&(field, comparison, time): &(TimeField, Comparison, Timestamp)| {
            let (zone, value) = match (field, chunk) {
                (TimeField::Submitted, None) => (zones.submitted.zone(node), time.as_micros()),
                (TimeField::Submitted, Some(chunk)) => (chunk.submitted_zones.zone(node), time.as_micros()),
                (TimeField::LastTransitionTime, None) => {
                    (zones.last_transition_seconds.zone(node), time.floor_seconds())
                }
                (TimeField::LastTransitionTime, Some(chunk)) => {
                    (chunk.last_transition_seconds_zones.zone(node), time.floor_seconds())
                }
            };
            zone.map_or(ZoneMatch::Partial, |zone| ZoneMatch::of(zone, comparison, value))
        };
        self.times.iter().map(of_condition).min().unwrap_or(ZoneMatch::Full)
    }

    /// Whether zone maps show that all or no rows of a block pass the residual predicate.
    pub(super) fn block_match(&self, tables: &Tables, block: Node) -> ZoneMatch {
        match self.zone_match(tables, block) {
            ZoneMatch::Full if !self.only_times => ZoneMatch::Partial,
            matched => matched,
        }
    }

    /// Whether an index restricts the rows.
    pub(in crate::memory) fn is_narrowed(&self) -> bool {
        !self.sets.is_empty() || self.states.is_some()
    }

    /// An upper bound of the number of selected rows.
    pub(in crate::memory) fn upper_bound(&self, tables: &Tables) -> u64 {
        let all = tables.jobs.len() as u64;
        self.sets.first().map_or(all, |set| set.len().min(all))
    }

    /// An estimate of the number of rows in all sets, as if the sets were independent. It ignores `states`.
    pub(super) fn estimate(&self, tables: &Tables) -> u64 {
        let all = tables.jobs.len() as f64;
        let share = |set: &RowSet| set.len() as f64 / all;
        (self.upper_bound(tables) as f64 * self.sets.iter().skip(1).map(share).product::<f64>()) as u64
    }

    /// The indexed rows, if they are those of one lookup.
    fn only_set(&self) -> Option<&RowSet> {
        match (self.sets.as_slice(), self.states) {
            ([only], None) => Some(only),
            _ => None,
        }
    }

    /// Whether the smallest set has so few rows that each row is looked up in the other sets.
    fn is_probed(&self) -> bool {
        self.sets.first().is_some_and(|set| set.len() <= GATHER_MAX_CANDIDATES)
    }

    /// A bitmap that has the indexed rows in the window of a row, and may have rows in other windows.
    fn window(&self, tables: &Tables, row: u32) -> &RoaringBitmap {
        if let Some(rows) = self.only_set().and_then(|set| set.window(row)) {
            return rows;
        }
        let count = || window_of(tables.jobs.len() as u32) + 1;
        let windows = self.windows.get_or_init(|| (0..count()).map(|_| OnceLock::new()).collect());
        windows[window_of(row)].get_or_init(|| self.intersection(tables, row))
    }

    /// The indexed rows in the window of a row.
    fn intersection(&self, tables: &Tables, row: u32) -> RoaringBitmap {
        let mut rows = whole_window(row);
        for set in &self.sets {
            set.restrict(&mut rows);
            if rows.is_empty() {
                return rows;
            }
        }
        match self.states {
            Some(states) => {
                let ordinals = states.iter().map(|state| state.ordinal().into());
                tables.indexes.states.filter(ordinals, &rows)
            }
            None => rows,
        }
    }

    /// The indexed rows of a range within a window.
    pub(super) fn indexed_in(&self, tables: &Tables, range: Range<u32>) -> RoaringBitmap {
        let mut rows = whole_window(range.start);
        if self.is_narrowed() {
            rows &= self.window(tables, range.start);
        }
        rows.remove_range(..range.start);
        rows.remove_range(range.end..);
        rows
    }

    /// A bitmap with the selected rows of a chunk, and no others in the chunk unless the rows of the smallest set are
    /// looked up. An index must restrict the rows.
    fn of_chunk(&self, tables: &Tables, chunk: Node) -> &RoaringBitmap {
        let first = chunk.rows().start;
        let smallest = || self.sets.first().filter(|_| self.is_probed())?.window(first);
        smallest().unwrap_or_else(|| self.window(tables, first))
    }

    /// The number of rows of the snapshot that the indexes select; `None` if no index restricts the rows.
    pub(in crate::memory) fn candidates(&self, tables: &Tables) -> Option<usize> {
        let all = tables.jobs.len() as u32;
        match self.only_set() {
            Some(only) => Some(only.len_below(all) as usize),
            None => self.is_narrowed().then(|| by_window(0..all).map(|part| self.count_indexed(tables, part)).sum()),
        }
    }

    /// The number of rows of a range that the indexes select.
    pub(super) async fn count_range(&self, tables: &Tables, range: Range<u32>) -> usize {
        if !self.is_narrowed() {
            return range.len();
        }
        let mut count = 0;
        for part in by_window(range) {
            consume_budget().await;
            count += self.count_indexed(tables, part);
        }
        count
    }

    /// The number of rows of a range within a window that the indexes select. An index must restrict the rows.
    fn count_indexed(&self, tables: &Tables, range: Range<u32>) -> usize {
        if self.is_probed() {
            let mut count = 0;
            self.visit_indexed(tables, range, |_| count += 1);
            return count;
        }
        self.window(tables, range.start).range_cardinality(range) as usize
    }

    /// Visits the selected rows of a range, ascending, before the residual predicate. Blocks that the zone maps exclude
    /// are skipped.
    pub(super) fn visit(&self, tables: &Tables, range: Range<u32>, mut visit: impl FnMut(u32)) {
        // If the zone map of the chunk decides, the blocks need not be tested.
        let is_decided = || {
            let (first, last) = (locate(range.start).0, locate(range.end - 1).0);
            first == last && self.zone_match(tables, Node::chunk(first)) == ZoneMatch::Full
        };
        if self.times.is_empty() || range.is_empty() || is_decided() {
            return self.visit_indexed(tables, range, visit);
        }
        let mut last: Option<(Node, ZoneMatch)> = None;
        self.visit_indexed(tables, range, |row| {
            let block = Node::block_of(row);
            let (_, matched) = match last {
                Some(known) if known.0 == block => known,
                _ => *last.insert((block, self.zone_match(tables, block))),
            };
            if matched != ZoneMatch::Nothing {
                visit(row);
            }
        });
    }

    /// Visits the rows of a range that the indexes select, ascending.
    fn visit_indexed(&self, tables: &Tables, range: Range<u32>, mut visit: impl FnMut(u32)) {
        let range = range.start..range.end.min(tables.jobs.len() as u32);
        if !self.is_narrowed() {
            return range.for_each(visit);
        }
        match self.sets.first().filter(|_| self.is_probed()) {
            Some(smallest) => smallest.visit(range, |row| {
                if self.is_in_others(tables, row) {
                    visit(row);
                }
            }),
            None => {
                for part in by_window(range) {
                    visit_bitmap(self.window(tables, part.start), part, &mut visit);
                }
            }
        }
    }

    /// Whether an index selects at most `max` rows of a chunk.
    pub(super) fn has_few(&self, tables: &Tables, chunk: Node, max: u64) -> bool {
        // The cardinality of a range of a dense bitmap takes as long as a search of the range.
        let is_dense = self.upper_bound(tables) / max > (tables.jobs.len() / CHUNK_ROWS) as u64;
        self.is_narrowed()
            && !(is_dense && self.only_set().is_some())
            && self.of_chunk(tables, chunk).range_cardinality(chunk.rows()) <= max
    }

    /// Whether a row is in all sets and states.
    pub(in crate::memory) fn contains_row(&self, tables: &Tables, row: u32) -> bool {
        match self.windows.get().and_then(|windows| windows.get(window_of(row))?.get()) {
            Some(rows) => rows.contains(row),
            None => self.sets.first().is_none_or(|set| set.contains(row)) && self.is_in_others(tables, row),
        }
    }

    /// Whether a row is in all sets but the smallest, and in the states.
    fn is_in_others(&self, tables: &Tables, row: u32) -> bool {
        self.sets.iter().skip(1).all(|set| set.contains(row))
            && self.states.is_none_or(|states| states.contains(tables.jobs.state(row)))
    }
}
