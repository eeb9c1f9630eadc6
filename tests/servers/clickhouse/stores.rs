//! Stores: markers, adoption, scratch stores and properties.

use std::sync::Arc;

use super::trial;
use crate::support::jobs::{all_jobs, plain_job};
use crate::support::proxy::Proxy;
use crate::support::server::{Server, with};
use broadside::ingest::{
    IngestionBatch, IngestionQuery, InsertJob, InsertJobError, InsertJobRun, NewJob, SetJobCancelled, SetJobRunning,
    UpdateJobPriority,
};
use broadside::query::{Direction, GroupField, GroupOrderKey, TextField};
use broadside::{
    Activity, CLICKHOUSE_URL_VARIABLE, Database, DatabaseConfig, Error, ErrorKind, GroupQuery, HistoricalJobs,
    HistoricalJobsParams, JobQuery, JobState, Outcome, ReadCall, ScratchStore, SystemClock, Timestamp,
};
use libtest_mimic::Trial;

const LAYOUTS: [&str; 2] = ["layout=replacing", "layout=patch"];

pub fn trials() -> Vec<Trial> {
    vec![
        trial("only-scratch-stores-are-listed-and-removed", scratch_stores),
        trial("a-store-keeps-its-layout-and-its-version", another_store),
        trial("tables-without-a-marker-are-not-written", unmarked),
        trial("tables-without-a-marker-can-be-adopted", adopted),
        trial("a-database-without-tables-is-not-initialised", empty_database),
        trial("handles-with-different-addresses-share-the-write-lock", common_lock),
        trial("properties-last-until-the-store-is-torn-down", properties),
        trial("a-change-that-fails-half-way-has-an-unknown-outcome", half_way),
        trial("a-read-is-explained-by-its-statements", explained),
        trial("a-refused-command-changes-nothing", refusals),
        trial("inserts-into-a-cluster-take-turns", turns),
        trial("the-activity-is-that-of-the-server", activity),
        trial("an-odd-value-does-not-fail-its-page", odd_values),
    ]
}

pub(super) fn shared(parameter: &str) -> String {
    with(&std::env::var(CLICKHOUSE_URL_VARIABLE).unwrap(), parameter)
}

pub(super) async fn connect(address: &str) -> Result<Arc<dyn Database>, Error> {
    address.parse::<DatabaseConfig>().unwrap().connect(Arc::new(SystemClock)).await
}

pub(super) async fn scratch(address: &str) -> ScratchStore {
    let store = address.parse::<DatabaseConfig>().unwrap().create_scratch(Arc::new(SystemClock)).await.unwrap();
    store.database().initialise_schema().await.unwrap();
    store
}

fn database_of(store: &ScratchStore) -> String {
    store.name().unwrap().to_owned()
}

/// The address of a store, with a parameter.
pub(super) fn address_of(store: &ScratchStore, parameter: &str) -> String {
    shared(parameter).replace("/?", &format!("/{}?", database_of(store)))
}

pub(super) fn client_of(address: &str) -> clickhouse::Client {
    let url = address.replace("clickhouse+", "");
    clickhouse::Client::default().with_url(url.split_once('?').unwrap().0)
}

fn client() -> clickhouse::Client {
    client_of(&shared("compression=none"))
}

/// Executes a statement on the server.
pub(super) async fn run(store: &ScratchStore, sql: &str) {
    client().with_database(database_of(store)).query(sql).execute().await.unwrap();
}

pub(super) fn batch(queries: impl IntoIterator<Item = IngestionQuery>) -> IngestionBatch {
    IngestionBatch::new(queries).unwrap()
}

pub(super) fn new_job(job_id: &str) -> IngestionQuery {
    InsertJob { job: NewJob { priority: 0, ..plain_job(job_id, "set") }, job_spec: None }.into()
}

fn new_run(job_id: &str, run_id: &str) -> IngestionQuery {
    InsertJobRun {
        job_run_id: run_id.to_owned(),
        job_id: job_id.to_owned(),
        cluster: "cluster".to_owned(),
        node: None,
        pool: None,
        time: Timestamp::from_seconds(1),
        submitted: None,
    }
    .into()
}

