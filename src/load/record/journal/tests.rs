use super::*;
use crate::load::fixtures;
use crate::load::record::*;
use crate::measure::Interval;

#[test]
fn records_of_other_formats_are_rejected() {
    let read = |text: &str| RunRecord::from_json(text.as_bytes()).unwrap_err().to_string();
    assert!(read(r#"{"format":99,"more":1}"#).contains("format 99"), "{}", read(r#"{"format":99,"more":1}"#));
    assert!(read(r#"{"format":2}"#).starts_with("not a record of a run"), "{}", read(r#"{"format":2}"#));
    assert!(read("{}").starts_with("not a record of a run"));
}

fn interval(second: u64) -> Interval {
    Interval {
        second,
        target: 1.0,
        achieved: 1.0,
        p50_nanos: None,
        p99_nanos: None,
        backlog: 0,
        errors: 0,
        latencies: None,
    }
}

/// The seconds of a run of two kinds of calls. All counts are distinct.
fn second(second: u64) -> SecondRecord {
    let latency = |millis: u64| fixtures::millis([millis]);
    let query = |query_type, combo: &str| QueryRecord {
        executed: 1,
        failed: 2,
        not_found: 3,
        unfinished: 4,
        in_time: 5,
        service_time: latency(1),
        slot_wait: latency(2),
        driver_lag: latency(3),
        ..fixtures::reads(query_type, combo, [4])
    };
    let series = |query_type| SeriesRecord { query_type, intervals: vec![interval(second)] };
    let mut sizes = Histogram::default();
    sizes.record(7);
    SecondRecord {
        ingester: IngesterRecord {
            queries_due: 1,
            queries_executed: 2,
            queries_in_time: 3,
            batches_executed: 4,
            batches_failed: 5,
            batches_redelivered: 6,
            jobs_dropped: 7,
            jobs_rejected: 8,
            latency: latency(1),
            service_time: latency(2),
            backlog_wait: latency(3),
            driver_lag: latency(4),
            call_time: latency(5),
            backlog_size: sizes,
        },
        queries: vec![query(QueryType::GetJobs, "owner"), query(QueryType::GetJobs, "none")],
        errors: Vec::new(),
        error_count: 9,
        series: vec![series(None), series(Some(QueryType::GetJobs))],
        activity: vec![ActivitySample { at_nanos: second, ..ActivitySample::default() }],
        ..SecondRecord::default()
    }
}

#[test]
fn a_record_is_the_sum_of_its_seconds() {
    let mut run = fixtures::run();
    run.add(second(2));
    run.add(second(3));
    let IngesterRecord { queries_due, queries_executed, queries_in_time, .. } = run.ingester;
    let IngesterRecord { batches_executed, batches_failed, batches_redelivered, .. } = run.ingester;
    assert_eq!([queries_due, queries_executed, queries_in_time], [2, 4, 6]);
    assert_eq!([batches_executed, batches_failed, batches_redelivered], [8, 10, 12]);
    assert_eq!([run.ingester.jobs_dropped, run.ingester.jobs_rejected, run.error_count], [14, 16, 18]);
    let IngesterRecord { latency, service_time, backlog_wait, driver_lag, call_time, backlog_size, .. } = &run.ingester;
    let twice = |millis: u64| fixtures::millis([millis; 2]);
    for (at, histogram) in [latency, service_time, backlog_wait, driver_lag, call_time].into_iter().enumerate() {
        assert_eq!(*histogram, twice(at as u64 + 1));
    }
    assert_eq!(backlog_size.count(), 2);
    let combos: Vec<_> = run.queries.iter().map(|query| query.filter_combo.as_str()).collect();
    assert_eq!(combos, ["none", "owner"]);
    for query in &run.queries {
        let counts = [query.executed, query.failed, query.not_found, query.unfinished, query.in_time, query.due()];
        assert_eq!(counts, [2, 4, 6, 8, 10, 20]);
        let parts = [&query.service_time, &query.slot_wait, &query.driver_lag, &query.latency];
        assert_eq!(parts.map(Clone::clone), [1, 2, 3, 4].map(twice));
    }
    let seconds = |series: &SeriesRecord| series.intervals.iter().map(|interval| interval.second).collect::<Vec<_>>();
    assert_eq!(run.series.iter().map(seconds).collect::<Vec<_>>(), [[2, 3], [2, 3]]);
}

#[test]
fn a_run_that_was_killed_ends_with_its_last_whole_second() {
    let mut run = fixtures::run();
    let drain = PhaseRecord { phase: Phase::Drain, start_nanos: 12_000_000_000, end_nanos: 20_000_000_000 };
    run.phases.push(drain.clone());
    let lines: Vec<_> = [2, 3, 4].iter().map(|&at| serde_json::to_string(&second(at)).unwrap()).collect();
    let text = run.to_json().unwrap() + &lines[0] + "\n" + &lines[1] + "\n" + &lines[2][..lines[2].len() / 2];
    let read = RunRecord::from_json(text.as_bytes()).unwrap();
    // The second 3 ends 4 s after the start of the run.
    let test = PhaseRecord { phase: Phase::Test, start_nanos: 2_000_000_000, end_nanos: 4_000_000_000 };
    assert_eq!((read.phases, read.ingester.queries_due), (vec![test], 2));
    assert_eq!(read.ended.as_micros() - read.started.as_micros(), 4_000_000);
    let whole = run.to_json().unwrap();
    assert_eq!(RunRecord::from_json(whole.as_bytes()).unwrap(), run, "a run that was not killed is not changed");
    assert!(RunRecord::from_json((whole + "{\"ingester\":3}").as_bytes()).is_err());
}

#[test]
fn a_run_is_sound_if_it_is_valid_and_complete() {
    let sound = fixtures::run();
    assert!(sound.is_sound());
    let differences = |differences| Some(CensusRecord { differences, ..CensusRecord::default() });
    assert!(RunRecord { census: differences(vec![]), unsustained: vec!["late".into()], ..sound.clone() }.is_sound());
    let unsound = [
        RunRecord { census: differences(vec!["a job".into()]), ..sound.clone() },
        RunRecord { partial: true, ..sound.clone() },
        RunRecord { aborted: Some("dead".into()), ..sound.clone() },
        RunRecord { invalid: vec!["late".into()], ..sound },
    ];
    assert!(unsound.iter().all(|run| !run.is_sound()));
}
