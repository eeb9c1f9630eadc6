//! The aggregates of groups, summed up chunk by chunk.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, TimestampMicrosecondArray, TimestampSecondArray, UInt64Array};

use crate::memory::storage::JobChunk;
use crate::model::StateSet;
use crate::query::{Aggregates, TimeAggregate};

/// Counters of an entry: one a state's ordinal, in a power of two so that any index can be made to fit.
const STATE_SLOTS: usize = 16;
/// Up to how many groups are counted in lanes: the entries of more would leave the nearest cache.
const GROUPS_IN_LANES: usize = 256;

/// Which rows of a chunk are looked at.
pub(super) trait Places {
    /// The values of these rows.
    fn values<T: Copy>(&self, column: &[T]) -> impl Iterator<Item = T>;
}

/// All rows, from the first on.
pub(super) struct All;

impl Places for All {
    fn values<T: Copy>(&self, column: &[T]) -> impl Iterator<Item = T> {
        column.iter().copied()
    }
}

/// The rows at these places.
impl Places for [u16] {
    fn values<T: Copy>(&self, column: &[T]) -> impl Iterator<Item = T> {
        self.iter().map(|&at| column[usize::from(at)])
    }
}

/// How many entries a group has.
///
/// Neighbouring rows are often of one group, and adding to an entry waits until the addition
/// before it is stored. So a few groups have several entries each, which rows take in turn and
/// which are merged in the end.
#[derive(Debug, Clone, Copy)]
struct Lanes {
    bits: u32,
}

impl Lanes {
    fn new(groups: usize) -> Self {
        Self { bits: if groups <= GROUPS_IN_LANES { 2 } else { 0 } }
    }

    fn count(self) -> usize {
        1 << self.bits
    }

    /// What gives the entry of a group for the row that comes so many places after the first.
    fn entry(self) -> impl Fn((u32, u32)) -> u32 {
        // Both as values, for the loop to be vectorised.
        let (bits, mask) = (self.bits, (1 << self.bits) - 1);
        move |(at, group)| group << bits | at & mask
    }

    /// Merges the entries of each group into one.
    fn merge<T: Copy>(self, entries: &mut Vec<T>, merge: impl Fn(T, T) -> T) {
        let merged = entries.chunks_exact(self.count()).filter_map(|lanes| lanes.iter().copied().reduce(&merge));
        *entries = merged.collect();
    }
}

/// What is added up of the rows of an entry. All of it comes in one pass, whatever of it was
/// asked for: what a pass costs is to find the entry.
#[derive(Debug, Clone, Copy)]
struct Details {
    /// Jobs, by the state's ordinal.
    states: [u32; STATE_SLOTS],
    /// The earliest submission.
    submitted: i64,
    /// Transition times in whole seconds: their sum, or the least or the greatest.
    last_transition: i64,
}

impl Details {
    /// Those of no rows.
    fn new(transition: Option<TimeAggregate>) -> Self {
        let last_transition = match transition {
            None | Some(TimeAggregate::Average) => 0,
            Some(TimeAggregate::Earliest) => i64::MAX,
            Some(TimeAggregate::Latest) => i64::MIN,
        };
        Self { states: [0; STATE_SLOTS], submitted: i64::MAX, last_transition }
    }

    #[inline]
    fn add(&mut self, state: u8, submitted: i64, last_transition: i64, fold: impl Fn(&mut i64, i64)) {
        self.states[usize::from(state) % STATE_SLOTS] += 1;
        replace_if_less(&mut self.submitted, submitted);
        fold(&mut self.last_transition, last_transition);
    }

    fn merge(mut self, other: Self, fold: impl Fn(&mut i64, i64)) -> Self {
        for (count, more) in self.states.iter_mut().zip(other.states) {
            *count += more;
        }
        replace_if_less(&mut self.submitted, other.submitted);
        fold(&mut self.last_transition, other.last_transition);
        self
    }
}

fn add(sum: &mut i64, value: i64) {
    *sum += value;
}

/// That a value is less than all before is rare, so a branch costs less than storing the lesser of the two
/// each time, for which the next row would have to wait.
fn replace_if_less(least: &mut i64, value: i64) {
    if value < *least {
        *least = value;
    }
}

fn replace_if_greater(greatest: &mut i64, value: i64) {
    if value > *greatest {
        *greatest = value;
    }
}

/// The aggregates of all groups.
pub(super) struct Totals {
    wanted: Aggregates,
    lanes: Lanes,
    /// The entries of the rows being added: kept for its room.
    entries: Vec<u32>,
    /// Jobs, by entry; counted here if nothing else was asked for.
    counts: Vec<u32>,
    /// By entry; empty if nothing but the count was asked for.
    details: Vec<Details>,
}

