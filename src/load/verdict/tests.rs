use super::super::fixtures::{config, millis, reads, run};
use super::super::record::{CensusRecord, ObjectiveRecord, SeriesRecord};
use super::*;
use crate::measure::Interval;

/// The reasons for which a run is invalid and was not sustained.
fn judged(mut run: RunRecord, config: &LoadConfig) -> [Vec<String>; 2] {
    run.judge(config);
    [run.invalid, run.unsustained]
}

fn objective(held: bool, is_unresolved: bool) -> ObjectiveRecord {
    ObjectiveRecord { objective: "page.p99 < 1s".to_owned(), measured: None, interval: None, held, is_unresolved }
}

#[test]
fn the_verdict_is_the_most_serious_reason() {
    let mut run = run();
    assert_eq!(run.verdict(), Verdict::Passed);
    run.objectives = vec![objective(true, false)];
    run.census = Some(CensusRecord::default());
    assert_eq!(run.verdict(), Verdict::Passed);
    run.aborted = Some("ended".to_owned());
    assert_eq!(run.verdict(), Verdict::NotSustained);
    (run.aborted, run.unsustained) = (None, vec!["behind".to_owned()]);
    assert_eq!(run.verdict(), Verdict::NotSustained);
    run.objectives.push(objective(false, false));
    assert_eq!(run.verdict(), Verdict::Missed);
    run.invalid = vec!["late".to_owned()];
    assert_eq!(run.verdict(), Verdict::Invalid);
    run.census = Some(CensusRecord { differences: vec!["a job".to_owned()], ..CensusRecord::default() });
    assert_eq!(run.verdict(), Verdict::Differed);
}

#[test]
fn rates_are_counts_per_second_of_the_test() {
    let mut run = run();
    (run.ingester.queries_due, run.ingester.queries_executed, run.ingester.queries_in_time) = (900, 850, 800);
    let pages = reads(QueryType::GetJobs, "none", [1; 30]);
    let late = QueryRecord { executed: 40, in_time: 20, failed: 1, not_found: 2, unfinished: 7, ..pages.clone() };
    run.queries = vec![pages, late, reads(QueryType::GetJobGroups, "none", [1; 10])];
    let rate = |query_type, due, achieved| Rates { query_type, due, achieved };
    let expected = [
        rate(None, 90.0, 80.0),
        rate(Some(QueryType::GetJobs), 8.0, 5.0),
        rate(Some(QueryType::GetJobGroups), 1.0, 1.0),
    ];
    assert_eq!(run.rates(), expected);
    run.phases.clear();
    assert_eq!(run.rates(), []);
}

#[test]
fn a_long_lag_that_is_a_large_share_of_the_latency_is_invalid() {
    let lags = |lag: u64, latency: u64, count: usize| {
        let mut run = run();
        run.ingester.latency = millis(vec![latency; count]);
        run.ingester.driver_lag = millis(vec![lag; count]);
        let pages = reads(QueryType::GetJobs, "owner", vec![latency; count]);
        run.queries = vec![QueryRecord { driver_lag: millis(vec![lag; count]), ..pages }];
        judged(run, &config(""))[0].clone()
    };
    let late = lags(300, 1400, 100);
    assert!(
        matches!(&late[..], [a, b] if a.starts_with("ingestion: ") && b.starts_with("GetJobs owner: ")),
        "{late:?}"
    );
    assert!(late[0].contains("is 300") && late[0].ends_with("more than 20 % of the p99 of the latency"), "{late:?}");
    assert_eq!(lags(300, 1600, 100).len(), 0, "less than 20 % of the latency");
    assert_eq!(lags(249, 249, 100).len(), 0, "a shift of the load by 250 ms does not change it");
    assert_eq!(lags(251, 251, 100).len(), 2);
    assert_eq!(lags(300, 1400, 99).len(), 0, "too few calls for a p99");
}

