//! Tests of the reads in simulated time.

use super::super::fixtures::config;
use super::*;
use crate::time::Timestamp;

const SECOND: u64 = 1_000_000;

fn reads(overrides: &str, recorded: &str) -> Reads {
    let config = config(overrides);
    let requests = Requests::new(&config, Timestamp::from_seconds(0));
    Reads::new(&config, GeneratorOptions::default(), requests, RecordedRead::parse(recorded).unwrap())
}

/// The due times of the reads of a kind that become due until a time.
fn due(reads: &mut Reads, now: u64, query_type: QueryType) -> Vec<u64> {
    let mut times = Vec::new();
    reads.advance(now, |read| times.extend((read.query_type == query_type).then_some(read.due)));
    times
}

fn jobs(ids: impl IntoIterator<Item = &'static str>) -> KnownIds {
    KnownIds { jobs: ids.into_iter().map(SmolStr::new_static).collect(), failed_runs: Vec::new() }
}

#[test]
fn the_next_time_is_that_of_the_first_read_that_is_not_generated() {
    // Two pages and one group query per second, and a replayed page after 1 s.
    let recorded = "{\"op\":\"getJobGroups\",\"time\":\"2026-01-01T00:00:00Z\",\"groupedField\":{\"field\":\"owner\"}}
{\"op\":\"getJobs\",\"time\":\"2026-01-01T00:00:01Z\"}";
    let rates = "queryConfig: {getJobsQueriesPerHour: 7200, getJobGroupsQueriesPerHour: 3600}";
    let mut reads = reads(rates, recorded);
    reads.end_at(3 * SECOND);
    let mut all = Vec::new();
    while let Some(next) = reads.next_time() {
        if let Some(before) = next.checked_sub(1) {
            reads.advance(before, |read| panic!("{read:?} is due before {next}"));
        }
        reads.advance(next, |read| {
            assert_eq!(read.due, next);
            all.push((read.query_type, read.combo == REPLAYED));
        });
    }
    let count = |of| all.iter().filter(|read| **read == of).count();
    assert_eq!((count((QueryType::GetJobs, false)), count((QueryType::GetJobGroups, false))), (6, 3));
    assert_eq!((count((QueryType::GetJobs, true)), count((QueryType::GetJobGroups, true))), (1, 1));
    reads.advance(u64::MAX, |read| panic!("{read:?} is due at the end or later"));
}

#[test]
fn reads_that_are_due_at_the_end_are_not_generated() {
    let recorded = "{\"op\":\"getJobs\",\"time\":\"2026-01-01T00:00:00Z\"}
{\"op\":\"getJobs\",\"time\":\"2026-01-01T00:00:01Z\"}";
    let mut replay = reads("", recorded);
    replay.end_at(SECOND);
    assert_eq!(due(&mut replay, u64::MAX, QueryType::GetJobs), [0]);
    assert_eq!(replay.next_time(), None);
    let rate = "queryConfig: {getJobsQueriesPerHour: 3600}";
    let first = reads(rate, "").next_time().unwrap();
    assert!((1..SECOND).contains(&first));
    for (end, times) in [(first, vec![]), (first + 1, vec![first]), (first + SECOND, vec![first])] {
        let mut reads = reads(rate, "");
        reads.end_at(end);
        assert_eq!(reads.next_time(), times.first().copied());
        assert_eq!(due(&mut reads, u64::MAX, QueryType::GetJobs), times);
        assert_eq!(reads.next_time(), None);
    }
}

#[test]
fn a_read_is_ready_when_it_is_due_and_has_a_slot() {
    let mut reads = reads("queryConfig: {getJobsQueriesPerHour: 3600, maxConcurrentQueries: 2}", "");
    let times = due(&mut reads, 5 * SECOND, QueryType::GetJobs);
    assert_eq!((times.len(), reads.backlog(QueryType::GetJobs), reads.backlog(QueryType::GetJobGroups)), (5, 5, 0));
    let (first, second) = (reads.start().unwrap().0, reads.start().unwrap().0);
    assert!(reads.start().is_none(), "both slots are taken");
    assert_eq!(reads.backlog(QueryType::GetJobs), 5, "running reads are not complete");
    // The driver learns of the second end first. The slots are taken in the order of their ends.
    assert_eq!(reads.finish(second, 8 * SECOND).unwrap().ready, times[1]);
    assert_eq!(reads.finish(first, 7 * SECOND).unwrap().ready, times[0]);
    assert!(reads.finish(first, 7 * SECOND).is_none());
    let (third, fourth) = (reads.start().unwrap().0, reads.start().unwrap().0);
    assert_eq!(reads.finish(third, 9 * SECOND).unwrap().ready, 7 * SECOND);
    assert_eq!((reads.backlog(QueryType::GetJobs), reads.is_drained()), (2, false));
    let unfinished: Vec<_> = reads.unfinished().map(|read| read.due).collect();
    assert_eq!(unfinished, times[3..], "running and waiting reads");
    assert_eq!(reads.finish(fourth, 9 * SECOND).unwrap().ready, 8 * SECOND);
    let fifth = reads.start().unwrap().0;
    assert!(!reads.is_drained());
    // A slot that was free before the read was due.
    assert_eq!(reads.finish(fifth, 10 * SECOND).unwrap().ready, 9 * SECOND);
    assert!(reads.is_drained());
    let late = due(&mut reads, 20 * SECOND, QueryType::GetJobs);
    let id = reads.start().unwrap().0;
    assert_eq!(reads.finish(id, 30 * SECOND).unwrap().ready, late[0].max(9 * SECOND));
}

#[test]
fn reads_of_records_need_a_known_id_and_are_counted_from_the_start_of_the_test_on() {
    let rates = "warmupDuration: 2s\nqueryConfig: {getJobSpecQueriesPerHour: 3600, getJobRunErrorQueriesPerHour: 3600}";
    let mut reads = reads(rates, "");
    reads.advance(5 * SECOND, |read| panic!("{read:?} has no id"));
    // Three specs and three errors in the test.
    assert_eq!(reads.without_id, 6);
    reads.add_ids(jobs(["a", "b"]));
    assert_eq!(due(&mut reads, 25 * SECOND, QueryType::GetJobSpec).len(), 20);
    let mut ids: Vec<_> = std::iter::from_fn(|| reads.start())
        .map(|(_, call)| match call {
            ReadCall::JobSpec(id) => id,
            other => panic!("{other:?}"),
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids, ["a", "b"], "both are picked");
    assert_eq!(reads.without_id, 26, "no failed run is known");
}

#[test]
fn a_full_reservoir_replaces_random_ids() {
    let mut reservoir = Reservoir::default();
    assert_eq!(reservoir.pick(3), None);
    let size = RESERVOIR_SIZE as u64;
    (0..size).for_each(|id| reservoir.offer(id.to_string().into(), 0));
    assert_eq!((reservoir.pick(5).unwrap().as_str(), reservoir.pick(size + 7).unwrap().as_str()), ("5", "7"));
    reservoir.offer("new".into(), 5);
    assert_eq!((reservoir.pick(5).unwrap().as_str(), reservoir.ids.len()), ("new", RESERVOIR_SIZE));
}

#[test]
fn the_expected_number_of_reads_is_that_of_the_test() {
    let overrides = "
warmupDuration: 4s
stages: [{duration: 5s, rate: 1}, {duration: 5s, rate: 3}]
queryConfig: {getJobsQueriesPerHour: 252000, getJobSpecQueriesPerHour: 36000}
lookoutQueryConfig: {ownerQueriesPerHour: 36000}
";
    let config = config(overrides);
    let expected = |query_type, combo: Option<&str>| expected_reads(&config, query_type, combo).round();
    // 70 and 10 per second of pages, and 10 of specs, for 10 s with the mean rate 2.
    assert_eq!(expected(QueryType::GetJobs, None), 1600.0);
    assert_eq!(expected(QueryType::GetJobs, Some("owner")), 200.0);
    assert_eq!(expected(QueryType::GetJobs, Some("priority")), 200.0);
    assert_eq!(expected(QueryType::GetJobs, Some("pool")), 0.0);
    assert_eq!(expected(QueryType::GetJobSpec, Some("none")), 200.0);
    assert_eq!((expected(QueryType::GetJobSpec, Some("owner")), expected(QueryType::GetJobGroups, None)), (0.0, 0.0));
    let mut reads = reads(overrides, "");
    reads.add_ids(jobs(["a"]));
    reads.end_at(14 * SECOND);
    let times = due(&mut reads, u64::MAX, QueryType::GetJobs);
    let of_test = |from: u64, to: u64| times.iter().filter(|&&due| (from * SECOND..to * SECOND).contains(&due)).count();
    assert!(of_test(4, 9).abs_diff(400) <= 2 && of_test(9, 14).abs_diff(1200) <= 2, "{}", of_test(4, 9));
}
