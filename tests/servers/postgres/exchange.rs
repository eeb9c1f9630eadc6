//! Export and import of rows.

use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::TimestampMicrosecondType;
use broadside::exchange::{Part, Table, schema as format};
use broadside::{Database, ErrorKind, HistoricalJobsParams, ScratchStore};
use futures::TryStreamExt;
use libtest_mimic::Trial;
use serde_json::json;

use super::lookout::{MIGRATIONS, OTHER_LAYOUTS, UNDO, lookouts};
use super::stores::drop_unmarked;
use super::trial;
use crate::support::postgres::{
    LAYOUTS, Layout, batch, handle, insert, schema, session, shared, store, until, until_blocked,
};

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("an-export-of-other-layouts-has-the-same-rows", other_layouts),
        trial("an-export-of-each-migration-has-the-same-rows", migrations),
        trial("of-a-duplicated-job-the-terminal-or-latest-row-is-exported", duplicates),
        trial("an-export-reads-a-snapshot-and-continues", snapshot),
        trial("a-dropped-export-ends-its-transaction", dropped),
        trial("values-that-a-table-cannot-have-are-rejected", rejected),
    ];
    for layout in LAYOUTS {
        let name = |test: &str| format!("{test}::{}", layout.name);
        trials.push(trial(&name("odd-rows-survive-a-copy"), move || odd_rows(layout)));
        trials.push(trial(&name("an-import-adds-only-rows-with-new-ids"), move || repeated(layout)));
    }
    trials
}

/// The rows of a store, by table.
pub async fn exported(database: &dyn Database) -> [RecordBatch; 4] {
    let parts: Vec<Part> = database.export(None).await.unwrap().try_collect().await.unwrap();
    joined(&parts)
}

fn joined(parts: &[Part]) -> [RecordBatch; 4] {
    Table::ALL.map(|table| concat_batches(&format(table), parts.iter().map(|part| part.batch(table))).unwrap())
}

async fn copy(from: &dyn Database, to: &dyn Database) {
    let parts: Vec<Part> = from.export(None).await.unwrap().try_collect().await.unwrap();
    for part in parts {
        to.import(&part).await.unwrap();
    }
}

/// What Lookout's tables have and no ingestion query makes: the oddities of production.
const ODD_ROWS: &str = r#"
INSERT INTO job (job_id, queue, owner, jobset, cpu, memory, ephemeral_storage, gpu, priority, submitted, cancelled, state,
    last_transition_time, last_transition_time_seconds, job_spec, priority_class, latest_run_id, cancel_reason, namespace,
    annotations, external_job_uri, cancel_user, duplicate)
VALUES
    ('requeued', 'q', 'o', 's', 1, 2, 3, 4, 5, '2026-01-01', NULL, 1, '2026-01-01 00:00:01.999999', 1767225601, NULL,
        NULL, 'returned', NULL, '', '{"a": "1", "bb": "\u00e9", "": ""}', '', NULL, true),
    ('nowhere', 'q', 'o', 's', 1, 2, 3, 4, 5, '1960-01-01 00:00:00.5', 'infinity', 6, '-infinity', 0, NULL,
        '', 'no such run', '', NULL, NULL, 'uri', '', false),
    ('odd', 'q', 'o', 's', -1, -2, -3, -4, -5, '2026-01-01', '20000-01-01', 13, 'infinity', 1, NULL,
        'class', '', 'reason', 'ns', '{"n": 1, "o": {"x": [null]}, "z": null, "s": "t"}', NULL, 'user', false),
    ('old', 'q', 'o', 's', 1, 2, 3, 4, 5, '2026-01-01', NULL, 4, '2026-01-01', 1767225600, '\x7801010200fdff0a000016000b',
        NULL, NULL, NULL, 'ns', '[]', NULL, NULL, false);
INSERT INTO job_run (run_id, job_id, cluster, node, pending, started, finished, job_run_state, error, exit_code, leased,
    debug, pool, ingress_addresses, failure_category, failure_subcategory, scheduler_termination_reason)
VALUES
    ('returned', 'requeued', 'c', '', NULL, NULL, NULL, 8, '\x7801010000ffff00000001', NULL, '2026-01-01', '', '',
        '{"8080": "host"}', '', 'sub', '{"reason": "r", "args": {"requestor": "u"}}'),
    ('orphan', 'no such job', 'c', NULL, 'infinity', '-infinity', '20000-01-01', 99, 'raw', -2147483648, NULL,
        '\x7801cb48cdc9c90700062c0215', NULL, NULL, NULL, NULL, NULL),
    ('without times', 'old', '', 'n', NULL, NULL, NULL, -7, NULL, NULL, NULL, NULL, 'p', '[]', 'category', NULL, 'null');
