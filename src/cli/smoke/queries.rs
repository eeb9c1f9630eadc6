//! Each kind of query on the generated jobs, with many values.

use std::time::{Duration, Instant};

use broadside::Database;
use broadside::measure::LatencyHistogram;
use broadside::workload::{QueryKind, Workload};

use super::summary::{Row, Summary, Tally};
use crate::cli::{progress, report};

/// How often a kind is run at most.
const RUNS: u64 = 100;
/// After how long a kind is not run again, if it has run often enough.
const ENOUGH_TIME: Duration = Duration::from_secs(1);
/// How often is enough.
const ENOUGH_RUNS: u64 = 10;

/// Runs each kind of query and adds a row for it.
pub async fn run(database: &dyn Database, workload: &Workload, summary: &mut Summary) {
    let kinds = QueryKind::essential();
    let bar = progress::bar("running queries", kinds.len() as u64);
    for kind in kinds {
        let (row, problem) = run_kind(database, workload, kind).await;
        if let Some(problem) = problem {
            report::problem(format_args!("{kind}: {problem}"));
        }
        summary.add(row);
        bar.inc(1);
    }
    bar.finish_and_clear();
}

/// The row of a kind, and the first thing that was wrong. A query is made of values that a job
/// has, so it finds at least that job.
async fn run_kind(database: &dyn Database, workload: &Workload, kind: QueryKind) -> (Row, Option<String>) {
    let mut row =
        Row { name: kind.to_string(), tally: Tally::default(), rows: None, latencies: LatencyHistogram::default() };
    let mut problem = None;
    let begun = Instant::now();
    for number in 0..RUNS {
        if number >= ENOUGH_RUNS && begun.elapsed() > ENOUGH_TIME {
            break;
        }
        let Some(query) = workload.query(kind, number) else {
            break;
        };
        let started = Instant::now();
        let answer = query.run(database).await;
        row.latencies.record(started.elapsed());
        let found = match answer {
            Ok(answer) => answer.rows(),
            Err(error) => {
                problem.get_or_insert_with(|| error.to_string());
                0
            }
        };
        if !row.tally.count(found > 0) {
            problem.get_or_insert_with(|| format!("nothing found by {query:?}"));
        }
        row.rows = row.rows.max(Some(found));
    }
    (row, problem)
}
