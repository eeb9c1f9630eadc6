//! The aggregates of groups, summed up batch by batch in a dense array.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{TimestampMicrosecondType, TimestampSecondType, UInt8Type, UInt32Type};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::internal_err;
use datafusion::error::Result as EngineResult;

use crate::memory::storage::{GroupTotals, Partial};
use crate::time::divide_half_away;

/// Up to how many groups are counted in lanes: the entries of more would leave the nearest cache.
const GROUPS_IN_LANES: usize = 256;
/// Neighbouring rows are often of one group, and adding to an entry waits until the addition
/// before it is stored. So a few groups have several entries each, which rows take in turn.
const LANE_BITS: u32 = 2;

/// The aggregates of all groups.
#[derive(Debug)]
pub(in crate::memory) struct Totals {
    /// By group.
    groups: Vec<GroupTotals>,
    /// The entries that a batch is added to: `1 << lane_bits` of them a group. Empty between batches.
    entries: Vec<GroupTotals>,
    lane_bits: u32,
    /// The groups of the batch, by row, and each once; kept for their capacity.
    of_rows: Vec<u32>,
    touched: Vec<u32>,
    is_touched: Vec<bool>,
}

impl Totals {
    /// Totals of no rows, of groups below `groups`.
    pub(in crate::memory) fn new(groups: usize) -> Self {
        let lane_bits = if groups <= GROUPS_IN_LANES { LANE_BITS } else { 0 };
        Self {
            groups: vec![GroupTotals::EMPTY; groups],
            entries: vec![GroupTotals::EMPTY; groups << lane_bits],
            lane_bits,
            of_rows: Vec::new(),
            touched: Vec::new(),
            is_touched: vec![false; groups],
        }
    }

    /// Adds the rows of a batch, whose columns are a code (or a state's ordinal), the state, the
    /// submission and the last transition time in whole seconds; gives the aggregates of the batch.
    pub(in crate::memory) fn add(&mut self, batch: &RecordBatch) -> EngineResult<Partial> {
        let [keys, states, submitted, transitions] = batch.columns() else {
            return internal_err!("a batch to aggregate has four columns");
        };
        self.set_groups(keys)?;
        let states = states.as_primitive::<UInt8Type>().values();
        let submitted = submitted.as_primitive::<TimestampMicrosecondType>().values();
        let transitions = transitions.as_primitive::<TimestampSecondType>().values();
        let (bits, mask) = (self.lane_bits, (1 << self.lane_bits) - 1);
        let rows = (0u32..).zip(&self.of_rows).zip(states).zip(submitted).zip(transitions);
        for ((((at, &group), &state), &submitted), &transition) in rows {
            let entry = &mut self.entries[(group << bits | at & mask) as usize];
            entry.states[usize::from(state)] += 1;
            entry.transition_sum += transition;
            // That a value replaces the one before is rare, so a branch costs less than storing one each time.
            if submitted < entry.submitted {
                entry.submitted = submitted;
            }
            if transition < entry.earliest_transition {
                entry.earliest_transition = transition;
            }
            if transition > entry.latest_transition {
                entry.latest_transition = transition;
            }
        }
        let partial = self.take_touched();
        self.merge(&partial);
        Ok(partial)
    }

    /// Adds the aggregates of rows that were added up before.
    pub(in crate::memory) fn merge(&mut self, partial: &[(u32, GroupTotals)]) {
        for (group, totals) in partial {
            self.groups[*group as usize].merge(totals);
        }
    }

    /// The aggregates of a group.
    pub(in crate::memory) fn group(&self, group: u32) -> &GroupTotals {
        &self.groups[group as usize]
    }

    fn set_groups(&mut self, keys: &ArrayRef) -> EngineResult<()> {
        self.of_rows.clear();
        if let Some(states) = keys.as_primitive_opt::<UInt8Type>() {
            self.of_rows.extend(states.values().iter().map(|&state| u32::from(state)));
            return Ok(());
        }
        let Some(codes) = keys.as_primitive_opt::<UInt32Type>() else {
            return internal_err!("groups are by codes or states, not by {}", keys.data_type());
        };
        match codes.nulls() {
            None => self.of_rows.extend(codes.values().iter().map(|code| code + 1)),
            Some(nulls) => {
                let group = |(&code, valid): (&u32, bool)| if valid { code + 1 } else { 0 };
                self.of_rows.extend(codes.values().iter().zip(nulls).map(group));
            }
        }
        Ok(())
    }

    /// The aggregates of the groups of a batch, by group; empties their entries.
    fn take_touched(&mut self) -> Partial {
        for &group in &self.of_rows {
            if !std::mem::replace(&mut self.is_touched[group as usize], true) {
                self.touched.push(group);
            }
        }
        let lanes = 1 << self.lane_bits;
        let (entries, is_touched) = (&mut self.entries, &mut self.is_touched);
        let take = |group: u32| {
            is_touched[group as usize] = false;
            let first = (group as usize) * lanes;
            let mut totals = GroupTotals::EMPTY;
            for entry in &mut entries[first..first + lanes] {
                totals.merge(entry);
                *entry = GroupTotals::EMPTY;
            }
            (group, totals)
        };
        self.touched.drain(..).map(take).collect()
    }
}

/// `sum / count`, rounded half away from zero.
pub(in crate::memory) fn rounded(sum: i64, count: i64) -> i64 {
    divide_half_away(sum.into(), count.max(1).into()) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_round_half_away_from_zero() {
        assert_eq!(rounded(5, 2), 3);
        assert_eq!(rounded(-5, 2), -3);
        assert_eq!(rounded(7, 3), 2);
        assert_eq!(rounded(8, 3), 3);
        assert_eq!(rounded(-7, 3), -2);
        assert_eq!(rounded(-8, 3), -3);
        assert_eq!(rounded(0, 1), 0);
    }
}
