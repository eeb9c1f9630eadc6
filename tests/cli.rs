//! The `broadside` command as a user meets it: exit codes, standard output and error.

#![cfg(feature = "cli")]

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

const INITIALISE: &str = r#"{"op":"initialiseSchema"}"#;
const CLOCK: &str = r#"{"op":"setClock","now":"2026-01-01T00:00:00Z","expect":{"ok":null}}"#;
const JOB: &str = r#"{"op":"ingest","queries":[{"type":"insertJob","job":{"jobId":"j","queue":"q","jobSet":"s","owner":"o","priority":1,"submitted":"2026-01-01T00:00:00Z","cpu":1,"memory":2,"ephemeralStorage":3,"gpu":0}}]}"#;

/// The command, without the addresses that the environment may hold.
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

/// `broadside replay -` with this on standard input.
fn replay(input: &[u8]) -> Output {
    run_with_input(&["replay", "-"], input)
}

fn run_with_input(arguments: &[&str], input: &[u8]) -> Output {
    let mut child =
        broadside(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// A scenario file that no other test has.
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
fn responses_come_one_a_line_and_in_order() {
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
fn a_difference_is_shown_with_its_place_and_the_rest_still_runs() {
    let input = format!("{INITIALISE}\n{}\n{CLOCK}\n", r#"{"op":"getJobs","expect":{"ok":[1]}}"#);
    let output = replay(input.as_bytes());
    assert_eq!(code(&output), 1);
    assert_eq!(responses(&output).len(), 3);
    let shown = stderr(&output);
    assert!(shown.starts_with("<stdin>:2: "), "{shown}");
    assert!(shown.contains(r#"expected {"ok":[1]}"#) && shown.contains(r#"got      {"ok":[]}"#), "{shown}");
    assert!(!shown.contains('\u{1b}'), "colours outside a terminal: {shown:?}");
}

#[test]
fn a_file_with_an_invalid_line_does_not_run_at_all() {
    for bad in [r#"{"op":"nonsense"}"#, r#"{"op":"getJobSpec"}"#, "{", "7", r#"{"op":"setClock","now":"yesterday"}"#] {
        let output = replay(format!("{CLOCK}\n\n{bad}\n").as_bytes());
        assert_eq!(code(&output), 2, "{bad}");
        assert_eq!(stdout(&output), "", "{bad}");
        assert!(stderr(&output).contains("<stdin>:3: "), "{bad}: {}", stderr(&output));
    }
    assert_eq!(code(&replay(b"\xff\xfe\n")), 2);
}

#[test]
fn bad_arguments_of_a_valid_call_are_a_response() {
    let output = replay(br#"{"op":"getJobs","filters":[{"field":"nonsense","match":"exact","value":1}]}"#);
    assert_eq!(code(&output), 0);
    assert_eq!(responses(&output)[0]["error"]["kind"], "invalidArgument");
}

#[test]
fn every_file_has_a_store_of_its_own() {
    let first = file("own-store-1.jsonl", INITIALISE);
    let second = file("own-store-2.jsonl", r#"{"op":"getJobs"}"#);
    let output = run(&["replay", &first, &second]);
    assert_eq!(code(&output), 0);
    assert_eq!(responses(&output)[0], json!({ "ok": null }));
    assert_eq!(responses(&output)[1]["error"]["kind"], "notInitialised");
}

#[test]
fn the_worst_file_decides_the_exit_code_and_all_files_run() {
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
fn a_reader_that_goes_away_is_no_failure() {
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
fn wrong_use_is_explained_and_ends_with_2() {
    for (arguments, explanation) in [
        (vec![], "Usage"),
        (vec!["replay"], "FILE"),
        (vec!["replay", "--backend", "mongodb", "-"], "names no backend"),
        (vec!["smoke", "--jobs", "many"], "--jobs"),
        (vec!["sql", "--format", "parquet", "SELECT 1"], "--out"),
        (vec!["sql", "--format", "arrow", "--out", "f", "-c", "SELECT 1", "-c", "SELECT 2"], "one query"),
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
fn help_tells_the_exit_codes_of_every_command() {
    for command in ["", "replay", "smoke", "compare", "sql", "explain", "clean"] {
        let arguments: Vec<_> = command.split_whitespace().chain(["--help"]).collect();
        let output = run(&arguments);
        assert_eq!(code(&output), 0, "{arguments:?}");
        assert!(stdout(&output).contains("Exit codes"), "{arguments:?}");
    }
}

#[cfg(all(feature = "postgres", feature = "clickhouse"))]
#[test]
fn a_backend_without_an_address_names_the_variable() {
    for (backend, variable) in [("postgres", "BROADSIDE_POSTGRES_URL"), ("clickhouse", "BROADSIDE_CLICKHOUSE_URL")] {
        let output = run(&["replay", "--backend", backend, "-"]);
        assert_eq!(code(&output), 2, "{backend}");
        assert!(stderr(&output).contains(variable), "{}", stderr(&output));
    }
}

#[cfg(all(feature = "postgres", feature = "clickhouse"))]
#[test]
fn a_backend_that_is_not_there_ends_with_2_and_no_password_shows() {
    // Port 1 answers nobody.
    for backend in ["postgres://u:hunter2@127.0.0.1:1/d?sslmode=disable", "clickhouse+http://u:hunter2@127.0.0.1:1/d"] {
        let output = run(&["-vvv", "replay", "--backend", backend, "-"]);
        assert_eq!(code(&output), 2, "{backend}");
        assert!(!stderr(&output).is_empty());
        assert!(!stderr(&output).contains("hunter2"), "{}", stderr(&output));
    }
}

/// What a user may type by mistake for an address with the password hunter2, as the arguments of one command.
#[cfg(all(feature = "postgres", feature = "clickhouse"))]
const MISTYPED: [&[&str]; 27] = [
    &["--backend=postgres:/u:hunter2@h/d"],
    &["--backend=u:hunter2@h:5432/d"],
    &["--backend=clickhouse+http:/u:hunter2@h/d"],
    &["--backend=postgres:u:hunter2@h/d?sslmode=disable"],
    &["--backend=password=my hunter2 host=h"],
    &["--backend=password='hunter2"],
    &["--backend", "hunter2"],
    &["--backend", "hunter2://u@h"],
    &["--backend", "hunter2=1"],
    &["--backend", "postgre://u:hunter2@h/d"],
    &["--backend", "POSTGRES://u:hunter2@h/d"],
    &["--backend", "postgres://u:hun@ter2@h/d"],
    &["--backend", "postgres://u:12/hunter2@h/d?port=x"],
    &["--backend", "postgres://u@h:hunter2/d"],
    &["--backend", "postgres://u:100%hunter2@h"],
    &["--backend", "postgres://u@h/d?password=x&hunter2"],
    &["--backend", "postgres://u@h/d?password=x&hunter2=y"],
    &["--backend", "postgres://u@h/d?pool_size=hunter2"],
    &["--backend", "clickhouse+http://u:hun@ter2@h/d"],
    &["--backend", "clickhouse+https://u:12/hunter2@h/d"],
    &["--backend", "clickhouse+http://h/d?timeout=hunter2"],
    &["--backend", "clickhouse+http://h/d?hunter2=1"],
    // Without quotes an address with a blank is several arguments.
    &["--backend", "password=my", "hunter2", "host=h"],
    &["--backend", "host=h", "postgres://u:hunter2@h/d"],
    &["--backend", "memory", "--hunter2"],
    &["--backend", "memory", "--password=hunter2"],
    &["postgres://u:hunter2@h/d"],
];

/// Looks for the password and any four characters of it, save those of `keepalives_interval`.
#[cfg(all(feature = "postgres", feature = "clickhouse"))]
fn shows_no_password(output: &Output, of: impl std::fmt::Debug) {
    let shown = format!("{}{}", stdout(output), stderr(output)).to_lowercase();
    for part in ["hunt", "unte", "ter2"] {
        assert!(!shown.contains(part), "{of:?}: {shown}");
    }
}

#[cfg(all(feature = "postgres", feature = "clickhouse"))]
#[test]
fn no_mistyped_address_is_shown() {
    for command in ["replay", "smoke", "compare", "sql", "stats", "clean"] {
        for typed in MISTYPED {
            let output = run(&[&[command], typed].concat());
            assert_eq!(code(&output), 2, "{command} {typed:?}");
            assert!(stderr(&output).starts_with("error: "), "{command} {typed:?}: {}", stderr(&output));
            shows_no_password(&output, (command, typed));
        }
    }
    for arguments in [&["hunter2"][..], &["postgres://u:hunter2@h/d"], &["--hunter2"], &["smoke", "--jobs", "hunter2"]]
    {
        let output = run(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        shows_no_password(&output, arguments);
    }
}

#[cfg(all(feature = "postgres", feature = "clickhouse"))]
#[test]
fn no_address_of_the_environment_is_shown() {
    for (backend, variable) in [("postgres", "BROADSIDE_POSTGRES_URL"), ("clickhouse", "BROADSIDE_CLICKHOUSE_URL")] {
        for address in ["u:hunter2@h", "postgres://u:hun@ter2@h", "clickhouse+http://u:hunter2@h:x", "memory"] {
            let output = broadside(&["replay", "--backend", backend, "-"]).env(variable, address).output().unwrap();
            assert_eq!(code(&output), 2, "{address}");
            assert!(stderr(&output).contains(variable), "{address}: {}", stderr(&output));
            shows_no_password(&output, address);
        }
    }
    let output = broadside(&["replay", "--backend", "host=127.0.0.1", "-"]).env("PGPORT", "hunter2").output().unwrap();
    assert!(stderr(&output).contains("PGPORT: port must be"), "{}", stderr(&output));
    shows_no_password(&output, "PGPORT");
}

/// The address of the test server with other credentials; none if there is no server.
#[cfg(all(feature = "postgres", feature = "clickhouse"))]
fn server_with(variable: &str, credentials: &str) -> Option<String> {
    let Ok(address) = std::env::var(variable) else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{variable} is not set");
        return None;
    };
    let (scheme, rest) = address.split_once("://").unwrap();
    let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
    Some(format!("{scheme}://{credentials}{rest}"))
}

#[cfg(all(feature = "postgres", feature = "clickhouse"))]
#[test]
fn a_server_that_refuses_a_login_does_not_make_it_known() {
    for variable in ["BROADSIDE_POSTGRES_URL", "BROADSIDE_CLICKHOUSE_URL"] {
        for credentials in ["hunter2:x@", "u%3Ahunter2:x@", "u:hunter2@"] {
            let Some(address) = server_with(variable, credentials) else { return };
            let output = run(&["smoke", "--backend", &address]);
            assert_eq!(code(&output), 2, "{credentials}");
            assert!(stderr(&output).contains("the server refuses the user or the password"), "{}", stderr(&output));
            shows_no_password(&output, credentials);
        }
    }
}

#[cfg(all(unix, feature = "postgres", feature = "clickhouse"))]
#[test]
fn the_password_may_come_from_the_environment_or_the_password_file() {
    use std::os::unix::fs::PermissionsExt;

    let Some(without) = server_with("BROADSIDE_POSTGRES_URL", "broadside@") else { return };
    let address = std::env::var("BROADSIDE_POSTGRES_URL").unwrap();
    let (_, rest) = address.split_once("://broadside:").unwrap();
    let (password, _) = rest.split_once('@').unwrap();
    let scenario = file("password.jsonl", INITIALISE);
    let replay = || {
        let mut command = broadside(&["replay", "--backend", &without, &scenario]);
        command.env_remove("PGPASSWORD").env("HOME", "/nonexistent");
        command
    };
    assert_eq!(code(&replay().output().unwrap()), 2);
    assert_eq!(code(&replay().env("PGPASSWORD", password).output().unwrap()), 0);
    assert_eq!(code(&replay().env("PGPASSWORD", "hunter2").output().unwrap()), 2);
    let passwords = file("pgpass", &format!("# the test server\n*:*:*:broadside:{password}\n"));
    for (mode, expected) in [(0o600, 0), (0o644, 2)] {
        std::fs::set_permissions(&passwords, std::fs::Permissions::from_mode(mode)).unwrap();
        let output = replay().env("PGPASSFILE", &passwords).output().unwrap();
        assert_eq!(code(&output), expected, "{mode:o}: {}", stderr(&output));
    }
}

#[test]
fn verbose_shows_each_call_and_is_silent_about_the_answers() {
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
    assert!(!lines.contains('\u{1b}'), "colours outside a terminal: {lines:?}");
    let arguments = stderr(&run(&["replay", "-vv", &scenario]));
    assert!(arguments.contains(r#"job_id="j""#) && arguments.contains("queries=1"), "{arguments}");
}

#[test]
fn a_filter_of_events_comes_from_the_environment() {
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
fn only_reads_of_a_store_are_explained() {
    for (arguments, explanation) in [
        (vec![r#"{"op":"tearDown"}"#], "reads nothing"),
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
fn clean_needs_a_backend_and_a_duration() {
    for arguments in [vec!["clean"], vec!["clean", "--backend", "memory", "--older-than", "soon"]] {
        assert_eq!(code(&run(&arguments)), 2, "{arguments:?}");
    }
    let output = run(&["clean", "--backend", "memory"]);
    assert_eq!(code(&output), 0);
    assert_eq!(stdout(&output), "No scratch store on memory is older than 1d.\n");
}

#[test]
fn smoke_passes_on_the_memory_engine_with_one_table() {
    let output = run(&["smoke", "--jobs", "500"]);
    assert_eq!(stderr(&output), "");
    assert_eq!(code(&output), 0);
    let table = stdout(&output);
    for part in ["memory, 500 jobs", "scenarios", "checked", "passed", "rows", "p50", "p95", "p99", "job spec"] {
        assert!(table.contains(part), "no {part:?} in\n{table}");
    }
}

#[test]
fn sql_prints_a_table_of_generated_jobs() {
    let output = run(&["sql", "--jobs", "300", "SELECT count(*) AS jobs, count(DISTINCT job_id) AS ids FROM job"]);
    assert_eq!(stderr(&output), "");
    assert_eq!(code(&output), 0);
    let words: Vec<_> = stdout(&output).split_whitespace().map(str::to_owned).collect();
    assert_eq!(words.iter().filter(|word| *word == "300").count(), 2, "{words:?}");
}

#[test]
fn sql_reads_what_a_scenario_made() {
    let scenario = file("sql.jsonl", &format!("{INITIALISE}\n{JOB}\n"));
    let output = run(&["sql", "--scenario", &scenario, "SELECT job_id, queue FROM job"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().nth(3), Some("| j      | q     |"), "{}", stdout(&output));
    let nothing = run(&["sql", "--scenario", &scenario, "SELECT queue FROM job WHERE queue = 'other'"]);
    assert!(stdout(&nothing).contains("queue"), "{}", stdout(&nothing));
    assert_eq!(code(&run(&["sql", "--scenario", &scenario, "EXPLAIN SELECT queue FROM job"])), 0);
}

#[test]
fn sql_only_reads_and_explains_what_it_cannot() {
    for query in ["SELECT nonsense FROM job", "DROP TABLE job", "INSERT INTO job_error VALUES ('j', 'e')", "gibberish"]
    {
        let output = run(&["sql", "--jobs", "1", query]);
        assert_eq!(code(&output), 2, "{query}");
        assert_eq!(stdout(&output), "", "{query}");
        assert!(stderr(&output).starts_with("error: "), "{query}: {}", stderr(&output));
    }
}

#[test]
fn sql_answers_several_queries_in_order() {
    let output =
        run(&["sql", "--jobs", "1", "--format", "csv", "-c", "SELECT 1 AS a; SELECT ';' AS b", "-c", "SELECT 3 AS c;"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(stdout(&output), "a\n1\nb\n;\nc\n3\n");
    let failed = run(&["sql", "--jobs", "1", "--format", "csv", "SELECT 1 AS a; SELECT nonsense; SELECT 3 AS c"]);
    assert_eq!((code(&failed), stdout(&failed)), (2, "a\n1\n".to_owned()));
}

#[test]
fn sql_shows_the_calls_of_the_scenario_that_failed() {
    let calls = [
        JOB,
        INITIALISE,
        JOB,
        r#"{"op":"getJobError","jobId":"j"}"#,
        r#"{"op":"getJobError","jobId":"j","expect":{"error":{"kind":"notFound","message":"GetJobError: no error for job \"j\""}}}"#,
        r#"{"op":"getJobs","expect":{"ok":[]}}"#,
    ];
    let scenario = file("sql-failed-calls.jsonl", &calls.join("\n"));
    let output = run(&["sql", "--scenario", &scenario, "--format", "csv", "SELECT count(*) AS jobs FROM job"]);
    assert_eq!((code(&output), stdout(&output)), (0, "jobs\n1\n".to_owned()));
    let shown = stderr(&output);
    let lines: Vec<&str> = shown.lines().filter(|line| line.contains("sql-failed-calls.jsonl:")).collect();
    assert_eq!(lines.len(), 3, "{shown}");
    assert!(lines[0].contains(":1: ") && lines[0].contains("InitialiseSchema"), "{shown}");
    assert!(lines[1].contains(":4: ") && lines[1].contains("no error"), "{shown}");
    assert!(lines[2].contains(":6: ") && lines[2].contains("differs"), "{shown}");
}

/// A job without a namespace, and with an empty annotation.
fn nulls_and_empties() -> String {
    let job = JOB.replace(r#""gpu":0"#, r#""gpu":0,"annotations":{"k":""}"#);
    file("sql-nulls.jsonl", &format!("{INITIALISE}\n{job}\n"))
}

const NULLS: &str = "SELECT namespace AS n, annotations['k'] AS e, annotations AS m, submitted AS t FROM job";

#[test]
fn sql_tells_a_null_from_an_empty_text() {
    let scenario = nulls_and_empties();
    let formatted = |format| stdout(&run(&["sql", "--scenario", &scenario, "--format", format, NULLS]));
    let table = formatted("table");
    let cells: Vec<_> = table.lines().nth(3).unwrap().split('|').map(str::trim).collect();
    assert_eq!(cells[1..5], ["NULL", "", "{k: }", "2026-01-01T00:00:00"]);
    assert_eq!(formatted("csv"), "n,e,m,t\n,,\"{\"\"k\"\":\"\"\"\"}\",2026-01-01T00:00:00\n");
    let json: Value = serde_json::from_str(&formatted("json")).unwrap();
    assert_eq!(json, json!({ "n": null, "e": "", "m": { "k": "" }, "t": "2026-01-01T00:00:00" }));
}

#[test]
fn sql_writes_parquet_and_arrow_that_others_can_read() {
    let scenario = nulls_and_empties();
    let path = |name: &str| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let write = |format: &str, query: &str| {
        let path = path(&format!("sql-export.{format}"));
        let output = run(&["sql", "--scenario", &scenario, "--format", format, "--out", path.to_str().unwrap(), query]);
        assert_eq!((code(&output), stderr(&output), stdout(&output)), (0, String::new(), String::new()));
        std::fs::File::open(path).unwrap()
    };
    let parquet = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(write("parquet", NULLS));
    let from_parquet: Vec<_> = parquet.unwrap().build().unwrap().map(Result::unwrap).collect();
    let arrow = arrow::ipc::reader::FileReader::try_new(write("arrow", NULLS), None);
    let from_arrow: Vec<_> = arrow.unwrap().map(Result::unwrap).collect();
    for batches in [from_parquet, from_arrow] {
        assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1);
        let schema = batches[0].schema();
        let types: Vec<_> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
        assert_eq!(types[0], arrow::datatypes::DataType::LargeUtf8);
        assert!(matches!(types[2], arrow::datatypes::DataType::Map(..)), "{types:?}");
        assert_eq!(types[3], arrow::datatypes::DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None));
        assert!(arrow::array::Array::is_null(batches[0].column(0), 0));
        assert!(arrow::array::Array::is_valid(batches[0].column(1), 0));
    }
    // Whole tables, and an answer without rows.
    for table in ["job", "job_run", "job_spec", "job_error"] {
        for format in ["parquet", "arrow"] {
            write(format, &format!("SELECT * FROM {table}"));
        }
    }
}

#[test]
fn sql_replaces_a_file_only_by_a_whole_answer() {
    let path = file("sql-kept.csv", "before");
    let query = "SELECT 1 / (cpu - cpu) FROM job";
    let output = run(&["sql", "--jobs", "1", "--format", "csv", "--out", &path, query]);
    assert_eq!(code(&output), 2);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "before");
    assert!(!PathBuf::from(format!("{path}.part")).exists());
}

#[test]
fn sql_without_a_query_reads_statements_from_standard_input() {
    let input = "-- a comment\nSELECT count(*) AS jobs\n  FROM job; SELECT 'a;b' AS t;\n\\timing\n\nSELECT 2 AS last";
    let output = run_with_input(&["sql", "--jobs", "3", "--format", "csv"], input.as_bytes());
    assert_eq!(stderr(&output), "");
    assert_eq!(code(&output), 0);
    let shown = stdout(&output);
    assert!(shown.starts_with("jobs\n3\nt\na;b\nTiming is on.\nlast\n2\n1 row, "), "{shown}");
    let tables = run_with_input(&["sql", "--jobs", "1"], b"\\d\n\\d job_error\n\\?\n\\q\nSELECT nonsense;\n");
    assert_eq!((code(&tables), stderr(&tables)), (0, String::new()));
    for part in ["job_spec", "error", "\\timing"] {
        assert!(stdout(&tables).contains(part), "{}", stdout(&tables));
    }
    for wrong in ["\\nonsense\nSELECT 1;", "\\d nonsense\nSELECT 1;", "SELECT nonsense;\nSELECT 1;"] {
        let output = run_with_input(&["sql", "--jobs", "1"], wrong.as_bytes());
        assert_eq!((code(&output), stdout(&output)), (2, String::new()), "{wrong}");
        assert!(stderr(&output).starts_with("error: "), "{}", stderr(&output));
    }
}
