//! Queries: the rows of a selection, the top k rows of an order, and the accumulators of groups.
//!
//! | module | contents |
//! |---|---|
//! | `access_path` | the access path of a predicate |
//! | `select`, `rows` | the rows of a selection, in the table and in a chunk |
//! | `residual` | predicates without an index |
//! | `top_k`, `search`, `by_zones`, `by_lists` | the top k rows of an order |
//! | `group_key`, `accumulators` | groups with dense numbers, and their aggregates |
//! | `text_index` | the indexes of a dictionary that are built on demand |
//! | `budget` | cooperative scheduling |
//! | `describe` | predicates in EXPLAIN |

mod access_path;
mod accumulators;
mod budget;
mod by_lists;
mod by_zones;
mod describe;
mod group_key;
mod residual;
mod rows;
mod search;
mod select;
#[cfg(test)]
mod tests;
mod text_index;
mod top_k;

pub(super) use self::accumulators::{GroupAccumulators, rounded};
pub(super) use self::budget::{consume_budget, consume_budget_for};
pub(super) use self::group_key::GroupKey;
pub(super) use self::search::PageRange;
pub(super) use self::select::RowSelection;
pub(super) use self::top_k::{order_method, ordered_rows};
