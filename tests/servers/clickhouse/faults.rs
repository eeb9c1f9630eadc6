//! Faults of a ClickHouse server and of its connections: the server is killed, does not respond or rejects requests,
//! and connections are cut.

use std::sync::Arc;
use std::time::Duration;

use super::trial;
use crate::support::jobs::{all_jobs, plain_job};
use crate::support::proxy::{Mode, Proxy};
use crate::support::server::{Server, with};
use base64::prelude::{BASE64_STANDARD, Engine};
use broadside::ingest::{
    IngestionBatch, IngestionQuery, InsertJob, InsertJobError, InsertJobRun, NewJob, SetJobRunFailed, SetJobRunning,
    SetJobSucceeded,
};
use broadside::query::GroupField;
use broadside::{
    CLICKHOUSE_URL_VARIABLE, Database, DatabaseConfig, ErrorKind, GroupQuery, HistoricalJobsParams, JobState, Outcome,
    RunState, ScratchStore, SystemClock, Timestamp, api,
};
use libtest_mimic::Trial;
use prost::Message;

/// The number of jobs of a batch.
const JOBS: usize = 40;
/// More jobs than fit into one form field, whose limit is 128 KiB.
const MANY_JOBS: usize = 6_000;
const LAYOUTS: [&str; 2] = ["layout=replacing", "layout=patch"];

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a-killed-server-loses-no-acknowledged-batch", killed_server),
        trial("a-server-that-is-down-is-unavailable-until-it-is-back", down_server),
        trial("a-silent-server-times-out", silent_server),
        trial("a-request-on-a-cut-connection-is-retried", cut_connection),
        trial("a-response-of-a-gateway-is-unavailable", another_server),
        trial("a-stale-replica-is-not-read-for-a-write", stale_replica),
        trial("an-insert-waits-for-the-quorum-of-another-one", quorum),
        trial("a-server-without-memory-is-unavailable", no_memory),
        trial("a-connect-is-retried-four-times", connect_retries),
        trial("an-unknown-database-is-not-initialised", unknown_database),
        trial("a-rejected-password-is-not-shown", wrong_password),
        trial("an-unknown-setting-is-an-error-with-its-code", bad_setting),
        trial("batches-and-pages-have-any-size", any_size),
        trial("inserts-need-bounded-memory", bounded_memory),
        trial("requests-and-responses-are-compressed", compressed),
        trial("a-store-keeps-its-layout", another_layout),
    ]
}

/// The address of the tests' server, with a further parameter.
fn shared(parameter: &str) -> String {
    with(&std::env::var(CLICKHOUSE_URL_VARIABLE).unwrap(), parameter)
}

fn config(address: &str) -> DatabaseConfig {
    address.parse().unwrap()
}

/// A scratch store with a schema.
async fn store(address: &str) -> ScratchStore {
    let store = config(address).create_scratch(Arc::new(SystemClock)).await.unwrap();
    store.database().initialise_schema().await.unwrap();
    store
}

fn job_id(set: usize, number: usize) -> String {
    format!("job-{set:04}-{number:04}")
}

fn ids(set: usize, jobs: usize) -> impl Iterator<Item = String> {
    (0..jobs).map(move |number| job_id(set, number))
}

/// A batch that inserts a set of jobs with a run each and sets them RUNNING.
fn running(set: usize, jobs: usize) -> IngestionBatch {
    let queries = ids(set, jobs).flat_map(|job_id| {
        let (time, run_id) = (Timestamp::from_seconds(1), format!("{job_id}-r"));
        let job = NewJob { priority: 1, submitted: time, ..plain_job(&job_id, &format!("set-{set}")) };
        let run = InsertJobRun {
            job_run_id: run_id.clone(),
            job_id: job_id.clone(),
            cluster: "cluster".to_owned(),
            node: None,
            pool: None,
            time,
            submitted: None,
        };
        [
            IngestionQuery::from(InsertJob { job, job_spec: None }),
            run.into(),
            SetJobRunning { job_id, time, latest_run_id: run_id, submitted: None }.into(),
        ]
    });
    IngestionBatch::new(queries).unwrap()
}

/// A batch that ends all jobs of a set and fails their runs.
fn ended(set: usize, jobs: usize) -> IngestionBatch {
    let queries = ids(set, jobs).flat_map(|job_id| {
        let time = Timestamp::from_seconds(2);
        let failed = SetJobRunFailed {
            job_run_id: format!("{job_id}-r"),
            time,
            error: Some(vec![0xff, 0].into()),
            debug: None,
            exit_code: 1,
            submitted: None,
        };
        [IngestionQuery::from(SetJobSucceeded { job_id, time, submitted: None }), failed.into()]
    });
    IngestionBatch::new(queries).unwrap()
}

