//! Imports of rows in the exchange format, as columns.

use std::hash::Hash;

use bytes::Bytes;
use datafusion::arrow::array::{
    Array, AsArray, BooleanArray, MapArray, PrimitiveArray, StringArray, TimestampMicrosecondArray,
    TimestampSecondArray, UInt32Array,
};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{ArrowPrimitiveType, Int64Type, TimestampMicrosecondType, TimestampSecondType};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};

use super::jobs::NewAnnotations;
use super::runs::push_messages;
use super::store::Store;
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};
use crate::exchange::{Part, Table};
use crate::ingest::{EARLIEST, END};
use crate::memory::error::engine_error;
use crate::memory::storage::{
    Dictionary, FixedId, JobId, JobRows, Reference, RunId, RunRows, UNREAD_OF_JOBS, UNREAD_OF_RUNS,
};
use crate::model::{JobState, RunState};
use crate::time::Timestamp;

/// The greatest number of characters of a value in an error.
const SHOWN_CHARS: usize = 80;

/// Jobs to insert, with the columns that are not stored as they are.
struct NewJobs {
    columns: RecordBatch,
    ids: Vec<JobId>,
    states: Vec<u8>,
    latest_runs: Vec<Option<RunId>>,
}

/// Runs to insert.
struct NewRuns {
    columns: RecordBatch,
    ids: Vec<RunId>,
    jobs: Vec<JobId>,
    states: Vec<u8>,
}

/// The codes of the cluster, node and pool of runs.
struct Places {
    clusters: Vec<u32>,
    nodes: Vec<Option<u32>>,
    pools: Vec<Option<u32>>,
}

impl Store {
    /// Adds the rows of a part whose ids do not exist. All checks precede the first change.
    pub(in crate::memory) fn import(&mut self, part: &Part) -> Result<()> {
        let failed = |error: ArrowError| engine_error(Operation::Import, error.into());
        let mut jobs = NewJobs::of(part.batch(Table::Job))?;
        let mut runs = NewRuns::of(part.batch(Table::JobRun))?;
        let specs = records(part, Table::JobSpec, "spec")?;
        let errors = records(part, Table::JobError, "error")?;
        if let Some(new) = new_rows(&jobs.ids, self.job_rows(jobs.ids.iter().copied().map(Some))) {
            jobs = NewJobs::of(&filter_record_batch(&jobs.columns, &new).map_err(failed)?)?;
        }
        if let Some(new) = new_rows(&runs.ids, self.run_rows(runs.ids.iter().copied().map(Some))) {
            runs = NewRuns::of(&filter_record_batch(&runs.columns, &new).map_err(failed)?)?;
        }
        self.check_room(Operation::Import, jobs.ids.len(), runs.ids.len())?;
        self.records.specs.insert_all(specs);
        self.records.errors.insert_all(errors);
        self.append_imported(&jobs, &runs).and_then(|()| self.end_batch()).map_err(failed)
    }

    fn append_imported(&mut self, jobs: &NewJobs, runs: &NewRuns) -> Result<(), ArrowError> {
        let (first_job, first_run) = (self.jobs.len() as u32, self.runs.len() as u32);
        let dictionaries = &mut self.dictionaries;
        let places = Places {
            clusters: dictionaries
                .clusters
                .intern_all(text(&runs.columns, "cluster").iter().map(Option::unwrap_or_default)),
            nodes: codes(&mut dictionaries.nodes, &runs.columns, "node"),
            pools: codes(&mut dictionaries.pools, &runs.columns, "pool"),
        };
        // Most jobs have a latest run of their own in the same part, whose row is known before it is appended.
        let latest = jobs.own_latest_runs(runs);
        if !jobs.ids.is_empty() {
            self.append_imported_jobs(jobs, &places, &latest, first_run)?;
        }
        if !runs.ids.is_empty() {
            self.append_imported_runs(runs, places)?;
        }
        for ((row, id), own) in (first_job..).zip(&jobs.latest_runs).zip(latest) {
            if let (Some(id), None) = (id, own) {
                self.set_latest_run(row, *id, self.run_row(id));
            }
        }
        Ok(())
    }

