//! Cached aggregates of groups.
//!
//! The cache contains the aggregates of a query over all jobs and over each segment of a few chunks. A later query
//! aggregates the segments that have been written to since, subtracts their cached aggregates from the totals and adds
//! the new ones, so its cost depends on the number of changed segments and not on the number of jobs.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::jobs::JobChunk;
use super::shared_list::SharedList;
use crate::memory::cost::{PARTIAL_BYTES_PER_JOB, PARTIAL_MAX_SCANS};
use crate::model::JobState;
use crate::query::{GroupBy, Predicate};

const MAX_QUERIES: usize = 64;
/// The share of the budget of all caches that the cache may take: more than two queries with the maximum number of
/// groups.
const SHARE: usize = 4;
/// The counts of a segment must fit into 16 bits.
const MAX_CHUNKS_PER_SEGMENT: usize = 4;
/// The ordinals of the known states, which are those from 1 on, and 0 for all unknown ones.
pub(crate) const STATES: usize = JobState::ALL.len() + 1;

/// The accumulator of a group, for all aggregates that a query can request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupAccumulator {
    /// The number of jobs by the ordinal of their state; those of unknown states are at 0.
    pub(crate) states: [u32; STATES],
    /// The earliest submission.
    pub(crate) submitted: i64,
    /// Sum, minimum and maximum of the last transition times, in whole seconds.
    pub(crate) transition_sum: i64,
    pub(crate) earliest_transition: i64,
    pub(crate) latest_transition: i64,
}

impl GroupAccumulator {
    /// An accumulator without rows.
    pub(crate) const EMPTY: Self = Self {
        states: [0; STATES],
        submitted: i64::MAX,
        transition_sum: 0,
        earliest_transition: i64::MAX,
        latest_transition: i64::MIN,
    };

    pub(crate) fn count(&self) -> u32 {
        self.states.iter().sum()
    }

    /// Counts a job with the ordinal of its state.
    #[inline]
    pub(crate) fn add_state(&mut self, ordinal: u8) {
        let known = usize::from(ordinal) < STATES;
        self.states[if known { usize::from(ordinal) } else { 0 }] += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, more) in self.states.iter_mut().zip(other.states) {
            *count += more;
        }
        self.transition_sum += other.transition_sum;
        self.extend(other.submitted, other.earliest_transition, other.latest_transition);
    }

    /// Extends the minima and maxima.
    #[inline]
    pub(crate) fn extend(&mut self, submitted: i64, earliest: i64, latest: i64) {
        self.submitted = self.submitted.min(submitted);
        self.earliest_transition = self.earliest_transition.min(earliest);
        self.latest_transition = self.latest_transition.max(latest);
    }

    /// Removes the counts and the sum of a segment. Its minima and maxima are not removed.
    fn subtract(&mut self, other: &SegmentGroup) {
        for (count, less) in self.states.iter_mut().zip(other.states) {
            *count -= u32::from(less);
        }
        self.transition_sum -= other.transition_sum;
    }
}

/// The accumulator of a group in a segment.
#[derive(Debug, Clone, Copy)]
struct SegmentGroup {
    group: u32,
    states: [u16; STATES],
    submitted: i64,
    transition_sum: i64,
    earliest_transition: i64,
    latest_transition: i64,
}

impl SegmentGroup {
    fn new(group: u32, of: &GroupAccumulator) -> Self {
        Self {
            group,
            // A segment has at most MAX_CHUNKS_PER_SEGMENT chunks.
            states: of.states.map(|count| count as u16),
            submitted: of.submitted,
            transition_sum: of.transition_sum,
            earliest_transition: of.earliest_transition,
            latest_transition: of.latest_transition,
        }
    }

    /// Whether a minimum or maximum of `totals` may be lost when `new` replaces this accumulator.
    fn loses_extremes(&self, new: Option<&GroupAccumulator>, totals: &GroupAccumulator) -> bool {
        let new = new.unwrap_or(&GroupAccumulator::EMPTY);
        self.submitted < new.submitted && self.submitted == totals.submitted
            || self.earliest_transition < new.earliest_transition
                && self.earliest_transition == totals.earliest_transition
            || self.latest_transition > new.latest_transition && self.latest_transition == totals.latest_transition
    }
}

