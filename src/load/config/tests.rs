//! Tests of the parser of configurations.

use std::time::Duration;

use super::*;
use crate::error::BackendKind;
use crate::time::Timestamp;

const MINIMAL: &str = "
testDuration: 10m
databaseConfig: {inMemory: true}
ingestionConfig: {batchSize: 1000}
queueConfig:
  - {name: q, proportion: 1, jobSetConfig: [{name: s, proportion: 1}]}
";

fn parse(files: &[(&str, &str)]) -> Result<ParsedConfig, ConfigError> {
    LoadConfig::parse(files.iter().copied(), [])
}

fn in_environment(text: &str, variables: &[(&str, &str)]) -> Result<ParsedConfig, ConfigError> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    LoadConfig::parse([("a.yaml", text)], variables)
}

fn with(extra: &str) -> Result<ParsedConfig, ConfigError> {
    parse(&[("a.yaml", MINIMAL), ("b.yaml", extra)])
}

fn problems(extra: &str) -> Vec<String> {
    with(extra).unwrap_err().problems.iter().map(ToString::to_string).collect()
}

#[test]
fn absent_keys_have_defaults() {
    let config = with("").unwrap().config;
    assert_eq!(config.test_duration, Duration::from_secs(600));
    assert!(config.warmup_duration.is_zero() && !config.skip_tear_down);
    let ingestion = &config.ingestion;
    assert_eq!((ingestion.num_workers, ingestion.channel_buffer_size_multiplier), (1, 10));
    assert_eq!((ingestion.historical_job_chunk_size, ingestion.historical_job_workers), (500_000, 1));
    assert_eq!(ingestion.backlog_drop_strategy, BacklogStrategy::Block);
    let queries = &config.queries;
    assert_eq!((queries.get_jobs_page_size, queries.get_job_groups_page_size), (100, 100));
    assert_eq!((queries.max_concurrent_queries, queries.max_errors_to_collect), (0, 2000));
    assert_eq!(config.database.target, LoadTarget::Memory);
}

#[test]
fn keys_match_without_case_and_numbers_may_be_quoted() {
    let parsed = with("TESTDURATION: '90'\ningestionconfig: {NumWorkers: \"4\", BATCHSIZE: '7'}").unwrap();
    assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
    assert_eq!(parsed.config.test_duration, Duration::from_nanos(90));
    assert_eq!((parsed.config.ingestion.num_workers, parsed.config.ingestion.batch_size), (4, 7));
}

#[test]
fn numbers_have_the_forms_of_go() {
    let text = "warmupDuration: 0x10
redelivery: 5e-1
ingestionConfig: {submissionsPerHour: 3.6e6, batchSize: 010, numWorkers: '1_0', maxBacklogSize: 1_000_000}
queryConfig: {getJobsQueriesPerHour: 3600.0, getJobsPageSize: 0x10, maxErrorsToCollect: 0b11, maxConcurrentQueries: 0o17}
skipTearDown: 1
";
    let config = with(text).unwrap().config;
    let (ingestion, queries) = (&config.ingestion, &config.queries);
    assert_eq!((ingestion.submissions_per_hour, ingestion.batch_size), (3_600_000, 8));
    assert_eq!((ingestion.num_workers, ingestion.max_backlog_size), (10, 1_000_000));
    assert_eq!((queries.get_jobs_queries_per_hour, queries.get_jobs_page_size), (3600, 16));
    assert_eq!((queries.max_errors_to_collect, queries.max_concurrent_queries), (3, 15));
    assert_eq!((config.warmup_duration.as_nanos(), config.redelivery, config.skip_tear_down), (16, 0.5, true));
}

#[test]
fn the_environment_overrides_the_files() {
    let variables = [
        ("ARMADA_TESTDURATION", "90s"),
        ("ARMADA_INGESTIONCONFIG_BATCHSIZE", "0x20"),
        ("ARMADA_INGESTIONCONFIG_JOBSTATETRANSITIONCONFIG_QUEUEINGDURATION", "3s"),
        ("armada_queryConfig_getJobsPageSize", "7"),
        ("ARMADA_SLO", "page.p99 < 1s"),
        ("ARMADA_WARMUPDURATION", ""),
        ("ARMADA_POSTGRES_CONNECTION_HOST", "of another program"),
        ("BROADSIDE_TESTDURATION", "1h"),
        ("ARMADA", "1h"),
    ];
    let parsed = in_environment(&format!("{MINIMAL}warmupDuration: 1m"), &variables).unwrap();
    assert_eq!(parsed.warnings, []);
    let config = parsed.config;
    assert_eq!((config.test_duration.as_secs(), config.warmup_duration.as_secs()), (90, 60));
    assert_eq!((config.ingestion.batch_size, config.ingestion.num_workers), (32, 1));
    assert_eq!(config.ingestion.transitions.queueing_duration.as_secs(), 3);
    assert_eq!((config.queries.get_jobs_page_size, config.slo[0].to_string()), (7, "page.p99 < 1s".to_owned()));
}

