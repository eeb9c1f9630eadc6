//! Behaviour that scenarios cannot express: handles, closing, progress, interruption, and the properties of errors.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use crate::support::backends::Backend;
use crate::support::harness::{TestStoreRef, Verdict, trial};
use crate::support::jobs::plain_job;
use crate::support::model::NaiveModel;
use broadside::ingest::{InsertJob, InsertJobError, NewJob};
use broadside::query::{Annotation, Direction, GroupField, IntegerField, JobOrderKey, StateField, TextField};
use broadside::{
    Database, Error, ErrorKind, GroupQuery, HistoricalJobs, HistoricalJobsParams, IngestionBatch, JobQuery, JobState,
    Operation, Outcome, Progress, Timestamp, api,
};
use bytes::Bytes;
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    let backends = [Backend::MODEL].into_iter().chain(Backend::ALL);
    backends.flat_map(on_backend).collect()
}

fn on_backend(backend: Backend) -> [Trial; 8] {
    [
        trial(backend, "a-closed-handle-returns-closed", closed),
        trial(backend, "another-handle-reads-the-same-store-and-is-closed-separately", other_handle),
        trial(backend, "errors-have-the-call-and-the-backend", errors),
        trial(backend, "the-schema-can-be-initialised-concurrently", initialised_at_once),
        trial(backend, "values-without-a-limit-can-be-large", sizes),
        trial(backend, "any-of-supports-more-than-a-million-values", many_values),
        trial(backend, "progress-starts-at-zero-and-ends-with-all-jobs", progress),
        trial(backend, "an-interrupted-population-can-be-resumed", resumed),
    ]
}

fn text(error: Error) -> String {
    error.to_string()
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// The error of every call on a handle.
async fn all_errors(database: &dyn Database) -> Result<Vec<Error>, String> {
    let batch = IngestionBatch::default();
    let historical = historical_jobs(1)?;
    let results = [
        database.execute_ingestion_query_batch(&batch).await,
        database.get_jobs(&JobQuery::new()).await.map(drop),
        database.get_job_groups(&GroupQuery::by(GroupField::Queue)).await.map(drop),
        database.get_job_spec("j").await.map(drop),
        database.get_job_error("j").await.map(drop),
        database.get_job_run_error("r").await.map(drop),
        database.get_job_run_debug_message("r").await.map(drop),
        database.populate_historical_jobs(&historical, &|_| ()).await,
        database.tear_down().await,
    ];
    Ok(results.into_iter().filter_map(Result::err).collect())
}

const OPERATIONS: [Operation; 9] = [
    Operation::ExecuteIngestionQueryBatch,
    Operation::GetJobs,
    Operation::GetJobGroups,
    Operation::GetJobSpec,
    Operation::GetJobError,
    Operation::GetJobRunError,
    Operation::GetJobRunDebugMessage,
    Operation::PopulateHistoricalJobs,
    Operation::TearDown,
];

fn are_of_kind(errors: &[Error], kind: ErrorKind) -> Verdict {
    let operations: Vec<_> = errors.iter().map(Error::operation).collect();
    ensure(operations == OPERATIONS, || format!("errors of {operations:?}"))?;
    match errors.iter().find(|error| error.kind() != kind || error.outcome() != Outcome::NotApplied) {
        Some(error) => Err(format!("expected {kind:?}, got {error:?}")),
        None => Ok(()),
    }
}

async fn closed(store: TestStoreRef) -> Verdict {
    let database = store.another_handle().await.map_err(text)?;
    are_of_kind(&all_errors(&*database).await?, ErrorKind::NotInitialised)?;
    database.close().await.map_err(text)?;
    are_of_kind(&all_errors(&*database).await?, ErrorKind::Closed)?;
    let initialised = database.initialise_schema().await;
    ensure(initialised.as_ref().is_err_and(|error| error.kind() == ErrorKind::Closed), || format!("{initialised:?}"))?;
    database.close().await.map_err(text)
}

async fn other_handle(store: TestStoreRef) -> Verdict {
    let (one, other) =
        (store.another_handle().await.map_err(text)?, store.database.another_handle().await.map_err(text)?);
    ensure(other.backend() == one.backend(), || format!("{:?}", other.backend()))?;
    one.initialise_schema().await.map_err(text)?;
    let batch = IngestionBatch::new([InsertJob { job: plain_job("job", "set"), job_spec: None }.into()]);
    one.execute_ingestion_query_batch(&batch.map_err(text)?).await.map_err(text)?;
    one.close().await.map_err(text)?;
    let third = other.another_handle().await.map_err(text)?;
    other.close().await.map_err(text)?;
    for database in [&third, &store.database] {
        let jobs = database.get_jobs(&JobQuery::new()).await.map_err(text)?;
        ensure(jobs.len() == 1 && jobs[0].job_id == "job", || format!("{jobs:?}"))?;
    }
    Ok(())
}

async fn errors(store: TestStoreRef) -> Verdict {
    let database = &*store.database;
    database.initialise_schema().await.map_err(text)?;
    let missing = database.get_job_error("no \"such\" job").await;
    let Err(error) = missing else { return Err(format!("found {missing:?}")) };
    ensure(error.kind() == ErrorKind::NotFound, || format!("{error:?}"))?;
    ensure(error.message() == r#"no error for job "no \"such\" job""#, || format!("{error:?}"))?;
    ensure(error.backend().is_none_or(|backend| backend == database.backend()), || format!("{error:?}"))?;
    let text = error.to_string();
    ensure(text.starts_with("GetJobError") && text.ends_with(error.message()), || text.clone())
}

async fn initialised_at_once(store: TestStoreRef) -> Verdict {
    let handles = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.another_handle().await?.initialise_schema().await })
    });
    for handle in handles.collect::<Vec<_>>() {
        handle.await.map_err(|panic| panic.to_string())?.map_err(text)?;
    }
    let jobs = store.database.get_jobs(&JobQuery::new()).await.map_err(text)?;
    ensure(jobs.is_empty(), || format!("{jobs:?}"))
}

