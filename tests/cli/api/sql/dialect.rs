//! Results that differ from those of DataFusion, and statements that are refused with the reason.

use broadside::ingest::InsertJob;

use super::*;

/// Statements with their rows, in any order.
const RESULTS: &[(&str, &[&str])] = &[
    // Set operations count the copies of a row.
    (
        "SELECT column1 FROM (VALUES (1), (1), (1), (2)) INTERSECT ALL SELECT column1 FROM (VALUES (1), (1), (3))",
        &["1", "1"],
    ),
    (
        "SELECT column1 FROM (VALUES (1), (1), (1), (2)) EXCEPT ALL SELECT column1 FROM (VALUES (1), (3))",
        &["1", "1", "2"],
    ),
    ("SELECT column1 FROM (VALUES (NULL), (NULL), (1)) EXCEPT ALL SELECT column1 FROM (VALUES (NULL))", &["1", "NULL"]),
    ("SELECT column1 AS copy FROM (VALUES (1), (1)) INTERSECT ALL SELECT column1 FROM (VALUES (1), (2))", &["1"]),
    ("SELECT column1 FROM (VALUES (1), (1), (2)) INTERSECT SELECT column1 FROM (VALUES (1), (1), (2))", &["1", "2"]),
    ("SELECT column1 FROM (VALUES (1), (1), (2)) EXCEPT SELECT column1 FROM (VALUES (2))", &["1"]),
    ("SELECT job_set FROM job INTERSECT ALL SELECT job_set FROM job WHERE job_id < '2'", &["a", "b"]),
    ("SELECT count(*) FROM (SELECT queue FROM job EXCEPT ALL SELECT queue FROM job LIMIT 9)", &["0"]),
    (
        "SELECT queue FROM job UNION SELECT queue FROM job INTERSECT SELECT queue FROM job WHERE cancelled IS NULL",
        &["queue"],
    ),
    // A list with a NULL has no other values.
    ("SELECT column1 FROM (VALUES (1), (2)) WHERE column1 NOT IN (1, NULL)", &[]),
    ("SELECT count(*) FROM job WHERE job_set NOT IN ('a', NULL)", &["0"]),
    ("SELECT count(*) FROM job WHERE state IN ('QUEUED') AND state NOT IN ('FAILED', NULL)", &["0"]),
    ("SELECT count(*) FROM job WHERE queue <> NULL AND job_set <> 'a'", &["0"]),
    ("SELECT 2 NOT IN (1, NULL), 1 IN (1, NULL)", &["NULL|true"]),
    // Intervals are compared by their length.
    ("SELECT timestamp '2026-01-03' - timestamp '2026-01-01' > interval '1 day'", &["true"]),
    ("SELECT timestamp '2026-01-03' - timestamp '2026-01-01' > interval '49 hours'", &["false"]),
    (
        "SELECT timestamp '2026-01-03' - timestamp '2026-01-01' BETWEEN interval '1 day' AND interval '1 month'",
        &["true"],
    ),
    ("SELECT timestamp '2026-01-03' - timestamp '2026-01-01' IN (interval '48 hours')", &["true"]),
    ("SELECT interval '24 hours' = interval '1 day', interval '1 month' = interval '30 days'", &["true|true"]),
    // Integers do not wrap.
    ("SELECT sum(column1) FROM (VALUES (9223372036854775807), (1), (-1))", &["9223372036854775807"]),
    (
        "SELECT column1, sum(column2), sum(DISTINCT column2), avg(column2) FROM (VALUES ('a', 1), ('a', 1), ('b', 3)) GROUP BY column1",
        &["a|2|1|1.0", "b|3|3|3.0"],
    ),
    ("SELECT sum(column1) OVER (ORDER BY column1 ROWS 1 PRECEDING) + 1 FROM (VALUES (1), (2), (4))", &["2", "4", "7"]),
    (
        "SELECT sum(column1) FILTER (WHERE column1 > 1) AS s FROM (VALUES (1), (2), (4)) HAVING sum(column1) = 7 ORDER BY sum(column1)",
        &["6"],
    ),
    (
        "SELECT row_number() OVER (ORDER BY column1) - rank() OVER (ORDER BY column1 DESC) FROM (VALUES (1), (2))",
        &["-1", "1"],
    ),
    ("SELECT job_set, sum(cpu + 1) + 1 FROM job GROUP BY ROLLUP(job_set)", &["NULL|9", "a|5", "b|5"]),
    // Aggregates that differ in a cast.
    ("SELECT sum(cpu), sum(cpu::double), sum(cpu::int), avg(cpu), avg(cpu::double) FROM job", &["4|4.0|4|1.0|1.0"]),
    (
        "SELECT job_set, sum(cpu::double), sum(DISTINCT cpu), count(DISTINCT cpu::text) FROM job GROUP BY job_set HAVING sum(cpu::double) > 1 ORDER BY sum(cpu::int)",
        &["a|2.0|1|1", "b|2.0|1|1"],
    ),
    ("SELECT DISTINCT sum(cpu) OVER (), sum(cpu::double) OVER () FROM job", &["4|4.0"]),
    (
        "SELECT string_agg(cpu::text, ','), max(cpu::text), approx_percentile_cont(cpu::double, 0.5) FROM job",
        &["1,1,1,1|1|1.0"],
    ),
    // A fraction is rounded.
    (
        "SELECT cast(2.5 AS int), cast(-2.5 AS bigint), cast(2.4 AS smallint), try_cast(2.6 AS int), cast(2.5::decimal(2, 1) AS int)",
        &["3|-3|2|3|3"],
    ),
    ("SELECT cast(cpu * 1.5 AS int), count(*) FROM job GROUP BY ROLLUP(cast(cpu * 1.5 AS int))", &["2|4", "NULL|4"]),
    // Times of the whole range.
    ("SELECT cast(date_trunc('month', timestamp '2299-12-31 23:59:59.999999') AS text)", &["2299-12-01T00:00:00"]),
    ("SELECT cast(date_trunc('week', timestamp '2290-05-05 12:00:00') AS text)", &["2290-05-05T00:00:00"]),
    (
        "SELECT cast(date_trunc('quarter', submitted + interval '300 years') AS text) FROM job LIMIT 1",
        &["2270-01-01T00:00:00"],
    ),
    (
        "SELECT cast(date_trunc('year', t) AS text) FROM (VALUES (timestamp '2290-05-05'), (timestamp '2020-05-05'), (NULL)) AS v (t)",
        &["2020-01-01T00:00:00", "2290-01-01T00:00:00", "NULL"],
    ),
    // 2290-05-05 12:00:00 is 2,807,868 hours after the start of 1970, and 401,124 times 7 hours.
    ("SELECT cast(date_bin(interval '7 hours', timestamp '2290-05-05 13:00:00') AS text)", &["2290-05-05T09:00:00"]),
    ("SELECT cast(date_bin(interval '1 month', timestamp '2290-05-05 13:00:00') AS text)", &["2290-05-01T00:00:00"]),
    (
        "SELECT cast(date_bin(interval '7 hours', timestamp '2290-05-05 13:00:00', timestamp '1970-01-01') AS text), cast(date_bin(interval '7 hours', timestamp '2290-05-05 13:00:00', timestamp '2290-05-05 09:00:00') AS text)",
        &["2290-05-05T09:00:00|2290-05-05T09:00:00"],
    ),
    (
        "SELECT cast(date_bin(interval '1 month', t, timestamp '2289-01-15') AS text) FROM (VALUES (timestamp '2290-05-05'), (timestamp '2020-05-20'), (NULL)) AS v (t)",
        &["2020-05-15T00:00:00", "2290-04-15T00:00:00", "NULL"],
    ),
    (
        "SELECT date_bin(NULL, submitted) IS NULL, to_char(timestamp '2290-05-05 13:00:00', '%Y-%m-%d') FROM job WHERE job_id = '1'",
        &["true|2290-05-05"],
    ),
    ("SELECT extract(epoch FROM timestamp '2026-01-01 00:00:02.5' - timestamp '2026-01-01')", &["2.5"]),
    ("SELECT count(*) FROM job WHERE extract(year FROM submitted) = 1970", &["4"]),
    (
        "SELECT extract(hour FROM t), date_part('HOUR', t) FROM (VALUES (timestamp '1969-12-31 23:59:59.999999'), \
         (timestamp '2299-12-31 05:00:00'), (NULL)) AS v (t)",
        &["23|23", "5|5", "NULL|NULL"],
    ),
    // Dictionaries and bytes.
    ("SELECT approx_distinct(job_set), approx_distinct(job_id) FROM job", &["2|4"]),
    ("SELECT octet_length(spec), octet_length('\u{e9}') FROM job_spec", &["5|2"]),
    // The precedence of IS DISTINCT FROM is higher than those of NOT, AND and OR.
    ("SELECT 1 IS DISTINCT FROM 2 AND false, 1 IS NOT DISTINCT FROM 1 OR true", &["false|true"]),
    ("SELECT NOT 1 IS DISTINCT FROM 2 OR true, NOT 1 IS DISTINCT FROM 2 AND false", &["true|false"]),
    ("SELECT false AND 1 IS DISTINCT FROM 2 OR true, true OR 1 IS DISTINCT FROM 2 AND false", &["true|true"]),
    ("SELECT 1 IS DISTINCT FROM 1 AND false OR true, true IS DISTINCT FROM (true AND false)", &["true|true"]),
    ("SELECT 2 IS DISTINCT FROM 1 AND 2 IS DISTINCT FROM 2 OR 1 = 1 AND NOT NULL IS DISTINCT FROM NULL", &["true"]),
    ("SELECT true IS DISTINCT FROM NOT true AND 1 = 1, true IS DISTINCT FROM 1 = 2 AND true", &["true|true"]),
    ("SELECT count(*) FROM job WHERE queue IS DISTINCT FROM 'q' AND job_set = 'a' OR job_id = '1'", &["3"]),
    // The first row of each group.
    ("SELECT DISTINCT ON (job_set) job_set, job_id FROM job ORDER BY job_set DESC, job_id DESC LIMIT 1", &["b|3"]),
    (
        "SELECT DISTINCT ON (j.job_set, cpu + 1) job_id AS a, job_id AS b, upper(job_set) FROM job j ORDER BY j.job_set, cpu + 1, job_id",
        &["0|0|A", "1|1|B"],
    ),
    ("SELECT count(*) FROM (SELECT DISTINCT ON (job_set, namespace) state FROM job)", &["2"]),
    // Columns of the same name.
    ("SELECT 1, 1, count(*), count(*)", &["1|1|1|1"]),
    (
        "SELECT job_id, job_id AS a, queue AS a, job.job_id FROM job WHERE job_id = '1' ORDER BY job_id",
        &["1|1|queue|1"],
    ),
    ("SELECT 1, 1 UNION ALL SELECT 2, 3", &["1|1", "2|3"]),
];

