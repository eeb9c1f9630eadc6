//! Charts as SVG.

mod bars;
mod lines;
mod scale;

use plotters::prelude::*;

pub use bars::{BarRow, bars};
pub use lines::{Line, LineChart, Mark, Stroke, lines};
pub use scale::{Scale, round_step};

const FONT: &str = "sans-serif";
const GRID: RGBColor = RGBColor(228, 231, 235);
const TEXT: RGBColor = RGBColor(64, 70, 78);
/// The colour of lines that belong to no run or backend.
const NEUTRAL: RGBColor = RGBColor(140, 149, 159);

/// The colours of the runs or backends, distinguishable with colour vision deficiencies.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(120, 120, 120),
];

fn colour(at: usize) -> RGBColor {
    COLOURS[at % COLOURS.len()]
}

/// The colour of a run or backend as a CSS value.
pub fn css_colour(at: usize) -> String {
    let RGBColor(red, green, blue) = colour(at);
    format!("rgb({red},{green},{blue})")
}

/// A chart that could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw a chart: {0}")]
pub struct ChartError(String);

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for ChartError {
    fn from(error: DrawingAreaErrorKind<E>) -> Self {
        Self(error.to_string())
    }
}
