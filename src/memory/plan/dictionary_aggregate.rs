//! GROUP BY expressions whose values have codes: dictionary columns, and times truncated to a unit.
//!
//! DataFusion's `AggregateExec` has no specialisation for dictionary keys: it converts the keys to its row format and
//! hashes each row, which dominates the time of the plan.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::config::ConfigOptions;
use datafusion::common::internal_err;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, InputOrderMode, PlanProperties};
use futures::{StreamExt, TryStreamExt, stream};

use super::dictionary_groups::{DictionaryGroups, GroupExpr};

/// Replaces each `AggregateExec` that reads the input of the aggregation, if all of its keys have codes and its
/// aggregates have neither DISTINCT, FILTER nor ORDER BY.
#[derive(Debug)]
pub(super) struct DictionaryAggregation;

impl PhysicalOptimizerRule for DictionaryAggregation {
    fn name(&self) -> &str {
        "dictionary_aggregation"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let replace = |plan: Arc<dyn ExecutionPlan>| {
            let by_codes = plan.downcast_ref::<AggregateExec>().and_then(DictionaryAggregateExec::replacing);
            Ok(by_codes.map_or_else(
                || Transformed::no(plan),
                |by_codes| Transformed::yes(Arc::new(by_codes) as Arc<dyn ExecutionPlan>),
            ))
        };
        plan.transform_up(replace).data()
    }
}

