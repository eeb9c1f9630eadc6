//! Times in SQL: literals and types of times have microsecond precision, like the columns.
//!
//! DataFusion's `TIMESTAMP` is in nanoseconds, which overflow in 2262; stored times extend to 2299.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, IntervalMonthDayNano, TimeUnit};
use datafusion::common::{ScalarValue, not_impl_err};
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::logical_expr::{Expr, cast, lit};
use datafusion::sql::sqlparser::ast;

pub(super) const TIME: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// Plans the SQL types `TIMESTAMP` and `TIMESTAMPTZ`.
#[derive(Debug)]
pub(super) struct TimeTypes;

impl TypePlanner for TimeTypes {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> EngineResult<Option<FieldRef>> {
        // An explicit precision is not changed.
        let is_time = matches!(sql_type, ast::DataType::Timestamp(None, _) | ast::DataType::Datetime(None));
        Ok(is_time.then(|| Arc::new(Field::new("", TIME, true))))
    }
}

/// The operand of a comparison with a value of type `other`.
///
/// A string literal that is compared with a time has the type of time columns: DataFusion's type coercion would cast
/// both sides to nanoseconds. An interval is a number of microseconds, with months of 30 days, as in PostgreSQL:
/// DataFusion would compare its months, days and nanoseconds one after another.
pub(super) fn compared(operand: Expr, data_type: &DataType, other: &DataType) -> EngineResult<Expr> {
    match (data_type, other) {
        (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, DataType::Timestamp(TimeUnit::Microsecond, _))
            if matches!(operand, Expr::Literal(..)) =>
        {
            Ok(cast(operand, TIME))
        }
        (DataType::Interval(_), DataType::Interval(_) | DataType::Duration(_)) => match operand {
            Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) => {
                Ok(lit(ScalarValue::DurationMicrosecond(Some(micros(interval)))))
            }
            _ => not_impl_err!("comparisons of intervals that are not literals"),
        },
        _ => Ok(operand),
    }
}

fn micros(IntervalMonthDayNano { months, days, nanoseconds }: IntervalMonthDayNano) -> i64 {
    let days = i64::from(months) * 30 + i64::from(days);
    days * 86_400_000_000 + nanoseconds / 1000
}
