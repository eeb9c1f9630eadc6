//! Tests of the generator in simulated time.

mod outstanding;

use std::collections::HashMap;

use super::arrivals::ArrivalKind;
use super::config::LoadConfig;
use super::generator::{Generator, GeneratorOptions, PlannedBatch};
use super::lifecycle::{LifeStage, LiveJob};
use super::worker::{Change, ChangeTarget, Event};
use crate::ingest::{IngestionBatch, IngestionQuery, SetJobCancelled};
use crate::model::JobState;
use crate::time::Timestamp;

const START: Timestamp = Timestamp::from_seconds(1_772_323_200);

fn config(ingestion: &str) -> LoadConfig {
    let text = format!(
        "
testDuration: 1m
databaseConfig: {{inMemory: true}}
queueConfig:
  - {{name: q, proportion: 0.5, jobSetConfig: [{{name: s, proportion: 0.4}}, {{name: t, proportion: 0.6}}]}}
  - {{name: r, proportion: 0.5, jobSetConfig: [{{name: s, proportion: 1}}]}}
ingestionConfig:
  batchSize: 50
  submissionsPerHour: 3600000
  jobStateTransitionConfig:
    queueingDuration: 200ms
    leasedDuration: 100ms
    pendingDuration: 300ms
    proportionSucceed: 0.8
    runningToSuccessDuration: 500ms
    runningToFailureDuration: 250ms
  {}",
        ingestion.replace('\n', "\n  ")
    );
    LoadConfig::parse([("test.yaml", text.as_str())], []).unwrap().config
}

fn generator(ingestion: &str) -> Generator {
    Generator::new(&config(ingestion), GeneratorOptions::default(), START)
}

/// Advances the generator to `end`. The store completes each batch immediately, except while it stalls.
fn simulate(
    generator: &mut Generator,
    end: u64,
    stalls: impl Fn(u64) -> bool,
    mut batch: impl FnMut(&PlannedBatch, u64),
) {
    generator.end_at(end);
    let mut sent = Vec::new();
    let mut now = 0;
    while now < end || !generator.is_drained() {
        generator.advance(now);
        if !stalls(now) {
            for worker in sent.drain(..) {
                generator.complete(worker, now);
            }
        }
        while let Some(planned) = generator.next_batch(now, now >= end) {
            batch(&planned, now);
            sent.push(planned.worker);
        }
        now += 5_000;
        assert!(now < 10 * end, "the generator does not drain");
    }
}

fn stages(batch: &PlannedBatch) -> impl Iterator<Item = (LiveJob, LifeStage, u64)> {
    batch.events.iter().filter_map(|due| match &due.event {
        Event::Transition(job, stage) => Some((*job, *stage, due.micros)),
        Event::Change(_) => None,
    })
}

#[test]
fn an_active_job_takes_24_bytes() {
    assert_eq!(size_of::<LiveJob>(), 24);
}

#[test]
fn due_times_do_not_depend_on_the_store() {
    let mut generator = generator("numWorkers: 3");
    let mut lifecycles: HashMap<u64, Vec<(LifeStage, u64)>> = HashMap::new();
    simulate(
        &mut generator,
        3_000_000,
        |now| (500_000..2_500_000).contains(&now),
        |batch, _| {
            for (job, stage, due) in stages(batch) {
                lifecycles.entry(job.number).or_default().push((stage, due));
            }
        },
    );
    assert_eq!(lifecycles.len(), 3000);
    for (number, lifecycle) in lifecycles {
        let arrival = number * 1000;
        let last = lifecycle[lifecycle.len() - 1].0;
        let (end, after) =
            if last == LifeStage::Failed { (LifeStage::Failed, 850_000) } else { (LifeStage::Succeeded, 1_100_000) };
        let whole = [
            (LifeStage::Submitted, 0),
            (LifeStage::Leased, 200_000),
            (LifeStage::Pending, 300_000),
            (LifeStage::Running, 600_000),
            (end, after),
        ];
        let expected: Vec<_> =
            whole.iter().map(|(stage, delay)| (*stage, arrival + delay)).filter(|(_, due)| *due < 3_000_000).collect();
        // The outcome of a running job is unknown.
        let expected = if last == LifeStage::Running { &expected[..4] } else { &expected[..] };
        assert_eq!(lifecycle, expected, "{number}");
    }
}