/// An aggregation by keys that have codes. Each partition of the input is aggregated separately.
///
/// In partial mode, the output contains the states of the accumulators, which an `AggregateExec` in final mode merges.
#[derive(Debug, Clone)]
pub(super) struct DictionaryAggregateExec {
    input: Arc<dyn ExecutionPlan>,
    mode: AggregateMode,
    keys: Vec<GroupExpr>,
    aggregates: Vec<Arc<AggregateFunctionExpr>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl DictionaryAggregateExec {
    /// The operator that replaces an `AggregateExec`, if the operator supports it.
    fn replacing(plan: &AggregateExec) -> Option<Self> {
        use AggregateMode::{Partial, Single, SinglePartitioned};

        let reads_input = matches!(plan.mode(), Partial | Single | SinglePartitioned)
            && plan.group_expr().is_single()
            && *plan.input_order_mode() == InputOrderMode::Linear
            && plan.limit_options().is_none();
        let schema = plan.input_schema();
        let keys = plan.group_expr().expr().iter().map(|(key, _)| GroupExpr::new(key, &schema));
        let keys = keys.collect::<Option<Vec<_>>>().filter(|keys| !keys.is_empty())?;
        let is_plain = |aggregate: &Arc<AggregateFunctionExpr>| {
            !aggregate.is_distinct() && aggregate.order_bys().is_empty() && aggregate.groups_accumulator_supported()
        };
        let are_plain =
            plan.aggr_expr().iter().all(is_plain) && plan.filter_expr().iter().all(|filter| filter.is_none());
        (reads_input && are_plain).then(|| Self {
            input: Arc::clone(plan.input()),
            mode: *plan.mode(),
            keys,
            aggregates: plan.aggr_expr().to_vec(),
            properties: Arc::clone(plan.properties()),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

impl DisplayAs for DictionaryAggregateExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let aggregates: Vec<&str> = self.aggregates.iter().map(|aggregate| aggregate.name()).collect();
        let keys: Vec<String> = self.keys.iter().map(|key| key.expr().to_string()).collect();
        let (keys, aggregates) = (keys.join(", "), aggregates.join(", "));
        write!(f, "DictionaryAggregateExec: mode={:?}, gby=[{keys}], aggr=[{aggregates}]", self.mode)
    }
}

impl ExecutionPlan for DictionaryAggregateExec {
    fn name(&self) -> &str {
        "DictionaryAggregateExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> EngineResult<TreeNodeRecursion>,
    ) -> EngineResult<TreeNodeRecursion> {
        let arguments = self.aggregates.iter().flat_map(|aggregate| aggregate.expressions());
        let mut recursion = TreeNodeRecursion::Continue;
        let keys = self.keys.iter().map(|key| Arc::clone(key.expr()));
        for expr in keys.chain(arguments) {
            recursion = recursion.visit_sibling(|| visit(&expr))?;
        }
        Ok(recursion)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let Ok([input]) = <[_; 1]>::try_from(children) else { return internal_err!("an aggregation has one child") };
        Ok(Arc::new(Self { input, metrics: ExecutionPlanMetricsSet::new(), ..Self::clone(&self) }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        use datafusion::physical_plan::execution_plan::ChildrenPropertiesMode;

        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> EngineResult<SendableRecordBatchStream> {
        let batch_size = context.session_config().batch_size();
        let mut input = self.input.execute(partition, context)?;
        let mut aggregation = Aggregation::new(self)?;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let groups = async move {
            while let Some(batch) = input.next().await {
                let _timer = metrics.elapsed_compute().timer();
                aggregation.update(&batch?)?;
            }
            let _timer = metrics.elapsed_compute().timer();
            let groups = aggregation.finish()?;
            (&groups).record_output(&metrics);
            let starts = (0..groups.num_rows()).step_by(batch_size);
            let batches: Vec<_> =
                starts.map(|start| Ok(groups.slice(start, batch_size.min(groups.num_rows() - start)))).collect();
            Ok::<_, DataFusionError>(stream::iter(batches))
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream::once(groups).try_flatten())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// An aggregate with its argument expressions.
struct Aggregate {
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    accumulator: Box<dyn GroupsAccumulator>,
}

/// The state of the aggregation of a partition.
struct Aggregation {
    schema: SchemaRef,
    mode: AggregateMode,
    groups: DictionaryGroups,
    aggregates: Vec<Aggregate>,
    /// The groups of the rows of a batch; kept to reuse its allocation.
    of_rows: Vec<usize>,
}

impl Aggregation {
    fn new(plan: &DictionaryAggregateExec) -> EngineResult<Self> {
        let aggregate = |aggregate: &Arc<AggregateFunctionExpr>| {
            let accumulator = aggregate.create_groups_accumulator()?;
            Ok(Aggregate { arguments: aggregate.expressions(), accumulator })
        };
        Ok(Self {
            schema: plan.schema(),
            mode: plan.mode,
            groups: DictionaryGroups::new(&plan.keys)?,
            aggregates: plan.aggregates.iter().map(aggregate).collect::<EngineResult<_>>()?,
            of_rows: Vec::new(),
        })
    }

    fn update(&mut self, batch: &RecordBatch) -> EngineResult<()> {
        self.groups.of_rows(batch, &mut self.of_rows)?;
        let count = self.groups.len();
        for Aggregate { arguments, accumulator } in &mut self.aggregates {
            let arguments = arguments.iter().map(|expr| expr.evaluate(batch)?.into_array(batch.num_rows()));
            let arguments = arguments.collect::<EngineResult<Vec<_>>>()?;
            accumulator.update_batch(&arguments, &self.of_rows, None, count)?;
        }
        Ok(())
    }

    fn finish(mut self) -> EngineResult<RecordBatch> {
        let mut columns = self.groups.keys(&self.schema)?;
        for Aggregate { accumulator, .. } in &mut self.aggregates {
            match self.mode {
                AggregateMode::Partial => columns.extend(accumulator.state(EmitTo::All)?),
                _ => columns.push(accumulator.evaluate(EmitTo::All)?),
            }
        }
        Ok(RecordBatch::try_new(self.schema, columns)?)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{
        ArrayRef, DictionaryArray, Int64Array, StringArray, TimestampMicrosecondArray, UInt32Array,
    };
    use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::datasource::MemTable;
    use datafusion::execution::SessionStateBuilder;
    use datafusion::physical_plan::displayable;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    /// Batches with shared and separate dictionaries, duplicate values in a dictionary, and nulls as codes and as
    /// values.
    fn batches(mut random: u64) -> (SchemaRef, Vec<RecordBatch>) {
        let mut below = move |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % bound
        };
        let key = DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8));
        let schema = Arc::new(Schema::new(vec![
            Field::new("k", key.clone(), true),
            Field::new("l", key, true),
            Field::new("v", DataType::Int64, true),
            Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        ]));
        let mut dictionary: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        let other: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None, Some("y")]));
        let batch = |_| {
            if below(3) == 0 {
                let texts = 1 + below(20);
                let text = |_| (below(9) > 0).then(|| format!("t{}", below(12)));
                dictionary = Arc::new((0..texts).map(text).collect::<StringArray>());
            }
            let rows = below(50);
            let code = |_| (below(7) > 0).then(|| below(dictionary.len() as u64) as u32);
            let keys: UInt32Array = (0..rows).map(code).collect();
            let values: Int64Array = (0..rows).map(|_| (below(5) > 0).then(|| below(1000) as i64)).collect();
            let others: UInt32Array = (0..rows).map(|_| (below(7) > 0).then(|| below(3) as u32)).collect();
            let time = |_| (below(7) > 0).then(|| below(1 << 40) as i64 - (1 << 39));
            let times: TimestampMicrosecondArray = (0..rows).map(time).collect();
            let keys = DictionaryArray::new(keys, Arc::clone(&dictionary));
            let others = DictionaryArray::new(others, Arc::clone(&other));
            let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(others), Arc::new(values), Arc::new(times)];
            RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
        };
        let batches = (0..8).map(batch).collect();
        (schema, batches)
    }

    async fn answer(context: &SessionContext, sql: &str, is_by_codes: bool) -> String {
        let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
        let shown = displayable(plan.as_ref()).indent(false).to_string();
        assert_eq!(shown.contains("DictionaryAggregateExec"), is_by_codes, "{shown}");
        let batches = datafusion::physical_plan::collect(plan, context.task_ctx()).await.unwrap();
        pretty_format_batches(&batches).unwrap().to_string()
    }

    /// A context with the rule, and one without. In both, `date_trunc` is the function of the engine's sessions.
    #[cfg(feature = "sql")]
    fn contexts(partitions: usize) -> [SessionContext; 2] {
        let state = || {
            let config = SessionConfig::new().with_target_partitions(partitions);
            SessionStateBuilder::new_with_default_features().with_config(config)
        };
        [state().with_physical_optimizer_rule(Arc::new(DictionaryAggregation)), state()].map(|state| {
            let context = SessionContext::new_with_state(state.build());
            context.register_udf(crate::memory::plan::date_trunc::DateTrunc::new().into());
            context
        })
    }

    #[cfg(feature = "sql")]
    fn register(contexts: &[SessionContext], schema: &SchemaRef, partitions: &[Vec<RecordBatch>]) {
        for context in contexts {
            let table = MemTable::try_new(Arc::clone(schema), partitions.to_vec()).unwrap();
            context.deregister_table("t").unwrap();
            context.register_table("t", Arc::new(table)).unwrap();
        }
    }

    #[cfg(feature = "sql")]
    #[tokio::test]
    async fn dictionary_aggregate_matches_aggregate_exec() {
        for (seed, partitions) in (0..40).map(|seed| (seed, 1)).chain((40..60).map(|seed| (seed, 3))) {
            let [by_codes, plain] = contexts(partitions);
            let (schema, batches) = batches(seed);
            let batches: Vec<_> = batches.chunks(batches.len().div_ceil(partitions)).map(<[_]>::to_vec).collect();
            register(&[by_codes.clone(), plain.clone()], &schema, &batches);
            for sql in [
                "SELECT k, count(*) FROM t GROUP BY k ORDER BY k",
                "SELECT k, count(v), sum(v), min(v), max(v), avg(v + 1) FROM t GROUP BY k ORDER BY k",
                "SELECT count(*) AS n, k FROM t WHERE v > 300 GROUP BY k HAVING count(*) > 1 ORDER BY k",
                "SELECT DISTINCT k FROM t ORDER BY k",
                "SELECT k, count(DISTINCT v) FROM t GROUP BY k ORDER BY k",
                "SELECT k, l, count(*), max(v) FROM t GROUP BY k, l ORDER BY k, l",
                "SELECT date_trunc('hour', t) AS h, count(*), avg(v) FROM t GROUP BY h ORDER BY h",
                "SELECT date_trunc('second', t) AS s, count(*) FROM t GROUP BY s ORDER BY s",
                "SELECT k, date_trunc('day', t) AS d, count(*), min(t) FROM t GROUP BY k, d ORDER BY k, d",
            ] {
                assert_eq!(answer(&by_codes, sql, true).await, answer(&plain, sql, false).await, "{seed}: {sql}");
            }
            for sql in [
                "SELECT k, count(DISTINCT v), count(DISTINCT l) FROM t GROUP BY k ORDER BY k",
                "SELECT k, count(*) FILTER (WHERE v > 10) FROM t GROUP BY k ORDER BY k",
                "SELECT k, v, count(*) FROM t GROUP BY k, v ORDER BY k, v",
                "SELECT v, count(*) FROM t GROUP BY v ORDER BY v",
                "SELECT date_trunc('month', t) AS m, count(*) FROM t GROUP BY m ORDER BY m",
            ] {
                assert_eq!(answer(&by_codes, sql, false).await, answer(&plain, sql, false).await, "{seed}: {sql}");
            }
        }
    }

    /// The number of combinations of the codes of nine dictionaries exceeds 2^64.
    #[cfg(feature = "sql")]
    #[tokio::test]
    async fn more_combinations_than_a_word_has_values() {
        let contexts = contexts(1);
        let dictionary: ArrayRef = Arc::new((0..300).map(|at| Some(format!("t{at}"))).collect::<StringArray>());
        let column = |shift: u32| -> ArrayRef {
            let codes = UInt32Array::from_iter((0..500u32).map(|row| (row % 7 > 0).then(|| (row % 10 + shift) % 300)));
            Arc::new(DictionaryArray::new(codes, Arc::clone(&dictionary)))
        };
        let columns: Vec<_> = (0..9).map(column).collect();
        let fields = columns
            .iter()
            .enumerate()
            .map(|(at, column)| Field::new(format!("k{at}"), column.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
        register(&contexts, &schema, &[vec![batch.clone(), batch]]);
        let keys = (0..9).map(|at| format!("k{at}")).collect::<Vec<_>>().join(", ");
        let sql = format!("SELECT {keys}, count(*) FROM t GROUP BY {keys} ORDER BY {keys}");
        assert_eq!(answer(&contexts[0], &sql, true).await, answer(&contexts[1], &sql, false).await);
    }
}
