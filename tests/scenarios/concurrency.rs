//! Tests of concurrent writers and readers: batches are atomic, also after a call is dropped.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::backends::{Backend, TestStore};
use crate::support::harness::{TestStoreRef, Verdict, trial};
use crate::support::jobs::plain_job;
use broadside::ingest::{
    IngestionBatch, IngestionQuery, InsertJob, InsertJobRun, NewJob, SetJobCancelled, SetJobErrored, SetJobPending,
    SetJobRunning, SetJobSucceeded, UpdateJobPriority,
};
use broadside::query::{Direction, GroupField, JobOrderKey, TextField, TimeAggregate};
use broadside::{Database, GroupQuery, Job, JobGroup, JobQuery, JobState, Result, Timestamp};
use libtest_mimic::Trial;

/// The number of jobs in a batch.
const JOBS: usize = 40;

pub fn trials() -> Vec<Trial> {
    let backends = [Backend::MODEL].into_iter().chain(Backend::ALL);
    backends.flat_map(on_backend).collect()
}

fn on_backend(backend: Backend) -> [Trial; 5] {
    let generations = if backend.is_server() { 6 } else { 24 };
    [
        trial(backend, "reads-see-complete-batches", move |store| reads_see_complete_batches(store, generations)),
        trial(backend, "each-handle-reads-completed-writes", move |store| read_your_writes(store, generations)),
        trial(backend, "dropped-calls-are-atomic", move |store| dropped_calls(store, generations)),
        trial(backend, "concurrent-writers-end-a-job-once", move |store| concurrent_ends(store, generations)),
        trial(backend, "concurrent-writers-insert-a-job-once", move |store| concurrent_inserts(store, generations)),
    ]
}

/// A set of jobs with the same transitions, one batch per state.
struct Generation {
    queue: String,
    job_set: String,
}

impl Generation {
    fn new(writer: usize, number: usize) -> Self {
        Self { queue: format!("writer-{writer}"), job_set: format!("{writer}-{number:03}") }
    }

    fn ids(&self) -> impl Iterator<Item = String> {
        (0..JOBS).map(|job| format!("{}-{job:02}", self.job_set))
    }

    /// The batches of the transitions from QUEUED to SUCCEEDED. The priority is the number of the batch.
    fn batches(&self) -> [Vec<IngestionQuery>; 4] {
        let time = |second| Timestamp::from_seconds(second);
        let run_id = |job_id: &str| format!("{job_id}-r");
        let with_priority = |priority: i64, transition: &dyn Fn(String) -> IngestionQuery| {
            let update = |job_id: String| UpdateJobPriority { job_id, priority, submitted: None }.into();
            self.ids().flat_map(|id| [update(id.clone()), transition(id)]).collect()
        };
        let insert = self.ids().flat_map(|id| [self.insert_job(&id), self.insert_run(run_id(&id), &id)]);
        let pending =
            |job_id: String| SetJobPending { run_id: run_id(&job_id), job_id, time: time(1), submitted: None }.into();
        let running = |job_id: String| {
            SetJobRunning { latest_run_id: run_id(&job_id), job_id, time: time(2), submitted: None }.into()
        };
        let succeeded = |job_id| SetJobSucceeded { job_id, time: time(3), submitted: None }.into();
        [insert.collect(), with_priority(1, &pending), with_priority(2, &running), with_priority(3, &succeeded)]
    }

    fn insert_job(&self, job_id: &str) -> IngestionQuery {
        let annotations = [("set".to_owned(), self.job_set.clone())].into();
        let job = NewJob { queue: self.queue.clone(), annotations, ..plain_job(job_id, &self.job_set) };
        InsertJob { job, job_spec: None }.into()
    }

    fn insert_run(&self, job_run_id: String, job_id: &str) -> IngestionQuery {
        InsertJobRun {
            job_run_id,
            job_id: job_id.to_owned(),
            cluster: self.queue.clone(),
            node: None,
            pool: None,
            time: Timestamp::from_seconds(0),
            submitted: None,
        }
        .into()
    }

