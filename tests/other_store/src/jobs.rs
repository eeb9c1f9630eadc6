//! Selections and pages of jobs.

use std::collections::HashSet;

use broadside::query::{Direction, IntegerField, JobOrderKey, Page, Predicate, Selection, TextField, TimeField};
use broadside::{Job, JobQuery, Run, Timestamp};

use crate::tables::Tables;

impl Tables {
    pub(crate) fn page_of_jobs(&self, query: &JobQuery, now: Timestamp) -> Vec<Job> {
        let mut jobs = self.selected(query.selection());
        if let Some(order) = query.order() {
            sort_by(&mut jobs, order.direction, |a, b| match order.key {
                JobOrderKey::JobId => a.job_id.cmp(&b.job_id),
                JobOrderKey::Queue => a.queue.cmp(&b.queue),
                JobOrderKey::JobSet => a.job_set.cmp(&b.job_set),
                JobOrderKey::State => a.state.ordinal().cmp(&b.state.ordinal()),
                JobOrderKey::Submitted => a.submitted.cmp(&b.submitted),
                JobOrderKey::LastTransitionTime => {
                    a.last_transition_time.floor_seconds().cmp(&b.last_transition_time.floor_seconds())
                }
            });
        }
        page(jobs, query.page()).map(|job| self.with_runs(job, now)).collect()
    }

    pub(crate) fn selected(&self, selection: &Selection) -> Vec<&Job> {
        let is_active = |job: &&Job| job.state.is_active();
        let active: HashSet<_> = self.jobs.values().filter(is_active).map(|job| (&job.queue, &job.job_set)).collect();
        self.jobs
            .values()
            .filter(|job| !selection.active_job_sets() || active.contains(&(&job.queue, &job.job_set)))
            .filter(|job| selection.predicates().iter().all(|predicate| self.holds(predicate, job)))
            .collect()
    }

    fn holds(&self, predicate: &Predicate, job: &Job) -> bool {
        match predicate {
            Predicate::Text(field, test) => self.text(*field, job).is_some_and(|text| test.holds(text)),
            Predicate::State(states) => states.contains(job.state),
            Predicate::Integer(field, test) => test.holds(match field {
                IntegerField::Cpu => job.cpu,
                IntegerField::Memory => job.memory,
                IntegerField::EphemeralStorage => job.ephemeral_storage,
                IntegerField::Gpu => job.gpu,
                IntegerField::Priority => job.priority,
                later => unreachable!("the field {later} of a later version"),
            }),
            Predicate::Time(field, comparison, time) => match field {
                TimeField::Submitted => comparison.holds(&job.submitted, time),
                TimeField::LastTransitionTime => comparison.holds(&job.last_transition_time, time),
            },
            Predicate::Annotation(key, test) => job.annotations.get(key).is_some_and(|value| test.holds(value)),
            later => unreachable!("{later:?} of a later version"),
        }
    }

    /// The value of a text field; `None` if it is null.
    pub(crate) fn text<'a>(&'a self, field: TextField, job: &'a Job) -> Option<&'a str> {
        match field {
            TextField::JobId => Some(&job.job_id),
            TextField::Queue => Some(&job.queue),
            TextField::JobSet => Some(&job.job_set),
            TextField::Owner => Some(&job.owner),
            TextField::Namespace => job.namespace.as_deref(),
            TextField::PriorityClass => job.priority_class.as_deref(),
            TextField::Cluster => Some(&self.latest_run(job)?.cluster),
            TextField::Node => self.latest_run(job)?.node.as_deref(),
            TextField::Pool => self.latest_run(job)?.pool.as_deref(),
            later => unreachable!("the field {later} of a later version"),
        }
    }

    fn latest_run(&self, job: &Job) -> Option<&Run> {
        Some(&self.runs.get(job.last_active_run_id.as_deref()?)?.run)
    }

    fn with_runs(&self, job: &Job, now: Timestamp) -> Job {
        let runs = self.runs.values().filter(|stored| stored.job_id == job.job_id).map(|stored| stored.run.clone());
        let mut job = job.clone();
        job.attach_runs(runs.collect(), now);
        job
    }
}

pub(crate) fn sort_by<T>(rows: &mut [T], direction: Direction, compare: impl Fn(&T, &T) -> std::cmp::Ordering) {
    match direction {
        Direction::Ascending => rows.sort_by(compare),
        Direction::Descending => rows.sort_by(|a, b| compare(b, a)),
    }
}

pub(crate) fn page<T>(rows: Vec<T>, page: Page) -> impl Iterator<Item = T> {
    let clamp = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
    rows.into_iter().skip(clamp(page.offset())).take(page.limit().map_or(usize::MAX, clamp))
}
