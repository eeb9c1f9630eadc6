//! Exports and imports: copies have the rows and the answers of their source.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broadside::arrow::array::{
    ArrayRef, AsArray, MapArray, MapBuilder, MapFieldNames, RecordBatch, StringArray, StringBuilder,
};
use broadside::arrow::compute::{cast, concat_batches};
use broadside::arrow::datatypes::DataType;
use broadside::arrow::util::display::{ArrayFormatter, FormatOptions};
use broadside::exchange::{CopyOptions, Endpoint, Filter, Part, Table, copy, schema};
use broadside::query::{Direction, GroupField, GroupOrderKey, StateField};
use broadside::scenario::Call;
use broadside::{
    BackendKind, Database, DatabaseConfig, Error, ErrorKind, GroupQuery, IngestionBatch, IngestionQuery, Job, JobQuery,
    JobState, Timestamp,
};
use futures::TryStreamExt;
use libtest_mimic::Trial;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::properties::{Checked, blocking, failed, holds};
use crate::support::backends::{Backend, TestStore};
use crate::support::compare::contents;
use crate::support::generate::{ManyJobs, history};
use crate::support::harness::{TestStoreRef, Verdict, trial};
use crate::support::jobs::all_jobs;

pub fn trials() -> Vec<Trial> {
    Backend::ALL.into_iter().flat_map(on_backend).collect()
}

fn on_backend(backend: Backend) -> [Trial; 6] {
    [
        trial(backend, "a-copy-has-the-rows-of-its-source", move |store| {
            blocking(move || holds(backend, &store, history(), is_copied))
        }),
        trial(backend, "an-export-continues-at-each-position", move |store| continues(backend, store)),
        trial(backend, "odd-rows-have-the-same-answers", move |store| odd_rows(backend, store)),
        trial(backend, "an-import-adds-only-new-rows", move |store| only_new_rows(backend, store)),
        trial(backend, "a-refused-part-changes-nothing", refused),
        trial(backend, "an-interrupted-copy-continues", interrupted),
    ]
}

/// The parts of a store after a position.
async fn parts(database: &dyn Database, after: Option<&str>) -> Result<Vec<Part>, Error> {
    database.export(after).await?.try_collect().await
}

async fn import(database: &dyn Database, parts: &[Part]) -> Result<(), Error> {
    for part in parts {
        database.import(part).await?;
    }
    Ok(())
}

/// A memory store with the clock of another store, on which the runtimes of runs depend.
async fn memory(store: &TestStore) -> Arc<dyn Database> {
    store.clock.set(Timestamp::from_seconds(2_000_000_000));
    let database = DatabaseConfig::Memory.connect(store.clock.clone()).await.unwrap();
    database.initialise_schema().await.unwrap();
    database
}

/// The rows of parts by table, as texts, in an order that does not depend on that of the export.
fn rows(parts: &[Part]) -> BTreeMap<Table, Vec<String>> {
    let of_table = |table| {
        let batches = parts.iter().map(|part| part.batch(table));
        let mut rows = texts(&concat_batches(&schema(table), batches).unwrap());
        rows.sort();
        (table, rows)
    };
    Table::ALL.map(of_table).into()
}

fn texts(rows: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::new().with_null("NULL");
    let mut texts = vec![String::new(); rows.num_rows()];
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        let value: Box<dyn Fn(usize) -> String> = match column.as_map_opt() {
            Some(map) => Box::new(|at| format!("{:?}", entries(map, at))),
            None => {
                let values = ArrayFormatter::try_new(column, &options).unwrap();
                Box::new(move |at| values.value(at).to_string())
            }
        };
        for (at, text) in texts.iter_mut().enumerate() {
            *text += &format!("{}={:?} ", field.name(), value(at));
        }
    }
    texts
}

fn entries(map: &MapArray, at: usize) -> BTreeMap<String, Option<String>> {
    let row = map.value(at);
    let (keys, values) = (row.column(0).as_string::<i32>(), row.column(1).as_string::<i32>());
    keys.iter().flatten().zip(values).map(|(key, value)| (key.to_owned(), value.map(str::to_owned))).collect()
}