/// A batch that sets long debug messages of runs.
fn debugged(runs: usize) -> IngestionBatch {
    let failed = ids(0, runs).map(|job_id| SetJobRunFailed {
        job_run_id: format!("{job_id}-r"),
        time: Timestamp::from_seconds(2),
        error: None,
        debug: Some("x".repeat(10_000).into_bytes().into()),
        exit_code: 1,
        submitted: None,
    });
    IngestionBatch::new(failed.map(IngestionQuery::from)).unwrap()
}

/// Asserts that the store contains exactly these sets, with each job once and in the state after `ended`.
async fn assert_ended(database: &dyn Database, sets: usize, jobs: usize) {
    let found = all_jobs(database).await;
    let expected: Vec<_> = (0..sets).flat_map(|set| ids(set, jobs)).collect();
    assert_eq!(found.iter().map(|job| &job.job_id).collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    for job in found {
        assert_eq!((job.state, job.runs.len()), (JobState::Succeeded, 1), "{job:?}");
        assert_eq!((job.runs[0].job_run_state, job.exit_code), (RunState::Failed, Some(1)), "{job:?}");
        assert_eq!(job.annotations["key"], "value");
    }
}

/// Repeats a batch until it succeeds. Returns the number of failures, all of which must be `Unavailable`.
async fn retry_until_stored(database: &dyn Database, batch: &IngestionBatch) -> usize {
    let mut failures = 0;
    while let Err(error) = database.execute_ingestion_query_batch(batch).await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        failures += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    failures
}

async fn killed_server() {
    let server = Server::clickhouse("killed", "");
    let store = store(server.address()).await;
    let database = store.database().clone();
    let load = tokio::spawn(async move {
        let mut failures = 0;
        for set in 0..30 {
            failures += retry_until_stored(&*database, &running(set, JOBS)).await;
            failures += retry_until_stored(&*database, &ended(set, JOBS)).await;
        }
        failures
    });
    while all_jobs(&**store.database()).await.len() < 3 * JOBS {}
    server.kill();
    tokio::time::sleep(Duration::from_secs(4)).await;
    server.resume();
    assert!(load.await.unwrap() > 0, "the load was over before the server was killed");
    assert_ended(&**store.database(), 30, JOBS).await;
}

async fn down_server() {
    let server = Server::clickhouse("down", "");
    let store = store(server.address()).await;
    let database = store.database();
    database.execute_ingestion_query_batch(&running(0, JOBS)).await.unwrap();
    server.kill();
    let error = database.get_job_error("a").await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied), "{error:?}");
    let error = database.execute_ingestion_query_batch(&ended(0, JOBS)).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied), "{error:?}");
    let error = config(server.address()).connect(Arc::new(SystemClock)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    server.resume();
    database.execute_ingestion_query_batch(&ended(0, JOBS)).await.unwrap();
    assert_ended(&**database, 1, JOBS).await;
}

async fn silent_server() {
    for layout in LAYOUTS {
        let proxy = Proxy::start(&shared(layout)).await;
        let store = store(&with(proxy.address(), "timeout=1")).await;
        let database = store.database();
        proxy.set(Mode::Silent);
        let error = database.get_job_error("a").await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::NotApplied), "{error:?}");
        let error = database.execute_ingestion_query_batch(&running(0, JOBS)).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::NotApplied), "{error:?}");
        proxy.set(Mode::Open);
        retry_until_stored(&**database, &running(0, JOBS)).await;
        // The reads of a batch get responses, but its first insert does not.
        proxy.set(Mode::SilentToInserts);
        let error = database.execute_ingestion_query_batch(&ended(0, JOBS)).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::Unknown), "{error:?}");
        proxy.set(Mode::Open);
        database.execute_ingestion_query_batch(&ended(0, JOBS)).await.unwrap();
        assert_ended(&**database, 1, JOBS).await;
        store.remove().await.unwrap();
    }
}

