//! The summary of a run on standard output.

use std::fmt;
use std::path::Path;

use broadside::load::RunRecord;
use broadside::measure::LatencyHistogram;
use comfy_table::Table;

use crate::cli::format;
use crate::cli::table::{or_missing, table};

/// The summary of a run: a table of the calls, actions, census, objectives and files.
pub struct Summary<'a> {
    pub record: &'a RunRecord,
    pub files: &'a [&'a Path],
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.record;
        writeln!(f, "{}", self.table())?;
        let ingester = &record.ingester;
        writeln!(f, "ingestion queries stored: {}", ingester.queries_executed)?;
        self.rates(f)?;
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
            None if record.failures.is_empty() => {
                writeln!(f, "census: skipped, because the outcome of some batches is unknown")?;
            }
            None => writeln!(f, "census: none, because of an error")?,
        }
        for objective in &record.objectives {
            let result = if objective.held { "met" } else { "missed" };
            writeln!(f, "objective {}: {result}, {objective}", objective.objective)?;
        }
        self.search(f)?;
        if record.partial {
            writeln!(f, "PARTIAL: the run was interrupted")?;
        }
        for reason in &record.invalid {
            writeln!(f, "INVALID: {reason}")?;
        }
        for reason in record.unsustained.iter().chain(&record.aborted) {
            writeln!(f, "NOT SUSTAINED: {reason}")?;
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
        for (number, trial) in search.trials.iter().enumerate() {
            let purpose = if trial.confirms { ", confirmation" } else { "" };
            let (number, achieved) = (number + 1, format::rate(trial.achieved));
            writeln!(f, "trial {number} at {:.1}{purpose}: {achieved} achieved, {trial}", trial.rate)?;
        }
        writeln!(f, "highest rate: {} ({} trials)", format::highest_rate(search), search.trials.len())?;
        search.inconclusive.iter().try_for_each(|reason| writeln!(f, "INCONCLUSIVE: {reason}"))
    }

    fn table(&self) -> Table {
        let record = self.record;
        let share = record.share.as_ref().map_or_else(String::new, |share| format!(", share {}", share.share));
        let title = format!("{}, seed {}{share}", record.store.backend, record.seed);
        let header =
            [title.as_str(), "calls", "failed", "not found", "p50", "p95", "p99", "p99.9", "max"].map(str::to_owned);
        let ingester = &record.ingester;
        let counts = [ingester.latency.count(), ingester.batches_failed, 0];
        let events = row("events".to_owned(), &ingester.latency, &ingester.driver_lag, counts);
        let reads = record.queries.iter().map(|query| {
            let name = format!("{} {}", query.query_type, query.filter_combo);
            let counts = [query.latency.count(), query.failed, query.not_found];
            row(name, &query.latency, &query.driver_lag, counts)
        });
        table(1, header.into(), [events].into_iter().chain(reads))
    }

    /// The rates and the parts of the latencies.
    fn rates(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rates in self.record.rates() {
            let name = rates.query_type.map_or_else(|| "ingestion queries".to_owned(), |kind| kind.to_string());
            writeln!(f, "{name}: {} of {} due", format::rate(rates.achieved), format::rate(rates.due))?;
        }
        let ingester = &self.record.ingester;
        let parts =
            [&ingester.driver_lag, &ingester.backlog_wait, &ingester.service_time].map(|part| part.quantile(0.5));
        if let [Some(lag), Some(wait), Some(call)] = parts.map(|nanos| nanos.map(format::time)) {
            writeln!(f, "parts of an event's latency, p50: lag of the driver {lag}, wait {wait}, call {call}")?;
        }
        Ok(())
    }
}

fn row(name: String, latency: &LatencyHistogram, lag: &LatencyHistogram, counts: [u64; 3]) -> Vec<String> {
    let times = [0.5, 0.95, 0.99, 0.999, 1.0].map(|quantile| format::latency(latency, lag, quantile));
    let times = times.map(|time| or_missing(time, |time| time));
    [name].into_iter().chain(counts.map(|count| count.to_string())).chain(times).collect()
}
