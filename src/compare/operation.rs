//! The operations of a comparison: the ingestions and the kinds of queries.

use std::fmt;
use std::ops::Range;

use crate::error::Result;
use crate::ingest::{IngestionBatch, IngestionQuery};
use crate::workload::{QueryKind, Workload};

/// The number of jobs in a batch of complete lifecycles.
const JOBS_PER_LOAD_BATCH: u64 = 1000;
/// The number of queries in a batch of inserts or updates.
const QUERIES_PER_BATCH: usize = 1000;
/// The number of new jobs of an incremental batch, besides the next stages of unfinished jobs.
const JOBS_PER_INCREMENTAL_BATCH: u64 = 20;
/// The reciprocal of the share of jobs that are not ingested by [`Ingestion::Load`].
const SEPARATE_DIVISOR: u64 = 10;
/// The maximum number of jobs that are ingested by batches of inserts and of updates.
const MAX_SEPARATE_JOBS: u64 = 10_000;
/// The maximum number of jobs that are ingested by incremental batches.
const MAX_INCREMENTAL_JOBS: u64 = 2000;

/// The reads of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReadOperation {
    /// Queries of a kind.
    Query(QueryKind),
    /// Queries of a kind, each after a batch of updates.
    AfterWrite(QueryKind),
}

impl ReadOperation {
    /// The kind of the queries.
    pub fn kind(self) -> QueryKind {
        match self {
            Self::Query(kind) | Self::AfterWrite(kind) => kind,
        }
    }
}

/// The ingestions of a comparison. Each job of the workload is ingested by one of them (by the inserts and the updates
/// together), so that the store contains the whole workload at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ingestion {
    /// Most jobs, in batches of complete lifecycles.
    Load,
    /// The inserts of further jobs and their runs.
    Inserts,
    /// The updates of those jobs and runs, stage by stage.
    Updates,
    /// The remaining jobs, in the batches of an ingester that keeps up: new jobs, and the next stage of unfinished
    /// jobs.
    Incremental,
}

impl Ingestion {
    /// All ingestions, in the order in which they must be executed.
    pub const ALL: [Self; 4] = [Self::Load, Self::Inserts, Self::Updates, Self::Incremental];

    /// The jobs of the ingestion.
    fn jobs(self, workload: &Workload) -> Range<u64> {
        let jobs = workload.options().jobs;
        let incremental = (jobs / SEPARATE_DIVISOR / 2).min(MAX_INCREMENTAL_JOBS);
        let separate = (jobs / SEPARATE_DIVISOR / 2).min(MAX_SEPARATE_JOBS);
        let loaded = jobs - incremental - separate;
        match self {
            Self::Load => 0..loaded,
            Self::Inserts | Self::Updates => loaded..loaded + separate,
            Self::Incremental => loaded + separate..jobs,
        }
    }

    /// The batches of the ingestion.
    pub fn batches(self, workload: &Workload) -> Batches<'_> {
        let jobs = self.jobs(workload);
        match self {
            Self::Load => validated(workload.batches_of(jobs, JOBS_PER_LOAD_BATCH)),
            Self::Inserts => validated(chunks(inserts(workload, jobs))),
            Self::Updates => validated(chunks(updates(workload, jobs))),
            Self::Incremental => validated(workload.live_batches_of(jobs, JOBS_PER_INCREMENTAL_BATCH)),
        }
    }

    /// Batches like those of [`Load`](Self::Load), for all jobs of the workload.
    pub fn complete_lifecycles(workload: &Workload) -> Batches<'_> {
        validated(workload.batches(JOBS_PER_LOAD_BATCH))
    }
}

/// Batches, each generated and validated on demand.
pub type Batches<'a> = Box<dyn Iterator<Item = Result<IngestionBatch>> + Send + 'a>;

fn validated<'a>(batches: impl Iterator<Item = Vec<IngestionQuery>> + Send + 'a) -> Batches<'a> {
    Box::new(batches.map(IngestionBatch::new))
}

fn is_insert(query: &IngestionQuery) -> bool {
    use IngestionQuery::{InsertJob, InsertJobError, InsertJobRun, InsertJobSpec};
    matches!(query, InsertJob(_) | InsertJobSpec(_) | InsertJobError(_) | InsertJobRun(_))
}

fn inserts(workload: &Workload, jobs: Range<u64>) -> Vec<IngestionQuery> {
    jobs.flat_map(|number| workload.lifecycle(number)).flatten().filter(is_insert).collect()
}

/// The updates of the jobs, in groups of jobs: the first stage of each job of the group, then the second of each, and
/// so on.
fn updates(workload: &Workload, jobs: Range<u64>) -> Vec<IngestionQuery> {
    let stages = workload.live_batches_of(jobs, QUERIES_PER_BATCH as u64);
    stages.flatten().filter(|query| !is_insert(query)).collect()
}

fn chunks(queries: Vec<IngestionQuery>) -> impl Iterator<Item = Vec<IngestionQuery>> + Send {
    let mut queries = queries.into_iter();
    std::iter::from_fn(move || {
        let chunk: Vec<_> = queries.by_ref().take(QUERIES_PER_BATCH).collect();
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// The name of the operation in tables and results.
impl fmt::Display for ReadOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query(kind) => kind.fmt(f),
            Self::AfterWrite(kind) => write!(f, "{kind}, after a write"),
        }
    }
}

/// The name of the operation in tables and results.
impl fmt::Display for Ingestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load => write!(f, "load the lifecycles of {JOBS_PER_LOAD_BATCH} jobs"),
            Self::Inserts => write!(f, "insert, {QUERIES_PER_BATCH} queries"),
            Self::Updates => write!(f, "update, {QUERIES_PER_BATCH} queries"),
            Self::Incremental => write!(f, "incremental, {JOBS_PER_INCREMENTAL_BATCH} new jobs"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::workload::WorkloadOptions;

    #[test]
    fn every_job_is_ingested_once() {
        for jobs in [0, 1, 9, 10, 25, 1000] {
            let workload = Workload::new(WorkloadOptions { jobs, ..WorkloadOptions::default() });
            let (mut ids, mut queries) = (BTreeSet::new(), 0);
            for ingestion in Ingestion::ALL {
                for batch in ingestion.batches(&workload) {
                    let batch = batch.unwrap();
                    queries += batch.query_count();
                    for job in batch.jobs() {
                        assert!(ids.insert(job.job_id.clone()), "{ingestion} inserts {} again", job.job_id);
                    }
                }
            }
            assert_eq!(ids.len() as u64, jobs);
            assert_eq!(queries, workload.batches(1000).flatten().count());
        }
    }

    #[test]
    fn inserts_and_updates_do_not_mix() {
        let workload = Workload::new(WorkloadOptions { jobs: 2000, ..WorkloadOptions::default() });
        for batch in Ingestion::Inserts.batches(&workload).map(Result::unwrap) {
            assert!(batch.job_updates().is_empty() && batch.run_updates().is_empty());
        }
        for batch in Ingestion::Updates.batches(&workload).map(Result::unwrap) {
            assert!(batch.jobs().is_empty() && batch.runs().is_empty() && batch.errors().is_empty());
        }
    }
}
