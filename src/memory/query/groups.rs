//! Groups of jobs: one pass over codes into dense arrays.
//!
//! Every field that jobs can be grouped by is a dictionary, so a group is a code and its
//! aggregates are an array entry. Names are made for the page alone.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StringArray, TimestampMicrosecondArray, TimestampSecondArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::Result as EngineResult;

use super::columns::codes;
use super::rows::ChunkRows;
use super::select::Selected;
use crate::memory::storage::{Dictionary, JobChunk, KeyColumn, NONE, Tables};
use crate::model::{JobState, StateSet};
use crate::query::{Aggregates, Direction, GroupBy, GroupOrder, GroupOrderKey, GroupQuery, TextField, TimeAggregate};

/// Counters of a group: one an ordinal, in a power of two so that the index is a shift.
const STATE_SLOTS: usize = 16;

/// What is grouped by, with what names the groups.
enum Key<'a> {
    State,
    /// The last group is that of the rows without a text.
    Text(TextField, &'a Dictionary),
    Annotation(u32, &'a Dictionary),
    /// An annotation key that no job has.
    Nothing,
}

impl<'a> Key<'a> {
    fn new(tables: &'a Tables, group_by: &GroupBy) -> Self {
        match group_by {
            GroupBy::State => Self::State,
            GroupBy::Text(field) => tables.dictionary(*field).map_or(Self::Nothing, |texts| Self::Text(*field, texts)),
            GroupBy::Annotation(key) => tables
                .annotations
                .keys
                .code(key)
                .map_or(Self::Nothing, |key| Self::Annotation(key, tables.annotations.values(key))),
        }
    }

    /// How many groups there can be.
    fn groups(&self) -> usize {
        match self {
            Self::State => STATE_SLOTS,
            Self::Text(_, dictionary) => dictionary.len() + 1,
            Self::Annotation(_, dictionary) => dictionary.len(),
            Self::Nothing => 0,
        }
    }

    fn name(&self, group: u32) -> &str {
        match self {
            Self::State => JobState::from_ordinal(group as u8).map_or("", JobState::name),
            Self::Text(_, dictionary) if group as usize == dictionary.len() => "",
            Self::Text(_, dictionary) | Self::Annotation(_, dictionary) => dictionary.text(group),
            Self::Nothing => "",
        }
    }

    /// By name; states by ordinal, which is their group.
    fn compare_names(&self, a: u32, b: u32) -> Ordering {
        match self {
            Self::State => a.cmp(&b),
            _ => self.name(a).cmp(self.name(b)),
        }
    }
}

/// The aggregates of all groups, an array each; empty where not asked for.
struct Accumulators {
    wanted: Aggregates,
    /// Jobs, by group; counted here when states are not.
    counts: Vec<u32>,
    /// Jobs, by group and state.
    states: Vec<u32>,
    submitted: Vec<i64>,
    /// Whole seconds: a sum, or the least or the greatest.
    last_transition: Vec<i64>,
}

impl Accumulators {
    fn new(wanted: Aggregates, groups: usize) -> Self {
        let initial = match wanted.last_transition_time() {
            None | Some(TimeAggregate::Average) => 0,
            Some(TimeAggregate::Earliest) => i64::MAX,
            Some(TimeAggregate::Latest) => i64::MIN,
        };
        let array = |wanted: bool, len: usize| if wanted { len } else { 0 };
        Self {
            wanted,
            counts: vec![0; groups],
            states: vec![0; array(wanted.states().is_some(), groups * STATE_SLOTS)],
            submitted: vec![i64::MAX; array(wanted.submitted(), groups)],
            last_transition: vec![initial; array(wanted.last_transition_time().is_some(), groups)],
        }
    }

    /// Adds rows of a chunk: their places and their groups.
    fn add(&mut self, chunk: &JobChunk, rows: impl Iterator<Item = (usize, u32)> + Clone) {
        if self.wanted.states().is_some() {
            let states = chunk.state.as_slice();
            for (at, group) in rows.clone() {
                self.states[group as usize * STATE_SLOTS + usize::from(states[at]) % STATE_SLOTS] += 1;
            }
        } else {
            for (_, group) in rows.clone() {
                self.counts[group as usize] += 1;
            }
        }
        if self.wanted.submitted() {
            fold(&mut self.submitted, chunk.submitted.as_slice(), rows.clone(), i64::min);
        }
        let seconds = chunk.last_transition_seconds.as_slice();
        match self.wanted.last_transition_time() {
            None => {}
            Some(TimeAggregate::Average) => fold(&mut self.last_transition, seconds, rows, |sum, time| sum + time),
            Some(TimeAggregate::Earliest) => fold(&mut self.last_transition, seconds, rows, i64::min),
            Some(TimeAggregate::Latest) => fold(&mut self.last_transition, seconds, rows, i64::max),
        }
    }

    /// Counts the jobs of each group from its states.
    fn finish(&mut self) {
        if self.wanted.states().is_some() {
            for (count, states) in self.counts.iter_mut().zip(self.states.chunks_exact(STATE_SLOTS)) {
                *count = states.iter().sum();
            }
        }
    }

    /// The aggregated transition time of a group, in whole seconds.
    fn last_transition(&self, group: u32) -> i64 {
        let value = self.last_transition[group as usize];
        match self.wanted.last_transition_time() {
            Some(TimeAggregate::Average) => rounded(value, i64::from(self.counts[group as usize])),
            _ => value,
        }
    }

    /// The columns of some groups, in the order of [`schema`].
    fn columns(&self, key: &Key<'_>, groups: &[u32]) -> Vec<ArrayRef> {
        let counts = groups.iter().map(|&group| u64::from(self.counts[group as usize]));
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(groups.iter().map(|&group| key.name(group)))),
            Arc::new(UInt64Array::from_iter_values(counts)),
        ];
        for state in self.wanted.states().into_iter().flat_map(StateSet::iter) {
            let slot =
                |&group: &u32| u64::from(self.states[group as usize * STATE_SLOTS + usize::from(state.ordinal())]);
            columns.push(Arc::new(UInt64Array::from_iter_values(groups.iter().map(slot))));
        }
        if self.wanted.submitted() {
            let times = groups.iter().map(|&group| self.submitted[group as usize]);
            columns.push(Arc::new(TimestampMicrosecondArray::from_iter_values(times)));
        }
        if self.wanted.last_transition_time().is_some() {
            let times = groups.iter().map(|&group| self.last_transition(group));
            columns.push(Arc::new(TimestampSecondArray::from_iter_values(times)));
        }
        columns
    }

    /// Compares the aggregated transition times of two groups, averages before they are rounded.
    fn compare_last_transitions(&self, a: u32, b: u32) -> Ordering {
        let (left, right) = (self.last_transition[a as usize], self.last_transition[b as usize]);
        match self.wanted.last_transition_time() {
            Some(TimeAggregate::Average) => {
                let (left_count, right_count) = (self.counts[a as usize], self.counts[b as usize]);
                (i128::from(left) * i128::from(right_count)).cmp(&(i128::from(right) * i128::from(left_count)))
            }
            _ => left.cmp(&right),
        }
    }
}

