//! Line charts.

use std::ops::Range;

use maud::{Markup, html};

use super::scale::Axis;
use super::{FONT_SIZE, GRID, NEUTRAL, Scale, TEXT, colour, pixels};

/// Narrow, so that the labels are legible on the screen of a phone.
const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 264.0;
/// The edges of the plotting area. Above it are the names of the marks.
const LEFT: f64 = 70.0;
const RIGHT: f64 = WIDTH - 16.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = HEIGHT - 42.0;
/// The approximate width of a character of the names of the marks, in pixels.
const NAME_CHARACTER_WIDTH: f64 = 6.0;
/// The space to the right of the plotting area that a name may use.
const OVERHANG: f64 = 8.0;

/// The stroke of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stroke {
    /// For the main values of the chart.
    Thick,
    /// For values to compare them with.
    Thin,
}

/// A line.
#[derive(Debug, Clone)]
pub struct Line {
    /// The index of the run, which determines the colour; `None` for a neutral colour.
    pub series: Option<usize>,
    /// The stroke.
    pub stroke: Stroke,
    /// The points by ascending position. A point without a value interrupts the line.
    pub points: Vec<(f64, Option<f64>)>,
}

/// A vertical line that marks an event.
#[derive(Debug, Clone)]
pub struct Mark {
    /// The position on the horizontal axis.
    pub at: f64,
    /// The index of the run, which determines the colour; `None` for a neutral colour.
    pub series: Option<usize>,
    /// The label; may be empty.
    pub name: String,
}

/// A line chart.
pub struct LineChart<'a> {
    /// The lines.
    pub lines: Vec<Line>,
    /// The vertical lines.
    pub marks: Vec<Mark>,
    /// The start of the horizontal axis.
    pub from: f64,
    /// The end of the horizontal axis.
    pub to: f64,
    /// The labels of the horizontal axis with their positions.
    pub labels: Vec<(f64, String)>,
    /// The title of the horizontal axis.
    pub axis: &'a str,
    /// The scale of the vertical axis.
    pub scale: Scale,
    /// Formats a label of the vertical axis.
    pub value: &'a dyn Fn(f64) -> String,
}

/// Draws a line chart as SVG.
pub fn lines(chart: &LineChart<'_>) -> Markup {
    let values = chart.lines.iter().flat_map(|line| &line.points).filter_map(|(_, value)| *value);
    let axis = Axis::containing(chart.scale, values);
    let (from, to) = (chart.from, chart.to.max(chart.from + f64::EPSILON));
    let x = |at: f64| LEFT + (at - from) / (to - from) * (RIGHT - LEFT);
    let y = |position: f64| BOTTOM - axis.share(position) * (BOTTOM - TOP);
    let mut marks: Vec<_> = chart.marks.iter().filter(|mark| (from..=to).contains(&mark.at)).collect();
    marks.sort_by(|a, b| a.at.total_cmp(&b.at));
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } font-size=(FONT_SIZE) fill=(TEXT) {
            @for (at, label) in &chart.labels {
                (vertical(x(*at), GRID))
                text x=(pixels(x(*at))) y=(BOTTOM + 17.0) text-anchor="middle" { (label) }
            }
            @for &label in &axis.labels {
                @let at = y(label);
                line x1=(LEFT) x2=(RIGHT) y1=(pixels(at)) y2=(pixels(at)) stroke=(GRID) {}
                text x=(LEFT - 6.0) y=(pixels(at + 4.0)) text-anchor="end" { ((chart.value)(axis.value(label))) }
            }
            text x=((LEFT + RIGHT) / 2.0) y=(HEIGHT - 8.0) text-anchor="middle" { (chart.axis) }
            path d={ "M" (LEFT) " " (TOP) "V" (BOTTOM) "H" (RIGHT) } fill="none" stroke=(NEUTRAL) {}
            @for mark in &marks { (vertical(x(mark.at), mark.series.map_or(NEUTRAL, colour))) }
            @for (name, anchor, at) in names(&marks, x) {
                text x=(pixels(at)) y=(TOP - 4.0) text-anchor=(anchor) font-size=(FONT_SIZE - 1) { (name) }
            }
            @for line in &chart.lines {
                @for run in runs(&line.points) {
                    (path(line, &run.map(|(at, value)| [x(at), y(axis.position(value))]).collect::<Vec<_>>()))
                }
            }
        }
    }
}