#[test]
fn problems_and_warnings_of_the_environment_name_the_variable() {
    let problems = in_environment(
        MINIMAL,
        &[("ARMADA_TESTDURATION", "soon"), ("ARMADA_QUEUECONFIG", "q"), ("ARMADA_DATABASECONFIG_INMEMORY", "hunter2")],
    );
    let problems: Vec<_> = problems.unwrap_err().problems.iter().map(ToString::to_string).collect();
    assert!(problems[0].starts_with("ARMADA_DATABASECONFIG_INMEMORY: databaseConfig.inMemory must be true or false"));
    assert!(problems.contains(&r#"ARMADA_QUEUECONFIG: queueConfig: "q" must be a list"#.to_owned()), "{problems:?}");
    let duration = r#"ARMADA_TESTDURATION: testDuration: "soon" must be a duration such as 1m30s, 500ms or 1.5h"#;
    assert!(problems.contains(&duration.to_owned()), "{problems:?}");
    assert!(!problems.concat().contains("hunter2"));
    let warned = in_environment(
        MINIMAL,
        &[
            ("ARMADA_DATABASECONFIG", "1"),
            ("ARMADA_DATABASECONFIG_POSTGRES_PASSWORD", "hunter2"),
            ("ARMADA_INGESTIONCONFIG_BATCHSZIE", "5"),
            ("ARMADA_QUEUECONFIG_0_NAME", "q"),
        ],
    )
    .unwrap();
    assert_eq!(warned.config, with("").unwrap().config);
    assert_eq!(
        warned.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "ARMADA_DATABASECONFIG has no effect: it names a section",
            "ARMADA_DATABASECONFIG_POSTGRES_PASSWORD has no effect: no file has its section",
            "ARMADA_QUEUECONFIG_0_NAME has no effect: it names a part of a list or a single value",
            "ARMADA_INGESTIONCONFIG_BATCHSZIE: ingestionConfig.batchszie is an unknown key and is ignored",
        ]
    );
}

#[test]
fn proportions_without_effect_are_warnings() {
    let text = "ingestionConfig: {jobStateTransitionConfig: {proportionSucceed: 0.9, proportionFail: 0.05}}
queueConfig:
  - name: q
    proportion: 1
    jobSetConfig:
      - {name: s, proportion: 1, historicalJobsConfig: {numberOfJobs: 5, proportionSucceeded: 0.5, jobAgeDays: [1]}}
";
    let warned: Vec<_> = with(text).unwrap().warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warned,
        [
            "b.yaml:6: queueConfig[0].jobSetConfig[0].historicalJobsConfig.proportionSucceeded and the other three sum to \
             0.5: all other jobs are preempted",
            "b.yaml:1: ingestionConfig.jobStateTransitionConfig.proportionFail and proportionSucceed sum to 0.95: all \
             jobs that do not succeed fail",
        ]
    );
    let consistent = text.replace("0.05", "0.1").replace("proportionSucceeded: 0.5", "proportionSucceeded: 1");
    assert_eq!(with(&consistent).unwrap().warnings, []);
}

