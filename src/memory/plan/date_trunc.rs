//! `date_trunc` of stored times.
//!
//! DataFusion's function divides each time by a variable, which takes a third of the time of a query that groups jobs by
//! hour. Here the units up to days are constant divisors, which the compiler replaces by multiplications.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, FieldRef, TimestampMicrosecondType};
use datafusion::error::Result as EngineResult;
use datafusion::functions::datetime::date_trunc::DateTruncFunc;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature,
};

use super::times::TIME;

/// DataFusion's function, with a fast path.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DateTrunc(DateTruncFunc);

impl DateTrunc {
    pub(super) fn new() -> Self {
        Self(DateTruncFunc::new())
    }
}

impl ScalarUDFImpl for DateTrunc {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, types: &[DataType]) -> EngineResult<DataType> {
        self.0.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> EngineResult<FieldRef> {
        self.0.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        if let [ColumnarValue::Scalar(unit), ColumnarValue::Array(times)] = args.args.as_slice()
            && let Some(unit) = unit.try_as_str().flatten()
            && *times.data_type() == TIME
            && let Some(truncated) = truncate(times.as_primitive(), unit)
        {
            return Ok(ColumnarValue::Array(truncated));
        }
        self.0.invoke_with_args(args)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> EngineResult<SortProperties> {
        self.0.output_ordering(inputs)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.0.documentation()
    }
}

/// Truncates times to a unit of constant length; `None` for another unit.
fn truncate(times: &TimestampMicrosecondArray, unit: &str) -> Option<ArrayRef> {
    const MILLISECOND: i64 = 1000;
    const SECOND: i64 = 1000 * MILLISECOND;
    const MINUTE: i64 = 60 * SECOND;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;

    Some(match unit.to_lowercase().as_str() {
        "millisecond" => to_multiples::<MILLISECOND>(times),
        "second" => to_multiples::<SECOND>(times),
        "minute" => to_multiples::<MINUTE>(times),
        "hour" => to_multiples::<HOUR>(times),
        "day" => to_multiples::<DAY>(times),
        _ => return None,
    })
}

fn to_multiples<const MICROS: i64>(times: &TimestampMicrosecondArray) -> ArrayRef {
    Arc::new(times.unary::<_, TimestampMicrosecondType>(|time| time - time.rem_euclid(MICROS)))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::Field;
    use datafusion::common::ScalarValue;

    use super::*;

    #[test]
    fn results_equal_those_of_datafusion() {
        // From 1683 to 2256 at all hours, on both sides of the bounds of all units, with nulls.
        let days = (-9_000..9_000).map(|day: i64| day * 86_400_000_000 * 11);
        let base = days.zip(0..).map(|(day, at)| day + at * 7919 % 25 * 3_600_000_000);
        let times = base.enumerate().map(|(at, time)| (at % 7 > 0).then_some(time + at as i64 % 3 - 1));
        let times: ArrayRef = Arc::new(times.collect::<TimestampMicrosecondArray>());
        for unit in
            ["microsecond", "millisecond", "Second", "minute", "HOUR", "day", "week", "month", "quarter", "year"]
        {
            let args = || ScalarFunctionArgs {
                args: vec![ColumnarValue::Scalar(ScalarValue::from(unit)), ColumnarValue::Array(Arc::clone(&times))],
                arg_fields: vec![
                    Arc::new(Field::new("unit", DataType::Utf8, false)),
                    Arc::new(Field::new("time", TIME, true)),
                ],
                number_rows: times.len(),
                return_field: Arc::new(Field::new("truncated", TIME, true)),
                config_options: Arc::default(),
            };
            let (ours, theirs) = (DateTrunc::new(), DateTruncFunc::new());
            let array = |value: EngineResult<ColumnarValue>| value.unwrap().into_array(times.len()).unwrap();
            assert_eq!(&array(ours.invoke_with_args(args())), &array(theirs.invoke_with_args(args())), "{unit}");
        }
    }
}
