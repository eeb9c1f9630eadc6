//! Comparison of a store with the model: the same calls must have the same responses, up to ties of jobs.

use std::fmt::Debug;

use broadside::ingest::IngestionQuery;
use broadside::scenario::{Call, GetJobGroupsRequest, GetJobsRequest, GroupedField, Order, Response, Scenario};
use broadside::{GroupQuery, JobQuery, Timestamp};

use super::backends::TestStore;
use super::generate::{JOB_IDS, RUN_IDS};
use super::model::{NaiveModel, OrderKey};

/// The initial time of the clock of a random workload.
pub const EPOCH: Timestamp = Timestamp::from_seconds(0);

/// Executes a call on the store and on the model, and compares the responses.
pub async fn same_response(call: &Call, store: &TestStore, model: &NaiveModel) -> Result<(), String> {
    match call {
        Call::GetJobs(request) => {
            if let (Ok(query), Ok(ranked)) = (JobQuery::try_from(request.clone()), model.ranked_jobs(request)) {
                let got = store.database.get_jobs(&query).await.map_err(|error| error.to_string())?;
                let ids: Vec<_> = got.iter().map(|job| job.job_id.clone()).collect();
                fits_page(&ranked, request.skip, request.take, &ids)?;
                let expected = model.jobs(&ids).map_err(|error| error.to_string())?;
                return match expected.iter().zip(&got).find(|(expected, got)| expected != got) {
                    Some((expected, got)) => Err(format!("expected {expected:?}\n  got {got:?}")),
                    None => Ok(()),
                };
            }
        }
        Call::GetJobGroups(request) => {
            if let (Ok(query), Ok(ranked)) = (GroupQuery::try_from(request.clone()), model.ranked_groups(request)) {
                let got = store.database.get_job_groups(&query).await.map_err(|error| error.to_string())?;
                return if request.order == Order::default() {
                    fits_page(&ranked, request.skip, request.take, &got)
                } else {
                    // Ties are ordered by name.
                    let page: Vec<_> =
                        page_of(&ranked, request.skip, request.take).iter().map(|(_, row)| row).collect();
                    let equal = page.iter().copied().eq(&got);
                    if equal { Ok(()) } else { Err(format!("expected {page:?}\n  got {got:?}")) }
                };
            }
        }
        _ => {}
    }
    let expected = model.execute_as_written(call, &store.clock).await;
    let got = call.execute(&*store.database, &store.clock).await;
    if got == expected { Ok(()) } else { Err(format!("expected {expected}, got {got}")) }
}

/// The rows of a page of all rows.
fn page_of<T>(rows: &[T], skip: i64, take: i64) -> &[T] {
    let start = usize::try_from(skip).map_or(usize::MAX, |skip| skip.min(rows.len()));
    let limit = if take == 0 { usize::MAX } else { usize::try_from(take).unwrap_or(usize::MAX) };
    &rows[start..rows.len().min(start.saturating_add(limit))]
}

/// Checks that rows are a page of the ranked rows in their order, up to ties.
fn fits_page<T: PartialEq + Debug>(ranked: &[(OrderKey, T)], skip: i64, take: i64, got: &[T]) -> Result<(), String> {
    let page = page_of(ranked, skip, take);
    if page.len() != got.len() {
        return Err(format!("expected {} rows, got {}: {got:?}", page.len(), got.len()));
    }
    let mut seen = vec![false; ranked.len()];
    for (position, (row, (key, at_its_place))) in got.iter().zip(page).enumerate() {
        let tied = || ranked.iter().enumerate().filter(|(_, (other, _))| other == key);
        let Some((index, _)) = tied().find(|(index, (_, other))| !seen[*index] && other == row) else {
            return Err(format!(
                "row {position}, with the key {key:?}, is not a row of the model or is repeated: {row:?} instead of, for example, {at_its_place:?}"
            ));
        };
        seen[index] = true;
    }
    Ok(())
}

/// The results of reads that cover all ids of random queries.
pub async fn contents(store: &TestStore) -> Vec<Response> {
    let mut responses = Vec::new();
    for call in reads_of_everything() {
        responses.push(call.execute(&*store.database, &store.clock).await);
    }
    responses
}

fn reads_of_everything() -> Vec<Call> {
    let mut calls = vec![Call::GetJobs(GetJobsRequest { order: Order::ascending("jobId"), ..Default::default() })];
    calls.extend(["state", "cluster"].map(|field| {
        let aggregates = ["state", "submitted", "lastTransitionTime"].map(str::to_owned).to_vec();
        let grouped_field = GroupedField::field(field);
        let order = Order::ascending(field);
        Call::GetJobGroups(GetJobGroupsRequest { grouped_field, aggregates, order, ..Default::default() })
    }));
    calls.extend(
        JOB_IDS
            .iter()
            .flat_map(|&id| [Call::GetJobSpec { job_id: id.to_owned() }, Call::GetJobError { job_id: id.to_owned() }]),
    );
    calls.extend(RUN_IDS.iter().flat_map(|&id| {
        [Call::GetJobRunError { job_run_id: id.to_owned() }, Call::GetJobRunDebugMessage { job_run_id: id.to_owned() }]
    }));
    calls
}

/// The calls as a scenario with the responses of the model, which can be kept as a fixture.
pub async fn as_scenario(calls: &[Call]) -> String {
    let clock = std::sync::Arc::new(broadside::ManualClock::default());
    let model = NaiveModel::new(clock.clone());
    let mut steps = Vec::new();
    for call in [Call::InitialiseSchema, Call::SetClock { now: EPOCH }].iter().chain(calls) {
        steps.push((call.clone(), Some(model.execute_as_written(call, &clock).await)));
    }
    Scenario::record(steps).to_string()
}

/// Splits the queries into the inserts and the updates.
pub fn inserts_and_updates(queries: &[IngestionQuery]) -> (Vec<IngestionQuery>, Vec<IngestionQuery>) {
    use IngestionQuery::{InsertJob, InsertJobError, InsertJobRun, InsertJobSpec};
    let is_insert =
        |query: &IngestionQuery| matches!(query, InsertJob(_) | InsertJobSpec(_) | InsertJobError(_) | InsertJobRun(_));
    queries.iter().cloned().partition(is_insert)
}
