//! The rows of the job sets that have an active job.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::memory::storage::{Postings, RowSet};

/// For each (queue, job set) pair, the number of active jobs and the rows.
///
/// The rows of a pair are added to the set when its first job becomes active, and removed when its last active job
/// ends. Both are set operations on roaring containers and take microseconds for a million rows. Other changes of state
/// update a counter.
#[derive(Debug, Default)]
pub(super) struct ActiveJobSets {
    pairs: HashMap<(u32, u32), u32, RandomState>,
    rows: Postings,
    active_jobs: Vec<u32>,
}

impl ActiveJobSets {
    pub(super) fn pair(&mut self, queue: u32, job_set: u32) -> u32 {
        let next = self.pairs.len() as u32;
        let pair = *self.pairs.entry((queue, job_set)).or_insert(next);
        if pair == next {
            self.active_jobs.push(0);
        }
        pair
    }

    /// Adds new rows, given as pair, row, and whether the job is active. The rows are ascending and greater than all
    /// earlier ones.
    pub(super) fn add(&mut self, rows: impl Iterator<Item = (u32, u32, bool)> + Clone, active_rows: &mut RowSet) {
        self.rows.post(rows.clone().map(|(pair, row, _)| (pair, row)));
        for (pair, row, active) in rows {
            if active {
                self.activate(pair, active_rows);
            }
            if self.active_jobs[pair as usize] > 0 {
                active_rows.insert(row);
            }
        }
    }

    fn activate(&mut self, pair: u32, active_rows: &mut RowSet) {
        let active = &mut self.active_jobs[pair as usize];
        *active += 1;
        if *active == 1 {
            self.rows.list(pair).insert_into(active_rows);
        }
    }

    pub(super) fn end(&mut self, pair: u32, active_rows: &mut RowSet) {
        let active = &mut self.active_jobs[pair as usize];
        *active -= 1;
        if *active == 0 {
            self.rows.list(pair).remove_from(active_rows);
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.pairs.allocation_size() + self.rows.heap_bytes() + self.active_jobs.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_follow_the_activity_of_their_pair() {
        let mut sets = ActiveJobSets::default();
        let mut rows = RowSet::default();
        let (a, b) = (sets.pair(0, 0), sets.pair(0, 1));
        assert_eq!(sets.pair(0, 0), a);
        sets.add([(a, 0, false), (b, 1, true)].into_iter(), &mut rows);
        assert_eq!(rows.iter().collect::<Vec<_>>(), [1]);
        sets.add([(a, 2, true), (a, 3, false)].into_iter(), &mut rows);
        assert_eq!(rows.iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
        sets.end(a, &mut rows);
        assert_eq!(rows.iter().collect::<Vec<_>>(), [1]);
    }
}
