//! The times at which the driver has work, and the jobs and events that are outstanding.

use super::*;

/// Each batch takes 7 ms.
const CALL: u64 = 7_000;

#[test]
fn nothing_is_late_if_the_driver_wakes_at_the_next_event_and_batch() {
    // With queues of one batch, events wait for room.
    for queues in ["channelBufferSizeMultiplier: 1", "channelBufferSizeMultiplier: 1000"] {
        let mut generator = generator(&format!("numWorkers: 3\nbatchTimeout: 30ms\n{queues}"));
        generator.end_at(1_500_000);
        let (mut sent, mut calls) = (Vec::new(), Vec::new());
        let (mut now, mut repeated) = (0, 0);
        loop {
            generator.advance(now);
            while let Some(batch) = generator.next_batch(now, false) {
                assert_eq!(batch.ready, now);
                assert!(batch.events.iter().all(|event| event.lag == 0), "{batch:?}");
                sent.extend(batch.events.iter().map(|event| event.micros));
                calls.push((now + CALL, batch.worker));
            }
            assert_eq!(generator.is_sending(), !calls.is_empty());
            let ends = calls.iter().map(|&(end, _)| end);
            let next = [generator.next_event(), generator.next_batch_at()].into_iter().flatten().chain(ends).min();
            let Some(next) = next else { break };
            // A worker that sends a batch has room for events that waited.
            repeated = if next > now { 0 } else { repeated + 1 };
            assert!(repeated <= 3, "the driver wakes at {next} and has no work");
            now = next.max(now);
            calls.retain(|&(end, worker)| {
                if end == now {
                    generator.complete(worker, now);
                }
                end > now
            });
        }
        assert!(generator.is_drained());
        let mut all = Vec::new();
        simulate(&mut unbounded(), 1_500_000, |_| false, |batch, _| all.extend(batch.events.iter().map(|e| e.micros)));
        sent.sort_unstable();
        all.sort_unstable();
        assert_eq!(sent, all, "{queues}");
    }
}

/// The queries that are not known to be stored.
fn unfinished(generator: &Generator) -> u64 {
    generator.unfinished().map(|(_, queries)| queries).sum()
}

#[test]
fn the_transitions_of_a_cancelled_job_are_not_outstanding() {
    let mut generator = generator("numWorkers: 2\nchannelBufferSizeMultiplier: 1000");
    generator.end_at(2_000_000);
    let job = generator.factory().job(100, 100_000);
    generator.advance(650_000);
    let before = unfinished(&generator);
    // Job 100 is pending.
    cancel(&mut generator, &job, 650_000);
    assert_eq!((unfinished(&generator), generator.take_skipped()), (before + 1, vec![]));
    generator.advance(650_000);
    let end = if job.succeeds { LifeStage::Succeeded } else { LifeStage::Failed };
    assert_eq!(unfinished(&generator), before + 1 - 2 - end.query_count());
    // An update that is due at the end of the load is not made.
    let other = generator.factory().job(101, 101_000);
    let after = unfinished(&generator);
    cancel(&mut generator, &other, 2_000_000);
    assert_eq!(unfinished(&generator), after);
    assert!(generator.owner(&job).cancelled_at(job.key()).is_some());
    assert!(generator.owner(&other).cancelled_at(other.key()).is_none());
}

#[test]
fn a_job_is_active_until_its_last_transition_is_generated() {
    let mut generator = unbounded();
    let factory = generator.factory().clone();
    for now in [0, 800_000, 2_500_000] {
        generator.advance(now);
        let is_active = |number: &u64| {
            let job = factory.job(*number, number * 1000);
            let end = if job.succeeds { LifeStage::Succeeded } else { LifeStage::Failed };
            factory.delays().due(&job, end) > now
        };
        assert_eq!(generator.active_jobs(), (0..=now / 1000).filter(is_active).count(), "at {now}");
    }
}

#[test]
fn the_stage_of_a_job_is_the_last_one_due_before_a_time() {
    let factory = unbounded().factory().clone();
    let job = LiveJob { succeeds: true, ..factory.job(5, 5_000) };
    let failing = LiveJob { succeeds: false, ..job };
    let at = |job: &LiveJob, time: u64| factory.delays().stage_before(job, 5_000 + time);
    for (time, stage) in [
        (1, LifeStage::Submitted),
        (200_000, LifeStage::Submitted),
        (200_001, LifeStage::Leased),
        (300_001, LifeStage::Pending),
        (600_001, LifeStage::Running),
        (850_001, LifeStage::Running),
        (1_100_000, LifeStage::Running),
        (1_100_001, LifeStage::Succeeded),
        (u64::MAX / 2, LifeStage::Succeeded),
    ] {
        assert_eq!(at(&job, time), stage, "{time}");
    }
    assert_eq!((at(&failing, 850_000), at(&failing, 850_001)), (LifeStage::Running, LifeStage::Failed));
}

#[test]
fn a_share_of_the_batches_is_redelivered() {
    for (redelivery, expected) in [(0.0, 0..=0), (0.3, 200..=400), (1.0, 1000..=1000)] {
        let config = LoadConfig { redelivery, ..config("numWorkers: 1") };
        let mut generator = Generator::new(&config, GeneratorOptions::default(), START);
        let batch = |now: u64| {
            generator.advance(now * 1000);
            let batch = generator.next_batch(now * 1000, true)?;
            generator.complete(batch.worker, now * 1000);
            Some(batch.redelivered)
        };
        let redelivered = (0..1000).filter_map(batch).filter(|&redelivered| redelivered).count();
        assert!(expected.contains(&redelivered), "{redelivered} with {redelivery}");
    }
}
