//! Tests of comparisons: the equality of results, and the command `compare`.

#![cfg(feature = "cli")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use broadside::compare::{Backend, Comparison, ComparisonOutcome, OperationResult, Target};
use broadside::ingest::IngestionBatch;
use broadside::memory::{MemoryConfig, MemoryDatabase};
use broadside::query::{self, Direction, GroupField, JobOrderKey};
use broadside::workload::{Aggregate, Answer, Grouping, PageKind, Query, QueryKind, Record, Workload, WorkloadOptions};
use broadside::{Database, ManualClock, Result, StoreInfo, Timestamp};
use serde_json::Value;

/// A store whose results are modified.
#[derive(Debug)]
struct Altered {
    store: Backend,
    alter: fn(&mut Answer),
}

#[async_trait]
impl Target for Altered {
    fn name(&self) -> &str {
        "altered"
    }

    async fn ingest(&self, batch: &IngestionBatch) -> Result<Duration> {
        self.store.ingest(batch).await
    }

    async fn answer(&self, query: &Query) -> Result<(Answer, Duration)> {
        let (mut answer, time) = self.store.answer(query).await?;
        (self.alter)(&mut answer);
        Ok((answer, time))
    }

    async fn info(&self) -> Result<StoreInfo> {
        self.store.info().await
    }
}

async fn store(name: &str, workload: &Workload) -> Backend {
    let clock = ManualClock::default();
    clock.set(workload.now());
    let database = MemoryDatabase::new(&MemoryConfig::default(), Arc::new(clock));
    database.initialise_schema().await.unwrap();
    Backend::new(name, Arc::new(database))
}

/// The difference that a comparison finds in modified results; `None` if they are considered equal.
async fn problem(kind: QueryKind, alter: fn(&mut Answer)) -> Option<String> {
    let workload = Workload::new(WorkloadOptions { jobs: 1500, ..WorkloadOptions::default() });
    let altered = Altered { store: store("altered", &workload).await, alter };
    let targets: [Box<dyn Target>; 2] = [Box::new(store("memory", &workload).await), Box::new(altered)];
    let comparison = Comparison { workload: &workload, kinds: vec![kind], samples: 3 };
    match comparison.run(&targets, &|_, _, _| {}).await.unwrap() {
        ComparisonOutcome::Agreed(_) => None,
        ComparisonOutcome::Differed(differences) => {
            let [difference] = &differences[..] else { panic!("{differences:?}") };
            assert_eq!((difference.target.as_str(), difference.reference.as_str()), ("altered", "memory"));
            assert_eq!(difference.operation, kind.to_string());
            Some(difference.problem.clone())
        }
    }
}

const BY_QUEUE: QueryKind =
    QueryKind::Page(PageKind::Ordered { key: JobOrderKey::Queue, direction: Direction::Ascending });
const BY_STATE: QueryKind =
    QueryKind::Page(PageKind::Ordered { key: JobOrderKey::State, direction: Direction::Ascending });
const BY_JOB_ID: QueryKind =
    QueryKind::Page(PageKind::Ordered { key: JobOrderKey::JobId, direction: Direction::Descending });
const GROUPS: QueryKind =
    QueryKind::Groups { by: Grouping::Field(GroupField::Owner), aggregates: &[Aggregate::States] };
const CHEAP: QueryKind = QueryKind::Page(PageKind::Priority(query::Comparison::Less));

/// A store without updates that ingests its batches in reverse order, so that the order of ties differs.
#[derive(Debug)]
struct Reversed {
    store: Backend,
    batches: Mutex<Vec<IngestionBatch>>,
}

#[async_trait]
impl Target for Reversed {
    fn name(&self) -> &str {
        "reversed"
    }

    fn supports_updates(&self) -> bool {
        false
    }

    async fn ingest(&self, batch: &IngestionBatch) -> Result<Duration> {
        self.batches.lock().unwrap().push(batch.clone());
        Ok(Duration::from_micros(1))
    }

    async fn finish_ingestion(&self) -> Result<()> {
        let batches = std::mem::take(&mut *self.batches.lock().unwrap());
        for batch in batches.iter().rev() {
            self.store.ingest(batch).await?;
        }
        Ok(())
    }

