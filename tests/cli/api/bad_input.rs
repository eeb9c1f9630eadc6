//! Invalid input is rejected without a panic: bytes for the parser of scenarios and the protobuf decoder, any JSON for
//! queries and requests, any numbers for historical jobs.

use std::error::Error as _;

use broadside::ingest::{IngestionBatch, IngestionQuery, InsertJobSpec};
use broadside::scenario::{Filter, GetJobGroupsRequest, GetJobsRequest, GroupedField, Match, Order, Scenario};
use broadside::{
    BackendKind, DatabaseConfig, ErrorKind, GroupQuery, HistoricalJobs, HistoricalJobsParams, JobQuery, Operation,
    Timestamp,
};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

/// Any JSON of limited depth.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((text(), inner), 0..4).prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// Strings that are valid in some argument, and any others.
fn text() -> impl Strategy<Value = String> {
    let words = vec![
        "op",
        "ingest",
        "queries",
        "type",
        "insertJob",
        "setJobRunFailed",
        "jobId",
        "jobRunId",
        "time",
        "exitCode",
        "getJobs",
        "filters",
        "field",
        "match",
        "value",
        "anyOf",
        "exact",
        "state",
        "QUEUED",
        "cpu",
        "submitted",
        "2026-01-01T00:00:00Z",
        "0000-00-00T00:00:00Z",
        "+262143-12-31T23:59:59Z",
        "9999-12-31T23:59:60Z",
        "CgFq",
        "ASC",
    ];
    prop_oneof![3 => select(words).prop_map(str::to_owned), 1 => any::<String>()]
}

/// An address with the word SECRET in places where a secret may be, intended or by mistake.
fn address() -> impl Strategy<Value = String> {
    select(vec![
        "postgres://u:SECRET@h/d",
        "postgresql://u:SECRET@h1:1,h2:2/d?sslmode=disable&pool_size=3",
        "postgres://SECRET@h/d",
        "postgres://u@SECRET/d",
        "postgres://u@h:SECRET/d",
        "postgres://u@h/SECRET",
        "postgres://u@h/d?password=SECRET&connect_timeout=1",
        "postgres://u@h/d?SECRET=1",
        "postgres://u@h/d?schema=SECRET&sslrootcert=SECRET&options=SECRET&application_name=SECRET",
        "postgres://u@h/d?pool_size=SECRET",
        "postgres://u@h/d?sslmode=SECRET",
        "postgres:/u:SECRET@h/d",
        "postgres:u:SECRET@h/d?sslmode=disable",
        "u:SECRET@h:5432/d",
        "SECRET",
        "SECRET://u@h/d",
        "SECRET=x host=h",
        "host=h password=SECRET user=u",
        "password=my SECRET host=h",
        "password='SECRET' host=h port=1",
        "host=SECRET",
        "port=SECRET",
        "hostaddr=SECRET",
        "clickhouse+http://u:SECRET@h/d",
        "clickhouse+https://u:SECRET@h:8443/d?setting.max_threads=SECRET&cluster=SECRET",
        "clickhouse+http:/u:SECRET@h/d",
        "clickhouse+http://SECRET@h/d",
        "clickhouse+http://SECRET/d",
        "clickhouse+http://h:SECRET/d",
        "clickhouse+http://h/SECRET",
        "clickhouse+http://h/d?SECRET=1",
        "clickhouse+http://h/d?setting.SECRET=1",
        "clickhouse+http://h/d?timeout=SECRET",
    ])
    .prop_map(str::to_owned)
}

/// A secret of letters in an order that occurs in no word, between characters with a meaning in addresses.
fn secret() -> impl Strategy<Value = String> {
    let letters = "[QXZJVKW]{4,6}";
    (letters, "[@:/?#&=%+' \\\\,]{0,2}", "([QXZJVKW]{4,6})?").prop_map(|(first, middle, last)| first + &middle + &last)
}

/// A line for each call, to be damaged.
fn line() -> impl Strategy<Value = String> {
    select(vec![
        r#"{"op":"ingest","queries":[{"type":"insertJob","job":{"jobId":"j","queue":"q","jobSet":"s","owner":"o","priority":1,"submitted":"2026-01-01T00:00:00Z","cpu":1,"memory":2,"ephemeralStorage":3,"gpu":0,"annotations":{"k":"v"}},"jobSpec":"CgFq"}]}"#,
        r#"{"op":"ingest","queries":[{"type":"setJobRunFailed","jobRunId":"r","time":"2026-01-01T00:00:00Z","error":"ZQ==","debug":null,"exitCode":-1}]}"#,
        r#"{"op":"getJobs","filters":[{"field":"queue","match":"anyOf","value":["q"]}],"activeJobSets":true,"order":{"field":"jobId","direction":"ASC"},"skip":1,"take":10,"expect":{"ok":[]}}"#,
        r#"{"op":"getJobGroups","groupedField":{"field":"k","isAnnotation":true},"aggregates":["state"]}"#,
        r#"{"op":"getJobSpec","jobId":"j"}"#,
        r#"{"op":"setClock","now":"1969-12-31T23:59:59.999999999Z"}"#,
    ])
    .prop_map(str::to_owned)
}

