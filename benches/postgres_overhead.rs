//! Overhead of the PostgreSQL backend: each kind of call compared with equivalent hand-written SQL.
//!
//!     BROADSIDE_POSTGRES_URL=postgres://… cargo bench --bench postgres_overhead
//!
//! The hand-written SQL uses a single connection with the same settings. Pages and groups are prepared
//! statements with parameters, whose rows are read column by column. A batch is copied by binary COPY into a
//! temporary table with its columns, and inserted from there into the target table.
//! BROADSIDE_BENCH_JOBS sets the number of terminal jobs in the store (200,000 by default).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use broadside::ingest::{
    IngestionBatch, IngestionQuery, InsertJob, InsertJobRun, NewJob, SetJobPending, SetJobRunning,
};
use broadside::query::Page;
use broadside::scenario::{GetJobGroupsRequest, GetJobsRequest};
use broadside::{
    Database, DatabaseConfig, GroupQuery, HistoricalJobs, HistoricalJobsParams, JobQuery, POSTGRES_URL_VARIABLE,
    ScratchStore, SystemClock, Timestamp,
};
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{Json, ToSql, Type};
use tokio_postgres::{Client, NoTls, Row, Statement};

const JOBS_VARIABLE: &str = "BROADSIDE_BENCH_JOBS";
const FINISHED_JOBS: u64 = 200_000;
const ACTIVE_JOBS: usize = 20_000;
const BATCH: usize = 1000;

criterion_group!(benches, overhead);
criterion_main!(benches);

fn overhead(criterion: &mut Criterion) {
    let Ok(address) = std::env::var(POSTGRES_URL_VARIABLE) else {
        println!("skipped, because {POSTGRES_URL_VARIABLE} is not set");
        return;
    };
    let runtime = Runtime::new().expect("a runtime starts");
    let (store, hand) = runtime.block_on(async {
        let separator = if address.contains('?') { '&' } else { '?' };
        let store = filled_store(&format!("{address}{separator}pool_size=1")).await;
        let schema = store.name().expect("a scratch store on a server has a name");
        let hand = HandWritten::connect(&address, schema).await;
        // Otherwise autovacuum could update the statistics during the run, and the plans of the two sides could
        // differ.
        hand.0.batch_execute("VACUUM ANALYZE").await.expect("the tables can be analysed");
        println!("{}", hand.server().await);
        (store, hand)
    });
    pages(criterion, &runtime, &**store.database(), &hand);
    groups(criterion, &runtime, &**store.database(), &hand);
    inserts(criterion, &runtime, &**store.database(), &hand);
    updates(criterion, &runtime, &**store.database(), &hand);
    runtime.block_on(store.remove()).expect("the store can be removed");
}

