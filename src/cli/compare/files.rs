//! The input and output files of a comparison: the baseline, the results and the report.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use broadside::compare::{Results, read_baseline};

use super::html;
use crate::cli::Failure;
use crate::cli::file::{self, FileError};

const RESULTS: &str = "results.json";
const REPORT: &str = "report.html";

/// An earlier comparison and its file.
pub struct Baseline<'a> {
    path: &'a Path,
    pub results: Results,
}

impl<'a> Baseline<'a> {
    pub fn read(path: &'a Path) -> Result<Self, FileError> {
        let results = read_baseline(&file::read(path)?).map_err(|error| FileError::new(path, error))?;
        Ok(Self { path, results })
    }

    /// Returns true if results.json of the directory is the baseline.
    fn is_results_of(&self, directory: &Path) -> bool {
        let same = |path: &Path| Some(fs::canonicalize(path).ok()? == fs::canonicalize(self.path).ok()?);
        same(&directory.join(RESULTS)) == Some(true)
    }
}

/// The output directory of a comparison.
pub struct OutputDirectory<'a>(&'a Path);

impl<'a> OutputDirectory<'a> {
    /// Checks that the directory and the files can be written, before the measurement starts. The directory is created
    /// with the files, so that a comparison that fails leaves none.
    pub fn check(path: &'a Path) -> Result<Self, FileError> {
        // The current directory is the empty path.
        let existing = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new(""));
        let probe = file::temporary(&existing.join("probe"));
        let written = OpenOptions::new().write(true).create_new(true).open(&probe);
        written.and_then(|_| fs::remove_file(&probe)).map_err(|error| FileError::new(path, error))?;
        match [RESULTS, REPORT].map(|name| path.join(name)).into_iter().find(|file| file.is_dir()) {
            Some(file) => Err(FileError::new(&file, "is a directory")),
            None => Ok(Self(path)),
        }
    }

    /// Writes the results and the report, each atomically.
    pub fn write(&self, results: &Results) -> Result<(), Failure> {
        self.write_as(results, RESULTS, REPORT)
    }

    /// Writes the results of a comparison with regressions. If the baseline is in the directory, it is kept: the
    /// results go to other files, and the path of the baseline is returned.
    pub fn write_failed(&self, results: &Results, baseline: &Baseline<'_>) -> Result<Option<PathBuf>, Failure> {
        if !baseline.is_results_of(self.0) {
            return self.write(results).map(|()| None);
        }
        self.write_as(results, "results.failed.json", "report.failed.html")?;
        Ok(Some(self.0.join(RESULTS)))
    }

    fn write_as(&self, results: &Results, json: &str, html: &str) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(results)?;
        fs::create_dir_all(self.0).map_err(|error| FileError::new(self.0, error))?;
        file::write(&self.0.join(json), &(text + "\n"))?;
        file::write(&self.0.join(html), &html::page(results).into_string())?;
        Ok(())
    }
}
