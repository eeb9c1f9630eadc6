//! Bar charts.

use maud::{Markup, PreEscaped};
use plotters::coord::ranged1d::SegmentValue;
use plotters::prelude::*;

use super::{ChartError, FONT, GRID, NEUTRAL, TEXT, colour};

const WIDTH: u32 = 1000;
const NAME_WIDTH: u32 = 400;
const BAR_HEIGHT: u32 = 11;
/// The space between two rows.
const ROW_GAP: u32 = 6;
const AXIS_HEIGHT: u32 = 40;
const MARGIN: u32 = 12;
const FONT_SIZE: u32 = 13;

/// A row of a bar chart: a name, and a value for each backend, `None` for no bar.
pub struct BarRow<'a> {
    pub name: &'a str,
    pub values: Vec<Option<f64>>,
}

/// Draws a bar chart as SVG, with a bar for each row and backend. The scale is logarithmic, because the
/// values differ by orders of magnitude and are compared by their ratios.
pub fn bars(rows: &[BarRow<'_>], format: impl Fn(f64) -> String) -> Result<Markup, ChartError> {
    let backends = rows.iter().map(|row| row.values.len()).max().unwrap_or_default() as u32;
    let row_height = backends * BAR_HEIGHT + ROW_GAP;
    let height = rows.len().max(2) as u32 * row_height + AXIS_HEIGHT + 2 * MARGIN;
    let (least, most) = scale(rows);
    // The axis needs two segments, so a single row gets an empty one above it.
    let last = rows.len().saturating_sub(1).max(1);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(MARGIN)
            .margin_right(4 * MARGIN)
            .y_label_area_size(NAME_WIDTH)
            .x_label_area_size(AXIS_HEIGHT)
            .build_cartesian_2d((least..most).log_scale(), (0..last).into_segmented())?;
        // The axis runs upwards, and the first row is at the top.
        let from_top = |at: usize| rows.len() - 1 - at;
        let name = |segment: &SegmentValue<usize>| match segment {
            SegmentValue::CenterOf(at) if *at < rows.len() => rows[from_top(*at)].name.to_owned(),
            _ => String::new(),
        };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(NEUTRAL)
            .label_style((FONT, FONT_SIZE).into_font().color(&TEXT))
            // With 0 labels the search of plotters for a step between labels does not terminate.
            .y_labels(rows.len().max(1))
            .y_label_formatter(&name)
            .x_label_formatter(&|value| format(*value))
            .draw()?;
        for (at, row) in rows.iter().enumerate() {
            let (start, end) = (SegmentValue::Exact(from_top(at)), SegmentValue::Exact(from_top(at) + 1));
            for (backend, value) in row.values.iter().enumerate() {
                let Some(value) = value else { continue };
                let above = ROW_GAP / 2 + backend as u32 * BAR_HEIGHT;
                let below = row_height - above - BAR_HEIGHT;
                let mut bar = Rectangle::new([(least, start.clone()), (*value, end.clone())], colour(backend).filled());
                bar.set_margin(above, below, 0, 0);
                chart.draw_series([bar])?;
            }
        }
        area.present()?;
    }
    // Plotters escapes the texts.
    Ok(PreEscaped(svg))
}

/// The range of the axis: the powers of ten around the values.
fn scale(rows: &[BarRow<'_>]) -> (f64, f64) {
    let values = || rows.iter().flat_map(|row| &row.values).flatten().copied().filter(|value| *value > 0.0);
    let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    if most == 0.0 {
        return (1.0, 10.0);
    }
    let (least, most) = (10f64.powf(least.log10().floor()), 10f64.powf(most.log10().ceil()));
    (least, most.max(least * 10.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, values: impl Into<Vec<Option<f64>>>) -> BarRow<'_> {
        BarRow { name, values: values.into() }
    }

    #[test]
    fn a_chart_has_the_names_and_a_bar_for_each_value() {
        let rows = [row("one", [Some(1500.0), Some(3e6)]), row("two & three", [Some(20.0), None])];
        let svg = bars(&rows, |value| format!("{value} ns")).unwrap().into_string();
        for backend in 0..2 {
            let RGBColor(red, green, blue) = colour(backend);
            let bars = svg.matches(&format!("fill=\"#{red:02X}{green:02X}{blue:02X}\"")).count();
            assert_eq!(bars, 2 - backend, "{svg}");
        }
        assert!(svg.contains("\none\n") && svg.contains("two &amp; three") && svg.contains("1000 ns"), "{svg}");
    }

    #[test]
    fn the_scale_contains_all_values() {
        assert_eq!(scale(&[row("a", [Some(1500.0), Some(3e6), None])]), (1e3, 1e7));
        assert_eq!(scale(&[row("a", [Some(1000.0)])]), (1e3, 1e4));
        assert_eq!(scale(&[row("a", [None])]), (1.0, 10.0));
        assert_eq!(scale(&[]), (1.0, 10.0));
        assert!(bars(&[], |value| value.to_string()).is_ok());
    }
}