async fn filled_store(address: &str) -> ScratchStore {
    let config: DatabaseConfig = address.parse().expect("the address is one of a backend");
    let store = config.create_scratch(Arc::new(SystemClock)).await.expect("a store can be created");
    let database = store.database();
    database.initialise_schema().await.expect("the schema can be created");
    let count = std::env::var(JOBS_VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(FINISHED_JOBS);
    let params: HistoricalJobsParams = serde_json::from_value(json!({
        "queueIdx": 0, "jobSetIdx": 0, "queueName": "finished", "jobSetName": "finished", "nJobs": count,
        "succeededThreshold": 800, "erroredThreshold": 900, "cancelledThreshold": 950, "jobAgeDays": [1, 10, 30],
        "referenceTime": "2026-01-01T00:00:00Z", "errorBytes": "ZXJyb3I=",
    }))
    .expect("the parameters are complete");
    let jobs = HistoricalJobs::try_from(params).expect("the parameters are valid");
    database.populate_historical_jobs(&jobs, &|_| ()).await.expect("jobs can be created");
    for first in (0..ACTIVE_JOBS).step_by(BATCH) {
        for batch in [inserted(first), leased(first)] {
            database.execute_ingestion_query_batch(&batch).await.expect("a batch can be executed");
        }
    }
    store
}

fn batch(queries: impl Iterator<Item = IngestionQuery>) -> IngestionBatch {
    IngestionBatch::new(queries).expect("the queries are valid")
}

fn job_id(number: usize) -> String {
    format!("01h{number:023}")
}

fn new_job(number: usize) -> NewJob {
    NewJob {
        job_id: job_id(number),
        queue: format!("queue-{}", number % 20),
        job_set: format!("set-{}", number / 100),
        owner: "owner".to_owned(),
        namespace: Some("namespace".to_owned()),
        priority: 1,
        priority_class: Some("class".to_owned()),
        submitted: Timestamp::from_seconds(1_767_225_600),
        cpu: 1,
        memory: 1 << 30,
        ephemeral_storage: 1 << 30,
        gpu: 0,
        annotations: BTreeMap::from([("example.com/team".to_owned(), format!("team-{}", number % 50))]),
    }
}

fn inserted(first: usize) -> IngestionBatch {
    batch((first..first + BATCH).map(|number| InsertJob { job: new_job(number), job_spec: None }.into()))
}

fn leased(first: usize) -> IngestionBatch {
    batch((first..first + BATCH).flat_map(|number| {
        let (job_id, time) = (job_id(number), Timestamp::from_seconds(1_767_225_601));
        let run = InsertJobRun {
            job_run_id: format!("{job_id}-r"),
            job_id: job_id.clone(),
            cluster: format!("cluster-{}", number % 40),
            node: Some(format!("node-{}", number % 800)),
            pool: None,
            time,
            submitted: None,
        };
        [run.clone().into(), SetJobPending { job_id, time, run_id: run.job_run_id, submitted: None }.into()]
    }))
}

fn running(second: i64) -> IngestionBatch {
    let time = Timestamp::from_seconds(1_767_225_602 + second);
    batch((0..BATCH).map(|number| {
        let job_id = job_id(number);
        let latest_run_id = format!("{job_id}-r");
        SetJobRunning { job_id, time, latest_run_id, submitted: None }.into()
    }))
}

/// A client for the hand-written statements.
struct HandWritten(Client);

impl HandWritten {
    async fn connect(address: &str, schema: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(address, NoTls).await.expect("the server can be reached");
        tokio::spawn(connection);
        let setup = format!("SET search_path = {schema}; SET plan_cache_mode = force_custom_plan; {TEMPORARY_TABLES}");
        client.batch_execute(&setup).await.expect("the session can be set up");
        Self(client)
    }

    async fn server(&self) -> String {
        let sql = "SELECT version() || E'\\n' || string_agg(name || ' = ' || current_setting(name), ', ' ORDER BY name)
            FROM pg_settings WHERE source NOT IN ('default', 'override', 'client', 'session')";
        self.0.query_one(sql, &[]).await.expect("the server has settings").get(0)
    }

    /// Executes a statement whose parameters are the limit and optionally a value.
    async fn read(&self, statement: &Statement, page: Page, value: Option<&str>) -> usize {
        let take = i64::try_from(page.limit().unwrap_or_default()).expect("pages are short");
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&take];
        parameters.extend(value.as_ref().map(|value| value as &(dyn ToSql + Sync)));
        self.0.query(statement, &parameters).await.expect("a page").iter().map(read).sum()
    }

    async fn copy(
        &self,
        statement: &str,
        types: &[Type],
        rows: impl AsyncFn(&mut std::pin::Pin<&mut BinaryCopyInWriter>),
    ) {
        let sink = self.0.copy_in(statement).await.expect("COPY begins");
        let mut writer = pin!(BinaryCopyInWriter::new(sink, types));
        rows(&mut writer).await;
        writer.finish().await.expect("COPY ends");
    }

    async fn execute(&self, sql: &str) {
        self.0.batch_execute(sql).await.expect("the statement succeeds");
    }

    async fn insert(&self, first: usize) {
        self.execute("BEGIN").await;
        let types = [
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::INT8,
            Type::INT8,
            Type::INT8,
            Type::INT8,
            Type::INT8,
            Type::INT8,
            Type::TEXT,
            Type::TEXT,
            Type::JSONB,
        ];
        let copy = "COPY new_job FROM STDIN (FORMAT binary)";
        self.copy(copy, &types, async |writer| {
            for number in first..first + BATCH {
                let job = new_job(number);
                writer
                    .as_mut()
                    .write(&[
                        &job.job_id,
                        &job.queue,
                        &job.owner,
                        &job.job_set,
                        &job.cpu,
                        &job.memory,
                        &job.ephemeral_storage,
                        &job.gpu,
                        &job.priority,
                        &job.submitted.floor_seconds(),
                        &job.priority_class,
                        &job.namespace,
                        &Json(&job.annotations),
                    ])
                    .await
                    .expect("a row can be written");
            }
        })
        .await;
        self.execute(INSERT).await;
        self.execute("COMMIT").await;
    }

    async fn update(&self, second: i64) {
        self.execute("BEGIN").await;
        let copy = "COPY running_job FROM STDIN (FORMAT binary)";
        self.copy(copy, &[Type::TEXT, Type::INT8, Type::TEXT], async |writer| {
            for number in 0..BATCH {
                let job_id = job_id(number);
                let run_id = format!("{job_id}-r");
                writer
                    .as_mut()
                    .write(&[&job_id, &(1_767_225_602 + second), &run_id])
                    .await
                    .expect("a row can be written");
            }
        })
        .await;
        self.execute(UPDATE).await;
        self.execute("COMMIT").await;
    }
}