    async fn jobs(&self, database: &dyn Database) -> Result<Vec<Job>> {
        database.get_jobs(&JobQuery::new().filter(TextField::JobSet.equals(&self.job_set))).await
    }
}

async fn execute(database: &dyn Database, queries: Vec<IngestionQuery>) -> Result<()> {
    database.execute_ingestion_query_batch(&IngestionBatch::new(queries)?).await
}

/// Checks that either all jobs of a generation are present, in the same state, or none.
fn check_complete(jobs: &[Job]) -> Verdict {
    let Some(first) = jobs.first() else { return Ok(()) };
    let what = |job: &Job| (job.state, job.priority, job.last_transition_time);
    let state = match first.priority {
        0 => JobState::Queued,
        1 => JobState::Pending,
        2 => JobState::Running,
        _ => JobState::Succeeded,
    };
    let expected = (state, first.priority, Timestamp::from_seconds(first.priority));
    match jobs.iter().find(|job| what(job) != expected) {
        Some(job) => Err(format!("{} is {:?}, but {} is {expected:?}", job.job_id, what(job), first.job_id)),
        None if jobs.len() != JOBS => Err(format!("{} of the {JOBS} jobs of {}", jobs.len(), first.job_set)),
        None => Ok(()),
    }
}

async fn reads_see_complete_batches(store: TestStoreRef, generations: usize) -> Verdict {
    prepare(&store).await?;
    let done = Arc::new(AtomicBool::new(false));
    let writers = (0..2).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move { write(&store, writer, generations).await })
    });
    let writers: Vec<_> = writers.collect();
    let readers = (0..3).map(|reader| {
        let (store, done) = (store.clone(), done.clone());
        tokio::spawn(async move { read(&store, reader, &done).await })
    });
    let readers: Vec<_> = readers.collect();
    let written = all(writers).await;
    done.store(true, Ordering::Release);
    written.and(all(readers).await)
}

async fn all(tasks: Vec<tokio::task::JoinHandle<Verdict>>) -> Verdict {
    let mut verdict = Ok(());
    for task in tasks {
        verdict = verdict.and(task.await.map_err(|panic| panic.to_string())?);
    }
    verdict
}

async fn prepare(store: &TestStore) -> Verdict {
    store.clock.set(Timestamp::from_seconds(10));
    store.database.initialise_schema().await.map_err(|error| error.to_string())
}

