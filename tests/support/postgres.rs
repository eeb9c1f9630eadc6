//! Shared code of the PostgreSQL tests: stores, sessions and batches.

use std::sync::Arc;
use std::time::Duration;

use broadside::ingest::{
    IngestionBatch, IngestionQuery, InsertJob, InsertJobRun, SetJobPreempted, SetJobRunning, SetJobSucceeded,
    UpdateJobPriority,
};
use broadside::query::GroupField;
use broadside::{
    Database, DatabaseConfig, Error, GroupQuery, HistoricalJobsParams, JobQuery, POSTGRES_URL_VARIABLE, Result,
    ScratchStore, SystemClock, Timestamp,
};
use serde_json::json;
use tokio_postgres::NoTls;

use super::jobs::plain_job;
use super::server::with;

const COLUMNS: &str = "
SELECT format('- %s: %s%s%s', attname, format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN ', not null' END,
    ', default ' || pg_get_expr(adbin, adrelid))
FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attrelid = $1::text::regclass AND attnum > 0
ORDER BY attnum";

const INDEXES: &str = "
SELECT format('- index %s: %s%s%s', i.relname, regexp_replace(pg_get_indexdef(i.oid), '^.* USING ', ''),
    CASE WHEN indisunique THEN ' (unique)' END, CASE WHEN NOT indisvalid THEN ' (invalid)' END)
FROM pg_index JOIN pg_class AS i ON i.oid = indexrelid
WHERE indrelid = $1::text::regclass
ORDER BY i.relname";

const OPTIONS: &str = "
SELECT '- table options: ' || array_to_string(reloptions, ',') FROM pg_class
WHERE oid = $1::text::regclass AND reloptions IS NOT NULL";

const STORAGE: &str = "
SELECT format('- storage of %s: EXTERNAL', attname) FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attstorage = 'e'
ORDER BY attnum";

/// The number of jobs in a batch of [`job_set`].
pub const JOBS: usize = 40;

/// A layout of the tables.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// The suffix of the names of the tests.
    pub name: &'static str,
    /// The parameter of an address that selects the layout.
    pub parameter: &'static str,
    /// SQL that ends all jobs except `untouched`, as another process would.
    pub end_jobs: &'static str,
}

/// All layouts.
pub const LAYOUTS: [Layout; 3] = [
    Layout { name: "lookout", parameter: "", end_jobs: "UPDATE job SET state = 4 WHERE job_id <> 'untouched'" },
    Layout {
        name: "hot-cold",
        parameter: "hot_cold_split=true",
        end_jobs: "UPDATE job SET state = 4 WHERE job_id <> 'untouched';
            WITH ended AS (DELETE FROM job WHERE state = 4 RETURNING *) INSERT INTO job_historical SELECT * FROM ended",
    },
    Layout {
        name: "partitioned",
        parameter: "partition_by_submitted=true",
        end_jobs: "UPDATE job SET state = 4 WHERE job_id <> 'untouched'",
    },
];

/// The address of the tests' server, with further parameters.
pub fn shared(parameters: &str) -> String {
    with(&std::env::var(POSTGRES_URL_VARIABLE).unwrap(), parameters)
}

/// A scratch store with a schema.
pub async fn store(address: &str) -> ScratchStore {
    let config: DatabaseConfig = address.parse().unwrap();
    let store = config.create_scratch(Arc::new(SystemClock)).await.unwrap();
    store.database().initialise_schema().await.unwrap();
    store
}

/// Opens another handle to a store, with other parameters.
pub async fn handle(store: &ScratchStore, address: &str) -> Arc<dyn Database> {
    try_handle(store, address).await.unwrap()
}

/// Opens another handle to a store.
pub async fn try_handle(store: &ScratchStore, address: &str) -> Result<Arc<dyn Database>> {
    connect(&with(address, &format!("schema={}", schema(store)))).await
}

/// Opens a handle to the store of an address.
pub async fn connect(address: &str) -> Result<Arc<dyn Database>> {
    address.parse::<DatabaseConfig>()?.connect(Arc::new(SystemClock)).await
}

/// The errors of all calls that depend on the layout or the creator of the tables: first of reads, then of writes. Each
/// call must fail.
pub async fn errors(database: &dyn Database) -> Vec<Error> {
    let mut errors = read_errors(database).await;
    errors.extend(write_errors(database).await);
    errors
}

