//! Inserts and updates of jobs.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, Int64Array, TimestampMicrosecondArray, TimestampSecondArray, UInt8Array, UInt32Array,
};
use datafusion::arrow::error::ArrowError;

use super::store::Store;
use crate::ingest::{JobEffect, JobInsert, JobPatch, JobUpdate};
use crate::memory::storage::{CHUNK_ROWS, JobId, JobRows, RunId, job_state, locate};
use crate::model::JobState;
use crate::time::Timestamp;

/// The annotation values of new rows: for each key, ascending row indices with their value codes.
pub(super) type NewAnnotations = Vec<(u32, Vec<(u32, u32)>)>;

/// The annotation keys of a job, with the code of the key set.
struct KeySet {
    keys: Arc<[u32]>,
    code: u32,
}

impl Store {
    /// Inserts the jobs whose ids are new. Building columns is several times faster than inserting rows, and locks each
    /// dictionary once.
    pub(super) fn insert_jobs(&mut self, jobs: &[JobInsert]) -> Result<(), ArrowError> {
        let ids = || jobs.iter().map(|job| JobId::new(&job.job_id));
        let known = self.job_rows(ids());
        let new = ids().zip(jobs).zip(known).filter(|(_, known)| known.is_none());
        let new: Vec<(JobId, &JobInsert)> = new.filter_map(|((id, job), _)| Some((id?, job))).collect();
        if new.is_empty() {
            return Ok(());
        }
        let jobs = || new.iter().map(|&(_, job)| job);
        let count = new.len();
        let dictionaries = &mut self.dictionaries;
        let queue: Vec<u32> = dictionaries.queues.intern_all(jobs().map(|job| job.queue.as_str()));
        let job_set: Vec<u32> = dictionaries.job_sets.intern_all(jobs().map(|job| job.job_set.as_str()));
        let owner: Vec<u32> = dictionaries.owners.intern_all(jobs().map(|job| job.owner.as_str()));
        let namespace = dictionaries.namespaces.intern_optional(jobs().map(|job| job.namespace.as_deref()));
        let priority_class =
            dictionaries.priority_classes.intern_optional(jobs().map(|job| job.priority_class.as_deref()));
        let pair = queue.iter().zip(&job_set).map(|(&queue, &job_set)| self.active.pair(queue, job_set));
        let pair = UInt32Array::from_iter_values(pair);
        let submitted = TimestampMicrosecondArray::from_iter_values(jobs().map(|job| job.submitted.as_micros()));
        let seconds = TimestampSecondArray::from_iter_values(jobs().map(|job| job.submitted.floor_seconds()));
        let integers = |of: fn(&JobInsert) -> i64| Int64Array::from_iter_values(jobs().map(of));
        let no_code = UInt32Array::new_null(count);
        let (key_set, annotations) = self.intern_annotations(
            jobs().map(|job| job.annotations.iter().map(|(key, value)| (key.as_str(), value.as_str()))),
        );
        let rows = JobRows {
            job_id: JobId::column(new.iter().map(|&(id, _)| id))?,
            queue: queue.into(),
            job_set: job_set.into(),
            owner: owner.into(),
            namespace: namespace.into(),
            priority_class: priority_class.into(),
            cpu: integers(|job| job.cpu),
            memory: integers(|job| job.memory),
            ephemeral_storage: integers(|job| job.ephemeral_storage),
            gpu: integers(|job| job.gpu),
            priority: integers(|job| job.priority),
            cancelled: TimestampMicrosecondArray::new_null(count),
            state: UInt8Array::from_value(JobState::Queued.ordinal(), count),
            last_transition_time: submitted.clone(),
            submitted,
            latest_run: no_code.clone(),
            cancel_reason: no_code.clone(),
            cancel_user: no_code.clone(),
            cluster: no_code.clone(),
            node: no_code.clone(),
            pool: no_code.clone(),
            pair,
            last_transition_seconds: seconds,
            last_run: no_code,
            key_set: key_set.into(),
        };
        self.append_jobs(&rows, annotations);
        Ok(())
    }