    async fn answer(&self, query: &Query) -> Result<(Answer, Duration)> {
        self.store.answer(query).await
    }

    async fn info(&self) -> Result<StoreInfo> {
        self.store.info().await
    }
}

#[tokio::test]
async fn ties_may_differ_in_rows_and_order() {
    let workload = Workload::new(WorkloadOptions { jobs: 3000, ..WorkloadOptions::default() });
    let reversed = Reversed { store: store("reversed", &workload).await, batches: Mutex::default() };
    let targets: [Box<dyn Target>; 2] = [Box::new(store("memory", &workload).await), Box::new(reversed)];
    let comparison = Comparison { workload: &workload, kinds: QueryKind::essential(), samples: 3 };
    let ComparisonOutcome::Agreed(results) = comparison.run(&targets, &|_, _, _| {}).await.unwrap() else { panic!() };
    let is_complete = |operation: &OperationResult| operation.measurements.iter().all(Option::is_some);
    assert_eq!(results.operations.iter().filter(|operation| !is_complete(operation)).count(), 3);

    let query = workload.query(BY_STATE, 0).unwrap();
    let mut ids = Vec::new();
    for target in &targets {
        let (mut answer, _) = target.answer(&query).await.unwrap();
        ids.push(jobs(&mut answer).iter().map(|job| job.job_id.clone()).collect::<BTreeSet<_>>());
    }
    assert_ne!(ids[0], ids[1], "the stores return the same ties");
    assert_eq!(problem(BY_STATE, |answer| jobs(answer).reverse()).await, None);
}

#[tokio::test]
async fn rows_out_of_order_are_differences() {
    let found = problem(BY_JOB_ID, |answer| jobs(answer).swap(3, 4)).await.unwrap();
    assert!(found.starts_with("row 3: expected the order key"), "{found}");
}

#[tokio::test]
async fn missing_and_repeated_rows_are_differences() {
    let found = problem(BY_QUEUE, |answer| drop(jobs(answer).pop())).await.unwrap();
    assert_eq!(found, "expected 100 rows, got 99");
    let repeat = |answer: &mut Answer| jobs(answer)[8] = jobs(answer)[7].clone();
    let found = problem(BY_QUEUE, repeat).await.unwrap();
    assert!(found.starts_with("rows 7 and 8 are both"), "{found}");
}

#[tokio::test]
async fn a_difference_has_the_path_and_the_value() {
    let alter = |answer: &mut Answer| {
        for job in jobs(answer) {
            job.runs.iter_mut().for_each(|run| run.exit_code = Some(77));
        }
    };
    let found = problem(BY_QUEUE, alter).await.unwrap();
    assert!(found.contains("/runs/0/exitCode") && found.ends_with("got 77"), "{found}");
}

#[tokio::test]
async fn rows_that_the_query_does_not_select_are_differences() {
    let alter = |answer: &mut Answer| jobs(answer)[0].job_id = "other".into();
    let found = problem(BY_QUEUE, alter).await.unwrap();
    assert!(found.starts_with("\"other\" is not selected"), "{found}");
    let found = problem(GROUPS, |answer| groups(answer)[0].name = "other".into()).await.unwrap();
    assert!(found.starts_with("\"other\" is not selected"), "{found}");
}

#[tokio::test]
async fn groups_and_records_are_compared() {
    let found = problem(GROUPS, |answer| groups(answer)[2].count += 1).await.unwrap();
    assert!(found.starts_with("row 2: expected the order key"), "{found}");
    let alter = |answer: &mut Answer| *answer = Answer::Text("other".to_owned());
    let found = problem(QueryKind::Record(Record::RunError), alter).await.unwrap();
    assert!(found.ends_with("got \"other\""), "{found}");
    let alter = |answer: &mut Answer| {
        if let Answer::Spec(spec) = answer {
            spec.queue.clear();
        }
    };
    assert!(problem(QueryKind::Record(Record::Spec), alter).await.is_some());
}

