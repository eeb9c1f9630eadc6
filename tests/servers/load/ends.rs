//! Processes of `broadside run` that end early: a server that is gone, signals, and several runs in one directory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use broadside::load::RunRecord;
use broadside::load::record::{Phase, QueryType};
use broadside::{DatabaseConfig, ScratchStore, SystemClock};
use libtest_mimic::Trial;
use tokio::time::sleep;

use super::{BASE, config, driver_lag};
use crate::support::backends::Backend;
use crate::support::harness::server_trial;
use crate::support::postgres::{schema, session};
use crate::support::proxy::{Mode, Proxy};
use crate::support::server::with;

const POLL: Duration = Duration::from_millis(20);
/// The limit of the time from the end of the server or a signal to the end of a process, with a margin for a busy
/// machine.
const LIMIT: Duration = Duration::from_secs(45);

pub fn trials() -> Vec<Trial> {
    vec![
        server_trial(Backend::POSTGRES, "a-pool-that-gives-up-has-latencies", pool_gives_up),
        server_trial(Backend::POSTGRES, "a-run-ends-after-its-server", server_is_gone),
        server_trial(Backend::POSTGRES, "an-interrupted-run-beside-a-silent-server-writes", interrupted),
        server_trial(Backend::MEMORY, "a-killed-run-leaves-its-measurements", killed),
        server_trial(Backend::MEMORY, "a-killed-search-leaves-its-trials", killed_search),
        server_trial(Backend::MEMORY, "runs-that-end-at-once-keep-all-files", at_once),
        server_trial(Backend::MEMORY, "a-stopped-driver-is-invalid", stopped_driver),
        server_trial(Backend::MEMORY, "a-driver-stopped-in-the-warm-up-is-valid", stopped_in_warm_up),
    ]
}

/// A process of `broadside run`, whose output goes to files.
#[derive(Debug)]
struct Load {
    directory: PathBuf,
    child: Child,
}

impl Load {
    fn start(name: &str, overrides: &str, arguments: &[&str]) -> Self {
        let directory = directory(name);
        Self::start_in(&directory, name, overrides, arguments)
    }

    fn start_in(directory: &Path, name: &str, overrides: &str, arguments: &[&str]) -> Self {
        let path = |file: &str| directory.join(format!("{name}-{file}"));
        fs::write(path("base.yaml"), BASE).unwrap();
        fs::write(path("test.yaml"), overrides).unwrap();
        let output = |file| Stdio::from(File::create(path(file)).unwrap());
        let child = Command::new("env")
            .arg("--default-signal=INT,TERM,HUP")
            .arg(env!("CARGO_BIN_EXE_broadside"))
            .args(["run", "--yes", "--results-dir"])
            .arg(directory.join("results"))
            .arg("--config")
            .arg(path("base.yaml"))
            .arg("--config")
            .arg(path("test.yaml"))
            .args(arguments)
            .env_remove("BROADSIDE_LOG")
            .stdin(Stdio::null())
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .spawn();
        Self { directory: directory.to_owned(), child: child.unwrap() }
    }

    /// The content of standard output and standard error.
    fn output(&self) -> String {
        let files = fs::read_dir(&self.directory).unwrap().map(|entry| entry.unwrap().path());
        let output = files.filter(|path| path.to_string_lossy().contains("-std"));
        output.map(|path| fs::read_to_string(path).unwrap()).collect()
    }

    /// Waits until the output contains a text.
    async fn until(&mut self, text: &str) {
        while !self.output().contains(text) {
            assert!(self.child.try_wait().unwrap().is_none(), "the process has ended: {}", self.output());
            sleep(POLL).await;
        }
    }