async fn cut_connection() {
    for layout in LAYOUTS {
        let proxy = Proxy::start(&shared(layout)).await;
        let store = store(proxy.address()).await;
        let database = store.database();
        for batch in [running(0, JOBS), ended(0, JOBS)] {
            // The server executes the request, but the response is lost.
            proxy.set(Mode::CutNextAnswer);
            database.execute_ingestion_query_batch(&batch).await.unwrap();
            proxy.set(Mode::CutNextAnswerToInsert);
            database.execute_ingestion_query_batch(&batch).await.unwrap();
        }
        assert!(proxy.cuts() >= 3, "{} connections were cut", proxy.cuts());
        assert_ended(&**database, 1, JOBS).await;
        store.remove().await.unwrap();
    }
}

async fn another_server() {
    let proxy = Proxy::start(&shared(LAYOUTS[0])).await;
    let store = store(proxy.address()).await;
    proxy.set(Mode::BadGateway);
    let error = store.database().execute_ingestion_query_batch(&running(0, JOBS)).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied), "{error:?}");
    proxy.set(Mode::Open);
    store.database().execute_ingestion_query_batch(&running(0, JOBS)).await.unwrap();
    store.remove().await.unwrap();
}

/// A replica of a real server responds with this code if sequential consistency is requested, and with old rows if not.
async fn stale_replica() {
    let proxy = Proxy::start(&shared(LAYOUTS[0])).await;
    let store = store(proxy.address()).await;
    for batch in [running(0, JOBS), ended(0, JOBS)] {
        let before = proxy.cuts();
        proxy.set(Mode::Refused("select_sequential_consistency=1", 289));
        let error = store.database().execute_ingestion_query_batch(&batch).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied), "{error:?}");
        assert!(proxy.cuts() > before, "the reads of the batch were not refused");
        proxy.set(Mode::Open);
        store.database().execute_ingestion_query_batch(&batch).await.unwrap();
    }
    assert_ended(&**store.database(), 1, JOBS).await;
    store.remove().await.unwrap();
}

async fn quorum() {
    let proxy = Proxy::start(&shared(LAYOUTS[0])).await;
    let store = store(proxy.address()).await;
    proxy.set(Mode::Refused("INSERT", 286));
    let database = store.database().clone();
    let batch = tokio::spawn(async move { database.execute_ingestion_query_batch(&running(0, JOBS)).await });
    // Longer than other failures are retried.
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    proxy.set(Mode::Open);
    batch.await.unwrap().unwrap();
    assert!(proxy.cuts() > 5, "{} inserts were refused", proxy.cuts());
    assert_eq!(all_jobs(&**store.database()).await.len(), JOBS);
    store.remove().await.unwrap();
}