    /// The key set of each job, and the values of each key. The annotations of a job are in the order of their keys.
    pub(super) fn intern_annotations<'a, A: Iterator<Item = (&'a str, &'a str)> + Clone>(
        &mut self,
        jobs: impl Iterator<Item = A>,
    ) -> (Vec<u32>, NewAnnotations) {
        fn keys<'a>(annotations: impl Iterator<Item = (&'a str, &'a str)>) -> impl Iterator<Item = &'a str> {
            annotations.map(|(key, _)| key)
        }
        let mut key_sets = Vec::new();
        let mut texts: BTreeMap<u32, Vec<(u32, &'a str)>> = BTreeMap::new();
        let mut previous: Option<(A, KeySet)> = None;
        for (row, annotations) in (0..).zip(jobs) {
            // Consecutive jobs usually have the same keys.
            let same = previous.take().filter(|(before, _)| keys(before.clone()).eq(keys(annotations.clone())));
            let key_set = same.map_or_else(|| self.key_set(keys(annotations.clone())), |(_, key_set)| key_set);
            for (&key, (_, value)) in key_set.keys.iter().zip(annotations.clone()) {
                texts.entry(key).or_default().push((row, value));
            }
            key_sets.push(key_set.code);
            previous = Some((annotations, key_set));
        }
        let catalog = &mut self.dictionaries.annotations;
        let values = texts.into_iter().map(|(key, texts)| {
            let codes: Vec<u32> = catalog.values_mut(key).intern_all(texts.iter().map(|&(_, text)| text));
            (key, texts.iter().map(|&(row, _)| row).zip(codes).collect())
        });
        (key_sets, values.collect())
    }

    fn key_set<'a>(&mut self, keys: impl Iterator<Item = &'a str>) -> KeySet {
        let catalog = &mut self.dictionaries.annotations;
        let keys: Arc<[u32]> = keys.map(|key| catalog.keys.intern(key)).collect();
        let code = *self.key_sets.entry(Arc::clone(&keys)).or_insert_with(|| catalog.add_key_set(Arc::clone(&keys)));
        KeySet { keys, code }
    }

    /// Appends rows of new jobs and indexes them.
    pub(super) fn append_jobs(&mut self, rows: &JobRows, annotations: NewAnnotations) {
        let first = self.jobs.len() as u32;
        self.post_job_rows(first, rows);
        self.jobs.append(rows, |writer, at| writer.extend_zones(at));
        self.append_annotations(first, rows.key_set.values(), annotations);
        for chunk in locate(first).0..=locate(self.jobs.len() as u32 - 1).0 {
            let writer = self.jobs.writer(chunk);
            self.indexes.zones.set(chunk, writer);
            if writer.len() == CHUNK_ROWS {
                writer.annotations.shrink();
            }
        }
        self.post_priorities();
        for (at, row) in (0..rows.job_id.len()).zip(first..) {
            let id = JobId::at(rows.job_id.value_data(), at);
            if let Some(last) = self.orphans.remove(&id) {
                self.adopt(row, last);
            }
            self.indexes.job_ids.insert(&id, row);
        }
    }

    fn post_job_rows(&mut self, first: u32, rows: &JobRows) {
        let (dictionaries, indexes) = (&self.dictionaries, &mut self.indexes);
        dictionaries.queues.post_column(&rows.queue, first);
        dictionaries.job_sets.post_column(&rows.job_set, first);
        dictionaries.owners.post_column(&rows.owner, first);
        dictionaries.namespaces.post_column(&rows.namespace, first);
        dictionaries.priority_classes.post_column(&rows.priority_class, first);
        let pairs = rows.pair.values().iter().zip(first..).zip(rows.state.values());
        let pairs = pairs.map(|((&pair, row), &state)| (pair, row, job_state(state).is_active()));
        self.active.add(pairs, &mut indexes.active_job_sets);
        for (row, &state) in (first..).zip(rows.state.values()) {
            self.state_changes.enter(state.into(), row);
        }
        indexes.recent_transitions.append(rows.last_transition_seconds.values().iter().copied().zip(first..));
        let of_latest_run = [&rows.cluster, &rows.node, &rows.pool].into_iter().zip(&mut self.latest_runs.changes);
        for (codes, changes) in of_latest_run.filter(|(codes, _)| codes.null_count() < codes.len()) {
            for (row, code) in (first..).zip(codes) {
                if let Some(code) = code {
                    changes.enter(code, row);
                }
            }
        }
    }

    fn append_annotations(&mut self, first: u32, key_sets: &[u32], annotations: NewAnnotations) {
        let catalog = &self.dictionaries.annotations;
        let mut starts = Vec::with_capacity(key_sets.len());
        let mut count = 0;
        for &key_set in key_sets {
            starts.push(count);
            count += catalog.key_set(key_set).len();
        }
        let mut codes = vec![0; count];
        for (key, values) in annotations {
            catalog.keys.post(values.iter().map(|&(at, _)| (key, first + at)));
            catalog.values(key).post(values.iter().map(|&(at, code)| (code, first + at)));
            let mut index = catalog.index_in(key);
            for (at, code) in values {
                if let Some(index) = index(key_sets[at as usize]) {
                    codes[starts[at as usize] + index] = code;
                }
            }
        }
        let ends = starts.iter().skip(1).copied().chain([count]);
        for (row, (&start, end)) in (first..).zip(starts.iter().zip(ends)) {
            let (chunk, _) = self.jobs.locate(row);
            chunk.annotations.push(&codes[start..end]);
        }
    }

    /// Updates the jobs that exist.
    pub(super) fn update_jobs(&mut self, updates: &[JobUpdate]) {
        let rows = self.job_rows(updates.iter().map(|update| JobId::new(&update.job_id)));
        let new_run = |(update, row): (&JobUpdate, &Option<u32>)| {
            let id = RunId::new(update.if_active.latest_run_id.as_ref()?)?;
            // Most updates repeat the latest run. Reading its id costs less than looking it up. A batch has at most one
            // update of a job, so no other update can change it first.
            (!self.has_latest_run((*row)?, &id)).then_some(id)
        };
        let run_ids: Vec<Option<RunId>> = updates.iter().zip(&rows).map(new_run).collect();
        let runs = self.run_rows(run_ids.iter().copied());
        let runs = run_ids.into_iter().zip(runs);
        let mut transitions = Vec::with_capacity(updates.len());
        for ((update, row), run) in updates.iter().zip(rows).zip(runs) {
            let Some(row) = row else { continue };
            let state = self.jobs.state(row);
            let transition = match update.effect_on(state) {
                JobEffect::None => None,
                JobEffect::Patch(patch) => {
                    if let (Some(id), run) = run {
                        self.set_latest_run(row, id, run);
                    }
                    self.patch_job(row, patch);
                    patch.transition
                }
                JobEffect::Preempt(time) => Some((JobState::Preempted, time)),
            };
            if let Some((to, time)) = transition {
                self.transition(row, state, to, time);
                transitions.push((time.floor_seconds(), row));
            }
        }
        self.indexes.recent_transitions.append(transitions.into_iter());
    }

    /// Sets the columns of a patch, except for the latest run and the state.
    fn patch_job(&mut self, row: u32, patch: &JobPatch) {
        if let Some(priority) = patch.priority {
            self.set_priority(row, priority);
        }
        if let Some(cancellation) = &patch.cancellation {
            let dictionaries = &mut self.dictionaries;
            let reason = cancellation.reason.as_deref().map(|text| dictionaries.cancel_reasons.intern(text));
            let user = cancellation.user.as_deref().map(|text| dictionaries.cancel_users.intern(text));
            let (jobs, at) = self.jobs.locate(row);
            jobs.cancelled.set(at, cancellation.time.as_micros());
            jobs.cancel_reason.set_optional(at, reason);
            jobs.cancel_user.set_optional(at, user);
        }
    }

    fn transition(&mut self, row: u32, from: JobState, to: JobState, time: Timestamp) {
        let (chunk, at) = locate(row);
        let jobs = self.jobs.writer(chunk);
        let indexes = &mut self.indexes;
        jobs.set_last_transition(at, time);
        indexes.zones.set_last_transition(chunk, jobs);
        if from != to {
            jobs.state.set(at, to.ordinal());
            self.state_changes.leave(from.ordinal().into(), row);
            self.state_changes.enter(to.ordinal().into(), row);
        }
        if from.is_active() && to.is_terminal() {
            self.active.end(jobs.pair.get(at), &mut indexes.active_job_sets);
        }
    }
}