    /// Waits until the load begins.
    async fn until_load(&mut self, phase: &str) {
        self.until(&format!("\n{phase}\n")).await;
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// The exit code of the process, which ends within the limit.
    async fn end(&mut self, limit: Duration) -> Option<i32> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            if began.elapsed() >= limit {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                panic!("the process did not end within {limit:?}: {}", self.output());
            }
            sleep(POLL).await;
        }
    }

    /// The only record of the process.
    fn record(&self) -> RunRecord {
        let [path] = self.results("broadside-run-").try_into().unwrap();
        RunRecord::from_json(&fs::read(path).unwrap()).unwrap()
    }

    /// The result files whose names have a prefix.
    fn results(&self, prefix: &str) -> Vec<PathBuf> {
        let Ok(files) = fs::read_dir(self.directory.join("results")) else { return Vec::new() };
        let files = files.map(|entry| entry.unwrap().path());
        files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix)).collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Fails if the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn directory(name: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("load-truth").join(name);
    drop(fs::remove_dir_all(&directory));
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// A scratch store on PostgreSQL, and its address through a proxy.
struct Behind {
    proxy: Proxy,
    store: ScratchStore,
    address: String,
}

async fn behind(parameters: &str) -> Behind {
    let direct = Backend::POSTGRES.address();
    let proxy = Proxy::start(&direct).await;
    let store = direct.parse::<DatabaseConfig>().unwrap().create_scratch(Arc::new(SystemClock)).await.unwrap();
    let address = with(proxy.address(), &format!("schema={}{parameters}", schema(&store)));
    Behind { proxy, store, address }
}

/// Reads that do not get a connection within a second fail, and have a latency of at least a second.
async fn pool_gives_up() {
    const FREEZE: Duration = Duration::from_secs(3);
    const CONNECTIONS: u64 = 4;
    let Behind { proxy, store, address } = behind(&format!("&acquire_timeout=1&pool_size={CONNECTIONS}")).await;
    let slow = "
testDuration: 10s
ingestionConfig: {submissionsPerHour: 3600}
queryConfig: {getJobsQueriesPerHour: 180000}
slo: [page.p99 < 500ms, page.p95 < 950ms]
";
    let mut load = Load::start("pool", slow, &["--backend", &address]);
    load.until_load("test").await;
    sleep(Duration::from_secs(3)).await;
    proxy.set(Mode::HoldRequests(""));
    let began = Instant::now();
    sleep(FREEZE).await;
    proxy.set(Mode::Open);
    let frozen = began.elapsed();
    let code = load.end(LIMIT).await;
    let record = load.record();
    store.remove().await.unwrap();

    let pages: Vec<_> = record.queries.iter().filter(|query| query.query_type == QueryType::GetJobs).collect();
    let failed: u64 = pages.iter().map(|query| query.failed).sum();
    // 50 reads were due per second of the freeze. Those with a connection and those of the last second have succeeded.
    let expected = (frozen.as_secs_f64() - 1.0) * 50.0;
    assert!((failed as f64 - expected).abs() <= expected * 0.1 + 2.0 * CONNECTIONS as f64, "{failed} of {expected}");
    assert_eq!(pages.iter().map(|query| query.latency.count()).sum::<u64>(), 500);
    assert_eq!(pages.iter().map(|query| query.latency.unfinished()).sum::<u64>(), failed);
    let least = Duration::from_millis(998).as_nanos() as u64;
    assert!(pages.iter().all(|query| !query.latency.is_lower_bound(least)), "a failed read took less than 1 s");
    assert!(record.objectives.iter().all(|objective| !objective.held), "{:?}", record.objectives);
    // Objectives are missed, and too many reads have failed.
    assert!(matches!(code, Some(1 | 3)), "{code:?}: {}", load.output());
}

/// The server is gone during the test.
async fn server_is_gone() {
    let default = serde_json::to_value(config("")).unwrap();
    assert_eq!(default["abortAfter"], "30s");
    let Behind { proxy, store, address } = behind("&connect_timeout=2").await;
    let mut load =
        Load::start("gone", "testDuration: 10m\nabortAfter: 5s\nslo: [ingest.p50 < 1h]", &["--backend", &address]);
    load.until_load("test").await;
    sleep(Duration::from_secs(2)).await;
    proxy.set(Mode::Gone);
    let gone = Instant::now();
    // The terminal shows the first error before the run ends. The backend retries for 2 s.
    tokio::time::timeout(Duration::from_secs(5), load.until("(postgres): ")).await.expect("the error is shown");
    let code = load.end(LIMIT).await;
    assert!(gone.elapsed() >= Duration::from_secs(4), "{:?}", gone.elapsed());
    let record = load.record();
    let jobs: i64 = session(&store, &Backend::POSTGRES.address())
        .await
        .query_one("SELECT count(*) FROM job", &[])
        .await
        .unwrap()
        .get(0);
    store.remove().await.unwrap();
    assert_eq!(code, Some(3), "{}", load.output());
    assert!(record.errors[0].error.contains("postgres"), "{:?}", record.errors);
    // The server may have committed the batches whose responses are lost.
    let latency = &record.ingester.latency;
    let stored = (latency.count() - latency.unfinished()) as f64;
    assert!(stored <= jobs as f64 && stored >= jobs as f64 * 0.8, "{stored} of {jobs}");
    // 200 jobs were due per second, until the run ended.
    let test = record.phase(Phase::Test).unwrap();
    let due = (test.end_nanos - test.start_nanos) as f64 / 1e9 * 200.0;
    assert!((latency.count() as f64 - due).abs() <= 2.0, "{} of {due}", latency.count());
}

/// The server does not respond, and the user does not wait.
async fn interrupted() {
    let Behind { proxy, store, address } = behind("").await;
    let mut load = Load::start("interrupted", "testDuration: 10m", &["--backend", &address]);
    load.until_load("test").await;
    sleep(Duration::from_secs(2)).await;
    proxy.set(Mode::Silent);
    sleep(Duration::from_millis(500)).await;
    load.signal("INT");
    let code = load.end(LIMIT).await;
    let record = load.record();
    let path = load.results("broadside-run-").remove(0);
    store.remove().await.unwrap();
    assert_eq!(code, Some(130), "{}", load.output());
    assert!(load.output().contains(path.to_str().unwrap()), "{path:?}: {}", load.output());
    assert!(record.partial && record.ingester.batches_executed > 0 && record.ingester.latency.unfinished() > 0);
}

/// 200 jobs per second, and SIGKILL after 5 s.
async fn killed() {
    let mut load = Load::start("killed", "testDuration: 10m", &[]);
    load.until_load("test").await;
    let began = Instant::now();
    sleep(Duration::from_secs(5)).await;
    load.signal("KILL");
    let loaded = began.elapsed().as_secs_f64();
    assert_eq!(load.end(LIMIT).await, None);
    let [path] = load.results("broadside-run-").try_into().expect("the record was written during the run");
    let record = RunRecord::from_json(&fs::read(&path).unwrap()).unwrap();
    assert!(record.partial);
    let ingestion = record.series.iter().find(|series| series.query_type.is_none()).unwrap();
    let stored: f64 = ingestion.intervals.iter().map(|second| second.achieved).sum();
    assert!((200.0 * (loaded - 2.0)..=200.0 * (loaded + 1.0)).contains(&stored), "{stored} in {loaded} s");
    assert!(
        record.ingester.queries_executed as f64 >= stored * 0.99,
        "{} of {stored}",
        record.ingester.queries_executed
    );
    let out = load.directory.join("report.html");
    let mut report = Command::new(env!("CARGO_BIN_EXE_broadside"));
    let report = report.arg("report").arg(&path).arg("--out").arg(&out).stdin(Stdio::null()).output().unwrap();
    assert!(report.status.success() && out.exists(), "{}", String::from_utf8_lossy(&report.stderr));
}

/// A search that is killed in its third trial has the first two in its record, beside the measurements of the third.
async fn killed_search() {
    let mut load = Load::start("killed-search", "testDuration: 2s\nslo: [ingest.p95 < 60s]", &["--find-rate"]);
    load.until("trial 3 at").await;
    let record = |load: &Load| {
        let path = load.results("broadside-run-").into_iter().next()?;
        RunRecord::from_json(&fs::read(path).unwrap()).ok()
    };
    let trials = |record: &RunRecord| record.rate_search.as_ref().map_or(0, |search| search.trials.len());
    while !record(&load).is_some_and(|record| trials(&record) == 2 && record.ingester.batches_executed > 0) {
        sleep(POLL).await;
    }
    load.signal("KILL");
    assert_eq!(load.end(LIMIT).await, None);
    let search = load.record().rate_search.unwrap();
    let rates: Vec<_> = search.trials.iter().map(|trial| trial.rate).collect();
    assert_eq!(search.highest, None);
    // Idle machines pass both trials, and others may repeat the first one or halve the rate.
    assert!(rates[0] == 200.0 && [100.0, 200.0, 400.0].contains(&rates[1]), "{rates:?}");
}

/// Three runs in one directory end in the same second.
async fn at_once() {
    let directory = directory("at-once");
    let mut loads: Vec<_> =
        ["a", "b", "c"].iter().map(|name| Load::start_in(&directory, name, "testDuration: 1s", &[])).collect();
    for load in &mut loads {
        load.end(LIMIT).await;
    }
    let files = |prefix: &str| loads[0].results(prefix).len();
    assert_eq!((files("broadside-run-"), files("broadside-result-")), (3, 3));
}

/// Stops the driver for a second after the start of a phase.
async fn stop_for_a_second(load: &mut Load, phase: &str) {
    load.until_load(phase).await;
    sleep(Duration::from_millis(500)).await;
    load.signal("STOP");
    sleep(Duration::from_secs(1)).await;
    load.signal("CONT");
}

/// The lag of the driver is as long as it was stopped, and the run is invalid.
async fn stopped_driver() {
    let mut load = Load::start("stopped", "testDuration: 4s", &[]);
    stop_for_a_second(&mut load, "test").await;
    let code = load.end(LIMIT).await;
    let record = load.record();
    let lag = driver_lag(&record);
    // 200 of 800 events were due while it was stopped.
    assert_eq!(lag.count(), 800);
    assert!(lag.quantile(0.99).unwrap() >= 900_000_000 && lag.quantile(0.5).unwrap() < 500_000_000, "{lag:?}");
    super::assert_parts(&record);
    assert_eq!(code, Some(4), "{}", load.output());
    assert!(!record.invalid.is_empty());
}

async fn stopped_in_warm_up() {
    let mut load = Load::start("stopped-in-warm-up", "testDuration: 2s\nwarmupDuration: 3s", &[]);
    stop_for_a_second(&mut load, "warm-up").await;
    load.end(LIMIT).await;
    let record = load.record();
    let lag = driver_lag(&record);
    assert_eq!(lag.count(), 400);
    assert!(lag.max_nanos().unwrap() < 500_000_000, "{lag:?}");
}