async fn no_memory() {
    let proxy = Proxy::start(&shared(LAYOUTS[0])).await;
    let store = store(proxy.address()).await;
    proxy.set(Mode::Refused("INSERT", 241));
    let error = store.database().execute_ingestion_query_batch(&running(0, JOBS)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    proxy.set(Mode::Open);
    store.database().execute_ingestion_query_batch(&running(0, JOBS)).await.unwrap();
    store.remove().await.unwrap();
}

async fn connect_retries() {
    let proxy = Proxy::start(&shared(LAYOUTS[0])).await;
    proxy.set(Mode::Refused("", 202));
    let error = config(proxy.address()).connect(Arc::new(SystemClock)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert_eq!(proxy.cuts(), 5);
}

async fn unknown_database() {
    let server = Server::clickhouse("unknown", "");
    let address = server.address().replace("/?", "/no%20such%20database?");
    let database = config(&address).connect(Arc::new(SystemClock)).await.unwrap();
    let error = database.get_job_error("a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotInitialised, "{error:?}");
    database.initialise_schema().await.unwrap();
    database.execute_ingestion_query_batch(&running(0, JOBS)).await.unwrap();
    assert_eq!(all_jobs(&*database).await.len(), JOBS);
}

async fn wrong_password() {
    let server = Server::clickhouse("password", "right");
    let address = |password: &str| server.address().replace("//", &format!("//default:{password}@"));
    let config = config(&address("wr%20ong"));
    assert!(!format!("{config:?}").contains("wr ong"));
    let error = config.connect(Arc::new(SystemClock)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend, "{error:?}");
    assert!(!format!("{error} {error:?}").contains("wr ong"), "{error:?}");
    let without_user = server.address().replace("//", "//:right@");
    self::config(&without_user).connect(Arc::new(SystemClock)).await.unwrap();
    let store = store(&address("right")).await;
    assert!(!format!("{store:?}").contains("right"));
    assert_eq!(all_jobs(&**store.database()).await.len(), 0);
}

async fn bad_setting() {
    let error = config(&shared("setting.no_such_setting=1")).connect(Arc::new(SystemClock)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend, "{error:?}");
    assert!(error.message().contains("code 115"), "{error:?}");
    let one_thread = store(&shared("setting.max_threads=1")).await;
    assert_eq!(all_jobs(&**one_thread.database()).await.len(), 0);
    one_thread.remove().await.unwrap();
    // The cache of conditions is disabled, unless the address enables it.
    let setting = "use_query_condition_cache";
    for (parameter, value) in [("".to_owned(), "0"), (format!("setting.{setting}=1"), "1")] {
        let store = store(&shared(&parameter)).await;
        assert_eq!(store.database().store_info().await.unwrap().settings[setting], value);
        store.remove().await.unwrap();
    }
}

async fn any_size() {
    for layout in LAYOUTS {
        let store = store(&shared(layout)).await;
        let database = store.database();
        database.execute_ingestion_query_batch(&running(0, MANY_JOBS)).await.unwrap();
        database.execute_ingestion_query_batch(&ended(0, MANY_JOBS)).await.unwrap();
        assert_ended(&**database, 1, MANY_JOBS).await;
        database.execute_ingestion_query_batch(&debugged(2_100)).await.unwrap();
        let last = format!("{}-r", job_id(0, 2_099));
        assert_eq!(database.get_job_run_debug_message(&last).await.unwrap(), "x".repeat(10_000));
        let error = database.get_job_run_error(&format!("{}-r", job_id(0, MANY_JOBS - 1))).await.unwrap();
        assert_eq!(error, "\u{fffd}\0");
        store.remove().await.unwrap();
    }
}

/// The rows need more memory than the server provides for a query.
async fn bounded_memory() {
    for layout in LAYOUTS {
        let store = store(&shared(&format!("{layout}&setting.max_memory_usage=400000000"))).await;
        let spec = api::Job { owner: "o".repeat(8_000), ..Default::default() };
        let params = serde_json::json!({"queueIdx": 0, "jobSetIdx": 0, "queueName": "q", "jobSetName": "s",
            "nJobs": 30_000, "chunkSize": 30_000, "succeededThreshold": 1000, "jobAgeDays": [1],
            "jobSpecBytes": BASE64_STANDARD.encode(spec.encode_to_vec()), "referenceTime": "2026-01-01T00:00:00Z"});
        let jobs = serde_json::from_value::<HistoricalJobsParams>(params).unwrap().try_into().unwrap();
        let database = store.database();
        database.populate_historical_jobs(&jobs, &|_| ()).await.unwrap();
        let groups = database.get_job_groups(&GroupQuery::by(GroupField::State)).await.unwrap();
        assert_eq!(groups.iter().map(|group| group.count).collect::<Vec<_>>(), [30_000]);

        let text = "x".repeat(50_000_000);
        let queries = (0..5).flat_map(|number| {
            let job_id = format!("job-{number}");
            let error = Some(text.clone().into_bytes().into());
            let error = InsertJobError { job_id: job_id.clone(), error, submitted: None };
            [InsertJob { job: plain_job(&job_id, "set"), job_spec: None }.into(), error.into()]
        });
        database.execute_ingestion_query_batch(&IngestionBatch::new(queries).unwrap()).await.unwrap();
        for number in 0..5 {
            assert!(database.get_job_error(&format!("job-{number}")).await.unwrap() == text);
        }
        store.remove().await.unwrap();
    }
}

async fn compressed() {
    let address = shared("compression=lz4").replace("compression=none&", "");
    let store = store(&address).await;
    let database = store.database();
    database.execute_ingestion_query_batch(&running(0, JOBS)).await.unwrap();
    database.execute_ingestion_query_batch(&ended(0, JOBS)).await.unwrap();
    assert_ended(&**database, 1, JOBS).await;
    let error = database.get_job_spec("none").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    store.remove().await.unwrap();
}

async fn another_layout() {
    let server = Server::clickhouse("layout", "");
    let database = config(&with(server.address(), LAYOUTS[0])).connect(Arc::new(SystemClock)).await.unwrap();
    database.initialise_schema().await.unwrap();
    let error = config(&with(server.address(), LAYOUTS[1])).connect(Arc::new(SystemClock)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongStore, "{error:?}");
    assert!(error.message().contains(LAYOUTS[0]), "{error:?}");
}