#[test]
fn batches_are_valid_and_full_and_jobs_have_one_worker() {
    let mut generator = generator("numWorkers: 4\nbatchTimeout: 1h");
    let mut queries = 0;
    let mut owners: HashMap<String, usize> = HashMap::new();
    let factory = generator.factory().clone();
    simulate(
        &mut generator,
        2_000_000,
        |_| false,
        |batch, now| {
            let made: Vec<_> = batch.queries(&factory).collect();
            assert_eq!(made.len() as u64, batch.query_count());
            assert!(made.len() <= 50 && (made.len() > 47 || now >= 2_000_000), "{}", made.len());
            for query in &made {
                assert_eq!(*owners.entry(query.job_id().to_owned()).or_insert(batch.worker), batch.worker);
            }
            queries += IngestionBatch::new(made).unwrap().query_count();
        },
    );
    assert!(queries > 10_000, "{queries}");
    assert!((0..4).all(|worker| owners.values().any(|owner| *owner == worker)));
}

#[test]
fn a_partial_batch_is_sent_after_the_batch_timeout() {
    for (timeout, micros) in [("", 1_000_000), ("\nbatchTimeout: 40ms", 40_000)] {
        let mut generator = generator(&format!("numWorkers: 1{timeout}"));
        let mut waits = Vec::new();
        generator.advance(0);
        let mut now = 0;
        while waits.is_empty() {
            waits.extend(generator.next_batch(now, false).map(|_| now));
            now += 5_000;
        }
        assert_eq!(waits, [micros]);
    }
}

#[test]
fn delays_by_the_store_are_not_the_lag_of_the_driver() {
    let mut generator = generator("channelBufferSizeMultiplier: 1");
    let mut lags = Vec::new();
    simulate(
        &mut generator,
        2_000_000,
        |now| (200_000..1_800_000).contains(&now),
        |batch, now| lags.extend(batch.events.iter().map(|event| event.lag.max(now - batch.ready))),
    );
    // The lag is at most the step of the simulation.
    assert!(lags.iter().all(|&lag| lag <= 5_000), "{:?}", lags.iter().max());
    let mut late = unbounded();
    late.advance(1_000_000);
    let batch = late.next_batch(1_000_000, false).unwrap();
    assert_eq!(batch.events[0].lag, 1_000_000);
    // The buffer had a full batch at once.
    assert_eq!(batch.ready, 1_000_000);
}

#[test]
fn a_batch_is_ready_when_it_is_full_or_expires_and_the_worker_is_free() {
    // The first batch of 50 queries is full after 49 ms; the second follows the completion of the first.
    let mut generator = generator("numWorkers: 1\nbatchTimeout: 1s");
    let mut ready = Vec::new();
    for now in (0..200_000).step_by(1_000) {
        generator.advance(now);
        ready.extend(generator.next_batch(now + 700, false).map(|batch| batch.ready));
        if now == 150_000 {
            generator.complete(0, 149_300);
        }
    }
    assert_eq!(ready, [49_000, 149_300]);
}

#[test]
fn every_due_event_is_stored_or_unfinished() {
    for (capacity, end) in [(1, 2_000_000), (1000, 1_234_567)] {
        let mut generator = generator(&format!("numWorkers: 3\nchannelBufferSizeMultiplier: {capacity}"));
        let (mut due, mut stored) = (Vec::new(), Vec::new());
        let all = &mut unbounded();
        simulate(all, end, |_| false, |batch, _| due.extend(batch.events.iter().map(|event| event.micros)));
        generator.end_at(end);
        // Each worker stores one batch and loses the next one.
        let mut batches = [0; 3];
        for now in (0..=3_000_000).step_by(5_000) {
            generator.advance(now);
            let due_now = generator.unfinished().filter(|&(due, _)| due <= now).map(|(_, queries)| queries);
            assert_eq!(generator.backlog(now), due_now.sum::<u64>());
            while let Some(batch) = generator.next_batch(now, false) {
                batches[batch.worker] += 1;
                if batches[batch.worker] == 1 {
                    stored.extend(batch.events.iter().map(|event| event.micros));
                    generator.complete(batch.worker, now);
                }
            }
        }
        assert!(!stored.is_empty() && stored.len() < due.len());
        let mut found: Vec<_> = generator.unfinished().map(|(due, _)| due).chain(stored).collect();
        found.sort_unstable();
        due.sort_unstable();
        assert_eq!(found, due);
    }
}

