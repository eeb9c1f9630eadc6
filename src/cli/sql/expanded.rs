//! The expanded format of tables: a line for each column.

use std::io::{self, Write};

use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::cli::Failure;

/// When tables have the expanded format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expanded {
    Always,
    Never,
    /// If the table is wider than the terminal.
    IfWide,
}

impl Expanded {
    /// Whether a table of this width has the expanded format on a terminal with this number of columns.
    pub fn applies(self, width: usize, columns: Option<usize>) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::IfWide => columns.is_some_and(|columns| columns < width),
        }
    }
}

/// Writes rows as psql's expanded format does.
pub struct ExpandedRows {
    /// The names of the columns, padded to the same width.
    names: Vec<String>,
    rows: usize,
}

impl ExpandedRows {
    pub fn new(schema: &Schema) -> Self {
        let width = schema.fields().iter().map(|field| field.name().chars().count()).max().unwrap_or_default();
        let names = schema.fields().iter().map(|field| format!("{:width$}", field.name())).collect();
        Self { names, rows: 0 }
    }

    pub fn write(
        &mut self,
        batch: &RecordBatch,
        options: &FormatOptions<'_>,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), options));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            self.rows += 1;
            writeln!(out, "-[ RECORD {} ]-", self.rows)?;
            for (name, column) in self.names.iter().zip(&columns) {
                writeln!(out, "{name} | {}", column.value(row).try_to_string()?)?;
            }
        }
        Ok(())
    }

    pub fn finish(&self, out: &mut impl Write) -> io::Result<()> {
        if self.rows == 0 { writeln!(out, "(0 rows)") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    #[test]
    fn each_column_has_a_line() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let batch = RecordBatch::try_from_iter([("t", texts), ("number", numbers)]).unwrap();
        let (mut rows, mut out) = (ExpandedRows::new(&batch.schema()), Vec::new());
        assert!(rows.write(&batch, &FormatOptions::new().with_null("NULL"), &mut out).is_ok());
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "-[ RECORD 1 ]-\nt      | a\nnumber | 1\n-[ RECORD 2 ]-\nt      | NULL\nnumber | 2\n");
    }
}
