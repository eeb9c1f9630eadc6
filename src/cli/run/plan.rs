//! What a run is going to do: its configuration, its store, and how large it is.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use broadside::load::upstream::GoDuration;
use broadside::load::{LoadConfig, Parsed, RecordedRead};
use broadside::{BackendKind, DatabaseConfig};

use crate::cli::file::{self, FileError};
use crate::cli::{Failure, format, report};

/// The configuration without --config.
const DEFAULT: (&str, &str) = ("default.yaml", include_str!("../../../fixtures/load/default.yaml"));

/// Runs beyond these are asked about.
const MANY_JOBS: u64 = 100_000;
const MANY_BYTES: u64 = 1 << 30;
const LONG_SECONDS: u64 = 3600;
/// The bytes that a job takes in a store, about.
const BYTES_PER_JOB: u64 = 3700;

/// A configuration and its store.
pub struct Plan {
    pub config: LoadConfig,
    pub database: DatabaseConfig,
    /// Whether the user has said anything about it.
    is_default: bool,
}

impl Plan {
    /// Reads the configuration; none if it is wrong, which then has been said.
    pub fn read(files: &[PathBuf], backend: Option<&str>) -> Result<Option<Self>, Failure> {
        let mut texts = Vec::new();
        for path in files {
            let name = path.display().to_string();
            let text = text(path)?;
            texts.push((name, text));
        }
        let mut pairs: Vec<_> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        if pairs.is_empty() {
            pairs.push(DEFAULT);
        }
        let given = backend.map(str::parse::<DatabaseConfig>).transpose()?;
        let parsed = match &given {
            Some(database) => LoadConfig::parse_for(database.backend(), pairs),
            None => LoadConfig::parse(pairs),
        };
        let Parsed { config, warnings } = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                error.problems.iter().for_each(report::problem);
                return Ok(None);
            }
        };
        warnings.iter().for_each(report::warning);
        let database = match given {
            Some(database) => database,
            None => config.database.config()?,
        };
        Ok(Some(Self { config, database, is_default: files.is_empty() }))
    }

    /// The reads of the `reads` file.
    pub fn recorded_reads(&self) -> Result<Vec<RecordedRead>, Failure> {
        let Some(path) = &self.config.reads else { return Ok(Vec::new()) };
        Ok(RecordedRead::parse(&text(path)?).map_err(|error| FileError::new(path, error))?)
    }

    /// Whether the run is small, or the user wants it all the same.
    pub fn confirmed(&self, find_rate: bool) -> Result<bool, Failure> {
        let jobs = self.config.historical_job_count().saturating_add(self.config.live_job_count());
        let bytes = jobs.saturating_mul(BYTES_PER_JOB);
        let seconds = (self.config.warmup_duration + self.config.test_duration).as_secs();
        let large = jobs > MANY_JOBS || bytes > MANY_BYTES || seconds > LONG_SECONDS;
        // The default is known to be harmless.
        if self.is_default && !find_rate && self.database.backend() == BackendKind::Memory || !large {
            return Ok(true);
        }
        let each = if find_rate { ", in the first of several runs" } else { "" };
        let size = format!(
            "the run makes about {jobs} jobs ({}) in {}{each}",
            format::bytes(bytes),
            GoDuration(self.config.warmup_duration + self.config.test_duration)
        );
        if !io::stdin().is_terminal() {
            report::problem(format!("{size}: confirm it with --yes"));
            return Ok(false);
        }
        write!(io::stderr(), "{size}. Continue? [y/N] ")?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}

/// The text of a file.
fn text(path: &Path) -> Result<String, FileError> {
    String::from_utf8(file::read(path)?).map_err(|_| FileError::new(path, "is no UTF-8 text"))
}
