//! Statements that stop when their result is dropped, and their memory budget.

use std::process::Command;
use std::time::{Duration, Instant};

use broadside::ingest::IngestionBatch;
use broadside::memory::{MemoryDatabase, SqlSession};
use broadside::workload::{Workload, WorkloadOptions};
use broadside::{Database, ErrorKind};
use futures::StreamExt;
use tokio::time::{sleep, timeout};

use super::{one_row, rows};

/// Statements that would run for hours, or without end.
const ENDLESS: [&str; 14] = [
    // Joins whose filter passes few, all and no pairs.
    "SELECT count(*) FROM job a CROSS JOIN job b CROSS JOIN job c WHERE a.cpu + b.cpu + c.cpu < 0",
    "SELECT count(*) FROM job a JOIN job b ON a.submitted > b.submitted JOIN job c ON a.submitted > c.submitted",
    "SELECT a.job_id FROM job a JOIN job b ON a.cpu + b.cpu < 0 JOIN job c ON c.cpu + b.cpu < 0",
    "SELECT count(*) FROM job a JOIN job b ON a.queue = b.queue AND a.cpu + b.cpu < 0 JOIN job c ON b.queue = c.queue",
    "SELECT count(*) FROM job a JOIN job b ON a.queue = b.queue JOIN job c ON b.queue = c.queue",
    "SELECT count(*) FROM job a, job b WHERE a.job_id || b.job_set LIKE '%a%b%c%d%e%f%g%'",
    // Operators that keep their input.
    "SELECT array_agg(a.job_id || b.job_id) FROM job a, job b",
    "SELECT a.job_id, b.job_id FROM job a, job b ORDER BY a.job_id || b.job_id",
    "SELECT a.job_id || b.job_id AS id, count(*) FROM job a, job b GROUP BY id",
    "SELECT sum(a.cpu) OVER (PARTITION BY b.queue) FROM job a, job b",
    // Inputs without end.
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
    "WITH RECURSIVE t(n) AS (SELECT cpu FROM job UNION SELECT n + 1 FROM t) SELECT max(n) FROM t",
    "SELECT max(value) FROM generate_series(1, 1000000000000) WHERE value % 7 > 8",
    "SELECT count(*) FROM generate_series(1, 1000000000) WHERE repeat(CAST(value AS varchar), 100) LIKE '%1%2%x%'",
];

fn process_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // User and system time in ticks of 10 ms.
    Duration::from_millis(10 * (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()))
}

async fn session(database: MemoryDatabase, jobs: u64) -> SqlSession {
    database.initialise_schema().await.unwrap();
    for batch in Workload::new(WorkloadOptions { jobs, ..WorkloadOptions::default() }).batches(5_000) {
        database.execute_ingestion_query_batch(&IngestionBatch::new(batch).unwrap()).await.unwrap();
    }
    database.sql_session().await.unwrap()
}

/// Waits until the process does not compute.
async fn idle(statement: &str) {
    let start = Instant::now();
    loop {
        let before = process_time();
        sleep(Duration::from_millis(100)).await;
        if process_time() - before <= Duration::from_millis(10) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "computes without a reader: {statement}");
    }
}

/// The time of the process is that of all tests, so the test runs in a process of its own.
#[test]
fn a_statement_stops_when_its_result_is_dropped() {
    let test = "api::sql::stop::measure_dropped_results";
    let own = Command::new(std::env::current_exe().unwrap()).args(["--ignored", "--exact", test]).output().unwrap();
    assert!(own.status.success(), "{}{}", String::from_utf8_lossy(&own.stdout), String::from_utf8_lossy(&own.stderr));
}

#[tokio::test]
#[ignore = "requires a process of its own"]
async fn measure_dropped_results() {
    let session = session(MemoryDatabase::new(), 20_000).await;
    for statement in ENDLESS {
        let read = async {
            let mut answer = session.query(statement).await?;
            while answer.next().await.transpose()?.is_some() {}
            Ok::<_, broadside::Error>(())
        };
        // The statement has passed its first operators.
        let read = timeout(Duration::from_millis(400), read).await;
        assert!(read.is_err(), "ended: {statement}: {read:?}");
        idle(statement).await;
    }
    assert_eq!(one_row(&session, "SELECT count(*) FROM job").await, ["20000"]);
}

#[tokio::test]
async fn a_result_outlives_its_session() {
    let pairs = "SELECT a.job_id || b.job_id AS id FROM job a, job b LIMIT 300000";
    let answer = {
        let session = session(MemoryDatabase::new(), 1_000).await;
        session.query(&format!("SELECT id, count(*) FROM ({pairs}) GROUP BY id")).await.unwrap()
    };
    let batches = answer.collect().await.unwrap();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 300_000);
}