const TEMPORARY_TABLES: &str = r#"
CREATE TEMPORARY TABLE new_job (
    job_id text COLLATE "C", queue text, owner text, jobset text, cpu bigint, memory bigint, ephemeral_storage bigint,
    gpu bigint, priority bigint, submitted bigint, priority_class text, namespace text, annotations jsonb
) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE running_job (job_id text COLLATE "C", second bigint, run_id text) ON COMMIT DELETE ROWS;"#;

const INSERT: &str = "
INSERT INTO job (
    job_id, queue, owner, jobset, cpu, memory, ephemeral_storage, gpu, priority, submitted, state,
    last_transition_time, last_transition_time_seconds, priority_class, namespace, annotations
)
SELECT
    job_id, queue, owner, jobset, cpu, memory, ephemeral_storage, gpu, priority,
    to_timestamp(submitted) AT TIME ZONE 'UTC', 1, to_timestamp(submitted) AT TIME ZONE 'UTC', submitted,
    priority_class, namespace, annotations
FROM new_job
ON CONFLICT DO NOTHING";

const UPDATE: &str = "
UPDATE job AS j SET
    state = 3, last_transition_time = to_timestamp(u.second) AT TIME ZONE 'UTC',
    last_transition_time_seconds = u.second, latest_run_id = u.run_id
FROM running_job AS u
WHERE j.job_id = u.job_id AND j.state IN (1, 2, 3, 8)";

/// The columns of a job in a page.
const PAGE: &str = "
SELECT p.job_id, p.queue, p.owner, p.namespace, p.jobset, p.cpu, p.memory, p.ephemeral_storage, p.gpu, p.priority,
    p.priority_class, p.submitted::text, p.cancelled::text, p.state, p.last_transition_time::text, p.latest_run_id,
    p.duplicate, p.annotations, p.cancel_reason, p.cancel_user, r.runs
FROM ({page}) AS p CROSS JOIN LATERAL (
    SELECT json_agg(json_build_object('runId', run_id, 'cluster', cluster, 'node', node, 'pool', pool,
        'leased', leased, 'pending', pending, 'started', started, 'finished', finished, 'state', job_run_state,
        'exitCode', exit_code)) AS runs
    FROM job_run WHERE job_run.job_id = p.job_id
) AS r";