/// A parsed scenario can be formatted and parsed again.
fn round_trips(scenario: &Scenario) -> Result<(), TestCaseError> {
    for step in &scenario.steps {
        let text = step.to_string();
        let again =
            Scenario::parse(text.as_bytes()).map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
        prop_assert_eq!(&again.steps[0].call, &step.call);
    }
    Ok(())
}

fn jobs_query(request: GetJobsRequest) -> Result<(), TestCaseError> {
    if let Err(error) = JobQuery::try_from(request) {
        prop_assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_scenario_or_rejected(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(scenario) = Scenario::parse(&bytes) {
            round_trips(&scenario)?;
        }
    }

    #[test]
    fn a_damaged_line_is_a_call_or_rejected(mut line in line().prop_map(String::into_bytes), damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), end in any::<prop::sample::Index>()) {
        for (index, byte) in damage {
            let index = index.index(line.len());
            line[index] = byte;
        }
        for text in [&line[..], &line[..end.index(line.len())]] {
            if let Ok(scenario) = Scenario::parse(text) {
                round_trips(&scenario)?;
            }
        }
    }

    #[test]
    fn a_line_with_any_value_is_a_call_or_rejected(line in line(), keys in vec(any::<prop::sample::Index>(), 1..5), value in value()) {
        let mut object: Value = serde_json::from_str(&line).unwrap();
        replace(&mut object, &keys, value);
        if let Ok(scenario) = Scenario::parse(object.to_string().as_bytes()) {
            round_trips(&scenario)?;
        }
    }

    #[test]
    fn any_filter_is_valid_or_rejected(field in text(), matcher in text(), value in value(), is_annotation in any::<bool>()) {
        let filter = Filter { field, matcher, value, is_annotation };
        jobs_query(GetJobsRequest { filters: vec![filter], ..Default::default() })?;
    }

    #[test]
    fn any_request_is_valid_or_rejected(field in text(), direction in text(), skip in any::<i64>(), take in any::<i64>(), aggregate in text(), is_annotation in any::<bool>()) {
        let order = Order { field: field.clone(), direction };
        jobs_query(GetJobsRequest { order: order.clone(), skip, take, ..Default::default() })?;
        let grouped_field = GroupedField { field, is_annotation, last_transition_time_aggregate: String::new() };
        let aggregates = vec![aggregate];
        let request = GetJobGroupsRequest { grouped_field, aggregates, order, skip, take, ..Default::default() };
        if let Err(error) = GroupQuery::try_from(request) {
            prop_assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
    }

    #[test]
    fn any_json_is_a_query_or_rejected(kind in text(), object in value()) {
        let mut object = match object { Value::Object(object) => object, other => Map::from_iter([("jobId".to_owned(), other)]) };
        object.insert("type".to_owned(), Value::String(kind));
        if let Ok(query) = serde_json::from_value::<IngestionQuery>(Value::Object(object)) {
            prop_assert!(query.job_id().len() <= serde_json::to_string(&query).unwrap().len());
            if let Err(error) = IngestionBatch::new([query]) {
                prop_assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            }
        }
    }

    #[test]
    fn any_bytes_are_a_spec_or_rejected(bytes in vec(any::<u8>(), 0..100)) {
        spec_is_valid_or_rejected(bytes)?;
    }

    #[test]
    fn nested_messages_are_a_spec_or_rejected(depth in 0..300_usize, field in 0..256_u16) {
        let mut bytes = Vec::new();
        for _ in 0..depth {
            let mut outer = vec![(field << 3) as u8 | 2];
            prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
            outer.append(&mut bytes);
            bytes = outer;
        }
        spec_is_valid_or_rejected(bytes)?;
    }

    #[test]
    fn any_string_is_a_time_or_rejected(text in "[-+0-9TZ:. ]{0,40}") {
        if let Ok(time) = text.parse::<Timestamp>() {
            prop_assert_eq!(time.to_string().parse(), Ok(time));
        }
    }

    #[test]
    fn any_parameters_of_historical_jobs_are_valid_or_rejected(numbers in vec(prop_oneof![-2..12_000_i64, any::<i64>()], 8), ages in vec(any::<i64>(), 0..3), names in vec(text(), 2), micros in any::<i64>(), bytes in vec(any::<u8>(), 0..8)) {
        let params = HistoricalJobsParams {
            queue_idx: numbers[0], job_set_idx: numbers[1], queue_name: names[0].clone(), job_set_name: names[1].clone(),
            n_jobs: numbers[2], chunk_size: numbers[3], succeeded_threshold: numbers[4], errored_threshold: numbers[5],
            cancelled_threshold: numbers[6], job_age_days: ages, job_spec_bytes: Some(Bytes::from(bytes)), error_bytes: None,
            debug_bytes: None, preemption_bytes: None, reference_time: Timestamp::from_micros(micros),
        };
        match HistoricalJobs::try_from(params) {
            Ok(jobs) => {
                let last = jobs.count().saturating_sub(1);
                prop_assert!(jobs.job_id(last).len() <= 32 && jobs.run_id(last).len() <= 36);
                prop_assert_eq!(jobs.submitted(last).is_some(), !jobs.bases().is_empty());
            }
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::InvalidArgument),
        }
    }

    #[test]
    fn no_part_of_a_secret_is_shown(address in address(), secret in secret(), damage in vec((any::<prop::sample::Index>(), select("@:/?#[]&=%+' \\\\,.%40%2F\0".chars().collect::<Vec<_>>()), 0..3), 0..6)) {
        let mut typed: Vec<char> = address.replace("SECRET", &secret).chars().collect();
        for (index, character, kind) in damage {
            let at = index.index(typed.len());
            match kind {
                0 => typed[at] = character,
                1 => typed.insert(at, character),
                _ if typed.len() > 1 => drop(typed.remove(at)),
                _ => {}
            }
        }
        let typed: String = typed.into_iter().collect();
        let shown = match typed.parse::<DatabaseConfig>() {
            Ok(config) => format!("{config:?} {config}"),
            Err(error) => {
                prop_assert_eq!(error.kind(), ErrorKind::InvalidArgument);
                let mut shown = format!("{error} {error:?} {}", error.message());
                let mut source = error.source();
                while let Some(cause) = source {
                    shown += &format!(" {cause} {cause:?}");
                    source = cause.source();
                }
                shown
            }
        };
        // In any encoding or case.
        let shown = shown.to_lowercase();
        let secret: Vec<char> = secret.to_lowercase().chars().collect();
        for fragment in secret.windows(4) {
            let fragment: String = fragment.iter().collect();
            prop_assert!(!shown.contains(&fragment), "{} is in {}", fragment, shown);
        }
    }

    #[test]
    fn any_string_is_an_address_or_rejected(text in prop_oneof![text(), "(postgres|clickhouse\\+http|x)://[a-z:@/?=%0-9]{0,30}", "host=[a-z =']{0,30}"]) {
        match text.parse::<DatabaseConfig>() {
            // Only strings of the documented forms are addresses.
            Ok(config) => prop_assert!(
                match config.backend() {
                    BackendKind::Postgres => text.starts_with("postgres") || text.contains('='),
                    BackendKind::ClickHouse => text.starts_with("clickhouse"),
                    _ => text == "memory",
                },
                "{}", config
            ),
            Err(error) => prop_assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidArgument, Operation::Connect)),
        }
    }
}

