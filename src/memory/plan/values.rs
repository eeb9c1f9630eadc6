//! Conditions on one string column, such as `ILIKE`, which are evaluated on the values of its dictionary.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, DictionaryArray, UInt32Array};
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::TreeNode;
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr_rewriter::unnormalize_col;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::physical_expr::create_physical_expr;

use crate::memory::schema::text_type;
use crate::memory::storage::{Dictionary, Tables};
use crate::query::{Predicate, TextField};

/// A larger dictionary is not evaluated: a page visits few of its values.
const MAX_VALUES: usize = 1 << 14;

/// The predicate for the values that satisfy a condition. `None` if the condition is not on one string column, or holds
/// for NULL.
pub(super) fn predicate(tables: &Tables, condition: &Expr) -> Option<Predicate> {
    let [column] = condition.column_refs().into_iter().collect::<Vec<_>>()[..] else { return None };
    let field = TextField::ALL.into_iter().find(|field| field.column() == column.name)?;
    let dictionary = tables.dictionaries.of(&column.name).filter(|dictionary| dictionary.len() <= MAX_VALUES)?;
    let is_changing = |expr: &Expr| match expr {
        Expr::ScalarFunction(call) => Ok(call.func.signature().volatility != Volatility::Immutable),
        _ => Ok(false),
    };
    if condition.exists(is_changing).ok()? {
        return None;
    }
    // A condition that fails, such as a cast of a value that no selected row has, is left to the rows.
    Some(field.any_of(evaluated(&column.name, dictionary, condition).ok()??))
}

fn evaluated(column: &str, dictionary: &Dictionary, condition: &Expr) -> EngineResult<Option<Vec<String>>> {
    let schema = Arc::new(Schema::new(vec![Field::new(column, text_type(), true)]));
    let of_schema = DFSchema::try_from(Arc::clone(&schema))?;
    let condition = unnormalize_col(condition.clone());
    let context = PhysicalPlanningContext::default();
    let condition = create_physical_expr(&condition, &of_schema, &ExecutionProps::new(), &context)?;
    let count = dictionary.len() as u32;
    // The last row is NULL.
    let codes: UInt32Array = (0..count).map(Some).chain([None]).collect();
    let texts = DictionaryArray::try_new(codes, dictionary.values())?;
    let rows = RecordBatch::try_new(schema, vec![Arc::new(texts)])?;
    let holds = condition.evaluate(&rows)?.into_array(rows.num_rows())?;
    let Some(holds) = holds.as_boolean_opt() else { return Ok(None) };
    let holds_for = |row: u32| holds.is_valid(row as usize) && holds.value(row as usize);
    Ok((!holds_for(count))
        .then(|| (0..count).filter(|&code| holds_for(code)).map(|code| dictionary.text(code).to_string()).collect()))
}
