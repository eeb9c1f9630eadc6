//! The plan node of groups.

use std::fmt;
use std::sync::Arc;

use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result as EngineResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::stream;

use super::scan::properties;
use crate::memory::query::{Selected, groups};
use crate::memory::storage::Tables;
use crate::query::GroupQuery;

/// Groups selected jobs and aggregates each group, in one pass over dense arrays.
///
/// It stands where DataFusion's `AggregateExec` would: that one has no fast path for dictionary
/// keys, and took over ten times as long here.
#[derive(Debug)]
pub(super) struct JobGroupExec {
    tables: Arc<Tables>,
    selected: Arc<Selected>,
    query: GroupQuery,
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
}

impl JobGroupExec {
    /// The groups of a query in its order, at most `limit` of them.
    pub(super) fn new(tables: Arc<Tables>, selected: Selected, query: GroupQuery, limit: Option<usize>) -> Self {
        let schema = Arc::new(groups::schema(query.aggregates()));
        let properties = Arc::new(properties(schema, None));
        Self { tables, selected: Arc::new(selected), query, limit, properties }
    }
}

impl DisplayAs for JobGroupExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = self.selected.index.join(" ∩ ");
        write!(f, "JobGroupExec: by={:?}, index=[{index}], limit={:?}", self.query.group_by(), self.limit)
    }
}

impl ExecutionPlan for JobGroupExec {
    fn name(&self) -> &str {
        "JobGroupExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> EngineResult<TreeNodeRecursion>,
    ) -> EngineResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("groups have no children") }
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> EngineResult<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("groups have one partition, not partition {partition}");
        }
        let (tables, selected) = (Arc::clone(&self.tables), Arc::clone(&self.selected));
        let (query, limit, schema) = (self.query.clone(), self.limit, self.schema());
        let batch = async move { groups::batch(&tables, &selected, &query, limit, schema) };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream::once(batch))))
    }
}
