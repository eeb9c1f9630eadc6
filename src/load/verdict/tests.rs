use super::super::fixtures::{config, millis, reads, run};
use super::super::record::{CensusRecord, ObjectiveRecord};
use super::*;

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
    assert_eq!(behind(893, None).len(), 0, "behind by 1.04 s");
    assert_eq!(behind(891, None), ["ingestion: 89.1 of 100.0 per second were done by the end of the test"]);
    assert_eq!(behind(873, Some(100)).len(), 0, "behind by 1.24 s with calls of 100 ms");
    assert_eq!(behind(871, Some(100)).len(), 1);
    // The larger of a second and 5 % of the test.
    let of_a_test = |seconds: u64, in_time: u64| {
        let mut run = run();
        run.phases[0].end_nanos = run.phases[0].start_nanos + seconds * 1_000_000_000;
        (run.ingester.queries_due, run.ingester.queries_in_time) = (100 * seconds, in_time);
        judged(run, &config("testDuration: 1h"))[1].len()
    };
    assert_eq!((of_a_test(100, 9493), of_a_test(100, 9491)), (0, 1), "5.05 s of 100 s");
    // The configured test is longer than the one that was stopped.
    assert_eq!((of_a_test(10, 990), of_a_test(10, 891)), (0, 1));
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
    assert_eq!(behind([50, 40], [None, None]).len(), 0, "behind by 0.9 s");
    assert_eq!(behind([50, 38], [None, None]), ["GetJobs: 8.8 of 10.0 per second were done by the end of the test"]);
    assert_eq!(behind([45, 44], [Some(100), None]).len(), 0, "two calls are in flight for 200 ms");
    assert_eq!(behind([45, 41], [None, Some(100)]).len(), 1);
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
