//! The memory usage that `stats` reports, compared with that of a process.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::Value;

use crate::{broadside, run};

/// The least anonymous memory of three processes that hold a store with this number of jobs, in bytes. Freed pages that
/// the allocator has not returned only add to it.
fn resident(jobs: &str) -> f64 {
    (0..3).map(|_| resident_once(jobs)).fold(f64::INFINITY, f64::min)
}

fn resident_once(jobs: &str) -> f64 {
    let mut command = broadside(&["sql", "--jobs", jobs]);
    // The allocator returns freed pages to the system at once.
    command.env("MIMALLOC_PURGE_DELAY", "0").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command.spawn().unwrap();
    process.stdin.as_mut().unwrap().write_all(b"SELECT 1;\n").unwrap();
    BufReader::new(process.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    process.kill().unwrap();
    process.wait().unwrap();
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.strip_suffix("kB"));
    kibibytes.unwrap().trim().parse::<f64>().unwrap() * 1024.0
}

fn counted(jobs: &str) -> f64 {
    let stats: Value = serde_json::from_slice(&run(&["stats", "--jobs", jobs, "--json"]).stdout).unwrap();
    stats["parts"].as_array().unwrap().iter().map(|part| part["bytes"].as_f64().unwrap()).sum()
}

#[test]
fn stats_are_the_memory_of_the_process() {
    let (small, large) = ("1000", "100000");
    let (counted, resident) = (counted(large) - counted(small), resident(large) - resident(small));
    assert!((0.85..1.15).contains(&(counted / resident)), "{counted} counted, {resident} resident");
}
