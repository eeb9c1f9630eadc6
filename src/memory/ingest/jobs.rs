//! Inserts and updates of jobs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Store;
use crate::ingest::{JobInsert, JobPatch, JobUpdate};
use crate::memory::storage::{CHUNK_ROWS, Dictionary, JobId, JobRows, LatestRun, NONE, NULL, locate};
use crate::model::JobState;
use crate::time::Timestamp;

/// Annotation values of new rows: for each key, the rows (counted from the first new one,
/// ascending) and their value codes.
pub(super) type NewAnnotations = Vec<(u32, Vec<(u32, u32)>)>;

/// The annotation keys of a job, and the code of that set of keys.
struct Shape {
    keys: Arc<[u32]>,
    code: u32,
}

impl Store {
    /// Inserts the jobs whose ids are new, column by column: that is several times as fast as
    /// row by row, and takes each dictionary's lock once.
    pub(super) fn insert_jobs(&mut self, jobs: &[JobInsert]) {
        let ids = || jobs.iter().map(|job| JobId::new(&job.job_id));
        let known = self.tables.job_rows(ids());
        let new = ids().zip(jobs).zip(known).filter(|(_, known)| known.is_none());
        let new: Vec<(JobId, &JobInsert)> = new.filter_map(|((id, job), _)| Some((id?, job))).collect();
        if new.is_empty() {
            return;
        }
        let jobs = || new.iter().map(|&(_, job)| job);
        let count = new.len();
        let tables = &mut self.tables;
        let queue = tables.queues.intern_all(jobs().map(|job| Some(job.queue.as_str())));
        let job_set = tables.job_sets.intern_all(jobs().map(|job| Some(job.job_set.as_str())));
        let pair = queue.iter().zip(&job_set).map(|(&queue, &job_set)| self.active.pair(queue, job_set)).collect();
        let submitted: Vec<i64> = jobs().map(|job| job.submitted.as_micros()).collect();
        let owner = tables.owners.intern_all(jobs().map(|job| Some(job.owner.as_str())));
        let namespace = tables.namespaces.intern_all(jobs().map(|job| job.namespace.as_deref()));
        let priority_class = tables.priority_classes.intern_all(jobs().map(|job| job.priority_class.as_deref()));
        let (shape, annotations) = self.intern_annotations(jobs().map(|job| &job.annotations));
        let rows = JobRows {
            ids: new.iter().map(|&(id, _)| id).collect(),
            queue,
            job_set,
            pair,
            owner,
            namespace,
            priority_class,
            cpu: jobs().map(|job| job.cpu).collect(),
            memory: jobs().map(|job| job.memory).collect(),
            ephemeral_storage: jobs().map(|job| job.ephemeral_storage).collect(),
            gpu: jobs().map(|job| job.gpu).collect(),
            priority: jobs().map(|job| job.priority).collect(),
            cancelled: vec![NULL; count],
            cancel_reason: vec![NONE; count],
            cancel_user: vec![NONE; count],
            state: vec![JobState::Queued.ordinal(); count],
            last_transition: submitted.clone(),
            last_transition_seconds: jobs().map(|job| job.submitted.floor_seconds()).collect(),
            submitted,
            latest_run: vec![LatestRun::None.pack(); count],
            cluster: vec![NONE; count],
            node: vec![NONE; count],
            pool: vec![NONE; count],
            last_run: vec![NONE; count],
            shape,
        };
        self.append_jobs(rows, annotations);
    }

