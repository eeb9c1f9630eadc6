//! A comparison from beginning to end: load, check, time.

use std::time::{Duration, Instant};

use super::check::answers_differ;
use super::operation::{Batches, Ingestion, WorkloadOperation};
use super::results::{BackendResult, Measurement, OperationResult, Results, Settings};
use super::target::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::measure::{LatencyHistogram, Machine};
use crate::time::{Clock, SystemClock};
use crate::workload::{Answer, Query, QueryKind, Workload};

/// After how long an operation is not run again on a target, if it has run often enough.
const ENOUGH_TIME: Duration = Duration::from_secs(2);
/// How often is enough.
const ENOUGH_RUNS: usize = 3;

/// How far a comparison has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Jobs are being ingested into the targets.
    Ingesting,
    /// Queries are being checked and timed.
    Querying,
}

/// Hears of progress: the stage, how many of its steps are done, and how many it has.
pub type ActivityFn<'a> = &'a (dyn Fn(Activity, u64, u64) + Send + Sync);

/// What a comparison found.
#[derive(Debug)]
pub enum ComparisonOutcome {
    /// Every answer was the same on every target, ties aside.
    Agreed(Results),
    /// These were not; times of wrong answers are worth nothing, so there are none.
    Differed(Vec<QueryDifference>),
}

/// An answer that differs from the first target's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryDifference {
    /// What was asked.
    pub operation: String,
    /// Which target answered otherwise.
    pub target: String,
    /// Which one it is compared with.
    pub reference: String,
    /// What differs.
    pub problem: String,
    /// The query.
    pub query: String,
}

/// A workload and what is done with it.
#[derive(Debug)]
pub struct Comparison<'a> {
    /// The jobs and queries.
    pub workload: &'a Workload,
    /// The kinds of queries to run.
    pub kinds: Vec<QueryKind>,
    /// How often each is run at most.
    pub samples: usize,
}

impl Comparison<'_> {
    /// Loads the workload into every target, all empty; then runs each kind of query with many
    /// values, compares every answer with the first target's, and times it.
    ///
    /// # Errors
    ///
    /// Those of the targets. That a record is missing is a difference and no error.
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

    /// Ingests the workload, every way after the other: all of it in whole lives where updates are not taken.
    async fn ingest(&self, targets: &[Box<dyn Target>], progress: ActivityFn<'_>) -> Result<Vec<OperationResult>> {
        let mut operations = Vec::new();
        let (mut done, total) = (0, self.workload.options().jobs * targets.len() as u64);
        for way in Ingestion::ALL {
            let mut batches: Vec<_> = targets.iter().map(|target| self.batches(target.as_ref(), way)).collect();
            let mut taken: Vec<Taken> = targets.iter().map(|_| Taken::default()).collect();
            let mut round = 0;
            loop {
                let mut ended = true;
                for at in turns(targets.len(), round) {
                    let Some(batch) = batches[at].next().transpose()? else { continue };
                    ended = false;
                    taken[at].add(targets[at].ingest(&batch).await?, batch.query_count());
                    done += batch.jobs().len() as u64;
                    progress(Activity::Ingesting, done, total);
                }
                if ended {
                    break;
                }
                round += 1;
            }
            let mut operation = OperationResult::new(WorkloadOperation::Ingest(way));
            taken.iter().for_each(|taken| operation.add(taken.of_ingestion()));
            operations.push(operation);
        }
        for target in targets {
            target.settle().await?;
        }
        Ok(operations)
    }

    /// The batches that a target is given one way; none where it takes no updates, except that it then loads all jobs.
    fn batches(&self, target: &dyn Target, way: Ingestion) -> Batches<'_> {
        match way {
            way if target.takes_updates() => way.batches(self.workload),
            Ingestion::Load => Ingestion::whole_lives(self.workload),
            _ => Box::new(std::iter::empty()),
        }
    }

    /// The queries of a kind, after comparing their answers; no query comes twice.
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
                    // Once is enough to look into.
                    return Ok(queries);
                }
            }
            queries.push(query);
        }
        Ok(queries)
    }

    /// Runs the queries again and again, each on every target before the next one.
    async fn time(&self, targets: &[Box<dyn Target>], queries: &[Query]) -> Result<Vec<Option<Measurement>>> {
        let mut taken: Vec<Taken> = targets.iter().map(|_| Taken::default()).collect();
        for (round, query) in queries.iter().cycle().take(self.samples).enumerate() {
            for at in turns(targets.len(), round) {
                if taken[at].is_enough() {
                    continue;
                }
                let (answer, time) = targets[at].answer(query).await?;
                taken[at].add(time, answer.rows());
            }
        }
        Ok(taken.iter().map(Taken::of_queries).collect())
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

/// What the runs of an operation on a target took.
#[derive(Debug, Default)]
struct Taken {
    latencies: LatencyHistogram,
    total: Duration,
    /// Of all runs.
    rows: usize,
    /// Of the run that had most.
    most_rows: usize,
}

impl Taken {
    fn add(&mut self, time: Duration, rows: usize) {
        self.latencies.record(time);
        self.total += time;
        self.rows += rows;
        self.most_rows = self.most_rows.max(rows);
    }

    /// Whether the target need not run the operation again.
    fn is_enough(&self) -> bool {
        self.latencies.count() >= ENOUGH_RUNS as u64 && self.total > ENOUGH_TIME
    }

    fn of_ingestion(&self) -> Option<Measurement> {
        Measurement::of_ingestion(&self.latencies, self.total, self.rows)
    }

    fn of_queries(&self) -> Option<Measurement> {
        Measurement::of_queries(&self.latencies, self.most_rows)
    }
}

/// The order of the targets in a round: each time another one begins, so that what disturbs the machine
/// for a while, and what a call leaves behind in its caches, falls on all alike.
fn turns(targets: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..targets).map(move |turn| (round + turn) % targets)
}

/// The answer, or the error if what was asked for is not there.
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
    fn every_target_has_its_turn_in_a_round_and_begins_as_often() {
        let order = |round| turns(3, round).collect::<Vec<_>>();
        assert_eq!([order(0), order(1), order(2), order(3)], [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
        assert_eq!(turns(0, 5).count(), 0);
    }
}