/// More values than fit into a constant of ClickHouse, a statement, or a form field.
const MANY_VALUES: i64 = 1_000_001;

async fn many_values(store: TestStoreRef) -> Verdict {
    let database = &*store.database;
    database.initialise_schema().await.map_err(text)?;
    let job = |id: &str, priority| InsertJob { job: NewJob { priority, ..plain_job(id, "set") }, job_spec: None };
    let jobs = [job("7", 7), job("1000000", 1_000_000), job("none", -1)];
    let batch = IngestionBatch::new(jobs.map(Into::into)).map_err(text)?;
    database.execute_ingestion_query_batch(&batch).await.map_err(text)?;
    let texts = TextField::JobId.any_of((0..MANY_VALUES).map(|value| value.to_string()));
    let integers = IntegerField::Priority.any_of(0..MANY_VALUES);
    for predicate in [texts, integers] {
        let query = JobQuery::new().filter(predicate).order_by(JobOrderKey::JobId, Direction::Ascending);
        let found = database.get_jobs(&query).await.map_err(text)?;
        let ids: Vec<_> = found.iter().map(|job| job.job_id.as_str()).collect();
        ensure(ids == ["1000000", "7"], || format!("found {ids:?}"))?;
    }
    Ok(())
}

async fn sizes(store: TestStoreRef) -> Verdict {
    const MANY: usize = 30_000;
    let database = &*store.database;
    database.initialise_schema().await.map_err(text)?;
    let annotations: BTreeMap<_, _> = (0..1000).map(|key| (format!("key-{key}"), "v".repeat(1000))).collect();
    let spec = api::Job { owner: "o".repeat(3_000_000), ..Default::default() };
    let error = Bytes::from("e".repeat(3_000_000));
    let job = NewJob { priority: 7, annotations: annotations.clone(), ..plain_job("large", "set") };
    let spec_bytes = Bytes::from(prost::Message::encode_to_vec(&spec));
    let batch = IngestionBatch::new([
        InsertJob { job, job_spec: Some(spec_bytes.clone()) }.into(),
        InsertJobError { job_id: "large".to_owned(), error: Some(error.clone()), submitted: None }.into(),
    ]);
    database.execute_ingestion_query_batch(&batch.map_err(text)?).await.map_err(text)?;
    ensure(database.get_job_spec("large").await.map_err(text)?.as_ref() == spec_bytes, || "another spec".to_owned())?;
    ensure(database.get_job_error("large").await.map_err(text)? == error, || "another error".to_owned())?;

    let ids: Vec<_> = (0..MANY).map(|id| format!("a-longer-job-id-{id}")).chain(["large".to_owned()]).collect();
    let predicates = [
        ("job ids", TextField::JobId.any_of(ids.clone())),
        ("priorities", IntegerField::Priority.any_of(1..=MANY as i64)),
        ("values of an annotation", Annotation("key-999").any_of([ids, vec!["v".repeat(1000)]].concat())),
        ("a long part of an annotation", Annotation("key-0").contains("v".repeat(1000))),
    ];
    for (name, predicate) in predicates {
        let jobs = database.get_jobs(&JobQuery::new().filter(predicate)).await.map_err(text)?;
        let found = jobs.len() == 1 && jobs[0].annotations == annotations.iter().collect();
        ensure(found, || format!("{} jobs by {name}", jobs.len()))?;
    }
    let too_long = JobQuery::new().filter(TextField::Queue.contains("x".repeat(1_000_000)));
    let jobs = database.get_jobs(&too_long).await.map_err(text)?;
    ensure(jobs.is_empty(), || format!("{jobs:?}"))
}