/// The parameters that determine the groups of a chunk. Queries of active job sets are not cached, because active job
/// sets change without a write to the chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartialKey {
    pub(crate) group_by: GroupBy,
    pub(crate) predicates: Vec<Predicate>,
}

impl PartialKey {
    fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.predicates.iter().map(|of| size_of::<Predicate>() + of.heap_bytes()).sum::<usize>()
    }
}

/// The aggregates of one query over a version of the table.
#[derive(Debug, Clone)]
pub(crate) struct GroupTotals {
    chunks_per_segment: usize,
    /// The version of each chunk. A write replaces the chunk, so its pointer identifies a version; the weak reference
    /// prevents the reuse of the address without keeping the columns.
    chunks: Vec<Weak<JobChunk>>,
    /// The groups of each segment, ascending.
    segments: Vec<Arc<[SegmentGroup]>>,
    totals: Vec<GroupAccumulator>,
    /// The number of jobs of each group: calls without aggregates read only these.
    counts: Vec<u32>,
}

impl GroupTotals {
    /// The groups that have rows: code, number of jobs and accumulator.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (u32, u32, &GroupAccumulator)> {
        let groups = (0..).zip(&self.counts).zip(&self.totals).map(|((group, &count), of)| (group, count, of));
        groups.filter(|&(_, count, _)| count > 0)
    }

    /// The chunks to scan for an update to a version of the table: the chunks of segments that have been written to.
    /// `None` if the version is older and has fewer chunks.
    pub(crate) fn stale(&self, chunks: &SharedList<Arc<JobChunk>>) -> Option<Vec<usize>> {
        if chunks.len() < self.chunks.len() {
            return None;
        }
        let is_same =
            |cached: &Weak<JobChunk>, chunk: &Arc<JobChunk>| std::ptr::eq(cached.as_ptr(), Arc::as_ptr(chunk));
        let mut cached = self.chunks.iter();
        if chunks.iter().all(|chunk| cached.next().is_some_and(|cached| is_same(cached, chunk))) {
            return Some(Vec::new());
        }
        let is_current = |at: usize| self.chunks.get(at).is_some_and(|cached| is_same(cached, &chunks[at]));
        // An empty table has no segment size yet.
        let size = self.chunks_per_segment.max(1);
        let segments = (0..chunks.len()).step_by(size);
        let segments = segments.map(|first| first..chunks.len().min(first + size));
        Some(segments.filter(|segment| !segment.clone().all(is_current)).flatten().collect())
    }

    fn heap_bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<Weak<JobChunk>>()
            + self.segments.iter().map(|groups| size_of_val(&**groups) + 2 * size_of::<usize>()).sum::<usize>()
            + self.segments.capacity() * size_of::<Arc<[SegmentGroup]>>()
            + self.totals.capacity() * size_of::<GroupAccumulator>()
            + self.counts.capacity() * size_of::<u32>()
    }
}

/// An update of cached aggregates to a version of the table, segment by segment.
#[derive(Debug)]
pub(crate) struct TotalsUpdate {
    totals: GroupTotals,
    /// The accumulators of groups below this number are allocated when the groups of the first segment are known to be
    /// cached.
    groups: usize,
    /// Groups whose minima and maxima must be computed again.
    lost: Vec<u32>,
}

impl TotalsUpdate {
    /// An update of cached aggregates, if there are any, with accumulators for all groups below `groups`.
    pub(crate) fn new(cached: Option<&GroupTotals>, groups: usize) -> Self {
        let totals = cached.cloned().unwrap_or_else(|| GroupTotals {
            chunks_per_segment: 0,
            chunks: Vec::new(),
            segments: Vec::new(),
            totals: Vec::new(),
            counts: Vec::new(),
        });
        Self { totals, groups, lost: Vec::new() }
    }