#[tokio::test]
async fn results_have_a_measurement_for_each_target() {
    let workload = Workload::new(WorkloadOptions { jobs: 500, ..WorkloadOptions::default() });
    let targets: [Box<dyn Target>; 2] =
        [Box::new(store("one", &workload).await), Box::new(store("two", &workload).await)];
    let comparison = Comparison { workload: &workload, kinds: vec![CHEAP, GROUPS], samples: 4 };
    let ComparisonOutcome::Agreed(results) = comparison.run(&targets, &|_, _, _| {}).await.unwrap() else { panic!() };
    let names: Vec<_> = results.operations.iter().map(|operation| operation.name.as_str()).collect();
    assert_eq!(names.len(), 6, "{names:?}");
    for operation in &results.operations {
        assert_eq!(operation.measurements.iter().flatten().count(), 2, "{}", operation.name);
        assert_eq!(operation.ratio(0), Some(1.0), "{}", operation.name);
    }
    let queries = results.operations.iter().filter(|operation| operation.name.starts_with("page"));
    for measured in queries.flat_map(|operation| operation.measurements.iter().flatten()) {
        assert_eq!(measured.runs, 4);
        assert_eq!((measured.times.p95_nanos, measured.times.p99_nanos), (None, None), "four runs have no p95");
    }
    assert!(results.backends.iter().all(|backend| backend.bytes_per_job > Some(0.0)));
    assert!(results.taken > Timestamp::from_seconds(0));
}

/// A store that records its calls.
#[derive(Debug)]
struct Recording {
    store: Backend,
    calls: Arc<Mutex<Vec<&'static str>>>,
    name: &'static str,
}

#[async_trait]
impl Target for Recording {
    fn name(&self) -> &str {
        self.name
    }

    async fn ingest(&self, batch: &IngestionBatch) -> Result<Duration> {
        self.calls.lock().unwrap().push(self.name);
        self.store.ingest(batch).await
    }

    async fn answer(&self, query: &Query) -> Result<(Answer, Duration)> {
        self.calls.lock().unwrap().push(self.name);
        self.store.answer(query).await
    }

    async fn info(&self) -> Result<StoreInfo> {
        self.store.info().await
    }
}

#[tokio::test]
async fn stores_take_turns() {
    let workload = Workload::new(WorkloadOptions { jobs: 4000, ..WorkloadOptions::default() });
    let calls = Arc::new(Mutex::new(Vec::new()));
    let mut targets: Vec<Box<dyn Target>> = Vec::new();
    for name in ["one", "two", "three"] {
        targets.push(Box::new(Recording { store: store(name, &workload).await, calls: Arc::clone(&calls), name }));
    }
    let comparison = Comparison { workload: &workload, kinds: vec![CHEAP], samples: 30 };
    assert!(matches!(comparison.run(&targets, &|_, _, _| {}).await.unwrap(), ComparisonOutcome::Agreed(_)));
    let calls = calls.lock().unwrap();
    assert!(calls.len() > 100);
    let mut counts = BTreeMap::from(["one", "two", "three"].map(|name| (name, 0)));
    let mut leaders = BTreeSet::new();
    for &name in calls.iter() {
        *counts.get_mut(name).unwrap() += 1;
        let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
        // A turn has at most ten executions.
        assert!(most - least <= 10, "{counts:?}");
        leaders.extend(counts.iter().filter(|(_, count)| **count == least + 10).map(|(&name, _)| name));
    }
    assert_eq!(counts.values().collect::<BTreeSet<_>>().len(), 1, "{counts:?}");
    assert_eq!(leaders.len(), 3, "the order of the stores does not rotate");
}

fn jobs(answer: &mut Answer) -> &mut Vec<broadside::Job> {
    let Answer::Jobs(jobs) = answer else { panic!("{answer:?}") };
    jobs
}

fn groups(answer: &mut Answer) -> &mut Vec<broadside::JobGroup> {
    let Answer::Groups(groups) = answer else { panic!("{answer:?}") };
    groups
}

