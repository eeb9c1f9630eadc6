//! The HTML document of a report.

use broadside::load::RunRecord;
use broadside::load::record::QueryType;
use maud::{Markup, html};

use super::{activity, differences, latency, names, over_time, summary};
use crate::cli::page::{self, figure, legend};

/// Renders the report of one or several runs.
pub fn page(runs: &[RunRecord]) -> Markup {
    let names = names(runs);
    let body = html! {
        (summary::alerts(runs, &names))
        (legend(&names))
        (summary::runs(runs, &names))
        (differences::section(runs, &names))
        (summary::objectives(runs, &names))
        (summary::rates(runs, &names))
        (summary::trials(runs, &names))
        (latency::tables(runs, &names))
        (charts(runs, &names))
        (summary::actions(runs, &names))
        (summary::errors(runs, &names))
    };
    page::page(&format!("Broadside: load on {}", names.join(", ")), &body)
}

/// Explanations of the charts, by title.
const GUIDE: [(&str, &str); 5] = [
    (
        "Latency by percentile",
        "the latency that a given fraction of the calls does not exceed. At p99.9, one call in 1,000 takes longer. \
         A flat line means uniform latencies, a step means that some calls are delayed. The line ends at the slowest \
         call.",
    ),
    (
        "Latency over time",
        "the p99 of the calls that completed in each second, or their maximum if there are fewer than 100. The thin \
         line is the median. A stall appears as a gap followed by a peak, whose height is the duration of the stall.",
    ),
    (
        "Rate",
        "the calls that completed in each second. The grey line is the target rate. Where the rate is below the \
         target, the backlog grows; where it is above, the backlog shrinks.",
    ),
    (
        "Backlog",
        "the calls that were due and had not completed at the end of each second. A backlog that grows until the end \
         of the test means that the store does not sustain the rate.",
    ),
    ("Errors", "the failed calls of all kinds in each second."),
];

fn charts(runs: &[RunRecord], names: &[String]) -> Markup {
    html! {
        h2 #charts { "Over time and by percentile" }
        @for (title, text) in GUIDE {
            p.note { strong { (title) } ": " (text) }
        }
        p.note {
            "Grey vertical lines mark the phases of the first run, coloured ones the actions of each run, and the \
             starts of its server's checkpoints, vacuums and merges if there are at most 20 of a kind. In long tests a point stands for several seconds: the maximum of latencies and backlog, the mean of rates, the \
             sum of errors."
        }
        @for kind in kinds(runs) {
            (charts_of(runs, names, kind))
        }
        (activity::section(runs, names))
    }
}

/// The charts of a kind of read, or of ingestion (`None`).
fn charts_of(runs: &[RunRecord], names: &[String], kind: Option<QueryType>) -> Markup {
    let heading = kind.map_or_else(|| "Ingestion".to_owned(), |kind| kind.to_string());
    let unit = if kind.is_none() { "queries" } else { "calls" };
    html! {
        h3 { (heading) }
        (legend(names))
        div.charts {
            (figure(&format!("{heading}: latency by percentile"), &latency::curve(runs, kind)))
            (figure(&format!("{heading}: latency over time"), &over_time::latency(runs, kind)))
            (figure(&format!("{heading}: rate, {unit} per second"), &over_time::rate(runs, kind)))
            (figure(&format!("{heading}: backlog, {unit}"), &over_time::backlog(runs, kind)))
            @if kind.is_none() {
                (figure("All calls: errors per second", &over_time::errors(runs)))
            }
        }
    }
}

/// Ingestion (`None`), and each kind of read that occurs in a run.
fn kinds(runs: &[RunRecord]) -> Vec<Option<QueryType>> {
    let mut reads: Vec<_> = runs.iter().flat_map(RunRecord::query_types).collect();
    reads.sort_unstable();
    reads.dedup();
    [None].into_iter().chain(reads.into_iter().map(Some)).collect()
}
