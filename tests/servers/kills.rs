//! Servers that are killed at random points during a load: no acknowledged write is lost or duplicated.
//!
//! Ignored unless `BROADSIDE_KILLS` is set to the number of kills of each kind of server.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::backends::Backend;
use crate::support::harness::server_trial;
use crate::support::jobs::plain_job;
use crate::support::server::{Server, with};
use broadside::ingest::{
    IngestionBatch, IngestionQuery, InsertJob, InsertJobRun, NewJob, SetJobRunFailed, SetJobRunStarted, SetJobRunning,
    SetJobSucceeded, UpdateJobPriority,
};
use broadside::query::{Direction, GroupField, GroupQuery, JobOrderKey, JobQuery, TextField};
use broadside::{Database, DatabaseConfig, ErrorKind, Job, JobState, RunState, SystemClock, Timestamp};
use libtest_mimic::Trial;
use tokio_postgres::NoTls;

const VARIABLE: &str = "BROADSIDE_KILLS";
/// The number of writers of a round, each with its own job sets.
const WRITERS: usize = 4;
/// The number of jobs in a batch of a writer.
const JOBS: usize = 8;
/// The upper limit of the delay before a kill.
const MAX_DELAY_MICROS: u64 = 300_000;

pub fn trials() -> Vec<Trial> {
    let kills: Option<usize> = std::env::var(VARIABLE).ok().and_then(|kills| kills.parse().ok());
    let trial = |kind: Kind, name: &'static str, parameters: &'static str| {
        let backend = match kind {
            Kind::Postgres => Backend::POSTGRES,
            Kind::ClickHouse => Backend::CLICKHOUSE,
        };
        let test = move || campaign(kind, name, parameters, kills.unwrap_or(1));
        server_trial(backend, format!("random-kills::{name}"), test).with_ignored_flag(kills.is_none())
    };
    vec![
        trial(Kind::Postgres, "lookout", ""),
        trial(Kind::Postgres, "hot-cold", "hot_cold_split=true"),
        trial(Kind::ClickHouse, "replacing", "layout=replacing"),
        trial(Kind::ClickHouse, "patch", "layout=patch"),
    ]
}

/// A kind of server.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Alternately the whole server and one of its processes are killed.
    Postgres,
    /// The whole server is killed.
    ClickHouse,
}

impl Kind {
    fn start(self, name: &str) -> Server {
        match self {
            Self::Postgres => Server::postgres(name, "-c fsync=on"),
            Self::ClickHouse => Server::clickhouse(name, ""),
        }
    }

    /// Kills a server, and returns while it is starting again.
    async fn kill(self, server: &Server, round: usize, random: &mut Random) {
        match self {
            Self::Postgres if round % 2 == 1 => kill_backend(server.address(), random).await,
            Self::Postgres | Self::ClickHouse => {
                server.kill();
                server.resume();
            }
        }
    }
}

/// Kills one of the processes that serve the load. The server then restarts all of them.
async fn kill_backend(address: &str, random: &mut Random) {
    let (session, connection) = tokio_postgres::connect(address, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'load' ORDER BY pid";
    let processes = session.query(sql, &[]).await.unwrap();
    let process: i32 = processes[random.below(processes.len() as u64) as usize].get(0);
    assert!(Command::new("kill").args(["-9", &process.to_string()]).status().unwrap().success());
    // The crash ends this session too.
    let _ = connection.await.unwrap();
}

/// Pseudo-random numbers from a fixed seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

async fn campaign(kind: Kind, name: &str, parameters: &str, kills: usize) {
    let server = kind.start(name);
    let address = match kind {
        Kind::Postgres => with(server.address(), "connect_timeout=60&application_name=load"),
        Kind::ClickHouse => server.address().to_owned(),
    };
    let config: DatabaseConfig = with(&address, parameters).parse().unwrap();
    let store = config.create_scratch(Arc::new(SystemClock)).await.unwrap();
    let database = store.database();
    database.initialise_schema().await.unwrap();
    let mut random = Random(kills as u64);
    let failures = Arc::new(AtomicUsize::new(0));
    // The number of job sets of each writer.
    let mut sets = Vec::new();
    for round in 0..kills {
        let killed = Arc::new(AtomicBool::new(false));
        let write = |writer| write(database.clone(), failures.clone(), killed.clone(), round * WRITERS + writer);
        let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write(writer))).collect();
        tokio::time::sleep(Duration::from_micros(random.below(MAX_DELAY_MICROS))).await;
        kind.kill(&server, round, &mut random).await;
        killed.store(true, Ordering::Relaxed);
        for writer in writers {
            sets.push(writer.await.unwrap());
            assert_written(&**database, sets.len() - 1, sets[sets.len() - 1]).await;
        }
    }
    let total = sets.iter().sum::<usize>() * JOBS;
    assert_eq!(count(&**database).await, total as u64, "jobs are lost or doubled");
    for (writer, &sets) in sets.iter().enumerate() {
        assert_written(&**database, writer, sets).await;
    }
    let failures = failures.load(Ordering::Relaxed);
    println!(
        "{}::{name}: {kills} kills during writes; {failures} calls failed and were repeated; {total} jobs with {total} \
         runs, none lost, doubled or halved",
        database.backend()
    );
    database.close().await.unwrap();
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn job_set(writer: usize, set: usize) -> String {
    format!("set-{writer:04}-{set:03}")
}

