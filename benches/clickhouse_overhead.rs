//! Overhead of the ClickHouse backend: each kind of call compared with equivalent hand-written SQL.
//!
//!     BROADSIDE_CLICKHOUSE_URL=clickhouse+http://… cargo bench --bench clickhouse_overhead
//!
//! Calls and hand-written requests alternate over connections with the same settings, so that the load of
//! the machine affects both. The figures are lower quartiles, which are the least sensitive to other load.
//! The hand-written requests read results as bytes without decoding rows. A hand-written batch reads its
//! jobs by key and inserts the result.
//! If BROADSIDE_POSTGRES_URL is set, the same batches are also measured on PostgreSQL.
//! BROADSIDE_BENCH_JOBS sets the number of terminal jobs in the store (200,000 by default).

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use broadside::ingest::{IngestionBatch, InsertJob, InsertJobRun, NewJob, SetJobRunning, UpdateJobPriority};
use broadside::scenario::{GetJobGroupsRequest, GetJobsRequest};
use broadside::{
    CLICKHOUSE_URL_VARIABLE, DatabaseConfig, GroupQuery, HistoricalJobs, HistoricalJobsParams, JobQuery,
    POSTGRES_URL_VARIABLE, ScratchStore, SystemClock, Timestamp,
};
use clickhouse::Client;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use url::Url;

const JOBS_VARIABLE: &str = "BROADSIDE_BENCH_JOBS";
const FINISHED_JOBS: u64 = 200_000;
const ACTIVE_JOBS: usize = 20_000;
const BATCH: usize = 1000;
const ROUNDS: usize = 31;
const BATCH_ROUNDS: usize = 11;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let Ok(address) = std::env::var(CLICKHOUSE_URL_VARIABLE) else {
        println!("skipped, because {CLICKHOUSE_URL_VARIABLE} is not set");
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        for layout in ["replacing", "patch"] {
            let store = filled_store(&with_layout(&address, layout)?).await?;
            let hand = HandWritten::new(&address, &store, layout)?;
            println!(
                "\n{} · layout={layout} · {} finished jobs, {ACTIVE_JOBS} active",
                hand.server().await?,
                finished_jobs()
            );
            reads(&store, &hand).await?;
            match layout {
                "replacing" => batches(&store, &hand).await?,
                // Hand-written updates in this layout would be the statements of the backend.
                _ => batches_alone(&store).await?,
            }
            store.remove().await?;
        }
        if let Ok(address) = std::env::var(POSTGRES_URL_VARIABLE) {
            let store = filled_store(&address).await?;
            println!("\nPostgreSQL · {} finished jobs, {ACTIVE_JOBS} active", finished_jobs());
            batches_alone(&store).await?;
            store.remove().await?;
        }
        Ok(())
    })
}

