//! Lookups by ids, and the first rows of sorts by several keys, compared with scans of all rows.

use broadside::ingest::InsertJobRun;

use super::*;

const IDS: usize = 6;

/// Jobs with runs, specs and errors, and records of a job that does not exist.
async fn session() -> SqlSession {
    let mut calls: Vec<Call> = ingestion(ManyJobs { count: 9_000, in_order: false }, 4).collect();
    let queries = calls.iter().filter_map(|call| match call {
        Call::Ingest { queries } => Some(queries),
        _ => None,
    });
    let jobs = queries.flatten().filter_map(|query| match query {
        IngestionQuery::InsertJob(insert) => Some(insert.job.job_id.clone()),
        _ => None,
    });
    let error = |job_id: String| InsertJobError { job_id, error: Some("failed".into()), submitted: None }.into();
    let mut records: Vec<IngestionQuery> = jobs.step_by(700).chain(["missing".to_owned()]).map(error).collect();
    let run = |run: &str| InsertJobRun {
        job_run_id: run.to_owned(),
        job_id: "missing".to_owned(),
        cluster: "c".to_owned(),
        node: None,
        pool: None,
        time: Timestamp::from_seconds(1),
        submitted: None,
    };
    records.extend(["lost-1", "lost-2"].map(|id| run(id).into()));
    calls.push(Call::Ingest { queries: records });
    filled(calls).await.0
}

/// The sorted rows of a statement whose plan contains a text.
async fn planned_rows(session: &SqlSession, statement: &str, part: &str) -> Vec<Row> {
    let plan = rows(session, &format!("EXPLAIN {statement}")).await.unwrap().remove(1)[1].clone().unwrap();
    assert!(plan.contains(part), "{statement}: {plan}");
    let mut rows = rows(session, statement).await.unwrap();
    rows.sort();
    rows
}

/// Some values of a column, and one that does not occur.
async fn some(session: &SqlSession, column: &str, table: &str) -> Vec<String> {
    let all = rows(session, &format!("SELECT {column} FROM {table} ORDER BY 1")).await.unwrap();
    let step = all.len().div_ceil(IDS);
    assert!(step > 0, "{table} has no rows");
    let found = all.into_iter().step_by(step).map(|row| row[0].clone().unwrap().replace('\'', "''"));
    found.chain(["none", "missing"].map(str::to_owned)).collect()
}

#[tokio::test]
async fn records_are_looked_up_by_their_ids() {
    let session = session().await;
    for (table, column) in
        [("job_run", "run_id"), ("job_run", "job_id"), ("job_spec", "job_id"), ("job_error", "job_id")]
    {
        let ids = some(&session, column, table).await;
        let list = ids.iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(", ");
        let conditions = ids.iter().map(|id| format!("= '{id}'"));
        for condition in conditions.chain([format!("IN ({list})"), format!("IN ('none', '{}')", ids[0])]) {
            let looked_up = format!("SELECT * FROM {table} WHERE {column} {condition}");
            let scanned = format!("SELECT * FROM {table} WHERE {column} || '' {condition}");
            let expected = planned_rows(&session, &scanned, "ScanExec").await;
            assert_eq!(planned_rows(&session, &looked_up, "index=[").await, expected, "{looked_up}");
        }
    }
}

/// A projection may give the name of the ids to another column.
#[tokio::test]
async fn filters_of_joins_apply_to_the_column_and_not_to_its_name() {
    let session = session().await;
    let joined = "SELECT count(*) FROM (SELECT queue AS job_id FROM job) AS many
        JOIN (SELECT queue FROM job GROUP BY queue ORDER BY queue LIMIT 1) AS few ON many.job_id = few.queue";
    let counted = "SELECT count(*) FROM job WHERE queue = (SELECT min(queue) FROM job)";
    let expected = one_row(&session, counted).await;
    assert_ne!(expected, ["0"]);
    assert_eq!(one_row(&session, joined).await, expected);
}

#[tokio::test]
async fn joins_look_up_the_ids_of_the_smaller_side() {
    let session = session().await;
    for (few, many, on) in [
        ("job_error", "job_run", "few.job_id = many.job_id"),
        ("job_error", "job", "few.job_id = many.job_id"),
        ("(SELECT * FROM job ORDER BY submitted DESC LIMIT 2000)", "job_run", "few.latest_run_id = many.run_id"),
        ("(SELECT * FROM job_run LIMIT 20)", "job", "many.job_id = few.job_id"),
        ("(SELECT * FROM job LIMIT 20)", "job_spec", "few.job_id = many.job_id"),
    ] {
        let joined = format!("SELECT few.job_id AS a, many.job_id AS b FROM {few} AS few JOIN {many} AS many ON {on}");
        // An expression is not looked up.
        let scanned = joined.replace("= many", "= '' || many").replace("many.job_id =", "many.job_id || '' =");
        let expected = planned_rows(&session, &scanned, "HashJoinExec").await;
        assert_eq!(planned_rows(&session, &joined, "filter=[DynamicFilter").await, expected, "{joined}");
        assert!(!expected.is_empty(), "{joined}");
    }
}

#[tokio::test]
async fn first_rows_by_several_keys_include_ties() {
    let session = session().await;
    for first in ["job_id", "queue", "job_set", "state", "submitted", "last_transition_time"] {
        for condition in ["", "WHERE queue = 'q'", "WHERE cpu > 0 AND submitted > '1980-01-01'"] {
            for (limit, offset) in [(1, 0), (10, 3), (100, 0), (20_000, 0)] {
                let all = format!(
                    "SELECT {first} AS key, cpu, job_id AS id FROM job {condition} ORDER BY {first} DESC, cpu, job_id DESC"
                );
                let expected = rows(&session, &all).await.unwrap();
                let expected: Vec<Row> = expected.into_iter().skip(offset).take(limit).collect();
                let page = format!("{all} LIMIT {limit} OFFSET {offset}");
                assert_eq!(rows(&session, &page).await.unwrap(), expected, "{page}");
                planned_rows(&session, &page, "with ties").await;
            }
        }
    }
}

/// Sorts by columns whose arrays are stored as they are, which a top-k operator filters in the scan.
#[tokio::test]
async fn first_rows_by_numbers_and_times_match_a_sort_of_all_rows() {
    let session = session().await;
    for (table, id, keys) in [
        ("job_run", "run_id", ["leased", "started", "exit_code", "finished, leased"]),
        ("job", "job_id", ["cpu", "cpu DESC, memory", "priority, submitted", "last_transition_time, gpu"]),
    ] {
        let count = one_row(&session, &format!("SELECT count(*) FROM {table}")).await;
        for (key, order) in
            keys.iter().flat_map(|key| ["ASC", "DESC", "ASC NULLS FIRST", "DESC NULLS LAST"].map(|order| (key, order)))
        {
            for condition in ["true", "state <> 'RUNNING'"] {
                let all =
                    format!("SELECT {id}, state FROM {table} WHERE {condition} ORDER BY {key} {order}, {id} DESC");
                // The sort of all rows has no filter.
                let expected = rows(&session, &all).await.unwrap();
                assert!(condition != "true" || expected.len().to_string() == count[0], "{all}");
                for (limit, offset) in [(20, 0), (30, 700)] {
                    let page = format!("{all} LIMIT {limit} OFFSET {offset}");
                    let expected: Vec<Row> = expected.iter().skip(offset).take(limit).cloned().collect();
                    assert_eq!(rows(&session, &page).await.unwrap(), expected, "{page}");
                }
            }
        }
    }
}
