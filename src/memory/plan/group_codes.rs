//! GROUP BY strings by numbers.
//!
//! DataFusion's `AggregateExec` has no specialisation for dictionary arrays: it converts the keys of each row to its row
//! format, which dominates the time of the plan. String keys are replaced by numbers, which are aggregated without their
//! strings, and a projection converts the numbers of the groups back.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, StringViewArray, UInt32Array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, UInt32Type};
use datafusion::catalog::Session;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, internal_err};
use datafusion::error::Result as EngineResult;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::logical_expr::logical_plan::{Aggregate, Projection};
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use parking_lot::Mutex;

use crate::memory::schema::text_type;
use crate::memory::storage::Dictionary;

/// Creates the physical plans of a session, with aggregates by numbers instead of strings. The numbers belong to the
/// physical plan, because an optimised plan may be kept and executed again.
#[derive(Debug)]
pub(super) struct GroupByCodes;

#[async_trait]
impl QueryPlanner for GroupByCodes {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let pool = &session.runtime_env().memory_pool;
        let plan = plan.clone().transform_up_with_subqueries(|node| by_codes(node, pool)).data()?;
        DefaultPhysicalPlanner::default().create_physical_plan(&plan, session).await
    }
}

/// Rewrites an aggregate by strings to one by their numbers.
fn by_codes(plan: LogicalPlan, pool: &Arc<dyn MemoryPool>) -> EngineResult<Transformed<LogicalPlan>> {
    let LogicalPlan::Aggregate(by_values) = plan else { return Ok(Transformed::no(plan)) };
    // The keys of grouping sets are those of all sets.
    let keys: Vec<Expr> = grouping_set_to_exprlist(&by_values.group_expr)?.into_iter().cloned().collect();
    let codes = |key: &Expr| {
        let is_text = key.get_type(by_values.input.schema()).is_ok_and(|data_type| data_type == text_type());
        is_text.then(|| Arc::new(KeyCodes::new(pool)))
    };
    let codes: Vec<Option<Arc<KeyCodes>>> = keys.iter().map(codes).collect();
    if codes.iter().all(Option::is_none) {
        return Ok(Transformed::no(LogicalPlan::Aggregate(by_values)));
    }
    let encoded = |key: Expr| match keys.iter().zip(&codes).find(|(known, _)| **known == key) {
        Some((_, Some(codes))) => KeyFunction::udf(codes, Direction::Encode).call(vec![key.unalias()]),
        _ => key,
    };
    let encode = |key: Expr| match key {
        Expr::GroupingSet(_) => key.map_children(|key| Ok(Transformed::yes(encoded(key)))).map(|set| set.data),
        key => Ok(encoded(key)),
    };
    let keys = by_values.group_expr.iter().cloned().map(encode).collect::<EngineResult<_>>()?;
    let by_codes = Aggregate::try_new(Arc::clone(&by_values.input), keys, by_values.aggr_expr.clone())?;
    let decoded = |at: usize| {
        let column = Expr::Column(Column::from(by_codes.schema.qualified_field(at)));
        let Some(Some(codes)) = codes.get(at) else { return column };
        let (qualifier, field) = by_values.schema.qualified_field(at);
        let value = KeyFunction::udf(codes, Direction::Decode).call(vec![column]);
        value.alias_qualified(qualifier.cloned(), field.name())
    };
    let columns = (0..by_values.schema.fields().len()).map(decoded).collect();
    let by_codes = Arc::new(LogicalPlan::Aggregate(by_codes));
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(columns, by_codes)?)))
}

/// The code of a dictionary's value that has not been looked up.
const UNKNOWN: u32 = u32::MAX;

/// The memory that a distinct string takes besides its text and a copy of the text, in bytes: two views of it, the
/// reference counters of a long one, and its entry of the hash index.
const TEXT_BYTES: usize = 72;

/// Numbers the distinct strings of a key, across the dictionaries of its batches.
#[derive(Debug)]
struct KeyCodes(Mutex<Coded>);

#[derive(Debug)]
struct Coded {
    texts: Dictionary,
    /// The total length of the texts.
    text_bytes: usize,
    /// The dictionary of the last batch, and the number of each of its values.
    last: ArrayRef,
    codes: Vec<u32>,
    reservation: MemoryReservation,
}

impl KeyCodes {
    fn new(pool: &Arc<dyn MemoryPool>) -> Self {
        // The size is limited by the share of an operator that spills, so that such operators can have the whole pool.
        let reservation = MemoryConsumer::new("group keys").with_can_spill(true).register(pool);
        let last = Arc::new(StringViewArray::new_null(0));
        Self(Mutex::new(Coded { texts: Dictionary::default(), text_bytes: 0, last, codes: Vec::new(), reservation }))
    }

