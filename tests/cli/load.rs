//! Tests of the command `broadside run`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const QUICK: &str = "
testDuration: 1s
databaseConfig: {inMemory: true}
queueConfig: [{name: q, proportion: 1, jobSetConfig: [{name: s, proportion: 1}]}]
ingestionConfig: {batchSize: 100, batchTimeout: 50ms, submissionsPerHour: 360000}
queryConfig: {getJobsQueriesPerHour: 36000}
";

/// A separate, empty directory for a test.
fn directory(name: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    drop(std::fs::remove_dir_all(&directory));
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

fn command(directory: &Path, config: &str, arguments: &[&str]) -> Command {
    std::fs::write(directory.join("config.yaml"), config).unwrap();
    // The command would inherit ignored signals, for example SIGHUP from nohup.
    let mut command = Command::new("env");
    command.arg("--default-signal=INT,TERM,HUP").arg(env!("CARGO_BIN_EXE_broadside"));
    command.current_dir(directory).args(["run", "--config", "config.yaml"]).args(arguments).stdin(Stdio::null());
    command.env_remove("BROADSIDE_POSTGRES_URL").env_remove("BROADSIDE_CLICKHOUSE_URL");
    command
}

fn run(directory: &Path, config: &str, arguments: &[&str]) -> Output {
    command(directory, config, arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The JSON of the only file whose name has the prefix.
fn result(directory: &Path, prefix: &str) -> Value {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(prefix);
    let found: Vec<_> = files.filter(named).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    serde_json::from_slice(&std::fs::read(&found[0]).unwrap()).unwrap()
}

#[test]
fn a_run_writes_both_files_and_prints_a_summary() {
    let directory = directory("load-quick");
    let without_store = QUICK.replace("databaseConfig: {inMemory: true}\n", "");
    let output = run(&directory, &without_store, &["--backend", "memory"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output =
        run(&directory, QUICK, &["--results-dir", "results", "--selection", "upstream", "--arrivals", "poisson"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let summary = String::from_utf8(output.stdout).unwrap();
    assert!(
        summary.contains("GetJobs none")
            && summary.contains("ingestion queries: ")
            && summary.contains("0 differences"),
        "{summary}"
    );
    let results = directory.join("results");
    let upstream = result(&results, "broadside-result-");
    assert_eq!(upstream["configuration"]["databaseConfig"]["type"], "inmemory");
    assert!(upstream["results"]["ingester"]["totalQueriesExecuted"].as_u64().unwrap() > 50);
    let record = result(&results, "broadside-run-");
    assert_eq!(
        (&record["options"]["selection"], &record["options"]["arrivals"]),
        (&"upstream".into(), &"poisson".into())
    );
    assert_eq!(
        (record["partial"].as_bool(), record["census"]["differences"].as_array().unwrap().len()),
        (Some(false), 0)
    );
    assert_eq!(record["configuration"]["ingestionConfig"]["batchTimeout"], "50000µs");
}

#[test]
fn all_problems_of_a_configuration_are_reported_before_the_run() {
    let directory = directory("load-problems");
    let bad = QUICK.replace("testDuration: 1s", "testDuration: soon").replace("batchSize: 100", "batchSize: many");
    let output = run(&directory, &bad, &[]);
    assert_eq!(output.status.code(), Some(2));
    let errors = stderr(&output);
    assert!(errors.contains("config.yaml:2: testDuration: \"soon\" must be a duration"), "{errors}");
    assert!(
        errors.contains("config.yaml:5: ingestionConfig.batchSize: \"many\" must be a non-negative integer"),
        "{errors}"
    );
    let output = run(&directory, &format!("{QUICK}colour: red\n"), &["--teardown-only"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("config.yaml:7: colour is an unknown key"), "{}", stderr(&output));
}

#[test]
fn a_large_run_requires_a_confirmation() {
    let directory = directory("load-large");
    let large = QUICK.replace("testDuration: 1s", "testDuration: 2h");
    let output = run(&directory, &large, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("about 720000 jobs") && stderr(&output).contains("--yes"), "{}", stderr(&output));
}

#[test]
fn a_missed_objective_exits_with_1() {
    let directory = directory("load-objective");
    let output = run(&directory, &format!("{QUICK}slo: [ingest.max < 1ns, ingest.errors < 1%]\n"), &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("the objective ingest.max < 1ns is missed"), "{}", stderr(&output));
    assert!(!stderr(&output).contains("ingest.errors"), "{}", stderr(&output));
}

#[test]
fn an_objective_without_enough_calls_is_refused_before_the_run() {
    let directory = directory("load-samples");
    // The test makes 10 reads, of which 1.4 have the filter, and 100 submissions.
    for (slo, arguments, message) in [
        ("page.p99 < 1s", &[][..], "requires at least 100 reads in the test, but the configuration makes 10.0"),
        ("page.priority.p95 < 1s", &[], "requires at least 20 reads in the test, but the configuration makes 1.4"),
        ("page.colour.max < 1s", &[], "requires at least 1 reads in the test, but the configuration makes 0.0"),
        ("spec.errors < 1%", &[], "requires at least 1 reads in the test, but the configuration makes 0.0"),
        (
            "ingest.p99.9 < 1s",
            &["--find-rate", "--yes"],
            "requires at least 1000 submissions in the test, but the configuration makes 100.0",
        ),
    ] {
        let config = QUICK.replace("batchTimeout: 50ms", "batchTimeout: 50ms, numWorkers: 1");
        let output = run(&directory, &format!("{config}slo: '{slo}'\n"), arguments);
        assert_eq!(output.status.code(), Some(2), "{slo}: {}", stderr(&output));
        assert!(stderr(&output).contains(&format!("the objective {slo} {message}")), "{}", stderr(&output));
    }
}

#[test]
fn usage_errors_exit_with_2() {
    let directory = directory("load-bad");
    for (arguments, part) in [
        (&["--backend", "oracle"][..], "backend"),
        (&["--config", "missing.yaml"], "missing.yaml"),
        (&["--selection", "random"], "possible values: independent, upstream"),
        (&["--query-timeout", "soon"], "must be a duration"),
    ] {
        let output = run(&directory, QUICK, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(part), "{arguments:?}: {}", stderr(&output));
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_writes_its_measurements() {
    for signal in ["INT", "TERM", "HUP"] {
        let directory = directory(&format!("load-interrupted-{signal}"));
        let endless = QUICK.replace("testDuration: 1s", "testDuration: 30m");
        let child =
            command(&directory, &endless, &["--yes"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_secs(2));
        let killed = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{signal}: {}", stderr(&output));
        let record = result(&directory, "broadside-run-");
        assert_eq!(record["partial"], true);
        assert_eq!(record["census"]["differences"], Value::Array(Vec::new()));
        assert!(record["ingester"]["queriesExecuted"].as_u64().unwrap() > 0);
        result(&directory, "broadside-result-");
    }
}

#[test]
fn the_example_configurations_are_valid() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/load");
    for (name, also) in [("default", ""), ("postgres", ""), ("clickhouse", ""), ("postgres", "find-rate")] {
        let files: Vec<_> = [name, also].into_iter().filter(|name| !name.is_empty()).collect();
        let texts: Vec<_> = files
            .iter()
            .map(|name| (*name, std::fs::read_to_string(examples.join(format!("{name}.yaml"))).unwrap()))
            .collect();
        let parsed =
            broadside::load::LoadConfig::parse(texts.iter().map(|(name, text)| (*name, text.as_str())), []).unwrap();
        assert_eq!(parsed.warnings, [], "{files:?}");
    }
}
