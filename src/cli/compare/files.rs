//! The files of a comparison: the baseline that it is held against, and what it writes.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use broadside::compare::{Results, read_baseline};

use super::html;
use crate::cli::Failure;

const RESULTS: &str = "results.json";
const REPORT: &str = "report.html";

/// An earlier comparison and the file that holds it.
pub struct Baseline<'a> {
    path: &'a Path,
    pub results: Results,
}

impl<'a> Baseline<'a> {
    pub fn read(path: &'a Path) -> Result<Self, FileError> {
        let failed = |problem: String| FileError { path: path.to_owned(), problem };
        let file = fs::read(path).map_err(|error| failed(error.to_string()))?;
        Ok(Self { path, results: read_baseline(&file).map_err(|error| failed(error.to_string()))? })
    }

    /// Whether a directory's results.json is the file of the baseline.
    fn is_in(&self, directory: &Path) -> bool {
        let same = |path: &Path| Some(fs::canonicalize(path).ok()? == fs::canonicalize(self.path).ok()?);
        same(&directory.join(RESULTS)) == Some(true)
    }
}

/// The directory that results are written to.
pub struct OutputDirectory<'a>(&'a Path);

impl<'a> OutputDirectory<'a> {
    /// Makes the directory and checks that the files can be written, before anything is measured.
    pub fn prepare(path: &'a Path) -> Result<Self, FileError> {
        let failed = |path: &Path, problem: String| FileError { path: path.to_owned(), problem };
        fs::create_dir_all(path).map_err(|error| failed(path, error.to_string()))?;
        let probe = path.join(temporary_name("probe"));
        let written = OpenOptions::new().write(true).create_new(true).open(&probe);
        written.and_then(|_| fs::remove_file(&probe)).map_err(|error| failed(path, error.to_string()))?;
        match [RESULTS, REPORT].map(|name| path.join(name)).into_iter().find(|file| file.is_dir()) {
            Some(file) => Err(failed(&file, "is a directory".to_owned())),
            None => Ok(Self(path)),
        }
    }

    /// Writes the results, each file whole or not at all.
    pub fn write(&self, results: &Results) -> Result<(), Failure> {
        self.write_as(results, RESULTS, REPORT)
    }

    /// Writes the results of a comparison that fell behind its baseline, beside the baseline if that is in the
    /// directory. Returns the path of the baseline that was kept.
    pub fn write_failed(&self, results: &Results, baseline: &Baseline<'_>) -> Result<Option<PathBuf>, Failure> {
        if !baseline.is_in(self.0) {
            return self.write(results).map(|()| None);
        }
        self.write_as(results, "results.failed.json", "report.failed.html")?;
        Ok(Some(self.0.join(RESULTS)))
    }

    fn write_as(&self, results: &Results, json: &str, html: &str) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(results)?;
        for (name, text) in [(json, text + "\n"), (html, html::page(results)?)] {
            let path = self.0.join(name);
            let temporary = self.0.join(temporary_name(name));
            let written = fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, &path));
            written.map_err(|error| {
                fs::remove_file(&temporary).ok();
                FileError { path, problem: error.to_string() }
            })?;
        }
        Ok(())
    }
}

fn temporary_name(name: &str) -> String {
    format!(".{name}.{}.tmp", std::process::id())
}

/// A file that cannot be read or written, or does not hold what it should.
#[derive(Debug)]
pub struct FileError {
    path: PathBuf,
    problem: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.problem)
    }
}

impl std::error::Error for FileError {}
