//! SQL on the memory engine: deep statements, times, and random statements compared with the model.
//!
//! `BROADSIDE_SQL_QUESTIONS` sets the number of random statements for each store.

mod dialect;
mod lookups;
mod question;
#[cfg(target_os = "linux")]
mod stop;
mod table;

use std::sync::Arc;
use std::time::Duration;

use crate::support::compare::EPOCH;
use crate::support::generate::ManyJobs;
use crate::support::jobs::plain_job;
use crate::support::model::NaiveModel;
use broadside::ingest::{IngestionBatch, InsertJob, InsertJobError, NewJob};
use broadside::memory::{MemoryDatabase, SqlSession};
use broadside::scenario::Call;
use broadside::{Database, ErrorKind, IngestionQuery, ManualClock, Timestamp};
use question::{Random, Statement};
use table::{Row, Table, answer_rows};

const QUESTIONS_VARIABLE: &str = "BROADSIDE_SQL_QUESTIONS";
const QUESTIONS: u64 = 150;

/// The number of random statements for a store, which is lower for expensive stores.
fn questions(share: u64) -> u64 {
    std::env::var(QUESTIONS_VARIABLE).map_or(QUESTIONS / share, |text| text.parse().unwrap())
}

/// The rows of a result as strings; times are in microseconds.
async fn rows(session: &SqlSession, statement: &str) -> broadside::Result<Vec<Row>> {
    Ok(answer_rows(&session.query(statement).await?.collect().await?))
}

async fn one_row(session: &SqlSession, statement: &str) -> Vec<String> {
    let mut rows = rows(session, statement).await.unwrap_or_else(|error| panic!("{statement:.200}: {error:?}"));
    assert_eq!(rows.len(), 1, "{statement:.200}");
    rows.remove(0).into_iter().map(|cell| cell.unwrap_or_else(|| "NULL".to_owned())).collect()
}

async fn session_over(jobs: Vec<NewJob>) -> SqlSession {
    session_after(jobs.into_iter().map(|job| InsertJob { job, job_spec: None }.into())).await
}

async fn session_after(queries: impl IntoIterator<Item = IngestionQuery>) -> SqlSession {
    let database = MemoryDatabase::new().with_clock(Arc::new(ManualClock::default()));
    database.initialise_schema().await.unwrap();
    database.execute_ingestion_query_batch(&IngestionBatch::new(queries).unwrap()).await.unwrap();
    database.sql_session().await.unwrap()
}

fn repeated(count: usize, separator: &str, part: impl Fn(usize) -> String) -> String {
    (0..count).map(part).collect::<Vec<_>>().join(separator)
}

fn nested(depth: usize, open: &str, inner: &str, close: &str) -> String {
    format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
}

/// Deep statements with the result of those that must be supported. The others may be rejected.
fn deep_statements() -> Vec<(String, Option<&'static str>)> {
    let mut statements = vec![
        (format!("SELECT {}", repeated(300, "+", |_| "1".to_owned())), Some("300")),
        (format!("SELECT {} FROM job", repeated(200, "+", |_| "cpu".to_owned())), Some("200")),
        // The plan of a statement of this length is kept, and dropped with the session.
        (format!("SELECT cpu{} FROM job", "+1".repeat(240)), Some("241")),
        (format!("SELECT count(*) FROM job WHERE {}", repeated(900, " OR ", |i| format!("cpu={i}"))), Some("1")),
        (
            format!("SELECT count(*) FROM job WHERE {}", repeated(900, " AND ", |i| format!("cpu<>{}", i + 2))),
            Some("1"),
        ),
        (
            format!("SELECT count(*) FROM ({})", repeated(100, " UNION ALL ", |_| "SELECT 1 AS x".to_owned())),
            Some("100"),
        ),
        (format!("SELECT {}", repeated(4000, "+", |_| "1".to_owned())), None),
    ];
    for depth in [10, 1000, 6000] {
        statements.push((format!("SELECT {}", nested(depth, "(", "1", ")")), None));
        statements.push((format!("SELECT {}", nested(depth, "NOT ", "true", "")), None));
        statements.push((format!("SELECT {}", nested(depth, "- ", "1", "")), None));
        statements.push((format!("SELECT {}", nested(depth, "abs(", "1", ")")), None));
        statements.push((format!("SELECT {}", nested(depth, "(SELECT ", "1", ")")), None));
        statements.push((format!("SELECT count(*) FROM {}", nested(depth, "(SELECT * FROM ", "job", ")")), None));
    }
    statements
}

