//! Scales of axes and the positions of their labels.

use std::ops::Range;

/// The approximate maximum number of labels of an axis.
const LABELS: f64 = 5.0;

/// The mapping of values to positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Linear; the axis starts at 0.
    Linear,
    /// Logarithmic; values of 0 or less are drawn at the start of the axis.
    Logarithmic,
}

/// The range of an axis in positions, and the positions that have labels.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    scale: Scale,
    pub range: Range<f64>,
    pub labels: Vec<f64>,
}

impl Axis {
    /// The smallest axis that contains all values.
    pub fn containing(scale: Scale, values: impl Iterator<Item = f64> + Clone) -> Self {
        match scale {
            Scale::Linear => Self::linear(values.fold(0.0, f64::max)),
            Scale::Logarithmic => {
                let positive = values.filter(|value| *value > 0.0);
                Self::logarithmic(positive.clone().fold(f64::INFINITY, f64::min), positive.fold(0.0, f64::max))
            }
        }
    }

    /// An axis from 0 to the first label at or above the maximum.
    fn linear(most: f64) -> Self {
        let most = if most > 0.0 { most } else { 1.0 };
        let step = round_step(most / LABELS);
        let count = (most / step).ceil();
        Self { scale: Scale::Linear, range: 0.0..count * step, labels: steps(0.0, step, count) }
    }

    /// An axis between powers of ten; between 1, 2 or 5 times a power of ten if the range is at most two decades.
    fn logarithmic(least: f64, most: f64) -> Self {
        let (least, most) = if most > 0.0 { (least.log10(), most.log10()) } else { (0.0, 1.0) };
        let (low, high) = (least.floor(), most.ceil().max(least.floor() + 1.0));
        if high - low > 2.0 {
            let step = ((high - low) / LABELS).ceil();
            let labels = steps(low, step, ((high - low) / step).floor());
            return Self { scale: Scale::Logarithmic, range: low..high, labels };
        }
        let fine =
            steps(low, 1.0, high - low).into_iter().flat_map(|power| [1.0f64, 2.0, 5.0].map(|x| power + x.log10()));
        let from = fine.clone().filter(|label| *label <= least + 1e-9).fold(low, f64::max);
        let to = fine.clone().filter(|label| *label >= most - 1e-9 && *label > from).fold(high, f64::min);
        let labels = fine.filter(|label| (from - 1e-9..=to + 1e-9).contains(label)).collect();
        Self { scale: Scale::Logarithmic, range: from..to, labels }
    }

    /// The position of a value, clamped to the range of the axis.
    pub fn position(&self, value: f64) -> f64 {
        let position = match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic if value > 0.0 => value.log10(),
            Scale::Logarithmic => self.range.start,
        };
        position.clamp(self.range.start, self.range.end)
    }

    /// The distance of a position from the start of the axis, as a fraction of its length.
    pub fn share(&self, position: f64) -> f64 {
        (position - self.range.start) / (self.range.end - self.range.start)
    }

    /// The value at a position.
    pub fn value(&self, position: f64) -> f64 {
        match self.scale {
            Scale::Linear => position,
            Scale::Logarithmic => 10f64.powf(position),
        }
    }
}

/// Rounds up to 1, 2 or 5 times a power of ten.
pub fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= least * (1.0 - 1e-9)).unwrap_or(10.0);
    factor * power
}

fn steps(from: f64, step: f64, count: f64) -> Vec<f64> {
    (0..=count as u32).map(|at| from + f64::from(at) * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_axes_start_at_zero_and_have_round_labels() {
        let axis = Axis::containing(Scale::Linear, [3.0, 870.0].into_iter());
        assert_eq!((axis.range, axis.labels), (0.0..1000.0, vec![0.0, 200.0, 400.0, 600.0, 800.0, 1000.0]));
        assert_eq!(Axis::containing(Scale::Linear, [0.0].into_iter()).range, 0.0..1.0);
        assert_eq!(Axis::containing(Scale::Linear, std::iter::empty()).range, 0.0..1.0);
    }

    #[test]
    fn logarithmic_axes_contain_all_values() {
        for values in [vec![1500.0, 3e6], vec![1000.0], vec![1.0, 1e9], vec![], vec![0.0, 55.0], vec![120.0, 480.0]] {
            let axis = Axis::containing(Scale::Logarithmic, values.iter().copied());
            assert!(axis.range.start < axis.range.end && axis.labels.len() >= 2, "{values:?}: {axis:?}");
            for value in values.iter().filter(|value| **value > 0.0) {
                let back = axis.value(axis.position(*value));
                assert!((back / value - 1.0).abs() < 1e-9, "{values:?}: {value} is drawn at {back}");
            }
        }
    }
}
