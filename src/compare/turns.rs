//! The turns of the targets of a comparison, and the times in them.

use std::time::Duration;

/// The number of consecutive executions of an operation in the turn of a target. During the first ones, the caches of
/// the processor contain the data of other targets; with one execution per turn, all times would be those of a store
/// that is idle in between.
pub(super) const RUNS_PER_TURN: usize = 10;

/// The order of the targets in a round. The first one rotates, so that interference and the contents of the caches
/// affect all targets alike.
pub(super) fn turns(targets: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..targets).map(move |turn| (round + turn) % targets)
}

/// The measurements of an operation on a target, turn by turn.
#[derive(Debug, Default)]
pub(super) struct Samples {
    /// The nanoseconds of the executions in each round; empty in a round without a turn.
    pub(super) turns: Vec<Vec<u64>>,
    pub(super) total: Duration,
    /// The rows of all executions.
    pub(super) rows: usize,
    /// The maximum number of rows of an execution.
    pub(super) max_rows: usize,
}

impl Samples {
    /// Adds an execution.
    pub(super) fn add(&mut self, round: usize, time: Duration, rows: usize) {
        if self.turns.len() <= round {
            self.turns.resize_with(round + 1, Vec::new);
        }
        // At least 1, because the resolution of the clock may be coarser.
        self.turns[round].push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1));
        self.total += time;
        self.rows += rows;
        self.max_rows = self.max_rows.max(rows);
    }

    /// The nanoseconds of all executions.
    pub(super) fn times(&self) -> Vec<u64> {
        self.turns.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_runs_once_in_a_round_and_begins_equally_often() {
        let order = |round| turns(3, round).collect::<Vec<_>>();
        assert_eq!([order(0), order(1), order(2), order(3)], [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
        assert_eq!(turns(0, 5).count(), 0);
    }
}
