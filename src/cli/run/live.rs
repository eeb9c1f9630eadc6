//! The progress display of a run: updated in place on a terminal, otherwise a line every 10 s.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::{Duration, Instant};

use broadside::Progress;
use broadside::load::record::{Phase, QueryType, SecondRecord, SeriesRecord};
use broadside::load::{LoadConfig, Observer, RunRecord, Snapshot};
use indicatif::ProgressBar;
use parking_lot::Mutex;

use super::files::Files;
use crate::cli::{format, messages, progress};

/// The interval between lines if standard error is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Displays the progress of a run on standard error, and appends its measurements to the record file.
pub struct LiveProgress {
    warm_up: Duration,
    /// The display on a terminal; `None` if standard error is not one.
    bar: Option<ProgressBar>,
    state: Mutex<State>,
    files: Arc<Files>,
}

struct State {
    phase: Phase,
    /// The current run of a search.
    trial: Option<String>,
    /// The duration of warm-up and test, which is longer for a run that confirms a search.
    length: Duration,
    last_line: Instant,
}

impl LiveProgress {
    pub fn new(config: &LoadConfig, files: Arc<Files>) -> Self {
        let bar = io::stderr().is_terminal().then(progress::lines);
        Self {
            warm_up: config.warmup_duration,
            bar,
            state: Mutex::new(State {
                phase: Phase::Setup,
                trial: None,
                length: config.warmup_duration + config.test_duration,
                last_line: Instant::now(),
            }),
            files,
        }
    }

    /// Removes the lines from the terminal.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Updates the terminal, or writes a line if the interval has elapsed.
    fn show(&self, lines: &[String]) {
        if let Some(bar) = &self.bar {
            bar.set_message(lines.join("\n  "));
            bar.tick();
            return;
        }
        let mut state = self.state.lock();
        if state.last_line.elapsed() >= LINE_INTERVAL {
            state.last_line = Instant::now();
            messages::note(lines.join("; "));
        }
    }
}

impl Observer for LiveProgress {
    fn started(&self, record: &RunRecord) {
        let load = record.phases.iter().filter(|phase| matches!(phase.phase, Phase::WarmUp | Phase::Test));
        self.state.lock().length = load.map(|phase| Duration::from_nanos(phase.end_nanos - phase.start_nanos)).sum();
        self.files.begin(record);
    }

    fn measured(&self, second: &SecondRecord) {
        self.files.append_second(second);
    }

    fn phase(&self, phase: Phase) {
        self.state.lock().phase = phase;
        match &self.bar {
            Some(bar) => {
                bar.set_message(phase.to_string());
                bar.tick();
            }
            None => messages::note(phase),
        }
    }

    fn trial(&self, number: usize, rate: f64, confirms: bool) {
        let purpose = if confirms { ", which confirms the result" } else { "" };
        let trial = format!("trial {number} at {rate:.1} submissions per second{purpose}");
        match &self.bar {
            Some(bar) => bar.println(&trial),
            None => messages::note(&trial),
        }
        self.state.lock().trial = Some(trial);
    }

    fn population(&self, progress: Progress) {
        self.show(&[format!("{}: {} of {}", Phase::Historical, progress.done, progress.total)]);
    }

    fn second(&self, snapshot: &Snapshot) {
        for error in &snapshot.new_errors {
            let call = error.query_type.map_or_else(|| "a batch".to_owned(), |kind| kind.to_string());
            messages::warning(format!("{call} failed: {}", error.error));
        }
        let (phase, trial, length) = {
            let mut state = self.state.lock();
            if state.phase == Phase::WarmUp && snapshot.elapsed > self.warm_up {
                state.phase = Phase::Test;
            }
            (state.phase, state.trial.clone(), state.length)
        };
        let mut lines = Vec::from_iter(trial);
        lines.push(format!("{phase}: {} of {} s", snapshot.elapsed.as_secs(), length.as_secs()));
        let ingestion = snapshot.series.iter().find(|series| series.query_type.is_none());
        if let Some(interval) = ingestion.and_then(|series| series.intervals.last()) {
            lines.push(format!(
                "ingestion {} of {}, backlog {}, {} active jobs",
                format::rate(interval.achieved),
                format::rate(interval.target),
                interval.backlog,
                snapshot.active_jobs
            ));
        }
        lines.extend(snapshot.series.iter().filter_map(latencies));
        if snapshot.errors + snapshot.shed > 0 {
            lines.push(format!("{} errors, {} jobs shed", snapshot.errors, snapshot.shed));
        }
        self.show(&lines);
    }
}

/// The line of a kind of call; `None` if no call completed in the last second.
fn latencies(series: &SeriesRecord) -> Option<String> {
    let name = match series.query_type {
        None => "events",
        Some(QueryType::GetJobs) => "pages",
        Some(QueryType::GetJobGroups) => "groups",
        Some(QueryType::GetJobSpec) => "specs",
        Some(QueryType::GetJobRunError) => "run errors",
        Some(QueryType::GetJobRunDebugMessage) => "debug messages",
    };
    let interval = series.intervals.last()?;
    let (p50, p99) = (format::time(interval.p50_nanos?), format::time(interval.p99_nanos?));
    let rate = series.query_type.map_or_else(String::new, |_| format!(" {}", format::rate(interval.achieved)));
    Some(format!("{name}{rate} p50 {p50} p99 {p99}"))
}
