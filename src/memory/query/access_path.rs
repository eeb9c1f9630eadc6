//! The access path of a predicate: an index, or a test of each visited row.

use std::ops::Bound::{Excluded, Unbounded};

use memchr::memmem::Finder;

use super::budget::{consume_budget, consume_budget_for};
use super::residual::CodeTest;
use super::text_index::{index_trigrams, text_order};
use crate::memory::cost;
use crate::memory::storage::{
    BitmapIndex, Dictionary, JobId, ListedRows, LocatedRows, PostingList, RowSet, Tables, first_row, locate,
};
use crate::model::StateSet;
use crate::query::{AnnotationTest, Comparison, IntegerField, IntegerTest, Predicate, TextField, TextTest};

/// The number of ids or values that are looked up per unit of budget.
const LOOKUPS_PER_UNIT: usize = 128;
/// The number of dictionary values that are tested per unit of budget.
const TEXTS_PER_UNIT: u32 = 2048;
/// The number of posting lists that are merged per unit of budget.
const CODES_PER_UNIT: usize = 256;
/// The number of changed rows whose priorities are read in one call.
const ROWS_AT_A_TIME: usize = 1024;

pub(super) enum AccessPath {
    Everything,
    Rows(RowSet),
    /// The rows in any of a set of states.
    States(StateSet),
    /// A test of the dictionary codes of the visited rows.
    Codes(CodeTest),
    /// A test of the values of the visited rows.
    Values,
}

pub(super) async fn access_path(tables: &Tables, predicate: &Predicate) -> AccessPath {
    match predicate {
        Predicate::State(states) if *states == StateSet::ALL && !tables.has_unknown_states() => AccessPath::Everything,
        Predicate::State(states) if states.len() == 1 => {
            let mut of_one = states.iter().filter_map(|state| tables.indexes.states.rows(state.ordinal().into()));
            AccessPath::Rows(of_one.next().cloned().unwrap_or_default())
        }
        Predicate::State(states) => AccessPath::States(*states),
        Predicate::Text(TextField::JobId, TextTest::Exact(id)) => {
            AccessPath::Rows(by_ids(tables, std::slice::from_ref(id)).await)
        }
        Predicate::Text(TextField::JobId, TextTest::AnyOf(ids)) => AccessPath::Rows(by_ids(tables, ids).await),
        Predicate::Text(field, test) => {
            match (tables.dictionaries.of(field.column()), tables.indexes.of_latest_run(*field)) {
                (Some(texts), Some(index)) => {
                    by_codes(tables, texts, test, |codes| latest_run_rows(tables, index, codes)).await
                }
                (Some(texts), None) => by_codes(tables, texts, test, |codes| posted_rows(tables, texts, codes)).await,
                (None, _) => AccessPath::Values,
            }
        }
        Predicate::Annotation(key, test) => by_annotation(tables, key, test).await,
        Predicate::Integer(IntegerField::Priority, test) => by_priority(tables, test),
        Predicate::Integer(..) | Predicate::Time(..) => AccessPath::Values,
    }
}

async fn by_ids(tables: &Tables, ids: &[String]) -> RowSet {
    let mut rows = RowSet::default();
    for ids in ids.chunks(LOOKUPS_PER_UNIT) {
        consume_budget().await;
        ids.iter().filter_map(|id| tables.job_row(&JobId::new(id)?)).for_each(|row| rows.insert(row));
    }
    rows
}

/// The union of the posting lists of codes, if its cost is low enough.
fn posted_rows(tables: &Tables, dictionary: &Dictionary, codes: &[u32]) -> Option<RowSet> {
    union_pays(tables, codes, || dictionary.count_rows(codes)).then(|| PostingList::union(dictionary.rows_of(codes)))
}

/// The union of the rows of codes in the bitmap index of a latest-run field, if its cost is low enough.
fn latest_run_rows(tables: &Tables, index: &BitmapIndex, codes: &[u32]) -> Option<RowSet> {
    let sets = codes.iter().filter_map(|&code| index.rows(code));
    let pays = union_pays(tables, codes, || sets.clone().map(RowSet::len).sum());
    pays.then(|| RowSet::union(sets))
}

fn union_pays(tables: &Tables, codes: &[u32], rows: impl FnOnce() -> u64) -> bool {
    codes.len() <= cost::UNION_MAX_CODES
        || rows() <= cost::UNION_MAX_ROWS.max(tables.jobs.len() as u64 / cost::UNION_SHARE)
}

