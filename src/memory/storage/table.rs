//! Tables of chunks, each a record batch, and their writer.

use std::sync::Arc;

use datafusion::arrow::array::Array;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;

use super::located_rows::{CHUNK_ROWS, locate};
use super::shared_list::SharedList;

/// The chunks of a table. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Table<C> {
    chunks: SharedList<Arc<C>>,
    len: usize,
}

impl<C> Default for Table<C> {
    fn default() -> Self {
        Self { chunks: SharedList::default(), len: 0 }
    }
}

impl<C: Chunk> Table<C> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn chunks(&self) -> &SharedList<Arc<C>> {
        &self.chunks
    }

    /// The chunk of a row, and the row's index in it.
    #[inline]
    pub(crate) fn locate(&self, row: u32) -> (&C, usize) {
        let (chunk, at) = locate(row);
        (&self.chunks[chunk], at)
    }

    /// The names of the columns, each with its size by chunk, in bytes.
    pub(crate) fn column_sizes(&self) -> impl Iterator<Item = (String, impl Iterator<Item = usize>)> {
        let schema = self.chunks.get(0).map_or_else(|| C::empty().batch().schema(), |chunk| chunk.batch().schema());
        (0..schema.fields().len()).map(move |column| {
            let bytes = move |chunk: &Arc<C>| chunk.batch().column(column).get_array_memory_size();
            (schema.field(column).name().clone(), self.chunks.iter().map(bytes))
        })
    }
}

/// A chunk of a table: up to [`CHUNK_ROWS`] rows.
pub(crate) trait Chunk: Clone {
    type Writer: Default;
    type Rows;

    fn empty() -> Self;
    fn batch(&self) -> &RecordBatch;
    fn open(self) -> Self::Writer;
    fn close(writer: Self::Writer) -> Result<Self, ArrowError>;
    fn rows(rows: &Self::Rows) -> usize;
    /// Appends `count` rows from `first` on.
    fn append(writer: &mut Self::Writer, rows: &Self::Rows, first: usize, count: usize);
}

/// The writer of a table.
///
/// A batch of ingestion opens each chunk that it writes to once, and closes all open chunks at its end.
#[derive(Debug)]
pub(crate) struct TableWriter<C: Chunk> {
    table: Table<C>,
    /// The writers of open chunks, by chunk. The table contains an empty chunk in place of each.
    open: Vec<Option<Box<C::Writer>>>,
    opened: Vec<usize>,
    empty: Arc<C>,
}

impl<C: Chunk> Default for TableWriter<C> {
    fn default() -> Self {
        Self { table: Table::default(), open: Vec::new(), opened: Vec::new(), empty: Arc::new(C::empty()) }
    }
}

impl<C: Chunk> TableWriter<C> {
    pub(crate) fn len(&self) -> usize {
        self.table.len
    }

    /// The table, for reads. No chunk may be open.
    pub(crate) fn table(&self) -> &Table<C> {
        debug_assert!(self.opened.is_empty(), "a chunk is open");
        &self.table
    }

    /// A chunk, or its writer if it is open.
    #[inline]
    pub(crate) fn chunk(&self, at: usize) -> Result<&C, &C::Writer> {
        match &self.open[at] {
            Some(writer) => Err(writer),
            None => Ok(&self.table.chunks[at]),
        }
    }

    /// The writer of a row's chunk, and the row's index in it. Opens the chunk.
    #[inline]
    pub(crate) fn locate(&mut self, row: u32) -> (&mut C::Writer, usize) {
        let (chunk, at) = locate(row);
        (self.writer(chunk), at)
    }

    /// The writer of a chunk. Opens the chunk.
    pub(crate) fn writer(&mut self, at: usize) -> &mut C::Writer {
        if self.open[at].is_none() {
            self.opened.push(at);
        }
        self.open[at].get_or_insert_with(|| {
            let chunk = std::mem::replace(&mut self.table.chunks[at], Arc::clone(&self.empty));
            Box::new(Arc::unwrap_or_clone(chunk).open())
        })
    }

    /// Appends rows. Calls `appended` with the writer of each chunk that received rows and the index of the first of
    /// them.
    pub(crate) fn append(&mut self, rows: &C::Rows, mut appended: impl FnMut(&mut C::Writer, usize)) {
        let count = C::rows(rows);
        let mut done = 0;
        while done < count {
            let (chunk, at) = locate(self.table.len as u32);
            if chunk == self.table.chunks.len() {
                self.table.chunks.push(Arc::clone(&self.empty));
                self.open.push(Some(Box::default()));
                self.opened.push(chunk);
            }
            let part = (count - done).min(CHUNK_ROWS - at);
            let writer = self.writer(chunk);
            C::append(writer, rows, done, part);
            appended(writer, at);
            self.table.len += part;
            done += part;
        }
    }

