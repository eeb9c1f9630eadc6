//! Databases of Lookout and of upstream Broadside: the layouts and migrations that can be read.

use broadside::ingest::{InsertJobError, InsertJobRun, SetJobErrored, SetJobRunFailed, SetJobRunning};
use broadside::load::{LoadConfig, LoadTest};
use broadside::query::{Direction, GroupField, GroupOrderKey, TextField};
use broadside::{Database, ErrorKind, GroupQuery, Job, JobGroup, JobQuery, ScratchStore, Timestamp};
use libtest_mimic::Trial;

use super::stores::{drop_unmarked, unmarked};
use super::trial;
use crate::support::jobs::all_jobs;
use crate::support::postgres::{
    LAYOUTS, batch, handle, insert, schema, session, shared, store, try_handle, write_errors,
};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("other-layouts-are-read-but-not-changed", other_layouts),
        trial("a-store-that-another-program-converts-is-not-written", converted),
        trial("tables-that-cannot-be-written-correctly-are-not-adopted", not_adopted),
        trial("tables-of-each-migration-are-read", migrations),
        trial("tables-before-the-first-migration-that-can-be-read-are-refused", before_the_first),
        trial("records-are-read-as-lookout-reads-them", records),
        trial("lookout-can-read-the-jobs-of-a-load-test", written),
    ]
}

/// Lookout's tables without a marker: with two jobs of other tests, and a failed job with a run.
pub async fn lookouts() -> ScratchStore {
    let store = unmarked(LAYOUTS[0]).await;
    let at = Timestamp::from_seconds;
    let (job_id, run_id) = ("c".to_owned(), "c-run".to_owned());
    let run = InsertJobRun {
        job_run_id: run_id.clone(),
        job_id: job_id.clone(),
        cluster: "cluster".to_owned(),
        node: Some("node".to_owned()),
        pool: Some("pool".to_owned()),
        time: at(1),
        submitted: None,
    };
    let running = SetJobRunning { job_id: job_id.clone(), time: at(2), latest_run_id: run_id.clone(), submitted: None };
    let failed = SetJobRunFailed {
        job_run_id: run_id,
        time: at(3),
        error: Some("error of the run".into()),
        debug: Some("debug message".into()),
        exit_code: 7,
        submitted: None,
    };
    let errored = SetJobErrored { job_id: job_id.clone(), time: at(3), submitted: None };
    let error = InsertJobError { job_id, error: Some("error of the job".into()), submitted: None };
    let queries = [insert("c", "js"), run.into(), running.into(), failed.into(), errored.into(), error.into()];
    let adopted = handle(&store, &shared("adopt=true")).await;
    adopted.execute_ingestion_query_batch(&batch(queries)).await.unwrap();
    let drop = "DROP TABLE broadside_store, broadside_migration, broadside_deferred_index";
    session(&store, &shared("")).await.batch_execute(drop).await.unwrap();
    store
}

/// The results of all kinds of reads.
async fn results(database: &dyn Database) -> (Vec<Job>, Vec<Job>, Vec<JobGroup>, Vec<JobGroup>, [String; 3]) {
    let of_pool = JobQuery::new().filter(TextField::Pool.equals("pool"));
    let groups = |field| GroupQuery::by(field).count_states().order_by(GroupOrderKey::Name, Direction::Ascending);
    (
        all_jobs(database).await,
        database.get_jobs(&of_pool).await.unwrap(),
        database.get_job_groups(&groups(GroupField::State)).await.unwrap(),
        database.get_job_groups(&groups(GroupField::Pool)).await.unwrap(),
        [
            database.get_job_error("c").await.unwrap(),
            database.get_job_run_error("c-run").await.unwrap(),
            database.get_job_run_debug_message("c-run").await.unwrap(),
        ],
    )
}

