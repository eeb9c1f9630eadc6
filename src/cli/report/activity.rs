//! Charts of the activity of the server and of the load driver.

use broadside::load::RunRecord;
use maud::{Markup, html};

use super::over_time::{self, Curve, Point, greatest, mean};
use crate::cli::format;
use crate::cli::page::{Scale, Stroke, figure, legend};

/// A chart of statistics by name: a thick line and optionally a thin one. Counters are drawn per second.
struct Chart {
    title: &'static str,
    thick: &'static str,
    thin: Option<&'static str>,
    format_value: fn(f64) -> String,
}

const fn chart(title: &'static str, lines: (&'static str, Option<&'static str>), value: fn(f64) -> String) -> Chart {
    Chart { title, thick: lines.0, thin: lines.1, format_value: value }
}

const CHARTS: [Chart; 14] = [
    chart("Commits per second (thin: rollbacks)", ("commits", Some("rollbacks")), format::rate),
    chart("WAL, bytes per second", ("walBytes", None), bytes),
    chart(
        "Blocks read per second (thin: written by checkpoints)",
        ("blocksRead", Some("checkpointBlocks")),
        format::rate,
    ),
    chart("Temporary files, bytes per second", ("tempBytes", None), bytes),
    chart(
        "Sessions waiting for locks (thin: autovacuum workers)",
        ("lockWaits", Some("autovacuumWorkers")),
        format::count,
    ),
    chart("Dead rows", ("deadRows", None), format::count),
    chart("Rows inserted per second (thin: merged)", ("insertedRows", Some("mergedRows")), format::rate),
    chart("Rows selected per second", ("selectedRows", None), format::rate),
    chart("Parts", ("parts", None), format::count),
    chart("Running merges", ("runningMerges", None), format::count),
    chart("Files, bytes written per second (thin: read)", ("ioWriteBytes", Some("ioReadBytes")), bytes),
    chart("Memory of the server", ("memoryBytes", None), bytes),
    chart("Size of the store (thin: indexes)", ("storedBytes", Some("indexBytes")), bytes),
    chart("CPU of the driver, cores (thin: load generator)", ("driverCpuMicros", Some("generatorCpuMicros")), cores),
];

/// With decimal units, because the labels of an axis are decimal.
fn bytes(value: f64) -> String {
    format!("{}B", format::count(value))
}

fn cores(micros: f64) -> String {
    format::count(micros / 1e6)
}

/// The charts for which a run has values other than 0, and what is missing; empty if there are neither.
pub fn section(runs: &[RunRecord], names: &[String]) -> Markup {
    let has_values = |chart: &&Chart| {
        let lines = || [Some(chart.thick), chart.thin].into_iter().flatten();
        runs.iter().any(|run| lines().any(|name| points(run, name).iter().any(|point| point.1 > Some(0.0))))
    };
    let charts: Vec<_> = CHARTS.iter().filter(has_values).collect();
    if charts.is_empty() && runs.iter().all(|run| run.activity_problems.is_empty()) {
        return Markup::default();
    }
    html! {
        h3 #activity { "Server and load driver" }
        p.note {
            "The statistics of PostgreSQL's transactions, blocks and temporary files are those of the database, of \
             locks those that the user may see, of vacuums, dead rows, parts and merges those of the store, and the \
             others those of the whole server. A line is interrupted where the server did not answer within two \
             seconds."
        }
        @for (name, run) in names.iter().zip(runs) {
            @for problem in &run.activity_problems { p.note { (name) ": " (problem) "." } }
        }
        (legend(names))
        div.charts {
            @for chart in charts { (figure(chart.title, &draw(chart, runs))) }
        }
    }
}

fn draw(of: &Chart, runs: &[RunRecord]) -> Markup {
    let thick = |run: &RunRecord| points(run, of.thick);
    let thin = |run: &RunRecord| of.thin.map_or_else(Vec::new, |name| points(run, name));
    let curves = [
        Curve { coloured: true, stroke: Stroke::Thin, points: &thin, join: greatest },
        Curve { coloured: true, stroke: Stroke::Thick, points: &thick, join: mean },
    ];
    over_time::draw(runs, Scale::Linear, of.format_value, &curves)
}

/// The values of a statistic: those of a gauge, or the rates of a counter, at the start of the interval that they are
/// of. A sample without an answer of the server is a gap; the sizes are read less often.
fn points(run: &RunRecord, name: &str) -> Vec<Point> {
    let mut last = None;
    let mut points = Vec::new();
    for sample in &run.activity {
        let at = sample.at_nanos;
        if let Some(increment) = sample.counters.get(name) {
            if let Some(since) = last.replace(at) {
                points.push((since as f64 / 1e9, Some(*increment as f64 * 1e9 / (at - since).max(1) as f64)));
            }
        } else if let Some(value) = sample.gauges.get(name) {
            points.push((at as f64 / 1e9, Some(*value as f64)));
        } else if sample.gauges.is_empty() {
            points.push((at as f64 / 1e9, None));
        }
    }
    points
}
