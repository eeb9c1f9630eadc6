//! Commands that are refused. Each must leave the store and the files as they were.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A load with historical jobs, whose data remain.
const LOAD: &str = "
testDuration: 200ms
skipTearDown: true
databaseConfig: {inMemory: true}
queueConfig: [{name: q, proportion: 1, jobSetConfig: [{name: s, proportion: 1, historicalJobsConfig: {numberOfJobs: 7, jobAgeDays: [1]}}]}]
ingestionConfig: {batchSize: 100, batchTimeout: 20ms, submissionsPerHour: 360000}
queryConfig: {getJobsQueriesPerHour: 36000}
";

/// The files of the commands, by name.
const FILES: [(&str, &str); 5] = [
    ("load.yaml", LOAD),
    ("other.yaml", "queueConfig: [{name: q, proportion: 1, jobSetConfig: [{name: s, proportion: 1}]}]"),
    ("large.yaml", "testDuration: 10h"),
    ("objective.yaml", "slo: [page.p99 < 1s]"),
    ("scenario.jsonl", r#"{"op":"initialiseSchema"}"#),
];

/// A directory with the files of the commands, and the content of the store: its catalog and its rows.
pub struct Refusals<C> {
    directory: PathBuf,
    content: C,
}

impl<C: AsyncFn() -> Vec<String>> Refusals<C> {
    pub fn new(name: &str, content: C) -> Self {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        drop(fs::remove_dir_all(&directory));
        fs::create_dir_all(&directory).unwrap();
        for (name, text) in FILES {
            fs::write(directory.join(name), text).unwrap();
        }
        Self { directory, content }
    }

    fn execute(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_broadside"));
        command.current_dir(&self.directory).args(arguments).stdin(Stdio::null());
        tokio::task::block_in_place(|| command.output()).unwrap()
    }

    /// Runs the load test of a file, and then removes the files that it has written.
    pub fn load(&self, file: &str, address: &str) {
        let output = self.execute(&["run", "--config", file, "--backend", address, "--results-dir", "results"]);
        // A slow machine may not sustain the load.
        assert!(matches!(output.status.code(), Some(0 | 3 | 4)), "{}", String::from_utf8_lossy(&output.stderr));
        fs::remove_dir_all(self.directory.join("results")).unwrap();
    }

    /// Removes the data of a load test.
    pub fn tear_down(&self, address: &str) {
        let output = self.execute(&["run", "--config", "load.yaml", "--backend", address, "--teardown-only"]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs a command, which must fail with 2 for a reason, and change nothing.
    pub async fn refused(&self, arguments: &[&str], reason: &str) {
        let before = ((self.content)().await, files(&self.directory));
        let output = self.execute(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(reason), "{arguments:?}: {stderr}");
        unchanged(arguments, &before.0, &(self.content)().await);
        unchanged(arguments, &before.1, &files(&self.directory));
    }

    /// Runs the commands of load tests on a store that they must not use.
    pub async fn loads(&self, address: &str, reason: &str) {
        self.refused(&["run", "--config", "load.yaml", "--backend", address], reason).await;
        self.refused(&["run", "--config", "load.yaml", "--backend", address, "--find-rate"], reason).await;
        self.refused(&["run", "--config", "load.yaml", "--backend", address, "--teardown-only"], reason).await;
    }

    /// Runs every command with arguments that it rejects on a server with a scratch store.
    pub async fn arguments(&self, address: &str) {
        let backend = ["--backend", address];
        let run = ["run", "--config", "load.yaml", "--config"];
        for (command, reason) in [
            (&[&run[..], &["large.yaml"]].concat()[..], "confirm it with --yes"),
            (&[&run[..], &["objective.yaml"]].concat(), "requires at least 100 reads"),
            (&["explain", "--existing", r#"{"op":"tearDown"}"#], "not a read"),
            (&["explain", "--scenario", "missing.jsonl", r#"{"op":"getJobs"}"#], "missing.jsonl"),
            (&["replay", "missing.jsonl"], "missing.jsonl"),
            (&["compare", "--baseline", "missing.json", "--out", "new"], "missing.json"),
            (&["clean", "--older-than", "0s"], "--yes"),
        ] {
            self.refused(&[command, &backend].concat(), reason).await;
        }
    }

    /// Runs every command that needs a scratch store on a server that rejects changes.
    pub async fn read_only(&self, address: &str, reason: &str) {
        let commands: [&[&str]; 4] = [
            &["smoke", "--jobs", "10"],
            &["replay", "scenario.jsonl"],
            &["compare", "--jobs", "10", "--out", "new/results"],
            &["explain", r#"{"op":"getJobs"}"#],
        ];
        for command in commands {
            self.refused(&[command, &["--backend", address]].concat(), reason).await;
        }
    }
}

/// The names and contents of the files and directories below a directory.
fn files(directory: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        found.push((path.clone(), fs::read(&path).ok()));
        if path.is_dir() {
            found.extend(files(&path));
        }
    }
    found.sort();
    found
}

fn unchanged<T: PartialEq + Debug>(arguments: &[&str], before: &[T], after: &[T]) {
    let removed: Vec<_> = before.iter().filter(|item| !after.contains(item)).collect();
    let added: Vec<_> = after.iter().filter(|item| !before.contains(item)).collect();
    assert!(removed.is_empty() && added.is_empty(), "{arguments:?} removed {removed:#?} and added {added:#?}");
}
