//! The summary of a run on standard output.

use std::fmt;
use std::path::PathBuf;

use broadside::load::RunRecord;
use broadside::measure::LatencyHistogram;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};

use crate::cli::format;

/// The summary of a run: a table of the calls, actions, census, objectives and files.
pub struct Summary<'a> {
    pub record: &'a RunRecord,
    pub files: &'a [PathBuf],
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.record;
        writeln!(f, "{}", self.table())?;
        let ingester = &record.ingester;
        writeln!(f, "ingestion queries stored: {}", ingester.queries_executed)?;
        if ingester.jobs_dropped + ingester.jobs_rejected > 0 {
            writeln!(f, "jobs shed: {} dropped, {} rejected", ingester.jobs_dropped, ingester.jobs_rejected)?;
        }
        for action in &record.actions {
            let end = action.end_nanos.map_or_else(
                || "not completed".to_owned(),
                |end| format!("{} jobs in {}", action.jobs, format::time(end.saturating_sub(action.due_nanos))),
            );
            let error = action.error.as_deref().map_or_else(String::new, |error| format!(": {error}"));
            writeln!(f, "{} {} / {}: {end}{error}", action.action, action.queue, action.job_set)?;
        }
        match &record.census {
            Some(census) => writeln!(
                f,
                "census: {} jobs counted, {} compared field by field, {} differences",
                census.jobs,
                census.sampled,
                census.differences.len()
            )?,
            None => writeln!(f, "census: skipped, because the outcome of some batches is unknown")?,
        }
        for objective in &record.objectives {
            let measured = objective.measured.as_deref().unwrap_or("too few samples");
            let result = if objective.held { "met" } else { "missed" };
            writeln!(f, "objective {}: {result}, {measured}", objective.objective)?;
        }
        self.search(f)?;
        if record.partial {
            writeln!(f, "PARTIAL: the run was interrupted")?;
        }
        for reason in &record.invalid {
            writeln!(f, "INVALID: {reason}")?;
        }
        for (index, file) in self.files.iter().enumerate() {
            let end = if index + 1 < self.files.len() { "\n" } else { "" };
            write!(f, "{}{end}", file.display())?;
        }
        Ok(())
    }
}

impl Summary<'_> {
    fn search(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(search) = &self.record.rate_search else { return Ok(()) };
        match search.highest {
            Some(rate) => {
                writeln!(f, "highest rate: {rate:.1} submissions per second ({} trials)", search.trials.len())?
            }
            None => writeln!(f, "highest rate: none ({} trials)", search.trials.len())?,
        }
        match search.first_violation() {
            Some(trial) => writeln!(f, "first violation, at {:.1}: {}", trial.rate, trial.broke.join("; ")),
            None => Ok(()),
        }
    }

    fn table(&self) -> Table {
        let record = self.record;
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED);
        let right = |text: &str| Cell::new(text).set_alignment(CellAlignment::Right);
        let title = format!("{}, seed {}", record.store.backend, record.seed);
        let headings = ["calls", "failed", "not found", "p50", "p95", "p99", "max"].map(right);
        table.set_header(std::iter::once(Cell::new(title)).chain(headings));
        let ingester = &record.ingester;
        table.add_row(row("batches".to_owned(), &ingester.latency, [ingester.batches_failed, 0]));
        for query in &record.queries {
            let name = format!("{} {}", query.query_type, query.filter_combo);
            table.add_row(row(name, &query.latency, [query.failed, query.not_found]));
        }
        table
    }
}

fn row(name: String, latency: &LatencyHistogram, counts: [u64; 2]) -> Vec<Cell> {
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let time = |nanos: Option<u64>| {
        let at_least = |nanos| if latency.is_lower_bound(nanos) { "≥ " } else { "" };
        nanos.map_or_else(|| "–".to_owned(), |nanos| format!("{}{}", at_least(nanos), format::time(nanos)))
    };
    let times = [latency.quantile(0.5), latency.quantile(0.95), latency.quantile(0.99), latency.max_nanos()];
    let counts = std::iter::once(latency.count()).chain(counts).map(|count| right(count.to_string()));
    std::iter::once(Cell::new(name)).chain(counts).chain(times.map(|nanos| right(time(nanos)))).collect()
}
