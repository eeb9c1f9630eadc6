//! The accumulators of groups, in arrays indexed by group or, for groups that far exceed the rows, by slot.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{TimestampMicrosecondType, TimestampSecondType, UInt8Type, UInt32Type};
use datafusion::common::internal_err;
use datafusion::error::Result as EngineResult;
use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::memory::cost::{REPLICA_BITS, REPLICATED_GROUPS};
use crate::memory::storage::GroupAccumulator;
use crate::time::divide_half_away;

/// The accumulators of all groups.
#[derive(Debug)]
pub(in crate::memory) struct GroupAccumulators {
    /// `1 << replica_bits` accumulators per slot.
    entries: Vec<GroupAccumulator>,
    replica_bits: u32,
    /// A bitmap of the slots that have rows.
    touched: Vec<u64>,
    /// The slot of each group that has rows; `None` if the slot of a group is the group.
    slots: Option<Slots>,
    /// The slot of each row; kept to reuse its allocation.
    of_rows: Vec<u32>,
}

/// The slots of groups, in the order of their first row.
#[derive(Debug, Default)]
struct Slots {
    of_groups: HashMap<u32, u32, RandomState>,
    groups: Vec<u32>,
}

impl Slots {
    fn of_group(&mut self, group: u32) -> u32 {
        *self.of_groups.entry(group).or_insert_with(|| {
            self.groups.push(group);
            self.groups.len() as u32 - 1
        })
    }
}

impl GroupAccumulators {
    /// Empty accumulators of the groups below `groups`.
    pub(in crate::memory) fn new(groups: usize) -> Self {
        let replica_bits = if groups <= REPLICATED_GROUPS { REPLICA_BITS } else { 0 };
        Self {
            entries: vec![GroupAccumulator::EMPTY; groups << replica_bits],
            replica_bits,
            touched: vec![0; groups.div_ceil(64)],
            slots: None,
            of_rows: Vec::new(),
        }
    }

    /// Empty accumulators of any number of groups, most of which have no rows. Memory is allocated for groups with
    /// rows.
    pub(in crate::memory) fn sparse() -> Self {
        Self {
            entries: Vec::new(),
            replica_bits: 0,
            touched: Vec::new(),
            slots: Some(Slots::default()),
            of_rows: Vec::new(),
        }
    }

    /// Aggregates rows. Their columns are a code (or a state's ordinal) and the state, and optionally the submission and
    /// the last transition time in whole seconds.
    pub(in crate::memory) fn add(&mut self, columns: &[ArrayRef]) -> EngineResult<()> {
        let [keys, states, times @ ..] = columns else {
            return internal_err!("rows to aggregate have a column of groups and one of states");
        };
        self.set_groups(keys)?;
        self.set_slots();
        let states = states.as_primitive::<UInt8Type>().values();
        match times {
            [] => self.count(states),
            [submitted, transitions] => {
                let submitted = submitted.as_primitive::<TimestampMicrosecondType>().values();
                let transitions = transitions.as_primitive::<TimestampSecondType>().values();
                if self.replica_bits > 0 {
                    self.aggregate::<true>(states, submitted, transitions);
                } else {
                    self.aggregate::<false>(states, submitted, transitions);
                }
            }
            _ => return internal_err!("rows to aggregate have two columns of times or none"),
        }
        Ok(())
    }

    fn count(&mut self, states: &[u8]) {
        let (bits, mask) = (self.replica_bits, (1 << self.replica_bits) - 1);
        for ((at, &slot), &state) in (0u32..).zip(&self.of_rows).zip(states) {
            self.entries[(slot << bits | at & mask) as usize].add_state(state);
            self.touched[slot as usize / 64] |= 1 << (slot % 64);
        }
    }

    /// Aggregates all columns. With few groups, minima and maxima rarely change, so a branch is cheaper than a store
    /// per row. With many groups, a chunk has few rows per group, so they change often and the branches are
    /// mispredicted.
    fn aggregate<const FEW_GROUPS: bool>(&mut self, states: &[u8], submitted: &[i64], transitions: &[i64]) {
        let (bits, mask) = (self.replica_bits, (1 << self.replica_bits) - 1);
        let rows = (0u32..).zip(&self.of_rows).zip(states).zip(submitted).zip(transitions);
        for ((((at, &slot), &state), &submitted), &transition) in rows {
            self.touched[slot as usize / 64] |= 1 << (slot % 64);
            let entry = &mut self.entries[(slot << bits | at & mask) as usize];
            entry.add_state(state);
            entry.transition_sum += transition;
            if FEW_GROUPS {
                if submitted < entry.submitted {
                    entry.submitted = submitted;
                }
                if transition < entry.earliest_transition {
                    entry.earliest_transition = transition;
                }
                if transition > entry.latest_transition {
                    entry.latest_transition = transition;
                }
            } else {
                entry.extend(submitted, transition, transition);
            }
        }
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

    fn set_slots(&mut self) {
        let Some(slots) = &mut self.slots else { return };
        self.of_rows.iter_mut().for_each(|group| *group = slots.of_group(*group));
        self.entries.resize(slots.groups.len(), GroupAccumulator::EMPTY);
        self.touched.resize(slots.groups.len().div_ceil(64), 0);
    }

    /// The number of groups that have rows.
    pub(in crate::memory) fn touched(&self) -> usize {
        self.touched.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The groups that have rows: number, count and accumulator. They ascend unless only groups with rows have slots.
    pub(in crate::memory) fn groups(&mut self) -> impl Iterator<Item = (u32, u32, &GroupAccumulator)> {
        let replicas = 1 << self.replica_bits;
        for of_slot in self.entries.chunks_mut(replicas).filter(|of_slot| of_slot.len() > 1) {
            for replica in 1..replicas {
                let other = std::mem::replace(&mut of_slot[replica], GroupAccumulator::EMPTY);
                of_slot[0].merge(&other);
            }
        }
        let (entries, slots) = (&self.entries, &self.slots);
        set_bits(&self.touched).map(move |slot| {
            let group = slots.as_ref().map_or(slot as u32, |slots| slots.groups[slot]);
            let of = &entries[slot * replicas];
            (group, of.count(), of)
        })
    }

    /// Takes the accumulators of the groups that have rows, ascending by group, and empties them. Each group must have
    /// a slot.
    pub(in crate::memory) fn take(&mut self) -> Vec<(u32, GroupAccumulator)> {
        let taken: Vec<_> = self.groups().map(|(group, _, of)| (group, *of)).collect();
        for &(group, _) in &taken {
            self.entries[(group as usize) << self.replica_bits] = GroupAccumulator::EMPTY;
        }
        self.touched.fill(0);
        taken
    }
}

/// The indices of the bits that are set.
fn set_bits(words: &[u64]) -> impl Iterator<Item = usize> {
    (0..).step_by(64).zip(words).flat_map(|(first, &word)| {
        let rest = |bits: &u64| Some(bits & (bits - 1)).filter(|&rest| rest != 0);
        let words = std::iter::successors(Some(word).filter(|&bits| bits != 0), rest);
        words.map(move |bits| first + bits.trailing_zeros() as usize)
    })
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
