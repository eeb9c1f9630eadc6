//! GROUP BY dictionary columns: rows are grouped by their codes, and only the distinct keys are hashed.
//!
//! DataFusion's `AggregateExec` has no specialisation for dictionary keys: it converts the keys to its row format and
//! hashes each row, which dominates the time of the plan.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, UInt32Array, new_null_array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{exec_err, internal_err};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, InputOrderMode, PlanProperties,
};
use futures::{StreamExt, TryStreamExt, stream};
use hashbrown::HashMap;

use crate::memory::cost::DENSE_MAX_COMBINATIONS;

/// Replaces each `AggregateExec` that groups by dictionary columns only.
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

/// An aggregation over a single partition, by dictionary columns.
#[derive(Debug)]
pub(super) struct DictionaryAggregateExec {
    input: Arc<dyn ExecutionPlan>,
    keys: Vec<Column>,
    aggregates: Vec<Arc<AggregateFunctionExpr>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl DictionaryAggregateExec {
    /// The operator that replaces an `AggregateExec`, if the operator supports it.
    fn replacing(plan: &AggregateExec) -> Option<Self> {
        let is_whole = matches!(plan.mode(), AggregateMode::Single)
            && plan.group_expr().is_single()
            && *plan.input_order_mode() == InputOrderMode::Linear
            && plan.limit_options().is_none()
            && plan.input().output_partitioning().partition_count() == 1;
        let keys = plan.group_expr().expr().iter().map(|(key, _)| key.downcast_ref::<Column>().cloned());
        let keys = keys.collect::<Option<Vec<_>>>().filter(|keys| !keys.is_empty())?;
        let schema = plan.input_schema();
        let is_dictionary = |key: &Column| match schema.field(key.index()).data_type() {
            DataType::Dictionary(codes, _) => **codes == DataType::UInt32,
            _ => false,
        };
        let is_plain = |aggregate: &Arc<AggregateFunctionExpr>| {
            !aggregate.is_distinct() && aggregate.order_bys().is_empty() && aggregate.groups_accumulator_supported()
        };
        let are_plain =
            plan.aggr_expr().iter().all(is_plain) && plan.filter_expr().iter().all(|filter| filter.is_none());
        (is_whole && keys.iter().all(is_dictionary) && are_plain).then(|| Self {
            input: Arc::clone(plan.input()),
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
        let keys: Vec<&str> = self.keys.iter().map(Column::name).collect();
        write!(f, "DictionaryAggregateExec: gby=[{}], aggr=[{}]", keys.join(", "), aggregates.join(", "))
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
        let keys = self.keys.iter().map(|key| Arc::new(key.clone()) as Arc<dyn PhysicalExpr>);
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
        Ok(Arc::new(Self {
            input,
            keys: self.keys.clone(),
            aggregates: self.aggregates.clone(),
            properties: Arc::clone(&self.properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }))
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
            metrics.record_output(groups.num_rows());
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

/// The group of a combination that has not been looked up.
const UNKNOWN: u32 = u32::MAX;

/// The group of each combination of codes.
enum Lookup {
    Places(Vec<u32>),
    Hashed(HashMap<usize, u32>),
}

impl Lookup {
    fn new(combinations: Option<usize>) -> Self {
        match combinations {
            Some(count) if count <= DENSE_MAX_COMBINATIONS => Self::Places(vec![UNKNOWN; count]),
            _ => Self::Hashed(HashMap::new()),
        }
    }

    fn set(&mut self, combination: usize, group: u32) {
        match self {
            Self::Places(places) => places[combination] = group,
            Self::Hashed(groups) => {
                groups.insert(combination, group);
            }
        }
    }

    /// Writes the group of each row to `groups`; returns the combinations without a group.
    fn of_rows(&self, combinations: &[usize], groups: &mut Vec<usize>) -> Vec<usize> {
        groups.clear();
        match self {
            Self::Places(places) => groups.extend(combinations.iter().map(|&at| places[at] as usize)),
            Self::Hashed(known) => {
                groups.extend(combinations.iter().map(|at| known.get(at).map_or(UNKNOWN, |&group| group) as usize));
            }
        }
        let unknown = groups.iter().zip(combinations).filter(|(group, _)| **group == UNKNOWN as usize);
        let mut unknown: Vec<usize> = unknown.map(|(_, &at)| at).collect();
        unknown.sort_unstable();
        unknown.dedup();
        unknown
    }
}

/// The groups of combinations of codes.
struct Groups {
    /// The dictionaries of the last batch.
    dictionaries: Vec<ArrayRef>,
    lookup: Lookup,
    /// The groups of distinct keys, across dictionaries.
    of_text: Box<dyn GroupValues>,
    /// The combination of codes of each row of a batch; kept to reuse its allocation.
    combinations: Vec<usize>,
}

impl Groups {
    fn new(values: &[&DataType]) -> EngineResult<Self> {
        let fields: Vec<_> = values.iter().map(|&values| Field::new("key", values.clone(), true)).collect();
        Ok(Self {
            dictionaries: values.iter().map(|values| new_null_array(values, 0)).collect(),
            lookup: Lookup::new(Some(1)),
            of_text: new_group_values(Arc::new(Schema::new(fields)), &GroupOrdering::None)?,
            combinations: Vec::new(),
        })
    }

    /// The group of each row.
    fn of_rows(&mut self, keys: &[&DictionaryArray<UInt32Type>], groups: &mut Vec<usize>) -> EngineResult<()> {
        if !self.dictionaries.iter().zip(keys).all(|(dictionary, keys)| is_same(dictionary, keys.values())) {
            self.dictionaries = keys.iter().map(|keys| Arc::clone(keys.values())).collect();
            let count = |count: usize, dictionary: &ArrayRef| count.checked_mul(dictionary.len() + 1);
            let combinations = self.dictionaries.iter().try_fold(1, count);
            if combinations.is_none() {
                return exec_err!("the grouped columns have too many distinct values together");
            }
            self.lookup = Lookup::new(combinations);
        }
        self.combine(keys);
        let unknown = self.lookup.of_rows(&self.combinations, groups);
        if !unknown.is_empty() {
            self.look_up(&unknown)?;
            self.lookup.of_rows(&self.combinations, groups);
        }
        Ok(())
    }

    /// Combines the codes of each row into one number. A null has the code after the last one.
    fn combine(&mut self, keys: &[&DictionaryArray<UInt32Type>]) {
        self.combinations.clear();
        self.combinations.resize(keys.first().map_or(0, |keys| keys.len()), 0);
        for keys in keys {
            let none = keys.values().len();
            let codes = keys.keys();
            let rows = self.combinations.iter_mut();
            match codes.nulls() {
                None => {
                    rows.zip(codes.values()).for_each(|(row, &code)| *row = *row * (none + 1) + code as usize);
                }
                Some(_) => rows.zip(codes).for_each(|(row, code)| {
                    *row = *row * (none + 1) + code.map_or(none, |code| code as usize);
                }),
            }
        }
    }

    /// Finds or creates the groups of combinations by their values.
    fn look_up(&mut self, combinations: &[usize]) -> EngineResult<()> {
        let mut scale = 1;
        let mut texts = Vec::with_capacity(self.dictionaries.len());
        for dictionary in self.dictionaries.iter().rev() {
            let none = dictionary.len();
            let code = |&combination: &usize| {
                let code = combination / scale % (none + 1);
                (code < none).then_some(code as u32)
            };
            let codes: UInt32Array = combinations.iter().map(code).collect();
            texts.push(take(dictionary, &codes, None)?);
            scale *= none + 1;
        }
        texts.reverse();
        let mut groups = Vec::new();
        self.of_text.intern(&texts, &mut groups)?;
        for (&combination, group) in combinations.iter().zip(groups) {
            self.lookup.set(combination, group as u32);
        }
        Ok(())
    }

    /// The key columns, a row per group.
    fn keys(&mut self) -> EngineResult<Vec<ArrayRef>> {
        self.of_text.emit(EmitTo::All)?.into_iter().map(as_dictionary).collect()
    }
}

/// Whether two arrays share their buffers. An operator that rebuilds columns may have cloned one of them.
fn is_same(a: &ArrayRef, b: &ArrayRef) -> bool {
    Arc::ptr_eq(a, b) || (a.len() == b.len() && a.to_data().ptr_eq(&b.to_data()))
}

/// Converts distinct strings to a dictionary array.
fn as_dictionary(texts: ArrayRef) -> EngineResult<ArrayRef> {
    let codes = UInt32Array::from_iter((0..texts.len()).map(|at| texts.is_valid(at).then_some(at as u32)));
    Ok(Arc::new(DictionaryArray::try_new(codes, texts)?))
}

/// An aggregate with its argument expressions.
struct Aggregate {
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    accumulator: Box<dyn GroupsAccumulator>,
}

/// The state of an aggregation.
struct Aggregation {
    schema: SchemaRef,
    keys: Vec<usize>,
    groups: Groups,
    aggregates: Vec<Aggregate>,
    /// The groups of the rows of a batch; kept to reuse its allocation.
    of_rows: Vec<usize>,
}

impl Aggregation {
    fn new(plan: &DictionaryAggregateExec) -> EngineResult<Self> {
        let input = plan.input.schema();
        let values = |key: &Column| match input.field(key.index()).data_type() {
            DataType::Dictionary(_, values) => Ok(values.as_ref()),
            other => internal_err!("a key is a dictionary, not {other}"),
        };
        let values = plan.keys.iter().map(values).collect::<EngineResult<Vec<_>>>()?;
        let aggregate = |aggregate: &Arc<AggregateFunctionExpr>| {
            let accumulator = aggregate.create_groups_accumulator()?;
            Ok(Aggregate { arguments: aggregate.expressions(), accumulator })
        };
        Ok(Self {
            schema: plan.schema(),
            keys: plan.keys.iter().map(Column::index).collect(),
            groups: Groups::new(&values)?,
            aggregates: plan.aggregates.iter().map(aggregate).collect::<EngineResult<_>>()?,
            of_rows: Vec::new(),
        })
    }

    fn update(&mut self, batch: &RecordBatch) -> EngineResult<()> {
        let keys: Vec<_> = self.keys.iter().map(|&key| batch.column(key).as_dictionary::<UInt32Type>()).collect();
        self.groups.of_rows(&keys, &mut self.of_rows)?;
        let count = self.groups.of_text.len();
        for Aggregate { arguments, accumulator } in &mut self.aggregates {
            let arguments = arguments.iter().map(|expr| expr.evaluate(batch)?.into_array(batch.num_rows()));
            let arguments = arguments.collect::<EngineResult<Vec<_>>>()?;
            accumulator.update_batch(&arguments, &self.of_rows, None, count)?;
        }
        Ok(())
    }

    fn finish(mut self) -> EngineResult<RecordBatch> {
        let mut columns = self.groups.keys()?;
        for aggregate in &mut self.aggregates {
            columns.push(aggregate.accumulator.evaluate(EmitTo::All)?);
        }
        Ok(RecordBatch::try_new(self.schema, columns)?)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, StringArray};
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
            let keys = DictionaryArray::new(keys, Arc::clone(&dictionary));
            let others = DictionaryArray::new(others, Arc::clone(&other));
            let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(others), Arc::new(values)];
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

    #[cfg(feature = "sql")]
    #[tokio::test]
    async fn dictionary_aggregate_matches_aggregate_exec() {
        let config = || SessionConfig::new().with_target_partitions(1);
        let state = SessionStateBuilder::new_with_default_features().with_config(config());
        let by_codes =
            SessionContext::new_with_state(state.with_physical_optimizer_rule(Arc::new(DictionaryAggregation)).build());
        let plain = SessionContext::new_with_config(config());
        for seed in 0..60 {
            let (schema, batches) = batches(seed);
            for context in [&by_codes, &plain] {
                let table = MemTable::try_new(Arc::clone(&schema), vec![batches.clone()]).unwrap();
                context.deregister_table("t").unwrap();
                context.register_table("t", Arc::new(table)).unwrap();
            }
            for sql in [
                "SELECT k, count(*) FROM t GROUP BY k ORDER BY k",
                "SELECT k, count(v), sum(v), min(v), max(v), avg(v + 1) FROM t GROUP BY k ORDER BY k",
                "SELECT count(*) AS n, k FROM t WHERE v > 300 GROUP BY k HAVING count(*) > 1 ORDER BY k",
                "SELECT DISTINCT k FROM t ORDER BY k",
                "SELECT k, count(DISTINCT v) FROM t GROUP BY k ORDER BY k",
                "SELECT k, l, count(*), max(v) FROM t GROUP BY k, l ORDER BY k, l",
            ] {
                assert_eq!(answer(&by_codes, sql, true).await, answer(&plain, sql, false).await, "{seed}: {sql}");
            }
            for sql in [
                "SELECT k, count(DISTINCT v), count(DISTINCT l) FROM t GROUP BY k ORDER BY k",
                "SELECT k, count(*) FILTER (WHERE v > 10) FROM t GROUP BY k ORDER BY k",
                "SELECT k, v, count(*) FROM t GROUP BY k, v ORDER BY k, v",
                "SELECT v, count(*) FROM t GROUP BY v ORDER BY v",
            ] {
                assert_eq!(answer(&by_codes, sql, false).await, answer(&plain, sql, false).await, "{seed}: {sql}");
            }
        }
    }
}