fn finished_jobs() -> u64 {
    std::env::var(JOBS_VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(FINISHED_JOBS)
}

fn with_layout(address: &str, layout: &str) -> Outcome<String> {
    let mut url: Url = address.parse()?;
    url.query_pairs_mut().append_pair("layout", layout);
    Ok(url.into())
}

async fn filled_store(address: &str) -> Outcome<ScratchStore> {
    let store = address.parse::<DatabaseConfig>()?.create_scratch(Arc::new(SystemClock)).await?;
    let database = store.database();
    database.initialise_schema().await?;
    let params: HistoricalJobsParams = serde_json::from_value(json!({
        "queueIdx": 0, "jobSetIdx": 0, "queueName": "finished", "jobSetName": "finished", "nJobs": finished_jobs(),
        "chunkSize": 50_000, "succeededThreshold": 800, "erroredThreshold": 900, "cancelledThreshold": 950,
        "jobAgeDays": [1, 10, 30], "referenceTime": "2026-01-01T00:00:00Z", "errorBytes": "ZXJyb3I=",
    }))?;
    database.populate_historical_jobs(&HistoricalJobs::try_from(params)?, &|_| ()).await?;
    for first in (0..ACTIVE_JOBS).step_by(BATCH) {
        database.execute_ingestion_query_batch(&new_jobs("active", first)?).await?;
        database.execute_ingestion_query_batch(&started("active", first)?).await?;
    }
    Ok(store)
}

fn job_id(kind: &str, number: usize) -> String {
    format!("{kind}-{number:010}")
}

fn ids(kind: &str, first: usize) -> Vec<String> {
    (first..first + BATCH).map(|number| job_id(kind, number)).collect()
}

/// A batch that inserts jobs.
fn new_jobs(kind: &str, first: usize) -> Outcome<IngestionBatch> {
    let annotations: BTreeMap<_, _> = [("example.com/team".to_owned(), "blue".to_owned())].into();
    let queries = (first..first + BATCH).map(|number| {
        let job = NewJob {
            job_id: job_id(kind, number),
            queue: format!("queue-{}", number % 10),
            job_set: format!("set-{}", number / 100),
            owner: "owner".to_owned(),
            namespace: None,
            priority: 1,
            priority_class: None,
            submitted: Timestamp::from_seconds(1_767_225_600),
            cpu: 1,
            memory: 1,
            ephemeral_storage: 1,
            gpu: 0,
            annotations: annotations.clone(),
        };
        InsertJob { job, job_spec: None }.into()
    });
    Ok(IngestionBatch::new(queries.collect::<Vec<_>>())?)
}

/// A batch that inserts and starts a run of each job.
fn started(kind: &str, first: usize) -> Outcome<IngestionBatch> {
    let queries = (first..first + BATCH).flat_map(|number| {
        let (job_id, time) = (job_id(kind, number), Timestamp::from_seconds(1_767_225_601));
        let run_id = format!("{job_id}-r");
        let run = InsertJobRun {
            job_run_id: run_id.clone(),
            job_id: job_id.clone(),
            cluster: format!("cluster-{}", number % 40),
            node: Some(format!("node-{}", number % 800)),
            pool: None,
            time,
            submitted: None,
        };
        [run.into(), SetJobRunning { job_id, time, latest_run_id: run_id, submitted: None }.into()]
    });
    Ok(IngestionBatch::new(queries.collect::<Vec<_>>())?)
}

/// A batch that updates the priority of active jobs.
fn priorities(first: usize, priority: i64) -> Outcome<IngestionBatch> {
    let queries =
        ids("active", first).into_iter().map(|job_id| UpdateJobPriority { job_id, priority, submitted: None }.into());
    Ok(IngestionBatch::new(queries.collect::<Vec<_>>())?)
}

/// A client for the hand-written requests.
struct HandWritten {
    client: Client,
    /// The clause that merges row versions in the layout: ` FINAL`, or empty.
    merge_clause: &'static str,
}

impl HandWritten {
    fn new(address: &str, store: &ScratchStore, layout: &str) -> Outcome<Self> {
        let url: Url = address.parse()?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let mut client = Client::with_http_client(HttpClient::builder(TokioExecutor::new()).build(connector))
            .with_url(format!("http://{}:{}", url.host_str().unwrap_or_default(), url.port().unwrap_or(8123)))
            .with_database(store.name().ok_or("the store has no database")?)
            .with_compression(clickhouse::Compression::None)
            .with_setting("async_insert", "0");
        if !url.username().is_empty() {
            client = client.with_user(url.username()).with_password(url.password().unwrap_or_default());
        }
        Ok(Self { client, merge_clause: if layout == "replacing" { " FINAL" } else { "" } })
    }

    async fn server(&self) -> Outcome<String> {
        let version: String = self.client.query("SELECT version()").fetch_one().await?;
        Ok(format!("ClickHouse {version}, its default settings"))
    }

    /// Executes a query and reads the result. ` FINAL` is replaced with the clause of the layout.
    async fn read(&self, sql: &str, ids: Option<&[String]>) -> Outcome<Vec<u8>> {
        let mut query = self.client.query_raw(&sql.replace(" FINAL", self.merge_clause));
        if let Some(ids) = ids {
            query = query.param("ids", ids);
        }
        Ok(query.fetch_bytes("RowBinaryWithNamesAndTypes")?.collect().await?.to_vec())
    }

    async fn insert_jobs(&self, rows: &[u8]) -> Outcome<()> {
        let mut insert = self.client.insert_formatted_with("INSERT INTO job FORMAT RowBinaryWithNamesAndTypes");
        insert.send(rows.to_vec().into()).await?;
        Ok(insert.end().await?)
    }
}

const COLUMNS: &str = "job_id, version, queue, job_set, owner, namespace, priority, priority_class, submitted, cpu, \
    memory, ephemeral_storage, gpu, annotations, state, last_transition_time, latest_run_id, cancelled, \
    cancel_reason, cancel_user";
const RUNS: &str = "SELECT run_id, job_id, cluster, node, pool, state, leased, pending, started, finished, exit_code \
    FROM job_run FINAL WHERE job_id IN {ids:Array(String)}";
const KEYED_READ: &str = "FROM job WHERE job_id IN {ids:Array(String)} ORDER BY version DESC LIMIT 1 BY job_id";

async fn reads(store: &ScratchStore, hand: &HandWritten) -> Outcome<()> {
    for (name, request, condition) in [
        (
            "page of a queue and state, by job id",
            json!({"filters": [{"field": "queue", "match": "exact", "value": "queue-3"},
                               {"field": "state", "match": "exact", "value": "RUNNING"}],
                   "order": {"field": "jobId", "direction": "DESC"}, "take": 100}),
            "WHERE queue = 'queue-3' AND state IN ['RUNNING'] ORDER BY job_id DESC LIMIT 100",
        ),
        (
            "page of all jobs, by last transition",
            json!({"order": {"field": "lastTransitionTime", "direction": "DESC"}, "take": 100}),
            "ORDER BY last_transition_seconds DESC LIMIT 100",
        ),
        (
            "page of an annotation",
            json!({"filters": [{"field": "example.com/broadside-delta", "match": "exact", "value": "value-77",
                                "isAnnotation": true}], "take": 100}),
            r"PREWHERE has(arrayMap((k, v) -> concat(k, '\0', v), mapKeys(annotations), mapValues(annotations)),
              'example.com/broadside-delta\0value-77') LIMIT 100",
        ),
        (
            "page of active job sets, by job id",
            json!({"activeJobSets": true, "order": {"field": "jobId", "direction": "DESC"}, "take": 100}),
            "WHERE (queue, job_set) IN (SELECT queue, job_set FROM job FINAL
             WHERE state IN ['QUEUED', 'LEASED', 'PENDING', 'RUNNING'] GROUP BY queue, job_set)
             ORDER BY job_id DESC LIMIT 100",
        ),
        (
            "one job",
            json!({"filters": [{"field": "jobId", "match": "exact", "value": job_id("active", 77)}]}),
            "WHERE job_id = 'active-0000000077'",
        ),
    ] {
        let query = JobQuery::try_from(serde_json::from_value::<GetJobsRequest>(request)?)?;
        let page: Vec<String> =
            store.database().get_jobs(&query).await?.into_iter().map(|job| job.job_id.into()).collect();
        let sql = format!("SELECT {COLUMNS} FROM job FINAL {condition}");
        let ours = async || {
            store.database().get_jobs(&query).await?;
            Ok(())
        };
        let by_hand = async || {
            hand.read(&sql, None).await?;
            hand.read(RUNS, Some(&page)).await?;
            Ok(())
        };
        compare(name, ROUNDS, ours, by_hand).await?;
    }
    for (name, request, sql) in [
        (
            "groups by queue, all aggregates",
            json!({"groupedField": {"field": "queue"}, "aggregates": ["state", "submitted", "lastTransitionTime"],
                   "order": {"field": "count", "direction": "DESC"}}),
            "SELECT queue AS name, count() AS count, [countIf(state = 'QUEUED'), countIf(state = 'LEASED'),
             countIf(state = 'PENDING'), countIf(state = 'RUNNING'), countIf(state = 'SUCCEEDED'),
             countIf(state = 'FAILED'), countIf(state = 'CANCELLED'), countIf(state = 'PREEMPTED'),
             countIf(state = 'REJECTED')], min(submitted), sum(toInt128(last_transition_seconds))
             FROM job FINAL GROUP BY name ORDER BY count DESC",
        ),
        (
            "groups by node of the latest run",
            json!({"groupedField": {"field": "node"}, "order": {"field": "count", "direction": "DESC"}, "take": 100}),
            "SELECT node AS name, count() AS count FROM job FINAL
             ANY LEFT JOIN (SELECT run_id, node FROM job_run FINAL) AS run ON run.run_id = job.latest_run_id
             GROUP BY name ORDER BY count DESC LIMIT 100",
        ),
    ] {
        let query = GroupQuery::try_from(serde_json::from_value::<GetJobGroupsRequest>(request)?)?;
        let ours = async || {
            store.database().get_job_groups(&query).await?;
            Ok(())
        };
        let by_hand = async || {
            hand.read(sql, None).await?;
            Ok(())
        };
        compare(name, ROUNDS, ours, by_hand).await?;
    }
    Ok(())
}

