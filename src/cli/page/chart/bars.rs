//! Bar charts.

use plotters::coord::ranged1d::SegmentValue;
use plotters::prelude::*;

use super::{ChartError, FONT, GRID, NEUTRAL, TEXT, colour};

const WIDTH: u32 = 1000;
const NAME_WIDTH: u32 = 400;
const BAR_HEIGHT: u32 = 11;
/// Between the bars of one row and those of the next.
const ROW_GAP: u32 = 6;
const AXIS_HEIGHT: u32 = 40;
const MARGIN: u32 = 12;
const FONT_SIZE: u32 = 13;

/// A row of bars: a name, and a value for each backend that has one.
pub struct Bar<'a> {
    pub name: &'a str,
    pub values: Vec<Option<f64>>,
}

/// Bars for each row, one a backend, on a logarithmic scale: what counts is how many times as
/// long, and times lie orders of magnitude apart.
pub fn bars(rows: &[Bar<'_>], shown: impl Fn(f64) -> String) -> Result<String, ChartError> {
    let backends = rows.iter().map(|row| row.values.len()).max().unwrap_or_default() as u32;
    let row_height = backends * BAR_HEIGHT + ROW_GAP;
    let height = rows.len().max(2) as u32 * row_height + AXIS_HEIGHT + 2 * MARGIN;
    let (least, most) = scale(rows);
    // A single row has an empty one above it: the axis cannot be but a point.
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
        // The first row comes at the top, which is where the axis ends.
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
            // With no label allowed the crate looks for a step between them for ever.
            .y_labels(rows.len().max(1))
            .y_label_formatter(&name)
            .x_label_formatter(&|value| shown(*value))
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
    Ok(svg)
}

/// From the power of ten below the least value to that above the greatest.
fn scale(rows: &[Bar<'_>]) -> (f64, f64) {
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

    fn row(name: &str, values: impl Into<Vec<Option<f64>>>) -> Bar<'_> {
        Bar { name, values: values.into() }
    }

    #[test]
    fn a_chart_has_a_bar_for_each_value_and_the_names() {
        let rows = [row("one", [Some(1500.0), Some(3e6)]), row("two & three", [Some(20.0), None])];
        let svg = bars(&rows, |value| format!("{value} ns")).unwrap();
        for backend in 0..2 {
            let RGBColor(red, green, blue) = colour(backend);
            let bars = svg.matches(&format!("fill=\"#{red:02X}{green:02X}{blue:02X}\"")).count();
            assert_eq!(bars, 2 - backend, "{svg}");
        }
        assert!(svg.contains("\none\n") && svg.contains("two &amp; three") && svg.contains("1000 ns"), "{svg}");
    }

    #[test]
    fn the_scale_holds_every_value() {
        assert_eq!(scale(&[row("a", [Some(1500.0), Some(3e6), None])]), (1e3, 1e7));
        assert_eq!(scale(&[row("a", [Some(1000.0)])]), (1e3, 1e4));
        assert_eq!(scale(&[row("a", [None])]), (1.0, 10.0));
        assert_eq!(scale(&[]), (1.0, 10.0));
        assert!(bars(&[], |value| value.to_string()).is_ok());
    }
}
