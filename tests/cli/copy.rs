//! Tests of the command `copy`, and of `--from`.

use std::path::PathBuf;

use serde_json::Value;

use crate::{code, run, stderr, stdout};

/// The address of a folder that no other test uses, and that does not exist.
fn folder(name: &str) -> (PathBuf, String) {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::remove_dir_all(&path).ok();
    let address = format!("parquet:{}", path.display());
    (path, address)
}

fn generated(name: &str) -> String {
    let (_, address) = folder(name);
    let output = run(&["copy", "--from", "memory", "--jobs", "500", "--to", &address]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    address
}

/// The rows of a query on a folder.
fn rows(address: &str, query: &str) -> Vec<Value> {
    let output = run(&["sql", "--from", address, "--format", "json", query]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const JOBS: &str = "SELECT * FROM job ORDER BY job_id";

#[test]
fn a_copy_has_the_jobs_of_its_source() {
    let source = generated("copy-source");
    let (path, copy) = folder("copy-target");
    let output = run(&["copy", "--from", &source, "--to", &copy]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).lines().any(|line| line.contains("job ") && line.matches("500").count() == 2));
    let generated = run(&["sql", "--jobs", "500", "--format", "json", JOBS]);
    let jobs: Vec<Value> = stdout(&generated).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows(&copy, JOBS), jobs);
    // A folder with a copy is not changed.
    let manifest = std::fs::read(path.join("manifest.json")).unwrap();
    let again = run(&["copy", "--from", &source, "--to", &copy]);
    assert_eq!((code(&again), stderr(&again).contains("complete")), (2, true), "{}", stderr(&again));
    assert_eq!(std::fs::read(path.join("manifest.json")).unwrap(), manifest);
}

#[test]
fn an_anonymised_copy_has_the_counts_and_no_text_of_its_source() {
    let source = generated("copy-named");
    let (_, copy) = folder("copy-anonymised");
    let output = run(&["copy", "--from", &source, "--to", &copy, "--anonymise"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let counts = "SELECT count(*) AS n, state FROM job GROUP BY queue, state ORDER BY 1, 2";
    assert_eq!(rows(&source, counts), rows(&copy, counts));
    for table in ["job", "job_run", "job_error"] {
        let [before, after] = [&source, &copy].map(|address| rows(address, &format!("SELECT * FROM {table}")));
        let texts = |rows: &[Value]| format!("{rows:?}");
        let after = texts(&after);
        for row in &before {
            for (name, value) in row.as_object().unwrap() {
                // Times contain the letters T and Z, and states are kept.
                let is_name = !(name == "state" || value.as_str().is_some_and(|text| text.starts_with("20")));
                if let Some(text) = value.as_str().filter(|text| is_name && text.len() > 3) {
                    assert!(!after.contains(&format!("{text:?}")), "{table}.{name}: {text}");
                }
            }
        }
    }
}

#[test]
fn selections_and_arguments_are_checked_before_the_copy() {
    let source = generated("copy-whole");
    let (path, copy) = folder("copy-part");
    for (arguments, problem) in
        [(&["--sample", "0%"][..], "share"), (&["--sample", "half"], "percentage"), (&["--jobs", "5"], "--from memory")]
    {
        let output = run(&[&["copy", "--from", &source, "--to", &copy], arguments].concat());
        assert_eq!(code(&output), 2);
        assert!(stderr(&output).contains(problem), "{}", stderr(&output));
        assert!(!path.exists());
    }
    for address in ["parquet:postgres://me:s3cret@host/db", "parquet:host=h password=s3cret"] {
        let output = run(&["copy", "--from", address, "--to", &copy]);
        assert_eq!(code(&output), 2);
        assert!(!stderr(&output).contains("s3cret"), "{}", stderr(&output));
    }
    let queue = rows(&source, "SELECT queue FROM job LIMIT 1")[0]["queue"].as_str().unwrap().to_owned();
    let output = run(&["copy", "--from", &source, "--to", &copy, "--queues", &queue, "--without-specs"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let expected = rows(&source, &format!("SELECT count(*) AS n FROM job WHERE queue = '{queue}'"));
    assert_eq!(rows(&copy, "SELECT count(*) AS n FROM job"), expected);
    assert_eq!(rows(&copy, "SELECT * FROM job_spec"), Vec::<Value>::new());
}