/// The layouts of upstream Broadside and of Lookout, whose tables have the names of this backend's.
pub const OTHER_LAYOUTS: [(&str, &str); 3] = [
    (
        "hotColdSplit of upstream Broadside",
        "CREATE TABLE job_historical (LIKE job INCLUDING ALL);
        INSERT INTO job_historical SELECT * FROM job WHERE state IN (4, 5); DELETE FROM job WHERE state IN (4, 5);
        ALTER TABLE job ADD CONSTRAINT chk_job_active_state CHECK (state IN (1, 2, 3, 8));
        ALTER TABLE job_historical ADD CONSTRAINT chk_job_historical_terminal_state CHECK (state IN (4, 5, 6, 7, 9));
        CREATE VIEW job_all AS SELECT * FROM job UNION ALL SELECT * FROM job_historical",
    ),
    (
        "partitionBySubmitted of upstream Broadside",
        "ALTER TABLE job RENAME TO job_unpartitioned;
        CREATE TABLE job (LIKE job_unpartitioned, PRIMARY KEY (job_id, submitted)) PARTITION BY RANGE (submitted);
        CREATE TABLE job_default PARTITION OF job DEFAULT; INSERT INTO job SELECT * FROM job_unpartitioned;
        ALTER TABLE job_run ADD COLUMN submitted timestamp; ALTER TABLE job_spec ADD COLUMN submitted timestamp",
    ),
    (
        "experimentalHotColdSplit of Lookout",
        "ALTER TABLE job RENAME TO job_old;
        CREATE TABLE job (LIKE job_old, PRIMARY KEY (job_id, state)) PARTITION BY LIST (state);
        CREATE TABLE job_active PARTITION OF job FOR VALUES IN (1, 2, 3, 8);
        CREATE TABLE job_terminated PARTITION OF job FOR VALUES IN (4, 5, 6, 7, 9);
        INSERT INTO job SELECT * FROM job_old; DROP TABLE job_old",
    ),
];

async fn other_layouts() {
    for (name, statements) in OTHER_LAYOUTS {
        let store = lookouts().await;
        let expected = results(&*handle(&store, &shared("")).await).await;
        session(&store, &shared("")).await.batch_execute(statements).await.unwrap();
        for parameters in ["", "adopt=true"] {
            let database = handle(&store, &shared(parameters)).await;
            assert_eq!(results(&*database).await, expected, "{name}");
            assert_eq!(database.job_count().await.unwrap(), 3);
            let mut errors = write_errors(&*database).await;
            errors.push(database.initialise_schema().await.unwrap_err());
            for error in errors {
                assert_eq!(error.kind(), ErrorKind::WrongStore, "{error:?}");
                assert!(error.message().contains(name) && error.message().contains(&schema(&store)), "{error:?}");
            }
            assert_eq!(results(&*database).await, expected, "{name}");
        }
        let error = try_handle(&store, &shared("partition_by_submitted=true")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongStore, "{error:?}");
        drop_unmarked(store).await;
    }
}

/// The marker remains when Lookout or Armada's Broadside converts the tables.
async fn converted() {
    for (name, statements) in OTHER_LAYOUTS {
        let store = lookouts().await;
        let open = handle(&store, &shared("adopt=true")).await;
        open.execute_ingestion_query_batch(&batch([insert("d", "js")])).await.unwrap();
        let expected = results(&*open).await;
        session(&store, &shared("")).await.batch_execute(statements).await.unwrap();
        let later = handle(&store, &shared("")).await;
        for database in [&open, &later, &handle(&store, &shared("adopt=true")).await] {
            let mut errors = write_errors(&**database).await;
            errors.push(database.initialise_schema().await.unwrap_err());
            for error in errors {
                assert_eq!(error.kind(), ErrorKind::WrongStore, "{error:?}");
                assert!(error.message().contains(name), "{error:?}");
            }
        }
        assert_eq!(results(&*later).await, expected, "{name}");
        drop_unmarked_or_converted(store).await;
    }
}

/// Drops a converted store, which has a marker but not that of a scratch store.
async fn drop_unmarked_or_converted(store: ScratchStore) {
    session(&store, &shared("")).await.batch_execute("DROP TABLE broadside_store").await.unwrap();
    drop_unmarked(store).await;
}

async fn not_adopted() {
    for change in [
        "ALTER TABLE job DROP CONSTRAINT job_pkey",
        "ALTER TABLE job_run DROP CONSTRAINT job_run_pkey",
        "ALTER TABLE job ADD COLUMN further integer NOT NULL DEFAULT 1; ALTER TABLE job ALTER further DROP DEFAULT",
        "ALTER TABLE job_error RENAME TO theirs; CREATE VIEW job_error AS SELECT * FROM theirs",
        "CREATE VIEW job_all AS SELECT * FROM job",
    ] {
        let store = lookouts().await;
        let session = session(&store, &shared("")).await;
        session.batch_execute(change).await.unwrap();
        let database = handle(&store, &shared("adopt=true")).await;
        let before = results(&*database).await;
        for error in write_errors(&*database).await {
            assert_eq!(error.kind(), ErrorKind::WrongStore, "{change}: {error:?}");
        }
        assert_eq!(results(&*database).await, before, "{change}");
        let marker = session.query_one("SELECT to_regclass('broadside_store') IS NULL", &[]).await.unwrap();
        assert!(marker.get::<_, bool>(0), "{change}");
        drop_unmarked(store).await;
    }
    // An interrupted split.
    let store = lookouts().await;
    session(&store, &shared("")).await.batch_execute("CREATE TABLE job_historical (LIKE job)").await.unwrap();
    for parameters in ["", "adopt=true", "hot_cold_split=true"] {
        let error = try_handle(&store, &shared(parameters)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongStore, "{error:?}");
    }
    drop_unmarked(store).await;
}