fn job_id(writer: usize, set: usize, job: usize) -> String {
    format!("job-{writer:04}-{set:03}-{job:02}")
}

/// The batches of a set of jobs from insertion to end. No field is written by two batches, so a lost batch is visible
/// at the end.
fn batches(writer: usize, set: usize) -> [IngestionBatch; 4] {
    let of_each = |queries: fn(String, String, String) -> Vec<IngestionQuery>| {
        let queries = (0..JOBS).flat_map(|job| {
            let id = job_id(writer, set, job);
            queries(id.clone(), format!("{id}-r"), job_set(writer, set))
        });
        IngestionBatch::new(queries).unwrap()
    };
    [
        of_each(|job_id, run_id, job_set| {
            let job = NewJob { priority: 1, submitted: time(1), ..plain_job(&job_id, &job_set) };
            let (cluster, node, pool) = ("cluster".to_owned(), None, None);
            let run = InsertJobRun { job_run_id: run_id, job_id, cluster, node, pool, time: time(1), submitted: None };
            vec![InsertJob { job, job_spec: None }.into(), run.into()]
        }),
        of_each(|job_id, run_id, _| {
            let (job_run_id, node) = (run_id.clone(), Some("node".to_owned()));
            let started = SetJobRunStarted { job_run_id, time: time(2), node, submitted: None };
            let running = SetJobRunning { job_id, time: time(2), latest_run_id: run_id, submitted: None };
            vec![running.into(), started.into()]
        }),
        of_each(|job_id, _, _| vec![UpdateJobPriority { job_id, priority: 2, submitted: None }.into()]),
        of_each(|job_id, job_run_id, _| {
            let error = Some(b"error".to_vec().into());
            let failed =
                SetJobRunFailed { job_run_id, time: time(3), error, debug: None, exit_code: 7, submitted: None };
            vec![SetJobSucceeded { job_id, time: time(3), submitted: None }.into(), failed.into()]
        }),
    ]
}

/// Writes job sets until the server has been killed, and repeats each batch until it is acknowledged. Returns the
/// number of sets.
async fn write(
    database: Arc<dyn Database>,
    failures: Arc<AtomicUsize>,
    killed: Arc<AtomicBool>,
    writer: usize,
) -> usize {
    let mut sets = 0;
    while !killed.load(Ordering::Relaxed) {
        for batch in batches(writer, sets) {
            while let Err(error) = database.execute_ingestion_query_batch(&batch).await {
                assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error:?}");
                failures.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        sets += 1;
    }
    sets
}

async fn count(database: &dyn Database) -> u64 {
    let groups = database.get_job_groups(&GroupQuery::by(GroupField::State)).await.unwrap();
    groups.iter().map(|group| group.count).sum()
}

/// Asserts that every batch of the writer has been applied completely, and once.
async fn assert_written(database: &dyn Database, writer: usize, sets: usize) {
    let query = JobQuery::new()
        .filter(TextField::JobSet.starts_with(format!("set-{writer:04}-")))
        .order_by(JobOrderKey::JobId, Direction::Ascending);
    let jobs = database.get_jobs(&query).await.unwrap();
    let expected = (0..sets).flat_map(|set| (0..JOBS).map(move |job| job_id(writer, set, job)));
    assert!(jobs.iter().map(|job| job.job_id.as_str()).eq(expected), "jobs are lost or doubled: {jobs:?}");
    jobs.iter().for_each(assert_ended);
}

fn assert_ended(job: &Job) {
    let states = (job.state, job.priority, job.last_transition_time, job.last_active_run_id.as_deref());
    assert_eq!(states, (JobState::Succeeded, 2, time(3), Some(format!("{}-r", job.job_id).as_str())), "{job:?}");
    let [run] = job.runs.as_slice() else { panic!("a run is lost or doubled: {job:?}") };
    let run = (run.job_run_state, run.node.as_deref(), run.started, run.finished, run.exit_code);
    assert_eq!(run, (RunState::Failed, Some("node"), Some(time(2)), Some(time(3)), Some(7)), "{job:?}");
}
