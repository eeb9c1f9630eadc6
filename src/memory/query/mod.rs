//! Queries: the rows of a selection, the first rows of an order, the totals of groups.
//!
//! | module | what it does |
//! |---|---|
//! | `select`, `answer` | from predicates to sets of rows, by the indexes |
//! | `residual`, `code_test`, `columns` | what no index answers, as DataFusion's expressions |
//! | `rows` | the selected rows of a chunk |
//! | `top_k`, `search`, `by_zones`, `by_lists` | the first rows of an order |
//! | `group_key`, `totals` | groups, numbered densely, and their aggregates |

mod answer;
mod by_lists;
mod by_zones;
mod code_test;
mod columns;
mod describe;
mod group_key;
mod pause;
mod residual;
mod rows;
mod search;
mod select;
#[cfg(test)]
mod tests;
mod top_k;
mod totals;

pub(super) use self::group_key::GroupKey;
pub(super) use self::pause::pause;
pub(super) use self::rows::ChunkRows;
pub(super) use self::search::Part;
pub(super) use self::select::Selected;
pub(super) use self::top_k::ordered_rows;
pub(super) use self::totals::{Totals, rounded};
