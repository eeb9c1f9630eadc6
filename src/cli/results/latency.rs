//! Latencies by kind of call: the table with the ratios, and the percentile curves.

use std::fmt::Write;

use broadside::load::RunRecord;
use broadside::load::record::QueryType;
use broadside::measure::LatencyHistogram;

use super::summary::or_missing;
use crate::cli::format;
use crate::cli::page::{self, ChartError, Escaped, Line, LineChart, Scale, Stroke, Swatch, missing};

/// The measurements of a kind of call in one run.
#[derive(Clone, Copy)]
struct Call<'a> {
    latency: &'a LatencyHistogram,
    service_time: &'a LatencyHistogram,
    /// The wait of a batch's queries in the backlog, or of a read for a slot.
    wait: &'a LatencyHistogram,
    failed: u64,
    not_found: u64,
}

/// The kinds of calls of a run with their names, batches first.
fn calls(run: &RunRecord) -> Vec<(String, Call<'_>)> {
    let ingester = &run.ingester;
    let batches = Call {
        latency: &ingester.latency,
        service_time: &ingester.service_time,
        wait: &ingester.backlog_wait,
        failed: ingester.batches_failed,
        not_found: 0,
    };
    let reads = run.queries.iter().map(|query| {
        let call = Call {
            latency: &query.latency,
            service_time: &query.service_time,
            wait: &query.slot_wait,
            failed: query.failed,
            not_found: query.not_found,
        };
        (query.name(), call)
    });
    [("batch".to_owned(), batches)].into_iter().chain(reads).collect()
}

