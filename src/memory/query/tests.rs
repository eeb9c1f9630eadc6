//! Tests of the indexes with snapshots of small stores.

use std::cmp::Reverse;

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::search::Search;
use super::*;
use crate::ingest::{IngestionBatch, IngestionQuery};
use crate::memory::ingest::Store;
use crate::memory::storage::Tables;
use crate::model::JobState;
use crate::query::{Direction, IntegerField, JobOrder, JobOrderKey, JobQuery, Predicate, StateField, TextField};

/// The number of rows of a window.
const WINDOW_ROWS: u32 = 1 << 16;

fn store(queries: Value) -> Store {
    let mut store = Store::default();
    ingest(&mut store, queries);
    store
}

fn ingest(store: &mut Store, queries: Value) {
    let queries: Vec<IngestionQuery> = serde_json::from_value(queries).unwrap();
    store.apply(&IngestionBatch::new(queries).unwrap()).unwrap();
}

fn job(id: &str, priority: i64) -> Value {
    let time = "2026-01-01T00:00:00Z";
    let resources = json!({"cpu": 1, "memory": 1, "ephemeralStorage": 1, "gpu": 0, "priority": priority});
    let mut job = json!({"jobId": id, "queue": "q", "jobSet": "s", "owner": "o", "submitted": time});
    job.as_object_mut().unwrap().extend(resources.as_object().unwrap().clone());
    json!({"type": "insertJob", "job": job})
}

/// The ids of the jobs that satisfy a predicate, and the plan of the selection.
fn find(tables: &Tables, predicate: Predicate) -> (Vec<String>, String) {
    let (rows, selected) = Runtime::new().unwrap().block_on(async {
        let selected = RowSelection::new(tables, JobQuery::new().filter(predicate).selection()).await.unwrap();
        (ordered_rows(tables, &selected, None, PageRange::default()).await, selected)
    });
    (rows.into_iter().map(|row| tables.jobs.id(row).as_str().to_owned()).collect(), selected.to_string())
}

#[test]
fn a_job_is_found_by_the_priority_that_it_has_in_the_snapshot() {
    let mut store = store(json!([job("a", 5), job("b", 5), job("c", 7)]));
    let before = store.snapshot();
    ingest(
        &mut store,
        json!([
            {"type": "updateJobPriority", "jobId": "a", "priority": 7},
            {"type": "setJobCancelled", "jobId": "b", "time": "2026-01-01T00:00:00Z"},
            {"type": "updateJobPriority", "jobId": "b", "priority": 7},
            {"type": "updateJobPriority", "jobId": "c", "priority": 5},
            job("d", 7),
        ]),
    );
    let after = store.snapshot();
    ingest(&mut store, json!([{"type": "updateJobPriority", "jobId": "a", "priority": 5}]));
    for (tables, fives, sevens) in
        [(&before, "ab", "c"), (&after, "bc", "ad"), (&store.snapshot(), "abc", "d"), (&before, "ab", "c")]
    {
        for (predicate, expected) in [
            (IntegerField::Priority.equals(5), fives),
            (IntegerField::Priority.less_than(6), fives),
            (IntegerField::Priority.at_most(5), fives),
            (IntegerField::Priority.equals(7), sevens),
            (IntegerField::Priority.greater_than(5), sevens),
            (IntegerField::Priority.at_least(7), sevens),
            (IntegerField::Priority.any_of([7, 9, 7]), sevens),
            (IntegerField::Priority.equals(6), ""),
        ] {
            let (ids, explained) = find(tables, predicate);
            assert_eq!(ids.concat(), expected, "{explained}");
            assert!(explained.starts_with("index=[priority ") && !explained.contains("residual"), "{explained}");
        }
    }
}

#[test]
fn priorities_of_many_jobs_are_compared_row_by_row() {
    let tables = store((0..26_000).map(|at| job(&format!("{at:05}"), at % 2)).collect()).snapshot();
    let (ids, explained) = find(&tables, IntegerField::Priority.greater_than(-1));
    assert_eq!((ids.len(), explained.as_str()), (26_000, "index=[all rows], residual=[priority > -1]"));
    let (ids, explained) = find(&tables, IntegerField::Priority.greater_than(0));
    assert_eq!((ids.len(), explained.as_str()), (13_000, "index=[priority > 0]"));
}

