//! Tests of the workload's guarantees.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::ingest::{IngestionBatch, IngestionQuery};
use crate::model::JobState;

fn workload(jobs: u64, layout: LoadOrder) -> Workload {
    Workload::new(WorkloadOptions { jobs, layout, ..WorkloadOptions::default() })
}

const LAYOUTS: [LoadOrder; 2] = [LoadOrder::TimeInterleaved, LoadOrder::QueueContiguous];

#[test]
fn jobs_are_stable_across_versions() {
    let job = workload(1000, LoadOrder::TimeInterleaved).job(500);
    let shown = format!("{} {} {} {} {}", job.new.job_id, job.new.job_set, job.new.owner, job.state, job.new.submitted);
    assert_eq!(
        shown,
        "01kj1aap006mrmqqvb7gmgr7e3 forecasting-nightly-000000 user-055 SUCCEEDED 2026-02-22T00:19:14.470532Z"
    );
}

#[test]
fn ids_ascend_and_queues_follow_the_layout() {
    for layout in LAYOUTS {
        let jobs: Vec<_> = workload(5000, layout).jobs().collect();
        assert!(jobs.is_sorted_by(|a, b| a.new.job_id < b.new.job_id), "{layout:?}");
        let changes = jobs.windows(2).filter(|pair| pair[0].new.queue != pair[1].new.queue).count();
        let queues = jobs.iter().map(|job| &job.new.queue).collect::<BTreeSet<_>>().len();
        assert_eq!(queues, QUEUES.len(), "{layout:?}");
        assert_eq!(changes == queues - 1, layout == LoadOrder::QueueContiguous, "{layout:?}");
    }
}

#[test]
fn three_in_ten_jobs_are_active_in_a_part_of_the_job_sets() {
    for layout in LAYOUTS {
        let (mut active, mut job_sets, mut active_job_sets) = (0, BTreeSet::new(), BTreeSet::new());
        for job in workload(20_000, layout).jobs() {
            if job.state.is_active() {
                active += 1;
                active_job_sets.insert(job.new.job_set.clone());
            }
            job_sets.insert(job.new.job_set);
        }
        assert!((5500..6500).contains(&active), "{layout:?}: {active}");
        assert!((150..=220).contains(&job_sets.len()), "{layout:?}: {}", job_sets.len());
        assert!(active_job_sets.len() * 5 < job_sets.len() * 4, "{layout:?}: {}", active_job_sets.len());
    }
}

#[test]
fn lifecycles_are_valid_and_end_in_the_state_of_the_job() {
    let workload = workload(3000, LoadOrder::TimeInterleaved);
    let mut seen = BTreeSet::new();
    for job in workload.jobs() {
        let queries = workload.lifecycle(job.number).into_iter().flatten();
        let batch = IngestionBatch::new(queries).unwrap();
        let end = batch.job_updates().first().map(|update| &update.if_active);
        let (state, time) = end.and_then(|end| end.transition).unwrap_or((JobState::Queued, job.new.submitted));
        assert_eq!((state, time), (job.state, job.last_transition_time), "{}", job.new.job_id);
        assert_eq!(end.and_then(|end| end.latest_run_id.as_ref()), job.runs.last().map(|run| &run.run_id));
        assert_eq!(batch.runs().len(), job.runs.len());
        assert!(job.last_transition_time < workload.now());
        seen.insert(job.state.ordinal());
    }
    assert_eq!(seen.len(), JobState::ALL.len());
}

#[test]
fn both_batch_orders_have_the_same_lifecycles() {
    let by_job = |queries: &mut dyn Iterator<Item = IngestionQuery>| {
        let mut by_job: BTreeMap<String, Vec<IngestionQuery>> = BTreeMap::new();
        for query in queries {
            by_job.entry(query.job_id().to_owned()).or_default().push(query);
        }
        by_job
    };
    let workload = workload(500, LoadOrder::QueueContiguous);
    let whole = by_job(&mut workload.batches(64).flatten());
    let live = by_job(&mut workload.live_batches(64).flatten());
    assert_eq!(whole, live);
    assert_eq!(workload.batches(64).count(), 8);
    assert!(workload.live_batches(64).count() > 8);
}

#[test]
fn every_kind_has_a_unique_name_and_queries() {
    let workload = workload(2000, LoadOrder::TimeInterleaved);
    let names: BTreeSet<_> = QueryKind::all().iter().map(QueryKind::to_string).collect();
    assert_eq!(names.len(), QueryKind::all().len());
    for kind in QueryKind::all() {
        let query = workload.query(kind, 0).unwrap_or_else(|| panic!("no query of kind {kind}"));
        assert_eq!(Some(query), workload.query(kind, 0), "{kind}");
    }
    let QueryKind::Page(_) = QueryKind::essential()[0] else { panic!("pages come first") };
}

#[test]
fn small_workloads_are_supported() {
    for layout in LAYOUTS {
        for jobs in 0..25 {
            let workload = workload(jobs, layout);
            assert_eq!(workload.jobs().count() as u64, jobs);
            for kind in QueryKind::all() {
                assert!(workload.query(kind, 7).is_none() || jobs > 0, "{kind}");
            }
        }
    }
}
