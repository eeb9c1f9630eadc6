//! The turns of the targets of a comparison.

/// The number of consecutive executions of an operation in the turn of a target. During the first ones, the caches of
/// the processor contain the data of other targets; with one execution per turn, all times would be those of a store
/// that is idle in between.
pub(super) const RUNS_PER_TURN: usize = 10;

/// The order of the targets in a round. The first one rotates, so that interference and the contents of the caches
/// affect all targets alike.
pub(super) fn turns(targets: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..targets).map(move |turn| (round + turn) % targets)
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
