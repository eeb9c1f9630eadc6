//! The properties of the operators.

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, Partitioning};
use datafusion::physical_plan::PlanProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};

use crate::memory::cost::SCAN_PARTITION_ROWS;

/// The properties of a scan. It yields to the executor.
pub(super) fn of_scan(schema: SchemaRef, partitions: usize, ordering: Option<LexOrdering>) -> PlanProperties {
    let mut equivalences = EquivalenceProperties::new(schema);
    equivalences.add_orderings(ordering);
    let partitioning = Partitioning::UnknownPartitioning(partitions);
    PlanProperties::new(equivalences, partitioning, EmissionType::Incremental, Boundedness::Bounded)
        .with_scheduling_type(SchedulingType::Cooperative)
}

/// The number of partitions of a scan of some rows.
pub(super) fn partitions_of(rows: usize, target: usize) -> usize {
    (rows / SCAN_PARTITION_ROWS).clamp(1, target.max(1))
}

/// The chunks of a partition, out of `chunks`. They are spread over the table, because a predicate on a time often
/// selects adjacent chunks.
pub(super) fn part_of(chunks: usize, partition: usize, partitions: usize) -> impl Iterator<Item = usize> {
    (partition..chunks).step_by(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_has_a_partition_for_enough_rows_and_at_most_the_target() {
        let rows = SCAN_PARTITION_ROWS;
        assert_eq!([0, rows, 2 * rows - 1, 2 * rows, 9 * rows].map(|rows| partitions_of(rows, 4)), [1, 1, 1, 2, 4]);
        assert_eq!(partitions_of(9 * rows, 0), 1);
    }

    #[test]
    fn each_chunk_is_in_one_partition() {
        for partitions in 1..12 {
            let mut chunks: Vec<_> = (0..partitions).flat_map(|at| part_of(10, at, partitions)).collect();
            chunks.sort_unstable();
            assert!(chunks.into_iter().eq(0..10));
        }
    }
}