INSERT INTO job_spec (job_id, job_spec) VALUES ('requeued', '\x0a0161'), ('zzz orphan', '\x7801cb48cdc9c90700062c0215'),
    ('nowhere', '');
INSERT INTO job_error (job_id, error) VALUES ('requeued', '\x7801000500faff68656c6c6f010000ffff062c0215'),
    ('"orphan"', '\x7801010000ffff00000001'), ('old', '');
"#;

/// The rows of both stores as the server sees them, apart from what an import sets: the compression, the namespace, the
/// whole seconds of the last transition, and values that are no strings.
const DIFFERENCES: &str = "
WITH a AS (SELECT to_jsonb(t) - '{ignored}'::text[] AS row FROM {a} AS t),
    b AS (SELECT to_jsonb(t) - '{ignored}'::text[] AS row FROM {b} AS t)
SELECT (SELECT count(*) FROM (TABLE a EXCEPT ALL TABLE b) AS d) + (SELECT count(*) FROM (TABLE b EXCEPT ALL TABLE a) AS d),
    (SELECT count(*) FROM a)";

/// Succeeds if the tables of two stores have the same rows.
async fn assert_same_rows(a: &ScratchStore, b: &ScratchStore, layout: Layout) {
    let session = session(a, &shared("")).await;
    let jobs = if layout.name == "hot-cold" { "job_all" } else { "job" };
    for (of_a, of_b, ignored) in [
        ("job", jobs, "{job_spec,external_job_uri,annotations,last_transition_time_seconds}"),
        ("job_run", "job_run", "{error,debug}"),
    ] {
        let (a, b) = (format!("{}.{of_a}", schema(a)), format!("{}.{of_b}", schema(b)));
        let sql = DIFFERENCES.replace("{a}", &a).replace("{b}", &b).replace("{ignored}", ignored);
        let row = session.query_one(&sql, &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 0, "{of_a} {}", layout.name);
        assert!(row.get::<_, i64>(1) > 3);
    }
}

async fn odd_rows(layout: Layout) {
    let source = lookouts().await;
    session(&source, &shared("")).await.batch_execute(ODD_ROWS).await.unwrap();
    let reader = handle(&source, &shared("")).await;
    let rows = exported(&*reader).await;
    assert_eq!(rows.each_ref().map(RecordBatch::num_rows), [7, 4, 3, 3]);
    let texts = |table: usize, column: &str| -> Vec<Option<String>> {
        let column = rows[table].column_by_name(column).unwrap();
        column.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
    };
    let some = |texts: &[&str]| texts.iter().map(|text| Some((*text).to_owned())).collect::<Vec<_>>();
    assert_eq!(texts(0, "job_id"), some(&["a", "b", "c", "nowhere", "odd", "old", "requeued"]));
    assert_eq!(texts(0, "state")[3..], some(&["CANCELLED", "UNKNOWN_13", "SUCCEEDED", "QUEUED"]));
    assert_eq!(texts(0, "priority_class")[3..], [Some(String::new()), Some("class".into()), None, None]);
    assert_eq!(texts(1, "run_id"), some(&["c-run", "orphan", "without times", "returned"]));
    assert_eq!(texts(1, "state")[1..], some(&["UNKNOWN_99", "UNKNOWN_-7", "RUN_LEASE_RETURNED"]));
    assert_eq!(texts(1, "scheduler_termination_reason")[2].as_deref(), Some("null"));
    let bytes = |table: usize, column: &str| -> Vec<Option<Vec<u8>>> {
        let column = rows[table].column_by_name(column).unwrap();
        column.as_binary::<i32>().iter().map(|bytes| bytes.map(<[u8]>::to_vec)).collect()
    };
    // An empty text is not an absent one.
    assert_eq!(bytes(1, "error")[1..], [Some(b"raw".to_vec()), None, Some(Vec::new())]);
    assert_eq!(bytes(1, "debug")[1..], [Some(b"hello".to_vec()), None, None]);
    assert_eq!(bytes(2, "spec"), [vec![0x0a, 0], vec![0x0a, 1, 0x61], b"hello".to_vec()].map(Some));
    let target = store(&shared(layout.parameter)).await;
    copy(&*reader, &**target.database()).await;
    // Lookout cannot read a group without a namespace.
    let namespaces = "UPDATE job SET namespace = '' WHERE namespace IS NULL";
    session(&source, &shared("")).await.batch_execute(namespaces).await.unwrap();
    assert_eq!(exported(&**target.database()).await, exported(&*reader).await);
    assert_same_rows(&source, &target, layout).await;
    target.remove().await.unwrap();
    drop_unmarked(source).await;
}