async fn batches(store: &ScratchStore, hand: &HandWritten) -> Outcome<()> {
    let database = store.database();
    let columns = format!("SELECT {COLUMNS} {KEYED_READ}");
    let rows = hand.read(&columns, Some(&ids("active", 0))).await?;
    let mut batch = Counter::default();
    let unknown = ids("unknown", 0);
    compare(
        "1,000 new jobs",
        BATCH_ROUNDS,
        async || Ok(database.execute_ingestion_query_batch(&new_jobs("new", BATCH * batch.next())?).await?),
        async || {
            hand.read(&columns, Some(&unknown)).await?;
            hand.insert_jobs(&rows).await
        },
    )
    .await?;
    let known = ids("active", 0);
    compare(
        "1,000 updates of priority",
        BATCH_ROUNDS,
        async || Ok(database.execute_ingestion_query_batch(&priorities(0, batch.next() as i64)?).await?),
        async || {
            let rows = hand.read(&columns, Some(&known)).await?;
            hand.insert_jobs(&rows).await
        },
    )
    .await
}

/// Measures the batches without hand-written requests.
async fn batches_alone(store: &ScratchStore) -> Outcome<()> {
    let database = store.database();
    let mut batch = Counter::default();
    let mut inserts = Vec::new();
    let mut updates = Vec::new();
    for _ in 0..BATCH_ROUNDS {
        let (new, changed) = (new_jobs("new", BATCH * batch.next())?, priorities(0, batch.next() as i64)?);
        inserts.push(timed(async || Ok(database.execute_ingestion_query_batch(&new).await?)).await?);
        updates.push(timed(async || Ok(database.execute_ingestion_query_batch(&changed).await?)).await?);
    }
    println!("{:44} {:>9.2} ms", "1,000 new jobs", lower_quartile(&mut inserts));
    println!("{:44} {:>9.2} ms", "1,000 updates of priority", lower_quartile(&mut updates));
    Ok(())
}

#[derive(Default)]
struct Counter(usize);

impl Counter {
    fn next(&mut self) -> usize {
        self.0 += 1;
        self.0
    }
}

/// Runs both alternately and prints their lower quartiles.
async fn compare(
    name: &str,
    rounds: usize,
    mut ours: impl AsyncFnMut() -> Outcome<()>,
    mut by_hand: impl AsyncFnMut() -> Outcome<()>,
) -> Outcome<()> {
    let (mut our_times, mut hand_times) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // The order alternates, so that caches favour neither.
        if round % 2 == 0 {
            our_times.push(timed(&mut ours).await?);
            hand_times.push(timed(&mut by_hand).await?);
        } else {
            hand_times.push(timed(&mut by_hand).await?);
            our_times.push(timed(&mut ours).await?);
        }
    }
    let (ours, by_hand) = (lower_quartile(&mut our_times), lower_quartile(&mut hand_times));
    println!("{name:44} {ours:>9.2} ms   by hand {by_hand:>9.2} ms   ratio {:.2}", ours / by_hand);
    Ok(())
}

async fn timed(mut call: impl AsyncFnMut() -> Outcome<()>) -> Outcome<f64> {
    let start = Instant::now();
    call().await?;
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}

fn lower_quartile(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 4]
}