fn spec_is_valid_or_rejected(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let query = InsertJobSpec { job_id: "j".to_owned(), job_spec: Some(Bytes::from(bytes)), submitted: None };
    if let Err(error) = IngestionBatch::new([query.into()]) {
        prop_assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        prop_assert!(error.message().starts_with("query 0 (InsertJobSpec): jobSpec ("), "{}", error);
    }
    Ok(())
}

/// Replaces the value at the place that the indexes select.
fn replace(target: &mut Value, indexes: &[prop::sample::Index], value: Value) {
    let child = match (target, indexes.split_first()) {
        (Value::Object(object), Some((index, rest))) if !object.is_empty() => {
            let position = index.index(object.len());
            object.values_mut().nth(position).map(|child| (child, rest))
        }
        (Value::Array(array), Some((index, rest))) if !array.is_empty() => {
            let position = index.index(array.len());
            array.get_mut(position).map(|child| (child, rest))
        }
        (target, _) => {
            *target = value;
            return;
        }
    };
    if let Some((child, rest)) = child {
        replace(child, rest, value);
    }
}

#[test]
fn deep_json_is_rejected() {
    let deep = format!(r#"{{"op":"getJobs","filters":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(Scenario::parse(deep.as_bytes()).is_err());
    let filter = Filter::new("queue", Match::AnyOf, json!([[[["q"]]]]));
    assert!(JobQuery::try_from(GetJobsRequest { filters: vec![filter], ..Default::default() }).is_err());
}
