//! Text tables on standard output.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

/// The placeholder for a missing value, in text and HTML.
pub const MISSING: &str = "–";

/// A table from its header and rows. The first columns are aligned left, those with numbers right.
pub fn table(names: usize, header: Vec<String>, rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(header).add_rows(rows);
    table.column_iter_mut().skip(names).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

/// Formats a value, or the placeholder for a missing one.
pub fn or_missing<T>(value: Option<T>, format: impl Fn(T) -> String) -> String {
    value.map_or_else(|| MISSING.to_owned(), format)
}