impl Totals {
    /// Totals of nothing yet, of groups below `groups`.
    pub(super) fn new(wanted: Aggregates, groups: usize) -> Self {
        let lanes = Lanes::new(groups);
        let entries = groups * lanes.count();
        let transition = wanted.last_transition_time();
        let detailed = wanted.states().is_some() || wanted.submitted() || transition.is_some();
        Self {
            wanted,
            lanes,
            entries: Vec::new(),
            counts: vec![0; if detailed { 0 } else { entries }],
            details: vec![Details::new(transition); if detailed { entries } else { 0 }],
        }
    }

    /// Adds rows of a chunk, the first of them to the first of `groups` and so on.
    pub(super) fn add(&mut self, chunk: &JobChunk, rows: &(impl Places + ?Sized), groups: impl Iterator<Item = u32>) {
        let entries = (0..).zip(groups).map(self.lanes.entry());
        if self.details.is_empty() {
            for entry in entries {
                self.counts[entry as usize] += 1;
            }
            return;
        }
        self.entries.clear();
        self.entries.extend(entries);
        match self.wanted.last_transition_time() {
            None => self.add_details(chunk, rows, |_, _| {}),
            Some(TimeAggregate::Average) => self.add_details(chunk, rows, add),
            Some(TimeAggregate::Earliest) => self.add_details(chunk, rows, replace_if_less),
            Some(TimeAggregate::Latest) => self.add_details(chunk, rows, replace_if_greater),
        }
    }

    fn add_details(&mut self, chunk: &JobChunk, rows: &(impl Places + ?Sized), fold: impl Fn(&mut i64, i64) + Copy) {
        let states = rows.values(chunk.state().values());
        let submitted = rows.values(chunk.submitted().values());
        let seconds = rows.values(chunk.last_transition_seconds().values());
        for (((&entry, state), submitted), seconds) in self.entries.iter().zip(states).zip(submitted).zip(seconds) {
            self.details[entry as usize].add(state, submitted, seconds, fold);
        }
    }

    /// To be called once, after all rows: merges the lanes, and counts the jobs of each group.
    pub(super) fn finish(&mut self) {
        let lanes = self.lanes;
        lanes.merge(&mut self.counts, |a, b| a + b);
        match self.wanted.last_transition_time() {
            None => lanes.merge(&mut self.details, |a, b| a.merge(b, |_, _| {})),
            Some(TimeAggregate::Average) => lanes.merge(&mut self.details, |a, b| a.merge(b, add)),
            Some(TimeAggregate::Earliest) => lanes.merge(&mut self.details, |a, b| a.merge(b, replace_if_less)),
            Some(TimeAggregate::Latest) => lanes.merge(&mut self.details, |a, b| a.merge(b, replace_if_greater)),
        }
        self.counts.extend(self.details.iter().map(|details| details.states.iter().sum::<u32>()));
    }

    /// How many jobs a group has.
    pub(super) fn count(&self, group: u32) -> u32 {
        self.counts[group as usize]
    }

    /// A group's earliest submission, which must have been asked for.
    pub(super) fn submitted(&self, group: u32) -> i64 {
        self.details[group as usize].submitted
    }

    /// The aggregated transition time of a group, in whole seconds.
    fn last_transition(&self, group: u32) -> i64 {
        let value = self.details[group as usize].last_transition;
        match self.wanted.last_transition_time() {
            Some(TimeAggregate::Average) => rounded(value, i64::from(self.count(group))),
            _ => value,
        }
    }

    /// Compares the aggregated transition times of two groups, averages before they are rounded.
    pub(super) fn compare_last_transitions(&self, a: u32, b: u32) -> Ordering {
        let [left, right] = [a, b].map(|group| self.details[group as usize].last_transition);
        match self.wanted.last_transition_time() {
            Some(TimeAggregate::Average) => {
                let (left_count, right_count) = (self.count(a), self.count(b));
                (i128::from(left) * i128::from(right_count)).cmp(&(i128::from(right) * i128::from(left_count)))
            }
            _ => left.cmp(&right),
        }
    }

    /// The columns of some groups after their names, in the order of [`schema`](super::groups::schema).
    pub(super) fn columns(&self, groups: &[u32]) -> Vec<ArrayRef> {
        let counts = groups.iter().map(|&group| u64::from(self.count(group)));
        let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt64Array::from_iter_values(counts))];
        for state in self.wanted.states().into_iter().flat_map(StateSet::iter) {
            let count = |&group: &u32| u64::from(self.details[group as usize].states[usize::from(state.ordinal())]);
            columns.push(Arc::new(UInt64Array::from_iter_values(groups.iter().map(count))));
        }
        if self.wanted.submitted() {
            let times = groups.iter().map(|&group| self.submitted(group));
            columns.push(Arc::new(TimestampMicrosecondArray::from_iter_values(times)));
        }
        if self.wanted.last_transition_time().is_some() {
            let times = groups.iter().map(|&group| self.last_transition(group));
            columns.push(Arc::new(TimestampSecondArray::from_iter_values(times)));
        }
        columns
    }
}

/// `sum / count`, rounded half away from zero.
fn rounded(sum: i64, count: i64) -> i64 {
    let half = if sum < 0 { -(count / 2) } else { count / 2 };
    (sum + half) / count.max(1)
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