async fn by_codes(
    tables: &Tables,
    dictionary: &Dictionary,
    test: &TextTest,
    rows: impl Fn(&[u32]) -> Option<RowSet>,
) -> AccessPath {
    let max = cost::DICTIONARY_SCAN_MAX_TEXTS.max(dictionary.len() / cost::NGRAM_SHARE);
    let by_ngrams = match test {
        TextTest::Contains(part) => {
            index_trigrams(tables, dictionary);
            dictionary.codes_containing(part, max)
        }
        _ => None,
    };
    let codes = match (by_ngrams, test) {
        (Some(codes), _) => codes,
        (None, TextTest::Exact(text)) => dictionary.code(text).into_iter().collect(),
        (None, TextTest::AnyOf(texts)) => {
            let mut codes: Vec<u32> = Vec::new();
            for texts in texts.chunks(LOOKUPS_PER_UNIT) {
                consume_budget().await;
                codes.extend(texts.iter().filter_map(|text| dictionary.code(text)));
            }
            codes.sort_unstable();
            codes.dedup();
            codes
        }
        // A page visits few values of a large dictionary, so only these are tested.
        _ if dictionary.len() > cost::DICTIONARY_SCAN_MAX_TEXTS
            && dictionary.len() > tables.jobs.len() / cost::DICTIONARY_SCAN_SHARE =>
        {
            return AccessPath::Codes(CodeTest::Text(dictionary.clone(), test.clone()));
        }
        (None, TextTest::StartsWith(start)) if dictionary.len() <= cost::DICTIONARY_SORT_MAX_TEXTS => {
            text_order(tables, dictionary).await;
            dictionary.codes_starting_with(start)
        }
        (None, TextTest::StartsWith(start)) => search(dictionary, |text| text.starts_with(start.as_str())).await,
        (None, TextTest::Contains(part)) => {
            let part = Finder::new(part);
            search(dictionary, |text| part.find(text.as_bytes()).is_some()).await
        }
    };
    consume_budget_for(codes.len(), CODES_PER_UNIT).await;
    match rows(&codes) {
        Some(rows) => AccessPath::Rows(rows),
        None => AccessPath::Codes(CodeTest::set(dictionary.len(), &codes)),
    }
}

/// The codes of the values that pass a test, ascending.
async fn search(dictionary: &Dictionary, test: impl Fn(&str) -> bool + Send + Sync) -> Vec<u32> {
    let mut codes = Vec::new();
    let end = dictionary.len() as u32;
    for start in (0..end).step_by(TEXTS_PER_UNIT as usize) {
        consume_budget().await;
        codes.extend(dictionary.codes_where(start..end.min(start + TEXTS_PER_UNIT), &test));
    }
    codes
}

fn by_priority(tables: &Tables, test: &IntegerTest) -> AccessPath {
    let index = &tables.indexes.priorities;
    let listed = match test {
        IntegerTest::Compare(Comparison::Equal, value) => Some(index.rows_of(&[*value])),
        IntegerTest::Compare(Comparison::Greater, value) => {
            index.rows_within((Excluded(*value), Unbounded), cost::PRIORITY_RANGE_MAX_ROWS)
        }
        IntegerTest::Compare(Comparison::GreaterOrEqual, value) => {
            index.rows_within(value.., cost::PRIORITY_RANGE_MAX_ROWS)
        }
        IntegerTest::Compare(Comparison::Less, value) => index.rows_within(..value, cost::PRIORITY_RANGE_MAX_ROWS),
        IntegerTest::Compare(Comparison::LessOrEqual, value) => {
            index.rows_within(..=value, cost::PRIORITY_RANGE_MAX_ROWS)
        }
        IntegerTest::AnyOf(values) if values.len() <= cost::UNION_MAX_CODES => Some(index.rows_of(values)),
        IntegerTest::AnyOf(_) => None,
    };
    listed.map_or(AccessPath::Values, |listed| AccessPath::Rows(with_priority(tables, listed, test)))
}

/// The indexed rows whose priority in this snapshot passes the test, and the rows that are not indexed yet.
fn with_priority(tables: &Tables, listed: ListedRows, test: &IntegerTest) -> RowSet {
    let mut rows = PostingList::union(listed.lists);
    rows.remove_all(&without_priority(tables, &rows.intersection(&listed.changed), test));
    for (at, chunk) in tables.jobs.chunks().iter().enumerate().skip(locate(listed.end).0) {
        let priorities = (first_row(at)..).zip(chunk.cells.priority.iter());
        priorities.filter(|&(_, &priority)| test.holds(priority)).for_each(|(row, _)| rows.insert(row));
    }
    rows
}

/// The rows that are newer than this snapshot, or whose priority in it fails the test.
fn without_priority(tables: &Tables, changed: &RowSet, test: &IntegerTest) -> RowSet {
    let (mut others, mut next) = (Vec::new(), Some(0));
    let mut buffer = [0; ROWS_AT_A_TIME];
    while let Some(from) = next {
        let part = changed.read(from, &mut buffer);
        next = part.last().map(|last| last + 1);
        let (known, newer) = part.split_at(part.partition_point(|&row| (row as usize) < tables.jobs.len()));
        let priorities = LocatedRows::new(tables.jobs.chunks(), known).read(|chunk| |at| chunk.cells.priority[at]);
        let fail = known.iter().zip(priorities).filter(|&(_, priority)| !test.holds(priority));
        others.extend(fail.map(|(&row, _)| row).chain(newer.iter().copied()));
    }
    others.into_iter().collect()
}

async fn by_annotation(tables: &Tables, key: &str, test: &AnnotationTest) -> AccessPath {
    let Some(code) = tables.dictionaries.annotations.keys.code(key) else {
        return AccessPath::Rows(RowSet::default());
    };
    match test {
        AnnotationTest::Exists => {
            AccessPath::Rows(PostingList::union(tables.dictionaries.annotations.keys.rows_of(&[code])))
        }
        AnnotationTest::Value(test) => {
            let values = tables.dictionaries.annotations.values(code);
            by_codes(tables, values, test, |codes| posted_rows(tables, values, codes)).await
        }
    }
}
