//! The generator in simulated time.

use std::collections::HashMap;

use super::config::LoadConfig;
use super::generator::{Draws, Generator, PlannedBatch};
use super::life::{LifeStage, LiveJob};
use super::worker::{Change, Event, Target};
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
    LoadConfig::parse([("test.yaml", text.as_str())]).unwrap().config
}

fn generator(ingestion: &str) -> Generator {
    Generator::new(&config(ingestion), Draws::default(), START)
}

/// Steps through the time up to `end`, with a store that takes every batch at once, except while it stalls.
fn play(generator: &mut Generator, end: u64, stalls: impl Fn(u64) -> bool, mut batch: impl FnMut(&PlannedBatch, u64)) {
    generator.end_at(end);
    let mut sent = Vec::new();
    let mut now = 0;
    while now < end || !generator.is_drained() {
        generator.advance(now);
        if !stalls(now) {
            for worker in sent.drain(..) {
                generator.complete(worker);
            }
        }
        while let Some(planned) = generator.next_batch(now, now >= end) {
            batch(&planned, now);
            sent.push(planned.worker);
        }
        now += 5_000;
        assert!(now < 10 * end, "the generator does not come to an end");
    }
}

fn stages(batch: &PlannedBatch) -> impl Iterator<Item = (LiveJob, LifeStage, u64)> {
    batch.events.iter().filter_map(|due| match &due.event {
        Event::Life(job, stage) => Some((*job, *stage, due.micros)),
        Event::Change(_) => None,
    })
}

#[test]
fn an_active_job_takes_24_bytes() {
    assert_eq!(size_of::<LiveJob>(), 24);
}

#[test]
fn every_life_comes_in_order_and_at_its_times_whatever_the_store_does() {
    let mut generator = generator("numWorkers: 3");
    let mut lives: HashMap<u64, Vec<(LifeStage, u64)>> = HashMap::new();
    play(
        &mut generator,
        3_000_000,
        |now| (500_000..2_500_000).contains(&now),
        |batch, _| {
            for (job, stage, due) in stages(batch) {
                lives.entry(job.number).or_default().push((stage, due));
            }
        },
    );
    assert_eq!(lives.len(), 3000);
    for (number, life) in lives {
        let arrival = number * 1000;
        let last = life[life.len() - 1].0;
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
        // Whether a job that still runs would fail or succeed cannot be seen.
        let expected = if last == LifeStage::Running { &expected[..4] } else { &expected[..] };
        assert_eq!(life, expected, "{number}");
    }
}

