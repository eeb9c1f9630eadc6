//! The alerts and summary tables of a report.

use broadside::load::RunRecord;
use broadside::load::record::{CensusRecord, IngesterRecord, Phase, RateSearchRecord, ResourceSample};
use maud::{Markup, html};

use crate::cli::format;
use crate::cli::page::{self, key, or_missing};

/// The maximum number of errors of a run in the report.
const MAX_ERRORS: usize = 20;

/// The reasons for which the measurements of a run are unreliable; empty for a valid and complete run.
pub fn problems(run: &RunRecord) -> Vec<String> {
    let mut problems: Vec<String> = run.invalid.iter().map(|why| format!("invalid: {why}")).collect();
    problems.extend(run.unsustained.iter().map(|why| format!("not sustained: {why}")));
    problems.extend(run.aborted.iter().map(|why| format!("ended early: {why}")));
    problems.extend(run.failures.iter().map(|failure| format!("{} failed: {}", failure.phase, failure.error)));
    if let Some(share) = &run.share {
        problems.push(format!("share {} of a load: add the others with --merge", share.share));
    }
    if run.partial {
        problems.push("partial: the run was interrupted, and the measurements end at that time".to_owned());
    }
    if let Some(census) = run.census.as_ref().filter(|census| !census.differences.is_empty()) {
        let more = match census.differences.len() {
            1 => String::new(),
            count => format!(", and {} more", count - 1),
        };
        problems.push(format!("the census found differences: {}{more}", census.differences[0]));
    }
    problems
}

/// An alert for each run that has problems.
pub fn alerts(runs: &[RunRecord], names: &[String]) -> Markup {
    let problems = named(runs, names).map(|(at, name, run)| (at, name, problems(run)));
    html! {
        @for (at, name, problems) in problems.filter(|(.., problems)| !problems.is_empty()) {
            div.alert role="alert" {
                strong { (key(at, name)) ": the run has problems" }
                ul { @for problem in problems { li { (problem) } } }
            }
        }
    }
}

/// A property of a run, `None` if it has none.
type Property = fn(&RunRecord) -> Option<String>;

/// The rows of the table of runs. A row without values is left out.
const PROPERTIES: [(&str, Property); 16] = [
    ("Store", |run| run.store.version.clone()),
    ("Address", |run| Some(run.store.address.clone()).filter(|address| !address.is_empty())),
    ("Machine", |run| Some(page::machine(&run.machine))),
    ("Started", |run| Some(run.started.to_string())),
    ("Test", |run| run.phase(Phase::Test).map(|test| format::time(test.end_nanos - test.start_nanos))),
    ("Seed", |run| Some(run.seed.to_string())),
    ("Ingested", |run| Some(ingested(&run.ingester))),
    ("Events not stored at the end", |run| Some(format::whole(run.ingester.latency.unfinished()))),
    ("Batches failed · redelivered", |run| {
        Some(dotted([run.ingester.batches_failed, run.ingester.batches_redelivered]))
    }),
    ("Jobs dropped · rejected, backlog full", |run| {
        Some(dotted([run.ingester.jobs_dropped, run.ingester.jobs_rejected]))
    }),
    ("Errors", |run| Some(format::whole(run.error_count))),
    ("Stored, start → end", |run| growth(run, |sample| sample.stored_bytes)),
    ("Server memory, start → end", |run| growth(run, |sample| sample.server_memory_bytes)),
    ("Driver memory, start → end", |run| growth(run, |sample| sample.process_memory_bytes)),
    ("Census", |run| run.census.as_ref().map(census)),
    ("Highest rate that meets the objectives", |run| run.rate_search.as_ref().map(highest_rate)),
];

/// The table of runs, with a column for each run.
pub fn runs(runs: &[RunRecord], names: &[String]) -> Markup {
    let values = |property: Property| runs.iter().map(property).collect::<Vec<_>>();
    let rows = PROPERTIES.map(|(name, property)| (html! { (name) }, values(property)));
    let rows: Vec<_> = rows.into_iter().filter(|(_, values)| values.iter().any(Option::is_some)).collect();
    html! {
        h2 #runs { "Runs" }
        (page::table_by_run("", names, &rows))
    }
}

fn dotted(numbers: impl IntoIterator<Item = u64>) -> String {
    numbers.into_iter().map(format::whole).collect::<Vec<_>>().join(" · ")
}

fn growth(run: &RunRecord, bytes: impl Fn(&ResourceSample) -> Option<u64>) -> Option<String> {
    let (first, last) = (run.resources.first()?, run.resources.last()?);
    Some(format!("{} → {}", format::bytes(bytes(first)?), format::bytes(bytes(last)?)))
}

fn ingested(ingester: &IngesterRecord) -> String {
    let (queries, batches) = (format::whole(ingester.queries_executed), format::whole(ingester.batches_executed));
    format!("{queries} queries in {batches} batches")
}