/// The distinct names of the kinds, in the order of their first occurrence.
fn kinds<'a>(calls: &'a [Vec<(String, Call<'_>)>]) -> Vec<&'a str> {
    let mut kinds: Vec<&str> = Vec::new();
    for (name, _) in calls.iter().flatten() {
        if !kinds.contains(&name.as_str()) {
            kinds.push(name);
        }
    }
    kinds
}

/// Writes the table of latencies by kind, with ratios to the first run, and the table of their components.
pub fn tables(html: &mut String, runs: &[RunRecord], names: &[String]) {
    let calls: Vec<_> = runs.iter().map(calls).collect();
    html.push_str(
        "<h2 id=\"latencies\">Latencies by kind</h2>\n\
         <p class=\"note\">Latency is the time from the due time of a call to its completion, including waits. The table covers \
         the test phase. <em>n</em> is the number of calls; p95 requires 20 calls, p99 requires 100. \
         ≥ marks a lower bound: a call that had not completed at the end counts with the time until then. \
         ÷ is the ratio to the first run; a ratio below 1 means lower latency.</p>\n",
    );
    let headings = ["n", "p50", "p95", "p99", "max", "failed", "not found"];
    let ratios: &[&str] = if runs.len() > 1 { &["p50 ÷", "p99 ÷"] } else { &[] };
    rows(html, &calls, names, &[&headings, ratios].concat(), |html, at, by_run| {
        latency_cells(html, &by_run[at]);
        for quantile in [0.5, 0.99].into_iter().take(ratios.len()) {
            let time = |call: &Option<Call<'_>>| call.as_ref()?.latency.quantile(quantile).map(|nanos| nanos as f64);
            let ratio = time(&by_run[at]).zip(time(&by_run[0])).filter(|_| at > 0);
            let _ = write!(html, "<td>{}</td>", or_missing(ratio.map(|(this, first)| format::ratio(this / first))));
        }
    });
    html.push_str(
        "<h3 id=\"parts\">Components of the latency</h3>\n\
         <p class=\"note\">The wait (of a batch's queries in the backlog, or of a read for one of the slots that limit \
         concurrent reads) and the service time of the call. If the wait dominates, the store does not sustain the rate at this \
         concurrency; if the service time dominates, the calls themselves are slow.</p>\n",
    );
    rows(html, &calls, names, &["wait p50", "wait p99", "call p50", "call p99"], |html, at, by_run| {
        let histograms = by_run[at].as_ref().map(|call| [call.wait, call.service_time]);
        for component in 0..2 {
            for quantile in [0.5, 0.99] {
                let nanos = histograms.and_then(|histograms| histograms[component].quantile(quantile));
                let _ = write!(html, "<td>{}</td>", or_missing(nanos.map(format::time)));
            }
        }
    });
}

/// Writes a table with a row for each kind and run. `cells` writes the cells of a run, given its index and the
/// calls of the kind in all runs.
fn rows(
    html: &mut String,
    calls: &[Vec<(String, Call<'_>)>],
    names: &[String],
    headings: &[&str],
    cells: impl Fn(&mut String, usize, &[Option<Call<'_>>]),
) {
    html.push_str("<div class=\"wide\">\n<table class=\"kinds\">\n<thead><tr><th>Kind</th><th></th>");
    for heading in headings {
        let _ = write!(html, "<th>{heading}</th>");
    }
    html.push_str("</tr></thead>\n");
    for kind in kinds(calls) {
        let by_run: Vec<Option<Call<'_>>> =
            calls.iter().map(|calls| calls.iter().find(|(name, _)| name == kind).map(|(_, call)| *call)).collect();
        html.push_str("<tbody>\n");
        for (at, name) in names.iter().enumerate() {
            html.push_str("<tr>");
            if at == 0 {
                let _ = write!(html, "<th scope=\"rowgroup\" rowspan=\"{}\">{}</th>", names.len(), breakable(kind));
            }
            let _ = write!(html, "<td>{}{}</td>", Swatch(at), Escaped(name));
            cells(html, at, &by_run);
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody>\n");
    }
    html.push_str("</table>\n</div>\n");
}

/// Escapes a name and allows line breaks between its words.
fn breakable(name: &str) -> String {
    let mut html = String::new();
    for character in name.chars() {
        if character.is_ascii_uppercase() {
            html.push_str("<wbr>");
        }
        let _ = write!(html, "{}", Escaped(character));
        if character == '_' {
            html.push_str("<wbr>");
        }
    }
    html
}

fn latency_cells(html: &mut String, call: &Option<Call<'_>>) {
    let Some(Call { latency, failed, not_found, .. }) = call else {
        (0..7).for_each(|_| html.push_str("<td>–</td>"));
        return;
    };
    let time = |nanos: Option<u64>| match nanos {
        Some(nanos) if latency.is_lower_bound(nanos) => format!("≥ {}", format::time(nanos)),
        Some(nanos) => format::time(nanos),
        None => missing(),
    };
    let _ = write!(html, "<td>{}</td>", format::whole(latency.count()));
    for nanos in [latency.quantile(0.5), latency.quantile(0.95), latency.quantile(0.99), latency.max_nanos()] {
        let _ = write!(html, "<td>{}</td>", time(nanos));
    }
    let class = if *failed > 0 { " class=\"bad\"" } else { "" };
    let _ = write!(html, "<td{class}>{}</td><td>{}</td>", format::whole(*failed), format::whole(*not_found));
}

/// The latencies of a kind of read with all filters, or of batches (`None`).
fn merged(run: &RunRecord, query_type: Option<QueryType>) -> LatencyHistogram {
    let Some(query_type) = query_type else { return run.ingester.latency.clone() };
    let mut merged = LatencyHistogram::default();
    let of_type = run.queries.iter().filter(|query| query.query_type == query_type);
    of_type.for_each(|query| merged.merge(&query.latency));
    merged
}

/// The labels of the percentile axis, a power of ten of `1 - quantile` each.
const PERCENTILES: [f64; 5] = [0.0, 0.9, 0.99, 0.999, 0.9999];

/// Draws the percentile curves of a kind.
pub fn curve(runs: &[RunRecord], query_type: Option<QueryType>) -> Result<String, ChartError> {
    let position = |quantile: f64| -(1.0 - quantile).log10();
    let mut end: f64 = 1.0;
    let mut lines = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        let latency = merged(run, query_type);
        // The curve ends at the maximum, which is the last quantile that the samples support.
        let last = (latency.count().max(1) as f64).log10().min(position(PERCENTILES[4]));
        end = end.max(last);
        let positions: Vec<f64> = (0..=120).map(|step| last * f64::from(step) / 120.0).collect();
        let values = latency.curve(positions.iter().map(|position| 1.0 - 10f64.powf(-position)));
        let points =
            positions.into_iter().zip(values).map(|(position, nanos)| (position, Some(nanos as f64))).collect();
        lines.push(Line { series: Some(at), stroke: Stroke::Thick, points });
    }
    page::lines(&LineChart {
        lines,
        marks: Vec::new(),
        from: 0.0,
        to: end,
        labels: [0.5].into_iter().chain(PERCENTILES).map(position).filter(|at| *at <= end).collect(),
        label: &|at| percentile(1.0 - 10f64.powf(-at)),
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