    fn append_imported_jobs(
        &mut self,
        jobs: &NewJobs,
        places: &Places,
        latest: &[Option<usize>],
        first_run: u32,
    ) -> Result<(), ArrowError> {
        let first = self.jobs.len() as u32;
        let columns = &jobs.columns;
        let dictionaries = &mut self.dictionaries;
        let required = |dictionary: &mut Dictionary, name: &str| -> Vec<u32> {
            dictionary.intern_all(text(columns, name).iter().map(Option::unwrap_or_default))
        };
        let queue = required(&mut dictionaries.queues, "queue");
        let job_set = required(&mut dictionaries.job_sets, "job_set");
        let owner = required(&mut dictionaries.owners, "owner");
        let namespace = codes(&mut dictionaries.namespaces, columns, "namespace");
        let priority_class = codes(&mut dictionaries.priority_classes, columns, "priority_class");
        let cancel_reason = codes(&mut dictionaries.cancel_reasons, columns, "cancel_reason");
        let cancel_user = codes(&mut dictionaries.cancel_users, columns, "cancel_user");
        let pair = queue.iter().zip(&job_set).map(|(&queue, &job_set)| self.active.pair(queue, job_set));
        let pair = UInt32Array::from_iter_values(pair);
        let (key_set, annotations) = self.intern_map(columns["annotations"].as_map());
        let last_transition_time = times(columns, "last_transition_time");
        let of_run = |codes: &[Option<u32>]| latest.iter().map(|run| codes[(*run)?]).collect::<UInt32Array>();
        let rows = JobRows {
            job_id: JobId::column(jobs.ids.iter().copied())?,
            queue: queue.into(),
            job_set: job_set.into(),
            owner: owner.into(),
            namespace: namespace.into(),
            priority_class: priority_class.into(),
            cpu: numbers::<Int64Type>(columns, "cpu"),
            memory: numbers::<Int64Type>(columns, "memory"),
            ephemeral_storage: numbers::<Int64Type>(columns, "ephemeral_storage"),
            gpu: numbers::<Int64Type>(columns, "gpu"),
            priority: numbers::<Int64Type>(columns, "priority"),
            submitted: times(columns, "submitted"),
            cancelled: times(columns, "cancelled"),
            state: jobs.states.clone().into(),
            last_transition_seconds: seconds(&last_transition_time),
            last_transition_time,
            latest_run: latest.iter().map(|run| Some(Reference::Row(first_run + (*run)? as u32).pack())).collect(),
            cancel_reason: cancel_reason.into(),
            cancel_user: cancel_user.into(),
            cluster: latest.iter().map(|run| Some(places.clusters[(*run)?])).collect(),
            node: of_run(&places.nodes),
            pool: of_run(&places.pools),
            pair,
            last_run: UInt32Array::new_null(jobs.ids.len()),
            key_set: key_set.into(),
        };
        self.append_jobs(&rows, annotations);
        for (row, is_duplicate) in (first..).zip(columns["duplicate"].as_boolean()) {
            if is_duplicate == Some(true) {
                let (chunk, at) = self.jobs.locate(row);
                chunk.duplicates.push(at, ());
            }
        }
        for (column, name) in UNREAD_OF_JOBS.iter().enumerate() {
            for (row, value) in (first..).zip(some_texts(columns, name)) {
                if let Some(value) = value {
                    let (chunk, at) = self.jobs.locate(row);
                    chunk.unread[column].push(at, value.into());
                }
            }
        }
        Ok(())
    }

    fn append_imported_runs(&mut self, runs: &NewRuns, places: Places) -> Result<(), ArrowError> {
        let first = self.runs.len() as u32;
        let columns = &runs.columns;
        let job = self.jobs_of_runs(runs.jobs.iter().copied());
        let messages = &mut self.records.run_messages;
        let mut message = |name: &str| {
            let texts = columns[name].as_binary::<i32>().iter();
            push_messages(messages, texts.map(|text| text.map(Bytes::copy_from_slice)))
        };
        let rows = RunRows {
            run_id: RunId::column(runs.ids.iter().copied())?,
            cluster: places.clusters.into(),
            node: places.nodes.into(),
            pool: places.pools.into(),
            leased: times(columns, "leased"),
            pending: times(columns, "pending"),
            started: times(columns, "started"),
            finished: times(columns, "finished"),
            state: runs.states.clone().into(),
            exit_code: numbers(columns, "exit_code"),
            error: message("error"),
            debug: message("debug"),
            job,
            previous: UInt32Array::new_null(runs.ids.len()),
        };
        self.append_runs(&rows);
        for (column, name) in UNREAD_OF_RUNS.iter().enumerate() {
            for (row, value) in (first..).zip(some_texts(columns, name)) {
                if let Some(value) = value {
                    let (chunk, at) = self.runs.locate(row);
                    chunk.unread[column].push(at, value.into());
                }
            }
        }
        Ok(())
    }

    fn intern_map(&mut self, map: &MapArray) -> (Vec<u32>, NewAnnotations) {
        let (keys, values) = (map.keys().as_string::<i32>(), map.values().as_string::<i32>());
        let (mut entries, mut ends) = (Vec::with_capacity(keys.len()), Vec::with_capacity(map.len()));
        for range in map.offsets().windows(2) {
            let start = entries.len();
            entries.extend((range[0] as usize..range[1] as usize).filter(|&at| values.is_valid(at)));
            let of_row = &mut entries[start..];
            if !of_row.is_sorted_by(|&a, &b| keys.value(a) < keys.value(b)) {
                of_row.sort_by_key(|&at| keys.value(at));
                let mut kept = entries.split_off(start);
                kept.dedup_by_key(|at| keys.value(*at));
                entries.extend(kept);
            }
            ends.push(entries.len());
        }
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let of_rows = starts.zip(&ends).map(|(start, &end)| &entries[start..end]);
        self.intern_annotations(of_rows.map(|row| row.iter().map(|&at| (keys.value(at), values.value(at)))))
    }
}