fn historical(jobs: u64) -> HistoricalJobs {
    let params = serde_json::json!({"queueIdx": 0, "jobSetIdx": 0, "queueName": "q", "jobSetName": "s",
        "nJobs": jobs, "chunkSize": 2, "succeededThreshold": 1000, "erroredThreshold": 1000,
        "cancelledThreshold": 1000, "jobAgeDays": [1], "referenceTime": "2026-01-01T00:00:00Z"});
    HistoricalJobs::try_from(serde_json::from_value::<HistoricalJobsParams>(params).unwrap()).unwrap()
}

/// The errors of all calls that write.
pub(super) async fn write_errors(database: &dyn Database) -> Vec<Error> {
    let results = [
        database.execute_ingestion_query_batch(&batch([new_job("new")])).await,
        database.populate_historical_jobs(&historical(1), &|_| ()).await,
        database.set_property("key", Some("value")).await,
        database.tear_down().await,
    ];
    results.into_iter().map(Result::unwrap_err).collect()
}

async fn scratch_stores() {
    let config: DatabaseConfig = shared(LAYOUTS[0]).parse().unwrap();
    let (first, second) = (scratch(&shared(LAYOUTS[0])).await, scratch(&shared(LAYOUTS[1])).await);
    let names = [database_of(&first), database_of(&second)];
    let listed = config.scratch_stores().await.unwrap();
    let found: Vec<_> = listed.iter().filter(|store| names.contains(&store.name)).map(|store| &store.name).collect();
    assert_eq!(found, names.iter().collect::<Vec<_>>());
    assert!(listed.iter().all(|store| store.name.starts_with("broadside_")), "{listed:?}");
    for name in ["default", "system", "there is none"] {
        let error = config.remove_scratch(name).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::WrongStore, Outcome::NotApplied), "{error:?}");
    }
    config.remove_scratch(&names[0]).await.unwrap();
    let left = config.scratch_stores().await.unwrap();
    assert!(!left.iter().any(|store| store.name == names[0]) && left.iter().any(|store| store.name == names[1]));
    first.remove().await.unwrap();
    second.remove().await.unwrap();
}

async fn another_store() {
    for (layout, other) in [(LAYOUTS[0], LAYOUTS[1]), (LAYOUTS[1], LAYOUTS[0])] {
        let store = scratch(&shared(layout)).await;
        let error = connect(&address_of(&store, other)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongStore, "{error:?}");
        assert!(error.message().contains(layout), "{error:?}");
        let marker = r#"{"madeBy":"broadside","schema":99,"layout":"replacing","id":"x","created":"2026-01-01T00:00:00Z","scratch":false}"#;
        run(&store, &format!("ALTER TABLE broadside_store MODIFY COMMENT '{marker}'")).await;
        let error = connect(&address_of(&store, layout)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongStore, "{error:?}");
        assert!(error.message().contains("99"), "{error:?}");
        let error = store.database().initialise_schema().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongStore, "{error:?}");
        store.remove().await.unwrap();
    }
}

async fn unmarked() {
    for layout in LAYOUTS {
        let store = scratch(&shared(layout)).await;
        store.database().execute_ingestion_query_batch(&batch([new_job("job")])).await.unwrap();
        run(&store, "DROP TABLE broadside_store SYNC").await;
        let database = connect(&address_of(&store, layout)).await.unwrap();
        for error in write_errors(&*database).await {
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::WrongStore, Outcome::NotApplied), "{error:?}");
            assert!(error.message().contains("adopt=true"), "{error:?}");
        }
        let error = database.initialise_schema().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongStore, "{error:?}");
        assert_eq!(all_jobs(&*database).await.len(), 1, "reads are possible, and nothing was written or removed");
        let other = if layout == LAYOUTS[0] { LAYOUTS[1] } else { LAYOUTS[0] };
        let error = connect(&address_of(&store, other)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongStore, "{error:?}");
        store.remove().await.unwrap();
    }
}

async fn adopted() {
    for layout in LAYOUTS {
        let store = scratch(&shared(layout)).await;
        run(&store, "DROP TABLE broadside_store SYNC").await;
        let adopting = connect(&address_of(&store, &format!("{layout}&adopt=true"))).await.unwrap();
        adopting.execute_ingestion_query_batch(&batch([new_job("job")])).await.unwrap();
        adopting.populate_historical_jobs(&historical(3), &|_| ()).await.unwrap();
        assert_eq!(all_jobs(&*adopting).await.len(), 4);
        adopting.tear_down().await.unwrap();
        assert_eq!(all_jobs(&*adopting).await.len(), 0);
        adopting.initialise_schema().await.unwrap();
        let database = connect(&address_of(&store, layout)).await.unwrap();
        database.execute_ingestion_query_batch(&batch([new_job("job")])).await.unwrap();
        assert_eq!(all_jobs(&*database).await.len(), 1);
        store.remove().await.unwrap();
    }
}