fn historical_jobs(count: i64) -> Result<HistoricalJobs, String> {
    let bytes = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    HistoricalJobs::try_from(HistoricalJobsParams {
        queue_idx: 0,
        job_set_idx: 0,
        queue_name: "queue".to_owned(),
        job_set_name: "set".to_owned(),
        n_jobs: count,
        chunk_size: 100,
        succeeded_threshold: 400,
        errored_threshold: 600,
        cancelled_threshold: 800,
        job_age_days: vec![0, 7],
        job_spec_bytes: bytes("\n\x01j"),
        error_bytes: bytes("error"),
        debug_bytes: bytes("debug"),
        preemption_bytes: bytes("preemption"),
        reference_time: Timestamp::from_seconds(1_800_000_000),
    })
    .map_err(text)
}

async fn progress(store: TestStoreRef) -> Verdict {
    let database = &*store.database;
    database.initialise_schema().await.map_err(text)?;
    // Once on an empty store, and once when nothing remains to do.
    for _ in 0..2 {
        let heard = Mutex::new(Vec::new());
        let listen = |progress: Progress| heard.lock().unwrap_or_else(|error| error.into_inner()).push(progress);
        database.populate_historical_jobs(&historical_jobs(950)?, &listen).await.map_err(text)?;
        let heard = heard.into_inner().map_err(|error| error.to_string())?;
        let ends = [heard.first(), heard.last()].map(|progress| progress.map(|progress| progress.done));
        ensure(ends == [Some(0), Some(950)], || format!("{heard:?}"))?;
        ensure(heard.is_sorted_by_key(|progress| progress.done), || format!("{heard:?}"))?;
        ensure(heard.iter().all(|progress| progress.total == 950), || format!("{heard:?}"))?;
    }
    Ok(())
}

/// Drops calls at different points, and then completes one: each job must be stored once.
async fn resumed(store: TestStoreRef) -> Verdict {
    let database = &*store.database;
    database.initialise_schema().await.map_err(text)?;
    let jobs = historical_jobs(1900)?;
    for millis in [0, 1, 5, 20, 60] {
        // The call may or may not complete in time.
        let _ = tokio::time::timeout(Duration::from_millis(millis), database.populate_historical_jobs(&jobs, &|_| ()))
            .await;
    }
    database.populate_historical_jobs(&jobs, &|_| ()).await.map_err(text)?;

    let model = NaiveModel::new(store.clock.clone());
    model.initialise_schema().await.map_err(text)?;
    model.populate_historical_jobs(&jobs, &|_| ()).await.map_err(text)?;
    let all = JobQuery::new().order_by(JobOrderKey::JobId, Direction::Ascending);
    for query in [all.clone(), all.filter(StateField.equals(JobState::Failed))] {
        let (got, expected) =
            (database.get_jobs(&query).await.map_err(text)?, model.get_jobs(&query).await.map_err(text)?);
        ensure(got.len() == expected.len(), || format!("{} jobs instead of {}", got.len(), expected.len()))?;
        if let Some((got, expected)) = got.iter().zip(&expected).find(|(got, expected)| got != expected) {
            return Err(format!("expected {expected:?}\ngot {got:?}"));
        }
    }
    Ok(())
}
