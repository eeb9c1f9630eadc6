//! Late requests: a request that timed out, and that the server executes after later batches, does not undo them.

use std::sync::Arc;

use super::trial;
use crate::support::jobs::{all_jobs, plain_job};
use crate::support::proxy::{Mode, Proxy};
use crate::support::server::with;
use broadside::ingest::{
    IngestionBatch, IngestionQuery, InsertJob, InsertJobError, InsertJobRun, NewJob, SetJobRunFailed, SetJobRunPending,
    SetJobRunning, SetJobSucceeded, UpdateJobPriority,
};
use broadside::query::{Annotation, IntegerField};
use broadside::{
    CLICKHOUSE_URL_VARIABLE, Database, DatabaseConfig, ErrorKind, Job, JobQuery, JobState, Outcome, RunState,
    ScratchStore, SystemClock, Timestamp,
};
use libtest_mimic::Trial;

const LAYOUTS: [&str; 2] = ["layout=replacing", "layout=patch"];

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a-late-update-of-jobs-does-not-undo-a-later-one", late_update_of_jobs),
        trial("a-late-update-of-runs-does-not-undo-a-later-one", late_update_of_runs),
        trial("a-late-insert-of-jobs-neither-undoes-nor-duplicates-a-later-one", late_insert_of_jobs),
        trial("a-late-insert-of-runs-neither-undoes-nor-duplicates-a-later-one", late_insert_of_runs),
        trial("a-late-insert-of-an-error-does-not-replace-the-first", late_insert_of_an_error),
        trial("a-late-batch-may-be-repeated-before-it-is-executed", late_and_repeated),
        trial("a-late-batch-without-a-later-one-takes-effect", late_alone),
    ]
}

/// A store with two handles: one through a proxy that can hold inserts, and a direct one.
struct Late {
    proxy: Proxy,
    held: ScratchStore,
    direct: Arc<dyn Database>,
    landed: usize,
}

impl Late {
    async fn new(layout: &str) -> Self {
        let address = with(&std::env::var(CLICKHOUSE_URL_VARIABLE).unwrap(), layout);
        let proxy = Proxy::start(&address).await;
        let config: DatabaseConfig = with(proxy.address(), "timeout=1").parse().unwrap();
        let held = config.create_scratch(Arc::new(SystemClock)).await.unwrap();
        held.database().initialise_schema().await.unwrap();
        let direct = address.replace("/?", &format!("/{}?", held.name().unwrap()));
        let direct = direct.parse::<DatabaseConfig>().unwrap().connect(Arc::new(SystemClock)).await.unwrap();
        Self { proxy, held, direct, landed: 0 }
    }

    async fn execute(&self, queries: impl IntoIterator<Item = IngestionQuery>) {
        self.direct.execute_ingestion_query_batch(&batch(queries)).await.unwrap();
    }

    /// Executes a batch whose first insert or update is held until the call has timed out.
    async fn give_up(&self, queries: impl IntoIterator<Item = IngestionQuery>) {
        self.proxy.set(Mode::HoldInserts);
        let error = self.held.database().execute_ingestion_query_batch(&batch(queries)).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::Unknown), "{error:?}");
    }

    /// Releases the held request, and waits until the server has executed it.
    async fn land(&mut self) {
        self.proxy.set(Mode::Open);
        self.landed += 1;
        self.proxy.landed(self.landed).await;
    }

    async fn job(&self) -> Job {
        let mut jobs = all_jobs(&*self.direct).await;
        assert_eq!(jobs.len(), 1, "{jobs:?}");
        jobs.remove(0)
    }

    async fn remove(self) {
        self.held.remove().await.unwrap();
    }
}