    fn encode(&self, keys: &DictionaryArray<UInt32Type>) -> EngineResult<UInt32Array> {
        let mut coded = self.0.lock();
        let Coded { texts, text_bytes, last, codes, reservation } = &mut *coded;
        if !is_same(last, keys.values()) {
            *last = Arc::clone(keys.values());
            *codes = vec![UNKNOWN; last.len()];
        }
        let values = last.as_string_view();
        let mut code = |&key: &u32| {
            let code = &mut codes[key as usize];
            if *code == UNKNOWN {
                let (known, text) = (texts.len(), values.value(key as usize));
                *code = texts.intern(text);
                *text_bytes += if texts.len() > known { text.len() } else { 0 };
            }
            *code
        };
        let (keys, nulls) = (keys.keys().values(), keys.logical_nulls());
        let numbers: Vec<u32> = match &nulls {
            None => keys.iter().map(code).collect(),
            Some(nulls) => keys.iter().zip(nulls).map(|(key, valid)| if valid { code(key) } else { 0 }).collect(),
        };
        reservation.try_resize(TEXT_BYTES * texts.len() + 2 * *text_bytes + size_of_val(&codes[..]))?;
        Ok(UInt32Array::new(numbers.into(), nulls))
    }

    fn decode(&self, codes: &UInt32Array) -> EngineResult<ArrayRef> {
        Ok(Arc::new(DictionaryArray::try_new(codes.clone(), self.0.lock().texts.values())?))
    }
}

/// Whether two arrays share their buffers. An operator that rebuilds columns may have cloned one of them.
fn is_same(a: &ArrayRef, b: &ArrayRef) -> bool {
    Arc::ptr_eq(a, b) || (a.len() == b.len() && a.to_data().ptr_eq(&b.to_data()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Direction {
    Encode,
    Decode,
}

/// The function from the strings of a key to their numbers, or back.
#[derive(Debug)]
struct KeyFunction {
    codes: Arc<KeyCodes>,
    direction: Direction,
    signature: Signature,
}

impl KeyFunction {
    fn udf(codes: &Arc<KeyCodes>, direction: Direction) -> ScalarUDF {
        let signature = Signature::any(1, Volatility::Immutable);
        Self { codes: Arc::clone(codes), direction, signature }.into()
    }
}

impl PartialEq for KeyFunction {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.codes, &other.codes) && self.direction == other.direction
    }
}

impl Eq for KeyFunction {}

impl Hash for KeyFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (Arc::as_ptr(&self.codes), self.direction).hash(state);
    }
}

impl ScalarUDFImpl for KeyFunction {
    fn name(&self) -> &str {
        match self.direction {
            Direction::Encode => "code_of",
            Direction::Decode => "value_of",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(match self.direction {
            Direction::Encode => DataType::UInt32,
            Direction::Decode => text_type(),
        })
    }

    /// The result is nullable if the argument is: DataFusion compares the schema of a UNION with those of its inputs.
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> EngineResult<FieldRef> {
        let is_nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&[])?, is_nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let [argument] = args.args.as_slice() else { return internal_err!("the function has one argument") };
        let argument = argument.to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(match self.direction {
            Direction::Encode => Arc::new(self.codes.encode(argument.as_dictionary())?),
            Direction::Decode => self.codes.decode(argument.as_primitive())?,
        }))
    }
}

#[cfg(test)]
#[cfg(feature = "sql")]
mod tests {
    use std::sync::Weak;

    use datafusion::arrow::array::{Int64Array, TimestampMicrosecondArray};
    use datafusion::arrow::datatypes::{Schema, SchemaRef, TimeUnit};
    use datafusion::arrow::record_batch::RecordBatch;
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::common::tree_node::TreeNodeRecursion;
    use datafusion::datasource::MemTable;
    use datafusion::execution::SessionStateBuilder;
    use datafusion::physical_expr::ScalarFunctionExpr;
    use datafusion::physical_plan::displayable;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;
    use crate::memory::sql_planner::SqlPlanner;