#[tokio::test]
async fn results_of_a_function_beyond_a_gibibyte_are_refused() {
    let session = session(MemoryDatabase::new(), 1_000).await;
    for expression in [
        "repeat(job_id, 1000000)",
        "lpad(job_id, 10000000)",
        "rpad(job_id, 10000000, 'xy')",
        "range(cpu, cpu + 100000000)",
        "range(cpu + 100000000, 0, -1)",
        "generate_series(0, cpu + 100000000, 2)",
        "array_repeat(cpu, 10000000)",
        "repeat('x', 2000000000)",
        "replace(repeat('a', 1000000), 'a', repeat('b', 10000))",
        "array_resize([cpu], 10000000)",
        "array_resize([cpu], 10000000, cpu)",
        "unnest(range(timestamp '2026-01-01', timestamp '2026-01-02', interval '1 microsecond'))",
        "range(timestamp '2026-01-02', timestamp '2026-01-01', interval '-1 microsecond')",
        "generate_series(submitted::date, date '9999-01-01', interval '1 day')",
    ] {
        let error = rows(&session, &format!("SELECT {expression} FROM job")).await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("exceed 1 GiB"), "{expression}: {cause}");
    }
    let small = "SELECT repeat('ab', 2), lpad('a', 2), rpad('a', 3, 'xy'), array_length(range(1, 9, 3)), \
        array_length(generate_series(3)), array_length(array_repeat(1, 5)), array_length(range(5, 1)), repeat('a', -1), replace('aXa', 'a', 'bc'), array_length(array_resize([1], 3, 0)), \
        array_length(range(timestamp '2026-01-01', timestamp '2026-01-02', interval '1 hour'))";
    let results = ["abab", " a", "axy", "3", "4", "5", "0", "", "bcXbc", "3", "24"];
    assert_eq!(one_row(&session, small).await, results);
}

#[tokio::test]
async fn too_many_comparisons_of_a_function_are_refused() {
    let session = session(MemoryDatabase::new(), 1_000).await;
    for expression in [
        "levenshtein(repeat('a', 1000000), repeat('b', 1000000))",
        "levenshtein(repeat(job_id, 1000), repeat(job_id, 1000))",
        "array_has_all(range(cpu, cpu + 2000), range(cpu, cpu + 2000))",
        "array_has_any(range(0, 100000), range(100000, 200000))",
    ] {
        let error = rows(&session, &format!("SELECT {expression} FROM job")).await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("exceeds 2^30 comparisons"), "{expression}: {cause}");
    }
    let small = "SELECT levenshtein('kitten', 'sitting'), array_has_all([1, 2], [2]), array_has_any([1, 2], [3])";
    assert_eq!(one_row(&session, small).await, ["3", "true", "false"]);
}

#[tokio::test]
async fn a_statement_beyond_the_memory_budget_spills_or_fails() {
    let session = session(MemoryDatabase::new().with_sql_memory(32 << 20), 100).await;
    // 50 MB of texts.
    let texts = "SELECT repeat(CAST(value AS varchar), 40) AS text FROM generate_series(100000, 300000)";
    let sorted = format!("SELECT text FROM ({texts}) ORDER BY text DESC");
    let plan = rows(&session, &format!("EXPLAIN ANALYZE {sorted}")).await.unwrap();
    let plan = plan[0][1].clone().unwrap();
    assert!(plan.contains("spill_count=") && !plan.contains("spill_count=0"), "{plan}");
    let sorted = rows(&session, &sorted).await.unwrap();
    let expected = (100_000..=300_000).rev().map(|value| value.to_string().repeat(40));
    assert!(sorted.iter().map(|row| row[0].clone().unwrap()).eq(expected));
    for beyond in [
        format!("SELECT array_agg(text) FROM ({texts})"),
        format!("SELECT count(*) FROM ({texts}) a JOIN ({texts}) b ON a.text = b.text"),
        format!("SELECT max(text) OVER () FROM ({texts})"),
        format!("SELECT DISTINCT ON (text) text, text AS a, text AS b FROM ({texts}) ORDER BY text, a"),
        "SELECT sum(value) FROM (SELECT unnest(range(0, 100000000)) AS value)".to_owned(),
        "SELECT value FROM generate_series(1, 9000000) ORDER BY value % 9 LIMIT 1 OFFSET 8000000".to_owned(),
    ] {
        let answer = async { session.query(&beyond).await?.collect().await };
        let Err(error) = answer.await else { panic!("{beyond}") };
        assert_eq!(error.kind(), ErrorKind::Backend, "{beyond}: {error:?}");
        assert!(error.message().contains("memory budget of 32 MiB"), "{beyond}: {error:?}");
    }
    assert_eq!(one_row(&session, "SELECT count(*) FROM job").await, ["100"]);
}

#[tokio::test]
async fn the_strings_of_groups_and_the_keys_of_a_sort_are_in_the_budget() {
    // 20,000 strings of 16 bytes, and as many ids and times.
    let statements = [
        "SELECT annotations['example.com/trace'] AS trace, count(*) FROM job GROUP BY trace",
        "SELECT job_id FROM job ORDER BY submitted",
    ];
    for (budget, is_enough) in [(700 << 10, false), (16 << 20, true)] {
        let session = session(MemoryDatabase::new().with_sql_memory(budget), 20_000).await;
        for statement in statements {
            let answer = async { session.query(statement).await?.collect().await };
            match answer.await {
                Ok(batches) => assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 20_000),
                Err(error) => {
                    assert!(!is_enough && error.message().contains("memory budget"), "{statement}: {error:?}");
                    continue;
                }
            }
            assert!(is_enough, "{statement}");
        }
    }
}