async fn ask_deep_statements() {
    let session = session_over(vec![plain_job("j", "s")]).await;
    for (statement, expected) in deep_statements() {
        match (rows(&session, &statement).await, expected) {
            (Ok(rows), Some(expected)) => assert_eq!(rows[0][0].as_deref(), Some(expected), "{statement:.80}"),
            (Ok(_), None) => {}
            (Err(error), None) => assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{statement:.80}: {error:?}"),
            (Err(error), Some(_)) => panic!("{statement:.80}: {error:?}"),
        }
    }
    // The session can still be used.
    assert_eq!(one_row(&session, "SELECT 1").await, ["1"]);
}

#[tokio::test(flavor = "current_thread")]
async fn deep_statements_do_not_overflow_the_stack_of_the_caller() {
    ask_deep_statements().await;
}

#[test]
fn deep_statements_do_not_overflow_the_stack_of_a_worker() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_stack_size(1 << 20).build();
    runtime.unwrap().block_on(async { tokio::spawn(ask_deep_statements()).await.unwrap() });
}

#[tokio::test]
async fn statements_beyond_the_limit_are_rejected_and_long_lists_are_not() {
    let session = session_over(vec![plain_job("j", "s")]).await;
    let error = session.query(&format!("SELECT {}", repeated(100_000, "+", |_| "1".to_owned()))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.message().contains("operators"), "{error:?}");
    let list = repeated(20_000, ",", |i| format!("'{i}'"));
    assert_eq!(one_row(&session, &format!("SELECT count(*) FROM job WHERE job_id IN ('j',{list})")).await, ["1"]);
    let values = repeated(3_000, ",", |i| format!("({i}, 'x')"));
    assert_eq!(one_row(&session, &format!("SELECT count(*) FROM (VALUES {values})")).await, ["3000"]);
}

#[tokio::test]
async fn only_queries_are_supported() {
    let session = session_over(vec![plain_job("j", "s")]).await;
    for statement in [
        "DROP TABLE job",
        "INSERT INTO job_error VALUES ('j', 'e')",
        "CREATE TABLE t AS SELECT 1",
        "COPY job TO '/tmp/job.csv'",
        "SET datafusion.execution.target_partitions = 8",
        "SELECT 1; SELECT 2",
        "SELECT nonsense FROM job",
        "gibberish",
        "",
    ] {
        let error = session.query(statement).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{statement}: {error:?}");
    }
    let failed = session.query("SELECT 1 / (cpu - 1) FROM job").await.unwrap().collect().await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Backend, "{failed:?}");
}

#[tokio::test]
async fn times_of_the_whole_range_work_in_literals_and_functions() {
    let times = ["1900-01-01T00:00:00.000001Z", "2026-01-01T10:20:30.123456Z", "2299-12-31T23:59:59.999999Z"];
    let job = |(i, time): (usize, &&str)| NewJob { submitted: time.parse().unwrap(), ..plain_job(&i.to_string(), "s") };
    let session = session_over(times.iter().enumerate().map(job).collect()).await;
    for (condition, count) in [
        ("submitted > '2290-01-01'", "1"),
        ("'2290-01-01' < submitted", "1"),
        ("submitted > TIMESTAMP '2290-01-01 00:00:00'", "1"),
        ("submitted > TIMESTAMP '2290-01-01T02:00:00+02:00'", "1"),
        ("submitted > '2290-01-01'::timestamp", "1"),
        ("submitted > '2290-01-01'::timestamptz", "1"),
        ("submitted = '2299-12-31T23:59:59.999999Z'", "1"),
        ("submitted < '2299-12-31T23:59:59.999999Z'", "2"),
        ("submitted >= '1900-01-01T00:00:00.000001Z'", "3"),
        ("submitted > '1600-01-01' AND submitted < '9999-01-01'", "3"),
        ("submitted BETWEEN '2290-01-01' AND '2299-12-31T23:59:59.999999'", "1"),
        ("submitted NOT IN ('2299-12-31T23:59:59.999999Z', '2026-01-01T10:20:30.123456')", "1"),
        ("submitted > now()", "1"),
        ("submitted < TIMESTAMP '1950-01-01'", "1"),
        ("date_trunc('hour', submitted) = '2299-12-31T23:00:00'", "1"),
        ("extract(year FROM submitted) = 2299", "1"),
        ("submitted + INTERVAL '1 day' > '2300-01-01'", "1"),
        ("CASE WHEN submitted > '2290-01-01' THEN true END", "1"),
    ] {
        let statement = format!("SELECT count(*) FROM job WHERE {condition}");
        assert_eq!(one_row(&session, &statement).await, [count], "{condition}");
    }
    let [first, _, last] = times.map(|time| time.parse::<Timestamp>().unwrap().as_micros().to_string());
    assert_eq!(one_row(&session, "SELECT min(submitted), max(submitted) FROM job").await, [first, last]);
    // Expressions in nanoseconds are rejected with a message.
    for expression in ["to_timestamp('2290-01-01')", "submitted - now()", "CAST(submitted AS TIMESTAMP(9))"] {
        let answer = async { session.query(&format!("SELECT {expression} FROM job")).await?.collect().await };
        let error = answer.await.unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("nanoseconds") || source.contains("(ns)"), "{expression}: {source}");
    }
}

