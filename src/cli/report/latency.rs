//! Latencies by kind of call: the table with the ratios, and the percentile curves.

use broadside::load::RunRecord;
use broadside::load::record::{Latencies, QueryType};
use maud::{Markup, html};

use crate::cli::format;
use crate::cli::page::{self, Line, LineChart, Scale, Stroke, key, or_missing};
use crate::cli::table::MISSING;

/// The distinct names of the kinds, in the order of their first occurrence.
fn kinds<'a>(calls: &'a [Vec<(String, Latencies<'_>)>]) -> Vec<&'a str> {
    let mut kinds: Vec<&str> = Vec::new();
    for (name, _) in calls.iter().flatten() {
        if !kinds.contains(&name.as_str()) {
            kinds.push(name);
        }
    }
    kinds
}

/// The headings of the latencies of a kind of call.
const LATENCIES: [&str; 8] = ["n", "p50", "p95", "p99", "p99.9", "max", "failed", "not found"];
/// The quantiles of the latencies. The last is the maximum.
const QUANTILES: [f64; 5] = [0.5, 0.95, 0.99, 0.999, 1.0];
/// The headings of the ratios, in a report of several runs.
const RATIOS: [&str; 2] = ["p50 ÷", "p99 ÷"];

/// The table of latencies by kind, with ratios to the first run, and the table of their components.
pub fn tables(runs: &[RunRecord], names: &[String]) -> Markup {
    let calls: Vec<_> = runs.iter().map(RunRecord::latencies).collect();
    html! {
        h2 #latencies { "Latencies by kind" }
        p.note {
            "Latency is the time from the due time of a call to its completion, including waits. The table covers the \
             test phase. " em { "n" } " is the number of reads, or of the events of ingestion (state transitions and \
             updates of jobs); p95 requires 20 calls, p99 requires 100, p99.9 requires 1,000. ≥ marks a lower bound: a call \
             that failed or had not completed at the end counts with the time until then. A time of which the lag of the \
             driver is more than 20 % is below the driver's resolution. ÷ is the ratio to the first run; a ratio below 1 \
             means lower latency."
        }
        (latencies(&calls, names))
        h3 #parts { "Components of the latency" }
        p.note {
            "The three parts of the latency: the lag of the driver, the wait (of an event in the backlog and for its batch \
             to fill, or of a read for one of the slots that limit concurrent reads) and the service time of the call. If the wait dominates, the store does not sustain the rate at \
             this concurrency; if the service time dominates, the calls themselves are slow."
        }
        (components(&calls, names))
    }
}

fn latencies(calls: &[Vec<(String, Latencies<'_>)>], names: &[String]) -> Markup {
    let has_ratios = calls.len() > 1;
    let ratios: &[&str] = if has_ratios { &RATIOS } else { &[] };
    table(calls, names, &[&LATENCIES, ratios].concat(), |at, by_run| {
        html! {
            (latency_cells(by_run[at]))
            @if has_ratios { (ratio_cells(at, by_run)) }
        }
    })
}

fn latency_cells(call: Option<Latencies<'_>>) -> Markup {
    let Some(Latencies { latency, driver_lag: lag, failed, not_found, .. }) = call else {
        return html! { @for _ in LATENCIES { td { (MISSING) } } };
    };
    html! {
        td { (format::whole(latency.count())) }
        @for quantile in QUANTILES { td { (or_missing(format::latency(latency, lag, quantile))) } }
        td class=[(failed > 0).then_some("bad")] { (format::whole(failed)) }
        td { (format::whole(not_found)) }
    }
}

/// The ratios of the run at an index to the first run, which has none to itself.
fn ratio_cells(at: usize, by_run: &[Option<Latencies<'_>>]) -> Markup {
    let ratio = |quantile: f64| {
        let time = |call: Option<Latencies<'_>>| call?.latency.quantile(quantile).map(|nanos| nanos as f64);
        let (this, first) = time(by_run[at]).zip(time(by_run[0])).filter(|_| at > 0)?;
        Some(format::ratio(this / first))
    };
    html! { @for quantile in [0.5, 0.99] { td { (or_missing(ratio(quantile))) } } }
}

fn components(calls: &[Vec<(String, Latencies<'_>)>], names: &[String]) -> Markup {
    table(calls, names, &["lag p50", "lag p99", "wait p50", "wait p99", "call p50", "call p99"], |at, by_run| {
        let times = by_run[at].map_or([None; 6], |Latencies { driver_lag: lag, wait, service_time, .. }| {
            let [lag, wait, call] = [lag, wait, service_time].map(|part| [0.5, 0.99].map(|at| part.quantile(at)));
            [lag[0], lag[1], wait[0], wait[1], call[0], call[1]]
        });
        html! { @for nanos in times { td { (or_missing(nanos.map(format::time))) } } }
    })
}

/// The calls of a kind in a run, `None` if it has none.
fn of_kind<'a>(calls: &[(String, Latencies<'a>)], kind: &str) -> Option<Latencies<'a>> {
    calls.iter().find(|(name, _)| name == kind).map(|(_, call)| *call)
}

/// A table with a row for each kind and run. `cells` renders the cells of a run, given its index and the calls of
/// the kind in all runs.
fn table(
    calls: &[Vec<(String, Latencies<'_>)>],
    names: &[String],
    headings: &[&str],
    cells: impl Fn(usize, &[Option<Latencies<'_>>]) -> Markup,
) -> Markup {
    let header = html! { th { "Kind" } th {} @for heading in headings { th { (heading) } } };
    page::table(
        "kinds",
        &header,
        &html! {
            @for kind in kinds(calls) {
                @let by_run: Vec<_> = calls.iter().map(|calls| of_kind(calls, kind)).collect();
                tbody {
                    @for (at, name) in names.iter().enumerate() {
                        tr {
                            @if at == 0 { th scope="rowgroup" rowspan=(names.len()) { (breakable(kind)) } }
                            td { (key(at, name)) }
                            (cells(at, &by_run))
                        }
                    }
                }
            }
        },
    )
}

/// A name that may be broken between its words.
fn breakable(name: &str) -> Markup {
    html! {
        @for character in name.chars() {
            @if character.is_ascii_uppercase() { wbr; }
            (character)
            @if character == '_' { wbr; }
        }
    }
}

/// The labels of the percentile axis, a power of ten of `1 - quantile` each.
const PERCENTILES: [f64; 5] = [0.0, 0.9, 0.99, 0.999, 0.9999];

/// Draws the percentile curves of a kind.
pub fn curve(runs: &[RunRecord], query_type: Option<QueryType>) -> Markup {
    let position = |quantile: f64| -(1.0 - quantile).log10();
    let mut end: f64 = 1.0;
    let mut lines = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        let latency = match query_type {
            None => run.ingester.latency.clone(),
            Some(kind) => run.merged(kind, |query| &query.latency),
        };
        // The curve ends at the maximum, which is the last quantile that the samples support.
        let last = (latency.count().max(1) as f64).log10().min(position(PERCENTILES[4]));
        end = end.max(last);
        let positions: Vec<f64> = (0..=120).map(|step| last * f64::from(step) / 120.0).collect();
        let values = latency.curve(positions.iter().map(|position| 1.0 - 10f64.powf(-position)));
        let points =
            positions.into_iter().zip(values).map(|(position, nanos)| (position, Some(nanos as f64))).collect();
        lines.push(Line { series: Some(at), stroke: Stroke::Thick, points });
    }
    let quantiles = [0.5].into_iter().chain(PERCENTILES).filter(|quantile| position(*quantile) <= end);
    let labels = quantiles.map(|quantile| (position(quantile), percentile(quantile))).collect();
    page::lines(&LineChart {
        lines,
        marks: Vec::new(),
        from: 0.0,
        to: end,
        labels,
        axis: "percentile",
        scale: Scale::Logarithmic,
        value: &|nanos| format::label(&format::time(nanos.round() as u64)),
    })
}

/// Formats a quantile without trailing zeros: `p99.9`.
fn percentile(quantile: f64) -> String {
    if quantile <= 0.0 {
        return "min".to_owned();
    }
    let text = format!("{:.2}", quantile * 100.0);
    format!("p{}", text.trim_end_matches('0').trim_end_matches('.'))
}