impl NewJobs {
    fn of(columns: &RecordBatch) -> Result<Self> {
        let latest_runs = some_texts(columns, "latest_run_id");
        let latest_runs = latest_runs.map(|id| id.map(|id| checked("latest_run_id", id)).transpose());
        Ok(Self {
            ids: ids(columns, "job_id")?,
            states: states(columns, |name| JobState::from_shown(name).ok().map(|state| state.stored()))?,
            latest_runs: latest_runs.collect::<Result<_>>()?,
            columns: columns.clone(),
        })
    }

    /// For each job, the index of its latest run among new runs, if the run is its own.
    fn own_latest_runs(&self, runs: &NewRuns) -> Vec<Option<usize>> {
        let by_id: HashMap<&RunId, usize, RandomState> = runs.ids.iter().zip(0..).collect();
        let own = |(id, latest): (&JobId, &Option<RunId>)| {
            let run = *by_id.get(latest.as_ref()?)?;
            (runs.jobs[run] == *id).then_some(run)
        };
        self.ids.iter().zip(&self.latest_runs).map(own).collect()
    }
}

impl NewRuns {
    fn of(columns: &RecordBatch) -> Result<Self> {
        Ok(Self {
            ids: ids(columns, "run_id")?,
            jobs: ids(columns, "job_id")?,
            states: states(columns, |name| RunState::from_shown(name).ok().map(|state| state.stored()))?,
            columns: columns.clone(),
        })
    }
}

/// The first row of each id that does not exist; `None` if that is every row.
fn new_rows<I: Hash + Eq>(ids: &[I], known: Vec<Option<u32>>) -> Option<BooleanArray> {
    let mut seen: HashSet<&I, RandomState> = HashSet::with_capacity_and_hasher(ids.len(), RandomState::default());
    let new: Vec<bool> = ids.iter().zip(known).map(|(id, known)| known.is_none() && seen.insert(id)).collect();
    (seen.len() < ids.len()).then(|| new.into())
}

fn records<'a>(part: &'a Part, table: Table, name: &str) -> Result<impl Iterator<Item = (JobId, Bytes)> + 'a> {
    let columns = part.batch(table);
    let values = columns[name].as_binary::<i32>().iter().map(Option::unwrap_or_default);
    Ok(ids(columns, "job_id")?.into_iter().zip(values.map(Bytes::copy_from_slice)))
}

fn text<'a>(columns: &'a RecordBatch, name: &str) -> &'a StringArray {
    columns[name].as_string()
}

/// The texts of a nullable column. Lookout writes an empty text for a missing one.
fn some_texts<'a>(columns: &'a RecordBatch, name: &str) -> impl Iterator<Item = Option<&'a str>> {
    text(columns, name).iter().map(|text| text.filter(|text| !text.is_empty()))
}

fn codes(dictionary: &mut Dictionary, columns: &RecordBatch, name: &str) -> Vec<Option<u32>> {
    dictionary.intern_optional(some_texts(columns, name))
}

fn numbers<T: ArrowPrimitiveType>(columns: &RecordBatch, name: &str) -> PrimitiveArray<T> {
    columns[name].as_primitive().clone()
}

/// Times, of which those outside the limits become the nearest ones within them.
fn times(columns: &RecordBatch, name: &str) -> TimestampMicrosecondArray {
    let limit = |micros: i64| micros.clamp(EARLIEST.as_micros(), END.as_micros() - 1);
    columns[name].as_primitive::<TimestampMicrosecondType>().unary(limit)
}

fn seconds(times: &TimestampMicrosecondArray) -> TimestampSecondArray {
    times.unary::<_, TimestampSecondType>(|micros| Timestamp::from_micros(micros).floor_seconds())
}

fn ids<const N: usize>(columns: &RecordBatch, name: &str) -> Result<Vec<FixedId<N>>> {
    text(columns, name).iter().map(|id| checked(name, id.unwrap_or_default())).collect()
}

fn checked<const N: usize>(name: &str, id: &str) -> Result<FixedId<N>> {
    FixedId::new(id).ok_or_else(|| refused(name, id))
}

/// The ordinals of states. `ordinal` is that of a name.
fn states(columns: &RecordBatch, ordinal: impl Fn(&str) -> Option<i16>) -> Result<Vec<u8>> {
    let stored = |name: &str| u8::try_from(ordinal(name)?).ok().filter(|&ordinal| ordinal > 0);
    let names = text(columns, "state").iter().map(Option::unwrap_or_default);
    names.map(|name| stored(name).ok_or_else(|| refused("state", name))).collect()
}

fn refused(column: &str, value: &str) -> Error {
    let shown: String = value.chars().take(SHOWN_CHARS).collect();
    let message = format!("the memory engine cannot store the {column} {shown:?}");
    Error::new(ErrorKind::InvalidArgument, Operation::Import, message).with_backend(BackendKind::Memory)
}
