//! Storage: tables of chunks in Arrow's layout, dictionaries, and the indexes over them.

mod annotation;
mod bitmap_index;
mod column;
mod dictionary;
mod id;
mod integer_index;
mod jobs;
mod postings;
mod records;
mod runs;
mod table;
mod tables;
mod texts;
mod zone;

pub(super) use annotation::KeyColumn;
pub(super) use bitmap_index::BitmapIndex;
pub(super) use column::{CHUNK_ROWS, Column, first_row, locate};
pub(super) use dictionary::{Dictionary, NONE};
pub(super) use id::{FixedId, JobId, RunId};
pub(super) use integer_index::ListedRows;
pub(super) use jobs::{JobChunk, JobRows, LatestRun, NULL};
pub(super) use postings::{PostingList, Postings, bitmap_bytes};
pub(super) use records::Records;
pub(super) use runs::{Message, RunChunk, RunRows};
pub(super) use tables::Tables;
pub(super) use zone::{BLOCK_ROWS, Node, Zone, ZoneTree, Zones};