/// The optimised plan of a statement is kept, and must not contain results of an execution.
#[tokio::test]
async fn repeated_statements_have_the_same_results() {
    let jobs = (0..9).map(|i| plain_job(&i.to_string(), ["a", "b"][i % 2]));
    let session = session_over(jobs.collect()).await;
    for statement in [
        "SELECT count(*) FROM job",
        "SELECT job_set, count(*) FROM job GROUP BY job_set ORDER BY job_set",
        "SELECT job_id FROM job ORDER BY job_id DESC LIMIT 3",
        "SELECT a.job_id FROM job a JOIN job b ON a.job_set = b.job_set WHERE b.job_id = '4' ORDER BY a.job_id LIMIT 4",
        "SELECT job_id FROM job WHERE job_set IN (SELECT max(job_set) FROM job) ORDER BY job_id",
        "EXPLAIN SELECT count(*) FROM job WHERE job_set = 'a'",
    ] {
        let first = rows(&session, statement).await.unwrap();
        assert!(!first.is_empty(), "{statement}");
        for _ in 0..3 {
            assert_eq!(rows(&session, statement).await.unwrap(), first, "{statement}");
        }
    }
    for time in [
        "SELECT now()",
        "SELECT max(t) FROM (SELECT current_timestamp AS t FROM job)",
        "SELECT max(value) FROM generate_series(now() - INTERVAL '1 day', now(), INTERVAL '1 hour')",
    ] {
        let mut before = one_row(&session, time).await;
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            let now = one_row(&session, time).await;
            assert!(before < now, "{time}: {before:?} {now:?}");
            before = now;
        }
    }
    for refused in ["SELECT none FROM job", "DROP TABLE job"] {
        for _ in 0..2 {
            assert_eq!(session.query(refused).await.unwrap_err().kind(), ErrorKind::InvalidArgument, "{refused}");
        }
    }
}

/// The offsets of Arrow's strings are 32-bit integers.
#[tokio::test]
#[ignore = "takes about 10 GiB of memory"]
async fn texts_of_a_batch_exceed_two_gibibytes() {
    const TEXT: usize = 1 << 20;
    const JOBS: usize = 2200;
    let text = |number: usize| {
        let mut text = number.to_string();
        text.extend(std::iter::repeat_n('x', TEXT - text.len()));
        text
    };
    let job = |number: usize| {
        let job_id = number.to_string();
        let error = InsertJobError { job_id: job_id.clone(), error: Some(text(number).into()), submitted: None };
        let job = NewJob { annotations: [("big".to_owned(), text(number))].into(), ..plain_job(&job_id, "s") };
        [InsertJob { job, job_spec: None }.into(), error.into()]
    };
    let session = session_after((0..JOBS).flat_map(job)).await;
    for (column, table) in [("annotations['big']", "job"), ("error", "job_error")] {
        let lengths = format!("SELECT count(*), sum(octet_length({column})), count(DISTINCT {column}) FROM {table}");
        assert_eq!(one_row(&session, &lengths).await, [JOBS.to_string(), (JOBS * TEXT).to_string(), JOBS.to_string()]);
        for order in ["", "ORDER BY 1"] {
            let first = format!("SELECT octet_length(t) FROM (SELECT {column} AS t FROM {table} {order} LIMIT 1)");
            assert_eq!(one_row(&session, &first).await, [TEXT.to_string()]);
        }
    }
    let maps = session.query("SELECT annotations FROM job").await.unwrap().collect().await.unwrap();
    assert_eq!(maps.iter().map(|batch| batch.num_rows()).sum::<usize>(), JOBS);
}

