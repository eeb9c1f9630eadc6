//! Tests of the command `broadside report`.

use crate::support::run;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use broadside::load::RunRecord;
use broadside::load::record::{ObjectiveRecord, RateSearchRecord};

/// A separate directory for a test.
fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("report").join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn written(directory: &Path, name: &str, record: &RunRecord) -> String {
    let path = directory.join(name);
    std::fs::write(&path, record.to_json().unwrap()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Runs `broadside report`.
fn report(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_broadside"));
    command.arg("report").args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The report of the runs.
fn page(name: &str, records: &[RunRecord]) -> String {
    let (html, output) = page_and_output(name, records);
    assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
    html
}

fn page_and_output(name: &str, records: &[RunRecord]) -> (String, Output) {
    let directory = directory(name);
    let out = directory.join("report.html");
    let files: Vec<_> =
        records.iter().enumerate().map(|(at, record)| written(&directory, &format!("{at}.json"), record)).collect();
    let mut arguments: Vec<&str> = files.iter().map(String::as_str).collect();
    arguments.extend(["--out", out.to_str().unwrap()]);
    let output = report(&arguments);
    (std::fs::read_to_string(out).unwrap(), output)
}

#[test]
fn a_report_has_all_charts_and_tables() {
    let html = page("two", &[run::record("memory", 80.0), run::record("postgres", 900.0)]);
    let kinds = ["Ingestion", "GetJobs", "GetJobGroups", "GetJobSpec", "GetJobRunError", "GetJobRunDebugMessage"];
    for kind in kinds {
        for chart in ["latency by percentile", "latency over time", "rate, ", "backlog, "] {
            let label = format!("aria-label=\"{kind}: {chart}");
            assert_eq!(html.matches(&label).count(), 1, "{label}");
        }
    }
    let activity = [
        "WAL, bytes per second",
        "Sessions waiting for locks (thin: autovacuum workers)",
        "Size of the store (thin: indexes)",
        "CPU of the driver, cores (thin: load generator)",
    ];
    for chart in activity {
        assert_eq!(html.matches(&format!("aria-label=\"{chart}\"")).count(), 1, "{chart}");
    }
    assert_eq!(
        html.matches("<svg").count(),
        4 * kinds.len() + 1 + activity.len(),
        "statistics that are 0 have no chart"
    );
    assert!(html.contains("aria-label=\"All calls: errors per second\""));
    for text in
        ["Jobs annotations", "Jobs deep_<wbr>offset", "batch", "p50 ÷", "reprioritise", "warm-up", "page.p99 &lt; 50ms"]
    {
        assert!(html.contains(text), "{text}");
    }
    assert!(html.contains("&lt;after 1 s&gt; &amp; retried"), "the text of an error must be escaped");
    for guide in [
        "Latency by percentile</strong>",
        "Latency over time</strong>",
        "Rate</strong>",
        "Backlog</strong>",
        "Errors</strong>",
    ] {
        assert!(html.contains(guide), "{guide}");
    }
    assert!(!html.contains("role=\"alert\""));
}

/// The chart with a caption.
fn chart<'a>(html: &'a str, caption: &str) -> &'a str {
    let from = html.find(&format!("aria-label=\"{caption}\"")).unwrap();
    html[from..].split("</figure>").next().unwrap()
}

#[test]
fn the_activity_has_gaps_rates_and_marks() {
    let mut record = run::record("postgres", 900.0);
    record.activity_problems.push("the user may not read <pg_stat_io>".to_owned());
    let html = page("activity", &[record]);
    let wal = chart(&html, "WAL, bytes per second");
    // The increments of a second; those after the stall are of three seconds. The stall interrupts the line.
    assert_eq!((wal.matches("3MB").count(), wal.matches("4MB").count()), (1, 0), "{wal}");
    assert_eq!(wal.matches("stroke-width=\"2\"").count(), 2, "{wal}");
    let cpu = chart(&html, "CPU of the driver, cores (thin: load generator)");
    assert_eq!((cpu.matches("stroke-width=\"2\"").count(), cpu.contains("0.4")), (1, true), "{cpu}");
    assert!(chart(&html, "Ingestion: latency over time").contains("checkpoint"));
    // There are more vacuums than marks of a kind.
    assert!(!chart(&html, "Ingestion: latency over time").contains("vacuum"));
    assert!(html.contains("the user may not read &lt;pg_stat_io&gt;"));
}

#[test]
fn a_report_has_no_external_references() {
    let html = page("alone", &[run::record("memory", 80.0)]);
    for reference in ["<script", "src=", "@import", "url(", "href=\"http", "href=\"/"] {
        assert!(!html.contains(reference), "{reference}");
    }
    assert!(html.contains("default-src 'none'"));
    assert!(!html.contains("id=\"differences\""), "a single run has no differences");
}

#[test]
fn differences_between_configurations_are_listed() {
    let first = run::record("memory", 80.0);
    let mut second = run::record("memory", 90.0);
    second.configuration["ingestionConfig"]["batchSize"] = 500.into();
    second.store.settings.insert("shared_buffers".to_owned(), "1GB".to_owned());
    let html = page("differences", &[first, second]);
    let table = html.split("id=\"differences\"").nth(1).unwrap().split("</table>").next().unwrap();
    for text in ["ingestionConfig.batchSize", "<td>1000</td><td>500</td>", "server.shared_buffers", "memory 2"] {
        assert!(table.contains(text), "{text}: {table}");
    }
    assert!(!table.contains("numWorkers"), "{table}");
    let html = page("same", &[run::record("memory", 80.0), run::record("memory", 80.0)]);
    assert!(html.contains("The runs have the same configuration"));
}

#[test]
fn unreliable_runs_are_marked_at_the_top() {
    let mut record = run::record("postgres", 900.0);
    record.invalid.push("the p99 of the generator lag is 14 ms".to_owned());
    record.partial = true;
    record.census.as_mut().unwrap().differences = vec!["RUNNING: 7 expected, 6 stored".to_owned(), "more".to_owned()];
    let (html, output) = page_and_output("untrusted", &[run::record("memory", 80.0), record]);
    assert_eq!(code(&output), 0);
    let problems = ["invalid: the p99 of the generator lag", "partial: ", "RUNNING: 7 expected, 6 stored, and 1 more"];
    for problem in problems {
        assert!(stderr(&output).contains(problem), "{}", stderr(&output));
        assert!(html.find(problem).unwrap() < html.find("<table").unwrap(), "{problem}");
    }
    assert_eq!(html.matches("role=\"alert\"").count(), 1);
    let errors = html.split("id=\"runs\"").nth(1).unwrap();
    assert!(errors.contains("differs: 60,000 jobs counted"));
}

#[test]
fn unsupported_percentiles_are_omitted_and_lower_bounds_marked() {
    let html = page("few", &[run::record("memory", 80.0)]);
    let row = html.split("Jobs deep_<wbr>offset</th>").nth(1).unwrap().split("</tr>").next().unwrap();
    let cells: Vec<_> = row.split("</td>").skip(1).map(|cell| cell.trim_start_matches("<td>")).collect();
    // n, p50, p95, p99, p99.9, max: 61 samples do not support p99, and the maximum is an unfinished call.
    assert_eq!((cells[0], cells[3], cells[4], cells[5]), ("61", "–", "–", "≥ 2.00 s"), "{row}");
    assert!(cells[2].ends_with("µs") || cells[2].ends_with("ms"), "{row}");
}

#[test]
fn the_number_of_points_in_charts_is_limited() {
    let mut record = run::record("memory", 80.0);
    for series in &mut record.series {
        let first = series.intervals.clone();
        series.intervals = (0..20_000u64)
            .map(|second| {
                let mut interval = first[second as usize % first.len()].clone();
                interval.second = second;
                interval
            })
            .collect();
    }
    assert!(page("long", &[record]).len() < 600_000);
}

#[test]
fn a_run_without_calls_has_a_report() {
    let mut record = run::record("memory", 80.0);
    (record.queries, record.series, record.phases) = (Vec::new(), Vec::new(), Vec::new());
    record.ingester = Default::default();
    let html = page("empty", &[record]);
    assert_eq!(html.matches("<svg").count(), 5);
}

/// The exit code and standard error of a report with a baseline.
fn report_with_baseline(name: &str, baseline: &[RunRecord], records: &[RunRecord]) -> (i32, String) {
    let directory = directory(name);
    let out = directory.join("report.html");
    // An earlier execution of the test may have left it.
    drop(std::fs::remove_file(&out));
    let mut arguments = vec!["--out".to_owned(), out.to_str().unwrap().to_owned()];
    for (at, record) in baseline.iter().enumerate() {
        arguments.extend(["--baseline".to_owned(), written(&directory, &format!("before-{at}.json"), record)]);
    }
    arguments
        .extend(records.iter().enumerate().map(|(at, record)| written(&directory, &format!("now-{at}.json"), record)));
    let output = report(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(out.exists(), code(&output) < 2, "a refused report writes no file");
    (code(&output), stderr(&output))
}

/// A run with all latencies multiplied by a factor.
fn slowed(backend: &str, median_micros: f64, factor: f64) -> RunRecord {
    let (plain, slow) = (run::record(backend, median_micros), run::record(backend, median_micros * factor));
    RunRecord { queries: slow.queries, ingester: slow.ingester, ..plain }
}

#[test]
fn ratios_of_several_runs_are_compared() {
    let baseline = [run::record("memory", 80.0), run::record("postgres", 900.0)];
    let (same, problems) = report_with_baseline("ratios-same", &baseline, &baseline);
    assert_eq!((same, problems.as_str()), (0, ""));
    let slow = [slowed("memory", 80.0, 2.0), run::record("postgres", 900.0)];
    let (worse, problems) = report_with_baseline("ratios-worse", &baseline, &slow);
    assert_eq!(worse, 1);
    assert!(problems.contains("GetJobs annotations p50: memory fell behind postgres by "), "{problems}");
    // The tail is so long that these few calls do not bound the p99.
    assert!(!problems.contains("p99"), "{problems}");
    // A slower machine does not change the ratios.
    let both = [slowed("memory", 80.0, 2.0), slowed("postgres", 900.0, 2.0)];
    let (_, problems) = report_with_baseline("ratios-machine", &baseline, &both);
    assert!(!problems.contains("p50"), "{problems}");
    let quicker = [slowed("memory", 80.0, 0.5), run::record("postgres", 900.0)];
    let (_, problems) = report_with_baseline("ratios-better", &baseline, &quicker);
    assert!(!problems.contains("p50"), "{problems}");
}

#[test]
fn latencies_of_a_single_run_are_compared() {
    let baseline = [run::record("postgres", 900.0)];
    assert_eq!(report_with_baseline("alone-same", &baseline, &baseline), (0, String::new()));
    let (worse, problems) = report_with_baseline("alone-worse", &baseline, &[slowed("postgres", 900.0, 2.0)]);
    assert_eq!(worse, 1);
    assert!(problems.contains("events p50: ") && problems.contains(" of the baseline"), "{problems}");
    let mut elsewhere = run::record("postgres", 900.0);
    elsewhere.machine.cores = Some(64);
    let (refused, problems) = report_with_baseline("alone-machine", &baseline, &[elsewhere]);
    assert_eq!(refused, 2);
    assert!(problems.contains("another machine"), "{problems}");
}

#[test]
fn objectives_and_rates_are_compared() {
    let mut before = run::record("postgres", 900.0);
    before.rate_search = Some(RateSearchRecord { highest: Some(400.0), ..RateSearchRecord::default() });
    let mut now = before.clone();
    now.objectives = vec![ObjectiveRecord { held: false, ..before.objectives[0].clone() }];
    now.rate_search = Some(RateSearchRecord { highest: Some(200.0), ..RateSearchRecord::default() });
    let (worse, problems) = report_with_baseline("objectives", std::slice::from_ref(&before), &[now.clone()]);
    assert_eq!(worse, 1);
    assert!(problems.contains("page.p99 < 50ms was met in the baseline and is missed now: 12.3 ms"), "{problems}");
    assert!(problems.contains("was 400.0 submissions per second and is now 200.0"), "{problems}");
    // The load is the same whatever was counted, and whatever rate the search found.
    now.reads_without_id = before.reads_without_id + 7;
    // An objective that the baseline missed and a rate within the tolerance are not regressions.
    now.rate_search = Some(RateSearchRecord { highest: Some(350.0), ..RateSearchRecord::default() });
    before.objectives = now.objectives.clone();
    assert_eq!(report_with_baseline("objectives-same", &[before], &[now]), (0, String::new()));
}

#[test]
fn a_baseline_must_have_the_same_load_and_backend_and_be_valid() {
    let baseline = [run::record("postgres", 900.0)];
    let mut other_load = run::record("postgres", 900.0);
    other_load.configuration["ingestionConfig"]["batchSize"] = 1.into();
    let mut invalid = run::record("postgres", 900.0);
    invalid.invalid.push("lag".to_owned());
    let others = [
        ("other-backend", run::record("memory", 900.0), "backends"),
        ("other-load", other_load, "another load"),
        ("invalid", invalid, "is invalid"),
    ];
    for (name, record, reason) in others {
        let (refused, problems) = report_with_baseline(name, &baseline, &[record]);
        assert_eq!(refused, 2, "{name}");
        assert!(problems.contains(reason), "{problems}");
    }
}

#[test]
fn errors_of_invalid_records_have_the_file_name() {
    let directory = directory("unreadable");
    let path = directory.join("no-record.json");
    std::fs::write(&path, "{\"format\": 99}").unwrap();
    let output = report(&[path.to_str().unwrap(), "--out", directory.join("report.html").to_str().unwrap()]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("no-record.json: the record has format 99"), "{}", stderr(&output));
    assert_eq!(code(&report(&["no/such/file"])), 2);
    assert_eq!(code(&report(&[])), 2);
}
