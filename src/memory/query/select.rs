//! The rows of a selection: bitmaps for the predicates that an index answers, and one physical expression for the
//! others.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use datafusion::error::Result as EngineResult;
use roaring::RoaringBitmap;

use super::access_path::{AccessPath, access_path};
use super::budget::consume_budget_for;
use super::describe::describe;
use super::residual::{Residual, ResidualBuilder};
use crate::memory::cost::{LOOKUP_COST, STATE_READ_MAX_ROWS, STATE_UNION_SHARE};
use crate::memory::storage::{Node, Tables, Zone};
use crate::model::StateSet;
use crate::query::{Comparison, Predicate, Selection, TimeField};
use crate::time::Timestamp;

/// The rows that are read from a bitmap at a time.
const AT_A_TIME: usize = 64;

/// Rows of bitmaps that are intersected per unit of budget.
const ROWS_PER_UNIT: usize = 1 << 18;

/// The rows of a selection.
///
/// The bitmaps are not intersected up front. A page visits few chunks, where reading the smallest bitmap and looking
/// its rows up in the others costs less; at ten million jobs the intersection would dominate the page.
#[derive(Debug)]
pub(in crate::memory) struct RowSelection {
    /// The bitmaps, the smallest first. A selected row is in all of them. They may include rows newer than the
    /// snapshot.
    sets: Vec<Set>,
    /// The states of the selected rows, if they are several.
    states: Option<StateSet>,
    /// The intersection of the bitmaps and states, once it was computed.
    rows: OnceLock<Set>,
    /// The residual predicate.
    residual: Option<Residual>,
    /// The index lookups, for EXPLAIN.
    index: Vec<String>,
    /// The conditions on times, which are also in the residual predicate: zone maps exclude whole nodes by them.
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

/// How many rows of a zone match a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ZoneMatch {
    None,
    Some,
    All,
}

impl ZoneMatch {
    /// Zones in whole seconds cannot decide an equality with a time within the second.
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
        Ok(Self { sets, states, rows: OnceLock::new(), residual: residual.build()?, index, times, only_times })
    }

    /// Whether a node may contain a selected row, by zone maps and the smallest bitmap.
    pub(super) fn may_contain(&self, tables: &Tables, node: Node) -> bool {
        self.zone_match(tables, node) != ZoneMatch::None
            && self.smallest().is_none_or(|set| set.rows.range(node.rows()).next().is_some())
    }

    /// The residual predicate of a node's rows; `None` if zone maps show that all pass.
    pub(super) fn residual(&self, tables: &Tables, node: Node) -> Option<&Residual> {
        self.residual.as_ref().filter(|_| !self.only_times || self.zone_match(tables, node) != ZoneMatch::All)
    }

    pub(in crate::memory) fn has_residual(&self) -> bool {
        self.residual.is_some()
    }

    /// How many rows of a node match the conditions on times, by zone maps.
    pub(super) fn zone_match(&self, tables: &Tables, node: Node) -> ZoneMatch {
        let share = |&(field, comparison, time): &(TimeField, Comparison, Timestamp)| {
            let zones = &tables.indexes.zones;
            let (zone, value) = match field {
                TimeField::Submitted => (zones.submitted.zone(node), time.as_micros()),
                TimeField::LastTransitionTime => (zones.last_transition_seconds.zone(node), time.floor_seconds()),
            };
            zone.map_or(ZoneMatch::Some, |zone| ZoneMatch::of(zone, comparison, value))
        };
        self.times.iter().map(share).min().unwrap_or(ZoneMatch::All)
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

    /// Visits the rows of a range that are in all bitmaps and states, ascending, without computing the intersection.
    /// Returns the number of rows examined.
    pub(super) fn visit(&self, tables: &Tables, range: Range<u32>, mut visit: impl FnMut(u32)) -> u64 {
        let range = range.start..range.end.min(tables.jobs.len() as u32);
        let (first, rest) = match (self.rows.get(), self.sets.split_first()) {
            (Some(rows), _) => (Some(rows), [].as_slice()),
            (None, Some((first, rest))) => (Some(first), rest),
            (None, None) => (None, [].as_slice()),
        };
        let states = self.states.filter(|_| self.rows.get().is_none());
        let contains_row = |row: u32| {
            rest.iter().all(|set| set.rows.contains(row))
                && states.is_none_or(|states| states.contains(tables.jobs.state(row)))
        };
        let mut examined = 0;
        let mut look = |row| {
            examined += 1;
            if contains_row(row) {
                visit(row);
            }
        };
        match first {
            Some(first) => {
                let (mut rows, mut some) = (first.rows.range(range), [0; AT_A_TIME]);
                loop {
                    let some = rows.next_many(&mut some);
                    if some.is_empty() {
                        break;
                    }
                    some.iter().for_each(|&row| look(row));
                }
            }
            None => range.for_each(&mut look),
        }
        examined
    }

    /// Whether a range has at most `most` rows of the smallest bitmap.
    pub(super) fn has_few(&self, range: Range<u32>, most: u64) -> bool {
        self.smallest().is_some_and(|set| set.rows.range_cardinality(range) <= most)
    }

    /// Whether computing the intersection costs less than looking up `rows` rows.
    pub(super) fn intersection_pays(&self, tables: &Tables, rows: u64) -> bool {
        let second = match (self.rows.get(), self.sets.as_slice()) {
            (None, [_, second, ..]) => second.len,
            (None, [_]) if self.states.is_some() => tables.jobs.len() as u64 / STATE_UNION_SHARE,
            _ => return false,
        };
        rows.saturating_mul(LOOKUP_COST) > self.upper_bound(tables) + second
    }

    /// Whether a row is in all bitmaps and states.
    pub(in crate::memory) fn contains_row(&self, tables: &Tables, row: u32) -> bool {
        match self.rows.get() {
            Some(set) => set.rows.contains(row),
            None => self.sets.iter().all(|set| set.rows.contains(row)) && self.is_in_states(tables, row),
        }
    }

    fn is_in_states(&self, tables: &Tables, row: u32) -> bool {
        self.states.is_none_or(|states| states.contains(tables.jobs.state(row)))
    }

    fn intersection(&self, tables: &Tables) -> Arc<RoaringBitmap> {
        let len = tables.jobs.len() as u32;
        let is_newer = |rows: &RoaringBitmap| rows.max().is_some_and(|last| last >= len);
        let mut rows = match self.sets.as_slice() {
            [] => {
                return Arc::new(
                    self.states.map_or_else(RoaringBitmap::new, |states| tables.indexes.states.union(states)),
                );
            }
            [only] if self.states.is_none() && !is_newer(&only.rows) => return Arc::clone(&only.rows),
            [only] => only.rows.as_ref().clone(),
            [first, second, rest @ ..] => {
                rest.iter().fold(first.rows.as_ref() & second.rows.as_ref(), |rows, more| rows & more.rows.as_ref())
            }
        };
        rows.remove_range(len..);
        match self.states {
            None => Arc::new(rows),
            // For few rows, reading their states costs less than the union of the states' bitmaps.
            Some(states) if rows.len() <= STATE_READ_MAX_ROWS => {
                Arc::new(rows.into_iter().filter(|&row| states.contains(tables.jobs.state(row))).collect())
            }
            Some(states) => Arc::new(rows & tables.indexes.states.union(states)),
        }
    }
}
