//! The HTML report of a comparison.

use broadside::compare::{Measurement, OperationGroup, OperationResult, Results};
use maud::{Markup, html};

use super::table::{self, NOTE};
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
    html! {
        p {
            "Broadside " (results.broadside) ", " (results.taken) ", on " (page::machine(&results.machine)) ". "
            (workload.jobs) " jobs, seed " (workload.seed) ", layout " (format!("{:?}", workload.layout)) "; at most "
            (results.settings.samples) " executions of each query. The results of all backends are equal, except for \
             the order of ties."
        }
    }
}

fn backends(results: &Results) -> Markup {
    let header = ["Backend", "Version", "Stored", "Bytes per job", "Settings"];
    page::table(
        "",
        &html! { @for name in header { th { (name) } } },
        &html! {
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
        },
    )
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
    let header = table::header(results);
    html! {
        h2 { "All times" }
        p.note {
            em { "n" } " is the number of executions. p95 requires 20 of them, p99 requires 100. The backends \
             take turns, in each of which one runs up to 10 batches or queries of a kind. " (NOTE)
        }
        (page::table("", &html! { @for name in &header { th { (name) } } }, &html! {
            @for (group, heading) in GROUPS {
                tr.group { td colspan=(header.len()) { (heading) } }
                @for row in of_group(results, group).flat_map(table::rows) {
                    tr { @for cell in row { td { (cell) } } }
                }
            }
        }))
    }
}