    /// The size of segments; chosen for a new query by the number of groups of a chunk. `None` if there are too many
    /// groups to cache.
    pub(crate) fn chunks_per_segment(&mut self, groups_of_chunk: usize) -> Option<usize> {
        if self.totals.chunks_per_segment == 0 {
            let bytes = groups_of_chunk * size_of::<SegmentGroup>();
            let size = bytes.div_ceil(PARTIAL_BYTES_PER_JOB * super::CHUNK_ROWS).max(1).next_power_of_two();
            self.totals.chunks_per_segment = size;
        }
        Some(self.totals.chunks_per_segment).filter(|&size| size <= MAX_CHUNKS_PER_SEGMENT)
    }

    /// Replaces the groups of a segment, given ascending.
    pub(crate) fn replace(&mut self, segment: usize, groups: &[(u32, GroupAccumulator)]) {
        self.totals.totals.resize(self.groups.max(self.totals.totals.len()), GroupAccumulator::EMPTY);
        let GroupTotals { segments, totals, .. } = &mut self.totals;
        if segment >= segments.len() {
            segments.resize_with(segment + 1, || Arc::new([]));
        }
        let new = groups.iter().map(|(group, of)| SegmentGroup::new(*group, of)).collect();
        let old = std::mem::replace(&mut segments[segment], new);
        let mut rest = groups.iter().peekable();
        for cached in old.iter() {
            let totals = &mut totals[cached.group as usize];
            totals.subtract(cached);
            while rest.next_if(|(group, _)| *group < cached.group).is_some() {}
            let new = rest.next_if(|(group, _)| *group == cached.group).map(|(_, of)| of);
            if cached.loses_extremes(new, totals) {
                self.lost.push(cached.group);
            }
        }
        for (group, of) in groups {
            totals[*group as usize].merge(of);
        }
    }

    /// The aggregates over a version of the table, all stale segments of which were replaced.
    pub(crate) fn finish(mut self, chunks: &SharedList<Arc<JobChunk>>) -> GroupTotals {
        self.lost.sort_unstable();
        self.lost.dedup();
        let GroupTotals { segments, totals, .. } = &mut self.totals;
        for &group in &self.lost {
            let of = &mut totals[group as usize];
            (of.submitted, of.earliest_transition, of.latest_transition) = (i64::MAX, i64::MAX, i64::MIN);
        }
        let mut extend = |of: &SegmentGroup| {
            totals[of.group as usize].extend(of.submitted, of.earliest_transition, of.latest_transition);
        };
        for segment in segments.iter().filter(|_| !self.lost.is_empty()) {
            if self.lost.len() > PARTIAL_MAX_SCANS {
                segment.iter().for_each(&mut extend);
                continue;
            }
            for group in &self.lost {
                if let Ok(at) = segment.binary_search_by_key(group, |of| of.group) {
                    extend(&segment[at]);
                }
            }
        }
        let current = self.totals.chunks.iter().zip(chunks.iter()).map(|(cached, chunk)| {
            if std::ptr::eq(cached.as_ptr(), Arc::as_ptr(chunk)) { cached.clone() } else { Arc::downgrade(chunk) }
        });
        let new = chunks.iter().skip(self.totals.chunks.len()).map(Arc::downgrade);
        self.totals.chunks = current.chain(new).collect();
        self.totals.counts = self.totals.totals.iter().map(GroupAccumulator::count).collect();
        self.totals
    }
}

/// The cache entry of a query.
#[derive(Debug, Clone)]
pub(crate) enum CachedGroups {
    Totals(Arc<GroupTotals>),
    /// The segments have too many groups.
    TooMany,
}

/// The cached aggregates of all queries, bounded in size. The most recently used query is the last.
#[derive(Debug, Default)]
pub(crate) struct GroupPartials(Mutex<Vec<Entry>>);

#[derive(Debug, Clone)]
struct Entry {
    key: PartialKey,
    cached: CachedGroups,
    bytes: usize,
}

