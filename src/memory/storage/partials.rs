//! Aggregates of the groups of a chunk, kept from one call to the next.
//!
//! A call for groups merges those of the chunks that nobody has written to since, and reads the
//! others alone: it costs what changed, not what is stored.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::jobs::JobChunk;
use crate::model::JobState;
use crate::query::{GroupBy, Predicate};

/// A chunk with more groups than this is aggregated anew: merging them would cost as much.
const MAX_GROUPS: usize = 512;
/// How many kinds of calls are kept at most.
const MAX_KEYS: usize = 64;
/// Bytes that are always allowed, and those a job.
const MIN_BYTES: usize = 1 << 20;
const BYTES_PER_JOB: usize = 4;

/// The aggregates of a group: all that a call can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupTotals {
    /// Jobs, by the state's ordinal.
    pub(crate) states: [u32; JobState::ALL.len() + 1],
    /// The earliest submission.
    pub(crate) submitted: i64,
    /// Of the last transition times, in whole seconds: sum, least and greatest.
    pub(crate) transition_sum: i64,
    pub(crate) earliest_transition: i64,
    pub(crate) latest_transition: i64,
}

impl GroupTotals {
    /// Those of no rows.
    pub(crate) const EMPTY: Self = Self {
        states: [0; JobState::ALL.len() + 1],
        submitted: i64::MAX,
        transition_sum: 0,
        earliest_transition: i64::MAX,
        latest_transition: i64::MIN,
    };

    pub(crate) fn count(&self) -> u32 {
        self.states.iter().sum()
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, more) in self.states.iter_mut().zip(other.states) {
            *count += more;
        }
        self.submitted = self.submitted.min(other.submitted);
        self.transition_sum += other.transition_sum;
        self.earliest_transition = self.earliest_transition.min(other.earliest_transition);
        self.latest_transition = self.latest_transition.max(other.latest_transition);
    }
}

/// The groups of a chunk that have rows.
pub(crate) type Partial = Arc<[(u32, GroupTotals)]>;

/// What makes the groups of a chunk, besides its rows. Not the active job sets: these change
/// without a write to the chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartialKey {
    pub(crate) group_by: GroupBy,
    pub(crate) predicates: Vec<Predicate>,
}

/// The partial aggregates of all snapshots, of a bounded share of memory.
#[derive(Debug, Default)]
pub(crate) struct GroupPartials(Mutex<Vec<Kept>>);

/// The partial aggregates of one kind of call. Those used last are at the end of the list.
#[derive(Debug)]
struct Kept {
    key: PartialKey,
    chunks: Vec<Option<KeptChunk>>,
    bytes: usize,
}

/// A write replaces a chunk, so another chunk at the same place has no partial. The reference
/// keeps the address from being used again, and not the chunk's columns.
#[derive(Debug)]
struct KeptChunk {
    chunk: Weak<JobChunk>,
    partial: Partial,
}

impl GroupPartials {
    /// The partials of chunks, as far as there are any.
    pub(crate) fn get(&self, key: &PartialKey, chunks: &[Arc<JobChunk>]) -> Vec<Option<Partial>> {
        let mut kept = self.0.lock();
        let Some(at) = kept.iter().position(|kept| kept.key == *key) else { return vec![None; chunks.len()] };
        let used = kept.remove(at);
        let partial = |(at, chunk): (usize, &Arc<JobChunk>)| {
            let kept = used.chunks.get(at)?.as_ref()?;
            std::ptr::eq(kept.chunk.as_ptr(), Arc::as_ptr(chunk)).then(|| Arc::clone(&kept.partial))
        };
        let partials = chunks.iter().enumerate().map(partial).collect();
        kept.push(used);
        partials
    }

    /// Keeps the partials of chunks, given with their places, and drops those of calls that were
    /// made longest ago beyond the share of memory of so many jobs.
    pub(crate) fn keep(&self, key: &PartialKey, partials: Vec<(usize, &Arc<JobChunk>, Partial)>, jobs: usize) {
        let mut kept = self.0.lock();
        let mut of_key = match kept.iter().position(|kept| kept.key == *key) {
            Some(at) => kept.remove(at),
            None => Kept { key: key.clone(), chunks: Vec::new(), bytes: 0 },
        };
        for (at, chunk, partial) in partials.into_iter().filter(|(.., partial)| partial.len() <= MAX_GROUPS) {
            if at >= of_key.chunks.len() {
                of_key.chunks.resize_with(at + 1, || None);
            }
            of_key.chunks[at] = Some(KeptChunk { chunk: Arc::downgrade(chunk), partial });
        }
        of_key.bytes = of_key.chunks.capacity() * size_of::<Option<KeptChunk>>()
            + of_key.chunks.iter().flatten().map(|kept| size_of_val(&*kept.partial)).sum::<usize>();
        kept.push(of_key);
        let most = MIN_BYTES.max(jobs * BYTES_PER_JOB);
        while kept.len() > MAX_KEYS || kept.iter().map(|kept| kept.bytes).sum::<usize>() > most {
            kept.remove(0);
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.lock().iter().map(|kept| kept.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::Chunk;
    use super::*;
    use crate::query::TextField;

    fn key(field: TextField) -> PartialKey {
        PartialKey { group_by: GroupBy::Text(field), predicates: Vec::new() }
    }

    fn chunks(count: usize) -> Vec<Arc<JobChunk>> {
        (0..count).map(|_| Arc::new(JobChunk::empty())).collect()
    }

    fn partial(groups: u32) -> Partial {
        (0..groups).map(|group| (group, GroupTotals::EMPTY)).collect()
    }

    #[test]
    fn a_chunk_that_was_written_to_has_no_partial() {
        let (partials, key) = (GroupPartials::default(), key(TextField::Queue));
        let mut chunks = chunks(3);
        let each = chunks.iter().enumerate().map(|(at, chunk)| (at, chunk, partial(2))).collect();
        partials.keep(&key, each, 0);
        assert!(partials.get(&key, &chunks).iter().all(Option::is_some));
        chunks[1] = Arc::new(JobChunk::clone(&chunks[1]));
        let found: Vec<bool> = partials.get(&key, &chunks).iter().map(Option::is_some).collect();
        assert_eq!(found, [true, false, true]);
        let others = self::key(TextField::Owner);
        assert!(partials.get(&others, &chunks).iter().all(Option::is_none));
    }

    #[test]
    fn chunks_of_many_groups_are_not_kept_and_memory_is_bounded() {
        let partials = GroupPartials::default();
        let chunks = chunks(40);
        let each = |groups| chunks.iter().enumerate().map(|(at, chunk)| (at, chunk, partial(groups))).collect();
        partials.keep(&key(TextField::Queue), each(MAX_GROUPS as u32 + 1), 0);
        assert!(partials.get(&key(TextField::Queue), &chunks).iter().all(Option::is_none));
        let fields = [TextField::Queue, TextField::JobSet, TextField::Owner];
        for field in fields {
            partials.keep(&key(field), each(200), 0);
        }
        let kept: Vec<bool> = fields.map(|field| partials.get(&key(field), &chunks)[0].is_some()).to_vec();
        assert_eq!(kept, [false, false, true]);
        assert!(partials.heap_bytes() <= MIN_BYTES && partials.heap_bytes() > 0);
    }
}
