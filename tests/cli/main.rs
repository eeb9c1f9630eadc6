//! Tests of the `broadside` command: exit codes, standard output and standard error, and of the parts of the library that
//! it consists of. They need no server.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

mod addresses;
mod api;
mod compare;
mod copy;
mod load;
#[cfg(target_os = "linux")]
mod memory;
mod report;
mod sql;
#[path = "../support/mod.rs"]
mod support;

const INITIALISE: &str = r#"{"op":"initialiseSchema"}"#;
const CLOCK: &str = r#"{"op":"setClock","now":"2026-01-01T00:00:00Z","expect":{"ok":null}}"#;
const JOB: &str = r#"{"op":"ingest","queries":[{"type":"insertJob","job":{"jobId":"j","queue":"q","jobSet":"s","owner":"o","priority":1,"submitted":"2026-01-01T00:00:00Z","cpu":1,"memory":2,"ephemeralStorage":3,"gpu":0}}]}"#;

/// The command, without the environment variables that affect it.
fn broadside(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_broadside"));
    for variable in ["BROADSIDE_POSTGRES_URL", "BROADSIDE_CLICKHOUSE_URL", "BROADSIDE_LOG"] {
        command.env_remove(variable);
    }
    command.args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    broadside(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Runs `broadside replay -` with the given standard input.
fn replay(input: &[u8]) -> Output {
    run_with_input(&["replay", "-"], input)
}

fn run_with_input(arguments: &[&str], input: &[u8]) -> Output {
    let mut child =
        broadside(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// Writes a file that no other test uses.
fn file(name: &str, text: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn responses(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn responses_are_printed_in_order_one_per_line() {
    let input = format!(
        "# a comment\n{INITIALISE}\n\n{CLOCK}\n{JOB}\n{}",
        r#"{"op":"getJobGroups","groupedField":{"field":"state"}}"#
    );
    let output = replay(input.as_bytes());
    assert_eq!(stderr(&output), "");
    assert_eq!(code(&output), 0);
    let groups = json!({ "ok": [{ "name": "QUEUED", "count": 1, "aggregates": {} }] });
    assert_eq!(responses(&output), [json!({ "ok": null }), json!({ "ok": null }), json!({ "ok": null }), groups]);
}

#[test]
fn differences_are_reported_with_their_line_and_do_not_stop_the_scenario() {
    let input = format!("{INITIALISE}\n{}\n{CLOCK}\n", r#"{"op":"getJobs","expect":{"ok":[1]}}"#);
    let output = replay(input.as_bytes());
    assert_eq!(code(&output), 1);
    assert_eq!(responses(&output).len(), 3);
    let errors = stderr(&output);
    assert!(errors.starts_with("<stdin>:2: "), "{errors}");
    assert!(errors.contains(r#"expected {"ok":[1]}"#) && errors.contains(r#"got      {"ok":[]}"#), "{errors}");
    assert!(!errors.contains('\u{1b}'), "colours without a terminal: {errors:?}");
}

#[test]
fn a_file_with_an_invalid_line_is_not_executed() {
    for bad in [r#"{"op":"nonsense"}"#, r#"{"op":"getJobSpec"}"#, "{", "7", r#"{"op":"setClock","now":"yesterday"}"#] {
        let output = replay(format!("{CLOCK}\n\n{bad}\n").as_bytes());
        assert_eq!(code(&output), 2, "{bad}");
        assert_eq!(stdout(&output), "", "{bad}");
        assert!(stderr(&output).contains("<stdin>:3: "), "{bad}: {}", stderr(&output));
    }
    assert_eq!(code(&replay(b"\xff\xfe\n")), 2);
}

#[test]
fn invalid_arguments_are_an_error_response() {
    let output = replay(br#"{"op":"getJobs","filters":[{"field":"nonsense","match":"exact","value":1}]}"#);
    assert_eq!(code(&output), 0);
    assert_eq!(responses(&output)[0]["error"]["kind"], "invalidArgument");
}

#[test]
fn each_file_has_a_separate_store() {
    let first = file("own-store-1.jsonl", INITIALISE);
    let second = file("own-store-2.jsonl", r#"{"op":"getJobs"}"#);
    let output = run(&["replay", &first, &second]);
    assert_eq!(code(&output), 0);
    assert_eq!(responses(&output)[0], json!({ "ok": null }));
    assert_eq!(responses(&output)[1]["error"]["kind"], "notInitialised");
}

#[test]
fn all_files_are_executed_and_the_highest_exit_code_is_returned() {
    let good = file("worst-good.jsonl", CLOCK);
    let different = file("worst-different.jsonl", r#"{"op":"setClock","now":"2026-01-01T00:00:00Z","expect":null}"#);
    let missing = file("worst-missing.jsonl", "");
    std::fs::remove_file(&missing).unwrap();
    assert_eq!(code(&run(&["replay", &good])), 0);
    assert_eq!(code(&run(&["replay", &good, &different])), 1);
    let output = run(&["replay", &missing, &different, &good]);
    assert_eq!(code(&output), 2);
    assert_eq!(responses(&output).len(), 2);
    assert!(stderr(&output).contains("worst-missing.jsonl: "), "{}", stderr(&output));
    assert!(stderr(&output).contains("worst-different.jsonl:1: "), "{}", stderr(&output));
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let many = format!("{CLOCK}\n").repeat(20_000);
    let path = file("reader-goes-away.jsonl", &many);
    let mut child = broadside(&["replay", &path]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 11];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, br#"{"ok":null}"#);
    let output = child.wait_with_output().unwrap();
    assert_eq!(stderr(&output), "");
    assert_eq!(code(&output), 0);
}

#[test]
fn usage_errors_exit_with_2() {
    for (arguments, explanation) in [
        (vec![], "Usage"),
        (vec!["replay"], "FILE"),
        (vec!["replay", "--backend", "mongodb", "-"], "names no backend"),
        (vec!["smoke", "--jobs", "many"], "--jobs"),
        (vec!["sql", "--format", "parquet", "SELECT 1"], "--out"),
        (vec!["sql", "--format", "arrow", "--out", "f", "-c", "SELECT 1", "-c", "SELECT 2"], "only one query"),
        (vec!["sql", "--out", "f"], "query"),
        (vec!["sql", "--scenario", "-"], "query"),
        (vec!["sql", ";"], "empty"),
    ] {
        let output = run(&arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert!(stderr(&output).contains(explanation), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn help_lists_the_exit_codes_of_each_command() {
    for command in ["", "replay", "smoke", "compare", "sql", "explain", "clean"] {
        let arguments: Vec<_> = command.split_whitespace().chain(["--help"]).collect();
        let output = run(&arguments);
        assert_eq!(code(&output), 0, "{arguments:?}");
        assert!(stdout(&output).contains("Exit codes"), "{arguments:?}");
    }
}

#[test]
fn the_error_of_a_missing_address_has_the_variable() {
    for (backend, variable) in [("postgres", "BROADSIDE_POSTGRES_URL"), ("clickhouse", "BROADSIDE_CLICKHOUSE_URL")] {
        let output = run(&["replay", "--backend", backend, "-"]);
        assert_eq!(code(&output), 2, "{backend}");
        assert!(stderr(&output).contains(variable), "{}", stderr(&output));
    }
}

#[test]
fn verbose_logs_each_call_to_standard_error() {
    let scenario = file("verbose.jsonl", &format!("{INITIALISE}\n{JOB}\n{}\n", r#"{"op":"getJobSpec","jobId":"j"}"#));
    let quiet = run(&["replay", &scenario]);
    assert_eq!(stderr(&quiet), "");
    let calls = run(&["-v", "replay", &scenario]);
    assert_eq!(calls.stdout, quiet.stdout);
    let lines = stderr(&calls);
    assert_eq!(lines.lines().count(), 6, "{lines}");
    for part in [
        "created a scratch store",
        "operation=InitialiseSchema backend=memory",
        "operation=ExecuteIngestionQueryBatch",
        "kind=NotFound",
    ] {
        assert!(lines.contains(part), "no {part:?} in {lines}");
    }
    assert!(!lines.contains('\u{1b}'), "colours without a terminal: {lines:?}");
    let arguments = stderr(&run(&["replay", "-vv", &scenario]));
    assert!(arguments.contains(r#"job_id="j""#) && arguments.contains("queries=1"), "{arguments}");
}

#[test]
fn the_environment_sets_the_filter_of_events() {
    let scenario = file("filter.jsonl", INITIALISE);
    let filtered =
        |filter: &str| broadside(&["-v", "replay", &scenario]).env("BROADSIDE_LOG", filter).output().unwrap();
    assert_eq!(stderr(&filtered("warn")), "");
    assert_eq!(stderr(&filtered("broadside::postgres=trace")), "");
    let calls = stderr(&filtered("broadside::traced=debug"));
    assert!(calls.contains("InitialiseSchema") && !calls.contains("scratch store"), "{calls}");
    let invalid = filtered("broadside=loud");
    assert_eq!(code(&invalid), 2);
    assert!(stderr(&invalid).contains("BROADSIDE_LOG"), "{}", stderr(&invalid));
}

#[test]
fn only_reads_are_explained() {
    for (arguments, explanation) in [
        (vec![r#"{"op":"tearDown"}"#], "not a read"),
        (vec![r#"{"op":"getJobs","take":-1}"#], "the call: "),
        (vec!["--existing", r#"{"op":"getJobs"}"#], "--existing"),
        (vec!["--scenario", "-", "-"], "standard input"),
        (vec!["no-such-calls.jsonl"], "no-such-calls.jsonl"),
    ] {
        let output = run(&[vec!["explain"], arguments.clone()].concat());
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert_eq!(stdout(&output), "", "{arguments:?}");
        assert!(stderr(&output).contains(explanation), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn clean_requires_a_backend_and_a_valid_duration() {
    for arguments in [vec!["clean"], vec!["clean", "--backend", "memory", "--older-than", "soon"]] {
        assert_eq!(code(&run(&arguments)), 2, "{arguments:?}");
    }
    let output = run(&["clean", "--backend", "memory"]);
    assert_eq!(code(&output), 0);
    assert_eq!(stdout(&output), "No scratch store on memory is older than 1d.\n");
}

#[test]
fn smoke_passes_on_the_memory_engine() {
    let output = run(&["smoke", "--jobs", "500"]);
    assert_eq!(stderr(&output), "");
    assert_eq!(code(&output), 0);
    let table = stdout(&output);
    for part in ["memory, 500 jobs", "scenarios", "checked", "passed", "rows", "p50", "p95", "p99", "job spec"] {
        assert!(table.contains(part), "no {part:?} in\n{table}");
    }
}
