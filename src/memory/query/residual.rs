//! The residual predicate: the conditions without an index, which are tested on the candidate rows.

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{Int64Type, TimestampMicrosecondType, UInt32Type};
use datafusion::common::internal_err;
use datafusion::error::Result as EngineResult;
use foldhash::fast::RandomState;
use hashbrown::HashSet;

use super::describe::describe;
use super::rows::bits;
use crate::memory::storage::{AnnotationCatalog, Chunk, Dictionary, JobChunk, JobColumnIndex, JobId, Tables};
use crate::query::{Comparison, IntegerTest, Predicate, TextField, TextTest};

#[derive(Debug)]
pub(in crate::memory) struct Residual {
    first: Condition,
    others: Vec<Condition>,
    /// The conditions, for EXPLAIN.
    pub(in crate::memory) description: String,
}

impl Residual {
    pub(super) fn whole(&self, chunk: &JobChunk) -> BooleanBuffer {
        self.test(chunk, chunk.len(), |at| at)
    }

    /// Tests some rows of a chunk, given by their indices.
    pub(super) fn gather(&self, chunk: &JobChunk, indices: &[u32]) -> BooleanBuffer {
        self.test(chunk, indices.len(), |at| indices[at] as usize)
    }

    fn test(&self, chunk: &JobChunk, rows: usize, index: impl Fn(usize) -> usize) -> BooleanBuffer {
        let first = self.first.test(chunk, rows, &index);
        self.others.iter().fold(first, |passing, condition| &passing & &condition.test(chunk, rows, &index))
    }
}

/// A predicate on dictionary codes.
#[derive(Debug)]
pub(super) enum CodeTest {
    /// A bit per code, which is set if the value passes.
    Set(BooleanBuffer),
    /// Tests the value of each visited row, for large dictionaries.
    Text(Dictionary, TextTest),
}

impl CodeTest {
    /// A test that the given codes pass, out of `len` codes.
    pub(super) fn set(len: usize, codes: &[u32]) -> Self {
        Self::Set(bits(len, codes.iter().map(|&code| code as usize)))
    }

    fn passes(&self, code: u32) -> bool {
        match self {
            Self::Set(codes) => (code as usize) < codes.len() && codes.value(code as usize),
            Self::Text(dictionary, test) => test.holds(dictionary.text(code)),
        }
    }
}

#[derive(Debug)]
enum Condition {
    JobId(TextTest),
    Codes(JobColumnIndex, CodeTest),
    /// A test of the values of an annotation key; `None` for a key that no job has.
    Annotation(Option<(u32, AnnotationCatalog)>, CodeTest),
    Integer(JobColumnIndex, Comparison, i64),
    IntegerAnyOf(JobColumnIndex, HashSet<i64, RandomState>),
    Time(JobColumnIndex, Comparison, i64),
}

impl Condition {
    fn new(predicate: &Predicate) -> EngineResult<Self> {
        Ok(match predicate {
            Predicate::Integer(field, IntegerTest::Compare(comparison, value)) => {
                Self::Integer(stored(field.column())?, *comparison, *value)
            }
            Predicate::Integer(field, IntegerTest::AnyOf(values)) => {
                Self::IntegerAnyOf(stored(field.column())?, values.iter().copied().collect())
            }
            Predicate::Time(field, comparison, time) => {
                Self::Time(stored(field.column())?, *comparison, time.as_micros())
            }
            Predicate::Text(TextField::JobId, test) => Self::JobId(test.clone()),
            other => return internal_err!("an index answers {}", describe(other)),
        })
    }

