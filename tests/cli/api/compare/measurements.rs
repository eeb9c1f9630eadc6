//! Tests of the measurements of comparisons: turns, writes, ratios and regressions.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use broadside::compare::{Backend, Comparison, ComparisonOutcome, Ingestion, Target, regressions};
use broadside::ingest::IngestionBatch;
use broadside::query::{ReadCall, ReadResult};
use broadside::workload::{Workload, WorkloadOptions};
use broadside::{Result, StoreInfo, Timestamp};

use super::{CHEAP, GROUPS, agreed, store};

#[tokio::test]
async fn results_have_a_measurement_for_each_target() {
    let workload = Workload::new(WorkloadOptions { jobs: 500, ..WorkloadOptions::default() });
    let targets: [Box<dyn Target>; 2] =
        [Box::new(store("one", &workload).await), Box::new(store("two", &workload).await)];
    let comparison = Comparison { workload: &workload, kinds: vec![CHEAP, GROUPS], samples: 4 };
    let ComparisonOutcome::Agreed(results) = comparison.run(&targets, &|_, _, _| {}).await.unwrap() else { panic!() };
    let names: Vec<_> = results.operations.iter().map(|operation| operation.name.as_str()).collect();
    let groups = ["groups by owner: state", "groups by owner: state, after a write"];
    assert_eq!((names.len(), &names[5..]), (7, &groups[..]), "{names:?}");
    for operation in &results.operations {
        assert_eq!(operation.measurements.iter().flatten().count(), 2, "{}", operation.name);
        assert_eq!(operation.ratio(0), None, "{}", operation.name);
        assert!(operation.ratio(1).is_some_and(|ratio| ratio.value > 0.0), "{}", operation.name);
    }
    let queries = results.operations.iter().filter(|operation| operation.name.starts_with("page"));
    for measured in queries.flat_map(|operation| operation.measurements.iter().flatten()) {
        assert_eq!(measured.runs, 4);
        assert_eq!((measured.times.p95_nanos, measured.times.p99_nanos), (None, None), "four runs have no p95");
    }
    assert!(results.backends.iter().all(|backend| backend.bytes_per_job > Some(0.0)));
    assert!(results.taken > Timestamp::from_seconds(0));
}