/// The changes of the migrations from 014 on to the tables that are read.
pub const MIGRATIONS: [(u32, &str); 8] = [
    (14, "ALTER TABLE job ADD COLUMN external_job_uri varchar(1024)"),
    (15, "ALTER TABLE job ADD COLUMN cancel_user varchar(512)"),
    (16, "ALTER TABLE job_run ADD COLUMN pool text"),
    (25, "ALTER TABLE job_run ADD COLUMN ingress_addresses jsonb"),
    (31, "ALTER TABLE job_run ADD COLUMN failure_info jsonb"),
    (32, "ALTER TABLE job_run ADD COLUMN failure_category varchar(63), ADD COLUMN failure_subcategory varchar(63)"),
    (33, "ALTER TABLE job_run DROP COLUMN failure_info"),
    (34, "ALTER TABLE job_run ADD COLUMN scheduler_termination_reason jsonb"),
];
pub const UNDO: &str = "
    ALTER TABLE job DROP COLUMN external_job_uri, DROP COLUMN cancel_user;
    ALTER TABLE job_run DROP COLUMN pool, DROP COLUMN ingress_addresses, DROP COLUMN failure_category,
        DROP COLUMN failure_subcategory, DROP COLUMN scheduler_termination_reason";
/// A change that is not merged, and one that removes what no later migration needs.
const LATER: &str = "
    ALTER TABLE job ADD COLUMN preempt_user varchar(512), ADD COLUMN reprioritize_user varchar(512), DROP COLUMN job_spec";

async fn migrations() {
    let store = lookouts().await;
    let session = session(&store, &shared("")).await;
    let mut expected = results(&*handle(&store, &shared("")).await).await;
    assert_eq!((expected.1.len(), expected.3.len()), (1, 2));
    // A pool that no row has is null.
    expected.0.iter_mut().for_each(|job| job.pool = None);
    expected.0.iter_mut().flat_map(|job| &mut job.runs).for_each(|run| run.pool = None);
    expected.1.clear();
    session.batch_execute(UNDO).await.unwrap();
    let without_pools = async |level: u32| {
        let reader = handle(&store, &shared("")).await;
        let mut found = results(&*reader).await;
        // All jobs are in the group without a pool.
        let groups = std::mem::take(&mut found.3);
        assert_eq!((groups.len(), groups[0].name.as_str(), groups[0].count), (1, "", 3), "{level}");
        found.3 = expected.3.clone();
        assert_eq!(found, expected, "{level}");
    };
    without_pools(13).await;
    let adopting = handle(&store, &shared("adopt=true")).await;
    for error in write_errors(&*adopting).await {
        assert_eq!(error.kind(), ErrorKind::WrongStore, "{error:?}");
        assert!(error.message().contains("without the column job.cancel_user"), "{error:?}");
    }
    let open = handle(&store, &shared("")).await;
    for (level, statement) in MIGRATIONS {
        session.batch_execute(statement).await.unwrap();
        // A migration does not end the reads of a handle that was opened before.
        assert_eq!(results(&*open).await.0, expected.0, "{level}");
        without_pools(level).await;
    }
    session.batch_execute("UPDATE job SET cancel_user = 'user'; UPDATE job_run SET pool = 'pool'").await.unwrap();
    session.batch_execute(LATER).await.unwrap();
    let found = results(&*handle(&store, &shared("")).await).await;
    assert!(found.0.iter().all(|job| job.cancel_user.as_deref() == Some("user")));
    assert_eq!((found.1.len(), found.3.len()), (1, 2));
    drop_unmarked(store).await;
}

async fn before_the_first() {
    let store = unmarked(LAYOUTS[0]).await;
    session(&store, &shared("")).await.batch_execute("DROP TABLE job_spec").await.unwrap();
    for parameters in ["", "adopt=true"] {
        let error = try_handle(&store, &shared(parameters)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongStore, "{error:?}");
        assert!(error.message().contains("013"), "{error:?}");
    }
    drop_unmarked(store).await;
}