#[test]
fn priorities_of_listed_and_unlisted_rows_are_found() {
    let jobs = |numbers: std::ops::Range<i64>| numbers.map(|at| job(&format!("{at:05}"), at % 10)).collect::<Value>();
    let mut store = store(jobs(0..8000));
    let before = store.snapshot();
    let changes =
        [10, 8150, 8200].map(|at| json!({"type": "updateJobPriority", "jobId": format!("{at:05}"), "priority": 5}));
    ingest(&mut store, jobs(8000..8300));
    let between = store.snapshot();
    ingest(&mut store, changes.into_iter().collect());
    let after = store.snapshot();
    ingest(&mut store, jobs(8300..17_000));
    for (tables, zeros, fives) in
        [(&before, 800, 800), (&between, 830, 830), (&after, 827, 833), (&store.snapshot(), 1697, 1703)]
    {
        assert_eq!(find(tables, IntegerField::Priority.equals(0)).0.len(), zeros);
        assert_eq!(find(tables, IntegerField::Priority.equals(5)).0.len(), fives);
        assert_eq!(find(tables, IntegerField::Priority.any_of([0, 5])).0.len(), zeros + fives);
    }
}

#[test]
fn few_rows_are_found_unless_predicates_are_correlated() {
    const JOBS: u32 = 2 * WINDOW_ROWS;
    let insert = |row: u32| {
        let mut query = job(&format!("{row:06}"), 1);
        // The jobs of an owner are in one queue. Those of the namespace are in the last window.
        for (field, code) in [("queue", row % 20), ("owner", row % 100), ("jobSet", row % 101)] {
            query["job"][field] = code.to_string().into();
        }
        query["job"]["namespace"] = u32::from(row < JOBS - 9000).to_string().into();
        query
    };
    let tables = store((0..JOBS).map(insert).collect()).snapshot();
    let few = |fields: &[TextField]| {
        let query = JobQuery::new().filters(fields.iter().map(|field| field.equals("0")));
        Runtime::new().unwrap().block_on(async {
            let selected = RowSelection::new(&tables, query.selection()).await.unwrap();
            let search = Search { tables: &tables, selected: &selected, page: PageRange::default() };
            (selected.estimate(&tables), search.few_rows().await)
        })
    };
    let rows = |holds: &dyn Fn(u32) -> bool| Some((0..JOBS).filter(|&row| holds(row)).collect::<Vec<_>>());
    assert_eq!(few(&[]), (u64::from(JOBS), None));
    assert_eq!(few(&[TextField::Queue]), (6554, None));
    assert_eq!(few(&[TextField::Queue, TextField::JobSet]), (64, rows(&|row| row.is_multiple_of(2020))));
    assert_eq!(few(&[TextField::Queue, TextField::Owner]), (65, None), "1311 jobs");
    assert_eq!(
        few(&[TextField::Queue, TextField::Namespace]),
        (450, rows(&|row| row >= JOBS - 9000 && row.is_multiple_of(20)))
    );

    let empty = Store::default().snapshot();
    let query = JobQuery::new().filter(TextField::Queue.equals("0")).filter(TextField::Owner.equals("0"));
    let selected = Runtime::new().unwrap().block_on(RowSelection::new(&empty, query.selection())).unwrap();
    assert_eq!(selected.estimate(&empty), 0);
}

#[test]
fn many_changed_priorities_are_those_of_the_snapshot() {
    let jobs = |numbers: std::ops::Range<i64>| numbers.map(|at| job(&format!("{at:05}"), at % 10)).collect::<Value>();
    let change = |at: i64, priority: i64| json!({"type": "updateJobPriority", "jobId": format!("{at:05}"), "priority": priority});
    let mut store = store(jobs(0..30_000));
    let before = store.snapshot();
    ingest(&mut store, (0..30_000).step_by(10).map(|at| change(at, 5)).collect());
    let after = store.snapshot();
    for (tables, zeros, fives) in [(&before, 3000, 3000), (&after, 0, 6000)] {
        assert_eq!(find(tables, IntegerField::Priority.equals(0)).0.len(), zeros);
        assert_eq!(find(tables, IntegerField::Priority.equals(5)).0.len(), fives);
    }
}