impl GroupPartials {
    /// The cached aggregates of a query, for any version of the table.
    pub(crate) fn get(&self, key: &PartialKey) -> Option<CachedGroups> {
        let mut queries = self.0.lock();
        let at = queries.iter().position(|entry| entry.key == *key)?;
        let used = queries.remove(at);
        let cached = used.cached.clone();
        queries.push(used);
        Some(cached)
    }

    /// Caches the aggregates of a query. `budget` is the maximum size of all caches.
    pub(crate) fn insert(&self, key: &PartialKey, cached: CachedGroups, budget: usize) {
        let max = budget / SHARE;
        let cached = if cached.heap_bytes() > max { CachedGroups::TooMany } else { cached };
        let bytes = key.heap_bytes() + cached.heap_bytes();
        let mut queries = self.0.lock();
        queries.retain(|entry| entry.key != *key);
        queries.push(Entry { key: key.clone(), cached, bytes });
        drop(queries);
        self.evict(max);
    }

    /// Evicts the least recently used queries until at most `max` bytes remain.
    pub(crate) fn evict(&self, max: usize) {
        let mut queries = self.0.lock();
        let mut bytes: usize = queries.iter().map(|entry| entry.bytes).sum();
        while queries.len() > MAX_QUERIES || bytes > max {
            bytes -= queries.remove(0).bytes;
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.lock().iter().map(|entry| entry.bytes).sum()
    }
}

impl CachedGroups {
    fn heap_bytes(&self) -> usize {
        match self {
            Self::Totals(totals) => totals.heap_bytes(),
            Self::TooMany => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::table::Chunk;
    use super::*;
    use crate::query::TextField;

    type Groups = BTreeMap<u32, GroupAccumulator>;
    /// Group, state, submission and transition time.
    type Row = (u32, usize, i64, i64);

    fn key(field: TextField) -> PartialKey {
        PartialKey { group_by: GroupBy::Text(field), predicates: Vec::new() }
    }

    fn chunk() -> Arc<JobChunk> {
        Arc::new(JobChunk::empty())
    }

    fn chunks_of(table: &[(Arc<JobChunk>, Vec<Row>)]) -> SharedList<Arc<JobChunk>> {
        table.iter().map(|(chunk, _)| Arc::clone(chunk)).collect()
    }

    fn aggregated<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Groups {
        let mut groups = Groups::new();
        for &(group, state, submitted, transition) in rows {
            let mut of = GroupAccumulator {
                submitted,
                transition_sum: transition,
                earliest_transition: transition,
                latest_transition: transition,
                ..GroupAccumulator::EMPTY
            };
            of.states[state] = 1;
            groups.entry(group).or_insert(GroupAccumulator::EMPTY).merge(&of);
        }
        groups
    }

    fn updated(
        cached: Option<&GroupTotals>,
        table: &[(Arc<JobChunk>, Vec<Row>)],
        groups_of_chunk: usize,
    ) -> GroupTotals {
        let chunks = chunks_of(table);
        let stale = cached.and_then(|cached| cached.stale(&chunks));
        let mut update = TotalsUpdate::new(cached.filter(|_| stale.is_some()), 50);
        let stale = stale.unwrap_or_else(|| (0..chunks.len()).collect());
        if stale.is_empty() {
            return update.finish(&chunks);
        }
        let size = update.chunks_per_segment(groups_of_chunk).unwrap();
        for segment in stale.chunk_by(|a, b| a / size == b / size) {
            let groups = aggregated(segment.iter().flat_map(|&at| &table[at].1));
            update.replace(segment[0] / size, &groups.into_iter().collect::<Vec<_>>());
        }
        update.finish(&chunks)
    }

    fn totals(of: &GroupTotals) -> Groups {
        (0..).zip(&of.totals).filter(|(_, of)| of.count() > 0).map(|(group, of)| (group, *of)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

        #[test]
        fn updated_totals_are_those_of_all_rows(
            steps in prop::collection::vec(
                (0..40usize, prop::collection::vec((0..50u32, 1..10usize, -9..9i64, -9..9i64), 0..30)), 1..60),
            groups_of_chunk in prop::sample::select(vec![1usize, 2000, 4000]),
        ) {
            let mut table = Vec::new();
            let mut cached = Some(updated(None, &table, groups_of_chunk));
            let mut snapshot = None;
            for (step, (at, rows)) in steps.into_iter().enumerate() {
                // A write replaces a chunk or adds one; several writes come between two queries.
                if at < table.len() { table[at] = (chunk(), rows) } else { table.push((chunk(), rows)) }
                if step % 3 == 0 {
                    let of_all = updated(cached.as_ref(), &table, groups_of_chunk);
                    prop_assert_eq!(totals(&of_all), aggregated(table.iter().flat_map(|(_, rows)| rows)));
                    prop_assert_eq!(of_all.stale(&chunks_of(&table)), Some(Vec::new()));
                    cached = Some(of_all);
                }
                if step == 20 {
                    snapshot = Some(table.clone());
                }
            }
            // A query of an older snapshot, after newer ones.
            if let Some(table) = snapshot {
                let of_all = updated(cached.as_ref(), &table, groups_of_chunk);
                prop_assert_eq!(totals(&of_all), aggregated(table.iter().flat_map(|(_, rows)| rows)));
            }
        }
    }

    #[test]
    fn a_write_makes_the_segment_of_its_chunk_stale() {
        let mut table: Vec<_> = (0..7).map(|at| (chunk(), vec![(at, 1, 0, 0)])).collect();
        for (groups, stale) in [(1, vec![4]), (1024, vec![4]), (2000, vec![4, 5])] {
            let cached = updated(None, &table, groups);
            let mut chunks = chunks_of(&table);
            assert_eq!(cached.stale(&chunks), Some(Vec::new()));
            chunks[4] = chunk();
            assert_eq!(cached.stale(&chunks), Some(stale));
            chunks.push(chunk());
            assert_eq!(cached.stale(&chunks).unwrap().last(), Some(&7));
            assert_eq!(cached.stale(&chunks_of(&table[..3])), None);
            table[0].1.push((3, 2, 0, 0));
        }
    }

    #[test]
    fn groups_beyond_the_bound_are_not_cached() {
        let mut update = TotalsUpdate::new(None, 1);
        assert_eq!(update.chunks_per_segment(super::super::CHUNK_ROWS), None);
    }

    #[test]
    fn the_cache_evicts_the_least_recently_used_query() {
        let partials = GroupPartials::default();
        let of = |groups| {
            let mut update = TotalsUpdate::new(None, groups);
            update.replace(0, &[]);
            CachedGroups::Totals(Arc::new(update.finish(&SharedList::default())))
        };
        const BUDGET: usize = 1 << 20;
        let third = BUDGET / SHARE / (size_of::<GroupAccumulator>() + size_of::<u32>()) / 3 - 10;
        let fields = [TextField::Queue, TextField::JobSet, TextField::Owner];
        for field in fields {
            partials.insert(&key(field), of(third), BUDGET);
        }
        assert!(partials.get(&key(TextField::Queue)).is_some());
        partials.insert(&key(TextField::Node), of(third), BUDGET);
        let cached = fields.map(|field| partials.get(&key(field)).is_some());
        assert_eq!(cached, [true, false, true]);
        assert!(partials.heap_bytes() <= BUDGET / SHARE && partials.heap_bytes() > 0);
        partials.insert(&key(TextField::Pool), of(4 * third), BUDGET);
        assert!(matches!(partials.get(&key(TextField::Pool)), Some(CachedGroups::TooMany)));
        // The predicates of a query count.
        let ids = (0..BUDGET / 100).map(|id| id.to_string());
        let of_many_ids = PartialKey { predicates: vec![TextField::JobId.any_of(ids)], ..key(TextField::Queue) };
        partials.insert(&of_many_ids, of(1), BUDGET);
        assert!(partials.get(&of_many_ids).is_none());
        assert!(partials.heap_bytes() <= BUDGET / SHARE);
    }
}