/// Values as Lookout's compressor, Broadside of Armada and other programs store them.
async fn records() {
    let store = lookouts().await;
    let session = session(&store, &shared("")).await;
    let database = handle(&store, &shared("")).await;
    // Both levels of Lookout's compressor, an empty text, and bytes that are not a whole stream.
    for (stored, expected) in [
        ("7801000500faff68656c6c6f010000ffff062c0215", Some("hello")),
        ("7801cb48cdc9c90700062c0215", Some("hello")),
        ("7801010000ffff00000001", Some("")),
        ("68656c6c6f", Some("hello")),
        ("7801000500faff68", Some("x\u{1}\0\u{5}\0\u{fffd}\u{fffd}h")),
        ("", None),
    ] {
        let update = format!("UPDATE job_run SET error = '\\x{stored}'; UPDATE job_error SET error = '\\x{stored}'");
        session.batch_execute(&update).await.unwrap();
        for read in [database.get_job_run_error("c-run").await, database.get_job_error("c").await] {
            match (read, expected) {
                (Ok(text), Some(expected)) => assert_eq!(text, expected),
                (Err(error), None) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}"),
                (read, expected) => panic!("{read:?}, expected {expected:?}"),
            }
        }
    }
    // A run without times is the last one.
    session
        .batch_execute(
            "INSERT INTO job_run (run_id, job_id, cluster, job_run_state) VALUES ('a-run', 'c', 'other', 11)",
        )
        .await
        .unwrap();
    let job = all_jobs(&*database).await.pop().unwrap();
    assert_eq!((job.runs.len(), job.cluster.as_str()), (2, "other"));
    // A number that is not finite, and one of the job's other annotations.
    session.batch_execute("UPDATE job SET annotations = '{\"k\": 1e400}' WHERE job_id = 'c'").await.unwrap();
    assert_eq!(all_jobs(&*database).await.len(), 3);
    // The spec of a job that was submitted before job_spec existed.
    session.batch_execute("UPDATE job SET job_spec = '\\x7801010200fdff0a000016000b'").await.unwrap();
    assert_eq!(database.get_job_spec("c").await.unwrap().as_ref(), [0x0a, 0]);
    drop_unmarked(store).await;
}

const LOAD: &str = "
testDuration: 2s
skipTearDown: true
databaseConfig: {inMemory: true}
queueConfig:
  - name: q
    proportion: 1
    jobSetConfig:
      - name: s
        proportion: 1
        historicalJobsConfig: {numberOfJobs: 1000, proportionSucceeded: 0.7, proportionErrored: 0.1,
          proportionCancelled: 0.1, proportionPreempted: 0.1, jobAgeDays: [1]}
ingestionConfig:
  batchSize: 100
  batchTimeout: 20ms
  submissionsPerHour: 360000
  jobStateTransitionConfig: {queueingDuration: 50ms, leasedDuration: 50ms, pendingDuration: 50ms,
    proportionSucceed: 0.5, runningToSuccessDuration: 50ms, proportionFail: 0.5, runningToFailureDuration: 50ms}
";

/// Rows that Lookout cannot read, or that it shows differently from what was written. The first scans namespaces into
/// plain strings, and its Query API finds runs only by the latest run.
const UNREADABLE: [&str; 10] = [
    "job WHERE namespace IS NULL",
    "job WHERE annotations IS NULL OR jsonb_typeof(annotations) <> 'object'
        OR EXISTS (SELECT FROM jsonb_each(annotations) AS a WHERE jsonb_typeof(a.value) <> 'string')",
    "job WHERE state NOT BETWEEN 1 AND 9",
    "job_run WHERE job_run_state NOT IN (1, 2, 3, 4, 6, 8, 9, 11, 12)",
    "job WHERE last_transition_time_seconds <> floor(extract(epoch FROM last_transition_time))",
    "job AS j WHERE latest_run_id IS NULL AND EXISTS (SELECT FROM job_run AS r WHERE r.job_id = j.job_id)",
    "job WHERE NOT (isfinite(submitted) AND isfinite(last_transition_time) AND isfinite(coalesce(cancelled, submitted)))",
    "job_spec WHERE substr(job_spec, 1, 2) <> '\\x7801'",
    "job_error WHERE substr(error, 1, 2) <> '\\x7801'",
    "job_run WHERE substr(error, 1, 2) <> '\\x7801' OR substr(debug, 1, 2) <> '\\x7801'",
];

async fn written() {
    let store = store(&shared("")).await;
    let config = LoadConfig::parse([("load.yaml", LOAD)], []).unwrap().config;
    LoadTest::new(config).run(store.database().clone()).await.unwrap();
    let session = session(&store, &shared("")).await;
    let count = async |rows: &str| -> i64 {
        session.query_one(&format!("SELECT count(*) FROM {rows}"), &[]).await.unwrap().get(0)
    };
    // A job without a namespace.
    store.database().execute_ingestion_query_batch(&batch([insert("plain", "js")])).await.unwrap();
    for rows in ["job WHERE namespace = ''", "job_spec", "job_error", "job_run WHERE debug IS NOT NULL"] {
        assert!(count(rows).await > 0, "{rows}");
    }
    for rows in UNREADABLE {
        assert_eq!(count(rows).await, 0, "{rows}");
    }
    store.remove().await.unwrap();
}
