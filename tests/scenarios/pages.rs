//! Consecutive pages of an unchanged store: together they are the whole list, in its order, also where many rows tie.

use std::collections::HashSet;

use broadside::ingest::{IngestionBatch, InsertJob, SetJobCancelled, UpdateJobPriority};
use broadside::model::JobState;
use broadside::query::{
    Direction, GroupField, GroupOrderKey, IntegerField, JobOrderKey, StateField, TextField, TimeAggregate,
};
use broadside::{Database, GroupQuery, IngestionQuery, JobQuery, SmolStr, Timestamp};
use libtest_mimic::Trial;

use crate::support::backends::Backend;
use crate::support::harness::{TestStoreRef, Verdict, describe, trial};
use crate::support::jobs::plain_job;

const GROUP_KEYS: [GroupOrderKey; 4] =
    [GroupOrderKey::Count, GroupOrderKey::Name, GroupOrderKey::Submitted, GroupOrderKey::LastTransitionTime];

pub fn trials() -> Vec<Trial> {
    let backends = Backend::ALL.into_iter().chain([Backend::MODEL]);
    let on = |backend: Backend| {
        [
            trial(backend, "consecutive-pages-show-each-job-once", move |store| jobs(backend, store)),
            trial(backend, "consecutive-pages-show-each-group-once", move |store| groups(backend, store)),
        ]
    };
    backends.flat_map(on).collect()
}

/// The number of jobs, and that of a page.
fn sizes(backend: Backend) -> (u32, u64) {
    match backend {
        Backend::MEMORY => (8_000, 100),
        _ => (600, 50),
    }
}

/// Fills a store with jobs of which 5 of 8 were submitted in the same second, and with one transition time for half of
/// them.
async fn fill(backend: Backend, database: &dyn Database) -> broadside::Result<()> {
    let (count, _) = sizes(backend);
    let job = |i: u32| {
        let scattered = i.wrapping_mul(0x9e37_79b1);
        let mut job = plain_job(&format!("{scattered:08x}"), &format!("s{}", i / 150 % 4));
        job.queue = format!("q{}", i % 3);
        job.owner = format!("o{}", scattered % 7);
        job.submitted = Timestamp::from_seconds(i64::from(i / (count * 5 / 8)));
        job
    };
    let inserts = (0..count).map(|i| InsertJob { job: job(i), job_spec: None }.into());
    let id = |i: u32| job(i).job_id;
    let cancelled = (0..count).step_by(2).map(|i| {
        let time = Timestamp::from_seconds(i64::from(i % 6));
        SetJobCancelled { job_id: id(i), time, cancel_reason: None, cancel_user: None, submitted: None }.into()
    });
    let priorities =
        (0..count).step_by(3).map(|i| UpdateJobPriority { job_id: id(i), priority: 7, submitted: None }.into());
    let queries: Vec<IngestionQuery> = inserts.chain(cancelled).chain(priorities).collect();
    database.initialise_schema().await?;
    for queries in queries.chunks(2_000) {
        database.execute_ingestion_query_batch(&IngestionBatch::new(queries.iter().cloned())?).await?;
    }
    Ok(())
}

/// Whether ties of jobs have an order. PostgreSQL orders them only where an index does.
fn orders_ties(backend: Backend, key: JobOrderKey) -> bool {
    !backend.name.starts_with("postgres") || matches!(key, JobOrderKey::JobId | JobOrderKey::LastTransitionTime)
}

async fn jobs(backend: Backend, store: TestStoreRef) -> Verdict {
    fill(backend, &*store.database).await.map_err(|error| describe(&error))?;
    let filters = [
        JobQuery::new(),
        JobQuery::new().filter(StateField.equals(JobState::Queued)),
        JobQuery::new().filter(TextField::Owner.contains("3")),
        JobQuery::new().filter(IntegerField::Priority.equals(7)),
    ];
    let keys = JobOrderKey::ALL.into_iter().filter(|&key| orders_ties(backend, key));
    for key in keys {
        for direction in Direction::ALL {
            for query in &filters {
                let query = query.clone().order_by(key, direction);
                jobs_add_up(backend, &*store.database, &query)
                    .await
                    .map_err(|problem| format!("{query:?}: {problem}"))?;
            }
        }
    }
    Ok(())
}

async fn jobs_add_up(backend: Backend, database: &dyn Database, query: &JobQuery) -> Verdict {
    let (_, limit) = sizes(backend);
    let ids = async |query: JobQuery| -> Result<Vec<SmolStr>, String> {
        let jobs = database.get_jobs(&query).await.map_err(|error| describe(&error))?;
        Ok(jobs.into_iter().map(|job| job.job_id).collect())
    };
    let all = ids(query.clone()).await?;
    let mut paged = Vec::new();
    while let page = ids(query.clone().offset(paged.len() as u64).limit(limit)).await?
        && !page.is_empty()
    {
        paged.extend(page);
    }
    let distinct = paged.iter().collect::<HashSet<_>>().len();
    if distinct != all.len() {
        return Err(format!("the pages show {distinct} of {} jobs", all.len()));
    }
    if paged == all { Ok(()) } else { Err("the pages have another order than the list".to_owned()) }
}

async fn groups(backend: Backend, store: TestStoreRef) -> Verdict {
    fill(backend, &*store.database).await.map_err(|error| describe(&error))?;
    let fields = [GroupField::Queue, GroupField::JobSet, GroupField::Owner, GroupField::Cluster, GroupField::State];
    for query in fields.map(GroupQuery::by) {
        let query = query.submitted().last_transition_time(TimeAggregate::Earliest);
        for key in GROUP_KEYS {
            for direction in Direction::ALL {
                let query = query.clone().order_by(key, direction);
                let names = async |query: GroupQuery| -> Result<Vec<SmolStr>, String> {
                    let groups = store.database.get_job_groups(&query).await.map_err(|error| describe(&error))?;
                    Ok(groups.into_iter().map(|group| group.name).collect())
                };
                let all = names(query.clone()).await?;
                let mut paged = Vec::new();
                for offset in 0..all.len() {
                    paged.extend(names(query.clone().offset(offset as u64).limit(1)).await?);
                }
                if paged != all {
                    return Err(format!("{query:?}: the groups {all:?}, by pages {paged:?}"));
                }
            }
        }
    }
    Ok(())
}