/// Runs `broadside`.
fn broadside(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_broadside"));
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Runs `broadside compare` with two memory stores and few jobs.
fn compare(more: &[&str]) -> Output {
    let arguments = ["compare", "--jobs", "400", "--samples", "3", "--backend", "memory", "--backend", "memory"];
    broadside(&[&arguments, more].concat())
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A separate directory for a test.
fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("compare").join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn results(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_comparison_prints_a_table_and_writes_its_results() {
    let out = directory("out").join("new");
    let output = compare(&["--out", out.to_str().unwrap(), "--layout", "queue-contiguous", "--seed", "7"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let table = text(&output.stdout);
    for word in [
        "400 jobs, seed 7",
        "memory 2",
        "÷ memory",
        "update, 1000 queries",
        "run error",
        "bytes per job",
        "n: p50 · p95 · p99",
        "3: ",
    ] {
        assert!(table.contains(word), "{word}: {table}");
    }
    let results = results(&out.join("results.json"));
    assert_eq!(results["settings"]["workload"]["layout"], "queueContiguous");
    assert_eq!(results["backends"][1]["name"], "memory 2");
    let operations = results["operations"].as_array().unwrap();
    assert!(operations.len() > 100);
    assert!(operations.iter().all(|operation| operation["measurements"][1]["p50Nanos"].as_u64() > Some(0)));
    let report = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert_eq!(report.matches("<svg").count(), 4);
    assert!(!report.contains("src=") && !report.contains("<link") && !report.contains("<script"));
}

/// Compares memory with a server if its address is set. The address is required if `CI=true`.
fn compare_with_server(name: &str, variable: &str) {
    if std::env::var_os(variable).is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{variable} is not set");
        return;
    }
    let output = broadside(&[
        "compare",
        "--brief",
        "--jobs",
        "1000",
        "--samples",
        "3",
        "--backend",
        "memory",
        "--backend",
        name,
    ]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
}

#[test]
fn postgres_agrees_with_memory() {
    compare_with_server("postgres", broadside::POSTGRES_URL_VARIABLE);
}

#[test]
fn clickhouse_agrees_with_memory() {
    compare_with_server("clickhouse", broadside::CLICKHOUSE_URL_VARIABLE);
}

/// Writes the modified results of a comparison.
fn baseline(name: &str, change: impl FnOnce(&mut Value)) -> String {
    let directory = directory(name);
    let output = compare(&["--out", directory.to_str().unwrap()]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let path = directory.join("results.json");
    let mut results = results(&path);
    change(&mut results);
    std::fs::write(&path, results.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Multiplies the medians of the second backend by a factor.
fn slow_down(results: &mut Value, factor: f64) {
    for operation in results["operations"].as_array_mut().unwrap() {
        let median = &mut operation["measurements"][1]["p50Nanos"];
        *median = ((median.as_f64().unwrap() * factor) as u64).max(1).into();
    }
}

#[test]
fn a_regression_from_the_baseline_exits_with_1() {
    let path = baseline("worse", |results| slow_down(results, 1e6));
    let output = compare(&["--baseline", &path]);
    assert_eq!(code(&output), 1);
    let problems = text(&output.stderr);
    assert!(problems.contains("page by queue ASC: memory fell behind memory 2 by "), "{problems}");
}

#[test]
fn an_improvement_over_the_baseline_is_not_a_regression() {
    let path = baseline("better", |results| slow_down(results, 1e-6));
    let output = compare(&["--baseline", &path]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
}

#[test]
fn a_ratio_within_the_tolerance_is_not_a_regression() {
    let path = baseline("tolerated", |results| slow_down(results, 1e6));
    let output = compare(&["--baseline", &path, "--tolerance", "1e12"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
}

#[test]
fn a_baseline_must_have_the_same_format_jobs_and_backends() {
    let other_jobs = baseline("other-jobs", |results| results["settings"]["workload"]["seed"] = 99.into());
    let other_format = baseline("other-format", |results| results["format"] = 0.into());
    let other_first = baseline("other-first", |results| results["backends"][0]["name"] = "postgres".into());
    let only_one = baseline("only-one", |results| results["backends"].as_array_mut().unwrap().truncate(1));
    for (path, reason) in
        [(other_jobs, "other jobs"), (other_format, "format 0"), (other_first, "postgres"), (only_one, "no ratios")]
    {
        let output = compare(&["--baseline", &path]);
        assert_eq!(code(&output), 2, "{path}");
        assert!(text(&output.stderr).contains(reason), "{}", text(&output.stderr));
    }
}

/// Runs a comparison with an unreachable server: there is no server on port 1.
fn compare_with_unreachable(more: &[&str]) -> Output {
    let unreachable = "postgres://u@127.0.0.1:1/d?connect_timeout=1";
    broadside(&[&["compare", "--jobs", "400", "--backend", "memory", "--backend", unreachable], more].concat())
}

#[test]
fn the_baseline_and_the_directory_are_checked_before_the_backends() {
    let other_jobs = baseline("checked-first", |results| results["settings"]["workload"]["seed"] = 99.into());
    let file = directory("no-directory").join("file");
    std::fs::write(&file, "").unwrap();
    let new = directory("unreached").join("new");
    // An earlier execution of the test may have left it.
    drop(std::fs::remove_dir(&new));
    let occupied = directory("occupied");
    std::fs::create_dir_all(occupied.join("report.html")).unwrap();
    let repeated = directory("repeated").join("results.json");
    std::fs::write(&repeated, r#"{"format":1,"format":1}"#).unwrap();
    let compressed = directory("compressed").join("results.json.gz");
    std::fs::write(&compressed, b"\x1f\x8b\x08\0").unwrap();
    for (option, path, reason) in [
        ("--baseline", Path::new(&other_jobs), "other jobs"),
        ("--baseline", repeated.as_path(), "is repeated"),
        ("--baseline", compressed.as_path(), "gzip"),
        ("--out", file.as_path(), "file: "),
        ("--out", file.join("below").as_path(), "below: "),
        ("--out", occupied.as_path(), "is a directory"),
        ("--out", new.as_path(), "Connect"),
    ] {
        let output = compare_with_unreachable(&[option, path.to_str().unwrap()]);
        assert_eq!((code(&output), text(&output.stdout)), (2, String::new()), "{path:?}");
        assert!(text(&output.stderr).contains(reason), "{path:?}: {}", text(&output.stderr));
    }
    assert!(!new.exists(), "a comparison that fails creates no directory");
}

#[test]
fn a_comparison_with_regressions_keeps_the_baseline() {
    let path = baseline("kept", |results| slow_down(results, 1e6));
    let directory = Path::new(&path).parent().unwrap().to_owned();
    let before = std::fs::read(&path).unwrap();
    let arguments = ["--baseline", &path, "--out", directory.to_str().unwrap()];
    let output = compare(&arguments);
    assert_eq!(code(&output), 1, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("results.json is the baseline and is kept"), "{}", text(&output.stderr));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(results(&directory.join("results.failed.json"))["format"], 2);
    let output = compare(&[&arguments[..], &["--tolerance", "1e12"]].concat());
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert_ne!(std::fs::read(&path).unwrap(), before);
    let left: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".tmp")), "{left:?}");
}

#[test]
fn missing_files_and_unknown_backends_are_errors() {
    let missing = compare(&["--baseline", "no/such/file"]);
    assert_eq!((code(&missing), text(&missing.stdout)), (2, String::new()));
    assert!(text(&missing.stderr).contains("no/such/file"), "{}", text(&missing.stderr));
    let unknown = broadside(&["compare", "--backend", "nonsense"]);
    assert_eq!(code(&unknown), 2);
    assert_eq!(code(&compare(&["--tolerance", "2"])), 2);
    assert_eq!(code(&compare(&["--baseline", "x", "--tolerance", "0.5"])), 2);
}

#[test]
fn stats_are_a_table_or_json() {
    let table = text(&broadside(&["stats", "--jobs", "300"]).stdout);
    assert!(table.contains("300 jobs") && table.contains("job_set") && table.contains("zone maps"), "{table}");
    let json: Value = serde_json::from_slice(&broadside(&["stats", "--jobs", "300", "--json"]).stdout).unwrap();
    assert_eq!(json["jobs"], 300);
    assert!(json["parts"].as_array().unwrap().iter().any(|part| part["bytes"].as_u64() > Some(0)));
    assert_eq!(code(&broadside(&["stats", "--jobs", "0"])), 0);
}

/// DuckDB requires `python3` with the package `duckdb`.
#[cfg(feature = "peers")]
#[test]
fn peers_agree_with_memory() {
    for layout in ["time-interleaved", "queue-contiguous"] {
        let output = broadside(&[
            "compare",
            "--jobs",
            "3000",
            "--samples",
            "3",
            "--layout",
            layout,
            "--peer",
            "sqlite",
            "--peer",
            "duckdb",
        ]);
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains("duckdb"), "{}", text(&output.stdout));
    }
}
