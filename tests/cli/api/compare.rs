//! Tests of comparisons: the equality of results.

mod measurements;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use broadside::compare::{Backend, Comparison, ComparisonOutcome, OperationResult, Results, Target};
use broadside::ingest::IngestionBatch;
use broadside::memory::MemoryDatabase;
use broadside::query::{self, Direction, GroupField, JobOrderKey};
use broadside::query::{ReadCall, ReadResult};
use broadside::workload::{Aggregate, Grouping, PageKind, QueryKind, Record, Workload, WorkloadOptions};
use broadside::{Database, Error, ManualClock, Operation, Result, StoreInfo};

/// A store whose results are modified.
#[derive(Debug)]
struct Altered {
    store: Backend,
    alter: fn(&mut ReadResult),
    /// The number of the first results, which are not modified.
    unaltered: usize,
    reads: AtomicUsize,
}

#[async_trait]
impl Target for Altered {
    fn name(&self) -> &str {
        "altered"
    }

    async fn ingest(&self, batch: &IngestionBatch) -> Result<Duration> {
        self.store.ingest(batch).await
    }

    async fn answer(&self, query: &ReadCall) -> Result<(ReadResult, Duration)> {
        let (mut answer, time) = self.store.answer(query).await?;
        if self.reads.fetch_add(1, Ordering::Relaxed) >= self.unaltered {
            (self.alter)(&mut answer);
        }
        Ok((answer, time))
    }

    async fn info(&self) -> Result<StoreInfo> {
        self.store.info().await
    }
}

async fn store(name: &str, workload: &Workload) -> Backend {
    let clock = ManualClock::default();
    clock.set(workload.now());
    let database = MemoryDatabase::new().with_clock(Arc::new(clock));
    database.initialise_schema().await.unwrap();
    Backend::new(name, Arc::new(database))
}

/// The difference that a comparison finds in modified results; `None` if they are considered equal.
async fn problem(kind: QueryKind, alter: fn(&mut ReadResult)) -> Option<String> {
    later_problem(kind, 0, alter).await
}

/// The same if the first results are not modified.
async fn later_problem(kind: QueryKind, unaltered: usize, alter: fn(&mut ReadResult)) -> Option<String> {
    let workload = Workload::new(WorkloadOptions { jobs: 1500, ..WorkloadOptions::default() });
    let (store_of_altered, reads) = (store("altered", &workload).await, AtomicUsize::new(0));
    let altered = Altered { store: store_of_altered, alter, unaltered, reads };
    let targets: [Box<dyn Target>; 2] = [Box::new(store("memory", &workload).await), Box::new(altered)];
    let comparison = Comparison { workload: &workload, kinds: vec![kind], samples: 3 };
    match comparison.run(&targets, &|_, _, _| {}).await.unwrap() {
        ComparisonOutcome::Agreed(_) => None,
        ComparisonOutcome::Differed(differences) => {
            let [difference] = &differences[..] else { panic!("{differences:?}") };
            assert_eq!((difference.target.as_str(), difference.reference.as_str()), ("altered", "memory"));
            assert_eq!(difference.operation, kind.to_string());
            Some(difference.problem.clone())
        }
    }
}

async fn agreed(comparison: &Comparison<'_>, targets: &[Box<dyn Target>]) -> Results {
    match comparison.run(targets, &|_, _, _| {}).await.unwrap() {
        ComparisonOutcome::Agreed(results) => results,
        ComparisonOutcome::Differed(differences) => panic!("{differences:?}"),
    }
}

const BY_QUEUE: QueryKind =
    QueryKind::Page(PageKind::Ordered { key: JobOrderKey::Queue, direction: Direction::Ascending });
const BY_STATE: QueryKind =
    QueryKind::Page(PageKind::Ordered { key: JobOrderKey::State, direction: Direction::Ascending });
const BY_JOB_ID: QueryKind =
    QueryKind::Page(PageKind::Ordered { key: JobOrderKey::JobId, direction: Direction::Descending });
const GROUPS: QueryKind =
    QueryKind::Groups { by: Grouping::Field(GroupField::Owner), aggregates: &[Aggregate::States] };
const CHEAP: QueryKind = QueryKind::Page(PageKind::Priority(query::Comparison::Less));

/// A store that knows no records.
#[derive(Debug)]
struct Recordless(Backend);

#[async_trait]
impl Target for Recordless {
    fn name(&self) -> &str {
        self.0.name()
    }

