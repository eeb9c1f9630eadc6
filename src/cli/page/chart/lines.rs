//! Line charts.

use std::ops::Range;

use maud::{Markup, PreEscaped};
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::scale::Axis;
use super::{ChartError, FONT, GRID, NEUTRAL, Scale, TEXT, colour};

/// Narrow, so that the labels are legible on the screen of a phone.
const WIDTH: u32 = 440;
const HEIGHT: u32 = 264;
const FONT_SIZE: u32 = 13;
const MARGIN: u32 = 8;
const VALUE_WIDTH: u32 = 62;
const AXIS_HEIGHT: u32 = 40;
/// The height of the names of the marks, above the plotting area.
const MARK_HEIGHT: u32 = 18;
/// The approximate width of a character of these names, in pixels.
const NAME_CHARACTER_WIDTH: i32 = 6;

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
    /// The positions of the labels of the horizontal axis.
    pub labels: Vec<f64>,
    /// Formats a label of the horizontal axis.
    pub label: &'a dyn Fn(f64) -> String,
    /// The title of the horizontal axis.
    pub axis: &'a str,
    /// The scale of the vertical axis.
    pub scale: Scale,
    /// Formats a label of the vertical axis.
    pub value: &'a dyn Fn(f64) -> String,
}

/// A coordinate with labels at given positions, which the coordinates of plotters do not support.
struct LabelledAxis {
    range: Range<f64>,
    labels: Vec<f64>,
}

impl Ranged for LabelledAxis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        from + (f64::from(to - from) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.labels.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

/// Draws a line chart as SVG.
pub fn lines(chart: &LineChart<'_>) -> Result<Markup, ChartError> {
    let values = chart.lines.iter().flat_map(|line| &line.points).filter_map(|(_, value)| *value);
    let axis = Axis::containing(chart.scale, values);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
        let (from, to) = (chart.from, chart.to.max(chart.from + f64::EPSILON));
        let mut context = ChartBuilder::on(&area)
            .margin(MARGIN)
            .margin_top(MARGIN + MARK_HEIGHT)
            .margin_right(2 * MARGIN)
            .y_label_area_size(VALUE_WIDTH)
            .x_label_area_size(AXIS_HEIGHT)
            .build_cartesian_2d(
                LabelledAxis { range: from..to, labels: chart.labels.clone() },
                LabelledAxis { range: axis.range.clone(), labels: axis.labels.clone() },
            )?;
        context
            .configure_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(NEUTRAL)
            .label_style((FONT, FONT_SIZE).into_font().color(&TEXT))
            .x_label_formatter(&|at| (chart.label)(*at))
            .y_label_formatter(&|position| (chart.value)(axis.value(*position)))
            .x_desc(chart.axis)
            .draw()?;
        let (bottom, top) = (axis.range.start, axis.range.end);
        let mut marks: Vec<_> = chart.marks.iter().filter(|mark| (from..=to).contains(&mark.at)).collect();
        marks.sort_by(|a, b| a.at.total_cmp(&b.at));
        for mark in &marks {
            let colour = mark.series.map_or(NEUTRAL, colour);
            context.draw_series([PathElement::new([(mark.at, bottom), (mark.at, top)], colour.stroke_width(1))])?;
        }
        // Drawn on the whole drawing area: the names are above the plotting area, within its width.
        let positions: Vec<_> = marks.iter().map(|mark| context.backend_coord(&(mark.at, top))).collect();
        let right = context.backend_coord(&(to, top)).0;
        for (name, side, x) in names(&marks, &positions, right) {
            let style = (FONT, FONT_SIZE - 1).into_font().color(&TEXT).pos(Pos::new(side, VPos::Bottom));
            area.draw(&Text::new(name, (x, positions[0].1 - 4), style))?;
        }
        for line in &chart.lines {
            let style = ShapeStyle::from(line.series.map_or(NEUTRAL, colour)).stroke_width(match line.stroke {
                Stroke::Thick => 2,
                Stroke::Thin => 1,
            });
            for run in runs(&line.points) {
                let points: Vec<_> = run.map(|(at, value)| (at, axis.position(value))).collect();
                match points.as_slice() {
                    [point] => drop(context.draw_series([Circle::new(*point, 2, style.filled())])?),
                    _ => drop(context.draw_series([PathElement::new(points, style)])?),
                }
            }
        }
        area.present()?;
    }
    // Plotters escapes the texts.
    Ok(PreEscaped(svg))
}

/// The names of marks in ascending order of their positions, each with the side of its text that is at a horizontal
/// position. A name that would overlap another is left out; those of marks that belong to no run come first.
fn names<'a>(marks: &[&'a Mark], positions: &[(i32, i32)], right: i32) -> Vec<(&'a str, HPos, i32)> {
    let mut order: Vec<usize> = (0..marks.len()).filter(|&at| !marks[at].name.is_empty()).collect();
    order.sort_by_key(|&at| marks[at].series.is_some());
    let mut taken: Vec<Range<i32>> = Vec::new();
    let mut names = Vec::new();
    for at in order {
        let (name, x) = (marks[at].name.as_str(), positions[at].0);
        let width = NAME_CHARACTER_WIDTH * name.len() as i32;
        let meets_next = positions.get(at + 1).is_some_and(|next| next.0 - x < width);
        let (side, x, place) = match (x + width > right + MARGIN as i32, meets_next) {
            (true, _) => (HPos::Right, right + MARGIN as i32, right - width..right),
            (_, true) => (HPos::Right, x + 2, x - width..x),
            _ => (HPos::Left, x - 2, x..x + width),
        };
        if taken.iter().all(|other| place.end <= other.start || other.end <= place.start) {
            taken.push(place);
            names.push((name, side, x));
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
            labels: vec![0.0, 5.0, 10.0],
            label: &|at| format!("{at} s"),
            axis: "time",
            scale: Scale::Linear,
            value: &|value| format!("{value} calls"),
        })
        .unwrap()
        .into_string()
    }

    #[test]
    fn a_missing_value_interrupts_the_line() {
        let svg =
            chart(vec![(0.0, Some(1.0)), (1.0, Some(2.0)), (2.0, None), (3.0, Some(4.0)), (4.0, Some(4.0))], vec![]);
        assert_eq!(svg.matches("stroke=\"#0072B2\"").count(), 2, "{svg}");
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
        assert!(!chart(vec![], vec![]).is_empty());
    }
}
