//! Export and import of rows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::TimestampMicrosecondType;
use broadside::exchange::{Part, Table};
use broadside::ingest::{
    InsertJob, InsertJobError, InsertJobRun, InsertJobSpec, NewJob, SetJobCancelled, SetJobRunFailed, SetJobRunning,
};
use broadside::{Database, ErrorKind, HistoricalJobsParams, Outcome, Timestamp};
use futures::TryStreamExt;
use libtest_mimic::Trial;
use serde_json::json;

use super::stores::{batch, new_job, scratch, shared};
use super::trial;
use crate::postgres::exchange::exported;
use crate::support::jobs::{all_jobs, plain_job};

const LAYOUTS: [&str; 3] = ["layout=replacing", "layout=patch", "cluster=tests"];

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for layout in LAYOUTS {
        trials.push(trial(&format!("rows-survive-a-copy::{layout}"), move || copied(layout)));
        trials.push(trial(&format!("an-export-continues::{layout}"), move || continued(layout)));
    }
    trials.push(trial("values-outside-the-limits-are-stored-or-rejected", odd_values));
    trials
}

/// Two jobs, of which one was updated and has a run with all its records, and rows without a job.
async fn fill(database: &dyn Database) {
    let at = Timestamp::from_seconds;
    let annotations = [("b".to_owned(), "2".to_owned()), ("\u{e9}".to_owned(), String::new())];
    let job = NewJob { namespace: Some("ns".to_owned()), annotations: annotations.into(), ..plain_job("a", "set") };
    let run = |run_id: &str, job_id: &str| InsertJobRun {
        job_run_id: run_id.to_owned(),
        job_id: job_id.to_owned(),
        cluster: "cluster".to_owned(),
        node: Some("node".to_owned()),
        pool: None,
        time: at(1),
        submitted: None,
    };
    let failed = SetJobRunFailed {
        job_run_id: "a-0".to_owned(),
        time: at(3),
        // Not UTF-8.
        error: Some(b"\xff\0".to_vec().into()),
        debug: Some("debug".into()),
        exit_code: -1,
        submitted: None,
    };
    let spec = Some(vec![0x0a, 1, 0x61].into());
    let inserts = [
        InsertJob { job, job_spec: spec.clone() }.into(),
        new_job("b"),
        run("a-0", "a").into(),
        run("orphan", "no such job").into(),
        InsertJobSpec { job_id: "orphan".to_owned(), job_spec: spec, submitted: None }.into(),
        InsertJobError { job_id: "b".to_owned(), error: Some("error".into()), submitted: None }.into(),
    ];
    database.execute_ingestion_query_batch(&batch(inserts)).await.unwrap();
    let running =
        SetJobRunning { job_id: "a".to_owned(), time: at(2), latest_run_id: "a-0".to_owned(), submitted: None };
    let cancelled = SetJobCancelled {
        job_id: "b".to_owned(),
        time: at(4),
        cancel_reason: Some("reason".to_owned()),
        cancel_user: None,
        submitted: None,
    };
    database.execute_ingestion_query_batch(&batch([failed.into(), running.into(), cancelled.into()])).await.unwrap();
}

async fn copied(layout: &'static str) {
    let source = scratch(&shared(layout)).await;
    fill(&**source.database()).await;
    let rows = exported(&**source.database()).await;
    assert_eq!(rows.each_ref().map(RecordBatch::num_rows), [2, 2, 2, 1]);
    let states: Vec<_> = rows[0].column_by_name("state").unwrap().as_string::<i32>().iter().flatten().collect();
    assert_eq!(states, ["RUNNING", "CANCELLED"]);
    assert_eq!(rows[1].column_by_name("error").unwrap().as_binary::<i32>().value(0), b"\xff\0");
    for other in LAYOUTS {
        let target = scratch(&shared(other)).await;
        let database = target.database();
        let part = Part::new(rows.clone(), "").unwrap();
        database.import(&part).await.unwrap();
        assert_eq!(exported(&**database).await, rows, "{other}");
        assert_eq!(all_jobs(&**database).await, all_jobs(&**source.database()).await, "{other}");
        let cancelled = SetJobCancelled {
            job_id: "a".to_owned(),
            time: Timestamp::from_seconds(5),
            cancel_reason: None,
            cancel_user: None,
            submitted: None,
        };
        database.execute_ingestion_query_batch(&batch([cancelled.into()])).await.unwrap();
        let updated = exported(&**database).await;
        assert_ne!(updated, rows);
        // Rows that exist are not changed.
        database.import(&part).await.unwrap();
        assert_eq!(exported(&**database).await, updated, "{other}");
        target.remove().await.unwrap();
    }
    source.remove().await.unwrap();
}