fn unbounded() -> Generator {
    generator("channelBufferSizeMultiplier: 1000")
}

#[test]
fn the_backlog_counts_all_due_queries() {
    let mut generator = generator("channelBufferSizeMultiplier: 1");
    generator.end_at(2_000_000);
    let mut due = 0;
    simulate(&mut unbounded(), 2_000_000, |_| false, |batch, _| due += batch.query_count());
    // No batch is stored.
    for now in (0..=3_000_000).step_by(5_000) {
        generator.advance(now);
        while generator.next_batch(now, false).is_some() {}
    }
    // The backlog includes the queries of jobs that the full queue has not accepted.
    assert_eq!(generator.backlog(3_000_000), due);
}

#[test]
fn a_full_backlog_sheds_jobs_with_all_transitions() {
    for (strategy, is_dropped) in [("drop", true), ("error", false)] {
        let mut generator = generator(&format!("channelBufferSizeMultiplier: 2\nbacklogDropStrategy: {strategy}"));
        let mut lifecycles: HashMap<u64, Vec<LifeStage>> = HashMap::new();
        simulate(
            &mut generator,
            3_000_000,
            |now| (500_000..1_500_000).contains(&now),
            |batch, _| {
                for (job, stage, _) in stages(batch) {
                    lifecycles.entry(job.number).or_default().push(stage);
                }
            },
        );
        let shed = if is_dropped { generator.shed.dropped } else { generator.shed.rejected };
        assert!(shed > 100, "{strategy}: {shed}");
        assert_eq!(generator.shed.dropped + generator.shed.rejected, shed);
        assert_eq!(lifecycles.len() as u64 + shed, 3000);
        // Accepted jobs have all their transitions.
        assert!(lifecycles.values().all(
            |lifecycle| lifecycle[0] == LifeStage::Submitted && lifecycle.windows(2).all(|pair| pair[0] < pair[1])
        ));
        assert_eq!(generator.expectation.jobs(), lifecycles.len() as u64);
    }
}

#[test]
fn the_maximum_backlog_is_that_of_each_worker() {
    let mut generator =
        generator("numWorkers: 4\nchannelBufferSizeMultiplier: 100\nmaxBacklogSize: 30\nbacklogDropStrategy: drop");
    for now in (0..195_000).step_by(5_000) {
        generator.advance(now);
    }
    // No batch is stored: each worker accepts 30 of its jobs that arrive before the first transition.
    let factory = generator.factory().clone();
    let mut jobs = [0_u64; 4];
    (0..191).for_each(|number| jobs[factory.id(&factory.job(number, number * 1000)).worker(4)] += 1);
    assert_eq!(generator.shed.dropped, jobs.iter().map(|jobs| jobs.saturating_sub(30)).sum::<u64>());
    assert!(generator.shed.dropped > 50, "{jobs:?}");
    // With a limit of less than a batch, each worker has a batch in flight, and none waits for the others.
    // The id of a job has its number and its submission time: with one job per millisecond, two workers have no jobs.
    let options = GeneratorOptions { arrivals: ArrivalKind::Poisson, ..GeneratorOptions::default() };
    let mut generator = Generator::new(&config("numWorkers: 4\nmaxBacklogSize: 20"), options, START);
    let mut sent = [0; 4];
    for now in (0..1_000_000).step_by(5_000) {
        generator.advance(now);
        while let Some(batch) = generator.next_batch(now, true) {
            sent[batch.worker] += batch.query_count();
            generator.complete(batch.worker, now);
        }
    }
    assert!(sent.iter().all(|&queries| queries > 500), "{sent:?}");
}

#[test]
fn jobs_that_are_shed_in_the_warm_up_are_not_counted() {
    let config = LoadConfig {
        warmup_duration: std::time::Duration::from_millis(600),
        ..config("maxBacklogSize: 1\nbacklogDropStrategy: error")
    };
    let mut generator = Generator::new(&config, GeneratorOptions::default(), START);
    generator.advance(999_999);
    assert_eq!(generator.shed.rejected, 400);
}

