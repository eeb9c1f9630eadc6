//! The plan of a run: configuration, store and size.

use std::path::{Path, PathBuf};

use broadside::load::{GoDuration, LoadConfig, ParsedConfig, RecordedRead};
use broadside::{BackendKind, DatabaseConfig};

use crate::cli::file::{self, FileError};
use crate::cli::{Failure, format, messages, terminal};

/// The default configuration, for runs without --config.
const DEFAULT: (&str, &str) = ("default.yaml", include_str!("../../../fixtures/load/default.yaml"));

/// Limits beyond which a run needs a confirmation.
const MANY_JOBS: u64 = 100_000;
const MANY_BYTES: u64 = 1 << 30;
const LONG_SECONDS: u64 = 3600;
/// The approximate size of a job in a store.
const BYTES_PER_JOB: u64 = 3700;

/// The plan of a run.
pub struct Plan {
    pub config: LoadConfig,
    pub database: DatabaseConfig,
    /// Whether the configuration is the default.
    is_default: bool,
}

impl Plan {
    /// Reads the configuration. Reports the problems of an invalid one and returns `None`.
    pub fn read(files: &[PathBuf], backend: Option<DatabaseConfig>) -> Result<Option<Self>, Failure> {
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
        let parsed = match &backend {
            Some(database) => LoadConfig::parse_for(database.backend(), pairs, environment()),
            None => LoadConfig::parse(pairs, environment()),
        };
        let ParsedConfig { config, warnings, .. } = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                error.problems.iter().for_each(messages::problem);
                return Ok(None);
            }
        };
        warnings.iter().for_each(messages::warning);
        let database = match backend {
            Some(database) => database,
            None => config.database.config()?,
        };
        Ok(Some(Self { config, database, is_default: files.is_empty() }))
    }

    /// Reads the recorded reads, if the configuration names a file.
    pub fn recorded_reads(&self) -> Result<Vec<RecordedRead>, Failure> {
        let Some(path) = &self.config.reads else { return Ok(Vec::new()) };
        Ok(RecordedRead::parse(&text(path)?).map_err(|error| FileError::new(path, error))?)
    }

    /// Returns true if the run is small or the user confirms it.
    pub fn confirmed(&self, find_rate: bool) -> Result<bool, Failure> {
        let jobs = self.config.historical_job_count().saturating_add(self.config.live_job_count());
        let bytes = jobs.saturating_mul(BYTES_PER_JOB);
        let seconds = (self.config.warmup_duration + self.config.test_duration).as_secs();
        let large = jobs > MANY_JOBS || bytes > MANY_BYTES || seconds > LONG_SECONDS;
        // The default configuration on the memory backend is small enough.
        if self.is_default && !find_rate && self.database.backend() == BackendKind::Memory || !large {
            return Ok(true);
        }
        let each = if find_rate { ", in the first of several runs" } else { "" };
        let size = format!(
            "the run creates about {jobs} jobs ({}) in {}{each}",
            format::bytes(bytes),
            GoDuration(self.config.warmup_duration + self.config.test_duration)
        );
        Ok(terminal::confirm(&format!("{size}. Continue?"))?.unwrap_or_else(|| {
            messages::problem(format!("{size}; confirm it with --yes"));
            false
        }))
    }
}

/// The environment variables. A value that is not UTF-8 is changed, so that it is not taken for absent.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
}

/// Reads a text file.
fn text(path: &Path) -> Result<String, FileError> {
    String::from_utf8(file::read(path)?).map_err(|_| FileError::new(path, "is not UTF-8"))
}