fn census(census: &CensusRecord) -> String {
    let result = if census.differences.is_empty() { "no differences" } else { "differs" };
    let (jobs, sampled) = (format::whole(census.jobs), format::whole(census.sampled));
    format!("{result}: {jobs} jobs counted, {sampled} compared field by field")
}

fn highest_rate(search: &RateSearchRecord) -> String {
    let highest = format::highest_rate(search);
    match &search.inconclusive {
        Some(reason) => format!("{highest}; inconclusive: {reason}"),
        None => highest,
    }
}

/// The table of objectives, if there are any.
pub fn objectives(runs: &[RunRecord], names: &[String]) -> Markup {
    let rows = named(runs, names).flat_map(|(at, name, run)| {
        run.objectives.iter().map(move |objective| {
            html! {
                td { (key(at, name)) }
                td { code { (objective.objective) } }
                td { (objective) }
                td { @if objective.held { span.good { "met" } } @else { span.bad { "missed" } } }
            }
        })
    });
    table("objectives", "Objectives", &["Run", "Objective", "Measured", ""], rows)
}

/// The table of rates in the test phase, due and achieved.
pub fn rates(runs: &[RunRecord], names: &[String]) -> Markup {
    let rows = named(runs, names).flat_map(|(at, name, run)| {
        run.rates().into_iter().map(move |rates| {
            html! {
                td { (key(at, name)) }
                td { @if let Some(kind) = rates.query_type { (kind) } @else { "ingestion queries" } }
                td { (format::rate(rates.due)) }
                td { (format::rate(rates.achieved)) }
            }
        })
    });
    table("rates", "Rates per second", &["Run", "Kind", "Due", "Done by the end of the test"], rows)
}

/// The table of the trials of searches, if there are any.
pub fn trials(runs: &[RunRecord], names: &[String]) -> Markup {
    let rows = named(runs, names).flat_map(|(at, name, run)| {
        run.rate_search.iter().flat_map(|search| &search.trials).map(move |trial| {
            html! {
                td { (key(at, name)) }
                td { (format::rate(trial.rate)) @if trial.confirms { " (confirmation)" } }
                td { (format::time(trial.test_nanos)) }
                td { (format::rate(trial.achieved)) }
                td { (or_missing(trial.ingest_p99_nanos.map(format::time))) }
                td { (trial) }
            }
        })
    });
    table("trials", "Trials of the search", &["Run", "Rate", "Test", "Achieved", "p99 of events", "Outcome"], rows)
}

/// The table of actions, if there are any.
pub fn actions(runs: &[RunRecord], names: &[String]) -> Markup {
    let rows = named(runs, names).flat_map(|(at, name, run)| {
        let start = run.phase(Phase::Test).map_or(0, |test| test.start_nanos);
        run.actions.iter().map(move |action| {
            let time = action.end_nanos.and_then(|end| end.checked_sub(action.due_nanos)).map(format::time);
            html! {
                td { (key(at, name)) }
                td { (action.action) " " (action.queue) " / " (action.job_set) }
                td { (format::time(action.due_nanos.saturating_sub(start))) }
                td { (format::whole(action.jobs)) }
                td { (time.as_deref().unwrap_or("not completed")) }
                td { (action.error.as_deref().unwrap_or_default()) }
            }
        })
    });
    table("actions", "Actions", &["Run", "Action", "Due after", "Jobs", "Time", "Error"], rows)
}

/// The table of the first errors, if there are any.
pub fn errors(runs: &[RunRecord], names: &[String]) -> Markup {
    let rows = named(runs, names).flat_map(|(at, name, run)| {
        run.errors.iter().take(MAX_ERRORS).map(move |error| {
            html! {
                td { (key(at, name)) }
                td { (error.timestamp) }
                td { @if let Some(kind) = error.query_type { (kind) " " (error.filter_combo) } @else { "batch" } }
                td { (error.error) }
            }
        })
    });
    table("errors", "First errors", &["Run", "Time", "Call", "Error"], rows)
}

/// The runs with their indexes and names.
fn named<'a>(runs: &'a [RunRecord], names: &'a [String]) -> impl Iterator<Item = (usize, &'a String, &'a RunRecord)> {
    names.iter().zip(runs).enumerate().map(|(at, (name, run))| (at, name, run))
}

/// A table with a heading from the cells of its rows; empty without rows.
fn table(id: &str, heading: &str, headings: &[&str], rows: impl Iterator<Item = Markup>) -> Markup {
    let rows: Vec<Markup> = rows.collect();
    html! {
        @if !rows.is_empty() {
            h2 id=(id) { (heading) }
            (page::table("text", &html! { @for heading in headings { th { (heading) } } }, &html! {
                @for row in rows { tr { (row) } }
            }))
        }
    }
}
