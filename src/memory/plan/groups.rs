//! Groups as a source of a scan.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;

use super::scan::{Batches, ScanSource};
use crate::memory::query::{Selected, groups};
use crate::memory::storage::Tables;
use crate::query::GroupQuery;

/// The groups of selected jobs, in the order of their query, up to a limit if there is one.
///
/// It stands where DataFusion's `AggregateExec` would: that one has no fast path for dictionary
/// keys, and took over ten times as long here.
#[derive(Debug, Clone)]
pub(super) struct GroupSource {
    pub(super) tables: Arc<Tables>,
    pub(super) selected: Arc<Selected>,
    pub(super) query: GroupQuery,
    pub(super) limit: Option<usize>,
}

impl ScanSource for GroupSource {
    fn name(&self) -> &'static str {
        "JobGroupExec"
    }

    fn batches(self: Arc<Self>, schema: SchemaRef) -> Batches {
        // Nothing is grouped before the batch is asked for.
        Box::new(std::iter::once_with(move || {
            groups::batch(&self.tables, &self.selected, &self.query, self.limit, schema)
        }))
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ", by={:?}, {}", self.query.group_by(), self.selected)?;
        self.limit.map_or(Ok(()), |limit| write!(f, ", limit={limit}"))
    }

    fn with_limit(&self, limit: usize) -> Option<Arc<dyn ScanSource>> {
        let limit = self.limit.map_or(limit, |before| before.min(limit));
        Some(Arc::new(Self { limit: Some(limit), ..self.clone() }))
    }

    fn limit(&self) -> Option<usize> {
        self.limit
    }
}
