//! The store of a load test before the load: its schema, whose it is, and its historical jobs.

use futures::StreamExt;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::census;
use super::config::LoadConfig;
use super::expectation::Expectation;
use super::observer::Observer;
use super::reads::Seen;
use crate::database::{Database, Progress};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::historical::{Ending, HistoricalJobs, STATE_MODULUS};
use crate::time::{Clock, SystemClock, Timestamp};

/// The property of a store that says which load test it is for.
const FINGERPRINT: &str = "load.fingerprint";
/// The jobs of each job set whose ids are known to the reads from the start.
const KNOWN_IDS: u64 = 1000;

/// What the store is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fingerprint {
    /// A hash of the historical jobs' configuration.
    historical_jobs: String,
    /// The time that their ages count back from.
    reference_time: Timestamp,
}

/// The historical jobs of a run.
#[derive(Debug)]
pub(super) struct Population {
    jobs: Vec<HistoricalJobs>,
    /// What the store held before.
    before: Expectation,
}

/// Removes all data from a store that an earlier load test left.
///
/// # Errors
///
/// `WrongStore` if the store is not Broadside's, or holds jobs that no load test has made.
pub async fn tear_down(database: &dyn Database) -> Result<()> {
    database.initialise_schema().await?;
    let jobs = census::counts(database).await?.jobs();
    if jobs > 0 && database.property(FINGERPRINT).await?.is_none() {
        return Err(not_of_a_load_test(jobs));
    }
    database.tear_down().await
}

fn not_of_a_load_test(jobs: u64) -> Error {
    wrong_store(&format!("holds {jobs} jobs that no load test has made; a load test needs a store of its own"))
}

/// Makes the schema, and makes sure that the store is one for this load test: an empty one, or one that an earlier
/// run of the same configuration left.
pub(super) async fn prepare(database: &dyn Database, config: &LoadConfig) -> Result<Population> {
    database.initialise_schema().await?;
    let before = census::counts(database).await?;
    let stored = database.property(FINGERPRINT).await?;
    let stored = stored.and_then(|text| serde_json::from_str::<Fingerprint>(&text).ok());
    let historical_jobs = hash(config)?;
    let reference_time = match stored {
        Some(stored) if stored.historical_jobs == historical_jobs => stored.reference_time,
        Some(_) => {
            return Err(wrong_store(
                "holds the historical jobs of another configuration: tear it down first, with --teardown-only",
            ));
        }
        None if before.jobs() > 0 => {
            return Err(not_of_a_load_test(before.jobs()));
        }
        None => SystemClock.now(),
    };
    remember(database, &Fingerprint { historical_jobs, reference_time }).await?;
    let params = config.historical_jobs(reference_time);
    let jobs = params.into_iter().map(HistoricalJobs::try_from).collect::<Result<_>>()?;
    Ok(Population { jobs, before })
}

async fn remember(database: &dyn Database, fingerprint: &Fingerprint) -> Result<()> {
    let text = serde_json::to_string(fingerprint).map_err(not_json)?;
    match database.set_property(FINGERPRINT, &text).await {
        // A store that keeps no properties cannot be resumed: it is refused as soon as it has jobs.
        Err(error) if error.kind() == ErrorKind::Backend => Ok(()),
        other => other,
    }
}

/// A hash of all that decides the historical jobs, apart from the time of day.
fn hash(config: &LoadConfig) -> Result<String> {
    let params = config.historical_jobs(Timestamp::from_seconds(0));
    let text = serde_json::to_string(&params).map_err(not_json)?;
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    Ok(format!("{hash:016x}"))
}

fn not_json(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Backend, Operation::Property, "the configuration is no JSON").with_source(error)
}

fn wrong_store(problem: &str) -> Error {
    Error::new(ErrorKind::WrongStore, Operation::PopulateHistoricalJobs, format!("the store {problem}"))
}

impl Population {
    /// Populates several job sets at a time, and gives what the store then should hold.
    pub(super) async fn populate(
        &self,
        database: &dyn Database,
        workers: u64,
        observer: &dyn Observer,
    ) -> Result<Expectation> {
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
        if self.before.jobs() > 0 {
            // What an earlier run left is taken as it is.
            return census::counts(database).await;
        }
        Ok(self.expected())
    }

    /// What an empty store holds after the population.
    fn expected(&self) -> Expectation {
        let mut expectation = Expectation::default();
        for jobs in &self.jobs {
            for (ending, count) in endings(jobs) {
                expectation.add(ending.job_state(), count);
            }
        }
        expectation
    }

    /// Ids of historical jobs, and of runs that failed.
    pub(super) fn known(&self) -> Seen {
        let mut known = Seen::default();
        for jobs in &self.jobs {
            for i in 0..jobs.count().min(KNOWN_IDS) {
                known.jobs.push(jobs.job_id(i).into());
                if jobs.ending(i) == Ending::Failed {
                    known.failed_runs.push(jobs.run_id(i).into());
                }
            }
        }
        known
    }
}

/// How many jobs end in each way.
fn endings(jobs: &HistoricalJobs) -> Vec<(Ending, u64)> {
    let (rounds, rest) = (jobs.count() / STATE_MODULUS, jobs.count() % STATE_MODULUS);
    (0..STATE_MODULUS).map(|i| (jobs.ending(i), rounds + u64::from(i < rest))).collect()
}