async fn empty_database() {
    let config: DatabaseConfig = shared(LAYOUTS[0]).parse().unwrap();
    let store = config.create_scratch(Arc::new(SystemClock)).await.unwrap();
    for error in write_errors(&**store.database()).await {
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::NotInitialised, Outcome::NotApplied), "{error:?}");
    }
    store.remove().await.unwrap();
}

async fn common_lock() {
    for layout in LAYOUTS {
        let proxy = Proxy::start(&shared(layout)).await;
        let store = scratch(proxy.address()).await;
        let other = connect(&address_of(&store, layout)).await.unwrap();
        assert_common_lock(&**store.database(), &*other).await;
        store.remove().await.unwrap();
    }
}

/// Two handles to an empty store concurrently update different fields of the same jobs; no update is lost.
pub(super) async fn assert_common_lock(one: &dyn Database, other: &dyn Database) {
    let ids: Vec<_> = (0..20).map(|number| format!("job-{number:02}")).collect();
    one.execute_ingestion_query_batch(&batch(ids.iter().map(|id| new_job(id)))).await.unwrap();
    for round in 1..=5 {
        let update =
            |job_id: &String| UpdateJobPriority { job_id: job_id.clone(), priority: round, submitted: None }.into();
        let run = |job_id: &String| {
            let (run_id, time) = (format!("{job_id}-{round}"), Timestamp::from_seconds(round));
            let running =
                SetJobRunning { job_id: job_id.clone(), time, latest_run_id: run_id.clone(), submitted: None };
            [new_run(job_id, &run_id), running.into()]
        };
        let (priorities, runs) = (batch(ids.iter().map(update)), batch(ids.iter().flat_map(run)));
        let updates = (one.execute_ingestion_query_batch(&priorities), other.execute_ingestion_query_batch(&runs));
        let (priorities, runs) = tokio::join!(updates.0, updates.1);
        priorities.and(runs).unwrap();
        for job in all_jobs(other).await {
            assert_eq!((job.priority, job.runs.len() as i64), (round, round), "{job:?}");
            assert_eq!(job.last_active_run_id.as_deref(), Some(format!("{}-{round}", job.job_id).as_str()));
        }
    }
}

async fn properties() {
    for layout in LAYOUTS {
        let store = scratch(&shared(layout)).await;
        let database = store.database();
        assert_eq!(database.property("key").await.unwrap(), None);
        for value in ["one", "", "two'\\\n"] {
            database.set_property("key", Some(value)).await.unwrap();
            let other = connect(&address_of(&store, layout)).await.unwrap();
            assert_eq!(other.property("key").await.unwrap().as_deref(), Some(value));
        }
        assert_eq!(database.property("ke").await.unwrap(), None);
        database.initialise_schema().await.unwrap();
        assert!(database.property("key").await.unwrap().is_some());
        database.set_property("other", Some("kept")).await.unwrap();
        database.set_property("key", None).await.unwrap();
        assert_eq!(database.property("key").await.unwrap(), None);
        assert_eq!(database.property("other").await.unwrap().as_deref(), Some("kept"));
        database.set_property("key", Some("anew")).await.unwrap();
        assert_eq!(database.property("key").await.unwrap().as_deref(), Some("anew"));
        database.tear_down().await.unwrap();
        assert_eq!(database.property("key").await.unwrap(), None);
        database.set_property("key", Some("again")).await.unwrap();
        assert_eq!(database.property("key").await.unwrap().as_deref(), Some("again"));
        store.remove().await.unwrap();
    }
}

