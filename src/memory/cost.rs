//! The cost model: the thresholds by which a query chooses between two access paths.
//!
//! The constants are based on measurements of pages and groups of the generated workload with a million jobs, on one
//! core and in a release build, before chunks became record batches. The crossover points have not been measured since.
//! A threshold need not be exact: near it both access paths have about the same cost.

/// The union of the posting lists of at most this many codes is always computed.
pub(super) const UNION_MAX_CODES: usize = 8;
/// The union of posting lists with at most this many rows in total is always computed.
pub(super) const UNION_MAX_ROWS: u64 = 4096;
/// The union of posting lists with more codes and rows is computed if they contain at most `1 / UNION_SHARE` of all
/// rows; otherwise the code of each visited row is tested.
pub(super) const UNION_SHARE: u64 = 16;

/// The maximum number of rows that the index returns for a range of priorities. For more rows, the priority of each
/// visited row is compared.
pub(super) const PRIORITY_RANGE_MAX_ROWS: u64 = 16_384;

/// A dictionary with more values than this, and than `1 / DICTIONARY_SCAN_SHARE` of the jobs, is not scanned: the
/// values of the visited rows are tested.
pub(super) const DICTIONARY_SCAN_MAX_TEXTS: usize = 1 << 16;
/// See [`DICTIONARY_SCAN_MAX_TEXTS`].
pub(super) const DICTIONARY_SCAN_SHARE: usize = 8;
/// A prefix is looked up in the sorted order of a dictionary with at most this many values, because the order must be
/// computed at its first use. Each value of a larger dictionary is tested.
pub(super) const DICTIONARY_SORT_MAX_TEXTS: usize = 1 << 18;

/// For a dictionary with at least this many values, the first `contains` predicate builds a trigram index.
pub(super) const NGRAM_MIN_TEXTS: usize = 1 << 12;
/// The candidates of the trigram index are verified if they are at most `1 / NGRAM_SHARE` of the values; otherwise all
/// values are tested.
pub(super) const NGRAM_SHARE: usize = 4;
/// With at most this many candidates, the posting lists of the remaining trigrams are not intersected.
pub(super) const NGRAM_FEW_CANDIDATES: u64 = 16;

/// With at most this many candidates, or expected rows, their sort keys are gathered and sorted instead of searched by
/// zone maps or posting lists.
pub(super) const GATHER_MAX_CANDIDATES: u64 = 512;
/// The sort keys are also gathered and sorted if the offset plus the limit is at least `1 / GATHER_SHARE` of the
/// candidates.
pub(super) const GATHER_SHARE: u64 = 2;

/// The number of rows of a posting list that are looked up individually in the other sets before the remaining rows are
/// intersected.
pub(super) const LIST_PROBES: usize = 4096;

/// A chunk with at most this many candidates is examined as a whole, not by block.
pub(super) const CHUNK_PROBE_MAX_ROWS: u64 = 1024;
/// The search for an offset descends the tree of zone maps while at most this many nodes remain.
pub(super) const OFFSET_MAX_NODES: usize = 64;
/// A residual predicate is evaluated on the gathered columns of fewer rows than this, and on the whole chunk for more.
pub(super) const RESIDUAL_GATHER_ROWS: usize = 2048;

/// Up to this many groups have `2^REPLICA_BITS` accumulators each; more would not fit into the L2 cache.
pub(super) const REPLICATED_GROUPS: usize = 256;
/// The base-2 logarithm of the number of accumulators of a group. Adjacent rows often belong to the same group, and an
/// addition depends on the previous store to the same accumulator.
pub(super) const REPLICA_BITS: u32 = 2;
/// Groups of more values than this, and than the selected rows, are looked up in a hash table, because an accumulator
/// of each value would take more memory than those of the rows.
pub(super) const SPARSE_MIN_GROUPS: usize = 1 << 14;
/// The maximum size of the cached aggregates of a query per job, in bytes. A segment has as many chunks as this limit
/// requires. A query that requires more than four chunks per segment is not cached. With 7 bytes per job, a segment of
/// up to 1024 groups is one chunk. Groups by node at ten million jobs, after writes to 1 % of the chunks, then take 0.7
/// of the time that they take with segments of two chunks.
pub(super) const PARTIAL_BYTES_PER_JOB: usize = 7;
/// The minima and maxima of at most this many groups are looked up in each segment by binary search; for more, all
/// segments are scanned.
pub(super) const PARTIAL_MAX_SCANS: usize = 16;
/// The minimum number of rows of a partition of a scan: 16 chunks. A partition adds a task and a merge of results,
/// which takes as long as the aggregation of a few chunks.
pub(super) const SCAN_PARTITION_ROWS: usize = 1 << 17;