#[test]
fn stages_and_abort_conditions_are_read() {
    let config = with("").unwrap().config;
    assert_eq!((config.stages, config.abort_after, config.abort_on), (vec![], Duration::from_secs(30), vec![]));
    let text = "stages: [{duration: 4m, rate: 0.5}, {duration: 6m, rate: 2}]\nabortAfter: 5s\nabortOn: [page.p99 < 1s]";
    let config = with(text).unwrap().config;
    let stage = |minutes: u64, rate| StageConfig { duration: Duration::from_secs(60 * minutes), rate };
    assert_eq!(config.stages, [stage(4, 0.5), stage(6, 2.0)]);
    assert_eq!((config.abort_after.as_secs(), config.abort_on[0].to_string()), (5, "page.p99 < 1s".to_owned()));
    let record = serde_json::to_value(&config).unwrap();
    assert_eq!(record["stages"][1], serde_json::json!({"duration": "6m0s", "rate": 2.0}));
    assert_eq!((&record["abortAfter"], &record["abortOn"][0]), (&"5s".into(), &"page.p99 < 1s".into()));
    let found = problems("stages: [{duration: 4m, rate: -1}, {rate: 1}, {duration: 5m}]\nabortOn: [page.p98 < 1s]");
    let expected = [
        r#"b.yaml:1: stages[0].rate: "-1" must be a number from 0 to 1000000"#,
        "b.yaml:1: stages[1].duration must be more than 0",
        "b.yaml:1: stages[2].rate must be set",
        "b.yaml:1: stages must have durations that sum to testDuration (10m0s), not to 9m0s",
    ];
    assert_eq!(found[..4], expected);
    assert!(found[4].starts_with(r#"b.yaml:2: abortOn[0]: "page.p98 < 1s" has no statistic"#), "{found:?}");
    assert!(with("stages: [{duration: 600001ms, rate: 1}]").is_ok());
    assert!(with("stages: [{duration: 600002ms, rate: 1}]").is_err());
}

#[test]
fn lives_that_do_not_fit_into_the_run_are_warnings() {
    let warned = |warmup: &str, transitions: &str| {
        let text = format!(
            "testDuration: 20s\nwarmupDuration: {warmup}\ningestionConfig:\n  submissionsPerHour: 60\n  jobStateTransitionConfig: {{{transitions}}}"
        );
        with(&text).unwrap().warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let short = "queueingDuration: 1s, leasedDuration: 1s, pendingDuration: 1s, proportionSucceed: 0.5, \
                 runningToSuccessDuration: 2s, runningToFailureDuration: 1s";
    assert_eq!(warned("5s", short), [""; 0]);
    let growing = "b.yaml:2: warmupDuration is shorter than the life of a job (5s): the rate of ingestion still grows in \
                   the test";
    assert_eq!(warned("4s", short), [growing]);
    // No job succeeds, so its duration does not count.
    assert_eq!(warned("4s", &short.replace("0.5", "0")), [""; 0]);
    let key = "b.yaml:5: ingestionConfig.jobStateTransitionConfig";
    let unreached =
        |after: &str, state: &str| format!("{key} takes {after} until a job {state}, but warm-up and test take 25s");
    let first = |transitions: &str| warned("5s", transitions).remove(0);
    assert_eq!(first(&short.replace("queueingDuration: 1s", "queueingDuration: 25s")), unreached("25s", "is leased"));
    assert_eq!(first(&short.replace("pendingDuration: 1s", "pendingDuration: 23s")), unreached("25s", "is running"));
    assert_eq!(first(&short.replace("FailureDuration: 1s", "FailureDuration: 22s")), unreached("25s", "fails"));
    let within = short.replace("FailureDuration: 1s", "FailureDuration: 21s");
    assert!(first(&within).starts_with("b.yaml:2: warmupDuration"), "{}", first(&within));
    // Without submissions, no job has a life.
    assert_eq!(with("ingestionConfig: {jobStateTransitionConfig: {queueingDuration: 1h}}").unwrap().warnings, []);
}

#[test]
fn later_files_override_keys_and_replace_lists() {
    let later = "ingestionConfig: {numWorkers: 3}\nqueueConfig: [{name: r, proportion: 1, jobSetConfig: [{name: t, proportion: 1}]}]";
    let config = with(later).unwrap().config;
    assert_eq!((config.ingestion.batch_size, config.ingestion.num_workers), (1000, 3));
    assert_eq!(config.queues.iter().map(|queue| queue.name.as_str()).collect::<Vec<_>>(), ["r"]);
}

#[test]
fn merge_keys_support_a_mapping_and_a_list() {
    let config = with(
        "
x-rates: &rates {getJobsQueriesPerHour: 60, getJobGroupsQueriesPerHour: 30}
x-sizes: &sizes {getJobsPageSize: 5, getJobGroupsQueriesPerHour: 31}
x-transitions: &transitions {queueingDuration: 1s, proportionSucceed: 0.5}
queryConfig:
  <<: [*rates, *sizes]
  getJobsQueriesPerHour: 61
ingestionConfig:
  jobStateTransitionConfig: {<<: *transitions, leasedDuration: 2s}
",
    )
    .unwrap();
    let queries = &config.config.queries;
    assert_eq!(queries.get_jobs_queries_per_hour, 61);
    assert_eq!((queries.get_job_groups_queries_per_hour, queries.get_jobs_page_size), (30, 5));
    let transitions = &config.config.ingestion.transitions;
    assert_eq!((transitions.queueing_duration.as_secs(), transitions.leased_duration.as_secs()), (1, 2));
    let warned: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warned.len(), 3);
    assert_eq!(warned[0], "b.yaml:2: x-rates is an unknown key and is ignored");
}

#[test]
fn unknown_keys_of_every_section_are_warnings() {
    let parsed = with("colour: red\nqueueConfig: [{name: q, proportion: 1, weight: 3, jobSetConfig: [{name: s, proportion: 1, x: 1}]}]\nactionsConfig: {other: []}").unwrap();
    let keys: Vec<_> = parsed.warnings.iter().map(|warning| warning.key.as_str()).collect();
    assert_eq!(keys, ["queueConfig[0].jobSetConfig[0].x", "queueConfig[0].weight", "actionsConfig.other", "colour"]);
}

#[test]
fn every_invalid_value_is_reported_with_its_location() {
    let bad = "testDuration: soon
warmupDuration: -1s
ingestionConfig:
  batchSize: many
  numWorkers: 1.5
  backlogDropStrategy: sometimes
  jobStateTransitionConfig: {proportionSucceed: 0.7, proportionFail: 0.7}
skipTearDown: perhaps
slo: [page.p99 < 50, 'page.p98 < 1s', pages.p99 < 1s]
actionsConfig:
  jobSetCancellations:
    - {performAfterTestStartTime: 1m, queue: other, jobSet: s}
    - {performAfterTestStartTime: 1m, queue: q, jobSet: t}
";
    assert_eq!(
        problems(bad),
        [
            r#"b.yaml:1: testDuration: "soon" must be a duration such as 1m30s, 500ms or 1.5h"#,
            r#"b.yaml:1: testDuration: "soon" must be more than 0"#,
            r#"b.yaml:2: warmupDuration: "-1s" must not be negative"#,
            r#"b.yaml:4: ingestionConfig.batchSize: "many" must be a non-negative integer"#,
            r#"b.yaml:4: ingestionConfig.batchSize: "many" must be more than 0"#,
            r#"b.yaml:5: ingestionConfig.numWorkers: "1.5" must be a non-negative integer"#,
            r#"b.yaml:6: ingestionConfig.backlogDropStrategy: "sometimes" must be block, drop or error"#,
            r#"b.yaml:7: ingestionConfig.jobStateTransitionConfig.proportionSucceed: "0.7" and proportionFail sum to 1.4, more than 1"#,
            r#"b.yaml:8: skipTearDown: "perhaps" must be true or false"#,
            r#"b.yaml:9: slo[1]: "page.p98 < 1s" has no statistic "p98": use p50, p95, p99, p99.9, mean, max or errors"#,
            r#"b.yaml:9: slo[2]: "pages.p99 < 1s" has no kind "pages": use page, groups, spec, runError, debugMessage or ingest"#,
            r#"b.yaml:12: actionsConfig.jobSetCancellations[0].performAfterTestStartTime: "1m" must not be after the end of the test"#,
            r#"b.yaml:12: actionsConfig.jobSetCancellations[0].queue: "other" must be a queue of queueConfig"#,
            r#"b.yaml:13: actionsConfig.jobSetCancellations[1].performAfterTestStartTime: "1m" must not be after the end of the test"#,
            r#"b.yaml:13: actionsConfig.jobSetCancellations[1].jobSet: "t" must be a job set of the queue"#,
        ]
    );
}

#[test]
fn an_invalid_element_does_not_move_the_others() {
    let queues = "queueConfig: [5, {name: '', proportion: 1, jobSetConfig: [{name: s, proportion: 1}]}]";
    let found = problems(queues);
    for expected in
        [r#"b.yaml:1: queueConfig[0]: "5" must be a mapping"#, "b.yaml:1: queueConfig[1].name must not be empty"]
    {
        assert!(found.iter().any(|problem| problem == expected), "{found:?}");
    }
    assert_eq!(
        problems("slo: [~, page.p99 < 1s, [x]]"),
        [0, 2].map(|index| format!("b.yaml:1: slo[{index}] must be a single value"))
    );
}

#[test]
fn proportions_must_sum_to_1() {
    let queues = |proportion: &str| {
        format!(
            "queueConfig:\n  - {{name: a, proportion: {proportion}, jobSetConfig: [{{name: s, proportion: 1}}]}}\n  - {{name: b, proportion: 0.5, jobSetConfig: [{{name: s, proportion: 1}}]}}"
        )
    };
    for good in ["0.5", "0.4995", "0.5005", "'0.5'"] {
        assert!(with(&queues(good)).is_ok(), "{good}");
    }
    assert_eq!(problems(&queues("0.498")), ["b.yaml:2: queueConfig must have proportions that sum to 1, not to 0.998"]);
    let out_of_range = problems(&queues("1.5"));
    let expected = r#"queueConfig[0].proportion: "1.5" must be a number from 0 to 1"#;
    assert!(out_of_range[0].contains(expected), "{out_of_range:?}");
    assert!(problems("queueConfig: []")[0].contains("must have at least one entry"));
}

#[test]
fn historical_jobs_require_valid_ages() {
    let ages = |ages: &str| {
        format!(
            "queueConfig: [{{name: q, proportion: 1, jobSetConfig: [{{name: s, proportion: 1, historicalJobsConfig: {{numberOfJobs: 5, jobAgeDays: {ages}}}}}]}}]"
        )
    };
    let config = with(&ages("[1, 30]")).unwrap().config;
    assert_eq!(config.historical_job_count(), 5);
    assert_eq!(config.historical_jobs(Timestamp::from_seconds(0))[0].job_age_days, [1, 30]);
    for bad in ["[]", "[-1]", "[100000]", "[soon]"] {
        let found = problems(&ages(bad));
        assert!(found.iter().any(|problem| problem.contains("jobAgeDays")), "{bad}: {found:?}");
    }
}

#[test]
fn exactly_one_database_must_be_configured() {
    let two = problems("databaseConfig: {postgres: {host: h, port: 5432, database: d}}");
    assert_eq!(two, ["b.yaml:1: databaseConfig.postgres clickHouse and inMemory: exactly one must be set, not 2"]);
    let none = parse(&[("a.yaml", &MINIMAL.replace("{inMemory: true}", "{}"))]).unwrap_err();
    assert!(none.to_string().contains("exactly one must be set, not 0"), "{none}");
    let both = problems("featureToggles: {hotColdSplit: true, partitionBySubmitted: true}");
    assert!(both[0].contains("mutually exclusive"), "{both:?}");
}

#[test]
fn an_external_store_needs_no_address() {
    let without = MINIMAL.replace("databaseConfig: {inMemory: true}\n", "");
    let other = MINIMAL.replace("{inMemory: true}", "{postgres: {host: ''}}");
    for text in [without.as_str(), MINIMAL, &other] {
        let parsed = LoadConfig::parse_for(BackendKind::ClickHouse, [("a.yaml", text)], []);
        if text == other {
            assert!(parsed.is_err(), "invalid values are reported although they are not used");
        } else {
            assert_eq!(parsed.unwrap().config.database.target, LoadTarget::External(BackendKind::ClickHouse));
        }
    }
}

#[test]
fn settings_of_the_server_do_not_apply_to_an_external_store() {
    let text = MINIMAL.replace("{inMemory: true}", "{inMemory: true, postgresTuningSQL: [SELECT 1]}")
        + "featureToggles: {hotColdSplit: true}\n";
    let ParsedConfig { config, warnings } =
        LoadConfig::parse_for(BackendKind::Postgres, [("a.yaml", text.as_str())], []).unwrap();
    let expected = LoadDatabase { target: LoadTarget::External(BackendKind::Postgres), ..LoadDatabase::default() };
    assert_eq!(config.database, expected);
    let keys: Vec<_> = warnings.iter().map(|warning| warning.key.as_str()).collect();
    assert_eq!(keys, ["databaseConfig.postgresTuningSQL", "featureToggles.hotColdSplit"]);
    assert!(warnings.iter().all(|warning| warning.to_string().contains("has no effect")), "{warnings:?}");
}

#[cfg(all(feature = "postgres", feature = "clickhouse"))]
mod servers;

#[test]
fn syntax_errors_have_file_and_line() {
    let error = with("testDuration: 1m\n  bad: [").unwrap_err();
    assert!(error.to_string().starts_with("b.yaml:2: "), "{error}");
    let error = with("testDuration: 1m\nTestDuration: 2m").unwrap_err();
    assert!(error.to_string().contains("differ only in case"), "{error}");
    assert!(with("[1, 2]").unwrap_err().to_string().contains("must be a mapping"));
    assert!(with("# nothing\n").is_ok());
}
