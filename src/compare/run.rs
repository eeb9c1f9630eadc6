//! A comparison from beginning to end: load, check, time.

use std::time::{Duration, Instant};

use super::check::answers_differ;
use super::operation::{Ingestion, Operation};
use super::results::{BackendResult, Measurement, OperationResult, Results, Settings};
use super::subject::Subject;
use super::timings::Timings;
use crate::error::{Error, ErrorKind, Result};
use crate::measure::Machine;
use crate::time::{Clock, SystemClock};
use crate::workload::{Answer, Query, QueryKind, Workload};

/// After how long an operation is not run again on a subject, if it has run often enough.
const ENOUGH_TIME: Duration = Duration::from_secs(2);
/// How often is enough.
const ENOUGH_RUNS: usize = 3;

/// How far a comparison has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage<'a> {
    /// Jobs are being ingested into the subject of this name.
    Ingesting(&'a str),
    /// Queries are being checked and timed.
    Querying,
}

/// Hears of progress: the stage, how many of its steps are done, and how many it has.
pub type StageFn<'a> = &'a (dyn Fn(Stage<'_>, u64, u64) + Send + Sync);

/// What a comparison found.
#[derive(Debug)]
pub enum Outcome {
    /// Every answer was the same on every subject, ties aside.
    Agreed(Results),
    /// These were not; times of wrong answers are worth nothing, so there are none.
    Differed(Vec<Difference>),
}

/// An answer that differs from the first subject's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What was asked.
    pub operation: String,
    /// Which subject answered otherwise.
    pub subject: String,
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
    /// Loads the workload into every subject, all empty; then runs each kind of query with many
    /// values, compares every answer with the first subject's, and times it.
    ///
    /// # Errors
    ///
    /// Those of the subjects. That a record is missing is a difference and no error.
    pub async fn run(&self, subjects: &[Box<dyn Subject>], progress: StageFn<'_>) -> Result<Outcome> {
        let mut operations: Vec<_> =
            Ingestion::ALL.into_iter().map(|way| OperationResult::new(Operation::Ingest(way))).collect();
        for subject in subjects {
            let ways = self.ingest(subject.as_ref(), progress).await?;
            for (operation, measured) in operations.iter_mut().zip(ways) {
                operation.add(measured);
            }
        }
        let mut differences = Vec::new();
        let total = self.kinds.len() as u64;
        for (done, &kind) in (0..).zip(&self.kinds) {
            progress(Stage::Querying, done, total);
            let queries = self.checked(subjects, kind, &mut differences).await?;
            if queries.is_empty() || !differences.is_empty() {
                continue;
            }
            let mut operation = OperationResult::new(Operation::Query(kind));
            for subject in subjects {
                operation.add(self.time(subject.as_ref(), &queries).await?);
            }
            operations.push(operation);
        }
        progress(Stage::Querying, total, total);
        if !differences.is_empty() {
            return Ok(Outcome::Differed(differences));
        }
        Ok(Outcome::Agreed(self.results(subjects, operations).await?))
    }

    /// Ingests the workload: every way in turn or, where updates are not taken, all in whole lives.
    async fn ingest(&self, subject: &dyn Subject, progress: StageFn<'_>) -> Result<Vec<Option<Measurement>>> {
        let mut measurements = Vec::new();
        let mut done = 0;
        for way in Ingestion::ALL {
            let (mut timings, mut queries) = (Timings::default(), 0);
            let batches = if subject.takes_updates() {
                way.batches(self.workload)
            } else if way == Ingestion::Load {
                Ingestion::whole_lives(self.workload)
            } else {
                measurements.push(None);
                continue;
            };
            for batch in batches {
                let batch = batch?;
                timings.add(subject.ingest(&batch).await?);
                queries += batch.query_count();
                done += batch.jobs().len() as u64;
                progress(Stage::Ingesting(subject.name()), done, self.workload.options().jobs);
            }
            measurements.push(Measurement::of_ingestion(&timings, queries));
        }
        subject.settle().await?;
        Ok(measurements)
    }

    /// The queries of a kind, after comparing their answers; no query comes twice.
    async fn checked(
        &self,
        subjects: &[Box<dyn Subject>],
        kind: QueryKind,
        differences: &mut Vec<Difference>,
    ) -> Result<Vec<Query>> {
        let Some((reference, others)) = subjects.split_first() else { return Ok(Vec::new()) };
        let mut queries: Vec<Query> = Vec::new();
        let begun = Instant::now();
        for query in (0..self.samples as u64).map_while(|number| self.workload.query(kind, number)) {
            if queries.len() >= ENOUGH_RUNS && begun.elapsed() > ENOUGH_TIME * subjects.len() as u32 {
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
                    differences.push(Difference {
                        operation: kind.to_string(),
                        subject: other.name().to_owned(),
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

    /// Runs queries in turn, again and again.
    async fn time(&self, subject: &dyn Subject, queries: &[Query]) -> Result<Option<Measurement>> {
        let (mut timings, mut rows) = (Timings::default(), 0);
        let begun = Instant::now();
        for query in queries.iter().cycle().take(self.samples) {
            if timings.count() >= ENOUGH_RUNS && begun.elapsed() > ENOUGH_TIME {
                break;
            }
            let (answer, time) = subject.answer(query).await?;
            timings.add(time);
            rows = rows.max(answer.rows());
        }
        Ok(Measurement::of_queries(&timings, rows))
    }

    async fn results(&self, subjects: &[Box<dyn Subject>], operations: Vec<OperationResult>) -> Result<Results> {
        let jobs = self.workload.options().jobs;
        let mut backends = Vec::new();
        for subject in subjects {
            backends.push(BackendResult::new(subject.name(), subject.info().await?, jobs));
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

/// The answer, or the error if what was asked for is not there.
async fn answer_or_missing(subject: &dyn Subject, query: &Query) -> Result<Result<Answer, Error>> {
    match subject.answer(query).await {
        Ok((answer, _)) => Ok(Ok(answer)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Err(error)),
        Err(error) => Err(error),
    }
}