#[test]
fn batches_are_valid_full_and_of_one_worker() {
    let mut generator = generator("numWorkers: 4\nbatchTimeout: 1h");
    let mut queries = 0;
    let mut owners: HashMap<String, usize> = HashMap::new();
    let lives = generator.lives().clone();
    play(
        &mut generator,
        2_000_000,
        |_| false,
        |batch, now| {
            let made = batch.queries(&lives);
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
fn a_batch_waits_a_second_to_fill_or_as_long_as_is_configured() {
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
fn what_the_store_delays_is_backlog_and_no_lag() {
    let mut generator = generator("channelBufferSizeMultiplier: 1");
    play(&mut generator, 2_000_000, |now| (200_000..1_800_000).contains(&now), |_, _| {});
    // Steps of 5 ms are all that the generator itself is late by.
    assert!(generator.lag.max_nanos().unwrap() <= 5_010_000, "{:?}", generator.lag);
    let mut late = unbounded();
    late.advance(1_000_000);
    assert!(late.lag.max_nanos().unwrap() >= 990_000_000);
}

fn unbounded() -> Generator {
    generator("channelBufferSizeMultiplier: 1000")
}

#[test]
fn the_backlog_counts_every_query_that_was_due() {
    let mut generator = generator("channelBufferSizeMultiplier: 1");
    generator.end_at(2_000_000);
    let mut due = 0;
    play(&mut unbounded(), 2_000_000, |_| false, |batch, _| due += batch.query_count());
    // Nothing is ever stored.
    for now in (0..=3_000_000).step_by(5_000) {
        generator.advance(now);
        while generator.next_batch(now, false).is_some() {}
    }
    // Jobs that have not been taken up are no part of any stage yet, but their arrival is known.
    assert_eq!(generator.backlog(3_000_000), due);
}

#[test]
fn a_full_backlog_sheds_whole_lives_and_counts_them() {
    for (strategy, is_dropped) in [("drop", true), ("error", false)] {
        let mut generator = generator(&format!("channelBufferSizeMultiplier: 2\nbacklogDropStrategy: {strategy}"));
        let mut lives: HashMap<u64, Vec<LifeStage>> = HashMap::new();
        play(
            &mut generator,
            3_000_000,
            |now| (500_000..1_500_000).contains(&now),
            |batch, _| {
                for (job, stage, _) in stages(batch) {
                    lives.entry(job.number).or_default().push(stage);
                }
            },
        );
        let shed = if is_dropped { generator.shed.dropped } else { generator.shed.refused };
        assert!(shed > 100, "{strategy}: {shed}");
        assert_eq!(generator.shed.dropped + generator.shed.refused, shed);
        assert_eq!(lives.len() as u64 + shed, 3000);
        // A life that began is whole.
        assert!(
            lives.values().all(|life| life[0] == LifeStage::Submitted && life.windows(2).all(|pair| pair[0] < pair[1]))
        );
        assert_eq!(generator.expectation.jobs(), lives.len() as u64);
    }
}

#[test]
fn the_greatest_backlog_bounds_all_workers_together() {
    let mut generator =
        generator("numWorkers: 4\nchannelBufferSizeMultiplier: 100\nmaxBacklogSize: 120\nbacklogDropStrategy: drop");
    for now in (0..1_000_000).step_by(5_000) {
        generator.advance(now);
    }
    // The first 120 or so of 1,000 jobs, and no more.
    assert!((860..=900).contains(&generator.shed.dropped), "{:?}", generator.shed);
}

#[test]
fn a_cancelled_job_changes_no_more_and_one_that_has_ended_is_left_alone() {
    let mut generator = generator("numWorkers: 2");
    let lives = generator.lives().clone();
    let running = lives.job(100, 100_000);
    let ended = lives.job(0, 0);
    let mut after: HashMap<u64, Vec<LifeStage>> = HashMap::new();
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
            for due in &planned.events {
                match &due.event {
                    Event::Life(job, stage) => after.entry(job.number).or_default().push(*stage),
                    Event::Change(change) => cancels.push(change.query.job_id().to_owned()),
                }
            }
            generator.complete(planned.worker);
        }
    }
    assert_eq!(cancels, [lives.id(&running).job()]);
    assert_eq!(after[&100], [LifeStage::Submitted, LifeStage::Leased, LifeStage::Pending, LifeStage::Running]);
    assert!(matches!(after[&0][..], [.., LifeStage::Succeeded | LifeStage::Failed]));
    assert_eq!(generator.take_void(), [7]);
    assert!(generator.owner(&running).cancelled_at(running.key()).is_some());
}

fn cancel(generator: &mut Generator, job: &LiveJob, now: u64) {
    let lives = generator.lives().clone();
    let id = lives.id(job);
    let query: IngestionQuery = SetJobCancelled {
        job_id: id.job().to_owned(),
        time: lives.time(now),
        cancel_reason: None,
        cancel_user: None,
        submitted: None,
    }
    .into();
    let target = Target::Live(lives.key(lives.time(job.arrival), id.job()).unwrap());
    generator.change(now, id.job(), Change { action: 7, query, target });
}

#[test]
fn the_expectation_follows_what_is_sent() {
    let mut generator = generator("numWorkers: 2");
    let mut counts: HashMap<JobState, i64> = HashMap::new();
    let mut last: HashMap<u64, LifeStage> = HashMap::new();
    play(
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
    let stored = super::expectation::Expectation::of_store(&states, with_run);
    assert_eq!(generator.expectation.differences(&stored), Vec::<String>::new());
    let mut lost = stored.clone();
    lost.transition(Some(JobState::Succeeded), JobState::Running);
    assert_eq!(generator.expectation.differences(&lost).len(), 2);
}