async fn is_copied(batches: Vec<Vec<IngestionQuery>>, store: &TestStore) -> Checked {
    for queries in batches {
        let Ok(batch) = IngestionBatch::new(queries) else { continue };
        store.database.execute_ingestion_query_batch(&batch).await.map_err(failed)?;
    }
    let exported = parts(&*store.database, None).await.map_err(failed)?;
    let before = contents(store).await;
    store.database.tear_down().await.map_err(failed)?;
    import(&*store.database, &exported).await.map_err(failed)?;
    for (before, after) in before.iter().zip(&contents(store).await) {
        prop_assert_eq!(before, after);
    }
    let again = parts(&*store.database, None).await.map_err(failed)?;
    prop_assert_eq!(rows(&exported), rows(&again));
    Ok(())
}

/// Several parts, each of which ends at a position at which the export continues.
async fn continues(backend: Backend, store: TestStoreRef) -> Verdict {
    store.database.initialise_schema().await.unwrap();
    let count = if backend == Backend::MEMORY { 20_000 } else { 2_000 };
    let calls = ManyJobs { count, in_order: false }.calls(1).map_err(|reason| reason.to_string())?;
    for call in calls.iter().filter(|call| matches!(call, Call::TearDown | Call::Ingest { .. })) {
        call.execute(&*store.database, &store.clock).await;
    }
    let all = parts(&*store.database, None).await.unwrap();
    assert!(backend != Backend::MEMORY || all.len() > 2);
    let jobs: usize = all.iter().map(|part| part.batch(Table::Job).num_rows()).sum();
    assert_eq!(jobs, count as usize);
    for at in 0..all.len() {
        let rest = parts(&*store.database, Some(&all[at].position)).await.unwrap();
        assert_eq!(rows(&rest), rows(&all[at + 1..]));
    }
    // A position on a server is an id, which may be any text.
    let nowhere = store.database.export(Some("nowhere")).await.err().map(|error| error.kind());
    assert_eq!(nowhere, (backend == Backend::MEMORY).then_some(ErrorKind::InvalidArgument));
    let copy = memory(&store).await;
    import(&*copy, &all).await.unwrap();
    assert_jobs(&*copy, &all_jobs(&*store.database).await).await;
    assert_eq!(groups(&*copy).await, groups(&*store.database).await);
    Ok(())
}

/// A copy that is dropped at increasing times ends with the rows of its source, and so does one through a folder.
async fn interrupted(store: TestStoreRef) -> Verdict {
    let source = memory(&store).await;
    for call in (ManyJobs { count: 20_000, in_order: false }).calls(1).map_err(|reason| reason.to_string())? {
        if let Call::Ingest { .. } = call {
            call.execute(&*source, &store.clock).await;
        }
    }
    let folder = std::env::temp_dir().join(format!("broadside-copy-{}", DatabaseConfig::scratch_name()));
    let [from, to] = [&source, &store.database].map(|database| Endpoint::Store(Arc::clone(database)));
    let through = Endpoint::Folder(folder.clone());
    let options = CopyOptions::default();
    for attempt in 1.. {
        let copied = copy(&from, &to, &options, |_| ());
        match tokio::time::timeout(Duration::from_millis(attempt * 200), copied).await {
            Ok(census) => {
                let (copied, stored) = census.unwrap();
                assert_eq!(copied.differences(&stored), []);
                break;
            }
            // The state of a copy belongs to its options.
            Err(_) if matches!(store.database.property("copy").await, Ok(Some(_))) => {
                let others = CopyOptions::new(Filter::new().without_specs(), false);
                let refused = copy(&from, &to, &others, |_| ()).await.err().map(|error| error.kind());
                assert_eq!(refused, Some(ErrorKind::InvalidArgument));
            }
            Err(_) => {}
        }
    }
    assert_eq!(from.census().await.unwrap().differences(&to.census().await.unwrap()), []);
    let jobs = all_jobs(&*source).await;
    assert_jobs(&*store.database, &jobs).await;
    let refused = copy(&from, &to, &options, |_| ()).await.err().map(|error| error.kind());
    assert_eq!(refused, Some(ErrorKind::InvalidArgument));
    copy(&to, &through, &options, |_| ()).await.unwrap();
    let last = memory(&store).await;
    copy(&through, &Endpoint::Store(Arc::clone(&last)), &options, |_| ()).await.unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    assert_jobs(&*last, &jobs).await;
    Ok(())
}

