//! From a selection to rows: bitmap algebra for what an index answers, and one physical
//! expression for what remains.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use datafusion::error::Result as EngineResult;
use roaring::RoaringBitmap;

use super::answer::{Answer, answer, describe};
use super::residual::{Residual, ResidualBuilder};
use crate::memory::storage::{JobChunk, Tables};
use crate::model::StateSet;
use crate::query::{Comparison, Predicate, Selection, TimeField};
use crate::time::Timestamp;

/// With at most so many rows, their states are looked at one by one.
const TEST_STATES: u64 = 16_384;

/// The rows that a selection admits.
///
/// The sets are not intersected at once. A page that ends early looks at a few blocks, and there
/// it costs less to take the rows of the smallest set and look each up in the others; at ten
/// million jobs an intersection would be most of the page.
#[derive(Debug)]
pub(in crate::memory) struct Selected {
    /// A row must be in each of these, the smallest first. They may hold rows that are newer
    /// than the snapshot.
    sets: Vec<Arc<RoaringBitmap>>,
    /// And in one of these states, where that is no set.
    states: Option<StateSet>,
    /// The rows that all of this admits, once someone needed them.
    rows: OnceLock<Arc<RoaringBitmap>>,
    /// What they must pass besides.
    pub(in crate::memory) residual: Option<Residual>,
    /// The index look-ups, for EXPLAIN.
    index: Vec<String>,
    /// The conditions on times, which the residual has too: by zones they rule out whole chunks.
    times: Vec<(TimeField, Comparison, Timestamp)>,
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
        let mut residual = ResidualBuilder::default();
        if selection.active_job_sets() {
            index.push("active job sets".to_owned());
            sets.push(Arc::clone(&tables.active_job_sets));
        }
        for predicate in selection.predicates() {
            match answer(tables, predicate) {
                Answer::Everything => continue,
                Answer::Rows(rows) => sets.push(rows),
                Answer::States(of) => states = Some(of),
                Answer::Codes(test) => {
                    residual.codes(tables, predicate, test);
                    continue;
                }
                Answer::Expression => {
                    if let Predicate::Time(field, comparison, time) = predicate {
                        times.push((*field, *comparison, *time));
                    }
                    residual.expression(predicate)?;
                    continue;
                }
            }
            index.push(describe(predicate));
        }
        sets.sort_by_key(|rows| rows.len());
        Ok(Self { sets, states, rows: OnceLock::new(), residual: residual.build()?, index, times })
    }

    /// Whether a chunk can hold a selected row, by its zones.
    pub(in crate::memory) fn may_hold(&self, chunk: &JobChunk) -> bool {
        self.times.iter().all(|&(field, comparison, time)| {
            let (zone, value) = match field {
                TimeField::Submitted => (chunk.submitted_zones.whole(), time.as_micros()),
                TimeField::LastTransitionTime => (chunk.last_transition_seconds_zones.whole(), time.floor_seconds()),
            };
            // Bounds of whole seconds say nothing about parts of a second, so equality is always let through.
            zone.is_some_and(|zone| match comparison {
                Comparison::Equal => zone.min <= value && value <= zone.max,
                Comparison::Greater | Comparison::GreaterOrEqual => value <= zone.max,
                Comparison::Less | Comparison::LessOrEqual => zone.min <= value,
            })
        })
    }

    /// Whether an index narrows the rows at all.
    pub(in crate::memory) fn is_narrowed(&self) -> bool {
        !self.sets.is_empty() || self.states.is_some()
    }

    /// How many rows the indexes admit at most.
    pub(in crate::memory) fn at_most(&self, tables: &Tables) -> u64 {
        let all = tables.jobs.len() as u64;
        self.rows.get().or(self.sets.first()).map_or(all, |rows| rows.len().min(all))
    }

    /// The rows that the indexes admit; none for all.
    pub(in crate::memory) fn rows(&self, tables: &Tables) -> Option<&Arc<RoaringBitmap>> {
        self.is_narrowed().then(|| self.rows.get_or_init(|| self.intersection(tables)))
    }

    /// The rows of a range that the indexes admit, ascending, without an intersection of all.
    pub(in crate::memory) fn range<'a>(
        &'a self,
        tables: &'a Tables,
        range: Range<u32>,
    ) -> Box<dyn Iterator<Item = u32> + 'a> {
        let range = range.start..range.end.min(tables.jobs.len() as u32);
        match (self.rows.get(), self.sets.as_slice()) {
            (Some(rows), _) => Box::new(rows.range(range)),
            (None, []) => Box::new(range.filter(|&row| self.is_in_states(tables, row))),
            (None, [first, rest @ ..]) => Box::new(
                first
                    .range(range)
                    .filter(move |&row| rest.iter().all(|set| set.contains(row)) && self.is_in_states(tables, row)),
            ),
        }
    }

    /// Whether the indexes admit a row.
    pub(in crate::memory) fn admits(&self, tables: &Tables, row: u32) -> bool {
        match self.rows.get() {
            Some(rows) => rows.contains(row),
            None => self.sets.iter().all(|set| set.contains(row)) && self.is_in_states(tables, row),
        }
    }

    fn is_in_states(&self, tables: &Tables, row: u32) -> bool {
        self.states.is_none_or(|states| states.contains(tables.state(row)))
    }

    fn intersection(&self, tables: &Tables) -> Arc<RoaringBitmap> {
        let len = tables.jobs.len() as u32;
        let is_newer = |rows: &RoaringBitmap| rows.max().is_some_and(|last| last >= len);
        let mut rows = match self.sets.as_slice() {
            [] => return Arc::new(self.states.map_or_else(RoaringBitmap::new, |states| tables.states.union(states))),
            [only] if self.states.is_none() && !is_newer(only) => return Arc::clone(only),
            [only] => only.as_ref().clone(),
            [first, second, rest @ ..] => {
                rest.iter().fold(first.as_ref() & second.as_ref(), |rows, more| rows & more.as_ref())
            }
        };
        rows.remove_range(len..);
        match self.states {
            None => Arc::new(rows),
            // Joining the bitmaps of the states costs more than a look at each of a few rows.
            Some(states) if rows.len() <= TEST_STATES => {
                Arc::new(rows.into_iter().filter(|&row| states.contains(tables.state(row))).collect())
            }
            Some(states) => Arc::new(rows & tables.states.union(states)),
        }
    }
}
