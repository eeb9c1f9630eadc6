//! Conversion of rows to jobs, runs and groups.

use std::vec;

use smol_str::SmolStr;

use crate::cell::{Cell, failed};
use broadside::Result;
use broadside::Timestamp;
use broadside::model::{GroupAggregates, Job, JobGroup, JobState, Run, RunState, StateSet};
use broadside::query::{GroupBy, GroupQuery, TimeAggregate};

/// Reads the columns of a row in order.
pub(super) struct Columns(vec::IntoIter<Cell>);

impl Columns {
    pub(super) fn new(row: Vec<Cell>) -> Self {
        Self(row.into_iter())
    }

    /// A job without its runs, from the columns of the statement for jobs.
    pub(super) fn job(mut self) -> Result<Job> {
        Ok(Job {
            job_id: self.text()?,
            queue: self.text()?,
            owner: self.text()?,
            namespace: self.maybe_text()?,
            job_set: self.text()?,
            cpu: self.integer()?,
            memory: self.integer()?,
            ephemeral_storage: self.integer()?,
            gpu: self.integer()?,
            priority: self.integer()?,
            priority_class: self.maybe_text()?,
            submitted: Timestamp::from_micros(self.integer()?),
            cancelled: self.maybe_time()?,
            state: self.state()?,
            last_transition_time: Timestamp::from_micros(self.integer()?),
            last_active_run_id: self.maybe_text()?,
            duplicate: false,
            annotations: serde_json::from_str(&self.text()?).map_err(|error| failed(&error))?,
            runs: Vec::new(),
            cancel_reason: self.maybe_text()?,
            cancel_user: self.maybe_text()?,
            node: None,
            cluster: SmolStr::default(),
            pool: None,
            exit_code: None,
            runtime_seconds: 0,
        })
    }

    /// A run and the id of its job, from the columns of the statement for runs.
    pub(super) fn run(mut self) -> Result<(SmolStr, Run)> {
        let job_id = self.text()?;
        let run = Run {
            run_id: self.text()?,
            cluster: self.text()?,
            node: self.maybe_text()?,
            pool: self.maybe_text()?,
            leased: self.maybe_time()?,
            pending: self.maybe_time()?,
            started: self.maybe_time()?,
            finished: self.maybe_time()?,
            job_run_state: self.run_state()?,
            exit_code: self.maybe_integer()?.and_then(|code| i32::try_from(code).ok()),
        };
        Ok((job_id, run))
    }

    /// A group, from the columns of the statement for groups.
    pub(super) fn group(mut self, query: &GroupQuery) -> Result<JobGroup> {
        let name = match query.group_by() {
            GroupBy::State => self.state()?.name().into(),
            GroupBy::Text(_) | GroupBy::Annotation(_) => self.text()?,
        };
        let count = self.count()?;
        let aggregates = query.aggregates();
        let state = aggregates.states().map(|states| self.state_counts(states)).transpose()?;
        let submitted = if aggregates.submitted() { Some(Timestamp::from_micros(self.integer()?)) } else { None };
        let last_transition_time = match aggregates.last_transition_time() {
            None => None,
            Some(TimeAggregate::Average) => Some(Timestamp::from_average_seconds(self.integer()?.into(), count)),
            Some(TimeAggregate::Earliest | TimeAggregate::Latest) => Some(Timestamp::from_seconds(self.integer()?)),
        };
        Ok(JobGroup { name, count, aggregates: GroupAggregates { state, submitted, last_transition_time } })
    }

    fn state_counts<C: FromIterator<(JobState, u64)>>(&mut self, states: StateSet) -> Result<C> {
        states.iter().map(|state| Ok((state, self.count()?))).collect()
    }

    fn count(&mut self) -> Result<u64> {
        u64::try_from(self.integer()?).map_err(|error| failed(&error))
    }

    fn state(&mut self) -> Result<JobState> {
        let ordinal = self.integer()?;
        let state = u8::try_from(ordinal).ok().and_then(JobState::from_ordinal);
        state.ok_or_else(|| failed(&format_args!("{ordinal} is not the ordinal of a job state")))
    }

    fn run_state(&mut self) -> Result<RunState> {
        let ordinal = self.integer()?;
        let state = u8::try_from(ordinal).ok().and_then(RunState::from_ordinal);
        state.ok_or_else(|| failed(&format_args!("{ordinal} is not the ordinal of a run state")))
    }

    fn text(&mut self) -> Result<SmolStr> {
        self.maybe_text()?.ok_or_else(|| failed(&"a string is missing"))
    }

    fn integer(&mut self) -> Result<i64> {
        self.maybe_integer()?.ok_or_else(|| failed(&"an integer is missing"))
    }

    fn maybe_time(&mut self) -> Result<Option<Timestamp>> {
        Ok(self.maybe_integer()?.map(Timestamp::from_micros))
    }

    fn maybe_text(&mut self) -> Result<Option<SmolStr>> {
        match self.0.next() {
            Some(Cell::Text(text)) => Ok(Some(text.into())),
            Some(Cell::Null) => Ok(None),
            other => Err(failed(&format_args!("expected a string, got {other:?}"))),
        }
    }

    fn maybe_integer(&mut self) -> Result<Option<i64>> {
        match self.0.next() {
            Some(Cell::Integer(integer)) => Ok(Some(integer)),
            Some(Cell::Null) => Ok(None),
            other => Err(failed(&format_args!("expected an integer, got {other:?}"))),
        }
    }
}