    /// Tests `rows` rows of a chunk. A row with a null fails.
    fn test(&self, chunk: &JobChunk, rows: usize, index: impl Fn(usize) -> usize) -> BooleanBuffer {
        let column = |of: &JobColumnIndex| chunk.batch().column(*of as usize);
        match self {
            Self::JobId(test) => {
                let id = |at: usize| JobId::at(&chunk.cells.job_id, index(at));
                BooleanBuffer::collect_bool(rows, |at| test.holds(id(at).as_str()))
            }
            Self::Codes(of, test) => {
                let codes = column(of).as_primitive::<UInt32Type>();
                // The slot of a null may contain an invalid code.
                let passes = |at: usize| codes.is_valid(at) && test.passes(codes.value(at));
                BooleanBuffer::collect_bool(rows, |at| passes(index(at)))
            }
            Self::Annotation(key, test) => {
                let Some((key, catalog)) = key else { return BooleanBuffer::new_unset(rows) };
                let mut code = chunk.annotation(catalog, *key);
                BooleanBuffer::collect_bool(rows, |at| code(index(at)).is_some_and(|code| test.passes(code)))
            }
            Self::Integer(of, comparison, value) => {
                compare(column(of).as_primitive::<Int64Type>().values(), *comparison, *value, rows, index)
            }
            Self::IntegerAnyOf(of, accepted) => {
                let values = column(of).as_primitive::<Int64Type>().values();
                BooleanBuffer::collect_bool(rows, |at| accepted.contains(&values[index(at)]))
            }
            Self::Time(of, comparison, micros) => {
                let values = column(of).as_primitive::<TimestampMicrosecondType>().values();
                compare(values, *comparison, *micros, rows, index)
            }
        }
    }
}

/// Compares values. The operator is chosen outside of the loops, so that they are vectorised.
fn compare(
    values: &[i64],
    comparison: Comparison,
    value: i64,
    rows: usize,
    index: impl Fn(usize) -> usize,
) -> BooleanBuffer {
    match comparison {
        Comparison::Equal => BooleanBuffer::collect_bool(rows, |at| values[index(at)] == value),
        Comparison::Greater => BooleanBuffer::collect_bool(rows, |at| values[index(at)] > value),
        Comparison::GreaterOrEqual => BooleanBuffer::collect_bool(rows, |at| values[index(at)] >= value),
        Comparison::Less => BooleanBuffer::collect_bool(rows, |at| values[index(at)] < value),
        Comparison::LessOrEqual => BooleanBuffer::collect_bool(rows, |at| values[index(at)] <= value),
    }
}

fn stored(name: &str) -> EngineResult<JobColumnIndex> {
    match JobColumnIndex::named(name) {
        Some(column) => Ok(column),
        None => internal_err!("no column {name:?}"),
    }
}

/// Collects the conditions of a residual predicate.
#[derive(Default)]
pub(super) struct ResidualBuilder {
    conditions: Vec<Condition>,
    descriptions: Vec<String>,
}

impl ResidualBuilder {
    pub(super) fn codes(&mut self, tables: &Tables, predicate: &Predicate, test: CodeTest) -> EngineResult<()> {
        let condition = match predicate {
            Predicate::Annotation(key, _) => {
                let catalog = &tables.dictionaries.annotations;
                Condition::Annotation(catalog.keys.code(key).map(|key| (key, catalog.clone())), test)
            }
            Predicate::Text(field, _) => Condition::Codes(stored(field.column())?, test),
            other => return internal_err!("{} is not a test of codes", describe(other)),
        };
        self.push(predicate, condition);
        Ok(())
    }

    /// Adds a predicate on an id, an integer or a time.
    pub(super) fn values(&mut self, predicate: &Predicate) -> EngineResult<()> {
        self.push(predicate, Condition::new(predicate)?);
        Ok(())
    }

    fn push(&mut self, predicate: &Predicate, condition: Condition) {
        self.descriptions.push(describe(predicate));
        self.conditions.push(condition);
    }

    /// The conjunction of the conditions; `None` without conditions.
    pub(super) fn build(self) -> Option<Residual> {
        let mut conditions = self.conditions.into_iter();
        let first = conditions.next()?;
        Some(Residual { first, others: conditions.collect(), description: self.descriptions.join(" and ") })
    }
}