async fn half_way() {
    let store = scratch(&shared(LAYOUTS[0])).await;
    let database = store.database();
    database.execute_ingestion_query_batch(&batch([new_job("job")])).await.unwrap();
    run(&store, "DROP TABLE job_run SYNC").await;
    // The jobs are removed, but the runs cannot be removed.
    let error = database.tear_down().await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::NotInitialised, Outcome::Unknown), "{error:?}");
    let cancelled = SetJobCancelled {
        job_id: "job".to_owned(),
        time: Timestamp::from_seconds(1),
        cancel_reason: None,
        cancel_user: None,
        submitted: None,
    };
    database.initialise_schema().await.unwrap();
    database.execute_ingestion_query_batch(&batch([new_job("job"), cancelled.into()])).await.unwrap();
    assert_eq!(all_jobs(&**database).await[0].state, JobState::Cancelled);
    store.remove().await.unwrap();
}

async fn explained() {
    for layout in LAYOUTS {
        let store = scratch(&shared(layout)).await;
        let database = store.database();
        let error = InsertJobError { job_id: "job".to_owned(), error: Some("e".into()), submitted: None }.into();
        database.execute_ingestion_query_batch(&batch([new_job("job"), new_run("job", "run"), error])).await.unwrap();
        let query = JobQuery::new().filter(TextField::JobId.equals("job")).limit(3);
        let page = database.explain(&ReadCall::Jobs(query)).await.unwrap();
        let [jobs, runs] = page.statements.as_slice() else { panic!("{page:?}") };
        assert!(
            jobs.statement.starts_with("SELECT job_id, ") && jobs.statement.contains("\n-- p0 = \"job\""),
            "{jobs:?}"
        );
        assert!(runs.statement.contains("FROM job_run") && runs.statement.contains("-- p0 = [\"job\"]"), "{runs:?}");
        for statement in &page.statements {
            assert!(statement.plan.contains("PrimaryKey") && statement.plan.contains("Granules"), "{statement:?}");
        }
        let error = database.explain(&ReadCall::JobError("job".to_owned())).await.unwrap();
        assert!(error.statements[0].statement.contains("FROM job_error"), "{error:?}");
        assert!(error.statements[0].plan.contains("PrimaryKey"), "{error:?}");
        store.remove().await.unwrap();
    }
}

/// The definitions and the rows of a database's tables.
pub(super) async fn content(client: &clickhouse::Client, database: &str) -> Vec<String> {
    let texts = async |sql: &str| client.query(sql).fetch_all::<String>().await.unwrap();
    let own = format!("FROM system.tables WHERE database = '{database}'");
    let mut content = texts(&format!("SELECT toString((name, uuid, create_table_query, comment)) {own}")).await;
    content.extend(
        texts(&format!("SELECT toString((name, uuid, comment)) FROM system.databases WHERE name = '{database}'")).await,
    );
    for table in texts(&format!("SELECT name {own} AND engine LIKE '%MergeTree'")).await {
        let rows = texts(&format!("SELECT toValidUTF8(toString(tuple(*))) FROM {database}.{table}")).await;
        content.extend(rows.into_iter().map(|row| format!("{table}: {row}")));
    }
    content
}

/// Each refusal of each command leaves the catalog, the rows and the files as they were.
async fn refusals() {
    use crate::support::refusals::Refusals;

    for (layout, other_layout) in [(LAYOUTS[0], LAYOUTS[1]), (LAYOUTS[1], LAYOUTS[0])] {
        let store = scratch(&shared(layout)).await;
        let database = database_of(&store);
        let name = format!("clickhouse-refusals-{layout}");
        let refusals = Refusals::new(&name, async || content(&client(), &database).await);
        let address = |parameters: &str| address_of(&store, &format!("{layout}&{parameters}"));
        let jobs = (0..5).map(|number| new_job(&format!("job-{number}")));
        store.database().execute_ingestion_query_batch(&batch(jobs)).await.unwrap();
        refusals.arguments(&address("adopt=true")).await;
        refusals.read_only(&address("setting.readonly=2"), "readonly").await;
        let foreign = "contains 5 jobs that no load test has created";
        refusals.loads(&address("adopt=false"), foreign).await;
        run(&store, "DROP TABLE broadside_store SYNC").await;
        for adopt in ["adopt=true", "adopt=false"] {
            refusals.loads(&address(adopt), foreign).await;
        }
        refusals.loads(&address_of(&store, &format!("{other_layout}&adopt=true")), layout).await;
        run(&store, "TRUNCATE TABLE job").await;
        refusals.loads(&address("adopt=false"), "adopt=true").await;
        run(&store, "DROP TABLE job SYNC").await;
        let engine = if layout == LAYOUTS[0] { "ReplacingMergeTree" } else { "MergeTree" };
        run(&store, &format!("CREATE TABLE job (job_id String) ENGINE = {engine} ORDER BY job_id")).await;
        refusals.loads(&address("adopt=true"), "it has no column").await;
        store.remove().await.unwrap();

        // A store of a load test.
        let store = scratch(&shared(layout)).await;
        let database = database_of(&store);
        let refusals = Refusals::new(&name, async || content(&client(), &database).await);
        let address = address_of(&store, layout);
        refusals.load("load.yaml", &address);
        let other = ["run", "--config", "load.yaml", "--config", "other.yaml", "--backend", &address];
        refusals.refused(&other, "the historical jobs of another configuration").await;
        let marker = r#"{"madeBy":"broadside","schema":99,"layout":"replacing","id":"x","created":"2026-01-01T00:00:00Z","scratch":false}"#;
        run(&store, &format!("ALTER TABLE broadside_store MODIFY COMMENT '{marker}'")).await;
        refusals.loads(&address, "has version 99").await;
        store.remove().await.unwrap();
    }
}