    /// The shape and the values of each job's annotations.
    fn intern_annotations<'a>(
        &mut self,
        jobs: impl Iterator<Item = &'a BTreeMap<String, String>>,
    ) -> (Vec<u32>, NewAnnotations) {
        let mut shapes = Vec::new();
        let mut texts: BTreeMap<u32, Vec<(u32, &'a str)>> = BTreeMap::new();
        let mut previous: Option<(&BTreeMap<String, String>, Shape)> = None;
        for (row, annotations) in (0..).zip(jobs) {
            // Jobs of a job set mostly have the same keys, and then need no look-up of them.
            let same = previous.take().filter(|(before, _)| before.keys().eq(annotations.keys()));
            let shape = same.map_or_else(|| self.shape(annotations), |(_, shape)| shape);
            for (&key, value) in shape.keys.iter().zip(annotations.values()) {
                texts.entry(key).or_default().push((row, value));
            }
            shapes.push(shape.code);
            previous = Some((annotations, shape));
        }
        let catalog = &mut self.tables.annotations;
        let values = texts.into_iter().map(|(key, texts)| {
            let codes = catalog.values_mut(key).intern_all(texts.iter().map(|&(_, text)| Some(text)));
            (key, texts.iter().map(|&(row, _)| row).zip(codes).collect())
        });
        (shapes, values.collect())
    }

    fn shape(&mut self, annotations: &BTreeMap<String, String>) -> Shape {
        let catalog = &mut self.tables.annotations;
        let keys: Arc<[u32]> = annotations.keys().map(|key| catalog.keys.intern(key)).collect();
        let code = *self.shapes.entry(Arc::clone(&keys)).or_insert_with(|| catalog.add_shape(Arc::clone(&keys)));
        Shape { keys, code }
    }

    /// Appends rows of jobs whose ids are new, and enters them into every index.
    pub(super) fn append_jobs(&mut self, rows: JobRows, annotations: NewAnnotations) {
        let first = self.tables.jobs.len() as u32;
        self.post_job_rows(first, &rows);
        let ids = rows.ids.clone();
        let last_chunk_before = self.tables.jobs.chunks().len();
        self.tables.append_jobs(rows);
        self.append_annotations(first, annotations, last_chunk_before);
        self.post_priorities();
        for (row, id) in (first..).zip(&ids) {
            if self.orphans.is_empty() {
                break;
            }
            let Some((last_run, runs)) = self.orphans.remove(id).map(|last| (last, self.run_chain(last))) else {
                continue;
            };
            self.adopt(row, last_run, &runs);
        }
        for (row, id) in (first..).zip(&ids) {
            self.tables.job_index.insert(id, row, |row| self.tables.jobs.id(row));
        }
    }

    fn post_job_rows(&mut self, first: u32, rows: &JobRows) {
        let tables = &mut self.tables;
        let post = |dictionary: &Dictionary, codes: &[u32]| dictionary.post(codes.iter().copied().zip(first..));
        post(&tables.queues, &rows.queue);
        post(&tables.job_sets, &rows.job_set);
        post(&tables.owners, &rows.owner);
        post(&tables.namespaces, &rows.namespace);
        post(&tables.priority_classes, &rows.priority_class);
        let states = || rows.state.iter().map(|&ordinal| JobState::from_ordinal(ordinal).unwrap_or(JobState::Queued));
        let pairs = rows.pair.iter().zip(first..).zip(states());
        let pairs = pairs.map(|((&pair, row), state)| (pair, row, state.is_active()));
        self.active.add(pairs, &mut tables.active_job_sets);
        for ((at, row), state) in (0..rows.ids.len()).zip(first..).zip(states()) {
            tables.states.insert(state, row);
            tables.latest_clusters.insert(rows.cluster[at], row);
            tables.latest_nodes.insert(rows.node[at], row);
            tables.latest_pools.insert(rows.pool[at], row);
        }
    }

    /// Lists the priorities of chunks that are full now.
    fn post_priorities(&mut self) {
        let tables = &self.tables;
        let listed = locate(tables.priorities.len() as u32).0;
        for chunk in tables.jobs.chunks()[listed..].iter().filter(|chunk| chunk.len() == CHUNK_ROWS) {
            tables.priorities.post(chunk.priority.as_slice());
        }
    }

    fn append_annotations(&mut self, first: u32, annotations: NewAnnotations, chunks_before: usize) {
        let tables = &mut self.tables;
        for (key, values) in annotations {
            tables.annotations.keys.post(values.iter().map(|&(at, _)| (key, first + at)));
            tables.annotations.values(key).post(values.iter().map(|&(at, code)| (code, first + at)));
            for part in values.chunk_by(|&(a, _), &(b, _)| locate(first + a).0 == locate(first + b).0) {
                let (chunk, _) = tables.jobs.locate_mut(first + part[0].0);
                chunk.annotations.extend(key, part.iter().map(|&(at, code)| (locate(first + at).1, code)));
            }
        }
        for chunk in chunks_before.saturating_sub(1)..tables.jobs.chunks().len() {
            if tables.jobs.chunks()[chunk].len() == CHUNK_ROWS {
                let (chunk, _) = tables.jobs.locate_mut((chunk * CHUNK_ROWS) as u32);
                chunk.annotations.seal();
            }
        }
    }

    /// Applies updates to those of the jobs that exist.
    pub(super) fn update_jobs(&mut self, updates: &[JobUpdate]) {
        let rows = self.tables.job_rows(updates.iter().map(|update| JobId::new(&update.job_id)));
        for (update, row) in updates.iter().zip(rows) {
            if let Some(row) = row {
                self.update_job(row, update);
            }
        }
    }

    /// Applies to a job that of the update's cases that its state calls for.
    fn update_job(&mut self, row: u32, update: &JobUpdate) {
        let state = self.tables.state(row);
        if state.is_active() {
            self.patch_job(row, state, &update.if_active);
        } else if let Some(time) = update.preempted.filter(|_| state.is_preemptible_end()) {
            self.transition(row, state, JobState::Preempted, time);
        }
    }

    fn patch_job(&mut self, row: u32, state: JobState, patch: &JobPatch) {
        if let Some(priority) = patch.priority {
            self.set_priority(row, priority);
        }
        if let Some(run_id) = &patch.latest_run_id {
            self.set_latest_run(row, run_id);
        }
        if let Some(cancellation) = &patch.cancellation {
            let reason = cancellation.reason.as_deref().map_or(NONE, |text| self.tables.cancel_reasons.intern(text));
            let user = cancellation.user.as_deref().map_or(NONE, |text| self.tables.cancel_users.intern(text));
            let (chunk, at) = self.tables.jobs.locate_mut(row);
            chunk.cancelled.set(at, cancellation.time.as_micros());
            chunk.cancel_reason.set(at, reason);
            chunk.cancel_user.set(at, user);
        }
        if let Some((to, time)) = patch.transition {
            self.transition(row, state, to, time);
        }
    }

    fn set_priority(&mut self, row: u32, priority: i64) {
        let (chunk, at) = self.tables.jobs.locate_mut(row);
        let before = chunk.priority.get(at);
        if before != priority {
            chunk.priority.set(at, priority);
            self.tables.priorities.change(row, before, priority);
        }
    }

    fn transition(&mut self, row: u32, from: JobState, to: JobState, time: Timestamp) {
        let tables = &mut self.tables;
        tables.set_last_transition(row, time);
        if from == to {
            return;
        }
        let (chunk, at) = tables.jobs.locate_mut(row);
        chunk.state.set(at, to.ordinal());
        let pair = chunk.pair.get(at);
        tables.states.change(row, from, to);
        if from.is_active() && to.is_terminal() {
            self.active.end(pair, &mut tables.active_job_sets);
        }
    }

    /// Bytes of what only the writer needs.
    pub(in crate::memory) fn writer_bytes(&self) -> usize {
        self.active.heap_bytes()
            + self.orphans.allocation_size()
            + self.followers.allocation_size()
            + self.shapes.allocation_size()
            + self.historical_values.allocation_size()
            + self.historical_values.values().map(|codes| codes.capacity() * size_of::<u32>()).sum::<usize>()
    }
}