/// Checks that a store has these jobs.
async fn assert_jobs(database: &dyn Database, expected: &[Job]) {
    let jobs = all_jobs(database).await;
    assert_eq!(jobs.len(), expected.len());
    for (job, expected) in jobs.iter().zip(expected) {
        assert_eq!(job, expected);
    }
}

async fn groups(database: &dyn Database) -> Value {
    let mut groups = Vec::new();
    for field in [GroupField::State, GroupField::Namespace, GroupField::Node] {
        let query = GroupQuery::by(field).count_states().order_by(GroupOrderKey::Name, Direction::Ascending);
        groups.push(database.get_job_groups(&query).await.unwrap());
    }
    json!(groups)
}

type Row<'a> = &'a [(&'a str, &'a str)];

/// Rows of a table, as the texts of some columns. The other columns are null, or have their least value.
fn batch(table: Table, rows: &[Row<'_>]) -> RecordBatch {
    let schema = schema(table);
    let columns = schema.fields().iter().map(|field| {
        let least = match field.data_type() {
            DataType::Int64 | DataType::Timestamp(..) => "0",
            DataType::Boolean => "false",
            _ => "",
        };
        let value =
            |row: &Row<'_>| row.iter().find(|(name, _)| name == field.name()).map(|&(_, value)| value.to_owned());
        let least = (!field.is_nullable()).then(|| least.to_owned());
        let texts: StringArray = rows.iter().map(|row| value(row).or(least.clone())).collect();
        match field.data_type() {
            DataType::Map(..) => annotations(&texts, field.data_type()),
            data_type @ DataType::Timestamp(..) => cast(&cast(&texts, &DataType::Int64).unwrap(), data_type).unwrap(),
            data_type => cast(&texts, data_type).unwrap(),
        }
    });
    RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap()
}

/// Maps of texts such as `key=value key=value`.
fn annotations(texts: &StringArray, data_type: &DataType) -> ArrayRef {
    let names = MapFieldNames { entry: "entries".into(), key: "keys".into(), value: "values".into() };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for text in texts.iter().flatten() {
        for (key, value) in text.split_whitespace().filter_map(|entry| entry.split_once('=')) {
            maps.keys().append_value(key);
            maps.values().append_value(value);
        }
        maps.append(true).unwrap();
    }
    cast(&maps.finish(), data_type).unwrap()
}

fn part(jobs: &[Row<'_>], runs: &[Row<'_>], specs: &[Row<'_>], errors: &[Row<'_>]) -> Part {
    let batches = [
        batch(Table::Job, jobs),
        batch(Table::JobRun, runs),
        batch(Table::JobSpec, specs),
        batch(Table::JobError, errors),
    ];
    Part::new(batches, "").unwrap()
}

const SECOND: &str = "1000000";
/// Times of the years 1811 and 9999, in microseconds.
const BEFORE: &str = "-5000000000000000";
const AFTER: &str = "253402300799000000";

/// The job ids of [`odd`] rows that a backend refuses: a state without a value of its type, and a time without a
/// partition.
fn refused_ids(backend: Backend) -> &'static [&'static str] {
    match backend.name {
        "postgres-partitioned" => &["times"],
        name if name.starts_with("clickhouse") => &["unknown"],
        _ => &[],
    }
}

