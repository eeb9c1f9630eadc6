//! Charts of the one-second series of runs.

use std::collections::BTreeMap;

use broadside::load::RunRecord;
use broadside::load::record::{ActivitySample, Phase, QueryType};
use broadside::measure::Interval;
use maud::Markup;

use crate::cli::format;
use crate::cli::page::{self, Line, LineChart, Mark, Scale, Stroke, round_step};

/// An event of the server: a counter that grew or a gauge that is not 0.
const EVENTS: [(&str, &[&str]); 3] =
    [("checkpoint", &["checkpoints"]), ("vacuum", &["vacuums", "runningVacuums"]), ("merge", &["runningMerges"])];
/// The maximum number of marks of an event. A more frequent one is shown by its chart.
const MAX_MARKS: usize = 20;

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

/// A line for each run in a chart over time.
pub(super) struct Curve<'a> {
    /// `false` for a line that is the same in all runs.
    pub coloured: bool,
    pub stroke: Stroke,
    pub points: &'a dyn Fn(&RunRecord) -> Vec<Point>,
    /// Combines the values of several seconds into one point.
    pub join: fn(&[f64]) -> f64,
}

impl Curve<'_> {
    fn line(&self, at: usize, run: &RunRecord) -> Line {
        let start = test_start(run);
        let points = (self.points)(run);
        let each = points.len().div_ceil(MAX_POINTS).max(1);
        let points = points.chunks(each).filter_map(|chunk| {
            let values: Vec<f64> = chunk.iter().filter_map(|(_, value)| *value).collect();
            Some((chunk.first()?.0 - start, (!values.is_empty()).then(|| (self.join)(&values))))
        });
        Line { series: self.coloured.then_some(at), stroke: self.stroke, points: points.collect() }
    }
}

/// Draws curves over time.
pub(super) fn draw(runs: &[RunRecord], scale: Scale, format_value: fn(f64) -> String, curves: &[Curve<'_>]) -> Markup {
    let of_run = |(at, run)| curves.iter().map(move |curve| curve.line(at, run));
    let lines: Vec<_> = runs.iter().enumerate().flat_map(of_run).collect();
    let positions = || lines.iter().flat_map(|line| &line.points).map(|(at, _)| *at);
    let (from, to) = (positions().fold(0.0, f64::min), positions().fold(1.0, f64::max) + 1.0);
    let step = time_step(to - from);
    let labels = ((from / step).ceil() as i64..=(to / step).floor() as i64).map(|at| at as f64 * step);
    page::lines(&LineChart {
        lines,
        marks: marks(runs),
        from,
        to,
        labels: labels.map(|at| (at, seconds(at))).collect(),
        axis: "since the start of the test",
        scale,
        value: &|value| format::label(&format_value(value)),
    })
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
        let events = events(run).into_iter();
        marks.extend(events.map(|(began, event)| Mark {
            at: began - test_start(run),
            series: Some(at),
            name: event.to_owned(),
        }));
    }
    marks
}

/// The events of a run with the start of the interval in which they began, in seconds from the start of the run.
fn events(run: &RunRecord) -> Vec<(f64, &'static str)> {
    let mut events = Vec::new();
    for (event, statistics) in EVENTS {
        let happens = |sample: &ActivitySample| {
            let values = statistics.iter().flat_map(|name| sample.counters.get(*name).or(sample.gauges.get(*name)));
            values.into_iter().any(|value| *value > 0)
        };
        let began = run.activity.windows(2).filter(|pair| happens(&pair[1]) && !happens(&pair[0]));
        let began: Vec<_> = began.map(|pair| (pair[0].at_nanos as f64 / 1e9, event)).collect();
        if began.len() <= MAX_MARKS {
            events.extend(began);
        }
    }
    events
}

pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

pub(super) fn greatest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// The points of a value of each second.
fn points(intervals: &[Interval], value: impl Fn(&Interval) -> Option<f64>) -> Vec<Point> {
    intervals.iter().map(|second| (second.second as f64, value(second))).collect()
}

fn as_float(nanos: Option<u64>) -> Option<f64> {
    nanos.map(|nanos| nanos as f64)
}

/// Draws the p99 of each second, and the median as a thin line.
pub fn latency(runs: &[RunRecord], query_type: Option<QueryType>) -> Markup {
    let median = |run: &RunRecord| points(intervals(run, query_type), |second| as_float(second.p50_nanos));
    let p99 = |run: &RunRecord| points(intervals(run, query_type), |second| as_float(second.p99_nanos));
    let curves = [
        Curve { coloured: true, stroke: Stroke::Thin, points: &median, join: mean },
        Curve { coloured: true, stroke: Stroke::Thick, points: &p99, join: greatest },
    ];
    draw(runs, Scale::Logarithmic, |nanos| format::time(nanos.round() as u64), &curves)
}

/// Draws the achieved rate, and the target rate as a thin line.
pub fn rate(runs: &[RunRecord], query_type: Option<QueryType>) -> Markup {
    let target = |run: &RunRecord| points(intervals(run, query_type), |second| Some(second.target));
    let achieved = |run: &RunRecord| points(intervals(run, query_type), |second| Some(second.achieved));
    let curves = [
        Curve { coloured: false, stroke: Stroke::Thin, points: &target, join: mean },
        Curve { coloured: true, stroke: Stroke::Thick, points: &achieved, join: mean },
    ];
    draw(runs, Scale::Linear, format::rate, &curves)
}

/// Draws the backlog at the end of each second.
pub fn backlog(runs: &[RunRecord], query_type: Option<QueryType>) -> Markup {
    let backlog = |run: &RunRecord| points(intervals(run, query_type), |second| Some(second.backlog as f64));
    let curve = Curve { coloured: true, stroke: Stroke::Thick, points: &backlog, join: greatest };
    draw(runs, Scale::Linear, format::count, &[curve])
}

/// Draws the errors of all kinds of calls.
pub fn errors(runs: &[RunRecord]) -> Markup {
    let errors = |run: &RunRecord| {
        let mut sums: BTreeMap<u64, u64> = BTreeMap::new();
        for interval in run.series.iter().flat_map(|series| &series.intervals) {
            *sums.entry(interval.second).or_default() += interval.errors;
        }
        sums.into_iter().map(|(second, errors)| (second as f64, Some(errors as f64))).collect()
    };
    let join = |values: &[f64]| values.iter().sum();
    draw(runs, Scale::Linear, format::count, &[Curve { coloured: true, stroke: Stroke::Thick, points: &errors, join }])
}
