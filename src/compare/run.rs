//! The execution of a comparison: loading, comparison of results, and measurement.

use super::operation::{Batches, Ingestion, ReadOperation};
use super::reads::{QueryDifference, Reads};
use super::results::{BackendResult, OperationResult, Results, Settings};
use super::target::Target;
use super::turns::{RUNS_PER_TURN, Samples, turns};
use super::writes::Writes;
use crate::error::Result;
use crate::measure::Machine;
use crate::time::{Clock, SystemClock};
use crate::workload::{QueryKind, Workload};

/// The current activity of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Jobs are being ingested into the targets.
    Ingesting,
    /// Queries are being checked and timed.
    Querying,
}

/// Receives progress reports: the activity, the number of completed steps and the total.
pub type StageFn<'a> = &'a (dyn Fn(Stage, u64, u64) + Send + Sync);

/// The outcome of a comparison.
#[derive(Debug)]
pub enum ComparisonOutcome {
    /// All targets returned the same results, up to ties.
    Agreed(Results),
    /// Results differ. Then there are no measurements.
    Differed(Vec<QueryDifference>),
}

/// A comparison of targets on a workload.
#[derive(Debug)]
pub struct Comparison<'a> {
    /// The jobs and queries.
    pub workload: &'a Workload,
    /// The kinds of queries to execute.
    pub kinds: Vec<QueryKind>,
    /// The maximum number of executions of each kind of query.
    pub samples: usize,
}

impl Comparison<'_> {
    /// Loads the workload into the targets, which must be empty. Then executes each kind of query with different
    /// values, and compares every result with that of the first target before the measurement. All targets execute the
    /// same queries, each equally often. At the end, the kinds of groups are executed again, each time after a small
    /// batch of updates that is not timed, on the targets that support updates.
    ///
    /// # Errors
    ///
    /// Errors of the targets. A record that only one target has is a difference and not an error.
    pub async fn run(&self, targets: &[Box<dyn Target>], progress: StageFn<'_>) -> Result<ComparisonOutcome> {
        let mut operations = self.ingest(targets, progress).await?;
        let mut differences = Vec::new();
        let mut writes = Writes::new(self.workload);
        let reads = self.reads(&writes);
        let total = reads.len() as u64;
        for (done, operation) in (0..).zip(reads) {
            // What differs without a write differs after it.
            if matches!(operation, ReadOperation::AfterWrite(_)) && !differences.is_empty() {
                break;
            }
            progress(Stage::Querying, done, total);
            let mut reads = Reads::new(operation, targets, &mut writes);
            let kind = operation.kind();
            let queries = (0..self.samples as u64).map_while(|number| self.workload.query(kind, number));
            match reads.check(queries).await? {
                Ok(checked) if differences.is_empty() && !checked.is_empty() => {
                    match reads.time(&checked, self.samples).await? {
                        Ok(samples) => operations.push(OperationResult::of_reads(operation, &samples)),
                        Err(difference) => differences.push(difference),
                    }
                }
                Ok(_) => {}
                // One difference for each operation is sufficient.
                Err(difference) => differences.push(difference),
            }
        }
        progress(Stage::Querying, total, total);
        if !differences.is_empty() {
            return Ok(ComparisonOutcome::Differed(differences));
        }
        operations.sort_by_key(|operation| operation.group);
        Ok(ComparisonOutcome::Agreed(self.results(targets, operations).await?))
    }

    /// The reads in the order of execution. The writes come last, because targets without updates do not take part.
    fn reads(&self, writes: &Writes) -> Vec<ReadOperation> {
        let of_groups = |kind: &&QueryKind| matches!(kind, QueryKind::Groups { .. }) && !writes.is_empty();
        let after_writes = self.kinds.iter().filter(of_groups).map(|&kind| ReadOperation::AfterWrite(kind));
        self.kinds.iter().map(|&kind| ReadOperation::Query(kind)).chain(after_writes).collect()
    }

    /// Executes the ingestions one after another. A target without updates loads the complete lifecycles of all jobs.
    async fn ingest(&self, targets: &[Box<dyn Target>], progress: StageFn<'_>) -> Result<Vec<OperationResult>> {
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
                        samples[at].add(round, targets[at].ingest(&batch).await?, batch.query_count());
                        done += batch.jobs().len() as u64;
                        progress(Stage::Ingesting, done, total);
                    }
                }
                if ended {
                    break;
                }
                round += 1;
            }
            operations.push(OperationResult::of_ingestion(ingestion, &samples));
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
