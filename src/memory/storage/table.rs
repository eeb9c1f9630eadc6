//! Tables of chunks, and what declares their columns.

use std::sync::Arc;

use super::column::locate;

/// Chunks of rows. Cloning shares them.
#[derive(Debug, Clone)]
pub(crate) struct ChunkTable<C> {
    pub(super) chunks: Vec<Arc<C>>,
    pub(super) len: usize,
}

impl<C> Default for ChunkTable<C> {
    fn default() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }
}

impl<C: Clone> ChunkTable<C> {
    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn chunks(&self) -> &[Arc<C>] {
        &self.chunks
    }

    /// The chunk of a row, and the row's place in it.
    #[inline]
    pub(crate) fn locate(&self, row: u32) -> (&C, usize) {
        let (chunk, at) = locate(row);
        (&self.chunks[chunk], at)
    }

    /// The same, to write to: what a reader holds is copied first.
    #[inline]
    pub(crate) fn locate_mut(&mut self, row: u32) -> (&mut C, usize) {
        let (chunk, at) = locate(row);
        (Arc::make_mut(&mut self.chunks[chunk]), at)
    }
}

/// Declares a table from the list of its columns:
///
/// - `$rows`: rows on their way into the table, a vector a column;
/// - `$chunk`: up to `CHUNK_ROWS` rows at rest, a shared column each, and what else the table keeps a chunk;
/// - `$table`: a [`ChunkTable`] of them.
macro_rules! table {
    (
        $(#[$doc:meta])*
        $table:ident, $chunk:ident, $rows:ident {
            $($(#[$column_doc:meta])* $column:ident: $type:ty,)*
        }
        $(extras { $($(#[$extra_doc:meta])* $extra:ident: $extra_type:ty,)* })?
    ) => {
        $(#[$doc])*
        pub(crate) type $table = ChunkTable<$chunk>;

        /// A chunk of the table. Cloning shares its columns.
        #[derive(Debug, Clone, Default)]
        pub(crate) struct $chunk {
            $($(#[$column_doc])* pub(crate) $column: Column<$type>,)*
            $($($(#[$extra_doc])* pub(crate) $extra: $extra_type,)*)?
        }

        /// Rows to append, a vector a column, all of one length.
        #[derive(Debug, Default)]
        pub(crate) struct $rows {
            $($(#[$column_doc])* pub(crate) $column: Vec<$type>,)*
        }

        impl ChunkTable<$chunk> {
            /// Appends rows, filling the last chunk before another is begun. `appended` hears of
            /// each chunk that got rows, and from which place on.
            pub(crate) fn append(&mut self, rows: $rows, mut appended: impl FnMut(&mut $chunk, usize)) {
                let mut left = rows.ids.len();
                $(let mut $column = rows.$column.into_iter();)*
                while left > 0 {
                    let (_, at) = locate(self.len as u32);
                    if at == 0 {
                        self.chunks.push(Arc::default());
                    }
                    let Some(chunk) = self.chunks.last_mut().map(Arc::make_mut) else { return };
                    let part = left.min(CHUNK_ROWS - at);
                    $(chunk.$column.extend($column.by_ref().take(part));)*
                    appended(chunk, at);
                    self.len += part;
                    left -= part;
                }
            }

            /// Bytes of each column over all chunks.
            pub(crate) fn column_bytes(&self) -> Vec<(&'static str, usize)> {
                vec![$((stringify!($column), self.chunks.iter().map(|chunk| chunk.$column.heap_bytes()).sum()),)*]
            }
        }
    };
}

pub(super) use table;