/// The first column of a row, read without Broadside.
async fn value(store: &ScratchStore, sql: &str) -> u64 {
    client().with_database(database_of(store)).query(sql).fetch_one().await.unwrap()
}

async fn activity() {
    const INSERTED: &str = "SELECT sum(value) FROM system.events WHERE event = 'InsertedRows'";
    const PARTS: &str = "SELECT count() FROM system.parts WHERE active AND database = currentDatabase()";
    let store = scratch(&shared("")).await;
    let earliest = value(&store, INSERTED).await;
    let before = store.database().activity().await.unwrap();
    let earlier = value(&store, INSERTED).await;
    let jobs =
        (0..500).map(|number| InsertJob { job: plain_job(&format!("job-{number}"), "set"), job_spec: None }.into());
    store.database().execute_ingestion_query_batch(&batch(jobs)).await.unwrap();
    let later = value(&store, INSERTED).await;
    let after = store.database().activity().await.unwrap();
    let latest = value(&store, INSERTED).await;
    // Other tests insert rows on this server.
    let inserted = |activity: &Activity| activity.counters["insertedRows"];
    assert!((earliest..=earlier).contains(&inserted(&before)) && (later..=latest).contains(&inserted(&after)));
    assert!(inserted(&after) - inserted(&before) >= 500);
    assert_eq!(after.unreadable, Vec::<String>::new());
    assert!(after.gauges["memoryBytes"] > 0 && after.gauges.contains_key("runningMerges"));
    // Merges change the number of parts at any time.
    loop {
        let parts = value(&store, PARTS).await;
        let activity = store.database().activity().await.unwrap();
        if value(&store, PARTS).await == parts {
            assert_eq!(activity.gauges["parts"], parts);
            break;
        }
    }
    store.remove().await.unwrap();
}

