//! Tests of the command `compare`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

/// Runs `broadside`.
fn broadside(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_broadside"));
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Runs `broadside compare` with two memory stores and few jobs.
fn compare(samples: &str, more: &[&str]) -> Output {
    let arguments = ["compare", "--jobs", "400", "--samples", samples, "--backend", "memory", "--backend", "memory"];
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
    let output = compare("3", &["--out", out.to_str().unwrap(), "--layout", "queue-contiguous", "--seed", "7"]);
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
        "groups by queue, after a write",
        "keeps the totals of groups",
        "requires five turns",
    ] {
        assert!(table.contains(word), "{word}: {table}");
    }
    let results = results(&out.join("results.json"));
    assert_eq!(results["settings"]["workload"]["layout"], "queueContiguous");
    assert_eq!(results["backends"][1]["name"], "memory 2");
    let operations = results["operations"].as_array().unwrap();
    assert!(operations.len() > 100);
    assert!(operations.iter().all(|operation| operation["measurements"][1]["p50Nanos"].as_u64() > Some(0)));
    let ratios = operations.iter().map(|operation| &operation["measurements"][1]["ratio"]);
    assert!(ratios.clone().all(|ratio| ratio["value"].as_f64() > Some(0.0) && ratio["interval"].is_null()));
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

/// Runs `broadside compare` with enough executions for intervals.
fn compare_with_baseline(path: &str, more: &[&str]) -> Output {
    compare("50", &[&["--brief", "--baseline", path], more].concat())
}

/// Writes the modified results of a comparison with enough executions for intervals.
fn baseline(name: &str, change: impl FnOnce(&mut Value)) -> String {
    static RESULTS: LazyLock<Value> = LazyLock::new(|| {
        let directory = directory("baseline");
        let output = compare("50", &["--brief", "--out", directory.to_str().unwrap()]);
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        results(&directory.join("results.json"))
    });
    let path = directory(name).join("results.json");
    let mut results = RESULTS.clone();
    change(&mut results);
    std::fs::write(&path, results.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Multiplies the ratios of the second backend by a factor.
fn slow_down(results: &mut Value, factor: f64) {
    for operation in results["operations"].as_array_mut().unwrap() {
        let ratio = &mut operation["measurements"][1]["ratio"];
        let [low, high] = [0, 1].map(|end| ratio["interval"][end].as_f64());
        for (key, value) in [("/value", ratio["value"].as_f64()), ("/interval/0", low), ("/interval/1", high)] {
            if let Some(value) = value {
                *ratio.pointer_mut(key).unwrap() = (value * factor).into();
            }
        }
    }
}

#[test]
fn a_regression_from_the_baseline_exits_with_1() {
    let path = baseline("worse", |results| slow_down(results, 1e6));
    let output = compare_with_baseline(&path, &[]);
    assert_eq!(code(&output), 1);
    let problems = text(&output.stderr);
    assert!(problems.contains("page by queue ASC: memory fell behind memory 2 by "), "{problems}");
    // An operation that is executed once has no interval.
    assert!(!problems.contains("load"), "{problems}");
}

#[test]
fn an_improvement_over_the_baseline_is_not_a_regression() {
    let path = baseline("better", |results| slow_down(results, 1e-6));
    let output = compare_with_baseline(&path, &[]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
}

#[test]
fn a_ratio_within_the_tolerance_is_not_a_regression() {
    let path = baseline("tolerated", |results| slow_down(results, 1e6));
    let output = compare_with_baseline(&path, &["--tolerance", "1e12"]);
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
        let output = compare_with_baseline(&path, &[]);
        assert_eq!(code(&output), 2, "{path}");
        assert!(text(&output.stderr).contains(reason), "{}", text(&output.stderr));
    }
    let path = baseline("few-samples", |_| ());
    let output = compare("49", &["--brief", "--baseline", &path]);
    assert_eq!(code(&output), 2);
    assert!(
        text(&output.stderr).contains("requires 50 samples of both, and one of them has 49"),
        "{}",
        text(&output.stderr)
    );
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
    let other_encoding = directory("other-encoding").join("results.json");
    std::fs::write(&other_encoding, b"\xff\xfe{\0}\0").unwrap();
    for (option, path, reason) in [
        ("--baseline", Path::new(&other_jobs), "other jobs"),
        ("--baseline", repeated.as_path(), "is repeated"),
        ("--baseline", other_encoding.as_path(), "UTF-16"),
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
    let out = ["--out", directory.to_str().unwrap()];
    let output = compare_with_baseline(&path, &out);
    assert_eq!(code(&output), 1, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("results.json is the baseline and is kept"), "{}", text(&output.stderr));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(results(&directory.join("results.failed.json"))["format"], 3);
    let output = compare_with_baseline(&path, &[&out[..], &["--tolerance", "1e12"]].concat());
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert_ne!(std::fs::read(&path).unwrap(), before);
    let left: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".tmp")), "{left:?}");
}

#[test]
fn missing_files_and_unknown_backends_are_errors() {
    let missing = compare("3", &["--baseline", "no/such/file"]);
    assert_eq!((code(&missing), text(&missing.stdout)), (2, String::new()));
    assert!(text(&missing.stderr).contains("no/such/file"), "{}", text(&missing.stderr));
    let unknown = broadside(&["compare", "--backend", "nonsense"]);
    assert_eq!(code(&unknown), 2);
    assert_eq!(code(&compare("3", &["--tolerance", "2"])), 2);
    assert_eq!(code(&compare("3", &["--baseline", "x", "--tolerance", "0.5"])), 2);
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