/// A call of a store: the query, or the ids of the jobs that a batch updates.
type Call = (&'static str, String);

/// A store that records its calls, and pretends that each batch takes 1 ms and each read the next of the given times.
#[derive(Debug)]
struct Recording {
    store: Backend,
    calls: Arc<Mutex<Vec<Call>>>,
    name: &'static str,
    times: Vec<Duration>,
    reads: AtomicUsize,
}

/// Stores that record their calls in one list.
async fn recording(
    workload: &Workload,
    stores: impl IntoIterator<Item = (&'static str, Vec<Duration>)>,
) -> (Vec<Box<dyn Target>>, Arc<Mutex<Vec<Call>>>) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let mut targets: Vec<Box<dyn Target>> = Vec::new();
    for (name, times) in stores {
        let (store, calls) = (store(name, workload).await, Arc::clone(&calls));
        targets.push(Box::new(Recording { store, calls, name, times, reads: AtomicUsize::new(0) }));
    }
    (targets, calls)
}

#[async_trait]
impl Target for Recording {
    fn name(&self) -> &str {
        self.name
    }

    async fn ingest(&self, batch: &IngestionBatch) -> Result<Duration> {
        let updated: Vec<_> = batch.job_updates().iter().map(|update| update.job_id.as_str()).collect();
        self.calls.lock().unwrap().push((self.name, updated.join(" ")));
        self.store.ingest(batch).await.map(|_| Duration::from_millis(1))
    }

    async fn answer(&self, query: &ReadCall) -> Result<(ReadResult, Duration)> {
        self.calls.lock().unwrap().push((self.name, format!("{query:?}")));
        let (answer, _) = self.store.answer(query).await?;
        let read = self.reads.fetch_add(1, Ordering::Relaxed);
        Ok((answer, self.times[read % self.times.len()]))
    }

    async fn info(&self) -> Result<StoreInfo> {
        self.store.info().await
    }
}

fn millis<const N: usize>(millis: [u64; N]) -> Vec<Duration> {
    millis.map(Duration::from_millis).to_vec()
}

#[tokio::test]
async fn stores_take_turns() {
    let workload = Workload::new(WorkloadOptions { jobs: 4000, ..WorkloadOptions::default() });
    let stores = ["one", "two", "three"].map(|name| (name, millis([1])));
    let (targets, calls) = recording(&workload, stores).await;
    let comparison = Comparison { workload: &workload, kinds: vec![CHEAP], samples: 30 };
    agreed(&comparison, &targets).await;
    let calls = calls.lock().unwrap();
    assert!(calls.len() > 100);
    let mut counts = BTreeMap::from(["one", "two", "three"].map(|name| (name, 0)));
    let mut leaders = BTreeSet::new();
    for (name, _) in calls.iter() {
        *counts.get_mut(name).unwrap() += 1;
        let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
        // A turn has at most ten executions.
        assert!(most - least <= 10, "{counts:?}");
        leaders.extend(counts.iter().filter(|(_, count)| **count == least + 10).map(|(&name, _)| name));
    }
    assert_eq!(counts.values().collect::<BTreeSet<_>>().len(), 1, "{counts:?}");
    assert_eq!(leaders.len(), 3, "the order of the stores does not rotate");
}

/// The first store takes 1 ms, the second 3 ms and sometimes 30 ms, in every turn alike.
#[tokio::test]
async fn ratios_and_intervals_are_those_of_the_medians() {
    let workload = Workload::new(WorkloadOptions { jobs: 500, ..WorkloadOptions::default() });
    let stores = [("one", millis([1])), ("two", millis([3, 3, 30, 3, 3]))];
    let (targets, _) = recording(&workload, stores).await;
    let comparison = Comparison { workload: &workload, kinds: vec![GROUPS], samples: 100 };
    let results = agreed(&comparison, &targets).await;
    let groups = results.operations.iter().find(|operation| operation.name.starts_with("groups")).unwrap();
    let ratio = groups.ratio(1).unwrap();
    let [low, high] = ratio.interval.unwrap();
    for value in [low, ratio.value, high] {
        assert!((value - 3.0).abs() < 1e-9, "{ratio:?}");
    }
    let measured = groups.measurements[1].as_ref().unwrap();
    assert_eq!((measured.runs, measured.times.p50_nanos), (100, 3_000_000));
    let (answer, _) = targets[0].answer(&workload.query(GROUPS, 0).unwrap()).await.unwrap();
    assert_eq!((measured.rows, measured.rows_per_second), (Some(answer.rows()), None));
    let load = results.operations[0].measurements[0].as_ref().unwrap();
    let batches: Vec<_> = Ingestion::Load.batches(&workload).map(|batch| batch.unwrap().query_count()).collect();
    assert_eq!((load.runs as usize, load.rows), (batches.len(), None));
    let rate = batches.iter().sum::<usize>() as f64 / (0.001 * batches.len() as f64);
    assert!((load.rows_per_second.unwrap() / rate - 1.0).abs() < 1e-9, "{load:?}");
    assert_eq!((measured.times.p95_nanos, measured.times.p99_nanos), (Some(30_000_000), Some(30_000_000)));
}

/// A read of 400 ms is executed once in each of ten turns: after 4 s for two stores, it is no longer repeated.
#[tokio::test]
async fn all_stores_execute_the_same_queries_equally_often_also_beside_a_slow_one() {
    let workload = Workload::new(WorkloadOptions { jobs: 1500, ..WorkloadOptions::default() });
    for (slow, checks, runs) in [(1, 50, 50), (40, 50, 50), (100, 40, 42), (400, 10, 10), (9000, 5, 5)] {
        for stores in [[("one", millis([1])), ("two", millis([slow]))], [("one", millis([slow])), ("two", millis([1]))]]
        {
            let (targets, calls) = recording(&workload, stores).await;
            let comparison = Comparison { workload: &workload, kinds: vec![CHEAP], samples: 50 };
            let results = agreed(&comparison, &targets).await;
            let page = results.operations.last().unwrap();
            let measured: Vec<_> = page.measurements.iter().flatten().map(|measured| measured.runs).collect();
            assert_eq!(measured, [runs, runs], "{slow} ms");
            assert!(page.ratio(1).unwrap().interval.is_some());
            let calls = calls.lock().unwrap();
            let queries = |name| calls.iter().filter(move |(of, call)| *of == name && call.starts_with("Jobs"));
            let of_both = ["one", "two"].map(|name| queries(name).map(|(_, call)| call).collect::<Vec<_>>());
            assert_eq!(of_both[0], of_both[1], "{slow} ms");
            let distinct = of_both[0].iter().collect::<BTreeSet<_>>().len() as u64;
            assert_eq!(of_both[0].len() as u64, distinct + runs, "each query is checked once");
            let all: HashSet<_> = (0..50).map(|number| format!("{:?}", workload.query(CHEAP, number))).collect();
            assert_eq!(distinct, checks.min(all.len() as u64), "{slow} ms");
        }
    }
}

#[tokio::test]
async fn groups_after_a_write_follow_the_same_untimed_updates_on_all_stores() {
    let workload = Workload::new(WorkloadOptions { jobs: 1500, ..WorkloadOptions::default() });
    let (targets, calls) = recording(&workload, ["one", "two"].map(|name| (name, millis([1])))).await;
    let comparison = Comparison { workload: &workload, kinds: vec![GROUPS], samples: 15 };
    let results = agreed(&comparison, &targets).await;
    let written = results.operations.last().unwrap();
    assert_eq!(written.name, "groups by owner: state, after a write");
    for measured in written.measurements.iter().flatten() {
        assert_eq!((measured.runs, measured.times.p50_nanos), (15, 1_000_000), "only the read is timed");
    }
    let calls = calls.lock().unwrap();
    let of = |name| calls.iter().filter(|(of, _)| *of == name).map(|(_, call)| call.as_str()).collect::<Vec<_>>();
    let (one, two) = (of("one"), of("two"));
    assert_eq!(one, two);
    // The check and fifteen executions, each after the update of twenty jobs.
    for pair in one[one.len() - 32..].chunks(2) {
        assert_eq!(pair[0].split(' ').count(), 20, "{}", pair[0]);
        assert!(pair[1].starts_with("Groups"), "{}", pair[1]);
    }
    assert_eq!(one[one.len() - 32..].iter().step_by(2).collect::<BTreeSet<_>>().len(), 16, "other jobs each time");
}

/// Ratios without an interval are not compared; the tolerance is 1.5.
#[tokio::test]
async fn a_regression_is_an_interval_below_that_of_the_baseline() {
    let workload = Workload::new(WorkloadOptions { jobs: 100, ..WorkloadOptions::default() });
    let targets: [Box<dyn Target>; 2] =
        [Box::new(store("one", &workload).await), Box::new(store("two", &workload).await)];
    let comparison = Comparison { workload: &workload, kinds: vec![CHEAP], samples: 1 };
    let results = agreed(&comparison, &targets).await;
    let with = |value: f64, interval: Option<[f64; 2]>| {
        let mut results = results.clone();
        results.operations.drain(..results.operations.len() - 1);
        results.settings.samples = 50;
        let mut ratio = results.operations[0].ratio(1).unwrap();
        (ratio.value, ratio.interval) = (value, interval);
        results.operations[0].measurements[1].as_mut().unwrap().ratio = Some(ratio);
        results
    };
    for (before, now, is_worse) in [
        ((4.0, None), (2.0, Some([1.9, 2.0])), false),
        ((4.0, Some([3.5, 4.5])), (2.0, None), false),
        ((4.0, Some([3.5, 4.5])), (2.0, Some([1.5, 2.3])), true),
        ((4.0, Some([3.5, 4.5])), (2.0, Some([1.5, 2.4])), false),
        ((4.0, Some([2.9, 5.0])), (2.0, Some([1.9, 2.0])), false),
        ((2.0, Some([1.9, 2.0])), (4.0, Some([3.5, 4.5])), false),
    ] {
        let found = regressions(&with(before.0, before.1), &with(now.0, now.1), 1.5).unwrap();
        assert_eq!(found.len(), usize::from(is_worse), "{before:?} {now:?}");
        if let [regression] = &found[..] {
            assert_eq!((regression.before.value, regression.now.value), (before.0, now.0));
            assert_eq!((regression.watched.as_str(), regression.other.as_str()), ("one", "two"));
        }
    }
    let worse = regressions(&with(4.0, Some([3.5, 4.5])), &with(2.0, Some([1.5, 2.25])), 1.5).unwrap();
    assert!(
        worse[0].to_string().ends_with("by 2.00: two took 4.00 (3.50 to 4.50) times as long, now 2.00 (1.50 to 2.25)"),
        "{}",
        worse[0]
    );
}