/// Folds values into the entries of their groups.
fn fold(entries: &mut [i64], values: &[i64], rows: impl Iterator<Item = (usize, u32)>, fold: impl Fn(i64, i64) -> i64) {
    for (at, group) in rows {
        let entry = &mut entries[group as usize];
        *entry = fold(*entry, values[at]);
    }
}

/// `sum / count`, rounded half away from zero.
fn rounded(sum: i64, count: i64) -> i64 {
    let half = if sum < 0 { -(count / 2) } else { count / 2 };
    (sum + half) / count.max(1)
}

/// The columns of a batch of groups: name, count, a count for each state asked for, then the
/// earliest submission and the transition time if asked for.
pub(in crate::memory) fn schema(aggregates: Aggregates) -> Schema {
    let mut fields = vec![Field::new("name", DataType::Utf8, false), Field::new("count", DataType::UInt64, false)];
    let states = aggregates.states().into_iter().flat_map(StateSet::iter);
    fields.extend(states.map(|state| Field::new(state.name(), DataType::UInt64, false)));
    if aggregates.submitted() {
        fields.push(Field::new("submitted", DataType::Timestamp(TimeUnit::Microsecond, None), false));
    }
    if aggregates.last_transition_time().is_some() {
        fields.push(Field::new("last_transition_time", DataType::Timestamp(TimeUnit::Second, None), false));
    }
    Schema::new(fields)
}