#[test]
fn a_missed_objective_below_the_resolution_is_invalid() {
    let mut run = run();
    run.objectives = vec![objective(false, false), objective(false, true)];
    let [invalid, _] = judged(run, &config(""));
    assert_eq!(invalid, ["the objective page.p99 < 1s is below the driver's resolution"]);
}

#[test]
fn shed_jobs_are_counted() {
    let mut run = run();
    (run.ingester.jobs_dropped, run.ingester.jobs_rejected) = (3, 4);
    assert_eq!(judged(run, &config(""))[1], ["7 jobs were shed, because the backlog was full"]);
}

#[test]
fn a_load_is_behind_by_more_than_a_second_the_batch_timeout_and_two_calls() {
    // 100 queries per second.
    let behind = |in_time: u64, call: Option<u64>| {
        let mut run = run();
        (run.ingester.queries_due, run.ingester.queries_in_time) = (1000, in_time);
        run.ingester.call_time = millis(call);
        judged(run, &config(""))[1].clone()
    };
    assert_eq!(behind(896, None).len(), 0, "behind by 1.04 s");
    assert_eq!(behind(894, None), ["ingestion: 89.4 of 100.0 per second were done by the end of the test"]);
    assert_eq!(behind(876, Some(100)).len(), 0, "behind by 1.24 s with calls of 100 ms");
    assert_eq!(behind(874, Some(100)).len(), 1);
    // The larger of a second and 5 % of the test.
    let of_a_test = |seconds: u64, in_time: u64| {
        let mut run = run();
        run.phases[0].end_nanos = run.phases[0].start_nanos + seconds * 1_000_000_000;
        (run.ingester.queries_due, run.ingester.queries_in_time) = (100 * seconds, in_time);
        judged(run, &config("testDuration: 1h"))[1].len()
    };
    assert_eq!((of_a_test(100, 9496), of_a_test(100, 9494)), (0, 1), "5.05 s of 100 s");
    // The configured test is longer than the one that was stopped.
    assert_eq!((of_a_test(10, 990), of_a_test(10, 894)), (0, 1));
}

#[test]
fn reads_are_behind_by_more_than_a_second_and_two_calls_of_their_kind() {
    let behind = |in_time: [u64; 2], calls: [Option<u64>; 2]| {
        let mut run = run();
        let pages = reads(QueryType::GetJobs, "none", [1; 50]);
        let of = |at: usize| QueryRecord { in_time: in_time[at], service_time: millis(calls[at]), ..pages.clone() };
        run.queries = vec![of(0), of(1), reads(QueryType::GetJobSpec, "none", [1; 50])];
        judged(run, &config(""))[1].clone()
    };
    assert_eq!(behind([50, 41], [None, None]).len(), 0, "behind by 0.9 s");
    assert_eq!(behind([50, 39], [None, None]), ["GetJobs: 8.9 of 10.0 per second were done by the end of the test"]);
    assert_eq!(behind([45, 44], [Some(100), None]).len(), 0, "two calls are in flight for 200 ms");
    assert_eq!(behind([45, 42], [None, Some(100)]).len(), 1);
}

/// The reasons for a run whose intervals, from the first one of its test on, have these backlogs of 1,000 due queries.
fn grown(backlogs: &[u64], end_nanos: u64, call: Option<u64>) -> Vec<String> {
    let mut run = run();
    run.phases[0].end_nanos = end_nanos;
    let interval = |(second, &backlog): (u64, &u64)| Interval {
        second,
        target: 1000.0,
        achieved: 1000.0,
        p50_nanos: None,
        p99_nanos: None,
        backlog,
        errors: 0,
    };
    run.ingester.call_time = millis(call);
    // The interval after the test has no backlog.
    let intervals = (2..).zip(backlogs.iter().chain(&[0])).map(interval).collect();
    run.series = vec![SeriesRecord { query_type: None, intervals }];
    judged(run, &config(""))[1].clone()
}

