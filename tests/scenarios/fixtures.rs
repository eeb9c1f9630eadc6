//! Executes the scenarios of `fixtures/` on each backend.
//!
//! On the memory engine the scenarios are also executed with each batch split into single queries, which must
//! not change the responses. The naive model must pass as a backend, and also when it evaluates the queries and
//! filters as written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::backends::{Backend, runtime};
use crate::support::compare::inserts_and_updates;
use crate::support::harness::{TestStoreRef, Verdict, trial};
use crate::support::model::NaiveModel;
use broadside::ingest::IngestionBatch;
use broadside::scenario::{Call, Response, Scenario, Step};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    fixtures().iter().flat_map(|path| of_file(path)).collect()
}

fn fixtures() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let entries = std::fs::read_dir(&directory).expect("the directory of the fixtures exists");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a directory can be read").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    paths.sort();
    assert!(!paths.is_empty(), "{} has no scenarios", directory.display());
    paths
}

/// The tests of a scenario file.
fn of_file(path: &Path) -> Vec<Trial> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let text = std::fs::read(path).expect("a fixture can be read");
    let scenario = match Scenario::parse(&text) {
        Ok(scenario) => Arc::new(scenario),
        Err(error) => return vec![Trial::test(format!("fixtures::{name}"), move || Err(error.into()))],
    };
    let on = |backend| {
        let scenario = scenario.clone();
        trial(backend, &name, move |store| async move { replay(&scenario, store).await })
    };
    let (checked, split, written) = (scenario.clone(), scenario.clone(), scenario.clone());
    let mut trials: Vec<_> = Backend::ALL.into_iter().chain([Backend::POSTGRES_LOOKOUT]).map(on).collect();
    trials.extend([
        on(Backend::MODEL),
        Trial::test(format!("fixtures::{name}"), move || check_expectations(&checked).map_err(Into::into)),
        Trial::test(format!("model-as-written::{name}"), move || as_written(&written).map_err(Into::into)),
        trial(Backend::MEMORY, format!("split::{name}"), move |store| async move {
            replay(&split_batches(&split), store).await
        }),
    ]);
    trials
}

/// Checks that each line has an expected response.
fn check_expectations(scenario: &Scenario) -> Verdict {
    match scenario.steps.iter().find(|step| step.expect.is_none()) {
        Some(step) => Err(format!("line {} has no expected response", step.line)),
        None => Ok(()),
    }
}

async fn replay(scenario: &Scenario, store: TestStoreRef) -> Verdict {
    let mut differences = Vec::new();
    for step in &scenario.steps {
        differences.extend(difference(step, &step.call.execute(&*store.database, &store.clock).await));
    }
    verdict(differences)
}

/// Executes a scenario on the model, which evaluates queries and requests as written.
fn as_written(scenario: &Scenario) -> Verdict {
    let clock = Arc::new(broadside::ManualClock::default());
    let model = NaiveModel::new(clock.clone());
    let responses = async {
        let mut differences = Vec::new();
        for step in &scenario.steps {
            differences.extend(difference(step, &model.execute_as_written(&step.call, &clock).await));
        }
        differences
    };
    verdict(runtime().block_on(responses))
}

fn difference(step: &Step, response: &Response) -> Option<String> {
    let difference = step.difference(response)?;
    Some(format!("line {}: {difference}\n  in {response}", step.line))
}

fn verdict(differences: Vec<String>) -> Verdict {
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
}

/// Splits each batch into batches with a single query: first the inserts, then the updates.
fn split_batches(scenario: &Scenario) -> Scenario {
    let steps = scenario.steps.iter().flat_map(|step| match &step.call {
        Call::Ingest { queries } if IngestionBatch::new(queries.iter().cloned()).is_ok() => {
            let (inserts, updates) = inserts_and_updates(queries);
            let single = |query| Step { call: Call::Ingest { queries: vec![query] }, ..step.clone() };
            inserts.into_iter().chain(updates).map(single).collect()
        }
        _ => vec![step.clone()],
    });
    Scenario { steps: steps.collect() }
}
