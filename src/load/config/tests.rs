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
    LoadConfig::parse(files.iter().copied())
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
            r#"b.yaml:9: slo "page.p98 < 1s" has no statistic "p98": use p50, p95, p99, p99.9, mean, max or errors"#,
            r#"b.yaml:9: slo "pages.p99 < 1s" has no kind "pages": use page, groups, spec, runError, debugMessage or ingest"#,
            r#"b.yaml:12: actionsConfig.jobSetCancellations[0].performAfterTestStartTime: "1m" must not be after the end of the test"#,
            r#"b.yaml:12: actionsConfig.jobSetCancellations[0].queue: "other" must be a queue of queueConfig"#,
            r#"b.yaml:13: actionsConfig.jobSetCancellations[1].performAfterTestStartTime: "1m" must not be after the end of the test"#,
            r#"b.yaml:13: actionsConfig.jobSetCancellations[1].jobSet: "t" must be a job set of the queue"#,
        ]
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
        let parsed = LoadConfig::parse_for(BackendKind::ClickHouse, [("a.yaml", text)]);
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
        LoadConfig::parse_for(BackendKind::Postgres, [("a.yaml", text.as_str())]).unwrap();
    let expected = LoadDatabase { target: LoadTarget::External(BackendKind::Postgres), ..LoadDatabase::memory() };
    assert_eq!(config.database, expected);
    let keys: Vec<_> = warnings.iter().map(|warning| warning.key.as_str()).collect();
    assert_eq!(keys, ["databaseConfig.postgresTuningSQL", "featureToggles.hotColdSplit"]);
    assert!(warnings.iter().all(|warning| warning.to_string().contains("has no effect")), "{warnings:?}");
}

#[cfg(all(feature = "postgres", feature = "clickhouse"))]
mod servers {
    use super::*;

    fn on(section: &str) -> Result<ParsedConfig, ConfigError> {
        parse(&[("a.yaml", &MINIMAL.replace("{inMemory: true}", section))])
    }

    #[test]
    fn postgres_supports_the_keys_of_libpq_and_pgx() {
        let parsed = on("\n  postgres: {host: h, port: 5433, database: d, user: u, password: 007, sslmode: disable, pool_max_conns: 3}\n  postgresTuningSQL: [SELECT 1, SELECT 2]").unwrap();
        let LoadTarget::Postgres(parameters) = &parsed.config.database.target else { panic!() };
        assert_eq!(parameters["password"], "007");
        assert_eq!(parsed.config.database.config().unwrap().backend(), BackendKind::Postgres);
        let text = serde_json::to_string(&parsed.config).unwrap() + &format!("{:?}", parsed.config);
        assert!(!text.contains("007") && text.contains("********"), "{text}");
    }

    #[test]
    fn clickhouse_requires_the_http_port() {
        let parsed = on("{clickHouse: {host: h, port: 8123, database: d, user: u, password: 'p@ss/word'}}").unwrap();
        assert_eq!(parsed.config.database.config().unwrap().backend(), BackendKind::ClickHouse);
        assert!(!serde_json::to_string(&parsed.config).unwrap().contains("p@ss"));
        for port in [9000, 9440] {
            let error = on(&format!("{{clickHouse: {{host: h, port: {port}, database: d}}}}")).unwrap_err();
            let expected = format!(
                "a.yaml:3: databaseConfig.clickHouse.port: \"{port}\" is a port of ClickHouse's native protocol"
            );
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn host_port_and_database_are_required_and_no_secret_is_shown() {
        let error = on("{postgres: {host: '', password: hunter2, colour: hunter2}}").unwrap_err();
        for key in ["host", "port", "database"] {
            assert!(error.to_string().contains(&format!("databaseConfig.postgres.{key} must not be empty")), "{error}");
        }
        let unknown = on("{postgres: {host: h, port: 1, database: d, password: hunter2, colour: red}}").unwrap_err();
        assert!(unknown.to_string().starts_with("a.yaml:3: databaseConfig.postgres.colour "), "{unknown}");
        let value =
            on("{postgres: {host: h, port: 1, database: d, sslmode: hunter2, pool_size: hunter2}}").unwrap_err();
        assert_eq!(
            value.problems.iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(),
            ["databaseConfig.postgres.sslmode", "databaseConfig.postgres.pool_size"]
        );
        let text = on("{postgres: 'postgres://u:hunter2@h/d'}").unwrap_err();
        assert!(text.to_string().contains("databaseConfig.postgres must be a mapping"), "{text}");
        for error in [error, unknown, value, text] {
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }
}

#[test]
fn syntax_errors_have_file_and_line() {
    let error = with("testDuration: 1m\n  bad: [").unwrap_err();
    assert!(error.to_string().starts_with("b.yaml:2: "), "{error}");
    let error = with("testDuration: 1m\nTestDuration: 2m").unwrap_err();
    assert!(error.to_string().contains("differ only in case"), "{error}");
    assert!(with("[1, 2]").unwrap_err().to_string().contains("must be a mapping"));
    assert!(with("# nothing\n").is_ok());
}
