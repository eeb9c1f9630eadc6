//! The command `sql`.

#[cfg(target_os = "linux")]
use std::fs::File;
use std::path::PathBuf;
#[cfg(target_os = "linux")]
use std::process::Command;

use serde_json::{Value, json};

use crate::{INITIALISE, JOB, code, file, run, run_with_input, stderr, stdout};

#[test]
fn sql_queries_generated_jobs() {
    let output = run(&["sql", "--jobs", "300", "SELECT count(*) AS jobs, count(DISTINCT job_id) AS ids FROM job"]);
    assert_eq!(stderr(&output), "");
    assert_eq!(code(&output), 0);
    let words: Vec<_> = stdout(&output).split_whitespace().map(str::to_owned).collect();
    assert_eq!(words.iter().filter(|word| *word == "300").count(), 2, "{words:?}");
}

#[test]
fn sql_queries_the_jobs_of_a_scenario() {
    let scenario = file("sql.jsonl", &format!("{INITIALISE}\n{JOB}\n"));
    let output = run(&["sql", "--scenario", &scenario, "SELECT job_id, queue FROM job"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().nth(3), Some("| j      | q     |"), "{}", stdout(&output));
    let nothing = run(&["sql", "--scenario", &scenario, "SELECT queue FROM job WHERE queue = 'other'"]);
    assert!(stdout(&nothing).contains("queue"), "{}", stdout(&nothing));
    assert_eq!(code(&run(&["sql", "--scenario", &scenario, "EXPLAIN SELECT queue FROM job"])), 0);
}

#[test]
fn sql_rejects_writes_and_invalid_queries() {
    for query in ["SELECT nonsense FROM job", "DROP TABLE job", "INSERT INTO job_error VALUES ('j', 'e')", "gibberish"]
    {
        let output = run(&["sql", "--jobs", "1", query]);
        assert_eq!(code(&output), 2, "{query}");
        assert_eq!(stdout(&output), "", "{query}");
        assert!(stderr(&output).starts_with("error: "), "{query}: {}", stderr(&output));
    }
}

#[test]
fn sql_executes_several_queries_in_order() {
    let output =
        run(&["sql", "--jobs", "1", "--format", "csv", "-c", "SELECT 1 AS a; SELECT ';' AS b", "-c", "SELECT 3 AS c;"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(stdout(&output), "a\n1\nb\n;\nc\n3\n");
    let failed = run(&["sql", "--jobs", "1", "--format", "csv", "SELECT 1 AS a; SELECT nonsense; SELECT 3 AS c"]);
    assert_eq!((code(&failed), stdout(&failed)), (2, "a\n1\n".to_owned()));
}

#[test]
fn sql_reports_failed_calls_of_the_scenario() {
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
    let errors = stderr(&output);
    let lines: Vec<&str> = errors.lines().filter(|line| line.contains("sql-failed-calls.jsonl:")).collect();
    assert_eq!(lines.len(), 3, "{errors}");
    assert!(lines[0].contains(":1: ") && lines[0].contains("InitialiseSchema"), "{errors}");
    assert!(lines[1].contains(":4: ") && lines[1].contains("no error"), "{errors}");
    assert!(lines[2].contains(":6: ") && lines[2].contains("differs"), "{errors}");
}

/// A job without a namespace, and with an empty annotation.
fn scenario_with_nulls() -> String {
    let job = JOB.replace(r#""gpu":0"#, r#""gpu":0,"annotations":{"k":""}"#);
    file("sql-nulls.jsonl", &format!("{INITIALISE}\n{job}\n"))
}

const NULLS: &str = "SELECT namespace AS n, annotations['k'] AS e, annotations AS m, submitted AS t FROM job";

#[test]
fn sql_distinguishes_nulls_from_empty_strings() {
    let scenario = scenario_with_nulls();
    let formatted = |format| stdout(&run(&["sql", "--scenario", &scenario, "--format", format, NULLS]));
    let table = formatted("table");
    let cells: Vec<_> = table.lines().nth(3).unwrap().split('|').map(str::trim).collect();
    assert_eq!(cells[1..5], ["NULL", "", "{k: }", "2026-01-01T00:00:00"]);
    assert_eq!(formatted("csv"), "n,e,m,t\n,,\"{\"\"k\"\":\"\"\"\"}\",2026-01-01T00:00:00\n");
    let json: Value = serde_json::from_str(&formatted("json")).unwrap();
    assert_eq!(json, json!({ "n": null, "e": "", "m": { "k": "" }, "t": "2026-01-01T00:00:00" }));
}

#[test]
fn sql_writes_valid_parquet_and_arrow_files() {
    let scenario = scenario_with_nulls();
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
    // All tables, some of which are empty.
    for table in ["job", "job_run", "job_spec", "job_error"] {
        for format in ["parquet", "arrow"] {
            write(format, &format!("SELECT * FROM {table}"));
        }
    }
}

#[test]
fn sql_numbers_repeated_names_and_writes_intervals_as_text() {
    let query = "SELECT 1 AS a, 2 AS a_2, 3 AS a, interval '1 day' AS i";
    let output = run(&["sql", "--jobs", "1", "--format", "json", query]);
    assert_eq!(stdout(&output), "{\"a\":1,\"a_2\":2,\"a_3\":3,\"i\":\"1 days\"}\n", "{}", stderr(&output));
    let csv = run(&["sql", "--jobs", "1", "--format", "csv", query]);
    assert_eq!(stdout(&csv), "a,a_2,a,i\n1,2,3,1 days\n");
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("sql-interval.parquet");
    let parquet = run(&["sql", "--jobs", "1", "--format", "parquet", "--out", path.to_str().unwrap(), query]);
    assert_eq!((code(&parquet), stderr(&parquet)), (0, String::new()));
    let file = std::fs::File::open(path).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let names: Vec<_> = reader.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["a", "a_2", "a_3", "i"]);
    let batch = reader.build().unwrap().next().unwrap().unwrap();
    assert_eq!(arrow::array::AsArray::as_string::<i64>(batch.column(3)).value(0), "1 days");
}

#[test]
fn sql_replaces_a_file_only_after_success() {
    let path = file("sql-kept.csv", "before");
    let other = file("sql-kept.csv.part", "of the user");
    let query = "SELECT 1 / (cpu - cpu) FROM job";
    let output = run(&["sql", "--jobs", "1", "--format", "csv", "--out", &path, query]);
    assert_eq!(code(&output), 2);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "before");
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "of the user");
}

#[test]
fn sql_without_a_query_reads_statements_from_standard_input() {
    let input = "-- a comment\nSELECT count(*) AS jobs\n  FROM job; SELECT 'a;b' AS t;\n\\timing\n\nSELECT 2 AS last";
    let output = run_with_input(&["sql", "--jobs", "3", "--format", "csv"], input.as_bytes());
    assert_eq!(stderr(&output), "");
    assert_eq!(code(&output), 0);
    let text = stdout(&output);
    assert!(text.starts_with("jobs\n3\nt\na;b\nTiming is on.\nlast\n2\n1 row, "), "{text}");
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

/// Waits for the command to end, and fails if it does not.
#[cfg(unix)]
fn end_of(mut child: std::process::Child) -> std::process::ExitStatus {
    for _ in 0..200 {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    child.kill().unwrap();
    panic!("the command does not end");
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_ends_sql() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    let endless = "SELECT count(*) FROM job a, job b, job c, job d WHERE a.cpu + b.cpu + c.cpu + d.cpu < 0";
    let series = "SELECT value FROM generate_series(1, 1000000000000)";
    for queries in [["SELECT 1", endless], [series, "SELECT 1"]] {
        for format in ["table", "csv"] {
            let mut child = Command::new(env!("CARGO_BIN_EXE_broadside"))
                .args(["sql", "--jobs", "2000", "--format", format, "-c", queries[0], "-c", queries[1]])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_ne!(line, "");
            assert_eq!(end_of(child).code(), Some(0), "{queries:?}");
        }
    }
}

/// The address space is limited: an allocation fails instead of a process.
#[cfg(target_os = "linux")]
#[test]
fn sql_beyond_the_memory_of_the_process_is_an_error() {
    let run = |limit: u64, query: &str| {
        let command = format!("ulimit -v {limit}; exec timeout 300 \"$0\" sql --jobs 1000 \"$1\"");
        Command::new("sh").args(["-c", &command, env!("CARGO_BIN_EXE_broadside"), query]).output().unwrap()
    };
    for (query, message) in [
        ("SELECT array_agg(value) FROM generate_series(1, 1000000000)", "--memory"),
        ("SELECT value, sum(value) OVER () FROM generate_series(1, 1000000000)", "--memory"),
        (
            "SELECT count(*) FROM generate_series(1, 1000000000) a JOIN generate_series(1, 1000000000) b USING (value)",
            "--memory",
        ),
    ] {
        let output = run(2 << 20, query);
        assert_eq!(code(&output), 2, "{query}: {}", stderr(&output));
        assert!(stderr(&output).contains(message) && stderr(&output).lines().count() == 1, "{}", stderr(&output));
    }
    // Depending on the machine, the threads of the command or those of the statement cannot start.
    for limit in (1_200_000..1_400_000).step_by(10_000) {
        let output = run(limit, "SELECT 1");
        let message = stderr(&output);
        let refused = code(&output) == 2 && message.lines().count() == 1 && message.contains("thread");
        assert!(refused || code(&output) == 0, "{limit}: {message}");
    }
}

#[test]
fn long_tables_have_the_widths_of_their_first_rows_at_least() {
    let wide = "x".repeat(30);
    let query = format!(
        "SELECT value AS v, CASE value WHEN 19999 THEN '{wide}' ELSE 'y' END AS t FROM generate_series(1, 20000)"
    );
    let output = run(&["sql", "--jobs", "1", &query]);
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((code(&output), lines.len()), (0, 20_004));
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    assert_eq!(cells(lines[1]), ["", "v", "t", ""]);
    for (row, line) in lines[3..20_003].iter().enumerate() {
        let text = if row + 1 == 19_999 { &wide } else { "y" };
        assert_eq!(cells(line), ["", &(row + 1).to_string(), text, ""]);
    }
    assert_eq!(lines[0], "+------+---+");
    assert!(lines[20_003].starts_with("+-------+-----") && lines[20_003].len() == lines[20_002].len());
}

#[test]
fn the_shell_understands_the_commands_of_other_shells() {
    let out = file("shell-output.txt", "");
    let input = format!(
        ".tables\n\\dt\n\\h\nhelp\n\\format json\nSELECT 1 AS a;\n\\pset format csv\nSELECT 'x  \n  y' AS b;\n\
         \\o {out}\nSELECT 2 AS c;\n\\o\nSELECT 3 AS d;\n.mode table\n\\x\nSELECT 4 AS e, NULL AS longer;\nexit\nSELECT"
    );
    let output = run_with_input(&["sql", "--jobs", "1", "--format", "csv"], input.as_bytes());
    assert_eq!((code(&output), stderr(&output)), (0, String::new()));
    let text = stdout(&output);
    let tables = "table_name\njob\njob_error\njob_run\njob_spec\n";
    assert!(text.starts_with(&tables.repeat(2)), "{text}");
    // A literal keeps its blanks.
    let results = "{\"a\":1}\nb\n\"x  \n  y\"\nd\n3\n-[ RECORD 1 ]-\ne      | 4\nlonger | NULL\n";
    assert!(text.ends_with(results), "{text}");
    assert_eq!(std::fs::read_to_string(out).unwrap(), "c\n2\n");
}

/// The shell reads a line at a time.
#[test]
fn a_comment_may_precede_a_statement_over_several_lines() {
    let input = "/* a header;\n   of two lines */\nSELECT 1 AS x; /* one;\n two */ SELECT 2 AS y";
    let output = run_with_input(&["sql", "--jobs", "1", "--format", "csv"], input.as_bytes());
    assert_eq!((stdout(&output), stderr(&output)), ("x\n1\ny\n2\n".to_owned(), String::new()));
}

#[test]
fn an_error_has_its_position_once() {
    for (query, position) in [
        ("SELEC 1", "Line: 1, Column: 1"),
        ("SELECT queue,\n  nonsense FROM job", "Line: 2, Column: 3"),
        ("SELECT 1 FROM jobs", "Line: 1, Column: 15"),
        ("SELECT 'open", "Line: 1, Column: 8"),
        ("SELECT 1; SELECT 2 FROM jobs", "Line: 1, Column: 25"),
        ("SELECT 1;\n-- a comment\n\n  SELECT\n nonsense FROM job;\nSELECT 2", "Line: 5, Column: 2"),
        ("SELECT 1; SELECT 2 AS a, '\u{e9}\n'\n , 3; CHOOSE 4;", "Line: 3, Column: 7"),
    ] {
        for output in [run(&["sql", "--jobs", "1", query]), run_with_input(&["sql", "--jobs", "1"], query.as_bytes())] {
            assert_eq!(code(&output), 2, "{query}");
            assert_eq!(stderr(&output).matches("Line: ").count(), 1, "{}", stderr(&output));
            assert!(stderr(&output).contains(position), "{}", stderr(&output));
        }
    }
    let input = "\n\\timing\nSELECT 1 AS a,\n\\timing\n  nonsense FROM job;";
    let output = run_with_input(&["sql", "--jobs", "1"], input.as_bytes());
    assert!(stderr(&output).contains("Line: 5, Column: 3"), "{}", stderr(&output));
}

#[test]
fn a_command_of_psql_may_stand_between_the_lines_of_a_statement() {
    let input =
        "SELECT 1 AS a,\n\\format json\n2 AS b;\nSELECT '\n\\q\n' AS c;\nSELECT /*\n\\q\n*/ 3 AS d;\nSELECT\n\\q\n4;";
    let output = run_with_input(&["sql", "--jobs", "1"], input.as_bytes());
    assert_eq!((code(&output), stderr(&output)), (0, String::new()));
    assert_eq!(stdout(&output), "{\"a\":1,\"b\":2}\n{\"c\":\"\\n\\\\q\\n\"}\n{\"d\":3}\n");
}

#[test]
fn a_small_memory_budget_is_named_in_bytes() {
    for (memory, named) in [("1K", "budget of 1024 bytes:"), ("12k", "budget of 12 KiB:")] {
        let output = run(&["sql", "--jobs", "100", "--memory", memory, "SELECT job_id FROM job ORDER BY cpu % 7"]);
        assert_eq!(code(&output), 2);
        assert!(stderr(&output).contains(named), "{}", stderr(&output));
    }
}

/// The line editor changes the settings of the terminal while it reads.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_at_the_prompt_restores_the_terminal() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{LocalModes, tcgetattr};

    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let path = ptsname(&controller, Vec::new()).unwrap().into_string().unwrap();
    let terminal = File::options().read(true).write(true).open(path).unwrap();
    let stream = || terminal.try_clone().unwrap();
    let modes = || tcgetattr(&terminal).unwrap();
    let before = modes();
    assert!(before.local_modes.contains(LocalModes::ECHO));
    for signal in ["TERM", "HUP"] {
        let mut child = Command::new("env")
            .args(["--default-signal=TERM,HUP", env!("CARGO_BIN_EXE_broadside"), "sql", "--jobs", "1"])
            .env("TERM", "xterm")
            .env("HOME", env!("CARGO_TARGET_TMPDIR"))
            .stdin(stream())
            .stdout(stream())
            .stderr(stream())
            .spawn()
            .unwrap();
        while modes().local_modes.contains(LocalModes::ECHO) {
            assert!(child.try_wait().unwrap().is_none(), "the shell has ended");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        let after = modes();
        assert_eq!((after.local_modes, after.input_modes), (before.local_modes, before.input_modes), "{signal}");
    }
}
