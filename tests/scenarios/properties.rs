//! Random workloads, compared with the naive model.
//!
//! A failure is shrunk and printed as a scenario. `BROADSIDE_PROPERTY_CASES` sets the number of cases of each property
//! (servers get an eighth, the cluster a quarter of it).

use crate::support::backends::{Backend, TestStore};
use crate::support::compare::{EPOCH, as_scenario, contents, inserts_and_updates, same_response};
use crate::support::generate::{ManyJobs, batch, calls, history};
use crate::support::harness::{TestStoreRef, Verdict, trial};
use crate::support::model::NaiveModel;
use broadside::ingest::IngestionQuery;
use broadside::scenario::Call;
use libtest_mimic::Trial;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

const CASES_VARIABLE: &str = "BROADSIDE_PROPERTY_CASES";
const CASES: u32 = 256;

type Batch = Vec<IngestionQuery>;

/// The result of a property for one case: passed, failed or rejected.
pub(crate) type Checked = Result<(), TestCaseError>;

pub(crate) fn failed(error: broadside::Error) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

pub fn trials() -> Vec<Trial> {
    let backends = [Backend::MODEL].into_iter().chain(Backend::ALL);
    backends.flat_map(on_backend).collect()
}

fn on_backend(backend: Backend) -> [Trial; 5] {
    [
        trial(backend, "responses-match-the-model", move |store| {
            blocking(move || holds(backend, &store, calls(), matches_model))
        }),
        trial(backend, "splitting-a-batch-changes-nothing", move |store| {
            let cases = (history(), batch(), any::<prop::sample::Index>());
            blocking(move || holds(backend, &store, cases, splits))
        }),
        trial(backend, "repeating-a-batch-changes-nothing", move |store| {
            blocking(move || holds(backend, &store, (history(), batch()), repeats))
        }),
        trial(backend, "many-jobs-in-order-match-the-model", move |store| many_jobs_match_model(backend, store, true)),
        trial(backend, "many-scattered-jobs-match-the-model", move |store| {
            many_jobs_match_model(backend, store, false)
        }),
    ]
}

/// The test runner is not async, so it is executed on a thread that may block.
pub(crate) async fn blocking(property: impl FnOnce() -> Verdict + Send + 'static) -> Verdict {
    tokio::task::spawn_blocking(property).await.map_err(|panic| panic.to_string())?
}

/// Checks a property with random cases, each on an empty store. A counterexample is shrunk.
pub(crate) fn holds<S: Strategy>(
    backend: Backend,
    store: &TestStoreRef,
    cases: S,
    property: impl AsyncFn(S::Value, &TestStore) -> Checked,
) -> Verdict {
    let runtime = tokio::runtime::Handle::current();
    let number = std::env::var(CASES_VARIABLE).ok().map_or(Ok(CASES), |text| text.parse());
    let number = number.map_err(|error| format!("{CASES_VARIABLE}: {error}"))?;
    let config = Config {
        cases: match backend {
            Backend::CLICKHOUSE_CLUSTER => number.div_ceil(32),
            backend if backend.is_server() => number.div_ceil(8),
            _ => number,
        },
        max_shrink_iters: if backend.is_server() { 200 } else { 2000 },
        failure_persistence: None,
        max_global_rejects: number * 8,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&cases, |case| {
        let attempt = async {
            store.database.initialise_schema().await.map_err(failed)?;
            store.database.tear_down().await.map_err(failed)?;
            store.clock.set(EPOCH);
            property(case, store).await
        };
        runtime.block_on(attempt)
    });
    match outcome {
        Ok(()) => Ok(()),
        Err(TestError::Fail(reason, _)) => Err(reason.message().to_owned()),
        Err(TestError::Abort(reason)) => Err(format!("gave up: {reason}")),
    }
}

async fn matches_model(calls: Vec<Call>, store: &TestStore) -> Checked {
    let model = NaiveModel::new(store.clock.clone());
    broadside::Database::initialise_schema(&model).await.map_err(failed)?;
    for (position, call) in calls.iter().enumerate() {
        if let Err(difference) = same_response(call, store, &model).await {
            let scenario = as_scenario(&calls[..=position]).await;
            return Err(TestCaseError::fail(format!(
                "{difference}\nin the last line of this scenario (the order of ties is undefined):\n{scenario}"
            )));
        }
    }
    Ok(())
}

/// A batch, compared with its two parts or with its inserts and then its updates.
async fn splits(case: (Vec<Batch>, Batch, prop::sample::Index), store: &TestStore) -> Checked {
    let (before, queries, cut) = case;
    let (inserts, updates) = inserts_and_updates(&queries);
    let (first, second) = updates.split_at(cut.index(updates.len() + 1));
    let parts = [inserts, first.to_vec(), second.to_vec()];
    same_contents(&[&before[..], &[queries]].concat(), &[&before[..], &parts].concat(), store).await
}

/// A batch, compared with the same batch executed twice.
async fn repeats(case: (Vec<Batch>, Batch), store: &TestStore) -> Checked {
    let (before, queries) = case;
    let once = [&before[..], std::slice::from_ref(&queries)].concat();
    same_contents(&once, &[&once[..], &[queries]].concat(), store).await
}

/// As many jobs as fill several chunks of the memory engine, with updates in between. The case is too large to be
/// shrunk, so it is always the same.
async fn many_jobs_match_model(backend: Backend, store: TestStoreRef, in_order: bool) -> Verdict {
    let (count, rounds) = if backend == Backend::MEMORY { (20_000, 8) } else { (2_000, 2) };
    store.clock.set(EPOCH);
    let model = NaiveModel::new(store.clock.clone());
    let calls = ManyJobs { count, in_order }.calls(rounds).map_err(|reason| reason.to_string())?;
    for (position, call) in calls.iter().enumerate() {
        same_response(call, &store, &model).await.map_err(|difference| {
            let shown: String = format!("{call:?}").chars().take(2_000).collect();
            format!("call {position}: {difference}\n{shown}")
        })?;
    }
    Ok(())
}

/// Checks that two sequences of batches have the same result. Cases with an invalid batch are rejected, because parts
/// of such a batch may be valid.
async fn same_contents(one: &[Batch], other: &[Batch], store: &TestStore) -> Checked {
    prop_assume!(one.iter().all(|queries| broadside::IngestionBatch::new(queries.iter().cloned()).is_ok()));
    let after_one = contents_after(one, store).await.map_err(TestCaseError::fail)?;
    store.database.tear_down().await.map_err(failed)?;
    let after_other = contents_after(other, store).await.map_err(TestCaseError::fail)?;
    match after_one.iter().zip(&after_other).find(|(a, b)| a != b) {
        None => Ok(()),
        Some((a, b)) => {
            let calls: Vec<_> = other.iter().map(|queries| Call::Ingest { queries: queries.clone() }).collect();
            let scenario = as_scenario(&calls).await;
            Err(TestCaseError::fail(format!("whole: {a}\nparts: {b}\nafter:\n{scenario}")))
        }
    }
}

async fn contents_after(batches: &[Batch], store: &TestStore) -> Result<Vec<broadside::scenario::Response>, String> {
    for queries in batches {
        let batch = broadside::IngestionBatch::new(queries.iter().cloned()).map_err(|error| error.to_string())?;
        store.database.execute_ingestion_query_batch(&batch).await.map_err(|error| error.to_string())?;
    }
    Ok(contents(store).await)
}
