//! Charts as SVG.

mod bars;
mod lines;
mod scale;

pub use bars::{BarRow, bars};
pub use lines::{Line, LineChart, Mark, Stroke, lines};
pub use scale::{Scale, round_step};

const FONT_SIZE: u32 = 13;
const GRID: &str = "#e4e7eb";
const TEXT: &str = "#40464e";
/// The colour of lines that belong to no run or backend.
const NEUTRAL: &str = "#8c959f";

/// The colours of the runs or backends, distinguishable with colour vision deficiencies.
const COLOURS: [&str; 6] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#787878"];

/// The colour of a run or backend.
pub fn colour(at: usize) -> &'static str {
    COLOURS[at % COLOURS.len()]
}

/// A coordinate in SVG, with a resolution of a tenth of a pixel.
fn pixels(coordinate: f64) -> String {
    format!("{coordinate:.1}")
}