async fn repeated(layout: Layout) {
    let (source, target) = (lookouts().await, store(&shared(layout.parameter)).await);
    let (reader, writer) = (handle(&source, &shared("")).await, target.database());
    // A job with other values, and a run of another job.
    writer.execute_ingestion_query_batch(&batch([insert("a", "other")])).await.unwrap();
    copy(&*reader, &**writer).await;
    let rows = exported(&**writer).await;
    assert_eq!(rows[0].column_by_name("job_set").unwrap().as_string::<i32>().value(0), "other");
    assert_eq!(rows.each_ref().map(RecordBatch::num_rows), [3, 1, 0, 1]);
    // The state of `b` changes its table in one of the layouts.
    session(&source, &shared("")).await.batch_execute("UPDATE job SET state = 6 - state").await.unwrap();
    copy(&*reader, &**writer).await;
    assert_eq!(exported(&**writer).await, rows);
    target.remove().await.unwrap();
    drop_unmarked(source).await;
}

async fn other_layouts() {
    for (name, statements) in OTHER_LAYOUTS {
        let source = lookouts().await;
        session(&source, &shared("")).await.batch_execute("UPDATE job SET external_job_uri = job_id").await.unwrap();
        let reader = handle(&source, &shared("")).await;
        let expected = exported(&*reader).await;
        session(&source, &shared("")).await.batch_execute(statements).await.unwrap();
        assert_eq!(exported(&*handle(&source, &shared("")).await).await, expected, "{name}");
        let error = handle(&source, &shared("adopt=true")).await.import(&Part::new(expected, "").unwrap()).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::WrongStore);
        drop_unmarked(source).await;
    }
}

async fn migrations() {
    let store = lookouts().await;
    let session = session(&store, &shared("")).await;
    let reader = handle(&store, &shared("")).await;
    session.batch_execute("UPDATE job_run SET pool = NULL").await.unwrap();
    let expected = exported(&*reader).await;
    session.batch_execute(UNDO).await.unwrap();
    assert_eq!(exported(&*reader).await, expected);
    for (level, statement) in MIGRATIONS {
        session.batch_execute(statement).await.unwrap();
        assert_eq!(exported(&*reader).await, expected, "{level}");
    }
    let later =
        "ALTER TABLE job ADD COLUMN preempt_user varchar(512), DROP COLUMN job_spec; UPDATE job SET preempt_user = 'u'";
    session.batch_execute(later).await.unwrap();
    let jobs = &exported(&*reader).await[0];
    assert!(jobs.column_by_name("preempt_user").unwrap().as_string::<i32>().iter().all(|user| user == Some("u")));
    drop_unmarked(store).await;
}

async fn duplicates() {
    let (_, hot_cold) = OTHER_LAYOUTS[2];
    let store = lookouts().await;
    let session = session(&store, &shared("")).await;
    session.batch_execute(hot_cold).await.unwrap();
    // An active row beside a terminal one, a later one in the same partition, and a later terminal one.
    let duplicates = "
        INSERT INTO job SELECT (jsonb_populate_record(j, '{\"state\": 3, \"last_transition_time\": \"2026-01-01\"}')).*
            FROM job AS j WHERE job_id = 'b';
        INSERT INTO job SELECT (jsonb_populate_record(j, '{\"state\": 8, \"last_transition_time\": \"2026-01-01\"}')).*
            FROM job AS j WHERE job_id = 'a';
        INSERT INTO job SELECT (jsonb_populate_record(j, '{\"state\": 7, \"last_transition_time\": \"2026-01-01\"}')).*
            FROM job AS j WHERE job_id = 'c'";
    session.batch_execute(duplicates).await.unwrap();
    let jobs = &exported(&*handle(&store, &shared("")).await).await[0];
    let texts = |column: &str| -> Vec<String> {
        jobs.column_by_name(column).unwrap().as_string::<i32>().iter().map(|text| text.unwrap().to_owned()).collect()
    };
    assert_eq!(texts("job_id"), ["a", "b", "c"]);
    assert_eq!(texts("state"), ["LEASED", "SUCCEEDED", "PREEMPTED"]);
    drop_unmarked(store).await;
}