fn batch(queries: impl IntoIterator<Item = IngestionQuery>) -> IngestionBatch {
    IngestionBatch::new(queries).unwrap()
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn new_job(priority: i64) -> IngestionQuery {
    let annotations = [("priority".to_owned(), priority.to_string()), (format!("{priority}"), String::new())].into();
    InsertJob { job: NewJob { priority, annotations, ..plain_job("job", "set") }, job_spec: None }.into()
}

fn new_run(cluster: &str) -> IngestionQuery {
    let (job_run_id, job_id, cluster) = ("run".to_owned(), "job".to_owned(), cluster.to_owned());
    InsertJobRun { job_run_id, job_id, cluster, node: None, pool: None, time: time(1), submitted: None }.into()
}

fn running() -> IngestionQuery {
    let (job_id, latest_run_id) = ("job".to_owned(), "run".to_owned());
    SetJobRunning { job_id, time: time(2), latest_run_id, submitted: None }.into()
}

fn succeeded() -> IngestionQuery {
    SetJobSucceeded { job_id: "job".to_owned(), time: time(3), submitted: None }.into()
}

fn run_pending() -> IngestionQuery {
    SetJobRunPending { job_run_id: "run".to_owned(), time: time(2), submitted: None }.into()
}

fn run_failed() -> IngestionQuery {
    let (job_run_id, error) = ("run".to_owned(), Some(b"error".to_vec().into()));
    SetJobRunFailed { job_run_id, time: time(3), error, debug: None, exit_code: 1, submitted: None }.into()
}

fn error(text: &str) -> IngestionQuery {
    InsertJobError { job_id: "job".to_owned(), error: Some(text.as_bytes().to_vec().into()), submitted: None }.into()
}

async fn late_update_of_jobs() {
    for layout in LAYOUTS {
        let mut store = Late::new(layout).await;
        store.execute([new_job(1)]).await;
        store.give_up([running()]).await;
        store.execute([succeeded()]).await;
        store.land().await;
        let job = store.job().await;
        assert_eq!((job.state, job.last_transition_time), (JobState::Succeeded, time(3)), "{layout}: {job:?}");
        store.remove().await;
    }
}

async fn late_update_of_runs() {
    for layout in LAYOUTS {
        let mut store = Late::new(layout).await;
        store.execute([new_job(1), new_run("c")]).await;
        store.give_up([run_pending()]).await;
        store.execute([run_failed()]).await;
        store.land().await;
        let job = store.job().await;
        assert_eq!(job.runs[0].job_run_state, RunState::Failed, "{layout}: {job:?}");
        assert_eq!(store.direct.get_job_run_error("run").await.unwrap(), "error", "{layout}");
        store.remove().await;
    }
}

async fn late_insert_of_jobs() {
    for layout in LAYOUTS {
        let mut store = Late::new(layout).await;
        store.give_up([new_job(1)]).await;
        store.execute([new_job(2), succeeded()]).await;
        store.land().await;
        let job = store.job().await;
        assert_eq!((job.state, job.priority), (JobState::Succeeded, 2), "{layout}: {job:?}");
        // No filter finds the older version, whose annotations differ.
        for (priority, jobs) in [(1, 0), (2, 1)] {
            for filter in [
                Annotation("priority").equals(priority.to_string()),
                Annotation("priority").starts_with(priority.to_string()),
                Annotation(priority.to_string()).exists(),
                IntegerField::Priority.equals(priority),
            ] {
                let found = store.direct.get_jobs(&JobQuery::new().filter(filter.clone())).await.unwrap();
                assert_eq!(found.len(), jobs, "{layout}, {filter:?}: {found:?}");
            }
        }
        store.remove().await;
    }
}

async fn late_insert_of_runs() {
    for layout in LAYOUTS {
        let mut store = Late::new(layout).await;
        store.execute([new_job(1)]).await;
        store.give_up([new_run("first")]).await;
        store.execute([new_run("second"), run_failed()]).await;
        store.land().await;
        let job = store.job().await;
        let runs: Vec<_> = job.runs.iter().map(|run| (run.cluster.as_str(), run.job_run_state)).collect();
        assert_eq!(runs, [("second", RunState::Failed)], "{layout}: {job:?}");
        store.remove().await;
    }
}

async fn late_insert_of_an_error() {
    for layout in LAYOUTS {
        let mut store = Late::new(layout).await;
        store.execute([new_job(1)]).await;
        store.give_up([error("first")]).await;
        store.execute([error("second")]).await;
        assert_eq!(store.direct.get_job_error("job").await.unwrap(), "second", "{layout}");
        store.land().await;
        assert_eq!(store.direct.get_job_error("job").await.unwrap(), "second", "{layout}");
        store.remove().await;
    }
}

async fn late_and_repeated() {
    for layout in LAYOUTS {
        let mut store = Late::new(layout).await;
        store.give_up([new_job(1), running()]).await;
        store.execute([new_job(1), running()]).await;
        store.execute([succeeded()]).await;
        store.land().await;
        let job = store.job().await;
        assert_eq!(job.state, JobState::Succeeded, "{layout}: {job:?}");
        // The late request does not affect later batches either.
        let update = UpdateJobPriority { job_id: "job".to_owned(), priority: 9, submitted: None };
        store.execute([update.into()]).await;
        assert_eq!(store.job().await.priority, 1, "{layout}");
        store.remove().await;
    }
}

async fn late_alone() {
    for layout in LAYOUTS {
        let mut store = Late::new(layout).await;
        store.execute([new_job(1)]).await;
        store.give_up([running()]).await;
        assert_eq!(store.job().await.state, JobState::Queued, "{layout}");
        store.land().await;
        assert_eq!(store.job().await.state, JobState::Running, "{layout}");
        store.execute([succeeded()]).await;
        assert_eq!(store.job().await.state, JobState::Succeeded, "{layout}");
        store.remove().await;
    }
}