/// The front refuses an insert into a replicated table while another one waits for its quorum, as servers do.
async fn turns() {
    let server = Server::clickhouse_with("turns", ("QUORUM", "0.1"));
    let address = with(server.address(), "cluster=tests");
    let first = connect(&address).await.unwrap();
    first.initialise_schema().await.unwrap();
    let second = connect(&address).await.unwrap();
    let writes = (0..8).map(|number| {
        let (database, job_id) = ([&first, &second][number % 2].clone(), format!("job-{number}"));
        async move {
            let queries = [new_job(&job_id), new_run(&job_id, &format!("{job_id}-r"))];
            database.execute_ingestion_query_batch(&batch(queries)).await
        }
    });
    futures::future::try_join_all(writes).await.unwrap();
    let jobs = all_jobs(&*first).await;
    assert!(jobs.len() == 8 && jobs.iter().all(|job| job.runs.len() == 1), "{jobs:?}");
    assert_eq!(server.log().matches("refused").count(), 0, "{}", server.log());
    // The first batch has an insert of its own, and those that waited for it have a common one.
    const INSERTED: &str = "SELECT count() FROM system.parts WHERE database = 'broadside' AND table = 'job_local'
        AND min_block_number = max_block_number";
    let parts: u64 = client_of(server.address()).query(INSERTED).fetch_one().await.unwrap();
    assert!((1..8).contains(&parts), "{parts} parts of 8 batches");

    // The server rejects subqueries over several shards that are not GLOBAL.
    let twice = connect(&with(&server.address().replace("/?", "/twice?"), "cluster=twice")).await.unwrap();
    twice.initialise_schema().await.unwrap();
    let time = Timestamp::from_seconds(1);
    let running = SetJobRunning { job_id: "job".into(), time, latest_run_id: "run".into(), submitted: None };
    let error = InsertJobError { job_id: "job".into(), error: Some("e".into()), submitted: None };
    let queries = [new_job("job"), new_run("job", "run"), error.into(), running.into()];
    twice.execute_ingestion_query_batch(&batch(queries)).await.unwrap();
    let filter = TextField::Cluster.equals("cluster");
    let page = twice.get_jobs(&JobQuery::new().filter(filter.clone()).in_active_job_sets()).await.unwrap();
    assert_eq!(page.iter().map(|job| job.job_id.as_str()).collect::<Vec<_>>(), ["job"; 2]);
    let query = GroupQuery::by(GroupField::Node).filter(filter).in_active_job_sets();
    assert_eq!(twice.get_job_groups(&query).await.unwrap()[0].count, 2);
    assert_eq!(twice.get_job_error("job").await.unwrap(), "e");
    twice.populate_historical_jobs(&historical(3), &|_| ()).await.unwrap();
    assert_eq!(all_jobs(&*twice).await.len(), 8);

    // The size of the tables, read without Broadside.
    let client = client_of(server.address());
    const SIZE: &str = "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'broadside'";
    loop {
        let before: u64 = client.query(SIZE).fetch_one().await.unwrap();
        let info = first.store_info().await.unwrap();
        if before == client.query(SIZE).fetch_one::<u64>().await.unwrap() {
            assert!(before > 0);
            assert_eq!(info.bytes, Some(before));
            break;
        }
    }
}

/// Values that no batch can contain, in a page with another job.
async fn odd_values() {
    for layout in LAYOUTS {
        let store = scratch(&shared(layout)).await;
        let database = store.database();
        let jobs = ["a", "b"].map(|id| [new_job(id), new_run(id, &format!("{id}-1"))]);
        database.execute_ingestion_query_batch(&batch(jobs.into_iter().flatten())).await.unwrap();
        let before = all_jobs(&**database).await;
        run(&store, "ALTER TABLE job_run MODIFY COLUMN state Enum8('RUN_LEASED' = 11, 'RUN_NEW' = 13)").await;
        run(&store, "ALTER TABLE job MODIFY COLUMN state Enum8('QUEUED' = 1, 'NEW' = -7)").await;
        let far = "fromUnixTimestamp64Micro(toInt64(9000000000000000000))";
        for set in [
            format!("job UPDATE state = 'NEW', cancelled = {far}"),
            format!("job_run UPDATE state = 'RUN_NEW', finished = {far}"),
        ] {
            run(&store, &format!("ALTER TABLE {set} WHERE job_id = 'a' SETTINGS mutations_sync = 1")).await;
        }
        let last = Timestamp::from_micros(broadside::ingest::END.as_micros() - 1);
        let check = async || {
            let after = all_jobs(&**database).await;
            assert_eq!(after[1], before[1]);
            let (job, run) = (&after[0], &after[0].runs[0]);
            assert_eq!((job.state, job.cancelled), (JobState::Unknown(-7), Some(last)), "{job:?}");
            assert_eq!((run.job_run_state.to_string().as_str(), run.finished), ("UNKNOWN_13", Some(last)));
            let by_state = GroupQuery::by(GroupField::State).order_by(GroupOrderKey::Name, Direction::Ascending);
            let groups = database.get_job_groups(&by_state).await.unwrap();
            let groups: Vec<_> = groups.iter().map(|group| (group.name.as_str(), group.count)).collect();
            assert_eq!(groups, [("UNKNOWN_-7", 1), ("QUEUED", 1)]);
        };
        check().await;
        // An update of the job is ignored, and one of the run keeps the values that it does not set.
        let priority = UpdateJobPriority { job_id: "a".to_owned(), priority: 9, submitted: None };
        database.execute_ingestion_query_batch(&batch([priority.into()])).await.unwrap();
        check().await;
        store.remove().await.unwrap();
    }
}