/// Jobs with a run each, in several parts.
async fn many(layout: Layout) -> ScratchStore {
    let store = store(&shared(layout.parameter)).await;
    let params = json!({
        "queueIdx": 0, "jobSetIdx": 0, "queueName": "q", "jobSetName": "s", "nJobs": 9_000, "chunkSize": 9_000,
        "succeededThreshold": 1000, "jobAgeDays": [0], "referenceTime": "2026-01-01T00:00:00Z",
    });
    let params: HistoricalJobsParams = serde_json::from_value(params).unwrap();
    store.database().populate_historical_jobs(&params.try_into().unwrap(), &|_| ()).await.unwrap();
    store
}

async fn snapshot() {
    for layout in LAYOUTS {
        let store = many(layout).await;
        let database = store.database();
        let parts = database.export(None).await.unwrap();
        // Later than the snapshot, although the export has read nothing yet.
        database.execute_ingestion_query_batch(&batch([insert("z", "js")])).await.unwrap();
        let parts: Vec<Part> = parts.try_collect().await.unwrap();
        assert!(parts.len() > 2);
        let rows = joined(&parts);
        assert_eq!(rows.each_ref().map(RecordBatch::num_rows), [9_000, 9_000, 0, 0]);
        for (at, part) in parts.iter().enumerate() {
            let jobs = part.batch(Table::Job).column(0).as_string::<i32>().iter();
            let of_runs = part.batch(Table::JobRun).column(1).as_string::<i32>().iter();
            assert!(jobs.eq(of_runs), "the runs of a job are in its part");
            let rest = database.export(Some(&part.position)).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
            let after: usize = parts[at + 1..].iter().map(Part::rows).sum();
            assert_eq!(rest.iter().map(Part::rows).sum::<usize>(), after + 1);
        }
        let error = database.export(Some("\0")).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        store.remove().await.unwrap();
    }
}

async fn dropped() {
    let store = many(LAYOUTS[0]).await;
    let database = handle(&store, &shared("application_name=export")).await;
    let (session, holder) = (session(&store, &shared("")).await, session(&store, &shared("")).await);
    let sessions =
        "SELECT count(*) = {} FROM pg_stat_activity WHERE application_name = 'export' AND xact_start IS NOT NULL";
    let until = async |count: &str| {
        let question = sessions.replace("{}", count);
        tokio::time::timeout(Duration::from_secs(10), until(&session, &question)).await.unwrap();
    };
    let mut parts = database.export(None).await.unwrap();
    parts.try_next().await.unwrap().unwrap();
    until("1").await;
    drop(parts);
    until("0").await;
    // A statement that waits for a lock is cancelled.
    holder.batch_execute("BEGIN; LOCK TABLE job_error IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let export = tokio::spawn(async move { database.export(None).await.map(drop) });
    until_blocked(&session, "export").await;
    export.abort();
    until("0").await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    store.remove().await.unwrap();
}

async fn rejected() {
    let source = lookouts().await;
    session(&source, &shared("")).await.batch_execute(ODD_ROWS).await.unwrap();
    let change = "ALTER TABLE job_run ALTER run_id TYPE text; UPDATE job_run SET run_id = repeat('r', 37) WHERE run_id = 'orphan'";
    session(&source, &shared("")).await.batch_execute(change).await.unwrap();
    let target = store(&shared("")).await;
    let parts: Vec<Part> = handle(&source, &shared("")).await.export(None).await.unwrap().try_collect().await.unwrap();
    let error = target.database().import(&parts[0]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
    assert_eq!(exported(&**target.database()).await.each_ref().map(RecordBatch::num_rows), [0; 4]);
    target.remove().await.unwrap();
    // There is no partition for such a time.
    session(&source, &shared(""))
        .await
        .batch_execute(
            "UPDATE job_run SET run_id = 'orphan' WHERE length(run_id) = 37;
            UPDATE job SET submitted = 'infinity' WHERE job_id = 'odd'",
        )
        .await
        .unwrap();
    let rows = exported(&*handle(&source, &shared("")).await).await;
    assert_eq!(
        rows[0].column_by_name("submitted").unwrap().as_primitive::<TimestampMicrosecondType>().value(4),
        i64::MAX
    );
    let target = store(&shared(LAYOUTS[2].parameter)).await;
    let error = target.database().import(&Part::new(rows, "").unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
    assert!(error.message().contains("odd"), "{error:?}");
    target.remove().await.unwrap();
    drop_unmarked(source).await;
}
