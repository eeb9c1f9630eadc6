//! The selection of the jobs of a copy.

use std::collections::{BTreeSet, HashSet};

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampMicrosecondType;

use super::{Part, Table, schema};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::time::Timestamp;

/// Selects jobs, with their rows of the other tables. Without a condition, all rows are selected, and so are those whose
/// job does not exist.
///
/// ```
/// use broadside::exchange::Filter;
///
/// let filter = Filter::new().queues(["risk"]).sample(0.01)?;
/// # Ok::<(), broadside::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    queues: Option<BTreeSet<String>>,
    since: Option<Timestamp>,
    sample: Option<f64>,
    without_specs: bool,
}

impl Filter {
    /// A filter that selects all rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Selects jobs of these queues.
    #[must_use]
    pub fn queues(mut self, queues: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.queues = Some(queues.into_iter().map(Into::into).collect());
        self
    }

    /// Selects jobs that were submitted at this time or later.
    #[must_use]
    pub fn since(mut self, time: Timestamp) -> Self {
        self.since = Some(time);
        self
    }

    /// Selects about this share of the job sets, each with all its jobs: always the same ones.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a share that is not above 0 and at most 1.
    pub fn sample(mut self, share: f64) -> Result<Self> {
        if !(share > 0.0 && share <= 1.0) {
            return Err(Error::invalid(Operation::Export, format!("a share of {share} is not above 0 and at most 1")));
        }
        self.sample = Some(share);
        Ok(self)
    }

    /// Leaves out all specs.
    #[must_use]
    pub fn without_specs(mut self) -> Self {
        self.without_specs = true;
        self
    }

    /// The selected rows of a part.
    ///
    /// # Errors
    ///
    /// `Backend` if memory for the rows cannot be allocated.
    pub fn apply(&self, part: Part) -> Result<Part> {
        let Part { batches: [jobs, runs, specs, errors], position } = part;
        let specs = if self.without_specs { RecordBatch::new_empty(schema(Table::JobSpec)) } else { specs };
        if self.selects_all_jobs() {
            return Part::new([jobs, runs, specs, errors], position);
        }
        let jobs = filter(&jobs, &self.selection(&jobs))?;
        let ids: HashSet<&str> = text(&jobs, "job_id").iter().flatten().collect();
        let of_jobs = |batch: &RecordBatch| {
            let selection = text(batch, "job_id").iter().map(|id| Some(ids.contains(id?))).collect();
            filter(batch, &selection)
        };
        let rows = [of_jobs(&runs)?, of_jobs(&specs)?, of_jobs(&errors)?];
        let [runs, specs, errors] = rows;
        Part::new([jobs, runs, specs, errors], position)
    }

    fn selects_all_jobs(&self) -> bool {
        self.queues.is_none() && self.since.is_none() && self.sample.is_none()
    }

    fn selection(&self, jobs: &RecordBatch) -> BooleanArray {
        let (queues, sets) = (text(jobs, "queue"), text(jobs, "job_set"));
        let submitted = column(jobs, "submitted").as_primitive::<TimestampMicrosecondType>();
        let is_selected = |row: usize| {
            let queue = queues.value(row);
            self.queues.as_ref().is_none_or(|queues| queues.contains(queue))
                && self.since.is_none_or(|since| submitted.value(row) >= since.as_micros())
                && self.sample.is_none_or(|share| position(queue, sets.value(row)) < share)
        };
        (0..jobs.num_rows()).map(|row| Some(is_selected(row))).collect()
    }
}

/// The place of a job set among all possible ones, from 0 to 1: a hash of its names.
fn position(queue: &str, job_set: &str) -> f64 {
    let hash = blake3::Hasher::new().update(queue.as_bytes()).update(b"\0").update(job_set.as_bytes()).finalize();
    let [a, b, c, d, ..] = *hash.as_bytes();
    f64::from(u32::from_le_bytes([a, b, c, d])) / 2f64.powi(32)
}

fn filter(batch: &RecordBatch, selection: &BooleanArray) -> Result<RecordBatch> {
    let failed =
        |error| Error::new(ErrorKind::Backend, Operation::Export, "rows cannot be selected").with_source(error);
    filter_record_batch(batch, selection).map_err(failed)
}

/// A column of a batch of a [`Part`], which has the schema of its table.
pub(super) fn column<'a>(batch: &'a RecordBatch, name: &str) -> &'a ArrayRef {
    &batch[name]
}

pub(super) fn text<'a>(batch: &'a RecordBatch, name: &str) -> &'a StringArray {
    column(batch, name).as_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::tests::part;

    fn rows(part: &Part) -> [usize; 4] {
        Table::ALL.map(|table| part.batch(table).num_rows())
    }

    #[test]
    fn conditions_select_jobs_with_their_rows() {
        let whole = part(0..70);
        assert_eq!(rows(&Filter::new().apply(whole.clone()).unwrap()), [70; 4]);
        assert_eq!(rows(&Filter::new().without_specs().apply(whole.clone()).unwrap()), [70, 70, 0, 70]);
        let queues = Filter::new().queues(["queue 1", "queue 2", "none"]);
        assert_eq!(rows(&queues.clone().apply(whole.clone()).unwrap()), [20; 4]);
        let since = queues.since(Timestamp::from_micros(35));
        let selected = since.apply(whole).unwrap();
        assert_eq!(rows(&selected), [10; 4]);
        assert_eq!(text(selected.batch(Table::JobRun), "job_id").value(0), "job_id 36");
    }

    #[test]
    fn a_sample_has_about_its_share_of_the_job_sets() {
        let jobs = |share| rows(&Filter::new().sample(share).unwrap().apply(part(0..10_000)).unwrap())[0];
        assert!((800..1200).contains(&jobs(0.1)), "{}", jobs(0.1));
        assert_eq!(jobs(1.0), 10_000);
        for share in [0.0, -0.1, 1.1, f64::NAN] {
            assert!(Filter::new().sample(share).is_err());
        }
    }
}
