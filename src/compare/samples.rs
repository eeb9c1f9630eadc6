//! The times of an operation on a target.

use std::time::Duration;

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
