//! The HTML report of a comparison.

use broadside::compare::{Measurement, OperationGroup, OperationResult, Results};
use maud::{Markup, html};

use super::table::{NOTE, ratio};
use crate::cli::format;
use crate::cli::page::{self, BarRow, key, or_missing};

const GROUPS: [(OperationGroup, &str); 4] = [
    (OperationGroup::Ingestion, "Ingestion"),
    (OperationGroup::Pages, "Pages of jobs"),
    (OperationGroup::Groups, "Groups of jobs"),
    (OperationGroup::Records, "Single records"),
];

/// Renders the report as one HTML document without external references.
pub fn page(results: &Results) -> Markup {
    let title = format!("Broadside: {} jobs on {}", results.settings.workload.jobs, names(results).join(", "));
    let body = html! {
        (settings(results))
        (backends(results))
        @for (group, heading) in GROUPS { (chart_of(results, group, heading)) }
        (times(results))
    };
    page::page(&title, &body)
}

fn names(results: &Results) -> Vec<&str> {
    results.backends.iter().map(|backend| backend.name.as_str()).collect()
}

fn settings(results: &Results) -> Markup {
    let workload = &results.settings.workload;
    let machine = &results.machine;
    let cores = machine.cores.map(|cores| format!("{cores} cores"));
    let memory = machine.memory_bytes.map(format::bytes);
    let parts = [Some(machine.system.clone()), machine.processor.clone(), cores, memory];
    let machine = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    html! {
        p {
            "Broadside " (results.broadside) ", " (results.taken) ", on " (machine) ". "
            (workload.jobs) " jobs, seed " (workload.seed) ", layout " (format!("{:?}", workload.layout)) "; at most "
            (results.settings.samples) " executions of each query. The results of all backends are equal, except for \
             the order of ties."
        }
    }
}

fn backends(results: &Results) -> Markup {
    html! {
        div.wide {
            table {
                thead {
                    tr { th { "Backend" } th { "Version" } th { "Stored" } th { "Bytes per job" } th { "Settings" } }
                }
                tbody {
                    @for (at, backend) in results.backends.iter().enumerate() {
                        tr {
                            td { (key(at, &backend.name)) }
                            td { (or_missing(backend.version.as_ref())) }
                            td { (or_missing(backend.bytes.map(format::bytes))) }
                            td { (or_missing(backend.bytes_per_job.map(|bytes| format!("{bytes:.0}")))) }
                            td.note {
                                @for (name, value) in &backend.settings { (name) " = " (value) br; }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The chart of a group of operations; empty if none of them was executed.
fn chart_of(results: &Results, group: OperationGroup, heading: &str) -> Markup {
    let median = |measured: &Option<Measurement>| measured.as_ref().map(|measured| measured.times.p50_nanos as f64);
    let rows: Vec<_> = of_group(results, group)
        .map(|operation| BarRow { name: &operation.name, values: operation.measurements.iter().map(median).collect() })
        .collect();
    if rows.is_empty() {
        return Markup::default();
    }
    html! {
        h2 { (heading) }
        p.note { "Median time per call, on a logarithmic scale. Shorter bars are faster." }
        (page::legend(&names(results)))
        div.wide { (page::bars(&rows, |nanos| format::time(nanos as u64))) }
    }
}

fn of_group(results: &Results, group: OperationGroup) -> impl Iterator<Item = &OperationResult> {
    results.operations.iter().filter(move |operation| operation.group == group)
}

fn times(results: &Results) -> Markup {
    html! {
        h2 { "All times" }
        p.note {
            em { "n" } " is the number of executions. p95 requires 20 of them, p99 requires 100. The backends \
             take turns, in each of which one runs up to 10 batches or queries of a kind. " (NOTE)
        }
        div.wide {
            table {
                thead { tr { th { "Operation" } th { "Rows" } (headings(&names(results))) } }
                tbody {
                    @for (group, heading) in GROUPS {
                        tr.group { td colspan=(1 + 5 * results.backends.len()) { (heading) } }
                        @for operation in of_group(results, group) { (times_of(operation)) }
                    }
                }
            }
        }
    }
}

/// The headings of the times of each backend, and of the ratios to the first one.
fn headings(names: &[&str]) -> Markup {
    html! {
        @for (at, name) in names.iter().enumerate() {
            th { (key(at, name)) br; "n" }
            th { "p50" }
            th { "p95" }
            th { "p99" }
            @if at > 0 { th { "÷ " (names[0]) } }
        }
    }
}

fn times_of(operation: &OperationResult) -> Markup {
    let rows = operation.measurements.iter().flatten().filter_map(|measured| measured.rows).max();
    let rates: Vec<_> = operation.measurements.iter().map(|measured| measured.as_ref()?.rows_per_second).collect();
    html! {
        tr {
            td { (operation.name) }
            td { @if let Some(rows) = rows { (rows) } }
            @for (at, measured) in operation.measurements.iter().enumerate() {
                (measurement_cells(measured.as_ref()))
                @if at > 0 { td { (or_missing(operation.ratio(at).map(ratio))) } }
            }
        }
        @if rates.iter().any(Option::is_some) { (rates_of(&rates)) }
    }
}

fn measurement_cells(measured: Option<&Measurement>) -> Markup {
    let times = measured.map(|measured| measured.times);
    let times = times.map_or([None; 3], |times| [Some(times.p50_nanos), times.p95_nanos, times.p99_nanos]);
    html! {
        td { (or_missing(measured.map(|measured| format::whole(measured.runs)))) }
        @for time in times { td { (or_missing(time.map(format::time))) } }
    }
}

fn rates_of(rates: &[Option<f64>]) -> Markup {
    html! {
        tr {
            td.note { "\u{2003}queries per second" }
            td {}
            @for (at, rate) in rates.iter().enumerate() {
                // The first backend has no column for the ratio.
                td colspan=(if at == 0 { 4 } else { 5 }) { (or_missing(rate.map(format::rate))) }
            }
        }
    }
}
