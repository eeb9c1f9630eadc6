//! The rows of a selection: bitmaps for the predicates with an index, and one physical expression for the other
//! predicates.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use datafusion::error::Result as EngineResult;
use roaring::RoaringBitmap;

use super::access_path::{AccessPath, access_path};
use super::budget::consume_budget_for;
use super::describe::describe;
use super::residual::{Residual, ResidualBuilder};
use crate::memory::cost::GATHER_MAX_CANDIDATES;
use crate::memory::storage::{CHUNK_ROWS, CONTAINER_ROWS, Node, Tables, Zone, by_container};
use crate::model::StateSet;
use crate::query::{Comparison, Predicate, Selection, TimeField};
use crate::time::Timestamp;

/// The number of rows that are read from a bitmap in one call.
const AT_A_TIME: usize = 64;

/// The number of rows of bitmaps that are intersected per unit of budget.
const ROWS_PER_UNIT: usize = 1 << 18;

/// The rows of a selection.
///
/// The intersection of the bitmaps is not computed in advance: with ten million jobs it would dominate the time of a
/// page, which visits few chunks. It is computed for each window that the page reads: the rows of one roaring
/// container, which take about a microsecond, and many times longer if each row is looked up.
#[derive(Debug)]
pub(in crate::memory) struct RowSelection {
    /// The bitmaps, the smallest first. A selected row is in all of them. They may include rows newer than the
    /// snapshot.
    sets: Vec<Set>,
    /// The states of the selected rows, if there are several.
    states: Option<StateSet>,
    /// The intersection of the bitmaps and states, after it has been computed.
    rows: OnceLock<Set>,
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

/// A bitmap with its cardinality, which roaring bitmaps do not store.
#[derive(Debug)]
struct Set {
    rows: Arc<RoaringBitmap>,
    len: u64,
}

impl From<Arc<RoaringBitmap>> for Set {
    fn from(rows: Arc<RoaringBitmap>) -> Self {
        Self { len: rows.len(), rows }
    }
}

/// Whether none, some or all rows of a zone match a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ZoneMatch {
    None,
    Some,
    All,
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
            (true, _) => Self::None,
            (_, true) => Self::All,
            _ => Self::Some,
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
            sets.push(Set::from(Arc::clone(&tables.indexes.active_job_sets)));
        }
        for predicate in selection.predicates() {
            match access_path(tables, predicate).await {
                AccessPath::Everything => continue,
                AccessPath::Rows(rows) => sets.push(rows.into()),
                AccessPath::States(of) => states = Some(of),
                AccessPath::Codes(test) => {
                    only_times = false;
                    residual.codes(tables, predicate, test);
                    continue;
                }
                AccessPath::Expression => {
                    match predicate {
                        Predicate::Time(field, comparison, time) => times.push((*field, *comparison, *time)),
                        _ => only_times = false,
                    }
                    residual.expression(predicate)?;
                    continue;
                }
            }
            index.push(describe(predicate));
        }
        sets.sort_by_key(|set| set.len);
        let (rows, windows) = Default::default();
        Ok(Self { sets, states, rows, windows, residual: residual.build()?, index, times, only_times })
    }

    /// Whether a node may contain a selected row, by zone maps and bitmaps.
    pub(super) fn may_contain(&self, tables: &Tables, node: Node) -> bool {
        let bitmap = || match node.as_chunk() {
            Some(_) => self.of_chunk(tables, node),
            None => self.smallest().map(|set| set.rows.as_ref()),
        };
        self.zone_match(tables, node) != ZoneMatch::None
            && bitmap().is_none_or(|rows| rows.range(node.rows()).next().is_some())
    }

    /// The residual predicate of a node's rows; `None` if zone maps show that all pass.
    pub(super) fn residual(&self, tables: &Tables, node: Node) -> Option<&Residual> {
        self.residual.as_ref().filter(|_| !self.only_times || self.zone_match(tables, node) != ZoneMatch::All)
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
            zone.map_or(ZoneMatch::Some, |zone| ZoneMatch::of(zone, comparison, value))
        };
        self.times.iter().map(of_condition).min().unwrap_or(ZoneMatch::All)
    }

    /// Whether zone maps show that all or no rows of a block pass the residual predicate.
    pub(super) fn block_match(&self, tables: &Tables, block: Node) -> ZoneMatch {
        match self.zone_match(tables, block) {
            ZoneMatch::All if !self.only_times => ZoneMatch::Some,
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
        self.smallest().map_or(all, |set| set.len.min(all))
    }

    /// The smallest bitmap: the intersection, if it was computed.
    fn smallest(&self) -> Option<&Set> {
        self.rows.get().or(self.sets.first())
    }

    /// The intersection of the bitmaps and states; `None` if all rows are selected.
    pub(in crate::memory) fn rows(&self, tables: &Tables) -> Option<&Arc<RoaringBitmap>> {
        self.is_narrowed().then(|| &self.rows.get_or_init(|| self.intersection(tables).into()).rows)
    }

    /// Computes the intersection within the task's budget.
    pub(super) async fn intersect(&self, tables: &Tables) -> Option<&Arc<RoaringBitmap>> {
        if self.rows.get().is_none() {
            consume_budget_for(self.sets.iter().map(|set| set.len as usize).sum(), ROWS_PER_UNIT).await;
        }
        self.rows(tables)
    }

    /// The bitmap of exactly the selected rows, if there is one: the intersection, if it was computed, or the only
    /// bitmap.
    fn bitmap(&self) -> Option<&RoaringBitmap> {
        match (self.rows.get(), self.sets.as_slice()) {
            (Some(set), _) => Some(&set.rows),
            (None, [only]) if self.states.is_none() => Some(&only.rows),
            _ => None,
        }
    }

    /// Whether the smallest bitmap has so few rows that each row is looked up in the other bitmaps.
    fn is_probed(&self) -> bool {
        self.sets.first().is_some_and(|set| set.len <= GATHER_MAX_CANDIDATES)
    }

    /// The intersection of the bitmaps and states in the window of a row.
    fn window(&self, tables: &Tables, row: u32) -> &RoaringBitmap {
        let of_row = |row: u32| row / CONTAINER_ROWS;
        let count = of_row(tables.jobs.len() as u32) + 1;
        let windows = self.windows.get_or_init(|| (0..count).map(|_| OnceLock::new()).collect());
        windows[of_row(row) as usize].get_or_init(|| {
            let first = of_row(row) * CONTAINER_ROWS;
            let mut rows = RoaringBitmap::new();
            rows.insert_range(first..=first + (CONTAINER_ROWS - 1));
            self.restrict(tables, rows, &self.sets)
        })
    }

    /// A bitmap with the selected rows of a chunk, and no others unless the rows of the smallest bitmap are looked up;
    /// `None` if no index restricts the rows.
    fn of_chunk(&self, tables: &Tables, chunk: Node) -> Option<&RoaringBitmap> {
        match self.bitmap() {
            Some(rows) => Some(rows),
            None if !self.is_narrowed() => None,
            None if self.is_probed() => self.sets.first().map(|set| set.rows.as_ref()),
            None => Some(self.window(tables, chunk.rows().start)),
        }
    }

    /// Visits the selected rows of a range, ascending, before the residual predicate. Blocks that the zone maps exclude are
    /// skipped.
    pub(super) fn visit(&self, tables: &Tables, range: Range<u32>, mut visit: impl FnMut(u32)) {
        if self.times.is_empty() {
            return self.visit_indexed(tables, range, visit);
        }
        let mut last: Option<(Node, ZoneMatch)> = None;
        self.visit_indexed(tables, range, |row| {
            let block = Node::block_of(row);
            let (_, matched) = match last {
                Some(known) if known.0 == block => known,
                _ => *last.insert((block, self.zone_match(tables, block))),
            };
            if matched != ZoneMatch::None {
                visit(row);
            }
        });
    }

    /// Visits the rows of a range that the indexes select, ascending.
    fn visit_indexed(&self, tables: &Tables, range: Range<u32>, mut visit: impl FnMut(u32)) {
        let range = range.start..range.end.min(tables.jobs.len() as u32);
        match self.bitmap() {
            Some(rows) => visit_bitmap(rows, range, visit),
            None if !self.is_narrowed() => range.for_each(visit),
            None if self.is_probed() => {
                let Some(first) = self.sets.first() else { return };
                visit_bitmap(&first.rows, range, |row| {
                    if self.contains_row(tables, row) {
                        visit(row);
                    }
                });
            }
            None => {
                for part in by_container(range) {
                    visit_bitmap(self.window(tables, part.start), part, &mut visit);
                }
            }
        }
    }

    /// Whether an index selects at most `most` rows of a chunk.
    pub(super) fn has_few(&self, tables: &Tables, chunk: Node, most: u64) -> bool {
        // The cardinality of a range of a dense bitmap takes as long as a search of the range.
        let is_dense = self.upper_bound(tables) / most > (tables.jobs.len() / CHUNK_ROWS) as u64;
        !(is_dense && self.bitmap().is_some())
            && self.of_chunk(tables, chunk).is_some_and(|rows| rows.range_cardinality(chunk.rows()) <= most)
    }

    /// Whether a row is in all bitmaps and states.
    pub(in crate::memory) fn contains_row(&self, tables: &Tables, row: u32) -> bool {
        let window = || self.windows.get()?.get((row / CONTAINER_ROWS) as usize)?.get();
        match self.bitmap().or_else(window) {
            Some(rows) => rows.contains(row),
            None => self.sets.iter().all(|set| set.rows.contains(row)) && self.is_in_states(tables, row),
        }
    }

    fn is_in_states(&self, tables: &Tables, row: u32) -> bool {
        self.states.is_none_or(|states| states.contains(tables.jobs.state(row)))
    }

    fn intersection(&self, tables: &Tables) -> Arc<RoaringBitmap> {
        let len = tables.jobs.len() as u32;
        let is_newer = |rows: &RoaringBitmap| rows.max().is_some_and(|last| last >= len);
        let mut rows = match (self.sets.as_slice(), self.states) {
            ([only], None) if !is_newer(&only.rows) => return Arc::clone(&only.rows),
            ([first, rest @ ..], _) => self.restrict(tables, first.rows.as_ref().clone(), rest),
            ([], states) => states.map_or_else(RoaringBitmap::new, |states| tables.indexes.states.union(states)),
        };
        rows.remove_range(len..);
        Arc::new(rows)
    }

    /// The rows that are also in some of the bitmaps, and in the states.
    fn restrict(&self, tables: &Tables, mut rows: RoaringBitmap, sets: &[Set]) -> RoaringBitmap {
        sets.iter().for_each(|set| rows &= set.rows.as_ref());
        match self.states {
            Some(states) => tables.indexes.states.filter(states, &rows),
            None => rows,
        }
    }
}

/// Visits the rows of a range that are in a bitmap, ascending.
fn visit_bitmap(rows: &RoaringBitmap, range: Range<u32>, mut visit: impl FnMut(u32)) {
    let (mut rows, mut some) = (rows.range(range), [0; AT_A_TIME]);
    loop {
        let some = rows.next_many(&mut some);
        if some.is_empty() {
            break;
        }
        some.iter().for_each(|&row| visit(row));
    }
}
