//! The HTML document of a report.

use std::fmt::Write;

use broadside::load::RunRecord;
use broadside::load::record::QueryType;

use super::{differences, latency, names, over_time, summary};
use crate::cli::page::{self, ChartError, Escaped};

/// Renders the report of one or several runs.
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

/// Explanations of the charts.
const GUIDE: &str = "\
<p class=\"note\"><strong>Latency by percentile</strong>: the latency that a given fraction of the calls does not exceed. At p99.9, one \
call in 1,000 takes longer. A flat line means uniform latencies, a step means that some calls are delayed. The line ends at the \
slowest call.</p>
<p class=\"note\"><strong>Latency over time</strong>: the p99 of the calls that completed in each second, or their maximum if there are \
fewer than 100. The thin line is the median. A stall appears as a gap followed by a peak, whose height is the duration of the \
stall.</p>
<p class=\"note\"><strong>Rate</strong>: the calls that completed in each second. The grey line is the target rate. Where the rate is \
below the target, the backlog grows; where it is above, the backlog shrinks.</p>
<p class=\"note\"><strong>Backlog</strong>: the calls that were due and had not completed at the end of each second. A backlog that grows \
until the end of the test means that the store does not sustain the rate.</p>
<p class=\"note\"><strong>Errors</strong>: the failed calls of all kinds in each second.</p>
<p class=\"note\">Grey vertical lines mark the phases of the first run, coloured ones the actions of each run. In long tests a point \
stands for several seconds: the maximum of latencies and backlog, the mean of rates, the sum of errors.</p>
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
        html.push_str(&page::figure(&format!("{heading}: rate, {unit} per second"), &over_time::rate(runs, kind)?));
        html.push_str(&page::figure(&format!("{heading}: backlog, {unit}"), &over_time::backlog(runs, kind)?));
        if kind.is_none() {
            html.push_str(&page::figure("All calls: errors per second", &over_time::errors(runs)?));
        }
        html.push_str("</div>\n");
    }
    Ok(())
}

/// Ingestion (`None`), and each kind of read that occurs in a run.
fn kinds(runs: &[RunRecord]) -> Vec<Option<QueryType>> {
    let mut reads: Vec<_> = runs.iter().flat_map(|run| &run.queries).map(|query| query.query_type).collect();
    reads.sort_unstable();
    reads.dedup();
    [None].into_iter().chain(reads.into_iter().map(Some)).collect()
}
