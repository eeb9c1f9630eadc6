use std::time::Duration;

use super::super::fixtures::{config, millis, reads, run};
use super::super::record::QueryRecord;
use super::*;

fn objective(text: &str) -> Objective {
    text.parse().unwrap()
}

/// A run with pages of two filter combinations and group queries.
fn with_reads(none: impl IntoIterator<Item = u64>, owner: impl IntoIterator<Item = u64>) -> RunRecord {
    let mut run = run();
    run.queries = vec![
        reads(QueryType::GetJobs, "none", none),
        reads(QueryType::GetJobs, "owner", owner),
        reads(QueryType::GetJobGroups, "none", [9000; 200]),
    ];
    run
}

fn held(run: &RunRecord, text: &str) -> bool {
    objective(text).evaluate(run).held
}

#[test]
fn a_statistic_is_that_of_the_calls_of_the_objective() {
    let run = with_reads(1..=60, 61..=100);
    let measured = |text: &str| {
        let nanos = objective(text).evaluate(&run).measured?;
        let micros: f64 = nanos.strip_suffix("µs")?.parse().ok()?;
        Some((micros / 1000.0).floor())
    };
    let of_pages = [("p50", 50.0), ("p95", 95.0), ("p99", 99.0), ("mean", 50.0), ("max", 100.0)];
    for (statistic, millis) in of_pages {
        let text = format!("page.{statistic} < 1s");
        assert_eq!(measured(&text), Some(millis), "{text}");
        assert!(held(&run, &text) && !held(&run, &format!("page.{statistic} < {}ms", millis - 1.0)));
    }
    assert_eq!(measured("page.owner.p50 < 1s"), Some(80.0));
    assert_eq!(measured("page.none.p50 < 1s"), Some(30.0));
    // Too few calls for the statistic.
    for text in ["page.owner.p99 < 1s", "page.p99.9 < 1s", "spec.p50 < 1s", "spec.errors < 1%"] {
        let record = objective(text).evaluate(&run);
        assert_eq!((record.measured, record.held, record.interval), (None, false, None), "{text}");
    }
    // The p99.9 of 1,000 calls is the 999th.
    let thousand = with_reads((0..998).map(|_| 5), [200, 700]);
    assert_eq!((held(&thousand, "page.p99.9 < 199ms"), held(&thousand, "page.p99.9 < 201ms")), (false, true));
}

#[test]
fn a_bound_is_not_met_by_an_equal_value() {
    let mut run = run();
    run.ingester.latency = [Duration::from_nanos(2000)].into_iter().collect();
    assert!(!held(&run, "ingest.max < 2us") && !held(&run, "ingest.p50 < 2us") && !held(&run, "ingest.mean < 2us"));
    assert!(
        held(&run, "ingest.max < 2001ns") && held(&run, "ingest.p50 < 2001ns") && held(&run, "ingest.mean < 2001ns")
    );
    (run.ingester.batches_executed, run.ingester.batches_failed) = (98, 2);
    assert!(!held(&run, "ingest.errors < 2%") && held(&run, "ingest.errors < 2.1%"));
    assert_eq!(objective("ingest.errors < 2%").evaluate(&run).measured.as_deref(), Some("2.000%"));
    run.ingester.batches_failed = 0;
    assert!(held(&run, "ingest.errors < 0%"), "without errors, no bound is missed");
}

#[test]
fn errors_are_failed_and_unfinished_calls() {
    let mut run = with_reads([1; 60], [1; 36]);
    (run.queries[0].failed, run.queries[1].unfinished, run.queries[2].failed) = (3, 1, 50);
    assert!(!held(&run, "page.errors < 4%") && held(&run, "page.errors < 4.1%"));
    assert!(!held(&run, "page.owner.errors < 2%") && held(&run, "page.owner.errors < 3%"));
}

#[test]
fn a_latency_that_the_lag_of_the_driver_distorts_does_not_miss_an_objective() {
    let unresolved = |text: &str, lag: u64| {
        let mut run = with_reads([100; 100], []);
        run.queries[0].driver_lag = millis([lag; 100]);
        objective(text).evaluate(&run).is_unresolved
    };
    assert!(unresolved("page.p99 < 85ms", 21) && !unresolved("page.p99 < 85ms", 19));
    assert!(!unresolved("page.p99 < 75ms", 21), "it would be missed without the lag");
    assert!(!unresolved("page.p99 < 1s", 21), "it is met");
    for statistic in ["mean", "max"] {
        let objective = format!("page.{statistic} < 85ms");
        assert!(unresolved(&objective, 21) && !unresolved(&objective, 19));
    }
    let mut run = run();
    (run.ingester.latency, run.ingester.driver_lag) = (millis([100; 100]), millis([21; 100]));
    assert!(objective("ingest.p50 < 85ms").evaluate(&run).is_unresolved);
}