/// The groups that a query asks for, in its order, at most `limit` of them (all, without one).
pub(in crate::memory) fn batch(
    tables: &Tables,
    selected: &Selected,
    query: &GroupQuery,
    limit: Option<usize>,
    schema: SchemaRef,
) -> EngineResult<RecordBatch> {
    let key = Key::new(tables, query.group_by());
    let mut totals = Accumulators::new(query.aggregates(), key.groups());
    // All rows are wanted, so the sets are best intersected once and for all.
    selected.rows(tables);
    for (at, chunk) in tables.jobs.chunks().iter().enumerate() {
        let rows = selected.chunk(tables, at)?;
        add_chunk(&mut totals, chunk, &key, &rows);
    }
    totals.finish();
    let mut groups: Vec<u32> = (0..totals.counts.len() as u32).filter(|&at| totals.counts[at as usize] > 0).collect();
    sort(&mut groups, &totals, &key, query.order(), limit.unwrap_or(usize::MAX));
    Ok(RecordBatch::try_new(schema, totals.columns(&key, &groups))?)
}

fn add_chunk(totals: &mut Accumulators, chunk: &JobChunk, key: &Key<'_>, rows: &ChunkRows) {
    match key {
        Key::Nothing => {}
        Key::State => {
            let states = chunk.state.as_slice();
            add_rows(totals, chunk, rows, |at| u32::from(states[at]) % STATE_SLOTS as u32);
        }
        Key::Text(field, dictionary) => {
            // A code beyond the dictionary is that of nothing, and its group the last one.
            let last = dictionary.len() as u32;
            if let Some(codes) = codes(chunk, *field).map(|column| column.as_slice()) {
                add_rows(totals, chunk, rows, |at| codes[at].min(last));
            }
        }
        Key::Annotation(key, _) => match (chunk.annotations.column(*key), rows) {
            (None, _) => {}
            (Some(KeyColumn::Sparse { places, codes }), ChunkRows::All(_)) => {
                totals.add(chunk, places.iter().map(|&at| usize::from(at)).zip(codes.iter().copied()));
            }
            (Some(KeyColumn::Dense(codes)), ChunkRows::All(_)) => {
                totals.add(chunk, codes.iter().copied().enumerate().filter(|&(_, code)| code != NONE));
            }
            (Some(column), rows) => {
                let held = rows.iter().map(|at| (at, column.get(at))).filter(|&(_, code)| code != NONE);
                totals.add(chunk, held.collect::<Vec<_>>().into_iter());
            }
        },
    }
}

fn add_rows(totals: &mut Accumulators, chunk: &JobChunk, rows: &ChunkRows, group: impl Fn(usize) -> u32 + Copy) {
    match rows {
        ChunkRows::All(len) => totals.add(chunk, (0..*len).map(|at| (at, group(at)))),
        ChunkRows::Some(_) => {
            let places: Vec<(usize, u32)> = rows.iter().map(|at| (at, group(at))).collect();
            totals.add(chunk, places.into_iter());
        }
    }
}

fn sort(groups: &mut Vec<u32>, totals: &Accumulators, key: &Key<'_>, order: Option<GroupOrder>, limit: usize) {
    let Some(GroupOrder { key: by, direction }) = order else {
        groups.truncate(limit);
        return;
    };
    let compare = |&a: &u32, &b: &u32| {
        let ascending = match by {
            GroupOrderKey::Count => totals.counts[a as usize].cmp(&totals.counts[b as usize]),
            GroupOrderKey::Name => key.compare_names(a, b),
            GroupOrderKey::Submitted => totals.submitted[a as usize].cmp(&totals.submitted[b as usize]),
            GroupOrderKey::LastTransitionTime => totals.compare_last_transitions(a, b),
        };
        match direction {
            Direction::Ascending => ascending,
            Direction::Descending => ascending.reverse(),
        }
    };
    if limit < groups.len() {
        groups.select_nth_unstable_by(limit, compare);
        groups.truncate(limit);
    }
    groups.sort_unstable_by(compare);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_round_half_away_from_zero() {
        assert_eq!(rounded(5, 2), 3);
        assert_eq!(rounded(-5, 2), -3);
        assert_eq!(rounded(7, 3), 2);
        assert_eq!(rounded(8, 3), 3);
        assert_eq!(rounded(-7, 3), -2);
        assert_eq!(rounded(-8, 3), -3);
        assert_eq!(rounded(0, 1), 0);
    }
}