#[test]
fn shares_together_have_the_jobs_of_one_generator() {
    let jobs = |share: &str| {
        let options = GeneratorOptions { share: share.parse().unwrap(), ..GeneratorOptions::default() };
        let mut generator = Generator::new(&config("numWorkers: 2"), options, START);
        let factory = generator.factory().clone();
        let mut ids = Vec::new();
        simulate(
            &mut generator,
            500_000,
            |_| false,
            |batch, _| ids.extend(batch.queries(&factory).map(|query| format!("{query:?}"))),
        );
        ids.sort_unstable();
        ids
    };
    let mut sum: Vec<_> = ["1/3", "2/3", "3/3"].into_iter().flat_map(jobs).collect();
    sum.sort_unstable();
    assert_eq!(sum, jobs("1/1"));
}

#[test]
fn cancelled_jobs_have_no_further_transitions_and_ended_jobs_are_skipped() {
    let mut generator = generator("numWorkers: 2");
    let factory = generator.factory().clone();
    let running = factory.job(100, 100_000);
    let ended = factory.job(0, 0);
    let mut stages: HashMap<u64, Vec<LifeStage>> = HashMap::new();
    let mut cancels = Vec::new();
    generator.end_at(3_000_000);
    for now in (0..3_000_000).step_by(5_000) {
        generator.advance(now);
        if now == 800_000 {
            // Job 100 has been running for 100 ms.
            cancel(&mut generator, &running, now);
        }
        if now == 2_000_000 {
            cancel(&mut generator, &ended, now);
        }
        while let Some(planned) = generator.next_batch(now, true) {
            for due in planned.events.iter() {
                match &due.event {
                    Event::Transition(job, stage) => stages.entry(job.number).or_default().push(*stage),
                    Event::Change(change) => cancels.push(change.query.job_id().to_owned()),
                }
            }
            generator.complete(planned.worker, now);
        }
    }
    assert_eq!(cancels, [factory.id(&running).job()]);
    assert_eq!(stages[&100], [LifeStage::Submitted, LifeStage::Leased, LifeStage::Pending, LifeStage::Running]);
    assert!(matches!(stages[&0][..], [.., LifeStage::Succeeded | LifeStage::Failed]));
    assert_eq!(generator.take_skipped(), [7]);
    assert!(generator.owner(&running).cancelled_at(running.key()).is_some());
}

fn cancel(generator: &mut Generator, job: &LiveJob, now: u64) {
    let factory = generator.factory().clone();
    let id = factory.id(job);
    let query: IngestionQuery = SetJobCancelled {
        job_id: id.job().to_owned(),
        time: factory.time(now),
        cancel_reason: None,
        cancel_user: None,
        submitted: None,
    }
    .into();
    let target = ChangeTarget::Live(factory.key(factory.time(job.arrival), id.job()).unwrap());
    generator.change(now, id.job(), Change { action: 7, query, target });
}

#[test]
fn the_expected_counts_match_the_sent_events() {
    let mut generator = generator("numWorkers: 2");
    let mut counts: HashMap<JobState, i64> = HashMap::new();
    let mut last: HashMap<u64, LifeStage> = HashMap::new();
    simulate(
        &mut generator,
        2_000_000,
        |_| false,
        |batch, _| {
            for (job, stage, _) in stages(batch) {
                last.insert(job.number, stage);
            }
        },
    );
    last.values().for_each(|stage| *counts.entry(stage.state()).or_default() += 1);
    let states: Vec<_> = counts.into_iter().map(|(state, count)| (state, count as u64)).collect();
    let with_run = last.values().filter(|stage| **stage >= LifeStage::Leased).count() as u64;
    let stored = super::expectation::ExpectedCounts::of_store(&states, with_run);
    assert_eq!(generator.expectation.differences(&stored), Vec::<String>::new());
    let mut lost = stored.clone();
    lost.transition(Some(JobState::Succeeded), JobState::Running);
    assert_eq!(generator.expectation.differences(&lost).len(), 2);
}