async fn continued(layout: &'static str) {
    let store = scratch(&shared(layout)).await;
    let params = json!({
        "queueIdx": 0, "jobSetIdx": 0, "queueName": "q", "jobSetName": "s", "nJobs": 40_000, "chunkSize": 40_000,
        "succeededThreshold": 1000, "jobAgeDays": [0], "referenceTime": "2026-01-01T00:00:00Z",
    });
    let params: HistoricalJobsParams = serde_json::from_value(params).unwrap();
    let database = store.database();
    database.populate_historical_jobs(&params.try_into().unwrap(), &|_| ()).await.unwrap();
    let parts: Vec<Part> = database.export(None).await.unwrap().try_collect().await.unwrap();
    assert!(parts.len() > 2);
    assert_eq!(parts.iter().map(Part::rows).sum::<usize>(), 80_000);
    for part in &parts {
        let jobs = part.batch(Table::Job).column(0).as_string::<i32>().iter();
        assert!(
            jobs.eq(part.batch(Table::JobRun).column(1).as_string::<i32>().iter()),
            "the runs of a job are in its part"
        );
    }
    let rest = database.export(Some(&parts[0].position)).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(rest.iter().map(Part::rows).sum::<usize>(), 80_000 - parts[0].rows());
    store.remove().await.unwrap();
}

/// The rows with other values of a column.
fn with(rows: &RecordBatch, column: &str, values: ArrayRef) -> RecordBatch {
    let at = rows.schema_ref().index_of(column).unwrap();
    let mut columns = rows.columns().to_vec();
    columns[at] = values;
    RecordBatch::try_new(rows.schema(), columns).unwrap()
}

async fn odd_values() {
    let store = scratch(&shared(LAYOUTS[0])).await;
    let database = store.database();
    fill(&**database).await;
    let rows = exported(&**database).await;
    database.tear_down().await.unwrap();
    let [mut jobs, mut runs, specs, errors] = rows.clone();
    jobs = with(&jobs, "submitted", Arc::new(TimestampMicrosecondArray::from(vec![i64::MIN, i64::MAX])));
    runs = with(&runs, "leased", Arc::new(TimestampMicrosecondArray::from(vec![None, Some(1)])));
    let unknown = with(&runs, "state", Arc::new(StringArray::from(vec!["RUN_FAILED", "UNKNOWN_13"])));
    let part = Part::new([jobs.clone(), unknown, specs.clone(), errors.clone()], "").unwrap();
    let error = database.import(&part).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidArgument, Outcome::NotApplied), "{error:?}");
    assert!(error.message().contains(r#""orphan" has the unknown state "UNKNOWN_13""#), "{error:?}");
    assert_eq!(exported(&**database).await.each_ref().map(RecordBatch::num_rows), [0; 4]);
    database.import(&Part::new([jobs, runs.clone(), specs, errors], "").unwrap()).await.unwrap();
    let found = exported(&**database).await;
    assert_eq!(found[1], runs);
    assert!(found[1].column_by_name("leased").unwrap().is_null(0));
    let submitted = found[0].column_by_name("submitted").unwrap().as_primitive::<TimestampMicrosecondType>();
    assert_eq!(submitted.values().as_ref(), [-2_208_988_800_000_000, 10_413_792_000_000_000 - 1]);
    let found = all_jobs(&**database).await;
    assert_eq!((found[0].runs[0].leased, found[0].runs[0].node.as_deref()), (None, Some("node")));
    store.remove().await.unwrap();
}
