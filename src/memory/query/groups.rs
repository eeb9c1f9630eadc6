//! Groups of jobs: one pass over codes into dense arrays.
//!
//! Every field that jobs can be grouped by is a dictionary, so a group is a code and its
//! aggregates are array entries ([`Totals`]). Names are made for the page alone.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::arrow::array::{Array, StringArray, UInt32Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::Result as EngineResult;

use super::columns::codes;
use super::rows::ChunkRows;
use super::select::Selected;
use super::totals::{All, Places, Totals};
use crate::memory::storage::{Dictionary, JobChunk, KeyColumn, Tables};
use crate::model::{JobState, StateSet};
use crate::query::{Aggregates, Direction, GroupBy, GroupOrder, GroupOrderKey, GroupQuery, TextField};

/// What is grouped by, with what names the groups.
///
/// The group of a code is one more than the code; 0 is the group of the rows without a text.
enum Key<'a> {
    /// Groups are the states' ordinals.
    State,
    Text(TextField, &'a Dictionary),
    /// Rows without the key are in no group.
    Annotation(u32, &'a Dictionary),
    /// An annotation key that no job has.
    Nothing,
}

fn group_of(code: u32) -> u32 {
    code + 1
}

impl<'a> Key<'a> {
    fn new(tables: &'a Tables, group_by: &GroupBy) -> Self {
        match group_by {
            GroupBy::State => Self::State,
            GroupBy::Text(field) => {
                tables.dictionaries.of(*field).map_or(Self::Nothing, |texts| Self::Text(*field, texts))
            }
            GroupBy::Annotation(key) => {
                let catalog = &tables.dictionaries.annotations;
                let code = catalog.keys.code(key);
                code.map_or(Self::Nothing, |key| Self::Annotation(key, catalog.values(key)))
            }
        }
    }

    /// How many groups there can be.
    fn groups(&self) -> usize {
        match self {
            Self::State => JobState::ALL.len() + 1,
            Self::Text(_, dictionary) | Self::Annotation(_, dictionary) => dictionary.len() + 1,
            Self::Nothing => 0,
        }
    }

    /// The first group that is one.
    fn first(&self) -> u32 {
        u32::from(matches!(self, Self::Annotation(..)))
    }

    fn name(&self, group: u32) -> &str {
        match self {
            Self::State => JobState::from_ordinal(group as u8).map_or("", JobState::name),
            Self::Text(_, dictionary) | Self::Annotation(_, dictionary) => {
                group.checked_sub(1).map_or("", |code| dictionary.text(code))
            }
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
    let mut totals = Totals::new(query.aggregates(), key.groups());
    // All rows are wanted, so the sets are best intersected once and for all.
    selected.rows(tables);
    for (at, chunk) in tables.jobs.chunks().iter().enumerate() {
        let rows = selected.chunk(tables, at)?;
        add_chunk(&mut totals, chunk, &key, &rows);
    }
    totals.finish();
    let mut groups: Vec<u32> = (key.first()..key.groups() as u32).filter(|&group| totals.count(group) > 0).collect();
    sort(&mut groups, &totals, &key, query.order(), limit.unwrap_or(usize::MAX));
    let mut columns = totals.columns(&groups);
    columns.insert(0, Arc::new(StringArray::from_iter_values(groups.iter().map(|&group| key.name(group)))));
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn add_chunk(totals: &mut Totals, chunk: &JobChunk, key: &Key<'_>, rows: &ChunkRows) {
    match key {
        Key::Nothing => {}
        Key::State => add_rows(totals, chunk, rows, chunk.state().values(), u32::from),
        Key::Text(field, _) => {
            if let Some(codes) = codes(chunk, *field) {
                add_codes(totals, chunk, rows, codes);
            }
        }
        Key::Annotation(key, _) => match (chunk.annotations.column(*key), rows) {
            (None, _) => {}
            (Some(KeyColumn::Dense(codes)), rows) => add_codes(totals, chunk, rows, codes),
            (Some(KeyColumn::Sparse { places, codes }), ChunkRows::All(_)) => {
                totals.add(chunk, places.as_slice(), codes.iter().copied().map(group_of));
            }
            (Some(column), rows) => {
                let places = rows.places();
                totals.add(
                    chunk,
                    places.as_slice(),
                    places.iter().map(|&at| column.get(usize::from(at)).map_or(0, group_of)),
                );
            }
        },
    }
}

fn add_codes(totals: &mut Totals, chunk: &JobChunk, rows: &ChunkRows, codes: &UInt32Array) {
    match codes.nulls() {
        None => add_rows(totals, chunk, rows, codes.values(), group_of),
        Some(nulls) => {
            let group = |(&code, valid): (&u32, bool)| if valid { group_of(code) } else { 0 };
            let groups: Vec<u32> = codes.values().iter().zip(nulls).map(group).collect();
            add_rows(totals, chunk, rows, &groups, |group| group);
        }
    }
}

fn add_rows<T: Copy>(totals: &mut Totals, chunk: &JobChunk, rows: &ChunkRows, values: &[T], group: impl Fn(T) -> u32) {
    match rows {
        ChunkRows::All(_) => totals.add(chunk, &All, All.values(values).map(group)),
        ChunkRows::Some(_) => {
            let places = rows.places();
            totals.add(chunk, places.as_slice(), places.values(values).map(group));
        }
    }
}

fn sort(groups: &mut Vec<u32>, totals: &Totals, key: &Key<'_>, order: Option<GroupOrder>, limit: usize) {
    let Some(GroupOrder { key: by, direction }) = order else {
        groups.truncate(limit);
        return;
    };
    let compare = |&a: &u32, &b: &u32| {
        let ascending = match by {
            GroupOrderKey::Count => totals.count(a).cmp(&totals.count(b)),
            GroupOrderKey::Name => key.compare_names(a, b),
            GroupOrderKey::Submitted => totals.submitted(a).cmp(&totals.submitted(b)),
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