/// Rows that no batch can make, without those that a backend refuses.
fn odd(backend: Backend) -> Part {
    let jobs: [Row<'_>; 6] = [
        &[("job_id", "requeued"), ("queue", "q"), ("state", "QUEUED"), ("latest_run_id", "r1")],
        &[("job_id", "dangling"), ("queue", "q"), ("state", "LEASED"), ("latest_run_id", "nowhere")],
        &[("job_id", "unknown"), ("queue", "q"), ("state", "UNKNOWN_13"), ("latest_run_id", "u")],
        &[
            ("job_id", "times"),
            ("queue", "q"),
            ("state", "CANCELLED"),
            ("submitted", BEFORE),
            ("cancelled", AFTER),
            ("last_transition_time", AFTER),
        ],
        &[
            ("job_id", "empty"),
            ("queue", "e"),
            ("state", "FAILED"),
            ("namespace", ""),
            ("priority_class", ""),
            ("cancel_user", ""),
            ("external_job_uri", ""),
            ("latest_run_id", "e"),
        ],
        &[
            ("job_id", "unread"),
            ("queue", "q"),
            ("state", "PREEMPTED"),
            ("annotations", "k=1 j=2"),
            ("external_job_uri", "https://example.com"),
            ("preempt_user", "p"),
            ("reprioritize_user", "an account with a long name"),
            // The run of another job.
            ("latest_run_id", "e"),
        ],
    ];
    let runs: [Row<'_>; 7] = [
        &[("run_id", "r1"), ("job_id", "requeued"), ("state", "RUN_LEASE_RETURNED"), ("leased", SECOND)],
        &[("run_id", "r0"), ("job_id", "requeued"), ("state", "RUN_LEASE_EXPIRED"), ("leased", "0")],
        &[("run_id", "u"), ("job_id", "unknown"), ("state", "UNKNOWN_77"), ("leased", "0")],
        &[("run_id", "t"), ("job_id", "times"), ("state", "RUN_CANCELLED"), ("leased", BEFORE), ("finished", AFTER)],
        // Without a time, and with empty texts.
        &[
            ("run_id", "e"),
            ("job_id", "empty"),
            ("cluster", "c"),
            ("node", ""),
            ("pool", ""),
            ("state", "RUN_FAILED"),
            ("error", ""),
        ],
        &[
            ("run_id", "f"),
            ("job_id", "unread"),
            ("state", "RUN_PREEMPTED"),
            ("pending", SECOND),
            ("exit_code", "-1"),
            ("ingress_addresses", r#"{"80": "a:1"}"#),
            ("failure_category", "infrastructure"),
            ("failure_subcategory", "oom"),
            ("scheduler_termination_reason", r#"{"reason": "fair share"}"#),
        ],
        &[("run_id", "o"), ("job_id", "missing"), ("state", "RUN_FAILED"), ("error", "lost"), ("debug", "d")],
    ];
    let specs: [Row<'_>; 2] = [&[("job_id", "missing"), ("spec", "s")], &[("job_id", "unread"), ("spec", "")]];
    let errors: [Row<'_>; 2] = [&[("job_id", "missing"), ("error", "e")], &[("job_id", "empty"), ("error", "")]];
    let is_stored =
        |row: &&Row<'_>| !row.iter().any(|(name, id)| *name == "job_id" && refused_ids(backend).contains(id));
    let [jobs, runs] = [&jobs[..], &runs].map(|rows| rows.iter().filter(is_stored).copied().collect::<Vec<_>>());
    part(&jobs, &runs, &specs, &errors)
}

/// Checks the answers on [`odd`] rows.
async fn check_odd(database: &dyn Database, refused: &[&str]) {
    let jobs: BTreeMap<String, Value> =
        all_jobs(database).await.into_iter().map(|job| (job.job_id.to_string(), json!(job))).collect();
    let mut ids = vec!["dangling", "empty", "requeued", "times", "unknown", "unread"];
    ids.retain(|id| !refused.contains(id));
    assert_eq!(jobs.keys().collect::<Vec<_>>(), ids);
    let shows = |pointer: &str, expected: Value| {
        let (id, pointer) = pointer.split_once('/').unwrap();
        if refused.contains(&id) {
            return;
        }
        assert_eq!(jobs[id].pointer(&format!("/{pointer}")), Some(&expected), "{id} {pointer}");
    };
    shows("requeued/state", json!("QUEUED"));
    shows("requeued/lastActiveRunId", json!("r1"));
    shows("requeued/runs/0/jobRunState", json!("RUN_LEASE_EXPIRED"));
    shows("requeued/runs/1/jobRunState", json!("RUN_LEASE_RETURNED"));
    shows("dangling/lastActiveRunId", json!("nowhere"));
    shows("dangling/runs", json!([]));
    shows("unknown/state", json!("UNKNOWN_13"));
    shows("unknown/runs/0/jobRunState", json!("UNKNOWN_77"));
    let [earliest, latest] = ["1900-01-01T00:00:00Z", "2299-12-31T23:59:59.999999Z"];
    shows("times/submitted", json!(earliest));
    shows("times/cancelled", json!(latest));
    shows("times/lastTransitionTime", json!(latest));
    shows("times/runs/0/leased", json!(earliest));
    shows("times/runs/0/finished", json!(latest));
    for missing in ["namespace", "priorityClass", "cancelUser", "node", "pool", "runs/0/leased", "runs/0/node"] {
        shows(&format!("empty/{missing}"), Value::Null);
    }
    shows("unread/annotations", json!({"j": "2", "k": "1"}));
    shows("unread/lastActiveRunId", json!("e"));
    shows("unread/runs/0/exitCode", json!(-1));
    assert_eq!(database.get_job_run_error("o").await.unwrap(), "lost");
    assert_eq!(database.get_job_run_debug_message("o").await.unwrap(), "d");
    // No filter selects an unknown state, and no aggregate counts it.
    let known = JobQuery::new().filter(StateField.any_of(JobState::ALL));
    let unknown = usize::from(!refused.contains(&"unknown"));
    assert_eq!(database.get_jobs(&known).await.unwrap().len(), ids.len() - unknown);
    let query = GroupQuery::by(GroupField::Queue).count_states().order_by(GroupOrderKey::Name, Direction::Ascending);
    let of_queues = database.get_job_groups(&query).await.unwrap();
    let counts = of_queues.iter().map(|group| {
        let states = group.aggregates.state.as_ref().unwrap();
        (group.name.as_str(), group.count, states.iter().map(|(_, count)| count).sum())
    });
    assert_eq!(
        counts.collect::<Vec<(&str, u64, u64)>>(),
        [("e", 1, 1), ("q", ids.len() as u64 - 1, (ids.len() - 1 - unknown) as u64)]
    );
    let query = GroupQuery::by(GroupField::State).order_by(GroupOrderKey::Name, Direction::Ascending);
    let states = database.get_job_groups(&query).await.unwrap();
    assert_eq!(states.iter().filter(|group| group.name == "UNKNOWN_13" && group.count == 1).count(), unknown);
}

/// Copies to the backend, from it to the memory engine, and back.
async fn odd_rows(backend: Backend, store: TestStoreRef) -> Verdict {
    let database = &*store.database;
    database.initialise_schema().await.unwrap();
    database.import(&odd(backend)).await.unwrap();
    check_odd(database, refused_ids(backend)).await;
    let exported = parts(database, None).await.unwrap();
    let copy = memory(&store).await;
    import(&*copy, &exported).await.unwrap();
    check_odd(&*copy, refused_ids(backend)).await;
    let copied = parts(&*copy, None).await.unwrap();
    let unread = rows(&copied);
    // ClickHouse does not have the columns that no query reads, and PostgreSQL has those of Lookout's last release.
    let carried: &[_] = match database.backend() {
        BackendKind::ClickHouse => &[],
        BackendKind::Memory => &[r#"external_job_uri="https://example.com" preempt_user="p" reprioritize_user="an"#],
        _ => &[r#"external_job_uri="https://example.com""#],
    };
    for value in carried {
        assert!(unread[&Table::Job].iter().any(|row| row.contains(value)), "{value}: {unread:#?}");
        let run = r#"failure_category="infrastructure" failure_subcategory="oom" scheduler_termination_reason="{"#;
        assert!(unread[&Table::JobRun].iter().any(|row| row.contains(run)), "{unread:#?}");
    }
    for (table, value) in [
        (Table::JobRun, r#"job_id="missing""#),
        (Table::JobSpec, r#"job_id="missing""#),
        (Table::JobError, r#"job_id="missing""#),
    ] {
        assert!(unread[&table].iter().any(|row| row.contains(value)), "{value}: {unread:#?}");
    }
    database.tear_down().await.unwrap();
    import(database, &copied).await.unwrap();
    check_odd(database, refused_ids(backend)).await;
    // The memory engine has no empty texts, and no times outside the limits.
    let comparable = |parts: &[Part]| {
        let mut rows = rows(parts);
        rows.values_mut().flatten().for_each(|row| *row = row.replace(r#"="""#, r#"="NULL""#));
        rows.values_mut().for_each(|rows| rows.retain(|row| !row.contains(r#"job_id="times""#)));
        rows
    };
    assert_eq!(comparable(&parts(database, None).await.unwrap()), comparable(&exported));
    Ok(())
}

async fn only_new_rows(backend: Backend, store: TestStoreRef) -> Verdict {
    let database = &*store.database;
    database.initialise_schema().await.unwrap();
    let job: Row<'_> = &[("job_id", "requeued"), ("queue", "first"), ("state", "QUEUED"), ("latest_run_id", "r1")];
    let run: Row<'_> = &[("run_id", "o"), ("job_id", "missing"), ("cluster", "first"), ("state", "RUN_RUNNING")];
    database.import(&part(&[job], &[run], &[&[("job_id", "missing"), ("spec", "first")]], &[])).await.unwrap();
    for _ in 0..2 {
        database.import(&odd(backend)).await.unwrap();
    }
    let jobs = all_jobs(database).await;
    let refused = refused_ids(backend).len();
    // An empty text is absent on ClickHouse.
    let records = if database.backend() == BackendKind::ClickHouse { 1 } else { 2 };
    assert_eq!(jobs.len(), 6 - refused);
    let requeued = jobs.iter().find(|job| job.job_id == "requeued").unwrap();
    assert_eq!((requeued.queue.as_str(), requeued.runs.len()), ("first", 2));
    let stored = rows(&parts(database, None).await.unwrap());
    assert_eq!(Table::ALL.map(|table| stored[&table].len()), [6 - refused, 7 - refused, records, records]);
    assert!(stored[&Table::JobRun].iter().any(|row| row.contains(r#"cluster="first""#)));
    // A later job has the run and the spec that preceded it.
    database
        .import(&part(&[&[("job_id", "missing"), ("state", "RUNNING"), ("latest_run_id", "o")]], &[], &[], &[]))
        .await
        .unwrap();
    let jobs = all_jobs(database).await;
    let missing = jobs.iter().find(|job| job.job_id == "missing").unwrap();
    assert_eq!((missing.cluster.as_str(), missing.runs.len()), ("first", 1));
    assert_eq!(database.get_job_error("missing").await.unwrap(), "e");
    Ok(())
}

async fn refused(store: TestStoreRef) -> Verdict {
    let database = &*store.database;
    let not_initialised = database.export(None).await.err().map(|error| error.kind());
    database.initialise_schema().await.unwrap();
    assert_eq!(not_initialised, Some(ErrorKind::NotInitialised));
    let long = "x".repeat(33);
    let good: Row<'_> = &[("job_id", "good"), ("state", "QUEUED")];
    let run: Row<'_> = &[("run_id", "good"), ("job_id", "good"), ("state", "RUN_LEASED")];
    for refused in [
        part(&[good, &[("job_id", &long), ("state", "QUEUED")]], &[run], &[], &[]),
        part(&[good], &[run, &[("run_id", "r"), ("job_id", &long), ("state", "RUN_LEASED")]], &[], &[]),
        part(&[good], &[run], &[&[("job_id", &long), ("spec", "s")]], &[]),
        part(&[good, &[("job_id", "a"), ("state", "QUEUE")]], &[run], &[], &[]),
    ] {
        assert_eq!(database.import(&refused).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert!(parts(database, None).await.unwrap().is_empty());
    }
    Ok(())
}
