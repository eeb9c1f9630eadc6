//! The alerts and summary tables of a report.

use std::fmt::{Display, Write};

use broadside::load::RunRecord;
use broadside::load::record::{Phase, ResourceSample};

use crate::cli::format;
use crate::cli::page::{Escaped, Swatch, missing};

/// The maximum number of errors of a run in the report.
const MAX_ERRORS: usize = 20;

/// The reasons for which the measurements of a run are unreliable; empty for a valid and complete run.
pub fn problems(run: &RunRecord) -> Vec<String> {
    let mut problems: Vec<String> = run.invalid.iter().map(|why| format!("invalid: {why}")).collect();
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

/// Writes an alert for each run that has problems.
pub fn alerts(html: &mut String, runs: &[RunRecord], names: &[String]) {
    for (at, (run, name)) in runs.iter().zip(names).enumerate() {
        let problems = problems(run);
        if problems.is_empty() {
            continue;
        }
        let _ = write!(
            html,
            "<div class=\"alert\" role=\"alert\"><strong>{}{}: the measurements are unreliable</strong><ul>",
            Swatch(at),
            Escaped(name)
        );
        for problem in problems {
            let _ = write!(html, "<li>{}</li>", Escaped(problem));
        }
        html.push_str("</ul></div>\n");
    }
}

/// Writes the table of runs, with a column for each run.
pub fn runs(html: &mut String, runs: &[RunRecord], names: &[String]) {
    html.push_str("<h2 id=\"runs\">Runs</h2>\n<div class=\"wide\">\n<table class=\"text\">\n<thead><tr><th></th>");
    for (at, name) in names.iter().enumerate() {
        let _ = write!(html, "<th>{}{}</th>", Swatch(at), Escaped(name));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    let mut row = |name: &str, value: &dyn Fn(&RunRecord) -> Option<String>| {
        if runs.iter().all(|run| value(run).is_none()) {
            return;
        }
        let _ = write!(html, "<tr><td>{name}</td>");
        for run in runs {
            let _ = write!(html, "<td>{}</td>", Escaped(value(run).unwrap_or_else(missing)));
        }
        html.push_str("</tr>\n");
    };
    row("Store", &|run| run.store.version.clone());
    row("Address", &|run| Some(run.store.address.clone()).filter(|address| !address.is_empty()));
    row("Machine", &|run| Some(machine(run)));
    row("Started", &|run| Some(run.started.to_string()));
    row("Test", &|run| run.phase(Phase::Test).map(|test| format::time(test.end_nanos - test.start_nanos)));
    row("Seed", &|run| Some(run.seed.to_string()));
    row("Ingested", &|run| {
        Some(format!(
            "{} queries in {} batches",
            format::whole(run.ingester.queries_executed),
            format::whole(run.ingester.batches_executed)
        ))
    });
    row("Batches failed · unfinished · redelivered", &|run| {
        let ingester = &run.ingester;
        Some(dotted([ingester.batches_failed, ingester.batches_unfinished, ingester.batches_redelivered]))
    });
    row("Jobs dropped · rejected, backlog full", &|run| {
        Some(dotted([run.ingester.jobs_dropped, run.ingester.jobs_rejected]))
    });
    row("Errors", &|run| Some(format::whole(run.error_count)));
    row("Generator lag, p99", &|run| run.generator_lag.quantile(0.99).map(format::time));
    row("Stored, start → end", &|run| growth(run, |sample| sample.stored_bytes));
    row("Server memory, start → end", &|run| growth(run, |sample| sample.server_memory_bytes));
    row("Driver memory, start → end", &|run| growth(run, |sample| sample.process_memory_bytes));
    row("Census", &|run| {
        let census = run.census.as_ref()?;
        let result = if census.differences.is_empty() { "no differences" } else { "differs" };
        Some(format!(
            "{result}: {} jobs counted, {} compared field by field",
            format::whole(census.jobs),
            format::whole(census.sampled)
        ))
    });
    row("Highest rate that meets the objectives", &|run| {
        let search = run.rate_search.as_ref()?;
        let broke = search.trials.iter().find(|trial| !trial.broke.is_empty());
        let broke = broke.map(|trial| format!("; first violation: {}", trial.broke.join(", ")));
        Some(search.highest.map_or_else(|| "none".to_owned(), format::rate) + &broke.unwrap_or_default())
    });
    html.push_str("</tbody>\n</table>\n</div>\n");
}

fn machine(run: &RunRecord) -> String {
    let machine = &run.machine;
    let cores = machine.cores.map(|cores| format!("{cores} cores"));
    let memory = machine.memory_bytes.map(format::bytes);
    let parts = [Some(machine.system.clone()), machine.processor.clone(), cores, memory];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn dotted(numbers: impl IntoIterator<Item = u64>) -> String {
    numbers.into_iter().map(format::whole).collect::<Vec<_>>().join(" · ")
}

fn growth(run: &RunRecord, bytes: impl Fn(&ResourceSample) -> Option<u64>) -> Option<String> {
    let (first, last) = (run.resources.first()?, run.resources.last()?);
    Some(format!("{} → {}", format::bytes(bytes(first)?), format::bytes(bytes(last)?)))
}

/// Writes the table of objectives, if there are any.
pub fn objectives(html: &mut String, runs: &[RunRecord], names: &[String]) {
    let rows = runs.iter().zip(names).enumerate().flat_map(|(at, (run, name))| {
        run.objectives.iter().map(move |objective| {
            let (class, result) = if objective.held { ("good", "met") } else { ("bad", "missed") };
            [
                format!("{}{}", Swatch(at), Escaped(name)),
                format!("<code>{}</code>", Escaped(&objective.objective)),
                Escaped(objective.measured.as_deref().unwrap_or("too few samples")).to_string(),
                format!("<span class=\"{class}\">{result}</span>"),
            ]
        })
    });
    table(html, "objectives", "Objectives", ["Run", "Objective", "Measured", ""], rows.collect());
}

/// Writes the table of actions, if there are any.
pub fn actions(html: &mut String, runs: &[RunRecord], names: &[String]) {
    let rows = runs.iter().zip(names).enumerate().flat_map(|(at, (run, name))| {
        let start = run.phase(Phase::Test).map_or(0, |test| test.start_nanos);
        run.actions.iter().map(move |action| {
            let time = action.end_nanos.and_then(|end| end.checked_sub(action.due_nanos)).map(format::time);
            [
                format!("{}{}", Swatch(at), Escaped(name)),
                format!("{} {} / {}", action.action, Escaped(&action.queue), Escaped(&action.job_set)),
                format::time(action.due_nanos.saturating_sub(start)),
                format::whole(action.jobs),
                time.unwrap_or_else(|| "not completed".to_owned()),
                Escaped(action.error.as_deref().unwrap_or_default()).to_string(),
            ]
        })
    });
    let headings = ["Run", "Action", "Due after", "Jobs", "Time", "Error"];
    table(html, "actions", "Actions", headings, rows.collect());
}

/// Writes the table of the first errors, if there are any.
pub fn errors(html: &mut String, runs: &[RunRecord], names: &[String]) {
    let rows = runs.iter().zip(names).enumerate().flat_map(|(at, (run, name))| {
        run.errors.iter().take(MAX_ERRORS).map(move |error| {
            let call =
                error.query_type.map_or_else(|| "batch".to_owned(), |kind| format!("{kind} {}", error.filter_combo));
            [
                format!("{}{}", Swatch(at), Escaped(name)),
                error.timestamp.to_string(),
                Escaped(call).to_string(),
                Escaped(&error.error).to_string(),
            ]
        })
    });
    table(html, "errors", "First errors", ["Run", "Time", "Call", "Error"], rows.collect());
}

/// Writes a table of HTML cells. Writes nothing without rows.
fn table<const N: usize>(html: &mut String, id: &str, heading: &str, headings: [&str; N], rows: Vec<[String; N]>) {
    if rows.is_empty() {
        return;
    }
    let cells =
        |tag: &str, texts: &[String]| -> String { texts.iter().map(|text| format!("<{tag}>{text}</{tag}>")).collect() };
    let _ = write!(html, "<h2 id=\"{id}\">{heading}</h2>\n<div class=\"wide\">\n<table class=\"text\">\n<thead><tr>");
    html.push_str(&cells("th", &headings.map(str::to_owned)));
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        let _ = writeln!(html, "<tr>{}</tr>", cells("td", &row));
    }
    html.push_str("</tbody>\n</table>\n</div>\n");
}

/// Formats a value, or the placeholder for a missing one.
pub fn or_missing(value: Option<impl Display>) -> String {
    value.map_or_else(missing, |value| value.to_string())
}
