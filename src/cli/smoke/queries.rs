//! Execution of each kind of query on the generated jobs.

use std::time::{Duration, Instant};

use broadside::Database;
use broadside::measure::LatencyHistogram;
use broadside::workload::{QueryKind, Workload};

use super::summary::{Row, Summary, Tally};
use crate::cli::{messages, progress};

/// The maximum number of executions of a kind of query.
const MAX_RUNS: u64 = 100;
/// The minimum number of executions of a kind of query.
const MIN_RUNS: u64 = 10;
/// The time limit of a kind of query, after the minimum number of executions.
const TIME_LIMIT: Duration = Duration::from_secs(1);

/// Runs each kind of query and adds a row for it.
pub async fn run(database: &dyn Database, workload: &Workload, summary: &mut Summary) {
    let kinds = QueryKind::essential();
    let bar = progress::bar("running queries", kinds.len() as u64);
    for kind in kinds {
        let (row, problem) = run_kind(database, workload, kind).await;
        if let Some(problem) = problem {
            messages::problem(format_args!("{kind}: {problem}"));
        }
        summary.add(row);
        bar.inc(1);
    }
    bar.finish_and_clear();
}

/// Runs a kind of query. Returns its row and the first problem. The values of a query are those of a generated
/// job, so it finds at least that job.
async fn run_kind(database: &dyn Database, workload: &Workload, kind: QueryKind) -> (Row, Option<String>) {
    let mut row =
        Row { name: kind.to_string(), tally: Tally::default(), rows: None, latencies: LatencyHistogram::default() };
    let mut problem = None;
    let begun = Instant::now();
    for number in 0..MAX_RUNS {
        if number >= MIN_RUNS && begun.elapsed() > TIME_LIMIT {
            break;
        }
        let Some(query) = workload.query(kind, number) else {
            break;
        };
        let started = Instant::now();
        let answer = query.execute(database).await;
        row.latencies.record(started.elapsed());
        let found = match answer {
            Ok(answer) => answer.rows(),
            Err(error) => {
                problem.get_or_insert_with(|| error.to_string());
                0
            }
        };
        if !row.tally.count(found > 0) {
            problem.get_or_insert_with(|| format!("no rows found by {query:?}"));
        }
        row.rows = row.rows.max(Some(found));
    }
    (row, problem)
}