    /// Closes the open chunks: their builders become record batches.
    pub(crate) fn close(&mut self) -> Result<(), ArrowError> {
        for at in self.opened.drain(..) {
            if let Some(writer) = self.open[at].take() {
                self.table.chunks[at] = Arc::new(C::close(*writer)?);
            }
        }
        Ok(())
    }
}

/// Declares a table by its columns:
///
/// - `$chunk`: a record batch with an accessor per column, and further per-chunk data;
/// - `$cells`: the buffers of the record batch. A read of a single row through the record batch would follow three
///   pointers and check the type, which costs several times the read of the value;
/// - `$writer`: the builders of an open chunk;
/// - `$rows`: rows to append, an array per column;
/// - `$index`: the indices of the columns.
macro_rules! table {
    (
        $(#[$doc:meta])*
        $chunk:ident, $cells:ident, $writer:ident, $rows:ident, $index:ident {
            $($(#[$column_doc:meta])* $column:ident: $type:ty,)*
        }
        $(extras { $($(#[$extra_doc:meta])* $extra:ident: $extra_type:ty,)* })?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub(crate) struct $chunk {
            batch: RecordBatch,
            pub(crate) cells: $cells,
            $($($(#[$extra_doc])* pub(crate) $extra: $extra_type,)*)?
        }

        /// The buffers of a chunk.
        // Some columns are only read as arrays.
        #[allow(dead_code)]
        #[derive(Debug, Clone)]
        pub(crate) struct $cells {
            $($(#[$column_doc])* pub(crate) $column: <$type as ColumnType>::Cells,)*
        }

        /// An open chunk.
        #[derive(Debug, Default)]
        pub(crate) struct $writer {
            $($(#[$column_doc])* pub(crate) $column: <$type as ColumnType>::Writer,)*
            $($($(#[$extra_doc])* pub(crate) $extra: $extra_type,)*)?
        }

        /// Rows to append. All columns have the same length.
        #[derive(Debug, Clone)]
        pub(crate) struct $rows {
            $($(#[$column_doc])* pub(crate) $column: <$type as ColumnType>::Array,)*
        }

        /// The index of each column in the record batches of the table.
        #[allow(non_camel_case_types, dead_code)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $index { $($column,)* }

        #[allow(dead_code)]
        impl $index {
            pub(crate) const ALL: &[Self] = &[$(Self::$column,)*];

            pub(crate) fn named(name: &str) -> Option<Self> {
                let names = [$(stringify!($column),)*];
                names.iter().position(|of_column| *of_column == name).map(|at| Self::ALL[at])
            }
        }

        static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
            let fields = vec![$(
                Field::new(stringify!($column), <$type as ColumnType>::data_type(), <$type as ColumnType>::NULLABLE),
            )*];
            Arc::new(Schema::new(fields))
        });

        // Some columns are only read by index.
        #[allow(dead_code)]
        impl $chunk {
            fn new(batch: RecordBatch, $($($extra: $extra_type,)*)?) -> Self {
                let cells = $cells {
                    $($column: {
                        let array = batch.column($index::$column as usize);
                        <$type as ColumnType>::cells(<$type as ColumnType>::downcast(array))
                    },)*
                };
                Self { batch, cells, $($($extra,)*)? }
            }

            $($(#[$column_doc])*
            pub(crate) fn $column(&self) -> &<$type as ColumnType>::Array {
                <$type as ColumnType>::downcast(self.batch.column($index::$column as usize))
            })*
        }

        impl Chunk for $chunk {
            type Writer = $writer;
            type Rows = $rows;

            fn empty() -> Self {
                let batch = RecordBatch::new_empty(Arc::clone(&SCHEMA));
                Self::new(batch, $($(<$extra_type>::default(),)*)?)
            }

            fn batch(&self) -> &RecordBatch {
                &self.batch
            }

            fn open(self) -> $writer {
                // The columns can be changed in place only if nothing else refers to their buffers.
                drop(self.cells);
                let (_, columns, _) = self.batch.into_parts();
                let mut columns = columns.into_iter();
                $writer {
                    $($column: columns.next().map(<$type as ColumnType>::open).unwrap_or_default(),)*
                    $($($extra: self.$extra,)*)?
                }
            }

            fn close(writer: $writer) -> Result<Self, ArrowError> {
                let columns = vec![$(<$type as ColumnType>::close(writer.$column)?,)*];
                let batch = RecordBatch::try_new(Arc::clone(&SCHEMA), columns)?;
                Ok(Self::new(batch, $($(writer.$extra,)*)?))
            }

            fn rows(rows: &$rows) -> usize {
                let columns: &[&dyn Array] = &[$(&rows.$column,)*];
                columns.first().map_or(0, |first| first.len())
            }

            fn append(writer: &mut $writer, rows: &$rows, first: usize, count: usize) {
                $(<$type as ColumnType>::append(&mut writer.$column, &rows.$column.slice(first, count));)*
            }
        }
    };
}

pub(super) use table;