async fn read_errors(database: &dyn Database) -> Vec<Error> {
    vec![
        database.get_jobs(&JobQuery::new()).await.unwrap_err(),
        database.get_job_groups(&GroupQuery::by(GroupField::Queue)).await.unwrap_err(),
        database.get_job_spec("no such job").await.unwrap_err(),
        database.get_job_error("no such job").await.unwrap_err(),
    ]
}

/// The errors of all calls that write.
pub async fn write_errors(database: &dyn Database) -> Vec<Error> {
    let params = json!({
        "queueIdx": 0, "jobSetIdx": 0, "queueName": "q", "jobSetName": "s", "nJobs": 1, "chunkSize": 1,
        "jobAgeDays": [0], "referenceTime": "2026-01-01T00:00:00Z",
    });
    let historical = serde_json::from_value::<HistoricalJobsParams>(params).unwrap().try_into().unwrap();
    vec![
        database.execute_ingestion_query_batch(&batch([insert("new", "js")])).await.unwrap_err(),
        database.populate_historical_jobs(&historical, &|_| ()).await.unwrap_err(),
        database.set_property("key", Some("value")).await.unwrap_err(),
        database.tear_down().await.unwrap_err(),
    ]
}

/// The name of a store's schema.
pub fn schema(store: &ScratchStore) -> String {
    store.name().unwrap().to_owned()
}

/// Opens a session on the server, in the schema of a store.
pub async fn session(store: &ScratchStore, address: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(address, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(&format!("SET search_path = {}", schema(store))).await.unwrap();
    client
}

/// Waits until the result of a query is true.
pub async fn until(session: &tokio_postgres::Client, question: &str) {
    loop {
        if session.query_one(question, &[]).await.unwrap().get(0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until a connection of the application waits for a lock.
pub async fn until_blocked(session: &tokio_postgres::Client, application: &str) {
    let question = format!(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = '{application}' AND wait_event_type = 'Lock')"
    );
    until(session, &question).await;
}

/// A batch of valid queries.
pub fn batch(queries: impl IntoIterator<Item = IngestionQuery>) -> IngestionBatch {
    IngestionBatch::new(queries).unwrap()
}

/// Inserts a job.
pub fn insert(job_id: &str, job_set: &str) -> IngestionQuery {
    InsertJob { job: plain_job(job_id, job_set), job_spec: None }.into()
}

/// A batch that inserts a job set whose jobs have a run each. Readers must see all of it or nothing.
pub fn job_set(name: &str) -> IngestionBatch {
    batch((0..JOBS).flat_map(|job| {
        let job_id = format!("{name}-{job:02}");
        let run = InsertJobRun {
            job_run_id: format!("{job_id}-0"),
            job_id: job_id.clone(),
            cluster: "cluster".to_owned(),
            node: None,
            pool: None,
            time: Timestamp::from_seconds(1),
            submitted: None,
        };
        [insert(&job_id, name), run.into()]
    }))
}

/// Names of job sets.
pub fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("set-{number:03}")).collect()
}

/// Sets the state of a job to RUNNING.
pub fn running(job_id: &str) -> IngestionQuery {
    let time = Timestamp::from_seconds(2);
    SetJobRunning { job_id: job_id.to_owned(), time, latest_run_id: "run".to_owned(), submitted: None }.into()
}

/// Ends a job.
pub fn succeeded(job_id: &str) -> IngestionQuery {
    SetJobSucceeded { job_id: job_id.to_owned(), time: Timestamp::from_seconds(3), submitted: None }.into()
}

/// Preempts a job, which may be terminal.
pub fn preempted(job_id: &str) -> IngestionQuery {
    SetJobPreempted { job_id: job_id.to_owned(), time: Timestamp::from_seconds(4), submitted: None }.into()
}

/// Sets the priority of a job.
pub fn priority(job_id: &str, priority: i64) -> IngestionQuery {
    UpdateJobPriority { job_id: job_id.to_owned(), priority, submitted: None }.into()
}

/// A description of tables of the session's schema: columns, indexes, options and storage.
pub async fn describe(session: &tokio_postgres::Client, tables: &[&str]) -> String {
    let mut description = String::new();
    for table in tables {
        description += &format!("## {table}\n\n");
        for facts in [COLUMNS, INDEXES, OPTIONS, STORAGE] {
            let rows = session.query(facts, &[table]).await.unwrap();
            description.extend(rows.iter().map(|row| row.get::<_, String>(0) + "\n"));
        }
        description.push('\n');
    }
    description
}
