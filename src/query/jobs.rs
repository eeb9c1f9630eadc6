//! The query of [`get_jobs`](crate::Database::get_jobs).

use super::field::JobOrderKey;
use super::page::{Direction, Page};
use super::predicate::{Predicate, Selection};

/// A query for jobs: a selection, a sort order, offset and limit.
///
/// Every query that can be built is valid.
///
/// ```
/// use broadside::JobState;
/// use broadside::query::{Annotation, Direction, JobOrderKey, JobQuery, StateField, TextField};
///
/// let query = JobQuery::new()
///     .filter(TextField::Queue.equals("risk"))
///     .filter(StateField.any_of([JobState::Failed, JobState::Preempted]))
///     .filter(Annotation("team").starts_with("f"))
///     .order_by(JobOrderKey::Submitted, Direction::Descending)
///     .limit(100);
/// assert_eq!(query.page().limit(), Some(100));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct JobQuery {
    selection: Selection,
    order: Option<JobOrder>,
    page: Page,
}

/// The sort order of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JobOrder {
    /// The sort key.
    pub key: JobOrderKey,
    /// The sort direction.
    pub direction: Direction,
}

impl JobQuery {
    /// The query for all jobs, in any order.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps only jobs for which the predicate holds, besides those added before.
    pub fn filter(mut self, predicate: Predicate) -> Self {
        self.selection.add(predicate);
        self
    }

    /// Keeps only jobs for which all the predicates hold.
    pub fn filters(self, predicates: impl IntoIterator<Item = Predicate>) -> Self {
        predicates.into_iter().fold(self, Self::filter)
    }

    /// Keeps only jobs whose (queue, job set) holds an active job.
    pub fn in_active_job_sets(mut self) -> Self {
        self.selection.require_active_job_sets();
        self
    }

    /// Sorts the jobs. Jobs with equal keys come in any order.
    pub fn order_by(mut self, key: JobOrderKey, direction: Direction) -> Self {
        self.order = Some(JobOrder { key, direction });
        self
    }

    /// Skips the first jobs of the order.
    pub fn offset(mut self, jobs: u64) -> Self {
        self.page.set_offset(jobs);
        self
    }

    /// Returns at most so many jobs; 0, as in Lookout, for no limit.
    pub fn limit(mut self, jobs: u64) -> Self {
        self.page.set_limit(jobs);
        self
    }

    /// The selection of jobs.
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// The sort order; `None` for any order.
    pub fn order(&self) -> Option<JobOrder> {
        self.order
    }

    /// Offset and limit.
    pub fn page(&self) -> Page {
        self.page
    }
}
