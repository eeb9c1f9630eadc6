//! The scan of tables other than `job`, and the plan properties of all leaves.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result as EngineResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{StreamExt, stream};

use crate::memory::query::consume_budget;

/// Batches, created on demand.
pub(super) type Batches = Box<dyn Iterator<Item = EngineResult<RecordBatch>> + Send>;

/// The source of a scan.
pub(super) trait ScanSource: fmt::Debug + Send + Sync {
    /// The name in EXPLAIN.
    fn name(&self) -> &'static str;

    /// The rows, in batches of `schema`.
    fn batches(self: Arc<Self>, schema: SchemaRef) -> Batches;

    /// The details in EXPLAIN, after the name.
    fn describe(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }

    /// The source with a limit.
    fn with_limit(&self, limit: usize) -> Option<Arc<dyn ScanSource>>;

    /// The limit.
    fn limit(&self) -> Option<usize>;
}

/// A scan of a source, with one partition.
#[derive(Debug)]
pub(super) struct ScanExec {
    source: Arc<dyn ScanSource>,
    properties: Arc<PlanProperties>,
}

impl ScanExec {
    /// A scan with the columns of `schema`.
    pub(super) fn new(source: Arc<dyn ScanSource>, schema: SchemaRef) -> Self {
        Self { source, properties: Arc::new(properties(schema, None)) }
    }

    fn with_source(&self, source: Arc<dyn ScanSource>) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self { source, properties: Arc::clone(&self.properties) })
    }
}

/// The properties of a leaf with one partition and an optional ordering.
pub(super) fn properties(schema: SchemaRef, ordering: Option<LexOrdering>) -> PlanProperties {
    let mut equivalences = EquivalenceProperties::new(schema);
    equivalences.add_orderings(ordering);
    PlanProperties::new(
        equivalences,
        Partitioning::UnknownPartitioning(1),
        EmissionType::Incremental,
        Boundedness::Bounded,
    )
    .with_scheduling_type(SchedulingType::Cooperative)
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> =
            self.properties.eq_properties.schema().fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "{}: columns=[{}]", self.source.name(), names.join(", "))?;
        self.source.describe(f)
    }
}

impl ExecutionPlan for ScanExec {
    fn name(&self) -> &str {
        self.source.name()
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
        if children.is_empty() { Ok(self) } else { internal_err!("a scan has no children") }
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> EngineResult<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("a scan has one partition, not partition {partition}");
        }
        let batches = stream::iter(Arc::clone(&self.source).batches(self.schema())).then(|batch| async {
            consume_budget().await;
            batch
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }

    fn supports_limit_pushdown(&self) -> bool {
        false
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(self.with_source(self.source.with_limit(limit?)?))
    }

    fn fetch(&self) -> Option<usize> {
        self.source.limit()
    }
}
