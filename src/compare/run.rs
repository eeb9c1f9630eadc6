//! The execution of a comparison: loading, comparison of results, and measurement.

use std::time::{Duration, Instant};

use super::check::answers_differ;
use super::operation::{Batches, Ingestion, WorkloadOperation};
use super::results::{BackendResult, Measurement, OperationResult, Results, Settings};
use super::target::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::measure::{LatencyHistogram, Machine};
use crate::time::{Clock, SystemClock};
use crate::workload::{Answer, Query, QueryKind, Workload};

/// The total time after which an operation is no longer repeated on a target, provided that it was executed
/// [`ENOUGH_RUNS`] times.
const ENOUGH_TIME: Duration = Duration::from_secs(2);
/// The minimum number of executions of an operation.
const ENOUGH_RUNS: usize = 3;
/// The number of consecutive executions of an operation in the turn of a target. During the first ones, the caches of
/// the processor contain the data of other targets; with one execution per turn, all times would be those of a store
/// that is idle in between.
const RUNS_PER_TURN: usize = 10;

/// The current activity of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Jobs are being ingested into the targets.
    Ingesting,
    /// Queries are being checked and timed.
    Querying,
}

/// Receives progress reports: the activity, the number of completed steps and the total.
pub type ActivityFn<'a> = &'a (dyn Fn(Activity, u64, u64) + Send + Sync);

/// The outcome of a comparison.
#[derive(Debug)]
pub enum ComparisonOutcome {
    /// All targets returned the same results, up to ties.
    Agreed(Results),
    /// Results differ. Then there are no measurements.
    Differed(Vec<QueryDifference>),
}

/// A result that differs from that of the first target.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueryDifference {
    /// The operation.
    pub operation: String,
    /// The target with the different result.
    pub target: String,
    /// The target with the expected result.
    pub reference: String,
    /// The difference.
    pub problem: String,
    /// The query.
    pub query: String,
}

/// A comparison of targets on a workload.
#[derive(Debug)]
pub struct Comparison<'a> {
    /// The jobs and queries.
    pub workload: &'a Workload,
    /// The kinds of queries to execute.
    pub kinds: Vec<QueryKind>,
    /// The maximum number of executions of each query.
    pub samples: usize,
}

