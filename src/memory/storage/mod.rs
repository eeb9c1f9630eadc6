//! Storage: tables of record batches, dictionaries, and the indexes over them.
//!
//! | module | what it holds |
//! |---|---|
//! | `column`, `table` | chunks of a table: Arrow record batches, and builders while a batch writes to them |
//! | `jobs`, `runs`, `records` | the tables |
//! | `annotation` | a dictionary column a key and chunk |
//! | `arena`, `dictionary` | texts and other values, known by codes |
//! | `id`, `postings`, `bitmap_index`, `integer_index` | from values to rows |
//! | `ngram` | from parts of texts to the texts |
//! | `zone` | least and greatest values of blocks of rows |
//! | `partials` | aggregates of groups, kept a chunk |
//! | `tables` | a snapshot of all of these |

mod annotation;
mod arena;
mod bitmap_index;
mod column;
mod dictionary;
mod id;
mod integer_index;
mod jobs;
mod ngram;
mod partials;
mod postings;
mod records;
mod runs;
mod table;
mod tables;
mod zone;

pub(super) use arena::Arena;
pub(super) use bitmap_index::BitmapIndex;
pub(super) use column::{CHUNK_ROWS, first_row, locate};
pub(super) use dictionary::Dictionary;
pub(super) use id::{FixedId, JobId, RunId, ids};
pub(super) use integer_index::{IntegerIndex, ListedRows};
pub(super) use jobs::{JobChunk, JobIdBytes, JobPlace, JobRows, JobWriter, LatestRun, job_state};
pub(super) use partials::{GroupTotals, Partial, PartialKey};
pub(super) use postings::{PostingList, Postings, bitmap_bytes};
pub(super) use records::Records;
pub(super) use runs::{RunChunk, RunPlace, RunRows, RunWriter};
pub(super) use table::{Chunk, Table};
pub(super) use tables::{Dictionaries, Indexes, JobRecords, Tables};
pub(super) use zone::{BLOCK_ROWS, Node, Zone, ZoneTree, Zones};
