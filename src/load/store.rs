//! Preparation of the store: schema, ownership check and historical jobs.

use futures::StreamExt;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::census;
use super::config::LoadConfig;
use super::expectation::ExpectedCounts;
use super::ids;
use super::observer::Observer;
use super::reads::KnownIds;
use crate::database::{Database, Progress};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::historical::{Ending, HistoricalJobs, STATE_MODULUS};
use crate::time::{Clock, SystemClock, Timestamp};

/// The name of the store property with the fingerprint of the load test.
const FINGERPRINT: &str = "load.fingerprint";
/// The number of historical jobs of each job set whose ids are known to the reads at the start.
const KNOWN_IDS_PER_JOB_SET: u64 = 1000;

/// Identifies the historical jobs of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fingerprint {
    /// The hash of the configuration of the historical jobs.
    historical_jobs: String,
    /// The reference time of the ages of the jobs.
    reference_time: Timestamp,
}

/// The historical jobs of a run.
#[derive(Debug)]
pub(super) struct Population {
    jobs: Vec<HistoricalJobs>,
    /// Whether the store has jobs of an earlier run.
    is_resumed: bool,
    /// Whether Broadside has initialised the store, in this layout or another one.
    pub(super) has_marker: bool,
    fingerprint: Fingerprint,
}

/// The content of a store before a load test.
struct Found {
    jobs: u64,
    /// `None` if no load test has prepared the store.
    fingerprint: Option<String>,
    has_marker: bool,
}

impl Found {
    /// Reads the content without a change of the store. The store need not be initialised.
    ///
    /// # Errors
    ///
    /// `WrongStore` if the store contains jobs that no load test has created. Other errors of the store.
    async fn read(database: &dyn Database) -> Result<Self> {
        let jobs = database.job_count().await?;
        let (fingerprint, has_marker) = match database.property(FINGERPRINT).await {
            // The store has no marker yet. `initialise_schema` checks whether it may get one, before its first change.
            Err(error) if matches!(error.kind(), ErrorKind::NotInitialised | ErrorKind::WrongStore) => (None, false),
            property => (property?, true),
        };
        if jobs > 0 && fingerprint.is_none() {
            return Err(wrong_store(&format!(
                "contains {jobs} jobs that no load test has created; a load test requires a separate store"
            )));
        }
        Ok(Self { jobs, fingerprint, has_marker })
    }
}

/// Removes all data of an earlier load test from a store. A store without tables remains so.
///
/// # Errors
///
/// `WrongStore` if the store does not belong to Broadside, or contains jobs that no load test has created; then nothing
/// is changed. Other errors of the store.
pub async fn tear_down(database: &dyn Database) -> Result<()> {
    let found = Found::read(database).await?;
    match database.tear_down().await {
        Err(error) if error.kind() == ErrorKind::NotInitialised => {}
        torn_down => return torn_down,
    }
    if found.fingerprint.is_none() {
        return Ok(());
    }
    // A table is missing, or the tables have the layout of an earlier configuration.
    database.initialise_schema().await?;
    database.tear_down().await
}

/// Checks that the store is empty or left by an earlier run with the same historical jobs, without a change of the store.
pub(super) async fn check(database: &dyn Database, config: &LoadConfig) -> Result<Population> {
    let found = Found::read(database).await?;
    let historical_jobs = hash(config)?;
    let stored = found.fingerprint.map(|text| serde_json::from_str::<Fingerprint>(&text));
    let reference_time = match stored {
        Some(Ok(stored)) if stored.historical_jobs == historical_jobs => stored.reference_time,
        Some(_) => {
            return Err(wrong_store(
                "contains the historical jobs of another configuration; tear it down first with --teardown-only",
            ));
        }
        None => SystemClock.now(),
    };
    let params = config.historical_jobs(reference_time);
    let jobs = params.into_iter().map(HistoricalJobs::try_from).collect::<Result<_>>()?;
    Ok(Population {
        jobs,
        is_resumed: found.jobs > 0,
        has_marker: found.has_marker,
        fingerprint: Fingerprint { historical_jobs, reference_time },
    })
}

async fn store_fingerprint(database: &dyn Database, fingerprint: &Fingerprint) -> Result<()> {
    let text = serde_json::to_string(fingerprint).map_err(not_json)?;
    match database.set_property(FINGERPRINT, Some(&text)).await {
        // A store without properties cannot be reused: it is rejected if it contains jobs.
        Err(error) if error.kind() == ErrorKind::Backend => Ok(()),
        other => other,
    }
}

/// Hashes the configuration of the historical jobs, without the reference time.
fn hash(config: &LoadConfig) -> Result<String> {
    let params = config.historical_jobs(Timestamp::from_seconds(0));
    let text = serde_json::to_string(&params).map_err(not_json)?;
    Ok(format!("{:016x}", ids::hash(&text)))
}

fn not_json(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Backend, Operation::Property, "the configuration cannot be serialized as JSON")
        .with_source(error)
}

fn wrong_store(problem: &str) -> Error {
    Error::new(ErrorKind::WrongStore, Operation::PopulateHistoricalJobs, format!("the store {problem}"))
}

impl Population {
    /// Creates the historical jobs, with the given number of concurrent job sets. Returns the expected counts.
    pub(super) async fn populate(
        &self,
        database: &dyn Database,
        workers: u64,
        observer: &dyn Observer,
    ) -> Result<ExpectedCounts> {
        store_fingerprint(database, &self.fingerprint).await?;
        let total = self.jobs.iter().map(HistoricalJobs::count).sum();
        let done = Mutex::new(vec![0; self.jobs.len()]);
        let populate = |(index, jobs): (usize, &'_ HistoricalJobs)| {
            let done = &done;
            let jobs = jobs.clone();
            async move {
                let progress = |progress: Progress| {
                    let mut done = done.lock();
                    done[index] = progress.done;
                    observer.population(Progress { done: done.iter().sum(), total });
                };
                database.populate_historical_jobs(&jobs, &progress).await
            }
        };
        let workers = usize::try_from(workers).unwrap_or(usize::MAX);
        let tasks: Vec<_> = self.jobs.iter().enumerate().map(populate).collect();
        let mut running = futures::stream::iter(tasks).buffer_unordered(workers);
        while let Some(populated) = running.next().await {
            populated?;
        }
        if self.is_resumed {
            // The jobs of an earlier run are part of the expected counts.
            return census::counts(database).await;
        }
        Ok(self.expected())
    }

    /// The expected counts of a store that was empty before.
    fn expected(&self) -> ExpectedCounts {
        let mut expectation = ExpectedCounts::default();
        for jobs in &self.jobs {
            for (ending, count) in endings(jobs) {
                expectation.add(ending.job_state(), count);
            }
        }
        expectation
    }

    /// The ids of some historical jobs and of their failed runs.
    pub(super) fn known_ids(&self) -> KnownIds {
        let mut known = KnownIds::default();
        for jobs in &self.jobs {
            for i in 0..jobs.count().min(KNOWN_IDS_PER_JOB_SET) {
                known.jobs.push(jobs.job_id(i).into());
                if jobs.ending(i) == Ending::Failed {
                    known.failed_runs.push(jobs.run_id(i).into());
                }
            }
        }
        known
    }
}

/// The number of jobs with each outcome.
fn endings(jobs: &HistoricalJobs) -> Vec<(Ending, u64)> {
    let (rounds, rest) = (jobs.count() / STATE_MODULUS, jobs.count() % STATE_MODULUS);
    (0..STATE_MODULUS).map(|i| (jobs.ending(i), rounds + u64::from(i < rest))).collect()
}
