//! Charts of the one-second series of runs.

use broadside::load::RunRecord;
use broadside::load::record::{Phase, QueryType};
use broadside::measure::Interval;
use maud::Markup;

use super::events;
use crate::cli::format;
use crate::cli::page::{self, Line, LineChart, Mark, Scale, Stroke, round_step};

/// The maximum number of points of a line. In longer series a point stands for several seconds.
const MAX_POINTS: usize = 300;

/// The intervals of a kind of read, or of ingestion (`None`); empty if the run has none.
fn intervals(run: &RunRecord, query_type: Option<QueryType>) -> &[Interval] {
    run.series.iter().find(|series| series.query_type == query_type).map_or(&[], |series| &series.intervals)
}

/// The start of the test phase, in seconds from the start of the run.
fn test_start(run: &RunRecord) -> f64 {
    run.phase(Phase::Test).map_or(0.0, |test| test.start_nanos as f64 / 1e9)
}

/// A time in seconds from the start of the run, and a value; `None` interrupts the line.
pub(super) type Point = (f64, Option<f64>);

/// A chart of a value over time.
pub(super) struct TimeChart<'a> {
    runs: &'a [RunRecord],
    scale: Scale,
    format_value: &'a dyn Fn(f64) -> String,
    lines: Vec<Line>,
}

impl<'a> TimeChart<'a> {
    pub(super) fn new(runs: &'a [RunRecord], scale: Scale, format_value: &'a dyn Fn(f64) -> String) -> Self {
        Self { runs, scale, format_value, lines: Vec::new() }
    }

    /// Adds a line of the run at an index. `join` combines the values of several seconds into one point.
    fn line(
        &mut self,
        at: usize,
        coloured: bool,
        stroke: Stroke,
        intervals: &[Interval],
        value: impl Fn(&Interval) -> Option<f64>,
        join: fn(&[f64]) -> f64,
    ) {
        let points: Vec<Point> = intervals.iter().map(|second| (second.second as f64, value(second))).collect();
        self.points(at, coloured, stroke, &points, join);
    }

    /// Adds a line of the run at an index from its points.
    pub(super) fn points(
        &mut self,
        at: usize,
        coloured: bool,
        stroke: Stroke,
        points: &[Point],
        join: fn(&[f64]) -> f64,
    ) {
        let start = test_start(&self.runs[at]);
        let each = points.len().div_ceil(MAX_POINTS).max(1);
        let points = points.chunks(each).filter_map(|chunk| {
            let values: Vec<f64> = chunk.iter().filter_map(|(_, value)| *value).collect();
            Some((chunk.first()?.0 - start, (!values.is_empty()).then(|| join(&values))))
        });
        let points = points.collect();
        self.lines.push(Line { series: coloured.then_some(at), stroke, points });
    }

    pub(super) fn draw(self) -> Markup {
        let positions = || self.lines.iter().flat_map(|line| &line.points).map(|(at, _)| *at);
        let (from, to) = (positions().fold(0.0, f64::min), positions().fold(1.0, f64::max) + 1.0);
        let step = time_step(to - from);
        let labels = ((from / step).ceil() as i64..=(to / step).floor() as i64).map(|at| at as f64 * step);
        page::lines(&LineChart {
            lines: self.lines,
            marks: marks(self.runs),
            from,
            to,
            labels: labels.map(|at| (at, seconds(at))).collect(),
            axis: "since the start of the test",
            scale: self.scale,
            value: self.format_value,
        })
    }
}

/// The distance between labels in seconds, a round number for about five labels.
fn time_step(range: f64) -> f64 {
    const ROUND: [f64; 10] = [60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0];
    let least = range / 5.0;
    if least <= 20.0 {
        return round_step(least);
    }
    if least <= 30.0 {
        return 30.0;
    }
    ROUND.into_iter().find(|step| *step >= least).unwrap_or_else(|| round_step(least / 3600.0) * 3600.0)
}