    async fn ingest(&self, batch: &IngestionBatch) -> Result<Duration> {
        self.0.ingest(batch).await
    }

    async fn answer(&self, query: &ReadCall) -> Result<(ReadResult, Duration)> {
        match query {
            ReadCall::JobSpec(id) => Err(Error::not_found(Operation::GetJobSpec, "spec", "job", id)),
            _ => self.0.answer(query).await,
        }
    }

    async fn info(&self) -> Result<StoreInfo> {
        self.0.info().await
    }
}

#[tokio::test]
async fn a_record_that_one_store_lacks_is_a_difference_and_one_that_all_lack_is_not_timed() {
    let workload = Workload::new(WorkloadOptions { jobs: 500, ..WorkloadOptions::default() });
    let comparison =
        Comparison { workload: &workload, kinds: vec![QueryKind::Record(Record::Spec), CHEAP], samples: 3 };
    let lacking = || async { Box::new(Recordless(store("lacking", &workload).await)) as Box<dyn Target> };
    let results = agreed(&comparison, &[lacking().await, lacking().await]).await;
    assert!(results.operations.iter().all(|operation| operation.name != "job spec"));
    let targets = [Box::new(store("memory", &workload).await) as Box<dyn Target>, lacking().await];
    let ComparisonOutcome::Differed(differences) = comparison.run(&targets, &|_, _, _| {}).await.unwrap() else {
        panic!("the results are equal")
    };
    let [difference] = &differences[..] else { panic!("{differences:?}") };
    assert!(difference.problem.starts_with("got an error: "), "{}", difference.problem);
}

/// A store without updates that ingests its batches in reverse order, so that the order of ties differs.
#[derive(Debug)]
struct Reversed {
    store: Backend,
    batches: Mutex<Vec<IngestionBatch>>,
}

#[async_trait]
impl Target for Reversed {
    fn name(&self) -> &str {
        "reversed"
    }

    fn supports_updates(&self) -> bool {
        false
    }

    async fn ingest(&self, batch: &IngestionBatch) -> Result<Duration> {
        self.batches.lock().unwrap().push(batch.clone());
        Ok(Duration::from_micros(1))
    }

    async fn finish_ingestion(&self) -> Result<()> {
        let batches = std::mem::take(&mut *self.batches.lock().unwrap());
        for batch in batches.iter().rev() {
            self.store.ingest(batch).await?;
        }
        Ok(())
    }

    async fn answer(&self, query: &ReadCall) -> Result<(ReadResult, Duration)> {
        self.store.answer(query).await
    }

    async fn info(&self) -> Result<StoreInfo> {
        self.store.info().await
    }
}

#[tokio::test]
async fn ties_may_differ_in_rows_and_order() {
    let workload = Workload::new(WorkloadOptions { jobs: 3000, ..WorkloadOptions::default() });
    let reversed = Reversed { store: store("reversed", &workload).await, batches: Mutex::default() };
    let targets: [Box<dyn Target>; 2] = [Box::new(store("memory", &workload).await), Box::new(reversed)];
    let comparison = Comparison { workload: &workload, kinds: QueryKind::essential(), samples: 3 };
    let ComparisonOutcome::Agreed(results) = comparison.run(&targets, &|_, _, _| {}).await.unwrap() else { panic!() };
    let is_complete = |operation: &OperationResult| operation.measurements.iter().all(Option::is_some);
    let incomplete = results.operations.iter().filter(|operation| !is_complete(operation));
    let (written, ingested): (Vec<_>, Vec<_>) = incomplete.partition(|operation| operation.name.ends_with("a write"));
    assert_eq!((written.len(), ingested.len()), (20, 3), "a store without updates takes no part");

    let query = workload.query(BY_STATE, 0).unwrap();
    let mut ids = Vec::new();
    for target in &targets {
        let (mut answer, _) = target.answer(&query).await.unwrap();
        ids.push(jobs(&mut answer).iter().map(|job| job.job_id.clone()).collect::<BTreeSet<_>>());
    }
    assert_ne!(ids[0], ids[1], "the stores return the same ties");
    assert_eq!(problem(BY_STATE, |answer| jobs(answer).reverse()).await, None);
}

#[tokio::test]
async fn rows_out_of_order_are_differences() {
    let found = problem(BY_JOB_ID, |answer| jobs(answer).swap(3, 4)).await.unwrap();
    assert!(found.starts_with("row 3: expected the order key"), "{found}");
}

