//! A validated batch.

use std::sync::Arc;

use super::plan::*;
use super::planner::Planner;
use super::query::IngestionQuery;
use super::validate;
use crate::error::{Error, Operation, Result};

/// A validated batch, the argument of [`execute_ingestion_query_batch`]. Backends do not validate again.
///
/// ```
/// use broadside::ingest::{IngestionBatch, InsertJobError};
///
/// let error = InsertJobError { job_id: "job-1".into(), error: Some("out of memory".into()), submitted: None };
/// let batch = IngestionBatch::new([error.into()])?;
/// assert_eq!((batch.query_count(), batch.errors().len()), (1, 1));
/// # Ok::<(), broadside::Error>(())
/// ```
///
/// [`execute_ingestion_query_batch`]: crate::Database::execute_ingestion_query_batch
///
/// Cloning shares the queries.
#[derive(Debug, Clone, Default)]
pub struct IngestionBatch {
    plan: Arc<Plan>,
}

impl IngestionBatch {
    /// Validates queries and computes their net effect.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for the first query that exceeds a limit, with its position (starting at 0), its type, the
    /// field and the value.
    pub fn new(queries: impl IntoIterator<Item = IngestionQuery>) -> Result<Self> {
        let mut planner = Planner::default();
        for query in queries {
            validate::check(&query, planner.valid_spec()).map_err(|violation| {
                Error::invalid(
                    Operation::ExecuteIngestionQueryBatch,
                    format!("query {} ({}): {violation}", planner.plan.query_count, query.type_name()),
                )
            })?;
            planner.add(query);
            planner.plan.query_count += 1;
        }
        Ok(Self { plan: Arc::new(planner.plan) })
    }

    /// The number of queries in the batch.
    pub fn query_count(&self) -> usize {
        self.plan.query_count
    }

    /// The jobs to insert, with distinct ids.
    pub fn jobs(&self) -> &[JobInsert] {
        &self.plan.jobs
    }

    /// The specs to insert, with distinct job ids.
    pub fn specs(&self) -> &[RecordInsert] {
        &self.plan.specs
    }

    /// The job errors to insert, with distinct job ids.
    pub fn errors(&self) -> &[RecordInsert] {
        &self.plan.errors
    }

    /// The runs to insert, with distinct ids.
    pub fn runs(&self) -> &[RunInsert] {
        &self.plan.runs
    }

    /// The updates of jobs, with distinct ids; to be applied after the inserts.
    pub fn job_updates(&self) -> &[JobUpdate] {
        &self.plan.job_updates
    }

    /// The updates of runs, with distinct ids; to be applied after the inserts.
    pub fn run_updates(&self) -> &[RunUpdate] {
        &self.plan.run_updates
    }

    /// Whether the batch has no effect on any store.
    pub fn is_empty(&self) -> bool {
        self.plan.jobs.is_empty()
            && self.plan.specs.is_empty()
            && self.plan.errors.is_empty()
            && self.plan.runs.is_empty()
            && self.plan.job_updates.is_empty()
            && self.plan.run_updates.is_empty()
    }
}

impl TryFrom<Vec<IngestionQuery>> for IngestionBatch {
    type Error = Error;

    fn try_from(queries: Vec<IngestionQuery>) -> Result<Self> {
        Self::new(queries)
    }
}