/// Statements with the reason why they are refused, or fail.
const REFUSED: &[(&str, &str)] = &[
    ("SELECT sum(column1) FROM (VALUES (9223372036854775807), (1))", "out of range Int64"),
    ("SELECT 9223372036854775807 + 1", "Overflow"),
    ("SELECT cpu - 9223372036854775807 - 9 FROM job", "Overflow"),
    ("SELECT (cpu + 1) * 9223372036854775807 FROM job", "Overflow"),
    ("SELECT job_id FROM job WHERE queue SIMILAR TO 'q%'", "SIMILAR TO, use ~ with a regular expression"),
    ("SELECT to_char(submitted, 'YYYY-MM-DD') FROM job", "such as those of '%Y-%m-%d"),
    ("SELECT date_bin(interval '7 months', timestamp '2290-05-05')", "out of range for date_bin"),
    (
        "SELECT date_bin(interval '7 months', submitted, timestamp '2290-05-05') FROM job",
        "origin of date_bin is out of range",
    ),
    ("SELECT range(timestamp '2290-05-05', timestamp '2290-05-06', interval '1 hour')", "out of range for range"),
    (
        "SELECT nonsense FROM job_error",
        "there is no column nonsense at Line: 1, Column: 8.\nThe columns are job_error.error, job_error.job_id",
    ),
    ("SELECT quue FROM job", "there is no column quue at Line: 1, Column: 8.\nDid you mean job.queue?"),
    ("SELECT nonsense", "there is no column nonsense at Line: 1, Column: 8"),
    ("SELECT queue FROM job a JOIN job b USING (job_id)", "several tables have the column queue at Line: 1, Column: 8"),
    ("SELECT * FROM job, job", "several columns are named job.job_id"),
    ("SELECT cpu / 0 FROM job", "Divide by zero"),
    ("SELECT EXISTS (SELECT 1), count(*) FROM job", "with a subquery outside of WHERE"),
    ("SELECT count(*) FROM job GROUP BY job_id IN (SELECT job_id FROM job)", "with a subquery outside of WHERE"),
    ("SELECT cast('a' AS int)", "Cannot cast string 'a'"),
    ("SELECT count(*) FROM job TABLESAMPLE BERNOULLI (1)", "TABLESAMPLE"),
    ("SELECT array_agg(job_id) OVER (ORDER BY job_id) FROM job", "over an ordered window"),
    ("SELECT i < interval '1 day' FROM (VALUES (interval '1 hour')) AS t (i)", "comparisons of intervals"),
];