fn vertical(x: f64, colour: &str) -> Markup {
    html! { line x1=(pixels(x)) x2=(pixels(x)) y1=(TOP) y2=(BOTTOM) stroke=(colour) {} }
}

/// A part of a line without missing values: a dot if it has one point.
fn path(line: &Line, points: &[[f64; 2]]) -> Markup {
    let colour = line.series.map_or(NEUTRAL, colour);
    let width = if line.stroke == Stroke::Thick { 2 } else { 1 };
    html! {
        @if let [[x, y]] = points {
            circle cx=(pixels(*x)) cy=(pixels(*y)) r="2" fill=(colour) {}
        } @else {
            polyline points=(points.iter().map(|[x, y]| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" "))
                fill="none" stroke=(colour) stroke-width=(width) {}
        }
    }
}

/// The names of marks in ascending order of their positions, each with the anchor of its text and the coordinate of the
/// anchor. A name that would overlap another is left out; those of marks that belong to no run come first.
fn names<'a>(marks: &[&'a Mark], x: impl Fn(f64) -> f64) -> Vec<(&'a str, &'static str, f64)> {
    let mut order: Vec<usize> = (0..marks.len()).filter(|&at| !marks[at].name.is_empty()).collect();
    order.sort_by_key(|&at| marks[at].series.is_some());
    let mut taken: Vec<Range<f64>> = Vec::new();
    let mut names = Vec::new();
    for at in order {
        let (name, start) = (marks[at].name.as_str(), x(marks[at].at));
        let width = NAME_CHARACTER_WIDTH * name.len() as f64;
        let meets_next = marks.get(at + 1).is_some_and(|next| x(next.at) - start < width);
        let (anchor, position, slot) = match (start + width > RIGHT + OVERHANG, meets_next) {
            (true, _) => ("end", RIGHT + OVERHANG, RIGHT - width..RIGHT),
            (_, true) => ("end", start + 2.0, start - width..start),
            _ => ("start", start - 2.0, start..start + width),
        };
        if taken.iter().all(|other| slot.end <= other.start || other.end <= slot.start) {
            taken.push(slot);
            names.push((name, anchor, position));
        }
    }
    names
}

/// Splits the points into runs without missing values.
fn runs(points: &[(f64, Option<f64>)]) -> impl Iterator<Item = impl Iterator<Item = (f64, f64)>> {
    points
        .split(|(_, value)| value.is_none())
        .filter(|run| !run.is_empty())
        .map(|run| run.iter().filter_map(|&(at, value)| Some((at, value?))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, Option<f64>)>, marks: Vec<Mark>) -> String {
        lines(&LineChart {
            lines: vec![Line { series: Some(0), stroke: Stroke::Thick, points }],
            marks,
            from: 0.0,
            to: 10.0,
            labels: [0, 5, 10].map(|at| (at.into(), format!("{at} s"))).into(),
            axis: "time",
            scale: Scale::Linear,
            value: &|value| format!("{value} calls"),
        })
        .into_string()
    }

    #[test]
    fn a_missing_value_interrupts_the_line() {
        let svg =
            chart(vec![(0.0, Some(1.0)), (1.0, Some(2.0)), (2.0, None), (3.0, Some(4.0)), (4.0, Some(4.0))], vec![]);
        assert_eq!(svg.matches("stroke=\"#0072b2\"").count(), 2, "{svg}");
        assert!(svg.contains("5 s") && svg.contains("4 calls") && svg.contains("time"), "{svg}");
        let lone = chart(vec![(0.0, None), (3.0, Some(4.0)), (4.0, None)], vec![]);
        assert_eq!(lone.matches("<circle").count(), 1, "{lone}");
    }

    #[test]
    fn marks_outside_the_axis_are_left_out() {
        let mark = |at, name: &str| Mark { at, series: None, name: name.to_owned() };
        let svg =
            chart(vec![(0.0, Some(1.0)), (10.0, Some(1.0))], vec![mark(3.0, "test & drain"), mark(11.0, "later")]);
        assert!(svg.contains("test &amp; drain") && !svg.contains("later"), "{svg}");
        assert!(chart(vec![], vec![]).starts_with("<svg"));
    }
}
