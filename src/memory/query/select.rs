//! From a selection to rows: bitmap algebra for what an index answers, and one physical
//! expression for what remains.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use datafusion::error::Result as EngineResult;
use roaring::RoaringBitmap;

use super::answer::{Answer, answer};
use super::describe::describe;
use super::residual::{Residual, ResidualBuilder};
use crate::memory::storage::{Node, Tables, Zone};
use crate::model::StateSet;
use crate::query::{Comparison, Predicate, Selection, TimeField};
use crate::time::Timestamp;

/// So many rows are taken out of a bitmap at a time.
const AT_A_TIME: usize = 64;
/// How many rows an intersection of two sets goes through in the time in which one row is looked up.
const LOOK_UP_COST: u64 = 16;
/// The share of all rows that joining the bitmaps of some states costs.
const STATES_SHARE: u64 = 8;
/// With at most so many rows, their states are looked at one by one.
const TEST_STATES: u64 = 16_384;

/// The rows that a selection admits.
///
/// The sets are not intersected at once. A page that ends early looks at a few chunks, and there
/// it costs less to take the rows of the smallest set and look each up in the others; at ten
/// million jobs an intersection would be most of the page.
#[derive(Debug)]
pub(in crate::memory) struct Selected {
    /// A row must be in each of these, the smallest first. They may hold rows that are newer
    /// than the snapshot.
    sets: Vec<Set>,
    /// And in one of these states, where that is no set.
    states: Option<StateSet>,
    /// The rows that all of this admits, once someone needed them.
    rows: OnceLock<Set>,
    /// What they must pass besides.
    residual: Option<Residual>,
    /// The index look-ups, for EXPLAIN.
    index: Vec<String>,
    /// The conditions on times, which the residual has too: by zones they rule out whole chunks.
    times: Vec<(TimeField, Comparison, Timestamp)>,
    /// Whether the residual has no other conditions.
    only_times: bool,
}

/// Rows, with how many they are, which a bitmap does not keep.
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

/// How many of some rows pass a condition, as far as their zone tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Share {
    None,
    Some,
    All,
}

impl Share {
    /// Bounds of whole seconds say nothing about parts of a second, so what equals one may pass.
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

impl fmt::Display for Selected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index.as_slice() {
            [] => f.write_str("index=[all rows]")?,
            lookups => write!(f, "index=[{}]", lookups.join(" ∩ "))?,
        }
        self.residual.as_ref().map_or(Ok(()), |residual| write!(f, ", residual=[{}]", residual.description))
    }
}

impl Selected {
    /// Finds the rows of a selection.
    pub(in crate::memory) fn new(tables: &Tables, selection: &Selection) -> EngineResult<Self> {
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
            match answer(tables, predicate) {
                Answer::Everything => continue,
                Answer::Rows(rows) => sets.push(rows.into()),
                Answer::States(of) => states = Some(of),
                Answer::Codes(test) => {
                    only_times = false;
                    residual.codes(tables, predicate, test);
                    continue;
                }
                Answer::Expression => {
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

    /// Whether a node can hold a selected row, by the zones of times and the smallest set.
    pub(super) fn may_hold(&self, tables: &Tables, node: Node) -> bool {
        self.by_times(tables, node) != Share::None
            && self.smallest().is_none_or(|set| set.rows.range(node.rows()).next().is_some())
    }

    /// What the rows of a node must pass besides the indexes.
    pub(super) fn residual(&self, tables: &Tables, node: Node) -> Option<&Residual> {
        self.residual.as_ref().filter(|_| !self.only_times || self.by_times(tables, node) != Share::All)
    }

    pub(in crate::memory) fn has_residual(&self) -> bool {
        self.residual.is_some()
    }

    /// How many of a node's rows pass the conditions on times, by the zones.
    pub(super) fn by_times(&self, tables: &Tables, node: Node) -> Share {
        let share = |&(field, comparison, time): &(TimeField, Comparison, Timestamp)| {
            let zones = &tables.indexes.zones;
            let (zone, value) = match field {
                TimeField::Submitted => (zones.submitted.zone(node), time.as_micros()),
                TimeField::LastTransitionTime => (zones.last_transition_seconds.zone(node), time.floor_seconds()),
            };
            zone.map_or(Share::Some, |zone| Share::of(zone, comparison, value))
        };
        self.times.iter().map(share).min().unwrap_or(Share::All)
    }

    /// Whether an index narrows the rows at all.
    pub(in crate::memory) fn is_narrowed(&self) -> bool {
        !self.sets.is_empty() || self.states.is_some()
    }

    /// How many rows the indexes admit at most.
    pub(in crate::memory) fn at_most(&self, tables: &Tables) -> u64 {
        let all = tables.jobs.len() as u64;
        self.smallest().map_or(all, |set| set.len.min(all))
    }

    /// The smallest set; that of all selected rows, if there is one.
    fn smallest(&self) -> Option<&Set> {
        self.rows.get().or(self.sets.first())
    }

    /// The rows that the indexes admit; none for all.
    pub(in crate::memory) fn rows(&self, tables: &Tables) -> Option<&Arc<RoaringBitmap>> {
        self.is_narrowed().then(|| &self.rows.get_or_init(|| self.intersection(tables).into()).rows)
    }

    /// Gives the rows of a range that the indexes admit, ascending, without an intersection of
    /// all, and tells how many it had to look at.
    pub(super) fn visit(&self, tables: &Tables, range: Range<u32>, mut visit: impl FnMut(u32)) -> u64 {
        let range = range.start..range.end.min(tables.jobs.len() as u32);
        let (first, rest) = match (self.rows.get(), self.sets.split_first()) {
            (Some(rows), _) => (Some(rows), [].as_slice()),
            (None, Some((first, rest))) => (Some(first), rest),
            (None, None) => (None, [].as_slice()),
        };
        let states = self.states.filter(|_| self.rows.get().is_none());
        let admits = |row: u32| {
            rest.iter().all(|set| set.rows.contains(row))
                && states.is_none_or(|states| states.contains(tables.jobs.state(row)))
        };
        let mut looked_at = 0;
        let mut look = |row| {
            looked_at += 1;
            if admits(row) {
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
        looked_at
    }

    /// Whether a range has at most so many rows of the smallest set.
    pub(super) fn has_few(&self, range: Range<u32>, most: u64) -> bool {
        self.smallest().is_some_and(|set| set.rows.range_cardinality(range) <= most)
    }

    /// Whether an intersection of all sets costs less than looking up `rows` rows one by one.
    pub(super) fn intersection_pays(&self, tables: &Tables, rows: u64) -> bool {
        let second = match (self.rows.get(), self.sets.as_slice()) {
            (None, [_, second, ..]) => second.len,
            (None, [_]) if self.states.is_some() => tables.jobs.len() as u64 / STATES_SHARE,
            _ => return false,
        };
        rows.saturating_mul(LOOK_UP_COST) > self.at_most(tables) + second
    }

    /// Whether the indexes admit a row.
    pub(in crate::memory) fn admits(&self, tables: &Tables, row: u32) -> bool {
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
            // Joining the bitmaps of the states costs more than a look at each of a few rows.
            Some(states) if rows.len() <= TEST_STATES => {
                Arc::new(rows.into_iter().filter(|&row| states.contains(tables.jobs.state(row))).collect())
            }
            Some(states) => Arc::new(rows & tables.indexes.states.union(states)),
        }
    }
}