async fn session() -> SqlSession {
    // A spec with an unknown field, which is not UTF-8.
    let job = |(id, job_set): (&str, &str)| InsertJob {
        job: plain_job(id, job_set),
        job_spec: (id == "0").then(|| bytes::Bytes::from_static(b"\xc2\x3e\x02\xff\x00")),
    };
    session_after([("0", "a"), ("1", "b"), ("2", "a"), ("3", "b")].map(|of| job(of).into())).await
}

#[tokio::test]
async fn results_are_those_of_the_standard() {
    let session = session().await;
    for (statement, expected) in RESULTS {
        let rows = rows(&session, statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        let row = |row: Row| {
            row.into_iter().map(|cell| cell.unwrap_or_else(|| "NULL".to_owned())).collect::<Vec<_>>().join("|")
        };
        let mut rows: Vec<String> = rows.into_iter().map(row).collect();
        rows.sort();
        assert_eq!(rows, *expected, "{statement}");
    }
}

#[tokio::test]
async fn other_statements_are_refused_with_the_reason() {
    let session = session().await;
    for (statement, reason) in REFUSED {
        let answer = async { session.query(statement).await?.collect().await };
        let error = answer.await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(reason) && !cause.contains("caused by"), "{statement}: {cause}");
        assert!(
            !cause.contains("error: ") && !cause.contains("Error: ") && !cause.contains("Error during planning"),
            "{statement}: {cause}"
        );
    }
}