    /// Batches with shared and separate dictionaries, duplicate values in a dictionary, and nulls as codes and as
    /// values.
    fn batches(mut random: u64) -> (SchemaRef, Vec<RecordBatch>) {
        let mut below = move |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % bound
        };
        let schema = Arc::new(Schema::new(vec![
            Field::new("k", text_type(), true),
            Field::new("l", text_type(), true),
            Field::new("v", DataType::Int64, true),
            Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        ]));
        let mut dictionary: ArrayRef = Arc::new(StringViewArray::from(vec!["a"]));
        let other: ArrayRef = Arc::new(StringViewArray::from(vec![Some("x"), None, Some("y")]));
        let batch = |_| {
            if below(3) == 0 {
                let texts = 1 + below(20);
                let text = |_| (below(9) > 0).then(|| format!("t{}", below(12)));
                dictionary = Arc::new((0..texts).map(text).collect::<StringViewArray>());
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
        assert_eq!(shown.contains("code_of"), is_by_codes, "{shown}");
        let batches = datafusion::physical_plan::collect(plan, context.task_ctx()).await.unwrap();
        pretty_format_batches(&batches).unwrap().to_string()
    }

    /// A context that groups by codes, and one that does not.
    fn contexts(partitions: usize) -> [SessionContext; 2] {
        let state = || {
            let config = SessionConfig::new().with_target_partitions(partitions);
            SessionStateBuilder::new_with_default_features().with_config(config)
        };
        [state().with_query_planner(Arc::new(GroupByCodes)), state()]
            .map(|state| SessionContext::new_with_state(state.build()))
    }

    fn register(contexts: &[SessionContext], schema: &SchemaRef, partitions: &[Vec<RecordBatch>]) {
        for context in contexts {
            let table = MemTable::try_new(Arc::clone(schema), partitions.to_vec()).unwrap();
            context.deregister_table("t").unwrap();
            context.register_table("t", Arc::new(table)).unwrap();
        }
    }

    #[tokio::test]
    async fn groups_by_codes_are_those_by_values() {
        for (seed, partitions) in (0..12).map(|seed| (seed, 1)).chain((12..18).map(|seed| (seed, 3))) {
            let [by_codes, plain] = contexts(partitions);
            let (schema, batches) = batches(seed);
            let batches: Vec<_> = batches.chunks(batches.len().div_ceil(partitions)).map(<[_]>::to_vec).collect();
            register(&[by_codes.clone(), plain.clone()], &schema, &batches);
            for sql in [
                "SELECT k, count(*) FROM t GROUP BY k ORDER BY k",
                "SELECT k, count(v), sum(v), min(v), max(v), avg(v + 1) FROM t GROUP BY k ORDER BY k",
                "SELECT count(*) AS n, k FROM t WHERE v > 300 GROUP BY k HAVING count(*) > 1 ORDER BY k",
                "SELECT DISTINCT k FROM t ORDER BY k",
                "SELECT k, count(DISTINCT v), count(DISTINCT l) FROM t GROUP BY k ORDER BY k",
                "SELECT k, count(*) FILTER (WHERE v > 10) FROM t GROUP BY k ORDER BY k",
                "SELECT k, l, count(*), max(v) FROM t GROUP BY k, l ORDER BY k, l",
                "SELECT k, v, count(*) FROM t GROUP BY k, v HAVING k > 't3' ORDER BY k, v",
                "SELECT k, l, count(*), grouping(l) FROM t GROUP BY GROUPING SETS ((k, l), (k)) ORDER BY 1, 2, 3, 4",
                "SELECT k, v, max(v), grouping(k) FROM t GROUP BY ROLLUP (k, v) ORDER BY 1, 2, 3, 4",
                "SELECT l, k, count(DISTINCT v), grouping(k), grouping(l) FROM t GROUP BY CUBE (k, l) ORDER BY 1, 2, 3, 4, 5",
                "SELECT k, date_trunc('day', t) AS d, count(*), min(t) FROM t GROUP BY k, d ORDER BY k, d",
                "SELECT u.k, count(*) FROM t AS u JOIN t AS w ON u.k = w.l GROUP BY u.k ORDER BY u.k",
            ] {
                assert_eq!(answer(&by_codes, sql, true).await, answer(&plain, sql, false).await, "{seed}: {sql}");
            }
        }
    }

    /// The numbers that an expression of a plan refers to.
    fn codes_of(plan: &Arc<dyn ExecutionPlan>) -> Vec<Weak<KeyCodes>> {
        let mut found = Vec::new();
        plan.apply(|node| {
            node.apply_expressions(&mut |root| {
                root.apply(|expr| {
                    let call = expr.downcast_ref::<ScalarFunctionExpr>();
                    let key = call.and_then(|call| call.fun().inner().downcast_ref::<KeyFunction>());
                    found.extend(key.map(|key| Arc::downgrade(&key.codes)));
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })
        .unwrap();
        found
    }

    /// The optimised plan of a statement is kept.
    #[tokio::test]
    async fn the_strings_of_a_key_are_dropped_with_the_execution() {
        let [context, _] = contexts(1);
        let (schema, batches) = batches(1);
        let table = MemTable::try_new(schema, vec![batches]).unwrap();
        context.register_table("job", Arc::new(table)).unwrap();
        let planner = SqlPlanner::new(context.clone());
        for _ in 0..2 {
            let plan = planner.plan("SELECT k, count(*) FROM job GROUP BY k").await.unwrap();
            let codes = codes_of(&plan);
            datafusion::physical_plan::collect(plan, context.task_ctx()).await.unwrap();
            assert!(!codes.is_empty() && codes.iter().all(|codes| codes.upgrade().is_none()));
        }
    }
}