/// Three windows of rows. The queues alternate, and some jobs of the first and last window are cancelled.
#[test]
fn selections_and_orders_span_windows() {
    const JOBS: u32 = 2 * WINDOW_ROWS + 5000;
    let id = |row: u32| format!("{row:06}");
    let queue = |row: u32| ["a", "b", "c"][row as usize % 3];
    let is_cancelled = |row: u32| row.is_multiple_of(1000) && !(9000..=JOBS - 9000).contains(&row);
    let insert = |row: u32| {
        let (job_set, owner) = ((row % 7).to_string(), (row % 211).to_string());
        let job = json!({"jobId": id(row), "queue": queue(row), "jobSet": job_set, "owner": owner,
            "submitted": "2026-01-01T00:00:00Z", "cpu": 1, "memory": 1, "ephemeralStorage": 1, "gpu": 0, "priority": 1});
        json!({"type": "insertJob", "job": job})
    };
    let mut store = store((0..JOBS).map(insert).collect());
    let before = store.snapshot();
    let second = |row: u32| row * 7919 % 60;
    let time = |row: u32| format!("2026-01-01T00:00:{:02}Z", second(row));
    let cancel = |row: u32| json!({"type": "setJobCancelled", "jobId": id(row), "time": time(row)});
    ingest(&mut store, (0..JOBS).filter(|&row| is_cancelled(row)).map(cancel).collect());
    let after = store.snapshot();
    ingest(&mut store, (JOBS..JOBS + 100).map(insert).collect());

    let states = [JobState::Cancelled, JobState::Running];
    type Case<'a> = (Predicate, Box<dyn Fn(u32, bool) -> bool + 'a>);
    let cases: Vec<Case<'_>> = vec![
        (TextField::Queue.equals("b"), Box::new(|row, _| queue(row) == "b")),
        (StateField.any_of([JobState::Cancelled]), Box::new(|row, after| after && is_cancelled(row))),
        (StateField.any_of(states), Box::new(|row, after| after && is_cancelled(row))),
        (StateField.any_of([JobState::Queued]), Box::new(|row, after| !(after && is_cancelled(row)))),
        // All jobs have priority 1, and more than the index returns.
        (IntegerField::Priority.greater_than(0), Box::new(|_, _| true)),
        (TextField::JobSet.any_of(["3", "5"]), Box::new(|row, _| row % 7 == 3 || row % 7 == 5)),
        // Few of the owner's jobs are in a queue, so their keys are gathered.
        (TextField::Owner.equals("0"), Box::new(|row, _| row.is_multiple_of(211))),
    ];
    for (tables, after) in [(&before, false), (&after, true)] {
        for (first, (predicate, holds)) in cases.iter().enumerate() {
            for (other, also) in &cases[first..] {
                let expected: Vec<u32> = (0..JOBS).filter(|&row| holds(row, after) && also(row, after)).collect();
                let query = JobQuery::new().filter(predicate.clone()).filter(other.clone());
                let ended = |row| (after && is_cancelled(row)).then(|| second(row));
                Runtime::new().unwrap().block_on(check_orders(tables, &query, &expected, queue, ended));
            }
        }
    }
}

/// Compares the counts and pages of a selection in several orders with its rows. `ended` is the time of the
/// cancellation of a row, in seconds after that of all submissions.
async fn check_orders(
    tables: &Tables,
    query: &JobQuery,
    expected: &[u32],
    queue: impl Fn(u32) -> &'static str,
    ended: impl Fn(u32) -> Option<u32>,
) {
    let selected = RowSelection::new(tables, query.selection()).await.unwrap();
    assert!(selected.candidates(tables).is_none_or(|candidates| candidates == expected.len()), "{selected}");
    for offset in [0, 90, expected.len().saturating_sub(50)] {
        for limit in [Some(100), None] {
            for (key, direction) in [
                (None, Direction::Ascending),
                (Some(JobOrderKey::JobId), Direction::Descending),
                (Some(JobOrderKey::Queue), Direction::Descending),
                (Some(JobOrderKey::State), Direction::Ascending),
                (Some(JobOrderKey::LastTransitionTime), Direction::Ascending),
                (Some(JobOrderKey::LastTransitionTime), Direction::Descending),
            ] {
                let mut rows = expected.to_vec();
                let transition = |row: u32| ended(row).unwrap_or(0);
                match (key, direction) {
                    (Some(JobOrderKey::JobId), _) => rows.reverse(),
                    (Some(JobOrderKey::Queue), _) => rows.sort_by_key(|&row| Reverse(queue(row))),
                    (Some(JobOrderKey::State), _) => rows.sort_by_key(|&row| ended(row).is_some()),
                    (Some(_), Direction::Ascending) => rows.sort_by_key(|&row| transition(row)),
                    (Some(_), Direction::Descending) => rows.sort_by_key(|&row| Reverse(transition(row))),
                    (None, _) => {}
                }
                let rows: Vec<u32> = rows.into_iter().skip(offset).take(limit.unwrap_or(usize::MAX)).collect();
                let order = key.map(|key| JobOrder { key, direction });
                let found = ordered_rows(tables, &selected, order, PageRange { offset, limit }).await;
                let context = format!("{selected} {order:?} {offset} {limit:?}");
                assert_eq!(found, rows, "{context}");
            }
        }
    }
}
