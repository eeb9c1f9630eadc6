//! From a selection to rows: bitmap algebra for what an index answers, and one physical
//! expression for what remains.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use datafusion::error::Result as EngineResult;
use roaring::{MultiOps, RoaringBitmap};

use super::columns;
use super::residual::{CodeTest, Residual, ResidualBuilder};
use crate::memory::storage::{BitmapIndex, Dictionary, JobChunk, JobId, PostingList, Tables};
use crate::model::{JobState, StateSet};
use crate::query::{AnnotationTest, Comparison, IntegerTest, Predicate, Selection, TextField, TextTest, TimeField};
use crate::time::Timestamp;

/// Beyond this share of all rows, testing codes row by row is cheaper than joining their lists.
const UNION_SHARE: u64 = 16;
/// This few rows are always joined, and so are those of this few codes.
const UNION_ALWAYS_ROWS: u64 = 4096;
const UNION_ALWAYS_CODES: usize = 8;
/// With at most so many rows, their states are looked at one by one.
const TEST_STATES: u64 = 16_384;
/// A dictionary longer than this is not tested whole for a match of part of a text.
const TEST_WHOLE_DICTIONARY: usize = 1 << 16;

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

/// How a predicate is answered.
enum Answer {
    Everything,
    Rows(Arc<RoaringBitmap>),
    /// The rows in one of several states.
    States(StateSet),
    Codes(CodeTest),
    Expression,
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

fn answer(tables: &Tables, predicate: &Predicate) -> Answer {
    match predicate {
        Predicate::State(states) if *states == StateSet::ALL => Answer::Everything,
        Predicate::State(states) if states.len() == 1 => {
            let mut of_one = states.iter().map(|state| Arc::clone(tables.states.rows(state)));
            of_one.next().map_or(Answer::Everything, Answer::Rows)
        }
        Predicate::State(states) => Answer::States(*states),
        Predicate::Text(TextField::JobId, TextTest::Exact(id)) => Answer::Rows(by_ids(tables, &[id])),
        Predicate::Text(TextField::JobId, TextTest::AnyOf(ids)) => {
            Answer::Rows(by_ids(tables, &ids.iter().collect::<Vec<_>>()))
        }
        Predicate::Text(field, test) => match (tables.dictionary(*field), tables.latest_run_index(*field)) {
            (Some(texts), Some(index)) => by_codes(tables, texts, test, |codes| latest_run_rows(tables, index, codes)),
            (Some(texts), None) => by_codes(tables, texts, test, |codes| posted_rows(tables, texts, codes)),
            (None, _) => Answer::Expression,
        },
        Predicate::Annotation(key, test) => by_annotation(tables, key, test),
        Predicate::Integer(..) | Predicate::Time(..) => Answer::Expression,
    }
}

fn by_ids(tables: &Tables, ids: &[&String]) -> Arc<RoaringBitmap> {
    Arc::new(ids.iter().filter_map(|id| tables.job_row(&JobId::new(id)?)).collect())
}

/// The rows of some codes by their posting lists, if joining those pays.
fn posted_rows(tables: &Tables, dictionary: &Dictionary, codes: &[u32]) -> Option<Arc<RoaringBitmap>> {
    union_pays(tables, codes, || dictionary.count_rows(codes)).then(|| union(dictionary.rows_of(codes)))
}

/// The rows of some codes by the bitmaps of a field of the latest run, if joining those pays.
fn latest_run_rows(tables: &Tables, index: &BitmapIndex, codes: &[u32]) -> Option<Arc<RoaringBitmap>> {
    if let [code] = codes {
        return Some(index.rows(*code).map(Arc::clone).unwrap_or_default());
    }
    let bitmaps: Vec<&RoaringBitmap> = codes.iter().filter_map(|&code| index.rows(code)).map(Arc::as_ref).collect();
    let pays = union_pays(tables, codes, || bitmaps.iter().map(|rows| rows.len()).sum());
    pays.then(|| Arc::new(bitmaps.union()))
}

fn union_pays(tables: &Tables, codes: &[u32], rows: impl FnOnce() -> u64) -> bool {
    codes.len() <= UNION_ALWAYS_CODES || rows() <= UNION_ALWAYS_ROWS.max(tables.jobs.len() as u64 / UNION_SHARE)
}

fn union(mut lists: Vec<PostingList>) -> Arc<RoaringBitmap> {
    if lists.len() == 1
        && let Some(PostingList::Many(bitmap)) = lists.pop_if(|list| matches!(list, PostingList::Many(_)))
    {
        return bitmap;
    }
    let mut rows = RoaringBitmap::new();
    for list in &lists {
        list.add_to(&mut rows);
    }
    Arc::new(rows)
}

fn by_codes(
    tables: &Tables,
    dictionary: &Dictionary,
    test: &TextTest,
    rows: impl Fn(&[u32]) -> Option<Arc<RoaringBitmap>>,
) -> Answer {
    let codes = match test {
        TextTest::Exact(text) => dictionary.code(text).into_iter().collect(),
        TextTest::AnyOf(texts) => {
            let mut codes: Vec<u32> = texts.iter().filter_map(|text| dictionary.code(text)).collect();
            codes.sort_unstable();
            codes.dedup();
            codes
        }
        // A page rarely needs the answer for all of a long dictionary: test what it visits.
        _ if dictionary.len() > TEST_WHOLE_DICTIONARY && dictionary.len() > tables.jobs.len() / 8 => {
            return Answer::Codes(CodeTest::Text(dictionary.clone(), test.clone()));
        }
        TextTest::StartsWith(_) | TextTest::Contains(_) => dictionary.codes_where(|text| passes(test, text)),
    };
    match rows(&codes) {
        Some(rows) => Answer::Rows(rows),
        None => Answer::Codes(CodeTest::set(dictionary.len(), &codes)),
    }
}

fn by_annotation(tables: &Tables, key: &str, test: &AnnotationTest) -> Answer {
    let Some(code) = tables.annotations.keys.code(key) else {
        return Answer::Rows(Arc::default());
    };
    match test {
        AnnotationTest::Exists => Answer::Rows(union(tables.annotations.keys.rows_of(&[code]))),
        AnnotationTest::Value(test) => {
            let values = tables.annotations.values(code);
            by_codes(tables, values, test, |codes| posted_rows(tables, values, codes))
        }
    }
}

/// Whether a text passes a test.
pub(super) fn passes(test: &TextTest, text: &str) -> bool {
    match test {
        TextTest::Exact(value) => text == value,
        TextTest::AnyOf(values) => values.iter().any(|value| value == text),
        TextTest::StartsWith(start) => text.starts_with(start.as_str()),
        TextTest::Contains(part) => text.contains(part.as_str()),
    }
}

/// A predicate as EXPLAIN shows it.
pub(super) fn describe(predicate: &Predicate) -> String {
    let test = |name: &str, test: &TextTest| match test {
        TextTest::Exact(value) => format!("{name} = {value:?}"),
        TextTest::AnyOf(values) => format!("{name} in {values:?}"),
        TextTest::StartsWith(start) => format!("{name} starts with {start:?}"),
        TextTest::Contains(part) => format!("{name} contains {part:?}"),
    };
    match predicate {
        Predicate::Text(field, of) => test(columns::text_name(*field), of),
        Predicate::State(states) => {
            let names: Vec<_> = states.iter().map(JobState::name).collect();
            format!("state in [{}]", names.join(", "))
        }
        Predicate::Integer(field, IntegerTest::Compare(comparison, value)) => {
            format!("{} {comparison} {value}", columns::integer_name(*field))
        }
        Predicate::Integer(field, IntegerTest::AnyOf(values)) => {
            format!("{} in {values:?}", columns::integer_name(*field))
        }
        Predicate::Time(field, comparison, time) => {
            format!("{} {comparison} {time}", columns::time_name(*field))
        }
        Predicate::Annotation(key, AnnotationTest::Exists) => format!("annotation {key:?} exists"),
        Predicate::Annotation(key, AnnotationTest::Value(of)) => test(&format!("annotation {key:?}"), of),
    }
}
