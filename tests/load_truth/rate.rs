//! The search for a rate on a store of known capacity.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broadside::load::{self, NullObserver, RunOptions};
use broadside::{Database, IngestionBatch, Result};
use libtest_mimic::Trial;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config;
use crate::support::backends::Backend;
use crate::support::faulty::{Fault, Faulty};
use crate::support::harness::server_trial;

/// The number of searches, 1 by default. A campaign on an idle machine:
/// `BROADSIDE_SEARCHES=10 cargo test --test load_truth -- token-bucket --nocapture`.
const SEARCHES: &str = "BROADSIDE_SEARCHES";
/// The capacity of the store, in queries per second.
const CAPACITY: f64 = 2700.0;
/// The queries of a life: one for the submission and two for each of its four transitions.
const QUERIES_PER_JOB: f64 = 9.0;
/// The maximum credit of a store without calls.
const BURST: Duration = Duration::from_millis(10);

pub fn trials() -> Vec<Trial> {
    vec![server_trial(Backend::MEMORY, "the-rate-found-is-that-of-a-token-bucket", searches)]
}

/// A token bucket.
#[derive(Debug)]
struct Limited {
    /// The time at which all accepted queries are executed.
    busy_until: Mutex<Instant>,
}

#[async_trait]
impl Fault for Limited {
    async fn batch(&self, store: &dyn Database, batch: &IngestionBatch) -> Result<()> {
        let end = {
            let mut busy_until = self.busy_until.lock();
            let start = (*busy_until).max(Instant::now() - BURST);
            *busy_until = start + Duration::from_secs_f64(batch.query_count() as f64 / CAPACITY);
            *busy_until
        };
        tokio::time::sleep_until(end).await;
        store.execute_ingestion_query_batch(batch).await
    }
}

async fn searches() {
    let searches: usize = std::env::var(SEARCHES).map_or(1, |text| text.parse().unwrap());
    let capacity = CAPACITY / QUERIES_PER_JOB;
    let mut wrong = Vec::new();
    for _ in 0..searches {
        let search = search(capacity).await.rate_search.unwrap();
        let share = search.highest.unwrap_or(0.0) / capacity;
        println!("found {share:.3} of the capacity");
        // A search that the lag of the driver disturbs has no result. In a campaign, the machine must be idle.
        let json = serde_json::to_value(&search).unwrap();
        let is_inconclusive = !matches!(json.get("inconclusive"), None | Some(Value::Null | Value::Bool(false)));
        let is_right = (0.85..=1.0).contains(&share) || is_inconclusive && searches == 1;
        if !is_right {
            wrong.push(search);
        }
    }
    assert!(wrong.is_empty(), "the capacity is {capacity}: {wrong:?}");
}

async fn search(capacity: f64) -> load::RunRecord {
    // The life takes 160 ms. No rate of the bisection is within 3 % above the capacity, where a short test cannot
    // detect that the backlog grows.
    let config = config(&format!(
        "
testDuration: 1500ms
warmupDuration: 400ms
ingestionConfig:
  submissionsPerHour: {}
  batchTimeout: 50ms
  jobStateTransitionConfig:
    queueingDuration: 40ms
    leasedDuration: 40ms
    pendingDuration: 40ms
    proportionSucceed: 1
    runningToSuccessDuration: 40ms
",
        (capacity * 0.8 * 3600.0) as u64
    ));
    let store = Faulty::memory(Arc::new(Limited { busy_until: Mutex::new(Instant::now()) })).await;
    let (_stop, stopped) = watch::channel(false);
    load::find_rate(Arc::new(store), &config, &RunOptions::default(), Arc::new(NullObserver), stopped).await.unwrap()
}
