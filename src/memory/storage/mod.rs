//! Storage: tables of record batches, dictionaries, and indexes.
//!
//! | module | contents |
//! |---|---|
//! | `located_rows` | the chunks of rows, and reads of rows in several chunks |
//! | `column`, `table` | chunks of a table: Arrow record batches, opened as builders by a batch of ingestion |
//! | `jobs`, `runs`, `records`, `reference` | the tables, and references between them |
//! | `sparse` | columns of which few rows have a value |
//! | `annotation` | the keys and values of annotations, and those of the rows of a chunk |
//! | `shared_list` | lists that snapshots share by leaf |
//! | `arena`, `dictionary` | append-only values, and dictionaries |
//! | `id` | ids of a fixed width |
//! | `id_index`, `postings`, `bitmap_index`, `integer_index` | indexes from values to rows |
//! | `recent` | an index of the latest transitions |
//! | `row_set`, `window` | sets of rows that snapshots share by window |
//! | `ngram` | trigram indexes for substring searches |
//! | `zone` | zone maps: the minimum and maximum of a range of rows |
//! | `partials` | cached aggregates of groups |
//! | `tables` | a snapshot of the store |
//! | `caches` | the budget of the caches |

mod annotation;
mod arena;
mod bitmap_index;
mod caches;
mod column;
mod dictionary;
mod id;
mod id_index;
mod integer_index;
mod jobs;
mod located_rows;
mod ngram;
mod partials;
mod postings;
mod recent;
mod records;
mod reference;
mod row_set;
mod runs;
mod shared_list;
mod sparse;
mod table;
mod tables;
mod window;
mod zone;

pub(super) use annotation::AnnotationCatalog;
pub(super) use arena::Arena;
pub(super) use bitmap_index::{BitmapIndex, CodeChanges};
pub(super) use caches::TextCache;
pub(super) use column::OptionalCells;
pub(super) use dictionary::{Dictionary, TextList};
pub(super) use id::{FixedId, JobId, RunId};
pub(super) use integer_index::{IntegerIndex, ListedRows};
pub(super) use jobs::{JobCells, JobChunk, JobColumnIndex, JobRows, JobWriter, job_state};
pub(super) use located_rows::{CHUNK_ROWS, LocatedRows, first_row, locate};
pub(super) use partials::{CachedGroups, GroupAccumulator, GroupTotals, PartialKey, TotalsUpdate};
pub(super) use postings::{PostingList, Postings};
pub(super) use records::Records;
pub(super) use reference::Reference;
pub(super) use row_set::{RowSet, visit_bitmap};
pub(super) use runs::{RunCells, RunChunk, RunColumnIndex, RunRows, RunWriter};
pub(super) use sparse::{Sparse, UNREAD_OF_JOBS, UNREAD_OF_RUNS};
pub(super) use table::Chunk;
pub(super) use tables::{Dictionaries, Indexes, JobRecords, Tables};
pub(super) use window::{by_window, whole_window, window_of};
pub(super) use zone::{BLOCK_ROWS, GROUP_ROWS, Node, Zone, ZoneTree, Zones};