#[tokio::test]
async fn missing_and_repeated_rows_are_differences() {
    let found = problem(BY_QUEUE, |answer| drop(jobs(answer).pop())).await.unwrap();
    assert_eq!(found, "expected 100 rows, got 99");
    let repeat = |answer: &mut ReadResult| jobs(answer)[8] = jobs(answer)[7].clone();
    let found = problem(BY_QUEUE, repeat).await.unwrap();
    assert!(found.starts_with("rows 7 and 8 are both"), "{found}");
}

#[tokio::test]
async fn a_difference_has_the_path_and_the_value() {
    let alter = |answer: &mut ReadResult| {
        for job in jobs(answer) {
            job.runs.iter_mut().for_each(|run| run.exit_code = Some(77));
        }
    };
    let found = problem(BY_QUEUE, alter).await.unwrap();
    assert!(found.contains("/runs/0/exitCode") && found.ends_with("got 77"), "{found}");
}

#[tokio::test]
async fn rows_that_the_query_does_not_select_are_differences() {
    let alter = |answer: &mut ReadResult| jobs(answer)[0].job_id = "other".into();
    let found = problem(BY_QUEUE, alter).await.unwrap();
    assert!(found.starts_with("\"other\" is not selected"), "{found}");
    let found = problem(GROUPS, |answer| groups(answer)[0].name = "other".into()).await.unwrap();
    assert!(found.starts_with("\"other\" is not selected"), "{found}");
}

#[tokio::test]
async fn results_are_also_compared_during_the_measurement() {
    let found = later_problem(GROUPS, 1, |answer| groups(answer)[0].count += 1).await.unwrap();
    assert!(found.starts_with("row 0: expected the order key"), "{found}");
}

#[tokio::test]
async fn groups_and_records_are_compared() {
    let found = problem(GROUPS, |answer| groups(answer)[2].count += 1).await.unwrap();
    assert!(found.starts_with("row 2: expected the order key"), "{found}");
    let alter = |answer: &mut ReadResult| *answer = ReadResult::Text("other".to_owned());
    let found = problem(QueryKind::Record(Record::RunError), alter).await.unwrap();
    assert!(found.ends_with("got \"other\""), "{found}");
    let alter = |answer: &mut ReadResult| {
        if let ReadResult::Spec(spec) = answer {
            // A field that is not known.
            *spec = [spec.as_ref(), &[0xa0, 0x06, 0x01]].concat().into();
        }
    };
    assert!(problem(QueryKind::Record(Record::Spec), alter).await.is_some());
}

/// A store that loses the updates after the load.
#[derive(Debug)]
struct Stale(Backend, AtomicBool);

#[async_trait]
impl Target for Stale {
    fn name(&self) -> &str {
        "stale"
    }

    async fn ingest(&self, batch: &IngestionBatch) -> Result<Duration> {
        if self.1.load(Ordering::Relaxed) { Ok(Duration::ZERO) } else { self.0.ingest(batch).await }
    }

    async fn finish_ingestion(&self) -> Result<()> {
        self.1.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn answer(&self, query: &ReadCall) -> Result<(ReadResult, Duration)> {
        self.0.answer(query).await
    }

    async fn info(&self) -> Result<StoreInfo> {
        self.0.info().await
    }
}

#[tokio::test]
async fn a_write_that_a_store_loses_is_a_difference() {
    let workload = Workload::new(WorkloadOptions { jobs: 1500, ..WorkloadOptions::default() });
    let stale = Stale(store("stale", &workload).await, AtomicBool::new(false));
    let targets: [Box<dyn Target>; 2] = [Box::new(store("memory", &workload).await), Box::new(stale)];
    let comparison = Comparison { workload: &workload, kinds: vec![GROUPS], samples: 3 };
    let ComparisonOutcome::Differed(differences) = comparison.run(&targets, &|_, _, _| {}).await.unwrap() else {
        panic!("the results are equal")
    };
    let [difference] = &differences[..] else { panic!("{differences:?}") };
    assert_eq!(difference.operation, "groups by owner: state, after a write");
}

fn jobs(answer: &mut ReadResult) -> &mut Vec<broadside::Job> {
    let ReadResult::Jobs(jobs) = answer else { panic!("{answer:?}") };
    jobs
}

fn groups(answer: &mut ReadResult) -> &mut Vec<broadside::JobGroup> {
    let ReadResult::Groups(groups) = answer else { panic!("{answer:?}") };
    groups
}
