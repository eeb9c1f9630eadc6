//! The page of a report.

use std::fmt::Write;

use broadside::load::RunRecord;
use broadside::load::record::QueryType;

use super::{differences, latency, names, over_time, summary};
use crate::cli::page::{self, ChartError, Escaped};

/// The page of one or several runs.
pub fn page(runs: &[RunRecord]) -> Result<String, ChartError> {
    let names = names(runs);
    let mut html = String::new();
    summary::alerts(&mut html, runs, &names);
    html.push_str(&page::legend(names.iter().map(String::as_str)));
    summary::runs(&mut html, runs, &names);
    differences::section(&mut html, runs, &names);
    summary::objectives(&mut html, runs, &names);
    latency::tables(&mut html, runs, &names);
    charts(&mut html, runs, &names)?;
    summary::actions(&mut html, runs, &names);
    summary::errors(&mut html, runs, &names);
    Ok(page::page(&format!("Broadside: load on {}", names.join(", ")), &html))
}

/// How each kind of chart is read.
const GUIDE: &str = "\
<p class=\"note\"><strong>Latency by percentile</strong>: how long the slowest calls take. Each label to the right stands for ten \
times fewer calls: at p99.9 the line is at the time that one call in 1,000 exceeds. A flat line means that all calls take \
alike; a step means that something holds some of them up. The line ends at the slowest call measured.</p>
<p class=\"note\"><strong>Latency over time</strong>: the p99 of the calls that completed in each second, or the greatest latency where \
there were fewer than 100, and the median as the thin line. A stall is a gap, in which nothing completed, and then a \
peak as high as the stall was long.</p>
<p class=\"note\"><strong>Rate</strong>: what completed in each second; the grey line is what was due. A store that keeps up covers the \
grey line. Below it work piles up, above it work that was late is caught up with.</p>
<p class=\"note\"><strong>Backlog</strong>: what was due and had not completed at the end of each second. It must return to its level: one \
that rises to the end means that the store cannot sustain the rate, whatever the latencies so far.</p>
<p class=\"note\"><strong>Errors</strong>: the calls of all kinds that failed in each second.</p>
<p class=\"note\">The grey vertical lines are the phases (of the first run), the coloured ones the actions of a run. In long tests several \
seconds form one point: of latencies and backlog it is the greatest, of rates the mean, of errors the sum.</p>
";

fn charts(html: &mut String, runs: &[RunRecord], names: &[String]) -> Result<(), ChartError> {
    html.push_str("<h2 id=\"charts\">Over time and by percentile</h2>\n");
    html.push_str(GUIDE);
    for kind in kinds(runs) {
        let heading = kind.map_or_else(|| "Ingestion".to_owned(), |kind| kind.to_string());
        let _ = writeln!(html, "<h3>{}</h3>", Escaped(&heading));
        html.push_str(&page::legend(names.iter().map(String::as_str)));
        html.push_str("<div class=\"charts\">\n");
        let unit = if kind.is_none() { "queries" } else { "calls" };
        html.push_str(&page::figure(&format!("{heading}: latency by percentile"), &latency::curve(runs, kind)?));
        html.push_str(&page::figure(&format!("{heading}: latency over time"), &over_time::latency(runs, kind)?));
        html.push_str(&page::figure(&format!("{heading}: rate, {unit} a second"), &over_time::rate(runs, kind)?));
        html.push_str(&page::figure(&format!("{heading}: backlog, {unit}"), &over_time::backlog(runs, kind)?));
        if kind.is_none() {
            html.push_str(&page::figure("All calls: errors a second", &over_time::errors(runs)?));
        }
        html.push_str("</div>\n");
    }
    Ok(())
}

/// Ingestion, and every kind of read that a run has.
fn kinds(runs: &[RunRecord]) -> Vec<Option<QueryType>> {
    let mut reads: Vec<_> = runs.iter().flat_map(|run| &run.queries).map(|query| query.query_type).collect();
    reads.sort_unstable();
    reads.dedup();
    [None].into_iter().chain(reads.into_iter().map(Some)).collect()
}
