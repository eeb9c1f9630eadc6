//! How each condition of a selection is answered: by an index, or row by row.

use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use roaring::{MultiOps, RoaringBitmap};

use super::code_test::{CodeTest, passes};
use crate::memory::storage::{BitmapIndex, Dictionary, JobId, ListedRows, PostingList, Tables};
use crate::model::StateSet;
use crate::query::{AnnotationTest, Comparison, IntegerField, IntegerTest, Predicate, TextField, TextTest};

/// Beyond this share of all rows, testing codes row by row is cheaper than joining their lists.
const UNION_SHARE: u64 = 16;
/// This few rows are always joined, and so are those of this few codes.
const UNION_ALWAYS_ROWS: u64 = 4096;
const UNION_ALWAYS_CODES: usize = 8;
/// With more rows than this within a range of priorities, a page finds its rows sooner by
/// comparing those it visits.
const RANGE_ROWS: u64 = 16_384;
/// A dictionary longer than this is not tested whole for a match of part of a text.
const TEST_WHOLE_DICTIONARY: usize = 1 << 16;

/// A dictionary longer than this is tested rather than put in order.
const ORDER_DICTIONARY: usize = 1 << 18;

/// How a predicate is answered.
pub(super) enum Answer {
    Everything,
    Rows(Arc<RoaringBitmap>),
    /// The rows in one of several states.
    States(StateSet),
    Codes(CodeTest),
    Expression,
}

/// How a predicate is best answered.
pub(super) fn answer(tables: &Tables, predicate: &Predicate) -> Answer {
    match predicate {
        Predicate::State(states) if *states == StateSet::ALL => Answer::Everything,
        Predicate::State(states) if states.len() == 1 => {
            let mut of_one = states.iter().map(|state| Arc::clone(tables.indexes.states.rows(state)));
            of_one.next().map_or(Answer::Everything, Answer::Rows)
        }
        Predicate::State(states) => Answer::States(*states),
        Predicate::Text(TextField::JobId, TextTest::Exact(id)) => Answer::Rows(by_ids(tables, &[id])),
        Predicate::Text(TextField::JobId, TextTest::AnyOf(ids)) => {
            Answer::Rows(by_ids(tables, &ids.iter().collect::<Vec<_>>()))
        }
        Predicate::Text(field, test) => match (tables.dictionaries.of(*field), tables.indexes.of_latest_run(*field)) {
            (Some(texts), Some(index)) => by_codes(tables, texts, test, |codes| latest_run_rows(tables, index, codes)),
            (Some(texts), None) => by_codes(tables, texts, test, |codes| posted_rows(tables, texts, codes)),
            (None, _) => Answer::Expression,
        },
        Predicate::Annotation(key, test) => by_annotation(tables, key, test),
        Predicate::Integer(IntegerField::Priority, test) => by_priority(tables, test),
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
    // In their order rows go into a bitmap many times as fast as to and fro.
    let (many, few): (Vec<_>, Vec<_>) = lists.into_iter().partition(|list| matches!(list, PostingList::Many(_)));
    let mut rows: Vec<u32> = few.iter().flat_map(PostingList::iter).collect();
    rows.sort();
    rows.dedup();
    // They do ascend, so all are taken.
    let mut union = RoaringBitmap::new();
    let _ = union.append(rows);
    many.iter().for_each(|list| list.add_to(&mut union));
    Arc::new(union)
}

fn by_codes(
    tables: &Tables,
    dictionary: &Dictionary,
    test: &TextTest,
    rows: impl Fn(&[u32]) -> Option<Arc<RoaringBitmap>>,
) -> Answer {
    let by_ngrams = match test {
        TextTest::Contains(part) => dictionary.few_containing(part, TEST_WHOLE_DICTIONARY),
        _ => None,
    };
    let codes = match (by_ngrams, test) {
        (Some(codes), _) => codes,
        (None, TextTest::Exact(text)) => dictionary.code(text).into_iter().collect(),
        (None, TextTest::AnyOf(texts)) => {
            let mut codes: Vec<u32> = texts.iter().filter_map(|text| dictionary.code(text)).collect();
            codes.sort_unstable();
            codes.dedup();
            codes
        }
        // A page rarely needs the answer for all of a long dictionary: test what it visits.
        _ if dictionary.len() > TEST_WHOLE_DICTIONARY && dictionary.len() > tables.jobs.len() / 8 => {
            return Answer::Codes(CodeTest::Text(dictionary.clone(), test.clone()));
        }
        (None, TextTest::StartsWith(start)) if dictionary.len() <= ORDER_DICTIONARY => {
            dictionary.codes_starting_with(start)
        }
        (None, TextTest::StartsWith(_)) => dictionary.codes_where(|text| passes(test, text)),
        (None, TextTest::Contains(part)) => dictionary.codes_containing(part),
    };
    match rows(&codes) {
        Some(rows) => Answer::Rows(rows),
        None => Answer::Codes(CodeTest::set(dictionary.len(), &codes)),
    }
}

fn by_priority(tables: &Tables, test: &IntegerTest) -> Answer {
    let index = &tables.indexes.priorities;
    let listed = match test {
        IntegerTest::Compare(Comparison::Equal, value) => Some(index.rows_of(&[*value])),
        IntegerTest::Compare(Comparison::Greater, value) => {
            index.rows_within((Excluded(*value), Unbounded), RANGE_ROWS)
        }
        IntegerTest::Compare(Comparison::GreaterOrEqual, value) => index.rows_within(value.., RANGE_ROWS),
        IntegerTest::Compare(Comparison::Less, value) => index.rows_within(..value, RANGE_ROWS),
        IntegerTest::Compare(Comparison::LessOrEqual, value) => index.rows_within(..=value, RANGE_ROWS),
        IntegerTest::AnyOf(values) if values.len() <= UNION_ALWAYS_CODES => Some(index.rows_of(values)),
        IntegerTest::AnyOf(_) => None,
    };
    listed.map_or(Answer::Expression, |listed| Answer::Rows(with_priority(tables, listed, test)))
}

/// Those of some listed rows whose priority in this snapshot passes, and those not listed yet.
fn with_priority(tables: &Tables, listed: ListedRows, test: &IntegerTest) -> Arc<RoaringBitmap> {
    let known = tables.jobs.len() as u32;
    let passes = |row: u32| {
        let (chunk, at) = tables.jobs.locate(row);
        test.holds(chunk.priority().value(at))
    };
    let mut rows = union(listed.lists);
    if !rows.is_disjoint(&listed.changed) {
        let changed = rows.as_ref() & listed.changed.as_ref();
        let others: RoaringBitmap = changed.into_iter().filter(|&row| row >= known || !passes(row)).collect();
        *Arc::make_mut(&mut rows) -= others;
    }
    let mut new = (listed.end..known).filter(|&row| passes(row)).peekable();
    if new.peek().is_some() {
        Arc::make_mut(&mut rows).extend(new);
    }
    rows
}

fn by_annotation(tables: &Tables, key: &str, test: &AnnotationTest) -> Answer {
    let Some(code) = tables.dictionaries.annotations.keys.code(key) else {
        return Answer::Rows(Arc::default());
    };
    match test {
        AnnotationTest::Exists => Answer::Rows(union(tables.dictionaries.annotations.keys.rows_of(&[code]))),
        AnnotationTest::Value(test) => {
            let values = tables.dictionaries.annotations.values(code);
            by_codes(tables, values, test, |codes| posted_rows(tables, values, codes))
        }
    }
}
