use serde_json::json;

use super::super::fixtures::{millis, reads, run};
use super::super::record::{ObjectiveRecord, QueryType};
use super::*;

/// A run on a backend whose pages and batches have these latencies.
fn on(backend: &str, pages: u64, batches: u64) -> RunRecord {
    let mut run = run();
    run.store.backend = backend.to_owned();
    run.queries = vec![reads(QueryType::GetJobs, "owner", vec![pages; 1000])];
    run.ingester.latency = millis(vec![batches; 99]);
    run
}

fn found(before: &[RunRecord], now: &[RunRecord]) -> Vec<Regression> {
    regressions(before, now, 1.5).unwrap()
}

#[test]
fn the_latencies_of_a_single_run_are_compared() {
    let before = [on("postgres", 100, 10)];
    assert_eq!(found(&before, &[on("postgres", 149, 14)]), []);
    let worse = found(&before, &[on("postgres", 152, 16)]);
    let measures: Vec<_> = worse
        .iter()
        .map(|regression| match regression {
            Regression::Latency { measure, before, now } => {
                assert!((1.5..1.7).contains(&(*now as f64 / *before as f64)), "{regression}");
                measure.as_str()
            }
            other => panic!("{other}"),
        })
        .collect();
    // 99 events do not bound a p99.
    assert_eq!(measures, ["events p50", "GetJobs owner p50", "GetJobs owner p99"]);
    // The intervals of the medians of 99 times from 0.6 to 1.4 of these overlap up to a quotient of 1.5 · 1.08 / 0.92.
    let spread = |center: u64| {
        let mut run = on("postgres", 100, 10);
        run.ingester.latency = millis((0..99).map(|at| center * (600 + 800 * at / 98) / 1000));
        [run]
    };
    assert_eq!(found(&spread(1000), &spread(1600)), []);
    assert_eq!(found(&spread(1000), &spread(2000)).len(), 1);
    let few = |millis_of_each| {
        let mut run = on("postgres", 100, 10);
        run.ingester.latency = millis(vec![millis_of_each; 3]);
        [run]
    };
    assert_eq!(found(&few(10), &few(100)), [], "three calls do not bound a median");
    let mut other = on("postgres", 900, 10);
    other.queries[0].filter_combo = "pool".to_owned();
    assert_eq!(found(&before, &[other]), [], "the baseline has no such reads");
}

#[test]
fn the_ratios_to_the_first_of_several_runs_are_compared() {
    let before = [on("memory", 100, 10), on("postgres", 300, 30)];
    // A slower machine, and a slower second backend.
    assert_eq!(found(&before, &[on("memory", 200, 20), on("postgres", 600, 60)]), []);
    assert_eq!(found(&before, &[on("memory", 100, 10), on("postgres", 900, 90)]), []);
    assert_eq!(found(&before, &[on("memory", 149, 10), on("postgres", 300, 30)]), []);
    let worse = found(&before, &[on("memory", 152, 10), on("postgres", 300, 30)]);
    assert!(worse.len() == 2, "{worse:?}");
    for (regression, percentile) in worse.iter().zip(["p50", "p99"]) {
        let Regression::Ratio(regression) = regression else { panic!("{regression}") };
        assert_eq!(regression.measure, format!("GetJobs owner {percentile}"));
        assert_eq!((regression.watched.as_str(), regression.other.as_str()), ("memory", "postgres"));
        let (before, now) = (regression.before.value, regression.now.value);
        assert!((before - 3.0).abs() < 0.01 && (now - 300.0 / 152.0).abs() < 0.01, "{regression}");
    }
}

#[test]
fn an_objective_that_was_met_and_a_lower_rate_are_regressions() {
    let with = |held: bool, highest: Option<f64>| {
        let objective = |objective: &str, held| ObjectiveRecord {
            objective: objective.to_owned(),
            measured: Some("9s".to_owned()),
            interval: None,
            held,
            is_unresolved: false,
        };
        let objectives = vec![objective("page.p50 < 1s", held), objective("page.p99 < 1s", false)];
        [RunRecord {
            objectives,
            rate_search: serde_json::from_value(json!({"highest": highest, "trials": []})).unwrap(),
            ..on("postgres", 1, 1)
        }]
    };
    let [met, missed] = [true, false].map(|held| with(held, Some(300.0)));
    assert_eq!((found(&met, &met), found(&missed, &missed), found(&missed, &met)), (vec![], vec![], vec![]));
    let objective = Regression::Objective {
        backend: "postgres".to_owned(),
        objective: "page.p50 < 1s".to_owned(),
        measured: Some("9s".to_owned()),
    };
    assert_eq!(found(&met, &missed), [objective]);
    assert_eq!(found(&met, &with(true, Some(201.0))), []);
    for (highest, now) in [(Some(199.0), 199.0), (None, 0.0)] {
        let rate = Regression::Rate { backend: "postgres".to_owned(), before: 300.0, now };
        assert_eq!(found(&met, &with(true, highest)), [rate]);
    }
}

/// All reads failed at once, so that their latencies are no worse.
#[test]
fn a_run_that_is_not_sustained_is_a_regression() {
    let sustained = [on("postgres", 100, 10)];
    let failed = [RunRecord { unsustained: vec!["GetJobs: all failed".to_owned()], ..on("postgres", 100, 10) }];
    let reason = "GetJobs: all failed".to_owned();
    assert_eq!(found(&sustained, &failed), [Regression::NotSustained { backend: "postgres".to_owned(), reason }]);
    assert_eq!((found(&failed, &failed), found(&failed, &sustained)), (vec![], vec![]));
}

#[test]
fn runs_are_comparable_with_the_same_load_on_the_same_backends() {
    let error = |before: &[RunRecord], now: &[RunRecord]| regressions(before, now, 1.5).unwrap_err();
    let base = on("postgres", 1, 1);
    let one = std::slice::from_ref(&base);
    let changed = |change: fn(&mut RunRecord)| {
        let mut run = base.clone();
        change(&mut run);
        [run]
    };
    let load = BaselineError::Configuration("postgres".to_owned());
    let unreliable = BaselineError::Unreliable("postgres".to_owned());
    assert!(matches!(error(one, &[on("memory", 1, 1)]), BaselineError::Backends(..)));
    assert!(matches!(error(one, &[]), BaselineError::Backends(..)));
    assert_eq!(error(one, &changed(|run| run.seed = 1)), load);
    assert_eq!(error(one, &changed(|run| drop(run.options.insert("arrivals".to_owned(), json!("poisson"))))), load);
    assert_eq!(error(one, &changed(|run| run.configuration = json!({"testDuration": "1m"}))), load);
    assert_eq!(error(one, &changed(|run| run.partial = true)), unreliable);
    assert_eq!(error(&changed(|run| run.partial = true), one), unreliable);
    let other_machine = changed(|run| run.machine.cores = None);
    assert_eq!(error(one, &other_machine), BaselineError::Machine);
    let [other_machine] = other_machine;
    assert_eq!(found(&[base.clone(), base.clone()], &[other_machine.clone(), other_machine]), []);
    // The address of the store may differ.
    let at = |address: &str| RunRecord { configuration: json!({"databaseConfig": address, "seed": 1}), ..base.clone() };
    assert_eq!(found(&[at("a")], &[at("b")]), []);
}