fn seconds(at: f64) -> String {
    match at.abs() {
        below if below < 120.0 => format!("{at:.0} s"),
        below if below < 7200.0 => format!("{:.0} min", at / 60.0),
        _ => format!("{:.1} h", at / 3600.0),
    }
}

/// The phases of the first run, and the actions of all runs and the events of their servers. Actions of the same time
/// have only one name.
fn marks(runs: &[RunRecord]) -> Vec<Mark> {
    let mut marks = Vec::new();
    let Some(first) = runs.first() else { return marks };
    let start = test_start(first);
    for phase in [Phase::WarmUp, Phase::Test, Phase::Drain] {
        if let Some(record) = first.phase(phase) {
            marks.push(Mark { at: record.start_nanos as f64 / 1e9 - start, series: None, name: phase.to_string() });
        }
    }
    for (at, run) in runs.iter().enumerate() {
        for action in &run.actions {
            let due = action.due_nanos as f64 / 1e9 - test_start(run);
            let again = marks.iter().any(|mark| (mark.at - due).abs() < 1e-3);
            let name = if again { String::new() } else { action.action.to_string() };
            marks.push(Mark { at: due, series: Some(at), name });
        }
        let events = events::events(run).into_iter();
        marks.extend(events.map(|(began, event)| Mark {
            at: began - test_start(run),
            series: Some(at),
            name: event.to_owned(),
        }));
    }
    marks
}

pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

pub(super) fn greatest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// Draws the p99 of each second, and the median as a thin line.
pub fn latency(runs: &[RunRecord], query_type: Option<QueryType>) -> Markup {
    let format_value = |nanos: f64| format::label(&format::time(nanos.round() as u64));
    let mut chart = TimeChart::new(runs, Scale::Logarithmic, &format_value);
    for (at, run) in runs.iter().enumerate() {
        let intervals = intervals(run, query_type);
        chart.line(at, true, Stroke::Thin, intervals, |second| second.p50_nanos.map(|nanos| nanos as f64), mean);
        chart.line(at, true, Stroke::Thick, intervals, |second| second.p99_nanos.map(|nanos| nanos as f64), greatest);
    }
    chart.draw()
}

/// Draws the achieved rate, and the target rate as a thin line.
pub fn rate(runs: &[RunRecord], query_type: Option<QueryType>) -> Markup {
    let mut chart = TimeChart::new(runs, Scale::Linear, &|rate| format::label(&format::rate(rate)));
    for (at, run) in runs.iter().enumerate() {
        let intervals = intervals(run, query_type);
        chart.line(at, false, Stroke::Thin, intervals, |second| Some(second.target), mean);
        chart.line(at, true, Stroke::Thick, intervals, |second| Some(second.achieved), mean);
    }
    chart.draw()
}

/// Draws the backlog at the end of each second.
pub fn backlog(runs: &[RunRecord], query_type: Option<QueryType>) -> Markup {
    let mut chart = TimeChart::new(runs, Scale::Linear, &|count| format::label(&format::count(count)));
    for (at, run) in runs.iter().enumerate() {
        let intervals = intervals(run, query_type);
        chart.line(at, true, Stroke::Thick, intervals, |second| Some(second.backlog as f64), greatest);
    }
    chart.draw()
}

/// Draws the errors of all kinds of calls.
pub fn errors(runs: &[RunRecord]) -> Markup {
    let mut chart = TimeChart::new(runs, Scale::Linear, &|count| format::label(&format::count(count)));
    for (at, run) in runs.iter().enumerate() {
        let mut sums: Vec<Interval> = intervals(run, None).to_vec();
        for series in run.series.iter().filter(|series| series.query_type.is_some()) {
            for interval in &series.intervals {
                match sums.binary_search_by_key(&interval.second, |sum| sum.second) {
                    Ok(index) => sums[index].errors += interval.errors,
                    Err(index) => sums.insert(index, interval.clone()),
                }
            }
        }
        let sum = |values: &[f64]| values.iter().sum();
        chart.line(at, true, Stroke::Thick, &sums, |second| Some(second.errors as f64), sum);
    }
    chart.draw()
}
