//! Scalar functions that replace or extend those of DataFusion.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int32Array, TimestampMicrosecondArray};
use datafusion::arrow::compute::kernels::length::length;
use datafusion::arrow::compute::kernels::numeric::{add, div, mul, sub};
use datafusion::arrow::compute::{binary, cast, max};
use datafusion::arrow::datatypes::{
    DataType, DurationMicrosecondType, Field, FieldRef, Float64Type, Int32Type, IntervalMonthDayNano,
    IntervalMonthDayNanoType, IntervalUnit, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{ScalarValue, exec_err, internal_err};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TypeSignature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;

use super::times::TIME;

/// The sum, difference or product of integers; an overflow is an error.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct CheckedArithmetic {
    operator: Operator,
    signature: Signature,
}

impl CheckedArithmetic {
    pub(super) fn udf(operator: Operator) -> ScalarUDF {
        let signature = Signature::exact(vec![DataType::Int64; 2], Volatility::Immutable);
        Self { operator, signature }.into()
    }
}

impl ScalarUDFImpl for CheckedArithmetic {
    fn name(&self) -> &str {
        match self.operator {
            Operator::Plus => "checked_add",
            Operator::Minus => "checked_subtract",
            _ => "checked_multiply",
        }
    }

    /// The name of the operator's expression, so that the names of columns do not change.
    fn schema_name(&self, args: &[Expr]) -> EngineResult<String> {
        let [left, right] = args else { return internal_err!("{} has two arguments", self.name()) };
        Ok(format!("{} {} {}", left.schema_name(), self.operator, right.schema_name()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let [left, right] = args.args.as_slice() else { return internal_err!("{} has two arguments", self.name()) };
        match self.operator {
            Operator::Plus => apply(left, right, add),
            Operator::Minus => apply(left, right, sub),
            _ => apply(left, right, mul),
        }
    }
}

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

type Invoke = fn(&Extended, ScalarFunctionArgs) -> EngineResult<ColumnarValue>;

/// A function of DataFusion with other arguments, results or bounds.
#[derive(Debug)]
pub(super) struct Extended {
    inner: Arc<ScalarUDF>,
    signature: Signature,
    invoke: Invoke,
    pool: Arc<dyn MemoryPool>,
}

impl PartialEq for Extended {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Extended {}

impl Hash for Extended {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

/// Registers the extended functions in place of those of the same names.
pub(super) fn register(session: &mut SessionState) -> EngineResult<()> {
    for (name, more, invoke) in [
        ("date_trunc", None, date_of_any_year as Invoke),
        ("date_bin", Some(TypeSignature::Exact(vec![INTERVAL, TIME, TIME])), date_of_any_year),
        ("to_char", None, strftime),
        ("date_part", None, part_of_time),
        ("octet_length", Some(TypeSignature::Exact(vec![DataType::BinaryView])), octet_length),
        ("repeat", None, bounded),
        ("replace", None, bounded),
        ("lpad", None, bounded),
        ("rpad", None, bounded),
        ("range", None, range),
        ("generate_series", None, range),
        ("array_repeat", None, bounded),
        ("array_resize", None, bounded),
        ("levenshtein", None, pairwise),
        ("array_has_all", None, pairwise),
        ("array_has_any", None, pairwise),
    ] {
        let inner = session.udf(name)?;
        let signatures = more.into_iter().chain([inner.signature().type_signature.clone()]).collect();
        let signature = Signature::one_of(signatures, Volatility::Immutable);
        let pool = Arc::clone(&session.runtime_env().memory_pool);
        session.register_udf(Arc::new(Extended { inner, signature, invoke, pool }.into()))?;
    }
    Ok(())
}

impl ScalarUDFImpl for Extended {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> EngineResult<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> EngineResult<FieldRef> {
        match args.arg_fields {
            [bytes] if *bytes.data_type() == DataType::BinaryView => {
                Ok(Arc::new(Field::new(self.name(), DataType::Int32, bytes.is_nullable())))
            }
            _ => self.inner.return_field_from_args(args),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        (self.invoke)(self, args)
    }

    fn preimage(&self, args: &[Expr], value: &Expr, context: &SimplifyContext) -> EngineResult<PreimageResult> {
        self.inner.preimage(args, value, context)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> EngineResult<SortProperties> {
        self.inner.output_ordering(inputs)
    }
}

fn octet_length(strings: &Extended, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
    match args.args.as_slice() {
        [bytes] if bytes.data_type() == DataType::BinaryView => {
            let bytes = bytes.to_array(args.number_rows)?;
            let lengths = bytes.as_binary_view().iter().map(|bytes| bytes.map(|bytes| bytes.len() as i32));
            Ok(ColumnarValue::Array(Arc::new(lengths.collect::<Int32Array>())))
        }
        _ => strings.inner.invoke_with_args(args),
    }
}

/// The seconds of a duration with their fraction, which DataFusion truncates, and the hour of a time, for which Arrow
/// converts each time to a date.
fn part_of_time(part: &Extended, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
    let [ColumnarValue::Scalar(name), times] = args.args.as_slice() else { return part.inner.invoke_with_args(args) };
    let is = |part: &str| name.try_as_str().flatten().is_some_and(|name| name.eq_ignore_ascii_case(part));
    let parts: ArrayRef = match times.data_type() {
        DataType::Duration(_) if is("epoch") => {
            let micros = cast(&times.to_array(args.number_rows)?, &DataType::Duration(TimeUnit::Microsecond))?;
            let micros = micros.as_primitive::<DurationMicrosecondType>();
            Arc::new(micros.unary::<_, Float64Type>(|micros| micros as f64 / 1e6))
        }
        time if time == TIME && is("hour") => {
            let times = times.to_array(args.number_rows)?;
            let hour = |micros: i64| (micros.rem_euclid(DAY_MICROS) / HOUR_MICROS) as i32;
            Arc::new(times.as_primitive::<TimestampMicrosecondType>().unary::<_, Int32Type>(hour))
        }
        _ => return part.inner.invoke_with_args(args),
    };
    Ok(ColumnarValue::Array(parts))
}

/// The maximum size of the results of a function for a batch, in bytes, and the maximum number of its comparisons. They
/// are computed at once, so that the end of the reader does not stop them.
const MAX_RESULT: f64 = (1_u64 << 30) as f64;

/// Refuses results that are a multiple of their arguments, if they are too large. Memory is reserved while the others are
/// computed.
fn bounded(function: &Extended, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
    let bytes = result_bytes(function.name(), &args)?;
    if bytes > MAX_RESULT {
        return exec_err!("the results of {} for {} rows exceed 1 GiB", function.name(), args.number_rows);
    }
    // The size is limited by the share of an operator that spills, so that such operators can have the whole pool.
    let reservation = MemoryConsumer::new(function.name()).with_can_spill(true).register(&function.pool);
    reservation.try_grow(bytes as usize)?;
    function.inner.invoke_with_args(args)
}

/// A range, which DataFusion computes in nanoseconds if it is of times.
fn range(function: &Extended, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
    if !matches!(args.args.first().map(ColumnarValue::data_type), Some(DataType::Timestamp(..))) {
        return bounded(function, args);
    }
    let nulls = args.args.iter().map(|arg| Ok(arg.to_array(args.number_rows)?.null_count()));
    let nulls = nulls.sum::<EngineResult<usize>>()?;
    let result = bounded(function, args)?;
    check_nulls(function.name(), nulls, &result)?;
    Ok(result)
}

/// Refuses comparisons of each element of one argument with each of the other, if they are too many.
fn pairwise(function: &Extended, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
    if let [left, right] = args.args.as_slice() {
        let [left, right] = [left, right].map(|arg| lengths(&arg.to_array(args.number_rows)?));
        if sum(&mul(&left?, &right?)?) > MAX_RESULT {
            return exec_err!("{} of {} rows exceeds 2^30 comparisons", function.name(), args.number_rows);
        }
    }
    function.inner.invoke_with_args(args)
}

/// The estimated size of the results for a batch, in bytes.
fn result_bytes(function: &str, args: &ScalarFunctionArgs) -> EngineResult<f64> {
    let array = |at: usize| args.args[at].to_array(args.number_rows);
    let number = |at: usize| number(&array(at)?);
    let bytes = |at: usize| Ok::<_, DataFusionError>(array(at)?.get_array_memory_size() as f64);
    let rows = args.number_rows.max(1) as f64;
    let (elements, element_bytes) = match (function, args.args.len()) {
        ("repeat", 2) => (mul(&lengths(&array(0)?)?, &number(1)?)?, 1.0),
        ("replace", 3) => return replaced_bytes(&array(0)?, &array(1)?, &array(2)?),
        ("lpad" | "rpad", 2) => (number(1)?, 1.0),
        // The characters of the third argument.
        ("lpad" | "rpad", 3) => (number(1)?, 4.0),
        ("array_repeat", 2) => (number(1)?, bytes(0)? / rows),
        ("array_resize", 3) => (number(1)?, bytes(2)? / rows),
        ("array_resize", 2) => (number(1)?, 8.0),
        (_, 1) => (number(0)?, 8.0),
        (_, 2) => (sub(&number(1)?, &number(0)?)?, 8.0),
        (_, 3) => (div(&sub(&number(1)?, &number(0)?)?, &number(2)?)?, 8.0),
        _ => return Ok(0.0),
    };
    Ok(element_bytes * sum(&elements))
}

fn replaced_bytes(texts: &ArrayRef, from: &ArrayRef, to: &ArrayRef) -> EngineResult<f64> {
    let [texts, from, to] = [texts, from, to].map(|texts| cast(texts, &DataType::Utf8View));
    let (texts, from, to) = (texts?, from?, to?);
    let rows = texts.as_string_view().iter().zip(from.as_string_view()).zip(to.as_string_view());
    let bytes = rows.map(|((text, from), to)| {
        let matches = text?.matches(from?).count();
        Some(text?.len() as f64 + matches as f64 * to?.len() as f64)
    });
    Ok(bytes.flatten().sum())
}

fn lengths(values: &ArrayRef) -> EngineResult<ArrayRef> {
    Ok(cast(&length(values)?, &DataType::Float64)?)
}

/// Numbers, and times and intervals in microseconds, as floating-point numbers.
fn number(values: &ArrayRef) -> EngineResult<ArrayRef> {
    Ok(match values.data_type() {
        data_type if *data_type == INTERVAL => {
            let micros = |interval: IntervalMonthDayNano| {
                let days = 30.0 * f64::from(interval.months) + f64::from(interval.days);
                days * DAY_MICROS as f64 + interval.nanoseconds as f64 / 1e3
            };
            Arc::new(values.as_primitive::<IntervalMonthDayNanoType>().unary::<_, Float64Type>(micros))
        }
        DataType::Date32 | DataType::Timestamp(..) => {
            cast(&cast(&cast(values, &TIME)?, &DataType::Int64)?, &DataType::Float64)?
        }
        _ => cast(values, &DataType::Float64)?,
    })
}

/// The sum of the positive numbers. A range with a step of 0 is an error of the function.
fn sum(numbers: &ArrayRef) -> f64 {
    let numbers = numbers.as_primitive::<Float64Type>().iter().flatten();
    numbers.filter(|number| *number > 0.0 && number.is_finite()).sum()
}

const HOUR_MICROS: i64 = 3_600_000_000;
const DAY_MICROS: i64 = 24 * HOUR_MICROS;
/// The calendar repeats after 400 years, also in its days of the week.
const CALENDAR_MICROS: i64 = 146_097 * DAY_MICROS;
/// 2262-01-01. Nanoseconds overflow in that year.
const LATE: i64 = 9_214_646_400_000_000;

/// Truncates times. DataFusion computes in nanoseconds, so late times are moved by a period of the function, if it has
/// one. Other times that nanoseconds do not represent are errors.
fn date_of_any_year(function: &Extended, mut args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
    let (truncate, rows) = (&function.inner, args.number_rows);
    let period = period(truncate.name(), &args.args).unwrap_or(0);
    if let [_, _, origin] = args.args.as_mut_slice() {
        *origin = in_nanoseconds(origin, period)?;
    }
    let [unit, times, ..] = args.args.as_mut_slice() else { return truncate.invoke_with_args(args) };
    if times.data_type() != TIME || matches!(unit, ColumnarValue::Scalar(unit) if unit.is_null()) {
        return truncate.invoke_with_args(args);
    }
    let all = times.to_array(rows)?;
    let all = all.as_primitive::<TimestampMicrosecondType>();
    let has_late = max(all).is_some_and(|last| last >= LATE);
    let moved = |time: i64| if time < LATE { 0 } else { period };
    if has_late {
        *times = ColumnarValue::Array(Arc::new(all.unary::<_, TimestampMicrosecondType>(|time| time - moved(time))));
    }
    let mut result = truncate.invoke_with_args(args)?;
    if has_late {
        let truncated = result.to_array(rows)?;
        let truncated = truncated.as_primitive::<TimestampMicrosecondType>();
        let back: TimestampMicrosecondArray = binary(truncated, all, |truncated, time| truncated + moved(time))?;
        result = ColumnarValue::Array(Arc::new(back) as ArrayRef);
    }
    check_nulls(truncate.name(), all.null_count(), &result)?;
    Ok(result)
}

/// The origin of `date_bin`, which may be moved by a period.
fn in_nanoseconds(origin: &ColumnarValue, period: i64) -> EngineResult<ColumnarValue> {
    let ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(Some(micros), None)) = origin else {
        return Ok(origin.clone());
    };
    let micros = if *micros < LATE { *micros } else { micros - period };
    match micros.checked_mul(1000) {
        Some(nanos) => Ok(ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(Some(nanos), None))),
        None => exec_err!("the origin of date_bin is out of range"),
    }
}

/// Refuses results that are NULL because nanoseconds do not represent a time.
fn check_nulls(function: &str, nulls: usize, result: &ColumnarValue) -> EngineResult<()> {
    let after = match result {
        ColumnarValue::Array(results) => results.null_count(),
        ColumnarValue::Scalar(result) => usize::from(result.is_null()),
    };
    if after > nulls {
        return exec_err!("a time is out of range for {function}");
    }
    Ok(())
}

/// Refuses patterns that are not those of `strftime`, which DataFusion would return as they are.
fn strftime(function: &Extended, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
    if let [_, ColumnarValue::Scalar(pattern)] = args.args.as_slice()
        && let Some(pattern) = pattern.try_as_str().flatten().filter(|pattern| !pattern.contains('%'))
    {
        return exec_err!("the pattern {pattern:?} of to_char has no field, such as those of '%Y-%m-%d %H:%M:%S'");
    }
    function.inner.invoke_with_args(args)
}

/// A period of a truncation in microseconds, of at least 300 years.
fn period(function: &str, args: &[ColumnarValue]) -> Option<i64> {
    if function == "date_trunc" {
        return Some(CALENDAR_MICROS);
    }
    let ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(Some(stride))) = args.first()? else { return None };
    let IntervalMonthDayNano { months, days, nanoseconds } = *stride;
    if months != 0 {
        return (4800 % months == 0).then_some(CALENDAR_MICROS);
    }
    let micros = (nanoseconds % 1000 == 0).then(|| i64::from(days) * DAY_MICROS + nanoseconds / 1000)?;
    (micros > 0).then(|| (300 * 366 * DAY_MICROS / micros + 1) * micros)
}
