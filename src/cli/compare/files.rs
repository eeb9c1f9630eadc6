//! The input and output files of a comparison: the baseline, the results and the report.

use std::fs::{self, OpenOptions};
use std::path::Path;

use broadside::compare::{Results, read_baseline};

use super::html;
use crate::cli::file::{self, FileError};
use crate::cli::{Failure, messages};

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

    /// Writes the results and the report, each atomically. If the results have regressions from a baseline that is
    /// results.json of the directory, the baseline is kept, and the files have other names.
    pub fn write(&self, results: &Results, regressed_from: Option<&Baseline<'_>>) -> Result<(), Failure> {
        let keeps_baseline = regressed_from.is_some_and(|baseline| baseline.is_results_of(self.0));
        let names = if keeps_baseline { ["results.failed.json", "report.failed.html"] } else { [RESULTS, REPORT] };
        let [json, html] = names.map(|name| self.0.join(name));
        let text = serde_json::to_string_pretty(results)?;
        fs::create_dir_all(self.0).map_err(|error| FileError::new(self.0, error))?;
        file::write(&json, &(text + "\n"))?;
        file::write(&html, &html::page(results).into_string())?;
        if keeps_baseline {
            let kept = self.0.join(RESULTS);
            messages::note(format_args!(
                "{} is the baseline and is kept: the results are in {}",
                kept.display(),
                names[0]
            ));
        }
        Ok(())
    }
}