#[test]
fn a_percentile_has_a_confidence_interval() {
    let run = with_reads(vec![1; 100], vec![2; 100]);
    let interval = |text: &str| objective(text).evaluate(&run).interval.unwrap();
    assert!(interval("page.p50 < 1s").starts_with("1000") && interval("page.p50 < 1s").contains("to 200"));
    assert!(interval("page.p99 < 1s").ends_with("to ∞"));
    assert_eq!(objective("page.max < 1s").evaluate(&run).interval, None);
}

#[test]
fn an_objective_is_lost_when_the_calls_to_come_cannot_meet_it() {
    // Of 1,000 calls, 10 may take longer than the p99, and 1 may take longer than the p99.9.
    let slow = |count: usize| with_reads(vec![1000; count], []);
    let lost = |text: &str, run: &RunRecord, most| objective(text).is_lost(run, most);
    for (text, most_slow) in [("page.p50 < 500ms", 500), ("page.p99 < 500ms", 10), ("page.p99.9 < 500ms", 1)] {
        assert!(!lost(text, &slow(most_slow), 1000.0) && lost(text, &slow(most_slow + 1), 1000.0), "{text}");
    }
    assert!(!lost("page.max < 2s", &slow(100), 1000.0) && lost("page.max < 500ms", &slow(1), 1000.0));
    assert!(!lost("page.owner.max < 500ms", &slow(1), 1000.0) && !lost("ingest.max < 500ms", &slow(1), 1000.0));
    // The mean of 1,000 calls is at least 11 ms if eleven take a second.
    assert!(!lost("page.mean < 11500us", &slow(11), 1000.0) && lost("page.mean < 10500us", &slow(11), 1000.0));
    let failed = |failed| {
        let mut run = with_reads([], []);
        run.queries[0] = QueryRecord { failed, ..run.queries[0].clone() };
        run.ingester.batches_failed = failed;
        run
    };
    assert!(!lost("page.errors < 1%", &failed(10), 1000.0) && lost("page.errors < 1%", &failed(11), 1000.0));
    // 1,000 batches succeed after 11 attempts that failed: 1.09 % of the attempts.
    assert!(!lost("ingest.errors < 1.1%", &failed(11), 1000.0) && lost("ingest.errors < 1.05%", &failed(11), 1000.0));
    // More calls than expected: 11 of 1,100 are slow.
    let many = with_reads((0..1100).map(|call| if call < 11 { 1000 } else { 1 }), []);
    assert!(!lost("page.p99 < 500ms", &many, 1000.0));
}

#[test]
fn the_greatest_number_of_calls_covers_stages_actions_and_replayed_reads() {
    // 1,000 submissions and 100 pages in 10 s, and twice as many in a stage of rate 2.
    let most = |text: &str, overrides: &str, recorded: &[RecordedRead]| {
        let config = config(&format!("queryConfig: {{getJobsQueriesPerHour: 36000}}\n{overrides}"));
        objective(text).max_calls(&config, recorded)
    };
    let twice = "stages: [{duration: 5s, rate: 1}, {duration: 5s, rate: 3}]";
    for (overrides, jobs) in [("", 1000.0), (twice, 2000.0), ("warmupDuration: 10s", 2000.0)] {
        let events = most("ingest.p99 < 1s", overrides, &[]);
        assert!((jobs * 5.0..jobs * 6.2).contains(&events), "{overrides}: {events}");
    }
    let actions = "actionsConfig: {jobSetCancellations: [{performAfterTestStartTime: 1s, queue: q, jobSet: s}]}";
    assert_eq!(most("ingest.p99 < 1s", actions, &[]), most("ingest.p99 < 1s", "", &[]) / 5.0 * 6.0);
    for (overrides, pages) in [("", 100.0), (twice, 200.0), ("warmupDuration: 10s", 100.0)] {
        let reads = most("page.p99 < 1s", overrides, &[]);
        assert!((pages * 1.3..pages * 1.7).contains(&reads), "{overrides}: {reads}");
    }
    let page = r#"{"op":"getJobs","time":"2026-01-01T00:00:00Z"}"#;
    let group = r#"{"op":"getJobGroups","time":"2026-01-01T00:00:00Z","groupedField":{"field":"owner"}}"#;
    let recorded = RecordedRead::parse(&[page, page, group].join("\n")).unwrap();
    assert_eq!(most("page.p99 < 1s", "", &recorded), most("page.p99 < 1s", "", &[]) + 2.0);
}