#[tokio::test]
async fn predicates_on_strings_use_the_indexes() {
    let session = session_over(vec![plain_job("j", "s")]).await;
    let condition = "queue LIKE 'q%' AND job_set IN ('s', 't') AND contains(job_set, 's') AND annotations['key'] = 'value' \
        AND starts_with(owner, 'o') AND state IN ('QUEUED', 'FAILED', 'PENDING', 'RUNNING') AND submitted < '2290-01-01'";
    let plan =
        rows(&session, &format!("EXPLAIN SELECT queue, count(*) FROM job WHERE {condition} GROUP BY queue")).await;
    let plan = plan.unwrap().remove(1)[1].clone().unwrap();
    assert!(plan.contains("code_of") && !plan.contains("FilterExec"), "{plan}");
    // Other conditions on one column are evaluated on its values.
    for (condition, count) in [
        ("queue ILIKE 'Q%E'", "1"),
        ("queue <> 'q' AND length(owner) = 5", "1"),
        ("upper(job_set) NOT IN ('S', 'T')", "0"),
        ("namespace IS NOT NULL", "0"),
        ("job_set LIKE '_' AND job_set ~ '^[a-s]$'", "1"),
    ] {
        let statement = format!("SELECT count(*) FROM job WHERE {condition}");
        assert_eq!(one_row(&session, &statement).await, [count], "{condition}");
        let plan = rows(&session, &format!("EXPLAIN SELECT queue FROM job WHERE {condition}")).await.unwrap().remove(1);
        assert!(!plan[1].as_ref().unwrap().contains("FilterExec"), "{plan:?}");
    }
    // A condition that NULL satisfies is not, and its rows are the same.
    assert_eq!(
        one_row(&session, "SELECT count(*) FROM job WHERE namespace IS NULL AND pool IS DISTINCT FROM 'p'").await,
        ["1"]
    );
}

/// Executes the same calls on the engine and the model.
async fn filled(calls: impl IntoIterator<Item = Call>) -> (SqlSession, Table) {
    let clock = Arc::new(ManualClock::default());
    clock.set(EPOCH);
    let database = MemoryDatabase::new().with_clock(clock.clone());
    let model = NaiveModel::new(clock.clone());
    for call in calls {
        for store in [&database as &dyn Database, &model] {
            call.execute(store, &clock).await;
        }
    }
    (database.sql_session().await.unwrap(), Table::of(&model))
}

async fn ask(session: &SqlSession, table: &Table, seed: u64, questions: u64) {
    for question in 0..questions {
        let statement = Statement::random(&mut Random::new(seed + question), table);
        let sql = statement.to_string();
        let answer = rows(session, &sql).await.unwrap_or_else(|error| panic!("question {question}: {sql}\n{error:?}"));
        if let Err(difference) = statement.check(table, &answer) {
            panic!("question {question}: {sql}\n{difference}");
        }
    }
}

fn ingestion(jobs: ManyJobs, rounds: usize) -> impl Iterator<Item = Call> {
    let calls = jobs.calls(rounds).unwrap().into_iter();
    calls.filter(|call| matches!(call, Call::InitialiseSchema | Call::Ingest { .. }))
}

#[tokio::test]
async fn random_statements_match_the_model() {
    for in_order in [true, false] {
        let (session, table) = filled(ingestion(ManyJobs { count: 9_000, in_order }, 4)).await;
        ask(&session, &table, u64::from(in_order) << 32, questions(1)).await;
    }
}

/// Dictionary keys of more than 16 bits, and dictionaries that are searched instead of scanned.
#[tokio::test]
async fn random_statements_on_many_distinct_strings_match_the_model() {
    let mut number = 0;
    let distinct = |mut query: IngestionQuery| {
        if let IngestionQuery::InsertJob(insert) = &mut query {
            number += 1;
            insert.job.job_set = format!("set-{:05}", number * 7919 % 100_003);
            insert.job.annotations.insert("k".to_owned(), format!("value-{number}"));
        }
        query
    };
    let mut distinct = distinct;
    let calls = ingestion(ManyJobs { count: 70_000, in_order: false }, 4).map(|call| match call {
        Call::Ingest { queries } => Call::Ingest { queries: queries.into_iter().map(&mut distinct).collect() },
        other => other,
    });
    let (session, table) = filled(calls).await;
    assert!(table.distinct("job_set") > 65_536);
    ask(&session, &table, 2 << 32, questions(6)).await;
}