#[test]
fn a_backlog_grows_by_more_than_2_percent_of_the_rate_in_the_second_half() {
    let half = |growth: u64, first: [u64; 5]| {
        let second: Vec<_> = (0..5).map(|at| 100 + growth * at).collect();
        first.into_iter().chain(second).collect::<Vec<_>>()
    };
    let end = 12_000_000_000;
    let reason = "the backlog of ingestion grew by 21 ms a second until the end";
    assert_eq!(grown(&half(21, [9000; 5]), end, None), [reason]);
    assert_eq!(grown(&half(19, [0; 5]), end, None).len(), 0);
    assert_eq!(grown(&half(0, [0, 20, 40, 60, 80]), end, None).len(), 0, "it grew only in the first half");
    // The last backlog is 184 ms: the batch timeout of 50 ms and two calls explain it, or do not.
    assert_eq!(grown(&half(21, [0; 5]), end, Some(66)), [reason]);
    assert_eq!(grown(&half(21, [0; 5]), end, Some(69)).len(), 0);
    // The second half of a test of 9.5 s has four whole seconds.
    assert_eq!(grown(&half(21, [0; 5]), end - 500_000_000, None).len(), 0);
    // A growth within the noise.
    assert_eq!(grown(&[0, 0, 0, 0, 0, 100, 300, 100, 300, 200], end, None).len(), 0);
}

#[test]
fn more_than_one_failure_in_a_thousand_needs_an_objective() {
    let failed = |executed, failed, objectives: &str| {
        let mut run = run();
        (run.ingester.batches_executed, run.ingester.batches_failed) = (executed, failed);
        let pages = reads(QueryType::GetJobs, "none", [1; 100]);
        let failing = QueryRecord { executed: executed - 100, in_time: executed - 100, failed, ..pages.clone() };
        run.queries = vec![pages, failing];
        judged(run, &config(&format!("slo: [{objectives}]")))[1].clone()
    };
    assert_eq!(failed(999, 1, "").len(), 0);
    let reasons = ["batches: 1 of 999 failed, more than 0.1 %", "GetJobs: 1 of 999 failed, more than 0.1 %"];
    assert_eq!(failed(998, 1, ""), reasons);
    assert_eq!(failed(998, 1, "ingest.errors < 1%"), reasons[1..]);
    assert_eq!(failed(998, 1, "page.errors < 1%"), reasons[..1]);
    assert_eq!(failed(998, 1, "page.owner.errors < 1%, page.p50 < 1s, groups.errors < 1%"), reasons);
    let mut run = run();
    let pages = reads(QueryType::GetJobs, "none", [1; 998]);
    run.queries = vec![QueryRecord { unfinished: 1, ..pages }];
    assert_eq!(judged(run, &config(""))[1], reasons[1..]);
}

#[test]
fn a_slope_is_that_of_the_line_and_significant_beyond_the_noise() {
    let line: Vec<_> = (0..10).map(|at| 3.0 + 0.25 * f64::from(at)).collect();
    let exact = slope(&line).unwrap();
    assert!((exact.value - 0.25).abs() < 1e-12 && exact.standard_error < 1e-9 && exact.is_significant());
    // Known values: the slope of 1, 3, 2, 5, 4 is 0.8 with the standard error 0.3464.
    let known = slope(&[1.0, 3.0, 2.0, 5.0, 4.0]).unwrap();
    assert!((known.value - 0.8).abs() < 1e-12, "{}", known.value);
    assert!((known.standard_error - 0.346_410_161_5).abs() < 1e-9, "{}", known.standard_error);
    assert!(!known.is_significant());
    assert!(slope(&line[..4]).is_none() && slope(&line[..5]).is_some());
    let is_significant = |value| Slope { value, standard_error: 1.0 }.is_significant();
    assert!(is_significant(3.2) && !is_significant(3.0) && !is_significant(-4.0));
}
