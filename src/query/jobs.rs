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
    /// Creates a query for all jobs, in any order.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a predicate. Predicates are combined by AND.
    pub fn filter(mut self, predicate: Predicate) -> Self {
        self.selection.add(predicate);
        self
    }

    /// Adds predicates. Predicates are combined by AND.
    pub fn filters(self, predicates: impl IntoIterator<Item = Predicate>) -> Self {
        predicates.into_iter().fold(self, Self::filter)
    }

    /// Selects only jobs whose (queue, job set) contains an active job.
    pub fn in_active_job_sets(mut self) -> Self {
        self.selection.require_active_job_sets();
        self
    }

    /// Sets the sort order of the jobs. The order of ties is that of [`Database::get_jobs`](crate::Database::get_jobs).
    pub fn order_by(mut self, key: JobOrderKey, direction: Direction) -> Self {
        self.order = Some(JobOrder { key, direction });
        self
    }

    /// Sets the offset: the number of jobs to skip.
    pub fn offset(mut self, jobs: u64) -> Self {
        self.page.set_offset(jobs);
        self
    }

    /// Sets the limit: the maximum number of jobs to return. 0 means no limit, as in Lookout.
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

    /// The offset and limit.
    pub fn page(&self) -> Page {
        self.page
    }
}
