//! Bulk loads of historical jobs, during which secondary indexes are dropped: after interruptions and concurrent calls,
//! each job is stored once and the schema is unchanged.

use std::time::Duration;

use crate::support::backends::Backend;
use crate::support::harness::server_trial;
use crate::support::jobs::all_jobs;
use crate::support::postgres::{
    JOBS, LAYOUTS, Layout, describe, handle, job_set, names, session, shared, store, until_blocked,
};
use crate::support::server::with;
use broadside::query::{Direction, GroupField, GroupOrderKey};
use broadside::{Database, GroupQuery, HistoricalJobs, HistoricalJobsParams, ScratchStore};
use libtest_mimic::Trial;
use serde_json::json;
use tokio_postgres::Client;

/// A number of jobs for which indexes are dropped if few others are stored.
const BULK: usize = 10_000;
/// A number of jobs for which indexes are kept.
const FEW: usize = 300;

/// All tables and partitions, except those that Broadside adds to Lookout's.
const TABLES: &str = "
SELECT relname::text FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND relname NOT LIKE 'broadside%'
ORDER BY relname";

pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = LAYOUTS.into_iter().flat_map(of_layout).collect();
    trials.push(server_trial(Backend::POSTGRES, "indexes-of-others-are-kept", tuned));
    trials.push(server_trial(Backend::POSTGRES, "an-index-build-has-no-timeout", slow_index));
    trials
}

fn of_layout(layout: Layout) -> impl Iterator<Item = Trial> {
    let name = |test: &str| format!("{test}::{}", layout.name);
    let repairs = Repair::ALL.map(|repair| {
        server_trial(Backend::POSTGRES, name(&format!("an-interruption-is-completed-by-{repair:?}")), move || {
            interrupted(layout, repair)
        })
    });
    repairs.into_iter().chain([
        server_trial(Backend::POSTGRES, name("the-schema-is-unchanged"), move || uninterrupted(layout)),
        server_trial(Backend::POSTGRES, name("concurrent-calls-are-correct"), move || beside_others(layout)),
        server_trial(Backend::POSTGRES, name("concurrently-inserted-rows-are-kept"), move || taken_meanwhile(layout)),
    ])
}

/// The call that recreates the indexes after an interrupted population.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repair {
    Initialise,
    Populate,
    TearDown,
}

impl Repair {
    const ALL: [Self; 3] = [Self::Initialise, Self::Populate, Self::TearDown];
}

/// Historical jobs of a separate job set, the first of which fail.
fn historical(job_set: usize, count: usize) -> HistoricalJobs {
    let params: HistoricalJobsParams = serde_json::from_value(json!({
        "queueIdx": 0, "jobSetIdx": job_set, "queueName": "queue", "jobSetName": format!("historical-{job_set}"),
        "nJobs": count, "chunkSize": 1000, "erroredThreshold": 100, "cancelledThreshold": 500, "jobAgeDays": [0, 7],
        "referenceTime": "2026-01-01T00:00:00Z", "jobSpecBytes": "CgFq", "errorBytes": "ZXJyb3I=",
    }))
    .unwrap();
    params.try_into().unwrap()
}

async fn populate(database: &dyn Database, job_set: usize, count: usize) {
    database.populate_historical_jobs(&historical(job_set, count), &|_| ()).await.unwrap();
}

async fn description(session: &Client) -> String {
    let tables = session.query(TABLES, &[]).await.unwrap();
    describe(session, &tables.iter().map(|row| row.get(0)).collect::<Vec<_>>()).await
}

/// The number of jobs of each job set.
async fn job_sets(database: &dyn Database) -> Vec<(String, u64)> {
    let query = GroupQuery::by(GroupField::JobSet).order_by(GroupOrderKey::Name, Direction::Ascending);
    let groups = database.get_job_groups(&query).await.unwrap();
    groups.into_iter().map(|group| (group.name.into(), group.count)).collect()
}

/// The number of jobs of each job set. Asserts that each job has one run.
async fn whole_job_sets(database: &dyn Database) -> Vec<(String, u64)> {
    assert!(all_jobs(database).await.iter().all(|job| job.runs.len() == 1));
    job_sets(database).await
}

fn named(job_set: usize, count: usize) -> (String, u64) {
    (format!("historical-{job_set}"), count as u64)
}

/// A small population with all indexes, then a bulk load that is dropped during its first chunks.
async fn interrupt(store: &ScratchStore, layout: Layout, application: &str) {
    populate(&**store.database(), 0, FEW).await;
    let database = handle(store, &in_layout(layout, &format!("application_name={application}"))).await;
    let mut session = session(store, &shared("")).await;
    let transaction = session.transaction().await.unwrap();
    transaction.batch_execute("LOCK TABLE job_spec IN SHARE MODE").await.unwrap();
    let call = tokio::spawn(async move { populate(&*database, 0, BULK).await });
    until_blocked(transaction.client(), application).await;
    call.abort();
    call.await.unwrap_err();
    transaction.commit().await.unwrap();
}

fn in_layout(layout: Layout, parameters: &str) -> String {
    with(&shared(layout.parameter), parameters)
}