/// Reads every column of a row.
fn read(row: &Row) -> usize {
    let length = |text: Option<&str>| text.map_or(0, str::len);
    row.columns()
        .iter()
        .enumerate()
        .map(|(at, column)| match *column.type_() {
            Type::INT2 => usize::from(row.get::<_, i16>(at) > 0),
            Type::INT8 => usize::from(row.get::<_, i64>(at) > 0),
            Type::BOOL => usize::from(row.get::<_, bool>(at)),
            Type::JSON | Type::JSONB => row.get::<_, Option<Value>>(at).map_or(0, |_| 1),
            _ => length(row.get(at)),
        })
        .sum()
}

fn pages(criterion: &mut Criterion, runtime: &Runtime, database: &dyn Database, hand: &HandWritten) {
    for (name, request, page, value) in [
        (
            "a queue and state by last transition",
            json!({"filters": [{"field": "queue", "match": "exact", "value": "queue-3"},
                               {"field": "state", "match": "exact", "value": "PENDING"}],
                   "order": {"field": "lastTransitionTime", "direction": "DESC"}, "take": 100}),
            "SELECT * FROM job WHERE queue = $2 AND state = 2
             ORDER BY last_transition_time_seconds DESC LIMIT $1",
            Some("queue-3"),
        ),
        (
            "all jobs by id",
            json!({"order": {"field": "jobId", "direction": "DESC"}, "take": 100}),
            "SELECT * FROM job ORDER BY job_id DESC LIMIT $1",
            None,
        ),
        (
            "a prefix of job sets",
            json!({"filters": [{"field": "jobSet", "match": "startsWith", "value": "set-17"}],
                   "order": {"field": "submitted", "direction": "DESC"}, "take": 100}),
            "SELECT * FROM job WHERE jobset LIKE $2 ORDER BY submitted DESC LIMIT $1",
            Some("set-17%"),
        ),
        (
            "an annotation",
            json!({"filters": [{"field": "example.com/broadside-delta", "match": "exact", "value": "value-77",
                                "isAnnotation": true}], "take": 100}),
            r#"SELECT * FROM job WHERE annotations @> $2::text::jsonb LIMIT $1"#,
            Some(r#"{"example.com/broadside-delta": "value-77"}"#),
        ),
        (
            "a node of the latest run",
            json!({"filters": [{"field": "node", "match": "exact", "value": "node-77"}],
                   "order": {"field": "jobId", "direction": "ASC"}, "take": 100}),
            "SELECT j.* FROM job AS j JOIN job_run AS lr ON lr.run_id = j.latest_run_id WHERE lr.node = $2
             ORDER BY j.job_id LIMIT $1",
            Some("node-77"),
        ),
        (
            "active job sets",
            json!({"activeJobSets": true, "order": {"field": "jobId", "direction": "DESC"}, "take": 100}),
            "SELECT j.* FROM job AS j
             JOIN (SELECT DISTINCT queue, jobset FROM job WHERE state IN (1, 2, 3, 8)) AS a USING (queue, jobset)
             ORDER BY j.job_id DESC LIMIT $1",
            None,
        ),
    ] {
        let request: GetJobsRequest = serde_json::from_value(request).expect("the request is complete");
        let query = JobQuery::try_from(request).expect("the request is valid");
        let sql = PAGE.replace("{page}", page);
        let statement = runtime.block_on(hand.0.prepare(&sql)).expect("the statement is SQL");
        let mut group = criterion.benchmark_group(format!("page of {name}"));
        group.bench_function("broadside", |bencher| {
            bencher.to_async(runtime).iter(async || database.get_jobs(&query).await.expect("a page").len());
        });
        group.bench_function("by hand", |bencher| {
            bencher.to_async(runtime).iter(async || hand.read(&statement, query.page(), value).await);
        });
        group.finish();
    }
}

fn groups(criterion: &mut Criterion, runtime: &Runtime, database: &dyn Database, hand: &HandWritten) {
    const COUNTS: &str = "count(*) FILTER (WHERE state = 1), count(*) FILTER (WHERE state = 8),
        count(*) FILTER (WHERE state = 2), count(*) FILTER (WHERE state = 3), count(*) FILTER (WHERE state = 4),
        count(*) FILTER (WHERE state = 5), count(*) FILTER (WHERE state = 6), count(*) FILTER (WHERE state = 7),
        count(*) FILTER (WHERE state = 9)";
    for (name, request, sql, value) in [
        (
            "queues with every aggregate",
            json!({"groupedField": {"field": "queue"}, "aggregates": ["state", "submitted", "lastTransitionTime"],
                   "order": {"field": "count", "direction": "DESC"}, "take": 10}),
            format!(
                "SELECT queue, count(*), {COUNTS}, min(submitted)::text, round(avg(last_transition_time_seconds))::bigint
                 FROM job GROUP BY queue ORDER BY count(*) DESC LIMIT $1"
            ),
            None,
        ),
        (
            "job sets of a queue",
            json!({"filters": [{"field": "queue", "match": "exact", "value": "queue-3"}],
                   "groupedField": {"field": "jobSet"}, "order": {"field": "jobSet", "direction": "ASC"}, "take": 100}),
            "SELECT jobset, count(*) FROM job WHERE queue = $2 GROUP BY jobset ORDER BY jobset LIMIT $1".to_owned(),
            Some("queue-3"),
        ),
        (
            "clusters",
            json!({"groupedField": {"field": "cluster"}, "order": {"field": "count", "direction": "DESC"}, "take": 10}),
            "SELECT coalesce(cluster, ''), count(*) FROM job LEFT JOIN job_run ON run_id = latest_run_id
             GROUP BY 1 ORDER BY count(*) DESC LIMIT $1"
                .to_owned(),
            None,
        ),
        (
            "an annotation",
            json!({"groupedField": {"field": "example.com/team", "isAnnotation": true},
                   "order": {"field": "count", "direction": "DESC"}, "take": 10}),
            "SELECT annotations ->> $2, count(*) FROM job WHERE annotations ? $2
             GROUP BY 1 ORDER BY count(*) DESC LIMIT $1"
                .to_owned(),
            Some("example.com/team"),
        ),
    ] {
        let request: GetJobGroupsRequest = serde_json::from_value(request).expect("the request is complete");
        let query = GroupQuery::try_from(request).expect("the request is valid");
        let statement = runtime.block_on(hand.0.prepare(&sql)).expect("the statement is SQL");
        let mut group = criterion.benchmark_group(format!("groups of {name}"));
        group.sample_size(20);
        group.bench_function("broadside", |bencher| {
            bencher.to_async(runtime).iter(async || database.get_job_groups(&query).await.expect("groups").len());
        });
        group.bench_function("by hand", |bencher| {
            bencher.to_async(runtime).iter(async || hand.read(&statement, query.page(), value).await);
        });
        group.finish();
    }
}

fn inserts(criterion: &mut Criterion, runtime: &Runtime, database: &dyn Database, hand: &HandWritten) {
    let first = Cell::new(ACTIVE_JOBS);
    let next = || first.replace(first.get() + BATCH);
    let mut group = criterion.benchmark_group("batch of 1,000 new jobs");
    group.sample_size(20);
    group.bench_function("broadside", |bencher| {
        bencher.to_async(runtime).iter(async || {
            database.execute_ingestion_query_batch(&inserted(next())).await.expect("a batch can be executed");
        });
    });
    group.bench_function("by hand", |bencher| bencher.to_async(runtime).iter(async || hand.insert(next()).await));
    group.finish();
}

fn updates(criterion: &mut Criterion, runtime: &Runtime, database: &dyn Database, hand: &HandWritten) {
    let second = Cell::new(0);
    let next = || second.replace(second.get() + 1);
    let mut group = criterion.benchmark_group("batch of 1,000 job updates");
    group.sample_size(20);
    group.bench_function("broadside", |bencher| {
        bencher.to_async(runtime).iter(async || {
            database.execute_ingestion_query_batch(&running(next())).await.expect("a batch can be executed");
        });
    });
    group.bench_function("by hand", |bencher| bencher.to_async(runtime).iter(async || hand.update(next()).await));
    group.finish();
}