impl Comparison<'_> {
    /// Loads the workload into the targets, which must be empty. Then executes each kind of query with different
    /// values, and compares every result with that of the first target before the measurement.
    ///
    /// # Errors
    ///
    /// Errors of the targets. A record that only one target has is a difference and not an error.
    pub async fn run(&self, targets: &[Box<dyn Target>], progress: ActivityFn<'_>) -> Result<ComparisonOutcome> {
        let mut operations = self.ingest(targets, progress).await?;
        let mut differences = Vec::new();
        let total = self.kinds.len() as u64;
        for (done, &kind) in (0..).zip(&self.kinds) {
            progress(Activity::Querying, done, total);
            let queries = self.checked(targets, kind, &mut differences).await?;
            if queries.is_empty() || !differences.is_empty() {
                continue;
            }
            let mut operation = OperationResult::new(WorkloadOperation::Query(kind));
            for measured in self.time(targets, &queries).await? {
                operation.add(measured);
            }
            operations.push(operation);
        }
        progress(Activity::Querying, total, total);
        if !differences.is_empty() {
            return Ok(ComparisonOutcome::Differed(differences));
        }
        Ok(ComparisonOutcome::Agreed(self.results(targets, operations).await?))
    }

    /// Executes the ingestions one after another. A target without updates loads the complete lifecycles of all jobs.
    async fn ingest(&self, targets: &[Box<dyn Target>], progress: ActivityFn<'_>) -> Result<Vec<OperationResult>> {
        let mut operations = Vec::new();
        let (mut done, total) = (0, self.workload.options().jobs * targets.len() as u64);
        for ingestion in Ingestion::ALL {
            let mut batches: Vec<_> = targets.iter().map(|target| self.batches(target.as_ref(), ingestion)).collect();
            let mut samples: Vec<Samples> = targets.iter().map(|_| Samples::default()).collect();
            let mut round = 0;
            loop {
                let mut ended = true;
                for at in turns(targets.len(), round) {
                    for batch in batches[at].by_ref().take(RUNS_PER_TURN) {
                        let batch = batch?;
                        ended = false;
                        samples[at].add(targets[at].ingest(&batch).await?, batch.query_count());
                        done += batch.jobs().len() as u64;
                        progress(Activity::Ingesting, done, total);
                    }
                }
                if ended {
                    break;
                }
                round += 1;
            }
            let mut operation = OperationResult::new(WorkloadOperation::Ingest(ingestion));
            samples.iter().for_each(|samples| operation.add(samples.of_ingestion()));
            operations.push(operation);
        }
        for target in targets {
            target.finish_ingestion().await?;
        }
        Ok(operations)
    }

    /// The batches of an ingestion for a target. A target without updates loads all jobs as complete lifecycles, and
    /// has no other batches.
    fn batches(&self, target: &dyn Target, ingestion: Ingestion) -> Batches<'_> {
        match ingestion {
            _ if target.supports_updates() => ingestion.batches(self.workload),
            Ingestion::Load => Ingestion::complete_lifecycles(self.workload),
            _ => Box::new(std::iter::empty()),
        }
    }

    /// The distinct queries of a kind. Compares their results.
    async fn checked(
        &self,
        targets: &[Box<dyn Target>],
        kind: QueryKind,
        differences: &mut Vec<QueryDifference>,
    ) -> Result<Vec<Query>> {
        let Some((reference, others)) = targets.split_first() else { return Ok(Vec::new()) };
        let mut queries: Vec<Query> = Vec::new();
        let begun = Instant::now();
        for query in (0..self.samples as u64).map_while(|number| self.workload.query(kind, number)) {
            if queries.len() >= ENOUGH_RUNS && begun.elapsed() > ENOUGH_TIME * targets.len() as u32 {
                break;
            }
            if queries.contains(&query) {
                continue;
            }
            let expected = answer_or_missing(reference.as_ref(), &query).await?;
            for other in others {
                let got = answer_or_missing(other.as_ref(), &query).await?;
                let problem = match (&expected, &got) {
                    (Ok(expected), Ok(got)) => answers_differ(reference.as_ref(), &query, expected, got).await?,
                    (Err(expected), Ok(_)) => Some(format!("expected an error: {expected}")),
                    (Ok(_), Err(got)) => Some(format!("got an error: {got}")),
                    (Err(_), Err(_)) => None,
                };
                if let Some(problem) = problem {
                    differences.push(QueryDifference {
                        operation: kind.to_string(),
                        target: other.name().to_owned(),
                        reference: reference.name().to_owned(),
                        problem,
                        query: format!("{query:?}"),
                    });
                    // One difference for each kind is sufficient.
                    return Ok(queries);
                }
            }
            queries.push(query);
        }
        Ok(queries)
    }

    /// Executes the queries repeatedly, in rounds in which each target has a turn.
    async fn time(&self, targets: &[Box<dyn Target>], queries: &[Query]) -> Result<Vec<Option<Measurement>>> {
        let mut samples: Vec<Samples> = targets.iter().map(|_| Samples::default()).collect();
        let executions: Vec<&Query> = queries.iter().cycle().take(self.samples).collect();
        for (round, queries) in executions.chunks(RUNS_PER_TURN).enumerate() {
            for at in turns(targets.len(), round) {
                for query in queries {
                    if samples[at].is_enough() {
                        break;
                    }
                    let (answer, time) = targets[at].answer(query).await?;
                    samples[at].add(time, answer.rows());
                }
            }
        }
        Ok(samples.iter().map(Samples::of_queries).collect())
    }

    async fn results(&self, targets: &[Box<dyn Target>], operations: Vec<OperationResult>) -> Result<Results> {
        let jobs = self.workload.options().jobs;
        let mut backends = Vec::new();
        for target in targets {
            backends.push(BackendResult::new(target.name(), target.info().await?, jobs));
        }
        Ok(Results {
            format: Results::FORMAT,
            broadside: env!("CARGO_PKG_VERSION").to_owned(),
            taken: SystemClock.now(),
            settings: Settings { workload: self.workload.options().clone(), samples: self.samples },
            machine: Machine::this(),
            backends,
            operations,
        })
    }
}

/// The measurements of an operation on a target.
#[derive(Debug, Default)]
struct Samples {
    latencies: LatencyHistogram,
    total: Duration,
    /// The rows of all executions.
    rows: usize,
    /// The maximum number of rows of an execution.
    max_rows: usize,
}

impl Samples {
    fn add(&mut self, time: Duration, rows: usize) {
        self.latencies.record(time);
        self.total += time;
        self.rows += rows;
        self.max_rows = self.max_rows.max(rows);
    }

    /// Whether the operation need not be repeated on the target.
    fn is_enough(&self) -> bool {
        self.latencies.count() >= ENOUGH_RUNS as u64 && self.total > ENOUGH_TIME
    }

    fn of_ingestion(&self) -> Option<Measurement> {
        Measurement::of_ingestion(&self.latencies, self.total, self.rows)
    }

    fn of_queries(&self) -> Option<Measurement> {
        Measurement::of_queries(&self.latencies, self.max_rows)
    }
}

/// The order of the targets in a round. The first one rotates, so that interference and the contents of the caches
/// affect all targets alike.
fn turns(targets: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..targets).map(move |turn| (round + turn) % targets)
}

/// The result of a query, or the error if the record does not exist.
async fn answer_or_missing(target: &dyn Target, query: &Query) -> Result<Result<Answer, Error>> {
    match target.answer(query).await {
        Ok((answer, _)) => Ok(Ok(answer)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Err(error)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_runs_once_in_a_round_and_begins_equally_often() {
        let order = |round| turns(3, round).collect::<Vec<_>>();
        assert_eq!([order(0), order(1), order(2), order(3)], [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
        assert_eq!(turns(0, 5).count(), 0);
    }
}
