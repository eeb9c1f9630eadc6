//! An index of the latest transitions.

use std::cmp::Reverse;
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;

/// The index is pruned when it has more entries than this.
const MAX_ENTRIES: usize = 4096;
/// The number of entries that remain after pruning.
const KEPT_ENTRIES: usize = 1024;
/// The number of entries that are sorted for pages. A job has an entry per recent transition, of which only the last is
/// valid.
const SORTED_ENTRIES: usize = 512;

/// A transition of the job in a row. The latest transition sorts first, and those of a second sort by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Transition {
    seconds: Reverse<i64>,
    row: u32,
}

/// The rows whose last transition sorts before a bound.
///
/// Without it, a page of the latest transitions reads about one block per row, because the transitions of jobs that
/// were submitted together can be hours apart.
///
/// An entry is appended for each transition before the bound, and pruning only moves the bound towards later times. So
/// each row whose last transition is before the bound has an entry with its time. Entries of earlier transitions of a
/// row remain, and differ from the row's time in the snapshot. If the rows of most entries have since had a transition
/// to an earlier time, the index has few rows until the times of new transitions reach the bound.
///
/// The entries are shared by all clones and append-only, and a clone ignores those that were appended later. Pruning
/// copies the entries that remain.
#[derive(Debug, Clone, Default)]
pub(crate) struct RecentTransitions {
    entries: Arc<RwLock<Vec<Transition>>>,
    /// The number of entries of this version.
    len: usize,
    /// `None` before the first pruning.
    bound: Option<Transition>,
    /// The latest rows of this version, computed at their first use.
    latest: Arc<OnceLock<Vec<u32>>>,
}

impl RecentTransitions {
    /// Appends transitions: times in whole seconds, and rows.
    pub(crate) fn append(&mut self, transitions: impl Iterator<Item = (i64, u32)>) {
        let transitions = transitions.map(|(seconds, row)| Transition { seconds: Reverse(seconds), row });
        let mut transitions = transitions.peekable();
        if transitions.peek().is_none() {
            return;
        }
        // Also a transition after the bound changes the latest rows.
        self.latest = Arc::default();
        loop {
            let bound = self.bound;
            let recent = transitions.by_ref().filter(|&transition| bound.is_none_or(|bound| transition < bound));
            let recent: Vec<Transition> = recent.take(MAX_ENTRIES).collect();
            if recent.is_empty() {
                break;
            }
            self.len += recent.len();
            self.entries.write().extend(recent);
            if self.len > MAX_ENTRIES {
                self.prune();
            }
        }
    }

    /// Moves the bound, and removes the entries after it.
    fn prune(&mut self) {
        let mut entries = self.entries.read()[..self.len].to_vec();
        let (_, &mut bound, _) = entries.select_nth_unstable(KEPT_ENTRIES);
        self.bound = Some(bound);
        self.len = KEPT_ENTRIES;
        self.entries = Arc::new(RwLock::new(entries[..KEPT_ENTRIES].to_vec()));
    }

    /// At most [`SORTED_ENTRIES`] rows with the latest transitions, the latest first, and those of a second in row
    /// order. All other rows of the snapshot sort after them. `seconds` is the last transition of a row in the
    /// snapshot.
    pub(crate) fn latest(&self, seconds: impl Fn(u32) -> i64) -> &[u32] {
        self.latest.get_or_init(|| {
            let mut entries = self.entries.read()[..self.len].to_vec();
            if entries.len() > SORTED_ENTRIES {
                entries.select_nth_unstable(SORTED_ENTRIES);
                entries.truncate(SORTED_ENTRIES);
            }
            entries.retain(|entry| seconds(entry.row) == entry.seconds.0);
            entries.sort_unstable();
            entries.dedup();
            entries.into_iter().map(|entry| entry.row).collect()
        })
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.entries.read().capacity() * size_of::<Transition>()
            + self.latest.get().map_or(0, |rows| rows.capacity() * size_of::<u32>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The transitions of rows, and the index.
    #[derive(Clone, Default)]
    struct Version {
        seconds: Vec<i64>,
        index: RecentTransitions,
    }

    impl Version {
        fn append(&mut self, transitions: &[(i64, u32)]) {
            for &(seconds, row) in transitions {
                self.seconds.resize(self.seconds.len().max(row as usize + 1), 0);
                self.seconds[row as usize] = seconds;
            }
            self.index.append(transitions.iter().copied());
        }

        /// Checks that the index has the first rows. Returns their number.
        fn check(&self) -> usize {
            let mut expected: Vec<u32> = (0..self.seconds.len() as u32).collect();
            expected.sort_by_key(|&row| (Reverse(self.seconds[row as usize]), row));
            let latest = self.index.latest(|row| self.seconds[row as usize]);
            assert_eq!(latest, &expected[..latest.len()]);
            latest.len()
        }
    }

    #[test]
    fn rows_of_any_transitions_are_the_latest_ones() {
        let mut random = 1_u64;
        let mut below = |bound: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % bound
        };
        // Few distinct times, times that rise, and times that fall.
        for (range, slope) in [(5, 0), (100_000, 0), (50, 1), (50, -1), (1, 0)] {
            let (mut version, mut snapshots) = (Version::default(), Vec::new());
            for batch in 0..60 {
                let new = version.seconds.len();
                let mut rows: Vec<usize> = (new..new + 100).collect();
                rows.extend((0..200).map(|_| below(new + 100)));
                let transitions = rows.into_iter().map(|row| (slope * batch + below(range) as i64, row as u32));
                version.append(&transitions.collect::<Vec<_>>());
                version.check();
                snapshots.push(version.clone());
            }
            for snapshot in &snapshots {
                snapshot.check();
            }
        }
    }

    #[test]
    fn rising_times_fill_a_page_before_and_after_pruning() {
        let mut version = Version::default();
        for second in 0..2 * MAX_ENTRIES as i64 {
            version.append(&[(second, second as u32)]);
        }
        assert_eq!(version.check(), SORTED_ENTRIES);
        // The entries of earlier transitions do not hide the rows.
        let row = version.seconds.len() as u32 - 1;
        version.append(&[(i64::MAX, row)]);
        assert_eq!(version.index.latest(|row| version.seconds[row as usize])[0], row);
        assert_eq!(version.check(), SORTED_ENTRIES - 1);
    }

    #[test]
    fn transitions_of_one_second_fill_a_page_in_row_order() {
        let mut version = Version::default();
        let rows = 3 * MAX_ENTRIES as u32;
        version.append(&(0..rows).rev().map(|row| (7, row)).collect::<Vec<_>>());
        assert_eq!(version.check(), SORTED_ENTRIES);
        version.append(&(0..rows).map(|row| (8, row)).collect::<Vec<_>>());
        assert_eq!(version.check(), SORTED_ENTRIES);
    }
}