async fn uninterrupted(layout: Layout) {
    let store = store(&shared(layout.parameter)).await;
    let session = session(&store, &shared("")).await;
    populate(&**store.database(), 0, FEW).await;
    let before = description(&session).await;
    populate(&**store.database(), 0, BULK).await;
    assert_eq!(description(&session).await, before);
    let lone = handle(&store, &in_layout(layout, "pool_size=1")).await;
    populate(&*lone, 1, 3 * BULK).await;
    assert_eq!(description(&session).await, before);
    assert_eq!(whole_job_sets(&**store.database()).await, [named(0, BULK), named(1, 3 * BULK)]);
    store.remove().await.unwrap();
}

async fn interrupted(layout: Layout, repair: Repair) {
    let store = store(&shared(layout.parameter)).await;
    let (database, session) = (store.database(), session(&store, &shared("")).await);
    populate(&**database, 0, FEW).await;
    let before = description(&session).await;
    interrupt(&store, layout, &format!("interrupted-{}-{repair:?}", layout.name)).await;
    assert_ne!(description(&session).await, before, "nothing was interrupted");
    assert_eq!(whole_job_sets(&**database).await, [named(0, FEW)]);
    let expected = match repair {
        Repair::Initialise => {
            database.initialise_schema().await.unwrap();
            vec![named(0, FEW)]
        }
        Repair::Populate => {
            populate(&**database, 0, BULK).await;
            vec![named(0, BULK)]
        }
        Repair::TearDown => {
            database.tear_down().await.unwrap();
            Vec::new()
        }
    };
    assert_eq!(description(&session).await, before);
    assert_eq!(whole_job_sets(&**database).await, expected);
    store.remove().await.unwrap();
}

/// Three concurrent populations, two of them of the same jobs, with a writer and a reader.
async fn beside_others(layout: Layout) {
    let address = shared(layout.parameter);
    let store = store(&address).await;
    let session = session(&store, &shared("")).await;
    populate(&**store.database(), 0, FEW).await;
    store.database().execute_ingestion_query_batch(&job_set("set-000")).await.unwrap();
    let before = description(&session).await;
    let populations = [0, 0, 1].map(|number| {
        let (store, address) = (&store, &address);
        async move { populate(&*handle(store, address).await, number, BULK).await }
    });
    let write = async {
        for name in names(20) {
            store.database().execute_ingestion_query_batch(&job_set(&name)).await.unwrap();
        }
    };
    let read = async {
        let mut count = 0;
        while count < 2 * BULK + 20 * JOBS {
            count = 0;
            for (name, jobs) in job_sets(&**store.database()).await {
                let whole = if name.starts_with("set-") { JOBS } else { 100 };
                assert_eq!(jobs as usize % whole, 0, "{name} is not whole");
                count += jobs as usize;
            }
        }
    };
    tokio::join!(futures::future::join_all(populations), write, read);
    assert_eq!(description(&session).await, before);
    let sets = whole_job_sets(&**store.database()).await;
    let expected: Vec<_> = [named(0, BULK), named(1, BULK)]
        .into_iter()
        .chain(names(20).into_iter().map(|name| (name, JOBS as u64)))
        .collect();
    assert_eq!(sets, expected);
    store.remove().await.unwrap();
}

/// A record that another transaction inserts concurrently is found by its key and kept.
async fn taken_meanwhile(layout: Layout) {
    let application = format!("taken-{}", layout.name);
    let store = store(&in_layout(layout, &format!("application_name={application}"))).await;
    let mut session = session(&store, &shared("")).await;
    let transaction = session.transaction().await.unwrap();
    let job_id = historical(0, FEW).job_id(7);
    let insert = "INSERT INTO job_error (job_id, error) VALUES ($1, 'first')";
    transaction.execute(insert, &[&job_id]).await.unwrap();
    let database = store.database().clone();
    let call = tokio::spawn(async move { populate(&*database, 0, FEW).await });
    until_blocked(transaction.client(), &application).await;
    transaction.commit().await.unwrap();
    call.await.unwrap();
    assert_eq!(whole_job_sets(&**store.database()).await, [named(0, FEW)]);
    assert_eq!(store.database().get_job_error(&job_id).await.unwrap(), "first");
    store.remove().await.unwrap();
}

/// Indexes that tuning has dropped stay dropped, and those that it has created are recreated.
async fn tuned() {
    let tuning =
        "tuning_sql=DROP INDEX IF EXISTS idx_job_state; CREATE INDEX IF NOT EXISTS tuned ON job (gpu) WHERE gpu > 0";
    let store = store(&shared(tuning)).await;
    let session = session(&store, &shared("")).await;
    let before = description(&session).await;
    populate(&**store.database(), 0, BULK).await;
    assert_eq!(description(&session).await, before);
    store.remove().await.unwrap();
}

/// The build of an index is not subject to the statement timeout, because otherwise a large store would never get its
/// indexes back.
async fn slow_index() {
    let store = store(&shared("statement_timeout=0.3")).await;
    interrupt(&store, LAYOUTS[0], "slow-index").await;
    let mut session = session(&store, &shared("")).await;
    let transaction = session.transaction().await.unwrap();
    transaction.batch_execute("LOCK TABLE job IN ROW EXCLUSIVE MODE").await.unwrap();
    let database = store.database().clone();
    let call = tokio::spawn(async move { database.initialise_schema().await });
    tokio::time::sleep(Duration::from_millis(900)).await;
    transaction.commit().await.unwrap();
    call.await.unwrap().unwrap();
    store.remove().await.unwrap();
}
