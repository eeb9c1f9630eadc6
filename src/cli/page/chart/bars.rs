//! Bar charts.

use maud::{Markup, html};

use super::scale::Axis;
use super::{FONT_SIZE, GRID, Scale, TEXT, colour, pixels};

const WIDTH: usize = 1000;
const NAME_WIDTH: usize = 400;
/// The width of the bars. The rest is half of the last label.
const BARS_WIDTH: usize = WIDTH - NAME_WIDTH - 40;
const BAR_HEIGHT: usize = 11;
/// The space between two rows.
const ROW_GAP: usize = 6;
const AXIS_HEIGHT: usize = 24;

/// A row of a bar chart: a name, and a value for each backend, `None` for no bar.
pub struct BarRow<'a> {
    pub name: &'a str,
    pub values: Vec<Option<f64>>,
}

/// Draws a bar chart as SVG, with a bar for each row and backend. The scale is logarithmic, because the
/// values differ by orders of magnitude and are compared by their ratios.
pub fn bars(rows: &[BarRow<'_>], format: impl Fn(f64) -> String) -> Markup {
    let backends = rows.iter().map(|row| row.values.len()).max().unwrap_or_default();
    let row_height = backends * BAR_HEIGHT + ROW_GAP;
    let bottom = rows.len() * row_height;
    let axis = Axis::containing(Scale::Logarithmic, rows.iter().flat_map(|row| &row.values).flatten().copied());
    let length = |position: f64| axis.share(position) * BARS_WIDTH as f64;
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (bottom + AXIS_HEIGHT) } font-size=(FONT_SIZE) fill=(TEXT) {
            @for &label in &axis.labels {
                @let x = pixels(NAME_WIDTH as f64 + length(label));
                line x1=(x) x2=(x) y1="0" y2=(bottom) stroke=(GRID) {}
                text x=(x) y=(bottom + AXIS_HEIGHT - ROW_GAP) text-anchor="middle" { (format(axis.value(label))) }
            }
            @for (at, row) in rows.iter().enumerate() {
                @let top = at * row_height + ROW_GAP / 2;
                text x=(NAME_WIDTH - ROW_GAP) y=(top + (backends * BAR_HEIGHT + FONT_SIZE as usize) / 2 - 2)
                    text-anchor="end" { (row.name) }
                @for (backend, value) in row.values.iter().enumerate() {
                    @if let Some(value) = value {
                        rect x=(NAME_WIDTH) y=(top + backend * BAR_HEIGHT) height=(BAR_HEIGHT)
                            width=(pixels(length(axis.position(*value)))) fill=(colour(backend)) {}
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_the_names_and_a_bar_for_each_value() {
        let one = BarRow { name: "one", values: vec![Some(1500.0), Some(3e6)] };
        let two = BarRow { name: "two & three", values: vec![Some(20.0), None] };
        let svg = bars(&[one, two], |value| format!("{value} ns")).into_string();
        for backend in 0..2 {
            let bars = svg.matches(&format!("fill=\"{}\"", colour(backend))).count();
            assert_eq!(bars, 2 - backend, "{svg}");
        }
        assert!(svg.contains(">one<") && svg.contains("two &amp; three") && svg.contains("1000 ns"), "{svg}");
    }

    #[test]
    fn the_longest_bar_is_within_the_axis() {
        let row = |values: Vec<_>| BarRow { name: "a", values };
        let width = format!("width=\"{BARS_WIDTH}.0\"");
        assert!(bars(&[row(vec![Some(10.0), Some(1e6)])], |value| value.to_string()).into_string().contains(&width));
        assert!(!bars(&[row(vec![None])], |value| value.to_string()).into_string().contains("rect"));
        assert!(bars(&[], |value| value.to_string()).into_string().starts_with("<svg"));
    }
}
