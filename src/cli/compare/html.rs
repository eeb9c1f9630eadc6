//! The HTML report of a comparison.

use std::fmt::Write;

use broadside::compare::{Measurement, OperationGroup, OperationResult, Results};

use crate::cli::format;
use crate::cli::page::{self, BarRow, ChartError, Escaped, Swatch, missing};

const GROUPS: [(OperationGroup, &str); 4] = [
    (OperationGroup::Ingestion, "Ingestion"),
    (OperationGroup::Pages, "Pages of jobs"),
    (OperationGroup::Groups, "Groups of jobs"),
    (OperationGroup::Records, "Single records"),
];

/// Renders the report as one HTML document without external references.
pub fn page(results: &Results) -> Result<String, ChartError> {
    let mut html = String::new();
    let title = format!("Broadside: {} jobs on {}", results.settings.workload.jobs, names(results).join(", "));
    settings(&mut html, results);
    backends(&mut html, results);
    for (group, heading) in GROUPS {
        chart_of(&mut html, results, group, heading)?;
    }
    times(&mut html, results);
    Ok(page::page(&title, &html))
}

fn names(results: &Results) -> Vec<&str> {
    results.backends.iter().map(|backend| backend.name.as_str()).collect()
}

fn settings(html: &mut String, results: &Results) {
    let workload = &results.settings.workload;
    let machine = &results.machine;
    let cores = machine.cores.map(|cores| format!("{cores} cores"));
    let memory = machine.memory_bytes.map(format::bytes);
    let parts = [Some(machine.system.clone()), machine.processor.clone(), cores, memory];
    let machine = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let _ = writeln!(
        html,
        "<p>Broadside {version}, {taken}, on {machine}. {jobs} jobs, seed {seed}, layout {layout:?}; at most {samples} \
         executions of each query. The results of all backends are equal, except for the order of ties.</p>",
        version = Escaped(&results.broadside),
        taken = results.taken,
        machine = Escaped(&machine),
        jobs = workload.jobs,
        seed = workload.seed,
        layout = workload.layout,
        samples = results.settings.samples,
    );
}

fn backends(html: &mut String, results: &Results) {
    html.push_str("<div class=\"wide\">\n<table>\n<thead><tr><th>Backend</th><th>Version</th><th>Stored</th><th>Bytes per job</th></tr></thead>\n<tbody>\n");
    for (at, backend) in results.backends.iter().enumerate() {
        let _ = writeln!(
            html,
            "<tr><td>{key}{name}</td><td>{version}</td><td>{bytes}</td><td>{per_job}</td></tr>",
            key = Swatch(at),
            name = Escaped(&backend.name),
            version = Escaped(backend.version.as_deref().unwrap_or("–")),
            bytes = backend.bytes.map_or_else(missing, format::bytes),
            per_job = backend.bytes_per_job.map_or_else(missing, |bytes| format!("{bytes:.0}")),
        );
    }
    html.push_str("</tbody>\n</table>\n</div>\n");
}

fn chart_of(html: &mut String, results: &Results, group: OperationGroup, heading: &str) -> Result<(), ChartError> {
    let median = |measured: &Option<Measurement>| measured.as_ref().map(|measured| measured.times.p50_nanos as f64);
    let rows: Vec<_> = of_group(results, group)
        .map(|operation| BarRow { name: &operation.name, values: operation.measurements.iter().map(median).collect() })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let _ = writeln!(
        html,
        "<h2>{heading}</h2>\n<p class=\"note\">Median time per call, on a logarithmic scale. Shorter bars are faster.</p>"
    );
    html.push_str(&page::legend(names(results)));
    let svg = page::bars(&rows, |nanos| format::time(nanos as u64))?;
    let _ = writeln!(html, "<div class=\"wide\">\n{svg}</div>");
    Ok(())
}

fn of_group(results: &Results, group: OperationGroup) -> impl Iterator<Item = &OperationResult> {
    results.operations.iter().filter(move |operation| operation.group == group)
}

fn times(html: &mut String, results: &Results) {
    html.push_str(
        "<h2>All times</h2>\n<p class=\"note\"><em>n</em> is the number of executions. p95 requires 20 of them, p99 requires 100. \
         The executions are interleaved: each query runs on all backends before the next query.</p>\n<div class=\"wide\">\n<table>\n<thead><tr><th>Operation</th><th>Rows</th>");
    for (at, backend) in results.backends.iter().enumerate() {
        let _ =
            write!(html, "<th>{}{}<br>n</th><th>p50</th><th>p95</th><th>p99</th>", Swatch(at), Escaped(&backend.name));
        if at > 0 {
            let _ = write!(html, "<th>÷ {}</th>", Escaped(&results.backends[0].name));
        }
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for (group, heading) in GROUPS {
        let columns = 1 + 5 * results.backends.len();
        let _ = writeln!(html, "<tr class=\"group\"><td colspan=\"{columns}\">{heading}</td></tr>");
        of_group(results, group).for_each(|operation| times_of(html, operation));
    }
    html.push_str("</tbody>\n</table>\n</div>\n");
}

fn times_of(html: &mut String, operation: &OperationResult) {
    let rows = operation.measurements.iter().flatten().filter_map(|measured| measured.rows).max();
    let rows = rows.map_or_else(String::new, |rows| rows.to_string());
    let _ = write!(html, "<tr><td>{}</td><td>{rows}</td>", Escaped(&operation.name));
    for (at, measured) in operation.measurements.iter().enumerate() {
        let runs = measured.as_ref().map_or_else(missing, |measured| format::whole(measured.runs));
        let _ = write!(html, "<td>{runs}</td>");
        let times = measured.as_ref().map(|measured| measured.times);
        let times = times.map_or([None; 3], |times| [Some(times.p50_nanos), times.p95_nanos, times.p99_nanos]);
        for time in times {
            let _ = write!(html, "<td>{}</td>", time.map_or_else(missing, format::time));
        }
        if at > 0 {
            let _ = write!(html, "<td>{}</td>", operation.ratio(at).map_or_else(missing, format::ratio));
        }
    }
    html.push_str("</tr>\n");
    let rates = operation.measurements.iter().map(|measured| measured.as_ref()?.rows_per_second);
    if rates.clone().flatten().next().is_some() {
        rates_of(html, rates);
    }
}

fn rates_of(html: &mut String, rates: impl Iterator<Item = Option<f64>>) {
    html.push_str("<tr><td class=\"note\">&emsp;queries per second</td><td></td>");
    for (at, rate) in rates.enumerate() {
        let columns = if at == 0 { 4 } else { 5 };
        let _ = write!(html, "<td colspan=\"{columns}\">{}</td>", rate.map_or_else(missing, format::rate));
    }
    html.push_str("</tr>\n");
}
