//! The cost model: the thresholds by which a query chooses between two access paths.
//!
//! The constants were set by the times of pages and groups of the generated workload with a million jobs, on one core
//! and in a release build, before chunks became record batches; the individual crossover points have not been measured
//! since. A threshold need not be exact: near it both access paths cost about the same.

/// Posting lists of at most this many codes are always united.
pub(super) const UNION_MAX_CODES: usize = 8;
/// Posting lists with at most this many rows together are always united.
pub(super) const UNION_MAX_ROWS: u64 = 4096;
/// Posting lists of more codes and rows are united if they hold at most `1 / UNION_SHARE` of all rows; else the code
/// of each visited row is tested.
pub(super) const UNION_SHARE: u64 = 16;

/// The rows within a range of priorities are listed by the index up to this many; beyond, the priorities of the
/// visited rows are compared.
pub(super) const PRIORITY_RANGE_MAX_ROWS: u64 = 16_384;

/// A dictionary of more texts than this, and than `1 / DICTIONARY_SCAN_SHARE` of the jobs, is not searched whole: the
/// texts of the visited rows are tested.
pub(super) const DICTIONARY_SCAN_MAX_TEXTS: usize = 1 << 16;
/// See [`DICTIONARY_SCAN_MAX_TEXTS`].
pub(super) const DICTIONARY_SCAN_SHARE: usize = 8;
/// A prefix is looked up in the sorted order of a dictionary of at most this many texts, and each text of a larger
/// one is tested: the order is sorted when it is first needed.
pub(super) const DICTIONARY_SORT_MAX_TEXTS: usize = 1 << 18;

/// For a dictionary of at least this many texts, the first `contains` predicate builds a trigram index.
pub(super) const NGRAM_MIN_TEXTS: usize = 1 << 12;
/// The candidates of the trigram index are verified if they are at most `1 / NGRAM_SHARE` of the texts; else all texts
/// are searched.
pub(super) const NGRAM_SHARE: usize = 4;
/// With at most this many candidates the posting lists of the remaining trigrams are not intersected.
pub(super) const NGRAM_FEW_CANDIDATES: u64 = 16;

/// With at most this many candidates, their sort keys are gathered and sorted instead of searched by zone maps or
/// posting lists.
pub(super) const GATHER_MAX_CANDIDATES: u64 = 512;
/// The same if a page reaches at least `1 / GATHER_SHARE` of the candidates.
pub(super) const GATHER_SHARE: u64 = 2;

/// This many rows of a posting list are looked up one by one in the other sets before the rest is intersected.
pub(super) const LIST_PROBES: usize = 4096;

/// A chunk with at most this many candidates is probed as a whole, not block by block.
pub(super) const CHUNK_PROBE_MAX_ROWS: u64 = 1024;
/// An offset is narrowed down the tree of zone maps while it leaves at most this many nodes.
pub(super) const OFFSET_MAX_NODES: usize = 64;
/// A residual predicate is evaluated on the gathered columns of fewer rows than this, and on the whole chunk for more.
pub(super) const RESIDUAL_GATHER_ROWS: usize = 2048;

/// Up to this many groups have `2^REPLICA_BITS` accumulators each; more would not fit the L2 cache.
pub(super) const REPLICATED_GROUPS: usize = 256;
/// The base-2 logarithm of the number of accumulators of a group. Neighbouring rows are often of one group, and an
/// addition waits for the store of the previous one to the same accumulator.
pub(super) const REPLICA_BITS: u32 = 2;
/// Bytes per job that cached aggregates of a query may take. A segment has as many chunks as that needs, and a query
/// is not cached if these are more than four.
pub(super) const PARTIAL_BYTES_PER_JOB: usize = 4;
/// The minima and maxima of at most this many groups are looked up in each segment by binary search; for more, all
/// segments are read.
pub(super) const PARTIAL_MAX_SCANS: usize = 16;
/// With at most this many combinations of dictionary codes, the group of a combination is found in an array; with
/// more, in a hash table.
pub(super) const DENSE_MAX_COMBINATIONS: usize = 1 << 22;