async fn write(store: &TestStore, writer: usize, generations: usize) -> Verdict {
    let database = store.another_handle().await.map_err(|error| error.to_string())?;
    for number in 0..generations {
        for queries in Generation::new(writer, number).batches() {
            execute(&*database, queries).await.map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

/// Executes different reads in turn until the writers are done, and once more.
async fn read(store: &TestStore, reader: usize, done: &AtomicBool) -> Verdict {
    let database = store.another_handle().await.map_err(|error| error.to_string())?;
    for round in reader.. {
        let last = done.load(Ordering::Acquire);
        match round % 4 {
            0 => check_jobs(&*database, false).await?,
            1 => check_jobs(&*database, true).await?,
            2 => check_groups(&*database, GroupQuery::by(GroupField::JobSet)).await?,
            _ => check_groups(&*database, GroupQuery::by_annotation("set")).await?,
        }
        check_state_counts(&*database).await?;
        if last {
            break;
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Checks that the jobs of each job set are in the same state, and active if the read selects active job sets.
async fn check_jobs(database: &dyn Database, active_job_sets: bool) -> Verdict {
    let all = JobQuery::new();
    let query = if active_job_sets { all.in_active_job_sets() } else { all };
    let mut jobs = database.get_jobs(&query).await.map_err(|error| error.to_string())?;
    if let Some(job) = jobs.iter().find(|job| active_job_sets && !job.state.is_active()) {
        return Err(format!("{} is {} in an active job set", job.job_id, job.state));
    }
    jobs.sort_by(|a, b| a.job_set.cmp(&b.job_set));
    jobs.chunk_by(|a, b| a.job_set == b.job_set).try_for_each(check_complete)
}

/// Checks that each group is a complete generation in one state.
async fn check_groups(database: &dyn Database, query: GroupQuery) -> Verdict {
    let query = query.count_states().last_transition_time(TimeAggregate::Average);
    for (active_job_sets, query) in [(false, query.clone()), (true, query.in_active_job_sets())] {
        for group in groups(database, query).await? {
            let states = group.aggregates.state.as_ref().ok_or("no counts of states")?;
            let of_all = states.iter().find(|&(_, count)| count == group.count);
            match of_all {
                Some((state, count)) if count == JOBS as u64 && (state.is_active() || !active_job_sets) => {}
                _ => return Err(format!("with active job sets {active_job_sets}: {group:?}")),
            }
        }
    }
    Ok(())
}

/// Checks that a group by state counts only its state, and that the total is a multiple of a generation.
async fn check_state_counts(database: &dyn Database) -> Verdict {
    let groups = groups(database, GroupQuery::by(GroupField::State).count_states()).await?;
    for group in &groups {
        let states = group.aggregates.state.as_ref().ok_or("no counts of states")?;
        if states.iter().any(|(state, count)| count != if state.name() == group.name { group.count } else { 0 }) {
            return Err(format!("counts of a group by state: {group:?}"));
        }
    }
    let total: u64 = groups.iter().map(|group| group.count).sum();
    if total.is_multiple_of(JOBS as u64) {
        Ok(())
    } else {
        Err(format!("{total} jobs are not a multiple of {JOBS}: {groups:?}"))
    }
}

async fn groups(database: &dyn Database, query: GroupQuery) -> Result<Vec<JobGroup>, String> {
    database.get_job_groups(&query).await.map_err(|error| error.to_string())
}

/// A handle reads the completed writes of another handle, with concurrent writers.
async fn read_your_writes(store: TestStoreRef, generations: usize) -> Verdict {
    prepare(&store).await?;
    let tasks = (0..4).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let handles = [store.another_handle().await, store.another_handle().await];
            let [one, other] = handles.map(|handle| handle.map_err(|error| error.to_string()));
            let (one, other) = (one?, other?);
            for number in 0..generations {
                let generation = Generation::new(writer, number);
                for (priority, queries) in (0..).zip(generation.batches()) {
                    execute(&*one, queries).await.map_err(|error| error.to_string())?;
                    let jobs = generation.jobs(&*other).await.map_err(|error| error.to_string())?;
                    check_complete(&jobs)?;
                    if jobs.first().is_none_or(|job| job.priority != priority || job.runs.len() != 1) {
                        return Err(format!("batch {priority} of {} is not seen", generation.job_set));
                    }
                }
            }
            Ok(())
        })
    });
    all(tasks.collect()).await
}

/// Concurrent writers end the same jobs with different states. All fields of a job are from the same writer.
async fn concurrent_ends(store: TestStoreRef, rounds: usize) -> Verdict {
    prepare(&store).await?;
    for round in 0..rounds {
        let generation = Generation::new(0, round);
        let [insert, ..] = generation.batches();
        execute(&*store.database, insert).await.map_err(|error| error.to_string())?;
        let ends: [fn(String) -> IngestionQuery; 3] = [
            |job_id| SetJobSucceeded { job_id, time: Timestamp::from_seconds(1), submitted: None }.into(),
            |job_id| SetJobErrored { job_id, time: Timestamp::from_seconds(2), submitted: None }.into(),
            |job_id| {
                let (cancel_reason, cancel_user) = (Some("race".to_owned()), None);
                let time = Timestamp::from_seconds(3);
                SetJobCancelled { job_id, time, cancel_reason, cancel_user, submitted: None }.into()
            },
        ];
        let tasks = (1..).zip(ends).map(|(priority, end)| {
            let (store, ids) = (store.clone(), generation.ids().collect::<Vec<_>>());
            tokio::spawn(async move {
                let database = store.another_handle().await.map_err(|error| error.to_string())?;
                let update = |job_id: String| UpdateJobPriority { job_id, priority, submitted: None }.into();
                let queries = ids.into_iter().flat_map(|id| [update(id.clone()), end(id.clone()), update(id)]);
                execute(&*database, queries.collect()).await.map_err(|error| error.to_string())
            })
        });
        all(tasks.collect()).await?;
        for job in generation.jobs(&*store.database).await.map_err(|error| error.to_string())? {
            let expected = match job.state {
                JobState::Succeeded => (1, None),
                JobState::Failed => (2, None),
                JobState::Cancelled => (3, Some("race".into())),
                _ => return Err(format!("no writer ended {job:?}")),
            };
            let time = Timestamp::from_seconds(expected.0);
            let fits = (job.priority, job.cancel_reason.clone()) == expected && job.last_transition_time == time;
            if !fits || job.cancelled != job.cancel_reason.as_ref().map(|_| time) {
                return Err(format!("two writers updated {job:?}"));
            }
        }
    }
    Ok(())
}

/// Concurrent writers insert jobs and runs with the same ids. Each job is inserted once, with all fields from the same
/// writer.
async fn concurrent_inserts(store: TestStoreRef, rounds: usize) -> Verdict {
    prepare(&store).await?;
    for round in 0..rounds {
        let job_ids: Vec<_> = Generation::new(0, round).ids().collect();
        let tasks = (1..4).map(|writer| {
            let (store, job_ids) = (store.clone(), job_ids.clone());
            let generation = Generation::new(writer, round);
            tokio::spawn(async move {
                let database = store.another_handle().await.map_err(|error| error.to_string())?;
                let insert = |id: &String| [generation.insert_job(id), generation.insert_run(format!("{id}-r"), id)];
                execute(&*database, job_ids.iter().flat_map(insert).collect()).await.map_err(|error| error.to_string())
            })
        });
        all(tasks.collect()).await?;
        let query = JobQuery::new()
            .filter(TextField::JobId.starts_with(format!("0-{round:03}")))
            .order_by(JobOrderKey::JobId, Direction::Ascending);
        let jobs = store.database.get_jobs(&query).await.map_err(|error| error.to_string())?;
        if !jobs.iter().map(|job| &job.job_id).eq(&job_ids) {
            return Err(format!("{} jobs instead of {}: {jobs:?}", jobs.len(), job_ids.len()));
        }
        let is_consistent = |job: &Job| {
            job.annotations.get("set") == Some(&job.job_set)
                && job.job_set.starts_with(job.queue.trim_start_matches("writer-"))
                && job.runs.len() == 1
        };
        if let Some(job) = jobs.iter().find(|job| !is_consistent(job)) {
            return Err(format!("two writers inserted {job:?}"));
        }
    }
    Ok(())
}

/// A batch whose future is dropped is applied completely or not at all, and can be repeated.
async fn dropped_calls(store: TestStoreRef, generations: usize) -> Verdict {
    prepare(&store).await?;
    let database = &*store.database;
    for number in 0..generations {
        let generation = Generation::new(0, number);
        for (step, queries) in generation.batches().into_iter().enumerate() {
            drop_after(execute(database, queries.clone()), number * 4 + step).await;
            let seen = generation.jobs(database).await.map_err(|error| error.to_string())?;
            check_complete(&seen)?;
            execute(database, queries).await.map_err(|error| error.to_string())?;
            let jobs = generation.jobs(database).await.map_err(|error| error.to_string())?;
            check_complete(&jobs)?;
            if jobs.first().is_none_or(|job| job.priority != step as i64 || job.runs.len() != 1) {
                return Err(format!("batch {step} of {} is not seen after it was repeated", generation.job_set));
            }
        }
    }
    Ok(())
}

/// Drops a call after some polls and up to about 3 ms, which depend on `round`.
async fn drop_after<T>(call: impl Future<Output = T>, round: usize) {
    let mut call = std::pin::pin!(call);
    for _ in 0..=round % 8 {
        if futures::poll!(&mut call).is_ready() {
            return;
        }
        tokio::task::yield_now().await;
    }
    // The call may or may not complete in time.
    let _ = tokio::time::timeout(Duration::from_micros(round as u64 % 32 * 100), call).await;
}
